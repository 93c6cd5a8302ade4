//! One chunk of a stream as events.
//!
//! Borrowed from the provider's bytes wherever a text needs no unescaping. Fields that differ in type from provider to provider (`content`
//! as a text or a list, `arguments` as a text or an object) are looked at by their first byte. What is rare is read by the same code as a
//! whole answer.

use crate::dialect::event::{Event, FinishReason, ReasoningDelta, ReasoningPiece, Sink};
use crate::dialect::openai_chat::chunk::{Finish, finish_reason};
use crate::dialect::openai_chat::{error, response, usage};
use crate::domain::{Fault, FaultKind};
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// OpenAI's bound of `n`.
const MAX_CHOICES: u32 = 128;

#[derive(serde::Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<Choices<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    x_groq: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
}

/// The pieces of a chunk's choices: one in nearly every chunk, which then needs no allocation.
#[derive(Default)]
struct Choices<'a> {
    first: Option<Piece<'a>>,
    more: Vec<Piece<'a>>,
}

impl<'a> Choices<'a> {
    fn iter(&self) -> impl Iterator<Item = &Piece<'a>> {
        self.first.iter().chain(&self.more)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Choices<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pieces;
        impl<'de> Visitor<'de> for Pieces {
            type Value = Choices<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of choices")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut pieces: A) -> Result<Choices<'de>, A::Error> {
                let mut choices = Choices { first: pieces.next_element()?, more: Vec::new() };
                while let Some(piece) = pieces.next_element()? {
                    choices.more.push(piece);
                }
                Ok(choices)
            }
        }
        deserializer.deserialize_seq(Pieces)
    }
}

#[derive(serde::Deserialize)]
struct Piece<'a> {
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
}

#[derive(serde::Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_details: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<Vec<CallDelta<'a>>>,
    #[serde(borrow)]
    function_call: Option<Function<'a>>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
    #[serde(borrow)]
    images: Option<&'a RawValue>,
}

#[derive(serde::Deserialize)]
struct CallDelta<'a> {
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    function: Option<Function<'a>>,
    #[serde(borrow)]
    custom: Option<Function<'a>>,
}

#[derive(serde::Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

/// Reads the chunks of one answer.
pub(super) struct Deltas {
    call_ids: String,
    begun: bool,
    choices: Vec<Choice>,
}

#[derive(Default)]
struct Choice {
    index: u32,
    finished: bool,
    calls: Vec<Call>,
}

struct Call {
    /// The provider's index.
    index: Option<u64>,
    id: String,
    arguments: bool,
}

impl Deltas {
    pub fn new(call_ids: String) -> Self {
        Self { call_ids, begun: false, choices: Vec::new() }
    }

    /// Whether any choice has begun.
    pub fn has_begun(&self) -> bool {
        !self.choices.is_empty()
    }

    /// How many choices have a finish reason.
    pub fn finished(&self) -> u32 {
        self.choices.iter().map(|choice| u32::from(choice.finished)).sum()
    }

    /// Reads one chunk; `None` when it is none, else whether it was the last that counts.
    pub fn chunk(&mut self, event: &[u8], data: &[u8], sink: &mut impl Sink) -> Option<bool> {
        let chunk: Chunk<'_> = serde_json::from_slice(data).ok()?;
        if let Some(fault) = in_band_error(event, data, &chunk) {
            sink.event(Event::Error(fault));
            return Some(true);
        }
        if !self.begun && chunk.choices.is_some() {
            let (id, model) = (text(chunk.id), text(chunk.model));
            // Azure begins with a chunk that has neither.
            if !id.is_empty() || chunk.choices.as_ref().is_some_and(|choices| choices.first.is_some()) {
                self.begun = true;
                sink.event(Event::Start { id: &id, model: &model });
            }
        }
        for piece in chunk.choices.iter().flat_map(Choices::iter) {
            if let Some(fault) = self.piece(piece, sink) {
                sink.event(Event::Error(fault));
                return Some(true);
            }
        }
        let groq = || {
            let inner: Value = serde_json::from_str(chunk.x_groq?.get()).ok()?;
            usage::parse(inner["usage"].to_string().as_bytes())
        };
        let counts = chunk.usage.and_then(|counts| usage::parse(counts.get().as_bytes())).or_else(groq);
        if let Some(counts) = counts {
            sink.event(Event::Usage(counts));
        }
        Some(false)
    }

