//! The hot path's view of a client's body: one validating scan, no tree, and a provider's body made of the same bytes.
//!
//! The envelope is the same for every client's format; what is read here is OpenAI's. The other formats read theirs in a file of this name.
//! [`Envelope::scan`] notes where the top-level members stand and reads the few that the gateway acts on.
//! [`Envelope::passthrough_body`] copies the bytes with the model replaced, the gateway's own members cut out, and usage asked for.
//! Everything else, unknown members and white space included, reaches the provider as the client wrote it.

use super::chunk::member;
use super::edit::{Cutter, Edits};
use super::quirks::Quirks;
use super::scan::{Cursor, Invalid, integer};
use super::write;
use crate::dialect::client::Client;
use crate::dialect::extensions::{Extensions, Members};
use crate::dialect::relay::form::Form;
use crate::dialect::work::Work;
use crate::dialect::{anthropic_messages, gemini, openai_responses};
use crate::domain::decision::Parameter;
use crate::domain::{Fault, FaultKind};
use bytes::Bytes;
use memchr::memmem;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

/// A client's body and what the gateway has to know of it.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The client's format.
    pub client: Client,
    /// What it asks for.
    pub work: Work,
    /// The model that the client asks for, as it wrote it.
    pub model: String,
    /// Only the tokens of the input are asked for, not an answer.
    pub counts_tokens: bool,
    /// Whether it wants a stream.
    pub stream: bool,
    /// Gemini: whether the stream is one array instead of events (no `alt=sse`).
    pub array: bool,
    /// Whether it wants a usage chunk in the stream.
    pub include_usage: bool,
    /// Whether `preset` is one of OpenRouter's own, and is left to it.
    pub keeps_preset: bool,
    /// Responses: whether the answer is to be kept, so that another request can go on from it (`store`).
    pub keep: bool,
    /// Responses: whether the answer is made in the background, and goes on when nobody waits for it any more.
    pub background: bool,
    /// Responses: the answer that the request goes on from (`previous_response_id`).
    pub previous: Option<String>,
    /// Bound of the output in tokens.
    pub max_tokens: Option<u64>,
    /// How many choices; `None` means one.
    pub n: Option<u64>,
    /// The end user on whose behalf the client asks, as it names them.
    pub user: Option<String>,
    /// Whether reasoning is to be left out of the answer (`reasoning.exclude`, `include_reasoning: false`).
    pub exclude_reasoning: bool,
    /// What the client tells the gateway.
    pub extensions: Arc<Extensions>,
    /// What the model must be able to do.
    pub needs: Needs,
    /// Estimated input tokens: a quarter of the bytes of `messages` and `tools`, base64 data left out. For routing and reservations, not
    /// for the bill.
    pub estimated_input_tokens: u64,
    /// The form that the request is, where it is none of JSON; the body is an empty object then.
    pub(in crate::dialect) form: Option<Arc<Form>>,
    /// Text completions: what of the request has no word in a chat, so that only a provider that has the route itself can serve it.
    pub beyond_chat: Vec<Parameter>,
    pub(in crate::dialect) body: Bytes,
    pub(in crate::dialect) members: Vec<Member>,
}

/// What a request needs of a model. Media are looked for by the name of their part, so that a message whose whole text is such a
/// name counts too: a false alarm that costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Function calling.
    pub tools: bool,
    /// Answers in JSON (`response_format` other than text).
    pub structured_output: bool,
    /// Answers in JSON by a schema.
    pub json_schema: bool,
    /// Pictures in the input.
    pub images: bool,
    /// Documents in the input.
    pub files: bool,
    /// Sound in the input.
    pub audio: bool,
    /// Films in the input.
    pub video: bool,
}

/// The parts of a message by which [`Needs`] are told.
#[derive(Clone, Copy)]
enum Part {
    Image,
    File,
    FileUrl,
    DocumentUrl,
    Audio,
    Video,
}

