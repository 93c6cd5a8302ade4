//! The forms of errors that providers use, and the one that clients get.

use super::*;

fn read(body: &str) -> (String, Option<String>, Option<String>, Option<u16>) {
    let read = parse(body.as_bytes());
    (read.message, read.code, read.error_type, read.status)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn reads_every_providers_form() {
    for (body, message, code, error_type, status) in [
        // OpenAI
        (
            r#"{"error":{"message":"m","type":"invalid_request_error","param":"p","code":"context_length_exceeded"}}"#,
            "m",
            some("context_length_exceeded"),
            some("invalid_request_error"),
            Some(400),
        ),
        (
            r#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            "m",
            some("insufficient_quota"),
            some("insufficient_quota"),
            Some(429),
        ),
        // OpenRouter, with the words of the provider behind it
        (
            r#"{"error":{"message":"Provider returned error","code":429,"metadata":{"raw":"{\"error\":{\"message\":\"busy\",\"code\":\"rate_limit_exceeded\"}}"}}}"#,
            "Provider returned error: busy",
            some("rate_limit_exceeded"),
            None,
            Some(429),
        ),
        (
            r#"{"error":{"message":"Provider returned error","code":502,"metadata":{"raw":"upstream gone"}}}"#,
            "Provider returned error: upstream gone",
            None,
            None,
            Some(502),
        ),
        // Mistral
        (
            r#"{"object":"error","message":"m","type":"invalid_model","param":null,"code":"1500"}"#,
            "m",
            some("1500"),
            some("invalid_model"),
            None,
        ),
        (
            r#"{"object":"error","message":{"detail":[{"type":"missing","loc":["body","messages",0,"role"],"msg":"Field required"}]},"type":"invalid_request_error"}"#,
            "messages[0].role: Field required",
            None,
            some("invalid_request_error"),
            Some(400),
        ),
        (r#"{"detail":[{"loc":["body","n"],"msg":"too big","type":"value_error"}]}"#, "n: too big", None, None, None),
        (r#"{"detail":"Not Found"}"#, "Not Found", None, None, None),
        // Groq, in a stream
        (
            r#"{"error":{"message":"m","type":"invalid_request_error","code":"tool_use_failed","status_code":400}}"#,
            "m",
            some("tool_use_failed"),
            some("invalid_request_error"),
            Some(400),
        ),
        // DeepSeek: the type is the more particular word
        (
            r#"{"error":{"message":"m","type":"authentication_error","code":"invalid_request_error"}}"#,
            "m",
            some("invalid_request_error"),
            some("authentication_error"),
            Some(401),
        ),
    ] {
        assert_eq!(read(body), (message.to_owned(), code, error_type, status), "{body}");
    }
}

#[test]
fn reads_the_short_forms() {
    for (body, message, code, error_type, status) in [
        // Cohere, Hugging Face, xAI
        (r#"{"id":"x","message":"invalid api token"}"#, "invalid api token", None, None, None),
        (r#"{"error":"Model too busy","estimated_time":20}"#, "Model too busy", None, None, None),
        (
            r#"{"code":"Client specified an invalid argument","error":"m"}"#,
            "m",
            some("Client specified an invalid argument"),
            None,
            None,
        ),
        // Google's compatible side sends a list
        (r#"[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]"#, "m", None, None, Some(400)),
    ] {
        assert_eq!(read(body), (message.to_owned(), code, error_type, status), "{body}");
    }
    assert_eq!(parse(br#"{"error":{"message":"m","param":"messages[0]"}}"#).param.as_deref(), Some("messages[0]"));
}

#[test]
fn reads_what_is_no_json_as_text() {
    assert_eq!(read("upstream\n  connect error").0, "upstream connect error");
    assert_eq!(read("<html><head><TITLE> 502 Bad Gateway </TITLE></head></html>").0, "502 Bad Gateway");
    assert_eq!(read("<html>").0, "the provider answered with a web page");
    assert_eq!(read("").0, "");
    let long = read(&"é".repeat(1000)).0;
    assert_eq!(long.chars().count(), MAX_TEXT + 1);
    assert!(parse(b"\xff\xfe oh").message.contains("oh"));
}

#[test]
fn writes_real_nulls() {
    let body = render(404, "", None, None, "no \"such\" model", None);
    assert_eq!(
        String::from_utf8(body).unwrap(),
        r#"{"error":{"message":"no \"such\" model","type":"not_found_error","param":null,"code":null}}"#
    );
    let metadata = serde_json::json!({"attempts": []});
    let body = render(503, "server_error", Some("all_targets_failed"), Some("model"), "m", Some(&metadata));
    assert_eq!(
        String::from_utf8(body).unwrap(),
        r#"{"error":{"message":"m","type":"server_error","param":"model","code":"all_targets_failed","metadata":{"attempts":[]}}}"#
    );
}

proptest::proptest! {
    #[test]
    fn no_body_makes_it_panic(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let read = parse(&body);
        proptest::prop_assert!(read.message.len() <= 4 * body.len() + 64);
    }

    #[test]
    fn no_page_makes_it_panic(body in "<?[a-zA-Z<>/é ]{0,20}(<title>)?[é<>a ]{0,10}(</title>)?") {
        parse(body.as_bytes());
    }
}
