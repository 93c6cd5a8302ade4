//! Answers: each fixture is a stream, the same answer whole, and what both mean.

use super::{Assembled, read_body, read_stream};
use crate::dialect::anthropic_messages::stream::Decoder;
use crate::dialect::event::End;
use crate::domain::{FaultKind, Usage};
use serde_json::{Value, json};

/// Writes events as Anthropic frames them, with a ping after the first.
fn stream(events: &[Value]) -> String {
    let mut out = String::new();
    for (at, event) in events.iter().enumerate() {
        out += &format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
        if at == 0 {
            out += "event: ping\ndata: {\"type\": \"ping\"}\n\n";
        }
    }
    out
}

fn start() -> Value {
    json!({"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test", "content": [], "stop_reason": null,
        "usage": {"input_tokens": 10, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 1}}})
}

fn open(index: u32, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn delta(index: u32, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn text(index: u32, text: &str) -> Value {
    delta(index, json!({"type": "text_delta", "text": text}))
}

fn input(index: u32, piece: &str) -> Value {
    delta(index, json!({"type": "input_json_delta", "partial_json": piece}))
}

fn close(index: u32) -> Value {
    json!({"type": "content_block_stop", "index": index})
}

fn stop(reason: &str) -> [Value; 2] {
    [
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 20}}),
        json!({"type": "message_stop"}),
    ]
}

fn events(blocks: &[Value], reason: &str) -> String {
    stream(&[&[start()], blocks, &stop(reason)].concat())
}

fn whole(content: Value, reason: &str) -> String {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test", "content": content,
        "stop_reason": reason, "stop_sequence": null,
        "usage": {"input_tokens": 10, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 20}})
    .to_string()
}

fn expected(reason: &'static str, native: &str) -> Assembled {
    Assembled {
        start: Some(("msg_1".into(), "claude-test".into())),
        finish: Some((reason, native.into())),
        usage: Some(Usage {
            prompt_tokens: 18,
            completion_tokens: 20,
            total_tokens: 38,
            cached_tokens: Some(5),
            cache_write_tokens: Some(3),
            ..Usage::default()
        }),
        ..Assembled::default()
    }
}

/// Reads the stream whole, cut in two at every byte, in single bytes and with CRLF, then the body; all must mean the
/// same.
fn check(stream: &str, body: &str, answer_tool: Option<&str>, expected: &Assembled) {
    assert_eq!(&read_stream(stream, stream.len(), answer_tool).unwrap(), expected, "whole");
    assert_eq!(&read_stream(stream, 1, answer_tool).unwrap(), expected, "in single bytes");
    let crlf = stream.replace('\n', "\r\n");
    assert_eq!(&read_stream(&crlf, 1, answer_tool).unwrap(), expected, "with CRLF");
    for at in 0..stream.len() {
        let mut decoder = Decoder::new(answer_tool.map(str::to_owned));
        let mut out = Assembled::default();
        decoder.push(&stream.as_bytes()[..at], &mut out).unwrap();
        decoder.push(&stream.as_bytes()[at..], &mut out).unwrap();
        decoder.finish(End::Clean, &mut out).unwrap();
        assert_eq!(&out, expected, "cut at {at}");
    }
    assert_eq!(&read_body(body, answer_tool).unwrap(), expected, "not streamed");
}

#[test]
fn text_of_all_blocks_is_joined() {
    let stream = events(
        &[
            open(0, json!({"type": "text", "text": ""})),
            text(0, "Grüße, "),
            text(0, "\"Welt\" 🌍\n"),
            close(0),
            open(1, json!({"type": "text", "text": "again"})),
            close(1),
        ],
        "end_turn",
    );
    let body =
        whole(json!([{"type": "text", "text": "Grüße, \"Welt\" 🌍\n"}, {"type": "text", "text": "again"}]), "end_turn");
    let text = "Grüße, \"Welt\" 🌍\nagain".into();
    check(&stream, &body, None, &Assembled { text, ..expected("stop", "end_turn") });
}

