//! What is left of a key's requests and tokens: buckets that fill up evenly.
//!
//! The operator's own limits bind: with nothing left the key is not used. What a provider tells in its headers corrects them downwards;
//! where the operator has set none it only ranks keys, because providers count by model and in windows of their own.

use crate::domain::{KeyQuota, RateLimit, RateLimits};
use std::time::{Duration, Instant};

/// The span that the operator's limits are given for, and that a provider's are taken for when it names none.
const MINUTE: Duration = Duration::from_secs(60);

/// However much more was used than was thought, it is paid back within so many minutes: a provider may count anything.
const MOST_DEBT: f64 = 10.0;

/// What is left of one key's limits, or of those of a group.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quota {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    limit: f64,
    /// As of `at`. Below zero when more was used than was thought.
    left: f64,
    per_second: f64,
    at: Instant,
    /// The operator has set the limit: it binds.
    binds: bool,
}

impl Quota {
    /// A full quota.
    pub fn new(own: KeyQuota, now: Instant) -> Self {
        let mut quota = Self::default();
        quota.set_own(own, now);
        quota
    }

    /// The operator's limits are these from now on. What has been used of an unchanged one stays used.
    pub fn set_own(&mut self, own: KeyQuota, now: Instant) {
        set_own(&mut self.requests, own.rpm.map(f64::from), now);
        set_own(&mut self.tokens, own.tpm.map(|tpm| tpm as f64), now);
    }

    /// How long until the operator's limits allow one more request of so many tokens; zero when they do now. A request that is larger
    /// than the whole limit waits for all of it.
    pub fn wait(&self, tokens: u64, now: Instant) -> Duration {
        let wait = |bucket: &Option<Bucket>, amount: f64| {
            bucket.filter(|bucket| bucket.binds).map_or(Duration::ZERO, |bucket| bucket.wait(amount, now))
        };
        wait(&self.requests, 1.0).max(wait(&self.tokens, tokens as f64))
    }

    /// The share of its limits that one more request of so many tokens would leave, 0 to 1; 1 where nothing is known.
    pub fn room(&self, tokens: u64, now: Instant) -> f64 {
        let room = |bucket: &Option<Bucket>, amount: f64| bucket.map_or(1.0, |bucket| bucket.room(amount, now));
        room(&self.requests, 1.0).min(room(&self.tokens, tokens as f64))
    }

    /// A request of so many tokens is on its way.
    pub fn take(&mut self, tokens: u64, now: Instant) {
        for (bucket, amount) in [(&mut self.requests, 1.0), (&mut self.tokens, tokens as f64)] {
            if let Some(bucket) = bucket {
                // One that is larger than the whole limit takes all of it, as `wait` has it, and no debt of ten times as much.
                bucket.add(-amount.min(bucket.limit), now);
            }
        }
    }

    /// It was thought to need `taken` tokens and has needed `used`.
    pub fn settle(&mut self, taken: u64, used: u64, now: Instant) {
        if let Some(bucket) = &mut self.tokens {
            bucket.add((taken as f64).min(bucket.limit) - used as f64, now);
        }
    }

    /// What is not there now of requests and of tokens, each with its limit; `None` where no limit is known.
    pub fn used(&self, now: Instant) -> [Option<(u64, u64)>; 2] {
        [self.requests, self.tokens].map(|bucket| {
            let bucket = bucket?;
            Some(((bucket.limit - bucket.left(now)).max(0.0).round() as u64, bucket.limit as u64))
        })
    }

    /// The limits that the operator has set.
    pub fn own(&self) -> KeyQuota {
        let own = |bucket: &Option<Bucket>| bucket.filter(|bucket| bucket.binds).map(|bucket| bucket.limit);
        KeyQuota {
            rpm: own(&self.requests).map(|limit| limit as u32),
            tpm: own(&self.tokens).map(|limit| limit as u64),
        }
    }

    /// Takes over what the provider tells.
    pub fn told(&mut self, limits: &RateLimits, now: Instant) {
        told(&mut self.requests, limits.requests, now);
        told(&mut self.tokens, limits.tokens, now);
    }
}

