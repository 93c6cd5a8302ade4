//! The families of `/metrics` whose numbers others keep: states of the moment, asked for at each scrape.

use super::alerts::Kind;
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
    ledger: LedgerFamilies,
    alerts: IntGaugeVec,
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
    pub(super) ledger: Option<Box<dyn Fn() -> LedgerState + Send + Sync>>,
    pub(super) alerts: Option<Box<dyn Fn() -> AlertCounts + Send + Sync>>,
}

/// How many alerts are active, by the name of the kind.
pub(super) type AlertCounts = [(&'static str, usize); Kind::ALL.len()];

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

/// How the ledger is.
#[derive(Clone, Debug)]
pub struct LedgerState {
    /// Rows that the database took over, by what became of them: their names and numbers.
    pub rows: [(&'static str, u64); 3],
    /// Rows that the database refuses, which were set aside.
    pub refused: u64,
    /// Rows that were lost because there was no room for them on disk nor in memory.
    pub lost: u64,
    /// Bytes in the spool that could not be read.
    pub damaged_bytes: u64,
    /// Bytes on disk that the database has not taken over.
    pub spool_bytes: u64,
    /// Bytes in memory, because the disk does not take them.
    pub waiting_bytes: u64,
    /// Why nothing can be written, while nothing can.
    pub stuck: Option<String>,
}

impl Default for LedgerState {
    fn default() -> Self {
        Self {
            rows: [("inserted", 0), ("amended", 0), ("known", 0)],
            refused: 0,
            lost: 0,
            damaged_bytes: 0,
            spool_bytes: 0,
            waiting_bytes: 0,
            stuck: None,
        }
    }
}

/// The families about the ledger.
struct LedgerFamilies {
    rows: IntCounterVec,
    refused: IntCounter,
    lost: IntCounter,
    damaged: IntCounter,
    spool: IntGauge,
    waiting: IntGauge,
    stuck: IntGauge,
}

impl LedgerFamilies {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help| registered(registry, IntCounter::new(name, help)?);
        Ok(Self {
            rows: counters(
                registry,
                "orbyt_ledger_rows_total",
                "Requests that the database took over: inserted, amended or known already.",
                &["result"],
            )?,
            refused: counter("orbyt_ledger_refused_total", "Requests that the database refused; they are set aside.")?,
            lost: counter("orbyt_ledger_lost_total", "Requests that are in no ledger: disk and memory were full.")?,
            damaged: counter("orbyt_ledger_damaged_bytes_total", "Bytes of the spool that could not be read.")?,
            spool: gauge(registry, "orbyt_ledger_spool_bytes", "Bytes on disk that wait for the database.")?,
            waiting: gauge(registry, "orbyt_ledger_waiting_bytes", "Bytes in memory that wait for the disk.")?,
            stuck: gauge(registry, "orbyt_ledger_stuck", "1 while the ledger cannot be written.")?,
        })
    }

    fn refresh(&self, state: &LedgerState) {
        let raise = |counter: &IntCounter, total: u64| counter.inc_by(total.saturating_sub(counter.get()));
        for (result, total) in state.rows {
            raise(&self.rows.with_label_values(&[result]), total);
        }
        raise(&self.refused, state.refused);
        raise(&self.lost, state.lost);
        raise(&self.damaged, state.damaged_bytes);
        let set = |gauge: &IntGauge, bytes: u64| gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        set(&self.spool, state.spool_bytes);
        set(&self.waiting, state.waiting_bytes);
        self.stuck.set(state.stuck.is_some().into());
    }
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
            ledger: LedgerFamilies::new(registry)?,
            alerts: gauges(registry, "orbyt_alerts", "Alerts that are active, by kind.", &["kind"])?,
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
        if let Some(ledger) = &sources.ledger {
            self.ledger.refresh(&ledger());
        }
        if let Some(alerts) = &sources.alerts {
            for (kind, count) in alerts() {
                self.alerts.with_label_values(&[kind]).set(i64::try_from(count).unwrap_or(i64::MAX));
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
