//! Budgets and credits: what may be spent. What was spent is not here, see [`super::accounts`].

use super::database::{Access, StoreError};
use crate::domain::budget::{Budget, Credit};
use async_trait::async_trait;

/// Keeps what may be spent.
#[async_trait]
pub trait Budgets: Send + Sync {
    /// Sets a budget, in the place of one for the same subject and span.
    ///
    /// # Errors
    /// A refusal when there is no such organisation in sight.
    async fn set_budget(&self, access: &Access, budget: &Budget, now: u64) -> Result<(), StoreError>;

    /// Takes a budget away; says whether there was one of that id in sight.
    ///
    /// # Errors
    /// The database's.
    async fn remove_budget(&self, access: &Access, id: &str) -> Result<bool, StoreError>;

    /// The budgets in sight, by organisation, payer, subject and span.
    ///
    /// # Errors
    /// The database's.
    async fn budgets(&self, access: &Access) -> Result<Vec<Budget>, StoreError>;

    /// Writes down that an organisation has paid in advance. That is the gateway's to say, never the organisation's own.
    ///
    /// # Errors
    /// A refusal when there is no such organisation.
    async fn add_credit(&self, credit: &Credit) -> Result<(), StoreError>;

    /// What was paid by the organisations in sight, the oldest first.
    ///
    /// # Errors
    /// The database's.
    async fn credits(&self, access: &Access) -> Result<Vec<Credit>, StoreError>;
}
