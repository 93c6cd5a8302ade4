//! What every store of limits does, whether it is one node's memory or a Redis that nodes share: the same functions over both, on a clock
//! of their own.

use crate::redis_server::RedisServer;
use futures::future::join_all;
use orbyt::domain::{Limit, Measure, Period, Scope, Secret};
use orbyt::store::memory::MemoryLimits;
use orbyt::store::ports::limits::{Denied, Lease, LimitStore, Refusal, Standings, Subject, Wait};
use orbyt::store::redis::{Redis, RedisLimits, Settings};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PER_MINUTE: Measure = Measure::Requests(Period::Minute);
const TOKENS: Measure = Measure::Tokens(Period::Minute);

/// A store on trial.
struct Trial {
    store: Arc<dyn LimitStore>,
    start: Instant,
    shared: Option<(Arc<RedisLimits>, Redis, RedisServer)>,
}

impl Trial {
    fn memory() -> Self {
        Self { store: Arc::new(MemoryLimits::default()), start: Instant::now(), shared: None }
    }

    async fn redis() -> Self {
        let server = RedisServer::start().await;
        let redis = Redis::start(settings(&server), |event| panic!("{event:?}")).unwrap();
        assert!(redis.status().up);
        let start = Instant::now();
        let limits = Arc::new(redis.limits().with_callers_clock(start));
        Self { store: limits.clone(), start, shared: Some((limits, redis, server)) }
    }

    async fn take(&self, subjects: Vec<Subject>, tokens: u64, now: Instant) -> (Result<Lease, Refusal>, Standings) {
        let (granted, standings) = self.store.acquire(subjects, tokens, now).await;
        let refusal = |denied| match denied {
            Denied::Reached(refusal) => refusal,
            Denied::Outage => panic!("the store does not answer"),
        };
        (granted.map_err(refusal), standings)
    }

    async fn settle(&self, lease: Lease, used: u64, now: Instant) {
        self.store.settle(lease, used, now);
        if let Some((limits, ..)) = &self.shared {
            limits.settled().await;
        }
    }
}

/// Patient, because many tests run at once.
fn settings(server: &RedisServer) -> Settings {
    let (timeout, node_ttl) = (Duration::from_secs(10), Duration::from_secs(60));
    Settings { url: Secret::new(server.url()), ca: None, timeout, node_ttl }
}

fn limit(measure: Measure, amount: u64) -> Limit {
    Limit { measure, amount }
}

fn subject(scope: Scope, name: &str, limits: &[Limit]) -> Subject {
    Subject { scope, name: name.into(), limits: limits.into() }
}

/// The same but for rounding.
fn close(a: Duration, b: Duration) -> bool {
    a.abs_diff(b) <= Duration::from_micros(10)
}

fn waits(refusal: &Refusal, expected: Duration) -> bool {
    matches!(refusal.wait, Wait::For(wait) if close(wait, expected))
}

/// Each function over both stores.
macro_rules! over_both {
    ($($name:ident),* $(,)?) => {
        mod over_memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::Trial::memory()).await;
            })*
        }
        mod over_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&super::Trial::redis().await).await;
            })*
        }
    };
}

over_both!(
    nothing_is_charged_anywhere_when_one_bucket_refuses,
    the_tightest_bucket_is_the_one_that_is_told,
    of_several_refusals_the_longest_wait_is_told,
    usage_beyond_the_reservation_is_a_debt,
    a_changed_limit_holds_at_once_and_forgets_nothing,
    places_come_back_and_only_once_each,
    names_that_look_alike_are_different,
    tasks_at_the_same_moment_get_exactly_the_limit,
    never_more_than_the_limit_passes_and_what_was_reserved_comes_back,
    what_is_left_is_exact,
);

async fn nothing_is_charged_anywhere_when_one_bucket_refuses(trial: &Trial) {
    let now = trial.start;
    let key = || subject(Scope::Key, "k", &[limit(PER_MINUTE, 10), limit(TOKENS, 1000)]);
    let user = || subject(Scope::User, "u", &[limit(PER_MINUTE, 1)]);
    assert!(trial.take(vec![key(), user()], 100, now).await.0.is_ok());
    for _ in 0..5 {
        let (refused, standings) = trial.take(vec![key(), user()], 100, now).await;
        let refused = refused.unwrap_err();
        assert_eq!((refused.scope, refused.limit.measure, refused.name()), (Scope::User, PER_MINUTE, "user_requests"));
        assert!(waits(&refused, Duration::from_secs(60)), "{refused:?}");
        assert_eq!(standings.requests.unwrap().remaining, 0);
        assert_eq!(standings.tokens.unwrap().remaining, 900);
    }
    let (_, standings) = trial.take(vec![key()], 100, now).await;
    assert_eq!((standings.requests.unwrap().remaining, standings.tokens.unwrap().remaining), (8, 800));
}

