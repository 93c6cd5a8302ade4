//! The hot path's view of a body of `generateContent`, and Google's body made of the same bytes.
//!
//! The gateway's own members are cut out, and with them those that [`super::call`] has put in. One thing more is changed where it occurs:
//! thoughts of other providers' models are taken out, which Google would refuse, because it did not sign them; and a call that was made
//! elsewhere gets the signature that Google documents for that.

use super::thoughts::{MARK, Sealed};
use crate::dialect::client::Client;
use crate::dialect::gemini::contents::UNSIGNED;
use crate::dialect::openai_chat::edit::{Cutter, Edits};
use crate::dialect::openai_chat::envelope::{Envelope, Field, Needs, base64_bytes, inside, must_be};
use crate::dialect::openai_chat::scan::{Cursor, Invalid, inner, integer};
use crate::domain::Fault;
use bytes::Bytes;
use memchr::memmem;
use std::ops::Range;
use std::sync::LazyLock;

static FOREIGN: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(MARK));
/// The end of both `"mimeType"` and `"mime_type"`, of `"fileUri"` and `"file_uri"`.
static TYPE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("ype\":"));
static URI: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("ri\":"));

/// Scans a body.
///
/// # Errors
/// As [`Envelope::scan`].
pub fn scan(body: Bytes) -> Result<Envelope, Fault> {
    let mut envelope = Envelope::unread(Client::Gemini, body)?;
    envelope.read_model()?;
    envelope.stream = envelope.boolean(Field::Stream, "stream")?.unwrap_or(false);
    envelope.array = envelope.stream && envelope.last(Field::Alt) == Some(b"\"json\"");
    // Every stream of this format ends with its usage.
    envelope.include_usage = envelope.stream;
    let config = envelope.last(Field::GenerationConfig);
    if config.is_some_and(|config| !config.starts_with(b"{")) {
        return Err(must_be("generationConfig", "an object"));
    }
    let config = config.unwrap_or(b"{}");
    let max_tokens = count(config, ["maxOutputTokens", "max_output_tokens"], "generationConfig.maxOutputTokens")?;
    let n = count(config, ["candidateCount", "candidate_count"], "generationConfig.candidateCount")?;
    let thinking = either(config, ["thinkingConfig", "thinking_config"]).unwrap_or(b"{}");
    let shows = either(thinking, ["includeThoughts", "include_thoughts"]) == Some(b"true");
    let schema =
        ["responseSchema", "response_schema", "responseJsonSchema", "response_json_schema", "_responseJsonSchema"];
    let json_schema = schema.iter().any(|name| either(config, [name, name]).is_some());
    let mime_type = either(config, ["responseMimeType", "response_mime_type"]);
    let contents = contents(&envelope)?;
    let tools = envelope.last(Field::Tools).unwrap_or_default();
    let declares = |name: &str| memmem::find(tools, name.as_bytes()).is_some();
    let mut needs = Needs {
        tools: declares("\"functionDeclarations\"") || declares("\"function_declarations\""),
        structured_output: json_schema || mime_type == Some(b"\"application/json\""),
        json_schema,
        ..Needs::default()
    };
    media(contents, &mut needs);
    let data = base64_bytes(contents, needs.images || needs.files || needs.audio || needs.video);
    let system = envelope.last(Field::SystemInstruction).unwrap_or_default();
    let bytes = contents.len() - data + tools.len() + system.len();
    (envelope.max_tokens, envelope.n, envelope.exclude_reasoning) = (max_tokens, n, !shows);
    (envelope.needs, envelope.estimated_input_tokens) = (needs, bytes as u64 / 4);
    envelope.extensions = envelope.read_extensions()?;
    envelope.complete_model()?;
    Ok(envelope)
}

/// A member of an object by either of its names; null is none.
fn either<'a>(object: &'a [u8], names: [&str; 2]) -> Option<&'a [u8]> {
    let place = names.iter().find_map(|name| inside(object, name.as_bytes()))?;
    Some(&object[place]).filter(|value| *value != b"null")
}

/// A whole number, which may stand in quotes, as large ones do in this format.
fn count(object: &[u8], names: [&str; 2], path: &'static str) -> Result<Option<u64>, Fault> {
    let Some(value) = either(object, names) else { return Ok(None) };
    let digits = if value.starts_with(b"\"") { inner(value) } else { value };
    integer(digits).map(Some).ok_or_else(|| must_be(path, "a whole number that is not negative"))
}

fn contents(envelope: &Envelope) -> Result<&[u8], Fault> {
    let contents =
        envelope.last(Field::Contents).ok_or_else(|| Fault::bad_request("contents", "you must provide contents"))?;
    match contents.first() {
        Some(b'[') if contents[1..].trim_ascii_start().first() == Some(&b']') => {
            Err(Fault::bad_request("contents", "contents must not be empty"))
        }
        Some(b'[' | b'{') => Ok(contents),
        _ => Err(must_be("contents", "a list")),
    }
}

