//! Places at providers that take only so many requests at once, and the waiting for one. Who is next is decided in
//! [`crate::routing::fair_queue`]; this file rings the bells.

use super::core::{Phase, Stop};
use super::error::{ApiError, Reason};
use super::names::Target;
use super::walk::{Walk, shutting_down};
use crate::domain::Ended;
use crate::routing::fair_queue::{Caps, Entered, FairQueue, Shed, Ticket, Wish};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The queues of all providers that have caps.
#[derive(Default)]
pub(super) struct Queues(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    next: Ticket,
    providers: HashMap<Arc<str>, Queue>,
}

#[derive(Default)]
struct Queue {
    fair: FairQueue,
    /// Of those who wait.
    bells: HashMap<Ticket, oneshot::Sender<()>>,
}

/// A place at a provider, or one in its queue; dropping it gives it up, whichever it is.
pub(super) struct Slot {
    queues: Arc<Queues>,
    provider: Arc<str>,
    ticket: Ticket,
}

/// What came of asking for a place.
enum Asked {
    Held(Slot),
    Waiting(Slot, oneshot::Receiver<()>),
    Shed(Shed),
}

impl Queues {
    fn ask(self: &Arc<Self>, target: &Target, caps: Caps, tenant: &Arc<str>, size: usize, until: Instant) -> Asked {
        let mut inner = self.0.lock();
        let ticket = inner.next;
        inner.next += 1;
        let provider = target.provider.id.clone();
        let queue = inner.providers.entry(provider.clone()).or_default();
        let wish = Wish { ticket, tenant: tenant.clone(), model: target.model.upstream.clone(), deadline: until };
        let entered = queue.fair.enter(wish, caps, size, Instant::now());
        let slot = || Slot { queues: self.clone(), provider, ticket };
        match entered {
            Entered::Held => Asked::Held(slot()),
            Entered::Shed(shed) => Asked::Shed(shed),
            Entered::Waiting => {
                let (bell, rung) = oneshot::channel();
                queue.bells.insert(ticket, bell);
                Asked::Waiting(slot(), rung)
            }
        }
    }

    fn end(&self, provider: &str, ticket: Ticket) {
        let mut inner = self.0.lock();
        let Some(queue) = inner.providers.get_mut(provider) else { return };
        queue.bells.remove(&ticket);
        for served in queue.fair.end(ticket, Instant::now()) {
            if let Some(bell) = queue.bells.remove(&served) {
                // Who has just given up drops its slot, and with it the place.
                let _ = bell.send(());
            }
        }
    }

    fn has_room(&self, target: &Target) -> bool {
        let inner = self.0.lock();
        inner.providers.get(&target.provider.id).is_none_or(|queue| queue.fair.has_room(&target.model.upstream))
    }

    /// How many wait at each provider.
    pub(super) fn depths(&self) -> Vec<(Arc<str>, usize)> {
        let inner = self.0.lock();
        inner.providers.iter().map(|(provider, queue)| (provider.clone(), queue.fair.depth())).collect()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.queues.end(&self.provider, self.ticket);
    }
}

/// What a walk knows about places that it did not get.
#[derive(Default)]
pub(super) struct Busy {
    /// The first target that was ready but for a place, when others were there to be tried first.
    pub(super) passed: Option<usize>,
    /// The others have been tried: it waits for the one that was passed over.
    pub(super) insists: bool,
    /// It has waited in vain, or may not wait.
    shed: Option<Shed>,
}

/// Whether a target has a place for the request.
pub(super) enum Place {
    /// As long as the slot is held, if there is a cap at all.
    Held {
        /// What to let go of, where there is a cap.
        slot: Option<Slot>,
        /// Since when.
        since: Instant,
    },
    /// None: the next target's turn.
    PassedOver,
}

