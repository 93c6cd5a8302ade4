//! Reads a streamed answer into events.
//!
//! ```text
//!             first byte
//!   Start ── `{` or `[` ──────> Whole ──finish──> read as an answer that is not streamed
//!     │
//!     └────── anything else ──> Frames ── [DONE], or an error ──> Done
//! ```

use super::delta::Deltas;
use super::response;
use crate::dialect::event::{End, Event, Sink};
use crate::dialect::openai_chat::calls::call_ids;
use crate::dialect::openai_chat::error;
use crate::dialect::sse::{Frame, Parser};
use crate::domain::{Fault, FaultKind};

/// The reader of one stream.
pub struct Decoder {
    state: State,
    deltas: Deltas,
    call_ids: String,
    /// `[DONE]` or an error has come.
    done: bool,
    /// How many choices were asked for.
    choices: u32,
}

enum State {
    /// Nothing but white space has come.
    Start,
    /// A whole answer, although a stream was asked for.
    Whole(Vec<u8>),
    /// A stream.
    Frames(Parser),
}

impl Decoder {
    /// A reader at the start of a stream of so many choices; `id` is the answer's, of which the ids of calls are made that the provider
    /// gives none.
    pub fn new(id: &str, choices: u32) -> Self {
        let call_ids = call_ids(id);
        Self { state: State::Start, deltas: Deltas::new(call_ids.clone()), call_ids, done: false, choices }
    }

    /// How much is held of an answer that came whole, in bytes.
    pub fn held_bytes(&self) -> usize {
        match &self.state {
            State::Whole(body) => body.len(),
            State::Start | State::Frames(_) => 0,
        }
    }

    /// Takes the next bytes. An error in-band becomes [`Event::Error`].
    ///
    /// # Errors
    /// `Malformed` when this is no stream of chunks.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        let bytes = if let State::Start = self.state {
            let Some(start) = bytes.iter().position(|byte| !byte.is_ascii_whitespace()) else { return Ok(()) };
            self.state = match bytes[start] {
                b'{' | b'[' => State::Whole(Vec::new()),
                b'<' => return Err(page()),
                _ => State::Frames(Parser::new()),
            };
            &bytes[start..]
        } else {
            bytes
        };
        let Self { state, deltas, done, .. } = self;
        match state {
            State::Start => Ok(()),
            State::Whole(body) => {
                body.extend_from_slice(bytes);
                Ok(())
            }
            State::Frames(parser) => parser.push(bytes, |frame| take(&frame, deltas, done, sink)),
        }
    }

    /// Ends the stream. Whether the answer is complete is for the caller to see from the events.
    ///
    /// # Errors
    /// `Malformed` or `Truncated` when what came last is no chunk, or a whole answer is none.
    pub fn finish(&mut self, end: End, sink: &mut impl Sink) -> Result<(), Fault> {
        let Self { state, deltas, done, call_ids, choices } = self;
        let broken = || Fault::new(FaultKind::Truncated, "the provider's answer broke off");
        match state {
            State::Frames(parser) if end == End::Clean => {
                parser.finish(|frame| take(&frame, deltas, done, sink).map_err(|_| broken()))?;
                // Without `[DONE]` nobody has said that there is no further choice.
                let missing = !*done && deltas.has_begun() && deltas.finished() < *choices;
                if missing { Err(broken()) } else { Ok(()) }
            }
            State::Whole(body) if end == End::Clean => response::decode(body, call_ids, sink),
            State::Start | State::Frames(_) | State::Whole(_) => Ok(()),
        }
    }
}

fn take(frame: &Frame<'_>, deltas: &mut Deltas, done: &mut bool, sink: &mut impl Sink) -> Result<(), Fault> {
    let data = frame.data.trim_ascii();
    if *done {
        return Ok(());
    }
    if data.is_empty() {
        return without_data(frame, done, sink);
    }
    if data == b"[DONE]" {
        *done = true;
        return Ok(());
    }
    if let Some(over) = deltas.chunk(frame.event, data, sink) {
        *done = over;
        return Ok(());
    }
    // Some separate their events by one line feed instead of two: then each line is a chunk.
    if !data.contains(&b'\n') {
        return Err(Fault::malformed("the provider sent an event that is not JSON"));
    }
    for line in data.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        let lone = Frame { event: frame.event, data: std::borrow::Cow::Borrowed(line), raw: b"" };
        take(&lone, deltas, done, sink)?;
    }
    Ok(())
}

/// A comment says nothing. A body that is no event at all must not be taken for one.
fn without_data(frame: &Frame<'_>, done: &mut bool, sink: &mut impl Sink) -> Result<(), Fault> {
    let raw = frame.raw.trim_ascii();
    match raw.first() {
        Some(b'<') => Err(page()),
        Some(b'{') => {
            *done = true;
            sink.event(Event::Error(error::parse(raw).into_fault(None)));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn page() -> Fault {
    Fault::malformed("the provider sent a web page instead of an answer")
}
