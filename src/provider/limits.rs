//! What the head of an answer tells about the limits of the key it was asked with.
//!
//! ```text
//!   x-ratelimit-{limit,remaining,reset}-{requests,tokens}            OpenAI, Azure, Groq, xAI, Fireworks
//!   x-ratelimit-{limit,remaining}-{req,tokens}-minute                Mistral
//!   x-ratelimit-remaining-{requests,tokens}-minute                   Hugging Face's routers
//!   x-ratelimit-{limit,remaining,reset}, ratelimit-…                 Together, OpenRouter, RFC drafts: requests
//!   anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}
//! ```
//!
//! What does not parse is as good as not there.

use super::classify::moment;
use crate::dialect::table::Dialect;
use crate::domain::{RateLimit, RateLimits};

/// The headers of one limit: how much in all, what is left, when it is whole again. An empty name is never sent.
type Names = (&'static str, &'static str, &'static str);

/// The ways of OpenAI-compatible providers, the most usual first.
const OPENAI: [(Names, Names); 5] = [
    (
        ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ),
    (
        ("x-ratelimit-limit-req-minute", "x-ratelimit-remaining-req-minute", ""),
        ("x-ratelimit-limit-tokens-minute", "x-ratelimit-remaining-tokens-minute", ""),
    ),
    (("", "x-ratelimit-remaining-requests-minute", ""), ("", "x-ratelimit-remaining-tokens-minute", "")),
    (("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"), NONE),
    (("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"), NONE),
];

const NONE: Names = ("", "", "");

const ANTHROPIC_REQUESTS: Names = (
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
);

const ANTHROPIC_TOKENS: [Names; 3] = [
    ("anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    (
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
    ),
    (
        "anthropic-ratelimit-output-tokens-limit",
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
    ),
];

/// What is told, in the way of a wire format. `headers` finds a header's value by its lower-case name; `now_unix_ms` is what resets that
/// are given as dates are measured from.
pub fn rate_limits<'h>(dialect: Dialect, headers: impl Fn(&str) -> Option<&'h str>, now_unix_ms: u64) -> RateLimits {
    let read = |names: &Names| limit(&headers, names, now_unix_ms);
    match dialect {
        Dialect::AnthropicMessages => RateLimits {
            requests: read(&ANTHROPIC_REQUESTS),
            tokens: ANTHROPIC_TOKENS.iter().filter_map(read).min_by(|a, b| share(a).total_cmp(&share(b))),
        },
        // They tell nothing before their 429.
        Dialect::Gemini | Dialect::Cohere | Dialect::Ollama | Dialect::BedrockConverse => RateLimits::default(),
        _ => {
            let told =
                |(requests, tokens): &(Names, Names)| RateLimits { requests: read(requests), tokens: read(tokens) };
            OPENAI.iter().map(told).find(|told| *told != RateLimits::default()).unwrap_or_default()
        }
    }
}

fn limit<'h>(headers: &impl Fn(&str) -> Option<&'h str>, names: &Names, now_unix_ms: u64) -> Option<RateLimit> {
    let (all, remaining, reset) = *names;
    let header = |name: &str| if name.is_empty() { None } else { headers(name) };
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| n.max(0.0) as u64);
    let remaining = number(header(remaining)?)?;
    let reset = header(reset).and_then(|text| moment(text.trim(), now_unix_ms));
    Some(RateLimit { limit: header(all).and_then(number), remaining, reset })
}

