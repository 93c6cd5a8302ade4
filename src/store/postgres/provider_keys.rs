//! Keys of providers, sealed.

use super::{PostgresDatabase, Trouble};
use crate::domain::tenancy::SealedKey;
use crate::store::ports::database::{Access, StoreError};
use crate::store::ports::provider_keys::ProviderKeys;
use crate::store::rows::{read_time, stored_time};
use async_trait::async_trait;
use tokio_postgres::Transaction;

/// All that the transaction's role sees.
pub(super) async fn all(transaction: &Transaction<'_>) -> Result<Vec<SealedKey>, Trouble> {
    let query = "SELECT id, org_id, provider, name, shown, created_at, envelope, project_id \
                 FROM provider_keys ORDER BY created_at, id";
    let rows = transaction.query(query, &[]).await?;
    let key = |row: &tokio_postgres::Row| {
        Ok(SealedKey {
            id: row.try_get::<_, &str>(0)?.into(),
            org: row.try_get::<_, Option<&str>>(1)?.map(Into::into),
            provider: row.try_get(2)?,
            name: row.try_get(3)?,
            shown: row.try_get(4)?,
            created_at: read_time(row.try_get(5)?),
            envelope: row.try_get(6)?,
            project: row.try_get::<_, Option<&str>>(7)?.map(Into::into),
        })
    };
    rows.iter().map(key).collect()
}

#[async_trait]
impl ProviderKeys for PostgresDatabase {
    async fn add_provider_key(&self, access: &Access, key: &SealedKey) -> Result<(), StoreError> {
        self.transact(access, async |transaction| {
            let put = "INSERT INTO provider_keys (id, org_id, provider, name, shown, created_at, envelope, project_id) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
            let (id, org, created) = (&*key.id, key.org.as_deref(), stored_time(key.created_at));
            transaction
                .execute(
                    put,
                    &[
                        &id,
                        &org,
                        &key.provider,
                        &key.name,
                        &key.shown,
                        &created,
                        &key.envelope,
                        &key.project.as_deref(),
                    ],
                )
                .await?;
            Ok(())
        })
        .await
    }

    async fn provider_keys(&self, access: &Access) -> Result<Vec<SealedKey>, StoreError> {
        self.transact(access, async |transaction| all(transaction).await).await
    }

    async fn remove_provider_key(&self, access: &Access, id: &str) -> Result<bool, StoreError> {
        self.transact(access, async |transaction| {
            Ok(transaction.execute("DELETE FROM provider_keys WHERE id = $1", &[&id]).await? > 0)
        })
        .await
    }

    async fn reseal_provider_key(&self, access: &Access, id: &str, old: &str, new: &str) -> Result<bool, StoreError> {
        self.transact(access, async |transaction| {
            let put = "UPDATE provider_keys SET envelope = $3 WHERE id = $1 AND envelope = $2";
            Ok(transaction.execute(put, &[&id, &old, &new]).await? > 0)
        })
        .await
    }
}
