//! What requests carried, as far as `telemetry.payloads` has it kept.

use super::database::{Access, StoreError};
use crate::domain::{Payloads, RequestId};
use async_trait::async_trait;

/// Keeps payloads. They pass the spool, as the ledger's rows do.
#[async_trait]
pub trait PayloadArchive: Send + Sync {
    /// Takes payloads over, all or none; those of a request that it has already are left as they are.
    ///
    /// # Errors
    /// The database's; then nothing of the batch is kept.
    async fn keep_payloads(&self, batch: &[Payloads]) -> Result<(), StoreError>;

    /// What a request carried, if it is in sight.
    ///
    /// # Errors
    /// The database's.
    async fn payloads(&self, access: &Access, id: RequestId) -> Result<Option<Payloads>, StoreError>;

    /// Deletes those of requests that arrived before this moment (Unix milliseconds). Returns how many there were.
    ///
    /// # Errors
    /// The database's.
    async fn forget_payloads(&self, before_unix_ms: u64) -> Result<u64, StoreError>;
}
