//! The machine that turns chunks of an answer into events; a whole answer is one chunk.
//!
//! ```text
//!   Waiting ──first chunk: Start──> Running ──(chunk)*──> Running ──done: Usage, Finish──> Ended
//!      └───────────────────────────────┴────────────────── error ──────────────────────────^
//! ```

use super::error;
use super::wire::{self, Chunk, ToolCall};
use crate::dialect::event::{Event, FinishReason, ReasoningDelta, ReasoningPiece, Sink};
use crate::dialect::gemini::calls::arguments;
use crate::domain::Fault;
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Waiting,
    Running,
    Ended,
}

/// One answer in the making. There is always exactly one choice, and its thoughts are one block.
#[derive(Debug, Default)]
pub(super) struct Answer {
    stage: Stage,
    /// What ids begin with that have to be made.
    call_ids: String,
    calls: u32,
}

impl Answer {
    /// The machine for one answer. Calls without an id get one that begins with `call_ids`.
    pub fn new(call_ids: &str) -> Self {
        Self { call_ids: call_ids.to_owned(), ..Self::default() }
    }

    /// Takes one line of the stream, or the whole answer. Several objects in one are several chunks.
    ///
    /// # Errors
    /// `Malformed` when it is not an answer.
    pub fn take(&mut self, data: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        for chunk in serde_json::Deserializer::from_slice(data).into_iter::<Chunk<'_>>() {
            if self.stage == Stage::Ended {
                return Ok(());
            }
            let chunk =
                chunk.map_err(|error| Fault::malformed(format!("the provider's answer cannot be read: {error}")))?;
            self.chunk(&chunk, sink)?;
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: &Chunk<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        if let Some(raw) = chunk.error {
            self.stage = Stage::Ended;
            sink.event(Event::Error(error::of_value(raw.get()).into_fault(None)));
            return Ok(());
        }
        let done = chunk.done == Some(true);
        if chunk.message.is_none() && !done {
            return Err(Fault::malformed("the provider sent JSON that is not an answer"));
        }
        if self.stage == Stage::Waiting {
            self.stage = Stage::Running;
            sink.event(Event::Start { id: "", model: wire::text(&chunk.model) });
        }
        if let Some(message) = &chunk.message {
            let thoughts = wire::text(&message.thinking);
            if !thoughts.is_empty() {
                let piece = ReasoningPiece::Text(thoughts);
                let delta = ReasoningDelta { index: 0, id: None, format: "", piece };
                sink.event(Event::Reasoning { choice: 0, delta });
            }
            let text = wire::text(&message.content);
            if !text.is_empty() {
                sink.event(Event::Text { choice: 0, text });
            }
            for call in message.tool_calls.iter().flatten() {
                self.call(call, sink)?;
            }
        }
        if let Some(content) = chunk.logprobs.as_deref().filter(|content| !content.is_empty()) {
            sink.event(Event::Logprobs { choice: 0, content });
        }
        if done {
            self.stage = Stage::Ended;
            if let Some(usage) = chunk.usage() {
                sink.event(Event::Usage(usage));
            }
            let native = wire::text(&chunk.done_reason);
            let reason = match native {
                "length" => FinishReason::Length,
                // It says stop beside calls too.
                _ if self.calls > 0 => FinishReason::ToolCalls,
                _ => FinishReason::Stop,
            };
            sink.event(Event::Finish { choice: 0, reason, native });
        }
        Ok(())
    }

    fn call(&mut self, call: &ToolCall<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        let function = call.function.as_ref();
        let name = function.map_or("", |function| wire::text(&function.name));
        if name.is_empty() {
            return Err(Fault::malformed("the provider sent a call without a name"));
        }
        let index = self.calls;
        self.calls += 1;
        match wire::text(&call.id) {
            "" => {
                let made = format!("{}_{index}", self.call_ids);
                sink.event(Event::Call { choice: 0, index, id: &made, name });
            }
            id => sink.event(Event::Call { choice: 0, index, id, name }),
        }
        let raw = function.and_then(|function| function.arguments).map_or("", |raw| raw.get());
        // Some imitations of the API send the object as a text, as OpenAI does.
        let unquoted: Option<String> = if raw.starts_with('"') { serde_json::from_str(raw).ok() } else { None };
        let json: Cow<'_, str> =
            unquoted.map_or_else(|| arguments(raw), |text| Cow::Owned(arguments(&text).into_owned()));
        sink.event(Event::Arguments { choice: 0, index, json: &json });
        Ok(())
    }
}
