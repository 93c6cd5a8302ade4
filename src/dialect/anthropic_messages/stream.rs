//! Reads a streamed answer (`text/event-stream`) into events.
//!
//! ```text
//!              message_start               message_delta with a stop_reason
//!   Waiting ────────────────────> Open ──────────────────────────────────────> Stopped
//!      │   (or the first block)     │                                             │
//!      └───────────── error ────────┴────────────────── error ────────────────────┴──> Failed
//! ```
//!
//! `message_stop` adds nothing: an answer is complete with its stop reason and a clean end of HTTP. Pings, comments,
//! and events and pieces that the API may add later are passed over.

use super::answer::Answer;
use super::piece::{self, Piece};
use super::wire::{self, Kind, Outline, Payload};
use super::{error, response};
use crate::dialect::event::{End, Event, Sink};
use crate::dialect::sse::{Frame, Parser};
use crate::domain::Fault;

/// The reader of one stream.
#[derive(Debug)]
pub struct Decoder {
    parser: Parser,
    machine: Machine,
}

/// The reader of whole frames.
#[derive(Debug)]
pub(super) struct Machine {
    state: State,
    answer: Answer,
    answer_tool: Option<String>,
    /// Where the escapes of a piece are resolved, kept for the next one.
    scratch: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing of the message has come.
    Waiting,
    /// The message has begun.
    Open,
    /// It has a stop reason; only counts may follow.
    Stopped,
    /// The provider said that it failed; nothing follows.
    Failed,
}

impl Decoder {
    /// A reader at the start of a stream. `answer_tool` is [`crate::dialect::chat::Rendered::answer_tool`].
    pub fn new(answer_tool: Option<String>) -> Self {
        Self { parser: Parser::new(), machine: Machine::new(answer_tool) }
    }

    /// Takes the next bytes. An `error` event becomes [`Event::Error`].
    ///
    /// # Errors
    /// `Malformed` when an event is not what the format says. The reader must not be used afterwards.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        let Self { parser, machine } = self;
        parser.push(bytes, |frame| machine.frame(&frame, sink))
    }

    /// Ends the stream. Whether the answer is complete is for the caller to see from the events: nothing is made up
    /// here.
    ///
    /// # Errors
    /// `Malformed` when a last event that lacks only its blank line is not what the format says; a whole answer that
    /// came instead of a stream may be any fault that [`response::decode`] gives.
    pub fn finish(&mut self, end: End, sink: &mut impl Sink) -> Result<(), Fault> {
        let Self { parser, machine } = self;
        match end {
            End::Clean => parser.finish(|frame| machine.frame(&frame, sink)),
            End::Cut => Ok(()),
        }
    }
}

impl Machine {
    pub fn new(answer_tool: Option<String>) -> Self {
        let answer = Answer::new(answer_tool.clone());
        Self { state: State::Waiting, answer, answer_tool, scratch: String::new() }
    }

    pub fn frame(&mut self, frame: &Frame<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        let data: &[u8] = &frame.data;
        if self.state == State::Failed || data == b"[DONE]" {
            return Ok(());
        }
        if data.is_empty() {
            return self.no_event(frame.raw, sink);
        }
        if self.state == State::Open
            && let Some(Piece { index, kind, text }) = piece::read(data, &mut self.scratch)
        {
            self.answer.piece(index, kind, text, sink);
            return Ok(());
        }
        let Ok(payload) = serde_json::from_slice::<Payload<'_>>(data) else {
            return self.misfit(frame, sink);
        };
        let kind = kind_of(wire::text(&payload.kind), frame);
        self.event(kind, &payload, data, sink)
    }

    fn event(&mut self, kind: &str, payload: &Payload<'_>, data: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        let index = payload.index.unwrap_or_default();
        match kind {
            "content_block_delta" if self.begun(sink) => {
                if let Some(delta) = &payload.delta {
                    self.answer.delta(index, delta, sink);
                }
            }
            "content_block_start" if self.begun(sink) => {
                if let Some(block) = &payload.content_block {
                    self.answer.open(index, block, sink)?;
                }
            }
            "content_block_stop" if self.begun(sink) => self.answer.close(index, sink),
            "message_start" if self.state == State::Waiting => {
                let message = payload.message.as_ref();
                self.state = State::Open;
                self.answer.start(
                    message.map_or("", |message| wire::text(&message.id)),
                    message.map_or("", |message| wire::text(&message.model)),
                    sink,
                );
                if let Some(counts) = message.and_then(|message| message.usage.as_ref()) {
                    self.answer.count(counts, sink);
                }
            }
            "message_delta" => self.message_delta(payload, sink),
            "error" => self.fail(data, sink),
            _ => {}
        }
        Ok(())
    }

    fn message_delta(&mut self, payload: &Payload<'_>, sink: &mut impl Sink) {
        let running = self.begun(sink);
        if let Some(counts) = &payload.usage {
            self.answer.count(counts, sink);
        }
        let Some(delta) = payload.delta.as_ref().filter(|_| running) else { return };
        if let Some(reason) = &delta.stop_reason {
            let refusal = delta.stop_details.as_ref().map_or("", |details| wire::text(&details.explanation));
            self.answer.stop(&reason.0, refusal, sink);
            self.state = State::Stopped;
        }
    }

    /// Whether the message is running; one whose `message_start` was left out begins now.
    fn begun(&mut self, sink: &mut impl Sink) -> bool {
        if self.state == State::Waiting {
            self.state = State::Open;
            self.answer.start("", "", sink);
        }
        self.state == State::Open
    }

    fn fail(&mut self, data: &[u8], sink: &mut impl Sink) {
        self.state = State::Failed;
        sink.event(Event::Error(error::parse(data).into_fault(None)));
    }

    /// A frame without data is a comment, or no event at all: some servers answer a streaming request with a whole
    /// answer, or an error in JSON or HTML.
    fn no_event(&mut self, raw: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        if self.state != State::Waiting {
            return Ok(());
        }
        match raw.trim_ascii().first() {
            Some(b'{') => {
                response::decode(raw, self.answer_tool.as_deref(), sink)?;
                self.state = State::Stopped;
                Ok(())
            }
            Some(b'<') => Err(Fault::malformed("the provider sent a page instead of an event stream")),
            _ => Ok(()),
        }
    }

    /// An event that does not fit: passed over when its type, or that of its block or piece, is unknown, for then its
    /// shape is unknown too.
    fn misfit(&mut self, frame: &Frame<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        let Ok(outline) = serde_json::from_slice::<Outline<'_>>(&frame.data) else {
            return Err(Fault::malformed("the provider sent an event that is not JSON"));
        };
        let kind = kind_of(wire::text(&outline.kind), frame);
        let unknown = |inner: &Option<Kind<'_>>, known: &[&str]| {
            inner.as_ref().is_some_and(|inner| !known.contains(&wire::text(&inner.kind)))
        };
        match kind {
            "error" => self.fail(&frame.data, sink),
            "content_block_start" if unknown(&outline.content_block, &wire::BLOCKS) => {
                self.begun(sink);
            }
            "content_block_delta" if unknown(&outline.delta, &wire::DELTAS) => {}
            "message_start"
            | "message_delta"
            | "content_block_start"
            | "content_block_delta"
            | "content_block_stop" => {
                return Err(Fault::malformed(format!("the provider sent a broken {kind} event")));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The type inside the data counts, as Anthropic's own SDKs have it; the SSE field stands in where a proxy left it out.
fn kind_of<'k>(inside: &'k str, frame: &Frame<'k>) -> &'k str {
    if inside.is_empty() { std::str::from_utf8(frame.event).unwrap_or_default() } else { inside }
}
