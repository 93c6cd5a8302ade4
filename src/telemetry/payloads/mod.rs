//! What the last requests carried: a ring in memory, bounded in bytes and in requests, for DevTools; and what of it goes to the database.
//!
//! ```text
//! begin ──> Tape: request, attempts, answer, piece by piece ──> finish ──> the ring, oldest out ──> get (at any time)
//!   │                                                              └─────> to be kept on disk, where the policy says so
//!   └ None where nothing is kept: the data plane then looks at one Option a piece
//! ```
//!
//! A client's own keys are cut out before a body comes here ([`crate::domain::payloads`] says what is kept), headers that are secrets are
//! masked as they are taken down. Everything else passes the redactor before anybody sees it, and at the end of its request already where
//! somebody may have repeated a key.

mod raw;
mod tape;

pub use tape::{AttemptTape, Begin, Tape};

use super::Redactor;
use crate::domain::payloads::{Policy, Settings};
use crate::domain::{Payloads, RequestId};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// The ring and the way to the database. Clones share them.
#[derive(Clone)]
pub struct PayloadStore(Arc<Shared>);

struct Shared {
    on: AtomicBool,
    settings: ArcSwap<Settings>,
    redactor: Arc<Redactor>,
    ring: Mutex<Ring>,
    /// Bytes that tapes of running requests may have taken.
    granted: AtomicUsize,
    /// Pieces that were not taken because running requests had taken all there is room for.
    cut: AtomicU64,
    sink: OnceLock<Sink>,
}

/// Where payloads go that are kept on disk. It must not wait.
type Sink = Box<dyn Fn(Arc<Tape>) + Send + Sync>;

#[derive(Default)]
struct Ring {
    tapes: VecDeque<Arc<Tape>>,
    bytes: usize,
}

impl fmt::Debug for PayloadStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ring = self.0.ring.lock();
        write!(f, "PayloadStore({} requests, {} bytes)", ring.tapes.len(), ring.bytes)
    }
}

impl PayloadStore {
    /// A store that keeps nothing yet: see [`PayloadStore::configure`].
    pub fn new(redactor: Arc<Redactor>) -> Self {
        Self(Arc::new(Shared {
            on: AtomicBool::new(false),
            settings: ArcSwap::default(),
            redactor,
            ring: Mutex::default(),
            granted: AtomicUsize::new(0),
            cut: AtomicU64::new(0),
            sink: OnceLock::new(),
        }))
    }

    /// What is kept from here on. What is in the ring and has no room any more goes.
    pub fn configure(&self, settings: Settings) {
        self.0.on.store(settings.ring_bytes > 0 || settings.policy != Policy::None, Relaxed);
        self.0.settings.store(Arc::new(settings));
        let gone = self.0.make_room(&mut self.0.ring.lock());
        drop(gone);
    }

    /// Where payloads go that are kept on disk; the first who asks gets them. It must not wait: [`PayloadStore::shown`] is for a thread
    /// of its own.
    pub fn set_sink(&self, sink: impl Fn(Arc<Tape>) + Send + Sync + 'static) {
        let _ = self.0.sink.set(Box::new(sink));
    }

    /// Whether anything is kept of requests at all: one load.
    pub fn is_on(&self) -> bool {
        self.0.on.load(Relaxed)
    }

    /// Begins to take a request down; `None` where nothing is kept of it. `chance` draws a number below a million.
    pub fn begin(&self, begin: Begin<'_>, chance: impl FnOnce() -> u32) -> Option<Arc<Tape>> {
        let settings = self.0.settings.load_full();
        let drawn = match settings.policy {
            Policy::None => false,
            Policy::Errors | Policy::All => true,
            Policy::Sampled(share) => chance() < share,
        };
        let in_ring = settings.ring_bytes > 0;
        if !drawn && !in_ring {
            return None;
        }
        let tape = Arc::new(Tape::new(self.clone(), begin, settings.body_bytes, drawn));
        if in_ring {
            let mut ring = self.0.ring.lock();
            ring.tapes.push_back(tape.clone());
            let gone = self.0.make_room(&mut ring);
            drop(ring);
            drop(gone);
        }
        Some(tape)
    }

    /// What a request carried, of one that still runs as far as it has come; `None` when it is not among the last ones, or nothing was to
    /// be kept of it.
    pub fn get(&self, id: &RequestId) -> Option<Arc<Payloads>> {
        let tape = self.0.ring.lock().tapes.iter().rev().find(|tape| tape.id() == *id).cloned()?;
        Some(Arc::new(self.shown(&tape)))
    }

    /// The ids of the requests in the ring, the newest first.
    pub fn ids(&self) -> Vec<RequestId> {
        self.0.ring.lock().tapes.iter().rev().map(|tape| tape.id()).collect()
    }

    /// What of a tape may be shown.
    pub fn shown(&self, tape: &Tape) -> Payloads {
        tape.shown(&self.0.redactor, &self.0.settings.load().redact)
    }

    /// How many bytes the ring holds, for metrics and tests.
    pub fn held_bytes(&self) -> usize {
        self.0.ring.lock().bytes
    }

    /// How many pieces were left out because running requests had taken all that there is room for.
    pub fn left_out(&self) -> u64 {
        self.0.cut.load(Relaxed)
    }

    /// Asks for room for a tape of a running request: for `bytes` more.
    fn grant(&self, bytes: usize) -> bool {
        let most = self.0.settings.load().ring_bytes.max(LEAST_ROOM);
        let is_free = self.0.granted.fetch_add(bytes, Relaxed).saturating_add(bytes) <= most;
        if !is_free {
            self.0.granted.fetch_sub(bytes, Relaxed);
            self.0.cut.fetch_add(1, Relaxed);
        }
        is_free
    }

    fn give_back(&self, bytes: usize) {
        self.0.granted.fetch_sub(bytes, Relaxed);
    }

    /// A tape is complete.
    fn finished(&self, tape: &Arc<Tape>, bytes: usize, for_disk: bool) {
        let mut ring = self.0.ring.lock();
        if tape.count_in(bytes) {
            ring.bytes += bytes;
        }
        let gone = self.0.make_room(&mut ring);
        drop(ring);
        drop(gone);
        if for_disk && let Some(sink) = self.0.sink.get() {
            sink(tape.clone());
        }
    }

    fn redactor(&self) -> &Redactor {
        &self.0.redactor
    }

    fn keeps_only_errors(&self) -> bool {
        self.0.settings.load().policy == Policy::Errors
    }
}

/// Running requests may take this much where there is no ring, only a policy.
const LEAST_ROOM: usize = 64 << 20;

impl Shared {
    /// What has to go; it is freed after the lock.
    fn make_room(&self, ring: &mut Ring) -> Vec<Arc<Tape>> {
        let settings = self.settings.load();
        let mut gone = Vec::new();
        while ring.tapes.len() > settings.ring_entries || ring.bytes > settings.ring_bytes {
            let Some(oldest) = ring.tapes.pop_front() else { break };
            ring.bytes -= oldest.count_out();
            gone.push(oldest);
        }
        gone
    }
}

#[cfg(test)]
mod tests;
