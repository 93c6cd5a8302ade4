//! Reads a messages request as strictly as Anthropic does: unknown fields, roles in turn, calls and results in pairs,
//! signatures unchanged.

use crate::sim::answer::{Form, Question, Tool, ToolChoice, describe_base64, describe_url, fingerprint};
use crate::sim::http::Request;
use crate::sim::wire::{Complaint, items, object};
use serde_json::Value;

const FIELDS: [&str; 21] = [
    "model",
    "max_tokens",
    "messages",
    "system",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "tools",
    "tool_choice",
    "thinking",
    "metadata",
    "service_tier",
    "container",
    "context_management",
    "mcp_servers",
    "output_config",
    "output_format",
    "inference_geo",
    "cache_control",
];

pub(in crate::sim) fn read(request: &Request) -> Result<Question, Complaint> {
    if request.header("anthropic-version").is_none() {
        return Err(Complaint::bad_field("anthropic-version", "header is required"));
    }
    let Some(body) = object(request) else {
        return Err(Complaint::bad("The request body is not valid JSON"));
    };
    if let Some(name) =
        body.as_object().into_iter().flatten().map(|(name, _)| name).find(|name| !FIELDS.contains(&name.as_str()))
    {
        return Err(Complaint::bad_field(name.as_str(), "Extra inputs are not permitted"));
    }
    let model = body["model"].as_str().filter(|model| !model.is_empty());
    let model = model.ok_or_else(|| Complaint::bad_field("model", "Field required"))?;
    let max_tokens = body["max_tokens"].as_u64().filter(|max| *max > 0);
    let max_tokens = max_tokens.ok_or_else(|| Complaint::bad_field("max_tokens", "Field required"))?;
    check_thinking(&body, max_tokens)?;
    let messages = items(&body["messages"]);
    check_messages(messages)?;
    let tools = read_tools(&body["tools"])?;
    let format =
        if body["output_format"].is_object() { &body["output_format"] } else { &body["output_config"]["format"] };
    let stops = items(&body["stop_sequences"]).iter().filter_map(Value::as_str);
    let mut question = Question {
        model: model.to_owned(),
        stream: body["stream"] == true,
        tools,
        tool_choice: match body["tool_choice"]["type"].as_str() {
            Some("none") => ToolChoice::None,
            Some("any") => ToolChoice::Any,
            Some("tool") => ToolChoice::Named(body["tool_choice"]["name"].as_str().unwrap_or_default().to_owned()),
            _ => ToolChoice::Auto,
        },
        one_call_only: body["tool_choice"]["disable_parallel_tool_use"] == true,
        form: if format["type"] == "json_schema" { Form::Schema(format["schema"].clone()) } else { Form::Text },
        reasoning: matches!(body["thinking"]["type"].as_str(), Some("enabled" | "adaptive")),
        max_tokens: Some(max_tokens as usize),
        stop: stops.map(str::to_owned).collect(),
        choices: 1,
        prompt_bytes: request.body.len(),
        caches: memchr::memmem::find(&request.body, b"\"cache_control\"").is_some(),
        ..Question::default()
    };
    read_last_turn(messages, &mut question);
    Ok(question)
}

/// The budget fits below `max_tokens`, and what thinking excludes is not asked for.
fn check_thinking(body: &Value, max_tokens: u64) -> Result<(), Complaint> {
    if let Some(temperature) = body["temperature"].as_f64()
        && !(0.0..=1.0).contains(&temperature)
    {
        return Err(Complaint::bad_field("temperature", "range: 0..1"));
    }
    let thinking = &body["thinking"];
    match thinking["type"].as_str() {
        None | Some("disabled") => return Ok(()),
        Some("adaptive") => {}
        Some("enabled") => {
            let Some(budget) = thinking["budget_tokens"].as_u64().filter(|budget| *budget >= 1024) else {
                let message = "Input should be greater than or equal to 1024";
                return Err(Complaint::bad_field("thinking.enabled.budget_tokens", message));
            };
            if budget >= max_tokens {
                return Err(Complaint::bad("`max_tokens` must be greater than `thinking.budget_tokens`."));
            }
        }
        Some(kind) => return Err(Complaint::bad_field("thinking", format!("Input tag '{kind}' is not known"))),
    }
    if body["temperature"].as_f64().is_some_and(|temperature| temperature != 1.0) {
        return Err(Complaint::bad("`temperature` may only be set to 1 when thinking is enabled."));
    }
    if matches!(body["tool_choice"]["type"].as_str(), Some("any" | "tool")) {
        return Err(Complaint::bad("Thinking may not be enabled when tool_choice forces tool use."));
    }
    Ok(())
}

fn check_messages(messages: &[Value]) -> Result<(), Complaint> {
    if messages.is_empty() {
        return Err(Complaint::bad_field("messages", "at least one message is required"));
    }
    let mut previous = "assistant";
    let mut open: Vec<&str> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if role != "user" && role != "assistant" {
            return Err(Complaint::bad_field("messages", format!("Unexpected role \"{role}\".")));
        }
        if role == previous {
            let message = "roles must alternate between \"user\" and \"assistant\", beginning with \"user\"";
            return Err(Complaint::bad_field("messages", message));
        }
        previous = role;
        let content = &message["content"];
        if content.as_str().is_some_and(str::is_empty) || (!content.is_string() && items(content).is_empty()) {
            let message = "all messages must have non-empty content except for the optional final assistant message";
            return Err(Complaint::bad_field(format!("messages.{index}"), message));
        }
        check_results(index, items(content), &mut open)?;
        for (position, block) in items(content).iter().enumerate() {
            check_block(&format!("messages.{index}.content.{position}"), role, block)?;
        }
        open = items(content)
            .iter()
            .filter(|block| block["type"] == "tool_use")
            .filter_map(|block| block["id"].as_str())
            .collect();
    }
    match open.as_slice() {
        [] => Ok(()),
        ids => Err(unanswered(messages.len() - 1, ids)),
    }
}

