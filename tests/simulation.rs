//! The routing under 100,000 requests with a virtual clock: the real strategies, breakers, health, triage and retry budget, between made-up
//! targets that are slow, dear or down at set times. The numbers stand in docs/strategies.md; every test prints its own.

use orbyt::domain::decision::{Candidate, Facts, Refusal, Rules};
use orbyt::domain::{Decision, Fault, FaultKind, Strategy, Verdict};

use orbyt::routing::backoff;
use orbyt::routing::breaker::{Gate, Policy};
use orbyt::routing::plan::{measured, order, repeats};
use orbyt::routing::retry_budget::RetryBudget;
use orbyt::routing::seed::Draws;
use orbyt::routing::triage::{Progress, RouteLeft, triage};
use orbyt::store::memory::MemoryTargets;
use orbyt::store::ports::live::Targets;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const REQUESTS: u64 = 100_000;
/// 100 requests a second.
const BETWEEN: Duration = Duration::from_millis(10);
const POLICY: Policy = Policy { enabled: true, failures: 5, open_for: Duration::from_secs(30), max_open: usize::MAX };
const OUTPUT: u64 = 200;
/// Every way of ordering; `latency` and `throughput` differ from `fast` in a number alone.
const STRATEGIES: [Strategy; 5] =
    [Strategy::Order, Strategy::Cheap, Strategy::Fast, Strategy::Reliable, Strategy::Weighted];
/// The defaults of `[retry]`.
const RETRY: (u32, Duration, Duration, f64) = (2, Duration::from_millis(250), Duration::from_secs(5), 0.2);

/// How a target answers at a time since the beginning.
struct Answer {
    works: bool,
    first_output: Duration,
    tokens_per_second: f64,
}

impl Answer {
    fn of(first_output_ms: u64, tokens_per_second: f64) -> Self {
        Self { works: true, first_output: Duration::from_millis(first_output_ms), tokens_per_second }
    }

    fn down() -> Self {
        Self { works: false, first_output: Duration::from_millis(50), tokens_per_second: 0.0 }
    }

    fn takes(&self) -> Duration {
        if !self.works {
            return self.first_output;
        }
        self.first_output + Duration::from_secs_f64(OUTPUT as f64 / self.tokens_per_second)
    }
}

/// The made-up world: what each target does when, and what it costs and lacks for each request.
trait World {
    fn targets(&self) -> usize;
    fn answer(&self, target: usize, at: Duration) -> Answer;
    fn price(&self, _target: usize, _request: u64) -> Option<u64> {
        None
    }
    fn lacks(&self, _target: usize, _request: u64) -> bool {
        false
    }
}

/// One request under way.
struct Request {
    number: u64,
    decision: Decision,
    at: usize,
    retries: u32,
    /// What was asked or passed over, by target.
    tried: Vec<usize>,
}

/// What became of a request.
struct Served {
    number: u64,
    /// The target that served; `None` is an error at the client.
    by: Option<usize>,
    decision: Decision,
    tried: Vec<usize>,
}

#[derive(Default)]
struct Outcome {
    served: Vec<Served>,
    calls: u64,
    errors: u64,
    retries: u64,
}

impl Outcome {
    fn calls_per_request(&self) -> f64 {
        self.calls as f64 / self.served.len() as f64
    }

    /// The share of these requests that one target served.
    fn share(&self, numbers: std::ops::Range<u64>, target: usize) -> f64 {
        let of = || self.served.iter().filter(|served| numbers.contains(&served.number));
        of().filter(|served| served.by == Some(target)).count() as f64 / of().count().max(1) as f64
    }
}

enum Event {
    Ask(Request),
    Answered(Request, usize, Answer),
}

struct Simulation<'w, W> {
    world: &'w W,
    strategy: Strategy,
    begin: Instant,
    targets: MemoryTargets,
    names: Vec<Arc<str>>,
    budget: RetryBudget,
    draws: Draws,
    events: Vec<Option<Event>>,
    queue: BinaryHeap<Reverse<(Duration, usize)>>,
    outcome: Outcome,
}

fn simulate<W: World>(world: &W, strategy: Strategy) -> Outcome {
    let mut simulation = Simulation {
        world,
        strategy,
        begin: Instant::now(),
        targets: MemoryTargets::default(),
        names: (0..world.targets()).map(|target| format!("t{target}").into()).collect(),
        budget: RetryBudget::default(),
        draws: Draws::new(42),
        events: Vec::new(),
        queue: BinaryHeap::new(),
        outcome: Outcome::default(),
    };
    for number in 0..REQUESTS {
        let now = BETWEEN * u32::try_from(number).unwrap();
        simulation.until(now);
        simulation.arrive(number, now);
    }
    simulation.until(Duration::MAX);
    simulation.outcome
}

