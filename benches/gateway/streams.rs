//! The streams of the mock provider: one of each format, each of [`EVENTS`] events that say the same.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use serde_json::{Value, json};

/// How many events a stream has.
pub const EVENTS: usize = 68;

/// A format in which a provider streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Chat,
    Text,
    Responses,
    Anthropic,
    Gemini,
    Cohere,
    Ollama,
    Bedrock,
}

impl Format {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 8] = [
        Self::Chat,
        Self::Text,
        Self::Responses,
        Self::Anthropic,
        Self::Gemini,
        Self::Cohere,
        Self::Ollama,
        Self::Bedrock,
    ];

    /// The path by which a provider is asked for it.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Text => "/v1/completions",
            Self::Responses => "/v1/responses",
            Self::Anthropic => "/v1/messages",
            Self::Gemini => "/v1beta/models/bench:streamGenerateContent?alt=sse",
            Self::Cohere => "/v2/chat",
            Self::Ollama => "/api/chat",
            Self::Bedrock => "/model/bench/converse-stream",
        }
    }

    /// The format of a request's first line.
    pub fn of(line: &[u8]) -> Self {
        let has = |needle: &[u8]| memchr::memmem::find(line, needle).is_some();
        match () {
            () if has(b"/chat/completions") => Self::Chat,
            () if has(b"/completions") => Self::Text,
            () if has(b"/responses") => Self::Responses,
            () if has(b"/messages") => Self::Anthropic,
            () if has(b"GenerateContent") => Self::Gemini,
            () if has(b"/v2/chat") => Self::Cohere,
            () if has(b"/api/chat") => Self::Ollama,
            () if has(b"/converse") => Self::Bedrock,
            () => Self::Chat,
        }
    }

    /// Whether the path alone says that a stream is wanted.
    pub fn always_streams(line: &[u8]) -> bool {
        memchr::memmem::find(line, b"stream").is_some()
    }

    /// The media type of its streams.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Ollama => "application/x-ndjson",
            Self::Bedrock => "application/vnd.amazon.eventstream",
            _ => "text/event-stream",
        }
    }

    /// The events.
    pub fn events(self) -> Vec<Vec<u8>> {
        let texts = |events: Vec<String>| events.into_iter().map(String::into_bytes).collect();
        match self {
            Self::Chat => texts(openai_events()),
            Self::Text => texts(text_events()),
            Self::Responses => texts(responses_events()),
            Self::Anthropic => texts(anthropic_events()),
            Self::Gemini => texts(gemini_events()),
            Self::Cohere => texts(cohere_events()),
            Self::Ollama => texts(ollama_events()),
            Self::Bedrock => bedrock_events(),
        }
    }
}

/// What stands before the pieces of text, so many of them that all are [`EVENTS`], and what stands behind.
fn around<T: Clone>(before: Vec<T>, piece: &T, after: Vec<T>) -> Vec<T> {
    let mut events = before;
    let pieces = EVENTS - events.len() - after.len();
    events.extend(std::iter::repeat_n(piece.clone(), pieces));
    events.extend(after);
    events
}

