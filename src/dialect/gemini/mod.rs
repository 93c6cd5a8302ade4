//! Google's `generateContent` and `streamGenerateContent?alt=sse`, on the Gemini API and on Vertex AI alike.
//!
//! ```text
//!   chat::Request ──> request ──> body::Body             with contents (turns), media, tools, thinking, losses
//!   bytes ──> stream (events or documents) ──┐
//!   body  ──> response ──────────────────────┴──> wire ──> answer (one machine) ──> Event …    with calls, citations
//! ```
//!
//! A stream consists of whole answers in the unary form, one for each piece, so one machine reads both; [`stream`] only cuts the
//! pieces out.
//!
//! [`client`] is the other side: clients that speak this format.
//!
//! Sources: the public reference of the Gemini API (`ai.google.dev/api/generate-content`, `…/docs/thought-signatures`,
//! `…/docs/function-calling`, `…/docs/thinking`), the types of Google's `google-genai` client, and recorded traffic.

pub mod answer;
pub mod body;
pub mod calls;
pub mod citations;
pub mod client;
pub mod contents;
pub mod count;
pub mod documents;
pub mod error;
pub mod losses;
pub mod media;
pub mod request;
pub mod response;
pub mod stream;
pub mod thinking;
pub mod tools;
pub mod wire;

#[cfg(test)]
mod tests;
