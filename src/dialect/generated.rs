//! For the tests of encoders: events in few words, and answers whose events come in any order that a decoder may give them in.

use super::chat::{FORMAT_ANTHROPIC, FORMAT_GEMINI};
use super::event::{Event, FinishReason, ReasoningDelta, ReasoningPiece};
use proptest::prelude::*;
use serde_json::{Value, json};

pub(super) const STOP: Event<'_> = Event::Finish { choice: 0, reason: FinishReason::Stop, native: "stop" };

pub(super) fn thought<'a>(index: u32, format: &'static str, piece: ReasoningPiece<'a>) -> Event<'a> {
    Event::Reasoning { choice: 0, delta: ReasoningDelta { index, id: None, format, piece } }
}

pub(super) fn text(text: &str) -> Event<'_> {
    Event::Text { choice: 0, text }
}

pub(super) fn call<'a>(index: u32, id: &'a str) -> Event<'a> {
    Event::Call { choice: 0, index, id, name: "look" }
}

pub(super) fn input(index: u32, json: &str) -> Event<'_> {
    Event::Arguments { choice: 0, index, json }
}

pub(super) fn finish(reason: FinishReason, native: &str) -> Event<'_> {
    Event::Finish { choice: 0, reason, native }
}

/// What an answer does next.
#[derive(Clone, Debug)]
enum Step {
    Text(String),
    Thought(u32, String),
    /// Google's own signature, or Anthropic's.
    Signature(u32, bool),
    Encrypted(bool),
    Call,
    /// The next piece of one of the calls that are not whole.
    Piece(usize),
}

/// An answer of texts, thoughts and calls of the tool `look`, by turns.
#[derive(Clone, Debug)]
pub(super) struct Generated {
    steps: Vec<Step>,
    /// Id and arguments of each call.
    pub calls: Vec<(String, Value)>,
    /// The arguments in up to three pieces each; the empty ones have none.
    pieces: Vec<Vec<String>>,
}

impl Generated {
    /// All of its text.
    pub fn text(&self) -> String {
        self.steps
            .iter()
            .filter_map(|step| if let Step::Text(text) = step { Some(text.as_str()) } else { None })
            .collect()
    }

    /// Its events, up to the finish.
    pub fn events(&self) -> Vec<Event<'_>> {
        let format = |own: bool| if own { FORMAT_GEMINI } else { FORMAT_ANTHROPIC };
        let (mut events, mut given, mut begun) = (Vec::new(), vec![0; self.calls.len()], 0);
        for step in &self.steps {
            match step {
                Step::Text(piece) => events.push(text(piece)),
                Step::Thought(index, text) => events.push(thought(*index, "", ReasoningPiece::Text(text))),
                Step::Signature(index, own) => {
                    events.push(thought(*index, format(*own), ReasoningPiece::Signature("s")));
                }
                Step::Encrypted(own) => events.push(thought(9, format(*own), ReasoningPiece::Encrypted("e"))),
                Step::Call => {
                    events.push(call(begun as u32, &self.calls[begun].0));
                    begun += 1;
                }
                Step::Piece(which) if *which < begun && given[*which] < self.pieces[*which].len() => {
                    events.push(input(*which as u32, &self.pieces[*which][given[*which]]));
                    given[*which] += 1;
                }
                Step::Piece(_) => {}
            }
        }
        for (which, rest) in self.pieces.iter().enumerate() {
            events.extend(rest[given[which]..].iter().map(|piece| input(which as u32, piece)));
        }
        events.push(STOP);
        events
    }
}

/// Such answers.
pub(super) fn generated() -> impl Strategy<Value = Generated> {
    let step = prop_oneof![
        "[a-zé\"\\\\ ]{0,4}".prop_map(|text| (Step::Text(text), String::new())),
        (0u32..3, "[a-zé]{0,3}").prop_map(|(index, text)| (Step::Thought(index, text), String::new())),
        (0u32..3, any::<bool>()).prop_map(|(index, own)| (Step::Signature(index, own), String::new())),
        any::<bool>().prop_map(|own| (Step::Encrypted(own), String::new())),
        "[a-zé{}\\[\\]\"\\\\]{0,5}".prop_map(|text| (Step::Call, text)),
        (0usize..4).prop_map(|which| (Step::Piece(which), String::new())),
        (0usize..4).prop_map(|which| (Step::Piece(which), String::new())),
    ];
    prop::collection::vec(step, 0..24).prop_map(|steps| {
        let arguments = steps.iter().filter(|(step, _)| matches!(step, Step::Call)).map(|(_, text)| text);
        let value = |text: &String| if text.is_empty() { json!({}) } else { json!({ "a": text }) };
        let calls: Vec<_> = arguments.enumerate().map(|(place, text)| (format!("call_{place}"), value(text))).collect();
        let thirds = |(_, value): &(String, Value)| -> Vec<String> {
            let text: Vec<char> = value.to_string().chars().collect();
            let size = text.len().div_ceil(3);
            if text.len() == 2 { Vec::new() } else { text.chunks(size).map(|piece| piece.iter().collect()).collect() }
        };
        let pieces = calls.iter().map(thirds).collect();
        Generated { steps: steps.into_iter().map(|(step, _)| step).collect(), calls, pieces }
    })
}
