//! `countTokens`: the tokens of a request, its instructions and tools included.
//!
//! Source: Google's API reference of `models.countTokens`, whose `generateContentRequest` takes a whole request.

use super::request;

/// The path below the base URL.
pub fn path(model: &str) -> String {
    let path = request::path(model, false);
    match path.rsplit_once(':') {
        Some((model, _)) => format!("{model}:countTokens"),
        None => path,
    }
}

/// The body, made of that of `generateContent`.
pub fn wrap(model: &str, body: &[u8]) -> Vec<u8> {
    let name = if model.contains('/') { model.to_owned() } else { format!("models/{model}") };
    let inner = body.strip_prefix(b"{").unwrap_or(body);
    let comma = if inner.trim_ascii() == b"}" { "" } else { "," };
    let name = serde_json::Value::from(name);
    [format!("{{\"generateContentRequest\":{{\"model\":{name}{comma}").as_bytes(), inner, b"}"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn wraps_a_whole_request() {
        assert_eq!(path("a-model"), "/v1beta/models/a-model:countTokens");
        let wrapped: Value = serde_json::from_slice(&wrap("a-model", br#"{"contents":[1]}"#)).unwrap();
        assert_eq!(wrapped, json!({"generateContentRequest": {"model": "models/a-model", "contents": [1]}}));
        let empty: Value = serde_json::from_slice(&wrap("tunedModels/x", b"{}")).unwrap();
        assert_eq!(empty, json!({"generateContentRequest": {"model": "tunedModels/x"}}));
    }
}
