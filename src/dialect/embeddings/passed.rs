//! A client's request for embeddings as it is read without building anything of it, and passed on to a provider of OpenAI's form.

use super::{Encoding, Sheets, openai::Packed};
use crate::dialect::client::Client;
use crate::dialect::openai_chat::envelope::{Envelope, Field, inside, must_be};
use crate::dialect::openai_chat::quirks::Quirks;
use crate::dialect::openai_chat::scan::{Cursor, Invalid};
use crate::dialect::work::Work;
use crate::domain::Fault;
use bytes::Bytes;

/// For the estimate of the tokens.
const BYTES_A_TOKEN: usize = 4;

/// Looks at a body.
///
/// # Errors
/// `BadRequest` when it is not a JSON object, has no model or no input, or when a member that the gateway acts on has the wrong type.
pub fn scan(body: Bytes) -> Result<Envelope, Fault> {
    let mut envelope = Envelope::unread(Client::OpenAiChat, body)?;
    envelope.work = Work::Embed;
    envelope.read_model()?;
    envelope.read_user()?;
    let input = envelope.last(Field::Input).ok_or_else(|| Fault::bad_request("input", "you must provide an input"))?;
    if !matches!(input.first(), Some(b'"' | b'[')) {
        return Err(must_be("input", "a string, a list of strings, tokens, or lists of tokens"));
    }
    envelope.estimated_input_tokens = input.len().div_ceil(BYTES_A_TOKEN) as u64;
    // Vectors are no tokens.
    envelope.max_tokens = Some(0);
    envelope.extensions = envelope.read_extensions()?;
    envelope.complete_model()?;
    Ok(envelope)
}

/// The body for a provider of OpenAI's form.
pub fn body(envelope: &Envelope, model: &str, quirks: Quirks) -> Vec<u8> {
    let renamed =
        |name: &str| (name == "dimensions" && quirks.has(Quirks::OUTPUT_DIMENSION)).then_some("output_dimension");
    let is_cut = |name: &str, value: &[u8]| {
        let is_float = || value == b"\"float\"";
        let (bare, bytes) = (quirks.has(Quirks::BARE_FLOATS), quirks.has(Quirks::INT8_EMBEDDINGS));
        name == "encoding_format" && ((bare && is_float()) || (bytes && encoding_of(value).is_some()))
    };
    envelope.relayed_body(model, renamed, is_cut)
}

/// The bodies for a provider of OpenAI's form that takes at most so many inputs at once: the same bytes but for the list of inputs. Where
/// the vectors are to be written in a way that only the provider knows there is one body, because they could not be put together.
pub fn sheets(envelope: &Envelope, model: &str, quirks: Quirks, most: Option<usize>) -> Sheets {
    let (body, inputs) = (body(envelope, model, quirks), inputs(envelope));
    let most = most.filter(|_| encoding(envelope).is_some()).unwrap_or(usize::MAX);
    split(body, b"input", inputs, most)
}

/// A body in as many as it takes for the list in this member of it to have at most so many items in each; it has `count` items.
pub(super) fn split(body: Vec<u8>, member: &[u8], count: Option<usize>, most: usize) -> Sheets {
    let whole = |body| Sheets { bodies: vec![body], inputs: vec![count], dropped: Vec::new() };
    let place = inside(&body, member).filter(|_| count.is_some_and(|count| count > most));
    let Some(place) = place else { return whole(body) };
    let mut items = Vec::new();
    let walked = Cursor::new(&body, place.start).array::<Invalid>(|cursor| {
        items.push(cursor.value()?);
        Ok(())
    });
    if walked.is_err() || Some(items.len()) != count {
        return whole(body);
    }
    let mut sheets = Sheets::default();
    for batch in items.chunks(most.max(1)) {
        let (first, last) = (batch[0].start, batch[batch.len() - 1].end);
        sheets.bodies.push([&body[..place.start], b"[", &body[first..last], b"]", &body[place.end..]].concat());
        sheets.inputs.push(Some(batch.len()));
    }
    sheets
}

/// The body without what is addressed to the gateway, to be read.
pub fn own(envelope: &Envelope) -> Vec<u8> {
    envelope.relayed_body(&envelope.model, |_| None, |_, _| false)
}

/// How the client wants its vectors; `None` for a way that only the provider knows.
pub fn encoding(envelope: &Envelope) -> Option<Encoding> {
    match envelope.member("encoding_format") {
        None | Some(b"null") => Some(Encoding::Float),
        Some(value) => encoding_of(value),
    }
}

fn encoding_of(value: &[u8]) -> Option<Encoding> {
    match value {
        b"\"float\"" => Some(Encoding::Float),
        b"\"base64\"" => Some(Encoding::Base64),
        _ => None,
    }
}

/// What base64 of a provider's holds.
pub fn packed(quirks: Quirks) -> Packed {
    if quirks.has(Quirks::INT8_EMBEDDINGS) { Packed::Bytes } else { Packed::Floats }
}

/// How many inputs a request has; `None` when that cannot be told.
pub fn inputs(envelope: &Envelope) -> Option<usize> {
    let input = envelope.last(Field::Input)?;
    if input.starts_with(b"\"") {
        return Some(1);
    }
    let (mut count, mut tokens) = (0, false);
    let mut cursor = Cursor::new(input, 0);
    let counted = cursor.array::<Invalid>(|cursor| {
        tokens |= cursor.peek().is_some_and(|byte| byte.is_ascii_digit());
        count += 1;
        cursor.value().map(drop)
    });
    counted.ok().map(|_| if tokens { 1 } else { count })
}
