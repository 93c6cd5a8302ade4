//! The output items of an answer that is being put together, and the response object around them.
//!
//! Source: OpenAI's API reference of Responses (the response object, its output items). A reasoning item shows thoughts in `summary`
//! where the provider itself gives a summary (Anthropic, Gemini), and in `content` where they are the model's own words.

use super::asked::Asked;
use super::tools::{self, CallKind};
use super::{error, seal, usage};
use crate::dialect::chat::{ReasoningDetail, ReasoningKind};
use crate::dialect::event::FinishReason;
use crate::dialect::openai_chat::scan::Balance;
use crate::dialect::openai_chat::write;
use crate::domain::{Fault, Usage};
use serde_json::Value;
use std::sync::Arc;

/// What the ids of reasoning items of ours begin with: nobody can look them up.
pub const OURS: &str = "rs_orbyt_";

/// One output item.
#[derive(Debug)]
pub(super) struct Item {
    /// `msg_…`, `rs_orbyt_…`, `fc_…`, `ctc_…`, `tsc_…`, `ig_…`.
    pub id: String,
    /// What it is.
    pub kind: ItemKind,
    /// Whether it is told to be complete.
    pub done: bool,
}

/// What an output item is.
#[derive(Debug)]
pub(super) enum ItemKind {
    /// Text and refusals.
    Message(Vec<Part>),
    /// One block of reasoning.
    Reasoning(Thought),
    /// A call of one of the client's tools.
    Call(Call),
    /// A picture that the model made.
    Image { media_type: String, data: String },
}

/// A part of a message.
#[derive(Debug)]
pub(super) enum Part {
    Text { text: String, annotations: Vec<Value>, logprobs: Vec<Value> },
    Refusal(String),
}

/// One block of reasoning.
#[derive(Debug)]
pub(super) struct Thought {
    /// The hub's number of the block.
    pub block: u32,
    pub detail: ReasoningDetail,
    /// Whether its text is the model's own words, not a summary.
    pub verbatim: bool,
    /// Whether its text has begun.
    pub shown: bool,
}

/// A call of a tool.
#[derive(Debug)]
pub(super) struct Call {
    /// The hub's number of the call.
    pub index: u32,
    pub call_id: String,
    pub kind: CallKind,
    pub namespace: Option<String>,
    pub name: String,
    pub arguments: String,
    /// Tells whether the arguments are complete.
    pub balance: Balance,
}

/// An answer so far.
pub(super) struct Answer {
    pub id: Arc<str>,
    /// The random part of `id`, which the items' ids are made of.
    stem: String,
    pub model: String,
    pub created: u64,
    pub asked: Option<Arc<Asked>>,
    pub items: Vec<Item>,
    /// How many bytes the items hold.
    pub size: usize,
    pub usage: Option<Usage>,
    pub finish: Option<FinishReason>,
}

/// How a response stands.
#[derive(Clone, Copy)]
pub(super) enum Status<'a> {
    InProgress,
    /// Completed, or incomplete, as the finish reason says.
    Ended,
    Failed(&'a Fault),
}

impl Answer {
    pub(super) fn new(id: Arc<str>, model: &str, created: u64, asked: Option<Arc<Asked>>) -> Self {
        let stem = id.rsplit('_').next().unwrap_or_default().to_owned();
        Self {
            id,
            stem,
            model: model.to_owned(),
            created,
            asked,
            items: Vec::new(),
            size: 0,
            usage: None,
            finish: None,
        }
    }

    /// Adds an item and gives its place.
    pub(super) fn add(&mut self, kind: ItemKind) -> usize {
        let prefix = match &kind {
            ItemKind::Message(_) => "msg_",
            ItemKind::Reasoning(_) => OURS,
            ItemKind::Call(call) => match call.kind {
                CallKind::Function => "fc_",
                CallKind::Custom => "ctc_",
                CallKind::Search => "tsc_",
            },
            ItemKind::Image { .. } => "ig_",
        };
        let place = self.items.len();
        self.items.push(Item { id: format!("{prefix}{}{place:02x}", self.stem), kind, done: false });
        place
    }

