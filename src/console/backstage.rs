//! What the console can have done to the gateway that runs beside it. The wiring does it: the console knows neither data plane nor vault's keys.

use crate::domain::Secret;
use crate::domain::audit::AuditEvent;
use crate::domain::stored_setting::StoredSetting;
use crate::domain::tenancy::SealedKey;
use crate::store::ports::answers::AnswersHeld;
use crate::store::ports::database::StoreError;
use crate::store::ports::live::{KeyStatus, TargetStatus};
use async_trait::async_trait;

/// Why a setting cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Its member that is wrong, where it is one.
    pub member: Option<String>,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl Unfit {
    /// It is about no member in particular.
    pub fn general(why: impl Into<String>) -> Self {
        Self { member: None, why: why.into() }
    }
}

/// What happens behind the console. Nothing here keeps a request of the data plane waiting.
#[async_trait]
pub trait Backstage: Send + Sync {
    /// Takes over what has changed in the database, so that it is in force on this node; says whether the database has answered. Others take it
    /// over a moment later.
    async fn take_over(&self) -> bool;

    /// Seals a key of a provider and puts it into the vault, with an entry in the audit log. The envelope of `key` is still empty.
    ///
    /// # Errors
    /// The vault's and the database's.
    async fn add_provider_key(&self, key: SealedKey, secret: Secret, event: AuditEvent) -> Result<(), StoreError>;

    /// Whether the configuration would be sound with a setting in the place of the one of its name.
    ///
    /// # Errors
    /// What would be wrong.
    async fn try_setting(&self, setting: StoredSetting) -> Result<(), Unfit>;

    /// The pool of provider keys as it is now.
    fn pool(&self) -> Vec<KeyStatus>;

    /// Makes a key that its provider had refused ready again; says whether there is one of that name which was.
    fn enable_key(&self, provider: &str, name: &str) -> bool;

    /// Breakers and health of all targets that were tried.
    fn targets(&self) -> Vec<TargetStatus>;

    /// What the cache of answers holds, and how many questions the index of the semantic cache.
    fn cached(&self) -> (AnswersHeld, u64);

    /// Empties both; says whether that could be done.
    async fn empty_cache(&self) -> bool;
}
