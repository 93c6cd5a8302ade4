//! Any split, any cut and any bytes: the outcome must not depend on the first, and nothing may look complete after the others.

use super::*;
use proptest::prelude::*;

/// One stream with everything in it.
fn rich_stream(line_end: &str) -> String {
    [
        "\n: hello\n\n".to_owned(),
        chunk("[]").replace("c1", ""),
        delta("{\"role\":\"assistant\",\"content\":\"\"}"),
        delta("{\"reasoning\":\"mm\",\"channel\":\"analysis\"}"),
        delta("{\"content\":[{\"type\":\"thinking\",\"thinking\":\"t\"},{\"type\":\"text\",\"text\":\"é🦀\"}]}"),
        chunk("[{\"index\":1,\"delta\":{\"content\":\"\\u00e9 \\\\ \"}}]"),
        delta("{\"tool_calls\":[{\"id\":\"\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}"),
        chunk("[{\"index\":1,\"delta\":{},\"finish_reason\":\"eos\"}]"),
        finish("stop"),
        usage_chunk(),
        usage_chunk().replace("c1", "c2"),
        DONE.to_owned(),
    ]
    .concat()
    .replace('\n', line_end)
}

#[test]
fn it_does_not_matter_where_the_bytes_are_split() {
    for line_end in ["\n", "\r\n"] {
        let stream = rich_stream(line_end);
        let bytes = stream.as_bytes();
        for quirks in [Quirks::NONE, Quirks::ALL_TOLERANT] {
            for include_usage in [true, false] {
                let setup = setup(true, include_usage, quirks);
                let whole = run(&stream, &setup);
                assert_eq!(whole.result, Ok(()));
                for at in 0..=bytes.len() {
                    let split = run_pieces([&bytes[..at], &bytes[at..]], End::Clean, &setup);
                    assert_eq!((&split.out, &split.observed), (&whole.out, &whole.observed), "split at {at}");
                }
                let ones = run_pieces(bytes.chunks(1), End::Clean, &setup);
                assert_eq!((&ones.out, &ones.observed), (&whole.out, &whole.observed));
            }
        }
    }
}

#[test]
fn a_cut_at_any_byte_never_looks_complete() {
    let stream = [plain_stream(), DONE.into()].concat();
    let complete = stream.find("\"finish_reason\":\"stop\"").unwrap() + "\"finish_reason\":\"stop\"}]}".len();
    for at in 0..complete {
        let outcome = run_pieces([&stream.as_bytes()[..at]], End::Clean, &setup(true, false, Quirks::ALL_TOLERANT));
        assert!(outcome.result.is_err(), "cut at {at}");
        assert!(!outcome.out.contains("[DONE]"));
    }
    for at in 0..WHOLE.len() {
        if WHOLE.is_char_boundary(at) {
            let outcome = run(&WHOLE[..at], &setup(false, false, Quirks::NONE));
            assert!(outcome.result.is_err() && outcome.out.is_empty(), "cut at {at}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_grow(bytes in proptest::collection::vec(any::<u8>(), 0..400), stream: bool) {
        let outcome = std::panic::catch_unwind(|| {
            let (mut machine, mut observed, mut out) =
                (Passthrough::new(&setup(stream, true, Quirks::ALL_TOLERANT)), Observed::default(), Vec::new());
            let _ = machine.push(&bytes, &mut observed, &mut out).and_then(|()| machine.finish(End::Clean, &mut observed, &mut out));
            out.len()
        });
        prop_assert!(outcome.unwrap() <= bytes.len() + 2048);
    }

    #[test]
    fn mutated_streams_never_panic_and_repairs_stay_json(at in 0usize..3000, byte in any::<u8>(), length in 0usize..4, crlf: bool) {
        let mut bytes = rich_stream(if crlf { "\r\n" } else { "\n" }).into_bytes();
        let at = at % bytes.len();
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, [byte]);
        let (mut machine, mut observed, mut out) =
            (Passthrough::new(&setup(true, true, Quirks::ALL_TOLERANT)), Observed::default(), Vec::new());
        let _ = machine.push(&bytes, &mut observed, &mut out).and_then(|()| machine.finish(End::Clean, &mut observed, &mut out));
        prop_assert!(out.len() <= 2 * bytes.len() + 2048);
        for line in String::from_utf8_lossy(&out).split(['\r', '\n']).filter_map(|line| line.strip_prefix("data: {")) {
            prop_assert!(serde_json::from_str::<Value>(&format!("{{{line}")).is_ok() , "{}", line);
        }
    }
}
