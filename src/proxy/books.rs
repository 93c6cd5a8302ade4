//! The books of a walk: health, key states, the record of each attempt, all redacted before anybody sees them.

use super::core::breaker_policy;
use super::lease::Lease;
use super::names::Target;
use super::walk::Walk;
use crate::dialect::extensions::Byok;
use crate::domain::{AttemptRecord, Fault};
use crate::routing::breaker::Change;
use crate::store::ports::live::{KeyOutcome, KeyState};
use crate::telemetry::StateChange;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Walk<'_> {
    pub(super) fn healthy(&self, target: &Target, lease: &Lease, well: bool, first_output: Option<Duration>) {
        let (provider, model) = (&target.provider.id, &target.model.upstream);
        let now = Instant::now();
        // What happens with a client's own key says little about ours; only a probe's place must be given back.
        if lease.is_byok() {
            return self.core.targets.abandon(provider, model, now);
        }
        let policy = breaker_policy(&self.snapshot);
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

    pub(super) fn note_key(&self, target: &Target, lease: &mut Lease, outcome: KeyOutcome) {
        let Some(state) = lease.give_back(outcome) else { return };
        let (provider, key, why) = (&*target.provider.id, &*lease.key_name(), self.last_reason());
        self.core.telemetry.state_change(match state {
            KeyState::Cooldown { left } => StateChange::KeyCooldown { provider, key, rest: left, why },
            KeyState::Exhausted { left } => StateChange::KeyExhausted { provider, key, rest: left, why },
            KeyState::Disabled => StateChange::KeyDisabled { provider, key, why },
            KeyState::Ready { .. } => StateChange::KeyIdle { provider, key },
        });
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

    pub(super) fn record_of(&self, target: &Target, key_name: Arc<str>, begun: Instant) -> AttemptRecord {
        AttemptRecord {
            provider: target.provider.id.clone(),
            model: target.model.upstream.clone(),
            key_name,
            started: begun.duration_since(self.client.started),
            took: begun.elapsed(),
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

    /// A fault as it may be shown: a provider may repeat any key in any of its texts, the client's own too.
    pub(super) fn redacted(&self, fault: Fault) -> Fault {
        let own = self.envelope.extensions.byok.as_ref().map(Byok::secrets).unwrap_or_default();
        let clean = |text: &str| self.core.telemetry.redactor.redact_with(text, &own).into_owned();
        Fault {
            message: clean(&fault.message).into(),
            error_type: fault.error_type.as_deref().map(clean),
            code: fault.code.as_deref().map(clean),
            param: fault.param.as_deref().map(clean),
            ..fault
        }
    }

    pub(super) fn push(&mut self, mut attempt: AttemptRecord) {
        if attempt.reason.is_some() {
            // It is shown to the client, who may have put a key where the model's name belongs.
            if let Cow::Owned(shown) = self.core.telemetry.redactor.redact(&attempt.model) {
                attempt.model = shown.into();
            }
            self.core.telemetry.attempt_failed(self.client.record.id, self.attempt_number(), &attempt);
        }
        self.client.record.attempts.push(attempt);
    }

    /// The number of the attempt that is being made, from 1.
    pub(super) fn attempt_number(&self) -> u32 {
        u32::try_from(self.client.record.attempt_count() + 1).unwrap_or(u32::MAX)
    }
}
