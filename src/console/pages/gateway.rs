//! What the gateway is set to: presets, settings with the store in use and the state of the encryption, and the audit log.

use super::ask::{ask, list, text};
use super::format;
use super::layout::{self, badge, copyable, empty, heading, scrolling};
use super::requests::database;
use super::visit::{Failure, Visit};
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;
use std::sync::Arc;

/// So many entries of the audit log are shown.
const MOST_ENTRIES: u32 = 500;

const EXAMPLE_PRESET: &str = "[[preset]]\nslug = \"support\"\nmodel = \"auto\"\nsystem = \"You answer briefly and kindly.\"\n\n[preset.parameters]\ntemperature = 0.2";

/// Presets.
pub(super) async fn presets(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    visit.viewer.may(Operation::SeeModels, None)?;
    // Those of the configuration are known in any case; what was stored besides comes from the API.
    let stored = list(&shared, &visit, "/api/v1/presets").await.unwrap_or_default();
    let snapshot = (shared.deps.snapshot)();
    let body = html! {
        (heading("Presets", "What holds where a request that names one says nothing.", html! {}))
        section.panel {
            @if snapshot.presets.is_empty() {
                (empty("No preset yet", "Write one into the configuration file, and name it as @preset/support in a request:", copyable("first", EXAMPLE_PRESET)))
            } @else {
                (scrolling("Presets", html! {
                    table {
                        thead { tr { th scope="col" { "Preset" } th scope="col" { "Model" } th scope="col" { "Fallbacks" } th scope="col" { "Strategy" } th scope="col" { "System prompt" } th scope="col" { "Parameters" } th scope="col" { "From" } } }
                        tbody {
                            @for preset in &snapshot.presets {
                                @let source = stored.iter().find(|it| text(it, "name") == &*preset.slug).map_or("file", |it| text(it, "source"));
                                tr {
                                    th scope="row" { "@preset/" (preset.slug) @if let Some(name) = &preset.name { br; small.muted { (name) } } }
                                    td { (preset.model.as_deref().unwrap_or("\u{2013}")) }
                                    td { (preset.fallbacks.join(", ")) }
                                    td { (preset.strategy.map_or("", |strategy| strategy.name())) }
                                    td.clip title=[preset.system.as_deref()] { (preset.system.as_deref().unwrap_or_default()) }
                                    td { div.tags { @for (name, value) in &preset.parameters { span.tag { (name) " " (value) } } } }
                                    td { (source) }
                                }
                            }
                        }
                    }
                }))
            }
        }
    };
    Ok(layout::page(&shared, &visit, "Presets", body).await)
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
pub(super) async fn settings(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    visit.viewer.may(Operation::SeeGateway, None)?;
    let snapshot = (shared.deps.snapshot)();
    let effective = ask(&shared, &visit, Method::GET, "/api/v1/config", None).await.unwrap_or_default();
    let master = match &shared.deps.database {
        Some(database) => database.master_key().await.unwrap_or_default(),
        None => None,
    };
    let is_postgres = snapshot.store.database_url.is_some();
    let place = shared.deps.database.as_ref().map(|database| database.place());
    let degraded = (shared.deps.degraded)();
    let fact = |name: &str, value: Markup| html! { div { dt { (name) } dd { (value) } } };
    let body = html! {
        (heading("Settings", "What this gateway runs on. The configuration file and the environment change it; most of it without a restart.", html! {}))
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
