//! Passwords and sessions of those who log in to the console.

use super::{SqliteDatabase, Trouble};
use crate::domain::secret::KeyHash;
use crate::domain::tenancy::{Membership, Person, Role};
use crate::store::ports::database::StoreError;
use crate::store::ports::logins::{Holder, LoggedIn, Login, Logins, Session};
use crate::store::rows::{read_time, stored_time};
use async_trait::async_trait;
use rusqlite::{OptionalExtension, Transaction, params};
use std::sync::Arc;

#[async_trait]
impl Logins for SqliteDatabase {
    async fn login(&self, email: &str) -> Result<Option<Login>, StoreError> {
        let email = email.to_owned();
        self.read(move |transaction| {
            let query = "SELECT id, password_hash FROM users \
                         WHERE email = ?1 AND disabled_at IS NULL AND password_hash IS NOT NULL";
            let login = transaction.query_row(query, params![email], |row| {
                Ok(Login { person: row.get::<_, String>(0)?.into(), password_hash: row.get(1)? })
            });
            Ok(login.optional()?)
        })
        .await
    }

    async fn set_password(&self, person: &str, password_hash: &str) -> Result<bool, StoreError> {
        let (person, password_hash) = (person.to_owned(), password_hash.to_owned());
        self.write(move |transaction| {
            transaction.execute("DELETE FROM sessions WHERE user_id = ?1", params![person])?;
            let put = "UPDATE users SET password_hash = ?2 WHERE id = ?1";
            Ok(transaction.execute(put, params![person, password_hash])? > 0)
        })
        .await
    }

    async fn begin_session(&self, session: &Session) -> Result<(), StoreError> {
        let Session { hash, holder, address, created_at, expires_at } = session.clone();
        self.write(move |transaction| {
            transaction.execute("DELETE FROM sessions WHERE expires_at <= ?1", params![stored_time(created_at)])?;
            let (user, token) = match &holder {
                Holder::Person(id) => (Some(&**id), None),
                Holder::Administrator(token) => (None, Some(token.to_hex())),
            };
            let put = "INSERT INTO sessions (sha256, user_id, admin_sha256, address, created_at, expires_at) \
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let (created, ends) = (stored_time(created_at), stored_time(expires_at));
            transaction.execute(put, params![hash.to_hex(), user, token, address, created, ends])?;
            Ok(())
        })
        .await
    }

    async fn session(&self, hash: &KeyHash, now: u64) -> Result<Option<LoggedIn>, StoreError> {
        let hash = *hash;
        self.read(move |transaction| {
            let query = "SELECT user_id, admin_sha256, address, created_at, expires_at FROM sessions \
                         WHERE sha256 = ?1 AND expires_at > ?2";
            let row = transaction.query_row(query, params![hash.to_hex(), stored_time(now)], |row| {
                let (user, token): (Option<String>, Option<String>) = (row.get(0)?, row.get(1)?);
                let (address, created, ends): (String, i64, i64) = (row.get(2)?, row.get(3)?, row.get(4)?);
                Ok((user, token, address, created, ends))
            });
            let Some((user, token, address, created, ends)) = row.optional()? else { return Ok(None) };
            let session =
                |holder| Session { hash, holder, address, created_at: read_time(created), expires_at: read_time(ends) };
            let Some(user) = user else {
                let token = token.as_deref().and_then(KeyHash::from_hex);
                let token = token.ok_or_else(|| Trouble::damaged("sessions"))?;
                let session = session(Holder::Administrator(token));
                return Ok(Some(LoggedIn { session, person: None, memberships: Vec::new() }));
            };
            let Some(person) = person(transaction, &user)? else { return Ok(None) };
            let memberships = memberships(transaction, &person.id)?;
            let session = session(Holder::Person(person.id.clone()));
            Ok(Some(LoggedIn { session, person: Some(person), memberships }))
        })
        .await
    }

    async fn end_session(&self, hash: &KeyHash) -> Result<(), StoreError> {
        let hash = hash.to_hex();
        self.write(move |transaction| {
            transaction.execute("DELETE FROM sessions WHERE sha256 = ?1", params![hash])?;
            Ok(())
        })
        .await
    }
}

/// One who may log in.
fn person(transaction: &Transaction<'_>, id: &str) -> Result<Option<Person>, Trouble> {
    let query = "SELECT id, email, name FROM users WHERE id = ?1 AND disabled_at IS NULL";
    let person = transaction.query_row(query, params![id], |row| {
        Ok(Person { id: row.get::<_, String>(0)?.into(), email: row.get(1)?, name: row.get(2)? })
    });
    Ok(person.optional()?)
}

fn memberships(transaction: &Transaction<'_>, person: &Arc<str>) -> Result<Vec<Membership>, Trouble> {
    let mut query = transaction.prepare("SELECT org_id, role FROM memberships WHERE user_id = ?1 ORDER BY org_id")?;
    let mut rows = query.query(params![&**person])?;
    let mut memberships = Vec::new();
    while let Some(row) = rows.next()? {
        let (org, role): (String, String) = (row.get(0)?, row.get(1)?);
        let role = Role::from_name(&role).ok_or_else(|| Trouble::damaged("memberships"))?;
        memberships.push(Membership { org: org.into(), person: person.clone(), role });
    }
    Ok(memberships)
}
