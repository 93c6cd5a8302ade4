//! A circuit breaker for one target (a model at a provider).
//!
//! ```text
//!             failures in a row ≥ threshold                    open_for has passed
//!   Closed ───────────────────────────────────────> Open ────────────────────────────────> HalfOpen
//!     ▲                                               ▲                                        │
//!     │                                               └───────────── the probe failed ─────────┤
//!     └───────────────────────────────────────────────────────────── the probe succeeded ──────┘
//! ```

use std::time::{Duration, Instant};

/// When a breaker opens and for how long (`[breaker]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Off: nothing ever opens.
    pub enabled: bool,
    /// Failures in a row that open it. One failure among successes never does.
    pub failures: u32,
    /// How long it stays open before one request may probe.
    pub open_for: Duration,
}

/// The state of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Requests pass; so many have failed in a row.
    Closed {
        /// Failures in a row.
        failures: u32,
    },
    /// No request passes until then.
    Open {
        /// When the first probe may pass.
        until: Instant,
    },
    /// One probe is under way; if it has not reported by then, another one may start.
    HalfOpen {
        /// When the probe is given up.
        until: Instant,
    },
}

/// What a breaker says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Go ahead.
    Pass,
    /// Go ahead: you are the probe.
    Probe,
    /// Not now; ask again after this.
    Refuse {
        /// When the breaker may let a probe through.
        retry_after: Duration,
    },
}

/// A change that operators want to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The target is unhealthy from now on.
    Opened,
    /// The target has recovered.
    Closed,
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl State {
    /// Whether a request may pass, without taking the probe's place.
    pub fn peek(&self, policy: Policy, now: Instant) -> Gate {
        match *self {
            _ if !policy.enabled => Gate::Pass,
            Self::Closed { .. } => Gate::Pass,
            Self::Open { until } | Self::HalfOpen { until } if now < until => {
                Gate::Refuse { retry_after: until.duration_since(now) }
            }
            Self::Open { .. } | Self::HalfOpen { .. } => Gate::Probe,
        }
    }

    /// Asks to pass. After `open_for` the first who asks becomes the probe.
    pub fn enter(&mut self, policy: Policy, now: Instant) -> Gate {
        let gate = self.peek(policy, now);
        if gate == Gate::Probe {
            *self = Self::HalfOpen { until: now + policy.open_for };
        }
        gate
    }

    /// Takes note of an outcome.
    pub fn report(&mut self, success: bool, policy: Policy, now: Instant) -> Option<Change> {
        match (*self, success) {
            _ if !policy.enabled => None,
            (Self::Closed { .. }, true) => {
                *self = Self::default();
                None
            }
            (Self::Open { .. } | Self::HalfOpen { .. }, true) => {
                *self = Self::default();
                Some(Change::Closed)
            }
            (Self::Closed { failures }, false) if failures + 1 < policy.failures => {
                *self = Self::Closed { failures: failures + 1 };
                None
            }
            (Self::Closed { .. }, false) => {
                *self = Self::Open { until: now + policy.open_for };
                Some(Change::Opened)
            }
            // A request that began before the breaker opened says nothing new.
            (Self::Open { .. }, false) => None,
            (Self::HalfOpen { .. }, false) => {
                *self = Self::Open { until: now + policy.open_for };
                None
            }
        }
    }

    /// A probe that ended without an outcome (the client left) gives its place back.
    pub fn abandon(&mut self, now: Instant) {
        if let Self::HalfOpen { .. } = self {
            *self = Self::Open { until: now };
        }
    }

    /// A stable lower-case name for metrics and pages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half_open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { enabled: true, failures: 3, open_for: Duration::from_secs(30) };

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let (now, mut state) = (Instant::now(), State::default());
        for outcome in [false, false, true, false, false] {
            assert_eq!(state.report(outcome, POLICY, now), None);
        }
        assert_eq!(state.report(false, POLICY, now), Some(Change::Opened));
        assert_eq!(state.enter(POLICY, now), Gate::Refuse { retry_after: POLICY.open_for });
    }

    #[test]
    fn lets_one_probe_through_and_closes_on_its_success() {
        let now = Instant::now();
        let mut state = State::Open { until: now + POLICY.open_for };
        let later = now + POLICY.open_for;
        assert_eq!(state.enter(POLICY, later), Gate::Probe);
        assert!(matches!(state.enter(POLICY, later), Gate::Refuse { .. }));
        assert_eq!(state.report(true, POLICY, later), Some(Change::Closed));
        assert_eq!(state.enter(POLICY, later), Gate::Pass);
    }

    #[test]
    fn a_failed_probe_opens_again_and_an_abandoned_one_frees_its_place() {
        let now = Instant::now();
        let mut state = State::HalfOpen { until: now + POLICY.open_for };
        assert_eq!(state.report(false, POLICY, now), None);
        assert!(matches!(state, State::Open { .. }));
        let mut state = State::HalfOpen { until: now + POLICY.open_for };
        state.abandon(now);
        assert_eq!(state.enter(POLICY, now), Gate::Probe);
    }

    #[test]
    fn disabled_never_opens() {
        let (now, mut state) = (Instant::now(), State::default());
        let off = Policy { enabled: false, ..POLICY };
        for _ in 0..10 {
            assert_eq!(state.report(false, off, now), None);
        }
        assert_eq!(state.enter(off, now), Gate::Pass);
    }
}
