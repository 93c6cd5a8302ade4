//! One request: its timeline, why each target was chosen or not, what it carried, and how to send it again.

use super::format;
use super::layout::{self, badge, copyable, csrf, heading, scrolling};
use super::payload;
use super::requests::{database, outcome};
use super::send;
use super::snippets::gateway;
use super::visit::{Failure, Visit};
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::domain::decision::{Candidate, Decision};
use crate::domain::payloads::Payloads;
use crate::domain::record::SKIPPED;
use crate::domain::{LedgerAttempt, LedgerRow, RequestId};
use crate::store::ports::database::Access;
use crate::telemetry::live::Elsewhere;
use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};
use std::net::SocketAddr;
use std::sync::Arc;

/// What is known of a request: the ledger's row once it is over and written, and what it carried.
pub(super) struct Known {
    pub id: RequestId,
    pub row: Option<LedgerRow<'static>>,
    pub payloads: Option<Arc<Payloads>>,
    /// The other node that it is or was on, where that is known.
    pub elsewhere: Option<Elsewhere>,
}

/// Finds a request that is in sight; of another organisation's nobody hears that there is one.
pub(super) async fn find(shared: &Shared, visit: &Visit, id: &str) -> Result<Known, Failure> {
    let id = RequestId::parse(id).ok_or_else(|| Problem::not_found("request"))?;
    let reach = visit.viewer.reach(Operation::SeeRequests, None)?;
    let mut row = None;
    if let Ok(database) = database(shared) {
        for access in &reach {
            if row.is_none() {
                row = database.find(access, id).await?;
            }
        }
    }
    let is_in_sight =
        |it: &Arc<Payloads>| reach.contains(&Access::System) || visit.viewer.can(Operation::SeePayloads, &it.org);
    let mut payloads = shared.deps.payloads.get(&id).filter(is_in_sight);
    if let (None, Some(archive)) = (&payloads, &shared.deps.archive) {
        // Who may not see what requests carried sees the rest.
        for access in visit.viewer.reach(Operation::SeePayloads, None).unwrap_or_default() {
            if payloads.is_none() {
                payloads = archive.payloads(&access, id).await?.map(Arc::new);
            }
        }
    }
    let elsewhere = shared.deps.live.elsewhere(&id);
    let elsewhere = elsewhere.filter(|it| reach.iter().any(|access| access.reaches(it.org.as_deref())));
    if row.is_none() && payloads.is_none() && elsewhere.is_none() {
        return Err(Problem::not_found("request").into());
    }
    Ok(Known { id, row, payloads, elsewhere })
}

pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let known = find(&shared, &visit, &id).await?;
    let Known { id, row, payloads, elsewhere } = &known;
    let title = format!("Request {id}");
    let actions = html! {
        a.button href="/devtools" { "DevTools" }
        a.button href={ "/api/v1/requests/" (id) } { "JSON" }
    };
    let may_send = visit.viewer.can(Operation::MakeOwnKeys, row.as_ref().map_or("", |row| &row.org));
    let body = html! {
        (heading("Request", &id.to_string(), actions))
        @match row {
            Some(row) => {
                (facts(row, elsewhere.as_ref()))
                @if !row.attempts.is_empty() { (timeline(row)) }
                @if let Some(decision) = &row.decision { (plan(row, decision)) }
            }
            None => (unwritten(*id, elsewhere.as_ref()))
        }
        @match payloads {
            Some(payloads) => {
                (again(&shared, &visit, payloads, may_send))
                (send::stage())
                (payload::sections(payloads))
            }
            None => {
                section.panel {
                    header { h2 { "Payloads" } }
                    div.body { (no_payloads(&shared, *id, elsewhere.as_ref())) }
                }
            }
        }
    };
    Ok(layout::page(&shared, &visit, &title, body).await)
}

/// In the place of what the ledger has not, or not yet.
fn unwritten(id: RequestId, elsewhere: Option<&Elsewhere>) -> Markup {
    html! {
        section.panel data-refresh={ "/requests/" (id) } data-every="1" {
            div.body {
                @match elsewhere {
                    None => { (badge("live", "under way")) " What is known of it so far is below; the rest follows when it is over." }
                    Some(Elsewhere { node, has_ended: false, .. }) => {
                        (badge("live", "under way")) " It is on node " strong { (node.name) } ". The rest follows when it is over."
                    }
                    Some(Elsewhere { node, has_ended: true, .. }) => {
                        (badge("", "over")) " It was on node " strong { (node.name) } ". The rest follows from the database that the nodes share; where each has its own, the console of that node shows it."
                    }
                }
            }
        }
    }
}

