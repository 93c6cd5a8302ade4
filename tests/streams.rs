//! A stream put together again equals the answer that is not streamed: a property over generated conversations, for every client's format ×
//! every provider's, with the stream cut at random.
//!
//! The simulated providers answer the same question both ways; what the translators make of it is put together here, by the formats'
//! documents alone.

use orbyt::dialect::chat::Request;
use orbyt::dialect::client::Client;
use orbyt::dialect::event::End;
use orbyt::dialect::openai_chat::quirks::Quirks;
use orbyt::dialect::table::{Dialect, Setup, Translator};
use orbyt::dialect::{openai_chat, openai_responses};
use orbyt::provider::Catalog;
use orbyt::sim::{Sim, SimDialect, client};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A provider of each format, by a model that thinks where there is one.
const PROVIDERS: [(Dialect, SimDialect, &str); 6] = [
    (Dialect::OpenAiChat, SimDialect::OpenAi, "o4-mini"),
    (Dialect::AnthropicMessages, SimDialect::Anthropic, "claude-sonnet-4-5"),
    (Dialect::Gemini, SimDialect::Gemini, "gemini-2.5-flash"),
    (Dialect::Cohere, SimDialect::Cohere, "command-a-plus-05-2026"),
    (Dialect::Ollama, SimDialect::Ollama, "qwen3"),
    (Dialect::BedrockConverse, SimDialect::Bedrock, "us.anthropic.claude-sonnet-4-20250514-v1:0"),
];
/// Text completions have no conversations.
const CLIENTS: [Client; 3] = [Client::OpenAiChat, Client::AnthropicMessages, Client::OpenAiResponses];
const TOOLS: [&str; 3] = ["look", "read_file", "run"];

/// A conversation as a client of chat completions would write it, and the size of the pieces in which the answer comes.
fn conversation() -> impl Strategy<Value = (Value, usize)> {
    let text = "[a-c\u{e9}\"\\\\\n{}\u{1f600}]{1,6}( [a-z]{1,5}){0,6}";
    let turns = prop::collection::vec((text, prop::option::of(text)), 0..3);
    let asked = (text, prop::sample::subsequence(TOOLS.to_vec(), 0..=3), any::<bool>(), any::<bool>());
    let options = (any::<bool>(), any::<bool>(), prop::option::of(1u64..6), 1usize..60);
    (turns, asked, options).prop_map(|(turns, (last, called, twice, answered), (thinks, form, limit, size))| {
        let mut messages = vec![json!({"role": "system", "content": "Repeat."})];
        for (question, answer) in turns {
            messages.push(json!({"role": "user", "content": question}));
            messages.push(json!({"role": "assistant", "content": answer.unwrap_or_else(|| "yes".to_owned())}));
        }
        let words = format!("{last} {}{}", called.join(" "), if twice { " twice" } else { "" });
        messages.push(json!({"role": "user", "content": words}));
        let mut body = json!({"model": "m", "max_tokens": 8000});
        let schema = json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"],
                            "additionalProperties": false});
        if !called.is_empty() {
            let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": schema}});
            body["tools"] = TOOLS.map(tool).into_iter().collect();
            // A thinking model would want its thoughts of the calls.
            if answered && !thinks {
                let call = |name: &&str| json!({"id": format!("call_{name}"), "type": "function", "function": {"name": name, "arguments": "{\"path\":\"p\"}"}});
                messages.push(json!({"role": "assistant", "tool_calls": called.iter().map(call).collect::<Vec<_>>()}));
                messages.extend(called.iter().map(|name| json!({"role": "tool", "tool_call_id": format!("call_{name}"), "content": last})));
            }
        } else if form {
            body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        } else if let Some(limit) = limit.filter(|_| !thinks) {
            body["max_tokens"] = limit.into();
        }
        if thinks {
            body["reasoning_effort"] = "high".into();
        }
        body["messages"] = messages.into();
        (body, size)
    })
}

/// The provider's answer, as it was sent.
async fn answer(sim: &Sim, dialect: Dialect, model: &str, body: &[u8], stream: bool) -> Vec<u8> {
    let url = format!("{}{}", sim.base_url(), dialect.path(model, stream));
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer k"),
        ("x-api-key", "k"),
        ("anthropic-version", "2023-06-01"),
        ("x-goog-api-key", "k"),
    ];
    let answer = client::send("POST", &url, &headers, body).await.unwrap();
    assert_eq!(answer.status, 200, "{dialect:?}: {}\n{}", answer.body_text(), String::from_utf8_lossy(body));
    answer.body
}

