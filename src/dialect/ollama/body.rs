//! The JSON of a request to Ollama, borrowed from the hub's request so that pictures are copied once, into the body.
//!
//! The order of the fields puts what grows last: two requests of one conversation have the same bytes up to where they differ.
//!
//! Source: `POST /api/chat` in the API reference.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// The whole body. Without `stream` an answer is streamed, so it is always said.
#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    pub model: &'a str,
    pub stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub think: Option<Think>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Cow<'a, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u64>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool<'a>>,
    pub messages: Vec<Turn<'a>>,
}

/// Whether and how much the model thinks.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Think {
    Switch(bool),
    Level(&'static str),
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
    pub name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    pub parameters: Cow<'a, Value>,
}

/// A message.
#[derive(Debug, Default, Serialize)]
pub(super) struct Turn<'a> {
    pub role: &'static str,
    pub content: Cow<'a, str>,
    /// What an assistant thought.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub thinking: Cow<'a, str>,
    /// Pictures in base64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall<'a>>,
    /// The tool whose result this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_name: Option<&'a str>,
    /// The call whose result this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<&'a str>,
}

/// A call that the model made.
#[derive(Debug, Serialize)]
pub(super) struct ToolCall<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub id: &'a str,
    pub function: CalledFunction<'a>,
}

/// What was called.
#[derive(Debug, Serialize)]
pub(super) struct CalledFunction<'a> {
    pub name: &'a str,
    pub arguments: Arguments<'a>,
}

/// Arguments, which are an object here.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Arguments<'a> {
    /// The object's own text.
    Object(&'a RawValue),
    /// Something else that a model wrote, kept as a text under a key.
    Invalid { arguments: &'a str },
    /// None.
    Empty {},
}

impl<'a> Arguments<'a> {
    /// The object that a text is.
    pub fn of(text: &'a str) -> Self {
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed == "null" {
            return Self::Empty {};
        }
        match serde_json::from_str::<&RawValue>(trimmed) {
            Ok(raw) if raw.get().starts_with('{') => Self::Object(raw),
            _ => Self::Invalid { arguments: text },
        }
    }
}
