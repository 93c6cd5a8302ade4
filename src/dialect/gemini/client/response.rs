//! Events of the hub put together to a whole `GenerateContentResponse`.

use super::parts::{Call, Ending, Parts, Writer};
use crate::dialect::event::Event;
use crate::dialect::openai_chat::write;
use crate::dialect::table::Setup;
use crate::domain::Usage;
use serde_json::{Value, json};

/// Puts the events of one answer together. It takes them in the same order as the stream's encoder, part by part, so that both give the
/// same answer.
pub struct UnaryEncoder {
    parts: Parts,
    head: Head,
    candidates: Vec<Candidate>,
}

/// What stands beside the candidates.
pub(super) struct Head {
    pub id: String,
    pub model: String,
    pub usage: Option<Usage>,
}

impl Head {
    pub fn new(setup: &Setup) -> Self {
        Self { id: setup.id.to_string(), model: setup.model.to_string(), usage: None }
    }

    /// Takes an event that is about the answer as a whole; `false` when it is another.
    pub fn take(&mut self, event: &Event<'_>) -> bool {
        match event {
            Event::Start { id, model } => {
                for (text, kept) in [(id, &mut self.id), (model, &mut self.model)] {
                    if !text.is_empty() {
                        (*text).clone_into(kept);
                    }
                }
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            _ => return false,
        }
        true
    }

    /// Writes it behind the candidates.
    pub fn write(&self, out: &mut Vec<u8>) {
        if let Some(usage) = &self.usage {
            write::key("usageMetadata", out);
            write_usage(usage, out);
        }
        write::string_member("modelVersion", &self.model, out);
        write::string_member("responseId", &self.id, out);
    }
}

impl UnaryEncoder {
    /// An encoder for one answer.
    pub fn new(setup: &Setup) -> Self {
        Self { parts: Parts::new(setup), head: Head::new(setup), candidates: Vec::new() }
    }

    /// Takes one event.
    pub fn add(&mut self, event: &Event<'_>) {
        if !self.head.take(event) {
            self.parts.take(event, &mut Candidates(&mut self.candidates));
        }
    }

    /// Writes the answer.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        write::raw("{\"candidates\":[", out);
        for (place, ending) in self.parts.finish().iter().enumerate() {
            write::raw(if place > 0 { "," } else { "" }, out);
            let mut candidates = Candidates(&mut self.candidates);
            let candidate = candidates.at(ending.index);
            candidate.flush();
            if candidate.written.is_empty() {
                write_text(false, "", None, &mut candidate.written);
            }
            begin_candidate(out);
            out.extend_from_slice(&candidate.written);
            end_candidate(ending.index, out);
            write_ending(ending, out);
            if !candidate.logprobs.is_empty() {
                write::key("logprobsResult", out);
                write::value(&logprobs_result(&candidate.logprobs), out);
            }
            write::raw("}", out);
        }
        write::raw("]", out);
        self.head.write(out);
        write::raw("}", out);
    }
}

/// A candidate as JSON; of an open text the pieces are kept apart until it is whole.
#[derive(Default)]
struct Candidate {
    index: u32,
    written: Vec<u8>,
    /// Whether it is a thought, and the text.
    open: Option<(bool, String)>,
    logprobs: Vec<Value>,
}

impl Candidate {
    fn part(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.flush();
        separate(&mut self.written);
        write(&mut self.written);
    }

    fn piece(&mut self, is_thought: bool, text: &str, signature: Option<&str>) {
        if self.open.as_ref().is_some_and(|(kind, _)| *kind != is_thought) {
            self.flush();
        }
        let (_, whole) = self.open.get_or_insert((is_thought, String::new()));
        whole.push_str(text);
        if signature.is_some() {
            self.close(signature);
        }
    }

    fn flush(&mut self) {
        self.close(None);
    }

    fn close(&mut self, signature: Option<&str>) {
        if let Some((is_thought, text)) = self.open.take() {
            separate(&mut self.written);
            write_text(is_thought, &text, signature, &mut self.written);
        }
    }
}

fn separate(out: &mut Vec<u8>) {
    if !out.is_empty() {
        out.push(b',');
    }
}

struct Candidates<'a>(&'a mut Vec<Candidate>);

impl Candidates<'_> {
    fn at(&mut self, index: u32) -> &mut Candidate {
        let at = self.0.iter().position(|candidate| candidate.index == index).unwrap_or_else(|| {
            self.0.push(Candidate { index, ..Candidate::default() });
            self.0.len() - 1
        });
        &mut self.0[at]
    }
}

