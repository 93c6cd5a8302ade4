//! Active probes (`[health] probe`): asks every provider for its list of models now and then, to see early that it is gone or back.
//!
//! A probe is no traffic: it counts in no record, no limit and no record of health. It closes no breaker either, because a list of models
//! says nothing of a model; it lets the next request find out at once. A key that was refused is ready again once a probe with it succeeds
//! that was refused before: some providers list their models to anybody.

use super::ask::{Asker, Unanswered};
use crate::config::Snapshot;
use crate::config::snapshot::Provider;
use crate::domain::{KeyId, ProviderKey};
use crate::proxy::Core;
use crate::proxy::core::breaker_policy;
use crate::store::ports::live::KeyState;
use crate::telemetry::StateChange;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How often the configuration is looked at while probes are off.
const UNTIL_ON: Duration = Duration::from_secs(5);

/// Probes for as long as the gateway runs.
pub(super) async fn keep_up(core: Arc<Core>, asker: Arc<Asker>) {
    let mut refused = HashSet::new();
    loop {
        let snapshot = core.snapshot.load_full();
        if snapshot.health.probe.is_some() {
            refused = round(&core, &asker, &snapshot, &refused).await;
        }
        tokio::time::sleep(core.snapshot.load().health.probe.unwrap_or(UNTIL_ON)).await;
    }
}

/// A key whose probe was refused.
type Refused = HashSet<(Arc<str>, KeyId)>;

/// Probes every provider, all at once, so that one that is silent keeps nobody waiting. Returns the keys that were refused.
async fn round(core: &Arc<Core>, asker: &Arc<Asker>, snapshot: &Arc<Snapshot>, before: &Refused) -> Refused {
    let mut probes = JoinSet::new();
    for provider in &snapshot.providers {
        let (core, asker, snapshot, provider) = (core.clone(), asker.clone(), snapshot.clone(), provider.clone());
        let before = before.iter().filter(|(of, _)| *of == provider.id).map(|(_, key)| *key).collect();
        probes.spawn(async move { probe(&core, &asker, &snapshot, &provider, before).await });
    }
    let mut refused = Refused::new();
    while let Some(result) = probes.join_next().await {
        // One that panicked says nothing.
        refused.extend(result.unwrap_or_default());
    }
    refused
}

/// Probes one provider: with its first key that is not disabled, and with each that is.
async fn probe(
    core: &Core,
    asker: &Asker,
    snapshot: &Snapshot,
    provider: &Arc<Provider>,
    before: HashSet<KeyId>,
) -> Refused {
    let statuses = core.pool.statuses(Instant::now());
    let is_disabled = |key: &ProviderKey| {
        let is_it = |id: KeyId, of: &Arc<str>| id == key.id && *of == provider.id;
        statuses.iter().any(|status| is_it(status.id, &status.provider) && status.state == KeyState::Disabled)
    };
    let (disabled, enabled): (Vec<_>, Vec<_>) = provider.keys.iter().partition(|key| is_disabled(key));
    let mut up = None;
    if let Some(key) = enabled.first().map(|key| Some(&***key)).or(provider.keys.is_empty().then_some(None)) {
        up = Some(is_up(&asker.ask(provider, key).await));
    }
    let mut refused = Refused::new();
    for key in disabled {
        let answer = asker.ask(provider, Some(key)).await;
        up = Some(up.unwrap_or_default() || is_up(&answer));
        match answer {
            Ok(_) if before.contains(&key.id) && core.pool.enable(&provider.id, key.id) => {
                core.telemetry.state_change(StateChange::KeyIdle { provider: &provider.id, key: &key.name });
            }
            Err(Unanswered { status: Some(400..=403), .. }) => {
                refused.insert((provider.id.clone(), key.id));
            }
            // Without an answer nothing is known that was not known before.
            Err(_) if before.contains(&key.id) => {
                refused.insert((provider.id.clone(), key.id));
            }
            _ => {}
        }
    }
    take_note(core, snapshot, provider, up.unwrap_or(true));
    refused
}

/// A provider that answers anything but that it is unwell is there.
fn is_up<T>(answer: &Result<T, Unanswered>) -> bool {
    match answer {
        Ok(_) => true,
        Err(unanswered) => unanswered.status.is_some_and(|status| status < 500),
    }
}

fn take_note(core: &Core, snapshot: &Snapshot, provider: &Provider, up: bool) {
    core.telemetry.metrics.probed(&provider.id, up);
    let policy = breaker_policy(snapshot).with_jitter(fastrand::f64());
    for model in core.targets.probed(&provider.id, up, policy, Instant::now()) {
        let (provider, model) = (&*provider.id, &*model);
        core.telemetry.state_change(StateChange::ProviderUnhealthy { provider, model, why: "probe" });
    }
}