fn named(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// A role, 64 pieces of text, the finish, the usage, and `[DONE]`.
fn openai_events() -> Vec<String> {
    let event = |delta: &str, finish: &str| {
        format!(
            r#"data: {{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1763640000,"model":"bench","system_fingerprint":"fp_bench","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}],"usage":null}}"#
        ) + "\n\n"
    };
    let mut events = vec![event(r#"{"role":"assistant","content":""}"#, "null")];
    events.extend((0..EVENTS - 4).map(|_| event(r#"{"content":" token"}"#, "null")));
    events.push(event("{}", "\"stop\""));
    events.push(
        concat!(
            r#"data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1763640000,"model":"bench","choices":[],"#,
            r#""usage":{"prompt_tokens":40,"completion_tokens":64,"total_tokens":104}}"#,
            "\n\n"
        )
        .to_owned(),
    );
    events.push("data: [DONE]\n\n".to_owned());
    events
}

/// `message_start`, a block begun, 62 pieces of text, a ping, and the three events that end it.
fn anthropic_events() -> Vec<String> {
    let event = |name: &str, data: &str| format!("event: {name}\ndata: {data}\n\n");
    let start = r#"{"type":"message_start","message":{"id":"msg_bench","type":"message","role":"assistant","model":"bench","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":40,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1}}}"#;
    let begin = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    let piece = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" token"}}"#;
    let finish = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":62}}"#;
    let mut events =
        vec![event("message_start", start), event("content_block_start", begin), event("ping", r#"{"type":"ping"}"#)];
    events.extend((0..EVENTS - 6).map(|_| event("content_block_delta", piece)));
    events.push(event("content_block_stop", r#"{"type":"content_block_stop","index":0}"#));
    events.push(event("message_delta", finish));
    events.push(event("message_stop", r#"{"type":"message_stop"}"#));
    events
}

/// The same as OpenAI's legacy completions stream it.
fn text_events() -> Vec<String> {
    let event = |text: &str, finish: Value, usage: Value| {
        let choice = json!({"text": text, "index": 0, "logprobs": null, "finish_reason": finish});
        let event = json!({"id": "cmpl-bench", "object": "text_completion", "created": 1_763_640_000, "choices": [choice],
            "model": "bench", "usage": usage});
        format!("data: {event}\n\n")
    };
    let usage = json!({"prompt_tokens": 40, "completion_tokens": 66, "total_tokens": 106});
    let end = vec![event("", json!("stop"), usage), "data: [DONE]\n\n".to_owned()];
    around(Vec::new(), &event(" token", Value::Null, Value::Null), end)
}

/// A response begun, its only item, the pieces of text, and the five events that end it.
fn responses_events() -> Vec<String> {
    let mut number = 0;
    let mut event = |kind: &str, mut members: Value| {
        members["type"] = kind.into();
        members["sequence_number"] = number.into();
        number += 1;
        named(kind, &members)
    };
    let response = |status: &str, output: Value, usage: Value| {
        json!({"response": {"id": "resp_bench", "object": "response", "created_at": 1_763_640_000, "status": status,
            "error": null, "incomplete_details": null, "model": "bench", "output": output, "parallel_tool_calls": true,
            "tool_choice": "auto", "tools": [], "usage": usage}})
    };
    let at = |members: Value| {
        let mut at = json!({"item_id": "msg_bench", "output_index": 0, "content_index": 0});
        if let (Value::Object(at), Value::Object(members)) = (&mut at, members) {
            at.extend(members);
        }
        at
    };
    let item = |status: &str, content: Value| {
        json!({"output_index": 0, "item": {"id": "msg_bench", "type": "message", "status": status, "role": "assistant",
            "content": content}})
    };
    const AROUND: usize = 8;
    let text = " token".repeat(EVENTS - AROUND);
    let part = |text: &str| json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text});
    let mut events = vec![
        event("response.created", response("in_progress", json!([]), Value::Null)),
        event("response.in_progress", response("in_progress", json!([]), Value::Null)),
        event("response.output_item.added", item("in_progress", json!([]))),
        event("response.content_part.added", at(json!({"part": part("")}))),
    ];
    for _ in AROUND..EVENTS {
        let delta = json!({"delta": " token", "logprobs": [], "obfuscation": "abcdefghij"});
        events.push(event("response.output_text.delta", at(delta)));
    }
    let usage = json!({"input_tokens": 40, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 60,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 100});
    let whole = item("completed", json!([part(&text)]));
    let output = json!([whole["item"]]);
    events.push(event("response.output_text.done", at(json!({"text": text, "logprobs": []}))));
    events.push(event("response.content_part.done", at(json!({"part": part(&text)}))));
    events.push(event("response.output_item.done", whole));
    events.push(event("response.completed", response("completed", output, usage)));
    events
}

/// Answers with a piece of text each, with Google's white space; the last has the finish.
fn gemini_events() -> Vec<String> {
    let event = |end: &str, usage: &str| {
        format!(
            "data: {{\"candidates\": [{{\"content\": {{\"parts\": [{{\"text\": \" token\"}}],\"role\": \"model\"}},{end}\"index\": 0}}],\"usageMetadata\": {{\"promptTokenCount\": 40,{usage}\"totalTokenCount\": 108,\"promptTokensDetails\": [{{\"modality\": \"TEXT\",\"tokenCount\": 40}}]}},\"modelVersion\": \"bench\",\"responseId\": \"bench\"}}\r\n\r\n"
        )
    };
    let last = event("\"finishReason\": \"STOP\",", "\"candidatesTokenCount\": 68,");
    around(Vec::new(), &event("", ""), vec![last])
}

/// A message begun, its only content, the pieces of text, and what ends them.
fn cohere_events() -> Vec<String> {
    let event = |kind: &str, members: Value| {
        let mut event = json!({"type": kind});
        if let (Value::Object(event), Value::Object(members)) = (&mut event, members) {
            event.extend(members);
        }
        named(kind, &event)
    };
    let message = json!({"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []});
    let usage = json!({"billed_units": {"input_tokens": 40, "output_tokens": 63}, "tokens": {"input_tokens": 40, "output_tokens": 63}});
    let begin = json!({"index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}});
    around(
        vec![
            event("message-start", json!({"id": "bench", "delta": {"message": message}})),
            event("content-start", begin),
        ],
        &event("content-delta", json!({"index": 0, "delta": {"message": {"content": {"text": " token"}}}})),
        vec![
            event("content-end", json!({"index": 0})),
            event("message-end", json!({"delta": {"finish_reason": "COMPLETE", "usage": usage}})),
            "data: [DONE]\n\n".to_owned(),
        ],
    )
}

/// A line for each piece of text, and one that ends them.
fn ollama_events() -> Vec<String> {
    let line = |text: &str, end: &str| {
        format!(
            r#"{{"model":"bench","created_at":"2025-11-20T12:00:00.000000000Z","message":{{"role":"assistant","content":"{text}"}},{end}}}"#
        ) + "\n"
    };
    let counts = r#""done":true,"done_reason":"stop","total_duration":1,"load_duration":1,"prompt_eval_count":40,"prompt_eval_duration":1,"eval_count":67,"eval_duration":1"#;
    around(Vec::new(), &line(" token", r#""done":false"#), vec![line("", counts)])
}

/// A message begun, the pieces of text, and what ends them, each framed with its checksums.
fn bedrock_events() -> Vec<Vec<u8>> {
    let event = |kind: &'static str, data: Value| {
        let headers = [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
        let message = headers.into_iter().fold(Message::new(data.to_string()), |message, (name, value)| {
            message.add_header(Header::new(name, HeaderValue::String(value.into())))
        });
        let mut bytes = Vec::new();
        // It fails for headers that are too long, and these are not.
        let _ = write_message_to(&message, &mut bytes);
        bytes
    };
    let usage = json!({"inputTokens": 40, "outputTokens": 64, "totalTokens": 104});
    around(
        vec![event("messageStart", json!({"role": "assistant", "p": "abcdefgh"}))],
        &event("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": " token"}, "p": "abcdefghijkl"})),
        vec![
            event("contentBlockStop", json!({"contentBlockIndex": 0, "p": "abc"})),
            event("messageStop", json!({"stopReason": "end_turn", "p": "abcdef"})),
            event("metadata", json!({"metrics": {"latencyMs": 1}, "usage": usage, "p": "ab"})),
        ],
    )
}
