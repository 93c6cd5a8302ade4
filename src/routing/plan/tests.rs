//! Each strategy by itself, and that a decision repeats.

use super::*;
use crate::domain::decision::Refusal;

fn candidate(name: &str, leg: u16, facts: Facts) -> Candidate {
    Candidate { provider: name.into(), model: "m".into(), leg, refusal: None, facts }
}

fn rules(strategy: Strategy) -> Rules {
    // This seed explores nothing in its first draw.
    Rules { strategy, seed: 1, ..Rules::default() }
}

fn names(rules: &Rules, candidates: &[Candidate]) -> Vec<String> {
    order(rules, candidates).iter().map(|place| candidates[usize::from(*place)].provider.to_string()).collect()
}

fn ordered(strategy: Strategy, list: &[(&str, u16, Facts)]) -> Vec<String> {
    let list: Vec<_> = list.iter().map(|(name, leg, facts)| candidate(name, *leg, *facts)).collect();
    names(&rules(strategy), &list)
}

fn priced(picos: u64) -> Facts {
    Facts { price_picos: Some(picos), ..Facts::UNKNOWN }
}

fn timed(first_ms: u32, rate: u32) -> Facts {
    Facts { first_output_us: Some(first_ms * 1000), rate_milli: Some(rate * 1000), tried: true, ..Facts::UNKNOWN }
}

#[test]
fn legs_stay_in_the_clients_order_unless_it_says_otherwise() {
    let list = [("dear", 0, priced(9)), ("cheap fallback", 1, priced(1)), ("cheap", 0, priced(2))];
    assert_eq!(ordered(Strategy::Cheap, &list), ["cheap", "dear", "cheap fallback"]);
    assert_eq!(ordered(Strategy::Order, &list), ["dear", "cheap", "cheap fallback"]);
    let list: Vec<_> = list.iter().map(|(name, leg, facts)| candidate(name, *leg, *facts)).collect();
    let across = Rules { across_models: true, ..rules(Strategy::Cheap) };
    assert_eq!(names(&across, &list), ["cheap fallback", "cheap", "dear"]);
}

#[test]
fn a_target_without_a_price_is_last_under_cheap_and_ties_stay_as_configured() {
    let list = [("unknown", 0, Facts::UNKNOWN), ("b", 0, priced(5)), ("a", 0, priced(5)), ("free", 0, priced(0))];
    assert_eq!(ordered(Strategy::Cheap, &list), ["free", "b", "a", "unknown"]);
}

#[test]
fn fast_weighs_the_first_output_and_the_speed() {
    let broken = Facts { success_ppm: 0, tried: true, ..Facts::UNKNOWN };
    // 300 tokens: 0.1 s + 30 s; 2 s + 3 s; 1 s + 6 s.
    let list = [
        ("broken", 0, broken),
        ("eager", 0, timed(100, 10)),
        ("swift", 0, timed(2000, 100)),
        ("fair", 0, timed(1000, 50)),
    ];
    assert_eq!(ordered(Strategy::Fast, &list), ["swift", "fair", "eager", "broken"]);
    assert_eq!(ordered(Strategy::Latency, &list), ["eager", "fair", "swift", "broken"]);
    assert_eq!(ordered(Strategy::Throughput, &list), ["swift", "fair", "eager", "broken"]);
    let new = [("quick", 0, timed(1, 1000)), ("new", 0, Facts::UNKNOWN)];
    assert_eq!(ordered(Strategy::Fast, &new), ["new", "quick"], "the untried gets its chance");
    let failing = Facts { success_ppm: 100_000, ..timed(100, 100) };
    let list = [("fails quickly", 0, failing), ("slower", 0, timed(300, 50))];
    assert_eq!(ordered(Strategy::Fast, &list), ["slower", "fails quickly"]);
}

#[test]
fn a_measured_strategy_explores_now_and_then_but_nothing_that_cannot_be_asked() {
    let open = Facts { breaker: Breaker::Open, ..timed(50, 10) };
    let list = [("best", 0, timed(1, 100)), ("other", 0, timed(9, 10)), ("open", 0, open), ("third", 0, timed(99, 10))];
    let list = list.map(|(name, leg, facts)| candidate(name, leg, facts));
    let mut first = std::collections::BTreeMap::<String, u32>::new();
    for seed in 0..100_000 {
        *first.entry(names(&Rules { seed, ..rules(Strategy::Fast) }, &list).remove(0)).or_default() += 1;
    }
    assert_eq!(first.get("open"), None);
    let expected = 100_000 / u32::try_from(EXPLORE_ONE_IN).unwrap() / 2;
    assert!(first["other"].abs_diff(expected) < 120 && first["third"].abs_diff(expected) < 120, "{first:?}");
}

#[test]
fn reliable_prefers_what_works_and_has_keys_left() {
    let of = |success: u32, room_percent: u8| Facts {
        success_ppm: success * 10_000,
        room_percent,
        tried: true,
        ..Facts::UNKNOWN
    };
    let open = Facts { breaker: Breaker::Open, ..of(100, 100) };
    let list = [
        ("open", 0, open),
        ("shaky", 0, of(50, 100)),
        ("no key", 0, of(100, 0)),
        ("short", 0, of(99, 25)),
        ("solid", 0, of(99, 100)),
    ];
    assert_eq!(ordered(Strategy::Reliable, &list), ["solid", "short", "shaky", "open", "no key"]);
}

