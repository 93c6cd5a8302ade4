//! How a target has fared lately: decaying averages of its outcomes, its time to first output and its speed.

use std::time::Duration;

/// The weight of the newest sample: about the last ten count.
const ALPHA: f64 = 0.2;

/// A target's record. A target that was never tried counts as good and as fast, so that it gets its first chance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Health {
    samples: u64,
    success: f64,
    first_output_ms: Option<f64>,
    tokens_per_second: Option<f64>,
}

impl Health {
    /// Takes note of an outcome, and of the time to first output when there was one.
    pub fn report(&mut self, success: bool, first_output: Option<Duration>) {
        let outcome = if success { 1.0 } else { 0.0 };
        self.success = if self.samples == 0 { outcome } else { blend(self.success, outcome) };
        self.samples += 1;
        if let Some(latency) = first_output {
            let ms = latency.as_secs_f64() * 1000.0;
            self.first_output_ms = Some(self.first_output_ms.map_or(ms, |old| blend(old, ms)));
        }
    }

    /// Takes note of how fast an answer came, in tokens per second. What is no such number is no measurement.
    pub fn note_rate(&mut self, tokens_per_second: f64) {
        if tokens_per_second.is_finite() && tokens_per_second > 0.0 {
            self.tokens_per_second =
                Some(self.tokens_per_second.map_or(tokens_per_second, |old| blend(old, tokens_per_second)));
        }
    }

    /// How many outcomes were reported.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// The share of attempts that succeeded, 0 to 1; 1 for a target that was never tried.
    pub fn success_rate(&self) -> f64 {
        if self.samples == 0 { 1.0 } else { self.success }
    }

    /// The average time to first output in milliseconds; `None` for a target that never answered.
    pub fn first_output_ms(&self) -> Option<f64> {
        self.first_output_ms
    }

    /// The average tokens per second of its answers; `None` before the first was measured.
    pub fn tokens_per_second(&self) -> Option<f64> {
        self.tokens_per_second
    }
}

fn blend(old: f64, new: f64) -> f64 {
    old + ALPHA * (new - old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untried_target_is_good() {
        assert_eq!(Health::default().success_rate(), 1.0);
        assert_eq!(Health::default().first_output_ms(), None);
    }

    #[test]
    fn follows_what_happens_and_recovers() {
        let mut health = Health::default();
        for _ in 0..20 {
            health.report(false, None);
        }
        assert!(health.success_rate() < 0.02);
        for _ in 0..20 {
            health.report(true, Some(Duration::from_millis(100)));
        }
        assert!(health.success_rate() > 0.98);
        assert_eq!(health.first_output_ms(), Some(100.0));
    }

    #[test]
    fn the_rate_is_an_average_of_what_can_be_one() {
        let mut health = Health::default();
        for rate in [100.0, f64::INFINITY, f64::NAN, 0.0, 50.0] {
            health.note_rate(rate);
        }
        assert_eq!(health.tokens_per_second(), Some(90.0));
    }
}
