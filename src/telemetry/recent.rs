//! The last requests with the plans that they had, for `orbyt explain`: a bounded ring in memory.
//!
//! What is kept is written down into one buffer, one request behind the other, and read when somebody asks. Kept as they are, ten thousand
//! records are a hundred thousand small pieces of memory, of which every request takes some that no processor's cache has.

use super::Redactor;
use crate::domain::record::SKIPPED;
use crate::domain::{Decision, Ended, LedgerAttempt, LedgerRow, RequestId, RequestRecord};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// How many requests are kept.
pub const KEPT: usize = 10_000;
/// How many bytes are kept at most, of all of them and of one.
const MOST_BYTES: usize = 16 << 20;
const LARGEST: usize = 64 << 10;
/// Most of them are smaller than this.
const USUAL: usize = 512;

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

impl From<LedgerAttempt<'_>> for Attempt {
    fn from(it: LedgerAttempt<'_>) -> Self {
        Self {
            provider: it.provider.as_ref().into(),
            model: it.model.as_ref().into(),
            key_name: it.key_name.as_ref().into(),
            started_us: it.started_us,
            took_us: it.took_us,
            status: it.status,
            reason: it.reason.map(Cow::into_owned),
            verdict: it.verdict.into_owned(),
        }
    }
}

impl Explanation {
    /// The explanation of a request of the ledger; `None` when it had no plan.
    pub fn of(row: LedgerRow<'static>) -> Option<Self> {
        Some(Self {
            request_id: row.id.to_string(),
            arrived_unix_ms: row.arrived_unix_ms,
            requested_model: row.requested_model.as_deref().map(Arc::from),
            status: row.status,
            ended: row.ended.name().to_owned(),
            attempts: row.attempts.into_iter().map(Attempt::from).collect(),
            decision: row.decision?.into_owned(),
        })
    }
}

/// What is kept of a request.
#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    id: RequestId,
    arrived_unix_ms: u64,
    requested_model: Option<Cow<'a, str>>,
    status: u16,
    ended: Ended,
    attempts: Vec<LedgerAttempt<'a>>,
    decision: Cow<'a, Decision>,
}

impl<'a> Entry<'a> {
    /// What is to be kept of this one, if it had a plan.
    fn of(record: &'a RequestRecord) -> Option<Self> {
        Some(Self {
            id: record.id,
            arrived_unix_ms: record.arrived_unix_ms,
            requested_model: record.requested_model.as_deref().map(Cow::Borrowed),
            status: record.status,
            ended: record.ended,
            // What a provider said about a fault may be long, and is not told.
            attempts: record.attempts.iter().map(|it| LedgerAttempt { message: None, ..it.into() }).collect(),
            decision: Cow::Borrowed(record.decision.as_deref()?),
        })
    }
}

/// The ring. Clones share it.
#[derive(Clone, Default)]
pub struct Recent(Arc<Mutex<Ring>>);

/// Entries as bytes, the oldest first, and how long each is. What a request is called may be long: it is bounded in bytes too.
#[derive(Default)]
struct Ring {
    bytes: VecDeque<u8>,
    lengths: VecDeque<usize>,
}

impl Ring {
    fn keep(&mut self, entry: &[u8]) {
        if entry.len() > LARGEST {
            return;
        }
        while self.lengths.len() >= KEPT || self.bytes.len() > MOST_BYTES - entry.len() {
            let Some(oldest) = self.lengths.pop_front() else { break };
            self.bytes.drain(..oldest);
        }
        self.bytes.extend(entry);
        self.lengths.push_back(entry.len());
    }

    /// The entry that begins with these bytes.
    fn find(&self, id: &[u8]) -> Option<Vec<u8>> {
        let mut end = self.bytes.len();
        self.lengths.iter().rev().find_map(|length| {
            let entry = end - length..end;
            end = entry.start;
            let is_it = self.bytes.range(entry.clone()).take(id.len()).eq(id);
            is_it.then(|| self.bytes.range(entry).copied().collect())
        })
    }
}

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recent({} requests)", self.0.lock().lengths.len())
    }
}

impl Recent {
    /// Keeps what explains a finished request, if it had a plan.
    pub fn keep(&self, record: &RequestRecord) {
        let entry = Entry::of(record).and_then(|entry| postcard::to_extend(&entry, Vec::with_capacity(USUAL)).ok());
        if let Some(entry) = entry {
            self.0.lock().keep(&entry);
        }
    }

    /// Why a request went where it went; `None` when it is not among the last ones. Names that clients made up pass the redactor.
    pub fn explain(&self, id: RequestId, redactor: &Redactor) -> Option<Explanation> {
        // What an entry begins with. Read when the lock is free again: every request that ends takes it.
        let begin = postcard::to_stdvec(&id).ok()?;
        let bytes = self.0.lock().find(&begin)?;
        let entry: Entry<'static> = postcard::from_bytes(&bytes).ok()?;
        let shown = |name: &str| -> Arc<str> { redactor.redact(name).as_ref().into() };
        let mut decision = entry.decision.into_owned();
        for candidate in &mut decision.candidates {
            candidate.model = shown(&candidate.model);
        }
        Some(Explanation {
            request_id: id.to_string(),
            arrived_unix_ms: entry.arrived_unix_ms,
            requested_model: entry.requested_model.as_deref().map(shown),
            status: entry.status,
            ended: entry.ended.name().to_owned(),
            attempts: entry
                .attempts
                .into_iter()
                .map(|attempt| Attempt { model: shown(&attempt.model), ..attempt.into() })
                .collect(),
            decision,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AttemptRecord, Secret};
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
            recent.keep(&record(number, "m"));
        }
        let found = |number| recent.explain(RequestId::of(0, number), &redactor);
        assert_eq!(found(0), None, "the oldest has made room");
        let last = found(kept).unwrap();
        assert_eq!((last.arrived_unix_ms, last.ended.as_str(), last.attempts[0].took_us), (kept, "complete", 3000));
        assert!(found(1).is_some());
        let mut without = record(kept + 1, "m");
        without.decision = None;
        recent.keep(&without);
        assert_eq!(found(kept + 1), None, "what had no plan has nothing to explain");
    }

    #[test]
    fn long_names_take_the_place_of_others_and_not_more_memory() {
        let (recent, redactor) = (Recent::default(), Redactor::default());
        let found = |number| recent.explain(RequestId::of(0, number), &redactor).is_some();
        recent.keep(&record(0, &"m".repeat(LARGEST)));
        assert!(!found(0), "larger than any may be");
        let name = "m".repeat(LARGEST / 4);
        (1..=1000).for_each(|number| recent.keep(&record(number, &name)));
        let ring = recent.0.lock();
        assert!(ring.bytes.len() <= MOST_BYTES && ring.lengths.len() > 400, "{} bytes", ring.bytes.len());
        assert_eq!(ring.lengths.iter().sum::<usize>(), ring.bytes.len());
        drop(ring);
        assert!(found(1000) && !found(1));
    }

    #[test]
    fn a_key_in_the_place_of_a_model_is_not_shown() {
        let (recent, redactor) = (Recent::default(), Redactor::default());
        redactor.register([&Secret::new("sk-canary-0123456789")]);
        recent.keep(&record(1, "p/sk-canary-0123456789"));
        let shown = recent.explain(RequestId::of(0, 1), &redactor).unwrap();
        assert!(!serde_json::to_string(&shown).unwrap().contains("canary"), "{shown:?}");
    }
}
