//! The client's own keys: those that it brings (`extra.byok`), and those that its project or organisation has saved. Which of them is for
//! which target, and whether one can be meant for it at all.

use super::error::{ApiError, Reason};
use super::names::Target;
use super::plan::Plan;
use super::walk::Walk;
use crate::config::snapshot::{ByokFallback, Snapshot};
use crate::dialect::extensions::Byok;
use crate::domain::{Fault, ProviderKey, Secret};
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

impl Walk<'_> {
    /// The client's own key for a target: the one that it brings, else the one that is saved for it.
    pub(super) fn own_key(&self, target: &Target) -> Option<Arc<ProviderKey>> {
        let brought = || key_for(self.envelope.extensions.byok.as_ref(), &self.plan, target);
        let saved = || {
            let saved = self.client.holder.as_ref()?.saved.as_ref()?;
            saved.for_provider(names(target)).cloned()
        };
        brought().or_else(saved)
    }

    /// Whether the request may have keys of its own, so that it is not to be asked anywhere for the sake of speed.
    pub(super) fn has_own_keys(&self) -> bool {
        let has_saved = || self.client.holder.as_ref().is_some_and(|holder| holder.saved.is_some());
        self.envelope.extensions.byok.is_some() || has_saved()
    }

    /// Whether a target that there is no own key for is left out: `[routing] byok_fallback = "deny"`, and it is a fallback.
    pub(super) fn is_denied(&self, at: usize) -> bool {
        if self.snapshot.routing.byok_fallback != ByokFallback::Deny {
            return false;
        }
        let (Some((_, first)), Some((_, target))) = (self.plan.targets.first(), self.plan.targets.get(at)) else {
            return false;
        };
        let is_fallback = match &self.envelope.extensions.byok {
            Some(byok) => at > 0 || matches!(byok, Byok::Any(_)),
            None => at > 0 && self.own_key(first).is_some(),
        };
        is_fallback && self.own_key(target).is_none()
    }

    /// The provider's rejection of an own key, as the client is told.
    pub(super) fn own_key_refused(&self, target: &Target, key_name: &str, fault: &Fault) -> ApiError {
        match key_for(self.envelope.extensions.byok.as_ref(), &self.plan, target) {
            Some(_) => ApiError::of_byok(fault),
            None => ApiError::of_saved_key(fault, key_name),
        }
    }
}

/// What a target's provider may be called.
fn names(target: &Target) -> impl Iterator<Item = &str> {
    std::iter::once(&*target.provider.id).chain(target.provider.aliases.iter().map(String::as_str))
}

/// The key that the client brings for a target: a single one is meant for the provider of the model asked for.
fn key_for(byok: Option<&Byok>, plan: &Plan, target: &Target) -> Option<Arc<ProviderKey>> {
    let byok = byok?;
    if matches!(byok, Byok::Any(_)) && plan.byok_provider != target.provider.id {
        return None;
    }
    byok.for_provider(names(target)).map(|secret| Arc::new(ProviderKey::new("byok", secret.clone())))
}
