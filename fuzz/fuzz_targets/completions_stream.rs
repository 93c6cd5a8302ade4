//! Answers of the route of text completions, streamed and not, in any split.

#![no_main]

mod translate;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| translate::completion(data));
