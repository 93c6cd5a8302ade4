//! The machine that turns pieces of a Gemini answer into events; a unary answer is an answer in one piece.
//!
//! ```text
//!   Prelude ──first piece: Start──> Running ──(piece)*──> Running ──finish: citations, Finish per choice──> Ended
//!      └────────────────────────────────┴──────────── an error, a blocked prompt: Error ────────────────────^
//! ```
//!
//! What recorded traffic taught:
//! - A `finishReason` may come in the middle (`STOP` beside each `executableCode`), several times, and with text behind it. So it is
//!   only remembered, and told once per choice when the answer has ended cleanly.
//! - Usage is cumulative; each count of the last piece that has it is the count of the answer.
//! - `executableCode`, `codeExecutionResult`, `toolCall` and `toolResponse` are tools that Google ran itself. They are neither the
//!   client's calls nor visible text, so they are left out; their signatures come as encrypted reasoning under the tool's own id, which
//!   no later request puts on a wrong part.
//! - Enumerations are numbers where a client library wrote the JSON.

use super::calls::{self, OpenCall};
use super::citations::Sources;
use super::error;
use super::wire::{Candidate, CandidatePart, Chunk, Counts, FunctionCall, PromptFeedback, Word};
use crate::dialect::chat::FORMAT_GEMINI;
use crate::dialect::event::{Event, FinishReason, ReasoningDelta, ReasoningPiece, Sink};
use crate::domain::{Fault, FaultKind, Usage};
use serde_json::{Value, json};

/// The word for an answer whose prompt was blocked, where that counts as one.
const BLOCKED: &str = "SAFETY";

/// More candidates than any request may ask for; a bound for hostile providers.
const MAX_CHOICES: u32 = 128;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Prelude,
    Running,
    Ended,
}

/// One answer in the making.
#[derive(Debug, Default)]
pub struct Answer {
    stage: Stage,
    /// The tool whose arguments are the answer's text.
    answer_tool: Option<String>,
    /// The provider's id, from which ids of calls are made.
    id: String,
    counts: Counts,
    choices: Vec<Choice>,
    /// Whether a blocked prompt is an answer that is cut for its content, not a fault.
    takes_blocks: bool,
}

/// One candidate.
#[derive(Debug, Default)]
struct Choice {
    index: u32,
    /// How many of the client's tools were called.
    calls: u32,
    /// How many blocks of reasoning have begun.
    blocks: u32,
    thinking: Thinking,
    /// A call whose arguments come in pieces.
    open: Option<OpenCall>,
    sources: Sources,
    /// The last finish reason, in Google's word.
    finish: Option<String>,
}

/// Whether the next thought continues a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Thinking {
    #[default]
    Idle,
    /// In the block of this index.
    Block(u32),
}

impl Answer {
    /// The machine for one answer; `answer_tool` is [`crate::dialect::chat::Rendered::answer_tool`].
    pub fn new(answer_tool: Option<String>) -> Self {
        Self { answer_tool, ..Self::default() }
    }

    /// The machine that watches an answer which the client gets as it is: a blocked prompt is one too.
    pub fn watching() -> Self {
        Self { takes_blocks: true, ..Self::default() }
    }

