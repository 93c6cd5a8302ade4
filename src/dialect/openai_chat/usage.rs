//! Token counts as OpenAI writes them, and as the many compatible providers vary them.
//!
//! Source: OpenAI's `CompletionUsage`; recordings of DeepSeek (`prompt_cache_hit_tokens`), xAI (reasoning counted beside
//! `completion_tokens`), Mistral (`num_cached_tokens`), Together (`cached_tokens`), Databricks and Venice (Anthropic's names) and
//! Copilot (`reasoning_tokens` at the top).

use super::write;
use crate::domain::Usage;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Reads a `usage` object. `None` when it counts nothing: `null`, no object, or without both main counts.
pub fn parse(json: &[u8]) -> Option<Usage> {
    let wire: Wire = serde_json::from_slice(json).ok()?;
    let (prompt, completion) = (wire.prompt_tokens.0, wire.completion_tokens.0);
    if prompt.is_none() && completion.is_none() {
        return None;
    }
    let (prompt, mut completion) = (prompt.unwrap_or(0), completion.unwrap_or(0));
    let input = wire.prompt_tokens_details.unwrap_or_default();
    let output = wire.completion_tokens_details.unwrap_or_default();
    let reasoning = output.reasoning_tokens.0.or(wire.reasoning_tokens.0);
    let total = wire.total_tokens.0;
    // xAI counts reasoning beside the completion: its total shows it.
    if let (Some(reasoning), Some(total)) = (reasoning, total)
        && reasoning > 0
        && prompt.saturating_add(completion).saturating_add(reasoning) == total
    {
        completion += reasoning;
    }
    Some(Usage {
        prompt_tokens: prompt,
        completion_tokens: completion,
        total_tokens: total.unwrap_or(prompt.saturating_add(completion)),
        cached_tokens: input
            .cached_tokens
            .0
            .or(wire.prompt_cache_hit_tokens.0)
            .or(wire.cache_read_input_tokens.0)
            .or(wire.num_cached_tokens.0)
            .or(wire.cached_tokens.0),
        cache_write_tokens: input.cache_write_tokens.0.or(wire.cache_creation_input_tokens.0),
        cache_write_1h_tokens: wire.cache_creation.and_then(|written| written.ephemeral_1h_input_tokens.0),
        reasoning_tokens: reasoning,
        audio_prompt_tokens: input.audio_tokens.0,
        audio_completion_tokens: output.audio_tokens.0,
        ..Usage::default()
    })
}

/// Writes a `usage` object; details that the provider did not report are left out.
pub fn write(usage: &Usage, out: &mut Vec<u8>) {
    out.push(b'{');
    for (name, count) in [
        ("prompt_tokens", usage.prompt_tokens),
        ("completion_tokens", usage.completion_tokens),
        ("total_tokens", usage.total_tokens),
    ] {
        write::key(name, out);
        write::number(count, out);
    }
    details(
        "prompt_tokens_details",
        &[
            ("cached_tokens", usage.cached_tokens),
            ("cache_write_tokens", usage.cache_write_tokens),
            ("audio_tokens", usage.audio_prompt_tokens),
        ],
        out,
    );
    details(
        "completion_tokens_details",
        &[("reasoning_tokens", usage.reasoning_tokens), ("audio_tokens", usage.audio_completion_tokens)],
        out,
    );
    out.push(b'}');
}

fn details(name: &str, counts: &[(&str, Option<u64>)], out: &mut Vec<u8>) {
    if counts.iter().all(|(_, count)| count.is_none()) {
        return;
    }
    write::key(name, out);
    out.push(b'{');
    for (name, count) in counts {
        if let Some(count) = count {
            write::key(name, out);
            write::number(*count, out);
        }
    }
    out.push(b'}');
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Wire {
    prompt_tokens: Count,
    completion_tokens: Count,
    total_tokens: Count,
    prompt_tokens_details: Option<InputDetails>,
    completion_tokens_details: Option<OutputDetails>,
    prompt_cache_hit_tokens: Count,
    cache_read_input_tokens: Count,
    cache_creation_input_tokens: Count,
    cache_creation: Option<CacheCreation>,
    num_cached_tokens: Count,
    cached_tokens: Count,
    reasoning_tokens: Count,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Count,
    cache_write_tokens: Count,
    audio_tokens: Count,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_1h_input_tokens: Count,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Count,
    audio_tokens: Count,
}

/// A count of any provider's answer, which must not fail for it: for `#[serde(default, deserialize_with)]`.
pub(in crate::dialect) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Count::deserialize(deserializer).map(|count| count.0)
}

/// A count, or nothing where a provider writes something else: a strange extra must not cost the counts beside it.
#[derive(Clone, Copy, Default)]
struct Count(Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a count")
            }
            fn visit_u64<E>(self, count: u64) -> Result<Count, E> {
                Ok(Count(Some(count)))
            }
            fn visit_f64<E>(self, count: f64) -> Result<Count, E> {
                // Some write whole numbers as 12.0; a cast from a float saturates.
                Ok(Count((count >= 0.0).then_some(count as u64)))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Count, E> {
                Ok(Count(None))
            }
            fn visit_unit<E>(self) -> Result<Count, E> {
                Ok(Count(None))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
                Ok(Count(None))
            }
            fn visit_str<E>(self, digits: &str) -> Result<Count, E> {
                Ok(Count(digits.parse().ok()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Count(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Count(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_provider_form() {
        let base = Usage { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15, ..Usage::default() };
        for (json, expected) in [
            (r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}"#, base),
            (r#"{"prompt_tokens":10,"completion_tokens":5}"#, base),
            (r#"{"prompt_tokens":10.0,"completion_tokens":5,"total_tokens":null,"cost":{"total":1}}"#, base),
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_cache_hit_tokens":4}"#,
                Usage { cached_tokens: Some(4), ..base },
            ),
            (
                r#"{"prompt_tokens":10,"completion_tokens":2,"total_tokens":15,"completion_tokens_details":{"reasoning_tokens":3}}"#,
                Usage { reasoning_tokens: Some(3), ..base },
            ),
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"completion_tokens_details":null,
                    "prompt_tokens_details":{"cached_tokens":1,"cache_write_tokens":2,"audio_tokens":[3]}}"#,
                Usage { cached_tokens: Some(1), cache_write_tokens: Some(2), ..base },
            ),
        ] {
            assert_eq!(parse(json.as_bytes()), Some(expected), "{json}");
        }
        for nothing in
            ["null", "{}", "[]", r#"{"total_tokens":3}"#, r#"{"prompt_tokens":null,"completion_tokens":null}"#]
        {
            assert_eq!(parse(nothing.as_bytes()), None, "{nothing}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        let usage = Usage {
            prompt_tokens: 10,
            completion_tokens: 5,
            total_tokens: 15,
            cached_tokens: Some(1),
            cache_write_tokens: Some(2),
            cache_write_1h_tokens: None,
            reasoning_tokens: Some(3),
            audio_prompt_tokens: None,
            audio_completion_tokens: Some(0),
            ..Usage::default()
        };
        let mut out = Vec::new();
        write(&usage, &mut out);
        assert_eq!(parse(&out), Some(usage));
        assert!(!String::from_utf8_lossy(&out).contains("\"audio_tokens\":null"));
    }
}
