//! The console's routes and what every answer has in common.

use super::Deps;
use super::api::{self, Segments};
use super::auth::{self, Failures};
use super::hosts;
use super::live;
use super::pages;
use super::password::Passwords;
use super::problem::Problem;
use super::roles::Operation;
use super::serve::{Front, Stopping};
use super::viewer::Viewer;
use crate::domain::RequestId;
use crate::store::ports::database::Access;
use crate::telemetry::live::{Elsewhere, Node};
use crate::telemetry::recent::Explanation;
use axum::Router;
use axum::body::to_bytes;
use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// No request here needs a larger body.
pub(super) const MOST_BODY: usize = 64 << 10;
/// How long a body may take. Nobody types it.
const BODY_WITHIN: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 10 });

/// What the handlers share.
pub(super) struct Shared {
    pub deps: Deps,
    pub failures: Failures,
    pub passwords: Passwords,
    /// Places for those who watch something live.
    pub watching: live::Seats,
    /// Sent after each request that may have changed something: who watches may not any more.
    pub changes: watch::Sender<()>,
    /// Ends the live streams when the console stops.
    pub stopping: Stopping,
}

impl Shared {
    /// Whether what calls itself so is a process of this node: one that an upgrade has replaced, whose console is this one now.
    pub fn is_own(&self, node: &Node) -> bool {
        let listens = |console| (self.deps.snapshot)().console.listen.contains(&console);
        self.deps.live.node() == Some(&node.name) && node.console.is_some_and(listens)
    }
}

/// All routes.
pub(super) fn router(deps: Deps, stopping: Stopping) -> Router {
    let shared = Arc::new(Shared {
        deps,
        failures: Failures::default(),
        passwords: Passwords::default(),
        watching: live::Seats::default(),
        changes: watch::Sender::new(()),
        stopping,
    });
    let guarded = Router::new()
        .route("/api/v1/live", get(live_requests))
        .route("/api/v1/requests/{id}/explain", get(explain))
        .route("/api/v1/requests/{id}/payloads", get(payloads))
        .merge(api::guarded())
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), auth::require_viewer));
    let guarded_pages =
        pages::guarded().route_layer(middleware::from_fn_with_state(Arc::clone(&shared), auth::require_viewer_of_page));
    Router::new()
        .merge(pages::open())
        .merge(guarded_pages)
        .route("/", get(front_page))
        .route("/metrics", get(metrics))
        .route("/livez", get(alive))
        .route("/readyz", get(ready))
        .merge(api::open())
        .merge(guarded)
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "There is nothing here."))
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "This cannot be done here: use the methods in the Allow header.",
            )
        })
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), hosts::own_names_alone))
        .layer(middleware::from_fn(bounded_and_guarded))
        .with_state(shared)
}

/// Refuses bodies that nothing here needs, and tells browsers to take every answer for what it is and no more.
async fn bounded_and_guarded(request: Request, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let mut response = if length.is_some_and(|length: usize| length > MOST_BODY) {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 64 KiB.").into_response()
    } else {
        match whole(request).await {
            Ok(request) => next.run(request).await,
            Err(problem) => problem.into_response(),
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
             frame-ancestors 'none'; base-uri 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The request with its whole body, before anything is done for it: who sends only a part of it has not asked for anything.
async fn whole(request: Request) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(BODY_WITHIN, to_bytes(body, MOST_BODY)).await {
        Ok(Ok(bytes)) => Ok(Request::from_parts(parts, bytes.into())),
        Ok(Err(_)) => {
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "The body cannot be read, or is larger than 64 KiB."))
        }
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "The body does not come.")),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, shared.deps.metrics.render()).into_response()
}

async fn alive() -> Response {
    json(StatusCode::OK, &serde_json::json!({"status": "alive"}))
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    if !(shared.deps.ready)() {
        return json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({"status": "not ready"}));
    }
    let (away, spending) = ((shared.deps.degraded)().is_some(), (shared.deps.spending)());
    // It goes on with what it knows, so it stays in the load balancer.
    let mut told = serde_json::json!({"status": if away || spending.is_some() { "degraded" } else { "ready" }});
    if away {
        told["database"] = "away".into();
    }
    if let Some(spending) = spending {
        told["spending"] = spending.into();
    }
    json(StatusCode::OK, &told)
}

/// Why a request went where it went.
#[utoipa::path(get, path = "/api/v1/requests/{id}/explain", tag = "requests", params(("id" = String, Path,)),
    responses((status = 200, body = Object)))]
