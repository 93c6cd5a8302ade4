//! OpenAI's form of requests for embeddings and of answers to them, at both sides.

use super::{Answer, Encoding, Input, Request, broken, read};
use crate::dialect::chat::Rendered;
use crate::domain::{Fault, Usage};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// How many inputs OpenAI takes at once.
const MAX_INPUTS: usize = 2048;

/// Reads a request.
///
/// # Errors
/// `BadRequest` with the member to blame.
pub fn parse(body: &[u8]) -> Result<Request, Fault> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Fault::bad_request("body", format!("the body is not JSON: {error}")))?;
    let Value::Object(mut members) = value else {
        return Err(Fault::bad_request("body", "the body is not a JSON object"));
    };
    members.remove("model");
    let inputs = inputs(members.remove("input"))?;
    let encoding = match members.remove("encoding_format") {
        None | Some(Value::Null) => Encoding::Float,
        Some(Value::String(word)) if word == "float" => Encoding::Float,
        Some(Value::String(word)) if word == "base64" => Encoding::Base64,
        Some(_) => {
            return Err(Fault::bad_request("encoding_format", "encoding_format must be \"float\" or \"base64\""));
        }
    };
    let dimensions = match members.remove("dimensions") {
        None | Some(Value::Null) => None,
        Some(value) => match value.as_u64().filter(|count| *count > 0) {
            Some(count) => Some(count),
            None => return Err(Fault::bad_request("dimensions", "dimensions must be a number of at least 1")),
        },
    };
    let user = match members.remove("user") {
        None | Some(Value::Null) => None,
        Some(Value::String(user)) => Some(user),
        Some(_) => return Err(Fault::bad_request("user", "user must be a string")),
    };
    Ok(Request { inputs, encoding, dimensions, user, rest: members })
}

/// A text, texts, tokens, or lists of tokens.
fn inputs(value: Option<Value>) -> Result<Vec<Input>, Fault> {
    let wrong = || Fault::bad_request("input", "input must be a string, a list of strings, tokens, or lists of tokens");
    let tokens = |items: &[Value]| items.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>();
    let inputs: Option<Vec<Input>> = match value {
        Some(Value::String(text)) => Some(vec![Input::Text(text)]),
        Some(Value::Array(items)) if items.first().is_some_and(Value::is_number) => {
            tokens(&items).map(|tokens| vec![Input::Tokens(tokens)])
        }
        Some(Value::Array(items)) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Some(Input::Text(text)),
                Value::Array(items) => tokens(&items).filter(|tokens| !tokens.is_empty()).map(Input::Tokens),
                _ => None,
            })
            .collect(),
        _ => None,
    };
    let inputs = inputs.filter(|inputs| !inputs.is_empty()).ok_or_else(wrong)?;
    if inputs.len() > MAX_INPUTS {
        return Err(Fault::bad_request("input", format!("input has {} items; {MAX_INPUTS} are taken", inputs.len())));
    }
    Ok(inputs)
}

/// Renders a request.
///
/// # Errors
/// None: every request can be said.
pub fn render(request: &Request, model: &str) -> Result<Rendered, Fault> {
    let input = |input: &Input| match input {
        Input::Text(text) => Value::from(text.as_str()),
        Input::Tokens(tokens) => json!(tokens),
    };
    let mut body = request.rest.clone();
    body.insert("model".to_owned(), model.into());
    body.insert("input".to_owned(), request.inputs.iter().map(input).collect());
    body.insert("encoding_format".to_owned(), "float".into());
    if let Some(dimensions) = request.dimensions {
        body.insert("dimensions".to_owned(), dimensions.into());
    }
    if let Some(user) = &request.user {
        body.insert("user".to_owned(), user.as_str().into());
    }
    Ok(Rendered { body: Value::Object(body).to_string().into_bytes(), ..Rendered::default() })
}

