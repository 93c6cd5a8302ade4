//! Reads Bedrock's errors: `{"message": "…"}` with the kind in the header `x-amzn-errortype`, and exceptions inside a stream.
//!
//! Source: Amazon's API reference, "Errors" of Converse and ConverseStream; `__type` and `Message` as other front ends of Amazon's
//! write them.

use crate::dialect::error::ErrorBody;
use crate::dialect::eventstream::Message;
use serde_json::Value;

/// The longest piece of an answer in plain text that is taken for its message, in characters.
const MAX_PLAIN_MESSAGE: usize = 300;

/// Reads an error body. What cannot be read gives an empty message; an HTML page has none.
pub fn parse(body: &[u8]) -> ErrorBody {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        let text = String::from_utf8_lossy(body);
        let text = text.trim();
        let message =
            if text.starts_with('<') { String::new() } else { text.chars().take(MAX_PLAIN_MESSAGE).collect() };
        return ErrorBody { message, ..ErrorBody::default() };
    };
    let error = value.get("error").filter(|error| error.is_object()).unwrap_or(&value);
    let text = |name: &str| error.get(name).and_then(Value::as_str);
    let message = ["message", "Message", "originalMessage"].into_iter().find_map(text).unwrap_or_default().to_owned();
    let code = ["__type", "code", "type"].into_iter().find_map(text).map(exception);
    let original = error.get("originalStatusCode").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let status = code.as_deref().and_then(status).or(original.filter(|code| (400..600).contains(code)));
    ErrorBody { message, code, status, ..ErrorBody::default() }
}

/// Reads an exception that ends a stream.
pub(super) fn of_message(message: &Message<'_>) -> ErrorBody {
    let mut body = parse(message.payload);
    if !message.name.is_empty() {
        let name = exception(message.name);
        body.status = status(&name).or(body.status);
        body.code = Some(name);
    }
    if body.message.is_empty() {
        message.error_message.clone_into(&mut body.message);
    }
    body
}

/// Whether a body is an error, whatever its HTTP status.
pub(super) fn is_error(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|value| {
        value.get("output").is_none()
            && ["message", "Message", "__type", "error"].iter().any(|it| value.get(it).is_some())
    })
}

/// The name of an exception without what Amazon's front ends put around it: `namespace#Name:http://…`.
pub fn exception(written: &str) -> String {
    let name = written.split(':').next().unwrap_or(written);
    name.rsplit('#').next().unwrap_or(name).to_owned()
}

/// The HTTP status that an exception stands for.
fn status(exception: &str) -> Option<u16> {
    Some(match exception.to_ascii_lowercase().as_str() {
        "validationexception" => 400,
        "accessdeniedexception" | "expiredtokenexception" | "unrecognizedclientexception" => 403,
        "resourcenotfoundexception" => 404,
        "modeltimeoutexception" => 408,
        "modelerrorexception" | "modelstreamerrorexception" => 424,
        "throttlingexception" | "modelnotreadyexception" => 429,
        "internalserverexception" | "internalfailure" => 500,
        "serviceunavailableexception" => 503,
        _ => return None,
    })
}
