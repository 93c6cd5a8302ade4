//! How long to wait before the same target is tried again.

use std::time::Duration;

/// `min(base · 2ⁿ, cap)` with full jitter: a uniformly random part of it, so that clients that failed together do not return
/// together. `retry` counts from 0, `random` is in `[0, 1)`.
pub fn delay(base: Duration, cap: Duration, retry: u32, random: f64) -> Duration {
    let ceiling = base.checked_mul(2u32.saturating_pow(retry)).map_or(cap, |delay| delay.min(cap));
    ceiling.mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap() {
        let (base, cap) = (Duration::from_millis(250), Duration::from_secs(5));
        let delays: Vec<u128> = (0..8).map(|retry| delay(base, cap, retry, 1.0).as_millis()).collect();
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
        assert_eq!(delay(base, cap, u32::MAX, 1.0), cap);
    }

    #[test]
    fn jitter_is_full() {
        let (base, cap) = (Duration::from_secs(1), Duration::from_secs(5));
        assert_eq!(delay(base, cap, 0, 0.0), Duration::ZERO);
        assert_eq!(delay(base, cap, 0, 0.5), Duration::from_millis(500));
    }
}
