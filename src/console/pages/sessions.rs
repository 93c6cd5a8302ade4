//! Sessions: requests with one session or trace id as one trajectory, with its steps, its cost, and what looks like a loop.

use super::format;
use super::layout::{self, empty, heading, scrolling, tile};
use super::loops::{Repeated, Tools, alike, repeated, tools};
use super::requests::{database, filters, outcome};
use super::said::Call;
use super::snippets::{With, first_requests};
use super::visit::{Failure, Visit};
use crate::console::now_ms;
use crate::console::problem::Problem;
use crate::console::query::{Asked, session_place};
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::domain::{Ended, LedgerRow, Money};
use crate::store::ports::ledger::Filter;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};
use std::collections::BTreeSet;
use std::sync::Arc;

/// So many on a page.
const MOST: u32 = 50;
/// So many steps of one session are shown.
const MOST_STEPS: u32 = 500;
/// So many calls that were repeated are named.
const MOST_NAMED: usize = 10;
/// So much of a call's arguments is shown.
const MOST_SHOWN: usize = 200;

/// The list.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let access = visit.access(Operation::SeeRequests)?;
    let filter = asked.filter(now_ms(), Some("24h"))?;
    let sessions = database(&shared)?.sessions(&access, &filter, asked.session_cursor()?.as_ref(), MOST).await?;
    let last = sessions.last().filter(|_| sessions.len() >= MOST as usize);
    let next = last.map(|it| asked.address("/sessions", &[("before", &session_place(it.last_unix_ms, &it.id))]));
    let example = With { trace: Some("my-agent-run-1"), ..With::default() };
    let body = html! {
        (heading("Sessions", "Requests that belong together by a session or a trace.", html! {}))
        (filters("/sessions", &asked, html! {}))
        section.panel {
            @if sessions.is_empty() {
                (empty("No session", "Give requests that belong together one extra.session_id, or one trace id:", first_requests(&shared, &visit, "first", example)))
            } @else {
                (scrolling("Sessions", html! {
                    table {
                        thead { tr { th scope="col" { "Session" } th scope="col" { "Last request" } th.num scope="col" { "Lasted" } th.num scope="col" { "Steps" } th.num scope="col" { "Errors" } th.num scope="col" { "Models" } th.num scope="col" { "Tokens" } th.num scope="col" { "Cost" } } }
                        tbody {
                            @for it in &sessions {
                                @let id: String = form_urlencoded::byte_serialize(it.id.as_bytes()).collect::<String>().replace('+', "%20");
                                tr {
                                    th.clip scope="row" { a.mono href=(visit.link(&format!("/sessions/{id}"))) { (it.id) } }
                                    td { (format::clock(it.last_unix_ms)) }
                                    td.num { (format::seconds((it.last_unix_ms - it.first_unix_ms.min(it.last_unix_ms)) / 1000)) }
                                    td.num { (format::count(it.totals.requests)) }
                                    td.num { (format::count(it.totals.errors)) }
                                    td.num { (it.models) }
                                    td.num { (format::count(it.totals.prompt_tokens)) " + " (format::count(it.totals.completion_tokens)) }
                                    td.num { (format::money(it.totals.cost)) }
                                }
                            }
                        }
                    }
                }))
                footer { span.muted { (sessions.len()) " shown" } @if let Some(next) = next { a href=(next) { "Older" } } }
            }
        }
    };
    Ok(layout::page(&shared, &visit, "Sessions", body).await)
}

/// One session, step by step.
pub(super) async fn one(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let access = visit.access(Operation::SeeRequests)?;
    let database = database(&shared)?;
    let by_session = Filter { session_id: Some(id.clone()), ..Filter::default() };
    let mut page = database.list(&access, &by_session, None, MOST_STEPS).await?;
    if page.rows.is_empty() {
        let by_trace = Filter { trace_id: Some(id.clone()), ..Filter::default() };
        page = database.list(&access, &by_trace, None, MOST_STEPS).await?;
    }
    if page.rows.is_empty() {
        return Err(Problem::not_found("session").into());
    }
    let mut steps = page.rows;
    steps.reverse();
    let cost: Money = steps.iter().filter_map(LedgerRow::cost).sum();
    let errors = steps.iter().filter(|row| row.ended != Ended::Complete || row.status >= 400).count();
    let (first, last) = (
        steps.first().map_or(0, |it| it.arrived_unix_ms),
        steps.last().map_or(0, |it| it.arrived_unix_ms + it.latency_us / 1000),
    );
    let tools = tools(&shared, &visit, &access, &steps).await;
    let costs: Vec<Option<Money>> = steps.iter().map(LedgerRow::cost).collect();
    let known: Vec<&Call> = tools.iter().flatten().flatten().collect();
    let names: BTreeSet<&str> = known.iter().map(|call| &*call.name).collect();
    let tokens: u64 =
        steps.iter().filter_map(|row| row.usage).map(|usage| usage.prompt_tokens + usage.completion_tokens).sum();
    let body = html! {
        (heading("Session", &id, html! { a.button href=(visit.link("/sessions")) { "All sessions" } }))
        dl.tiles {
            (tile("Steps", &format::count(steps.len() as u64), &format!("{}within {}", if page.next.is_some() { "the last ones, " } else { "" }, format::seconds(last.saturating_sub(first) / 1000)), ""))
            (tile("Tool calls", &format::count(known.len() as u64), &names.iter().copied().take(4).collect::<Vec<_>>().join(", "), ""))
            (tile("Errors", &format::count(errors as u64), "", if errors > 0 { "bad" } else { "" }))
            (tile("Tokens", &format::short(tokens as f64), "", ""))
            (tile("Cost", &format::money(cost), "", ""))
        }
        (warnings(&repeated(&tools, &costs), &alike(&steps, &tools)))
        section.panel { (scrolling("Steps", steps_table(&steps, &tools, first, last))) }
    };
    Ok(layout::page(&shared, &visit, "Session", body).await)
}

