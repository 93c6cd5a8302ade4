//! Presets: what `[[preset]]` says is put beside what the client wrote, before anything is planned.
//!
//! A request names one as `@preset/<slug>` or `<model>@preset/<slug>` in `model`, as `extra.preset`, or as OpenRouter's `preset`. What the
//! request says wins, member by member. The client's bytes stay as they are; the preset's members are added to them. OpenRouter has presets
//! too: a `preset` that is none of ours is left to it, where the model is asked for there.

use super::error::{ApiError, Reason};
use crate::config::snapshot::{Preset, Snapshot};
use crate::dialect::extensions::ProviderChoice;
use crate::dialect::openai_chat::envelope::{Defaults, Envelope};
use crate::dialect::openai_chat::quirks::Quirks;
use std::sync::Arc;

const MARK: &str = "@preset/";

/// Completes a request by its preset, if it names one.
///
/// # Errors
/// 404 that names a preset that there is not, 400 for two different ones, or for one without a model where the request has none either.
pub(super) fn complete(snapshot: &Snapshot, envelope: &mut Envelope) -> Result<(), ApiError> {
    let asked = envelope.extensions.preset.as_deref();
    let in_model = envelope.model.trim().split_once(MARK);
    let (slug, param) = match (in_model.map(|(_, slug)| slug.trim()), asked) {
        (None, None) => return Ok(()),
        (Some(slug), Some(other)) if slug != other => {
            let message = format!("the model names the preset {slug:?}, and extra.preset names {other:?}: name one");
            return Err(ApiError::new(Reason::InvalidRequest, message).param("extra.preset"));
        }
        (Some(slug), _) => (slug, "model"),
        (None, Some(slug)) => (slug, "extra.preset"),
    };
    let Some(preset) = snapshot.preset(slug) else {
        if in_model.is_none() && has_presets(snapshot, &envelope.model) && envelope.names_openrouter_preset() {
            envelope.keeps_preset = true;
            return Ok(());
        }
        return Err(unknown(snapshot, slug, param));
    };
    let model = match in_model.map(|(model, _)| model.trim()) {
        None => None,
        Some("") => Some(preset.model.as_deref().ok_or_else(|| without_model(slug, param))?),
        Some(model) => Some(model),
    };
    let defaults = Defaults { model, system: preset.system.as_deref(), members: &preset.parameters };
    let mut completed = envelope.with_defaults(&defaults)?;
    prefer(preset, &mut completed);
    *envelope = completed;
    Ok(())
}

/// Whether the provider that a model's name begins with has presets of its own.
fn has_presets(snapshot: &Snapshot, model: &str) -> bool {
    let provider = model.trim().split_once('/').and_then(|(prefix, _)| snapshot.provider(prefix));
    provider.is_some_and(|provider| provider.quirks.has(Quirks::OPENROUTER_NATIVE))
}

/// The preset's fallbacks and strategy, where the request has none of its own.
fn prefer(preset: &Preset, envelope: &mut Envelope) {
    let has_strategy = envelope.model.ends_with(":floor") || envelope.model.ends_with(":nitro");
    let wishes = Arc::make_mut(&mut envelope.extensions);
    if wishes.fallback_models.is_empty() && wishes.models.is_empty() {
        wishes.fallback_models.clone_from(&preset.fallbacks);
    }
    let is_open = !has_strategy && wishes.provider.is_none() && wishes.preferences.sort.is_none();
    if let Some(strategy) = preset.strategy.filter(|_| is_open) {
        wishes.provider = Some(ProviderChoice::By(strategy));
    }
}

fn unknown(snapshot: &Snapshot, slug: &str, param: &'static str) -> ApiError {
    let shown: String = slug.chars().take(100).collect();
    let slugs: Vec<&str> = snapshot.presets.iter().map(|preset| &*preset.slug).collect();
    let there_are = match slugs.as_slice() {
        [] => "none is configured: see [[preset]]".to_owned(),
        slugs => format!("there are {}", slugs.join(", ")),
    };
    ApiError::new(Reason::ModelNotFound, format!("The preset {shown:?} does not exist: {there_are}")).param(param)
}

fn without_model(slug: &str, param: &'static str) -> ApiError {
    let message = format!("the preset {slug:?} has no model of its own: write <model>{MARK}{slug}");
    ApiError::new(Reason::InvalidRequest, message).param(param)
}

/// The name by which a preset is listed among the models, and the model that it stands for; `None` when it has none of its own.
pub(super) fn listed(preset: &Preset) -> Option<(String, &str)> {
    Some((format!("{MARK}{}", preset.slug), preset.model.as_deref()?))
}

/// The preset that a listed name means.
pub(super) fn of_name<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Preset> {
    snapshot.preset(name.strip_prefix(MARK)?).map(|preset| &**preset)
}
