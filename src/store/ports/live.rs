//! The live state of the routing: who holds which key, and how each target fares.
//!
//! Both ports are asked on the hot path, so they answer from memory. Time is an argument everywhere.

use crate::domain::{FaultKind, ProviderKey};
use crate::routing::breaker::{Change, Gate, Policy};
use crate::routing::health::Health;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What an attempt says about the key it was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOutcome {
    /// Nothing against it.
    Good,
    /// It ran into a rate limit; the wait that the provider asked for.
    RateLimited(Option<Duration>),
    /// Its quota is used up; the wait that the provider asked for.
    Exhausted(Option<Duration>),
    /// The provider does not accept it.
    Refused,
}

impl KeyOutcome {
    /// What a fault says about the key.
    pub fn of(kind: FaultKind, retry_after: Option<Duration>) -> Self {
        match kind {
            FaultKind::RateLimited => Self::RateLimited(retry_after),
            FaultKind::QuotaExhausted => Self::Exhausted(retry_after),
            FaultKind::BadCredentials => Self::Refused,
            _ => Self::Good,
        }
    }
}

/// The state of a pooled key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Ready, with so many leases out.
    Ready {
        /// Requests that hold it now.
        leases: u32,
    },
    /// Rate limited for so long.
    Cooldown {
        /// Time left.
        left: Duration,
    },
    /// Without quota for so long.
    Exhausted {
        /// Time left.
        left: Duration,
    },
    /// Not accepted by the provider; back on reload.
    Disabled,
}

impl KeyState {
    /// A stable lower-case name for logs, metrics and pages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ready { leases: 0 } => "idle",
            Self::Ready { .. } => "leased",
            Self::Cooldown { .. } => "cooldown",
            Self::Exhausted { .. } => "exhausted",
            Self::Disabled => "disabled",
        }
    }
}

/// Why no key could be leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoKey {
    /// When the first one will be ready again; `None` when that takes an operator.
    pub ready_in: Option<Duration>,
}

/// A key's state, for pages and metrics.
#[derive(Clone, Debug)]
pub struct KeyStatus {
    /// The provider's id.
    pub provider: Arc<str>,
    /// The key's name.
    pub key: Arc<str>,
    /// Its state.
    pub state: KeyState,
}

/// The pool of provider keys.
pub trait KeyPool: Send + Sync {
    /// Leases the best ready key of a provider that is not among the `tried` ones: its place in `keys`.
    ///
    /// # Errors
    /// When none is ready.
    fn lease(
        &self,
        provider: &Arc<str>,
        keys: &[Arc<ProviderKey>],
        tried: &[Arc<str>],
        now: Instant,
    ) -> Result<usize, NoKey>;

    /// Whether a lease would succeed.
    fn any_ready(&self, provider: &str, keys: &[Arc<ProviderKey>], tried: &[Arc<str>], now: Instant) -> bool;

    /// How many of a provider's keys are ready.
    fn ready_keys(&self, provider: &str, keys: &[Arc<ProviderKey>], now: Instant) -> usize {
        keys.iter().filter(|key| self.any_ready(provider, std::slice::from_ref(key), &[], now)).count()
    }

    /// How long until the first of a provider's keys is ready; `None` when that takes an operator.
    fn ready_in(&self, provider: &str, keys: &[Arc<ProviderKey>], now: Instant) -> Option<Duration>;

    /// Gives a lease back with what was learnt about the key. The longer of two deadlines wins. Returns the new state when it is a
    /// different kind of state than before.
    fn give_back(&self, provider: &str, key: &str, outcome: KeyOutcome, now: Instant) -> Option<KeyState>;

    /// Makes every disabled key ready again, as on a reload.
    fn enable_all(&self);

    /// All keys that were ever leased.
    fn statuses(&self, now: Instant) -> Vec<KeyStatus>;
}

/// A target's state, for pages and metrics.
#[derive(Clone, Debug)]
pub struct TargetStatus {
    /// The provider's id.
    pub provider: Arc<str>,
    /// The model there.
    pub model: Arc<str>,
    /// The breaker's state.
    pub breaker: &'static str,
    /// How it fares.
    pub health: Health,
}

/// Breakers and health of all targets.
pub trait Targets: Send + Sync {
    /// How a target fares.
    fn health(&self, provider: &str, model: &str) -> Health;

    /// Whether a request may pass to the target, without taking the place of a probe.
    fn peek(&self, provider: &str, model: &str, policy: Policy, now: Instant) -> Gate;

    /// Asks to pass to the target; the first who asks after the pause is the probe.
    fn enter(&self, provider: &Arc<str>, model: &Arc<str>, policy: Policy, now: Instant) -> Gate;

    /// Takes note of an outcome.
    fn report(
        &self,
        provider: &str,
        model: &str,
        success: bool,
        first_output: Option<Duration>,
        policy: Policy,
        now: Instant,
    ) -> Option<Change>;

    /// Takes note of how fast an answer came, in tokens per second.
    fn note_rate(&self, provider: &str, model: &str, tokens_per_second: f64);

    /// An attempt ended without an outcome.
    fn abandon(&self, provider: &str, model: &str, now: Instant);

    /// All targets that were ever tried.
    fn statuses(&self) -> Vec<TargetStatus>;
}
