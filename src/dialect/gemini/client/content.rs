//! `systemInstruction` and `contents`, read into the hub.
//!
//! A user's turn may hold results of functions: each becomes a message of its own, in front of what the user says besides. Neighbouring turns
//! of the model's become one, because clients keep each piece of a stream as a turn of its own. Calls and their results may come without
//! ids; then they belong together by the function's name, in their order.

use super::media;
use super::request::{Lost, list, named};
use super::thoughts::Thoughts;
use crate::dialect::chat::{Message, Part, PartKind, Role, ToolCall};
use crate::dialect::openai_chat::fields::{Fields, Path};
use crate::domain::Fault;
use serde_json::Value;

/// Reads both.
///
/// # Errors
/// `BadRequest` that names the place.
pub(super) fn messages(fields: &mut Fields<'_>, lost: &mut Lost) -> Result<Vec<Message>, Fault> {
    let mut reader = Reader { lost, out: Vec::new(), model: None, calls: Vec::new(), made: 0 };
    let path = Path::top("systemInstruction");
    match fields.any("systemInstruction") {
        None => {}
        Some(Value::String(text)) => reader.out.push(Message::new(Role::System, vec![part(PartKind::Text(text))])),
        Some(value) => {
            let mut content = named(value, &path)?;
            let mut turn = Turn::default();
            for (place, value) in list(&mut content, "parts")?.into_iter().enumerate() {
                reader.part(value, &path.member("parts").item(place), &mut turn)?;
            }
            if !turn.parts.is_empty() {
                reader.out.push(Message::new(Role::System, turn.parts));
            }
        }
    }
    let path = Path::top("contents");
    for (place, value) in list(fields, "contents")?.into_iter().enumerate() {
        reader.content(value, &path.item(place))?;
    }
    reader.end_model();
    if reader.out.iter().all(|message| message.role == Role::System) {
        return Err(path.fault("contents must not be empty"));
    }
    Ok(reader.out)
}

fn part(kind: PartKind) -> Part {
    Part { kind, cache_control: None }
}

/// What the parts of one turn are to the hub.
#[derive(Default)]
struct Turn {
    parts: Vec<Part>,
    calls: Vec<ToolCall>,
    thoughts: Thoughts,
    results: Vec<Message>,
    is_model: bool,
}

/// A call that waits for its result.
struct Open {
    id: String,
    name: String,
}

struct Reader<'l> {
    lost: &'l mut Lost,
    out: Vec<Message>,
    /// The turn of the model's that may go on.
    model: Option<Turn>,
    calls: Vec<Open>,
    /// How many ids were made.
    made: u64,
}

