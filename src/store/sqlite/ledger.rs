//! The ledger.

use super::{SqliteDatabase, Trouble};
use crate::domain::{LedgerRow, Money, RequestId};
use crate::store::ledger_rows::{Accounts, Columns, Spending, containing, latest, row, stored_day};
use crate::store::ports::database::{Access, StoreError};
use crate::store::ports::ledger::{Cursor, Filter, Kept, Ledger, Page, Subject};
use crate::store::rows::stored_time;
use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Statement, Transaction, params, params_from_iter};
use std::sync::Arc;

/// So many rows are deleted at once; others may use the file in between.
const AT_ONCE: u64 = 2000;

const INSERT: &str = "INSERT INTO requests (id, revision, arrived_at, day, org_id, project_id, key_id, key_name, user_id, trace_id, \
     session_id, requested_model, provider, model, status, ended, latency_us, prompt_tokens, completion_tokens, cost, record, \
     cached_tokens, cache_write_tokens, reasoning_tokens, charge, ttft_us, cache) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27) \
     ON CONFLICT (id) DO NOTHING";

/// Puts a row in by way of [`INSERT`], unless it is there.
fn insert(put: &mut Statement<'_>, it: &Columns<'_>) -> Result<bool, Trouble> {
    let count = put.execute(params![
        it.id,
        it.revision,
        it.arrived_at,
        it.day,
        it.org,
        it.project,
        it.key_id,
        it.key_name,
        it.user,
        it.trace,
        it.session,
        it.requested_model,
        it.provider,
        it.model,
        it.status,
        it.ended,
        it.latency_us,
        it.prompt_tokens,
        it.completion_tokens,
        it.cost,
        it.record,
        it.reported.cached_tokens,
        it.reported.cache_write_tokens,
        it.reported.reasoning_tokens,
        it.charge,
        it.reported.ttft_us,
        it.reported.cache
    ])?;
    Ok(count == 1)
}

/// Puts a later revision in the place of an earlier one; returns what that had added, `None` when it is not earlier.
fn amend(transaction: &Transaction<'_>, it: &Columns<'_>) -> Result<Option<Spending>, Trouble> {
    // Of rows from before there was a charge, the cost was booked.
    let mut get = transaction.prepare_cached(
        "SELECT revision, prompt_tokens, completion_tokens, coalesce(charge, cost, 0) FROM requests WHERE id = ?1",
    )?;
    let (revision, earlier) = get.query_row([&it.id], |row| {
        let charge: i64 = row.get(3)?;
        let (prompt_tokens, completion_tokens) = (row.get(1)?, row.get(2)?);
        let earlier = Spending { requests: 1, prompt_tokens, completion_tokens, cost: charge.into() };
        Ok((row.get::<_, i16>(0)?, earlier))
    })?;
    if revision >= it.revision {
        return Ok(None);
    }
    transaction
        .prepare_cached(
            "UPDATE requests SET revision = ?2, provider = ?3, model = ?4, status = ?5, ended = ?6, latency_us = ?7, \
             prompt_tokens = ?8, completion_tokens = ?9, cost = ?10, record = ?11, cached_tokens = ?12, \
             cache_write_tokens = ?13, reasoning_tokens = ?14, charge = ?15, ttft_us = ?16, cache = ?17 WHERE id = ?1",
        )?
        .execute(params![
            it.id,
            it.revision,
            it.provider,
            it.model,
            it.status,
            it.ended,
            it.latency_us,
            it.prompt_tokens,
            it.completion_tokens,
            it.cost,
            it.record,
            it.reported.cached_tokens,
            it.reported.cache_write_tokens,
            it.reported.reasoning_tokens,
            it.charge,
            it.reported.ttft_us,
            it.reported.cache
        ])?;
    Ok(Some(earlier))
}

