//! A circuit breaker for one target (a model at a provider).
//!
//! ```text
//!             failures in a row ≥ threshold                    open_for has passed
//!   Closed ───────────────────────────────────────> Open ────────────────────────────────> HalfOpen
//!     ▲                                               ▲                                        │
//!     │                                               └───────────── the probe failed ─────────┤
//!     └───────────────────────────────────────────────────────────── the probe succeeded ──────┘
//! ```
//!
//! Only so many providers may be left alone at once: beyond that a target stays closed however it fails, so that in an outage of
//! everything, which is most likely the gateway's own, somebody is still asked and the end of it is seen at once.

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
    /// How many providers may have open breakers at once.
    pub max_open: usize,
}

/// The part of `open_for` that chance adds to it at most.
const JITTER: f64 = 0.2;

impl Policy {
    /// The same with a wait that is up to a fifth longer, so that breakers that opened together are not probed together. `random` is in
    /// `[0, 1)`.
    pub fn with_jitter(self, random: f64) -> Self {
        Self { open_for: self.open_for.mul_f64(1.0 + JITTER * random.clamp(0.0, 1.0)), ..self }
    }
}

/// How many of so many providers may have open breakers at once: this share of them, and at least one.
pub fn max_open(share: f64, providers: usize) -> usize {
    ((share * providers as f64 + 1e-9) as usize).max(1)
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

    /// Whether it keeps requests away, all but a probe.
    pub fn is_open(&self) -> bool {
        !matches!(self, Self::Closed { .. })
    }

    /// The same, but for one that nobody has asked since a probe was due: whoever asks gets through.
    pub fn is_out(&self, policy: Policy, now: Instant) -> bool {
        matches!(*self, Self::Open { until } | Self::HalfOpen { until } if now < until + policy.open_for)
    }

    /// Whether one more failure would open it.
    pub fn is_on_the_edge(&self, policy: Policy) -> bool {
        matches!(self, Self::Closed { failures } if policy.enabled && failures.saturating_add(1) >= policy.failures)
    }

    /// An open breaker lets a probe through at once: something else says that its target may be well again.
    pub fn hurry(&mut self, now: Instant) {
        if let Self::Open { until } = self {
            *until = (*until).min(now);
        }
    }

    /// Takes note of an outcome. Without `may_open` a closed breaker stays closed.
    pub fn report(&mut self, success: bool, policy: Policy, may_open: bool, now: Instant) -> Option<Change> {
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
            (Self::Closed { failures }, false) if !may_open || !self.is_on_the_edge(policy) => {
                *self = Self::Closed { failures: failures.saturating_add(1) };
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

    const POLICY: Policy = Policy { enabled: true, failures: 3, open_for: Duration::from_secs(30), max_open: 1 };

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let (now, mut state) = (Instant::now(), State::default());
        for outcome in [false, false, true, false, false] {
            assert_eq!(state.report(outcome, POLICY, true, now), None);
        }
        assert_eq!(state.report(false, POLICY, true, now), Some(Change::Opened));
        assert_eq!(state.enter(POLICY, now), Gate::Refuse { retry_after: POLICY.open_for });
    }

    #[test]
    fn lets_one_probe_through_and_closes_on_its_success() {
        let now = Instant::now();
        let mut state = State::Open { until: now + POLICY.open_for };
        let later = now + POLICY.open_for;
        assert_eq!(state.enter(POLICY, later), Gate::Probe);
        assert!(matches!(state.enter(POLICY, later), Gate::Refuse { .. }));
        assert_eq!(state.report(true, POLICY, true, later), Some(Change::Closed));
        assert_eq!(state.enter(POLICY, later), Gate::Pass);
    }

    #[test]
    fn a_failed_probe_opens_again_and_an_abandoned_one_frees_its_place() {
        let now = Instant::now();
        let mut state = State::HalfOpen { until: now + POLICY.open_for };
        assert_eq!(state.report(false, POLICY, true, now), None);
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
            assert_eq!(state.report(false, off, true, now), None);
        }
        assert_eq!(state.enter(off, now), Gate::Pass);
    }

    #[test]
    fn jitter_only_lengthens_the_wait() {
        assert_eq!(POLICY.with_jitter(0.0).open_for, POLICY.open_for);
        assert_eq!(POLICY.with_jitter(0.5).open_for, Duration::from_secs(33));
    }

    #[test]
    fn a_share_of_the_providers_may_be_open_and_always_one() {
        let of = |share| [1, 2, 3, 4, 10].map(|providers| max_open(share, providers));
        assert_eq!(of(0.5), [1, 1, 1, 2, 5]);
        assert_eq!(of(0.0), [1; 5]);
        assert_eq!(of(1.0), [1, 2, 3, 4, 10]);
        assert_eq!(max_open(0.7, 10), 7);
    }

    #[test]
    fn who_may_not_open_stays_closed_until_it_may() {
        let (now, mut state) = (Instant::now(), State::default());
        for _ in 0..10 {
            assert_eq!(state.report(false, POLICY, false, now), None);
        }
        assert_eq!(state.enter(POLICY, now), Gate::Pass);
        assert_eq!(state.report(false, POLICY, true, now), Some(Change::Opened));
    }

    #[test]
    fn a_hint_of_recovery_brings_the_probe_forward_and_no_more() {
        let now = Instant::now();
        let mut state = State::Open { until: now + POLICY.open_for };
        state.hurry(now);
        assert_eq!(state.enter(POLICY, now), Gate::Probe);
        let under_way = state;
        state.hurry(now);
        assert_eq!(state, under_way, "one probe at a time");
        state = State::default();
        state.hurry(now);
        assert_eq!(state, State::default());
    }
}
