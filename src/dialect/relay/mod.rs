//! Requests that pass as they are ([`crate::dialect::work::Endpoint`]): what the gateway acts on is read out of them, the model's name is
//! exchanged, what is the gateway's own cut out, and everything else left alone.
//!
//! ```text
//!   JSON ──scan_json──┐                         ┌─body─> the same JSON
//!                     ├──> Envelope ──(target)──┤
//!   form ──scan_form──┘                         └─body─> the same parts
//!
//!   provider's bytes ──answer::Relayed──> the same bytes; usage is looked for on the way
//! ```
//!
//! Rankings alone have two forms, of which each is put in the other's words where that is needed: [`rerank`].

pub mod answer;
pub(in crate::dialect) mod defaults;
pub mod form;
pub mod pieces;
pub mod rerank;

use super::client::Client;
use super::extensions::{Extensions, Members};
use super::openai_chat::envelope::{Envelope, Field, must_be};
use super::work::{Endpoint, Work};
use crate::domain::Fault;
use bytes::Bytes;
use form::Form;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::sync::Arc;

/// For the estimate of the tokens.
const BYTES_A_TOKEN: usize = 4;
/// The members in which texts stand that a model reads.
const TEXTS: [&str; 4] = ["input", "prompt", "query", "documents"];

/// Looks at a JSON body. A model may be missing: [`Envelope::model`] is empty then.
///
/// # Errors
/// `BadRequest` when it is not a JSON object, or a member that the gateway acts on has the wrong type.
pub fn scan_json(endpoint: Endpoint, body: Bytes) -> Result<Envelope, Fault> {
    let mut envelope = Envelope::unread(Client::OpenAiChat, body)?;
    if envelope.last(Field::Model).is_some() {
        envelope.read_model()?;
    }
    envelope.stream = envelope.boolean(Field::Stream, "stream")?.unwrap_or(false);
    envelope.stream |= envelope.member("stream_format") == Some(b"\"sse\"");
    envelope.read_user()?;
    let texts = TEXTS.iter().filter_map(|name| envelope.member(name)).map(|value| value.len() - data_urls(value));
    let bytes: usize = texts.sum();
    envelope.extensions = envelope.read_extensions()?;
    Ok(ready(envelope, endpoint, bytes))
}

/// Looks at a form.
///
/// # Errors
/// `BadRequest` when a part that the gateway acts on is not what it should be.
pub fn scan_form(endpoint: Endpoint, form: Form) -> Result<Envelope, Fault> {
    let mut envelope = Envelope::unread(Client::OpenAiChat, Bytes::from_static(b"{}"))?;
    envelope.model = form.text("model")?.unwrap_or_default().trim().to_owned();
    envelope.stream = match form.text("stream")?.unwrap_or("false") {
        "true" | "True" | "1" => true,
        "false" | "False" | "0" | "" => false,
        _ => return Err(must_be("stream", "true or false")),
    };
    envelope.user = form.text("user")?.filter(|user| !user.is_empty()).map(str::to_owned);
    let json = |name: &'static str| -> Result<Option<Value>, Fault> {
        let Some(text) = form.text(name)? else { return Ok(None) };
        serde_json::from_str(text).map(Some).map_err(|_| must_be(name, "JSON"))
    };
    // A provider's id is a word, and preferences are an object.
    let provider = form.text("provider")?.map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.into()));
    envelope.extensions = Arc::new(Extensions::parse(Members {
        extra: json("extra")?,
        models: json("models")?,
        provider,
        fallbacks: json("fallbacks")?,
        preset: form.text("preset")?.map(Value::from),
    })?);
    let bytes = form.text_bytes();
    envelope.form = Some(Arc::new(form));
    Ok(ready(envelope, endpoint, bytes))
}

fn ready(mut envelope: Envelope, endpoint: Endpoint, bytes: usize) -> Envelope {
    envelope.work = Work::Relay(endpoint);
    envelope.estimated_input_tokens = bytes.div_ceil(BYTES_A_TOKEN) as u64;
    // What comes out is pictures and sound, and what it takes in tokens nobody can tell before.
    envelope.max_tokens = Some(0);
    envelope
}

/// The body for a provider, and its media type where that is not JSON; `ranking` is the form that its answer has to be brought into.
pub fn body(envelope: &Envelope, model: &str, ranking: Option<rerank::Form>) -> (Vec<u8>, Option<String>) {
    match &envelope.form {
        Some(form) => (form.render(model), Some(form.content_type())),
        None => {
            let renamed = |name: &str| rerank::renamed(ranking?, name);
            let is_cut = |name: &str, _: &[u8]| ranking.is_some_and(|wanted| rerank::is_lost(wanted, name));
            let mut body = envelope.relayed_body(model, renamed, is_cut);
            if envelope.last(Field::Model).is_none() {
                put_model(model, &mut body);
            }
            (body, None)
        }
    }
}

/// Bytes of a request, files included. None of its tokens is shorter.
pub fn size(envelope: &Envelope) -> usize {
    envelope.form.as_ref().map_or_else(|| envelope.body().len(), |form| form.bytes())
}

/// How many pictures are to be made: `n`, else one at the routes for pictures, and none elsewhere.
pub fn pictures(envelope: &Envelope) -> u64 {
    let makes = matches!(envelope.work, Work::Relay(Endpoint::ImageGenerations | Endpoint::ImageEdits));
    // Some write whole numbers as floats; a cast from a float saturates.
    let number = |text: &str| text.trim().trim_matches('"').parse::<f64>().ok().map(|count| count.ceil() as u64);
    let written = match &envelope.form {
        _ if !makes => return 0,
        Some(form) => form.text("n").ok().flatten().and_then(number),
        None => envelope.member("n").and_then(|text| std::str::from_utf8(text).ok()).and_then(number),
    };
    // What is no number is refused by whoever reads it.
    written.unwrap_or(1).max(1)
}

/// The most tokens that a reranker may count: some read the question anew beside each document.
pub fn reranked(envelope: &Envelope) -> u64 {
    let documents = envelope.member("documents").and_then(|text| serde_json::from_slice::<Vec<IgnoredAny>>(text).ok());
    let question = envelope.member("query").map_or(0, <[u8]>::len) as u64;
    let times = documents.map_or(1, |documents| documents.len() as u64);
    question.saturating_mul(times).saturating_add(size(envelope) as u64)
}

/// Puts the model into an object that has none.
fn put_model(model: &str, body: &mut Vec<u8>) {
    let Some(start) = body.iter().position(|byte| *byte == b'{') else { return };
    let is_empty = body[start + 1..].trim_ascii_start().first() == Some(&b'}');
    let mut member = b"\"model\":".to_vec();
    super::openai_chat::write::string(model, &mut member);
    if !is_empty {
        member.push(b',');
    }
    body.splice(start + 1..start + 1, member);
}

/// How many bytes of a JSON text are data URLs.
fn data_urls(text: &[u8]) -> usize {
    super::openai_chat::envelope::base64_bytes(text, false)
}

#[cfg(test)]
mod tests;
