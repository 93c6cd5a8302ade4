//! Events of the hub put together to a whole `message`.

use super::blocks::{Blocks, Writer};
use crate::dialect::event::Event;
use crate::dialect::openai_chat::write;
use crate::dialect::table::Setup;
use crate::domain::Usage;
use serde_json::value::RawValue;

/// Puts the events of one answer together. It takes them in the same order as the stream's encoder, block by block, so that both give the
/// same message.
pub struct UnaryEncoder {
    blocks: Blocks,
    id: String,
    model: String,
    usage: Usage,
    content: Content,
}

impl UnaryEncoder {
    /// An encoder for one answer.
    pub fn new(setup: &Setup) -> Self {
        Self {
            blocks: Blocks::default(),
            id: setup.id.to_string(),
            model: setup.model.to_string(),
            usage: Usage::default(),
            content: Content::default(),
        }
    }

    /// Takes one event.
    pub fn add(&mut self, event: &Event<'_>) {
        match event {
            Event::Start { id, model } => {
                for (text, kept) in [(id, &mut self.id), (model, &mut self.model)] {
                    if !text.is_empty() {
                        (*text).clone_into(kept);
                    }
                }
            }
            Event::Usage(usage) => self.usage = *usage,
            event => self.blocks.take(event, &mut self.content),
        }
    }

    /// Writes the answer.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        let stop_reason = self.blocks.finish(&mut self.content);
        write::raw("{", out);
        write::string_member("id", &self.id, out);
        write::raw(",\"type\":\"message\",\"role\":\"assistant\"", out);
        write::string_member("model", &self.model, out);
        write::raw(",\"content\":[", out);
        out.extend_from_slice(&self.content.written);
        write::raw("]", out);
        write::string_member("stop_reason", &stop_reason, out);
        write::raw(",\"stop_sequence\":null,\"usage\":", out);
        write_usage(&self.usage, out);
        write::raw("}", out);
    }
}

/// The blocks as JSON; of the open one the pieces are kept apart until it is whole.
#[derive(Default)]
struct Content {
    written: Vec<u8>,
    /// The open block up to the member that comes in pieces.
    kind: Kind,
    pieces: String,
    signature: String,
}

#[derive(Default)]
enum Kind {
    #[default]
    Text,
    Thinking,
    /// It is written already.
    Redacted,
    Call,
}

impl Content {
    fn begin(&mut self, kind: Kind) {
        if !self.written.is_empty() {
            self.written.push(b',');
        }
        self.kind = kind;
        self.pieces.clear();
        self.signature.clear();
        self.written.push(b'{');
    }
}

impl Writer for Content {
    fn text_begins(&mut self) {
        self.begin(Kind::Text);
    }

    fn thinking_begins(&mut self) {
        self.begin(Kind::Thinking);
    }

    fn redacted(&mut self, data: &str) {
        self.begin(Kind::Redacted);
        write::string_member("type", "redacted_thinking", &mut self.written);
        write::string_member("data", data, &mut self.written);
    }

    fn call_begins(&mut self, id: &str, name: &str) {
        self.begin(Kind::Call);
        write::string_member("type", "tool_use", &mut self.written);
        write::string_member("id", id, &mut self.written);
        write::string_member("name", name, &mut self.written);
    }

    fn text(&mut self, text: &str) {
        self.pieces.push_str(text);
    }

    fn thinking(&mut self, text: &str) {
        self.pieces.push_str(text);
    }

    fn signature(&mut self, signature: &str) {
        self.signature.push_str(signature);
    }

    fn input(&mut self, json: &str) {
        self.pieces.push_str(json);
    }

    fn stopped(&mut self) {
        let out = &mut self.written;
        match self.kind {
            Kind::Text => {
                write::string_member("type", "text", out);
                write::string_member("text", &self.pieces, out);
            }
            Kind::Thinking => {
                write::string_member("type", "thinking", out);
                write::string_member("thinking", &self.pieces, out);
                write::string_member("signature", &self.signature, out);
            }
            Kind::Redacted => {}
            Kind::Call => {
                write::key("input", out);
                write_input(&self.pieces, out);
            }
        }
        out.push(b'}');
    }
}

/// A call's input, which must be an object: what is none (an answer that ran out of tokens inside a call) is wrapped in one, the way
/// Anthropic's guide to fine-grained tool streaming does it.
fn write_input(json: &str, out: &mut Vec<u8>) {
    let text = json.trim();
    if text.is_empty() || text == "null" {
        return write::raw("{}", out);
    }
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) if raw.get().starts_with('{') => write::raw(raw.get(), out),
        _ => {
            write::raw("{", out);
            write::string_member("INVALID_JSON", json, out);
            write::raw("}", out);
        }
    }
}

/// Counts in Anthropic's meaning: what the cache gave and took stands beside `input_tokens`, not in it.
pub(super) fn write_usage(usage: &Usage, out: &mut Vec<u8>) {
    // Some say that more was cached than there was: the three are parts of one whole here.
    let read = usage.cached_tokens.unwrap_or(0).min(usage.prompt_tokens);
    let written = usage.cache_write_tokens.unwrap_or(0).min(usage.prompt_tokens - read);
    let counts = [
        ("input_tokens", usage.prompt_tokens - read - written),
        ("cache_creation_input_tokens", written),
        ("cache_read_input_tokens", read),
        ("output_tokens", usage.completion_tokens),
    ];
    out.push(b'{');
    for (name, count) in counts {
        write::key(name, out);
        write::number(count, out);
    }
    if let Some(thinking) = usage.reasoning_tokens {
        write::raw(",\"output_tokens_details\":{\"thinking_tokens\":", out);
        write::number(thinking, out);
        write::raw("}", out);
    }
    out.push(b'}');
}
