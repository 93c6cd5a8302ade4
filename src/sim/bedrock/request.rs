//! Reads a Converse request as strictly as Bedrock does: unknown fields, roles in turn, calls and results in pairs, tools listed
//! where there are calls, signatures unchanged.

use super::model_and_operation;
use crate::sim::answer::{Form, Question, Tool, ToolChoice, describe_base64, fingerprint};
use crate::sim::http::Request;
use crate::sim::wire::{Complaint, items, object};
use serde_json::Value;

const FIELDS: [&str; 12] = [
    "messages",
    "system",
    "inferenceConfig",
    "toolConfig",
    "guardrailConfig",
    "additionalModelRequestFields",
    "additionalModelResponseFieldPaths",
    "promptVariables",
    "requestMetadata",
    "performanceConfig",
    "serviceTier",
    "outputConfig",
];

pub(in crate::sim) fn read(request: &Request) -> Result<Question, Complaint> {
    let Some((model, operation)) = model_and_operation(&request.path) else {
        return Err(Complaint::NoSuchPath { path: request.path.clone() });
    };
    let Some(body) = object(request) else {
        return Err(Complaint::bad("The request body is not valid JSON."));
    };
    if let Some(name) =
        body.as_object().into_iter().flatten().map(|(name, _)| name).find(|name| !FIELDS.contains(&name.as_str()))
    {
        return Err(Complaint::bad(format!("Malformed input request: extraneous key [{name}] is not permitted")));
    }
    let config = &body["inferenceConfig"];
    if config["temperature"].as_f64().is_some_and(|it| !(0.0..=1.0).contains(&it)) {
        return Err(Complaint::bad("Value at 'inferenceConfig.temperature' failed to satisfy constraint: at most 1"));
    }
    let messages = items(&body["messages"]);
    check_messages(messages, body["toolConfig"].is_object())?;
    let extra = &body["additionalModelRequestFields"];
    let schema = body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"].as_str();
    let choice = &body["toolConfig"]["toolChoice"];
    let mut question = Question {
        model,
        stream: operation == "converse-stream",
        tools: read_tools(&body["toolConfig"])?,
        tool_choice: if choice["any"].is_object() {
            ToolChoice::Any
        } else if let Some(name) = choice["tool"]["name"].as_str() {
            ToolChoice::Named(name.to_owned())
        } else {
            ToolChoice::Auto
        },
        form: match schema.map(serde_json::from_str) {
            None => Form::Text,
            Some(Ok(schema)) => Form::Schema(schema),
            Some(Err(_)) => return Err(Complaint::bad("The schema of outputConfig is not JSON.")),
        },
        reasoning: matches!(extra["thinking"]["type"].as_str(), Some("enabled" | "adaptive"))
            || extra["reasoningConfig"].is_object(),
        max_tokens: config["maxTokens"].as_u64().map(|max| max as usize),
        stop: items(&config["stopSequences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        choices: 1,
        prompt_bytes: request.body.len(),
        caches: memchr::memmem::find(&request.body, b"\"cachePoint\"").is_some(),
        ..Question::default()
    };
    read_last_turn(messages, &mut question);
    Ok(question)
}

fn check_messages(messages: &[Value], has_tools: bool) -> Result<(), Complaint> {
    if messages.is_empty() {
        return Err(Complaint::bad("A conversation must start with a user message."));
    }
    let mut previous = "assistant";
    let mut open: Vec<&str> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if role == previous || !matches!(role, "user" | "assistant") {
            return Err(Complaint::bad("A conversation must alternate between user and assistant roles."));
        }
        previous = role;
        let content = items(&message["content"]);
        if content.is_empty() {
            return Err(Complaint::bad(format!("The content field in messages.{index} is empty.")));
        }
        for result in content.iter().filter_map(|block| block["toolResult"]["toolUseId"].as_str()) {
            let Some(position) = open.iter().position(|one| *one == result) else {
                return Err(Complaint::bad(format!("The toolResult {result} at messages.{index} has no toolUse.")));
            };
            open.remove(position);
        }
        if !open.is_empty() {
            return Err(Complaint::bad(format!(
                "Expected toolResult blocks at messages.{index} for: {}",
                open.join(", ")
            )));
        }
        for block in content {
            check_block(index, role, block)?;
        }
        open = content.iter().filter_map(|block| block["toolUse"]["toolUseId"].as_str()).collect();
        let uses_tools = content.iter().any(|block| block["toolUse"].is_object() || block["toolResult"].is_object());
        if uses_tools && !has_tools {
            let message = "The toolConfig field must be defined when using toolUse and toolResult content blocks.";
            return Err(Complaint::bad(message));
        }
    }
    if open.is_empty() { Ok(()) } else { Err(Complaint::bad("Expected toolResult blocks at the end.")) }
}

fn check_block(index: usize, role: &str, block: &Value) -> Result<(), Complaint> {
    let bad = |what: &str| Err(Complaint::bad(format!("messages.{index}: {what}")));
    let Some((kind, inner)) = block.as_object().filter(|block| block.len() == 1).and_then(|block| block.iter().next())
    else {
        return bad("a content block has one member");
    };
    let allowed: &[&str] = match role {
        "user" => &["text", "image", "document", "video", "audio", "toolResult", "cachePoint", "guardContent"],
        _ => &["text", "toolUse", "reasoningContent", "cachePoint", "citationsContent"],
    };
    if !allowed.contains(&kind.as_str()) {
        return bad(&format!("{kind} is not allowed for the role {role}"));
    }
    match kind.as_str() {
        "text" if inner.as_str().is_none_or(|text| text.trim().is_empty()) => bad("the text field is blank"),
        "image" | "video" | "audio" | "document"
            if inner["format"].as_str().is_none() || !inner["source"].is_object() =>
        {
            bad("format or source is missing")
        }
        "document" if inner["name"].as_str().is_none_or(str::is_empty) => bad("a document has a name"),
        "toolUse" if !inner["input"].is_object() => bad("the input of a toolUse is an object"),
        "toolResult" if items(&inner["content"]).is_empty() => bad("a toolResult has content"),
        "reasoningContent" => {
            let text = &inner["reasoningText"];
            let proved = text["signature"].as_str() == Some(&fingerprint(text["text"].as_str().unwrap_or_default()));
            if proved || inner["redactedContent"].is_string() {
                Ok(())
            } else {
                bad("Invalid `signature` in `thinking` block")
            }
        }
        _ => Ok(()),
    }
}

fn read_tools(config: &Value) -> Result<Vec<Tool>, Complaint> {
    let mut read = Vec::new();
    for tool in items(&config["tools"]) {
        if tool["cachePoint"].is_object() {
            continue;
        }
        let spec = &tool["toolSpec"];
        let (Some(name), schema) = (spec["name"].as_str(), &spec["inputSchema"]["json"]) else {
            return Err(Complaint::bad("toolConfig.tools: a toolSpec has a name"));
        };
        if schema["type"] != "object" {
            return Err(Complaint::bad("toolConfig.tools: the inputSchema is one of an object"));
        }
        if spec["description"].as_str().is_some_and(str::is_empty) {
            return Err(Complaint::bad("toolConfig.tools: an empty description"));
        }
        read.push(Tool { name: name.to_owned(), schema: schema.clone() });
    }
    if config.is_object() && read.is_empty() {
        return Err(Complaint::bad("toolConfig.tools: at least one tool"));
    }
    Ok(read)
}

fn read_last_turn(messages: &[Value], question: &mut Question) {
    let Some((last, before)) = messages.split_last() else { return };
    let turn = if last["role"] == "user" { last } else { before.last().unwrap_or(last) };
    let blocks: Vec<&Value> = items(&turn["content"]).iter().filter(|block| block["cachePoint"].is_null()).collect();
    question.last_text = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
    for (kind, block) in blocks.iter().filter_map(|block| block.as_object()?.iter().next()) {
        let format = block["format"].as_str().unwrap_or_default();
        let media_type = match (kind.as_str(), format) {
            ("document", "pdf") => "application/pdf".to_owned(),
            ("document", "txt") => "text/plain".to_owned(),
            (kind, format) => format!("{kind}/{format}"),
        };
        if let Some(data) = block["source"]["bytes"].as_str() {
            question.seen.push(describe_base64(&media_type, data));
        }
    }
    // Text after the results is a new question.
    if blocks.last().is_some_and(|block| block["toolResult"].is_object()) {
        let calls: Vec<&Value> =
            before.iter().flat_map(|message| items(&message["content"])).map(|block| &block["toolUse"]).collect();
        for result in blocks.iter().map(|block| &block["toolResult"]).filter(|result| result.is_object()) {
            let call = calls.iter().rfind(|call| call["toolUseId"] == result["toolUseId"]);
            let name = call.and_then(|call| call["name"].as_str()).unwrap_or_default();
            let text: String = items(&result["content"]).iter().filter_map(|block| block["text"].as_str()).collect();
            question.tool_results.push((name.to_owned(), text));
        }
    }
}
