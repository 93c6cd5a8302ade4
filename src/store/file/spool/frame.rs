//! How rows stand in a file of the spool.
//!
//! ```text
//! file  = "ORBYTSP" version frame*
//! frame = 0xd5 0x1e  length: u32  crc32 of the payload: u32  payload        (little-endian)
//! ```
//!
//! The payload is a row in postcard's form, which knows fields by their place alone: when the type changes, so does the version. Version 1
//! ends three fields earlier, and is still read. The two bytes in front let a reader find the next frame behind one that is damaged.

use crate::domain::LedgerRow;
use memchr::memmem;
use std::borrow::Cow;

/// What a file begins with: the last byte is the version.
pub(super) const HEADER: &[u8; 8] = b"ORBYTSP2";
/// What the last fields of a row are that version 1 does not have: nothing, and twice no.
const SINCE_FIRST: [u8; 3] = [0; 3];

/// How rows stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// Without what the comparing of questions costs, and without saying whether the usage is an estimate and who has paid.
    First,
    /// As they are written.
    Current,
}

impl Version {
    /// The version of a file that begins like this; `None` when this program does not know it.
    pub(super) fn of(header: &[u8; 8]) -> Option<Self> {
        match header {
            b"ORBYTSP1" => Some(Self::First),
            header if header == HEADER => Some(Self::Current),
            _ => None,
        }
    }

    fn row(self, payload: &[u8]) -> Option<LedgerRow<'static>> {
        match self {
            Self::First => postcard::from_bytes(&[payload, &SINCE_FIRST].concat()).ok(),
            Self::Current => postcard::from_bytes(payload).ok(),
        }
    }
}
const MARK: [u8; 2] = [0xd5, 0x1e];
/// Bytes before the payload.
const PREFIX: usize = 10;
/// The most that a row may take; what only explains it is left out of a larger one.
pub(super) const MOST: usize = 1 << 20;

/// Puts a row as a frame into a buffer, which is emptied first. `None` when it is too large however much is left out.
pub(super) fn encode(row: &LedgerRow<'_>, mut buffer: Vec<u8>) -> Option<Vec<u8>> {
    buffer.clear();
    buffer.extend_from_slice(&[0; PREFIX]);
    let mut frame = postcard::to_extend(row, buffer).ok()?;
    if frame.len() - PREFIX > MOST {
        let small = LedgerRow { decision: None, attempts: Vec::new(), dropped: Cow::Borrowed(&[]), ..row.clone() };
        frame.truncate(PREFIX);
        frame = postcard::to_extend(&small, frame).ok().filter(|frame| frame.len() - PREFIX <= MOST)?;
    }
    let payload = &frame[PREFIX..];
    let (length, sum) = (u32::try_from(payload.len()).ok()?, crc32fast::hash(payload));
    frame[..2].copy_from_slice(&MARK);
    frame[2..6].copy_from_slice(&length.to_le_bytes());
    frame[6..PREFIX].copy_from_slice(&sum.to_le_bytes());
    Some(frame)
}

/// What was read of a piece of a file.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) rows: Vec<LedgerRow<'static>>,
    /// So many bytes of the piece are done with.
    pub(super) used: usize,
    /// Of these: in front of a row, or between two, and unreadable.
    pub(super) damaged: usize,
    /// Of these: behind the last row, and unreadable: what was being written when the process ended.
    pub(super) tail: usize,
}

enum Frame<'a> {
    Whole { payload: &'a [u8], length: usize },
    Incomplete,
    Damaged,
}

fn frame(bytes: &[u8]) -> Frame<'_> {
    let Some((prefix, rest)) = bytes.split_at_checked(PREFIX) else { return Frame::Incomplete };
    let number = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
    let length = number(2) as usize;
    if prefix[..2] != MARK || length > MOST {
        return Frame::Damaged;
    }
    match rest.get(..length) {
        None => Frame::Incomplete,
        Some(payload) if crc32fast::hash(payload) == number(6) => Frame::Whole { payload, length: PREFIX + length },
        Some(_) => Frame::Damaged,
    }
}

