//! Reads an answer that is not streamed into events.

use super::answer::Answer;
use super::error;
use super::wire::Whole;
use crate::dialect::event::Sink;
use crate::domain::{Fault, FaultKind};

/// Reads a whole body. `answer_tool` is [`crate::dialect::chat::Rendered::answer_tool`].
///
/// # Errors
/// `Empty` for no body at all, `Malformed` for anything that is not an answer, and what the provider says when the body
/// is an error in spite of its status.
pub fn decode(body: &[u8], answer_tool: Option<&str>, sink: &mut impl Sink) -> Result<(), Fault> {
    let body = body.trim_ascii();
    if body.is_empty() {
        return Err(Fault::new(FaultKind::Empty, "the provider's answer is empty"));
    }
    let Ok(whole) = serde_json::from_slice::<Whole<'_>>(body) else { return Err(not_an_answer(body)) };
    let message = whole.output.as_ref().and_then(|output| output.message.as_ref());
    let Some(blocks) = message.and_then(|message| message.content.as_ref()) else { return Err(not_an_answer(body)) };
    let mut answer = Answer::new(answer_tool.map(str::to_owned));
    answer.start(sink);
    for (at, block) in (0..).zip(blocks) {
        answer.block(at, block, sink)?;
    }
    if let Some(reason) = &whole.stop_reason {
        answer.stop(&reason.0, sink);
    }
    if let Some(counts) = &whole.usage {
        answer.count(counts, sink);
    }
    Ok(())
}

fn not_an_answer(body: &[u8]) -> Fault {
    if error::is_error(body) {
        return error::parse(body).into_fault(None);
    }
    Fault::malformed(match body.first() {
        Some(b'<') => "the provider sent a page instead of an answer",
        _ if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() => {
            "the provider sent JSON that is not an answer"
        }
        _ => "the provider sent an answer that is not JSON",
    })
}
