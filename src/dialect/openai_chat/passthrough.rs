//! A compatible provider's answer on its way to an OpenAI client: the bytes pass, watched, and repaired only where a quirk shows. Chat
//! completions and text completions alike: they differ in their choices alone.
//!
//! [`State`] says how far it has come; `[DONE]` ends a stream. Frames are forwarded one by one as they came, but for: the usage chunk that only the gateway asked for, `[DONE]`
//! (written once, by [`Passthrough::close`]), errors (they end the attempt), and chunks with something to repair, which are
//! written anew with the rest of their bytes unchanged.

pub use super::quirks::Quirks;

use super::calls::call_ids;
use super::chunk::{Inspector, Seen, Shape, member};
use super::{error, response, scan, stream, usage, write};
use crate::dialect::client::Client;
use crate::dialect::event::{End, Event, Observed};
use crate::dialect::flowing::truncated;
use crate::dialect::openai_completions::stream as texts;
use crate::dialect::passing::{Passing, State};
use crate::dialect::sse::Frame;
use crate::dialect::table::Setup;
use crate::domain::{Fault, FaultKind};
use std::borrow::Cow;
use std::sync::Arc;

/// Passes one answer on.
pub struct Passthrough {
    passing: Passing,
    chunks: Chunks,
    /// Whether the client asked for a stream.
    stream: bool,
    /// Used where the provider answers a stream's request with a whole answer.
    setup: Setup,
}

/// What is done with the chunks of a stream; apart from [`Passthrough`] so that it can be lent to the parser's callback.
struct Chunks {
    inspector: Inspector,
    quirks: Quirks,
    include_usage: bool,
    /// They are those of text completions.
    texts: bool,
    /// The usage chunk that the client is still to get.
    usage: HeldUsage,
    /// Whether `[DONE]` has come.
    done: bool,
    /// The identity of the answer where the provider gives none.
    id: Arc<str>,
    model: Arc<str>,
    created: u64,
}

/// Usage that waits for the end of the stream, for providers that repeat it.
#[derive(Default)]
struct HeldUsage {
    form: UsageForm,
    bytes: Vec<u8>,
}

#[derive(Default)]
enum UsageForm {
    #[default]
    None,
    /// The provider's own chunk with empty choices.
    Frame,
    /// The `usage` object of a chunk that had choices too.
    Object,
}

impl HeldUsage {
    /// Forgets what was held and gives room for what is.
    fn hold(&mut self, form: UsageForm) -> &mut Vec<u8> {
        self.form = form;
        self.bytes.clear();
        &mut self.bytes
    }
}

impl Passthrough {
    /// The machine for an answer.
    pub fn new(setup: &Setup) -> Self {
        let shape = if setup.stream { Shape::Chunk } else { Shape::Whole };
        let texts = setup.client == Client::OpenAiCompletions;
        Self {
            passing: Passing::new(setup.stream),
            chunks: Chunks {
                inspector: Inspector::new(shape, setup.quirks, setup.exclude_reasoning, setup.id.clone())
                    .of_texts(texts),
                quirks: setup.quirks,
                texts,
                include_usage: setup.include_usage,
                usage: HeldUsage::default(),
                done: false,
                id: setup.id.clone(),
                model: setup.model.clone(),
                created: setup.created,
            },
            stream: setup.stream,
            setup: setup.clone(),
        }
    }

