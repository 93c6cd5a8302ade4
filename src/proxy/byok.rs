//! The client's own keys: those that it brings (`extra.byok`), and those that its project or organisation has saved. Which of them is for
//! which target, and whether one can be meant for it at all.

use super::error::{ApiError, Reason};
use super::names::Target;
use super::plan::Plan;
use super::walk::Walk;
use crate::config::keys::{Holder, OwnKey, SavedKeys};
use crate::config::snapshot::{ByokFallback, Provider, Snapshot};
use crate::dialect::extensions::Byok;
use crate::domain::{Fault, ProviderKey, Secret};
use std::sync::Arc;

/// Refuses keys that are evidently not of the provider that they are given for, and those for providers that there are not, before
/// anything is sent: to another provider such a key would be a leak, and without it the request would be at the gateway's expense.
///
/// # Errors
/// 400 that names the member and whose key it is, never the key; and what is left of the plan where only the client's own keys pay.
pub(super) fn check(snapshot: &Snapshot, byok: &Byok, holder: Option<&Holder>, plan: &Plan) -> Result<(), ApiError> {
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
    let own = OwnKeys::of(Some(byok), holder);
    if (0..plan.targets.len()).all(|at| own.leave_out(snapshot, plan, at)) {
        let provider = plan.targets.first().map_or(&plan.byok_provider, |(_, target)| &target.provider.id);
        let message = format!(
            "extra.byok has no key for {provider}, and the gateway's own do not stand in for it here (byok_fallback = \"deny\")"
        );
        return Err(ApiError::new(Reason::InvalidRequest, message).param("extra.byok"));
    }
    Ok(())
}

/// Takes out of the plan the targets whose own key was saved and does not open: the gateway's must not pay in its place.
///
/// # Errors
/// 500 that names the key when it is the one for the model asked for.
pub(super) fn keep_to_open(byok: Option<&Byok>, holder: Option<&Holder>, plan: &mut Plan) -> Result<(), ApiError> {
    let own = OwnKeys::of(byok, holder);
    if own.saved.is_none() {
        return Ok(());
    }
    if let Some((_, first)) = plan.targets.first()
        && let Some(name) = own.sealed(plan, first)
    {
        let message = format!(
            "the key {name:?} that your organisation has saved for {} does not open: ask the gateway's operator, or save it anew",
            first.provider.id
        );
        return Err(ApiError::new(Reason::Internal, message).hopeless());
    }
    let sealed: Vec<bool> = plan.targets.iter().map(|(_, target)| own.sealed(plan, target).is_some()).collect();
    let of_successors: Vec<bool> = plan.successors.iter().map(|target| own.sealed(plan, target).is_some()).collect();
    let (mut sealed, mut of_successors) = (sealed.into_iter(), of_successors.into_iter());
    plan.targets.retain(|_| !sealed.next().unwrap_or(false));
    plan.successors.retain(|_| !of_successors.next().unwrap_or(false));
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

/// The keys that are the client's own: those that its request brings, and those that are saved for it.
#[derive(Clone, Copy)]
pub(super) struct OwnKeys<'a> {
    brought: Option<&'a Byok>,
    saved: Option<&'a SavedKeys>,
}

impl<'a> OwnKeys<'a> {
    pub(super) fn of(brought: Option<&'a Byok>, holder: Option<&'a Holder>) -> Self {
        Self { brought, saved: holder.and_then(|holder| holder.saved.as_deref()) }
    }

    /// The one for a target: what the request brings goes first.
    pub(super) fn key(self, plan: &Plan, target: &Target) -> Option<Arc<ProviderKey>> {
        let saved = || match self.saved?.for_provider(names(target))? {
            OwnKey::Key(key) => Some(key.clone()),
            OwnKey::Sealed(_) => None,
        };
        key_for(self.brought, plan, target).or_else(saved)
    }

    /// The name of the one that is saved for a target and does not open, where the request brings no other.
    fn sealed(self, plan: &Plan, target: &Target) -> Option<&'a Arc<str>> {
        match self.saved?.for_provider(names(target))? {
            OwnKey::Sealed(name) if key_for(self.brought, plan, target).is_none() => Some(name),
            _ => None,
        }
    }

    /// Whether a target is left out because none of them is for it: `[routing] byok_fallback = "deny"`. Who brings keys wants no others used;
    /// who has some saved only wants none where the model asked for has one.
    fn leave_out(self, snapshot: &Snapshot, plan: &Plan, at: usize) -> bool {
        if snapshot.routing.byok_fallback != ByokFallback::Deny {
            return false;
        }
        let (Some((_, first)), Some((_, target))) = (plan.targets.first(), plan.targets.get(at)) else {
            return false;
        };
        let is_own = match self.brought {
            Some(_) => true,
            None => at > 0 && self.key(plan, first).is_some(),
        };
        is_own && self.key(plan, target).is_none()
    }
}

impl Walk<'_> {
    fn own_keys(&self) -> OwnKeys<'_> {
        OwnKeys::of(self.envelope.extensions.byok.as_ref(), self.client.holder.as_ref())
    }

    /// The client's own key for a target: the one that it brings, else the one that is saved for it.
    pub(super) fn own_key(&self, target: &Target) -> Option<Arc<ProviderKey>> {
        self.own_keys().key(&self.plan, target)
    }

    /// Whether the request may have keys of its own, so that it is not to be asked anywhere for the sake of speed.
    pub(super) fn has_own_keys(&self) -> bool {
        let own = self.own_keys();
        own.brought.is_some() || own.saved.is_some()
    }

    /// Whether a target that there is no own key for is left out: `[routing] byok_fallback = "deny"`.
    pub(super) fn is_denied(&self, at: usize) -> bool {
        self.own_keys().leave_out(&self.snapshot, &self.plan, at)
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
