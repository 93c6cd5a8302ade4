//! DevTools: every request as it goes on.

use super::format;
use super::layout::{self, badge, empty, heading, scrolling};
use super::snippets::{With, first_requests};
use super::visit::{Failure, Visit};
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::domain::record::SKIPPED;
use crate::domain::{Ended, LedgerRow};
use crate::store::ports::ledger::Filter;
use crate::telemetry::live::Audience;
use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use std::sync::Arc;

/// So many earlier requests are shown to begin with.
const EARLIER: u32 = 50;

pub(super) async fn page(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let access = visit.access(Operation::SeeRequests)?;
    // What happens from here on comes by the stream, though that begins a moment later than the page is made.
    let from = shared.deps.live.watch(Audience::Viewers(access.clone()), None).place();
    let earlier = match &shared.deps.database {
        // Without the earlier ones the page is of use all the same.
        Some(database) => database.list(&access, &Filter::default(), None, EARLIER).await.map(|page| page.rows),
        None => Ok(Vec::new()),
    };
    let earlier = earlier.unwrap_or_default();
    let controls = html! {
        span.badge id="live-status" role="status" { "connecting\u{2026}" }
        button type="button" id="live-pause" aria-pressed="false" { "Pause" }
        button type="button" id="live-clear" { "Clear" }
    };
    let body = html! {
        (heading("DevTools", "Every request as it moves, from pending to its end.", controls))
        div.filters {
            div.field.wide { label for="live-search" { "Filter" } input id="live-search" type="search" placeholder="model, provider, key, id\u{2026}" autocomplete="off"; }
            div.field {
                label for="live-state" { "State" }
                select id="live-state" {
                    option value="" { "All" }
                    @for state in ["pending", "streaming", "success", "error"] { option value=(state) { (state) } }
                }
            }
        }
        section.panel {
            @if earlier.is_empty() {
                div id="live-empty" {
                    (empty("Waiting for a request", "Send one to the gateway, and watch it here:", first_requests(&shared, &visit, "first", With::default())))
                }
            }
            (scrolling("Requests", html! {
                table.live {
                    thead {
                        tr {
                            th scope="col" { "Time" } th scope="col" { "State" } th.num scope="col" { "Status" } th scope="col" { "Model" }
                            th scope="col" { "Target" } th scope="col" { "Key" } th.node scope="col" { "Node" } th.num scope="col" { "Attempts" } th.num scope="col" { "First output" }
                            th.num scope="col" { "Latency" } th.num scope="col" { "Tokens" } th.num scope="col" { "Cost" } th scope="col" { "Notes" }
                        }
                    }
                    tbody id="live" data-source=(visit.link("/devtools/events")) data-after=(from) data-node=[shared.deps.live.node()] { @for row in &earlier { (line(row)) } }
                }
            }))
            template id="live-row" { (blank()) }
        }
    };
    Ok(layout::page(&shared, &visit, "DevTools", body).await)
}

/// The row that the script fills.
fn blank() -> Markup {
    html! {
        tr data-state="pending" {
            td { a href="/requests" { "\u{2013}" } }
            td data-cell="state" { (badge("live", "pending")) }
            td.num data-cell="status" {}
            td.clip data-cell="asked" {}
            td.clip data-cell="target" {}
            td.clip data-cell="key" {}
            td.clip.node data-cell="node" {}
            td.num data-cell="attempts" {}
            td.num data-cell="ttft" {}
            td.num data-cell="latency" {}
            td.num data-cell="tokens" {}
            td.num data-cell="cost" {}
            td.clip data-cell="note" {}
        }
    }
}

fn line(row: &LedgerRow<'_>) -> Markup {
    let is_success = row.ended == Ended::Complete && row.status < 400;
    let (state, tone) = if is_success { ("success", "good") } else { ("error", "bad") };
    let attempts = row.attempts.iter().filter(|attempt| attempt.verdict != SKIPPED).count();
    let millis = |micros: u64| format!("{} ms", micros / 1000);
    html! {
        tr data-id=(row.id) data-state=(state) {
            td { a href={ "/requests/" (row.id) } title=(row.id) { (format::clock(row.arrived_unix_ms)) } }
            td data-cell="state" { (badge(tone, state)) }
            td.num data-cell="status" { @if row.status > 0 { (row.status) } }
            td.clip data-cell="asked" { (row.requested_model.as_deref().unwrap_or_default()) }
            td.clip data-cell="target" { @if let (Some(provider), Some(model)) = (&row.provider, &row.model) { (provider) "/" (model) } }
            td.clip data-cell="key" { (row.key_name) }
            td.clip.node data-cell="node" {}
            td.num data-cell="attempts" { @if attempts > 0 { (attempts) } }
            td.num data-cell="ttft" { @if let Some(ttft) = row.ttft_us { (millis(ttft)) } }
            td.num data-cell="latency" { (millis(row.latency_us)) }
            td.num data-cell="tokens" { @if let Some(usage) = row.usage { (usage.prompt_tokens) " + " (usage.completion_tokens) } }
            td.num data-cell="cost" { @if let Some(cost) = row.cost() { "$" (cost.to_dollars()) } }
            td.clip data-cell="note" { @if !is_success { (row.error_code.as_deref().unwrap_or(row.ended.name()).replace('_', " ")) } }
        }
    }
}
