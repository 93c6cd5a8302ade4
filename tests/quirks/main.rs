//! What real providers do with their formats, and what clients of every format get of it: each quirk that recorded traffic has shown, in words of
//! our own, told to each client; cut at random and with either line end.

#[path = "../answers/mod.rs"]
mod answers;
mod providers;

use answers::{put_together, read};
use orbyt::dialect::client::Client;
use orbyt::dialect::event::End;
use orbyt::dialect::openai_chat::quirks::Quirks;
use orbyt::dialect::openai_responses;
use orbyt::dialect::table::{Dialect, Setup, Translator};
use orbyt::domain::Fault;
use providers::{failures, quirks};
use serde_json::Value;
use std::sync::Arc;

fn setup(client: Client, provider: Dialect, stream: bool) -> Setup {
    let asked = openai_responses::request::parse(br#"{"model":"m","input":"x"}"#, None).unwrap().asked;
    Setup {
        client,
        provider,
        stream,
        array: false,
        choices: 1,
        include_usage: stream,
        exclude_reasoning: false,
        input_tokens: 0,
        id: "answer-1".into(),
        created: 7,
        model: "m".into(),
        answer_tool: None,
        quirks: Quirks::ALL_TOLERANT,
        asked: Some(Arc::new(asked)),
    }
}

/// What a client gets, and the fault that cut it short.
fn translated(setup: Setup, body: &[u8], size: usize) -> (Vec<u8>, Option<Fault>) {
    let (mut translator, mut out) = (Translator::new(setup), Vec::new());
    let pushed = body.chunks(size).try_for_each(|piece| translator.push(piece, &mut out));
    let ended = pushed.and_then(|()| translator.finish(End::Clean, &mut out));
    let fault = ended.err();
    if let Some(fault) = &fault {
        translator.break_off(fault, &mut out);
    }
    (out, fault)
}

/// What a client got, in words that all formats share: text, thoughts, calls, finish.
fn told(client: Client, events: &[Value]) -> (String, String, Vec<(String, Value)>, String) {
    let answer = put_together(client, events);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let join = |texts: Vec<&Value>| texts.iter().filter_map(|text| text.as_str()).collect::<String>();
    let parsed = |text: &Value| serde_json::from_str(text.as_str().unwrap()).unwrap_or_else(|_| panic!("{text}"));
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    match client {
        Client::OpenAiChat | Client::OpenAiCompletions => {
            let calls = list(&answer[1]).iter().map(|call| (name(call), parsed(&call["arguments"]))).collect();
            let member = |name: &str| answer[0][name].as_str().unwrap_or_default().to_owned();
            (member("content"), member("reasoning_content"), calls, member("finish"))
        }
        Client::AnthropicMessages => {
            let blocks = list(&answer[0]);
            let of = |kind: &str, member: &str| {
                join(blocks.iter().filter(|block| block["type"] == kind).map(|block| &block[member]).collect())
            };
            let calls = blocks.iter().filter(|block| block["type"] == "tool_use");
            let finish = match answer[1].as_str().unwrap() {
                "end_turn" | "pause_turn" => "stop",
                "max_tokens" => "length",
                "tool_use" => "tool_calls",
                "refusal" => "content_filter",
                other => other,
            };
            (
                of("text", "text"),
                of("thinking", "thinking"),
                calls.map(|call| (name(call), call["input"].clone())).collect(),
                finish.to_owned(),
            )
        }
        Client::OpenAiResponses => {
            let items = list(&answer[0]);
            let parts = |kind: &str, member: &str| -> Vec<Value> {
                items.iter().filter(|item| item["type"] == kind).flat_map(|item| list(&item[member])).collect()
            };
            let texts = |parts: Vec<Value>| join(parts.iter().map(|part| &part["text"]).collect());
            let calls: Vec<_> = items
                .iter()
                .filter(|item| item["type"] == "function_call")
                .map(|call| (name(call), parsed(&call["arguments"])))
                .collect();
            let finish = match answer[2]["reason"].as_str() {
                Some("max_output_tokens") => "length",
                Some(other) => other,
                None if calls.is_empty() => "stop",
                None => "tool_calls",
            };
            let thoughts = [parts("reasoning", "content"), parts("reasoning", "summary")].concat();
            (texts(parts("message", "content")), texts(thoughts), calls, finish.to_owned())
        }
        Client::Gemini => {
            let parts = list(&answer[0]);
            let texts = |thought: bool| {
                join(
                    parts
                        .iter()
                        .filter(|part| (part["thought"] == true) == thought)
                        .map(|part| &part["text"])
                        .collect(),
                )
            };
            let calls: Vec<_> = (parts.iter().map(|part| &part["functionCall"]).filter(|call| call.is_object()))
                .map(|call| (name(call), call["args"].clone()))
                .collect();
            let finish = match answer[1].as_str().unwrap() {
                "MAX_TOKENS" => "length",
                "SAFETY" => "content_filter",
                _ if calls.is_empty() => "stop",
                _ => "tool_calls",
            };
            (texts(false), texts(true), calls, finish.to_owned())
        }
    }
}

/// The output tokens that a client was told of.
fn tokens(client: Client, events: &[Value]) -> Option<u64> {
    let of = |event: &Value| match client {
        // Passed through, it stands where the provider has put it.
        Client::OpenAiChat | Client::OpenAiCompletions => {
            [&event["usage"], &event["x_groq"]["usage"]].iter().find_map(|usage| usage["completion_tokens"].as_u64())
        }
        Client::AnthropicMessages => event["usage"]["output_tokens"].as_u64(),
        Client::OpenAiResponses => {
            event["response"]["usage"]["output_tokens"].as_u64().or(event["usage"]["output_tokens"].as_u64())
        }
        Client::Gemini => event["usageMetadata"]["candidatesTokenCount"].as_u64(),
    };
    events.iter().filter_map(of).next_back()
}

#[test]
fn every_quirk_is_the_same_answer_to_clients_of_every_format() {
    for quirk in quirks() {
        for client in Client::ALL {
            let mut bodies = vec![quirk.body.clone()];
            let frames = quirk.stream && quirk.body.contains("data:");
            bodies.extend(frames.then(|| quirk.body.replace('\n', "\r\n")));
            for (body, size) in bodies.iter().flat_map(|body| [1, 7, 4096].map(|size| (body, size))) {
                let place = format!("{} to {client:?} in pieces of {size}", quirk.name);
                let (out, fault) = translated(setup(client, quirk.provider, quirk.stream), body.as_bytes(), size);
                assert!(fault.is_none(), "{place}: {fault:?}");
                let events = read(&out);
                let (text, thoughts, calls, finish) = told(client, &events);
                assert_eq!(text, quirk.text, "{place}");
                let expected: Vec<(String, Value)> =
                    quirk.calls.iter().map(|(name, input)| ((*name).to_owned(), input.clone())).collect();
                if client != Client::OpenAiCompletions {
                    assert_eq!((thoughts.as_str(), calls), (quirk.thoughts, expected), "{place}");
                    assert_eq!(finish, quirk.finish, "{place}");
                } else if quirk.calls.is_empty() {
                    assert_eq!(finish, quirk.finish, "{place}");
                }
                if quirk.tokens.is_some() {
                    assert_eq!(tokens(client, &events), quirk.tokens, "{place}");
                }
            }
        }
    }
}

#[test]
fn a_failure_in_the_middle_is_told_in_each_clients_words_and_never_looks_like_an_end() {
    for (name, provider, body, kind) in failures() {
        for client in Client::ALL {
            for size in [1, 7, 4096] {
                let place = format!("{name} to {client:?} in pieces of {size}");
                let (out, fault) = translated(setup(client, provider, true), body.as_bytes(), size);
                let fault = fault.unwrap_or_else(|| panic!("{place}: taken for a whole answer"));
                assert_eq!(fault.kind, kind, "{place}: {fault:?}");
                let out = String::from_utf8(out).unwrap();
                assert!(out.contains("Hi ") && out.contains("error"), "{place}: {out}");
                let ends =
                    ["[DONE]", "message_stop", "response.completed", "\"finishReason\"", "\"finish_reason\":\"stop\""];
                assert!(ends.iter().all(|end| !out.contains(end)), "{place}: {out}");
            }
        }
    }
}
