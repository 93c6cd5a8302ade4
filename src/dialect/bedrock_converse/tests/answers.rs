//! Answers, whole and streamed, and the errors in both.

use super::*;
use crate::domain::FaultKind;
use serde_json::json;

fn whole(content: Value, stop: &str) -> Value {
    json!({"metrics": {"latencyMs": 5}, "output": {"message": {"content": content, "role": "assistant"}}, "stopReason": stop,
           "usage": {"inputTokens": 7, "outputTokens": 5, "totalTokens": 12}})
}

#[test]
fn a_whole_answer_with_thoughts_text_and_calls() {
    let content = json!([
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
        {"reasoningContent": {"redactedContent": "ZW5j"}},
        {"text": "I call."},
        {"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": {"city": "Bern"}}},
        {"toolUse": {"toolUseId": "tooluse_2", "name": "now", "input": {}}},
    ]);
    let out = read_body(&whole(content, "tool_use"), None).unwrap();
    assert_eq!(out.start, Some((String::new(), String::new())));
    assert_eq!(out.text, "I call.");
    let encrypted = [String::new(), String::new(), "ZW5j".to_owned()];
    assert_eq!(out.reasoning, [["hm".to_owned(), "sig".to_owned(), String::new()], encrypted]);
    assert_eq!(out.calls[0], ["tooluse_1", "weather", r#"{"city":"Bern"}"#]);
    assert_eq!(out.calls[1], ["tooluse_2", "now", ""]);
    assert_eq!(out.finish, Some(("tool_calls", "tool_use".to_owned())));
    let usage = out.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (7, 5, 12));
}

#[test]
fn every_stop_reason_has_its_word() {
    for (native, expected) in [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("malformed_tool_use", "stop"),
        ("tool_use", "stop"),
        ("a_newer_one", "stop"),
    ] {
        let out = read_body(&whole(json!([{"text": "x"}]), native), None).unwrap();
        assert_eq!(out.finish, Some((expected, native.to_owned())));
    }
    let mut open = whole(json!([{"text": "x"}]), "end_turn");
    open.as_object_mut().unwrap().remove("stopReason");
    assert_eq!(read_body(&open, None).unwrap().finish, None, "never invented");
}

#[test]
fn what_amazon_runs_itself_is_not_the_clients_to_run() {
    let content = json!([
        {"toolUse": {"toolUseId": "t1", "name": "nova_grounding", "input": {"q": 1}, "type": "server_tool_use"}},
        {"toolResult": {"toolUseId": "t1", "content": [{"text": "[HIDDEN]"}], "type": "nova_grounding_result"}},
        {"text": "Found."},
        {"aNewKind": {"of": "block"}},
        {"reasoningContent": {}},
    ]);
    let out = read_body(&whole(content, "end_turn"), None).unwrap();
    assert_eq!((out.text.as_str(), out.calls.len(), out.reasoning.len()), ("Found.", 0, 0));
    assert_eq!(out.finish, Some(("stop", "end_turn".to_owned())));
}

#[test]
fn cache_reads_and_writes_are_part_of_the_prompt() {
    let mut body = whole(json!([{"text": "x"}]), "end_turn");
    body["usage"] = json!({"inputTokens": 3, "outputTokens": 121, "totalTokens": 2072, "cacheReadInputTokens": 1712,
        "cacheReadInputTokenCount": 1712, "cacheWriteInputTokens": 236, "cacheWriteInputTokenCount": 236,
        "cacheDetails": [{"ttl": "5m", "inputTokens": 200}, {"ttl": "1h", "inputTokens": 36}], "serverToolUsage": {}});
    let usage = read_body(&body, None).unwrap().usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (1951, 121, 2072));
    assert_eq!((usage.cached_tokens, usage.cache_write_tokens), (Some(1712), Some(236)));
    assert_eq!(usage.cache_write_1h_tokens, Some(36));
}

#[test]
fn citations_become_annotations_of_their_text() {
    let content = json!([
        {"text": "Staff "},
        {"citationsContent": {"content": [{"text": "get 20 days."}], "citations": [
            {"title": "policy", "location": {"documentPage": {"documentIndex": 0, "start": 2, "end": 3}},
             "sourceContent": [{"text": "20 days"}]},
            {"location": {"web": {"url": "https://example.org/a", "domain": "example.org"}}},
        ]}},
    ]);
    let out = read_body(&whole(content, "end_turn"), None).unwrap();
    assert_eq!(out.text, "Staff get 20 days.");
    assert_eq!(
        out.annotations,
        [
            json!({"type": "file_citation", "file_citation": {"filename": "policy", "index": 0, "start_page_number": 2,
            "end_page_number": 3, "start_index": 6, "end_index": 18, "content": "20 days"}}),
            json!({"type": "url_citation", "url_citation": {"url": "https://example.org/a", "title": "example.org",
            "start_index": 6, "end_index": 18}}),
        ]
    );
}

