//! One look at a chunk of a stream, or at a whole answer: what it says, and what in it must be repaired.
//!
//! ```text
//!   {"id", "model", "created", "object", "usage", "error", "choices": [ … ]}        top level  ── here
//!      └ {"index", "finish_reason", "delta" or "message": { … }}                    a choice   ── here
//!           └ {"content", "reasoning", …}                                           a message  ── here
//!                └ "tool_calls": [{"index", "id", "type", "function"}]              a call     ── calls.rs
//! ```
//!
//! Nothing is built: places in the text are looked at and changes to them noted. A plain chunk costs no allocation.

use super::calls::{Calls, Repair};
use super::edit::{Cutter, Edits};
use super::quirks::Quirks;
use super::scan::{self, Cursor, Invalid};
use super::usage;
use crate::dialect::event::{Event, FinishReason, Observed, ReasoningDelta, ReasoningPiece};
use crate::domain::{Fault, FaultKind};
use std::ops::Range;
use std::sync::Arc;

/// OpenAI's bound of `n`; an index beyond it is no choice.
const MAX_CHOICES: u64 = 128;

/// The same of text completions, where each of many prompts has `n` choices.
const MAX_TEXTS: u64 = 4096;

/// Which of the two forms of an answer is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A `chat.completion.chunk`, whose choices have a `delta`.
    Chunk,
    /// A `chat.completion`, whose choices have a `message`.
    Whole,
}

/// What was seen at the top level.
#[derive(Debug, Default)]
pub struct Seen {
    /// Items of `choices`; `None` when there is no such list.
    pub choices: Option<usize>,
    /// The `usage` value, unless it is null.
    pub usage: Option<Range<usize>>,
    /// What to cut to take `usage` out.
    pub usage_member: Option<Range<usize>>,
    /// Whether there is an `error` that is not null.
    pub error: bool,
    /// The `error` of a choice (OpenRouter), unless it is null.
    pub choice_error: Option<Range<usize>>,
    /// Choices whose finish reason is not given yet.
    pub unfinished: usize,
}

/// Looks at the chunks of one answer, one after the other.
pub struct Inspector {
    shape: Shape,
    /// The choices are those of text completions, in both shapes: a `text` each.
    texts: bool,
    quirks: Quirks,
    exclude_reasoning: bool,
    choices: Vec<Choice>,
    calls: Repair,
    /// Changes to the chunk looked at last.
    pub edits: Edits,
    /// The stream's `id`, `model` and `created` as JSON; empty until one is seen.
    pub identity: Identity,
    text: Vec<u8>,
    thoughts: Vec<u8>,
}

/// What all chunks of a stream have in common, as JSON.
#[derive(Debug, Default)]
pub struct Identity {
    /// The provider's id; empty until one is seen.
    pub id: Vec<u8>,
    /// The provider's name for the model.
    pub model: Vec<u8>,
    /// Unix seconds.
    pub created: Vec<u8>,
}

#[derive(Debug, Default)]
struct Choice {
    index: u32,
    finished: bool,
    calls: Calls,
}

/// Where the members of a choice stand.
#[derive(Default)]
struct Places {
    index: Option<u64>,
    body: Option<Range<usize>>,
    text: Option<Range<usize>>,
    finish: Option<Range<usize>>,
}

impl Inspector {
    /// An inspector for the answer with this id.
    pub fn new(shape: Shape, quirks: Quirks, exclude_reasoning: bool, answer: Arc<str>) -> Self {
        Self {
            shape,
            texts: false,
            quirks,
            exclude_reasoning,
            choices: Vec::new(),
            calls: Repair::new(shape, quirks.has(Quirks::TOOL_CALLS), answer),
            edits: Edits::default(),
            identity: Identity::default(),
            text: Vec::new(),
            thoughts: Vec::new(),
        }
    }

    /// The same for text completions.
    #[must_use]
    pub fn of_texts(self, texts: bool) -> Self {
        Self { texts, ..self }
    }

