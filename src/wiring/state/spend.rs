//! What was spent, from the ledger into the accounts: before a budget is in force, and again and again, so that what other nodes and
//! earlier lives of this one have spent counts too.

use super::{Follower, State, now_ms};
use crate::config::BudgetBook;
use crate::domain::budget::{Account, Payer, day_of, user_subject};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// How often the ledger is asked.
const EVERY: Duration = Duration::from_secs(5);
/// So many users of an organisation are asked for at most: those that have spent most.
const MOST_USERS: u32 = 65_536;
/// Up to so many that are known are asked for one by one.
const FEW_USERS: usize = 1000;

impl Follower {
    /// Takes over budgets, once what was spent of those that are new is known.
    pub(super) async fn take_budgets(&self, state: &State, budgets: Arc<BudgetBook>) {
        if self.parents.lock().followed.budgets == budgets {
            return;
        }
        let known: HashSet<Account> = self.core.accounts.balances().into_iter().map(|(account, _)| account).collect();
        let new = self.accounts_of(&budgets).into_iter().filter(|account| !known.contains(account));
        self.observe(state, new.collect()).await;
        self.observe_users(state, &budgets).await;
        self.publish(|parents| parents.followed.budgets = budgets);
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
                Err(error) => {
                    log::debug!("what was spent of a budget is not known: {error}");
                    return false;
                }
            }
        }
        true
    }

    /// Asks the ledger what each user has spent who has a budget with all others. Says whether it has answered.
    async fn observe_users(&self, state: &State, budgets: &BudgetBook) -> bool {
        for (org, account) in budgets.accounts_of_each_user(day_of(now_ms())) {
            let spent = state.database.spent_by_users(&org, account.from_day, account.last_day(), MOST_USERS).await;
            let Ok(spent) = spent.inspect_err(|error| log::debug!("what users have spent is not known: {error}"))
            else {
                return false;
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
        if let Some(state) = &self.state {
            let budgets = self.core.snapshot.load().budgets.clone();
            self.observe(state, self.accounts_of(&budgets)).await;
            self.observe_users(state, &budgets).await;
        }
    }

    /// Keeps the accounts at what the ledger says, for as long as the gateway runs.
    pub async fn keep_books(self: Arc<Self>) {
        let Some(state) = self.state.clone() else { return };
        loop {
            tokio::time::sleep(EVERY).await;
            let budgets = self.core.snapshot.load().budgets.clone();
            if budgets.is_empty() {
                continue;
            }
            self.core.accounts.forget_past(now_ms());
            let mut accounts = self.accounts_of(&budgets);
            let known = self.core.accounts.balances().into_iter().map(|(account, _)| account);
            let of_users: Vec<Account> = known.filter(|account| account.payer == Payer::User).collect();
            if of_users.len() <= FEW_USERS || !self.observe_users(&state, &budgets).await {
                accounts.extend(of_users);
            }
            self.observe(&state, accounts).await;
        }
    }
}
