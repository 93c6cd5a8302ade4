//! Error bodies.

use crate::dialect::anthropic_messages::error::parse;
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
