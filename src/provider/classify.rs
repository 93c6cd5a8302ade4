//! What an answer with an error status means: the fault, and how long the provider asks to wait.
//!
//! The kind of fault comes from the body's words (`dialect::error`). The wait comes from the first of these that says one:
//!
//! ```text
//!   retry-after-ms, x-ms-retry-after-ms     milliseconds                                    (OpenAI, Azure)
//!   retry-after                             seconds or an HTTP date                         (RFC 9110, 10.2.3)
//!   the body                                Google's RetryInfo; the longer of this and the headers above counts
//!
//!   and for rate limits only:
//!   the message                             "try again in 7.5s", "retry after 12 seconds"   (OpenAI, Groq, Azure)
//!   x-ratelimit-reset-*                     "1s", "6m0s", seconds or Unix time              (OpenAI, Groq, OpenRouter)
//!   anthropic-ratelimit-*-reset             RFC 3339                                        (Anthropic)
//! ```

use crate::dialect::bedrock_converse;
use crate::dialect::table::Dialect;
use crate::domain::{Fault, FaultKind};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

/// The longest wait that is believed; a provider that says more is asked again tomorrow.
pub const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Pairs of headers: what is left of a limit, and when it is whole again.
const LIMITS: [(&str, &str); 9] = [
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
    ("anthropic-fast-input-tokens-remaining", "anthropic-fast-input-tokens-reset"),
];

/// The fault behind an answer whose status is not 2xx. `headers` finds a header's value by its lower-case name; `now_unix_ms` is what
/// waits that are given as dates are measured from.
pub fn classify<'h>(
    dialect: Dialect,
    status: u16,
    headers: impl Fn(&str) -> Option<&'h str>,
    body: &[u8],
    now_unix_ms: u64,
) -> Fault {
    if status < 400 {
        let fault = Fault::malformed(format!("the provider answers with status {status}: is its base URL right?"));
        return Fault { status: Some(status), ..fault };
    }
    let mut error = dialect.error(body);
    if error.code.is_none() {
        // Amazon says the kind of its errors in a header.
        error.code = headers("x-amzn-errortype").map(bedrock_converse::error::exception);
    }
    let mut fault = error.into_fault(Some(status));
    let from_body = fault.retry_after.map(|wait| wait.min(MAX_WAIT)).filter(|wait| !wait.is_zero());
    fault.retry_after = asked(&headers, now_unix_ms).max(from_body);
    if fault.retry_after.is_none() && fault.kind == FaultKind::RateLimited {
        fault.retry_after = in_words(&fault.message).or_else(|| reset(&headers, now_unix_ms));
    }
    if matches!(status, 404 | 405) && !names_a_model(&fault) {
        fault.message =
            format!("the provider answers {status} to this path, is its base URL right? It says: {}", fault.message)
                .into();
    }
    fault
}

/// Whether a 404 speaks of the model and not of the path.
fn names_a_model(fault: &Fault) -> bool {
    let words = [Some(fault.message.as_ref()), fault.code.as_deref(), fault.error_type.as_deref()];
    words.into_iter().flatten().any(|word| {
        let word = word.to_ascii_lowercase();
        ["model", "endpoints found", "deployment"].iter().any(|about| word.contains(about))
    })
}

/// The wait that the headers ask for outright.
fn asked<'h>(headers: &impl Fn(&str) -> Option<&'h str>, now_unix_ms: u64) -> Option<Duration> {
    let precise = ["retry-after-ms", "x-ms-retry-after-ms"];
    let milliseconds = precise.into_iter().find_map(|name| wait(headers(name)?.trim().parse::<f64>().ok()? / 1000.0));
    milliseconds.or_else(|| {
        let text = headers("retry-after")?.trim();
        match text.parse::<f64>() {
            Ok(seconds) => wait(seconds),
            Err(_) => until(OffsetDateTime::parse(text, &Rfc2822).ok()?, now_unix_ms),
        }
    })
}

/// The wait that a message names: `Please try again in 6m0s.`, `Please retry after 12 seconds.`
fn in_words(message: &str) -> Option<Duration> {
    let rest = ["try again in ", "retry in ", "retry after "].iter().find_map(|before| message.split_once(before))?.1;
    let mut words = rest.split_whitespace();
    let amount = words.next()?.trim_end_matches(['.', ',']);
    let Ok(number) = amount.parse::<f64>() else { return go_duration(amount) };
    match words.next()? {
        unit if unit.starts_with("sec") => wait(number),
        unit if unit.starts_with("min") => wait(number * 60.0),
        unit if unit.starts_with("hour") => wait(number * 3_600.0),
        _ => None,
    }
}

/// When a limit that is used up is whole again: the latest of those with nothing left. When all have something left, one was too small
/// for this request, and the earliest is the best guess.
fn reset<'h>(headers: &impl Fn(&str) -> Option<&'h str>, now_unix_ms: u64) -> Option<Duration> {
    let waits = |used_up: bool| {
        LIMITS.iter().filter_map(move |(remaining, reset)| {
            let wait = moment(headers(reset)?.trim(), now_unix_ms)?;
            let left = headers(remaining).and_then(|left| left.trim().parse::<f64>().ok());
            (left.is_none_or(|left| left <= 0.0) == used_up).then_some(wait)
        })
    };
    waits(true).max().or_else(|| waits(false).min())
}

