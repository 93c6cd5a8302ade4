//! `/api/v1/pool`, `/api/v1/breakers`, `/api/v1/cache`: the gateway's own live state.

use super::http::*;
use crate::console::now_ms;
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::console::viewer::Viewer;
use crate::domain::ProviderKey;
use crate::domain::audit::AuditEvent;
use crate::store::ports::live::{KeyState, KeyStatus, Spent};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;
use utoipa::ToSchema;

/// What was used of a limit.
#[derive(Serialize, ToSchema)]
pub(super) struct Used {
    /// So much of it is not there now.
    used: u64,
    /// The limit.
    limit: u64,
}

impl From<Spent> for Used {
    fn from(Spent { used, limit }: Spent) -> Self {
        Self { used, limit }
    }
}

/// A key of the pool.
#[derive(Serialize, ToSchema)]
pub(super) struct PoolKey {
    /// The provider's id.
    provider: String,
    /// The key's name; null for whom it is none of their business.
    name: Option<String>,
    /// Its ends; null where the name is.
    label: Option<String>,
    /// `idle`, `leased`, `cooldown`, `exhausted` or `disabled`.
    state: &'static str,
    /// Requests that hold it now.
    leases: u32,
    /// Why it rests: `rate_limited`, `own_limit`, `group` or `quota`.
    why: Option<&'static str>,
    /// How long it rests, in seconds.
    ready_in_seconds: Option<f64>,
    /// The share of its limits that is left, 0 to 1.
    room: f64,
    /// Requests of a minute, where a limit of them is known.
    requests_per_minute: Option<Used>,
    /// Tokens of a minute, where a limit of them is known.
    tokens_per_minute: Option<Used>,
    /// The group of keys that share one quota.
    group: Option<String>,
}

impl PoolKey {
    fn of(provider: &str, key: &ProviderKey, known: Option<&KeyStatus>) -> Self {
        let state = known.map_or(KeyState::Ready { leases: 0 }, |status| status.state);
        Self {
            provider: provider.to_owned(),
            name: Some(key.name.to_string()),
            label: Some(key.secret.masked()),
            state: state.name(),
            leases: if let KeyState::Ready { leases } = state { leases } else { 0 },
            why: match state {
                KeyState::Cooldown { why, .. } => Some(why),
                KeyState::Exhausted { .. } => Some("quota"),
                KeyState::Ready { .. } | KeyState::Disabled => None,
            },
            ready_in_seconds: state.left().map(|left| left.as_secs_f64()),
            // A key that cannot be used has no room, whatever is left of its limits.
            room: if state == KeyState::Disabled { 0.0 } else { known.map_or(1.0, |status| status.room) },
            requests_per_minute: known.and_then(|status| status.requests).map(Used::from),
            tokens_per_minute: known.and_then(|status| status.tokens).map(Used::from),
            group: key.group.as_deref().map(str::to_owned),
        }
    }

    /// As the owner of an organisation sees it: how it is, but neither which it is nor what others use of it.
    fn veiled(self) -> Self {
        let state = if self.leases > 0 { KeyState::Ready { leases: 0 }.name() } else { self.state };
        let (requests_per_minute, tokens_per_minute) = (None, None);
        Self { name: None, label: None, group: None, leases: 0, state, requests_per_minute, tokens_per_minute, ..self }
    }
}

/// How a model at a provider fares.
#[derive(Serialize, ToSchema)]
pub(super) struct Breaker {
    /// The provider's id.
    provider: String,
    /// The model there.
    model: String,
    /// `closed`, `open` or `half_open`.
    state: String,
    /// The share of the latest requests that succeeded; null where nothing is known.
    success_rate: Option<f64>,
    /// How long the first output takes, in milliseconds.
    first_output_ms: Option<f64>,
    /// How fast answers come.
    tokens_per_second: Option<f64>,
}

