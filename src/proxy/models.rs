//! `GET /v1/models`: what can be asked for, in OpenAI's shape with OpenRouter's additions.
//!
//! Source of the additions (`context_length`, `architecture`, `pricing`, `top_provider`, `supported_parameters`): OpenRouter's
//! documentation of its models list.

use super::core::{Core, Discovered};
use super::names::{Names, Target};
use super::preset;
use crate::config::scopes::KeyScopes;
use crate::config::snapshot::{Provider, Snapshot};
use crate::dialect::chat::Thinking;
use crate::domain::Money;
use crate::provider::{Class, ModelRow, Status};
use arc_swap::Guard;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The list, or one model of it.
pub(super) struct Listing<'a> {
    snapshot: &'a Snapshot,
    /// What is not allowed is not listed.
    scopes: Option<Arc<KeyScopes>>,
    discovered: Guard<Arc<Discovered>>,
}

impl<'a> Listing<'a> {
    pub(super) fn new(core: &Core, snapshot: &'a Snapshot, scopes: Option<Arc<KeyScopes>>) -> Self {
        Self { snapshot, scopes, discovered: core.discovered.load() }
    }

    /// Whether a target may be used, also under a name of the operator's own.
    fn allows(&self, provider: &Provider, model: &ModelRow, own_name: Option<&str>) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| {
            let by_name = own_name.is_some_and(|name| scopes.allows_name(name));
            scopes.allows_provider(provider) && (by_name || scopes.allows_model(provider, model))
        })
    }

    /// All models of the configured providers, the operator's own names and presets first.
    pub(super) fn list(&self) -> Value {
        let aliases = self.snapshot.aliases.iter().filter_map(|alias| self.named(&alias.name));
        let presets = self.snapshot.presets.iter().filter_map(|preset| self.named(&preset::listed(preset)?.0));
        let rows = self.snapshot.providers.iter().flat_map(|provider| {
            let local = provider.models.iter();
            let known = self.snapshot.catalog.models().iter().filter(|row| row.provider == provider.id);
            local
                .chain(known)
                .filter(|row| row.status != Status::Deprecated && self.allows(provider, row, None))
                .map(|row| item(&row.id, row))
        });
        let names = Names { snapshot: self.snapshot, discovered: &self.discovered };
        let found = self.discovered.iter().filter_map(|(id, models)| Some((self.snapshot.provider(id)?, models)));
        let discovered = found.flat_map(|(provider, models)| {
            models
                .iter()
                .map(|name| (name, names.at(provider, name).model))
                .filter(|(_, row)| self.allows(provider, row, None))
                .map(|(name, row)| item(&format!("{}/{name}", provider.id), &row))
                .collect::<Vec<_>>()
        });
        json!({"object": "list", "data": aliases.chain(presets).chain(rows).chain(discovered).collect::<Vec<_>>()})
    }

    /// The model of any name that a request could use; `None` when it means nothing.
    pub(super) fn named(&self, name: &str) -> Option<Value> {
        let names = Names { snapshot: self.snapshot, discovered: &self.discovered };
        if let Some(preset) = preset::of_name(self.snapshot, name) {
            let (_, model) = preset::listed(preset)?;
            let mut item = item(name, &names.resolve(model).ok()?.targets.first()?.model);
            item["owned_by"] = json!("orbyt");
            if let Some(shown) = &preset.name {
                item["name"] = json!(shown);
            }
            return Some(item);
        }
        let meaning = names.resolve(name).ok()?;
        let is_own_name = meaning.alias.is_some();
        let allowed = |target: &&Target| self.allows(&target.provider, &target.model, is_own_name.then_some(name));
        let first = meaning.targets.iter().find(allowed)?;
        let mut item = item(name, &first.model);
        if meaning.alias.is_some() {
            item["owned_by"] = json!("orbyt");
        }
        Some(item)
    }
}

fn item(id: &str, row: &ModelRow) -> Value {
    let can = row.capabilities;
    let inputs = [
        ("text", true),
        ("image", can.vision),
        ("file", can.pdf),
        ("audio", can.audio_input),
        ("video", can.video_input),
    ];
    let (input, output) = modalities(row.class);
    let inputs = inputs.map(|(name, can)| (if name == "text" { input } else { name }, can));
    let inputs: Vec<&str> = inputs.iter().filter(|(_, can)| *can).map(|(name, _)| *name).collect();
    json!({
        "id": id,
        "object": "model",
        "created": row.created.unwrap_or(0),
        "owned_by": &*row.provider,
        "canonical_slug": &*row.id,
        "name": row.name,
        "description": row.description,
        "context_length": row.context,
        "architecture": {
            "modality": format!("{}->{output}", inputs.join("+")),
            "input_modalities": inputs,
            "output_modalities": [output],
            "tokenizer": null,
        },
        "pricing": pricing(row),
        "top_provider": {
            "context_length": row.context,
            "max_completion_tokens": row.max_output,
            "is_moderated": false,
        },
        "supported_parameters": parameters(row),
        "status": row.status.name(),
        "fallbacks": row.fallbacks,
    })
}

/// What a model of a class reads and gives, in OpenRouter's words.
fn modalities(class: Class) -> (&'static str, &'static str) {
    match class {
        Class::Embedding => ("text", "embeddings"),
        Class::Image => ("text", "image"),
        Class::Speech => ("text", "audio"),
        Class::Transcription => ("audio", "text"),
        Class::Rerank => ("text", "rerank"),
        _ => ("text", "text"),
    }
}

/// Dollars per token as decimal strings; what is unknown is left out, not zero.
fn pricing(row: &ModelRow) -> Value {
    let prices = &row.prices;
    let list = [
        ("prompt", prices.input),
        ("completion", prices.output),
        ("request", prices.request),
        ("image", prices.image),
        ("internal_reasoning", prices.reasoning),
        ("input_cache_read", prices.cached_input),
        ("input_cache_write", prices.cache_write_5m),
        ("audio", prices.audio_input),
    ];
    let known = list.into_iter().filter_map(|(name, price): (&str, Option<Money>)| Some((name, price?)));
    Value::Object(known.map(|(name, price)| (name.to_owned(), json!(price.to_dollars()))).collect::<Map<_, _>>())
}

fn parameters(row: &ModelRow) -> Vec<&'static str> {
    if !row.class.converses() {
        return Vec::new();
    }
    let can = row.capabilities;
    let mut list = vec!["max_tokens", "stop"];
    let optional: [(bool, &[&str]); 5] = [
        (row.sampling, &["temperature", "top_p"]),
        (can.tools, &["tools", "tool_choice"]),
        (can.structured_output, &["structured_outputs", "response_format"]),
        (can.json_mode && !can.structured_output, &["response_format"]),
        (can.reasoning || row.thinking != Thinking::None, &["reasoning", "include_reasoning"]),
    ];
    list.extend(optional.iter().filter(|(can, _)| *can).flat_map(|(_, names)| names.iter()));
    list
}
