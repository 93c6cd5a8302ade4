//! The overview: what happened lately in numbers and charts, the state of the key pool, and the operations feed.

use super::chart::{Chart, Marks, Series, Unit};
use super::format;
use super::layout::{self, empty, heading, tile};
use super::snippets::{With, first_requests};
use super::stream::told;
use super::visit::{Failure, Visit};
use crate::console::now_ms;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::store::ports::database::Access;
use crate::store::ports::ledger::Filter;
use crate::store::ports::live::{KeyState, KeyStatus};
use crate::store::ports::reports::{Totals, UsageQuery, UsageRow};
use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
pub(super) struct Asked {
    range: Option<String>,
}

/// A range that can be chosen: its name in addresses and on pages, its length and the length of a span, in minutes.
pub(super) const RANGES: [(&str, &str, u64, u64); 4] = [
    ("1h", "Last hour", 60, 2),
    ("24h", "Last 24 hours", 24 * 60, 30),
    ("7d", "Last 7 days", 7 * 24 * 60, 4 * 60),
    ("30d", "Last 30 days", 30 * 24 * 60, 24 * 60),
];

/// A range as it was asked for: the place in [`RANGES`], and from when on it is, at a whole span.
pub(super) fn range(name: Option<&str>, now: u64) -> (usize, u64, u64) {
    let place = RANGES.iter().position(|(short, ..)| Some(*short) == name).unwrap_or(1);
    let (_, _, length, span) = RANGES.get(place).copied().unwrap_or(("", "", 60, 2));
    let span = span * 60_000;
    let from = now.saturating_sub(length * 60_000);
    (place, from - from % span + span, span)
}

pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let access = visit.access(Operation::SeeUsage)?;
    let now = now_ms();
    let (place, from, span) = range(asked.range.as_deref(), now);
    let usage = match &shared.deps.database {
        Some(database) => {
            let filter = Filter { from_unix_ms: Some(from), ..Filter::default() };
            let whole = UsageQuery { filter, span_ms: None, by: None, most: 1 };
            let spans = UsageQuery { span_ms: Some(span), most: 1000, ..whole.clone() };
            let all = database.usage(&access, &whole).await?;
            let totals = all.into_iter().next().map(|row| row.totals).unwrap_or_default();
            Some((totals, database.usage(&access, &spans).await?))
        }
        None => None,
    };
    let is_administrator = visit.viewer.is_administrator();
    let sees_health = visit.viewer.may(Operation::SeeHealth, None).is_ok();
    let keys = sees_health.then(|| shared.deps.backstage.pool());
    let ranges = html! {
        @for (at, (short, name, ..)) in RANGES.iter().enumerate() {
            a.button href=(visit.link(&format!("/overview?range={short}"))) aria-current=[(at == place).then_some("true")] title=(name) { (short) }
        }
    };
    let about = RANGES.get(place).map_or("", |range| range.1);
    let body = html! {
        (heading("Overview", about, ranges))
        @match &usage {
            Some((totals, spans)) => {
                (tiles(totals, keys.as_deref()))
                @if totals.requests == 0 { (begin(&shared, &visit, &access)) }
                @else { (charts(spans, from, span, now)) }
            }
            None => {
                @if let Some(keys) = &keys { dl.tiles { (pool_tiles(keys)) } }
                section.panel { (empty("Nothing is kept", "This gateway has no database, so there is no usage to show. DevTools shows requests as they happen.", html! {})) }
            }
        }
        @if is_administrator { (operations(&shared)) }
    };
    Ok(layout::page(&shared, &visit, "Overview", body).await)
}

fn tiles(totals: &Totals, keys: Option<&[KeyStatus]>) -> Markup {
    let tokens = totals.prompt_tokens + totals.completion_tokens;
    let errors = format!("{} of all", format::share(totals.errors, totals.requests));
    let kinds = format!(
        "{} in, {} out",
        format::short(totals.prompt_tokens as f64),
        format::short(totals.completion_tokens as f64)
    );
    let latency = totals.latency;
    let slow = format!("p95 {} \u{b7} p99 {}", format::micros(latency.p95_us), format::micros(latency.p99_us));
    let unpriced =
        if totals.unpriced > 0 { format!("{} without a price", format::count(totals.unpriced)) } else { String::new() };
    let first = totals.ttft_us.map_or("\u{2013}".to_owned(), format::micros);
    html! {
        dl.tiles {
            (tile("Requests", &format::count(totals.requests), "", ""))
            (tile("Errors", &format::count(totals.errors), &errors, if totals.errors > 0 { "bad" } else { "" }))
            (tile("Cost", &format::money(totals.cost), &unpriced, ""))
            (tile("Tokens", &format::short(tokens as f64), &kinds, ""))
            (tile("Latency, median", &format::micros(latency.p50_us), &slow, ""))
            (tile("First output", &first, "on average", ""))
            (tile("Cache hits", &format::share(totals.cache_hits, totals.requests), &format::count(totals.cache_hits), ""))
            @if let Some(keys) = keys { (pool_tiles(keys)) }
        }
    }
}