async fn the_tightest_bucket_is_the_one_that_is_told(trial: &Trial) {
    let wide = limit(Measure::Requests(Period::Day), 1000);
    let key = || subject(Scope::Key, "k", &[wide, limit(PER_MINUTE, 60)]);
    let (_, standings) = trial.take(vec![key()], 0, trial.start).await;
    let told = standings.requests.unwrap();
    assert_eq!((told.limit, told.remaining), (60, 59));
    assert!(close(told.reset, Duration::from_secs(1)), "{told:?}");
    assert_eq!(standings.tokens, None);
}

async fn of_several_refusals_the_longest_wait_is_told(trial: &Trial) {
    let now = trial.start;
    let key = || subject(Scope::Key, "k", &[limit(PER_MINUTE, 1), limit(TOKENS, 100)]);
    assert!(trial.take(vec![key()], 100, now).await.0.is_ok());
    let refused = trial.take(vec![key()], 10, now).await.0.unwrap_err();
    assert_eq!(refused.limit.measure, PER_MINUTE);
    assert!(waits(&refused, Duration::from_secs(60)), "{refused:?}");
    let refused = trial.take(vec![key()], 101, now).await.0.unwrap_err();
    assert_eq!((refused.limit.measure, refused.wait, refused.requested), (TOKENS, Wait::Never, 101));
}

async fn usage_beyond_the_reservation_is_a_debt(trial: &Trial) {
    let now = trial.start;
    let key = || subject(Scope::Key, "k", &[limit(TOKENS, 600)]);
    let lease = trial.take(vec![key()], 100, now).await.0.unwrap();
    trial.settle(lease, 1200, now).await;
    let refused = trial.take(vec![key()], 1, now).await.0.unwrap_err();
    assert!(waits(&refused, Duration::from_millis(60_100)), "{refused:?}");
    assert_eq!(refused.remaining, 0);
    assert!(trial.take(vec![key()], 0, now).await.0.is_err(), "a request that is estimated at nothing passes in debt");
}

async fn a_changed_limit_holds_at_once_and_forgets_nothing(trial: &Trial) {
    let now = trial.start;
    let key = |amount| subject(Scope::Key, "k", &[limit(PER_MINUTE, amount)]);
    for _ in 0..3 {
        assert!(trial.take(vec![key(10)], 0, now).await.0.is_ok());
    }
    assert_eq!(trial.take(vec![key(100)], 0, now).await.1.requests.unwrap().remaining, 6);
    assert_eq!(trial.take(vec![key(2)], 0, now).await.1.requests.unwrap().remaining, 1);
}

async fn places_come_back_and_only_once_each(trial: &Trial) {
    let now = trial.start;
    let key = || vec![subject(Scope::Key, "k", &[limit(Measure::Concurrency, 2)])];
    let first = trial.take(key(), 5, now).await.0.unwrap();
    let second = trial.take(key(), 5, now).await.0.unwrap();
    for _ in 0..3 {
        let refused = trial.take(key(), 5, now).await.0.unwrap_err();
        assert_eq!((refused.wait, refused.remaining, refused.requested), (Wait::Place, 0, 1));
    }
    trial.settle(first, 5, now).await;
    let third = trial.take(key(), 5, now).await.0.unwrap();
    assert!(trial.take(key(), 5, now).await.0.is_err());
    trial.settle(second, 5, now).await;
    trial.settle(third, 5, now).await;
    let again =
        [trial.take(key(), 5, now).await.0, trial.take(key(), 5, now).await.0, trial.take(key(), 5, now).await.0];
    assert_eq!(again.map(|granted| granted.is_ok()), [true, true, false]);
}

async fn names_that_look_alike_are_different(trial: &Trial) {
    let now = trial.start;
    let one = [limit(PER_MINUTE, 1)];
    for (scope, name) in
        [(Scope::Key, "a"), (Scope::User, "a"), (Scope::Model, "a"), (Scope::User, "a:b"), (Scope::User, "{a}\r\n*")]
    {
        assert!(trial.take(vec![subject(scope, name, &one)], 0, now).await.0.is_ok(), "{scope:?} {name:?}");
        assert!(trial.take(vec![subject(scope, name, &one)], 0, now).await.0.is_err(), "{scope:?} {name:?}");
    }
}

