//! What the dialects have in common: complaints, frames, and which module speaks which.

use super::answer::{Answer, Question};
use super::http::Request;
use super::{anthropic, bedrock, cohere, gemini, ollama, openai, responses, vectors, works};
use serde_json::{Value, json};
use works::Work;

/// The dialect that a simulated provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SimDialect {
    /// OpenAI's chat completions.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Google's `generateContent`.
    Gemini,
    /// Cohere's chat, second version.
    Cohere,
    /// Ollama's own chat.
    Ollama,
    /// Amazon Bedrock's Converse.
    Bedrock,
}

/// What a provider has against a request, whatever its words for it are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Complaint {
    RateLimited {
        retry_after_s: Option<u32>,
    },
    Quota,
    PaymentRequired,
    NoKey,
    /// With as much of the key as the provider repeats.
    BadKey {
        shown: String,
    },
    Forbidden,
    ModelNotFound {
        model: String,
    },
    NoSuchPath {
        path: String,
    },
    BadMethod,
    BadRequest {
        message: String,
        param: Option<String>,
    },
    ContextLength,
    ServerError,
    BadGateway,
    Unavailable,
    Overloaded,
}

impl Complaint {
    /// The request is wrong, in the provider's words.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::BadRequest { message: message.into(), param: None }
    }

    /// The same, naming a field.
    pub fn bad_field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::BadRequest { message: message.into(), param: Some(param.into()) }
    }
}

/// An answer that is not streamed, errors included.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        Self { status, content_type: "application/json", headers: Vec::new(), body: body.to_string().into_bytes() }
    }

    /// JSON over several lines, as OpenAI and Google write it.
    pub fn pretty(status: u16, body: &Value) -> Self {
        let text = format!("{body:#}\n");
        Self { status, content_type: "application/json; charset=utf-8", headers: Vec::new(), body: text.into_bytes() }
    }

    /// A page, as a proxy in front of a provider sends it.
    pub fn html(status: u16, title: &str) -> Self {
        let body =
            format!("<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n");
        Self { status, content_type: "text/html; charset=UTF-8", headers: Vec::new(), body: body.into_bytes() }
    }
}

/// Where in a stream a frame stands. A stream has them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Before the first output.
    Prelude,
    /// Text, reasoning, tool calls.
    Output,
    /// The finish reason, and usage after it.
    Finish,
    /// What marks the end of the stream and says nothing.
    Terminator,
}

/// One event of a stream.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub part: Part,
    /// The event's name, where the dialect has any.
    pub event: Option<&'static str>,
    pub data: String,
}

impl Frame {
    /// The frame as a server-sent event.
    pub fn to_sse(&self, line_end: &str) -> Vec<u8> {
        let event = self.event.map(|name| format!("event: {name}{line_end}")).unwrap_or_default();
        format!("{event}data: {}{line_end}{line_end}", self.data).into_bytes()
    }
}

/// What the path of a request asks for.
pub(super) enum Route {
    Generate,
    /// The tokens of a request, without an answer to it.
    CountTokens,
    Embed,
    Work(Work),
    ListModels,
    Model(String),
    /// A response that is made in the background.
    Response(String, responses::Asked),
}

