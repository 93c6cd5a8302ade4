//! Server-sent events, cut out of a byte stream that may be split anywhere.
//!
//! [`Parser`] yields whole frames with their raw bytes, so that a pass-through can forward exactly what came. A frame that lies
//! whole in the pushed chunk is borrowed from it; only a frame that is split over chunks is copied.
//!
//! Source: the WHATWG HTML standard, section 9.2.6 (LF, CRLF and CR line ends, several `data` lines, comments, `id` and `retry`
//! fields ignored), with one deviation: a last frame whose blank line is missing is still delivered on a clean end, because several
//! providers forget it.

use crate::domain::Fault;
use std::borrow::Cow;

/// The largest frame that is accepted: a bound for hostile providers, far above any real event (pictures included).
pub const MAX_FRAME_BYTES: usize = 32 * 1024 * 1024;

/// How an answer to a request for a stream begins: not everybody streams what was asked for as a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// With events.
    Events,
    /// With JSON: a whole answer, or an error.
    Json,
}

impl Opening {
    /// What the first bytes are, and those bytes without the white space before them; `None` while there is nothing else.
    ///
    /// # Errors
    /// `Malformed` for a web page.
    pub fn of(bytes: &[u8]) -> Result<Option<(Self, &[u8])>, Fault> {
        let Some(start) = bytes.iter().position(|byte| !byte.is_ascii_whitespace()) else { return Ok(None) };
        let opening = match bytes[start] {
            b'{' | b'[' => Self::Json,
            b'<' => return Err(Fault::malformed("the provider sent a web page instead of an answer")),
            _ => Self::Events,
        };
        Ok(Some((opening, &bytes[start..])))
    }
}

/// One frame of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The last `event` field; empty when there is none.
    pub event: &'a [u8],
    /// The `data` lines joined by a line feed; empty for a frame of comments only.
    pub data: Cow<'a, [u8]>,
    /// Everything as it came, the blank line included.
    pub raw: &'a [u8],
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub struct Parser {
    /// The beginning of a frame whose end has not come yet.
    pending: Vec<u8>,
    /// How much of `pending` is known to hold no blank line: the start of its last, unfinished line.
    scanned: usize,
}

impl Parser {
    /// A parser at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and hands out every frame that they complete.
    ///
    /// # Errors
    /// The callback's, at once, or `Malformed` when a frame outgrows [`MAX_FRAME_BYTES`]. The parser must not be used afterwards.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Frame<'_>) -> Result<(), Fault>) -> Result<(), Fault> {
        if self.pending.is_empty() {
            let (used, scanned) = frames(bytes, 0, &mut each)?;
            self.keep(&bytes[used..], scanned - used)
        } else {
            let mut buffer = std::mem::take(&mut self.pending);
            buffer.extend_from_slice(bytes);
            let (used, scanned) = frames(&buffer, self.scanned, &mut each)?;
            buffer.drain(..used);
            self.pending = buffer;
            self.scanned = scanned - used;
            self.check_size()
        }
    }

    /// Ends the stream cleanly: hands out the last frame when only its blank line is missing.
    ///
    /// # Errors
    /// The callback's.
    pub fn finish(&mut self, each: impl FnOnce(Frame<'_>) -> Result<(), Fault>) -> Result<(), Fault> {
        let pending = std::mem::take(&mut self.pending);
        self.scanned = 0;
        if pending.iter().all(|byte| matches!(byte, b'\r' | b'\n')) { Ok(()) } else { each(frame(&pending)) }
    }

    /// The bytes of a frame that is not complete, as when the connection was cut.
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }

    fn keep(&mut self, rest: &[u8], scanned: usize) -> Result<(), Fault> {
        self.pending.extend_from_slice(rest);
        self.scanned = scanned;
        self.check_size()
    }

    fn check_size(&self) -> Result<(), Fault> {
        if self.pending.len() > MAX_FRAME_BYTES {
            return Err(Fault::malformed("the provider sent an event larger than 32 MiB"));
        }
        Ok(())
    }
}

/// Hands out every complete frame of `bytes`, whose lines up to `line` are known to be neither blank nor the last. Returns how much was
/// used up and where the first unfinished line begins.
fn frames(
    bytes: &[u8],
    mut line: usize,
    each: &mut impl FnMut(Frame<'_>) -> Result<(), Fault>,
) -> Result<(usize, usize), Fault> {
    let mut start = 0;
    while let Some((end, next)) = line_end(bytes, line) {
        if end == line {
            // A blank line closes the frame. Blank lines between frames stay in front of the next one, as its raw bytes.
            if bytes[start..line].iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
                each(frame(&bytes[start..next]))?;
                start = next;
            }
        }
        line = next;
    }
    Ok((start, line))
}