pub(super) async fn explain(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(id): Segments<String>,
) -> Result<Response, Problem> {
    let reach = viewer.reach(Operation::SeeRequests, None)?;
    let Some(id) = RequestId::parse(&id) else {
        return Err(Problem::bad_request("This is no request's id: one is req_ and 24 hexadecimal digits."));
    };
    // What is kept in memory does not say whose it is.
    let recent = viewer.is_administrator().then(|| (shared.deps.explain)(id)).flatten();
    if let Some(explanation) = recent {
        return Ok(json(StatusCode::OK, &explanation));
    }
    let mut row = None;
    if let Some(ledger) = &shared.deps.ledger {
        for access in &reach {
            row = row.or(ledger.find(access, id).await.map_err(|error| {
                log::warn!("the ledger cannot be asked: {error}");
                let detail = "It is not among the last 10,000 requests, and the ledger cannot be asked now.";
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            })?);
        }
    }
    let Some(explanation) = row.and_then(Explanation::of) else {
        let detail = "Nothing is kept of this request: it had no plan, or is too old for the ledger.";
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    let shown = serde_json::to_value(explanation).map_err(|_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "What is kept of this request cannot be shown.")
    })?;
    Ok(json(StatusCode::OK, &shown))
}

/// What a request carried.
#[utoipa::path(get, path = "/api/v1/requests/{id}/payloads", tag = "requests", params(("id" = String, Path,)),
    responses((status = 200, body = Object)))]
pub(super) async fn payloads(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(id): Segments<String>,
) -> Result<Response, Problem> {
    let Some(id) = RequestId::parse(&id) else {
        return Err(Problem::bad_request("This is no request's id: one is req_ and 24 hexadecimal digits."));
    };
    // Of another organisation's request nobody hears that there is one.
    let mut found = shared.deps.payloads.get(&id).filter(|it| viewer.role_in(&it.org).is_some());
    if let Some(payloads) = &found {
        viewer.may(Operation::SeePayloads, Some(&payloads.org))?;
    } else if let Some(archive) = &shared.deps.archive {
        for access in viewer.reach(Operation::SeePayloads, None)? {
            found = found.or(archive.payloads(&access, id).await.map(|kept| kept.map(Arc::new)).map_err(|error| {
                log::warn!("the database cannot be asked for payloads: {error}");
                let detail = "It is not in memory any more, and the database cannot be asked now.";
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            })?);
        }
    }
    let shown = found.and_then(|payloads| serde_json::to_value(&*payloads).ok());
    shown
        .map(|shown| json(StatusCode::OK, &shown))
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, not_here(&shared, &viewer, &id)))
}

/// Why there is nothing of what a request carried, and which node may have it.
fn not_here(shared: &Shared, viewer: &Viewer, id: &RequestId) -> String {
    let reach = viewer.reach(Operation::SeePayloads, None).unwrap_or_default();
    let elsewhere = shared.deps.live.elsewhere(id);
    let Some(Elsewhere { node, .. }) =
        elsewhere.filter(|it| reach.iter().any(|access| access.reaches(it.org.as_deref())))
    else {
        return "Nothing that this request carried is kept: it is too old, or it or its key said that nothing is to be, or \
                telemetry.ring_bytes is off."
            .to_owned();
    };
    if shared.is_own(&node) {
        return "What this request carried is not in the database, but in the memory of a process that an upgrade has replaced, which has no \
                console any more."
            .to_owned();
    }
    let at = node.console.map(|console| format!(", which listens on {console} there")).unwrap_or_default();
    format!(
        "What this request carried is not in the database: node {} alone has it in memory, while it is among the last ones there. \
         Ask the console of that node{at}.",
        node.name
    )
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// What this is and where the gateway is, for programs that ask for JSON; people go on to a page.
async fn front_page(
    State(shared): State<Arc<Shared>>,
    front: Option<Extension<Front>>,
    headers: HeaderMap,
) -> Response {
    const ROUTES: [&str; 5] = ["/metrics", "/livez", "/readyz", "/api/v1/live", "/api/v1/health"];
    let Deps { version, gateway_urls, .. } = &shared.deps;
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accepts.contains("application/json") && !accepts.contains("text/html") {
        let page = serde_json::json!({
            "name": "orbyt console", "version": version, "gateway": gateway_urls, "routes": ROUTES,
        });
        return json(StatusCode::OK, &page);
    }
    let is_devtools = front.is_some_and(|Extension(front)| front == Front::DevTools);
    Redirect::to(if is_devtools { "/devtools" } else { "/overview" }).into_response()
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Each request as it goes on, as server-sent events: [`live::requests`].
async fn live_requests(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    after: live::After,
) -> Result<Response, Problem> {
    viewer.may(Operation::SeeGateway, None)?;
    live::requests(&shared, &viewer, Operation::SeeGateway, Access::System, after)
}
