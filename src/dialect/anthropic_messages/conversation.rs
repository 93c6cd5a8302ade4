//! Renders the messages: instructions apart, then user and assistant in turns.
//!
//! Anthropic's rules that shape this: instructions stand outside the conversation, so those in its middle move to the
//! front in their order; results of tools are blocks of a user message, all results of parallel calls in one; a text
//! block needs a visible character, and a message needs a block.

use super::body::{Block, Input, Source, Speaker, Turn};
use super::losses::Losses;
use crate::dialect::chat::{
    FORMAT_ANTHROPIC, Media, Message, ModelTraits, Part, PartKind, ReasoningDetail, ReasoningKind, Request, Role,
    Thinking,
};
use crate::domain::Fault;
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The rendered messages.
#[derive(Debug, Default)]
pub(super) struct Conversation<'a> {
    /// Instructions.
    pub system: Vec<Block<'a>>,
    /// User and assistant, alternating.
    pub turns: Vec<Turn<'a>>,
    /// Whether something is named by a file id.
    pub files: bool,
}

/// Renders all messages.
///
/// # Errors
/// `BadRequest` with the place in the client's request, for what these models cannot take at all: sound, films, other
/// documents than PDF and text, pictures from the assistant, or no message with anything in it.
pub(super) fn render<'a>(
    request: &'a Request,
    target: &ModelTraits,
    losses: &mut Losses,
) -> Result<Conversation<'a>, Fault> {
    let mut out = Conversation::default();
    let mut last_instructions = 0;
    for (at, message) in request.messages.iter().enumerate() {
        let place = Place { at, message, target };
        if message.name.is_some() && message.role != Role::Tool {
            losses.drop("messages.name", "this provider has no names of participants")?;
        }
        let mut blocks = Vec::new();
        if message.role == Role::Assistant && target.thinking != Thinking::None {
            replay_thoughts(&message.reasoning, &mut blocks);
        }
        for (part_at, part) in message.parts.iter().enumerate() {
            place.part(part_at, part, &mut blocks, &mut out.files, losses)?;
        }
        match message.role {
            Role::System | Role::Developer => {
                mark_last(&mut blocks, message.cache_control.as_ref());
                last_instructions = out.system.len();
                out.system.append(&mut blocks);
            }
            Role::User => {
                mark_last(&mut blocks, message.cache_control.as_ref());
                out.append(Speaker::User, blocks);
            }
            Role::Tool => {
                let result = Block::ToolResult {
                    tool_use_id: tool_id(place.answered_call()?),
                    content: blocks,
                    cache_control: message.cache_control.as_ref(),
                };
                out.append(Speaker::User, vec![result]);
            }
            Role::Assistant => {
                blocks.extend(message.tool_calls.iter().map(|call| Block::ToolUse {
                    id: tool_id(&call.id),
                    name: &call.name,
                    input: input(&call.arguments),
                    cache_control: None,
                }));
                mark_last(&mut blocks, message.cache_control.as_ref());
                out.append(Speaker::Assistant, blocks);
            }
        }
    }
    out.complete(last_instructions)?;
    Ok(out)
}

impl<'a> Conversation<'a> {
    /// Adds blocks to the last turn when the same side speaks on, else as a new turn.
    fn append(&mut self, role: Speaker, mut blocks: Vec<Block<'a>>) {
        if blocks.is_empty() {
            return;
        }
        match self.turns.last_mut() {
            Some(turn) if turn.role == role => turn.content.append(&mut blocks),
            _ => self.turns.push(Turn { role, content: blocks }),
        }
    }

    /// Makes the end of the conversation one that Anthropic takes.
    fn complete(&mut self, last_instructions: usize) -> Result<(), Fault> {
        // White space after the beginning of an answer, which the model is to continue, is refused.
        if let Some(Turn { role: Speaker::Assistant, content }) = self.turns.last_mut()
            && let Some(Block::Text { text, .. }) = content.last_mut()
        {
            *text = text.trim_end();
        }
        // Someone has to speak: with instructions alone, the last of them are what the user says.
        if self.turns.is_empty() {
            let content = self.system.split_off(last_instructions);
            if content.is_empty() {
                return Err(Fault::bad_request("messages", "there is no message with anything in it"));
            }
            self.turns.push(Turn { role: Speaker::User, content });
        }
        Ok(())
    }
}

