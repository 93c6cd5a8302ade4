//! OpenAI's chat completions as a provider serves them.
//! Source: the API reference of `POST /chat/completions` and recordings of real exchanges.

use super::answer::{Answer, Choice, Finish, Form, Question, Tool, ToolChoice, describe_base64, describe_url};
use super::http::Request;
use super::wire::{Complaint, Frame, Part, Reply, Route, items, object};
use super::{completions, responses};
use serde_json::{Value, json};

const CREATED: u64 = 1_763_640_000;

pub(super) fn route(request: &Request) -> Result<Route, Complaint> {
    let path = request.path.strip_prefix("/v1").unwrap_or(&request.path);
    match (request.method.as_str(), path) {
        ("POST", "/chat/completions" | "/responses") => Ok(Route::Generate),
        ("POST", _) if completions::PATHS.contains(&path) => Ok(Route::Generate),
        ("GET", "/models") => Ok(Route::ListModels),
        ("GET", _) if path.starts_with("/models/") => Ok(Route::Model(path["/models/".len()..].to_owned())),
        (method, _) if path.starts_with("/responses/") => {
            let asked = responses::asked(method, &path["/responses/".len()..]);
            let (id, asked) = asked.ok_or_else(|| Complaint::NoSuchPath { path: request.path.clone() })?;
            Ok(Route::Response(id, asked))
        }
        (_, "/chat/completions" | "/responses" | "/models") => Err(Complaint::BadMethod),
        _ => Err(Complaint::NoSuchPath { path: request.path.clone() }),
    }
}

pub(super) fn read(request: &Request) -> Result<Question, Complaint> {
    if request.path.ends_with("/responses") {
        return responses::read(request);
    }
    if !request.path.ends_with("/chat/completions") {
        return completions::read(request);
    }
    if !request.header("content-type").is_some_and(|value| value.starts_with("application/json")) {
        return Err(Complaint::bad("Unsupported content type: this API takes 'application/json'."));
    }
    let Some(body) = object(request) else {
        return Err(Complaint::bad("We could not parse the JSON body of your request."));
    };
    let Some(model) = body["model"].as_str().filter(|model| !model.is_empty()) else {
        return Err(Complaint::bad("you must provide a model parameter"));
    };
    if let Some(name) = ["extra", "models", "provider", "fallbacks"].into_iter().find(|name| body.get(name).is_some()) {
        return Err(Complaint::bad(format!("Unrecognized request argument supplied: {name}")));
    }
    let stream = body["stream"] == true;
    if !stream && !body["stream_options"].is_null() {
        return Err(Complaint::bad_field(
            "stream_options",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        ));
    }
    if !body["max_tokens"].is_null() && !body["max_completion_tokens"].is_null() {
        return Err(Complaint::bad(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
        ));
    }
    let messages = items(&body["messages"]);
    if messages.is_empty() {
        return Err(Complaint::bad_field(
            "messages",
            "Invalid 'messages': empty array. Expected an array with minimum length 1.",
        ));
    }
    check_messages(messages)?;
    let max_tokens = body["max_completion_tokens"].as_u64().or_else(|| body["max_tokens"].as_u64());
    let mut question = Question {
        model: model.to_owned(),
        stream,
        include_usage: body["stream_options"]["include_usage"] == true,
        tools: read_tools(&body["tools"])?,
        tool_choice: read_tool_choice(&body["tool_choice"]),
        one_call_only: body["parallel_tool_calls"] == false,
        form: read_form(&body["response_format"]),
        reasoning: body["reasoning_effort"].as_str().is_some_and(|effort| effort != "none")
            || body["reasoning"].is_object(),
        max_tokens: max_tokens.map(|max| max as usize),
        stop: match &body["stop"] {
            Value::String(stop) => vec![stop.clone()],
            stops => items(stops).iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        },
        choices: body["n"].as_u64().unwrap_or(1) as usize,
        prompt_bytes: request.body.len(),
        ..Question::default()
    };
    read_last_turn(messages, &mut question);
    Ok(question)
}

