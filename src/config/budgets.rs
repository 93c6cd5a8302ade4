//! What may be spent, looked up by whoever asks, without I/O.

use crate::domain::Money;
use crate::domain::budget::{Account, Budget, Credit, Draw, Payer, Span, user_subject};
use std::collections::HashMap;
use std::sync::Arc;

/// All budgets and credits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BudgetBook {
    budgets: Vec<Budget>,
    /// The budgets of a payer, by their places: by organisation and subject.
    places: HashMap<(Payer, Arc<str>, Arc<str>), Vec<usize>>,
    /// What an organisation may spend in all because it has paid for it, beside what it had spent before.
    prepaid: HashMap<Arc<str>, Money>,
}

/// Who pays for a request.
#[derive(Clone, Copy, Debug)]
pub struct Payers<'a> {
    /// The organisation's id.
    pub org: &'a Arc<str>,
    /// The project's id.
    pub project: &'a Arc<str>,
    /// The key's id, by which its spending is known.
    pub key: &'a Arc<str>,
    /// What budgets call the key: its id, or its name for one of the configuration.
    pub key_subject: &'a Arc<str>,
    /// The end user.
    pub user: Option<&'a str>,
}

impl BudgetBook {
    /// A book of these.
    pub fn new(budgets: Vec<Budget>, credits: &[Credit]) -> Self {
        let mut book = Self { budgets, ..Self::default() };
        for (at, budget) in book.budgets.iter().enumerate() {
            let place = (budget.payer, budget.org.clone(), budget.subject.clone());
            book.places.entry(place).or_default().push(at);
        }
        for credit in credits {
            // Each says the same of what was spent before the first.
            let limit = book.prepaid.entry(credit.org.clone()).or_insert(credit.spent_before);
            *limit += credit.amount;
        }
        book
    }

    /// Whether nobody's spending is bounded.
    pub fn is_empty(&self) -> bool {
        self.budgets.is_empty() && self.prepaid.is_empty()
    }

    /// What a request of these payers draws on, on a day.
    pub fn draws(&self, payers: Payers<'_>, day: u32) -> Vec<Draw> {
        let mut draws = Vec::new();
        if self.is_empty() {
            return draws;
        }
        let Payers { org, project, key, key_subject, user } = payers;
        if let Some(limit) = self.prepaid.get(org) {
            let account = Account { payer: Payer::Org, subject: org.clone(), span: Span::Prepaid, from_day: 0 };
            draws.push(Draw { account, limit: *limit });
        }
        let mut add = |payer, subject: &Arc<str>, account: &dyn Fn() -> Arc<str>| {
            let places = self.places.get(&(payer, org.clone(), subject.clone()));
            for budget in places.into_iter().flatten().map(|at| &self.budgets[*at]) {
                let (span, subject) = (budget.span, account());
                let account = Account { payer, subject, span, from_day: span.first_day(day) };
                draws.push(Draw { account, limit: budget.amount });
            }
            places.is_some()
        };
        add(Payer::Org, org, &|| org.clone());
        add(Payer::Project, project, &|| project.clone());
        add(Payer::Key, key_subject, &|| key.clone());
        if let Some(user) = user {
            let subject = || user_subject(org, user);
            // A user with a budget of their own is not bound by that of each.
            let _ = add(Payer::User, &user.into(), &subject) || add(Payer::User, &"*".into(), &subject);
        }
        draws
    }

    /// The budgets of each user on a day: whose organisation's, and an account of theirs that stands for all.
    pub fn of_each_user(&self, day: u32) -> Vec<(Arc<str>, Account)> {
        let each = self.budgets.iter().filter(|budget| budget.payer == Payer::User && &*budget.subject == "*");
        each.map(|budget| (budget.org.clone(), Account::of(budget, day))).collect()
    }

