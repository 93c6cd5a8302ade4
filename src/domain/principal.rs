//! Who is asking, and with whose key a provider is asked.

use super::Secret;
use super::tenancy::ApiKey;
use std::sync::Arc;

/// The holder of a gateway key, as found by authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The key's name: its label in the configuration, or its masked form. Safe to log.
    pub key_name: Arc<str>,
    /// The key as the store has it; `None` for one of the configuration.
    pub key: Option<Arc<ApiKey>>,
}

/// One key of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderKey {
    /// Its name in the configuration, or `<provider>_01` and so on. Safe to log.
    pub name: Arc<str>,
    /// The key.
    pub secret: Secret,
}
