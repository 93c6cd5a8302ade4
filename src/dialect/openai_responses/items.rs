//! A request's input items, read into the hub's conversation.
//!
//! ```text
//!   reasoning · function_call · assistant message …   one after the other ──> one message of the assistant
//!   function_call_output, user / system / developer message ───────────────> a message of its own
//! ```
//!
//! What OpenAI's own tools did earlier is left out and named, so that a conversation can go on elsewhere: what they found is in the text that
//! follows. An item that stands for a part of the conversation which only OpenAI has (a reference into its store, a compaction) is a 400.

use super::seal;
use super::tools::{self, Toolbox};
use crate::dialect::chat::{Media, Message, Part, PartKind, ReasoningDetail, ReasoningKind, Role, ToolCall};
use crate::dialect::openai_chat::fields::{Fields, Path};
use crate::dialect::openai_chat::message as chat;
use crate::domain::Fault;
use serde_json::Value;

/// Items of tools that OpenAI's models bring along, whoever runs them: nothing in another format stands for them.
const BUILT_IN: [&str; 18] = [
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "computer_call",
    "computer_call_output",
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "mcp_list_tools",
    "mcp_call",
    "mcp_approval_request",
    "mcp_approval_response",
    "tool_search_call",
    "tool_search_output",
];

/// A conversation under construction.
#[derive(Default)]
pub struct Conversation {
    /// Its messages so far.
    pub messages: Vec<Message>,
    /// The request's tools, and those that come in items.
    pub toolbox: Toolbox,
    /// The items that were left out, each kind once: `input.web_search_call`.
    pub lost: Vec<String>,
}

impl Conversation {
    /// Adds `input`: a text, or a list of items.
    ///
    /// # Errors
    /// `BadRequest` that names the place.
    pub fn add_input(&mut self, input: Option<Value>) -> Result<(), Fault> {
        let path = Path::top("input");
        match input {
            Some(Value::String(text)) => self.messages.push(Message::new(Role::User, vec![text_part(text)])),
            Some(Value::Array(items)) if !items.is_empty() => {
                for (place, value) in items.into_iter().enumerate() {
                    self.item(value, &path.item(place))?;
                }
                // Instructions alone have always been a conversation; nothing at all is none.
                if let Some(name) = self.lost.first().filter(|_| self.messages.is_empty()) {
                    return Err(path.fault(format!(
                        "input holds nothing that the provider of this model can read: {name} is OpenAI's own"
                    )));
                }
            }
            Some(Value::Array(_)) => return Err(path.fault("input must not be empty")),
            Some(_) => return Err(path.must_be("a string or a list of items")),
            None => return Err(path.fault("you must provide input")),
        }
        Ok(())
    }

