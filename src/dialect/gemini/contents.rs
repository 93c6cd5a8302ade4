//! The conversation as `systemInstruction` and `contents`.
//!
//! Google knows two speakers, `user` and `model`; results of calls are the user's. Neighbours of one speaker become one turn, because
//! the results of parallel calls must stand in one turn behind the turn of the calls.
//!
//! **Signatures.** What an earlier answer carried under [`FORMAT_GEMINI`] goes back on the part that it came on, byte by byte: on a
//! call by the call's id, on a thought, or on the text. Of several signatures on texts the last one goes on the text, because that is
//! where Google puts it, and the others go before it on empty texts, as Google sends them in streams. Signatures of other providers,
//! and of tools that Google ran itself, are not sent. Models of the third generation refuse a step of the current turn whose first call
//! has no signature; for calls that another provider made Google documents [`UNSIGNED`] to be sent instead.

use super::body::{Content, FunctionCall, FunctionResponse, Object, Part};
use super::losses::Losses;
use super::media;
use crate::dialect::chat::{
    FORMAT_GEMINI, Message, ModelTraits, PartKind, ReasoningDetail, ReasoningKind, Request, Role, Thinking, ToolCall,
};
use crate::domain::Fault;
use std::borrow::Cow;
use std::collections::HashMap;

/// Base64 of `skip_thought_signature_validator`: the documented signature of a call that no Gemini model made.
pub(super) const UNSIGNED: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

/// The conversation in Google's form.
#[derive(Debug, Default)]
pub struct Conversation<'a> {
    /// Instructions, all system and developer messages in order.
    pub system: Option<Content<'a>>,
    /// The turns; never empty.
    pub turns: Vec<Content<'a>>,
}

/// Builds the turns.
struct Builder<'a, 'b> {
    traits: &'b ModelTraits,
    losses: &'b mut Losses,
    /// The function of each call so far; a later call with the same id replaces an earlier one.
    functions: HashMap<&'a str, &'a str>,
    turns: Vec<Content<'a>>,
    /// Pictures of results that have to follow the last result of the turn.
    behind: Vec<Part<'a>>,
}

/// Renders the conversation.
///
/// # Errors
/// `BadRequest` when a medium is given by address and the target takes none, or when something would be lost and must not be.
pub fn conversation<'a>(
    request: &'a Request,
    traits: &ModelTraits,
    losses: &mut Losses,
) -> Result<Conversation<'a>, Fault> {
    let mut system = Vec::new();
    let mut builder = Builder { traits, losses, functions: HashMap::new(), turns: Vec::new(), behind: Vec::new() };
    for message in &request.messages {
        builder.note_losses(message)?;
        match message.role {
            Role::System | Role::Developer => builder.parts(message, &mut system)?,
            Role::User => {
                let mut parts = Vec::new();
                builder.parts(message, &mut parts)?;
                builder.turn("user", parts);
            }
            Role::Assistant => {
                let parts = builder.assistant(message)?;
                builder.turn("model", parts);
            }
            Role::Tool => builder.result(message)?,
        }
    }
    builder.flush();
    let mut turns = builder.turns;
    if turns.is_empty() {
        // Instructions alone are no conversation for Google, nor is silence.
        let parts = if system.is_empty() { vec![Part::text("")] } else { std::mem::take(&mut system) };
        turns.push(Content { role: Some("user"), parts });
    }
    let system = (!system.is_empty()).then_some(Content { role: None, parts: system });
    Ok(Conversation { system, turns })
}

