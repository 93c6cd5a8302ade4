//! The harness that the fuzz targets share, over a few inputs: so that it is compiled, and does not rot between two rounds of fuzzing.

#[path = "../fuzz/fuzz_targets/translate/mod.rs"]
mod translate;

use orbyt::dialect::table::Dialect;

#[test]
fn no_split_of_odd_bytes_shows_in_a_text_completion() {
    let inputs: [&[u8]; 6] = [
        b"",
        b"{",
        b"data: {\"choices\":[{\"index\":0,\"text\":\"x\",\"finish_reason\":\"eos\"}],\"usage\":{\"prompt_tokens\":1}}\n\ndata: [DONE]\n\n",
        b"data: {\"choices\":[{\"index\":9999999999,\"text\":\"x\"}]}\n\n",
        b"{\"choices\":[{\"index\":0,\"text\":\"x\",\n\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}",
        &[0xff; 300],
    ];
    for options in 0..=255 {
        for input in inputs {
            translate::completion(&[&[options], input].concat());
        }
    }
}

#[test]
fn no_split_of_odd_bytes_shows_in_any_dialect() {
    let inputs: [&[u8]; 9] = [
        b"",
        b"  ",
        b"{",
        b"<html>",
        b"data: {}\n\ndata: [DONE]\n\n",
        b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\n",
        b"{\"choices\":[{\"index\":0,\"message\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}",
        b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":null}\n\n",
        &[0xff; 300],
    ];
    for dialect in Dialect::ALL {
        for options in 0..=255 {
            for input in inputs {
                translate::answer(dialect, &[&[options], input].concat());
            }
        }
    }
}
