//! Newline-delimited JSON, cut out of a byte stream that may be split anywhere.
//!
//! [`Lines`] hands out whole lines without their ends; a line that lies whole in the pushed chunk is borrowed from it. Blank lines say
//! nothing. A last line whose end is missing is still delivered on a clean end.
//!
//! Source: the NDJSON specification (a line feed ends a text, a carriage return before it is white space).

use super::sse::MAX_FRAME_BYTES;
use crate::domain::Fault;

/// Cuts a byte stream into lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// The beginning of a line whose end has not come yet.
    pending: Vec<u8>,
}

impl Lines {
    /// A cutter at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and hands out every line that they complete.
    ///
    /// # Errors
    /// The callback's, at once, or `Malformed` when a line outgrows [`MAX_FRAME_BYTES`]. The cutter must not be used afterwards.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.pending.is_empty() {
                whole(line, &mut each)?;
            } else {
                let mut line_so_far = std::mem::take(&mut self.pending);
                line_so_far.extend_from_slice(line);
                whole(&line_so_far, &mut each)?;
                line_so_far.clear();
                // Kept for its room: a stream that was cut once is cut again.
                self.pending = line_so_far;
            }
            rest = after;
        }
        self.pending.extend_from_slice(rest);
        if self.pending.len() > MAX_FRAME_BYTES {
            return Err(Fault::malformed("the provider sent a line larger than 32 MiB"));
        }
        Ok(())
    }

    /// Ends the stream cleanly: hands out the last line when only its end is missing.
    ///
    /// # Errors
    /// The callback's.
    pub fn finish(&mut self, mut each: impl FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
        let pending = std::mem::take(&mut self.pending);
        whole(&pending, &mut each)
    }
}

fn whole(line: &[u8], each: &mut impl FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
    let line = line.trim_ascii();
    if line.is_empty() { Ok(()) } else { each(line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut cutter, mut got) = (Lines::new(), Vec::new());
        let mut note = |line: &[u8]| {
            got.push(String::from_utf8(line.to_vec()).unwrap());
            Ok(())
        };
        for chunk in chunks {
            cutter.push(chunk, &mut note).unwrap();
        }
        cutter.finish(&mut note).unwrap();
        got
    }

    #[test]
    fn reads_lines_whole_and_split_at_every_byte() {
        for (stream, expected) in [
            ("{\"a\":1}\n{\"b\":2}\n", vec!["{\"a\":1}", "{\"b\":2}"]),
            ("{\"a\":1}\r\n\r\n\n{\"b\":2}", vec!["{\"a\":1}", "{\"b\":2}"]),
            ("\n\n", vec![]),
            ("", vec![]),
            ("{\"text\":\"ä\\n\"}\n", vec!["{\"text\":\"ä\\n\"}"]),
        ] {
            let bytes = stream.as_bytes();
            assert_eq!(lines(&[bytes]), expected, "{stream:?} whole");
            for at in 0..=bytes.len() {
                assert_eq!(lines(&[&bytes[..at], &bytes[at..]]), expected, "{stream:?} split at {at}");
            }
            assert_eq!(lines(&bytes.chunks(1).collect::<Vec<_>>()), expected, "{stream:?} in single bytes");
        }
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let mut cutter = Lines::new();
        let chunk = vec![b'a'; 1024 * 1024];
        assert!((0..64).try_for_each(|_| cutter.push(&chunk, |_| Ok(()))).is_err());
    }
}
