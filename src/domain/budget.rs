//! What may be spent: budgets for a while, and what an organisation has paid in advance.

use super::Money;
pub use super::ledger::day_of;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::sync::Arc;

/// Whose spending a budget bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payer {
    /// An organisation, by its id.
    Org,
    /// A project, by its id.
    Project,
    /// A gateway key: one of the database by its id, one of the configuration by its name.
    Key,
    /// An end user of an organisation, by the `user` of the requests.
    User,
}

impl Payer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Org, Self::Project, Self::Key, Self::User];

    /// Its name, as it is stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Org => "org",
            Self::Project => "project",
            Self::Key => "key",
            Self::User => "user",
        }
    }

    /// The payer of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|payer| payer.name() == name)
    }
}

/// For how long an amount is meant. Days begin at midnight UTC, weeks on Monday, months on the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// A day.
    Day,
    /// A week.
    Week,
    /// A month of the calendar.
    Month,
    /// For ever.
    Total,
    /// For ever, and paid in advance.
    Prepaid,
}

impl Span {
    /// Those that a budget may be for.
    pub const OF_BUDGETS: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Total];

    /// Its name, as it is stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Total => "total",
            Self::Prepaid => "prepaid",
        }
    }

    /// The span of that name, of those that a budget may be for.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::OF_BUDGETS.into_iter().find(|span| span.name() == name)
    }

    /// The first day of the span that a day is in; both are counted from 1970-01-01. Day 0 for what has no beginning.
    pub fn first_day(self, day: u32) -> u32 {
        match self {
            Self::Day => day,
            // 1970-01-01 was a Thursday.
            Self::Week => day.saturating_sub((day + 3) % 7),
            Self::Month => day.saturating_sub(day_of_month(day) - 1),
            Self::Total | Self::Prepaid => 0,
        }
    }
}

/// The day of the month, from 1, by the Gregorian calendar (Howard Hinnant's `civil_from_days`).
fn day_of_month(day: u32) -> u32 {
    let shifted = u64::from(day) + 719_468;
    let of_era = shifted % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    u32::try_from(of_year - (153 * month + 2) / 5 + 1).unwrap_or(1)
}

/// A budget: so much in each span, and no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// `bud_` and hex digits.
    pub id: Arc<str>,
    /// The organisation that it is within.
    pub org: Arc<str>,
    /// What it is for.
    pub payer: Payer,
    /// Whom it is for: as [`Payer`] says; `*` for each user.
    pub subject: Arc<str>,
    /// For how long.
    pub span: Span,
    /// How much.
    pub amount: Money,
}

/// What an organisation has paid in advance. From the first of them on it may spend that and no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    /// `crd_` and hex digits.
    pub id: Arc<str>,
    /// The organisation.
    pub org: Arc<str>,
    /// How much; negative for a correction.
    pub amount: Money,
    /// What it had spent before its first credit, which no credit is for.
    pub spent_before: Money,
    /// Whatever the operator wants to remember, such as the number of an invoice.
    pub note: String,
    /// Unix milliseconds.
    pub created_at: u64,
}

/// One account that a request draws on: whose, and in which span.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Account {
    /// What it is.
    pub payer: Payer,
    /// Whose: the id; of a user `organisation`, unit separator, `user`.
    pub subject: Arc<str>,
    /// For how long.
    pub span: Span,
    /// The first day of the span, counted from 1970-01-01.
    pub from_day: u32,
}

impl Account {
    /// The account that a budget bounds on a day; for a budget of each user that of nobody in particular.
    pub fn of(budget: &Budget, day: u32) -> Self {
        let subject = match budget.payer {
            Payer::User => user_subject(&budget.org, &budget.subject),
            _ => budget.subject.clone(),
        };
        Self { payer: budget.payer, subject, span: budget.span, from_day: budget.span.first_day(day) }
    }

    /// The last day of its span.
    pub fn last_day(&self) -> u32 {
        match self.span {
            Span::Day => self.from_day,
            Span::Week => self.from_day + 6,
            // The first of the next month is at most 31 days away.
            Span::Month => {
                (self.from_day + 27..).find(|day| Span::Month.first_day(day + 1) != self.from_day).unwrap_or(0)
            }
            Span::Total | Span::Prepaid => u32::MAX,
        }
    }
}