impl Writer for Candidates<'_> {
    fn text(&mut self, choice: u32, text: &str, signature: Option<&str>) {
        self.at(choice).piece(false, text, signature);
    }

    fn thought(&mut self, choice: u32, text: &str, signature: Option<&str>) {
        self.at(choice).piece(true, text, signature);
    }

    fn call(&mut self, choice: u32, call: &Call, signature: Option<&str>) {
        self.at(choice).part(|out| write_call(call, signature, out));
    }

    fn image(&mut self, choice: u32, media_type: &str, data: &str) {
        self.at(choice).part(|out| write_image(media_type, data, out));
    }

    fn logprobs(&mut self, choice: u32, content: &[Value]) {
        self.at(choice).logprobs.extend_from_slice(content);
    }
}

/// Opens a candidate up to its parts.
pub(super) fn begin_candidate(out: &mut Vec<u8>) {
    write::raw("{\"content\":{\"parts\":[", out);
}

/// Ends its parts; what qualifies the candidate may follow.
pub(super) fn end_candidate(index: u32, out: &mut Vec<u8>) {
    write::raw("],\"role\":\"model\"},\"index\":", out);
    write::number(index.into(), out);
}

/// Writes how a candidate ended.
pub(super) fn write_ending(ending: &Ending, out: &mut Vec<u8>) {
    write::string_member("finishReason", &ending.reason, out);
    if let Some(grounding) = &ending.grounding {
        write::key("groundingMetadata", out);
        write::value(grounding, out);
    }
}

/// Writes a text or a thought.
pub(super) fn write_text(is_thought: bool, text: &str, signature: Option<&str>, out: &mut Vec<u8>) {
    out.push(b'{');
    write::string_member("text", text, out);
    if is_thought {
        write::raw(",\"thought\":true", out);
    }
    write_signature(signature, out);
    out.push(b'}');
}

fn write_signature(signature: Option<&str>, out: &mut Vec<u8>) {
    if let Some(signature) = signature {
        write::string_member("thoughtSignature", signature, out);
    }
}

/// Writes a call.
pub(super) fn write_call(call: &Call, signature: Option<&str>, out: &mut Vec<u8>) {
    write::raw("{\"functionCall\":{", out);
    write::string_member("id", &call.id, out);
    write::string_member("name", &call.name, out);
    write::key("args", out);
    write::raw(&call.args(), out);
    out.push(b'}');
    write_signature(signature, out);
    out.push(b'}');
}

/// Writes a picture.
pub(super) fn write_image(media_type: &str, data: &str, out: &mut Vec<u8>) {
    write::raw("{\"inlineData\":{", out);
    write::string_member("mimeType", media_type, out);
    write::string_member("data", data, out);
    write::raw("}}", out);
}

/// OpenAI's `logprobs.content[]` as `logprobsResult`.
pub(super) fn logprobs_result(content: &[Value]) -> Value {
    let item = |entry: &Value| json!({ "token": entry["token"], "logProbability": entry["logprob"] });
    let chosen: Vec<Value> = content.iter().map(item).collect();
    let top = |entry: &Value| {
        let candidates: Vec<Value> = entry["top_logprobs"].as_array().into_iter().flatten().map(item).collect();
        json!({ "candidates": candidates })
    };
    json!({ "topCandidates": content.iter().map(top).collect::<Vec<_>>(), "chosenCandidates": chosen })
}

/// Counts in Google's meaning: thoughts stand beside the candidates' tokens, what the cache gave is in the prompt's.
fn write_usage(usage: &Usage, out: &mut Vec<u8>) {
    let thoughts = usage.reasoning_tokens.unwrap_or(0).min(usage.completion_tokens);
    out.push(b'{');
    let counts = [
        ("promptTokenCount", Some(usage.prompt_tokens)),
        ("candidatesTokenCount", Some(usage.completion_tokens - thoughts)),
        ("totalTokenCount", Some(usage.total_tokens)),
        ("thoughtsTokenCount", usage.reasoning_tokens.map(|_| thoughts)),
        // Some say that more was cached than there was: it is a part of the prompt here.
        ("cachedContentTokenCount", usage.cached_tokens.map(|cached| cached.min(usage.prompt_tokens))),
    ];
    for (name, count) in counts {
        if let Some(count) = count {
            write::key(name, out);
            write::number(count, out);
        }
    }
    let details = [
        ("promptTokensDetails", usage.audio_prompt_tokens, usage.prompt_tokens),
        ("candidatesTokensDetails", usage.audio_completion_tokens, usage.completion_tokens - thoughts),
    ];
    for (name, audio, all) in details {
        if let Some(audio) = audio.filter(|audio| *audio > 0) {
            let entry = |modality: &str, count: u64| json!({ "modality": modality, "tokenCount": count });
            write::key(name, out);
            write::value(&json!([entry("TEXT", all.saturating_sub(audio)), entry("AUDIO", audio)]), out);
        }
    }
    out.push(b'}');
}
