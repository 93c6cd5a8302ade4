//! The conversation, message by message: one text each, with pictures beside it.
//!
//! **Reasoning.** Thoughts without any provider's mark go back as `thinking`; those of providers that sign or mark theirs mean nothing
//! to this one and are not sent.

use super::body::{Arguments, CalledFunction, ToolCall, Turn};
use super::losses::Losses;
use crate::dialect::chat::{Media, Message, PartKind, ReasoningDetail, ReasoningKind, Request, Role};
use crate::dialect::text_files;
use crate::domain::Fault;
use std::borrow::Cow;
use std::collections::HashMap;

/// Renders all messages.
///
/// # Errors
/// `BadRequest` with the place in the client's request, for what these models cannot take at all: sound, films, documents that are not
/// text, pictures by address.
pub(super) fn render<'a>(request: &'a Request, losses: &mut Losses) -> Result<Vec<Turn<'a>>, Fault> {
    // The function of each call so far; a later call with the same id replaces an earlier one.
    let mut functions: HashMap<&str, &str> = HashMap::new();
    let mut turns = Vec::with_capacity(request.messages.len());
    for (at, message) in request.messages.iter().enumerate() {
        note_losses(message, losses)?;
        let mut turn = Turn { role: role(message.role), ..Turn::default() };
        for (part_at, part) in message.parts.iter().enumerate() {
            let place = || format!("messages[{at}].content[{part_at}]");
            match content(&part.kind, &mut turn.images).map_err(|why| Fault::bad_request(place(), why))? {
                Some(text) if turn.content.is_empty() => turn.content = text,
                Some(text) => turn.content.to_mut().push_str(&text),
                None => {}
            }
        }
        if message.role == Role::Assistant {
            turn.thinking = thoughts(&message.reasoning);
            for call in &message.tool_calls {
                functions.insert(&call.id, &call.name);
                let function = CalledFunction { name: &call.name, arguments: Arguments::of(&call.arguments) };
                turn.tool_calls.push(ToolCall { id: &call.id, function });
            }
        }
        if message.role == Role::Tool {
            turn.tool_call_id = message.tool_call_id.as_deref().filter(|id| !id.is_empty());
            let called = turn.tool_call_id.and_then(|id| functions.get(id).copied());
            turn.tool_name = called.or(message.name.as_deref());
        }
        turns.push(turn);
    }
    Ok(turns)
}

fn role(role: Role) -> &'static str {
    match role {
        Role::System | Role::Developer => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

fn note_losses(message: &Message, losses: &mut Losses) -> Result<(), Fault> {
    let detailed = |kind: &PartKind| matches!(kind, PartKind::Image { detail: Some(word), .. } if word != "auto");
    let marked = message.cache_control.is_some() || message.parts.iter().any(|part| part.cache_control.is_some());
    for (asked, name, why) in [
        (
            message.name.is_some() && message.role != Role::Tool,
            "messages.name",
            "this provider has no names of participants",
        ),
        (marked, "cache_control", "this provider decides by itself what it caches"),
        (
            message.parts.iter().any(|part| detailed(&part.kind)),
            "image_url.detail",
            "this provider chooses the detail of a picture by itself",
        ),
    ] {
        if asked {
            losses.drop(name, why)?;
        }
    }
    Ok(())
}

/// The text of a part; a picture goes to the pictures.
fn content<'a>(kind: &'a PartKind, images: &mut Vec<&'a str>) -> Result<Option<Cow<'a, str>>, &'static str> {
    match kind {
        PartKind::Text(text) | PartKind::Refusal(text) => Ok(Some(Cow::Borrowed(text))),
        PartKind::Image { source: Media::Inline { data, .. }, .. } => {
            images.push(data);
            Ok(None)
        }
        PartKind::Image { .. } => Err("this provider does not fetch pictures; send the data itself, as a data URL"),
        PartKind::File { source, filename } => {
            let text = text_files::text(source)?;
            Ok(Some(Cow::Owned(text_files::inline(filename.as_deref(), &text))))
        }
        PartKind::Audio { .. } => Err("this provider does not take audio"),
        PartKind::Video { .. } => Err("this provider does not take video"),
    }
}

/// The thoughts that no provider has marked as its own.
fn thoughts(details: &[ReasoningDetail]) -> Cow<'_, str> {
    let plain = details.iter().filter_map(|detail| match (&detail.kind, detail.format.as_deref()) {
        (ReasoningKind::Text { text, signature: None }, None | Some("" | "unknown")) => Some(text.as_str()),
        _ => None,
    });
    plain.fold(
        Cow::Borrowed(""),
        |thoughts, text| {
            if thoughts.is_empty() { Cow::Borrowed(text) } else { thoughts + text }
        },
    )
}
