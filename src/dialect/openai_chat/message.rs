//! The messages of a client's request, read into the hub.

use super::fields::{Fields, Path};
use crate::dialect::chat::{Media, Message, Part, PartKind, ReasoningDetail, ReasoningKind, Role, ToolCall};
use crate::domain::Fault;
use serde_json::{Value, json};

/// Reads `messages`.
///
/// # Errors
/// `BadRequest` that names the place, also when there are none.
pub fn parse_all(messages: Option<Vec<Value>>) -> Result<Vec<Message>, Fault> {
    let path = Path::top("messages");
    let messages = messages.ok_or_else(|| path.fault("you must provide messages"))?;
    if messages.is_empty() {
        return Err(path.fault("messages must not be empty"));
    }
    // The old `function_call` has no id; its result is the next `function` message.
    let mut last_function = None;
    messages
        .into_iter()
        .enumerate()
        .map(|(place, value)| parse(value, place, &path.item(place), &mut last_function))
        .collect()
}

fn parse(value: Value, place: usize, path: &Path<'_>, last_function: &mut Option<String>) -> Result<Message, Fault> {
    let mut fields = Fields::of(value, path)?;
    let word = fields.required_text("role")?;
    let role = match word.as_str() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        _ => {
            let expected = "\"system\", \"developer\", \"user\", \"assistant\", \"tool\" or \"function\"";
            return Err(path.member("role").must_be(expected));
        }
    };
    let mut reasoning = reasoning(&mut fields)?;
    let mut parts = content(fields.any("content"), &path.member("content"), role, &mut reasoning)?;
    if let Some(text) = fields.text("refusal")? {
        parts.push(Part { kind: PartKind::Refusal(text), cache_control: None });
    }
    let mut tool_calls = tool_calls(&mut fields)?;
    if let Some(call) = fields.any("function_call") {
        let id = format!("call_{place}");
        let path = path.member("function_call");
        tool_calls.push(call_of(&mut Fields::of(call, &path)?, id.clone())?);
        *last_function = Some(id);
    }
    let tool_call_id = match word.as_str() {
        "tool" => Some(fields.required_text("tool_call_id")?),
        "function" => {
            let id = last_function.clone();
            Some(id.ok_or_else(|| path.fault(format!("{path} answers no function_call of an assistant's message")))?)
        }
        _ => None,
    };
    Ok(Message {
        role,
        name: fields.text("name")?,
        parts,
        tool_calls,
        tool_call_id,
        reasoning,
        cache_control: fields.any("cache_control"),
    })
}

fn content(
    value: Option<Value>,
    path: &Path<'_>,
    role: Role,
    reasoning: &mut Vec<ReasoningDetail>,
) -> Result<Vec<Part>, Fault> {
    match value {
        // An assistant may have called tools only; a tool may have had nothing to say.
        None if matches!(role, Role::Assistant | Role::Tool) => Ok(Vec::new()),
        None => Err(path.must_be("a string or a list of parts")),
        Some(Value::String(text)) => Ok(vec![Part { kind: PartKind::Text(text), cache_control: None }]),
        Some(Value::Array(items)) => {
            let mut parts = Vec::with_capacity(items.len());
            for (place, item) in items.into_iter().enumerate() {
                parts.extend(part(item, &path.item(place), reasoning)?);
            }
            Ok(parts)
        }
        Some(_) => Err(path.must_be("a string or a list of parts")),
    }
}

/// Reads one part; `None` for a thinking part, which goes to the reasoning of the message.
fn part(value: Value, path: &Path<'_>, reasoning: &mut Vec<ReasoningDetail>) -> Result<Option<Part>, Fault> {
    if let Value::String(text) = value {
        return Ok(Some(Part { kind: PartKind::Text(text), cache_control: None }));
    }
    let mut fields = Fields::of(value, path)?;
    let kind = fields.required_text("type")?;
    let kind = match kind.as_str() {
        "text" | "input_text" | "output_text" => PartKind::Text(fields.required_text("text")?),
        "refusal" => PartKind::Refusal(fields.required_text("refusal")?),
        "image_url" => image(&mut fields)?,
        "input_audio" => PartKind::Audio { source: audio(&mut fields)? },
        "file" => file(&mut fields)?,
        "video_url" => PartKind::Video { source: url(&mut fields, "video_url")?.0 },
        "file_url" => PartKind::File { source: url(&mut fields, "file_url")?.0, filename: None },
        "document_url" => {
            PartKind::File { source: url(&mut fields, "document_url")?.0, filename: fields.text("document_name")? }
        }
        "thinking" => {
            reasoning.push(thinking(&mut fields, reasoning.len())?);
            return Ok(None);
        }
        _ => {
            let expected = "\"text\", \"image_url\", \"input_audio\", \"file\", \"video_url\" or \"refusal\"";
            return Err(path.member("type").must_be(expected));
        }
    };
    Ok(Some(Part { kind, cache_control: cache_mark(&mut fields) }))
}

