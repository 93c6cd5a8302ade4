//! What providers send: each quirk in words of our own, and what is in it; and how each says that it has failed.

use orbyt::dialect::table::Dialect;
use orbyt::domain::FaultKind;
use serde_json::{Value, json};

/// An answer of a provider, and what is in it.
pub struct Quirk {
    pub name: &'static str,
    pub provider: Dialect,
    pub stream: bool,
    pub body: String,
    pub text: &'static str,
    pub thoughts: &'static str,
    pub calls: Vec<(&'static str, Value)>,
    pub finish: &'static str,
    /// Output tokens, where they are counted.
    pub tokens: Option<u64>,
}

impl Quirk {
    fn of(name: &'static str, provider: Dialect, body: String) -> Self {
        Self {
            name,
            provider,
            stream: true,
            body,
            text: "Hi é😀",
            thoughts: "",
            calls: Vec::new(),
            finish: "stop",
            tokens: Some(5),
        }
    }

    fn whole(self) -> Self {
        Self { stream: false, ..self }
    }

    fn thinks(self, thoughts: &'static str) -> Self {
        Self { thoughts, ..self }
    }

    fn calls(self, calls: Vec<(&'static str, Value)>) -> Self {
        Self { calls, text: "", finish: "tool_calls", ..self }
    }

    fn ends(self, finish: &'static str) -> Self {
        Self { finish, ..self }
    }

    fn counts(self, tokens: Option<u64>) -> Self {
        Self { tokens, ..self }
    }
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn chunk(delta: Value, finish: Value) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
           "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

fn with(mut value: Value, name: &str, member: Value) -> Value {
    value[name] = member;
    value
}

fn usage(completion: u64) -> Value {
    json!({"prompt_tokens": 3, "completion_tokens": completion, "total_tokens": 3 + completion})
}

fn stream(chunks: &[Value]) -> String {
    chunks.iter().map(data).collect::<String>() + "data: [DONE]\n\n"
}

/// `Hi é😀` in two pieces.
fn hello() -> [Value; 2] {
    [chunk(json!({"role": "assistant", "content": "Hi "}), Value::Null), chunk(json!({"content": "é😀"}), Value::Null)]
}

fn counted(completion: u64) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage(completion)})
}

fn greeting(end: &[Value]) -> String {
    stream(&[&hello()[..], end].concat())
}

fn stop() -> Value {
    chunk(json!({}), json!("stop"))
}

fn whole(message: Value, finish: &str) -> Value {
    json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "usage": usage(5),
           "choices": [{"index": 0, "message": message, "finish_reason": finish}]})
}

/// OpenAI's format, and what is called compatible with it.
fn of_chat() -> Vec<Quirk> {
    let quirk = |name, body| Quirk::of(name, Dialect::OpenAiChat, body);
    let plain = || greeting(&[stop(), counted(5)]);
    vec![
        quirk("OpenRouter: comments", format!(": OPENROUTER PROCESSING\n\n{}", plain().replace("\n\ndata", "\n\n: OPENROUTER PROCESSING\n\ndata"))),
        quirk("OpenRouter: padding", format!("\n         \n\n\n   {}\n", whole(json!({"role": "assistant", "content": "Hi é😀"}), "stop"))).whole(),
        quirk("xAI: keepalives", format!(": keepalive\n\n{}: keepalive\n\n", plain())),
        quirk("xAI: usage in the last chunk", greeting(&[with(stop(), "usage", usage(5))])),
        quirk("xAI: usage behind it", plain()),
        quirk("a byte order mark", format!("\u{feff}{}", plain())),
        quirk("a byte order mark before a whole answer", format!("\u{feff}{}", whole(json!({"role": "assistant", "content": "Hi é😀"}), "stop"))).whole(),
        quirk("a retry field", format!("retry: 3000\n\n{}", plain())),
        quirk("Perplexity: no end mark", plain().replace("data: [DONE]\n\n", "")),
        quirk("Groq: usage twice", greeting(&[with(with(stop(), "usage", usage(4)), "x_groq", json!({"usage": usage(4)})), counted(5)])),
        quirk("Groq: usage in x_groq alone", greeting(&[with(stop(), "x_groq", json!({"id": "r", "usage": usage(5)}))])),
        quirk("an id and a role in every chunk", stream(&[
            chunk(json!({"role": "assistant", "content": "Hi "}), Value::Null),
            chunk(json!({"role": "assistant", "content": "é😀"}), Value::Null),
            chunk(json!({"role": "assistant", "content": ""}), json!("stop")),
            counted(5),
        ])),
        quirk("a second finish", greeting(&[stop(), chunk(json!({"content": ""}), json!("stop")), counted(5)])),
        quirk("DeepSeek: null beside thoughts", stream(&[
            chunk(json!({"role": "assistant", "content": null, "reasoning_content": "Well"}), Value::Null),
            chunk(json!({"content": null, "reasoning_content": "…"}), Value::Null),
            chunk(json!({"content": "Hi é😀", "reasoning_content": null}), Value::Null),
            with(chunk(json!({"content": "", "reasoning_content": null}), json!("stop")), "usage", usage(5)),
        ])).thinks("Well…"),
        quirk("Mistral: content as a list", stream(&[
            chunk(json!({"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Well…"}]}]}), Value::Null),
            chunk(json!({"content": [{"type": "text", "text": "Hi "}]}), Value::Null),
            chunk(json!({"content": "é😀"}), Value::Null),
            with(stop(), "usage", usage(5)),
        ])).thinks("Well…"),
        quirk("finish reasons in other words", greeting(&[chunk(json!({}), json!("eos")), counted(5)])),
        quirk("out of tokens", greeting(&[chunk(json!({}), json!("length")), counted(5)])).ends("length"),
        quirk("filtered", greeting(&[chunk(json!({}), json!("content_filter")), counted(5)])).ends("content_filter"),
        quirk("no usage at all", greeting(&[stop()])).counts(None),
        quirk("one line feed between events", plain().replace("\n\n", "\n")),
    ]
}

