//! Tests of the whole format. The fixtures are made up after the documented format.

mod answers;
mod properties;
mod requests;

use super::request;
use crate::dialect::chat::{Message, ModelTraits, Part, PartKind, Rendered, Request, Role, StructuredOutput};
use crate::dialect::event::{End, Event, ReasoningPiece, Sink};
use crate::domain::{Fault, Usage};
use serde_json::Value;

/// An answer put together again from its events, with the order that every decoder guarantees checked on the way.
#[derive(Clone, Debug, Default, PartialEq)]
struct Assembled {
    start: Option<(String, String)>,
    text: String,
    refusal: String,
    /// Text, signature and encrypted data of each block.
    reasoning: Vec<[String; 3]>,
    /// Id, name and arguments of each call.
    calls: Vec<[String; 3]>,
    annotations: Vec<Value>,
    images: Vec<[String; 2]>,
    /// OpenAI's word and the provider's own.
    finish: Option<(&'static str, String)>,
    usage: Option<Usage>,
    error: Option<Fault>,
}

impl Sink for Assembled {
    fn event(&mut self, event: Event<'_>) {
        assert!(self.error.is_none(), "nothing follows an error, but {event:?} did");
        match event {
            Event::Start { id, model } => {
                assert!(self.start.is_none(), "one start");
                self.start = Some((id.to_owned(), model.to_owned()));
                return;
            }
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Error(fault) => {
                self.error = Some(fault);
                return;
            }
            _ => {
                assert!(self.finish.is_none(), "no output follows the finish, but {event:?} did");
                self.output(event);
            }
        }
        assert!(self.start.is_some(), "the start comes first");
    }
}

impl Assembled {
    fn output(&mut self, event: Event<'_>) {
        match event {
            Event::Text { choice: 0, text } => self.text.push_str(text),
            Event::Refusal { choice: 0, text } => self.refusal.push_str(text),
            Event::Reasoning { choice: 0, delta } => {
                assert_eq!(delta.format, "anthropic-claude-v1");
                let index = delta.index as usize;
                if index >= self.reasoning.len() {
                    self.reasoning.resize(index + 1, Default::default());
                }
                let (slot, piece) = match delta.piece {
                    ReasoningPiece::Text(text) => (0, text),
                    ReasoningPiece::Signature(text) => (1, text),
                    ReasoningPiece::Encrypted(text) => (2, text),
                    ReasoningPiece::Summary(text) => panic!("Converse has no summaries, but {text:?} came"),
                };
                self.reasoning[index][slot].push_str(piece);
            }
            Event::Call { choice: 0, index, id, name } => {
                assert_eq!(index as usize, self.calls.len(), "indices without gaps");
                assert!(!id.is_empty(), "every call has an id");
                self.calls.push([id.to_owned(), name.to_owned(), String::new()]);
            }
            Event::Arguments { choice: 0, index, json } => self.calls[index as usize][2].push_str(json),
            Event::Annotation { choice: 0, value } => self.annotations.push(value.clone()),
            Event::Finish { choice: 0, reason, native } => {
                self.finish = Some((reason.as_str(), native.to_owned()));
            }
            Event::Image { choice: 0, media_type, data } => self.images.push([media_type.to_owned(), data.to_owned()]),
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// An event or an exception as Bedrock frames it.
fn framed(kind: &str, name: &str, payload: &str) -> Vec<u8> {
    use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
    let text = |text: &str| HeaderValue::String(text.to_owned().into());
    let message = Message::new(payload.to_owned())
        .add_header(Header::new(format!(":{kind}-type"), text(name)))
        .add_header(Header::new(":content-type", text("application/json")))
        .add_header(Header::new(":message-type", text(kind)));
    let mut bytes = Vec::new();
    aws_smithy_eventstream::frame::write_message_to(&message, &mut bytes).unwrap();
    bytes
}

/// A stream of events.
fn stream_of(events: &[(&str, Value)]) -> Vec<u8> {
    events.iter().flat_map(|(name, payload)| framed("event", name, &payload.to_string())).collect()
}

/// Reads a stream in chunks of so many bytes, up to a clean end.
fn read_stream(stream: &[u8], chunk: usize, answer_tool: Option<&str>) -> Result<Assembled, Fault> {
    let mut decoder = super::stream::Decoder::new(answer_tool.map(str::to_owned));
    let mut out = Assembled::default();
    for bytes in stream.chunks(chunk) {
        decoder.push(bytes, &mut out)?;
    }
    decoder.finish(End::Clean, &mut out)?;
    Ok(out)
}

/// Reads a whole body.
fn read_body(body: &Value, answer_tool: Option<&str>) -> Result<Assembled, Fault> {
    let mut out = Assembled::default();
    super::response::decode(body.to_string().as_bytes(), answer_tool, &mut out)?;
    Ok(out)
}

/// A model that can do everything, of Anthropic's.
fn target() -> ModelTraits {
    ModelTraits {
        model: "us.anthropic.a-model-v1:0".into(),
        maker: Some("anthropic".into()),
        max_output: Some(8192),
        structured_output: StructuredOutput::Native,
        ..ModelTraits::default()
    }
}

fn message(role: Role, text: &str) -> Message {
    Message {
        role,
        name: None,
        parts: if text.is_empty() { Vec::new() } else { vec![part(PartKind::Text(text.into()))] },
        tool_calls: Vec::new(),
        tool_call_id: None,
        reasoning: Vec::new(),
        cache_control: None,
    }
}

fn part(kind: PartKind) -> Part {
    Part { kind, cache_control: None }
}

/// A request with one question.
fn question() -> Request {
    Request { messages: vec![message(Role::User, "hello")], ..Request::default() }
}

fn render(request: &Request, target: &ModelTraits) -> Rendered {
    request::render(request, target).unwrap()
}

fn body(request: &Request, target: &ModelTraits) -> Value {
    serde_json::from_slice(&render(request, target).body).unwrap()
}

fn refused(request: &Request, target: &ModelTraits) -> String {
    request::render(request, target).unwrap_err().param.unwrap()
}
