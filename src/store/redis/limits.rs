//! The limits that nodes share: one script takes what a request needs from all its buckets, another gives back what it did not use.
//!
//! The same request is also noted in this node's own buckets, which hold its share. They decide while Redis cannot be asked, and know
//! then what this node has just used.

use super::link::{Lane, Link, NODES};
use crate::domain::{Limit, Measure, OnOutage, Period};
use crate::store::memory::MemoryLimits;
use crate::store::ports::limits::{Denied, Keeper, Lease, LimitStore, Refusal, Standing, Standings, Subject, Wait};
use async_trait::async_trait;
use futures::future::join_all;
use redis::{Script, ScriptInvocation};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// So many settlements are sent at once.
const BATCH: usize = 256;
/// Far less than a request or token: what is missing for reasons of rounding. As in `subject.lua`.
const NEARLY: f64 = 1e-9;

static ACQUIRE: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("lua/subject.lua"), include_str!("lua/acquire.lua"))));
static SETTLE: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("lua/subject.lua"), include_str!("lua/settle.lua"))));

/// What has to be known to Redis before it is asked.
pub(super) fn scripts() -> [&'static Script; 2] {
    [&*ACQUIRE, &*SETTLE]
}

/// The limits of all nodes together.
pub struct RedisLimits {
    link: Arc<Link>,
    local: MemoryLimits,
    denies: AtomicBool,
    settled: mpsc::UnboundedSender<Settlement>,
    /// For tests on a virtual clock: what counts as the beginning of time. Otherwise the clock is that of Redis.
    epoch: Option<Instant>,
}

/// A lease that has ended, to be told to Redis.
struct Settlement {
    node: Arc<str>,
    subjects: Vec<Subject>,
    tokens: u64,
    used: u64,
    /// By the clock of the tests.
    now: Option<u64>,
}

/// What Redis has said. Dropped without having been taken, it gives back what was granted.
struct Answer {
    granted: Option<Settlement>,
    left: Vec<f64>,
    link: Arc<Link>,
    settled: mpsc::UnboundedSender<Settlement>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(unclaimed) = self.granted.take() {
            send(&self.link, &self.settled, unclaimed);
        }
    }
}

impl RedisLimits {
    pub(super) fn new(link: Arc<Link>) -> Self {
        let (settled, to_settle) = mpsc::unbounded_channel();
        link.runtime().spawn(settle_all(link.clone(), to_settle));
        Self { link, local: MemoryLimits::default(), denies: AtomicBool::new(false), settled, epoch: None }
    }

    /// The same with the clock of its callers, which begins at `epoch`: for tests that make their own time.
    #[must_use]
    pub fn with_callers_clock(mut self, epoch: Instant) -> Self {
        self.epoch = Some(epoch);
        self
    }

    /// Waits until everything that has ended is settled: for tests that look at what is left.
    pub async fn settled(&self) {
        while self.link.untold.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }

    fn micros(&self, now: Instant) -> Option<u64> {
        let since = now.saturating_duration_since(self.epoch?);
        // Not from 0, before which nothing could have happened.
        u64::try_from(since.as_micros()).ok()?.checked_add(1_000_000_000)
    }

    async fn ask(&self, lane: Arc<Lane>, subjects: &[Subject], tokens: u64, now: Instant) -> Option<Answer> {
        let now = self.micros(now);
        let call = call(&ACQUIRE, &lane.node, now, tokens, 0, subjects);
        let lease = Settlement { node: lane.node.clone(), subjects: subjects.to_vec(), tokens, used: 0, now };
        let (link, settled) = (self.link.clone(), self.settled.clone());
        let made = move |(passes, left): (u8, Vec<f64>)| {
            let granted = (passes == 1).then_some(lease);
            Answer { granted, left, link, settled }
        };
        self.link.ask(lane, call, made).await
    }

    /// What this node decides by itself: each limit by the number of nodes.
    fn take_share(&self, subjects: &[Subject], tokens: u64, now: Instant) -> (Result<Lease, Denied>, Standings) {
        let nodes = self.link.nodes();
        let (shares, most) = (shares(subjects, nodes), most_tokens(subjects));
        // What is within the whole limit but beyond this node's share takes all of it.
        let share = most_tokens(&shares).filter(|_| most.is_some_and(|most| tokens <= most)).unwrap_or(u64::MAX);
        let (granted, standings) = self.local.take(shares, tokens.min(share), now);
        (granted.map_err(Denied::Reached), standings)
    }
}

