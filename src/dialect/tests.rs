//! Answers of every provider's format that deviate where it does not matter, as clients of every format get them.

use super::client::{Client, ErrorAnswer};
use super::event::{End, Observed};
use super::openai_chat::quirks::Quirks;
use super::table::{Dialect, Setup, Translator};
use crate::domain::Fault;
use serde_json::{Value, json};

fn setup(client: Client, provider: Dialect, stream: bool) -> Setup {
    Setup {
        client,
        provider,
        stream,
        array: false,
        choices: 1,
        include_usage: true,
        exclude_reasoning: false,
        input_tokens: 0,
        id: "id".into(),
        created: 1,
        model: "m".into(),
        answer_tool: None,
        quirks: Quirks::NONE,
        asked: None,
    }
}

/// What a client gets of an answer, and what the gateway saw of it.
fn told(client: Client, provider: Dialect, stream: bool, body: &str) -> Result<(String, Observed), Fault> {
    let mut translator = Translator::new(setup(client, provider, stream));
    let mut out = Vec::new();
    translator.push(body.as_bytes(), &mut out)?;
    translator.finish(End::Clean, &mut out)?;
    Ok((String::from_utf8(out).unwrap(), translator.observed().clone()))
}

/// Events without their names, which stand in the data where they count.
fn events(events: &[Value]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

/// A whole answer of each format whose counts are these.
fn whole(provider: Dialect, input: &Value, output: &Value) -> Value {
    match provider {
        Dialect::OpenAiChat => json!({"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": input, "completion_tokens": output}}),
        Dialect::AnthropicMessages => json!({"type": "message", "content": [{"type": "text", "text": "Hi"}],
            "stop_reason": "end_turn", "usage": {"input_tokens": input, "output_tokens": output}}),
        Dialect::Gemini => json!({"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": input, "candidatesTokenCount": output,
                "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": input}]}}),
        Dialect::Cohere => json!({"id": "c", "message": {"content": [{"type": "text", "text": "Hi"}]},
            "finish_reason": "COMPLETE", "usage": {"tokens": {"input_tokens": input, "output_tokens": output}}}),
        Dialect::Ollama => json!({"message": {"content": "Hi"}, "done": true, "done_reason": "stop",
            "prompt_eval_count": input, "eval_count": output}),
        Dialect::BedrockConverse => {
            json!({"output": {"message": {"content": [{"text": "Hi"}]}}, "stopReason": "end_turn",
            "usage": {"inputTokens": input, "outputTokens": output, "cacheDetails": null}})
        }
    }
}

#[test]
fn a_count_that_cannot_be_read_costs_neither_the_answer_nor_the_counts_beside_it() {
    for provider in Dialect::ALL {
        for (input, expected) in [(json!(7), 7), (json!(7.0), 7), (json!("7"), 7), (json!(-1), 0), (json!([7]), 0)] {
            if provider == Dialect::Cohere && !input.is_number() {
                continue; // Its counts are floats by its own types.
            }
            let body = whole(provider, &input, &json!(5)).to_string();
            for client in Client::ALL {
                let (out, observed) = told(client, provider, false, &body)
                    .unwrap_or_else(|fault| panic!("{client:?} of {provider:?}, {input}: {fault:?}"));
                let usage = observed.usage.unwrap();
                assert_eq!((usage.prompt_tokens, usage.completion_tokens), (expected, 5), "{provider:?}, {input}");
                assert!(out.contains("\"Hi\""), "{out}");
            }
        }
    }
}

#[test]
fn null_in_the_place_of_what_is_not_there_is_passed_over() {
    let add = |kind: &str, message: Value| json!({"type": kind, "index": 0, "delta": {"message": message}});
    let cohere = events(&[
        add("content-start", json!({"content": null, "tool_calls": null})),
        add("content-delta", json!({"content": {"text": "Hi"}, "tool_calls": null, "citations": null})),
        add("tool-call-start", json!({"content": null, "tool_calls": null})),
        json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": null}}),
    ]);
    let ollama = "{\"message\":{\"content\":\"Hi\"},\"done\":null}\n{\"done\":true,\"done_reason\":\"stop\"}\n";
    for (provider, body) in [(Dialect::Cohere, cohere.as_str()), (Dialect::Ollama, ollama)] {
        for client in Client::ALL {
            let (out, _) = told(client, provider, true, body).unwrap();
            assert!(out.contains("Hi"), "{client:?} of {provider:?}: {out}");
        }
    }
}