fn translated(setup: Setup, body: &[u8], size: usize) -> Vec<u8> {
    let (mut translator, mut out) = (Translator::new(setup), Vec::new());
    for piece in body.chunks(size) {
        translator.push(piece, &mut out).unwrap();
    }
    translator.finish(End::Clean, &mut out).unwrap();
    out
}

/// The JSON of an answer, or of each event of its stream.
fn read(out: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(out).unwrap();
    if text.starts_with('{') {
        return vec![serde_json::from_str(text).unwrap()];
    }
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// What a client of a format has in the end, without what may differ: the length of the request is that of another one.
fn put_together(client: Client, events: &[Value]) -> Value {
    match client {
        Client::OpenAiChat | Client::OpenAiCompletions => chat(events),
        Client::AnthropicMessages => message(events),
        Client::OpenAiResponses => response(events),
        Client::Gemini => generated(events),
    }
}

/// Appends to the text of a member.
fn append(object: &mut Map<String, Value>, name: &str, piece: &Value) {
    if let Some(piece) = piece.as_str().filter(|piece| !piece.is_empty()) {
        let before = object.get(name).and_then(Value::as_str).unwrap_or_default();
        object.insert(name.to_owned(), format!("{before}{piece}").into());
    }
}

fn chat(events: &[Value]) -> Value {
    let (mut told, mut calls, mut thoughts) =
        (Map::new(), Vec::<Map<String, Value>>::new(), Vec::<Map<String, Value>>::new());
    for event in events {
        let choice = &event["choices"][0];
        let delta = if choice["delta"].is_object() { &choice["delta"] } else { &choice["message"] };
        for name in ["content", "reasoning_content", "refusal"] {
            append(&mut told, name, &delta[name]);
        }
        for (place, call) in delta["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let at = call["index"].as_u64().map_or(place, |at| at as usize);
            calls.resize(calls.len().max(at + 1), Map::new());
            for (name, piece) in [
                ("id", &call["id"]),
                ("name", &call["function"]["name"]),
                ("arguments", &call["function"]["arguments"]),
            ] {
                append(&mut calls[at], name, piece);
            }
        }
        for piece in delta["reasoning_details"].as_array().into_iter().flatten() {
            let at = piece["index"].as_u64().unwrap() as usize;
            thoughts.resize(thoughts.len().max(at + 1), Map::new());
            for name in ["text", "summary", "signature", "data"] {
                append(&mut thoughts[at], name, &piece[name]);
            }
            for name in ["type", "format"].into_iter().filter(|name| piece[name].is_string()) {
                thoughts[at].insert(name.to_owned(), piece[name].clone());
            }
        }
        if choice["finish_reason"].is_string() {
            told.insert("finish".to_owned(), choice["finish_reason"].clone());
        }
        if event["usage"].is_object() {
            told.insert("tokens".to_owned(), event["usage"]["completion_tokens"].clone());
        }
    }
    json!([told, calls, thoughts])
}

/// Neighbouring texts of one kind are one, up to a signature.
fn generated(answers: &[Value]) -> Value {
    let (mut parts, mut finish, mut tokens) = (Vec::<Value>::new(), Value::Null, Value::Null);
    let is_open = |part: &Value| part["text"].is_string() && part.get("thoughtSignature").is_none();
    for answer in answers {
        let candidate = &answer["candidates"][0];
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            match parts.last_mut() {
                Some(last) if is_open(last) && part["text"].is_string() && last["thought"] == part["thought"] => {
                    last["text"] =
                        format!("{}{}", last["text"].as_str().unwrap(), part["text"].as_str().unwrap()).into();
                    if let Some(signature) = part.get("thoughtSignature") {
                        last["thoughtSignature"] = signature.clone();
                    }
                }
                _ => parts.push(part.clone()),
            }
        }
        if candidate["finishReason"].is_string() {
            finish = candidate["finishReason"].clone();
        }
        if answer["usageMetadata"].is_object() {
            tokens = answer["usageMetadata"]["candidatesTokenCount"].clone();
        }
    }
    parts.retain(|part| part["text"] != "" || part.get("thoughtSignature").is_some());
    json!([parts, finish, tokens])
}

