//! Turns the blocks of an answer into events, the same way whether they come whole or in pieces.
//!
//! ```text
//!   start ──> ( open? ──> piece* ──> close )* ──> stop ──> count?
//! ```
//!
//! An answer that is not streamed opens and closes each of its blocks at once, so a stream put together again equals it
//! by construction.

use super::citation;
use super::media;
use super::wire::{self, Block, Counts, Delta, Image, Reasoning, ToolUse};
use crate::dialect::chat::FORMAT_ANTHROPIC;
use crate::dialect::event::{Event, FinishReason, ReasoningDelta, ReasoningPiece, Sink};
use crate::domain::Fault;
use serde_json::Value;
use serde_json::value::RawValue;

/// How many blocks may be open at once: a bound for hostile providers, far above the one that Bedrock keeps open.
const MAX_OPEN_BLOCKS: usize = 64;

/// How many citations of one text wait for its end, which their `end_index` needs.
const MAX_WAITING_CITATIONS: usize = 256;

/// The reader of one answer. There is always exactly one choice.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The tool whose input is the answer's text, see [`crate::dialect::chat::Rendered::answer_tool`].
    answer_tool: Option<String>,
    /// The blocks that have begun and not ended, by their index in the message.
    open: Vec<(u64, Open)>,
    /// How many calls the client has to run.
    calls: u32,
    /// How many reasoning blocks there were.
    thoughts: u32,
    /// Characters of visible text so far, which citations count in.
    characters: u64,
}

/// A block that has begun.
#[derive(Debug)]
enum Open {
    /// Text, with where it begins and the citations that wait for its end.
    Text { from: u64, citations: Vec<Value> },
    /// Thoughts, by their place among the reasoning blocks.
    Thinking { index: u32 },
    /// A call of the client's tools, by its place among the calls.
    Call { index: u32 },
    /// The call that is the answer, and whether any of its input has come.
    Answer { begun: bool },
    /// What is not the client's to see: tools that Amazon runs itself, their results, and whatever is added to the API.
    Other,
}

impl Answer {
    pub fn new(answer_tool: Option<String>) -> Self {
        Self { answer_tool, ..Self::default() }
    }

    /// The answer begins. Converse gives it neither an id nor a model.
    pub fn start(&mut self, sink: &mut impl Sink) {
        sink.event(Event::Start { id: "", model: "" });
    }

    /// The token counts, which come once.
    pub fn count(&mut self, counts: &Counts, sink: &mut impl Sink) {
        sink.event(Event::Usage(counts.to_usage()));
    }

    /// A whole block.
    ///
    /// # Errors
    /// As [`Answer::open`].
    pub fn block(&mut self, at: u64, block: &Block<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        if let Some(call) = &block.tool_use {
            self.open(at, call, sink)?;
            if let Some(input) = call.input.map(RawValue::get).filter(|input| !says_nothing(input)) {
                self.input(at, input, sink);
            }
        }
        if let Some(text) = &block.text {
            self.text(at, &text.0, sink)?;
        }
        if let Some(cited) = &block.citations_content {
            for text in cited.content.iter().flatten() {
                self.text(at, wire::text(&text.text), sink)?;
            }
            for citation in cited.citations.iter().flatten() {
                self.citation(at, citation, sink)?;
            }
        }
        if let Some(thoughts) = &block.reasoning_content {
            self.reasoning(at, thoughts, sink)?;
        }
        if let Some(image) = &block.image {
            picture(image, sink);
        }
        self.close(at, sink);
        Ok(())
    }

    /// A block is announced: a call of the client's, of the provider's own, or something else that says nothing to the client.
    ///
    /// # Errors
    /// `Malformed` when too many blocks are open.
    pub fn open(&mut self, at: u64, call: &ToolUse<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        self.close(at, sink);
        let name = wire::text(&call.name);
        let open = if wire::text(&call.kind) == "server_tool_use" {
            Open::Other
        } else if self.answer_tool.as_deref() == Some(name) {
            Open::Answer { begun: false }
        } else {
            let index = self.calls;
            self.calls += 1;
            match wire::text(&call.tool_use_id) {
                "" => sink.event(Event::Call { choice: 0, index, id: &format!("call_{index}"), name }),
                id => sink.event(Event::Call { choice: 0, index, id, name }),
            }
            Open::Call { index }
        };
        self.begin(at, open).map(drop)
    }

    /// The announced block is none that is understood.
    ///
    /// # Errors
    /// `Malformed` when too many blocks are open.
    pub fn pass_over(&mut self, at: u64, sink: &mut impl Sink) -> Result<(), Fault> {
        self.close(at, sink);
        self.begin(at, Open::Other).map(drop)
    }

    /// An addition to a block comes, which begins the block where it was not announced.
    ///
    /// # Errors
    /// As [`Answer::open`].
    pub fn delta(&mut self, at: u64, delta: &Delta<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        if let Some(text) = &delta.text {
            self.text(at, &text.0, sink)?;
        }
        if let Some(piece) = &delta.tool_use {
            self.input(at, wire::text(&piece.input), sink);
        }
        if let Some(thoughts) = &delta.reasoning_content {
            self.reasoning(at, thoughts, sink)?;
        }
        if let Some(citation) = delta.citation {
            self.citation(at, citation, sink)?;
        }
        if let Some(image) = &delta.image {
            picture(image, sink);
        }
        Ok(())
    }

    fn begin(&mut self, at: u64, open: Open) -> Result<&mut Open, Fault> {
        if self.open.len() >= MAX_OPEN_BLOCKS {
            return Err(Fault::malformed("the provider opened more blocks than it closed"));
        }
        let position = self.open.len();
        self.open.push((at, open));
        Ok(&mut self.open[position].1)
    }

