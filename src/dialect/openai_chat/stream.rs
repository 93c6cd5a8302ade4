//! Events of the hub written as a stream of `chat.completion.chunk`s.
//!
//! Source: OpenAI's streaming reference; `reasoning_details` and `images` in OpenRouter's form. List entries in a delta carry an
//! `index`, because the OpenAI SDKs put deltas together by it.

use super::{usage, write};
use crate::dialect::event::{Event, ReasoningDelta, ReasoningPiece};
use crate::dialect::table::Setup;
use crate::domain::{Fault, Usage};
use serde_json::Value;

/// What ends a stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// Writes one answer as a stream. One text chunk costs no allocation beyond the growth of `out`.
pub struct StreamEncoder {
    /// Everything of a chunk up to its choices.
    head: Vec<u8>,
    id: Vec<u8>,
    model: Vec<u8>,
    created: u64,
    include_usage: bool,
    exclude_reasoning: bool,
    usage: Option<Usage>,
    choices: Vec<Choice>,
}

#[derive(Default)]
struct Choice {
    index: u32,
    /// For each call whether it has arguments.
    calls: Vec<(u32, bool)>,
    /// The reasoning block that was written last.
    block: Option<u32>,
    annotations: u32,
    images: u32,
    finished: bool,
}

impl StreamEncoder {
    /// An encoder for one answer.
    pub fn new(setup: &Setup) -> Self {
        let mut encoder = Self {
            head: Vec::new(),
            id: Vec::new(),
            model: Vec::new(),
            created: setup.created,
            include_usage: setup.include_usage,
            exclude_reasoning: setup.exclude_reasoning,
            usage: None,
            choices: Vec::new(),
        };
        encoder.identify(&setup.id, &setup.model);
        encoder
    }

