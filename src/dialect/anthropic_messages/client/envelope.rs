//! The hot path's view of a body of `POST /v1/messages`, and Anthropic's body made of the same bytes.
//!
//! Only the model is replaced and the gateway's own members are cut out. One thing more is taken out where it occurs: thoughts of other
//! providers' models, which Anthropic would refuse, because it did not sign them.

use super::thoughts::MARK;
use crate::dialect::client::Client;
use crate::dialect::openai_chat::edit::{Cutter, Edits};
use crate::dialect::openai_chat::envelope::{Envelope, Field, Needs, base64_bytes, inside, must_be};
use crate::dialect::openai_chat::scan::{Cursor, Invalid};
use crate::dialect::openai_chat::write;
use crate::domain::Fault;
use bytes::Bytes;
use memchr::memmem;
use std::ops::Range;
use std::sync::LazyLock;

static IMAGE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("\"image\""));
static DOCUMENT: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("\"document\""));
static FOREIGN: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(MARK));

/// Scans a body.
///
/// # Errors
/// As [`Envelope::scan`].
pub fn scan(body: Bytes) -> Result<Envelope, Fault> {
    let mut envelope = Envelope::unread(Client::AnthropicMessages, body)?;
    envelope.read_model()?;
    envelope.stream = envelope.boolean(Field::Stream, "stream")?.unwrap_or(false);
    // Every stream of this format ends with its usage.
    envelope.include_usage = envelope.stream;
    envelope.max_tokens = envelope.count(Field::MaxTokens, "max_tokens")?;
    envelope.user = user(&envelope)?;
    let messages = envelope.messages()?;
    let tools = envelope.last(Field::Tools).unwrap_or_default();
    let system = envelope.last(Field::System).unwrap_or_default();
    let config = envelope.last(Field::OutputConfig);
    let format =
        config.and_then(|config| inside(config, b"format").filter(|format| config[format.clone()] != *b"null"));
    // JSON is only ever asked for by a schema.
    let structured = format.is_some() || envelope.last(Field::OutputFormat).is_some();
    let needs = Needs {
        tools: tools.len() > 2,
        structured_output: structured,
        json_schema: structured,
        images: IMAGE.find(messages).is_some(),
        files: DOCUMENT.find(messages).is_some(),
        ..Needs::default()
    };
    let data = base64_bytes(messages, needs.images || needs.files);
    let bytes = messages.len() - data + tools.len() + system.len();
    (envelope.needs, envelope.estimated_input_tokens) = (needs, bytes as u64 / 4);
    envelope.extensions = envelope.read_extensions()?;
    envelope.complete_model()?;
    Ok(envelope)
}

fn user(envelope: &Envelope) -> Result<Option<String>, Fault> {
    let Some(metadata) = envelope.last(Field::Metadata) else { return Ok(None) };
    if !metadata.starts_with(b"{") {
        return Err(must_be("metadata", "an object"));
    }
    let id = inside(metadata, b"user_id").map(|place| &metadata[place]).filter(|id| id.starts_with(b"\""));
    let id: Option<String> = id.and_then(|id| serde_json::from_slice(id).ok());
    Ok(id.filter(|id| !id.is_empty()))
}

/// The body for Anthropic.
pub fn passthrough_body(envelope: &Envelope, model: &str) -> Vec<u8> {
    let (mut edits, mut cutter) = (Edits::default(), Cutter::default());
    let body = &envelope.body;
    for member in &envelope.members {
        let value = member.value.clone();
        if member.field.is_extension() {
            edits.replace(cutter.cut(body, member.key.start..value.end), &[]);
            continue;
        }
        cutter.keep(value.end);
        match member.field {
            Field::Model => {
                let mut name = Vec::with_capacity(model.len() + 2);
                write::string(model, &mut name);
                edits.replace(value, &[&name]);
            }
            Field::Messages if FOREIGN.find(&body[value.clone()]).is_some() => {
                // The scan has walked over it before, so this cannot fail.
                let _ = without_foreign_thoughts(body, value.start, &mut edits);
            }
            _ => {}
        }
    }
    let mut out = Vec::new();
    edits.apply(body, &mut out);
    out
}

/// Cuts the blocks out of the messages whose signature or data bears the mark, and messages of which nothing is left.
fn without_foreign_thoughts(body: &[u8], start: usize, edits: &mut Edits) -> Result<(), Invalid> {
    let mut messages = Cutter::default();
    Cursor::new(body, start).array(|cursor| {
        let mut blocks = Blocks::default();
        let message = cursor.object(|cursor, key| {
            if &body[key] == b"\"content\"" && cursor.peek() == Some(b'[') {
                cursor.array(|cursor| {
                    let place = cursor.value()?;
                    blocks.block(body, place);
                    Ok::<(), Invalid>(())
                })?;
                return Ok(());
            }
            cursor.value().map(drop)
        })?;
        if !blocks.cuts.is_empty() && blocks.kept == 0 {
            edits.replace(messages.cut(body, message), &[]);
            return Ok(());
        }
        messages.keep(message.end);
        for cut in blocks.cuts {
            edits.replace(cut, &[]);
        }
        Ok::<(), Invalid>(())
    })?;
    Ok(())
}

#[derive(Default)]
struct Blocks {
    cutter: Cutter,
    cuts: Vec<Range<usize>>,
    kept: usize,
}

impl Blocks {
    fn block(&mut self, body: &[u8], place: Range<usize>) {
        let text = &body[place.clone()];
        let begins = |name: &[u8]| {
            inside(text, name)
                .is_some_and(|at| text[at].strip_prefix(b"\"").is_some_and(|it| it.starts_with(MARK.as_bytes())))
        };
        let is_thought =
            inside(text, b"type").is_some_and(|kind| matches!(&text[kind], b"\"thinking\"" | b"\"redacted_thinking\""));
        if is_thought && (begins(b"signature") || begins(b"data")) {
            self.cuts.push(self.cutter.cut(body, place));
        } else {
            self.kept += 1;
            self.cutter.keep(place.end);
        }
    }
}
