//! Anthropic's messages as a client speaks them: `POST /v1/messages`.
//!
//! ```text
//!   client's body ──> envelope (one scan) ──passthrough_body──> Anthropic
//!                └──> request  (full parse) ─────────────────> other formats render it
//!
//!   Anthropic ──────────────> passthrough (frames as they came, watched) ──┐
//!   other formats' events ──> blocks ──> stream │ response (encoders) ─────┴──> client
//! ```
//!
//! Sources: as for the provider's side, and the accumulators of Anthropic's SDKs for Python and TypeScript, which are what reads it.

mod blocks;
mod content;
pub mod envelope;
pub mod error;
pub mod passthrough;
pub mod request;
pub mod response;
pub mod stream;
mod thoughts;

#[cfg(test)]
mod tests;
