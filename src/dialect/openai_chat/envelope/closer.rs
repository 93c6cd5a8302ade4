//! A closer look at a body than every request needs: what media its messages really have, and how its conversation begins.

use super::{Client, Cursor, Envelope, Field, Invalid, Needs, gemini, inside};
use serde::Deserialize;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// So much of a prompt in common is worth a provider's cache, in bytes (some thousand tokens).
const WORTH_CACHING: usize = 4096;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Content<'a>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
}

/// The kinds of the parts of a message; a text has none.
#[derive(Default)]
struct Content<'a>(Vec<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kinds;
        impl<'de> Visitor<'de> for Kinds {
            type Value = Content<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the content of a message")
            }
            fn visit_str<E>(self, _: &str) -> Result<Content<'de>, E> {
                Ok(Content::default())
            }
            fn visit_unit<E>(self) -> Result<Content<'de>, E> {
                Ok(Content::default())
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Content<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Content::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content<'de>, A::Error> {
                let mut kinds = Vec::new();
                while let Some(part) = parts.next_element::<Part<'de>>()? {
                    kinds.push(part.kind);
                }
                Ok(Content(kinds))
            }
        }
        deserializer.deserialize_any(Kinds)
    }
}

impl Envelope {
    /// What the request needs, its media looked up part by part: a message that merely says `file` needs nothing. What cannot be read is
    /// taken for what [`Envelope::needs`] says. Costs a pass over the messages, so it is for requests that a target would be refused for.
    pub fn confirmed_needs(&self) -> Needs {
        // Google's parts are told by their types, exactly.
        if self.client == Client::Gemini {
            return self.needs;
        }
        let messages = self.last(Field::Messages).unwrap_or_default();
        let Ok(messages) = serde_json::from_slice::<Vec<Message<'_>>>(messages) else { return self.needs };
        // What stands in the result of a tool is not looked into.
        let has_results = messages.iter().any(|message| message.content.0.iter().any(|kind| kind == "tool_result"));
        if has_results {
            return self.needs;
        }
        let has = |kinds: &[&str]| {
            messages.iter().flat_map(|message| &message.content.0).any(|kind| kinds.contains(&kind.as_ref()))
        };
        Needs {
            images: has(&["image_url", "image"]),
            files: has(&["file", "file_url", "document_url", "document"]),
            audio: has(&["input_audio"]),
            video: has(&["video_url"]),
            ..self.needs
        }
    }

    /// Whether the body has a member of this name that is not null, where this format has it.
    pub fn has(&self, name: &str) -> bool {
        if self.client == Client::Gemini && gemini::client::envelope::has(self, name) {
            return true;
        }
        self.members.iter().any(|member| {
            super::name(&self.body[member.key.clone()]) == name && &self.body[member.value.clone()] != b"null"
        })
    }

    /// The beginning of the conversation, which is the same in all of its turns: the messages up to the first one of the user's, or fewer
    /// when they are long enough already for providers to cache, so that conversations with one long system prompt share it.
    pub fn beginning(&self) -> &[u8] {
        // Anthropic's clients have their instructions apart, and so have Google's.
        let (apart, messages) = match self.client {
            Client::AnthropicMessages => (Some(Field::System), Field::Messages),
            Client::Gemini => (Some(Field::SystemInstruction), Field::Contents),
            Client::OpenAiChat | Client::OpenAiResponses | Client::OpenAiCompletions => (None, Field::Messages),
        };
        if let Some(system) = apart.and_then(|field| self.last(field)) {
            return system;
        }
        if let Some(prompt) = self.last(Field::Prompt).filter(|_| self.client == Client::OpenAiCompletions) {
            return &prompt[..prompt.len().min(WORTH_CACHING)];
        }
        let Some(messages) = self.last(messages) else { return &[] };
        let mut taken: Range<usize> = 1..1;
        // It ends with the error that stops it; the scan has found the JSON sound.
        let _ = Cursor::new(messages, 0).array(|cursor| {
            let value = cursor.value()?;
            let message = &messages[value.clone()];
            let from_user = inside(message, b"role").is_some_and(|role| &message[role] == b"\"user\"");
            taken.end = value.end;
            if from_user || taken.len() >= WORTH_CACHING { Err(Enough) } else { Ok(()) }
        });
        messages.get(taken).unwrap_or_default()
    }
}

/// The walk need not go on.
struct Enough;

impl From<Invalid> for Enough {
    fn from(_: Invalid) -> Self {
        Self
    }
}
