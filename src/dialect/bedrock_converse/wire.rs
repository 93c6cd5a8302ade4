//! The JSON of Converse's answers, borrowed from the provider's bytes wherever a text needs no unescaping.
//!
//! Everything is optional: a union is an object with one member, and a member that is newer than this code leaves all of them empty.
//! The padding that Bedrock puts into each event (`p`, against the guessing of texts by lengths) is passed over.

pub(super) use crate::dialect::text::{Text, text};

use crate::dialect::openai_chat::usage::count;
use crate::domain::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A whole answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Whole<'a> {
    #[serde(borrow)]
    pub output: Option<Output<'a>>,
    #[serde(borrow)]
    pub stop_reason: Option<Text<'a>>,
    pub usage: Option<Counts>,
}

/// What a whole answer puts out.
#[derive(Debug, Deserialize)]
pub(super) struct Output<'a> {
    #[serde(borrow)]
    pub message: Option<Spoken<'a>>,
}

/// The message of a whole answer.
#[derive(Debug, Deserialize)]
pub(super) struct Spoken<'a> {
    #[serde(borrow)]
    pub content: Option<Vec<Block<'a>>>,
}

/// A content block of a whole answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Block<'a> {
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    #[serde(borrow)]
    pub tool_use: Option<ToolUse<'a>>,
    #[serde(borrow)]
    pub reasoning_content: Option<Reasoning<'a>>,
    #[serde(borrow)]
    pub citations_content: Option<Cited<'a>>,
    #[serde(borrow)]
    pub image: Option<Image<'a>>,
}

/// A call, or the head of one in a stream.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolUse<'a> {
    #[serde(borrow)]
    pub tool_use_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// `server_tool_use` for a tool that Amazon runs itself.
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    /// An object in a whole answer, a text in a stream.
    #[serde(borrow)]
    pub input: Option<&'a RawValue>,
}

/// Thoughts: in a whole answer below `reasoningText`, in a stream side by side.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reasoning<'a> {
    #[serde(borrow)]
    pub reasoning_text: Option<ReasoningText<'a>>,
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    #[serde(borrow)]
    pub signature: Option<Text<'a>>,
    /// Thoughts that only the provider can read, in base64.
    #[serde(borrow)]
    pub redacted_content: Option<Text<'a>>,
}

/// Thoughts with their signature.
#[derive(Debug, Deserialize)]
pub(super) struct ReasoningText<'a> {
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    #[serde(borrow)]
    pub signature: Option<Text<'a>>,
}

/// Text with the places that it is taken from.
#[derive(Debug, Deserialize)]
pub(super) struct Cited<'a> {
    #[serde(borrow)]
    pub content: Option<Vec<CitedText<'a>>>,
    #[serde(borrow)]
    pub citations: Option<Vec<&'a RawValue>>,
}

/// A piece of such a text.
#[derive(Debug, Deserialize)]
pub(super) struct CitedText<'a> {
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
}

/// A picture.
#[derive(Debug, Deserialize)]
pub(super) struct Image<'a> {
    /// `png`, `jpeg`, `gif` or `webp`.
    #[serde(borrow)]
    pub format: Option<Text<'a>>,
    #[serde(borrow)]
    pub source: Option<Bytes<'a>>,
}

/// Bytes in base64.
#[derive(Debug, Deserialize)]
pub(super) struct Bytes<'a> {
    #[serde(borrow)]
    pub bytes: Option<Text<'a>>,
}

/// One event of a stream, whatever its name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payload<'a> {
    #[serde(default)]
    pub content_block_index: u64,
    #[serde(borrow)]
    pub start: Option<Start<'a>>,
    #[serde(borrow)]
    pub delta: Option<Delta<'a>>,
    #[serde(borrow)]
    pub stop_reason: Option<Text<'a>>,
    pub usage: Option<Counts>,
}

/// The head of a block. Only blocks that have one are announced; text and thoughts begin with their first piece.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Start<'a> {
    #[serde(borrow)]
    pub tool_use: Option<ToolUse<'a>>,
    /// The result of a tool that Amazon ran itself.
    #[serde(borrow)]
    pub tool_result: Option<&'a RawValue>,
}

/// An addition to a block.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Delta<'a> {
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    #[serde(borrow)]
    pub tool_use: Option<Piece<'a>>,
    #[serde(borrow)]
    pub reasoning_content: Option<Reasoning<'a>>,
    #[serde(borrow)]
    pub citation: Option<&'a RawValue>,
    #[serde(borrow)]
    pub image: Option<Image<'a>>,
}

/// A piece of a call's input, as JSON text.
#[derive(Debug, Deserialize)]
pub(super) struct Piece<'a> {
    #[serde(borrow)]
    pub input: Option<Text<'a>>,
}

/// Token counts. Input, cache reads and cache writes are three disjoint numbers, for the models of every maker.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    #[serde(default, deserialize_with = "count")]
    pub input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    pub output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    pub total_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    pub cache_read_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    pub cache_write_input_tokens: Option<u64>,
    pub cache_details: Option<Vec<CacheDetail>>,
}

/// How long a part of what was written to the cache lives.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CacheDetail {
    pub ttl: Option<String>,
    #[serde(default, deserialize_with = "count")]
    pub input_tokens: Option<u64>,
}

impl Counts {
    /// The counts in OpenAI's meaning.
    pub fn to_usage(&self) -> Usage {
        let prompt_tokens = [self.input_tokens, self.cache_read_input_tokens, self.cache_write_input_tokens]
            .into_iter()
            .flatten()
            .fold(0, u64::saturating_add);
        let completion_tokens = self.output_tokens.unwrap_or_default();
        let for_an_hour = self.cache_details.iter().flatten().filter(|detail| detail.ttl.as_deref() == Some("1h"));
        let for_an_hour = for_an_hour.filter_map(|detail| detail.input_tokens).reduce(u64::saturating_add);
        Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: self.total_tokens.unwrap_or(prompt_tokens.saturating_add(completion_tokens)),
            cached_tokens: self.cache_read_input_tokens,
            cache_write_tokens: self.cache_write_input_tokens,
            cache_write_1h_tokens: for_an_hour,
            ..Usage::default()
        }
    }
}
