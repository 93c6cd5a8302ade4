//! What is going on right now, for whoever watches: `GET /api/v1/live`, the demo, DevTools.
//!
//! A bounded broadcast. Nobody watching costs one atomic load a call and builds nothing; a watcher that is too slow loses
//! the oldest events and is told how many. Nothing here is kept: the record is what remains of a request.

use crate::domain::{Money, RequestId};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::sync::broadcast;

/// How many events a watcher may lag behind.
const BACKLOG: usize = 1024;

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has arrived.
    Pending,
    /// A target is being asked, or (with a verdict) has just failed.
    Attempt,
    /// Output goes to the client.
    Streaming,
    /// The client has the whole answer.
    Success,
    /// It ended in any other way.
    Error,
}

/// One step of one request. Absent fields are left out of the JSON.
#[derive(Clone, Debug, Serialize)]
pub struct LiveEvent {
    /// The request.
    #[serde(serialize_with = "as_text")]
    pub id: RequestId,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Where the request now stands.
    pub state: State,
    /// The organisation that it is for: nobody of another may see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<Arc<str>>,
    /// The name of the gateway's key that the request came with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<Arc<str>>,
    /// The model that was asked for or serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// The provider that is asked or serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
    /// The name (never the text) of the key that the attempt was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// The number of the attempt, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// What triage made of a failed attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<&'static str>,
    /// The fault's name, the error's code, or how the request ended when it was not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// The HTTP status of the attempt or of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Milliseconds since the request arrived, or that the attempt took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// Milliseconds to the first output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<u64>,
    /// What the provider counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// What it cost, as an exact decimal number of dollars.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_number")]
    pub cost_usd: Option<Money>,
}

/// Token counts of a finished request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Input.
    pub prompt: u64,
    /// Output.
    pub completion: u64,
}

impl LiveEvent {
    /// An event that says nothing but that the request is in this state.
    pub fn new(id: RequestId, at_ms: u64, state: State) -> Self {
        Self {
            id,
            at_ms,
            state,
            org: None,
            caller: None,
            model: None,
            provider: None,
            key: None,
            attempt: None,
            verdict: None,
            reason: None,
            status: None,
            latency_ms: None,
            ttft_ms: None,
            tokens: None,
            cost_usd: None,
        }
    }
}

fn as_text<S: Serializer>(id: &RequestId, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(id)
}

fn as_number<S: Serializer>(cost: &Option<Money>, to: S) -> Result<S::Ok, S::Error> {
    cost.and_then(|cost| RawValue::from_string(cost.to_dollars()).ok()).serialize(to)
}

/// The sending side. Clones share one audience.
#[derive(Clone, Debug)]
pub struct Live {
    sender: broadcast::Sender<Arc<LiveEvent>>,
    /// Counted apart because the channel's own count takes its lock.
    watchers: Arc<AtomicUsize>,
}

impl Default for Live {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(BACKLOG), watchers: Arc::default() }
    }
}

impl Live {
    /// Builds and sends an event if anybody watches.
    pub fn send(&self, event: impl FnOnce() -> LiveEvent) {
        if self.watchers() > 0 {
            // It fails only when the last watcher has just left.
            let _ = self.sender.send(Arc::new(event()));
        }
    }

    /// How many watch.
    pub fn watchers(&self) -> usize {
        self.watchers.load(Relaxed)
    }

    /// Begins to watch: every event from now on.
    pub fn watch(&self) -> Watcher {
        self.watchers.fetch_add(1, Relaxed);
        Watcher { events: self.sender.subscribe(), watchers: Arc::clone(&self.watchers) }
    }
}

/// The receiving side of one watcher.
#[derive(Debug)]
pub struct Watcher {
    events: broadcast::Receiver<Arc<LiveEvent>>,
    watchers: Arc<AtomicUsize>,
}

/// What a watcher sees.
#[derive(Clone, Debug)]
pub enum Seen {
    /// The next event.
    Event(Arc<LiveEvent>),
    /// So many events were lost because this watcher was too slow.
    Missed(u64),
}

impl Watcher {
    /// Waits for the next event. `None` when the gateway has ended. Safe to cancel.
    pub async fn next(&mut self) -> Option<Seen> {
        match self.events.recv().await {
            Ok(event) => Some(Seen::Event(event)),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Seen::Missed(count)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.watchers.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64) -> LiveEvent {
        LiveEvent::new(RequestId::of(0, number), number, State::Pending)
    }

    #[tokio::test]
    async fn nothing_is_built_unless_somebody_watches() {
        let live = Live::default();
        live.send(|| panic!("nobody watches"));
        let watcher = live.watch();
        assert_eq!(live.watchers(), 1);
        drop(watcher);
        live.send(|| panic!("nobody watches any more"));
    }

    #[tokio::test]
    async fn a_slow_watcher_is_told_what_it_lost_and_the_others_lose_nothing() {
        let live = Live::default();
        let (mut slow, mut fast) = (live.watch(), live.watch());
        for number in 0..BACKLOG as u64 + 10 {
            live.send(|| event(number));
            assert!(matches!(fast.next().await, Some(Seen::Event(event)) if event.at_ms == number));
        }
        assert!(matches!(slow.next().await, Some(Seen::Missed(10))));
        assert!(matches!(slow.next().await, Some(Seen::Event(event)) if event.at_ms == 10));
    }

    #[tokio::test]
    async fn the_end_of_the_gateway_is_the_end_of_the_events() {
        let live = Live::default();
        let mut watcher = live.watch();
        drop(live);
        assert!(watcher.next().await.is_none());
    }

    #[test]
    fn absent_fields_are_left_out_and_money_is_exact() {
        let json = serde_json::to_string(&event(1)).unwrap();
        assert_eq!(json, r#"{"id":"req_000000000000000000000001","at_ms":1,"state":"pending"}"#);
        let full = LiveEvent {
            state: State::Success,
            model: Some("m".into()),
            provider: Some("p".into()),
            attempt: Some(2),
            status: Some(200),
            latency_ms: Some(7),
            ttft_ms: Some(3),
            tokens: Some(Tokens { prompt: 1, completion: 2 }),
            cost_usd: Money::from_dollars("0.000000000001"),
            ..event(1)
        };
        let json = serde_json::to_string(&full).unwrap();
        let rest = r#""state":"success","model":"m","provider":"p","attempt":2,"status":200,"latency_ms":7,"ttft_ms":3,"tokens":{"prompt":1,"completion":2},"cost_usd":0.000000000001}"#;
        assert!(json.ends_with(rest), "{json}");
    }
}