/// Roles, contents, and that every tool call is answered right after it.
fn check_messages(messages: &[Value]) -> Result<(), Complaint> {
    let mut open: Vec<&str> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let at = format!("messages[{index}]");
        let role = message["role"].as_str().unwrap_or_default();
        if !["system", "developer", "user", "assistant", "tool", "function"].contains(&role) {
            return Err(Complaint::bad_field(
                format!("{at}.role"),
                format!("Invalid value: '{role}' for '{at}.role'."),
            ));
        }
        if role == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            let Some(position) = open.iter().position(|one| *one == id) else {
                let message = "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.";
                return Err(Complaint::bad_field(format!("{at}.role"), message));
            };
            open.remove(position);
            continue;
        }
        if !open.is_empty() {
            let message = "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'.";
            return Err(Complaint::bad_field("messages", format!("{message} Missing: {}", open.join(", "))));
        }
        open = items(&message["tool_calls"]).iter().filter_map(|call| call["id"].as_str()).collect();
        let content = &message["content"];
        if role != "assistant" && !content.is_string() && items(content).is_empty() {
            return Err(Complaint::bad_field(
                format!("{at}.content"),
                format!("Invalid value for '{at}.content': expected a string or parts."),
            ));
        }
        for part in items(content) {
            let kind = part["type"].as_str().unwrap_or_default();
            if !["text", "image_url", "input_audio", "file", "refusal", "video_url"].contains(&kind) {
                return Err(Complaint::bad_field(at, format!("Invalid value: '{kind}' is not a type of content.")));
            }
        }
    }
    if open.is_empty() {
        Ok(())
    } else {
        Err(Complaint::bad_field("messages", "The last 'tool_calls' are not answered."))
    }
}

fn read_last_turn(messages: &[Value], question: &mut Question) {
    if let Some(user) = messages.iter().rfind(|message| message["role"] == "user") {
        question.last_text = text_of(&user["content"]);
        for part in items(&user["content"]) {
            match part["type"].as_str() {
                Some("image_url") => {
                    let url =
                        part["image_url"]["url"].as_str().or_else(|| part["image_url"].as_str()).unwrap_or_default();
                    question.seen.push(describe_url(url));
                }
                Some("input_audio") => {
                    let audio = &part["input_audio"];
                    let format = audio["format"].as_str().unwrap_or_default();
                    question
                        .seen
                        .push(describe_base64(&format!("audio/{format}"), audio["data"].as_str().unwrap_or_default()));
                }
                Some("file") => {
                    let file = &part["file"];
                    question.seen.push(describe_url(
                        file["file_data"].as_str().or_else(|| file["file_id"].as_str()).unwrap_or_default(),
                    ));
                }
                _ => {}
            }
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

pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        parts => items(parts).iter().filter_map(|part| part["text"].as_str()).collect(),
    }
}

pub(super) fn read_tools(tools: &Value) -> Result<Vec<Tool>, Complaint> {
    let tool = |(index, tool): (usize, &Value)| match tool["function"]["name"].as_str() {
        Some(name) => Ok(Tool { name: name.to_owned(), schema: tool["function"]["parameters"].clone() }),
        None => Err(Complaint::bad_field(format!("tools[{index}].function.name"), "Missing required parameter.")),
    };
    items(tools).iter().enumerate().map(tool).collect()
}

fn read_tool_choice(choice: &Value) -> ToolChoice {
    match choice {
        Value::String(word) if word == "none" => ToolChoice::None,
        Value::String(word) if word == "required" => ToolChoice::Any,
        Value::Object(_) => {
            choice["function"]["name"].as_str().map_or(ToolChoice::Auto, |name| ToolChoice::Named(name.to_owned()))
        }
        _ => ToolChoice::Auto,
    }
}

fn read_form(format: &Value) -> Form {
    match format["type"].as_str() {
        Some("json_schema") => Form::Schema(format["json_schema"]["schema"].clone()),
        Some("json_object") => Form::Json,
        _ => Form::Text,
    }
}

pub(super) fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence(_) => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
    }
}

