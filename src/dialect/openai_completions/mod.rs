//! OpenAI's text completions (legacy), as a client's format over every provider.
//!
//! ```text
//!   client's body ──bytes, model exchanged──────────────> provider that has `/completions` itself
//!                └──request (one prompt, a user's message)──> the hub ──> other routes and dialects render it
//!
//!   provider with `/completions` ──> openai_chat::passthrough (bytes, watched) ─┐
//!   other dialects' events ────────> stream │ response (encoders) ──────────────┴──> client
//! ```
//!
//! What has no word in a chat (tokens, several prompts, `suffix`, `echo`, `best_of`, `logprobs`) is noted by the scan, so that a plan leaves
//! out who cannot honour it: [`super::openai_chat::envelope::Envelope::beyond_chat`].
//!
//! Source: OpenAI's API reference of completions; what providers really send is known from recordings of their traffic. Errors have the form
//! that chat completions have.

pub mod envelope;
pub mod request;
pub mod response;
pub mod stream;

#[cfg(test)]
mod tests;
