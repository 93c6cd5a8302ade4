//! The audit log.

use super::{PostgresDatabase, Trouble};
use crate::domain::audit::{AuditEntry, AuditEvent, Head};
use crate::store::ports::audit::Audit;
use crate::store::ports::database::{Access, StoreError};
use crate::store::rows::{read_time, stored_time};
use async_trait::async_trait;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};

fn entry(row: &Row) -> Result<AuditEntry, Trouble> {
    let event = AuditEvent {
        at: read_time(row.try_get(1)?),
        org: row.try_get::<_, Option<&str>>(2)?.map(Into::into),
        actor: row.try_get(3)?,
        origin: row.try_get(4)?,
        action: row.try_get(5)?,
        target: row.try_get(6)?,
        details: row.try_get(7)?,
    };
    Ok(AuditEntry { seq: read_time(row.try_get(0)?), event, hash: row.try_get(8)? })
}

/// Those that the transaction's role sees.
async fn entries(
    transaction: &Transaction<'_>,
    rest: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<AuditEntry>, Trouble> {
    let query = format!("SELECT seq, at, org_id, actor, origin, action, target, details, hash FROM audit {rest}");
    transaction.query(&query, values).await?.iter().map(entry).collect()
}

#[async_trait]
impl Audit for PostgresDatabase {
    async fn append(&self, event: &AuditEvent) -> Result<AuditEntry, StoreError> {
        self.transact(&Access::System, async |transaction| {
            // Before anything is read: who waits here sees what the others have added.
            transaction.batch_execute("LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE").await?;
            let last = entries(transaction, "ORDER BY seq DESC LIMIT 1", &[]).await?.pop();
            let head = last.map_or_else(Head::default, |last| Head { seq: last.seq, hash: last.hash });
            let entry = head.next(event.clone());
            let AuditEvent { at, org, actor, origin, action, target, details } = &entry.event;
            let put = "INSERT INTO audit (seq, at, org_id, actor, origin, action, target, details, hash) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
            let (seq, at, org) = (stored_time(entry.seq), stored_time(*at), org.as_deref());
            transaction.execute(put, &[&seq, &at, &org, actor, origin, action, target, details, &entry.hash]).await?;
            Ok(entry)
        })
        .await
    }

    async fn entries_after(&self, seq: u64, most: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.transact(&Access::System, async |transaction| {
            let rest = "WHERE seq > $1 ORDER BY seq LIMIT $2";
            entries(transaction, rest, &[&stored_time(seq), &i64::from(most)]).await
        })
        .await
    }

    async fn entries_before(&self, access: &Access, seq: u64, most: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.transact(access, async |transaction| {
            let rest = "WHERE seq < $1 ORDER BY seq DESC LIMIT $2";
            entries(transaction, rest, &[&stored_time(seq), &i64::from(most)]).await
        })
        .await
    }

    async fn latest_entries(&self, access: &Access, most: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.transact(access, async |transaction| {
            let newest_first = entries(transaction, "ORDER BY seq DESC LIMIT $1", &[&i64::from(most)]).await?;
            Ok(newest_first.into_iter().rev().collect())
        })
        .await
    }
}