/// What the cache of answers holds.
#[derive(Serialize, ToSchema)]
pub(super) struct Cache {
    /// `off`, `memory` or `redis`.
    backend: &'static str,
    /// Answers.
    entries: u64,
    /// What they take, in bytes.
    bytes: u64,
    /// Questions in the index of the semantic cache.
    questions: u64,
    /// How many answers there may be.
    max_entries: u32,
    /// How many bytes they may take.
    max_bytes: u64,
    /// How long one is kept where the request says nothing, in seconds.
    ttl_seconds: u64,
}

/// The pool of provider keys as it is now. Owners of organisations see how each key is, but not which it is.
#[utoipa::path(get, path = "/api/v1/pool", tag = "gateway", params(ListParams), responses((status = 200, body = Page<PoolKey>)))]
pub(super) async fn pool(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Params(wanted): Params<ListParams>,
) -> Result<Json<Page<PoolKey>>, Problem> {
    viewer.may(Operation::SeeHealth, None)?;
    let (snapshot, statuses) = ((shared.deps.snapshot)(), shared.deps.backstage.pool());
    let keys = snapshot.providers.iter().flat_map(|provider| {
        provider.keys.iter().enumerate().map(|(at, key)| {
            let known = statuses.iter().find(|status| status.provider == provider.id && status.id == key.id);
            let shown = PoolKey::of(&provider.id, key, known);
            // Without a name it is found again by its place.
            if viewer.is_administrator() {
                (format!("{}/{}", provider.id, key.name), shown)
            } else {
                (format!("{}/{at:06}", provider.id), shown.veiled())
            }
        })
    });
    let page = Page::of(keys.collect(), |(place, _): &(String, PoolKey)| place.clone(), &wanted)?;
    Ok(Json(page.map(|(_, key)| key)))
}

/// Make a key ready again that its provider had refused.
#[utoipa::path(post, path = "/api/v1/pool/{provider}/{name}/enable", tag = "gateway",
    params(("provider" = String, Path,), ("name" = String, Path,)), responses((status = 204)))]
pub(super) async fn enable(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments((provider, name)): Segments<(String, String)>,
) -> Result<StatusCode, Problem> {
    viewer.may(Operation::ManageGateway, None)?;
    let snapshot = (shared.deps.snapshot)();
    let known = snapshot.provider(&provider).is_some_and(|it| it.keys.iter().any(|key| *key.name == *name));
    if !known {
        return Err(Problem::not_found("key in the pool"));
    }
    note(&shared, viewer.event(now_ms(), "provider_key.enable", &format!("{provider}/{name}"), None, &json!({})))
        .await?;
    shared.deps.backstage.enable_key(&provider, &name);
    Ok(StatusCode::NO_CONTENT)
}

/// Breakers and health of every model at every provider that was tried.
#[utoipa::path(get, path = "/api/v1/breakers", tag = "gateway", params(ListParams),
    responses((status = 200, body = Page<Breaker>)))]
pub(super) async fn breakers(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Params(wanted): Params<ListParams>,
) -> Result<Json<Page<Breaker>>, Problem> {
    viewer.may(Operation::SeeHealth, None)?;
    let now = Instant::now();
    let targets = shared.deps.backstage.targets().into_iter().map(|target| Breaker {
        provider: target.provider.to_string(),
        model: target.model.to_string(),
        state: target.breaker.to_owned(),
        success_rate: number(&json!(target.health.at(now).success_rate())),
        first_output_ms: number(&json!(target.health.first_output_ms())),
        tokens_per_second: number(&json!(target.health.tokens_per_second())),
    });
    let page = Page::of(targets.collect(), |it: &Breaker| format!("{}/{}", it.provider, it.model), &wanted)?;
    Ok(Json(page))
}

/// Of what is measured, some of it may not be known yet.
fn number(value: &serde_json::Value) -> Option<f64> {
    value.as_f64()
}

