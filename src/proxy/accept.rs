//! The first stage: which route a request is for.

use super::error::{ApiError, Reason};
use crate::dialect::client::Client;
use crate::dialect::gemini::client::call::{Call, below_version};
use crate::dialect::work::Endpoint;
use http::Method;
use std::borrow::Cow;

/// The gateway's routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/messages`, also below `/anthropic`.
    Messages,
    /// `POST /v1/messages/count_tokens`.
    CountTokens,
    /// `POST /v1/responses`.
    Responses,
    /// `POST /v1beta/models/{model}:generateContent` and its neighbours; the model may hold slashes.
    Gemini(Call),
    /// `POST /v1/completions`.
    Completions,
    /// `GET` and `DELETE /v1/responses/{id}`, and what stands below it.
    Response(String, OfResponse),
    /// `POST /v1/embeddings`.
    Embeddings,
    /// `POST /v1/images/generations` and the other routes whose requests and answers pass as they are.
    Relay(Endpoint),
    /// `GET /v1/models`, and Google's `GET /v1beta/models`.
    Models,
    /// `GET /v1/models/{id}`, and Google's `GET /v1beta/models/{id}`; the id may hold slashes.
    Model(String),
    /// `GET /livez`: the process runs.
    Live,
    /// `GET /readyz`: it takes requests.
    Ready,
    /// `GET /`: what this is.
    Root,
    /// `OPTIONS` anywhere: a browser asks before it sends.
    Preflight,
}

/// What is asked of a response that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfResponse {
    /// To be told, or forgotten.
    Itself,
    /// `/input_items`: what it was made of.
    InputItems,
    /// `/cancel`: not to go on in the background.
    Cancel,
}

impl Route {
    /// Whether the route needs a gateway key.
    pub(super) fn needs_key(&self) -> bool {
        !matches!(self, Self::Live | Self::Ready | Self::Root | Self::Preflight)
    }
}

/// Finds the route of a method and path. A trailing slash and a doubled `/v1` (from base URLs that already have it) are forgiven.
///
/// # Errors
/// 404 or 405 in OpenAI's form.
pub(super) fn route(method: &Method, path: &str) -> Result<Route, ApiError> {
    if method == Method::OPTIONS {
        return Ok(Route::Preflight);
    }
    let inner = path.strip_prefix(ANTHROPIC).filter(|rest| rest.starts_with('/')).unwrap_or(path);
    let tidy = inner.strip_prefix("/v1/v1/").map_or_else(|| inner.to_owned(), |rest| format!("/v1/{rest}"));
    let tidy = match tidy.trim_end_matches('/') {
        "" => "/",
        other => other,
    };
    let (route, allow) = match tidy {
        "/" => (Route::Root, "GET"),
        "/livez" => (Route::Live, "GET"),
        "/readyz" => (Route::Ready, "GET"),
        "/v1/chat/completions" | "/chat/completions" => (Route::Chat, "POST"),
        "/v1/messages" | "/messages" => (Route::Messages, "POST"),
        "/v1/messages/count_tokens" | "/messages/count_tokens" => (Route::CountTokens, "POST"),
        "/v1/responses" | "/responses" => (Route::Responses, "POST"),
        "/v1/embeddings" | "/embeddings" => (Route::Embeddings, "POST"),
        "/v1/completions" | "/completions" => (Route::Completions, "POST"),
        "/v1/models" | "/models" => (Route::Models, "GET"),
        _ if below_version(tidy) == Some("/models") => (Route::Models, "GET"),
        _ => {
            // What else may be asked of a model in Google's format, and not here, is no wrong method.
            let looks = method == Method::GET || method == Method::HEAD;
            let below = below_version(tidy).filter(|below| looks && below.starts_with("/models/"));
            let below = below.unwrap_or_else(|| tidy.strip_prefix("/v1").unwrap_or(tidy));
            if let Some(call) = Call::of(&percent_decode(tidy)) {
                (Route::Gemini(call), "POST")
            } else if let Some(endpoint) = Endpoint::of_path(below) {
                (Route::Relay(endpoint), "POST")
            } else if let Some(id) = below.strip_prefix("/models/") {
                (Route::Model(percent_decode(id).into_owned()), "GET")
            } else if let Some(found) = below.strip_prefix("/responses/").and_then(|rest| of_responses(method, rest)) {
                found
            } else if let Some(why) = not_here(below) {
                return Err(ApiError::new(Reason::UnknownUrl, format!("{method} {} is not here: {why}", short(path))));
            } else if matches!(below, "/traces" | "/metrics" | "/logs") && method == Method::POST {
                return Err(ApiError::new(Reason::NoIngest, NO_INGEST));
            } else {
                return Err(ApiError::new(Reason::UnknownUrl, format!("Unknown URL: {method} {}", short(path))));
            }
        }
    };
    let fits =
        allow.split(", ").any(|one| method.as_str() == one) || (method == Method::HEAD && allow.starts_with("GET"));
    if fits {
        Ok(route)
    } else {
        let error = ApiError::new(Reason::MethodNotAllowed, format!("{} takes {allow}, not {method}", short(path)));
        Err(error.allow(allow))
    }
}

