//! The key pool of one node.
//!
//! ```text
//!            lease / give back              429: until the provider says, else doubling from 1 s
//!   Idle <────────────────────> Leased ─────────────────────────────────────────────> Cooldown ──(time)──> Idle
//!                                  ├──── quota used up: 120 s unless told longer ───> Exhausted ─(time)──> Idle
//!                                  └──── 401, 403 ──────────────────────────────────> Disabled ─(reload)─> Idle
//! ```

use crate::domain::ProviderKey;
use crate::store::ports::live::{KeyOutcome, KeyPool, KeyState, KeyStatus, NoKey};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an exhausted key rests unless the provider asks for longer.
const EXHAUSTED_FOR: Duration = Duration::from_secs(120);
/// The first cooldown when the provider does not say how long; it doubles with each 429 in a row.
const FIRST_COOLDOWN: Duration = Duration::from_secs(1);
/// The longest cooldown that is chosen without the provider asking for it.
const LONGEST_COOLDOWN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Ready,
    Cooldown { until: Instant },
    Exhausted { until: Instant },
    Disabled,
}

#[derive(Debug)]
struct Slot {
    key: Arc<str>,
    condition: Condition,
    leases: u32,
    /// 429s in a row, for the backoff.
    refusals: u32,
    /// When it was leased last, so that equal keys take turns.
    turn: u64,
}

impl Slot {
    fn state(&self, now: Instant) -> KeyState {
        match self.condition {
            Condition::Cooldown { until } if until > now => KeyState::Cooldown { left: until - now },
            Condition::Exhausted { until } if until > now => KeyState::Exhausted { left: until - now },
            Condition::Disabled => KeyState::Disabled,
            _ => KeyState::Ready { leases: self.leases },
        }
    }

    fn is_ready(&self, now: Instant) -> bool {
        matches!(self.state(now), KeyState::Ready { .. })
    }

