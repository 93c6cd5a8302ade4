//! Usage in sums. Row-level security sees to the organisation.

use super::ledger::{Boxed, condition};
use super::{PostgresDatabase, Trouble};
use crate::domain::Money;
use crate::store::ports::database::{Access, StoreError};
use crate::store::ports::ledger::Filter;
use crate::store::ports::reports::{
    Dimension, Percentiles, Reports, Session, SessionCursor, Totals, UsageQuery, UsageRow,
};
use crate::store::rows::{read_time, stored_time};
use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// The sums, from the sixth column on.
const SUMS: &str = "count(*), count(*) FILTER (WHERE NOT (ended = 'complete' AND status < 400)), count(*) FILTER (WHERE cache = 'hit'), \
     sum(prompt_tokens)::bigint, sum(cached_tokens)::bigint, sum(cache_write_tokens)::bigint, sum(completion_tokens)::bigint, \
     sum(reasoning_tokens)::bigint, sum(charge)::text, count(*) FILTER (WHERE cost IS NULL), \
     percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY latency_us), avg(ttft_us)::bigint";

/// What a dimension is told apart by, and its name for people.
fn column(by: Option<Dimension>) -> (&'static str, &'static str) {
    match by {
        None => ("NULL::text", "NULL::text"),
        Some(Dimension::Org) => ("org_id", "NULL::text"),
        Some(Dimension::Project) => ("project_id", "NULL::text"),
        Some(Dimension::Key) => ("key_id", "max(key_name)"),
        Some(Dimension::User) => ("coalesce(user_id, '')", "NULL::text"),
        Some(Dimension::Model) => ("coalesce(model, requested_model, '')", "NULL::text"),
        Some(Dimension::Provider) => ("coalesce(provider, '')", "NULL::text"),
        Some(Dimension::Session) => ("coalesce(session_id, trace_id, '')", "NULL::text"),
    }
}

fn totals(row: &Row) -> Result<Totals, Trouble> {
    let count = |place: usize| row.try_get::<_, Option<i64>>(place).map(|count| read_time(count.unwrap_or(0)));
    let cost: Option<&str> = row.try_get(13)?;
    let cost = cost.unwrap_or("0").parse().map_err(|_| Trouble::damaged("a sum of money"))?;
    let ranks: Option<Vec<i64>> = row.try_get(15)?;
    let rank = |place: usize| ranks.as_ref().and_then(|ranks| ranks.get(place)).map_or(0, |rank| read_time(*rank));
    Ok(Totals {
        requests: count(5)?,
        errors: count(6)?,
        cache_hits: count(7)?,
        prompt_tokens: count(8)?,
        cached_tokens: count(9)?,
        cache_write_tokens: count(10)?,
        completion_tokens: count(11)?,
        reasoning_tokens: count(12)?,
        cost: Money::from_picos(cost),
        unpriced: count(14)?,
        latency: Percentiles { p50_us: rank(0), p95_us: rank(1), p99_us: rank(2) },
        ttft_us: row.try_get::<_, Option<i64>>(16)?.map(read_time),
    })
}

fn borrowed(values: &[Boxed]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
}

#[async_trait]
impl Reports for PostgresDatabase {
    async fn usage(&self, access: &Access, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        let (condition, mut values) = condition(&query.filter, None);
        let span = query.span_ms.map_or("NULL::bigint".to_owned(), |span| {
            let span = stored_time(span.max(1));
            format!("arrived_at - arrived_at % {span}")
        });
        let (id, name) = column(query.by);
        let id = match &query.only {
            None => id.to_owned(),
            Some(only) => {
                // No text of Postgres's has a NUL, so no id has.
                values.push(Box::new(only.iter().filter(|id| !id.contains('\0')).cloned().collect::<Vec<_>>()));
                format!("CASE WHEN {id} = ANY(${}) THEN {id} END", values.len())
            }
        };
        values.push(Box::new(i64::from(query.most)));
        let sql = format!(
            "SELECT {span} AS span, {id} AS id, {name}, NULL, NULL, {SUMS} FROM requests WHERE {condition} GROUP BY 1, 2 \
             ORDER BY 1, count(*) DESC, {id} COLLATE \"C\" LIMIT ${}",
            values.len()
        );
        self.transact(access, async |transaction| {
            let rows = transaction.query(&sql, &borrowed(&values)).await?;
            let read = |row: &Row| {
                let span: Option<i64> = row.try_get(0)?;
                let (id, name) = (row.try_get(1)?, row.try_get(2)?);
                Ok(UsageRow { span_unix_ms: span.map(read_time), id, name, totals: totals(row)? })
            };
            rows.iter().map(read).collect()
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
        let (condition, mut values) = condition(filter, None);
        let id = column(Some(Dimension::Session)).0;
        let having = behind.map_or(String::new(), |cursor| {
            values.extend([Box::new(stored_time(cursor.last_unix_ms)) as Boxed, Box::new(cursor.id.replace('\0', ""))]);
            let (last, after) = (values.len() - 1, values.len());
            format!("HAVING (max(arrived_at), {id} COLLATE \"C\") < (${last}, ${after})")
        });
        values.push(Box::new(i64::from(most)));
        let sql = format!(
            "SELECT org_id, {id}, min(arrived_at), max(arrived_at), count(DISTINCT model), {SUMS} FROM requests \
             WHERE {condition} AND (session_id IS NOT NULL OR trace_id IS NOT NULL) GROUP BY 1, 2 {having} \
             ORDER BY max(arrived_at) DESC, {id} COLLATE \"C\" DESC LIMIT ${}",
            values.len()
        );
        self.transact(access, async |transaction| {
            let rows = transaction.query(&sql, &borrowed(&values)).await?;
            let read = |row: &Row| {
                Ok(Session {
                    org: row.try_get(0)?,
                    id: row.try_get(1)?,
                    first_unix_ms: read_time(row.try_get(2)?),
                    last_unix_ms: read_time(row.try_get(3)?),
                    models: read_time(row.try_get(4)?),
                    totals: totals(row)?,
                })
            };
            rows.iter().map(read).collect()
        })
        .await
    }
}
