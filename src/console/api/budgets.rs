//! `/api/v1/budgets` and `/api/v1/credits`: what may be spent, what was paid and what is left. Amounts are dollars, as texts: most readers'
//! numbers would round them.

use super::http::*;
use super::orgs::find;
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::console::viewer::Viewer;
use crate::console::{new_id, now_ms};
use crate::domain::Money;
use crate::domain::budget::{self, Account, Payer, Span, day_of};
use crate::store::ports::audit::noted;
use crate::store::ports::database::{Access, Database};
use crate::telemetry::redact::looks_secret;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use utoipa::ToSchema;

/// Whose spending a budget bounds.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum PayerName {
    /// The organisation.
    Org,
    /// A project, by id.
    Project,
    /// A key, by id; one of the configuration by its name.
    Key,
    /// An end user; `*` for each of them.
    User,
}

/// For how long an amount is meant.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SpanName {
    /// A day in UTC.
    Day,
    /// A week, from Monday.
    Week,
    /// A month of the calendar.
    Month,
    /// For ever.
    Total,
}

/// A budget.
#[derive(Serialize, ToSchema)]
pub(super) struct Budget {
    /// Its id.
    id: String,
    /// The organisation that it is within.
    org: String,
    /// `org`, `project`, `key` or `user`.
    payer: &'static str,
    /// Whom it is for.
    subject: String,
    /// `day`, `week`, `month` or `total`.
    span: &'static str,
    /// How much, in dollars.
    amount_usd: String,
    /// What was spent of it in the span that is now, as far as the ledger has it; null for a budget of each user.
    spent_usd: Option<String>,
}

/// A budget to be set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBudget {
    /// The organisation, by id.
    org: String,
    /// Whose spending it bounds.
    payer: PayerName,
    /// Whom it is for; not for an organisation.
    subject: Option<String>,
    /// For how long.
    span: SpanName,
    /// How much, in dollars, such as `"50"` or `"0.25"`.
    amount_usd: String,
}

/// What organisations have paid and spent, shaped like OpenRouter's.
#[derive(Serialize, ToSchema)]
pub(super) struct Credits {
    data: CreditTotals,
}

/// The sums, in dollars.
#[derive(Serialize, ToSchema)]
pub(super) struct CreditTotals {
    /// What was paid in advance.
    total_credits: f64,
    /// What was spent of it.
    total_usage: f64,
    /// Each organisation that has paid, exactly.
    organisations: Vec<OrgCredits>,
}

/// What an organisation has paid and spent.
#[derive(Serialize, ToSchema)]
pub(super) struct OrgCredits {
    /// The organisation.
    org: String,
    /// What it has paid.
    paid_usd: String,
    /// What it has spent of it.
    spent_usd: String,
    /// What is left.
    left_usd: String,
}

/// A payment, or with a negative amount the correction of a mistake.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCredit {
    /// The organisation, by id.
    org: String,
    /// How much, in dollars.
    amount_usd: String,
    /// What it is for, such as the number of an invoice.
    #[serde(default)]
    note: String,
}

/// A payment that was written down.
#[derive(Serialize, ToSchema)]
pub(super) struct Credit {
    /// Its id.
    id: String,
    /// The organisation.
    org: String,
    /// How much.
    amount_usd: String,
    /// What it is for.
    note: String,
    /// When.
    created_at: String,
}

impl Budget {
    async fn of(budget: &budget::Budget, database: &dyn Database) -> Result<Self, Problem> {
        let each = budget.payer == Payer::User && &*budget.subject == "*";
        let spent = if each { None } else { Some(database.spent_of(&Account::of(budget, day_of(now_ms()))).await?) };
        Ok(Self {
            id: budget.id.to_string(),
            org: budget.org.to_string(),
            payer: budget.payer.name(),
            subject: budget.subject.to_string(),
            span: budget.span.name(),
            amount_usd: budget.amount.to_dollars(),
            spent_usd: spent.map(Money::to_dollars),
        })
    }
}

/// List budgets, and what was spent of them.
#[utoipa::path(get, path = "/api/v1/budgets", tag = "money", params(ListParams), responses((status = 200, body = Page<Budget>)))]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Params(wanted): Params<ListParams>,
) -> Result<Json<Page<Budget>>, Problem> {
    let (database, mut budgets) = (database(&shared)?, Vec::new());
    for access in viewer.reach(Operation::SeeBudgets, wanted.org.as_deref())? {
        budgets.extend(database.budgets(&access).await?);
    }
    let page = Page::of(budgets, |budget| budget.id.to_string(), &wanted)?;
    let mut data = Vec::new();
    for budget in &page.data {
        data.push(Budget::of(budget, &**database).await?);
    }
    Ok(Json(Page { data, next_cursor: page.next_cursor }))
}

