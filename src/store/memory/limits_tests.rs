//! Limits under every order of events that a virtual clock and many clients can bring about.

use super::*;
use crate::domain::Period;
use proptest::prelude::*;

fn limit(measure: Measure, amount: u64) -> Limit {
    Limit { measure, amount }
}

fn subject(scope: Scope, name: &str, limits: &[Limit]) -> Subject {
    Subject { scope, name: name.into(), limits: limits.into() }
}

const PER_MINUTE: Measure = Measure::Requests(Period::Minute);
const TOKENS: Measure = Measure::Tokens(Period::Minute);

#[test]
fn nothing_is_charged_anywhere_when_one_bucket_refuses() {
    let (limits, now) = (MemoryLimits::default(), Instant::now());
    let key = || subject(Scope::Key, "k", &[limit(PER_MINUTE, 10), limit(TOKENS, 1000)]);
    let user = || subject(Scope::User, "u", &[limit(PER_MINUTE, 1)]);
    assert!(limits.take(vec![key(), user()], 100, now).0.is_ok());
    for _ in 0..5 {
        let (refused, standings) = limits.take(vec![key(), user()], 100, now);
        let refused = refused.unwrap_err();
        assert_eq!((refused.scope, refused.limit.measure, refused.name()), (Scope::User, PER_MINUTE, "user_requests"));
        assert_eq!(refused.wait, Wait::For(Duration::from_secs(60)));
        assert_eq!(standings.requests.unwrap().remaining, 0);
        assert_eq!(standings.tokens.unwrap().remaining, 900);
    }
    let (_, standings) = limits.take(vec![key()], 100, now);
    assert_eq!((standings.requests.unwrap().remaining, standings.tokens.unwrap().remaining), (8, 800));
}

#[test]
fn the_tightest_bucket_is_the_one_that_is_told() {
    let (limits, now) = (MemoryLimits::default(), Instant::now());
    let wide = limit(Measure::Requests(Period::Day), 1000);
    let key = || subject(Scope::Key, "k", &[wide, limit(PER_MINUTE, 60)]);
    let (_, standings) = limits.take(vec![key()], 0, now);
    let told = standings.requests.unwrap();
    assert_eq!((told.limit, told.remaining, told.reset), (60, 59, Duration::from_secs(1)));
    assert_eq!(standings.tokens, None);
}

#[test]
fn of_several_refusals_the_longest_wait_is_told() {
    let (limits, now) = (MemoryLimits::default(), Instant::now());
    let key = || subject(Scope::Key, "k", &[limit(PER_MINUTE, 1), limit(TOKENS, 100)]);
    assert!(limits.take(vec![key()], 100, now).0.is_ok());
    let refused = limits.take(vec![key()], 10, now).0.unwrap_err();
    assert_eq!((refused.limit.measure, refused.wait), (PER_MINUTE, Wait::For(Duration::from_secs(60))));
    let refused = limits.take(vec![key()], 101, now).0.unwrap_err();
    assert_eq!((refused.limit.measure, refused.wait, refused.requested), (TOKENS, Wait::Never, 101));
}

#[test]
fn usage_beyond_the_reservation_is_a_debt() {
    let (limits, now) = (MemoryLimits::default(), Instant::now());
    let key = || subject(Scope::Key, "k", &[limit(TOKENS, 600)]);
    let lease = limits.take(vec![key()], 100, now).0.unwrap();
    limits.settle(lease, 1200, now);
    let refused = limits.take(vec![key()], 1, now).0.unwrap_err();
    assert_eq!(refused.wait, Wait::For(Duration::from_millis(60_100)));
    assert!(limits.take(vec![key()], 0, now).0.is_err(), "a request that is estimated at nothing passes in debt");
}

