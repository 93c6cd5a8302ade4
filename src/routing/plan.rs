//! The order in which targets are tried.
//!
//! A plan is a list of *legs*: the model that the client asked for, then each fallback. A leg holds every target (provider) that can
//! serve its model. The strategy orders the targets within a leg; the order of the legs is the client's.

use crate::domain::{Money, Strategy};

/// What a strategy looks at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// The estimated price of this request; `None` when the catalog has no price.
    pub price: Option<Money>,
    /// Average time to first output in milliseconds; `None` before the first answer.
    pub first_output_ms: Option<f64>,
    /// Share of recent attempts that succeeded, 0 to 1.
    pub success_rate: f64,
    /// The configured weight.
    pub weight: u32,
}

/// A target with the leg it belongs to and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate<T> {
    /// The target.
    pub target: T,
    /// Its leg: 0 for the model asked for, then the fallbacks in order.
    pub leg: usize,
    /// What the strategy looks at.
    pub facts: Facts,
}

/// Orders the targets of each leg. `random` gives numbers in `[0, 1)` and is asked only by the weighted strategy.
pub fn order<T>(strategy: Strategy, candidates: &mut [Candidate<T>], mut random: impl FnMut() -> f64) {
    candidates.sort_by_key(|candidate| candidate.leg);
    for leg in candidates.chunk_by_mut(|a, b| a.leg == b.leg) {
        match strategy {
            Strategy::Order => {}
            // A target without a price may be dear: it comes last.
            Strategy::Cheap => leg.sort_by_key(|c| (c.facts.price.is_none(), c.facts.price)),
            // A target that was never tried gets its chance first, one that was and never answered comes last.
            Strategy::Fast => leg.sort_by(|a, b| {
                let unknown = |c: &Candidate<T>| if c.facts.success_rate < 1.0 { f64::INFINITY } else { 0.0 };
                let latency = |c: &Candidate<T>| c.facts.first_output_ms.unwrap_or_else(|| unknown(c));
                latency(a).total_cmp(&latency(b))
            }),
            Strategy::Reliable => leg.sort_by(|a, b| b.facts.success_rate.total_cmp(&a.facts.success_rate)),
            Strategy::Weighted => draw(leg, &mut random),
        }
    }
}

/// Draws without replacement: each place goes to one of the remaining targets with the probability of its weight.
fn draw<T>(leg: &mut [Candidate<T>], random: &mut impl FnMut() -> f64) {
    for place in 0..leg.len() {
        let rest = &leg[place..];
        let total: f64 = rest.iter().map(|c| f64::from(c.facts.weight)).sum();
        let mut point = random() * total;
        let chosen = rest.iter().position(|c| {
            point -= f64::from(c.facts.weight);
            point < 0.0
        });
        // Rotating keeps the order of those that were not chosen, which decides when all weights are zero.
        leg[place..=place + chosen.unwrap_or(0)].rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Facts = Facts { price: None, first_output_ms: None, success_rate: 1.0, weight: 1 };

    fn ordered(strategy: Strategy, candidates: &[(&'static str, usize, Facts)]) -> Vec<&'static str> {
        let mut list: Vec<Candidate<&str>> =
            candidates.iter().map(|&(target, leg, facts)| Candidate { target, leg, facts }).collect();
        order(strategy, &mut list, || 0.0);
        list.into_iter().map(|c| c.target).collect()
    }

    fn priced(picos: i128) -> Facts {
        Facts { price: Some(Money::from_picos(picos)), ..PLAIN }
    }

    #[test]
    fn legs_stay_in_the_clients_order() {
        let candidates = [("dear", 0, priced(9)), ("cheap fallback", 1, priced(1)), ("cheap", 0, priced(2))];
        assert_eq!(ordered(Strategy::Cheap, &candidates), ["cheap", "dear", "cheap fallback"]);
        assert_eq!(ordered(Strategy::Order, &candidates), ["dear", "cheap", "cheap fallback"]);
    }

    #[test]
    fn a_target_without_a_price_is_last_under_cheap() {
        assert_eq!(ordered(Strategy::Cheap, &[("unknown", 0, PLAIN), ("known", 0, priced(5))]), ["known", "unknown"]);
    }

    #[test]
    fn fast_tries_the_untried_first_then_the_quickest() {
        let at = |ms| Facts { first_output_ms: Some(ms), ..PLAIN };
        let broken = Facts { success_rate: 0.0, ..PLAIN };
        let candidates = [("broken", 0, broken), ("slow", 0, at(900.0)), ("quick", 0, at(100.0)), ("new", 0, PLAIN)];
        assert_eq!(ordered(Strategy::Fast, &candidates), ["new", "quick", "slow", "broken"]);
    }

    #[test]
    fn reliable_prefers_the_higher_success_rate() {
        let rate = |success_rate| Facts { success_rate, ..PLAIN };
        assert_eq!(
            ordered(Strategy::Reliable, &[("shaky", 0, rate(0.5)), ("solid", 0, rate(0.99))]),
            ["solid", "shaky"]
        );
    }

    #[test]
    fn weighted_draws_in_proportion() {
        let weight = |weight| Facts { weight, ..PLAIN };
        let (mut first, mut step) = ([0u32; 3], 0.0);
        for _ in 0..1000 {
            step = (step + 0.618_033_988_75) % 1.0;
            let mut list: Vec<Candidate<usize>> = [50, 30, 20]
                .iter()
                .enumerate()
                .map(|(target, w)| Candidate { target, leg: 0, facts: weight(*w) })
                .collect();
            order(Strategy::Weighted, &mut list, || step);
            first[list[0].target] += 1;
        }
        assert!(first[0].abs_diff(500) < 20 && first[1].abs_diff(300) < 20 && first[2].abs_diff(200) < 20, "{first:?}");
    }
}
