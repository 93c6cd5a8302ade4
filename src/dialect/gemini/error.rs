//! Google's errors (`google.rpc.Status`).
//!
//! `{"error": {"code": 429, "message": "…", "status": "RESOURCE_EXHAUSTED", "details": [{"@type": "…", …}]}}`, in the answer to
//! a stream without `alt=sse` inside an array. Of the details (`google/rpc/error_details.proto`) four say more than the status:
//! `ErrorInfo` names the reason, `RetryInfo` the wait, `QuotaFailure` which quota, `BadRequest` which field.

use crate::dialect::error::ErrorBody;
use serde::Deserialize;
use serde_json::Value;

/// The reason of a key that Google does not know. It comes with the status 400.
pub const API_KEY_INVALID: &str = "API_KEY_INVALID";

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: Value,
    #[serde(default)]
    message: Value,
    #[serde(default)]
    status: Value,
    #[serde(default)]
    details: Value,
}

/// Reads the body of an answer with an error status; everything is empty when it is not Google's JSON.
///
/// `code` is the reason of the `ErrorInfo`, else the id of the violated quota (`GenerateRequestsPerDay…` is one that waiting does not
/// bring back soon); `error_type` is the status word.
pub fn parse(body: &[u8]) -> ErrorBody {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return ErrorBody::default() };
    read(value)
}

/// Reads an error object, wrapped in `{"error": …}`, in an array of such, or bare.
pub fn read(value: Value) -> ErrorBody {
    let mut value = match value {
        Value::Array(items) => items.into_iter().find(|item| item.get("error").is_some()).unwrap_or_default(),
        other => other,
    };
    if let Some(inner) = value.get_mut("error") {
        value = inner.take();
    }
    if let Value::String(message) = value {
        return ErrorBody { message, ..ErrorBody::default() };
    }
    serde_json::from_value::<Status>(value).map(status).unwrap_or_default()
}

fn status(error: Status) -> ErrorBody {
    let message = text(&error.message);
    let error_type = Some(text(&error.status)).filter(|word| !word.is_empty());
    let mut out = ErrorBody {
        status: error.code.as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code)),
        error_type,
        ..ErrorBody::default()
    };
    let mut quota = None;
    for detail in error.details.as_array().into_iter().flatten() {
        let kind = detail.get("@type").and_then(Value::as_str).unwrap_or_default();
        match kind.rsplit('.').next().unwrap_or_default() {
            "ErrorInfo" => out.code = detail.get("reason").and_then(Value::as_str).map(str::to_owned),
            "RetryInfo" => {
                out.retry_after_ms = detail.get("retryDelay").and_then(Value::as_str).and_then(milliseconds);
            }
            "QuotaFailure" => quota = quota_id(detail),
            "BadRequest" => {
                let field = detail.pointer("/fieldViolations/0/field").and_then(Value::as_str);
                out.param = field.map(str::to_owned);
            }
            _ => {}
        }
    }
    out.code = out.code.or(quota);
    out.retry_after_ms = out.retry_after_ms.or_else(|| wait_in_message(&message));
    if out.code.is_none() && message.starts_with("API key not valid") {
        out.code = Some(API_KEY_INVALID.to_owned());
    }
    match out.code.as_deref() {
        Some(API_KEY_INVALID | "API_KEY_EXPIRED") => out.status = Some(401),
        _ => out.status = out.status.or_else(|| out.error_type.as_deref().and_then(status_of_word)),
    }
    out.message = message;
    out
}

fn text(value: &Value) -> String {
    value.as_str().map(str::to_owned).unwrap_or_default()
}

/// The id of the violated quota; of several the one that lasts longest.
fn quota_id(detail: &Value) -> Option<String> {
    let ids = || {
        let violations = detail.get("violations").and_then(Value::as_array).into_iter().flatten();
        violations.filter_map(|violation| violation.get("quotaId").and_then(Value::as_str))
    };
    ids().find(|id| id.contains("PerDay")).or_else(|| ids().next()).map(str::to_owned)
}