/// Anthropic's marker as it stands, or OpenAI's for the same: `prompt_cache_breakpoint`, whose shortest time is half an hour.
pub(in crate::dialect) fn cache_mark(fields: &mut Fields<'_>) -> Option<Value> {
    let breakpoint = fields.any("prompt_cache_breakpoint");
    let mark = |point: Value| match point.get("ttl").and_then(Value::as_str) {
        Some(_) => json!({"type": "ephemeral", "ttl": "1h"}),
        None => json!({"type": "ephemeral"}),
    };
    fields.any("cache_control").or(breakpoint.map(mark))
}

fn image(fields: &mut Fields<'_>) -> Result<PartKind, Fault> {
    let (source, detail) = url(fields, "image_url")?;
    let detail = match detail {
        None => fields.text("detail")?,
        detail => detail,
    };
    Ok(PartKind::Image { source, detail })
}

/// An address as a text or as `{url, detail}`.
fn url(fields: &mut Fields<'_>, name: &str) -> Result<(Media, Option<String>), Fault> {
    let path = fields.path.member(name);
    match fields.any(name) {
        Some(Value::String(address)) => Ok((media(address, &path)?, None)),
        Some(value) => {
            let mut inner = Fields::of(value, &path).map_err(|_| path.must_be("a string or an object with \"url\""))?;
            let address = inner.required_text("url")?;
            Ok((media(address, &path.member("url"))?, inner.text("detail")?))
        }
        None => Err(path.must_be("given")),
    }
}

/// A data URL becomes inline data, everything else stays an address.
pub(in crate::dialect) fn media(address: String, path: &Path<'_>) -> Result<Media, Fault> {
    let Some((scheme, rest)) = address.split_once(':') else { return Ok(Media::Url(address)) };
    if !scheme.eq_ignore_ascii_case("data") {
        return Ok(Media::Url(address));
    }
    let (head, data) = rest.split_once(',').ok_or_else(|| path.must_be("a complete data URL"))?;
    let media_type = head.strip_suffix(";base64").ok_or_else(|| path.must_be("a data URL in base64"))?;
    let media_type = media_type.split(';').next().unwrap_or_default();
    let media_type = if media_type.is_empty() { "application/octet-stream" } else { media_type };
    Ok(Media::Inline { media_type: media_type.to_owned(), data: data.to_owned() })
}

pub(in crate::dialect) fn audio(fields: &mut Fields<'_>) -> Result<Media, Fault> {
    let path = fields.path.member("input_audio");
    match fields.any("input_audio") {
        // Mistral's form: an address, or base64 without a format.
        Some(Value::String(text)) if text.starts_with("http") || text.starts_with("data:") => media(text, &path),
        Some(Value::String(data)) => Ok(Media::Inline { media_type: sniffed_audio(&data).to_owned(), data }),
        Some(value) => {
            let mut inner = Fields::of(value, &path)?;
            let data = inner.required_text("data")?;
            let format = inner.text("format")?;
            if data.starts_with("data:") {
                return media(data, &path.member("data"));
            }
            let media_type = format.map_or_else(|| sniffed_audio(&data).to_owned(), |format| format!("audio/{format}"));
            Ok(Media::Inline { media_type, data })
        }
        None => Err(path.must_be("given")),
    }
}

/// The kind of sound by its first bytes in base64: `RIFF` begins a WAV file; otherwise MP3, by far the commonest.
fn sniffed_audio(data: &str) -> &'static str {
    if data.starts_with("UklGR") { "audio/wav" } else { "audio/mp3" }
}

/// `{file_data, filename}`, `{file_id}`; the data as a data URL, as bare base64, or (OpenRouter) as an address.
fn file(fields: &mut Fields<'_>) -> Result<PartKind, Fault> {
    let path = fields.path.member("file");
    let value = fields.any("file").ok_or_else(|| path.must_be("given"))?;
    let mut inner = Fields::of(value, &path)?;
    let filename = inner.text("filename")?;
    let format = inner.text("format")?;
    let source = match (inner.text("file_data")?, inner.text("file_id")?, inner.text("file_url")?) {
        (Some(data), ..) if data.starts_with("data:") || data.starts_with("http") => {
            media(data, &path.member("file_data"))?
        }
        (Some(data), ..) => {
            let by_name = || media_type_of(filename.as_deref().unwrap_or_default()).to_owned();
            Media::Inline { media_type: format.unwrap_or_else(by_name), data }
        }
        (None, Some(id), _) if id.starts_with("http") || id.starts_with("data:") => media(id, &path.member("file_id"))?,
        (None, Some(id), _) => Media::FileId(id),
        (None, None, Some(address)) => media(address, &path.member("file_url"))?,
        (None, None, None) => return Err(path.fault(format!("{path} must have file_data or file_id"))),
    };
    Ok(PartKind::File { source, filename })
}