#[test]
fn weighted_draws_in_proportion() {
    let weighs = |weight| Facts { weight, ..Facts::UNKNOWN };
    let list = [("50", 0, weighs(50)), ("30", 0, weighs(30)), ("20", 0, weighs(20)), ("0", 0, weighs(0))];
    let list = list.map(|(name, leg, facts)| candidate(name, leg, facts));
    let mut first = [0u32; 4];
    for seed in 0..10_000 {
        let order = order(&Rules { seed, ..rules(Strategy::Weighted) }, &list);
        first[usize::from(order[0])] += 1;
        assert_eq!((order.len(), order[3]), (4, 3), "what weighs nothing comes last");
    }
    assert!(
        first[0].abs_diff(5000) < 200 && first[1].abs_diff(3000) < 200 && first[2].abs_diff(2000) < 200,
        "{first:?}"
    );
    let none = [("a", 0, weighs(0)), ("b", 0, weighs(0))];
    assert_eq!(ordered(Strategy::Weighted, &none), ["a", "b"]);
}

#[test]
fn a_session_keeps_its_target_and_only_its_own_requests_move_when_that_goes() {
    let all: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| candidate(name, 0, timed(1, 1))).collect();
    let mut gone = all.clone();
    gone[1].refusal = Some(Refusal::Ignored);
    let mut count = [0u32; 4];
    for session in 0..4000u64 {
        let rules = |seed| Rules { affinity: Some(mix(session)), seed, ..rules(Strategy::Fast) };
        let first = order(&rules(1), &all)[0];
        count[usize::from(first)] += 1;
        assert_eq!(order(&rules(2), &all)[0], first, "whatever the seed");
        let moved = order(&rules(1), &gone)[0];
        assert!(moved == first || first == 1, "session {session} moved from {first} to {moved}");
    }
    assert!(count.iter().all(|n| n.abs_diff(1000) < 120), "{count:?}");
    let steady = Rules { affinity: Some(3), ..rules(Strategy::Order) };
    assert_eq!(names(&steady, &all), ["a", "b", "c", "d"]);
}

#[test]
fn a_session_follows_the_weights() {
    let weighs = |name: &str, weight| candidate(name, 0, Facts { weight, ..Facts::UNKNOWN });
    let list = [weighs("much", 80), weighs("little", 20), weighs("none", 0)];
    let mut count = [0u32; 3];
    for session in 0..10_000u64 {
        let rules = Rules { affinity: Some(mix(session)), ..rules(Strategy::Weighted) };
        count[usize::from(order(&rules, &list)[0])] += 1;
    }
    assert!(count[0].abs_diff(8000) < 200 && count[1].abs_diff(2000) < 200 && count[2] == 0, "{count:?}");
}

#[test]
fn the_requests_own_order_goes_first_and_what_misses_its_preference_last() {
    let ranked = Facts { rank: 0, ..priced(9) };
    let slow = Facts { misses_preference: true, ..priced(1) };
    let list = [("slow", 0, slow), ("cheap", 0, priced(2)), ("named", 0, ranked), ("fallback", 1, priced(3))];
    assert_eq!(ordered(Strategy::Cheap, &list), ["named", "cheap", "fallback", "slow"]);
}

#[test]
fn what_is_refused_is_not_in_the_order_and_the_limit_holds() {
    let mut list = ["a", "b", "c"].map(|name| candidate(name, 0, Facts::UNKNOWN));
    list[0].refusal = Some(Refusal::NoTools);
    assert_eq!(names(&rules(Strategy::Order), &list), ["b", "c"]);
    assert_eq!(names(&Rules { limit: Some(1), ..rules(Strategy::Order) }, &list), ["b"]);
}

proptest::proptest! {
    /// Written as JSON and read again, as `orbyt explain` does, a decision repeats, whatever was known.
    #[test]
    fn a_decision_repeats_from_its_record(
        strategy in 0usize..Strategy::ALL.len(),
        seed: u64,
        affinity: Option<u64>,
        across_models: bool,
        facts in proptest::collection::vec(
            (0u16..3, proptest::option::of(0u64..5), proptest::option::of(0u32..9_000_000), proptest::option::of(0u32..900_000), 0u32..=1_000_000, 0u32..4, proptest::prelude::any::<bool>()),
            0..12,
        ),
    ) {
        let rules = Rules { strategy: Strategy::ALL[strategy], seed, affinity, across_models, limit: None };
        let one = |(at, (leg, price_picos, first_output_us, rate_milli, success_ppm, weight, tried)): (usize, _)| Candidate {
            refusal: (weight == 3).then_some(Refusal::ContextTooShort { context: 9 }),
            ..candidate(&format!("p{at}"), leg, Facts { price_picos, first_output_us, rate_milli, success_ppm, weight, tried, ..Facts::UNKNOWN })
        };
        let candidates: Vec<_> = facts.into_iter().enumerate().map(one).collect();
        let order = order(&rules, &candidates);
        let decision = Decision { rules, candidates, order, ..Decision::default() };
        let read: Decision = serde_json::from_value(serde_json::to_value(&decision).unwrap()).unwrap();
        proptest::prop_assert_eq!(&read, &decision);
        proptest::prop_assert!(repeats(&read));
    }
}
