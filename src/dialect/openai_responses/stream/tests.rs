//! The sequence of events, put together again as clients do it.

use super::*;
use crate::dialect::chat::{FORMAT_ANTHROPIC, FORMAT_GEMINI};
use crate::dialect::event::FinishReason;
use crate::dialect::openai_chat::quirks::Quirks;
use crate::dialect::openai_responses::asked::Asked;
use crate::dialect::openai_responses::response::UnaryEncoder;
use crate::dialect::openai_responses::{items, seal};
use crate::dialect::sse::Parser;
use crate::dialect::table::Dialect;
use crate::domain::{FaultKind, Usage};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn setup() -> Setup {
    let body = json!({"model": "m", "input": "x", "tools": [
        {"type": "custom", "name": "patch"},
        {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "g"}]},
        {"type": "tool_search", "execution": "client"}]});
    let parsed = crate::dialect::openai_responses::request::parse(body.to_string().as_bytes(), None).unwrap();
    let asked: Asked = parsed.asked;
    Setup {
        client: crate::dialect::client::Client::OpenAiResponses,
        provider: Dialect::AnthropicMessages,
        stream: true,
        array: false,
        choices: 1,
        include_usage: true,
        exclude_reasoning: false,
        input_tokens: 0,
        id: "resp_00ff".into(),
        created: 7,
        model: "m".into(),
        answer_tool: None,
        quirks: Quirks::NONE,
        asked: Some(Arc::new(asked)),
    }
}

fn frames(bytes: &[u8]) -> Vec<Value> {
    let (mut parser, mut events) = (Parser::new(), Vec::new());
    let mut each = |frame: crate::dialect::sse::Frame<'_>| {
        let event: Value = serde_json::from_slice(&frame.data).unwrap();
        assert_eq!(event["type"].as_str().unwrap().as_bytes(), frame.event);
        events.push(event);
        Ok(())
    };
    parser.push(bytes, &mut each).unwrap();
    assert!(parser.pending().is_empty());
    events
}

fn written(events: &[Event<'_>]) -> Vec<Value> {
    let (mut encoder, mut out) = (StreamEncoder::new(&setup()), Vec::new());
    for event in events {
        encoder.write(event, &mut out);
    }
    encoder.close(&mut out);
    frames(&out)
}

fn whole(events: &[Event<'_>]) -> Value {
    let (mut encoder, mut out) = (UnaryEncoder::new(&setup()), Vec::new());
    events.iter().for_each(|event| encoder.add(event));
    encoder.close(&mut out);
    serde_json::from_slice(&out).unwrap()
}

/// What a client knows of one item that is being streamed.
#[derive(Default)]
struct Streamed {
    id: String,
    parts: BTreeMap<(String, u64), (String, bool)>,
    arguments: String,
    done: Option<Value>,
}

impl Streamed {
    fn piece(&mut self, event: &Value) -> &mut (String, bool) {
        assert_eq!(event["item_id"], self.id.as_str(), "{event}");
        assert!(self.done.is_none(), "after its end: {event}");
        let name = if event["summary_index"].is_null() { "content_index" } else { "summary_index" };
        let place = (name.to_owned(), event[name].as_u64().unwrap());
        if event["type"].as_str().unwrap().ends_with("part.added") {
            assert!(self.parts.insert(place.clone(), (String::new(), false)).is_none());
        }
        let part = self.parts.get_mut(&place).unwrap_or_else(|| panic!("no part for {event}"));
        assert!(!part.1, "after the part's end: {event}");
        part
    }
}

/// Puts a stream together by its small events as a client does, checks its grammar on the way, and gives the output items.
fn put_together(events: &[Value]) -> Vec<Value> {
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number as u64, "{event}");
    }
    assert_eq!((&events[0]["type"], &events[1]["type"]), (&json!("response.created"), &json!("response.in_progress")));
    let mut items: Vec<Streamed> = Vec::new();
    let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    for event in &events[2..events.len() - 1] {
        let place = event["output_index"].as_u64().unwrap() as usize;
        match event["type"].as_str().unwrap() {
            "response.output_item.added" => {
                assert_eq!(place, items.len());
                items.push(Streamed { id: text(&event["item"], "id"), ..Streamed::default() });
            }
            "response.output_item.done" => {
                let item = &mut items[place];
                assert_eq!(event["item"]["id"], item.id.as_str());
                assert!(item.done.is_none() && item.parts.values().all(|part| part.1), "{event}");
                item.done = Some(event["item"].clone());
            }
            "response.content_part.added" | "response.reasoning_summary_part.added" => {
                items[place].piece(event);
            }
            "response.output_text.delta"
            | "response.refusal.delta"
            | "response.reasoning_text.delta"
            | "response.reasoning_summary_text.delta" => items[place].piece(event).0.push_str(&text(event, "delta")),
            "response.output_text.done" | "response.reasoning_text.done" | "response.reasoning_summary_text.done" => {
                assert_eq!(items[place].piece(event).0, text(event, "text"));
            }
            "response.refusal.done" => assert_eq!(items[place].piece(event).0, text(event, "refusal")),
            "response.content_part.done" | "response.reasoning_summary_part.done" => {
                let part = items[place].piece(event);
                let whole = event["part"]["text"].as_str().or(event["part"]["refusal"].as_str());
                assert_eq!(Some(part.0.as_str()), whole);
                part.1 = true;
            }
            "response.function_call_arguments.delta" => items[place].arguments.push_str(&text(event, "delta")),
            "response.function_call_arguments.done" => assert_eq!(items[place].arguments, text(event, "arguments")),
            "response.custom_tool_call_input.delta" => items[place].arguments.push_str(&text(event, "delta")),
            "response.custom_tool_call_input.done" => assert_eq!(items[place].arguments, text(event, "input")),
            "response.output_text.annotation.added" => {
                items[place].piece(event);
            }
            other => assert!(other.starts_with("response.image_generation_call."), "{other}"),
        }
    }
    items.into_iter().map(|item| item.done.expect("each item ends")).collect()
}

