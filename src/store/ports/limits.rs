//! Limits on requests, tokens and concurrency, for whoever they are for: taken together or not at all, and settled afterwards.

use crate::domain::{Limit, Measure, OnOutage, Scope};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Somebody or something with limits of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// What it is.
    pub scope: Scope,
    /// Its name, unique within the scope, and short.
    pub name: Arc<str>,
    /// Its limits; at most one for each measure.
    pub limits: Arc<[Limit]>,
}

/// A place for one request within the limits of all its subjects.
#[derive(Debug)]
pub struct Lease {
    /// The subjects that it was taken from.
    pub subjects: Vec<Subject>,
    /// The tokens that are reserved at each of them.
    pub tokens: u64,
    /// Who keeps it.
    pub keeper: Keeper,
}

/// Where a lease is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// In this process alone.
    Local,
    /// In a store that several nodes share, under this node's name there.
    Shared {
        /// The node's name.
        node: Arc<str>,
    },
}

/// Where the tightest bucket of a kind stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it holds at most.
    pub limit: u64,
    /// What is left.
    pub remaining: u64,
    /// How long until it is full again.
    pub reset: Duration,
}

/// The tightest buckets that a request has to do with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standings {
    /// Of those that count requests.
    pub requests: Option<Standing>,
    /// Of those that count tokens.
    pub tokens: Option<Standing>,
}

/// When a refused request would pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// After this time, if nobody else comes first.
    For(Duration),
    /// When one of the requests in flight has ended.
    Place,
    /// Never: it asks for more than the limit.
    Never,
}

impl Wait {
    /// The order of waits: that for a place is unknown, and mostly short.
    pub const fn length(self) -> (u8, Duration) {
        match self {
            Self::Place => (0, Duration::ZERO),
            Self::For(wait) => (1, wait),
            Self::Never => (2, Duration::ZERO),
        }
    }
}

/// A limit that does not let a request pass: of several, the one that takes longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose limit it is.
    pub scope: Scope,
    /// The limit.
    pub limit: Limit,
    /// What is left of it.
    pub remaining: u64,
    /// What was asked for.
    pub requested: u64,
    /// When it would pass.
    pub wait: Wait,
}

impl Refusal {
    /// A fixed name for metrics.
    pub const fn name(&self) -> &'static str {
        match (self.scope, self.limit.measure) {
            (Scope::Key, Measure::Requests(_)) => "key_requests",
            (Scope::Key, Measure::Tokens(_)) => "key_tokens",
            (Scope::Key, Measure::Concurrency) => "key_concurrency",
            (Scope::User, Measure::Requests(_)) => "user_requests",
            (Scope::User, Measure::Tokens(_)) => "user_tokens",
            (Scope::User, Measure::Concurrency) => "user_concurrency",
            (Scope::Model, Measure::Requests(_)) => "model_requests",
            (Scope::Model, Measure::Tokens(_)) => "model_tokens",
            (Scope::Model, Measure::Concurrency) => "model_concurrency",
        }
    }
}

/// Why a request does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// A limit stands in the way.
    Reached(Refusal),
    /// The store that nodes share cannot be asked, and the operator wants nothing to pass then ([`OnOutage::Deny`]).
    Outage,
}

/// The buckets behind the limits.
#[async_trait]
pub trait LimitStore: Send + Sync {
    /// Takes one request, its place and so many tokens from every subject, or nothing from any. Where nodes share the store, its own clock
    /// counts and not `now`, and an answer is waited for no longer than the configuration allows.
    ///
    /// # Errors
    /// What stands in the way. The standings are those at that moment, either way.
    async fn acquire(&self, subjects: Vec<Subject>, tokens: u64, now: Instant) -> (Result<Lease, Denied>, Standings);

    /// Ends a lease: the place comes back, and of the tokens all that was not used; more than was reserved becomes a debt. Never waits,
    /// because it is called when things are dropped: who has to tell others does so later.
    fn settle(&self, lease: Lease, used_tokens: u64, now: Instant);

    /// What is done from now on while the store that nodes share cannot be asked. Nothing, where there is none.
    fn set_on_outage(&self, _choice: OnOutage) {}
}
