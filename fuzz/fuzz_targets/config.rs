//! The configuration file: any text is read, with its errors, and nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orbyt::config::file::parse;

fuzz_target!(|text: &str| {
    let parsed = parse("orbyt.toml", text);
    std::hint::black_box(parsed.raw);
});
