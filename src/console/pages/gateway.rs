//! What the gateway is set to: settings with the store in use and the state of the encryption, and the audit log.

use super::ask::ask;
use super::form::{button, good_news};
use super::format;
use super::layout::{self, badge, empty, heading, scrolling};
use super::requests::database;
use super::visit::{Failure, Visit};
use crate::config::snapshot::CacheBackend;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use axum::extract::{Query, State};
use axum::http::Method;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// So many entries of the audit log are shown.
const MOST_ENTRIES: u32 = 500;

/// What was just done.
#[derive(Deserialize)]
pub(super) struct Asked {
    emptied: Option<String>,
}

/// The audit log.
pub(super) async fn audit(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let access = visit.access(Operation::SeeAudit)?;
    let mut entries = database(&shared)?.latest_entries(&access, MOST_ENTRIES).await?;
    entries.reverse();
    let body = html! {
        (heading("Audit log", "Who did what, and when. Each entry holds a hash over the one before it.", html! {}))
        section.panel {
            @if entries.is_empty() { (empty("Nothing was done yet", "Keys made, logins and changes of settings are written down here.", html! {})) }
            @else {
                (scrolling("Entries", html! {
                    table {
                        thead { tr { th.num scope="col" { "#" } th scope="col" { "Time" } th scope="col" { "Who" } th scope="col" { "What" } th scope="col" { "Whom or what" } th scope="col" { "Details" } th scope="col" { "From" } } }
                        tbody {
                            @for entry in &entries {
                                tr {
                                    td.num { (entry.seq) }
                                    td { (format::clock(entry.event.at)) }
                                    td.clip { (entry.event.actor) }
                                    td { (entry.event.action) }
                                    td.clip.mono { (entry.event.target) }
                                    td.clip.mono title=(entry.event.details) { (entry.event.details) }
                                    td.clip { (entry.event.origin) }
                                }
                            }
                        }
                    }
                }))
                footer { span.muted { (entries.len()) " shown" } code.muted.small { "orbyt audit verify" } }
            }
        }
    };
    Ok(layout::page(&shared, &visit, "Audit log", body).await)
}

/// Settings.
pub(super) async fn settings(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    visit.viewer.may(Operation::SeeHealth, None)?;
    let effective = ask(&shared, &visit, Method::GET, "/api/v1/config", None).await.unwrap_or_default();
    let body = html! {
        (heading("Settings", "What this gateway runs on. The configuration file and the environment change it; most of it without a restart.", html! {}))
        @if asked.emptied.is_some() { (good_news("The cache is empty.")) }
        @if visit.viewer.is_administrator() { (own_state(&shared, &visit).await) }
        @if let Value::Object(sections) = &effective {
            section.panel {
                header { h2 { "In force" } span.muted.small { "secrets are left out" } }
                div.body {
                    @for (name, section) in sections {
                        details.quiet { summary { "[" (name) "]" } pre.wrap.tall tabindex="0" role="region" aria-label=(name) { code { (serde_json::to_string_pretty(section).unwrap_or_default()) } } }
                    }
                }
            }
        }
    };
    Ok(layout::page(&shared, &visit, "Settings", body).await)
}

fn fact(name: &str, value: Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// What is the administrator's alone to see: where things are, and how secrets are kept.
async fn own_state(shared: &Shared, visit: &Visit) -> Markup {
    let snapshot = (shared.deps.snapshot)();
    let master = match &shared.deps.database {
        Some(database) => database.master_key().await.unwrap_or_default(),
        None => None,
    };
    let is_postgres = snapshot.store.database_url.is_some();
    let place = shared.deps.database.as_ref().map(|database| database.place());
    let degraded = (shared.deps.degraded)();
    html! {
        section.panel {
            header { h2 { "Store" } (badge(if degraded.is_some() { "bad" } else { "good" }, if degraded.is_some() { "away" } else { "connected" })) }
            div.body {
                dl.facts {
                    (fact("Database", html! { @if is_postgres { "Postgres" } @else { "SQLite, embedded" } }))
                    (fact("Where", html! { span.mono { (place.as_deref().unwrap_or("none: nothing is kept")) } }))
                    (fact("Shared live state", html! { @if snapshot.store.redis.is_some() { "Redis" } @else { "this process alone" } }))
                    (fact("Ledger", html! { @if snapshot.telemetry.ledger { "on" @if let Some(time) = snapshot.telemetry.ledger_retention { ", kept " (format::seconds(time.as_secs())) } } @else { "off" } }))
                }
            }
        }
        section.panel {
            header { h2 { "Encryption" } (badge(if master.is_some() { "good" } else { "" }, if master.is_some() { "encrypted" } else { "nothing sealed yet" })) }
            div.body {
                dl.facts {
                    (fact("Keys of providers", html! { "AES-256-GCM, bound to their rows" }))
                    (fact("Master key", html! { @if snapshot.store.master_key.is_some() { "from the configuration" } @else { "in a file of the data directory" } @if let Some(id) = &master { ", " span.mono { (id) } } }))
                    (fact("API keys", html! { "SHA-256, never the key itself" }))
                }
            }
        }
        section.panel {
            header { h2 { "Addresses" } }
            div.body {
                dl.facts {
                    (fact("Gateway", html! { @for url in &shared.deps.gateway_urls { span.mono { (url) "/v1" } br; } }))
                    (fact("Console", html! { @for at in &snapshot.console.listen { span.mono { "http://" (at) } br; } }))
                    (fact("DevTools", html! { @if snapshot.console.devtools_listen.is_empty() { "at /devtools alone" } @for at in &snapshot.console.devtools_listen { span.mono { "http://" (at) } br; } }))
                    (fact("Metrics", html! { a href="/metrics" { "/metrics" } }))
                }
            }
        }
        (cache(shared, visit))
    }
}

/// What the cache holds, and the button that empties it.
fn cache(shared: &Shared, visit: &Visit) -> Markup {
    let snapshot = (shared.deps.snapshot)();
    let (held, questions) = shared.deps.backstage.cached();
    let is_on = snapshot.cache.backend != CacheBackend::Off;
    html! {
        section.panel {
            header { h2 { "Cache" } (badge(if is_on { "good" } else { "" }, snapshot.cache.backend.name())) }
            div.body {
                dl.facts {
                    (fact("Answers", html! { (format::count(held.entries)) " of " (format::count(snapshot.cache.max_size.into())) }))
                    (fact("Bytes", html! { (format::count(held.bytes)) " of " (format::count(snapshot.cache.max_bytes)) }))
                    (fact("Questions compared by meaning", html! { @if snapshot.cache.semantic.is_some() { (format::count(questions)) } @else { "off" } }))
                    (fact("Kept for", html! { (format::seconds(snapshot.cache.ttl.as_secs())) }))
                }
            }
            @if is_on { footer { (button(visit, "/settings/empty-cache", "Empty the cache", "danger", &[])) } }
        }
    }
}

/// Empties the cache of answers, and the index of the semantic cache.
pub(super) async fn empty_cache(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    ask(&shared, &visit, Method::DELETE, "/api/v1/cache", None).await?;
    Ok(Redirect::to(&visit.link("/settings?emptied=1")).into_response())
}
