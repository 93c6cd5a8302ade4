//! Turns the parts of an answer into events, the same way whether they come whole or in pieces.
//!
//! ```text
//!   start ──> ( content | plan | call ──> arguments* | cite )* ──> end
//! ```
//!
//! An answer that is not streamed tells each of its parts at once, so a stream put together again equals it by construction.

use super::citations;
use super::error;
use super::wire::{Counts, Logprobs};
use crate::dialect::chat::FORMAT_COHERE;
use crate::dialect::event::{Event, FinishReason, ReasoningDelta, ReasoningPiece, Sink};
use crate::domain::Fault;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// How many contents and calls an answer may have: a bound for hostile providers.
const MAX_PARTS: usize = 4096;

/// The reader of one answer. There is always exactly one choice.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The tool whose arguments are the answer's text, see [`crate::dialect::chat::Rendered::answer_tool`].
    answer_tool: Option<String>,
    /// What ids begin with that have to be made.
    call_ids: String,
    /// The contents by their index in the message.
    contents: Vec<(u64, Content)>,
    /// The calls by their index in the message.
    calls: Vec<(u64, Called)>,
    /// How many calls the client has to run.
    client_calls: u32,
    /// The reasoning block of the plan, once it has begun.
    plan: Option<u32>,
    /// How many reasoning blocks there were.
    blocks: u32,
    /// Characters of visible text so far, which citations count in.
    characters: u64,
}

/// A content that has begun.
#[derive(Clone, Copy, Debug, Default)]
struct Content {
    /// Where its text begins in the visible text.
    from: Option<u64>,
    /// Its reasoning block.
    thoughts: Option<u32>,
}

/// A call that has begun.
#[derive(Clone, Copy, Debug)]
enum Called {
    /// One for the client, by its place among those.
    Client(u32),
    /// The answer, and whether any of it has come.
    Answer { said: bool },
}

impl Answer {
    /// The reader of one answer. Calls without an id get one that begins with `call_ids`.
    pub fn new(answer_tool: Option<String>, call_ids: &str) -> Self {
        Self { answer_tool, call_ids: call_ids.to_owned(), ..Self::default() }
    }

    /// The answer begins. Cohere does not say which model it is.
    pub fn start(&mut self, id: &str, sink: &mut impl Sink) {
        sink.event(Event::Start { id, model: "" });
    }

    /// Visible text of a content comes.
    ///
    /// # Errors
    /// `Malformed` when there are too many contents.
    pub fn text(&mut self, at: u64, text: &str, sink: &mut impl Sink) -> Result<(), Fault> {
        if !text.is_empty() {
            let characters = self.characters;
            self.content(at)?.from.get_or_insert(characters);
            self.say(text, sink);
        }
        Ok(())
    }

    /// Thoughts of a content come.
    ///
    /// # Errors
    /// `Malformed` when there are too many contents.
    pub fn thoughts(&mut self, at: u64, text: &str, sink: &mut impl Sink) -> Result<(), Fault> {
        if text.is_empty() {
            return Ok(());
        }
        let blocks = self.blocks;
        let index = *self.content(at)?.thoughts.get_or_insert(blocks);
        self.blocks = blocks.max(index + 1);
        reason(index, ReasoningPiece::Text(text), sink);
        Ok(())
    }

    /// A piece of the plan before the calls comes.
    pub fn plan(&mut self, text: &str, sink: &mut impl Sink) {
        if !text.is_empty() {
            let index = *self.plan.get_or_insert(self.blocks);
            self.blocks = self.blocks.max(index + 1);
            reason(index, ReasoningPiece::Summary(text), sink);
        }
    }

    /// A call begins.
    ///
    /// # Errors
    /// `Malformed` when it has no name or there are too many.
    pub fn call(&mut self, at: u64, id: &str, name: &str, sink: &mut impl Sink) -> Result<(), Fault> {
        if name.is_empty() {
            return Err(Fault::malformed("the provider sent a call without a name"));
        }
        if self.calls.len() >= MAX_PARTS {
            return Err(Fault::malformed("the provider sent more calls than can be believed"));
        }
        let called = if self.answer_tool.as_deref() == Some(name) {
            Called::Answer { said: false }
        } else {
            let index = self.client_calls;
            self.client_calls += 1;
            if id.is_empty() {
                let made = format!("{}_{index}", self.call_ids);
                sink.event(Event::Call { choice: 0, index, id: &made, name });
            } else {
                sink.event(Event::Call { choice: 0, index, id, name });
            }
            Called::Client(index)
        };
        self.calls.push((at, called));
        Ok(())
    }

