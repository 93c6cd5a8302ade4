//! The client's side of every translation: which format a route speaks, and the four things that each such format has to do.
//!
//! ```text
//!   body ── scan ──> Envelope                     what the gateway acts on; the bytes stay
//!        └─ parse ─> chat::Request                only when the provider speaks another format
//!   Event … ──> StreamWriter │ WholeWriter ──>    the answer
//!   what went wrong ──> error, or break_off       whole, or in the middle of a stream
//! ```

use super::chat::Request;
use super::event::Event;
use super::openai_chat::envelope::Envelope;
use super::openai_chat::quirks::Quirks;
use super::openai_responses::asked::Asked;
use super::own_names::own_name;
use super::table::{Dialect, Setup};
use super::{anthropic_messages, gemini, openai_chat, openai_completions, openai_responses};
use crate::domain::Fault;
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;

/// A client's wire format; its route decides which one it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Client {
    /// `POST /v1/chat/completions`.
    #[default]
    OpenAiChat,
    /// `POST /v1/messages`.
    AnthropicMessages,
    /// `POST /v1/responses`.
    OpenAiResponses,
    /// `POST /v1/completions`.
    OpenAiCompletions,
    /// `POST /v1beta/models/{model}:generateContent` and its neighbours.
    Gemini,
}

/// An error answer before it has a form. What a form has no place for is left out.
#[derive(Clone, Copy, Debug)]
pub struct ErrorAnswer<'a> {
    /// HTTP status.
    pub status: u16,
    /// OpenAI's word for the kind of error, or the provider's own.
    pub error_type: &'a str,
    /// OpenAI's `code`.
    pub code: Option<&'a str>,
    /// The parameter to blame.
    pub param: Option<&'a str>,
    /// For people.
    pub message: &'a str,
    /// OpenRouter's `metadata`.
    pub metadata: Option<&'a Value>,
    /// The gateway's id of the request.
    pub request_id: &'a str,
}

impl Client {
    /// All of them, for listings and tests.
    pub const ALL: [Self; 5] =
        [Self::OpenAiChat, Self::AnthropicMessages, Self::OpenAiResponses, Self::OpenAiCompletions, Self::Gemini];

