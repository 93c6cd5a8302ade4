//! What a chunk of a stream costs in the dialects alone: nanoseconds, allocations and allocated bytes, from a provider's event to
//! the client's. The results are a table on stdout.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use orbyt::dialect::client::Client;
use orbyt::dialect::event::End;
use orbyt::dialect::openai_chat::passthrough::Quirks;
use orbyt::dialect::table::{Dialect, Setup, Translator};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The system's allocator, counted.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(size as u64, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CHUNKS: u64 = 200_000;
const ROUNDS: usize = 5;

/// A provider's stream: what comes first, the chunk that is measured, and what ends it.
struct Sample {
    name: String,
    client: Client,
    provider: Dialect,
    quirks: Quirks,
    prelude: Vec<u8>,
    chunk: Vec<u8>,
    end: Vec<u8>,
}

const OPENAI_PRELUDE: &str = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1763640000,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

"#;
const OPENAI_CHUNK: &str = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1763640000,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}],"usage":null}

"#;
const OPENAI_END: &str = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1763640000,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: [DONE]

"#;
const ANTHROPIC_PRELUDE: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":4,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

"#;
const ANTHROPIC_CHUNK: &str = r#"event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" token"}}

"#;
const ANTHROPIC_END: &str = r#"event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":9}}

event: message_stop
data: {"type":"message_stop"}

"#;
const RESPONSES_PRELUDE: &str = r#"event: response.created
data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","status":"in_progress","model":"m","output":[]}}

"#;
const RESPONSES_CHUNK: &str = r#"event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":9,"item_id":"msg_1","output_index":0,"content_index":0,"delta":" token","logprobs":[],"obfuscation":"xyzxyz"}

"#;
const RESPONSES_END: &str = r#"event: response.completed
data: {"type":"response.completed","sequence_number":10,"response":{"id":"resp_1","object":"response","status":"completed","model":"m","output":[],"usage":{"input_tokens":1,"output_tokens":1}}}

"#;
const GEMINI_CHUNK: &str = "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \" token\"}],\"role\": \"model\"},\"index\": 0}],\"usageMetadata\": {\"promptTokenCount\": 4,\"totalTokenCount\": 9},\"modelVersion\": \"m\",\"responseId\": \"r1\"}\r\n\r\n";
const GEMINI_END: &str = "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \".\"}],\"role\": \"model\"},\"finishReason\": \"STOP\",\"index\": 0}],\"usageMetadata\": {\"promptTokenCount\": 4,\"candidatesTokenCount\": 5,\"totalTokenCount\": 9},\"modelVersion\": \"m\",\"responseId\": \"r1\"}\r\n\r\n";

const COHERE_PRELUDE: &str = "event: message-start\ndata: {\"id\":\"1b9ab9b4\",\"type\":\"message-start\",\"delta\":{\"message\":{\"role\":\"assistant\",\"content\":[],\"tool_plan\":\"\",\"tool_calls\":[],\"citations\":[]}}}\n\n";
const COHERE_CHUNK: &str = "event: content-delta\ndata: {\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"text\":\" token\"}}}}\n\n";
const COHERE_END: &str = "event: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"COMPLETE\",\"usage\":{\"tokens\":{\"input_tokens\":4,\"output_tokens\":5}}}}\n\ndata: [DONE]\n\n";
const OLLAMA_CHUNK: &str = "{\"model\":\"m\",\"created_at\":\"2026-11-20T12:00:00.000000Z\",\"message\":{\"role\":\"assistant\",\"content\":\" token\"},\"done\":false}\n";
const OLLAMA_END: &str = "{\"model\":\"m\",\"created_at\":\"2026-11-20T12:00:00.000000Z\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":4,\"eval_count\":5}\n";

const TEXT_CHUNK: &str = r#"data: {"id":"cmpl-1","object":"text_completion","created":1763640000,"choices":[{"text":" token","index":0,"logprobs":null,"finish_reason":null}],"model":"m"}

"#;
const TEXT_END: &str = r#"data: {"id":"cmpl-1","object":"text_completion","created":1763640000,"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}],"model":"m"}

data: [DONE]

"#;

