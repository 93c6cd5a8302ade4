//! Takes secrets out of text before it is shown: in a log line, in an error for a client, in a trace.
//!
//! Two nets, one behind the other. **Known** secrets are those that the gateway holds itself (provider keys, gateway
//! keys, the admin token), found wherever they stand, also JSON-escaped, percent-encoded or cut to their beginning or end.
//! **Shapes** catch what nobody registered: the prefixes that providers give their keys, what follows `Bearer`, values
//! with a telling name (`api_key=…`, `?key=…`, `"x-api-key": "…"`), and keys that a provider masked with asterisks in
//! the hope that this is enough. The nets err on the side of hiding too much: the text is for people, not for machines.

use crate::domain::Secret;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use arc_swap::ArcSwap;
use memchr::memmem;
use std::borrow::Cow;
use std::fmt;
use std::iter;
use std::ops::Range;
use std::sync::LazyLock;

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Shown instead of a whole text when the search cannot be set up: better nothing than a key.
const WITHHELD: &str = "[withheld]";

/// A known secret shorter than this is no secret: it would blank out ordinary words.
const SHORTEST: usize = 4;
/// A known secret shorter than this counts only as a whole word.
const WORD: usize = 8;
/// Of a long known secret, this much of its beginning or end gives it away as well.
const PART: usize = 16;

/// Finds and hides secrets. One instance serves the whole process; registering is atomic and rare.
pub struct Redactor {
    known: ArcSwap<Known>,
}

/// How sure a match of a known pattern is.
#[derive(Clone, Copy)]
enum Match {
    /// The whole secret: sure wherever it stands.
    Whole,
    /// The whole secret, too short to be told from a part of a word.
    Word,
    /// Its beginning or end: what is left of the same word goes as well.
    Part,
}

/// The patterns of the known secrets. Their text lives on inside the automaton, which is not wiped when dropped.
struct Known {
    finder: Option<AhoCorasick>,
    matches: Vec<Match>,
}

impl Known {
    fn of<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let (mut patterns, mut matches) = (Vec::new(), Vec::new());
        for secret in secrets {
            let text = secret.reveal();
            if text.len() < SHORTEST {
                continue;
            }
            let kind = if text.len() < WORD { Match::Word } else { Match::Whole };
            for form in [text.to_owned(), json_escaped(text), percent_encoded(text)] {
                if patterns.last() != Some(&form) {
                    patterns.push(form);
                    matches.push(kind);
                }
            }
            if text.len() >= 2 * PART && text.is_ascii() {
                patterns.push(text[..PART].to_owned());
                patterns.push(text[text.len() - PART..].to_owned());
                matches.extend([Match::Part; 2]);
            }
        }
        Self { finder: AhoCorasick::builder().match_kind(MatchKind::Standard).build(&patterns).ok(), matches }
    }
}

impl Default for Redactor {
    fn default() -> Self {
        Self { known: ArcSwap::from_pointee(Known::of([])) }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} patterns)", self.known.load().matches.len())
    }
}

impl Redactor {
    /// Replaces the set of known secrets: called at the start and after each reload with all of them. Secrets of fewer
    /// than four characters are left out, those of fewer than eight are found as whole words only.
    pub fn register<'a>(&self, secrets: impl IntoIterator<Item = &'a Secret>) {
        self.known.store(std::sync::Arc::new(Known::of(secrets)));
    }

    /// The text without secrets; borrowed, so without cost, when there is none in it.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.redact_with(text, &[])
    }

    /// [`Redactor::redact`], with the secrets of one request (a client's own provider keys) known in addition.
    pub fn redact_with<'a>(&self, text: &'a str, own: &[&Secret]) -> Cow<'a, str> {
        match self.find(text.as_bytes(), own) {
            None => Cow::Borrowed(WITHHELD),
            Some(spans) if spans.is_empty() => Cow::Borrowed(text),
            Some(spans) => Cow::Owned(replaced(text, spans)),
        }
    }

    /// Where the secrets are in what may be no text; they may overlap.
    pub(super) fn spans(&self, bytes: &[u8], own: &[&Secret]) -> Vec<Range<usize>> {
        self.find(bytes, own).unwrap_or_else(|| iter::once(0..bytes.len()).collect())
    }

    /// `None` when the search cannot be set up.
    fn find(&self, bytes: &[u8], own: &[&Secret]) -> Option<Vec<Range<usize>>> {
        let known = self.known.load();
        let (finder, triggers) = (known.finder.as_ref()?, TRIGGER_FINDER.as_ref()?);
        let mut spans: Vec<Range<usize>> = Vec::new();
        // Nearly all texts end here; asking for one match is several times cheaper than for all.
        if own.is_empty() && !finder.is_match(bytes) && !triggers.is_match(bytes) {
            return Some(spans);
        }
        for found in finder.find_overlapping_iter(bytes) {
            match known.matches[found.pattern().as_usize()] {
                Match::Whole => spans.push(found.range()),
                Match::Word if stands_alone(bytes, found.range()) => spans.push(found.range()),
                Match::Word => {}
                Match::Part => spans.push(word_around(bytes, found.range())),
            }
        }
        for secret in own.iter().map(|secret| secret.reveal()).filter(|secret| secret.len() >= SHORTEST) {
            for form in [secret.to_owned(), json_escaped(secret)] {
                spans.extend(memmem::find_iter(bytes, form.as_bytes()).map(|start| start..start + form.len()));
            }
        }
        let mut looked_at = 0;
        for found in triggers.find_overlapping_iter(bytes) {
            // A trigger inside what another one has dealt with says nothing new, and would make long runs quadratic.
            if found.start() < looked_at {
                continue;
            }
            let (name, trigger) = TRIGGERS[found.pattern().as_usize()];
            let (end, span) = trigger.span(name, bytes, found.range());
            looked_at = looked_at.max(end);
            spans.extend(span);
        }
        Some(spans)
    }
}

