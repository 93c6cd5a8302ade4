//! Messages of Amazon's event-stream framing (`application/vnd.amazon.eventstream`), cut out of a byte stream that may be split
//! anywhere.
//!
//! ```text
//!   total length  4 ┐ big-endian          headers, each:  name length 1 · name · type 1 · value
//!   headers length 4 ┘                    payload
//!   CRC-32 of the 8 bytes above  4        CRC-32 of everything before  4
//! ```
//!
//! A message that lies whole in the pushed chunk is borrowed from it; only one that is split over chunks is copied. Amazon's own
//! crate for this copies every message, makes a list of its headers and bounds no length; both matter here, where every piece of an
//! answer is a message and providers are not trusted, so the forty lines of the format are read by hand. The tests hold them against
//! that crate.
//!
//! Source: "Amazon event stream encoding" in the Smithy specification.

use crate::domain::Fault;

/// The largest message that is accepted. Amazon's own bound is 16 MiB for the payload and 128 KiB for the headers.
pub const MAX_MESSAGE_BYTES: usize = 17 * 1024 * 1024;
/// Lengths and their checksum.
const PRELUDE: usize = 12;
/// The prelude and the checksum at the end.
const OVERHEAD: usize = PRELUDE + 4;

/// One message of the stream, with those headers that say what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message<'a> {
    /// `:message-type`: `event`, `exception` or `error`.
    pub message_type: &'a str,
    /// `:event-type`, or `:exception-type` of an exception, or `:error-code` of an error.
    pub name: &'a str,
    /// `:error-message` of an error.
    pub error_message: &'a str,
    /// What it says, JSON mostly.
    pub payload: &'a [u8],
}

/// Cuts a byte stream into messages.
#[derive(Debug, Default)]
pub struct Parser {
    /// The beginning of a message whose end has not come yet.
    pending: Vec<u8>,
}

impl Parser {
    /// A parser at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and hands out every message that they complete.
    ///
    /// # Errors
    /// The callback's, at once, or `Malformed` for what is no message: a checksum or a length that is wrong. The parser must not be
    /// used afterwards.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Message<'_>) -> Result<(), Fault>) -> Result<(), Fault> {
        if self.pending.is_empty() {
            let used = messages(bytes, &mut each)?;
            self.pending.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        // Most of the time a message lacks its end only; what follows it is not copied.
        let mut rest = bytes;
        while !self.pending.is_empty() {
            let wanted = length(&self.pending)?.unwrap_or(PRELUDE);
            let (taken, left) = rest.split_at(rest.len().min(wanted - self.pending.len()));
            self.pending.extend_from_slice(taken);
            rest = left;
            if self.pending.len() < wanted {
                return Ok(());
            }
            if length(&self.pending)? == Some(self.pending.len()) {
                let pending = std::mem::take(&mut self.pending);
                each(message(&pending)?)?;
                self.pending = pending;
                self.pending.clear();
            }
        }
        self.push(rest, each)
    }

    /// The bytes of a message that is not complete, as when the connection was cut.
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }
}

/// Hands out every complete message of `bytes`; returns how much was used up.
fn messages(bytes: &[u8], each: &mut impl FnMut(Message<'_>) -> Result<(), Fault>) -> Result<usize, Fault> {
    let mut used = 0;
    while let Some(total) = length(&bytes[used..])? {
        let Some(one) = bytes[used..].get(..total) else { break };
        each(message(one)?)?;
        used += total;
    }
    Ok(used)
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(bytes)).ok()
}

fn broken() -> Fault {
    Fault::malformed("the provider sent a broken event-stream message")
}

