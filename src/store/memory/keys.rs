//! The key pool of one node.
//!
//! ```text
//!            lease / give back              429: until the provider says, else doubling from 1 s
//!   Idle <────────────────────> Leased ─────────────────────────────────────────────> Cooldown ──(time)──> Idle
//!                                  ├──── quota used up: 120 s unless told longer ───> Exhausted ─(time)──> Idle
//!                                  └──── 401, 403 ──────────────────────────────────> Disabled ─(enable)─> Idle
//! ```
//!
//! What a provider counts for several keys together, a *group*, they share here: their rest and what is left of their limits.

mod news;

pub use news::{Account as AccountName, KeyNews, Use};

use super::leases::Leases;
use crate::domain::{KeyId, ProviderKey};
use crate::routing::doubt::Doubt;
use crate::routing::quota::Quota;
use crate::store::ports::live::{
    Ask, GROUP, KeyOutcome, KeyPool, KeyState, KeyStatus, Leased, NoKey, OWN_LIMIT, RATE_LIMITED, Returned, Spent,
    Ticket,
};
use ahash::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an exhausted key rests unless the provider asks for longer.
const EXHAUSTED_FOR: Duration = Duration::from_secs(120);
/// The first cooldown when the provider does not say how long; it doubles with each 429 in a row.
const FIRST_COOLDOWN: Duration = Duration::from_secs(1);
/// The longest cooldown that is chosen without the provider asking for it.
const LONGEST_COOLDOWN: Duration = Duration::from_secs(60);

/// Whether the quota of a key or group rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Ready,
    /// `by` is the key that ran into the limit.
    Cooldown {
        until: Instant,
        by: KeyId,
    },
    Exhausted {
        until: Instant,
    },
}

/// What a provider counts together: one key, or a group of them.
#[derive(Debug)]
struct Account {
    group: Option<Arc<str>>,
    rest: Rest,
    /// 429s in a row, for the backoff.
    refusals: u32,
    quota: Quota,
}

impl Account {
    fn rests(&self, now: Instant) -> bool {
        matches!(self.rest, Rest::Cooldown { until, .. } | Rest::Exhausted { until } if until > now)
    }

    fn learn(&mut self, by: KeyId, outcome: KeyOutcome, now: Instant) {
        let old = match self.rest {
            Rest::Cooldown { until, .. } | Rest::Exhausted { until } => until,
            Rest::Ready => now,
        };
        match outcome {
            KeyOutcome::Good => self.refusals = 0,
            KeyOutcome::Unknown | KeyOutcome::Refused => {}
            KeyOutcome::RateLimited(asked) => {
                let chosen = FIRST_COOLDOWN.saturating_mul(2u32.saturating_pow(self.refusals)).min(LONGEST_COOLDOWN);
                self.refusals += 1;
                let until = now + asked.unwrap_or(chosen);
                match self.rest {
                    // Of two deadlines the longer one wins, and with it its reason.
                    Rest::Exhausted { .. } if old >= until => {}
                    Rest::Cooldown { .. } if old >= until => {}
                    _ => self.rest = Rest::Cooldown { until, by },
                }
            }
            KeyOutcome::Exhausted(asked) => {
                let until = now + asked.unwrap_or_default().max(EXHAUSTED_FOR);
                self.rest = Rest::Exhausted { until: until.max(old) };
            }
        }
    }
}

/// A key.
#[derive(Debug)]
struct Slot {
    id: KeyId,
    name: Arc<str>,
    disabled: bool,
    leases: Leases,
    doubt: Doubt,
    /// When it was leased last, so that equal keys take turns.
    turn: u64,
    /// It could not be leased when its account last changed.
    rested: bool,
    /// Its place among the accounts.
    account: usize,
}

