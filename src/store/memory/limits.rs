//! The limits of one node: a bucket for each measure of each subject, behind one lock that is held for a few hundred nanoseconds.
//!
//! Users and models are named by clients, so each scope remembers a bounded number of subjects. When it is full, a newcomer takes the
//! place of one whose buckets are full, which therefore lose nothing by being forgotten; failing that, of the one that is nearest to it
//! among those looked at. A subject with a request in flight is never forgotten: those are bounded by the requests themselves.

use crate::domain::{Limit, Measure, Scope};
use crate::routing::token_bucket::{Bucket, Rate, Short};
use crate::store::ports::limits::{Denied, Keeper, Lease, LimitStore, Refusal, Standing, Standings, Subject, Wait};
use ahash::HashMap;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many subjects of one scope are remembered.
const MOST_SUBJECTS: usize = 65_536;
/// How many are looked at to find one that can be forgotten.
const LOOKED_AT: usize = 64;

/// The buckets of one node.
#[derive(Debug)]
pub struct MemoryLimits {
    /// By [`Scope`], so that no wealth of invented users pushes out the keys.
    tables: Mutex<[Table; Scope::ALL.len()]>,
    most: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self::bounded(MOST_SUBJECTS)
    }
}

impl MemoryLimits {
    /// With another bound on the subjects of a scope.
    pub fn bounded(most: usize) -> Self {
        Self { tables: Mutex::default(), most: most.max(1) }
    }

    /// How many subjects of a scope are remembered.
    pub fn subjects(&self, scope: Scope) -> usize {
        self.tables.lock()[scope as usize].entries.len()
    }

    /// What [`LimitStore::acquire`] does, at once.
    pub fn take(&self, subjects: Vec<Subject>, tokens: u64, now: Instant) -> (Result<Lease, Refusal>, Standings) {
        let mut tables = self.tables.lock();
        let mut refusal: Option<Refusal> = None;
        let mut places = Vec::with_capacity(subjects.len());
        for subject in &subjects {
            let table = &mut tables[subject.scope as usize];
            let place = table.place(&subject.name, self.most, now);
            places.push(place);
            let entry = &mut table.entries[place];
            let refused = subject.limits.iter().filter_map(|limit| entry.check(subject.scope, *limit, tokens, now));
            refusal = refusal.into_iter().chain(refused).max_by_key(|refusal| refusal.wait.length());
            // Also keeps it from being forgotten while the other subjects find their places.
            entry.in_flight += 1;
        }
        let mut standings = Standings::default();
        for (subject, place) in subjects.iter().zip(places) {
            let entry = &mut tables[subject.scope as usize].entries[place];
            if refusal.is_some() {
                entry.in_flight -= 1;
            } else {
                subject.limits.iter().for_each(|limit| entry.charge(*limit, tokens));
            }
            subject.limits.iter().for_each(|limit| entry.note(*limit, &mut standings));
        }
        match refusal {
            Some(refusal) => (Err(refusal), standings),
            None => (Ok(Lease { subjects, tokens, keeper: Keeper::Local }), standings),
        }
    }

    /// Takes note of a request that somebody else has let pass: it counts as in flight, and is taken from what is there, without a debt.
    /// `whole` are the limits of all nodes together, `subjects` those of this one.
    ///
    /// # Errors
    /// So many are in flight here already that it cannot have been let pass; nothing is noted then.
    pub fn note(&self, whole: &[Subject], subjects: &[Subject], now: Instant) -> Result<(), Refusal> {
        let mut tables = self.tables.lock();
        for subject in whole {
            let Some(entry) = tables[subject.scope as usize].find(&subject.name) else { continue };
            let places = subject.limits.iter().filter(|limit| limit.measure == Measure::Concurrency);
            for limit in places {
                if let Some(refusal) = entry.check(subject.scope, *limit, 0, now) {
                    return Err(refusal);
                }
            }
        }
        for subject in subjects {
            let table = &mut tables[subject.scope as usize];
            let place = table.place(&subject.name, self.most, now);
            let entry = &mut table.entries[place];
            entry.in_flight += 1;
            let requests = subject.limits.iter().filter(|limit| matches!(limit.measure, Measure::Requests(_)));
            requests.for_each(|limit| entry.drain(*limit, 1, now));
        }
        Ok(())
    }

    /// Takes what another process has granted: as [`MemoryLimits::take`], whether there is room for it or not.
    pub fn charge(&self, subjects: &[Subject], tokens: u64, now: Instant) {
        let mut tables = self.tables.lock();
        for subject in subjects {
            let table = &mut tables[subject.scope as usize];
            let place = table.place(&subject.name, self.most, now);
            let entry = &mut table.entries[place];
            entry.in_flight += 1;
            for limit in subject.limits.iter() {
                // Made, when it is new.
                let _ = entry.meter(*limit, now);
                entry.charge(*limit, tokens);
            }
        }
    }