/// One message, for its parts and for naming it in errors.
struct Place<'a, 't> {
    at: usize,
    message: &'a Message,
    target: &'t ModelTraits,
}

impl<'a> Place<'a, '_> {
    fn refuse<T>(&self, part_at: usize, why: impl Into<Cow<'static, str>>) -> Result<T, Fault> {
        Err(Fault::bad_request(format!("messages[{}].content[{part_at}]", self.at), why))
    }

    /// The id of the call that a tool message answers.
    fn answered_call(&self) -> Result<&'a str, Fault> {
        self.message.tool_call_id.as_deref().ok_or_else(|| {
            Fault::bad_request(
                format!("messages[{}].tool_call_id", self.at),
                "a tool's message names the call it answers",
            )
        })
    }

    /// Renders one part; a text without a visible character is left out and leaves its cache marker to what precedes
    /// it.
    fn part(
        &self,
        part_at: usize,
        part: &'a Part,
        blocks: &mut Vec<Block<'a>>,
        files: &mut bool,
        losses: &mut Losses,
    ) -> Result<(), Fault> {
        let cache_control = part.cache_control.as_ref();
        let block = match &part.kind {
            PartKind::Text(text) | PartKind::Refusal(text) => {
                if text.trim().is_empty() {
                    mark_last(blocks, cache_control);
                    return Ok(());
                }
                Block::Text { text, cache_control }
            }
            PartKind::Audio { .. } => return self.refuse(part_at, "this provider does not take audio"),
            PartKind::Video { .. } => return self.refuse(part_at, "this provider does not take video"),
            PartKind::Image { .. } | PartKind::File { .. } if !matches!(self.message.role, Role::User | Role::Tool) => {
                return self
                    .refuse(part_at, "this provider takes pictures and documents from the user and from tools only");
            }
            PartKind::Image { source, detail } => {
                if detail.as_deref().is_some_and(|detail| detail != "auto") {
                    losses.drop("image_url.detail", "this provider chooses the detail of a picture by itself")?;
                }
                Block::Image { source: self.picture(part_at, source)?, cache_control }
            }
            PartKind::File { source, filename } => {
                self.document(part_at, source, filename.as_deref(), cache_control)?
            }
        };
        if let Block::Image { source, .. } | Block::Document { source, .. } = &block {
            *files |= matches!(source, Source::File { .. });
        }
        blocks.push(block);
        Ok(())
    }

    fn picture(&self, part_at: usize, source: &'a Media) -> Result<Source<'a>, Fault> {
        match source {
            Media::Inline { media_type, data } => {
                let media_type = if media_type == "image/jpg" { "image/jpeg" } else { media_type };
                Ok(Source::Base64 { media_type, data })
            }
            Media::Url(url) => self.address(part_at, url),
            Media::FileId(file_id) => Ok(Source::File { file_id }),
        }
    }

    fn document(
        &self,
        part_at: usize,
        source: &'a Media,
        filename: Option<&'a str>,
        cache_control: Option<&'a Value>,
    ) -> Result<Block<'a>, Fault> {
        let source = match source {
            Media::Inline { media_type, data } => match Document::of(media_type, data) {
                Document::Pdf => Source::Base64 { media_type: "application/pdf", data },
                Document::Text => match decode_text(data) {
                    Some(data) => Source::Text { media_type: "text/plain", data },
                    None => return self.refuse(part_at, "the document is not text in UTF-8, encoded in base64"),
                },
                Document::Picture => return Ok(Block::Image { source: self.picture(part_at, source)?, cache_control }),
                Document::Other => {
                    return self
                        .refuse(part_at, format!("this provider takes PDF and text documents, not {media_type}"));
                }
            },
            Media::Url(url) => self.address(part_at, url)?,
            Media::FileId(file_id) => Source::File { file_id },
        };
        let title = filename.filter(|name| !name.trim().is_empty() && name.chars().count() <= MAX_TITLE);
        Ok(Block::Document { source, title, cache_control })
    }

    fn address(&self, part_at: usize, url: &'a str) -> Result<Source<'a>, Fault> {
        if self.target.media_urls {
            Ok(Source::Url { url })
        } else {
            self.refuse(part_at, "this target does not fetch addresses; send the data itself, as a data URL")
        }
    }
}

