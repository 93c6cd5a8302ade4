//! Tests of the whole format. The fixtures are made up after the documented format.

mod answers;
mod properties;
mod requests;

use super::request;
use crate::dialect::assembled::signed::Assembled;
use crate::dialect::chat::{Message, ModelTraits, Part, PartKind, Rendered, Request, Role, StructuredOutput};
use crate::dialect::event::End;
use crate::domain::Fault;
use serde_json::Value;

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
    Message::new(role, if text.is_empty() { Vec::new() } else { vec![part(PartKind::Text(text.into()))] })
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
