//! The credentials that the gateway made itself and must know again after a restart.

use crate::domain::secret::KeyHash;
use std::fmt;
use std::sync::Arc;

/// What is kept: hashes, never a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredCredentials {
    /// The gateway keys.
    pub keys: Vec<StoredKey>,
    /// The hash of the administrator's token.
    pub admin_token: Option<KeyHash>,
}

/// A gateway key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Its name: the masked form. Safe to log.
    pub name: Arc<str>,
    /// Its hash.
    pub hash: KeyHash,
}

/// Why credentials could not be read or kept.
#[derive(Debug)]
pub enum CredentialsError {
    /// The system refused.
    Io {
        /// What was tried, with the place: `write /var/lib/orbyt/credentials.json`.
        what: String,
        /// Why it failed.
        error: std::io::Error,
    },
    /// What is there is not what was written. It is left as it is.
    Corrupt {
        /// Where it is.
        place: String,
        /// What is wrong with it.
        why: String,
    },
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { what, error } => write!(f, "cannot {what}: {error}"),
            Self::Corrupt { place, why } => write!(
                f,
                "{place} is damaged ({why}) and was left as it is; restore it, or move it away to begin with new credentials"
            ),
        }
    }
}

impl std::error::Error for CredentialsError {}

/// Keeps [`StoredCredentials`].
pub trait Credentials: Send + Sync {
    /// What is kept; nothing at all when nothing was ever kept.
    ///
    /// # Errors
    /// When it cannot be read, or when it is damaged.
    fn load(&self) -> Result<StoredCredentials, CredentialsError>;

    /// Keeps these instead of what was kept before: all of it or, when it fails, what was there before.
    ///
    /// # Errors
    /// When it cannot be written.
    fn save(&self, credentials: &StoredCredentials) -> Result<(), CredentialsError>;
}
