//! What requests carried.

use super::{PostgresDatabase, Trouble};
use crate::domain::{Payloads, RequestId};
use crate::store::ports::database::{Access, StoreError};
use crate::store::ports::payloads::PayloadArchive;
use crate::store::rows::stored_time;
use async_trait::async_trait;

/// So many are deleted at once: a statement has only so much time.
const AT_ONCE: i64 = 2000;

#[async_trait]
impl PayloadArchive for PostgresDatabase {
    async fn keep_payloads(&self, batch: &[Payloads]) -> Result<(), StoreError> {
        let text = |it: &Payloads| serde_json::to_string(it).map_err(|_| StoreError::Refused("payloads".to_owned()));
        let ids: Vec<String> = batch.iter().map(|it| it.id.to_string()).collect();
        let arrived: Vec<i64> = batch.iter().map(|it| stored_time(it.arrived_unix_ms)).collect();
        let orgs: Vec<&str> = batch.iter().map(|it| it.org.as_str()).collect();
        let contents = batch.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        self.transact(&Access::System, async |transaction| {
            let put = "INSERT INTO payloads (id, arrived_at, org_id, content) \
                       SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) ON CONFLICT (id) DO NOTHING";
            transaction.execute(put, &[&ids, &arrived, &orgs, &contents]).await?;
            Ok(())
        })
        .await
    }

    async fn payloads(&self, access: &Access, id: RequestId) -> Result<Option<Payloads>, StoreError> {
        self.transact(access, async |transaction| {
            let query = "SELECT content FROM payloads WHERE id = $1";
            let Some(found) = transaction.query_opt(query, &[&id.to_string()]).await? else { return Ok(None) };
            let content: &str = found.try_get(0)?;
            serde_json::from_str(content).map(Some).map_err(|_| Trouble::damaged("a row of payloads"))
        })
        .await
    }

    async fn forget_payloads(&self, before_unix_ms: u64) -> Result<u64, StoreError> {
        let (before, mut forgotten) = (stored_time(before_unix_ms), 0);
        loop {
            let count = self
                .transact(&Access::System, async |transaction| {
                    let old = "DELETE FROM payloads WHERE id IN \
                               (SELECT id FROM payloads WHERE arrived_at < $1 ORDER BY arrived_at LIMIT $2)";
                    Ok(transaction.execute(old, &[&before, &AT_ONCE]).await?)
                })
                .await?;
            forgotten += count;
            if count < AT_ONCE.unsigned_abs() {
                return Ok(forgotten);
            }
        }
    }
}
