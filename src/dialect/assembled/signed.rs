//! The same for models whose thoughts are signed: Anthropic's, wherever they are.

use crate::dialect::event::{Event, ReasoningPiece, Sink};
use crate::domain::{Fault, Usage};
use serde_json::Value;

/// A whole answer of one choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::dialect) struct Assembled {
    pub start: Option<(String, String)>,
    pub text: String,
    pub refusal: String,
    /// Text, signature and encrypted data of each block.
    pub reasoning: Vec<[String; 3]>,
    /// Id, name and arguments of each call.
    pub calls: Vec<[String; 3]>,
    pub annotations: Vec<Value>,
    pub images: Vec<[String; 2]>,
    /// OpenAI's word and the provider's own.
    pub finish: Option<(&'static str, String)>,
    pub usage: Option<Usage>,
    pub error: Option<Fault>,
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
                    ReasoningPiece::Summary(text) => panic!("there are no summaries, but {text:?} came"),
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
