//! Server-sent events: frames are the same wherever the bytes are split, and nothing is lost between them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orbyt::dialect::sse::Parser;

/// Event, data and raw bytes of each frame, and what is left of an unfinished one.
type Frames = (Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>, Vec<u8>);

fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Frames {
    let (mut parser, mut all) = (Parser::new(), Vec::new());
    for piece in pieces {
        let pushed = parser.push(piece, |frame| {
            all.push((frame.event.to_vec(), frame.data.to_vec(), frame.raw.to_vec()));
            Ok(())
        });
        assert!(pushed.is_ok(), "only a frame of many megabytes is refused");
    }
    let pending = parser.pending().to_vec();
    (all, pending)
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, bytes)) = data.split_first() else { return };
    let whole = frames(std::iter::once(bytes));
    let pieces = frames(bytes.chunks(usize::from(size % 16) + 1));
    let joined = |(frames, pending): &Frames| {
        let mut joined: Vec<u8> = frames.iter().flat_map(|(_, _, raw)| raw.clone()).collect();
        joined.extend_from_slice(pending);
        joined
    };
    assert_eq!(joined(&whole), bytes, "bytes were lost");
    assert_eq!(joined(&pieces), bytes, "bytes were lost between two pieces");
    let contents = |frames: &Frames| -> Vec<_> {
        frames.0.iter().filter(|frame| !frame.1.is_empty()).map(|frame| (frame.0.clone(), frame.1.clone())).collect()
    };
    assert_eq!(contents(&whole), contents(&pieces), "the split shows in the frames");
});
