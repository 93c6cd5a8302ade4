//! Anthropic's messages as a client's format: requests read, answers written, bytes passed.

mod answers;
mod passing;
mod requests;

use crate::dialect::client::Client;
use crate::dialect::openai_chat::quirks::Quirks;
use crate::dialect::table::{Dialect, Setup};
use serde_json::{Value, json};

fn setup(provider: Dialect, stream: bool) -> Setup {
    Setup {
        client: Client::AnthropicMessages,
        provider,
        stream,
        array: false,
        choices: 1,
        include_usage: true,
        exclude_reasoning: false,
        input_tokens: 0,
        id: "msg_made".into(),
        created: 1,
        model: "a-model".into(),
        answer_tool: None,
        quirks: Quirks::ALL_TOLERANT,
        asked: None,
    }
}

/// Each event of a stream, whose SSE field must say the same as its data.
fn events(stream: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stream).unwrap();
    let frames = text.split("\n\n").filter(|frame| !frame.is_empty());
    let read = |frame: &str| {
        let (event, data) = frame.split_once('\n').unwrap();
        let value: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(event.strip_prefix("event: "), value["type"].as_str(), "{frame}");
        value
    };
    frames.map(read).collect()
}

/// Puts a stream together as Anthropic's SDKs do, and checks the order that they demand.
fn assemble(stream: &[u8]) -> Value {
    let events = events(stream);
    let mut message = events[0]["message"].clone();
    assert_eq!(events[0]["type"], "message_start");
    let mut open: Option<(usize, String)> = None;
    for event in &events[1..events.len() - 1] {
        let index = event["index"].as_u64().map(|index| index as usize);
        let content = message["content"].as_array_mut().unwrap();
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!((open.is_none(), index), (true, Some(content.len())), "one block at a time: {event}");
                content.push(event["content_block"].clone());
                open = Some((content.len() - 1, String::new()));
            }
            "content_block_delta" => {
                let (at, json) = open.as_mut().unwrap();
                assert_eq!(index, Some(*at));
                let (block, delta) = (&mut content[*at], &event["delta"]);
                let (member, piece) = match delta["type"].as_str().unwrap() {
                    "text_delta" => ("text", delta["text"].as_str().unwrap()),
                    "thinking_delta" => ("thinking", delta["thinking"].as_str().unwrap()),
                    "signature_delta" => ("signature", delta["signature"].as_str().unwrap()),
                    "input_json_delta" => {
                        json.push_str(delta["partial_json"].as_str().unwrap());
                        continue;
                    }
                    other => panic!("{other}"),
                };
                block[member] = format!("{}{piece}", block[member].as_str().unwrap()).into();
            }
            "content_block_stop" => {
                let (at, json) = open.take().unwrap();
                assert_eq!(index, Some(at));
                if !json.is_empty() {
                    content[at]["input"] = serde_json::from_str(&json).unwrap();
                }
            }
            "message_delta" => {
                assert!(open.is_none());
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                message["stop_sequence"] = event["delta"]["stop_sequence"].clone();
                message["usage"] = event["usage"].clone();
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(events.last().unwrap(), &json!({"type": "message_stop"}));
    message
}