#[test]
fn thoughts_keep_their_signatures() {
    let stream = events(
        &[
            open(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            delta(0, json!({"type": "thinking_delta", "thinking": "first "})),
            delta(0, json!({"type": "thinking_delta", "thinking": "thought"})),
            delta(0, json!({"type": "signature_delta", "signature": "c2ln/+=="})),
            close(0),
            open(1, json!({"type": "redacted_thinking", "data": "ZW5j"})),
            close(1),
            open(2, json!({"type": "thinking", "thinking": "", "signature": ""})),
            delta(2, json!({"type": "signature_delta", "signature": "b25seQ=="})),
            close(2),
            open(3, json!({"type": "text", "text": ""})),
            text(3, "done"),
            close(3),
        ],
        "end_turn",
    );
    let body = whole(
        json!([
            {"type": "thinking", "thinking": "first thought", "signature": "c2ln/+=="},
            {"type": "redacted_thinking", "data": "ZW5j"},
            {"type": "thinking", "thinking": "", "signature": "b25seQ=="},
            {"type": "text", "text": "done"},
        ]),
        "end_turn",
    );
    let reasoning = vec![
        ["first thought".into(), "c2ln/+==".into(), String::new()],
        [String::new(), String::new(), "ZW5j".into()],
        [String::new(), "b25seQ==".into(), String::new()],
    ];
    check(&stream, &body, None, &Assembled { reasoning, text: "done".into(), ..expected("stop", "end_turn") });
}

#[test]
fn parallel_calls_keep_order_and_arguments_even_when_identical() {
    let call = |id: &str, name: &str| json!({"type": "tool_use", "id": id, "name": name, "input": {}});
    let stream = events(
        &[
            open(0, json!({"type": "text", "text": ""})),
            text(0, "Looking."),
            close(0),
            open(1, call("toolu_a", "look")),
            input(1, ""),
            input(1, "{\"b\":\"x\","),
            input(1, "\"a\":[1.50]}"),
            close(1),
            open(2, call("toolu_b", "look")),
            input(2, "{\"b\":\"x\",\"a\":[1.50]}"),
            close(2),
            open(3, call("toolu_c", "now")),
            input(3, ""),
            close(3),
        ],
        "tool_use",
    );
    let body = whole(Value::Null, "tool_use").replace(
        "\"content\":null",
        "\"content\":[{\"type\":\"text\",\"text\":\"Looking.\"},\
         {\"type\":\"tool_use\",\"id\":\"toolu_a\",\"name\":\"look\",\"input\":{\"b\":\"x\",\"a\":[1.50]}},\
         {\"input\":{\"b\":\"x\",\"a\":[1.50]},\"type\":\"tool_use\",\"id\":\"toolu_b\",\"name\":\"look\"},\
         {\"type\":\"tool_use\",\"id\":\"toolu_c\",\"name\":\"now\",\"input\":{}}]",
    );
    let calls = vec![
        ["toolu_a".into(), "look".into(), "{\"b\":\"x\",\"a\":[1.50]}".into()],
        ["toolu_b".into(), "look".into(), "{\"b\":\"x\",\"a\":[1.50]}".into()],
        ["toolu_c".into(), "now".into(), String::new()],
    ];
    check(&stream, &body, None, &Assembled { text: "Looking.".into(), calls, ..expected("tool_calls", "tool_use") });
}

#[test]
fn an_input_that_comes_with_the_head_of_its_block_is_not_lost() {
    let call = json!({"type": "tool_use", "id": "toolu_a", "name": "look", "input": {"at": "sky"}});
    let closed = events(&[open(0, call.clone()), close(0)], "tool_use");
    let left_open = events(&[open(0, call.clone())], "tool_use");
    let calls = vec![["toolu_a".into(), "look".into(), "{\"at\":\"sky\"}".into()]];
    let expected = Assembled { calls, ..expected("tool_calls", "tool_use") };
    check(&closed, &whole(json!([call]), "tool_use"), None, &expected);
    check(&left_open, &whole(json!([call]), "tool_use"), None, &expected);
}

#[test]
fn tools_that_the_provider_ran_are_not_calls() {
    let blocks = json!([
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "sky"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"type": "web_search_result"}]},
        {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "echo", "server_name": "s", "input": {"a": 1}},
        {"type": "a_block_from_the_future", "text": {"not": "text"}},
        {"type": "text", "text": "It is blue."},
    ]);
    let mut parts = Vec::new();
    for (index, block) in (0..).zip(blocks.as_array().unwrap()) {
        parts.push(open(index, block.clone()));
        if block["type"] == "server_tool_use" {
            parts.push(input(index, "{\"query\":"));
        }
        parts.push(delta(index, json!({"type": "a_delta_from_the_future", "text": ["?"]})));
        parts.push(close(index));
        parts.push(json!({"type": "an_event_from_the_future", "index": "not a number"}));
    }
    let expected = Assembled { text: "It is blue.".into(), ..expected("stop", "end_turn") };
    check(&events(&parts, "end_turn"), &whole(blocks, "end_turn"), None, &expected);
}

