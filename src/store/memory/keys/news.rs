//! What nodes with the same keys tell each other: rests, refusals, and what they use of a key's limits.

use super::{Account as Counted, Inner, MemoryKeyPool, Rest, Slot};
use crate::domain::{KeyId, KeyQuota, RateLimit, RateLimits};
use crate::store::ports::live::KeyState;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a node has learnt about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyNews {
    /// It rests for so long, because of a rate limit.
    Cooldown(Duration),
    /// It has no quota for so long.
    Exhausted(Duration),
    /// Its provider does not accept it.
    Disabled,
    /// It has been enabled again.
    Enabled,
}

/// What a provider counts together, by a name that is the same at all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    /// The keys of a group.
    Group(Arc<str>),
    /// One key of a provider.
    Key(Arc<str>, KeyId),
}

/// What is taken from the limits of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// One request, and the tokens that it may need.
    Begun {
        /// The tokens.
        tokens: u64,
    },
    /// The same request is over.
    Ended {
        /// What it was thought to need.
        taken: u64,
        /// What it has needed.
        used: u64,
    },
}

impl Inner {
    fn slot_of(&self, provider: &str, key: KeyId) -> Option<&Slot> {
        self.providers.get(provider)?.iter().find(|slot| slot.id == key)
    }

    fn account_of(&mut self, name: &Account) -> Option<&mut Counted> {
        let at = match name {
            Account::Group(group) => self.accounts.iter().position(|it| it.group.as_ref() == Some(group))?,
            Account::Key(provider, key) => self.slot_of(provider, *key)?.account,
        };
        self.accounts.get_mut(at)
    }
}

impl MemoryKeyPool {
    /// What others should know about a key; `None` when there is nothing wrong with it.
    pub fn news_of(&self, provider: &str, key: KeyId, now: Instant) -> Option<KeyNews> {
        let inner = self.0.lock();
        let slot = inner.slot_of(provider, key)?;
        if slot.disabled {
            return Some(KeyNews::Disabled);
        }
        match inner.accounts[slot.account].rest {
            Rest::Cooldown { until, .. } if until > now => Some(KeyNews::Cooldown(until - now)),
            Rest::Exhausted { until } if until > now => Some(KeyNews::Exhausted(until - now)),
            _ => None,
        }
    }

    /// Takes over what another node has learnt. Of two deadlines the longer one wins. Returns the key's name and its new state, when that is
    /// a different kind of state than before.
    pub fn hear(&self, provider: &str, key: KeyId, news: KeyNews, now: Instant) -> Option<(Arc<str>, KeyState)> {
        let mut inner = self.0.lock();
        let Inner { providers, accounts, .. } = &mut *inner;
        let slot = providers.get_mut(provider)?.iter_mut().find(|slot| slot.id == key)?;
        let account = &mut accounts[slot.account];
        let before = std::mem::discriminant(&slot.state(account, 0, now));
        let rests_until = match account.rest {
            Rest::Cooldown { until, .. } | Rest::Exhausted { until } => until,
            Rest::Ready => now,
        };
        match news {
            KeyNews::Cooldown(left) if now + left > rests_until => {
                account.rest = Rest::Cooldown { until: now + left, by: key };
            }
            KeyNews::Exhausted(left) if now + left > rests_until => {
                account.rest = Rest::Exhausted { until: now + left }
            }
            KeyNews::Cooldown(_) | KeyNews::Exhausted(_) => {}
            KeyNews::Disabled => slot.disabled = true,
            KeyNews::Enabled => slot.disabled = false,
        }
        slot.rested |= account.rests(now);
        let after = slot.state(account, 0, now);
        (std::mem::discriminant(&after) != before).then(|| (slot.name.clone(), after))
    }

    /// The account of a key and the limits that its operator has set; `None` where there are none.
    pub fn limited_account(&self, provider: &str, key: KeyId) -> Option<(Account, KeyQuota)> {
        let inner = self.0.lock();
        let account = &inner.accounts[inner.slot_of(provider, key)?.account];
        let own = account.quota.own();
        let name = || account.group.clone().map_or_else(|| Account::Key(provider.into(), key), Account::Group);
        (own != KeyQuota::default()).then(|| (name(), own))
    }

