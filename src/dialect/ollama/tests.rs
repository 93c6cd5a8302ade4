//! Tests of the whole format. The fixtures are made up after the documented format.

mod answers;
mod properties;
mod requests;

use super::{response, stream};
use crate::dialect::assembled::Assembled;
use crate::dialect::event::End;
use crate::domain::Fault;
use serde_json::Value;

/// Reads a stream from these pieces.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, end: End) -> (Assembled, Result<(), Fault>) {
    let mut out = Assembled::default();
    let mut decoder = stream::Decoder::new("call_x");
    let mut outcome = pieces.into_iter().try_for_each(|piece| decoder.push(piece, &mut out));
    if outcome.is_ok() {
        outcome = decoder.finish(end, &mut out);
    }
    (out, outcome)
}

/// Reads a whole body.
fn decode(body: &str) -> (Assembled, Result<(), Fault>) {
    let mut out = Assembled::default();
    let outcome = response::decode(body.as_bytes(), "call_x", &mut out);
    (out, outcome)
}

/// Reads a stream whole, cut in two at every byte, in single bytes, and all that with CRLF; all must say the same.
fn read_every_way(stream: &str) -> Assembled {
    let crlf = stream.replace('\n', "\r\n");
    let (expected, outcome) = read([stream.as_bytes()], End::Clean);
    assert_eq!(outcome, Ok(()), "{stream}");
    for bytes in [stream.as_bytes(), crlf.as_bytes()] {
        let ones = read(bytes.chunks(1), End::Clean);
        assert_eq!((&ones.0, ones.1), (&expected, Ok(())), "in single bytes: {stream}");
        for at in 0..=bytes.len() {
            let got = read([&bytes[..at], &bytes[at..]], End::Clean);
            assert_eq!((&got.0, got.1), (&expected, Ok(())), "cut at {at}: {stream}");
        }
    }
    expected
}

/// The chunks as lines.
fn lines(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("{chunk}\n")).collect()
}
