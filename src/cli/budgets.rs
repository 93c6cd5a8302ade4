//! `orbyt budgets`, `orbyt credits`: what may be spent, with the gateway running or not.

use super::args::{AddCreditArgs, RemoveBudgetArgs, SetBudgetArgs, ShowCreditsArgs};
use super::audit::{by_hand, noted};
use super::keys::project_named;
use super::tenants::org_named;
use crate::domain::Money;
use crate::domain::audit::AuditEvent;
use crate::domain::budget::{Account, Budget, Credit, Payer, Span, day_of};
use crate::domain::tenancy::DEFAULT_ORG;
use crate::store::ports::database::{Access, Database};
use crate::telemetry::redact::looks_secret;
use crate::wiring::state::new_id;
use serde_json::json;
use std::fmt::Write;
use std::sync::Arc;

const ALL: Access = Access::System;

/// `5/day`, `$0.50/month`, `100`: an amount in dollars and the span that it is for, everything where none is named.
///
/// # Errors
/// What is wrong with it.
pub(super) fn amount_and_span(text: &str) -> Result<(Money, Span), String> {
    let (amount, span) = text.split_once('/').map_or((text, "total"), |(amount, span)| (amount, span));
    let span = Span::from_name(span.trim())
        .ok_or_else(|| format!("{text}: a budget is for a day, week, month or total, as in 50/month"))?;
    let money = dollars(amount).filter(|money| *money >= Money::ZERO);
    Ok((money.ok_or_else(|| format!("{text}: begins with an amount in dollars, as in 50/month"))?, span))
}

fn dollars(text: &str) -> Option<Money> {
    let text = text.trim();
    Money::from_dollars(text.strip_prefix('$').unwrap_or(text))
}

/// Sets a budget. Returns what is to be said.
///
/// # Errors
/// A text for the operator that names the argument.
pub async fn set(database: &dyn Database, args: &SetBudgetArgs, now: u64) -> Result<String, String> {
    let (amount, span) = amount_and_span(&args.amount)?;
    let (org, payer, subject): (Arc<str>, _, Arc<str>) = match (&args.project, &args.key, &args.user) {
        (Some(project), ..) => {
            let project = project_named(database, project).await?;
            (project.org, Payer::Project, project.id)
        }
        (_, Some(key), _) => {
            let (org, key) = key_named(database, key).await?;
            (org, Payer::Key, key)
        }
        (_, _, Some(user)) if user.is_empty() => return Err("--user: must not be empty".to_owned()),
        (_, _, Some(user)) if looks_secret(user) => {
            return Err("--user: this looks like a secret, which is kept nowhere; the budget of each user ('*') holds for such users".to_owned());
        }
        (_, _, Some(user)) => (org_named(database, args.org.as_deref()).await?.id, Payer::User, user.as_str().into()),
        _ => {
            let org = org_named(database, args.org.as_deref()).await?.id;
            (org.clone(), Payer::Org, org)
        }
    };
    let budget = Budget { id: new_id("bud").into(), org, payer, subject, span, amount };
    put(database, &budget, now).await?;
    Ok(format!("The {} {} may spend {}.", payer.name(), budget.subject, shown(&budget)))
}

/// Sets a budget, with an entry in the audit log.
///
/// # Errors
/// The database's.
pub(super) async fn put(database: &dyn Database, budget: &Budget, now: u64) -> Result<(), String> {
    let setting = database.set_budget(&ALL, budget, now);
    noted(database, about("budget.set", budget), setting).await.map_err(|error| error.to_string())
}

fn about(action: &str, budget: &Budget) -> AuditEvent {
    let Budget { payer, subject, span, amount, .. } = budget;
    let details = json!({"payer": payer.name(), "span": span.name(), "amount_usd": amount.to_dollars()});
    by_hand(action, subject, Some(&budget.org), &details)
}

fn shown(budget: &Budget) -> String {
    match budget.span {
        Span::Total | Span::Prepaid => format!("${} in all", budget.amount),
        span => format!("${} a {}", budget.amount, span.name()),
    }
}

/// The organisation and the id of a key in force; what is not in the database is taken for the name of a key of the configuration.
async fn key_named(database: &dyn Database, wanted: &str) -> Result<(Arc<str>, Arc<str>), String> {
    let keys = database.keys(&ALL).await.map_err(|error| error.to_string())?;
    if let Some(key) = keys.iter().find(|key| *key.id == *wanted) {
        return Ok((key.org.clone(), key.id.clone()));
    }
    let mut named = keys.iter().filter(|key| *key.name == *wanted && key.revoked_at.is_none());
    match (named.next(), named.next()) {
        (Some(key), None) => Ok((key.org.clone(), key.id.clone())),
        (Some(_), Some(_)) => Err(format!("--key {wanted}: several keys are called so: name it by its id")),
        _ => Ok((DEFAULT_ORG.into(), wanted.into())),
    }
}

