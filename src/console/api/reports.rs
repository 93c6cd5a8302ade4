//! `/api/v1/requests`, `/api/v1/usage` and `/api/v1/sessions`: what the ledger knows.

use super::http::{Params, Segments, database};
use crate::console::now_ms;
use crate::console::problem::Problem;
use crate::console::query::{Asked, given, place, session_place};
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::console::viewer::Viewer;
use crate::domain::{LedgerRow, Money, RequestId};
use crate::store::ports::database::Access;
use crate::store::ports::reports::{Dimension, SessionCursor, Totals, UsageQuery};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;

/// So many of a list at once, where nothing else is asked for, and at most.
const USUAL: u32 = 50;
const MOST: u32 = 200;
/// So many rows of usage at most.
const MOST_ROWS: u32 = 2000;

/// On whose behalf is asked; who is a member of several organisations has to name one.
fn access(viewer: &Viewer, operation: Operation, asked: &Asked) -> Result<Access, Problem> {
    let mut reach = viewer.reach(operation, given(&asked.org))?;
    match (reach.pop(), reach.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => Err(Problem::invalid("org", "Name the organisation: you are a member of several.")),
    }
}

fn dollars(amount: Money) -> Value {
    amount.to_dollars().parse::<serde_json::Number>().map_or(Value::Null, Value::Number)
}

/// A request without its plan, which `/explain` has.
fn shown(row: &LedgerRow<'_>) -> Value {
    let mut value = serde_json::to_value(row).unwrap_or_default();
    if let Value::Object(members) = &mut value {
        members.remove("decision");
        members.insert("cost_usd".to_owned(), row.cost().map_or(Value::Null, dollars));
    }
    value
}

/// List requests, the newest first.
#[utoipa::path(get, path = "/api/v1/requests", tag = "requests", params(Asked), responses((status = 200, body = Object)))]
pub(super) async fn requests(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Params(asked): Params<Asked>,
) -> Result<Json<Value>, Problem> {
    let access = access(&viewer, Operation::SeeRequests, &asked)?;
    let filter = asked.filter(now_ms(), None)?;
    let most = asked.limit.unwrap_or(USUAL).clamp(1, MOST);
    let page = database(&shared)?.list(&access, &filter, asked.cursor()?, most).await?;
    let next = page.next.as_ref().map(place);
    Ok(Json(json!({"data": page.rows.iter().map(shown).collect::<Vec<_>>(), "next_cursor": next})))
}

/// One request, with its attempts.
#[utoipa::path(get, path = "/api/v1/requests/{id}", tag = "requests", params(("id" = String, Path,)), responses((status = 200, body = Object)))]
pub(super) async fn request(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(id): Segments<String>,
) -> Result<Json<Value>, Problem> {
    let reach = viewer.reach(Operation::SeeRequests, None)?;
    let id = RequestId::parse(&id).ok_or_else(|| Problem::not_found("request"))?;
    for access in &reach {
        if let Some(row) = database(&shared)?.find(access, id).await? {
            return Ok(Json(shown(&row)));
        }
    }
    Err(Problem::not_found("request"))
}

/// Sums, as the API has them.
fn totals(totals: &Totals) -> Value {
    json!({
        "requests": totals.requests,
        "errors": totals.errors,
        "cache_hits": totals.cache_hits,
        "prompt_tokens": totals.prompt_tokens,
        "cached_tokens": totals.cached_tokens,
        "cache_write_tokens": totals.cache_write_tokens,
        "completion_tokens": totals.completion_tokens,
        "reasoning_tokens": totals.reasoning_tokens,
        "cost_usd": dollars(totals.cost),
        "unpriced": totals.unpriced,
        "latency_ms": {
            "p50": totals.latency.p50_us as f64 / 1e3,
            "p95": totals.latency.p95_us as f64 / 1e3,
            "p99": totals.latency.p99_us as f64 / 1e3,
        },
        "ttft_ms": totals.ttft_us.map(|micros| micros as f64 / 1e3),
    })
}

/// Usage by `by` (`model`, `provider`, `key`, `project`, `user`, `session`, `org`, and `hour` or `day`), of the last day where no time is named.
/// More than 2000 rows are refused; with `limit` there are so many, and `more` says whether there would be others.
#[utoipa::path(get, path = "/api/v1/usage", tag = "requests", params(Asked), responses((status = 200, body = Object)))]
pub(super) async fn usage(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Params(asked): Params<Asked>,
) -> Result<Json<Value>, Problem> {
    let access = access(&viewer, Operation::SeeUsage, &asked)?;
    let (mut span_ms, mut by) = (None, None);
    for name in given(&asked.by).into_iter().flat_map(|names| names.split(',')) {
        match (name.trim(), Dimension::from_name(name.trim())) {
            ("hour", _) => span_ms = Some(3_600_000),
            ("day", _) => span_ms = Some(86_400_000),
            (_, Some(dimension)) if by.is_none() => by = Some(dimension),
            _ => {
                let message =
                    "This is one of model, provider, key, project, user, session and org, and hour or day with it.";
                return Err(Problem::invalid("by", message));
            }
        }
    }
    let wanted = asked.limit.unwrap_or(MOST_ROWS).clamp(1, MOST_ROWS);
    let filter = asked.filter(now_ms(), Some("24h"))?;
    let query = UsageQuery { filter, span_ms, by, most: wanted + 1, ..UsageQuery::default() };
    let mut rows = database(&shared)?.usage(&access, &query).await?;
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    let more = rows.len() > wanted;
    // Whoever sums up what comes would have too little, and not know it.
    if more && asked.limit.is_none() {
        let message = "These are more than 2000 rows: ask for a shorter time or for less to be told apart, or for a part with limit.";
        return Err(Problem::invalid("by", message));
    }
    rows.truncate(wanted);
    let row = |row: &crate::store::ports::reports::UsageRow| {
        let mut value = totals(&row.totals);
        value["from_unix_ms"] = row.span_unix_ms.into();
        value["id"] = row.id.clone().into();
        value["name"] = row.name.clone().into();
        value
    };
    Ok(Json(json!({"data": rows.iter().map(row).collect::<Vec<_>>(), "more": more})))
}

/// List sessions, the one with the latest request first.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "requests", params(Asked), responses((status = 200, body = Object)))]
pub(super) async fn sessions(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Params(asked): Params<Asked>,
) -> Result<Json<Value>, Problem> {
    let access = access(&viewer, Operation::SeeRequests, &asked)?;
    let filter = asked.filter(now_ms(), Some("7d"))?;
    let most = asked.limit.unwrap_or(USUAL).clamp(1, MOST);
    let behind: Option<SessionCursor> = asked.session_cursor()?;
    let found = database(&shared)?.sessions(&access, &filter, behind.as_ref(), most).await?;
    let is_full = found.len() >= usize::try_from(most).unwrap_or(usize::MAX);
    let next = found.last().filter(|_| is_full).map(|last| session_place(last.last_unix_ms, &last.id));
    let row = |session: &crate::store::ports::reports::Session| {
        let mut value = totals(&session.totals);
        value["id"] = session.id.clone().into();
        value["org"] = session.org.clone().into();
        value["first_unix_ms"] = session.first_unix_ms.into();
        value["last_unix_ms"] = session.last_unix_ms.into();
        value["models"] = session.models.into();
        value
    };
    Ok(Json(json!({"data": found.iter().map(row).collect::<Vec<_>>(), "next_cursor": next})))
}
