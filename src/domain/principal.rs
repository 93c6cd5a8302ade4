//! Who is asking, and with whose key a provider is asked.

use super::secret::KeyHash;
use super::tenancy::{ApiKey, DEFAULT_ORG};
use super::{KeyQuota, Secret};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// The holder of a gateway key, as found by authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The key's name: its label in the configuration, or its masked form. Safe to log.
    pub key_name: Arc<str>,
    /// Who it is, where names may be alike: the hash of a key of the configuration, the hash of the id of one of the database, which a
    /// rotation does not change.
    pub key_hash: KeyHash,
    /// The key as the database has it; `None` for one of the configuration.
    pub key: Option<Arc<ApiKey>>,
    /// Whether what its requests carry may be kept anywhere.
    pub stores: bool,
}

impl Principal {
    /// The organisation that the key belongs to.
    pub fn org(&self) -> Arc<str> {
        static DEFAULT: LazyLock<Arc<str>> = LazyLock::new(|| DEFAULT_ORG.into());
        self.key.as_ref().map_or_else(|| DEFAULT.clone(), |key| key.org.clone())
    }

    /// Its id, by which its spending is known: that of a key of the database; for one of the configuration `cfg_` and the beginning of its
    /// hash.
    pub fn id(&self) -> Arc<str> {
        match &self.key {
            Some(key) => key.id.clone(),
            None => self.key_id().into(),
        }
    }

    /// The same, borrowed where it can be.
    pub fn key_id(&self) -> Cow<'_, str> {
        match &self.key {
            Some(key) => Cow::Borrowed(&*key.id),
            None => {
                let hash = self.key_hash.to_hex();
                format!("cfg_{}", hash.get(..16).unwrap_or(&hash)).into()
            }
        }
    }
}

/// Which key it is: the beginning of a hash of its text. A name may stand for another key after a reload, this never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId(u64);

impl KeyId {
    /// The identity of a key with this text.
    pub fn of(secret: &Secret) -> Self {
        let digest = Sha256::digest(secret.reveal().as_bytes());
        Self(digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte)))
    }

    /// The id that is written so; `None` when it is none.
    pub fn from_hex(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

/// 16 hexadecimal digits, which nodes know it by among each other.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One key of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderKey {
    /// Its name in the configuration, or `<provider>_01` and so on. Safe to log.
    pub name: Arc<str>,
    /// The key.
    pub secret: Secret,
    /// Which key it is.
    pub id: KeyId,
    /// Its limits, where the operator has set any.
    pub quota: KeyQuota,
    /// The keys of one group share one quota at their providers.
    pub group: Option<Arc<str>>,
}

impl ProviderKey {
    /// A key without limits of its own.
    pub fn new(name: impl Into<Arc<str>>, secret: Secret) -> Self {
        Self { name: name.into(), id: KeyId::of(&secret), secret, quota: KeyQuota::default(), group: None }
    }
}