impl Slot {
    fn state(&self, account: &Account, tokens: u64, now: Instant) -> KeyState {
        if self.disabled {
            return KeyState::Disabled;
        }
        let own = || match account.quota.wait(tokens, now) {
            Duration::ZERO => KeyState::Ready { leases: self.leases.count(now) },
            left => KeyState::Cooldown { left, why: OWN_LIMIT },
        };
        match account.rest {
            Rest::Cooldown { until, by } if until > now => {
                let why = if by == self.id { RATE_LIMITED } else { GROUP };
                KeyState::Cooldown { left: until - now, why }
            }
            Rest::Exhausted { until } if until > now => KeyState::Exhausted { left: until - now },
            _ => own(),
        }
    }

    /// How busy and how doubtful it is, and how little it has left: less is better.
    fn load(&self, account: &Account, tokens: u64, now: Instant) -> f64 {
        const LEAST_ROOM: f64 = 0.05;
        let room = account.quota.room(tokens, now).max(LEAST_ROOM);
        f64::from(self.leases.count(now) + 1) * self.doubt.factor(now) / room
    }
}

/// Draws two of those it is shown, each pair as likely as any other.
struct Draw {
    seen: u64,
    drawn: [Option<usize>; 2],
    random: u64,
}

impl Draw {
    fn new(random: u64) -> Self {
        Self { seen: 0, drawn: [None; 2], random }
    }

    fn show(&mut self, place: usize) {
        let at = if self.seen < 2 { self.seen } else { self.next() % (self.seen + 1) };
        if let Some(drawn) = usize::try_from(at).ok().and_then(|at| self.drawn.get_mut(at)) {
            *drawn = Some(place);
        }
        self.seen += 1;
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[derive(Debug, Default)]
struct Inner {
    providers: HashMap<Arc<str>, Vec<Slot>>,
    accounts: Vec<Account>,
    turn: u64,
}

impl Inner {
    /// Sees to it that the pool knows the keys: those of a request that began before a reload may be new to it.
    fn know(&mut self, provider: &Arc<str>, keys: &[Arc<ProviderKey>], now: Instant) {
        let knows =
            |slots: &Vec<Slot>| keys.iter().enumerate().all(|(place, key)| find(slots, key.id, place).is_some());
        if self.providers.get(provider).is_some_and(knows) {
            return;
        }
        for key in keys {
            let known = self.providers.get(provider).and_then(|slots| find(slots, key.id, 0));
            if known.is_none() {
                let slot = self.slot(key, now);
                self.providers.entry(provider.clone()).or_default().push(slot);
            }
        }
    }

    fn slot(&mut self, key: &ProviderKey, now: Instant) -> Slot {
        let account = self.account(key, now);
        let (name, leases, doubt) = (key.name.clone(), Leases::default(), Doubt::default());
        Slot { id: key.id, name, disabled: false, leases, doubt, turn: 0, rested: false, account }
    }

    /// The account of a key: its group's, if it is in one that is known already.
    fn account(&mut self, key: &ProviderKey, now: Instant) -> usize {
        let of_group = |account: &Account| key.group.is_some() && account.group == key.group;
        self.accounts.iter().position(of_group).unwrap_or_else(|| {
            let quota = Quota::new(key.quota, now);
            self.accounts.push(Account { group: key.group.clone(), rest: Rest::Ready, refusals: 0, quota });
            self.accounts.len() - 1
        })
    }

    fn states<'a>(
        &'a self,
        ask: &'a Ask<'_>,
        now: Instant,
    ) -> impl Iterator<Item = (&'a Slot, &'a Account, KeyState)> + 'a {
        let slots = self.providers.get(ask.provider).map(Vec::as_slice).unwrap_or_default();
        ask.keys.iter().enumerate().filter_map(move |(place, key)| {
            let slot = &slots[find(slots, key.id, place)?];
            let account = &self.accounts[slot.account];
            Some((slot, account, slot.state(account, ask.tokens, now)))
        })
    }
}

