//! What an answer says, in whichever of the clients' formats it is and streamed or not: for the playground, which shows it as it comes, and for
//! sessions, whose steps are known by the tools that were called.
//!
//! The formats are those of `dialect`, which reads them for the data plane to the letter; here it is enough to find the texts and the calls.

use crate::dialect::sse;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Text.
    Text(String),
    /// What it thinks.
    Reasoning(String),
    /// A tool is called; its arguments follow, by the place.
    Call { place: u64, name: String },
    /// A piece of the arguments of the call at that place, as JSON.
    Arguments { place: u64, json: String },
    /// A tool is called with these arguments.
    WholeCall { name: String, arguments: String },
    /// It ends in an error.
    Error(String),
}

/// A tool that was called, with its arguments in one writing: the same call is the same value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Call {
    pub name: String,
    pub arguments: String,
}

/// Reads a stream as it comes.
#[derive(Debug, Default)]
pub(super) struct Reader(sse::Parser);

impl Reader {
    /// What the next bytes say; nothing more once they are no stream of events.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Said> {
        let mut said = Vec::new();
        let read = self.0.push(bytes, |frame| {
            // `[DONE]` is no JSON, and says nothing.
            if let Ok(event) = serde_json::from_slice(&frame.data) {
                said.extend(of(&event));
            }
            Ok(())
        });
        if read.is_err() {
            self.0 = sse::Parser::new();
        }
        said
    }
}

/// What a whole body says: an answer, a list of its pieces, or a stream that is over.
pub(super) fn of_body(body: &str) -> Vec<Said> {
    match serde_json::from_str(body) {
        Ok(Value::Array(pieces)) => pieces.iter().flat_map(of).collect(),
        Ok(value) => of(&value),
        Err(_) => {
            let mut reader = Reader::default();
            let mut said = reader.push(body.as_bytes());
            said.extend(reader.push(b"\n\n"));
            said
        }
    }
}

/// The calls that are whole among what was said.
pub(super) fn calls(said: Vec<Said>) -> Vec<Call> {
    let (mut whole, mut pieces) = (Vec::new(), BTreeMap::<u64, (String, String)>::new());
    for piece in said {
        match piece {
            Said::WholeCall { name, arguments } => whole.push((name, arguments)),
            Said::Call { place, name } => pieces.entry(place).or_default().0 = name,
            Said::Arguments { place, json } => pieces.entry(place).or_default().1 += &json,
            Said::Text(_) | Said::Reasoning(_) | Said::Error(_) => {}
        }
    }
    whole.extend(pieces.into_values());
    let read = whole.into_iter().filter_map(|(name, arguments)| {
        let arguments = if arguments.trim().is_empty() { "{}" } else { &arguments };
        let arguments = sorted(serde_json::from_str(arguments).ok()?).to_string();
        Some(Call { name, arguments })
    });
    read.collect()
}

/// With the members of every object in the order of their names.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members: BTreeMap<String, Value> = members.into_iter().map(|(name, it)| (name, sorted(it))).collect();
            Value::Object(Map::from_iter(members))
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// What an answer, or an event of a stream, says.
pub(super) fn of(value: &Value) -> Vec<Said> {
    let mut said = Vec::new();
    for choice in items(&value["choices"]) {
        of_choice(choice, &mut said);
    }
    of_messages(value, &mut said);
    of_responses(value, &mut said);
    for part in items(&value["candidates"]).flat_map(|candidate| items(&candidate["content"]["parts"])) {
        match (part["text"].as_str(), part["thought"] == true) {
            (Some(text), true) => said.push(Said::Reasoning(text.to_owned())),
            (Some(text), false) => said.push(Said::Text(text.to_owned())),
            (None, _) => {}
        }
        if let Some(name) = part["functionCall"]["name"].as_str() {
            let arguments = Some(&part["functionCall"]["args"]).filter(|it| !it.is_null());
            said.push(whole(name, arguments.map(Value::to_string)));
        }
    }
    if let Some(message) = value["error"]["message"].as_str() {
        said.push(Said::Error(message.to_owned()));
    }
    said
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn whole(name: &str, arguments: Option<String>) -> Said {
    Said::WholeCall { name: name.to_owned(), arguments: arguments.unwrap_or_default() }
}

fn push(said: &mut Vec<Said>, kind: fn(String) -> Said, text: &Value) {
    if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
        said.push(kind(text.to_owned()));
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0) & 0xffff_ffff
}

