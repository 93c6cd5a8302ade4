//! OpenAI's chat completions as a provider speaks them to a client of another format.
//!
//! ```text
//!   chat::Request ──request::render──> body          messages
//!   bytes ──stream::Decoder──> Event …      body ──response::decode──> Event …
//! ```
//!
//! A client of OpenAI's own format never comes here: its bytes pass (`passthrough.rs`). Deviations of the many compatible providers are
//! read tolerantly, whichever quirks their row has; in requests the row's quirks are heeded.

mod delta;
mod messages;
pub mod request;
pub mod response;
pub mod stream;

#[cfg(test)]
mod tests;
