//! Keys of providers, sealed.

use super::{SqliteDatabase, Trouble};
use crate::domain::tenancy::SealedKey;
use crate::store::ports::database::{Access, StoreError};
use crate::store::ports::provider_keys::ProviderKeys;
use crate::store::rows::{read_time, stored_time};
use async_trait::async_trait;
use rusqlite::{Transaction, params};
use std::sync::Arc;

pub(super) fn all(transaction: &Transaction<'_>, access: &Access) -> Result<Vec<SealedKey>, Trouble> {
    let mut query = transaction.prepare(
        "SELECT id, org_id, provider, name, shown, created_at, envelope, project_id FROM provider_keys \
         WHERE ?1 IS NULL OR org_id = ?1 ORDER BY created_at, id",
    )?;
    let rows = query.query_map(params![access.org()], |row| {
        Ok(SealedKey {
            id: row.get::<_, String>(0)?.into(),
            org: row.get::<_, Option<String>>(1)?.map(Arc::from),
            provider: row.get(2)?,
            name: row.get(3)?,
            shown: row.get(4)?,
            created_at: read_time(row.get(5)?),
            envelope: row.get(6)?,
            project: row.get::<_, Option<String>>(7)?.map(Arc::from),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[async_trait]
impl ProviderKeys for SqliteDatabase {
    async fn add_provider_key(&self, access: &Access, key: &SealedKey) -> Result<(), StoreError> {
        let (access, key) = (access.clone(), key.clone());
        self.write(move |transaction| {
            if !access.reaches(key.org.as_deref()) {
                return Err(Trouble::unknown("organisation"));
            }
            transaction.execute(
                "INSERT INTO provider_keys (id, org_id, provider, name, shown, created_at, envelope, project_id) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    &*key.id,
                    key.org.as_deref(),
                    key.provider,
                    key.name,
                    key.shown,
                    stored_time(key.created_at),
                    key.envelope,
                    key.project.as_deref()
                ],
            )?;
            Ok(())
        })
        .await
    }

    async fn provider_keys(&self, access: &Access) -> Result<Vec<SealedKey>, StoreError> {
        let access = access.clone();
        self.read(move |transaction| all(transaction, &access)).await
    }

    async fn remove_provider_key(&self, access: &Access, id: &str) -> Result<bool, StoreError> {
        let (access, id) = (access.clone(), id.to_owned());
        self.write(move |transaction| {
            let remove = "DELETE FROM provider_keys WHERE id = ?1 AND (?2 IS NULL OR org_id = ?2)";
            Ok(transaction.execute(remove, params![id, access.org()])? > 0)
        })
        .await
    }

    async fn reseal_provider_key(&self, access: &Access, id: &str, old: &str, new: &str) -> Result<bool, StoreError> {
        let (access, id, old, new) = (access.clone(), id.to_owned(), old.to_owned(), new.to_owned());
        self.write(move |transaction| {
            let put = "UPDATE provider_keys SET envelope = ?3 \
                       WHERE id = ?1 AND envelope = ?2 AND (?4 IS NULL OR org_id = ?4)";
            Ok(transaction.execute(put, params![id, old, new, access.org()])? > 0)
        })
        .await
    }
}