/// Chat completions, and the completions before them.
fn of_choice(choice: &Value, said: &mut Vec<Said>) {
    push(said, Said::Text, &choice["text"]);
    for message in [&choice["message"], &choice["delta"]] {
        let reasoning = [&message["reasoning"], &message["reasoning_content"]].into_iter().find(|it| it.is_string());
        push(said, Said::Reasoning, reasoning.unwrap_or(&Value::Null));
        push(said, Said::Text, &message["content"]);
        push(said, Said::Text, &message["refusal"]);
    }
    for call in items(&choice["message"]["tool_calls"]) {
        let function = &call["function"];
        said.push(whole(
            function["name"].as_str().unwrap_or_default(),
            function["arguments"].as_str().map(str::to_owned),
        ));
    }
    for call in items(&choice["delta"]["tool_calls"]) {
        let place = (number(&choice["index"]) << 32) | number(&call["index"]);
        if let Some(name) = call["function"]["name"].as_str().filter(|name| !name.is_empty()) {
            said.push(Said::Call { place, name: name.to_owned() });
        }
        if let Some(json) = call["function"]["arguments"].as_str() {
            said.push(Said::Arguments { place, json: json.to_owned() });
        }
    }
}

/// Anthropic's messages.
fn of_messages(value: &Value, said: &mut Vec<Said>) {
    for block in items(&value["content"]) {
        match block["type"].as_str() {
            Some("text") => push(said, Said::Text, &block["text"]),
            Some("thinking") => push(said, Said::Reasoning, &block["thinking"]),
            Some("tool_use") => {
                said.push(whole(block["name"].as_str().unwrap_or_default(), Some(block["input"].to_string())));
            }
            _ => {}
        }
    }
    let (place, block, delta) = (number(&value["index"]), &value["content_block"], &value["delta"]);
    match (value["type"].as_str(), block["type"].as_str(), delta["type"].as_str()) {
        (Some("content_block_start"), Some("tool_use"), _) => {
            said.push(Said::Call { place, name: block["name"].as_str().unwrap_or_default().to_owned() });
        }
        (Some("content_block_delta"), _, Some("text_delta")) => push(said, Said::Text, &delta["text"]),
        (Some("content_block_delta"), _, Some("thinking_delta")) => push(said, Said::Reasoning, &delta["thinking"]),
        (Some("content_block_delta"), _, Some("input_json_delta")) => {
            let json = delta["partial_json"].as_str().unwrap_or_default().to_owned();
            said.push(Said::Arguments { place, json });
        }
        _ => {}
    }
}