/// The routes below `/v1/responses/`. A word that stands for a route of OpenAI's own is no id.
fn of_responses(method: &Method, rest: &str) -> Option<(Route, &'static str)> {
    let (id, of, allow) = match rest.split_once('/') {
        None if method == Method::POST && matches!(rest, "compact" | "input_tokens") => return None,
        None => (rest, OfResponse::Itself, "GET, DELETE"),
        Some((id, "input_items")) => (id, OfResponse::InputItems, "GET"),
        Some((id, "cancel")) => (id, OfResponse::Cancel, "POST"),
        Some(_) => return None,
    };
    (!id.is_empty()).then(|| (Route::Response(percent_decode(id).into_owned(), of), allow))
}

/// Why something that OpenAI and Anthropic have beside their answers is not here.
fn not_here(below: &str) -> Option<&'static str> {
    let is = |name: &str| below.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if below.starts_with("/chat/completions/") {
        return Some("the gateway keeps no chat completions, whatever their `store` said; their provider may");
    }
    if is("/messages/batches") || is("/batches") {
        return Some("there are no batches, requests are answered at once");
    }
    match below {
        "/responses/compact" => Some("only OpenAI can compact a conversation for its own models"),
        "/responses/input_tokens" => Some("tokens are counted by POST /v1/messages/count_tokens"),
        _ if is("/conversations") => {
            Some("conversations are kept by OpenAI; here a request goes on from a response by its id")
        }
        _ if is("/files") || is("/uploads") || is("/vector_stores") || is("/containers") => {
            Some("files are kept by their provider; send their contents in the request")
        }
        _ if is("/assistants") || is("/threads") => Some("assistants are OpenAI's own; POST /v1/responses is there"),
        _ if is("/realtime") => Some("there are no live sessions"),
        _ if is("/fine_tuning") || is("/evals") => Some("ask the provider itself"),
        _ => None,
    }
}

/// What whoever sends traces of their own is told.
const NO_INGEST: &str = "The gateway takes no traces, metrics or logs: it records every request that passes through it by itself. Send the requests \
     through it, and set x-trace-id, traceparent or extra.trace_id to find them by your own trace";

/// What Anthropic's SDKs may be given as their base URL's path.
pub(super) const ANTHROPIC: &str = "/anthropic";

/// The format of a path's clients, which errors before and beside its route are written in too.
pub(super) fn dialect(path: &str) -> Client {
    let below = path.strip_prefix(ANTHROPIC).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let inner = path.strip_prefix("/v1").unwrap_or(path);
    let inner = inner.strip_prefix("/v1").unwrap_or(inner);
    let is_messages = inner.strip_prefix("/messages").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let is_responses = inner.strip_prefix("/responses").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if below_version(path).is_some() || Call::of(&percent_decode(path.trim_end_matches('/'))).is_some() {
        Client::Gemini
    } else if below || is_messages {
        Client::AnthropicMessages
    } else if is_responses {
        Client::OpenAiResponses
    } else if inner.trim_end_matches('/') == "/completions" {
        Client::OpenAiCompletions
    } else {
        Client::OpenAiChat
    }
}

/// A path as it may be repeated in a message.
fn short(path: &str) -> String {
    path.chars().take(200).collect()
}

