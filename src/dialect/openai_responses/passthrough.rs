//! A provider's own Responses on their way to a client: the bytes pass, watched.
//!
//! ```text
//!   Frames (see [`State`]) ── completed · incomplete ──> ended (that event waits for `close`)
//!     └────────────────────── error · failed ──────────> the attempt ends
//! ```
//!
//! The last event is held back until HTTP says that the body is complete, so that an answer which breaks off is never told as a whole
//! one. What a provider itself says of its failure is told on, when the answer has begun at the client.

use super::output::{Answer, Status};
use super::stream::write_event;
use super::{error, retold, usage};
use crate::dialect::event::{End, Event, FinishReason, Observed};
use crate::dialect::flowing::truncated;
use crate::dialect::openai_chat::chunk::member;
use crate::dialect::openai_chat::error as chat_error;
use crate::dialect::openai_chat::passthrough::is_event_line;
use crate::dialect::openai_chat::scan::{self, Cursor, Invalid};
use crate::dialect::openai_chat::write;
use crate::dialect::passing::{Passing, State};
use crate::dialect::sse::Frame;
use crate::dialect::table::Setup;
use crate::domain::Fault;
use serde_json::Value;
use std::ops::Range;

/// Passes one answer on.
pub struct Passthrough {
    passing: Passing,
    events: Events,
    /// Whether the client asked for a stream.
    stream: bool,
}

/// What is known of a stream's events; apart from [`Passthrough`] so that it can be lent to the parser's callback.
struct Events {
    /// The answer, in case the gateway has to end it.
    answer: Answer,
    /// Whether its id is the provider's.
    is_identified: bool,
    /// The number of the next event.
    sequence: u64,
    /// The event that completes the answer, and what came behind it.
    last: Vec<u8>,
    /// Whether that event has come.
    ended: bool,
    /// What the provider said when it failed.
    failure: Vec<u8>,
    /// Whether that was `response.failed`, which nothing need follow.
    failed: bool,
}

/// What an event says of itself.
#[derive(Default)]
struct Seen {
    kind: Range<usize>,
    sequence: Option<u64>,
    response: Option<Range<usize>>,
    item: Option<Range<usize>>,
    delta: Option<Range<usize>>,
    error: bool,
}

impl Passthrough {
    /// The machine for an answer.
    pub fn new(setup: &Setup) -> Self {
        Self {
            passing: Passing::new(setup.stream),
            events: Events {
                answer: Answer::new(setup.id.clone(), &setup.model, setup.created, setup.asked.clone()),
                is_identified: false,
                sequence: 0,
                last: Vec::new(),
                ended: false,
                failure: Vec::new(),
                failed: false,
            },
            stream: setup.stream,
        }
    }

