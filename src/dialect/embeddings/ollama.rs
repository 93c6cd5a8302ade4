//! Ollama's own `POST /api/embed`.

use super::{Answer, Request, complete, input_tokens};
use crate::dialect::chat::Rendered;
use crate::dialect::losses::Losses;
use crate::domain::{Fault, FaultKind};
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
    if request.user.as_deref().is_some_and(|user| !user.is_empty()) {
        losses.drop("user", "this provider has no field for the end user")?;
    }
    Ok(Rendered { body: body.to_string().into_bytes(), dropped: losses.into_names(), ..Rendered::default() })
}

#[derive(Deserialize)]
struct Reply {
    model: Option<String>,
    embeddings: Option<Vec<Box<RawValue>>>,
    prompt_eval_count: Option<u64>,
}

/// Reads an answer to this many inputs.
///
/// # Errors
/// `Empty` without any byte, `Malformed` when it is not an answer or a vector is missing.
pub fn decode(body: &[u8], inputs: usize) -> Result<Answer, Fault> {
    if body.trim_ascii().is_empty() {
        return Err(Fault::new(FaultKind::Empty, "the provider's answer is empty"));
    }
    let broken = || Fault::malformed("the provider's answer is not one of embeddings");
    let reply: Reply = serde_json::from_slice(body).map_err(|_| broken())?;
    let vectors = reply.embeddings.ok_or_else(broken)?;
    let usage = reply.prompt_eval_count.map(input_tokens);
    complete(Answer { model: reply.model.unwrap_or_default(), vectors, usage }, inputs)
}
