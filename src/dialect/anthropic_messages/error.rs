//! Reads Anthropic's errors: `{"type": "error", "error": {"type", "message"}, "request_id"}`, the same as a body and as
//! an event.
//!
//! Source: Anthropic's API reference, "Errors". Cloud front ends in the same place speak otherwise (`{"message"}`,
//! `{"error": {"code": 429, "message", "status"}}`), so those are read too.

use crate::dialect::error::ErrorBody;
use serde_json::Value;

/// The longest piece of an answer in plain text that is taken for its message, in characters.
const MAX_PLAIN_MESSAGE: usize = 300;

/// The top-level fields of a request: what the first word of a message must be to name a parameter.
const PARAMETERS: [&str; 17] = [
    "cache_control",
    "container",
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "output_config",
    "service_tier",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
];

/// Reads an error body. What cannot be read gives an empty message; an HTML page has none.
pub fn parse(body: &[u8]) -> ErrorBody {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return ErrorBody { message: plain(body), ..ErrorBody::default() };
    };
    let value = match &value {
        Value::Array(items) => items.first().unwrap_or(&value),
        _ => &value,
    };
    let error = match value.get("error") {
        Some(Value::String(message)) => return ErrorBody { message: message.clone(), ..ErrorBody::default() },
        Some(error) if error.is_object() => error,
        _ => value,
    };
    let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
    let message = text("message").or_else(|| text("detail")).unwrap_or_default();
    let error_type = text("type").or_else(|| text("status")).filter(|kind| kind != "error");
    let number = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    ErrorBody {
        code: text("code").or_else(|| error.get("details")?.get("error_code")?.as_str().map(str::to_owned)),
        param: parameter(&message),
        status: error_type.as_deref().and_then(status).or(number.filter(|code| (400..600).contains(code))),
        error_type,
        message,
        retry_after_ms: None,
    }
}

/// Whether a body is an error, whatever its HTTP status.
pub(super) fn is_error(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|value| {
        value.get("type").and_then(Value::as_str) == Some("error")
            || value.get("error").is_some_and(|error| !error.is_null())
    })
}

/// The HTTP status that an error type stands for.
fn status(error_type: &str) -> Option<u16> {
    Some(match error_type {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "api_error" => 500,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => return None,
    })
}

/// The parameter that a message begins with (`tools.0.custom.input_schema.type: Field required`).
fn parameter(message: &str) -> Option<String> {
    let (path, _) = message.split_once(':')?;
    let head = path.split('.').next()?;
    let plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    (plain && PARAMETERS.contains(&head)).then(|| path.to_owned())
}

fn plain(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.starts_with('<') { String::new() } else { text.chars().take(MAX_PLAIN_MESSAGE).collect() }
}
