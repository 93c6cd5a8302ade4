//! `orbyt requests`: what the ledger holds of finished requests, asked of the database itself, with the gateway running or not.

use super::args::{ListRequestsArgs, ShowRequestArgs};
use super::audit::{shown, shown_json};
use super::keys::date;
use crate::domain::{Ended, LedgerRow, RequestId};
use crate::store::ports::database::{Access, Database};
use crate::store::ports::ledger::{Filter, Ledger};
use std::fmt::Write;
use std::time::Duration;

/// How many requests are read at once.
const PAGE: u32 = 500;

/// The latest requests, one a line.
///
/// # Errors
/// A wrong argument, or the database's.
pub async fn list(ledger: &dyn Ledger, args: &ListRequestsArgs, now: u64) -> Result<String, String> {
    let filter = Filter {
        from_unix_ms: args.since.as_deref().map(|since| before(since, now)).transpose()?,
        until_unix_ms: None,
        project: args.project.clone(),
        key: args.key.clone(),
        user: args.user.clone(),
        model: args.model.clone(),
        provider: args.provider.clone(),
        trace_id: args.trace.clone(),
        session_id: args.session.clone(),
        ended: args.ended.as_deref().map(ended).transpose()?,
        ..Filter::default()
    };
    let (mut text, mut left, mut behind) = (String::new(), args.limit, None);
    while left > 0 {
        let page = ledger.list(&Access::System, &filter, behind, left.min(PAGE)).await;
        let page = page.map_err(|error| error.to_string())?;
        left = left.saturating_sub(u32::try_from(page.rows.len()).unwrap_or(u32::MAX));
        for row in &page.rows {
            let line =
                if args.json { shown_json(&serde_json::to_string(row).unwrap_or_default()) } else { shown(&line(row)) };
            // A string takes any amount of text.
            let _ = writeln!(text, "{line}");
        }
        behind = page.next;
        if behind.is_none() {
            break;
        }
    }
    Ok(text)
}

/// A request with all that is known of it, as JSON.
///
/// # Errors
/// What is no id, a request that is not in the ledger, or the database's error.
pub async fn show(database: &dyn Database, args: &ShowRequestArgs) -> Result<String, String> {
    let id = RequestId::parse(&args.id).ok_or("an id is req_ and 24 hexadecimal digits: it comes as x-request-id")?;
    if args.payloads {
        return payloads(database, id).await;
    }
    let found = database.find(&Access::System, id).await.map_err(|error| error.to_string())?;
    let row = found.ok_or_else(|| {
        format!("the ledger has no request {id}: it may be too old, or not yet written (a moment, or until the database is back)")
    })?;
    serde_json::to_string_pretty(&row).map(|json| shown_json(&json) + "\n").map_err(|error| error.to_string())
}

async fn payloads(database: &dyn Database, id: RequestId) -> Result<String, String> {
    let found = database.payloads(&Access::System, id).await.map_err(|error| error.to_string())?;
    let payloads = found.ok_or_else(|| {
        format!("nothing that {id} carried is in the database: telemetry.payloads says what is kept, and telemetry.payloads_retention for how long")
    })?;
    serde_json::to_string_pretty(&payloads).map(|json| shown_json(&json) + "\n").map_err(|error| error.to_string())
}

fn before(text: &str, now: u64) -> Result<u64, String> {
    let wrong = || format!("--since {text:?} is no duration such as 30m, 12h or 7d");
    let duration: Duration = crate::config::values::duration(text).ok_or_else(wrong)?;
    Ok(now.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
}

fn ended(text: &str) -> Result<Ended, String> {
    serde_json::from_value(text.into())
        .map_err(|_| format!("--ended {text:?} is not complete, error, broken, client_gone or shutdown"))
}

fn line(row: &LedgerRow<'_>) -> String {
    let usage = row.usage.unwrap_or_default();
    let served = match (&row.provider, &row.model) {
        (Some(provider), Some(model)) => format!("{provider}/{model}"),
        _ => row.requested_model.as_deref().unwrap_or("-").to_owned(),
    };
    let cost = row.cost().map_or_else(|| "-".to_owned(), |cost| format!("${cost}"));
    format!(
        "{}  {}  {}  {} {}  {served}  {} in, {} out  {cost}  {:.1} ms",
        date(row.arrived_unix_ms),
        row.id,
        row.key_name,
        row.status,
        row.ended.name(),
        usage.prompt_tokens,
        usage.completion_tokens,
        row.latency_us as f64 / 1e3,
    )
}
