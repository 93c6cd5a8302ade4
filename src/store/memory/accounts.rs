//! The accounts of one process, behind one lock that is held for a few hundred nanoseconds.
//!
//! ```text
//!            reserve                    settle
//!   free ──────────────> reserved ──────────────────> spent, and the rest free
//!    ▲                      │
//!    └── its time is over ──┘   (settled later: spent)
//! ```

use crate::domain::Money;
use crate::domain::budget::{Account, Draw, Payer, day_of};
use crate::store::ports::accounts::{Accounts, Balance, Refused, Reservation};
use ahash::HashMap;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// How many accounts of users are remembered: clients make up users as they like. Beyond it the one that has spent least of those looked
/// at is forgotten, until the ledger tells of it again.
const MOST_USERS: usize = 65_536;
/// How many are looked at then.
const LOOKED_AT: usize = 64;
/// After so long the ledger says what was given back, in milliseconds. It is written several times a second; before that, what it says is too
/// much by so much.
const LEDGER_KNOWS_MS: u64 = 60_000;

/// The accounts of one process.
#[derive(Debug, Default)]
pub struct MemoryAccounts(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    accounts: HashMap<Account, Balance>,
    users: usize,
    /// Reservations that are not settled, by their numbers.
    open: HashMap<u64, Open>,
    /// When each of them is over.
    ends: BTreeSet<(u64, u64)>,
    next: u64,
    /// What was given back of accounts a short while ago, and until when the ledger may not know of it.
    given_back: HashMap<Account, Vec<(u64, Money)>>,
    /// The latest time that was told, in Unix milliseconds.
    now: u64,
}

#[derive(Debug)]
struct Open {
    accounts: Vec<Account>,
    amount: Money,
    until: u64,
}

/// A reservation that is not settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenReservation {
    /// Its number in the process that has made it.
    pub number: u64,
    /// The accounts.
    pub accounts: Vec<Account>,
    /// What is reserved of each of them.
    pub amount: Money,
    /// When it is over, in Unix milliseconds.
    pub until: u64,
}

impl Books {
    fn give_up_overdue(&mut self, now: u64) {
        self.now = self.now.max(now);
        while let Some((until, number)) = self.ends.first().copied().filter(|(until, _)| *until <= now) {
            self.ends.remove(&(until, number));
            if let Some(open) = self.open.remove(&number) {
                self.release(&open.accounts, open.amount);
            }
        }
    }

    fn release(&mut self, accounts: &[Account], amount: Money) {
        for account in accounts {
            if let Some(balance) = self.accounts.get_mut(account) {
                balance.reserved = balance.reserved - amount;
            }
        }
    }

    /// Takes so much of what was spent of an account for nothing.
    fn give_back(&mut self, account: &Account, amount: Money) {
        let Some(balance) = self.accounts.get_mut(account) else { return };
        balance.spent = (balance.spent - amount).max(Money::ZERO);
        let (now, until) = (self.now, self.now.saturating_add(LEDGER_KNOWS_MS) / 1000 * 1000);
        let amounts = self.given_back.entry(account.clone()).or_default();
        amounts.retain(|(until, _)| *until > now);
        // One a second, so that they stay few.
        match amounts.last_mut() {
            Some((last, sum)) if *last == until => *sum += amount,
            _ => amounts.push((until, amount)),
        }
    }

    /// How much the ledger may count for an account that was given back.
    fn untold(&mut self, account: &Account) -> Money {
        let Some(amounts) = self.given_back.get_mut(account) else { return Money::ZERO };
        amounts.retain(|(until, _)| *until > self.now);
        let sum = amounts.iter().map(|(_, amount)| *amount).sum();
        if amounts.is_empty() {
            self.given_back.remove(account);
        }
        sum
    }

    fn begin(&mut self, accounts: Vec<Account>, amount: Money, until: u64) -> Reservation {
        for account in &accounts {
            self.balance(account).reserved += amount;
        }
        let number = self.next;
        self.next += 1;
        self.ends.insert((until, number));
        self.open.insert(number, Open { accounts: accounts.clone(), amount, until });
        Reservation { accounts, amount, number, node: None }
    }

