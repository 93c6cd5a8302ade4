//! Streams of server-sent events: who watches, for as long as they may.
//!
//! ```text
//!              ┌──────────── events, a sign of life when there are none ────────────┐
//!              ▼                                                                    │
//!   begins: Watching ── logged out, expired, removed, another token ──> told `over`, ends
//!              └──────── the console stops, or the client has left ───> ends
//! ```
//!
//! A browser holds such a stream for hours, while everything else it asks is checked at each request. So whether it may go on is looked at
//! again every few seconds, and at once after anything that was changed by way of this console.

use super::problem::Problem;
use super::roles::Operation;
use super::routes::Shared;
use super::serve::Stopping;
use super::session;
use super::viewer::Viewer;
use crate::domain::secret::KeyHash;
use crate::store::ports::database::{Access, StoreError};
use crate::telemetry::live::{Audience, Place, Seen, Watcher};
use axum::body::Body;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{Stream, StreamExt};
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How many streams there may be at a time, well below the connections so that `/metrics` always gets through.
const MOST_WATCHERS: usize = 64;
/// A quiet stream shows in this interval that it is alive.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(15);
/// How many of them may be one person's, so that nobody keeps all others out.
const MOST_OF_ONE: usize = 16;
/// A sign of life.
pub(super) const ALIVE: Bytes = Bytes::from_static(b": alive\n\n");
/// How often it is looked whether somebody may still watch.
const LOOK: Duration = Duration::from_secs(5);
/// Between two looks, however much is changed.
const AT_LEAST: Duration = Duration::from_millis(250);
/// How long a client waits before it connects again.
const AGAIN: Duration = Duration::from_secs(2);

/// Who watches: so many streams of each person, and of the administrator (`None`).
#[derive(Clone, Default)]
pub(super) struct Seats(Arc<Mutex<HashMap<Option<Arc<str>>, usize>>>);

/// A place among those who watch, for as long as it is kept.
struct Seat {
    seats: Seats,
    whose: Option<Arc<str>>,
}

impl Seats {
    /// A place, unless all are taken or too many of them are theirs already.
    fn take(&self, whose: Option<Arc<str>>) -> Option<Seat> {
        let mut taken = self.0.lock();
        let all: usize = taken.values().sum();
        let own = taken.entry(whose.clone()).or_default();
        let most = if whose.is_some() { MOST_OF_ONE } else { MOST_WATCHERS };
        if all >= MOST_WATCHERS || *own >= most {
            taken.retain(|_, count| *count > 0);
            return None;
        }
        *own += 1;
        drop(taken);
        Some(Seat { seats: self.clone(), whose })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock();
        if let Some(count) = taken.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.whose);
            }
        }
    }
}

/// Somebody who watches.
pub(super) struct Watch {
    stopping: Stopping,
    /// Told when they may not any more; its end of the channel ends the task that looks.
    over: oneshot::Receiver<()>,
    alive_until: Instant,
    _seat: Seat,
}

/// What somebody who watches waits for.
pub(super) enum Next<T> {
    /// What they watch.
    Seen(T),
    /// Nothing has happened for a while.
    Quiet,
    /// They may not watch any more.
    Over,
    /// There is nothing any more.
    End,
}

impl Watch {
    /// Begins to watch what concerns `access`, which takes leave for an operation, unless too many do so already.
    pub(super) fn begin(
        shared: &Arc<Shared>,
        viewer: &Viewer,
        operation: Operation,
        access: &Access,
    ) -> Result<Self, Problem> {
        let seat = shared.watching.take(viewer.as_person().map(|person| person.id.clone())).ok_or_else(|| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Too many are watching already.").retry_after(LOOK)
        })?;
        let leave =
            Leave { viewer: viewer.clone(), token: (shared.deps.admin_token)(), operation, access: access.clone() };
        let (tell, over) = oneshot::channel();
        tokio::spawn(leave.look_after(shared.clone(), tell));
        Ok(Self { stopping: shared.stopping.clone(), over, alive_until: Instant::now() + KEEPALIVE, _seat: seat })
    }

    /// Waits for what comes first.
    pub(super) async fn next<T>(&mut self, seen: impl Future<Output = Option<T>>) -> Next<T> {
        let next = tokio::select! {
            biased;
            () = self.stopping.told() => Next::End,
            // The task ends without a word when the console does.
            _ = &mut self.over => Next::Over,
            seen = seen => seen.map_or(Next::End, Next::Seen),
            () = tokio::time::sleep_until(self.alive_until) => Next::Quiet,
        };
        self.alive_until = Instant::now() + KEEPALIVE;
        next
    }
}

/// What somebody was allowed when they began to watch.
struct Leave {
    viewer: Viewer,
    /// The administrator's token of that moment.
    token: Option<KeyHash>,
    operation: Operation,
    access: Access,
}

