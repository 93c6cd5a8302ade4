//! The gateway's own keys, which its clients present.

use super::database::{Access, StoreError};
use crate::domain::tenancy::{ApiKey, KeySecret};
use async_trait::async_trait;

/// Keeps the gateway's keys, as hashes. What concerns one key says `false` when there is none of that id in sight.
#[async_trait]
pub trait ApiKeys: Send + Sync {
    /// Adds a key with its secrets.
    ///
    /// # Errors
    /// A conflict when the name is taken, a refusal when the project is another's or there is none.
    async fn create_key(&self, access: &Access, key: &ApiKey) -> Result<(), StoreError>;

    /// All keys in sight, the oldest first, revoked ones included.
    ///
    /// # Errors
    /// The database's.
    async fn keys(&self, access: &Access) -> Result<Vec<ApiKey>, StoreError>;

    /// Makes a key void for good. One that was void already stays so since then.
    ///
    /// # Errors
    /// The database's.
    async fn revoke_key(&self, access: &Access, id: &str, now: u64) -> Result<bool, StoreError>;

    /// Takes away a key that is void, as if it had never been; nobody else's may be.
    ///
    /// # Errors
    /// The database's.
    async fn forget_key(&self, access: &Access, id: &str) -> Result<bool, StoreError>;

    /// Switches a key off or on.
    ///
    /// # Errors
    /// The database's.
    async fn set_key_disabled(&self, access: &Access, id: &str, disabled: bool) -> Result<bool, StoreError>;

    /// Puts what is written of a key in the place of what was: name, project, owner, workflow, scopes, limits, metadata, whether it is disabled,
    /// and its end. Says whether it was as `old` says; if not, nothing has changed. Secrets are left as they are.
    ///
    /// # Errors
    /// A conflict when the name is taken, a refusal when the project is another's or there is none.
    async fn replace_key(&self, access: &Access, old: &ApiKey, new: &ApiKey) -> Result<bool, StoreError>;

    /// Gives a key that is not revoked a new secret. The older ones end at `old_until`, or when they were to end anyway.
    ///
    /// # Errors
    /// The database's.
    async fn rotate_key(
        &self,
        access: &Access,
        id: &str,
        secret: &KeySecret,
        old_until: u64,
    ) -> Result<bool, StoreError>;
}
