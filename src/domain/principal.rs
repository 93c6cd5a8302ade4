//! Who is asking, and with whose key a provider is asked.

use super::Secret;
use super::secret::KeyHash;
use std::sync::Arc;

/// The holder of a gateway key, as found by authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The key's name: its label in the configuration, or its masked form. Safe to log.
    pub key_name: Arc<str>,
    /// The key's hash: who it is, where names may be alike.
    pub key_hash: KeyHash,
}

/// One key of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderKey {
    /// Its name in the configuration, or `<provider>_01` and so on. Safe to log.
    pub name: Arc<str>,
    /// The key.
    pub secret: Secret,
}
