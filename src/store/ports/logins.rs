//! What people log in to the console with, and who is logged in.

use super::database::StoreError;
use crate::domain::secret::KeyHash;
use crate::domain::tenancy::{Membership, Person};
use async_trait::async_trait;
use std::sync::Arc;

/// What a password is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The person's id.
    pub person: Arc<str>,
    /// The hash of the password, in PHC form (`$argon2id$…`).
    pub password_hash: String,
}

/// Whose a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Whoever has shown the administrator's token of this hash. With another token the session is void.
    Administrator(KeyHash),
    /// A person, by id.
    Person(Arc<str>),
}

/// Somebody who is logged in. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The hash of what the browser has as a cookie.
    pub hash: KeyHash,
    /// Whose it is.
    pub holder: Holder,
    /// Where they logged in from.
    pub address: String,
    /// When.
    pub created_at: u64,
    /// When it ends.
    pub expires_at: u64,
}

/// A session with what its holder may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// The session.
    pub session: Session,
    /// The person; `None` for the administrator.
    pub person: Option<Person>,
    /// Where they are a member; all that is in force now, not when they logged in.
    pub memberships: Vec<Membership>,
}

/// Keeps passwords, as hashes, and sessions.
#[async_trait]
pub trait Logins: Send + Sync {
    /// What a password is checked against; `None` for nobody known, and for those who have no password or may not log in.
    ///
    /// # Errors
    /// The database's.
    async fn login(&self, email: &str) -> Result<Option<Login>, StoreError>;

    /// Gives a person another password; all their sessions end. Says whether there is such a person.
    ///
    /// # Errors
    /// The database's.
    async fn set_password(&self, person: &str, password_hash: &str) -> Result<bool, StoreError>;

    /// Keeps a session, and forgets those whose time is over when it begins.
    ///
    /// # Errors
    /// The database's.
    async fn begin_session(&self, session: &Session) -> Result<(), StoreError>;

    /// The session of a cookie; `None` where there is none, or its time is over at `now`, or its holder may not log in any more.
    ///
    /// # Errors
    /// The database's.
    async fn session(&self, hash: &KeyHash, now: u64) -> Result<Option<LoggedIn>, StoreError>;

    /// Ends a session.
    ///
    /// # Errors
    /// The database's.
    async fn end_session(&self, hash: &KeyHash) -> Result<(), StoreError>;
}
