//! Whole answers: written from the hub's events, and read into them.
//!
//! Source: OpenAI's `chat.completion` object; `reasoning_details` and `images` in OpenRouter's form.

use super::chunk::{Finish, finish_reason};
use super::stream::{outlives_exclusion, write_detail, write_image, write_signed};
use super::{error, usage, write};
use crate::dialect::chat::{FORMAT_ANTHROPIC, FORMAT_GEMINI, ReasoningDetail, ReasoningKind, ToolCall};
use crate::dialect::event::{Event, FinishReason, ReasoningDelta, ReasoningPiece, Sink};
use crate::dialect::table::Setup;
use crate::domain::{Fault, FaultKind, Usage};
use serde_json::Value;

/// Puts the events of one answer together and writes it as a `chat.completion`.
pub struct UnaryEncoder {
    id: String,
    model: String,
    created: u64,
    exclude_reasoning: bool,
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Default)]
struct Choice {
    index: u32,
    text: String,
    refusal: String,
    reasoning: Vec<ReasoningDetail>,
    annotations: Vec<Value>,
    images: Vec<(String, String)>,
    calls: Vec<(u32, ToolCall)>,
    logprobs: Vec<Value>,
    finish: Option<FinishReason>,
}

impl UnaryEncoder {
    /// An encoder for one answer.
    pub fn new(setup: &Setup) -> Self {
        Self {
            id: setup.id.to_string(),
            model: setup.model.to_string(),
            created: setup.created,
            exclude_reasoning: setup.exclude_reasoning,
            choices: Vec::new(),
            usage: None,
        }
    }

    /// Takes one event.
    pub fn add(&mut self, event: &Event<'_>) {
        match event {
            Event::Start { id, model } => {
                for (text, kept) in [(id, &mut self.id), (model, &mut self.model)] {
                    if !text.is_empty() {
                        (*text).clone_into(kept);
                    }
                }
            }
            Event::Text { choice, text } => self.choice(*choice).text.push_str(text),
            Event::Refusal { choice, text } => self.choice(*choice).refusal.push_str(text),
            Event::Reasoning { choice, delta } => {
                if !self.exclude_reasoning || outlives_exclusion(delta) {
                    add_reasoning(&mut self.choice(*choice).reasoning, delta);
                }
            }
            Event::Call { choice, index, id, name } => {
                let call = ToolCall { id: (*id).to_owned(), name: (*name).to_owned(), arguments: String::new() };
                self.choice(*choice).calls.push((*index, call));
            }
            Event::Arguments { choice, index, json } => {
                let calls = &mut self.choice(*choice).calls;
                if let Some((_, call)) = calls.iter_mut().find(|(known, _)| known == index) {
                    call.arguments.push_str(json);
                }
            }
            Event::Annotation { choice, value } => self.choice(*choice).annotations.push((*value).clone()),
            Event::Image { choice, media_type, data } => {
                self.choice(*choice).images.push(((*media_type).to_owned(), (*data).to_owned()));
            }
            Event::Logprobs { choice, content } => self.choice(*choice).logprobs.extend_from_slice(content),
            Event::Finish { choice, reason, .. } => {
                self.choice(*choice).finish.get_or_insert(*reason);
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Error(_) => {}
        }
    }

    /// Writes the answer.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.choices.sort_by_key(|choice| choice.index);
        write::raw("{", out);
        write::string_member("id", &self.id, out);
        write::string_member("object", "chat.completion", out);
        write::key("created", out);
        write::number(self.created, out);
        write::string_member("model", &self.model, out);
        write::key("choices", out);
        write_list(&self.choices, out, Choice::write);
        if let Some(counts) = &self.usage {
            write::key("usage", out);
            usage::write(counts, out);
        }
        write::raw("}", out);
    }

    fn choice(&mut self, index: u32) -> &mut Choice {
        let slot = self.choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
            self.choices.push(Choice { index, ..Choice::default() });
            self.choices.len() - 1
        });
        &mut self.choices[slot]
    }
}

