//! What has been spent of budgets and credits, and what is reserved of them: drawn on before a provider is asked, settled afterwards.

use crate::domain::budget::{Account, Draw};
use crate::domain::{Money, OnOutage};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// A part of every account that a request draws on, kept for it until it is settled or its time is over.
#[derive(Debug)]
pub struct Reservation {
    /// The accounts.
    pub accounts: Vec<Account>,
    /// What is reserved of each of them.
    pub amount: Money,
    /// Which one it is, of those in this process.
    pub number: u64,
    /// The node under whose name it stands in a store that several share; `None` when it is this process's alone.
    pub node: Option<Arc<str>>,
}

/// Where an account stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Settled.
    pub spent: Money,
    /// Reserved by requests that are not settled yet.
    pub reserved: Money,
}

/// Why nothing was reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// An account has not enough left: the first of the request's that has not.
    Short {
        /// Its place in what was asked for.
        at: usize,
        /// Where it stands.
        balance: Balance,
    },
    /// Whoever keeps the accounts cannot be asked, and nobody else may decide: the store that nodes share, where the operator wants nothing to
    /// pass then ([`OnOutage::Deny`]), or the process that has taken this one's accounts over.
    Outage,
}

/// The accounts behind budgets and credits. At every moment `spent + reserved` of an account is at most what a draw has named as its limit,
/// but for costs that turn out higher than what was reserved for them: these are booked as they are.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Reserves an amount of every account, or nothing of any. It is given up by itself after `ttl`. `now` is Unix milliseconds.
    ///
    /// # Errors
    /// What stands in the way.
    async fn reserve(&self, draws: &[Draw], amount: Money, ttl: Duration, now: u64) -> Result<Reservation, Refused>;

    /// Ends a reservation: what was spent is booked, the rest is free again. One that was given up in the meantime is booked all the same.
    /// Never waits, because it is called when things are dropped.
    ///
    /// Less than nothing gives back so much of what was booked before: then the ledger was told already, though it may not say so for a
    /// while.
    fn settle(&self, reservation: Reservation, spent: Money, now: u64);

    /// Takes note of what was spent of an account according to the ledger: less than that it cannot be.
    fn observe(&self, account: &Account, spent: Money);

    /// Where the accounts that this process knows stand, as far as it knows.
    fn balances(&self) -> Vec<(Account, Balance)>;

    /// Forgets accounts whose span is over at `now` (Unix milliseconds).
    fn forget_past(&self, now: u64);

    /// What is done from now on while the store that nodes share cannot be asked. Nothing, where there is none.
    fn set_on_outage(&self, _choice: OnOutage) {}
}
