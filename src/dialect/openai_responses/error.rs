//! Failures in the words of Responses: `response.error`, and the `error` event of a stream.
//!
//! The error of an HTTP answer has the form that chat completions have, see [`crate::dialect::openai_chat::error`].

use crate::dialect::error::ErrorBody;
use crate::dialect::openai_chat::write;
use crate::domain::{Fault, FaultKind};
use serde_json::Value;

/// The code of a failed response: the provider's own, or the word that OpenAI documents for the kind of fault.
pub fn code(fault: &Fault) -> &str {
    match (&fault.code, fault.kind) {
        (Some(code), _) => code,
        (None, FaultKind::RateLimited | FaultKind::QuotaExhausted) => "rate_limit_exceeded",
        (None, FaultKind::ContextLength) => "context_length_exceeded",
        (None, FaultKind::ContentFilter) => "content_filter",
        (None, FaultKind::BadRequest | FaultKind::Unsupported) => "invalid_prompt",
        (None, _) => "server_error",
    }
}

/// Writes `response.error`.
pub fn write_error(fault: &Fault, out: &mut Vec<u8>) {
    out.push(b'{');
    write::string_member("code", code(fault), out);
    write::string_member("message", &fault.message, out);
    out.push(b'}');
}

/// Writes the members of the `error` event behind its sequence number: flat as OpenAI documents them, and in an object as OpenAI sends
/// them. The SDKs raise an exception for the object alone.
pub fn write_members(fault: &Fault, out: &mut Vec<u8>) {
    let write_flat = |out: &mut Vec<u8>| {
        write::string_member("code", code(fault), out);
        write::string_member("message", &fault.message, out);
        write::key("param", out);
        match &fault.param {
            Some(param) => write::string(param, out),
            None => write::raw("null", out),
        }
    };
    write_flat(out);
    write::raw(",\"error\":{", out);
    write::string_member("type", fault.error_type.as_deref().unwrap_or("server_error"), out);
    write_flat(out);
    out.push(b'}');
}

/// The fault of an `error` event, or of a response that failed. `value` is the event or the response.
pub fn parse(value: &Value) -> Fault {
    let inner = if value["error"].is_object() { &value["error"] } else { value };
    let text = |name: &str| inner[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    // A flat event's own type says nothing.
    let error_type = text("type").filter(|word| word != "error" && inner["object"].is_null());
    let body = ErrorBody {
        message: text("message").unwrap_or_else(|| "the provider's response failed".to_owned()),
        status: implied(text("code").as_deref()),
        code: text("code"),
        error_type,
        param: text("param"),
        retry_after_ms: None,
    };
    body.into_fault(None)
}

/// The HTTP status that a code implies; what OpenAI names no code for is its own failure.
fn implied(code: Option<&str>) -> Option<u16> {
    match code {
        Some("rate_limit_exceeded" | "insufficient_quota") => Some(429),
        Some("server_is_overloaded" | "slow_down") => Some(503),
        Some("vector_store_timeout" | "server_error") | None => Some(500),
        Some(code) if code.starts_with("invalid") || code.ends_with("_exceeded") || code.contains("image") => Some(400),
        Some(_) => Some(500),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_failures_in_each_form() {
        let nested = json!({"type": "error", "sequence_number": 2,
            "error": {"type": "tokens", "code": "rate_limit_exceeded", "message": "too large", "param": null}});
        let flat = json!({"type": "error", "code": "rate_limit_exceeded", "message": "too large", "param": null});
        let failed = json!({"object": "response", "status": "failed",
            "error": {"code": "rate_limit_exceeded", "message": "too large"}});
        for value in [nested, flat, failed] {
            let fault = parse(&value);
            assert_eq!(fault.kind, FaultKind::RateLimited, "{value}");
            assert_eq!((&*fault.message, fault.status), ("too large", Some(429)));
        }
        let unknown = parse(&json!({"object": "response", "status": "failed", "error": null}));
        assert_eq!(unknown.kind, FaultKind::ServerError);
        let long = parse(&json!({"error": {"code": "context_length_exceeded", "message": "m"}}));
        assert_eq!(long.kind, FaultKind::ContextLength);
        let prompt = parse(&json!({"error": {"code": "invalid_prompt", "message": "m"}}));
        assert_eq!(prompt.kind, FaultKind::ContentFilter);
    }

    #[test]
    fn writes_what_it_reads() {
        let fault =
            Fault { code: Some("rate_limit_exceeded".into()), ..Fault::new(FaultKind::RateLimited, "slow \"down\"") };
        let mut out = b"{".to_vec();
        write_members(&fault, &mut out);
        out.push(b'}');
        let event: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(event["message"], "slow \"down\"");
        assert_eq!(event["error"]["code"], "rate_limit_exceeded");
        assert_eq!(parse(&event).kind, FaultKind::RateLimited);
    }
}