pub(in crate::dialect) fn media_type_of(filename: &str) -> &'static str {
    match filename.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).as_deref() {
        Some("txt") => "text/plain",
        Some("md") => "text/markdown",
        Some("csv") => "text/csv",
        Some("html" | "htm") => "text/html",
        Some("json") => "application/json",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        _ => "application/pdf",
    }
}

/// A thinking part of an assistant's content: Mistral's list of texts, or Anthropic's text with its signature.
fn thinking(fields: &mut Fields<'_>, index: usize) -> Result<ReasoningDetail, Fault> {
    let path = fields.path.member("thinking");
    let text = match fields.any("thinking") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => return Err(path.must_be("a string or a list of texts")),
    };
    let signature = fields.text("signature")?;
    Ok(ReasoningDetail { kind: ReasoningKind::Text { text, signature }, id: None, format: None, index: index as u32 })
}

/// `reasoning_details`, else `reasoning_content` or `reasoning` as one block.
fn reasoning(fields: &mut Fields<'_>) -> Result<Vec<ReasoningDetail>, Fault> {
    let path = fields.path.member("reasoning_details");
    let details = fields.list("reasoning_details")?.unwrap_or_default();
    let named = fields.text("reasoning_content")?;
    // An object called `reasoning` on a message is some client's own affair.
    let plain = fields.any("reasoning").and_then(|value| value.as_str().map(str::to_owned));
    let mut found = Vec::with_capacity(details.len());
    for (place, value) in details.into_iter().enumerate() {
        found.push(detail(value, place, &path.item(place))?);
    }
    if found.is_empty()
        && let Some(text) = named.or(plain).filter(|text| !text.is_empty())
    {
        found.push(ReasoningDetail {
            kind: ReasoningKind::Text { text, signature: None },
            id: None,
            format: None,
            index: 0,
        });
    }
    Ok(found)
}

pub(in crate::dialect) fn detail(value: Value, place: usize, path: &Path<'_>) -> Result<ReasoningDetail, Fault> {
    let mut fields = Fields::of(value, path)?;
    let kind = match fields.required_text("type")?.as_str() {
        "reasoning.text" => {
            ReasoningKind::Text { text: fields.text("text")?.unwrap_or_default(), signature: fields.text("signature")? }
        }
        "reasoning.summary" => ReasoningKind::Summary(fields.required_text("summary")?),
        "reasoning.encrypted" => ReasoningKind::Encrypted(fields.required_text("data")?),
        _ => {
            let expected = "\"reasoning.text\", \"reasoning.summary\" or \"reasoning.encrypted\"";
            return Err(path.member("type").must_be(expected));
        }
    };
    let index = fields.count("index")?.and_then(|index| u32::try_from(index).ok());
    Ok(ReasoningDetail {
        kind,
        id: fields.text("id")?,
        format: fields.text("format")?.map(Into::into),
        index: index.unwrap_or(place as u32),
    })
}

fn tool_calls(fields: &mut Fields<'_>) -> Result<Vec<ToolCall>, Fault> {
    let path = fields.path.member("tool_calls");
    let calls = fields.list("tool_calls")?.unwrap_or_default();
    calls
        .into_iter()
        .enumerate()
        .map(|(place, value)| {
            let path = path.item(place);
            let mut call = Fields::of(value, &path)?;
            if call.text("type")?.is_some_and(|kind| kind != "function") {
                return Err(path.member("type").must_be("\"function\": other kinds of calls cannot be translated"));
            }
            let id = call.required_text("id")?;
            let inner = path.member("function");
            let function = call.any("function").ok_or_else(|| inner.must_be("given"))?;
            call_of(&mut Fields::of(function, &inner)?, id)
        })
        .collect()
}

fn call_of(function: &mut Fields<'_>, id: String) -> Result<ToolCall, Fault> {
    let arguments = match function.any("arguments") {
        Some(Value::String(text)) if text.trim().is_empty() => "{}".to_owned(),
        Some(Value::String(text)) => text,
        None => "{}".to_owned(),
        // Some clients send the object itself.
        Some(value @ Value::Object(_)) => value.to_string(),
        Some(_) => return Err(function.path.member("arguments").must_be("a string")),
    };
    Ok(ToolCall { id, name: function.required_text("name")?, arguments })
}
