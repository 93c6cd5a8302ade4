//! Breakers and health of one node's targets.

use crate::routing::breaker::{Change, Gate, Policy, State};
use crate::routing::health::Health;
use crate::routing::waits::Waits;
use crate::store::ports::live::{TargetStatus, Targets};
use ahash::HashMap;
use parking_lot::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Clients may invent model names without end; so many targets are remembered. Beyond that, of the provider with the most, those go that
/// have never answered, then those that were used least recently; what is kept from being asked goes last.
const MAX_TARGETS: usize = 4096;
/// This part of a provider's goes at once.
const PART: usize = 8;

#[derive(Debug, Default)]
struct Target {
    breaker: State,
    health: Health,
    /// The waits of requests that were not streamed, and of those that were; only where somebody asks for them.
    waits: Option<Box<[Waits; 2]>>,
    /// It has answered well at some time.
    has_answered: bool,
    /// When it was used last, in milliseconds since the first of all was.
    used: AtomicU64,
}

type ByModel = HashMap<Arc<str>, Target>;

/// The targets, by provider and model.
#[derive(Debug, Default)]
pub struct MemoryTargets {
    all: RwLock<HashMap<Arc<str>, ByModel>>,
    first_used: OnceLock<Instant>,
}

impl MemoryTargets {
    fn ticks(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(*self.first_used.get_or_init(|| now));
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn read<R>(&self, provider: &str, model: &str, look: impl FnOnce(&Target) -> R) -> Option<R> {
        self.all.read().get(provider)?.get(model).map(look)
    }

    fn write<R>(&self, provider: &str, model: &str, change: impl FnOnce(&mut Target) -> R) -> Option<R> {
        self.all.write().get_mut(provider)?.get_mut(model).map(change)
    }

    fn insert(&self, provider: &Arc<str>, model: &Arc<str>, now: Instant) {
        let mut all = self.all.write();
        if all.values().map(HashMap::len).sum::<usize>() >= MAX_TARGETS
            && let Some(models) = all.values_mut().max_by_key(|models| models.len())
        {
            forget_some(models);
        }
        let target = all.entry(provider.clone()).or_default().entry(model.clone()).or_default();
        target.used.store(self.ticks(now), Ordering::Relaxed);
    }
}

fn forget_some(models: &mut ByModel) {
    let rank = |target: &Target| {
        let is_closed = matches!(target.breaker, State::Closed { .. });
        (!is_closed, target.has_answered, target.used.load(Ordering::Relaxed))
    };
    let mut ranks: Vec<_> = models.iter().map(|(model, target)| (rank(target), model.clone())).collect();
    ranks.sort_unstable();
    for (_, model) in ranks.iter().take((models.len() / PART).max(1)) {
        models.remove(model);
    }
}

/// Whether one more target of a provider may be left alone: if others of it are, or not too many other providers have such.
fn may_open(all: &HashMap<Arc<str>, ByModel>, provider: &str, policy: Policy, now: Instant) -> bool {
    let is_out = |models: &ByModel| models.values().any(|target| target.breaker.is_out(policy, now));
    let out = || all.iter().filter(|(_, models)| is_out(models)).count();
    all.get(provider).is_some_and(is_out) || out() < policy.max_open
}

impl Targets for MemoryTargets {
    fn health(&self, provider: &str, model: &str) -> Health {
        self.read(provider, model, |target| target.health).unwrap_or_default()
    }

    fn peek(&self, provider: &str, model: &str, policy: Policy, now: Instant) -> Gate {
        self.read(provider, model, |target| target.breaker.peek(policy, now)).unwrap_or(Gate::Pass)
    }

    fn enter(&self, provider: &Arc<str>, model: &Arc<str>, policy: Policy, now: Instant) -> Gate {
        let look = |target: &Target| {
            target.used.store(self.ticks(now), Ordering::Relaxed);
            target.breaker.peek(policy, now)
        };
        match self.read(provider, model, look) {
            // Only the rare probe changes anything, so the common case needs no exclusive lock.
            Some(Gate::Probe) => self.write(provider, model, |t| t.breaker.enter(policy, now)).unwrap_or(Gate::Pass),
            Some(gate) => gate,
            None => {
                self.insert(provider, model, now);
                Gate::Pass
            }
        }
    }