/// Notes what kinds of media there are, by their types.
fn media(contents: &[u8], needs: &mut Needs) {
    let types = TYPE.find_iter(contents).filter_map(|at| {
        let value = contents[at + 5..].trim_ascii_start().strip_prefix(b"\"")?;
        Some((&contents[..at], value))
    });
    let mut typed = false;
    for (before, value) in types {
        if !(before.ends_with(b"\"mimeT") || before.ends_with(b"\"mime_t")) {
            continue;
        }
        typed = true;
        match value {
            _ if value.starts_with(b"image/") => needs.images = true,
            _ if value.starts_with(b"audio/") => needs.audio = true,
            _ if value.starts_with(b"video/") => needs.video = true,
            _ if value.starts_with(b"text/") => {}
            _ => needs.files = true,
        }
    }
    // An address may stand there without a type.
    let named = |at: usize| contents[..at].ends_with(b"\"fileU") || contents[..at].ends_with(b"\"file_u");
    needs.files |= !typed && URI.find_iter(contents).any(named);
}

/// `generationConfig.temperature`.
pub fn temperature(envelope: &Envelope) -> Option<f64> {
    let value = either(envelope.last(Field::GenerationConfig)?, ["temperature"; 2])?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Whether `generationConfig` has what chat completions call by this name.
pub(in crate::dialect) fn has(envelope: &Envelope, name: &str) -> bool {
    let names = match name {
        "top_p" => ["topP", "top_p"],
        "reasoning" | "reasoning_effort" => ["thinkingConfig", "thinking_config"],
        name => [name; 2],
    };
    envelope.last(Field::GenerationConfig).is_some_and(|config| either(config, names).is_some())
}

/// The body for Gemini.
pub fn passthrough_body(envelope: &Envelope) -> Vec<u8> {
    let (mut edits, mut cutter) = (Edits::default(), Cutter::default());
    let body = &envelope.body;
    for member in &envelope.members {
        let value = member.value.clone();
        let is_ours = matches!(member.field, Field::Model | Field::Stream | Field::Alt) || member.field.is_extension();
        if is_ours {
            edits.replace(cutter.cut(body, member.key.start..value.end), &[]);
            continue;
        }
        cutter.keep(value.end);
        if member.field == Field::Contents && FOREIGN.find(&body[value.clone()]).is_some() {
            // The scan has walked over it before, so this cannot fail.
            let _ = without_foreign_thoughts(body, value.start, &mut edits);
        }
    }
    let mut out = Vec::new();
    edits.apply(body, &mut out);
    out
}

/// Cuts the parts out of the contents whose signature bears the mark, and contents of which nothing is left.
fn without_foreign_thoughts(body: &[u8], start: usize, edits: &mut Edits) -> Result<(), Invalid> {
    let mut contents = Cutter::default();
    Cursor::new(body, start).array(|cursor| {
        let mut parts = Parts::default();
        let content = cursor.object(|cursor, key| {
            if &body[key] == b"\"parts\"" && cursor.peek() == Some(b'[') {
                cursor.array(|cursor| {
                    let place = cursor.value()?;
                    parts.part(body, place, edits);
                    Ok::<(), Invalid>(())
                })?;
                return Ok(());
            }
            cursor.value().map(drop)
        })?;
        if !parts.cuts.is_empty() && parts.kept == 0 {
            edits.replace(contents.cut(body, content), &[]);
            return Ok(());
        }
        contents.keep(content.end);
        for cut in parts.cuts {
            edits.replace(cut, &[]);
        }
        Ok::<(), Invalid>(())
    })?;
    Ok(())
}

#[derive(Default)]
struct Parts {
    cutter: Cutter,
    cuts: Vec<Range<usize>>,
    kept: usize,
}

impl Parts {
    fn part(&mut self, body: &[u8], place: Range<usize>, edits: &mut Edits) {
        let text = &body[place.clone()];
        let signature = ["thoughtSignature", "thought_signature"].iter().find_map(|name| inside(text, name.as_bytes()));
        let sealed = signature.as_ref().and_then(|at| std::str::from_utf8(inner(&text[at.clone()])).ok());
        let is_ours = sealed.is_some_and(|signature| signature.starts_with(MARK));
        match (is_ours, signature) {
            (true, Some(at)) if sealed.and_then(Sealed::unseal) == Some(Sealed::Call) => {
                let at = place.start + at.start..place.start + at.end;
                edits.replace(at, &[b"\"", UNSIGNED.as_bytes(), b"\""]);
            }
            (true, _) => return self.cuts.push(self.cutter.cut(body, place)),
            (false, _) => {}
        }
        self.kept += 1;
        self.cutter.keep(place.end);
    }
}
