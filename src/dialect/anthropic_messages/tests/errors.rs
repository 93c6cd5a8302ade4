//! Error bodies.

use crate::dialect::anthropic_messages::error::parse;
use crate::domain::FaultKind;
use serde_json::json;

#[test]
fn every_type_implies_its_status() {
    for (kind, status) in [
        ("invalid_request_error", 400),
        ("authentication_error", 401),
        ("billing_error", 402),
        ("permission_error", 403),
        ("not_found_error", 404),
        ("request_too_large", 413),
        ("rate_limit_error", 429),
        ("api_error", 500),
        ("timeout_error", 504),
        ("overloaded_error", 529),
    ] {
        let body =
            json!({"type": "error", "error": {"type": kind, "message": "why"}, "request_id": "req_1"}).to_string();
        let error = parse(body.as_bytes());
        assert_eq!((error.error_type.as_deref(), error.status, &*error.message), (Some(kind), Some(status), "why"));
    }
    let body = json!({"type": "error", "error": {"type": "new_error", "message": "why"}}).to_string();
    assert_eq!(parse(body.as_bytes()).status, None);
}

#[test]
fn a_parameter_is_found_at_the_front_of_the_message() {
    for (message, parameter) in [
        ("max_tokens: 9000 > 8192, which is the most", Some("max_tokens")),
        ("messages.0.content.1.text: Field required", Some("messages.0.content.1.text")),
        ("prompt is too long: 300000 tokens > 200000 maximum", None),
        ("Overloaded: please wait", None),
    ] {
        let body = json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}}).to_string();
        assert_eq!(parse(body.as_bytes()).param.as_deref(), parameter, "{message}");
    }
}

#[test]
fn other_shapes_in_the_same_place_are_read() {
    for (body, message, status) in [
        ("{\"error\":{\"code\":429,\"message\":\"Quota\",\"status\":\"RESOURCE_EXHAUSTED\"}}", "Quota", Some(429)),
        ("[{\"error\":{\"code\":503,\"message\":\"Down\"}}]", "Down", Some(503)),
        ("{\"message\":\"Forbidden\"}", "Forbidden", None),
        ("{\"error\":\"nope\"}", "nope", None),
        ("upstream connect error", "upstream connect error", None),
        ("<html>502</html>", "", None),
        ("", "", None),
    ] {
        let error = parse(body.as_bytes());
        assert_eq!((&*error.message, error.status), (message, status), "{body}");
    }
}

#[test]
fn what_anthropic_says_is_understood() {
    for (status, kind, message, fault) in [
        (400, "invalid_request_error", "prompt is too long: 205000 tokens > 200000 maximum", FaultKind::ContextLength),
        (
            400,
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length or \
             `max_tokens` and try again",
            FaultKind::ContextLength,
        ),
        (
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade.",
            FaultKind::QuotaExhausted,
        ),
        (400, "invalid_request_error", "Output blocked by content filtering policy", FaultKind::ContentFilter),
        (400, "invalid_request_error", "max_tokens: 9000 > 8192", FaultKind::BadRequest),
        (401, "authentication_error", "invalid x-api-key", FaultKind::BadCredentials),
        (403, "permission_error", "Your API key does not have permission", FaultKind::BadCredentials),
        (404, "not_found_error", "model: no-such-model", FaultKind::ModelNotFound),
        (429, "rate_limit_error", "This request would exceed your rate limit", FaultKind::RateLimited),
        (500, "api_error", "Internal server error", FaultKind::ServerError),
        (529, "overloaded_error", "Overloaded", FaultKind::Overloaded),
    ] {
        let body = json!({"type": "error", "error": {"type": kind, "message": message}}).to_string();
        let found = parse(body.as_bytes()).into_fault(Some(status));
        assert_eq!(found.kind, fault, "{message}");
    }
}