#[derive(Deserialize)]
struct Reply {
    data: Option<Vec<Item>>,
    model: Option<String>,
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct Item {
    embedding: Box<RawValue>,
    index: Option<u64>,
}

#[derive(Deserialize)]
struct Counts {
    prompt_tokens: Option<u64>,
    total_tokens: Option<u64>,
}

impl Counts {
    fn usage(self) -> Option<Usage> {
        let prompt_tokens = self.prompt_tokens.or(self.total_tokens)?;
        let total_tokens = self.total_tokens.unwrap_or(prompt_tokens);
        Some(Usage { prompt_tokens, total_tokens, ..Usage::default() })
    }
}

/// The usage in a part of an answer.
pub fn usage_in(part: &[u8]) -> Option<Usage> {
    const KEY: &[u8] = b"\"usage\":";
    let at = memchr::memmem::rfind(part, KEY)? + KEY.len();
    let mut values = serde_json::Deserializer::from_slice(&part[at..]).into_iter::<Counts>();
    values.next()?.ok()?.usage()
}

/// Reads an answer. Voyage tells the total alone.
///
/// # Errors
/// `Empty` without any byte, `Malformed` when it is not an answer.
pub fn decode(body: &[u8]) -> Result<Answer, Fault> {
    let reply: Reply = read(body)?;
    let mut items = reply.data.ok_or_else(broken)?;
    if items.iter().all(|item| item.index.is_some()) {
        items.sort_by_key(|item| item.index);
    }
    let usage = reply.usage.and_then(Counts::usage);
    let vectors = items.into_iter().map(|item| item.embedding).collect();
    Ok(Answer { model: reply.model.unwrap_or_default(), vectors, usage })
}

/// Writes an answer. `model` stands in where the provider gives none; `bytes` says what a number is that came as base64.
///
/// # Errors
/// `Malformed` when a vector is no list of numbers.
pub fn write(answer: &Answer, encoding: Encoding, model: &str, bytes: Packed, out: &mut Vec<u8>) -> Result<(), Fault> {
    out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    for (index, vector) in answer.vectors.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!("{{\"object\":\"embedding\",\"index\":{index},\"embedding\":").as_bytes());
        vector_as(vector, encoding, bytes, out)?;
        out.push(b'}');
    }
    let mut end = Map::new();
    end.insert("model".to_owned(), json!(if answer.model.is_empty() { model } else { &answer.model }));
    let counts = answer.usage.unwrap_or_default();
    end.insert(
        "usage".to_owned(),
        json!({ "prompt_tokens": counts.prompt_tokens, "total_tokens": counts.total_tokens }),
    );
    let end = Value::Object(end).to_string();
    out.extend_from_slice(b"],");
    out.extend_from_slice(&end.as_bytes()[1..]);
    Ok(())
}

/// What base64 of a provider's holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packed {
    /// 32-bit floats, little end first.
    #[default]
    Floats,
    /// Signed bytes.
    Bytes,
}

/// Writes a vector in the way that is asked for.
pub(super) fn vector_as(vector: &RawValue, encoding: Encoding, bytes: Packed, out: &mut Vec<u8>) -> Result<(), Fault> {
    let wrong = || Fault::malformed("the provider sent a vector that is no list of numbers");
    let text = vector.get();
    let is_packed = text.starts_with('"');
    if is_packed && encoding == Encoding::Base64 && bytes == Packed::Floats {
        out.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    let numbers = numbers(vector, bytes).ok_or_else(wrong)?;
    match encoding {
        Encoding::Float if is_packed => out.extend_from_slice(json!(numbers).to_string().as_bytes()),
        Encoding::Float => out.extend_from_slice(text.as_bytes()),
        Encoding::Base64 => {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            out.extend_from_slice(format!("\"{}\"", STANDARD.encode(bytes)).as_bytes());
        }
    }
    Ok(())
}

/// The numbers of a vector, however it is written; `None` when it is none.
pub fn numbers(vector: &RawValue, packed: Packed) -> Option<Vec<f32>> {
    let text = vector.get();
    if text.starts_with('"') { unpacked(text, packed) } else { serde_json::from_str(text).ok() }
}

/// The numbers in a JSON string of base64.
fn unpacked(json: &str, packed: Packed) -> Option<Vec<f32>> {
    let text: String = serde_json::from_str(json).ok()?;
    let bytes = STANDARD.decode(text).ok()?;
    match packed {
        Packed::Bytes => Some(bytes.into_iter().map(|byte| f32::from(byte.cast_signed())).collect()),
        Packed::Floats => {
            let (numbers, rest) = bytes.as_chunks::<4>();
            let numbers: Vec<f32> = numbers.iter().map(|four| f32::from_le_bytes(*four)).collect();
            (rest.is_empty() && numbers.iter().all(|number| number.is_finite())).then_some(numbers)
        }
    }
}