/// Undoes percent-encoding, which SDKs apply to the slash in a model's id. What is not an escape stays.
pub(super) fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte =
            escape.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::gemini::client::call::Method as Asked;

    fn gemini(model: &str, method: Asked) -> Route {
        Route::Gemini(Call { model: model.to_owned(), method })
    }

    #[test]
    fn finds_every_route() {
        for (method, path, expected) in [
            (Method::POST, "/v1/chat/completions", Route::Chat),
            (Method::POST, "/v1/chat/completions/", Route::Chat),
            (Method::POST, "/v1/v1/chat/completions", Route::Chat),
            (Method::POST, "/chat/completions", Route::Chat),
            (Method::POST, "/v1/messages", Route::Messages),
            (Method::POST, "/anthropic/v1/messages/", Route::Messages),
            (Method::POST, "/anthropic/v1/messages/count_tokens", Route::CountTokens),
            (Method::POST, "/messages/count_tokens", Route::CountTokens),
            (Method::GET, "/anthropic/v1/models", Route::Models),
            (Method::POST, "/v1/responses", Route::Responses),
            (Method::POST, "/v1/v1/responses/", Route::Responses),
            (Method::POST, "/v1/completions", Route::Completions),
            (Method::POST, "/completions/", Route::Completions),
            (Method::GET, "/v1/responses/resp_1", Route::Response("resp_1".into(), OfResponse::Itself)),
            (Method::DELETE, "/v1/responses/resp_1", Route::Response("resp_1".into(), OfResponse::Itself)),
            (Method::GET, "/v1/responses/a%2Fb/input_items", Route::Response("a/b".into(), OfResponse::InputItems)),
            (Method::POST, "/responses/resp_1/cancel/", Route::Response("resp_1".into(), OfResponse::Cancel)),
            (Method::POST, "/v1beta/models/gemini-x:generateContent", gemini("gemini-x", Asked::Generate)),
            (Method::POST, "/v1/models/openai%2Fgpt-x:streamGenerateContent", gemini("openai/gpt-x", Asked::Stream)),
            (Method::POST, "/v1/v1beta/models/a/b:floor:countTokens", gemini("a/b:floor", Asked::Count)),
            (Method::GET, "/v1/models/x:floor", Route::Model("x:floor".into())),
            (Method::POST, "/v1/embeddings", Route::Embeddings),
            (Method::POST, "/v1/images/edits", Route::Relay(Endpoint::ImageEdits)),
            (Method::POST, "/audio/speech/", Route::Relay(Endpoint::Speech)),
            (Method::GET, "/v1/models", Route::Models),
            (Method::GET, "/v1/models/openai/gpt-x", Route::Model("openai/gpt-x".into())),
            (Method::GET, "/v1/models/openai%2Fgpt-x", Route::Model("openai/gpt-x".into())),
            (Method::GET, "/v1/models/50%25", Route::Model("50%".into())),
            (Method::GET, "/v1beta/models/", Route::Models),
            (Method::GET, "/v1/v1beta/models", Route::Models),
            (Method::GET, "/v1beta/models/openai/gpt-x:floor", Route::Model("openai/gpt-x:floor".into())),
            (Method::GET, "/", Route::Root),
            (Method::HEAD, "/livez", Route::Live),
            (Method::GET, "/readyz", Route::Ready),
            (Method::OPTIONS, "/v1/chat/completions", Route::Preflight),
        ] {
            assert_eq!(route(&method, path).unwrap(), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_path_says_who_speaks() {
        for path in
            ["/v1/messages", "/messages", "/v1/v1/messages", "/v1/messages/", "/v1/messages/batches", "/anthropic/x"]
        {
            assert_eq!(dialect(path), Client::AnthropicMessages, "{path}");
        }
        for path in ["/v1/completions", "/completions/", "/v1/v1/completions"] {
            assert_eq!(dialect(path), Client::OpenAiCompletions, "{path}");
        }
        for path in
            ["/v1beta/models/x:generateContent", "/v1/models/a/b:countTokens", "/v1beta/x", "/v1/v1alpha/models"]
        {
            assert_eq!(dialect(path), Client::Gemini, "{path}");
        }
        for path in ["/v1/chat/completions", "/v1/messages2", "/anthropics", "/", "/v1/models"] {
            assert_eq!(dialect(path), Client::OpenAiChat, "{path}");
        }
    }

    #[test]
    fn tells_a_wrong_path_from_a_wrong_method() {
        assert_eq!(route(&Method::GET, "/v1/engines").unwrap_err().status, 404);
        let wrong = route(&Method::GET, "/v1/chat/completions").unwrap_err();
        assert_eq!((wrong.status, wrong.allow), (405, Some("POST")));
        assert_eq!(route(&Method::GET, "/v1beta/models/x:generateContent").unwrap_err().status, 405);
        assert_eq!(route(&Method::POST, "/v1beta/models/x:predict").unwrap_err().status, 404);
        assert_eq!(route(&Method::GET, "/v1/responses/r/cancel").unwrap_err().allow, Some("POST"));
        assert_eq!(route(&Method::PUT, "/v1/responses/r").unwrap_err().allow, Some("GET, DELETE"));
    }

    #[test]
    fn what_is_not_here_is_said_to_be_elsewhere() {
        for (method, path, word) in [
            (Method::GET, "/v1/chat/completions/chatcmpl-1", "keeps no chat completions"),
            (Method::POST, "/v1/chat/completions/chatcmpl-1", "keeps no chat completions"),
            (Method::POST, "/v1/responses/compact", "compact"),
            (Method::POST, "/v1/responses/input_tokens", "count_tokens"),
            (Method::POST, "/v1/conversations", "conversations"),
            (Method::GET, "/v1/files/file-1/content", "contents in the request"),
            (Method::POST, "/v1/messages/batches", "batches"),
            (Method::POST, "/v1/batches", "batches"),
            (Method::GET, "/v1/threads/t/runs", "assistants"),
        ] {
            let error = route(&method, path).unwrap_err();
            assert_eq!((error.status, error.code.as_deref()), (404, Some("unknown_url")), "{path}");
            assert!(error.message.contains(word) && error.message.contains("is not here"), "{}", error.message);
        }
        for path in ["/v1/filesystem", "/v1/responses/r/else", "/v1/responses//cancel"] {
            assert!(route(&Method::GET, path).unwrap_err().message.starts_with("Unknown URL"), "{path}");
        }
    }
}