fn spend(transaction: &Transaction<'_>, accounts: &Accounts) -> Result<(), Trouble> {
    let mut add = transaction.prepare_cached(
        "INSERT INTO spend (org_id, project_id, key_id, user_id, day, requests, prompt_tokens, completion_tokens, cost) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
         ON CONFLICT (org_id, project_id, key_id, user_id, day) DO UPDATE SET \
         requests = requests + excluded.requests, prompt_tokens = prompt_tokens + excluded.prompt_tokens, \
         completion_tokens = completion_tokens + excluded.completion_tokens, \
         cost = CASE WHEN cost > 9223372036854775807 - excluded.cost THEN 9223372036854775807 ELSE cost + excluded.cost END",
    )?;
    for (account, added) in accounts {
        // Beyond nine million dollars a day it stays at that, rather than that nothing is written any more.
        let cost = i64::try_from(added.cost).unwrap_or(if added.cost < 0 { i64::MIN } else { i64::MAX });
        add.execute(params![
            account.org,
            account.project,
            account.key_id,
            account.user,
            account.day,
            added.requests,
            added.prompt_tokens,
            added.completion_tokens,
            cost
        ])?;
    }
    Ok(())
}

fn write(transaction: &Transaction<'_>, batch: &[LedgerRow<'static>]) -> Result<Kept, Trouble> {
    let (mut kept, mut accounts) = (Kept::default(), Accounts::new());
    let mut put = transaction.prepare_cached(INSERT)?;
    for row in latest(batch) {
        let columns = Columns::of(row);
        let added = if insert(&mut put, &columns)? {
            kept.inserted += 1;
            columns.spending()
        } else if let Some(earlier) = amend(transaction, &columns)? {
            kept.amended += 1;
            columns.spending().instead_of(earlier)
        } else {
            kept.known += 1;
            continue;
        };
        accounts.entry(columns.account()).or_default().add(added);
    }
    spend(transaction, &accounts)?;
    Ok(kept)
}

/// Where a text is looked for.
const FOUND_BY: &str = "id LIKE ? ESCAPE '\\' OR key_name LIKE ? ESCAPE '\\' OR user_id LIKE ? ESCAPE '\\' OR trace_id LIKE ? ESCAPE '\\' \
     OR session_id LIKE ? ESCAPE '\\' OR requested_model LIKE ? ESCAPE '\\' OR model LIKE ? ESCAPE '\\' OR provider LIKE ? ESCAPE '\\' \
     OR json_extract(record, '$.error_code') LIKE ? ESCAPE '\\'";

/// The condition of a filter, and its values.
pub(super) fn condition(access: &Access, filter: &Filter, behind: Option<Cursor>) -> (String, Vec<Value>) {
    let (mut parts, mut values) = (vec!["1 = 1".to_owned()], Vec::new());
    let mut also = |sql: &str, value: Option<Value>| {
        if let Some(value) = value {
            values.push(value);
            parts.push(sql.replace('?', &format!("?{}", values.len())));
        }
    };
    let named = |value: &Option<String>| value.clone().map(Value::Text);
    let time = |value: Option<u64>| value.map(|time| Value::Integer(stored_time(time)));
    also("org_id = ?", access.org().map(|org| Value::Text(org.to_owned())));
    also("arrived_at >= ?", time(filter.from_unix_ms));
    also("arrived_at < ?", time(filter.until_unix_ms));
    also("project_id = ?", named(&filter.project));
    also("(key_id = ? OR key_name = ?)", named(&filter.key));
    also("user_id = ?", named(&filter.user));
    also("(model = ? OR requested_model = ?)", named(&filter.model));
    also("provider = ?", named(&filter.provider));
    also("trace_id = ?", named(&filter.trace_id));
    also("session_id = ?", named(&filter.session_id));
    also("ended = ?", filter.ended.map(|ended| Value::Text(ended.name().to_owned())));
    also("status >= ?", filter.status.map(|(lowest, _)| Value::Integer(lowest.into())));
    also("status <= ?", filter.status.map(|(_, highest)| Value::Integer(highest.into())));
    also("(ended = 'complete' AND status < 400) <> ?", filter.failed.map(|failed| Value::Integer(failed.into())));
    also(&format!("({FOUND_BY})"), filter.text.as_ref().map(|text| Value::Text(containing(text))));
    if let Some(Cursor { arrived_unix_ms, id }) = behind {
        values.extend([Value::Integer(stored_time(arrived_unix_ms)), Value::Text(id.to_string())]);
        parts.push(format!("(arrived_at, id) < (?{}, ?{})", values.len() - 1, values.len()));
    }
    (parts.join(" AND "), values)
}

fn read(json: &str) -> Result<LedgerRow<'static>, Trouble> {
    row(json).ok_or_else(|| Trouble::damaged("a row of requests"))
}

