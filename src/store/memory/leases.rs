//! The leases of one key, each with an end, counted in constant time.

use std::time::{Duration, Instant};

/// Leases that end within so long of each other are counted together.
const GRAIN: Duration = Duration::from_secs(1);

/// How many leases end when, the first to end first.
#[derive(Debug, Default)]
pub(super) struct Leases(Vec<(Instant, u32)>);

impl Leases {
    /// One more, for at least so long. Returns when it ends, which is what it is given back with.
    pub(super) fn take(&mut self, now: Instant, ttl: Duration) -> Instant {
        let ended = self.0.partition_point(|(end, _)| *end <= now);
        self.0.drain(..ended);
        let wanted = now + ttl;
        let at = self.0.partition_point(|(end, _)| *end < wanted);
        match self.0.get_mut(at) {
            Some((end, count)) if *end < wanted + GRAIN => {
                *count += 1;
                *end
            }
            _ => {
                let end = wanted + GRAIN / 2;
                self.0.insert(at, (end, 1));
                end
            }
        }
    }

    /// One less, of those that end at this moment; nothing, if they have ended.
    pub(super) fn give_back(&mut self, end: Instant, now: Instant) {
        if end <= now {
            return;
        }
        if let Ok(at) = self.0.binary_search_by_key(&end, |(end, _)| *end) {
            self.0[at].1 -= 1;
            if self.0[at].1 == 0 {
                self.0.remove(at);
            }
        }
    }

    /// How many there are.
    pub(super) fn count(&self, now: Instant) -> u32 {
        self.0.iter().filter(|(end, _)| *end > now).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is taken, given back or forgotten, in any order: what is out is what was taken, not given back and has not ended.
        #[test]
        fn counts_what_is_out(steps in prop::collection::vec((0u64..3_000, 1u64..20_000, 0usize..8), 1..200)) {
            let (mut now, mut leases, mut out) = (Instant::now(), Leases::default(), Vec::<Instant>::new());
            for (pause, ttl, act) in steps {
                now += Duration::from_millis(pause);
                out.retain(|end| *end > now);
                if act < 5 || out.is_empty() {
                    let ttl = Duration::from_millis(ttl);
                    let end = leases.take(now, ttl);
                    prop_assert!(end >= now + ttl && end <= now + ttl + GRAIN);
                    out.push(end);
                } else {
                    leases.give_back(out.swap_remove(act % out.len()), now);
                }
                prop_assert_eq!(leases.count(now) as usize, out.len());
                prop_assert!(leases.0.is_sorted() && leases.0.len() <= 25, "{:?}", leases.0.len());
            }
        }
    }

    #[test]
    fn what_is_never_given_back_ends_by_itself_and_coming_late_takes_nobody_elses() {
        let (mut leases, now) = (Leases::default(), Instant::now());
        let lost = leases.take(now, Duration::from_secs(10));
        let later = now + Duration::from_secs(11);
        assert_eq!((leases.count(now), leases.count(later)), (1, 0));
        leases.take(later, Duration::from_secs(10));
        leases.give_back(lost, later);
        assert_eq!(leases.count(later), 1);
    }
}
