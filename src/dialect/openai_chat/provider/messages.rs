//! Renders the messages of a request for a provider of OpenAI's format.
//!
//! Texts are given as strings wherever they can be, because many compatible servers know nothing else. Results of tools are texts; pictures
//! and documents in them follow in a user's message, where OpenAI takes them.

use super::request::Losses;
use crate::dialect::chat::{Media, Message, Part, PartKind, ReasoningDetail, ReasoningKind, Request, Role};
use crate::dialect::openai_chat::quirks::Quirks;
use crate::domain::Fault;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// Renders all messages.
///
/// # Errors
/// `BadRequest` with the place in the client's request, for media that cannot be given in this way.
pub(super) fn render(request: &Request, quirks: Quirks, losses: &mut Losses) -> Result<Vec<Value>, Fault> {
    let mut out = Vec::with_capacity(request.messages.len());
    // Media of tools' results, for the next message of the user.
    let mut waiting = Vec::new();
    for (at, message) in request.messages.iter().enumerate() {
        let place = Place { at, message, quirks };
        if message.role == Role::Tool {
            out.push(place.result(&mut waiting, losses)?);
            continue;
        }
        let media = std::mem::take(&mut waiting);
        if message.role == Role::User {
            out.push(place.user(media, losses)?);
            continue;
        }
        if !media.is_empty() {
            out.push(json!({"role": "user", "content": media}));
        }
        out.push(if message.role == Role::Assistant {
            place.assistant(losses)?
        } else {
            place.instructions(losses)?
        });
    }
    if !waiting.is_empty() {
        out.push(json!({"role": "user", "content": waiting}));
    }
    Ok(out)
}

struct Place<'a> {
    at: usize,
    message: &'a Message,
    quirks: Quirks,
}

