//! The hot path's view of a body of `POST /v1/responses`, and the body of a provider that has the route itself made of the same bytes.
//!
//! Only the model is replaced and the gateway's own members are cut out. One thing more is taken out where it occurs: reasoning of other
//! providers' models, which OpenAI would refuse, because it did not encrypt it.

use super::output::OURS;
use super::seal;
use crate::dialect::client::Client;
use crate::dialect::openai_chat::edit::{Cutter, Edits};
use crate::dialect::openai_chat::envelope::{Envelope, Field, Needs, base64_bytes, inside, must_be};
use crate::dialect::openai_chat::scan::{self, Cursor, Invalid};
use crate::dialect::openai_chat::write;
use crate::domain::Fault;
use bytes::Bytes;
use memchr::memmem;
use std::sync::LazyLock;

/// What media are found by, and what betrays reasoning of others. To set up such a search costs more than to run it.
static FINDERS: LazyLock<[memmem::Finder<'static>; 5]> = LazyLock::new(|| {
    ["\"input_image\"", "\"input_file\"", "\"input_audio\"", seal::PREFIX, OURS].map(memmem::Finder::new)
});

/// Scans a body.
///
/// # Errors
/// As [`Envelope::scan`].
pub fn scan(body: Bytes) -> Result<Envelope, Fault> {
    let mut envelope = Envelope::unread(Client::OpenAiResponses, body)?;
    envelope.read_model()?;
    envelope.stream = envelope.boolean(Field::Stream, "stream")?.unwrap_or(false);
    // Every answer of this format ends with its usage.
    envelope.include_usage = envelope.stream;
    envelope.max_tokens = envelope.count(Field::MaxOutputTokens, "max_output_tokens")?;
    envelope.read_user()?;
    envelope.keep = envelope.boolean(Field::Store, "store")?.unwrap_or(true);
    envelope.background = envelope.boolean(Field::Background, "background")?.unwrap_or(false);
    envelope.previous = envelope.string(Field::PreviousResponseId, "previous_response_id")?;
    let reasoning = envelope.last(Field::Reasoning).unwrap_or_default();
    let excludes = inside(reasoning, b"exclude").is_some_and(|place| &reasoning[place] == b"true");
    let input = envelope.last(Field::Input).unwrap_or_default();
    if !matches!(input.first(), None | Some(b'"' | b'[')) {
        return Err(must_be("input", "a string or a list of items"));
    }
    let tools = envelope.last(Field::Tools).unwrap_or_default();
    let instructions = envelope.last(Field::Instructions).unwrap_or_default();
    let format = envelope.last(Field::Text).and_then(format_of);
    let [image, file, audio, ..] = &*FINDERS;
    let needs = Needs {
        tools: tools.len() > 2,
        structured_output: format.is_some_and(|kind| kind != b"\"text\""),
        json_schema: format.is_some_and(|kind| kind == b"\"json_schema\""),
        images: image.find(input).is_some(),
        files: file.find(input).is_some(),
        audio: audio.find(input).is_some(),
        video: false,
    };
    let data = base64_bytes(input, needs.audio || needs.files);
    let bytes = input.len() - data + tools.len() + instructions.len();
    (envelope.needs, envelope.estimated_input_tokens) = (needs, bytes as u64 / 4);
    envelope.exclude_reasoning = excludes;
    envelope.extensions = envelope.read_extensions()?;
    envelope.complete_model()?;
    Ok(envelope)
}

/// Whether it is noted who keeps the answer: it is to be stored, or goes on when nobody waits for it.
pub fn is_noted(envelope: &Envelope) -> bool {
    envelope.client == Client::OpenAiResponses && (envelope.keep || envelope.background)
}

/// The kind of format that `text` asks for, as JSON.
fn format_of(text: &[u8]) -> Option<&[u8]> {
    let format = inside(text, b"format")?;
    let format = &text[format];
    inside(format, b"type").map(|kind| &format[kind])
}

/// The items of a list without its brackets, or a text as the item that it stands for.
fn items(input: &[u8]) -> Vec<u8> {
    match input.first() {
        Some(b'[') => input[1..input.len() - 1].trim_ascii().to_vec(),
        Some(b'"') => [b"{\"type\":\"message\",\"role\":\"user\",\"content\":", input, b"}"].concat(),
        _ => Vec::new(),
    }
}

/// The items of the request's input, as JSON with commas between them and no brackets.
pub fn input_items(envelope: &Envelope) -> Vec<u8> {
    items(envelope.last(Field::Input).unwrap_or_default())
}

/// The output items of a response object, in the same form.
pub fn output_items(response: &[u8]) -> Vec<u8> {
    inside(response, b"output").map(|place| items(&response[place])).unwrap_or_default()
}

