//! Streams as clients see them, and that a stream put together again is the whole answer.

use super::*;
use crate::dialect::chat::FORMAT_ANTHROPIC;
use crate::dialect::client::Client;
use crate::dialect::event::FinishReason;
use crate::dialect::openai_chat::passthrough::Quirks;
use crate::dialect::openai_chat::response::{UnaryEncoder, decode};
use crate::dialect::table::Dialect;
use crate::domain::FaultKind;
use proptest::prelude::*;
use serde_json::{Map, json};

fn setup(include_usage: bool) -> Setup {
    Setup {
        client: Client::OpenAiChat,
        provider: Dialect::Gemini,
        stream: true,
        array: false,
        choices: 1,
        include_usage,
        exclude_reasoning: false,
        input_tokens: 0,
        id: "chatcmpl-1".into(),
        created: 7,
        model: "ours".into(),
        answer_tool: None,
        quirks: Quirks::NONE,
        asked: None,
    }
}

fn stream_of(setup: &Setup, events: &[Event<'_>]) -> String {
    let (mut encoder, mut out) = (StreamEncoder::new(setup), Vec::new());
    events.iter().for_each(|event| encoder.write(event, &mut out));
    encoder.close(&mut out);
    String::from_utf8(out).unwrap()
}

fn whole_of(setup: &Setup, events: &[Event<'_>]) -> Value {
    let (mut encoder, mut out) = (UnaryEncoder::new(setup), Vec::new());
    events.iter().for_each(|event| encoder.add(event));
    encoder.close(&mut out);
    serde_json::from_slice(&out).unwrap()
}

fn chunks(stream: &str) -> Vec<Value> {
    let frames: Vec<&str> = stream.split_terminator("\n\n").collect();
    assert_eq!(frames.last(), Some(&"data: [DONE]"));
    frames[..frames.len() - 1]
        .iter()
        .map(|frame| serde_json::from_str(frame.strip_prefix("data: ").unwrap()).unwrap())
        .collect()
}

fn reasoning(index: u32, piece: ReasoningPiece<'_>) -> Event<'_> {
    Event::Reasoning { choice: 0, delta: ReasoningDelta { index, id: None, format: FORMAT_ANTHROPIC, piece } }
}

#[test]
fn a_stream_has_one_identity_a_role_first_and_one_finish() {
    let usage = Usage { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5, ..Usage::default() };
    let events = [
        Event::Start { id: "msg_1", model: "theirs" },
        Event::Usage(Usage::default()),
        Event::Text { choice: 0, text: "" },
        Event::Text { choice: 0, text: "a\"\n" },
        Event::Finish { choice: 0, reason: FinishReason::Stop, native: "end_turn" },
        Event::Finish { choice: 0, reason: FinishReason::Length, native: "again" },
        Event::Usage(usage),
    ];
    let head =
        "data: {\"id\":\"msg_1\",\"object\":\"chat.completion.chunk\",\"created\":7,\"model\":\"theirs\",\"choices\":[";
    let body = [
        "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
        "{\"index\":0,\"delta\":{\"content\":\"a\\\"\\n\"},\"finish_reason\":null}]}\n\n",
        "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    ]
    .map(|rest| format!("{head}{rest}"))
    .concat();
    let counts = "],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\n";
    assert_eq!(stream_of(&setup(true), &events), format!("{body}{head}{counts}data: [DONE]\n\n"));
    assert_eq!(stream_of(&setup(false), &events), format!("{body}data: [DONE]\n\n"));
}

#[test]
fn calls_begin_with_all_that_a_client_needs_and_have_arguments() {
    let events = [
        Event::Call { choice: 0, index: 0, id: "a", name: "f" },
        Event::Arguments { choice: 0, index: 0, json: "{\"x\":" },
        Event::Arguments { choice: 0, index: 0, json: "1}" },
        Event::Call { choice: 0, index: 1, id: "b", name: "g" },
        Event::Finish { choice: 0, reason: FinishReason::ToolCalls, native: "tool_use" },
    ];
    let chunks = chunks(&stream_of(&setup(false), &events));
    let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    assert_eq!(*deltas[0], json!({"role": "assistant", "content": null}));
    assert_eq!(
        deltas[1]["tool_calls"],
        json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}])
    );
    assert_eq!(deltas[2]["tool_calls"], json!([{"index": 0, "function": {"arguments": "{\"x\":"}}]));
    assert_eq!(deltas[5]["tool_calls"], json!([{"index": 1, "function": {"arguments": "{}"}}]));
    assert_eq!(*deltas[6], json!({}));
}

#[test]
fn reasoning_can_be_sent_back_as_it_came() {
    let events = [
        reasoning(0, ReasoningPiece::Text("think")),
        reasoning(0, ReasoningPiece::Text("ing")),
        reasoning(0, ReasoningPiece::Signature("s+/=")),
        reasoning(1, ReasoningPiece::Encrypted("data")),
        Event::Finish { choice: 0, reason: FinishReason::Stop, native: "" },
    ];
    let whole = whole_of(&setup(false), &events);
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "thinking");
    assert_eq!(
        message["reasoning_details"],
        json!([
            {"type": "reasoning.text", "text": "thinking", "signature": "s+/=", "format": FORMAT_ANTHROPIC, "index": 0},
            {"type": "reasoning.encrypted", "data": "data", "format": FORMAT_ANTHROPIC, "index": 1},
        ])
    );
    let stream = stream_of(&setup(false), &events);
    assert_eq!(stream.matches(FORMAT_ANTHROPIC).count(), 2, "once a block: clients join strings of one index");
}

