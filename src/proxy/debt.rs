//! What an answer costs that goes on after its request (`background: true` of Responses): booked at the most that it can cost, and once more
//! with what it did cost, by whoever hears first how it has ended.
//!
//! ```text
//!            the request is over, its answer goes on                 its end is heard
//!  Waiting ───────────────────────────────────────────> Booked ─────────────────────────> Settled
//!     ├── its end is heard ──> Heard ── the request is over ────────────────────────────────▲
//!     └── the request is over, and its bill was known ──────────────────────────────────────┘
//! ```
//!
//! The request's own row in the ledger is amended, so that a request is one row whoever heard of its end, and the difference goes back to the
//! accounts, or is taken from them.

use super::bill::used;
use super::budget::now_unix_ms;
use super::core::{ClientCtx, Core};
use super::lane::Lane;
use super::ledger;
use crate::domain::budget::Account;
use crate::domain::ledger::picos;
use crate::domain::usage::ResponseEnd;
use crate::domain::{LedgerRow, Money};
use crate::provider::Prices;
use crate::store::ports::accounts::{Accounts, Reservation};
use crate::store::ports::ledger::Spool;
use crate::store::ports::responses::Owed;
use parking_lot::Mutex;
use pingora::protocols::http::ServerSession as Session;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The revision of a row whose answer has ended after its request: one beyond what requests say of themselves.
const AMENDED: u8 = 2;

/// A request's part in a debt.
pub(super) struct Owing {
    pub(super) debt: Arc<Debt>,
    /// Its answer goes on without it.
    pub(super) goes_on: bool,
}

/// What an answer still costs.
pub(super) struct Debt {
    state: Mutex<State>,
    /// `None` where they are not known: then no cost is.
    prices: Option<Prices>,
    input_tokens: u64,
    /// The most of its output that one look at it has shown, in bytes.
    seen_bytes: AtomicU64,
    accounts: Arc<dyn Accounts>,
    ledger: Option<Arc<dyn Spool>>,
}

enum State {
    Waiting,
    Heard(ResponseEnd),
    Booked(Booked),
    Settled,
}

/// What was booked when the request was over.
struct Booked {
    /// Its row, as JSON; `None` where no ledger is kept.
    row: Option<Vec<u8>>,
    accounts: Vec<Account>,
    cost: Money,
}

impl fmt::Debug for Debt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Debt").finish_non_exhaustive()
    }
}

impl Debt {
    /// The debt of an answer in the background; `None` for any other, and where a key of the client's own pays.
    pub(super) fn of(core: &Core, lane: &Lane<'_>) -> Option<Arc<Self>> {
        let most = lane.asked.most.as_ref().filter(|_| !lane.asked.own_key)?;
        Some(Arc::new(Self {
            state: Mutex::new(State::Waiting),
            prices: most.prices.clone(),
            input_tokens: lane.asked.input_tokens,
            seen_bytes: AtomicU64::new(0),
            accounts: core.accounts.clone(),
            ledger: core.ledger.get().cloned(),
        }))
    }

    /// The request is over: what was booked for it stands until more is known.
    fn book(&self, booked: Booked) {
        let heard = {
            let mut state = self.state.lock();
            match std::mem::replace(&mut *state, State::Settled) {
                State::Waiting => {
                    *state = State::Booked(booked);
                    return;
                }
                State::Heard(end) => end,
                State::Booked(_) | State::Settled => return,
            }
        };
        self.settle(booked, &heard);
    }

    fn settle(&self, booked: Booked, end: &ResponseEnd) {
        let (usage, estimated) = used(end, self.input_tokens, self.seen_bytes.load(Ordering::Relaxed));
        // What has failed and was not counted costs nothing.
        let cost = match &usage {
            Some(usage) => self.prices.as_ref().and_then(|prices| prices.cost(usage)),
            None => Some(Money::ZERO),
        };
        let row = booked.row.as_deref().and_then(|row| serde_json::from_slice::<LedgerRow<'static>>(row).ok());
        if let (Some(ledger), Some(row)) = (&self.ledger, row) {
            ledger.append(&LedgerRow { revision: AMENDED, usage, cost_picos: cost.map(picos), estimated, ..row });
        }
        let more = cost.unwrap_or(Money::ZERO) - booked.cost;
        if more != Money::ZERO && !booked.accounts.is_empty() {
            let none = Reservation { accounts: booked.accounts, amount: Money::ZERO, number: u64::MAX, node: None };
            self.accounts.settle(none, more, now_unix_ms());
        }
    }
}

impl Owed for Debt {
    fn delivered(&self, output_bytes: u64) {
        self.seen_bytes.fetch_max(output_bytes, Ordering::Relaxed);
    }

    fn ended(&self, end: &ResponseEnd) {
        let booked = {
            let mut state = self.state.lock();
            match std::mem::replace(&mut *state, State::Settled) {
                State::Waiting => {
                    *state = State::Heard(*end);
                    return;
                }
                State::Heard(first) => {
                    *state = State::Heard(first);
                    return;
                }
                State::Booked(booked) => booked,
                State::Settled => return,
            }
        };
        self.settle(booked, end);
    }
}

/// A request is over, and so is what it has to do with its debt. Comes when its row is taken down and what it costs is booked.
pub(super) fn close(core: &Core, session: &Session, client: &mut ClientCtx, accounts: Vec<Account>) {
    let Some(owing) = client.owing.take() else { return };
    if !owing.goes_on {
        *owing.debt.state.lock() = State::Settled;
        return;
    }
    owing.debt.delivered(client.output_bytes);
    let cost = client.record.cost.unwrap_or(Money::ZERO);
    owing.debt.book(Booked { row: ledger::copy(core, session, client), accounts, cost });
}
