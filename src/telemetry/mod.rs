//! What can be seen of the gateway from outside: [`log`], [`metrics`] and [`live`] events, each fed from the same few
//! calls on [`Telemetry`], and [`redact`], through which text goes before anybody sees it.
//!
//! ```text
//! arrived ──> pending ──> attempt_begins ──> streaming ──> finished          state_change (at any time)
//!  gauge       live        live  │             live         log, metrics, live      log, metrics, operations
//!                                └──> attempt_failed: live, and round again
//! ```
//!
//! Counters move once for each request, when it is finished and its record complete.

pub mod alerts;
mod gen_ai;
mod line;
pub mod live;
pub mod log;
pub mod metrics;
pub mod operations;
pub mod payloads;
mod queue;
pub mod recent;
pub mod redact;
mod sampled;
mod series;
pub mod state_change;
pub mod traces;

pub use self::log::Log;
pub use line::Format;
pub use live::{Live, LiveEvent};
pub use metrics::{InFlight, Metrics};
pub use operations::Operations;
pub use payloads::PayloadStore;
pub use recent::Recent;
pub use redact::Redactor;
pub use sampled::{BreakerState, LedgerState, PoolState, StoreState};
pub use state_change::StateChange;
pub use traces::Traces;

use self::log::now_unix_ms;
use crate::domain::{AttemptRecord, Ended, RequestRecord};
use live::{State, Tokens};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The one thing that the data plane tells what happens. Every call is cheap and none waits.
#[derive(Clone)]
pub struct Telemetry {
    /// The log.
    pub log: Log,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The live events.
    pub live: Live,
    /// What happens to keys, breakers, stores and the configuration.
    pub operations: Operations,
    /// The last requests with their plans.
    pub recent: Recent,
    /// What the last requests carried.
    pub payloads: PayloadStore,
    /// The way of traces to a collector.
    pub traces: Traces,
    /// The alerts.
    pub alerts: alerts::Board,
    /// What everything passes that others have written.
    pub redactor: Arc<Redactor>,
    audience: Arc<OnceLock<Audience>>,
}

/// Who else hears of every change of a state.
type Audience = Box<dyn Fn(&StateChange<'_>) + Send + Sync>;

impl Telemetry {
    /// Puts the parts together.
    pub fn new(log: Log, metrics: Arc<Metrics>, redactor: Arc<Redactor>) -> Self {
        let counted = log.clone();
        metrics.set_log_source(move || counted.dropped());
        let alerts = alerts::Board::default();
        let counted = alerts.clone();
        metrics.set_alert_source(move || counted.counts());
        let payloads = PayloadStore::new(redactor.clone());
        let (live, operations, recent) = (Live::default(), Operations::default(), Recent::default());
        Self {
            log,
            metrics,
            live,
            operations,
            recent,
            payloads,
            traces: Traces::default(),
            alerts,
            redactor,
            audience: Arc::default(),
        }
    }

    /// A request was accepted: it is in flight until the guard is dropped.
    pub fn arrived(&self) -> InFlight {
        self.metrics.arrived()
    }

    /// A request is known to be for this model.
    pub fn pending(&self, record: &RequestRecord, model: Option<&Arc<str>>) {
        self.live
            .send(|| LiveEvent { model: model.map(|model| self.shown(model)), ..self.event(record, State::Pending) });
    }

    /// A target is about to be asked with the key of this name; `number` counts from 1.
    pub fn attempt_begins(
        &self,
        record: &RequestRecord,
        number: u32,
        provider: &Arc<str>,
        model: &Arc<str>,
        key: &Arc<str>,
    ) {
        self.live.send(|| LiveEvent {
            model: Some(self.shown(model)),
            provider: Some(Arc::clone(provider)),
            key: Some(Arc::clone(key)),
            attempt: Some(number),
            ..self.event(record, State::Attempt)
        });
    }

    /// An attempt has failed and triage has decided.
    pub fn attempt_failed(&self, record: &RequestRecord, number: u32, attempt: &AttemptRecord) {
        self.live.send(|| LiveEvent {
            model: Some(self.shown(&attempt.model)),
            provider: Some(Arc::clone(&attempt.provider)),
            key: Some(Arc::clone(&attempt.key_name)),
            attempt: Some(number),
            verdict: Some(attempt.verdict.into()),
            reason: attempt.reason.map(Arc::from),
            status: attempt.status,
            latency_ms: Some(millis(attempt.took)),
            ..self.event(record, State::Attempt)
        });
    }

    /// The first output goes to the client.
    pub fn streaming(
        &self,
        record: &RequestRecord,
        number: u32,
        provider: &Arc<str>,
        model: &Arc<str>,
        ttft: Duration,
    ) {
        self.live.send(|| LiveEvent {
            model: Some(self.shown(model)),
            provider: Some(Arc::clone(provider)),
            attempt: Some(number),
            ttft_ms: Some(millis(ttft)),
            ..self.event(record, State::Streaming)
        });
    }

    /// A request has ended, whichever way. Called exactly once for each.
    pub fn finished(&self, record: &RequestRecord) {
        self.metrics.observe(record);
        self.log.request(record);
        self.live.send(|| self.end_of(record));
    }

    /// Has every change of a state told to somebody, who must not wait. The first who asks is told.
    pub fn set_audience(&self, audience: impl Fn(&StateChange<'_>) + Send + Sync + 'static) {
        let _ = self.audience.set(Box::new(audience));
    }

    /// Something has changed its state.
    pub fn state_change(&self, change: StateChange<'_>) {
        match change {
            StateChange::ConfigReloaded => self.metrics.reloaded(true),
            StateChange::ConfigRefused { .. } => self.metrics.reloaded(false),
            StateChange::ProviderUnhealthy { provider, .. } => self.metrics.breaker_changed(provider, "open"),
            StateChange::ProviderRecovered { provider, .. } => self.metrics.breaker_changed(provider, "closed"),
            _ => {}
        }
        self.log.state_change(&change);
        self.operations.changed(&change, &self.redactor);
        if let Some(audience) = self.audience.get() {
            audience(&change);
        }
    }

    fn end_of(&self, record: &RequestRecord) -> LiveEvent {
        let success = record.ended == Ended::Complete && record.status < 400;
        let reason = record.error_code.as_deref().unwrap_or(record.ended.name());
        LiveEvent {
            model: record.model.as_ref().or(record.requested_model.as_ref()).map(|model| self.shown(model)),
            provider: record.provider.clone(),
            attempt: u32::try_from(record.attempt_count()).ok().filter(|&count| count > 0),
            reason: (!success).then(|| Arc::from(&*self.redactor.redact(reason))),
            status: Some(record.status).filter(|&status| status > 0),
            latency_ms: Some(millis(record.latency)),
            ttft_ms: record.ttft.map(millis),
            tokens: record
                .usage
                .map(|usage| Tokens { prompt: usage.prompt_tokens, completion: usage.completion_tokens }),
            cost_usd: record.cost,
            ..self.event(record, if success { State::Success } else { State::Error })
        }
    }

    fn event(&self, record: &RequestRecord, state: State) -> LiveEvent {
        let (org, caller) = (record.org.clone(), record.key_name.clone());
        LiveEvent { org, caller, ..LiveEvent::new(record.id, now_unix_ms(), state) }
    }

    /// A name that a client may have made up.
    fn shown(&self, model: &Arc<str>) -> Arc<str> {
        match self.redactor.redact(model) {
            std::borrow::Cow::Borrowed(_) => Arc::clone(model),
            std::borrow::Cow::Owned(clean) => clean.into(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