/// The end of the line that begins at `from` and the start of the next one; `None` while it is unfinished. A carriage return at the
/// very end may be half of a CRLF, so it waits.
fn line_end(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let end = from + memchr::memchr2(b'\n', b'\r', &bytes[from..])?;
    if bytes[end] == b'\n' {
        return Some((end, end + 1));
    }
    match bytes.get(end + 1) {
        Some(b'\n') => Some((end, end + 2)),
        Some(_) => Some((end, end + 1)),
        None => None,
    }
}

/// Reads the fields of one whole frame.
fn frame(raw: &[u8]) -> Frame<'_> {
    let mut event: &[u8] = b"";
    let mut data: Option<Cow<'_, [u8]>> = None;
    let mut at = if raw.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    while at < raw.len() {
        let end = at + memchr::memchr2(b'\n', b'\r', &raw[at..]).unwrap_or(raw.len() - at);
        let line = &raw[at..end];
        at = end + 1;
        let (field, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => event = value,
            b"data" => match &mut data {
                None => data = Some(Cow::Borrowed(value)),
                Some(joined) => {
                    let joined = joined.to_mut();
                    joined.push(b'\n');
                    joined.extend_from_slice(value);
                }
            },
            _ => {}
        }
    }
    Frame { event, data: data.unwrap_or_default(), raw }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Owned = (Vec<u8>, Vec<u8>);

    fn parse(chunks: &[&[u8]]) -> (Vec<Owned>, Vec<u8>) {
        let (mut parser, mut got, mut raw) = (Parser::new(), Vec::new(), Vec::new());
        for chunk in chunks {
            parser
                .push(chunk, |f| {
                    got.push((f.event.to_vec(), f.data.to_vec()));
                    raw.extend_from_slice(f.raw);
                    Ok(())
                })
                .unwrap();
        }
        parser
            .finish(|f| {
                got.push((f.event.to_vec(), f.data.to_vec()));
                raw.extend_from_slice(f.raw);
                Ok(())
            })
            .unwrap();
        (got, raw)
    }

    const STREAMS: &[(&str, &[(&str, &str)])] = &[
        ("data: a\n\ndata: b\n\n", &[("", "a"), ("", "b")]),
        ("event: x\r\ndata: a\r\n\r\ndata:b\r\n\r\n", &[("x", "a"), ("", "b")]),
        ("data: a\rdata: b\r\rdata: c\r\r", &[("", "a\nb"), ("", "c")]),
        (": comment\n\ndata: a\n\n", &[("", ""), ("", "a")]),
        ("retry: 100\nid: 7\ndata: a\n\n", &[("", "a")]),
        ("\n\n\ndata: a\n\n\n\ndata: b\n\n", &[("", "a"), ("", "b")]),
        ("data: a\n\ndata: no blank line", &[("", "a"), ("", "no blank line")]),
        ("data\ndata\n\n", &[("", "\n")]),
        ("\u{feff}data: bom\n\n", &[("", "bom")]),
        ("data: {\"a\":\ndata: 1}\n\n", &[("", "{\"a\":\n1}")]),
    ];

    #[test]
    fn reads_frames_whole_and_split_at_every_byte() {
        for (stream, expected) in STREAMS {
            let expected: Vec<Owned> =
                expected.iter().map(|(e, d)| (e.as_bytes().to_vec(), d.as_bytes().to_vec())).collect();
            let bytes = stream.as_bytes();
            assert_eq!(parse(&[bytes]).0, expected, "{stream:?} whole");
            for at in 0..=bytes.len() {
                assert_eq!(parse(&[&bytes[..at], &bytes[at..]]).0, expected, "{stream:?} split at {at}");
            }
            let ones: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(parse(&ones).0, expected, "{stream:?} in single bytes");
        }
    }

    #[test]
    fn raw_bytes_add_up_to_the_stream() {
        for (stream, _) in STREAMS {
            let ones: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
            let raw = parse(&ones).1;
            assert!(stream.as_bytes().starts_with(&raw), "{stream:?}");
            assert!(stream.as_bytes()[raw.len()..].iter().all(|b| matches!(b, b'\r' | b'\n')), "{stream:?}");
        }
    }

    #[test]
    fn a_frame_without_end_is_bounded() {
        let mut parser = Parser::new();
        let chunk = vec![b'a'; 1024 * 1024];
        let outcome = (0..64).try_for_each(|_| parser.push(&chunk, |_| Ok(())));
        assert!(outcome.is_err());
    }
}
