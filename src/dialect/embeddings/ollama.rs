//! Ollama's own `POST /api/embed`.

use super::{Answer, Request, broken, input_tokens, read, sheet};
use crate::dialect::chat::Rendered;
use crate::dialect::losses::Losses;
use crate::domain::Fault;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The path below the base URL.
pub const PATH: &str = "/api/embed";

/// Renders a request.
///
/// # Errors
/// `BadRequest` when an input is no text, or something would be lost and must not be.
pub fn render(request: &Request, model: &str, require_parameters: bool) -> Result<Rendered, Fault> {
    let mut losses = Losses::new(require_parameters);
    let mut body = json!({ "model": model, "input": request.texts()? });
    if let Some(dimensions) = request.dimensions {
        body["dimensions"] = dimensions.into();
    }
    for (name, value) in &request.rest {
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("truncate", Value::Bool(_)) | ("options", Value::Object(_)) => body[name.as_str()] = value.clone(),
            ("keep_alive", Value::String(_) | Value::Number(_)) => body[name.as_str()] = value.clone(),
            _ => losses.drop(name, "this provider has no such parameter")?,
        }
    }
    sheet(&body, request, losses)
}

#[derive(Deserialize)]
struct Reply {
    model: Option<String>,
    embeddings: Option<Vec<Box<RawValue>>>,
    prompt_eval_count: Option<u64>,
}

/// Reads an answer.
///
/// # Errors
/// `Empty` without any byte, `Malformed` when it is not an answer.
pub fn decode(body: &[u8]) -> Result<Answer, Fault> {
    let reply: Reply = read(body)?;
    let vectors = reply.embeddings.ok_or_else(broken)?;
    let usage = reply.prompt_eval_count.map(input_tokens);
    Ok(Answer { model: reply.model.unwrap_or_default(), vectors, usage })
}
