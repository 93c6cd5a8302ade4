//! Google's embeddings: `batchEmbedContents` and `embedContent` of the Gemini API, and Vertex AI's `predict`.
//!
//! Sources: the API references of both, and recordings.

use super::{Answer, Request, broken, input_tokens, read, sheet};
use crate::dialect::chat::Rendered;
use crate::dialect::losses::Losses;
use crate::domain::{Fault, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// How many inputs `batchEmbedContents` takes at once.
pub const MAX_INPUTS: usize = 100;

/// The method for several inputs.
pub const BATCH: &str = "batchEmbedContents";
/// The method for one input.
pub const CONTENT: &str = "embedContent";
/// Vertex AI's method.
pub const PREDICT: &str = "predict";

/// The path of a method below the base URL.
pub fn path(model: &str, method: &str) -> String {
    format!("/v1beta/models/{}:{method}", model.strip_prefix("models/").unwrap_or(model))
}

/// Renders `batchEmbedContents`.
///
/// # Errors
/// `BadRequest` when an input is no text, or something would be lost and must not be.
pub fn render_batch(request: &Request, model: &str, require_parameters: bool) -> Result<Rendered, Fault> {
    let mut losses = Losses::new(require_parameters);
    let mut frame = frame(request, &mut losses)?;
    frame.insert("model".to_owned(), format!("models/{}", model.strip_prefix("models/").unwrap_or(model)).into());
    let item = |text: &str| {
        let mut item = frame.clone();
        item.insert("content".to_owned(), content(text));
        Value::Object(item)
    };
    let items: Vec<Value> = request.texts()?.into_iter().map(item).collect();
    sheet(&json!({ "requests": items }), request, losses)
}

/// Renders `embedContent` for the only input.
///
/// # Errors
/// As [`render_batch`].
pub fn render_content(request: &Request, require_parameters: bool) -> Result<Rendered, Fault> {
    let mut losses = Losses::new(require_parameters);
    let mut body = frame(request, &mut losses)?;
    body.insert("content".to_owned(), content(request.texts()?.first().copied().unwrap_or_default()));
    sheet(&Value::Object(body), request, losses)
}

/// Renders `predict`.
///
/// # Errors
/// As [`render_batch`].
pub fn render_predict(request: &Request, require_parameters: bool) -> Result<Rendered, Fault> {
    let mut losses = Losses::new(require_parameters);
    let mut parameters = Map::new();
    if let Some(dimensions) = request.dimensions {
        parameters.insert("outputDimensionality".to_owned(), dimensions.into());
    }
    let mut frame = Map::new();
    if let Some(task) = request.task_type() {
        frame.insert("task_type".to_owned(), task.into());
    }
    for (name, value) in &request.rest {
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("task_type" | "taskType" | "input_type", _) if request.task_type().is_some() => {}
            ("title", Value::String(_)) => drop(frame.insert(name.clone(), value.clone())),
            ("auto_truncate" | "autoTruncate", Value::Bool(_)) => {
                parameters.insert("autoTruncate".to_owned(), value.clone());
            }
            _ => losses.drop(name, "this provider has no such parameter")?,
        }
    }
    let item = |text: &str| {
        let mut item = frame.clone();
        item.insert("content".to_owned(), text.into());
        Value::Object(item)
    };
    let items: Vec<Value> = request.texts()?.into_iter().map(item).collect();
    let mut body = json!({ "instances": items });
    if !parameters.is_empty() {
        body["parameters"] = parameters.into();
    }
    sheet(&body, request, losses)
}

/// What each input is asked with.
fn frame(request: &Request, losses: &mut Losses) -> Result<Map<String, Value>, Fault> {
    let mut frame = Map::new();
    if let Some(dimensions) = request.dimensions {
        frame.insert("outputDimensionality".to_owned(), dimensions.into());
    }
    if let Some(task) = request.task_type() {
        frame.insert("taskType".to_owned(), task.into());
    }
    for (name, value) in &request.rest {
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("task_type" | "taskType" | "input_type", _) if request.task_type().is_some() => {}
            ("title", Value::String(_)) => drop(frame.insert(name.clone(), value.clone())),
            _ => losses.drop(name, "this provider has no such parameter")?,
        }
    }
    Ok(frame)
}

fn content(text: &str) -> Value {
    json!({ "parts": [{ "text": text }] })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    embeddings: Option<Vec<Values>>,
    embedding: Option<Values>,
    usage_metadata: Option<Counts>,
}

#[derive(Deserialize)]
struct Values {
    values: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    prompt_token_count: Option<u64>,
}

/// Reads an answer to either method of the Gemini API. Older models count nothing.
///
/// # Errors
/// `Empty` without any byte, `Malformed` when it is not an answer.
pub fn decode(body: &[u8]) -> Result<Answer, Fault> {
    let reply: Reply = read(body)?;
    let vectors = reply.embeddings.or_else(|| reply.embedding.map(|one| vec![one])).ok_or_else(broken)?;
    let vectors = vectors.into_iter().map(|vector| vector.values).collect();
    let usage = reply.usage_metadata.and_then(|counts| counts.prompt_token_count).map(input_tokens);
    Ok(Answer { model: String::new(), vectors, usage })
}

#[derive(Deserialize)]
struct Predictions {
    predictions: Vec<Prediction>,
}

#[derive(Deserialize)]
struct Prediction {
    embeddings: Predicted,
}

#[derive(Deserialize)]
struct Predicted {
    values: Box<RawValue>,
    statistics: Option<Statistics>,
}

#[derive(Deserialize)]
struct Statistics {
    token_count: Option<f64>,
}

/// Reads an answer of `predict`, which counts each input's tokens.
///
/// # Errors
/// As [`decode`].
pub fn decode_predict(body: &[u8]) -> Result<Answer, Fault> {
    let reply: Predictions = read(body)?;
    let counted = |one: &Prediction| one.embeddings.statistics.as_ref().and_then(|statistics| statistics.token_count);
    // A cast from a float saturates.
    let counts: Option<Vec<u64>> = reply.predictions.iter().map(|one| counted(one).map(|count| count as u64)).collect();
    let usage: Option<Usage> = counts.map(|counts| input_tokens(counts.into_iter().fold(0, u64::saturating_add)));
    let vectors = reply.predictions.into_iter().map(|one| one.embeddings.values).collect();
    Ok(Answer { model: String::new(), vectors, usage })
}