fn delta(index: u32, id: Option<&'static str>, format: &'static str, piece: ReasoningPiece<'static>) -> Event<'static> {
    Event::Reasoning { choice: 0, delta: ReasoningDelta { index, id, format, piece } }
}

const START: Event<'static> = Event::Start { id: "x", model: "claude" };

fn finish(reason: FinishReason) -> Event<'static> {
    Event::Finish { choice: 0, reason, native: "" }
}

#[test]
fn an_answer_with_everything() {
    let citation = json!({"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A", "start_index": 0,
                          "end_index": 3}});
    let usage = Usage { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7, ..Usage::default() };
    let events = [
        START,
        delta(0, None, FORMAT_ANTHROPIC, ReasoningPiece::Text("I ")),
        delta(0, None, FORMAT_ANTHROPIC, ReasoningPiece::Text("think")),
        delta(0, None, FORMAT_ANTHROPIC, ReasoningPiece::Signature("c2ln")),
        delta(1, None, "", ReasoningPiece::Text("aloud")),
        Event::Text { choice: 0, text: "Hel" },
        Event::Text { choice: 0, text: "lo" },
        Event::Annotation { choice: 0, value: &citation },
        Event::Refusal { choice: 0, text: "no" },
        delta(2, Some("call_a"), FORMAT_GEMINI, ReasoningPiece::Encrypted("R2Vt")),
        Event::Call { choice: 0, index: 0, id: "call_a", name: "f" },
        Event::Call { choice: 0, index: 1, id: "call_b", name: "patch" },
        Event::Arguments { choice: 0, index: 0, json: "{\"a\":" },
        Event::Arguments { choice: 0, index: 1, json: "{\"input\":\"x\\n\"}" },
        Event::Arguments { choice: 0, index: 0, json: "1}" },
        Event::Call { choice: 0, index: 2, id: "call_c", name: "ns__g" },
        Event::Call { choice: 0, index: 3, id: "call_d", name: "tool_search" },
        Event::Arguments { choice: 0, index: 3, json: "{\"q\":1}" },
        finish(FinishReason::ToolCalls),
        Event::Usage(usage),
    ];
    let told = written(&events);
    let output = put_together(&told);
    let kinds: Vec<&str> = output.iter().map(|item| item["type"].as_str().unwrap()).collect();
    let calls = ["function_call", "custom_tool_call", "function_call", "tool_search_call"];
    assert_eq!(kinds, [&["reasoning", "reasoning", "message", "reasoning"][..], &calls[..]].concat());
    assert_eq!(output[0]["summary"], json!([{"type": "summary_text", "text": "I think"}]));
    let opened = seal::open(output[0]["encrypted_content"].as_str().unwrap()).unwrap();
    assert_eq!(opened.kind, ReasoningKind::Text { text: "I think".into(), signature: Some("c2ln".into()) });
    assert_eq!(output[1]["content"], json!([{"type": "reasoning_text", "text": "aloud"}]));
    assert_eq!(output[2]["content"][0]["annotations"][0]["url"], "https://a.example");
    assert_eq!(output[2]["content"][1], json!({"type": "refusal", "refusal": "no"}));
    assert_eq!(output[4]["arguments"], "{\"a\":1}");
    assert_eq!(output[5]["input"], "x\n");
    assert_eq!((&output[6]["name"], &output[6]["namespace"]), (&json!("g"), &json!("ns")));
    assert_eq!(output[6]["arguments"], "{}");
    assert_eq!(output[7]["arguments"], json!({"q": 1}));
    let last = told.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"], whole(&events));
    assert_eq!((&last["response"]["model"], &last["response"]["id"]), (&json!("claude"), &json!("resp_00ff")));
    assert_eq!(last["response"]["usage"]["total_tokens"], 7);
    // A complete call is told before the next one begins, so that a client can start on it.
    let done = |place: usize| {
        told.iter().position(|event| event["type"] == "response.output_item.done" && event["output_index"] == place)
    };
    assert!(done(4) < told.iter().position(|event| event["item"]["name"] == "g"));
}

