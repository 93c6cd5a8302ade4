//! Which budgets are used up, or nearly. Those of each single user are left out: there may be any number of users.

use crate::domain::Money;
use crate::domain::budget::{Account, Draw, Span, day_of};
use crate::proxy::Core;
use crate::telemetry::alerts::{Condition, Kind};
use crate::wiring::state::now_ms;
use std::collections::HashMap;
use std::sync::Arc;

/// From this share of a budget on, in percent, it is nearly used up.
const NEARLY: i128 = 90;

/// What is the case now, as far as this process knows what was spent.
pub(super) fn conditions(core: &Core) -> Vec<Condition> {
    let snapshot = core.snapshot.load();
    if snapshot.budgets.is_empty() {
        return Vec::new();
    }
    let spent: HashMap<Account, Money> =
        core.accounts.balances().into_iter().map(|(account, balance)| (account, balance.spent)).collect();
    let bounds = snapshot.budgets.bounds(day_of(now_ms()), |name| snapshot.keys.id_of(name));
    let told = bounds.iter().filter_map(|(called, draw)| condition(called, draw, *spent.get(&draw.account)?));
    told.map(|one| Condition { subject: core.telemetry.redactor.redact(&one.subject).into_owned(), ..one }).collect()
}

/// What is to be said of an account, if anything is.
fn condition(called: &Arc<str>, Draw { account, limit }: &Draw, spent: Money) -> Option<Condition> {
    let what = if account.span == Span::Prepaid { "credit" } else { "budget" };
    let message = if spent >= *limit {
        format!("the {what} of ${limit} is used up (${spent}): requests are refused")
    } else if spent.picos().saturating_mul(100) >= limit.picos().saturating_mul(NEARLY) {
        format!("${spent} of the {what} of ${limit} are spent")
    } else {
        return None;
    };
    let subject = format!("{}/{called}/{}", account.payer.name(), account.span.name());
    Some(Condition { kind: Kind::Budget, subject, message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::budget::Payer;

    #[test]
    fn it_is_told_from_nine_tenths_on_and_again_at_the_end() {
        let account = Account { payer: Payer::Key, subject: "key_1".into(), span: Span::Day, from_day: 5 };
        let draw = Draw { account, limit: Money::from_dollars("10").unwrap() };
        let told = |spent: &str| condition(&"nightly".into(), &draw, Money::from_dollars(spent).unwrap());
        assert_eq!(told("8.99"), None);
        let nearly = told("9").unwrap();
        assert_eq!(nearly.subject, "key/nightly/day");
        assert_eq!(nearly.message, "$9 of the budget of $10 are spent");
        assert_eq!(told("10.01").unwrap().message, "the budget of $10 is used up ($10.01): requests are refused");
    }
}
