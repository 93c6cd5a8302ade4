//! Events of the hub written as a stream of `text_completion` chunks.
//!
//! Source: OpenAI's API reference of completions: a chunk has the form of the whole answer.

use crate::dialect::event::{Event, FinishReason};
use crate::dialect::openai_chat::stream::DONE;
use crate::dialect::openai_chat::{usage, write};
use crate::dialect::table::Setup;
use crate::domain::{Fault, Usage};

/// What answers and their chunks call themselves.
pub(super) const OBJECT: &str = "text_completion";

/// Writes one answer as a stream. One text chunk costs no allocation beyond the growth of `out`.
pub struct StreamEncoder {
    /// Everything of a chunk up to its text.
    head: Vec<u8>,
    id: Vec<u8>,
    model: Vec<u8>,
    created: u64,
    include_usage: bool,
    usage: Option<Usage>,
    begun: bool,
    finished: Vec<u32>,
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
            usage: None,
            begun: false,
            finished: Vec::new(),
        };
        encoder.identify(&setup.id, &setup.model);
        encoder
    }

    /// Writes what an event means to the client. Of a chat's answer there is a place for its text alone.
    pub fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model } => {
                if !self.begun {
                    self.identify(id, model);
                }
            }
            Event::Text { text: "", .. } | Event::Refusal { text: "", .. } => {}
            Event::Text { choice, text } | Event::Refusal { choice, text } => self.chunk(*choice, text, None, out),
            Event::Finish { choice, reason: finish, .. } => {
                if !self.finished.contains(choice) {
                    self.finished.push(*choice);
                    self.chunk(*choice, "", Some(reason(*finish)), out);
                }
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Reasoning { .. }
            | Event::Call { .. }
            | Event::Arguments { .. }
            | Event::Annotation { .. }
            | Event::Image { .. }
            | Event::Logprobs { .. }
            | Event::Error(_) => {}
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
        write::raw(",\"choices\":[{\"text\":", &mut self.head);
    }

    fn chunk(&mut self, choice: u32, text: &str, finish: Option<&str>, out: &mut Vec<u8>) {
        self.begun = true;
        out.extend_from_slice(&self.head);
        write::string(text, out);
        write::raw(",\"index\":", out);
        write::number(u64::from(choice), out);
        write::raw(",\"logprobs\":null,\"finish_reason\":", out);
        match finish {
            Some(finish) => write::string(finish, out),
            None => write::raw("null", out),
        }
        write::raw("}]}\n\n", out);
    }
}

/// The word for a finish reason. A text completion calls no tools.
pub(super) fn reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::ToolCalls => FinishReason::Stop.as_str(),
        other => other.as_str(),
    }
}

/// Writes `data: ` and a chunk's members up to `choices`. `id` and `model` are JSON.
fn write_head(id: &[u8], created: u64, model: &[u8], out: &mut Vec<u8>) {
    write::raw("data: {\"id\":", out);
    out.extend_from_slice(id);
    write::string_member("object", OBJECT, out);
    write::key("created", out);
    write::number(created, out);
    write::raw(",\"model\":", out);
    out.extend_from_slice(model);
}

/// Writes the chunk with empty choices that carries usage. `id`, `model` and `usage` are JSON.
pub(in crate::dialect) fn write_usage_chunk(id: &[u8], created: u64, model: &[u8], usage: &[u8], out: &mut Vec<u8>) {
    write_head(id, created, model, out);
    write::raw(",\"choices\":[],\"usage\":", out);
    out.extend_from_slice(usage);
    write::raw("}\n\n", out);
}

/// Writes the error that ends a stream after the commit, as in a stream of chat completions. `id` and `model` are JSON.
pub(in crate::dialect) fn write_break_off(id: &[u8], created: u64, model: &[u8], fault: &Fault, out: &mut Vec<u8>) {
    write_head(id, created, model, out);
    write::raw(",\"error\":{", out);
    write::string_member("code", fault.code.as_deref().unwrap_or(fault.kind.name()), out);
    write::string_member("message", &fault.message, out);
    write::raw(",\"metadata\":{", out);
    write::string_member("reason", fault.kind.name(), out);
    write::raw("}},\"choices\":[{\"text\":\"\",\"index\":0,\"logprobs\":null,\"finish_reason\":\"error\"}]}\n\n", out);
}