impl Choice {
    fn write(&self, out: &mut Vec<u8>) {
        write::raw("{", out);
        write::key("index", out);
        write::number(u64::from(self.index), out);
        write::key("message", out);
        self.write_message(out);
        write::key("logprobs", out);
        if self.logprobs.is_empty() {
            write::raw("null", out);
        } else {
            write::raw("{\"content\":", out);
            write_list(&self.logprobs, out, write::value);
            write::raw("}", out);
        }
        write::key("finish_reason", out);
        match self.finish {
            Some(reason) => write::string(reason.as_str(), out),
            None => write::raw("null", out),
        }
        write::raw("}", out);
    }

    fn write_message(&self, out: &mut Vec<u8>) {
        write::raw("{\"role\":\"assistant\",\"content\":", out);
        if self.text.is_empty() && !(self.calls.is_empty() && self.refusal.is_empty()) {
            write::raw("null", out);
        } else {
            write::string(&self.text, out);
        }
        write::key("refusal", out);
        if self.refusal.is_empty() {
            write::raw("null", out);
        } else {
            write::string(&self.refusal, out);
        }
        let thoughts: String = self.reasoning.iter().filter_map(visible).collect();
        if !thoughts.is_empty() {
            write::string_member("reasoning_content", &thoughts, out);
        }
        if !self.reasoning.is_empty() {
            write::key("reasoning_details", out);
            write_list(&self.reasoning, out, write_whole_detail);
        }
        if !self.annotations.is_empty() {
            write::key("annotations", out);
            write_list(&self.annotations, out, write::value);
        }
        if !self.images.is_empty() {
            write::key("images", out);
            write_list(&self.images, out, |(media_type, data), out| {
                out.push(b'{');
                write_image(media_type, data, out);
                out.push(b'}');
            });
        }
        if !self.calls.is_empty() {
            write::key("tool_calls", out);
            write_list(&self.calls, out, |(_, call), out| write_call(call, out));
        }
        write::raw("}", out);
    }
}

fn write_list<T>(items: &[T], out: &mut Vec<u8>, each: impl Fn(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        each(item, out);
    }
    out.push(b']');
}

fn write_call(call: &ToolCall, out: &mut Vec<u8>) {
    write::raw("{", out);
    write::string_member("id", &call.id, out);
    write::raw(",\"type\":\"function\",\"function\":{", out);
    write::string_member("name", &call.name, out);
    write::string_member("arguments", if call.arguments.is_empty() { "{}" } else { &call.arguments }, out);
    write::raw("}}", out);
}

fn write_whole_detail(detail: &ReasoningDetail, out: &mut Vec<u8>) {
    let (id, format) = (detail.id.as_deref(), detail.format.as_deref().unwrap_or_default());
    let piece = match &detail.kind {
        ReasoningKind::Text { text, signature: None } => ReasoningPiece::Text(text),
        ReasoningKind::Text { text, signature: Some(signature) } => {
            return write_signed(detail.index, id, format, (text, signature), out);
        }
        ReasoningKind::Summary(text) => ReasoningPiece::Summary(text),
        ReasoningKind::Encrypted(data) => ReasoningPiece::Encrypted(data),
    };
    write_detail(detail.index, id, format, piece, out);
}

fn visible(detail: &ReasoningDetail) -> Option<&str> {
    match &detail.kind {
        ReasoningKind::Text { text, .. } | ReasoningKind::Summary(text) => Some(text),
        ReasoningKind::Encrypted(_) => None,
    }
}

