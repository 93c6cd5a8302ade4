//! Anthropic's answers and requests, passed on byte by byte.

use super::*;
use crate::dialect::event::End;
use crate::dialect::table::Translator;
use crate::domain::{Fault, FaultKind};
use bytes::Bytes;

const STREAM: &str = concat!(
    "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\
     \"model\":\"m\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":5,\"cache_read_input_tokens\":2,\"output_tokens\":1}}}\r\n\r\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: ping\ndata: {\"type\": \"ping\"}\n\n: a comment\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"h\\u00e9\"},\"new\":1}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":9}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"   }\n\n",
);

fn pass(pieces: &[&[u8]], stream: bool, end: End) -> (Translator, Vec<u8>, Result<(), Fault>) {
    let mut translator = Translator::new(setup(Dialect::AnthropicMessages, stream));
    let mut out = Vec::new();
    let pushed = pieces.iter().try_for_each(|piece| translator.push(piece, &mut out));
    let outcome = pushed.and_then(|()| translator.finish(end, &mut out));
    (translator, out, outcome)
}

#[test]
fn a_stream_passes_as_it_came_wherever_it_is_split() {
    for at in 0..=STREAM.len() {
        let (head, tail) = STREAM.as_bytes().split_at(at);
        let (translator, out, outcome) = pass(&[head, tail], true, End::Clean);
        outcome.unwrap();
        assert_eq!(std::str::from_utf8(&out).unwrap(), STREAM, "split at {at}");
        let usage = translator.observed().usage.unwrap();
        assert_eq!((usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens), (7, Some(2), 9));
    }
}

#[test]
fn a_stream_that_is_cut_anywhere_never_ends_cleanly() {
    let complete = STREAM.find("event: message_stop").unwrap();
    for at in 0..STREAM.len() {
        let (mut translator, mut out, outcome) = pass(&[&STREAM.as_bytes()[..at]], true, End::Cut);
        let fault = outcome.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Truncated, "cut at {at}");
        translator.break_off(&fault, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains("message_stop"), "cut at {at}");
        assert!(text.ends_with("}}\n\n") && text.contains("event: error\n"), "cut at {at}");
        if at < complete {
            // A clean end too early is a cut as well.
            assert!(
                pass(&[&STREAM.as_bytes()[..at]], true, End::Clean).2.is_err() || at > complete - 3,
                "ended at {at}"
            );
        }
    }
}

#[test]
fn without_message_stop_a_complete_answer_gets_one() {
    let complete = STREAM.find("event: message_stop").unwrap();
    let (_, out, outcome) = pass(&[&STREAM.as_bytes()[..complete]], true, End::Clean);
    outcome.unwrap();
    assert_eq!(std::str::from_utf8(&out).unwrap(), STREAM.replace("\"   }", "\"}"));
}

#[test]
fn an_error_in_the_stream_ends_the_attempt_and_is_not_passed_on() {
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let (translator, out, outcome) = pass(&[error.as_bytes()], true, End::Clean);
    assert_eq!(outcome.unwrap_err().kind, FaultKind::Overloaded);
    assert!(out.is_empty() && !translator.observed().output);
}

#[test]
fn what_a_server_tool_does_is_output() {
    let start = STREAM.split_inclusive("\r\n\r\n").next().unwrap();
    let block = "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"server_tool_use\",\"id\":\"s\",\"name\":\"web_search\",\"input\":{}}}\n\n";
    let mut translator = Translator::new(setup(Dialect::AnthropicMessages, true));
    let mut out = Vec::new();
    translator.push(start.as_bytes(), &mut out).unwrap();
    assert!(!translator.observed().output);
    translator.push(block.as_bytes(), &mut out).unwrap();
    assert!(translator.observed().output);
    assert!(String::from_utf8(out).unwrap().ends_with(block));
}

#[test]
fn a_whole_answer_passes_and_becomes_a_stream_where_one_was_asked_for() {
    let body = br#" {"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"text","text":"hi"}],"stop_reason":"end_turn","new":{"b":1,"a":2},"usage":{"input_tokens":3,"output_tokens":4}} "#;
    let (_, out, outcome) = pass(&[body], false, End::Clean);
    outcome.unwrap();
    assert_eq!(out, body.trim_ascii());
    let (_, out, outcome) = pass(&[body], true, End::Clean);
    outcome.unwrap();
    let message = assemble(&out);
    assert_eq!(message["content"][0], json!({"type": "thinking", "thinking": "t", "signature": "s"}));
    assert_eq!((&message["content"][1]["text"], &message["usage"]["output_tokens"]), (&json!("hi"), &json!(4)));
}

#[test]
fn what_is_no_answer_is_none() {
    for (body, stream, kind) in [
        ("", false, FaultKind::Empty),
        ("<html>", false, FaultKind::Malformed),
        ("<html>", true, FaultKind::Malformed),
        ("{\"a\":1}", false, FaultKind::Malformed),
        ("{\"type\":\"message\",\"content\":[],\"stop_reason\":null}", false, FaultKind::Empty),
        (
            "{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"x\"}],\"stop_reason\":null}",
            false,
            FaultKind::Truncated,
        ),
        ("event: x\ndata: nonsense\n\n", true, FaultKind::Malformed),
        ("", true, FaultKind::Empty),
    ] {
        let (.., outcome) = pass(&[body.as_bytes()], stream, End::Clean);
        assert_eq!(outcome.unwrap_err().kind, kind, "{body:?} stream={stream}");
    }
    let (.., outcome) = pass(&[b"{\"type\":\"message\""], false, End::Cut);
    assert_eq!(outcome.unwrap_err().kind, FaultKind::Truncated);
}

fn passed(body: &str) -> String {
    let envelope = Client::AnthropicMessages.scan(Bytes::from(body.to_owned())).unwrap();
    String::from_utf8(envelope.passthrough_body("theirs", Quirks::NONE)).unwrap()
}

#[test]
fn of_a_request_only_the_model_and_our_own_members_are_touched() {
    let body = r#"{ "extra": {"retry": 1}, "model" : "anthropic/x","provider":"cheap", "messages":[{"content":"é\u00e9","role":"user"}],"betas":["b"] ,"models":["y"]}"#;
    let expected = r#"{  "model" : "theirs", "messages":[{"content":"é\u00e9","role":"user"}],"betas":["b"] }"#;
    assert_eq!(passed(body), expected);
}

#[test]
fn thoughts_that_anthropic_did_not_sign_are_taken_out() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"q"},
        {"role":"assistant","content":[{"type":"thinking","thinking":"a","signature":"orbyt:v1::0:"}, {"type":"text","text":"b"},{"type":"redacted_thinking","data":"orbyt:v1:x:0:y"}]},
        {"role":"assistant","content":[{"type":"thinking","thinking":"a","signature":"orbyt:v1::0:"}]},
        {"role":"user","content":[{"type":"text","text":"orbyt:v1: stays"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"c","signature":"Eq"}]}]}"#;
    let read: Value = serde_json::from_str(&passed(body)).unwrap();
    assert_eq!(
        read["messages"],
        json!([
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
            {"role": "user", "content": [{"type": "text", "text": "orbyt:v1: stays"}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "c", "signature": "Eq"}]},
        ])
    );
}