/// Why nothing is shown of what a request carried, and where it may be.
fn no_payloads(shared: &Shared, id: RequestId, elsewhere: Option<&Elsewhere>) -> Markup {
    let Some(Elsewhere { node, .. }) = elsewhere else {
        let here = shared
            .deps
            .live
            .node()
            .map(|node| format!(" of this node ({node}; if it was on another, look at the console of that)"));
        let here = here.unwrap_or_default();
        return html! {
            p.muted { "What this request carried is not kept: it is not among the last ones in the memory" (here) ", or it or its key asked for that." }
        };
    };
    if shared.is_own(node) {
        return html! {
            p.muted { "What this request carried is in the memory of a process of this node (" (node.name) ") that an upgrade has replaced, and goes with it: it is not in the database, and that process has no console any more." }
        };
    }
    html! {
        p {
            (badge("warn", "on another node")) " Node " strong { (node.name) } " alone has what this request carried, in its memory, while it is among the last \
             ones there: it is not in the database. "
            @match node.console {
                Some(console) => { "Open it at the console of that node: " code { (address_of(console, id)) } (reached(console)) }
                None => { "Open this page at the console of that node." }
            }
        }
        p.muted.small { "What later requests carry can be kept in the database, and shown by the console of each node: see " a href="/docs/payloads" { "telemetry.payloads" } "." }
    }
}

/// Where a request's page is at another console. It is no link: whoever can write to the store that nodes share could make one up.
fn address_of(console: SocketAddr, id: RequestId) -> String {
    match console.ip().is_unspecified() {
        true => format!("http://<the node's address>:{}/requests/{id}", console.port()),
        false => format!("http://{console}/requests/{id}"),
    }
}

/// What is to be known of an address.
fn reached(console: SocketAddr) -> &'static str {
    if console.ip().is_loopback() { " (from its own machine, or by a tunnel to it)." } else { "." }
}

fn facts(row: &LedgerRow<'_>, elsewhere: Option<&Elsewhere>) -> Markup {
    let usage = row.usage.unwrap_or_default();
    let dash = || "\u{2013}".to_owned();
    let fact = |name: &str, value: String| html! { div { dt { (name) } dd { (value) } } };
    let linked = |name: &str, parameter: &str, value: &Option<std::borrow::Cow<'_, str>>| {
        let Some(value) = value else { return html! {} };
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair(parameter, value).append_pair("range", "all");
        let address = format!("/requests?{}", query.finish());
        html! { div { dt { (name) } dd.mono { a href=(address) { (value) } } } }
    };
    html! {
        section.panel {
            header {
                h2 { (row.requested_model.as_deref().unwrap_or("no model")) }
                (outcome(row))
            }
            div.body {
                dl.facts {
                    div { dt { "Arrived" } dd { (format::clock(row.arrived_unix_ms)) } }
                    (fact("Route", row.route.to_string()))
                    (fact("Served by", match (&row.provider, &row.model) { (Some(provider), Some(model)) => format!("{provider}/{model}"), _ => dash() }))
                    (fact("Strategy", row.strategy.to_string()))
                    (fact("Latency", format::micros(row.latency_us)))
                    (fact("First output", row.ttft_us.map_or_else(dash, format::micros)))
                    (fact("Of that, the gateway", format::micros(row.overhead_us)))
                    @if let Some(queued) = row.queued_us { (fact("Waited in line", format::micros(queued))) }
                    (fact("Tokens in", tokens(usage.prompt_tokens, &[(usage.cached_tokens, "cached"), (usage.cache_write_tokens, "written")])))
                    (fact("Tokens out", tokens(usage.completion_tokens, &[(usage.reasoning_tokens, "reasoning")])))
                    (fact("Cost", row.cost().map_or_else(|| "not known".to_owned(), |cost| format!("${}", cost.to_dollars()))))
                    (fact("Cache", row.cache.name().to_owned()))
                    (fact("Key", row.key_name.to_string()))
                    (fact("Project", row.project.to_string()))
                    @if let Some(Elsewhere { node, .. }) = elsewhere { (fact("Node", node.name.to_string())) }
                    (linked("User", "user", &row.user))
                    (linked("Session", "session", &row.session_id))
                    (linked("Trace", "trace", &row.trace_id))
                    @if let Some(code) = &row.error_code { (fact("Error", code.to_string())) }
                    @if !row.dropped.is_empty() { (fact("Not honoured", row.dropped.join(", "))) }
                }
            }
        }
    }
}