/// What each [`Part`] is found by. To set up such a search costs more than to run it over a short message.
static FINDERS: LazyLock<[memmem::Finder<'static>; 6]> = LazyLock::new(|| {
    ["\"image_url\"", "\"file\"", "\"file_url\"", "\"document_url\"", "\"input_audio\"", "\"video_url\""]
        .map(memmem::Finder::new)
});
static TYPE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("\"type\""));
/// Most requests have none, and they are large.
static NO_EXTENSIONS: LazyLock<Arc<Extensions>> = LazyLock::new(Arc::default);
static BASE64: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(";base64,"));

/// A top-level member by its place.
#[derive(Clone, Debug)]
pub(in crate::dialect) struct Member {
    pub field: Field,
    pub key: Range<usize>,
    pub value: Range<usize>,
}

/// The top-level members that the gateway acts on, of all clients' formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Field {
    Model,
    Messages,
    Prompt,
    Suffix,
    Echo,
    BestOf,
    Logprobs,
    Tools,
    ResponseFormat,
    Stream,
    StreamOptions,
    MaxTokens,
    MaxCompletionTokens,
    N,
    Reasoning,
    ReasoningEffort,
    IncludeReasoning,
    Usage,
    User,
    Extra,
    Models,
    Provider,
    Fallbacks,
    Route,
    System,
    Metadata,
    OutputConfig,
    OutputFormat,
    Input,
    Instructions,
    MaxOutputTokens,
    Text,
    Store,
    Background,
    PreviousResponseId,
    Preset,
    Contents,
    SystemInstruction,
    GenerationConfig,
    Alt,
    Other,
}

impl Field {
    fn of(name: &str) -> Self {
        match name {
            "model" => Self::Model,
            "messages" => Self::Messages,
            "prompt" => Self::Prompt,
            "suffix" => Self::Suffix,
            "echo" => Self::Echo,
            "best_of" => Self::BestOf,
            "logprobs" => Self::Logprobs,
            "tools" | "functions" => Self::Tools,
            "response_format" => Self::ResponseFormat,
            "stream" => Self::Stream,
            "stream_options" => Self::StreamOptions,
            "max_tokens" => Self::MaxTokens,
            "max_completion_tokens" => Self::MaxCompletionTokens,
            "n" => Self::N,
            "reasoning" => Self::Reasoning,
            "reasoning_effort" => Self::ReasoningEffort,
            "include_reasoning" => Self::IncludeReasoning,
            "usage" => Self::Usage,
            "user" => Self::User,
            "extra" => Self::Extra,
            "models" => Self::Models,
            "provider" => Self::Provider,
            "fallbacks" => Self::Fallbacks,
            "route" => Self::Route,
            "system" => Self::System,
            "metadata" => Self::Metadata,
            "output_config" => Self::OutputConfig,
            "output_format" => Self::OutputFormat,
            "input" => Self::Input,
            "instructions" => Self::Instructions,
            "max_output_tokens" => Self::MaxOutputTokens,
            "text" => Self::Text,
            "store" => Self::Store,
            "background" => Self::Background,
            "previous_response_id" => Self::PreviousResponseId,
            "preset" => Self::Preset,
            "contents" => Self::Contents,
            "systemInstruction" | "system_instruction" => Self::SystemInstruction,
            "generationConfig" | "generation_config" => Self::GenerationConfig,
            "alt" => Self::Alt,
            _ => Self::Other,
        }
    }

    /// Whether it is addressed to the gateway and no provider ever sees it.
    pub fn is_extension(self) -> bool {
        matches!(self, Self::Extra | Self::Models | Self::Provider | Self::Fallbacks | Self::Route | Self::Preset)
    }
}

impl Envelope {
    /// Scans a body.
    ///
    /// # Errors
    /// `BadRequest` when it is not a JSON object (with line and column), has no model or no messages, or when a member that the gateway
    /// acts on has the wrong type.
    pub fn scan(body: Bytes) -> Result<Self, Fault> {
        let mut envelope = Self::unread(Client::OpenAiChat, body)?;
        envelope.read_options()?;
        envelope.read_messages()?;
        envelope.extensions = envelope.read_extensions()?;
        envelope.complete_model()?;
        Ok(envelope)
    }