/// Tool calls in that format.
fn of_chat_calls() -> Vec<Quirk> {
    let quirk = |name, body| Quirk::of(name, Dialect::OpenAiChat, body);
    let called = |calls: Value, finish: &str| {
        let of = chunk(json!({"role": "assistant", "tool_calls": calls}), Value::Null);
        stream(&[of, chunk(json!({}), json!(finish)), counted(5)])
    };
    let sunny = || vec![("look", json!({"at": "sky"}))];
    vec![
        quirk("Mistral: calls without an index, all in one chunk", stream(&[
            with(chunk(json!({"content": "", "tool_calls": [
                {"id": "a1", "function": {"name": "look", "arguments": "{\"at\": \"sky\"}"}},
                {"id": "a2", "function": {"name": "look", "arguments": "{\"at\": \"sea\"}"}}]}), json!("tool_calls")), "usage", usage(5)),
        ])).calls(vec![("look", json!({"at": "sky"})), ("look", json!({"at": "sea"}))]),
        quirk("Google's compatible side: no id, no index, stop", called(json!([
            {"function": {"arguments": "{\"at\":\"sky\"}", "name": "look"}, "id": "", "type": "function"}]), "stop")).calls(sunny()),
        quirk("an index of -1", called(json!([{"index": -1, "id": "a1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":\"sky\"}"}}]), "tool_calls")).calls(sunny()),
        quirk("arguments as an object", called(json!([{"index": 0, "id": "a1", "type": "function", "function": {"name": "look", "arguments": {"at": "sky"}}}]), "tool_calls")).calls(sunny()),
        quirk("a call without arguments", called(json!([{"index": 0, "id": "a1", "type": "function", "function": {"name": "look"}}]), "tool_calls")).calls(vec![("look", json!({}))]),
        quirk("identical calls at once", called(json!([
            {"index": 0, "id": "a1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":\"sky\"}"}},
            {"index": 1, "id": "a2", "type": "function", "function": {"name": "look", "arguments": "{\"at\":\"sky\"}"}}]), "tool_calls"))
            .calls([sunny(), sunny()].concat()),
        quirk("calls by turns, cut inside an escape", stream(&[
            chunk(json!({"role": "assistant", "tool_calls": [{"index": 0, "id": "a1", "type": "function", "function": {"name": "look", "arguments": ""}}]}), Value::Null),
            chunk(json!({"tool_calls": [{"index": 1, "id": "a2", "type": "function", "function": {"name": "hear", "arguments": "{\"say\": \"a\\"}}]}), Value::Null),
            chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"at\": \"\\u00"}}]}), Value::Null),
            chunk(json!({"tool_calls": [{"index": 1, "function": {"arguments": "\"}{\"}"}}]}), Value::Null),
            chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": "e9\\\\\"}"}}]}), Value::Null),
            chunk(json!({}), json!("tool_calls")),
            counted(5),
        ])).calls(vec![("look", json!({"at": "é\\"})), ("hear", json!({"say": "a\"}{"}))]),
        quirk("thoughts between calls", stream(&[
            chunk(json!({"role": "assistant", "reasoning_content": "Well"}), Value::Null),
            chunk(json!({"tool_calls": [{"index": 0, "id": "a1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":\"sky\"}"}}]}), Value::Null),
            chunk(json!({"reasoning_content": "…"}), Value::Null),
            chunk(json!({"tool_calls": [{"index": 1, "id": "a2", "type": "function", "function": {"name": "look", "arguments": "{}"}}]}), Value::Null),
            chunk(json!({}), json!("tool_calls")),
            counted(5),
        ])).thinks("Well…").calls(vec![("look", json!({"at": "sky"})), ("look", json!({}))]),
    ]
}

