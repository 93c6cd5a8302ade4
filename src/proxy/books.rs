//! The books of a walk: health, key states, the record of each attempt, all redacted before anybody sees them.

use super::core::{Core, breaker_policy};
use super::lease::Lease;
use super::names::Target;
use super::walk::Walk;
use crate::dialect::extensions::Byok;
use crate::domain::{AttemptRecord, Clock, Fault, FaultKind};
use crate::routing::breaker::Change;
use crate::store::ports::live::{KeyOutcome, KeyState};
use crate::telemetry::StateChange;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Walk<'_> {
    /// What a fault says about the target: that it is unwell, that it is well (it refused the request, not the key), or nothing.
    pub(super) fn note_health(
        &self,
        target: &Target,
        lease: &Lease,
        fault: &Fault,
        status: Option<u16>,
        begun: Instant,
    ) {
        let now = Instant::now();
        let timeouts = target.provider.timeouts.unwrap_or(self.snapshot.timeouts);
        let request_refused =
            matches!(fault.kind, FaultKind::BadRequest | FaultKind::ContextLength | FaultKind::ContentFilter);
        match fault.kind {
            // A short deadline of the client's says nothing; a target that was silent for as long as it may be is unwell.
            FaultKind::Timeout(Clock::Total) if now.duration_since(begun) < timeouts.first_output => {
                self.abandon(target)
            }
            FaultKind::Timeout(Clock::Total) => self.healthy(target, lease, false, None, now),
            kind if kind.counts_against_health() => self.healthy(target, lease, false, None, now),
            _ if request_refused && status.is_some() => self.healthy(target, lease, true, None, now),
            _ => {
                if status.is_some() {
                    self.core.targets.note_tried(&target.provider.id, &target.model.upstream);
                }
                self.abandon(target);
            }
        }
    }

    /// An attempt ended without saying anything about the target: a probe gives its place back, and nobody else's.
    pub(super) fn abandon(&self, target: &Target) {
        if self.is_probe {
            self.core.targets.abandon(&target.provider.id, &target.model.upstream, Instant::now());
        }
    }

    pub(super) fn healthy(
        &self,
        target: &Target,
        lease: &Lease,
        well: bool,
        first_output: Option<Duration>,
        now: Instant,
    ) {
        let (provider, model) = (&target.provider.id, &target.model.upstream);
        // What happens with a client's own key says little about ours; only a probe's place must be given back.
        if lease.is_byok() {
            return self.abandon(target);
        }
        let policy = breaker_policy(&self.snapshot).with_jitter(fastrand::f64());
        match self.core.targets.report(provider, model, well, first_output, policy, now) {
            Some(Change::Opened) => {
                let why = self.last_reason();
                self.core.telemetry.state_change(StateChange::ProviderUnhealthy { provider, model, why });
            }
            Some(Change::Closed) => {
                self.core.telemetry.state_change(StateChange::ProviderRecovered { provider, model });
            }
            None => {}
        }
    }

    pub(super) fn last_reason(&self) -> &'static str {
        self.last_fault.as_ref().map_or("", |fault| fault.kind.name())
    }

    pub(super) fn note_key(&self, target: &Target, lease: &mut Lease, outcome: KeyOutcome, now: Instant) {
        let Some(state) = lease.give_back(outcome, now) else { return };
        let (provider, key, why) = (&*target.provider.id, &*lease.key_name(), self.last_reason());
        self.core.telemetry.state_change(match state {
            KeyState::Cooldown { left, .. } => StateChange::KeyCooldown { provider, key, rest: left, why },
            KeyState::Exhausted { left } => StateChange::KeyExhausted { provider, key, rest: left, why },
            KeyState::Disabled => StateChange::KeyDisabled { provider, key, why },
            KeyState::Ready { .. } => StateChange::KeyIdle { provider, key },
        });
    }

    /// Tells that a key is back from its rest.
    pub(super) fn note_revival(&self, target: &Target, lease: &Lease) {
        if lease.is_revived() {
            let (provider, key) = (&*target.provider.id, &*lease.key_name());
            self.core.telemetry.state_change(StateChange::KeyIdle { provider, key });
        }
    }

    pub(super) fn failover(&self, from: &Target, to: usize) {
        if let Some((_, to)) = self.plan.targets.get(to) {
            self.core.telemetry.state_change(StateChange::Failover {
                request: self.client.record.id,
                from: &from.model.id,
                to: &to.model.id,
                reason: self.last_reason(),
                after: self.client.started.elapsed(),
            });
        }
    }

    pub(super) fn record_of(
        &self,
        target: &Target,
        key_name: Arc<str>,
        begun: Instant,
        ended: Instant,
    ) -> AttemptRecord {
        AttemptRecord {
            provider: target.provider.id.clone(),
            model: target.model.upstream.clone(),
            key_name,
            started: begun.duration_since(self.client.started),
            took: ended.saturating_duration_since(begun),
            status: None,
            reason: None,
            message: None,
            verdict: "ok",
        }
    }

    pub(super) fn with_fault(&self, record: AttemptRecord, fault: &Fault, status: Option<u16>) -> AttemptRecord {
        let message = self.redacted(fault.clone()).message.into_owned();
        AttemptRecord {
            status: status.or(fault.status),
            reason: Some(fault.kind.name()),
            message: Some(message),
            ..record
        }
    }

    /// A fault as it may be shown.
    pub(super) fn redacted(&self, fault: Fault) -> Fault {
        redacted(self.core, self.envelope.extensions.byok.as_ref(), fault)
    }

    pub(super) fn push(&mut self, mut attempt: AttemptRecord) {
        if attempt.reason.is_some() {
            // It is shown to the client, who may have put a key where the model's name belongs.
            if let Cow::Owned(shown) = self.core.telemetry.redactor.redact(&attempt.model) {
                attempt.model = shown.into();
            }
            self.core.telemetry.attempt_failed(&self.client.record, self.attempt_number(), &attempt);
        }
        self.client.record.attempts.push(attempt);
    }

    /// The number of the attempt that is being made, from 1.
    pub(super) fn attempt_number(&self) -> u32 {
        u32::try_from(self.client.record.attempt_count() + 1).unwrap_or(u32::MAX)
    }
}

/// A fault as it may be shown: a provider may repeat any key in any of its texts, the client's own too.
pub(super) fn redacted(core: &Core, byok: Option<&Byok>, fault: Fault) -> Fault {
    let own = byok.map(Byok::secrets).unwrap_or_default();
    let clean = |text: &str| core.telemetry.redactor.redact_with(text, &own).into_owned();
    Fault {
        message: clean(&fault.message).into(),
        error_type: fault.error_type.as_deref().map(clean),
        code: fault.code.as_deref().map(clean),
        param: fault.param.as_deref().map(clean),
        ..fault
    }
}
