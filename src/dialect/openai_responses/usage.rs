//! Token counts in the words of Responses.
//!
//! ```text
//!   input_tokens { cached_tokens, cache_write_tokens }   output_tokens { reasoning_tokens }   total_tokens
//! ```
//!
//! What the recordings show besides: details that are missing or null (mistral.rs, compatible servers), costs and counts of sources
//! (xAI, OpenRouter), which only pass.

use crate::dialect::openai_chat::write;
use crate::domain::Usage;
use serde_json::Value;

/// Reads a `usage` object; `None` when it counts nothing.
pub fn parse(json: &[u8]) -> Option<Usage> {
    let value: Value = serde_json::from_slice(json).ok()?;
    let (input, output) = (count(&value["input_tokens"]), count(&value["output_tokens"]));
    if input.is_none() && output.is_none() {
        return None;
    }
    let (prompt_tokens, completion_tokens) = (input.unwrap_or(0), output.unwrap_or(0));
    let (read, written) = (&value["input_tokens_details"], &value["output_tokens_details"]);
    Some(Usage {
        prompt_tokens,
        completion_tokens,
        total_tokens: count(&value["total_tokens"]).unwrap_or(prompt_tokens.saturating_add(completion_tokens)),
        cached_tokens: count(&read["cached_tokens"]),
        cache_write_tokens: count(&read["cache_write_tokens"]),
        reasoning_tokens: count(&written["reasoning_tokens"]),
        ..Usage::default()
    })
}

/// A count, or nothing where a provider writes something else. Some write whole numbers as 12.0.
fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|count| *count >= 0.0).map(|count| count as u64))
}

/// Writes a `usage` object. The details are always there, because OpenAI's SDKs want them.
pub fn write(usage: &Usage, out: &mut Vec<u8>) {
    out.push(b'{');
    write::key("input_tokens", out);
    write::number(usage.prompt_tokens, out);
    write::raw(",\"input_tokens_details\":{", out);
    write::key("cached_tokens", out);
    write::number(usage.cached_tokens.unwrap_or(0), out);
    if let Some(count) = usage.cache_write_tokens {
        write::key("cache_write_tokens", out);
        write::number(count, out);
    }
    out.push(b'}');
    write::key("output_tokens", out);
    write::number(usage.completion_tokens, out);
    write::raw(",\"output_tokens_details\":{", out);
    write::key("reasoning_tokens", out);
    write::number(usage.reasoning_tokens.unwrap_or(0), out);
    out.push(b'}');
    write::key("total_tokens", out);
    write::number(usage.total_tokens, out);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_provider_form() {
        let base = Usage { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15, ..Usage::default() };
        for (json, expected) in [
            (r#"{"input_tokens":10,"output_tokens":5,"total_tokens":15}"#, base),
            (r#"{"input_tokens":10,"output_tokens":5.0,"input_tokens_details":null,"cost":1e-5}"#, base),
            (
                r#"{"input_tokens":10,"input_tokens_details":{"cached_tokens":4,"cache_write_tokens":2},"output_tokens":5,
                    "output_tokens_details":{"reasoning_tokens":3},"total_tokens":15,"num_sources_used":0}"#,
                Usage { cached_tokens: Some(4), cache_write_tokens: Some(2), reasoning_tokens: Some(3), ..base },
            ),
        ] {
            assert_eq!(parse(json.as_bytes()), Some(expected), "{json}");
        }
        for nothing in ["null", "{}", "[]", "{", r#"{"input_tokens":null}"#, r#"{"total_tokens":3}"#] {
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
            reasoning_tokens: Some(3),
            ..Usage::default()
        };
        let mut out = Vec::new();
        write(&usage, &mut out);
        assert_eq!(parse(&out), Some(usage));
    }
}
