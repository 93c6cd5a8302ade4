//! The hub of answers: what a provider's answer says, piece by piece, streamed or not.
//!
//! A decoder turns a provider's bytes into [`Event`]s and gives each to a [`Sink`]; an encoder is a sink that writes a client's
//! format. Texts are borrowed from the provider's buffer wherever they need no unescaping, so that a translated chunk costs no
//! allocation. A decoder guarantees this order, which encoders rely on:
//!
//! ```text
//!   Start  ( Text | Refusal | Reasoning | Annotation | Image | Logprobs | Call ( Arguments )* | Usage )*  Finish per choice
//! ```
//!
//! `Usage` may come at any place and several times; the last one counts. `Call` precedes its `Arguments`. After `Error`
//! nothing follows. A decoder never invents a `Finish`: an answer without one is a truncated answer.

use super::chat::ReasoningKind;
use crate::domain::{Fault, Usage};
use serde_json::Value;

/// One piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// The answer has begun (prelude, no output yet). Sent once.
    Start {
        /// The provider's id of the answer; empty when it has none.
        id: &'a str,
        /// The model that the provider says it is; empty when it does not.
        model: &'a str,
    },
    /// Visible text.
    Text {
        /// Which choice.
        choice: u32,
        /// The piece.
        text: &'a str,
    },
    /// A piece of a refusal.
    Refusal {
        /// Which choice.
        choice: u32,
        /// The piece.
        text: &'a str,
    },
    /// A piece of reasoning.
    Reasoning {
        /// Which choice.
        choice: u32,
        /// The piece.
        delta: ReasoningDelta<'a>,
    },
    /// A tool call begins.
    Call {
        /// Which choice.
        choice: u32,
        /// Its place among the choice's calls, from 0 without gaps.
        index: u32,
        /// Its id, never empty (decoders make one where the provider has none).
        id: &'a str,
        /// The function's name.
        name: &'a str,
    },
    /// A piece of a call's arguments (JSON text). A call without any has the arguments `{}`.
    Arguments {
        /// Which choice.
        choice: u32,
        /// The call's place.
        index: u32,
        /// The piece.
        json: &'a str,
    },
    /// A citation, in OpenAI's `annotations` form (`{"type": "url_citation", "url_citation": {…}}`).
    Annotation {
        /// Which choice.
        choice: u32,
        /// The annotation.
        value: &'a Value,
    },
    /// A picture that the model made, in OpenRouter's form (`message.images[]`, a data URL).
    Image {
        /// Which choice.
        choice: u32,
        /// MIME type.
        media_type: &'a str,
        /// Standard base64.
        data: &'a str,
    },
    /// Log probabilities of the tokens, in OpenAI's `logprobs.content[]` form.
    Logprobs {
        /// Which choice.
        choice: u32,
        /// The array's items.
        content: &'a [Value],
    },
    /// A choice is complete. Sent exactly once per choice.
    Finish {
        /// Which choice.
        choice: u32,
        /// OpenAI's word for it.
        reason: FinishReason,
        /// The provider's own word (`end_turn`, `MAX_TOKENS`).
        native: &'a str,
    },
    /// Token counts so far; the last one counts.
    Usage(Usage),
    /// The provider says in-band that it failed.
    Error(Fault),
}

/// A piece of reasoning.
///
/// Pieces with one `index` belong to one block (one item of `reasoning_details`); text comes in pieces, a signature or an
/// encrypted block comes whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasoningDelta<'a> {
    /// Its place among the choice's reasoning blocks, from 0.
    pub index: u32,
    /// The tool call it belongs to, where a provider signs calls.
    pub id: Option<&'a str>,
    /// Which provider's form it is, see [`super::chat::FORMAT_ANTHROPIC`]; empty where it needs no signature.
    pub format: &'static str,
    /// The piece.
    pub piece: ReasoningPiece<'a>,
}

