//! `[[preset]]`: checked as if every one had been asked for already.

use super::super::problem::At;
use super::super::raw::*;
use super::super::snapshot::Preset;
use super::Compiler;
use crate::dialect::openai_chat::envelope::Envelope;
use crate::dialect::openai_chat::request;
use std::sync::Arc;

/// What a preset has settings of its own for, or what is the request's alone.
const NOT_PARAMETERS: [&str; 8] = ["model", "messages", "stream", "extra", "models", "fallbacks", "route", "preset"];

impl Compiler<'_> {
    /// The presets, each valid in itself.
    pub(super) fn presets(
        &mut self,
        raw: Vec<RawPreset>,
        models: &[RawAlias],
        written: &[RawProvider],
    ) -> Vec<Arc<Preset>> {
        let mut presets: Vec<Arc<Preset>> = Vec::new();
        for raw in raw {
            let slug = &raw.slug;
            if presets.iter().any(|preset| *preset.slug == *slug.value) {
                self.report.error(slug.problem(format!("there are two presets called {:?}", slug.value)));
            }
            if !slug.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
                self.report.error(slug.problem("may hold letters, digits, dots, hyphens and underscores only"));
            }
            let fallbacks = raw.fallbacks.unwrap_or_default();
            for model in raw.model.iter().chain(&fallbacks).filter(|model| model.value != "auto") {
                self.model(model, models, written);
            }
            self.parameters(&raw.parameters);
            presets.push(Arc::new(Preset {
                slug: slug.value.as_str().into(),
                name: raw.name.map(|at| at.value),
                model: raw.model.map(|at| at.value),
                fallbacks: fallbacks.into_iter().map(|at| at.value).collect(),
                strategy: raw.strategy.map(|at| at.value),
                system: raw.system.map(|at| at.value),
                parameters: raw.parameters.into_iter().map(|at| at.value).collect(),
            }));
        }
        presets
    }

    /// Reports parameters that no request may have, each by itself.
    fn parameters(&mut self, parameters: &[At<(String, String)>]) {
        for at in parameters {
            let (name, json) = &at.value;
            if NOT_PARAMETERS.contains(&name.as_str()) {
                let message =
                    format!("{name} is no parameter of a preset: it has a setting of its own, or is the request's");
                self.report.error(at.problem(message));
                continue;
            }
            // The routes that are not for conversations have a member of this name too, and there it is a word.
            if name == "response_format" && json.starts_with('"') {
                continue;
            }
            let name = serde_json::Value::from(name.as_str());
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{name}:{json}}}"#);
            let read = Envelope::scan(body.into()).and_then(|envelope| request::parse(envelope.body()).map(drop));
            if let Err(fault) = read {
                self.report.error(at.problem(fault.message));
            }
        }
    }
}
