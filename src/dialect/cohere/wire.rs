//! The JSON of Cohere's answers, borrowed from the provider's bytes wherever a text needs no unescaping.
//!
//! Every field is optional: which ones count is decided by `type`, and what a newer version of the API adds must not break an answer
//! that is otherwise understood. Where the start of a message has an empty list, later events have an object in the same place.

pub(super) use crate::dialect::text::{Text, text};

use crate::domain::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One event of a stream, whatever its type.
#[derive(Debug, Deserialize)]
pub(super) struct Payload<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    pub index: Option<u64>,
    #[serde(borrow)]
    pub delta: Option<Delta<'a>>,
    /// Of a text's piece.
    #[serde(borrow)]
    pub logprobs: Option<&'a RawValue>,
}

/// Only what names an event, for one that does not fit [`Payload`].
#[derive(Debug, Deserialize)]
pub(super) struct Outline<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    /// The message of an error that is no event.
    #[serde(borrow)]
    pub message: Option<&'a RawValue>,
}

/// What an event adds.
#[derive(Debug, Deserialize)]
pub(super) struct Delta<'a> {
    #[serde(borrow)]
    pub message: Option<Addition<'a>>,
    #[serde(borrow)]
    pub finish_reason: Option<Text<'a>>,
    pub usage: Option<Counts>,
    /// Why it failed.
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub error_type: Option<Text<'a>>,
}

/// An addition to the message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Addition<'a> {
    #[serde(borrow)]
    pub content: Option<Content<'a>>,
    #[serde(borrow)]
    pub tool_plan: Option<Text<'a>>,
    #[serde(borrow)]
    pub tool_calls: Option<ToolCall<'a>>,
    #[serde(borrow)]
    pub citations: Option<&'a RawValue>,
}

/// A content or a piece of one. `[]` is one without anything.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Content<'a> {
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    #[serde(borrow)]
    pub thinking: Option<Text<'a>>,
}

/// A call or a piece of one. `[]` is one without anything.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ToolCall<'a> {
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub function: Option<Function<'a>>,
}

/// What is called.
#[derive(Debug, Deserialize)]
pub(super) struct Function<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    pub arguments: Option<Text<'a>>,
}

/// A whole answer.
#[derive(Debug, Deserialize)]
pub(super) struct Reply<'a> {
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    /// The message; in an error, its text.
    #[serde(borrow)]
    pub message: Option<&'a RawValue>,
    #[serde(borrow)]
    pub finish_reason: Option<Text<'a>>,
    pub usage: Option<Counts>,
    #[serde(borrow)]
    pub logprobs: Option<&'a RawValue>,
}

/// A whole message.
#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub tool_plan: Option<Text<'a>>,
    #[serde(borrow)]
    pub tool_calls: Option<Vec<ToolCall<'a>>>,
    #[serde(borrow)]
    pub citations: Option<&'a RawValue>,
}

/// A citation: which part of a content rests on which sources.
#[derive(Debug, Deserialize)]
pub(super) struct Citation {
    pub start: Option<u64>,
    pub end: Option<u64>,
    pub content_index: Option<u64>,
    /// What is cited: `TEXT_CONTENT`, `THINKING_CONTENT` or `PLAN`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub sources: Option<Vec<serde_json::Value>>,
}

/// The log probabilities of a piece of text, which may be of several tokens.
#[derive(Debug, Deserialize)]
pub(super) struct Logprobs {
    pub text: Option<String>,
    pub logprobs: Option<Vec<f64>>,
}

/// Token counts. What Cohere adds to a prompt counts among `tokens` and is not billed.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Counts {
    billed_units: Option<Pair>,
    tokens: Option<Pair>,
    cached_tokens: Option<f64>,
}

/// Numbers are floats in Cohere's own types.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Pair {
    input_tokens: Option<f64>,
    output_tokens: Option<f64>,
    reasoning_tokens: Option<f64>,
}

impl Counts {
    /// The counts in OpenAI's meaning: what was processed, and beside it what is paid for. `None` when nothing was counted.
    pub fn to_usage(self) -> Option<Usage> {
        // A cast from a float saturates.
        let whole = |count: Option<f64>| count.filter(|count| *count >= 0.0).map(|count| count as u64);
        let counted = self.tokens.or(self.billed_units)?;
        let prompt_tokens = whole(counted.input_tokens).unwrap_or(0);
        let completion_tokens = whole(counted.output_tokens).unwrap_or(0);
        let billed = |of: fn(&Pair) -> Option<f64>| whole(self.billed_units.as_ref().and_then(of));
        Some(Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
            cached_tokens: whole(self.cached_tokens),
            reasoning_tokens: whole(counted.reasoning_tokens),
            billed_prompt_tokens: billed(|pair| pair.input_tokens),
            billed_completion_tokens: billed(|pair| pair.output_tokens),
            ..Usage::default()
        })
    }
}
