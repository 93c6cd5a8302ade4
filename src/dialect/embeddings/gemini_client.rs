//! Google's `embedContent` and `batchEmbedContents` as clients ask by them.
//!
//! To Google the bytes pass, but for the model's names and what is addressed to the gateway. For every other form the request is read into
//! the hub's, which has one length and one purpose for all its inputs; the answer is written in Google's form again.
//!
//! Source: Google's API reference, and recordings of its clients, which write some names in snake case.

use super::openai::{self, Packed};
use super::{Answer, Encoding, Form, Input, Request, Sheets, gemini, passed};
use crate::dialect::client::Client;
use crate::dialect::gemini::client::call::Method;
use crate::dialect::losses::Losses;
use crate::dialect::openai_chat::edit::{Cutter, Edits};
use crate::dialect::openai_chat::envelope::{Envelope, Field, inside, must_be};
use crate::dialect::openai_chat::quirks::Quirks;
use crate::dialect::openai_chat::scan::{Cursor, Invalid};
use crate::dialect::openai_chat::write;
use crate::dialect::work::Work;
use crate::domain::Fault;
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// For the estimate of the tokens.
const BYTES_A_TOKEN: usize = 4;

/// The member of several requests.
const REQUESTS: &str = "requests";
/// The member of the only one.
const CONTENT: &str = "content";

/// What a text is for, as Google calls it.
const TASK: &str = "taskType";
/// The same as the hub calls it.
const PURPOSE: &str = "input_type";

/// What a text is for, in Google's words and in Cohere's, which the hub has.
const PURPOSES: [(&str, &str); 4] = [
    ("RETRIEVAL_DOCUMENT", "search_document"),
    ("RETRIEVAL_QUERY", "search_query"),
    ("CLASSIFICATION", "classification"),
    ("CLUSTERING", "clustering"),
];

/// Looks at a body that has the path's model in it.
///
/// # Errors
/// `BadRequest` when it is not a JSON object or has nothing to embed.
pub fn scan(body: Bytes, method: Method) -> Result<Envelope, Fault> {
    let mut envelope = Envelope::unread(Client::Gemini, body)?;
    envelope.work = Work::Embed;
    envelope.read_model()?;
    let bytes = match (method, envelope.member(REQUESTS), envelope.member(CONTENT)) {
        (Method::EmbedBatch, Some(requests), _) if !requests.starts_with(b"[") => {
            return Err(must_be(REQUESTS, "a list"));
        }
        (Method::EmbedBatch, Some(requests), _) if requests[1..].trim_ascii_start().starts_with(b"]") => {
            return Err(Fault::bad_request(REQUESTS, "requests must not be empty"));
        }
        (Method::EmbedBatch, Some(requests), _) => requests.len(),
        (Method::EmbedBatch, None, _) => return Err(Fault::bad_request(REQUESTS, "you must provide requests")),
        (_, Some(_), _) => return Err(Fault::bad_request(REQUESTS, "requests are for batchEmbedContents")),
        (_, None, Some(content)) if content.starts_with(b"{") => content.len(),
        (_, None, Some(_)) => return Err(must_be(CONTENT, "an object")),
        (_, None, None) => return Err(Fault::bad_request(CONTENT, "you must provide a content")),
    };
    envelope.estimated_input_tokens = bytes.div_ceil(BYTES_A_TOKEN) as u64;
    // Vectors are no tokens.
    envelope.max_tokens = Some(0);
    envelope.extensions = envelope.read_extensions()?;
    envelope.complete_model()?;
    Ok(envelope)
}

/// By which of the methods a request was asked.
pub fn method(envelope: &Envelope) -> Method {
    if envelope.member(REQUESTS).is_some() { Method::EmbedBatch } else { Method::Embed }
}

/// The form that the client's answer has to have.
pub fn form(envelope: &Envelope) -> Form {
    if method(envelope) == Method::EmbedBatch { Form::Gemini } else { Form::GeminiContent }
}

/// The form in which the request passes to a provider of the given one; `None` when it has to be written anew.
pub fn passes(envelope: &Envelope, provider: Form) -> Option<Form> {
    // Whoever takes several takes one, by the other method.
    let fits = |own| own == provider || (own == Form::GeminiContent && provider == Form::Gemini);
    Some(form(envelope)).filter(|own| fits(*own))
}