/// The HTTP status of a status word (`google/rpc/code.proto`), for errors that name no code.
fn status_of_word(word: &str) -> Option<u16> {
    Some(match word {
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" => 400,
        "UNAUTHENTICATED" => 401,
        "PERMISSION_DENIED" => 403,
        "NOT_FOUND" => 404,
        "ABORTED" | "ALREADY_EXISTS" => 409,
        "RESOURCE_EXHAUSTED" => 429,
        "CANCELLED" => 499,
        "INTERNAL" | "UNKNOWN" | "DATA_LOSS" => 500,
        "UNIMPLEMENTED" => 501,
        "UNAVAILABLE" => 503,
        "DEADLINE_EXCEEDED" => 504,
        _ => return None,
    })
}

/// A protobuf duration in JSON (`"48s"`, `"0.5s"`) in milliseconds.
fn milliseconds(duration: &str) -> Option<u64> {
    let seconds: f64 = duration.strip_suffix('s')?.parse().ok()?;
    // Ten years are more than any provider means; the bound keeps the conversion exact.
    (0.0..=315_360_000.0).contains(&seconds).then(|| (seconds * 1000.0).ceil() as u64)
}

/// The wait in "Please retry in 48.9s.", which some answers have without a `RetryInfo`.
fn wait_in_message(message: &str) -> Option<u64> {
    let rest = message.split("retry in ").nth(1)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    match &rest.as_bytes()[end..] {
        [b'm', b's', ..] => milliseconds(&format!("{}s", &rest[..end])).map(|ms| ms.div_ceil(1000)),
        [b's', ..] => milliseconds(&format!("{}s", &rest[..end])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_is_told_from_a_wrong_request() {
        let body = br#"{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status":
            "INVALID_ARGUMENT", "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
            "domain": "googleapis.com"}]}}"#;
        let error = parse(body);
        assert_eq!(error.status, Some(401));
        assert_eq!(error.code.as_deref(), Some("API_KEY_INVALID"));
        assert_eq!(error.error_type.as_deref(), Some("INVALID_ARGUMENT"));
        let without_details =
            br#"{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}"#;
        assert_eq!(parse(without_details).status, Some(401));
    }

    #[test]
    fn quota_names_itself_and_the_wait() {
        let body = br#"{"error": {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED", "details": [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [
                {"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}, {"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "18.25s"}]}}"#;
        let error = parse(body);
        assert_eq!(error.status, Some(429));
        assert_eq!(error.retry_after_ms, Some(18_250));
        assert_eq!(error.code.as_deref(), Some("GenerateRequestsPerDayPerProjectPerModel"));
        let in_words = br#"{"error": {"code": 429, "message": "Too many. Please retry in 2.5s.", "status": "RESOURCE_EXHAUSTED"}}"#;
        assert_eq!(parse(in_words).retry_after_ms, Some(2_500));
        let in_milliseconds = br#"{"error": {"code": 429, "message": "Too many. Please retry in 900.4ms."}}"#;
        assert_eq!(parse(in_milliseconds).retry_after_ms, Some(901));
    }

    #[test]
    fn the_array_form_and_odd_bodies_are_read() {
        let error = parse(br#"[{"error": {"code": 503, "message": "Overloaded.", "status": "UNAVAILABLE"}}]"#);
        assert_eq!((error.status, error.message.as_str()), (Some(503), "Overloaded."));
        assert_eq!(parse(br#"{"error": {"status": "UNAVAILABLE"}}"#).status, Some(503));
        assert_eq!(parse(br#"{"error": "gone"}"#).message, "gone");
        let field =
            br#"{"error": {"code": 400, "details": [{"@type": "x/google.rpc.BadRequest", "fieldViolations": [{"field":
            "contents[0].parts"}]}]}}"#;
        assert_eq!(parse(field).param.as_deref(), Some("contents[0].parts"));
        for body in [
            &b"<html>"[..],
            b"",
            b"[]",
            b"null",
            b"{\"error\": [1]}",
            b"{\"error\": {\"code\": \"x\", \"details\": 3}}",
        ] {
            assert_eq!(parse(body).message, "");
        }
    }
}
