//! What was spent, from the ledger into the accounts: before a budget is in force, and again and again, so that what other nodes and
//! earlier lives of this one have spent counts too.
//!
//! A start while the database is away goes on from the copy on disk ([`State::recall_balances`]), and what stands in the spool counts beside it:
//!
//! ```text
//!           copy                     spool: rows that ended later          since this start
//!  ├── spent until then ──┼── not written, or written after the copy ──┼── in memory ──────>
//! ```

use super::{Follower, State, now_ms};
use crate::config::BudgetBook;
use crate::config::budgets::Payers;
use crate::domain::budget::{Account, Payer, day_of, user_subject};
use crate::domain::{LedgerRow, Money};
use crate::proxy::core::Spending;
use crate::store::file::spool::each_row;
use crate::store::ports::database::StoreError;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// How often the ledger is asked.
const EVERY: Duration = Duration::from_secs(5);
/// A request is booked when it is taken down, but for so many milliseconds: what ended by so little before the copy counts beside it.
const BOOKED_WITHIN: u64 = 5;
/// Up to so many users who are known are asked for one by one.
const FEW_USERS: usize = 1000;
/// So many users of an organisation are asked for at most: those that have spent most.
const MOST_USERS: u32 = 65_536;

impl Follower {
    /// Takes over budgets, once it was looked up what was spent of those that are new. Where the ledger does not say, they are in force all the
    /// same, and count from zero until it does.
    pub(super) async fn take_budgets(&self, state: &State, budgets: Arc<BudgetBook>) {
        if self.parents.lock().followed.budgets == budgets {
            return;
        }
        let known: HashSet<Account> = self.core.accounts.balances().into_iter().map(|(account, _)| account).collect();
        let new = self.accounts_of(&budgets).into_iter().filter(|account| !known.contains(account));
        let is_known = self.observe(state, new.collect()).await && self.observe_users(state, &budgets).await;
        self.publish(|parents| parents.followed.budgets = budgets);
        if !is_known {
            log::warn!("the ledger cannot be asked what was spent of new budgets: they count from zero until it can");
            self.core.spending_of.lock().get_or_insert(Spending::Unknown);
        }
    }

    /// The accounts of today that are known beforehand.
    fn accounts_of(&self, budgets: &BudgetBook) -> Vec<Account> {
        let snapshot = self.core.snapshot.load();
        budgets.accounts(day_of(now_ms()), |name| snapshot.keys.id_of(name))
    }

    /// Asks the ledger what was spent. Says whether it has answered.
    async fn observe(&self, state: &State, accounts: Vec<Account>) -> bool {
        for account in accounts {
            match state.database.spent_of(&account).await {
                Ok(spent) => self.core.accounts.observe(&account, spent),
                // That the database is away is told by whoever follows it.
                Err(error @ (StoreError::Unavailable(_) | StoreError::Damaged(_))) => {
                    log::debug!("what was spent of a budget is not known: {error}");
                    return false;
                }
                // One that it does not take must not keep the others from being asked for.
                Err(error) => log::warn!("what was spent of a budget is not known: {error}"),
            }
        }
        true
    }

    /// Asks the ledger what each user has spent who has a budget with all others. Says whether it has answered.
    async fn observe_users(&self, state: &State, budgets: &BudgetBook) -> bool {
        for (org, account) in budgets.accounts_of_each_user(day_of(now_ms())) {
            let spent =
                match state.database.spent_by_users(&org, account.from_day, account.last_day(), MOST_USERS).await {
                    Ok(spent) => spent,
                    // As with the others.
                    Err(error @ (StoreError::Unavailable(_) | StoreError::Damaged(_))) => {
                        log::debug!("what users have spent is not known: {error}");
                        return false;
                    }
                    Err(error) => {
                        log::warn!("what users have spent is not known: {error}");
                        continue;
                    }
                };
            for (user, spent) in spent {
                let account = Account { subject: user_subject(&org, &user), ..account.clone() };
                self.core.accounts.observe(&account, spent);
            }
        }
        true
    }

    /// Before the first request: what was spent of the budgets that are in force from the beginning.
    pub async fn know_what_was_spent(&self) {
        let Some(state) = &self.state else { return };
        let budgets = self.core.snapshot.load().budgets.clone();
        let is_known =
            self.observe(state, self.accounts_of(&budgets)).await && self.observe_users(state, &budgets).await;
        if is_known {
            state.keep_balances(&*self.core.accounts);
        } else {
            self.recall(state, &budgets);
        }
    }