/// Where a key's slot is; most likely at the place that it has in the configuration.
fn find(slots: &[Slot], key: KeyId, place: usize) -> Option<usize> {
    match slots.get(place) {
        Some(slot) if slot.id == key => Some(place),
        _ => slots.iter().position(|slot| slot.id == key),
    }
}

/// The pool: one lock, held for the time of a short list.
#[derive(Debug, Default)]
pub struct MemoryKeyPool(Mutex<Inner>);

impl KeyPool for MemoryKeyPool {
    fn lease(&self, ask: &Ask<'_>, ttl: Duration, random: u64, now: Instant) -> Result<Leased, NoKey> {
        let mut inner = self.0.lock();
        inner.know(ask.provider, ask.keys, now);
        // A key that its provider says has nothing left is a last resort.
        let (mut good, mut spare) = (Draw::new(random), Draw::new(random));
        let mut ready_in: Option<Duration> = None;
        for (place, (slot, account, state)) in inner.states(ask, now).enumerate() {
            match state {
                KeyState::Ready { .. } if ask.tried.contains(&slot.id) => {}
                KeyState::Ready { .. } if account.quota.room(0, now) > 0.0 => good.show(place),
                KeyState::Ready { .. } => spare.show(place),
                other => ready_in = soonest(ready_in, other.left()),
            }
        }
        let drawn = if good.seen > 0 { good.drawn } else { spare.drawn };
        let rank = |place: &usize| {
            let (slot, account, _) = inner.states(ask, now).nth(*place)?;
            Some((slot.load(account, ask.tokens, now), slot.turn))
        };
        let best = match drawn {
            [Some(first), Some(second)] => {
                let (first_rank, second_rank) = (rank(&first), rank(&second));
                if second_rank.partial_cmp(&first_rank).is_some_and(std::cmp::Ordering::is_lt) { second } else { first }
            }
            [one, other] => one.or(other).ok_or(NoKey { ready_in })?,
        };
        inner.turn += 1;
        let Inner { providers, accounts, turn } = &mut *inner;
        let key = ask.keys[best].id;
        let slots = providers.get_mut(ask.provider).ok_or(NoKey { ready_in })?;
        let at = find(slots, key, best).ok_or(NoKey { ready_in })?;
        let slot = &mut slots[at];
        let account = &mut accounts[slot.account];
        account.rest = Rest::Ready;
        account.quota.take(ask.tokens, now);
        slot.turn = *turn;
        let revived = std::mem::take(&mut slot.rested);
        let expires = slot.leases.take(now, ttl);
        Ok(Leased { place: best, ticket: Ticket { key, expires, tokens: ask.tokens }, revived })
    }

    fn any_ready(&self, ask: &Ask<'_>, now: Instant) -> bool {
        let mut inner = self.0.lock();
        inner.know(ask.provider, ask.keys, now);
        inner
            .states(ask, now)
            .any(|(slot, _, state)| matches!(state, KeyState::Ready { .. }) && !ask.tried.contains(&slot.id))
    }

    fn ready_in(&self, ask: &Ask<'_>, now: Instant) -> Option<Duration> {
        let mut inner = self.0.lock();
        inner.know(ask.provider, ask.keys, now);
        let wait = |state: KeyState| match state {
            KeyState::Ready { .. } => Some(Duration::ZERO),
            other => other.left(),
        };
        inner.states(ask, now).filter_map(|(_, _, state)| wait(state)).min()
    }

    fn room(&self, ask: &Ask<'_>, now: Instant) -> f64 {
        let mut inner = self.0.lock();
        inner.know(ask.provider, ask.keys, now);
        let room = |(_, account, state): (&Slot, &Account, KeyState)| match state {
            KeyState::Ready { .. } => account.quota.room(ask.tokens, now),
            _ => 0.0,
        };
        inner.states(ask, now).map(room).fold(0.0, f64::max)
    }

