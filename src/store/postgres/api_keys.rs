//! The gateway's own keys.

use super::{PostgresDatabase, Trouble};
use crate::domain::secret::KeyHash;
use crate::domain::tenancy::{ApiKey, KeySecret};
use crate::store::ports::api_keys::ApiKeys;
use crate::store::ports::database::{Access, StoreError};
use crate::store::rows::{KeyText, limits_json, metadata_json, read_time, scopes_json, stored_time};
use async_trait::async_trait;
use std::collections::HashMap;
use tokio_postgres::{Row, Transaction};

/// All that the transaction's role sees. What cannot be read is void and added to `problems`: it must not keep the others from being known.
pub(super) async fn all(transaction: &Transaction<'_>, problems: &mut Vec<String>) -> Result<Vec<ApiKey>, Trouble> {
    let query = "SELECT key_id, sha256, shown, created_at, expires_at FROM api_key_secrets \
                 ORDER BY created_at DESC, (expires_at IS NULL) DESC";
    let mut by_key: HashMap<String, Vec<KeySecret>> = HashMap::new();
    for row in transaction.query(query, &[]).await? {
        let id: String = row.try_get(0)?;
        match secret(&row)? {
            Some(secret) => by_key.entry(id).or_default().push(secret),
            None => problems.push(format!("a secret of the key {id} is damaged (api_key_secrets): it lets nobody in")),
        }
    }
    let query = "SELECT id, org_id, project_id, name, owner, workflow, scopes::text, metadata::text, disabled, created_at, \
                 expires_at, revoked_at, limits::text FROM api_keys ORDER BY created_at, id";
    transaction.query(query, &[]).await?.iter().map(|row| key(row, &mut by_key, problems)).collect()
}

fn secret(row: &Row) -> Result<Option<KeySecret>, Trouble> {
    let Some(hash) = KeyHash::from_hex(row.try_get(1)?) else { return Ok(None) };
    Ok(Some(KeySecret {
        hash,
        shown: row.try_get(2)?,
        created_at: read_time(row.try_get(3)?),
        expires_at: row.try_get::<_, Option<i64>>(4)?.map(read_time),
    }))
}

fn key(
    row: &Row,
    secrets: &mut HashMap<String, Vec<KeySecret>>,
    problems: &mut Vec<String>,
) -> Result<ApiKey, Trouble> {
    let id: &str = row.try_get(0)?;
    let read =
        KeyText { scopes: row.try_get(6)?, metadata: row.try_get(7)?, limits: row.try_get(12)? }.read(id, problems);
    let text = |at| row.try_get::<_, &str>(at);
    let time = |at| row.try_get::<_, Option<i64>>(at).map(|time| time.map(read_time));
    Ok(ApiKey {
        id: id.into(),
        org: text(1)?.into(),
        project: text(2)?.into(),
        name: text(3)?.into(),
        owner: row.try_get(4)?,
        workflow: row.try_get(5)?,
        limits: read.limits,
        scopes: read.scopes,
        metadata: read.metadata,
        disabled: read.is_void || row.try_get(8)?,
        created_at: read_time(row.try_get(9)?),
        expires_at: time(10)?,
        revoked_at: time(11)?,
        secrets: secrets.remove(id).unwrap_or_default(),
    })
}

pub(super) async fn insert(transaction: &Transaction<'_>, key: &ApiKey) -> Result<(), Trouble> {
    let put = "INSERT INTO api_keys \
               (id, org_id, project_id, name, owner, workflow, scopes, metadata, disabled, created_at, expires_at, revoked_at, limits) \
               VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8::text::jsonb, $9, $10, $11, $12, $13::text::jsonb)";
    transaction
        .execute(
            put,
            &[
                &&*key.id,
                &&*key.org,
                &&*key.project,
                &&*key.name,
                &key.owner,
                &key.workflow,
                &scopes_json(&key.scopes),
                &metadata_json(&key.metadata),
                &key.disabled,
                &stored_time(key.created_at),
                &key.expires_at.map(stored_time),
                &key.revoked_at.map(stored_time),
                &limits_json(&key.limits),
            ],
        )
        .await?;
    for secret in &key.secrets {
        insert_secret(transaction, &key.id, &key.org, secret).await?;
    }
    Ok(())
}

