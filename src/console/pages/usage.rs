//! The usage explorer: what was used, told apart by whatever is asked for. Everything that is chosen stands in the address.

use super::ask::segment;
use super::chart::{Chart, Marks, Series, Unit};
use super::format;
use super::layout::{self, empty, heading, scrolling};
use super::overview::RANGES;
use super::requests::{database, filters};
use super::snippets::{With, first_requests};
use super::visit::{Failure, Visit};
use crate::console::now_ms;
use crate::console::problem::Problem;
use crate::console::query::{Asked, given};
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::store::ports::reports::{Dimension, UsageQuery, UsageRow};
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

/// So many rows are shown.
const MOST: u32 = 500;
/// So many of them have a colour of their own in the chart.
const MOST_SERIES: usize = 5;
/// So many spans a chart has at most.
const MOST_SPANS: usize = 1000;
/// So many rows are read for them: in each span those that have a colour in one of the two charts, and the others together.
const MOST_OVER_TIME: u32 = (MOST_SPANS * (2 * MOST_SERIES + 1)) as u32;
/// So many rows a file has at most.
const MOST_IN_FILE: u32 = 50_000;

fn dimension(asked: &Asked) -> Dimension {
    given(&asked.by).and_then(Dimension::from_name).unwrap_or(Dimension::Model)
}

/// The page.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let access = visit.access(Operation::SeeUsage)?;
    let (now, by) = (now_ms(), dimension(&asked));
    let filter = asked.filter(now, Some("24h"))?;
    let database = database(&shared)?;
    let query = UsageQuery { filter: filter.clone(), by: Some(by), most: MOST, ..UsageQuery::default() };
    let rows = database.usage(&access, &query).await?;
    let names = names(&shared, &access, by).await;
    let from = filter.from_unix_ms.unwrap_or_else(|| now.saturating_sub(30 * 86_400_000));
    let span = span(now.saturating_sub(from));
    let from = from - from % span;
    let filter = crate::store::ports::ledger::Filter { from_unix_ms: Some(from), ..filter };
    let only = Some(told_apart(&rows));
    let over_time = UsageQuery { filter, span_ms: Some(span), by: Some(by), only, most: MOST_OVER_TIME };
    let over_time = database.usage(&access, &over_time).await?;
    let until = asked.filter(now, None)?.until_unix_ms.unwrap_or(now);
    let more = html! {
        div.field {
            label for="f-by" { "By" }
            select id="f-by" name="by" {
                @for dimension in Dimension::ALL { option value=(dimension.name()) selected[dimension == by] { (dimension.name()) } }
            }
        }
    };
    let csv = html! { a.button href=(asked.address("/usage.csv", &[])) { "CSV" } };
    let body = html! {
        (heading("Usage", "Requests, tokens and cost, by whatever you choose.", csv))
        (filters("/usage", &asked, more))
        @if rows.is_empty() {
            section.panel { (empty("Nothing was used", "No request in this time is like that.", first_requests(&shared, &visit, "first", With::default()))) }
        } @else {
            div.grid {
                (chart("Cost", Unit::Dollars, &rows, &over_time, &names, (from, span, until), dollars))
                (chart("Requests", Unit::Count, &rows, &over_time, &names, (from, span, until), requests))
            }
            section.panel { (scrolling("Usage", table(&rows, by, &asked, &names))) }
        }
    };
    Ok(layout::page(&shared, &visit, "Usage", body).await)
}

/// A length of spans of which some thirty to sixty make the whole.
fn span(length: u64) -> u64 {
    let wanted = length.max(1) / 60_000;
    let range = RANGES.iter().find(|(_, _, minutes, _)| wanted <= *minutes);
    range.map_or(24 * 60, |(_, _, _, span)| *span) * 60_000
}

