//! Requests: those of the ledger that were asked for, and the form that they are asked for with.

use super::format;
use super::layout::{self, badge, empty, heading, scrolling};
use super::snippets::{With, first_requests};
use super::visit::{Failure, Visit};
use crate::console::now_ms;
use crate::console::problem::Problem;
use crate::console::query::{Asked, given, place};
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::domain::record::SKIPPED;
use crate::domain::{Ended, LedgerRow};
use crate::store::ports::database::Database;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use std::sync::Arc;

/// So many on a page.
const MOST: u32 = 50;

/// The database, for pages that are about what is in it.
pub(super) fn database(shared: &Shared) -> Result<&Arc<dyn Database>, Problem> {
    let none = "This gateway keeps nothing: it was started without a database.";
    shared.deps.database.as_ref().ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, none))
}

pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let access = visit.access(Operation::SeeRequests)?;
    let filter = asked.filter(now_ms(), Some("24h"))?;
    let page = database(&shared)?.list(&access, &filter, asked.cursor()?, MOST).await?;
    let next = page.next.as_ref().map(|next| asked.address("/requests", &[("before", &place(next))]));
    let body = html! {
        (heading("Requests", "Every finished request that the ledger keeps.", html! {}))
        (filters("/requests", &asked, html! {}))
        section.panel {
            @if page.rows.is_empty() {
                (empty("No request", "None in this time is like that. Choose a longer time, or send one:", first_requests(&shared, &visit, "first", With::default())))
            } @else {
                (scrolling("Requests", table(&page.rows)))
                footer {
                    span.muted { (page.rows.len()) " shown" }
                    @if let Some(next) = next { a href=(next) { "Older" } }
                }
            }
        }
    };
    Ok(layout::page(&shared, &visit, "Requests", body).await)
}

/// The form in which requests are chosen. What it says stands in the address.
pub(super) fn filters(path: &str, asked: &Asked, more: Markup) -> Markup {
    let value = |text: &Option<String>| given(text).unwrap_or_default().to_owned();
    let field = |name: &str, label: &str, text: &Option<String>, class: &str| {
        html! {
            div class={ "field " (class) } { label for={ "f-" (name) } { (label) } input id={ "f-" (name) } name=(name) value=(value(text)); }
        }
    };
    let range = given(&asked.range).unwrap_or("24h");
    let status = given(&asked.status).unwrap_or_default();
    let ranges =
        [("1h", "Last hour"), ("24h", "Last 24 hours"), ("7d", "Last 7 days"), ("30d", "Last 30 days"), ("all", "All")];
    let statuses =
        [("", "Any"), ("ok", "Answered"), ("failed", "Failed"), ("4xx", "4xx"), ("429", "429"), ("5xx", "5xx")];
    html! {
        form.filters method="get" action=(path) role="search" {
            div.field {
                label for="f-range" { "Time" }
                select id="f-range" name="range" {
                    @for (name, label) in ranges { option value=(name) selected[name == range] { (label) } }
                }
            }
            div.field {
                label for="f-status" { "Outcome" }
                select id="f-status" name="status" {
                    @for (name, label) in statuses { option value=(name) selected[name == status] { (label) } }
                    @if !statuses.iter().any(|(name, _)| *name == status) { option value=(status) selected { (status) } }
                }
            }
            (field("model", "Model", &asked.model, ""))
            (field("provider", "Provider", &asked.provider, ""))
            (field("key", "Key", &asked.key, ""))
            (field("user", "User", &asked.user, ""))
            (field("q", "Search", &asked.q, "wide"))
            @for (name, text) in [("project", &asked.project), ("session", &asked.session), ("trace", &asked.trace), ("from", &asked.from), ("until", &asked.until), ("org", &asked.org)] {
                @if let Some(text) = given(text) { input type="hidden" name=(name) value=(text); }
            }
            (more)
            button.primary type="submit" { "Show" }
            a.button href=(path) { "Clear" }
        }
    }
}

/// How a request came out.
pub(super) fn outcome(row: &LedgerRow<'_>) -> Markup {
    match (row.ended, row.status) {
        (Ended::Complete, 0..400) => badge("good", &row.status.to_string()),
        (Ended::ClientGone, _) => badge("warn", "client gone"),
        (Ended::Complete | Ended::Error, 400..500) => badge("warn", &row.status.to_string()),
        (Ended::Complete | Ended::Error, status) => badge("bad", &status.to_string()),
        (ended, _) => badge("bad", &ended.name().replace('_', " ")),
    }
}

/// Requests as a table.
pub(super) fn table(rows: &[LedgerRow<'_>]) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th scope="col" { "Time" } th scope="col" { "Outcome" } th scope="col" { "Model" } th scope="col" { "Served by" }
                    th scope="col" { "Key" } th.num scope="col" { "Latency" } th.num scope="col" { "First output" }
                    th.num scope="col" { "Tokens" } th.num scope="col" { "Cost" } th scope="col" { "Notes" }
                }
            }
            tbody { @for row in rows { (line(row)) } }
        }
    }
}

fn line(row: &LedgerRow<'_>) -> Markup {
    let usage = row.usage.unwrap_or_default();
    let attempts = row.attempts.iter().filter(|attempt| attempt.verdict != SKIPPED).count();
    let cost = row.cost().map_or("\u{2013}".to_owned(), format::money);
    html! {
        tr {
            td { a href={ "/requests/" (row.id) } title=(row.id) { (format::clock(row.arrived_unix_ms)) } }
            td { (outcome(row)) }
            td.clip title=[row.requested_model.as_deref()] { (row.requested_model.as_deref().unwrap_or("\u{2013}")) }
            td.clip {
                @match (&row.provider, &row.model) {
                    (Some(provider), Some(model)) => { (provider) "/" (model) }
                    _ => { "\u{2013}" }
                }
            }
            td.clip { (row.key_name) }
            td.num { (format::micros(row.latency_us)) }
            td.num { (row.ttft_us.map_or("\u{2013}".to_owned(), format::micros)) }
            td.num { @if row.usage.is_some() { (format::count(usage.prompt_tokens)) " + " (format::count(usage.completion_tokens)) } @else { "\u{2013}" } }
            td.num title=[row.cost().map(|cost| format!("${}", cost.to_dollars()))] { (cost) }
            td {
                div.tags {
                    @if row.stream { span.tag { "stream" } }
                    @if row.fallback { span.tag { "fallback" } }
                    @if attempts > 1 { span.tag { (attempts) " attempts" } }
                    @if row.cache == crate::domain::CacheUse::Hit { span.tag { "cached" } }
                    @if let Some(code) = &row.error_code { span.tag { (code) } }
                }
            }
        }
    }
}
