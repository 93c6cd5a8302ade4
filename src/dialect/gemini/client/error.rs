//! Errors in Google's form: `{"error": {"code", "message", "status", "details"}}`, the same as a body and inside a stream.
//!
//! What OpenAI's form has besides stands in the details, in Google's own types: the reason and the attempts in an `ErrorInfo`, the parameter
//! in a `BadRequest`, the id in a `RequestInfo`.
//!
//! Sources: `google/rpc/status.proto`, `google/rpc/code.proto` and `google/rpc/error_details.proto`.

use crate::dialect::client::ErrorAnswer;
use crate::dialect::openai_chat::write;
use crate::domain::{Fault, FaultKind};
use serde_json::{Value, json};

/// What an `ErrorInfo` of ours is known by.
const DOMAIN: &str = "orbyt";

/// Writes the body of an error.
pub fn render(error: &ErrorAnswer<'_>) -> Vec<u8> {
    let mut details = Vec::new();
    if error.code.is_some() || error.metadata.is_some() {
        let mut info = json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": error.code.unwrap_or(error.error_type),
            "domain": DOMAIN,
        });
        if let Some(metadata) = error.metadata {
            info["metadata"] = texts(metadata);
        }
        details.push(info);
    }
    if let Some(param) = error.param {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{ "field": param, "description": error.message }],
        }));
    }
    details.push(json!({ "@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": error.request_id }));
    let mut out = Vec::with_capacity(384);
    write_error(error.status, error.message, word_of(error.status), &details, &mut out);
    out
}

/// Writes the error that ends a stream which had begun.
pub(super) fn write_fault(fault: &Fault, out: &mut Vec<u8>) {
    let status = match fault.kind {
        FaultKind::BadRequest | FaultKind::ContextLength | FaultKind::ContentFilter | FaultKind::Unsupported => 400,
        FaultKind::RateLimited | FaultKind::QuotaExhausted => 429,
        FaultKind::Timeout(_) => 504,
        FaultKind::Internal | FaultKind::Configuration => 500,
        _ => 503,
    };
    let details = json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": fault.code.as_deref().unwrap_or(fault.kind.name()),
        "domain": DOMAIN,
    });
    write_error(status, &fault.message, word_of(status), &[details], out);
}

fn write_error(status: u16, message: &str, word: &str, details: &[Value], out: &mut Vec<u8>) {
    write::raw("{\"error\":{\"code\":", out);
    write::number(status.into(), out);
    write::string_member("message", message, out);
    write::string_member("status", word, out);
    write::key("details", out);
    write::value(&details.into(), out);
    write::raw("}}", out);
}

/// An `ErrorInfo` maps texts to texts: other values are written as JSON.
fn texts(metadata: &Value) -> Value {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let members = metadata.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.clone(), Value::from(text(value)))).collect::<serde_json::Map<_, _>>().into()
}

/// The status word of an HTTP status (`google/rpc/code.proto`).
fn word_of(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        402 => "FAILED_PRECONDITION",
        404 => "NOT_FOUND",
        405 | 501 => "UNIMPLEMENTED",
        408 | 504 => "DEADLINE_EXCEEDED",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        400..=499 => "INVALID_ARGUMENT",
        502 | 503 | 529 => "UNAVAILABLE",
        _ => "INTERNAL",
    }
}
