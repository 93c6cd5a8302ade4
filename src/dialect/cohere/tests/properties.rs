//! Whatever comes: a stream says what the whole answer says, and no bytes make the readers panic.

use super::{decode, events, read};
use crate::dialect::assembled::Assembled;
use crate::dialect::cohere::{error, response, stream};
use crate::dialect::event::{End, Event};
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Thoughts(String),
}

fn part() -> impl Strategy<Value = Part> {
    let text = "[ -~äß日🌍\n\"]{0,12}";
    prop_oneof![text.prop_map(Part::Text), text.prop_map(Part::Thoughts)]
}

fn pieces(text: &str, every: usize) -> Vec<String> {
    text.chars().collect::<Vec<_>>().chunks(every).map(|piece| piece.iter().collect()).collect()
}

fn citation() -> Value {
    json!({"start": 1, "end": 2, "type": "TEXT_CONTENT", "content_index": 1, "sources": [{"type": "tool", "id": "t:0"}]})
}

/// The same answer as a stream and whole.
fn both(parts: &[Part], plan: &str, calls: &[(String, String)], reason: &str, every: usize) -> (String, String) {
    let usage = json!({"tokens": {"input_tokens": 9, "output_tokens": 4}, "billed_units": {"input_tokens": 2}});
    let mut sent = vec![json!({"type": "message-start", "id": "i", "delta": {"message": {"content": []}}})];
    let mut add = |kind: &str, index: usize, message: Value| {
        sent.push(json!({"type": kind, "index": index, "delta": {"message": message}}));
    };
    let mut content = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let (kind, text) = match part {
            Part::Text(text) => ("text", text),
            Part::Thoughts(text) => ("thinking", text),
        };
        add("content-start", index, json!({"content": {"type": kind, kind: ""}}));
        for piece in pieces(text, every) {
            add("content-delta", index, json!({"content": {kind: piece}}));
        }
        add("content-end", index, json!({}));
        content.push(json!({"type": kind, kind: text}));
    }
    for piece in pieces(plan, every) {
        add("tool-plan-delta", 0, json!({"tool_plan": piece}));
    }
    let mut made = Vec::new();
    for (index, (name, said)) in calls.iter().enumerate() {
        let arguments = json!({"said": said}).to_string();
        let function = json!({"name": name, "arguments": ""});
        add("tool-call-start", index, json!({"tool_calls": {"id": format!("c{index}"), "function": function}}));
        for piece in pieces(&arguments, every) {
            add("tool-call-delta", index, json!({"tool_calls": {"function": {"arguments": piece}}}));
        }
        add("tool-call-end", index, json!({}));
        made.push(json!({"id": format!("c{index}"), "function": {"name": name, "arguments": arguments}}));
    }
    add("citation-start", 0, json!({"citations": citation()}));
    sent.push(json!({"type": "message-end", "delta": {"finish_reason": reason, "usage": usage}}));
    let message = json!({"content": content, "tool_plan": plan, "tool_calls": made, "citations": [citation()]});
    let body = json!({"id": "i", "message": message, "finish_reason": reason, "usage": usage});
    (events(&sent), body.to_string())
}

fn ignore(_: Event<'_>) {}

proptest! {
    #[test]
    fn a_stream_says_what_the_whole_answer_says(
        parts in proptest::collection::vec(part(), 0..5),
        plan in "[a-z .]{0,12}",
        calls in proptest::collection::vec(("[a-b]{1,2}", "\\PC{0,6}"), 0..3),
        reason in proptest::sample::select(vec!["COMPLETE", "MAX_TOKENS", "TOOL_CALL", "ERROR"]),
        every in 1..5_usize,
        size in 1..60_usize,
        answer_tool in proptest::option::of("[a-b]{1}"),
    ) {
        let (stream, body) = both(&parts, &plan, &calls, reason, every);
        let (whole, outcome) = decode(&body, answer_tool.as_deref());
        prop_assert_eq!(outcome, Ok(()));
        let (streamed, outcome) = read(stream.as_bytes().chunks(size), End::Clean, answer_tool.as_deref());
        prop_assert_eq!(outcome, Ok(()));
        prop_assert_eq!(streamed, whole);
    }

    #[test]
    fn no_bytes_make_it_panic(
        parts in proptest::collection::vec(part(), 0..3),
        random in proptest::collection::vec(any::<u8>(), 0..200),
        at in any::<usize>(),
        byte in any::<u8>(),
        size in 1..40_usize,
    ) {
        let (stream, body) = both(&parts, "p", &[("f".to_owned(), "x".to_owned())], "COMPLETE", 2);
        let spoiled = |text: String| {
            let mut bytes = text.into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes
        };
        for bytes in [spoiled(stream), spoiled(body), random.clone(), [b"data: ".as_slice(), &random].concat()] {
            let mut decoder = stream::Decoder::new(Some("f".to_owned()), "c");
            let pushed = bytes.chunks(size).try_for_each(|piece| decoder.push(piece, &mut ignore));
            let _ = pushed.and_then(|()| decoder.finish(End::Clean, &mut ignore));
            let _ = response::decode(&bytes, Some("f"), "c", &mut Assembled::default());
            let _ = error::parse(&bytes);
        }
    }
}

#[test]
fn endless_parts_are_refused() {
    let piece = |index: usize| {
        let delta = json!({"message": {"content": {"text": "x"}}});
        format!("data: {}\n\n", json!({"type": "content-delta", "index": index, "delta": delta}))
    };
    let mut decoder = stream::Decoder::new(None, "c");
    assert!((0..10_000).try_for_each(|index| decoder.push(piece(index).as_bytes(), &mut ignore)).is_err());
    let call = json!({"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": {"function": {"name": "f"}}}}});
    let call = format!("data: {call}\n\n");
    let mut decoder = stream::Decoder::new(None, "c");
    assert!((0..10_000).try_for_each(|_| decoder.push(call.as_bytes(), &mut ignore)).is_err());
}