#[async_trait]
impl LimitStore for RedisLimits {
    async fn acquire(&self, subjects: Vec<Subject>, tokens: u64, now: Instant) -> (Result<Lease, Denied>, Standings) {
        let answer = match self.link.lane() {
            Some(lane) => self.ask(lane, &subjects, tokens, now).await,
            None => None,
        };
        match answer {
            None if self.denies.load(Ordering::Relaxed) => (Err(Denied::Outage), Standings::default()),
            None => self.take_share(&subjects, tokens, now),
            Some(mut answer) => {
                let standings = standings(&subjects, &answer.left);
                let Some(lease) = answer.granted.take() else {
                    let refusal = refusal(&subjects, tokens, &answer.left);
                    return (refusal.map_or(Err(Denied::Outage), |refusal| Err(Denied::Reached(refusal))), standings);
                };
                self.local.note(&shares(&subjects, self.link.nodes()), now);
                (Ok(Lease { subjects, tokens, keeper: Keeper::Shared { node: lease.node } }), standings)
            }
        }
    }

    fn settle(&self, lease: Lease, used_tokens: u64, now: Instant) {
        match lease.keeper {
            Keeper::Local => self.local.settle(lease, used_tokens, now),
            Keeper::Shared { node } => {
                self.local.note_end(&shares(&lease.subjects, self.link.nodes()), used_tokens, now);
                let Lease { subjects, tokens, .. } = lease;
                let now = self.micros(now);
                send(&self.link, &self.settled, Settlement { node, subjects, tokens, used: used_tokens, now });
            }
        }
    }

    fn set_on_outage(&self, choice: OnOutage) {
        self.denies.store(choice == OnOutage::Deny, Ordering::Relaxed);
    }
}

fn send(link: &Link, settled: &mpsc::UnboundedSender<Settlement>, settlement: Settlement) {
    link.untold.fetch_add(1, Ordering::AcqRel);
    if settled.send(settlement).is_err() {
        link.untold.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Tells Redis what has ended, in the order in which it has. What has ended while Redis is away is told when it is back; there is never
/// more of it than there were requests in flight when it went. What may or may not have arrived is not said again: the connection is then
/// lost, and all that was reserved over it comes back.
async fn settle_all(link: Arc<Link>, mut ended: mpsc::UnboundedReceiver<Settlement>) {
    while let Some(first) = ended.recv().await {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(next) = ended.try_recv()
        {
            batch.push(next);
        }
        let lane = link.back().await;
        let told = batch.iter().map(|it| {
            let (call, lane) = (call(&SETTLE, &it.node, it.now, it.tokens, it.used, &it.subjects), lane.clone());
            async move { (call.invoke_async::<()>(&mut lane.connection.clone()).await, lane) }
        });
        for (result, lane) in join_all(told).await {
            if let Err(error) = result {
                link.failed(&lane, &error);
            }
        }
        link.untold.fetch_sub(batch.len(), Ordering::AcqRel);
    }
}

/// The name of a bucket in Redis, and the time in which it fills up.
fn bucket(measure: Measure) -> (&'static str, Duration) {
    match measure {
        Measure::Concurrency => ("c", Duration::ZERO),
        Measure::Requests(period) => {
            let name = match period {
                Period::Second => "rs",
                Period::Minute => "rm",
                Period::Hour => "rh",
                Period::Day => "rd",
            };
            (name, period.duration())
        }
        Measure::Tokens(period) => {
            let name = match period {
                Period::Second => "ts",
                Period::Minute => "tm",
                Period::Hour => "th",
                Period::Day => "td",
            };
            (name, period.duration())
        }
    }
}

/// The keys and arguments that `subject.lua` describes.
fn call(
    script: &'static Script,
    node: &str,
    now: Option<u64>,
    tokens: u64,
    used: u64,
    subjects: &[Subject],
) -> ScriptInvocation<'static> {
    let mut call = script.prepare_invoke();
    call.key(NODES).arg(node).arg(now.map(|now| now.to_string()).unwrap_or_default()).arg(tokens).arg(used);
    for subject in subjects {
        call.key(format!("{{orbyt}}:limit:{}:{}", subject.scope.name(), subject.name)).arg(subject.limits.len());
        for limit in &*subject.limits {
            let (name, period) = bucket(limit.measure);
            call.arg(name).arg(limit.amount).arg(period.as_secs() * 1_000_000);
        }
    }
    call
}

/// Every limit with what is left of it.
fn each<'a>(subjects: &'a [Subject], left: &'a [f64]) -> impl Iterator<Item = (&'a Subject, Limit, f64)> {
    let limits = subjects.iter().flat_map(|subject| subject.limits.iter().map(move |limit| (subject, *limit)));
    limits.zip(left).map(|((subject, limit), left)| (subject, limit, *left))
}

