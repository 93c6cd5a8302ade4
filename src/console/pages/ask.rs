//! Asking the API from a page: a form does what the API does, with the same checks, the same rights and the same entry in the audit log.

use super::visit::{Failure, Visit};
use crate::console::api;
use crate::console::problem::Problem;
use crate::console::routes::Shared;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use serde_json::Value;
use std::sync::Arc;
use tower::ServiceExt;

/// An answer of the API is never larger.
const MOST_BYTES: usize = 4 << 20;

/// Asks the API on a visitor's behalf; what it refuses comes back as its problem.
pub(super) async fn ask(
    shared: &Arc<Shared>,
    visit: &Visit,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Problem> {
    let broken = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "The console could not ask its own API.");
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let mut request = request.body(body).map_err(broken)?;
    request.extensions_mut().insert(visit.viewer.clone());
    let router = api::guarded().with_state(Arc::clone(shared));
    let Ok(answer) = router.oneshot(request).await;
    let status = answer.status();
    let bytes = to_bytes(answer.into_body(), MOST_BYTES).await;
    let bytes = bytes.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "The API's answer is too long."))?;
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if status.is_success() {
        return Ok(value);
    }
    let detail = value["detail"].as_str().unwrap_or("The API refuses, and does not say why.").to_owned();
    Err(Problem::new(status, detail))
}

/// A list of the API's: up to a thousand items, of the chosen organisation.
pub(super) async fn list(shared: &Arc<Shared>, visit: &Visit, path: &str) -> Result<Vec<Value>, Failure> {
    let path = visit.link(&format!("{path}?limit=1000"));
    let mut answer = ask(shared, visit, Method::GET, &path, None).await?;
    Ok(match answer["data"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    })
}

/// A text out of an answer; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// A piece of an address.
pub(super) fn segment(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