/// A wait in any of the forms that reset headers take.
pub(super) fn moment(text: &str, now_unix_ms: u64) -> Option<Duration> {
    /// From here on a number is a date: 2001 in seconds, and in milliseconds.
    const UNIX_SECONDS: f64 = 1e9;
    const UNIX_MILLISECONDS: f64 = 1e12;
    match text.parse::<f64>() {
        Ok(number) if number >= UNIX_MILLISECONDS => wait((number - now_unix_ms as f64) / 1000.0),
        Ok(number) if number >= UNIX_SECONDS => wait(number - now_unix_ms as f64 / 1000.0),
        Ok(seconds) => wait(seconds),
        Err(_) => match OffsetDateTime::parse(text, &Rfc3339).or_else(|_| OffsetDateTime::parse(text, &Rfc2822)) {
            Ok(date) => until(date, now_unix_ms),
            Err(_) => go_duration(text),
        },
    }
}

/// A duration as Go writes it: `1s`, `6m0s`, `1h2m3.5s`, `20ms`.
fn go_duration(mut text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    while !text.is_empty() {
        let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = text[..unit_at].parse().ok()?;
        let rest = &text[unit_at..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit_end] {
                "d" => 86_400.0,
                "h" => 3_600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        text = &rest[unit_end..];
    }
    wait(seconds)
}

fn until(date: OffsetDateTime, now_unix_ms: u64) -> Option<Duration> {
    let date_ms = date.unix_timestamp_nanos() / 1_000_000;
    wait((date_ms - i128::from(now_unix_ms)) as f64 / 1000.0)
}

/// A wait of so many seconds, rounded up to milliseconds and bounded; nothing, what is past and what is no number are no wait.
fn wait(seconds: f64) -> Option<Duration> {
    if seconds.is_nan() || seconds <= 0.0 {
        return None;
    }
    let milliseconds = (seconds * 1000.0 - 1e-6).ceil().min(MAX_WAIT.as_millis() as f64);
    Some(Duration::from_millis(milliseconds as u64)).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T12:00:00Z.
    const NOW: u64 = 1_795_262_400_000;

    fn with_body(status: u16, headers: &[(&str, &'static str)], body: &str) -> Fault {
        let find = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        classify(Dialect::OpenAiChat, status, find, body.as_bytes(), NOW)
    }

    fn waits(headers: &[(&str, &'static str)]) -> Option<u128> {
        with_body(429, headers, "{}").retry_after.map(|wait| wait.as_millis())
    }

    #[test]
    fn retry_after_in_all_its_forms() {
        for (header, value, expected) in [
            ("retry-after", "7", Some(7_000)),
            ("retry-after", " 7 ", Some(7_000)),
            ("retry-after", "0.5", Some(500)),
            ("retry-after", "Sat, 21 Nov 2026 12:00:30 GMT", Some(30_000)),
            ("retry-after", "Sat, 21 Nov 2026 11:59:00 GMT", None),
            ("retry-after", "0", None),
            ("retry-after", "-3", None),
            ("retry-after", "NaN", None),
            ("retry-after", "inf", Some(86_400_000)),
            ("retry-after", "99999999999", Some(86_400_000)),
            ("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT", Some(86_400_000)),
            ("retry-after", "soon", None),
            ("retry-after", "", None),
            ("retry-after-ms", "750", Some(750)),
            ("retry-after-ms", "0.4", Some(1)),
            ("x-ms-retry-after-ms", "1500", Some(1_500)),
        ] {
            assert_eq!(waits(&[(header, value)]), expected, "{header}: {value}");
        }
        assert_eq!(waits(&[("retry-after", "1"), ("retry-after-ms", "750")]), Some(750));
        assert_eq!(waits(&[("retry-after", "1"), ("retry-after-ms", "0")]), Some(1_000));
        assert_eq!(waits(&[]), None);
    }

    #[test]
    fn a_wait_is_kept_whatever_the_fault() {
        assert_eq!(with_body(503, &[("retry-after", "2")], "").retry_after, Some(Duration::from_secs(2)));
        assert_eq!(with_body(503, &[("x-ratelimit-reset-requests", "2s")], "").retry_after, None);
        let quota = r#"{"error": {"code": "insufficient_quota", "message": "x"}}"#;
        assert_eq!(with_body(429, &[("x-ratelimit-reset-requests", "2s")], quota).retry_after, None);
    }

    #[test]
    fn reset_headers_in_all_their_forms() {
        for (value, expected) in [
            ("1s", Some(1_000)),
            ("6m0s", Some(360_000)),
            ("1h2m3.5s", Some(3_723_500)),
            ("20ms", Some(20)),
            ("2m59.56s", Some(179_560)),
            ("250us", Some(1)),
            ("12µs", Some(1)),
            ("1d", Some(86_400_000)),
            ("400h", Some(86_400_000)),
            ("17", Some(17_000)),
            ("1795262410", Some(10_000)),
            ("1795262410500", Some(10_500)),
            ("2026-11-21T12:00:05Z", Some(5_000)),
            ("2026-11-21T13:00:05+01:00", Some(5_000)),
            ("2026-11-21T11:59:05Z", None),
            ("1795262390", None),
            ("0s", None),
            ("", None),
            ("s", None),
            ("5x", None),
            ("1.2.3s", None),
            ("-1s", None),
            ("1m30", None),
            ("日本", None),
        ] {
            assert_eq!(waits(&[("x-ratelimit-reset-requests", value)]), expected, "{value}");
        }
        assert_eq!(waits(&[("anthropic-ratelimit-tokens-reset", "2026-11-21T12:00:05Z")]), Some(5_000));
    }

    #[test]
    fn a_wait_in_words_is_understood() {
        for (message, expected) in [
            ("Rate limit reached. Please try again in 7.66s. Visit the docs.", Some(7_660)),
            ("Limit 3, Used 3. Please try again in 6m0s", Some(360_000)),
            ("Please try again in 820ms.", Some(820)),
            ("Please retry after 12 seconds.", Some(12_000)),
            ("Try less, or try again in 2 minutes", Some(120_000)),
            ("Please try again in a while", None),
            ("Please try again in ", None),
            ("Please try again in 5", None),
        ] {
            let body = format!("{{\"error\": {{\"message\": \"{message}\"}}}}");
            let waits = |headers: &[(&str, &'static str)]| {
                with_body(429, headers, &body).retry_after.map(|wait| wait.as_millis())
            };
            assert_eq!(waits(&[]), expected, "{message}");
            assert_eq!(waits(&[("retry-after", "1")]), Some(1_000), "{message}");
        }
    }

    #[test]
    fn the_limit_that_is_used_up_counts() {
        let requests = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "20s")];
        let tokens = [("x-ratelimit-remaining-tokens", "500"), ("x-ratelimit-reset-tokens", "6m0s")];
        assert_eq!(waits(&[requests, tokens].concat()), Some(20_000));
        let no_tokens = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0s")];
        assert_eq!(waits(&[requests, no_tokens].concat()), Some(360_000));
        let some_requests = [("x-ratelimit-remaining-requests", "3"), ("x-ratelimit-reset-requests", "20s")];
        assert_eq!(waits(&[some_requests, tokens].concat()), Some(20_000));
        assert_eq!(waits(&[requests.as_slice(), &[("retry-after", "3")]].concat()), Some(3_000));
    }

    #[test]
    fn the_longer_of_header_and_body_counts() {
        let body = r#"{"error": {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED", "details": [
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "18s"}]}}"#;
        let waits = |headers: &[(&str, &'static str)]| {
            let find = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            classify(Dialect::Gemini, 429, find, body.as_bytes(), NOW).retry_after.map(|wait| wait.as_secs())
        };
        assert_eq!(waits(&[]), Some(18));
        assert_eq!(waits(&[("retry-after", "5")]), Some(18));
        assert_eq!(waits(&[("retry-after", "50")]), Some(50));
    }

    #[test]
    fn the_words_of_each_dialect_are_read() {
        let kind = |dialect, status, body: &str| classify(dialect, status, |_| None, body.as_bytes(), NOW).kind;
        for (dialect, status, body, expected) in [
            (
                Dialect::OpenAiChat,
                429,
                r#"{"error": {"code": "insufficient_quota", "message": "x"}}"#,
                FaultKind::QuotaExhausted,
            ),
            (
                Dialect::OpenAiChat,
                400,
                r#"{"object": "error", "message": "Invalid model: x", "type": "invalid_model"}"#,
                FaultKind::ModelNotFound,
            ),
            (
                Dialect::AnthropicMessages,
                400,
                r#"{"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}}"#,
                FaultKind::QuotaExhausted,
            ),
            (
                Dialect::AnthropicMessages,
                529,
                r#"{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}"#,
                FaultKind::Overloaded,
            ),
            (
                Dialect::Gemini,
                400,
                r#"{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}"#,
                FaultKind::BadCredentials,
            ),
            (Dialect::OpenAiChat, 502, "<html>bad gateway</html>", FaultKind::ServerError),
            (Dialect::OpenAiChat, 429, "", FaultKind::RateLimited),
        ] {
            assert_eq!(kind(dialect, status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_wrong_base_url_is_told_from_a_wrong_model() {
        for body in ["", "<html>404</html>", r#"{"error": {"message": "Invalid URL (POST /v1/v1/chat/completions)"}}"#]
        {
            let fault = with_body(404, &[], body);
            assert!(fault.message.contains("base URL"), "{}", fault.message);
            assert_eq!(fault.kind, FaultKind::ModelNotFound);
        }
        let model =
            with_body(404, &[], r#"{"error": {"message": "The model `x` does not exist", "code": "model_not_found"}}"#);
        assert_eq!(model.message, "The model `x` does not exist");
        let moved = with_body(301, &[("location", "https://elsewhere")], "");
        assert_eq!((moved.kind, moved.status), (FaultKind::Malformed, Some(301)));
        assert!(moved.message.contains("base URL"));
    }
}
