//! Turns the blocks of an answer into events, the same way whether they come whole or in pieces.
//!
//! ```text
//!   start ──> ( open ──> delta* ──> close )* ──> stop
//! ```
//!
//! An answer that is not streamed opens and closes each of its blocks at once, so a stream put together again equals it
//! by construction.

use super::citation;
use super::piece::PieceKind;
use super::wire::{self, Block, Counts, Delta};
use crate::dialect::chat::FORMAT_ANTHROPIC;
use crate::dialect::event::{Event, FinishReason, ReasoningDelta, ReasoningPiece, Sink};
use crate::domain::Fault;
use serde_json::Value;
use serde_json::value::RawValue;

/// How many blocks may be open at once: a bound for hostile providers, far above the one that Anthropic keeps open.
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
    counts: Counts,
}

/// A block that has begun.
#[derive(Debug)]
enum Open {
    /// Text, with where it begins and the citations that wait for its end.
    Text { from: u64, citations: Vec<Value> },
    /// Thinking, by its place among the reasoning blocks.
    Thinking { index: u32 },
    /// A call of the client's tools, by its place among the calls.
    Call { index: u32, input: Input },
    /// The call that is the answer.
    Answer { input: Input },
    /// What is not the client's to see: server tools and their results, compactions, and whatever is added to the API.
    Other,
}

/// The input of a call.
#[derive(Debug)]
enum Input {
    /// None so far.
    Missing,
    /// It came with the block itself; given out at the end unless pieces follow.
    Whole(String),
    /// It comes in pieces.
    Pieces,
}

impl Answer {
    pub fn new(answer_tool: Option<String>) -> Self {
        Self { answer_tool, ..Self::default() }
    }

    /// The message begins.
    pub fn start(&mut self, id: &str, model: &str, sink: &mut impl Sink) {
        sink.event(Event::Start { id, model });
    }

    /// Counts have come.
    pub fn count(&mut self, counts: &Counts, sink: &mut impl Sink) {
        self.counts.update(counts);
        sink.event(Event::Usage(self.counts.to_usage()));
    }

    /// A block begins.
    ///
    /// # Errors
    /// `Malformed` when too many blocks are open.
    pub fn open(&mut self, at: u64, block: &Block<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        self.close(at, sink);
        let open = match wire::text(&block.kind) {
            "text" => {
                let mut citations = Vec::new();
                if let Some(list) = block.citations.and_then(|raw| serde_json::from_str::<Vec<Value>>(raw.get()).ok()) {
                    citations = list;
                }
                let from = self.characters;
                self.text(wire::text(&block.text), sink);
                Open::Text { from, citations }
            }
            "thinking" => {
                let index = self.next_thought();
                self.thought(index, ReasoningPiece::Text(wire::text(&block.thinking)), sink);
                self.thought(index, ReasoningPiece::Signature(wire::text(&block.signature)), sink);
                Open::Thinking { index }
            }
            "redacted_thinking" => {
                let index = self.next_thought();
                self.thought(index, ReasoningPiece::Encrypted(wire::text(&block.data)), sink);
                Open::Other
            }
            "tool_use" => {
                let (name, input) = (wire::text(&block.name), Input::given(block.input));
                if self.answer_tool.as_deref() == Some(name) {
                    Open::Answer { input }
                } else {
                    let index = self.calls;
                    self.calls += 1;
                    match wire::text(&block.id) {
                        "" => sink.event(Event::Call { choice: 0, index, id: &format!("call_{index}"), name }),
                        id => sink.event(Event::Call { choice: 0, index, id, name }),
                    }
                    Open::Call { index, input }
                }
            }
            _ => Open::Other,
        };
        if self.open.len() >= MAX_OPEN_BLOCKS {
            return Err(Fault::malformed("the provider opened more blocks than it closed"));
        }
        self.open.push((at, open));
        Ok(())
    }

    /// An addition to a block comes.
    pub fn delta(&mut self, at: u64, delta: &Delta<'_>, sink: &mut impl Sink) {
        match wire::text(&delta.kind) {
            "text_delta" => self.piece(at, PieceKind::Text, wire::text(&delta.text), sink),
            "thinking_delta" => self.piece(at, PieceKind::Thinking, wire::text(&delta.thinking), sink),
            "signature_delta" => self.piece(at, PieceKind::Signature, wire::text(&delta.signature), sink),
            "input_json_delta" => self.piece(at, PieceKind::Input, wire::text(&delta.partial_json), sink),
            "citations_delta" => {
                let citation = delta.citation.and_then(|raw| serde_json::from_str(raw.get()).ok());
                if let Some((_, Open::Text { from, citations })) = self.opened(at) {
                    citations.extend(citation);
                    if citations.len() >= MAX_WAITING_CITATIONS {
                        let (from, citations) = (*from, std::mem::take(citations));
                        self.cite(from, &citations, sink);
                    }
                }
            }
            _ => {}
        }
    }

