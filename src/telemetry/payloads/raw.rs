//! Heads and bodies as they are taken down, and how they become what may be shown.

use super::super::redact::{REDACTED, Redactor};
use crate::domain::Secret;
use crate::domain::payloads::{Body, Chunk, Content, Header, Pattern};
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use std::ops::Range;
use std::sync::LazyLock;

/// More pieces than this are not told apart: the last one takes the rest.
const MOST_CHUNKS: usize = 4096;
/// Room for the head of most requests.
const USUAL_HEAD: usize = 512;

/// By what is looked for secrets.
pub(super) struct Eyes<'a> {
    pub(super) redactor: &'a Redactor,
    /// The keys that the client brought.
    pub(super) own: Vec<&'a Secret>,
    pub(super) patterns: &'a [Pattern],
}

impl Eyes<'_> {
    /// Where the secrets are.
    fn spans(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut spans = self.redactor.spans(bytes, &self.own);
        let others = self.patterns.iter().flat_map(|pattern| pattern.0.find_iter(bytes)).map(|found| found.range());
        spans.extend(others.filter(|span| !span.is_empty()));
        spans
    }
}

/// The headers of a message, a line each: one allocation.
#[derive(Clone, Debug, Default)]
pub(super) struct RawHead(String);

impl RawHead {
    /// Takes headers down; those that are secrets are masked here already.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut lines = String::with_capacity(USUAL_HEAD);
        for (name, value) in headers {
            lines.push_str(name.as_str());
            lines.push_str(": ");
            if value.is_sensitive() || is_secret(name.as_str()) {
                // The scheme is none, and tells how the client asks.
                let scheme = value.to_str().ok().and_then(|value| value.split_once(' '));
                let scheme = scheme.filter(|(scheme, _)| ["Bearer", "Basic"].contains(scheme));
                if let Some((scheme, _)) = scheme {
                    lines.push_str(scheme);
                    lines.push(' ');
                }
                lines.push_str(REDACTED);
            } else {
                match std::str::from_utf8(value.as_bytes()) {
                    Ok(text) => lines.push_str(text),
                    Err(_) => lines.push_str(&String::from_utf8_lossy(value.as_bytes())),
                }
            }
            lines.push('\n');
        }
        Self(lines)
    }

    pub(super) fn len(&self) -> usize {
        self.0.capacity()
    }

    pub(super) fn scrub(&mut self, eyes: &Eyes<'_>) {
        let spans = eyes.spans(self.0.as_bytes());
        if !spans.is_empty() {
            self.0 = String::from_utf8_lossy(&replaced(self.0.as_bytes(), spans, &mut [])).into_owned();
        }
    }

    pub(super) fn shown(&self) -> Vec<Header> {
        let pairs = self.0.lines().filter_map(|line| line.split_once(": "));
        pairs.map(|(name, value)| Header { name: name.to_owned(), value: value.to_owned() }).collect()
    }
}

/// Headers that nearly every message has, and that are no secrets: the others are looked at more closely.
fn is_usual(name: &str) -> bool {
    matches!(
        name,
        "accept"
            | "accept-encoding"
            | "connection"
            | "content-length"
            | "content-type"
            | "date"
            | "host"
            | "transfer-encoding"
            | "user-agent"
            | "x-cache"
            | "x-orbyt-attempts"
            | "x-orbyt-fallback"
            | "x-orbyt-model"
            | "x-orbyt-provider"
            | "x-request-id"
    )
}

/// Whether the value of a header is a secret, by its name.
fn is_secret(name: &str) -> bool {
    if is_usual(name) {
        return false;
    }
    const NAMED_SO: [&str; 9] =
        ["key", "auth", "token", "secret", "cookie", "password", "credential", "signature", "assertion"];
    // Of tokens that are counted.
    const HARMLESS: [&str; 2] = ["ratelimit", "token-count"];
    // All at once: one after the other they would cost more than all else that is done with a head.
    static FINDER: LazyLock<Option<AhoCorasick>> =
        LazyLock::new(|| AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).build(NAMED_SO).ok());
    let is_named_so = FINDER.as_ref().is_none_or(|finder| finder.is_match(name));
    is_named_so && !HARMLESS.iter().any(|part| name.contains(part))
}

/// A body as it is taken down.
#[derive(Clone, Debug, Default)]
pub(super) struct RawBody {
    kept: Kept,
    /// How many bytes came.
    total: u64,
    /// When each piece came, in microseconds, and where it ends.
    chunks: Vec<(u64, u32)>,
    withheld: bool,
}

#[derive(Clone, Debug)]
enum Kept {
    /// Shared with whoever sends it.
    Shared(Bytes),
    Grown(Vec<u8>),
}

impl Default for Kept {
    fn default() -> Self {
        Self::Grown(Vec::new())
    }
}

