//! OpenAI's format as a provider speaks it to clients of other formats.

use super::*;
use crate::dialect::chat::{ModelTraits, Rendered};
use crate::dialect::client::Client;
use crate::dialect::event::{End, Event, ReasoningPiece};
use crate::dialect::openai_chat::quirks::Quirks;
use serde_json::{Value, json};

fn target(quirks: Quirks) -> ModelTraits {
    ModelTraits { model: "theirs".into(), quirks, ..ModelTraits::default() }
}

fn rendered(body: &Value, target: &ModelTraits) -> (Value, Rendered) {
    let request = Client::AnthropicMessages.parse(body.to_string().as_bytes()).unwrap();
    let rendered = request::render(&request, target).unwrap();
    (serde_json::from_slice(&rendered.body).unwrap(), rendered)
}

fn conversation() -> Value {
    json!({
        "model": "m", "max_tokens": 100, "stream": true, "temperature": 0.5, "stop_sequences": ["END"],
        "system": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two.", "cache_control": {"type": "ephemeral"}}],
        "thinking": {"type": "enabled", "budget_tokens": 4000},
        "tools": [{"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}],
        "tool_choice": {"type": "any"}, "metadata": {"user_id": "u"},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "orbyt:v1::0:"},
                {"type": "text", "text": "c"}, {"type": "text", "text": "d"},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "x"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [
                    {"type": "text", "text": "seen"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aVZC"}},
                ]},
                {"type": "text", "text": "and?"},
            ]},
        ],
    })
}

#[test]
fn a_conversation_in_openais_words() {
    let (body, rendered) = rendered(&conversation(), &target(Quirks::NONE));
    assert_eq!(
        body,
        json!({
            "model": "theirs", "stream": true, "stream_options": {"include_usage": true}, "max_completion_tokens": 100,
            "temperature": 0.5, "stop": ["END"], "user": "u", "reasoning_effort": "medium", "tool_choice": "required",
            "tools": [{"type": "function", "function": {"name": "look",
                "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}}],
            "messages": [
                {"role": "system", "content": "One.\n\nTwo."},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {"role": "assistant", "content": "cd", "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":\"x\"}"}}]},
                {"role": "tool", "tool_call_id": "t1", "content": "seen"},
                {"role": "user", "content": [
                    {"type": "text", "text": "What the tool call t1 gave besides its text:"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aVZC"}},
                    {"type": "text", "text": "and?"},
                ]},
            ],
        })
    );
    assert!(rendered.dropped.is_empty(), "{:?}", rendered.dropped);
}

#[test]
fn quirks_are_heeded() {
    let (body, _) = rendered(&conversation(), &target(Quirks::MAX_TOKENS | Quirks::NO_STREAM_OPTIONS));
    assert_eq!((&body["max_tokens"], body.get("stream_options")), (&json!(100), None));
    let (body, _) = rendered(&conversation(), &target(Quirks::ALL_TOLERANT));
    assert_eq!(body["max_tokens"], 100);
    let (body, _) = rendered(&conversation(), &target(Quirks::REPLAY_REASONING));
    assert_eq!(body["messages"][2]["reasoning_content"], "hm");
    let (body, _) = rendered(&conversation(), &target(Quirks::OPENROUTER_NATIVE));
    assert_eq!(body["reasoning"], json!({"max_tokens": 4000}));
    assert_eq!(body["messages"][0]["content"][1]["cache_control"], json!({"type": "ephemeral"}));
    assert_eq!(body["messages"][2]["reasoning_details"], json!([{"type": "reasoning.text", "text": "hm", "index": 0}]));
}

#[test]
fn a_route_more_is_no_deviation_from_openai() {
    let mut request = conversation();
    request["top_k"] = 5.into();
    let (body, told) = rendered(&request, &target(Quirks::RESPONSES | Quirks::COMPLETIONS));
    assert_eq!(body, rendered(&request, &target(Quirks::NONE)).0);
    assert!(body.get("max_completion_tokens").is_some() && told.dropped.contains(&"top_k".to_owned()), "{body}");
}

#[test]
fn what_is_lost_is_named_or_refused() {
    let mut body = conversation();
    body["top_k"] = 5.into();
    body["context_management"] = json!({"edits": []});
    let plain = ModelTraits { reasons: false, sampling: false, ..target(Quirks::NONE) };
    let (_, rendered) = rendered(&body, &plain);
    assert_eq!(rendered.dropped, ["temperature", "top_k", "reasoning", "context_management"]);
    let strict = ModelTraits { require_parameters: true, ..target(Quirks::NONE) };
    let request = Client::AnthropicMessages.parse(body.to_string().as_bytes()).unwrap();
    assert_eq!(request::render(&request, &strict).unwrap_err().param.as_deref(), Some("top_k"));
    let by_address = json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}}]}]});
    let request = Client::AnthropicMessages.parse(by_address.to_string().as_bytes()).unwrap();
    let fault = request::render(&request, &target(Quirks::NONE)).unwrap_err();
    assert_eq!(fault.param.as_deref(), Some("messages[0].content[0]"));
}

