//! What a client of each format has when it has put an answer together, by the formats' documents alone.

use orbyt::dialect::client::Client;
use serde_json::{Map, Value, json};

/// The JSON of an answer, or of each event of its stream.
pub fn read(out: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(out).unwrap();
    if text.starts_with('{') {
        return vec![serde_json::from_str(text).unwrap()];
    }
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// What a client of a format has in the end, without what may differ: the length of the request is that of another one.
pub fn put_together(client: Client, events: &[Value]) -> Value {
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
        // Text completions have no messages.
        append(&mut told, "content", &choice["text"]);
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
