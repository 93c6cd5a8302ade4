//! Answers: golden ones, streamed in every split and whole, and those that are wrong.

use super::{decode, events, read, read_every_way};
use crate::dialect::assembled::Assembled;
use crate::dialect::chat::ReasoningKind;
use crate::dialect::event::{End, FinishReason};
use crate::domain::{FaultKind, Usage};
use serde_json::{Value, json};

fn start() -> Value {
    let message = json!({"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []});
    json!({"type": "message-start", "id": "id-1", "delta": {"message": message}})
}

fn add(kind: &str, index: u64, message: Value) -> Value {
    json!({"type": kind, "index": index, "delta": {"message": message}})
}

fn end(reason: &str) -> Value {
    json!({"type": "message-end", "delta": {"finish_reason": reason, "usage": usage()}})
}

fn usage() -> Value {
    json!({"billed_units": {"input_tokens": 4, "output_tokens": 3.0}, "cached_tokens": 96,
           "tokens": {"input_tokens": 104, "output_tokens": 5, "reasoning_tokens": 2}})
}

fn counted() -> Option<Usage> {
    Some(Usage {
        prompt_tokens: 104,
        completion_tokens: 5,
        total_tokens: 109,
        cached_tokens: Some(96),
        reasoning_tokens: Some(2),
        billed_prompt_tokens: Some(4),
        billed_completion_tokens: Some(3),
        ..Usage::default()
    })
}

fn begun() -> Assembled {
    Assembled { start: Some(("id-1".into(), String::new())), ..Assembled::default() }
}

fn thought(text: &str) -> (ReasoningKind, String) {
    (ReasoningKind::Text { text: text.into(), signature: None }, "cohere-command-v2".into())
}

fn plan(text: &str) -> (ReasoningKind, String) {
    (ReasoningKind::Summary(text.into()), "cohere-command-v2".into())
}

fn call(id: &str, name: &str, arguments: &str) -> [String; 3] {
    [id, name, arguments].map(str::to_owned)
}

#[test]
fn thoughts_text_and_citations() {
    let cited = json!({"start": 4, "end": 9, "text": "größ", "type": "TEXT_CONTENT", "content_index": 2, "sources": [
        {"type": "document", "id": "d-1", "document": {"id": "d-1", "title": "Notes", "text": "…"}},
        {"type": "document", "id": "d-2", "document": {"id": "d-2", "url": "https://example.org", "title": "Site"}},
        {"type": "tool", "id": "call_1:0", "tool_output": {"content": "5"}},
    ]});
    let of_thoughts = json!({"start": 0, "end": 2, "text": "Hm", "type": "THINKING_CONTENT", "sources": [{"type": "tool", "id": "x"}]});
    let stream = events(&[
        start(),
        add("content-start", 0, json!({"content": {"type": "thinking", "thinking": ""}})),
        add("content-delta", 0, json!({"content": {"thinking": "Hm"}})),
        add("content-delta", 0, json!({"content": {"thinking": ", yes."}})),
        json!({"type": "content-end", "index": 0}),
        add("content-start", 1, json!({"content": {"type": "text", "text": ""}})),
        add("content-delta", 1, json!({"content": {"text": "Ja: "}})),
        json!({"type": "content-end", "index": 1}),
        add("content-start", 2, json!({"content": {"type": "text", "text": ""}})),
        add("content-delta", 2, json!({"content": {"text": "das \"gr"}})),
        add("content-delta", 2, json!({"content": {"text": "öß\u{1F30D}te\"."}})),
        add("citation-start", 0, json!({"citations": cited})),
        json!({"type": "citation-end", "index": 0}),
        add("citation-start", 1, json!({"citations": of_thoughts})),
        json!({"type": "content-end", "index": 2}),
        json!({"type": "debug", "prompt": "…"}),
        end("COMPLETE"),
    ]);
    let expected = Assembled {
        text: "Ja: das \"größ\u{1F30D}te\".".into(),
        reasoning: vec![thought("Hm, yes.")],
        annotations: vec![
            json!({"type": "file_citation", "file_citation":
                {"file_id": "d-1", "filename": "Notes", "start_index": 8, "end_index": 13}}),
            json!({"type": "url_citation", "url_citation":
                {"url": "https://example.org", "title": "Site", "start_index": 8, "end_index": 13}}),
            json!({"type": "file_citation", "file_citation":
                {"file_id": "call_1:0", "start_index": 8, "end_index": 13}}),
        ],
        finish: Some((FinishReason::Stop, "COMPLETE".into())),
        usage: counted(),
        ..begun()
    };
    assert_eq!(read_every_way(&stream, None), expected);
    let content = json!([{"type": "thinking", "thinking": "Hm, yes."}, {"type": "text", "text": "Ja: "},
                         {"type": "text", "text": "das \"größ\u{1F30D}te\"."}]);
    let body = json!({"id": "id-1", "finish_reason": "COMPLETE", "usage": usage(),
        "message": {"role": "assistant", "content": content, "citations": [cited, of_thoughts]}});
    assert_eq!(decode(&body.to_string(), None), (expected, Ok(())));
}

#[test]
fn a_plan_and_parallel_calls() {
    let begin = |index: u64, id: &str, name: &str| {
        let function = json!({"name": name, "arguments": ""});
        add("tool-call-start", index, json!({"tool_calls": {"id": id, "type": "function", "function": function}}))
    };
    let more = |index: u64, json: &str| {
        add("tool-call-delta", index, json!({"tool_calls": {"function": {"arguments": json}}}))
    };
    let stream = events(&[
        start(),
        json!({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will "}}}),
        json!({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "look."}}}),
        begin(0, "weather_1", "weather"),
        more(0, "{\"city\":"),
        more(0, "\"Bern\"}"),
        json!({"type": "tool-call-end", "index": 0}),
        begin(1, "", "now"),
        json!({"type": "tool-call-end", "index": 1}),
        end("TOOL_CALL"),
    ]);
    let mut expected = Assembled {
        reasoning: vec![plan("I will look.")],
        calls: vec![call("weather_1", "weather", "{\"city\":\"Bern\"}"), call("call_x_1", "now", "")],
        finish: Some((FinishReason::ToolCalls, "TOOL_CALL".into())),
        usage: counted(),
        ..begun()
    };
    assert_eq!(read_every_way(&stream, None), expected);
    let body = json!({"id": "id-1", "finish_reason": "TOOL_CALL", "usage": usage(), "message": {"role": "assistant",
        "tool_plan": "I will look.", "tool_calls": [
            {"id": "weather_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Bern\"}"}},
            {"type": "function", "function": {"name": "now", "arguments": "{}"}}]}});
    expected.calls[1][2] = "{}".into();
    assert_eq!(decode(&body.to_string(), None), (expected, Ok(())));
}

#[test]
fn the_answer_tools_arguments_are_the_text() {
    let function = json!({"name": "final_answer", "arguments": ""});
    let stream = events(&[
        start(),
        add("tool-call-start", 0, json!({"tool_calls": {"id": "f_1", "type": "function", "function": function}})),
        add("tool-call-delta", 0, json!({"tool_calls": {"function": {"arguments": "{\"n\":4}"}}})),
        end("TOOL_CALL"),
    ]);
    let answer = read_every_way(&stream, Some("final_answer"));
    assert_eq!((answer.text.as_str(), answer.calls.len()), ("{\"n\":4}", 0));
    assert_eq!(answer.finish, Some((FinishReason::Stop, "TOOL_CALL".into())));
}

#[test]
fn every_word_for_the_end() {
    for (native, expected) in [
        ("COMPLETE", FinishReason::Stop),
        ("STOP_SEQUENCE", FinishReason::Stop),
        ("MAX_TOKENS", FinishReason::Length),
        ("ERROR_TOXIC", FinishReason::ContentFilter),
        ("SOMETHING_NEW", FinishReason::Stop),
    ] {
        let answer = read_every_way(&events(&[start(), end(native)]), None);
        assert_eq!(answer.finish, Some((expected, native.into())));
    }
    let unsaid = read_every_way(&events(&[start()]), None);
    assert_eq!(unsaid.finish, None, "an end is never invented");
}

#[test]
fn what_cohere_adds_to_a_prompt_is_billed_only_where_it_says_so() {
    let only_billed = json!({"id": "id-1", "finish_reason": "COMPLETE", "message": {"content": "Hi."},
        "usage": {"billed_units": {"input_tokens": 4, "output_tokens": 3}}});
    let (answer, _) = decode(&only_billed.to_string(), None);
    let usage = answer.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.billed_prompt_tokens, usage.cached_tokens), (4, Some(4), None));
    assert_eq!(answer.text, "Hi.", "a text in place of a list is read");
    let nothing = json!({"id": "id-1", "finish_reason": "COMPLETE", "message": {"content": []}, "usage": {}});
    assert_eq!(decode(&nothing.to_string(), None).0.usage, None);
}

