//! Amazon's event streams: messages are the same wherever the bytes are split, and none is read that no checksum vouches for.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orbyt::dialect::eventstream::Parser;

/// Type, name and payload of each message, whether all was sound, and how much waits for the rest of a message.
type Messages = (Vec<(String, String, Vec<u8>)>, bool, usize);

fn messages<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Messages {
    let (mut parser, mut all) = (Parser::new(), Vec::new());
    for piece in pieces {
        let pushed = parser.push(piece, |message| {
            all.push((message.message_type.to_owned(), message.name.to_owned(), message.payload.to_vec()));
            Ok(())
        });
        if pushed.is_err() {
            return (all, false, 0);
        }
    }
    let pending = parser.pending().len();
    (all, true, pending)
}

/// The bytes with the two checksums of the first message put right, so that a fuzzer gets beyond them.
fn repaired(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let Some(total) = bytes.get(..4).and_then(|total| total.try_into().ok()).map(u32::from_be_bytes) else { return bytes };
    let total = total as usize;
    if (16..=bytes.len()).contains(&total) {
        let prelude = crc32fast::hash(&bytes[..8]).to_be_bytes();
        bytes[8..12].copy_from_slice(&prelude);
        let whole = crc32fast::hash(&bytes[..total - 4]).to_be_bytes();
        bytes[total - 4..total].copy_from_slice(&whole);
    }
    bytes
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, bytes)) = data.split_first() else { return };
    for bytes in [bytes.to_vec(), repaired(bytes)] {
        let whole = messages(std::iter::once(&bytes[..]));
        let pieces = messages(bytes.chunks(usize::from(size % 16) + 1));
        assert_eq!(whole, pieces, "the split shows in the messages");
    }
});