    /// What is open at an index; when nothing is, what `otherwise` says begins there.
    fn opened(&mut self, at: u64, otherwise: impl FnOnce(&mut Self) -> Open) -> Result<&mut Open, Fault> {
        match self.open.iter().rposition(|(index, _)| *index == at) {
            Some(position) => Ok(&mut self.open[position].1),
            None => {
                let open = otherwise(self);
                self.begin(at, open)
            }
        }
    }

    fn text(&mut self, at: u64, text: &str, sink: &mut impl Sink) -> Result<(), Fault> {
        let new = |answer: &mut Self| Open::Text { from: answer.characters, citations: Vec::new() };
        if matches!(self.opened(at, new)?, Open::Text { .. }) {
            self.say(text, sink);
        }
        Ok(())
    }

    fn say(&mut self, text: &str, sink: &mut impl Sink) {
        if !text.is_empty() {
            self.characters += text.chars().count() as u64;
            sink.event(Event::Text { choice: 0, text });
        }
    }

    /// A piece of a call's input. One that belongs to no call says nothing to the client.
    fn input(&mut self, at: u64, json: &str, sink: &mut impl Sink) {
        if json.is_empty() {
            return;
        }
        match self.open.iter_mut().rfind(|(index, _)| *index == at) {
            Some((_, Open::Call { index })) => sink.event(Event::Arguments { choice: 0, index: *index, json }),
            Some((_, Open::Answer { begun })) => {
                *begun = true;
                self.say(json, sink);
            }
            _ => {}
        }
    }

    fn reasoning(&mut self, at: u64, thoughts: &Reasoning<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        let whole = thoughts.reasoning_text.as_ref();
        let (text, signature) = whole.map_or((&thoughts.text, &thoughts.signature), |it| (&it.text, &it.signature));
        let pieces = [
            ReasoningPiece::Text(wire::text(text)),
            ReasoningPiece::Signature(wire::text(signature)),
            ReasoningPiece::Encrypted(wire::text(&thoughts.redacted_content)),
        ];
        let new = |answer: &mut Self| {
            let index = answer.thoughts;
            answer.thoughts += 1;
            Open::Thinking { index }
        };
        for piece in pieces {
            let (ReasoningPiece::Text(said)
            | ReasoningPiece::Signature(said)
            | ReasoningPiece::Summary(said)
            | ReasoningPiece::Encrypted(said)) = piece;
            if said.is_empty() {
                continue;
            }
            if let Open::Thinking { index } = self.opened(at, new)? {
                let delta = ReasoningDelta { index: *index, id: None, format: FORMAT_ANTHROPIC, piece };
                sink.event(Event::Reasoning { choice: 0, delta });
            }
        }
        Ok(())
    }

    fn citation(&mut self, at: u64, citation: &RawValue, sink: &mut impl Sink) -> Result<(), Fault> {
        let Ok(citation) = serde_json::from_str::<Value>(citation.get()) else { return Ok(()) };
        let new = |answer: &mut Self| Open::Text { from: answer.characters, citations: Vec::new() };
        if let Open::Text { from, citations } = self.opened(at, new)? {
            citations.push(citation);
            if citations.len() >= MAX_WAITING_CITATIONS {
                let (from, citations) = (*from, std::mem::take(citations));
                self.cite(from, &citations, sink);
            }
        }
        Ok(())
    }

    fn cite(&self, from: u64, citations: &[Value], sink: &mut impl Sink) {
        for citation in citations {
            let value = citation::annotation(citation, from, self.characters);
            sink.event(Event::Annotation { choice: 0, value: &value });
        }
    }

    /// A block ends.
    pub fn close(&mut self, at: u64, sink: &mut impl Sink) {
        if let Some(position) = self.open.iter().rposition(|(index, _)| *index == at) {
            let (_, open) = self.open.remove(position);
            self.end(open, sink);
        }
    }

    fn end(&mut self, open: Open, sink: &mut impl Sink) {
        match open {
            Open::Text { from, citations } => self.cite(from, &citations, sink),
            Open::Answer { begun: false } => self.say("{}", sink),
            Open::Answer { begun: true } | Open::Call { .. } | Open::Thinking { .. } | Open::Other => {}
        }
    }

    /// The answer has a stop reason.
    pub fn stop(&mut self, native: &str, sink: &mut impl Sink) {
        for (_, open) in std::mem::take(&mut self.open) {
            self.end(open, sink);
        }
        sink.event(Event::Finish { choice: 0, reason: self.finish_reason(native), native });
    }

    /// OpenAI's word for a stop reason. A reason that is newer than this code is a stop, with its own word kept beside it, and so are
    /// the model's own mishaps (`malformed_model_output`, `malformed_tool_use`).
    fn finish_reason(&self, native: &str) -> FinishReason {
        match native {
            "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
            "guardrail_intervened" | "content_filtered" => FinishReason::ContentFilter,
            // `tool_use` without a call of the client's is the answer tool, or a tool of the provider's own.
            _ if self.calls > 0 => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        }
    }
}

/// Whether an input says that there is none: `{}` or `null`.
fn says_nothing(json: &str) -> bool {
    json == "null" || json.bytes().all(|byte| matches!(byte, b'{' | b'}' | b' ' | b'\n' | b'\r' | b'\t'))
}

fn picture(image: &Image<'_>, sink: &mut impl Sink) {
    let data = image.source.as_ref().map_or("", |source| wire::text(&source.bytes));
    let media_type = match wire::text(&image.format) {
        "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "png" => "image/png",
        // In a stream the format stands in the head of the block.
        _ => media::picture_type(data),
    };
    if !data.is_empty() {
        sink.event(Event::Image { choice: 0, media_type, data });
    }
}