#[test]
fn excluded_reasoning_leaves_only_what_a_call_needs() {
    let sealed = ReasoningDelta {
        index: 1,
        id: Some("call_1"),
        format: "google-gemini-v1",
        piece: ReasoningPiece::Encrypted("seal"),
    };
    let events = [
        reasoning(0, ReasoningPiece::Text("secret thoughts")),
        Event::Reasoning { choice: 0, delta: sealed },
        Event::Text { choice: 0, text: "x" },
        Event::Finish { choice: 0, reason: FinishReason::Stop, native: "" },
    ];
    let setup = Setup { exclude_reasoning: true, ..setup(false) };
    for text in [stream_of(&setup, &events), whole_of(&setup, &events).to_string()] {
        assert!(!text.contains("thoughts") && !text.contains("reasoning_content"), "{text}");
        assert!(text.contains("\"data\":\"seal\"") && text.contains("\"id\":\"call_1\""), "{text}");
    }
}

#[test]
fn a_broken_stream_ends_with_an_error() {
    let (mut encoder, mut out) = (StreamEncoder::new(&setup(true)), Vec::new());
    encoder.write(&Event::Text { choice: 0, text: "x" }, &mut out);
    out.clear();
    let fault = Fault { code: Some("overloaded".into()), ..Fault::new(FaultKind::Overloaded, "m") };
    encoder.break_off(&fault, &mut out);
    let text = String::from_utf8(out).unwrap();
    let chunk: Value = serde_json::from_str(text.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(chunk["error"], json!({"code": "overloaded", "message": "m", "metadata": {"reason": "overloaded"}}));
    assert_eq!(chunk["choices"], json!([{"index": 0, "delta": {}, "finish_reason": "error"}]));
    assert!(text.ends_with("\n\n") && !text.contains("DONE"));
}

/// A choice that is being put together: its index, message, log probabilities and finish reason.
type Partial = (u64, Map<String, Value>, Vec<Value>, Value);

/// Puts a stream together as the OpenAI SDKs do: strings are joined, list entries by their `index`.
fn assemble(stream: &str) -> Value {
    let mut choices: Vec<Partial> = Vec::new();
    let mut usage = Value::Null;
    let chunks = chunks(stream);
    for chunk in &chunks {
        if chunk["choices"].as_array().unwrap().is_empty() {
            usage = chunk["usage"].clone();
        }
        for choice in chunk["choices"].as_array().unwrap() {
            let index = choice["index"].as_u64().unwrap();
            let slot = choices.iter().position(|known| known.0 == index).unwrap_or_else(|| {
                choices.push((index, Map::new(), Vec::new(), Value::Null));
                choices.len() - 1
            });
            let (_, message, logprobs, finish) = &mut choices[slot];
            merge(message, choice["delta"].as_object().unwrap());
            logprobs.extend(choice["logprobs"]["content"].as_array().cloned().unwrap_or_default());
            if !choice["finish_reason"].is_null() {
                assert!(finish.is_null(), "one finish a choice");
                *finish = choice["finish_reason"].clone();
            }
        }
    }
    choices.sort_by_key(|choice| choice.0);
    let choices: Vec<Value> = choices.into_iter().map(finished_choice).collect();
    let mut whole = json!({"id": chunks[0]["id"], "object": "chat.completion", "created": 7, "model": chunks[0]["model"], "choices": choices});
    if !usage.is_null() {
        whole["usage"] = usage;
    }
    whole
}

fn merge(into: &mut Map<String, Value>, delta: &Map<String, Value>) {
    for (name, value) in delta {
        let old = into.entry(name.clone()).or_insert(Value::Null);
        match (&mut *old, value) {
            (Value::String(text), Value::String(more)) if name != "type" => text.push_str(more),
            (Value::Array(items), Value::Array(more)) => more.iter().for_each(|item| merge_item(items, item)),
            (Value::Null, Value::Array(more)) => {
                let mut items = Vec::new();
                more.iter().for_each(|item| merge_item(&mut items, item));
                *old = Value::Array(items);
            }
            (Value::Object(inner), Value::Object(more)) => merge(inner, more),
            (_, Value::Null) => {}
            _ => *old = value.clone(),
        }
    }
}

fn merge_item(items: &mut Vec<Value>, item: &Value) {
    assert!(item["index"].is_u64(), "every list entry of a delta has an index: {item}");
    match items.iter_mut().find(|known| known["index"] == item["index"]) {
        Some(known) => merge(known.as_object_mut().unwrap(), item.as_object().unwrap()),
        None => items.push(item.clone()),
    }
}

/// What a client would call the message of a whole answer: indexes only where those have them too, nulls for what never came.
fn finished_choice((index, mut message, logprobs, finish): Partial) -> Value {
    for name in ["tool_calls", "images", "annotations"] {
        for item in message.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten() {
            item.as_object_mut().unwrap().shift_remove("index");
        }
    }
    if message.get("content").is_some_and(|text| text == "")
        && (message.contains_key("tool_calls") || message.contains_key("refusal"))
    {
        message.insert("content".into(), Value::Null);
    }
    message.entry("refusal").or_insert(Value::Null);
    let logprobs = if logprobs.is_empty() { Value::Null } else { json!({"content": logprobs}) };
    json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish})
}

