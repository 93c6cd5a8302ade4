//! Tests of the whole format. The fixtures are made up after the documented format.

mod answers;
mod errors;
mod properties;
mod reasoning;
mod requests;
mod structured;

use super::request;
use crate::dialect::assembled::signed::Assembled;
use crate::dialect::chat::{Message, ModelTraits, Part, PartKind, Rendered, Request, Role};
use crate::dialect::event::End;
use crate::domain::Fault;
use serde_json::Value;

/// Reads a stream in chunks of so many bytes, up to a clean end.
fn read_stream(stream: &str, chunk: usize, answer_tool: Option<&str>) -> Result<Assembled, Fault> {
    let mut decoder = super::stream::Decoder::new(answer_tool.map(str::to_owned));
    let mut out = Assembled::default();
    for bytes in stream.as_bytes().chunks(chunk) {
        decoder.push(bytes, &mut out)?;
    }
    decoder.finish(End::Clean, &mut out)?;
    Ok(out)
}

/// Reads a whole body.
fn read_body(body: &str, answer_tool: Option<&str>) -> Result<Assembled, Fault> {
    let mut out = Assembled::default();
    super::response::decode(body.as_bytes(), answer_tool, &mut out)?;
    Ok(out)
}

/// A model that can do everything the way older models do it.
fn target() -> ModelTraits {
    ModelTraits { model: "claude-test".into(), max_output: Some(8192), ..ModelTraits::default() }
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
