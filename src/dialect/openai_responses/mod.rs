//! OpenAI's Responses, as a client's format over every provider.
//!
//! ```text
//!   client's body ──bytes, model exchanged──────────────> provider that has `/responses` itself
//!                └──request (full parse)──> the hub ────> other dialects render it
//!
//!   provider with `/responses` ──> passthrough (bytes, watched) ─┐
//!   other dialects' events ──────> stream │ response (encoders) ─┴──> client
//! ```
//!
//! Reasoning that another provider has signed or encrypted travels in the `encrypted_content` of a reasoning item ([`seal`]), so that the
//! client's next turn gives it back to where it came from.
//!
//! Source: OpenAI's API reference of Responses and its streaming events; what providers really send is known from recordings of their
//! traffic.

pub mod asked;
pub mod end;
pub mod envelope;
pub mod error;
pub mod items;
pub mod kept;
pub mod output;
pub mod passthrough;
pub mod request;
pub mod response;
mod retold;
pub mod seal;
pub mod stream;
pub mod tools;
pub mod usage;
