//! The last changes of states, for people who look at the console: what the log says of providers, keys and stores, as it happens.

use super::redact::Redactor;
use super::state_change::StateChange;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use tokio::sync::broadcast;

/// How many lines are kept.
const KEPT: usize = 200;

/// One line of the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeedLine {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What kind of thing has changed: `provider`, `key`, `failover`, `store` or `config`.
    pub kind: &'static str,
    /// How much it matters: `error`, `warn` or `info`.
    pub level: &'static str,
    /// What has happened, in a sentence's worth of words.
    pub text: String,
}

/// The lines. Clones share them.
#[derive(Clone)]
pub struct Feed {
    kept: Arc<Mutex<VecDeque<Arc<FeedLine>>>>,
    sender: broadcast::Sender<Arc<FeedLine>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { kept: Arc::default(), sender: broadcast::Sender::new(KEPT) }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Feed({} lines)", self.kept.lock().len())
    }
}

impl Feed {
    /// Takes down a change.
    pub(super) fn push(&self, at_ms: u64, change: &StateChange<'_>, redactor: &Redactor) {
        let level = match change.level() {
            log::Level::Error => "error",
            log::Level::Warn => "warn",
            _ => "info",
        };
        let text = redactor.redact(&told(change)).into_owned();
        let line = Arc::new(FeedLine { at_ms, kind: change.event(), level, text });
        let mut kept = self.kept.lock();
        let oldest = if kept.len() >= KEPT { kept.pop_front() } else { None };
        kept.push_back(line.clone());
        // It fails only when nobody watches.
        let _ = self.sender.send(line);
        drop(kept);
        drop(oldest);
    }

    /// The lines that are kept, the oldest first.
    pub fn lines(&self) -> Vec<Arc<FeedLine>> {
        self.kept.lock().iter().cloned().collect()
    }

    /// Begins to watch: every line from now on. A watcher that is too slow loses the oldest.
    pub fn watch(&self) -> broadcast::Receiver<Arc<FeedLine>> {
        self.sender.subscribe()
    }
}

/// A change as people say it: `openai_01 exhausted — cooldown 120s`.
fn told(change: &StateChange<'_>) -> String {
    let seconds = |rest: std::time::Duration| rest.as_secs() + u64::from(rest.subsec_nanos() > 0);
    match *change {
        StateChange::ProviderUnhealthy { provider, model, why } => format!("{provider}/{model} unhealthy: {why}"),
        StateChange::ProviderRecovered { provider, model } => format!("{provider}/{model} recovered"),
        StateChange::KeyCooldown { provider: _, key, rest, why } => {
            format!("{key} rests {}s: {}", seconds(rest), why.replace('_', " "))
        }
        StateChange::KeyExhausted { provider: _, key, rest, why } => {
            format!("{key} exhausted \u{2014} cooldown {}s: {}", seconds(rest), why.replace('_', " "))
        }
        StateChange::KeyDisabled { provider, key, why } => format!("{key} disabled: {provider} says {why}"),
        StateChange::KeyIdle { provider: _, key } => format!("{key} ready again"),
        StateChange::Failover { request: _, from, to, reason, after } => {
            format!("failover {from} \u{2192} {to} after {} ms: {}", after.as_millis(), reason.replace('_', " "))
        }
        StateChange::StoreUnhealthy { store, why } => format!("{store} cannot be asked: {why}"),
        StateChange::StoreRecovered { store } => format!("{store} can be asked again"),
        StateChange::ConfigReloaded => "a new configuration is in force".to_owned(),
        StateChange::ConfigRefused { errors } => {
            format!("a new configuration was refused: {}", errors.first().map_or("", String::as_str))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Secret;
    use std::time::Duration;

    #[test]
    fn the_last_lines_are_kept_and_told_without_secrets() {
        let (feed, redactor) = (Feed::default(), Redactor::default());
        redactor.register(&[Secret::new("canary-secret-value")]);
        let mut watcher = feed.watch();
        let rest = Duration::from_millis(119_500);
        let change = StateChange::KeyExhausted { provider: "p", key: "p_06", rest, why: "canary-secret-value" };
        feed.push(7, &change, &redactor);
        let line = feed.lines().pop().unwrap();
        assert!(line.text.starts_with("p_06 exhausted \u{2014} cooldown 120s"), "{}", line.text);
        assert!(!line.text.contains("canary"), "{}", line.text);
        assert_eq!((line.at_ms, line.kind, line.level), (7, "key", "warn"));
        assert_eq!(watcher.try_recv().ok(), Some(line));
        for _ in 0..KEPT + 5 {
            feed.push(8, &StateChange::ConfigReloaded, &redactor);
        }
        assert_eq!((feed.lines().len(), feed.lines()[0].at_ms), (KEPT, 8));
    }
}
