//! Writes one log line into a buffer, field by field, as JSON or for people: what a line looks like is decided here.
//!
//! ```text
//! {"time":"2026-11-02T09:30:00.125Z","level":"info","event":"request","request_id":"req_…","model":"m","status":200,…}
//! 09:30:00.125 INFO  request request_id=req_… model=m status=200 …
//! ```

use crate::domain::{Money, RequestId};
use log::Level;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line. Times are RFC 3339 in UTC with milliseconds.
    Json,
    /// `time LEVEL event name=value …` with absent values left out. Times of day in UTC.
    Human {
        /// Whether levels are coloured with ANSI escapes.
        colour: bool,
    },
}

/// A line being written. Fields appear in the order of the calls; [`Line::end`] closes it.
pub(super) struct Line<'b> {
    to: &'b mut Vec<u8>,
    format: Format,
}

impl<'b> Line<'b> {
    /// Begins a line of this kind (for people it may be empty) at this time in milliseconds since the Unix epoch.
    pub fn begin(to: &'b mut Vec<u8>, format: Format, unix_ms: u64, level: Level, event: &str) -> Self {
        let mut line = Self { to, format };
        match format {
            Format::Json => {
                line.put(b"{\"time\":\"");
                write_date(line.to, unix_ms);
                line.put(b"T");
                write_time_of_day(line.to, unix_ms);
                line.put(b"Z\",\"level\":\"");
                line.put(lower_name(level));
                line.put(b"\",\"event\":");
                line.json_string(event);
            }
            Format::Human { colour } => {
                write_time_of_day(line.to, unix_ms);
                let (before, after) = if colour { ansi(level) } else { ("", "") };
                // Writing to memory cannot fail, here and below.
                let _ = write!(line.to, " {before}{level:<5}{after}");
                if !event.is_empty() {
                    line.put(b" ");
                    line.put(event.as_bytes());
                }
            }
        }
        line
    }

