//! The books of a node that shares none with others: what is spent and reserved of accounts, and the buckets of limits. They are one process's
//! alone, also while an upgrade replaces it: the successor takes them before it accepts its first request, and whoever comes before it in the
//! data directory asks it from then on, at `books.sock`.
//!
//! ```text
//!            the successor takes the books               the process that asked has ended
//! Keeping ────────────────────────────────> Given ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─> (what it had open
//!    ▲                                        │                                            is given back)
//!    └── the successor ended before it served ┘
//! ```
//!
//! What a process that asks has reserved stands in the books of the one that keeps them, below its name, and goes with its connection: but
//! not before the ledger was asked what it has spent, of which it may not have come to tell ([`Succession::lost`]). A third process finds the
//! names of both before it.

mod keeper;
mod link;
#[cfg(test)]
mod tests;
mod wire;

pub use keeper::Taken;

use crate::domain::budget::{Account, Draw};
use crate::domain::{Money, Scope};
use crate::store::memory::{MemoryAccounts, MemoryLimits, OpenReservation, until};
use crate::store::ports::accounts::{Accounts, Balance, Refused, Reservation};
use crate::store::ports::limits::{Denied, Lease, LimitStore, Standings, Subject};
use async_trait::async_trait;
use link::{Link, Told};
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, HashSet};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use wire::{Answer, Open};

/// How long a process that had something open when the books were taken has time to say that it is there.
const COMES: Duration = Duration::from_secs(10);

/// The books. Copies are the same ones.
#[derive(Clone)]
pub struct Succession(Arc<Inner>);

struct Inner {
    /// Those of this process, and of others while it keeps theirs; while it does not, only what is its own counts in them.
    accounts: MemoryAccounts,
    limits: MemoryLimits,
    role: RwLock<Role>,
    /// This process, as others name it.
    own: String,
    path: PathBuf,
    /// Where others are answered, while they are answered here.
    listener: Mutex<Option<Arc<UnixListener>>>,
    guests: Mutex<HashMap<String, Guest>>,
    /// Somebody has left.
    left: Notify,
    /// What somebody has spent may be in the ledger alone.
    owes_recount: AtomicBool,
}

enum Role {
    Keeping,
    Given(Link),
}

/// Another process whose requests are in the books.
#[derive(Debug)]
struct Guest {
    /// By their numbers there.
    reservations: HashMap<u64, Reservation>,
    places: HashMap<(Scope, Arc<str>), u64>,
    /// The last of its settlements that is booked.
    settled: u64,
    /// Its connections: one, or two for a moment.
    connections: u32,
    /// How often it has come. What it has said in earlier connections it says again in the last one.
    met: u64,
    /// When it was expected first, or has come or left last.
    since: Instant,
}

impl Guest {
    fn is_empty(&self) -> bool {
        self.reservations.is_empty() && self.places.is_empty()
    }
}

impl Succession {
    /// Empty books, for a process of this data directory.
    pub fn new(data_dir: &Path) -> Self {
        Self(Arc::new(Inner {
            accounts: MemoryAccounts::default(),
            limits: MemoryLimits::default(),
            role: RwLock::new(Role::Keeping),
            own: format!("{}-{:08x}", std::process::id(), fastrand::u32(..)),
            path: data_dir.join("books.sock"),
            listener: Mutex::default(),
            guests: Mutex::default(),
            left: Notify::new(),
            owes_recount: AtomicBool::new(false),
        }))
    }

    /// Waits until somebody has left who had something open.
    pub async fn somebody_left(&self) {
        self.0.left.notified().await;
    }

    /// The processes that have left with something open, or have not come; `None` when nobody has, and nobody's spending has to be
    /// looked up. Where another process keeps the books, they have left for that one.
    pub fn lost(&self) -> Option<Vec<String>> {
        if matches!(*self.0.role.read(), Role::Given(_)) {
            return None;
        }
        let lost: Vec<String> = {
            let mut guests = self.0.guests.lock();
            let is_late = |guest: &Guest| guest.since.elapsed() >= COMES;
            // One that comes back has to find which of its settlements are booked.
            guests.retain(|_, guest| guest.connections > 0 || !guest.is_empty() || !is_late(guest));
            let is_gone = |guest: &Guest| guest.connections == 0 && (guest.met > 0 || is_late(guest));
            let gone = guests.iter().filter(|(_, guest)| is_gone(guest) && !guest.is_empty());
            gone.map(|(name, _)| name.clone()).collect()
        };
        (!lost.is_empty() || self.0.owes_recount.swap(false, Ordering::AcqRel)).then_some(lost)
    }

    /// Gives back what a process had open, now that what it has spent is known; unless it is back.
    pub fn bury(&self, name: &str) {
        let guest = {
            let mut guests = self.0.guests.lock();
            if guests.get(name).is_none_or(|guest| guest.connections > 0) {
                return;
            }
            guests.remove(name)
        };
        let Some(guest) = guest else { return };
        let (reservations, places) = (guest.reservations.len(), guest.places.values().sum::<u64>());
        log::warn!(
            "process {name} has ended with {reservations} reservations and {places} places of limits, which are free again"
        );
        for reservation in guest.reservations.into_values() {
            self.0.accounts.settle(reservation, Money::ZERO, now_ms());
        }
        for ((scope, name), count) in guest.places {
            self.0.limits.give_up(scope, &name, count);
        }
    }

