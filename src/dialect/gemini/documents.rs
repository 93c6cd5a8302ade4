//! JSON documents cut out of a byte stream: the array that Google sends without `alt=sse`, or a bare object.
//!
//! ```text
//!              '['                 '{'                 its '}'
//!   Before ─────────> Between ───────────> Inside ───────────────> Between (array) or After (bare object)
//!     └── '{' ──────────────────────────────^
//!                     Between ── ']' ──> After
//! ```

use crate::dialect::sse::MAX_FRAME_BYTES;
use crate::domain::{Fault, FaultKind};

/// Where the scan stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Nothing but white space so far.
    #[default]
    Before,
    /// In the array, between two objects.
    Between,
    /// In an object, this many brackets deep.
    Inside(u32),
    /// The array or the bare object is complete.
    After,
}

/// Whether the scan is in a string of the object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Quote {
    #[default]
    Outside,
    Inside,
    /// Behind a backslash.
    Escaped,
}

/// Cuts a byte stream into JSON objects.
#[derive(Debug, Default)]
pub struct Documents {
    place: Place,
    quote: Quote,
    /// Whether an array surrounds the objects.
    array: bool,
    /// The beginning of an object whose end has not come yet.
    pending: Vec<u8>,
}

impl Documents {
    /// Takes the next bytes and hands out every object that they complete.
    ///
    /// # Errors
    /// The callback's, at once, or `Malformed` when something else than objects comes or one outgrows [`MAX_FRAME_BYTES`].
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
        let mut start = 0;
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let Place::Inside(depth) = self.place {
                let (next, depth) = self.scan(bytes, at, depth);
                at = next;
                if depth > 0 {
                    self.place = Place::Inside(depth);
                    continue;
                }
                self.place = if self.array { Place::Between } else { Place::After };
                if self.pending.is_empty() {
                    each(&bytes[start..at])?;
                } else {
                    let mut whole = std::mem::take(&mut self.pending);
                    whole.extend_from_slice(&bytes[start..at]);
                    each(&whole)?;
                }
                continue;
            }
            match (self.place, byte) {
                (_, b' ' | b'\t' | b'\r' | b'\n') | (Place::Between, b',') => {}
                (Place::Before, b'[') => {
                    self.array = true;
                    self.place = Place::Between;
                }
                (Place::Before | Place::Between, b'{') => {
                    start = at;
                    self.place = Place::Inside(1);
                }
                (Place::Between, b']') => self.place = Place::After,
                _ => return Err(Fault::malformed("the provider's stream is not a list of JSON objects")),
            }
            at += 1;
        }
        if matches!(self.place, Place::Inside(_)) {
            self.pending.extend_from_slice(&bytes[start..]);
            if self.pending.len() > MAX_FRAME_BYTES {
                return Err(Fault::malformed("the provider sent an event larger than 32 MiB"));
            }
        }
        Ok(())
    }

    /// Ends the stream cleanly.
    ///
    /// # Errors
    /// `Truncated` when an object or the array around them is not closed.
    pub fn finish(&self) -> Result<(), Fault> {
        match self.place {
            Place::Before | Place::After => Ok(()),
            Place::Between | Place::Inside(_) => {
                Err(Fault::new(FaultKind::Truncated, "the provider's answer broke off inside its JSON"))
            }
        }
    }

    /// Follows an object from `at` until its bracket closes or the bytes end; returns where, and the depth there.
    fn scan(&mut self, bytes: &[u8], mut at: usize, mut depth: u32) -> (usize, u32) {
        while at < bytes.len() {
            match self.quote {
                Quote::Escaped => {
                    self.quote = Quote::Inside;
                    at += 1;
                }
                Quote::Inside => {
                    let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) else { return (bytes.len(), depth) };
                    self.quote = if bytes[at + found] == b'"' { Quote::Outside } else { Quote::Escaped };
                    at += found + 1;
                }
                Quote::Outside => {
                    match bytes[at] {
                        b'"' => self.quote = Quote::Inside,
                        b'{' | b'[' => depth = depth.saturating_add(1),
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    at += 1;
                    if depth == 0 {
                        return (at, 0);
                    }
                }
            }
        }
        (at, depth)
    }
}