/// Puts a piece to the block of its index, or begins that block.
fn add_reasoning(details: &mut Vec<ReasoningDetail>, delta: &ReasoningDelta<'_>) {
    let block = details.iter_mut().rev().find(|detail| detail.index == delta.index);
    let joined = match (block.map(|detail| &mut detail.kind), delta.piece) {
        (Some(ReasoningKind::Text { text, .. }), ReasoningPiece::Text(more)) => {
            text.push_str(more);
            true
        }
        (Some(ReasoningKind::Text { signature, .. }), ReasoningPiece::Signature(more)) => {
            signature.get_or_insert_default().push_str(more);
            true
        }
        (Some(ReasoningKind::Summary(text)), ReasoningPiece::Summary(more)) => {
            text.push_str(more);
            true
        }
        _ => false,
    };
    if !joined {
        details.push(ReasoningDetail {
            kind: delta.piece.to_kind(),
            id: delta.id.map(str::to_owned),
            format: (!delta.format.is_empty()).then_some(delta.format.into()),
            index: delta.index,
        });
    }
}

/// Reads a whole `chat.completion` into events. Calls without an id get one that begins with `call_ids`.
///
/// # Errors
/// `Malformed` or `Truncated` when it is none. An error inside it comes as [`Event::Error`].
pub fn decode(body: &[u8], call_ids: &str, sink: &mut impl Sink) -> Result<(), Fault> {
    let answer: Value = serde_json::from_slice(body).map_err(|broken| {
        if broken.is_eof() {
            Fault::new(FaultKind::Truncated, "the provider's answer broke off before it was complete")
        } else {
            Fault::malformed("the provider's answer is not the JSON it should be")
        }
    })?;
    let choices = answer["choices"].as_array().map(Vec::as_slice).unwrap_or_default();
    let failed = !answer["error"].is_null() || choices.iter().any(|choice| !choice["error"].is_null());
    if failed || answer["object"] == "error" || (choices.is_empty() && !answer["detail"].is_null()) {
        let inner = choices.iter().map(|choice| &choice["error"]).find(|error| !error.is_null());
        let body =
            inner.map_or_else(|| body.to_vec(), |error| serde_json::json!({ "error": error }).to_string().into_bytes());
        sink.event(Event::Error(error::parse(&body).into_fault(None)));
        return Ok(());
    }
    if choices.is_empty() {
        return Err(Fault::malformed("the provider's answer has no choices"));
    }
    let text = |name: &str| answer[name].as_str().unwrap_or_default();
    sink.event(Event::Start { id: text("id"), model: text("model") });
    for (ordinal, choice) in (0..).zip(choices) {
        let index = choice["index"].as_u64().and_then(|index| u32::try_from(index).ok()).unwrap_or(ordinal);
        decode_choice(index, choice, call_ids, sink);
    }
    if let Some(counts) = usage::parse(answer["usage"].to_string().as_bytes()) {
        sink.event(Event::Usage(counts));
    }
    Ok(())
}

fn decode_choice(choice: u32, value: &Value, call_ids: &str, sink: &mut impl Sink) {
    let message = &value["message"];
    decode_reasoning(choice, message, sink);
    match &message["content"] {
        Value::String(text) => sink.event(Event::Text { choice, text }),
        Value::Array(parts) => {
            for text in parts.iter().filter_map(|part| part["text"].as_str()) {
                sink.event(Event::Text { choice, text });
            }
        }
        _ => {}
    }
    if let Some(text) = message["refusal"].as_str() {
        sink.event(Event::Refusal { choice, text });
    }
    decode_extras(choice, message, sink);
    let content = items(&value["logprobs"]["content"]);
    if !content.is_empty() {
        sink.event(Event::Logprobs { choice, content });
    }
    let has_calls = decode_calls(choice, message, call_ids, sink);
    if let Some(native) = value["finish_reason"].as_str() {
        match finish_reason(native) {
            Finish::Reason(FinishReason::Stop) if has_calls => {
                sink.event(Event::Finish { choice, reason: FinishReason::ToolCalls, native });
            }
            Finish::Reason(reason) => sink.event(Event::Finish { choice, reason, native }),
            Finish::Failed => {
                let message = "the provider ended the answer with an error";
                sink.event(Event::Error(Fault::new(FaultKind::ServerError, message)));
            }
        }
    }
}

