//! Reads a chat request as Ollama does. What it does not know it passes over, so the types of what it knows are checked, and fields of
//! OpenAI's format, which would be lost in silence, are refused here.

use crate::sim::answer::{Form, Question, describe_base64};
use crate::sim::http::Request;
use crate::sim::openai::{read_tools, text_of};
use crate::sim::wire::{Complaint, items, object};
use serde_json::Value;

const FIELDS: [&str; 10] =
    ["model", "messages", "stream", "tools", "think", "format", "options", "keep_alive", "logprobs", "top_logprobs"];

pub(in crate::sim) fn read(request: &Request) -> Result<Question, Complaint> {
    let body = object(request).ok_or_else(|| Complaint::bad("invalid character: the body is not a JSON object"))?;
    let unknown = body.as_object().and_then(|body| body.keys().find(|name| !FIELDS.contains(&name.as_str())));
    if let Some(name) = unknown {
        return Err(Complaint::bad(format!("\"{name}\" would be passed over")));
    }
    let model = body["model"].as_str().filter(|model| !model.is_empty());
    let model = model.ok_or_else(|| Complaint::bad("model is required"))?;
    let messages = items(&body["messages"]);
    check_messages(messages)?;
    let options = &body["options"];
    let think = match &body["think"] {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::String(level) if ["low", "medium", "high"].contains(&level.as_str()) => true,
        other => return Err(Complaint::bad(format!("think value {other} is not supported for this model"))),
    };
    let stop = match &options["stop"] {
        Value::Null => &[],
        Value::Array(stops) => stops.as_slice(),
        _ => return Err(Complaint::bad("option \"stop\" must be of type array")),
    };
    let mut question = Question {
        model: model.to_owned(),
        // It streams unless it is told not to.
        stream: body["stream"] != false,
        tools: read_tools(&body["tools"])?,
        form: match &body["format"] {
            Value::Null => Form::Text,
            Value::String(word) if word.is_empty() => Form::Text,
            Value::String(word) if word == "json" => Form::Json,
            schema @ Value::Object(_) => Form::Schema(schema.clone()),
            other => return Err(Complaint::bad(format!("invalid format: {other}"))),
        },
        reasoning: think,
        max_tokens: options["num_predict"].as_u64().map(|max| max as usize),
        stop: stop.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        choices: 1,
        prompt_bytes: request.body.len(),
        ..Question::default()
    };
    read_last_turn(messages, &mut question);
    Ok(question)
}

fn check_messages(messages: &[Value]) -> Result<(), Complaint> {
    for message in messages {
        let role = message["role"].as_str().unwrap_or_default();
        if !["system", "user", "assistant", "tool"].contains(&role) {
            return Err(Complaint::bad(format!("invalid role: {role}")));
        }
        if !message["content"].is_string() {
            return Err(Complaint::bad("json: cannot unmarshal into Go struct field ChatRequest.messages.content"));
        }
        let base64 = |image: &Value| image.as_str().is_some_and(|data| !data.is_empty() && !data.contains(':'));
        if !items(&message["images"]).iter().all(base64) {
            return Err(Complaint::bad("illegal base64 data at input byte 4"));
        }
        let object = |call: &Value| call["function"]["arguments"].is_object();
        if !items(&message["tool_calls"]).iter().all(object) {
            return Err(Complaint::bad("json: cannot unmarshal into Go struct field .arguments of type map"));
        }
    }
    Ok(())
}

fn read_last_turn(messages: &[Value], question: &mut Question) {
    if let Some(user) = messages.iter().rfind(|message| message["role"] == "user") {
        question.last_text = text_of(&user["content"]);
        for image in items(&user["images"]) {
            question.seen.push(describe_base64("image/png", image.as_str().unwrap_or_default()));
        }
    }
    for result in messages.iter().rev().take_while(|message| message["role"] == "tool") {
        let name = result["tool_name"].as_str().unwrap_or_default();
        question.tool_results.insert(0, (name.to_owned(), text_of(&result["content"])));
    }
}
