//! What `/metrics` shows: counters, histograms and gauges in Prometheus' text format.
//!
//! Every label is bounded. A model has a label of its own once it is in the catalog or has answered, and only so many
//! have; all others share `other`, so that clients who make up names cannot grow the gateway's memory or its pages.
//! Children are resolved once and kept, so that a request costs a few hash look-ups and atomic additions.

use super::series::SeriesCache;
use crate::domain::{CacheUse, Ended, RequestRecord};
use crate::store::ports::answers::AnswersHeld;
use parking_lot::RwLock;
use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// 10 µs to 100 ms.
const OVERHEAD_BUCKETS: &[f64] = &[1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1];

const ENDS: [Ended; 5] = [Ended::Complete, Ended::Error, Ended::Broken, Ended::ClientGone, Ended::Shutdown];

/// The metrics of the process.
pub struct Metrics {
    registry: Registry,
    series: SeriesCache,
    /// By [`Ended`], in the order of [`ENDS`].
    ended: [IntCounter; ENDS.len()],
    fallbacks: IntCounterVec,
    overhead: Histogram,
    in_flight: IntGauge,
    limited: IntCounterVec,
    log_dropped: IntCounter,
    reloads: IntCounterVec,
    keys: IntGaugeVec,
    breakers: IntGaugeVec,
    cache: IntCounterVec,
    cache_shared: IntCounter,
    cache_entries: IntGauge,
    cache_bytes: IntGauge,
    semantic: IntCounterVec,
    semantic_entries: IntGauge,
    resident: IntGauge,
    open_files: IntGauge,
    sources: RwLock<Sources>,
}

/// Where numbers come from that others keep; asked at each scrape.
#[derive(Default)]
struct Sources {
    pool: Option<Box<dyn Fn() -> PoolState + Send + Sync>>,
    log_dropped: Option<Box<dyn Fn() -> u64 + Send + Sync>>,
    cache: Option<Box<dyn Fn() -> AnswersHeld + Send + Sync>>,
    questions: Option<Box<dyn Fn() -> u64 + Send + Sync>>,
}