    /// A text. Where it stands among the fields for people it is quoted when it has to be.
    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        match self.format {
            Format::Json => self.json_string(value),
            // Unlike JSON's, the quoting of Rust's `Debug` escapes every control character.
            Format::Human { .. } if needs_quotes(value) => {
                let _ = write!(self.to, "{value:?}");
            }
            Format::Human { .. } => self.put(value.as_bytes()),
        }
    }

    /// A text that may be absent: `null` in JSON, nothing for people.
    pub fn text_or_null(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(name, value),
            None => self.null(name),
        }
    }

    /// A list of texts; for people, one text with commas.
    pub fn list<'v>(&mut self, name: &str, values: impl Iterator<Item = Cow<'v, str>>) {
        let values: Vec<_> = values.collect();
        match self.format {
            Format::Human { .. } => self.text(name, &values.join(",")),
            Format::Json => {
                self.name(name);
                for (index, value) in values.iter().enumerate() {
                    self.put(if index == 0 { b"[" } else { b"," });
                    self.json_string(value);
                }
                self.put(if values.is_empty() { b"[]" } else { b"]" });
            }
        }
    }

    /// Some JSON, built elsewhere.
    pub fn json(&mut self, name: &str, value: &RawValue) {
        self.name(name);
        self.put(value.get().as_bytes());
    }

    /// A request's id.
    pub fn id(&mut self, name: &str, id: RequestId) {
        self.name(name);
        let quote: &[u8] = if self.format == Format::Json { b"\"" } else { b"" };
        self.put(quote);
        let _ = write!(self.to, "{id}");
        self.put(quote);
    }

    /// A whole number.
    pub fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.integer(value);
    }

    /// A whole number that may be absent.
    pub fn number_or_null(&mut self, name: &str, value: Option<u64>) {
        match value {
            Some(value) => self.number(name, value),
            None => self.null(name),
        }
    }

    /// A yes or no.
    pub fn flag(&mut self, name: &str, value: bool) {
        self.name(name);
        self.put(if value { b"true" } else { b"false" });
    }

    /// A duration in milliseconds with three decimals.
    pub fn millis(&mut self, name: &str, value: Option<Duration>) {
        let Some(value) = value else { return self.null(name) };
        self.name(name);
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.integer(micros / 1000);
        self.put(&[b'.', digit(micros, 100), digit(micros, 10), digit(micros, 1)]);
    }

    /// A ratio with four decimals.
    pub fn ratio(&mut self, name: &str, value: Option<f32>) {
        let Some(value) = value.filter(|value| value.is_finite()) else { return self.null(name) };
        self.name(name);
        let _ = write!(self.to, "{value:.4}");
    }

    /// An exact decimal number of dollars.
    pub fn money(&mut self, name: &str, value: Option<Money>) {
        let Some(value) = value else { return self.null(name) };
        self.name(name);
        match u64::try_from(value.picos()) {
            Ok(picos) => self.picos(picos),
            // Negative, or above 18 million dollars.
            Err(_) => self.put(value.to_dollars().as_bytes()),
        }
    }

    /// Nothing: `null` in JSON, so that every line has the same columns; for people the field is left out.
    pub fn null(&mut self, name: &str) {
        if self.format == Format::Json {
            self.name(name);
            self.put(b"null");
        }
    }

    /// A message in words: a field in JSON, plain text for people, on one line and without terminal escapes.
    pub fn message(&mut self, value: &str) {
        match self.format {
            Format::Json => self.text("message", value),
            Format::Human { .. } => {
                self.put(b" ");
                for character in value.chars() {
                    match character {
                        '\n' => self.put(b" | "),
                        '\t' => self.put(b" "),
                        character if character.is_control() => {
                            let _ = write!(self.to, "{}", character.escape_default());
                        }
                        character => self.put(character.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
        }
    }

    /// Closes the line.
    pub fn end(self) {
        self.to.extend_from_slice(if self.format == Format::Json { b"}\n" } else { b"\n" });
    }

    fn name(&mut self, name: &str) {
        let (before, after): (&[u8], &[u8]) = if self.format == Format::Json { (b",\"", b"\":") } else { (b" ", b"=") };
        self.put(before);
        self.put(name.as_bytes());
        self.put(after);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.to.extend_from_slice(bytes);
    }

    fn integer(&mut self, value: u64) {
        self.put(itoa::Buffer::new().format(value).as_bytes());
    }

    fn json_string(&mut self, value: &str) {
        let _ = serde_json::to_writer(&mut *self.to, value);
    }

    fn picos(&mut self, picos: u64) {
        const PER_DOLLAR: u64 = 1_000_000_000_000;
        self.integer(picos / PER_DOLLAR);
        let mut fraction = picos % PER_DOLLAR;
        if fraction == 0 {
            return;
        }
        let mut digits = [b'0'; 13];
        for place in digits[1..].iter_mut().rev() {
            *place = digit(fraction, 1);
            fraction /= 10;
        }
        digits[0] = b'.';
        let length = digits.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
        self.put(&digits[..length]);
    }
}

/// Fields as people read them: `words name=value name="a value"`.
pub(super) fn as_words(words: &str, fields: &[(&str, Cow<'_, str>)]) -> String {
    let mut text = words.to_owned();
    for (name, value) in fields {
        let space = if text.is_empty() { "" } else { " " };
        let _ = if needs_quotes(value) {
            write!(text, "{space}{name}={value:?}")
        } else {
            write!(text, "{space}{name}={value}")
        };
    }
    text
}

/// A text that would not be read as one value, or that could play tricks on a terminal.
fn needs_quotes(value: &str) -> bool {
    value.is_empty() || value.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '"' | '='))
}

fn lower_name(level: Level) -> &'static [u8] {
    match level {
        Level::Error => b"error",
        Level::Warn => b"warn",
        Level::Info => b"info",
        Level::Debug => b"debug",
        Level::Trace => b"trace",
    }
}

fn ansi(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Error => ("\x1b[31m", "\x1b[0m"),
        Level::Warn => ("\x1b[33m", "\x1b[0m"),
        Level::Info => ("\x1b[32m", "\x1b[0m"),
        Level::Debug | Level::Trace => ("\x1b[2m", "\x1b[0m"),
    }
}

/// The decimal digit of `value` at `place` (1, 10, 100 …).
fn digit(value: u64, place: u64) -> u8 {
    b'0' + (value / place % 10) as u8
}

/// `2026-11-02`, counted from the epoch in years that begin in March, so that the leap day comes last.
fn write_date(to: &mut Vec<u8>, unix_ms: u64) {
    let days = unix_ms / 86_400_000 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let year = [digit(year, 1000), digit(year, 100), digit(year, 10), digit(year, 1)];
    to.extend_from_slice(&year);
    to.extend_from_slice(&[b'-', digit(month, 10), digit(month, 1), b'-', digit(day, 10), digit(day, 1)]);
}

/// `09:30:00.125`
fn write_time_of_day(to: &mut Vec<u8>, unix_ms: u64) {
    let (seconds, millis) = (unix_ms / 1000, unix_ms % 1000);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    to.extend_from_slice(&[digit(hour, 10), digit(hour, 1), b':', digit(minute, 10), digit(minute, 1), b':']);
    to.extend_from_slice(&[digit(second, 10), digit(second, 1), b'.']);
    to.extend_from_slice(&[digit(millis, 100), digit(millis, 10), digit(millis, 1)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, fields: impl FnOnce(&mut Line<'_>)) -> String {
        let mut buffer = Vec::new();
        let mut line = Line::begin(&mut buffer, format, 1_793_611_800_125, Level::Info, "request");
        fields(&mut line);
        line.end();
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix_ms, date) in [
            (0, "1970-01-01"),
            (951_782_400_000, "2000-02-29"),
            (951_868_800_000, "2000-03-01"),
            (1_709_164_800_000, "2024-02-29"),
            (1_798_761_599_999, "2026-12-31"),
            (4_107_542_400_000, "2100-03-01"),
        ] {
            let mut buffer = Vec::new();
            write_date(&mut buffer, unix_ms);
            assert_eq!(std::str::from_utf8(&buffer).unwrap(), date);
        }
    }

    #[test]
    fn a_json_line_is_valid_whatever_the_texts_hold() {
        let line = written(Format::Json, |line| {
            line.text("model", "a\"b\\c\n\u{1b}[31m\u{2028}é");
            line.text_or_null("provider", None);
            line.list("dropped", ["seed", "a\""].into_iter().map(Cow::Borrowed));
            line.list("none", std::iter::empty());
            line.millis("latency_ms", Some(Duration::from_micros(1_234_005)));
            line.money("cost_usd", Some(Money::from_picos(150_000)));
            line.flag("fallback", true);
        });
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["time"], "2026-11-02T09:30:00.125Z");
        assert_eq!(value["model"], "a\"b\\c\n\u{1b}[31m\u{2028}é");
        assert!(value["provider"].is_null());
        assert_eq!(value["dropped"], serde_json::json!(["seed", "a\""]));
        assert_eq!(value["none"], serde_json::json!([]));
        assert!(line.contains(r#""latency_ms":1234.005,"cost_usd":0.00000015,"fallback":true}"#), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn a_line_for_people_has_no_escapes_and_no_second_line() {
        let line = written(Format::Human { colour: false }, |line| {
            line.text("model", "a b\n\u{1b}[31m\u{9b}");
            line.text("plain", "gpt:x/y-1");
            line.null("cost_usd");
            line.message("one\ntwo\u{7}\r");
        });
        assert_eq!(
            line,
            "09:30:00.125 INFO  request model=\"a b\\n\\u{1b}[31m\\u{9b}\" plain=gpt:x/y-1 one | two\\u{7}\\r\n"
        );
    }

    #[test]
    fn money_is_written_as_exactly_as_it_is_kept() {
        for picos in [0, 1, 150_000, 999_999_999_999, 1_000_000_000_000, 12_340_000_000_000, u64::MAX as i128 + 1, -5] {
            let money = Money::from_picos(picos);
            let line = written(Format::Json, |line| line.money("cost_usd", Some(money)));
            assert!(line.ends_with(&format!("\"cost_usd\":{}}}\n", money.to_dollars())), "{line}");
        }
    }
}
