//! Who may use a provider that takes only so many requests at once, who waits for it, and who is served next.
//!
//! ```text
//!   enter ──there is room──────────────────────────> Held ──end──> gone
//!     │ └──there is none──> Waiting ──its turn comes──┘
//!     │                        └──end: it gave up──────────────> gone
//!     └──the queue is full, or its turn would come too late──> Shed
//! ```
//!
//! One queue a provider. Its tenants (gateway keys) take turns, and within a tenant the first to come is the first to be served. A model
//! may have a cap of its own: who waits for a model that is full is overtaken by whoever waits for another. No place is ever free while
//! somebody waits who could use it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The number of a request in a queue, never used twice.
pub type Ticket = u64;

/// How fast the mean of the times that places are held follows.
const WEIGHT_OF_LATEST: f64 = 0.2;

/// How many requests a target takes at once; `None` for any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// At the provider.
    pub provider: Option<u32>,
    /// For the model there.
    pub model: Option<u32>,
}

/// A request that wants a place.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Its number.
    pub ticket: Ticket,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// The model that it is for.
    pub model: Arc<str>,
    /// Until when it can wait.
    pub deadline: Instant,
}

/// What became of a [`Wish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It has a place.
    Held,
    /// It waits.
    Waiting,
    /// It may not wait.
    Shed(Shed),
}

/// Why a request may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed {
    /// The queue is full; else its turn would come after its deadline.
    pub full: bool,
    /// When a place can be expected.
    pub wait: Duration,
}

/// The places of one provider and those who wait for them.
#[derive(Debug, Default)]
pub struct FairQueue {
    cap: Option<u32>,
    /// Models with caps of their own.
    models: HashMap<Arc<str>, Places>,
    held: HashMap<Ticket, Holder>,
    /// The tenants that wait; the first one's turn is next.
    tenants: VecDeque<Tenant>,
    waiting: usize,
    mean_held: Option<Duration>,
}

#[derive(Debug, Default)]
struct Places {
    cap: Option<u32>,
    held: u32,
}

#[derive(Debug)]
struct Holder {
    model: Arc<str>,
    since: Instant,
}

#[derive(Debug)]
struct Tenant {
    name: Arc<str>,
    waiting: VecDeque<Wish>,
}

impl FairQueue {
    /// Asks for a place; `size` is how many may wait. The caps replace those of before.
    pub fn enter(&mut self, wish: Wish, caps: Caps, size: usize, now: Instant) -> Entered {
        self.cap = caps.provider;
        if caps.model.is_some() || self.models.contains_key(&wish.model) {
            // Who holds a place since before there was a cap counts too.
            let held = || self.held.values().filter(|holder| holder.model == wish.model).count();
            let new = || Places { cap: None, held: u32::try_from(held()).unwrap_or(u32::MAX) };
            self.models.entry(wish.model.clone()).or_insert_with(new).cap = caps.model;
        }
        if self.has_room(&wish.model) && !self.awaits(&wish.model) {
            self.hold(wish, now);
            return Entered::Held;
        }
        let wait = self.expected_wait(&wish, caps);
        if self.waiting >= size {
            return Entered::Shed(Shed { full: true, wait });
        }
        if now + wait > wish.deadline {
            return Entered::Shed(Shed { full: false, wait });
        }
        self.waiting += 1;
        match self.tenants.iter_mut().find(|tenant| tenant.name == wish.tenant) {
            Some(tenant) => tenant.waiting.push_back(wish),
            None => self.tenants.push_back(Tenant { name: wish.tenant.clone(), waiting: VecDeque::from([wish]) }),
        }
        Entered::Waiting
    }

    /// A request is over, or no longer waits. Gives the tickets whose turn has come; they hold their places from now on.
    pub fn end(&mut self, ticket: Ticket, now: Instant) -> Vec<Ticket> {
        match self.held.remove(&ticket) {
            Some(holder) => {
                if let Some(places) = self.models.get_mut(&holder.model) {
                    places.held = places.held.saturating_sub(1);
                }
                self.learn(now.saturating_duration_since(holder.since));
            }
            None => self.remove(|wish| wish.ticket == ticket),
        }
        self.remove(|wish| wish.deadline <= now);
        self.serve(now)
    }

    /// How many wait.
    pub fn depth(&self) -> usize {
        self.waiting
    }

    /// When a wish can expect a place.
    fn expected_wait(&self, wish: &Wish, caps: Caps) -> Duration {
        let (Some(mean), Some(places)) = (self.mean_held, caps.provider.into_iter().chain(caps.model).min()) else {
            return Duration::ZERO;
        };
        let own = self.tenants.iter().find(|tenant| tenant.name == wish.tenant).map_or(0, |it| it.waiting.len());
        let others = self.tenants.iter().filter(|tenant| tenant.name != wish.tenant);
        let before = own + others.map(|tenant| tenant.waiting.len().min(own + 1)).sum::<usize>();
        // A place becomes free so often, on average, when all are taken.
        let turn = mean / places.max(1);
        turn.saturating_mul(u32::try_from(before + 1).unwrap_or(u32::MAX))
    }

    /// Whether a place for the model is free.
    pub fn has_room(&self, model: &str) -> bool {
        let below = |cap: Option<u32>, held: usize| cap.is_none_or(|cap| held < cap as usize);
        below(self.cap, self.held.len())
            && self.models.get(model).is_none_or(|places| below(places.cap, places.held as usize))
    }

    fn awaits(&self, model: &str) -> bool {
        self.tenants.iter().flat_map(|tenant| &tenant.waiting).any(|wish| *wish.model == *model)
    }

    fn hold(&mut self, wish: Wish, now: Instant) {
        if let Some(places) = self.models.get_mut(&wish.model) {
            places.held += 1;
        }
        self.held.insert(wish.ticket, Holder { model: wish.model, since: now });
    }

    fn serve(&mut self, now: Instant) -> Vec<Ticket> {
        let mut served = Vec::new();
        while let Some((tenant, place)) = self.next() {
            let Some(mut turn) = self.tenants.remove(tenant) else { break };
            if let Some(wish) = turn.waiting.remove(place) {
                self.waiting -= 1;
                served.push(wish.ticket);
                self.hold(wish, now);
            }
            if !turn.waiting.is_empty() {
                self.tenants.push_back(turn);
            }
        }
        served
    }

    /// The tenant whose turn it is, and which of its requests: the first of those that have room.
    fn next(&self) -> Option<(usize, usize)> {
        let fits = |tenant: &Tenant| tenant.waiting.iter().position(|wish| self.has_room(&wish.model));
        self.tenants.iter().enumerate().find_map(|(at, tenant)| Some((at, fits(tenant)?)))
    }

    fn remove(&mut self, gone: impl Fn(&Wish) -> bool) {
        if self.waiting == 0 {
            return;
        }
        for tenant in &mut self.tenants {
            tenant.waiting.retain(|wish| !gone(wish));
        }
        self.tenants.retain(|tenant| !tenant.waiting.is_empty());
        self.waiting = self.tenants.iter().map(|tenant| tenant.waiting.len()).sum();
    }

    fn learn(&mut self, held: Duration) {
        self.mean_held = Some(match self.mean_held {
            None => held,
            Some(mean) => mean.mul_f64(1.0 - WEIGHT_OF_LATEST) + held.mul_f64(WEIGHT_OF_LATEST),
        });
    }
}

#[cfg(test)]
#[path = "fair_queue_tests.rs"]
mod tests;
