//! Golden requests and answers, each stream cut at every byte, streams against unary answers, and hostile bytes.

mod answers;
mod properties;
mod requests;

use crate::dialect::chat::ReasoningKind;
use crate::dialect::event::{End, Event, FinishReason, ReasoningPiece};
use crate::dialect::gemini::{response, stream};
use crate::domain::{Fault, Usage};
use serde_json::Value;

/// An answer put together from its events, which are checked for the order that the hub promises.
#[derive(Debug, Default, PartialEq)]
struct Whole {
    start: Option<(String, String)>,
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Fault>,
}

#[derive(Debug, Default, PartialEq)]
struct Choice {
    text: String,
    /// Kind (its text and signature put together) and the id of the call it belongs to.
    reasoning: Vec<(ReasoningKind, Option<String>)>,
    /// Id, name, arguments.
    calls: Vec<(String, String, String)>,
    annotations: Vec<Value>,
    images: Vec<(String, String)>,
    logprobs: Vec<Value>,
    finish: Option<(FinishReason, String)>,
}

impl Whole {
    fn choice(&mut self, index: u32) -> &mut Choice {
        let index = index as usize;
        while self.choices.len() <= index {
            self.choices.push(Choice::default());
        }
        let choice = &mut self.choices[index];
        assert_eq!(choice.finish, None, "something follows the finish");
        choice
    }

    fn take(&mut self, event: Event<'_>) {
        assert_eq!(self.error, None, "something follows the error");
        match &event {
            Event::Start { id, model } => {
                assert_eq!(self.start.replace(((*id).into(), (*model).into())), None, "a second start");
                return;
            }
            Event::Error(fault) => return self.error = Some(fault.clone()),
            _ => assert!(self.start.is_some(), "{event:?} before the start"),
        }
        match event {
            Event::Start { .. } | Event::Error(_) => {}
            Event::Refusal { .. } => panic!("Gemini refuses by its finish reason"),
            Event::Text { choice, text } => {
                assert!(!text.is_empty());
                self.choice(choice).text.push_str(text);
            }
            Event::Reasoning { choice, delta } => {
                assert_eq!(delta.format, "google-gemini-v1");
                let blocks = &mut self.choice(choice).reasoning;
                match blocks.get_mut(delta.index as usize) {
                    None => {
                        assert_eq!(blocks.len(), delta.index as usize, "a gap before a block");
                        blocks.push((delta.piece.to_kind(), delta.id.map(str::to_owned)));
                    }
                    Some((ReasoningKind::Text { text, signature }, _)) => match delta.piece {
                        ReasoningPiece::Text(more) => text.push_str(more),
                        ReasoningPiece::Signature(whole) => assert_eq!(signature.replace(whole.into()), None),
                        other => panic!("{other:?} in a block of text"),
                    },
                    Some(block) => panic!("{delta:?} after {block:?}"),
                }
            }
            Event::Call { choice, index, id, name } => {
                let calls = &mut self.choice(choice).calls;
                assert_eq!(calls.len(), index as usize, "a gap before a call");
                assert!(!id.is_empty() && calls.iter().all(|call| call.0 != id), "ids are there and unique");
                calls.push((id.into(), name.into(), String::new()));
            }
            Event::Arguments { choice, index, json } => self.choice(choice).calls[index as usize].2.push_str(json),
            Event::Annotation { choice, value } => self.choice(choice).annotations.push(value.clone()),
            Event::Image { choice, media_type, data } => {
                self.choice(choice).images.push((media_type.into(), data.into()))
            }
            Event::Logprobs { choice, content } => self.choice(choice).logprobs.extend_from_slice(content),
            Event::Finish { choice, reason, native } => self.choice(choice).finish = Some((reason, native.into())),
            Event::Usage(usage) => self.usage = Some(usage),
        }
    }
}

/// Reads a stream from these pieces.
fn read<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    end: End,
    answer_tool: Option<&str>,
) -> (Whole, Result<(), Fault>) {
    let mut whole = Whole::default();
    let mut decoder = stream::Decoder::new(answer_tool.map(str::to_owned));
    let mut sink = |event: Event<'_>| whole.take(event);
    let mut outcome = pieces.into_iter().try_for_each(|piece| decoder.push(piece, &mut sink));
    if outcome.is_ok() {
        outcome = decoder.finish(end, &mut sink);
    }
    (whole, outcome)
}

/// Reads a unary answer.
fn decode(body: &[u8], answer_tool: Option<&str>) -> (Whole, Result<(), Fault>) {
    let mut whole = Whole::default();
    let outcome = response::decode(body, answer_tool, &mut |event: Event<'_>| whole.take(event));
    (whole, outcome)
}

/// Reads a stream whole, cut in two at every byte, in single bytes, and all that with CRLF; all must say the same.
fn read_every_way(stream: &str, answer_tool: Option<&str>) -> Whole {
    let crlf = stream.replace('\n', "\r\n");
    let (expected, outcome) = read([stream.as_bytes()], End::Clean, answer_tool);
    assert_eq!(outcome, Ok(()), "{stream}");
    for bytes in [stream.as_bytes(), crlf.as_bytes()] {
        let ones = read(bytes.chunks(1), End::Clean, answer_tool);
        assert_eq!((&ones.0, ones.1), (&expected, Ok(())), "in single bytes: {stream}");
        for at in 0..=bytes.len() {
            let got = read([&bytes[..at], &bytes[at..]], End::Clean, answer_tool);
            assert_eq!((&got.0, got.1), (&expected, Ok(())), "cut at {at}: {stream}");
        }
    }
    expected
}

/// The pieces as server-sent events.
fn events(pieces: &[Value]) -> String {
    pieces.iter().map(|piece| format!("data: {piece}\n\n")).collect()
}
