//! The live state of the routing: who holds which key, and how each target fares.
//!
//! Both ports are asked on the hot path, so they answer from memory. Time is an argument everywhere.

use crate::domain::{FaultKind, KeyId, ProviderKey, RateLimits};
use crate::routing::breaker::{Change, Gate, Policy};
use crate::routing::health::Health;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What an attempt says about the key it was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOutcome {
    /// The provider accepted it.
    Good,
    /// Nothing: the provider was not reached or is unwell, or the client left.
    Unknown,
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
            FaultKind::BadRequest | FaultKind::ContextLength | FaultKind::ContentFilter => Self::Good,
            _ => Self::Unknown,
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
    /// It rests for so long.
    Cooldown {
        /// Time left.
        left: Duration,
        /// Why: see [`RATE_LIMITED`], [`OWN_LIMIT`] and [`GROUP`].
        why: &'static str,
    },
    /// Without quota for so long.
    Exhausted {
        /// Time left.
        left: Duration,
    },
    /// Not accepted by the provider; back when it is enabled again, by a reload or an active probe.
    Disabled,
}

/// [`KeyState::Cooldown`]: the provider answered 429.
pub const RATE_LIMITED: &str = "rate_limited";
/// [`KeyState::Cooldown`]: what its operator allows is used up for now.
pub const OWN_LIMIT: &str = "own_limit";
/// [`KeyState::Cooldown`]: another key of its group ran into a limit.
pub const GROUP: &str = "group";

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

    /// How long it rests; `None` when it does not, or for no time that is known.
    pub fn left(&self) -> Option<Duration> {
        match self {
            Self::Cooldown { left, .. } | Self::Exhausted { left } => Some(*left),
            Self::Ready { .. } | Self::Disabled => None,
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
    /// Which key it is.
    pub id: KeyId,
    /// Its state.
    pub state: KeyState,
    /// The share of its limits that is left, 0 to 1; 1 where nothing is known.
    pub room: f64,
    /// What was used of the requests of a minute, where a limit of them is known.
    pub requests: Option<Spent>,
    /// What was used of the tokens of a minute.
    pub tokens: Option<Spent>,
    /// How far it is to be trusted, 0 to 1: less for one that ran into limits lately, and 0 for one that is disabled.
    pub health: f64,
}

/// What was used of a limit that fills up again evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// So much of it is not there now.
    pub used: u64,
    /// The limit.
    pub limit: u64,
}

/// What a request wants a key for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The provider's id.
    pub provider: &'a Arc<str>,
    /// The keys to choose from.
    pub keys: &'a [Arc<ProviderKey>],
    /// Those of them that have been tried.
    pub tried: &'a [KeyId],
    /// How many tokens the request may need, input and output together.
    pub tokens: u64,
}

/// A key that is leased.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Leased {
    /// Its place among those that were asked for.
    pub place: usize,
    /// What it is given back with.
    pub ticket: Ticket,
    /// It had rested, and this is its first lease since.
    pub revived: bool,
}

/// A lease, as it is given back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ticket {
    /// The key.
    pub key: KeyId,
    /// When the lease ends by itself, so that none is out for ever whatever becomes of its holder.
    pub expires: Instant,
    /// How many tokens were taken from the key's quota.
    pub tokens: u64,
}

/// What comes back with a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Returned {
    /// What was learnt about it.
    pub outcome: KeyOutcome,
    /// How many tokens it took in the end; `None` when nobody counted them.
    pub tokens: Option<u64>,
    /// What the provider told of its limits.
    pub limits: RateLimits,
}

impl Returned {
    /// A key with this outcome, and nothing else known.
    pub fn with(outcome: KeyOutcome) -> Self {
        Self { outcome, tokens: None, limits: RateLimits::default() }
    }
}

/// The pool of provider keys. A key is known by its provider and [`KeyId`].
pub trait KeyPool: Send + Sync {
    /// Leases a key that is ready and was not tried: of two drawn by chance the one with more room, a better record and fewer leases.
    /// The lease ends by itself after `ttl`.
    ///
    /// # Errors
    /// When none is ready.
    fn lease(&self, ask: &Ask<'_>, ttl: Duration, random: u64, now: Instant) -> Result<Leased, NoKey>;

    /// Whether a lease would succeed.
    fn any_ready(&self, ask: &Ask<'_>, now: Instant) -> bool;

    /// How long until the first of the keys is ready, tried or not; `None` when that takes an operator.
    fn ready_in(&self, ask: &Ask<'_>, now: Instant) -> Option<Duration>;

    /// The share of its limits that the best of the keys has left, 0 to 1; 0 when none is ready, 1 where nothing is known.
    fn room(&self, ask: &Ask<'_>, now: Instant) -> f64;

    /// Gives a lease back with what was learnt about the key. The longer of two deadlines wins. Returns the new state when it is a
    /// different kind of state than before.
    fn give_back(&self, provider: &str, ticket: &Ticket, returned: Returned, now: Instant) -> Option<KeyState>;

    /// Makes a disabled key ready again; true if it was disabled.
    fn enable(&self, provider: &str, key: KeyId) -> bool;

    /// From now on there are these keys, by provider, with these limits and groups. Disabled ones get another chance.
    fn configure(&self, providers: &[(Arc<str>, &[Arc<ProviderKey>])], now: Instant);

    /// All keys.
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

    /// Takes note of an active probe of a provider: when it is up, open breakers let a request through at once; when it is down, that
    /// is a failure of each of its targets. Returns the models whose breakers have opened.
    fn probed(&self, provider: &str, up: bool, policy: Policy, now: Instant) -> Vec<Arc<str>>;

    /// Forgets all providers but these.
    fn keep(&self, providers: &[Arc<str>]);

    /// Takes note that a target was asked, where what came of it says nothing of how well it is.
    fn note_tried(&self, provider: &str, model: &str);

    /// Takes note of how fast an answer came, in tokens per second.
    fn note_rate(&self, provider: &str, model: &str, tokens_per_second: f64);

    /// Takes note of how long a request, streamed or not, waited for its first output.
    fn note_wait(&self, provider: &str, model: &str, stream: bool, wait: Duration);

    /// How long all but this share of such requests have waited at most; `None` as long as too few are known.
    fn usual_wait(&self, provider: &str, model: &str, stream: bool, share: f64) -> Option<Duration>;

    /// An attempt ended without an outcome.
    fn abandon(&self, provider: &str, model: &str, now: Instant);

    /// All targets that were ever tried.
    fn statuses(&self) -> Vec<TargetStatus>;
}