    /// The envelope of a body of which only the members' places are known.
    ///
    /// # Errors
    /// `BadRequest` when it is not a JSON object, with line and column.
    pub(in crate::dialect) fn unread(client: Client, body: Bytes) -> Result<Self, Fault> {
        let members = members(&body)?;
        Ok(Self {
            client,
            work: Work::Converse,
            counts_tokens: false,
            model: String::new(),
            stream: false,
            array: false,
            include_usage: false,
            keep: false,
            background: false,
            keeps_preset: false,
            previous: None,
            max_tokens: None,
            n: None,
            user: None,
            exclude_reasoning: false,
            extensions: NO_EXTENSIONS.clone(),
            needs: Needs::default(),
            estimated_input_tokens: 0,
            form: None,
            beyond_chat: Vec::new(),
            body,
            members,
        })
    }

    /// The client's body as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The media type of an answer.
    pub fn content_type(&self) -> &'static str {
        if self.stream && !self.array { "text/event-stream" } else { "application/json" }
    }

    /// The sampling temperature, where this format has it deeper than at the top level.
    pub fn nested_temperature(&self) -> Option<f64> {
        (self.client == Client::Gemini).then(|| gemini::client::envelope::temperature(self)).flatten()
    }

    /// The body for a provider of the same format.
    pub fn passthrough_body(&self, model: &str, quirks: Quirks) -> Vec<u8> {
        if self.client == Client::AnthropicMessages {
            return anthropic_messages::client::envelope::passthrough_body(self, model);
        }
        if self.client == Client::Gemini {
            return gemini::client::envelope::passthrough_body(self);
        }
        if self.client == Client::OpenAiResponses {
            return openai_responses::envelope::passthrough_body(self, model);
        }
        // Text completions know the old name alone, at every provider.
        let renamed =
            if self.client == Client::OpenAiCompletions { Quirks::MAX_COMPLETION_TOKENS } else { Quirks::NONE };
        let quirks = quirks.without(renamed);
        let (mut edits, mut cutter) = (Edits::default(), Cutter::default());
        let ask_for_usage = self.stream && !self.include_usage && !quirks.has(Quirks::NO_STREAM_OPTIONS);
        let mut to_add = ask_for_usage && self.last(Field::StreamOptions).is_none();
        for member in &self.members {
            let (value, text) = (member.value.clone(), &self.body[member.value.clone()]);
            if self.is_cut(member, quirks) {
                edits.replace(cutter.cut(&self.body, member.key.start..value.end), &[]);
                continue;
            }
            cutter.keep(value.end);
            match member.field {
                Field::Model => {
                    let mut name = Vec::with_capacity(model.len() + 2);
                    write::string(model, &mut name);
                    let usage: &[u8] = if to_add { b",\"stream_options\":{\"include_usage\":true}" } else { b"" };
                    edits.replace(value, &[&name, usage]);
                    to_add = false;
                }
                Field::StreamOptions if ask_for_usage => self.ask_for_usage(value, &mut edits),
                Field::MaxCompletionTokens if quirks.has(Quirks::MAX_TOKENS) => {
                    edits.replace(member.key.clone(), &[b"\"max_tokens\""]);
                }
                Field::MaxTokens if quirks.has(Quirks::MAX_COMPLETION_TOKENS) => {
                    edits.replace(member.key.clone(), &[b"\"max_completion_tokens\""]);
                }
                Field::Reasoning if quirks.has(Quirks::REASONING_EFFORT) => {
                    if let Some(effort) = effort(text) {
                        edits.replace(member.key.clone(), &[b"\"reasoning_effort\""]);
                        edits.replace(value, &[effort]);
                    }
                }
                _ => {}
            }
        }
        let mut out = Vec::new();
        edits.apply(&self.body, &mut out);
        out
    }

    /// Whether a member is taken out of a provider's body.
    fn is_cut(&self, member: &Member, quirks: Quirks) -> bool {
        let text = &self.body[member.value.clone()];
        match member.field {
            Field::Usage => !quirks.has(Quirks::OPENROUTER_NATIVE) && inside(text, b"include").is_some(),
            Field::Preset => !(self.keeps_preset && quirks.has(Quirks::OPENROUTER_NATIVE)),
            Field::StreamOptions => quirks.has(Quirks::NO_STREAM_OPTIONS),
            // Under its new name it would stand beside the one that is there already.
            Field::MaxCompletionTokens => quirks.has(Quirks::MAX_TOKENS) && self.last(Field::MaxTokens).is_some(),
            Field::MaxTokens => {
                quirks.has(Quirks::MAX_COMPLETION_TOKENS) && self.last(Field::MaxCompletionTokens).is_some()
            }
            Field::Reasoning if quirks.has(Quirks::REASONING_EFFORT) && text.starts_with(b"{") => {
                let says_how_much = effort(text).is_some() || inside(text, b"max_tokens").is_some();
                self.last(Field::ReasoningEffort).is_some() || !says_how_much
            }
            field => field.is_extension(),
        }
    }

    fn ask_for_usage(&self, options: Range<usize>, edits: &mut Edits) {
        let text = &self.body[options.clone()];
        if text.first() != Some(&b'{') {
            return edits.replace(options, &[b"{\"include_usage\":true}"]);
        }
        match inside(text, b"include_usage") {
            Some(place) => edits.replace(options.start + place.start..options.start + place.end, &[b"true"]),
            None => {
                let is_empty = text[1..].trim_ascii_start().first() == Some(&b'}');
                edits.insert(options.start + 1, &[b"\"include_usage\":true", if is_empty { b"" } else { b"," }]);
            }
        }
    }

    /// The value of a member, the last one when there are several; `None` when it is absent or null.
    pub(in crate::dialect) fn last(&self, field: Field) -> Option<&[u8]> {
        let member = self.members.iter().rfind(|member| member.field == field)?;
        Some(&self.body[member.value.clone()]).filter(|text| *text != b"null")
    }

    pub(in crate::dialect) fn read_options(&mut self) -> Result<(), Fault> {
        self.read_model()?;
        self.stream = self.boolean(Field::Stream, "stream")?.unwrap_or(false);
        let options = self.last(Field::StreamOptions);
        if options.is_some_and(|text| !text.starts_with(b"{")) {
            return Err(must_be("stream_options", "an object"));
        }
        self.include_usage = self.stream && options.is_some_and(|text| is_true(text, b"include_usage"));
        self.n = self.count(Field::N, "n")?;
        self.read_user()?;
        let max_tokens = self.count(Field::MaxTokens, "max_tokens")?;
        self.max_tokens = self.count(Field::MaxCompletionTokens, "max_completion_tokens")?.or(max_tokens);
        self.exclude_reasoning = self.last(Field::Reasoning).is_some_and(|text| is_true(text, b"exclude"))
            || self.last(Field::IncludeReasoning) == Some(b"false");
        Ok(())
    }

    /// A text among the members.
    pub(in crate::dialect) fn string(&self, field: Field, name: &'static str) -> Result<Option<String>, Fault> {
        let Some(text) = self.last(field) else { return Ok(None) };
        let is_string = text.starts_with(b"\"");
        let read = is_string.then(|| serde_json::from_slice(text).ok()).flatten();
        read.map(Some).ok_or_else(|| must_be(name, "a string"))
    }

    /// Reads `user`.
    pub(in crate::dialect) fn read_user(&mut self) -> Result<(), Fault> {
        self.user = self.string(Field::User, "user")?.filter(|user| !user.is_empty());
        Ok(())
    }

    /// Reads `model`. A preset may bring it, which is seen when the extensions have been read.
    pub(in crate::dialect) fn read_model(&mut self) -> Result<(), Fault> {
        self.model = self.string(Field::Model, "model")?.unwrap_or_default();
        let may_follow = self.last(Field::Extra).or(self.last(Field::Preset)).is_some();
        if self.model.trim().is_empty() && !may_follow {
            return Err(Fault::bad_request("model", "you must provide a model"));
        }
        Ok(())
    }

    /// Whether a preset is named as OpenRouter has it, beside the model.
    pub fn names_openrouter_preset(&self) -> bool {
        self.last(Field::Preset).is_some()
    }

    /// Without a model, the preset that was asked for stands in its place.
    pub(in crate::dialect) fn complete_model(&mut self) -> Result<(), Fault> {
        if self.model.trim().is_empty() {
            let preset = self.extensions.preset.as_ref();
            let preset = preset.ok_or_else(|| Fault::bad_request("model", "you must provide a model"))?;
            self.model = format!("@preset/{preset}");
        }
        Ok(())
    }

    fn read_messages(&mut self) -> Result<(), Fault> {
        let messages = self.messages()?;
        // Where every content is a text, no part has a type.
        let has_parts = TYPE.find(messages).is_some();
        let has = |part: Part| has_parts && FINDERS[part as usize].find(messages).is_some();
        let tools = self.last(Field::Tools).unwrap_or_default();
        let format = self.last(Field::ResponseFormat);
        let format_is =
            |name: &[u8]| format.is_some_and(|text| inside(text, b"type").is_some_and(|kind| text[kind] == *name));
        let needs = Needs {
            tools: tools.len() > 2,
            structured_output: format.is_some() && !format_is(b"\"text\""),
            json_schema: format_is(b"\"json_schema\""),
            images: has(Part::Image),
            files: has(Part::File) || has(Part::FileUrl) || has(Part::DocumentUrl),
            audio: has(Part::Audio),
            video: has(Part::Video),
        };
        let data = base64_bytes(messages, needs.audio || needs.files);
        self.estimated_input_tokens = (messages.len() - data + tools.len()) as u64 / 4;
        self.needs = needs;
        Ok(())
    }

    /// The text of `messages`, which must be a list with something in it.
    pub(in crate::dialect) fn messages(&self) -> Result<&[u8], Fault> {
        let messages =
            self.last(Field::Messages).ok_or_else(|| Fault::bad_request("messages", "you must provide messages"))?;
        if messages.first() != Some(&b'[') {
            return Err(must_be("messages", "a list"));
        }
        if messages[1..].trim_ascii_start().first() == Some(&b']') {
            return Err(Fault::bad_request("messages", "messages must not be empty"));
        }
        Ok(messages)
    }

    pub(in crate::dialect) fn read_extensions(&self) -> Result<Arc<Extensions>, Fault> {
        if !self.members.iter().any(|member| member.field.is_extension()) {
            return Ok(NO_EXTENSIONS.clone());
        }
        // The scan has checked the JSON already, so reading these small pieces again cannot fail but for their nesting.
        let read = |field| {
            let text = self.last(field)?;
            serde_json::from_slice(text).ok()
        };
        Extensions::parse(Members {
            extra: read(Field::Extra),
            models: read(Field::Models),
            provider: read(Field::Provider),
            fallbacks: read(Field::Fallbacks),
            preset: read(Field::Preset),
        })
        .map(Arc::new)
    }

    pub(in crate::dialect) fn boolean(&self, field: Field, name: &'static str) -> Result<Option<bool>, Fault> {
        match self.last(field) {
            None => Ok(None),
            Some(b"true") => Ok(Some(true)),
            Some(b"false") => Ok(Some(false)),
            Some(_) => Err(must_be(name, "true or false")),
        }
    }

    pub(in crate::dialect) fn count(&self, field: Field, name: &'static str) -> Result<Option<u64>, Fault> {
        match self.last(field) {
            None => Ok(None),
            Some(text) => integer(text).map(Some).ok_or_else(|| must_be(name, "a whole number that is not negative")),
        }
    }
}

