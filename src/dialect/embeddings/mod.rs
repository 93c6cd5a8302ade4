//! Embeddings: OpenAI's `POST /embeddings` for clients, also as Google's ask ([`gemini_client`]), and the formats of providers.
//!
//! ```text
//!   client's body ──openai::parse──> Request ──Form::render──> provider's bodies, one for each batch of inputs
//!   provider's bodies ──Form::decode──> Answer ──openai::write──> client's body
//! ```
//!
//! To a provider of OpenAI's form the client's body goes as it is ([`passed`]), and the answer comes back as it is unless its vectors are
//! written in another way than the client asked for ([`answer`]). Vectors keep the digits that the provider wrote: nothing is rounded
//! unless the client asks for base64, which is 32-bit floats.
//!
//! Sources: OpenAI's reference (`POST /v1/embeddings`), Cohere's (`POST /v2/embed`), Ollama's (`POST /api/embed`), Google's
//! (`batchEmbedContents`, `embedContent`, Vertex AI's `predict`), Amazon Bedrock's (Titan, Nova, Cohere), and recordings.

pub mod answer;
pub mod bedrock;
pub mod cohere;
pub mod gemini;
pub mod gemini_client;
pub mod ollama;
pub mod openai;
mod own;
pub mod passed;

pub use own::{Embedding, MOST_DIMENSIONS, PATH, parse, request};

#[cfg(test)]
mod tests;

use super::chat::Rendered;
use crate::domain::{Fault, Usage};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// How a provider wants to be asked for vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// OpenAI's own, and whatever calls itself compatible.
    OpenAi,
    /// Cohere's, second version.
    Cohere,
    /// Cohere's models on Amazon Bedrock: the same without the model's name.
    CohereOnBedrock,
    /// Ollama's own.
    Ollama,
    /// Google's `batchEmbedContents`.
    Gemini,
    /// Google's `embedContent`, the only way to some models on Vertex AI.
    GeminiContent,
    /// Vertex AI's `predict`.
    VertexPredict,
    /// Amazon's Titan on Bedrock.
    Titan,
    /// Amazon's Nova on Bedrock.
    Nova,
}

impl Form {
    /// How many inputs are taken at once; more are sent in batches. `None` leaves it to the provider.
    pub fn max_inputs(self) -> Option<usize> {
        match self {
            Self::OpenAi | Self::Ollama => None,
            Self::Cohere | Self::CohereOnBedrock => Some(cohere::MAX_INPUTS),
            Self::Gemini => Some(gemini::MAX_INPUTS),
            Self::GeminiContent | Self::VertexPredict | Self::Titan | Self::Nova => Some(1),
        }
    }

    /// The path of a request below the base URL of a provider that is no cloud.
    pub fn path(self, model: &str) -> String {
        match self {
            Self::OpenAi => PATH.to_owned(),
            Self::Cohere => cohere::PATH.to_owned(),
            Self::Ollama => ollama::PATH.to_owned(),
            Self::Gemini => gemini::path(model, gemini::BATCH),
            Self::GeminiContent => gemini::path(model, gemini::CONTENT),
            Self::VertexPredict => gemini::path(model, gemini::PREDICT),
            Self::CohereOnBedrock | Self::Titan | Self::Nova => bedrock::path(model),
        }
    }

    /// Renders a request, in batches of at most `most` inputs.
    ///
    /// # Errors
    /// `BadRequest` when an input cannot be said in this form, or something would be lost and must not be.
    pub fn render(self, request: &Request, model: &str, most: Option<usize>, strict: bool) -> Result<Sheets, Fault> {
        let mut sheets = Sheets::default();
        for batch in request.batches(most.or(self.max_inputs())) {
            let rendered = match self {
                Self::OpenAi => openai::render(&batch, model),
                Self::Cohere => cohere::render(&batch, model, strict),
                Self::CohereOnBedrock => cohere::render_on_bedrock(&batch, strict),
                Self::Ollama => ollama::render(&batch, model, strict),
                Self::Gemini => gemini::render_batch(&batch, model, strict),
                Self::GeminiContent => gemini::render_content(&batch, strict),
                Self::VertexPredict => gemini::render_predict(&batch, strict),
                Self::Titan => bedrock::render_titan(&batch, strict),
                Self::Nova => bedrock::render_nova(&batch, strict),
            }?;
            sheets.bodies.push(rendered.body);
            sheets.inputs.push(Some(batch.inputs.len()));
            sheets.dropped = rendered.dropped;
        }
        Ok(sheets)
    }

