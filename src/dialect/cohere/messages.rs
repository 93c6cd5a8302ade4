//! The conversation, message by message.
//!
//! **Reasoning.** What an earlier answer carried under [`FORMAT_COHERE`] goes back where it came from: a text as `thinking`, a summary as
//! the `tool_plan` before the calls. Thoughts of other models mean nothing to this one and are not sent.
//!
//! **Pictures** in the results of tools follow in a user's message, where Cohere takes them.

use super::body::{CalledFunction, Content, Document, DocumentData, ImageUrl, Piece, ToolCall, Turn};
use super::losses::Losses;
use crate::dialect::chat::{
    FORMAT_COHERE, Media, Message, ModelTraits, PartKind, ReasoningDetail, ReasoningKind, Request, Role,
};
use crate::dialect::text_files;
use crate::domain::Fault;
use std::borrow::Cow;

/// The rendered conversation.
#[derive(Debug, Default)]
pub(super) struct Conversation<'a> {
    pub turns: Vec<Turn<'a>>,
    /// Files that stand beside the messages.
    pub documents: Vec<Document<'a>>,
}

/// Renders all messages. Files become documents where those may stand apart, else texts in the message.
///
/// # Errors
/// `BadRequest` with the place in the client's request, for what these models cannot take at all: sound, films, documents that are not
/// text, pictures from the assistant or in instructions.
pub(super) fn render<'a>(
    request: &'a Request,
    target: &ModelTraits,
    documents_apart: bool,
    losses: &mut Losses,
) -> Result<Conversation<'a>, Fault> {
    let mut builder = Builder { target, documents_apart, shown: Vec::new(), out: Conversation::default() };
    for (at, message) in request.messages.iter().enumerate() {
        note_losses(message, losses)?;
        builder.message(at, message)?;
    }
    builder.show();
    if builder.out.turns.is_empty() {
        return Err(Fault::bad_request("messages", "there is no message with anything in it"));
    }
    Ok(builder.out)
}

fn note_losses(message: &Message, losses: &mut Losses) -> Result<(), Fault> {
    if message.name.is_some() && message.role != Role::Tool {
        losses.drop("messages.name", "this provider has no names of participants")?;
    }
    if message.cache_control.is_some() || message.parts.iter().any(|part| part.cache_control.is_some()) {
        losses.drop("cache_control", "this provider decides by itself what it caches")?;
    }
    Ok(())
}

struct Builder<'a, 't> {
    target: &'t ModelTraits,
    documents_apart: bool,
    /// Pictures in results of tools, until these are over.
    shown: Vec<Piece<'a>>,
    out: Conversation<'a>,
}

