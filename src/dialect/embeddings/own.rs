//! The one vector that the gateway itself asks for, of whichever provider: one text in, one list of numbers out.

use super::openai::{self, Packed};
use super::{Form, Sheets, passed};
use crate::dialect::openai_chat::quirks::Quirks;
use crate::domain::{Fault, Usage};
use serde_json::json;

/// What is appended to the base URL of a provider of OpenAI's form.
pub const PATH: &str = "/embeddings";

/// The most dimensions that a vector may have; the largest known models have half as many.
pub const MOST_DIMENSIONS: usize = 8192;

/// A text's vector, as long as the model makes it, and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// The vector.
    pub vector: Vec<f32>,
    /// What the provider counted, when it did.
    pub usage: Option<Usage>,
}

/// The body that asks for the vector of a text.
///
/// # Errors
/// None that a text could bring about.
pub fn request(form: Form, model: &str, text: &str, quirks: Quirks) -> Result<Vec<u8>, Fault> {
    // The format is the default, but the official clients override it: said, so that it holds everywhere.
    let body = json!({ "model": model, "input": text, "encoding_format": "float" }).to_string().into_bytes();
    if form == Form::OpenAi {
        return Ok(passed::body(&passed::scan(body.into())?, model, quirks));
    }
    let Sheets { mut bodies, .. } = form.render(&openai::parse(&body)?, model, None, false)?;
    Ok(bodies.pop().unwrap_or_default())
}

/// Reads the answer.
///
/// # Errors
/// `Malformed` when it is none, has not exactly one vector, or one that is empty, too long or not made of finite numbers.
pub fn parse(form: Form, body: &[u8], packed: Packed) -> Result<Embedding, Fault> {
    let answer = form.decode(body, Some(1))?;
    let vector = answer.vectors.first().and_then(|vector| openai::numbers(vector, packed)).unwrap_or_default();
    if vector.is_empty() || vector.len() > MOST_DIMENSIONS || !vector.iter().all(|value| value.is_finite()) {
        return Err(Fault::malformed("the embedding is no vector"));
    }
    Ok(Embedding { vector, usage: answer.usage })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Embedding, Fault> {
        parse(Form::OpenAi, body.as_bytes(), Packed::Floats)
    }

    #[test]
    fn asks_for_one_text() {
        let asked = |form, quirks| -> serde_json::Value {
            serde_json::from_slice(&request(form, "m", "a \"b\"", quirks).unwrap()).unwrap()
        };
        let plain = json!({"model": "m", "input": "a \"b\"", "encoding_format": "float"});
        assert_eq!(asked(Form::OpenAi, Quirks::NONE), plain);
        assert_eq!(asked(Form::OpenAi, Quirks::BARE_FLOATS), json!({"model": "m", "input": "a \"b\""}));
        assert_eq!(asked(Form::Titan, Quirks::NONE), json!({"inputText": "a \"b\""}));
    }

    #[test]
    fn reads_the_vector_and_what_it_took() {
        let body = json!({"object": "list", "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3},
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1, 0]}]});
        let embedding = read(&body.to_string()).unwrap();
        assert_eq!(embedding.vector, [0.5, -1.0, 0.0]);
        assert_eq!(embedding.usage, Some(Usage { prompt_tokens: 3, total_tokens: 3, ..Usage::default() }));
        assert_eq!(read(r#"{"data":[{"embedding":[1]}]}"#).unwrap().usage, None);
        assert_eq!(read(r#"{"data":[{"embedding":[1]}],"usage":{}}"#).unwrap().usage, None);
        assert_eq!(read(r#"{"data":[{"embedding":"AACAPw=="}]}"#).unwrap().vector, [1.0]);
        let google = br#"{"embeddings":[{"values":[2]}]}"#;
        assert_eq!(parse(Form::Gemini, google, Packed::Floats).unwrap().vector, [2.0]);
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
            r#"{"data":[{"embedding":"AACA"}]}"#,
            r#"{"data":[{"embedding":[1"#,
            &long,
        ] {
            assert!(read(body).is_err(), "{body:.60}");
        }
    }
}