/// The length of the message that begins here, `None` while its prelude has not come.
fn length(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let Some(prelude) = bytes.get(..PRELUDE) else {
        // What begins like a page or like JSON never becomes a message; no message of a bearable length begins so.
        return match bytes.first() {
            Some(b'<') => Err(Fault::malformed("the provider sent a page instead of an event stream")),
            Some(b'{' | b'[') => Err(Fault::malformed("the provider sent JSON instead of an event stream")),
            _ => Ok(None),
        };
    };
    let (Some(total), Some(headers), Some(checksum)) = (number(prelude, 0), number(prelude, 4), number(prelude, 8))
    else {
        return Err(broken());
    };
    match prelude[0] {
        b'<' => return Err(Fault::malformed("the provider sent a page instead of an event stream")),
        b'{' | b'[' => return Err(Fault::malformed("the provider sent JSON instead of an event stream")),
        _ => {}
    }
    if crc32fast::hash(&prelude[..8]) as usize != checksum
        || total < OVERHEAD
        || headers > total - OVERHEAD
        || total > MAX_MESSAGE_BYTES
    {
        return Err(broken());
    }
    Ok(Some(total))
}

/// Reads a message of known length.
fn message(bytes: &[u8]) -> Result<Message<'_>, Fault> {
    let (body, checksum) = bytes.split_at(bytes.len() - 4);
    if number(checksum, 0) != Some(crc32fast::hash(body) as usize) {
        return Err(broken());
    }
    let headers = number(bytes, 4).ok_or_else(broken)?;
    let (headers, payload) = body[PRELUDE..].split_at_checked(headers).ok_or_else(broken)?;
    let mut message = Message { payload, ..Message::default() };
    read_headers(headers, &mut message).ok_or_else(broken)?;
    Ok(message)
}