#[test]
fn arguments_that_say_null_are_none() {
    let call = |arguments: &str| json!([{"index": 0, "id": "c1", "function": {"name": "now", "arguments": arguments}}]);
    let whole =
        json!({"choices": [{"index": 0, "message": {"tool_calls": call("null")}, "finish_reason": "tool_calls"}]});
    let stream = events(&[
        json!({"id": "a", "choices": [{"index": 0, "delta": {"tool_calls": call("")}}]}),
        json!({"id": "a", "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "null"}}]}}]}),
        json!({"id": "a", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
    ]);
    for client in [Client::AnthropicMessages, Client::OpenAiResponses, Client::Gemini] {
        for (streamed, body) in [(false, whole.to_string()), (true, stream.clone())] {
            let (out, _) = told(client, Dialect::OpenAiChat, streamed, &body).unwrap();
            let none = match (client, streamed) {
                (Client::AnthropicMessages, true) => "\"partial_json\":\"{}\"",
                (Client::AnthropicMessages, false) => "\"input\":{}",
                (Client::OpenAiResponses, _) => "\"arguments\":\"{}\"",
                _ => "\"args\":{}",
            };
            assert!(out.contains(none), "{client:?}, streamed {streamed}: {out}");
            assert!(!out.contains("\"null\""), "{client:?}, streamed {streamed}: {out}");
        }
    }
}

#[test]
fn an_empty_thought_does_not_hide_one_under_the_other_name() {
    let message = json!({"content": "Hi", "reasoning_content": "", "reasoning": "Hm."});
    let body = json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).to_string();
    let (out, _) = told(Client::AnthropicMessages, Dialect::OpenAiChat, false, &body).unwrap();
    assert!(out.contains("\"thinking\":\"Hm.\""), "{out}");
}

#[test]
fn half_a_surrogate_pair_costs_one_character() {
    let chunk = |text: &str| {
        format!("data: {{\"id\":\"a\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
    };
    let last = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let body = [chunk(r"a\\b\ud83d"), chunk(r"\ude00c\n\u00e9 \ud83d\ude00"), last.to_owned()].concat();
    let (out, _) = told(Client::Gemini, Dialect::OpenAiChat, true, &body).unwrap();
    assert!(out.contains("\"text\":\"a\\\\b\u{FFFD}\""), "{out}");
    assert!(out.contains("\"text\":\"\u{FFFD}c\\n\u{e9} \u{1F600}\""), "{out}");
}

#[test]
fn what_never_ends_is_not_held_for_ever() {
    const PIECE: usize = 1 << 20;
    let text = "x".repeat(PIECE);
    let chunk = |calls: Value| events(&[json!({"id": "a", "choices": [{"index": 0, "delta": {"tool_calls": calls}}]})]);
    let call = |index: u32, arguments: &str| json!({"index": index, "function": {"arguments": arguments}});
    let begun = |index: u32| {
        let function = json!({"name": "f", "arguments": "{\"a\":\""});
        json!({"index": index, "id": format!("c{index}"), "function": function})
    };
    let calls = (chunk(json!([begun(0), begun(1)])), chunk(json!([call(1, &text)])));
    let whole = ("{\"choices\":\"".to_owned(), text.clone());
    for client in [Client::AnthropicMessages, Client::OpenAiResponses, Client::Gemini] {
        for (begin, go_on) in [&calls, &whole] {
            let mut translator = Translator::new(setup(client, Dialect::OpenAiChat, true));
            let mut out = Vec::new();
            translator.push(begin.as_bytes(), &mut out).unwrap();
            let ends = (0..70).any(|_| {
                out.clear();
                translator.push(go_on.as_bytes(), &mut out).is_err()
            });
            assert!(ends, "{client:?} holds more than 64 MiB");
        }
    }
}

#[test]
fn an_error_names_what_the_client_wrote() {
    for (client, name) in [
        (Client::OpenAiChat, "\"reasoning_effort\""),
        (Client::OpenAiResponses, "\"reasoning.effort\""),
        (Client::AnthropicMessages, "\"output_config.effort\""),
        (Client::Gemini, "\"generationConfig.thinkingConfig\""),
    ] {
        let error = ErrorAnswer {
            status: 400,
            error_type: "invalid_request_error",
            code: Some("invalid_request"),
            param: Some("reasoning_effort"),
            message: "no",
            metadata: None,
            request_id: "req_1",
        };
        let body = String::from_utf8(client.error(&error)).unwrap();
        assert!(body.contains(name), "{body}");
    }
}

#[test]
fn null_in_what_an_answer_rests_on_costs_no_citation() {
    let page = json!({"web": {"uri": "https://a.example", "title": null}, "retrievedContext": null});
    let support = json!({"segment": {"startIndex": null, "endIndex": 2}, "groundingChunkIndices": [0]});
    let bare = json!({"segment": null, "groundingChunkIndices": null});
    let metadata = json!({"groundingChunks": [page], "groundingSupports": [support, bare]});
    let parts = json!({"parts": [{"text": "Hi"}]});
    let candidate = json!({"content": parts, "finishReason": "STOP", "groundingMetadata": metadata});
    let body = json!({"candidates": [candidate]}).to_string();
    let (out, _) = told(Client::OpenAiChat, Dialect::Gemini, false, &body).unwrap();
    assert!(out.contains("https://a.example"), "{out}");
}

#[test]
fn arguments_over_several_lines_stay_in_one_event() {
    let call =
        |arguments: &str| json!([{"index": 0, "id": "c1", "function": {"name": "look", "arguments": arguments}}]);
    let body = events(&[
        json!({"id": "a", "choices": [{"index": 0, "delta": {"tool_calls": call("{\n  \"at\": \"x\\n y\",\r\n")}}]}),
        json!({"id": "a", "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "  \"n\": 1.0\n}"}}]}}]}),
        json!({"id": "a", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
    ]);
    for client in Client::ALL {
        let (out, _) = told(client, Dialect::OpenAiChat, true, &body).unwrap();
        for line in out.lines().filter(|line| !line.is_empty() && !line.starts_with("event:")) {
            let data = line
                .strip_prefix("data: ")
                .unwrap_or_else(|| panic!("{client:?} has a line that is no event's: {line}"));
            assert!(data == "[DONE]" || serde_json::from_str::<Value>(data).is_ok(), "{client:?}: {data}");
        }
    }
    let (out, _) = told(Client::Gemini, Dialect::OpenAiChat, true, &body).unwrap();
    assert!(out.contains(r#""args":{"at":"x\n y","n":1.0}"#), "{out}");
}