    fn piece(&mut self, piece: &Piece<'_>, sink: &mut impl Sink) -> Option<Fault> {
        let index = piece.index.map_or(0, number);
        if index >= MAX_CHOICES {
            return Some(Fault::malformed("the index of a choice is beyond any n"));
        }
        let slot = self.choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
            self.choices.push(Choice { index, ..Choice::default() });
            self.choices.len() - 1
        });
        let choice = &mut self.choices[slot];
        if choice.finished {
            return None;
        }
        if let Some(delta) = &piece.delta {
            choice.delta(delta, &self.call_ids, sink);
        }
        if let Some(logprobs) = piece.logprobs.filter(|raw| raw.get().starts_with('{')) {
            let value: Value = serde_json::from_str(logprobs.get()).unwrap_or_default();
            if let Some(content) = value["content"].as_array().filter(|content| !content.is_empty()) {
                sink.event(Event::Logprobs { choice: index, content });
            }
        }
        let word = text(piece.finish_reason);
        if word.is_empty() { None } else { choice.finish(&word, sink) }
    }
}

impl Choice {
    fn delta(&mut self, delta: &Delta<'_>, call_ids: &str, sink: &mut impl Sink) {
        let choice = self.index;
        self.reasoning(delta, sink);
        match delta.content.map(RawValue::get) {
            Some(list) if list.starts_with('[') => {
                let parts: Value = serde_json::from_str(list).unwrap_or_default();
                for text in parts.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()) {
                    sink.event(Event::Text { choice, text });
                }
            }
            _ => {
                let text = text(delta.content);
                if !text.is_empty() {
                    sink.event(Event::Text { choice, text: &text });
                }
            }
        }
        let refusal = text(delta.refusal);
        if !refusal.is_empty() {
            sink.event(Event::Refusal { choice, text: &refusal });
        }
        let lists = [("annotations", delta.annotations), ("images", delta.images)];
        if lists.iter().any(|(_, raw)| is_filled(*raw)) {
            response::decode_extras(choice, &value_of(&lists), sink);
        }
        for call in delta.tool_calls.iter().flatten() {
            // Some write both, one of them empty: the function counts.
            let says_something =
                |inner: &&Function<'_>| inner.name.is_some() || inner.arguments.is_some() || inner.input.is_some();
            let inner = call.function.as_ref().filter(says_something).or(call.custom.as_ref());
            if let Some(inner) = inner {
                // Z.ai counts from -1.
                let index = call.index.and_then(|index| index.get().parse().ok());
                self.call(index, &text(call.id), inner, call_ids, sink);
            }
        }
        if let Some(old) = &delta.function_call {
            self.call(Some(0), "", old, call_ids, sink);
        }
    }

    fn reasoning(&self, delta: &Delta<'_>, sink: &mut impl Sink) {
        let choice = self.index;
        let is_list = delta.content.is_some_and(|content| content.get().starts_with('['));
        if is_filled(delta.reasoning_details) || is_list {
            let members = [("reasoning_details", delta.reasoning_details), ("content", delta.content)];
            return response::decode_reasoning(choice, &value_of(&members), sink);
        }
        let named = text(delta.reasoning_content);
        let thoughts = if named.is_empty() { text(delta.reasoning) } else { named };
        if !thoughts.is_empty() {
            let piece = ReasoningPiece::Text(&thoughts);
            let delta = ReasoningDelta { index: 0, id: None, format: "", piece };
            sink.event(Event::Reasoning { choice, delta });
        }
    }

    fn call(&mut self, index: Option<u64>, id: &str, function: &Function<'_>, call_ids: &str, sink: &mut impl Sink) {
        let (choice, name) = (self.index, text(function.name));
        let slot = self.find(index, id, !name.is_empty()).unwrap_or_else(|| {
            let slot = self.calls.len();
            let id = if id.is_empty() { format!("{call_ids}_{choice}_{slot}") } else { id.to_owned() };
            sink.event(Event::Call { choice, index: slot as u32, id: &id, name: &name });
            self.calls.push(Call { index, id, arguments: false });
            slot
        });
        let given = function.arguments.or(function.input).map(RawValue::get);
        let json = match given {
            None | Some("null") => Cow::Borrowed(""),
            Some(object) if object.starts_with('{') => Cow::Borrowed(object),
            Some(_) => text(function.arguments.or(function.input)),
        };
        // Some write that there are none as JSON's word for nothing.
        let says_none = !self.calls[slot].arguments && json.trim() == "null" && function.arguments.is_some();
        if !json.is_empty() && !says_none {
            self.calls[slot].arguments = true;
            sink.event(Event::Arguments { choice, index: slot as u32, json: &json });
        }
    }

    /// The call that a delta goes on with; `None` when it begins a new one.
    fn find(&self, index: Option<u64>, id: &str, is_named: bool) -> Option<usize> {
        let calls = &self.calls;
        match index {
            Some(_) => {
                let slot = calls.iter().rposition(|call| call.index == index)?;
                // Another id and a name of its own: a new call under an old index.
                let is_other = is_named && !id.is_empty() && calls[slot].id != id;
                (!is_other).then_some(slot)
            }
            None if !id.is_empty() => calls.iter().rposition(|call| call.id == id),
            None if is_named => None,
            None => calls.len().checked_sub(1),
        }
    }

    fn finish(&mut self, word: &str, sink: &mut impl Sink) -> Option<Fault> {
        let choice = self.index;
        let reason = match finish_reason(word) {
            Finish::Failed => {
                return Some(Fault::new(FaultKind::ServerError, "the provider ended the answer with an error"));
            }
            Finish::Reason(FinishReason::Stop) if !self.calls.is_empty() => FinishReason::ToolCalls,
            Finish::Reason(reason) => reason,
        };
        self.finished = true;
        for (index, _) in (0..).zip(&self.calls).filter(|(_, call)| !call.arguments) {
            sink.event(Event::Arguments { choice, index, json: "{}" });
        }
        sink.event(Event::Finish { choice, reason, native: word });
        None
    }
}