impl Kept {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Grown(bytes) => bytes,
        }
    }
}

impl RawBody {
    /// A whole body, of which at most so many bytes are kept, without what stands in `secrets`; nothing when it is withheld.
    pub(super) fn of(body: &Bytes, most: usize, secrets: Vec<Range<usize>>, withheld: bool) -> Self {
        let mut total = body.len() as u64;
        if withheld {
            return Self { total, withheld, ..Self::default() };
        }
        let kept = if secrets.is_empty() {
            if body.len() <= most { Kept::Shared(body.clone()) } else { Kept::Grown(body[..most].to_vec()) }
        } else {
            let mut clean = replaced(body, secrets, &mut []);
            // What stands for a short secret is longer than that: whether the body was cut is told by what is left of this.
            total = clean.len() as u64;
            clean.truncate(most);
            clean.shrink_to_fit();
            Kept::Grown(clean)
        };
        Self { kept, total, chunks: Vec::new(), withheld: false }
    }

    /// How much of a piece of this length would be kept.
    pub(super) fn wants(&self, length: usize, most: usize) -> usize {
        if self.total > self.kept.bytes().len() as u64 {
            0
        } else {
            length.min(most - self.kept.bytes().len().min(most))
        }
    }

    /// Takes the next piece down, and keeps the first so many bytes of it.
    pub(super) fn push(&mut self, piece: &[u8], keep: usize, at_us: u64) {
        self.total += piece.len() as u64;
        if keep == 0 {
            return;
        }
        if let Kept::Shared(bytes) = &self.kept {
            self.kept = Kept::Grown(bytes.to_vec());
        }
        let Kept::Grown(kept) = &mut self.kept else { return };
        kept.extend_from_slice(&piece[..keep.min(piece.len())]);
        let end = u32::try_from(kept.len()).unwrap_or(u32::MAX);
        let is_full = self.chunks.len() == MOST_CHUNKS;
        match self.chunks.last_mut().filter(|_| is_full) {
            Some(last) => last.1 = end,
            None => self.chunks.push((at_us, end)),
        }
    }

    /// What it takes of memory.
    pub(super) fn len(&self) -> usize {
        let kept = match &self.kept {
            Kept::Shared(bytes) => bytes.len(),
            Kept::Grown(bytes) => bytes.capacity(),
        };
        kept + self.chunks.capacity() * size_of::<(u64, u32)>()
    }

    pub(super) fn shrink(&mut self) {
        if let Kept::Grown(bytes) = &mut self.kept {
            bytes.shrink_to_fit();
        }
        self.chunks.shrink_to_fit();
    }

    pub(super) fn scrub(&mut self, eyes: &Eyes<'_>) {
        let spans = eyes.spans(self.kept.bytes());
        if spans.is_empty() {
            return;
        }
        // Whether it was cut is told by the lengths.
        let lost = self.total.saturating_sub(self.kept.bytes().len() as u64);
        let clean = replaced(self.kept.bytes(), spans, &mut self.chunks);
        self.total = clean.len() as u64 + lost;
        self.kept = Kept::Grown(clean);
    }

    fn is_cut(&self) -> bool {
        self.total > self.kept.bytes().len() as u64
    }

    pub(super) fn shown(&self) -> Body {
        let bytes = self.kept.bytes();
        let content = match std::str::from_utf8(bytes) {
            _ if self.withheld => Content::Withheld,
            Ok(text) => Content::Text(text.to_owned()),
            // It was cut within a character, or has not come further yet.
            Err(error) if error.error_len().is_none() => {
                Content::Text(String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned())
            }
            Err(_) => Content::Base64(STANDARD.encode(bytes)),
        };
        let chunks = self.chunks.iter().map(|&(at_us, end)| Chunk { at_us, end: end.into() }).collect();
        Body { bytes: self.total, cut: self.is_cut() && !self.withheld, content, chunks }
    }
}

