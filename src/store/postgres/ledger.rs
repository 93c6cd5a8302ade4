//! The ledger: a table for each day, filled by many rows at once.

use super::{PostgresDatabase, Trouble, take_on};
use crate::domain::{LedgerRow, Money, RequestId};
use crate::store::ledger_rows::{Accounts, Columns, Reported, Spending, containing, latest, row, stored_day};
use crate::store::ports::database::{Access, StoreError};
use crate::store::ports::ledger::{Cursor, Filter, Kept, Ledger, Page, Subject};
use crate::store::rows::stored_time;
use async_trait::async_trait;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Transaction};

const INSERT: &str = "INSERT INTO requests (id, revision, arrived_at, day, org_id, project_id, key_id, key_name, user_id, trace_id, \
     session_id, requested_model, provider, model, status, ended, latency_us, prompt_tokens, completion_tokens, cost, record, \
     cached_tokens, cache_write_tokens, reasoning_tokens, charge, ttft_us, cache) \
     SELECT id, revision, arrived, day, org, project, key, name, usr, trace, session, asked, provider, model, status, ended, latency, \
     prompt, completion, cost, record::jsonb, cached, written, reasoned, charge, ttft, cache \
     FROM unnest($1::text[], $2::smallint[], $3::bigint[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], \
     $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::int[], $16::text[], $17::bigint[], $18::bigint[], \
     $19::bigint[], $20::bigint[], $21::text[], $22::bigint[], $23::bigint[], $24::bigint[], $25::bigint[], $26::bigint[], $27::text[]) \
     AS added (id, revision, arrived, day, org, project, key, name, usr, trace, session, asked, provider, model, status, ended, \
     latency, prompt, completion, cost, record, cached, written, reasoned, charge, ttft, cache) \
     ON CONFLICT (id, day) DO NOTHING RETURNING id";

