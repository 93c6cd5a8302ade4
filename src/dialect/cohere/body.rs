//! The JSON of a request to Cohere, borrowed from the hub's request so that pictures are copied once, into the body.
//!
//! The order of the fields puts what grows last: two requests of one conversation have the same bytes up to where they differ.
//!
//! Source: `POST /v2/chat` in the API reference.

use serde::Serialize;
use serde_json::Value;
use std::borrow::Cow;

/// The whole body.
#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    pub model: &'a str,
    pub stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    #[serde(flatten)]
    pub sampling: Sampling<'a>,
    #[serde(flatten)]
    pub extras: Extras<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict_tools: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool<'a>>,
    pub messages: Vec<Turn<'a>>,
}

/// Whether the model thinks, and how much.
#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Thinking {
    Enabled {
        #[serde(skip_serializing_if = "Option::is_none")]
        token_budget: Option<u64>,
    },
    Disabled,
}

/// How tokens are drawn, and where the drawing ends.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Sampling<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<bool>,
}

/// Fields that only Cohere has, from the client's extensions.
#[derive(Debug, Default, Serialize)]
pub(super) struct Extras<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safety_mode: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub citation_options: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<&'a Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<Document<'a>>,
}

/// What the model may ground its answer on and cite.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Document<'a> {
    /// As the client wrote it.
    Given(&'a Value),
    /// A file of a message.
    File { id: String, data: DocumentData<'a> },
}

/// The fields of a document; all of them are shown to the model.
#[derive(Debug, Serialize)]
pub(super) struct DocumentData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<&'a str>,
    pub text: String,
}

/// The form of the answer: JSON, by a schema where there is one.
#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename = "json_object")]
pub(super) struct Format<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<Cow<'a, Value>>,
}

/// A tool that the model may call.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "function")]
pub(super) struct Tool<'a> {
    pub function: Function<'a>,
}

/// What a tool is.
#[derive(Debug, Serialize)]
pub(super) struct Function<'a> {
    pub name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    pub parameters: Cow<'a, Value>,
}

/// A message.
#[derive(Debug, Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub(super) enum Turn<'a> {
    System {
        content: Content<'a>,
    },
    User {
        content: Content<'a>,
    },
    Assistant {
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<Content<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tool_plan: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: Content<'a>,
    },
}

/// What is said: a text, or pieces.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Content<'a> {
    Text(Cow<'a, str>),
    Pieces(Vec<Piece<'a>>),
}

impl<'a> Content<'a> {
    /// The shortest way to say these pieces.
    pub fn of(mut pieces: Vec<Piece<'a>>) -> Self {
        match pieces.as_mut_slice() {
            [] => Self::Text(Cow::Borrowed("")),
            [Piece::Text { text }] => Self::Text(std::mem::take(text)),
            _ => Self::Pieces(pieces),
        }
    }
}

/// A piece of a message.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Piece<'a> {
    Text { text: Cow<'a, str> },
    Thinking { thinking: &'a str },
    ImageUrl { image_url: ImageUrl<'a> },
}

/// A picture at an address, a `data:` one included.
#[derive(Debug, Serialize)]
pub(super) struct ImageUrl<'a> {
    pub url: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
}

/// A call that the model made.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "function")]
pub(super) struct ToolCall<'a> {
    pub id: &'a str,
    pub function: CalledFunction<'a>,
}

/// What was called.
#[derive(Debug, Serialize)]
pub(super) struct CalledFunction<'a> {
    pub name: &'a str,
    pub arguments: &'a str,
}
