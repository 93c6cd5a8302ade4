//! The terminal: lines with a colour if it has any, and live events in one line each.

use super::live::LiveEvent;
use std::io::{self, Write};

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Plain,
    Strong,
    Faint,
    Good,
    Warn,
    Bad,
}

impl Ink {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Strong => "1",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
        }
    }
}

/// Where the demo writes to.
pub(super) struct Screen<W> {
    out: W,
    colour: bool,
}

impl<W: Write> Screen<W> {
    pub fn new(out: W, colour: bool) -> Self {
        Self { out, colour }
    }

    /// Writes a line at once.
    pub fn line(&mut self, ink: Ink, text: &str) -> io::Result<()> {
        if self.colour && ink != Ink::Plain {
            writeln!(self.out, "\x1b[{}m{text}\x1b[0m", ink.code())?;
        } else {
            writeln!(self.out, "{text}")?;
        }
        self.out.flush()
    }

    pub fn blank(&mut self) -> io::Result<()> {
        self.line(Ink::Plain, "")
    }

    /// A live event, with the request's id if several requests may be on their way.
    pub fn event(&mut self, event: &LiveEvent, with_id: bool) -> io::Result<()> {
        let ink = match event.state.as_str() {
            "success" => Ink::Good,
            "error" => Ink::Bad,
            "attempt" if event.failed() => Ink::Warn,
            _ => Ink::Faint,
        };
        let id = if with_id { format!("{} ", event.id) } else { String::new() };
        self.line(ink, &format!("     │ {id}{}", event.describe()))
    }
}
