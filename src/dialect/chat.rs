//! The hub of requests: a chat request with everything that any format can say, in one meaning.
//!
//! A client's format is parsed into a [`Request`]; a provider's format renders it, with the target's
//! [`ModelTraits`] at hand, into a [`Rendered`] body. A renderer never loses anything silently: what its format cannot
//! say is named in [`Rendered::dropped`], by the client's parameter name.

use super::openai_chat::quirks::Quirks;
use crate::domain::Fault;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// A chat request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The conversation, system messages included, in the client's order.
    pub messages: Vec<Message>,
    /// The functions that the model may call.
    pub tools: Vec<Tool>,
    /// Which of them it must call.
    pub tool_choice: Option<ToolChoice>,
    /// Whether it may call several at once.
    pub parallel_tool_calls: Option<bool>,
    /// The form of the answer.
    pub response_format: Option<ResponseFormat>,
    /// Sampling temperature, 0 to 2 in OpenAI's range.
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// Sampling among the k likeliest tokens.
    pub top_k: Option<u64>,
    /// OpenAI's frequency penalty, -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// OpenAI's presence penalty, -2 to 2.
    pub presence_penalty: Option<f64>,
    /// Seed for repeatable sampling.
    pub seed: Option<i64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Bound of the output, from `max_completion_tokens` or `max_tokens`.
    pub max_tokens: Option<u64>,
    /// How many choices; `None` means one.
    pub n: Option<u64>,
    /// Whether token log probabilities are wanted.
    pub logprobs: Option<bool>,
    /// How many alternatives per token.
    pub top_logprobs: Option<u64>,
    /// How much to think, from `reasoning_effort` or OpenRouter's `reasoning`.
    pub reasoning: Option<Reasoning>,
    /// The end user, from `user` or `safety_identifier`.
    pub user: Option<String>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether the client asked for a usage chunk in the stream.
    pub include_usage: bool,
    /// OpenAI's `modalities`, e.g. `["text", "image"]`.
    pub modalities: Vec<String>,
    /// Top-level fields that the hub has no word for (`logit_bias`, `metadata`, `service_tier`, …), as they were. A renderer
    /// takes those that its format knows and reports the others as dropped.
    pub rest: Map<String, Value>,
}

/// One message of the conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// OpenAI's `name` of the participant.
    pub name: Option<String>,
    /// What is said, in order. A tool's result is the parts of a [`Role::Tool`] message.
    pub parts: Vec<Part>,
    /// The calls an assistant made.
    pub tool_calls: Vec<ToolCall>,
    /// For [`Role::Tool`]: the call that this answers.
    pub tool_call_id: Option<String>,
    /// Reasoning that an assistant's earlier answer carried, to be sent back unchanged.
    pub reasoning: Vec<ReasoningDetail>,
    /// `cache_control` on the message itself (Anthropic's marker, passed on to the last part).
    pub cache_control: Option<Value>,
}

impl Message {
    /// One that says this and nothing else.
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Self {
            role,
            name: None,
            parts,
            tool_calls: Vec::new(),
            tool_call_id: None,
            reasoning: Vec::new(),
            cache_control: None,
        }
    }

    /// The id of the call that a tool's message answers; `at` is its place in the conversation.
    ///
    /// # Errors
    /// `BadRequest` when it names none.
    pub fn answered_call(&self, at: usize) -> Result<&str, Fault> {
        self.tool_call_id.as_deref().filter(|id| !id.is_empty()).ok_or_else(|| {
            Fault::bad_request(format!("messages[{at}].tool_call_id"), "a tool's message names the call it answers")
        })
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions (`system`).
    System,
    /// Instructions (`developer`, OpenAI's newer word).
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call (`tool`, or the old `function`).
    Tool,
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// Anthropic's `cache_control` marker on this part.
    pub cache_control: Option<Value>,
}

/// What a piece of a message is.
#[derive(Clone, Debug, PartialEq)]
pub enum PartKind {
    /// Text.
    Text(String),
    /// An assistant's refusal.
    Refusal(String),
    /// A picture.
    Image {
        /// Where it is.
        source: Media,
        /// OpenAI's `detail` (`low`, `high`, `auto`).
        detail: Option<String>,
    },
    /// A document, PDF first of all.
    File {
        /// Where it is.
        source: Media,
        /// Its name.
        filename: Option<String>,
    },
    /// Sound.
    Audio {
        /// Where it is.
        source: Media,
    },
    /// Moving pictures.
    Video {
        /// Where it is.
        source: Media,
    },
}

/// Where the bytes of a picture, a document, a sound or a film are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// In the request, base64 without the `data:` prefix.
    Inline {
        /// MIME type, `image/png`.
        media_type: String,
        /// Standard base64.
        data: String,
    },
    /// At an address that the provider or the gateway can fetch.
    Url(String),
    /// In the provider's own file store.
    FileId(String),
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON schema of its arguments; `None` means none.
    pub parameters: Option<Value>,
    /// Whether the arguments must match the schema.
    pub strict: Option<bool>,
    /// Anthropic's `cache_control` marker.
    pub cache_control: Option<Value>,
}

/// Which tool must be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// None.
    None,
    /// At least one of them.
    Required,
    /// This one.
    Function(String),
    /// OpenAI's `allowed_tools`: only these, and whether one of them must be called.
    Allowed {
        /// Their names.
        names: Vec<String>,
        /// `mode: "required"`.
        required: bool,
    },
}

/// A call that the model made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Its id.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// The arguments as the model wrote them: JSON in a string.
    pub arguments: String,
}

