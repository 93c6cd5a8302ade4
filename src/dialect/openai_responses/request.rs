//! A client's Responses request read into the hub, for providers that speak another format.
//!
//! Source: OpenAI's API reference of Responses.

use super::asked::Asked;
use super::items::{self, Conversation};
use super::tools;
use crate::dialect::chat::{Reasoning, Request, ResponseFormat};
use crate::dialect::extensions;
use crate::dialect::openai_chat::fields::{Fields, Path};
use crate::domain::{Fault, FaultKind};
use serde_json::{Map, Value};

/// Members that ask for something of OpenAI's own: they are refused, with why.
const OPENAIS_OWN: [(&str, &str); 3] = [
    ("conversation", "conversations are kept by OpenAI"),
    ("prompt", "prompt templates are kept by OpenAI"),
    ("background", "answers in the background are made by OpenAI"),
];

/// Members that the gateway honours itself, or that mean nothing elsewhere, so that they are no loss.
const OURS: [&str; 6] = ["model", "store", "metadata", "include", "stream_options", "client_metadata"];

/// A request for the hub, and what its answer has to know of it.
#[derive(Debug)]
pub struct Parsed {
    /// The request.
    pub request: Request,
    /// What the answer repeats.
    pub asked: Asked,
}

/// Reads a request. `previous` is the id of the response that it goes on from, where the gateway has put that one's items into `input`
/// already. Members that the hub has no word for are kept in [`Request::rest`].
///
/// # Errors
/// `BadRequest` that names the member with the wrong type or value, or one that only OpenAI can honour.
pub fn parse(body: &[u8], previous: Option<&str>) -> Result<Parsed, Fault> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|broken| Fault::new(FaultKind::BadRequest, format!("the body is not JSON: {broken}")))?;
    let Value::Object(rest) = value else {
        return Err(Fault::new(FaultKind::BadRequest, "the body must be a JSON object"));
    };
    let repeated = rest.clone();
    let root = Path::top("");
    let mut fields = Fields { rest, path: &root };
    refuse_openais_own(&mut fields)?;
    let mut conversation = Conversation::default();
    if let Some(list) = fields.list("tools")? {
        conversation.toolbox.add_all(list, &Path::top("tools"), None)?;
    }
    if let Some(text) = fields.text("instructions")? {
        conversation.messages.push(items::instructions(text));
    }
    conversation.add_input(fields.any("input"))?;
    let (response_format, verbosity) = text(&mut fields)?;
    let top_logprobs = fields.count("top_logprobs")?.filter(|count| *count > 0);
    let wants_logprobs = fields.texts("include")?.iter().any(|name| name == "message.output_text.logprobs");
    let Conversation { messages, toolbox, lost } = conversation;
    let mut request = Request {
        messages,
        tools: toolbox.tools.clone(),
        tool_choice: fields.any("tool_choice").map(tools::choice).transpose()?,
        parallel_tool_calls: fields.boolean("parallel_tool_calls")?,
        response_format,
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        max_tokens: fields.positive("max_output_tokens")?,
        logprobs: (wants_logprobs || top_logprobs.is_some()).then_some(true),
        top_logprobs,
        reasoning: reasoning(&mut fields)?,
        user: user(&mut fields)?,
        stream: fields.boolean("stream")?.unwrap_or(false),
        include_usage: true,
        ..Request::default()
    };
    fields.rest.retain(|name, value| {
        let is_ours = OURS.contains(&name.as_str()) || extensions::MEMBERS.contains(&name.as_str());
        // The only truncation that is the default everywhere.
        let is_default = (name == "truncation" && value == "disabled") || (name == "background" && value == false);
        !is_ours && !is_default && !value.is_null()
    });
    request.rest = fields.rest;
    if let Some(verbosity) = verbosity {
        request.rest.insert("verbosity".to_owned(), verbosity.into());
    }
    request.rest.extend(lost.into_iter().map(|name| (name, Value::Bool(true))));
    Ok(Parsed { request, asked: Asked::new(&repeated, previous, toolbox) })
}

