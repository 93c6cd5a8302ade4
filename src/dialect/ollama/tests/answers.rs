//! Answers: golden ones, streamed in every split and whole, and those that are wrong.

use super::{decode, lines, read, read_every_way};
use crate::dialect::assembled::Assembled;
use crate::dialect::chat::ReasoningKind;
use crate::dialect::event::{End, FinishReason};
use crate::domain::{FaultKind, Usage};
use serde_json::{Value, json};

fn chunk(message: Value) -> Value {
    json!({"model": "m:latest", "created_at": "2026-11-20T12:00:00Z", "message": message, "done": false})
}

fn last(message: Value, reason: &str) -> Value {
    let mut last = chunk(message);
    last["done"] = true.into();
    last["done_reason"] = reason.into();
    last["prompt_eval_count"] = 7.into();
    last["eval_count"] = 5.into();
    last
}

fn begun() -> Assembled {
    Assembled {
        start: Some((String::new(), "m:latest".into())),
        usage: Some(Usage { prompt_tokens: 7, completion_tokens: 5, total_tokens: 12, ..Usage::default() }),
        ..Assembled::default()
    }
}

#[test]
fn thoughts_and_text() {
    let stream = lines(&[
        chunk(json!({"role": "assistant", "content": "", "thinking": "Hm"})),
        chunk(json!({"role": "assistant", "content": "", "thinking": ", yes."})),
        chunk(json!({"role": "assistant", "content": "Grö"})),
        chunk(json!({"role": "assistant", "content": "ße \"\u{1F30D}\"\n"})),
        last(json!({"role": "assistant", "content": ""}), "stop"),
    ]);
    let thought = ReasoningKind::Text { text: "Hm, yes.".into(), signature: None };
    let expected = Assembled {
        text: "Größe \"\u{1F30D}\"\n".into(),
        reasoning: vec![(thought, String::new())],
        finish: Some((FinishReason::Stop, "stop".into())),
        ..begun()
    };
    assert_eq!(read_every_way(&stream), expected);
    let body = last(json!({"role": "assistant", "content": "Größe \"\u{1F30D}\"\n", "thinking": "Hm, yes."}), "stop");
    assert_eq!(decode(&body.to_string()), (expected.clone(), Ok(())));
    assert_eq!(decode(&format!("{body:#}")), (expected, Ok(())), "over several lines");
}

#[test]
fn calls_whole_with_and_without_ids() {
    let calls = [
        json!({"id": "call_1", "function": {"index": 0, "name": "weather", "arguments": {"city": "Bern", "days": 1.0}}}),
        json!({"function": {"name": "now", "arguments": {}}}),
        json!({"function": {"name": "later", "arguments": "{\"in\": 5}"}}),
        json!({"function": {"name": "never"}}),
    ];
    let mut chunks: Vec<_> =
        calls.iter().map(|call| chunk(json!({"role": "assistant", "content": "", "tool_calls": [call]}))).collect();
    chunks.push(last(json!({"role": "assistant", "content": ""}), "stop"));
    let call = |id: &str, name: &str, arguments: &str| [id, name, arguments].map(str::to_owned);
    let expected = Assembled {
        calls: vec![
            call("call_1", "weather", "{\"city\":\"Bern\",\"days\":1.0}"),
            call("call_x_1", "now", "{}"),
            call("call_x_2", "later", "{\"in\":5}"),
            call("call_x_3", "never", "{}"),
        ],
        finish: Some((FinishReason::ToolCalls, "stop".into())),
        ..begun()
    };
    assert_eq!(read_every_way(&lines(&chunks)), expected);
    let body = last(json!({"role": "assistant", "content": "", "tool_calls": calls}), "stop");
    assert_eq!(decode(&format!("{body:#}")), (expected, Ok(())));
}

#[test]
fn the_end_and_what_is_counted() {
    let length = read_every_way(&lines(&[last(json!({"content": "x"}), "length")]));
    assert_eq!(length.finish, Some((FinishReason::Length, "length".into())));
    // Older servers say no reason; a prompt that was cached whole is not counted.
    let old = json!({"model": "m", "message": {"content": "x"}, "done": true, "eval_count": 3});
    let old = read_every_way(&lines(&[old]));
    assert_eq!(old.finish, Some((FinishReason::Stop, String::new())));
    assert_eq!(old.usage, Some(Usage { completion_tokens: 3, total_tokens: 3, ..Usage::default() }));
    let uncounted = read_every_way(&lines(&[json!({"model": "m", "done": true, "done_reason": "load"})]));
    assert_eq!(uncounted.usage, None);
    let unsaid = read_every_way(&lines(&[chunk(json!({"content": "x"}))]));
    assert_eq!(unsaid.finish, None, "an end is never invented");
}

#[test]
fn what_follows_the_end_says_nothing() {
    let stream = lines(&[last(json!({"content": "x"}), "stop"), chunk(json!({"content": "too late"}))]);
    assert_eq!(read_every_way(&stream).text, "x");
}

#[test]
fn errors_as_lines_and_as_bodies() {
    for (error, message, kind) in [
        (json!("it broke"), "it broke", FaultKind::ServerError),
        (json!("model 'm' not found"), "model 'm' not found", FaultKind::ModelNotFound),
        (json!({"message": "it broke", "code": "model_not_found"}), "it broke", FaultKind::ModelNotFound),
    ] {
        let stream =
            lines(&[chunk(json!({"content": "Once"})), json!({"error": error}), chunk(json!({"content": "x"}))]);
        let answer = read_every_way(&stream);
        let fault = answer.error.unwrap();
        assert_eq!((answer.text.as_str(), fault.kind, fault.message.as_ref()), ("Once", kind, message));
        let (body, outcome) = decode(&json!({"error": error}).to_string());
        assert_eq!((body.error.unwrap().kind, outcome), (kind, Ok(())));
    }
}

#[test]
fn what_is_no_answer_is_refused() {
    for (body, kind) in [
        ("", FaultKind::Empty),
        (" \n", FaultKind::Empty),
        ("<html>", FaultKind::Malformed),
        ("{}", FaultKind::Malformed),
        ("[]", FaultKind::Malformed),
        ("{\"message\": 5}", FaultKind::Malformed),
        ("{\"message\": {\"tool_calls\": [{}]}}", FaultKind::Malformed),
        ("{\"message\": {\"content\"", FaultKind::Malformed),
    ] {
        assert_eq!(decode(body).1.unwrap_err().kind, kind, "{body}");
        if kind == FaultKind::Malformed {
            assert_eq!(read([body.as_bytes()], End::Clean).1.unwrap_err().kind, kind, "{body}");
        }
    }
}

#[test]
fn log_probabilities_pass() {
    let item = json!({"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []});
    let mut whole = last(json!({"content": "x"}), "stop");
    whole["logprobs"] = json!([item]);
    assert_eq!(decode(&whole.to_string()).0.logprobs, [item]);
}

#[test]
fn a_cut_stream_has_no_end() {
    let stream = lines(&[chunk(json!({"content": "Yes"})), last(json!({"content": ""}), "stop")]);
    for at in 0..stream.len() {
        let (answer, outcome) = read([&stream.as_bytes()[..at]], End::Cut);
        assert_eq!((answer.finish, outcome), (None, Ok(())), "cut at {at}");
    }
}
