//! Reads an answer that is not streamed into events.

use super::answer::Answer;
use super::error;
use super::wire::{self, Block, Kind, Message};
use crate::dialect::event::Sink;
use crate::domain::{Fault, FaultKind};

/// Reads a whole body. `answer_tool` is [`crate::dialect::chat::Rendered::answer_tool`].
///
/// # Errors
/// `Empty` for no body at all, `Malformed` for anything that is not a message, and what the provider says when the body
/// is an error in spite of its status.
pub fn decode(body: &[u8], answer_tool: Option<&str>, sink: &mut impl Sink) -> Result<(), Fault> {
    let body = body.trim_ascii();
    if body.is_empty() {
        return Err(Fault::new(FaultKind::Empty, "the provider's answer is empty"));
    }
    let message: Message<'_> = match serde_json::from_slice(body) {
        Ok(message) => message,
        Err(_) => return Err(not_a_message(body)),
    };
    let Some(blocks) = message.content.as_ref().filter(|_| wire::text(&message.kind) != "error") else {
        return Err(not_a_message(body));
    };
    let mut answer = Answer::new(answer_tool.map(str::to_owned));
    answer.start(wire::text(&message.id), wire::text(&message.model), sink);
    for (at, raw) in (0..).zip(blocks) {
        answer.open(at, &block(raw.get())?, sink)?;
        answer.close(at, sink);
    }
    if let Some(counts) = &message.usage {
        answer.count(counts, sink);
    }
    if let Some(reason) = &message.stop_reason {
        let refusal = message.stop_details.as_ref().map_or("", |details| wire::text(&details.explanation));
        answer.stop(&reason.0, refusal, sink);
    }
    Ok(())
}

/// Reads one block. One that does not fit is passed over when its type is unknown, for then its shape is unknown too.
fn block(json: &str) -> Result<Block<'_>, Fault> {
    serde_json::from_str(json).or_else(|_| match serde_json::from_str::<Kind<'_>>(json) {
        Ok(named) if !wire::BLOCKS.contains(&wire::text(&named.kind)) => Ok(Block::default()),
        _ => Err(Fault::malformed("the provider sent a broken content block")),
    })
}

fn not_a_message(body: &[u8]) -> Fault {
    if error::is_error(body) {
        return error::parse(body).into_fault(None);
    }
    let what = match body.first() {
        Some(b'<') => "the provider sent a page instead of an answer",
        _ if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() => {
            "the provider sent JSON that is not a message"
        }
        _ => "the provider sent an answer that is not JSON",
    };
    Fault::malformed(what)
}
