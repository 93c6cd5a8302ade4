//! Cohere's `POST /v2/embed`.

use super::{Answer, Request, complete, input_tokens};
use crate::dialect::chat::Rendered;
use crate::dialect::losses::Losses;
use crate::domain::{Fault, FaultKind};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The path below the base URL.
pub const PATH: &str = "/v2/embed";

/// How many inputs are taken at once; a longer list is sent in batches, see [`Answer::append`].
pub const MAX_INPUTS: usize = 96;

/// What the texts are for, where the client does not say (by Cohere's own `input_type`): to be searched in.
const INPUT_TYPE: &str = "search_document";

/// Renders a request.
///
/// # Errors
/// `BadRequest` when an input is no text, or something would be lost and must not be.
pub fn render(request: &Request, model: &str, require_parameters: bool) -> Result<Rendered, Fault> {
    let mut losses = Losses::new(require_parameters);
    let mut body = json!({
        "model": model,
        "input_type": INPUT_TYPE,
        "embedding_types": ["float"],
        "texts": request.texts()?,
    });
    if let Some(dimensions) = request.dimensions {
        body["output_dimension"] = dimensions.into();
    }
    for (name, value) in &request.rest {
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("input_type" | "truncate", Value::String(_)) | ("max_tokens" | "priority", Value::Number(_)) => {
                body[name.as_str()] = value.clone();
            }
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
    embeddings: Option<Box<RawValue>>,
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct ByType {
    float: Option<Vec<Box<RawValue>>>,
}

#[derive(Deserialize)]
struct Meta {
    billed_units: Option<Billed>,
}

#[derive(Deserialize)]
struct Billed {
    input_tokens: Option<f64>,
}

/// Reads an answer to this many inputs. Nothing but what is billed is counted there.
///
/// # Errors
/// `Empty` without any byte, `Malformed` when it is not an answer or a vector is missing.
pub fn decode(body: &[u8], inputs: usize) -> Result<Answer, Fault> {
    if body.trim_ascii().is_empty() {
        return Err(Fault::new(FaultKind::Empty, "the provider's answer is empty"));
    }
    let broken = || Fault::malformed("the provider's answer is not one of embeddings");
    let reply: Reply = serde_json::from_slice(body).map_err(|_| broken())?;
    let embeddings = reply.embeddings.ok_or_else(broken)?;
    // The first version of the API gave one list, and imitations of the second may.
    let vectors = if embeddings.get().starts_with('[') {
        serde_json::from_str(embeddings.get()).map_err(|_| broken())?
    } else {
        serde_json::from_str::<ByType>(embeddings.get()).ok().and_then(|by_type| by_type.float).ok_or_else(broken)?
    };
    let billed = reply.meta.and_then(|meta| meta.billed_units).and_then(|billed| billed.input_tokens);
    // A cast from a float saturates.
    let usage = billed.filter(|count| *count >= 0.0).map(|count| input_tokens(count as u64));
    complete(Answer { model: String::new(), vectors, usage }, inputs)
}
