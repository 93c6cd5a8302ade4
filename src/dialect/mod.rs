//! Wire formats, as pure state machines: bytes in, bytes out, no I/O and no clock.
//!
//! Everything meets in one hub, so that n client formats and m provider formats need n + m pieces of code:
//!
//! ```text
//!   client's body ──parse──> chat::Request ──render──> provider's body
//!   provider's bytes ──decode──> event::Event … ──encode──> client's bytes      (one machine for both framings)
//! ```
//!
//! [`chat`] is the hub of requests, [`event`] that of answers, [`client`] and [`table`] say who translates to whom, and there is one
//! folder for each format, with the same file names in each: `request.rs`, `response.rs`, `stream.rs`, `error.rs`. A format that stands on
//! both sides has a folder inside for its rarer side. Where both sides speak the same format nothing is translated: see `passthrough.rs`.

pub mod anthropic_messages;
pub mod bedrock_converse;
pub mod chat;
pub mod client;
pub mod cohere;
pub mod effort;
pub mod embeddings;
pub mod error;
pub mod event;
pub mod eventstream;
pub mod extensions;
mod flowing;
pub mod gemini;
pub mod losses;
pub mod ndjson;
pub mod ollama;
pub mod openai_chat;
pub mod openai_completions;
pub mod openai_responses;
pub mod own_names;
mod passing;
pub mod relay;
pub mod sse;
pub mod table;
mod text;
pub mod text_files;
pub mod withheld;
pub mod work;

#[cfg(test)]
mod assembled;
#[cfg(test)]
mod generated;

#[cfg(test)]
mod tests;
