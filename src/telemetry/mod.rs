//! What can be seen of the gateway from outside: [`log`], [`metrics`] and [`live`] events, each fed from the same few
//! calls on [`Telemetry`], and [`redact`], through which text goes before anybody sees it.
//!
//! ```text
//! arrived ──> pending ──> attempt_begins ──> streaming ──> finished          state_change (at any time)
//!  gauge       live        live  │             live         log, metrics, live      log, metrics
//!                                └──> attempt_failed: live, and round again
//! ```
//!
//! Counters move once for each request, when it is finished and its record complete.

pub mod feed;
mod gen_ai;
mod line;
pub mod live;
pub mod log;
pub mod metrics;
mod queue;
pub mod recent;
pub mod redact;
mod sampled;
mod series;
pub mod state_change;

pub use self::log::Log;
pub use feed::Feed;
pub use line::Format;
pub use live::{Live, LiveEvent};
pub use metrics::{InFlight, Metrics};
pub use recent::Recent;
pub use redact::Redactor;
pub use sampled::{BreakerState, LedgerState, PoolState, StoreState};
pub use state_change::StateChange;

use self::log::now_unix_ms;
use crate::domain::{AttemptRecord, Ended, Principal, RequestId, RequestRecord};
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
    /// The last changes of states.
    pub feed: Feed,
    /// The last requests with their plans.
    pub recent: Recent,
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
        let (live, feed, recent) = (Live::default(), Feed::default(), Recent::default());
        Self { log, metrics, live, feed, recent, redactor, audience: Arc::default() }
    }

    /// A request was accepted: it is in flight until the guard is dropped.
    pub fn arrived(&self) -> InFlight {
        self.metrics.arrived()
    }

    /// A request of somebody is known to be for this model.
    pub fn pending(&self, id: RequestId, model: Option<&Arc<str>>, principal: Option<&Principal>) {
        self.live.send(|| LiveEvent {
            org: principal.map(Principal::org),
            key: principal.map(|principal| principal.key_name.clone()),
            model: model.map(|model| self.shown(model)),
            ..LiveEvent::new(id, now_unix_ms(), State::Pending)
        });
    }

    /// A target is about to be asked with a key of that name; `number` counts from 1.
    pub fn attempt_begins(&self, id: RequestId, number: u32, provider: &Arc<str>, model: &Arc<str>, lease: &Arc<str>) {
        self.live.send(|| LiveEvent {
            lease: Some(Arc::clone(lease)),
            model: Some(self.shown(model)),
            provider: Some(Arc::clone(provider)),
            attempt: Some(number),
            ..LiveEvent::new(id, now_unix_ms(), State::Attempt)
        });
    }

    /// An attempt has failed and triage has decided.
    pub fn attempt_failed(&self, id: RequestId, number: u32, attempt: &AttemptRecord) {
        self.live.send(|| LiveEvent {
            model: Some(self.shown(&attempt.model)),
            provider: Some(Arc::clone(&attempt.provider)),
            attempt: Some(number),
            verdict: Some(attempt.verdict),
            reason: attempt.reason.map(Arc::from),
            status: attempt.status,
            latency_ms: Some(millis(attempt.took)),
            ..LiveEvent::new(id, now_unix_ms(), State::Attempt)
        });
    }

    /// The first output goes to the client.
    pub fn streaming(&self, id: RequestId, number: u32, provider: &Arc<str>, model: &Arc<str>, ttft: Duration) {
        self.live.send(|| LiveEvent {
            model: Some(self.shown(model)),
            provider: Some(Arc::clone(provider)),
            attempt: Some(number),
            ttft_ms: Some(millis(ttft)),
            ..LiveEvent::new(id, now_unix_ms(), State::Streaming)
        });
    }

    /// A request of somebody has ended, whichever way. Called exactly once for each.
    pub fn finished(&self, record: &RequestRecord, principal: Option<&Principal>) {
        self.metrics.observe(record);
        self.log.request(record);
        self.live.send(|| LiveEvent { org: principal.map(Principal::org), ..self.end_of(record) });
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
        self.feed.push(now_unix_ms(), &change, &self.redactor);
        if let Some(audience) = self.audience.get() {
            audience(&change);
        }
    }

    fn end_of(&self, record: &RequestRecord) -> LiveEvent {
        let success = record.ended == Ended::Complete && record.status < 400;
        let reason = record.error_code.as_deref().unwrap_or(record.ended.name());
        LiveEvent {
            key: record.key_name.clone(),
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
            ..LiveEvent::new(record.id, now_unix_ms(), if success { State::Success } else { State::Error })
        }
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
