//! Google's `generateContent` as a client's format: requests read, answers written, bytes passed.

mod answers;
mod golden;
mod passing;
mod requests;

use crate::dialect::client::Client;
use crate::dialect::openai_chat::quirks::Quirks;
use crate::dialect::table::{Dialect, Setup};
use serde_json::{Value, json};

fn setup(provider: Dialect, stream: bool, array: bool) -> Setup {
    Setup {
        client: Client::Gemini,
        provider,
        stream,
        array,
        choices: 1,
        include_usage: true,
        exclude_reasoning: false,
        input_tokens: 0,
        id: "made".into(),
        created: 1,
        model: "a-model".into(),
        answer_tool: None,
        quirks: Quirks::ALL_TOLERANT,
        asked: None,
    }
}

/// The answers of a stream: of events, strictly as Google's clients for Python and Node split them, or of an array.
fn answers(stream: &[u8], array: bool) -> Vec<Value> {
    let text = std::str::from_utf8(stream).unwrap();
    if array {
        return serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    }
    let events = text.split_inclusive("\r\n\r\n").map(|event| {
        let data = event.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\r\n\r\n"));
        data.unwrap_or_else(|| panic!("no event: {event:?}"))
    });
    events.map(|data| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))).collect()
}

/// Puts a stream together: neighbouring texts of one kind are one, up to a signature.
fn assemble(answers: &[Value]) -> Value {
    let mut whole = json!({ "candidates": [] });
    for answer in answers {
        for name in ["usageMetadata", "modelVersion", "responseId"] {
            if let Some(value) = answer.get(name) {
                whole[name] = value.clone();
            }
        }
        for piece in answer["candidates"].as_array().unwrap() {
            let candidates = whole["candidates"].as_array_mut().unwrap();
            let at = candidates.iter().position(|known| known["index"] == piece["index"]).unwrap_or_else(|| {
                candidates.push(json!({"content": {"parts": [], "role": "model"}, "index": piece["index"]}));
                candidates.len() - 1
            });
            let parts = piece["content"]["parts"].as_array().unwrap();
            assert_eq!(parts.len(), 1, "clients forget a turn in which a piece has no part: {piece}");
            add(&parts[0], candidates[at]["content"]["parts"].as_array_mut().unwrap());
            for name in ["finishReason", "groundingMetadata"] {
                if let Some(value) = piece.get(name) {
                    candidates[at][name] = value.clone();
                }
            }
            if let Some(result) = piece.get("logprobsResult") {
                for name in ["topCandidates", "chosenCandidates"] {
                    let more = result[name].as_array().unwrap().clone();
                    match candidates[at]["logprobsResult"][name].as_array_mut() {
                        Some(known) => known.extend(more),
                        None => candidates[at]["logprobsResult"][name] = more.into(),
                    }
                }
            }
        }
    }
    let candidates = whole["candidates"].as_array_mut().unwrap();
    candidates.sort_by_key(|candidate| candidate["index"].as_u64());
    for candidate in candidates {
        let parts = candidate["content"]["parts"].as_array_mut().unwrap();
        let is_nothing = |part: &Value| part["text"] == "" && part.as_object().unwrap().len() == 1;
        if !parts.iter().all(is_nothing) {
            parts.retain(|part| !is_nothing(part));
        }
    }
    whole
}

fn add(part: &Value, parts: &mut Vec<Value>) {
    let open = |part: &Value| part["text"].is_string() && part.get("thoughtSignature").is_none();
    match parts.last_mut() {
        Some(last) if open(last) && part["text"].is_string() && last["thought"] == part["thought"] => {
            last["text"] = format!("{}{}", last["text"].as_str().unwrap(), part["text"].as_str().unwrap()).into();
            if let Some(signature) = part.get("thoughtSignature") {
                last["thoughtSignature"] = signature.clone();
            }
        }
        // The empty text of an end, or beside log probabilities, joins nothing else.
        Some(_) if part["text"] == "" && part.as_object().unwrap().len() == 1 => {}
        _ => parts.push(part.clone()),
    }
}
