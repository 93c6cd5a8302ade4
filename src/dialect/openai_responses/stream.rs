//! Events of the hub written as the event stream of Responses.
//!
//! ```text
//!   response.created  response.in_progress
//!     output_item.added  ( content_part.added  output_text.delta*  output_text.done  content_part.done )*  output_item.done   message
//!     output_item.added  ( reasoning_summary_part.added  …text.delta*  …text.done  …part.done )?          output_item.done   reasoning
//!     output_item.added  function_call_arguments.delta*  function_call_arguments.done                      output_item.done   call
//!   response.completed | response.incomplete        error  response.failed
//! ```
//!
//! Every event has the next `sequence_number`. A message or a block of reasoning ends where another item begins. A call ends there too when
//! its arguments are complete; until then it stays open beside the others, because providers may mix the arguments of several calls.
//!
//! Source: OpenAI's reference of streaming events, and recordings.

use super::error;
use super::output::{Answer, Call, ItemKind, Part, Status, Thought, write_list};
use super::tools::{self, CallKind};
use crate::dialect::chat::{ReasoningDetail, ReasoningKind};
use crate::dialect::event::{Event, ReasoningDelta, ReasoningPiece};
use crate::dialect::openai_chat::scan::Balance;
use crate::dialect::openai_chat::write;
use crate::dialect::table::Setup;
use crate::domain::Fault;
use serde_json::{Value, json};

/// Writes one answer as a stream. A piece of text costs no allocation beyond the growth of `out` and of the answer itself, which the last
/// event repeats.
pub struct StreamEncoder {
    answer: Answer,
    begun: bool,
    /// The place of the message or the reasoning that is being written.
    open: Option<usize>,
    sequence: u64,
    exclude_reasoning: bool,
}

/// Where events are written; nowhere when the answer is wanted whole.
struct Script<'a> {
    out: Option<&'a mut Vec<u8>>,
    sequence: &'a mut u64,
}

impl Script<'_> {
    /// Writes one event. `members` writes what follows its sequence number.
    fn event(&mut self, kind: &str, members: impl FnOnce(&mut Vec<u8>)) {
        if let Some(out) = &mut self.out {
            write_event(kind, self.sequence, out, members);
        }
    }
}

/// Writes one event and counts it.
pub(super) fn write_event(kind: &str, sequence: &mut u64, out: &mut Vec<u8>, members: impl FnOnce(&mut Vec<u8>)) {
    write::raw("event: ", out);
    write::raw(kind, out);
    write::raw("\ndata: {\"type\":\"", out);
    write::raw(kind, out);
    write::raw("\",\"sequence_number\":", out);
    write::number(*sequence, out);
    // The numbers that providers and clients begin from are theirs to choose.
    *sequence = sequence.saturating_add(1);
    members(out);
    write::raw("}\n\n", out);
}

impl StreamEncoder {
    /// An encoder for one answer.
    pub fn new(setup: &Setup) -> Self {
        Self {
            answer: Answer::new(setup.id.clone(), &setup.model, setup.created, setup.asked.clone()),
            begun: false,
            open: None,
            sequence: 0,
            exclude_reasoning: setup.exclude_reasoning,
        }
    }