#[test]
fn the_answer_tools_input_is_the_text() {
    let content = json!([{"toolUse": {"toolUseId": "t", "name": "answer", "input": {"a": 1}}}]);
    let out = read_body(&whole(content, "tool_use"), Some("answer")).unwrap();
    assert_eq!((out.text.as_str(), out.calls.len()), (r#"{"a":1}"#, 0));
    assert_eq!(out.finish, Some(("stop", "tool_use".to_owned())));
    let empty = json!([{"toolUse": {"toolUseId": "t", "name": "answer", "input": {}}}]);
    assert_eq!(read_body(&whole(empty, "tool_use"), Some("answer")).unwrap().text, "{}");
}

#[test]
fn a_picture_is_passed_on() {
    let content = json!([{"image": {"format": "webp", "source": {"bytes": "UklG"}}}]);
    let out = read_body(&whole(content, "end_turn"), None).unwrap();
    assert_eq!(out.images, [["image/webp".to_owned(), "UklG".to_owned()]]);
}

/// A stream with text, thoughts and a call.
fn example() -> Vec<(&'static str, Value)> {
    vec![
        ("messageStart", json!({"p": "abc", "role": "assistant"})),
        (
            "contentBlockDelta",
            json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "h\u{e9}"}}, "p": "ab"}),
        ),
        ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "m"}}})),
        ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "sig"}}})),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        ("contentBlockDelta", json!({"contentBlockIndex": 1, "delta": {"text": "I \"call\""}})),
        ("contentBlockStop", json!({"contentBlockIndex": 1})),
        ("contentBlockStart", json!({"contentBlockIndex": 2, "start": {"toolUse": {"name": "w", "toolUseId": "t1"}}})),
        ("contentBlockDelta", json!({"contentBlockIndex": 2, "delta": {"toolUse": {"input": "{\"a\""}}})),
        ("contentBlockDelta", json!({"contentBlockIndex": 2, "delta": {"toolUse": {"input": ":1}"}}})),
        ("contentBlockStop", json!({"contentBlockIndex": 2})),
        ("anEventOfTomorrow", json!({"x": 1})),
        ("messageStop", json!({"stopReason": "tool_use"})),
        (
            "metadata",
            json!({"metrics": {"latencyMs": 1}, "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}}),
        ),
    ]
}

#[test]
fn a_stream_means_the_same_wherever_it_is_cut() {
    let stream = stream_of(&example());
    let whole = read_stream(&stream, stream.len(), None).unwrap();
    assert_eq!(whole.text, "I \"call\"");
    assert_eq!(whole.reasoning, [["h\u{e9}m".to_owned(), "sig".to_owned(), String::new()]]);
    assert_eq!(whole.calls, [["t1".to_owned(), "w".to_owned(), "{\"a\":1}".to_owned()]]);
    assert_eq!(whole.finish, Some(("tool_calls", "tool_use".to_owned())));
    assert_eq!(whole.usage.unwrap().total_tokens, 3);
    for at in 0..=stream.len() {
        let mut decoder = super::super::stream::Decoder::new(None);
        let mut out = Assembled::default();
        decoder.push(&stream[..at], &mut out).unwrap();
        let before = out.clone();
        decoder.push(&stream[at..], &mut out).unwrap();
        decoder.finish(End::Clean, &mut out).unwrap();
        assert_eq!(out, whole, "cut at {at}");
        // What came before the cut is a beginning, and without its end no answer.
        assert!(whole.text.starts_with(&before.text));
        let complete = before.finish.is_some();
        assert_eq!(complete, at >= stream.len() - framed_length(13), "cut at {at}");
    }
    for chunk in 1..40 {
        assert_eq!(read_stream(&stream, chunk, None).unwrap(), whole, "in pieces of {chunk}");
    }
}

/// The length of the events of [`example`] from this one on.
fn framed_length(from: usize) -> usize {
    stream_of(&example()[from..]).len()
}

#[test]
fn a_stream_that_ends_inside_a_message_is_broken_and_one_that_is_cut_is_only_short() {
    let stream = stream_of(&example());
    for at in [stream.len() - 1, stream.len() - 30, 5, 40] {
        let mut decoder = super::super::stream::Decoder::new(None);
        let mut out = Assembled::default();
        decoder.push(&stream[..at], &mut out).unwrap();
        assert!(decoder.finish(End::Cut, &mut out).is_ok());
        assert_eq!(decoder.finish(End::Clean, &mut out).unwrap_err().kind, FaultKind::Malformed);
    }
}

