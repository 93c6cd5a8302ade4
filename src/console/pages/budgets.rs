//! Budgets and credits: what may be spent, what was, and what was paid in advance.

use super::ask::{ask, list, segment, text};
use super::form::{Field, Fields, Form, Kind, Outcome, removal, typed};
use super::layout::{self, csrf, empty, heading, scrolling};
use super::visit::{Failure, Visit};
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::domain::budget::{Payer, Span};
use axum::Form as Body;
use axum::extract::{Path, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn page(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    render(&shared, &visit, Outcome::None).await
}

async fn render(shared: &Arc<Shared>, visit: &Visit, outcome: Outcome) -> Result<Response, Failure> {
    let budgets = list(shared, visit, "/api/v1/budgets").await?;
    let credits = ask(shared, visit, Method::GET, &visit.link("/api/v1/credits"), None).await.unwrap_or_default();
    let paid = credits["data"]["organisations"].as_array().cloned().unwrap_or_default();
    let is_undecided = visit.is_undecided(shared).await;
    let may_set = visit.home(Operation::ManageBudgets).is_ok() && !is_undecided;
    let first = Fields::from([("span".to_owned(), "month".to_owned())]);
    let body = html! {
        (heading("Budgets", "What may be spent in a span of time. Who reaches it is refused with a 402 until the next.", html! {}))
        (outcome.banner())
        @if may_set { (budget_form(visit, outcome.form("b", &first))) }
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
                footer { (credit_form(visit, outcome.form("c", &Fields::new()))) }
            }
        }
    };
    Ok((outcome.status(), layout::page(shared, visit, "Budgets", body).await).into_response())
}

fn budget_form(visit: &Visit, form: Form<'_>) -> Markup {
    let named = |names: &[&'static str]| names.iter().map(|name| (*name, *name)).collect::<Vec<_>>();
    html! {
        details.panel open[form.is_refused()] {
            summary.pad { strong { "Set a budget" } }
            div.body {
                form.form method="post" action=(visit.link("/budgets")) {
                    (csrf(visit))
                    (form.choice(Field { name: "payer", label: "For", ..Field::default() }, &named(&Payer::ALL.map(Payer::name))))
                    (form.field(Field { name: "subject", label: "Whom", placeholder: "id or name; * is each user", ..Field::default() }, &[]))
                    (form.choice(Field { name: "span", label: "Each", ..Field::default() }, &named(&Span::OF_BUDGETS.map(Span::name))))
                    (form.field(Field { name: "amount_usd", label: "Dollars", placeholder: "50", is_required: true, kind: Kind::Number, ..Field::default() }, &[]))
                    div { button.primary type="submit" { "Set budget" } }
                }
            }
        }
    }
}

fn credit_form(visit: &Visit, form: Form<'_>) -> Markup {
    html! {
        form.form method="post" action=(visit.link("/credits")) {
            (csrf(visit))
            (form.field(Field { name: "amount_usd", label: "Dollars", placeholder: "100", is_required: true, kind: Kind::Number, ..Field::default() }, &[]))
            (form.field(Field { name: "note", label: "For", placeholder: "invoice 17", ..Field::default() }, &[]))
            div { button type="submit" { "Add credit" } }
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
    let action = format!("/budgets/{}/remove", segment(text(budget, "id")));
    let what = format!("the budget of {}", text(budget, "subject"));
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
            td { @if may_set { (removal(visit, &action, &what, &[])) } }
        }
    }
}

pub(super) async fn set(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Body(fields): Body<Fields>,
) -> Result<Response, Failure> {
    let org = visit.chosen(&shared, Operation::ManageBudgets).await?;
    let said = |name| typed(&fields, name);
    let mut body =
        json!({"org": &*org, "payer": said("payer"), "span": said("span"), "amount_usd": said("amount_usd")});
    if !said("subject").is_empty() {
        body["subject"] = said("subject").into();
    }
    let done = ask(&shared, &visit, Method::POST, "/api/v1/budgets", Some(&body)).await;
    render(&shared, &visit, Outcome::of("b", fields, done.map(|_| "The budget holds."))).await
}

pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let done = ask(&shared, &visit, Method::DELETE, &format!("/api/v1/budgets/{}", segment(&id)), None).await;
    render(&shared, &visit, Outcome::of_button(done.map(|_| "The budget is removed."))).await
}

pub(super) async fn credit(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Body(fields): Body<Fields>,
) -> Result<Response, Failure> {
    let org = visit.chosen(&shared, Operation::ManageCredits).await?;
    let body = json!({"org": &*org, "amount_usd": typed(&fields, "amount_usd"), "note": typed(&fields, "note")});
    let done = ask(&shared, &visit, Method::POST, "/api/v1/credits", Some(&body)).await;
    render(&shared, &visit, Outcome::of("c", fields, done.map(|_| "The credit is written down."))).await
}
