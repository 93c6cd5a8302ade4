//! What passes, what is noticed on the way, and how a broken stream ends.

use super::*;
use crate::dialect::openai_chat::quirks::Quirks;
use crate::dialect::table::{Dialect, Translator};
use serde_json::json;

fn setup(stream: bool) -> Setup {
    Setup {
        client: crate::dialect::client::Client::OpenAiResponses,
        provider: Dialect::OpenAiChat,
        stream,
        array: false,
        choices: 1,
        include_usage: true,
        exclude_reasoning: false,
        id: "resp_ours".into(),
        created: 7,
        model: "m".into(),
        answer_tool: None,
        quirks: Quirks::RESPONSES,
        asked: None,
    }
}

/// Pushes the chunks through and ends them; gives what the client got and the fault, if any.
fn pass(stream: bool, chunks: &[&[u8]], end: End) -> (String, Observed, Option<Fault>) {
    let mut translator = Translator::new(setup(stream));
    let mut out = Vec::new();
    let outcome = chunks
        .iter()
        .try_for_each(|chunk| translator.push(chunk, &mut out))
        .and_then(|()| translator.finish(end, &mut out));
    if let Err(fault) = &outcome {
        translator.break_off(fault, &mut out);
    }
    (String::from_utf8(out).unwrap(), translator.observed().clone(), outcome.err())
}

fn event(kind: &str, members: Value) -> String {
    let mut event = json!({"type": kind});
    event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    format!("event: {kind}\ndata: {event}\n\n")
}

