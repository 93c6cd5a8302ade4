//! Reads an answer that is not streamed into events.

use super::answer::Answer;
use crate::dialect::event::Sink;
use crate::domain::{Fault, FaultKind};

/// Reads a whole body; one that is a stream all the same is read as such. Calls without an id get one that begins with `call_ids`.
///
/// # Errors
/// `Empty` for no body at all, `Malformed` for anything that is not an answer. An error object becomes an error event.
pub fn decode(body: &[u8], call_ids: &str, sink: &mut impl Sink) -> Result<(), Fault> {
    match body.trim_ascii_start().first() {
        None => Err(Fault::new(FaultKind::Empty, "the provider's answer is empty")),
        Some(b'<') => Err(Fault::malformed("the provider sent a page instead of an answer")),
        Some(_) => Answer::new(call_ids).take(body, sink),
    }
}
