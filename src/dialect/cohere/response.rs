//! Reads an answer that is not streamed into events.

use super::answer::Answer;
use super::error;
use super::wire::{self, Content, Message, Reply};
use crate::dialect::event::Sink;
use crate::domain::{Fault, FaultKind};
use serde_json::value::RawValue;

/// Reads a whole body. `answer_tool` is [`crate::dialect::chat::Rendered::answer_tool`]; calls without an id get one that begins with
/// `call_ids`.
///
/// # Errors
/// `Empty` for no body at all, `Malformed` for anything that is not an answer, and what the provider says when the body is an error in
/// spite of its status.
pub fn decode(body: &[u8], answer_tool: Option<&str>, call_ids: &str, sink: &mut impl Sink) -> Result<(), Fault> {
    let body = body.trim_ascii();
    if body.is_empty() {
        return Err(Fault::new(FaultKind::Empty, "the provider's answer is empty"));
    }
    let reply: Reply<'_> = serde_json::from_slice(body).map_err(|_| not_an_answer(body))?;
    let Some(message) = reply.message.filter(|message| message.get().starts_with('{')) else {
        return Err(not_an_answer(body));
    };
    let message: Message<'_> =
        serde_json::from_str(message.get()).map_err(|_| Fault::malformed("the provider sent a broken message"))?;
    let mut answer = Answer::new(answer_tool.map(str::to_owned), call_ids);
    answer.start(wire::text(&reply.id), sink);
    if let Some(content) = message.content {
        contents(content, &mut answer, sink)?;
    }
    answer.plan(wire::text(&message.tool_plan), sink);
    for (at, call) in (0..).zip(message.tool_calls.iter().flatten()) {
        let function = call.function.as_ref();
        answer.call(at, wire::text(&call.id), function.map_or("", |function| wire::text(&function.name)), sink)?;
        answer.arguments(at, function.map_or("", |function| wire::text(&function.arguments)), sink);
    }
    if let Some(citations) = message.citations {
        answer.cite(citations, sink);
    }
    if let Some(logprobs) = reply.logprobs {
        answer.logprobs(logprobs, sink);
    }
    if let Some(reason) = &reply.finish_reason {
        answer.end(&reason.0, reply.usage, ("", ""), sink);
    }
    Ok(())
}

/// A list of contents; some imitations of the API have a text instead.
fn contents(raw: &RawValue, answer: &mut Answer, sink: &mut impl Sink) -> Result<(), Fault> {
    let broken = |_| Fault::malformed("the provider sent a broken content");
    match raw.get().as_bytes().first() {
        Some(b'[') => {
            let items: Vec<Content<'_>> = serde_json::from_str(raw.get()).map_err(broken)?;
            for (at, item) in (0..).zip(&items) {
                answer.thoughts(at, wire::text(&item.thinking), sink)?;
                answer.text(at, wire::text(&item.text), sink)?;
            }
            Ok(())
        }
        Some(b'"') => {
            let text: String = serde_json::from_str(raw.get()).map_err(broken)?;
            answer.text(0, &text, sink)
        }
        _ => Ok(()),
    }
}

fn not_an_answer(body: &[u8]) -> Fault {
    if error::is_error(body) {
        return error::parse(body).into_fault(None);
    }
    Fault::malformed(match body.first() {
        Some(b'<') => "the provider sent a page instead of an answer",
        _ if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() => {
            "the provider sent JSON that is not an answer"
        }
        _ => "the provider sent an answer that is not JSON",
    })
}
