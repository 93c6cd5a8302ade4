//! Who translates to whom: one [`Translator`] for each answer, chosen by the two formats.
//!
//! ```text
//!   client \ provider   openai_chat       anthropic_messages, gemini, cohere, ollama
//!   openai_chat         bytes pass        decode → encode
//! ```

use super::chat::{ModelTraits, Rendered, Request};
use super::event::{End, Event, Observed, Sink};
use super::openai_chat::calls::call_ids;
use super::openai_chat::passthrough::{Passthrough, Quirks};
use super::openai_chat::{response::UnaryEncoder, stream::StreamEncoder};
use super::{anthropic_messages, cohere, gemini, ollama, openai_chat};
use crate::domain::{Fault, FaultKind};
use std::sync::Arc;

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
}

impl Dialect {
    /// All of them, for listings and tests.
    pub const ALL: [Self; 5] = [Self::OpenAiChat, Self::AnthropicMessages, Self::Gemini, Self::Cohere, Self::Ollama];

    /// Its name in `[[provider]] dialect` and in the catalog.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai_chat",
            Self::AnthropicMessages => "anthropic_messages",
            Self::Gemini => "gemini",
            Self::Cohere => "cohere",
            Self::Ollama => "ollama",
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
            Self::OpenAiChat => Err(Fault::new(FaultKind::Internal, "an OpenAI request passes through as it is")),
            Self::AnthropicMessages => anthropic_messages::request::render(request, target),
            Self::Gemini => gemini::request::render(request, target),
            Self::Cohere => cohere::request::render(request, target),
            Self::Ollama => ollama::request::render(request, target),
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
        }
    }

    /// Whether a picture can be given by address at all. Where it cannot, the gateway fetches it.
    pub fn takes_media_urls(self) -> bool {
        self != Self::Ollama
    }

    /// Reads the body of an answer with an error status.
    pub fn error(self, body: &[u8]) -> super::error::ErrorBody {
        match self {
            Self::OpenAiChat => openai_chat::error::parse(body),
            Self::AnthropicMessages => anthropic_messages::error::parse(body),
            Self::Gemini => gemini::error::parse(body),
            Self::Cohere => cohere::error::parse(body),
            Self::Ollama => ollama::error::parse(body),
        }
    }
}

/// What a translator needs to know of the request and the target.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The provider's format.
    pub provider: Dialect,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// How many choices the client asked for.
    pub choices: u32,
    /// Whether the client asked for a usage chunk.
    pub include_usage: bool,
    /// The client does not want to see reasoning (`reasoning.exclude`).
    pub exclude_reasoning: bool,
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
}

/// Turns one answer of a provider into the client's format and watches it on the way.
pub struct Translator {
    machine: Machine,
    observed: Observed,
}

enum Machine {
    Passthrough(Passthrough),
    Streamed(Decoder, StreamEncoder),
    Unary(UnaryDecoder, UnaryEncoder),
}

enum Decoder {
    Anthropic(anthropic_messages::stream::Decoder),
    Gemini(gemini::stream::Decoder),
    Cohere(cohere::stream::Decoder),
    Ollama(ollama::stream::Decoder),
}

struct UnaryDecoder {
    provider: Dialect,
    answer_tool: Option<String>,
    /// What ids of calls begin with that have to be made.
    call_ids: String,
    body: Vec<u8>,
}

impl Translator {
    /// The machine for an answer.
    pub fn new(setup: Setup) -> Self {
        let machine = match (setup.provider, setup.stream) {
            (Dialect::OpenAiChat, _) => Machine::Passthrough(Passthrough::new(&setup)),
            (provider, false) => Machine::Unary(
                UnaryDecoder {
                    provider,
                    answer_tool: setup.answer_tool.clone(),
                    call_ids: call_ids(&setup.id),
                    body: Vec::new(),
                },
                UnaryEncoder::new(&setup),
            ),
            (Dialect::AnthropicMessages, true) => Machine::Streamed(
                Decoder::Anthropic(anthropic_messages::stream::Decoder::new(setup.answer_tool.clone())),
                StreamEncoder::new(&setup),
            ),
            (Dialect::Gemini, true) => Machine::Streamed(
                Decoder::Gemini(gemini::stream::Decoder::new(setup.answer_tool.clone())),
                StreamEncoder::new(&setup),
            ),
            (Dialect::Cohere, true) => Machine::Streamed(
                Decoder::Cohere(cohere::stream::Decoder::new(setup.answer_tool.clone(), &call_ids(&setup.id))),
                StreamEncoder::new(&setup),
            ),
            (Dialect::Ollama, true) => Machine::Streamed(
                Decoder::Ollama(ollama::stream::Decoder::new(&call_ids(&setup.id))),
                StreamEncoder::new(&setup),
            ),
        };
        Self { machine, observed: Observed::default() }
    }

