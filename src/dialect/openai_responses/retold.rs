//! A whole response told as the stream that was asked for, because its provider does not stream.
//!
//! ```text
//!   response.created  response.in_progress
//!     for each item: output_item.added, its texts, arguments and parts in one piece each, output_item.done
//!   response.completed | response.incomplete      with the response as it came
//! ```
//!
//! Items of kinds that OpenAI runs itself begin and end as they are: what happens in between is its own affair.
//!
//! Source: OpenAI's reference of streaming events, and recordings.

use super::stream::write_event;
use crate::dialect::openai_chat::write;
use serde_json::{Value, json};

/// Writes all events but the last.
pub fn write_items(response: &Value, sequence: &mut u64, out: &mut Vec<u8>) {
    let begun = {
        let mut begun = response.clone();
        for (name, value) in [("status", json!("in_progress")), ("output", json!([])), ("usage", Value::Null)] {
            begun[name] = value;
        }
        for name in ["incomplete_details", "completed_at"] {
            if begun.get(name).is_some() {
                begun[name] = Value::Null;
            }
        }
        json!({ "response": begun })
    };
    let mut script = Script { sequence, out };
    script.event("response.created", &begun);
    script.event("response.in_progress", &begun);
    for (place, item) in response["output"].as_array().into_iter().flatten().enumerate() {
        script.item(place, item);
    }
}

/// Writes the last event, with the response as it came.
pub fn write_last(response: &Value, body: &[u8], sequence: &mut u64, out: &mut Vec<u8>) {
    let kind = if response["status"] == "incomplete" { "response.incomplete" } else { "response.completed" };
    write_event(kind, sequence, out, |out| {
        write::key("response", out);
        // Line feeds in JSON are white space, but in an event they would end the line.
        out.extend(body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    });
}

struct Script<'a> {
    sequence: &'a mut u64,
    out: &'a mut Vec<u8>,
}

impl Script<'_> {
    fn event(&mut self, kind: &str, members: &Value) {
        write_event(kind, self.sequence, self.out, |out| {
            for (name, value) in members.as_object().into_iter().flatten() {
                write::key(name, out);
                write::value(value, out);
            }
        });
    }

    fn item(&mut self, place: usize, item: &Value) {
        self.event("response.output_item.added", &json!({"output_index": place, "item": begun(item)}));
        let at = |more: Value| with(json!({"item_id": item["id"], "output_index": place}), &more);
        match item["type"].as_str() {
            Some("message") => {
                for (number, part) in list(&item["content"]).enumerate() {
                    self.part(part, |more| with(at(json!({"content_index": number})), &more));
                }
            }
            Some("reasoning") => {
                for (number, part) in list(&item["summary"]).enumerate() {
                    self.summary(part, |more| with(at(json!({"summary_index": number})), &more));
                }
                for (number, part) in list(&item["content"]).enumerate() {
                    self.part(part, |more| with(at(json!({"content_index": number})), &more));
                }
            }
            Some("function_call") => {
                let text = &item["arguments"];
                self.event("response.function_call_arguments.delta", &at(json!({"delta": text})));
                let names = json!({"arguments": text, "name": item["name"]});
                self.event("response.function_call_arguments.done", &at(names));
            }
            Some("custom_tool_call") => {
                self.event("response.custom_tool_call_input.delta", &at(json!({"delta": item["input"]})));
                self.event("response.custom_tool_call_input.done", &at(json!({"input": item["input"]})));
            }
            _ => {}
        }
        self.event("response.output_item.done", &json!({"output_index": place, "item": item}));
    }

    /// A part of a message or of verbatim thoughts; `at` says where it is.
    fn part(&mut self, part: &Value, at: impl Fn(Value) -> Value) {
        let (name, kind) = match part["type"].as_str() {
            Some("output_text") => ("text", "response.output_text"),
            Some("refusal") => ("refusal", "response.refusal"),
            Some("reasoning_text") => ("text", "response.reasoning_text"),
            _ => ("", ""),
        };
        let text = &part[name];
        let mut empty = part.clone();
        for (member, value) in [(name, json!("")), ("annotations", json!([])), ("logprobs", json!([]))] {
            if empty.get(member).is_some() {
                empty[member] = value;
            }
        }
        self.event("response.content_part.added", &at(json!({"part": empty})));
        if text.is_string() {
            let is_text = kind == "response.output_text";
            let logprobs =
                if is_text { json!({"logprobs": part.get("logprobs").unwrap_or(&json!([]))}) } else { json!({}) };
            self.event(&format!("{kind}.delta"), &with(at(json!({"delta": text})), &logprobs));
            for (number, annotation) in list(&part["annotations"]).enumerate() {
                let members = json!({"annotation_index": number, "annotation": annotation});
                self.event("response.output_text.annotation.added", &at(members));
            }
            self.event(&format!("{kind}.done"), &with(at(json!({ name: text })), &logprobs));
        }
        self.event("response.content_part.done", &at(json!({"part": part})));
    }

    /// A part of a summary of thoughts.
    fn summary(&mut self, part: &Value, at: impl Fn(Value) -> Value) {
        let empty = with(part.clone(), &json!({"text": ""}));
        self.event("response.reasoning_summary_part.added", &at(json!({"part": empty})));
        self.event("response.reasoning_summary_text.delta", &at(json!({"delta": part["text"]})));
        self.event("response.reasoning_summary_text.done", &at(json!({"text": part["text"]})));
        self.event("response.reasoning_summary_part.done", &at(json!({"part": part})));
    }
}

/// An item as it is when it begins: nothing in it yet.
fn begun(item: &Value) -> Value {
    let emptied = match item["type"].as_str() {
        Some("message") => json!({"status": "in_progress", "content": []}),
        Some("reasoning") if item["content"].is_array() => json!({"summary": [], "content": []}),
        Some("reasoning") => json!({"summary": []}),
        Some("function_call") => json!({"status": "in_progress", "arguments": ""}),
        Some("custom_tool_call") => json!({"status": "in_progress", "input": ""}),
        _ => json!({}),
    };
    with(item.clone(), &emptied)
}

/// An object with more members; what is no object stays as it is.
fn with(mut value: Value, more: &Value) -> Value {
    if let (Value::Object(object), Value::Object(more)) = (&mut value, more) {
        object.extend(more.clone());
    }
    value
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