/// Finds the top-level members.
fn members(body: &[u8]) -> Result<Vec<Member>, Fault> {
    if let Err(broken) = std::str::from_utf8(body) {
        let message = format!("the body is not UTF-8: byte {} does not belong there", broken.valid_up_to());
        return Err(Fault::new(FaultKind::BadRequest, message));
    }
    if body.starts_with("\u{feff}".as_bytes()) {
        return Err(Fault::new(
            FaultKind::BadRequest,
            "the body begins with a byte order mark, which JSON does not allow",
        ));
    }
    let mut members = Vec::with_capacity(16);
    let mut cursor = Cursor::new(body, 0);
    match cursor.peek() {
        None => return Err(Fault::new(FaultKind::BadRequest, "the body is empty: a JSON object was expected")),
        // What is no object may still be valid JSON; the message is about the first thing that is wrong.
        Some(byte) if byte != b'{' && cursor.clone().value().is_ok() => {
            return Err(Fault::new(FaultKind::BadRequest, "the body must be a JSON object"));
        }
        Some(_) => {}
    }
    let outcome = cursor.object(|cursor, key| {
        let value = cursor.value()?;
        members.push(Member { field: Field::of(&name(&body[key.clone()])), key, value });
        Ok::<(), Invalid>(())
    });
    outcome.and_then(|_| cursor.end()).map_err(|invalid| {
        let (line, column) = invalid.line_and_column(body);
        Fault::new(
            FaultKind::BadRequest,
            format!("the body is not JSON: {} at line {line}, column {column}", invalid.what),
        )
    })?;
    Ok(members)
}