impl Reader<'_> {
    fn content(&mut self, value: Value, path: &Path<'_>) -> Result<(), Fault> {
        let mut content = named(value, path)?;
        let is_model = match content.text("role")?.as_deref() {
            None | Some("" | "user" | "function" | "tool") => false,
            Some("model" | "assistant") => true,
            Some(_) => return Err(path.member("role").must_be("\"user\" or \"model\"")),
        };
        let inner = path.member("parts");
        let parts = list(&mut content, "parts")?;
        if is_model {
            let mut turn = self.model.take().unwrap_or_default();
            if !turn.is_model {
                self.calls.clear();
                turn.is_model = true;
            }
            for (place, value) in parts.into_iter().enumerate() {
                self.part(value, &inner.item(place), &mut turn)?;
            }
            self.model = Some(turn);
            return Ok(());
        }
        self.end_model();
        let mut turn = Turn::default();
        for (place, value) in parts.into_iter().enumerate() {
            self.part(value, &inner.item(place), &mut turn)?;
        }
        self.out.append(&mut turn.results);
        if !turn.parts.is_empty() {
            self.out.push(Message::new(Role::User, turn.parts));
        }
        Ok(())
    }

    /// Ends the model's turn.
    fn end_model(&mut self) {
        let Some(mut turn) = self.model.take() else { return };
        turn.thoughts.flush();
        let mut read = Message::new(Role::Assistant, turn.parts);
        (read.tool_calls, read.reasoning) = (turn.calls, turn.thoughts.details);
        if !(read.parts.is_empty() && read.tool_calls.is_empty() && read.reasoning.is_empty()) {
            self.out.push(read);
        }
    }

    fn part(&mut self, value: Value, path: &Path<'_>, turn: &mut Turn) -> Result<(), Fault> {
        let mut fields = named(value, path)?;
        let is_thought = fields.boolean("thought")?.unwrap_or(false);
        let signature = fields.text("thoughtSignature")?;
        if let Some(value) = fields.any("functionCall") {
            let call = self.call(value, &path.member("functionCall"))?;
            if let Some(signature) = signature {
                turn.thoughts.signature(&signature, Some(&call.id));
            }
            turn.calls.push(call);
            return Ok(());
        }
        if let Some(value) = fields.any("functionResponse") {
            let result = self.result(value, &path.member("functionResponse"))?;
            turn.results.push(result);
            return Ok(());
        }
        if let Some(text) = fields.text("text")? {
            if is_thought {
                turn.thoughts.thought(&text, signature.as_deref());
                return Ok(());
            }
            if let Some(signature) = signature {
                turn.thoughts.signature(&signature, None);
            }
            turn.text(text);
            return Ok(());
        }
        if let Some(value) = fields.any("inlineData") {
            turn.parts.push(part(media::inline(value, &path.member("inlineData"))?));
        } else if let Some(value) = fields.any("fileData") {
            turn.parts.push(part(media::file(value, &path.member("fileData"))?));
        } else if is_thought || signature.is_some() {
            turn.thoughts.thought("", signature.as_deref());
        }
        // What Google's own tools did earlier: their findings are in the text that follows. And how closely it is to look at a medium.
        for (name, value) in &fields.rest {
            if !value.is_null() {
                self.lost.note(&format!("contents.parts.{name}"));
            }
        }
        Ok(())
    }

    fn call(&mut self, value: Value, path: &Path<'_>) -> Result<ToolCall, Fault> {
        let mut call = named(value, path)?;
        let name = call.required_text("name")?;
        let arguments = match call.any("args") {
            None => "{}".to_owned(),
            Some(args @ Value::Object(_)) => args.to_string(),
            Some(_) => return Err(path.member("args").must_be("an object")),
        };
        let id = call.text("id")?.filter(|id| !id.is_empty()).unwrap_or_else(|| self.make_id());
        self.calls.push(Open { id: id.clone(), name: name.clone() });
        Ok(ToolCall { id, name, arguments })
    }

    /// An id that is the same in every turn of a conversation.
    fn make_id(&mut self) -> String {
        self.made += 1;
        format!("call_{}", self.made)
    }

    fn result(&mut self, value: Value, path: &Path<'_>) -> Result<Message, Fault> {
        let mut response = named(value, path)?;
        let name = response.text("name")?;
        let given = response.text("id")?.filter(|id| !id.is_empty());
        let says = match response.any("response") {
            None => None,
            Some(Value::Object(members)) => Some(members),
            Some(_) => return Err(path.member("response").must_be("an object")),
        };
        let mut parts = Vec::new();
        if let Some(members) = says {
            parts.push(part(PartKind::Text(said(members))));
        }
        let inner = path.member("parts");
        for (place, value) in list(&mut response, "parts")?.into_iter().enumerate() {
            let path = inner.item(place);
            let mut fields = named(value, &path)?;
            if let Some(value) = fields.any("inlineData") {
                parts.push(part(media::inline(value, &path.member("inlineData"))?));
            } else if let Some(value) = fields.any("fileData") {
                parts.push(part(media::file(value, &path.member("fileData"))?));
            }
        }
        let by_id = given.as_ref().and_then(|id| self.calls.iter().position(|call| call.id == *id));
        let by_name = || self.calls.iter().position(|call| Some(&call.name) == name.as_ref());
        let open = by_id.or_else(by_name).or((!self.calls.is_empty() && given.is_none()).then_some(0));
        let id = match open {
            Some(at) => self.calls.remove(at).id,
            None => given.or_else(|| name.clone()).ok_or_else(|| path.member("name").must_be("given"))?,
        };
        let mut result = Message::new(Role::Tool, parts);
        (result.tool_call_id, result.name) = (Some(id), name);
        Ok(result)
    }
}

impl Turn {
    /// Adds a text. The pieces of a stream become one again.
    fn text(&mut self, text: String) {
        if text.is_empty() {
            return;
        }
        match self.parts.last_mut() {
            Some(Part { kind: PartKind::Text(before), .. }) if self.is_model => before.push_str(&text),
            _ => self.parts.push(part(PartKind::Text(text))),
        }
    }
}

/// What a function gave back: the text itself where nothing else is wrapped, otherwise the object as it is.
fn said(mut members: serde_json::Map<String, Value>) -> String {
    let single = members.len() == 1;
    for name in ["result", "output"] {
        if let Some(Value::String(text)) = members.get_mut(name).filter(|_| single) {
            return std::mem::take(text);
        }
    }
    Value::Object(members).to_string()
}
