//! Amazon Bedrock's Converse as a provider serves it.
//! Source: the API reference of Converse and ConverseStream (errors and event-stream framing included) and recordings of real
//! exchanges.

mod request;

pub(super) use request::read;

use super::answer::{Answer, Finish, fingerprint};
use super::http::Request;
use super::openai::halves;
use super::wire::{Complaint, Frame, Part, Reply, Route};
use serde_json::{Value, json};

/// The model and the operation of `/model/<model>/<operation>`.
pub(super) fn model_and_operation(path: &str) -> Option<(String, &str)> {
    let (model, operation) = path.strip_prefix("/model/")?.split_once('/')?;
    Some((unescaped(model), operation))
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) if byte == b'%' => {
                bytes.push(value);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn route(request: &Request) -> Result<Route, Complaint> {
    match (request.method.as_str(), model_and_operation(&request.path)) {
        ("POST", Some((_, "converse" | "converse-stream"))) => Ok(Route::Generate),
        (_, Some((_, "converse" | "converse-stream"))) => Err(Complaint::BadMethod),
        _ => Err(Complaint::NoSuchPath { path: request.path.clone() }),
    }
}

/// The API key, or the id of the key that signed.
pub(super) fn key(request: &Request) -> Option<&str> {
    let authorization = request.header("authorization")?;
    match authorization.strip_prefix("AWS4-HMAC-SHA256 Credential=") {
        Some(rest) if request.header("x-amz-date").is_some() => rest.split('/').next(),
        Some(_) => None,
        None => authorization.strip_prefix("Bearer "),
    }
}

fn stop_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::StopSequence(_) => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
    }
}

/// Converse counts what the cache gave and took beside the input.
fn usage(answer: &Answer) -> Value {
    let output = answer.visible_tokens + answer.reasoning.len();
    let mut usage = json!({
        "inputTokens": answer.prompt_tokens - answer.cached_tokens - answer.cache_write_tokens,
        "outputTokens": output,
        "totalTokens": answer.prompt_tokens + output
    });
    if answer.cached_tokens > 0 {
        usage["cacheReadInputTokens"] = json!(answer.cached_tokens);
        usage["cacheWriteInputTokens"] = json!(answer.cache_write_tokens);
    }
    usage
}

fn whole(answer: &Answer, content: Value) -> Value {
    json!({
        "metrics": { "latencyMs": 1 }, "output": { "message": { "content": content, "role": "assistant" } },
        "usage": usage(answer)
    })
}

pub(super) fn unary(answer: &Answer) -> Reply {
    let mut content = Vec::new();
    if !answer.reasoning.is_empty() {
        let text = answer.reasoning.concat();
        let signature = fingerprint(&text);
        content.push(json!({ "reasoningContent": { "reasoningText": { "text": text, "signature": signature } } }));
    }
    let Some(choice) = answer.choices.first() else { return hollow(answer) };
    if choice.calls.is_empty() {
        content.push(json!({ "text": choice.text.concat() }));
    }
    for call in &choice.calls {
        let id = format!("tooluse_{}", call.id);
        content.push(json!({ "toolUse": { "toolUseId": id, "name": call.name, "input": call.arguments } }));
    }
    let mut body = whole(answer, json!(content));
    body["stopReason"] = json!(stop_reason(&choice.finish));
    Reply::json(200, &body)
}

pub(super) fn hollow(answer: &Answer) -> Reply {
    Reply::json(200, &whole(answer, json!([])))
}

/// A stream in the making: numbers the blocks.
struct Stream {
    frames: Vec<Frame>,
    blocks: usize,
}

impl Stream {
    fn push(&mut self, part: Part, event: &'static str, mut data: Value) {
        // What Bedrock adds so that the length of an event says nothing about its text.
        data["p"] = json!("abcdefghij");
        self.frames.push(Frame { part, event: Some(event), data: data.to_string() });
    }

    /// One content block; only calls have a head.
    fn block(&mut self, start: Option<Value>, deltas: Vec<Value>) {
        let index = self.blocks;
        self.blocks += 1;
        if let Some(start) = start {
            self.push(Part::Output, "contentBlockStart", json!({ "contentBlockIndex": index, "start": start }));
        }
        for delta in deltas {
            self.push(Part::Output, "contentBlockDelta", json!({ "contentBlockIndex": index, "delta": delta }));
        }
        self.push(Part::Output, "contentBlockStop", json!({ "contentBlockIndex": index }));
    }
}