pub(super) fn usage(answer: &Answer) -> Value {
    let completion = answer.visible_tokens + answer.reasoning.len();
    json!({
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": answer.prompt_tokens + completion,
        "prompt_tokens_details": { "cached_tokens": answer.cached_tokens, "audio_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": answer.reasoning.len(), "audio_tokens": 0 }
    })
}

fn completion(answer: &Answer, choices: Vec<Value>) -> Reply {
    Reply::pretty(
        200,
        &json!({
            "id": format!("chatcmpl-sim{}", answer.number), "object": "chat.completion", "created": CREATED,
            "model": answer.model, "choices": choices, "usage": usage(answer), "service_tier": "default",
            "system_fingerprint": "fp_sim"
        }),
    )
}

pub(super) fn unary(answer: &Answer) -> Reply {
    if answer.responses {
        return responses::unary(answer);
    }
    if answer.texts {
        return completions::unary(answer);
    }
    let choice = |(index, choice): (usize, &Choice)| {
        let content = if choice.calls.is_empty() { json!(choice.text.concat()) } else { Value::Null };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null, "annotations": [] });
        if !answer.reasoning.is_empty() {
            message["reasoning_content"] = json!(answer.reasoning.concat());
        }
        if !choice.calls.is_empty() {
            let call = |call: &super::answer::Call| {
                let function = json!({ "name": call.name, "arguments": call.arguments.to_string() });
                json!({ "id": format!("call_{}", call.id), "type": "function", "function": function })
            };
            message["tool_calls"] = choice.calls.iter().map(call).collect();
        }
        json!({ "index": index, "message": message, "logprobs": null, "finish_reason": finish_reason(&choice.finish) })
    };
    completion(answer, answer.choices.iter().enumerate().map(choice).collect())
}

