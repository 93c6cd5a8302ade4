//! Google's `generateContent` as a provider serves it.
//! Source: the API reference of the Gemini API (`v1beta`) and recordings of real exchanges.

mod request;

pub(super) use request::read;

use super::answer::{Answer, Choice, Finish, fingerprint};
use super::http::Request;
use super::wire::{Complaint, Frame, Part, Reply, Route};
use serde_json::{Value, json};

/// The model and the method of `/v1beta/models/<model>:<method>`.
pub(super) fn model_and_method(path: &str) -> Option<(&str, &str)> {
    let rest =
        ["/v1beta/models/", "/v1/models/", "/v1alpha/models/"].iter().find_map(|prefix| path.strip_prefix(prefix))?;
    rest.rsplit_once(':')
}

pub(super) fn route(request: &Request) -> Result<Route, Complaint> {
    let path = request.path.as_str();
    if request.query.split('&').any(|pair| pair.starts_with("key=")) {
        return Err(Complaint::bad("This simulated provider takes no key in a URL, where it would be logged."));
    }
    match (request.method.as_str(), model_and_method(path)) {
        ("POST", Some((_, "generateContent" | "streamGenerateContent"))) => Ok(Route::Generate),
        ("POST", Some((_, "countTokens"))) => Ok(Route::CountTokens),
        (_, Some((_, "generateContent" | "streamGenerateContent"))) => Err(Complaint::BadMethod),
        ("GET", None) if path == "/v1beta/models" => Ok(Route::ListModels),
        ("GET", None) if path.starts_with("/v1beta/models/") => {
            Ok(Route::Model(path["/v1beta/models/".len()..].to_owned()))
        }
        _ => Err(Complaint::NoSuchPath { path: path.to_owned() }),
    }
}

fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence(_) | Finish::ToolCalls => "STOP",
        Finish::Length => "MAX_TOKENS",
    }
}

/// Gemini counts thoughts beside the candidates, and what the cache gave within the prompt.
fn usage(answer: &Answer, candidates: usize, thoughts: usize) -> Value {
    let mut usage = json!({
        "promptTokenCount": answer.prompt_tokens,
        "candidatesTokenCount": candidates,
        "totalTokenCount": answer.prompt_tokens + candidates + thoughts,
        "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": answer.prompt_tokens }]
    });
    if thoughts > 0 {
        usage["thoughtsTokenCount"] = json!(thoughts);
    }
    usage
}

fn response(answer: &Answer, candidates: Vec<Value>, usage: Value) -> Value {
    json!({
        "candidates": candidates, "usageMetadata": usage, "modelVersion": answer.model,
        "responseId": format!("sim{}", answer.number)
    })
}

/// The calls of a choice; the first one carries the signature of the thoughts that led to it.
fn call_parts(answer: &Answer, choice: &Choice) -> Vec<Value> {
    let signed = !answer.reasoning.is_empty() || request::wants_signatures(&answer.model);
    let part = |(index, call): (usize, &super::answer::Call)| {
        let mut part = json!({ "functionCall": { "name": call.name, "args": call.arguments } });
        if index == 0 && signed {
            part["thoughtSignature"] = json!(fingerprint(&call.name));
        }
        part
    };
    choice.calls.iter().enumerate().map(part).collect()
}

/// The end of a text that was thought about carries a signature on a part without text.
fn signature_part(answer: &Answer) -> Option<Value> {
    (!answer.reasoning.is_empty())
        .then(|| json!({ "text": "", "thoughtSignature": fingerprint(&answer.reasoning.concat()) }))
}

pub(super) fn unary(answer: &Answer) -> Reply {
    let candidate = |(index, choice): (usize, &Choice)| {
        let mut parts = Vec::new();
        if !answer.reasoning.is_empty() {
            parts.push(json!({ "text": answer.reasoning.concat(), "thought": true }));
        }
        if choice.calls.is_empty() {
            let mut part = json!({ "text": choice.text.concat() });
            if let Some(signature) = signature_part(answer) {
                part["thoughtSignature"] = signature["thoughtSignature"].clone();
            }
            parts.push(part);
        }
        parts.extend(call_parts(answer, choice));
        json!({ "content": { "parts": parts, "role": "model" }, "finishReason": finish_reason(&choice.finish), "index": index })
    };
    let candidates = answer.choices.iter().enumerate().map(candidate).collect();
    Reply::pretty(200, &response(answer, candidates, usage(answer, answer.visible_tokens, answer.reasoning.len())))
}

pub(super) fn hollow(answer: &Answer) -> Reply {
    let candidate = json!({ "content": { "role": "model" }, "index": 0 });
    Reply::pretty(200, &response(answer, vec![candidate], usage(answer, 0, 0)))
}

