//! What is going on right now, for whoever watches: `GET /api/v1/live`, DevTools, the demo, and other nodes.
//!
//! ```text
//!   requests ──send──> intake ──┐ every TICK, on a thread of its own           ┌──> watcher
//!                               ├──> hub ──> a stand for each audience ────────┼──> watcher
//!   other nodes ──hear──────────┘           (filtered, thinned, last batches)  └──> watcher
//! ```
//!
//! A request that tells something takes one lock for a moment and wakes nobody, however many watch; with nobody watching it costs one atomic
//! load and builds nothing. Everything behind that is the thread's and the watchers' own: one that is too slow loses the oldest batches and is
//! told how many events that were. Nothing here is kept: the record is what remains of a request.

mod hub;
mod stand;

use crate::domain::{Money, RequestId};
use crate::store::ports::database::Access;
use hub::Hub;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use tokio::sync::watch;

pub use hub::{Elsewhere, Node};
pub use stand::{Batch, Place, Seen, Watcher};

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LiveEvent {
    /// The request.
    pub id: RequestId,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Where the request now stands.
    pub state: State,
    /// The node that it is on; absent where that is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Arc<str>>,
    /// The organisation that it is for: nobody of another may see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<Arc<str>>,
    /// The name of the gateway's key that the request came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Arc<str>>,
    /// The model that was asked for or serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// The provider that is asked or serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
    /// The name (never the text) of the key that the attempt was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// The number of the attempt, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// What triage made of a failed attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Cow<'static, str>>,
    /// The fault's name, the error's code, or how the request ended when it was not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// The HTTP status of the attempt or of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Milliseconds since the request arrived, or that the attempt took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// Milliseconds to the first output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<u64>,
    /// What the provider counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// What it cost, as an exact decimal number of dollars.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_number",
        deserialize_with = "from_number"
    )]
    pub cost_usd: Option<Money>,
}

/// Token counts of a finished request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Input.
    pub prompt: u64,
    /// Output.
    pub completion: u64,
}

impl State {
    /// Whether nothing more comes of the request.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Success | Self::Error)
    }
}

impl LiveEvent {
    /// An event that says nothing but that the request is in this state.
    pub fn new(id: RequestId, at_ms: u64, state: State) -> Self {
        Self {
            id,
            at_ms,
            state,
            node: None,
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

fn as_number<S: Serializer>(cost: &Option<Money>, to: S) -> Result<S::Ok, S::Error> {
    cost.and_then(|cost| RawValue::from_string(cost.to_dollars()).ok()).serialize(to)
}

fn from_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Money>, D::Error> {
    let number = Option::<Box<RawValue>>::deserialize(from)?;
    Ok(number.and_then(|number| Money::from_dollars(number.get())))
}

/// Who watches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Audience {
    /// People and programs at the console, by what they may see: requests of this node and of those that it hears of.
    Viewers(Access),
    /// The other nodes: requests of this one.
    Nodes,
}

/// The way to all who watch. Clones share them.
#[derive(Clone, Default)]
pub struct Live(Arc<Hub>);

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Live({} watch)", self.watchers())
    }
}

impl Live {
    /// Builds and sends an event if anybody watches.
    pub fn send(&self, event: impl FnOnce() -> LiveEvent) {
        if self.0.is_wanted.load(Relaxed) {
            self.0.own.put(event());
        }
    }

    /// How many watch at this node's console.
    pub fn watchers(&self) -> usize {
        self.0.viewers.load(Relaxed)
    }

    /// Begins to watch: every event from now on, or from a place in an earlier watch of the same audience on.
    pub fn watch(&self, audience: Audience, after: Option<Place>) -> Watcher {
        Hub::watch(&self.0, audience, after, Instant::now())
    }

    /// What another node has told, and how many of its events were lost on the way.
    pub fn hear(&self, node: &Arc<Node>, events: impl IntoIterator<Item = LiveEvent>, lost: u64) {
        if self.0.is_wanted.load(Relaxed) {
            self.0.hear(node, events, lost);
        }
    }

    /// Where a request is that was heard of, where that is another node.
    pub fn elsewhere(&self, id: &RequestId) -> Option<Elsewhere> {
        self.0.elsewhere(id)
    }

    /// Whether somebody watches at this node's console, and when that changes. It stays so for a moment after the last of them has left.
    pub fn is_viewed(&self) -> watch::Receiver<bool> {
        self.0.is_viewed.subscribe()
    }

    /// Says what this node is called among those that tell each other. The first name stays.
    pub fn is_called(&self, node: Arc<str>) {
        let _ = self.0.node.set(node);
    }

    /// What this node is called; `None` for one that is alone.
    pub fn node(&self) -> Option<&Arc<str>> {
        self.0.node.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_are_left_out_and_money_is_exact() {
        let event = |number| LiveEvent::new(RequestId::of(0, number), number, State::Pending);
        let json = serde_json::to_string(&event(1)).unwrap();
        assert_eq!(json, r#"{"id":"req_000000000000000000000001","at_ms":1,"state":"pending"}"#);
        let full = LiveEvent {
            state: State::Success,
            model: Some("m".into()),
            provider: Some("p".into()),
            attempt: Some(2),
            verdict: Some("next_key".into()),
            status: Some(200),
            latency_ms: Some(7),
            ttft_ms: Some(3),
            tokens: Some(Tokens { prompt: 1, completion: 2 }),
            cost_usd: Money::from_dollars("0.000000000001"),
            ..event(1)
        };
        let json = serde_json::to_string(&full).unwrap();
        let rest = r#""state":"success","model":"m","provider":"p","attempt":2,"verdict":"next_key","status":200,"latency_ms":7,"ttft_ms":3,"tokens":{"prompt":1,"completion":2},"cost_usd":0.000000000001}"#;
        assert!(json.ends_with(rest), "{json}");
        // Another node reads what this one writes, also what a later version adds.
        for sent in
            [serde_json::to_string(&event(1)).unwrap(), json.clone(), json.replace("{\"id\"", "{\"new\":[1],\"id\"")]
        {
            let read: LiveEvent = serde_json::from_str(&sent).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), sent.replace("\"new\":[1],", ""));
        }
    }
}