    /// All that is not as if it had never been used.
    pub fn copy(&self, now: Instant) -> Vec<KeptSubject> {
        let mut tables = self.tables.lock();
        let mut kept = Vec::new();
        for scope in Scope::ALL {
            for entry in &mut tables[scope as usize].entries {
                if entry.in_flight == 0 && entry.full_in(now).is_zero() {
                    continue;
                }
                let meters = entry.meters.iter_mut().map(|Meter { measure, rate, bucket }| {
                    bucket.refill(*rate, now);
                    KeptMeter { measure: *measure, amount: rate.amount, level: bucket.level() }
                });
                let meters = meters.collect();
                kept.push(KeptSubject { scope, name: entry.name.clone(), in_flight: entry.in_flight, meters });
            }
        }
        kept
    }

    /// Takes over what another process had, which [`MemoryLimits::copy`] has told there.
    pub fn inherit(&self, kept: Vec<KeptSubject>, now: Instant) {
        let mut tables = self.tables.lock();
        for KeptSubject { scope, name, in_flight, meters } in kept {
            let table = &mut tables[scope as usize];
            let place = table.place(&name, self.most, now);
            let entry = &mut table.entries[place];
            entry.in_flight += in_flight;
            entry.meters = meters.into_iter().filter_map(|meter| meter.read(now)).collect();
        }
    }

    /// Gives back so many places of requests that will not end by themselves.
    pub fn give_up(&self, scope: Scope, name: &str, count: u64) {
        if let Some(entry) = self.tables.lock()[scope as usize].find(name) {
            entry.in_flight = entry.in_flight.saturating_sub(count);
        }
    }

    /// Takes note of its end, and of the tokens that it used.
    pub fn note_end(&self, subjects: &[Subject], used_tokens: u64, now: Instant) {
        let mut tables = self.tables.lock();
        for subject in subjects {
            if let Some(entry) = tables[subject.scope as usize].find(&subject.name) {
                entry.in_flight = entry.in_flight.saturating_sub(1);
                let tokens = subject.limits.iter().filter(|limit| matches!(limit.measure, Measure::Tokens(_)));
                tokens.for_each(|limit| entry.drain(*limit, used_tokens, now));
            }
        }
    }
}

#[async_trait]
impl LimitStore for MemoryLimits {
    async fn acquire(&self, subjects: Vec<Subject>, tokens: u64, now: Instant) -> (Result<Lease, Denied>, Standings) {
        let (granted, standings) = self.take(subjects, tokens, now);
        (granted.map_err(Denied::Reached), standings)
    }

    fn settle(&self, lease: Lease, used_tokens: u64, now: Instant) {
        let mut tables = self.tables.lock();
        for subject in &lease.subjects {
            if let Some(entry) = tables[subject.scope as usize].find(&subject.name) {
                entry.in_flight = entry.in_flight.saturating_sub(1);
                subject.limits.iter().for_each(|limit| entry.settle(*limit, lease.tokens, used_tokens, now));
            }
        }
    }
}

/// The subjects of one scope. Places are kept by number, so that a hand can go round over them.
#[derive(Debug, Default)]
struct Table {
    places: HashMap<Arc<str>, usize>,
    entries: Vec<Entry>,
    hand: usize,
}

impl Table {
    fn find(&mut self, name: &str) -> Option<&mut Entry> {
        let place = *self.places.get(name)?;
        self.entries.get_mut(place)
    }

    fn place(&mut self, name: &Arc<str>, most: usize, now: Instant) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let entry = Entry { name: name.clone(), in_flight: 0, meters: Vec::new() };
        let forgettable = if self.entries.len() < most { None } else { self.forgettable(now) };
        let place = match forgettable {
            Some(place) => {
                let old = std::mem::replace(&mut self.entries[place], entry);
                self.places.remove(&old.name);
                place
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        self.places.insert(name.clone(), place);
        place
    }

    /// One whose buckets are full, else the fullest of those that the hand passes; `None` when all have requests in flight.
    fn forgettable(&mut self, now: Instant) -> Option<usize> {
        let mut best: Option<(usize, Duration)> = None;
        for looked in 0..self.entries.len() {
            self.hand = (self.hand + 1) % self.entries.len();
            let entry = &mut self.entries[self.hand];
            if entry.in_flight == 0 {
                let full_in = entry.full_in(now);
                if full_in.is_zero() {
                    return Some(self.hand);
                }
                if best.is_none_or(|(_, shortest)| full_in < shortest) {
                    best = Some((self.hand, full_in));
                }
            }
            if looked >= LOOKED_AT && best.is_some() {
                break;
            }
        }
        best.map(|(place, _)| place)
    }
}

/// One subject.
#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    /// Leases out.
    in_flight: u64,
    meters: Vec<Meter>,
}

#[derive(Debug)]
struct Meter {
    measure: Measure,
    /// As it was when last used.
    rate: Rate,
    bucket: Bucket,
}