    /// How much of an answer that is not streamed is held, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.passing.body.len()
    }

    /// Lets a whole answer that grows too large to be held pass as it comes, and appends what was held. It is not repaired then, and its
    /// usage is not read. `false` where that cannot be, because the client wants a stream, or no reasoning.
    pub fn let_flow(&mut self, observed: &mut Observed, out: &mut Vec<u8>) -> bool {
        !self.stream && !self.setup.exclude_reasoning && self.passing.let_flow(observed, out)
    }

    /// Takes the provider's next bytes and appends what the client gets.
    ///
    /// # Errors
    /// `Malformed` when this is no stream of chunks. What the provider says in-band goes to `observed.error`.
    pub fn push(&mut self, bytes: &[u8], observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.passing.push(bytes, out, |frame, out| self.chunks.frame(frame, observed, out))?;
        if self.chunks.done {
            self.passing.state = State::Done;
        }
        Ok(())
    }

    /// Ends the answer: a held one is checked and appended.
    ///
    /// # Errors
    /// `Empty`, `Truncated` or `Malformed` when what was held is no answer.
    pub fn finish(&mut self, end: End, observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        match &mut self.passing.state {
            State::Start | State::Done => Ok(()),
            State::Frames(parser) if end == End::Clean => {
                parser.finish(|frame| self.chunks.frame(&frame, observed, out).map_err(|_| truncated()))?;
                // Without `[DONE]` nobody has said that there is no further choice.
                let missing = !self.chunks.done && observed.choices_finished < self.setup.choices;
                if missing && observed.output { Err(truncated()) } else { Ok(()) }
            }
            State::Flowing(flowing) => flowing.finish(end, observed),
            State::Frames(_) => Ok(()),
            State::Whole if end == End::Cut => Err(truncated()),
            State::Whole if self.stream => self.stream_of_body(observed, out),
            State::Whole => self.check_body(observed, out),
        }
    }

    /// Appends what ends a stream: the usage that was held back, then `[DONE]`.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if self.stream && !matches!(self.passing.state, State::Whole) {
            self.chunks.close(out);
        }
    }

    /// Appends the in-band error that ends a stream which had already begun at the client. A whole answer is never begun.
    pub fn break_off(&mut self, fault: &Fault, out: &mut Vec<u8>) {
        if self.stream {
            let chunks = &self.chunks;
            let (id, model) = chunks.identity();
            let write = if chunks.texts { texts::write_break_off } else { stream::write_break_off };
            write(&id, chunks.created(), &model, fault, out);
        }
    }

    /// A whole answer: valid, with a choice, and unchanged but for repairs and padding.
    fn check_body(&mut self, observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        let body = checked(self.passing.body.trim_ascii())?;
        let inspector = &mut self.chunks.inspector;
        let seen = inspector.inspect(body, observed).map_err(|invalid| broken(&invalid, body))?;
        if let Some(fault) = in_band_error(b"", body, &seen) {
            observed.note(&Event::Error(fault));
        }
        if observed.error.is_some() {
            return Ok(());
        }
        if seen.choices.is_none_or(|choices| choices == 0) {
            return Err(Fault::malformed("the provider's answer has no choices"));
        }
        if seen.unfinished > 0 {
            return Err(truncated());
        }
        if inspector.edits.is_empty() {
            out.extend_from_slice(body);
        } else {
            inspector.edits.apply(body, out);
        }
        Ok(())
    }

    /// A whole answer although a stream was asked for: the client gets a stream of it.
    fn stream_of_body(&mut self, observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        let body = checked(self.passing.body.trim_ascii())?;
        if self.chunks.texts {
            self.chunks.whole_text(body, observed, out)?;
            self.passing.state = State::Done;
            return Ok(());
        }
        let mut encoder = stream::StreamEncoder::new(&self.setup);
        response::decode(body, &call_ids(&self.setup.id), &mut |event: Event<'_>| {
            observed.note(&event);
            encoder.write(&event, out);
        })?;
        // The error alone counts; it must not be followed by the end of a stream.
        if observed.error.is_none() && observed.is_finished() {
            encoder.close(out);
        }
        Ok(())
    }
}

impl Chunks {
    fn frame(&mut self, frame: &Frame<'_>, observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.done || observed.error.is_some() {
            return Ok(());
        }
        let data = frame.data.trim_ascii();
        if data.is_empty() {
            return self.without_data(frame, observed, out);
        }
        if data == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        if self.chunk(data, frame, observed, out)? {
            return Ok(());
        }
        // Some separate their events by one line feed instead of two: then each line is a chunk.
        if !data.contains(&b'\n') {
            return Err(Fault::malformed("the provider sent an event that is not JSON"));
        }
        for line in data.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
            let raw = [b"data: ", line, b"\n\n"].concat();
            let lone = Frame { event: frame.event, data: std::borrow::Cow::Borrowed(line), raw: &raw };
            self.frame(&lone, observed, out)?;
        }
        Ok(())
    }

    /// A comment passes. A body that is no event at all must not be taken for one.
    fn without_data(&mut self, frame: &Frame<'_>, observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        let raw = frame.raw.trim_ascii();
        match raw.first() {
            Some(b'<') => Err(html()),
            Some(b'{') => {
                let bare = Frame { event: b"error", data: std::borrow::Cow::Borrowed(raw), raw: b"" };
                if self.chunk(raw, &bare, observed, out)? {
                    return Ok(());
                }
                Err(Fault::malformed("the provider sent something that is no event"))
            }
            _ if raw.split(|byte| matches!(byte, b'\n' | b'\r')).all(is_event_line) => {
                out.extend_from_slice(frame.raw);
                Ok(())
            }
            _ => Err(Fault::malformed("the provider sent something that is no event")),
        }
    }

    /// Passes one chunk on; `false` when it is no JSON.
    fn chunk(
        &mut self,
        data: &[u8],
        frame: &Frame<'_>,
        observed: &mut Observed,
        out: &mut Vec<u8>,
    ) -> Result<bool, Fault> {
        if std::str::from_utf8(data).is_err() {
            return Err(Fault::malformed("the provider sent an event that is not UTF-8"));
        }
        let Ok(seen) = self.inspector.inspect(data, observed) else { return Ok(false) };
        if let Some(fault) = in_band_error(frame.event, data, &seen) {
            observed.note(&Event::Error(fault));
        }
        if observed.error.is_some() {
            return Ok(true);
        }
        for (choice, call) in self.inspector.calls_without_arguments() {
            let (id, model) = self.identity();
            stream::write_empty_arguments(&id, self.created(), &model, *choice, *call, out);
        }
        if self.withhold_usage(data, frame, &seen) {
            return Ok(true);
        }
        if self.inspector.edits.is_empty() {
            out.extend_from_slice(frame.raw);
        } else {
            write_event(&mut self.inspector, data, out);
        }
        Ok(true)
    }

    /// Sees to it that usage reaches the client once, in a chunk of its own, and only if asked for; `true` when the chunk is not to be
    /// forwarded now.
    fn withhold_usage(&mut self, data: &[u8], frame: &Frame<'_>, seen: &Seen) -> bool {
        let Some(place) = seen.usage.clone() else { return false };
        let has_choices = seen.choices.is_some_and(|choices| choices > 0);
        let repeats = self.quirks.has(Quirks::USAGE_IN_CHUNKS);
        if !has_choices {
            if self.include_usage && repeats {
                let held = self.usage.hold(UsageForm::Frame);
                if self.inspector.edits.is_empty() {
                    held.extend_from_slice(frame.raw);
                } else {
                    write_event(&mut self.inspector, data, held);
                }
            }
            return repeats || !self.include_usage;
        }
        if repeats && let Some(member) = seen.usage_member.clone() {
            self.inspector.edits.replace(member, &[]);
            if self.include_usage && usage::parse(&data[place.clone()]).is_some() {
                self.usage.hold(UsageForm::Object).extend_from_slice(&data[place]);
            }
        }
        false
    }

    /// A whole text completion although a stream was asked for: it is a chunk as it stands, the only one.
    fn whole_text(&mut self, body: &[u8], observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.quirks = self.quirks.with(Quirks::USAGE_IN_CHUNKS);
        let line: Vec<u8> = body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
        let raw = [b"data: ", &line[..], b"\n\n"].concat();
        let frame = Frame { event: b"", data: std::borrow::Cow::Borrowed(&line), raw: &raw };
        if self.chunk(&line, &frame, observed, out)? {
            return Ok(());
        }
        Err(self.inspector.inspect(body, observed).map_or_else(|invalid| broken(&invalid, body), |_| truncated()))
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        match self.usage.form {
            UsageForm::None => {}
            UsageForm::Frame => out.extend_from_slice(&self.usage.bytes),
            UsageForm::Object => {
                let (id, model) = self.identity();
                let write = if self.texts { texts::write_usage_chunk } else { stream::write_usage_chunk };
                write(&id, self.created(), &model, &self.usage.bytes, out);
            }
        }
        out.extend_from_slice(stream::DONE);
    }

    /// The id and the model, as JSON.
    fn identity(&self) -> (Cow<'_, [u8]>, Cow<'_, [u8]>) {
        let seen = &self.inspector.identity;
        (or(&seen.id, &self.id), or(&seen.model, &self.model))
    }

    fn created(&self) -> u64 {
        scan::integer(&self.inspector.identity.created).unwrap_or(self.created)
    }
}

