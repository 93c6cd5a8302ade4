//! Which budgets are used up, or nearly. Of those that each user has there may be any number: some of their users are told of one by one, the
//! others as a number.

use crate::config::budgets::{Bound, BudgetBook};
use crate::domain::Money;
use crate::domain::budget::{Account, Draw, Payer, Span, USER_SEPARATOR, day_of};
use crate::proxy::Core;
use crate::telemetry::alerts::{Condition, Kind};
use crate::wiring::state::now_ms;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

/// From this share of a budget on, in percent, it is nearly used up.
const NEARLY: i128 = 90;
/// So many users who have no budget of their own are told of one by one: a client makes up users as it likes.
const MOST_USERS: usize = 20;

/// What is the case now, as far as this process knows what was spent.
pub(super) fn conditions(core: &Core) -> Vec<Condition> {
    let snapshot = core.snapshot.load();
    if snapshot.budgets.is_empty() {
        return Vec::new();
    }
    let day = day_of(now_ms());
    let spent: HashMap<Account, Money> =
        core.accounts.balances().into_iter().map(|(account, balance)| (account, balance.spent)).collect();
    let bounds = snapshot.budgets.bounds(day, |name| snapshot.keys.id_of(name));
    let known = bounds.iter().filter_map(|bound| condition(bound, *spent.get(&bound.draw.account)?));
    let told = core.telemetry.alerts.active().into_iter().map(|alert| alert.subject).collect();
    let found = known.chain(of_users(&snapshot.budgets, &spent, day, &told)).collect::<Vec<_>>();
    let redactor = &core.telemetry.redactor;
    let redacted = |one: Condition| Condition { subject: redactor.redact(&one.subject).into_owned(), ..one };
    found.into_iter().map(redacted).collect()
}

/// What is to be said of the users who have no budget of their own: those that were told of before first, so that nobody's alert ends because
/// somebody else has spent more; then those who have spent most.
fn of_users(book: &BudgetBook, spent: &HashMap<Account, Money>, day: u32, told: &HashSet<String>) -> Vec<Condition> {
    let mut found: Vec<(bool, Money, Condition)> = Vec::new();
    let budgets: Vec<_> = book.of_each_user().collect();
    for (account, spent) in spent.iter().filter(|(account, _)| !budgets.is_empty() && account.payer == Payer::User) {
        let Some((org, user)) = account.subject.split_once(USER_SEPARATOR) else { continue };
        let theirs = |span: Span| span == account.span && span.first_day(day) == account.from_day;
        for budget in budgets.iter().filter(|budget| *budget.org == *org && theirs(budget.span)) {
            let draw = Draw { account: account.clone(), limit: budget.amount };
            let bound = Bound { org: budget.org.clone(), called: user.into(), draw };
            // Looked up last: few have spent so much.
            let said = condition(&bound, *spent).filter(|_| !book.has_own(org, user));
            found.extend(said.map(|said| (told.contains(&said.subject), *spent, said)));
        }
    }
    found.sort_by(|one, other| {
        (Reverse(one.0), Reverse(one.1), &one.2.subject).cmp(&(Reverse(other.0), Reverse(other.1), &other.2.subject))
    });
    let others = found.len().saturating_sub(MOST_USERS);
    let mut said: Vec<Condition> = found.into_iter().take(MOST_USERS).map(|(_, _, said)| said).collect();
    if others > 0 {
        let message = format!("{others} more users have used up their budgets, or nine tenths of them");
        said.push(Condition { kind: Kind::Budget, subject: "user/others".to_owned(), message, org: None });
    }
    said
}

/// What is to be said of an account, if anything is.
fn condition(Bound { org, called, draw: Draw { account, limit } }: &Bound, spent: Money) -> Option<Condition> {
    let what = if account.span == Span::Prepaid { "credit" } else { "budget" };
    let message = if spent >= *limit {
        format!("the {what} of ${limit} is used up (${spent}): requests are refused")
    } else if spent.picos().saturating_mul(100) >= limit.picos().saturating_mul(NEARLY) {
        format!("${spent} of the {what} of ${limit} are spent")
    } else {
        return None;
    };
    // Two organisations may have users of one name; of the others the ids, or the names, are unique.
    let subject = match account.payer {
        Payer::User => format!("user/{org}/{called}/{}", account.span.name()),
        payer => format!("{}/{called}/{}", payer.name(), account.span.name()),
    };
    Some(Condition { kind: Kind::Budget, subject, message, org: Some(org.to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::budget::{Budget, user_subject};

    fn budget(subject: &str, dollars: &str) -> Budget {
        Budget {
            id: "b".into(),
            org: "o".into(),
            payer: Payer::User,
            subject: subject.into(),
            span: Span::Day,
            amount: Money::from_dollars(dollars).unwrap(),
        }
    }

    fn spent(user: &str, from_day: u32, dollars: &str) -> (Account, Money) {
        let account = Account { payer: Payer::User, subject: user_subject("o", user), span: Span::Day, from_day };
        (account, Money::from_dollars(dollars).unwrap())
    }

    #[test]
    fn a_user_is_told_of_who_has_used_up_what_each_may_spend() {
        let book = BudgetBook::new(vec![budget("*", "10"), budget("vip", "100")], &[]);
        let all = [spent("kim", 5, "10"), spent("lee", 5, "8"), spent("ada", 4, "10"), spent("vip", 5, "50")];
        let told = of_users(&book, &all.into(), 5, &HashSet::new());
        assert_eq!(told.iter().map(|it| &*it.subject).collect::<Vec<_>>(), ["user/o/kim/day"], "{told:?}");
        assert_eq!(told[0].org.as_deref(), Some("o"));
    }

    #[test]
    fn of_many_users_some_are_named_and_stay_named() {
        let book = BudgetBook::new(vec![budget("*", "10")], &[]);
        let user = |number: usize| spent(&format!("user{number:03}"), 5, &(10 + number).to_string());
        let told = of_users(&book, &(0..100).map(user).collect(), 5, &HashSet::new());
        assert_eq!(told.len(), MOST_USERS + 1);
        assert_eq!((&*told[0].subject, &*told[MOST_USERS].subject), ("user/o/user099/day", "user/others"));
        assert!(told[MOST_USERS].message.starts_with("80 more users"), "{told:?}");
        let before = HashSet::from(["user/o/user003/day".to_owned()]);
        let next = of_users(&book, &(0..100).map(user).collect(), 5, &before);
        assert!(next.iter().any(|it| it.subject == "user/o/user003/day"), "{next:?}");
    }

    #[test]
    fn it_is_told_from_nine_tenths_on_and_again_at_the_end() {
        let account = Account { payer: Payer::Key, subject: "key_1".into(), span: Span::Day, from_day: 5 };
        let draw = Draw { account, limit: Money::from_dollars("10").unwrap() };
        let bound = Bound { org: "o".into(), called: "nightly".into(), draw };
        let told = |spent: &str| condition(&bound, Money::from_dollars(spent).unwrap());
        assert_eq!(told("8.99"), None);
        let nearly = told("9").unwrap();
        assert_eq!(nearly.subject, "key/nightly/day");
        assert_eq!(nearly.message, "$9 of the budget of $10 are spent");
        assert_eq!(told("10.01").unwrap().message, "the budget of $10 is used up ($10.01): requests are refused");
    }
}