/// What looks like a loop.
fn warnings(repeated: &[Repeated], alike: &[(usize, usize)]) -> Markup {
    let numbers = |steps: &[usize]| steps.iter().map(|step| (step + 1).to_string()).collect::<Vec<_>>().join(", ");
    html! {
        @if !repeated.is_empty() {
            div.banner role="status" {
                p { strong { "This looks like a loop: " } "the same tool was called with the same arguments, again and again." }
                ul {
                    @for it in repeated.iter().take(MOST_NAMED) {
                        li {
                            code { (it.call.name) " " (shortened(&it.call.arguments)) } " in " (it.steps.len()) " steps: " (numbers(&it.steps))
                            @if it.cost > Money::ZERO { "; those after the first cost " (format::money(it.cost)) }
                        }
                    }
                }
                @if repeated.len() > MOST_NAMED { p { (repeated.len() - MOST_NAMED) " more are not named." } }
            }
        }
        @if !alike.is_empty() {
            div.banner role="status" {
                p { strong { "This may be a loop. " } "Steps " @for (at, (from, to)) in alike.iter().enumerate() { @if at > 0 { ", " } (from + 1) "\u{2013}" (to + 1) } " asked the same model with prompts of the same length; what they answered is not kept." }
            }
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}\u{2026}", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn steps_table(steps: &[LedgerRow<'_>], tools: &[Tools], first: u64, last: u64) -> Markup {
    let whole = last.saturating_sub(first).max(1) as f64;
    let percent = |millis: u64| format!("{:.2}%", millis as f64 / whole * 100.0);
    html! {
        table.waterfall {
            thead { tr { th.num scope="col" { "#" } th scope="col" { "Time" } th scope="col" { "Outcome" } th scope="col" { "Served by" } th scope="col" { "Tools" } th scope="col" { "When" } th.num scope="col" { "Latency" } th.num scope="col" { "Tokens" } th.num scope="col" { "Cost" } } }
            tbody {
                @for (at, row) in steps.iter().enumerate() {
                    @let class = if row.ended == Ended::Complete && row.status < 400 { "good" } else { "bad" };
                    @let usage = row.usage.unwrap_or_default();
                    tr {
                        td.num { (at + 1) }
                        td { a href={ "/requests/" (row.id) } title=(row.id) { (format::clock(row.arrived_unix_ms)) } }
                        td { (outcome(row)) }
                        td.clip { (row.provider.as_deref().unwrap_or("\u{2013}")) "/" (row.model.as_deref().or(row.requested_model.as_deref()).unwrap_or("\u{2013}")) }
                        td {
                            @match tools.get(at) {
                                Some(Some(calls)) => { div.tags { @for call in calls { span.tag title=(shortened(&call.arguments)) { (call.name) } } } }
                                _ => { span.muted title="what it answered is not kept" { "?" } }
                            }
                        }
                        td.bar {
                            svg aria-hidden="true" {
                                rect.track x="0" y="5" width="100%" height="4" rx="2" {}
                                rect class=(class) x=(percent(row.arrived_unix_ms.saturating_sub(first))) y="1" width=(percent((row.latency_us / 1000).max((whole / 250.0) as u64))) height="12" rx="2" {}
                            }
                        }
                        td.num { (format::micros(row.latency_us)) }
                        td.num { (format::count(usage.prompt_tokens)) " + " (format::count(usage.completion_tokens)) }
                        td.num { (row.cost().map_or("\u{2013}".to_owned(), format::money)) }
                    }
                }
            }
        }
    }
}
