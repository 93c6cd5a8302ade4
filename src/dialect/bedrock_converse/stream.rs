//! Reads a streamed answer (`application/vnd.amazon.eventstream`) into events.
//!
//! ```text
//!              messageStart                   messageStop
//!   Waiting ────────────────────> Open ──────────────────────> Stopped      (metadata: the counts)
//!      │   (or the first block)     │                             │
//!      └──── exception, error ──────┴────── exception, error ─────┴──> Failed
//! ```
//!
//! An answer is complete with its stop reason and a clean end of HTTP. Events that the API may add later are passed over.

use super::answer::Answer;
use super::error;
use super::wire::{Payload, Start};
use crate::dialect::event::{End, Event, Sink};
use crate::dialect::eventstream::{Message, Parser};
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
        Self { parser: Parser::new(), machine: Machine { state: State::Waiting, answer: Answer::new(answer_tool) } }
    }

    /// Takes the next bytes. An exception becomes [`Event::Error`].
    ///
    /// # Errors
    /// `Malformed` when a message is not what the format says. The reader must not be used afterwards.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        let Self { parser, machine } = self;
        parser.push(bytes, |message| machine.message(&message, sink))
    }

    /// Ends the stream. Whether the answer is complete is for the caller to see from the events: nothing is made up here.
    ///
    /// # Errors
    /// `Malformed` when HTTP ended well in the middle of a message.
    pub fn finish(&mut self, end: End, _sink: &mut impl Sink) -> Result<(), Fault> {
        if end == End::Clean && self.machine.state != State::Failed && !self.parser.pending().is_empty() {
            return Err(Fault::malformed("the provider's event stream ended inside a message"));
        }
        Ok(())
    }
}

impl Machine {
    fn message(&mut self, message: &Message<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        if self.state == State::Failed {
            return Ok(());
        }
        match message.message_type {
            "event" => {}
            "exception" | "error" => {
                self.state = State::Failed;
                sink.event(Event::Error(error::of_message(message).into_fault(None)));
                return Ok(());
            }
            _ => return Ok(()),
        }
        let name = message.name;
        let known =
            ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"];
        if !known.contains(&name) {
            return Ok(());
        }
        let Ok(payload) = serde_json::from_slice::<Payload<'_>>(message.payload) else {
            return Err(Fault::malformed(format!("the provider sent a broken {name} event")));
        };
        self.event(name, &payload, sink)
    }

    fn event(&mut self, name: &str, payload: &Payload<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        let at = payload.content_block_index;
        match name {
            "contentBlockDelta" if self.begun(sink) => {
                if let Some(delta) = &payload.delta {
                    self.answer.delta(at, delta, sink)?;
                }
            }
            "contentBlockStart" if self.begun(sink) => {
                match &payload.start {
                    Some(Start { tool_use: Some(call), .. }) => self.answer.open(at, call, sink)?,
                    Some(Start { tool_result: Some(_), .. }) => self.answer.pass_over(at, sink)?,
                    // What else a block is shows in its pieces.
                    _ => {}
                }
            }
            "contentBlockStop" if self.begun(sink) => self.answer.close(at, sink),
            "messageStart" => {
                self.begun(sink);
            }
            "messageStop" if self.begun(sink) => {
                if let Some(reason) = &payload.stop_reason {
                    self.answer.stop(&reason.0, sink);
                    self.state = State::Stopped;
                }
            }
            "metadata" => {
                self.begun(sink);
                if let Some(counts) = &payload.usage {
                    self.answer.count(counts, sink);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the message is running; one whose `messageStart` was left out begins now.
    fn begun(&mut self, sink: &mut impl Sink) -> bool {
        if self.state == State::Waiting {
            self.state = State::Open;
            self.answer.start(sink);
        }
        self.state == State::Open
    }
}