/// A step of a made-up answer.
#[derive(Clone, Debug)]
enum Step {
    Text(String),
    Refusal(String),
    Think(u8, String),
    Call(String, Vec<String>),
    Annotate(u8),
    Image(String),
    Logprob(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let text = "[a-c\"\\\\\n é🦀]{0,4}";
    prop_oneof![
        3 => text.prop_map(Step::Text),
        1 => text.prop_map(Step::Refusal),
        3 => (0u8..4, "[a-c\"é]{1,3}").prop_map(|(kind, text)| Step::Think(kind, text)),
        3 => (text, proptest::collection::vec(text, 0..3)).prop_map(|(name, pieces)| Step::Call(name, pieces)),
        1 => any::<u8>().prop_map(Step::Annotate),
        1 => "[A-Za-z]{1,4}".prop_map(Step::Image),
        1 => any::<u8>().prop_map(Step::Logprob),
    ]
}

/// Gives every event of the steps to `each`, in the order that decoders promise.
fn play(steps: &[(u32, Step)], usage: bool, each: &mut dyn FnMut(&Event<'_>)) {
    each(&Event::Start { id: "x-1", model: "" });
    let (mut calls, mut blocks) = ([0u32; 3], [(0u32, 9u8); 3]);
    for (choice, step) in steps {
        let (choice, slot) = (*choice, *choice as usize);
        match step {
            Step::Text(text) => each(&Event::Text { choice, text }),
            Step::Refusal(text) => each(&Event::Refusal { choice, text }),
            Step::Think(kind, text) => {
                let (index, last) = &mut blocks[slot];
                // Text goes on in its block and a signature ends it; what is encrypted comes whole.
                if !(*kind == *last && *kind < 2 || (*kind, *last) == (2, 0)) {
                    *index += 1;
                }
                *last = *kind;
                let piece = match kind {
                    0 => ReasoningPiece::Text(text),
                    1 => ReasoningPiece::Summary(text),
                    2 => ReasoningPiece::Signature(text),
                    _ => ReasoningPiece::Encrypted(text),
                };
                each(&Event::Reasoning {
                    choice,
                    delta: ReasoningDelta { index: *index, id: None, format: FORMAT_ANTHROPIC, piece },
                });
            }
            Step::Call(name, pieces) => {
                let index = calls[slot];
                calls[slot] += 1;
                each(&Event::Call { choice, index, id: &format!("id{index}"), name });
                pieces.iter().for_each(|json| each(&Event::Arguments { choice, index, json }));
            }
            Step::Annotate(place) => {
                each(&Event::Annotation { choice, value: &json!({"type": "url_citation", "at": place}) })
            }
            Step::Image(data) => each(&Event::Image { choice, media_type: "image/png", data }),
            Step::Logprob(value) => each(&Event::Logprobs { choice, content: &[json!({"token": value})] }),
        }
    }
    for choice in 0..3 {
        if choice == 0 || steps.iter().any(|(other, _)| *other == choice) {
            each(&Event::Finish { choice, reason: FinishReason::Stop, native: "" });
        }
    }
    if usage {
        each(&Event::Usage(Usage { prompt_tokens: 1, reasoning_tokens: Some(2), ..Usage::default() }));
    }
}

proptest! {
    #[test]
    fn a_stream_put_together_again_is_the_whole_answer(steps in proptest::collection::vec((0u32..3, step()), 0..12), usage: bool) {
        let setup = setup(true);
        let (mut encoder, mut out) = (StreamEncoder::new(&setup), Vec::new());
        let mut unary = UnaryEncoder::new(&setup);
        play(&steps, usage, &mut |event| {
            encoder.write(event, &mut out);
            unary.add(event);
        });
        encoder.close(&mut out);
        let mut whole = Vec::new();
        unary.close(&mut whole);
        let whole: Value = serde_json::from_slice(&whole).unwrap();
        prop_assert_eq!(assemble(std::str::from_utf8(&out).unwrap()), whole);
    }

    #[test]
    fn a_whole_answer_survives_being_read_and_written(steps in proptest::collection::vec((0u32..3, step()), 0..12), usage: bool) {
        let setup = setup(true);
        let (mut first, mut second) = (UnaryEncoder::new(&setup), UnaryEncoder::new(&setup));
        play(&steps, usage, &mut |event| first.add(event));
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        first.close(&mut once);
        decode(&once, "call_x", &mut |event: Event<'_>| second.add(&event)).unwrap();
        second.close(&mut twice);
        let (mut once, twice): (Value, Value) = (serde_json::from_slice(&once).unwrap(), serde_json::from_slice(&twice).unwrap());
        // Beside calls, stop means tool_calls.
        for choice in once["choices"].as_array_mut().unwrap() {
            if choice["message"]["tool_calls"].is_array() {
                choice["finish_reason"] = json!("tool_calls");
            }
        }
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn no_answer_makes_the_reader_panic(text in "[\\[\\]{}:,\"a-z0-9 ]{0,60}") {
        let _ = decode(text.as_bytes(), "c", &mut |_: Event<'_>| {});
    }
}
