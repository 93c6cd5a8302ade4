//! How a target has fared lately: averages of its outcomes of its time to first output and of its speed, in which what is old counts less.
//!
//! Both decay with samples and with time. With samples, because the newest say most. With time, because who is avoided for a bad record
//! gets no sample to better it: a record fades to that of one who was never tried.

use std::time::{Duration, Instant};

/// The weight of the newest sample: about the last ten count.
const ALPHA: f64 = 0.2;
/// The time in which a record loses half its weight.
const HALF_LIFE: Duration = Duration::from_secs(300);

/// A record. One that was never tried counts as good and as fast, so that it gets its first chance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Health {
    samples: u64,
    /// It was asked, whether or not that says how well it is.
    tried: bool,
    success: f64,
    first_output_ms: Option<f64>,
    tokens_per_second: Option<f64>,
    /// When the last sample came.
    at: Option<Instant>,
}

impl Health {
    /// Takes note of an outcome, and of the time to first output when there was one.
    pub fn report(&mut self, success: bool, first_output: Option<Duration>, now: Instant) {
        let outcome = if success { 1.0 } else { 0.0 };
        let weight = self.weight(now);
        self.success = if self.samples == 0 { outcome } else { blend(self.faded(weight), outcome, ALPHA) };
        if let Some(latency) = first_output {
            let ms = latency.as_secs_f64() * 1000.0;
            let alpha = 1.0 - (1.0 - ALPHA) * weight;
            self.first_output_ms = Some(self.first_output_ms.map_or(ms, |old| blend(old, ms, alpha)));
        }
        self.samples += 1;
        self.at = Some(now);
    }

    /// The record as it stands at this moment.
    pub fn at(self, now: Instant) -> Self {
        Self { success: self.faded(self.weight(now)), at: self.at.map(|at| at.max(now)), ..self }
    }

    /// Takes note of how fast an answer came, in tokens per second. What is no such number is no measurement.
    pub fn note_rate(&mut self, tokens_per_second: f64) {
        if tokens_per_second.is_finite() && tokens_per_second > 0.0 {
            self.tokens_per_second =
                Some(self.tokens_per_second.map_or(tokens_per_second, |old| blend(old, tokens_per_second, ALPHA)));
        }
    }

    /// It was asked, and what came of it says nothing of how well it is.
    pub fn note_tried(&mut self) {
        self.tried = true;
    }

    /// Whether it was ever asked.
    pub fn was_tried(&self) -> bool {
        self.tried || self.samples > 0
    }

    /// The share of attempts that succeeded, 0 to 1; 1 for one that was never tried.
    pub fn success_rate(&self) -> f64 {
        if self.samples == 0 { 1.0 } else { self.success }
    }

    /// The average time to first output in milliseconds; `None` for one that never answered.
    pub fn first_output_ms(&self) -> Option<f64> {
        self.first_output_ms
    }

    /// The average tokens per second of its answers; `None` before the first was measured.
    pub fn tokens_per_second(&self) -> Option<f64> {
        self.tokens_per_second
    }

    /// What a record of that age still counts, 0 to 1.
    fn weight(&self, now: Instant) -> f64 {
        let age = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        0.5f64.powf(age.as_secs_f64() / HALF_LIFE.as_secs_f64())
    }

    fn faded(&self, weight: f64) -> f64 {
        1.0 - (1.0 - self.success) * weight
    }
}

fn blend(old: f64, new: f64, alpha: f64) -> f64 {
    old + alpha * (new - old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untried_target_is_good() {
        assert_eq!(Health::default().success_rate(), 1.0);
        assert_eq!(Health::default().at(Instant::now()).success_rate(), 1.0);
        assert_eq!(Health::default().first_output_ms(), None);
    }

    #[test]
    fn follows_what_happens_and_recovers() {
        let (mut health, now) = (Health::default(), Instant::now());
        for _ in 0..20 {
            health.report(false, None, now);
        }
        assert!(health.success_rate() < 0.02);
        for _ in 0..20 {
            health.report(true, Some(Duration::from_millis(100)), now);
        }
        assert!(health.success_rate() > 0.98);
        assert_eq!(health.first_output_ms(), Some(100.0));
    }

    #[test]
    fn a_bad_record_fades_with_time_alone() {
        let (mut health, now) = (Health::default(), Instant::now());
        health.report(false, None, now);
        assert_eq!(health.at(now).success_rate(), 0.0);
        assert_eq!(health.at(now + HALF_LIFE).success_rate(), 0.5);
        assert!(health.at(now + HALF_LIFE * 10).success_rate() > 0.99);
        // Looking twice fades it no faster.
        let once = health.at(now + HALF_LIFE).at(now + HALF_LIFE);
        assert_eq!(once.success_rate(), 0.5);
    }

    #[test]
    fn after_a_long_silence_the_newest_latency_is_believed() {
        let (mut health, now) = (Health::default(), Instant::now());
        health.report(true, Some(Duration::from_secs(10)), now);
        health.report(true, Some(Duration::from_secs(1)), now);
        assert_eq!(health.first_output_ms(), Some(8_200.0));
        health.report(true, Some(Duration::from_secs(1)), now + HALF_LIFE * 10);
        assert!(health.first_output_ms().is_some_and(|ms| ms < 1_010.0), "{health:?}");
    }

    #[test]
    fn the_rate_is_an_average_of_what_can_be_one() {
        let mut health = Health::default();
        for rate in [100.0, f64::INFINITY, f64::NAN, 0.0, 50.0] {
            health.note_rate(rate);
        }
        assert_eq!(health.tokens_per_second(), Some(90.0));
    }

    #[test]
    fn who_was_asked_in_vain_was_tried_and_is_as_well_as_before() {
        let mut health = Health::default();
        health.note_tried();
        assert!(health.was_tried() && !Health::default().was_tried());
        assert_eq!(health.success_rate(), 1.0);
    }
}
