//! `/api/v1/generation`: what a request has cost and how long it took, as OpenRouter's clients ask for it.

use super::http::*;
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::console::viewer::Viewer;
use crate::domain::{Ended, LedgerRow, Money, RequestId};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Which generation is wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// The request's id (`x-request-id`), or the `id` of its answer.
    id: String,
}

/// A generation.
#[derive(Serialize, ToSchema)]
pub(super) struct Generation {
    data: GenerationData,
}

/// What is known of it.
#[derive(Serialize, ToSchema)]
pub(super) struct GenerationData {
    /// The request's id.
    id: String,
    /// The model that served.
    model: Option<String>,
    /// The provider that served.
    provider_name: Option<String>,
    /// When it arrived.
    created_at: String,
    /// Whether it was streamed.
    streamed: bool,
    /// Whether the client went away.
    cancelled: bool,
    /// What it has cost, in dollars; 0 where that is not known.
    total_cost: f64,
    /// The same.
    usage: f64,
    /// Until the first output, in milliseconds.
    latency: Option<u64>,
    /// The whole, in milliseconds.
    generation_time: u64,
    /// Input tokens.
    tokens_prompt: Option<u64>,
    /// Output tokens.
    tokens_completion: Option<u64>,
    /// Of the input: read from a cache.
    native_tokens_cached: Option<u64>,
    /// Of the output: reasoning.
    native_tokens_reasoning: Option<u64>,
}

impl From<&LedgerRow<'_>> for GenerationData {
    fn from(row: &LedgerRow<'_>) -> Self {
        let cost = Money::from_picos(i128::from(row.cost_picos.unwrap_or(0))).to_dollars().parse().unwrap_or_default();
        Self {
            id: row.id.to_string(),
            model: row.model.as_deref().map(str::to_owned),
            provider_name: row.provider.as_deref().map(str::to_owned),
            created_at: time_text(row.arrived_unix_ms),
            streamed: row.stream,
            cancelled: row.ended == Ended::ClientGone,
            total_cost: cost,
            usage: cost,
            latency: row.ttft_us.map(|micros| micros / 1000),
            generation_time: row.latency_us / 1000,
            tokens_prompt: row.usage.map(|usage| usage.prompt_tokens),
            tokens_completion: row.usage.map(|usage| usage.completion_tokens),
            native_tokens_cached: row.usage.and_then(|usage| usage.cached_tokens),
            native_tokens_reasoning: row.usage.and_then(|usage| usage.reasoning_tokens),
        }
    }
}

/// What a request has cost and how long it took, shaped like OpenRouter's.
#[utoipa::path(get, path = "/api/v1/generation", tag = "requests", params(Wanted), responses((status = 200, body = Generation)))]
pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Params(wanted): Params<Wanted>,
) -> Result<Json<Generation>, Problem> {
    let reach = viewer.reach(Operation::SeeRequests, None)?;
    // The ids of answers are made of the request's: `chatcmpl-…`, `msg_…`, `resp_…`.
    let hex = wanted.id.rsplit(['-', '_']).next().unwrap_or_default();
    let id =
        RequestId::parse(&format!("req_{hex}")).ok_or_else(|| Problem::invalid("id", "This is no request's id."))?;
    let database = database(&shared)?;
    for access in &reach {
        if let Some(row) = database.find(access, id).await? {
            return Ok(Json(Generation { data: GenerationData::from(&row) }));
        }
    }
    Err(Problem::not_found("generation"))
}
