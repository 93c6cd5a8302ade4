//! The metrics of OpenTelemetry's semantic conventions for generative AI, as Prometheus names them, with the buckets they prescribe.
//!
//! The gateway is a client of its providers, hence `gen_ai_client_token_usage`, and a server to its own clients, hence the others. The
//! model is the one that the provider was asked for, because what clients write is not bounded.

use super::metrics::registered;
use crate::domain::{Ended, RequestRecord};
use parking_lot::RwLock;
use prometheus::{Histogram, HistogramOpts, HistogramVec, Registry};
use std::sync::{Arc, OnceLock};

const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
const REQUEST: &[f64] = &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const FIRST_TOKEN: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const OUTPUT_TOKEN: &[f64] = &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];

const LABELS: [&str; 3] = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"];

/// The families.
pub(super) struct GenAi {
    tokens: HistogramVec,
    duration: HistogramVec,
    first_token: HistogramVec,
    output_token: HistogramVec,
}

impl GenAi {
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let family = |name: &str, help: &str, buckets: &[f64], more: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            registered(registry, HistogramVec::new(options, &[&LABELS, more].concat())?)
        };
        Ok(Self {
            tokens: family(
                "gen_ai_client_token_usage",
                "Input and output tokens of a request, as the provider counted them.",
                TOKENS,
                &["gen_ai_token_type"],
            )?,
            duration: family(
                "gen_ai_server_request_duration_seconds",
                "From a request to the last byte of its answer; error_type is empty, a status or how the answer broke off.",
                REQUEST,
                &["error_type"],
            )?,
            first_token: family(
                "gen_ai_server_time_to_first_token_seconds",
                "From a request to the first output of a streamed answer that succeeded.",
                FIRST_TOKEN,
                &[],
            )?,
            output_token: family(
                "gen_ai_server_time_per_output_token_seconds",
                "Of a streamed answer that succeeded: the time after its first output for each further token.",
                OUTPUT_TOKEN,
                &[],
            )?,
        })
    }
}

/// A kind of error: a status, or how the answer broke off. Neither means success.
type ErrorType = (Option<u16>, &'static str);

/// The children of one model at one provider that is asked for one thing, made when first needed.
struct GenAiSeries {
    operation: &'static str,
    provider: Arc<str>,
    model: Arc<str>,
    tokens: [OnceLock<Histogram>; 2],
    durations: RwLock<Vec<(ErrorType, Histogram)>>,
    first_token: OnceLock<Histogram>,
    output_token: OnceLock<Histogram>,
}

/// What a model is asked for, by its routes; conversations have several.
const OPERATIONS: [(&str, &str); 9] = [
    ("/v1/embeddings", "embeddings"),
    ("/v1beta/models/{model}:embedContent", "embeddings"),
    ("/v1beta/models/{model}:batchEmbedContents", "embeddings"),
    ("/v1/images/", "image_generation"),
    ("/v1/audio/speech", "speech"),
    ("/v1/audio/", "transcription"),
    ("/v1/moderations", "moderation"),
    ("/v1/rerank", "rerank"),
    ("", "chat"),
];

/// What is asked for by a route as it stands in a record: the value of `gen_ai.operation.name`.
pub(super) fn operation(route: &str) -> &'static str {
    let path = route.strip_prefix("POST ").unwrap_or(route);
    OPERATIONS.iter().find(|(prefix, _)| path.starts_with(prefix)).map_or("chat", |(_, operation)| operation)
}

/// The children of one model at one provider, apart for each of [`OPERATIONS`].
pub(super) struct GenAiModel {
    provider: Arc<str>,
    model: Arc<str>,
    series: [OnceLock<Box<GenAiSeries>>; OPERATIONS.len()],
}

impl GenAiModel {
    /// `provider` is the value of `gen_ai.provider.name`.
    pub fn new(provider: Arc<str>, model: Arc<str>) -> Self {
        Self { provider, model, series: [const { OnceLock::new() }; OPERATIONS.len()] }
    }

    /// Notes a finished request.
    pub fn observe(&self, families: &GenAi, record: &RequestRecord) {
        let path = record.route.strip_prefix("POST ").unwrap_or(&record.route);
        let known = self.series.iter().zip(OPERATIONS).find(|(_, (prefix, _))| path.starts_with(prefix));
        let Some((series, (_, operation))) = known else { return };
        let new = || Box::new(GenAiSeries::new(operation, self.provider.clone(), self.model.clone()));
        series.get_or_init(new).observe(families, record);
    }
}

impl GenAiSeries {
    fn new(operation: &'static str, provider: Arc<str>, model: Arc<str>) -> Self {
        Self {
            operation,
            provider,
            model,
            tokens: [const { OnceLock::new() }; 2],
            durations: RwLock::default(),
            first_token: OnceLock::new(),
            output_token: OnceLock::new(),
        }
    }

    fn observe(&self, families: &GenAi, record: &RequestRecord) {
        let labels = [self.operation, &*self.provider, &*self.model];
        let error = error_type(record);
        self.count_duration(families, error, record.latency.as_secs_f64());
        if let Some(usage) = record.usage {
            // The convention wants the tokens that are paid for.
            let input = usage.billed_prompt_tokens.unwrap_or(usage.prompt_tokens);
            let output = usage.billed_completion_tokens.unwrap_or(usage.completion_tokens);
            let counts = [("input", input), ("output", output)];
            for ((kind, count), child) in counts.into_iter().zip(&self.tokens) {
                let resolve = || families.tokens.with_label_values(&[labels[0], labels[1], labels[2], kind]);
                child.get_or_init(resolve).observe(count as f64);
            }
        }
        let Some(ttft) = record.ttft.filter(|_| record.stream && error == (None, "")) else { return };
        self.first_token.get_or_init(|| families.first_token.with_label_values(&labels)).observe(ttft.as_secs_f64());
        if let Some(further) = record.usage.map(|usage| usage.completion_tokens).filter(|tokens| *tokens > 1) {
            let rest = record.latency.saturating_sub(ttft).as_secs_f64();
            self.output_token
                .get_or_init(|| families.output_token.with_label_values(&labels))
                .observe(rest / (further - 1) as f64);
        }
    }

    fn count_duration(&self, families: &GenAi, error: ErrorType, seconds: f64) {
        if let Some((_, child)) = self.durations.read().iter().find(|(known, _)| *known == error) {
            return child.observe(seconds);
        }
        let label = error.0.map_or_else(|| error.1.to_owned(), |status| status.to_string());
        let child = families.duration.with_label_values(&[self.operation, &*self.provider, &*self.model, &label]);
        child.observe(seconds);
        let mut durations = self.durations.write();
        if !durations.iter().any(|(known, _)| *known == error) {
            durations.push((error, child));
        }
    }
}

fn error_type(record: &RequestRecord) -> ErrorType {
    match record.ended {
        _ if record.status >= 400 => (Some(record.status), ""),
        Ended::Complete => (None, ""),
        ended => (None, ended.name()),
    }
}
