//! OpenAI's form of requests for embeddings and of answers to them, at the client's side.

use super::{Answer, Encoding, Input, Request};
use crate::domain::Fault;
use base64::Engine;
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

/// Writes an answer. `model` stands in where the provider gives none.
///
/// # Errors
/// `Malformed` when a vector is no list of numbers.
pub fn write(answer: &Answer, encoding: Encoding, model: &str, out: &mut Vec<u8>) -> Result<(), Fault> {
    out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    for (index, vector) in answer.vectors.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!("{{\"object\":\"embedding\",\"index\":{index},\"embedding\":").as_bytes());
        let numbers: Vec<f32> = serde_json::from_str(vector.get())
            .map_err(|_| Fault::malformed("the provider sent a vector that is no list of numbers"))?;
        match encoding {
            Encoding::Float => out.extend_from_slice(vector.get().as_bytes()),
            Encoding::Base64 => {
                let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
                let text = base64::engine::general_purpose::STANDARD.encode(bytes);
                out.extend_from_slice(format!("\"{text}\"").as_bytes());
            }
        }
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
