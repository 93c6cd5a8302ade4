//! A key for an attempt: leased from the pool, brought by the client, or none at all.

use super::core::Core;
use super::names::Target;
use crate::domain::{KeyId, ProviderKey, RateLimits};
use crate::store::ports::live::{Ask, KeyOutcome, KeyState, NoKey, Returned, Ticket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A lease outlives the request's deadline by so much, so that it never ends while it is in use.
const SLACK: Duration = Duration::from_secs(60);

/// The key of one attempt. A pooled key goes back to the pool when the lease is dropped, whatever happens: also when the task of the
/// request panics.
pub(super) struct Lease {
    core: Arc<Core>,
    provider: Arc<str>,
    key: Option<Arc<ProviderKey>>,
    origin: Origin,
    /// It had rested, and this is its first use since.
    revived: bool,
    /// What the attempt took in the end, in tokens.
    tokens: Option<u64>,
    /// What the provider told of its limits.
    limits: RateLimits,
}

#[derive(Clone, Copy, PartialEq)]
enum Origin {
    /// From the pool, to be given back.
    Pool(Ticket),
    /// From the pool, given back.
    Returned,
    /// The client's own key: no state of the pool hangs on it.
    Byok,
    /// The provider needs none.
    Keyless,
}

/// What a lease is wanted for.
pub(super) struct Wanted<'a> {
    pub(super) target: &'a Target,
    /// The client's own key for the target's provider.
    pub(super) byok: Option<Arc<ProviderKey>>,
    /// The keys that have been tried.
    pub(super) tried: &'a [KeyId],
    /// How many tokens the request may need.
    pub(super) tokens: u64,
    /// When the request is over.
    pub(super) deadline: Instant,
}

impl Lease {
    /// Leases a key for a target.
    ///
    /// # Errors
    /// When no key that was not tried yet is ready.
    pub(super) fn take(core: &Arc<Core>, wanted: Wanted<'_>, now: Instant) -> Result<Self, NoKey> {
        let provider = &wanted.target.provider;
        let mut revived = false;
        let (key, origin) = match wanted.byok {
            Some(key) => (Some(key), Origin::Byok),
            None if provider.keys.is_empty() => (None, Origin::Keyless),
            None => {
                let ask =
                    Ask { provider: &provider.id, keys: &provider.keys, tried: wanted.tried, tokens: wanted.tokens };
                let ttl = wanted.deadline.saturating_duration_since(now) + SLACK;
                let leased = core.pool.lease(&ask, ttl, fastrand::u64(..), now)?;
                revived = leased.revived;
                (Some(provider.keys[leased.place].clone()), Origin::Pool(leased.ticket))
            }
        };
        let (core, provider) = (core.clone(), provider.id.clone());
        Ok(Self { core, provider, key, origin, revived, tokens: None, limits: RateLimits::default() })
    }

    /// The key, `None` for a provider that needs none.
    pub(super) fn key(&self) -> Option<&ProviderKey> {
        self.key.as_deref()
    }

    /// The key, to be kept by an exchange.
    pub(super) fn shared_key(&self) -> Option<Arc<ProviderKey>> {
        self.key.clone()
    }

    /// The key's name, for records.
    pub(super) fn key_name(&self) -> Arc<str> {
        self.key.as_ref().map_or_else(|| "none".into(), |key| key.name.clone())
    }

    /// Whether the client brought the key.
    pub(super) fn is_byok(&self) -> bool {
        self.origin == Origin::Byok
    }

    /// Whether the key had rested, and this is its first use since.
    pub(super) fn is_revived(&self) -> bool {
        self.revived
    }

    /// Takes note of what the attempt took and of what the provider told of the key's limits.
    pub(super) fn heard(&mut self, tokens: Option<u64>, limits: RateLimits) {
        (self.tokens, self.limits) = (tokens, limits);
    }

    /// Gives the key back with what was learnt about it; tells of a change of its state.
    pub(super) fn give_back(&mut self, outcome: KeyOutcome, now: Instant) -> Option<KeyState> {
        let Origin::Pool(ticket) = self.origin else { return None };
        self.origin = Origin::Returned;
        let returned = Returned { outcome, tokens: self.tokens, limits: self.limits };
        self.core.pool.give_back(&self.provider, &ticket, returned, now)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back(KeyOutcome::Unknown, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Source};
    use crate::provider::Catalog;
    use crate::store::memory;
    use crate::telemetry::{Format, Log, Metrics, Redactor, Telemetry};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn core() -> Arc<Core> {
        let process = vec![("OPENAI_API_KEY".to_owned(), "sk-a".to_owned())];
        let catalog = Arc::new(Catalog::builtin().unwrap());
        let source = Source { file: None, process, dotenv: None, catalog };
        let loaded = config::load(&source).unwrap_or_else(|refused| panic!("{:?}", refused.errors));
        let redactor = Arc::new(Redactor::default());
        let log = Log::start(log::LevelFilter::Off, Format::Json, Box::new(std::io::sink()), redactor.clone()).unwrap();
        let telemetry = Telemetry::new(log, Arc::new(Metrics::new("test").unwrap()), redactor);
        Core::new(loaded.snapshot, memory::stores(1, 1, 1), Arc::new(telemetry))
    }

    fn lease(core: &Arc<Core>, byok: Option<Arc<ProviderKey>>) -> Lease {
        let snapshot = core.snapshot.load_full();
        let model = snapshot.catalog.unknown_model_at("openai", "m").into();
        let target = Target { provider: snapshot.providers[0].clone(), model };
        let now = Instant::now();
        let wanted = Wanted { target: &target, byok, tried: &[], tokens: 0, deadline: now };
        Lease::take(core, wanted, now).unwrap()
    }

    fn state(core: &Core) -> &'static str {
        core.pool.statuses(Instant::now()).first().map_or("unknown", |status| status.state.name())
    }

    #[test]
    fn a_key_comes_back_when_its_holder_is_dropped_or_panics() {
        let core = core();
        let held = lease(&core, None);
        assert_eq!(state(&core), "leased");
        drop(held);
        assert_eq!(state(&core), "idle");
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _held = lease(&core, None);
            assert_eq!(state(&core), "leased");
            panic!("the task of a request");
        }));
        assert!(panicked.is_err());
        assert_eq!(state(&core), "idle");
    }

    #[test]
    fn a_clients_own_key_never_enters_the_pool() {
        let core = core();
        let own = Arc::new(ProviderKey::new("byok", crate::domain::Secret::new("own")));
        let mut held = lease(&core, Some(own));
        assert_eq!(held.give_back(KeyOutcome::Refused, Instant::now()), None);
        drop(held);
        assert_eq!(state(&core), "unknown", "the pool has heard of it");
    }
}
