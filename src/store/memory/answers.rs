//! The cache of answers of one node: bounded in number and in bytes, the least recently used ones go first.

use crate::store::ports::answers::{AnswerKey, Answers, AnswersHeld, StoredAnswer};
use ahash::RandomState;
use async_trait::async_trait;
use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// One part in so many of the room is set aside for answers that are not weighed yet.
const ASIDE: u64 = 128;
/// Longer than this nothing is kept.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The answers.
///
/// Both bounds are held by one: an entry weighs its bytes, but at least its share of all bytes (`max_bytes / max_entries`), and the
/// weights together stay below `max_bytes`. With many small answers the number is what binds, with large ones the bytes.
///
/// What is put in is weighed against the bounds some time later, many answers in one go, because that costs as much for one as for many.
/// Meanwhile it takes room that is set aside for it.
pub struct MemoryAnswers {
    cache: Cache<AnswerKey, Arc<StoredAnswer>, RandomState>,
    bytes: Arc<AtomicU64>,
    scale: Scale,
    /// The weight of what was put in since the bounds were last looked at.
    unweighed: AtomicU64,
}

impl MemoryAnswers {
    /// An empty one with these bounds.
    pub fn new(max_entries: u32, max_bytes: u64) -> Self {
        let scale = Scale::new(max_entries, max_bytes);
        let bytes = Arc::new(AtomicU64::new(0));
        let counted = bytes.clone();
        let cache = Cache::builder()
            .max_capacity(scale.capacity - scale.aside)
            .weigher(move |_, answer: &Arc<StoredAnswer>| scale.weight(answer.size() as u64))
            // What is asked for again is asked for soon; a policy by frequency would turn new answers away from a full cache.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(ByOwnTtl)
            .eviction_listener(move |_, answer: Arc<StoredAnswer>, _| {
                counted.fetch_sub(answer.size() as u64, Relaxed);
            })
            .build_with_hasher(RandomState::new());
        Self { cache, bytes, scale, unweighed: AtomicU64::new(0) }
    }
}

#[async_trait]
impl Answers for MemoryAnswers {
    async fn get(&self, key: &AnswerKey, now_unix_ms: u64) -> Option<Arc<StoredAnswer>> {
        self.cache.get(key).filter(|answer| !answer.left(now_unix_ms).is_zero())
    }

    async fn put(&self, key: AnswerKey, answer: Arc<StoredAnswer>) {
        let bytes = answer.size() as u64;
        let weight = u64::from(self.scale.weight(bytes));
        self.bytes.fetch_add(bytes, Relaxed);
        self.cache.insert(key, answer);
        if self.unweighed.fetch_add(weight, Relaxed) + weight > self.scale.aside {
            self.unweighed.store(0, Relaxed);
            self.cache.run_pending_tasks();
        }
    }

    async fn clear(&self) -> bool {
        self.cache.invalidate_all();
        self.cache.run_pending_tasks();
        true
    }

    fn held(&self) -> AnswersHeld {
        self.cache.run_pending_tasks();
        AnswersHeld { entries: self.cache.entry_count(), bytes: self.bytes.load(Relaxed) }
    }
}

/// How bytes become weights, which have 32 bits: in units of so many bytes, with a least weight.
#[derive(Clone, Copy)]
struct Scale {
    unit: u64,
    least: u32,
    /// What all weights together may be.
    capacity: u64,
    /// How much of that is set aside for what was not weighed yet: nothing where it would not be one answer in a hundred.
    aside: u64,
}

impl Scale {
    fn new(max_entries: u32, max_bytes: u64) -> Self {
        let unit = (max_bytes >> 31) + 1;
        let (units, entries) = (max_bytes / unit, u64::from(max_entries.max(1)));
        let least = units / entries;
        // A multiple of the least weight, so that exactly so many entries of it fit.
        let capacity = if least == 0 { units } else { least * entries };
        let aside = capacity / ASIDE;
        Self {
            unit,
            least: u32::try_from(least).unwrap_or(u32::MAX),
            capacity,
            aside: if aside < least { 0 } else { aside },
        }
    }

    fn weight(self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(self.unit)).unwrap_or(u32::MAX).max(self.least)
    }
}

/// Frees the memory of an answer whose time is over. That it is not served any more does not hang on this clock.
struct ByOwnTtl;

impl Expiry<AnswerKey, Arc<StoredAnswer>> for ByOwnTtl {
    fn expire_after_create(&self, _: &AnswerKey, answer: &Arc<StoredAnswer>, _: Instant) -> Option<Duration> {
        Some(answer.ttl.min(LONGEST))
    }

    fn expire_after_update(
        &self,
        _: &AnswerKey,
        answer: &Arc<StoredAnswer>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(answer.ttl.min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::FutureExt;
    use proptest::prelude::*;

    const TTL: Duration = Duration::from_secs(300);

    fn answer(bytes: usize, stored_unix_ms: u64) -> Arc<StoredAnswer> {
        Arc::new(StoredAnswer {
            provider: "p".into(),
            model: "m".into(),
            dropped: Vec::new(),
            body: Bytes::from(vec![b'x'; bytes]),
            ends: vec![bytes],
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
    fn what_nobody_asks_for_goes_by_the_clock_of_the_store() {
        let answers = MemoryAnswers::new(10, 1 << 20);
        put(&answers, 1, Arc::new(StoredAnswer { ttl: Duration::from_nanos(1), ..(*answer(5, 0)).clone() }));
        // By the time that is given it would still be young.
        assert_eq!(get(&answers, 1, 0), None);
        put(&answers, 1, Arc::new(StoredAnswer { ttl: Duration::MAX, ..(*answer(5, 0)).clone() }));
        assert!(get(&answers, 1, 0).is_some());
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
        let answer =
            StoredAnswer { body: Bytes::from_static(b"abcde"), ends: vec![1, 3, 5], ..(*answer(0, 0)).clone() };
        assert_eq!(answer.pieces().collect::<Vec<_>>(), ["a", "bc", "de"]);
    }

    #[test]
    fn the_number_is_a_bound_between_two_looks_at_it() {
        let answers = MemoryAnswers::new(1000, 1 << 30);
        for number in 0..5000 {
            put(&answers, number, answer(5, 0));
            assert!(answers.bytes.load(Relaxed) <= 1000 * answer(5, 0).size() as u64);
        }
        assert!(answers.held().entries > 900, "{:?}", answers.held());
    }

    #[test]
    fn huge_bounds_are_bounds_too() {
        let scale = Scale::new(1, u64::MAX);
        assert!(scale.capacity > u64::from(u32::MAX / 4) && scale.capacity <= u64::from(u32::MAX));
        assert_eq!(u64::from(scale.weight(1)), scale.capacity);
        let many = Scale::new(u32::MAX, 1 << 20);
        assert_eq!((many.weight(700), many.capacity), (700, 1 << 20));
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
                // Before anybody asks, too.
                prop_assert!(answers.bytes.load(Relaxed) <= max_bytes);
                let held = answers.held();
                prop_assert!(held.entries <= u64::from(max_entries) && held.bytes <= max_bytes, "{held:?}");
                let seen: usize = (0..40).filter_map(|n| get(&answers, n, 0)).map(|answer| answer.size()).sum();
                prop_assert!(seen as u64 <= max_bytes && seen as u64 == held.bytes, "{seen} {held:?}");
            }
        }
    }
}
