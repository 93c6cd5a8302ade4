//! The words for limits: whom one is for, what it counts, how much of it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Whom a limit is for. Each of them has buckets of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// A gateway key.
    Key,
    /// An end user of a gateway key: the request's `user` member.
    User,
    /// A model, by the name that was asked for.
    Model,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Key, Self::User, Self::Model];

    /// Its name in the configuration, in metrics and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::User => "user",
            Self::Model => "model",
        }
    }

    /// The scope of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// The time in which a bucket fills up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// One second.
    Second,
    /// One minute.
    Minute,
    /// One hour.
    Hour,
    /// One day.
    Day,
}

impl Period {
    /// All of them, the shortest first.
    pub const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::Hour, Self::Day];

    /// Its name, as in `requests_per_minute`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// How long it is.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        })
    }
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Requests in a period.
    Requests(Period),
    /// Tokens of input and output in a period.
    Tokens(Period),
    /// Requests in flight at once.
    Concurrency,
}

impl Measure {
    /// What is counted, without the period: a label of metrics.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Requests(_) => "requests",
            Self::Tokens(_) => "tokens",
            Self::Concurrency => "concurrency",
        }
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let by = |of: fn(Period) -> Self| Period::ALL.into_iter().map(of);
        by(Self::Requests).chain(by(Self::Tokens)).chain([Self::Concurrency])
    }

    /// What a limit on it is called where it is written down: `requests_per_minute`.
    pub fn key(self) -> String {
        match self {
            Self::Requests(period) | Self::Tokens(period) => format!("{}_per_{}", self.kind(), period.name()),
            Self::Concurrency => self.kind().to_owned(),
        }
    }

    /// What a limit of that name counts.
    pub fn from_key(key: &str) -> Option<Self> {
        Self::all().find(|measure| measure.key() == key)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests(period) | Self::Tokens(period) => write!(f, "{} per {}", self.kind(), period.name()),
            Self::Concurrency => f.write_str("concurrent requests"),
        }
    }
}

/// How much of something is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What is counted.
    pub measure: Measure,
    /// How much of it, at least 1.
    pub amount: u64,
}

/// What becomes of requests with limits while the store that nodes share cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOutage {
    /// Each node goes on with its share: the limit divided by the last known number of nodes.
    #[default]
    Local,
    /// None passes.
    Deny,
}

impl OnOutage {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Local, Self::Deny];

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Deny => "deny",
        }
    }

    /// The choice of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.name() == name)
    }
}