#[test]
fn a_changed_limit_holds_at_once_and_forgets_nothing() {
    let (limits, now) = (MemoryLimits::default(), Instant::now());
    let key = |amount| subject(Scope::Key, "k", &[limit(PER_MINUTE, amount)]);
    for _ in 0..3 {
        assert!(limits.take(vec![key(10)], 0, now).0.is_ok());
    }
    assert_eq!(limits.take(vec![key(100)], 0, now).1.requests.unwrap().remaining, 6);
    assert_eq!(limits.take(vec![key(2)], 0, now).1.requests.unwrap().remaining, 1);
}

#[test]
fn invented_users_do_not_grow_it_without_end_and_push_no_key_out() {
    let (limits, now) = (MemoryLimits::bounded(100), Instant::now());
    let key = || subject(Scope::Key, "k", &[limit(PER_MINUTE, 1)]);
    limits.settle(limits.take(vec![key()], 0, now).0.unwrap(), 0, now);
    for n in 0..1000 {
        let user = subject(Scope::User, &format!("u{n}"), &[limit(PER_MINUTE, 5)]);
        limits.settle(limits.take(vec![user], 0, now).0.unwrap(), 0, now);
    }
    assert_eq!((limits.subjects(Scope::User), limits.subjects(Scope::Key)), (100, 1));
    assert!(limits.take(vec![key()], 0, now).0.is_err(), "the key's bucket was forgotten");
}

#[test]
fn full_buckets_are_forgotten_before_others() {
    let (limits, now) = (MemoryLimits::bounded(LOOKED_AT), Instant::now());
    let user = |n: usize| subject(Scope::User, &format!("u{n}"), &[limit(PER_MINUTE, 5)]);
    // One of them has had time to fill up again.
    limits.settle(limits.take(vec![user(0)], 0, now).0.unwrap(), 0, now);
    let now = now + Duration::from_secs(60);
    for n in 1..LOOKED_AT {
        limits.settle(limits.take(vec![user(n)], 0, now).0.unwrap(), 0, now);
    }
    assert!(limits.take(vec![user(1000)], 0, now).0.is_ok());
    for n in 1..LOOKED_AT {
        assert_eq!(limits.take(vec![user(n)], 0, now).1.requests.unwrap().remaining, 3, "u{n} was forgotten");
    }
}

#[test]
fn who_has_a_request_in_flight_is_not_forgotten() {
    let (limits, now) = (MemoryLimits::bounded(4), Instant::now());
    let user = |n: usize| subject(Scope::User, &format!("u{n}"), &[limit(Measure::Concurrency, 1)]);
    let leases: Vec<_> = (0..20).map(|n| limits.take(vec![user(n)], 0, now).0.unwrap()).collect();
    for n in 0..20 {
        assert_eq!(limits.take(vec![user(n)], 0, now).0.unwrap_err().wait, Wait::Place);
    }
    leases.into_iter().for_each(|lease| limits.settle(lease, 0, now));
    for n in 0..20 {
        limits.settle(limits.take(vec![user(n)], 0, now).0.unwrap(), 0, now);
    }
}

#[test]
fn threads_at_the_same_moment_get_exactly_the_limit() {
    let (limits, now) = (MemoryLimits::default(), Instant::now());
    let key = || subject(Scope::Key, "k", &[limit(PER_MINUTE, 1000), limit(TOKENS, 1_000_000)]);
    let passed: usize = std::thread::scope(|scope| {
        let work = || (0..400).filter(|_| limits.take(vec![key()], 10, now).0.is_ok()).count();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 1000);
}

/// What one of the clients does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Begins a request with this estimate.
    Ask { client: usize, estimate: u64 },
    /// Its oldest request ends, having used this share of what was reserved, in percent.
    End { client: usize, used: u64 },
    /// Time goes on.
    Pass { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_usize, 1..300_u64).prop_map(|(client, estimate)| Step::Ask { client, estimate }),
        3 => (0..6_usize, 0..100_u64).prop_map(|(client, used)| Step::End { client, used }),
        2 => (0..20_000_u64).prop_map(|millis| Step::Pass { millis }),
    ]
}

