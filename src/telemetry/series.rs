//! The metrics that are labelled by provider and model, with a cache of their resolved children.

use super::gen_ai::{GenAi, GenAiModel};
use super::metrics::registered;
use crate::domain::{AttemptRecord, Money, RequestRecord, Usage};
use ahash::HashMap;
use parking_lot::RwLock;
use prometheus::{
    Counter, CounterVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

/// How many pairs of provider and model have labels of their own.
pub(super) const MOST_MODELS: usize = 300;
/// The label of all other models.
pub(super) const OTHER: &str = "other";
/// The label of a provider or a model when a request never got that far, and of a status that was never sent.
const NONE: &str = "none";

/// Seconds: 10 ms doubling up to eleven minutes, past the longest `timeouts.total` by default.
const DURATION_BUCKETS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36];
const FIRST_TOKEN_BUCKETS: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0];

/// The families and, for each provider, what has been resolved of them.
pub(super) struct SeriesCache {
    families: Families,
    providers: RwLock<HashMap<Arc<str>, Provider>>,
    known: RwLock<HashSet<Arc<str>>>,
    /// OpenTelemetry's names of the providers, by id.
    names: RwLock<HashMap<Arc<str>, Arc<str>>>,
}

struct Families {
    requests: IntCounterVec,
    attempts: IntCounterVec,
    duration: HistogramVec,
    first_token: HistogramVec,
    tokens: IntCounterVec,
    cost: CounterVec,
    gen_ai: GenAi,
}

#[derive(Default)]
struct Provider {
    models: HashMap<Arc<str>, Arc<Series>>,
    /// By verdict and reason, of which there are few.
    attempts: Vec<((&'static str, &'static str), IntCounter)>,
}

/// The children of one model at one provider. They are made when first needed, so that a page shows no zeros for what
/// never happens.
struct Series {
    provider: Arc<str>,
    model: Arc<str>,
    requests: RwLock<Vec<(u16, IntCounter)>>,
    duration: OnceLock<Histogram>,
    first_token: OnceLock<Histogram>,
    tokens: [OnceLock<IntCounter>; 5],
    cost: OnceLock<Counter>,
    gen_ai: GenAiModel,
}

impl SeriesCache {
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let families = Families {
            requests: registered(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "orbyt_requests_total",
                        "Requests by the provider and model that served or were tried last.",
                    ),
                    &["provider", "model", "status"],
                )?,
            )?,
            attempts: registered(
                registry,
                IntCounterVec::new(
                    Opts::new("orbyt_attempts_total", "Attempts by what triage made of them and why."),
                    &["provider", "verdict", "reason"],
                )?,
            )?,
            duration: histograms(
                registry,
                "orbyt_request_duration_seconds",
                "From a request to the last byte of its answer.",
                DURATION_BUCKETS,
            )?,
            first_token: histograms(
                registry,
                "orbyt_time_to_first_token_seconds",
                "From a request to the first output at the client.",
                FIRST_TOKEN_BUCKETS,
            )?,
            tokens: registered(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "orbyt_tokens_total",
                        "Tokens as the provider counted them. Of prompt: cached and cache_write; of completion: reasoning.",
                    ),
                    &["provider", "model", "kind"],
                )?,
            )?,
            cost: registered(
                registry,
                CounterVec::new(
                    Opts::new(
                        "orbyt_cost_usd_total",
                        "Cost in US dollars by the catalog's prices, rounded; the record is exact.",
                    ),
                    &["provider", "model"],
                )?,
            )?,
            gen_ai: GenAi::new(registry)?,
        };
        let (providers, known, names) = (RwLock::default(), RwLock::default(), RwLock::default());
        Ok(Self { families, providers, known, names })
    }

    /// Replaces the set of models that have labels before they have answered.
    pub fn know(&self, models: HashSet<Arc<str>>) {
        *self.known.write() = models;
    }

    /// Replaces OpenTelemetry's names of the providers, by id. What has been counted keeps its name.
    pub fn call(&self, names: HashMap<Arc<str>, Arc<str>>) {
        *self.names.write() = names;
    }

    /// Whether a model has a label of its own, or would get one.
    pub fn is_known(&self, provider: &str, model: &str) -> bool {
        let is_labelled = self.providers.read().get(provider).is_some_and(|known| known.models.contains_key(model));
        is_labelled || self.known.read().contains(model)
    }

    /// Counts a finished request and its attempts.
    pub fn observe(&self, record: &RequestRecord) {
        let provider = record.provider.as_deref().unwrap_or(NONE);
        let served = (200..300).contains(&record.status);
        let series = self.series(provider, record.model.as_deref().unwrap_or(NONE), served);
        series.observe(&self.families, record);
        if let Some(semantic) = &record.semantic {
            let series = self.series(&semantic.provider, &semantic.model, true);
            series.count_usage(&self.families, semantic.usage, semantic.cost);
        }
        for attempt in &record.attempts {
            self.count_attempt(attempt);
        }
    }

    fn count_attempt(&self, attempt: &AttemptRecord) {
        let labels = (attempt.verdict, attempt.reason.unwrap_or(NONE));
        if let Some(provider) = self.providers.read().get(&*attempt.provider)
            && let Some((_, counter)) = provider.attempts.iter().find(|(known, _)| *known == labels)
        {
            return counter.inc();
        }
        let counter = self.families.attempts.with_label_values(&[&*attempt.provider, labels.0, labels.1]);
        counter.inc();
        let mut providers = self.providers.write();
        let provider = providers.entry(Arc::clone(&attempt.provider)).or_default();
        if !provider.attempts.iter().any(|(known, _)| *known == labels) {
            provider.attempts.push((labels, counter));
        }
    }

    /// The children for this model, or those of `other` when it may not have its own.
    fn series(&self, provider: &str, model: &str, served: bool) -> Arc<Series> {
        let find = |model: &str| self.providers.read().get(provider).and_then(|known| known.models.get(model).cloned());
        if let Some(series) = find(model) {
            return series;
        }
        let worthy = served || model == NONE || self.known.read().contains(model);
        if !worthy && let Some(series) = find(OTHER) {
            return series;
        }
        let mut providers = self.providers.write();
        let labelled: usize = providers.values().map(|provider| provider.models.len()).sum();
        let model = if worthy && labelled < MOST_MODELS { model } else { OTHER };
        let (provider, model): (Arc<str>, Arc<str>) = (provider.into(), model.into());
        let models = &mut providers.entry(Arc::clone(&provider)).or_default().models;
        let name = self.names.read().get(&provider).cloned().unwrap_or_else(|| Arc::clone(&provider));
        Arc::clone(models.entry(Arc::clone(&model)).or_insert_with(|| Arc::new(Series::new(provider, name, model))))
    }
}

