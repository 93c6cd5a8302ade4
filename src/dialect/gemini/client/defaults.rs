//! What a preset adds to a body: most of its parameters stand inside `generationConfig` in this format, and all have other names.

use crate::dialect::embeddings::gemini_client;
use crate::dialect::openai_chat::edit::Edits;
use crate::dialect::openai_chat::envelope::{Defaults, Envelope, Field, inside};
use crate::dialect::openai_chat::write;
use crate::dialect::work::Work;
use crate::domain::Fault;
use serde_json::{Value, json};

/// A parameter of chat completions as a member of `generationConfig`: its names and its value.
fn member(name: &str, json: &str) -> Result<(&'static str, &'static str, String), Fault> {
    let same = |camel, snake| Ok((camel, snake, json.to_owned()));
    match name {
        "temperature" => same("temperature", "temperature"),
        "top_p" => same("topP", "top_p"),
        "top_k" => same("topK", "top_k"),
        "max_tokens" | "max_completion_tokens" => same("maxOutputTokens", "max_output_tokens"),
        "n" => same("candidateCount", "candidate_count"),
        "seed" => same("seed", "seed"),
        "presence_penalty" => same("presencePenalty", "presence_penalty"),
        "frequency_penalty" => same("frequencyPenalty", "frequency_penalty"),
        "stop" => {
            let value: Value = serde_json::from_str(json).unwrap_or_default();
            let list = if value.is_array() { value } else { json!([value]) };
            Ok(("stopSequences", "stop_sequences", list.to_string()))
        }
        _ => {
            let message = format!("the preset sets {name}, which POST /v1beta/models has no member for");
            Err(Fault::bad_request("extra.preset", message))
        }
    }
}

/// As [`Envelope::with_defaults`].
///
/// # Errors
/// `BadRequest` for what this format has no member for.
pub(in crate::dialect) fn with_defaults(envelope: &Envelope, defaults: &Defaults<'_>) -> Result<Envelope, Fault> {
    let (mut edits, body) = (Edits::default(), &envelope.body);
    let mut added = Vec::new();
    if let Some(model) = defaults.model {
        let mut name = Vec::with_capacity(model.len() + 2);
        write::string(model, &mut name);
        for member in envelope.members.iter().filter(|member| member.field == Field::Model) {
            edits.replace(member.value.clone(), &[&name]);
        }
    }
    let place = envelope.members.iter().rfind(|member| member.field == Field::GenerationConfig);
    let config = place.map(|member| &body[member.value.clone()]).filter(|config| config.starts_with(b"{"));
    let mut members = Vec::new();
    // What else a preset sets is meant for conversations.
    let converses = envelope.work == Work::Converse;
    for (name, json) in defaults.members.iter().filter(|_| converses) {
        let (camel, snake, json) = member(name, json)?;
        if config.is_none_or(|config| [camel, snake].iter().all(|name| inside(config, name.as_bytes()).is_none())) {
            let comma: &[u8] = if members.is_empty() { b"" } else { b"," };
            members.extend_from_slice(comma);
            write::string(camel, &mut members);
            members.push(b':');
            members.extend_from_slice(json.as_bytes());
        }
    }
    match (place, config) {
        _ if members.is_empty() => {}
        (Some(place), Some(config)) => {
            let is_empty = config[1..].trim_ascii_start().first() == Some(&b'}');
            edits.insert(place.value.start + 1, &[&members, if is_empty { b"" } else { b"," }]);
        }
        // Null says nothing.
        (Some(place), None) => edits.replace(place.value.clone(), &[b"{", &members, b"}"]),
        (None, _) => added.extend_from_slice(&[b",\"generationConfig\":{", members.as_slice(), b"}"].concat()),
    }
    if let Some(system) = defaults.system.filter(|_| converses && envelope.last(Field::SystemInstruction).is_none()) {
        let instruction = json!({ "parts": [{ "text": system }] }).to_string();
        added.extend_from_slice(format!(",\"systemInstruction\":{instruction}").as_bytes());
    }
    if let Some(last) = envelope.members.last() {
        edits.insert(last.value.end, &[&added]);
    }
    let mut out = Vec::new();
    edits.apply(body, &mut out);
    match envelope.work {
        Work::Embed => gemini_client::scan(out.into(), gemini_client::method(envelope)),
        _ => super::envelope::scan(out.into()),
    }
}
