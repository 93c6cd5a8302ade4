//! Budgets and credits: what may be spent, what was, and what was paid in advance.

use super::ask::{ask, list, segment, text};
use super::layout::{self, csrf, empty, heading, scrolling};
use super::visit::{Failure, Visit};
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use axum::Form;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// What the form of a budget says.
#[derive(Deserialize)]
pub(super) struct NewBudget {
    payer: String,
    #[serde(default)]
    subject: String,
    span: String,
    amount: String,
}

/// What the form of a payment says.
#[derive(Deserialize)]
pub(super) struct Payment {
    amount: String,
    #[serde(default)]
    note: String,
}

pub(super) async fn page(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    render(&shared, &visit, Ok(None)).await
}

async fn render(
    shared: &Arc<Shared>,
    visit: &Visit,
    outcome: Result<Option<&str>, Problem>,
) -> Result<Response, Failure> {
    let budgets = list(shared, visit, "/api/v1/budgets").await?;
    let credits = ask(shared, visit, Method::GET, &visit.link("/api/v1/credits"), None).await.unwrap_or_default();
    let paid = credits["data"]["organisations"].as_array().cloned().unwrap_or_default();
    let is_undecided = visit.is_undecided(shared).await;
    let may_set = visit.home(Operation::ManageBudgets).is_ok() && !is_undecided;
    let status = outcome.as_ref().err().map_or(StatusCode::OK, Problem::status);
    let body = html! {
        (heading("Budgets", "What may be spent in a span of time. Who reaches it is refused with a 402 until the next.", html! {}))
        @match &outcome {
            Err(problem) => { div.banner.bad role="alert" { p { (problem.detail()) } } }
            Ok(Some(news)) => { div.banner.good role="status" { p { (news) } } }
            Ok(None) => {}
        }
        @if may_set { (budget_form(visit)) }
        section.panel {
            header { h2 { "Budgets" } }
            @if budgets.is_empty() { (empty("No budget", "Nothing bounds what is spent. Set one above: of an organisation, a project, a key, or each user.", html! {})) }
            @else {
                (scrolling("Budgets", html! {
                    table {
                        thead { tr { th scope="col" { "For" } th scope="col" { "Whom" } th scope="col" { "Each" } th scope="col" { "Spent" } th.num scope="col" { "Of" } th scope="col" { span.visually-hidden { "Actions" } } } }
                        tbody { @for budget in &budgets { (line(visit, budget, may_set)) } }
                    }
                }))
            }
        }
        section.panel {
            header { h2 { "Credits" } span.muted.small { "paid in advance; an organisation that never paid is not bounded by them" } }
            @if paid.is_empty() { p.empty { "Nothing was paid in advance." } }
            @else {
                (scrolling("Credits", html! {
                    table {
                        thead { tr { th scope="col" { "Organisation" } th.num scope="col" { "Paid" } th.num scope="col" { "Spent" } th.num scope="col" { "Left" } } }
                        tbody { @for it in &paid { tr { th scope="row" { (text(it, "org")) } td.num { "$" (text(it, "paid_usd")) } td.num { "$" (text(it, "spent_usd")) } td.num { "$" (text(it, "left_usd")) } } } }
                    }
                }))
            }
            @if is_undecided { footer { span.muted { "Choose an organisation to set budgets and to add credits: they belong to one." } } }
            @if visit.viewer.is_administrator() && !is_undecided {
                footer {
                    form.filters method="post" action=(visit.link("/credits")) {
                        (csrf(visit))
                        div.field { label for="c-amount" { "Dollars" } input id="c-amount" name="amount" required inputmode="decimal" placeholder="100"; }
                        div.field.wide { label for="c-note" { "For" } input id="c-note" name="note" placeholder="invoice 17"; }
                        button type="submit" { "Add credit" }
                    }
                }
            }
        }
    };
    Ok((status, layout::page(shared, visit, "Budgets", body).await).into_response())
}

fn budget_form(visit: &Visit) -> Markup {
    html! {
        details.panel {
            summary.pad { strong { "Set a budget" } }
            div.body {
                form.form method="post" action=(visit.link("/budgets")) {
                    (csrf(visit))
                    div.field { label for="b-payer" { "For" } select id="b-payer" name="payer" { @for payer in ["org", "project", "key", "user"] { option value=(payer) { (payer) } } } }
                    div.field { label for="b-subject" { "Whom" } input id="b-subject" name="subject" placeholder="id or name; * is each user"; }
                    div.field { label for="b-span" { "Each" } select id="b-span" name="span" { @for span in ["day", "week", "month", "total"] { option value=(span) { (span) } } } }
                    div.field { label for="b-amount" { "Dollars" } input id="b-amount" name="amount" required inputmode="decimal" placeholder="50"; }
                    div { button.primary type="submit" { "Set budget" } }
                }
            }
        }
    }
}

fn line(visit: &Visit, budget: &Value, may_set: bool) -> Markup {
    let number = |name: &str| text(budget, name).parse::<f64>().ok();
    let share =
        number("spent_usd").zip(number("amount_usd").filter(|amount| *amount > 0.0)).map(|(spent, of)| spent / of);
    let tone = match share {
        Some(share) if share >= 1.0 => "bad",
        Some(share) if share >= 0.8 => "warn",
        _ => "",
    };
    let action = visit.link(&format!("/budgets/{}/remove", segment(text(budget, "id"))));
    html! {
        tr {
            th scope="row" { (text(budget, "payer")) }
            td { (text(budget, "subject")) }
            td { (text(budget, "span")) }
            td {
                @if let Some(share) = share {
                    svg class={ "meter " (tone) } aria-hidden="true" { rect width=(format!("{:.1}%", share.min(1.0) * 100.0)) height="100%" {} }
                    " $" (text(budget, "spent_usd"))
                } @else { span.muted { "each on their own" } }
            }
            td.num { "$" (text(budget, "amount_usd")) }
            td {
                @if may_set {
                    details.quiet { summary { "Remove" span.visually-hidden { " the budget of " (text(budget, "subject")) } } form method="post" action=(action) { (csrf(visit)) button.danger type="submit" { "Remove it" } } }
                }
            }
        }
    }
}

pub(super) async fn set(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(wanted): Form<NewBudget>,
) -> Result<Response, Failure> {
    let org = visit.chosen(&shared, Operation::ManageBudgets).await?;
    let mut body =
        json!({"org": &*org, "payer": wanted.payer, "span": wanted.span, "amount_usd": wanted.amount.trim()});
    if !wanted.subject.trim().is_empty() {
        body["subject"] = wanted.subject.trim().into();
    }
    let done = ask(&shared, &visit, Method::POST, "/api/v1/budgets", Some(&body)).await;
    render(&shared, &visit, done.map(|_| Some("The budget holds."))).await
}

pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let done = ask(&shared, &visit, Method::DELETE, &format!("/api/v1/budgets/{}", segment(&id)), None).await;
    render(&shared, &visit, done.map(|_| Some("The budget is removed."))).await
}

pub(super) async fn credit(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(paid): Form<Payment>,
) -> Result<Response, Failure> {
    let org = visit.chosen(&shared, Operation::ManageCredits).await?;
    let body = json!({"org": &*org, "amount_usd": paid.amount.trim(), "note": paid.note.trim()});
    let done = ask(&shared, &visit, Method::POST, "/api/v1/credits", Some(&body)).await;
    render(&shared, &visit, done.map(|_| Some("The credit is written down."))).await
}