impl<W: World> Simulation<'_, W> {
    /// Lets everything happen that is due.
    fn until(&mut self, now: Duration) {
        while self.queue.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            let Some(Reverse((due, event))) = self.queue.pop() else { return };
            match self.events[event].take() {
                Some(Event::Ask(request)) => self.ask(request, due),
                Some(Event::Answered(request, target, answer)) => self.answered(request, target, &answer, due),
                None => {}
            }
        }
    }

    fn at(&mut self, due: Duration, event: Event) {
        self.events.push(Some(event));
        self.queue.push(Reverse((due, self.events.len() - 1)));
    }

    fn arrive(&mut self, number: u64, now: Duration) {
        self.budget.deposit(RETRY.3);
        let candidate = |target: usize| {
            let name = &self.names[target];
            let gate = self.targets.peek(name, name, POLICY, self.begin + now);
            Candidate {
                provider: name.clone(),
                model: name.clone(),
                leg: 0,
                refusal: self.world.lacks(target, number).then_some(Refusal::NoTools),
                facts: Facts {
                    price_picos: self.world.price(target, number),
                    ..measured(&self.targets.health(name, name), gate)
                },
            }
        };
        let candidates: Vec<Candidate> = (0..self.names.len()).map(candidate).collect();
        let rules = Rules { strategy: self.strategy, seed: self.draws.below(u64::MAX), ..Rules::default() };
        let order = order(&rules, &candidates);
        let decision = Decision { rules, candidates, order, ..Decision::default() };
        self.ask(Request { number, decision, at: 0, retries: 0, tried: Vec::new() }, now);
    }

    /// Asks the next target that its breaker lets through.
    fn ask(&mut self, mut request: Request, now: Duration) {
        while let Some(place) = request.decision.order.get(request.at) {
            let target = usize::from(*place);
            let name = &self.names[target];
            request.tried.push(target);
            if matches!(self.targets.enter(name, name, POLICY, self.begin + now), Gate::Refuse { .. }) {
                (request.at, request.retries) = (request.at + 1, 0);
                continue;
            }
            self.outcome.calls += 1;
            let answer = self.world.answer(target, now);
            return self.at(now + answer.takes(), Event::Answered(request, target, answer));
        }
        self.finish(request, None);
    }

    fn answered(&mut self, mut request: Request, target: usize, answer: &Answer, now: Duration) {
        let (name, instant) = (self.names[target].clone(), self.begin + now);
        let first_output = answer.works.then_some(answer.first_output);
        self.targets.report(&name, &name, answer.works, first_output, POLICY, instant);
        if answer.works {
            self.targets.note_rate(&name, &name, answer.tokens_per_second);
            return self.finish(request, Some(target));
        }
        let fault = Fault::new(FaultKind::ServerError, "down");
        let well = !matches!(self.targets.peek(&name, &name, POLICY, instant), Gate::Refuse { .. });
        let left = RouteLeft {
            retry_max: if well { RETRY.0 } else { 0 },
            key: false,
            provider: request.at + 1 < request.decision.order.len(),
            model: false,
        };
        let random = self.draws.below(1000) as f64 / 1000.0;
        let mut progress = Progress {
            retries: request.retries,
            retry_affordable: true,
            time_left: Duration::from_secs(600),
            backoff: backoff::delay(RETRY.1, RETRY.2, request.retries, random),
            backoff_cap: RETRY.2,
            byok: false,
        };
        let mut verdict = triage(&fault, &progress, &left);
        if matches!(verdict, Verdict::RetrySame { .. }) && !self.budget.withdraw() {
            progress.retry_affordable = false;
            verdict = triage(&fault, &progress, &left);
        }
        match verdict {
            Verdict::RetrySame { after } => {
                self.outcome.retries += 1;
                request.retries += 1;
                self.at(now + after, Event::Ask(request));
            }
            Verdict::NextProvider => {
                (request.at, request.retries) = (request.at + 1, 0);
                self.ask(request, now);
            }
            _ => self.finish(request, None),
        }
    }

    fn finish(&mut self, request: Request, by: Option<usize>) {
        self.outcome.errors += u64::from(by.is_none());
        let Request { number, decision, tried, .. } = request;
        self.outcome.served.push(Served { number, by, decision, tried });
    }
}

/// Four prices that change places with the length of the request; each target is down for a while in turn, and now and then lacks something.
struct Market;

impl World for Market {
    fn targets(&self) -> usize {
        4
    }
    fn answer(&self, target: usize, at: Duration) -> Answer {
        let is_down = at.as_secs() / 100 % 5 == target as u64;
        if is_down { Answer::down() } else { Answer::of(200, 100.0) }
    }
    fn price(&self, target: usize, request: u64) -> Option<u64> {
        let (input, output) = (request % 977 * 10, request % 89 * 10);
        let (of_input, of_output) = [(1, 10), (5, 2), (3, 3), (0, 0)][target];
        (target < 3).then_some(input * of_input + output * of_output)
    }
    fn lacks(&self, target: usize, request: u64) -> bool {
        request % 7 == target as u64
    }
}