/// Whether a text looks like a secret, or has one in it, so that it is never shown as it is.
pub fn looks_secret(text: &str) -> bool {
    Redactor::default().redact(text) != text
}

/// The text with each span replaced once, overlapping spans as one.
fn replaced(text: &str, mut spans: Vec<Range<usize>>) -> String {
    spans.sort_unstable_by_key(|span| span.start);
    let mut clean = String::with_capacity(text.len());
    let mut copied = 0;
    for span in spans {
        if span.start >= copied {
            clean.push_str(&text[copied..span.start]);
            clean.push_str(REDACTED);
        }
        copied = copied.max(span.end);
    }
    clean.push_str(&text[copied..]);
    clean
}

/// What the beginning of a secret may look like.
#[derive(Clone, Copy)]
enum Trigger {
    /// A provider's key prefix, in this very case, followed by at least so many characters of a key.
    Prefix { at_least: usize, hyphens: bool },
    /// `Bearer`, `Basic`: a credential follows.
    Scheme,
    /// A name whose value is a secret, however it is written.
    Name,
    /// A name that is telling only in a query or as a JSON member: `?key=`, `&key=`, `"key": "`.
    CommonName,
    /// Part of a key that somebody has masked: `sk-abc***xyz`, `****1234`.
    Asterisks,
}

/// The shapes of secrets. The prefixes are those that the providers document or that their keys are known to have; the
/// lengths are well below the real ones and above any model name.
static TRIGGERS: &[(&str, Trigger)] = &[
    ("sk-", Trigger::Prefix { at_least: 16, hyphens: true }), // OpenAI, Anthropic (sk-ant-), OpenRouter, DeepSeek, ours
    ("AIza", Trigger::Prefix { at_least: 20, hyphens: true }), // Google
    ("AQ.", Trigger::Prefix { at_least: 20, hyphens: true }), // Google, newer
    ("gsk_", Trigger::Prefix { at_least: 16, hyphens: false }), // Groq
    ("xai-", Trigger::Prefix { at_least: 16, hyphens: false }), // xAI
    ("hf_", Trigger::Prefix { at_least: 16, hyphens: false }), // Hugging Face
    ("pplx-", Trigger::Prefix { at_least: 16, hyphens: false }), // Perplexity
    ("fw_", Trigger::Prefix { at_least: 16, hyphens: false }), // Fireworks
    ("tgp_v1_", Trigger::Prefix { at_least: 16, hyphens: true }), // Together
    ("LLM|", Trigger::Prefix { at_least: 8, hyphens: false }), // Meta: LLM|number|text, the number goes first
    ("bearer", Trigger::Scheme),
    ("basic", Trigger::Scheme),
    ("api_key", Trigger::Name),
    ("api-key", Trigger::Name),
    ("apikey", Trigger::Name),
    ("access_token", Trigger::Name),
    ("auth_token", Trigger::Name),
    ("authorization", Trigger::Name),
    ("client_secret", Trigger::Name),
    ("password", Trigger::Name),
    ("byok", Trigger::Name),
    ("key", Trigger::CommonName),
    ("token", Trigger::CommonName),
    ("***", Trigger::Asterisks),
];

