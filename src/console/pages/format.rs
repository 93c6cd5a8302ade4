//! How numbers, money, durations and times are written on pages.

use crate::domain::Money;
use maud::{Markup, html};
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

const STAMP: &[FormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
const ISO: &[FormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// `1,847`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `987`, `12.3k`, `4.56M`: for tiles and axes.
pub(super) fn short(number: f64) -> String {
    let magnitude = number.abs();
    let (scaled, unit) = match magnitude {
        _ if magnitude >= 1e9 => (number / 1e9, "G"),
        _ if magnitude >= 1e6 => (number / 1e6, "M"),
        _ if magnitude >= 1e4 => (number / 1e3, "k"),
        _ => (number, ""),
    };
    let text = match scaled.abs() {
        size if unit.is_empty() && size.fract() == 0.0 => format!("{scaled:.0}"),
        size if size >= 100.0 => format!("{scaled:.0}"),
        size if size >= 10.0 => format!("{scaled:.1}"),
        _ => format!("{scaled:.2}"),
    };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// `$12.34`, `$0.0042`: what is less than a cent keeps two digits that count.
pub(super) fn money(amount: Money) -> String {
    let dollars = amount.picos() as f64 / 1e12;
    let size = dollars.abs();
    let sign = if dollars < 0.0 { "\u{2212}" } else { "" };
    match size {
        0.0 => "$0".to_owned(),
        _ if size >= 1000.0 => format!("{sign}${}", count(size.round() as u64)),
        _ if size >= 0.01 => format!("{sign}${size:.2}"),
        _ => {
            let places = (-size.log10()).ceil() as usize + 1;
            format!("{sign}${size:.places$}")
        }
    }
}

/// `842 µs`, `12 ms`, `1.24 s`, `2 min 3 s`.
pub(super) fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} \u{b5}s"),
        1_000..10_000 => format!("{:.1} ms", micros as f64 / 1e3),
        10_000..1_000_000 => format!("{} ms", micros / 1_000),
        1_000_000..60_000_000 => format!("{:.2} s", micros as f64 / 1e6),
        _ => seconds(micros / 1_000_000),
    }
}

/// `45 s`, `2 min 3 s`, `5 h 2 min`, `3 d`.
pub(super) fn seconds(seconds: u64) -> String {
    let two = |large: u64, unit: &str, small: u64, below: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {below}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// `98%`; of the whole number of hundredths that is at most the share, so that only everything is 100%.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0}%", (share * 100.0).floor())
}

/// The share of a part in a whole, to a tenth of a percent; a dash where there is no whole.
pub(super) fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "\u{2013}".to_owned(),
        _ => format!("{}%", short((part as f64 / whole as f64 * 1000.0).round() / 10.0)),
    }
}

fn moment(unix_ms: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000).ok()
}

/// `2026-11-21 13:05:53`, in UTC.
pub(super) fn stamp(unix_ms: u64) -> String {
    moment(unix_ms).and_then(|moment| moment.format(STAMP).ok()).unwrap_or_default()
}

/// A time that the script tells in the reader's own zone; without it, in UTC.
pub(super) fn clock(unix_ms: u64) -> Markup {
    let iso = moment(unix_ms).and_then(|moment| moment.format(ISO).ok()).unwrap_or_default();
    html! { time.nowrap datetime=(iso) data-clock { (stamp(unix_ms)) " UTC" } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_can_be_told_apart() {
        let counts = [0, 999, 1847, 1_000_000].map(count);
        assert_eq!(counts, ["0", "999", "1,847", "1,000,000"]);
        let shorts = [0.0, 987.0, 9_999.0, 12_340.0, 4_560_000.0, 0.25, 2e9].map(short);
        assert_eq!(shorts, ["0", "987", "9999", "12.3k", "4.56M", "0.25", "2G"]);
        assert_eq!([share(1, 3), share(0, 7), share(1, 0)], ["33.3%", "0%", "\u{2013}"]);
        assert_eq!([percent(0.999), percent(1.0)], ["99%", "100%"]);
    }

    #[test]
    fn money_keeps_what_counts() {
        let told = |dollars: &str| money(Money::from_dollars(dollars).unwrap());
        assert_eq!(
            ["0", "12.345", "0.0042", "0.00000015", "-3", "1234.5"].map(told),
            ["$0", "$12.35", "$0.0042", "$0.00000015", "\u{2212}$3.00", "$1,235"]
        );
    }

    #[test]
    fn durations_and_times_read_like_ones() {
        let durations = [842, 2_300, 12_999, 1_240_000, 123_000_000].map(micros);
        assert_eq!(durations, ["842 \u{b5}s", "2.3 ms", "12 ms", "1.24 s", "2 min 3 s"]);
        assert_eq!([45, 3600, 90_000].map(seconds), ["45 s", "1 h", "1 d 1 h"]);
        assert_eq!(stamp(1_000_000_000_123), "2001-09-09 01:46:40");
        assert!(clock(1_000_000_000_123).into_string().contains("2001-09-09T01:46:40.123Z"));
    }
}