    /// The reason why the answer is not complete, in OpenAI's word.
    pub(super) fn incomplete(&self) -> Option<&'static str> {
        match self.finish {
            Some(FinishReason::Length) => Some("max_output_tokens"),
            Some(FinishReason::ContentFilter) => Some("content_filter"),
            Some(FinishReason::Stop | FinishReason::ToolCalls) | None => None,
        }
    }

    /// Writes the response object.
    pub(super) fn write(&self, status: Status<'_>, out: &mut Vec<u8>) {
        let incomplete = matches!(status, Status::Ended).then(|| self.incomplete()).flatten();
        let word = match status {
            Status::InProgress => "in_progress",
            Status::Failed(_) => "failed",
            Status::Ended if incomplete.is_some() => "incomplete",
            Status::Ended => "completed",
        };
        out.push(b'{');
        write::string_member("id", &self.id, out);
        write::string_member("object", "response", out);
        write::key("created_at", out);
        write::number(self.created, out);
        write::string_member("status", word, out);
        write::raw(",\"background\":false,\"error\":", out);
        match status {
            Status::Failed(fault) => error::write_error(fault, out),
            Status::InProgress | Status::Ended => write::raw("null", out),
        }
        write::key("incomplete_details", out);
        match incomplete {
            Some(reason) => {
                out.push(b'{');
                write::string_member("reason", reason, out);
                out.push(b'}');
            }
            None => write::raw("null", out),
        }
        write::string_member("model", &self.model, out);
        write::key("output", out);
        out.push(b'[');
        if !matches!(status, Status::InProgress) {
            for (place, item) in self.items.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                item.write(self.status_of(item, place), out);
            }
        }
        out.push(b']');
        if let Some(asked) = &self.asked {
            out.push(b',');
            out.extend_from_slice(&asked.echo);
        }
        write::key("usage", out);
        match &self.usage {
            Some(counts) => usage::write(counts, out),
            None => write::raw("null", out),
        }
        out.push(b'}');
    }

    /// The status of an item: the last one is what an answer that ran out of tokens broke off in.
    pub(super) fn status_of(&self, item: &Item, place: usize) -> &'static str {
        if item.done && matches!(item.kind, ItemKind::Image { .. }) {
            return "completed";
        }
        let last = place + 1 == self.items.len();
        if !item.done || (last && self.incomplete().is_some()) { "incomplete" } else { "completed" }
    }
}

impl Item {
    /// Writes the item with what it has so far.
    pub(super) fn write(&self, status: &str, out: &mut Vec<u8>) {
        out.push(b'{');
        write::string_member("id", &self.id, out);
        match &self.kind {
            ItemKind::Message(parts) => {
                write::string_member("type", "message", out);
                write::string_member("status", status, out);
                write::key("content", out);
                write_list(parts, out, |part, out| part.write(out));
                write::string_member("role", "assistant", out);
            }
            ItemKind::Reasoning(thought) => thought.write(out),
            ItemKind::Call(call) => call.write(status, out),
            ItemKind::Image { media_type, data } => {
                write::string_member("type", "image_generation_call", out);
                write::string_member("status", status, out);
                write::string_member("output_format", media_type.strip_prefix("image/").unwrap_or(media_type), out);
                write::string_member("result", data, out);
            }
        }
        out.push(b'}');
    }

    /// Writes the item as it is when it begins: nothing in it yet.
    pub(super) fn write_begun(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        write::string_member("id", &self.id, out);
        match &self.kind {
            ItemKind::Message(_) => write::raw(
                ",\"type\":\"message\",\"status\":\"in_progress\",\"content\":[],\"role\":\"assistant\"",
                out,
            ),
            ItemKind::Reasoning(thought) if thought.verbatim => {
                write::raw(",\"type\":\"reasoning\",\"content\":[],\"summary\":[]", out);
            }
            ItemKind::Reasoning(_) => write::raw(",\"type\":\"reasoning\",\"summary\":[]", out),
            ItemKind::Call(call) => call.write_begun(out),
            ItemKind::Image { .. } => {
                write::raw(",\"type\":\"image_generation_call\",\"status\":\"in_progress\",\"result\":null", out);
            }
        }
        out.push(b'}');
    }
}

