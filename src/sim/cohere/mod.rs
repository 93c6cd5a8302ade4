//! Cohere's chat, second version, as a provider serves it.
//! Source: the API reference of `POST /v2/chat` (streaming and errors included) and recordings of real exchanges.

mod request;

pub(super) use request::read;

use super::answer::{Answer, Call, Finish};
use super::http::Request;
use super::openai::halves;
use super::wire::{Complaint, Frame, Part, Reply, Route};
use serde_json::{Value, json};

pub(super) fn route(request: &Request) -> Result<Route, Complaint> {
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/v2/chat") => Ok(Route::Generate),
        ("GET", "/v1/models") => Ok(Route::ListModels),
        ("GET", path) if path.starts_with("/v1/models/") => Ok(Route::Model(path["/v1/models/".len()..].to_owned())),
        (_, "/v2/chat" | "/v1/models") => Err(Complaint::BadMethod),
        (_, path) => Err(Complaint::NoSuchPath { path: path.to_owned() }),
    }
}

fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop => "COMPLETE",
        Finish::StopSequence(_) => "STOP_SEQUENCE",
        Finish::Length => "MAX_TOKENS",
        Finish::ToolCalls => "TOOL_CALL",
    }
}

/// Tokens are what was processed; what Cohere itself adds to a prompt is not billed.
fn usage(answer: &Answer) -> Value {
    let output = answer.visible_tokens + answer.reasoning.len();
    json!({
        "billed_units": { "input_tokens": answer.prompt_tokens - 8, "output_tokens": output },
        "tokens": { "input_tokens": answer.prompt_tokens, "output_tokens": output },
        "cached_tokens": answer.cached_tokens
    })
}

fn id(answer: &Answer) -> String {
    format!("00000000-0000-4000-8000-{:012}", answer.number)
}

/// What a model says that it will do, before it calls.
fn plan(calls: &[Call]) -> String {
    format!("I will call {}.", calls.iter().map(|call| call.name.as_str()).collect::<Vec<_>>().join(" and "))
}

pub(super) fn unary(answer: &Answer) -> Reply {
    let Some(choice) = answer.choices.first() else { return hollow(answer) };
    let mut message = json!({ "role": "assistant" });
    let mut content = Vec::new();
    if !answer.reasoning.is_empty() {
        content.push(json!({ "type": "thinking", "thinking": answer.reasoning.concat() }));
    }
    if choice.calls.is_empty() {
        content.push(json!({ "type": "text", "text": choice.text.concat() }));
    } else {
        let call = |call: &Call| {
            let function = json!({ "name": call.name, "arguments": call.arguments.to_string() });
            json!({ "id": format!("{}_{}", call.name, call.id), "type": "function", "function": function })
        };
        message["tool_calls"] = choice.calls.iter().map(call).collect();
        message["tool_plan"] = json!(plan(&choice.calls));
    }
    if !content.is_empty() {
        message["content"] = json!(content);
    }
    let reason = finish_reason(&choice.finish);
    Reply::json(200, &json!({ "id": id(answer), "message": message, "finish_reason": reason, "usage": usage(answer) }))
}

pub(super) fn hollow(answer: &Answer) -> Reply {
    Reply::json(200, &json!({ "id": id(answer), "message": { "role": "assistant" } }))
}

/// A stream in the making: numbers the contents and frames all events.
struct Stream {
    frames: Vec<Frame>,
    contents: usize,
}

impl Stream {
    fn push(&mut self, part: Part, event: &'static str, mut data: Value) {
        data["type"] = json!(event);
        self.frames.push(Frame { part, event: Some(event), data: data.to_string() });
    }

    fn message(&mut self, part: Part, event: &'static str, index: usize, message: Value) {
        self.push(part, event, json!({ "index": index, "delta": { "message": message } }));
    }

    /// One content. The empty start of the first one is no output yet.
    fn content(&mut self, kind: &str, pieces: &[String]) {
        let index = self.contents;
        self.contents += 1;
        let part = if index == 0 { Part::Prelude } else { Part::Output };
        self.message(part, "content-start", index, json!({ "content": { "type": kind, kind: "" } }));
        for piece in pieces {
            self.message(Part::Output, "content-delta", index, json!({ "content": { kind: piece } }));
        }
        self.push(Part::Output, "content-end", json!({ "index": index }));
    }