    fn give_back(&self, provider: &str, ticket: &Ticket, returned: Returned, now: Instant) -> Option<KeyState> {
        let mut inner = self.0.lock();
        let Inner { providers, accounts, .. } = &mut *inner;
        let slot = providers.get_mut(provider)?.iter_mut().find(|slot| slot.id == ticket.key)?;
        let account = &mut accounts[slot.account];
        let before = std::mem::discriminant(&slot.state(account, 0, now));
        slot.leases.give_back(ticket.expires, now);
        if let Some(used) = returned.tokens {
            account.quota.settle(ticket.tokens, used, now);
        }
        account.quota.told(&returned.limits, now);
        match returned.outcome {
            KeyOutcome::Unknown => {}
            KeyOutcome::Good => slot.doubt.ease(now),
            KeyOutcome::Refused => slot.disabled = true,
            KeyOutcome::RateLimited(_) | KeyOutcome::Exhausted(_) => slot.doubt.raise(now),
        }
        account.learn(slot.id, returned.outcome, now);
        slot.rested |= account.rests(now);
        let after = slot.state(account, 0, now);
        (std::mem::discriminant(&after) != before).then_some(after)
    }

    fn enable(&self, provider: &str, key: KeyId) -> bool {
        let mut inner = self.0.lock();
        let slot = inner.providers.get_mut(provider).and_then(|slots| slots.iter_mut().find(|slot| slot.id == key));
        slot.is_some_and(|slot| std::mem::take(&mut slot.disabled))
    }

    fn configure(&self, providers: &[(Arc<str>, &[Arc<ProviderKey>])], now: Instant) {
        let mut inner = self.0.lock();
        let mut old = std::mem::take(&mut *inner);
        inner.turn = old.turn;
        for (provider, keys) in providers {
            let mut known = old.providers.remove(provider).unwrap_or_default();
            for key in *keys {
                let before = find(&known, key.id, 0).map(|at| known.swap_remove(at));
                let mut slot = inner.slot(key, now);
                if let Some(before) = before {
                    inner.accounts[slot.account].inherit(&old.accounts[before.account], key, now);
                    let account = slot.account;
                    slot = Slot { name: key.name.clone(), disabled: false, account, ..before };
                }
                inner.providers.entry(provider.clone()).or_default().push(slot);
            }
        }
    }

    fn statuses(&self, now: Instant) -> Vec<KeyStatus> {
        let inner = self.0.lock();
        let status = |provider: &Arc<str>, slot: &Slot| {
            let account = &inner.accounts[slot.account];
            let state = slot.state(account, 0, now);
            let [requests, tokens] =
                account.quota.used(now).map(|used| used.map(|(used, limit)| Spent { used, limit }));
            KeyStatus {
                provider: provider.clone(),
                key: slot.name.clone(),
                id: slot.id,
                state,
                room: account.quota.room(0, now),
                requests,
                tokens,
                health: if state == KeyState::Disabled { 0.0 } else { 1.0 / slot.doubt.factor(now) },
            }
        };
        let providers = inner.providers.iter();
        let mut all: Vec<KeyStatus> =
            providers.flat_map(|(provider, slots)| slots.iter().map(move |slot| status(provider, slot))).collect();
        all.sort_by(|a, b| (&a.provider, &a.key).cmp(&(&b.provider, &b.key)));
        all
    }
}

impl Account {
    /// Takes over what one of its keys' accounts was before a reload: the longer rest, and what was used of unchanged limits.
    fn inherit(&mut self, old: &Self, key: &ProviderKey, now: Instant) {
        let until = |rest: Rest| match rest {
            Rest::Ready => now,
            Rest::Cooldown { until, .. } | Rest::Exhausted { until } => until,
        };
        if until(old.rest) > until(self.rest) {
            self.rest = old.rest;
        }
        self.refusals = self.refusals.max(old.refusals);
        if old.group == self.group {
            self.quota = old.quota;
            self.quota.set_own(key.quota, now);
        }
    }
}

fn soonest(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests;