pub(super) fn frames(answer: &Answer) -> Vec<Frame> {
    let thoughts = answer.reasoning.len();
    let mut so_far = 0;
    let mut frames = Vec::new();
    let mut push = |part: Part, candidate: Value, tokens: usize| {
        so_far += tokens;
        let data = response(answer, vec![candidate], usage(answer, so_far, thoughts)).to_string();
        frames.push(Frame { part, event: None, data });
    };
    let candidate =
        |index: usize, parts: Vec<Value>| json!({ "content": { "parts": parts, "role": "model" }, "index": index });
    push(Part::Prelude, json!({ "content": { "role": "model" }, "index": 0 }), 0);
    for (index, choice) in answer.choices.iter().enumerate() {
        for piece in &answer.reasoning {
            push(Part::Output, candidate(index, vec![json!({ "text": piece, "thought": true })]), 0);
        }
        for piece in &choice.text {
            push(Part::Output, candidate(index, vec![json!({ "text": piece })]), 1);
        }
        // Calls come whole: Gemini does not cut arguments.
        for part in call_parts(answer, choice) {
            push(Part::Output, candidate(index, vec![part]), 7);
        }
    }
    for (index, choice) in answer.choices.iter().enumerate() {
        // Where something is called, the call is signed.
        let signature = signature_part(answer).filter(|_| choice.calls.is_empty());
        let mut last = candidate(index, vec![signature.unwrap_or_else(|| json!({ "text": "" }))]);
        last["finishReason"] = json!(finish_reason(&choice.finish));
        push(Part::Finish, last, 0);
    }
    frames
}

pub(super) fn complain(complaint: &Complaint) -> Reply {
    let (code, status, message) = match complaint {
        Complaint::RateLimited { .. } => {
            (429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later.".to_owned())
        }
        Complaint::Quota => {
            let message = "You exceeded your current quota, please check your plan and billing details.";
            (429, "RESOURCE_EXHAUSTED", message.to_owned())
        }
        Complaint::PaymentRequired => {
            (402, "FAILED_PRECONDITION", "Billing is not enabled for this project.".to_owned())
        }
        Complaint::NoKey => {
            let message =
                "Method doesn't allow unregistered callers. Please use API Key or other form of API consumer identity.";
            (403, "PERMISSION_DENIED", message.to_owned())
        }
        Complaint::BadKey { shown } if shown.contains('*') => {
            (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.".to_owned())
        }
        Complaint::BadKey { shown } => {
            (400, "INVALID_ARGUMENT", format!("API key not valid: {shown}. Please pass a valid API key."))
        }
        Complaint::Forbidden => (403, "PERMISSION_DENIED", "Your project has been denied access.".to_owned()),
        Complaint::ModelNotFound { model } => {
            let message =
                format!("models/{model} is not found for API version v1beta, or is not supported for generateContent.");
            (404, "NOT_FOUND", message)
        }
        Complaint::NoSuchPath { path } => {
            (404, "NOT_FOUND", format!("The requested URL {path} was not found on this server."))
        }
        Complaint::BadMethod => (405, "INVALID_ARGUMENT", "The method is not allowed.".to_owned()),
        Complaint::BadRequest { message, .. } => (400, "INVALID_ARGUMENT", message.clone()),
        Complaint::ContextLength => {
            let message = "The input token count (9000) exceeds the maximum number of tokens allowed (8192).";
            (400, "INVALID_ARGUMENT", message.to_owned())
        }
        Complaint::ServerError | Complaint::BadGateway => {
            (500, "INTERNAL", "An internal error has occurred.".to_owned())
        }
        Complaint::Unavailable => (503, "UNAVAILABLE", "The service is currently unavailable.".to_owned()),
        Complaint::Overloaded => (529, "UNAVAILABLE", "The model is overloaded. Please try again later.".to_owned()),
    };
    let mut error = json!({ "code": code, "message": message, "status": status });
    match complaint {
        Complaint::BadKey { .. } => {
            error["details"] = json!([{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com",
                "metadata": { "service": "generativelanguage.googleapis.com" }
            }]);
        }
        // Google says when to come back in the body, not in a header.
        Complaint::RateLimited { retry_after_s: Some(seconds) } => {
            let retry =
                json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s") });
            error["details"] = json!([retry]);
        }
        _ => {}
    }
    Reply::pretty(code, &json!({ "error": error }))
}

pub(super) fn model(id: &str) -> Value {
    json!({
        "name": format!("models/{id}"), "version": "001", "displayName": id, "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536, "supportedGenerationMethods": ["generateContent", "countTokens"]
    })
}

pub(super) fn list_models(models: &[String]) -> Reply {
    Reply::pretty(200, &json!({ "models": models.iter().map(|id| model(id)).collect::<Vec<_>>() }))
}