    /// Writes what an event means to the client.
    pub fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model } => {
                if self.choices.is_empty() {
                    self.identify(id, model);
                }
            }
            Event::Text { text: "", .. } | Event::Refusal { text: "", .. } | Event::Error(_) => {}
            Event::Text { choice, text } => self.text(*choice, "content", text, out),
            Event::Refusal { choice, text } => self.text(*choice, "refusal", text, out),
            Event::Reasoning { choice, delta } => self.reasoning(*choice, delta, out),
            Event::Call { choice, index, id, name } => self.call(*choice, *index, id, name, out),
            Event::Arguments { json: "", .. } => {}
            Event::Arguments { choice, index, json } => self.arguments(*choice, *index, json, out),
            Event::Annotation { choice, value } => {
                let slot = self.begin(*choice, false, out);
                let place = self.choices[slot].annotations;
                self.choices[slot].annotations += 1;
                self.open(*choice, out);
                write::key("annotations", out);
                out.push(b'[');
                write_indexed(value, place, out);
                out.push(b']');
                close_chunk(out);
            }
            Event::Image { choice, media_type, data } => self.image(*choice, media_type, data, out),
            Event::Logprobs { choice, content } => self.logprobs(*choice, content, out),
            Event::Finish { choice, reason, .. } => self.finish(*choice, reason.as_str(), out),
            Event::Usage(usage) => self.usage = Some(*usage),
        }
    }

    /// Ends the stream: usage if the client asked for it, then `[DONE]`.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if let Some(counts) = self.usage.take().filter(|_| self.include_usage) {
            let mut json = Vec::new();
            usage::write(&counts, &mut json);
            write_usage_chunk(&self.id, self.created, &self.model, &json, out);
        }
        out.extend_from_slice(DONE);
    }

    /// Ends the stream with an error and without `[DONE]`.
    pub fn break_off(&mut self, fault: &Fault, out: &mut Vec<u8>) {
        write_break_off(&self.id, self.created, &self.model, fault, out);
    }

    fn identify(&mut self, id: &str, model: &str) {
        for (text, json) in [(id, &mut self.id), (model, &mut self.model)] {
            if !text.is_empty() {
                json.clear();
                write::string(text, json);
            }
        }
        self.head.clear();
        write_head(&self.id, self.created, &self.model, &mut self.head);
        self.head.extend_from_slice(b",\"choices\":[{\"index\":");
    }

    /// The state of a choice; writes the chunk with the role when it is new.
    fn begin(&mut self, choice: u32, calls: bool, out: &mut Vec<u8>) -> usize {
        if let Some(slot) = self.choices.iter().position(|known| known.index == choice) {
            return slot;
        }
        self.choices.push(Choice { index: choice, ..Choice::default() });
        self.open(choice, out);
        write::raw(r#""role":"assistant","content":"#, out);
        write::raw(if calls { "null" } else { "\"\"" }, out);
        close_chunk(out);
        self.choices.len() - 1
    }

    fn open(&self, choice: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        write::number(u64::from(choice), out);
        write::raw(",\"delta\":{", out);
    }

    fn text(&mut self, choice: u32, field: &str, text: &str, out: &mut Vec<u8>) {
        self.begin(choice, false, out);
        self.open(choice, out);
        write::string_member(field, text, out);
        close_chunk(out);
    }

    fn reasoning(&mut self, choice: u32, delta: &ReasoningDelta<'_>, out: &mut Vec<u8>) {
        if self.exclude_reasoning && !outlives_exclusion(delta) {
            return;
        }
        let slot = self.begin(choice, false, out);
        let is_first = self.choices[slot].block.replace(delta.index) != Some(delta.index);
        self.open(choice, out);
        if let ReasoningPiece::Text(text) | ReasoningPiece::Summary(text) = delta.piece {
            write::string_member("reasoning_content", text, out);
        }
        write::key("reasoning_details", out);
        out.push(b'[');
        // Clients that put strings of one index together would repeat the format with each piece.
        let (id, format) = if is_first { (delta.id, delta.format) } else { (None, "") };
        match delta.piece {
            // A block may be signed without showing any text.
            ReasoningPiece::Signature(signature) if is_first => {
                write_signed(delta.index, id, format, ("", signature), out)
            }
            piece => write_detail(delta.index, id, format, piece, out),
        }
        out.push(b']');
        close_chunk(out);
    }

    fn call(&mut self, choice: u32, index: u32, id: &str, name: &str, out: &mut Vec<u8>) {
        let slot = self.begin(choice, true, out);
        self.choices[slot].calls.push((index, false));
        self.open(choice, out);
        write::raw("\"tool_calls\":[{\"index\":", out);
        write::number(u64::from(index), out);
        write::string_member("id", id, out);
        write::raw(",\"type\":\"function\",\"function\":{", out);
        write::string_member("name", name, out);
        write::raw(",\"arguments\":\"\"}}]", out);
        close_chunk(out);
    }

    fn arguments(&mut self, choice: u32, index: u32, json: &str, out: &mut Vec<u8>) {
        let slot = self.begin(choice, true, out);
        for call in &mut self.choices[slot].calls {
            call.1 |= call.0 == index;
        }
        out.extend_from_slice(&self.head);
        write_arguments(choice, index, json, out);
    }

    fn image(&mut self, choice: u32, media_type: &str, data: &str, out: &mut Vec<u8>) {
        let slot = self.begin(choice, false, out);
        let place = self.choices[slot].images;
        self.choices[slot].images += 1;
        self.open(choice, out);
        write::raw("\"images\":[{\"index\":", out);
        write::number(u64::from(place), out);
        out.push(b',');
        write_image(media_type, data, out);
        write::raw("}]", out);
        close_chunk(out);
    }

    fn logprobs(&mut self, choice: u32, content: &[Value], out: &mut Vec<u8>) {
        self.begin(choice, false, out);
        self.open(choice, out);
        write::raw("},\"logprobs\":{\"content\":[", out);
        for (place, item) in content.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            write::value(item, out);
        }
        write::raw("]},\"finish_reason\":null}]}\n\n", out);
    }

    fn finish(&mut self, choice: u32, reason: &str, out: &mut Vec<u8>) {
        let slot = self.begin(choice, false, out);
        let state = &mut self.choices[slot];
        if std::mem::replace(&mut state.finished, true) {
            return;
        }
        let calls = std::mem::take(&mut state.calls);
        for (index, _) in calls.iter().filter(|(_, has_arguments)| !has_arguments) {
            out.extend_from_slice(&self.head);
            write_arguments(choice, *index, "{}", out);
        }
        self.open(choice, out);
        write::raw("},\"finish_reason\":", out);
        write::string(reason, out);
        write::raw("}]}\n\n", out);
    }
}

/// Whether a piece reaches a client that does not want to see reasoning: the proof that a provider puts on a tool call is no
/// reasoning to look at, and without it the call's result cannot be sent back.
pub(super) fn outlives_exclusion(delta: &ReasoningDelta<'_>) -> bool {
    delta.id.is_some() && matches!(delta.piece, ReasoningPiece::Encrypted(_))
}

