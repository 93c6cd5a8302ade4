//! Anthropic's answer on its way to a client of its own format: the bytes pass, watched.
//!
//! [`State`] says how far it has come. Frames are forwarded one by one as they came, pings and comments too, but for two: an `error` ends the attempt, and `message_stop` waits
//! for the end of HTTP, so that a stream that is cut behind it does not look complete.

use super::{error, stream};
use crate::dialect::anthropic_messages::response;
use crate::dialect::anthropic_messages::stream::Machine;
use crate::dialect::anthropic_messages::wire::{self, Outline};
use crate::dialect::event::{End, Event, Observed};
use crate::dialect::flowing::truncated;
use crate::dialect::passing::{Passing, State};
use crate::dialect::sse::Frame;
use crate::dialect::table::Setup;
use crate::domain::Fault;
use memchr::memmem;
use std::sync::LazyLock;

static STOP: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("message_stop"));

/// Passes one answer on.
pub struct Passthrough {
    passing: Passing,
    frames: Frames,
    /// Used where the provider answers a stream's request with a whole answer.
    setup: Setup,
}

struct Frames {
    watch: Machine,
    /// Whether something was forwarded that only `message_stop` completes.
    begun: bool,
    /// `message_stop` as it came, with whatever came behind it.
    stop: Vec<u8>,
}

impl Passthrough {
    /// The machine for an answer.
    pub fn new(setup: &Setup) -> Self {
        Self {
            passing: Passing::new(setup.stream),
            frames: Frames { watch: Machine::new(None), begun: false, stop: Vec::new() },
            setup: setup.clone(),
        }
    }

    /// How much of an answer that is not streamed is held, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.passing.body.len()
    }

    /// Lets a whole answer that grows too large to be held pass as it comes, and appends what was held; its usage is not read then.
    /// `false` where the client wants a stream.
    pub fn let_flow(&mut self, observed: &mut Observed, out: &mut Vec<u8>) -> bool {
        !self.setup.stream && self.passing.let_flow(observed, out)
    }

    /// Takes the provider's next bytes and appends what the client gets.
    ///
    /// # Errors
    /// `Malformed` when this is no stream of events. What the provider says in-band goes to `observed.error`.
    pub fn push(&mut self, bytes: &[u8], observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.passing.push(bytes, out, |frame, out| self.frames.frame(frame, observed, out))
    }

    /// Ends the answer: a held one is checked and appended.
    ///
    /// # Errors
    /// `Empty`, `Truncated` or `Malformed` when what was held is no answer, or what the provider says in it.
    pub fn finish(&mut self, end: End, observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        match &mut self.passing.state {
            State::Start | State::Done => Ok(()),
            State::Frames(parser) if end == End::Clean => {
                parser.finish(|frame| self.frames.frame(&frame, observed, out))
            }
            State::Frames(_) => Ok(()),
            State::Flowing(flowing) => flowing.finish(end, observed),
            State::Whole if end == End::Cut => Err(truncated()),
            State::Whole if self.setup.stream => {
                let mut encoder = stream::StreamEncoder::new(&self.setup);
                response::decode(&self.passing.body, None, &mut |event: Event<'_>| {
                    observed.note(&event);
                    encoder.write(&event, out);
                })?;
                if observed.is_finished() {
                    encoder.close(out);
                }
                Ok(())
            }
            State::Whole => {
                response::decode(&self.passing.body, None, &mut |event: Event<'_>| observed.note(&event))?;
                out.extend_from_slice(self.passing.body.trim_ascii());
                Ok(())
            }
        }
    }

    /// Appends what ends a stream.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if !self.frames.stop.is_empty() {
            out.append(&mut self.frames.stop);
        } else if self.frames.begun {
            out.extend_from_slice(stream::MESSAGE_STOP);
        }
    }

    /// Appends the error that ends a stream which had already begun at the client. A whole answer is never begun.
    pub fn break_off(&mut self, fault: &Fault, out: &mut Vec<u8>) {
        if self.setup.stream {
            error::write_event(fault, out);
        }
    }
}

impl Frames {
    fn frame(&mut self, frame: &Frame<'_>, observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        if observed.error.is_some() {
            return Ok(());
        }
        self.watch.frame(frame, &mut |event: Event<'_>| observed.note(&event))?;
        if observed.error.is_some() || frame.data.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        // What server tools do is output too, though it is nothing that a client of another format would see.
        observed.output = observed.output || opens_other(&frame.data);
        self.begun |= !frame.data.is_empty();
        let out = if is_stop(frame) || !self.stop.is_empty() { &mut self.stop } else { out };
        out.extend_from_slice(frame.raw);
        if !frame.raw.ends_with(b"\n") && !frame.raw.ends_with(b"\r") {
            out.extend_from_slice(b"\n\n");
        }
        Ok(())
    }
}

fn is_stop(frame: &Frame<'_>) -> bool {
    // Nearly every frame is another, so it is parsed only when the word is there.
    let says = |text: &[u8]| STOP.find(text).is_some() && kind(text).as_deref() == Some("message_stop");
    frame.event == b"message_stop" || (frame.event.is_empty() && says(&frame.data))
}

fn kind(data: &[u8]) -> Option<String> {
    let outline: Outline<'_> = serde_json::from_slice(data).ok()?;
    outline.kind.map(|kind| kind.0.into_owned())
}

/// Whether a block begins that the hub has no event for.
fn opens_other(data: &[u8]) -> bool {
    let Ok(outline) = serde_json::from_slice::<Outline<'_>>(data) else { return false };
    let block = outline.content_block.as_ref().map_or("", |block| wire::text(&block.kind));
    wire::text(&outline.kind) == "content_block_start" && !block.is_empty() && !wire::BLOCKS.contains(&block)
}