#[test]
fn cheap_never_takes_a_dearer_target_while_a_cheaper_one_is_healthy() {
    let outcome = simulate(&Market, Strategy::Cheap);
    let mut dearer = 0;
    for served in &outcome.served {
        let Some(by) = served.by else { continue };
        assert!(served.decision.candidates[by].refusal.is_none(), "request {} went where it must fail", served.number);
        let price = |target: usize| served.decision.candidates[target].facts.price_picos.unwrap_or(u64::MAX);
        let cheaper = (0..served.decision.candidates.len())
            .filter(|other| served.decision.candidates[*other].refusal.is_none() && price(*other) < price(by));
        for other in cheaper {
            dearer += 1;
            // It was asked and failed, or its breaker was open.
            assert!(served.tried.contains(&other), "request {} went to {by}, {other} is cheaper", served.number);
        }
    }
    let numbers = format!(
        "{} errors, {dearer} cheaper ones down, {:.4} calls a request",
        outcome.errors,
        outcome.calls_per_request()
    );
    println!("cheap: {numbers}");
    assert!(outcome.errors == 0 && dearer > 0 && outcome.calls_per_request() <= 1.05, "{numbers}");
}

/// The fastest has one slow start, is slow from a third to two thirds of the time, and fast again.
struct Race;

impl World for Race {
    fn targets(&self) -> usize {
        3
    }
    fn answer(&self, target: usize, at: Duration) -> Answer {
        let third = BETWEEN * u32::try_from(REQUESTS / 3).unwrap();
        match target {
            0 if at < Duration::from_millis(200) => Answer::of(10_000, 5.0),
            0 if at > third && at < third * 2 => Answer::of(4_000, 10.0),
            0 => Answer::of(200, 100.0),
            1 => Answer::of(600, 50.0),
            _ => Answer::of(1_500, 30.0),
        }
    }
}

#[test]
fn fast_converges_leaves_what_has_become_slow_and_comes_back() {
    let outcome = simulate(&Race, Strategy::Fast);
    let third = REQUESTS / 3;
    // After each change some thousand requests may pass until the averages have followed.
    let settled = |n: u64| n * third + 5_000..(n + 1) * third;
    let shares = [outcome.share(settled(0), 0), outcome.share(settled(1), 1), outcome.share(settled(2), 0)];
    let slowest = outcome.share(0..REQUESTS, 2);
    let numbers =
        format!("{shares:.4?} to the best in each third, {slowest:.4} to the slowest, {} errors", outcome.errors);
    println!("fast: {numbers}");
    assert!(shares.iter().all(|share| *share >= 0.97) && slowest < 0.02 && outcome.errors == 0, "{numbers}");
}

/// Some of four targets are down for some of the time.
struct Outage {
    down: std::ops::Range<usize>,
    from: u64,
    to: u64,
}

impl World for Outage {
    fn targets(&self) -> usize {
        4
    }
    fn answer(&self, target: usize, at: Duration) -> Answer {
        let is_down = self.down.contains(&target) && (self.from..self.to).contains(&at.as_secs());
        if is_down { Answer::down() } else { Answer::of(200 + 50 * target as u64, 100.0) }
    }
    fn price(&self, target: usize, _request: u64) -> Option<u64> {
        Some(target as u64)
    }
}

#[test]
fn the_outage_of_one_provider_costs_no_client_an_error() {
    for strategy in STRATEGIES {
        let outcome = simulate(&Outage { down: 0..1, from: 200, to: 600 }, strategy);
        // From 200 s after its recovery: the averages have to follow.
        let back = outcome.share(80_000..REQUESTS, 0);
        let numbers = format!(
            "{} errors, {:.4} calls a request, {} retries, {back:.3} to the first when it is back",
            outcome.errors,
            outcome.calls_per_request(),
            outcome.retries
        );
        println!("one of four down, {}: {numbers}", strategy.name());
        let expected = if strategy == Strategy::Weighted { 0.24 } else { 0.97 };
        let is_well = outcome.errors == 0 && outcome.calls_per_request() <= 1.2 && back >= expected;
        assert!(is_well, "{}: {numbers}", strategy.name());
    }
}

#[test]
fn a_full_outage_of_half_of_the_targets_is_no_retry_storm() {
    for strategy in STRATEGIES {
        let outcome = simulate(&Outage { down: 0..2, from: 0, to: u64::MAX }, strategy);
        let numbers = format!(
            "{} errors, {:.4} calls a request, {} retries",
            outcome.errors,
            outcome.calls_per_request(),
            outcome.retries
        );
        println!("half down, {}: {numbers}", strategy.name());
        assert!(outcome.errors == 0 && outcome.calls_per_request() <= 1.2, "{}: {numbers}", strategy.name());
        assert!(
            outcome.served.iter().step_by(97).all(|served| repeats(&served.decision)),
            "a record repeats its decision"
        );
    }
}
