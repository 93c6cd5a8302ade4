//! The audit log: written once, read later.

use super::database::{Access, StoreError};
use crate::domain::audit::{AuditEntry, AuditEvent};
use async_trait::async_trait;
use std::time::{SystemTime, UNIX_EPOCH};

/// Keeps the audit log. There is no way to change what stands in it.
#[async_trait]
pub trait Audit: Send + Sync {
    /// Adds an entry at the end of the chain. Of several at once, each gets a place of its own.
    ///
    /// # Errors
    /// The database's.
    async fn append(&self, event: &AuditEvent) -> Result<AuditEntry, StoreError>;

    /// The entries behind a place, the oldest first, at most so many: all of them, for the chain to be checked.
    ///
    /// # Errors
    /// The database's.
    async fn entries_after(&self, seq: u64, most: u32) -> Result<Vec<AuditEntry>, StoreError>;

    /// The latest entries in sight before a place, the newest first, at most so many.
    ///
    /// # Errors
    /// The database's.
    async fn entries_before(&self, access: &Access, seq: u64, most: u32) -> Result<Vec<AuditEntry>, StoreError>;

    /// The latest entries in sight, the oldest first.
    ///
    /// # Errors
    /// The database's.
    async fn latest_entries(&self, access: &Access, most: u32) -> Result<Vec<AuditEntry>, StoreError>;
}

/// What a change can say of itself.
pub trait Change {
    /// Whether there was anything to change.
    fn is_made(&self) -> bool;
}

impl Change for () {
    fn is_made(&self) -> bool {
        true
    }
}

impl Change for bool {
    fn is_made(&self) -> bool {
        *self
    }
}

/// Makes a change that is written down before: nothing changes without an entry. One that fails then, or finds nothing to change, gets a
/// second entry.
///
/// # Errors
/// The database's, of either.
pub async fn noted<A: Audit + ?Sized, T: Change>(
    database: &A,
    event: AuditEvent,
    change: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    database.append(&event).await?;
    let outcome = change.await;
    let failure = match &outcome {
        Ok(change) => (!change.is_made()).then(|| "nothing was there to change".to_owned()),
        // Whoever reads the log of an organisation need not be who looks after the gateway.
        Err(error) => Some(error.told_to_members().to_owned()),
    };
    if let Some(why) = failure {
        let details = serde_json::json!({"why": why}).to_string();
        let failed = AuditEvent { at: now_ms(), action: format!("{}.failed", event.action), details, ..event };
        // What is to be told is why the change failed.
        let _ = database.append(&failed).await;
    }
    outcome
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
