//! Unary answers of `generateContent`.

use super::answer::Answer;
use super::stream::Decoder;
use crate::dialect::event::{End, Sink};
use crate::domain::{Fault, FaultKind};

/// Reads a whole answer. A body that is a stream or an array of pieces is read as such.
///
/// # Errors
/// `Empty` without any byte, `Malformed` when it is not Google's JSON, `Truncated` when it stops inside. A refused prompt and an error
/// object become an error event.
pub fn decode(body: &[u8], answer_tool: Option<&str>, sink: &mut impl Sink) -> Result<(), Fault> {
    read(body, Answer::new(answer_tool.map(str::to_owned)), sink)
}

/// Reads a whole answer into a machine.
///
/// # Errors
/// As [`decode`].
pub(super) fn read(body: &[u8], mut answer: Answer, sink: &mut impl Sink) -> Result<(), Fault> {
    match body.trim_ascii_start().first() {
        None => Err(Fault::new(FaultKind::Empty, "the provider's answer is empty")),
        Some(b'{') => {
            answer.take(body, sink)?;
            answer.finish(sink)
        }
        Some(_) => {
            let mut decoder = Decoder::of(answer);
            decoder.push(body, sink)?;
            decoder.finish(End::Clean, sink)
        }
    }
}
