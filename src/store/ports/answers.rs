//! The cache of whole answers.

use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// What an answer is found by: a digest over who asks, what is asked and which models may answer.
pub type AnswerKey = [u8; 32];

/// A complete answer as it was delivered, without its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The provider that gave it.
    pub provider: Arc<str>,
    /// The model that gave it, as its provider knows it.
    pub model: Arc<str>,
    /// Parameters that the provider could not honour.
    pub dropped: Vec<String>,
    /// The body.
    pub body: Bytes,
    /// Where one piece of it ended and the next began, in bytes from its beginning: none where it came at once.
    pub cuts: Vec<usize>,
    /// When it was complete, in milliseconds since the Unix epoch.
    pub stored_unix_ms: u64,
    /// How long it may be served from then on.
    pub ttl: Duration,
}

impl StoredAnswer {
    /// The pieces in which it was delivered.
    pub fn pieces(&self) -> impl Iterator<Item = Bytes> {
        let cuts = self.cuts.iter().copied();
        let (starts, ends) = (std::iter::once(0).chain(cuts.clone()), cuts.chain([self.body.len()]));
        starts.zip(ends).map(|(start, end)| self.body.slice(start..end))
    }

    /// How old it is.
    pub fn age(&self, now_unix_ms: u64) -> Duration {
        Duration::from_millis(now_unix_ms.saturating_sub(self.stored_unix_ms))
    }

    /// For how long it may still be served; zero when that is over.
    pub fn left(&self, now_unix_ms: u64) -> Duration {
        self.ttl.saturating_sub(self.age(now_unix_ms))
    }

    /// About how much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        let texts: usize = self.dropped.iter().map(|text| text.len() + size_of::<String>()).sum();
        let names = self.provider.len() + self.model.len();
        OVERHEAD + self.body.len() + self.cuts.len() * size_of::<usize>() + texts + names
    }
}

/// What an entry takes beside its answer: the key, counters, lists.
const OVERHEAD: usize = 512;

/// What the cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswersHeld {
    /// Answers.
    pub entries: u64,
    /// What they take, in bytes.
    pub bytes: u64,
}

/// A bounded store of answers. A store that is down has none and takes none: nothing here fails a request.
#[async_trait]
pub trait Answers: Send + Sync {
    /// The answer of a key, unless its time is over.
    async fn get(&self, key: &AnswerKey, now_unix_ms: u64) -> Option<Arc<StoredAnswer>>;

    /// Keeps an answer for its `ttl`, in the place of one that is there; others may have to go for it. Its client waits for that with
    /// its last byte.
    async fn put(&self, key: AnswerKey, answer: Arc<StoredAnswer>);

    /// Forgets all of them; says whether that could be done.
    async fn clear(&self) -> bool;

    /// How much is held.
    fn held(&self) -> AnswersHeld;
}
