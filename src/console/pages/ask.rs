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
const MOST_BYTES: usize = 16 << 20;
/// So many items of a list are asked for at once: at 64 KiB for each of the two largest parts of a key, they fit into an answer.
const PAGE: usize = 100;
/// So many pages of a list are read at most.
const MOST_PAGES: usize = 100;

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
    request.extensions_mut().insert(api::FromPage);
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

/// A list of the API's, of the chosen organisation.
pub(super) async fn list(shared: &Arc<Shared>, visit: &Visit, path: &str) -> Result<Vec<Value>, Failure> {
    let (mut all, mut cursor) = (Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let (items, next) = part(shared, visit, path, cursor.as_deref()).await?;
        all.extend(items);
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(all)
}

/// A part of a list, from a place in it on, and the place where it goes on.
pub(super) async fn part(
    shared: &Arc<Shared>,
    visit: &Visit,
    path: &str,
    cursor: Option<&str>,
) -> Result<(Vec<Value>, Option<String>), Problem> {
    let sign = if path.contains('?') { '&' } else { '?' };
    let mut path = format!("{path}{sign}limit={PAGE}");
    if let Some(cursor) = cursor {
        path += &format!("&cursor={}", segment(cursor));
    }
    let mut answer = ask(shared, visit, Method::GET, &visit.link(&path), None).await?;
    let items = match answer["data"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    Ok((items, answer["next_cursor"].as_str().map(str::to_owned)))
}

/// A text out of an answer; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// A piece of an address.
pub(super) fn segment(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
