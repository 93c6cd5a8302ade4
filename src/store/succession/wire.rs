//! What processes say to each other about the books: lines of JSON over a Unix socket, each of which is answered before the next one.

use crate::domain::budget::{Account, Draw};
use crate::domain::{Money, Scope};
use crate::store::file;
use crate::store::memory::{KeptSubject, OpenReservation};
use crate::store::ports::accounts::Balance;
use crate::store::ports::limits::Subject;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead};
use std::sync::Arc;

/// The version of what is said. Whoever keeps the books gives them only to those who know the same.
pub(super) const PROTOCOL: u32 = 2;
/// The longest line: the books of many users.
const LONGEST: u64 = 256 << 20;

/// What the one who keeps the books is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// The books are wanted, by a process that is to keep them from now on.
    Take { protocol: u32 },
    /// Whoever has taken them serves: they are not to be taken back when it ends.
    Serves,
    /// A process that keeps them no more, and what it has open. The first thing that it says.
    Hello(Open),
    /// Nothing: whether anybody is there.
    Ping,
    /// Something is to be reserved.
    Reserve { number: u64, draws: Vec<Draw>, amount: Money, until: u64 },
    /// A reservation is over.
    Settle {
        /// The how manieth of its settlements this is: said again, because no answer was heard, it is the same one.
        said: u64,
        number: u64,
        accounts: Vec<Account>,
        amount: Money,
        spent: Money,
        /// What was spent may stand in the ledger already.
        in_ledger: bool,
    },
    /// A request has passed the limits.
    Began { subjects: Vec<Subject>, tokens: u64 },
    /// It is over.
    Ended { subjects: Vec<Subject>, tokens: u64, used: u64 },
}

/// What is answered.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The books.
    Books(Box<Estate>),
    /// It is done.
    Done,
    /// The account at this place of those that were asked for has not enough left.
    Short { at: usize, spent: Money, reserved: Money },
    /// Somebody else keeps the books.
    NotHere,
}

impl Answer {
    pub(super) fn short(at: usize, Balance { spent, reserved }: Balance) -> Self {
        Self::Short { at, spent, reserved }
    }
}

/// What a process has open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open {
    /// Which process.
    pub(super) holder: String,
    /// What it has reserved.
    pub(super) reservations: Vec<OpenReservation>,
    /// Its requests in flight, by the subjects of their limits.
    pub(super) places: Vec<(Scope, Arc<str>, u64)>,
    /// The last of its settlements that is booked, as far as whoever gives the books away has heard of any.
    pub(super) settled: u64,
}

/// The books.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Estate {
    /// What was spent.
    pub(super) spent: Vec<(Account, Money)>,
    /// What is open, of each process that is still there: of the one that gives the books away too.
    pub(super) open: Vec<Open>,
    /// The buckets of the limits.
    pub(super) limits: Vec<KeptSubject>,
}

/// Reads what is said; `None` at the end.
pub(super) fn hear<T: DeserializeOwned>(stream: &mut impl BufRead) -> io::Result<Option<T>> {
    file::hear(stream, LONGEST)
}
