//! Streamed answers of `streamGenerateContent`: server-sent events with `alt=sse` (LF or CRLF), else a JSON array.
//!
//! ```text
//!              first byte
//!   Unknown ──'{' or '['──> Documents
//!      ├──────any other───> Events
//!      └────────'<'───────> Malformed    (an HTML page)
//! ```
//!
//! In the middle of an event stream an error may come as bare JSON without `data:`; Google's own clients expect it there too.

use super::answer::Answer;
use super::documents::Documents;
use crate::dialect::event::{End, Sink};
use crate::dialect::sse::{Frame, Parser};
use crate::domain::Fault;

/// Reads one streamed answer.
#[derive(Debug)]
pub struct Decoder {
    framing: Framing,
    answer: Answer,
}

#[derive(Debug)]
enum Framing {
    Unknown,
    Events(Parser),
    Documents(Documents),
}

impl Decoder {
    /// The decoder of an answer; `answer_tool` is [`crate::dialect::chat::Rendered::answer_tool`].
    pub fn new(answer_tool: Option<String>) -> Self {
        Self::of(Answer::new(answer_tool))
    }

    /// The decoder around a machine.
    pub(super) fn of(answer: Answer) -> Self {
        Self { framing: Framing::Unknown, answer }
    }

    /// Takes the next bytes, cut anywhere.
    ///
    /// # Errors
    /// `Malformed`; the decoder must not be used afterwards.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        let Self { framing, answer } = self;
        if let Framing::Unknown = framing {
            match bytes.trim_ascii_start().first() {
                None => return Ok(()),
                Some(b'{' | b'[') => *framing = Framing::Documents(Documents::default()),
                Some(b'<') => return Err(Fault::malformed("the provider sent a page instead of an answer")),
                Some(_) => *framing = Framing::Events(Parser::new()),
            }
        }
        match framing {
            Framing::Unknown => Ok(()),
            Framing::Events(parser) => parser.push(bytes, |frame| event(answer, &frame, sink)),
            Framing::Documents(documents) => documents.push(bytes, |document| answer.take(document, sink)),
        }
    }

    /// Ends the answer. The finish reasons are told here and only after a clean end, because more may follow the first one.
    ///
    /// # Errors
    /// `Malformed` when the last event cannot be read, `Truncated` when the JSON is not closed or some choices are unfinished.
    pub fn finish(&mut self, end: End, sink: &mut impl Sink) -> Result<(), Fault> {
        let Self { framing, answer } = self;
        if end == End::Cut {
            return Ok(());
        }
        match framing {
            Framing::Unknown => {}
            Framing::Events(parser) => parser.finish(|frame| event(answer, &frame, sink))?,
            Framing::Documents(documents) => documents.finish()?,
        }
        answer.finish(sink)
    }
}

fn event(answer: &mut Answer, frame: &Frame<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
    let data = frame.data.as_ref();
    if data.is_empty() {
        let bare = frame.raw.trim_ascii();
        return if bare.starts_with(b"{") { answer.take(bare, sink) } else { Ok(()) };
    }
    // Google sends no end mark; servers that imitate it may.
    if data.trim_ascii() == b"[DONE]" { Ok(()) } else { answer.take(data, sink) }
}