    /// A piece of a call's arguments comes. One that belongs to no call says nothing.
    pub fn arguments(&mut self, at: u64, json: &str, sink: &mut impl Sink) {
        if json.is_empty() {
            return;
        }
        match self.calls.iter_mut().rfind(|(index, _)| *index == at).map(|(_, called)| called) {
            Some(Called::Client(index)) => sink.event(Event::Arguments { choice: 0, index: *index, json }),
            Some(Called::Answer { said }) => {
                *said = true;
                self.say(json, sink);
            }
            None => {}
        }
    }

    /// Citations come. Those of thoughts and plans say nothing about the visible text.
    pub fn cite(&mut self, raw: &RawValue, sink: &mut impl Sink) {
        for citation in citations::read(raw) {
            if citation.kind.as_deref().is_some_and(|kind| kind != "TEXT_CONTENT") {
                continue;
            }
            let of_content = |at: u64| self.contents.iter().find(|(index, _)| *index == at);
            let base = citation.content_index.and_then(of_content).and_then(|(_, content)| content.from).unwrap_or(0);
            for value in citations::annotations(&citation, base) {
                sink.event(Event::Annotation { choice: 0, value: &value });
            }
        }
    }

    /// Log probabilities come, those of a piece or of the whole answer. The tokens of a piece are not told apart, so each piece stands
    /// as one, with the probability of all of it.
    pub fn logprobs(&mut self, raw: &RawValue, sink: &mut impl Sink) {
        let items: Vec<Logprobs> = if raw.get().starts_with('[') {
            serde_json::from_str(raw.get()).unwrap_or_default()
        } else {
            serde_json::from_str(raw.get()).map(|one| vec![one]).unwrap_or_default()
        };
        let content: Vec<Value> = items
            .into_iter()
            .filter_map(|item| {
                let (text, sum) = (item.text?, item.logprobs?.iter().sum::<f64>());
                Some(json!({ "token": text, "logprob": sum, "bytes": text.as_bytes(), "top_logprobs": [] }))
            })
            .collect();
        if !content.is_empty() {
            sink.event(Event::Logprobs { choice: 0, content: &content });
        }
    }

    /// The answer ends, with the provider's word for why. Two of its words mean that it failed.
    pub fn end(&mut self, native: &str, usage: Option<Counts>, failure: (&str, &str), sink: &mut impl Sink) {
        if self.calls.iter().any(|(_, called)| matches!(called, Called::Answer { said: false })) && self.characters == 0
        {
            self.say("{}", sink);
        }
        if let Some(usage) = usage.and_then(Counts::to_usage) {
            sink.event(Event::Usage(usage));
        }
        let calls = self.client_calls > 0;
        let reason = match native {
            "ERROR" | "TIMEOUT" => {
                let (message, error_type) = failure;
                sink.event(Event::Error(error::in_band(native, message, error_type).into_fault(None)));
                return;
            }
            "MAX_TOKENS" => FinishReason::Length,
            "ERROR_TOXIC" => FinishReason::ContentFilter,
            // `TOOL_CALL` without a call of the client's is the answer tool. A word that is newer than this code is a stop.
            _ if calls => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        };
        sink.event(Event::Finish { choice: 0, reason, native });
    }

    fn say(&mut self, text: &str, sink: &mut impl Sink) {
        self.characters += text.chars().count() as u64;
        sink.event(Event::Text { choice: 0, text });
    }

    fn content(&mut self, at: u64) -> Result<&mut Content, Fault> {
        let place = match self.contents.iter().position(|(index, _)| *index == at) {
            Some(place) => place,
            None if self.contents.len() >= MAX_PARTS => {
                return Err(Fault::malformed("the provider sent more contents than can be believed"));
            }
            None => {
                self.contents.push((at, Content::default()));
                self.contents.len() - 1
            }
        };
        Ok(&mut self.contents[place].1)
    }
}

fn reason(index: u32, piece: ReasoningPiece<'_>, sink: &mut impl Sink) {
    sink.event(Event::Reasoning { choice: 0, delta: ReasoningDelta { index, id: None, format: FORMAT_COHERE, piece } });
}