/// A key's text, escapes resolved.
fn name(key: &[u8]) -> Cow<'_, str> {
    if key.contains(&b'\\') {
        return serde_json::from_slice::<String>(key).unwrap_or_default().into();
    }
    std::str::from_utf8(super::scan::inner(key)).unwrap_or_default().into()
}

pub(in crate::dialect) fn must_be(name: &'static str, expected: &str) -> Fault {
    Fault::bad_request(name, format!("{name} must be {expected}"))
}

/// The place of a member inside the text of an object.
pub(in crate::dialect) fn inside(object: &[u8], name: &[u8]) -> Option<Range<usize>> {
    member(object, 0, name)
}

fn is_true(object: &[u8], name: &[u8]) -> bool {
    inside(object, name).is_some_and(|place| &object[place] == b"true")
}

/// The effort that OpenRouter's `reasoning` object asks for, as JSON.
fn effort(reasoning: &[u8]) -> Option<&[u8]> {
    let named = inside(reasoning, b"effort").map(|place| &reasoning[place]).filter(|text| text.starts_with(b"\""));
    let off = inside(reasoning, b"enabled").filter(|place| &reasoning[place.clone()] == b"false");
    named.or_else(|| off.map(|_| &b"\"none\""[..]))
}

/// How many bytes of a JSON text are base64: data URLs, and with `bare` also long `data` and `file_data` members without the prefix.
pub(in crate::dialect) fn base64_bytes(text: &[u8], bare: bool) -> usize {
    let string_at = |start: usize| memchr::memchr(b'"', &text[start..]).unwrap_or(text.len() - start);
    let mut total: usize = BASE64.find_iter(text).map(string_at).sum();
    if bare {
        for key in [&b"\"data\":"[..], b"\"file_data\":"] {
            for at in memmem::find_iter(text, key) {
                let value = text[at + key.len()..].trim_ascii_start();
                let string = value.strip_prefix(b"\"").unwrap_or_default();
                let length = memchr::memchr(b'"', string).unwrap_or(0);
                if !string.starts_with(b"data:") && length > 256 {
                    total += length;
                }
            }
        }
    }
    total.min(text.len())
}

mod closer;
mod defaults;
mod relayed;

pub use defaults::Defaults;

#[cfg(test)]
mod tests;