async fn tasks_at_the_same_moment_get_exactly_the_limit(trial: &Trial) {
    let now = trial.start;
    let key = || subject(Scope::Key, "k", &[limit(PER_MINUTE, 300), limit(TOKENS, 1_000_000)]);
    let tasks = (0..8).map(|_| {
        let store = trial.store.clone();
        tokio::spawn(async move {
            let mut passed = 0;
            for _ in 0..100 {
                passed += usize::from(store.acquire(vec![key()], 10, now).await.0.is_ok());
            }
            passed
        })
    });
    let passed: usize = join_all(tasks).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(passed, 300);
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

/// Six clients of two keys, in any interleaving: at no time have more requests or tokens passed than the buckets held at the beginning and
/// have taken in since, never are more in flight than may be, and in the end everything reserved has come back.
async fn never_more_than_the_limit_passes_and_what_was_reserved_comes_back(trial: &Trial) {
    const REQUESTS: u64 = 20;
    const MOST_TOKENS: u64 = 1000;
    const AT_ONCE: u64 = 5;
    const CASES: usize = 12;
    let wanted = [limit(PER_MINUTE, REQUESTS), limit(TOKENS, MOST_TOKENS), limit(Measure::Concurrency, AT_ONCE)];
    let mut runner = TestRunner::deterministic();
    for case in 0..CASES {
        let steps = prop::collection::vec(step(), 1..200).new_tree(&mut runner).unwrap().current();
        // Others in each case, and time that goes on from case to case.
        let subjects = |client: usize| {
            let (key, user) = (format!("{case}-{}", client % 2), format!("{case}-u{client}"));
            let users = [limit(TOKENS, MOST_TOKENS / 2)];
            vec![subject(Scope::Key, &key, &wanted), subject(Scope::User, &user, &users)]
        };
        let mut now = trial.start;
        let mut leases: Vec<Vec<Lease>> = (0..6).map(|_| Vec::new()).collect();
        // By key: requests passed, tokens used or reserved, requests in flight.
        let mut passed = [(0_u64, 0_u64, 0_u64); 2];
        for step in &steps {
            match *step {
                Step::Pass { millis } => now += Duration::from_millis(millis),
                Step::Ask { client, estimate } => {
                    if let Ok(lease) = trial.take(subjects(client), estimate, now).await.0 {
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
                    trial.settle(lease, used, now).await;
                }
                Step::End { .. } => {}
            }
            let minutes = (now - trial.start).as_secs_f64() / 60.0;
            let within = |passed: u64, amount: u64| passed as f64 <= amount as f64 * (1.0 + minutes) + 1e-6;
            for (requests, tokens, in_flight) in passed {
                assert!(within(requests, REQUESTS), "{requests} requests in {minutes} min: {steps:?}");
                assert!(within(tokens, MOST_TOKENS), "{tokens} tokens in {minutes} min: {steps:?}");
                assert!(in_flight <= AT_ONCE, "{steps:?}");
            }
        }
        for lease in leases.into_iter().flatten() {
            trial.settle(lease, 0, now).await;
        }
        now += Duration::from_secs(60);
        for client in 0..2 {
            let (granted, standings) = trial.take(subjects(client), 1, now).await;
            assert!(granted.is_ok(), "{steps:?}");
            assert_eq!(standings.requests.unwrap().remaining, REQUESTS - 1, "{steps:?}");
            // The user's bucket is the tighter one.
            assert_eq!(standings.tokens.unwrap().remaining, MOST_TOKENS / 2 - 1, "{steps:?}");
            let mut places = 0;
            for _ in 0..10 {
                places += u64::from(trial.take(subjects(client), 1, now).await.0.is_ok());
            }
            assert_eq!(places, AT_ONCE - 1, "{steps:?}");
        }
    }
}

/// Without time passing the sums are exact: what remains is what was there less what was used.
async fn what_is_left_is_exact(trial: &Trial) {
    let key = || vec![subject(Scope::Key, "k", &[limit(TOKENS, 10_000)])];
    let mut left = 10_000;
    for number in 0..40_u64 {
        let (estimate, used) = (number * 7 % 50 + 1, number * 13 % 80);
        let lease = trial.take(key(), estimate, trial.start).await.0.unwrap();
        trial.settle(lease, used, trial.start).await;
        left -= used;
    }
    assert_eq!(trial.take(key(), 1, trial.start).await.1.tokens.unwrap().remaining, left - 1);
}

/// What nobody waits for any more is given back: it had been granted all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_is_given_up_reserves_nothing() {
    let trial = Trial::redis().await;
    let key = || vec![subject(Scope::Key, "k", &[limit(Measure::Concurrency, 1), limit(TOKENS, 1000)])];
    for _ in 0..50 {
        let asked = trial.store.acquire(key(), 100, trial.start);
        // Polled once: the question is on its way.
        let _ = tokio::time::timeout(Duration::ZERO, asked)
            .await
            .map(|(granted, _)| granted.map(|lease| trial.store.settle(lease, 0, trial.start)));
    }
    let begun = Instant::now();
    loop {
        let (granted, standings) = trial.take(key(), 100, trial.start).await;
        if granted.is_ok() {
            assert_eq!(standings.tokens.unwrap().remaining, 900);
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{standings:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
