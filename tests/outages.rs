//! A hundred thousand requests through outages, on a virtual clock: the pool, the breakers, triage and the retry budget together, as the
//! walk puts them together, between providers that fail on schedule. Nothing sleeps; every run gives the same numbers, which
//! `cargo test --test outages -- --nocapture` prints and docs/provider-keys.md repeats.

use orbyt::domain::{Clock, Fault, FaultKind, KeyId, ProviderKey, Secret, Verdict};
use orbyt::routing::backoff;
use orbyt::routing::breaker::{Gate, Policy, max_open};
use orbyt::routing::retry_budget::RetryBudget;
use orbyt::routing::triage::{Progress, RouteLeft, triage};
use orbyt::store::memory::{MemoryKeyPool, MemoryTargets};
use orbyt::store::ports::live::{Ask, KeyOutcome, KeyPool, Returned, Targets};
use std::sync::Arc;
use std::time::{Duration, Instant};

const REQUESTS: u64 = 100_000;
/// A hundred requests a second.
const EVERY: Duration = Duration::from_millis(10);
/// How long any answer takes.
const TAKES: Duration = Duration::from_millis(5);

/// What a provider does with a call at a moment since the start, given a random number in `[0, 1)`.
type Behaviour = fn(&str, Duration, f64) -> Result<(), FaultKind>;

struct Provider {
    id: Arc<str>,
    keys: Vec<Arc<ProviderKey>>,
    behaves: Behaviour,
    calls: u64,
    /// By key.
    calls_with: Vec<u64>,
    calls_in_outage: u64,
}

impl Provider {
    fn new(id: &str, keys: usize, behaves: Behaviour) -> Self {
        let key = |n: usize| {
            let name = format!("{id}_{n}");
            Arc::new(ProviderKey::new(name.as_str(), Secret::new(name.as_str())))
        };
        let keys: Vec<_> = (0..keys).map(key).collect();
        Self { id: id.into(), calls_with: vec![0; keys.len()], keys, behaves, calls: 0, calls_in_outage: 0 }
    }
}

struct World {
    start: Instant,
    now: Instant,
    pool: MemoryKeyPool,
    targets: MemoryTargets,
    budget: RetryBudget,
    policy: Policy,
    retry_max: u32,
    providers: Vec<Provider>,
    random: u64,
    errors: u64,
}