#[test]
fn citations_become_annotations_of_the_text_they_stand_by() {
    let web = json!({"type": "web_search_result_location", "url": "https://example.org/sky", "title": "Sky",
        "encrypted_index": "x", "cited_text": "The sky is blue."});
    let page = json!({"type": "page_location", "document_index": 0, "document_title": "Sky.pdf", "cited_text": "blue",
        "start_page_number": 1, "end_page_number": 2});
    let stream = events(
        &[
            open(0, json!({"type": "text", "text": ""})),
            text(0, "Só: "),
            close(0),
            open(1, json!({"type": "text", "text": "", "citations": []})),
            delta(1, json!({"type": "citations_delta", "citation": web})),
            text(1, "it is "),
            delta(1, json!({"type": "citations_delta", "citation": page})),
            text(1, "blue"),
            close(1),
        ],
        "end_turn",
    );
    let body = whole(
        json!([{"type": "text", "text": "Só: ", "citations": null}, {"type": "text", "text": "it is blue", "citations": [web, page]}]),
        "end_turn",
    );
    let annotations = vec![
        json!({"type": "url_citation", "url_citation": {"url": "https://example.org/sky", "title": "Sky",
            "start_index": 4, "end_index": 14, "content": "The sky is blue."}}),
        json!({"type": "file_citation", "file_citation": {"filename": "Sky.pdf", "index": 0, "start_page_number": 1,
            "end_page_number": 2, "start_index": 4, "end_index": 14, "content": "blue"}}),
    ];
    let text = "Só: it is blue".into();
    check(&stream, &body, None, &Assembled { text, annotations, ..expected("stop", "end_turn") });
}

#[test]
fn every_stop_reason_has_openais_word_and_keeps_its_own() {
    for (native, reason) in [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("a_reason_from_the_future", "stop"),
    ] {
        let stream = events(&[open(0, json!({"type": "text", "text": ""})), text(0, "hm"), close(0)], native);
        let body = whole(json!([{"type": "text", "text": "hm"}]), native);
        check(&stream, &body, None, &Assembled { text: "hm".into(), ..expected(reason, native) });
    }
}

#[test]
fn stop_beside_a_call_means_tool_calls() {
    let call = json!({"type": "tool_use", "id": "toolu_a", "name": "look", "input": {"a": 1}});
    let out = read_body(&whole(json!([call]), "end_turn"), None).unwrap();
    assert_eq!(out.finish, Some(("tool_calls", "end_turn".into())));
    let out = read_body(&whole(json!([call]), "max_tokens"), None).unwrap();
    assert_eq!(out.finish, Some(("length", "max_tokens".into())));
}

#[test]
fn the_explanation_of_a_refusal_is_the_refusal() {
    let details = json!({"type": "refusal", "category": "bio", "explanation": "Not this."});
    let stream = stream(&[
        start(),
        json!({"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": details}, "usage": {"output_tokens": 20}}),
    ]);
    let body = whole(json!([]), "refusal").replace("\"stop_sequence\":null", &format!("\"stop_details\":{details}"));
    let refusal = "Not this.".into();
    check(&stream, &body, None, &Assembled { refusal, ..expected("content_filter", "refusal") });
}

#[test]
fn later_counts_replace_earlier_ones() {
    let stream = stream(&[
        start(),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {
            "input_tokens": 100, "cache_read_input_tokens": 0, "cache_creation_input_tokens": null, "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": 4}}}),
    ]);
    let usage = read_stream(&stream, 1, None).unwrap().usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (103, 7, 110));
    assert_eq!((usage.cached_tokens, usage.cache_write_tokens, usage.reasoning_tokens), (Some(0), Some(3), Some(4)));
}

#[test]
fn the_answer_tool_becomes_text() {
    let call = json!({"type": "tool_use", "id": "toolu_a", "name": "city", "input": {}});
    let stream = events(&[open(0, call), input(0, "{\"name\":"), input(0, "\"Åbo\"}"), close(0)], "tool_use");
    let body =
        whole(json!([{"type": "tool_use", "id": "toolu_a", "name": "city", "input": {"name": "Åbo"}}]), "tool_use");
    let text = "{\"name\":\"Åbo\"}".into();
    check(&stream, &body, Some("city"), &Assembled { text, ..expected("stop", "tool_use") });
}

#[test]
fn the_answer_tool_without_input_is_an_empty_object() {
    let call = json!({"type": "tool_use", "id": "toolu_a", "name": "city", "input": {}});
    let expected = Assembled { text: "{}".into(), ..expected("stop", "tool_use") };
    check(
        &events(&[open(0, call.clone()), close(0)], "tool_use"),
        &whole(json!([call]), "tool_use"),
        Some("city"),
        &expected,
    );
}

