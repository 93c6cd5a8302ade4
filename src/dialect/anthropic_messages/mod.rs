//! Anthropic's messages format, as a provider speaks it: `POST /v1/messages`.
//!
//! ```text
//!   chat::Request ──request::render──> body       params · conversation · tools · schema · thinking
//!   body  ──response::decode──┐
//!                             ├──> answer::Answer ──> Event …     one reader of blocks, so both framings mean the same
//!   bytes ──stream::Decoder ──┘
//! ```
//!
//! Bedrock's Converse format borrows the rules for thinking and for schemas, which there too are those of Anthropic's models.
//!
//! Sources: Anthropic's API reference and streaming guide (`anthropic-version: 2023-06-01`), the types of its Python
//! SDK, and recordings of real traffic where those are silent.

mod answer;
pub(in crate::dialect) mod body;
mod citation;
pub mod client;
mod conversation;
pub mod error;
mod losses;
mod params;
mod piece;
pub mod request;
pub mod response;
pub(in crate::dialect) mod schema;
pub mod stream;
pub(in crate::dialect) mod thinking;
pub(in crate::dialect) mod tools;
mod wire;

#[cfg(test)]
mod tests;
