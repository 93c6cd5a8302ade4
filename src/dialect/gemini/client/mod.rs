//! Google's `generateContent` as a client speaks it: `POST /v1beta/models/{model}:generateContent` and its neighbours.
//!
//! ```text
//!   path ──> call ──complete──> body with the model, and how the answer is framed
//!   that body ──> envelope (one scan) ──passthrough_body──> Gemini, without those members again
//!            └──> request  (full parse, with content, tools) ──> other formats render it
//!
//!   Gemini ─────────────────> passthrough (as it came, watched) ───────────┐
//!   other formats' events ──> parts ──> stream │ response (encoders) ──────┴──> client
//! ```
//!
//! A stream is server-sent events with `alt=sse` and one JSON array without; see [`framing`].
//!
//! Sources: as for the provider's side, and Google's clients for Python and Node (`google-genai`), which are what reads it. Names are taken
//! in camel and in snake case, as Google takes them, and one object where a list is meant.

pub mod call;
mod content;
mod defaults;
pub mod envelope;
pub mod error;
mod framing;
mod media;
mod parts;
pub mod passthrough;
pub mod request;
pub mod response;
mod schema;
pub mod stream;
mod thoughts;
mod tools;

pub(in crate::dialect) use defaults::with_defaults;

#[cfg(test)]
mod tests;
