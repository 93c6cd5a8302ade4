//! What requests carried.

use super::{SqliteDatabase, Trouble};
use crate::domain::{Payloads, RequestId};
use crate::store::ports::database::{Access, StoreError};
use crate::store::ports::payloads::PayloadArchive;
use crate::store::rows::stored_time;
use async_trait::async_trait;
use rusqlite::params;

/// So many are deleted at once; others may use the file in between.
const AT_ONCE: u64 = 500;

#[async_trait]
impl PayloadArchive for SqliteDatabase {
    async fn keep_payloads(&self, batch: &[Payloads]) -> Result<(), StoreError> {
        let text = |it: &Payloads| serde_json::to_string(it).map_err(|_| StoreError::Refused("payloads".to_owned()));
        let rows = batch
            .iter()
            .map(|it| Ok((it.id.to_string(), stored_time(it.arrived_unix_ms), it.org.clone(), text(it)?)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        SqliteDatabase::write(self, move |transaction| {
            let mut put = transaction.prepare_cached(
                "INSERT INTO payloads (id, arrived_at, org_id, content) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO NOTHING",
            )?;
            for (id, arrived_at, org, content) in rows {
                put.execute(params![id, arrived_at, org, content])?;
            }
            Ok(())
        })
        .await
    }

    async fn payloads(&self, access: &Access, id: RequestId) -> Result<Option<Payloads>, StoreError> {
        let access = access.clone();
        self.read(move |transaction| {
            let mut query = transaction
                .prepare_cached("SELECT content FROM payloads WHERE id = ?1 AND (?2 IS NULL OR org_id = ?2)")?;
            let mut rows = query.query(params![id.to_string(), access.org()])?;
            let Some(found) = rows.next()? else { return Ok(None) };
            let content: String = found.get(0)?;
            serde_json::from_str(&content).map(Some).map_err(|_| Trouble::damaged("a row of payloads"))
        })
        .await
    }

    async fn forget_payloads(&self, before_unix_ms: u64) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            let count = SqliteDatabase::write(self, move |transaction| {
                let old = "DELETE FROM payloads WHERE rowid IN \
                           (SELECT rowid FROM payloads WHERE arrived_at < ?1 ORDER BY arrived_at LIMIT ?2)";
                Ok(transaction.execute(old, params![stored_time(before_unix_ms), stored_time(AT_ONCE)])? as u64)
            })
            .await?;
            forgotten += count;
            if count < AT_ONCE {
                return Ok(forgotten);
            }
        }
    }
}