/// Two such lists as one.
pub fn joined(first: &[u8], second: &[u8]) -> Vec<u8> {
    let comma: &[u8] = if first.is_empty() || second.is_empty() { b"" } else { b"," };
    [first, comma, second].concat()
}

/// The request with the items of the conversation that it goes on from in front of its own, and without the id of it.
///
/// # Errors
/// As [`scan`].
pub fn continued(envelope: &Envelope, earlier: &[u8]) -> Result<Envelope, Fault> {
    let all = joined(earlier, &input_items(envelope));
    let (mut edits, mut cutter, body) = (Edits::default(), Cutter::default(), &envelope.body);
    let mut to_add = true;
    let has_input = envelope.last(Field::Input).is_some();
    for member in &envelope.members {
        let whole = member.key.start..member.value.end;
        match member.field {
            Field::Input if has_input && to_add => {
                to_add = false;
                cutter.keep(whole.end);
                edits.replace(member.value.clone(), &[b"[", &all, b"]"]);
            }
            Field::PreviousResponseId if !has_input && to_add => {
                to_add = false;
                cutter.keep(whole.end);
                edits.replace(whole, &[b"\"input\":[", &all, b"]"]);
            }
            Field::Input | Field::PreviousResponseId => edits.replace(cutter.cut(body, whole), &[]),
            _ => cutter.keep(whole.end),
        }
    }
    let mut out = Vec::new();
    edits.apply(body, &mut out);
    let mut continued = scan(out.into())?;
    continued.previous.clone_from(&envelope.previous);
    Ok(continued)
}

/// The body for a provider that has the route itself.
pub fn passthrough_body(envelope: &Envelope, model: &str) -> Vec<u8> {
    let (mut edits, mut cutter) = (Edits::default(), Cutter::default());
    let body = &envelope.body;
    let [.., sealed, ours] = &*FINDERS;
    for member in &envelope.members {
        let value = member.value.clone();
        if member.field.is_extension() {
            edits.replace(cutter.cut(body, member.key.start..value.end), &[]);
            continue;
        }
        cutter.keep(value.end);
        let text = &body[value.clone()];
        match member.field {
            Field::Model => {
                let mut name = Vec::with_capacity(model.len() + 2);
                write::string(model, &mut name);
                edits.replace(value, &[&name]);
            }
            Field::Input if text.starts_with(b"[") && (sealed.find(text).is_some() || ours.find(text).is_some()) => {
                // The scan has walked over it before, so this cannot fail.
                let _ = without_foreign_reasoning(body, value.start, &mut edits);
            }
            _ => {}
        }
    }
    let mut out = Vec::new();
    edits.apply(body, &mut out);
    out
}

