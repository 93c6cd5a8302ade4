//! Amazon's own embeddings on Bedrock (`InvokeModel`): Titan and Nova, which take one text at a time.
//!
//! Cohere's models there speak Cohere's format. All of them also tell how many tokens they read in [`TOKENS`].
//!
//! Sources: the parameters of Amazon Titan Text Embeddings and of Amazon Nova Multimodal Embeddings, and recordings.

use super::{Answer, Request, broken, input_tokens, read, sheet};
use crate::dialect::chat::Rendered;
use crate::dialect::losses::Losses;
use crate::domain::Fault;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The header that tells the tokens of the input.
pub const TOKENS: &str = "x-amzn-bedrock-input-token-count";

/// The path below the base URL.
pub fn path(model: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let model: String = model.bytes().map(escaped).collect();
    format!("/model/{model}/invoke")
}

/// Renders a request for Titan.
///
/// # Errors
/// `BadRequest` when the input is no text, or something would be lost and must not be.
pub fn render_titan(request: &Request, require_parameters: bool) -> Result<Rendered, Fault> {
    let mut losses = Losses::new(require_parameters);
    let mut body = json!({ "inputText": text(request)? });
    if let Some(dimensions) = request.dimensions {
        body["dimensions"] = dimensions.into();
    }
    for (name, value) in &request.rest {
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("normalize", Value::Bool(_)) => body["normalize"] = value.clone(),
            _ => losses.drop(name, "this provider has no such parameter")?,
        }
    }
    sheet(&body, request, losses)
}

/// Renders a request for Nova.
///
/// # Errors
/// As [`render_titan`].
pub fn render_nova(request: &Request, require_parameters: bool) -> Result<Rendered, Fault> {
    let mut losses = Losses::new(require_parameters);
    let (mut purpose, mut truncate) = (purpose(request), "END");
    for (name, value) in &request.rest {
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("input_type", Value::String(_)) => {}
            ("embedding_purpose" | "embeddingPurpose", Value::String(word)) => purpose = word,
            ("truncate" | "truncationMode", Value::String(word)) => truncate = word,
            _ => losses.drop(name, "this provider has no such parameter")?,
        }
    }
    let text = json!({ "truncationMode": truncate, "value": text(request)? });
    let mut single = json!({ "embeddingPurpose": purpose, "text": text });
    if let Some(dimensions) = request.dimensions {
        single["embeddingDimension"] = dimensions.into();
    }
    sheet(&json!({ "taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": single }), request, losses)
}

/// What the text is for; to be searched in, where the client does not say.
fn purpose(request: &Request) -> &str {
    match request.rest.get("input_type").and_then(Value::as_str) {
        Some("search_query" | "query") => "GENERIC_RETRIEVAL",
        Some("classification") => "CLASSIFICATION",
        Some("clustering") => "CLUSTERING",
        _ => "GENERIC_INDEX",
    }
}

fn text(request: &Request) -> Result<&str, Fault> {
    Ok(request.texts()?.first().copied().unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Titan {
    embedding: Option<Box<RawValue>>,
    input_text_token_count: Option<u64>,
}

/// Reads an answer of Titan's.
///
/// # Errors
/// `Empty` without any byte, `Malformed` when it is not an answer.
pub fn decode_titan(body: &[u8]) -> Result<Answer, Fault> {
    let reply: Titan = read(body)?;
    let vector = reply.embedding.ok_or_else(broken)?;
    let usage = reply.input_text_token_count.map(input_tokens);
    Ok(Answer { model: String::new(), vectors: vec![vector], usage })
}

#[derive(Deserialize)]
struct Nova {
    embeddings: Vec<One>,
}

#[derive(Deserialize)]
struct One {
    embedding: Box<RawValue>,
}

/// Reads an answer of Nova's, which counts in a header alone.
///
/// # Errors
/// As [`decode_titan`].
pub fn decode_nova(body: &[u8]) -> Result<Answer, Fault> {
    let reply: Nova = read(body)?;
    let vectors = reply.embeddings.into_iter().map(|one| one.embedding).collect();
    Ok(Answer { model: String::new(), vectors, usage: None })
}