    /// What may be spent on a day by whom, of those that are known beforehand, with what the budget calls them. `key_id` as in
    /// [`BudgetBook::accounts`].
    pub fn bounds(&self, day: u32, key_id: impl Fn(&str) -> Option<Arc<str>>) -> Vec<(Arc<str>, Draw)> {
        let of_budgets = self.budgets.iter().filter(|budget| budget.payer != Payer::User || &*budget.subject != "*");
        let of_budgets = of_budgets.map(|budget| {
            let account = Account::of(budget, day);
            let of_key = (budget.payer == Payer::Key).then(|| key_id(&budget.subject)).flatten();
            let account = Account { subject: of_key.unwrap_or_else(|| account.subject.clone()), ..account };
            (budget.subject.clone(), Draw { account, limit: budget.amount })
        });
        let prepaid = |(org, limit): (&Arc<str>, &Money)| {
            let account = Account { payer: Payer::Org, subject: org.clone(), span: Span::Prepaid, from_day: 0 };
            (org.clone(), Draw { account, limit: *limit })
        };
        of_budgets.chain(self.prepaid.iter().map(prepaid)).collect()
    }

    /// The accounts of a day that are known beforehand: all but those of each user. `key_id` gives the id of a key of the configuration by
    /// its name.
    pub fn accounts(&self, day: u32, key_id: impl Fn(&str) -> Option<Arc<str>>) -> Vec<Account> {
        self.bounds(day, key_id).into_iter().map(|(_, draw)| draw.account).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(payer: Payer, org: &str, subject: &str, span: Span, picos: i128) -> Budget {
        Budget {
            id: "b".into(),
            org: org.into(),
            payer,
            subject: subject.into(),
            span,
            amount: Money::from_picos(picos),
        }
    }

    fn drawn(book: &BudgetBook, org: &str, user: Option<&str>) -> Vec<(Payer, String, Span, i128)> {
        let [org, project, key, key_subject] = [org, "p", "cfg_1", "nightly"].map(Arc::<str>::from);
        let payers = Payers { org: &org, project: &project, key: &key, key_subject: &key_subject, user };
        let draws = book.draws(payers, 20_513);
        draws
            .into_iter()
            .map(|it| (it.account.payer, it.account.subject.to_string(), it.account.span, it.limit.picos()))
            .collect()
    }

    #[test]
    fn a_request_draws_on_all_that_bound_it_and_on_nothing_of_another_organisation() {
        let credit = |amount| Credit {
            id: "c".into(),
            org: "o".into(),
            amount: Money::from_picos(amount),
            spent_before: Money::from_picos(7),
            note: String::new(),
            created_at: 0,
        };
        let budgets = vec![
            budget(Payer::Org, "o", "o", Span::Day, 1),
            budget(Payer::Org, "o", "o", Span::Month, 2),
            budget(Payer::Project, "o", "p", Span::Week, 3),
            budget(Payer::Key, "o", "nightly", Span::Total, 4),
            budget(Payer::User, "o", "*", Span::Day, 5),
            budget(Payer::User, "o", "vip", Span::Day, 6),
        ];
        let book = BudgetBook::new(budgets, &[credit(10), credit(-3)]);
        let common = [
            (Payer::Org, "o".to_owned(), Span::Prepaid, 14),
            (Payer::Org, "o".to_owned(), Span::Day, 1),
            (Payer::Org, "o".to_owned(), Span::Month, 2),
            (Payer::Project, "p".to_owned(), Span::Week, 3),
            (Payer::Key, "cfg_1".to_owned(), Span::Total, 4),
        ];
        assert_eq!(drawn(&book, "o", None), common);
        assert_eq!(drawn(&book, "o", Some("ada"))[5], (Payer::User, "o\u{1f}ada".to_owned(), Span::Day, 5));
        assert_eq!(drawn(&book, "o", Some("vip"))[5..], [(Payer::User, "o\u{1f}vip".to_owned(), Span::Day, 6)]);
        assert_eq!(drawn(&book, "other", Some("vip")), []);
        let known = book.accounts(20_513, |name| (name == "nightly").then(|| "cfg_1".into()));
        assert_eq!(known.len(), 6);
        assert!(
            known.iter().any(|account| &*account.subject == "cfg_1")
                && known.iter().all(|account| !account.subject.contains('*'))
        );
    }
}