static TRIGGER_FINDER: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let names = TRIGGERS.iter().map(|(name, _)| name);
    let mut builder = AhoCorasick::builder();
    builder.ascii_case_insensitive(true).match_kind(MatchKind::Standard).kind(Some(AhoCorasickKind::DFA));
    builder.build(names).ok()
});

impl Trigger {
    /// How far the text is dealt with when this trigger, written `name` in the table, was met at `at`, and the secret
    /// that it stands for, if any.
    fn span(self, name: &str, text: &[u8], at: Range<usize>) -> (usize, Option<Range<usize>>) {
        let span = match self {
            Self::Prefix { at_least, hyphens } => {
                let inside = |byte| is_word(byte) && (hyphens || byte != b'-') || matches!(byte, b'*' | b'|');
                let end = run(text, at.end, inside);
                let begins = begins_word(text, at.start);
                let same_case = name.as_bytes() == &text[at.clone()];
                (begins && same_case && end - at.end >= at_least).then_some(at.start..end)
            }
            Self::Scheme => {
                let start = run(text, at.end, |byte| byte == b' ');
                let end = run(text, start, is_credential);
                (start > at.end && looks_random(&text[start..end])).then_some(start..end)
            }
            Self::Name => value_after(text, at.end),
            Self::CommonName => {
                let told = at.start.checked_sub(1).is_some_and(|before| match text[before] {
                    b'?' | b'&' => text.get(at.end) == Some(&b'='),
                    b'"' | b'\'' => matches!(text.get(at.end), Some(b'"' | b'\'' | b'\\')),
                    _ => false,
                });
                if told { value_after(text, at.end) } else { None }
            }
            Self::Asterisks => {
                let word = word_around(text, at.clone());
                if !text[word.clone()].iter().any(u8::is_ascii_alphanumeric) {
                    return (word.end, None);
                }
                Some(word)
            }
        };
        (span.as_ref().map_or(at.start, |span| span.end), span)
    }
}

/// The value that follows a name which ends at `name_end`: `name=value`, `"name": "value"` (also with the quotes
/// escaped, as JSON inside a JSON string has them) and `name: value`, the last only when the value looks like a key and not
/// like prose. Without the quotes.
fn value_after(text: &[u8], name_end: usize) -> Option<Range<usize>> {
    let quote = |from| run(text, run(text, from, |byte| byte == b'\\'), |byte| matches!(byte, b'"' | b'\''));
    let spaces = |from| run(text, from, |byte| byte == b' ');
    let separator_at = spaces(quote(name_end));
    let separator = *text.get(separator_at).filter(|byte| matches!(byte, b'=' | b':'))?;
    let opening = spaces(separator_at + 1);
    let start = quote(opening);
    let end = match text[opening..start] {
        [] => return bare_value(text, start).filter(|value| separator == b'=' || looks_random(&text[value.clone()])),
        // `""` in the place of an opening quote is an empty value.
        [b'"', b'"', ..] | [b'\'', b'\'', ..] => return None,
        [b'\\', ..] => run(text, start, |byte| byte != b'\\'),
        [quote, ..] => end_of_string(text, start, quote),
    };
    (end > start).then_some(start..end)
}

/// A value without quotes; of `Bearer abc` the second word.
fn bare_value(text: &[u8], start: usize) -> Option<Range<usize>> {
    let inside = |byte: u8| !byte.is_ascii_whitespace() && !b"&,;\"'<>(){}[]\\".contains(&byte);
    let first = start..run(text, start, inside);
    if [&b"bearer"[..], b"basic"].iter().any(|scheme| text[first.clone()].eq_ignore_ascii_case(scheme)) {
        let second = run(text, first.end, |byte| byte == b' ');
        return Some(second..run(text, second, inside)).filter(|value| !value.is_empty());
    }
    Some(first).filter(|value| !value.is_empty())
}