    fn balance(&mut self, account: &Account) -> &mut Balance {
        if !self.accounts.contains_key(account) && account.payer == Payer::User {
            if self.users >= MOST_USERS {
                let idle = self
                    .accounts
                    .iter()
                    .filter(|(known, balance)| known.payer == Payer::User && balance.reserved == Money::ZERO);
                let least = idle.take(LOOKED_AT).min_by_key(|(_, balance)| balance.spent);
                if let Some(least) = least.map(|(known, _)| known.clone()) {
                    self.accounts.remove(&least);
                    self.users -= 1;
                }
            }
            self.users += 1;
        }
        self.accounts.entry(account.clone()).or_default()
    }
}

impl MemoryAccounts {
    /// Takes so much of what was spent of an account for nothing: somebody else has booked it.
    pub fn unspend(&self, account: &Account, amount: Money) {
        if let Some(balance) = self.0.lock().accounts.get_mut(account) {
            balance.spent = (balance.spent - amount).max(Money::ZERO);
        }
    }

    /// Where an account stands.
    pub fn balance_of(&self, account: &Account) -> Balance {
        self.0.lock().accounts.get(account).copied().unwrap_or_default()
    }

    /// What [`Accounts::reserve`] does, at once.
    ///
    /// # Errors
    /// The first account that has not enough left.
    pub fn take(&self, draws: &[Draw], amount: Money, ttl: Duration, now: u64) -> Result<Reservation, Refused> {
        let books = &mut *self.0.lock();
        books.give_up_overdue(now);
        for (at, draw) in draws.iter().enumerate() {
            let balance = books.accounts.get(&draw.account).copied().unwrap_or_default();
            if balance.spent + balance.reserved + amount > draw.limit {
                return Err(Refused::Short { at, balance });
            }
        }
        let accounts = draws.iter().map(|draw| draw.account.clone()).collect();
        Ok(books.begin(accounts, amount, until(now, ttl)))
    }

    /// Takes note of what somebody else has granted: it is reserved here too, whether there is room for it or not.
    pub fn note(&self, accounts: Vec<Account>, amount: Money, until: u64) -> Reservation {
        self.0.lock().begin(accounts, amount, until)
    }

    /// What is reserved at this moment, and what was spent.
    pub fn copy(&self) -> (Vec<(Account, Money)>, Vec<OpenReservation>) {
        let books = self.0.lock();
        let spent = books.accounts.iter().filter(|(_, balance)| balance.spent > Money::ZERO);
        let spent = spent.map(|(account, balance)| (account.clone(), balance.spent)).collect();
        let open = books.open.iter().map(|(number, open)| OpenReservation {
            number: *number,
            accounts: open.accounts.clone(),
            amount: open.amount,
            until: open.until,
        });
        (spent, open.collect())
    }
}

/// When what begins at `now` is over, in Unix milliseconds.
pub(in crate::store) fn until(now: u64, ttl: Duration) -> u64 {
    now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
}

#[async_trait]
impl Accounts for MemoryAccounts {
    async fn reserve(&self, draws: &[Draw], amount: Money, ttl: Duration, now: u64) -> Result<Reservation, Refused> {
        self.take(draws, amount, ttl, now)
    }

    fn settle(&self, reservation: Reservation, spent: Money, now: u64) {
        let books = &mut *self.0.lock();
        books.give_up_overdue(now);
        if let Some(open) = books.open.remove(&reservation.number) {
            books.ends.remove(&(open.until, reservation.number));
            books.release(&open.accounts, open.amount);
        }
        for account in &reservation.accounts {
            if spent > Money::ZERO {
                books.balance(account).spent += spent;
            } else if spent < Money::ZERO {
                books.give_back(account, Money::ZERO - spent);
            }
        }
    }

    fn observe(&self, account: &Account, spent: Money) {
        let books = &mut *self.0.lock();
        let untold = books.untold(account);
        let balance = books.balance(account);
        balance.spent = balance.spent.max(spent - untold);
    }

