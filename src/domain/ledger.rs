//! What the ledger keeps of a finished request: one row, from which it can be billed, found and explained for as long as rows are kept.
//!
//! A row borrows from the request while it is written and owns what it holds when it is read again. The spool has it in a compact form
//! (fields by their place: a change of this type is a new version of the spool's format), databases and the console have it as JSON.

use super::{AttemptRecord, CacheUse, Decision, Ended, Money, RequestId, Usage};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// A day in UTC, counted from the Unix epoch.
pub fn day_of(unix_ms: u64) -> u32 {
    u32::try_from(unix_ms / DAY_MS).unwrap_or(u32::MAX)
}

/// A finished request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerRow<'a> {
    /// The request. No two rows of the ledger have the same.
    pub id: RequestId,
    /// 0 for what was written before the client had the last byte; more for what was learnt afterwards. Of several the highest counts.
    pub revision: u8,
    /// When it arrived, in milliseconds since the Unix epoch.
    pub arrived_unix_ms: u64,
    /// The organisation of its key.
    pub org: Cow<'a, str>,
    /// The project of its key.
    pub project: Cow<'a, str>,
    /// Its key: the id in the database, or `cfg_` and the beginning of a hash for one of the configuration; `none` without any.
    pub key_id: Cow<'a, str>,
    /// The key's name.
    pub key_name: Cow<'a, str>,
    /// Who answers for the key.
    pub owner: Option<Cow<'a, str>>,
    /// What the key is used for.
    pub workflow: Option<Cow<'a, str>>,
    /// The end user, as the client names them.
    pub user: Option<Cow<'a, str>>,
    /// The trace that it belongs to: `extra.trace_id`, `x-trace-id` or the one of `traceparent`.
    pub trace_id: Option<Cow<'a, str>>,
    /// `extra.session_id`.
    pub session_id: Option<Cow<'a, str>>,
    /// The client's format.
    pub dialect: Cow<'a, str>,
    /// HTTP method and path.
    pub route: Cow<'a, str>,
    /// The model that the client asked for.
    pub requested_model: Option<Cow<'a, str>>,
    /// The provider that served, or was tried last.
    pub provider: Option<Cow<'a, str>>,
    /// The model that served, or was tried last.
    pub model: Option<Cow<'a, str>>,
    /// The strategy that ordered the plan.
    pub strategy: Cow<'a, str>,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// The status that the client saw; 0 when it left before any.
    pub status: u16,
    /// How it ended.
    pub ended: Ended,
    /// The error's code when it ended in one.
    pub error_code: Option<Cow<'a, str>>,
    /// What was tried or passed over, in order.
    pub attempts: Vec<LedgerAttempt<'a>>,
    /// Whether another target than the first one served.
    pub fallback: bool,
    /// Parameters that were not honoured.
    pub dropped: Cow<'a, [String]>,
    /// What the provider counted.
    pub usage: Option<Usage>,
    /// What it costs, in pico-dollars; `None` when that is not known.
    pub cost_picos: Option<i64>,
    /// What answers cost that were asked for and not taken, by estimate, in pico-dollars.
    pub hedge_cost_picos: Option<i64>,
    /// What the cache of answers did.
    pub cache: CacheUse,
    /// How near the nearest question was that means the same, in millionths of a cosine.
    pub similarity_ppm: Option<i32>,
    /// From the request to the first output at the client, in microseconds.
    pub ttft_us: Option<u64>,
    /// From the request to the last byte, in microseconds.
    pub latency_us: u64,
    /// The part of it in which neither a provider nor the next try was being waited for.
    pub overhead_us: u64,
    /// How long it waited for a place at a provider, in microseconds.
    pub queued_us: Option<u64>,
    /// Bytes of its body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// The plan with its inputs, when there was one.
    pub decision: Option<Cow<'a, Decision>>,
    // Rows that were written before these three were known have none of them; they stay the last, as the spool's second version has them.
    /// What the comparing of questions costs, in pico-dollars.
    #[serde(default)]
    pub embedding_cost_picos: Option<i64>,
    /// Whether the usage, or a part of it, is an estimate.
    #[serde(default)]
    pub estimated: bool,
    /// Whether a key of the client's own has paid for it.
    #[serde(default)]
    pub byok: bool,
}

/// One try at one target, or its being passed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerAttempt<'a> {
    /// The provider's id.
    pub provider: Cow<'a, str>,
    /// The model as the provider knows it.
    pub model: Cow<'a, str>,
    /// The name of the key.
    pub key_name: Cow<'a, str>,
    /// From the client's request to its start, in microseconds.
    pub started_us: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// The provider's status, when a head arrived.
    pub status: Option<u16>,
    /// The fault's name; `None` for the attempt that served.
    pub reason: Option<Cow<'a, str>>,
    /// The fault's message, redacted.
    pub message: Option<Cow<'a, str>>,
    /// What triage made of it: a verdict's name, `ok`, or `skipped`.
    pub verdict: Cow<'a, str>,
}

impl<'a> From<&'a AttemptRecord> for LedgerAttempt<'a> {
    fn from(it: &'a AttemptRecord) -> Self {
        Self {
            provider: Cow::Borrowed(&it.provider),
            model: Cow::Borrowed(&it.model),
            key_name: Cow::Borrowed(&it.key_name),
            started_us: micros(it.started),
            took_us: micros(it.took),
            status: it.status,
            reason: it.reason.map(Cow::Borrowed),
            message: it.message.as_deref().map(Cow::Borrowed),
            verdict: it.verdict.into(),
        }
    }
}

impl LedgerRow<'_> {
    /// The day on which it arrived.
    pub fn day(&self) -> u32 {
        day_of(self.arrived_unix_ms)
    }

    /// What is booked for it: the answer, answers that were asked for and not taken, and the comparing of questions.
    pub fn charge_picos(&self) -> i128 {
        let parts = [self.cost_picos, self.hedge_cost_picos, self.embedding_cost_picos];
        parts.into_iter().flatten().map(i128::from).sum()
    }

    /// What it costs.
    pub fn cost(&self) -> Option<Money> {
        self.cost_picos.map(|picos| Money::from_picos(i128::from(picos)))
    }
}

/// A time as a row has it.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// An amount as a row has it: beyond nine million dollars it stays at that.
pub fn picos(amount: Money) -> i64 {
    i64::try_from(amount.picos()).unwrap_or(if amount.picos() < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_begin_at_midnight_in_utc() {
        assert_eq!((day_of(0), day_of(DAY_MS - 1), day_of(DAY_MS)), (0, 0, 1));
        assert_eq!(day_of(u64::MAX), u32::MAX);
    }

    #[test]
    fn amounts_keep_every_pico_dollar_that_fits() {
        assert_eq!(picos(Money::from_picos(-7)), -7);
        assert_eq!(picos(Money::from_picos(i128::MAX)), i64::MAX);
        assert_eq!(picos(Money::from_picos(i128::MIN)), i64::MIN);
    }
}
