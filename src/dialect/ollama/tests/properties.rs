//! Whatever comes: a stream says what the whole answer says, and no bytes make the readers panic.

use super::{decode, lines, read};
use crate::dialect::event::{End, Event};
use crate::dialect::ollama::{error, response, stream};
use proptest::prelude::*;
use serde_json::{Value, json};

fn pieces(text: &str, every: usize) -> Vec<String> {
    text.chars().collect::<Vec<_>>().chunks(every).map(|piece| piece.iter().collect()).collect()
}

/// The same answer as a stream and whole.
fn both(thoughts: &str, text: &str, calls: &[(String, String)], reason: &str, every: usize) -> (String, Value) {
    let end = json!({"model": "m", "done": true, "done_reason": reason, "prompt_eval_count": 3, "eval_count": 4});
    let chunk = |message: Value| json!({"model": "m", "message": message, "done": false});
    let mut sent = vec![chunk(json!({"role": "assistant", "content": ""}))];
    sent.extend(pieces(thoughts, every).into_iter().map(|piece| chunk(json!({"content": "", "thinking": piece}))));
    sent.extend(pieces(text, every).into_iter().map(|piece| chunk(json!({"content": piece}))));
    let calls: Vec<Value> =
        calls.iter().map(|(name, said)| json!({"function": {"name": name, "arguments": {"said": said}}})).collect();
    sent.extend(calls.iter().map(|call| chunk(json!({"content": "", "tool_calls": [call]}))));
    sent.push(end.clone());
    let mut body = end;
    body["message"] = json!({"role": "assistant", "content": text, "thinking": thoughts, "tool_calls": calls});
    (lines(&sent), body)
}

fn ignore(_: Event<'_>) {}

proptest! {
    #[test]
    fn a_stream_says_what_the_whole_answer_says(
        thoughts in "[ -~äß日🌍\n\"]{0,12}",
        text in "[ -~äß日🌍\n\"]{0,12}",
        calls in proptest::collection::vec(("[a-z]{1,5}", "\\PC{0,6}"), 0..3),
        reason in proptest::sample::select(vec!["stop", "length", "load"]),
        every in 1..5_usize,
        pretty in any::<bool>(),
        size in 1..60_usize,
    ) {
        let (stream, body) = both(&thoughts, &text, &calls, reason, every);
        let (whole, outcome) = decode(&if pretty { format!("{body:#}") } else { body.to_string() });
        prop_assert_eq!(outcome, Ok(()));
        let (streamed, outcome) = read(stream.as_bytes().chunks(size), End::Clean);
        prop_assert_eq!(outcome, Ok(()));
        prop_assert_eq!(streamed, whole);
    }

    #[test]
    fn no_bytes_make_it_panic(
        text in "\\PC{0,12}",
        random in proptest::collection::vec(any::<u8>(), 0..200),
        at in any::<usize>(),
        byte in any::<u8>(),
        size in 1..40_usize,
    ) {
        let (stream, body) = both("t", &text, &[("f".to_owned(), "x".to_owned())], "stop", 2);
        let spoiled = |text: String| {
            let mut bytes = text.into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes
        };
        for bytes in [spoiled(stream), spoiled(body.to_string()), random.clone()] {
            let mut decoder = stream::Decoder::new("c");
            let pushed = bytes.chunks(size).try_for_each(|piece| decoder.push(piece, &mut ignore));
            let _ = pushed.and_then(|()| decoder.finish(End::Clean, &mut ignore));
            let _ = response::decode(&bytes, "c", &mut ignore);
            let _ = error::parse(&bytes);
        }
    }
}