    /// Writes what an event means to the client. Responses have one choice; of others nothing is told.
    pub fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        self.take(event, Some(out));
    }

    /// Takes an event; without `out` it is only remembered.
    pub(super) fn take(&mut self, event: &Event<'_>, out: Option<&mut Vec<u8>>) {
        let Self { answer, open, sequence, .. } = self;
        let mut script = Script { out, sequence };
        if let Event::Start { model, .. } = event
            && !self.begun
            && !model.is_empty()
        {
            (*model).clone_into(&mut answer.model);
        }
        if !matches!(event, Event::Error(_)) && !std::mem::replace(&mut self.begun, true) {
            begin(answer, &mut script);
        }
        answer.size += size_of(event);
        let mut pen = Pen { answer, open, script };
        match event {
            Event::Start { .. } | Event::Error(_) => {}
            Event::Text { choice: 0, text } if !text.is_empty() => pen.text(text),
            Event::Refusal { choice: 0, text } if !text.is_empty() => pen.refusal(text),
            Event::Reasoning { choice: 0, delta } => {
                // What a provider signs must come back to it, so only the text is left out.
                let shows = matches!(delta.piece, ReasoningPiece::Text(_) | ReasoningPiece::Summary(_));
                if !(self.exclude_reasoning && shows) {
                    pen.reasoning(delta);
                }
            }
            Event::Call { choice: 0, index, id, name } => pen.call(*index, id, name),
            Event::Arguments { choice: 0, index, json } => pen.arguments(*index, json),
            Event::Annotation { choice: 0, value } => pen.annotation(value),
            Event::Image { choice: 0, media_type, data } => pen.image(media_type, data),
            Event::Logprobs { choice: 0, content } => pen.logprobs(content),
            Event::Finish { choice: 0, reason, .. } => {
                pen.answer.finish.get_or_insert(*reason);
                pen.close_all();
            }
            Event::Usage(usage) => pen.answer.usage = Some(*usage),
            _ => {}
        }
    }

    /// How many bytes are held for the last event, which repeats the whole answer.
    pub fn held_bytes(&self) -> usize {
        self.answer.size
    }

    /// Ends the stream with the whole response.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        let kind = if self.answer.incomplete().is_some() { "response.incomplete" } else { "response.completed" };
        let answer = &self.answer;
        write_event(kind, &mut self.sequence, out, |out| write_response(answer, Status::Ended, out));
    }

    /// Ends the stream with an error.
    pub fn break_off(&mut self, fault: &Fault, out: &mut Vec<u8>) {
        let answer = &self.answer;
        write_event("error", &mut self.sequence, out, |out| error::write_members(fault, out));
        write_event("response.failed", &mut self.sequence, out, |out| {
            write_response(answer, Status::Failed(fault), out);
        });
    }

    /// Writes the response object of an answer that is complete.
    pub fn write_whole(&self, out: &mut Vec<u8>) {
        self.answer.write(Status::Ended, out);
    }
}

/// About how much of an event is held.
fn size_of(event: &Event<'_>) -> usize {
    const CITATION: usize = 512;
    match event {
        Event::Text { text, .. } | Event::Refusal { text, .. } => text.len(),
        Event::Arguments { json, .. } => json.len(),
        Event::Image { data, .. } => data.len(),
        Event::Annotation { .. } => CITATION,
        Event::Logprobs { content, .. } => content.len() * CITATION,
        Event::Reasoning { delta, .. } => match delta.piece {
            ReasoningPiece::Text(text)
            | ReasoningPiece::Signature(text)
            | ReasoningPiece::Summary(text)
            | ReasoningPiece::Encrypted(text) => text.len(),
        },
        Event::Call { .. } => CITATION,
        Event::Start { .. } | Event::Finish { .. } | Event::Usage(_) | Event::Error(_) => 0,
    }
}

fn begin(answer: &Answer, script: &mut Script<'_>) {
    for kind in ["response.created", "response.in_progress"] {
        script.event(kind, |out| write_response(answer, Status::InProgress, out));
    }
}

fn write_response(answer: &Answer, status: Status<'_>, out: &mut Vec<u8>) {
    write::key("response", out);
    answer.write(status, out);
}

/// The answer and where it is written, while one event is taken.
struct Pen<'a> {
    answer: &'a mut Answer,
    open: &'a mut Option<usize>,
    script: Script<'a>,
}