/// Names for people, where ids stand for them.
async fn names(
    shared: &Shared,
    access: &crate::store::ports::database::Access,
    by: Dimension,
) -> HashMap<String, String> {
    let Some(database) = &shared.deps.database else { return HashMap::new() };
    // Without names the ids have to do.
    match by {
        Dimension::Project => {
            let projects = database.projects(access).await.unwrap_or_default();
            projects.into_iter().map(|it| (it.id.to_string(), it.name)).collect()
        }
        Dimension::Org => {
            let orgs = database.orgs(access).await.unwrap_or_default();
            orgs.into_iter().map(|it| (it.id.to_string(), it.name)).collect()
        }
        _ => HashMap::new(),
    }
}

fn name(row: &UsageRow, names: &HashMap<String, String>) -> String {
    let id = row.id.as_deref().unwrap_or_default();
    match (row.name.as_deref().or(names.get(id).map(String::as_str)), id) {
        (Some(name), _) => name.to_owned(),
        (None, "") => "(none)".to_owned(),
        (None, id) => id.to_owned(),
    }
}

fn dollars(row: &UsageRow) -> f64 {
    row.totals.cost.picos() as f64 / 1e12
}

fn requests(row: &UsageRow) -> f64 {
    row.totals.requests as f64
}

/// The rows that have a colour of their own.
fn largest(rows: &[UsageRow], value: fn(&UsageRow) -> f64) -> Vec<&UsageRow> {
    let mut largest: Vec<&UsageRow> = rows.iter().filter(|row| value(row) > 0.0).collect();
    largest.sort_by(|a, b| value(b).total_cmp(&value(a)));
    largest.truncate(MOST_SERIES);
    largest
}

/// The ids that have a colour of their own in any of the charts: of others, however many, only sums are shown.
fn told_apart(rows: &[UsageRow]) -> Vec<String> {
    let all = [dollars, requests].into_iter().flat_map(|value| largest(rows, value));
    all.filter_map(|row| row.id.clone()).collect()
}

fn chart(
    title: &str,
    unit: Unit,
    rows: &[UsageRow],
    over_time: &[UsageRow],
    names: &HashMap<String, String>,
    (from, span, until): (u64, u64, u64),
    value: fn(&UsageRow) -> f64,
) -> Markup {
    let spans = usize::try_from(until.saturating_sub(from) / span + 1).unwrap_or(1).min(MOST_SPANS);
    let largest = largest(rows, value);
    let shown: Vec<Option<&str>> = largest.iter().map(|row| row.id.as_deref()).collect();
    let mut series: Vec<Series> = (1..=6u8)
        .zip(&largest)
        .map(|(class, row)| Series { name: name(row, names), class, values: vec![None; spans] })
        .collect();
    series.push(Series { name: "others".to_owned(), class: 6, values: vec![None; spans] });
    for row in over_time {
        let at = row.span_unix_ms.and_then(|at| usize::try_from(at.checked_sub(from)? / span).ok());
        let place = shown.iter().position(|id| *id == row.id.as_deref()).unwrap_or(series.len() - 1);
        if let Some(slot) = at.and_then(|at| series.get_mut(place)?.values.get_mut(at)) {
            *slot = Some(slot.unwrap_or(0.0) + value(row));
        }
    }
    series.retain(|series| series.values.iter().any(Option::is_some));
    Chart { title: title.to_owned(), unit, marks: Marks::Bars, from_unix_ms: from, span_ms: span, series }.panel()
}

