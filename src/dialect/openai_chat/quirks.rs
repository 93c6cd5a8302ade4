//! How compatible providers deviate from OpenAI: one bit each, named in the catalog and in `[[provider]] quirks`.

/// A set of deviations. Only what a set names is repaired; all other bytes pass as they are.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Quirks(u32);

impl Quirks {
    /// No deviation: every byte passes.
    pub const NONE: Self = Self(0);
    /// Request: the provider knows `max_tokens` only, so `max_completion_tokens` is renamed.
    pub const MAX_TOKENS: Self = Self(1);
    /// Request: the provider knows `max_completion_tokens` only, so `max_tokens` is renamed.
    pub const MAX_COMPLETION_TOKENS: Self = Self(1 << 1);
    /// Request: `stream_options` is refused or useless, so it is cut and never added.
    pub const NO_STREAM_OPTIONS: Self = Self(1 << 2);
    /// Request: the provider knows `reasoning_effort` only, so OpenRouter's `reasoning: {effort}` becomes that.
    pub const REASONING_EFFORT: Self = Self(1 << 3);
    /// Request: the provider is OpenRouter, so its own `usage: {include}` stays.
    pub const OPENROUTER_NATIVE: Self = Self(1 << 4);
    /// Answer: thoughts come as `reasoning`, so `reasoning_content` is put beside it.
    pub const REASONING: Self = Self(1 << 5);
    /// Answer: `content` may be a list of thinking and text parts.
    pub const CONTENT_PARTS: Self = Self(1 << 6);
    /// Answer: tool calls lack an index, an id, a type or arguments, or stand beside `finish_reason: "stop"`.
    pub const TOOL_CALLS: Self = Self(1 << 7);
    /// Answer: finish reasons in other words than OpenAI's, or twice.
    pub const FINISH_WORDS: Self = Self(1 << 8);
    /// Answer: usage stands on chunks with choices instead of on one chunk of its own.
    pub const USAGE_IN_CHUNKS: Self = Self(1 << 9);
    /// Answer: a chunk's id changes or is missing, or its `object` is not OpenAI's.
    pub const CHUNK_FIELDS: Self = Self(1 << 10);
    /// Request: the provider takes an assistant's earlier thoughts back, as `reasoning_content`.
    pub const REPLAY_REASONING: Self = Self(1 << 11);
    /// Route: the provider has OpenAI's `/responses` too, so that requests of that form pass as they are.
    pub const RESPONSES: Self = Self(1 << 12);
    /// Route: the provider has OpenAI's `/completions` too (its row may have another path, and name the models that alone have it), so
    /// that requests of that form pass as they are.
    pub const COMPLETIONS: Self = Self(1 << 13);
    /// Answer: what comes of that route has the form of chat completions (Mistral's fill-in-the-middle).
    pub const COMPLETIONS_AS_CHAT: Self = Self(1 << 14);
    /// Embeddings, request: floats are the default and not to be asked for, so `encoding_format: "float"` is cut.
    pub const BARE_FLOATS: Self = Self(1 << 20);
    /// Embeddings, request: `dimensions` is called `output_dimension`.
    pub const OUTPUT_DIMENSION: Self = Self(1 << 21);
    /// Embeddings: vectors are signed bytes in base64 and nothing else, so `encoding_format` is cut and the client gets numbers.
    pub const INT8_EMBEDDINGS: Self = Self(1 << 22);

    /// Rerank: the form is Voyage's, with `top_k` and an answer whose ranks are its `data`.
    pub const RERANK_DATA: Self = Self(1 << 23);

    /// Every deviation of answers: for a provider that nobody has written a row for. Its requests pass untouched.
    pub const ALL_TOLERANT: Self = Self(
        Self::REASONING.0
            | Self::CONTENT_PARTS.0
            | Self::TOOL_CALLS.0
            | Self::FINISH_WORDS.0
            | Self::USAGE_IN_CHUNKS.0
            | Self::CHUNK_FIELDS.0,
    );

    const NAMES: [(&'static str, Self); 21] = [
        ("none", Self::NONE),
        ("all_tolerant", Self::ALL_TOLERANT),
        ("max_tokens", Self::MAX_TOKENS),
        ("max_completion_tokens", Self::MAX_COMPLETION_TOKENS),
        ("no_stream_options", Self::NO_STREAM_OPTIONS),
        ("reasoning_effort", Self::REASONING_EFFORT),
        ("openrouter_native", Self::OPENROUTER_NATIVE),
        ("reasoning", Self::REASONING),
        ("content_parts", Self::CONTENT_PARTS),
        ("tool_calls", Self::TOOL_CALLS),
        ("finish_words", Self::FINISH_WORDS),
        ("usage_in_chunks", Self::USAGE_IN_CHUNKS),
        ("chunk_fields", Self::CHUNK_FIELDS),
        ("replay_reasoning", Self::REPLAY_REASONING),
        ("responses", Self::RESPONSES),
        ("completions", Self::COMPLETIONS),
        ("completions_as_chat", Self::COMPLETIONS_AS_CHAT),
        ("bare_floats", Self::BARE_FLOATS),
        ("output_dimension", Self::OUTPUT_DIMENSION),
        ("int8_embeddings", Self::INT8_EMBEDDINGS),
        ("rerank_data", Self::RERANK_DATA),
    ];

    /// The set of one name as it is written in the catalog and the configuration; `None` when there is no such name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, quirks)| *quirks)
    }

    /// Every name, for messages about an unknown one.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().map(|(name, _)| *name)
    }

    /// Whether all of `other` are in the set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the format is OpenAI's own in every detail: a route more is no deviation.
    pub const fn is_plain(self) -> bool {
        let routes = Self::RESPONSES.with(Self::COMPLETIONS).with(Self::COMPLETIONS_AS_CHAT);
        self.without(routes).0 == 0
    }

    /// The set without what is in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOr for Quirks {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl FromIterator<Self> for Quirks {
    fn from_iter<I: IntoIterator<Item = Self>>(sets: I) -> Self {
        sets.into_iter().fold(Self::NONE, Self::with)
    }
}

impl std::fmt::Debug for Quirks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let single = Self::NAMES.iter().filter(|(_, quirk)| quirk.0.count_ones() == 1 && self.has(*quirk));
        f.debug_set().entries(single.map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for name in Quirks::names() {
            assert_eq!(Quirks::names().filter(|other| *other == name).count(), 1, "{name}");
            assert!(Quirks::from_name(name).is_some());
        }
        assert_eq!(Quirks::from_name("typo"), None);
        let both: Quirks = ["reasoning", "tool_calls"].into_iter().filter_map(Quirks::from_name).collect();
        assert!(both.has(Quirks::REASONING) && both.has(Quirks::TOOL_CALLS) && !both.has(Quirks::FINISH_WORDS));
        assert_eq!(format!("{both:?}"), r#"{"reasoning", "tool_calls"}"#);
    }

    #[test]
    fn tolerance_changes_no_request() {
        for quirk in [Quirks::MAX_TOKENS, Quirks::NO_STREAM_OPTIONS, Quirks::REASONING_EFFORT, Quirks::REPLAY_REASONING]
        {
            assert!(!Quirks::ALL_TOLERANT.has(quirk));
        }
    }
}