/// The longest title of a document, in characters.
const MAX_TITLE: usize = 500;

/// What an inline file is to Anthropic.
enum Document {
    Pdf,
    Text,
    Picture,
    Other,
}

impl Document {
    /// By its media type, and by its first bytes where the type says nothing.
    fn of(media_type: &str, data: &str) -> Self {
        let (base, _) = media_type.split_once(';').unwrap_or((media_type, ""));
        let base = base.trim().to_ascii_lowercase();
        match base.as_str() {
            "application/pdf" => Self::Pdf,
            // "%PDF-" in base64.
            "" | "application/octet-stream" if data.starts_with("JVBERi0") => Self::Pdf,
            "application/json"
            | "application/xml"
            | "application/yaml"
            | "application/x-yaml"
            | "application/toml"
            | "application/javascript"
            | "application/sql" => Self::Text,
            _ if base.starts_with("text/") || base.ends_with("+json") || base.ends_with("+xml") => Self::Text,
            _ if base.starts_with("image/") => Self::Picture,
            _ => Self::Other,
        }
    }
}

/// Decodes base64 as clients send it: with or without padding, perhaps with line breaks.
fn decode_text(data: &str) -> Option<String> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let bytes: Vec<u8> = data.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    String::from_utf8(LENIENT.decode(bytes).ok()?).ok()
}

fn mark_last<'a>(blocks: &mut [Block<'a>], marker: Option<&'a Value>) {
    if let (Some(block), Some(_)) = (blocks.last_mut(), marker) {
        block.mark(marker);
    }
}

/// Sends the model's own thoughts back, byte by byte. What no signature of Anthropic's vouches for is left out by rule:
/// thoughts of another provider's model mean nothing here, and unsigned ones are refused.
///
/// Clients that collect a stream without putting it together send a block in pieces; those with one index belong
/// together up to the signature.
fn replay_thoughts<'a>(details: &'a [ReasoningDetail], blocks: &mut Vec<Block<'a>>) {
    let mut details: Vec<&ReasoningDetail> =
        details.iter().filter(|detail| detail.format.as_deref() == Some(FORMAT_ANTHROPIC)).collect();
    details.sort_by_key(|detail| detail.index);
    let mut unsigned: Option<(u32, Cow<'a, str>)> = None;
    for detail in details {
        match &detail.kind {
            ReasoningKind::Text { text, signature } => {
                let thinking = match unsigned.take() {
                    Some((index, begun)) if index == detail.index => Cow::Owned(begun.into_owned() + text),
                    _ => Cow::Borrowed(text.as_str()),
                };
                match signature.as_deref().filter(|signature| !signature.is_empty()) {
                    Some(signature) => blocks.push(Block::Thinking { thinking, signature }),
                    None => unsigned = Some((detail.index, thinking)),
                }
            }
            ReasoningKind::Encrypted(data) => {
                unsigned = None;
                blocks.push(Block::RedactedThinking { data });
            }
            ReasoningKind::Summary(_) => unsigned = None,
        }
    }
}

/// A call's id in the alphabet that Anthropic takes (`^[a-zA-Z0-9_-]+$`). Any other id is mapped to one with a digest
/// of its own, so that a call and its result still meet and two ids stay two.
pub(super) fn tool_id(id: &str) -> Cow<'_, str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !id.is_empty() && id.bytes().all(allowed) {
        return Cow::Borrowed(id);
    }
    // FNV-1a.
    let digest = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let kept: String = id.bytes().filter(|byte| allowed(*byte)).map(char::from).take(40).collect();
    Cow::Owned(format!("call_{kept}_{digest:016x}"))
}

/// A call's arguments as an object.
fn input(arguments: &str) -> Input<'_> {
    let text = arguments.trim();
    if text.is_empty() || text == "null" {
        return Input::Empty;
    }
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) if raw.get().starts_with('{') => Input::Object(raw),
        _ => Input::Invalid(arguments),
    }
}
