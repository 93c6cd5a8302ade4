//! The order in which targets are tried.
//!
//! A plan is a list of *legs*: the model that the client asked for, then each fallback. A leg holds every target (provider) that can
//! serve its model. The strategy orders the targets within a leg; the order of the legs is the client's.
//!
//! | strategy | first comes | ties, and what is unknown |
//! |---|---|---|
//! | `order` | as configured | |
//! | `cheap` | the lowest price of this request | an unknown price comes last |
//! | `fast` | the least time for [`TYPICAL_OUTPUT`] tokens, divided by the success rate | the untried first, what never answered last |
//! | `latency`, `throughput` | the first output soonest; the most tokens per second | as `fast` |
//! | `reliable` | what can be asked now, by success rate in whole percents, then by the share of limits that its best key has left | the untried count as good |
//! | `weighted` | drawn without replacement in proportion to the weights | all weights 0: as configured |
//!
//! Whatever is still equal stays as configured. The providers of `provider.order` go before all others. A target that cannot be asked at the moment keeps its place (but for `reliable`): the
//! walk passes it over. Under the four measured strategies one request in [`EXPLORE_ONE_IN`] begins with another target, so that neither a slow
//! start nor an outage is for ever. [`Rules::affinity`] replaces the unsteady strategies by rendezvous hashing, which needs no state: each session ranks
//! the targets its own way, and when its first is gone only its own requests move.

use super::breaker::Gate;
use super::health::Health;
use super::seed::{Draws, mix, text_hash};
use crate::domain::Strategy;
use crate::domain::decision::{Breaker, Candidate, Decision, Facts, Refusal, Rules};
use std::cmp::Ordering;

/// The tokens of the answer by whose time [`Strategy::Fast`] compares.
pub const TYPICAL_OUTPUT: u64 = 300;

/// How often a measured strategy tries another target than the best one.
pub const EXPLORE_ONE_IN: u64 = 50;

/// What is known of a target by its health and its breaker.
pub fn measured(health: &Health, gate: Gate) -> Facts {
    Facts {
        success_ppm: whole(health.success_rate() * 1e6),
        first_output_us: health.first_output_ms().map(|ms| whole(ms * 1e3)),
        rate_milli: health.tokens_per_second().map(|rate| whole(rate * 1e3)),
        tried: health.was_tried(),
        breaker: match gate {
            Gate::Pass => Breaker::Closed,
            Gate::Probe => Breaker::Probe,
            Gate::Refuse { .. } => Breaker::Open,
        },
        ..Facts::UNKNOWN
    }
}

/// A measured number as a whole one, at most the largest.
fn whole(number: f64) -> u32 {
    // The cast saturates, and nothing measured is negative.
    number.round() as u32
}

/// Orders the candidates that are not refused: their places, the first to be tried first. The same arguments give the same order, always.
pub fn order(rules: &Rules, candidates: &[Candidate]) -> Vec<u16> {
    let mut places: Vec<u16> = Vec::with_capacity(candidates.len());
    let is_planned = |candidate: &Candidate| candidate.refusal.is_none_or(Refusal::is_afterwards);
    places.extend((0u16..).zip(candidates).filter(|(_, candidate)| is_planned(candidate)).map(|(place, _)| place));
    if places.len() > 1 {
        let group = |place: u16| {
            let candidate = &candidates[usize::from(place)];
            // Who misses what the client prefers stands behind every other target, fallbacks included.
            (candidate.facts.misses_preference, if rules.across_models { 0 } else { candidate.leg })
        };
        places.sort_by_key(|place| group(*place));
        let mut draws = Draws::new(rules.seed);
        for leg in places.chunk_by_mut(|a, b| group(*a) == group(*b)) {
            order_leg(rules, candidates, leg, &mut draws);
            // What the request puts in order itself goes first; the strategy is for the rest.
            leg.sort_by_key(|place| candidates[usize::from(*place)].facts.rank);
        }
    }
    places.truncate(rules.limit.map_or(usize::MAX, usize::from));
    places
}

/// Whether the recorded order is the one that its recorded inputs give.
pub fn repeats(decision: &Decision) -> bool {
    order(&decision.rules, &decision.candidates) == decision.order
}

/// What the strategy compares, in words, for whoever asks why.
pub fn merit(rules: &Rules, candidate: &Candidate) -> String {
    let facts = &candidate.facts;
    if let Some(affinity) = affinity_of(rules) {
        return format!("draw {:.3}", unit(hash_of(affinity, candidate)));
    }
    let micros = |time: u64| match time {
        u64::MAX => "never answered".to_owned(),
        0 => "untried".to_owned(),
        micros => format!("{:.1} ms", micros as f64 / 1000.0),
    };
    match rules.strategy {
        Strategy::Order => "as configured".to_owned(),
        Strategy::Cheap => facts.price().map_or("no price".to_owned(), |price| format!("${}", price.to_dollars())),
        Strategy::Fast => micros(time(facts)),
        Strategy::Latency => micros(latency(facts)),
        Strategy::Throughput => match (facts.rate_milli, facts.tried) {
            (Some(rate), _) => format!("{:.1} tokens/s", f64::from(rate) / 1000.0),
            (None, tried) => if tried { "never measured" } else { "untried" }.to_owned(),
        },
        Strategy::Reliable => format!("{} %, room {} %", facts.success_ppm / 10_000, facts.room_percent),
        Strategy::Weighted => format!("weight {}", facts.weight),
    }
}