/// The bytes with each span replaced once, overlapping spans as one; a whole JSON string stays one. The ends of chunks move along.
fn replaced(bytes: &[u8], mut spans: Vec<Range<usize>>, chunks: &mut [(u64, u32)]) -> Vec<u8> {
    spans.sort_unstable_by_key(|span| (span.start, span.end));
    let mut clean = Vec::with_capacity(bytes.len());
    let (mut copied, mut next) = (0, 0);
    let mut move_ends = |upto: usize, clean_len: usize, copied: usize| {
        while let Some((_, end)) = chunks.get_mut(next)
            && *end as usize <= upto
        {
            // Inside of what was replaced, a chunk ends behind it.
            let moved = clean_len + (*end as usize).saturating_sub(copied);
            *end = u32::try_from(moved).unwrap_or(u32::MAX);
            next += 1;
        }
    };
    for span in spans {
        if span.start >= copied {
            move_ends(span.start, clean.len(), copied);
            clean.extend_from_slice(&bytes[copied..span.start]);
            let is_json = bytes.get(span.start).is_some_and(|first| b"\"{[".contains(first));
            let quote: &[u8] = if is_json { b"\"" } else { b"" };
            [quote, REDACTED.as_bytes(), quote].iter().for_each(|part| clean.extend_from_slice(part));
        }
        copied = copied.max(span.end);
        // Ends up to here lie in what is gone.
        move_ends(copied, clean.len(), copied);
    }
    move_ends(bytes.len(), clean.len(), copied);
    clean.extend_from_slice(&bytes[copied..]);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_a_short_secret_may_be_longer_than_the_body_was() {
        let body = Bytes::from_static(b"{\"k\":\"x\",\"m\":\"sk-own-0123456789abcdef\"}");
        let mut kept = RawBody::of(&body, 100, std::iter::once(5..8).collect(), false);
        assert!(!kept.is_cut());
        let own = Secret::new("sk-own-0123456789abcdef".to_owned());
        kept.scrub(&Eyes { redactor: &Redactor::default(), own: vec![&own], patterns: &[] });
        assert!(!kept.is_cut());
        let Content::Text(text) = kept.shown().content else { panic!("it is a text") };
        assert_eq!(text, "{\"k\":\"[redacted]\",\"m\":\"[redacted]\"}");
        assert!(RawBody::of(&body, 10, std::iter::once(5..8).collect(), false).is_cut());
    }

    #[test]
    fn chunks_end_where_they_did_around_what_is_replaced() {
        let mut chunks = [(1, 3), (2, 6), (3, 8), (4, 12)];
        let clean = replaced(b"abcSECRETdef", vec![3..9, 4..5], &mut chunks);
        assert_eq!(clean, b"abc[redacted]def");
        assert_eq!(chunks.map(|(_, end)| end), [3, 13, 13, 16]);
        let value = std::iter::once(8..11).collect();
        assert_eq!(replaced(br#"{"byok":"x","y":1}"#, value, &mut []), br#"{"byok":"[redacted]","y":1}"#);
    }

    #[test]
    fn headers_that_are_secrets_are_masked() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer CANARY"),
            ("x-api-key", "CANARY"),
            ("cookie", "a=CANARY"),
            ("x-amz-security-token", "CANARY"),
            ("cf-access-client-secret", "CANARY"),
            ("accept", "*/*"),
            ("x-ratelimit-remaining-tokens", "17"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let mut marked: http::HeaderValue = "CANARY".parse().unwrap();
        marked.set_sensitive(true);
        headers.insert("x-custom", marked);
        let shown = RawHead::of(&headers).shown();
        assert!(!format!("{shown:?}").contains("CANARY"), "{shown:?}");
        let value = |name: &str| shown.iter().find(|header| header.name == name).map(|header| header.value.as_str());
        assert_eq!(value("authorization"), Some("Bearer [redacted]"));
        assert_eq!((value("accept"), value("x-ratelimit-remaining-tokens")), (Some("*/*"), Some("17")));
    }

    #[test]
    fn a_body_is_kept_up_to_its_bound() {
        let mut body = RawBody::default();
        for piece in [&b"abc"[..], "dä".as_bytes(), b"xyz"] {
            let keep = body.wants(piece.len(), 5);
            body.push(piece, keep, 7);
        }
        let shown = body.shown();
        assert_eq!((shown.text(), shown.bytes, shown.cut), (Some("abcd"), 9, true), "not half a character");
        assert_eq!(shown.chunks.len(), 2);
        let whole = RawBody::of(&Bytes::from_static(b"abcdef"), 4, Vec::new(), false).shown();
        assert_eq!((whole.text(), whole.bytes, whole.cut), (Some("abcd"), 6, true));
        let binary = RawBody::of(&Bytes::from_static(b"\xff\x00"), 4, Vec::new(), false).shown();
        assert_eq!(binary.content, Content::Base64("/wA=".to_owned()));
        let withheld = RawBody::of(&Bytes::from_static(b"abcdef"), 9, Vec::new(), true).shown();
        assert_eq!(withheld, Body { bytes: 6, content: Content::Withheld, ..Body::default() });
    }

    #[test]
    fn more_pieces_than_are_told_apart_are_still_kept() {
        let mut body = RawBody::default();
        for at in 0..MOST_CHUNKS as u64 + 10 {
            body.push(b"x", 1, at);
        }
        let shown = body.shown();
        assert_eq!((shown.chunks.len(), shown.chunks[MOST_CHUNKS - 1].end), (MOST_CHUNKS, MOST_CHUNKS as u64 + 10));
    }
}