/// How many inputs a request has; `None` when that cannot be told.
pub fn inputs(envelope: &Envelope) -> Option<usize> {
    let Some(requests) = envelope.member(REQUESTS) else { return Some(1) };
    let mut count = 0;
    let counted = Cursor::new(requests, 0).array::<Invalid>(|cursor| {
        count += 1;
        cursor.value().map(drop)
    });
    counted.ok().map(|_| count)
}

/// The bodies for Google, which takes no more than [`gemini::MAX_INPUTS`] requests at once.
pub fn sheets(envelope: &Envelope, model: &str) -> Sheets {
    passed::split(body(envelope, model), REQUESTS.as_bytes(), inputs(envelope), gemini::MAX_INPUTS)
}

/// The body for Google.
fn body(envelope: &Envelope, model: &str) -> Vec<u8> {
    let (mut edits, mut cutter) = (Edits::default(), Cutter::default());
    let text = &envelope.body;
    let mut name = Vec::with_capacity(model.len() + 16);
    write::string(&["models/", model.strip_prefix("models/").unwrap_or(model)].concat(), &mut name);
    for member in &envelope.members {
        if member.field == Field::Model || member.field.is_extension() {
            edits.replace(cutter.cut(text, member.key.start..member.value.end), &[]);
            continue;
        }
        cutter.keep(member.value.end);
        if envelope.name_of(member) == REQUESTS {
            // The scan has walked over it before, so this cannot fail.
            let _ = Cursor::new(text, member.value.start).array::<Invalid>(|cursor| {
                let item = cursor.value()?;
                put_model(&text[item.clone()], item.start, &name, &mut edits);
                Ok(())
            });
        }
    }
    let mut out = Vec::with_capacity(text.len());
    edits.apply(text, &mut out);
    out
}

/// Writes the model's name into one of several requests, each of which has to have it.
fn put_model(item: &[u8], start: usize, name: &[u8], edits: &mut Edits) {
    match inside(item, b"model") {
        Some(place) => edits.replace(start + place.start..start + place.end, &[name]),
        None if item.starts_with(b"{") => {
            let is_empty = item[1..].trim_ascii_start().starts_with(b"}");
            edits.insert(start + 1, &[b"\"model\":", name, if is_empty { b"" } else { b"," }]);
        }
        None => {}
    }
}

/// Reads a request into the hub's.
///
/// # Errors
/// `BadRequest` that names what has no place in it: what is no text, or lengths that differ.
pub fn parse(envelope: &Envelope) -> Result<Request, Fault> {
    let wrong = |_| Fault::bad_request("body", "the body is nested too deeply");
    let Value::Object(mut whole) = serde_json::from_slice(&envelope.body).map_err(wrong)? else {
        return Err(Fault::bad_request("body", "the body is not a JSON object"));
    };
    let items = match whole.remove(REQUESTS) {
        Some(Value::Array(items)) => items,
        _ => {
            let ours = envelope.members.iter().filter(|member| member.field.is_extension());
            ours.for_each(|member| drop(whole.remove(&*envelope.name_of(member))));
            vec![Value::Object(whole)]
        }
    };
    let (mut inputs, mut lengths) = (Vec::new(), Vec::new());
    let mut told: Vec<(String, Vec<Value>)> = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let Value::Object(item) = item else { return Err(must_be(REQUESTS, "a list of objects")) };
        inputs.push(Input::Text(text(item.get(CONTENT))?));
        let mut length = None;
        for (name, value) in item.iter().filter(|(_, value)| !value.is_null()) {
            let name = match name.as_str() {
                "model" | CONTENT => continue,
                "outputDimensionality" | "output_dimensionality" => {
                    length = Some(dimensions(value)?);
                    continue;
                }
                "task_type" => TASK,
                name => name,
            };
            let at = told.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                told.push((name.to_owned(), vec![Value::Null; items.len()]));
                told.len() - 1
            });
            told[at].1[place] = value.clone();
        }
        lengths.push(length);
    }
    if lengths.windows(2).any(|two| two[0] != two[1]) {
        let message = "this provider makes vectors of one length at a time: outputDimensionality has to be the same in all requests";
        return Err(Fault::bad_request("outputDimensionality", message));
    }
    // What differs nobody has a place for, so that as a list it is left out and named, or refused.
    let agreed = |values: Vec<Value>| match values.first() {
        Some(first) if values.iter().all(|value| value == first) => first.clone(),
        _ => Value::Array(values),
    };
    let mut rest: Map<String, Value> = told.into_iter().map(|(name, values)| (name, agreed(values))).collect();
    let known = |task: &Value| PURPOSES.iter().find(|(google, _)| task == google).map(|(_, own)| *own);
    if let Some(own) = rest.get(TASK).and_then(known) {
        rest.remove(TASK);
        rest.insert(PURPOSE.to_owned(), own.into());
    }
    let dimensions = lengths.first().copied().flatten();
    Ok(Request { inputs, encoding: Encoding::Float, dimensions, user: None, rest })
}

