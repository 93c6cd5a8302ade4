//! Passwords and sessions of those who log in to the console. All of it is the gateway's own: no organisation sees any of it.

use super::{PostgresDatabase, Trouble};
use crate::domain::secret::KeyHash;
use crate::domain::tenancy::{Membership, Person, Role};
use crate::store::ports::database::{Access, StoreError};
use crate::store::ports::logins::{Holder, LoggedIn, Login, Logins, Session};
use crate::store::rows::{read_time, stored_time};
use async_trait::async_trait;
use std::sync::Arc;
use tokio_postgres::{Row, Transaction};

#[async_trait]
impl Logins for PostgresDatabase {
    async fn login(&self, email: &str) -> Result<Option<Login>, StoreError> {
        self.transact(&Access::System, async |transaction| {
            let query = "SELECT id, password_hash FROM users \
                         WHERE email = $1 AND disabled_at IS NULL AND password_hash IS NOT NULL";
            let Some(row) = transaction.query_opt(query, &[&email]).await? else { return Ok(None) };
            Ok(Some(Login { person: row.try_get::<_, &str>(0)?.into(), password_hash: row.try_get(1)? }))
        })
        .await
    }

    async fn set_password(&self, person: &str, password_hash: &str) -> Result<bool, StoreError> {
        self.transact(&Access::System, async |transaction| {
            transaction.execute("DELETE FROM sessions WHERE user_id = $1", &[&person]).await?;
            let put = "UPDATE users SET password_hash = $2 WHERE id = $1";
            Ok(transaction.execute(put, &[&person, &password_hash]).await? > 0)
        })
        .await
    }

    async fn begin_session(&self, session: &Session) -> Result<(), StoreError> {
        let Session { hash, holder, address, created_at, expires_at } = session;
        self.transact(&Access::System, async |transaction| {
            let (created, ends) = (stored_time(*created_at), stored_time(*expires_at));
            transaction.execute("DELETE FROM sessions WHERE expires_at <= $1", &[&created]).await?;
            let (user, token) = match holder {
                Holder::Person(id) => (Some(&**id), None),
                Holder::Administrator(token) => (None, Some(token.to_hex())),
            };
            let put = "INSERT INTO sessions (sha256, user_id, admin_sha256, address, created_at, expires_at) \
                       VALUES ($1, $2, $3, $4, $5, $6)";
            transaction.execute(put, &[&hash.to_hex(), &user, &token, address, &created, &ends]).await?;
            Ok(())
        })
        .await
    }

    async fn session(&self, hash: &KeyHash, now: u64) -> Result<Option<LoggedIn>, StoreError> {
        self.transact(&Access::System, async |transaction| {
            let query = "SELECT user_id, admin_sha256, address, created_at, expires_at FROM sessions \
                         WHERE sha256 = $1 AND expires_at > $2";
            let row = transaction.query_opt(query, &[&hash.to_hex(), &stored_time(now)]).await?;
            let Some(row) = row else { return Ok(None) };
            let Some(user) = row.try_get::<_, Option<&str>>(0)? else {
                let token = row.try_get::<_, Option<&str>>(1)?.and_then(KeyHash::from_hex);
                let token = token.ok_or_else(|| Trouble::damaged("sessions"))?;
                let session = session(&row, *hash, Holder::Administrator(token))?;
                return Ok(Some(LoggedIn { session, person: None, memberships: Vec::new() }));
            };
            let Some(person) = person(transaction, user).await? else { return Ok(None) };
            let memberships = memberships(transaction, &person.id).await?;
            let session = session(&row, *hash, Holder::Person(person.id.clone()))?;
            Ok(Some(LoggedIn { session, person: Some(person), memberships }))
        })
        .await
    }

    async fn end_session(&self, hash: &KeyHash) -> Result<(), StoreError> {
        self.transact(&Access::System, async |transaction| {
            transaction.execute("DELETE FROM sessions WHERE sha256 = $1", &[&hash.to_hex()]).await?;
            Ok(())
        })
        .await
    }
}

fn session(row: &Row, hash: KeyHash, holder: Holder) -> Result<Session, Trouble> {
    let (created_at, expires_at) = (read_time(row.try_get(3)?), read_time(row.try_get(4)?));
    Ok(Session { hash, holder, address: row.try_get(2)?, created_at, expires_at })
}

/// One who may log in.
async fn person(transaction: &Transaction<'_>, id: &str) -> Result<Option<Person>, Trouble> {
    let query = "SELECT id, email, name FROM users WHERE id = $1 AND disabled_at IS NULL";
    let Some(row) = transaction.query_opt(query, &[&id]).await? else { return Ok(None) };
    Ok(Some(Person { id: row.try_get::<_, &str>(0)?.into(), email: row.try_get(1)?, name: row.try_get(2)? }))
}

async fn memberships(transaction: &Transaction<'_>, person: &Arc<str>) -> Result<Vec<Membership>, Trouble> {
    let query = "SELECT org_id, role FROM memberships WHERE user_id = $1 ORDER BY org_id";
    let rows = transaction.query(query, &[&&**person]).await?;
    let membership = |row: &Row| {
        let (org, role): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let role = Role::from_name(role).ok_or_else(|| Trouble::damaged("memberships"))?;
        Ok(Membership { org: org.into(), person: person.clone(), role })
    };
    rows.iter().map(membership).collect()
}
