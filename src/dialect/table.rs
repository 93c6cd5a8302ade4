//! Who translates to whom: one [`Translator`] for each answer, chosen by the two formats.
//!
//! ```text
//!   client \ provider    openai_chat       anthropic_messages   gemini, cohere, ollama, bedrock_converse
//!   openai_chat          bytes pass        decode → encode      decode → encode
//!   anthropic_messages   decode → encode   bytes pass           decode → encode
//!   openai_responses     decode → encode   decode → encode      decode → encode      (bytes pass where there is `/responses`)
//!   gemini               decode → encode   decode → encode      decode → encode      (bytes pass to gemini)
//!   openai_completions   decode → encode   decode → encode      decode → encode      (bytes pass where there is `/completions`)
//! ```

use super::chat::{ModelTraits, Rendered, Request};
use super::client::{Client, StreamWriter, WholeWriter};
use super::embeddings::answer::{Expected, Vectors};
use super::event::{End, Event, Observed, Sink};
use super::openai_chat::calls::call_ids;
use super::openai_chat::passthrough::Quirks;
use super::openai_responses::asked::Asked;
use super::relay::{answer::Relayed, rerank};
use super::{anthropic_messages, bedrock_converse, cohere, gemini, ollama, openai_chat, openai_responses};
use crate::domain::{Fault, FaultKind};
use std::sync::Arc;

/// The most of a stream that is held for what is still to be written, in bytes: an answer that its end repeats, calls that come by turns.
const MAX_HELD: usize = 64 * 1024 * 1024;

/// What some put in front of a text in UTF-8, where it says nothing.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A provider's wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's chat completions, and whatever calls itself compatible.
    OpenAiChat,
    /// Anthropic's messages.
    AnthropicMessages,
    /// Google's `generateContent`.
    Gemini,
    /// Cohere's chat, second version.
    Cohere,
    /// Ollama's own chat.
    Ollama,
    /// Amazon Bedrock's Converse.
    BedrockConverse,
}

impl Dialect {
    /// All of them, for listings and tests.
    pub const ALL: [Self; 6] =
        [Self::OpenAiChat, Self::AnthropicMessages, Self::Gemini, Self::Cohere, Self::Ollama, Self::BedrockConverse];

    /// Its name in `[[provider]] dialect` and in the catalog.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai_chat",
            Self::AnthropicMessages => "anthropic_messages",
            Self::Gemini => "gemini",
            Self::Cohere => "cohere",
            Self::Ollama => "ollama",
            Self::BedrockConverse => "bedrock_converse",
        }
    }

    /// The dialect of a name, `None` when there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == name)
    }

    /// Renders a request for this format.
    ///
    /// # Errors
    /// `BadRequest` when the request cannot be said in this format at all.
    pub fn render(self, request: &Request, target: &ModelTraits) -> Result<Rendered, Fault> {
        match self {
            Self::OpenAiChat => openai_chat::provider::request::render(request, target),
            Self::AnthropicMessages => anthropic_messages::request::render(request, target),
            Self::Gemini => gemini::request::render(request, target),
            Self::Cohere => cohere::request::render(request, target),
            Self::Ollama => ollama::request::render(request, target),
            Self::BedrockConverse => bedrock_converse::request::render(request, target),
        }
    }

    /// The path of a request below the provider's base URL, query included.
    pub fn path(self, model: &str, stream: bool) -> String {
        match self {
            Self::OpenAiChat => "/chat/completions".to_owned(),
            Self::AnthropicMessages => "/v1/messages".to_owned(),
            Self::Gemini => gemini::request::path(model, stream),
            Self::Cohere => cohere::request::PATH.to_owned(),
            Self::Ollama => ollama::request::PATH.to_owned(),
            Self::BedrockConverse => bedrock_converse::request::path(model, stream),
        }
    }

    /// The media type of an answer, which a request asks for.
    pub fn accepts(self, stream: bool) -> &'static str {
        match (self, stream) {
            (_, false) => "application/json",
            (Self::BedrockConverse, true) => "application/vnd.amazon.eventstream",
            (Self::Ollama, true) => "application/x-ndjson",
            (_, true) => "text/event-stream",
        }
    }

    /// Whether providers of this format fetch pictures and documents given by address (where the model does).
    pub fn takes_media_urls(self) -> bool {
        !matches!(self, Self::BedrockConverse | Self::Ollama)
    }

    /// Whether its providers count the tokens of a request.
    pub fn counts_tokens(self) -> bool {
        matches!(self, Self::AnthropicMessages | Self::Gemini)
    }

    /// The path below the base URL by which they do.
    pub fn counting_path(self, model: &str) -> String {
        match self {
            Self::Gemini => gemini::count::path(model),
            _ => "/v1/messages/count_tokens".to_owned(),
        }
    }

    /// The body of a request for its tokens, made of the one for an answer.
    pub fn counting_body(self, model: &str, body: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Gemini => gemini::count::wrap(model, &body),
            _ => body,
        }
    }

    /// Reads the body of an answer with an error status.
    pub fn error(self, body: &[u8]) -> super::error::ErrorBody {
        match self {
            Self::OpenAiChat => openai_chat::error::parse(body),
            Self::AnthropicMessages => anthropic_messages::error::parse(body),
            Self::Gemini => gemini::error::parse(body),
            Self::Cohere => cohere::error::parse(body),
            Self::Ollama => ollama::error::parse(body),
            Self::BedrockConverse => bedrock_converse::error::parse(body),
        }
    }
}