impl Part {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text { text, annotations, logprobs } => {
                write::raw("{\"type\":\"output_text\",\"annotations\":", out);
                write_list(annotations, out, write::value);
                write::key("logprobs", out);
                write_list(logprobs, out, write::value);
                write::string_member("text", text, out);
            }
            Self::Refusal(text) => {
                write::raw("{\"type\":\"refusal\"", out);
                write::string_member("refusal", text, out);
            }
        }
        out.push(b'}');
    }
}

impl Thought {
    /// Its text so far.
    pub(super) fn text(&self) -> &str {
        match &self.detail.kind {
            ReasoningKind::Text { text, .. } | ReasoningKind::Summary(text) => text,
            ReasoningKind::Encrypted(_) => "",
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        write::string_member("type", "reasoning", out);
        let list = |name: &str, kind: &str, out: &mut Vec<u8>| {
            write::key(name, out);
            out.push(b'[');
            if !kind.is_empty() {
                out.push(b'{');
                write::string_member("type", kind, out);
                write::string_member("text", self.text(), out);
                out.push(b'}');
            }
            out.push(b']');
        };
        if self.verbatim {
            list("content", if self.shown { "reasoning_text" } else { "" }, out);
            list("summary", "", out);
        } else {
            list("summary", if self.shown { "summary_text" } else { "" }, out);
        }
        if let Some(sealed) = seal::seal(&self.detail) {
            write::string_member("encrypted_content", &sealed, out);
        }
    }
}

impl Call {
    /// The call's arguments, or its input.
    pub(super) fn arguments(&self) -> &str {
        if self.arguments.trim().is_empty() { "{}" } else { &self.arguments }
    }

    fn write(&self, status: &str, out: &mut Vec<u8>) {
        match self.kind {
            CallKind::Function => {
                write::string_member("type", "function_call", out);
                write::string_member("status", status, out);
                write::string_member("arguments", self.arguments(), out);
            }
            CallKind::Custom => {
                write::string_member("type", "custom_tool_call", out);
                write::string_member("status", status, out);
                write::string_member("input", &tools::custom_input(self.arguments()), out);
            }
            CallKind::Search => {
                write::string_member("type", "tool_search_call", out);
                write::string_member("status", status, out);
                write::string_member("execution", "client", out);
                write::key("arguments", out);
                match serde_json::from_str::<Value>(self.arguments()) {
                    Ok(arguments) => write::value(&arguments, out),
                    Err(_) => write::string(self.arguments(), out),
                }
            }
        }
        self.write_names(out);
    }

    fn write_begun(&self, out: &mut Vec<u8>) {
        write::raw(
            match self.kind {
                CallKind::Function => ",\"type\":\"function_call\",\"status\":\"in_progress\",\"arguments\":\"\"",
                CallKind::Custom => ",\"type\":\"custom_tool_call\",\"status\":\"in_progress\",\"input\":\"\"",
                CallKind::Search => {
                    ",\"type\":\"tool_search_call\",\"status\":\"in_progress\",\"execution\":\"client\",\"arguments\":{}"
                }
            },
            out,
        );
        self.write_names(out);
    }

    fn write_names(&self, out: &mut Vec<u8>) {
        write::string_member("call_id", &self.call_id, out);
        if self.kind != CallKind::Search {
            write::string_member("name", &self.name, out);
        }
        if let Some(namespace) = &self.namespace {
            write::string_member("namespace", namespace, out);
        }
    }
}

pub(super) fn write_list<T>(items: &[T], out: &mut Vec<u8>, each: impl Fn(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        each(item, out);
    }
    out.push(b']');
}
