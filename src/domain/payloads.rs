//! What a request carried: what the client sent, what each provider got and answered, what the client received. Secrets are taken out before
//! anything becomes one of these values.

use super::RequestId;
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is kept, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The most bytes that the ring in memory holds; 0 turns it off.
    pub ring_bytes: usize,
    /// The most requests that it holds.
    pub ring_entries: usize,
    /// The most bytes of one body that are kept, anywhere.
    pub body_bytes: usize,
    /// What goes to the database.
    pub policy: Policy,
    /// For how long it stays there; `None` for as long as the ledger.
    pub retention: Option<Duration>,
    /// What is hidden besides secrets.
    pub redact: Vec<Pattern>,
}

/// Which requests' payloads go to the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// None.
    #[default]
    None,
    /// Those that did not end well for the client, and those that took more than one attempt.
    Errors,
    /// This share of all, in millionths, drawn when a request arrives.
    Sampled(u32),
    /// All.
    All,
}

impl Policy {
    /// The policy that is written so: `none`, `errors`, `all`, or `sampled(0.1)` with a share from 0 to 1.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "errors" => Some(Self::Errors),
            "all" => Some(Self::All),
            _ => {
                let share = text.strip_prefix("sampled(")?.strip_suffix(')')?.trim().parse::<f64>().ok()?;
                (0.0..=1.0).contains(&share).then_some(Self::Sampled((share * 1e6).round() as u32))
            }
        }
    }
}

/// A regular expression whose matches are hidden.
#[derive(Clone, Debug)]
pub struct Pattern(pub Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// Everything that a request carried, as far as it was kept. Serialised, it is what the console shows and what the database keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payloads {
    /// The request.
    pub id: RequestId,
    /// When it arrived, in milliseconds since the Unix epoch; all other times count from there.
    pub arrived_unix_ms: u64,
    /// The organisation of the key: nobody of another may see this.
    pub org: String,
    /// Its project.
    pub project: String,
    /// The key's id, as in the ledger.
    pub key_id: String,
    /// The key's name.
    pub key_name: String,
    /// Whether the request is over; of one that runs, this is what there was so far.
    pub complete: bool,
    /// What the client sent.
    pub request: Request,
    /// What the client received; `None` before its head was written.
    pub response: Option<Response>,
    /// What providers were asked and what they answered, in the order in which they were asked.
    pub attempts: Vec<Attempt>,
}

/// A request of HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// To a provider the whole URL, of a client's path and query.
    pub url: String,
    /// Its headers, in order; those that are secrets are masked.
    pub headers: Vec<Header>,
    /// Its body.
    pub body: Body,
}

/// An answer of HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// When its head was there, in microseconds since the request arrived.
    pub at_us: u64,
    /// Its headers, in order; those that are secrets are masked.
    pub headers: Vec<Header>,
    /// Its body.
    pub body: Body,
}

/// What one attempt sent to its provider, and what came back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number, from 1, as in live events; targets that were passed over are not counted.
    pub number: u32,
    /// The provider's id.
    pub provider: String,
    /// The model as the provider knows it.
    pub model: String,
    /// The name (never the text) of the key.
    pub key_name: String,
    /// When it was sent, in microseconds since the request arrived.
    pub at_us: u64,
    /// What the provider got. Of several requests in a row the last one.
    pub request: Request,
    /// What it answered; `None` where nothing came.
    pub response: Option<Response>,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Its name in lower case.
    pub name: String,
    /// Its value, or what stands in the place of a secret.
    pub value: String,
}

/// A body, or its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// How many bytes it had in truth.
    pub bytes: u64,
    /// Whether more came than was kept.
    pub cut: bool,
    /// What was kept.
    pub content: Content,
    /// The pieces in which it came, in order; empty when that is not known.
    pub chunks: Vec<Chunk>,
}

/// What was kept of a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "data")]
pub enum Content {
    /// Text.
    Text(String),
    /// Bytes that are no text, in base64.
    Base64(String),
    /// Nothing: it may have held a secret that could not be told from the rest.
    Withheld,
}

/// A piece of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// When it came, in microseconds since the request arrived.
    pub at_us: u64,
    /// Where it ends in what was kept, in bytes.
    pub end: u64,
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Body {
    /// The text that was kept, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Base64(_) | Content::Withheld => None,
        }
    }

    /// The pieces of a text with the times at which they came, in microseconds since the request arrived. A character that came in two
    /// pieces counts to the second.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, &str)> {
        let text = self.text().unwrap_or_default();
        let mut start = 0;
        self.chunks.iter().map(move |chunk| {
            let end = usize::try_from(chunk.end).unwrap_or(usize::MAX).min(text.len());
            let end = text.floor_char_boundary(end).max(start);
            let piece = &text[start..end];
            start = end;
            (chunk.at_us, piece)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_between_characters() {
        let chunks = vec![Chunk { at_us: 1, end: 2 }, Chunk { at_us: 2, end: 3 }, Chunk { at_us: 9, end: 99 }];
        let body = Body { content: Content::Text("aäb".to_owned()), chunks, ..Body::default() };
        assert_eq!(body.pieces().collect::<Vec<_>>(), [(1, "a"), (2, "ä"), (9, "b")]);
        let none = Body { content: Content::Withheld, ..body };
        assert_eq!(none.pieces().map(|(_, piece)| piece).collect::<String>(), "");
    }

    #[test]
    fn a_policy_is_a_word_or_a_share() {
        for (text, policy) in [
            ("none", Some(Policy::None)),
            ("errors", Some(Policy::Errors)),
            ("all", Some(Policy::All)),
            ("sampled(0.1)", Some(Policy::Sampled(100_000))),
            ("sampled( 1 )", Some(Policy::Sampled(1_000_000))),
            ("sampled(1.1)", None),
            ("sampled(NaN)", None),
            ("sampled", None),
            ("some", None),
        ] {
            assert_eq!(Policy::parse(text), policy, "{text}");
        }
    }

    #[test]
    fn contents_say_what_they_are() {
        let json = serde_json::to_value([Content::Text("a".to_owned()), Content::Withheld]).unwrap();
        assert_eq!(json, serde_json::json!([{"kind": "text", "data": "a"}, {"kind": "withheld"}]));
        let back: Vec<Content> = serde_json::from_value(json).unwrap();
        assert_eq!(back, [Content::Text("a".to_owned()), Content::Withheld]);
    }
}