/// What a translator needs to know of the request and the target.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The client's format.
    pub client: Client,
    /// The provider's format.
    pub provider: Dialect,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Gemini's clients: the stream is one array instead of events.
    pub array: bool,
    /// How many choices the client asked for.
    pub choices: u32,
    /// Whether the client asked for a usage chunk.
    pub include_usage: bool,
    /// The client does not want to see reasoning (`reasoning.exclude`).
    pub exclude_reasoning: bool,
    /// The estimate of its input, for clients that are told of it before a provider has counted.
    pub input_tokens: u64,
    /// The one id of the answer, used when the provider has none.
    pub id: Arc<str>,
    /// Unix seconds, the one `created` of the answer.
    pub created: u64,
    /// The model's name, used when the provider gives none.
    pub model: Arc<str>,
    /// [`Rendered::answer_tool`].
    pub answer_tool: Option<String>,
    /// The provider's deviations from OpenAI's format.
    pub quirks: Quirks,
    /// What an answer in the form of Responses has to know of its request.
    pub asked: Option<Arc<Asked>>,
}

/// Turns one answer of a provider into the client's format and watches it on the way.
pub struct Translator {
    machine: Machine,
    observed: Observed,
    /// How much of a byte order mark at the start has come; all of it where there is none.
    mark: usize,
}

enum Machine {
    OpenAiChat(openai_chat::passthrough::Passthrough),
    Messages(anthropic_messages::client::passthrough::Passthrough),
    Responses(openai_responses::passthrough::Passthrough),
    Gemini(gemini::client::passthrough::Passthrough),
    Counted(Counted),
    Vectors(Vectors),
    Relayed(Relayed),
    Streamed(Decoder, StreamWriter),
    Unary(UnaryDecoder, WholeWriter),
}

enum Decoder {
    OpenAiChat(openai_chat::provider::stream::Decoder),
    Anthropic(anthropic_messages::stream::Decoder),
    Gemini(gemini::stream::Decoder),
    Cohere(cohere::stream::Decoder),
    Ollama(ollama::stream::Decoder),
    Bedrock(bedrock_converse::stream::Decoder),
}

struct UnaryDecoder {
    provider: Dialect,
    answer_tool: Option<String>,
    /// What the ids of calls begin with that the provider gave none.
    call_ids: String,
    body: Vec<u8>,
}

impl Translator {
    /// The machine for an answer.
    pub fn new(setup: Setup) -> Self {
        let machine = match (setup.client, setup.provider) {
            (Client::OpenAiChat, Dialect::OpenAiChat) => {
                Machine::OpenAiChat(openai_chat::passthrough::Passthrough::new(&setup))
            }
            (Client::AnthropicMessages, Dialect::AnthropicMessages) => {
                Machine::Messages(anthropic_messages::client::passthrough::Passthrough::new(&setup))
            }
            (Client::OpenAiResponses, Dialect::OpenAiChat) if setup.quirks.has(Quirks::RESPONSES) => {
                Machine::Responses(openai_responses::passthrough::Passthrough::new(&setup))
            }
            (Client::Gemini, Dialect::Gemini) => Machine::Gemini(gemini::client::passthrough::Passthrough::new(&setup)),
            (Client::OpenAiCompletions, Dialect::OpenAiChat)
                if setup.quirks.has(Quirks::COMPLETIONS) && !setup.quirks.has(Quirks::COMPLETIONS_AS_CHAT) =>
            {
                Machine::OpenAiChat(openai_chat::passthrough::Passthrough::new(&setup))
            }
            _ if setup.stream => Machine::Streamed(Decoder::new(&setup), StreamWriter::new(&setup)),
            _ => Machine::Unary(UnaryDecoder::new(&setup), WholeWriter::new(&setup)),
        };
        Self::of(machine)
    }

