//! The audit log: written once, read later.

use super::database::{Access, StoreError};
use crate::domain::audit::{AuditEntry, AuditEvent};
use async_trait::async_trait;

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

    /// The latest entries in sight, the oldest first.
    ///
    /// # Errors
    /// The database's.
    async fn latest_entries(&self, access: &Access, most: u32) -> Result<Vec<AuditEntry>, StoreError>;
}
