//! Errors in Anthropic's form: `{"type": "error", "error": {"type", "message"}, "request_id"}`, the same as a body and as an event.
//!
//! What OpenAI's form has besides (`code`, `param`, `metadata`) stands beside the message: the SDKs pass it on to who looks for it.
//!
//! Source: Anthropic's API reference, "Errors".

use crate::dialect::client::ErrorAnswer;
use crate::dialect::openai_chat::write;
use crate::domain::{Fault, FaultKind};

/// Writes the body of an error.
pub fn render(error: &ErrorAnswer<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write::raw("{\"type\":\"error\",\"error\":{", &mut out);
    write::string_member("type", type_of(error.status, error.error_type), &mut out);
    write::string_member("message", error.message, &mut out);
    for (name, text) in [("code", error.code), ("param", error.param)] {
        if let Some(text) = text {
            write::string_member(name, text, &mut out);
        }
    }
    if let Some(metadata) = error.metadata {
        write::key("metadata", &mut out);
        write::value(metadata, &mut out);
    }
    write::raw("}", &mut out);
    write::string_member("request_id", error.request_id, &mut out);
    write::raw("}", &mut out);
    out
}

/// Writes the event that ends a stream which had begun.
pub(super) fn write_event(fault: &Fault, out: &mut Vec<u8>) {
    let error_type = match fault.kind {
        FaultKind::Overloaded => "overloaded_error",
        FaultKind::RateLimited | FaultKind::QuotaExhausted => "rate_limit_error",
        FaultKind::Timeout(_) => "timeout_error",
        FaultKind::BadRequest | FaultKind::ContextLength | FaultKind::ContentFilter | FaultKind::Unsupported => {
            "invalid_request_error"
        }
        _ => "api_error",
    };
    write::raw("event: error\ndata: {\"type\":\"error\",\"error\":{", out);
    write::string_member("type", error_type, out);
    write::string_member("message", &fault.message, out);
    write::string_member("code", fault.code.as_deref().unwrap_or(fault.kind.name()), out);
    write::raw("}}\n\n", out);
}

/// The status decides, because the SDKs go by it; among those that share one, the word that is there.
fn type_of(status: u16, word: &str) -> &'static str {
    let by_status = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        408 | 504 => "timeout_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    // Of the words that share a status, the one that is there.
    match (status, word) {
        (400, "billing_error") => "billing_error",
        (400, "request_too_large") => "request_too_large",
        (500.., "overloaded_error") => "overloaded_error",
        _ => by_status,
    }
}