    /// Reads an answer to this many inputs; `None` where nobody has counted them.
    ///
    /// # Errors
    /// `Empty` without any byte, `Malformed` when it is not an answer or a vector is missing.
    pub fn decode(self, body: &[u8], inputs: Option<usize>) -> Result<Answer, Fault> {
        let answer = match self {
            Self::OpenAi => openai::decode(body),
            Self::Cohere | Self::CohereOnBedrock => cohere::decode(body),
            Self::Ollama => ollama::decode(body),
            Self::Gemini | Self::GeminiContent => gemini::decode(body),
            Self::VertexPredict => gemini::decode_predict(body),
            Self::Titan => bedrock::decode_titan(body),
            Self::Nova => bedrock::decode_nova(body),
        }
        .map_err(|fault| in_band(body).unwrap_or(fault))?;
        let got = answer.vectors.len();
        match inputs {
            Some(inputs) if inputs != got => {
                Err(Fault::malformed(format!("the provider gave {got} vectors for {inputs} inputs")))
            }
            None if got == 0 => Err(Fault::malformed("the provider gave no vector")),
            _ => Ok(answer),
        }
    }
}

/// A rendered request: a body for each batch of inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sheets {
    /// The bodies.
    pub bodies: Vec<Vec<u8>>,
    /// How many inputs each has; `None` where nobody has counted them.
    pub inputs: Vec<Option<usize>>,
    /// The client's parameters that this form cannot honour.
    pub dropped: Vec<String>,
}

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

    /// The same in requests of at most so many inputs.
    fn batches(&self, most: Option<usize>) -> Vec<Cow<'_, Self>> {
        let most = most.unwrap_or(usize::MAX).max(1);
        if self.inputs.len() <= most {
            return vec![Cow::Borrowed(self)];
        }
        let batch = |inputs: &[Input]| Self {
            inputs: inputs.to_vec(),
            encoding: self.encoding,
            dimensions: self.dimensions,
            user: self.user.clone(),
            rest: self.rest.clone(),
        };
        self.inputs.chunks(most).map(|inputs| Cow::Owned(batch(inputs))).collect()
    }

    /// What the texts are for, in Google's words, where the client says it in Cohere's or Voyage's (`input_type`).
    fn task_type(&self) -> Option<&str> {
        let own = ["task_type", "taskType"].into_iter().find_map(|name| self.rest.get(name)?.as_str());
        own.or_else(|| match self.rest.get("input_type")?.as_str()? {
            "search_document" | "document" | "passage" => Some("RETRIEVAL_DOCUMENT"),
            "search_query" | "query" => Some("RETRIEVAL_QUERY"),
            "classification" => Some("CLASSIFICATION"),
            "clustering" => Some("CLUSTERING"),
            _ => None,
        })
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
    /// One JSON list of numbers for each input, or a string of base64, in their order.
    pub vectors: Vec<Box<RawValue>>,
    /// Tokens; `None` when the provider does not count them.
    pub usage: Option<Usage>,
}

impl Answer {
    /// Takes the vectors of a further batch of inputs, which was sent apart because a provider takes only so many at once.
    pub fn append(&mut self, mut more: Self) {
        self.vectors.append(&mut more.vectors);
        if self.model.is_empty() {
            self.model = more.model;
        }
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

/// Reads a provider's JSON.
fn read<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Fault> {
    if body.trim_ascii().is_empty() {
        return Err(Fault::new(crate::domain::FaultKind::Empty, "the provider's answer is empty"));
    }
    serde_json::from_slice(body).map_err(|_| broken())
}

/// The error that stands in the place of an answer.
fn in_band(body: &[u8]) -> Option<Fault> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let is_error = value.get("error").is_some_and(|error| !error.is_null());
    is_error.then(|| super::openai_chat::error::parse(body).into_fault(None))
}

/// What is no answer.
fn broken() -> Fault {
    Fault::malformed("the provider's answer is not one of embeddings")
}

/// A rendered body with the names of what was dropped; the end user is one of them wherever a provider of another form is asked.
fn sheet(body: &Value, request: &Request, mut losses: super::losses::Losses) -> Result<Rendered, Fault> {
    if request.user.as_deref().is_some_and(|user| !user.is_empty()) {
        losses.drop("user", "this provider has no field for the end user")?;
    }
    Ok(Rendered { body: body.to_string().into_bytes(), dropped: losses.into_names(), ..Rendered::default() })
}
