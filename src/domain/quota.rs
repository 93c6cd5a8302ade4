//! What a key may spend: as its operator says, and as its provider tells with each answer.

use std::time::Duration;

/// The limits of a key that its operator has set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyQuota {
    /// Requests a minute.
    pub rpm: Option<u32>,
    /// Tokens a minute, input and output together.
    pub tpm: Option<u64>,
}

/// One limit as a provider tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How much there is in all, where the provider says so.
    pub limit: Option<u64>,
    /// How much is left.
    pub remaining: u64,
    /// When all of it is there again, where the provider says so.
    pub reset: Option<Duration>,
}

/// What the head of an answer tells about the limits of the key it was asked with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Of requests.
    pub requests: Option<RateLimit>,
    /// Of tokens: of several limits the one that is nearest to its end.
    pub tokens: Option<RateLimit>,
}