/// The texts of a content's parts as one.
fn text(content: Option<&Value>) -> Result<String, Fault> {
    let wrong =
        || Fault::bad_request("content.parts", "this provider makes vectors of texts: every part must be a text");
    let parts = content.and_then(|content| content.get("parts")).ok_or_else(wrong)?;
    // One object may stand where a list is meant.
    let parts = parts.as_array().map_or(std::slice::from_ref(parts), Vec::as_slice);
    let texts: Option<Vec<&str>> = parts.iter().map(|part| part.get("text")?.as_str()).collect();
    texts.filter(|texts| !texts.is_empty()).map(|texts| texts.join("\n")).ok_or_else(wrong)
}

fn dimensions(value: &Value) -> Result<u64, Fault> {
    let count = value.as_u64().filter(|count| *count > 0);
    count.ok_or_else(|| must_be("outputDimensionality", "a number of at least 1"))
}

/// Renders a request for a provider of another form; `most` is how many inputs its model takes at once.
///
/// # Errors
/// As [`parse`] and [`Form::render`].
pub fn render(envelope: &Envelope, form: Form, to: &To<'_>) -> Result<Sheets, Fault> {
    let mut request = parse(envelope)?;
    if form != Form::OpenAi {
        let mut sheets = form.render(&request, to.model, to.most, to.strict)?;
        sheets.dropped.iter_mut().filter(|name| **name == PURPOSE).for_each(|name| TASK.clone_into(name));
        return Ok(sheets);
    }
    let mut losses = Losses::new(to.strict);
    for name in std::mem::take(&mut request.rest).keys() {
        let name = if name == PURPOSE { TASK } else { name };
        losses.drop(name, "this provider has no such parameter")?;
    }
    let body = passed::scan(openai::render(&request, to.model)?.body.into())?;
    Ok(Sheets { dropped: losses.into_names(), ..passed::sheets(&body, to.model, to.quirks, to.most) })
}

/// Whom a request is rendered for.
#[derive(Clone, Copy, Debug)]
pub struct To<'a> {
    /// The model, as the provider calls it.
    pub model: &'a str,
    /// How many inputs it takes at once, where that is not what its form allows.
    pub most: Option<usize>,
    /// Whether nothing may be left out.
    pub strict: bool,
    /// Of a provider of OpenAI's form.
    pub quirks: Quirks,
}

/// Writes an answer, to several requests (`Form::Gemini`) or to the only one.
///
/// # Errors
/// `Malformed` when a vector is no list of numbers.
pub fn write(answer: &Answer, form: Form, packed: Packed, out: &mut Vec<u8>) -> Result<(), Fault> {
    let several = form == Form::Gemini;
    write::raw(if several { "{\"embeddings\":[" } else { "{\"embedding\":" }, out);
    for (place, vector) in answer.vectors.iter().enumerate() {
        write::raw(if place > 0 { ",{\"values\":" } else { "{\"values\":" }, out);
        openai::vector_as(vector, Encoding::Float, packed, out)?;
        out.push(b'}');
    }
    write::raw(if several { "]" } else { "" }, out);
    if let Some(usage) = answer.usage {
        write::raw(&format!(",\"usageMetadata\":{}", json!({ "promptTokenCount": usage.prompt_tokens })), out);
    }
    out.push(b'}');
    Ok(())
}
