//! The ledger: every finished request once, what was spent, and the way there (the spool).

use super::database::{Access, StoreError};
use crate::domain::{Ended, LedgerRow, Money, Payloads, RequestId};
use async_trait::async_trait;
use std::sync::Arc;

/// Whose spending is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An organisation, by its id.
    Org(Arc<str>),
    /// A project, by its id.
    Project(Arc<str>),
    /// A key, by [`LedgerRow::key_id`].
    Key(Arc<str>),
    /// An end user of an organisation, as its clients name them.
    User {
        /// The organisation's id.
        org: Arc<str>,
        /// The user.
        user: Arc<str>,
    },
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Rows that the ledger did not have.
    pub inserted: u64,
    /// Rows that it had in an earlier revision.
    pub amended: u64,
    /// Rows that it had.
    pub known: u64,
}

/// Which requests are listed; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Arrived at this moment or later, in Unix milliseconds.
    pub from_unix_ms: Option<u64>,
    /// Arrived before this moment, in Unix milliseconds.
    pub until_unix_ms: Option<u64>,
    /// The project's id.
    pub project: Option<String>,
    /// The key's id or name.
    pub key: Option<String>,
    /// The end user.
    pub user: Option<String>,
    /// The model that served or was asked for.
    pub model: Option<String>,
    /// The provider.
    pub provider: Option<String>,
    /// The trace.
    pub trace_id: Option<String>,
    /// The session.
    pub session_id: Option<String>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// The lowest and the highest status.
    pub status: Option<(u16, u16)>,
    /// Whether it came out otherwise than complete and without an error.
    pub failed: Option<bool>,
    /// A part of its id, of its models, its provider, its error's code, or of the names of key, user, trace or session.
    pub text: Option<String>,
}

/// A place in a list, the newest first: behind this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When it arrived, in Unix milliseconds.
    pub arrived_unix_ms: u64,
    /// The request.
    pub id: RequestId,
}

/// Part of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The requests, the newest first.
    pub rows: Vec<LedgerRow<'static>>,
    /// Where the list goes on; `None` at its end.
    pub next: Option<Cursor>,
}

impl Page {
    /// A page of so many rows at most out of what was found: if that was one more, the list goes on.
    pub fn of(mut rows: Vec<LedgerRow<'static>>, most: u32) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let is_more = rows.len() > most;
        rows.truncate(most);
        let last = rows.last().filter(|_| is_more);
        let next = last.map(|row| Cursor { arrived_unix_ms: row.arrived_unix_ms, id: row.id });
        Self { rows, next }
    }
}

/// Keeps the ledger.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Takes rows over, all or none. A row that is there already, in this revision or a later one, is left as it is; what is spent changes
    /// by those alone that were really taken over, in the same transaction.
    ///
    /// # Errors
    /// The database's; then nothing of the batch is kept.
    async fn write(&self, batch: &Arc<[LedgerRow<'static>]>) -> Result<Kept, StoreError>;

    /// What was spent from one day up to and with another (see [`crate::domain::ledger::day_of`]), to the pico-dollar.
    ///
    /// # Errors
    /// The database's.
    async fn spent(&self, subject: &Subject, from_day: u32, to_day: u32) -> Result<Money, StoreError>;

    /// What each end user of an organisation has spent in that time, of at most so many: those who have spent most.
    ///
    /// # Errors
    /// The database's.
    async fn spent_by_users(
        &self,
        org: &str,
        from_day: u32,
        to_day: u32,
        most: u32,
    ) -> Result<Vec<(String, Money)>, StoreError>;

    /// The row of a request, if it is in sight.
    ///
    /// # Errors
    /// The database's.
    async fn find(&self, access: &Access, id: RequestId) -> Result<Option<LedgerRow<'static>>, StoreError>;

    /// Requests in sight, the newest first: those behind a place in the list, at most so many.
    ///
    /// # Errors
    /// The database's.
    async fn list(
        &self,
        access: &Access,
        filter: &Filter,
        behind: Option<Cursor>,
        most: u32,
    ) -> Result<Page, StoreError>;

    /// Deletes the rows of all days before this one; what was spent on them is kept. Returns how many there were; an estimate,
    /// where to count them would take long.
    ///
    /// # Errors
    /// The database's; days that were deleted until then stay so.
    async fn forget_before(&self, day: u32) -> Result<u64, StoreError>;
}

/// Takes down rows before they are in a database.
pub trait Spool: Send + Sync {
    /// Takes a row down. When this returns, the death of the process does not lose it; where the disk does not take it, it waits in memory.
    /// What is lost because even that is full is counted.
    fn append(&self, row: &LedgerRow<'_>);

    /// Takes down what a request carried; `false` where there is no room for it. Rows go first: payloads have half of the spool at most, and
    /// do not wait in memory.
    fn append_payloads(&self, payloads: &Payloads) -> bool;
}