fn order_leg(rules: &Rules, candidates: &[Candidate], leg: &mut [u16], draws: &mut Draws) {
    let of = |place: &u16| &candidates[usize::from(*place)];
    let by = |leg: &mut [u16], compare: &dyn Fn(&Facts, &Facts) -> Ordering| {
        leg.sort_by(|a, b| compare(&of(a).facts, &of(b).facts));
    };
    if let Some(affinity) = affinity_of(rules) {
        let share = |place: &u16| {
            let weight = if rules.strategy == Strategy::Weighted { of(place).facts.weight } else { 1 };
            // The rank by which each target wins in proportion to its weight.
            f64::from(weight) / -unit(hash_of(affinity, of(place))).ln()
        };
        return leg.sort_by(|a, b| share(b).total_cmp(&share(a)));
    }
    match rules.strategy {
        Strategy::Order => {}
        Strategy::Cheap => {
            by(leg, &|a, b| (a.price_picos.is_none(), a.price_picos).cmp(&(b.price_picos.is_none(), b.price_picos)))
        }
        Strategy::Fast => {
            by(leg, &|a, b| time(a).cmp(&time(b)));
            explore(leg, draws, |place| of(place).facts);
        }
        Strategy::Latency => {
            by(leg, &|a, b| latency(a).cmp(&latency(b)));
            explore(leg, draws, |place| of(place).facts);
        }
        Strategy::Throughput => {
            by(leg, &|a, b| slowness(a).cmp(&slowness(b)));
            explore(leg, draws, |place| of(place).facts);
        }
        Strategy::Reliable => {
            by(leg, &|a, b| reliability(b).cmp(&reliability(a)));
            explore(leg, draws, |place| of(place).facts);
        }
        Strategy::Weighted => draw(leg, draws, |place| of(place).facts.weight),
    }
}

/// The hash that decides instead of the strategy.
fn affinity_of(rules: &Rules) -> Option<u64> {
    rules.affinity.filter(|_| !rules.strategy.is_steady())
}

fn hash_of(affinity: u64, candidate: &Candidate) -> u64 {
    mix(affinity ^ text_hash(&candidate.provider) ^ text_hash(&candidate.model).rotate_left(32))
}

/// A hash as a number in `(0, 1)`.
fn unit(hash: u64) -> f64 {
    ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// The expected microseconds of an answer, failures counted in: 0 for a target that was never tried, so that it gets its chance, the largest
/// number for one that was and never answered.
fn time(facts: &Facts) -> u64 {
    let output = facts.rate_milli.map(|rate| TYPICAL_OUTPUT * 1_000_000_000 / u64::from(rate.max(1)));
    let known = match (facts.first_output_us, output) {
        (None, None) => return unmeasured(facts),
        (first, output) => u64::from(first.unwrap_or(0)) + output.unwrap_or(0),
    };
    per_success(known, facts)
}

fn latency(facts: &Facts) -> u64 {
    facts.first_output_us.map_or_else(|| unmeasured(facts), |first| per_success(u64::from(first), facts))
}

/// The microseconds of a token.
fn slowness(facts: &Facts) -> u64 {
    facts
        .rate_milli
        .map_or_else(|| unmeasured(facts), |rate| per_success(1_000_000_000 / u64::from(rate.max(1)), facts))
}

fn unmeasured(facts: &Facts) -> u64 {
    if facts.tried { u64::MAX } else { 0 }
}

/// A target that fails quickly is not fast: a failure costs as much again.
fn per_success(micros: u64, facts: &Facts) -> u64 {
    micros.saturating_mul(1_000_000) / u64::from(facts.success_ppm.clamp(10_000, 1_000_000))
}

fn reliability(facts: &Facts) -> (bool, u32, u8) {
    (facts.is_available(), facts.success_ppm / 10_000, facts.room_percent)
}

/// Now and then puts another target first, one that can be asked. Where the first was never tried, asking it is exploration enough.
fn explore(leg: &mut [u16], draws: &mut Draws, facts: impl Fn(&u16) -> Facts) {
    if leg.first().is_none_or(|first| !facts(first).tried) || draws.below(EXPLORE_ONE_IN) != 0 {
        return;
    }
    let others = || (1..leg.len()).filter(|place| facts(&leg[*place]).is_available());
    let count = others().count() as u64;
    let chosen = (count > 0).then(|| draws.below(count)).and_then(|nth| others().nth(usize::try_from(nth).ok()?));
    if let Some(chosen) = chosen {
        leg[..=chosen].rotate_right(1);
    }
}

/// Draws without replacement: each place goes to one of the remaining targets with the probability of its weight.
fn draw(leg: &mut [u16], draws: &mut Draws, weight: impl Fn(&u16) -> u32) {
    for place in 0..leg.len() {
        let rest = &leg[place..];
        let total: u64 = rest.iter().map(|one| u64::from(weight(one))).sum();
        if total == 0 {
            return;
        }
        let mut point = draws.below(total);
        let chosen = rest.iter().position(|one| match point.checked_sub(u64::from(weight(one))) {
            Some(left) => {
                point = left;
                false
            }
            None => true,
        });
        // Rotating keeps the order of those that were not chosen, which decides when the rest weighs nothing.
        leg[place..=place + chosen.unwrap_or(0)].rotate_right(1);
    }
}

#[cfg(test)]
mod tests;