/// What the cache of answers holds.
#[utoipa::path(get, path = "/api/v1/cache", tag = "gateway", responses((status = 200, body = Cache)))]
pub(super) async fn cache(State(shared): State<Arc<Shared>>, viewer: Viewer) -> Result<Json<Cache>, Problem> {
    viewer.may(Operation::SeeGateway, None)?;
    let (snapshot, (held, questions)) = ((shared.deps.snapshot)(), shared.deps.backstage.cached());
    let cache = &snapshot.cache;
    Ok(Json(Cache {
        backend: cache.backend.name(),
        entries: held.entries,
        bytes: held.bytes,
        questions,
        max_entries: cache.max_size,
        max_bytes: cache.max_bytes,
        ttl_seconds: cache.ttl.as_secs(),
    }))
}

/// Empty the cache of answers, and the index of the semantic cache with it.
#[utoipa::path(delete, path = "/api/v1/cache", tag = "gateway", responses((status = 204)))]
pub(super) async fn empty_cache(State(shared): State<Arc<Shared>>, viewer: Viewer) -> Result<StatusCode, Problem> {
    viewer.may(Operation::ManageGateway, None)?;
    note(&shared, viewer.event(now_ms(), "cache.empty", "cache", None, &json!({}))).await?;
    if shared.deps.backstage.empty_cache().await {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "The store of the cache does not answer."))
    }
}

/// The state of the gateway: providers, states of keys, breakers, the ledger, alerts. For owners of organisations without the keys' names, the
/// ledger and the alerts.
#[utoipa::path(get, path = "/api/v1/health", tag = "gateway", responses((status = 200, body = Object)))]
pub(super) async fn health(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
) -> Result<Json<serde_json::Value>, Problem> {
    viewer.may(Operation::SeeHealth, None)?;
    let mut health = (shared.deps.health)();
    if !viewer.is_administrator() {
        veil(&mut health);
    }
    Ok(Json(health))
}

/// Takes out what is none of an organisation's business.
fn veil(health: &mut serde_json::Value) {
    let members = health.as_object_mut();
    let kept = members.into_iter().flatten().filter(|(name, _)| matches!(name.as_str(), "providers" | "targets"));
    let mut kept: serde_json::Map<_, _> = kept.map(|(name, value)| (name.clone(), value.take())).collect();
    let keys = kept.get_mut("providers").and_then(|it| it.as_array_mut()).into_iter().flatten();
    let keys = keys.filter_map(|provider| provider["keys"].as_array_mut()).flatten();
    for key in keys.filter_map(|key| key.as_object_mut()) {
        key.retain(|name, _| !matches!(name.as_str(), "name" | "group"));
    }
    *health = serde_json::Value::Object(kept);
}

/// What is spent and reserved now of each budget.
#[utoipa::path(get, path = "/api/v1/accounts", tag = "gateway", responses((status = 200, body = Object)))]
pub(super) async fn accounts(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
) -> Result<Json<serde_json::Value>, Problem> {
    viewer.may(Operation::SeeGateway, None)?;
    Ok(Json((shared.deps.accounts)()))
}

/// Writes it down where there is a database.
async fn note(shared: &Shared, event: AuditEvent) -> Result<(), Problem> {
    if let Some(database) = &shared.deps.database {
        database.append(&event).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_of_an_organisation_hears_how_keys_are_and_not_which() {
        let mut health = json!({
            "providers": [{"id": "a", "keys": [{"name": "a_01", "group": "g", "state": "idle"}]}],
            "targets": [{"model": "m", "breaker": "open"}], "ledger": {"lost": 1}, "alerts": [{"subject": "a/a_01"}],
        });
        veil(&mut health);
        let expected = json!({
            "providers": [{"id": "a", "keys": [{"state": "idle"}]}], "targets": [{"model": "m", "breaker": "open"}],
        });
        assert_eq!(health, expected);
    }
}
