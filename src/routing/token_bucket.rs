//! A token bucket in whole numbers: it holds at most `amount`, begins full, and fills up evenly within its period.
//!
//! Levels are kept in units of one token divided by the nanoseconds of the period, so that nothing is ever rounded: what flows in during
//! a nanosecond is a whole number of units. A level below zero is a debt: more was used than had been reserved.

use std::time::{Duration, Instant};

/// The shape of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What it holds, and what flows in within a period.
    pub amount: u64,
    /// The time in which an empty bucket becomes full.
    pub period: Duration,
}

impl Rate {
    /// Units a token.
    fn unit(self) -> i128 {
        i128::try_from(self.period.as_nanos()).unwrap_or(i128::MAX).max(1)
    }

    fn full(self) -> i128 {
        self.unit().saturating_mul(self.amount.into())
    }

    /// How long so many units take to flow in, rounded up.
    fn time_for(self, units: i128) -> Duration {
        let (units, amount) = (units.max(0), i128::from(self.amount.max(1)));
        let nanos = u64::try_from(units.saturating_add(amount - 1) / amount).unwrap_or(u64::MAX);
        Duration::from_nanos(nanos)
    }
}

/// A bucket. The rate is an argument, so that a changed configuration changes it: what is in it stays, up to its new size.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    level: i128,
    at: Instant,
}

/// Why a bucket does not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// It will have enough after this time.
    For(Duration),
    /// It never holds that much.
    Ever,
}

impl Bucket {
    /// A full one.
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self { level: rate.full(), at: now }
    }

    /// One with a level that [`Bucket::level`] has told, maybe in another process.
    pub fn at_level(level: i128, now: Instant) -> Self {
        Self { level, at: now }
    }

    /// What is in it, in units that depend on the period alone; below zero for a debt.
    pub fn level(&self) -> i128 {
        self.level
    }

    /// Lets in what has flowed since the last look.
    pub fn refill(&mut self, rate: Rate, now: Instant) {
        // Whoever took the time before another took the lock comes with an earlier time.
        let elapsed = i128::try_from(now.saturating_duration_since(self.at).as_nanos()).unwrap_or(i128::MAX);
        let flowed = elapsed.saturating_mul(rate.amount.into());
        self.level = self.level.saturating_add(flowed).min(rate.full());
        self.at = self.at.max(now);
    }

    /// Whether so much could be taken now; the bucket has been refilled.
    ///
    /// # Errors
    /// How long it would take, or that it never can.
    pub fn check(&self, rate: Rate, cost: u64) -> Result<(), Short> {
        let cost = rate.unit().saturating_mul(cost.into());
        if cost > rate.full() {
            return Err(Short::Ever);
        }
        if cost > self.level { Err(Short::For(rate.time_for(cost - self.level))) } else { Ok(()) }
    }

    /// Takes so much, into debt if need be.
    pub fn take(&mut self, rate: Rate, cost: u64) {
        self.level = self.level.saturating_sub(rate.unit().saturating_mul(cost.into()));
    }

    /// Gives so much back; it never holds more than it can.
    pub fn put_back(&mut self, rate: Rate, amount: u64) {
        self.level = self.level.saturating_add(rate.unit().saturating_mul(amount.into())).min(rate.full());
    }

    /// What can be taken, in whole tokens.
    pub fn remaining(&self, rate: Rate) -> u64 {
        u64::try_from(self.level.max(0) / rate.unit()).unwrap_or(u64::MAX)
    }

    /// How long until it is full.
    pub fn full_in(&self, rate: Rate) -> Duration {
        rate.time_for(rate.full() - self.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn an_empty_bucket_says_when_it_has_enough_again() {
        let (rate, now) = (Rate { amount: 60, period: MINUTE }, Instant::now());
        let mut bucket = Bucket::full(rate, now);
        assert_eq!(bucket.check(rate, 61), Err(Short::Ever));
        bucket.take(rate, 60);
        assert_eq!(bucket.check(rate, 5), Err(Short::For(Duration::from_secs(5))));
        assert_eq!((bucket.remaining(rate), bucket.full_in(rate)), (0, MINUTE));
        bucket.refill(rate, now + Duration::from_secs(5));
        assert_eq!((bucket.check(rate, 5), bucket.remaining(rate)), (Ok(()), 5));
        bucket.refill(rate, now + 3 * MINUTE);
        assert_eq!((bucket.remaining(rate), bucket.full_in(rate)), (60, Duration::ZERO));
    }

    #[test]
    fn debt_is_paid_before_anything_is_given() {
        let (rate, now) = (Rate { amount: 10, period: Duration::from_secs(1) }, Instant::now());
        let mut bucket = Bucket::full(rate, now);
        bucket.take(rate, 30);
        assert_eq!(bucket.check(rate, 1), Err(Short::For(Duration::from_millis(2100))));
        assert_eq!(bucket.remaining(rate), 0);
        bucket.put_back(rate, 25);
        assert_eq!(bucket.remaining(rate), 5);
        bucket.put_back(rate, 25);
        assert_eq!(bucket.remaining(rate), 10);
    }

    #[test]
    fn a_clock_that_seems_to_run_backwards_gives_nothing() {
        let (rate, now) = (Rate { amount: 10, period: Duration::from_secs(1) }, Instant::now());
        let mut bucket = Bucket::full(rate, now);
        bucket.take(rate, 10);
        let later = now + Duration::from_millis(500);
        bucket.refill(rate, later);
        bucket.refill(rate, now);
        bucket.refill(rate, later);
        assert_eq!(bucket.remaining(rate), 5);
    }

    proptest! {
        /// Whatever is asked and whenever: what was given fits into a full bucket and what has flowed in since.
        #[test]
        fn never_more_than_the_limit_passes(
            amount in 1_u64..1000,
            period in 1_u64..100_000,
            asked in prop::collection::vec((0_u64..5_000_000, 1_u64..400), 1..200),
        ) {
            let rate = Rate { amount, period: Duration::from_millis(period) };
            let start = Instant::now();
            let (mut now, mut bucket, mut given) = (start, Bucket::full(rate, start), 0_u128);
            for (micros, cost) in asked {
                now += Duration::from_micros(micros);
                bucket.refill(rate, now);
                match bucket.check(rate, cost) {
                    Ok(()) => {
                        bucket.take(rate, cost);
                        given += u128::from(cost);
                    }
                    Err(Short::For(wait)) => {
                        // The wait is neither too short nor a nanosecond too long.
                        let mut later = bucket;
                        later.refill(rate, now + wait);
                        prop_assert!(later.check(rate, cost).is_ok());
                        let mut sooner = bucket;
                        sooner.refill(rate, now + wait - Duration::from_nanos(1));
                        prop_assert!(sooner.check(rate, cost).is_err());
                    }
                    Err(Short::Ever) => prop_assert!(cost > amount),
                }
                let elapsed = (now - start).as_nanos();
                let unit = rate.period.as_nanos();
                prop_assert!(given * unit <= u128::from(amount) * unit + elapsed * u128::from(amount));
            }
        }
    }
}
