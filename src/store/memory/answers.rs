//! The cache of answers of one node: bounded in number and in bytes, the least recently used ones go first.
//!
//! One list under one lock, held for a look-up or an exchange of an entry and never while memory is given back. A cache with a background
//! of its own (moka) cost about twice as much for each answer that nobody asks for again, which is most of them.

use crate::store::ports::answers::{AnswerKey, Answers, AnswersHeld, StoredAnswer};
use ahash::RandomState;
use async_trait::async_trait;
use lru::LruCache;
use parking_lot::Mutex;
use std::sync::Arc;

/// So many answers whose time is over go at most with each new one, so that nobody waits for long.
const SWEPT: usize = 8;

/// The answers.
pub struct MemoryAnswers {
    kept: Mutex<Kept>,
    max_entries: usize,
    max_bytes: u64,
}

struct Kept {
    answers: LruCache<AnswerKey, Arc<StoredAnswer>, RandomState>,
    bytes: u64,
}

impl Kept {
    fn empty() -> Self {
        Self { answers: LruCache::unbounded_with_hasher(RandomState::new()), bytes: 0 }
    }

    fn take(&mut self, key: &AnswerKey) -> Option<Arc<StoredAnswer>> {
        let answer = self.answers.pop(key)?;
        self.bytes -= answer.size() as u64;
        Some(answer)
    }

    fn take_oldest(&mut self) -> Option<Arc<StoredAnswer>> {
        let (_, answer) = self.answers.pop_lru()?;
        self.bytes -= answer.size() as u64;
        Some(answer)
    }

    /// Whether the time of the least recently used one is over.
    fn is_stale(&self, now_unix_ms: u64) -> bool {
        self.answers.peek_lru().is_some_and(|(_, answer)| answer.left(now_unix_ms).is_zero())
    }
}

impl MemoryAnswers {
    /// An empty one with these bounds.
    pub fn new(max_entries: u32, max_bytes: u64) -> Self {
        let max_entries = usize::try_from(max_entries.max(1)).unwrap_or(usize::MAX);
        Self { kept: Mutex::new(Kept::empty()), max_entries, max_bytes }
    }
}

#[async_trait]
impl Answers for MemoryAnswers {
    async fn get(&self, key: &AnswerKey, now_unix_ms: u64) -> Option<Arc<StoredAnswer>> {
        let mut kept = self.kept.lock();
        let answer = kept.answers.get(key)?.clone();
        if !answer.left(now_unix_ms).is_zero() {
            return Some(answer);
        }
        kept.take(key);
        None
    }

    async fn put(&self, key: AnswerKey, answer: Arc<StoredAnswer>) {
        let (now, size) = (answer.stored_unix_ms, answer.size() as u64);
        let mut kept = self.kept.lock();
        // What goes is freed after the lock.
        let mut gone = Vec::new();
        gone.extend(kept.take(&key));
        while gone.len() < SWEPT && kept.is_stale(now) {
            gone.extend(kept.take_oldest());
        }
        if size <= self.max_bytes {
            while kept.answers.len() >= self.max_entries || kept.bytes > self.max_bytes - size {
                gone.extend(kept.take_oldest());
            }
            kept.bytes += size;
            kept.answers.put(key, answer);
        }
        drop(kept);
    }

    async fn clear(&self) -> bool {
        let all = std::mem::replace(&mut *self.kept.lock(), Kept::empty());
        drop(all);
        true
    }

