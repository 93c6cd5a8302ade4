//! The client's own keys (`extra.byok`): which of them is for which target, and whether it can be meant for it at all.

use super::error::{ApiError, Reason};
use super::names::Target;
use super::plan::Plan;
use crate::config::snapshot::{ByokFallback, Provider, Snapshot};
use crate::dialect::extensions::Byok;
use crate::domain::{ProviderKey, Secret};
use std::sync::Arc;

/// Refuses keys that are evidently not of the provider that they are given for, and those for providers that there are not, before
/// anything is sent: to another provider such a key would be a leak, and without it the request would be at the gateway's expense.
///
/// # Errors
/// 400 that names the member and whose key it is, never the key; and what is left of the plan where only the client's own keys pay.
pub(super) fn check(snapshot: &Snapshot, byok: &Byok, plan: &Plan) -> Result<(), ApiError> {
    let refuse =
        |provider: &str, key: &Secret, param: String| match snapshot.catalog.foreign_key(provider, key.reveal()) {
            None => Ok(()),
            Some(makers) => {
                let makers = makers.join(" or ");
                let message = format!("{param} is not a key for {provider}: it begins like one of {makers}");
                Err(ApiError::new(Reason::InvalidRequest, message).param(param))
            }
        };
    match byok {
        Byok::Any(key) => refuse(&plan.byok_provider, key, "extra.byok".to_owned())?,
        Byok::ByProvider(keys) => keys.iter().try_for_each(|(name, key)| {
            let provider = snapshot.provider(&name.to_ascii_lowercase()).ok_or_else(|| unknown(snapshot, name))?;
            refuse(&provider.id, key, format!("extra.byok.{name}"))
        })?,
    }
    if (0..plan.targets.len()).all(|at| is_denied(snapshot, Some(byok), plan, at)) {
        let provider = plan.targets.first().map_or(&plan.byok_provider, |(_, target)| &target.provider.id);
        let message = format!(
            "extra.byok has no key for {provider}, and the gateway's own do not stand in for it here (byok_fallback = \"deny\")"
        );
        return Err(ApiError::new(Reason::InvalidRequest, message).param("extra.byok"));
    }
    Ok(())
}

/// A key for a provider that is not there, which would leave the request to the gateway's keys.
fn unknown(snapshot: &Snapshot, name: &str) -> ApiError {
    let shown: String = name.chars().take(100).collect();
    let ids: Vec<&str> = snapshot.providers.iter().map(|provider| &*provider.id).collect();
    let message =
        format!("extra.byok has a key for {shown:?}, and no such provider is configured: there are {}", ids.join(", "));
    ApiError::new(Reason::InvalidRequest, message).param(format!("extra.byok.{shown}"))
}

/// The keys that are for none of the targets, by their places in the request.
pub(super) fn unused(snapshot: &Snapshot, byok: &Byok, plan: &Plan) -> Vec<String> {
    let Byok::ByProvider(keys) = byok else { return Vec::new() };
    let is_unused = |provider: &Provider| !plan.targets.iter().any(|(_, target)| target.provider.id == provider.id);
    let named = keys.iter().filter_map(|(name, _)| Some((name, snapshot.provider(&name.to_ascii_lowercase())?)));
    named.filter(|(_, provider)| is_unused(provider)).map(|(name, _)| format!("byok.{name}")).collect()
}

/// The client's own key for a target: a single one is meant for the provider of the model asked for.
pub(super) fn key_for(byok: Option<&Byok>, plan: &Plan, target: &Target) -> Option<Arc<ProviderKey>> {
    let byok = byok?;
    let names = std::iter::once(&*target.provider.id).chain(target.provider.aliases.iter().map(String::as_str));
    if matches!(byok, Byok::Any(_)) && plan.byok_provider != target.provider.id {
        return None;
    }
    byok.for_provider(names).map(|secret| Arc::new(ProviderKey::new("byok", secret.clone())))
}

/// Whether a target is left out because the client brings its own keys, but none for it: `[routing] byok_fallback = "deny"`.
pub(super) fn is_denied(snapshot: &Snapshot, byok: Option<&Byok>, plan: &Plan, at: usize) -> bool {
    let (Some(byok), ByokFallback::Deny) = (byok, snapshot.routing.byok_fallback) else { return false };
    let Some((_, target)) = plan.targets.get(at) else { return false };
    key_for(Some(byok), plan, target).is_none()
}