/// The rows of several columns at once; those that were there are not among what is returned.
async fn insert(transaction: &Transaction<'_>, rows: &[Columns<'_>]) -> Result<HashSet<String>, Trouble> {
    macro_rules! column {
        ($name:ident) => {
            rows.iter().map(|it| &it.$name).collect::<Vec<_>>()
        };
    }
    macro_rules! texts {
        ($name:ident) => {
            rows.iter().map(|it| it.$name.as_ref()).collect::<Vec<&str>>()
        };
    }
    macro_rules! maybe {
        ($name:ident) => {
            rows.iter().map(|it| it.$name.as_deref()).collect::<Vec<Option<&str>>>()
        };
    }
    let reported = |number: fn(&Reported) -> i64| rows.iter().map(|it| number(&it.reported)).collect::<Vec<i64>>();
    let ended: Vec<&str> = rows.iter().map(|it| it.ended).collect();
    let values: [&(dyn ToSql + Sync); 27] = [
        &texts!(id),
        &column!(revision),
        &column!(arrived_at),
        &column!(day),
        &texts!(org),
        &texts!(project),
        &texts!(key_id),
        &texts!(key_name),
        &maybe!(user),
        &maybe!(trace),
        &maybe!(session),
        &maybe!(requested_model),
        &maybe!(provider),
        &maybe!(model),
        &column!(status),
        &ended,
        &column!(latency_us),
        &column!(prompt_tokens),
        &column!(completion_tokens),
        &rows.iter().map(|it| it.cost).collect::<Vec<Option<i64>>>(),
        &texts!(record),
        &reported(|it| it.cached_tokens),
        &reported(|it| it.cache_write_tokens),
        &reported(|it| it.reasoning_tokens),
        &column!(charge),
        &rows.iter().map(|it| it.reported.ttft_us).collect::<Vec<Option<i64>>>(),
        &rows.iter().map(|it| it.reported.cache).collect::<Vec<&str>>(),
    ];
    let statement = transaction.prepare(INSERT).await?;
    let inserted = transaction.query(&statement, &values).await?;
    Ok(inserted.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// Puts a later revision in the place of an earlier one; returns what that had added, `None` when it is not earlier.
async fn amend(transaction: &Transaction<'_>, it: &Columns<'_>) -> Result<Option<Spending>, Trouble> {
    // Of rows from before there was a charge, the cost was booked.
    let get = "SELECT revision, prompt_tokens, completion_tokens, coalesce(charge, cost, 0) FROM requests \
               WHERE id = $1 AND day = $2 FOR UPDATE";
    let Some(row) = transaction.query_opt(get, &[&it.id, &it.day]).await? else { return Ok(None) };
    if row.try_get::<_, i16>(0)? >= it.revision {
        return Ok(None);
    }
    let charge: i64 = row.try_get(3)?;
    let (prompt_tokens, completion_tokens) = (row.try_get(1)?, row.try_get(2)?);
    let put = "UPDATE requests SET revision = $3, provider = $4, model = $5, status = $6, ended = $7, latency_us = $8, \
               prompt_tokens = $9, completion_tokens = $10, cost = $11, record = $12::text::jsonb, cached_tokens = $13, cache_write_tokens = $14, \
               reasoning_tokens = $15, charge = $16, ttft_us = $17, cache = $18 WHERE id = $1 AND day = $2";
    let (provider, model) = (it.provider.as_deref(), it.model.as_deref());
    let values: [&(dyn ToSql + Sync); 18] = [
        &it.id,
        &it.day,
        &it.revision,
        &provider,
        &model,
        &it.status,
        &it.ended,
        &it.latency_us,
        &it.prompt_tokens,
        &it.completion_tokens,
        &it.cost,
        &it.record,
        &it.reported.cached_tokens,
        &it.reported.cache_write_tokens,
        &it.reported.reasoning_tokens,
        &it.charge,
        &it.reported.ttft_us,
        &it.reported.cache,
    ];
    transaction.execute(put, &values).await?;
    Ok(Some(Spending { requests: 1, prompt_tokens, completion_tokens, cost: charge.into() }))
}

async fn spend(transaction: &Transaction<'_>, accounts: &Accounts) -> Result<(), Trouble> {
    let add = "INSERT INTO spend (org_id, project_id, key_id, user_id, day, requests, prompt_tokens, completion_tokens, cost) \
               SELECT org, project, key, usr, day, requests, prompt, completion, cost::numeric \
               FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[]) \
               AS added (org, project, key, usr, day, requests, prompt, completion, cost) \
               ON CONFLICT (org_id, project_id, key_id, user_id, day) DO UPDATE SET \
               requests = spend.requests + excluded.requests, prompt_tokens = spend.prompt_tokens + excluded.prompt_tokens, \
               completion_tokens = spend.completion_tokens + excluded.completion_tokens, cost = spend.cost + excluded.cost";
    let orgs: Vec<&str> = accounts.keys().map(|it| it.org.as_str()).collect();
    let projects: Vec<&str> = accounts.keys().map(|it| it.project.as_str()).collect();
    let keys: Vec<&str> = accounts.keys().map(|it| it.key_id.as_str()).collect();
    let users: Vec<&str> = accounts.keys().map(|it| it.user.as_str()).collect();
    let days: Vec<i32> = accounts.keys().map(|it| it.day).collect();
    let requests: Vec<i64> = accounts.values().map(|it| it.requests).collect();
    let prompt: Vec<i64> = accounts.values().map(|it| it.prompt_tokens).collect();
    let completion: Vec<i64> = accounts.values().map(|it| it.completion_tokens).collect();
    let costs: Vec<String> = accounts.values().map(|it| it.cost.to_string()).collect();
    transaction
        .execute(add, &[&orgs, &projects, &keys, &users, &days, &requests, &prompt, &completion, &costs])
        .await?;
    Ok(())
}

async fn write(transaction: &Transaction<'_>, batch: &[LedgerRow<'static>]) -> Result<Kept, Trouble> {
    let rows: Vec<Columns<'_>> = latest(batch).into_iter().map(Columns::of).collect();
    let days: BTreeSet<i32> = rows.iter().map(|it| it.day).collect();
    for day in days {
        transaction.execute("SELECT orbyt_ledger_day($1)", &[&day]).await?;
    }
    let inserted = insert(transaction, &rows).await?;
    let (mut kept, mut accounts) = (Kept::default(), Accounts::new());
    for columns in &rows {
        let added = if inserted.contains(&columns.id) {
            kept.inserted += 1;
            columns.spending()
        } else if let Some(earlier) = amend(transaction, columns).await? {
            kept.amended += 1;
            columns.spending().instead_of(earlier)
        } else {
            kept.known += 1;
            continue;
        };
        accounts.entry(columns.account()).or_default().add(added);
    }
    spend(transaction, &accounts).await?;
    Ok(kept)
}

/// Where a text is looked for.
const FOUND_BY: &str = "id ILIKE ? OR key_name ILIKE ? OR user_id ILIKE ? OR trace_id ILIKE ? OR session_id ILIKE ? \
     OR requested_model ILIKE ? OR model ILIKE ? OR provider ILIKE ? OR record ->> 'error_code' ILIKE ?";

pub(super) type Boxed = Box<dyn ToSql + Sync + Send>;

/// The condition of a filter, and its values. Row-level security sees to the organisation.
pub(super) fn condition(filter: &Filter, behind: Option<Cursor>) -> (String, Vec<Boxed>) {
    let (mut parts, mut values) = (vec!["true".to_owned()], Vec::<Boxed>::new());
    let mut also = |sql: &str, value: Option<Boxed>| {
        if let Some(value) = value {
            values.push(value);
            parts.push(sql.replace('?', &format!("${}", values.len())));
        }
    };
    // What Postgres cannot have in a text is in none of its rows.
    let named = |value: &Option<String>| value.as_ref().map(|text| Box::new(text.replace('\0', "\u{fffd}")) as Boxed);
    let time = |value: Option<u64>| value.map(|time| Box::new(stored_time(time)) as Boxed);
    also("arrived_at >= ?", time(filter.from_unix_ms));
    also("arrived_at < ?", time(filter.until_unix_ms));
    also("project_id = ?", named(&filter.project));
    also("(key_id = ? OR key_name = ?)", named(&filter.key));
    also("user_id = ?", named(&filter.user));
    also("(model = ? OR requested_model = ?)", named(&filter.model));
    also("provider = ?", named(&filter.provider));
    also("trace_id = ?", named(&filter.trace_id));
    also("session_id = ?", named(&filter.session_id));
    also("ended = ?", filter.ended.map(|ended| Box::new(ended.name()) as Boxed));
    also("status >= ?", filter.status.map(|(lowest, _)| Box::new(i32::from(lowest)) as Boxed));
    also("status <= ?", filter.status.map(|(_, highest)| Box::new(i32::from(highest)) as Boxed));
    also("(ended = 'complete' AND status < 400) <> ?", filter.failed.map(|failed| Box::new(failed) as Boxed));
    let text = filter.text.as_ref().map(|text| Box::new(containing(&text.replace('\0', "\u{fffd}"))) as Boxed);
    also(&format!("({FOUND_BY})"), text);
    if let Some(Cursor { arrived_unix_ms, id }) = behind {
        values.extend([Box::new(stored_time(arrived_unix_ms)) as Boxed, Box::new(id.to_string())]);
        parts.push(format!("(arrived_at, id) < (${}, ${})", values.len() - 1, values.len()));
    }
    (parts.join(" AND "), values)
}

fn read(json: &str) -> Result<LedgerRow<'static>, Trouble> {
    row(json).ok_or_else(|| Trouble::damaged("a row of requests"))
}