/// What is left, in whole requests or tokens.
fn whole(left: f64) -> u64 {
    (left + NEARLY).max(0.0) as u64
}

/// How long it takes until so much has flowed in.
fn time_for(amount: f64, limit: Limit) -> Duration {
    let (_, period) = bucket(limit.measure);
    period.mul_f64((amount / limit.amount as f64).max(0.0))
}

/// The refusal that takes longest.
fn refusal(subjects: &[Subject], tokens: u64, left: &[f64]) -> Option<Refusal> {
    let refusals = each(subjects, left).filter_map(|(subject, limit, left)| {
        let requested = if matches!(limit.measure, Measure::Tokens(_)) { tokens.max(1) } else { 1 };
        let missing = requested as f64 - left;
        if missing <= NEARLY {
            return None;
        }
        let wait = match limit.measure {
            Measure::Concurrency => Wait::Place,
            _ if requested > limit.amount => Wait::Never,
            _ => Wait::For(time_for(missing, limit)),
        };
        Some(Refusal { scope: subject.scope, limit, remaining: whole(left), requested, wait })
    });
    refusals.max_by_key(|refusal| refusal.wait.length())
}

fn standings(subjects: &[Subject], left: &[f64]) -> Standings {
    let mut standings = Standings::default();
    for (_, limit, left) in each(subjects, left) {
        let place = match limit.measure {
            Measure::Requests(_) => &mut standings.requests,
            Measure::Tokens(_) => &mut standings.tokens,
            Measure::Concurrency => continue,
        };
        let (remaining, reset) = (whole(left), time_for(limit.amount as f64 - left, limit));
        if place.is_none_or(|tightest| remaining < tightest.remaining) {
            *place = Some(Standing { limit: limit.amount, remaining, reset });
        }
    }
    standings
}

/// The same subjects with one node's share of their limits, which is at least 1.
fn shares(subjects: &[Subject], nodes: u32) -> Vec<Subject> {
    let share = |limit: &Limit| Limit { amount: (limit.amount / u64::from(nodes.max(1))).max(1), ..*limit };
    let shared = |subject: &Subject| Subject { limits: subject.limits.iter().map(share).collect(), ..subject.clone() };
    if nodes <= 1 { subjects.to_vec() } else { subjects.iter().map(shared).collect() }
}

/// The largest number of tokens that fits into all buckets; `None` when none counts tokens.
fn most_tokens(subjects: &[Subject]) -> Option<u64> {
    let limits = subjects.iter().flat_map(|subject| subject.limits.iter());
    limits.filter(|limit| matches!(limit.measure, Measure::Tokens(_))).map(|limit| limit.amount).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Scope;

    fn subject(limits: &[(Measure, u64)]) -> Vec<Subject> {
        let limits = limits.iter().map(|(measure, amount)| Limit { measure: *measure, amount: *amount }).collect();
        vec![Subject { scope: Scope::Key, name: "k".into(), limits }]
    }

    #[test]
    fn a_share_is_at_least_one() {
        let subjects = subject(&[(Measure::Requests(Period::Minute), 10), (Measure::Concurrency, 2)]);
        let amounts = |nodes| shares(&subjects, nodes)[0].limits.iter().map(|limit| limit.amount).collect::<Vec<_>>();
        assert_eq!([amounts(0), amounts(1), amounts(3)], [vec![10, 2], vec![10, 2], vec![3, 1]]);
    }

    #[test]
    fn what_rounding_takes_away_is_not_missing() {
        let subjects = subject(&[(Measure::Requests(Period::Minute), 60)]);
        assert_eq!(refusal(&subjects, 0, &[1.0 - 1e-12]), None);
        let told = standings(&subjects, &[1.0 - 1e-12]).requests.unwrap();
        assert_eq!((told.remaining, told.reset), (1, Duration::from_secs(59)));
        assert_eq!(refusal(&subjects, 0, &[0.5]).unwrap().wait, Wait::For(Duration::from_millis(500)));
    }
}