    /// Its name, for logs and tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai_chat",
            Self::AnthropicMessages => "anthropic_messages",
            Self::OpenAiResponses => "openai_responses",
            Self::OpenAiCompletions => "openai_completions",
            Self::Gemini => "gemini",
        }
    }

    /// Its route, as it stands in the log.
    pub fn route(self) -> &'static str {
        match self {
            Self::OpenAiChat => "POST /v1/chat/completions",
            Self::AnthropicMessages => "POST /v1/messages",
            Self::OpenAiResponses => "POST /v1/responses",
            Self::OpenAiCompletions => "POST /v1/completions",
            Self::Gemini => "POST /v1beta/models/{model}:generateContent",
        }
    }

    /// The route by which its clients ask for the tokens of a request, as it stands in the log.
    pub fn counting_route(self) -> &'static str {
        match self {
            Self::Gemini => "POST /v1beta/models/{model}:countTokens",
            _ => "POST /v1/messages/count_tokens",
        }
    }

    /// The member that a number of tokens is told in.
    pub fn counting_member(self) -> &'static str {
        match self {
            Self::Gemini => "totalTokens",
            _ => "input_tokens",
        }
    }

    /// The headers that belong to the format: a provider of the same format gets them as they are.
    pub fn headers(self) -> &'static [&'static str] {
        match self {
            Self::OpenAiChat | Self::OpenAiResponses | Self::OpenAiCompletions | Self::Gemini => &[],
            Self::AnthropicMessages => &["anthropic-version", "anthropic-beta"],
        }
    }

    /// Whether a provider speaks this very format, so that the bytes pass.
    pub fn is_spoken_by(self, provider: Dialect, quirks: Quirks) -> bool {
        match self {
            Self::OpenAiChat => provider == Dialect::OpenAiChat,
            Self::AnthropicMessages => provider == Dialect::AnthropicMessages,
            Self::Gemini => provider == Dialect::Gemini,
            Self::OpenAiResponses => provider == Dialect::OpenAiChat && quirks.has(Quirks::RESPONSES),
            Self::OpenAiCompletions => provider == Dialect::OpenAiChat && quirks.has(Quirks::COMPLETIONS),
        }
    }

    /// The path below the base URL of a provider that speaks it, where that is not the path of the provider's usual format.
    pub fn own_path(self) -> Option<&'static str> {
        (self == Self::OpenAiResponses).then_some("/responses")
    }

    /// The name that this format has for a member of chat completions which a preset sets.
    ///
    /// # Errors
    /// `BadRequest` when it has none.
    pub fn member_of(self, name: &str) -> Result<&str, Fault> {
        let same = ["temperature", "top_p", "stream", "tool_choice", "service_tier"];
        match (self, name) {
            (Self::OpenAiChat, _) => Ok(name),
            (Self::AnthropicMessages, "max_completion_tokens") => Ok("max_tokens"),
            (Self::AnthropicMessages, _) => Ok(name),
            (Self::OpenAiResponses, "max_tokens" | "max_completion_tokens") => Ok("max_output_tokens"),
            (Self::OpenAiResponses, "user" | "reasoning" | "parallel_tool_calls") => Ok(name),
            (Self::OpenAiCompletions, "max_completion_tokens") => Ok("max_tokens"),
            (Self::OpenAiCompletions, _) if openai_completions::envelope::has_member(name) => Ok(name),
            (Self::OpenAiResponses, _) if same.contains(&name) => Ok(name),
            _ => {
                let message = format!("the preset sets {name}, which {} has no member for", self.route());
                Err(Fault::bad_request("extra.preset", message))
            }
        }
    }

    /// The top-level member that a system prompt is; `None` where it is a message.
    pub fn system_member(self) -> Option<&'static str> {
        match self {
            // It is no text in Google's.
            Self::OpenAiChat | Self::OpenAiCompletions | Self::Gemini => None,
            Self::AnthropicMessages => Some("system"),
            Self::OpenAiResponses => Some("instructions"),
        }
    }

    /// Whether it has a place for a system prompt at all.
    pub fn takes_system(self) -> bool {
        self != Self::OpenAiCompletions
    }

    /// Looks at a body without building anything of it.
    ///
    /// # Errors
    /// `BadRequest` that says what is wrong and where.
    pub fn scan(self, body: Bytes) -> Result<Envelope, Fault> {
        match self {
            Self::OpenAiChat => Envelope::scan(body),
            Self::AnthropicMessages => anthropic_messages::client::envelope::scan(body),
            Self::OpenAiResponses => openai_responses::envelope::scan(body),
            Self::OpenAiCompletions => openai_completions::envelope::scan(body),
            Self::Gemini => gemini::client::envelope::scan(body),
        }
    }

    /// Reads a body into the hub.
    ///
    /// # Errors
    /// `BadRequest` that names the member which is wrong, or cannot be said in any other format.
    pub fn parse(self, body: &[u8]) -> Result<Request, Fault> {
        match self {
            Self::OpenAiChat => openai_chat::request::parse(body),
            Self::AnthropicMessages => anthropic_messages::client::request::parse(body),
            Self::OpenAiResponses => Ok(openai_responses::request::parse(body, None)?.request),
            Self::OpenAiCompletions => openai_completions::request::parse(body),
            Self::Gemini => gemini::client::request::parse(body),
        }
    }

    /// Reads a request into the hub, and what else its answer has to know of it.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn read(self, envelope: &Envelope) -> Result<(Request, Option<Arc<Asked>>), Fault> {
        if self != Self::OpenAiResponses {
            return Ok((self.parse(envelope.body())?, None));
        }
        let parsed = openai_responses::request::parse(envelope.body(), envelope.previous.as_deref())?;
        Ok((parsed.request, Some(Arc::new(parsed.asked))))
    }

    /// The id of an answer whose provider gives none, made of the request's.
    pub fn answer_id(self, request: &str) -> String {
        let prefix = match self {
            Self::OpenAiChat => "chatcmpl-",
            Self::AnthropicMessages => "msg_",
            Self::OpenAiResponses => "resp_",
            Self::OpenAiCompletions => "cmpl-",
            Self::Gemini => "",
        };
        [prefix, request].concat()
    }

    /// What a stream carries while nothing happens.
    pub fn keepalive(self) -> &'static [u8] {
        match self {
            Self::OpenAiChat | Self::OpenAiResponses | Self::OpenAiCompletions => b": keepalive\n\n",
            Self::AnthropicMessages => anthropic_messages::client::stream::PING,
            Self::Gemini => gemini::client::stream::KEEPALIVE,
        }
    }

    /// The body of an error.
    pub fn error(self, error: &ErrorAnswer<'_>) -> Vec<u8> {
        let error = &ErrorAnswer { param: error.param.map(|name| own_name(self, name)), ..*error };
        match self {
            Self::OpenAiChat | Self::OpenAiResponses | Self::OpenAiCompletions => openai_chat::error::render(
                error.status,
                error.error_type,
                error.code,
                error.param,
                error.message,
                error.metadata,
            ),
            Self::AnthropicMessages => anthropic_messages::client::error::render(error),
            Self::Gemini => gemini::client::error::render(error),
        }
    }
}

/// Writes an answer as a stream.
pub enum StreamWriter {
    /// Chunks.
    OpenAiChat(openai_chat::stream::StreamEncoder),
    /// `message_start` to `message_stop`.
    AnthropicMessages(anthropic_messages::client::stream::StreamEncoder),
    /// `response.created` to `response.completed`.
    OpenAiResponses(openai_responses::stream::StreamEncoder),
    /// Chunks of text.
    OpenAiCompletions(openai_completions::stream::StreamEncoder),
    /// Answers, each a piece.
    Gemini(gemini::client::stream::StreamEncoder),
}