#[test]
fn documents_and_forms() {
    let (body, _) = rendered(
        &json!({"model": "m", "max_tokens": 5, "output_format": {"type": "json_schema", "schema": {"type": "object"}},
        "tools": [{"name": "a", "input_schema": {"type": "object"}, "strict": true}], "tool_choice": {"type": "tool", "name": "a"},
        "messages": [{"role": "user", "content": [
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0"}},
            {"type": "document", "title": "n", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
        ]}]}),
        &target(Quirks::NONE),
    );
    assert_eq!(
        body["messages"][0]["content"],
        json!([
            {"type": "file", "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBERi0"}},
            {"type": "text", "text": "n\n\nplain"},
        ])
    );
    let format = json!({"type": "json_schema", "json_schema": {"name": "response", "schema": {"type": "object"}, "strict": true}});
    assert_eq!(body["response_format"], format);
    assert_eq!(body["tool_choice"], json!({"type": "function", "function": {"name": "a"}}));
}

/// Each turn's body begins with the bytes of the one before, so that a prompt cache finds them.
#[test]
fn a_longer_conversation_has_the_same_beginning() {
    let short = conversation();
    let mut long = conversation();
    let more = json!([{"role": "assistant", "content": "e"}, {"role": "user", "content": "f"}]);
    long["messages"].as_array_mut().unwrap().extend(more.as_array().unwrap().clone());
    let (_, one) = rendered(&short, &target(Quirks::NONE));
    let (_, two) = rendered(&long, &target(Quirks::NONE));
    assert!(two.body.starts_with(&one.body[..one.body.len() - 2]));
}

/// A stream's events, written short.
fn decoded(stream: &str, pieces: usize) -> (Vec<String>, Result<(), crate::domain::FaultKind>) {
    decoded_of(stream, pieces, 1)
}