    /// A piece of a block comes. One that does not belong to what is open there says nothing to the client.
    pub fn piece(&mut self, at: u64, kind: PieceKind, text: &str, sink: &mut impl Sink) {
        if text.is_empty() {
            return;
        }
        let Some((_, open)) = self.opened(at) else { return };
        match (open, kind) {
            (Open::Text { .. }, PieceKind::Text) => self.text(text, sink),
            (Open::Thinking { index }, PieceKind::Thinking) => {
                let index = *index;
                self.thought(index, ReasoningPiece::Text(text), sink);
            }
            (Open::Thinking { index }, PieceKind::Signature) => {
                let index = *index;
                self.thought(index, ReasoningPiece::Signature(text), sink);
            }
            (Open::Call { index, input }, PieceKind::Input) => {
                *input = Input::Pieces;
                sink.event(Event::Arguments { choice: 0, index: *index, json: text });
            }
            (Open::Answer { input }, PieceKind::Input) => {
                *input = Input::Pieces;
                self.text(text, sink);
            }
            _ => {}
        }
    }

    fn opened(&mut self, at: u64) -> Option<&mut (u64, Open)> {
        self.open.iter_mut().rfind(|(index, _)| *index == at)
    }

    /// A block ends.
    pub fn close(&mut self, at: u64, sink: &mut impl Sink) {
        if let Some(position) = self.open.iter().rposition(|(index, _)| *index == at) {
            let (_, open) = self.open.remove(position);
            self.end(open, sink);
        }
    }

    /// The message has a stop reason.
    pub fn stop(&mut self, native: &str, refusal: &str, sink: &mut impl Sink) {
        for (_, open) in std::mem::take(&mut self.open) {
            self.end(open, sink);
        }
        if native == "refusal" && !refusal.is_empty() {
            sink.event(Event::Refusal { choice: 0, text: refusal });
        }
        sink.event(Event::Finish { choice: 0, reason: self.finish_reason(native), native });
    }

    fn end(&mut self, open: Open, sink: &mut impl Sink) {
        match open {
            Open::Text { from, citations } => self.cite(from, &citations, sink),
            Open::Call { index, input: Input::Whole(json) } => {
                sink.event(Event::Arguments { choice: 0, index, json: &json });
            }
            Open::Answer { input: Input::Whole(json) } => self.text(&json, sink),
            Open::Answer { input: Input::Missing } => self.text("{}", sink),
            Open::Call { .. } | Open::Answer { .. } | Open::Thinking { .. } | Open::Other => {}
        }
    }

    /// OpenAI's word for a stop reason. A reason that is newer than this code is a stop, with its own word kept beside
    /// it.
    fn finish_reason(&self, native: &str) -> FinishReason {
        match native {
            "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
            "refusal" => FinishReason::ContentFilter,
            // `tool_use` without a call of the client's is the answer tool, or a tool of the provider's own.
            _ if self.calls > 0 => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        }
    }

    fn text(&mut self, text: &str, sink: &mut impl Sink) {
        if !text.is_empty() {
            self.characters += text.chars().count() as u64;
            sink.event(Event::Text { choice: 0, text });
        }
    }

    fn next_thought(&mut self) -> u32 {
        let index = self.thoughts;
        self.thoughts += 1;
        index
    }

    fn thought(&self, index: u32, piece: ReasoningPiece<'_>, sink: &mut impl Sink) {
        let (ReasoningPiece::Text(text)
        | ReasoningPiece::Signature(text)
        | ReasoningPiece::Summary(text)
        | ReasoningPiece::Encrypted(text)) = piece;
        if !text.is_empty() {
            let delta = ReasoningDelta { index, id: None, format: FORMAT_ANTHROPIC, piece };
            sink.event(Event::Reasoning { choice: 0, delta });
        }
    }

    fn cite(&self, from: u64, citations: &[Value], sink: &mut impl Sink) {
        for citation in citations {
            let value = citation::annotation(citation, from, self.characters);
            sink.event(Event::Annotation { choice: 0, value: &value });
        }
    }
}

impl Input {
    /// The input that comes with a block's head, where `{}` says that there is none (yet).
    fn given(input: Option<&RawValue>) -> Self {
        match input.map(RawValue::get) {
            None | Some("null") => Self::Missing,
            Some(json) if json.bytes().all(|byte| matches!(byte, b'{' | b'}' | b' ' | b'\n' | b'\r' | b'\t')) => {
                Self::Missing
            }
            Some(json) => Self::Whole(json.to_owned()),
        }
    }
}
