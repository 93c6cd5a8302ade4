//! Keys of providers, sealed.

use super::{PostgresDatabase, Trouble, take_on};
use crate::domain::tenancy::SealedKey;
use crate::store::ports::database::{Access, StoreError};
use crate::store::ports::provider_keys::ProviderKeys;
use crate::store::rows::{MASTER_KEY, other_master_key, read_time, sealed_with, stored_time};
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

/// The id of the master key in use: what was written down, else that of the latest row. The fact stays as it is until the end of the
/// transaction, so that no row is added with a key that is being replaced.
async fn master_key(transaction: &Transaction<'_>) -> Result<Option<String>, Trouble> {
    let fact = "SELECT value FROM gateway_facts WHERE name = $1 FOR SHARE";
    if let Some(row) = transaction.query_opt(fact, &[&MASTER_KEY]).await? {
        return Ok(Some(row.try_get(0)?));
    }
    let latest = "SELECT envelope FROM provider_keys ORDER BY created_at DESC, id DESC LIMIT 1";
    let Some(row) = transaction.query_opt(latest, &[]).await? else { return Ok(None) };
    Ok(sealed_with(row.try_get(0)?).map(str::to_owned))
}

async fn set_master_key(transaction: &Transaction<'_>, id: &str) -> Result<(), Trouble> {
    let put = "INSERT INTO gateway_facts (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    transaction.execute(put, &[&MASTER_KEY, &id]).await?;
    Ok(())
}

#[async_trait]
impl ProviderKeys for PostgresDatabase {
    async fn add_provider_key(&self, access: &Access, key: &SealedKey) -> Result<(), StoreError> {
        self.transact(&Access::System, async |transaction| {
            if let Some(ours) = sealed_with(&key.envelope) {
                match master_key(transaction).await? {
                    Some(theirs) if theirs != ours => return Err(Trouble::Store(other_master_key(ours, &theirs))),
                    _ => set_master_key(transaction, ours).await?,
                }
            }
            // From here on, whoever it is for may do it or not.
            take_on(transaction, access).await?;
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

    async fn master_key(&self) -> Result<Option<String>, StoreError> {
        self.transact(&Access::System, async |transaction| master_key(transaction).await).await
    }

    async fn set_master_key(&self, id: &str) -> Result<(), StoreError> {
        self.transact(&Access::System, async |transaction| set_master_key(transaction, id).await).await
    }
}