/// Chunks of their own kind.
fn of_chat_makers() -> Vec<Quirk> {
    let quirk = |name, body| Quirk::of(name, Dialect::OpenAiChat, body);
    let mut all = Vec::new();
    // OpenAI itself: null on every chunk but the last, and padding against eavesdroppers.
    let padded = |value: &Value| with(with(value.clone(), "usage", Value::Null), "obfuscation", json!("xYz9"));
    let chunks: Vec<Value> =
        hello().iter().chain(&[stop()]).map(padded).chain([with(counted(5), "obfuscation", json!(""))]).collect();
    all.push(quirk("OpenAI: usage null, obfuscation", stream(&chunks)));
    let hollow = json!({"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]});
    let chunks = [&[hollow][..], &hello(), &[stop(), counted(5)]].concat();
    all.push(quirk("Azure: a first chunk of nothing", stream(&chunks)));
    // Perplexity: counts and citations grow from chunk to chunk, and each repeats the whole message.
    let said = |delta: &str, so_far: &str, finish: Value, count: u64| {
        let mut value = chunk(json!({"role": "assistant", "content": delta}), finish);
        value["choices"][0]["message"] = json!({"role": "assistant", "content": so_far});
        with(with(value, "usage", usage(count)), "citations", json!(["https://example.com/a"]))
    };
    let chunks = [
        said("Hi ", "Hi ", Value::Null, 2),
        said("é😀", "Hi é😀", Value::Null, 4),
        said("", "Hi é😀", json!("stop"), 5),
    ];
    all.push(quirk("Perplexity: counts that grow, delta and message", stream(&chunks)));
    let last = with(said("", "Hi é😀", json!("stop"), 5), "object", json!("chat.completion.done"));
    all.push(quirk(
        "Perplexity: chat.completion.done",
        stream(&[said("Hi ", "Hi ", Value::Null, 2), said("é😀", "Hi é😀", Value::Null, 4), last]),
    ));
    all
}

fn anthropic(events: &[Value]) -> String {
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
}

fn of_anthropic() -> Vec<Quirk> {
    let quirk = |name, events: &[Value]| Quirk::of(name, Dialect::AnthropicMessages, anthropic(events));
    let start = json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 1}}});
    let ping = json!({"type": "ping"});
    let begin =
        |index: u64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let delta = |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let end = |index: u64| json!({"type": "content_block_stop", "index": index});
    let text = |piece: &str| delta(0, json!({"type": "text_delta", "text": piece}));
    let done = |reason: &str, usage: Value| {
        [
            json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": usage}),
            json!({"type": "message_stop"}),
        ]
    };
    let hello = [begin(0, json!({"type": "text", "text": ""})), text("Hi "), ping.clone(), text("é😀"), end(0)];
    let all = |middle: &[Value], last: [Value; 2]| [&[start.clone(), ping.clone()][..], middle, &last].concat();
    vec![
        quirk("Anthropic: pings, no end mark", &all(&hello, done("end_turn", json!({"output_tokens": 5})))),
        quirk(
            "Anthropic: counts told again",
            &all(
                &hello,
                done(
                    "end_turn",
                    json!({"input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 5}),
                ),
            ),
        ),
        quirk("Anthropic: pause_turn", &all(&hello, done("pause_turn", json!({"output_tokens": 5})))),
        quirk(
            "Anthropic: a block nobody knows",
            &all(
                &[
                    &hello[..],
                    &[
                        begin(1, json!({"type": "novelty", "x": 1})),
                        delta(1, json!({"type": "novelty_delta", "x": 2})),
                        end(1),
                    ],
                ]
                .concat(),
                done("end_turn", json!({"output_tokens": 5})),
            ),
        ),
        quirk(
            "Anthropic: thoughts, then calls cut inside an escape",
            &all(
                &[
                    begin(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
                    delta(0, json!({"type": "thinking_delta", "thinking": "Well…"})),
                    delta(0, json!({"type": "signature_delta", "signature": "c2ln"})),
                    end(0),
                    begin(1, json!({"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}})),
                    delta(1, json!({"type": "input_json_delta", "partial_json": ""})),
                    delta(1, json!({"type": "input_json_delta", "partial_json": "{\"at\": \"\\u00"})),
                    delta(1, json!({"type": "input_json_delta", "partial_json": "e9\\"})),
                    delta(1, json!({"type": "input_json_delta", "partial_json": "\\\"}"})),
                    end(1),
                    begin(2, json!({"type": "tool_use", "id": "toolu_2", "name": "look", "input": {}})),
                    end(2),
                ],
                done("tool_use", json!({"output_tokens": 5})),
            ),
        )
        .thinks("Well…")
        .calls(vec![("look", json!({"at": "é\\"})), ("look", json!({}))]),
    ]
}

fn of_gemini() -> Vec<Quirk> {
    let answer = |parts: Value, finish: Value, count: u64| {
        let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
        if !finish.is_null() {
            candidate["finishReason"] = finish;
        }
        json!({"candidates": [candidate], "responseId": "r", "modelVersion": "m",
               "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": count, "totalTokenCount": 3 + count}})
    };
    let pieces = || {
        vec![
            answer(json!([{"text": "Hi "}]), Value::Null, 2),
            answer(json!([{"text": "é😀"}]), Value::Null, 4),
            answer(json!([{"text": ""}]), json!("STOP"), 5),
        ]
    };
    let events = |pieces: &[Value]| pieces.iter().map(data).collect::<String>();
    let quirk = |name, body: String| Quirk::of(name, Dialect::Gemini, body);
    let without = |member: &str| {
        let mut last = answer(json!([]), json!("STOP"), 5);
        let candidate = &mut last["candidates"][0];
        if member == "content" {
            candidate.as_object_mut().unwrap().remove("content");
        } else {
            candidate["content"].as_object_mut().unwrap().remove("parts");
        }
        events(&[&pieces()[..2], &[last]].concat())
    };
    let call = json!({"functionCall": {"name": "look", "args": {"at": "sky"}}, "thoughtSignature": "c2ln"});
    vec![
        quirk("Gemini: counts that grow", events(&pieces())),
        quirk(
            "Gemini: one array",
            format!("[{}]", pieces().iter().map(Value::to_string).collect::<Vec<_>>().join(",\r\n")),
        ),
        quirk("Gemini: a candidate without content", without("content")),
        quirk("Gemini: content without parts", without("parts")),
        quirk(
            "Gemini: a signature on an empty text",
            events(&[
                answer(json!([{"text": "Hi é😀"}]), Value::Null, 4),
                answer(json!([{"text": "", "thoughtSignature": "c2ln"}]), json!("STOP"), 5),
            ]),
        ),
        quirk(
            "Gemini: calls without ids, signed",
            events(&[answer(
                json!([call, {"functionCall": {"name": "look", "args": {"at": "sky"}}}]),
                json!("STOP"),
                5,
            )]),
        )
        .calls(vec![("look", json!({"at": "sky"})), ("look", json!({"at": "sky"}))]),
        quirk(
            "Gemini: MALFORMED_FUNCTION_CALL",
            events(&[
                answer(json!([{"text": "Hi é😀"}]), Value::Null, 4),
                json!({"candidates": [{"index": 0, "finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "Malformed function call"}],
                   "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 5, "totalTokenCount": 8}}),
            ]),
        ),
        quirk("Gemini: filtered", events(&[answer(json!([{"text": "Hi é😀"}]), json!("SAFETY"), 5)]))
            .ends("content_filter"),
    ]
}

fn of_others() -> Vec<Quirk> {
    let cohere = |events: &[Value]| {
        events
            .iter()
            .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()))
            .collect::<String>()
    };
    let text =
        |text: &str| json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": text}}}});
    let begun = json!({"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}});
    let opened =
        json!({"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}});
    let end = json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {
        "billed_units": {"input_tokens": 1, "output_tokens": 2}, "tokens": {"input_tokens": 3, "output_tokens": 5}}}});
    let closed = json!({"type": "content-end", "index": 0});
    let all = cohere(&[begun, opened, text("Hi "), text("é😀"), closed, end]);
    let line = |message: Value, done: bool| {
        let counts =
            if done { json!({"done_reason": "stop", "prompt_eval_count": 3, "eval_count": 5}) } else { json!({}) };
        let mut value = json!({"model": "m", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": done});
        value.as_object_mut().unwrap().extend(counts.as_object().unwrap().clone());
        format!("{value}\n")
    };
    let said = |content: &str| json!({"role": "assistant", "content": content});
    vec![
        Quirk::of("Cohere: billed units beside tokens", Dialect::Cohere, all.clone()),
        Quirk::of("Cohere: an end mark", Dialect::Cohere, all + "data: [DONE]\n\n"),
        Quirk::of("Ollama: lines", Dialect::Ollama, line(said("Hi "), false) + &line(said("é😀"), false) + &line(said(""), true)),
        Quirk::of("Ollama: thoughts, and calls without ids", Dialect::Ollama,
            line(json!({"role": "assistant", "content": "", "thinking": "Well…"}), false)
                + &line(json!({"role": "assistant", "content": "", "tool_calls": [
                    {"function": {"name": "look", "arguments": {"at": "sky"}}}, {"function": {"name": "look", "arguments": {}}}]}), false)
                + &line(said(""), true))
            .thinks("Well…").calls(vec![("look", json!({"at": "sky"})), ("look", json!({}))]),
    ]
}

/// All of them.
pub fn quirks() -> Vec<Quirk> {
    [of_chat(), of_chat_calls(), of_chat_makers(), of_anthropic(), of_gemini(), of_others()]
        .into_iter()
        .flatten()
        .collect()
}

/// How each provider says in the middle of a stream that it has failed.
pub fn failures() -> Vec<(&'static str, Dialect, String, FaultKind)> {
    let limited = json!({"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}});
    let chat = |last: String| data(&hello()[0]) + &last;
    let claude = anthropic(&[
        json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi "}}),
    ]);
    let gemini = data(&json!({"candidates": [{"content": {"role": "model", "parts": [{"text": "Hi "}]}, "index": 0}]}));
    let quota = json!({"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}});
    let cohere = "event: message-start\ndata: {\"type\":\"message-start\",\"id\":\"c\"}\n\nevent: content-delta\ndata: {\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"text\":\"Hi \"}}}}\n\n";
    let ollama = "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"Hi \"},\"done\":false}\n";
    vec![
        ("Groq: an error object", Dialect::OpenAiChat, chat(data(&limited)), FaultKind::RateLimited),
        (
            "an error event",
            Dialect::OpenAiChat,
            chat(format!("event: error\n{}", data(&limited))),
            FaultKind::RateLimited,
        ),
        (
            "OpenRouter: an error beside a choice",
            Dialect::OpenAiChat,
            chat(data(&with(chunk(json!({}), json!("error")), "error", json!({"code": 429, "message": "slow down"})))),
            FaultKind::RateLimited,
        ),
        ("bare JSON", Dialect::OpenAiChat, chat(format!("{limited}\n\n")), FaultKind::RateLimited),
        (
            "Anthropic: overloaded",
            Dialect::AnthropicMessages,
            claude
                + &anthropic(&[
                    json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
                ]),
            FaultKind::Overloaded,
        ),
        ("Gemini: an event", Dialect::Gemini, gemini.clone() + &data(&quota), FaultKind::RateLimited),
        ("Gemini: bare JSON", Dialect::Gemini, format!("{gemini}{quota}\n\n"), FaultKind::RateLimited),
        (
            "Ollama: a line",
            Dialect::Ollama,
            format!("{ollama}{{\"error\":\"an error was encountered while running the model\"}}\n"),
            FaultKind::ServerError,
        ),
        (
            "Cohere: an ended answer",
            Dialect::Cohere,
            format!(
                "{cohere}event: message-end\ndata: {{\"type\":\"message-end\",\"delta\":{{\"finish_reason\":\"ERROR\",\"error\":\"oops\"}}}}\n\n"
            ),
            FaultKind::ServerError,
        ),
        ("a cut", Dialect::OpenAiChat, chat("data: {\"id\":\"c1\",\"choi".to_owned()), FaultKind::Truncated),
        ("a clean end without a finish", Dialect::Gemini, gemini, FaultKind::Truncated),
    ]
}