    fn call(&mut self, index: usize, call: &Call) {
        let start = json!({
            "id": format!("{}_{}", call.name, call.id), "type": "function",
            "function": { "name": call.name, "arguments": "" }
        });
        self.message(Part::Output, "tool-call-start", index, json!({ "tool_calls": start }));
        for piece in halves(&call.arguments.to_string()) {
            let more = json!({ "tool_calls": { "function": { "arguments": piece } } });
            self.message(Part::Output, "tool-call-delta", index, more);
        }
        self.push(Part::Output, "tool-call-end", json!({ "index": index }));
    }
}

pub(super) fn frames(answer: &Answer) -> Vec<Frame> {
    let mut stream = Stream { frames: Vec::new(), contents: 0 };
    let start = json!({ "role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": [] });
    stream.push(Part::Prelude, "message-start", json!({ "id": id(answer), "delta": { "message": start } }));
    let Some(choice) = answer.choices.first() else { return stream.frames };
    if !answer.reasoning.is_empty() {
        stream.content("thinking", &answer.reasoning);
    }
    if choice.calls.is_empty() {
        stream.content("text", &choice.text);
    } else {
        for piece in halves(&plan(&choice.calls)) {
            let delta = json!({ "delta": { "message": { "tool_plan": piece } } });
            stream.push(Part::Output, "tool-plan-delta", delta);
        }
    }
    for (index, call) in choice.calls.iter().enumerate() {
        stream.call(index, call);
    }
    let delta = json!({ "finish_reason": finish_reason(&choice.finish), "usage": usage(answer) });
    stream.push(Part::Finish, "message-end", json!({ "delta": delta }));
    stream.frames.push(Frame { part: Part::Terminator, event: None, data: "[DONE]".to_owned() });
    stream.frames
}

/// The failure of a stream that began: the end of its message says so.
pub(super) fn failure() -> Frame {
    let delta = json!({ "finish_reason": "ERROR", "usage": {}, "error": "an internal error occurred" });
    let data = json!({ "type": "message-end", "delta": delta }).to_string();
    Frame { part: Part::Output, event: Some("message-end"), data }
}

pub(super) fn complain(complaint: &Complaint) -> Reply {
    let (status, message) = match complaint {
        Complaint::RateLimited { .. } => {
            (429, "You are past the per minute request limit, please wait and try again later.".to_owned())
        }
        Complaint::Quota => {
            let message = "You are using a Trial key, which is limited to 1000 API calls / month. You can upgrade to a \
                Production key at any time.";
            (429, message.to_owned())
        }
        Complaint::PaymentRequired => (402, "Please add or update your payment method to continue".to_owned()),
        Complaint::NoKey => (401, "no api key supplied".to_owned()),
        Complaint::BadKey { shown } => (401, format!("invalid api token: {shown}")),
        Complaint::Forbidden => (403, "this key has no access to this endpoint".to_owned()),
        Complaint::ModelNotFound { model } => {
            (404, format!("model '{model}' not found, make sure the correct model ID was used"))
        }
        Complaint::NoSuchPath { path } => (404, format!("no such path: {path}")),
        Complaint::BadMethod => (405, "method not allowed".to_owned()),
        Complaint::BadRequest { message, param } => {
            let at = param.as_ref().map(|param| format!("{param}: ")).unwrap_or_default();
            (400, format!("invalid request: {at}{message}"))
        }
        Complaint::ContextLength => {
            (400, "too many tokens: size limit exceeded by 808 tokens. Try using shorter or fewer inputs.".to_owned())
        }
        Complaint::ServerError | Complaint::BadGateway => (500, "internal server error".to_owned()),
        Complaint::Unavailable => (503, "service unavailable".to_owned()),
        Complaint::Overloaded => (529, "the model is overloaded, please try again later".to_owned()),
    };
    let mut body = json!({ "id": "00000000-0000-4000-8000-000000000000", "message": message });
    if let Complaint::ContextLength = complaint {
        body["error_type"] = json!("TOO_MANY_TOKENS");
    }
    let mut reply = Reply::json(status, &body);
    if let Complaint::RateLimited { retry_after_s: Some(seconds) } = complaint {
        reply.headers.push(("retry-after", seconds.to_string()));
    }
    reply
}

pub(super) fn model(id: &str) -> Value {
    json!({ "name": id, "endpoints": ["chat"], "finetuned": false, "context_length": 128_000 })
}

pub(super) fn list_models(models: &[String]) -> Reply {
    Reply::json(200, &json!({ "models": models.iter().map(|id| model(id)).collect::<Vec<_>>() }))
}