#[test]
fn an_answer_that_ran_out_of_tokens_is_incomplete() {
    for (reason, word) in [(FinishReason::Length, "max_output_tokens"), (FinishReason::ContentFilter, "content_filter")]
    {
        let events = [START, Event::Text { choice: 0, text: "Hel" }, finish(reason)];
        let told = written(&events);
        put_together(&told);
        let last = told.last().unwrap();
        assert_eq!(last["type"], "response.incomplete");
        assert_eq!(last["response"]["status"], "incomplete");
        assert_eq!(last["response"]["incomplete_details"]["reason"], word);
        assert_eq!(last["response"]["output"][0]["status"], "incomplete");
        assert_eq!(last["response"], whole(&events));
    }
}

#[test]
fn a_stream_that_breaks_off_fails_and_is_never_complete() {
    let (mut encoder, mut out) = (StreamEncoder::new(&setup()), Vec::new());
    encoder.write(&START, &mut out);
    encoder.write(&Event::Text { choice: 0, text: "Hel" }, &mut out);
    encoder.break_off(&Fault::new(FaultKind::Truncated, "it broke"), &mut out);
    let events = frames(&out);
    let [.., error, failed] = &events[..] else { panic!("two events at least") };
    assert_eq!((&error["type"], &error["error"]["message"]), (&json!("error"), &json!("it broke")));
    assert_eq!(failed["type"], "response.failed");
    assert_eq!(
        (&failed["response"]["status"], &failed["response"]["error"]["code"]),
        (&json!("failed"), &json!("server_error"))
    );
    assert_eq!(failed["response"]["output"][0]["status"], "incomplete");
    assert_eq!(failed["sequence_number"], events.len() as u64 - 1);
    assert!(events.iter().all(|event| event["type"] != "response.completed"));
}

#[test]
fn what_an_answer_gives_can_be_sent_back() {
    let events = [
        START,
        delta(0, None, FORMAT_ANTHROPIC, ReasoningPiece::Text("why")),
        delta(0, None, FORMAT_ANTHROPIC, ReasoningPiece::Signature("c2ln")),
        delta(1, None, FORMAT_ANTHROPIC, ReasoningPiece::Encrypted("cmVk")),
        Event::Text { choice: 0, text: "so" },
        Event::Call { choice: 0, index: 0, id: "call_a", name: "ns__g" },
        Event::Arguments { choice: 0, index: 0, json: "{}" },
        finish(FinishReason::ToolCalls),
    ];
    let mut conversation = items::Conversation::default();
    conversation.add_input(Some(whole(&events)["output"].clone())).unwrap();
    let [turn] = &conversation.messages[..] else { panic!("one turn") };
    assert_eq!(turn.reasoning[0].kind, ReasoningKind::Text { text: "why".into(), signature: Some("c2ln".into()) });
    assert_eq!(turn.reasoning[1].kind, ReasoningKind::Encrypted("cmVk".into()));
    assert!(turn.reasoning.iter().all(|detail| detail.format.as_deref() == Some(FORMAT_ANTHROPIC)));
    assert_eq!((turn.tool_calls[0].id.as_str(), turn.tool_calls[0].name.as_str()), ("call_a", "ns__g"));
}