    fn of(machine: Machine) -> Self {
        Self { machine, observed: Observed::default(), mark: 0 }
    }

    /// The machine for a number of tokens.
    pub fn counting(client: Client) -> Self {
        Self::of(Machine::Counted(Counted { client, body: Vec::new() }))
    }

    /// The machine for vectors.
    pub fn embedding(expected: Expected) -> Self {
        Self::of(Machine::Vectors(Vectors::new(expected)))
    }

    /// The machine for an answer that passes as it is, whatever it is; but for a ranking that has to be brought into this form.
    pub fn relaying(ranking: Option<rerank::Form>) -> Self {
        // Its bytes are nobody's but the client's, a mark too.
        Self { mark: BYTE_ORDER_MARK.len(), ..Self::of(Machine::Relayed(Relayed::new(ranking))) }
    }

    /// Takes note of what the head calls the body; true when a body that passes as it is is to flow as it comes.
    pub fn headed(&mut self, content_type: Option<&[u8]>) -> bool {
        match &mut self.machine {
            Machine::Relayed(machine) => machine.headed(content_type),
            _ => false,
        }
    }

    /// Takes note of the tokens of the input that a head told.
    pub fn count_input(&mut self, tokens: u64) {
        if let Machine::Vectors(machine) = &mut self.machine {
            machine.count(tokens);
        }
    }

    /// What has been seen so far.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// How much of an answer is held until more of it has come, in bytes.
    pub fn held_bytes(&self) -> usize {
        match &self.machine {
            Machine::OpenAiChat(machine) => machine.held_bytes(),
            Machine::Messages(machine) => machine.held_bytes(),
            Machine::Responses(machine) => machine.held_bytes(),
            Machine::Gemini(machine) => machine.held_bytes(),
            Machine::Counted(machine) => machine.body.len(),
            Machine::Vectors(machine) => machine.held_bytes(),
            Machine::Relayed(machine) => machine.held_bytes(),
            Machine::Unary(decoder, _) => decoder.body.len(),
            Machine::Streamed(decoder, encoder) => decoder.held_bytes() + encoder.held_bytes(),
        }
    }

    /// Lets an answer that was held pass as it comes, where the formats allow it; what was held is appended.
    pub fn let_flow(&mut self, out: &mut Vec<u8>) -> bool {
        match &mut self.machine {
            Machine::OpenAiChat(machine) => machine.let_flow(&mut self.observed, out),
            Machine::Messages(machine) => machine.let_flow(&mut self.observed, out),
            Machine::Responses(machine) => machine.let_flow(&mut self.observed, out),
            Machine::Gemini(machine) => machine.let_flow(&mut self.observed, out),
            Machine::Vectors(machine) => machine.let_flow(out),
            Machine::Relayed(machine) => machine.let_flow(out),
            Machine::Counted(_) | Machine::Unary(..) | Machine::Streamed(..) => false,
        }
    }

