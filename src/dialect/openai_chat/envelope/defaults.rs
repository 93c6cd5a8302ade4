//! What a preset adds to a body: members that the client did not write, put beside those that it did. Every byte of the client's stays.

use super::{Client, Edits, Envelope, Field, gemini, inside, write};
use crate::dialect::embeddings::passed;
use crate::dialect::relay;
use crate::dialect::work::Work;
use crate::domain::Fault;

/// What holds where the client says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Defaults<'a> {
    /// The model, in the place of the one that is there.
    pub model: Option<&'a str>,
    /// The system prompt, unless the conversation begins with one.
    pub system: Option<&'a str>,
    /// Other members: names, and values as JSON.
    pub members: &'a [(String, String)],
}

/// Members of which one says the same as the other, so that one of the client's keeps both away.
const SAME: [[&str; 2]; 4] = [
    ["max_tokens", "max_completion_tokens"],
    ["reasoning", "reasoning_effort"],
    ["tools", "functions"],
    ["tool_choice", "function_call"],
];

impl Envelope {
    /// The body with defaults beside what the client wrote, read anew.
    ///
    /// # Errors
    /// As [`Envelope::scan`]: of what the defaults bring along.
    pub fn with_defaults(&self, defaults: &Defaults<'_>) -> Result<Self, Fault> {
        if self.client == Client::Gemini {
            return gemini::client::with_defaults(self, defaults);
        }
        if let Work::Relay(endpoint) = self.work {
            return relay::defaults::with_defaults(self, endpoint, defaults);
        }
        if defaults.system.is_some() && !self.client.takes_system() {
            let message = format!("the preset sets a system prompt, which {} has no place for", self.client.route());
            return Err(Fault::bad_request("extra.preset", message));
        }
        let mut edits = Edits::default();
        let mut added = Vec::new();
        if let Some(model) = defaults.model {
            let mut name = Vec::with_capacity(model.len() + 2);
            write::string(model, &mut name);
            let places: Vec<_> = self.members.iter().filter(|member| member.field == Field::Model).collect();
            for member in &places {
                edits.replace(member.value.clone(), &[&name]);
            }
            if places.is_empty() {
                added.extend_from_slice(b",\"model\":");
                added.extend_from_slice(&name);
            }
        }
        // What else a preset sets is meant for conversations.
        let converses = self.work == Work::Converse;
        for (name, json) in defaults.members.iter().filter(|_| converses) {
            let name = self.client.member_of(name)?;
            if self.says(name) {
                continue;
            }
            added.push(b',');
            write::string(name, &mut added);
            added.push(b':');
            added.extend_from_slice(json.as_bytes());
        }
        let place = self.client.system_member();
        let system = defaults.system.filter(|_| converses);
        if let Some((name, system)) = place.zip(system).filter(|(name, _)| !self.says(name)) {
            write::string_member(name, system, &mut added);
        }
        if let Some(last) = self.members.last() {
            edits.insert(last.value.end, &[&added]);
        }
        if let Some(system) = system.filter(|_| place.is_none() && !self.begins_with_system()) {
            let messages = self.members.iter().rfind(|member| member.field == Field::Messages);
            if let Some(messages) = messages {
                let mut message = b"{\"role\":\"system\",\"content\":".to_vec();
                write::string(system, &mut message);
                message.extend_from_slice(b"},");
                edits.insert(messages.value.start + 1, &[&message]);
            }
        }
        let mut body = Vec::new();
        edits.apply(&self.body, &mut body);
        let completed = match self.work {
            Work::Embed => passed::scan(body.into()),
            Work::Converse | Work::Relay(_) => self.client.scan(body.into()),
        }?;
        Ok(Self { previous: self.previous.clone(), ..completed })
    }

    /// Whether the client wrote a member of this name or of its other name, null included: that too is a word.
    pub(in crate::dialect) fn says(&self, name: &str) -> bool {
        let same = SAME.iter().find(|pair| pair.contains(&name));
        self.members.iter().any(|member| {
            let written = super::name(&self.body[member.key.clone()]);
            written == name || same.is_some_and(|pair| pair.contains(&written.as_ref()))
        })
    }

    fn begins_with_system(&self) -> bool {
        let messages = self.last(Field::Messages).unwrap_or_default();
        let first = messages.get(1..).unwrap_or_default();
        inside(first, b"role").is_some_and(|role| matches!(&first[role], b"\"system\"" | b"\"developer\""))
    }
}