/// The part of a limit that is left.
fn share(limit: &RateLimit) -> f64 {
    limit.limit.filter(|all| *all > 0).map_or(1.0, |all| limit.remaining as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// 2026-11-21T12:00:00Z.
    const NOW: u64 = 1_795_262_400_000;

    fn told(dialect: Dialect, headers: &[(&str, &'static str)]) -> RateLimits {
        let find = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        rate_limits(dialect, find, NOW)
    }

    fn of(limit: Option<u64>, remaining: u64, reset_ms: Option<u64>) -> Option<RateLimit> {
        Some(RateLimit { limit, remaining, reset: reset_ms.map(Duration::from_millis) })
    }

    #[test]
    fn openai_and_those_who_follow_it() {
        let headers = [
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-remaining-requests", "9999"),
            ("x-ratelimit-reset-requests", "6ms"),
            ("x-ratelimit-limit-tokens", "30000000"),
            ("x-ratelimit-remaining-tokens", "29999828"),
            ("x-ratelimit-reset-tokens", "1m2.5s"),
        ];
        let expected = RateLimits {
            requests: of(Some(10_000), 9_999, Some(6)),
            tokens: of(Some(30_000_000), 29_999_828, Some(62_500)),
        };
        assert_eq!(told(Dialect::OpenAiChat, &headers), expected);
        // Some have only one of the two, or no reset.
        assert_eq!(
            told(Dialect::OpenAiChat, &[("x-ratelimit-remaining-tokens", "7")]),
            RateLimits { requests: None, tokens: of(None, 7, None) }
        );
    }

    #[test]
    fn other_names_for_the_same() {
        let minute = [
            ("x-ratelimit-limit-req-minute", "60"),
            ("x-ratelimit-remaining-req-minute", "51"),
            ("x-ratelimit-limit-tokens-minute", "500000"),
            ("x-ratelimit-remaining-tokens-minute", "499384"),
        ];
        let expected = RateLimits { requests: of(Some(60), 51, None), tokens: of(Some(500_000), 499_384, None) };
        assert_eq!(told(Dialect::OpenAiChat, &minute), expected);
        let plain = [("x-ratelimit-limit", "30"), ("x-ratelimit-remaining", "29"), ("x-ratelimit-reset", "2")];
        let expected = RateLimits { requests: of(Some(30), 29, Some(2_000)), tokens: None };
        assert_eq!(told(Dialect::OpenAiChat, &plain), expected);
        assert_eq!(
            told(Dialect::OpenAiChat, &[("ratelimit-remaining", "399"), ("ratelimit-reset", "19")]).requests,
            of(None, 399, Some(19_000))
        );
    }

    #[test]
    fn anthropics_nearest_limit_of_tokens_counts() {
        let headers = [
            ("anthropic-ratelimit-requests-limit", "1000"),
            ("anthropic-ratelimit-requests-remaining", "999"),
            ("anthropic-ratelimit-requests-reset", "2026-11-21T12:00:01Z"),
            ("anthropic-ratelimit-tokens-limit", "120000"),
            ("anthropic-ratelimit-tokens-remaining", "110000"),
            ("anthropic-ratelimit-tokens-reset", "2026-11-21T12:00:05Z"),
            ("anthropic-ratelimit-output-tokens-limit", "20000"),
            ("anthropic-ratelimit-output-tokens-remaining", "2000"),
            ("anthropic-ratelimit-output-tokens-reset", "2026-11-21T12:00:54Z"),
        ];
        let expected =
            RateLimits { requests: of(Some(1_000), 999, Some(1_000)), tokens: of(Some(20_000), 2_000, Some(54_000)) };
        assert_eq!(told(Dialect::AnthropicMessages, &headers), expected);
        assert_eq!(told(Dialect::OpenAiChat, &headers), RateLimits::default());
    }

    #[test]
    fn nonsense_is_as_good_as_nothing() {
        for value in ["", "many", "NaN", "inf", "REDACTED"] {
            assert_eq!(
                told(Dialect::OpenAiChat, &[("x-ratelimit-remaining-requests", value)]),
                RateLimits::default(),
                "{value}"
            );
        }
        assert_eq!(told(Dialect::OpenAiChat, &[("x-ratelimit-remaining-requests", "-3")]).requests, of(None, 0, None));
        assert_eq!(told(Dialect::Gemini, &[("x-ratelimit-remaining-requests", "3")]), RateLimits::default());
    }

    proptest::proptest! {
        #[test]
        fn no_header_is_too_odd(value in "\\PC{0,24}", number in proptest::prelude::any::<f64>()) {
            let number = number.to_string();
            for text in [&value, &number] {
                for dialect in [Dialect::OpenAiChat, Dialect::AnthropicMessages] {
                    rate_limits(dialect, |_| Some(text), NOW);
                }
            }
        }
    }
}