    /// Takes the provider's next bytes and appends what the client gets.
    ///
    /// # Errors
    /// The fault that ends the attempt: `Malformed`, or what the provider said in-band.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let Self { machine, observed, mark } = self;
        let bytes = behind_mark(mark, bytes);
        match machine {
            Machine::OpenAiChat(machine) => machine.push(bytes, observed, out)?,
            Machine::Messages(machine) => machine.push(bytes, observed, out)?,
            Machine::Responses(machine) => machine.push(bytes, observed, out)?,
            Machine::Gemini(machine) => machine.push(bytes, observed, out)?,
            Machine::Counted(machine) => machine.body.extend_from_slice(bytes),
            Machine::Vectors(machine) => machine.push(bytes, out),
            Machine::Relayed(machine) => return machine.push(bytes, observed, out),
            Machine::Unary(decoder, _) => decoder.body.extend_from_slice(bytes),
            Machine::Streamed(decoder, encoder) => {
                let mut sink = |event: Event<'_>| {
                    observed.note(&event);
                    encoder.write(&event, out);
                };
                decoder.push(bytes, &mut sink)?;
                if decoder.held_bytes() + encoder.held_bytes() > MAX_HELD {
                    return Err(Fault::malformed("the provider's answer is larger than 64 MiB"));
                }
            }
        }
        self.in_band_error()
    }

    /// Ends the answer and appends what the client still gets (for a stream: usage and `[DONE]`).
    ///
    /// # Errors
    /// `Truncated` or `Empty` when the answer is not complete, `Malformed` when it cannot be read, or what the provider said in-band.
    pub fn finish(&mut self, end: End, out: &mut Vec<u8>) -> Result<(), Fault> {
        let Self { machine, observed, .. } = self;
        match machine {
            Machine::OpenAiChat(machine) => machine.finish(end, observed, out)?,
            Machine::Messages(machine) => machine.finish(end, observed, out)?,
            Machine::Responses(machine) => machine.finish(end, observed, out)?,
            Machine::Gemini(machine) => machine.finish(end, observed, out)?,
            Machine::Counted(machine) => return machine.finish(end, out),
            Machine::Vectors(machine) => return machine.finish(end, observed, out),
            Machine::Relayed(machine) => return machine.finish(end, observed, out),
            Machine::Unary(decoder, encoder) => {
                if end == End::Cut {
                    return Err(Fault::new(FaultKind::Truncated, "the provider's answer broke off"));
                }
                decoder.decode(&mut |event: Event<'_>| {
                    observed.note(&event);
                    encoder.add(&event);
                })?;
            }
            Machine::Streamed(decoder, encoder) => {
                let mut sink = |event: Event<'_>| {
                    observed.note(&event);
                    encoder.write(&event, out);
                };
                decoder.finish(end, &mut sink)?;
            }
        }
        self.in_band_error()?;
        self.completeness(end)?;
        match &mut self.machine {
            Machine::OpenAiChat(machine) => machine.close(out),
            Machine::Messages(machine) => machine.close(out),
            Machine::Responses(machine) => machine.close(out),
            Machine::Gemini(machine) => machine.close(out),
            Machine::Counted(_) | Machine::Vectors(_) | Machine::Relayed(_) => {}
            Machine::Streamed(_, encoder) => encoder.close(out),
            Machine::Unary(_, encoder) => encoder.close(out),
        }
        Ok(())
    }

    /// Appends the in-band error that ends a stream which had already begun at the client.
    pub fn break_off(&mut self, fault: &Fault, out: &mut Vec<u8>) {
        match &mut self.machine {
            Machine::OpenAiChat(machine) => machine.break_off(fault, out),
            Machine::Messages(machine) => machine.break_off(fault, out),
            Machine::Responses(machine) => machine.break_off(fault, out),
            Machine::Gemini(machine) => machine.break_off(fault, out),
            Machine::Streamed(_, encoder) => encoder.break_off(fault, out),
            Machine::Relayed(machine) => machine.break_off(fault, out),
            Machine::Counted(_) | Machine::Vectors(_) | Machine::Unary(..) => {}
        }
    }

    /// The response object of a complete answer that was translated into one, so that it can be kept.
    pub fn response(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match &self.machine {
            Machine::Streamed(_, StreamWriter::OpenAiResponses(writer)) => writer.write_whole(&mut out),
            Machine::Unary(_, WholeWriter::OpenAiResponses(writer)) => writer.write_whole(&mut out),
            _ => return None,
        }
        Some(out)
    }

    /// The id of a response that its provider keeps, once it has been told.
    pub fn foreign_response(&self) -> Option<&str> {
        match &self.machine {
            Machine::Responses(machine) => machine.id(),
            _ => None,
        }
    }

    fn in_band_error(&mut self) -> Result<(), Fault> {
        self.observed.error.clone().map_or(Ok(()), Err)
    }

    fn completeness(&self, end: End) -> Result<(), Fault> {
        let seen = &self.observed;
        if seen.is_finished() && end == End::Clean {
            return Ok(());
        }
        Err(if end == End::Clean && !seen.output {
            Fault::new(FaultKind::Empty, "the provider's answer is empty")
        } else {
            Fault::new(FaultKind::Truncated, "the provider's answer broke off before it was complete")
        })
    }
}