/// What a piece of reasoning is; the streamed form of [`ReasoningKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningPiece<'a> {
    /// Thoughts.
    Text(&'a str),
    /// The signature of the block's thoughts.
    Signature(&'a str),
    /// A summary of thoughts.
    Summary(&'a str),
    /// Thoughts that only the provider can read.
    Encrypted(&'a str),
}

impl ReasoningPiece<'_> {
    /// The block that this piece begins when it is the first of its index.
    pub fn to_kind(self) -> ReasoningKind {
        match self {
            Self::Text(text) => ReasoningKind::Text { text: text.to_owned(), signature: None },
            Self::Signature(signature) => {
                ReasoningKind::Text { text: String::new(), signature: Some(signature.to_owned()) }
            }
            Self::Summary(text) => ReasoningKind::Summary(text.to_owned()),
            Self::Encrypted(data) => ReasoningKind::Encrypted(data.to_owned()),
        }
    }
}

/// Why a choice ended, in OpenAI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// It was done.
    Stop,
    /// It ran out of tokens.
    Length,
    /// It calls tools.
    ToolCalls,
    /// It was cut for its content.
    ContentFilter,
}

impl FinishReason {
    /// OpenAI's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

impl Event<'_> {
    /// Whether it commits the answer (DESIGN section 4): real output, or a finish with a reason.
    pub fn is_output(&self) -> bool {
        match self {
            Self::Start { .. } | Self::Usage(_) | Self::Error(_) | Self::Logprobs { .. } => false,
            Self::Text { text, .. } | Self::Refusal { text, .. } => !text.is_empty(),
            Self::Reasoning { .. }
            | Self::Call { .. }
            | Self::Arguments { .. }
            | Self::Annotation { .. }
            | Self::Image { .. }
            | Self::Finish { .. } => true,
        }
    }
}

/// Takes the events of one answer in order.
pub trait Sink {
    /// Takes one event.
    fn event(&mut self, event: Event<'_>);
}

impl<F: FnMut(Event<'_>)> Sink for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// How a provider's byte stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// HTTP says that the body is complete.
    Clean,
    /// The connection broke.
    Cut,
}

/// What has been seen of an answer so far: all that the commit gate, the triage and the record need to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Real output has come: the gate may open.
    pub output: bool,
    /// How many choices have begun (1 unless `n` was more).
    pub choices_begun: u32,
    /// How many choices have a finish reason.
    pub choices_finished: u32,
    /// The latest token counts.
    pub usage: Option<Usage>,
    /// Bytes of visible text, reasoning and arguments, for an estimate where usage never comes.
    pub output_bytes: u64,
    /// A choice was cut for its content.
    pub filtered: bool,
    /// The sound that the provider says it has heard, where it bills that.
    pub sound: Option<std::time::Duration>,
    /// Whether the provider says that the answer is over, well or not, or that it goes on in the background; `None` where it says nothing of
    /// that.
    pub over: Option<bool>,
    /// The provider's in-band error.
    pub error: Option<Fault>,
}

impl Observed {
    /// Takes note of an event.
    pub fn note(&mut self, event: &Event<'_>) {
        self.output |= event.is_output();
        let (choice, bytes) = match event {
            Event::Text { choice, text } | Event::Refusal { choice, text } => (*choice, text.len()),
            Event::Reasoning { choice, delta } => (
                *choice,
                match delta.piece {
                    ReasoningPiece::Text(text) | ReasoningPiece::Summary(text) => text.len(),
                    ReasoningPiece::Signature(_) | ReasoningPiece::Encrypted(_) => 0,
                },
            ),
            Event::Call { choice, name, .. } => (*choice, name.len()),
            Event::Arguments { choice, json, .. } => (*choice, json.len()),
            Event::Annotation { choice, .. } | Event::Image { choice, .. } | Event::Logprobs { choice, .. } => {
                (*choice, 0)
            }
            Event::Finish { choice, reason, .. } => {
                self.choices_finished += 1;
                self.filtered |= *reason == FinishReason::ContentFilter;
                (*choice, 0)
            }
            Event::Usage(usage) => {
                self.usage = Some(*usage);
                return;
            }
            Event::Error(fault) => {
                self.error = Some(fault.clone());
                return;
            }
            Event::Start { .. } => return,
        };
        self.choices_begun = self.choices_begun.max(choice + 1);
        self.output_bytes += bytes as u64;
    }

    /// A finish reason for every choice that began, and for at least one.
    pub fn is_finished(&self) -> bool {
        self.choices_finished > 0 && self.choices_finished >= self.choices_begun
    }
}