impl Series {
    fn new(provider: Arc<str>, otel_name: Arc<str>, model: Arc<str>) -> Self {
        Self {
            gen_ai: GenAiModel::new(otel_name, Arc::clone(&model)),
            provider,
            model,
            requests: RwLock::default(),
            duration: OnceLock::new(),
            first_token: OnceLock::new(),
            tokens: [const { OnceLock::new() }; 5],
            cost: OnceLock::new(),
        }
    }

    fn observe(&self, families: &Families, record: &RequestRecord) {
        let labels = [&*self.provider, &*self.model];
        self.count_request(families, record.status);
        let histogram = |family: &HistogramVec| family.with_label_values(&labels);
        self.duration.get_or_init(|| histogram(&families.duration)).observe(record.latency.as_secs_f64());
        if record.provider.is_some() {
            self.gen_ai.observe(&families.gen_ai, record);
        }
        if let Some(ttft) = record.ttft {
            self.first_token.get_or_init(|| histogram(&families.first_token)).observe(ttft.as_secs_f64());
        }
        self.count_usage(families, record.usage, record.cost);
    }

    fn count_usage(&self, families: &Families, usage: Option<Usage>, cost: Option<Money>) {
        if let Some(usage) = usage {
            let counts = [
                ("prompt", Some(usage.prompt_tokens)),
                ("completion", Some(usage.completion_tokens)),
                ("cached", usage.cached_tokens),
                ("cache_write", usage.cache_write_tokens),
                ("reasoning", usage.reasoning_tokens),
            ];
            for ((kind, count), counter) in counts.into_iter().zip(&self.tokens) {
                if let Some(count) = count.filter(|&count| count > 0) {
                    let resolve = || families.tokens.with_label_values(&[&*self.provider, &*self.model, kind]);
                    counter.get_or_init(resolve).inc_by(count);
                }
            }
        }
        if let Some(cost) = cost.filter(|cost| cost.picos() > 0) {
            self.cost
                .get_or_init(|| families.cost.with_label_values(&[&*self.provider, &*self.model]))
                .inc_by(i64::try_from(cost.picos()).unwrap_or(i64::MAX) as f64 / 1e12);
        }
    }

    fn count_request(&self, families: &Families, status: u16) {
        if let Some((_, counter)) = self.requests.read().iter().find(|(known, _)| *known == status) {
            return counter.inc();
        }
        let label = if status == 0 { NONE.to_owned() } else { status.to_string() };
        let counter = families.requests.with_label_values(&[&*self.provider, &*self.model, &label]);
        counter.inc();
        let mut requests = self.requests.write();
        if !requests.iter().any(|(known, _)| *known == status) {
            requests.push((status, counter));
        }
    }
}

fn histograms(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<HistogramVec> {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    registered(registry, HistogramVec::new(options, &["provider", "model"])?)
}
