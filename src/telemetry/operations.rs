//! The operations feed: keys leased, resting, exhausted and disabled, breakers, stores, failovers, reloads. What [`super::live`] is for
//! requests, this is for the gateway itself.
//!
//! Changes of state are few, so the last of them are kept for whoever begins to watch; a lease is told to those who watch, and forgotten.

use super::Redactor;
use super::log::now_unix_ms;
use super::state_change::StateChange;
use crate::domain::RequestId;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::broadcast;

/// How many events a watcher may lag behind.
const BACKLOG: usize = 1024;
/// How many changes are kept.
const KEPT: usize = 500;

/// What has happened. Absent fields are left out of the JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operation {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What.
    pub kind: Kind,
    /// The provider that it is about; of a failover the model that is asked next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
    /// The model that it is about; of a failover the one that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// The name (never the text) of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// The store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Arc<str>>,
    /// The request that it happened to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// Its organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<Arc<str>>,
    /// How long a key rests, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Arc<str>>,
}

/// The kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A key was taken for an attempt.
    KeyLeased,
    /// A key rests because it was rate limited.
    KeyCooldown,
    /// A key has no quota or credit left.
    KeyExhausted,
    /// The provider does not accept a key.
    KeyDisabled,
    /// A key is usable again.
    KeyIdle,
    /// A breaker has opened.
    BreakerOpened,
    /// A breaker has closed.
    BreakerClosed,
    /// A request has moved on to the next target.
    Failover,
    /// A store cannot be asked.
    StoreDown,
    /// It can be asked again.
    StoreUp,
    /// A new configuration is in force.
    ConfigReloaded,
    /// A new configuration was refused.
    ConfigRefused,
}

impl Operation {
    fn new(kind: Kind) -> Self {
        Self {
            at_ms: now_unix_ms(),
            kind,
            provider: None,
            model: None,
            key: None,
            store: None,
            request: None,
            org: None,
            for_ms: None,
            why: None,
        }
    }

    /// A key was taken for an attempt.
    pub(super) fn leased(
        request: RequestId,
        org: Option<&Arc<str>>,
        provider: &Arc<str>,
        model: Arc<str>,
        key: &Arc<str>,
    ) -> Self {
        Self {
            request: Some(request),
            org: org.cloned(),
            provider: Some(provider.clone()),
            model: Some(model),
            key: Some(key.clone()),
            ..Self::new(Kind::KeyLeased)
        }
    }

    fn of(change: &StateChange<'_>, redactor: &Redactor) -> Self {
        let text = |text: &str| Some(Arc::from(&*redactor.redact(text)));
        let target = |kind, provider, model| Self { provider: text(provider), model: text(model), ..Self::new(kind) };
        let key = |kind, provider, key| Self { provider: text(provider), key: text(key), ..Self::new(kind) };
        let rest = |time: Duration| u64::try_from(time.as_millis()).ok();
        match *change {
            StateChange::ProviderUnhealthy { provider, model, why } => {
                Self { why: text(why), ..target(Kind::BreakerOpened, provider, model) }
            }
            StateChange::ProviderRecovered { provider, model } => target(Kind::BreakerClosed, provider, model),
            StateChange::KeyCooldown { provider, key: name, rest: time, why } => {
                Self { for_ms: rest(time), why: text(why), ..key(Kind::KeyCooldown, provider, name) }
            }
            StateChange::KeyExhausted { provider, key: name, rest: time, why } => {
                Self { for_ms: rest(time), why: text(why), ..key(Kind::KeyExhausted, provider, name) }
            }
            StateChange::KeyDisabled { provider, key: name, why } => {
                Self { why: text(why), ..key(Kind::KeyDisabled, provider, name) }
            }
            StateChange::KeyIdle { provider, key: name } => key(Kind::KeyIdle, provider, name),
            StateChange::Failover { request, from, to, reason, .. } => {
                Self { request: Some(request), why: text(reason), ..target(Kind::Failover, to, from) }
            }
            StateChange::StoreUnhealthy { store, why } => {
                Self { store: text(store), why: text(why), ..Self::new(Kind::StoreDown) }
            }
            StateChange::StoreRecovered { store } => Self { store: text(store), ..Self::new(Kind::StoreUp) },
            StateChange::ConfigReloaded => Self::new(Kind::ConfigReloaded),
            StateChange::ConfigRefused { errors } => {
                Self { why: text(&errors.join("; ")), ..Self::new(Kind::ConfigRefused) }
            }
        }
    }
}

