//! What was spent of an account, according to the ledger.

use super::database::StoreError;
use crate::domain::Money;
use crate::domain::budget::Account;
use async_trait::async_trait;

/// Tells what was spent of an account.
#[async_trait]
pub trait Spending: Send + Sync {
    /// What the requests of the account's span have cost, as far as they have reached the ledger.
    ///
    /// # Errors
    /// The database's.
    async fn spent(&self, account: &Account) -> Result<Money, StoreError>;
}
