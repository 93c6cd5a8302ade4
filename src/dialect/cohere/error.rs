//! Reads Cohere's errors: `{"id", "message"}`, sometimes with an `error_type` (`TOO_MANY_TOKENS`). In a stream the end of the message
//! says so: `{"type": "message-end", "delta": {"finish_reason": "ERROR", "error", "error_type"}}`.
//!
//! Source: Cohere's API reference, "Errors", and recordings. Hosts in the same place put an `error` around it, so that is read too.

use crate::dialect::error::ErrorBody;
use serde_json::Value;

/// The longest piece of an answer in plain text that is taken for its message, in characters.
const MAX_PLAIN_MESSAGE: usize = 300;

/// Reads an error body. What cannot be read gives an empty message; an HTML page has none.
pub fn parse(body: &[u8]) -> ErrorBody {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return ErrorBody { message: plain(body), ..ErrorBody::default() };
    };
    let inner = value.get("delta").or_else(|| value.get("error")).filter(|inner| inner.is_object()).unwrap_or(&value);
    let text = |name: &str| inner.get(name).and_then(Value::as_str).map(str::to_owned);
    let message = text("message").or_else(|| text("error")).or_else(|| text("detail")).unwrap_or_default();
    ErrorBody { message, code: text("error_type").or_else(|| text("code")), ..ErrorBody::default() }
}

/// The error that ended an answer in its middle.
pub(super) fn in_band(native: &str, message: &str, error_type: &str) -> ErrorBody {
    let message = match (message, native) {
        ("", "TIMEOUT") => "the provider ran out of time",
        ("", _) => "the provider failed while it answered",
        (message, _) => message,
    };
    ErrorBody {
        message: message.to_owned(),
        code: Some(error_type.to_owned()).filter(|word| !word.is_empty()),
        status: Some(if native == "TIMEOUT" { 504 } else { 500 }),
        ..ErrorBody::default()
    }
}

/// Whether a body is an error, whatever its HTTP status.
pub(super) fn is_error(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|value| {
        value.get("message").is_some_and(Value::is_string) || value.get("error").is_some_and(|error| !error.is_null())
    })
}

fn plain(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.starts_with('<') { String::new() } else { text.chars().take(MAX_PLAIN_MESSAGE).collect() }
}