    /// How much of an answer that is not streamed is held, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.passing.body.len()
    }

    /// The id that the provider has given the answer, once it has come.
    pub fn id(&self) -> Option<&str> {
        self.events.is_identified.then_some(&*self.events.answer.id)
    }

    /// Lets a whole answer that grows too large to be held pass as it comes, and appends what was held. Its usage is not read then.
    /// `false` where that cannot be.
    pub fn let_flow(&mut self, observed: &mut Observed, out: &mut Vec<u8>) -> bool {
        if self.stream || !matches!(self.passing.state, State::Whole) {
            return false;
        }
        // Who keeps it is noted by its id, which stands at the beginning.
        if let Some(id) = first_id(&self.passing.body) {
            self.events.answer.id = id.into();
            self.events.is_identified = true;
        }
        self.passing.let_flow(observed, out)
    }

    /// Takes the provider's next bytes and appends what the client gets.
    ///
    /// # Errors
    /// `Malformed` when this is no stream of events. What the provider says in-band goes to `observed.error`.
    pub fn push(&mut self, bytes: &[u8], observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.passing.push(bytes, out, |frame, out| self.events.frame(frame, observed, out))
    }

    /// Ends the answer: a held one is checked and appended.
    ///
    /// # Errors
    /// `Truncated` or `Malformed` when what was held is no answer.
    pub fn finish(&mut self, end: End, observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        match &mut self.passing.state {
            State::Start | State::Done => Ok(()),
            State::Frames(parser) if end == End::Clean => {
                parser.finish(|frame| self.events.frame(&frame, observed, out).map_err(|_| truncated()))
            }
            State::Frames(_) => Ok(()),
            State::Flowing(flowing) => flowing.finish(end, observed),
            State::Whole if end == End::Cut => Err(truncated()),
            State::Whole => self.check_body(observed, out),
        }
    }

    /// Appends what ends a stream: the event that was held back.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.events.last);
    }

    /// Appends the failure that ends a stream which had already begun at the client. A whole answer is never begun.
    pub fn break_off(&mut self, fault: &Fault, out: &mut Vec<u8>) {
        if !self.stream {
            return;
        }
        let Events { answer, sequence, failure, failed, .. } = &mut self.events;
        if failure.is_empty() {
            write_event("error", sequence, out, |out| error::write_members(fault, out));
        }
        out.append(failure);
        if !*failed {
            write_event("response.failed", sequence, out, |out| {
                write::key("response", out);
                answer.write(Status::Failed(fault), out);
            });
        }
    }

    /// A whole answer: a response that has ended, or that goes on in the background.
    fn check_body(&mut self, observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        let body = self.passing.body.trim_ascii();
        if body.is_empty() {
            return Ok(());
        }
        let response: Value = serde_json::from_slice(body).map_err(|broken| {
            if broken.is_eof() { truncated() } else { Fault::malformed("the provider's answer is not JSON") }
        })?;
        if response["status"] == "failed" {
            observed.note(&Event::Error(error::parse(&response)));
            return Ok(());
        }
        let is_answer = response["output"].is_array();
        if !is_answer && !response["error"].is_null() {
            observed.note(&Event::Error(chat_error::parse(body).into_fault(None)));
            return Ok(());
        }
        if !is_answer {
            return Err(Fault::malformed("the provider's answer is no response: it has no output"));
        }
        // One that goes on in the background has no end that a stream could be given.
        if self.stream && !matches!(response["status"].as_str(), Some("completed" | "incomplete")) {
            return Err(Fault::malformed(
                "the provider answered a request for a stream with a response that is not complete",
            ));
        }
        let goes_on = matches!(response["status"].as_str(), Some("queued" | "in_progress"));
        observed.over = Some(!goes_on);
        self.events.identify(&response);
        observed.output_bytes += if goes_on { 0 } else { body.len() as u64 };
        note_response(body, observed);
        finished(reason(&response), observed);
        if self.stream {
            let Events { sequence, last, .. } = &mut self.events;
            retold::write_items(&response, sequence, out);
            retold::write_last(&response, body, sequence, last);
        } else {
            out.extend_from_slice(body);
        }
        Ok(())
    }
}

impl Events {
    fn frame(&mut self, frame: &Frame<'_>, observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        if observed.error.is_some() {
            return Ok(());
        }
        let data = frame.data.trim_ascii();
        if self.ended {
            self.last.extend_from_slice(frame.raw);
            return Ok(());
        }
        if data.is_empty() {
            let is_comment = frame.raw.split(|byte| matches!(byte, b'\n' | b'\r')).all(is_event_line);
            if !is_comment {
                return Err(Fault::malformed("the provider sent something that is no event"));
            }
            out.extend_from_slice(frame.raw);
            return Ok(());
        }
        if data == b"[DONE]" {
            out.extend_from_slice(frame.raw);
            return Ok(());
        }
        if std::str::from_utf8(data).is_err() {
            return Err(Fault::malformed("the provider sent an event that is not UTF-8"));
        }
        let seen = Seen::of(data).map_err(|_| Fault::malformed("the provider sent an event that is not JSON"))?;
        let named = scan::inner(&data[seen.kind.clone()]);
        let kind = if named.is_empty() { frame.event } else { named };
        self.event(kind, &seen, data, frame, observed, out);
        Ok(())
    }

    fn event(
        &mut self,
        kind: &[u8],
        seen: &Seen,
        data: &[u8],
        frame: &Frame<'_>,
        observed: &mut Observed,
        out: &mut Vec<u8>,
    ) {
        self.sequence = seen.sequence.map_or(self.sequence, |number| number.saturating_add(1));
        match kind {
            b"response.completed" | b"response.incomplete" => {
                if let Some(place) = &seen.response {
                    note_response(&data[place.clone()], observed);
                }
                let reason = match seen.response.clone().map(|place| serde_json::from_slice::<Value>(&data[place])) {
                    Some(Ok(response)) => reason(&response),
                    _ => FinishReason::Stop,
                };
                finished(reason, observed);
                observed.over = Some(true);
                self.ended = true;
                self.last.extend_from_slice(frame.raw);
            }
            b"error" | b"response.failed" => {
                self.fail(seen, data, observed);
                self.failed = kind == b"response.failed";
                if self.failed {
                    observed.over = Some(true);
                }
                self.failure.extend_from_slice(frame.raw);
            }
            // Some send the body of an error answer, which is no event that a client knows.
            _ if kind.is_empty() && seen.error => self.fail(seen, data, observed),
            _ => {
                if let (b"response.created", Some(place)) = (kind, &seen.response)
                    && let Ok(response) = serde_json::from_slice(&data[place.clone()])
                {
                    self.identify(&response);
                }
                observe(kind, seen, data, observed);
                out.extend_from_slice(frame.raw);
            }
        }
    }

    fn fail(&mut self, seen: &Seen, data: &[u8], observed: &mut Observed) {
        let place = seen.response.clone().unwrap_or(0..data.len());
        let value = serde_json::from_slice(&data[place]).unwrap_or(Value::Null);
        observed.note(&Event::Error(error::parse(&value)));
    }

    /// Takes over the id and the model that the client has been told.
    fn identify(&mut self, value: &Value) {
        if let Some(id) = value["id"].as_str().filter(|id| !id.is_empty()) {
            self.answer.id = id.into();
            self.is_identified = true;
        }
        if let Some(model) = value["model"].as_str() {
            model.clone_into(&mut self.answer.model);
        }
        if let Some(created) = value["created_at"].as_u64() {
            self.answer.created = created;
        }
    }
}

