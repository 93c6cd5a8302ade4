//! What processes of a data directory say to each other over its sockets: lines of JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, ErrorKind, Read, Write};

/// Writes a line.
///
/// # Errors
/// The system's.
pub fn say(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Reads a line of so many bytes at most; `None` at the end.
///
/// # Errors
/// The system's; a line that is cut off or too long, or says something else.
pub fn hear<T: DeserializeOwned>(stream: &mut impl BufRead, longest: u64) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    stream.take(longest).read_until(b'\n', &mut line)?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
        Some(_) => Err(ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_line_by_line() {
        let mut said = Vec::new();
        say(&mut said, &"one\ntwo").unwrap();
        say(&mut said, &7).unwrap();
        let mut stream = &*said;
        assert_eq!(hear(&mut stream, 100).unwrap(), Some("one\ntwo".to_owned()));
        assert_eq!(hear(&mut stream, 100).unwrap(), Some(7));
        assert_eq!(hear::<u8>(&mut stream, 100).unwrap(), None);
    }

    #[test]
    fn what_is_cut_off_too_long_or_something_else_is_an_error() {
        for (text, longest) in [("\"one", 100), ("\"one\"\n", 5), ("7\n", 100), ("\n", 100)] {
            assert!(hear::<String>(&mut text.as_bytes(), longest).is_err(), "{text}");
        }
    }
}
