//! Errors: what compatible providers say in many forms, and the one form that clients get.
//!
//! Source: the error references of OpenAI, OpenRouter (`metadata.raw`), Mistral (`object: "error"`, `detail` lists), Groq, Together,
//! DeepSeek, Cohere (`message` at the top), Hugging Face (`error` as a text), FastAPI and vLLM (`detail`), xAI (`code` beside `error`).

use super::write;
use crate::dialect::error::ErrorBody;
use serde_json::Value;

/// How much of a body that is no JSON is shown.
const MAX_TEXT: usize = 300;

/// Reads the body of an error.
pub fn parse(body: &[u8]) -> ErrorBody {
    match serde_json::from_slice::<Value>(body.trim_ascii()) {
        Ok(Value::Array(items)) => items.first().map(from_value).unwrap_or_default(),
        Ok(value) => from_value(&value),
        Err(_) => ErrorBody { message: plain_text(body), ..ErrorBody::default() },
    }
}

/// Writes the body of an error for a client: OpenAI's form, with nulls for what is not known, and `metadata` only where there is any.
pub fn render(
    status: u16,
    error_type: &str,
    code: Option<&str>,
    param: Option<&str>,
    message: &str,
    metadata: Option<&Value>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    // A type that says nothing is worse than none: the SDKs show it.
    let error_type = if error_type.is_empty() { type_of(status) } else { error_type };
    write::raw("{\"error\":{", &mut out);
    write::string_member("message", message, &mut out);
    for (name, text) in [("type", Some(error_type)), ("param", param), ("code", code)] {
        match text {
            Some(text) => write::string_member(name, text, &mut out),
            None => {
                write::key(name, &mut out);
                write::raw("null", &mut out);
            }
        }
    }
    if let Some(metadata) = metadata {
        write::key("metadata", &mut out);
        write::value(metadata, &mut out);
    }
    write::raw("}}", &mut out);
    out
}

/// OpenAI's type of error for a status.
fn type_of(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

fn from_value(value: &Value) -> ErrorBody {
    let error = &value["error"];
    let mut body = match error {
        Value::Object(_) => from_object(error),
        Value::String(text) => ErrorBody { message: text.clone(), ..from_object(value) },
        Value::Array(errors) => ErrorBody { message: joined(errors), ..from_object(value) },
        _ => from_object(value),
    };
    if body.message.is_empty() {
        body.message = ["message", "detail", "msg", "title"]
            .iter()
            .map(|name| message(&value[*name]))
            .find(|text| !text.is_empty())
            .unwrap_or_default();
    }
    body
}

fn from_object(error: &Value) -> ErrorBody {
    let (mut text, mut code) = (message(&error["message"]), word(&error["code"]));
    for name in ["detail", "msg"] {
        if text.is_empty() {
            text = message(&error[name]);
        }
    }
    // OpenRouter wraps the words of the provider behind it, which say more than its own "Provider returned error".
    let raw = &error["metadata"]["raw"];
    if !raw.is_null() {
        let inner = match raw {
            Value::String(raw) => parse(raw.as_bytes()),
            other => from_value(other),
        };
        if !inner.message.is_empty() && !text.contains(&inner.message) {
            text = if text.is_empty() { inner.message } else { format!("{text}: {}", inner.message) };
        }
        // Its code is the HTTP status; the provider's own is a word.
        code = inner.code.or(code);
    }
    let error_type =
        word(&error["type"]).or_else(|| word(&error["error_type"])).or_else(|| word(&error["metadata"]["error_type"]));
    let named = [&error["status_code"], &error["status"], &error["http_status"], &error["code"]];
    let status = named.into_iter().find_map(http_status).or_else(|| implied(error_type.as_deref(), code.as_deref()));
    // A code that only repeats the status is no code.
    let code = code.filter(|code| !is_status(code));
    let param = word(&error["param"]).or_else(|| error["loc"].as_array().map(|path| location(path)));
    ErrorBody { message: text, code, error_type, param, status, retry_after_ms: retry_after(error) }
}

/// A message as a text, as a list of texts or objects (FastAPI), or inside another object.
fn message(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => joined(items),
        Value::Object(object) => {
            let inner = ["message", "msg", "detail", "error"].iter().find_map(|name| object.get(*name));
            inner.map(message).unwrap_or_default()
        }
        _ => String::new(),
    }
}

fn joined(items: &[Value]) -> String {
    let texts: Vec<String> = items
        .iter()
        .map(|item| match item["loc"].as_array() {
            Some(path) => format!("{}: {}", location(path), message(item)),
            None => message(item),
        })
        .filter(|text| !text.is_empty())
        .collect();
    texts.join("; ")
}

/// FastAPI's path to a field, `["body", "messages", 0]`, as `messages[0]`.
fn location(path: &[Value]) -> String {
    let mut text = String::new();
    for step in path.iter().filter(|step| **step != "body") {
        match step {
            Value::String(name) if text.is_empty() => text.push_str(name),
            Value::String(name) => {
                text.push('.');
                text.push_str(name);
            }
            other => text.push_str(&format!("[{other}]")),
        }
    }
    text
}

/// A code or type: a text, or a number in digits.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Whether a code is an HTTP status in digits; Mistral's four-digit codes are not.
fn is_status(code: &str) -> bool {
    code.parse::<u16>().is_ok_and(|number| (100..600).contains(&number))
}

fn http_status(value: &Value) -> Option<u16> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u16::try_from(number).ok().filter(|status| (400..600).contains(status))
}

/// The status that a type or a code implies, for errors that come inside a 200.
fn implied(error_type: Option<&str>, code: Option<&str>) -> Option<u16> {
    let table = [
        ("insufficient_quota", 429),
        ("rate_limit", 429),
        ("too_many_requests", 429),
        ("tokens", 429),
        ("requests", 429),
        ("authentication", 401),
        ("invalid_api_key", 401),
        ("permission", 403),
        ("model_not_found", 404),
        ("not_found", 404),
        ("overloaded", 529),
        ("unavailable", 503),
        ("timeout", 504),
        ("invalid_request", 400),
        ("context_length_exceeded", 400),
        ("content_filter", 400),
        ("server_error", 500),
        ("internal", 500),
    ];
    let words: Vec<String> = [code, error_type].into_iter().flatten().map(str::to_ascii_lowercase).collect();
    // The table goes from the particular to the general, because a code may be vaguer than its type, or the other way round.
    let hit = |word: &str, text: &String| {
        if matches!(word, "tokens" | "requests") { text == word } else { text.contains(word) }
    };
    table.iter().find(|(word, _)| words.iter().any(|text| hit(word, text))).map(|(_, status)| *status)
}

fn retry_after(error: &Value) -> Option<u64> {
    let seconds = ["retry_after", "retry_after_seconds"]
        .iter()
        .find_map(|name| error[*name].as_f64().or_else(|| error["metadata"][*name].as_f64()))?;
    (seconds >= 0.0).then_some((seconds * 1000.0) as u64)
}

/// What a body that is no JSON says: its text, or a web page's title.
fn plain_text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    let is_page = text.starts_with('<');
    let shown = if is_page { title(text).unwrap_or("the provider answered with a web page") } else { text };
    let mut short: String = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = short.char_indices().nth(MAX_TEXT) {
        short.truncate(cut);
        short.push('…');
    }
    short
}

fn title(page: &str) -> Option<&str> {
    let lower = page.to_ascii_lowercase();
    let start = lower.find("<title>")? + "<title>".len();
    let end = start + lower[start..].find("</title>")?;
    Some(page[start..end].trim()).filter(|title| !title.is_empty())
}

#[cfg(test)]
mod tests;
