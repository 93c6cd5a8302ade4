//! Reads an answer that is not streamed into events.

use crate::dialect::event::Sink;
use crate::dialect::openai_chat::response;
use crate::domain::{Fault, FaultKind};

/// Reads a whole body. Calls without an id get one that begins with `call_ids`.
///
/// # Errors
/// `Empty` for no body at all, `Malformed` or `Truncated` for anything that is no answer.
pub fn decode(body: &[u8], call_ids: &str, sink: &mut impl Sink) -> Result<(), Fault> {
    let body = body.trim_ascii();
    match body.first() {
        None => Err(Fault::new(FaultKind::Empty, "the provider's answer is empty")),
        Some(b'<') => Err(Fault::malformed("the provider sent a web page instead of an answer")),
        Some(_) => response::decode(body, call_ids, sink),
    }
}