impl Walk<'_> {
    /// A place at a target. When there is none and no other target of the plan is ready, waits for one.
    ///
    /// # Errors
    /// The client has gone or the gateway shuts down while the request waits.
    pub(super) async fn place(&mut self, target: &Target, now: Instant) -> Result<Place, Stop> {
        let Some(caps) = target.provider.caps(&target.model.upstream) else {
            return Ok(Place::Held { slot: None, since: now });
        };
        let shed = match self.core.queues.ask(target, caps, &self.tenant(), 0, now) {
            Asked::Held(slot) => return Ok(Place::Held { slot: Some(slot), since: now }),
            Asked::Shed(shed) => shed,
            // Where nobody may wait nobody does.
            Asked::Waiting(..) => return Ok(Place::PassedOver),
        };
        let ready = self.is_ready(self.at, now);
        let others = !self.busy.insists && (self.at + 1..self.plan.targets.len()).any(|at| self.could_serve(at, now));
        if ready && others {
            self.busy.passed.get_or_insert(self.at);
        }
        if !ready || others || self.busy.shed.is_some() {
            self.skip(target, "busy", ready.then_some(shed.wait));
            return Ok(Place::PassedOver);
        }
        // Rare and long, so it is kept out of the future of every request.
        Box::pin(self.wait_for(target, caps)).await
    }

    /// Whether the target has a place, or needs none.
    pub(super) fn has_place(&self, target: &Target) -> bool {
        target.provider.caps(&target.model.upstream).is_none() || self.core.queues.has_room(target)
    }

    /// A place at the target without any wait; `None` when there is none.
    pub(super) fn place_now(&self, target: &Target) -> Option<Option<Slot>> {
        let Some(caps) = target.provider.caps(&target.model.upstream) else { return Some(None) };
        match self.core.queues.ask(target, caps, &self.tenant(), 0, Instant::now()) {
            Asked::Held(slot) => Some(Some(slot)),
            Asked::Shed(_) | Asked::Waiting(..) => None,
        }
    }

    /// Whether the target at this place of the plan could be asked now.
    fn could_serve(&self, at: usize, now: Instant) -> bool {
        let Some((_, target)) = self.plan.targets.get(at) else { return false };
        self.has_place(target) && self.is_ready(at, now)
    }

    fn tenant(&self) -> Arc<str> {
        self.client.record.key_name.clone().unwrap_or_default()
    }

    async fn wait_for(&mut self, target: &Target, caps: Caps) -> Result<Place, Stop> {
        let begun = Instant::now();
        let limits = &self.snapshot.limits;
        let size = if limits.queue_wait.is_some() { limits.queue_size } else { 0 };
        let until = self.deadline.min(begun + limits.queue_wait.unwrap_or_default());
        let (slot, rung) = match self.core.queues.ask(target, caps, &self.tenant(), size, until) {
            Asked::Held(slot) => return Ok(Place::Held { slot: Some(slot), since: begun }),
            Asked::Shed(shed) => return Ok(self.shed(target, shed)),
            Asked::Waiting(slot, rung) => (slot, rung),
        };
        let mut phase = self.core.phase.subscribe();
        let ending = async move { phase.wait_for(|phase| *phase == Phase::Ending).await.is_ok() };
        let waited = tokio::select! {
            biased;
            Ok(()) = rung => Ok(true),
            () = tokio::time::sleep_until(until.into()) => Ok(false),
            _ = self.session.read_body_or_idle(true) => {
                self.client.record.ended = Ended::ClientGone;
                Err(Stop::Gone)
            }
            true = ending => {
                self.client.record.ended = Ended::Shutdown;
                Err(shutting_down().into())
            }
        };
        let took = begun.elapsed();
        self.client.waited += took;
        *self.client.record.queued.get_or_insert_default() += took;
        if waited? {
            return Ok(Place::Held { slot: Some(slot), since: Instant::now() });
        }
        drop(slot);
        Ok(self.shed(target, Shed { full: false, wait: Duration::ZERO }))
    }

    fn shed(&mut self, target: &Target, shed: Shed) -> Place {
        let reason = if shed.full { "queue_full" } else { "queue_wait" };
        self.core.telemetry.metrics.limited(reason);
        self.skip(target, reason, Some(shed.wait));
        self.busy.shed = Some(shed);
        Place::PassedOver
    }

    /// Where to go when the plan is at its end and a target was passed over because it was busy.
    pub(super) fn last_resort(&mut self) -> Option<usize> {
        let at = self.busy.passed.take().filter(|_| self.busy.shed.is_none())?;
        self.busy.insists = true;
        Some(at)
    }

    /// What the client is told when it was shed.
    pub(super) fn shed_error(&self) -> Option<ApiError> {
        let shed = self.busy.shed?;
        let why = if shed.full {
            "as many requests as may (limits.queue_size) wait for it already"
        } else {
            "no place would become free in time (limits.queue_wait)"
        };
        let message = format!("every target that could serve is busy (max_concurrent), and {why}");
        Some(ApiError::new(Reason::RateLimited, message).retry_after(shed.wait))
    }
}
