//! A client's text completion read into the hub, for providers and models that have chats alone: its prompt becomes what a user says.
//!
//! Source: OpenAI's API reference of completions.

use crate::dialect::chat::Request;
use crate::dialect::openai_chat::fields::Path;
use crate::dialect::openai_chat::request::read;
use crate::domain::{Fault, FaultKind};
use serde_json::{Map, Value, json};

/// Members that make a chat, of which the answer has no place for what comes of them.
const OF_CHATS: [&str; 5] = ["messages", "tools", "functions", "tool_choice", "function_call"];

/// Reads a request. Members that the hub has no word for are kept in [`Request::rest`].
///
/// # Errors
/// `BadRequest` that names the member which is wrong, or cannot be said in a chat.
pub fn parse(body: &[u8]) -> Result<Request, Fault> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|broken| Fault::new(FaultKind::BadRequest, format!("the body is not JSON: {broken}")))?;
    let Value::Object(mut members) = value else {
        return Err(Fault::new(FaultKind::BadRequest, "the body must be a JSON object"));
    };
    members.retain(|_, value| !value.is_null());
    for name in OF_CHATS {
        if members.contains_key(name) {
            return Err(Path::top(name).fault(format!("{name} belongs to POST /v1/chat/completions")));
        }
    }
    let prompt = prompt(members.shift_remove("prompt"))?;
    refuse_what_chats_lack(&mut members)?;
    members.insert("messages".to_owned(), json!([{"role": "user", "content": prompt}]));
    read(members)
}

fn prompt(value: Option<Value>) -> Result<String, Fault> {
    match value {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(mut items)) if items.len() == 1 => prompt(items.pop()),
        None => Err(Path::top("prompt").fault("you must provide a prompt: this model is asked as a chat")),
        _ => Err(Path::top("prompt").fault("prompt must be one text: this model is asked as a chat")),
    }
}

/// Takes out the members that a chat has no word for, where they say nothing, and refuses them where they do.
fn refuse_what_chats_lack(members: &mut Map<String, Value>) -> Result<(), Fault> {
    let choices = members.get("n").and_then(Value::as_u64).unwrap_or(1);
    for name in ["suffix", "echo", "best_of", "logprobs"] {
        let says_something = match (name, members.shift_remove(name)) {
            (_, None | Some(Value::Bool(false))) => false,
            ("suffix", Some(text)) => text != "",
            ("best_of", Some(count)) => count.as_u64().is_none_or(|count| count > choices),
            _ => true,
        };
        if says_something {
            return Err(Path::top(name).fault(format!("{name} cannot be honoured: this model is asked as a chat")));
        }
    }
    Ok(())
}