    /// What has been seen so far.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// How much of an answer that is not streamed is held until it is complete, in bytes.
    pub fn held_bytes(&self) -> usize {
        match &self.machine {
            Machine::Passthrough(machine) => machine.held_bytes(),
            Machine::Unary(decoder, _) => decoder.body.len(),
            Machine::Streamed(..) => 0,
        }
    }

    /// Lets an answer that was held pass as it comes, where the formats allow it; what was held is appended.
    pub fn let_flow(&mut self, out: &mut Vec<u8>) -> bool {
        match &mut self.machine {
            Machine::Passthrough(machine) => machine.let_flow(&mut self.observed, out),
            Machine::Unary(..) | Machine::Streamed(..) => false,
        }
    }

    /// Takes the provider's next bytes and appends what the client gets.
    ///
    /// # Errors
    /// The fault that ends the attempt: `Malformed`, or what the provider said in-band.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let Self { machine, observed } = self;
        match machine {
            Machine::Passthrough(machine) => machine.push(bytes, observed, out)?,
            Machine::Unary(decoder, _) => decoder.body.extend_from_slice(bytes),
            Machine::Streamed(decoder, encoder) => {
                let mut sink = |event: Event<'_>| {
                    observed.note(&event);
                    encoder.write(&event, out);
                };
                match decoder {
                    Decoder::Anthropic(decoder) => decoder.push(bytes, &mut sink)?,
                    Decoder::Gemini(decoder) => decoder.push(bytes, &mut sink)?,
                    Decoder::Cohere(decoder) => decoder.push(bytes, &mut sink)?,
                    Decoder::Ollama(decoder) => decoder.push(bytes, &mut sink)?,
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
        let Self { machine, observed } = self;
        match machine {
            Machine::Passthrough(machine) => machine.finish(end, observed, out)?,
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
                match decoder {
                    Decoder::Anthropic(decoder) => decoder.finish(end, &mut sink)?,
                    Decoder::Gemini(decoder) => decoder.finish(end, &mut sink)?,
                    Decoder::Cohere(decoder) => decoder.finish(end, &mut sink)?,
                    Decoder::Ollama(decoder) => decoder.finish(end, &mut sink)?,
                }
            }
        }
        self.in_band_error()?;
        self.completeness(end)?;
        match &mut self.machine {
            Machine::Passthrough(machine) => machine.close(out),
            Machine::Streamed(_, encoder) => encoder.close(out),
            Machine::Unary(_, encoder) => encoder.close(out),
        }
        Ok(())
    }

    /// Appends the in-band error that ends a stream which had already begun at the client.
    pub fn break_off(&mut self, fault: &Fault, out: &mut Vec<u8>) {
        match &mut self.machine {
            Machine::Passthrough(machine) => machine.break_off(fault, out),
            Machine::Streamed(_, encoder) => encoder.break_off(fault, out),
            Machine::Unary(..) => {}
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

impl UnaryDecoder {
    fn decode(&self, sink: &mut impl Sink) -> Result<(), Fault> {
        let answer_tool = self.answer_tool.as_deref();
        match self.provider {
            Dialect::AnthropicMessages => anthropic_messages::response::decode(&self.body, answer_tool, sink),
            Dialect::Gemini => gemini::response::decode(&self.body, answer_tool, sink),
            Dialect::Cohere => cohere::response::decode(&self.body, answer_tool, &self.call_ids, sink),
            Dialect::Ollama => ollama::response::decode(&self.body, &self.call_ids, sink),
            Dialect::OpenAiChat => Err(Fault::new(FaultKind::Internal, "an OpenAI answer passes through as it is")),
        }
    }
}