    /// Looks at one JSON text, which must be UTF-8. What it says goes to `observed`, what is to be changed to [`Self::edits`].
    ///
    /// # Errors
    /// Where it is no JSON object.
    pub fn inspect(&mut self, json: &[u8], observed: &mut Observed) -> Result<Seen, Invalid> {
        self.edits.clear();
        self.calls.without_arguments.clear();
        let (mut seen, mut cutter) = (Seen::default(), Cutter::default());
        let (mut id, mut object) = (None, None);
        let mut groq_usage = None;
        let mut cursor = Cursor::new(json, 0);
        let whole = cursor.object(|cursor, key| {
            let name = scan::inner(&json[key.clone()]);
            let value = if name == b"choices" && cursor.peek() == Some(b'[') {
                seen.choices = Some(0);
                cursor.array(|cursor| self.choice(cursor, &mut seen, observed))?
            } else {
                cursor.value()?
            };
            let text = &json[value.clone()];
            match name {
                b"usage" if text != b"null" => {
                    seen.usage_member = Some(cutter.cut(json, key.start..value.end));
                    seen.usage = Some(value.clone());
                }
                b"error" => seen.error = text != b"null",
                b"id" => id = Some(value.clone()),
                b"object" => object = Some(value.clone()),
                b"model" => remember(&mut self.identity.model, text),
                b"created" => remember(&mut self.identity.created, text),
                b"x_groq" => groq_usage = member(json, value.start, b"usage"),
                _ => {}
            }
            cutter.keep(value.end);
            Ok::<(), Invalid>(())
        })?;
        cursor.end()?;
        // Older answers of Groq have their counts nowhere else.
        if let Some(place) = seen.usage.clone().or(groq_usage)
            && let Some(usage) = usage::parse(&json[place])
        {
            observed.note(&Event::Usage(usage));
        }
        if let Some(id) = &id {
            remember(&mut self.identity.id, &json[id.clone()]);
        }
        if self.shape == Shape::Chunk && self.quirks.has(Quirks::CHUNK_FIELDS) && seen.choices.is_some() {
            self.chunk_fields(json, whole.start + 1, id, object);
        }
        Ok(seen)
    }

    /// Calls that ended without arguments: the chunks to put in front of the one looked at last, as pairs of choice and call.
    pub fn calls_without_arguments(&self) -> &[(u32, u32)] {
        &self.calls.without_arguments
    }

    /// One id for the whole stream, and OpenAI's word for a chunk.
    fn chunk_fields(&mut self, json: &[u8], start: usize, id: Option<Range<usize>>, object: Option<Range<usize>>) {
        let known = &self.identity.id;
        match id {
            Some(id) if !known.is_empty() && json[id.clone()] != known[..] => self.edits.replace(id, &[known]),
            None if !known.is_empty() => self.edits.insert(start, &[b"\"id\":", known, b","]),
            _ => {}
        }
        let word: &[u8] = if self.texts { b"\"text_completion\"" } else { b"\"chat.completion.chunk\"" };
        match object {
            Some(object) if json[object.clone()] != *word => self.edits.replace(object, &[word]),
            None => self.edits.insert(start, &[b"\"object\":", word, b","]),
            Some(_) => {}
        }
    }

    fn choice(&mut self, cursor: &mut Cursor<'_>, seen: &mut Seen, observed: &mut Observed) -> Result<(), Invalid> {
        let json = cursor.text();
        let ordinal = seen.choices.map_or(0, |count| count as u64);
        seen.choices = Some(ordinal as usize + 1);
        let mut places = Places::default();
        let body = if self.shape == Shape::Chunk { &b"delta"[..] } else { b"message" };
        let place = cursor.object(|cursor, key| {
            let value = cursor.value()?;
            let text = &json[value.clone()];
            match scan::inner(&json[key]) {
                b"index" => places.index = scan::integer(text),
                b"text" if self.texts => places.text = Some(value),
                // Together has a delta beside the text, which says the same.
                name if name == body && !self.texts => places.body = (text.first() == Some(&b'{')).then_some(value),
                b"finish_reason" => places.finish = Some(value),
                b"error" if text != b"null" => seen.choice_error = Some(value),
                _ => {}
            }
            Ok::<(), Invalid>(())
        })?;
        let index = places.index.unwrap_or(if self.shape == Shape::Whole { ordinal } else { 0 });
        if index >= if self.texts { MAX_TEXTS } else { MAX_CHOICES } {
            return Err(Invalid { at: place.start, what: "the index of a choice is beyond any n" });
        }
        let index = index as u32;
        observed.choices_begun = observed.choices_begun.max(index + 1);
        let slot = self.slot(index);
        let finish = places.finish.filter(|finish| json[finish.start] == b'"');
        if let Some(text) = places.text {
            observed.note(&Event::Text { choice: index, text: text_of(&json[text]) });
        }
        if let Some(body) = places.body {
            self.message(json, body.start, slot, finish.is_some(), observed)?;
        }
        if let Some(finish) = finish {
            self.finish(json, finish, slot, observed);
        }
        seen.unfinished += usize::from(!self.choices[slot].finished);
        Ok(())
    }