fn decoded_of(stream: &str, pieces: usize, choices: u32) -> (Vec<String>, Result<(), crate::domain::FaultKind>) {
    let mut decoder = stream::Decoder::new("chatcmpl-abc", choices);
    let mut got: Vec<String> = Vec::new();
    let mut sink = |event: Event<'_>| {
        let line = match event {
            Event::Start { id, model } => format!("start {id} {model}"),
            Event::Text { text, choice } => format!("text{choice} {text}"),
            Event::Refusal { text, .. } => format!("refusal {text}"),
            Event::Reasoning { delta, .. } => match delta.piece {
                ReasoningPiece::Text(text) => format!("thought {text}"),
                ReasoningPiece::Signature(text) => format!("signature {text}"),
                ReasoningPiece::Summary(text) => format!("summary {text}"),
                ReasoningPiece::Encrypted(text) => format!("encrypted {text}"),
            },
            Event::Call { index, id, name, .. } => format!("call{index} {id} {name}"),
            Event::Arguments { index, json, .. } => format!("arguments{index} {json}"),
            Event::Finish { reason, native, .. } => format!("finish {} {native}", reason.as_str()),
            Event::Usage(usage) => format!("usage {} {}", usage.prompt_tokens, usage.completion_tokens),
            Event::Error(fault) => format!("error {:?} {}", fault.kind, fault.message),
            Event::Annotation { value, .. } => format!("annotation {}", value["type"]),
            Event::Image { media_type, .. } => format!("image {media_type}"),
            Event::Logprobs { content, .. } => format!("logprobs {}", content.len()),
        };
        got.push(line);
    };
    let mut outcome = Ok(());
    for piece in stream.as_bytes().chunks(pieces) {
        outcome = outcome.and_then(|()| decoder.push(piece, &mut sink));
    }
    outcome = outcome.and_then(|()| decoder.finish(End::Clean, &mut sink));
    (got, outcome.map_err(|fault| fault.kind))
}

fn chunk(delta: &Value, finish: &Value) -> String {
    let value = json!({"id": "i", "model": "m", "object": "chat.completion.chunk",
                       "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    format!("data: {value}\n\n")
}

#[track_caller]
fn reads(stream: &str, expected: &[&str]) {
    for pieces in [1, 7, stream.len()] {
        let (got, outcome) = decoded(stream, pieces);
        assert_eq!(
            (got.iter().map(String::as_str).collect::<Vec<_>>(), outcome),
            (expected.to_vec(), Ok(())),
            "{pieces}"
        );
    }
}

#[test]
fn a_stream_of_text_thoughts_and_usage() {
    let stream = [
        "data: {\"id\":\"\",\"model\":\"\",\"choices\":[],\"prompt_filter_results\":[]}\n\n: keepalive\n\n".to_owned(),
        chunk(&json!({"role": "assistant", "content": "", "refusal": null}), &Value::Null),
        chunk(&json!({"reasoning_content": "h\"m", "content": null}), &Value::Null),
        chunk(&json!({"content": "a\n"}), &Value::Null),
        chunk(&json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}, {"type": "text", "text": "b"}]}), &Value::Null),
        chunk(&json!({}), &json!("stop")),
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n".to_owned(),
    ]
    .concat();
    let expected = ["start i m", "thought h\"m", "text0 a\n", "thought t", "text0 b", "finish stop stop", "usage 3 4"];
    reads(&stream, &expected);
}

#[test]
fn calls_in_every_form() {
    let stream = [
        chunk(&json!({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}), &Value::Null),
        chunk(&json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"x\":"}}]}), &Value::Null),
        chunk(&json!({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}), &Value::Null),
        // Neither index nor id, and the arguments as an object; then none at all.
        chunk(&json!({"tool_calls": [{"id": "", "function": {"name": "g", "arguments": {"y": 2}}}]}), &Value::Null),
        chunk(&json!({"tool_calls": [{"index": -1, "id": "c", "function": {"name": "h"}}]}), &json!("stop")),
    ]
    .concat();
    let expected = [
        "start i m",
        "call0 a f",
        "arguments0 {\"x\":",
        "arguments0 1}",
        "call1 call_abc_0_1 g",
        "arguments1 {\"y\":2}",
        "call2 c h",
        "arguments2 {}",
        "finish tool_calls stop",
    ];
    reads(&stream, &expected);
}