/// The id of a response of which only the beginning has come.
fn first_id(body: &[u8]) -> Option<String> {
    enum Halt {
        Found(Range<usize>),
        Broken,
    }
    impl From<Invalid> for Halt {
        fn from(_: Invalid) -> Self {
            Self::Broken
        }
    }
    let walked = Cursor::new(body, 0).object(|cursor, key| {
        let value = cursor.value()?;
        if scan::inner(&body[key]) == b"id" { Err(Halt::Found(value)) } else { Ok(()) }
    });
    match walked {
        Err(Halt::Found(place)) => serde_json::from_slice(&body[place]).ok().filter(|id: &String| !id.is_empty()),
        _ => None,
    }
}

impl Seen {
    /// Looks at the members of an event, which must be JSON all through.
    fn of(data: &[u8]) -> Result<Self, Invalid> {
        let mut seen = Self::default();
        let mut cursor = Cursor::new(data, 0);
        cursor.object(|cursor, key| {
            let value = cursor.value()?;
            match scan::inner(&data[key]) {
                b"type" => seen.kind = value,
                b"sequence_number" => seen.sequence = scan::integer(&data[value]),
                b"response" => seen.response = Some(value),
                b"item" => seen.item = Some(value),
                b"delta" => seen.delta = Some(value),
                b"error" => seen.error = data[value.start] != b'n',
                _ => {}
            }
            Ok::<(), Invalid>(())
        })?;
        cursor.end().map(|()| seen)
    }
}

/// Takes note of an event in the middle. A message that begins is a prelude; any other item is the model at work.
fn observe(kind: &[u8], seen: &Seen, data: &[u8], observed: &mut Observed) {
    if let Some(delta) = &seen.delta {
        observed.output |= delta.len() > 2;
        observed.output_bytes += delta.len().saturating_sub(2) as u64;
    }
    if kind == b"response.output_item.added"
        && let Some(item) = &seen.item
    {
        let item = &data[item.clone()];
        let is_message = memchr::memmem::find(item, b"\"message\"").is_some();
        observed.output |= !is_message;
    }
    // An item may come whole, without its pieces before it.
    observed.output |= kind == b"response.output_item.done";
    observed.choices_begun = observed.choices_begun.max(u32::from(observed.output));
}

/// Reads what a response counts.
fn note_response(response: &[u8], observed: &mut Observed) {
    if let Some(place) = member(response, 0, b"usage")
        && let Some(counts) = usage::parse(&response[place])
    {
        observed.note(&Event::Usage(counts));
    }
}

fn finished(reason: FinishReason, observed: &mut Observed) {
    observed.note(&Event::Finish { choice: 0, reason, native: "" });
}

/// How a response ended. One that goes on in the background has ended as far as this answer is concerned.
fn reason(response: &Value) -> FinishReason {
    if response["status"] != "incomplete" {
        return FinishReason::Stop;
    }
    match response["incomplete_details"]["reason"].as_str() {
        Some("content_filter") => FinishReason::ContentFilter,
        _ => FinishReason::Length,
    }
}

#[cfg(test)]
mod tests;