/// A subject, as one process tells it another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSubject {
    /// What it is.
    pub scope: Scope,
    /// Its name.
    pub name: Arc<str>,
    /// Requests in flight.
    pub in_flight: u64,
    /// Its buckets.
    pub meters: Vec<KeptMeter>,
}

/// One of its buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMeter {
    /// What it counts.
    pub measure: Measure,
    /// What it holds at most.
    pub amount: u64,
    /// What is in it, as [`Bucket::level`] says.
    pub level: i128,
}

impl KeptMeter {
    fn read(self, now: Instant) -> Option<Meter> {
        let rate = rate(Limit { measure: self.measure, amount: self.amount })?;
        let mut bucket = Bucket::at_level(self.level, now);
        // It cannot hold more than it can.
        bucket.refill(rate, now);
        Some(Meter { measure: self.measure, rate, bucket })
    }
}

/// The rate of a limit, which concurrency has none of.
fn rate(limit: Limit) -> Option<Rate> {
    match limit.measure {
        Measure::Requests(period) | Measure::Tokens(period) => {
            Some(Rate { amount: limit.amount, period: period.duration() })
        }
        Measure::Concurrency => None,
    }
}

fn cost(measure: Measure, tokens: u64) -> u64 {
    // A bucket in debt refuses even what is estimated at nothing.
    if matches!(measure, Measure::Tokens(_)) { tokens.max(1) } else { 1 }
}

impl Entry {
    /// The bucket of a limit, made full when it is new, and filled up to now.
    fn meter(&mut self, limit: Limit, now: Instant) -> Option<&mut Meter> {
        let rate = rate(limit)?;
        let known = self.meters.iter().position(|meter| meter.measure == limit.measure);
        let at = known.unwrap_or_else(|| {
            self.meters.push(Meter { measure: limit.measure, rate, bucket: Bucket::full(rate, now) });
            self.meters.len() - 1
        });
        let meter = self.meters.get_mut(at)?;
        meter.rate = rate;
        meter.bucket.refill(rate, now);
        Some(meter)
    }

    fn known(&mut self, measure: Measure) -> Option<&mut Meter> {
        self.meters.iter_mut().find(|meter| meter.measure == measure)
    }

    fn check(&mut self, scope: Scope, limit: Limit, tokens: u64, now: Instant) -> Option<Refusal> {
        let in_flight = self.in_flight;
        let requested = cost(limit.measure, tokens);
        let refusal = |remaining, wait| Refusal { scope, limit, remaining, requested, wait };
        let Some(meter) = self.meter(limit, now) else {
            return (in_flight >= limit.amount).then(|| refusal(0, Wait::Place));
        };
        let remaining = meter.bucket.remaining(meter.rate);
        match meter.bucket.check(meter.rate, requested) {
            Ok(()) => None,
            Err(Short::For(wait)) => Some(refusal(remaining, Wait::For(wait))),
            Err(Short::Ever) => Some(refusal(remaining, Wait::Never)),
        }
    }

    fn charge(&mut self, limit: Limit, tokens: u64) {
        if let Some(meter) = self.known(limit.measure) {
            meter.bucket.take(meter.rate, cost(limit.measure, tokens));
        }
    }

    /// Takes so much, or what is there.
    fn drain(&mut self, limit: Limit, amount: u64, now: Instant) {
        if let Some(Meter { rate, bucket, .. }) = self.meter(limit, now) {
            bucket.take(*rate, amount.min(bucket.remaining(*rate)));
        }
    }

    fn settle(&mut self, limit: Limit, reserved: u64, used: u64, now: Instant) {
        if !matches!(limit.measure, Measure::Tokens(_)) {
            return;
        }
        let taken = cost(limit.measure, reserved);
        if let Some(Meter { rate, bucket, .. }) = self.known(limit.measure) {
            bucket.refill(*rate, now);
            if used > taken {
                bucket.take(*rate, used - taken);
            } else {
                bucket.put_back(*rate, taken - used);
            }
        }
    }

    /// Takes note of a limit that leaves less than those before it.
    fn note(&mut self, limit: Limit, standings: &mut Standings) {
        let place = match limit.measure {
            Measure::Requests(_) => &mut standings.requests,
            Measure::Tokens(_) => &mut standings.tokens,
            Measure::Concurrency => return,
        };
        if let Some(Meter { rate, bucket, .. }) = self.known(limit.measure) {
            let (remaining, reset) = (bucket.remaining(*rate), bucket.full_in(*rate));
            if place.is_none_or(|tightest| remaining < tightest.remaining) {
                *place = Some(Standing { limit: limit.amount, remaining, reset });
            }
        }
    }

    /// How long until all its buckets are full.
    fn full_in(&mut self, now: Instant) -> Duration {
        let times = self.meters.iter_mut().map(|Meter { rate, bucket, .. }| {
            bucket.refill(*rate, now);
            bucket.full_in(*rate)
        });
        times.max().unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
