//! The list of models in the forms of Google's and of Anthropic's clients, in pages as they ask for them.
//!
//! Sources: the API references of both (`models.list` and `models.get`; `GET /v1/models` and `GET /v1/models/{model_id}`), and the types
//! of their SDKs.

use super::accept::percent_decode;
use super::error::{ApiError, Reason};
use crate::dialect::client::Client;
use http::HeaderMap;
use serde_json::{Value, json};
use std::borrow::Cow;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The most models that either puts on a page.
const LARGEST_PAGE: usize = 1000;

/// Whose form a list of models is wanted in: that of the path, or of a header that only one maker's clients send.
pub(super) fn wanted(by_path: Client, headers: &HeaderMap) -> Client {
    if by_path != Client::OpenAiChat {
        return by_path;
    }
    if headers.contains_key("anthropic-version") {
        Client::AnthropicMessages
    } else if headers.contains_key("x-goog-api-key") {
        Client::Gemini
    } else {
        by_path
    }
}

/// A list as the client knows it, out of the gateway's own; `query` says which page of it.
///
/// # Errors
/// 400 that names what is wrong with the query.
pub(super) fn list(client: Client, query: Option<&str>, own: Value) -> Result<Value, ApiError> {
    let query = Query(query.unwrap_or_default());
    let models = || own["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    match client {
        Client::Gemini => {
            let size = query.size("pageSize", 50, true)?;
            let rest = query.after("pageToken", models())?;
            let page = &rest[..size.min(rest.len())];
            let mut list = json!({ "models": page.iter().map(google).collect::<Vec<_>>() });
            if let Some(last) = page.last().filter(|_| page.len() < rest.len()) {
                list["nextPageToken"] = last["id"].clone();
            }
            Ok(list)
        }
        Client::AnthropicMessages => {
            let size = query.size("limit", 20, false)?;
            let before = query.get("before_id");
            let (page, has_more) = match &before {
                Some(_) => {
                    let rest = query.before("before_id", models())?;
                    (&rest[rest.len().saturating_sub(size)..], rest.len() > size)
                }
                None => {
                    let rest = query.after("after_id", models())?;
                    (&rest[..size.min(rest.len())], rest.len() > size)
                }
            };
            let id = |model: Option<&Value>| model.map_or(Value::Null, |model| model["id"].clone());
            Ok(json!({
                "data": page.iter().map(anthropic).collect::<Vec<_>>(),
                "has_more": has_more,
                "first_id": id(page.first()),
                "last_id": id(page.last()),
            }))
        }
        _ => Ok(own),
    }
}

/// One model as the client knows it, out of the gateway's own.
pub(super) fn one(client: Client, own: Value) -> Value {
    match client {
        Client::Gemini => google(&own),
        Client::AnthropicMessages => anthropic(&own),
        _ => own,
    }
}

/// Google's `Model`. It has no version: the gateway knows none.
fn google(own: &Value) -> Value {
    let methods: &[&str] = match own["architecture"]["output_modalities"][0].as_str() {
        Some("text") if own["architecture"]["input_modalities"][0] == "text" => {
            &["generateContent", "streamGenerateContent", "countTokens"]
        }
        Some("embeddings") => &["embedContent", "batchEmbedContents"],
        _ => &[],
    };
    let mut model = json!({
        "name": format!("models/{}", own["id"].as_str().unwrap_or_default()),
        "baseModelId": own["id"],
        "displayName": own["name"],
        "supportedGenerationMethods": methods,
    });
    let known = [
        ("description", &own["description"]),
        ("inputTokenLimit", &own["context_length"]),
        ("outputTokenLimit", &own["top_provider"]["max_completion_tokens"]),
    ];
    for (name, value) in known.into_iter().filter(|(_, value)| !value.is_null()) {
        model[name] = value.clone();
    }
    if own["supported_parameters"].as_array().is_some_and(|list| list.iter().any(|name| name == "reasoning")) {
        model["thinking"] = true.into();
    }
    model
}

/// Anthropic's `ModelInfo`.
fn anthropic(own: &Value) -> Value {
    let created = own["created"].as_i64().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    // Anthropic, too, says the epoch of a model whose day is not known.
    let created = created.unwrap_or(OffsetDateTime::UNIX_EPOCH).format(&Rfc3339).unwrap_or_default();
    json!({
        "type": "model",
        "id": own["id"],
        "display_name": own["name"],
        "created_at": created,
        "lifecycle": if own["status"] == "deprecated" { "deprecated" } else { "active" },
        "max_input_tokens": own["context_length"],
        "max_tokens": own["top_provider"]["max_completion_tokens"],
    })
}

