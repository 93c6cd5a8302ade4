//! Anthropic's messages as a provider serves them.
//! Source: the API reference of `POST /v1/messages` (streaming and errors included) and recordings of real exchanges.

mod request;

pub(super) use request::read;

use super::answer::{Answer, Finish, fingerprint};
use super::http::Request;
use super::openai::halves;
use super::wire::{Complaint, Frame, Part, Reply, Route};
use serde_json::{Value, json};

pub(super) fn route(request: &Request) -> Result<Route, Complaint> {
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/v1/messages") => Ok(Route::Generate),
        ("POST", "/v1/messages/count_tokens") => Ok(Route::CountTokens),
        ("GET", "/v1/models") => Ok(Route::ListModels),
        ("GET", path) if path.starts_with("/v1/models/") => Ok(Route::Model(path["/v1/models/".len()..].to_owned())),
        (_, "/v1/messages" | "/v1/models") => Err(Complaint::BadMethod),
        (_, path) => Err(Complaint::NoSuchPath { path: path.to_owned() }),
    }
}

fn stop_reason(finish: &Finish) -> (&'static str, Value) {
    match finish {
        Finish::Stop => ("end_turn", Value::Null),
        Finish::StopSequence(stop) => ("stop_sequence", json!(stop)),
        Finish::Length => ("max_tokens", Value::Null),
        Finish::ToolCalls => ("tool_use", Value::Null),
    }
}

/// Anthropic counts what the cache gave and took beside `input_tokens`, and thinking within `output_tokens`.
fn usage(answer: &Answer, output_tokens: usize) -> Value {
    json!({
        "input_tokens": answer.prompt_tokens - answer.cached_tokens - answer.cache_write_tokens,
        "cache_creation_input_tokens": answer.cache_write_tokens,
        "cache_read_input_tokens": answer.cached_tokens,
        "output_tokens": output_tokens,
        "service_tier": "standard"
    })
}

fn output_tokens(answer: &Answer) -> usize {
    answer.visible_tokens + answer.reasoning.len()
}

fn message(
    answer: &Answer,
    content: Value,
    stop_reason: Option<&str>,
    stop_sequence: Value,
    output_tokens: usize,
) -> Value {
    json!({
        "model": answer.model, "id": format!("msg_sim{}", answer.number), "type": "message", "role": "assistant",
        "content": content, "stop_reason": stop_reason, "stop_sequence": stop_sequence, "usage": usage(answer, output_tokens)
    })
}

pub(super) fn unary(answer: &Answer) -> Reply {
    let mut content = Vec::new();
    if !answer.reasoning.is_empty() {
        let thinking = answer.reasoning.concat();
        content.push(json!({ "type": "thinking", "thinking": thinking, "signature": fingerprint(&thinking) }));
    }
    let Some(choice) = answer.choices.first() else { return hollow(answer) };
    if choice.calls.is_empty() {
        content.push(json!({ "type": "text", "text": choice.text.concat() }));
    }
    for call in &choice.calls {
        content.push(json!({ "type": "tool_use", "id": format!("toolu_{}", call.id), "name": call.name, "input": call.arguments }));
    }
    let (reason, sequence) = stop_reason(&choice.finish);
    Reply::json(200, &message(answer, json!(content), Some(reason), sequence, output_tokens(answer)))
}

pub(super) fn hollow(answer: &Answer) -> Reply {
    Reply::json(200, &message(answer, json!([]), None, Value::Null, 0))
}

/// A stream in the making: numbers the blocks and frames them.
struct Stream {
    frames: Vec<Frame>,
    blocks: usize,
}

impl Stream {
    fn push(&mut self, part: Part, event: &'static str, mut data: Value) {
        data["type"] = json!(event);
        self.frames.push(Frame { part, event: Some(event), data: data.to_string() });
    }

    /// One content block. An empty one that opens the stream is no output yet, but a tool call is.
    fn block(&mut self, start: Value, deltas: Vec<Value>) {
        let index = self.blocks;
        self.blocks += 1;
        let opens = index == 0 && start["type"] != "tool_use";
        let part = if opens { Part::Prelude } else { Part::Output };
        self.push(part, "content_block_start", json!({ "index": index, "content_block": start }));
        if opens {
            self.push(Part::Prelude, "ping", json!({}));
        }
        for delta in deltas {
            self.push(Part::Output, "content_block_delta", json!({ "index": index, "delta": delta }));
        }
        self.push(Part::Output, "content_block_stop", json!({ "index": index }));
    }
}

