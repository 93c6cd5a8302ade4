//! What moves on the pages, as server-sent events: the operations feed, and every request in DevTools.
//! Who sees one organisation alone gets the events of its requests.

use super::visit::{Failure, Visit};
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::{KEEPALIVE, MOST_WATCHERS, Shared};
use crate::console::serve::Stopping;
use crate::store::ports::database::Access;
use crate::telemetry;
use crate::telemetry::live::{Seen, Watcher};
use crate::telemetry::operations::Kind;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Every request as it goes on.
pub(super) async fn requests(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let access = visit.access(Operation::SeeRequests)?;
    let watcher = watcher(&shared)?;
    let follower = Follower { watcher, stopping: shared.stopping.clone(), access };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(answer(events))
}

/// The operations feed: changes of states, and which key each attempt has leased.
pub(super) async fn feed(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    visit.viewer.may(Operation::SeeGateway, None)?;
    let state = (shared.deps.operations.watch(), shared.stopping.clone());
    let events = stream::unfold(state, |(mut lines, mut stopping)| async move {
        loop {
            let seen = tokio::select! {
                () = stopping.told() => None,
                seen = lines.next() => seen,
            };
            // What is lost on the way is in the log.
            let Ok(operation) = seen? else { continue };
            let (level, text) = told(&operation);
            let line = json!({"at_ms": operation.at_ms, "level": level, "text": text});
            let event = Event::default().event("line").json_data(line).unwrap_or_default();
            return Some((Ok(event), (lines, stopping)));
        }
    });
    Ok(answer(events))
}

/// An operation as people say it, and how much it matters: `openai_01 leased → openai/MODEL`.
pub(super) fn told(operation: &telemetry::operations::Operation) -> (&'static str, String) {
    let text = |part: &Option<Arc<str>>| part.as_deref().unwrap_or("?").to_owned();
    let words = |part: &Option<Arc<str>>| text(part).replace('_', " ");
    let (key, provider, model) = (text(&operation.key), text(&operation.provider), text(&operation.model));
    let why = words(&operation.why);
    let rest = operation.for_ms.map_or(0, |millis| millis.div_ceil(1000));
    match operation.kind {
        Kind::KeyLeased => ("info", format!("{key} leased \u{2192} {provider}/{model}")),
        Kind::KeyCooldown => ("info", format!("{key} cooldown {rest}s: {why}")),
        Kind::KeyExhausted => ("warn", format!("{key} exhausted \u{2014} cooldown {rest}s: {why}")),
        Kind::KeyDisabled => ("error", format!("{key} disabled: {provider} says {why}")),
        Kind::KeyIdle => ("info", format!("{key} ready again")),
        Kind::BreakerOpened => ("warn", format!("{provider}/{model} unhealthy: {why}")),
        Kind::BreakerClosed => ("info", format!("{provider}/{model} recovered")),
        // From the one that failed to the one that is asked next.
        Kind::Failover => ("info", format!("failover {model} \u{2192} {provider}: {why}")),
        Kind::StoreDown => ("warn", format!("{} cannot be asked: {why}", text(&operation.store))),
        Kind::StoreUp => ("info", format!("{} can be asked again", text(&operation.store))),
        Kind::ConfigReloaded => ("info", "a new configuration is in force".to_owned()),
        Kind::ConfigRefused => ("error", format!("a new configuration was refused: {why}")),
    }
}

fn watcher(shared: &Shared) -> Result<Watcher, Problem> {
    let watcher = shared.deps.live.watch();
    if shared.deps.live.watchers() > MOST_WATCHERS {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Too many are watching already.");
        return Err(problem.retry_after(Duration::from_secs(5)));
    }
    Ok(watcher)
}

fn answer(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    // Sent at once, so that the page knows that nothing from here on will be missed.
    let hello = Event::default().comment("live").retry(Duration::from_secs(2));
    let events = stream::once(async { Ok(hello) }).chain(events);
    let keepalive = KeepAlive::new().interval(KEEPALIVE).text("alive");
    let mut response = Sse::new(events).keep_alive(keepalive).into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Follower {
    watcher: Watcher,
    stopping: Stopping,
    access: Access,
}

impl Follower {
    async fn next(&mut self) -> Option<Event> {
        loop {
            let seen = tokio::select! {
                () = self.stopping.told() => None,
                seen = self.watcher.next() => seen,
            };
            let event = match seen? {
                Seen::Event(event) if !self.access.reaches(event.org.as_deref()) => continue,
                Seen::Event(event) => Event::default().json_data(&*event),
                Seen::Missed(count) => Event::default().event("missed").json_data(json!({"missed": count})),
            };
            return Some(event.unwrap_or_default());
        }
    }
}
