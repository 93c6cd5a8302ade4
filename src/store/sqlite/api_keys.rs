//! The gateway's own keys.

use super::{SqliteDatabase, Trouble};
use crate::domain::secret::KeyHash;
use crate::domain::tenancy::{ApiKey, KeySecret};
use crate::store::ports::api_keys::ApiKeys;
use crate::store::ports::database::{Access, StoreError};
use crate::store::rows::{KeyText, limits_json, metadata_json, read_time, scopes_json, stored_time};
use async_trait::async_trait;
use rusqlite::{Row, Transaction, params};
use std::collections::HashMap;
use std::sync::Arc;

/// All in sight. What cannot be read is void and added to `problems`: it must not keep the others from being known.
pub(super) fn all(
    transaction: &Transaction<'_>,
    access: &Access,
    problems: &mut Vec<String>,
) -> Result<Vec<ApiKey>, Trouble> {
    let mut by_key: HashMap<String, Vec<KeySecret>> = HashMap::new();
    let mut query = transaction.prepare(
        "SELECT key_id, sha256, shown, created_at, expires_at FROM api_key_secrets \
         WHERE ?1 IS NULL OR org_id = ?1 ORDER BY created_at DESC, rowid DESC",
    )?;
    let mut rows = query.query(params![access.org()])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        match secret(row)? {
            Some(secret) => by_key.entry(id).or_default().push(secret),
            None => problems.push(format!("a secret of the key {id} is damaged (api_key_secrets): it lets nobody in")),
        }
    }
    let mut query = transaction.prepare(
        "SELECT id, org_id, project_id, name, owner, workflow, scopes, metadata, disabled, created_at, expires_at, revoked_at, limits \
         FROM api_keys WHERE ?1 IS NULL OR org_id = ?1 ORDER BY created_at, id",
    )?;
    let mut rows = query.query(params![access.org()])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(key(row, &mut by_key, problems)?);
    }
    Ok(keys)
}

fn secret(row: &Row<'_>) -> Result<Option<KeySecret>, Trouble> {
    let Some(hash) = KeyHash::from_hex(&row.get::<_, String>(1)?) else { return Ok(None) };
    Ok(Some(KeySecret {
        hash,
        shown: row.get(2)?,
        created_at: read_time(row.get(3)?),
        expires_at: row.get::<_, Option<i64>>(4)?.map(read_time),
    }))
}

fn key(
    row: &Row<'_>,
    secrets: &mut HashMap<String, Vec<KeySecret>>,
    problems: &mut Vec<String>,
) -> Result<ApiKey, Trouble> {
    let id: String = row.get(0)?;
    let (scopes, metadata, limits): (String, String, String) = (row.get(6)?, row.get(7)?, row.get(12)?);
    let read = KeyText { scopes: &scopes, metadata: &metadata, limits: &limits }.read(&id, problems);
    let text = |at| row.get::<_, String>(at).map(Arc::from);
    let time = |at| row.get::<_, Option<i64>>(at).map(|time| time.map(read_time));
    Ok(ApiKey {
        org: text(1)?,
        project: text(2)?,
        name: text(3)?,
        owner: row.get(4)?,
        workflow: row.get(5)?,
        limits: read.limits,
        scopes: read.scopes,
        metadata: read.metadata,
        disabled: read.is_void || row.get(8)?,
        created_at: read_time(row.get(9)?),
        expires_at: time(10)?,
        revoked_at: time(11)?,
        secrets: secrets.remove(&id).unwrap_or_default(),
        id: id.into(),
    })
}

pub(super) fn insert(transaction: &Transaction<'_>, key: &ApiKey) -> Result<(), Trouble> {
    transaction.execute(
        "INSERT INTO api_keys \
         (id, org_id, project_id, name, owner, workflow, scopes, metadata, disabled, created_at, expires_at, revoked_at, limits) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            &*key.id,
            &*key.org,
            &*key.project,
            &*key.name,
            key.owner,
            key.workflow,
            scopes_json(&key.scopes),
            metadata_json(&key.metadata),
            key.disabled,
            stored_time(key.created_at),
            key.expires_at.map(stored_time),
            key.revoked_at.map(stored_time),
            limits_json(&key.limits),
        ],
    )?;
    key.secrets.iter().rev().try_for_each(|secret| insert_secret(transaction, &key.id, &key.org, secret))
}

