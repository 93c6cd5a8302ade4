//! What belongs to the gateway itself and to no organisation.

use super::database::StoreError;
use crate::domain::secret::KeyHash;
use crate::domain::tenancy::ApiKey;
use async_trait::async_trait;

/// Keeps the administrator's token, and what the first start has made.
#[async_trait]
pub trait GatewayFacts: Send + Sync {
    /// The hash of the administrator's token.
    ///
    /// # Errors
    /// The database's.
    async fn admin_token(&self) -> Result<Option<KeyHash>, StoreError>;

    /// Keeps the hash of a new token instead of the old one.
    ///
    /// # Errors
    /// The database's.
    async fn set_admin_token(&self, hash: KeyHash) -> Result<(), StoreError>;

    /// Keeps these keys, and the token unless there is one, if there is no key at all: all of it or nothing. Says whether it has, so that of
    /// several gateways that start at once only one makes credentials.
    ///
    /// # Errors
    /// The database's.
    async fn begin_with(&self, keys: &[ApiKey], admin_token: Option<KeyHash>) -> Result<bool, StoreError>;

    /// Keeps a list of prices, as JSON, instead of the one before.
    ///
    /// # Errors
    /// The database's.
    async fn set_prices(&self, list: &str) -> Result<(), StoreError>;
}
