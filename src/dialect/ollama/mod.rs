//! Ollama's own chat format: `POST /api/chat`.
//!
//! ```text
//!   chat::Request ──request::render──> body::Body       with messages, options
//!   body  ──response::decode──┐
//!                             ├──> answer::Answer ──> Event …     one reader of chunks, so both framings mean the same
//!   bytes ──stream::Decoder ──┘                                   lines of JSON (`dialect::ndjson`)
//! ```
//!
//! It says what the OpenAI-compatible side of an Ollama server cannot: how long a model stays loaded (`keep_alive`), how it is run
//! (`options`, the size of its context first of all) and whether it thinks (`think`). A stream is one JSON object a line, the last one
//! with `done`; a whole answer is that object alone.
//!
//! Sources: Ollama's API reference (`docs/api.md` and `docs.ollama.com/api`), the types of its Python client, and recordings.

mod answer;
mod body;
pub mod error;
mod losses;
mod messages;
mod options;
pub mod request;
pub mod response;
pub mod stream;
mod wire;

#[cfg(test)]
mod tests;