/// The error that a chunk is or carries.
fn in_band_error(event: &[u8], data: &[u8], chunk: &Chunk<'_>) -> Option<Fault> {
    let is_there = |raw: Option<&RawValue>| raw.filter(|raw| raw.get() != "null").is_some();
    if is_there(chunk.error) {
        return Some(error::parse(data).into_fault(None));
    }
    let of_choice =
        chunk.choices.iter().flat_map(Choices::iter).find_map(|piece| piece.error.filter(|raw| raw.get() != "null"));
    if let Some(inner) = of_choice {
        let wrapped = format!("{{\"error\":{}}}", inner.get());
        return Some(error::parse(wrapped.as_bytes()).into_fault(None));
    }
    if chunk.choices.is_some() || is_there(chunk.usage) {
        return None;
    }
    let is_error = event == b"error" || text(chunk.object) == "error" || is_there(chunk.detail);
    is_error.then(|| error::parse(data).into_fault(None))
}

/// The number of a choice: 0 where none is given, beyond any where it is beyond what numbers are here.
fn number(raw: &RawValue) -> u32 {
    let text = raw.get();
    let is_beyond = || text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().unwrap_or_else(|_| if is_beyond() { u32::MAX } else { 0 })
}

/// A JSON text, escapes resolved; empty for anything else.
fn text(raw: Option<&RawValue>) -> Cow<'_, str> {
    let Some(json) = raw.map(RawValue::get).filter(|json| json.starts_with('"')) else { return Cow::Borrowed("") };
    if json.contains('\\') {
        let read = serde_json::from_str::<String>(json).or_else(|_| serde_json::from_str(&without_halves(json)));
        return read.unwrap_or_default().into();
    }
    Cow::Borrowed(&json[1..json.len() - 1])
}

/// The JSON text with a replacement character for each half of a surrogate pair that stands alone: some cut a text between the two.
fn without_halves(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let unit = |text: &str| u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok();
        let is_low = |unit: u16| (0xDC00..=0xDFFF).contains(&unit);
        let (length, stands) = match unit(escape) {
            Some(0xD800..=0xDBFF) if escape.get(6..).and_then(unit).is_some_and(is_low) => (12, true),
            Some(0xD800..=0xDFFF) => (6, false),
            _ => (1 + escape.chars().nth(1).map_or(0, char::len_utf8), true),
        };
        out.push_str(if stands { &escape[..length] } else { "\u{FFFD}" });
        rest = &escape[length..];
    }
    out.push_str(rest);
    out
}

fn is_filled(raw: Option<&RawValue>) -> bool {
    raw.is_some_and(|raw| raw.get().starts_with('[') && raw.get()[1..].trim_start() != "]")
}

/// The members of a message that are read like those of a whole answer.
fn value_of(members: &[(&str, Option<&RawValue>)]) -> Value {
    let read = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    Value::Object(members.iter().map(|(name, raw)| ((*name).to_owned(), read(*raw))).collect())
}
