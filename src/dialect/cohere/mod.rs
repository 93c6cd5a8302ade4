//! Cohere's chat format, second version: `POST /v2/chat`.
//!
//! ```text
//!   chat::Request ──request::render──> body::Body       with messages, documents, tools, thinking, params
//!   body  ──response::decode──┐
//!                             ├──> answer::Answer ──> Event …     one reader of contents, so both framings mean the same
//!   bytes ──stream::Decoder ──┘                                   with citations
//! ```
//!
//! What is particular to it: a plan before calls of tools (`tool_plan`), which is reasoning here; citations by default; two counts of
//! tokens, those that were processed (`tokens`, the usage) and those that are paid for (`billed_units`, the cost).
//!
//! Sources: Cohere's API reference (`docs.cohere.com/reference/chat`, `…/chat-stream`), the types of its Python SDK, and recordings of
//! real traffic where those are silent.

mod answer;
mod body;
mod citations;
pub mod error;
mod losses;
mod messages;
mod params;
pub mod request;
pub mod response;
pub mod stream;
mod thinking;
mod tools;
mod wire;

#[cfg(test)]
mod tests;
