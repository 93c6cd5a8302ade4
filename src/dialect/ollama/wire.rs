//! The JSON of Ollama's answers, borrowed from the provider's bytes wherever a text needs no unescaping. A whole answer is one chunk.

pub(super) use crate::dialect::text::{Text, text};

use crate::dialect::openai_chat::usage::count;
use crate::domain::Usage;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// One line of a stream, or a whole answer.
#[derive(Debug, Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub model: Option<Text<'a>>,
    #[serde(borrow)]
    pub message: Option<Message<'a>>,
    /// Whether it is the last one.
    pub done: Option<bool>,
    /// Older servers do not say why.
    #[serde(borrow)]
    pub done_reason: Option<Text<'a>>,
    /// Left out when all of the prompt was cached.
    #[serde(default, deserialize_with = "count")]
    pub prompt_eval_count: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    pub eval_count: Option<u64>,
    /// In OpenAI's form.
    pub logprobs: Option<Vec<Value>>,
    /// An error instead.
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

/// The message, or an addition to it.
#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub content: Option<Text<'a>>,
    #[serde(borrow)]
    pub thinking: Option<Text<'a>>,
    #[serde(borrow)]
    pub tool_calls: Option<Vec<ToolCall<'a>>>,
}

/// A call, always whole.
#[derive(Debug, Deserialize)]
pub(super) struct ToolCall<'a> {
    /// Older servers give none.
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
    /// An object.
    #[serde(borrow)]
    pub arguments: Option<&'a RawValue>,
}

impl Chunk<'_> {
    /// The counts in OpenAI's meaning; `None` when nothing was counted. Thoughts are counted with the output and not told apart.
    pub fn usage(&self) -> Option<Usage> {
        if self.prompt_eval_count.is_none() && self.eval_count.is_none() {
            return None;
        }
        let (prompt_tokens, completion_tokens) = (self.prompt_eval_count.unwrap_or(0), self.eval_count.unwrap_or(0));
        let total_tokens = prompt_tokens.saturating_add(completion_tokens);
        Some(Usage { prompt_tokens, completion_tokens, total_tokens, ..Usage::default() })
    }
}
