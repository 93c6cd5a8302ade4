//! Ollama's own chat as a server serves it.
//! Source: the API reference of `POST /api/chat` (streaming and errors included) and recordings of real exchanges.

mod request;

pub(super) use request::read;

use super::answer::{Answer, Call, Finish};
use super::http::Request;
use super::wire::{Complaint, Frame, Part, Reply, Route};
use serde_json::{Value, json};

const CREATED_AT: &str = "2026-11-20T12:00:00.000000Z";

pub(super) fn route(request: &Request) -> Result<Route, Complaint> {
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/api/chat") => Ok(Route::Generate),
        ("GET", "/api/tags") => Ok(Route::ListModels),
        // A server describes one model by `POST /api/show`; this is for the sameness of simulators.
        ("GET", path) if path.starts_with("/api/tags/") => Ok(Route::Model(path["/api/tags/".len()..].to_owned())),
        (_, "/api/chat" | "/api/tags") => Err(Complaint::BadMethod),
        (_, path) => Err(Complaint::NoSuchPath { path: path.to_owned() }),
    }
}

fn chunk(answer: &Answer, mut message: Value) -> Value {
    message["role"] = json!("assistant");
    if message["content"].is_null() {
        message["content"] = json!("");
    }
    json!({ "model": answer.model, "created_at": CREATED_AT, "message": message, "done": false })
}

/// Makes a chunk the last one. A server says stop beside calls, too.
fn finished(answer: &Answer, mut chunk: Value) -> Value {
    let finish = answer.choices.first().map(|choice| &choice.finish);
    chunk["done"] = json!(true);
    chunk["done_reason"] = json!(if finish == Some(&Finish::Length) { "length" } else { "stop" });
    chunk["total_duration"] = json!(2_000_000);
    chunk["load_duration"] = json!(1_000_000);
    chunk["prompt_eval_count"] = json!(answer.prompt_tokens);
    chunk["eval_count"] = json!(answer.visible_tokens + answer.reasoning.len());
    chunk
}

fn call((index, call): (usize, &Call)) -> Value {
    let function = json!({ "index": index, "name": call.name, "arguments": call.arguments });
    json!({ "id": format!("call_{}", call.id), "function": function })
}

pub(super) fn unary(answer: &Answer) -> Reply {
    let Some(choice) = answer.choices.first() else { return hollow(answer) };
    let mut message = json!({ "content": choice.text.concat() });
    if !answer.reasoning.is_empty() {
        message["thinking"] = json!(answer.reasoning.concat());
    }
    if !choice.calls.is_empty() {
        message["tool_calls"] = choice.calls.iter().enumerate().map(call).collect();
    }
    Reply::json(200, &finished(answer, chunk(answer, message)))
}

pub(super) fn hollow(answer: &Answer) -> Reply {
    Reply::json(200, &chunk(answer, json!({})))
}

pub(super) fn frames(answer: &Answer) -> Vec<Frame> {
    let line = |part: Part, chunk: &Value| Frame { part, event: None, data: chunk.to_string() };
    let said = |message: Value| line(Part::Output, &chunk(answer, message));
    let mut frames = vec![line(Part::Prelude, &chunk(answer, json!({})))];
    let Some(choice) = answer.choices.first() else { return frames };
    frames.extend(answer.reasoning.iter().map(|piece| said(json!({ "thinking": piece }))));
    frames.extend(choice.text.iter().map(|piece| said(json!({ "content": piece }))));
    // Calls come whole, each on a line of its own.
    frames.extend(choice.calls.iter().enumerate().map(|one| said(json!({ "tool_calls": [call(one)] }))));
    frames.push(line(Part::Finish, &finished(answer, chunk(answer, json!({})))));
    frames
}

pub(super) fn complain(complaint: &Complaint) -> Reply {
    let (status, message) = match complaint {
        Complaint::RateLimited { .. } => (429, "too many concurrent requests".to_owned()),
        Complaint::Quota => (429, "you've reached your weekly usage limit, please upgrade to continue".to_owned()),
        Complaint::PaymentRequired => (402, "this model needs a subscription".to_owned()),
        Complaint::NoKey => (401, "unauthorized".to_owned()),
        Complaint::BadKey { shown } => (401, format!("unauthorized: {shown}")),
        Complaint::Forbidden => (403, "forbidden".to_owned()),
        Complaint::ModelNotFound { model } => (404, format!("model '{model}' not found")),
        Complaint::NoSuchPath { path } => (404, format!("path \"{path}\" not found")),
        Complaint::BadMethod => (405, "method not allowed".to_owned()),
        Complaint::BadRequest { message, .. } => (400, message.clone()),
        Complaint::ContextLength => (400, "the input length exceeds the context length".to_owned()),
        Complaint::ServerError | Complaint::BadGateway => {
            (500, "llama runner process has terminated: exit status 2".to_owned())
        }
        Complaint::Unavailable => (503, "server busy, please try again. maximum pending requests exceeded".to_owned()),
        Complaint::Overloaded => (529, "the model is overloaded".to_owned()),
    };
    let mut reply = Reply::json(status, &json!({ "error": message }));
    if let Complaint::RateLimited { retry_after_s: Some(seconds) } = complaint {
        reply.headers.push(("retry-after", seconds.to_string()));
    }
    reply
}

pub(super) fn model(id: &str) -> Value {
    json!({ "name": id, "model": id, "modified_at": CREATED_AT, "size": 1 })
}

pub(super) fn list_models(models: &[String]) -> Reply {
    Reply::json(200, &json!({ "models": models.iter().map(|id| model(id)).collect::<Vec<_>>() }))
}
