//! What the console is handed of the gateway, and what it tells of keys, accounts and health.

use super::backstage::BehindConsole;
use super::listeners::Listeners;
use crate::config::Snapshot;
use crate::console::{Console, Deps, Sharing};
use crate::domain::ProviderKey;
use crate::domain::budget::Account;
use crate::proxy::Core;
use crate::proxy::core::Phase;
use crate::store::memory::MemoryLogins;
use crate::store::ports::accounts::Balance;
use crate::store::ports::ledger::Ledger;
use crate::store::ports::live::{KeyState, KeyStatus};
use crate::store::ports::logins::Logins;
use crate::store::ports::payloads::PayloadArchive;
use crate::telemetry::LedgerState;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Instant;

/// Starts it, with all that it shows.
///
/// # Errors
/// A text for the operator.
pub(super) fn start_console(
    behind: &Arc<BehindConsole>,
    snapshot: &Snapshot,
    shown: Arc<Mutex<LedgerState>>,
    listeners: &Listeners,
) -> Result<Console, String> {
    let (core, state) = (&behind.core, behind.state.as_ref());
    let (token, health, ready, degraded) = (core.clone(), core.clone(), core.clone(), core.clone());
    let spending = core.clone();
    let current = core.clone();
    let accounts = core.clone();
    let alerts = core.telemetry.alerts.clone();
    let (recent, redactor) = (core.telemetry.recent.clone(), core.telemetry.redactor.clone());
    let deps = Deps {
        metrics: core.telemetry.metrics.clone(),
        live: core.telemetry.live.clone(),
        payloads: core.telemetry.payloads.clone(),
        operations: core.telemetry.operations.clone(),
        admin_token: Arc::new(move || token.snapshot.load().console.admin_token),
        health: Arc::new(move || health_report(&health, &shown.lock())),
        archive: state.map(|state| -> Arc<dyn PayloadArchive> { state.database.clone() }),
        accounts: Arc::new(move || account_report(&accounts)),
        ledger: state.map(|state| -> Arc<dyn Ledger> { state.database.clone() }),
        database: state.map(|state| state.database.clone()),
        alerts: Arc::new(move || alerts.active()),
        backstage: behind.clone(),
        logins: state
            .map_or_else(|| -> Arc<dyn Logins> { Arc::new(MemoryLogins::default()) }, |it| it.database.clone()),
        snapshot: Arc::new(move || current.snapshot.load_full()),
        explain: Arc::new(move |id| serde_json::to_value(recent.explain(id, &redactor)?).ok()),
        ready: Arc::new(move || *ready.phase.borrow() == Phase::Serving),
        spending: Arc::new(move || spending.spending_of.lock().map(|known| known.name())),
        degraded: Arc::new(move || degraded.degraded.load().as_deref().cloned()),
        gateway_urls: snapshot.server.listen.iter().map(|address| format!("http://{address}")).collect(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let addresses = [&*snapshot.console.listen, &snapshot.console.devtools_listen].concat();
    let sockets = listeners.copies(&addresses).map_err(|error| format!("the console's sockets: {error}"))?;
    Console::start(&snapshot.console.listen, Sharing::Given(sockets), deps).map_err(|error| error.to_string())
}

fn key_report(key: &ProviderKey, known: Option<&KeyStatus>) -> serde_json::Value {
    let state = known.map_or(KeyState::Ready { leases: 0 }, |status| status.state);
    // A key that cannot be used has no room, whatever is left of its limits.
    let room = if state == KeyState::Disabled { 0.0 } else { known.map_or(1.0, |status| status.room) };
    let mut report = serde_json::json!({"name": &*key.name, "state": state.name(), "room": room});
    if let Some(left) = state.left() {
        report["ready_in_seconds"] = left.as_secs_f64().into();
    }
    let why = match state {
        KeyState::Cooldown { why, .. } => Some(why),
        KeyState::Exhausted { .. } => Some("quota"),
        KeyState::Disabled => Some("the provider does not accept it"),
        KeyState::Ready { .. } => None,
    };
    if let Some(why) = why {
        report["why"] = why.into();
    }
    if let Some(group) = &key.group {
        report["group"] = (&**group).into();
    }
    report
}

/// Amounts are texts, because they do not fit into the numbers of most readers.
fn account_report(core: &Core) -> serde_json::Value {
    let report = |(account, balance): (Account, Balance)| {
        let Account { payer, subject, span, from_day } = account;
        serde_json::json!({
            "payer": payer.name(), "subject": &*subject, "span": span.name(), "from_day": from_day,
            "spent_usd": balance.spent.to_dollars(), "reserved_usd": balance.reserved.to_dollars(),
        })
    };
    let accounts = core.accounts.balances().into_iter().map(report).collect::<Vec<_>>();
    serde_json::json!({ "accounts": accounts })
}

fn health_report(core: &Core, ledger: &LedgerState) -> serde_json::Value {
    let snapshot = core.snapshot.load();
    let statuses = core.pool.statuses(Instant::now());
    let providers: Vec<serde_json::Value> = snapshot
        .providers
        .iter()
        .map(|provider| {
            let keys = provider.keys.iter().map(|key| {
                let known = statuses.iter().find(|status| status.provider == provider.id && status.id == key.id);
                key_report(key, known)
            });
            serde_json::json!({"id": &*provider.id, "dialect": provider.dialect.name(), "keys": keys.collect::<Vec<_>>()})
        })
        .collect();
    let targets: Vec<serde_json::Value> = core
        .targets
        .statuses()
        .into_iter()
        .map(|target| {
            serde_json::json!({
                "provider": &*target.provider,
                "model": &*target.model,
                "breaker": target.breaker,
                "success_rate": target.health.at(Instant::now()).success_rate(),
                "first_output_ms": target.health.first_output_ms(),
                "tokens_per_second": target.health.tokens_per_second(),
            })
        })
        .collect();
    let ledger = serde_json::json!({
        "spool_bytes": ledger.spool_bytes,
        "waiting_bytes": ledger.waiting_bytes,
        "lost": ledger.lost,
        "stuck": ledger.stuck,
    });
    let alerts = core.telemetry.alerts.active();
    serde_json::json!({"providers": providers, "targets": targets, "ledger": ledger, "alerts": alerts})
}
