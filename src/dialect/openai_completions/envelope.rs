//! The hot path's view of a body of `POST /v1/completions`. A provider that has the route itself gets a body made of the same bytes, as
//! with chat completions.

use crate::dialect::client::Client;
use crate::dialect::openai_chat::edit::Edits;
use crate::dialect::openai_chat::envelope::{Envelope, Field, Needs, inside, must_be};
use crate::dialect::openai_chat::scan::{self, Cursor, Invalid};
use crate::domain::Fault;
use crate::domain::decision::Parameter;
use bytes::Bytes;

/// What a prompt may be, for messages about one that is not.
const PROMPTS: &str = "a string, a list of strings, a list of tokens, or a list of lists of tokens";

/// The members that a preset may set, by OpenAI's names for them.
const MEMBERS: [&str; 16] = [
    "max_tokens",
    "temperature",
    "top_p",
    "stream",
    "stream_options",
    "n",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "user",
    "best_of",
    "echo",
    "logprobs",
    "suffix",
];

/// Whether the format has a member of this name that a preset may set.
pub fn has_member(name: &str) -> bool {
    MEMBERS.contains(&name)
}

/// Scans a body.
///
/// # Errors
/// As [`Envelope::scan`], with `prompt` in the place of messages.
pub fn scan(body: Bytes) -> Result<Envelope, Fault> {
    let mut envelope = Envelope::unread(Client::OpenAiCompletions, body)?;
    envelope.read_options()?;
    let prompt = Prompt::read(envelope.last(Field::Prompt))?;
    let best_of = envelope.count(Field::BestOf, "best_of")?;
    let is_some = |field, harmless: &[&[u8]]| envelope.last(field).is_some_and(|text| !harmless.contains(&text));
    let beyond = [
        (!prompt.is_one_text, Parameter::Prompt),
        (is_some(Field::Suffix, &[b"\"\""]), Parameter::Suffix),
        (is_some(Field::Echo, &[b"false"]), Parameter::Echo),
        (best_of.is_some_and(|count| count > envelope.n.unwrap_or(1)), Parameter::BestOf),
        (is_some(Field::Logprobs, &[b"false"]), Parameter::Logprobs),
    ];
    envelope.beyond_chat =
        beyond.into_iter().filter_map(|(is_asked, parameter)| is_asked.then_some(parameter)).collect();
    // Each prompt has its choices.
    let choices = envelope.n.unwrap_or(1).saturating_mul(prompt.count);
    envelope.n = Some(choices).filter(|choices| *choices != 1);
    let format = envelope.last(Field::ResponseFormat);
    let format_is =
        |name: &[u8]| format.is_some_and(|text| inside(text, b"type").is_some_and(|kind| text[kind] == *name));
    envelope.needs = Needs {
        structured_output: format.is_some() && !format_is(b"\"text\""),
        json_schema: format_is(b"\"json_schema\""),
        ..Needs::default()
    };
    envelope.estimated_input_tokens = prompt.tokens;
    envelope.extensions = envelope.read_extensions()?;
    envelope.complete_model()?;
    Ok(envelope)
}

/// How many texts are generated: of `best_of`, the client gets but the best, and pays for all.
pub fn generated(envelope: &Envelope) -> u64 {
    let count = |field, name| envelope.count(field, name).ok().flatten().unwrap_or(1).max(1);
    let each = count(Field::N, "n");
    let prompts = envelope.n.unwrap_or(1).max(1) / each;
    prompts.saturating_mul(count(Field::BestOf, "best_of").max(each))
}

/// A provider's body with the one text of a list of prompts in the place of the list, for providers that take no lists.
pub fn with_plain_prompt(body: Vec<u8>) -> Vec<u8> {
    let Some(prompt) = inside(&body, b"prompt").filter(|place| body[place.start] == b'[') else { return body };
    let (mut texts, mut edits) = (Vec::new(), Edits::default());
    // What is no list of one text is not for these providers, and stays as it is.
    let _ = Cursor::new(&body, prompt.start).array(|cursor| {
        texts.push(cursor.value()?);
        Ok::<(), Invalid>(())
    });
    let [text] = texts.as_slice() else { return body };
    edits.replace(prompt, &[&body[text.clone()]]);
    let mut out = Vec::new();
    edits.apply(&body, &mut out);
    out
}

/// What is known of a prompt.
#[derive(Debug, PartialEq, Eq)]
struct Prompt {
    /// How many prompts it is.
    count: u64,
    /// Whether it is one, and a text.
    is_one_text: bool,
    /// Its tokens: counted where they are given, else a quarter of the bytes.
    tokens: u64,
}

/// What an item of a list of prompts is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    Text,
    Token,
    Tokens,
}

impl Prompt {
    /// Reads the value of `prompt`. Without one the model begins a document of its own, or the provider has another member for it.
    fn read(text: Option<&[u8]>) -> Result<Self, Fault> {
        let Some(text) = text else { return Ok(Self { count: 1, is_one_text: false, tokens: 0 }) };
        match text.first() {
            Some(b'"') => Ok(Self { count: 1, is_one_text: true, tokens: text.len() as u64 / 4 }),
            Some(b'[') => Self::of_list(text),
            _ => Err(must_be("prompt", PROMPTS)),
        }
    }

    fn of_list(text: &[u8]) -> Result<Self, Fault> {
        let (mut kind, mut items, mut tokens, mut is_mixed) = (None, 0, 0, false);
        // The scan has found the JSON sound, so the walk does not fail.
        let _ = Cursor::new(text, 0).array(|cursor| {
            let item = &text[cursor.value()?];
            let is = match item.first() {
                Some(b'"') => Some(Item::Text),
                Some(b'[') => Some(Item::Tokens),
                _ if scan::integer(item).is_some() => Some(Item::Token),
                _ => None,
            };
            is_mixed |= is.is_none() || kind.is_some_and(|kind| Some(kind) != is);
            kind = kind.or(is);
            items += 1;
            tokens += match is {
                Some(Item::Tokens) => 1 + memchr::memchr_iter(b',', item).count() as u64,
                Some(Item::Text) => item.len() as u64 / 4,
                _ => 1,
            };
            Ok::<(), Invalid>(())
        });
        match kind {
            None if !is_mixed => Err(Fault::bad_request("prompt", "prompt must not be empty")),
            Some(kind) if !is_mixed => {
                let count = if kind == Item::Token { 1 } else { items };
                Ok(Self { count, is_one_text: kind == Item::Text && items == 1, tokens })
            }
            _ => Err(must_be("prompt", PROMPTS)),
        }
    }
}