    fn report(
        &self,
        provider: &str,
        model: &str,
        success: bool,
        first_output: Option<Duration>,
        policy: Policy,
        now: Instant,
    ) -> Option<Change> {
        let mut all = self.all.write();
        let on_the_edge = all.get(provider)?.get(model)?.breaker.is_on_the_edge(policy);
        let may_open = success || !on_the_edge || may_open(&all, provider, policy, now);
        let target = all.get_mut(provider)?.get_mut(model)?;
        target.has_answered |= success;
        target.health.report(success, first_output, now);
        target.breaker.report(success, policy, may_open, now)
    }

    fn probed(&self, provider: &str, up: bool, policy: Policy, now: Instant) -> Vec<Arc<str>> {
        let mut all = self.all.write();
        let may_open = up || may_open(&all, provider, policy, now);
        let mut opened = Vec::new();
        for (model, target) in all.get_mut(provider).into_iter().flatten() {
            if up {
                target.breaker.hurry(now);
            } else if !target.breaker.is_open() && target.breaker.report(false, policy, may_open, now).is_some() {
                opened.push(model.clone());
            }
        }
        opened
    }

    fn keep(&self, providers: &[Arc<str>]) {
        self.all.write().retain(|provider, _| providers.contains(provider));
    }

    fn note_tried(&self, provider: &str, model: &str) {
        if self.read(provider, model, |target| !target.health.was_tried()).unwrap_or(false) {
            self.write(provider, model, |target| target.health.note_tried());
        }
    }

    fn note_rate(&self, provider: &str, model: &str, tokens_per_second: f64) {
        self.write(provider, model, |target| target.health.note_rate(tokens_per_second));
    }

    fn note_wait(&self, provider: &str, model: &str, stream: bool, wait: Duration) {
        self.write(provider, model, |target| target.waits.get_or_insert_default()[usize::from(stream)].note(wait));
    }

    fn usual_wait(&self, provider: &str, model: &str, stream: bool, share: f64) -> Option<Duration> {
        self.read(provider, model, |target| target.waits.as_ref()?[usize::from(stream)].quantile(share))?
    }

    fn abandon(&self, provider: &str, model: &str, now: Instant) {
        self.write(provider, model, |target| target.breaker.abandon(now));
    }