/// A message of Amazon's event stream.
fn message(kind: &'static str, data: &'static str) -> Vec<u8> {
    let headers = [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
    let message = headers.into_iter().fold(Message::new(data), |message, (name, value)| {
        message.add_header(Header::new(name, HeaderValue::String(value.into())))
    });
    let mut bytes = Vec::new();
    // It fails for headers that are too long, and these are not.
    let _ = write_message_to(&message, &mut bytes);
    bytes
}

const CLIENTS: [(Client, &str); 5] = [
    (Client::OpenAiChat, "chat"),
    (Client::OpenAiResponses, "responses"),
    (Client::AnthropicMessages, "messages"),
    (Client::Gemini, "gemini"),
    (Client::OpenAiCompletions, "completions"),
];

/// The providers' streams: name, format, and what they begin with, say and end with.
fn streams() -> [(&'static str, Dialect, [Vec<u8>; 3]); 6] {
    let texts = |texts: [&str; 3]| texts.map(|text| text.as_bytes().to_vec());
    let bedrock = [
        message("messageStart", r#"{"role":"assistant","p":"abcd"}"#),
        message("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":" token"},"p":"abcdefgh"}"#),
        [
            message("contentBlockStop", r#"{"contentBlockIndex":0}"#),
            message("messageStop", r#"{"stopReason":"end_turn"}"#),
            message(
                "metadata",
                r#"{"metrics":{"latencyMs":1},"usage":{"inputTokens":4,"outputTokens":5,"totalTokens":9}}"#,
            ),
        ]
        .concat(),
    ];
    [
        ("OpenAI", Dialect::OpenAiChat, texts([OPENAI_PRELUDE, OPENAI_CHUNK, OPENAI_END])),
        ("Anthropic", Dialect::AnthropicMessages, texts([ANTHROPIC_PRELUDE, ANTHROPIC_CHUNK, ANTHROPIC_END])),
        ("Gemini", Dialect::Gemini, texts([GEMINI_CHUNK, GEMINI_CHUNK, GEMINI_END])),
        ("Cohere", Dialect::Cohere, texts([COHERE_PRELUDE, COHERE_CHUNK, COHERE_END])),
        ("Ollama", Dialect::Ollama, texts([OLLAMA_CHUNK, OLLAMA_CHUNK, OLLAMA_END])),
        ("Bedrock", Dialect::BedrockConverse, bedrock),
    ]
}

/// Every client's format from every provider's, and what of OpenAI's passes in other ways.
fn samples() -> Vec<Sample> {
    let sample = |name: String, client, provider, quirks, [prelude, chunk, end]: [Vec<u8>; 3]| Sample {
        name,
        client,
        provider,
        quirks,
        prelude,
        chunk,
        end,
    };
    let mut samples = Vec::new();
    for (from, provider, stream) in streams() {
        for (client, to) in CLIENTS {
            samples.push(sample(format!("{from} to {to}"), client, provider, Quirks::NONE, stream.clone()));
        }
    }
    let texts = |texts: [&str; 3]| texts.map(|text| text.as_bytes().to_vec());
    for (name, client, quirks, stream) in [
        (
            "OpenAI-compatible to chat, all quirks looked for",
            Client::OpenAiChat,
            Quirks::ALL_TOLERANT,
            [OPENAI_PRELUDE, OPENAI_CHUNK, OPENAI_END],
        ),
        (
            "OpenAI's Responses, passed through",
            Client::OpenAiResponses,
            Quirks::RESPONSES,
            [RESPONSES_PRELUDE, RESPONSES_CHUNK, RESPONSES_END],
        ),
        (
            "OpenAI's text completions, passed through",
            Client::OpenAiCompletions,
            Quirks::COMPLETIONS,
            [TEXT_CHUNK, TEXT_CHUNK, TEXT_END],
        ),
    ] {
        samples.push(sample(name.to_owned(), client, Dialect::OpenAiChat, quirks, texts(stream)));
    }
    samples
}

fn main() -> Result<(), String> {
    println!("| a text chunk | ns | allocations | bytes allocated |\n|---|--:|--:|--:|");
    for sample in &samples() {
        let mut best = f64::MAX;
        let mut counted = (0.0, 0.0);
        for _ in 0..ROUNDS {
            let (nanos, allocations, bytes) = measure(sample)?;
            best = best.min(nanos);
            counted = (allocations, bytes);
        }
        println!("| {} | {best:.0} | {:.3} | {:.1} |", sample.name, counted.0, counted.1);
    }
    Ok(())
}

/// One stream of many chunks; returns nanoseconds, allocations and allocated bytes a chunk.
fn measure(sample: &Sample) -> Result<(f64, f64, f64), String> {
    let mut translator = Translator::new(Setup {
        client: sample.client,
        provider: sample.provider,
        stream: true,
        array: false,
        choices: 1,
        include_usage: true,
        exclude_reasoning: false,
        input_tokens: 0,
        id: "chatcmpl-bench".into(),
        created: 1_763_640_000,
        model: "bench".into(),
        answer_tool: None,
        quirks: sample.quirks,
        asked: None,
    });
    let mut out = Vec::with_capacity(64 * 1024);
    let failed = |fault| format!("{}: {fault:?}", sample.name);
    translator.push(&sample.prelude, &mut out).map_err(failed)?;
    let (allocations, bytes) = (ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    let begun = Instant::now();
    for _ in 0..CHUNKS {
        out.clear();
        translator.push(black_box(&sample.chunk[..]), &mut out).map_err(failed)?;
        black_box(&out);
    }
    let took = begun.elapsed();
    let each = |total: u64| total as f64 / CHUNKS as f64;
    let counted =
        (each(ALLOCATIONS.load(Ordering::Relaxed) - allocations), each(BYTES.load(Ordering::Relaxed) - bytes));
    if !out.windows(6).any(|bytes| bytes == b" token") {
        return Err(format!("{}: the chunk came to nothing", sample.name));
    }
    translator.push(&sample.end, &mut out).map_err(failed)?;
    translator.finish(End::Clean, &mut out).map_err(failed)?;
    Ok((took.as_nanos() as f64 / CHUNKS as f64, counted.0, counted.1))
}
