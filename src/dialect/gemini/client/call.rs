//! What the path and the query of a request say, and the body with that in it.
//!
//! Model, method and framing stand outside the body in this format. They are put into it as members that Google's body does not have
//! (`model`, `stream`, `alt`), so that every later stage finds a request in one place, as in the other formats.
//! [`super::envelope::passthrough_body`] takes them out again.

use crate::dialect::openai_chat::envelope::inside;
use crate::dialect::openai_chat::write;
use bytes::Bytes;

/// What is asked of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `:generateContent`.
    Generate,
    /// `:streamGenerateContent`.
    Stream,
    /// `:countTokens`.
    Count,
    /// `:embedContent`.
    Embed,
    /// `:batchEmbedContents`.
    EmbedBatch,
}

impl Method {
    const ALL: [Self; 5] = [Self::Generate, Self::Stream, Self::Count, Self::Embed, Self::EmbedBatch];

    fn name(self) -> &'static str {
        match self {
            Self::Generate => "generateContent",
            Self::Stream => "streamGenerateContent",
            Self::Count => "countTokens",
            Self::Embed => "embedContent",
            Self::EmbedBatch => "batchEmbedContents",
        }
    }

    /// The route of one that asks for vectors, as it stands in the log.
    pub fn embedding_route(self) -> Option<&'static str> {
        match self {
            Self::Generate | Self::Stream | Self::Count => None,
            Self::Embed => Some("POST /v1beta/models/{model}:embedContent"),
            Self::EmbedBatch => Some("POST /v1beta/models/{model}:batchEmbedContents"),
        }
    }
}

/// A model and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The model's name, slashes included.
    pub model: String,
    /// What is asked.
    pub method: Method,
}

/// The versions of the interface; what they differ in is up to the models.
const VERSIONS: [&str; 3] = ["/v1beta", "/v1alpha", "/v1"];

/// What is behind the version of a path, if it has one that only this format has.
pub fn below_version(path: &str) -> Option<&str> {
    // A base URL may have its own `/v1` in front.
    let inner = path.strip_prefix("/v1").filter(|rest| rest.starts_with("/v1")).unwrap_or(path);
    VERSIONS[..2].iter().find_map(|version| inner.strip_prefix(version)).filter(|rest| rest.starts_with('/'))
}

impl Call {
    /// Reads a path whose escapes are resolved, `/v1beta/models/{model}:{method}`; `None` when it is another.
    pub fn of(path: &str) -> Option<Self> {
        let below = below_version(path).or_else(|| path.strip_prefix(VERSIONS[2])).unwrap_or(path);
        let rest = below.strip_prefix("/models/").or_else(|| below.strip_prefix('/').filter(|rest| is_tuned(rest)))?;
        let (model, method) = rest.rsplit_once(':')?;
        let method = Method::ALL.into_iter().find(|known| known.name() == method)?;
        (!model.is_empty()).then(|| Self { model: model.to_owned(), method })
    }

    /// The path as the documents have it, whichever version was asked.
    pub fn path(&self) -> String {
        format!("/v1beta/models/{}:{}", self.model, self.method.name())
    }

    /// The body with what path and query say. One that is no object stays as it is: the scan says what is wrong with it.
    pub fn complete(&self, body: Bytes, query: Option<&str>) -> Bytes {
        let body = if self.method == Method::Count { counted(body) } else { body };
        let is_object = body.trim_ascii_start().starts_with(b"{");
        let Some(start) = body.trim_ascii_end().strip_suffix(b"}").filter(|_| is_object) else { return body };
        let start = start.trim_ascii_end();
        let mut out = Vec::with_capacity(start.len() + self.model.len() + 48);
        out.extend_from_slice(start);
        write::string_member("model", &self.model, &mut out);
        if self.method == Method::Stream {
            write::raw(",\"stream\":true", &mut out);
            let events =
                query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse" || pair == "$alt=sse"));
            write::raw(if events { "" } else { ",\"alt\":\"json\"" }, &mut out);
        }
        out.push(b'}');
        out.into()
    }
}

fn is_tuned(path: &str) -> bool {
    path.starts_with("tunedModels/")
}

/// The request whose tokens are asked for: it may stand inside.
fn counted(body: Bytes) -> Bytes {
    let names = [&b"generateContentRequest"[..], b"generate_content_request"];
    match names.into_iter().find_map(|name| inside(&body, name)) {
        Some(place) if body[place.clone()].starts_with(b"{") => body.slice(place),
        _ => body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn call(model: &str, method: Method) -> Call {
        Call { model: model.to_owned(), method }
    }

    #[test]
    fn reads_the_paths_of_all_versions_and_names_with_slashes() {
        for (path, expected) in [
            ("/v1beta/models/gemini-x:generateContent", Some(call("gemini-x", Method::Generate))),
            ("/v1/models/gemini-x:countTokens", Some(call("gemini-x", Method::Count))),
            (
                "/v1alpha/models/openai/gpt-x:free:streamGenerateContent",
                Some(call("openai/gpt-x:free", Method::Stream)),
            ),
            ("/v1/v1beta/models/@preset/a:generateContent", Some(call("@preset/a", Method::Generate))),
            ("/v1beta/tunedModels/x:generateContent", Some(call("tunedModels/x", Method::Generate))),
            ("/v1beta/models/x:embedContent", Some(call("x", Method::Embed))),
            ("/v1beta/models/a/b:batchEmbedContents", Some(call("a/b", Method::EmbedBatch))),
            ("/models/x:generateContent", Some(call("x", Method::Generate))),
            ("/v1beta/models/:generateContent", None),
            ("/v1beta/models/x:predict", None),
            ("/v1/models/x:floor", None),
            ("/v1beta/files/x:generateContent", None),
        ] {
            assert_eq!(Call::of(path), expected, "{path}");
        }
    }

    #[test]
    fn the_body_says_it_all() {
        let complete = |method, query, body: &'static str| {
            let out = call("a/\"b", method).complete(Bytes::from_static(body.as_bytes()), query);
            serde_json::from_slice::<Value>(&out).unwrap()
        };
        assert_eq!(
            complete(Method::Generate, None, r#" {"contents": [1]} "#),
            json!({"contents": [1], "model": "a/\"b"})
        );
        assert_eq!(complete(Method::Generate, None, "{ }"), json!({"model": "a/\"b"}));
        let stream = complete(Method::Stream, Some("key=x&alt=sse"), "{}");
        assert_eq!(stream, json!({"model": "a/\"b", "stream": true}));
        let array = complete(Method::Stream, Some("key=x"), "{}");
        assert_eq!(array, json!({"model": "a/\"b", "stream": true, "alt": "json"}));
        let counted =
            complete(Method::Count, None, r#"{"generateContentRequest": {"model": "models/c", "contents": []}}"#);
        assert_eq!(counted, json!({"contents": [], "model": "a/\"b"}));
    }

    #[test]
    fn what_is_no_object_stays_wrong() {
        for body in ["", "[]", "x", "{\"a\":{}", "{\"a\":\"}", "{,}", "{\"a\":1,}", "}", "[{}", "{\"a\":}"] {
            let out = call("m", Method::Stream).complete(Bytes::copy_from_slice(body.as_bytes()), None);
            assert!(serde_json::from_slice::<serde_json::Map<String, Value>>(&out).is_err(), "{body}");
        }
    }
}
