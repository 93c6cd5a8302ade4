//! Looks every second for what an operator has to know of, and tells the webhook, where there is one, of what begins and ends.
//!
//! `telemetry::alerts` decides what is one alert; `outbox.rs` keeps what is to be sent, across restarts; `webhook.rs` signs and sends it.

mod budgets;
mod outbox;
mod webhook;

use crate::proxy::Core;
use crate::store::ports::live::KeyState;
use crate::telemetry::StateChange;
use crate::telemetry::alerts::{Alert, Change, Condition, Kind, Severity};
use crate::wiring::state::{new_id, now_ms};
use outbox::Outbox;
use parking_lot::Mutex;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use webhook::Sender;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// How often budgets are looked at: there may be many accounts, and the ledger is not asked more often either.
const LOOK_AT_BUDGETS: Duration = Duration::from_secs(5);
/// For so long another process may have the outbox: one that hands over to this one has it until it does.
const ANOTHERS: Duration = Duration::from_secs(90);

/// What is only told when it happens: why the last configuration was refused, while that is the last word on it.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Option<String>>>);

impl Heard {
    /// Hears of a change.
    pub(super) fn hear(&self, change: &StateChange<'_>) {
        match change {
            StateChange::ConfigRefused { errors } => *self.0.lock() = Some(errors.join("; ")),
            StateChange::ConfigReloaded => *self.0.lock() = None,
            _ => {}
        }
    }
}

/// Watches for as long as the gateway runs; without a data directory nothing is sent.
pub(super) async fn keep_up(core: Arc<Core>, heard: Heard, data_dir: Option<PathBuf>) {
    let outbox = match data_dir {
        Some(data_dir) => open(data_dir).await,
        None => None,
    };
    if let Some(outbox) = &outbox {
        core.telemetry.alerts.recall(outbox.active());
    }
    let mut sender = Sender::default();
    let (mut of_budgets, mut looked_at_budgets): (Vec<Condition>, Option<Instant>) = (Vec::new(), None);
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let hold = core.snapshot.load().alerts.hold;
        if looked_at_budgets.is_none_or(|at| at.elapsed() >= LOOK_AT_BUDGETS) {
            (of_budgets, looked_at_budgets) = (budgets::conditions(&core), Some(Instant::now()));
        }
        let mut seen = conditions(&core, &heard);
        seen.extend(of_budgets.iter().cloned());
        let changes = core.telemetry.alerts.see(now_ms(), hold, seen);
        for change in &changes {
            tell_log(change);
        }
        let Some(outbox) = &outbox else { continue };
        let (webhook, keep) = (core.snapshot.load().alerts.webhook.clone(), core.snapshot.load().alerts.keep);
        if !changes.is_empty() {
            for change in changes.iter().filter(|_| webhook.is_some()) {
                let id = new_id("alert");
                if let Err(error) = outbox.put(now_ms(), &id, &message(&id, now_ms(), change)) {
                    log::error!("an alert cannot be kept for the webhook: {error}");
                }
            }
            if let Err(error) = outbox.keep_active(&core.telemetry.alerts.active()) {
                log::warn!("the alerts that are active cannot be written down: {error}");
            }
        }
        if let Some(webhook) = webhook {
            sender.send_what_is_due(&webhook, keep, outbox).await;
        }
    }
}

/// The outbox, once no other process has it; `None` where it cannot be used.
async fn open(data_dir: PathBuf) -> Option<Outbox> {
    let begun = Instant::now();
    loop {
        match Outbox::open(&data_dir) {
            Ok(Some(outbox)) => return Some(outbox),
            Ok(None) if begun.elapsed() < ANOTHERS => tokio::time::sleep(LOOK / 4).await,
            Ok(None) => {
                log::warn!("another gateway of {} sends the alerts; this one only shows its own", data_dir.display());
                return None;
            }
            Err(error) => {
                log::error!("alerts cannot be sent, only shown: {}: {error}", data_dir.display());
                return None;
            }
        }
    }
}

fn tell_log(change: &Change) {
    match change {
        Change::Raised(Alert { kind, subject, message, .. }) => {
            log::warn!("alert {} {subject}: {message}", kind.name());
        }
        Change::Resolved(Alert { kind, subject, .. }) => log::info!("alert {} {subject} is over", kind.name()),
    }
}

/// What a webhook gets.
fn message(id: &str, now: u64, change: &Change) -> String {
    let (event, alert) = match change {
        Change::Raised(alert) => ("alert.raised", alert),
        Change::Resolved(alert) => ("alert.resolved", alert),
    };
    json!({"id": id, "type": event, "at": now, "alert": alert, "version": env!("CARGO_PKG_VERSION")}).to_string()
}

/// What is the case now.
fn conditions(core: &Core, heard: &Heard) -> Vec<Condition> {
    let redactor = &core.telemetry.redactor;
    let condition = |kind, subject: String, message: String| Condition {
        kind,
        severity: if kind == Kind::Store { Severity::Critical } else { Severity::Warning },
        subject: redactor.redact(&subject).into_owned(),
        message: redactor.redact(&message).into_owned(),
        org: None,
    };
    let mut seen = Vec::new();
    if let Some(errors) = heard.0.lock().clone() {
        let message = format!("a configuration was refused, the last good one is in force: {errors}");
        seen.push(condition(Kind::Config, "configuration".to_owned(), message));
    }
    if let Some(why) = core.degraded.load().as_deref() {
        seen.push(condition(Kind::Store, "database".to_owned(), format!("the database cannot be reached: {why}")));
    }
    for key in core.pool.statuses(Instant::now()) {
        let found = match key.state {
            KeyState::Disabled => {
                (Kind::KeyDisabled, "the provider does not accept this key; it is not used until it is replaced")
            }
            KeyState::Exhausted { .. } => (Kind::KeyExhausted, "this key has no quota or credit left at its provider"),
            KeyState::Ready { .. } | KeyState::Cooldown { .. } => continue,
        };
        seen.push(condition(found.0, format!("{}/{}", key.provider, key.key), found.1.to_owned()));
    }
    for target in core.targets.statuses() {
        if target.breaker == "open" || target.breaker == "half_open" {
            let message = "it fails too often, and gets no traffic until a probe succeeds".to_owned();
            seen.push(condition(Kind::BreakerOpen, format!("{}/{}", target.provider, target.model), message));
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_the_configuration_counts() {
        let heard = Heard::default();
        heard.hear(&StateChange::ConfigRefused { errors: &["orbyt.toml:1: x".to_owned(), "y".to_owned()] });
        assert_eq!(heard.0.lock().as_deref(), Some("orbyt.toml:1: x; y"));
        heard.hear(&StateChange::ConfigReloaded);
        assert!(heard.0.lock().is_none());
    }

    #[test]
    fn a_message_says_what_has_changed_and_since_when_it_was() {
        let alert = Alert {
            kind: Kind::KeyDisabled,
            subject: "openai/openai_01".to_owned(),
            message: "m".to_owned(),
            severity: Severity::Warning,
            org: None,
            since: 5,
        };
        let text: serde_json::Value = serde_json::from_str(&message("alert_1", 7, &Change::Resolved(alert))).unwrap();
        assert_eq!(text["type"], "alert.resolved");
        assert_eq!((text["id"].as_str(), text["at"].as_u64()), (Some("alert_1"), Some(7)));
        assert_eq!(
            text["alert"],
            json!({"kind": "key_disabled", "subject": "openai/openai_01", "message": "m", "severity": "warning", "since": 5})
        );
    }
}