#[derive(Clone, Debug)]
enum Step {
    Text(String),
    Refusal(String),
    Thought(u32, u8, String),
    Call(u8),
    Arguments(u32, String),
    Image,
    Citation,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let text = "[a-c\"\\\\\n\u{e9}]{0,4}";
    let step = prop_oneof![
        4 => text.prop_map(Step::Text),
        1 => text.prop_map(Step::Refusal),
        3 => (0u32..3, 0u8..5, text).prop_map(|(block, kind, text)| Step::Thought(block, kind, text)),
        2 => (0u8..4).prop_map(Step::Call),
        4 => (0u32..4, "[{}\"a1:,]{0,3}").prop_map(|(index, json)| Step::Arguments(index, json)),
        1 => Just(Step::Image),
        1 => Just(Step::Citation),
    ];
    prop::collection::vec(step, 0..30)
}

proptest! {
    #[test]
    fn a_stream_put_together_is_the_whole_answer(steps in steps(), reason in 0u8..4) {
        let citation = json!({"type": "url_citation", "url_citation": {"url": "u"}});
        let mut calls = 0;
        let mut events = vec![START];
        for step in &steps {
            events.push(match step {
                Step::Text(text) => Event::Text { choice: 0, text },
                Step::Refusal(text) => Event::Refusal { choice: 0, text },
                Step::Thought(block, kind, text) => {
                    let (format, piece) = match kind {
                        0 => (FORMAT_ANTHROPIC, ReasoningPiece::Text(text)),
                        1 => (FORMAT_ANTHROPIC, ReasoningPiece::Signature(text)),
                        2 => (FORMAT_GEMINI, ReasoningPiece::Encrypted(text)),
                        3 => ("", ReasoningPiece::Text(text)),
                        _ => ("", ReasoningPiece::Summary(text)),
                    };
                    Event::Reasoning { choice: 0, delta: ReasoningDelta { index: *block, id: None, format, piece } }
                }
                Step::Call(name) => {
                    calls += 1;
                    let name = ["f", "patch", "ns__g", "tool_search"][usize::from(*name)];
                    Event::Call { choice: 0, index: calls - 1, id: "call", name }
                }
                // A call precedes its arguments.
                Step::Arguments(index, json) if *index < calls => Event::Arguments { choice: 0, index: *index, json },
                Step::Arguments(..) => Event::Text { choice: 0, text: "" },
                Step::Image => Event::Image { choice: 0, media_type: "image/png", data: "AA==" },
                Step::Citation => Event::Annotation { choice: 0, value: &citation },
            });
        }
        let reasons =
            [FinishReason::Stop, FinishReason::Length, FinishReason::ToolCalls, FinishReason::ContentFilter];
        events.push(finish(reasons[usize::from(reason)]));
        let told = written(&events);
        let mut output = put_together(&told);
        let whole = whole(&events);
        prop_assert_eq!(&told.last().unwrap()["response"], &whole);
        // Sources that are told after the end of a message are in the whole answer only.
        for (item, last) in output.iter_mut().zip(whole["output"].as_array().unwrap()) {
            let parts = item.get_mut("content").and_then(Value::as_array_mut).into_iter().flatten();
            for (place, part) in parts.enumerate().filter(|(_, part)| part["type"] == "output_text") {
                part["annotations"] = last["content"][place]["annotations"].clone();
            }
        }
        prop_assert_eq!(&Value::Array(output), &whole["output"]);
    }
}

#[test]
fn an_answer_without_end_is_broken_off() {
    use crate::dialect::table::Translator;
    let mut translator = Translator::new(setup());
    let event = |kind: &str, rest: Value| {
        let mut event = rest;
        event["type"] = json!(kind);
        format!("event: {kind}\ndata: {event}\n\n")
    };
    let message = json!({"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [],
                         "usage": {"input_tokens": 1, "output_tokens": 1}});
    let begun = event("message_start", json!({"message": message}))
        + &event("content_block_start", json!({"index": 0, "content_block": {"type": "text", "text": ""}}));
    translator.push(begun.as_bytes(), &mut Vec::new()).unwrap();
    let text = "a".repeat(1 << 20);
    let piece = event("content_block_delta", json!({"index": 0, "delta": {"type": "text_delta", "text": text}}));
    let outcome = (0..80).try_for_each(|_| translator.push(piece.as_bytes(), &mut Vec::new()));
    assert_eq!(outcome.unwrap_err().kind, FaultKind::Malformed);
}
