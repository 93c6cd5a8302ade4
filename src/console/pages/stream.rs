//! What moves on the pages, as server-sent events: the operations feed, and every request in DevTools.
//!
//! Who sees one organisation alone gets the events of its requests: the first of a request says whose it is, and what follows is let through by
//! the request's id.

use super::visit::{Failure, Visit};
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::{KEEPALIVE, MOST_WATCHERS, Shared};
use crate::console::serve::Stopping;
use crate::domain::RequestId;
use crate::store::ports::database::Access;
use crate::telemetry::LiveEvent;
use crate::telemetry::feed::FeedLine;
use crate::telemetry::live::{Seen, State as Stage, Watcher};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt};
use serde_json::json;
use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// So many requests of an organisation may be under way while somebody watches.
const MOST_FOLLOWED: usize = 10_000;

/// Every request as it goes on.
pub(super) async fn requests(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let access = visit.access(Operation::SeeRequests)?;
    let watcher = watcher(&shared)?;
    let follower = Follower { watcher, stopping: shared.stopping.clone(), access, own: HashSet::new() };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(answer(events))
}

/// The operations feed: changes of states, and which key each attempt has leased.
pub(super) async fn feed(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    visit.viewer.may(Operation::SeeGateway, None)?;
    let (lines, leases) = (shared.deps.routing.feed.watch(), watcher(&shared)?);
    let state = (lines, leases, shared.stopping.clone());
    let events = stream::unfold(state, |(mut lines, mut leases, mut stopping)| async move {
        let line = loop {
            tokio::select! {
                () = stopping.told() => return None,
                line = lines.recv() => match line {
                    Ok(line) => break line,
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                seen = leases.next() => {
                    let Seen::Event(event) = seen? else { continue };
                    let Some(line) = lease(&event) else { continue };
                    break line.into();
                }
            }
        };
        let event = Event::default().event("line").json_data(&*line).unwrap_or_default();
        Some((Ok(event), (lines, leases, stopping)))
    });
    Ok(answer(events))
}

/// `openai_01 leased → openai/gpt-4o`.
fn lease(event: &LiveEvent) -> Option<FeedLine> {
    let LiveEvent { lease: Some(key), provider: Some(provider), model: Some(model), .. } = event else { return None };
    let text = format!("{key} leased \u{2192} {provider}/{model}");
    Some(FeedLine { at_ms: event.at_ms, kind: "lease", level: "info", text })
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
    /// Requests under way of the organisation that is watched.
    own: HashSet<RequestId>,
}

impl Follower {
    async fn next(&mut self) -> Option<Event> {
        loop {
            let seen = tokio::select! {
                () = self.stopping.told() => None,
                seen = self.watcher.next() => seen,
            };
            let event = match seen? {
                Seen::Event(event) if !self.is_in_sight(&event) => continue,
                Seen::Event(event) => Event::default().json_data(&*event),
                Seen::Missed(count) => Event::default().event("missed").json_data(json!({"missed": count})),
            };
            return Some(event.unwrap_or_default());
        }
    }

    fn is_in_sight(&mut self, event: &LiveEvent) -> bool {
        if self.access == Access::System {
            return true;
        }
        if matches!(event.state, Stage::Success | Stage::Error) {
            self.own.remove(&event.id);
            return self.access.reaches(event.org.as_deref());
        }
        if event.org.is_some() && self.access.reaches(event.org.as_deref()) && self.own.len() < MOST_FOLLOWED {
            self.own.insert(event.id);
        }
        self.own.contains(&event.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Live;

    #[test]
    fn an_organisation_sees_the_steps_of_its_own_requests_alone() {
        let watcher = Live::default().watch();
        let (_stop, stopping) = tokio::sync::watch::channel(false);
        let access = Access::Org("org_a".into());
        let mut follower = Follower { watcher, stopping: Stopping(stopping), access, own: HashSet::new() };
        let event = |number: u64, state: Stage, org: Option<&str>| LiveEvent {
            org: org.map(Into::into),
            ..LiveEvent::new(RequestId::from_random(0, number), number, state)
        };
        for (number, state, org, expected) in [
            (1, Stage::Pending, Some("org_a"), true),
            (2, Stage::Pending, Some("org_b"), false),
            (1, Stage::Attempt, None, true),
            (2, Stage::Attempt, None, false),
            (2, Stage::Error, Some("org_b"), false),
            (3, Stage::Streaming, None, false),
            (1, Stage::Success, Some("org_a"), true),
            (4, Stage::Error, None, false),
        ] {
            assert_eq!(follower.is_in_sight(&event(number, state, org)), expected, "{number} {state:?}");
        }
        assert!(follower.own.is_empty());
    }
}
