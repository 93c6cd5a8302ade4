//! How doubtful a key is that ran into limits lately. Its rest is over by then, so this only ranks it behind the others for a while. One
//! limit is nothing unusual and is atoned for by the rest; several in short order say that more is asked of it than it has.

use std::time::{Duration, Instant};

/// The time in which half of a doubt is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(30);
/// The part of a doubt that a success leaves.
const EASED: f64 = 0.5;

/// Doubt: one for each limit that was run into, less what has been forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub struct Doubt {
    level: f64,
    at: Option<Instant>,
}

impl Doubt {
    /// It ran into a limit.
    pub fn raise(&mut self, now: Instant) {
        (self.level, self.at) = (self.level(now) + 1.0, Some(now));
    }

    /// It has served.
    pub fn ease(&mut self, now: Instant) {
        if self.level > 0.0 {
            (self.level, self.at) = (self.level(now) * EASED, Some(now));
        }
    }

    /// How many times as loaded it is to be taken for, from 1; in steps of a half, so that what is nearly forgotten does not count.
    pub fn factor(&self, now: Instant) -> f64 {
        if self.level <= 1.0 { 1.0 } else { ((self.level(now) * 2.0).round() / 2.0).max(1.0) }
    }

    fn level(&self, now: Instant) -> f64 {
        let age = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.level * 0.5f64.powf(age.as_secs_f64() / HALF_LIFE.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_with_limits_and_falls_with_time_and_success() {
        let (now, mut doubt) = (Instant::now(), Doubt::default());
        assert_eq!(doubt.factor(now), 1.0);
        doubt.raise(now);
        assert_eq!(doubt.factor(now), 1.0, "once is nothing unusual");
        (0..3).for_each(|_| doubt.raise(now));
        assert_eq!(doubt.factor(now), 4.0);
        assert_eq!(doubt.factor(now + HALF_LIFE), 2.0);
        assert_eq!(doubt.factor(now + HALF_LIFE * 2), 1.0);
        doubt.ease(now);
        assert_eq!(doubt.factor(now), 2.0);
    }
}
