//! Usage in sums. Percentiles are nearest ranks, found with window functions: SQLite has no function for them.

use super::ledger::condition;
use super::{SqliteDatabase, Trouble};
use crate::domain::Money;
use crate::store::ports::database::{Access, StoreError};
use crate::store::ports::ledger::Filter;
use crate::store::ports::reports::{
    Dimension, Percentiles, Reports, Session, SessionCursor, Totals, UsageQuery, UsageRow,
};
use crate::store::rows::{read_time, stored_time};
use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};

/// The sums, from the sixth column on, over what [`ranked`] gives. Money is summed in two parts, because a sum of SQLite's has 64 bits.
const SUMS: &str = "count(*), sum(NOT (ended = 'complete' AND status < 400)), sum(cache = 'hit'), sum(prompt_tokens), sum(cached_tokens), \
     sum(cache_write_tokens), sum(completion_tokens), sum(reasoning_tokens), sum(charge / 1000000), sum(charge % 1000000), \
     sum(cost IS NULL), coalesce(max(CASE WHEN place = (whole * 50 + 99) / 100 THEN latency_us END), 0), \
     coalesce(max(CASE WHEN place = (whole * 95 + 99) / 100 THEN latency_us END), 0), \
     coalesce(max(CASE WHEN place = (whole * 99 + 99) / 100 THEN latency_us END), 0), CAST(avg(ttft_us) AS INTEGER)";

/// What a dimension is told apart by, and its name for people.
fn column(by: Option<Dimension>) -> (&'static str, &'static str) {
    match by {
        None => ("NULL", "NULL"),
        Some(Dimension::Org) => ("org_id", "NULL"),
        Some(Dimension::Project) => ("project_id", "NULL"),
        Some(Dimension::Key) => ("key_id", "key_name"),
        Some(Dimension::User) => ("coalesce(user_id, '')", "NULL"),
        Some(Dimension::Model) => ("coalesce(model, requested_model, '')", "NULL"),
        Some(Dimension::Provider) => ("coalesce(provider, '')", "NULL"),
        Some(Dimension::Session) => ("coalesce(session_id, trace_id, '')", "NULL"),
    }
}

/// The requests with their place by latency in their group.
fn ranked(span: &str, (id, name): (&str, &str), group: &str, condition: &str) -> String {
    format!(
        "(SELECT *, row_number() OVER (PARTITION BY {group} ORDER BY latency_us) AS place, count(*) OVER (PARTITION BY {group}) AS whole \
         FROM (SELECT *, {span} AS span, {id} AS group_id, {name} AS group_name FROM requests WHERE {condition}))"
    )
}

fn totals(row: &Row<'_>) -> rusqlite::Result<Totals> {
    let count = |place: usize| row.get::<_, Option<i64>>(place).map(|count| read_time(count.unwrap_or(0)));
    let part = |place: usize| row.get::<_, Option<i64>>(place).map(|part| i128::from(part.unwrap_or(0)));
    Ok(Totals {
        requests: count(5)?,
        errors: count(6)?,
        cache_hits: count(7)?,
        prompt_tokens: count(8)?,
        cached_tokens: count(9)?,
        cache_write_tokens: count(10)?,
        completion_tokens: count(11)?,
        reasoning_tokens: count(12)?,
        cost: Money::from_picos(part(13)? * 1_000_000 + part(14)?),
        unpriced: count(15)?,
        latency: Percentiles { p50_us: count(16)?, p95_us: count(17)?, p99_us: count(18)? },
        ttft_us: row.get::<_, Option<i64>>(19)?.map(read_time),
    })
}

#[async_trait]
impl Reports for SqliteDatabase {
    async fn usage(&self, access: &Access, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        let (condition, mut values) = condition(access, &query.filter, None);
        let span = query.span_ms.map_or("NULL".to_owned(), |span| {
            let span = stored_time(span.max(1));
            format!("arrived_at - arrived_at % {span}")
        });
        let (id, name) = column(query.by);
        let id = match &query.only {
            None => id.to_owned(),
            Some(only) => {
                values.push(Value::Text(serde_json::json!(only).to_string()));
                format!("CASE WHEN {id} IN (SELECT value FROM json_each(?{})) THEN {id} END", values.len())
            }
        };
        values.push(Value::Integer(query.most.into()));
        let sql = format!(
            "SELECT span, group_id, max(group_name), NULL, NULL, {SUMS} FROM {} GROUP BY span, group_id \
             ORDER BY span, count(*) DESC, group_id LIMIT ?{}",
            ranked(&span, (&id, name), "span, group_id", &condition),
            values.len()
        );
        self.look(move |transaction| {
            let mut query = transaction.prepare(&sql)?;
            let rows = query.query_map(params_from_iter(values), |row| {
                let span: Option<i64> = row.get(0)?;
                Ok(UsageRow {
                    span_unix_ms: span.map(read_time),
                    id: row.get(1)?,
                    name: row.get(2)?,
                    totals: totals(row)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn sessions(
        &self,
        access: &Access,
        filter: &Filter,
        behind: Option<&SessionCursor>,
        most: u32,
    ) -> Result<Vec<Session>, StoreError> {
        let (condition, mut values) = condition(access, filter, None);
        let condition = format!("{condition} AND (session_id IS NOT NULL OR trace_id IS NOT NULL)");
        let having = behind.map_or(String::new(), |cursor| {
            values.extend([Value::Integer(stored_time(cursor.last_unix_ms)), Value::Text(cursor.id.clone())]);
            format!("HAVING (max(arrived_at), group_id) < (?{}, ?{})", values.len() - 1, values.len())
        });
        values.push(Value::Integer(most.into()));
        let sql = format!(
            "SELECT org_id, group_id, min(arrived_at), max(arrived_at), count(DISTINCT model), {SUMS} FROM {} \
             GROUP BY org_id, group_id {having} ORDER BY max(arrived_at) DESC, group_id DESC LIMIT ?{}",
            ranked("NULL", column(Some(Dimension::Session)), "org_id, group_id", &condition),
            values.len()
        );
        self.look(move |transaction| {
            let mut query = transaction.prepare(&sql)?;
            let rows = query.query_map(params_from_iter(values), |row| {
                Ok(Session {
                    org: row.get(0)?,
                    id: row.get(1)?,
                    first_unix_ms: read_time(row.get(2)?),
                    last_unix_ms: read_time(row.get(3)?),
                    models: read_time(row.get(4)?),
                    totals: totals(row)?,
                })
            })?;
            rows.collect::<Result<_, _>>().map_err(Trouble::from)
        })
        .await
    }
}
