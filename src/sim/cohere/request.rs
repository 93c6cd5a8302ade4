//! Reads a chat request as strictly as Cohere does: its own names, bounds of numbers, calls and results in pairs, no form of the answer
//! beside tools or documents.

use crate::sim::answer::{Form, Question, ToolChoice, describe_url};
use crate::sim::http::Request;
use crate::sim::openai::{read_tools, text_of};
use crate::sim::wire::{Complaint, items, object};
use serde_json::Value;

const FIELDS: [&str; 20] = [
    "model",
    "messages",
    "stream",
    "tools",
    "strict_tools",
    "tool_choice",
    "documents",
    "citation_options",
    "response_format",
    "safety_mode",
    "max_tokens",
    "stop_sequences",
    "temperature",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "k",
    "p",
    "logprobs",
    "thinking",
];

/// Numbers and their bounds.
const BOUNDS: [(&str, f64, f64); 6] = [
    ("temperature", 0.0, f64::MAX),
    ("p", 0.01, 0.99),
    ("k", 0.0, 500.0),
    ("seed", 0.0, f64::MAX),
    ("frequency_penalty", 0.0, 1.0),
    ("presence_penalty", 0.0, 1.0),
];

pub(in crate::sim) fn read(request: &Request) -> Result<Question, Complaint> {
    let body = object(request).ok_or_else(|| Complaint::bad("the body is not a JSON object"))?;
    let unknown = body.as_object().and_then(|body| body.keys().find(|name| !FIELDS.contains(&name.as_str())));
    if let Some(name) = unknown {
        return Err(Complaint::bad(format!("unknown field: parameter '{name}' is not a valid field")));
    }
    let model = body["model"].as_str().filter(|model| !model.is_empty());
    let model = model.ok_or_else(|| Complaint::bad("model is required"))?;
    for (name, least, most) in BOUNDS {
        if body[name].as_f64().is_some_and(|number| number < least || number > most) {
            return Err(Complaint::bad(format!("{name} must be between {least} and {most}")));
        }
    }
    let stops = items(&body["stop_sequences"]);
    if stops.len() > 5 {
        return Err(Complaint::bad("stop_sequences takes 5 items at most"));
    }
    let messages = items(&body["messages"]);
    check_messages(messages)?;
    let tools = read_tools(&body["tools"])?;
    let format = &body["response_format"];
    if format["type"] == "json_object" && !(tools.is_empty() && items(&body["documents"]).is_empty()) {
        return Err(Complaint::bad("response_format is not supported with documents or tools"));
    }
    let tool_choice = match body["tool_choice"].as_str() {
        None => ToolChoice::Auto,
        Some("NONE") => ToolChoice::None,
        Some("REQUIRED") if !tools.is_empty() => ToolChoice::Any,
        Some("REQUIRED") => return Err(Complaint::bad("tool_choice REQUIRED needs tools")),
        Some(other) => return Err(Complaint::bad(format!("tool_choice {other} is not valid"))),
    };
    let mut question = Question {
        model: model.to_owned(),
        stream: body["stream"] == true,
        tools,
        tool_choice,
        form: match &format["json_schema"] {
            schema @ Value::Object(_) => Form::Schema(schema.clone()),
            _ if format["type"] == "json_object" => Form::Json,
            _ => Form::Text,
        },
        reasoning: body["thinking"]["type"] == "enabled",
        max_tokens: body["max_tokens"].as_u64().map(|max| max as usize),
        stop: stops.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        choices: 1,
        prompt_bytes: request.body.len(),
        ..Question::default()
    };
    read_last_turn(messages, &mut question);
    for document in items(&body["documents"]) {
        question.seen.push(document["id"].as_str().unwrap_or("a document").to_owned());
    }
    Ok(question)
}

fn check_messages(messages: &[Value]) -> Result<(), Complaint> {
    if messages.is_empty() {
        return Err(Complaint::bad("messages is required"));
    }
    let mut open: Vec<&str> = Vec::new();
    for message in messages {
        let role = message["role"].as_str().unwrap_or_default();
        if !["system", "user", "assistant", "tool"].contains(&role) {
            return Err(Complaint::bad(format!("'{role}' is not a valid role")));
        }
        for part in items(&message["content"]) {
            let kind = part["type"].as_str().unwrap_or_default();
            let taken: &[&str] = match role {
                "user" => &["text", "image_url"],
                "assistant" => &["text", "thinking"],
                "tool" => &["text", "document"],
                _ => &["text"],
            };
            if !taken.contains(&kind) {
                return Err(Complaint::bad(format!("a {role} message has no content of type '{kind}'")));
            }
        }
        if role == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            let place = open.iter().position(|one| *one == id);
            open.remove(
                place.ok_or_else(|| Complaint::bad(format!("tool_call_id '{id}' is not in previous messages")))?,
            );
            continue;
        }
        if !open.is_empty() {
            return Err(Complaint::bad(format!("tool calls without a result: {}", open.join(", "))));
        }
        let calls = items(&message["tool_calls"]);
        open = calls.iter().filter_map(|call| call["id"].as_str()).collect();
        if calls.iter().any(|call| !call["function"]["arguments"].is_string()) {
            return Err(Complaint::bad("the arguments of a tool call are a string"));
        }
        let empty = message["content"].as_str().is_none_or(str::is_empty) && items(&message["content"]).is_empty();
        if role == "assistant" && empty && calls.is_empty() {
            return Err(Complaint::bad("an assistant message must have content or tool calls"));
        }
    }
    if open.is_empty() { Ok(()) } else { Err(Complaint::bad("the last tool calls have no result")) }
}

fn read_last_turn(messages: &[Value], question: &mut Question) {
    if let Some(user) = messages.iter().rfind(|message| message["role"] == "user") {
        question.last_text = text_of(&user["content"]);
        for part in items(&user["content"]).iter().filter(|part| part["type"] == "image_url") {
            question.seen.push(describe_url(part["image_url"]["url"].as_str().unwrap_or_default()));
        }
    }
    let answered = messages.iter().rev().take_while(|message| message["role"] == "tool").count();
    let (before, results) = messages.split_at(messages.len() - answered);
    for result in results {
        let calls = before.last().map_or(&[][..], |message| items(&message["tool_calls"]));
        let call = calls.iter().find(|call| call["id"] == result["tool_call_id"]);
        let name = call.and_then(|call| call["function"]["name"].as_str()).unwrap_or_default();
        question.tool_results.push((name.to_owned(), text_of(&result["content"])));
    }
}