    /// Takes note of what another node takes from an account.
    pub fn used_elsewhere(&self, account: &Account, what: Use, now: Instant) {
        if let Some(account) = self.0.lock().account_of(account) {
            match what {
                Use::Begun { tokens } => account.quota.take(tokens, now),
                Use::Ended { taken, used } => account.quota.settle(taken, used, now),
            }
        }
    }

    /// All nodes together have left so many requests and tokens of an account.
    pub fn left_of(&self, account: &Account, requests: u64, tokens: u64, now: Instant) {
        let left = |remaining| Some(RateLimit { limit: None, remaining, reset: None });
        if let Some(account) = self.0.lock().account_of(account) {
            let own = account.quota.own();
            let requests = own.rpm.and_then(|_| left(requests));
            let tokens = own.tpm.and_then(|_| left(tokens));
            account.quota.told(&RateLimits { requests, tokens }, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ProviderKey, Secret};
    use crate::store::ports::live::{Ask, KeyPool};

    fn pool(now: Instant) -> (MemoryKeyPool, Arc<str>, Vec<Arc<ProviderKey>>) {
        let key = |name: &str, group: Option<&str>| {
            let quota = KeyQuota { rpm: Some(2), tpm: None };
            Arc::new(ProviderKey { quota, group: group.map(Arc::from), ..ProviderKey::new(name, Secret::new(name)) })
        };
        let (pool, provider) = (MemoryKeyPool::default(), Arc::from("p"));
        let keys = vec![key("alone", None), key("one", Some("g")), key("two", Some("g"))];
        pool.configure(&[(Arc::clone(&provider), keys.as_slice())], now);
        (pool, provider, keys)
    }

    #[test]
    fn the_longer_rest_wins_whoever_tells_it() {
        let now = Instant::now();
        let (pool, provider, keys) = pool(now);
        let hear = |seconds| {
            pool.hear(&provider, keys[0].id, KeyNews::Cooldown(Duration::from_secs(seconds)), now);
            pool.news_of(&provider, keys[0].id, now)
        };
        assert_eq!(hear(10), Some(KeyNews::Cooldown(Duration::from_secs(10))));
        assert_eq!(hear(5), Some(KeyNews::Cooldown(Duration::from_secs(10))));
        assert_eq!(hear(20), Some(KeyNews::Cooldown(Duration::from_secs(20))));
        assert_eq!(pool.news_of(&provider, keys[0].id, now + Duration::from_secs(20)), None);
    }

    #[test]
    fn refusals_are_heard_and_taken_back() {
        let now = Instant::now();
        let (pool, provider, keys) = pool(now);
        let hear =
            |news| pool.hear(&provider, keys[0].id, news, now).map(|(name, state)| (name.to_string(), state.name()));
        assert_eq!(hear(KeyNews::Disabled), Some(("alone".to_owned(), "disabled")));
        assert_eq!(hear(KeyNews::Disabled), None);
        assert_eq!(hear(KeyNews::Enabled), Some(("alone".to_owned(), "idle")));
        assert_eq!(pool.hear(&provider, KeyId::of(&Secret::new("?")), KeyNews::Disabled, now), None);
    }

    #[test]
    fn what_others_use_counts_for_the_whole_group() {
        let now = Instant::now();
        let (pool, provider, keys) = pool(now);
        let (group, own) = pool.limited_account(&provider, keys[2].id).unwrap();
        assert_eq!((&group, own.rpm), (&Account::Group("g".into()), Some(2)));
        let ready = || {
            let tried: Vec<KeyId> = vec![keys[0].id];
            pool.any_ready(&Ask { provider: &provider, keys: &keys, tried: &tried, tokens: 0 }, now)
        };
        assert!(ready());
        pool.used_elsewhere(&group, Use::Begun { tokens: 5 }, now);
        assert!(ready());
        pool.used_elsewhere(&group, Use::Begun { tokens: 5 }, now);
        assert!(!ready());
        let (alone, _) = pool.limited_account(&provider, keys[0].id).unwrap();
        assert_eq!(alone, Account::Key(provider.clone(), keys[0].id));
        pool.left_of(&alone, 0, 0, now);
        assert!(!pool.any_ready(&Ask { provider: &provider, keys: &keys, tried: &[], tokens: 0 }, now));
    }
}
