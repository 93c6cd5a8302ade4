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
        if let Some((ledger, row)) = self.ledger.as_ref().zip(booked.row) {
            let row: LedgerRow<'static> = match serde_json::from_slice(&row) {
                Ok(row) => row,
                Err(error) => return log::error!("what was booked at most stays so: {error}"),
            };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Usage;
    use crate::domain::budget::{Payer, Span};
    use crate::store::memory::MemoryAccounts;

    fn account() -> Account {
        Account { payer: Payer::Key, subject: "k".into(), span: Span::Total, from_day: 0 }
    }

    /// A token costs a pico-dollar in, ten out; a thousand of them are booked.
    fn debt() -> (Arc<MemoryAccounts>, Arc<Debt>, Booked) {
        let accounts = Arc::new(MemoryAccounts::default());
        let booked = Money::from_picos(1000);
        let none = Reservation { accounts: vec![account()], amount: Money::ZERO, number: u64::MAX, node: None };
        accounts.settle(none, booked, 0);
        let price = |picos| Some(Money::from_picos(picos));
        let prices = Prices { input: price(1), output: price(10), ..Prices::default() };
        let debt = Arc::new(Debt {
            state: Mutex::new(State::Waiting),
            prices: Some(prices),
            input_tokens: 100,
            seen_bytes: AtomicU64::new(0),
            accounts: accounts.clone(),
            ledger: None,
        });
        (accounts, debt, Booked { row: None, accounts: vec![account()], cost: booked })
    }

    fn end(failed: bool, usage: Option<(u64, u64)>, output_bytes: u64) -> ResponseEnd {
        let usage = usage.map(|(prompt_tokens, completion_tokens)| Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: u64::saturating_add(prompt_tokens, completion_tokens),
            ..Usage::default()
        });
        ResponseEnd { failed, usage, output_bytes }
    }

    #[test]
    fn it_is_settled_once_whoever_hears_first_and_before_or_after_its_request_is_over() {
        for is_early in [false, true] {
            let (accounts, debt, booked) = debt();
            let mut booked = Some(booked);
            if !is_early {
                debt.book(booked.take().unwrap());
            }
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| debt.ended(&end(false, Some((90, 30)), 0)));
                }
            });
            booked.into_iter().for_each(|booked| debt.book(booked));
            debt.ended(&end(true, None, 0));
            assert_eq!(accounts.balance_of(&account()).spent.picos(), 390, "{is_early}");
        }
    }

    #[test]
    fn what_the_provider_does_not_count_is_what_was_seen_or_nothing_when_it_failed() {
        for (told, seen_bytes, picos) in [
            (end(false, Some((90, 30)), 0), 9000, 390),
            (end(true, Some((90, 0)), 0), 0, 90),
            (end(true, None, 400), 400, 0),
            (end(false, None, 0), 0, 100),
            (end(false, None, 41), 7, 210),
            (end(false, None, 7), 41, 210),
            (end(false, Some((u64::MAX, 1)), 0), 0, 100),
            (end(false, Some((1000, 1000)), 0), 0, 11_000),
        ] {
            let (accounts, debt, booked) = debt();
            debt.delivered(seen_bytes);
            debt.delivered(1.min(seen_bytes));
            debt.book(booked);
            debt.ended(&told);
            assert_eq!(accounts.balance_of(&account()).spent.picos(), picos, "{told:?} {seen_bytes}");
        }
    }
}
