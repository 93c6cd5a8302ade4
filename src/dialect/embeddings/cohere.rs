//! Cohere's `POST /v2/embed`, also as Amazon Bedrock hosts its models.

use super::{Answer, Request, broken, input_tokens, read, sheet};
use crate::dialect::chat::Rendered;
use crate::dialect::losses::Losses;
use crate::domain::Fault;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The path below the base URL.
pub const PATH: &str = "/v2/embed";

/// How many inputs are taken at once; a longer list is sent in batches.
pub const MAX_INPUTS: usize = 96;

/// What the texts are for, where the client does not say (by Cohere's own `input_type`): to be searched in.
const INPUT_TYPE: &str = "search_document";

/// Renders a request.
///
/// # Errors
/// `BadRequest` when an input is no text, or something would be lost and must not be.
pub fn render(request: &Request, model: &str, require_parameters: bool) -> Result<Rendered, Fault> {
    body(request, Some(model), require_parameters)
}

/// Renders a request for Bedrock, where the path names the model.
///
/// # Errors
/// As [`render`].
pub fn render_on_bedrock(request: &Request, require_parameters: bool) -> Result<Rendered, Fault> {
    body(request, None, require_parameters)
}

fn body(request: &Request, model: Option<&str>, require_parameters: bool) -> Result<Rendered, Fault> {
    let mut losses = Losses::new(require_parameters);
    let mut body = json!({ "input_type": INPUT_TYPE, "texts": request.texts()? });
    // On Bedrock the older models know neither, and floats are what all of them give.
    if let Some(model) = model {
        body["model"] = model.into();
        body["embedding_types"] = json!(["float"]);
    }
    if let Some(dimensions) = request.dimensions {
        body["output_dimension"] = dimensions.into();
    }
    for (name, value) in &request.rest {
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("input_type", Value::String(word)) => body["input_type"] = cohere_word(word).into(),
            ("truncate", Value::String(_)) | ("max_tokens" | "priority", Value::Number(_)) => {
                body[name.as_str()] = value.clone();
            }
            ("embedding_types", Value::Array(types)) if types.len() == 1 => body["embedding_types"] = value.clone(),
            _ => losses.drop(name, "this provider has no such parameter")?,
        }
    }
    sheet(&body, request, losses)
}

/// What Voyage calls otherwise.
fn cohere_word(word: &str) -> &str {
    match word {
        "document" => "search_document",
        "query" => "search_query",
        other => other,
    }
}

#[derive(Deserialize)]
struct Reply {
    embeddings: Option<Box<RawValue>>,
    meta: Option<Meta>,
}

/// One of them, as it was asked for.
#[derive(Deserialize)]
struct ByType {
    float: Option<Vec<Box<RawValue>>>,
    int8: Option<Vec<Box<RawValue>>>,
    uint8: Option<Vec<Box<RawValue>>>,
    binary: Option<Vec<Box<RawValue>>>,
    ubinary: Option<Vec<Box<RawValue>>>,
    base64: Option<Vec<Box<RawValue>>>,
}

#[derive(Deserialize)]
struct Meta {
    billed_units: Option<Billed>,
}

#[derive(Deserialize)]
struct Billed {
    input_tokens: Option<f64>,
}

/// Reads an answer. Nothing but what is billed is counted there.
///
/// # Errors
/// `Empty` without any byte, `Malformed` when it is not an answer.
pub fn decode(body: &[u8]) -> Result<Answer, Fault> {
    let reply: Reply = read(body)?;
    let embeddings = reply.embeddings.ok_or_else(broken)?;
    // The first version of the API gives one list, and so do the older models on Bedrock.
    let vectors = if embeddings.get().starts_with('[') {
        serde_json::from_str(embeddings.get()).map_err(|_| broken())?
    } else {
        let types: ByType = serde_json::from_str(embeddings.get()).map_err(|_| broken())?;
        let others = [types.int8, types.uint8, types.binary, types.ubinary, types.base64];
        types.float.or_else(|| others.into_iter().flatten().next()).ok_or_else(broken)?
    };
    let billed = reply.meta.and_then(|meta| meta.billed_units).and_then(|billed| billed.input_tokens);
    // A cast from a float saturates.
    let usage = billed.filter(|count| *count >= 0.0).map(|count| input_tokens(count as u64));
    Ok(Answer { model: String::new(), vectors, usage })
}