    fn learn(&mut self, outcome: KeyOutcome, now: Instant) {
        match outcome {
            KeyOutcome::Good => self.refusals = 0,
            KeyOutcome::RateLimited(asked) => {
                let chosen = FIRST_COOLDOWN.saturating_mul(2u32.saturating_pow(self.refusals)).min(LONGEST_COOLDOWN);
                self.refusals += 1;
                let until = now + asked.unwrap_or(chosen);
                self.condition = match self.condition {
                    Condition::Ready => Condition::Cooldown { until },
                    Condition::Cooldown { until: old } => Condition::Cooldown { until: old.max(until) },
                    Condition::Exhausted { until: old } if old < until => Condition::Cooldown { until },
                    other => other,
                };
            }
            KeyOutcome::Exhausted(asked) => {
                let until = now + asked.unwrap_or_default().max(EXHAUSTED_FOR);
                self.condition = match self.condition {
                    Condition::Ready => Condition::Exhausted { until },
                    Condition::Cooldown { until: old } | Condition::Exhausted { until: old } => {
                        Condition::Exhausted { until: old.max(until) }
                    }
                    Condition::Disabled => Condition::Disabled,
                };
            }
            KeyOutcome::Refused => self.condition = Condition::Disabled,
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    providers: HashMap<Arc<str>, Vec<Slot>>,
    turn: u64,
}

impl Inner {
    fn slot(&mut self, provider: &Arc<str>, key: &Arc<str>) -> &mut Slot {
        if !self.providers.contains_key(provider) {
            self.providers.insert(provider.clone(), Vec::new());
        }
        let slots = self.providers.entry(provider.clone()).or_default();
        let place = slots.iter().position(|slot| slot.key == *key).unwrap_or_else(|| {
            slots.push(Slot { key: key.clone(), condition: Condition::Ready, leases: 0, refusals: 0, turn: 0 });
            slots.len() - 1
        });
        &mut slots[place]
    }

    fn find(&mut self, provider: &str, key: &str) -> Option<&mut Slot> {
        self.providers.get_mut(provider)?.iter_mut().find(|slot| *slot.key == *key)
    }
}

/// The pool: one lock, held for the time of a short list.
#[derive(Debug, Default)]
pub struct MemoryKeyPool(Mutex<Inner>);

impl KeyPool for MemoryKeyPool {
    fn lease(
        &self,
        provider: &Arc<str>,
        keys: &[Arc<ProviderKey>],
        tried: &[Arc<str>],
        now: Instant,
    ) -> Result<usize, NoKey> {
        let mut inner = self.0.lock();
        let mut best: Option<(usize, (u32, u64))> = None;
        let mut ready_in: Option<Duration> = None;
        for (place, key) in keys.iter().enumerate() {
            let slot = inner.slot(provider, &key.name);
            match slot.state(now) {
                KeyState::Ready { .. } if tried.contains(&key.name) => {}
                KeyState::Ready { leases } => {
                    let rank = (leases, slot.turn);
                    if best.is_none_or(|(_, other)| rank < other) {
                        best = Some((place, rank));
                    }
                }
                KeyState::Cooldown { left } | KeyState::Exhausted { left } => {
                    ready_in = Some(ready_in.map_or(left, |other| other.min(left)));
                }
                KeyState::Disabled => {}
            }
        }
        let (place, _) = best.ok_or(NoKey { ready_in })?;
        inner.turn += 1;
        let turn = inner.turn;
        let slot = inner.slot(provider, &keys[place].name);
        slot.condition = Condition::Ready;
        slot.leases += 1;
        slot.turn = turn;
        Ok(place)
    }

    fn any_ready(&self, provider: &str, keys: &[Arc<ProviderKey>], tried: &[Arc<str>], now: Instant) -> bool {
        let mut inner = self.0.lock();
        keys.iter().any(|key| {
            !tried.contains(&key.name) && inner.find(provider, &key.name).is_none_or(|slot| slot.is_ready(now))
        })
    }

    fn ready_in(&self, provider: &str, keys: &[Arc<ProviderKey>], now: Instant) -> Option<Duration> {
        let mut inner = self.0.lock();
        let wait = |key: &Arc<ProviderKey>| match inner.find(provider, &key.name).map(|slot| slot.state(now)) {
            None | Some(KeyState::Ready { .. }) => Some(Duration::ZERO),
            Some(KeyState::Cooldown { left } | KeyState::Exhausted { left }) => Some(left),
            Some(KeyState::Disabled) => None,
        };
        keys.iter().filter_map(wait).min()
    }

    fn give_back(&self, provider: &str, key: &str, outcome: KeyOutcome, now: Instant) -> Option<KeyState> {
        let mut inner = self.0.lock();
        let slot = inner.find(provider, key)?;
        slot.leases = slot.leases.saturating_sub(1);
        let before = std::mem::discriminant(&slot.state(now));
        slot.learn(outcome, now);
        let after = slot.state(now);
        (std::mem::discriminant(&after) != before).then_some(after)
    }

    fn enable_all(&self) {
        for slot in self.0.lock().providers.values_mut().flatten() {
            if slot.condition == Condition::Disabled {
                slot.condition = Condition::Ready;
            }
        }
    }

    fn statuses(&self, now: Instant) -> Vec<KeyStatus> {
        let inner = self.0.lock();
        let mut all: Vec<KeyStatus> = inner
            .providers
            .iter()
            .flat_map(|(provider, slots)| {
                slots.iter().map(move |slot| KeyStatus {
                    provider: provider.clone(),
                    key: slot.key.clone(),
                    state: slot.state(now),
                })
            })
            .collect();
        all.sort_by(|a, b| (&a.provider, &a.key).cmp(&(&b.provider, &b.key)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::domain::Secret;

    fn names(count: usize) -> Vec<Arc<ProviderKey>> {
        (1..=count)
            .map(|n| Arc::new(ProviderKey { name: format!("key_{n:02}").into(), secret: Secret::new("k") }))
            .collect()
    }

    fn pool() -> (MemoryKeyPool, Arc<str>, Instant) {
        (MemoryKeyPool::default(), "openai".into(), Instant::now())
    }

    #[test]
    fn equal_keys_take_turns_and_the_least_leased_goes_first() {
        let (pool, provider, now) = pool();
        let keys = names(3);
        let order: Vec<usize> = (0..6).map(|_| pool.lease(&provider, &keys, &[], now).unwrap()).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
        pool.give_back(&provider, &keys[1].name, KeyOutcome::Good, now);
        assert_eq!(pool.lease(&provider, &keys, &[], now), Ok(1));
    }

    #[test]
    fn a_rate_limited_key_rests_and_returns() {
        let (pool, provider, now) = pool();
        let keys = names(2);
        let first = pool.lease(&provider, &keys, &[], now).unwrap();
        let wait = Duration::from_secs(7);
        let state = pool.give_back(&provider, &keys[first].name, KeyOutcome::RateLimited(Some(wait)), now);
        assert_eq!(state, Some(KeyState::Cooldown { left: wait }));
        assert_eq!(pool.lease(&provider, &keys, &[], now), Ok(1));
        assert_eq!(pool.lease(&provider, &keys[..1], &[], now), Err(NoKey { ready_in: Some(wait) }));
        assert!(!pool.any_ready(&provider, &keys[..1], &[], now));
        assert_eq!(pool.lease(&provider, &keys[..1], &[], now + wait), Ok(0));
    }

    #[test]
    fn the_longer_of_two_deadlines_wins() {
        let (pool, provider, now) = pool();
        let keys = names(1);
        for seconds in [60, 5] {
            let _ = pool.lease(&provider, &keys, &[], now);
            pool.give_back(&provider, &keys[0].name, KeyOutcome::RateLimited(Some(Duration::from_secs(seconds))), now);
        }
        assert_eq!(pool.lease(&provider, &keys, &[], now), Err(NoKey { ready_in: Some(Duration::from_secs(60)) }));
        pool.give_back(&provider, &keys[0].name, KeyOutcome::Exhausted(None), now);
        assert_eq!(pool.lease(&provider, &keys, &[], now), Err(NoKey { ready_in: Some(EXHAUSTED_FOR) }));
    }

    #[test]
    fn without_a_retry_after_cooldowns_double() {
        let (pool, provider, now) = pool();
        let keys = names(1);
        let mut at = now;
        let mut waits = Vec::new();
        for _ in 0..8 {
            pool.lease(&provider, &keys, &[], at).unwrap();
            match pool.give_back(&provider, &keys[0].name, KeyOutcome::RateLimited(None), at) {
                Some(KeyState::Cooldown { left }) => {
                    waits.push(left.as_secs());
                    at += left;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_refused_key_is_out_until_a_reload() {
        let (pool, provider, now) = pool();
        let keys = names(1);
        pool.lease(&provider, &keys, &[], now).unwrap();
        assert_eq!(pool.give_back(&provider, &keys[0].name, KeyOutcome::Refused, now), Some(KeyState::Disabled));
        assert_eq!(pool.lease(&provider, &keys, &[], now + EXHAUSTED_FOR * 100), Err(NoKey { ready_in: None }));
        pool.enable_all();
        assert_eq!(pool.lease(&provider, &keys, &[], now), Ok(0));
    }

    #[test]
    fn a_tried_key_is_not_leased_again() {
        let (pool, provider, now) = pool();
        let keys = names(2);
        assert_eq!(pool.lease(&provider, &keys, &[keys[0].name.clone()], now), Ok(1));
        assert!(pool.lease(&provider, &keys, &[keys[0].name.clone(), keys[1].name.clone()], now).is_err());
    }
}