    /// What a process has spent may be in the ledger alone: [`Succession::lost`] says so the next time.
    pub fn recount(&self) {
        self.0.recount();
    }

    /// Waits until whoever keeps the books knows everything that was said.
    pub async fn settled(&self) {
        let link = match &*self.0.role.read() {
            Role::Keeping => return,
            Role::Given(link) => link.clone(),
        };
        while !link.is_quiet() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The same before the ledger is written, for so long at most: what is not known by then will be looked up there instead of booked, so that
    /// it does not count twice.
    pub async fn settled_before_ledger(&self, patience: Duration) {
        if tokio::time::timeout(patience, self.settled()).await.is_err()
            && let Role::Given(link) = &*self.0.role.read()
        {
            link.goes_into_ledger();
        }
    }
}

impl Inner {
    fn recount(&self) {
        self.owes_recount.store(true, Ordering::Release);
        self.left.notify_one();
    }

    /// What this process itself has open: all but what is others'.
    fn own_open(&self, all: Vec<OpenReservation>, in_flight: &[(Scope, Arc<str>, u64)]) -> Open {
        let guests = self.guests.lock();
        let of_guests: HashSet<u64> =
            guests.values().flat_map(|guest| guest.reservations.values()).map(|it| it.number).collect();
        let reservations = all.into_iter().filter(|open| !of_guests.contains(&open.number)).collect();
        let own = |(scope, name, count): &(Scope, Arc<str>, u64)| {
            let place = (*scope, name.clone());
            let of_guests: u64 = guests.values().filter_map(|guest| guest.places.get(&place)).sum();
            let count = count.saturating_sub(of_guests);
            (count > 0).then(|| (*scope, name.clone(), count))
        };
        let places = in_flight.iter().filter_map(own).collect();
        Open { holder: self.own.clone(), reservations, places, settled: 0 }
    }
}

/// What was reserved at another process for a request that waits to hear of it. Dropped before it has, it is given back.
struct Asked {
    books: Succession,
    link: Link,
    reservation: Option<Reservation>,
}

impl Asked {
    fn granted(mut self) -> Option<Reservation> {
        self.reservation.take()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            let Reservation { number, accounts, amount, .. } = &reservation;
            self.link.settle(*number, accounts.clone(), *amount, Money::ZERO);
            self.books.0.accounts.settle(reservation, Money::ZERO, now_ms());
        }
    }
}

#[async_trait]
impl Accounts for Succession {
    async fn reserve(&self, draws: &[Draw], amount: Money, ttl: Duration, now: u64) -> Result<Reservation, Refused> {
        loop {
            let link = match &*self.0.role.read() {
                Role::Keeping => return self.0.accounts.take(draws, amount, ttl, now),
                Role::Given(link) => link.clone(),
            };
            let accounts = draws.iter().map(|draw| draw.account.clone()).collect();
            let until = until(now, ttl);
            // Here too, in case the books come back.
            let reservation = self.0.accounts.note(accounts, amount, until);
            let number = reservation.number;
            let asked = Asked { books: self.clone(), link: link.clone(), reservation: Some(reservation) };
            match link.reserve(number, draws, amount, until).await {
                Told::Answer(Answer::Done) => return asked.granted().ok_or(Refused::Outage),
                Told::Answer(Answer::Short { at, spent, reserved }) => {
                    return Err(Refused::Short { at, balance: Balance { spent, reserved } });
                }
                Told::Answer(_) | Told::Nobody => return Err(Refused::Outage),
                Told::Again => {
                    drop(asked);
                    // The role changes a moment later.
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn settle(&self, reservation: Reservation, spent: Money, now: u64) {
        let role = self.0.role.read();
        if let Role::Given(link) = &*role {
            let Reservation { number, accounts, amount, .. } = &reservation;
            link.settle(*number, accounts.clone(), *amount, spent);
        }
        self.0.accounts.settle(reservation, spent, now);
    }

    fn observe(&self, account: &Account, spent: Money) {
        self.0.accounts.observe(account, spent);
    }

    /// None once the books are given away: only what is this process's own counts in what is left of them.
    fn balances(&self) -> Vec<(Account, Balance)> {
        match &*self.0.role.read() {
            Role::Keeping => self.0.accounts.balances(),
            Role::Given(_) => Vec::new(),
        }
    }

    fn forget_past(&self, now: u64) {
        self.0.accounts.forget_past(now);
    }
}

#[async_trait]
impl LimitStore for Succession {
    async fn acquire(&self, subjects: Vec<Subject>, tokens: u64, now: Instant) -> (Result<Lease, Denied>, Standings) {
        let role = self.0.role.read();
        let (granted, standings) = self.0.limits.take(subjects, tokens, now);
        if let (Role::Given(link), Ok(lease)) = (&*role, &granted) {
            // Such requests are few, and their answers say that the connection is over: they are told and not asked for.
            link.began(lease.subjects.clone(), lease.tokens);
        }
        (granted.map_err(Denied::Reached), standings)
    }

    fn settle(&self, lease: Lease, used_tokens: u64, now: Instant) {
        let role = self.0.role.read();
        if let Role::Given(link) = &*role {
            link.ended(lease.subjects.clone(), lease.tokens, used_tokens);
        }
        self.0.limits.settle(lease, used_tokens, now);
    }
}

/// Unix milliseconds.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
