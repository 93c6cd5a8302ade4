//! OpenAI's chat completions, as the client's format and as the format of every provider that calls itself compatible.
//!
//! ```text
//!   client's body ──> envelope (one scan) ──passthrough_body──> OpenAI-compatible provider
//!                └──> request  (full parse) ──────────────────> other dialects render it
//!
//!   OpenAI-compatible provider ──> passthrough (bytes, with repairs by quirk) ──┐
//!   other dialects' events ──────> stream │ response (encoders) ────────────────┴──> client
//! ```
//!
//! Source: OpenAI's API reference and OpenRouter's additions to it (`reasoning`, `reasoning_details`, `models`, `provider`); what the
//! other providers really send is known from recordings of their traffic and kept as [`quirks`].

pub mod calls;
pub mod chunk;
pub mod digest;
pub mod edit;
pub mod envelope;
pub mod error;
pub mod fields;
pub mod message;
pub mod passthrough;
pub mod provider;
pub mod question;
pub mod quirks;
pub mod request;
pub mod response;
pub mod scan;
pub mod stream;
pub mod usage;
pub mod write;
