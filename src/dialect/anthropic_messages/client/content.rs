//! The messages of a request, read into the hub.
//!
//! A user's message may hold results of tools: each becomes a message of its own, in front of what the user says besides. Thoughts become
//! the reasoning of their message, with whose they are (see [`super::thoughts`]).

use super::request::Lost;
use super::thoughts;
use crate::dialect::chat::{Media, Message, Part, PartKind, ReasoningDetail, Role, ToolCall};
use crate::dialect::openai_chat::fields::{Fields, Path};
use crate::domain::Fault;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Reads `system` and `messages`.
///
/// # Errors
/// `BadRequest` that names the place.
pub(super) fn messages(fields: &mut Fields<'_>, lost: &mut Lost) -> Result<Vec<Message>, Fault> {
    let mut out = Vec::new();
    if let Some(value) = fields.any("system") {
        let mut content = Content::default();
        content.read(value, &Path::top("system"), lost)?;
        if !content.parts.is_empty() {
            out.push(Message::new(Role::System, content.parts));
        }
    }
    let path = Path::top("messages");
    let list = fields.list("messages")?.ok_or_else(|| path.fault("you must provide messages"))?;
    for (place, value) in list.into_iter().enumerate() {
        one(value, &path.item(place), lost, &mut out)?;
    }
    if out.iter().all(|message| message.role == Role::System) {
        return Err(path.fault("messages must not be empty"));
    }
    Ok(out)
}

fn one(value: Value, path: &Path<'_>, lost: &mut Lost, out: &mut Vec<Message>) -> Result<(), Fault> {
    let mut fields = Fields::of(value, path)?;
    let role = match fields.required_text("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(path.member("role").must_be("\"user\", \"assistant\" or \"system\"")),
    };
    let inner = path.member("content");
    let value = fields.any("content").ok_or_else(|| inner.must_be("a string or a list of blocks"))?;
    let mut content = Content::default();
    content.read(value, &inner, lost)?;
    out.append(&mut content.results);
    let says_something = !(content.parts.is_empty() && content.calls.is_empty() && content.reasoning.is_empty());
    if says_something {
        let mut read = Message::new(role, content.parts);
        read.tool_calls = content.calls;
        read.reasoning = content.reasoning;
        read.cache_control = content.cache_control;
        out.push(read);
    }
    Ok(())
}

/// What the blocks of one message are to the hub.
#[derive(Default)]
struct Content {
    parts: Vec<Part>,
    calls: Vec<ToolCall>,
    reasoning: Vec<ReasoningDetail>,
    results: Vec<Message>,
    /// The marker of the last call, which has no place of its own for one.
    cache_control: Option<Value>,
}

impl Content {
    fn read(&mut self, value: Value, path: &Path<'_>, lost: &mut Lost) -> Result<(), Fault> {
        match value {
            Value::String(text) if text.is_empty() => Ok(()),
            Value::String(text) => {
                self.parts.push(Part { kind: PartKind::Text(text), cache_control: None });
                Ok(())
            }
            Value::Array(blocks) => {
                blocks.into_iter().enumerate().try_for_each(|(place, block)| self.block(block, &path.item(place), lost))
            }
            _ => Err(path.must_be("a string or a list of blocks")),
        }
    }

    fn block(&mut self, value: Value, path: &Path<'_>, lost: &mut Lost) -> Result<(), Fault> {
        let mut block = Fields::of(value, path)?;
        let kind = block.required_text("type")?;
        let cache_control = block.any("cache_control");
        let part = match kind.as_str() {
            "text" => PartKind::Text(block.required_text("text")?),
            "image" => PartKind::Image { source: source(&mut block)?, detail: None },
            "document" => return self.document(&mut block, cache_control, lost),
            "search_result" => search_result(&mut block)?,
            "tool_use" => {
                self.calls.push(call(&mut block)?);
                self.cache_control = cache_control;
                return Ok(());
            }
            "tool_result" => return self.result(&mut block, cache_control, lost),
            "thinking" => {
                let (text, signature) = (block.text("thinking")?.unwrap_or_default(), block.text("signature")?);
                let index = self.reasoning.len() as u32;
                self.reasoning.push(thoughts::thinking(text, signature.as_deref().unwrap_or_default(), index));
                return Ok(());
            }
            "redacted_thinking" => {
                let index = self.reasoning.len() as u32;
                self.reasoning.push(thoughts::redacted(&block.required_text("data")?, index));
                return Ok(());
            }
            // What Anthropic's own tools did earlier: their findings are in the text that follows.
            kind if is_of_server(kind) => {
                lost.note(&format!("messages.content.{kind}"));
                return Ok(());
            }
            _ => {
                let message = format!("{path} is a block that this provider has no word for: {kind}");
                return Err(path.member("type").fault(message));
            }
        };
        self.parts.push(Part { kind: part, cache_control });
        Ok(())
    }

