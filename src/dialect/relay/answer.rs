//! An answer that passes as it is, and is watched on its way: whether it begins at all, whether it is an error after all, what it used.
//!
//! ```text
//!               JSON    held to its end, so that a broken one is nobody's; flows once it is larger than `gate.max_bytes`
//!   head ──────┤events  flow from the first one on, unless that is an error
//!               other   flow from the first byte on
//! ```
//!
//! Source of the usage: OpenAI's reference of images and transcriptions (`input_tokens`, `output_tokens`), of moderations and rerankers
//! that count like embeddings (`total_tokens`), Cohere's (`meta.billed_units`), Mistral's (audio counted in the total alone).

use super::rerank;
use crate::dialect::event::{End, Observed};
use crate::dialect::openai_chat::error;
use crate::dialect::sse::Parser;
use crate::domain::{Fault, FaultKind, Usage};
use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::time::Duration;

/// The usage of a large answer is looked for in so many last bytes.
const TAIL: usize = 4096;

/// What the body of an answer is.
#[derive(Debug, Default)]
enum Body {
    /// Held to its end.
    #[default]
    Json,
    /// Watched.
    Events(Box<Parser>),
    /// Let through.
    Bytes,
    /// A web page, which is no answer.
    Page,
}

/// An answer on its way.
#[derive(Debug, Default)]
pub struct Relayed {
    body: Body,
    /// What is held; once JSON flows, the last of it.
    held: Vec<u8>,
    flows: bool,
    /// The form that a ranking has to be brought into.
    ranking: Option<rerank::Form>,
}

impl Relayed {
    /// An answer; a ranking that is another's is written anew in this form.
    pub fn new(ranking: Option<rerank::Form>) -> Self {
        Self { ranking, ..Self::default() }
    }

    /// Takes note of the head; true when the body is to flow as it comes.
    pub fn headed(&mut self, content_type: Option<&[u8]>) -> bool {
        let name = content_type.unwrap_or(b"application/json").to_ascii_lowercase();
        let is = |prefix: &[u8]| name.starts_with(prefix);
        self.body = match () {
            () if is(b"application/json") => Body::Json,
            () if is(b"text/event-stream") => Body::Events(Box::default()),
            () if is(b"text/html") => Body::Page,
            () => Body::Bytes,
        };
        matches!(self.body, Body::Events(_) | Body::Bytes)
    }

    /// Bytes that are held.
    pub fn held_bytes(&self) -> usize {
        if self.flows { 0 } else { self.held.len() }
    }

