//! The hub's events as Anthropic's answers.

use super::*;
use crate::dialect::anthropic_messages::client::response::UnaryEncoder;
use crate::dialect::anthropic_messages::client::stream::StreamEncoder;
use crate::dialect::chat::{FORMAT_ANTHROPIC, FORMAT_GEMINI};
use crate::dialect::client::ErrorAnswer;
use crate::dialect::event::{Event, FinishReason, ReasoningDelta, ReasoningPiece};
use crate::dialect::generated::{STOP, call, finish, generated, input, text, thought};
use crate::domain::{Fault, FaultKind, Usage};
use proptest::prelude::*;

fn streamed(events: &[Event<'_>]) -> Vec<u8> {
    let mut encoder = StreamEncoder::new(&setup(Dialect::OpenAiChat, true));
    let mut out = Vec::new();
    for event in events {
        encoder.write(event, &mut out);
    }
    encoder.close(&mut out);
    out
}

fn whole(events: &[Event<'_>]) -> Value {
    let mut encoder = UnaryEncoder::new(&setup(Dialect::OpenAiChat, false));
    let mut out = Vec::new();
    for event in events {
        encoder.add(event);
    }
    encoder.close(&mut out);
    serde_json::from_slice(&out).unwrap()
}

/// Both framings of an answer, which must be the same message.
#[track_caller]
fn message(events: &[Event<'_>]) -> Value {
    let message = whole(events);
    assert_eq!(assemble(&streamed(events)), message);
    message
}

#[test]
fn a_text_with_its_counts() {
    let usage = Usage {
        prompt_tokens: 100,
        completion_tokens: 7,
        total_tokens: 107,
        cached_tokens: Some(60),
        cache_write_tokens: Some(10),
        reasoning_tokens: Some(3),
        ..Usage::default()
    };
    let events = [Event::Start { id: "x-1", model: "m" }, text("Hel"), text("lo"), STOP, Event::Usage(usage)];
    let expected = json!({
        "id": "x-1", "type": "message", "role": "assistant", "model": "m",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 30, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 60, "output_tokens": 7,
                  "output_tokens_details": {"thinking_tokens": 3}},
    });
    assert_eq!(message(&events), expected);
}

#[test]
fn a_provider_without_id_and_model_gets_ours() {
    let message = message(&[Event::Start { id: "", model: "" }, text("x"), STOP]);
    assert_eq!((&message["id"], &message["model"]), (&json!("msg_made"), &json!("a-model")));
}

#[test]
fn an_empty_answer_is_an_answer() {
    let message = message(&[Event::Start { id: "i", model: "m" }, STOP]);
    assert_eq!((&message["content"], &message["stop_reason"]), (&json!([]), &json!("end_turn")));
}

#[test]
fn thoughts_keep_whose_they_are() {
    let events = [
        thought(0, FORMAT_ANTHROPIC, ReasoningPiece::Text("a")),
        thought(0, FORMAT_ANTHROPIC, ReasoningPiece::Signature("EqQB")),
        thought(1, FORMAT_ANTHROPIC, ReasoningPiece::Encrypted("EvAF")),
        thought(2, "", ReasoningPiece::Text("b")),
        text("c"),
        thought(3, FORMAT_GEMINI, ReasoningPiece::Text("d")),
        thought(3, FORMAT_GEMINI, ReasoningPiece::Signature("AQ==")),
        STOP,
    ];
    let content = message(&events)["content"].clone();
    assert_eq!(
        content,
        json!([
            {"type": "thinking", "thinking": "a", "signature": "EqQB"},
            {"type": "redacted_thinking", "data": "EvAF"},
            {"type": "thinking", "thinking": "b", "signature": "orbyt:v1::0:"},
            {"type": "text", "text": "c"},
            {"type": "thinking", "thinking": "d", "signature": "orbyt:v1:google-gemini-v1:0:AQ=="},
        ])
    );
    // Sent back, each is what it was.
    let body = json!({"model": "m", "max_tokens": 1, "messages": [
        {"role": "user", "content": "x"}, {"role": "assistant", "content": content}, {"role": "user", "content": "y"}]});
    let request = Client::AnthropicMessages.parse(body.to_string().as_bytes()).unwrap();
    let formats: Vec<_> = request.messages[1].reasoning.iter().map(|detail| detail.format.as_deref()).collect();
    assert_eq!(formats, [Some(FORMAT_ANTHROPIC), Some(FORMAT_ANTHROPIC), None, Some(FORMAT_GEMINI)]);
}

#[test]
fn calls_whose_arguments_come_by_turns_are_whole_one_after_the_other() {
    let events = [
        call(0, "a"),
        call(1, "b"),
        input(0, "{\"x\":"),
        input(1, "{\"y\":\"}"),
        text("then"),
        input(0, "1}"),
        input(1, "\"}"),
        call(2, "c"),
        finish(FinishReason::ToolCalls, "tool_calls"),
    ];
    let message = message(&events);
    assert_eq!(
        message["content"],
        json!([
            {"type": "tool_use", "id": "a", "name": "look", "input": {"x": 1}},
            {"type": "tool_use", "id": "b", "name": "look", "input": {"y": "}"}},
            {"type": "text", "text": "then"},
            {"type": "tool_use", "id": "c", "name": "look", "input": {}},
        ])
    );
    assert_eq!(message["stop_reason"], "tool_use");
}

/// The same id for a call and for the signature that belongs to it, in the alphabet that Anthropic takes.
#[test]
fn ids_of_calls_are_anthropics() {
    let piece = ReasoningPiece::Encrypted("AQ==");
    let delta = ReasoningDelta { index: 0, id: Some("functions.look:0"), format: FORMAT_GEMINI, piece };
    let events = [
        Event::Reasoning { choice: 0, delta },
        call(0, "functions.look:0"),
        finish(FinishReason::ToolCalls, "tool_calls"),
    ];
    let content = message(&events)["content"].clone();
    let id = content[1]["id"].as_str().unwrap();
    assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{id}");
    let sealed = content[0]["data"].as_str().unwrap();
    assert_eq!(sealed, format!("orbyt:v1:google-gemini-v1:{}:{id}AQ==", id.len()));
}

#[test]
fn a_call_that_was_cut_is_an_object_all_the_same() {
    let events = [call(0, "a"), input(0, "{\"x\": [1,"), finish(FinishReason::Length, "length")];
    let message = whole(&events);
    assert_eq!(message["content"][0]["input"], json!({"INVALID_JSON": "{\"x\": [1,"}));
    assert_eq!(message["stop_reason"], "max_tokens");
}

#[test]
fn stop_reasons() {
    use FinishReason::{ContentFilter, Length, Stop, ToolCalls};
    for (reason, native, expected) in [
        (Stop, "stop", "end_turn"),
        (Stop, "STOP", "end_turn"),
        (Stop, "stop_sequence", "stop_sequence"),
        (Stop, "pause_turn", "pause_turn"),
        (Stop, "max_tokens", "end_turn"),
        (Length, "MAX_TOKENS", "max_tokens"),
        (Length, "model_context_window_exceeded", "model_context_window_exceeded"),
        (ToolCalls, "end_turn", "tool_use"),
        (ContentFilter, "SAFETY", "refusal"),
    ] {
        assert_eq!(message(&[text("x"), finish(reason, native)])["stop_reason"], expected, "{native}");
    }
    let refused = message(&[Event::Refusal { choice: 0, text: "No." }, STOP]);
    assert_eq!((&refused["content"][0]["text"], &refused["stop_reason"]), (&json!("No."), &json!("refusal")));
}

#[test]
fn a_stream_that_breaks_off_ends_with_an_error() {
    let mut encoder = StreamEncoder::new(&setup(Dialect::OpenAiChat, true));
    let mut out = Vec::new();
    encoder.write(&text("x"), &mut out);
    encoder.break_off(&Fault::new(FaultKind::Reset, "it broke"), &mut out);
    let events = events(&out);
    let last = events.last().unwrap();
    assert_eq!(last, &json!({"type": "error", "error": {"type": "api_error", "message": "it broke", "code": "reset"}}));
    assert!(!events.iter().any(|event| event["type"] == "message_stop"));
}

#[test]
fn errors_in_anthropics_form() {
    let told = |status, error_type| {
        let error = ErrorAnswer {
            status,
            error_type,
            code: Some("c"),
            param: None,
            message: "m",
            metadata: None,
            request_id: "req_1",
        };
        let body: Value = serde_json::from_slice(&Client::AnthropicMessages.error(&error)).unwrap();
        assert_eq!(
            (&body["type"], &body["error"]["message"], &body["request_id"]),
            (&json!("error"), &json!("m"), &json!("req_1"))
        );
        body["error"]["type"].as_str().unwrap().to_owned()
    };
    for (status, error_type, expected) in [
        (400, "invalid_request_error", "invalid_request_error"),
        (400, "billing_error", "billing_error"),
        (401, "authentication_error", "authentication_error"),
        (403, "x", "permission_error"),
        (404, "invalid_request_error", "not_found_error"),
        (413, "invalid_request_error", "request_too_large"),
        (422, "", "invalid_request_error"),
        (429, "rate_limit_error", "rate_limit_error"),
        (500, "server_error", "api_error"),
        (503, "provider_error", "api_error"),
        (504, "timeout_error", "timeout_error"),
        (529, "", "overloaded_error"),
    ] {
        assert_eq!(told(status, error_type), expected, "{status} {error_type}");
    }
}

proptest! {
    /// Whatever comes in whatever order: both framings are one message, no text is lost, no call is mixed up with another.
    #[test]
    fn a_stream_put_together_equals_the_whole_answer(generated in generated()) {
        let message = message(&generated.events());
        let blocks = message["content"].as_array().unwrap();
        let said: String = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
        prop_assert_eq!(said, generated.text());
        let made: Vec<(String, Value)> = blocks
            .iter()
            .filter(|block| block["type"] == "tool_use")
            .map(|block| (block["id"].as_str().unwrap().to_owned(), block["input"].clone()))
            .collect();
        prop_assert_eq!(made, generated.calls);
    }
}
