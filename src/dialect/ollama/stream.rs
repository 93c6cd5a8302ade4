//! Reads a streamed answer (`application/x-ndjson`) into events.
//!
//! An answer is complete with the line that says `done` and a clean end of HTTP; what follows that line says nothing.

use super::answer::Answer;
use crate::dialect::event::{End, Sink};
use crate::dialect::ndjson::Lines;
use crate::domain::Fault;

/// The reader of one stream.
#[derive(Debug)]
pub struct Decoder {
    lines: Lines,
    answer: Answer,
}

impl Decoder {
    /// A reader at the start of a stream. Calls without an id get one that begins with `call_ids`.
    pub fn new(call_ids: &str) -> Self {
        Self { lines: Lines::new(), answer: Answer::new(call_ids) }
    }

    /// Takes the next bytes, cut anywhere. An error becomes [`crate::dialect::event::Event::Error`].
    ///
    /// # Errors
    /// `Malformed` when a line is not what the format says. The reader must not be used afterwards.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        let Self { lines, answer } = self;
        lines.push(bytes, |line| take(answer, line, sink))
    }

    /// Ends the stream. Whether the answer is complete is for the caller to see from the events: nothing is made up here.
    ///
    /// # Errors
    /// `Malformed` when a last line that lacks only its end is not what the format says.
    pub fn finish(&mut self, end: End, sink: &mut impl Sink) -> Result<(), Fault> {
        let Self { lines, answer } = self;
        match end {
            End::Clean => lines.finish(|line| take(answer, line, sink)),
            End::Cut => Ok(()),
        }
    }
}

fn take(answer: &mut Answer, line: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
    if line.starts_with(b"<") {
        return Err(Fault::malformed("the provider sent a page instead of an answer"));
    }
    answer.take(line, sink)
}
