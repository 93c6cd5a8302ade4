//! Tests of the pool: time and chance are arguments.

use super::*;
use crate::domain::{KeyQuota, RateLimit, RateLimits, Secret};
use proptest::prelude::*;

const TTL: Duration = Duration::from_secs(600);

struct Bench {
    pool: MemoryKeyPool,
    provider: Arc<str>,
    keys: Vec<Arc<ProviderKey>>,
    now: Instant,
    random: u64,
}

impl Bench {
    fn of(keys: Vec<ProviderKey>) -> Self {
        let keys = keys.into_iter().map(Arc::new).collect();
        Self { pool: MemoryKeyPool::default(), provider: "openai".into(), keys, now: Instant::now(), random: 0 }
    }

    fn new(count: usize) -> Self {
        Self::of((1..=count).map(|n| key(&format!("key_{n:02}"))).collect())
    }

    fn ask<'a>(&'a self, tried: &'a [KeyId]) -> Ask<'a> {
        Ask { provider: &self.provider, keys: &self.keys, tried, tokens: 0 }
    }

    fn lease(&mut self) -> Result<Leased, NoKey> {
        self.random += 1;
        self.pool.lease(&self.ask(&[]), TTL, self.random, self.now)
    }

    fn back(&self, leased: &Leased, outcome: KeyOutcome) -> Option<KeyState> {
        self.pool.give_back(&self.provider, &leased.ticket, Returned::with(outcome), self.now)
    }