impl World {
    fn new(providers: Vec<Provider>) -> Self {
        let max_open = max_open(0.5, providers.len());
        let now = Instant::now();
        Self {
            start: now,
            now,
            pool: MemoryKeyPool::default(),
            targets: MemoryTargets::default(),
            budget: RetryBudget::default(),
            policy: Policy { enabled: true, failures: 5, open_for: Duration::from_secs(30), max_open },
            retry_max: 2,
            providers,
            random: 42,
            errors: 0,
        }
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn chance(&mut self) -> f64 {
        (self.random() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// All requests, one after the other: request n has the plan that `plan` gives it.
    fn run(&mut self, plan: impl Fn(u64) -> Vec<usize>) {
        for number in 0..REQUESTS {
            let arrives = self.start + EVERY * u32::try_from(number).unwrap();
            self.now = arrives;
            self.budget.deposit(0.2);
            if !self.request(&plan(number), arrives + Duration::from_secs(600)) {
                self.errors += 1;
            }
        }
    }

    /// One request through its plan, as the walk does it; true when it was served.
    fn request(&mut self, plan: &[usize], deadline: Instant) -> bool {
        let model: Arc<str> = "m".into();
        let mut at = 0;
        while let Some(target) = plan.get(at) {
            let (mut retries, mut tried) = (0, Vec::<KeyId>::new());
            loop {
                let id = self.providers[*target].id.clone();
                if matches!(self.targets.enter(&id, &model, self.policy, self.now), Gate::Refuse { .. }) {
                    break;
                }
                let Some((place, result)) = self.attempt(*target, &tried) else { break };
                let Err(kind) = result else { return true };
                let fault = Fault::new(kind, "");
                tried.push(self.providers[*target].keys[place].id);
                match self.verdict(&fault, *target, retries, &tried, at + 1 < plan.len(), deadline) {
                    Verdict::RetrySame { after } => {
                        retries += 1;
                        tried.clear();
                        self.now += after;
                    }
                    Verdict::NextKey => {}
                    Verdict::NextProvider | Verdict::NextModel => break,
                    Verdict::Reject | Verdict::Alert => return false,
                }
            }
            at += 1;
        }
        false
    }

    /// The key's place and what came of it; `None` when no key is ready.
    fn attempt(&mut self, target: usize, tried: &[KeyId]) -> Option<(usize, Result<(), FaultKind>)> {
        let (random, chance, jitter) = (self.random(), self.chance(), self.chance());
        let provider = &mut self.providers[target];
        let ask = Ask { provider: &provider.id, keys: &provider.keys, tried, tokens: 0 };
        let leased = self.pool.lease(&ask, Duration::from_secs(660), random, self.now).ok()?;
        let key = &provider.keys[leased.place];
        let result = (provider.behaves)(&key.name, self.now - self.start, chance);
        provider.calls += 1;
        provider.calls_with[leased.place] += 1;
        provider.calls_in_outage += u64::from(result.is_err());
        self.now += TAKES;
        let outcome = result.map_or_else(|kind| KeyOutcome::of(kind, None), |()| KeyOutcome::Good);
        self.pool.give_back(&provider.id, &leased.ticket, Returned::with(outcome), self.now);
        if result.map_or_else(FaultKind::counts_against_health, |()| true) {
            let policy = self.policy.with_jitter(jitter);
            self.targets.report(&provider.id, "m", result.is_ok(), None, policy, self.now);
        }
        Some((leased.place, result))
    }

    fn verdict(
        &mut self,
        fault: &Fault,
        target: usize,
        retries: u32,
        tried: &[KeyId],
        more: bool,
        deadline: Instant,
    ) -> Verdict {
        let chance = self.chance();
        let provider = &self.providers[target];
        let ask = Ask { provider: &provider.id, keys: &provider.keys, tried, tokens: 0 };
        let open = matches!(self.targets.peek(&provider.id, "m", self.policy, self.now), Gate::Refuse { .. });
        let left = RouteLeft {
            retry_max: if open { 0 } else { self.retry_max },
            key: self.pool.any_ready(&ask, self.now),
            provider: more,
            model: false,
        };
        let cap = Duration::from_secs(5);
        let mut progress = Progress {
            retries,
            retry_affordable: true,
            time_left: deadline.saturating_duration_since(self.now),
            backoff: backoff::delay(Duration::from_millis(250), cap, retries, chance),
            backoff_cap: cap,
            byok: false,
        };
        let verdict = triage(fault, &progress, &left);
        if matches!(verdict, Verdict::RetrySame { .. }) && !self.budget.withdraw() {
            progress.retry_affordable = false;
            return triage(fault, &progress, &left);
        }
        verdict
    }

    fn calls(&self) -> u64 {
        self.providers.iter().map(|provider| provider.calls).sum()
    }

    /// Prints the numbers of a run; the second is upstream calls for each request.
    fn publish(&self, name: &str) -> f64 {
        let ratio = self.calls() as f64 / REQUESTS as f64;
        let to_the_sick: u64 = self.providers.iter().map(|provider| provider.calls_in_outage).sum();
        println!(
            "{name}: {} upstream calls ({ratio:.4} a request), {to_the_sick} of them failed, {} client errors",
            self.calls(),
            self.errors
        );
        ratio
    }
}

fn well(_: &str, _: Duration, _: f64) -> Result<(), FaultKind> {
    Ok(())
}

fn down(_: &str, _: Duration, _: f64) -> Result<(), FaultKind> {
    Err(FaultKind::ServerError)
}

#[test]
fn an_outage_of_one_provider_costs_no_client_an_error() {
    let away = |_: &str, at: Duration, _: f64| match at.as_secs() {
        200..=500 => Err(FaultKind::Connect),
        _ => Ok(()),
    };
    let mut world = World::new(vec![Provider::new("first", 1, away), Provider::new("second", 1, well)]);
    world.run(|_| vec![0, 1]);
    let ratio = world.publish("one provider of two away for 5 of 16 minutes");
    assert_eq!(world.errors, 0);
    // Five open the breaker; then it is one each half minute.
    let in_vain = world.providers[0].calls_in_outage;
    assert!((6..=16).contains(&in_vain), "{in_vain} calls in vain");
    assert!(ratio < 1.001, "{ratio}");
    let served_by_first = world.providers[0].calls - in_vain;
    assert!(served_by_first > 65_000, "it was not found again: {served_by_first}");
}

#[test]
fn with_half_of_all_providers_gone_there_is_no_storm() {
    let providers = vec![
        Provider::new("a", 1, down),
        Provider::new("b", 1, well),
        Provider::new("c", 1, down),
        Provider::new("d", 1, well),
    ];
    let mut world = World::new(providers);
    // Each provider is the first choice of a quarter of the requests.
    world.run(|number| (0..4).map(|place| (number as usize + place) % 4).collect());
    let ratio = world.publish("two providers of four down throughout");
    assert_eq!(world.errors, 0);
    assert!(ratio <= 1.2, "{ratio} upstream calls a request");
}

#[test]
fn the_budget_bounds_retries_where_no_breaker_does() {
    for (name, behaves) in [
        ("no breaker, one provider down throughout, 10 retries", down as Behaviour),
        ("no breaker, every other call fails, 10 retries", |_, _, chance| {
            if chance < 0.5 { Err(FaultKind::ServerError) } else { Ok(()) }
        }),
    ] {
        let mut world = World::new(vec![Provider::new("only", 1, behaves)]);
        world.policy.enabled = false;
        world.retry_max = 10;
        world.run(|_| vec![0]);
        let ratio = world.publish(name);
        assert!(ratio <= 1.2 + 100.0 / REQUESTS as f64, "{ratio} upstream calls a request");
        assert!(ratio > 1.15, "the budget is not used: {ratio}");
    }
}

#[test]
fn when_everything_is_down_somebody_is_asked_and_the_end_is_seen_at_once() {
    let away = |_: &str, at: Duration, _: f64| match at.as_secs() {
        200..=500 => Err(FaultKind::Timeout(Clock::Connect)),
        _ => Ok(()),
    };
    let mut world = World::new(["a", "b", "c", "d"].map(|id| Provider::new(id, 1, away)).into());
    world.retry_max = 0;
    world.run(|number| (0..4).map(|place| (number as usize + place) % 4).collect());
    let ratio = world.publish("all four providers away for 5 of 16 minutes");
    // 30,100 requests fall into the outage. Not one after it is lost: two of the four may not be left alone.
    assert_eq!(world.errors, 30_100);
    assert!(ratio <= 1.31, "{ratio}: one further call for each request in the outage, and no more");
}

#[test]
fn a_dead_key_is_used_once() {
    let one_is_dead = |key: &str, _: Duration, _: f64| match key {
        "p_3" => Err(FaultKind::BadCredentials),
        _ => Ok(()),
    };
    let mut world = World::new(vec![Provider::new("p", 8, one_is_dead)]);
    world.run(|_| vec![0]);
    let ratio = world.publish("one key of eight dead");
    let uses = &world.providers[0].calls_with;
    println!("one key of eight dead: uses by key {uses:?}");
    assert_eq!((world.errors, uses[3]), (0, 1));
    assert!(ratio < 1.0001);
    let others = uses.iter().enumerate().filter(|(key, _)| *key != 3).map(|(_, uses)| uses);
    assert!(others.into_iter().all(|uses| (12_000..17_000).contains(uses)), "{uses:?}");
}

#[test]
fn a_limited_key_rests_and_the_others_carry_on() {
    // Half of the time one key of four is over its limit.
    let limited = |key: &str, at: Duration, _: f64| match key {
        "p_0" if at.as_secs() % 20 < 10 => Err(FaultKind::RateLimited),
        _ => Ok(()),
    };
    let mut world = World::new(vec![Provider::new("p", 4, limited)]);
    world.run(|_| vec![0]);
    let ratio = world.publish("one key of four over its limit half of the time");
    assert_eq!(world.errors, 0);
    assert!(ratio < 1.005, "{ratio}");
    let uses = &world.providers[0].calls_with;
    println!("one key of four over its limit half of the time: uses by key {uses:?}");
    // The others are idle whenever a request comes, so the doubtful one is only tried again now and then.
    assert!(uses[0] > 50, "it is given up: {uses:?}");
}