    /// Lets JSON that was held pass as it comes.
    pub fn let_flow(&mut self, out: &mut Vec<u8>) -> bool {
        if !matches!(self.body, Body::Json) || self.ranking.is_some() {
            return false;
        }
        out.extend_from_slice(&self.held);
        self.flows = true;
        self.forget();
        true
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `Malformed` for a web page, or what the provider says in the place of a first event.
    pub fn push(&mut self, bytes: &[u8], observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        match &mut self.body {
            Body::Page => Err(Fault::malformed("the provider sent a web page instead of an answer")),
            Body::Bytes => {
                observed.output |= !bytes.is_empty();
                out.extend_from_slice(bytes);
                Ok(())
            }
            Body::Events(parser) => {
                out.extend_from_slice(bytes);
                parser.push(bytes, |frame| watch(&frame.data, observed))
            }
            Body::Json => {
                self.held.extend_from_slice(bytes);
                if self.flows {
                    out.extend_from_slice(bytes);
                    self.forget();
                }
                Ok(())
            }
        }
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// `Truncated`, `Empty` or `Malformed` when it is none, or what the provider says in its place.
    pub fn finish(&mut self, end: End, observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        if end == End::Cut {
            return Err(Fault::new(FaultKind::Truncated, "the provider's answer broke off"));
        }
        let empty = || Fault::new(FaultKind::Empty, "the provider's answer is empty");
        match &mut self.body {
            Body::Page => Err(Fault::malformed("the provider sent a web page instead of an answer")),
            Body::Json if self.flows => {
                observed.usage = usage_in(&self.held);
                observed.sound = sound_in(&self.held);
                Ok(())
            }
            Body::Json => {
                if self.held.trim_ascii().is_empty() {
                    return Err(empty());
                }
                if serde_json::from_slice::<IgnoredAny>(&self.held).is_err() {
                    return Err(Fault::malformed("the provider's answer is not the JSON it should be"));
                }
                watch(&self.held, observed)?;
                match self.ranking {
                    Some(wanted) => rerank::retell(&self.held, wanted, out),
                    None => {
                        out.append(&mut self.held);
                        Ok(())
                    }
                }
            }
            Body::Events(parser) => {
                parser.finish(|frame| watch(&frame.data, observed))?;
                if observed.output { Ok(()) } else { Err(empty()) }
            }
            Body::Bytes if observed.output => Ok(()),
            Body::Bytes => Err(empty()),
        }
    }

    /// Ends a stream of events that cannot be completed; anything else cannot say so.
    pub fn break_off(&self, fault: &Fault, out: &mut Vec<u8>) {
        if matches!(self.body, Body::Events(_)) {
            let kind = fault.error_type.as_deref().unwrap_or("provider_error");
            let error = error::render(502, kind, fault.code.as_deref(), None, &fault.message, None);
            out.extend_from_slice(b"\n\nevent: error\ndata: ");
            out.extend_from_slice(&error);
            out.extend_from_slice(b"\n\n");
        }
    }

    /// Keeps the last bytes alone.
    fn forget(&mut self) {
        if self.held.len() > 2 * TAIL {
            self.held.drain(..self.held.len() - TAIL);
        }
    }
}

/// Looks at a whole answer, or at an event of one.
fn watch(json: &[u8], observed: &mut Observed) -> Result<(), Fault> {
    if json.is_empty() {
        return Ok(());
    }
    let Ok(seen) = serde_json::from_slice::<Seen>(json) else {
        // A list, or `[DONE]`.
        observed.output = true;
        return Ok(());
    };
    if seen.error.is_some() && !observed.output {
        return Err(error::parse(json).into_fault(None));
    }
    observed.output = true;
    observed.usage = seen.usage().or(observed.usage);
    observed.sound = seen.sound().or(observed.sound);
    Ok(())
}

#[derive(Deserialize)]
struct Seen {
    error: Option<IgnoredAny>,
    usage: Option<Counts>,
    /// Of a transcript: how long the sound is.
    #[serde(default)]
    duration: Seconds,
    meta: Option<Meta>,
    /// Where OpenAI's events carry the answer that they complete.
    response: Option<Inner>,
}

#[derive(Deserialize)]
struct Inner {
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct Meta {
    billed_units: Option<Counts>,
}

/// Whole numbers, which some write as floats; anything else counts nothing.
#[derive(Clone, Copy, Default)]
struct Count(Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        // A cast from a float saturates.
        Ok(Self(value.as_u64().or_else(|| value.as_f64().filter(|count| *count >= 0.0).map(|count| count as u64))))
    }
}

/// A length of time in seconds, which some write as a text; anything else is none.
#[derive(Clone, Copy, Default)]
struct Seconds(Option<Duration>);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let seconds = value.as_f64().or_else(|| value.as_str()?.parse().ok());
        // Longer than a year of sound is not meant.
        let is_sound = |seconds: &f64| (0.0..3.2e7).contains(seconds);
        Ok(Self(seconds.filter(is_sound).map(Duration::from_secs_f64)))
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Counts {
    /// The sound that is billed, where no tokens are.
    seconds: Seconds,
    input_tokens: Count,
    prompt_tokens: Count,
    output_tokens: Count,
    completion_tokens: Count,
    total_tokens: Count,
    #[serde(alias = "input_tokens_details", alias = "prompt_tokens_details")]
    input_token_details: Option<Details>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Details {
    audio_tokens: Count,
    cached_tokens: Count,
}

impl Seen {
    fn usage(&self) -> Option<Usage> {
        let counts = self.usage.or_else(|| self.response.as_ref()?.usage).or_else(|| self.meta.as_ref()?.billed_units);
        counts.and_then(Counts::usage)
    }
}

impl Seen {
    /// What is billed, else how long the sound is.
    fn sound(&self) -> Option<Duration> {
        self.usage.and_then(|usage| usage.seconds.0).or(self.duration.0)
    }
}

impl Counts {
    fn usage(self) -> Option<Usage> {
        let completion_tokens = self.output_tokens.0.or(self.completion_tokens.0);
        let said = self.input_tokens.0.or(self.prompt_tokens.0);
        let rest = self.total_tokens.0.map(|total| total.saturating_sub(completion_tokens.unwrap_or(0)));
        let prompt_tokens = said.max(rest)?;
        let completion_tokens = completion_tokens.unwrap_or(0);
        let total_tokens = self.total_tokens.0.unwrap_or(prompt_tokens.saturating_add(completion_tokens));
        let details = self.input_token_details.unwrap_or_default();
        Some(Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens,
            audio_prompt_tokens: details.audio_tokens.0,
            cached_tokens: details.cached_tokens.0,
            ..Usage::default()
        })
    }
}

/// The usage in the last part of an answer.
fn usage_in(part: &[u8]) -> Option<Usage> {
    counts_in(part)?.usage()
}

/// The sound that is billed, in the last part of an answer.
fn sound_in(part: &[u8]) -> Option<Duration> {
    counts_in(part)?.seconds.0
}

fn counts_in(part: &[u8]) -> Option<Counts> {
    const KEY: &[u8] = b"\"usage\":";
    let at = memmem::rfind(part, KEY)? + KEY.len();
    let mut values = serde_json::Deserializer::from_slice(&part[at..]).into_iter::<Counts>();
    values.next()?.ok()
}
