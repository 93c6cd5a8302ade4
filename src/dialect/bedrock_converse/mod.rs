//! Amazon Bedrock's Converse format, as a provider speaks it: `POST /model/{model}/converse` and `…/converse-stream`.
//!
//! ```text
//!   chat::Request ──request::render──> body       params · conversation (media) · tools · thinking
//!   body  ──response::decode──┐
//!                             ├──> answer::Answer ──> Event …     one reader of blocks, so both framings mean the same
//!   bytes ──stream::Decoder ──┘                                   (messages cut by dialect::eventstream)
//! ```
//!
//! Converse puts one form over the models of many makers. What a maker's own models take besides (how to think, top-k) goes into
//! `additionalModelRequestFields` in the maker's words, chosen by [`crate::dialect::chat::ModelTraits::maker`].
//!
//! Sources: Amazon's API reference (Converse, ConverseStream and their types), the service model in botocore, the user guide's pages
//! on tool use, prompt caching, reasoning and structured output, and recordings of real traffic where those are silent.

mod answer;
mod body;
mod citation;
mod conversation;
pub mod error;
mod media;
mod params;
pub mod request;
pub mod response;
pub mod stream;
mod thinking;
mod tools;
mod wire;

#[cfg(test)]
mod tests;