fn response(status: &str, output: Value) -> Value {
    json!({"id": "resp_theirs", "object": "response", "created_at": 5, "status": status, "model": "gpt-x", "output": output,
           "incomplete_details": if status == "incomplete" { json!({"reason": "max_output_tokens"}) } else { Value::Null },
           "error": null, "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}})
}

fn prelude() -> String {
    event("response.created", json!({"sequence_number": 0, "response": response("in_progress", json!([]))}))
        + &event("response.in_progress", json!({"sequence_number": 1, "response": response("in_progress", json!([]))}))
}

fn text() -> String {
    event("response.output_item.added", json!({"sequence_number": 2, "output_index": 0, "item": {"type": "message"}}))
        + &event("response.output_text.delta", json!({"sequence_number": 3, "delta": "Hel"}))
}

fn stream(last: &str) -> String {
    prelude()
        + &text()
        + &event(&format!("response.{last}"), json!({"sequence_number": 4, "response": response(last, json!([]))}))
}

#[test]
fn every_byte_passes_however_it_is_cut() {
    for (bytes, padding) in [
        (stream("completed"), ""),
        (stream("incomplete"), ""),
        (stream("completed") + "data: [DONE]\n\n", ""),
        (format!(": keepalive\n\n{}", stream("completed")), ""),
        (stream("completed").replace('\n', "\r\n"), ""),
        (stream("completed"), "\n\n"),
    ] {
        let padded = format!("{padding}{bytes}");
        for size in [1, 7, padded.len()] {
            let chunks: Vec<&[u8]> = padded.as_bytes().chunks(size).collect();
            let (out, observed, fault) = pass(true, &chunks, End::Clean);
            assert_eq!((out, fault), (bytes.clone(), None));
            assert_eq!(observed.usage.map(|usage| usage.total_tokens), Some(7));
            assert_eq!((observed.output_bytes, observed.choices_finished), (3, 1));
        }
    }
}

#[test]
fn the_prelude_is_no_output_and_the_models_work_is() {
    let output_after = |bytes: &str| {
        let mut translator = Translator::new(setup(true));
        translator.push(bytes.as_bytes(), &mut Vec::new()).unwrap();
        translator.observed().output
    };
    let added = |kind: &str| event("response.output_item.added", json!({"item": {"type": kind}}));
    assert!(!output_after(&prelude()));
    assert!(!output_after(&event("response.queued", json!({}))));
    assert!(!output_after(&event("keepalive", json!({}))));
    assert!(!output_after(&added("message")));
    assert!(!output_after(&event("response.output_text.delta", json!({"delta": ""}))));
    for output in [
        text(),
        added("function_call"),
        added("reasoning"),
        event("response.function_call_arguments.delta", json!({"delta": "{"})),
        event("response.output_item.done", json!({"item": {"type": "message"}})),
    ] {
        assert!(output_after(&output), "{output}");
    }
}

#[test]
fn a_cut_stream_ends_in_a_failure_wherever_it_is_cut() {
    let bytes = stream("completed");
    for at in 0..=bytes.len() {
        let (out, _, fault) = pass(true, &[&bytes.as_bytes()[..at]], End::Cut);
        assert!(fault.is_some(), "cut at {at}");
        assert!(!out.contains("event: response.completed"), "cut at {at}: {out}");
        assert!(out.contains("event: error\n") && out.contains("event: response.failed\n"), "cut at {at}: {out}");
    }
    let kept = prelude() + &text();
    let (out, ..) = pass(true, &[kept.as_bytes()], End::Clean);
    let added = out.strip_prefix(&kept).unwrap();
    let numbers: Vec<&str> = added.matches("\"sequence_number\":").collect();
    assert_eq!(numbers.len(), 2);
    assert!(added.contains("\"sequence_number\":4,") && added.contains("\"sequence_number\":5,"));
    assert!(added.contains("\"id\":\"resp_theirs\"") && added.contains("\"model\":\"gpt-x\""));
}

#[test]
fn what_the_provider_says_of_its_failure_is_told_on() {
    let error = json!({"type": "tokens", "code": "rate_limit_exceeded", "message": "too large"});
    let told = event("error", json!({"sequence_number": 4, "error": error}));
    let (out, _, fault) = pass(true, &[(prelude() + &text() + &told).as_bytes()], End::Clean);
    assert_eq!(fault.unwrap().kind, FaultKind::RateLimited);
    assert!(out.contains(&told) && out.contains("event: response.failed\n"));
    let mut failed = response("failed", json!([]));
    failed["error"] = error;
    let told = event("response.failed", json!({"sequence_number": 4, "response": failed}));
    let (out, _, fault) = pass(true, &[(prelude() + &text() + &told).as_bytes()], End::Clean);
    assert_eq!(fault.unwrap().kind, FaultKind::RateLimited);
    assert!(out.ends_with(&told) && !out.contains("event: error\n"));
}

#[test]
fn a_whole_answer_passes_as_it_is() {
    for status in ["completed", "incomplete", "queued"] {
        let body = response(status, json!([{"type": "message"}])).to_string();
        let (out, observed, fault) = pass(false, &[b"  \n", body.as_bytes(), b"\n"], End::Clean);
        assert_eq!((out, fault), (body, None));
        assert_eq!(observed.usage.map(|usage| usage.prompt_tokens), Some(3));
    }
    let body = response("completed", json!([])).to_string();
    for at in 0..body.len() {
        assert!(pass(false, &[&body.as_bytes()[..at]], End::Clean).2.is_some(), "{at}");
        assert!(pass(false, &[&body.as_bytes()[..at]], End::Cut).2.is_some(), "{at}");
    }
}

#[test]
fn what_is_no_answer_is_a_fault() {
    let kind = |stream: bool, bytes: &str| pass(stream, &[bytes.as_bytes()], End::Clean).2.map(|fault| fault.kind);
    let failed = json!({"object": "response", "status": "failed", "output": [],
                        "error": {"code": "server_error", "message": "m"}});
    assert_eq!(kind(false, &failed.to_string()), Some(FaultKind::ServerError));
    assert_eq!(
        kind(false, "{\"error\":{\"message\":\"m\",\"code\":\"rate_limit_exceeded\"}}"),
        Some(FaultKind::RateLimited)
    );
    assert_eq!(kind(false, "{\"id\":\"chatcmpl\",\"choices\":[]}"), Some(FaultKind::Malformed));
    assert_eq!(kind(false, ""), Some(FaultKind::Empty));
    assert_eq!(kind(true, ""), Some(FaultKind::Empty));
    assert_eq!(kind(true, "<html></html>"), Some(FaultKind::Malformed));
    assert_eq!(kind(true, "data: {]}\n\n"), Some(FaultKind::Malformed));
    assert_eq!(kind(true, "nonsense\n\n"), Some(FaultKind::Malformed));
    assert_eq!(kind(true, &response("completed", json!([])).to_string()), Some(FaultKind::Malformed));
    assert_eq!(kind(true, &prelude()), Some(FaultKind::Empty));
}
