//! An answer as it comes, for the playground and for replays: what it says as server-sent events, and at the end what it took.
//!
//! ```text
//! Asking ──head──> Answering ──its end──> Ended: tokens, cost, time
//!    │                 │
//!    └─────────────────┴── nobody reads any more: the request is given up, as if its client had hung up
//! ```
//!
//! A task does it, so that the key which was made for the request is revoked however it ends.

use super::said::{Reader, Said, of_body};
use super::send::{self, Asking};
use super::visit::Visit;
use crate::console::live::{KEEPALIVE, of_all};
use crate::console::problem::Problem;
use crate::console::routes::Shared;
use crate::domain::RequestId;
use crate::telemetry::LiveEvent;
use crate::telemetry::live::{State, Watcher};
use axum::http::{HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};

/// So many at a time.
const MOST: usize = 16;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the gateway may take to say what a request took, once it is over.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// An answer that is no stream is read up to here.
const MOST_BYTES: usize = 2 << 20;
/// So much may be on its way to somebody who reads slowly.
const BACKLOG: usize = 64;

static PLACES: Semaphore = Semaphore::const_new(MOST);

/// Sends a request and answers with what comes.
pub(super) fn begin(shared: &Arc<Shared>, visit: Visit, asking: Asking) -> Result<Response, Problem> {
    let place = PLACES.try_acquire().map_err(|_| {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Too many answers are being shown at this moment.");
        problem.retry_after(Duration::from_secs(5))
    })?;
    let (tell, told) = mpsc::channel(BACKLOG);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let _place = place;
        run(&shared, &visit, &asking, &tell).await;
    });
    let events = stream::unfold(told, |mut told| async move { Some((Ok::<_, Infallible>(told.recv().await?), told)) });
    let keepalive = KeepAlive::new().interval(KEEPALIVE).text("alive");
    let mut response = Sse::new(events).keep_alive(keepalive).into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

type Tell = mpsc::Sender<Event>;

async fn run(shared: &Arc<Shared>, visit: &Visit, asking: &Asking, tell: &Tell) {
    let key = match send::new_key(shared, visit, &asking.org).await {
        Ok(key) => key,
        Err(problem) => return say(tell, "failed", json!({"why": problem.detail()})).await,
    };
    let mut stopping = shared.stopping.clone();
    tokio::select! {
        () = tell.closed() => {}
        () = stopping.told() => {}
        relayed = relay(shared, asking, &key.secret, tell) => {
            if let Err(problem) = relayed {
                say(tell, "failed", json!({"why": problem.detail()})).await;
            }
        }
    }
    send::revoke(shared, visit, &key).await;
}

async fn say(tell: &Tell, name: &str, data: Value) {
    // Nobody reads any more: that ends the task in a moment.
    let _ = tell.send(Event::default().event(name).json_data(data).unwrap_or_default()).await;
}

async fn relay(shared: &Shared, asking: &Asking, key: &str, tell: &Tell) -> Result<(), Problem> {
    // From before it is sent, so that its end is not missed.
    let mut live = of_all(shared);
    let begun = Instant::now();
    let request = send::request(shared, &asking.route, key, &asking.body)?.timeout(PATIENCE);
    let mut answer = request.send().await.map_err(|error| send::failed(&error.without_url().to_string()))?;
    let id = answer.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let status = answer.status().as_u16();
    say(tell, "head", json!({"status": status, "id": id})).await;
    let id = id.as_deref().and_then(RequestId::parse);
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_stream = kind.starts_with("text/event-stream");
    let (mut reader, mut whole, mut end) = (Reader::default(), Vec::new(), None);
    let why = loop {
        tokio::select! {
            piece = answer.chunk() => match piece {
                Ok(Some(piece)) if is_stream => tell_all(tell, reader.push(&piece)).await,
                Ok(Some(piece)) if whole.len() < MOST_BYTES => whole.extend_from_slice(&piece),
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(error) => break Some(error.without_url().to_string()),
            },
            seen = next_of(&mut live, id) => end = Some(seen),
        }
    };
    if !is_stream {
        let text = String::from_utf8_lossy(&whole);
        let said = of_body(&text);
        tell_all(tell, if said.is_empty() { vec![Said::Text(text.into_owned())] } else { said }).await;
    }
    if end.is_none() {
        end = tokio::time::timeout(TOLD_WITHIN, next_of(&mut live, id)).await.ok();
    }
    let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    say(tell, "end", facts(end.as_deref(), status, took, why)).await;
    Ok(())
}

async fn tell_all(tell: &Tell, said: Vec<Said>) {
    for piece in said {
        let (kind, text) = match piece {
            Said::Text(text) => ("text", text),
            Said::Reasoning(text) => ("reasoning", text),
            Said::Call { name, .. } => ("text", format!("\n\u{2192} {name} ")),
            Said::Arguments { json, .. } => ("text", json),
            Said::WholeCall { name, arguments } => ("text", format!("\n\u{2192} {name} {arguments}\n")),
            Said::Error(text) => ("error", text),
        };
        say(tell, "said", json!({"kind": kind, "text": text})).await;
    }
}

/// The end of one request, when it comes. What was missed of others does not matter; of its own, somebody stops waiting.
async fn next_of(live: &mut Watcher, id: Option<RequestId>) -> Arc<LiveEvent> {
    loop {
        let Some(seen) = live.next().await else { std::future::pending().await };
        let is_it = |event: &&Arc<LiveEvent>| Some(event.id) == id && is_end(event.state);
        if let Some(event) = seen.batch.events().iter().find(is_it) {
            return event.clone();
        }
    }
}

fn is_end(state: State) -> bool {
    matches!(state, State::Success | State::Error)
}

/// What a request took, as far as that is known.
fn facts(end: Option<&LiveEvent>, status: u16, took_ms: u64, why: Option<String>) -> Value {
    let event = end.and_then(|event| serde_json::to_value(event).ok()).unwrap_or_default();
    let succeeded = end.map_or(status < 400 && why.is_none(), |event| event.state == State::Success);
    let target = match (event["provider"].as_str(), event["model"].as_str()) {
        (Some(provider), Some(model)) => Some(format!("{provider}/{model}")),
        _ => None,
    };
    json!({
        "ok": succeeded, "status": status, "target": target, "took_ms": event["latency_ms"].as_u64().unwrap_or(took_ms),
        "first_ms": event["ttft_ms"], "tokens": event["tokens"], "cost_usd": event["cost_usd"],
        "why": why.map_or_else(|| event["reason"].clone(), Value::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_took_is_what_the_gateway_says_or_else_what_was_seen() {
        let mut event = LiveEvent::new(RequestId::of(1, 2), 5, State::Success);
        event.latency_ms = Some(40);
        event.provider = Some("a".into());
        event.model = Some("b".into());
        let known = facts(Some(&event), 200, 90, None);
        assert_eq!((&known["ok"], &known["took_ms"], &known["target"]), (&json!(true), &json!(40), &json!("a/b")));
        let unknown = facts(None, 200, 90, Some("cut".to_owned()));
        assert_eq!((&unknown["ok"], &unknown["took_ms"], &unknown["why"]), (&json!(false), &json!(90), &json!("cut")));
    }
}