#[async_trait]
impl Ledger for SqliteDatabase {
    async fn write(&self, batch: &Arc<[LedgerRow<'static>]>) -> Result<Kept, StoreError> {
        let batch = batch.clone();
        SqliteDatabase::write(self, move |transaction| write(transaction, &batch)).await
    }

    async fn spent(&self, subject: &Subject, from_day: u32, to_day: u32) -> Result<Money, StoreError> {
        let (condition, values) = match subject.clone() {
            Subject::Org(id) => ("org_id = ?3", vec![id]),
            Subject::Project(id) => ("project_id = ?3", vec![id]),
            Subject::Key(id) => ("key_id = ?3", vec![id]),
            Subject::User { org, user } => ("org_id = ?3 AND user_id = ?4", vec![org, user]),
        };
        // In two parts, because a sum of SQLite's has 64 bits.
        let query = format!(
            "SELECT coalesce(sum(cost / 1000000), 0), coalesce(sum(cost % 1000000), 0) FROM spend \
             WHERE day BETWEEN ?1 AND ?2 AND {condition}"
        );
        let days = [from_day, to_day].map(|day| Value::Integer(stored_day(day).into()));
        let values: Vec<Value> =
            days.into_iter().chain(values.iter().map(|value| Value::Text(value.as_ref().to_owned()))).collect();
        self.read(move |transaction| {
            let (millions, rest): (i64, i64) =
                transaction.query_row(&query, params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(Money::from_picos(i128::from(millions) * 1_000_000 + i128::from(rest)))
        })
        .await
    }

    async fn spent_by_users(
        &self,
        org: &str,
        from_day: u32,
        to_day: u32,
        most: u32,
    ) -> Result<Vec<(String, Money)>, StoreError> {
        let (org, days) = (org.to_owned(), [from_day, to_day].map(stored_day));
        self.read(move |transaction| {
            let mut query = transaction.prepare_cached(
                "SELECT user_id, sum(cost / 1000000) AS millions, sum(cost % 1000000) AS rest FROM spend \
                 WHERE org_id = ?1 AND user_id <> '' AND day BETWEEN ?2 AND ?3 \
                 GROUP BY user_id ORDER BY millions DESC, rest DESC LIMIT ?4",
            )?;
            let rows = query.query_map(params![org, days[0], days[1], most], |row| {
                let (millions, rest): (i64, i64) = (row.get(1)?, row.get(2)?);
                Ok((row.get(0)?, Money::from_picos(i128::from(millions) * 1_000_000 + i128::from(rest))))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn find(&self, access: &Access, id: RequestId) -> Result<Option<LedgerRow<'static>>, StoreError> {
        let access = access.clone();
        self.look(move |transaction| {
            let mut query = transaction
                .prepare_cached("SELECT record FROM requests WHERE id = ?1 AND (?2 IS NULL OR org_id = ?2)")?;
            let mut rows = query.query(params![id.to_string(), access.org()])?;
            let Some(found) = rows.next()? else { return Ok(None) };
            read(&found.get::<_, String>(0)?).map(Some)
        })
        .await
    }

    async fn list(
        &self,
        access: &Access,
        filter: &Filter,
        behind: Option<Cursor>,
        most: u32,
    ) -> Result<Page, StoreError> {
        let (condition, mut values) = condition(access, filter, behind);
        values.push(Value::Integer(i64::from(most) + 1));
        let query = format!(
            "SELECT record FROM requests WHERE {condition} ORDER BY arrived_at DESC, id DESC LIMIT ?{}",
            values.len()
        );
        self.look(move |transaction| {
            let mut query = transaction.prepare(&query)?;
            let found = query.query_map(params_from_iter(values), |row| row.get::<_, String>(0))?;
            let rows = found.map(|json| read(&json?)).collect::<Result<_, Trouble>>()?;
            Ok(Page::of(rows, most))
        })
        .await
    }

    async fn forget_before(&self, day: u32) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            let count = SqliteDatabase::write(self, move |transaction| {
                // By the index of time.
                let old = "DELETE FROM requests WHERE rowid IN \
                           (SELECT rowid FROM requests WHERE arrived_at < ?1 ORDER BY arrived_at LIMIT ?2)";
                let midnight = i64::from(stored_day(day)) * 86_400_000;
                Ok(transaction.execute(old, params![midnight, stored_time(AT_ONCE)])? as u64)
            })
            .await?;
            forgotten += count;
            if count < AT_ONCE {
                return Ok(forgotten);
            }
        }
    }
}
