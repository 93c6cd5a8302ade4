//! Which budgets are used up, or nearly. Those of each single user are left out: there may be any number of users.

use crate::config::budgets::Bound;
use crate::domain::Money;
use crate::domain::budget::{Account, Draw, Payer, Span, day_of};
use crate::proxy::Core;
use crate::telemetry::alerts::{Condition, Kind, Severity};
use crate::wiring::state::now_ms;
use std::collections::HashMap;

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
    let told = bounds.iter().filter_map(|bound| condition(bound, *spent.get(&bound.draw.account)?));
    told.map(|one| Condition { subject: core.telemetry.redactor.redact(&one.subject).into_owned(), ..one }).collect()
}

/// What is to be said of an account, if anything is.
fn condition(Bound { org, called, draw }: &Bound, spent: Money) -> Option<Condition> {
    let Draw { account, limit } = draw;
    let what = if account.span == Span::Prepaid { "credit" } else { "budget" };
    let (severity, message) = if spent >= *limit {
        let message = format!("the {what} of ${limit} is used up (${spent}): requests are refused");
        (Severity::Critical, message)
    } else if spent.picos().saturating_mul(100) >= limit.picos().saturating_mul(NEARLY) {
        (Severity::Warning, format!("${spent} of the {what} of ${limit} are spent"))
    } else {
        return None;
    };
    // Users may be called the same in several organisations.
    let whose = if account.payer == Payer::User { format!("{org}/") } else { String::new() };
    let subject = format!("{}/{whose}{called}/{}", account.payer.name(), account.span.name());
    Some(Condition { kind: Kind::Budget, subject, message, severity, org: Some(org.clone()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_from_nine_tenths_on_and_again_at_the_end() {
        let account = Account { payer: Payer::Key, subject: "key_1".into(), span: Span::Day, from_day: 5 };
        let draw = Draw { account, limit: Money::from_dollars("10").unwrap() };
        let bound = Bound { org: "org_a".into(), called: "nightly".into(), draw };
        let told = |spent: &str| condition(&bound, Money::from_dollars(spent).unwrap());
        assert_eq!(told("8.99"), None);
        let nearly = told("9").unwrap();
        assert_eq!(nearly.subject, "key/nightly/day");
        assert_eq!(nearly.message, "$9 of the budget of $10 are spent");
        let up = told("10.01").unwrap();
        assert_eq!(up.message, "the budget of $10 is used up ($10.01): requests are refused");
        assert!(up.severity > nearly.severity && up.subject == nearly.subject && up.org.as_deref() == Some("org_a"));
    }

    #[test]
    fn users_of_two_organisations_are_two_alerts() {
        let of = |org: &str| {
            let account = Account { payer: Payer::User, subject: "vip".into(), span: Span::Day, from_day: 5 };
            let draw = Draw { account, limit: Money::ZERO };
            condition(&Bound { org: org.into(), called: "vip".into(), draw }, Money::ZERO).unwrap().subject
        };
        assert_eq!((of("org_a"), of("org_b")), ("user/org_a/vip/day".to_owned(), "user/org_b/vip/day".to_owned()));
    }
}