/// Cuts the reasoning items that are sealed here, and those of ours that nobody encrypted.
fn without_foreign_reasoning(body: &[u8], start: usize, edits: &mut Edits) -> Result<(), Invalid> {
    let mut items = Cutter::default();
    Cursor::new(body, start).array(|cursor| {
        let place = cursor.value()?;
        let item = &body[place.clone()];
        let value = |name: &[u8]| inside(item, name).map(|at| scan::inner(&item[at])).unwrap_or_default();
        let sealed = value(b"encrypted_content");
        let foreign = sealed.starts_with(seal::PREFIX.as_bytes())
            || (sealed.is_empty() && value(b"id").starts_with(OURS.as_bytes()));
        if value(b"type") == b"reasoning" && foreign {
            edits.replace(items.cut(body, place), &[]);
        } else {
            items.keep(place.end);
        }
        Ok::<(), Invalid>(())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::openai_chat::envelope::Defaults;
    use serde_json::{Value, json};

    fn envelope(body: &Value) -> Envelope {
        scan(body.to_string().into()).unwrap()
    }

    #[test]
    fn reads_what_the_gateway_acts_on() {
        let seen = envelope(&json!({
            "model": "m", "stream": true, "max_output_tokens": 9, "user": "u", "store": false, "instructions": "abcd",
            "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAAAAAAAAAA"}]}],
            "tools": [{"type": "function", "name": "f"}], "text": {"format": {"type": "json_object"}},
            "reasoning": {"exclude": true}, "extra": {"retry": 2},
        }));
        assert_eq!((seen.model.as_str(), seen.stream, seen.max_tokens, seen.keep), ("m", true, Some(9), false));
        assert_eq!((seen.user.as_deref(), seen.exclude_reasoning, seen.extensions.retry), (Some("u"), true, Some(2)));
        let needs = Needs { tools: true, structured_output: true, images: true, ..Needs::default() };
        assert_eq!(seen.needs, needs);
        let plain = envelope(&json!({"model": "m", "input": "x", "text": {"format": {"type": "text"}}}));
        assert_eq!((plain.needs, plain.keep, plain.previous), (Needs::default(), true, None));
        for (body, param) in [
            (json!({"input": "x"}), "model"),
            (json!({"model": "m", "input": 3}), "input"),
            (json!({"model": "m", "input": "x", "stream": "yes"}), "stream"),
            (json!({"model": "m", "input": "x", "store": 1}), "store"),
            (json!({"model": "m", "input": "x", "previous_response_id": 1}), "previous_response_id"),
        ] {
            assert_eq!(scan(body.to_string().into()).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
    }

    #[test]
    fn only_the_model_and_the_gateways_own_members_change() {
        let body = r#"{ "model" : "a/b",  "extra":{"retry":1}, "input":"\u00e9", "unknown": [1.0e5] }"#;
        let seen = scan(Bytes::from_static(body.as_bytes())).unwrap();
        let passed = String::from_utf8(passthrough_body(&seen, "b")).unwrap();
        assert_eq!(passed, r#"{ "model" : "b", "input":"\u00e9", "unknown": [1.0e5] }"#);
    }

    #[test]
    fn a_preset_speaks_in_the_words_of_the_format() {
        let members = [("max_tokens".to_owned(), "9".to_owned()), ("temperature".to_owned(), "0.5".to_owned())];
        let defaults = Defaults { model: Some("n"), system: Some("be \"brief\""), members: &members };
        let seen = envelope(&json!({"model": "m", "input": "x", "temperature": 1}));
        let completed = seen.with_defaults(&defaults).unwrap();
        let told: Value = serde_json::from_slice(completed.body()).unwrap();
        let expected = json!({"model": "n", "input": "x", "temperature": 1, "max_output_tokens": 9,
                              "instructions": "be \"brief\""});
        assert_eq!((told, completed.client), (expected, Client::OpenAiResponses));
        let said = envelope(&json!({"model": "m", "input": "x", "instructions": "own"}));
        let told: Value = serde_json::from_slice(said.with_defaults(&defaults).unwrap().body()).unwrap();
        assert_eq!(told["instructions"], "own");
        let foreign = [("logit_bias".to_owned(), "{}".to_owned())];
        let fault = seen.with_defaults(&Defaults { members: &foreign, ..defaults }).unwrap_err();
        assert!(fault.message.contains("logit_bias"), "{}", fault.message);
    }

    #[test]
    fn reasoning_of_others_is_cut_and_openais_own_stays() {
        let own = json!({"type": "reasoning", "id": "rs_abc", "summary": [], "encrypted_content": "gAAAA"});
        let body = json!({"model": "m", "input": [
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "orbyt.r1.e30"},
            {"role": "user", "content": "say orbyt.r1. and rs_orbyt_"},
            own,
            {"type": "reasoning", "id": "rs_orbyt_ab00", "summary": [{"type": "summary_text", "text": "t"}]},
        ]});
        let passed: Value = serde_json::from_slice(&passthrough_body(&envelope(&body), "m")).unwrap();
        assert_eq!(passed["input"], json!([body["input"][1], own]));
    }

    #[test]
    fn a_conversation_is_put_in_front() {
        let earlier = br#"{"role":"user","content":"a"},{"type":"message","role":"assistant","content":"b"}"#;
        for (input, rest) in [
            (json!("c"), vec![json!({"type": "message", "role": "user", "content": "c"})]),
            (json!([{"role": "user", "content": "c"}, 7]), vec![json!({"role": "user", "content": "c"}), json!(7)]),
            (json!([]), vec![]),
            (Value::Null, vec![]),
        ] {
            for order in [["previous_response_id", "input"], ["input", "previous_response_id"]] {
                let mut body = json!({"model": "m"});
                for name in order {
                    body[name] = if name == "input" { input.clone() } else { json!("resp_1") };
                }
                let continued = continued(&envelope(&body), earlier).unwrap();
                let told: Value = serde_json::from_slice(continued.body()).unwrap();
                let mut expected: Value = serde_json::from_slice(&[b"[", &earlier[..], b"]"].concat()).unwrap();
                expected.as_array_mut().unwrap().extend(rest.clone());
                assert_eq!(told, json!({"model": "m", "input": expected}), "{body}");
                assert_eq!(continued.previous.as_deref(), Some("resp_1"));
                let whole: Value =
                    serde_json::from_slice(&[b"[", &input_items(&continued)[..], b"]"].concat()).unwrap();
                assert_eq!(whole, told["input"]);
            }
        }
        let response = br#"{"id":"r","output":[ {"type":"message"} ]}"#;
        assert_eq!(joined(b"1", &output_items(response)), b"1,{\"type\":\"message\"}");
        assert_eq!((joined(b"", b"2"), joined(b"1", b"")), (b"2".to_vec(), b"1".to_vec()));
    }
}
