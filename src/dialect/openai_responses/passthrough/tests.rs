//! What passes, what is noticed on the way, and how a broken stream ends.

use super::*;
use crate::dialect::openai_chat::quirks::Quirks;
use crate::dialect::table::{Dialect, Translator};
use crate::domain::FaultKind;
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
        input_tokens: 0,
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
    assert_eq!(kind(true, &response("queued", json!([])).to_string()), Some(FaultKind::Malformed));
    assert_eq!(kind(true, &failed.to_string()), Some(FaultKind::ServerError));
    assert_eq!(kind(true, &response("completed", json!([])).to_string()[..90]), Some(FaultKind::Truncated));
    assert_eq!(kind(true, &prelude()), Some(FaultKind::Empty));
}

/// The output of a stream as a client puts it together, from the pieces alone; every event in its place.
fn together(stream: &str) -> (Vec<Value>, Value) {
    let (mut items, mut last) = (Vec::new(), Value::Null);
    for (number, frame) in stream.split_terminator("\n\n").enumerate() {
        let event: Value = serde_json::from_str(frame.split_once("\ndata: ").unwrap().1).unwrap();
        assert_eq!(event["sequence_number"], number, "{event}");
        let place = event["output_index"].as_u64().unwrap_or_default() as usize;
        let at = |name: &str| event[name].as_u64().unwrap_or_default() as usize;
        match event["type"].as_str().unwrap() {
            "response.output_item.added" => items.push(event["item"].clone()),
            "response.output_item.done" => {
                let item: &mut Value = &mut items[place];
                if item["status"] == "in_progress" {
                    item["status"] = event["item"]["status"].clone();
                }
                assert_eq!(*item, event["item"]);
            }
            "response.content_part.added" => {
                items[place]["content"].as_array_mut().unwrap().push(event["part"].clone());
            }
            "response.content_part.done" => assert_eq!(items[place]["content"][at("content_index")], event["part"]),
            "response.reasoning_summary_part.added" => {
                items[place]["summary"].as_array_mut().unwrap().push(event["part"].clone());
            }
            "response.reasoning_summary_text.delta" => {
                items[place]["summary"][at("summary_index")]["text"] = event["delta"].clone();
            }
            "response.output_text.delta" | "response.reasoning_text.delta" => {
                items[place]["content"][at("content_index")]["text"] = event["delta"].clone();
            }
            "response.refusal.delta" => {
                items[place]["content"][at("content_index")]["refusal"] = event["delta"].clone()
            }
            "response.output_text.annotation.added" => {
                let annotations = &mut items[place]["content"][at("content_index")]["annotations"];
                annotations.as_array_mut().unwrap().push(event["annotation"].clone());
            }
            "response.function_call_arguments.delta" => items[place]["arguments"] = event["delta"].clone(),
            "response.custom_tool_call_input.delta" => items[place]["input"] = event["delta"].clone(),
            _ => {}
        }
        last = event;
    }
    (items, last)
}

#[test]
fn a_whole_answer_to_a_request_for_a_stream_is_told_as_one() {
    let output = json!([
        {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "g"},
        {"id": "rs_2", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "so"}]},
        {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search"}},
        {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [
            {"type": "output_text", "text": "one\ntwo", "annotations": [{"type": "url_citation", "url": "u"}], "logprobs": []},
            {"type": "refusal", "refusal": "no"}]},
        {"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "c", "name": "f", "arguments": "{\"a\":1}"},
        {"id": "ct_1", "type": "custom_tool_call", "status": "completed", "call_id": "d", "name": "g", "input": "x"},
    ]);
    for status in ["completed", "incomplete"] {
        let whole = response(status, output.clone());
        for body in [whole.to_string(), format!("\n{whole:#}\r\n")] {
            for size in [1, 13, body.len()] {
                let chunks: Vec<&[u8]> = body.as_bytes().chunks(size).collect();
                let (out, observed, fault) = pass(true, &chunks, End::Clean);
                assert_eq!((fault, observed.usage.map(|usage| usage.total_tokens)), (None, Some(7)));
                let (items, last) = together(&out);
                assert_eq!(json!(items), output);
                assert_eq!((&last["type"], &last["response"]), (&json!(format!("response.{status}")), &whole));
            }
        }
    }
}

