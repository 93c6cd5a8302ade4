//! Turns the hub's events into Google's parts: whole ones, because a part of this format never comes in pieces but for its text.
//!
//! ```text
//!   Call ──Arguments*──> closed, and all before it are ──> written      (what never closes is written with the end)
//! ```
//!
//! Thoughts are shown where the client asked for them; the proofs that a provider wants back are kept either way (see
//! [`super::thoughts`]).

use super::thoughts::Sealed;
use crate::dialect::chat::FORMAT_GEMINI;
use crate::dialect::event::{Event, FinishReason, ReasoningDelta, ReasoningPiece};
use crate::dialect::gemini::answer;
use crate::dialect::gemini::calls;
use crate::dialect::gemini::citations::Places;
use crate::dialect::openai_chat::scan::Balance;
use crate::dialect::table::Setup;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::borrow::Cow;

/// About what a call, a proof or a citation takes beside its texts.
const ENTRY: usize = 256;

/// Takes parts in their final order. Neighbouring texts (and neighbouring thoughts) of which the first has no signature are one.
pub(super) trait Writer {
    /// Text, or more of it.
    fn text(&mut self, choice: u32, text: &str, signature: Option<&str>);
    /// A thought, or more of it.
    fn thought(&mut self, choice: u32, text: &str, signature: Option<&str>);
    /// A whole call.
    fn call(&mut self, choice: u32, call: &Call, signature: Option<&str>);
    /// A picture.
    fn image(&mut self, choice: u32, media_type: &str, data: &str);
    /// Log probabilities, in OpenAI's form.
    fn logprobs(&mut self, choice: u32, content: &[Value]);
}

/// A function's call.
#[derive(Debug, Default)]
pub(super) struct Call {
    place: u32,
    /// Its id.
    pub id: String,
    /// The function's name.
    pub name: String,
    json: String,
    balance: Balance,
}

impl Call {
    /// The arguments, which must be an object: what is none (an answer that ran out of tokens inside a call) is wrapped in one.
    pub fn args(&self) -> Cow<'_, str> {
        let text = self.json.trim();
        if text.is_empty() || text == "null" {
            return "{}".into();
        }
        match serde_json::from_str::<&RawValue>(text) {
            // Line ends between its tokens would end the event that it stands in.
            Ok(raw) if raw.get().starts_with('{') => calls::arguments(raw.get()),
            _ => json!({ "INVALID_JSON": self.json }).to_string().into(),
        }
    }
}

/// The candidates of one answer.
#[derive(Default)]
pub(super) struct Parts {
    /// The client does not want to see thoughts.
    hides: bool,
    choices: Vec<Choice>,
}

/// How a candidate ended.
pub(super) struct Ending {
    pub index: u32,
    pub reason: Cow<'static, str>,
    /// `groundingMetadata`, where pages are cited.
    pub grounding: Option<Value>,
}

#[derive(Default)]
struct Choice {
    index: u32,
    block: Block,
    calls: Vec<Call>,
    /// How many of the calls are written.
    written: usize,
    /// Google's signatures of calls, by the ids of these.
    proofs: Vec<(String, String)>,
    places: Places,
    cited: Vec<Value>,
    refused: bool,
    finish: Option<Cow<'static, str>>,
    /// About how many bytes of calls, proofs and citations are held.
    held: usize,
}

/// The thoughts that the next signature proves.
#[derive(Default)]
struct Block {
    index: u32,
    length: usize,
    /// Those that are not shown.
    hidden: String,
}

impl Parts {
    pub fn new(setup: &Setup) -> Self {
        Self { hides: setup.exclude_reasoning, choices: Vec::new() }
    }

    fn choice(&mut self, index: u32) -> &mut Choice {
        let at = match self.choices.iter().position(|choice| choice.index == index) {
            Some(at) => at,
            None => {
                self.choices.push(Choice { index, ..Choice::default() });
                self.choices.len() - 1
            }
        };
        &mut self.choices[at]
    }

    /// About how many bytes are held for what is still to be written.
    pub fn held_bytes(&self) -> usize {
        self.choices.iter().map(|choice| choice.held + choice.block.hidden.len()).sum()
    }

    /// Takes an event.
    pub fn take(&mut self, event: &Event<'_>, writer: &mut impl Writer) {
        let hides = self.hides;
        match *event {
            Event::Text { choice, text } | Event::Refusal { choice, text } => {
                let refused = matches!(event, Event::Refusal { .. });
                let choice = self.choice(choice);
                if !text.is_empty() {
                    choice.refused |= refused;
                    choice.places.push(text);
                    writer.text(choice.index, text, None);
                }
            }
            Event::Reasoning { choice, ref delta } => self.choice(choice).thought(delta, hides, writer),
            Event::Call { choice, index, id, name } => {
                let (id, name) = (id.to_owned(), name.to_owned());
                let choice = self.choice(choice);
                choice.held += ENTRY + id.len() + name.len();
                choice.calls.push(Call { place: index, id, name, ..Call::default() });
            }
            Event::Arguments { choice, index, json } => {
                let choice = self.choice(choice);
                // A call that is written has got all that belongs to it.
                let open = choice.calls[choice.written..].iter_mut().find(|call| call.place == index);
                if let Some(call) = open {
                    call.json.push_str(json);
                    choice.held += json.len();
                    call.balance.push(json.as_bytes());
                    choice.write_calls(false, writer);
                }
            }
            Event::Image { choice, media_type, data } => writer.image(self.choice(choice).index, media_type, data),
            Event::Logprobs { choice, content } => writer.logprobs(self.choice(choice).index, content),
            Event::Annotation { choice, value } => {
                let choice = self.choice(choice);
                choice.held += ENTRY;
                choice.cited.push(value.clone());
            }
            Event::Finish { choice, reason, native } => {
                let choice = self.choice(choice);
                choice.write_calls(true, writer);
                let refused = choice.refused;
                choice.finish.get_or_insert_with(|| finish_reason(reason, native, refused));
            }
            Event::Start { .. } | Event::Usage(_) | Event::Error(_) => {}
        }
    }

