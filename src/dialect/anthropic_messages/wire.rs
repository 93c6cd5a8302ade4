//! The JSON of Anthropic's answers, borrowed from the provider's bytes wherever a text needs no unescaping.
//!
//! Every field is optional and order does not matter: which fields count is decided by `type`, and what a newer version
//! of the API adds must not break an answer that is otherwise understood.

pub(super) use crate::dialect::text::{Text, text};

use crate::dialect::openai_chat::usage::count;
use crate::domain::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One event of a stream, whatever its type.
#[derive(Debug, Deserialize)]
pub(super) struct Payload<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    pub index: Option<u64>,
    #[serde(borrow)]
    pub delta: Option<Delta<'a>>,
    #[serde(borrow)]
    pub content_block: Option<Block<'a>>,
    #[serde(borrow)]
    pub message: Option<Message<'a>>,
    pub usage: Option<Counts>,
}

/// Only the types in an event, for one that does not fit [`Payload`].
#[derive(Debug, Deserialize)]
pub(super) struct Outline<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub delta: Option<Kind<'a>>,
    #[serde(borrow)]
    pub content_block: Option<Kind<'a>>,
}

/// Only the type of something.
#[derive(Debug, Deserialize)]
pub(super) struct Kind<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
}

/// The types of blocks that are understood.
pub(super) const BLOCKS: [&str; 4] = ["text", "thinking", "redacted_thinking", "tool_use"];

/// The types of pieces that are understood.
pub(super) const DELTAS: [&str; 5] =
    ["text_delta", "thinking_delta", "signature_delta", "input_json_delta", "citations_delta"];

/// What an event adds: to a block (`content_block_delta`) or to the message (`message_delta`).
#[derive(Debug, Deserialize)]
pub(super) struct Delta<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    #[serde(borrow)]
    pub thinking: Option<Text<'a>>,
    #[serde(borrow)]
    pub signature: Option<Text<'a>>,
    #[serde(borrow)]
    pub partial_json: Option<Text<'a>>,
    #[serde(borrow)]
    pub citation: Option<&'a RawValue>,
    #[serde(borrow)]
    pub stop_reason: Option<Text<'a>>,
    #[serde(borrow)]
    pub stop_details: Option<StopDetails<'a>>,
}

/// A content block: whole in an answer that is not streamed, empty at the start of one that is.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Block<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    pub input: Option<&'a RawValue>,
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    #[serde(borrow)]
    pub citations: Option<&'a RawValue>,
    #[serde(borrow)]
    pub thinking: Option<Text<'a>>,
    #[serde(borrow)]
    pub signature: Option<Text<'a>>,
    /// The encrypted thoughts of a `redacted_thinking` block.
    #[serde(borrow)]
    pub data: Option<Text<'a>>,
}

/// A whole message, or the beginning of one in `message_start`.
#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub model: Option<Text<'a>>,
    #[serde(borrow)]
    pub content: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    pub stop_reason: Option<Text<'a>>,
    #[serde(borrow)]
    pub stop_details: Option<StopDetails<'a>>,
    pub usage: Option<Counts>,
}

/// More about a stop: why a request was refused.
#[derive(Debug, Deserialize)]
pub(super) struct StopDetails<'a> {
    #[serde(borrow)]
    pub explanation: Option<Text<'a>>,
}

/// Token counts. Input, cache reads and cache writes are three disjoint numbers.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Counts {
    #[serde(default, deserialize_with = "count")]
    pub input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    pub output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    pub cache_read_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    pub cache_creation_input_tokens: Option<u64>,
    pub cache_creation: Option<CacheCreation>,
    pub output_tokens_details: Option<OutputDetails>,
}

/// How long what was written to the cache lives; a part of `cache_creation_input_tokens`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct CacheCreation {
    #[serde(default, deserialize_with = "count")]
    pub ephemeral_1h_input_tokens: Option<u64>,
}

/// What the output tokens were.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct OutputDetails {
    #[serde(default, deserialize_with = "count")]
    pub thinking_tokens: Option<u64>,
}

impl Counts {
    /// Takes the later counts, which are cumulative, wherever there are any: `message_delta` may repeat or correct what
    /// `message_start` said (server tools add input, a compaction takes some away), or leave it out.
    pub fn update(&mut self, later: &Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.cache_read_input_tokens = later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation_input_tokens = later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_creation = later.cache_creation.or(self.cache_creation);
        self.output_tokens_details = later.output_tokens_details.or(self.output_tokens_details);
    }

    /// The counts in OpenAI's meaning.
    pub fn to_usage(self) -> Usage {
        let prompt_tokens = [self.input_tokens, self.cache_read_input_tokens, self.cache_creation_input_tokens]
            .into_iter()
            .flatten()
            .fold(0, u64::saturating_add);
        let completion_tokens = self.output_tokens.unwrap_or_default();
        Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
            cached_tokens: self.cache_read_input_tokens,
            cache_write_tokens: self.cache_creation_input_tokens,
            cache_write_1h_tokens: self.cache_creation.and_then(|creation| creation.ephemeral_1h_input_tokens),
            reasoning_tokens: self.output_tokens_details.and_then(|details| details.thinking_tokens),
            ..Usage::default()
        }
    }
}
