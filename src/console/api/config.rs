//! `/api/v1/config`: the configuration that is in force, without its secrets.

use crate::config::Snapshot;
use crate::config::snapshot::{ByokFallback, Provider};
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::console::viewer::Viewer;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The configuration that is in force: file, environment and database together. Keys are shown by their ends. Owners of organisations see what
/// concerns their requests: the rules of routing, the names of models and presets, the cache.
#[utoipa::path(get, path = "/api/v1/config", tag = "gateway", responses((status = 200, body = Object)))]
pub(super) async fn show(State(shared): State<Arc<Shared>>, viewer: Viewer) -> Result<Json<Value>, Problem> {
    viewer.may(Operation::SeeHealth, None)?;
    if !viewer.is_administrator() {
        return Ok(Json(concerning_all(&(shared.deps.snapshot)())));
    }
    Ok(Json(shown(&(shared.deps.snapshot)(), shared.deps.database.as_ref().map(|database| database.place()))))
}

/// What everybody's requests meet with.
fn concerning_all(snapshot: &Snapshot) -> Value {
    let whole = shown(snapshot, None);
    let names = ["models", "presets", "routing", "retry", "breaker", "health", "hedging", "timeouts", "gate", "cache"];
    names.into_iter().map(|name| (name.to_owned(), whole[name].clone())).collect::<serde_json::Map<_, _>>().into()
}

fn shown(snapshot: &Snapshot, database: Option<String>) -> Value {
    let Snapshot { server, console, gate, limits, cache, telemetry, .. } = snapshot;
    let mut shown = json!({
        "server": {
            "listen": texts(&server.listen),
            "tls": server.tls.as_ref().map(|tls| texts(&tls.listen)),
            "data_dir": server.data_dir.display().to_string(),
            "max_body_bytes": server.max_body_bytes,
            "workers": server.workers,
            "grace": span(server.grace),
            "allow_origins": server.cors.allow_origins,
        },
        "console": {
            "listen": texts(&console.listen),
            "admin_token": console.admin_token.is_some(),
            "secure_cookies": console.secure_cookies,
        },
        "store": {
            "database": database,
            "redis": snapshot.store.redis.is_some(),
            "master_key": if snapshot.store.master_key.is_some() { "configuration" } else { "file" },
        },
        "providers": snapshot.providers.iter().map(|it| provider(it)).collect::<Vec<_>>(),
        "models": snapshot.aliases.iter().map(|it| &*it.name).collect::<Vec<_>>(),
        "presets": snapshot.presets.iter().map(|it| &*it.slug).collect::<Vec<_>>(),
        "gate": {
            "max_bytes": gate.max_bytes, "max_wait": gate.max_wait.map(span), "keepalive": span(gate.keepalive),
            "keepalive_before_commit": gate.keepalive_before_commit,
        },
        "limits": {
            "global_per_second": limits.global_per_second, "address_per_second": limits.address_per_second,
            "bad_key_per_minute": limits.bad_key_per_minute, "concurrent": limits.concurrent, "rules": limits.rules.len(),
            "queue_size": limits.queue_size, "queue_wait": limits.queue_wait.map(span), "on_outage": limits.on_outage.name(),
        },
        "cache": {
            "backend": cache.backend.name(), "ttl": span(cache.ttl), "max_ttl": span(cache.max_ttl), "max_size": cache.max_size, "max_bytes": cache.max_bytes,
            "semantic": cache.semantic.is_some(),
        },
        "telemetry": {
            "log_level": telemetry.log_level.as_str().to_ascii_lowercase(), "ledger": telemetry.ledger,
            "ledger_retention": telemetry.ledger_retention.map(span), "spool_max_bytes": telemetry.spool_max_bytes,
        },
    });
    if let (Value::Object(shown), Value::Object(rules)) = (&mut shown, rules(snapshot)) {
        shown.extend(rules);
    }
    shown
}

/// What decides where requests go, by the sections that can be changed in the console.
pub(in crate::console) fn rules(snapshot: &Snapshot) -> Value {
    let Snapshot { routing, retry, breaker, timeouts, .. } = snapshot;
    let byok_fallback = match routing.byok_fallback {
        ByokFallback::Pool => "pool",
        ByokFallback::Deny => "deny",
    };
    json!({
        "routing": {
            "strategy": routing.strategy.name(),
            "providers": routing.providers,
            "fallbacks": routing.fallbacks,
            "auto": routing.auto,
            "byok_fallback": byok_fallback,
            "sticky": routing.sticky.name(),
        },
        "retry": {"max": retry.max, "base": span(retry.base), "cap": span(retry.cap), "budget": retry.budget},
        "breaker": {
            "enabled": breaker.enabled, "failures": breaker.failures, "open_for": span(breaker.open_for),
            "max_open_share": breaker.max_open_share,
        },
        "health": {"probe": snapshot.health.probe.map(span)},
        "hedging": snapshot.hedging.map(|hedging| json!({
            "enabled": true, "quantile": hedging.quantile, "min_delay": span(hedging.min_delay), "budget": hedging.budget,
        })),
        "timeouts": {
            "connect": span(timeouts.connect), "first_output": span(timeouts.first_output), "idle": span(timeouts.idle),
            "total": span(timeouts.total),
        },
    })
}

fn provider(provider: &Provider) -> Value {
    let keys = provider.keys.iter().map(|key| json!({"name": &*key.name, "key": key.secret.masked()}));
    json!({
        "id": &*provider.id,
        "dialect": provider.dialect.name(),
        "base_url": provider.base.to_string(),
        "weight": provider.weight,
        "keys": keys.collect::<Vec<_>>(),
    })
}

fn texts(list: &[impl ToString]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// As it would be written in the configuration file.
fn span(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_millis()) {
        (seconds, 0) => format!("{seconds}s"),
        _ => format!("{}ms", duration.as_millis()),
    }
}
