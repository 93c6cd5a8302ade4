//! The JSON of a request to Converse, borrowed from the hub's request so that pictures and documents are copied once,
//! into the body.
//!
//! The order of the fields puts what grows last: two requests of one conversation have the same bytes up to where they
//! differ.

use crate::dialect::anthropic_messages::body::Input;
use serde::Serialize;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// The whole body. The model and whether the answer is streamed stand in the path.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body<'a> {
    #[serde(skip_serializing_if = "Inference::is_empty")]
    pub inference_config: Inference<'a>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub additional_model_request_fields: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_config: Option<OutputConfig>,
    #[serde(flatten)]
    pub extras: Extras<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub system: Vec<Block<'a>>,
    pub messages: Vec<Turn<'a>>,
}

/// What every model takes.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Inference<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop_sequences: Vec<&'a str>,
}

impl Inference<'_> {
    fn is_empty(&self) -> bool {
        *self == Inference::default()
    }
}

/// Top-level fields that have no part in the answer's meaning, or pass as they are.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Extras<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail_config: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub performance_config: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_metadata: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<ServiceTier<'a>>,
}

/// How soon the answer is wanted.
#[derive(Debug, Serialize)]
pub(super) struct ServiceTier<'a> {
    #[serde(rename = "type")]
    pub kind: &'a str,
}

/// The form of the answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OutputConfig {
    pub text_format: TextFormat,
}

/// JSON by a schema, the only format there is.
#[derive(Debug, Serialize)]
pub(super) struct TextFormat {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub structure: Structure,
}

/// What the form is made of.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Structure {
    JsonSchema {
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        /// The schema as JSON text.
        schema: String,
    },
}

/// The tools, and which of them must be called.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<Choice<'a>>,
    pub tools: Vec<Tool<'a>>,
}

/// A tool, or a mark behind one that all before it is to be cached.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Tool<'a> {
    #[serde(rename_all = "camelCase")]
    ToolSpec {
        name: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<Cow<'a, str>>,
        input_schema: Schema<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
    CachePoint(CachePoint),
}

/// A JSON schema.
#[derive(Debug, Serialize)]
pub(super) struct Schema<'a> {
    pub json: Cow<'a, Value>,
}

/// Which tools must be called. There is no word for "none".
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Choice<'a> {
    Auto {},
    Any {},
    Tool { name: Cow<'a, str> },
}

/// All before it is to be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct CachePoint {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

impl CachePoint {
    /// What Anthropic's `cache_control` marker asks for.
    pub fn of(marker: &Value) -> Self {
        let ttl = marker.get("ttl").and_then(Value::as_str).filter(|ttl| *ttl == "1h").map(|_| "1h");
        Self { kind: "default", ttl }
    }
}

/// A message.
#[derive(Debug, Serialize)]
pub(super) struct Turn<'a> {
    pub role: Speaker,
    pub content: Vec<Block<'a>>,
}

/// Who speaks: there are two, as instructions stand outside and tool results are the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Speaker {
    User,
    Assistant,
}

/// A piece of a message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Block<'a> {
    Text(&'a str),
    Image {
        format: &'static str,
        source: Source<'a>,
    },
    Document {
        format: &'static str,
        name: String,
        source: Source<'a>,
    },
    Video {
        format: &'static str,
        source: Source<'a>,
    },
    Audio {
        format: &'static str,
        source: Source<'a>,
    },
    ReasoningContent(Thought<'a>),
    #[serde(rename_all = "camelCase")]
    ToolUse {
        tool_use_id: Cow<'a, str>,
        name: &'a str,
        input: Input<'a>,
    },
    #[serde(rename_all = "camelCase")]
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: Vec<Block<'a>>,
    },
    CachePoint(CachePoint),
}

/// The model's own thoughts, sent back.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Thought<'a> {
    ReasoningText { text: Cow<'a, str>, signature: &'a str },
    RedactedContent(&'a str),
}

/// Where a picture, a document, a film or a sound is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Source<'a> {
    /// Base64.
    Bytes(&'a str),
    /// In a bucket of Amazon S3.
    S3Location { uri: &'a str },
}