/// Reads the headers that matter and steps over the others; `None` when they are not what the format says.
fn read_headers<'a>(mut rest: &'a [u8], message: &mut Message<'a>) -> Option<()> {
    /// The types whose values have a length of their own, and the type of texts.
    const BYTES: u8 = 6;
    const TEXT: u8 = 7;
    while let Some((&name_length, after)) = rest.split_first() {
        let (name, after) = after.split_at_checked(usize::from(name_length))?;
        let (&kind, after) = after.split_first()?;
        let (length, after) = match kind {
            0 | 1 => (0, after),
            2 => (1, after),
            3 => (2, after),
            4 => (4, after),
            5 | 8 => (8, after),
            9 => (16, after),
            BYTES | TEXT => {
                let (length, after) = after.split_at_checked(2)?;
                (usize::from(u16::from_be_bytes(length.try_into().ok()?)), after)
            }
            _ => return None,
        };
        let (value, after) = after.split_at_checked(length)?;
        rest = after;
        let field = match name {
            b":message-type" => &mut message.message_type,
            b":event-type" | b":exception-type" | b":error-code" => &mut message.name,
            b":error-message" => &mut message.error_message,
            _ => continue,
        };
        if kind == TEXT {
            *field = std::str::from_utf8(value).ok()?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_eventstream::frame::write_message_to;
    use aws_smithy_types::event_stream::{Header, HeaderValue, Message as Theirs};
    use proptest::prelude::*;

    type Owned = (String, String, String, Vec<u8>);

    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Result<Vec<Owned>, Fault>, usize) {
        let (mut parser, mut all) = (Parser::new(), Vec::new());
        for piece in pieces {
            let pushed = parser.push(piece, |message| {
                let Message { message_type, name, error_message, payload } = message;
                all.push((message_type.to_owned(), name.to_owned(), error_message.to_owned(), payload.to_vec()));
                Ok(())
            });
            if let Err(fault) = pushed {
                return (Err(fault), all.len());
            }
        }
        (Ok(all), parser.pending().len())
    }

    /// A message as Amazon's own crate writes it.
    fn theirs(name: &str, payload: &[u8], others: &[HeaderValue]) -> Vec<u8> {
        let text = |text: &str| HeaderValue::String(text.to_owned().into());
        let mut message = Theirs::new(payload.to_vec()).add_header(Header::new(":message-type", text("event")));
        for (at, value) in others.iter().enumerate() {
            message = message.add_header(Header::new(format!("other-{at}"), value.clone()));
        }
        message = message.add_header(Header::new(":event-type", text(name)));
        let mut bytes = Vec::new();
        write_message_to(&message, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_known_answer_of_the_specification() {
        // An empty message: 16 bytes, no headers; its checksums are those that Amazon's documents print.
        let empty = hex::decode("000000100000000005c248eb7d98c8ff").unwrap();
        let one = vec![(String::new(), String::new(), String::new(), Vec::new())];
        assert_eq!(read(std::iter::once(&empty[..])).0, Ok(one));
        let mut damaged = empty.clone();
        damaged[15] ^= 1;
        assert!(read(std::iter::once(&damaged[..])).0.is_err());
        damaged = empty;
        damaged[11] ^= 1;
        assert!(read(std::iter::once(&damaged[..])).0.is_err());
    }

    #[test]
    fn every_kind_of_header_is_stepped_over() {
        let others = [
            HeaderValue::Bool(true),
            HeaderValue::Bool(false),
            HeaderValue::Byte(-1),
            HeaderValue::Int16(2),
            HeaderValue::Int32(3),
            HeaderValue::Int64(4),
            HeaderValue::ByteArray(vec![1, 2, 3].into()),
            HeaderValue::String("text".to_owned().into()),
            HeaderValue::Timestamp(aws_smithy_types::DateTime::from_secs(5)),
            HeaderValue::Uuid(6),
        ];
        let bytes = theirs("messageStart", b"{}", &others);
        let read = read(std::iter::once(&bytes[..])).0.unwrap();
        assert_eq!(read, [("event".to_owned(), "messageStart".to_owned(), String::new(), b"{}".to_vec())]);
    }

    #[test]
    fn what_is_no_event_stream_is_called_by_its_name() {
        for (said, expected) in
            [("<html><body>no</body></html>", "a page"), ("{", "JSON"), ("{\"message\": \"no\"}", "JSON")]
        {
            let fault = read(std::iter::once(said.as_bytes())).0.unwrap_err();
            assert!(fault.message.contains(expected), "{said}: {}", fault.message);
        }
    }

    #[test]
    fn a_length_that_lies_is_refused_before_anything_is_waited_for() {
        for (total, headers) in [(0_u32, 0_u32), (15, 0), (16, 1), (u32::MAX, 0), (20, u32::MAX)] {
            let mut bytes = [total.to_be_bytes(), headers.to_be_bytes()].concat();
            bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
            assert!(read(std::iter::once(&bytes[..])).0.is_err(), "{total} {headers}");
        }
    }

    proptest! {
        #[test]
        fn what_their_crate_writes_is_read_in_any_split(
            messages in prop::collection::vec(("[a-zA-Z]{1,12}", prop::collection::vec(any::<u8>(), 0..60)), 0..6),
            size in 1usize..80,
            cut in 0usize..40,
        ) {
            let mut bytes: Vec<u8> = messages.iter().flat_map(|(name, payload)| theirs(name, payload, &[])).collect();
            let expected: Vec<Owned> = messages.iter()
                .map(|(name, payload)| ("event".to_owned(), name.clone(), String::new(), payload.clone()))
                .collect();
            prop_assert_eq!(read(bytes.chunks(size)), (Ok(expected.clone()), 0));
            let kept = bytes.len().saturating_sub(cut);
            bytes.truncate(kept);
            let (cut_short, pending) = read(bytes.chunks(size));
            let cut_short = cut_short.unwrap();
            prop_assert_eq!(&cut_short[..], &expected[..cut_short.len()]);
            prop_assert!(pending > 0 || cut_short.len() == expected.len() || kept == 0 || cut > 0);
        }

        #[test]
        fn no_damage_goes_unseen(
            payload in prop::collection::vec(any::<u8>(), 0..60), at in any::<prop::sample::Index>(), flip in 1u8..=255,
        ) {
            let mut bytes = theirs("contentBlockDelta", &payload, &[]);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let (outcome, _) = read(std::iter::once(&bytes[..]));
            prop_assert!(outcome.is_err() || outcome == Ok(Vec::new()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1usize..50) {
            let whole = read(std::iter::once(&bytes[..])).0.is_ok();
            prop_assert_eq!(read(bytes.chunks(size)).0.is_ok(), whole);
        }
    }
}
