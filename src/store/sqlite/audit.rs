//! The audit log.

use super::{SqliteDatabase, Trouble};
use crate::domain::audit::{AuditEntry, AuditEvent, Head};
use crate::store::ports::audit::Audit;
use crate::store::ports::database::{Access, StoreError};
use crate::store::rows::{read_time, stored_time};
use async_trait::async_trait;
use rusqlite::{OptionalExtension, Params, Row, Transaction, params};
use std::sync::Arc;

fn entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    let event = AuditEvent {
        at: read_time(row.get(1)?),
        org: row.get::<_, Option<String>>(2)?.map(Arc::from),
        actor: row.get(3)?,
        origin: row.get(4)?,
        action: row.get(5)?,
        target: row.get(6)?,
        details: row.get(7)?,
    };
    Ok(AuditEntry { seq: read_time(row.get(0)?), event, hash: row.get(8)? })
}

fn entries(transaction: &Transaction<'_>, rest: &str, values: impl Params) -> Result<Vec<AuditEntry>, Trouble> {
    let query = format!("SELECT seq, at, org_id, actor, origin, action, target, details, hash FROM audit {rest}");
    let mut query = transaction.prepare(&query)?;
    Ok(query.query_map(values, entry)?.collect::<Result<_, _>>()?)
}

#[async_trait]
impl Audit for SqliteDatabase {
    async fn append(&self, event: &AuditEvent) -> Result<AuditEntry, StoreError> {
        let event = event.clone();
        // A transaction that writes has the file for itself.
        self.write(move |transaction| {
            let last = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1";
            let head = |row: &Row<'_>| Ok(Head { seq: read_time(row.get(0)?), hash: row.get(1)? });
            let head = transaction.query_row(last, [], head).optional()?.unwrap_or_default();
            let entry = head.next(event);
            let AuditEvent { at, org, actor, origin, action, target, details } = &entry.event;
            transaction.execute(
                "INSERT INTO audit (seq, at, org_id, actor, origin, action, target, details, hash) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    stored_time(entry.seq),
                    stored_time(*at),
                    org.as_deref(),
                    actor,
                    origin,
                    action,
                    target,
                    details,
                    entry.hash
                ],
            )?;
            Ok(entry)
        })
        .await
    }

    async fn entries_after(&self, seq: u64, most: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let rest = "WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        self.read(move |transaction| entries(transaction, rest, params![stored_time(seq), most])).await
    }

    async fn entries_before(&self, access: &Access, seq: u64, most: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let access = access.clone();
        let rest = "WHERE (?1 IS NULL OR org_id = ?1) AND seq < ?2 ORDER BY seq DESC LIMIT ?3";
        self.read(move |transaction| entries(transaction, rest, params![access.org(), stored_time(seq), most])).await
    }

    async fn latest_entries(&self, access: &Access, most: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let access = access.clone();
        let rest = "WHERE ?1 IS NULL OR org_id = ?1 ORDER BY seq DESC LIMIT ?2";
        let newest_first =
            self.read(move |transaction| entries(transaction, rest, params![access.org(), most])).await?;
        Ok(newest_first.into_iter().rev().collect())
    }
}