proptest! {
    /// Six clients of two keys, in any interleaving: at no time have more requests or tokens passed than the buckets held at the
    /// beginning and have taken in since, never are more in flight than may be, and in the end everything reserved has come back.
    #[test]
    fn never_more_than_the_limit_passes_and_what_was_reserved_comes_back(steps in prop::collection::vec(step(), 1..250)) {
        const REQUESTS: u64 = 20;
        const MOST_TOKENS: u64 = 1000;
        const AT_ONCE: u64 = 5;
        let limits = MemoryLimits::default();
        let wanted = [limit(PER_MINUTE, REQUESTS), limit(TOKENS, MOST_TOKENS), limit(Measure::Concurrency, AT_ONCE)];
        let subjects = |client: usize| vec![
            subject(Scope::Key, ["a", "b"][client % 2], &wanted),
            subject(Scope::User, &format!("u{client}"), &[limit(TOKENS, MOST_TOKENS / 2)]),
        ];
        let start = Instant::now();
        let mut now = start;
        let mut leases: Vec<Vec<Lease>> = (0..6).map(|_| Vec::new()).collect();
        // By key: requests passed, tokens used or reserved, requests in flight.
        let mut passed = [(0_u64, 0_u64, 0_u64); 2];
        for step in steps {
            match step {
                Step::Pass { millis } => now += Duration::from_millis(millis),
                Step::Ask { client, estimate } => {
                    if let Ok(lease) = limits.take(subjects(client), estimate, now).0 {
                        leases[client].push(lease);
                        let key = &mut passed[client % 2];
                        *key = (key.0 + 1, key.1 + estimate, key.2 + 1);
                    }
                }
                Step::End { client, used } if !leases[client].is_empty() => {
                    let lease = leases[client].remove(0);
                    let used = lease.tokens * used / 100;
                    let key = &mut passed[client % 2];
                    *key = (key.0, key.1 - (lease.tokens - used), key.2 - 1);
                    limits.settle(lease, used, now);
                }
                Step::End { .. } => {}
            }
            let minutes = (now - start).as_secs_f64() / 60.0;
            let within = |passed: u64, amount: u64| passed as f64 <= amount as f64 * (1.0 + minutes) + 1e-6;
            for (requests, tokens, in_flight) in passed {
                prop_assert!(within(requests, REQUESTS), "{requests} requests in {minutes} min");
                prop_assert!(within(tokens, MOST_TOKENS), "{tokens} tokens in {minutes} min");
                prop_assert!(in_flight <= AT_ONCE);
            }
        }
        for lease in leases.into_iter().flatten() {
            limits.settle(lease, 0, now);
        }
        now += Duration::from_secs(60);
        for client in 0..2 {
            let (granted, standings) = limits.take(subjects(client), 1, now);
            prop_assert!(granted.is_ok());
            prop_assert_eq!(standings.requests.unwrap().remaining, REQUESTS - 1);
            // The user's bucket is the tighter one.
            prop_assert_eq!(standings.tokens.unwrap().remaining, MOST_TOKENS / 2 - 1);
            let places: Vec<_> = (0..10).filter_map(|_| limits.take(subjects(client), 1, now).0.ok()).collect();
            prop_assert_eq!(places.len() as u64, AT_ONCE - 1);
        }
    }

    /// Without time passing the sums are exact: what remains is what was there less what was used.
    #[test]
    fn what_is_left_is_exact(uses in prop::collection::vec((1..50_u64, 0..80_u64), 1..20)) {
        let (limits, now) = (MemoryLimits::default(), Instant::now());
        let key = || subject(Scope::Key, "k", &[limit(TOKENS, 10_000)]);
        let mut left = 10_000;
        for (estimate, used) in uses {
            let lease = limits.take(vec![key()], estimate, now).0.unwrap();
            limits.settle(lease, used, now);
            left -= used;
        }
        prop_assert_eq!(limits.take(vec![key()], 1, now).1.tokens.unwrap().remaining, left - 1);
    }
}
