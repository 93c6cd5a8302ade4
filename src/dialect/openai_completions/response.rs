//! Whole answers: written from the hub's events as one `text_completion`.

use super::stream::{OBJECT, reason};
use crate::dialect::event::{Event, FinishReason};
use crate::dialect::openai_chat::{usage, write};
use crate::dialect::table::Setup;
use crate::domain::Usage;

/// Puts the events of one answer together and writes it. Of a chat's answer there is a place for its text alone.
pub struct UnaryEncoder {
    id: String,
    model: String,
    created: u64,
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

struct Choice {
    index: u32,
    text: String,
    finish: Option<FinishReason>,
}

impl UnaryEncoder {
    /// An encoder for one answer.
    pub fn new(setup: &Setup) -> Self {
        let (id, model) = (setup.id.to_string(), setup.model.to_string());
        Self { id, model, created: setup.created, choices: Vec::new(), usage: None }
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
            Event::Text { choice, text } | Event::Refusal { choice, text } => self.choice(*choice).text.push_str(text),
            Event::Finish { choice, reason, .. } => {
                self.choice(*choice).finish.get_or_insert(*reason);
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Reasoning { .. }
            | Event::Call { .. }
            | Event::Arguments { .. }
            | Event::Annotation { .. }
            | Event::Image { .. }
            | Event::Logprobs { .. }
            | Event::Error(_) => {}
        }
    }

    /// Writes the answer.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.choices.sort_by_key(|choice| choice.index);
        write::raw("{", out);
        write::string_member("id", &self.id, out);
        write::string_member("object", OBJECT, out);
        write::key("created", out);
        write::number(self.created, out);
        write::string_member("model", &self.model, out);
        write::raw(",\"choices\":[", out);
        for (place, choice) in self.choices.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            write::raw("{\"text\":", out);
            write::string(&choice.text, out);
            write::raw(",\"index\":", out);
            write::number(u64::from(choice.index), out);
            write::raw(",\"logprobs\":null,\"finish_reason\":", out);
            match choice.finish {
                Some(finish) => write::string(reason(finish), out),
                None => write::raw("null", out),
            }
            out.push(b'}');
        }
        out.push(b']');
        if let Some(counts) = &self.usage {
            write::key("usage", out);
            usage::write(counts, out);
        }
        out.push(b'}');
    }

    fn choice(&mut self, index: u32) -> &mut Choice {
        let slot = self.choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
            self.choices.push(Choice { index, text: String::new(), finish: None });
            self.choices.len() - 1
        });
        &mut self.choices[slot]
    }
}
