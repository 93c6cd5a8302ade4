//! Renders the messages: instructions apart, then user and assistant in turns.
//!
//! Converse's rules that shape this: instructions stand outside the conversation, so those in its middle move to the front in their
//! order; results of tools are blocks of a user message, all results of parallel calls in one; a text needs a visible character, and a
//! message needs a block; a cache marker is a block of its own behind what it marks; documents have names, no two the same.

use super::body::{Block, CachePoint, Source, Speaker, Thought, Turn};
use super::media::{self, Kind};
use crate::dialect::anthropic_messages::body::Input;
use crate::dialect::chat::{
    FORMAT_ANTHROPIC, Media, Message, Part, PartKind, ReasoningDetail, ReasoningKind, Request, Role,
};
use crate::dialect::losses::Losses;
use crate::domain::Fault;
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
    /// The names of the documents so far.
    documents: Vec<String>,
}

/// Renders all messages. `thinks` says whether the model's own thoughts are sent back.
///
/// # Errors
/// `BadRequest` with the place in the client's request, for what Converse cannot take at all: files by id or by an address that is not
/// in S3, unknown formats, pictures from the assistant, or no message with anything in it.
pub(super) fn render<'a>(request: &'a Request, thinks: bool, losses: &mut Losses) -> Result<Conversation<'a>, Fault> {
    let mut out = Conversation::default();
    let mut last_instructions = 0;
    for (at, message) in request.messages.iter().enumerate() {
        let place = Place { at, message };
        if message.name.is_some() && message.role != Role::Tool {
            losses.drop("messages.name", "this provider has no names of participants")?;
        }
        let mut blocks = Vec::new();
        if message.role == Role::Assistant && thinks {
            replay_thoughts(&message.reasoning, &mut blocks);
        }
        for (part_at, part) in message.parts.iter().enumerate() {
            place.part(part_at, part, &mut blocks, &mut out.documents, losses)?;
        }
        match message.role {
            Role::System | Role::Developer => {
                mark(&mut blocks, message.cache_control.as_ref());
                last_instructions = out.system.len();
                out.system.append(&mut blocks);
            }
            Role::User => {
                mark(&mut blocks, message.cache_control.as_ref());
                out.append(Speaker::User, blocks);
            }
            Role::Tool => {
                // A marker cannot stand inside a result.
                let inner = blocks.iter().rev().find_map(|block| match block {
                    Block::CachePoint(point) => Some(*point),
                    _ => None,
                });
                blocks.retain(|block| !matches!(block, Block::CachePoint(_)));
                if blocks.is_empty() {
                    blocks.push(Block::Text(NOTHING));
                }
                let tool_use_id = tool_id(place.answered_call()?);
                let mut result = vec![Block::ToolResult { tool_use_id, content: blocks }];
                let point = message.cache_control.as_ref().map(CachePoint::of).or(inner);
                result.extend(point.map(Block::CachePoint));
                out.append(Speaker::User, result);
            }
            Role::Assistant => {
                blocks.extend(message.tool_calls.iter().map(|call| Block::ToolUse {
                    tool_use_id: tool_id(&call.id),
                    name: &call.name,
                    input: Input::of(&call.arguments),
                }));
                mark(&mut blocks, message.cache_control.as_ref());
                out.append(Speaker::Assistant, blocks);
            }
        }
    }
    out.complete(last_instructions)?;
    Ok(out)
}

/// What a tool said that gave nothing back: a result needs a block, and a text a visible character.
const NOTHING: &str = "(no output)";

impl<'a> Conversation<'a> {
    /// Adds blocks to the last turn when the same side speaks on, else as a new turn.
    fn append(&mut self, role: Speaker, mut blocks: Vec<Block<'a>>) {
        if blocks.iter().all(|block| matches!(block, Block::CachePoint(_))) {
            return;
        }
        match self.turns.last_mut() {
            Some(turn) if turn.role == role => turn.content.append(&mut blocks),
            _ => self.turns.push(Turn { role, content: blocks }),
        }
    }

    /// Makes the end of the conversation one that Converse takes.
    fn complete(&mut self, last_instructions: usize) -> Result<(), Fault> {
        // White space after the beginning of an answer, which the model is to continue, is refused.
        if let Some(Turn { role: Speaker::Assistant, content }) = self.turns.last_mut()
            && let Some(Block::Text(text)) = content.last_mut()
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
struct Place<'a> {
    at: usize,
    message: &'a Message,
}

impl<'a> Place<'a> {
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

