//! The JSON of requests. Texts borrow from the hub's request; tool arguments and results go in as the JSON text that they are.
//!
//! Source: `GenerateContentRequest` in the public reference; both hosts take these names in camel case.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// A whole request.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Body<'a> {
    /// Instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_instruction: Option<Content<'a>>,
    /// The turns.
    pub contents: Vec<Content<'a>>,
    /// What may be called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tools<'a>>,
    /// What must be called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_config: Option<ToolConfig<'a>>,
    /// Everything about sampling and form.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub generation_config: Map<String, Value>,
    /// Google's filters, from the client's extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safety_settings: Option<&'a Value>,
    /// The name of an explicit cache, from the client's extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_content: Option<&'a Value>,
}

/// A turn.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Content<'a> {
    /// `user` or `model`; absent for instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// What is said.
    pub parts: Vec<Part<'a>>,
}

/// A part of a turn: one of the first five fields, and what qualifies it.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Part<'a> {
    /// Text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<&'a str>,
    /// Bytes in the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline_data: Option<InlineData<'a>>,
    /// Bytes elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_data: Option<FileData<'a>>,
    /// A call that the model made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function_call: Option<FunctionCall<'a>>,
    /// A call's result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function_response: Option<FunctionResponse<'a>>,
    /// Whether the text is a thought.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub thought: bool,
    /// The signature that this part came with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thought_signature: Option<&'a str>,
}

impl<'a> Part<'a> {
    /// A text.
    pub fn text(text: &'a str) -> Self {
        Self { text: Some(text), ..Self::default() }
    }
}

/// Bytes in the request.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InlineData<'a> {
    /// Their type.
    pub mime_type: &'a str,
    /// Standard base64.
    pub data: &'a str,
}

/// Bytes at an address.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileData<'a> {
    /// Their type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<&'static str>,
    /// `https:`, `gs:`, or the address of an uploaded file.
    pub file_uri: Cow<'a, str>,
}

/// A call that the model made.
#[derive(Debug, PartialEq, Serialize)]
pub struct FunctionCall<'a> {
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    /// The function.
    pub name: &'a str,
    /// An object.
    pub args: Object<'a>,
}

/// A call's result.
#[derive(Debug, PartialEq, Serialize)]
pub struct FunctionResponse<'a> {
    /// The call's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    /// The function.
    pub name: &'a str,
    /// An object.
    pub response: Object<'a>,
    /// Pictures and documents in the result.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part<'a>>,
}

/// A JSON object: as the text that it is, or made of a text that is none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Object<'a> {
    /// The object's own text.
    Raw(Box<RawValue>),
    /// A text under a key.
    Wrapped(std::collections::BTreeMap<&'static str, Cow<'a, str>>),
    /// A JSON value that is no object, under a key.
    WrappedJson(std::collections::BTreeMap<&'static str, Box<RawValue>>),
}

impl PartialEq for Object<'_> {
    fn eq(&self, other: &Self) -> bool {
        serde_json::to_string(self).ok() == serde_json::to_string(other).ok()
    }
}

impl<'a> Object<'a> {
    /// The object that `text` is; anything else becomes the value of `key`, arrays as JSON and everything else as the text.
    pub fn of(text: Cow<'a, str>, key: &'static str) -> Self {
        match serde_json::from_str::<&RawValue>(text.trim()) {
            Ok(raw) if raw.get().starts_with('{') => Self::Raw(raw.to_owned()),
            Ok(raw) if raw.get().starts_with('[') => Self::WrappedJson([(key, raw.to_owned())].into()),
            _ => Self::Wrapped([(key, text)].into()),
        }
    }

    /// `{}`.
    pub fn empty() -> Self {
        Self::Wrapped(std::collections::BTreeMap::new())
    }
}

/// Tools of one kind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Tools<'a> {
    /// The client's functions.
    FunctionDeclarations(Vec<FunctionDeclaration<'a>>),
    /// Google's own search.
    GoogleSearch {},
}

/// A function.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionDeclaration<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    /// The schema of its arguments, plain JSON schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters_json_schema: Option<Cow<'a, Value>>,
}

/// What must be called.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolConfig<'a> {
    /// The only kind of tools it is about.
    pub function_calling_config: FunctionCallingConfig<'a>,
}

/// Which functions must be called.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionCallingConfig<'a> {
    /// `AUTO`, `ANY` or `NONE`.
    pub mode: &'static str,
    /// With `ANY`: only these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_function_names: Vec<&'a str>,
}
