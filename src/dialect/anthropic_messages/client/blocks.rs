//! Puts the hub's events into Anthropic's order: blocks one after the other, each begun, filled and stopped before the next.
//!
//! ```text
//!            text, thoughts, a call                     another block's event
//!   Idle ───────────────────────────> Open(block) ───────────────────────────> stopped, and Open(next)
//!                                         │
//!                                         └─ a call whose JSON is not closed: what comes for others waits in line
//! ```
//!
//! Providers that call several tools at once may send pieces of their arguments by turns. Clients run a tool as soon as its block is
//! stopped, so a call is stopped only when its arguments are whole: what belongs to later blocks waits for that.

use super::thoughts::{Foreign, unsigned};
use crate::dialect::anthropic_messages::conversation::tool_id;
use crate::dialect::chat::FORMAT_ANTHROPIC;
use crate::dialect::event::{Event, FinishReason, ReasoningDelta, ReasoningPiece};
use crate::dialect::openai_chat::scan::Balance;
use std::borrow::Cow;
use std::collections::VecDeque;

/// Takes blocks in their final order.
pub(super) trait Writer {
    /// A text block begins.
    fn text_begins(&mut self);
    /// A thinking block begins.
    fn thinking_begins(&mut self);
    /// A whole `redacted_thinking` block; [`Writer::stopped`] follows.
    fn redacted(&mut self, data: &str);
    /// A call begins.
    fn call_begins(&mut self, id: &str, name: &str);
    /// A piece of the open text.
    fn text(&mut self, text: &str);
    /// A piece of the open thoughts.
    fn thinking(&mut self, text: &str);
    /// The signature of the open thoughts.
    fn signature(&mut self, signature: &str);
    /// A piece of the open call's input.
    fn input(&mut self, json: &str);
    /// The open block is whole.
    fn stopped(&mut self);
}

/// The blocks of one answer.
#[derive(Default)]
pub(super) struct Blocks {
    open: Open,
    waiting: VecDeque<Piece<'static>>,
    /// About how many bytes wait.
    held: usize,
    refused: bool,
    stop_reason: Option<Cow<'static, str>>,
}

#[derive(Default)]
enum Open {
    #[default]
    Idle,
    Text,
    Thinking {
        index: u32,
        /// Whose thoughts they are, and whether a summary of them, until a signature has come.
        unsigned: Option<Origin>,
    },
    Call {
        index: u32,
        input: Balance,
    },
}