impl SimDialect {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Cohere, Self::Ollama, Self::Bedrock];

    /// Those whose streams are text: server-sent events or lines.
    pub const TEXTUAL: [Self; 5] = [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Cohere, Self::Ollama];

    /// The provider's id in the gateway.
    pub fn provider_id(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "google",
            Self::Cohere => "cohere",
            Self::Ollama => "ollama",
            Self::Bedrock => "bedrock",
        }
    }

    /// A model that everybody knows of this provider, for examples.
    pub fn example_model(self) -> &'static str {
        match self {
            Self::OpenAi => "gpt-4o",
            Self::Anthropic => "claude-sonnet-4-5",
            Self::Gemini => "gemini-2.5-flash",
            Self::Cohere => "command-a-03-2025",
            Self::Ollama => "llama3.2",
            Self::Bedrock => "us.amazon.nova-lite-v1:0",
        }
    }

    /// What follows the address in the base URL that the provider's own SDK takes.
    pub(super) fn base_path(self) -> &'static str {
        match self {
            Self::OpenAi => "/v1",
            Self::Anthropic | Self::Gemini | Self::Cohere | Self::Ollama | Self::Bedrock => "",
        }
    }

    pub(super) fn route(self, request: &Request) -> Result<Route, Complaint> {
        if vectors::is_asked(self, &request.path) {
            return if request.method == "POST" { Ok(Route::Embed) } else { Err(Complaint::BadMethod) };
        }
        if let Some(work) = works::asked(self, &request.path) {
            return if request.method == "POST" { Ok(Route::Work(work)) } else { Err(Complaint::BadMethod) };
        }
        match self {
            Self::OpenAi => openai::route(request),
            Self::Anthropic => anthropic::route(request),
            Self::Gemini => gemini::route(request),
            Self::Cohere => cohere::route(request),
            Self::Ollama => ollama::route(request),
            Self::Bedrock => bedrock::route(request),
        }
    }

    /// The key of a request, where the dialect has it.
    pub(super) fn key(self, request: &Request) -> Option<&str> {
        let key = match self {
            Self::OpenAi | Self::Cohere | Self::Ollama => {
                request.header("authorization").and_then(|value| value.strip_prefix("Bearer "))
            }
            Self::Anthropic => request.header("x-api-key"),
            Self::Gemini => request.header("x-goog-api-key"),
            Self::Bedrock => bedrock::key(request),
        };
        key.filter(|key| !key.is_empty())
    }

    /// The model that a request names, also when the rest of it is wrong.
    pub(super) fn model(self, request: &Request) -> Option<String> {
        match self {
            Self::Gemini => gemini::model_and_method(&request.path).map(|(model, _)| model.to_owned()),
            Self::Bedrock => bedrock::model_and_operation(&request.path).map(|(model, _)| model),
            Self::OpenAi | Self::Anthropic | Self::Cohere | Self::Ollama => works::model(request),
        }
    }

    /// Understands a request, as strictly as the provider does.
    pub(super) fn read(self, request: &Request) -> Result<Question, Complaint> {
        match self {
            Self::OpenAi => openai::read(request),
            Self::Anthropic => anthropic::read(request),
            Self::Gemini => gemini::read(request),
            Self::Cohere => cohere::read(request),
            Self::Ollama => ollama::read(request),
            Self::Bedrock => bedrock::read(request),
        }
    }

    pub(super) fn unary(self, answer: &Answer) -> Reply {
        match self {
            Self::OpenAi => openai::unary(answer),
            Self::Anthropic => anthropic::unary(answer),
            Self::Gemini => gemini::unary(answer),
            Self::Cohere => cohere::unary(answer),
            Self::Ollama => ollama::unary(answer),
            Self::Bedrock => bedrock::unary(answer),
        }
    }

    /// An answer with neither content nor finish.
    pub(super) fn hollow(self, answer: &Answer) -> Reply {
        match self {
            Self::OpenAi => openai::hollow(answer),
            Self::Anthropic => anthropic::hollow(answer),
            Self::Gemini => gemini::hollow(answer),
            Self::Cohere => cohere::hollow(answer),
            Self::Ollama => ollama::hollow(answer),
            Self::Bedrock => bedrock::hollow(answer),
        }
    }

    pub(super) fn frames(self, answer: &Answer, question: &Question) -> Vec<Frame> {
        match self {
            Self::OpenAi => openai::frames(answer, question.include_usage),
            Self::Anthropic => anthropic::frames(answer),
            Self::Gemini => gemini::frames(answer),
            Self::Cohere => cohere::frames(answer),
            Self::Ollama => ollama::frames(answer),
            Self::Bedrock => bedrock::frames(answer),
        }
    }

    pub(super) fn complain(self, complaint: &Complaint) -> Reply {
        match (self, complaint) {
            (_, Complaint::BadGateway) => Reply::html(502, "502 Bad Gateway"),
            (Self::OpenAi, _) => openai::complain(complaint),
            (Self::Anthropic, _) => anthropic::complain(complaint),
            (Self::Gemini, _) => gemini::complain(complaint),
            (Self::Cohere, _) => cohere::complain(complaint),
            (Self::Ollama, _) => ollama::complain(complaint),
            (Self::Bedrock, _) => bedrock::complain(complaint),
        }
    }

    /// An error as an event of a stream that began with 200.
    pub(super) fn error_frame(self) -> Frame {
        let (event, body) = match self {
            Self::OpenAi => (None, openai::complain(&Complaint::ServerError).body),
            Self::Anthropic => (Some("error"), anthropic::complain(&Complaint::Overloaded).body),
            Self::Gemini => (None, gemini::complain(&Complaint::Unavailable).body),
            Self::Cohere => return cohere::failure(),
            Self::Ollama => (None, ollama::complain(&Complaint::ServerError).body),
            Self::Bedrock => return bedrock::error_frame(),
        };
        let data = serde_json::from_slice::<Value>(&body).map(|value| value.to_string()).unwrap_or_default();
        Frame { part: Part::Output, event, data }
    }

    /// A number of tokens.
    pub(super) fn count(self, tokens: usize) -> Reply {
        match self {
            Self::OpenAi | Self::Anthropic => Reply::json(200, &json!({ "input_tokens": tokens })),
            Self::Gemini => Reply::pretty(200, &json!({ "totalTokens": tokens })),
            Self::Cohere | Self::Ollama | Self::Bedrock => {
                self.complain(&Complaint::NoSuchPath { path: String::new() })
            }
        }
    }

    pub(super) fn list_models(self, models: &[String]) -> Reply {
        match self {
            Self::OpenAi => openai::list_models(models),
            Self::Anthropic => anthropic::list_models(models),
            Self::Gemini => gemini::list_models(models),
            Self::Cohere => cohere::list_models(models),
            Self::Ollama => ollama::list_models(models),
            Self::Bedrock => self.complain(&Complaint::NoSuchPath { path: String::new() }),
        }
    }

    pub(super) fn one_model(self, model: &str) -> Reply {
        match self {
            Self::OpenAi => Reply::pretty(200, &openai::model(model)),
            Self::Anthropic => Reply::json(200, &anthropic::model(model)),
            Self::Gemini => Reply::pretty(200, &gemini::model(model)),
            Self::Cohere => Reply::json(200, &cohere::model(model)),
            Self::Ollama => Reply::json(200, &ollama::model(model)),
            Self::Bedrock => self.complain(&Complaint::NoSuchPath { path: model.to_owned() }),
        }
    }

    /// What its `GET /models` lists unless a test says otherwise.
    pub(super) fn default_models(self) -> Vec<String> {
        let models: &[&str] = match self {
            Self::OpenAi => &["gpt-4o", "gpt-4o-mini", "sim-ok"],
            Self::Anthropic => &["claude-sonnet-4-5", "claude-haiku-4-5", "sim-ok"],
            Self::Gemini => &["gemini-2.5-flash", "gemini-2.5-pro", "sim-ok"],
            Self::Cohere => &["command-a-03-2025", "command-r7b-12-2024", "sim-ok"],
            Self::Ollama => &["llama3.2", "qwen3", "sim-ok"],
            Self::Bedrock => &["us.amazon.nova-lite-v1:0", "sim-ok"],
        };
        models.iter().map(|&model| model.to_owned()).collect()
    }

    /// A frame as it is sent.
    pub(super) fn frame_bytes(self, frame: &Frame, line_end: &str) -> Vec<u8> {
        match self {
            Self::OpenAi | Self::Anthropic | Self::Gemini | Self::Cohere => frame.to_sse(line_end),
            Self::Ollama => format!("{}{line_end}", frame.data).into_bytes(),
            Self::Bedrock => bedrock::message(frame),
        }
    }

    /// The content type of a streamed answer.
    pub(super) fn stream_type(self, as_array: bool) -> &'static str {
        match self {
            Self::Gemini if as_array => "application/json; charset=UTF-8",
            Self::Gemini | Self::Cohere => "text/event-stream",
            Self::Ollama => "application/x-ndjson",
            Self::Bedrock => "application/vnd.amazon.eventstream",
            Self::OpenAi | Self::Anthropic => "text/event-stream; charset=utf-8",
        }
    }

    /// The line end of its events: Google's is CR LF.
    pub(super) fn line_end(self) -> &'static str {
        match self {
            Self::Gemini => "\r\n",
            Self::OpenAi | Self::Anthropic | Self::Cohere | Self::Ollama | Self::Bedrock => "\n",
        }
    }

    /// Headers that come with every answer of it.
    pub(super) fn usual_headers(self, number: u64) -> Vec<(&'static str, String)> {
        match self {
            Self::OpenAi => vec![
                ("x-request-id", format!("req_sim{number}")),
                ("openai-processing-ms", "1".to_owned()),
                ("x-ratelimit-limit-requests", "10000".to_owned()),
                ("x-ratelimit-remaining-requests", "9999".to_owned()),
                ("x-ratelimit-reset-requests", "6ms".to_owned()),
            ],
            Self::Anthropic => vec![
                ("request-id", format!("req_sim{number}")),
                ("anthropic-ratelimit-requests-limit", "4000".to_owned()),
                ("anthropic-ratelimit-requests-remaining", "3999".to_owned()),
            ],
            Self::Cohere => vec![("num-chars", "1".to_owned()), ("x-envoy-upstream-service-time", "1".to_owned())],
            Self::Ollama => Vec::new(),
            Self::Gemini => {
                vec![("server-timing", "gfet4t7; dur=1".to_owned()), ("vary", "Origin, X-Origin, Referer".to_owned())]
            }
            Self::Bedrock => vec![("x-amzn-requestid", format!("sim-{number}"))],
        }
    }
}

/// The body of a request as a JSON object.
pub(super) fn object(request: &Request) -> Option<Value> {
    serde_json::from_slice::<Value>(&request.body).ok().filter(Value::is_object)
}

/// The items of an array, none if it is something else.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
