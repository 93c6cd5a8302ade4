//! Requests and answers that pass as they are: what is passed on is a request again, and no answer depends on how it was split.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use orbyt::dialect::event::{End, Observed};
use orbyt::dialect::relay::answer::Relayed;
use orbyt::dialect::relay::{body, scan_json};
use orbyt::dialect::work::Endpoint;

const TYPES: [&[u8]; 4] = [b"application/json", b"text/event-stream", b"audio/mpeg", b"text/html"];

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    if let Ok(envelope) = scan_json(Endpoint::Speech, Bytes::copy_from_slice(rest)) {
        let (sent, _) = body(&envelope, "another", None);
        let again = scan_json(Endpoint::Speech, Bytes::from(sent)).expect("a request that was taken is one again");
        assert_eq!((again.model.as_str(), again.stream), ("another", envelope.stream));
    }
    let content_type = TYPES[usize::from(first) % TYPES.len()];
    assert_eq!(answer(content_type, rest, rest.len().max(1)), answer(content_type, rest, 1));
});

/// What the client gets of an answer in pieces of this size, and what it used; `None` when it is none.
fn answer(content_type: &[u8], body: &[u8], size: usize) -> Option<(Vec<u8>, bool)> {
    let (mut machine, mut observed, mut out) = (Relayed::default(), Observed::default(), Vec::new());
    machine.headed(Some(content_type));
    for piece in body.chunks(size) {
        machine.push(piece, &mut observed, &mut out).ok()?;
    }
    machine.finish(End::Clean, &mut observed, &mut out).ok()?;
    assert_eq!(out, body);
    Some((out, observed.usage.is_some()))
}