impl Pen<'_> {
    fn begin_item(&mut self, kind: ItemKind) -> usize {
        self.close_open();
        self.close_complete_calls();
        let place = self.answer.add(kind);
        let item = &self.answer.items[place];
        self.script.event("response.output_item.added", |out| {
            write_place("output_index", place, out);
            write::key("item", out);
            item.write_begun(out);
        });
        place
    }

    /// The place of the open message, which begins here if there is none.
    fn message(&mut self) -> usize {
        if let Some(place) = *self.open
            && matches!(self.answer.items[place].kind, ItemKind::Message(_))
        {
            return place;
        }
        let place = self.begin_item(ItemKind::Message(Vec::new()));
        *self.open = Some(place);
        place
    }

    /// The open message and its part of the same kind as `new`, which begins here if the last one is of the other kind.
    fn part(&mut self, new: Part) -> (usize, usize) {
        let place = self.message();
        let ItemKind::Message(parts) = &self.answer.items[place].kind else { return (place, 0) };
        let same = parts.last().is_some_and(|last| std::mem::discriminant(last) == std::mem::discriminant(&new));
        if !same {
            self.close_part(place);
            let item = &mut self.answer.items[place];
            if let ItemKind::Message(parts) = &mut item.kind {
                self.script.event("response.content_part.added", |out| {
                    write_part_place(&item.id, place, parts.len(), out);
                    write::key("part", out);
                    new.write(out);
                });
                parts.push(new);
            }
        }
        let ItemKind::Message(parts) = &self.answer.items[place].kind else { return (place, 0) };
        (place, parts.len() - 1)
    }

    fn text(&mut self, piece: &str) {
        let (place, at) = self.part(empty_text());
        let item = &mut self.answer.items[place];
        if let ItemKind::Message(parts) = &mut item.kind
            && let Some(Part::Text { text, .. }) = parts.last_mut()
        {
            text.push_str(piece);
            self.script.event("response.output_text.delta", |out| {
                write_part_place(&item.id, place, at, out);
                write::string_member("delta", piece, out);
                write::raw(",\"logprobs\":[]", out);
            });
        }
    }

    fn refusal(&mut self, piece: &str) {
        let (place, at) = self.part(Part::Refusal(String::new()));
        let item = &mut self.answer.items[place];
        if let ItemKind::Message(parts) = &mut item.kind
            && let Some(Part::Refusal(text)) = parts.last_mut()
        {
            text.push_str(piece);
            self.script.event("response.refusal.delta", |out| {
                write_part_place(&item.id, place, at, out);
                write::string_member("delta", piece, out);
            });
        }
    }

    /// A citation of the last text, also when that is complete: providers tell sources late.
    fn annotation(&mut self, value: &Value) {
        let value = flat(value);
        let last = self.answer.items.iter().rposition(|item| matches!(item.kind, ItemKind::Message(_)));
        let place = match last {
            Some(place) if self.answer.items[place].done => place,
            _ => self.part(empty_text()).0,
        };
        let item = &mut self.answer.items[place];
        let ItemKind::Message(parts) = &mut item.kind else { return };
        let Some(at) = parts.iter().rposition(|part| matches!(part, Part::Text { .. })) else { return };
        let Some(Part::Text { annotations, .. }) = parts.get_mut(at) else { return };
        let number = annotations.len();
        if !item.done {
            self.script.event("response.output_text.annotation.added", |out| {
                write_part_place(&item.id, place, at, out);
                write_place("annotation_index", number, out);
                write::key("annotation", out);
                write::value(&value, out);
            });
        }
        annotations.push(value);
    }

    fn logprobs(&mut self, content: &[Value]) {
        let (place, at) = self.part(empty_text());
        if let ItemKind::Message(parts) = &mut self.answer.items[place].kind
            && let Some(Part::Text { logprobs, .. }) = parts.get_mut(at)
        {
            logprobs.extend_from_slice(content);
        }
    }

    fn reasoning(&mut self, delta: &ReasoningDelta<'_>) {
        let (ReasoningPiece::Text(piece)
        | ReasoningPiece::Signature(piece)
        | ReasoningPiece::Summary(piece)
        | ReasoningPiece::Encrypted(piece)) = delta.piece;
        if piece.is_empty() {
            return;
        }
        let place = self.block(delta);
        let item = &mut self.answer.items[place];
        let ItemKind::Reasoning(thought) = &mut item.kind else { return };
        let piece = match (&mut thought.detail.kind, delta.piece) {
            (ReasoningKind::Text { text, .. }, ReasoningPiece::Text(piece) | ReasoningPiece::Summary(piece))
            | (ReasoningKind::Summary(text), ReasoningPiece::Text(piece) | ReasoningPiece::Summary(piece)) => {
                text.push_str(piece);
                piece
            }
            (ReasoningKind::Text { signature, .. }, ReasoningPiece::Signature(piece)) => {
                signature.get_or_insert_default().push_str(piece);
                return;
            }
            (ReasoningKind::Encrypted(data), ReasoningPiece::Encrypted(piece)) => {
                data.push_str(piece);
                return;
            }
            _ => return,
        };
        let (kind, added, part) = if thought.verbatim {
            ("response.reasoning_text.delta", "response.content_part.added", "reasoning_text")
        } else {
            ("response.reasoning_summary_text.delta", "response.reasoning_summary_part.added", "summary_text")
        };
        if !std::mem::replace(&mut thought.shown, true) {
            self.script.event(added, |out| {
                write_thought_place(&item.id, place, thought.verbatim, out);
                write_thought_part(part, "", out);
            });
        }
        self.script.event(kind, |out| {
            write_thought_place(&item.id, place, thought.verbatim, out);
            write::string_member("delta", piece, out);
        });
    }

    /// The place of a reasoning block, which begins here unless it is the open one.
    fn block(&mut self, delta: &ReasoningDelta<'_>) -> usize {
        if let Some(place) = *self.open
            && let ItemKind::Reasoning(thought) = &self.answer.items[place].kind
            && thought.block == delta.index
        {
            return place;
        }
        let kind = match delta.piece {
            ReasoningPiece::Text(_) | ReasoningPiece::Signature(_) => {
                ReasoningKind::Text { text: String::new(), signature: None }
            }
            ReasoningPiece::Summary(_) => ReasoningKind::Summary(String::new()),
            ReasoningPiece::Encrypted(_) => ReasoningKind::Encrypted(String::new()),
        };
        let verbatim = delta.format.is_empty() && matches!(kind, ReasoningKind::Text { .. });
        let detail = ReasoningDetail {
            kind,
            id: delta.id.map(str::to_owned),
            format: (!delta.format.is_empty()).then_some(delta.format.into()),
            index: 0,
        };
        let place =
            self.begin_item(ItemKind::Reasoning(Thought { block: delta.index, detail, verbatim, shown: false }));
        *self.open = Some(place);
        place
    }

    fn call(&mut self, index: u32, id: &str, name: &str) {
        let (kind, namespace, own) = match &self.answer.asked {
            Some(asked) => asked.toolbox.origin(name),
            None => (CallKind::Function, None, name),
        };
        let call = Call {
            index,
            call_id: id.to_owned(),
            kind,
            namespace: namespace.map(str::to_owned),
            name: own.to_owned(),
            arguments: String::new(),
            balance: Balance::default(),
        };
        self.begin_item(ItemKind::Call(call));
    }

    fn arguments(&mut self, index: u32, json: &str) {
        let place = self.answer.items.iter().rposition(|item| match &item.kind {
            ItemKind::Call(call) => call.index == index,
            _ => false,
        });
        let Some(place) = place.filter(|_| !json.is_empty()) else { return };
        let item = &mut self.answer.items[place];
        let ItemKind::Call(call) = &mut item.kind else { return };
        // Nothing can follow the end of an object but white space.
        if item.done {
            return;
        }
        call.arguments.push_str(json);
        call.balance.push(json.as_bytes());
        if call.kind == CallKind::Function {
            self.script.event("response.function_call_arguments.delta", |out| {
                write_item_place(&item.id, place, out);
                write::string_member("delta", json, out);
            });
        }
    }

    fn image(&mut self, media_type: &str, data: &str) {
        let place = self.begin_item(ItemKind::Image { media_type: media_type.to_owned(), data: data.to_owned() });
        let item = &self.answer.items[place];
        for kind in [
            "response.image_generation_call.in_progress",
            "response.image_generation_call.generating",
            "response.image_generation_call.completed",
        ] {
            self.script.event(kind, |out| write_item_place(&item.id, place, out));
        }
        self.done(place);
    }

    /// Ends the message or the reasoning that is being written.
    fn close_open(&mut self) {
        let Some(place) = self.open.take() else { return };
        self.close_part(place);
        let item = &self.answer.items[place];
        if let ItemKind::Reasoning(thought) = &item.kind
            && thought.shown
        {
            let (text, part, name) = if thought.verbatim {
                ("response.reasoning_text.done", "response.content_part.done", "reasoning_text")
            } else {
                ("response.reasoning_summary_text.done", "response.reasoning_summary_part.done", "summary_text")
            };
            self.script.event(text, |out| {
                write_thought_place(&item.id, place, thought.verbatim, out);
                write::string_member("text", thought.text(), out);
            });
            self.script.event(part, |out| {
                write_thought_place(&item.id, place, thought.verbatim, out);
                write_thought_part(name, thought.text(), out);
            });
        }
        self.done(place);
    }

    /// Ends the last part of a message.
    fn close_part(&mut self, place: usize) {
        let item = &self.answer.items[place];
        let ItemKind::Message(parts) = &item.kind else { return };
        let Some(part) = parts.last() else { return };
        let at = parts.len() - 1;
        match part {
            Part::Text { text, logprobs, .. } => self.script.event("response.output_text.done", |out| {
                write_part_place(&item.id, place, at, out);
                write::string_member("text", text, out);
                write::key("logprobs", out);
                write_list(logprobs, out, write::value);
            }),
            Part::Refusal(text) => self.script.event("response.refusal.done", |out| {
                write_part_place(&item.id, place, at, out);
                write::string_member("refusal", text, out);
            }),
        }
        self.script.event("response.content_part.done", |out| {
            write_part_place(&item.id, place, at, out);
            write::key("part", out);
            part.write(out);
        });
    }

    fn close_complete_calls(&mut self) {
        for place in 0..self.answer.items.len() {
            let item = &self.answer.items[place];
            if let ItemKind::Call(call) = &item.kind
                && !item.done
                && call.balance.is_closed()
            {
                self.close_call(place);
            }
        }
    }

    fn close_call(&mut self, place: usize) {
        let item = &self.answer.items[place];
        let ItemKind::Call(call) = &item.kind else { return };
        match call.kind {
            CallKind::Function => {
                if call.arguments.is_empty() {
                    self.script.event("response.function_call_arguments.delta", |out| {
                        write_item_place(&item.id, place, out);
                        write::string_member("delta", "{}", out);
                    });
                }
                self.script.event("response.function_call_arguments.done", |out| {
                    write_item_place(&item.id, place, out);
                    write::string_member("name", &call.name, out);
                    write::string_member("arguments", call.arguments(), out);
                });
            }
            CallKind::Custom => {
                let input = tools::custom_input(call.arguments());
                for (kind, name) in [
                    ("response.custom_tool_call_input.delta", "delta"),
                    ("response.custom_tool_call_input.done", "input"),
                ] {
                    self.script.event(kind, |out| {
                        write_item_place(&item.id, place, out);
                        write::string_member(name, &input, out);
                    });
                }
            }
            CallKind::Search => {}
        }
        self.done(place);
    }

    fn done(&mut self, place: usize) {
        self.answer.items[place].done = true;
        let item = &self.answer.items[place];
        let status = self.answer.status_of(item, place);
        self.script.event("response.output_item.done", |out| {
            write_place("output_index", place, out);
            write::key("item", out);
            item.write(status, out);
        });
    }

    /// Ends everything that is open.
    fn close_all(&mut self) {
        self.close_open();
        for place in 0..self.answer.items.len() {
            if !self.answer.items[place].done {
                self.close_call(place);
            }
        }
    }
}