#[test]
fn details_of_openrouter() {
    let stream = [
        chunk(&json!({"reasoning": "x", "reasoning_details": [{"type": "reasoning.text", "text": "x", "index": 0}]}), &Value::Null),
        chunk(&json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": "e", "id": "c"}]}), &Value::Null),
        chunk(&json!({"content": "y", "annotations": [{"type": "url_citation"}], "images": [{"image_url": {"url": "data:image/png;base64,aVZC"}}]}), &json!("length")),
    ]
    .concat();
    let expected = [
        "start i m",
        "thought x",
        "encrypted e",
        "text0 y",
        "annotation \"url_citation\"",
        "image image/png",
        "finish length length",
    ];
    reads(&stream, &expected);
}

#[test]
fn errors_in_every_place() {
    for (stream, expected) in [
        ("data: {\"error\":{\"message\":\"m\",\"type\":\"server_error\"}}\n\n", "error ServerError m"),
        (
            "event: error\ndata: {\"message\":\"Rate limit reached\",\"type\":\"rate_limit_error\"}\n\n",
            "error RateLimited Rate limit reached",
        ),
        (
            "data: {\"choices\":[{\"index\":0,\"delta\":{},\"error\":{\"code\":502,\"message\":\"p\"}}]}\n\n",
            "error ServerError p",
        ),
        ("data: {\"object\":\"error\",\"message\":\"v\"}\n\n", "error ServerError v"),
        ("{\"error\":{\"message\":\"w\",\"type\":\"server_error\"}}", "error ServerError w"),
    ] {
        let after = format!(
            "{stream}{}",
            if stream.starts_with('{') { String::new() } else { chunk(&json!({"content": "late"}), &Value::Null) }
        );
        reads(&after, &[expected]);
    }
    let failed = chunk(&json!({"content": "a"}), &json!("error"));
    reads(&failed, &["start i m", "text0 a", "error ServerError the provider ended the answer with an error"]);
}

#[test]
fn what_is_no_stream() {
    for stream in ["<html>", "data: nonsense\n\n", "data: {\"a\":\n\n"] {
        assert_eq!(decoded(stream, 3).1, Err(crate::domain::FaultKind::Malformed), "{stream}");
    }
    let whole = json!({"id": "i", "model": "m", "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]});
    reads(&format!("\n\n  {whole}"), &["start i m", "text0 hi", "finish stop stop"]);
    // Events that only one line feed separates.
    let close = [chunk(&json!({"content": "a"}), &Value::Null), chunk(&json!({}), &json!("stop"))]
        .concat()
        .replace("}\n\n", "}\n")
        + "\n";
    reads(&close, &["start i m", "text0 a", "finish stop stop"]);
}

#[test]
fn a_stream_without_its_end_mark_has_every_choice_that_was_asked_for() {
    let choice = |index: u32| {
        let choices = json!([{"index": index, "delta": {"content": "x"}, "finish_reason": "stop"}]);
        format!("data: {}\n\n", json!({"id": "c", "model": "m", "choices": choices}))
    };
    let (one, both) = (choice(0), choice(0) + &choice(1));
    let outcome = |stream: &str, choices| decoded_of(stream, 7, choices).1;
    assert_eq!(outcome(&one, 1), Ok(()));
    assert_eq!(outcome(&one, 2), Err(crate::domain::FaultKind::Truncated));
    assert_eq!(outcome(&(one + "data: [DONE]\n\n"), 2), Ok(()), "it says itself that this is all");
    assert_eq!(outcome(&both, 2), Ok(()));
}

#[test]
fn a_choice_beyond_all_numbers_is_not_the_first() {
    for index in ["128", "4294967296", "99999999999999999999999999"] {
        let stream =
            format!("data: {{\"id\":\"c\",\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"x\"}}}}]}}\n\n");
        let (got, _) = decoded(&stream, 9);
        assert!(got.iter().all(|line| !line.starts_with("text")) && got[1].contains("Malformed"), "{index}: {got:?}");
    }
    for index in ["-1", "null", "\"0\""] {
        let stream =
            format!("data: {{\"id\":\"c\",\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"x\"}}}}]}}\n\n");
        assert_eq!(decoded(&stream, 9).0[1], "text0 x", "{index}");
    }
}