impl<'a> Builder<'a, '_> {
    fn note_losses(&mut self, message: &Message) -> Result<(), Fault> {
        if message.name.is_some() && message.role != Role::Tool {
            self.losses.drop("messages.name", "this provider has no names of participants")?;
        }
        let marked = message.parts.iter().any(|part| part.cache_control.is_some());
        if marked || message.cache_control.is_some() {
            self.losses.drop("cache_control", "this provider decides by itself what it caches")?;
        }
        let detailed = |kind: &PartKind| matches!(kind, PartKind::Image { detail: Some(word), .. } if word != "auto");
        if message.parts.iter().any(|part| detailed(&part.kind)) {
            self.losses.drop("image_url.detail", "this provider chooses the detail of a picture by itself")?;
        }
        Ok(())
    }

    /// Adds the texts and media of a message. Empty texts say nothing and are refused by some models.
    fn parts(&mut self, message: &'a Message, out: &mut Vec<Part<'a>>) -> Result<(), Fault> {
        for part in &message.parts {
            match &part.kind {
                PartKind::Text(text) | PartKind::Refusal(text) => {
                    if !text.is_empty() {
                        out.push(Part::text(text));
                    }
                }
                kind => out.extend(media::part(kind, self.traits)?),
            }
        }
        Ok(())
    }

    fn assistant(&mut self, message: &'a Message) -> Result<Vec<Part<'a>>, Fault> {
        let mut parts = Vec::new();
        let mut signatures = Vec::new();
        for detail in own(&message.reasoning) {
            match &detail.kind {
                ReasoningKind::Text { text, signature } if !text.is_empty() || signature.is_some() => {
                    parts.push(Part { thought: true, thought_signature: signature.as_deref(), ..Part::text(text) });
                }
                ReasoningKind::Summary(text) if !text.is_empty() => {
                    parts.push(Part { thought: true, ..Part::text(text) })
                }
                ReasoningKind::Encrypted(data) if detail.id.is_none() => signatures.push(data.as_str()),
                ReasoningKind::Text { .. } | ReasoningKind::Summary(_) | ReasoningKind::Encrypted(_) => {}
            }
        }
        let mut said = Vec::new();
        self.parts(message, &mut said)?;
        if let Some(last) = signatures.pop() {
            parts.extend(
                signatures.into_iter().map(|signature| Part { thought_signature: Some(signature), ..Part::text("") }),
            );
            match said.iter_mut().rev().find(|part| part.text.is_some()) {
                Some(text) => text.thought_signature = Some(last),
                None => said.push(Part { thought_signature: Some(last), ..Part::text("") }),
            }
        }
        parts.append(&mut said);
        self.calls(message, &mut parts);
        Ok(parts)
    }

    fn calls(&mut self, message: &'a Message, parts: &mut Vec<Part<'a>>) {
        let signature = |call: &ToolCall| {
            own(&message.reasoning).find_map(|detail| match &detail.kind {
                ReasoningKind::Encrypted(data) if detail.id.as_deref() == Some(&call.id) => Some(data.as_str()),
                _ => None,
            })
        };
        let unsigned =
            self.traits.thinking == Thinking::Level && message.tool_calls.iter().all(|call| signature(call).is_none());
        for (at, call) in message.tool_calls.iter().enumerate() {
            self.functions.insert(&call.id, &call.name);
            let args = if call.arguments.trim().is_empty() {
                Object::empty()
            } else {
                Object::of(Cow::Borrowed(&call.arguments), "arguments")
            };
            let function_call = FunctionCall { id: id(&call.id), name: &call.name, args };
            parts.push(Part {
                function_call: Some(function_call),
                thought_signature: signature(call).or((unsigned && at == 0).then_some(UNSIGNED)),
                ..Part::default()
            });
        }
    }

    fn result(&mut self, message: &'a Message) -> Result<(), Fault> {
        let id = message.tool_call_id.as_deref().and_then(id);
        let function = id.and_then(|id| self.functions.get(id).copied());
        let Some(name) = function.or(message.name.as_deref()).or(id) else {
            return Err(Fault::bad_request(
                "messages",
                "a tool message names neither the call nor the function that it answers",
            ));
        };
        let mut texts = Vec::new();
        let mut media = Vec::new();
        for part in &message.parts {
            match &part.kind {
                PartKind::Text(text) | PartKind::Refusal(text) => texts.push(text.as_str()),
                kind => media.extend(media::part(kind, self.traits)?),
            }
        }
        let text = match texts.as_slice() {
            [text] => Cow::Borrowed(*text),
            texts => Cow::Owned(texts.concat()),
        };
        let response = if text.is_empty() && !media.is_empty() { Object::empty() } else { Object::of(text, "result") };
        // Only models of the third generation take media inside a result; for the others they follow the results of the turn.
        let parts = if self.traits.thinking == Thinking::Level { std::mem::take(&mut media) } else { Vec::new() };
        let function_response = FunctionResponse { id, name, response, parts };
        let part = Part { function_response: Some(function_response), ..Part::default() };
        match self.turns.last_mut() {
            Some(turn) if turn.role == Some("user") => turn.parts.push(part),
            _ => self.turns.push(Content { role: Some("user"), parts: vec![part] }),
        }
        self.behind.append(&mut media);
        Ok(())
    }

    /// Adds what a speaker says to the last turn or as a new one.
    fn turn(&mut self, role: &'static str, mut parts: Vec<Part<'a>>) {
        self.flush();
        if parts.is_empty() {
            return;
        }
        match self.turns.last_mut() {
            Some(turn) if turn.role == Some(role) => turn.parts.append(&mut parts),
            _ => self.turns.push(Content { role: Some(role), parts }),
        }
    }

    /// Puts the media of results behind the last of them.
    fn flush(&mut self) {
        if let Some(turn) = self.turns.last_mut() {
            turn.parts.append(&mut self.behind);
        }
    }
}

fn id(id: &str) -> Option<&str> {
    (!id.is_empty()).then_some(id)
}

/// The reasoning that a Gemini model made.
fn own(details: &[ReasoningDetail]) -> impl Iterator<Item = &ReasoningDetail> {
    details.iter().filter(|detail| detail.format.as_deref() == Some(FORMAT_GEMINI))
}
