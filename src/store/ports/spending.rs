//! What was spent of an account, according to the ledger.

use super::database::StoreError;
use super::ledger::{Ledger, Subject};
use crate::domain::Money;
use crate::domain::budget::{Account, Payer, USER_SEPARATOR};
use async_trait::async_trait;

/// Tells what was spent of an account.
#[async_trait]
pub trait Spending: Send + Sync {
    /// What the requests of the account's span have cost, as far as they have reached the ledger.
    ///
    /// # Errors
    /// The database's.
    async fn spent_of(&self, account: &Account) -> Result<Money, StoreError>;
}

#[async_trait]
impl<L: Ledger + ?Sized> Spending for L {
    async fn spent_of(&self, account: &Account) -> Result<Money, StoreError> {
        let subject = account.subject.clone();
        let subject = match account.payer {
            Payer::Org => Subject::Org(subject),
            Payer::Project => Subject::Project(subject),
            Payer::Key => Subject::Key(subject),
            Payer::User => match subject.split_once(USER_SEPARATOR) {
                Some((org, user)) => Subject::User { org: org.into(), user: user.into() },
                None => return Ok(Money::ZERO),
            },
        };
        self.spent(&subject, account.from_day, account.last_day()).await
    }
}