    fn held(&self) -> AnswersHeld {
        let kept = self.kept.lock();
        AnswersHeld { entries: kept.answers.len() as u64, bytes: kept.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::FutureExt;
    use proptest::prelude::*;
    use std::time::Duration;

    const TTL: Duration = Duration::from_secs(300);

    fn answer(bytes: usize, stored_unix_ms: u64) -> Arc<StoredAnswer> {
        Arc::new(StoredAnswer {
            provider: "p".into(),
            model: "m".into(),
            dropped: Vec::new(),
            body: Bytes::from(vec![b'x'; bytes]),
            cuts: Vec::new(),
            stored_unix_ms,
            ttl: TTL,
        })
    }

    fn key(number: u32) -> AnswerKey {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        key
    }

    fn get(answers: &MemoryAnswers, number: u32, now: u64) -> Option<Arc<StoredAnswer>> {
        answers.get(&key(number), now).now_or_never().unwrap()
    }

    fn put(answers: &MemoryAnswers, number: u32, answer: Arc<StoredAnswer>) {
        answers.put(key(number), answer).now_or_never().unwrap();
    }

    #[test]
    fn an_answer_is_served_until_its_time_is_over() {
        let answers = MemoryAnswers::new(10, 1 << 20);
        put(&answers, 1, answer(5, 1_000));
        assert_eq!(get(&answers, 1, 1_000), Some(answer(5, 1_000)));
        assert!(get(&answers, 1, 1_000 + 299_999).is_some());
        assert!(get(&answers, 1, 1_000 + 300_000).is_none());
        assert!(get(&answers, 2, 1_000).is_none());
        // A clock that was set back makes nothing older than it is.
        assert_eq!(answer(5, 1_000).age(0), Duration::ZERO);
    }

    #[test]
    fn answers_whose_time_is_over_go_as_others_come() {
        let answers = MemoryAnswers::new(100, 1 << 20);
        (0..20).for_each(|number| put(&answers, number, answer(5, 0)));
        assert_eq!(get(&answers, 0, TTL.as_millis() as u64), None);
        assert_eq!(answers.held().entries, 19);
        let mut held = Vec::new();
        for number in 20..24 {
            put(&answers, number, answer(5, 300_000));
            held.push(answers.held().entries);
        }
        assert_eq!(held, [12, 5, 3, 4]);
        assert_eq!(answers.held().bytes, 4 * answer(5, 0).size() as u64);
        put(&answers, 30, Arc::new(StoredAnswer { ttl: Duration::MAX, ..(*answer(5, 0)).clone() }));
        assert!(get(&answers, 30, u64::MAX - 1).is_some());
    }

    #[test]
    fn the_new_answer_takes_the_place_of_the_old_one() {
        let answers = MemoryAnswers::new(10, 1 << 20);
        put(&answers, 1, answer(5, 0));
        put(&answers, 1, answer(9, 0));
        assert_eq!(get(&answers, 1, 0), Some(answer(9, 0)));
        assert_eq!(answers.held(), AnswersHeld { entries: 1, bytes: answer(9, 0).size() as u64 });
    }

    #[test]
    fn the_least_recently_used_goes_first_and_an_answer_larger_than_all_is_not_kept() {
        let answers = MemoryAnswers::new(3, 1 << 20);
        (1..=3).for_each(|number| put(&answers, number, answer(5, 0)));
        assert!(get(&answers, 1, 0).is_some());
        put(&answers, 4, answer(5, 0));
        let kept = (1..=4).filter(|number| get(&answers, *number, 0).is_some()).collect::<Vec<_>>();
        assert_eq!(kept, [1, 3, 4]);
        put(&answers, 5, answer(2 << 20, 0));
        assert!(get(&answers, 5, 0).is_none());
        assert!(answers.held().bytes < 1 << 20);
    }

    #[test]
    fn pieces_are_what_was_put_together() {
        let answer = StoredAnswer { body: Bytes::from_static(b"abcde"), cuts: vec![1, 3], ..(*answer(0, 0)).clone() };
        assert_eq!(answer.pieces().collect::<Vec<_>>(), ["a", "bc", "de"]);
    }

    #[test]
    fn all_are_forgotten() {
        let answers = MemoryAnswers::new(10, 1 << 20);
        put(&answers, 1, answer(5, 0));
        assert_eq!(answers.clear().now_or_never(), Some(true));
        assert_eq!((get(&answers, 1, 0), answers.held()), (None, AnswersHeld::default()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn neither_bound_is_ever_passed(
            max_entries in prop_oneof![1u32..20, 300..1000u32],
            max_bytes in 1_000u64..50_000,
            sizes in prop::collection::vec((0u32..40, 0usize..20_000), 1..120),
        ) {
            let answers = MemoryAnswers::new(max_entries, max_bytes);
            for (number, bytes) in sizes {
                put(&answers, number, answer(bytes, 0));
                let held = answers.held();
                prop_assert!(held.entries <= u64::from(max_entries) && held.bytes <= max_bytes, "{held:?}");
                let seen: usize = (0..40).filter_map(|n| get(&answers, n, 0)).map(|answer| answer.size()).sum();
                prop_assert!(seen as u64 <= max_bytes && seen as u64 == held.bytes, "{seen} {held:?}");
            }
        }
    }
}