fn or<'a>(seen: &'a [u8], ours: &str) -> Cow<'a, [u8]> {
    if !seen.is_empty() {
        return Cow::Borrowed(seen);
    }
    let mut json = Vec::new();
    write::string(ours, &mut json);
    Cow::Owned(json)
}

/// Whether a line without data belongs to an event: blank, a comment, or a field that is not `data`.
pub(in crate::dialect) fn is_event_line(line: &[u8]) -> bool {
    let field = line.split(|byte| *byte == b':').next().unwrap_or_default();
    matches!(field, b"" | b"data" | b"event" | b"id" | b"retry")
}

/// Writes an edited chunk. Line feeds in JSON are white space, but in an event they would end the line.
fn write_event(inspector: &mut Inspector, data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    let start = out.len();
    inspector.edits.apply(data, out);
    for byte in &mut out[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\n\n");
}

/// The error that a chunk or a body is or carries: at the top level, in a choice (OpenRouter), or in a form of its own without `choices`
/// (an event called `error`; older vLLM, Mistral, FastAPI).
fn in_band_error(event: &[u8], json: &[u8], seen: &Seen) -> Option<Fault> {
    if seen.error {
        return Some(error::parse(json).into_fault(None));
    }
    if let Some(place) = seen.choice_error.clone() {
        let wrapped = [b"{\"error\":", &json[place], b"}"].concat();
        return Some(error::parse(&wrapped).into_fault(None));
    }
    if seen.choices.is_some() || seen.usage.is_some() {
        return None;
    }
    let has = |name| member(json, 0, name).map(|place| &json[place]);
    let is_error = event == b"error" || has(b"object") == Some(b"\"error\"") || has(b"detail").is_some();
    is_error.then(|| error::parse(json).into_fault(None))
}

fn checked(body: &[u8]) -> Result<&[u8], Fault> {
    match body.first() {
        None => Err(Fault::new(FaultKind::Empty, "the provider's answer is empty")),
        Some(b'<') => Err(html()),
        Some(_) if std::str::from_utf8(body).is_err() => Err(Fault::malformed("the provider's answer is not UTF-8")),
        Some(_) => Ok(body),
    }
}

fn broken(invalid: &scan::Invalid, body: &[u8]) -> Fault {
    if invalid.at >= body.len() {
        truncated()
    } else {
        Fault::malformed("the provider's answer is not the JSON it should be")
    }
}

fn html() -> Fault {
    Fault::malformed("the provider sent a web page instead of an answer")
}

#[cfg(test)]
mod tests;
