//! OpenAI's Responses as OpenAI serves them beside chat completions.
//! Source: the API reference of `POST /responses`, its streaming events, and recordings of real exchanges.

use super::answer::{Answer, Finish, Form, Question, Tool, ToolChoice, describe_base64, describe_url, fingerprint};
use super::http::Request;
use super::openai::halves;
use super::wire::{Complaint, Frame, Part, Reply, items, object};
use serde_json::{Value, json};

const CREATED: u64 = 1_763_640_000;

pub(super) fn read(request: &Request) -> Result<Question, Complaint> {
    let Some(body) = object(request) else {
        return Err(Complaint::bad("We could not parse the JSON body of your request."));
    };
    let Some(model) = body["model"].as_str().filter(|model| !model.is_empty()) else {
        return Err(Complaint::bad_field("model", "Missing required parameter: 'model'."));
    };
    let foreign = ["extra", "models", "provider", "fallbacks", "messages", "max_tokens", "response_format"];
    if let Some(name) = foreign.into_iter().find(|name| body.get(name).is_some()) {
        return Err(Complaint::bad_field(name, format!("Unknown parameter: '{name}'.")));
    }
    if let Some(id) = body["previous_response_id"].as_str() {
        let message = format!("Previous response with id '{id}' not found.");
        return Err(Complaint::bad_field("previous_response_id", message));
    }
    let mut question = Question {
        model: model.to_owned(),
        responses: true,
        stream: body["stream"] == true,
        background: body["background"] == true,
        tools: items(&body["tools"]).iter().filter_map(tool).collect(),
        tool_choice: match &body["tool_choice"] {
            Value::String(word) if word == "none" => ToolChoice::None,
            Value::String(word) if word == "required" => ToolChoice::Any,
            choice => choice["name"].as_str().map_or(ToolChoice::Auto, |name| ToolChoice::Named(name.to_owned())),
        },
        one_call_only: body["parallel_tool_calls"] == false,
        form: match body["text"]["format"]["type"].as_str() {
            Some("json_schema") => Form::Schema(body["text"]["format"]["schema"].clone()),
            Some("json_object") => Form::Json,
            _ => Form::Text,
        },
        reasoning: body["reasoning"]["effort"].as_str().is_some_and(|effort| effort != "none"),
        max_tokens: body["max_output_tokens"].as_u64().map(|max| max as usize),
        choices: 1,
        prompt_bytes: request.body.len(),
        ..Question::default()
    };
    match &body["input"] {
        Value::String(text) => question.last_text.clone_from(text),
        Value::Array(list) if !list.is_empty() => read_items(list, &mut question)?,
        _ => return Err(Complaint::bad_field("input", "Missing required parameter: 'input'.")),
    }
    Ok(question)
}

fn tool(tool: &Value) -> Option<Tool> {
    let name = tool["name"].as_str()?.to_owned();
    Some(Tool { name, schema: tool["parameters"].clone() })
}

/// Roles, kinds of items, that reasoning is OpenAI's own, and that every call is answered.
fn read_items(list: &[Value], question: &mut Question) -> Result<(), Complaint> {
    let mut open: Vec<(&str, &str)> = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let at = format!("input[{index}]");
        let text = |name: &str| item[name].as_str().unwrap_or_default();
        match item["type"].as_str().unwrap_or("message") {
            "message" => {
                let role = text("role");
                if !["system", "developer", "user", "assistant"].contains(&role) {
                    return Err(Complaint::bad_field(format!("{at}.role"), format!("Invalid value: '{role}'.")));
                }
                if role == "user" {
                    question.seen.clear();
                    question.last_text = read_content(&item["content"], &at, question)?;
                }
                question.tool_results.clear();
            }
            "reasoning" if text("encrypted_content").starts_with("c2lt") => {}
            "reasoning" => {
                let message =
                    "The encrypted content could not be verified. Reason: Encrypted content could not be decrypted.";
                return Err(Complaint::bad_field(at, message));
            }
            "function_call" => {
                question.tool_results.clear();
                open.push((text("call_id"), text("name")));
            }
            "function_call_output" => {
                let Some(position) = open.iter().position(|(id, _)| *id == text("call_id")) else {
                    let message =
                        format!("No tool call found for function call output with call_id {}.", text("call_id"));
                    return Err(Complaint::bad_field("input", message));
                };
                let (_, name) = open.remove(position);
                question.tool_results.push((name.to_owned(), text("output").to_owned()));
            }
            other => return Err(Complaint::bad_field(format!("{at}.type"), format!("Invalid value: '{other}'."))),
        }
    }
    match open.first() {
        None => Ok(()),
        Some((id, _)) => Err(Complaint::bad_field("input", format!("No tool output found for function call {id}."))),
    }
}