/// What a request needs of an account, and how much of it there is in all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draw {
    /// The account.
    pub account: Account,
    /// What may be spent from it.
    pub limit: Money,
}

/// What stands between organisation and user in [`Account::subject`].
pub const USER_SEPARATOR: char = '\u{1f}';

/// The most bytes of a user's name that is kept as it is.
pub const LONGEST_USER: usize = 256;
/// So many bytes of a name are kept before the digest of the whole.
const BEFORE_DIGEST: usize = 200;

/// The subject of a user's account.
pub fn user_subject(org: &str, user: &str) -> Arc<str> {
    let user = kept_user(user, user);
    format!("{org}{USER_SEPARATOR}{user}").into()
}

/// What the ledger and accounts call a user, of whose name so much may be shown: the name, or, where it is too long, has a NUL (which no
/// database takes) or is not all shown, its beginning and a digest, so that no two users are one.
pub fn kept_user<'a>(name: &'a str, shown: &str) -> Cow<'a, str> {
    if name == shown && name.len() <= LONGEST_USER && !name.contains('\0') {
        return Cow::Borrowed(name);
    }
    let digest = hex::encode(&Sha256::digest(name)[..8]);
    let beginning = shown[..shown.floor_char_boundary(BEFORE_DIGEST)].replace('\0', "");
    Cow::Owned(format!("{beginning}#{digest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_begin_where_the_calendar_says() {
        // 2026-03-01 is day 20,513, a Sunday.
        let first = |span: Span, day| span.first_day(day);
        assert_eq!(first(Span::Day, 20_513), 20_513);
        assert_eq!(first(Span::Week, 20_513), 20_507);
        assert_eq!(first(Span::Week, 20_514), 20_514);
        assert_eq!(first(Span::Month, 20_513), 20_513);
        assert_eq!(first(Span::Month, 20_512), 20_485, "the last of February, back to its first");
        assert_eq!(first(Span::Month, 20_543), 20_513, "the last of March");
        // 2024-02-29 is day 19,782.
        assert_eq!(first(Span::Month, 19_782), 19_754);
        assert_eq!(first(Span::Month, 19_783), 19_783);
        assert_eq!((first(Span::Total, 20_513), first(Span::Prepaid, 20_513)), (0, 0));
        assert_eq!((first(Span::Week, 0), first(Span::Month, 0)), (0, 0), "nothing is before the beginning");
        assert_eq!(day_of(86_400_000 * 20_513 + 5), 20_513);
    }

    #[test]
    fn a_month_has_one_first_day() {
        let firsts = (18_000..18_000 + 1461).filter(|day| Span::Month.first_day(*day) == *day).count();
        assert_eq!(firsts, 48, "four years");
        for (first, last) in [(20_485, 20_512), (20_513, 20_543), (19_754, 19_782)] {
            let subject: Arc<str> = "o".into();
            let account = Account { payer: Payer::Org, subject, span: Span::Month, from_day: first };
            assert_eq!(account.last_day(), last);
        }
    }

    #[test]
    fn users_whose_names_cannot_be_kept_are_told_apart() {
        assert_eq!(kept_user("ada", "ada"), "ada");
        let (one, other) = ("x".repeat(300), format!("{}y", "x".repeat(299)));
        assert_ne!(kept_user(&one, &one), kept_user(&other, &other));
        assert_ne!(kept_user("sk-1", "[redacted]"), kept_user("sk-2", "[redacted]"));
        let kept = kept_user(&one, &one).into_owned();
        assert!(kept.len() <= LONGEST_USER && kept_user(&kept, &kept) == kept);
        assert_eq!(*user_subject("o", &one), *format!("o{USER_SEPARATOR}{kept}"));
        assert!(kept_user("a\0b", "a\0b").starts_with("ab#"));
    }

    #[test]
    fn names_are_read_back() {
        assert!(Payer::ALL.iter().all(|payer| Payer::from_name(payer.name()) == Some(*payer)));
        assert!(Span::OF_BUDGETS.iter().all(|span| Span::from_name(span.name()) == Some(*span)));
        assert_eq!(Span::from_name("prepaid"), None);
    }
}
