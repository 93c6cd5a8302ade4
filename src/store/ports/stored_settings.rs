//! Models, presets and routing settings that were made in the console.

use super::database::StoreError;
use crate::domain::stored_setting::{SettingKind, StoredSetting};
use async_trait::async_trait;

/// Keeps them. They are the gateway's own and hold for all organisations.
#[async_trait]
pub trait StoredSettings: Send + Sync {
    /// Puts a setting in the place of the one that was there: `old` is its body, `None` where there was none. Says whether that was so; if not,
    /// nothing has changed.
    ///
    /// # Errors
    /// The database's.
    async fn put_setting(&self, setting: &StoredSetting, old: Option<&str>) -> Result<bool, StoreError>;

    /// Takes a setting away whose body is still this; says whether there was one.
    ///
    /// # Errors
    /// The database's.
    async fn remove_setting(&self, kind: SettingKind, name: &str, old: &str) -> Result<bool, StoreError>;

    /// All settings, by kind and name. Everybody may see them.
    ///
    /// # Errors
    /// The database's.
    async fn settings(&self) -> Result<Vec<StoredSetting>, StoreError>;
}