fn read_content(content: &Value, at: &str, question: &mut Question) -> Result<String, Complaint> {
    if let Value::String(text) = content {
        return Ok(text.clone());
    }
    let mut text = String::new();
    for part in items(content) {
        match part["type"].as_str().unwrap_or_default() {
            "input_text" => text.push_str(part["text"].as_str().unwrap_or_default()),
            "input_image" => question.seen.push(describe_url(part["image_url"].as_str().unwrap_or_default())),
            "input_file" => question.seen.push(describe_url(part["file_data"].as_str().unwrap_or_default())),
            "input_audio" => {
                let audio = &part["input_audio"];
                let media_type = format!("audio/{}", audio["format"].as_str().unwrap_or_default());
                question.seen.push(describe_base64(&media_type, audio["data"].as_str().unwrap_or_default()));
            }
            other => {
                return Err(Complaint::bad_field(format!("{at}.content"), format!("Invalid value: '{other}'.")));
            }
        }
    }
    Ok(text)
}

fn output(answer: &Answer) -> Vec<Value> {
    let mut items = Vec::new();
    let number = answer.number;
    if !answer.reasoning.is_empty() {
        let text = answer.reasoning.concat();
        items.push(json!({
            "id": format!("rs_sim{number}"), "type": "reasoning", "encrypted_content": fingerprint(&text),
            "summary": [{ "type": "summary_text", "text": text }]
        }));
    }
    for choice in answer.choices.iter().take(1) {
        if choice.calls.is_empty() {
            let part =
                json!({ "type": "output_text", "annotations": [], "logprobs": [], "text": choice.text.concat() });
            items.push(json!({
                "id": format!("msg_sim{number}"), "type": "message", "status": "completed", "content": [part],
                "role": "assistant"
            }));
        }
        items.extend(choice.calls.iter().map(|call| {
            json!({
                "id": format!("fc_{}", call.id), "type": "function_call", "status": "completed",
                "arguments": call.arguments.to_string(), "call_id": format!("call_{}", call.id), "name": call.name
            })
        }));
    }
    items
}

fn response(answer: &Answer, status: &str, output: &[Value]) -> Value {
    let done = status != "in_progress";
    let (reasoning, visible) = (answer.reasoning.len(), answer.visible_tokens);
    let usage = json!({
        "input_tokens": answer.prompt_tokens, "input_tokens_details": { "cached_tokens": answer.cached_tokens },
        "output_tokens": visible + reasoning, "output_tokens_details": { "reasoning_tokens": reasoning },
        "total_tokens": answer.prompt_tokens + visible + reasoning
    });
    let incomplete = (status == "incomplete").then(|| json!({ "reason": "max_output_tokens" }));
    json!({
        "id": format!("resp_sim{}", answer.number), "object": "response", "created_at": CREATED, "status": status,
        "error": null, "incomplete_details": incomplete, "model": answer.model, "output": output,
        "parallel_tool_calls": true, "tool_choice": "auto", "tools": [], "usage": done.then_some(usage),
        "background": answer.background
    })
}

/// A response that is made in the background: kept until it is asked for.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    answer: Answer,
    /// `queued`, `cancelled`, or what [`super::Sim::end_responses`] says.
    status: &'static str,
}

/// What is asked of one by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Whole,
    Cancel,
}

/// The id and what is asked of it, by a method and a path below `/responses/`.
pub(super) fn asked(method: &str, below: &str) -> Option<(String, Asked)> {
    match (method, below.split_once('/')) {
        ("GET", None) => Some((below.to_owned(), Asked::Whole)),
        ("POST", Some((id, "cancel"))) => Some((id.to_owned(), Asked::Cancel)),
        _ => None,
    }
}

impl Kept {
    pub fn new(answer: &Answer) -> (String, Self) {
        (format!("resp_sim{}", answer.number), Self { answer: answer.clone(), status: "queued" })
    }

    /// It ends, unless it has.
    pub fn end(&mut self, status: &'static str) {
        if self.status == "queued" {
            self.status = status;
        }
    }

    /// It as it is now. One that was cancelled or has failed counts nothing.
    pub fn whole(&self) -> Value {
        let mut whole = match self.status {
            status @ ("completed" | "incomplete") => response(&self.answer, status, &output(&self.answer)),
            _ => response(&self.answer, "in_progress", &[]),
        };
        whole["status"] = json!(self.status);
        if self.status == "failed" {
            whole["error"] = json!({ "code": "server_error", "message": "The model has failed." });
        }
        whole
    }