pub(super) fn frames(answer: &Answer) -> Vec<Frame> {
    let mut stream = Stream { frames: Vec::new(), blocks: 0 };
    stream.push(Part::Prelude, "messageStart", json!({ "role": "assistant" }));
    if !answer.reasoning.is_empty() {
        let thought = |piece: Value| json!({ "reasoningContent": piece });
        let mut deltas: Vec<_> = answer.reasoning.iter().map(|piece| thought(json!({ "text": piece }))).collect();
        deltas.push(thought(json!({ "signature": fingerprint(&answer.reasoning.concat()) })));
        stream.block(None, deltas);
    }
    let Some(choice) = answer.choices.first() else { return stream.frames };
    if choice.calls.is_empty() {
        stream.block(None, choice.text.iter().map(|piece| json!({ "text": piece })).collect());
    }
    for call in &choice.calls {
        let arguments = call.arguments.to_string();
        let pieces = if arguments == "{}" { Vec::new() } else { halves(&arguments).to_vec() };
        let deltas = pieces.into_iter().map(|piece| json!({ "toolUse": { "input": piece } })).collect();
        let head = json!({ "toolUseId": format!("tooluse_{}", call.id), "name": call.name });
        stream.block(Some(json!({ "toolUse": head })), deltas);
    }
    stream.push(Part::Finish, "messageStop", json!({ "stopReason": stop_reason(&choice.finish) }));
    stream.push(Part::Finish, "metadata", json!({ "metrics": { "latencyMs": 1 }, "usage": usage(answer) }));
    stream.frames
}

/// A frame as a message of the event stream.
pub(super) fn message(frame: &Frame) -> Vec<u8> {
    let name = frame.event.unwrap_or_default();
    let exception = name.ends_with("Exception");
    let kind = if exception { ("exception", ":exception-type") } else { ("event", ":event-type") };
    let mut headers = Vec::new();
    for (key, value) in [(kind.1, name), (":content-type", "application/json"), (":message-type", kind.0)] {
        headers.push(u8::try_from(key.len()).unwrap_or_default());
        headers.extend_from_slice(key.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&u16::try_from(value.len()).unwrap_or_default().to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let length = |length: usize| u32::try_from(length).unwrap_or_default().to_be_bytes();
    let mut bytes = length(16 + headers.len() + frame.data.len()).to_vec();
    bytes.extend_from_slice(&length(headers.len()));
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes.extend_from_slice(&headers);
    bytes.extend_from_slice(frame.data.as_bytes());
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The exception that ends a stream.
pub(super) fn error_frame() -> Frame {
    let data = json!({ "message": "The system encountered an unexpected error during processing." }).to_string();
    Frame { part: Part::Output, event: Some("internalServerException"), data }
}

pub(super) fn complain(complaint: &Complaint) -> Reply {
    let invalid = "ValidationException";
    let (status, kind, message) = match complaint {
        Complaint::RateLimited { .. } => {
            (429, "ThrottlingException", "Too many requests, please wait before trying again.".to_owned())
        }
        Complaint::Quota => (
            400,
            "ServiceQuotaExceededException",
            "Your request exceeds the service quota for your account.".to_owned(),
        ),
        Complaint::PaymentRequired => (402, "AccessDeniedException", "Your account is not paid for.".to_owned()),
        Complaint::NoKey => (403, "MissingAuthenticationToken", "Missing Authentication Token".to_owned()),
        Complaint::BadKey { shown } if shown.contains('*') => {
            (403, "UnrecognizedClientException", "The security token included in the request is invalid.".to_owned())
        }
        Complaint::BadKey { shown } => {
            (403, "UnrecognizedClientException", format!("The security token {shown} is invalid."))
        }
        Complaint::Forbidden => (403, "AccessDeniedException", "You are not authorized to do this.".to_owned()),
        Complaint::ModelNotFound { model } => {
            (404, "ResourceNotFoundException", format!("Could not resolve the foundation model: {model}"))
        }
        Complaint::NoSuchPath { .. } => (404, "UnknownOperationException", String::new()),
        Complaint::BadMethod => (405, "UnknownOperationException", String::new()),
        Complaint::BadRequest { message, param } => {
            let at = param.as_ref().map(|param| format!("{param}: ")).unwrap_or_default();
            (400, invalid, format!("{at}{message}"))
        }
        Complaint::ContextLength => (400, invalid, "Input is too long for requested model.".to_owned()),
        Complaint::ServerError | Complaint::BadGateway => {
            (500, "InternalServerException", "The system encountered an unexpected error.".to_owned())
        }
        Complaint::Unavailable | Complaint::Overloaded => {
            (503, "ServiceUnavailableException", "Bedrock is unable to process your request.".to_owned())
        }
    };
    let mut reply = Reply::json(status, &json!({ "message": message }));
    reply.headers.push(("x-amzn-errortype", format!("{kind}:http://internal.amazon.com/coral/")));
    if let Complaint::RateLimited { retry_after_s: Some(seconds) } = complaint {
        reply.headers.push(("retry-after", seconds.to_string()));
    }
    reply
}
