//! What an operator has to know of, for as long as it lasts: which alerts are active, and when one is raised or resolved.
//!
//! ```text
//!            seen                      not seen
//! (nothing) ──────> Active ──────────────────────────> Fading
//!      ▲               ▲            seen again           │  │
//!      │               └─────────────────────────────────┘  │ not seen for as long as is held
//!      └──────────────────────── resolved ──────────────────┘
//! ```
//!
//! Whoever feeds it says what is the case now; so nothing is missed, and a breaker that opens and closes by turns is one alert.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A configuration was refused, the last good one is in force.
    Config,
    /// A provider does not accept a key.
    KeyDisabled,
    /// A key has no quota or credit left.
    KeyExhausted,
    /// A target gets no traffic, because it fails.
    BreakerOpen,
    /// The database cannot be reached.
    Store,
    /// A budget is used up, or nearly.
    Budget,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Config, Self::KeyDisabled, Self::KeyExhausted, Self::BreakerOpen, Self::Store, Self::Budget];

    /// Its name in metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::KeyDisabled => "key_disabled",
            Self::KeyExhausted => "key_exhausted",
            Self::BreakerOpen => "breaker_open",
            Self::Store => "store",
            Self::Budget => "budget",
        }
    }
}

/// Something that is the case now. Texts hold no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What it is about.
    pub kind: Kind,
    /// Of what: `openai/openai_01`. With the kind it tells one alert from another.
    pub subject: String,
    /// What it means, for people.
    pub message: String,
    /// The organisation that it concerns, where it is one alone.
    pub org: Option<String>,
}

/// A condition that was noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What it is about.
    pub kind: Kind,
    /// Of what.
    pub subject: String,
    /// What it means, for people, as it was last seen.
    pub message: String,
    /// The organisation that it concerns, where it is one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    /// Since when, in Unix milliseconds.
    pub since: u64,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was not there before.
    Raised(Alert),
    /// It is over.
    Resolved(Alert),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Active,
    /// Not seen since this moment, in Unix milliseconds.
    Fading(u64),
}

/// The alerts of a gateway. Time is Unix milliseconds and an argument.
#[derive(Debug, Default)]
pub struct Alerts {
    known: BTreeMap<(Kind, String), (Alert, State)>,
}

impl Alerts {
    /// With those that a process before has raised: what of them is over will be told.
    pub fn recalled(before: Vec<Alert>) -> Self {
        let known = before.into_iter().map(|alert| ((alert.kind, alert.subject.clone()), (alert, State::Active)));
        Self { known: known.collect() }
    }

    /// Takes in what is the case now. An alert is resolved when it was not seen for as long as `hold`.
    pub fn see(&mut self, now: u64, hold: Duration, seen: Vec<Condition>) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut unseen: Vec<(Kind, String)> = Vec::new();
        for (key, (_, state)) in &mut self.known {
            if !seen.iter().any(|one| one.kind == key.0 && one.subject == key.1) {
                match *state {
                    State::Active if !hold.is_zero() => *state = State::Fading(now),
                    State::Fading(since) if now.saturating_sub(since) < millis(hold) => {}
                    State::Active | State::Fading(_) => unseen.push(key.clone()),
                }
            }
        }
        changes
            .extend(unseen.iter().filter_map(|key| self.known.remove(key)).map(|(alert, _)| Change::Resolved(alert)));
        for Condition { kind, subject, message, org } in seen {
            match self.known.get_mut(&(kind, subject.clone())) {
                Some((alert, state)) => {
                    alert.message = message;
                    *state = State::Active;
                }
                None => {
                    let alert = Alert { kind, subject: subject.clone(), message, org, since: now };
                    self.known.insert((kind, subject), (alert.clone(), State::Active));
                    changes.push(Change::Raised(alert));
                }
            }
        }
        changes
    }

    /// Those that are active, by kind and subject.
    pub fn active(&self) -> Vec<Alert> {
        self.known.values().map(|(alert, _)| alert.clone()).collect()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The alerts, where everybody can look at them.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Alerts>>);