#[async_trait]
impl Ledger for PostgresDatabase {
    async fn write(&self, batch: &Arc<[LedgerRow<'static>]>) -> Result<Kept, StoreError> {
        let client = self.client().await?;
        self.within(client, async |client| {
            // Gateways add to the same sums: each waits for the other instead of failing.
            let transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
            take_on(&transaction, &Access::System).await?;
            let kept = write(&transaction, batch).await?;
            transaction.commit().await?;
            Ok(kept)
        })
        .await
    }

    async fn spent(&self, subject: &Subject, from_day: u32, to_day: u32) -> Result<Money, StoreError> {
        let (condition, first, second) = match subject {
            Subject::Org(id) => ("org_id = $3 AND $4 = ''", &**id, ""),
            Subject::Project(id) => ("project_id = $3 AND $4 = ''", &**id, ""),
            Subject::Key(id) => ("key_id = $3 AND $4 = ''", &**id, ""),
            Subject::User { org, user } => ("org_id = $3 AND user_id = $4", &**org, &**user),
        };
        let query =
            format!("SELECT coalesce(sum(cost), 0)::text FROM spend WHERE day BETWEEN $1 AND $2 AND {condition}");
        let (from, to) = (stored_day(from_day), stored_day(to_day));
        self.transact(&Access::System, async |transaction| {
            let sum = transaction.query_one(&query, &[&from, &to, &first, &second]).await?;
            let picos = sum.try_get::<_, &str>(0)?.parse().map_err(|_| Trouble::damaged("a row of spend"))?;
            Ok(Money::from_picos(picos))
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
        let (from, to) = (stored_day(from_day), stored_day(to_day));
        self.transact(&Access::System, async |transaction| {
            let query = "SELECT user_id, sum(cost)::text FROM spend \
                         WHERE org_id = $1 AND user_id <> '' AND day BETWEEN $2 AND $3 \
                         GROUP BY user_id ORDER BY sum(cost) DESC LIMIT $4";
            let rows = transaction.query(query, &[&org, &from, &to, &i64::from(most)]).await?;
            let spent = rows.into_iter().map(|row| {
                let picos = row.try_get::<_, &str>(1)?.parse().map_err(|_| Trouble::damaged("a row of spend"))?;
                Ok((row.try_get(0)?, Money::from_picos(picos)))
            });
            spent.collect()
        })
        .await
    }

    async fn find(&self, access: &Access, id: RequestId) -> Result<Option<LedgerRow<'static>>, StoreError> {
        self.transact(access, async |transaction| {
            let query = "SELECT record::text FROM requests WHERE id = $1";
            let found = transaction.query_opt(query, &[&id.to_string()]).await?;
            found.map(|row| read(row.try_get(0)?)).transpose()
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
        let (condition, mut values) = condition(filter, behind);
        values.push(Box::new(i64::from(most) + 1));
        let query = format!(
            "SELECT record::text FROM requests WHERE {condition} ORDER BY arrived_at DESC, id DESC LIMIT ${}",
            values.len()
        );
        self.transact(access, async |transaction| {
            let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
            let found = transaction.query(&query, &values).await?;
            let rows = found.iter().map(|row| read(row.try_get(0)?)).collect::<Result<_, Trouble>>()?;
            Ok(Page::of(rows, most))
        })
        .await
    }

    async fn forget_before(&self, day: u32) -> Result<u64, StoreError> {
        let day = stored_day(day);
        // Days are tables, `requests_<day>`. How many rows each has is what the server has last reckoned; to count them takes too long.
        let days = "SELECT substr(child.relname, 10)::integer, greatest(child.reltuples, 1)::bigint \
                    FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid \
                    WHERE inhparent = 'requests'::regclass AND substr(child.relname, 10)::integer < $1 ORDER BY 1";
        let old = self.transact(&Access::System, async |transaction| {
            let found = transaction.query(days, &[&day]).await?;
            found.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<(i32, i64)>, Trouble>>()
        });
        let mut forgotten = 0;
        // Each by itself: what hinders one of them must not bring back the others.
        for (day, rows) in old.await? {
            self.transact(&Access::System, async |transaction| {
                transaction.execute("SELECT orbyt_ledger_forget($1)", &[&(day + 1)]).await?;
                Ok(())
            })
            .await?;
            forgotten += u64::try_from(rows).unwrap_or(0);
        }
        Ok(forgotten)
    }
}
