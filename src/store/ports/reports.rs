//! Usage in sums, as pages and the API show it: read out of the ledger within bounds of time and rows, and never in its way.

use super::database::{Access, StoreError};
use super::ledger::Filter;
use crate::domain::Money;
use async_trait::async_trait;

/// What usage is told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// The organisation.
    Org,
    /// The project.
    Project,
    /// The gateway's key.
    Key,
    /// The end user, as clients name them.
    User,
    /// The model that served, or was tried last.
    Model,
    /// The provider that served, or was tried last.
    Provider,
    /// The session, or the trace where there is no session.
    Session,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Model, Self::Provider, Self::Key, Self::Project, Self::User, Self::Session, Self::Org];

    /// Its name in addresses and in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Org => "org",
            Self::Project => "project",
            Self::Key => "key",
            Self::User => "user",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Session => "session",
        }
    }

    /// The dimension of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dimension| dimension.name() == name)
    }
}

/// Which usage is asked for, and how it is told apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsageQuery {
    /// Of which requests.
    pub filter: Filter,
    /// The length of the spans of time that it is told apart by, in milliseconds; `None` for one sum over all time.
    pub span_ms: Option<u64>,
    /// What else it is told apart by.
    pub by: Option<Dimension>,
    /// Which ids of it are told apart; what has another one is summed up in rows without any. `None`: all are.
    pub only: Option<Vec<String>>,
    /// So many rows at most, of the spans the earliest, of the rest those with most requests.
    pub most: u32,
}

/// What some requests have in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsageRow {
    /// When their span of time begins, in Unix milliseconds.
    pub span_unix_ms: Option<u64>,
    /// The id that they share; empty for those without any.
    pub id: Option<String>,
    /// Its name for people, where the ledger has another one than the id.
    pub name: Option<String>,
    /// Their sums.
    pub totals: Totals,
}

/// Sums over requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// How many there were.
    pub requests: u64,
    /// How many of them came out otherwise than complete and without an error.
    pub errors: u64,
    /// How many were answered by the cache.
    pub cache_hits: u64,
    /// Tokens of input, those of prompt caches included.
    pub prompt_tokens: u64,
    /// Of them: read from a provider's prompt cache.
    pub cached_tokens: u64,
    /// Of them: written to one.
    pub cache_write_tokens: u64,
    /// Tokens of output, reasoning included.
    pub completion_tokens: u64,
    /// Of them: reasoning.
    pub reasoning_tokens: u64,
    /// What is booked for them, to the pico-dollar.
    pub cost: Money,
    /// How many have no known cost.
    pub unpriced: u64,
    /// The latency that so many percent of them did not exceed, in microseconds.
    pub latency: Percentiles,
    /// The average time to the first output, in microseconds, of those that had one.
    pub ttft_us: Option<u64>,
}

/// The nearest ranks of some durations, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// Half of them took this long at most.
    pub p50_us: u64,
    /// 95 of a hundred did.
    pub p95_us: u64,
    /// 99 of a hundred did.
    pub p99_us: u64,
}

/// Requests that belong together by their session, or by their trace where they name no session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session {
    /// The session's id, or the trace's.
    pub id: String,
    /// Its organisation.
    pub org: String,
    /// When the first of the requests arrived, in Unix milliseconds.
    pub first_unix_ms: u64,
    /// When the last of them did.
    pub last_unix_ms: u64,
    /// How many models served.
    pub models: u64,
    /// Their sums.
    pub totals: Totals,
}

/// A place in the list of sessions: behind this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCursor {
    /// [`Session::last_unix_ms`].
    pub last_unix_ms: u64,
    /// [`Session::id`].
    pub id: String,
}

/// Reads the ledger in sums. Whoever takes too long gets [`StoreError::Unavailable`] and has to ask for less.
#[async_trait]
pub trait Reports: Send + Sync {
    /// Usage in sight, by span of time first.
    ///
    /// # Errors
    /// The database's.
    async fn usage(&self, access: &Access, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError>;

    /// Sessions in sight, the one with the latest request first: those behind a place in the list, at most so many.
    ///
    /// # Errors
    /// The database's.
    async fn sessions(
        &self,
        access: &Access,
        filter: &Filter,
        behind: Option<&SessionCursor>,
        most: u32,
    ) -> Result<Vec<Session>, StoreError>;
}