fn set_own(bucket: &mut Option<Bucket>, limit: Option<f64>, now: Instant) {
    match (&*bucket, limit) {
        (Some(old), Some(limit)) if old.binds && old.limit == limit => {}
        (_, Some(limit)) => *bucket = Some(Bucket::full(limit, now)),
        (Some(old), None) if old.binds => *bucket = None,
        (_, None) => {}
    }
}

fn told(bucket: &mut Option<Bucket>, limit: Option<RateLimit>, now: Instant) {
    let Some(told) = limit else { return };
    match bucket {
        Some(own) if own.binds => {
            let left = own.left(now).min(told.remaining as f64);
            (own.left, own.at) = (left, now);
        }
        seen => *seen = Some(Bucket::seen(told, seen.map_or(0.0, |old| old.limit), now)),
    }
}

impl Bucket {
    fn full(limit: f64, now: Instant) -> Self {
        Self { limit, left: limit, per_second: limit / MINUTE.as_secs_f64(), at: now, binds: true }
    }

    /// As a provider tells it; `largest` is the limit that it told before.
    fn seen(told: RateLimit, largest: f64, now: Instant) -> Self {
        let left = told.remaining as f64;
        let limit = told.limit.map_or(largest, |limit| limit as f64).max(left).max(1.0);
        let per_second = match told.reset {
            Some(reset) if !reset.is_zero() && limit > left => (limit - left) / reset.as_secs_f64(),
            _ => limit / MINUTE.as_secs_f64(),
        };
        Self { limit, left, per_second, at: now, binds: false }
    }