    /// Whether every choice that began has a finish reason; more may follow all the same.
    pub fn has_finish_reason(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|choice| choice.finish.is_some())
    }

    /// Takes one frame of the stream, or the whole unary answer. Several JSON objects in one frame, as from a server that forgets
    /// the blank lines, are several pieces.
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
            self.chunk(chunk, sink)?;
        }
        Ok(())
    }

    /// Ends an answer that came to a clean end.
    ///
    /// # Errors
    /// `Truncated` when some choices are finished and others are not. An answer without any finish reason is left to the caller.
    pub fn finish(&mut self, sink: &mut impl Sink) -> Result<(), Fault> {
        if self.stage == Stage::Ended || self.choices.iter().all(|choice| choice.finish.is_none()) {
            return Ok(());
        }
        if self.choices.iter().any(|choice| choice.finish.is_none()) {
            return Err(Fault::new(FaultKind::Truncated, "the provider left a choice without a finish reason"));
        }
        self.choices.sort_by_key(|choice| choice.index);
        for choice in &mut self.choices {
            if let Some(open) = choice.open.take() {
                choice.arguments(open, sink);
            }
            choice.sources.cite(choice.index, sink);
            let native = choice.finish.take().unwrap_or_default();
            let reason = finish_reason(&native, choice.calls > 0);
            sink.event(Event::Finish { choice: choice.index, reason, native: &native });
        }
        self.stage = Stage::Ended;
        Ok(())
    }

    fn chunk(&mut self, chunk: Chunk<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        if let Some(raw) = chunk.error {
            let value: Value = serde_json::from_str(raw.get()).unwrap_or_default();
            return self.fail(error::read(value).into_fault(None), sink);
        }
        if self.stage == Stage::Prelude {
            self.stage = Stage::Running;
            self.id = chunk.response_id.as_ref().map(|id| id.0.to_string()).unwrap_or_default();
            let model = chunk.model_version.as_ref().map_or("", |model| &model.0);
            sink.event(Event::Start { id: &self.id, model });
        }
        if let Some(counts) = &chunk.usage_metadata
            && self.counts.merge(counts)
        {
            sink.event(Event::Usage(usage(&self.counts)));
        }
        let candidates = chunk.candidates.unwrap_or_default();
        if candidates.is_empty()
            && let Some(feedback) = chunk.prompt_feedback
            && let Some(fault) = blocked(&feedback)
        {
            if self.takes_blocks {
                self.choices.push(Choice { finish: Some(BLOCKED.to_owned()), ..Choice::default() });
                return Ok(());
            }
            return self.fail(fault, sink);
        }
        for (position, candidate) in candidates.into_iter().enumerate() {
            self.candidate(position, candidate, sink)?;
        }
        Ok(())
    }

    fn fail(&mut self, fault: Fault, sink: &mut impl Sink) -> Result<(), Fault> {
        self.stage = Stage::Ended;
        sink.event(Event::Error(fault));
        Ok(())
    }

    fn candidate(&mut self, position: usize, candidate: Candidate<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        // Vertex leaves the index of the first candidate out.
        let index = candidate.index.unwrap_or(u32::try_from(position).unwrap_or(u32::MAX));
        if index >= MAX_CHOICES {
            return Err(Fault::malformed("the provider sent more choices than can be asked for"));
        }
        let at = match self.choices.iter().position(|choice| choice.index == index) {
            Some(at) => at,
            None => {
                self.choices.push(Choice { index, ..Choice::default() });
                self.choices.len() - 1
            }
        };
        let names = Names { answer_tool: self.answer_tool.as_deref(), id: &self.id };
        let choice = &mut self.choices[at];
        for part in candidate.content.and_then(|content| content.parts).unwrap_or_default() {
            choice.part(part, &names, sink)?;
        }
        if let Some(result) = &candidate.logprobs_result {
            let content = result.content();
            if !content.is_empty() {
                sink.event(Event::Logprobs { choice: index, content: &content });
            }
        }
        if let Some(metadata) = candidate.grounding_metadata {
            choice.sources.ground(metadata);
        }
        if let Some(metadata) = candidate.citation_metadata {
            choice.sources.recite(metadata);
        }
        if let Some(word) = candidate.finish_reason
            && let Some(native) = word.finish_reason()
        {
            choice.finish = Some(native.into_owned());
        }
        Ok(())
    }
}

/// What a part needs to know of the answer around it.
struct Names<'a> {
    answer_tool: Option<&'a str>,
    id: &'a str,
}

impl Choice {
    fn part(&mut self, part: CandidatePart<'_>, names: &Names<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        let signature =
            part.thought_signature.as_ref().map(|signature| signature.0.as_ref()).filter(|text| !text.is_empty());
        if let Some(call) = part.function_call {
            self.thinking = Thinking::Idle;
            return self.call(&call, signature, names, sink);
        }
        if let Some(text) = &part.text {
            if part.thought == Some(true) {
                self.thought(&text.0, signature, sink);
                return Ok(());
            }
            if !text.0.is_empty() {
                self.thinking = Thinking::Idle;
                self.sources.text(&text.0);
                sink.event(Event::Text { choice: self.index, text: &text.0 });
            }
        }
        // Sound comes this way too; its type is in the data URL.
        if let Some(blob) = &part.inline_data
            && let Some(data) = &blob.data
            && part.thought != Some(true)
        {
            self.thinking = Thinking::Idle;
            let media_type = blob.mime_type.as_ref().map_or("application/octet-stream", |name| &name.0);
            sink.event(Event::Image { choice: self.index, media_type, data: &data.0 });
        }
        if let Some(signature) = signature {
            let tool = part.server_tool().map(|id| if id.is_empty() { "server_tool" } else { id });
            self.encrypted(tool, signature, sink);
        }
        Ok(())
    }