/// Where a string that began before `start` meets its closing, unescaped quote; the text's end when it never does.
fn end_of_string(text: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start;
    while at < text.len() && text[at] != quote {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    at.min(text.len())
}

/// The end of the run of bytes from `start` that satisfy `inside`.
fn run(text: &[u8], start: usize, inside: impl Fn(u8) -> bool) -> usize {
    text[start..].iter().position(|&byte| !inside(byte)).map_or(text.len(), |length| start + length)
}

/// The range grown to both sides over what a key is made of, asterisks included.
fn word_around(text: &[u8], at: Range<usize>) -> Range<usize> {
    let inside = |byte: u8| is_word(byte) || byte == b'*';
    let before = text[..at.start].iter().rev().take_while(|&&byte| inside(byte)).count();
    let mut start = at.start - before;
    if start > 0 && text[start - 1] == b'\\' {
        // The word's first letters are the rest of an escape, as in `\n****` or `\u003c****`.
        start += if text[start] == b'u' { 5 } else { 1 };
    }
    start.min(at.start)..run(text, at.end, inside)
}

fn stands_alone(text: &[u8], at: Range<usize>) -> bool {
    begins_word(text, at.start) && text.get(at.end).is_none_or(|&byte| !is_word(byte))
}

/// Whether what stands before is no part of the same word. An escape (`\n`, `\u003c`, `%20`) is none, though it ends in
/// a letter.
fn begins_word(text: &[u8], start: usize) -> bool {
    let at = |back: usize| start.checked_sub(back).map(|at| text[at]);
    at(1).is_none_or(|byte| !is_word(byte))
        || at(2) == Some(b'\\')
        || at(3) == Some(b'%')
        || (at(6) == Some(b'\\') && at(5) == Some(b'u'))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// What `Authorization` takes after the scheme (RFC 9110's token68), and the asterisks of masks.
fn is_credential(byte: u8) -> bool {
    is_word(byte) || matches!(byte, b'.' | b'~' | b'+' | b'/' | b'=' | b'*')
}

/// Whether a word is likelier to be a key than a word of a sentence.
fn looks_random(word: &[u8]) -> bool {
    word.len() >= 20 || word.len() >= 8 && word.iter().any(u8::is_ascii_digit)
}

fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_word(byte) || matches!(byte, b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        let redactor = Redactor::default();
        let secrets: Vec<Secret> = secrets.iter().map(|&text| Secret::new(text)).collect();
        redactor.register(&secrets);
        redactor
    }

    #[test]
    fn a_known_secret_is_found_in_every_form() {
        let redactor = redactor(&["p\"ss/wörd 1", "0123456789abcdefghijklmnopqrstuvwxyz", "abcd"]);
        for (text, clean) in [
            ("before p\"ss/wörd 1 after", "before [redacted] after"),
            (r#"{"k":"p\"ss/wörd 1"}"#, r#"{"k":"[redacted]"}"#),
            ("GET /x/p%22ss%2Fw%C3%B6rd%201", "GET /x/[redacted]"),
            ("twice 0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz", "twice [redacted]"),
            ("cut to 0123456789abcdefgh... by you", "cut to [redacted]... by you"),
            ("ends in klmnopqrstuvwxyz", "ends in [redacted]"),
            ("abcd and abcde", "[redacted] and abcde"),
        ] {
            assert_eq!(redactor.redact(text), clean);
        }
    }

    #[test]
    fn shapes_of_keys_are_found_unregistered() {
        let redactor = Redactor::default();
        for (text, clean) in [
            (
                "Incorrect API key provided: sk-proj-aaaaBBBB1111cccc_d. See",
                "Incorrect API key provided: [redacted]. See",
            ),
            ("key sk-ant-api03-aaaaBBBB1111cccc-dddd!", "key [redacted]!"),
            ("AIzaSyA1234567890abcdefghijklmnopqrstu", "[redacted]"),
            ("(gsk_abcdefghijklmnop1234)", "([redacted])"),
            (
                "xai-abcdefghijklmnop1234, hf_abcdefghijklmnop, pplx-0123456789abcdef",
                "[redacted], [redacted], [redacted]",
            ),
            ("LLM|123456789|abcdefgh", "[redacted]"),
            ("Authorization: Bearer abcdef0123", "Authorization: Bearer [redacted]"),
            ("authorization: bearer correcthorsebatterystaple", "authorization: bearer [redacted]"),
            ("authorization=Bearer hunter2, x", "authorization=Bearer [redacted], x"),
            ("Basic dXNlcjpwYXNzd29yZDE=", "Basic [redacted]"),
            ("https://h/v1?alt=sse&key=short HTTP/1.1", "https://h/v1?alt=sse&key=[redacted] HTTP/1.1"),
            ("GET /v1?key=abc&x=1", "GET /v1?key=[redacted]&x=1"),
            ("OPENAI_API_KEY=hunter2 orbyt", "OPENAI_API_KEY=[redacted] orbyt"),
            (r#"{"api_key": "hunter2", "model":"m"}"#, r#"{"api_key": "[redacted]", "model":"m"}"#),
            (r#"{"key":"a\"b","n":1}"#, r#"{"key":"[redacted]","n":1}"#),
            (r#""{\"x-api-key\":\"hunter2\"}""#, r#""{\"x-api-key\":\"[redacted]\"}""#),
            ("x-goog-api-key: abcd1234efgh", "x-goog-api-key: [redacted]"),
            ("Your api key: ****3f9a is invalid", "Your api key: [redacted] is invalid"),
            ("API key provided: xa***yz.", "API key provided: [redacted]."),
            ("sk-abcd****************wxyz", "[redacted]"),
            (r#""line\nsk-proj-aaaaBBBB1111cccc""#, r#""line\n[redacted]""#),
            (r#""\u003csk-proj-aaaaBBBB1111cccc\u003e""#, r#""\u003c[redacted]\u003e""#),
            (r#""\u003c****1234\u003e, \n****1234""#, r#""\u003c[redacted]\u003e, \n[redacted]""#),
            ("x%20sk-proj-aaaaBBBB1111cccc", "x%20[redacted]"),
        ] {
            assert_eq!(redactor.redact(text), clean);
        }
    }

    #[test]
    fn ordinary_text_is_borrowed_untouched() {
        let redactor = redactor(&["sk-or-v1-0123456789abcdef0123456789abcdef", "ab"]);
        for text in [
            "",
            "You exceeded your current quota, please check your plan and billing details.",
            "You need to provide your API key in an Authorization header using Bearer auth",
            "invalid x-api-key",
            "missing api_key: set it in the settings",
            "provider=openai key=openai_01 state=cooldown",
            r#"{"key_name":"team","requested_model":"sk-small","max_tokens":100,"api_key":null,"key":""}"#,
            "sk-or-v1-8f3•••9fb",
            "a task-oriented-description-of-something, disk-aaaaaaaaaaaaaaaaaaaaaa",
            "pplx-embed-context-v1 xai-grok hf_model gsk_x AIza",
            "**bold**, ***, ********, a * b",
            "tab ab about",
        ] {
            assert!(
                matches!(redactor.redact(text), Cow::Borrowed(same) if same == text),
                "{:?}",
                redactor.redact(text)
            );
        }
    }

    #[test]
    fn the_secrets_of_one_request_are_known_for_it_only() {
        let redactor = Redactor::default();
        let own = Secret::new("my-own-provider-key");
        assert_eq!(redactor.redact_with("no: my-own-provider-key", &[&own]), "no: [redacted]");
        assert_eq!(redactor.redact("no: my-own-provider-key"), "no: my-own-provider-key");
    }

    #[test]
    fn registering_replaces_the_set() {
        let redactor = redactor(&["first-secret"]);
        redactor.register(&[Secret::new("second-secret")]);
        assert_eq!(redactor.redact("first-secret second-secret"), "first-secret [redacted]");
    }

    #[test]
    fn no_mixture_of_pieces_lets_a_known_secret_through() {
        const SECRET: &str = "q\"7/é-canary-3f";
        let redactor = redactor(&[SECRET]);
        let pieces = [
            SECRET,
            "sk-",
            "\"",
            "\\",
            "key",
            "api_key",
            "=",
            ":",
            " ",
            "?",
            "&",
            "***",
            "bearer ",
            "\\u003c",
            "%2",
            "é",
            "0123456789abcdefg",
            "'",
            "\n",
            "u",
        ];
        let mut random = 1u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..12 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(pieces[(random >> 33) as usize % pieces.len()]);
            }
            let clean = redactor.redact(&text);
            assert!(!clean.contains(SECRET) && !clean.contains("-canary-"), "{text:?} became {clean:?}");
            assert_eq!(matches!(clean, Cow::Owned(_)), clean.contains(REDACTED), "{text:?}");
        }
    }

    #[test]
    fn long_runs_take_linear_time() {
        let redactor = Redactor::default();
        for piece in ["*", "sk-", "api_key=", "\"key\":\"", "bearer ", "key", "x-api-key:", "\\"] {
            let text = piece.repeat(200_000 / piece.len());
            let began = std::time::Instant::now();
            let _ = redactor.redact(&text);
            // Linear time is a fraction of a second, quadratic time minutes.
            assert!(began.elapsed().as_secs() < 20, "{piece:?} took {:?}", began.elapsed());
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", redactor(&["canary-canary"])), "Redactor(1 patterns)");
    }
}