impl Board {
    /// Begins with those that a process before has raised.
    pub fn recall(&self, before: Vec<Alert>) {
        *self.0.lock() = Alerts::recalled(before);
    }

    /// As [`Alerts::see`].
    pub fn see(&self, now: u64, hold: Duration, seen: Vec<Condition>) -> Vec<Change> {
        self.0.lock().see(now, hold, seen)
    }

    /// Those that are active, by kind and subject.
    pub fn active(&self) -> Vec<Alert> {
        self.0.lock().active()
    }

    /// How many are active, by the name of the kind; all kinds.
    pub fn counts(&self) -> [(&'static str, usize); Kind::ALL.len()] {
        let alerts = self.0.lock();
        Kind::ALL.map(|kind| (kind.name(), alerts.known.keys().filter(|key| key.0 == kind).count()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(60);

    fn condition(subject: &str) -> Condition {
        Condition {
            kind: Kind::BreakerOpen,
            subject: subject.to_owned(),
            message: format!("{subject} fails"),
            org: None,
        }
    }

    fn told(changes: Vec<Change>) -> Vec<String> {
        let text = |change| match change {
            Change::Raised(alert) => format!("+{} {}", alert.subject, alert.since),
            Change::Resolved(alert) => format!("-{} {}", alert.subject, alert.since),
        };
        changes.into_iter().map(text).collect()
    }

    #[test]
    fn it_is_told_once_when_it_begins_and_once_when_it_is_long_over() {
        let mut alerts = Alerts::default();
        assert_eq!(told(alerts.see(1, HOLD, vec![condition("a"), condition("b")])), ["+a 1", "+b 1"]);
        assert!(alerts.see(1_000, HOLD, vec![condition("a"), condition("b")]).is_empty());
        assert!(alerts.see(2_000, HOLD, vec![condition("b")]).is_empty(), "it may come back");
        assert!(alerts.see(61_999, HOLD, vec![condition("b")]).is_empty());
        assert_eq!(alerts.active().len(), 2);
        assert_eq!(told(alerts.see(62_000, HOLD, vec![condition("b")])), ["-a 1"]);
        assert_eq!(alerts.active().len(), 1);
    }

    #[test]
    fn what_comes_and_goes_is_one_alert() {
        let mut alerts = Alerts::default();
        alerts.see(0, HOLD, vec![condition("a")]);
        for second in 1..100 {
            let seen = if second % 2 == 0 { vec![condition("a")] } else { Vec::new() };
            assert!(alerts.see(second * 30_000, HOLD, seen).is_empty());
        }
    }

    #[test]
    fn without_a_hold_the_end_is_told_at_once() {
        let mut alerts = Alerts::default();
        alerts.see(0, Duration::ZERO, vec![condition("a")]);
        assert_eq!(told(alerts.see(1, Duration::ZERO, Vec::new())), ["-a 0"]);
    }

    #[test]
    fn what_a_process_before_has_raised_is_not_raised_again_and_its_end_is_told() {
        let mut alerts = Alerts::default();
        alerts.see(5, HOLD, vec![condition("a"), condition("b")]);
        let mut next = Alerts::recalled(alerts.active());
        assert!(next.see(100_000, HOLD, vec![condition("a")]).is_empty());
        assert_eq!(told(next.see(200_000, HOLD, vec![condition("a")])), ["-b 5"]);
    }

    #[test]
    fn the_clock_may_be_set_back() {
        let mut alerts = Alerts::default();
        alerts.see(1_000_000, HOLD, vec![condition("a")]);
        alerts.see(1_000_000, HOLD, Vec::new());
        assert!(alerts.see(5, HOLD, Vec::new()).is_empty());
    }

    #[test]
    fn the_board_counts_by_kind() {
        let board = Board::default();
        board.see(0, HOLD, vec![condition("a"), condition("b")]);
        let counts = board.counts();
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<usize>(), 2);
        assert!(counts.contains(&("breaker_open", 2)) && counts.contains(&("config", 0)));
    }
}
