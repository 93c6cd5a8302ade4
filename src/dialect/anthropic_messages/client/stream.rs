//! Events of the hub written as Anthropic's stream.
//!
//! ```text
//!   message_start  ( content_block_start  content_block_delta*  content_block_stop )*  message_delta  message_stop
//! ```
//!
//! `message_start` is written with the first block, so that it has the input tokens where the provider counts them early, else an estimate;
//! the `message_delta` at the end has all counts, as Anthropic's own does. A stream that is broken off ends with an `error` event.

use super::blocks::{Blocks, Writer};
use super::error;
use super::response::write_usage;
use crate::dialect::event::Event;
use crate::dialect::openai_chat::write;
use crate::dialect::table::Setup;
use crate::domain::{Fault, Usage};

/// What says that a stream is alive.
pub const PING: &[u8] = b"event: ping\ndata: {\"type\": \"ping\"}\n\n";

/// What ends a stream.
pub(super) const MESSAGE_STOP: &[u8] = b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

/// Writes one answer as a stream. A piece of text costs no allocation beyond the growth of `out`.
pub struct StreamEncoder {
    blocks: Blocks,
    head: Head,
    /// How many blocks have begun.
    begun: u64,
}

/// What `message_start` says.
struct Head {
    id: String,
    model: String,
    /// What the provider has counted.
    usage: Option<Usage>,
    /// Its input by estimate, until then: agents that reckon with this event would take none for a free one.
    input_tokens: u64,
    written: bool,
}

impl StreamEncoder {
    /// An encoder for one answer.
    pub fn new(setup: &Setup) -> Self {
        let (id, model) = (setup.id.to_string(), setup.model.to_string());
        Self {
            blocks: Blocks::default(),
            head: Head { id, model, usage: None, input_tokens: setup.input_tokens, written: false },
            begun: 0,
        }
    }

    /// Writes what an event means to the client.
    pub fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model } => {
                for (text, kept) in [(id, &mut self.head.id), (model, &mut self.head.model)] {
                    if !text.is_empty() {
                        (*text).clone_into(kept);
                    }
                }
            }
            Event::Usage(usage) => self.head.usage = Some(*usage),
            event => {
                let Self { blocks, head, begun } = self;
                blocks.take(event, &mut Frames { head, begun, out });
            }
        }
    }

    /// How much waits for the block before it, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.blocks.held_bytes()
    }

    /// Ends the stream.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        let Self { blocks, head, begun } = self;
        let stop_reason = blocks.finish(&mut Frames { head, begun, out: &mut *out });
        head.write(out);
        write::raw("event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{", out);
        write::string_member("stop_reason", &stop_reason, out);
        write::raw(",\"stop_sequence\":null},\"usage\":", out);
        write_usage(&head.usage.unwrap_or_default(), out);
        write::raw("}\n\n", out);
        out.extend_from_slice(MESSAGE_STOP);
    }

    /// Ends the stream with an error and without `message_stop`.
    pub fn break_off(&mut self, fault: &Fault, out: &mut Vec<u8>) {
        error::write_event(fault, out);
    }
}

impl Head {
    fn write(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        write::raw("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{", out);
        write::string_member("id", &self.id, out);
        write::raw(",\"type\":\"message\",\"role\":\"assistant\"", out);
        write::string_member("model", &self.model, out);
        write::raw(",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":", out);
        let estimate = || Usage { prompt_tokens: self.input_tokens, ..Usage::default() };
        write_usage(&Usage { completion_tokens: 0, ..self.usage.unwrap_or_else(estimate) }, out);
        write::raw("}}\n\n", out);
    }
}

/// Writes blocks as events.
struct Frames<'a> {
    head: &'a mut Head,
    begun: &'a mut u64,
    out: &'a mut Vec<u8>,
}

impl Frames<'_> {
    fn begin(&mut self, block: impl FnOnce(&mut Vec<u8>)) {
        self.head.write(self.out);
        write::raw("event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":", self.out);
        write::number(*self.begun, self.out);
        *self.begun += 1;
        write::raw(",\"content_block\":{", self.out);
        block(self.out);
        write::raw("}}\n\n", self.out);
    }

    fn delta(&mut self, kind: &str, member: &str, text: &str) {
        write::raw("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":", self.out);
        write::number(self.begun.saturating_sub(1), self.out);
        write::raw(",\"delta\":{", self.out);
        write::string_member("type", kind, self.out);
        write::string_member(member, text, self.out);
        write::raw("}}\n\n", self.out);
    }
}

impl Writer for Frames<'_> {
    fn text_begins(&mut self) {
        self.begin(|out| write::raw("\"type\":\"text\",\"text\":\"\"", out));
    }

    fn thinking_begins(&mut self) {
        self.begin(|out| write::raw("\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"", out));
    }

    fn redacted(&mut self, data: &str) {
        self.begin(|out| {
            write::string_member("type", "redacted_thinking", out);
            write::string_member("data", data, out);
        });
    }

    fn call_begins(&mut self, id: &str, name: &str) {
        self.begin(|out| {
            write::string_member("type", "tool_use", out);
            write::string_member("id", id, out);
            write::string_member("name", name, out);
            write::raw(",\"input\":{}", out);
        });
    }

    fn text(&mut self, text: &str) {
        self.delta("text_delta", "text", text);
    }

    fn thinking(&mut self, text: &str) {
        self.delta("thinking_delta", "thinking", text);
    }

    fn signature(&mut self, signature: &str) {
        self.delta("signature_delta", "signature", signature);
    }

    fn input(&mut self, json: &str) {
        self.delta("input_json_delta", "partial_json", json);
    }

    fn stopped(&mut self) {
        write::raw("event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":", self.out);
        write::number(self.begun.saturating_sub(1), self.out);
        write::raw("}\n\n", self.out);
    }
}