    fn thought(&mut self, text: &str, signature: Option<&str>, sink: &mut impl Sink) {
        if text.is_empty() && signature.is_none() {
            return;
        }
        let index = match self.thinking {
            Thinking::Block(index) => index,
            Thinking::Idle => {
                self.blocks += 1;
                self.blocks - 1
            }
        };
        self.thinking = Thinking::Block(index);
        if !text.is_empty() {
            self.reasoning(index, None, ReasoningPiece::Text(text), sink);
        }
        if let Some(signature) = signature {
            self.thinking = Thinking::Idle;
            self.reasoning(index, None, ReasoningPiece::Signature(signature), sink);
        }
    }

    fn encrypted(&mut self, id: Option<&str>, signature: &str, sink: &mut impl Sink) {
        self.thinking = Thinking::Idle;
        self.blocks += 1;
        self.reasoning(self.blocks - 1, id, ReasoningPiece::Encrypted(signature), sink);
    }

    fn reasoning(&self, index: u32, id: Option<&str>, piece: ReasoningPiece<'_>, sink: &mut impl Sink) {
        let delta = ReasoningDelta { index, id, format: FORMAT_GEMINI, piece };
        sink.event(Event::Reasoning { choice: self.index, delta });
    }

    /// A whole call, or a piece of one: the name first, then paths with values, then an empty object.
    fn call(
        &mut self,
        call: &FunctionCall<'_>,
        signature: Option<&str>,
        names: &Names<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), Fault> {
        let Some(name) = call.name.as_ref().map(|name| name.0.as_ref()).filter(|name| !name.is_empty()) else {
            return self.continue_call(call, sink);
        };
        if let Some(open) = self.open.take() {
            self.arguments(open, sink);
        }
        let args = calls::arguments(call.args.map_or("", |args| args.get()));
        let more = call.will_continue == Some(true) || call.partial_args.is_some();
        if names.answer_tool == Some(name) {
            if let Some(signature) = signature {
                self.encrypted(None, signature, sink);
            }
            if more {
                self.open = Some(OpenCall::answer());
                return self.continue_call(call, sink);
            }
            self.sources.text(&args);
            sink.event(Event::Text { choice: self.index, text: &args });
            return Ok(());
        }
        let given = call.id.as_ref().map(|id| id.0.as_ref()).filter(|id| !id.is_empty());
        let made = match given {
            Some(_) => String::new(),
            None => calls::make_id(names.id, self.index, self.calls, &[name, &args, signature.unwrap_or_default()]),
        };
        let id = given.unwrap_or(&made);
        if let Some(signature) = signature {
            self.encrypted(Some(id), signature, sink);
        }
        let index = self.calls;
        self.calls += 1;
        sink.event(Event::Call { choice: self.index, index, id, name });
        if more {
            self.open = Some(OpenCall::new(index));
            return self.continue_call(call, sink);
        }
        sink.event(Event::Arguments { choice: self.index, index, json: &args });
        Ok(())
    }

    fn continue_call(&mut self, call: &FunctionCall<'_>, sink: &mut impl Sink) -> Result<(), Fault> {
        let Some(mut open) = self.open.take() else {
            return match (&call.args, &call.partial_args) {
                (None, None) => Ok(()),
                _ => Err(Fault::malformed("the provider sent arguments of a call that has no name")),
            };
        };
        for piece in call.partial_args.iter().flatten() {
            open.set(piece)?;
        }
        if let Some(args) = call.args {
            open.replace(args);
        }
        if call.will_continue == Some(true) {
            self.open = Some(open);
        } else {
            self.arguments(open, sink);
        }
        Ok(())
    }