    fn left(&self, now: Instant) -> f64 {
        let filled = self.per_second * now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + filled).min(self.limit)
    }

    fn add(&mut self, amount: f64, now: Instant) {
        self.left = (self.left(now) + amount).clamp(-self.limit * MOST_DEBT, self.limit);
        self.at = self.at.max(now);
    }

    fn wait(&self, amount: f64, now: Instant) -> Duration {
        /// Below this part of a request nothing is missing but the precision of the arithmetic.
        const NOTHING: f64 = 1e-6;
        let missing = amount.min(self.limit) - self.left(now);
        if missing <= NOTHING { Duration::ZERO } else { Duration::from_secs_f64(missing / self.per_second) }
    }

    fn room(&self, amount: f64, now: Instant) -> f64 {
        ((self.left(now) - amount.min(self.limit)) / self.limit).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: KeyQuota = KeyQuota { rpm: Some(60), tpm: Some(6_000) };

    fn told(remaining: u64, limit: u64, reset: u64) -> RateLimits {
        let limit = RateLimit { limit: Some(limit), remaining, reset: Some(Duration::from_secs(reset)) };
        RateLimits { requests: Some(limit), tokens: None }
    }

    #[test]
    fn the_operators_limits_bind_and_fill_up_evenly() {
        let now = Instant::now();
        let mut quota = Quota::new(OWN, now);
        for _ in 0..60 {
            assert_eq!(quota.wait(0, now), Duration::ZERO);
            quota.take(0, now);
        }
        assert_eq!(quota.wait(0, now), Duration::from_secs(1));
        assert_eq!(quota.room(0, now), 0.0);
        assert_eq!(quota.wait(0, now + Duration::from_secs(1)), Duration::ZERO);
    }

    #[test]
    fn tokens_are_taken_by_estimate_and_settled_by_usage() {
        let now = Instant::now();
        let mut quota = Quota::new(OWN, now);
        quota.take(5_000, now);
        assert_eq!(quota.wait(2_000, now), Duration::from_secs(10), "1,000 are missing, 100 come a second");
        quota.settle(5_000, 1_000, now);
        assert_eq!(quota.wait(2_000, now), Duration::ZERO);
        quota.settle(0, 10_000, now);
        assert_eq!(
            quota.wait(0, now + Duration::from_secs(49)),
            Duration::from_secs(1),
            "more was used than was there"
        );
        assert!(quota.wait(1_000_000, now) < Duration::from_secs(111), "what never fits waits for a full bucket");
    }

    #[test]
    fn what_the_provider_tells_corrects_own_limits_downwards_only() {
        let now = Instant::now();
        let mut quota = Quota::new(OWN, now);
        quota.told(&told(10_000, 10_000, 1), now);
        assert_eq!(quota.room(0, now), 59.0 / 60.0);
        quota.told(&told(0, 10_000, 30), now);
        assert_eq!(quota.wait(0, now), Duration::from_secs(1), "it fills up as the operator says");
    }

    #[test]
    fn without_own_limits_it_ranks_and_never_waits() {
        let now = Instant::now();
        let mut quota = Quota::new(KeyQuota::default(), now);
        assert_eq!(quota.room(1_000, now), 1.0);
        quota.told(&told(0, 100, 50), now);
        assert_eq!((quota.wait(0, now), quota.room(0, now)), (Duration::ZERO, 0.0));
        let later = now + Duration::from_secs(26);
        assert!((quota.room(0, later) - 0.51).abs() < 1e-9, "{}", quota.room(0, later));
        // Some tell no limit and no reset: the largest that was seen is the limit, a minute the window.
        let unnamed =
            RateLimits { requests: Some(RateLimit { limit: None, remaining: 50, reset: None }), tokens: None };
        quota.told(&unnamed, now);
        assert!((quota.room(0, now) - 0.49).abs() < 1e-9);
    }

    #[test]
    fn a_reload_keeps_what_was_used_of_an_unchanged_limit() {
        let now = Instant::now();
        let mut quota = Quota::new(OWN, now);
        (0..60).for_each(|_| quota.take(0, now));
        quota.set_own(OWN, now);
        assert!(quota.wait(0, now) > Duration::ZERO);
        quota.set_own(KeyQuota { rpm: Some(120), ..OWN }, now);
        assert_eq!(quota.wait(0, now), Duration::ZERO);
        quota.set_own(KeyQuota::default(), now);
        assert_eq!(quota.room(1_000_000, now), 1.0);
    }

    proptest! {
        /// Whatever is asked for, counted or told, the answers stay within bounds.
        #[test]
        fn nothing_that_is_told_leads_out_of_bounds(
            steps in prop::collection::vec((0u8..4, any::<u64>(), any::<u64>(), any::<u32>()), 1..50),
        ) {
            let mut now = Instant::now();
            let mut quotas = [Quota::new(KeyQuota { rpm: Some(1), tpm: Some(1) }, now), Quota::default()];
            for (act, one, other, millis) in steps {
                for quota in &mut quotas {
                    match act {
                        0 => quota.take(one, now),
                        1 => quota.settle(one, other, now),
                        2 => {
                            let reset = Some(Duration::from_millis(u64::from(millis)));
                            let limit = Some(RateLimit { limit: Some(one), remaining: other, reset });
                            quota.told(&RateLimits { requests: limit, tokens: limit }, now);
                        }
                        _ => now += Duration::from_millis(u64::from(millis)),
                    }
                    prop_assert!((0.0..=1.0).contains(&quota.room(other, now)));
                    prop_assert!(quota.wait(other, now) <= Duration::from_secs(11 * 60));
                }
            }
        }

        /// Whoever asks first gets through at most a full bucket and what has come in since.
        #[test]
        fn never_more_than_the_limit_passes(rpm in 1u32..200, steps in prop::collection::vec(0u64..5_000, 1..300)) {
            let start = Instant::now();
            let mut quota = Quota::new(KeyQuota { rpm: Some(rpm), tpm: None }, start);
            let (mut now, mut passed) = (start, 0.0);
            for step in steps {
                now += Duration::from_millis(step);
                while quota.wait(0, now).is_zero() {
                    quota.take(0, now);
                    passed += 1.0;
                }
            }
            let most = f64::from(rpm) * (1.0 + (now - start).as_secs_f64() / 60.0);
            prop_assert!(passed <= most + 1e-3, "{passed} of {most}");
        }
    }

    #[test]
    fn a_request_that_is_larger_than_the_limit_takes_all_of_it_and_gives_back_no_more() {
        let now = Instant::now();
        let mut quota = Quota::new(OWN, now);
        quota.take(1_000_000_000_000, now);
        assert!(quota.wait(100, now) <= Duration::from_secs(2), "{:?}", quota.wait(100, now));
        let mut quota = Quota::new(OWN, now);
        quota.take(4_000, now);
        quota.take(1_000_000_000_000, now);
        quota.settle(1_000_000_000_000, 0, now);
        assert!(quota.wait(3_000, now) > Duration::ZERO, "what the other has used stays used");
    }
}
