//! Tokens, in OpenAI's meaning of the words.

use serde::{Deserialize, Serialize};

/// What an answer used. `prompt_tokens` includes what was read from and written to a prompt cache;
/// `completion_tokens` includes reasoning. Whatever a provider counts otherwise, its dialect turns into this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Input tokens, cached ones included.
    pub prompt_tokens: u64,
    /// Output tokens, reasoning included.
    pub completion_tokens: u64,
    /// The provider's own total, or the sum.
    pub total_tokens: u64,
    /// Of the input: read from a cache. `None` when the provider does not say.
    pub cached_tokens: Option<u64>,
    /// Of the input: written to a cache. `None` when the provider does not say.
    pub cache_write_tokens: Option<u64>,
    /// Of the output: reasoning. `None` when the provider does not say.
    pub reasoning_tokens: Option<u64>,
    /// Of the input: audio. `None` when the provider does not say.
    pub audio_prompt_tokens: Option<u64>,
    /// Of the output: audio. `None` when the provider does not say.
    pub audio_completion_tokens: Option<u64>,
    /// Of what was written to a cache: kept for an hour, which costs more. `None` when the provider does not say.
    pub cache_write_1h_tokens: Option<u64>,
    /// Input tokens that are paid for, where a provider bills others than it processed (Cohere leaves out what it adds to a prompt).
    pub billed_prompt_tokens: Option<u64>,
    /// Output tokens that are paid for, likewise.
    pub billed_completion_tokens: Option<u64>,
}

impl Usage {
    /// More tokens than any request has: four thousand million.
    pub const MOST: u64 = 1 << 32;

    /// Whether it can be a count at all. What a provider says by mistake, or to do harm, is not booked.
    pub fn is_plausible(&self) -> bool {
        let parts = [
            self.cached_tokens,
            self.cache_write_tokens,
            self.reasoning_tokens,
            self.audio_prompt_tokens,
            self.audio_completion_tokens,
            self.cache_write_1h_tokens,
            self.billed_prompt_tokens,
            self.billed_completion_tokens,
        ];
        let whole = [self.prompt_tokens, self.completion_tokens];
        // The total need not be theirs, but is no larger than both may be.
        whole.into_iter().chain(parts.into_iter().flatten()).all(|count| count <= Self::MOST)
            && self.total_tokens <= 2 * Self::MOST
    }
}

/// How a response ended that went on after its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseEnd {
    /// The provider says that it has failed.
    pub failed: bool,
    /// What it has used, where the provider counts that.
    pub usage: Option<Usage>,
    /// About how much output it has, in bytes.
    pub output_bytes: u64,
}
