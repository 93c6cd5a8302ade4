//! What the gateway itself writes into the audit log: changes of the configuration, and what becomes of keys of providers. It is queued, so
//! that nothing waits for the database, and written when that is there.

use super::state::{State, new_event};
use crate::domain::audit::AuditEvent;
use crate::store::ports::database::StoreError;
use crate::telemetry::StateChange;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How many events wait at most; later ones are lost, and counted.
const ROOM: usize = 10_000;
/// How long until the database is tried again, longer each time.
const AGAIN: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(30);

enum Order {
    Write(Box<AuditEvent>),
    /// Everything before this is written.
    Say(oneshot::Sender<()>),
}

/// The queue.
#[derive(Clone)]
pub(super) struct Trail {
    queue: mpsc::Sender<Order>,
    lost: Arc<AtomicU64>,
}

impl Trail {
    /// The queue, and the task that empties it.
    pub(super) fn begin(state: Arc<State>) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, orders) = mpsc::channel(ROOM);
        let lost = Arc::new(AtomicU64::new(0));
        (Self { queue, lost: lost.clone() }, write(state, orders, lost))
    }

    /// Writes down a change, if it is one that is written down.
    pub(super) fn hear(&self, change: &StateChange<'_>) {
        let Some(event) = event(change) else { return };
        if self.queue.try_send(Order::Write(Box::new(event))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written.
    pub(super) async fn settle(&self) {
        let (say, said) = oneshot::channel();
        if self.queue.send(Order::Say(say)).await.is_ok() {
            let _ = said.await;
        }
    }
}

/// What another node has learnt, that node has written down.
const TOLD: &str = "told_by_another_node";

fn event(change: &StateChange<'_>) -> Option<AuditEvent> {
    let (action, target, details) = match *change {
        StateChange::KeyExhausted { why: TOLD, .. }
        | StateChange::KeyDisabled { why: TOLD, .. }
        | StateChange::KeyCooldown { why: TOLD, .. } => return None,
        StateChange::KeyCooldown { provider, key, rest, why } => {
            ("provider_key.cooldown", format!("{provider}/{key}"), json!({"why": why, "for_s": rest.as_secs()}))
        }
        StateChange::KeyExhausted { provider, key, rest, why } => {
            ("provider_key.exhausted", format!("{provider}/{key}"), json!({"why": why, "for_s": rest.as_secs()}))
        }
        StateChange::KeyDisabled { provider, key, why } => {
            ("provider_key.disabled", format!("{provider}/{key}"), json!({"why": why}))
        }
        StateChange::ConfigReloaded => ("config.reload", "configuration".to_owned(), json!({})),
        StateChange::ConfigRefused { errors } => {
            ("config.refuse", "configuration".to_owned(), json!({"errors": errors.len()}))
        }
        _ => return None,
    };
    Some(new_event("gateway".to_owned(), "gateway", action, &target, &details))
}

async fn write(state: Arc<State>, mut orders: mpsc::Receiver<Order>, lost: Arc<AtomicU64>) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::Write(event) => insist(&state, &event).await,
            Order::Say(say) => drop(say.send(())),
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            log::error!("the audit log lacks {lost} entries: the database could not take them in time");
            let details = json!({"entries": lost});
            insist(&state, &new_event("gateway".to_owned(), "gateway", "audit.lost", "audit", &details)).await;
        }
    }
}

async fn insist(state: &State, event: &AuditEvent) {
    let mut wait = AGAIN;
    loop {
        match state.database.append(event).await {
            Ok(_) => return,
            Err(StoreError::Unavailable(_) | StoreError::Conflict(_)) => {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LATER);
            }
            Err(error) => return log::error!("the audit log does not take {}: {error}", event.action),
        }
    }
}
