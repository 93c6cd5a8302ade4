//! Events of the hub written as Google's stream: an answer for each piece, and one for how it ended.
//!
//! ```text
//!   ( {candidates: [one part]} )*  {candidates: [finishReason …], usageMetadata}
//! ```
//!
//! Every answer has a part, the last one an empty text: clients forget a turn in which one has none. A stream that is broken off ends with
//! an error and without a finish reason.

pub use super::framing::KEEPALIVE;

use super::framing::Framing;
use super::parts::{Call, Parts, Writer};
use super::response::{self, Head};
use crate::dialect::event::Event;
use crate::dialect::openai_chat::write;
use crate::dialect::table::Setup;
use crate::domain::Fault;
use serde_json::Value;

/// Writes one answer as a stream. A piece of text costs no allocation beyond the growth of `out`.
pub struct StreamEncoder {
    parts: Parts,
    head: Head,
    framing: Framing,
}

impl StreamEncoder {
    /// An encoder for one answer.
    pub fn new(setup: &Setup) -> Self {
        Self { parts: Parts::new(setup), head: Head::new(setup), framing: Framing::new(setup) }
    }

    /// Writes what an event means to the client.
    pub fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        let Self { parts, head, framing } = self;
        if !head.take(event) {
            parts.take(event, &mut Chunks { head, framing, out });
        }
    }

    /// How much is held of calls that are not whole, and of what their end tells, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.parts.held_bytes()
    }

    /// Ends the stream.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        let Self { parts, head, framing } = self;
        framing.begin(out);
        write::raw("{\"candidates\":[", out);
        for (place, ending) in parts.finish().iter().enumerate() {
            write::raw(if place > 0 { "," } else { "" }, out);
            response::begin_candidate(out);
            response::write_text(false, "", None, out);
            response::end_candidate(ending.index, out);
            response::write_ending(ending, out);
            write::raw("}", out);
        }
        write::raw("]", out);
        head.write(out);
        write::raw("}", out);
        framing.end(out);
        framing.close(out);
    }

    /// Ends the stream with an error and without a finish reason.
    pub fn break_off(&mut self, fault: &Fault, out: &mut Vec<u8>) {
        self.framing.break_off(fault, out);
    }
}

/// Writes each part as an answer of its own.
struct Chunks<'a> {
    head: &'a Head,
    framing: &'a mut Framing,
    out: &'a mut Vec<u8>,
}

impl Chunks<'_> {
    fn chunk(&mut self, choice: u32, part: impl FnOnce(&mut Vec<u8>), besides: impl FnOnce(&mut Vec<u8>)) {
        self.framing.begin(self.out);
        write::raw("{\"candidates\":[", self.out);
        response::begin_candidate(self.out);
        part(self.out);
        response::end_candidate(choice, self.out);
        besides(self.out);
        write::raw("}]", self.out);
        self.head.write(self.out);
        write::raw("}", self.out);
        self.framing.end(self.out);
    }
}

impl Writer for Chunks<'_> {
    fn text(&mut self, choice: u32, text: &str, signature: Option<&str>) {
        self.chunk(choice, |out| response::write_text(false, text, signature, out), |_| {});
    }

    fn thought(&mut self, choice: u32, text: &str, signature: Option<&str>) {
        self.chunk(choice, |out| response::write_text(true, text, signature, out), |_| {});
    }

    fn call(&mut self, choice: u32, call: &Call, signature: Option<&str>) {
        self.chunk(choice, |out| response::write_call(call, signature, out), |_| {});
    }

    fn image(&mut self, choice: u32, media_type: &str, data: &str) {
        self.chunk(choice, |out| response::write_image(media_type, data, out), |_| {});
    }

    fn logprobs(&mut self, choice: u32, content: &[Value]) {
        let besides = |out: &mut Vec<u8>| {
            write::key("logprobsResult", out);
            write::value(&response::logprobs_result(content), out);
        };
        self.chunk(choice, |out| response::write_text(false, "", None, out), besides);
    }
}