/// How the provider keys are.
pub(super) fn pool_tiles(keys: &[KeyStatus]) -> Markup {
    let count = |is: fn(&KeyState) -> bool| keys.iter().filter(|key| is(&key.state)).count() as u64;
    let active = count(|state| matches!(state, KeyState::Ready { .. }));
    let cooldown = count(|state| matches!(state, KeyState::Cooldown { .. }));
    let exhausted = count(|state| matches!(state, KeyState::Exhausted { .. }));
    let disabled = count(|state| matches!(state, KeyState::Disabled));
    let tone = |number: u64, tone: &'static str| if number > 0 { tone } else { "" };
    let below = if disabled > 0 { format!("{disabled} disabled") } else { String::new() };
    html! {
        (tile("Active keys", &format!("{active} / {}", keys.len()), &below, if active > 0 { "good" } else { "bad" }))
        (tile("Cooldown", &format::count(cooldown), "", tone(cooldown, "warn")))
        (tile("Exhausted", &format::count(exhausted), "", tone(exhausted, "bad")))
    }
}

fn begin(shared: &Shared, visit: &Visit, access: &Access) -> Markup {
    let whose = if *access == Access::System { "The gateway has" } else { "This organisation has" };
    html! {
        section.panel {
            (empty("No request yet in this time", &format!("{whose} served nothing since. Send one, and it is here within a second:"), first_requests(shared, visit, "first", With::default())))
        }
    }
}

fn charts(rows: &[UsageRow], from: u64, span: u64, now: u64) -> Markup {
    let spans = usize::try_from((now.saturating_sub(from)) / span + 1).unwrap_or(1).min(1000);
    let mut totals: Vec<Option<&Totals>> = vec![None; spans];
    for row in rows {
        let place = row.span_unix_ms.and_then(|at| usize::try_from(at.checked_sub(from)? / span).ok());
        if let Some(slot) = place.and_then(|place| totals.get_mut(place)) {
            *slot = Some(&row.totals);
        }
    }
    let series = |name: &str, class: u8, value: fn(&Totals) -> f64| Series {
        name: name.to_owned(),
        class,
        values: totals.iter().map(|totals| totals.map(value)).collect(),
    };
    let chart = |title: &str, unit, marks, series| {
        Chart { title: title.to_owned(), unit, marks, from_unix_ms: from, span_ms: span, series }.panel()
    };
    html! {
        div.grid {
            (chart("Requests", Unit::Count, Marks::Bars, vec![
                series("answered", 1, |it| (it.requests - it.errors.min(it.requests)) as f64),
                series("failed", 2, |it| it.errors as f64),
            ]))
            (chart("Latency", Unit::Millis, Marks::Lines, vec![
                series("median", 1, |it| it.latency.p50_us as f64 / 1e3),
                series("p95", 3, |it| it.latency.p95_us as f64 / 1e3),
                series("p99", 2, |it| it.latency.p99_us as f64 / 1e3),
            ]))
            (chart("Cost", Unit::Dollars, Marks::Bars, vec![series("cost", 4, |it| it.cost.picos() as f64 / 1e12)]))
            (chart("Tokens", Unit::Count, Marks::Bars, vec![
                series("input", 1, |it| it.prompt_tokens.saturating_sub(it.cached_tokens) as f64),
                series("input, cached", 6, |it| it.cached_tokens as f64),
                series("output", 5, |it| it.completion_tokens as f64),
            ]))
        }
    }
}

fn operations(shared: &Shared) -> Markup {
    let lines = shared.deps.operations.recent();
    html! {
        section.panel {
            header { h2 { "Operations" } span.muted.small { "keys leased, rests, breakers, failovers, as they happen" } }
            @if lines.is_empty() { p.empty id="feed-empty" { "Nothing has happened since the gateway was started." } }
            ul.feed id="feed" data-source="/overview/feed" tabindex="0" aria-label="Operations feed" aria-live="off" {
                @for line in lines.iter().rev() {
                    @let (level, text) = told(line);
                    li { (format::clock(line.at_ms)) span class={ "text " (level) } { (text) } }
                }
            }
        }
    }
}