impl<'a> Builder<'a, '_> {
    /// Puts the pictures of the results before it into a message.
    fn show(&mut self) {
        if !self.shown.is_empty() {
            let content = Content::of(std::mem::take(&mut self.shown));
            self.out.turns.push(Turn::User { content });
        }
    }

    fn message(&mut self, at: usize, message: &'a Message) -> Result<(), Fault> {
        let mut pieces = Vec::new();
        match message.role {
            Role::Tool => {}
            Role::User => pieces.append(&mut self.shown),
            Role::System | Role::Developer | Role::Assistant => self.show(),
        }
        if message.role == Role::Assistant {
            pieces.extend(thoughts(&message.reasoning));
        }
        for (part_at, part) in message.parts.iter().enumerate() {
            let place = || format!("messages[{at}].content[{part_at}]");
            let piece = self.piece(message.role, &part.kind, place)?;
            match piece {
                Some(Piece::ImageUrl { .. }) if message.role == Role::Tool => self.shown.extend(piece),
                _ => pieces.extend(piece),
            }
        }
        let turn = match message.role {
            Role::System | Role::Developer => Turn::System { content: Content::of(pieces) },
            Role::User => Turn::User { content: Content::of(pieces) },
            Role::Assistant => {
                let tool_plan = plan(&message.reasoning).filter(|_| !message.tool_calls.is_empty());
                let tool_calls: Vec<_> = message.tool_calls.iter().map(call).collect();
                if pieces.is_empty() && tool_calls.is_empty() {
                    // Who said nothing is not repeated: Cohere refuses an empty message.
                    return Ok(());
                }
                Turn::Assistant { content: (!pieces.is_empty()).then(|| Content::of(pieces)), tool_plan, tool_calls }
            }
            Role::Tool => {
                let tool_call_id = message.tool_call_id.as_deref().filter(|id| !id.is_empty()).ok_or_else(|| {
                    let place = format!("messages[{at}].tool_call_id");
                    Fault::bad_request(place, "a tool's message names the call it answers")
                })?;
                Turn::Tool { tool_call_id, content: Content::of(pieces) }
            }
        };
        self.out.turns.push(turn);
        Ok(())
    }

    /// A piece, or none where it stands beside the messages or says nothing.
    fn piece(
        &mut self,
        role: Role,
        kind: &'a PartKind,
        place: impl Fn() -> String,
    ) -> Result<Option<Piece<'a>>, Fault> {
        let refuse = |why: &'static str| Err(Fault::bad_request(place(), why));
        Ok(match kind {
            PartKind::Text(text) | PartKind::Refusal(text) => {
                (!text.is_empty()).then(|| Piece::Text { text: Cow::Borrowed(text) })
            }
            PartKind::Image { .. } if !matches!(role, Role::User | Role::Tool) => {
                return refuse("this provider takes pictures from the user and from tools only");
            }
            PartKind::Image { source, detail } => {
                let url = match source {
                    Media::Inline { media_type, data } => Cow::Owned(format!("data:{media_type};base64,{data}")),
                    Media::Url(url) if self.target.media_urls => Cow::Borrowed(url.as_str()),
                    Media::Url(_) => {
                        return refuse("this target does not fetch addresses; send the data itself, as a data URL");
                    }
                    Media::FileId(_) => return refuse("this provider has no store of files; send the data itself"),
                };
                Some(Piece::ImageUrl { image_url: ImageUrl { url, detail: detail.as_deref() } })
            }
            PartKind::File { source, filename } => {
                let text = text_files::text(source).map_err(|why| Fault::bad_request(place(), why))?;
                let title = filename.as_deref().filter(|name| !name.trim().is_empty());
                if self.documents_apart && role == Role::User {
                    // Its place is its id, so that it stays the same from turn to turn.
                    let id = format!("file-{}", self.out.documents.len());
                    self.out.documents.push(Document::File { id, data: DocumentData { title, text } });
                    None
                } else {
                    Some(Piece::Text { text: Cow::Owned(text_files::inline(title, &text)) })
                }
            }
            PartKind::Audio { .. } => return refuse("this provider does not take audio"),
            PartKind::Video { .. } => return refuse("this provider does not take video"),
        })
    }
}

fn call(call: &crate::dialect::chat::ToolCall) -> ToolCall<'_> {
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    ToolCall { id: &call.id, function: CalledFunction { name: &call.name, arguments } }
}

/// The reasoning that one of Cohere's models made.
fn own(details: &[ReasoningDetail]) -> impl Iterator<Item = &ReasoningDetail> {
    details.iter().filter(|detail| detail.format.as_deref() == Some(FORMAT_COHERE))
}

fn thoughts(details: &[ReasoningDetail]) -> impl Iterator<Item = Piece<'_>> {
    own(details).filter_map(|detail| match &detail.kind {
        ReasoningKind::Text { text, .. } if !text.is_empty() => Some(Piece::Thinking { thinking: text }),
        _ => None,
    })
}

/// The plan before the calls. Clients that collect a stream without putting it together send it in pieces.
fn plan(details: &[ReasoningDetail]) -> Option<Cow<'_, str>> {
    let mut pieces = own(details).filter_map(|detail| match &detail.kind {
        ReasoningKind::Summary(text) if !text.is_empty() => Some(text.as_str()),
        _ => None,
    });
    let first = Cow::Borrowed(pieces.next()?);
    Some(pieces.fold(first, |plan, piece| plan + piece))
}