    fn balances(&self) -> Vec<(Account, Balance)> {
        self.0.lock().accounts.iter().map(|(account, balance)| (account.clone(), *balance)).collect()
    }

    fn forget_past(&self, now: u64) {
        let books = &mut *self.0.lock();
        books.give_up_overdue(now);
        let day = day_of(now);
        books.accounts.retain(|account, balance| {
            account.span.first_day(day) == account.from_day || balance.reserved > Money::ZERO
        });
        books.given_back.retain(|_, amounts| amounts.iter().any(|(until, _)| *until > now));
        books.users = books.accounts.keys().filter(|account| account.payer == Payer::User).count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::budget::Span;
    use proptest::prelude::*;

    fn account(name: &str) -> Account {
        Account { payer: Payer::Key, subject: name.into(), span: Span::Total, from_day: 0 }
    }

    fn draw(name: &str, limit: i128) -> Draw {
        Draw { account: account(name), limit: Money::from_picos(limit) }
    }

    fn of(accounts: &MemoryAccounts, name: &str) -> (i128, i128) {
        let known = accounts.balances().into_iter().find(|(known, _)| *known == account(name));
        known.map_or((0, 0), |(_, balance)| (balance.spent.picos(), balance.reserved.picos()))
    }

    const TTL: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_given_back_stays_so_though_the_ledger_says_it_later() {
        let accounts = MemoryAccounts::default();
        let booked = |spent: i128, now| {
            let none = Reservation { accounts: vec![account("a")], amount: Money::ZERO, number: u64::MAX, node: None };
            accounts.settle(none, Money::from_picos(spent), now);
        };
        let observe = |spent| accounts.observe(&account("a"), Money::from_picos(spent));
        booked(100, 0);
        booked(5, 0);
        observe(105);
        booked(-70, 1000);
        assert_eq!(of(&accounts, "a"), (35, 0));
        observe(105);
        assert_eq!(of(&accounts, "a"), (35, 0), "the ledger does not know yet");
        observe(35);
        // Others have spent, and the ledger knows everything by now.
        booked(0, 1000 + LEDGER_KNOWS_MS);
        observe(50);
        assert_eq!(of(&accounts, "a"), (50, 0));
        booked(-80, 1000 + LEDGER_KNOWS_MS);
        assert_eq!(of(&accounts, "a"), (0, 0), "never less than nothing");
        let never = Reservation { accounts: vec![account("b")], amount: Money::ZERO, number: 0, node: None };
        accounts.settle(never, Money::from_picos(-1), 0);
        assert_eq!(accounts.balances().len(), 1, "one that is forgotten is not made for it");
    }

    #[test]
    fn all_accounts_or_none() {
        let accounts = MemoryAccounts::default();
        let (a, b) = (draw("a", 10), draw("b", 5));
        let first = accounts.take(&[a.clone(), b.clone()], Money::from_picos(4), TTL, 0).unwrap();
        let short = accounts.take(&[a.clone(), b.clone()], Money::from_picos(2), TTL, 0).unwrap_err();
        let balance = Balance { spent: Money::ZERO, reserved: Money::from_picos(4) };
        assert_eq!(short, Refused::Short { at: 1, balance });
        assert_eq!((of(&accounts, "a"), of(&accounts, "b")), ((0, 4), (0, 4)), "nothing was taken of the first either");
        accounts.settle(first, Money::from_picos(3), 0);
        assert_eq!((of(&accounts, "a"), of(&accounts, "b")), ((3, 0), (3, 0)));
        accounts.take(&[a, b], Money::from_picos(2), TTL, 0).unwrap();
    }

    #[test]
    fn a_reservation_dies_with_its_time_and_is_booked_all_the_same() {
        let accounts = MemoryAccounts::default();
        let slow = accounts.take(&[draw("a", 10)], Money::from_picos(10), TTL, 0).unwrap();
        assert!(accounts.take(&[draw("a", 10)], Money::from_picos(1), TTL, 999).is_err());
        let next = accounts.take(&[draw("a", 10)], Money::from_picos(6), TTL, 1000).unwrap();
        accounts.settle(slow, Money::from_picos(7), 1001);
        assert_eq!(of(&accounts, "a"), (7, 6));
        accounts.settle(next, Money::ZERO, 1002);
        assert_eq!(of(&accounts, "a"), (7, 0));
    }

    #[test]
    fn the_ledger_raises_what_was_spent_and_never_lowers_it() {
        let accounts = MemoryAccounts::default();
        for (told, expected) in [(5, 5), (3, 5), (8, 8)] {
            accounts.observe(&account("a"), Money::from_picos(told));
            assert_eq!(of(&accounts, "a").0, expected);
        }
        assert!(accounts.take(&[draw("a", 10)], Money::from_picos(3), TTL, 0).is_err());
    }

    #[test]
    fn spans_that_are_over_are_forgotten_once_nothing_is_reserved_of_them() {
        let accounts = MemoryAccounts::default();
        let yesterday = Account { payer: Payer::Org, subject: "o".into(), span: Span::Day, from_day: 9 };
        let draws = [Draw { account: yesterday, limit: Money::from_picos(9) }];
        let midnight = 86_400_000 * 10;
        let late = accounts.take(&draws, Money::from_picos(2), TTL, midnight - 1).unwrap();
        accounts.forget_past(midnight);
        assert_eq!(accounts.balances().len(), 1);
        accounts.settle(late, Money::from_picos(1), midnight);
        accounts.forget_past(midnight);
        assert!(accounts.balances().is_empty());
    }

    #[test]
    fn made_up_users_do_not_fill_the_memory() {
        let accounts = MemoryAccounts::default();
        for n in 0..MOST_USERS + 100 {
            let user = Account { payer: Payer::User, subject: n.to_string().into(), span: Span::Total, from_day: 0 };
            accounts.observe(&user, Money::from_picos(1));
        }
        assert_eq!(accounts.balances().len(), MOST_USERS);
    }

    proptest! {
        /// Whatever is reserved, settled, forgotten about or given up, in any order: no account is ever over, and in the end what was
        /// spent is what was settled.
        #[test]
        fn never_over(steps in prop::collection::vec((0usize..4, 0i128..40, 0u64..700, 0usize..8, 0usize..101), 1..300)) {
            let (accounts, mut now, mut open) = (MemoryAccounts::default(), 0u64, Vec::<Reservation>::new());
            let limits = [("a", 100), ("b", 150)];
            let mut settled = [0i128; 2];
            for (act, amount, pause, pick, share) in steps {
                now += pause;
                if act < 3 || open.is_empty() {
                    let draws: Vec<Draw> = match act {
                        0 => vec![draw("a", 100)],
                        1 => vec![draw("b", 150)],
                        _ => limits.iter().map(|(name, limit)| draw(name, *limit)).collect(),
                    };
                    open.extend(accounts.take(&draws, Money::from_picos(amount), TTL, now));
                } else {
                    let reservation = open.swap_remove(pick % open.len());
                    // One whose time is over was given up, and others may have what it had: it costs nothing here.
                    let alive = accounts.0.lock().open.get(&reservation.number).is_some_and(|open| open.until > now);
                    let spent = if alive { reservation.amount.picos() * share as i128 / 100 } else { 0 };
                    for (at, (name, _)) in limits.iter().enumerate() {
                        if reservation.accounts.contains(&account(name)) {
                            settled[at] += spent;
                        }
                    }
                    accounts.settle(reservation, Money::from_picos(spent), now);
                }
                for (name, limit) in limits {
                    let (spent, reserved) = of(&accounts, name);
                    prop_assert!(spent + reserved <= limit && reserved >= 0 && spent >= 0, "{name}: {spent} + {reserved}");
                }
            }
            for reservation in open {
                accounts.settle(reservation, Money::ZERO, now);
            }
            for (at, (name, _)) in limits.iter().enumerate() {
                prop_assert_eq!(of(&accounts, name), (settled[at], 0));
            }
        }
    }
}