fn tokens(all: u64, parts: &[(Option<u64>, &str)]) -> String {
    let parts: Vec<_> = parts
        .iter()
        .filter_map(|(count, name)| Some(format!("{} {name}", format::count((*count).filter(|it| *it > 0)?))))
        .collect();
    if parts.is_empty() { format::count(all) } else { format!("{} ({})", format::count(all), parts.join(", ")) }
}

/// The stages as bars over the time that the request took.
fn timeline(row: &LedgerRow<'_>) -> Markup {
    let whole = row.latency_us.max(1);
    let percent = |micros: u64| format!("{:.2}%", (micros.min(whole) as f64 / whole as f64 * 100.0));
    let width = |micros: u64| format!("{:.2}%", (micros.min(whole) as f64 / whole as f64 * 100.0).max(0.4));
    let bar = |class: &str, from: u64, took: u64| {
        html! {
            svg aria-hidden="true" { rect.track x="0" y="5" width="100%" height="4" rx="2" {} rect class=(class) x=(percent(from)) y="1" width=(width(took)) height="12" rx="2" {} }
        }
    };
    let first = row.attempts.iter().map(|attempt| attempt.started_us).min();
    html! {
        section.panel {
            header { h2 { "Timeline" } span.muted.small { (format::micros(row.latency_us)) " in all" } }
            (scrolling("Timeline", html! {
                table.waterfall {
                    thead { tr { th scope="col" { "Stage" } th scope="col" { "When" } th.num scope="col" { "From" } th.num scope="col" { "Took" } th.num scope="col" { "Status" } th scope="col" { "Outcome" } } }
                    tbody {
                        @if let Some(first) = first {
                            tr { th scope="row" { "accept, plan, lease" } td.bar { (bar("", 0, first)) } td.num { "0" } td.num { (format::micros(first)) } td {} td {} }
                        }
                        @for attempt in &row.attempts { (stage(attempt, &bar)) }
                        @if let Some(ttft) = row.ttft_us {
                            tr { th scope="row" { "answer to the client" } td.bar { (bar("first", ttft, row.latency_us.saturating_sub(ttft))) } td.num { (format::micros(ttft)) } td.num { (format::micros(row.latency_us.saturating_sub(ttft))) } td.num { (row.status) } td { (row.ended.name().replace('_', " ")) } }
                        }
                    }
                }
            }))
        }
    }
}

fn stage(attempt: &LedgerAttempt<'_>, bar: &impl Fn(&str, u64, u64) -> Markup) -> Markup {
    let is_skipped = attempt.verdict == SKIPPED;
    let (class, tone) = match (&attempt.reason, is_skipped) {
        (_, true) => ("", ""),
        (None, _) => ("good", "good"),
        (Some(_), _) => ("bad", "bad"),
    };
    html! {
        tr {
            th scope="row" {
                (attempt.provider) "/" (attempt.model) br;
                small.muted { @if is_skipped { "passed over" } @else { "with " (attempt.key_name) } }
            }
            td.bar { @if !is_skipped { (bar(class, attempt.started_us, attempt.took_us)) } }
            td.num { (format::micros(attempt.started_us)) }
            td.num { @if !is_skipped { (format::micros(attempt.took_us)) } }
            td.num { @if let Some(status) = attempt.status { (status) } }
            td {
                (badge(tone, &attempt.verdict.replace('_', " ")))
                @if let Some(reason) = &attempt.reason { " " (reason.replace('_', " ")) }
                @if let Some(message) = &attempt.message { br; small.muted { (message) } }
            }
        }
    }
}

