//! Keys of providers, sealed.

use super::{SqliteDatabase, Trouble};
use crate::domain::tenancy::SealedKey;
use crate::store::ports::database::{Access, StoreError};
use crate::store::ports::provider_keys::ProviderKeys;
use crate::store::rows::{MASTER_KEY, other_master_key, read_time, sealed_with, stored_time};
use async_trait::async_trait;
use rusqlite::{OptionalExtension, Transaction, params};
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

/// The id of the master key in use: what was written down, else that of the latest row.
fn master_key(transaction: &Transaction<'_>) -> Result<Option<String>, Trouble> {
    let fact = "SELECT value FROM gateway_facts WHERE name = ?1";
    if let Some(id) = transaction.query_row(fact, [MASTER_KEY], |row| row.get(0)).optional()? {
        return Ok(Some(id));
    }
    let latest = "SELECT envelope FROM provider_keys ORDER BY created_at DESC, id DESC LIMIT 1";
    let envelope: Option<String> = transaction.query_row(latest, [], |row| row.get(0)).optional()?;
    Ok(envelope.as_deref().and_then(sealed_with).map(str::to_owned))
}

fn set_master_key(transaction: &Transaction<'_>, id: &str) -> Result<(), Trouble> {
    let put = "INSERT INTO gateway_facts (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    transaction.execute(put, params![MASTER_KEY, id])?;
    Ok(())
}

#[async_trait]
impl ProviderKeys for SqliteDatabase {
    async fn add_provider_key(&self, access: &Access, key: &SealedKey) -> Result<(), StoreError> {
        let (access, key) = (access.clone(), key.clone());
        self.write(move |transaction| {
            if !access.reaches(key.org.as_deref()) {
                return Err(Trouble::unknown("organisation"));
            }
            if let Some(ours) = sealed_with(&key.envelope) {
                match master_key(transaction)? {
                    Some(theirs) if theirs != ours => return Err(Trouble::Store(other_master_key(ours, &theirs))),
                    _ => set_master_key(transaction, ours)?,
                }
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

    async fn master_key(&self) -> Result<Option<String>, StoreError> {
        self.read(master_key).await
    }

    async fn set_master_key(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.write(move |transaction| set_master_key(transaction, &id)).await
    }
}
