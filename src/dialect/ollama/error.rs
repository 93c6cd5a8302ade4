//! Reads Ollama's errors: `{"error": "model 'x' not found"}`, the same as a body and as a line of a stream.
//!
//! Source: Ollama's API reference, "Errors". Proxies in front of it speak otherwise (`{"error": {"message", "type", "code"}}`), so that
//! is read too.

use crate::dialect::error::ErrorBody;
use serde_json::Value;

/// The longest piece of an answer in plain text that is taken for its message, in characters.
const MAX_PLAIN_MESSAGE: usize = 300;

/// Reads an error body. What cannot be read gives an empty message; an HTML page has none.
pub fn parse(body: &[u8]) -> ErrorBody {
    match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => read(match value.get_mut("error") {
            Some(error) => error.take(),
            None => value,
        }),
        Err(_) => ErrorBody { message: plain(body), ..ErrorBody::default() },
    }
}

/// Reads the value of an `error` member, from its JSON.
pub(super) fn of_value(json: &str) -> ErrorBody {
    serde_json::from_str(json).map(read).unwrap_or_default()
}

fn read(error: Value) -> ErrorBody {
    if let Value::String(message) = error {
        return ErrorBody { message, ..ErrorBody::default() };
    }
    let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
    ErrorBody {
        message: text("message").or_else(|| text("error")).unwrap_or_default(),
        code: text("code"),
        error_type: text("type"),
        ..ErrorBody::default()
    }
}

fn plain(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.starts_with('<') { String::new() } else { text.chars().take(MAX_PLAIN_MESSAGE).collect() }
}