    /// Renders one part; a text without a visible character is left out and leaves its cache marker to what precedes it.
    fn part(
        &self,
        part_at: usize,
        part: &'a Part,
        blocks: &mut Vec<Block<'a>>,
        documents: &mut Vec<String>,
        losses: &mut Losses,
    ) -> Result<(), Fault> {
        let (source, filename) = match &part.kind {
            PartKind::Text(text) | PartKind::Refusal(text) => {
                if !text.trim().is_empty() {
                    blocks.push(Block::Text(text));
                }
                mark(blocks, part.cache_control.as_ref());
                return Ok(());
            }
            PartKind::Image { source, detail } => {
                if detail.as_deref().is_some_and(|detail| detail != "auto") {
                    losses.drop("image_url.detail", "this provider chooses the detail of a picture by itself")?;
                }
                (source, None)
            }
            PartKind::File { source, filename } => (source, filename.as_deref()),
            PartKind::Audio { source } | PartKind::Video { source } => (source, None),
        };
        if !matches!(self.message.role, Role::User | Role::Tool) {
            return self
                .refuse(part_at, "this provider takes pictures and documents from the user and from tools only");
        }
        blocks.push(self.media(part_at, source, filename, documents)?);
        mark(blocks, part.cache_control.as_ref());
        Ok(())
    }

    fn media(
        &self,
        part_at: usize,
        source: &'a Media,
        filename: Option<&str>,
        documents: &mut Vec<String>,
    ) -> Result<Block<'a>, Fault> {
        let (kind, source, said) = match source {
            Media::Inline { media_type, data } => {
                (media::kind(media_type, filename, data), Source::Bytes(data), media_type.as_str())
            }
            Media::Url(url) if url.starts_with("s3://") => {
                let kind = filename.and_then(media::by_ending).or_else(|| media::by_ending(url));
                (kind, Source::S3Location { uri: url }, url.as_str())
            }
            Media::Url(_) => {
                return self
                    .refuse(part_at, "this target does not fetch addresses; send the data itself, as a data URL");
            }
            Media::FileId(_) => return self.refuse(part_at, "this provider has no store of files"),
        };
        Ok(match kind {
            Some(Kind::Image(format)) => Block::Image { format, source },
            Some(Kind::Video(format)) => Block::Video { format, source },
            Some(Kind::Audio(format)) => Block::Audio { format, source },
            Some(Kind::Document(format)) => {
                let name = media::document_name(filename, documents);
                documents.push(name.clone());
                Block::Document { format, name, source }
            }
            None => return self.refuse(part_at, format!("this provider does not take files of the type {said:?}")),
        })
    }
}

/// Puts a cache marker behind what there is, once.
fn mark(blocks: &mut Vec<Block<'_>>, marker: Option<&Value>) {
    if let Some(marker) = marker
        && !matches!(blocks.last(), None | Some(Block::CachePoint(_) | Block::ReasoningContent(_)))
    {
        blocks.push(Block::CachePoint(CachePoint::of(marker)));
    }
}

/// Sends the model's own thoughts back, byte by byte. What no signature vouches for is left out by rule: thoughts of another
/// provider's model mean nothing here, and unsigned ones are refused.
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
                let text = match unsigned.take() {
                    Some((index, begun)) if index == detail.index => Cow::Owned(begun.into_owned() + text),
                    _ => Cow::Borrowed(text.as_str()),
                };
                match signature.as_deref().filter(|signature| !signature.is_empty()) {
                    Some(signature) => {
                        blocks.push(Block::ReasoningContent(Thought::ReasoningText { text, signature }));
                    }
                    None => unsigned = Some((detail.index, text)),
                }
            }
            ReasoningKind::Encrypted(data) => {
                unsigned = None;
                blocks.push(Block::ReasoningContent(Thought::RedactedContent(data)));
            }
            ReasoningKind::Summary(_) => unsigned = None,
        }
    }
}

/// A call's id as Converse takes it (`[a-zA-Z0-9_.:-]{1,64}`). Any other is mapped to one with a digest of its own, so that a call and
/// its result still meet and two ids stay two.
fn tool_id(id: &str) -> Cow<'_, str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-');
    if !id.is_empty() && id.len() <= 64 && id.bytes().all(allowed) {
        return Cow::Borrowed(id);
    }
    // FNV-1a.
    let digest = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let kept: String = id.bytes().filter(|byte| allowed(*byte)).map(char::from).take(40).collect();
    Cow::Owned(format!("call_{kept}_{digest:016x}"))
}

impl<'a> Input<'a> {
    /// A call's arguments as an object.
    fn of(arguments: &'a str) -> Self {
        let text = arguments.trim();
        if text.is_empty() || text == "null" {
            return Self::Empty;
        }
        match serde_json::from_str::<&RawValue>(text) {
            Ok(raw) if raw.get().starts_with('{') => Self::Object(raw),
            _ => Self::Invalid(arguments),
        }
    }
}