    fn item(&mut self, value: Value, path: &Path<'_>) -> Result<(), Fault> {
        let mut fields = Fields::of(value, path)?;
        let kind = fields.text("type")?;
        match kind.as_deref() {
            Some("message") | None => self.message(&mut fields)?,
            Some("reasoning") => self.reasoning(&mut fields)?,
            Some("function_call") => {
                let arguments = match fields.any("arguments") {
                    Some(Value::String(text)) if !text.trim().is_empty() => text,
                    Some(Value::String(_)) | None => "{}".to_owned(),
                    Some(value @ Value::Object(_)) => value.to_string(),
                    Some(_) => return Err(path.member("arguments").must_be("a string")),
                };
                self.call(&mut fields, arguments)?;
            }
            Some("custom_tool_call") => {
                let arguments = tools::custom_arguments(&fields.required_text("input")?);
                self.call(&mut fields, arguments)?;
            }
            Some("tool_search_call") if fields.rest.get("execution").is_some_and(|by| by == "client") => {
                let arguments = fields.any("arguments").map_or_else(|| "{}".to_owned(), |value| value.to_string());
                let id = fields.required_text("call_id")?;
                self.turn().tool_calls.push(ToolCall { id, name: tools::SEARCH.to_owned(), arguments });
            }
            Some("function_call_output" | "custom_tool_call_output") => self.output(&mut fields)?,
            Some("tool_search_output") if fields.rest.get("execution").is_some_and(|by| by == "client") => {
                let list = fields.list("tools")?.unwrap_or_default();
                let found = Value::Array(list.clone()).to_string();
                self.toolbox.add_all(list, &path.member("tools"), None)?;
                let id = fields.required_text("call_id")?;
                self.result(id, vec![text_part(found)]);
            }
            Some("additional_tools") => {
                let list = fields.list("tools")?.unwrap_or_default();
                self.toolbox.add_all(list, &path.member("tools"), None)?;
            }
            Some("image_generation_call") if fields.rest.get("result").is_some_and(Value::is_string) => {
                let data = fields.required_text("result")?;
                let format = fields.text("output_format")?;
                let media_type = format!("image/{}", format.as_deref().unwrap_or("png"));
                let kind = PartKind::Image { source: Media::Inline { media_type, data }, detail: None };
                self.turn().parts.push(Part { kind, cache_control: None });
            }
            Some("item_reference") => {
                return Err(path.fault(format!(
                    "{path}: an item_reference points into OpenAI's store, which the provider of this model cannot see; send the \
                     item itself"
                )));
            }
            Some(built_in) if BUILT_IN.contains(&built_in) => {
                let name = format!("input.{built_in}");
                if !self.lost.contains(&name) {
                    self.lost.push(name);
                }
            }
            Some("compaction") => {
                let kind = path.member("type");
                return Err(kind.fault(format!(
                    "{kind}: a compaction holds earlier turns in a form that only OpenAI can read, and the provider of this model is \
                     another; send the turns themselves"
                )));
            }
            Some(other) => {
                let kind = path.member("type");
                return Err(kind.fault(format!(
                    "{kind}: items of type \"{other}\" are not known here, and the provider of this model cannot be asked for them"
                )));
            }
        }
        Ok(())
    }

    /// The assistant's message that is being put together.
    fn turn(&mut self) -> &mut Message {
        if self.messages.last().is_none_or(|last| last.role != Role::Assistant) {
            self.messages.push(Message::new(Role::Assistant, Vec::new()));
        }
        let last = self.messages.len() - 1;
        &mut self.messages[last]
    }

    fn message(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        let role = match fields.required_text("role")?.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            "developer" => Role::Developer,
            _ => {
                let expected = "\"user\", \"assistant\", \"system\" or \"developer\"";
                return Err(fields.path.member("role").must_be(expected));
            }
        };
        let parts = content(fields, "content")?;
        if role == Role::Assistant {
            self.turn().parts.extend(parts);
        } else {
            self.messages.push(Message::new(role, parts));
        }
        Ok(())
    }

    fn call(&mut self, fields: &mut Fields<'_>, arguments: String) -> Result<(), Fault> {
        let id = fields.required_text("call_id")?;
        let namespace = fields.text("namespace")?;
        let name = fields.required_text("name")?;
        let name = tools::hub_name(namespace.as_deref(), &name).into_owned();
        self.turn().tool_calls.push(ToolCall { id, name, arguments });
        Ok(())
    }

    fn output(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        let id = fields.required_text("call_id")?;
        let parts = content(fields, "output")?;
        self.result(id, parts);
        Ok(())
    }

    fn result(&mut self, id: String, parts: Vec<Part>) {
        self.messages.push(Message { tool_call_id: Some(id), ..Message::new(Role::Tool, parts) });
    }

    fn reasoning(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        let mut details = Vec::new();
        let sealed = fields.text("encrypted_content")?.filter(|text| !text.is_empty());
        let opened = sealed.as_deref().and_then(seal::open);
        let is_ours = opened.as_ref().is_some_and(|detail| detail.format.as_deref() != Some(seal::FORMAT_OPENAI));
        let shown = shown(fields)?;
        // A seal holds the very text that was signed.
        if !is_ours {
            details.extend(shown);
        }
        details.extend(opened);
        let turn = self.turn();
        for detail in details {
            turn.reasoning.push(ReasoningDetail { index: turn.reasoning.len() as u32, ..detail });
        }
        Ok(())
    }
}