/// The form of the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum ResponseFormat {
    /// Any text.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON by a schema.
    JsonSchema {
        /// The schema's name.
        name: String,
        /// What it describes.
        description: Option<String>,
        /// The schema; `None` means any.
        schema: Option<Value>,
        /// Whether the answer must match.
        strict: Option<bool>,
    },
}

impl ResponseFormat {
    /// The schema that the answer is to have, for formats that have no word for what it describes: then the schema says it.
    pub fn described_schema(&self) -> Option<Cow<'_, Value>> {
        let Self::JsonSchema { schema: Some(schema), description, .. } = self else { return None };
        let says = description.as_deref().filter(|text| !text.is_empty());
        match (says, schema) {
            (Some(text), Value::Object(members)) if !members.contains_key("description") => {
                let mut described = members.clone();
                described.insert("description".to_owned(), text.into());
                Some(Cow::Owned(described.into()))
            }
            _ => Some(Cow::Borrowed(schema)),
        }
    }
}

/// How much to think.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// `none`, `minimal`, `low`, `medium`, `high`, `xhigh`.
    pub effort: Option<String>,
    /// A bound in tokens.
    pub max_tokens: Option<u64>,
    /// OpenRouter's `enabled`.
    pub enabled: Option<bool>,
    /// Think, but leave the thoughts out of the answer.
    pub exclude: bool,
}

/// A piece of reasoning in OpenRouter's `reasoning_details` form, both in answers and in what clients send back.
/// The signature and the encrypted data are opaque and survive byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasoningDetail {
    /// What it is.
    pub kind: ReasoningKind,
    /// The tool call that it belongs to, when a provider signs calls one by one (Gemini).
    pub id: Option<String>,
    /// Which provider's form it is (`anthropic-claude-v1`, `google-gemini-v1`): replayed there and nowhere else.
    pub format: Option<Cow<'static, str>>,
    /// Its place among the details of the message.
    pub index: u32,
}

/// What a piece of reasoning is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReasoningKind {
    /// `reasoning.text`: thoughts, with the signature that proves them where there is one.
    Text {
        /// The thoughts.
        text: String,
        /// The provider's signature.
        signature: Option<String>,
    },
    /// `reasoning.summary`: a summary of thoughts.
    Summary(String),
    /// `reasoning.encrypted`: thoughts that only the provider can read.
    Encrypted(String),
}

/// [`ReasoningDetail::format`] of Anthropic's thinking blocks, the name that OpenRouter gives it.
pub const FORMAT_ANTHROPIC: &str = "anthropic-claude-v1";
/// [`ReasoningDetail::format`] of Gemini's thought signatures, the name that OpenRouter gives it.
pub const FORMAT_GEMINI: &str = "google-gemini-v1";
/// [`ReasoningDetail::format`] of Cohere's thoughts (text) and plans (summaries).
pub const FORMAT_COHERE: &str = "cohere-command-v2";

/// Whether thoughts of a format go back to their provider without any proof, so that the format alone has to be kept with them.
pub fn is_unsigned(format: &str) -> bool {
    format == FORMAT_COHERE
}

/// What a renderer has to know about the target model; the catalog fills it in.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelTraits {
    /// The model's name at the provider.
    pub model: String,
    /// Who made the model, by the id of that provider (`anthropic`, `amazon`), where it is known.
    pub maker: Option<Arc<str>>,
    /// Largest output in tokens, where known.
    pub max_output: Option<u64>,
    /// How structured output is asked for.
    pub structured_output: StructuredOutput,
    /// How thinking is asked for.
    pub thinking: Thinking,
    /// Whether `temperature`, `top_p` and `top_k` are accepted.
    pub sampling: bool,
    /// Whether a document or picture may be given by address.
    pub media_urls: bool,
    /// Whether it thinks at all.
    pub reasons: bool,
    /// How the provider deviates from OpenAI's format, when it speaks that.
    pub quirks: Quirks,
    /// Refuse with a 400 instead of dropping a parameter (`provider.require_parameters`).
    pub require_parameters: bool,
}

impl Default for ModelTraits {
    fn default() -> Self {
        Self {
            model: String::new(),
            maker: None,
            max_output: None,
            structured_output: StructuredOutput::ForcedTool,
            thinking: Thinking::None,
            sampling: true,
            media_urls: true,
            reasons: true,
            quirks: Quirks::NONE,
            require_parameters: false,
        }
    }
}

/// How a model is made to answer in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StructuredOutput {
    /// The format has a field for it.
    Native,
    /// By one tool that it must call, whose arguments become the answer's text.
    ForcedTool,
}

/// How a model is made to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking {
    /// It cannot.
    None,
    /// By a budget in tokens (Anthropic `thinking.budget_tokens`, Gemini 2.5 `thinkingBudget`).
    Budget {
        /// The smallest budget it takes.
        min: u64,
        /// The largest.
        max: u64,
        /// Whether it can be told not to think at all.
        can_disable: bool,
    },
    /// By a word (`thinkingLevel` of Gemini 3, `effort` with adaptive thinking of newer Claude models).
    Level,
}

/// A provider's request, ready to send.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    /// The JSON body.
    pub body: Vec<u8>,
    /// Headers that this very request needs besides the provider's usual ones (a beta flag, for example).
    pub headers: Vec<(&'static str, String)>,
    /// The client's parameters that this format cannot honour.
    pub dropped: Vec<String>,
    /// The name of the tool whose arguments are the answer's text, when [`StructuredOutput::ForcedTool`] was used. The
    /// decoder needs it.
    pub answer_tool: Option<String>,
}