impl StreamWriter {
    /// The writer of one answer.
    pub fn new(setup: &Setup) -> Self {
        match setup.client {
            Client::OpenAiChat => Self::OpenAiChat(openai_chat::stream::StreamEncoder::new(setup)),
            Client::AnthropicMessages => {
                Self::AnthropicMessages(anthropic_messages::client::stream::StreamEncoder::new(setup))
            }
            Client::OpenAiResponses => Self::OpenAiResponses(openai_responses::stream::StreamEncoder::new(setup)),
            Client::OpenAiCompletions => Self::OpenAiCompletions(openai_completions::stream::StreamEncoder::new(setup)),
            Client::Gemini => Self::Gemini(gemini::client::stream::StreamEncoder::new(setup)),
        }
    }

    /// Writes what an event means to the client.
    pub fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match self {
            Self::OpenAiChat(writer) => writer.write(event, out),
            Self::AnthropicMessages(writer) => writer.write(event, out),
            Self::OpenAiResponses(writer) => writer.write(event, out),
            Self::OpenAiCompletions(writer) => writer.write(event, out),
            Self::Gemini(writer) => writer.write(event, out),
        }
    }

    /// How much of the answer is held for what is still to be written, in bytes or about as many.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::OpenAiChat(_) | Self::OpenAiCompletions(_) => 0,
            Self::AnthropicMessages(writer) => writer.held_bytes(),
            Self::OpenAiResponses(writer) => writer.held_bytes(),
            Self::Gemini(writer) => writer.held_bytes(),
        }
    }

    /// Ends a complete answer.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::OpenAiChat(writer) => writer.close(out),
            Self::AnthropicMessages(writer) => writer.close(out),
            Self::OpenAiResponses(writer) => writer.close(out),
            Self::OpenAiCompletions(writer) => writer.close(out),
            Self::Gemini(writer) => writer.close(out),
        }
    }

    /// Ends an answer that cannot be completed, in a way that cannot be taken for a complete one.
    pub fn break_off(&mut self, fault: &Fault, out: &mut Vec<u8>) {
        match self {
            Self::OpenAiChat(writer) => writer.break_off(fault, out),
            Self::AnthropicMessages(writer) => writer.break_off(fault, out),
            Self::OpenAiResponses(writer) => writer.break_off(fault, out),
            Self::OpenAiCompletions(writer) => writer.break_off(fault, out),
            Self::Gemini(writer) => writer.break_off(fault, out),
        }
    }
}

/// Writes an answer whole.
pub enum WholeWriter {
    /// A `chat.completion`.
    OpenAiChat(openai_chat::response::UnaryEncoder),
    /// A `message`.
    AnthropicMessages(anthropic_messages::client::response::UnaryEncoder),
    /// A `response`.
    OpenAiResponses(openai_responses::response::UnaryEncoder),
    /// A `text_completion`.
    OpenAiCompletions(openai_completions::response::UnaryEncoder),
    /// A `GenerateContentResponse`.
    Gemini(gemini::client::response::UnaryEncoder),
}

impl WholeWriter {
    /// The writer of one answer.
    pub fn new(setup: &Setup) -> Self {
        match setup.client {
            Client::OpenAiChat => Self::OpenAiChat(openai_chat::response::UnaryEncoder::new(setup)),
            Client::AnthropicMessages => {
                Self::AnthropicMessages(anthropic_messages::client::response::UnaryEncoder::new(setup))
            }
            Client::OpenAiResponses => Self::OpenAiResponses(openai_responses::response::UnaryEncoder::new(setup)),
            Client::OpenAiCompletions => {
                Self::OpenAiCompletions(openai_completions::response::UnaryEncoder::new(setup))
            }
            Client::Gemini => Self::Gemini(gemini::client::response::UnaryEncoder::new(setup)),
        }
    }

    /// Takes one event.
    pub fn add(&mut self, event: &Event<'_>) {
        match self {
            Self::OpenAiChat(writer) => writer.add(event),
            Self::AnthropicMessages(writer) => writer.add(event),
            Self::OpenAiResponses(writer) => writer.add(event),
            Self::OpenAiCompletions(writer) => writer.add(event),
            Self::Gemini(writer) => writer.add(event),
        }
    }

    /// Writes the answer.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::OpenAiChat(writer) => writer.close(out),
            Self::AnthropicMessages(writer) => writer.close(out),
            Self::OpenAiResponses(writer) => writer.close(out),
            Self::OpenAiCompletions(writer) => writer.close(out),
            Self::Gemini(writer) => writer.close(out),
        }
    }
}
