//! The last requests with the plans that they had, for `orbyt explain`: a bounded ring in memory.

use super::Redactor;
use crate::domain::record::SKIPPED;
use crate::domain::{AttemptRecord, Decision, LedgerAttempt, LedgerRow, RequestId, RequestRecord};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// How many requests are kept.
pub const KEPT: usize = 10_000;

/// Why a request went where it went. Serialised, it is the answer of `GET /api/v1/requests/{id}/explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The request.
    pub request_id: String,
    /// When it arrived, in milliseconds since the Unix epoch.
    pub arrived_unix_ms: u64,
    /// The model that the client asked for.
    pub requested_model: Option<Arc<str>>,
    /// The status that the client saw; 0 when it left before any.
    pub status: u16,
    /// How it ended: `complete`, `error`, `broken`, `client_gone` or `shutdown`.
    pub ended: String,
    /// What was tried or passed over, in order.
    pub attempts: Vec<Attempt>,
    /// The plan with its inputs.
    pub decision: Decision,
}

/// One try at one target, or its being passed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The provider's id.
    pub provider: Arc<str>,
    /// The model as the provider knows it.
    pub model: Arc<str>,
    /// The name of the key.
    pub key_name: Arc<str>,
    /// From the client's request to its start, in microseconds.
    pub started_us: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// The provider's HTTP status.
    pub status: Option<u16>,
    /// The fault's name; `None` for the attempt that served.
    pub reason: Option<String>,
    /// What triage made of it: a verdict's name, `ok`, or `skipped`.
    pub verdict: String,
}

impl Attempt {
    /// Whether the target was passed over without asking it.
    pub fn is_skipped(&self) -> bool {
        self.verdict == SKIPPED
    }
}

impl Explanation {
    /// The explanation of a request of the ledger; `None` when it had no plan.
    pub fn of(row: LedgerRow<'static>) -> Option<Self> {
        let owned = |text: Cow<'static, str>| -> Arc<str> { text.as_ref().into() };
        let attempt = |it: LedgerAttempt<'static>| Attempt {
            provider: owned(it.provider),
            model: owned(it.model),
            key_name: owned(it.key_name),
            started_us: it.started_us,
            took_us: it.took_us,
            status: it.status,
            reason: it.reason.map(Cow::into_owned),
            verdict: it.verdict.into_owned(),
        };
        Some(Self {
            request_id: row.id.to_string(),
            arrived_unix_ms: row.arrived_unix_ms,
            requested_model: row.requested_model.map(owned),
            status: row.status,
            ended: row.ended.name().to_owned(),
            attempts: row.attempts.into_iter().map(attempt).collect(),
            decision: row.decision?.into_owned(),
        })
    }
}

/// What is kept of a request: moved out of its record, so that keeping costs no copy.
struct Entry {
    id: RequestId,
    arrived_unix_ms: u64,
    requested_model: Option<Arc<str>>,
    status: u16,
    ended: &'static str,
    attempts: Vec<AttemptRecord>,
    decision: Box<Decision>,
}

/// The ring. Clones share it.
#[derive(Clone, Default)]
pub struct Recent(Arc<Mutex<VecDeque<Entry>>>);

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recent({} requests)", self.0.lock().len())
    }
}

impl Recent {
    /// Keeps what explains a finished request, if it had a plan; it is taken out of the record, which nobody needs any more.
    pub fn keep(&self, record: &mut RequestRecord) {
        let Some(decision) = record.decision.take() else { return };
        let entry = Entry {
            id: record.id,
            arrived_unix_ms: record.arrived_unix_ms,
            requested_model: record.requested_model.take(),
            status: record.status,
            ended: record.ended.name(),
            attempts: std::mem::take(&mut record.attempts),
            decision,
        };
        let mut ring = self.0.lock();
        let oldest = if ring.len() >= KEPT { ring.pop_front() } else { None };
        ring.push_back(entry);
        // What falls out is freed after the lock.
        drop(ring);
        drop(oldest);
    }

    /// Why a request went where it went; `None` when it is not among the last ones. Names that clients made up pass the redactor.
    pub fn explain(&self, id: RequestId, redactor: &Redactor) -> Option<Explanation> {
        let shown = |name: &Arc<str>| -> Arc<str> { redactor.redact(name).as_ref().into() };
        let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let ring = self.0.lock();
        let entry = ring.iter().rev().find(|entry| entry.id == id)?;
        let mut decision = Decision::clone(&entry.decision);
        for candidate in &mut decision.candidates {
            candidate.model = shown(&candidate.model);
        }
        let attempt = |attempt: &AttemptRecord| Attempt {
            provider: attempt.provider.clone(),
            model: shown(&attempt.model),
            key_name: attempt.key_name.clone(),
            started_us: micros(attempt.started),
            took_us: micros(attempt.took),
            status: attempt.status,
            reason: attempt.reason.map(str::to_owned),
            verdict: attempt.verdict.to_owned(),
        };
        Some(Explanation {
            request_id: id.to_string(),
            arrived_unix_ms: entry.arrived_unix_ms,
            requested_model: entry.requested_model.as_ref().map(shown),
            status: entry.status,
            ended: entry.ended.to_owned(),
            attempts: entry.attempts.iter().map(attempt).collect(),
            decision,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Ended, Secret};
    use std::time::Duration;

    fn record(number: u64, model: &str) -> RequestRecord {
        let attempt = AttemptRecord {
            provider: "p".into(),
            model: model.into(),
            key_name: "p_01".into(),
            started: Duration::ZERO,
            took: Duration::from_millis(3),
            status: Some(200),
            reason: None,
            message: None,
            verdict: "ok",
        };
        RequestRecord {
            requested_model: Some(model.into()),
            strategy: "order",
            decision: Some(Box::default()),
            status: 200,
            attempts: vec![attempt],
            ended: Ended::Complete,
            ..RequestRecord::new(RequestId::of(0, number), number)
        }
    }

    #[test]
    fn the_last_ones_are_kept_and_no_more() {
        let (recent, redactor) = (Recent::default(), Redactor::default());
        let kept = u64::try_from(KEPT).unwrap();
        for number in 0..=kept {
            recent.keep(&mut record(number, "m"));
        }
        let found = |number| recent.explain(RequestId::of(0, number), &redactor);
        assert_eq!(found(0), None, "the oldest has made room");
        let last = found(kept).unwrap();
        assert_eq!((last.arrived_unix_ms, last.ended.as_str(), last.attempts[0].took_us), (kept, "complete", 3000));
        assert!(found(1).is_some());
        let mut without = record(kept + 1, "m");
        without.decision = None;
        recent.keep(&mut without);
        assert_eq!(found(kept + 1), None, "what had no plan has nothing to explain");
        assert_eq!(without.attempts.len(), 1);
    }

    #[test]
    fn a_key_in_the_place_of_a_model_is_not_shown() {
        let (recent, redactor) = (Recent::default(), Redactor::default());
        redactor.register([&Secret::new("sk-canary-0123456789")]);
        recent.keep(&mut record(1, "p/sk-canary-0123456789"));
        let shown = recent.explain(RequestId::of(0, 1), &redactor).unwrap();
        assert!(!serde_json::to_string(&shown).unwrap().contains("canary"), "{shown:?}");
    }
}