/// All budgets as a table.
///
/// # Errors
/// The database's.
pub async fn list(database: &dyn Database, now: u64) -> Result<String, String> {
    let told = |error: crate::store::ports::database::StoreError| error.to_string();
    let keys = database.keys(&ALL).await.map_err(told)?;
    let mut text = format!("{:<28} {:<8} {:<36} {:<20} SPENT\n", "ID", "FOR", "WHOM", "BUDGET");
    for budget in database.budgets(&ALL).await.map_err(told)? {
        let name = keys.iter().find(|key| key.id == budget.subject).map(|key| format!(" ({})", key.name));
        let whom = format!("{}{}", budget.subject, name.unwrap_or_default());
        let spent = match &*budget.subject {
            "*" => "by each".to_owned(),
            _ => format!("${}", spent(database, &budget, now).await?),
        };
        let (id, payer, shown) = (&budget.id, budget.payer.name(), shown(&budget));
        // A string takes any amount of text, here and below.
        let _ = writeln!(text, "{id:<28} {payer:<8} {whom:<36} {shown:<20} {spent}");
    }
    Ok(text)
}

async fn spent(database: &dyn Database, budget: &Budget, now: u64) -> Result<Money, String> {
    let account = Account::of(budget, day_of(now));
    database.spent_of(&account).await.map_err(|error| error.to_string())
}

/// Takes a budget away. Returns what is to be said.
///
/// # Errors
/// When there is none of that id.
pub async fn remove(database: &dyn Database, args: &RemoveBudgetArgs) -> Result<String, String> {
    let budgets = database.budgets(&ALL).await.map_err(|error| error.to_string())?;
    let budget = budgets.iter().find(|budget| *budget.id == *args.id);
    let budget = budget.ok_or_else(|| format!("there is no budget {:?}: see `orbyt budgets list`", args.id))?;
    let removing = database.remove_budget(&ALL, &budget.id);
    noted(database, about("budget.remove", budget), removing).await.map_err(|error| error.to_string())?;
    Ok(format!("The {} {} is not bound to {} any more.", budget.payer.name(), budget.subject, shown(budget)))
}

/// Adds a credit. Returns what is to be said.
///
/// # Errors
/// A text for the operator that names the argument.
pub async fn add_credit(database: &dyn Database, args: &AddCreditArgs, now: u64) -> Result<String, String> {
    let told = |error: crate::store::ports::database::StoreError| error.to_string();
    let amount = dollars(&args.amount).filter(|amount| *amount != Money::ZERO);
    let amount = amount.ok_or_else(|| format!("{}: is no amount in dollars", args.amount))?;
    let org = org_named(database, args.org.as_deref()).await?;
    let earlier = database.credits(&ALL).await.map_err(told)?.into_iter().find(|credit| credit.org == org.id);
    let spent_before = match earlier {
        Some(first) => first.spent_before,
        None => database.spent_of(&prepaid(&org.id)).await.map_err(told)?,
    };
    let (id, note) = (new_id("crd").into(), args.note.clone());
    let credit = Credit { id, org: org.id.clone(), amount, spent_before, note, created_at: now };
    let details = json!({"amount_usd": amount.to_dollars(), "note": &credit.note});
    let event = by_hand("credit.add", &credit.id, Some(&org.id), &details);
    noted(database, event, database.add_credit(&credit)).await.map_err(told)?;
    Ok(format!("{} has ${amount} more to spend.", org.name))
}

fn prepaid(org: &Arc<str>) -> Account {
    Account { payer: Payer::Org, subject: org.clone(), span: Span::Prepaid, from_day: 0 }
}

/// What organisations have paid, spent, and have left.
///
/// # Errors
/// The database's, or when there is no such organisation.
pub async fn show_credits(database: &dyn Database, args: &ShowCreditsArgs) -> Result<String, String> {
    let told = |error: crate::store::ports::database::StoreError| error.to_string();
    let orgs = match &args.org {
        Some(org) => vec![org_named(database, Some(org)).await?],
        None => database.orgs(&ALL).await.map_err(told)?,
    };
    let credits = database.credits(&ALL).await.map_err(told)?;
    let mut text = format!("{:<24} {:>16} {:>16} {:>16}\n", "ORGANISATION", "PAID", "SPENT", "LEFT");
    for org in orgs {
        let own: Vec<&Credit> = credits.iter().filter(|credit| credit.org == org.id).collect();
        let Some(first) = own.first() else { continue };
        let paid: Money = own.iter().map(|credit| credit.amount).sum();
        let spent = database.spent_of(&prepaid(&org.id)).await.map_err(told)? - first.spent_before;
        let [paid, spent, left] = [paid, spent, paid - spent].map(|amount| format!("${amount}"));
        let _ = writeln!(text, "{:<24} {paid:>16} {spent:>16} {left:>16}", org.name);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_an_amount_and_a_span() {
        let read = |text| amount_and_span(text).map(|(amount, span)| (amount.to_dollars(), span));
        assert_eq!(read("50/month"), Ok(("50".to_owned(), Span::Month)));
        assert_eq!(read("$0.25/day"), Ok(("0.25".to_owned(), Span::Day)));
        assert_eq!(read("100"), Ok(("100".to_owned(), Span::Total)));
        assert_eq!(read("0/week"), Ok(("0".to_owned(), Span::Week)));
        for bad in ["", "x/day", "5/year", "-1/day", "5/"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