#[test]
fn a_call_beside_the_answer_tool_is_still_a_call() {
    let content = json!([
        {"type": "tool_use", "id": "toolu_a", "name": "look", "input": {"at": 1}},
        {"type": "tool_use", "id": "toolu_b", "name": "city", "input": {"name": "Rom"}},
    ]);
    let out = read_body(&whole(content, "tool_use"), Some("city")).unwrap();
    assert_eq!(out.text, "{\"name\":\"Rom\"}");
    assert_eq!(out.calls, [["toolu_a", "look", "{\"at\":1}"].map(str::to_owned)]);
    assert_eq!(out.finish, Some(("tool_calls", "tool_use".into())));
}

#[test]
fn an_error_event_ends_the_stream_as_the_fault_it_names() {
    for (kind, status, fault) in [
        ("overloaded_error", 529, FaultKind::Overloaded),
        ("rate_limit_error", 429, FaultKind::RateLimited),
        ("api_error", 500, FaultKind::ServerError),
    ] {
        let error = json!({"type": "error", "error": {"type": kind, "message": "Sorry"}, "request_id": "req_1"});
        for before in [vec![], vec![start()], vec![start(), open(0, json!({"type": "text", "text": "a"}))]] {
            let stream = stream(&[&before[..], std::slice::from_ref(&error), &stop("end_turn")].concat());
            let out = read_stream(&stream, 1, None).unwrap();
            let found = out.error.unwrap();
            assert_eq!((found.kind, found.status, &*found.message), (fault, Some(status), "Sorry"));
            assert_eq!(out.finish, None);
        }
    }
}

#[test]
fn a_missing_end_is_not_made_up() {
    let full = events(&[open(0, json!({"type": "text", "text": "a"})), close(0)], "end_turn");
    let without = &full[..full.find("event: message_delta").unwrap()];
    assert_eq!(read_stream(without, 9, None).unwrap().finish, None);
    let cut = &full[..full.find("message_delta").unwrap() + 40];
    let mut decoder = Decoder::new(None);
    let mut out = Assembled::default();
    decoder.push(cut.as_bytes(), &mut out).unwrap();
    decoder.finish(End::Cut, &mut out).unwrap();
    assert_eq!(out.finish, None);
    let body = whole(json!([{"type": "text", "text": "a"}]), "end_turn").replace("\"end_turn\"", "null");
    assert_eq!(read_body(&body, None).unwrap().finish, None);
}

#[test]
fn nothing_but_counts_follows_a_stop_reason() {
    let [stop, end] = stop("end_turn");
    let late = json!({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 21}});
    let text = [open(0, json!({"type": "text", "text": "a"})), text(0, "b"), close(0)];
    let stream = stream(&[&[start()], &text[..], &[stop], &text[..], &[late, end]].concat());
    let out = read_stream(&stream, 3, None).unwrap();
    assert_eq!((&*out.text, out.finish), ("ab", Some(("stop", "end_turn".into()))));
    assert_eq!(out.usage.unwrap().completion_tokens, 21);
}

#[test]
fn message_stop_is_not_needed() {
    let full = events(&[open(0, json!({"type": "text", "text": "a"})), close(0)], "end_turn");
    let without = &full[..full.find("event: message_stop").unwrap()];
    assert_eq!(read_stream(without, 3, None).unwrap().finish, Some(("stop", "end_turn".into())));
    assert_eq!(read_stream(without.trim_end(), 3, None).unwrap().finish, Some(("stop", "end_turn".into())));
}

#[test]
fn broken_events_are_malformed() {
    for bad in [
        "data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":5}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":5}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_de\n\n",
        "data: hello\n\n",
        "<html><body>Bad gateway</body></html>\n\n",
    ] {
        let fault = read_stream(bad, 1, None).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Malformed, "{bad}");
    }
}

#[test]
fn a_whole_answer_in_place_of_a_stream_is_read() {
    let body = whole(json!([{"type": "text", "text": "hi"}]), "end_turn");
    let out = read_stream(&body, 5, None).unwrap();
    assert_eq!(out, Assembled { text: "hi".into(), ..expected("stop", "end_turn") });
    let error = "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}";
    assert_eq!(read_stream(error, 5, None).unwrap_err().kind, FaultKind::Overloaded);
}

#[test]
fn bodies_that_are_no_message_are_faults() {
    for (body, kind) in [
        ("", FaultKind::Empty),
        ("  \n", FaultKind::Empty),
        ("<html></html>", FaultKind::Malformed),
        ("{\"type\":\"message\",\"content\":[{\"type\":\"te", FaultKind::Malformed),
        ("{\"hello\":1}", FaultKind::Malformed),
        ("[]", FaultKind::Malformed),
        ("{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}", FaultKind::Overloaded),
        ("{\"error\":{\"type\":\"authentication_error\",\"message\":\"m\"}}", FaultKind::BadCredentials),
    ] {
        assert_eq!(read_body(body, None).unwrap_err().kind, kind, "{body:?}");
    }
}