/// OpenAI's responses.
fn of_responses(value: &Value, said: &mut Vec<Said>) {
    for item in items(&value["output"]) {
        match item["type"].as_str() {
            Some("message") => items(&item["content"]).for_each(|part| push(said, Said::Text, &part["text"])),
            Some("reasoning") => items(&item["summary"]).for_each(|part| push(said, Said::Reasoning, &part["text"])),
            Some("function_call") => {
                let arguments = item["arguments"].as_str().map(str::to_owned);
                said.push(whole(item["name"].as_str().unwrap_or_default(), arguments));
            }
            _ => {}
        }
    }
    let (place, delta) = (number(&value["output_index"]), &value["delta"]);
    match value["type"].as_str() {
        Some("response.output_text.delta" | "response.refusal.delta") => push(said, Said::Text, delta),
        Some("response.reasoning_text.delta" | "response.reasoning_summary_text.delta") => {
            push(said, Said::Reasoning, delta);
        }
        Some("response.output_item.added") if value["item"]["type"] == "function_call" => {
            let name = value["item"]["name"].as_str().unwrap_or_default().to_owned();
            said.push(Said::Call { place, name });
        }
        Some("response.function_call_arguments.delta") => {
            said.push(Said::Arguments { place, json: delta.as_str().unwrap_or_default().to_owned() });
        }
        Some("response.failed") => push(said, Said::Error, &value["response"]["error"]["message"]),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stream(events: &[Value]) -> String {
        events.iter().map(|event| format!("data: {event}\n\n")).chain(["data: [DONE]\n\n".to_owned()]).collect()
    }

    fn text(said: &[Said]) -> String {
        said.iter().filter_map(|it| if let Said::Text(text) = it { Some(text.as_str()) } else { None }).collect()
    }

    /// The same answer (a text, and a call with two arguments in either order) in every format, whole and streamed.
    fn everywhere() -> Vec<String> {
        let [one, two] = ["{\"b\": 1, ", "\"a\": [2]}"];
        let all = format!("{one}{two}");
        let function = |arguments: &str| json!({"name": "look", "arguments": arguments});
        let input = json!({"a": [2], "b": 1});
        vec![
            json!({"choices": [{"message": {"content": "Hello", "tool_calls": [{"function": function(&all)}]}}]}).to_string(),
            stream(&[
                json!({"choices": [{"index": 0, "delta": {"content": "Hel"}}]}),
                json!({"choices": [{"index": 0, "delta": {"content": "lo"}}]}),
                json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": function(one)}]}}]}),
                json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": two}}]}}]}),
            ]),
            json!({"content": [{"type": "text", "text": "Hello"}, {"type": "tool_use", "name": "look", "input": input}]}).to_string(),
            stream(&[
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}),
                json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "name": "look"}}),
                json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": one}}),
                json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": two}}),
            ]),
            json!({"output": [
                {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]},
                {"type": "function_call", "name": "look", "arguments": all},
            ]})
            .to_string(),
            stream(&[
                json!({"type": "response.output_text.delta", "output_index": 0, "delta": "Hello"}),
                json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "function_call", "name": "look"}}),
                json!({"type": "response.function_call_arguments.delta", "output_index": 1, "delta": all}),
                json!({"type": "response.completed", "response": {"output": [{"type": "function_call", "name": "look"}]}}),
            ]),
            json!([{"candidates": [{"content": {"parts": [{"text": "Hello"}]}}]},
                {"candidates": [{"content": {"parts": [{"functionCall": {"name": "look", "args": input}}]}}]}])
            .to_string(),
        ]
    }

    #[test]
    fn text_and_calls_are_found_in_every_format() {
        for body in everywhere() {
            let said = of_body(&body);
            assert_eq!(text(&said), "Hello", "{body}");
            let call = Call { name: "look".to_owned(), arguments: r#"{"a":[2],"b":1}"#.to_owned() };
            assert_eq!(calls(said), [call], "{body}");
        }
    }

    #[test]
    fn a_stream_may_be_cut_anywhere() {
        let body = everywhere().swap_remove(1);
        for cut in 0..body.len() {
            let mut reader = Reader::default();
            let (one, two) = body.as_bytes().split_at(cut);
            let said = [reader.push(one), reader.push(two)].concat();
            assert_eq!(text(&said), "Hello", "{cut}");
        }
    }

    #[test]
    fn a_call_whose_arguments_are_cut_off_is_none() {
        let cut = Said::WholeCall { name: "look".to_owned(), arguments: "{\"a\": ".to_owned() };
        let bare = Said::WholeCall { name: "list".to_owned(), arguments: String::new() };
        assert_eq!(calls(vec![cut, bare]), [Call { name: "list".to_owned(), arguments: "{}".to_owned() }]);
    }

    #[test]
    fn errors_are_said_and_nonsense_says_nothing() {
        assert_eq!(of_body(r#"{"error":{"message":"no"}}"#), [Said::Error("no".to_owned())]);
        for nonsense in
            ["", "null", "17", "<html>", "data: {\n\n", r#"{"choices":{"a":1},"content":"x","output":[null]}"#]
        {
            assert!(of_body(nonsense).is_empty(), "{nonsense}");
        }
    }
}
