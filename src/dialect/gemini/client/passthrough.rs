//! Gemini's answer on its way to a client of its own format: the bytes pass, watched.
//!
//! ```text
//!                 what comes first          what the client asked for
//!   Start ─────── an event ───────────────> events: as they came · array: their data as its items
//!     │           JSON, where a stream is asked for: each object as an event, or as an item
//!     └────────── JSON, whole ────────────> Whole ──finish──> checked
//!                                             └──── too large to be held ──> Flowing
//! ```
//!
//! A prompt that was blocked is an answer here, not a fault: the client sees Google's own `promptFeedback`. Nothing marks the end of a stream
//! but the end of HTTP, so once there is a finish reason the last answer waits for that: a stream that is cut must not look complete.

use super::framing::Framing;
use crate::dialect::event::{End, Event, Observed};
use crate::dialect::flowing::{Flowing, truncated};
use crate::dialect::gemini::answer::Answer;
use crate::dialect::gemini::documents::Documents;
use crate::dialect::gemini::response;
use crate::dialect::sse::{Frame, Opening, Parser};
use crate::dialect::table::Setup;
use crate::domain::Fault;
use memchr::memmem;
use std::sync::LazyLock;

/// The parts of tools that Google runs itself: output too, though nothing that a client of another format would see.
static TOOLS: LazyLock<[memmem::Finder<'static>; 4]> = LazyLock::new(|| {
    ["\"executableCode\"", "\"codeExecutionResult\"", "\"toolCall\"", "\"toolResponse\""].map(memmem::Finder::new)
});

/// Passes one answer on.
pub struct Passthrough {
    state: State,
    answers: Answers,
    /// The provider's body while it is held.
    body: Vec<u8>,
    stream: bool,
}

enum State {
    /// Nothing but white space has come of a stream.
    Start,
    /// A whole answer is being collected.
    Whole,
    /// A whole answer that was too large to be held.
    Flowing(Flowing),
    /// A stream of events.
    Events(Parser),
    /// A stream in one array, or a single answer.
    Documents(Documents),
}

/// The answers of a stream on their way through.
struct Answers {
    watch: Answer,
    framing: Framing,
    /// The last answer, as the client gets it, while it waits.
    last: Vec<u8>,
}

impl Passthrough {
    /// The machine for an answer.
    pub fn new(setup: &Setup) -> Self {
        Self {
            state: if setup.stream { State::Start } else { State::Whole },
            answers: Answers { watch: Answer::watching(), framing: Framing::new(setup), last: Vec::new() },
            body: Vec::new(),
            stream: setup.stream,
        }
    }

    /// How much of an answer that is not streamed is held, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.body.len()
    }

    /// Lets a whole answer that grows too large to be held pass as it comes, and appends what was held; its usage is not read then.
    /// `false` where the client wants a stream.
    pub fn let_flow(&mut self, observed: &mut Observed, out: &mut Vec<u8>) -> bool {
        if !matches!(self.state, State::Whole) {
            return false;
        }
        self.state = State::Flowing(Flowing::of(&mut self.body, observed, out));
        true
    }

    /// Takes the provider's next bytes and appends what the client gets.
    ///
    /// # Errors
    /// `Malformed` when this is no answer. What the provider says in-band goes to `observed.error`.
    pub fn push(&mut self, bytes: &[u8], observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        let bytes = if let State::Start = self.state {
            let Some((opening, bytes)) = Opening::of(bytes)? else { return Ok(()) };
            self.state = match opening {
                Opening::Json => State::Documents(Documents::default()),
                Opening::Events => State::Events(Parser::new()),
            };
            bytes
        } else {
            bytes
        };
        let answers = &mut self.answers;
        match &mut self.state {
            State::Start => {}
            State::Whole => self.body.extend_from_slice(bytes),
            State::Flowing(flowing) => flowing.push(bytes, out),
            State::Events(parser) => parser.push(bytes, |frame| answers.frame(&frame, observed, out))?,
            State::Documents(documents) => {
                documents.push(bytes, |document| answers.answer(document, None, observed, out))?;
            }
        }
        Ok(())
    }

    /// Ends the answer: a held one is checked and appended.
    ///
    /// # Errors
    /// `Empty`, `Truncated` or `Malformed` when what was held is no answer, or what the provider says in it.
    pub fn finish(&mut self, end: End, observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        let answers = &mut self.answers;
        match &mut self.state {
            State::Start => Ok(()),
            State::Events(_) | State::Documents(_) if end == End::Cut => Ok(()),
            State::Events(parser) => {
                parser.finish(|frame| answers.frame(&frame, observed, out))?;
                answers.watch.finish(&mut |event: Event<'_>| observed.note(&event))
            }
            State::Documents(documents) => {
                documents.finish()?;
                answers.watch.finish(&mut |event: Event<'_>| observed.note(&event))
            }
            State::Flowing(flowing) => flowing.finish(end, observed),
            State::Whole if end == End::Cut => Err(truncated()),
            State::Whole => {
                let mut sink = |event: Event<'_>| observed.note(&event);
                response::read(&self.body, Answer::watching(), &mut sink)?;
                out.extend_from_slice(self.body.trim_ascii());
                Ok(())
            }
        }
    }

    /// Appends what ends a stream.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if self.stream {
            out.append(&mut self.answers.last);
            self.answers.framing.close(out);
        }
    }

    /// Appends the error that ends a stream which had already begun at the client. A whole answer is never begun.
    pub fn break_off(&mut self, fault: &Fault, out: &mut Vec<u8>) {
        if self.stream {
            // An answer that waited is not sent, nor is the bracket in front of the first.
            if self.answers.last.starts_with(b"[") {
                self.answers.framing = Framing::Array { begun: false };
            }
            self.answers.framing.break_off(fault, out);
        }
    }
}

impl Answers {
    fn frame(&mut self, frame: &Frame<'_>, observed: &mut Observed, out: &mut Vec<u8>) -> Result<(), Fault> {
        let data = frame.data.as_ref().trim_ascii();
        let bare = frame.raw.trim_ascii();
        match data {
            b"" if bare.starts_with(b"{") => self.answer(bare, None, observed, out),
            // Comments mean something in events only, and Google's clients take none; nor does Google send an end mark.
            b"" | b"[DONE]" => Ok(()),
            data => self.answer(data, Some(frame.raw), observed, out),
        }
    }

    /// Watches an answer and passes it on: in events as it came, where it came as one.
    fn answer(
        &mut self,
        data: &[u8],
        raw: Option<&[u8]>,
        observed: &mut Observed,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        if observed.error.is_some() {
            return Ok(());
        }
        self.watch.take(data, &mut |event: Event<'_>| observed.note(&event))?;
        if observed.error.is_some() {
            return Ok(());
        }
        observed.output = observed.output || TOOLS.iter().any(|tool| tool.find(data).is_some());
        out.append(&mut self.last);
        let waits = self.watch.has_finish_reason();
        let out = if waits { &mut self.last } else { out };
        match (raw, self.framing) {
            (Some(raw), Framing::Events) => {
                out.extend_from_slice(raw);
                if !raw.ends_with(b"\n") && !raw.ends_with(b"\r") {
                    out.extend_from_slice(b"\r\n\r\n");
                }
            }
            (_, framing) => {
                self.framing.begin(out);
                match framing {
                    // Line ends mean something in events; in JSON they stand between tokens only.
                    Framing::Events => out.extend(data.iter().filter(|byte| !matches!(byte, b'\r' | b'\n'))),
                    Framing::Array { .. } => out.extend_from_slice(data),
                }
                self.framing.end(out);
            }
        }
        Ok(())
    }
}
