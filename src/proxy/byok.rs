//! The client's own keys (`extra.byok`): which of them is for which target, and whether it can be meant for it at all.

use super::error::{ApiError, Reason};
use super::names::Target;
use super::plan::Plan;
use crate::config::snapshot::{ByokFallback, Snapshot};
use crate::dialect::extensions::Byok;
use crate::domain::{ProviderKey, Secret};
use std::sync::Arc;

/// Refuses keys that are evidently not of the provider that they are given for, before anything is sent: to that provider such a key
/// would be a leak, and its 401 would say less than this.
///
/// # Errors
/// 400 that names the member and whose key it is, never the key.
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
        Byok::Any(key) => refuse(&plan.byok_provider, key, "extra.byok".to_owned()),
        Byok::ByProvider(keys) => keys.iter().try_for_each(|(name, key)| {
            let provider = snapshot.provider(&name.to_ascii_lowercase());
            provider.map_or(Ok(()), |provider| refuse(&provider.id, key, format!("extra.byok.{name}")))
        }),
    }
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

/// Whether a target that the client brings no key for is left out: `[routing] byok_fallback = "deny"`, and it is a fallback.
pub(super) fn is_denied(snapshot: &Snapshot, byok: Option<&Byok>, plan: &Plan, at: usize) -> bool {
    let (Some(byok), ByokFallback::Deny) = (byok, snapshot.routing.byok_fallback) else { return false };
    let Some((_, target)) = plan.targets.get(at) else { return false };
    let is_fallback = at > 0 || matches!(byok, Byok::Any(_));
    is_fallback && key_for(Some(byok), plan, target).is_none()
}