/// Writes one item of `reasoning_details`.
pub(in crate::dialect) fn write_detail(
    index: u32,
    id: Option<&str>,
    format: &str,
    piece: ReasoningPiece<'_>,
    out: &mut Vec<u8>,
) {
    let (kind, field, text) = match piece {
        ReasoningPiece::Text(text) => ("reasoning.text", "text", text),
        ReasoningPiece::Signature(signature) => ("reasoning.text", "signature", signature),
        ReasoningPiece::Summary(text) => ("reasoning.summary", "summary", text),
        ReasoningPiece::Encrypted(data) => ("reasoning.encrypted", "data", data),
    };
    out.push(b'{');
    write::string_member("type", kind, out);
    write::string_member(field, text, out);
    close_detail(index, id, format, out);
}

/// Writes an item of `reasoning_details` with both its text and its signature.
pub(in crate::dialect) fn write_signed(
    index: u32,
    id: Option<&str>,
    format: &str,
    (text, signature): (&str, &str),
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    write::string_member("type", "reasoning.text", out);
    write::string_member("text", text, out);
    write::string_member("signature", signature, out);
    close_detail(index, id, format, out);
}

/// Writes the end of an item of `reasoning_details`, which all kinds have in common.
fn close_detail(index: u32, id: Option<&str>, format: &str, out: &mut Vec<u8>) {
    if let Some(id) = id {
        write::string_member("id", id, out);
    }
    if !format.is_empty() {
        write::string_member("format", format, out);
    }
    write::key("index", out);
    write::number(u64::from(index), out);
    out.push(b'}');
}

/// Writes the members of an item of `images`.
pub(super) fn write_image(media_type: &str, data: &str, out: &mut Vec<u8>) {
    write::raw("\"type\":\"image_url\",\"image_url\":{\"url\":", out);
    write::string(&format!("data:{media_type};base64,{data}"), out);
    out.push(b'}');
}

fn write_indexed(value: &Value, index: u32, out: &mut Vec<u8>) {
    let Some(object) = value.as_object() else { return write::value(value, out) };
    write::raw("{\"index\":", out);
    write::number(u64::from(index), out);
    for (name, value) in object.iter().filter(|(name, _)| *name != "index") {
        out.push(b',');
        write::string(name, out);
        out.push(b':');
        write::value(value, out);
    }
    out.push(b'}');
}

fn close_chunk(out: &mut Vec<u8>) {
    write::raw("},\"finish_reason\":null}]}\n\n", out);
}

/// Writes `data: ` and a chunk's members up to `choices`. `id` and `model` are JSON.
fn write_head(id: &[u8], created: u64, model: &[u8], out: &mut Vec<u8>) {
    write::raw("data: {\"id\":", out);
    out.extend_from_slice(id);
    write::raw(",\"object\":\"chat.completion.chunk\",\"created\":", out);
    write::number(created, out);
    write::raw(",\"model\":", out);
    out.extend_from_slice(model);
}

/// Writes the rest of a chunk with a piece of a call's arguments, after the head.
fn write_arguments(choice: u32, index: u32, json: &str, out: &mut Vec<u8>) {
    write::number(u64::from(choice), out);
    write::raw(",\"delta\":{\"tool_calls\":[{\"index\":", out);
    write::number(u64::from(index), out);
    write::raw(",\"function\":{", out);
    write::string_member("arguments", json, out);
    write::raw("}}]", out);
    close_chunk(out);
}

/// Writes the chunk that gives a call without arguments its `{}`. `id` and `model` are JSON.
pub(super) fn write_empty_arguments(id: &[u8], created: u64, model: &[u8], choice: u32, call: u32, out: &mut Vec<u8>) {
    write_head(id, created, model, out);
    write::raw(",\"choices\":[{\"index\":", out);
    write_arguments(choice, call, "{}", out);
}

/// Writes the chunk with empty choices that carries usage. `id`, `model` and `usage` are JSON.
pub(super) fn write_usage_chunk(id: &[u8], created: u64, model: &[u8], usage: &[u8], out: &mut Vec<u8>) {
    write_head(id, created, model, out);
    write::raw(",\"choices\":[],\"usage\":", out);
    out.extend_from_slice(usage);
    write::raw("}\n\n", out);
}

/// Writes the error that ends a stream after the commit, in OpenRouter's form. `id` and `model` are JSON.
pub(super) fn write_break_off(id: &[u8], created: u64, model: &[u8], fault: &Fault, out: &mut Vec<u8>) {
    write_head(id, created, model, out);
    write::raw(",\"error\":{", out);
    write::string_member("code", fault.code.as_deref().unwrap_or(fault.kind.name()), out);
    write::string_member("message", &fault.message, out);
    write::raw(",\"metadata\":{", out);
    write::string_member("reason", fault.kind.name(), out);
    write::raw("}},\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"error\"}]}\n\n", out);
}

#[cfg(test)]
mod tests;