/// The plan: each target that was looked at, its place, what was known of it, and why it was not tried where it was not.
fn plan(row: &LedgerRow<'_>, decision: &Decision) -> Markup {
    let place = |at: usize| decision.order.iter().position(|place| usize::from(*place) == at);
    let mut sorted: Vec<(usize, &Candidate)> = decision.candidates.iter().enumerate().collect();
    sorted.sort_by_key(|(at, _)| (place(*at).unwrap_or(usize::MAX), *at));
    let served =
        |it: &Candidate| row.provider.as_deref() == Some(&*it.provider) && row.model.as_deref() == Some(&*it.model);
    let of = |it: &Candidate| {
        let (provider, model) = (it.provider.clone(), it.model.clone());
        row.attempts.iter().filter(move |attempt| *attempt.provider == *provider && *attempt.model == *model)
    };
    let tried = |it: &Candidate| of(it).any(|attempt| attempt.verdict != SKIPPED);
    let passed_over =
        |it: &Candidate| of(it).find_map(|attempt| attempt.reason.as_deref()).map(|why| why.replace('_', " "));
    html! {
        section.panel {
            header {
                h2 { "Why it went there" }
                span.muted.small { "strategy " (decision.rules.strategy.name()) ", " (format::count(decision.input_tokens)) " tokens in and " (format::count(decision.output_tokens)) " out by estimate" }
            }
            (scrolling("Plan", html! {
                table {
                    thead { tr { th scope="col" { "#" } th scope="col" { "Target" } th scope="col" { "Decision" } th.num scope="col" { "Price" } th.num scope="col" { "First output" } th.num scope="col" { "Tokens/s" } th.num scope="col" { "Success" } th.num scope="col" { "Room" } th scope="col" { "Breaker" } } }
                    tbody {
                        @for (at, candidate) in sorted {
                            @let facts = &candidate.facts;
                            tr {
                                td { @if let Some(place) = place(at) { (place + 1) } }
                                th scope="row" { (candidate.provider) "/" (candidate.model) @if candidate.leg > 0 { " " span.tag { "fallback " (candidate.leg) } } }
                                td {
                                    @if let Some(refusal) = candidate.refusal { (badge("warn", "not planned")) " it " (refusal) }
                                    @else if served(candidate) && row.status < 400 { (badge("good", "served")) }
                                    @else if tried(candidate) { (badge("bad", "tried")) " " (passed_over(candidate).unwrap_or_default()) }
                                    @else if let Some(why) = passed_over(candidate) { (badge("warn", "passed over")) " " (why) }
                                    @else { (badge("", "not needed")) }
                                }
                                td.num { (facts.price().map_or("\u{2013}".to_owned(), format::money)) }
                                td.num { (facts.first_output_us.map_or("\u{2013}".to_owned(), |micros| format::micros(micros.into()))) }
                                td.num { (facts.rate_milli.map_or("\u{2013}".to_owned(), |rate| format::short((f64::from(rate) / 1e3).round()))) }
                                td.num { (format::percent(f64::from(facts.success_ppm) / 1e6)) }
                                td.num { (facts.room_percent) "%" }
                                td { (match facts.breaker { crate::domain::decision::Breaker::Closed => "closed", crate::domain::decision::Breaker::Probe => "probe", crate::domain::decision::Breaker::Open => "open" }) }
                            }
                        }
                    }
                }
            }))
            @if decision.omitted > 0 { footer { span.muted { (decision.omitted) " more refused targets are left out." } } }
        }
    }
}

/// Sending it again: as curl, or against another model through the gateway.
fn again(shared: &Shared, visit: &Visit, payloads: &Payloads, may_send: bool) -> Markup {
    let url = gateway(shared, visit);
    html! {
        section.panel {
            header { h2 { "Send it again" } }
            div.body {
                (copyable("curl", &payload::curl(&url, payloads)))
                @if may_send && payload::model(payloads).is_some() {
                    br;
                    form.filters method="post" action={ "/requests/" (payloads.id) "/replay" } data-stream={ "/requests/" (payloads.id) "/replay/stream" } {
                        (csrf(visit))
                        div.field.wide { label for="replay-model" { "Against another model" } input.mono id="replay-model" name="model" value=[payload::model(payloads)] required autocomplete="off"; }
                        button.primary type="submit" { "Replay" }
                    }
                    p.muted.small { "It goes through the gateway with a key of the console's that lasts two minutes at most, never with a key that the client brought; it counts and costs like any other." }
                }
            }
        }
    }
}