impl Leave {
    /// Looks until they may not watch any more, or do not.
    async fn look_after(self, shared: Arc<Shared>, mut tell: oneshot::Sender<()>) {
        let mut changes = shared.changes.subscribe();
        let mut looked = Instant::now();
        loop {
            // Not all at the same moment.
            let pause = LOOK.mul_f64(0.8 + 0.4 * fastrand::f64());
            tokio::select! {
                () = tell.closed() => return,
                _ = changes.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
            // At once the first time; what changes many times a second costs no more than a few looks.
            tokio::time::sleep_until(looked + AT_LEAST).await;
            looked = Instant::now();
            match self.holds(&shared).await {
                Ok(true) => {}
                Ok(false) => {
                    // Whoever it was may have left by now.
                    let _ = tell.send(());
                    return;
                }
                // A database that is away says nothing about them; nobody could log in again either, to see what is going on.
                Err(error) => log::debug!("whether somebody may still watch: {error}"),
            }
        }
    }

    async fn holds(&self, shared: &Shared) -> Result<bool, StoreError> {
        let viewer = match &self.viewer.session {
            None => return Ok(self.token.is_some() && (shared.deps.admin_token)() == self.token),
            Some(inside) => session::of(shared, self.viewer.address, inside.clone()).await?,
        };
        let Some(viewer) = viewer else { return Ok(false) };
        Ok(match &self.access {
            Access::System => viewer.is_administrator(),
            Access::Org(org) => viewer.can(self.operation, org),
        })
    }
}

/// The place that somebody wants to go on from: the header `last-event-id` of a browser that connects again by itself, else the parameter `after`.
pub(super) struct After(Option<Place>);

#[derive(Deserialize)]
struct Parameters {
    after: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for After {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let header = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let parameter = || Query::<Parameters>::try_from_uri(&parts.uri).ok().and_then(|Query(given)| given.after);
        let given = header.or_else(parameter).filter(|id| !id.is_empty());
        // One that cannot be read is of another version: what was missed since is not known either.
        Ok(Self(given.map(|id| id.parse().unwrap_or_default())))
    }
}

/// All requests that concern `access` as they go on: `data:` is one [`LiveEvent`](crate::telemetry::LiveEvent) as JSON; an event named `missed`
/// tells how many were not shown, `gap` that nobody knows how many, `over` that the viewer may not watch any more. The first is named `begin`.
pub(super) fn requests(
    shared: &Arc<Shared>,
    viewer: &Viewer,
    operation: Operation,
    access: Access,
    after: After,
) -> Result<Response, Problem> {
    let mut watch = Watch::begin(shared, viewer, operation, &access)?;
    let mut watcher = shared.deps.live.watch(Audience::Viewers(access), after.0);
    Ok(answer(
        Some(watcher.place()),
        async_stream::stream! {
            if watcher.has_lost_track() {
                yield Bytes::from_static(b"event: gap\ndata: {}\n\n");
            }
            loop {
                match watch.next(watcher.next()).await {
                    Next::Seen(Seen { missed, batch }) => {
                        if missed > 0 {
                            yield named("missed", &serde_json::json!({ "missed": missed }));
                        }
                        if !batch.events().is_empty() {
                            yield batch.text();
                        }
                    }
                    Next::Quiet => yield ALIVE,
                    Next::Over => {
                        yield named("over", &serde_json::json!({}));
                        break;
                    }
                    Next::End => break,
                }
            }
        },
    ))
}

/// An event with a name.
pub(super) fn named(name: &str, data: &serde_json::Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// The answer that such a stream is, from this place on where it is one to which clients can come back.
pub(super) fn answer(place: Option<Place>, events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    // Sent at once, so that the client knows that nothing it causes from here on will be missed.
    let begin = place.map_or_else(String::new, |place| format!("id: {place}\nevent: begin\ndata: {{}}\n"));
    let hello = Bytes::from(format!(": live\n{begin}retry: {}\n\n", AGAIN.as_millis()));
    let events = futures::stream::once(async { hello }).chain(events).map(Ok::<_, Infallible>);
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))];
    let mut response = (kind, Body::from_stream(events)).into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The live watch of somebody who sees everything, for what is told of it in other words.
pub(super) fn of_all(shared: &Shared) -> Watcher {
    shared.deps.live.watch(Audience::Viewers(Access::System), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_keeps_all_others_out() {
        let seats = Seats::default();
        let person = |name: &str| Some(Arc::from(name));
        let mut ada: Vec<_> = (0..MOST_OF_ONE).map(|_| seats.take(person("ada")).unwrap()).collect();
        assert!(seats.take(person("ada")).is_none() && seats.take(person("bob")).is_some());
        let administrator: Vec<_> = (MOST_OF_ONE..MOST_WATCHERS).map(|_| seats.take(None).unwrap()).collect();
        assert!(seats.take(None).is_none() && seats.take(person("bob")).is_none());
        ada.pop();
        let bob = seats.take(person("bob"));
        assert!(bob.is_some() && seats.take(None).is_none());
        drop((ada, administrator, bob));
        assert!(seats.0.lock().is_empty());
    }
}
