//! OpenAI's embeddings, as the gateway itself asks for them: one text in, one vector out.
//! Source: the API reference of `POST /v1/embeddings`.

use crate::domain::{Fault, Usage};
use serde::Deserialize;
use serde_json::json;

/// What is appended to a provider's base URL.
pub const PATH: &str = "/embeddings";

/// The most dimensions that a vector may have; the largest known models have half as many.
pub const MOST_DIMENSIONS: usize = 8192;

#[derive(Deserialize)]
struct Answer {
    data: [Item; 1],
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct Item {
    embedding: Vec<f32>,
}

#[derive(Clone, Copy, Deserialize)]
struct Counts {
    prompt_tokens: Option<u64>,
    total_tokens: Option<u64>,
}

/// A text's vector, as long as the model makes it, and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// The vector.
    pub vector: Vec<f32>,
    /// What the provider counted, when it did.
    pub usage: Option<Usage>,
}

/// The body that asks for the vector of a text.
pub fn request(model: &str, text: &str) -> Vec<u8> {
    // The format is the default, but the official clients override it: said, so that it holds everywhere.
    json!({ "model": model, "input": text, "encoding_format": "float" }).to_string().into_bytes()
}

/// Reads the answer.
///
/// # Errors
/// `Malformed` when it is none, has not exactly one vector, or one that is empty, too long or not made of finite numbers.
pub fn parse(body: &[u8]) -> Result<Embedding, Fault> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| Fault::malformed("the answer is not an embedding"))?;
    let [Item { embedding: vector }] = answer.data;
    if vector.is_empty() || vector.len() > MOST_DIMENSIONS || !vector.iter().all(|value| value.is_finite()) {
        return Err(Fault::malformed("the embedding is no vector"));
    }
    let usage = answer.usage.and_then(|counts| {
        let prompt_tokens = counts.prompt_tokens.or(counts.total_tokens)?;
        Some(Usage { prompt_tokens, total_tokens: prompt_tokens, ..Usage::default() })
    });
    Ok(Embedding { vector, usage })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_one_text() {
        let body: serde_json::Value = serde_json::from_slice(&request("m", "a \"b\"")).unwrap();
        assert_eq!(body, json!({"model": "m", "input": "a \"b\"", "encoding_format": "float"}));
    }

    #[test]
    fn reads_the_vector_and_what_it_took() {
        let body = json!({"object": "list", "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3},
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1, 0]}]});
        let read = parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(read.vector, [0.5, -1.0, 0.0]);
        assert_eq!(read.usage, Some(Usage { prompt_tokens: 3, total_tokens: 3, ..Usage::default() }));
        assert_eq!(parse(br#"{"data":[{"embedding":[1]}]}"#).unwrap().usage, None);
        assert_eq!(parse(br#"{"data":[{"embedding":[1]}],"usage":{}}"#).unwrap().usage, None);
    }

    #[test]
    fn refuses_what_is_no_vector() {
        let long = format!(r#"{{"data":[{{"embedding":[0{}]}}]}}"#, ",0".repeat(MOST_DIMENSIONS));
        for body in [
            "",
            "<html>",
            "{}",
            r#"{"data":[]}"#,
            r#"{"data":[{"embedding":[]}]}"#,
            r#"{"data":[{"embedding":[1]},{"embedding":[1]}]}"#,
            r#"{"data":[{"embedding":["1"]}]}"#,
            r#"{"data":[{"embedding":[1e39]}]}"#,
            r#"{"data":[{"embedding":"AACAPw=="}]}"#,
            r#"{"data":[{"embedding":[1"#,
            &long,
        ] {
            assert!(parse(body.as_bytes()).is_err(), "{body:.60}");
        }
    }
}