    /// What was spent, without the ledger.
    fn recall(&self, state: &State, budgets: &BudgetBook) {
        let copy = state.recall_balances().unwrap_or_else(|error| {
            log::error!("{error}");
            None
        });
        let known = if copy.is_some() { Spending::LastSeen } else { Spending::Unknown };
        let copy = copy.unwrap_or_default();
        for (account, spent) in &copy.spent {
            self.core.accounts.observe(account, *spent);
        }
        // A request may stand there twice: how it came out in the end counts.
        let mut rows: HashMap<_, (u8, Vec<Account>, Money)> = HashMap::new();
        let shown = each_row(&state.data_dir, |row| {
            let ended = row.arrived_unix_ms.saturating_add(row.latency_us / 1000);
            if ended.saturating_add(BOOKED_WITHIN) < copy.at {
                return;
            }
            let charge = Money::from_picos(row.charge_picos());
            if rows.get(&row.id).is_none_or(|(revision, ..)| *revision <= row.revision) {
                rows.insert(row.id, (row.revision, accounts_of_row(budgets, &row), charge));
            }
        });
        if let Err(error) = shown {
            log::error!("what stands in the spool cannot be counted: {error}");
        }
        let mut beside: HashMap<Account, Money> = HashMap::new();
        for (_, accounts, charge) in rows.into_values() {
            for account in accounts {
                *beside.entry(account).or_default() += charge;
            }
        }
        let before: HashMap<Account, Money> =
            self.core.accounts.balances().into_iter().map(|(account, balance)| (account, balance.spent)).collect();
        for (account, charge) in beside {
            let spent = before.get(&account).copied().unwrap_or_default() + charge;
            self.core.accounts.observe(&account, spent);
        }
        match known {
            Spending::LastSeen => {
                log::warn!("the ledger cannot be asked: budgets go on from what was spent when it was last seen");
            }
            Spending::Unknown => {
                log::warn!(
                    "the ledger cannot be asked, and there is no copy of what was spent: budgets count from zero until it is back"
                );
            }
        }
        *self.core.spending_of.lock() = Some(known);
    }

    /// Asks the ledger for everything that is known. Says whether it has answered.
    pub async fn recount(&self) -> bool {
        let Some(state) = self.state.clone() else { return true };
        let budgets = self.core.snapshot.load().budgets.clone();
        let mut accounts: HashSet<Account> = self.accounts_of(&budgets).into_iter().collect();
        accounts.extend(self.core.accounts.balances().into_iter().map(|(account, _)| account));
        self.observe(&state, accounts.into_iter().collect()).await
    }

    /// Keeps the accounts at what the ledger says, for as long as the gateway runs.
    pub async fn keep_books(self: Arc<Self>) {
        let Some(state) = self.state.clone() else { return };
        loop {
            tokio::time::sleep(EVERY).await;
            let budgets = self.core.snapshot.load().budgets.clone();
            if budgets.is_empty() {
                // What was spent of none is known.
                *self.core.spending_of.lock() = None;
                continue;
            }
            self.core.accounts.forget_past(now_ms());
            let mut accounts = self.accounts_of(&budgets);
            let known = self.core.accounts.balances().into_iter().map(|(account, _)| account);
            let users: Vec<Account> = known.filter(|account| account.payer == Payer::User).collect();
            let are_few = users.len() <= FEW_USERS;
            accounts.extend(users.into_iter().filter(|_| are_few));
            let was_unknown = self.core.spending_of.lock().is_some();
            let mut is_known = self.observe(&state, accounts).await;
            if is_known && (was_unknown || !are_few) {
                is_known = self.observe_users(&state, &budgets).await;
            }
            if is_known {
                if was_unknown {
                    *self.core.spending_of.lock() = None;
                    log::info!("what was spent of budgets is known again");
                }
                state.keep_balances(&*self.core.accounts);
            }
        }
    }
}

/// What a request of the ledger has drawn on.
fn accounts_of_row(budgets: &BudgetBook, row: &LedgerRow<'_>) -> Vec<Account> {
    let (org, project, key): (Arc<str>, Arc<str>, Arc<str>) =
        ((&*row.org).into(), (&*row.project).into(), (&*row.key_id).into());
    // Budgets call a key of the configuration by its name.
    let key_subject = if key.starts_with("cfg_") { (&*row.key_name).into() } else { key.clone() };
    let payers = Payers {
        org: &org,
        project: &project,
        key: &key,
        key_subject: &key_subject,
        user: row.user.as_deref(),
        kept_user: row.user.as_deref(),
    };
    budgets.draws(payers, row.day()).into_iter().map(|draw| draw.account).collect()
}