    fn arguments(&mut self, open: OpenCall, sink: &mut impl Sink) {
        let (index, json) = open.close();
        match index {
            Some(index) => sink.event(Event::Arguments { choice: self.index, index, json: &json }),
            None => {
                self.sources.text(&json);
                sink.event(Event::Text { choice: self.index, text: &json });
            }
        }
    }
}

/// OpenAI's word for Google's. The hub has four words; what none of them fits counts as `stop` (`tool_calls` beside calls), and the
/// provider's own word goes along.
pub(super) fn finish_reason(native: &str, calls: bool) -> FinishReason {
    match native {
        "MAX_TOKENS" | "CONTINUATION" => FinishReason::Length,
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR"
        | "ESCALATION"
        | "PUP_LIMITED_DISABLED" => FinishReason::ContentFilter,
        // STOP, and the model's own mishaps: OTHER, MALFORMED_FUNCTION_CALL, UNEXPECTED_TOOL_CALL, TOO_MANY_TOOL_CALLS, NO_IMAGE …
        _ if calls => FinishReason::ToolCalls,
        _ => FinishReason::Stop,
    }
}

/// Whether this is one of Google's finish reasons that says more than OpenAI's word for it.
pub(super) fn is_word(native: &str) -> bool {
    const OTHERS: [&str; 8] = [
        "STOP",
        "OTHER",
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "NO_IMAGE",
        "IMAGE_OTHER",
        "MAX_TOKENS",
    ];
    OTHERS.contains(&native) || finish_reason(native, false) == FinishReason::ContentFilter
}

/// The fault of a prompt that was refused as a whole.
fn blocked(feedback: &PromptFeedback<'_>) -> Option<Fault> {
    let reason = match feedback.block_reason.as_ref()? {
        Word::Text(word) if word.is_empty() || word.ends_with("_UNSPECIFIED") => return None,
        Word::Text(word) => word.to_string(),
        Word::Number(0) => return None,
        Word::Number(number) => number.to_string(),
    };
    let message =
        match feedback.block_reason_message.as_ref().map(|text| text.0.as_ref()).filter(|text| !text.is_empty()) {
            Some(text) => format!("the provider blocked the prompt ({reason}): {text}"),
            None => format!("the provider blocked the prompt ({reason})"),
        };
    Some(Fault { code: Some(reason), ..Fault::new(FaultKind::ContentFilter, message) })
}

/// Google's counts in OpenAI's meaning: what server tools fed back is input, thoughts are output.
fn usage(counts: &Counts) -> Usage {
    let prompt_tokens =
        counts.prompt_token_count.unwrap_or(0).saturating_add(counts.tool_use_prompt_token_count.unwrap_or(0));
    let completion_tokens =
        counts.candidates_token_count.unwrap_or(0).saturating_add(counts.thoughts_token_count.unwrap_or(0));
    Usage {
        prompt_tokens,
        completion_tokens,
        total_tokens: counts.total_token_count.unwrap_or(prompt_tokens.saturating_add(completion_tokens)),
        cached_tokens: counts.cached_content_token_count,
        reasoning_tokens: counts.thoughts_token_count,
        audio_prompt_tokens: counts.prompt_audio,
        audio_completion_tokens: counts.candidates_audio,
        ..Usage::default()
    }
}

impl super::wire::LogprobsResult<'_> {
    /// The tokens in OpenAI's `logprobs.content[]` form.
    fn content(&self) -> Vec<Value> {
        let tops = self.top_candidates.as_deref().unwrap_or_default();
        let chosen = self.chosen_candidates.as_deref().unwrap_or_default();
        let item = |entry: &super::wire::TokenLogprob<'_>| {
            let token = entry.token.as_ref().map_or("", |token| &token.0);
            json!({ "token": token, "logprob": entry.log_probability.unwrap_or(0.0), "bytes": token.as_bytes() })
        };
        chosen
            .iter()
            .enumerate()
            .map(|(at, entry)| {
                let alternatives = tops.get(at).and_then(|top| top.candidates.as_deref()).unwrap_or_default();
                let mut value = item(entry);
                value["top_logprobs"] = alternatives.iter().map(item).collect();
                value
            })
            .collect()
    }
}