#[test]
fn a_failure_in_the_middle_is_an_error_and_no_end() {
    let failed = |error_type: Option<&str>| {
        let delta = json!({"finish_reason": "ERROR", "usage": {}, "error": "it broke", "error_type": error_type});
        let text = add("content-delta", 0, json!({"content": {"text": "Once"}}));
        read_every_way(&events(&[start(), text, json!({"type": "message-end", "delta": delta})]), None)
    };
    for (error_type, kind) in [
        (None, FaultKind::ServerError),
        (Some("INVALID_TOOL_GENERATION"), FaultKind::Malformed),
        (Some("TOO_MANY_TOKENS"), FaultKind::ContextLength),
    ] {
        let answer = failed(error_type);
        assert_eq!((answer.text.as_str(), &answer.finish), ("Once", &None));
        let fault = answer.error.unwrap();
        assert_eq!((fault.kind, fault.message.as_ref()), (kind, "it broke"), "{error_type:?}");
    }
    let late = read_every_way(
        &events(&[start(), json!({"type": "message-end", "delta": {"finish_reason": "TIMEOUT"}})]),
        None,
    );
    assert_eq!(late.error.unwrap().status, Some(504));
}

#[test]
fn errors_that_are_no_events() {
    let bare = "data: {\"id\": \"1\", \"message\": \"internal server error\"}\n\n";
    assert_eq!(read_every_way(bare, None).error.unwrap().message, "internal server error");
    for body in ["{\"message\": \"internal server error\"}", "{\"id\": 1, \"message\": \"internal server error\"}"] {
        let (_, outcome) = decode(body, None);
        assert_eq!(outcome.unwrap_err().kind, FaultKind::ServerError, "{body}");
        let (_, streamed) = read([body.as_bytes()], End::Clean, None);
        assert_eq!(streamed.unwrap_err().kind, FaultKind::ServerError, "{body}");
    }
}