/// The thoughts and the summaries that a reasoning item shows.
fn shown(fields: &mut Fields<'_>) -> Result<Vec<ReasoningDetail>, Fault> {
    let mut details = Vec::new();
    for name in ["content", "summary"] {
        let texts = fields.list(name)?.unwrap_or_default();
        let text: Vec<&str> = texts.iter().filter_map(|part| part["text"].as_str()).collect();
        let text = text.join("\n\n");
        // Some repeat one in the other.
        if text.is_empty() || !details.is_empty() {
            continue;
        }
        let kind = match name {
            "content" => ReasoningKind::Text { text, signature: None },
            _ => ReasoningKind::Summary(text),
        };
        details.push(ReasoningDetail { kind, id: None, format: None, index: 0 });
    }
    Ok(details)
}

/// A part of plain text.
pub fn text_part(text: String) -> Part {
    Part { kind: PartKind::Text(text), cache_control: None }
}

/// The message that `instructions` are.
pub fn instructions(text: String) -> Message {
    Message::new(Role::System, vec![text_part(text)])
}

/// A content or an output: a text, or a list of parts.
fn content(fields: &mut Fields<'_>, name: &str) -> Result<Vec<Part>, Fault> {
    let path = fields.path.member(name);
    match fields.any(name) {
        Some(Value::String(text)) => Ok(vec![text_part(text)]),
        Some(Value::Array(parts)) => {
            parts.into_iter().enumerate().map(|(place, value)| part(value, &path.item(place))).collect()
        }
        Some(_) => Err(path.must_be("a string or a list of parts")),
        None if name == "output" => Ok(Vec::new()),
        None => Err(path.must_be("given")),
    }
}

fn part(value: Value, path: &Path<'_>) -> Result<Part, Fault> {
    let mut fields = Fields::of(value, path)?;
    let kind = match fields.required_text("type")?.as_str() {
        "input_text" | "output_text" | "text" => PartKind::Text(fields.required_text("text")?),
        "refusal" => PartKind::Refusal(fields.required_text("refusal")?),
        "input_image" => image(&mut fields)?,
        "input_file" => file(&mut fields)?,
        "input_audio" => PartKind::Audio { source: chat::audio(&mut fields)? },
        _ => {
            let expected =
                "\"input_text\", \"input_image\", \"input_file\", \"input_audio\", \"output_text\" or \"refusal\"";
            return Err(path.member("type").must_be(expected));
        }
    };
    Ok(Part { kind, cache_control: chat::cache_mark(&mut fields) })
}

fn image(fields: &mut Fields<'_>) -> Result<PartKind, Fault> {
    let detail = fields.text("detail")?;
    let source = match (fields.text("image_url")?, fields.text("file_id")?) {
        (Some(address), _) => chat::media(address, &fields.path.member("image_url"))?,
        (None, Some(id)) => Media::FileId(id),
        (None, None) => return Err(fields.path.fault(format!("{} must have image_url or file_id", fields.path))),
    };
    Ok(PartKind::Image { source, detail })
}

fn file(fields: &mut Fields<'_>) -> Result<PartKind, Fault> {
    let filename = fields.text("filename")?;
    let source = match (fields.text("file_data")?, fields.text("file_url")?, fields.text("file_id")?) {
        (Some(data), ..) if data.starts_with("data:") => chat::media(data, &fields.path.member("file_data"))?,
        (Some(data), ..) => {
            Media::Inline { media_type: chat::media_type_of(filename.as_deref().unwrap_or_default()).to_owned(), data }
        }
        (None, Some(address), _) => chat::media(address, &fields.path.member("file_url"))?,
        (None, None, Some(id)) => Media::FileId(id),
        (None, None, None) => {
            return Err(fields.path.fault(format!("{} must have file_data, file_url or file_id", fields.path)));
        }
    };
    Ok(PartKind::File { source, filename })
}

#[cfg(test)]
mod tests;