fn empty_text() -> Part {
    Part::Text { text: String::new(), annotations: Vec::new(), logprobs: Vec::new() }
}

/// A citation of chat completions (`{"type": t, t: {…}}`) in the flat form of Responses, with the members that its SDKs want.
fn flat(value: &Value) -> Value {
    let kind = value["type"].as_str().unwrap_or("url_citation");
    let Some(inner) = value.get(kind).and_then(Value::as_object) else { return value.clone() };
    let mut flat = json!({"type": kind, "start_index": 0, "end_index": 0, "title": ""});
    if kind == "file_citation" {
        flat = json!({"type": kind, "index": 0, "file_id": "", "filename": inner.get("title").unwrap_or(&"".into())});
    }
    if let Value::Object(flat) = &mut flat {
        flat.extend(
            inner.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())),
        );
    }
    flat
}

fn write_place(name: &str, place: usize, out: &mut Vec<u8>) {
    write::key(name, out);
    write::number(place as u64, out);
}

fn write_item_place(id: &str, place: usize, out: &mut Vec<u8>) {
    write::string_member("item_id", id, out);
    write_place("output_index", place, out);
}

fn write_part_place(id: &str, place: usize, part: usize, out: &mut Vec<u8>) {
    write_item_place(id, place, out);
    write_place("content_index", part, out);
}

fn write_thought_place(id: &str, place: usize, verbatim: bool, out: &mut Vec<u8>) {
    write_item_place(id, place, out);
    write_place(if verbatim { "content_index" } else { "summary_index" }, 0, out);
}

fn write_thought_part(kind: &str, text: &str, out: &mut Vec<u8>) {
    write::raw(",\"part\":{", out);
    write::string_member("type", kind, out);
    write::string_member("text", text, out);
    out.push(b'}');
}

#[cfg(test)]
mod tests;