    fn slot(&mut self, index: u32) -> usize {
        self.choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
            self.choices.push(Choice { index, ..Choice::default() });
            self.choices.len() - 1
        })
    }

    fn message(
        &mut self,
        json: &[u8],
        start: usize,
        slot: usize,
        finishing: bool,
        observed: &mut Observed,
    ) -> Result<(), Invalid> {
        let choice = self.choices[slot].index;
        let mut cutter = Cutter::default();
        let (mut thoughts, mut named) = (None, None);
        Cursor::new(json, start).object(|cursor, key| {
            let name = scan::inner(&json[key.clone()]);
            let value = match (name, cursor.peek()) {
                (b"tool_calls", Some(b'[')) => {
                    let calls = &mut self.choices[slot].calls;
                    cursor
                        .array(|cursor| self.calls.call(cursor, choice, calls, finishing, &mut self.edits, observed))?
                }
                (b"content", Some(b'[')) if self.quirks.has(Quirks::CONTENT_PARTS) => {
                    self.content_parts(cursor, choice, observed)?
                }
                _ => cursor.value()?,
            };
            let text = text_of(&json[value.clone()]);
            match name {
                b"content" => observed.note(&Event::Text { choice, text }),
                b"refusal" => observed.note(&Event::Refusal { choice, text }),
                b"reasoning" => thoughts = Some(value.clone()),
                b"reasoning_content" => named = Some(value.clone()),
                b"function_call" if json[value.start] == b'{' => {
                    self.calls.old_call(json, value.start, choice, observed)?
                }
                b"reasoning_details" | b"images" | b"annotations" | b"audio" | b"content_parts" => {
                    observed.output |= is_filled(&json[value.clone()]);
                }
                _ => {}
            }
            if self.exclude_reasoning && matches!(name, b"reasoning" | b"reasoning_content" | b"reasoning_details") {
                self.edits.replace(cutter.cut(json, key.start..value.end), &[]);
            } else {
                cutter.keep(value.end);
            }
            Ok::<(), Invalid>(())
        })?;
        self.reasoning(json, choice, thoughts, named, observed);
        Ok(())
    }

    /// Takes note of thoughts and puts them where OpenAI clients look for them.
    fn reasoning(
        &mut self,
        json: &[u8],
        choice: u32,
        thoughts: Option<Range<usize>>,
        named: Option<Range<usize>>,
        observed: &mut Observed,
    ) {
        let is_text = |place: &Range<usize>| json[place.start] == b'"';
        let thoughts = thoughts.filter(is_text);
        let place = named.clone().filter(is_text).or_else(|| thoughts.clone());
        if let Some(text) = place.map(|place| text_of(&json[place])).filter(|text| !text.is_empty()) {
            note_thoughts(text, choice, observed);
        }
        if !self.quirks.has(Quirks::REASONING) || self.exclude_reasoning {
            return;
        }
        let Some(thoughts) = thoughts else { return };
        let text = &json[thoughts.clone()];
        match named {
            None => self.edits.insert(thoughts.end, &[b",\"reasoning_content\":", text]),
            Some(named) if json[named.clone()] == *b"null" => self.edits.replace(named, &[text]),
            Some(_) => {}
        }
    }

    /// `content` as a list of parts (Mistral): text becomes the content, thinking becomes `reasoning_content`. A list with other parts
    /// besides is kept as `content_parts`, so that nothing is lost.
    fn content_parts(
        &mut self,
        cursor: &mut Cursor<'_>,
        choice: u32,
        observed: &mut Observed,
    ) -> Result<Range<usize>, Invalid> {
        let json = cursor.text();
        let (text, thoughts) = (&mut self.text, &mut self.thoughts);
        text.clear();
        thoughts.clear();
        let mut others = false;
        let list = cursor.array(|cursor| {
            let part = cursor.value()?;
            let field = |name| member(json, part.start, name).map(|place| &json[place]);
            match field(b"type").map(scan::inner) {
                Some(b"text") => text.extend_from_slice(scan::inner(field(b"text").unwrap_or_default())),
                Some(b"thinking") => thinking(json, member(json, part.start, b"thinking"), thoughts)?,
                _ if json[part.start] == b'"' => text.extend_from_slice(scan::inner(&json[part])),
                _ => others = true,
            }
            Ok::<(), Invalid>(())
        })?;
        if !text.is_empty() {
            observed.note(&Event::Text { choice, text: std::str::from_utf8(text).unwrap_or_default() });
        }
        if !thoughts.is_empty() {
            note_thoughts(std::str::from_utf8(thoughts).unwrap_or_default(), choice, observed);
        }
        self.edits.replace(list.clone(), &[b"\"", text, b"\""]);
        if !thoughts.is_empty() && !self.exclude_reasoning {
            self.edits.insert(list.end, &[b",\"reasoning_content\":\"", thoughts, b"\""]);
        }
        if others {
            observed.output = true;
            self.edits.insert(list.end, &[b",\"content_parts\":", &json[list.clone()]]);
        }
        Ok(list)
    }

    fn finish(&mut self, json: &[u8], place: Range<usize>, slot: usize, observed: &mut Observed) {
        let word = text_of(&json[place.clone()]);
        // An empty word is none; in a whole answer it is all that some gateways ever say, and the body shows that it is complete.
        if word.is_empty() && self.shape == Shape::Chunk {
            return;
        }
        let choice = &mut self.choices[slot];
        if choice.finished {
            if self.quirks.has(Quirks::FINISH_WORDS) {
                self.edits.replace(place, &[b"null"]);
            }
            return;
        }
        let mut reason = match finish_reason(word) {
            Finish::Reason(reason) => reason,
            Finish::Failed => {
                let message = "the provider ended the answer with an error";
                return observed.note(&Event::Error(Fault::new(FaultKind::ServerError, message)));
            }
        };
        choice.finished = true;
        self.calls.finish(choice.index, &mut choice.calls);
        let stopped_beside_calls = word == "stop" && !choice.calls.is_empty();
        if stopped_beside_calls {
            reason = FinishReason::ToolCalls;
        }
        observed.note(&Event::Finish { choice: choice.index, reason, native: word });
        let is_ours = matches!(word, "" | "stop" | "length" | "tool_calls" | "content_filter" | "function_call");
        if stopped_beside_calls || (!is_ours && is_known(word) && self.quirks.has(Quirks::FINISH_WORDS)) {
            self.edits.replace(place, &[b"\"", reason.as_str().as_bytes(), b"\""]);
        }
    }
}