    /// Its events from a place on. The last one ends it.
    pub fn events(&mut self, after: Option<usize>) -> Reply {
        self.end("completed");
        let events = frames(&self.answer).into_iter().skip(after.map_or(0, |after| after + 1));
        let body: Vec<u8> = events.flat_map(|frame| frame.to_sse("\n")).collect();
        Reply { status: 200, content_type: "text/event-stream; charset=utf-8", headers: Vec::new(), body }
    }
}

fn status(answer: &Answer) -> &'static str {
    let length = answer.choices.first().is_some_and(|choice| choice.finish == Finish::Length);
    if length { "incomplete" } else { "completed" }
}

pub(super) fn unary(answer: &Answer) -> Reply {
    if answer.background {
        return Reply::pretty(200, &Kept::new(answer).1.whole());
    }
    Reply::pretty(200, &response(answer, status(answer), &output(answer)))
}

pub(super) fn hollow(answer: &Answer) -> Reply {
    Reply::pretty(200, &json!({ "id": format!("resp_sim{}", answer.number), "object": "response", "output": null }))
}

pub(super) fn frames(answer: &Answer) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut event = |part: Part, kind: &'static str, mut members: Value| {
        members["type"] = json!(kind);
        members["sequence_number"] = json!(frames.len());
        frames.push(Frame { part, event: Some(kind), data: members.to_string() });
    };
    for kind in ["response.created", "response.in_progress"] {
        event(Part::Prelude, kind, json!({ "response": response(answer, "in_progress", &[]) }));
    }
    let output = output(answer);
    let text = answer.choices.first().map(|choice| choice.text.as_slice()).unwrap_or_default();
    for (place, item) in output.iter().enumerate() {
        let (id, whole) = (&item["id"], item);
        let at = |more: Value| {
            let mut members = json!({ "item_id": id, "output_index": place });
            if let (Value::Object(members), Value::Object(more)) = (&mut members, more) {
                members.extend(more);
            }
            members
        };
        let begun = match item["type"].as_str() {
            Some("message") => {
                json!({ "id": id, "type": "message", "status": "in_progress", "content": [], "role": "assistant" })
            }
            Some("reasoning") => json!({ "id": id, "type": "reasoning", "summary": [] }),
            _ => {
                let mut begun = item.clone();
                (begun["arguments"], begun["status"]) = (json!(""), json!("in_progress"));
                begun
            }
        };
        let part = if item["type"] == "message" { Part::Prelude } else { Part::Output };
        event(part, "response.output_item.added", json!({ "output_index": place, "item": begun }));
        match item["type"].as_str() {
            Some("message") => {
                let empty = json!({ "type": "output_text", "annotations": [], "logprobs": [], "text": "" });
                event(part, "response.content_part.added", at(json!({ "content_index": 0, "part": empty })));
                for piece in text {
                    let more = json!({ "content_index": 0, "delta": piece, "logprobs": [], "obfuscation": "x" });
                    event(Part::Output, "response.output_text.delta", at(more));
                }
                let more = json!({ "content_index": 0, "text": text.concat(), "logprobs": [] });
                event(Part::Finish, "response.output_text.done", at(more));
                let more = json!({ "content_index": 0, "part": item["content"][0] });
                event(Part::Finish, "response.content_part.done", at(more));
            }
            Some("reasoning") => {
                let empty = json!({ "type": "summary_text", "text": "" });
                let more = json!({ "summary_index": 0, "part": empty });
                event(Part::Output, "response.reasoning_summary_part.added", at(more));
                for piece in &answer.reasoning {
                    let more = json!({ "summary_index": 0, "delta": piece });
                    event(Part::Output, "response.reasoning_summary_text.delta", at(more));
                }
                let more = json!({ "summary_index": 0, "text": answer.reasoning.concat() });
                event(Part::Output, "response.reasoning_summary_text.done", at(more));
                let more = json!({ "summary_index": 0, "part": item["summary"][0] });
                event(Part::Output, "response.reasoning_summary_part.done", at(more));
            }
            _ => {
                let arguments = item["arguments"].as_str().unwrap_or_default();
                for piece in halves(arguments) {
                    event(Part::Output, "response.function_call_arguments.delta", at(json!({ "delta": piece })));
                }
                event(Part::Output, "response.function_call_arguments.done", at(json!({ "arguments": arguments })));
            }
        }
        let part = if item["type"] == "message" { Part::Finish } else { Part::Output };
        event(part, "response.output_item.done", json!({ "output_index": place, "item": whole }));
    }
    let status = status(answer);
    let last = if status == "completed" { "response.completed" } else { "response.incomplete" };
    event(Part::Finish, last, json!({ "response": response(answer, status, &output) }));
    frames
}