/// Set a budget, in the place of one for the same subject and span.
#[utoipa::path(post, path = "/api/v1/budgets", tag = "money", request_body = NewBudget, responses((status = 201, body = Budget)))]
pub(super) async fn set(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Body(wanted): Body<NewBudget>,
) -> Result<Response, Problem> {
    let org = find(&shared, &viewer, Operation::ManageBudgets, &wanted.org).await?;
    let database = database(&shared)?;
    let amount = dollars(&wanted.amount_usd).filter(|amount| *amount >= Money::ZERO);
    let amount = amount.ok_or_else(|| Problem::invalid("amount_usd", "amount_usd must be dollars, such as \"50\"."))?;
    let span = match wanted.span {
        SpanName::Day => Span::Day,
        SpanName::Week => Span::Week,
        SpanName::Month => Span::Month,
        SpanName::Total => Span::Total,
    };
    let (payer, subject) = subject(&shared, &viewer, &org.id, wanted.payer, wanted.subject).await?;
    let mut budget = budget::Budget { id: new_id("bud").into(), org: org.id.clone(), payer, subject, span, amount };
    let details = json!({"payer": payer.name(), "span": span.name(), "amount_usd": amount.to_dollars()});
    let event = viewer.event(now_ms(), "budget.set", &budget.subject, Some(&org.id), &details);
    noted(&**database, event, database.set_budget(&Access::System, &budget, now_ms())).await?;
    in_force(&shared).await;
    let same = |it: &budget::Budget| (it.payer, &it.subject, it.span) == (payer, &budget.subject, span);
    // One that was there before keeps its id.
    if let Some(kept) = database.budgets(&Access::Org(org.id)).await?.into_iter().find(same) {
        budget = kept;
    }
    Ok((StatusCode::CREATED, Json(Budget::of(&budget, &**database).await?)).into_response())
}

async fn subject(
    shared: &Shared,
    viewer: &Viewer,
    org: &Arc<str>,
    payer: PayerName,
    subject: Option<String>,
) -> Result<(Payer, Arc<str>), Problem> {
    let database = database(shared)?;
    let missing = || Problem::invalid("subject", "subject must say whom it is for.");
    let unknown = || Problem::invalid("subject", "There is nobody and nothing of that name in the organisation.");
    let access = Access::Org(org.clone());
    match (payer, subject.filter(|subject| !subject.is_empty())) {
        (PayerName::Org, None) => Ok((Payer::Org, org.clone())),
        (PayerName::Org, Some(id)) if *id == **org => Ok((Payer::Org, org.clone())),
        (PayerName::Org, Some(_)) => Err(Problem::invalid("subject", "The organisation is named by org.")),
        (_, None) => Err(missing()),
        (PayerName::User, Some(user)) => {
            let user = checked_text("subject", Some(user))?.ok_or_else(missing)?;
            // The ledger would know them by another name.
            if looks_secret(&user) {
                let message = "subject looks like a secret, which is kept nowhere; the budget of each user (*) holds for such users.";
                return Err(Problem::invalid("subject", message));
            }
            Ok((Payer::User, user.into()))
        }
        (PayerName::Project, Some(id)) => {
            let projects = database.projects(&access).await?;
            projects.iter().find(|it| *it.id == *id).map(|it| (Payer::Project, it.id.clone())).ok_or_else(unknown)
        }
        (PayerName::Key, Some(id)) => {
            let keys = database.keys(&access).await?;
            if let Some(key) = keys.iter().find(|it| *it.id == *id) {
                return Ok((Payer::Key, key.id.clone()));
            }
            // Keys of the configuration are the gateway's own.
            let of_file = (shared.deps.snapshot)().keys.id_of(&id).is_some();
            if of_file && viewer.is_administrator() { Ok((Payer::Key, id.into())) } else { Err(unknown()) }
        }
    }
}