    fn document(&mut self, block: &mut Fields<'_>, mark: Option<Value>, lost: &mut Lost) -> Result<(), Fault> {
        let filename = block.text("title")?;
        let cited = block.any("citations").is_some_and(|citations| citations["enabled"] == true);
        if cited {
            lost.note("messages.content.citations");
        }
        let context = block.text("context")?;
        if let Some(text) = context.filter(|text| !text.is_empty()) {
            self.parts.push(Part { kind: PartKind::Text(text), cache_control: None });
        }
        let path = block.path.member("source");
        let is_content = block.rest.get("source").is_some_and(|source| source["type"] == "content");
        if !is_content {
            let kind = PartKind::File { source: source(block)?, filename };
            self.parts.push(Part { kind, cache_control: mark });
            return Ok(());
        }
        let mut inner = Fields::of(block.any("source").unwrap_or_default(), &path)?;
        let content = inner.any("content").unwrap_or_default();
        self.read(content, &path.member("content"), lost)?;
        if let Some(last) = self.parts.last_mut().filter(|_| mark.is_some()) {
            last.cache_control = mark;
        }
        Ok(())
    }

    fn result(&mut self, block: &mut Fields<'_>, mark: Option<Value>, lost: &mut Lost) -> Result<(), Fault> {
        let id = block.required_text("tool_use_id")?;
        let failed = block.boolean("is_error")?.unwrap_or(false);
        let mut inner = Self::default();
        if let Some(value) = block.any("content") {
            inner.read(value, &block.path.member("content"), lost)?;
        }
        if failed {
            say_that_it_failed(&mut inner.parts);
        }
        let mut result = Message::new(Role::Tool, inner.parts);
        (result.tool_call_id, result.cache_control) = (Some(id), mark);
        self.results.push(result);
        Ok(())
    }
}

/// Other formats have no word for a tool that failed, so its result says so.
fn say_that_it_failed(parts: &mut Vec<Part>) {
    let says_so = |text: &str| {
        let start = text.trim_start();
        start.starts_with('<') || start.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("error"))
    };
    match parts.first_mut() {
        Some(Part { kind: PartKind::Text(text), .. }) if says_so(text) => {}
        Some(Part { kind: PartKind::Text(text), .. }) => text.insert_str(0, "Error: "),
        _ => parts.insert(0, Part { kind: PartKind::Text("Error".to_owned()), cache_control: None }),
    }
}

fn call(block: &mut Fields<'_>) -> Result<ToolCall, Fault> {
    let arguments = match block.any("input") {
        None => "{}".to_owned(),
        Some(input @ Value::Object(_)) => input.to_string(),
        Some(_) => return Err(block.path.member("input").must_be("an object")),
    };
    Ok(ToolCall { id: block.required_text("id")?, name: block.required_text("name")?, arguments })
}

/// A result of a search as the text that it is.
fn search_result(block: &mut Fields<'_>) -> Result<PartKind, Fault> {
    let (title, address) = (block.text("title")?.unwrap_or_default(), block.text("source")?.unwrap_or_default());
    let mut text = format!("{title}\n{address}");
    for part in block.list("content")?.unwrap_or_default() {
        text.push('\n');
        text.push_str(part["text"].as_str().unwrap_or_default());
    }
    Ok(PartKind::Text(text))
}

fn source(block: &mut Fields<'_>) -> Result<Media, Fault> {
    let path = block.path.member("source");
    let value = block.any("source").ok_or_else(|| path.must_be("given"))?;
    let mut source = Fields::of(value, &path)?;
    match source.required_text("type")?.as_str() {
        "base64" => {
            Ok(Media::Inline { media_type: source.required_text("media_type")?, data: source.required_text("data")? })
        }
        "text" => Ok(Media::Inline {
            media_type: source.text("media_type")?.unwrap_or_else(|| "text/plain".to_owned()),
            data: STANDARD.encode(source.required_text("data")?),
        }),
        "url" => Ok(Media::Url(source.required_text("url")?)),
        "file" => Ok(Media::FileId(source.required_text("file_id")?)),
        _ => Err(path.member("type").must_be("\"base64\", \"text\", \"url\" or \"file\"")),
    }
}

fn is_of_server(kind: &str) -> bool {
    matches!(
        kind,
        "server_tool_use" | "mcp_tool_use" | "mcp_tool_result" | "compaction" | "tool_reference" | "container_upload"
    ) || kind.ends_with("_tool_result")
        || kind.ends_with("_tool_result_error")
}
