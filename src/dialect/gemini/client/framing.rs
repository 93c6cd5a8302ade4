//! How a stream's answers stand one behind the other: as server-sent events, or as the items of one array.
//!
//! ```text
//!   events   data: {…}␍␊␍␊ data: {…}␍␊␍␊
//!   array    [{…},␍␊{…}]
//! ```
//!
//! An error is one answer more, in both: that is where Google's clients look for it.

use super::error;
use crate::dialect::openai_chat::write;
use crate::dialect::table::Setup;
use crate::domain::Fault;

/// What says that a stream is alive: white space, which both framings allow. Google's clients take no comments.
pub const KEEPALIVE: &[u8] = b"\r\n";

/// The framing of one stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Framing {
    /// Server-sent events.
    Events,
    /// One array.
    Array {
        /// Whether its bracket is written.
        begun: bool,
    },
}

impl Framing {
    /// The framing that the client asked for.
    pub fn new(setup: &Setup) -> Self {
        if setup.array { Self::Array { begun: false } } else { Self::Events }
    }

    /// Begins an answer.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Events => write::raw("data: ", out),
            Self::Array { begun } => {
                write::raw(if *begun { ",\r\n" } else { "[" }, out);
                *begun = true;
            }
        }
    }

    /// Ends an answer.
    pub fn end(&self, out: &mut Vec<u8>) {
        match self {
            Self::Events => write::raw("\r\n\r\n", out),
            Self::Array { .. } => {}
        }
    }

    /// Ends the stream.
    pub fn close(&self, out: &mut Vec<u8>) {
        match self {
            Self::Events => {}
            Self::Array { begun } => write::raw(if *begun { "]" } else { "[]" }, out),
        }
    }

    /// Ends the stream with an error.
    pub fn break_off(&mut self, fault: &Fault, out: &mut Vec<u8>) {
        self.begin(out);
        error::write_fault(fault, out);
        self.end(out);
        self.close(out);
    }
}