/// The state of keys and breakers at a moment.
#[derive(Clone, Debug, Default)]
pub struct PoolState {
    /// One entry for each provider key: the provider's id and the key's state (`idle`, `leased`, `cooldown`,
    /// `exhausted`, `disabled`).
    pub keys: Vec<(Arc<str>, &'static str)>,
    /// One entry for each target that has a breaker: provider, model, state.
    pub breakers: Vec<(Arc<str>, Arc<str>, BreakerState)>,
}

/// A breaker's state as a number that can be graphed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Traffic flows.
    Closed = 0,
    /// One request probes the target.
    HalfOpen = 1,
    /// No traffic.
    Open = 2,
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
            overhead: registered(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "orbyt_overhead_seconds",
                        "The part of a request's duration in which no provider was being waited for.",
                    )
                    .buckets(OVERHEAD_BUCKETS.to_vec()),
                )?,
            )?,
            in_flight: gauge(&registry, "orbyt_requests_in_flight", "Requests being served.")?,
            limited: counters(
                &registry,
                "orbyt_limited_total",
                "Requests refused by a limiter, by limit.",
                &["limit"],
            )?,
            log_dropped: registered(
                &registry,
                IntCounter::new("orbyt_log_lines_dropped_total", "Log lines that could not be written fast enough.")?,
            )?,
            reloads: counters(
                &registry,
                "orbyt_config_reloads_total",
                "Reloads of the configuration by result: ok, or refused with the last good one kept.",
                &["result"],
            )?,
            keys: gauges(&registry, "orbyt_keys", "Provider keys by state.", &["provider", "state"])?,
            breakers: gauges(
                &registry,
                "orbyt_breaker_state",
                "Breakers by target: 0 closed, 1 half-open, 2 open.",
                &["provider", "model"],
            )?,
            cache: counters(
                &registry,
                "orbyt_cache_requests_total",
                "Requests by what the cache of answers did, where it is on: hit, miss or bypass.",
                &["result"],
            )?,
            cache_shared: registered(
                &registry,
                IntCounter::new(
                    "orbyt_cache_shared_total",
                    "Hits that waited for the answer to another request that asked the same at the same time.",
                )?,
            )?,
            cache_entries: gauge(&registry, "orbyt_cache_entries", "Answers in the cache.")?,
            cache_bytes: gauge(&registry, "orbyt_cache_bytes", "Bytes that they take.")?,
            semantic: counters(
                &registry,
                "orbyt_cache_semantic_total",
                "Searches for an answer to a question that means the same, by result: hit, miss, or failed without an embedding.",
                &["result"],
            )?,
            semantic_entries: gauge(&registry, "orbyt_cache_semantic_entries", "Questions that are compared.")?,
            resident: gauge(&registry, "process_resident_memory_bytes", "Resident memory.")?,
            open_files: gauge(&registry, "process_open_fds", "Open file descriptors.")?,
            sources: RwLock::default(),
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

    /// Says where the states of keys and breakers come from. Asked at each scrape, on the console's thread.
    pub fn set_pool_source(&self, source: impl Fn() -> PoolState + Send + Sync + 'static) {
        self.sources.write().pool = Some(Box::new(source));
    }

    /// Says what the cache of answers holds. Asked at each scrape, on the console's thread.
    pub fn set_cache_source(&self, held: impl Fn() -> AnswersHeld + Send + Sync + 'static) {
        self.sources.write().cache = Some(Box::new(held));
    }

    /// Says how many questions are compared. Asked at each scrape, on the console's thread.
    pub fn set_question_source(&self, held: impl Fn() -> u64 + Send + Sync + 'static) {
        self.sources.write().questions = Some(Box::new(held));
    }

    /// Says where the number of dropped log lines comes from.
    pub fn set_log_source(&self, dropped: impl Fn() -> u64 + Send + Sync + 'static) {
        self.sources.write().log_dropped = Some(Box::new(dropped));
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
        self.series.observe(record);
        for moved in record.attempts.windows(2) {
            let (from, to) = (&moved[0], &moved[1]);
            if from.provider != to.provider || from.model != to.model {
                self.fallbacks.with_label_values(&[&*from.provider, &*to.provider]).inc();
            }
        }
    }

    /// Counts a request that a limiter has refused; `limit` is one of a few fixed names (`global`, `address`, `bad_key`).
    pub fn limited(&self, limit: &'static str) {
        self.limited.with_label_values(&[limit]).inc();
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
        self.ask_sources();
        let mut page = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut page) {
            log::error!("the metrics cannot be written: {error}");
        }
        String::from_utf8_lossy(&page).into_owned()
    }

    fn ask_sources(&self) {
        let sources = self.sources.read();
        if let Some(dropped) = &sources.log_dropped {
            self.log_dropped.inc_by(dropped().saturating_sub(self.log_dropped.get()));
        }
        if let Some(held) = &sources.cache {
            let held = held();
            self.cache_entries.set(i64::try_from(held.entries).unwrap_or(i64::MAX));
            self.cache_bytes.set(i64::try_from(held.bytes).unwrap_or(i64::MAX));
        }
        if let Some(held) = &sources.questions {
            self.semantic_entries.set(i64::try_from(held()).unwrap_or(i64::MAX));
        }
        if let Some(pool) = &sources.pool {
            let pool = pool();
            self.keys.reset();
            for (provider, state) in &pool.keys {
                self.keys.with_label_values(&[&**provider, state]).inc();
            }
            self.breakers.reset();
            for (provider, model, state) in &pool.breakers {
                self.breakers.with_label_values(&[&**provider, &**model]).set(*state as i64);
            }
        }
        self.ask_kernel();
    }

    /// Memory and descriptors, where `/proc` tells them.
    fn ask_kernel(&self) {
        const PAGE: i64 = 4096;
        let pages = std::fs::read_to_string("/proc/self/statm")
            .ok()
            .and_then(|statm| statm.split_ascii_whitespace().nth(1)?.parse::<i64>().ok());
        if let Some(pages) = pages {
            self.resident.set(pages * PAGE);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.open_files.set(i64::try_from(files.count()).unwrap_or_default());
        }
    }
}

/// A family that is registered.
pub(super) fn registered<C: Collector + Clone + 'static>(registry: &Registry, family: C) -> prometheus::Result<C> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    registered(registry, IntGauge::new(name, help)?)
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
