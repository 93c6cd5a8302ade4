//! Embeddings: OpenAI's `POST /embeddings` for clients, the formats of providers that are not compatible with it.
//!
//! ```text
//!   client's body ──openai::parse──> Request ──cohere | ollama::render──> provider's body
//!   provider's body ──cohere | ollama::decode──> Answer ──openai::write──> client's body
//! ```
//!
//! Vectors keep the digits that the provider wrote: nothing is rounded unless the client asks for base64, which is 32-bit floats.
//!
//! Sources: OpenAI's reference (`POST /v1/embeddings`), Cohere's (`POST /v2/embed`), Ollama's (`POST /api/embed`), and recordings.

pub mod cohere;
pub mod ollama;
pub mod openai;
mod own;

pub use own::{Embedding, MOST_DIMENSIONS, PATH, parse, request};

#[cfg(test)]
mod tests;

use crate::domain::{Fault, Usage};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// What is to be embedded, and how the vectors shall look.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The inputs, in order; never empty.
    pub inputs: Vec<Input>,
    /// How the vectors are written.
    pub encoding: Encoding,
    /// How many numbers a vector shall have; `None` leaves it to the model.
    pub dimensions: Option<u64>,
    /// The end user.
    pub user: Option<String>,
    /// Other members, as they were. A renderer takes those that its format knows and reports the others as dropped.
    pub rest: Map<String, Value>,
}

impl Request {
    /// The inputs as texts.
    ///
    /// # Errors
    /// `BadRequest` when one is a list of tokens: their numbers mean something to one model only.
    pub fn texts(&self) -> Result<Vec<&str>, Fault> {
        let texts = self.inputs.iter().map(|input| match input {
            Input::Text(text) => Ok(text.as_str()),
            Input::Tokens(_) => Err(Fault::bad_request("input", "this provider takes texts, not tokens")),
        });
        texts.collect()
    }
}

/// One input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A text.
    Text(String),
    /// A text as the model's own tokens.
    Tokens(Vec<u64>),
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As lists of numbers.
    #[default]
    Float,
    /// As base64 of 32-bit floats, little end first.
    Base64,
}

/// The vectors of all inputs.
#[derive(Debug, Default)]
pub struct Answer {
    /// The model that the provider says it is; empty when it does not.
    pub model: String,
    /// One JSON list of numbers for each input, in their order.
    pub vectors: Vec<Box<RawValue>>,
    /// Tokens; `None` when the provider does not count them.
    pub usage: Option<Usage>,
}

impl Answer {
    /// Takes the vectors of a further batch of inputs, which was sent apart because a provider takes only so many at once.
    pub fn append(&mut self, mut more: Self) {
        self.vectors.append(&mut more.vectors);
        self.usage = match (self.usage, more.usage) {
            (Some(so_far), Some(more)) => Some(Usage {
                prompt_tokens: so_far.prompt_tokens.saturating_add(more.prompt_tokens),
                total_tokens: so_far.total_tokens.saturating_add(more.total_tokens),
                ..so_far
            }),
            (so_far, more) => so_far.or(more),
        };
    }
}

/// A provider's usage: input alone.
fn input_tokens(count: u64) -> Usage {
    Usage { prompt_tokens: count, total_tokens: count, ..Usage::default() }
}

/// Checks that there is one vector for each input.
fn complete(answer: Answer, inputs: usize) -> Result<Answer, Fault> {
    if answer.vectors.len() == inputs {
        return Ok(answer);
    }
    let got = answer.vectors.len();
    Err(Fault::malformed(format!("the provider gave {got} vectors for {inputs} inputs")))
}
