//! For the tests of decoders: an answer put together again from its events, with the order that every decoder guarantees checked on the
//! way.

pub(super) mod signed;

use super::chat::ReasoningKind;
use super::event::{Event, FinishReason, ReasoningPiece, Sink};
use crate::domain::{Fault, Usage};
use serde_json::Value;

/// A whole answer of one choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Assembled {
    /// Id and model.
    pub start: Option<(String, String)>,
    pub text: String,
    /// Each block, with its format.
    pub reasoning: Vec<(ReasoningKind, String)>,
    /// Id, name and arguments of each call.
    pub calls: Vec<[String; 3]>,
    pub annotations: Vec<Value>,
    pub logprobs: Vec<Value>,
    /// OpenAI's word and the provider's own.
    pub finish: Option<(FinishReason, String)>,
    pub usage: Option<Usage>,
    pub error: Option<Fault>,
}

impl Sink for Assembled {
    fn event(&mut self, event: Event<'_>) {
        assert!(self.error.is_none(), "nothing follows an error, but {event:?} did");
        match &event {
            Event::Start { id, model } => {
                assert!(self.start.is_none(), "one start");
                return self.start = Some(((*id).to_owned(), (*model).to_owned()));
            }
            Event::Error(fault) => return self.error = Some(fault.clone()),
            _ => assert!(self.start.is_some(), "{event:?} before the start"),
        }
        if !matches!(event, Event::Usage(_)) {
            assert!(self.finish.is_none(), "no output follows the finish, but {event:?} did");
        }
        match event {
            Event::Text { choice: 0, text } => {
                assert!(!text.is_empty());
                self.text.push_str(text);
            }
            Event::Reasoning { choice: 0, delta } => {
                let Some((kind, format)) = self.reasoning.get_mut(delta.index as usize) else {
                    assert_eq!(delta.index as usize, self.reasoning.len(), "a gap before a block");
                    return self.reasoning.push((delta.piece.to_kind(), delta.format.to_owned()));
                };
                assert_eq!(format, delta.format);
                match (kind, delta.piece) {
                    (ReasoningKind::Text { text, .. }, ReasoningPiece::Text(more))
                    | (ReasoningKind::Summary(text), ReasoningPiece::Summary(more)) => text.push_str(more),
                    (kind, piece) => panic!("{piece:?} in {kind:?}"),
                }
            }
            Event::Call { choice: 0, index, id, name } => {
                assert_eq!(index as usize, self.calls.len(), "indices without gaps");
                assert!(!id.is_empty() && !name.is_empty(), "every call has an id and a name");
                self.calls.push([id.to_owned(), name.to_owned(), String::new()]);
            }
            Event::Arguments { choice: 0, index, json } => self.calls[index as usize][2].push_str(json),
            Event::Annotation { choice: 0, value } => self.annotations.push(value.clone()),
            Event::Logprobs { choice: 0, content } => self.logprobs.extend_from_slice(content),
            Event::Finish { choice: 0, reason, native } => self.finish = Some((reason, native.to_owned())),
            Event::Usage(usage) => self.usage = Some(usage),
            other => panic!("unexpected {other:?}"),
        }
    }
}