/// Take a budget away.
#[utoipa::path(delete, path = "/api/v1/budgets/{id}", tag = "money", params(("id" = String, Path,)), responses((status = 204)))]
pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Segments(id): Segments<String>,
) -> Result<StatusCode, Problem> {
    let (database, mut found) = (database(&shared)?, None);
    for access in viewer.reach(Operation::SeeBudgets, None)? {
        found = found.or(database.budgets(&access).await?.into_iter().find(|budget| *budget.id == *id));
    }
    let budget = found.ok_or_else(|| Problem::not_found("budget"))?;
    viewer.may(Operation::ManageBudgets, Some(&budget.org))?;
    let details = json!({"payer": budget.payer.name(), "span": budget.span.name()});
    let event = viewer.event(now_ms(), "budget.remove", &budget.subject, Some(&budget.org), &details);
    noted(&**database, event, database.remove_budget(&Access::System, &budget.id)).await?;
    in_force(&shared).await;
    Ok(StatusCode::NO_CONTENT)
}

/// What was paid in advance, spent and is left.
#[utoipa::path(get, path = "/api/v1/credits", tag = "money", responses((status = 200, body = Credits)))]
pub(super) async fn credits(State(shared): State<Arc<Shared>>, viewer: Viewer) -> Result<Json<Credits>, Problem> {
    let (database, mut paid) = (database(&shared)?, Vec::new());
    for access in viewer.reach(Operation::SeeBudgets, None)? {
        paid.extend(database.credits(&access).await?);
    }
    let mut orgs: Vec<(Arc<str>, Money, Money)> = Vec::new();
    for credit in &paid {
        match orgs.iter_mut().find(|(org, ..)| *org == credit.org) {
            Some((_, sum, _)) => *sum += credit.amount,
            None => {
                let spent = database.spent_of(&prepaid(&credit.org)).await? - credit.spent_before;
                orgs.push((credit.org.clone(), credit.amount, spent));
            }
        }
    }
    let total = |each: fn(&(Arc<str>, Money, Money)) -> Money| -> f64 {
        orgs.iter().map(each).sum::<Money>().to_dollars().parse().unwrap_or_default()
    };
    let (total_credits, total_usage) = (total(|it| it.1), total(|it| it.2));
    let one = |(org, paid, spent): &(Arc<str>, Money, Money)| OrgCredits {
        org: org.to_string(),
        paid_usd: paid.to_dollars(),
        spent_usd: spent.to_dollars(),
        left_usd: (*paid - *spent).to_dollars(),
    };
    let organisations = orgs.iter().map(one).collect();
    Ok(Json(Credits { data: CreditTotals { total_credits, total_usage, organisations } }))
}

/// Write down that an organisation has paid in advance.
#[utoipa::path(post, path = "/api/v1/credits", tag = "money", request_body = NewCredit, responses((status = 201, body = Credit)))]
pub(super) async fn add_credit(
    State(shared): State<Arc<Shared>>,
    viewer: Viewer,
    Body(wanted): Body<NewCredit>,
) -> Result<Response, Problem> {
    viewer.may(Operation::ManageCredits, None)?;
    let org = find(&shared, &viewer, Operation::SeeBudgets, &wanted.org).await?;
    let (database, now) = (database(&shared)?, now_ms());
    let amount = dollars(&wanted.amount_usd).filter(|amount| *amount != Money::ZERO);
    let amount = amount.ok_or_else(|| Problem::invalid("amount_usd", "amount_usd must be dollars, such as \"50\"."))?;
    let earlier = database.credits(&Access::Org(org.id.clone())).await?.into_iter().next();
    let spent_before = match earlier {
        Some(first) => first.spent_before,
        None => database.spent_of(&prepaid(&org.id)).await?,
    };
    let note = checked_text("note", Some(wanted.note))?.unwrap_or_default();
    let credit = budget::Credit { id: new_id("crd").into(), org: org.id, amount, spent_before, note, created_at: now };
    let details = json!({"amount_usd": amount.to_dollars(), "note": &credit.note});
    let event = viewer.event(now, "credit.add", &credit.id, Some(&credit.org), &details);
    noted(&**database, event, database.add_credit(&credit)).await?;
    in_force(&shared).await;
    let answer = Credit {
        id: credit.id.to_string(),
        org: credit.org.to_string(),
        amount_usd: amount.to_dollars(),
        note: credit.note,
        created_at: time_text(now),
    };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

fn dollars(text: &str) -> Option<Money> {
    let text = text.trim();
    Money::from_dollars(text.strip_prefix('$').unwrap_or(text))
}

fn prepaid(org: &Arc<str>) -> Account {
    Account { payer: Payer::Org, subject: org.clone(), span: Span::Prepaid, from_day: 0 }
}