#[test]
fn odd_items_of_a_whole_answer_do_no_harm() {
    let output = json!(["x", 3, null, {}, {"type": "message", "content": ["y", {"type": "output_text"}, {"type": "new"}]},
                        {"type": "reasoning", "summary": "z", "content": 1}, {"type": "function_call"}]);
    let body = response("completed", output.clone()).to_string();
    let (out, _, fault) = pass(true, &[body.as_bytes()], End::Clean);
    assert_eq!(fault, None);
    let done = out.matches("event: response.output_item.done\n").count();
    assert_eq!((done, out.ends_with("\n\n")), (7, true), "{out}");
}

#[test]
fn a_number_beyond_all_others_ends_no_process() {
    let huge = event("response.output_text.delta", json!({"sequence_number": u64::MAX, "delta": "Hel"}));
    let (out, _, fault) = pass(true, &[(prelude() + &huge).as_bytes()], End::Clean);
    assert_eq!(fault.unwrap().kind, FaultKind::Truncated);
    assert!(out.contains("response.failed") && !out.contains("response.completed"), "{out}");
}

#[test]
fn one_too_large_to_be_held_is_known_by_its_id_though_its_end_has_not_come() {
    let told = |beginning: &str| {
        let (mut machine, mut observed, mut out) = (Passthrough::new(&setup(false)), Observed::default(), Vec::new());
        machine.push(beginning.as_bytes(), &mut observed, &mut out).unwrap();
        assert!(machine.id().is_none() && machine.let_flow(&mut observed, &mut out));
        machine.id().map(str::to_owned)
    };
    let id = Some("resp_1".to_owned());
    assert_eq!(told(r#"{"id": "resp_1", "object": "response", "output": [{"text": "a lon"#), id);
    assert_eq!(told(r#"{"background": false, "tools": [{"id": "x"}], "id":"resp_1","output":["#), id);
    for unknown in
        [r#"{"output": [{"id": "msg_1", "te"#, r#"{"id": "resp"#, r#"{"id": null, "#, r#"{"id": "", "#, "{", "[1"]
    {
        assert_eq!(told(unknown), None, "{unknown}");
    }
}

#[test]
fn what_goes_on_in_the_background_is_told_from_what_is_over() {
    let whole = |status: &str| {
        let (mut machine, mut observed, mut out) = (Passthrough::new(&setup(false)), Observed::default(), Vec::new());
        let body = format!(r#"{{"id":"resp_1","status":"{status}","output":[],"usage":null}}"#);
        machine.push(body.as_bytes(), &mut observed, &mut out).unwrap();
        machine.finish(End::Clean, &mut observed, &mut out).unwrap();
        observed.over
    };
    assert_eq!((whole("queued"), whole("in_progress")), (Some(false), Some(false)));
    assert_eq!((whole("completed"), whole("incomplete"), whole("cancelled")), (Some(true), Some(true), Some(true)));
    let streamed = |kind: &str| {
        let (mut machine, mut observed, mut out) = (Passthrough::new(&setup(true)), Observed::default(), Vec::new());
        let event = format!("data: {{\"type\":\"{kind}\",\"response\":{{\"id\":\"resp_1\",\"output\":[]}}}}\n\n");
        let _ = machine.push(event.as_bytes(), &mut observed, &mut out);
        observed.over
    };
    for kind in ["response.created", "response.queued", "response.in_progress", "error"] {
        assert_eq!(streamed(kind), None, "{kind}");
    }
    for kind in ["response.completed", "response.incomplete", "response.failed"] {
        assert_eq!(streamed(kind), Some(true), "{kind}");
    }
}