pub(super) fn frames(answer: &Answer) -> Vec<Frame> {
    let mut stream = Stream { frames: Vec::new(), blocks: 0 };
    let start = message(answer, json!([]), None, Value::Null, 1);
    stream.push(Part::Prelude, "message_start", json!({ "message": start }));
    if !answer.reasoning.is_empty() {
        let mut deltas: Vec<_> =
            answer.reasoning.iter().map(|piece| json!({ "type": "thinking_delta", "thinking": piece })).collect();
        deltas.push(json!({ "type": "signature_delta", "signature": fingerprint(&answer.reasoning.concat()) }));
        stream.block(json!({ "type": "thinking", "thinking": "", "signature": "" }), deltas);
    }
    let Some(choice) = answer.choices.first() else { return stream.frames };
    if choice.calls.is_empty() {
        let deltas = choice.text.iter().map(|piece| json!({ "type": "text_delta", "text": piece })).collect();
        stream.block(json!({ "type": "text", "text": "" }), deltas);
    }
    for call in &choice.calls {
        let mut deltas = vec![json!({ "type": "input_json_delta", "partial_json": "" })];
        let arguments = call.arguments.to_string();
        // A call without arguments is streamed with an empty text, not with `{}`.
        let pieces = if arguments == "{}" { Vec::new() } else { halves(&arguments).to_vec() };
        deltas.extend(pieces.into_iter().map(|piece| json!({ "type": "input_json_delta", "partial_json": piece })));
        let start = json!({ "type": "tool_use", "id": format!("toolu_{}", call.id), "name": call.name, "input": {} });
        stream.block(start, deltas);
    }
    let (reason, sequence) = stop_reason(&choice.finish);
    let delta = json!({ "stop_reason": reason, "stop_sequence": sequence });
    stream.push(
        Part::Finish,
        "message_delta",
        json!({ "delta": delta, "usage": usage(answer, output_tokens(answer)) }),
    );
    stream.push(Part::Terminator, "message_stop", json!({}));
    stream.frames
}

pub(super) fn complain(complaint: &Complaint) -> Reply {
    let (status, kind, message) = match complaint {
        Complaint::RateLimited { .. } => {
            (429, "rate_limit_error", "This request would exceed your organization's rate limit.".to_owned())
        }
        Complaint::Quota => {
            let message = "Your credit balance is too low to access the Anthropic API.";
            (400, "invalid_request_error", message.to_owned())
        }
        Complaint::PaymentRequired => {
            (402, "billing_error", "There is an issue with your billing information.".to_owned())
        }
        Complaint::NoKey => (401, "authentication_error", "x-api-key header is required".to_owned()),
        Complaint::BadKey { shown } if shown.contains('*') => {
            (401, "authentication_error", "invalid x-api-key".to_owned())
        }
        Complaint::BadKey { shown } => (401, "authentication_error", format!("invalid x-api-key: {shown}")),
        Complaint::Forbidden => {
            let message = "Your API key does not have permission to use the specified resource.";
            (403, "permission_error", message.to_owned())
        }
        Complaint::ModelNotFound { model } => (404, "not_found_error", format!("model: {model}")),
        Complaint::NoSuchPath { .. } => (404, "not_found_error", "Not Found".to_owned()),
        Complaint::BadMethod => (405, "invalid_request_error", "Method Not Allowed".to_owned()),
        Complaint::BadRequest { message, param } => {
            let at = param.as_ref().map(|param| format!("{param}: ")).unwrap_or_default();
            (400, "invalid_request_error", format!("{at}{message}"))
        }
        Complaint::ContextLength => {
            (400, "invalid_request_error", "prompt is too long: 9000 tokens > 8192 maximum".to_owned())
        }
        Complaint::ServerError | Complaint::BadGateway => (500, "api_error", "Internal server error".to_owned()),
        Complaint::Unavailable => (503, "api_error", "Service unavailable".to_owned()),
        Complaint::Overloaded => (529, "overloaded_error", "Overloaded".to_owned()),
    };
    let error = json!({ "type": kind, "message": message });
    let mut reply = Reply::json(status, &json!({ "type": "error", "error": error, "request_id": "req_sim" }));
    if let Complaint::RateLimited { retry_after_s: Some(seconds) } = complaint {
        reply.headers.push(("retry-after", seconds.to_string()));
    }
    reply
}

pub(super) fn model(id: &str) -> Value {
    json!({ "type": "model", "id": id, "display_name": id, "created_at": "2026-01-01T00:00:00Z" })
}

pub(super) fn list_models(models: &[String]) -> Reply {
    let data: Vec<_> = models.iter().map(|id| model(id)).collect();
    Reply::json(200, &json!({ "data": data, "has_more": false, "first_id": models.first(), "last_id": models.last() }))
}