/// The feed. Clones share it.
#[derive(Clone, Debug)]
pub struct Operations {
    sender: broadcast::Sender<Arc<Operation>>,
    /// Counted apart because the channel's own count takes its lock.
    watchers: Arc<AtomicUsize>,
    kept: Arc<Mutex<VecDeque<Arc<Operation>>>>,
}

impl Default for Operations {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(BACKLOG), watchers: Arc::default(), kept: Arc::default() }
    }
}

impl Operations {
    /// Tells a lease if anybody watches.
    pub(super) fn tell(&self, operation: impl FnOnce() -> Operation) {
        if self.watchers.load(Relaxed) > 0 {
            // It fails only when the last watcher has just left.
            let _ = self.sender.send(Arc::new(operation()));
        }
    }

    /// Tells a change of state and keeps it.
    pub(super) fn changed(&self, change: &StateChange<'_>, redactor: &Redactor) {
        let operation = Arc::new(Operation::of(change, redactor));
        let mut kept = self.kept.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(operation.clone());
        drop(kept);
        let _ = self.sender.send(operation);
    }

    /// The last changes of state, the newest last.
    pub fn recent(&self) -> Vec<Arc<Operation>> {
        self.kept.lock().iter().cloned().collect()
    }

    /// Begins to watch: everything from now on.
    pub fn watch(&self) -> OperationsWatcher {
        self.watchers.fetch_add(1, Relaxed);
        OperationsWatcher { events: self.sender.subscribe(), watchers: Arc::clone(&self.watchers) }
    }
}

/// The receiving side of one watcher.
#[derive(Debug)]
pub struct OperationsWatcher {
    events: broadcast::Receiver<Arc<Operation>>,
    watchers: Arc<AtomicUsize>,
}

impl OperationsWatcher {
    /// Waits for the next event, or for how many were lost because this watcher was too slow. `None` when the gateway has ended. Safe to
    /// cancel.
    pub async fn next(&mut self) -> Option<Result<Arc<Operation>, u64>> {
        match self.events.recv().await {
            Ok(operation) => Some(Ok(operation)),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Err(count)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for OperationsWatcher {
    fn drop(&mut self) {
        self.watchers.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Secret;

    #[tokio::test]
    async fn changes_are_kept_and_leases_are_told() {
        let (feed, redactor) = (Operations::default(), Redactor::default());
        redactor.register([&Secret::new("canary-canary")]);
        feed.tell(|| panic!("nobody watches"));
        let mut watcher = feed.watch();
        let why = "said canary-canary";
        let rest = Duration::from_secs(30);
        feed.changed(&StateChange::KeyCooldown { provider: "p", key: "p_01", rest, why }, &redactor);
        let (id, name) = (RequestId::of(0, 1), Arc::<str>::from("p"));
        feed.tell(|| Operation::leased(id, None, &name, "m".into(), &"p_01".into()));
        let first = watcher.next().await.unwrap().unwrap();
        assert_eq!(
            (first.kind, first.for_ms, first.why.as_deref()),
            (Kind::KeyCooldown, Some(30_000), Some("said [redacted]"))
        );
        assert_eq!(watcher.next().await.unwrap().unwrap().kind, Kind::KeyLeased);
        assert_eq!(feed.recent(), [first]);
        drop(watcher);
        feed.tell(|| panic!("nobody watches any more"));
    }

    #[test]
    fn only_the_last_changes_are_kept() {
        let (feed, redactor) = (Operations::default(), Redactor::default());
        for _ in 0..KEPT + 7 {
            feed.changed(&StateChange::ConfigReloaded, &redactor);
        }
        assert_eq!(feed.recent().len(), KEPT);
    }
}