pub(super) fn hollow(answer: &Answer) -> Reply {
    if answer.responses {
        return responses::hollow(answer);
    }
    if answer.texts {
        return completions::hollow(answer);
    }
    let message = json!({ "role": "assistant", "content": null });
    completion(answer, vec![json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": null })])
}

pub(super) fn frames(answer: &Answer, include_usage: bool) -> Vec<Frame> {
    if answer.responses {
        return responses::frames(answer);
    }
    if answer.texts {
        return completions::frames(answer, include_usage);
    }
    let chunk = |part: Part, choices: Value, usage: Option<Value>| {
        let mut chunk = json!({
            "id": format!("chatcmpl-sim{}", answer.number), "object": "chat.completion.chunk", "created": CREATED,
            "model": answer.model, "service_tier": "default", "system_fingerprint": "fp_sim", "choices": choices
        });
        if include_usage {
            chunk["usage"] = usage.unwrap_or_default();
        }
        Frame { part, event: None, data: chunk.to_string() }
    };
    let delta = |part: Part, index: usize, delta: Value, finish: Option<&str>| {
        chunk(part, json!([{ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish }]), None)
    };
    let mut frames: Vec<Frame> = (0..answer.choices.len())
        .map(|index| delta(Part::Prelude, index, json!({ "role": "assistant", "content": "", "refusal": null }), None))
        .collect();
    for (index, choice) in answer.choices.iter().enumerate() {
        frames.extend(
            answer
                .reasoning
                .iter()
                .map(|piece| delta(Part::Output, index, json!({ "reasoning_content": piece }), None)),
        );
        frames.extend(choice.text.iter().map(|piece| delta(Part::Output, index, json!({ "content": piece }), None)));
        for (position, call) in choice.calls.iter().enumerate() {
            let start = json!({
                "index": position, "id": format!("call_{}", call.id), "type": "function",
                "function": { "name": call.name, "arguments": "" }
            });
            frames.push(delta(Part::Output, index, json!({ "tool_calls": [start] }), None));
            for piece in halves(&call.arguments.to_string()) {
                let more = json!({ "index": position, "function": { "arguments": piece } });
                frames.push(delta(Part::Output, index, json!({ "tool_calls": [more] }), None));
            }
        }
    }
    for (index, choice) in answer.choices.iter().enumerate() {
        frames.push(delta(Part::Finish, index, json!({}), Some(finish_reason(&choice.finish))));
    }
    if include_usage {
        frames.push(chunk(Part::Finish, json!([]), Some(usage(answer))));
    }
    frames.push(Frame { part: Part::Terminator, event: None, data: "[DONE]".to_owned() });
    frames
}

/// A text in two pieces, cut where a character begins.
pub(super) fn halves(text: &str) -> [&str; 2] {
    let middle = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(at, _)| at);
    [&text[..middle], &text[middle..]]
}

pub(super) fn complain(complaint: &Complaint) -> Reply {
    let (status, kind, code, message) = match complaint {
        Complaint::RateLimited { .. } => (
            429,
            "requests",
            Some("rate_limit_exceeded"),
            "Rate limit reached for requests. Please try again in 1s.".to_owned(),
        ),
        Complaint::Quota => {
            let message = "You exceeded your current quota, please check your plan and billing details.";
            (429, "insufficient_quota", Some("insufficient_quota"), message.to_owned())
        }
        Complaint::PaymentRequired => {
            (402, "billing_error", Some("payment_required"), "Insufficient balance.".to_owned())
        }
        Complaint::NoKey => (401, "invalid_request_error", None, "You didn't provide an API key.".to_owned()),
        Complaint::BadKey { shown } => {
            (401, "invalid_request_error", Some("invalid_api_key"), format!("Incorrect API key provided: {shown}."))
        }
        Complaint::Forbidden => {
            let message = "You have insufficient permissions for this operation. Missing scopes: model.request.";
            (403, "invalid_request_error", Some("missing_scope"), message.to_owned())
        }
        Complaint::ModelNotFound { model } => {
            let message = format!("The model `{model}` does not exist or you do not have access to it.");
            (404, "invalid_request_error", Some("model_not_found"), message)
        }
        Complaint::NoSuchPath { path } => {
            (404, "invalid_request_error", Some("unknown_url"), format!("Invalid URL ({path})"))
        }
        Complaint::BadMethod => (405, "invalid_request_error", Some("method_not_supported"), "Not allowed.".to_owned()),
        Complaint::BadRequest { message, .. } => (400, "invalid_request_error", None, message.clone()),
        Complaint::ContextLength => {
            let message =
                "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.";
            (400, "invalid_request_error", Some("context_length_exceeded"), message.to_owned())
        }
        Complaint::ServerError | Complaint::BadGateway => {
            (500, "server_error", None, "The server had an error while processing your request.".to_owned())
        }
        Complaint::Unavailable => (503, "server_error", None, "The engine is not ready yet.".to_owned()),
        Complaint::Overloaded => (529, "server_error", None, "The engine is currently overloaded.".to_owned()),
    };
    let param = match complaint {
        Complaint::BadRequest { param: Some(param), .. } => Some(param.as_str()),
        Complaint::ContextLength => Some("messages"),
        _ => None,
    };
    let mut reply =
        Reply::pretty(status, &json!({ "error": { "message": message, "type": kind, "param": param, "code": code } }));
    if let Complaint::RateLimited { retry_after_s: Some(seconds) } = complaint {
        reply.headers.push(("retry-after", seconds.to_string()));
        reply.headers.push(("retry-after-ms", (seconds * 1000).to_string()));
    }
    reply
}

pub(super) fn model(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": CREATED, "owned_by": "simulated" })
}

pub(super) fn list_models(models: &[String]) -> Reply {
    Reply::pretty(200, &json!({ "object": "list", "data": models.iter().map(|id| model(id)).collect::<Vec<_>>() }))
}
