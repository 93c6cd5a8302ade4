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

/// Of which version a change is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Version<'a> {
    /// Of whatever there is.
    Any,
    /// Of the one with this tag.
    Seen(&'a str),
    /// Of none: it is to be new.
    New,
}

impl<'a> Version<'a> {
    /// As a form carries it: the tag that it was made with, or nothing where there was nothing yet.
    pub fn of_form(tag: &'a str) -> Self {
        if tag.is_empty() { Self::New } else { Self::Seen(tag) }
    }
}

/// Asks the API on a visitor's behalf; what it refuses comes back as its problem.
pub(super) async fn ask(
    shared: &Arc<Shared>,
    visit: &Visit,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Problem> {
    ask_of(shared, visit, (method, path), body, Version::Any).await.map(|(value, _)| value)
}

/// The same about one version of something; gives what there is then, and its tag.
pub(super) async fn ask_of(
    shared: &Arc<Shared>,
    visit: &Visit,
    (method, path): (Method, &str),
    body: Option<&Value>,
    version: Version<'_>,
) -> Result<(Value, Option<String>), Problem> {
    let broken = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "The console could not ask its own API.");
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    let request = match version {
        Version::Any => request,
        Version::Seen(tag) => request.header(header::IF_MATCH, tag),
        Version::New => request.header(header::IF_NONE_MATCH, "*"),
    };
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let mut request = request.body(body).map_err(broken)?;
    request.extensions_mut().insert(visit.viewer.clone());
    let router = api::guarded().with_state(Arc::clone(shared));
    let Ok(answer) = router.oneshot(request).await;
    let status = answer.status();
    let tag = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let bytes = to_bytes(answer.into_body(), MOST_BYTES).await;
    let bytes = bytes.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "The API's answer is too long."))?;
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if status.is_success() {
        return Ok((value, tag));
    }
    let detail = value["detail"].as_str().unwrap_or("The API refuses, and does not say why.").to_owned();
    let problem = Problem::new(status, detail);
    Err(match value["at"].as_str() {
        Some(at) => problem.about(at.to_owned()),
        None => problem,
    })
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
