//! Keys of providers, sealed: what is kept here is of no use without the master key.

use super::database::{Access, StoreError};
use crate::domain::tenancy::SealedKey;
use async_trait::async_trait;

/// Keeps sealed keys. What concerns one key says `false` when there is none of that id in sight.
#[async_trait]
pub trait ProviderKeys: Send + Sync {
    /// Adds a key.
    ///
    /// # Errors
    /// A conflict when the provider has a key of that name, a refusal when it is another organisation's, or when it was sealed with another
    /// master key than [`ProviderKeys::master_key`], which every gateway of the database has.
    async fn add_provider_key(&self, access: &Access, key: &SealedKey) -> Result<(), StoreError>;

    /// All keys in sight, the oldest first.
    ///
    /// # Errors
    /// The database's.
    async fn provider_keys(&self, access: &Access) -> Result<Vec<SealedKey>, StoreError>;

    /// Takes a key away.
    ///
    /// # Errors
    /// The database's.
    async fn remove_provider_key(&self, access: &Access, id: &str) -> Result<bool, StoreError>;

    /// Puts an envelope in the place of another, unless somebody else has done so meanwhile.
    ///
    /// # Errors
    /// The database's.
    async fn reseal_provider_key(&self, access: &Access, id: &str, old: &str, new: &str) -> Result<bool, StoreError>;

    /// The id of the master key that new rows have to be sealed with; `None` while there never was one.
    ///
    /// # Errors
    /// The database's.
    async fn master_key(&self) -> Result<Option<String>, StoreError>;

    /// From now on new rows have to be sealed with this one.
    ///
    /// # Errors
    /// The database's.
    async fn set_master_key(&self, id: &str) -> Result<(), StoreError>;
}
