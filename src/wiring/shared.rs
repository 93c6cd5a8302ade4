//! The stores of a gateway: its own, or those that it shares with other nodes.

use crate::config::Snapshot;
use crate::config::snapshot::{self, CacheBackend};
use crate::store::memory;
use crate::store::ports::Stores;
use crate::store::ports::live::KeyState;
use crate::store::redis::{Event, Redis, Settings};
use crate::telemetry::{StateChange, StoreState, Telemetry};
use std::sync::Arc;

/// What the store that nodes share is called in the log and in metrics.
const NAME: &str = "redis";

/// How the configuration wants Redis to be asked.
pub fn settings(redis: &snapshot::Redis) -> Settings {
    let snapshot::Redis { url, password: _, ca, timeout, node_ttl } = redis.clone();
    Settings { url, ca, timeout, node_ttl }
}

/// The stores, and the connection to Redis where there is one.
///
/// # Errors
/// A text for the operator when the address of Redis cannot be used at all. That it is not there is no error.
pub(super) fn stores(snapshot: &Snapshot, telemetry: &Arc<Telemetry>) -> Result<(Stores, Option<Redis>), String> {
    let mut stores = memory::stores(snapshot.cache.max_size, snapshot.cache.max_bytes, snapshot.cache.max_questions());
    let Some(configured) = &snapshot.store.redis else { return Ok((stores, None)) };
    let told = telemetry.clone();
    let redis = Redis::start(settings(configured), move |event| {
        told.state_change(match event {
            Event::Unhealthy { why } => StateChange::StoreUnhealthy { store: NAME, why },
            Event::Recovered => StateChange::StoreRecovered { store: NAME },
            Event::Key { provider, key, state } => key_change(provider, key, state),
        });
    })?;
    let status = redis.observe();
    telemetry.metrics.set_store_source(move || {
        let status = status();
        let calls = [("answered", status.answered), ("late", status.late), ("failed", status.failed)];
        StoreState { name: NAME, up: status.up, nodes: status.nodes, calls, unread: status.unread }
    });
    stores.pool = Arc::new(redis.key_pool());
    if snapshot.cache.backend == CacheBackend::Redis {
        stores.answers = Arc::new(redis.answers(snapshot.cache.max_size, snapshot.cache.max_bytes));
        let vectors = redis.vectors(snapshot.cache.max_questions());
        if snapshot.cache.semantic.is_some() {
            vectors.begin();
        }
        stores.vectors = Arc::new(vectors);
    }
    stores.accounts = Arc::new(redis.accounts());
    stores.accounts.set_on_outage(snapshot.limits.on_outage);
    stores.limits = Arc::new(redis.limits());
    stores.limits.set_on_outage(snapshot.limits.on_outage);
    Ok((stores, Some(redis)))
}

/// What another node has learnt, as it is told here.
fn key_change<'a>(provider: &'a str, key: &'a str, state: KeyState) -> StateChange<'a> {
    const WHY: &str = "told_by_another_node";
    match state {
        KeyState::Cooldown { left, .. } => StateChange::KeyCooldown { provider, key, rest: left, why: WHY },
        KeyState::Exhausted { left } => StateChange::KeyExhausted { provider, key, rest: left, why: WHY },
        KeyState::Disabled => StateChange::KeyDisabled { provider, key, why: WHY },
        KeyState::Ready { .. } => StateChange::KeyIdle { provider, key },
    }
}