impl Place<'_> {
    fn refuse<T>(&self, part_at: usize, why: &'static str) -> Result<T, Fault> {
        Err(Fault::bad_request(format!("messages[{}].content[{part_at}]", self.at), why))
    }

    /// `system` and `developer`: OpenAI's models take both, the other servers the first alone.
    fn instructions(&self, losses: &mut Losses) -> Result<Value, Fault> {
        let parts = self.parts(losses)?;
        Ok(json!({"role": "system", "content": self.joined_or(parts, "\n\n")}))
    }

    fn user(&self, media: Vec<Value>, losses: &mut Losses) -> Result<Value, Fault> {
        let mut parts = media;
        parts.extend(self.parts(losses)?);
        let lone = (parts.len() == 1).then(|| text_of(&parts[0])).flatten().filter(|_| !self.is_marked(&parts));
        let mut whole = json!({"role": "user", "content": lone.map_or(Value::Null, Value::from)});
        if whole["content"].is_null() {
            whole["content"] = parts.into();
        }
        if let Some(name) = &self.message.name {
            whole["name"] = name.as_str().into();
        }
        Ok(whole)
    }

    fn assistant(&self, losses: &mut Losses) -> Result<Value, Fault> {
        let message = self.message;
        let mut whole = Map::new();
        whole.insert("role".to_owned(), "assistant".into());
        let parts = self.parts(losses)?;
        let content = if parts.is_empty() { Value::Null } else { self.joined_or(parts, "") };
        whole.insert("content".to_owned(), content);
        self.replay(&mut whole);
        if !message.tool_calls.is_empty() {
            let calls = message.tool_calls.iter().map(|call| {
                let function = json!({"name": call.name, "arguments": call.arguments});
                json!({"id": call.id, "type": "function", "function": function})
            });
            whole.insert("tool_calls".to_owned(), calls.collect::<Vec<_>>().into());
        } else if whole["content"].is_null() {
            whole.insert("content".to_owned(), "".into());
        }
        Ok(Value::Object(whole))
    }

    /// The thoughts of an earlier answer, for the providers that take them back.
    fn replay(&self, whole: &mut Map<String, Value>) {
        let thoughts = &self.message.reasoning;
        if self.quirks.has(Quirks::OPENROUTER_NATIVE) && !thoughts.is_empty() {
            whole.insert("reasoning_details".to_owned(), thoughts.iter().map(detail).collect::<Vec<_>>().into());
        } else if self.quirks.has(Quirks::REPLAY_REASONING) {
            let own = thoughts.iter().filter(|detail| detail.format.is_none());
            let text: String = own.filter_map(|detail| visible(&detail.kind)).collect();
            if !text.is_empty() {
                whole.insert("reasoning_content".to_owned(), text.into());
            }
        }
    }

    fn result(&self, waiting: &mut Vec<Value>, losses: &mut Losses) -> Result<Value, Fault> {
        let id = self.message.tool_call_id.as_deref().unwrap_or_default();
        let (texts, media): (Vec<Value>, Vec<Value>) =
            self.parts(losses)?.into_iter().partition(|part| text_of(part).is_some());
        if !media.is_empty() {
            waiting.push(json!({"type": "text", "text": format!("What the tool call {id} gave besides its text:")}));
            waiting.extend(media);
        }
        Ok(json!({"role": "tool", "tool_call_id": id, "content": self.joined_or(texts, "\n")}))
    }

    /// The parts as one text, unless one of them is no text, or has a marker that the provider heeds.
    fn joined_or(&self, parts: Vec<Value>, between: &str) -> Value {
        let texts: Option<Vec<&str>> = parts.iter().map(text_of).collect();
        match texts {
            Some(texts) if !self.is_marked(&parts) => texts.join(between).into(),
            _ => parts.into(),
        }
    }

    fn is_marked(&self, parts: &[Value]) -> bool {
        parts.iter().any(|part| part.get("cache_control").is_some())
    }

    fn parts(&self, losses: &mut Losses) -> Result<Vec<Value>, Fault> {
        let marks = self.quirks.has(Quirks::OPENROUTER_NATIVE);
        let mut out = Vec::with_capacity(self.message.parts.len());
        for (at, part) in self.message.parts.iter().enumerate() {
            let Some(mut value) = self.part(at, part, losses)? else { continue };
            if let Some(mark) = part.cache_control.as_ref().filter(|_| marks) {
                value["cache_control"] = mark.clone();
            }
            out.push(value);
        }
        if let (Some(mark), Some(last)) = (self.message.cache_control.as_ref().filter(|_| marks), out.last_mut()) {
            last["cache_control"] = mark.clone();
        }
        Ok(out)
    }

    fn part(&self, at: usize, part: &Part, losses: &mut Losses) -> Result<Option<Value>, Fault> {
        let takes_media = matches!(self.message.role, Role::User | Role::Tool);
        Ok(Some(match &part.kind {
            PartKind::Text(text) | PartKind::Refusal(text) if text.is_empty() => return Ok(None),
            PartKind::Text(text) | PartKind::Refusal(text) => json!({"type": "text", "text": text}),
            _ if !takes_media => {
                return self.refuse(at, "this provider takes pictures and documents from the user and from tools only");
            }
            PartKind::Image { source, detail } => {
                let url = match source {
                    Media::Inline { media_type, data } => format!("data:{media_type};base64,{data}"),
                    Media::Url(url) => url.clone(),
                    Media::FileId(_) => return self.refuse(at, "this provider takes no picture by a file id"),
                };
                let mut image = json!({"url": url});
                if let Some(detail) = detail {
                    image["detail"] = detail.as_str().into();
                }
                json!({"type": "image_url", "image_url": image})
            }
            PartKind::File { source, filename } => self.file(at, source, filename.as_deref())?,
            PartKind::Audio { source: Media::Inline { media_type, data } } => {
                let format = media_type.rsplit('/').next().unwrap_or_default();
                json!({"type": "input_audio", "input_audio": {"data": data, "format": format}})
            }
            PartKind::Video { source: Media::Url(url) } => json!({"type": "video_url", "video_url": {"url": url}}),
            PartKind::Video { source: Media::Inline { media_type, data } } => {
                let url = format!("data:{media_type};base64,{data}");
                json!({"type": "video_url", "video_url": {"url": url}})
            }
            PartKind::Audio { .. } | PartKind::Video { .. } => {
                losses.drop("messages.content", "this provider takes no sound or film in this way")?;
                return Ok(None);
            }
        }))
    }

    /// A document: text as text, everything else as a file.
    fn file(&self, at: usize, source: &Media, filename: Option<&str>) -> Result<Value, Fault> {
        let file = match source {
            Media::Inline { media_type, data } if media_type.starts_with("text/") => {
                let text = STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                let Some(text) = text else {
                    return self.refuse(at, "the document is not text in UTF-8, encoded in base64");
                };
                let titled = filename.map(|name| format!("{name}\n\n{text}"));
                return Ok(json!({"type": "text", "text": titled.unwrap_or(text)}));
            }
            Media::Inline { media_type, data } => {
                let name =
                    filename.unwrap_or(if media_type == "application/pdf" { "document.pdf" } else { "document" });
                json!({"filename": name, "file_data": format!("data:{media_type};base64,{data}")})
            }
            Media::FileId(id) => json!({"file_id": id}),
            Media::Url(url) if self.quirks.has(Quirks::OPENROUTER_NATIVE) => {
                json!({"filename": filename.unwrap_or("document.pdf"), "file_data": url})
            }
            Media::Url(_) => {
                return self.refuse(at, "this provider takes no document by address; send the data itself");
            }
        };
        Ok(json!({"type": "file", "file": file}))
    }
}

fn text_of(part: &Value) -> Option<&str> {
    part.get("text").and_then(Value::as_str)
}

fn visible(kind: &ReasoningKind) -> Option<&str> {
    match kind {
        ReasoningKind::Text { text, .. } | ReasoningKind::Summary(text) => Some(text),
        ReasoningKind::Encrypted(_) => None,
    }
}

/// An item of `reasoning_details`, as OpenRouter gave it.
fn detail(detail: &ReasoningDetail) -> Value {
    let mut whole = match &detail.kind {
        ReasoningKind::Text { text, signature: None } => json!({"type": "reasoning.text", "text": text}),
        ReasoningKind::Text { text, signature: Some(signature) } => {
            json!({"type": "reasoning.text", "text": text, "signature": signature})
        }
        ReasoningKind::Summary(text) => json!({"type": "reasoning.summary", "summary": text}),
        ReasoningKind::Encrypted(data) => json!({"type": "reasoning.encrypted", "data": data}),
    };
    if let Some(id) = &detail.id {
        whole["id"] = id.as_str().into();
    }
    if let Some(format) = &detail.format {
        whole["format"] = format.as_ref().into();
    }
    whole["index"] = detail.index.into();
    whole
}