/// Citations and pictures.
pub(super) fn decode_extras(choice: u32, message: &Value, sink: &mut impl Sink) {
    for value in items(&message["annotations"]) {
        sink.event(Event::Annotation { choice, value });
    }
    for image in items(&message["images"]) {
        let url = image["image_url"]["url"].as_str().unwrap_or_default();
        if let Some((media_type, data)) = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
            sink.event(Event::Image { choice, media_type, data });
        }
    }
}

/// The calls of a message, the old `function_call` included; whether there are any.
fn decode_calls(choice: u32, message: &Value, call_ids: &str, sink: &mut impl Sink) -> bool {
    let old = Some(&message["function_call"]).filter(|call| call["name"].as_str().is_some_and(|name| !name.is_empty()));
    let calls = items(&message["tool_calls"]);
    for (index, call) in (0..).zip(calls.iter().chain(old)) {
        let made = format!("{call_ids}_{choice}_{index}");
        let id = call["id"].as_str().filter(|id| !id.is_empty()).unwrap_or(&made);
        // A `custom` tool's call has its name and its input there; the old form has them at once.
        let inner = ["function", "custom"].into_iter().map(|kind| &call[kind]).find(|inner| inner["name"].is_string());
        let inner = inner.unwrap_or(call);
        sink.event(Event::Call { choice, index, id, name: inner["name"].as_str().unwrap_or_default() });
        let arguments = match [&inner["arguments"], &inner["input"]].into_iter().find(|text| !text.is_null()) {
            // Some write that there are none as JSON's word for nothing.
            Some(Value::String(arguments)) if arguments.trim() != "null" => arguments.clone(),
            Some(Value::String(_)) => String::new(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        sink.event(Event::Arguments { choice, index, json: if arguments.is_empty() { "{}" } else { &arguments } });
    }
    !calls.is_empty() || old.is_some()
}

/// Thoughts, in whichever of their many places they stand.
pub(super) fn decode_reasoning(choice: u32, message: &Value, sink: &mut impl Sink) {
    let mut reason = |index, id, format, piece| {
        sink.event(Event::Reasoning { choice, delta: ReasoningDelta { index, id, format, piece } });
    };
    let details = items(&message["reasoning_details"]);
    for (index, detail) in (0..).zip(details) {
        let index = detail["index"].as_u64().and_then(|index| u32::try_from(index).ok()).unwrap_or(index);
        let format = [FORMAT_ANTHROPIC, FORMAT_GEMINI].into_iter().find(|format| detail["format"] == **format);
        let (id, format) = (detail["id"].as_str(), format.unwrap_or_default());
        if let Some(text) = detail["text"].as_str() {
            reason(index, id, format, ReasoningPiece::Text(text));
        }
        if let Some(signature) = detail["signature"].as_str() {
            reason(index, id, format, ReasoningPiece::Signature(signature));
        }
        if let Some(text) = detail["summary"].as_str() {
            reason(index, id, format, ReasoningPiece::Summary(text));
        }
        if let Some(data) = detail["data"].as_str() {
            reason(index, id, format, ReasoningPiece::Encrypted(data));
        }
    }
    if !details.is_empty() {
        return;
    }
    let mut plain = ["reasoning_content", "reasoning"].into_iter().filter_map(|name| message[name].as_str());
    if let Some(text) = plain.find(|text| !text.is_empty()) {
        reason(0, None, "", ReasoningPiece::Text(text));
    }
    for part in items(&message["content"]) {
        for text in items(&part["thinking"]).iter().filter_map(|thought| thought["text"].as_str()) {
            reason(0, None, "", ReasoningPiece::Text(text));
        }
        if let Some(text) = part["thinking"].as_str() {
            reason(0, None, "", ReasoningPiece::Text(text));
        }
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