fn insert_secret(transaction: &Transaction<'_>, id: &str, org: &str, secret: &KeySecret) -> Result<(), Trouble> {
    transaction.execute(
        "INSERT INTO api_key_secrets (sha256, key_id, org_id, shown, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            secret.hash.to_hex(),
            id,
            org,
            secret.shown,
            stored_time(secret.created_at),
            secret.expires_at.map(stored_time)
        ],
    )?;
    Ok(())
}

#[async_trait]
impl ApiKeys for SqliteDatabase {
    async fn create_key(&self, access: &Access, key: &ApiKey) -> Result<(), StoreError> {
        let (access, key) = (access.clone(), key.clone());
        self.write(move |transaction| {
            if !access.reaches(Some(&key.org)) {
                return Err(Trouble::unknown("organisation"));
            }
            insert(transaction, &key)
        })
        .await
    }

    async fn keys(&self, access: &Access) -> Result<Vec<ApiKey>, StoreError> {
        let access = access.clone();
        self.read(move |transaction| all(transaction, &access, &mut Vec::new())).await
    }

    async fn revoke_key(&self, access: &Access, id: &str, now: u64) -> Result<bool, StoreError> {
        let (access, id) = (access.clone(), id.to_owned());
        self.write(move |transaction| {
            let put = "UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1 AND (?3 IS NULL OR org_id = ?3)";
            Ok(transaction.execute(put, params![id, stored_time(now), access.org()])? > 0)
        })
        .await
    }

    async fn forget_key(&self, access: &Access, id: &str) -> Result<bool, StoreError> {
        let (access, id) = (access.clone(), id.to_owned());
        self.write(move |transaction| {
            let is_it = "id = ?1 AND revoked_at IS NOT NULL AND (?2 IS NULL OR org_id = ?2)";
            let secrets =
                format!("DELETE FROM api_key_secrets WHERE key_id IN (SELECT id FROM api_keys WHERE {is_it})");
            transaction.execute(&secrets, params![id, access.org()])?;
            let key = format!("DELETE FROM api_keys WHERE {is_it}");
            Ok(transaction.execute(&key, params![id, access.org()])? > 0)
        })
        .await
    }

    async fn set_key_disabled(&self, access: &Access, id: &str, disabled: bool) -> Result<bool, StoreError> {
        let (access, id) = (access.clone(), id.to_owned());
        self.write(move |transaction| {
            let put = "UPDATE api_keys SET disabled = ?2 WHERE id = ?1 AND (?3 IS NULL OR org_id = ?3)";
            Ok(transaction.execute(put, params![id, disabled, access.org()])? > 0)
        })
        .await
    }

    async fn replace_key(&self, access: &Access, old: &ApiKey, new: &ApiKey) -> Result<bool, StoreError> {
        let (access, old, new) = (access.clone(), old.clone(), new.clone());
        self.write(move |transaction| {
            let now = all(transaction, &access, &mut Vec::new())?;
            if !now.contains(&old) {
                return Ok(false);
            }
            let put = "UPDATE api_keys SET name = ?2, project_id = ?3, owner = ?4, workflow = ?5, scopes = ?6, metadata = ?7, \
                       disabled = ?8, expires_at = ?9, limits = ?10 WHERE id = ?1";
            let values = params![
                &*old.id,
                &*new.name,
                &*new.project,
                new.owner,
                new.workflow,
                scopes_json(&new.scopes),
                metadata_json(&new.metadata),
                new.disabled,
                new.expires_at.map(stored_time),
                limits_json(&new.limits),
            ];
            Ok(transaction.execute(put, values)? > 0)
        })
        .await
    }

    async fn rotate_key(
        &self,
        access: &Access,
        id: &str,
        secret: &KeySecret,
        old_until: u64,
    ) -> Result<bool, StoreError> {
        let (access, id, secret) = (access.clone(), id.to_owned(), secret.clone());
        self.write(move |transaction| {
            let query =
                "SELECT org_id FROM api_keys WHERE id = ?1 AND revoked_at IS NULL AND (?2 IS NULL OR org_id = ?2)";
            let mut query = transaction.prepare(query)?;
            let mut rows = query.query(params![id, access.org()])?;
            let Some(row) = rows.next()? else { return Ok(false) };
            let org: String = row.get(0)?;
            let end = "UPDATE api_key_secrets SET expires_at = min(coalesce(expires_at, ?2), ?2) WHERE key_id = ?1";
            transaction.execute(end, params![id, stored_time(old_until)])?;
            insert_secret(transaction, &id, &org, &secret)?;
            Ok(true)
        })
        .await
    }
}
