//! The clouds in front of the dialects: paths, keys and bodies as Azure and Vertex have them become those of the provider itself.
//! Sources: the API references of Azure OpenAI and of Vertex AI; RFC 7523 and RFC 6749 for the token endpoint.
//!
//! ```text
//!   OpenAi      /openai/v1/chat/completions · /openai/deployments/<d>/chat/completions?api-version=…      api-key, or a bearer token
//!               /openai/v1/responses · /openai/responses?api-version=…
//!   Gemini      /v1/projects/<p>/locations/<l>/publishers/google/models/<m>:<method>                      a bearer token
//!   Anthropic   /v1/projects/<p>/locations/<l>/publishers/anthropic/models/<m>:rawPredict, :streamRawPredict
//!   any         POST /token                     a signed claim or a refresh token for an access token
//! ```

use super::http::Request;
use super::wire::{Complaint, Reply, SimDialect};
use serde_json::{Value, json};

/// What the tokens of [`token`] begin with; a number follows.
pub const TOKEN: &str = "ya29.sim-token-";

/// The request as the provider itself would get it; `None` when it is not a cloud's.
///
/// # Errors
/// What the cloud has against it.
pub(super) fn unwrap(dialect: SimDialect, request: &Request) -> Option<Result<Request, Complaint>> {
    match dialect {
        SimDialect::OpenAi => azure(request),
        SimDialect::Gemini | SimDialect::Anthropic => vertex(dialect, request),
        SimDialect::Cohere | SimDialect::Ollama | SimDialect::Bedrock => None,
    }
}

fn azure(request: &Request) -> Option<Result<Request, Complaint>> {
    let rest = request.path.strip_prefix("/openai/")?;
    let key = request.header("api-key").map(str::to_owned);
    let plain = |path: &str, body: Vec<u8>| {
        let mut headers = request.headers.clone();
        headers.extend(key.iter().map(|key| ("authorization".to_owned(), format!("Bearer {key}"))));
        Some(Ok(Request { path: path.to_owned(), headers, body, ..request.clone() }))
    };
    if rest == "responses" && request.query.contains("api-version=") {
        return plain("/v1/responses", request.body.clone());
    }
    if let Some(path) = rest.strip_prefix("v1") {
        return plain(&format!("/v1{path}"), request.body.clone());
    }
    let (deployment, path) = rest.strip_prefix("deployments/")?.split_once('/')?;
    if !request.query.contains("api-version=") {
        return Some(Err(Complaint::NoSuchPath { path: request.path.clone() }));
    }
    let mut body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    if !body.is_object() {
        // A form.
        return plain(&format!("/v1/{path}"), request.body.clone());
    }
    body["model"] = json!(deployment);
    plain(&format!("/v1/{path}"), body.to_string().into_bytes())
}

fn vertex(dialect: SimDialect, request: &Request) -> Option<Result<Request, Complaint>> {
    let rest = request.path.strip_prefix("/v1/projects/")?;
    let (publisher, model) = rest.split_once("/publishers/")?.1.split_once("/models/")?;
    let (model, method) = model.rsplit_once(':')?;
    let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let mut headers: Vec<_> = request.headers.iter().filter(|(name, _)| name != "authorization").cloned().collect();
    let bad = |message: &str| Some(Err(Complaint::bad(message)));
    if dialect == SimDialect::Gemini {
        headers.extend(token.map(|token| ("x-goog-api-key".to_owned(), token.to_owned())));
        let path = format!("/v1beta/models/{model}:{method}");
        return (publisher == "google").then(|| Ok(Request { path, headers, ..request.clone() }));
    }
    let mut body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let Some(fields) = body.as_object_mut() else { return bad("The request body is not valid JSON") };
    if fields.remove("anthropic_version") != Some(json!("vertex-2023-10-16")) {
        return bad("anthropic_version: Field required");
    }
    if fields.contains_key("model") {
        return bad("model: Extra inputs are not permitted");
    }
    if (fields.get("stream") == Some(&json!(true))) != (method == "streamRawPredict") {
        return bad("stream: does not fit the method");
    }
    fields.insert("model".to_owned(), json!(model));
    headers.push(("anthropic-version".to_owned(), "2023-06-01".to_owned()));
    headers.extend(token.map(|token| ("x-api-key".to_owned(), token.to_owned())));
    let (path, body) = ("/v1/messages".to_owned(), body.to_string().into_bytes());
    (publisher == "anthropic").then(|| Ok(Request { path, headers, body, ..request.clone() }))
}

/// The answer of the token endpoint; `None` for another path. A claim whose issuer contains `wrong` is refused.
pub(super) fn token(request: &Request, number: u64) -> Option<Reply> {
    if request.method != "POST" || request.path != "/token" {
        return None;
    }
    let form = String::from_utf8_lossy(&request.body).into_owned();
    let signed = form.contains("jwt-bearer") && form.contains("assertion=ey");
    let refreshed = form.contains("grant_type=refresh_token") && !form.contains("refresh_token=wrong");
    if (signed || refreshed) && !request.query.contains("refuse") {
        // Short enough for a test to see the next one: `expires_in` is the query's, else an hour.
        let life = request.query.strip_prefix("life=").and_then(|life| life.parse::<u64>().ok()).unwrap_or(3600);
        let body = json!({ "access_token": format!("{TOKEN}{number}"), "expires_in": life, "token_type": "Bearer" });
        return Some(Reply::json(200, &body));
    }
    let body = json!({ "error": "invalid_grant", "error_description": "Invalid JWT Signature." });
    Some(Reply::json(400, &body))
}