/// Reads the rows of a piece of a file that begins where a frame does; `is_end` when nothing is behind the piece.
pub(super) fn read(version: Version, bytes: &[u8], is_end: bool) -> Read {
    let mut read = Read::default();
    let mut unreadable = 0;
    while read.used < bytes.len() {
        let rest = &bytes[read.used..];
        match frame(rest) {
            Frame::Whole { payload, length } => {
                match version.row(payload) {
                    Some(row) => {
                        read.damaged += std::mem::take(&mut unreadable);
                        read.rows.push(row);
                    }
                    None => unreadable += length,
                }
                read.used += length;
            }
            Frame::Incomplete if !is_end => break,
            Frame::Incomplete | Frame::Damaged => {
                let skipped = memmem::find(&rest[1..], &MARK).map_or(rest.len(), |at| at + 1);
                unreadable += skipped;
                read.used += skipped;
            }
        }
    }
    if is_end {
        read.tail = unreadable;
    } else {
        read.damaged += unreadable;
    }
    read
}

#[cfg(test)]
mod tests {
    use super::super::tests::row;
    use super::*;

    fn file(count: u64) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for number in 0..count {
            bytes.extend_from_slice(&encode(&row(number), Vec::new()).unwrap());
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let (bytes, _) = file(3);
        let read = read(Version::Current, &bytes, true);
        assert_eq!(read.rows, [row(0), row(1), row(2)]);
        assert_eq!((read.used, read.damaged, read.tail), (bytes.len(), 0, 0));
    }

    #[test]
    fn cut_anywhere_what_was_whole_is_read_and_the_rest_is_counted() {
        let (bytes, ends) = file(3);
        for cut in 0..bytes.len() {
            let whole = ends.iter().filter(|end| **end > 0 && **end <= cut).count();
            let more = read(Version::Current, &bytes[..cut], false);
            assert_eq!((more.rows.len(), more.used, more.damaged), (whole, ends[whole], 0), "{cut}");
            let last = read(Version::Current, &bytes[..cut], true);
            assert_eq!((last.rows.len(), last.used, last.damaged), (whole, cut, 0), "{cut}");
            assert_eq!(last.tail, cut - ends[whole], "{cut}");
        }
    }

    #[test]
    fn any_damaged_byte_costs_one_row_at_most() {
        let (bytes, ends) = file(3);
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x55;
            let read = read(Version::Current, &bytes, true);
            let hit = ends.iter().filter(|end| **end <= at).count() - 1;
            let expected: Vec<_> = (0..3).filter(|number| *number != hit as u64).map(row).collect();
            assert_eq!(read.rows, expected, "{at}");
            assert_eq!(read.damaged + read.tail, ends[hit + 1] - ends[hit], "{at}");
        }
    }

    #[test]
    fn a_row_that_is_too_large_loses_what_only_explains_it() {
        let large = LedgerRow { dropped: vec!["x".repeat(MOST)].into(), ..row(1) };
        let read = read(Version::Current, &encode(&large, Vec::new()).unwrap(), true);
        assert_eq!((read.rows[0].id, read.rows[0].dropped.len()), (large.id, 0));
        assert!(encode(&LedgerRow { key_name: "x".repeat(MOST).into(), ..row(1) }, Vec::new()).is_none());
    }

    #[test]
    fn rows_of_the_first_version_are_read_without_what_it_does_not_have() {
        let paid = LedgerRow { embedding_cost_picos: None, estimated: false, byok: false, ..row(1) };
        let whole = postcard::to_stdvec(&paid).unwrap();
        // As the first version has written it: the three last fields take a byte each where there is nothing in them.
        let (first, rest) = whole.split_at(whole.len() - SINCE_FIRST.len());
        assert_eq!(rest, SINCE_FIRST);
        let mut bytes = [&MARK[..], &u32::try_from(first.len()).unwrap().to_le_bytes()].concat();
        bytes.extend_from_slice(&crc32fast::hash(first).to_le_bytes());
        bytes.extend_from_slice(first);
        assert_eq!(read(Version::First, &bytes, true).rows, [paid]);
        assert_eq!(read(Version::Current, &bytes, true).rows, [], "it is not taken for one of the second");
        assert_eq!(Version::of(b"ORBYTSP1"), Some(Version::First));
        assert_eq!((Version::of(HEADER), Version::of(b"ORBYTSP3")), (Some(Version::Current), None));
    }
}