    /// Ends the answer: how each candidate ended, by their numbers. There is at least one.
    pub fn finish(&mut self) -> Vec<Ending> {
        if self.choices.is_empty() {
            self.choice(0);
        }
        self.choices.sort_by_key(|choice| choice.index);
        let end = |choice: &mut Choice| Ending {
            index: choice.index,
            reason: choice.finish.take().unwrap_or("STOP".into()),
            grounding: choice.grounding(),
        };
        self.choices.iter_mut().map(end).collect()
    }
}

impl Choice {
    fn thought(&mut self, delta: &ReasoningDelta<'_>, hides: bool, writer: &mut impl Writer) {
        let (format, at) = (delta.format.to_owned(), self.index);
        if self.block.index != delta.index {
            self.block = Block { index: delta.index, ..Block::default() };
        }
        let block = &mut self.block;
        match delta.piece {
            ReasoningPiece::Text(text) | ReasoningPiece::Summary(text) => {
                block.length += text.len();
                if !hides && !text.is_empty() {
                    writer.thought(at, text, None);
                } else if !format.is_empty() && format != FORMAT_GEMINI {
                    // Its proof may follow, which is worth nothing without it.
                    block.hidden.push_str(text);
                }
            }
            // Google shows no proof of thoughts that it does not show.
            ReasoningPiece::Signature(_) if hides && format == FORMAT_GEMINI => {}
            ReasoningPiece::Signature(data) if format == FORMAT_GEMINI => writer.thought(at, "", Some(data)),
            ReasoningPiece::Signature(data) => {
                let (length, data) = (std::mem::take(&mut block.length), data.to_owned());
                let text = std::mem::take(&mut block.hidden);
                let sealed = match hides {
                    true => Sealed::Hidden { format, text, data },
                    false => Sealed::Signature { format, length, data },
                };
                writer.thought(at, "", Some(&sealed.seal()));
            }
            ReasoningPiece::Encrypted(data) if format == FORMAT_GEMINI => match delta.id {
                None => writer.text(at, "", Some(data)),
                Some(id) if self.calls[..self.written].iter().any(|call| call.id == id) => {
                    let (id, data) = (Some(id.to_owned()), data.to_owned());
                    writer.thought(at, "", Some(&Sealed::Encrypted { format, id, data }.seal()));
                }
                Some(id) => {
                    self.held += ENTRY + data.len();
                    self.proofs.push((id.to_owned(), data.to_owned()));
                }
            },
            ReasoningPiece::Encrypted(data) => {
                let (id, data) = (delta.id.map(str::to_owned), data.to_owned());
                writer.thought(at, "", Some(&Sealed::Encrypted { format, id, data }.seal()));
            }
        }
    }

    /// Writes the calls that are whole, in their order; at the end all.
    fn write_calls(&mut self, all: bool, writer: &mut impl Writer) {
        while let Some(call) = self.calls.get(self.written).filter(|call| all || call.balance.is_closed()) {
            let proof = self.proofs.iter().find(|(id, _)| *id == call.id).map(|(_, proof)| proof.clone());
            // Google's newest models want to know of a first call that it was not theirs.
            let mark = || (self.written == 0 && self.proofs.is_empty()).then(|| Sealed::Call.seal());
            writer.call(self.index, call, proof.or_else(mark).as_deref());
            // What is written is not needed any more.
            let json = std::mem::take(&mut self.calls[self.written].json);
            self.held = self.held.saturating_sub(json.len());
            self.written += 1;
        }
    }

    /// The cited pages, each once, and which pieces of the text they support.
    fn grounding(&self) -> Option<Value> {
        let (mut pages, mut supports) = (Vec::<Value>::new(), Vec::new());
        for cited in self.cited.iter().filter_map(|value| value.get("url_citation")) {
            let Some(uri) = cited["url"].as_str() else { continue };
            let page = json!({ "web": { "uri": uri, "title": cited["title"].as_str().unwrap_or(uri) } });
            let at = pages.iter().position(|known| *known == page).unwrap_or_else(|| {
                pages.push(page);
                pages.len() - 1
            });
            let place = |name: &str| self.places.bytes(cited[name].as_u64().unwrap_or(0));
            let (start, end) = (place("start_index"), place("end_index"));
            if end > start {
                let segment = json!({ "startIndex": start, "endIndex": end });
                supports.push(json!({ "segment": segment, "groundingChunkIndices": [at] }));
            }
        }
        (!pages.is_empty()).then(|| json!({ "groundingChunks": pages, "groundingSupports": supports }))
    }
}

/// Google's word for the end of an answer: the provider's own where it is one and says the same.
fn finish_reason(reason: FinishReason, native: &str, refused: bool) -> Cow<'static, str> {
    let is_googles = !native.is_empty() && native.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let word = match reason {
        FinishReason::Stop if refused => "SAFETY",
        FinishReason::Stop | FinishReason::ToolCalls => "STOP",
        FinishReason::Length => "MAX_TOKENS",
        FinishReason::ContentFilter => "SAFETY",
    };
    let same = is_googles && answer::is_word(native) && answer::finish_reason(native, false) == reason && !refused;
    if same { native.to_owned().into() } else { word.into() }
}