fn message(events: &[Value]) -> Value {
    let mut message = Value::Null;
    let mut input = String::new();
    for event in events {
        let at = event["index"].as_u64().unwrap_or_default() as usize;
        match event["type"].as_str().unwrap() {
            "message" => message = event.clone(),
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                message["content"].as_array_mut().unwrap().push(event["content_block"].clone());
                input.clear();
            }
            "content_block_delta" => {
                let block = message["content"][at].as_object_mut().unwrap();
                for name in ["text", "thinking", "signature"] {
                    append(block, name, &event["delta"][name]);
                }
                input += event["delta"]["partial_json"].as_str().unwrap_or_default();
            }
            "content_block_stop" if !input.is_empty() => {
                message["content"][at]["input"] = serde_json::from_str(&input).unwrap();
                input.clear();
            }
            "message_delta" => {
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                message["usage"]["output_tokens"] = event["usage"]["output_tokens"].clone();
            }
            _ => {}
        }
    }
    json!([message["content"], message["stop_reason"], message["usage"]["output_tokens"]])
}

/// The last event repeats the whole; the pieces before it have to say the same.
fn response(events: &[Value]) -> Value {
    let last = events.last().unwrap();
    let (whole, is_stream) = if last["response"].is_object() { (&last["response"], true) } else { (last, false) };
    if is_stream {
        let done =
            events.iter().filter(|event| event["type"] == "response.output_item.done").map(|event| &event["item"]);
        assert_eq!(done.collect::<Vec<_>>(), whole["output"].as_array().unwrap().iter().collect::<Vec<_>>());
        let pieces = |kind: &str| {
            events
                .iter()
                .filter(|event| event["type"] == kind)
                .filter_map(|event| event["delta"].as_str())
                .collect::<String>()
        };
        let items = |kind: &str| {
            whole["output"].as_array().unwrap().iter().filter(|item| item["type"] == kind).cloned().collect::<Vec<_>>()
        };
        let texts = items("message")
            .iter()
            .flat_map(|item| item["content"].as_array().unwrap().clone())
            .map(|part| part["text"].as_str().unwrap().to_owned())
            .collect::<String>();
        assert_eq!(pieces("response.output_text.delta"), texts);
        let arguments = items("function_call")
            .iter()
            .map(|item| item["arguments"].as_str().unwrap().to_owned())
            .collect::<String>();
        assert_eq!(pieces("response.function_call_arguments.delta"), arguments);
    }
    json!([whole["output"], whole["status"], whole["incomplete_details"], whole["usage"]["output_tokens"]])
}

#[test]
fn a_stream_put_together_again_equals_the_whole_answer_for_every_pair() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let catalog = Catalog::builtin().unwrap();
    // One for whole answers and one for streams: they number what they give ids to, each by itself.
    let sims = PROVIDERS.map(|(_, dialect, _)| [false, true].map(|stream| (stream, Sim::start(dialect).unwrap())));
    let asked = openai_responses::request::parse(br#"{"model":"m","input":"x"}"#, None).unwrap().asked;
    let asked = Arc::new(asked);
    let config = Config { cases: 96, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..Config::default() };
    proptest!(config, |((body, size) in conversation())| {
        let request = openai_chat::request::parse(body.to_string().as_bytes()).unwrap();
        for ((provider, dialect, model), both) in PROVIDERS.iter().zip(&sims) {
            let id = dialect.provider_id();
            let known = catalog.model_at(id, model).map(|row| row.as_ref().clone());
            let traits = known.unwrap_or_else(|| catalog.unknown_model_at(id, model)).traits(false);
            let [whole, streamed] = both.each_ref().map(|(stream, sim)| {
                let stream = *stream;
                let request = Request { stream, include_usage: stream, ..request.clone() };
                let rendered = provider.render(&request, &traits).unwrap();
                (runtime.block_on(answer(sim, *provider, &traits.model, &rendered.body, stream)), rendered.answer_tool)
            });
            for client in CLIENTS {
                let setup = |stream, answer_tool: &Option<String>| Setup {
                    array: false,
                    client, provider: *provider, stream, choices: 1, include_usage: stream, exclude_reasoning: false,
                    id: "answer-1".into(), created: 7, model: "m".into(), answer_tool: answer_tool.clone(),
                    quirks: Quirks::NONE, asked: Some(Arc::clone(&asked)),
                };
                let one = read(&translated(setup(false, &whole.1), &whole.0, usize::MAX));
                let other = read(&translated(setup(true, &streamed.1), &streamed.0, size));
                prop_assert!(one.len() == 1 && other.len() > 1, "{client:?} × {provider:?}: not one whole and one stream");
                let (one, other) = (put_together(client, &one), put_together(client, &other));
                prop_assert_eq!(other, one, "{:?} × {:?}: {}", client, provider, body);
            }
        }
    });
}