type Origin = (&'static str, bool);

/// What an event has for a block.
#[derive(Clone)]
enum Piece<'a> {
    Text(Cow<'a, str>),
    Thought { index: u32, origin: Origin, text: Cow<'a, str> },
    Signature { index: u32, signature: Cow<'a, str> },
    Redacted(Cow<'a, str>),
    Call { index: u32, id: Cow<'a, str>, name: Cow<'a, str> },
    Input { index: u32, json: Cow<'a, str> },
}

impl Piece<'_> {
    fn owned(self) -> Piece<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Text(text) => Piece::Text(own(text)),
            Self::Thought { index, origin, text } => Piece::Thought { index, origin, text: own(text) },
            Self::Signature { index, signature } => Piece::Signature { index, signature: own(signature) },
            Self::Redacted(data) => Piece::Redacted(own(data)),
            Self::Call { index, id, name } => Piece::Call { index, id: own(id), name: own(name) },
            Self::Input { index, json } => Piece::Input { index, json: own(json) },
        }
    }
}

impl Blocks {
    /// Takes an event; those that have no place in this format (citations, pictures, log probabilities, further choices) leave no trace.
    pub fn take(&mut self, event: &Event<'_>, writer: &mut impl Writer) {
        let piece = match event {
            Event::Text { choice: 0, text } => Piece::Text((*text).into()),
            Event::Refusal { choice: 0, text } => {
                self.refused |= !text.is_empty();
                Piece::Text((*text).into())
            }
            Event::Reasoning { choice: 0, delta } => thought(delta),
            Event::Call { choice: 0, index, id, name } => {
                // Anthropic may be asked next, and refuses ids in another alphabet than its own.
                Piece::Call { index: *index, id: tool_id(id), name: (*name).into() }
            }
            Event::Arguments { choice: 0, index, json } => Piece::Input { index: *index, json: (*json).into() },
            Event::Finish { choice: 0, reason, native } => {
                self.stop_reason.get_or_insert(stop_reason(*reason, native, self.refused));
                return;
            }
            _ => return,
        };
        if !piece.is_empty() {
            self.put(piece, writer);
            self.go_on(writer);
        }
    }

    /// Stops what is open; returns the stop reason.
    pub fn finish(&mut self, writer: &mut impl Writer) -> Cow<'static, str> {
        loop {
            // Nothing more can come for it.
            self.stop(writer);
            if self.waiting.is_empty() {
                break;
            }
            for piece in self.take_waiting() {
                self.put(piece, writer);
            }
        }
        self.stop_reason.take().unwrap_or("end_turn".into())
    }

    /// About how many bytes wait in line.
    pub fn held_bytes(&self) -> usize {
        self.held
    }

    /// What waited, to be put once more.
    fn take_waiting(&mut self) -> VecDeque<Piece<'static>> {
        self.held = 0;
        std::mem::take(&mut self.waiting)
    }

    /// Lets in what waited, as far as it need not wait any longer.
    fn go_on(&mut self, writer: &mut impl Writer) {
        while !self.waiting.is_empty() && !self.is_busy() {
            for piece in self.take_waiting() {
                self.put(piece, writer);
            }
        }
    }

    /// Whether a call is open whose input is not whole.
    fn is_busy(&self) -> bool {
        matches!(&self.open, Open::Call { input, .. } if !input.is_closed())
    }

    fn put(&mut self, piece: Piece<'_>, writer: &mut impl Writer) {
        let is_its_own =
            matches!((&self.open, &piece), (Open::Call { index, .. }, Piece::Input { index: at, .. }) if index == at);
        // Who comes later stands behind those that wait already.
        if (self.is_busy() || !self.waiting.is_empty()) && !is_its_own {
            self.held += piece.size();
            self.waiting.push_back(piece.owned());
        } else {
            self.begin(piece, writer);
        }
    }

    /// Writes a piece, into the open block when it belongs there.
    fn begin(&mut self, piece: Piece<'_>, writer: &mut impl Writer) {
        match piece {
            Piece::Text(text) => {
                if !matches!(self.open, Open::Text) {
                    self.stop(writer);
                    writer.text_begins();
                    self.open = Open::Text;
                }
                writer.text(&text);
            }
            Piece::Thought { index, origin, text } => {
                self.think(index, origin, writer);
                writer.thinking(&text);
            }
            Piece::Signature { index, signature } => {
                self.think(index, ("", false), writer);
                writer.signature(&signature);
                self.open = Open::Thinking { index, unsigned: None };
            }
            Piece::Redacted(data) => {
                self.stop(writer);
                writer.redacted(&data);
                writer.stopped();
            }
            Piece::Call { index, id, name } => {
                self.stop(writer);
                writer.call_begins(&id, &name);
                self.open = Open::Call { index, input: Balance::default() };
            }
            Piece::Input { index: at, json } => {
                if let Open::Call { index, input } = &mut self.open
                    && *index == at
                {
                    input.push(json.as_bytes());
                    writer.input(&json);
                }
            }
        }
    }

    fn think(&mut self, at: u32, origin: Origin, writer: &mut impl Writer) {
        if !matches!(&self.open, Open::Thinking { index, .. } if *index == at) {
            self.stop(writer);
            writer.thinking_begins();
            self.open = Open::Thinking { index: at, unsigned: Some(origin) };
        }
    }

    fn stop(&mut self, writer: &mut impl Writer) {
        match std::mem::take(&mut self.open) {
            Open::Idle => return,
            // Who sends it back must be known not to be Anthropic's.
            Open::Thinking { unsigned: Some((format, is_summary)), .. } => {
                writer.signature(&unsigned(format, is_summary));
            }
            Open::Thinking { .. } | Open::Text | Open::Call { .. } => {}
        }
        writer.stopped();
    }
}

impl Piece<'_> {
    /// About how much memory it takes while it waits.
    fn size(&self) -> usize {
        let text = match self {
            Self::Text(text) | Self::Thought { text, .. } | Self::Input { json: text, .. } | Self::Redacted(text) => {
                text.len()
            }
            Self::Signature { signature, .. } => signature.len(),
            Self::Call { id, name, .. } => id.len() + name.len(),
        };
        text + size_of::<Self>()
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) | Self::Thought { text, .. } | Self::Input { json: text, .. } => text.is_empty(),
            Self::Signature { .. } | Self::Redacted(_) | Self::Call { .. } => false,
        }
    }
}

fn thought<'a>(delta: &ReasoningDelta<'a>) -> Piece<'a> {
    let index = delta.index;
    let own = |data: &'a str| match delta.format {
        FORMAT_ANTHROPIC => Cow::Borrowed(data),
        format => {
            let id = delta.id.map(tool_id);
            Cow::Owned(Foreign { format, id: id.as_deref(), data }.seal())
        }
    };
    match delta.piece {
        ReasoningPiece::Text(text) | ReasoningPiece::Summary(text) => {
            let origin = (delta.format, matches!(delta.piece, ReasoningPiece::Summary(_)));
            Piece::Thought { index, origin, text: text.into() }
        }
        ReasoningPiece::Signature(signature) => Piece::Signature { index, signature: own(signature) },
        ReasoningPiece::Encrypted(data) => Piece::Redacted(own(data)),
    }
}

/// Anthropic's word for the end of an answer: the provider's own where it is one of these and says the same.
fn stop_reason(reason: FinishReason, native: &str, refused: bool) -> Cow<'static, str> {
    const WORDS: [(&str, FinishReason); 5] = [
        ("stop_sequence", FinishReason::Stop),
        ("pause_turn", FinishReason::Stop),
        ("end_turn", FinishReason::Stop),
        ("max_tokens", FinishReason::Length),
        ("model_context_window_exceeded", FinishReason::Length),
    ];
    if refused && reason == FinishReason::Stop {
        return "refusal".into();
    }
    let own = WORDS.iter().find(|(word, means)| *word == native && *means == reason).map(|(word, _)| *word);
    own.unwrap_or(match reason {
        FinishReason::Stop => "end_turn",
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter => "refusal",
    })
    .into()
}