/// What a finish reason means.
pub(super) enum Finish {
    /// The choice is complete.
    Reason(FinishReason),
    /// The provider failed on the way.
    Failed,
}

/// Reads a finish reason, OpenAI's or a foreign one. A word that nobody knows is still a reason.
pub(super) fn finish_reason(word: &str) -> Finish {
    Finish::Reason(match word {
        // OpenRouter and Mistral; DeepSeek's when it runs out of machines in the middle of an answer.
        "error" | "ERROR" | "insufficient_system_resource" => return Finish::Failed,
        "length" | "model_length" | "max_tokens" | "MAX_TOKENS" => FinishReason::Length,
        "tool_calls" | "function_call" | "tool_use" | "tool_call" | "TOOL_CALL" => FinishReason::ToolCalls,
        "content_filter" | "safety" | "SAFETY" | "sensitive" | "content_filtered" => FinishReason::ContentFilter,
        _ => FinishReason::Stop,
    })
}

/// Whether a foreign finish reason has a meaning in OpenAI's words; others pass as they are.
fn is_known(word: &str) -> bool {
    const STOPS: [&str; 7] = ["eos", "eos_token", "end_turn", "stop_sequence", "COMPLETE", "complete", "STOP"];
    STOPS.contains(&word) || !matches!(finish_reason(word), Finish::Reason(FinishReason::Stop))
}

fn note_thoughts(text: &str, choice: u32, observed: &mut Observed) {
    let delta = ReasoningDelta { index: 0, id: None, format: "", piece: ReasoningPiece::Text(text) };
    observed.note(&Event::Reasoning { choice, delta });
}

/// Collects the thoughts of a Mistral thinking part: a string, or a list of text parts.
fn thinking(json: &[u8], place: Option<Range<usize>>, out: &mut Vec<u8>) -> Result<(), Invalid> {
    let Some(place) = place else { return Ok(()) };
    if json[place.start] != b'[' {
        out.extend_from_slice(scan::inner(&json[place]));
        return Ok(());
    }
    Cursor::new(json, place.start).array(|cursor| {
        let part = cursor.value()?;
        if let Some(text) = member(json, part.start, b"text") {
            out.extend_from_slice(scan::inner(&json[text]));
        }
        Ok::<(), Invalid>(())
    })?;
    Ok(())
}

/// The place of a member's value in the object at `start` of a JSON text; the last one when there are several.
pub(in crate::dialect) fn member(json: &[u8], start: usize, name: &[u8]) -> Option<Range<usize>> {
    let mut found = None;
    let outcome = Cursor::new(json, start).object(|cursor, key| {
        let value = cursor.value()?;
        if scan::inner(&json[key]) == name {
            found = Some(value);
        }
        Ok::<(), Invalid>(())
    });
    outcome.ok().and(found)
}

/// The text of a JSON string with its escapes as they are, which is enough to see whether it is empty and about how long it is.
pub(super) fn text_of(value: &[u8]) -> &str {
    std::str::from_utf8(scan::inner(value)).unwrap_or_default()
}

/// Whether an object or array holds anything.
fn is_filled(value: &[u8]) -> bool {
    matches!(value.first(), Some(b'{' | b'[')) && !value[1..value.len() - 1].iter().all(u8::is_ascii_whitespace)
}

/// Keeps the first value that says something.
fn remember(kept: &mut Vec<u8>, value: &[u8]) {
    if kept.is_empty() && !matches!(value, b"null" | b"\"\"" | b"0") {
        kept.extend_from_slice(value);
    }
}