    fn statuses(&self) -> Vec<TargetStatus> {
        let all = self.all.read();
        let mut list: Vec<TargetStatus> = all
            .iter()
            .flat_map(|(provider, models)| {
                models.iter().map(move |(model, target)| TargetStatus {
                    provider: provider.clone(),
                    model: model.clone(),
                    breaker: target.breaker.name(),
                    health: target.health,
                })
            })
            .collect();
        list.sort_by(|a, b| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { enabled: true, failures: 2, open_for: Duration::from_secs(30), max_open: 1 };

    #[test]
    fn a_target_opens_and_recovers_apart_from_the_others() {
        let (targets, now) = (MemoryTargets::default(), Instant::now());
        let (provider, sick, well): (Arc<str>, Arc<str>, Arc<str>) = ("p".into(), "sick".into(), "well".into());
        for model in [&sick, &well] {
            assert_eq!(targets.enter(&provider, model, POLICY, now), Gate::Pass);
        }
        assert_eq!(targets.report("p", "sick", false, None, POLICY, now), None);
        assert_eq!(targets.report("p", "sick", false, None, POLICY, now), Some(Change::Opened));
        assert!(matches!(targets.enter(&provider, &sick, POLICY, now), Gate::Refuse { .. }));
        assert_eq!(targets.enter(&provider, &well, POLICY, now), Gate::Pass);
        let later = now + POLICY.open_for;
        assert_eq!(targets.enter(&provider, &sick, POLICY, later), Gate::Probe);
        assert_eq!(targets.report("p", "sick", true, None, POLICY, later), Some(Change::Closed));
    }

    #[test]
    fn invented_names_do_not_grow_it_without_end() {
        let (targets, now, provider) = (MemoryTargets::default(), Instant::now(), Arc::from("p"));
        for n in 0..3 * MAX_TARGETS {
            targets.enter(&provider, &format!("m{n}").into(), POLICY, now);
        }
        assert!(targets.statuses().len() <= MAX_TARGETS);
    }

    #[test]
    fn invented_names_cost_nobody_their_health() {
        let (targets, mut now) = (MemoryTargets::default(), Instant::now());
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        for (provider, model) in [(&one, "good"), (&other, "good"), (&one, "sick")] {
            targets.enter(provider, &model.into(), POLICY, now);
            targets.report(provider, model, model == "good", None, POLICY, now);
        }
        assert_eq!(targets.report("one", "sick", false, None, POLICY, now), Some(Change::Opened));
        for n in 0..3 * MAX_TARGETS {
            now += Duration::from_millis(1);
            let model = format!("m{n}");
            targets.enter(&one, &model.as_str().into(), POLICY, now);
            targets.report("one", &model, false, None, POLICY, now);
        }
        let kept = |provider: &str, model: &str| targets.read(provider, model, |target| target.breaker.name());
        assert_eq!(kept("one", "good").zip(kept("other", "good")), Some(("closed", "closed")));
        assert!(matches!(targets.peek("one", "sick", POLICY, now), Gate::Refuse { .. }));
    }

    fn fail(targets: &MemoryTargets, provider: &str, model: &str, now: Instant) -> Option<Change> {
        targets.enter(&provider.into(), &model.into(), POLICY, now);
        (0..5).filter_map(|_| targets.report(provider, model, false, None, POLICY, now)).next()
    }

    #[test]
    fn when_everything_fails_somebody_is_still_asked() {
        let (targets, now) = (MemoryTargets::default(), Instant::now());
        assert_eq!(fail(&targets, "a", "one", now), Some(Change::Opened));
        assert_eq!(fail(&targets, "a", "two", now), Some(Change::Opened), "the provider is out anyhow");
        assert_eq!(fail(&targets, "b", "one", now), None);
        assert_eq!(targets.peek("b", "one", POLICY, now), Gate::Pass);
        // The first one is well again: now the other may be left alone.
        let later = now + POLICY.open_for;
        for model in ["one", "two"] {
            assert_eq!(targets.enter(&"a".into(), &model.into(), POLICY, later), Gate::Probe);
            assert_eq!(targets.report("a", model, true, None, POLICY, later), Some(Change::Closed));
        }
        assert_eq!(fail(&targets, "b", "one", later), Some(Change::Opened));
    }

    #[test]
    fn active_probes_open_and_hurry_and_close_nothing() {
        let (targets, now) = (MemoryTargets::default(), Instant::now());
        let (provider, model): (Arc<str>, Arc<str>) = ("p".into(), "m".into());
        targets.enter(&provider, &model, POLICY, now);
        assert!(targets.probed("p", false, POLICY, now).is_empty());
        assert_eq!(targets.probed("p", false, POLICY, now), std::slice::from_ref(&model));
        assert!(matches!(targets.enter(&provider, &model, POLICY, now), Gate::Refuse { .. }));
        assert!(targets.probed("p", true, POLICY, now).is_empty());
        assert_eq!(targets.enter(&provider, &model, POLICY, now), Gate::Probe, "a request has to find out");
        assert!(targets.probed("unknown", false, POLICY, now).is_empty());
    }

    #[test]
    fn providers_that_are_gone_are_forgotten() {
        let (targets, now) = (MemoryTargets::default(), Instant::now());
        fail(&targets, "gone", "m", now);
        targets.keep(&["stays".into()]);
        assert!(targets.statuses().is_empty());
        assert_eq!(fail(&targets, "stays", "m", now), Some(Change::Opened));
    }
}