/// What is behind a byte order mark at the start of an answer, of which `seen` bytes have come.
fn behind_mark<'a>(seen: &mut usize, bytes: &'a [u8]) -> &'a [u8] {
    let mut rest = bytes;
    while let (Some(expected), Some(byte)) = (BYTE_ORDER_MARK.get(*seen), rest.first()) {
        if byte != expected {
            *seen = BYTE_ORDER_MARK.len();
            break;
        }
        *seen += 1;
        rest = &rest[1..];
    }
    rest
}

impl Decoder {
    fn new(setup: &Setup) -> Self {
        let answer_tool = setup.answer_tool.clone();
        match setup.provider {
            Dialect::OpenAiChat => {
                Self::OpenAiChat(openai_chat::provider::stream::Decoder::new(&setup.id, setup.choices))
            }
            Dialect::AnthropicMessages => Self::Anthropic(anthropic_messages::stream::Decoder::new(answer_tool)),
            Dialect::Gemini => Self::Gemini(gemini::stream::Decoder::new(answer_tool)),
            Dialect::Cohere => Self::Cohere(cohere::stream::Decoder::new(answer_tool, &call_ids(&setup.id))),
            Dialect::Ollama => Self::Ollama(ollama::stream::Decoder::new(&call_ids(&setup.id))),
            Dialect::BedrockConverse => Self::Bedrock(bedrock_converse::stream::Decoder::new(answer_tool)),
        }
    }

    /// How much is held of an answer that came whole in the place of a stream. Frames have bounds of their own.
    fn held_bytes(&self) -> usize {
        match self {
            Self::OpenAiChat(decoder) => decoder.held_bytes(),
            _ => 0,
        }
    }

    fn push(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        match self {
            Self::OpenAiChat(decoder) => decoder.push(bytes, sink),
            Self::Anthropic(decoder) => decoder.push(bytes, sink),
            Self::Gemini(decoder) => decoder.push(bytes, sink),
            Self::Cohere(decoder) => decoder.push(bytes, sink),
            Self::Ollama(decoder) => decoder.push(bytes, sink),
            Self::Bedrock(decoder) => decoder.push(bytes, sink),
        }
    }

    fn finish(&mut self, end: End, sink: &mut impl Sink) -> Result<(), Fault> {
        match self {
            Self::OpenAiChat(decoder) => decoder.finish(end, sink),
            Self::Anthropic(decoder) => decoder.finish(end, sink),
            Self::Gemini(decoder) => decoder.finish(end, sink),
            Self::Cohere(decoder) => decoder.finish(end, sink),
            Self::Ollama(decoder) => decoder.finish(end, sink),
            Self::Bedrock(decoder) => decoder.finish(end, sink),
        }
    }
}

/// A provider's number of tokens.
struct Counted {
    client: Client,
    body: Vec<u8>,
}

impl Counted {
    /// Checks that it is one, and writes it in the client's form, as it came where it has that.
    fn finish(&self, end: End, out: &mut Vec<u8>) -> Result<(), Fault> {
        if end == End::Cut {
            return Err(Fault::new(FaultKind::Truncated, "the provider's answer broke off"));
        }
        let answer: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let wanted = self.client.counting_member();
        if answer[wanted].is_u64() {
            out.extend_from_slice(&self.body);
            return Ok(());
        }
        let total = answer["totalTokens"].as_u64().or(answer["input_tokens"].as_u64());
        let total = total.ok_or_else(|| Fault::malformed("the provider's answer is no number of tokens"))?;
        out.extend_from_slice(format!("{{\"{wanted}\":{total}}}").as_bytes());
        Ok(())
    }
}

impl UnaryDecoder {
    fn new(setup: &Setup) -> Self {
        let (provider, answer_tool) = (setup.provider, setup.answer_tool.clone());
        Self { provider, answer_tool, call_ids: call_ids(&setup.id), body: Vec::new() }
    }

    fn decode(&self, sink: &mut impl Sink) -> Result<(), Fault> {
        let answer_tool = self.answer_tool.as_deref();
        match self.provider {
            Dialect::AnthropicMessages => anthropic_messages::response::decode(&self.body, answer_tool, sink),
            Dialect::Gemini => gemini::response::decode(&self.body, answer_tool, sink),
            Dialect::Cohere => cohere::response::decode(&self.body, answer_tool, &self.call_ids, sink),
            Dialect::Ollama => ollama::response::decode(&self.body, &self.call_ids, sink),
            Dialect::BedrockConverse => bedrock_converse::response::decode(&self.body, answer_tool, sink),
            Dialect::OpenAiChat => openai_chat::provider::response::decode(&self.body, &self.call_ids, sink),
        }
    }
}