    /// Leases and gives back.
    fn use_once(&mut self, outcome: KeyOutcome) -> (usize, Option<KeyState>) {
        let leased = self.lease().unwrap();
        (leased.place, self.back(&leased, outcome))
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn wait(&mut self) -> Option<u64> {
        let no_key = self.lease().unwrap_err();
        no_key.ready_in.map(|left| left.as_secs())
    }
}

fn key(name: &str) -> ProviderKey {
    ProviderKey::new(name, Secret::new(format!("secret of {name}")))
}

fn grouped(name: &str, group: &str) -> ProviderKey {
    ProviderKey { group: Some(group.into()), ..key(name) }
}

fn limited(asked: u64) -> KeyOutcome {
    KeyOutcome::RateLimited(Some(Duration::from_secs(asked)))
}

#[test]
fn two_equal_keys_take_turns_and_the_least_leased_goes_first() {
    let mut bench = Bench::new(2);
    let leased: Vec<Leased> = (0..4).map(|_| bench.lease().unwrap()).collect();
    let places: Vec<usize> = leased.iter().map(|leased| leased.place).collect();
    assert!(places == [0, 1, 0, 1] || places == [1, 0, 1, 0], "{places:?}");
    bench.back(&leased[1], KeyOutcome::Good);
    assert_eq!(bench.lease().unwrap().place, leased[1].place);
}

#[test]
fn many_equal_keys_share_the_load() {
    let mut bench = Bench::new(10);
    let mut uses = [0u32; 10];
    (0..10_000).for_each(|_| uses[bench.use_once(KeyOutcome::Good).0] += 1);
    assert!(uses.iter().all(|count| (800..1_200).contains(count)), "{uses:?}");
}

#[test]
fn the_better_of_two_is_chosen_and_nobody_starves() {
    let mut bench = Bench::new(4);
    let sick = bench.keys[0].id;
    let mut uses = [0u32; 4];
    for _ in 0..4_000 {
        let leased = bench.lease().unwrap();
        uses[leased.place] += 1;
        // One key keeps running into limits that pass at once.
        let outcome =
            if leased.ticket.key == sick { KeyOutcome::RateLimited(Some(Duration::ZERO)) } else { KeyOutcome::Good };
        bench.back(&leased, outcome);
        bench.pass(1);
    }
    assert!(uses[0] < 250, "the doubtful key is asked as often as the others: {uses:?}");
    assert!(uses[0] > 0, "its record fades, so that it gets another chance");
}

#[test]
fn a_rate_limited_key_rests_and_returns() {
    let mut bench = Bench::new(2);
    let leased = bench.lease().unwrap();
    let state = bench.back(&leased, limited(7));
    assert_eq!(state, Some(KeyState::Cooldown { left: Duration::from_secs(7), why: RATE_LIMITED }));
    for _ in 0..3 {
        assert_ne!(bench.use_once(KeyOutcome::Good).0, leased.place);
    }
    bench.keys = vec![bench.keys[leased.place].clone()];
    assert_eq!(bench.wait(), Some(7));
    assert!(!bench.pool.any_ready(&bench.ask(&[]), bench.now));
    assert_eq!(bench.pool.ready_in(&bench.ask(&[]), bench.now), Some(Duration::from_secs(7)));
    bench.pass(7);
    assert!(bench.lease().unwrap().revived, "that it is back is told");
    assert!(!bench.lease().unwrap().revived, "once");
}

#[test]
fn the_longer_of_two_deadlines_wins() {
    let mut bench = Bench::new(1);
    let (one, other) = (bench.lease().unwrap(), bench.lease().unwrap());
    bench.back(&one, limited(60));
    bench.back(&other, limited(5));
    assert_eq!(bench.wait(), Some(60));
    bench.back(&other, KeyOutcome::Exhausted(None));
    assert_eq!(bench.wait(), Some(120));
    bench.back(&other, limited(5));
    assert_eq!(bench.pool.statuses(bench.now)[0].state.name(), "exhausted");
    bench.back(&other, KeyOutcome::Exhausted(Some(Duration::from_secs(600))));
    bench.back(&other, KeyOutcome::Exhausted(None));
    assert_eq!(bench.wait(), Some(600), "unless told longer");
}

#[test]
fn without_a_retry_after_cooldowns_double() {
    let mut bench = Bench::new(1);
    let mut waits = Vec::new();
    for _ in 0..8 {
        match bench.use_once(KeyOutcome::RateLimited(None)).1 {
            Some(KeyState::Cooldown { left, .. }) => {
                waits.push(left.as_secs());
                bench.pass(left.as_secs());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn a_refused_key_is_out_until_it_is_enabled() {
    let mut bench = Bench::new(1);
    assert_eq!(bench.use_once(KeyOutcome::Refused).1, Some(KeyState::Disabled));
    bench.pass(100_000);
    assert_eq!(bench.wait(), None);
    assert!(bench.pool.enable("openai", bench.keys[0].id));
    assert!(!bench.pool.enable("openai", bench.keys[0].id));
    assert_eq!(bench.use_once(KeyOutcome::Refused).1, Some(KeyState::Disabled));
    let keys = bench.keys.clone();
    bench.pool.configure(&[(bench.provider.clone(), &keys)], bench.now);
    assert!(bench.lease().is_ok());
}

#[test]
fn a_key_is_known_by_its_text_and_not_by_its_name() {
    let mut bench = Bench::new(1);
    let of_the_old = bench.lease().unwrap();
    let new = Arc::new(ProviderKey::new("key_01", Secret::new("rotated")));
    bench.pool.configure(&[(bench.provider.clone(), std::slice::from_ref(&new))], bench.now);
    bench.keys = vec![new];
    assert_eq!(bench.back(&of_the_old, KeyOutcome::Refused), None);
    assert!(bench.lease().is_ok(), "a late 401 of the old key has disabled the new one");
}

#[test]
fn a_tried_key_is_not_leased_again() {
    let bench = Bench::new(2);
    let tried = [bench.keys[0].id, bench.keys[1].id];
    assert_eq!(bench.pool.lease(&bench.ask(&tried[..1]), TTL, 1, bench.now).unwrap().place, 1);
    assert!(bench.pool.lease(&bench.ask(&tried), TTL, 1, bench.now).is_err());
}

#[test]
fn a_limit_of_one_key_of_a_group_rests_them_all_at_every_provider() {
    let mut bench = Bench::of(vec![grouped("a", "org"), grouped("b", "org"), key("alone")]);
    let elsewhere: Vec<Arc<ProviderKey>> = vec![Arc::new(grouped("c", "org"))];
    let other: Arc<str> = "azure".into();
    bench.pool.configure(&[(bench.provider.clone(), &bench.keys), (other.clone(), &elsewhere)], bench.now);
    let tried = [bench.keys[1].id, bench.keys[2].id];
    let leased = bench.pool.lease(&bench.ask(&tried), TTL, 1, bench.now).unwrap();
    bench.back(&leased, limited(30));
    let states: Vec<_> = bench.pool.statuses(bench.now).into_iter().map(|one| (one.key, one.state)).collect();
    let resting = |why| KeyState::Cooldown { left: Duration::from_secs(30), why };
    let expected = [
        ("c", resting(GROUP)),
        ("a", resting(RATE_LIMITED)),
        ("alone", KeyState::Ready { leases: 0 }),
        ("b", resting(GROUP)),
    ];
    assert_eq!(states, expected.map(|(name, state)| (name.into(), state)));
    assert_eq!(bench.lease().unwrap().place, 2);
    let ask = Ask { provider: &other, keys: &elsewhere, tried: &[], tokens: 0 };
    assert!(bench.pool.lease(&ask, TTL, 1, bench.now).is_err());
    // That one key of it is refused is that key's affair.
    bench.pass(30);
    let leased = bench.pool.lease(&bench.ask(&tried), TTL, 1, bench.now).unwrap();
    bench.back(&leased, KeyOutcome::Refused);
    assert!(bench.pool.lease(&ask, TTL, 1, bench.now).is_ok());
}

#[test]
fn own_limits_bind_and_the_wait_is_known() {
    let quota = KeyQuota { rpm: Some(2), tpm: None };
    let mut bench = Bench::of(vec![ProviderKey { quota, ..key("small") }, key("large")]);
    // All at once, so that the smaller one is asked too although it has less room.
    let mut uses = [0; 2];
    (0..100).for_each(|_| uses[bench.lease().unwrap().place] += 1);
    assert_eq!(uses, [1, 99], "its last one is kept for when nobody else can");
    bench.keys.truncate(1);
    assert!(bench.lease().is_ok());
    assert_eq!(bench.wait(), Some(30));
    assert_eq!(
        bench.pool.statuses(bench.now).last().unwrap().state,
        KeyState::Cooldown { left: Duration::from_secs(30), why: OWN_LIMIT }
    );
    bench.pass(30);
    assert!(bench.lease().is_ok());
}

#[test]
fn tokens_are_reserved_by_estimate_and_settled_by_usage() {
    let quota = KeyQuota { rpm: None, tpm: Some(6_000) };
    let bench = Bench::of(vec![ProviderKey { quota, ..key("one") }]);
    let ask = Ask { tokens: 5_000, ..bench.ask(&[]) };
    let leased = bench.pool.lease(&ask, TTL, 1, bench.now).unwrap();
    assert_eq!(bench.pool.lease(&ask, TTL, 1, bench.now), Err(NoKey { ready_in: Some(Duration::from_secs(40)) }));
    let returned = Returned { tokens: Some(500), ..Returned::with(KeyOutcome::Good) };
    bench.pool.give_back("openai", &leased.ticket, returned, bench.now);
    assert!(bench.pool.lease(&ask, TTL, 1, bench.now).is_ok());
}

#[test]
fn keys_are_ranked_by_what_their_provider_says_is_left() {
    let mut bench = Bench::new(2);
    let tell = |bench: &mut Bench, remaining| {
        let leased = bench.lease().unwrap();
        let requests = Some(RateLimit { limit: Some(100), remaining, reset: Some(Duration::from_secs(600)) });
        let limits = RateLimits { requests, tokens: None };
        let returned = Returned { limits, ..Returned::with(KeyOutcome::Good) };
        bench.pool.give_back("openai", &leased.ticket, returned, bench.now);
        leased.place
    };
    let poor = tell(&mut bench, 5);
    let rich = tell(&mut bench, 90);
    assert_ne!(poor, rich);
    for _ in 0..20 {
        assert_eq!(bench.use_once(KeyOutcome::Good).0, rich);
    }
    // With nothing left a key is a last resort, and still one.
    bench.keys = vec![bench.keys[poor].clone()];
    assert_eq!(tell(&mut bench, 0), 0);
    assert!(bench.pool.room(&bench.ask(&[]), bench.now) < 0.01);
    assert!(bench.lease().is_ok());
}

#[test]
fn a_lease_that_is_never_given_back_ends_by_itself() {
    let mut bench = Bench::new(1);
    bench.lease().unwrap();
    assert_eq!(bench.pool.statuses(bench.now)[0].state.name(), "leased");
    bench.pass(602);
    assert_eq!(bench.pool.statuses(bench.now)[0].state.name(), "idle");
}

#[test]
fn a_reload_keeps_rests_and_forgets_keys_that_are_gone() {
    let mut bench = Bench::new(2);
    let leased = bench.lease().unwrap();
    bench.back(&leased, limited(50));
    let kept = bench.keys[leased.place].clone();
    bench.pool.configure(&[(bench.provider.clone(), &[kept])], bench.now);
    let statuses = bench.pool.statuses(bench.now);
    assert_eq!(statuses.len(), 1);
    assert_eq!(statuses[0].state.left(), Some(Duration::from_secs(50)));
}

#[derive(Clone, Debug)]
enum Step {
    Lease { random: u64, tokens: u64 },
    Back { which: usize, outcome: usize, seconds: u64 },
    Pass { millis: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lease = (any::<u64>(), 0u64..2_000).prop_map(|(random, tokens)| Step::Lease { random, tokens });
    let back = (any::<usize>(), 0usize..5, 0u64..200).prop_map(|(which, outcome, seconds)| Step::Back {
        which,
        outcome,
        seconds,
    });
    let pass = (0u64..20_000).prop_map(|millis| Step::Pass { millis });
    prop::collection::vec(prop_oneof![3 => lease, 2 => back, 1 => pass], 1..150)
}

proptest! {
    /// Any interleaving: what is out is what was leased and not given back, no key that rests or is refused is leased, no deadline is
    /// ever shortened, and own limits hold.
    #[test]
    fn any_interleaving(steps in steps()) {
        let quota = KeyQuota { rpm: Some(10), tpm: None };
        let mut bench = Bench::of(vec![ProviderKey { quota, ..key("a") }, grouped("b", "g"), grouped("c", "g"), key("d")]);
        let (start, mut passed, mut out) = (bench.now, 0.0, Vec::<Leased>::new());
        let mut until: HashMap<usize, Instant> = HashMap::default();
        for step in steps {
            match step {
                Step::Lease { random, tokens } => {
                    let ask = Ask { tokens, ..bench.ask(&[]) };
                    if let Ok(leased) = bench.pool.lease(&ask, TTL * 100, random, bench.now) {
                        let rests = until.get(&leased.place).is_some_and(|until| *until > bench.now);
                        prop_assert!(!rests, "a resting key was leased");
                        passed += if leased.place == 0 { 1.0 } else { 0.0 };
                        out.push(leased);
                    }
                }
                Step::Back { which, outcome, seconds } if !out.is_empty() => {
                    let leased = out.swap_remove(which % out.len());
                    let wait = Duration::from_secs(seconds);
                    let (outcome, rest) = match outcome {
                        0 => (KeyOutcome::RateLimited(Some(wait)), Some(wait)),
                        1 => (KeyOutcome::Exhausted(Some(wait)), Some(wait.max(EXHAUSTED_FOR))),
                        2 => (KeyOutcome::Unknown, None),
                        _ => (KeyOutcome::Good, None),
                    };
                    bench.back(&leased, outcome);
                    let together: &[usize] = if matches!(leased.place, 1 | 2) { &[1, 2] } else { &[leased.place] };
                    for place in together {
                        let end = until.entry(*place).or_insert(bench.now);
                        *end = (*end).max(bench.now + rest.unwrap_or_default());
                    }
                }
                Step::Back { .. } => {}
                Step::Pass { millis } => bench.now += Duration::from_millis(millis),
            }
            let inner = bench.pool.0.lock();
            let leases: u32 = inner.providers.values().flatten().map(|slot| slot.leases.count(bench.now)).sum();
            prop_assert_eq!(leases as usize, out.len());
        }
        let most = 10.0 * (1.0 + (bench.now - start).as_secs_f64() / 60.0);
        prop_assert!(passed <= most + 1e-3, "{} of {}", passed, most);
    }
}
