//! The key pool: each provider key with its health, what it has left and for how long it rests; and the targets' breakers. Live.

use super::ask::{ask, segment};
use super::form::{Fields, button, typed};
use super::format;
use super::layout::{self, badge, copyable, empty, heading, scrolling};
use super::overview::pool_tiles;
use super::visit::{Failure, Visit};
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::store::ports::live::{KeyState, KeyStatus, Spent, TargetStatus};
use axum::Form as Body;
use axum::extract::State;
use axum::http::Method;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

pub(super) async fn page(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    visit.viewer.may(Operation::SeeHealth, None)?;
    let is_administrator = visit.viewer.is_administrator();
    let now = Instant::now();
    let keys = shared.deps.backstage.pool();
    let mut targets = shared.deps.backstage.targets();
    targets.sort_by(|a, b| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
    let body = html! {
        (heading("Key pool", "The keys of the gateway's providers. The best of those that are ready is leased for each attempt.", html! {}))
        div data-refresh="/pool" data-every="2" {
            dl.tiles { (pool_tiles(&keys)) }
            br;
            section.panel {
                header { h2 { "Keys" } }
                @if !is_administrator { (by_provider(&keys)) }
                @else if keys.is_empty() {
                    (empty("No key yet", "Set the key of a provider in the environment, or put it into the vault:", copyable("first", "OPENAI_API_KEY=sk-\u{2026} orbyt serve\norbyt vault add openai")))
                } @else {
                    (scrolling("Keys", html! {
                        table {
                            thead { tr { th scope="col" { "Key" } th scope="col" { "Provider" } th scope="col" { "Status" } th.num scope="col" { "Health" } th scope="col" { "RPM" } th scope="col" { "TPM" } th scope="col" { "Left" } } }
                            tbody { @for key in &keys { (line(&visit, key)) } }
                        }
                    }))
                }
            }
            br;
            (breakers(&targets, now))
        }
    };
    Ok(layout::page(&shared, &visit, "Key pool", body).await)
}

/// What an owner of an organisation sees of the keys: how many are how, and not which they are.
fn by_provider(keys: &[KeyStatus]) -> Markup {
    let mut counts = BTreeMap::<&str, [u64; 4]>::new();
    for key in keys {
        let state = match key.state {
            KeyState::Ready { .. } => 0,
            KeyState::Cooldown { .. } => 1,
            KeyState::Exhausted { .. } => 2,
            KeyState::Disabled => 3,
        };
        let counts = counts.entry(&key.provider).or_default();
        counts.iter_mut().skip(state).take(1).for_each(|count| *count += 1);
    }
    html! {
        @if counts.is_empty() { p.empty { "The gateway has no key of a provider yet." } }
        @else {
            (scrolling("Keys", html! {
                table {
                    thead { tr { th scope="col" { "Provider" } th scope="col" { "Status" } th.num scope="col" { "Ready" } th.num scope="col" { "Cooldown" } th.num scope="col" { "Exhausted" } th.num scope="col" { "Disabled" } } }
                    tbody {
                        @for (provider, counts) in &counts {
                            @let [ready, ..] = counts;
                            tr {
                                th scope="row" { (provider) }
                                td { @if *ready > 0 { (badge("good", "ready")) } @else { (badge("bad", "none ready")) } }
                                @for count in counts { td.num { (count) } }
                            }
                        }
                    }
                }
            }))
        }
    }
}

fn breakers(targets: &[TargetStatus], now: Instant) -> Markup {
    html! {
        section.panel {
            header { h2 { "Targets" } span.muted.small { "models at providers that were tried since the start" } }
            @if targets.is_empty() { p.empty { "None was tried yet." } }
            @else {
                (scrolling("Targets", html! {
                    table {
                        thead { tr { th scope="col" { "Target" } th scope="col" { "Breaker" } th.num scope="col" { "Success" } th.num scope="col" { "First output" } th.num scope="col" { "Tokens/s" } } }
                        tbody {
                            @for target in targets {
                                @let tone = match target.breaker { "open" => "bad", "half_open" => "warn", _ => "good" };
                                @let health = target.health.at(now);
                                tr {
                                    th scope="row" { (target.provider) "/" (target.model) }
                                    td { (badge(tone, &target.breaker.replace('_', " "))) }
                                    td.num { (format::percent(health.success_rate())) }
                                    td.num { (health.first_output_ms().map_or("\u{2013}".to_owned(), |millis| format!("{millis:.0} ms"))) }
                                    td.num { (health.tokens_per_second().map_or("\u{2013}".to_owned(), |rate| format!("{rate:.0}"))) }
                                }
                            }
                        }
                    }
                }))
            }
        }
    }
}

/// Makes a key ready again that its provider had refused.
pub(super) async fn enable(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Body(fields): Body<Fields>,
) -> Result<Response, Failure> {
    let [provider, name] = ["provider", "name"].map(|field| segment(typed(&fields, field)));
    ask(&shared, &visit, Method::POST, &format!("/api/v1/pool/{provider}/{name}/enable"), None).await?;
    Ok(Redirect::to("/pool").into_response())
}

fn line(visit: &Visit, key: &KeyStatus) -> Markup {
    let tone = match key.state {
        KeyState::Ready { .. } => "good",
        KeyState::Cooldown { .. } => "warn",
        KeyState::Exhausted { .. } | KeyState::Disabled => "bad",
    };
    let left = match key.state {
        KeyState::Cooldown { left, why } => {
            format!("{}, {}", format::seconds(left.as_secs().max(1)), why.replace('_', " "))
        }
        KeyState::Exhausted { left } => format!("{}, quota", format::seconds(left.as_secs().max(1))),
        KeyState::Disabled => String::new(),
        KeyState::Ready { leases: 0 } => String::new(),
        KeyState::Ready { leases } => format!("{leases} in use"),
    };
    html! {
        tr {
            th scope="row" { (key.key) }
            td { (key.provider) }
            td { (badge(tone, key.state.name())) }
            td.num { (format::percent(key.health * if key.state == KeyState::Disabled { 0.0 } else { key.room })) }
            td { (gauge(key.requests)) }
            td { (gauge(key.tokens)) }
            td {
                (left)
                @if key.state == KeyState::Disabled { (button(visit, "/pool/enable", "Enable", "", &[("provider", &key.provider), ("name", &key.key)])) }
            }
        }
    }
}

/// `812/1000`, with a bar.
fn gauge(gauge: Option<Spent>) -> Markup {
    let Some(Spent { used, limit }) = gauge else { return html! { span.muted { "no limit known" } } };
    let share = used as f64 / limit.max(1) as f64;
    let tone = match share {
        _ if share >= 0.95 => "bad",
        _ if share >= 0.75 => "warn",
        _ => "",
    };
    html! {
        svg class={ "meter " (tone) } aria-hidden="true" { rect width=(format!("{:.1}%", share.min(1.0) * 100.0)) height="100%" {} }
        " " span.nowrap { (format::count(used)) "/" (format::count(limit)) }
    }
}