fn refuse_openais_own(fields: &mut Fields<'_>) -> Result<(), Fault> {
    for (name, why) in OPENAIS_OWN {
        if fields.rest.get(name).is_some_and(|value| !value.is_null() && value != false) {
            let message = format!("{name}: {why}, and the provider of this model is another");
            return Err(Fault::bad_request(name, message));
        }
    }
    match fields.text("previous_response_id")? {
        Some(id) => Err(not_found(&id)),
        None => Ok(()),
    }
}

/// What a client is told that goes on from a response which nobody here knows.
pub fn not_found(id: &str) -> Fault {
    Fault {
        code: Some("previous_response_not_found".to_owned()),
        ..Fault::bad_request("previous_response_id", format!("Previous response with id '{id}' not found."))
    }
}

fn user(fields: &mut Fields<'_>) -> Result<Option<String>, Fault> {
    let user = fields.text("user")?;
    Ok(fields.text("safety_identifier")?.or(user))
}

/// `reasoning`; what OpenAI alone can do about it stays among the members that nobody has a word for.
fn reasoning(fields: &mut Fields<'_>) -> Result<Option<Reasoning>, Fault> {
    let Some(value) = fields.any("reasoning") else { return Ok(None) };
    let path = Path::top("reasoning");
    let mut given = Fields::of(value, &path)?;
    let effort = given.text("effort")?;
    // OpenRouter's members, which its clients send here too.
    let (max_tokens, enabled) = (given.count("max_tokens")?, given.boolean("enabled")?);
    let exclude = given.boolean("exclude")?.unwrap_or(false);
    for (name, default) in [("mode", "standard"), ("context", "auto")] {
        if let Some(word) = given.text(name)?.filter(|word| word != default) {
            fields.rest.insert(format!("reasoning.{name}"), word.into());
        }
    }
    if effort.is_none() && max_tokens.is_none() && enabled.is_none() && !exclude {
        return Ok(None);
    }
    Ok(Some(Reasoning { effort, max_tokens, enabled, exclude }))
}

/// `text`: the format, and OpenAI's `verbosity`.
fn text(fields: &mut Fields<'_>) -> Result<(Option<ResponseFormat>, Option<String>), Fault> {
    let Some(value) = fields.any("text") else { return Ok((None, None)) };
    let path = Path::top("text");
    let mut text = Fields::of(value, &path)?;
    let verbosity = text.text("verbosity")?;
    let Some(value) = text.any("format") else { return Ok((None, verbosity)) };
    let path = path.member("format");
    let mut format = Fields::of(value, &path)?;
    let format = match format.required_text("type")?.as_str() {
        "text" => ResponseFormat::Text,
        "json_object" => ResponseFormat::JsonObject,
        "json_schema" => {
            let schema = format.any("schema");
            if schema.as_ref().is_some_and(|schema| !schema.is_object()) {
                return Err(path.member("schema").must_be("a JSON schema"));
            }
            ResponseFormat::JsonSchema {
                name: format.text("name")?.unwrap_or_else(|| "response".into()),
                description: format.text("description")?,
                schema,
                strict: format.boolean("strict")?,
            }
        }
        _ => return Err(path.member("type").must_be("\"text\", \"json_object\" or \"json_schema\"")),
    };
    Ok((Some(format), verbosity))
}

/// The items of a request's `input`, as a list of JSON without its brackets: what a response that is kept remembers of it.
///
/// # Errors
/// `BadRequest` when there is none.
pub fn input_items(members: &Map<String, Value>) -> Result<Vec<Value>, Fault> {
    match members.get("input") {
        Some(Value::String(text)) => Ok(vec![serde_json::json!({"type": "message", "role": "user", "content": text})]),
        Some(Value::Array(items)) => Ok(items.clone()),
        _ => Err(Path::top("input").must_be("a string or a list of items")),
    }
}

#[cfg(test)]
mod tests;