/// Every call of the previous message has its result in this one, and there is no other result.
fn check_results(index: usize, blocks: &[Value], open: &mut Vec<&str>) -> Result<(), Complaint> {
    for id in blocks.iter().filter(|block| block["type"] == "tool_result").map(|block| block["tool_use_id"].as_str()) {
        let id = id.unwrap_or_default();
        let Some(position) = open.iter().position(|one| *one == id) else {
            let message = format!("unexpected `tool_use_id` found in `tool_result` blocks: {id}.");
            return Err(Complaint::bad_field(format!("messages.{index}"), message));
        };
        open.remove(position);
    }
    if open.is_empty() { Ok(()) } else { Err(unanswered(index.saturating_sub(1), open)) }
}

fn unanswered(index: usize, ids: &[&str]) -> Complaint {
    let message =
        format!("`tool_use` ids were found without `tool_result` blocks immediately after: {}.", ids.join(", "));
    Complaint::bad_field(format!("messages.{index}"), message)
}

fn check_block(at: &str, role: &str, block: &Value) -> Result<(), Complaint> {
    let kind = block["type"].as_str().unwrap_or_default();
    let allowed: &[&str] = match role {
        "user" => &["text", "image", "document", "tool_result", "search_result"],
        _ => &["text", "thinking", "redacted_thinking", "tool_use"],
    };
    if !allowed.contains(&kind) {
        return Err(Complaint::bad_field(at, format!("Input tag '{kind}' found using 'type' is not allowed here")));
    }
    match kind {
        "text" if block["text"].as_str().is_none_or(|text| text.trim().is_empty()) => {
            Err(Complaint::bad("messages: text content blocks must contain non-whitespace text"))
        }
        "image" | "document" => {
            let source = &block["source"];
            let data = source["data"].as_str().unwrap_or_default();
            let base64 = source["type"] == "base64";
            let known =
                ["base64", "url", "text", "content", "file"].contains(&source["type"].as_str().unwrap_or_default());
            if !known || (base64 && (data.is_empty() || data.contains(':') || source["media_type"].is_null())) {
                return Err(Complaint::bad_field(format!("{at}.{kind}.source"), "invalid base64 data or source"));
            }
            Ok(())
        }
        "thinking" => {
            let expected = fingerprint(block["thinking"].as_str().unwrap_or_default());
            if block["signature"].as_str() == Some(expected.as_str()) {
                return Ok(());
            }
            Err(Complaint::bad_field(at, "Invalid `signature` in `thinking` block"))
        }
        "tool_use" if !block["input"].is_object() || block["name"].as_str().is_none() => {
            Err(Complaint::bad_field(format!("{at}.tool_use.input"), "Input should be a valid dictionary"))
        }
        _ => Ok(()),
    }
}

fn read_tools(tools: &Value) -> Result<Vec<Tool>, Complaint> {
    let mut read = Vec::new();
    for (index, tool) in items(tools).iter().enumerate() {
        // Tools that Anthropic runs itself have a type of their own and no schema.
        if tool["type"].as_str().is_some_and(|kind| kind != "custom") {
            continue;
        }
        let Some(name) = tool["name"].as_str() else {
            return Err(Complaint::bad_field(format!("tools.{index}.custom.name"), "Field required"));
        };
        if tool["input_schema"]["type"] != "object" {
            return Err(Complaint::bad_field(format!("tools.{index}.custom.input_schema.type"), "Field required"));
        }
        read.push(Tool { name: name.to_owned(), schema: tool["input_schema"].clone() });
    }
    Ok(read)
}

fn read_last_turn(messages: &[Value], question: &mut Question) {
    let Some((last, before)) = messages.split_last() else { return };
    let turn = if last["role"] == "user" { last } else { before.last().unwrap_or(last) };
    question.last_text = text_of(&turn["content"]);
    let blocks = items(&turn["content"]);
    for block in blocks.iter().filter(|block| block["type"] == "image" || block["type"] == "document") {
        let source = &block["source"];
        question.seen.push(match source["type"].as_str() {
            Some("base64") => {
                let media_type = source["media_type"].as_str().unwrap_or_default();
                describe_base64(media_type, source["data"].as_str().unwrap_or_default())
            }
            Some("url") => describe_url(source["url"].as_str().unwrap_or_default()),
            _ => source["file_id"].as_str().or_else(|| source["data"].as_str()).unwrap_or_default().to_owned(),
        });
    }
    // Text after the results is a new question.
    if blocks.last().is_some_and(|block| block["type"] == "tool_result") {
        let calls =
            before.iter().flat_map(|message| items(&message["content"])).filter(|block| block["type"] == "tool_use");
        let calls: Vec<&Value> = calls.collect();
        for result in blocks.iter().filter(|block| block["type"] == "tool_result") {
            let call = calls.iter().rfind(|call| call["id"] == result["tool_use_id"]);
            let name = call.and_then(|call| call["name"].as_str()).unwrap_or_default();
            question.tool_results.push((name.to_owned(), text_of(&result["content"])));
        }
    }
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        blocks => items(blocks).iter().filter_map(|block| block["text"].as_str()).collect(),
    }
}