/// What a query says.
struct Query<'a>(&'a str);

impl Query<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| percent_decode(value));
        values.next().filter(|value| !value.is_empty()).map(Cow::into_owned)
    }

    /// How many models a page has; Google makes a size that is too large smaller, Anthropic refuses it.
    fn size(&self, name: &'static str, usual: usize, lenient: bool) -> Result<usize, ApiError> {
        let Some(text) = self.get(name) else { return Ok(usual) };
        match text.parse::<usize>() {
            Ok(0) if lenient => Ok(usual),
            Ok(size) if size > 0 && (lenient || size <= LARGEST_PAGE) => Ok(size.min(LARGEST_PAGE)),
            _ => Err(wrong(name, format!("{name} has to be a number from 1 to {LARGEST_PAGE}"))),
        }
    }

    /// The models behind the one that the query names.
    fn after<'a>(&self, name: &'static str, models: &'a [Value]) -> Result<&'a [Value], ApiError> {
        Ok(self.place(name, models)?.map_or(models, |place| &models[place + 1..]))
    }

    /// Those in front of it.
    fn before<'a>(&self, name: &'static str, models: &'a [Value]) -> Result<&'a [Value], ApiError> {
        Ok(self.place(name, models)?.map_or(models, |place| &models[..place]))
    }

    fn place(&self, name: &'static str, models: &[Value]) -> Result<Option<usize>, ApiError> {
        let Some(id) = self.get(name) else { return Ok(None) };
        let place = models.iter().position(|model| model["id"] == *id);
        place.map(Some).ok_or_else(|| wrong(name, format!("{name} names no model of the list")))
    }
}

fn wrong(name: &'static str, message: String) -> ApiError {
    ApiError::new(Reason::InvalidRequest, message).param(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Value {
        let model = |id: &str| {
            json!({"id": id, "name": id.to_uppercase(), "created": 0, "context_length": 9, "status": "live",
                "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
                "top_provider": {"max_completion_tokens": null}, "supported_parameters": ["reasoning"]})
        };
        json!({"object": "list", "data": (0..5).map(|at| model(&format!("p/m{at}"))).collect::<Vec<_>>()})
    }

    fn listed(client: Client, query: &str) -> Value {
        list(client, Some(query), own()).unwrap()
    }

    #[test]
    fn googles_pages_follow_one_another_to_the_end() {
        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let page = listed(Client::Gemini, &format!("queryBase=true&pageSize=2&pageToken={token}"));
            seen.extend(page["models"].as_array().unwrap().iter().map(|model| model["name"].clone()));
            match page["nextPageToken"].as_str() {
                Some(next) => token = next.replace('/', "%2F"),
                None => break,
            }
        }
        assert_eq!(seen, ["models/p/m0", "models/p/m1", "models/p/m2", "models/p/m3", "models/p/m4"]);
        let model = &listed(Client::Gemini, "pageSize=5000")["models"][4];
        assert_eq!(
            model,
            &json!({"name": "models/p/m4", "baseModelId": "p/m4", "displayName": "P/M4", "inputTokenLimit": 9,
                "thinking": true, "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"]})
        );
    }

    #[test]
    fn anthropics_pages_go_both_ways() {
        let ids = |page: &Value| -> Vec<String> {
            page["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
        };
        let first = listed(Client::AnthropicMessages, "limit=2");
        assert_eq!((ids(&first), &first["has_more"]), (vec!["p/m0".into(), "p/m1".into()], &json!(true)));
        let next = listed(Client::AnthropicMessages, "limit=3&after_id=p%2Fm1");
        assert_eq!((ids(&next).len(), &next["has_more"], &next["last_id"]), (3, &json!(false), &json!("p/m4")));
        let back = listed(Client::AnthropicMessages, "limit=1&before_id=p/m2");
        assert_eq!(
            (ids(&back), &back["has_more"], &back["first_id"]),
            (vec!["p/m1".into()], &json!(true), &json!("p/m1"))
        );
        assert_eq!(first["data"][0]["created_at"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn what_is_wrong_with_a_query_is_named() {
        for (client, query, name) in [
            (Client::Gemini, "pageSize=x", "pageSize"),
            (Client::Gemini, "pageToken=p/none", "pageToken"),
            (Client::AnthropicMessages, "limit=0", "limit"),
            (Client::AnthropicMessages, "limit=1001", "limit"),
            (Client::AnthropicMessages, "before_id=none", "before_id"),
        ] {
            let error = list(client, Some(query), own()).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, Some(name)), "{query}");
        }
        assert_eq!(list(Client::OpenAiChat, Some("limit=0"), own()).unwrap(), own());
    }
}
