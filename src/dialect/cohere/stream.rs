//! Reads a streamed answer (`text/event-stream`) into events.
//!
//! ```text
//!              message-start              message-end
//!   Waiting ───────────────────> Open ───────────────────> Ended
//!      │   (or the first part)     │                         ^
//!      └────── an error ───────────┴──────── an error ───────┘
//! ```
//!
//! Starts and ends of contents, calls and citations say nothing that their pieces do not. `[DONE]`, comments, and events that the API
//! may add later are passed over.

use super::answer::Answer;
use super::wire::{self, Outline, Payload};
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

#[derive(Debug)]
struct Machine {
    state: State,
    answer: Answer,
    answer_tool: Option<String>,
    call_ids: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing of the message has come.
    Waiting,
    /// The message has begun.
    Open,
    /// It has a finish reason, or the provider said that it failed; nothing follows.
    Ended,
}

impl Decoder {
    /// A reader at the start of a stream. `answer_tool` is [`crate::dialect::chat::Rendered::answer_tool`]; calls without an id get one
    /// that begins with `call_ids`.
    pub fn new(answer_tool: Option<String>, call_ids: &str) -> Self {
        let answer = Answer::new(answer_tool.clone(), call_ids);
        let machine = Machine { state: State::Waiting, answer, answer_tool, call_ids: call_ids.to_owned() };
        Self { parser: Parser::new(), machine }
    }

    /// Takes the next bytes. An error becomes [`Event::Error`].
    ///
    /// # Errors
    /// `Malformed` when an event is not what the format says. The reader must not be used afterwards.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        let Self { parser, machine } = self;
        parser.push(bytes, |frame| machine.frame(&frame, sink))
    }

    /// Ends the stream. Whether the answer is complete is for the caller to see from the events: nothing is made up here.
    ///
    /// # Errors
    /// `Malformed` when a last event that lacks only its blank line is not what the format says; a whole answer that came instead of a
    /// stream may be any fault that [`response::decode`] gives.
    pub fn finish(&mut self, end: End, sink: &mut impl Sink) -> Result<(), Fault> {
        let Self { parser, machine } = self;
        match end {
            End::Clean => parser.finish(|frame| machine.frame(&frame, sink)),
            End::Cut => Ok(()),
        }
    }
}

impl Machine {
    fn frame(&mut self, frame: &Frame<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        let data: &[u8] = &frame.data;
        if self.state == State::Ended || data == b"[DONE]" {
            return Ok(());
        }
        if data.is_empty() {
            return self.no_event(frame.raw, sink);
        }
        let Ok(payload) = serde_json::from_slice::<Payload<'_>>(data) else {
            return self.misfit(frame, sink);
        };
        let kind = kind_of(wire::text(&payload.kind), frame);
        if kind.is_empty() && error::is_error(data) {
            self.fail(data, sink);
            return Ok(());
        }
        self.event(kind, &payload, sink)
    }

    fn event(&mut self, kind: &str, payload: &Payload<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        if kind == "message-start" {
            self.begin(wire::text(&payload.id), sink);
            return Ok(());
        }
        let known = ["content-", "tool-", "citation-", "message-end"];
        if !known.iter().any(|beginning| kind.starts_with(beginning)) {
            return Ok(());
        }
        self.begin("", sink);
        let Some(delta) = &payload.delta else { return Ok(()) };
        let index = payload.index.unwrap_or_default();
        if kind == "message-end" {
            if let Some(reason) = &delta.finish_reason {
                self.state = State::Ended;
                let message: Option<String> = delta.error.and_then(|raw| serde_json::from_str(raw.get()).ok());
                let failure = (message.as_deref().unwrap_or_default(), wire::text(&delta.error_type));
                self.answer.end(&reason.0, delta.usage, failure, sink);
            }
            return Ok(());
        }
        let Some(added) = &delta.message else { return Ok(()) };
        match kind {
            "content-start" | "content-delta" => {
                if let Some(content) = &added.content {
                    self.answer.thoughts(index, wire::text(&content.thinking), sink)?;
                    self.answer.text(index, wire::text(&content.text), sink)?;
                }
                if let Some(logprobs) = payload.logprobs {
                    self.answer.logprobs(logprobs, sink);
                }
            }
            "tool-plan-delta" => self.answer.plan(wire::text(&added.tool_plan), sink),
            "tool-call-start" | "tool-call-delta" => {
                let Some(call) = &added.tool_calls else { return Ok(()) };
                let function = call.function.as_ref();
                if kind == "tool-call-start" {
                    let name = function.map_or("", |function| wire::text(&function.name));
                    self.answer.call(index, wire::text(&call.id), name, sink)?;
                }
                self.answer.arguments(index, function.map_or("", |function| wire::text(&function.arguments)), sink);
            }
            "citation-start" => {
                if let Some(citations) = added.citations {
                    self.answer.cite(citations, sink);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The message begins, by its own event or, where that was left out, with its first part.
    fn begin(&mut self, id: &str, sink: &mut impl Sink) {
        if self.state == State::Waiting {
            self.state = State::Open;
            self.answer.start(id, sink);
        }
    }

    fn fail(&mut self, data: &[u8], sink: &mut impl Sink) {
        self.state = State::Ended;
        sink.event(Event::Error(error::parse(data).into_fault(None)));
    }

    /// A frame without data is a comment, or no event at all: some servers answer a streaming request with a whole answer, or an error
    /// in JSON or HTML.
    fn no_event(&mut self, raw: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        if self.state != State::Waiting {
            return Ok(());
        }
        match raw.trim_ascii().first() {
            Some(b'{') => {
                self.state = State::Ended;
                response::decode(raw, self.answer_tool.as_deref(), &self.call_ids, sink)
            }
            Some(b'<') => Err(Fault::malformed("the provider sent a page instead of an event stream")),
            _ => Ok(()),
        }
    }

    /// An event that does not fit. The start of a message counts for its id alone, an error for its message, and one of a type that is
    /// unknown is passed over, for then its shape is unknown too.
    fn misfit(&mut self, frame: &Frame<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        let Ok(outline) = serde_json::from_slice::<Outline<'_>>(&frame.data) else {
            return Err(Fault::malformed("the provider sent an event that is not JSON"));
        };
        match kind_of(wire::text(&outline.kind), frame) {
            "message-start" => self.begin(wire::text(&outline.id), sink),
            "" if outline.message.is_some() => self.fail(&frame.data, sink),
            kind @ ("content-start" | "content-delta" | "tool-plan-delta" | "tool-call-start" | "tool-call-delta"
            | "message-end") => {
                return Err(Fault::malformed(format!("the provider sent a broken {kind} event")));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The type inside the data counts; the SSE field stands in where a proxy left it out.
fn kind_of<'k>(inside: &'k str, frame: &Frame<'k>) -> &'k str {
    if inside.is_empty() { std::str::from_utf8(frame.event).unwrap_or_default() } else { inside }
}
