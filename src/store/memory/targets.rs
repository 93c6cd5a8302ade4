//! Breakers and health of one node's targets.

use crate::routing::breaker::{Change, Gate, Policy, State};
use crate::routing::health::Health;
use crate::store::ports::live::{TargetStatus, Targets};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Clients may invent model names without end; so many targets are remembered.
const MAX_TARGETS: usize = 4096;

#[derive(Debug, Default)]
struct Target {
    breaker: State,
    health: Health,
}

type ByModel = HashMap<Arc<str>, Target>;

/// The targets, by provider and model.
#[derive(Debug, Default)]
pub struct MemoryTargets(RwLock<HashMap<Arc<str>, ByModel>>);

impl MemoryTargets {
    fn read<R>(&self, provider: &str, model: &str, look: impl FnOnce(&Target) -> R) -> Option<R> {
        self.0.read().get(provider)?.get(model).map(look)
    }

    fn write<R>(&self, provider: &str, model: &str, change: impl FnOnce(&mut Target) -> R) -> Option<R> {
        self.0.write().get_mut(provider)?.get_mut(model).map(change)
    }

    fn insert(&self, provider: &Arc<str>, model: &Arc<str>) {
        let mut all = self.0.write();
        if all.values().map(HashMap::len).sum::<usize>() >= MAX_TARGETS {
            for models in all.values_mut() {
                models.retain(|_, target| !matches!(target.breaker, State::Closed { .. }));
            }
            if all.values().map(HashMap::len).sum::<usize>() >= MAX_TARGETS / 2 {
                all.clear();
            }
        }
        all.entry(provider.clone()).or_default().entry(model.clone()).or_default();
    }
}

impl Targets for MemoryTargets {
    fn health(&self, provider: &str, model: &str) -> Health {
        self.read(provider, model, |target| target.health).unwrap_or_default()
    }

    fn peek(&self, provider: &str, model: &str, policy: Policy, now: Instant) -> Gate {
        self.read(provider, model, |target| target.breaker.peek(policy, now)).unwrap_or(Gate::Pass)
    }

    fn enter(&self, provider: &Arc<str>, model: &Arc<str>, policy: Policy, now: Instant) -> Gate {
        match self.read(provider, model, |target| target.breaker.peek(policy, now)) {
            // Only the rare probe changes anything, so the common case needs no exclusive lock.
            Some(Gate::Probe) => self.write(provider, model, |t| t.breaker.enter(policy, now)).unwrap_or(Gate::Pass),
            Some(gate) => gate,
            None => {
                self.insert(provider, model);
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
        self.write(provider, model, |target| {
            target.health.report(success, first_output);
            target.breaker.report(success, policy, now)
        })?
    }

    fn note_rate(&self, provider: &str, model: &str, tokens_per_second: f64) {
        self.write(provider, model, |target| target.health.note_rate(tokens_per_second));
    }

    fn abandon(&self, provider: &str, model: &str, now: Instant) {
        self.write(provider, model, |target| target.breaker.abandon(now));
    }

    fn statuses(&self) -> Vec<TargetStatus> {
        let all = self.0.read();
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

    const POLICY: Policy = Policy { enabled: true, failures: 2, open_for: Duration::from_secs(30) };

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
}
