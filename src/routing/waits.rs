//! How long a target has kept requests waiting for their first output, as a quantile: an average says nothing about its tail.
//!
//! A histogram whose buckets grow by a fifth, so that a quantile is told within a fifth of itself, whatever its size. When it is full, all
//! counts are halved: what is old counts less.

use std::time::Duration;

/// Buckets to an octave.
const STEPS: f64 = 4.0;
/// From a millisecond to more than an hour.
const BUCKETS: usize = 88;
/// With so many waits the counts are halved.
const FULL: u32 = 1000;
/// With fewer, nothing is said.
const FEWEST: u32 = 20;

/// The waits of one target.
#[derive(Clone, Debug)]
pub struct Waits {
    counts: [u16; BUCKETS],
    total: u32,
}

impl Default for Waits {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], total: 0 }
    }
}

impl Waits {
    /// Takes note of a wait.
    pub fn note(&mut self, wait: Duration) {
        if self.total >= FULL {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().map(|count| u32::from(*count)).sum();
        }
        // The cast saturates.
        let bucket = ((wait.as_secs_f64() * 1000.0).max(1.0).log2() * STEPS).floor() as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.total += 1;
    }

    /// The wait that this share of all waits did not pass, rounded up by a fifth at most; `None` as long as too few are known.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        if self.total < FEWEST {
            return None;
        }
        let wanted = (f64::from(self.total) * share).ceil();
        let mut below = 0.0;
        let bucket = self.counts.iter().position(|count| {
            below += f64::from(*count);
            below >= wanted
        });
        let edge = bucket.unwrap_or(BUCKETS - 1) + 1;
        Some(Duration::from_secs_f64((edge as f64 / STEPS).exp2() / 1000.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn with_few_waits_nothing_is_said() {
        let mut waits = Waits::default();
        for _ in 1..FEWEST {
            waits.note(Duration::from_millis(5));
        }
        assert_eq!(waits.quantile(0.95), None);
        waits.note(Duration::from_millis(5));
        assert!(waits.quantile(0.95).is_some());
    }

    #[test]
    fn what_is_old_fades() {
        let mut waits = Waits::default();
        (0..1000).for_each(|_| waits.note(Duration::from_secs(10)));
        (0..10_000).for_each(|_| waits.note(Duration::from_millis(10)));
        assert!(waits.quantile(0.95).is_some_and(|wait| wait < Duration::from_millis(13)));
    }

    #[test]
    fn no_wait_is_out_of_range() {
        let mut waits = Waits::default();
        [Duration::ZERO, Duration::from_nanos(1), Duration::MAX]
            .into_iter()
            .cycle()
            .take(30)
            .for_each(|w| waits.note(w));
        assert!(waits.quantile(1.0).is_some_and(|wait| wait > Duration::from_secs(3600)));
        assert!(waits.quantile(0.0).is_some_and(|wait| wait < Duration::from_millis(2)));
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_a_fifth(mut millis in proptest::collection::vec(1u64..600_000, 20..900), share in 0.01f64..1.0) {
            let mut waits = Waits::default();
            millis.iter().for_each(|wait| waits.note(Duration::from_millis(*wait)));
            millis.sort_unstable();
            let exact = millis[((millis.len() as f64 * share).ceil() as usize).max(1) - 1] as f64 / 1000.0;
            let told = waits.quantile(share).unwrap().as_secs_f64();
            prop_assert!(told >= exact && told <= exact * 1.2, "{told} for {exact}");
        }
    }
}
