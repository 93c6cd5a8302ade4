//! A provider's answer that passes to a client of the same format, as far as that goes the same way in each of them.
//!
//! ```text
//!                     first byte
//!   Start ── `{` or `[` ─────────> Whole ──finish──> checked (or, where a stream was asked for, turned into one)
//!     │                              └──── too large to be held ──> Flowing
//!     └────── anything else ─────> Frames ── the format's own end ──> Done
//! ```

use super::event::Observed;
use super::flowing::Flowing;
use super::sse::{Frame, Opening, Parser};
use crate::domain::Fault;

/// How far an answer has come.
pub(in crate::dialect) enum State {
    /// Nothing but white space has come of a stream.
    Start,
    /// A whole answer is being collected.
    Whole,
    /// A whole answer that was too large to be held: it passes as it comes.
    Flowing(Flowing),
    /// A stream.
    Frames(Parser),
    /// What ends a stream has come; what is behind it does not count.
    Done,
}

/// An answer on its way.
pub(in crate::dialect) struct Passing {
    pub state: State,
    /// The provider's body while it is held.
    pub body: Vec<u8>,
}

impl Passing {
    /// One of which nothing has come.
    pub fn new(stream: bool) -> Self {
        Self { state: if stream { State::Start } else { State::Whole }, body: Vec::new() }
    }

    /// Lets a whole answer pass as it comes from now on, and appends what was held. `false` for a stream.
    pub fn let_flow(&mut self, observed: &mut Observed, out: &mut Vec<u8>) -> bool {
        let is_whole = matches!(self.state, State::Whole);
        if is_whole {
            self.state = State::Flowing(Flowing::of(&mut self.body, observed, out));
        }
        is_whole
    }

    /// Takes the next bytes: holds them, appends them, or shows the frames in them.
    ///
    /// # Errors
    /// `Malformed` when this is no stream of events, and those of `show`.
    pub fn push(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        mut show: impl FnMut(&Frame<'_>, &mut Vec<u8>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let bytes = if let State::Start = self.state {
            let Some((opening, bytes)) = Opening::of(bytes)? else { return Ok(()) };
            self.state = match opening {
                Opening::Json => State::Whole,
                Opening::Events => State::Frames(Parser::new()),
            };
            bytes
        } else {
            bytes
        };
        match &mut self.state {
            State::Start | State::Done => {}
            State::Whole => self.body.extend_from_slice(bytes),
            State::Flowing(flowing) => flowing.push(bytes, out),
            State::Frames(parser) => parser.push(bytes, |frame| show(&frame, out))?,
        }
        Ok(())
    }
}