fn table(rows: &[UsageRow], by: Dimension, asked: &Asked, names: &HashMap<String, String>) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th scope="col" { (by.name()) } th.num scope="col" { "Requests" } th.num scope="col" { "Errors" } th.num scope="col" { "Input" }
                    th.num scope="col" { "Cached" } th.num scope="col" { "Output" } th.num scope="col" { "Reasoning" } th.num scope="col" { "Cache hits" }
                    th.num scope="col" { "Median" } th.num scope="col" { "p95" } th.num scope="col" { "p99" } th.num scope="col" { "Cost" }
                }
            }
            tbody {
                @for row in rows {
                    @let totals = &row.totals;
                    tr {
                        th scope="row" {
                            @match (by, row.id.as_deref()) {
                                (_, None | Some("")) => { (name(row, names)) }
                                // Which knows those that only have a trace.
                                (Dimension::Session, Some(id)) => { a href=(asked.address(&format!("/sessions/{}", segment(id)), &[("by", "")])) { (name(row, names)) } }
                                (_, Some(id)) => { a href=(asked.address("/requests", &[(by.name(), id), ("by", "")])) { (name(row, names)) } }
                            }
                        }
                        td.num { (format::count(totals.requests)) }
                        td.num { (format::count(totals.errors)) " " small.muted { (format::share(totals.errors, totals.requests)) } }
                        td.num { (format::count(totals.prompt_tokens)) }
                        td.num { (format::count(totals.cached_tokens)) }
                        td.num { (format::count(totals.completion_tokens)) }
                        td.num { (format::count(totals.reasoning_tokens)) }
                        td.num { (format::share(totals.cache_hits, totals.requests)) }
                        td.num { (format::micros(totals.latency.p50_us)) }
                        td.num { (format::micros(totals.latency.p95_us)) }
                        td.num { (format::micros(totals.latency.p99_us)) }
                        td.num title={ "$" (totals.cost.to_dollars()) } { (format::money(totals.cost)) @if totals.unpriced > 0 { " " small.muted { "+ " (totals.unpriced) " unpriced" } } }
                    }
                }
            }
        }
    }
}

/// The same as a file.
pub(super) async fn csv(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let access = visit.access(Operation::SeeUsage)?;
    let by = dimension(&asked);
    let filter = asked.filter(now_ms(), Some("24h"))?;
    let query = UsageQuery { filter, by: Some(by), most: MOST_IN_FILE + 1, ..UsageQuery::default() };
    let rows = database(&shared)?.usage(&access, &query).await?;
    if rows.len() > MOST_IN_FILE as usize {
        return Err(Problem::invalid("range", "These are more than 50,000 rows: choose a shorter time.").into());
    }
    let names = names(&shared, &access, by).await;
    let mut text = format!(
        "{},name,requests,errors,cache_hits,prompt_tokens,cached_tokens,cache_write_tokens,completion_tokens,reasoning_tokens,cost_usd,unpriced,p50_ms,p95_ms,p99_ms\r\n",
        by.name()
    );
    for row in &rows {
        let it = &row.totals;
        let millis = |micros: u64| micros as f64 / 1e3;
        let (id, name) = (cell(row.id.as_deref().unwrap_or_default()), cell(&name(row, &names)));
        // A string takes any amount of text.
        let _ = write!(
            text,
            "{id},{name},{},{},{},{},{},{},{},{},{},{},{},{},{}\r\n",
            it.requests,
            it.errors,
            it.cache_hits,
            it.prompt_tokens,
            it.cached_tokens,
            it.cache_write_tokens,
            it.completion_tokens,
            it.reasoning_tokens,
            it.cost.to_dollars(),
            it.unpriced,
            millis(it.latency.p50_us),
            millis(it.latency.p95_us),
            millis(it.latency.p99_us),
        );
    }
    let head = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"orbyt-usage-by-{}.csv\"", by.name())),
    ];
    Ok((head, text).into_response())
}

/// A cell of a CSV file (RFC 4180). What a table program would take for a formula gets a quote before it.
fn cell(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_cell_and_no_formula() {
        let cells = ["a,b", "a\"b\nc", "=HYPERLINK(\"x\")", "-1", ""].map(cell);
        assert_eq!(cells, ["\"a,b\"", "\"a\"\"b\nc\"", "\"'=HYPERLINK(\"\"x\"\")\"", "\"'-1\"", "\"\""]);
    }

    #[test]
    fn spans_fit_the_time() {
        assert_eq!([span(3_600_000), span(86_400_000), span(90 * 86_400_000)], [120_000, 1_800_000, 86_400_000]);
    }
}