#[test]
fn exceptions_in_a_stream_are_faults_with_their_words() {
    for (kind, name, payload, expected) in [
        ("exception", "throttlingException", r#"{"message": "Too many tokens, please wait."}"#, FaultKind::RateLimited),
        ("exception", "internalServerException", r#"{"message": "x"}"#, FaultKind::ServerError),
        ("exception", "serviceUnavailableException", r#"{"message": "x"}"#, FaultKind::Overloaded),
        (
            "exception",
            "modelStreamErrorException",
            r#"{"message": "x", "originalStatusCode": 400, "originalMessage": "y"}"#,
            FaultKind::ServerError,
        ),
        (
            "exception",
            "validationException",
            r#"{"message": "Input is too long for requested model."}"#,
            FaultKind::ContextLength,
        ),
        ("exception", "validationException", r#"{"message": "no"}"#, FaultKind::BadRequest),
        ("exception", "somethingNew", "no JSON", FaultKind::ServerError),
        ("error", "InternalFailure", "", FaultKind::ServerError),
    ] {
        let mut stream = stream_of(&example()[..3]);
        stream.extend(match kind {
            "error" => error_message(name),
            kind => framed(kind, name, payload),
        });
        stream.extend(stream_of(&example()[4..]));
        let out = read_stream(&stream, 7, None).unwrap();
        let fault = out.error.unwrap();
        assert_eq!(fault.kind, expected, "{name}");
        assert_eq!(out.finish, None, "nothing follows an error");
        if payload.contains("please wait") {
            assert_eq!((&*fault.message, fault.code.as_deref()), ("Too many tokens, please wait.", Some(name)));
        }
    }
}

/// An error that is not of the model's making: it has a code and a message in its headers, and no type.
fn error_message(code: &str) -> Vec<u8> {
    use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
    let text = |text: &str| HeaderValue::String(text.to_owned().into());
    let message = Message::new(Vec::new())
        .add_header(Header::new(":message-type", text("error")))
        .add_header(Header::new(":error-code", text(code)))
        .add_header(Header::new(":error-message", text("it broke")));
    let mut bytes = Vec::new();
    aws_smithy_eventstream::frame::write_message_to(&message, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_no_answer_is_called_by_its_name() {
    let fault = |body: &[u8]| super::super::response::decode(body, None, &mut Assembled::default()).unwrap_err();
    assert_eq!(fault(b"").kind, FaultKind::Empty);
    assert_eq!(fault(b"<html>").kind, FaultKind::Malformed);
    assert_eq!(fault(b"{\"output\": {}}").kind, FaultKind::Malformed);
    let said = fault(
        br#"{"message": "The security token included in the request is expired", "__type": "ExpiredTokenException"}"#,
    );
    assert_eq!(said.kind, FaultKind::BadCredentials);
    let mut broken = stream_of(&example()[..2]);
    broken.extend(framed("event", "contentBlockDelta", "{not json"));
    assert_eq!(read_stream(&broken, 50, None).unwrap_err().kind, FaultKind::Malformed);
}

#[test]
fn the_header_says_what_kind_of_error_it_is() {
    let kind = |status, header: &'static str, message: &str| {
        let body = json!({ "message": message }).to_string();
        let find = |name: &str| (name == "x-amzn-errortype").then_some(header);
        crate::provider::classify(crate::dialect::table::Dialect::BedrockConverse, status, find, body.as_bytes(), 0)
            .kind
    };
    for (status, header, message, expected) in [
        (
            429,
            "ThrottlingException:http://x/",
            "Too many tokens, please wait before trying again.",
            FaultKind::RateLimited,
        ),
        (400, "ServiceQuotaExceededException", "over", FaultKind::QuotaExhausted),
        (
            403,
            "UnrecognizedClientException:http://x/",
            "The security token included in the request is invalid.",
            FaultKind::BadCredentials,
        ),
        (403, "InvalidSignatureException", "Signature expired: 2 is now earlier than 3", FaultKind::BadCredentials),
        (
            403,
            "AccessDeniedException",
            "You don't have access to the model with the specified model ID.",
            FaultKind::ModelNotFound,
        ),
        (400, "ValidationException", "The provided model identifier is invalid.", FaultKind::ModelNotFound),
        (
            400,
            "ValidationException",
            "Invocation of model ID m with on-demand throughput isn\u{2019}t supported.",
            FaultKind::ModelNotFound,
        ),
        (
            400,
            "ValidationException",
            "The model returned the following errors: Input Tokens Exceeded: Number of input tokens exceeds maximum length.",
            FaultKind::ContextLength,
        ),
        (400, "ValidationException", "messages.0: blank", FaultKind::BadRequest),
        (424, "ModelErrorException", "x", FaultKind::ServerError),
        (408, "ModelTimeoutException", "x", FaultKind::ServerError),
        (429, "ModelNotReadyException", "x", FaultKind::Overloaded),
        (503, "ServiceUnavailableException", "x", FaultKind::Overloaded),
        (404, "ResourceNotFoundException", "x", FaultKind::ModelNotFound),
    ] {
        assert_eq!(kind(status, header, message), expected, "{status} {header} {message}");
    }
}