async fn insert_secret(transaction: &Transaction<'_>, id: &str, org: &str, secret: &KeySecret) -> Result<(), Trouble> {
    let put = "INSERT INTO api_key_secrets (sha256, key_id, org_id, shown, created_at, expires_at) \
               VALUES ($1, $2, $3, $4, $5, $6)";
    let (created, ends) = (stored_time(secret.created_at), secret.expires_at.map(stored_time));
    transaction.execute(put, &[&secret.hash.to_hex(), &id, &org, &secret.shown, &created, &ends]).await?;
    Ok(())
}

#[async_trait]
impl ApiKeys for PostgresDatabase {
    async fn create_key(&self, access: &Access, key: &ApiKey) -> Result<(), StoreError> {
        self.transact(access, async |transaction| insert(transaction, key).await).await
    }

    async fn keys(&self, access: &Access) -> Result<Vec<ApiKey>, StoreError> {
        self.transact(access, async |transaction| all(transaction, &mut Vec::new()).await).await
    }

    async fn revoke_key(&self, access: &Access, id: &str, now: u64) -> Result<bool, StoreError> {
        self.transact(access, async |transaction| {
            let put = "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1";
            Ok(transaction.execute(put, &[&id, &stored_time(now)]).await? > 0)
        })
        .await
    }

    async fn forget_key(&self, access: &Access, id: &str) -> Result<bool, StoreError> {
        self.transact(access, async |transaction| {
            let is_it = "id = $1 AND revoked_at IS NOT NULL";
            let secrets =
                format!("DELETE FROM api_key_secrets WHERE key_id IN (SELECT id FROM api_keys WHERE {is_it})");
            transaction.execute(&secrets, &[&id]).await?;
            Ok(transaction.execute(&format!("DELETE FROM api_keys WHERE {is_it}"), &[&id]).await? > 0)
        })
        .await
    }

    async fn set_key_disabled(&self, access: &Access, id: &str, disabled: bool) -> Result<bool, StoreError> {
        self.transact(access, async |transaction| {
            let put = "UPDATE api_keys SET disabled = $2 WHERE id = $1";
            Ok(transaction.execute(put, &[&id, &disabled]).await? > 0)
        })
        .await
    }

    async fn replace_key(&self, access: &Access, old: &ApiKey, new: &ApiKey) -> Result<bool, StoreError> {
        self.transact(access, async |transaction| {
            transaction.execute("SELECT 1 FROM api_keys WHERE id = $1 FOR UPDATE", &[&&*old.id]).await?;
            let now = all(transaction, &mut Vec::new()).await?;
            if !now.contains(old) {
                return Ok(false);
            }
            let put = "UPDATE api_keys SET name = $2, project_id = $3, owner = $4, workflow = $5, scopes = $6::text::jsonb, \
                       metadata = $7::text::jsonb, disabled = $8, expires_at = $9, limits = $10::text::jsonb WHERE id = $1";
            let ends = new.expires_at.map(stored_time);
            let (scopes, metadata) = (scopes_json(&new.scopes), metadata_json(&new.metadata));
            let changed = transaction
                .execute(
                    put,
                    &[
                        &&*old.id,
                        &&*new.name,
                        &&*new.project,
                        &new.owner,
                        &new.workflow,
                        &scopes,
                        &metadata,
                        &new.disabled,
                        &ends,
                        &limits_json(&new.limits),
                    ],
                )
                .await?;
            Ok(changed > 0)
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
        self.transact(access, async |transaction| {
            let query = "SELECT org_id FROM api_keys WHERE id = $1 AND revoked_at IS NULL FOR UPDATE";
            let Some(row) = transaction.query_opt(query, &[&id]).await? else { return Ok(false) };
            let end = "UPDATE api_key_secrets SET expires_at = least(expires_at, $2) WHERE key_id = $1";
            transaction.execute(end, &[&id, &stored_time(old_until)]).await?;
            insert_secret(transaction, id, row.try_get(0)?, secret).await?;
            Ok(true)
        })
        .await
    }
}
