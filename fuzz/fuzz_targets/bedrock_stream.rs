//! Answers in Bedrock's Converse dialect, streamed and not, in any split.

#![no_main]

mod translate;

use libfuzzer_sys::fuzz_target;
use orbyt::dialect::table::Dialect;

fuzz_target!(|data: &[u8]| translate::answer(Dialect::BedrockConverse, data));
