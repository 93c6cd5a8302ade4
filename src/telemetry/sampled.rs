//! The families of `/metrics` whose numbers others keep: states of the moment, asked for at each scrape.

use super::metrics::{counters, gauge, gauges, registered};
use super::series::{MOST_MODELS, OTHER, SeriesCache};
use crate::store::ports::answers::AnswersHeld;
use parking_lot::RwLock;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use std::sync::Arc;

/// States of the moment.
pub(super) struct Sampled {
    queue_depth: IntGaugeVec,
    log_dropped: IntCounter,
    keys: IntGaugeVec,
    breakers: IntGaugeVec,
    cache_entries: IntGauge,
    cache_bytes: IntGauge,
    semantic_entries: IntGauge,
    store: SharedStore,
    resident: IntGauge,
    open_files: IntGauge,
    pub(super) sources: RwLock<Sources>,
}

/// Where numbers come from that others keep; asked at each scrape.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) pool: Option<Box<dyn Fn() -> PoolState + Send + Sync>>,
    pub(super) cache: Option<Box<dyn Fn() -> AnswersHeld + Send + Sync>>,
    pub(super) questions: Option<Box<dyn Fn() -> u64 + Send + Sync>>,
    pub(super) log_dropped: Option<Box<dyn Fn() -> u64 + Send + Sync>>,
    pub(super) store: Option<Box<dyn Fn() -> StoreState + Send + Sync>>,
}

/// How the store is that nodes share.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreState {
    /// Its name: `redis`.
    pub name: &'static str,
    /// Whether it is asked.
    pub up: bool,
    /// How many nodes live, as far as is known.
    pub nodes: u32,
    /// Questions of requests by result: their names and numbers.
    pub calls: [(&'static str, u64); 3],
    /// Records in it that could not be read.
    pub unread: u64,
}

/// The state of keys and breakers at a moment.
#[derive(Clone, Debug, Default)]
pub struct PoolState {
    /// One entry for each provider key: the provider's id and the key's state (`idle`, `leased`, `cooldown`,
    /// `exhausted`, `disabled`).
    pub keys: Vec<(Arc<str>, &'static str)>,
    /// One entry for each target that has a breaker: provider, model, state.
    pub breakers: Vec<(Arc<str>, Arc<str>, BreakerState)>,
    /// How many requests wait, for each provider that has a queue.
    pub queues: Vec<(Arc<str>, usize)>,
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

/// The families about the store that nodes share.
struct SharedStore {
    up: IntGaugeVec,
    nodes: IntGaugeVec,
    calls: IntCounterVec,
    unread: IntCounterVec,
}

impl SharedStore {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            up: gauges(registry, "orbyt_store_up", "1 while the store that nodes share can be asked.", &["store"])?,
            nodes: gauges(registry, "orbyt_store_nodes", "Nodes that live, as far as is known.", &["store"])?,
            calls: counters(
                registry,
                "orbyt_store_calls_total",
                "Questions of requests to the store, by result: answered, late or failed.",
                &["store", "result"],
            )?,
            unread: counters(
                registry,
                "orbyt_store_unread_total",
                "Questions of other nodes in the store that could not be read.",
                &["store"],
            )?,
        })
    }

    fn refresh(&self, state: StoreState) {
        self.up.with_label_values(&[state.name]).set(state.up.into());
        self.nodes.with_label_values(&[state.name]).set(state.nodes.into());
        for (result, total) in state.calls {
            let counter = self.calls.with_label_values(&[state.name, result]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        let unread = self.unread.with_label_values(&[state.name]);
        unread.inc_by(state.unread.saturating_sub(unread.get()));
    }
}

impl Sampled {
    /// Registers the families.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            queue_depth: gauges(registry, "orbyt_queue_depth", "Requests that wait for a place.", &["provider"])?,
            log_dropped: registered(
                registry,
                IntCounter::new("orbyt_log_lines_dropped_total", "Log lines that could not be written fast enough.")?,
            )?,
            keys: gauges(registry, "orbyt_keys", "Provider keys by state.", &["provider", "state"])?,
            breakers: gauges(
                registry,
                "orbyt_breaker_state",
                "Breakers by target: 0 closed, 1 half-open, 2 open.",
                &["provider", "model"],
            )?,
            cache_entries: gauge(registry, "orbyt_cache_entries", "Answers in the cache.")?,
            cache_bytes: gauge(registry, "orbyt_cache_bytes", "Bytes that they take.")?,
            semantic_entries: gauge(registry, "orbyt_cache_semantic_entries", "Questions that are compared.")?,
            store: SharedStore::new(registry)?,
            resident: gauge(registry, "process_resident_memory_bytes", "Resident memory.")?,
            open_files: gauge(registry, "process_open_fds", "Open file descriptors.")?,
            sources: RwLock::default(),
        })
    }

    /// Asks all sources anew.
    pub(super) fn refresh(&self, series: &SeriesCache) {
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
            let mut strangers = 0;
            for (provider, model, state) in &pool.breakers {
                // One that has opened is worth a label of its own whatever it is called, up to a number.
                let is_stranger = !series.is_known(provider, model);
                strangers += usize::from(is_stranger && *state != BreakerState::Closed);
                let shown = !is_stranger || *state != BreakerState::Closed && strangers <= MOST_MODELS;
                let model = if shown { &**model } else { OTHER };
                let gauge = self.breakers.with_label_values(&[&**provider, model]);
                // Of those that share a label the worst is shown.
                gauge.set(gauge.get().max(*state as i64));
            }
            self.queue_depth.reset();
            for (provider, depth) in &pool.queues {
                self.queue_depth.with_label_values(&[&**provider]).set(i64::try_from(*depth).unwrap_or(i64::MAX));
            }
        }
        if let Some(store) = &sources.store {
            self.store.refresh(store());
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