#[test]
fn what_is_no_answer_is_refused() {
    for (body, kind) in [
        ("", FaultKind::Empty),
        ("  \n", FaultKind::Empty),
        ("<html>", FaultKind::Malformed),
        ("{}", FaultKind::Malformed),
        ("[]", FaultKind::Malformed),
        ("{\"message\": {\"content\": [5]}}", FaultKind::Malformed),
        ("{\"message\": {\"tool_calls\": [{}]}}", FaultKind::Malformed),
        ("{\"message\": {\"content\"", FaultKind::Malformed),
    ] {
        assert_eq!(decode(body, None).1.unwrap_err().kind, kind, "{body}");
    }
    for stream in [
        "data: {\"type\": \"content-delta\", \"delta\": 5}\n\n",
        "data: nonsense\n\n",
        "<html>\n\n",
        "event: message-end\ndata: {\"delta\": []}\n\n",
    ] {
        let (_, outcome) = read([stream.as_bytes()], End::Clean, None);
        assert_eq!(outcome.unwrap_err().kind, FaultKind::Malformed, "{stream}");
    }
}

#[test]
fn strange_events_are_passed_over() {
    let stream = events(&[
        json!({"type": "message-start", "id": "id-1", "delta": {"message": {"content": [{"type": "text"}]}}}),
        json!({"type": "something-new", "delta": [1, 2]}),
        add("tool-call-delta", 7, json!({"tool_calls": {"function": {"arguments": "{}"}}})),
        add("content-delta", 0, json!({"content": {"text": "Yes"}})),
        add("citation-start", 0, json!({"citations": {"sources": "none"}})),
        end("COMPLETE"),
        add("content-delta", 0, json!({"content": {"text": "too late"}})),
    ]);
    let answer = read_every_way(&stream, None);
    assert_eq!((answer.text.as_str(), answer.calls.len(), answer.annotations.len()), ("Yes", 0, 0));
}

#[test]
fn log_probabilities_are_those_of_the_pieces() {
    let item = json!({"text": "Yes", "token_ids": [1, 2], "logprobs": [-0.5, -0.25]});
    let mut piece = add("content-delta", 0, json!({"content": {"text": "Yes"}}));
    piece["logprobs"] = item.clone();
    let streamed = read_every_way(&events(&[start(), piece, end("COMPLETE")]), None);
    let body = json!({"id": "id-1", "finish_reason": "COMPLETE", "usage": usage(), "logprobs": [item],
        "message": {"content": [{"type": "text", "text": "Yes"}]}});
    assert_eq!(decode(&body.to_string(), None).0, streamed);
    let expected = json!({"token": "Yes", "logprob": -0.75, "bytes": [89, 101, 115], "top_logprobs": []});
    assert_eq!(streamed.logprobs, [expected]);
}

#[test]
fn a_cut_stream_has_no_end() {
    let whole = events(&[start(), add("content-delta", 0, json!({"content": {"text": "Yes"}})), end("COMPLETE")]);
    let complete = whole.find("event: message-end").unwrap();
    for at in 0..complete {
        let (answer, outcome) = read([&whole.as_bytes()[..at]], End::Cut, None);
        assert_eq!((answer.finish, outcome), (None, Ok(())), "cut at {at}");
    }
}
