//! A key for an attempt: leased from the pool, brought by the client, or none at all.

use super::core::Core;
use super::names::Target;
use crate::domain::ProviderKey;
use crate::store::ports::live::{KeyOutcome, KeyState, NoKey};
use std::sync::Arc;
use std::time::Instant;

/// The key of one attempt. A pooled key goes back to the pool when the lease is dropped, whatever happens.
pub(super) struct Lease {
    core: Arc<Core>,
    provider: Arc<str>,
    key: Option<Arc<ProviderKey>>,
    origin: Origin,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// From the pool, to be given back.
    Pool,
    /// From the pool, given back.
    Returned,
    /// The client's own key: no state of the pool hangs on it.
    Byok,
    /// The provider needs none.
    Keyless,
}

impl Lease {
    /// Leases a key for a target. `byok` is the client's own key for its provider.
    ///
    /// # Errors
    /// When no key that was not `tried` yet is ready.
    pub(super) fn take(
        core: &Arc<Core>,
        target: &Target,
        byok: Option<Arc<ProviderKey>>,
        tried: &[Arc<str>],
        now: Instant,
    ) -> Result<Self, NoKey> {
        let provider = &target.provider;
        let (key, origin) = match byok {
            Some(key) => (Some(key), Origin::Byok),
            None if provider.keys.is_empty() => (None, Origin::Keyless),
            None => {
                let place = core.pool.lease(&provider.id, &provider.keys, tried, now)?;
                (Some(provider.keys[place].clone()), Origin::Pool)
            }
        };
        Ok(Self { core: core.clone(), provider: provider.id.clone(), key, origin })
    }

    /// The key, `None` for a provider that needs none.
    pub(super) fn key(&self) -> Option<&ProviderKey> {
        self.key.as_deref()
    }

    /// The key's name, for records.
    pub(super) fn key_name(&self) -> Arc<str> {
        self.key.as_ref().map_or_else(|| "none".into(), |key| key.name.clone())
    }

    /// Whether the client brought the key.
    pub(super) fn is_byok(&self) -> bool {
        self.origin == Origin::Byok
    }

    /// Gives the key back with what was learnt about it; tells of a change of its state.
    pub(super) fn give_back(&mut self, outcome: KeyOutcome) -> Option<KeyState> {
        if self.origin != Origin::Pool {
            return None;
        }
        self.origin = Origin::Returned;
        let key = self.key.as_ref()?;
        self.core.pool.give_back(&self.provider, &key.name, outcome, Instant::now())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back(KeyOutcome::Good);
    }
}
