//! What `/metrics` shows: counters, histograms and gauges in Prometheus' text format.
//!
//! Every label is bounded. A model has a label of its own once it is in the catalog or has answered, and only so many
//! have; all others share `other`, so that clients who make up names cannot grow the gateway's memory or its pages.
//! Children are resolved once and kept, so that a request costs a few hash look-ups and atomic additions.

use super::sampled::{AlertCounts, LedgerState, PoolState, Sampled, StoreState};
use super::series::SeriesCache;
use crate::domain::{CacheUse, Ended, RequestRecord};
use crate::store::ports::answers::AnswersHeld;
use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// 10 µs to 100 ms.
const OVERHEAD_BUCKETS: &[f64] = &[1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1];

/// 1 ms to five minutes.
const QUEUE_BUCKETS: &[f64] =
    &[0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

const ENDS: [Ended; 5] = [Ended::Complete, Ended::Error, Ended::Broken, Ended::ClientGone, Ended::Shutdown];

/// The metrics of the process.
pub struct Metrics {
    registry: Registry,
    series: SeriesCache,
    /// By [`Ended`], in the order of [`ENDS`].
    ended: [IntCounter; ENDS.len()],
    fallbacks: IntCounterVec,
    overhead: Histogram,
    queue_wait: Histogram,
    in_flight: IntGauge,
    limited: IntCounterVec,
    retries_refused: IntCounter,
    breaker_changes: IntCounterVec,
    probes: IntCounterVec,
    reloads: IntCounterVec,
    hedges: IntCounterVec,
    cache: IntCounterVec,
    cache_shared: IntCounter,
    semantic: IntCounterVec,
    traces: IntCounterVec,
    live: IntCounterVec,
    sampled: Sampled,
}

/// Counts a request as in flight until it is dropped.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Registers all families.
    ///
    /// # Errors
    /// When two families clash in name, which is a bug.
    pub fn new(version: &str) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let ended = counters(&registry, "orbyt_requests_ended_total", "Requests by how they ended.", &["ended"])?;
        let metrics = Self {
            series: SeriesCache::new(&registry)?,
            ended: ENDS.map(|end| ended.with_label_values(&[end.name()])),
            fallbacks: counters(
                &registry,
                "orbyt_fallbacks_total",
                "Moves of a request from one target to the next, by provider; both are the same when only the model changed.",
                &["from", "to"],
            )?,
            overhead: histogram(
                &registry,
                "orbyt_overhead_seconds",
                "The part of a request's duration in which no provider was being waited for.",
                OVERHEAD_BUCKETS,
            )?,
            queue_wait: histogram(
                &registry,
                "orbyt_queue_wait_seconds",
                "How long requests waited for a place at a provider, those that had to.",
                QUEUE_BUCKETS,
            )?,
            in_flight: gauge(&registry, "orbyt_requests_in_flight", "Requests being served.")?,
            limited: counters(
                &registry,
                "orbyt_limited_total",
                "Requests refused by a limiter, by limit.",
                &["limit"],
            )?,
            retries_refused: counter(
                &registry,
                "orbyt_retries_refused_total",
                "Retries that the budget ([retry] budget) did not pay for.",
            )?,
            breaker_changes: counters(
                &registry,
                "orbyt_breaker_changes_total",
                "Breakers that have opened (a target is unhealthy) or closed again (it has recovered), by provider.",
                &["provider", "to"],
            )?,
            traces: traces(&registry)?,
            live: live_events(&registry)?,
            probes: counters(
                &registry,
                "orbyt_probes_total",
                "Active probes of providers by result: up or down.",
                &["provider", "result"],
            )?,
            reloads: counters(
                &registry,
                "orbyt_config_reloads_total",
                "Reloads of the configuration by result: ok, or refused with the last good one kept.",
                &["result"],
            )?,
            hedges: counters(
                &registry,
                "orbyt_hedges_total",
                "Late attempts beside which the next target was asked, by what came of it: won, lost, failed, or refused by the budget.",
                &["result"],
            )?,
            cache: counters(
                &registry,
                "orbyt_cache_requests_total",
                "Requests by what the cache of answers did, where it is on: hit, miss or bypass.",
                &["result"],
            )?,
            cache_shared: counter(
                &registry,
                "orbyt_cache_shared_total",
                "Hits that waited for the answer to another request that asked the same at the same time.",
            )?,
            semantic: searches(&registry)?,
            sampled: Sampled::new(&registry)?,
            registry,
        };
        metrics.state_facts(version)?;
        Ok(metrics)
    }

    /// What never changes, and the children that shall be seen as zero before anything happens.
    fn state_facts(&self, version: &str) -> prometheus::Result<()> {
        let info = gauges(&self.registry, "orbyt_build_info", "Always 1; the version is the label.", &["version"])?;
        info.with_label_values(&[version]).set(1);
        let start = gauge(&self.registry, "process_start_time_seconds", "Start of the process since the Unix epoch.")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        start.set(i64::try_from(now.as_secs()).unwrap_or_default());
        for result in ["ok", "refused"] {
            self.reloads.with_label_values(&[result]);
        }
        for result in CacheUse::ALL {
            self.cache.with_label_values(&[result.name()]);
        }
        for result in ["hit", "miss", "failed"] {
            self.semantic.with_label_values(&[result]);
        }
        Ok(())
    }

    /// Lets these models (as their providers know them) have labels from the start: those of the catalog and of the
    /// configuration. Called at the start and after each reload.
    pub fn know_models(&self, names: impl IntoIterator<Item = Arc<str>>) {
        self.series.know(names.into_iter().collect::<HashSet<_>>());
    }

    /// Says what OpenTelemetry calls the providers, by id; the others are called by their ids. Called at the start and after each reload.
    pub fn know_providers(&self, names: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) {
        self.series.call(names.into_iter().collect());
    }

    /// Says where the states of keys and breakers come from. Asked at each scrape, on the console's thread.
    pub fn set_pool_source(&self, source: impl Fn() -> PoolState + Send + Sync + 'static) {
        self.sampled.sources.write().pool = Some(Box::new(source));
    }

    /// Says what the cache of answers holds. Asked at each scrape, on the console's thread.
    pub fn set_cache_source(&self, held: impl Fn() -> AnswersHeld + Send + Sync + 'static) {
        self.sampled.sources.write().cache = Some(Box::new(held));
    }

    /// Says how many questions are compared. Asked at each scrape, on the console's thread.
    pub fn set_question_source(&self, held: impl Fn() -> u64 + Send + Sync + 'static) {
        self.sampled.sources.write().questions = Some(Box::new(held));
    }

    /// Says where the number of dropped log lines comes from.
    pub fn set_log_source(&self, dropped: impl Fn() -> u64 + Send + Sync + 'static) {
        self.sampled.sources.write().log_dropped = Some(Box::new(dropped));
    }

    /// Says how the store is that nodes share, if there is one.
    pub fn set_store_source(&self, source: impl Fn() -> StoreState + Send + Sync + 'static) {
        self.sampled.sources.write().store = Some(Box::new(source));
    }

    /// Says how the ledger is, if one is kept.
    pub fn set_ledger_source(&self, source: impl Fn() -> LedgerState + Send + Sync + 'static) {
        self.sampled.sources.write().ledger = Some(Box::new(source));
    }

    /// Says how many alerts are active, by kind. Asked at each scrape, on the console's thread.
    pub fn set_alert_source(&self, source: impl Fn() -> AlertCounts + Send + Sync + 'static) {
        self.sampled.sources.write().alerts = Some(Box::new(source));
    }

    /// Counts a request that has arrived as in flight until the guard is dropped.
    pub fn arrived(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// How many requests are being served.
    pub fn in_flight(&self) -> u64 {
        u64::try_from(self.in_flight.get()).unwrap_or_default()
    }

    /// Counts a finished request with all its attempts.
    pub fn observe(&self, record: &RequestRecord) {
        if let Some(index) = ENDS.iter().position(|end| *end == record.ended) {
            self.ended[index].inc();
        }
        self.overhead.observe(record.overhead.as_secs_f64());
        if let Some(queued) = record.queued {
            self.queue_wait.observe(queued.as_secs_f64());
        }
        self.series.observe(record);
        for moved in record.attempts.windows(2) {
            let (from, to) = (&moved[0], &moved[1]);
            if from.provider != to.provider || from.model != to.model {
                self.fallbacks.with_label_values(&[&*from.provider, &*to.provider]).inc();
            }
        }
    }

    /// The collector was told of so many requests, or not.
    pub fn traced(&self, result: &'static str, count: u64) {
        self.traces.with_label_values(&[result]).inc_by(count);
    }

    /// Counts live events: `told` to other nodes, `heard` of them, or `lost` on the way.
    pub fn live_events(&self, result: &'static str, count: u64) {
        self.live.with_label_values(&[result]).inc_by(count);
    }

    /// Counts a request that a limiter has refused; `limit` is one of a few fixed names: `global`, `address`, `bad_key`,
    /// `concurrent`, scope and kind of a rule such as `key_tokens`, `queue_full`, `queue_wait`.
    pub fn limited(&self, limit: &'static str) {
        self.limited.with_label_values(&[limit]).inc();
    }

    /// Counts a retry that was due and that the budget did not pay for.
    pub fn retry_refused(&self) {
        self.retries_refused.inc();
    }

    /// Counts a breaker that is `open` or `closed` from now on.
    pub fn breaker_changed(&self, provider: &str, to: &'static str) {
        self.breaker_changes.with_label_values(&[provider, to]).inc();
    }

    /// Counts an attempt that was late: the answer of the other target was taken (`won`), was not (`lost`) or did not come (`failed`), or
    /// the budget did not pay for asking (`refused`).
    pub fn hedged(&self, result: &'static str) {
        self.hedges.with_label_values(&[result]).inc();
    }

    /// Counts an active probe of a provider.
    pub fn probed(&self, provider: &str, up: bool) {
        self.probes.with_label_values(&[provider, if up { "up" } else { "down" }]).inc();
    }

    /// Counts what the cache of answers did for a request; `shared` with another that asked the same at the same time.
    pub fn cached(&self, result: CacheUse, shared: bool) {
        self.cache.with_label_values(&[result.name()]).inc();
        self.cache_shared.inc_by(shared.into());
    }

    /// Counts a search for an answer to a question that means the same: `hit`, `miss` or `failed`.
    pub fn compared(&self, result: &'static str) {
        self.semantic.with_label_values(&[result]).inc();
    }

    /// Counts a reload of the configuration.
    pub fn reloaded(&self, accepted: bool) {
        self.reloads.with_label_values(&[if accepted { "ok" } else { "refused" }]).inc();
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        self.sampled.refresh(&self.series);
        let mut page = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut page) {
            log::error!("the metrics cannot be written: {error}");
        }
        String::from_utf8_lossy(&page).into_owned()
    }
}

/// What came of searches in the semantic cache.
fn searches(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    counters(
        registry,
        "orbyt_cache_semantic_total",
        "Searches for an answer to a question that means the same, by result: hit, miss, or failed without an embedding.",
        &["result"],
    )
}

/// A family that is registered.
pub(super) fn registered<C: Collector + Clone + 'static>(registry: &Registry, family: C) -> prometheus::Result<C> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn traces(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    let help =
        "Requests told to the OpenTelemetry collector by result: sent, failed, or dropped because the queue was full.";
    counters(registry, "orbyt_traces_total", help, &["result"])
}

fn live_events(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    let help = "Live events of requests between nodes by result: told to others, heard of them, or lost on the way.";
    counters(registry, "orbyt_live_events_total", help, &["result"])
}

pub(super) fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

pub(super) fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    registered(registry, IntCounter::new(name, help)?)
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
    registered(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    registered(registry, IntGauge::new(name, help)?)
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
