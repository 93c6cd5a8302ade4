//! Where one audience stands: what it gets to see, thinned where it is too much for anybody, in batches of which the last ones are kept for
//! those who are slow and those who come back.

use super::{LiveEvent, Relaxed};
use crate::domain::RequestId;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::watch;

/// So many batches a watcher may lag behind, or have missed while it was away: those of some seconds.
const KEPT: usize = 64;
/// So many new requests a second are shown, and so many at once after a pause. Of more nobody could read even a part, and each costs every
/// watcher its bytes.
const REQUESTS_A_SECOND: f64 = 250.0;
const AT_ONCE: f64 = 500.0;
/// So many requests are remembered as shown or not, twice: those under way are far fewer.
const REMEMBERED: usize = 16 * 1024;

/// What an audience gets at once.
#[derive(Debug)]
pub struct Batch {
    stand: u64,
    /// How many events this audience was to see before it.
    before: u64,
    /// How many more there would have been in it.
    missed: u64,
    events: Vec<Arc<LiveEvent>>,
    text: OnceLock<Bytes>,
}

impl Batch {
    /// The events.
    pub fn events(&self) -> &[Arc<LiveEvent>] {
        &self.events
    }

    /// The events as server-sent events, the last of them with the place behind it as its id. Made once for all who watch.
    pub fn text(&self) -> Bytes {
        let made = self.text.get_or_init(|| {
            let mut text = Vec::with_capacity(self.events.len() * 256);
            for (at, event) in self.events.iter().enumerate() {
                if at + 1 == self.events.len() {
                    text.extend_from_slice(format!("id: {}\n", self.place()).as_bytes());
                }
                text.extend_from_slice(b"data: ");
                // Nothing in an event can fail to be JSON, nor writing into memory.
                let _ = serde_json::to_writer(&mut text, &**event);
                text.extend_from_slice(b"\n\n");
            }
            text.into()
        });
        made.clone()
    }

    fn after(&self) -> u64 {
        self.before + self.missed + self.events.len() as u64
    }

    fn place(&self) -> Place {
        Place { stand: self.stand, upto: self.after() }
    }
}

/// A place in what an audience sees, as `last-event-id` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    stand: u64,
    upto: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}", self.stand, self.upto)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (stand, upto) = text.split_once('.').ok_or(())?;
        Ok(Self { stand: u64::from_str_radix(stand, 16).map_err(drop)?, upto: upto.parse().map_err(drop)? })
    }
}

/// What one audience sees. Shared by all of its watchers.
#[derive(Debug)]
pub(super) struct Stand {
    id: u64,
    ring: Mutex<Ring>,
    /// Changes with each batch.
    moved: watch::Sender<()>,
    pub(super) watchers: AtomicUsize,
}

#[derive(Debug, Default)]
struct Ring {
    batches: VecDeque<Arc<Batch>>,
    /// How many events there were, shown or not.
    end: u64,
    is_closed: bool,
}

impl Stand {
    pub(super) fn new() -> Self {
        let id = fastrand::u64(..);
        Self { id, ring: Mutex::default(), moved: watch::Sender::new(()), watchers: AtomicUsize::new(0) }
    }

    /// Shows what there is, if there is anything.
    pub(super) fn show(&self, events: Vec<Arc<LiveEvent>>, missed: u64) {
        if events.is_empty() && missed == 0 {
            return;
        }
        let mut ring = self.ring.lock();
        let batch = Batch { stand: self.id, before: ring.end, missed, events, text: OnceLock::new() };
        ring.end = batch.after();
        ring.batches.push_back(Arc::new(batch));
        if ring.batches.len() > KEPT {
            ring.batches.pop_front();
        }
        drop(ring);
        self.moved.send_replace(());
    }

    /// Nothing comes any more.
    pub(super) fn close(&self) {
        self.ring.lock().is_closed = true;
        self.moved.send_replace(());
    }
}

/// One who watches.
#[derive(Debug)]
pub struct Watcher {
    stand: Arc<Stand>,
    moved: watch::Receiver<()>,
    /// How far it has come.
    upto: u64,
    has_lost_track: bool,
    /// The count of those at the console, where this is one of them.
    viewers: Option<Arc<AtomicUsize>>,
}

/// What a watcher sees.
#[derive(Clone, Debug)]
pub struct Seen {
    /// So many events were not shown before or among these: this watcher was too slow, or there were too many.
    pub missed: u64,
    /// The next ones.
    pub batch: Arc<Batch>,
}

impl Watcher {
    pub(super) fn new(stand: Arc<Stand>, after: Option<Place>, viewers: Option<Arc<AtomicUsize>>) -> Self {
        stand.watchers.fetch_add(1, Relaxed);
        if let Some(viewers) = &viewers {
            viewers.fetch_add(1, Relaxed);
        }
        let end = stand.ring.lock().end;
        // A place of another stand says nothing about this one.
        let known = after.filter(|place| place.stand == stand.id && place.upto <= end);
        let moved = stand.moved.subscribe();
        let upto = known.map_or(end, |place| place.upto);
        Self { stand, moved, upto, has_lost_track: after.is_some() && known.is_none(), viewers }
    }

    /// Whether nobody knows what was missed since the place that it wanted to go on from.
    pub fn has_lost_track(&self) -> bool {
        self.has_lost_track
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        Place { stand: self.stand.id, upto: self.upto }
    }

    /// Waits for the next batch. `None` when the gateway has ended. Safe to cancel.
    pub async fn next(&mut self) -> Option<Seen> {
        loop {
            self.moved.borrow_and_update();
            if let Some(next) = self.ready() {
                return next;
            }
            if self.moved.changed().await.is_err() {
                return None;
            }
        }
    }

    /// What is there already: a batch, or the end.
    fn ready(&mut self) -> Option<Option<Seen>> {
        let ring = self.stand.ring.lock();
        let at = ring.batches.partition_point(|batch| batch.after() <= self.upto);
        let Some(batch) = ring.batches.get(at).cloned() else { return ring.is_closed.then_some(None) };
        drop(ring);
        let missed = batch.before.saturating_sub(self.upto) + batch.missed;
        self.upto = batch.after();
        Some(Some(Seen { missed, batch }))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stand.watchers.fetch_sub(1, Relaxed);
        if let Some(viewers) = &self.viewers {
            viewers.fetch_sub(1, Relaxed);
        }
    }
}

/// Decides which requests are shown, each from its beginning to its end or not at all.
#[derive(Debug)]
pub(super) struct Thinning {
    room: f64,
    since: Instant,
    /// Requests under way, and whether they are shown; when it is full it becomes the old one.
    young: HashMap<RequestId, bool>,
    old: HashMap<RequestId, bool>,
}

impl Thinning {
    pub(super) fn new(now: Instant) -> Self {
        Self { room: AT_ONCE, since: now, young: HashMap::new(), old: HashMap::new() }
    }

    /// Whether an event is shown.
    pub(super) fn passes(&mut self, event: &LiveEvent, now: Instant) -> bool {
        if let Some(shown) = self.young.get(&event.id).or_else(|| self.old.get(&event.id)).copied() {
            if event.state.is_end() {
                self.young.remove(&event.id);
                self.old.remove(&event.id);
            }
            return shown;
        }
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        (self.room, self.since) = ((self.room + passed * REQUESTS_A_SECOND).min(AT_ONCE), now);
        let shown = self.room >= 1.0;
        if shown {
            self.room -= 1.0;
        }
        if !event.state.is_end() {
            if self.young.len() >= REMEMBERED {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(event.id, shown);
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use std::time::Duration;

    fn event(number: u64, state: State) -> LiveEvent {
        LiveEvent::new(RequestId::of(0, number), number, state)
    }

    fn events(numbers: std::ops::Range<u64>) -> Vec<Arc<LiveEvent>> {
        numbers.map(|number| Arc::new(event(number, State::Pending))).collect()
    }

    fn all(watcher: &mut Watcher) -> (u64, Vec<u64>) {
        let (mut missed, mut seen) = (0, Vec::new());
        while let Some(Some(next)) = watcher.ready() {
            missed += next.missed;
            seen.extend(next.batch.events().iter().map(|event| event.at_ms));
        }
        (missed, seen)
    }

    #[test]
    fn a_slow_watcher_is_told_what_it_lost_and_the_others_lose_nothing() {
        let stand = Arc::new(Stand::new());
        let (mut slow, mut fast) = (Watcher::new(stand.clone(), None, None), Watcher::new(stand.clone(), None, None));
        for number in 0..KEPT as u64 + 10 {
            stand.show(events(number * 2..number * 2 + 2), 0);
            assert_eq!(all(&mut fast), (0, vec![number * 2, number * 2 + 1]));
        }
        let (missed, seen) = all(&mut slow);
        assert_eq!((missed, seen.len(), seen[0]), (20, KEPT * 2, 20));
        stand.show(events(0..0), 3);
        assert_eq!((all(&mut slow), all(&mut fast)), ((3, vec![]), (3, vec![])));
    }

    #[test]
    fn who_comes_back_gets_what_was_missed_as_far_as_it_is_known() {
        let stand = Arc::new(Stand::new());
        let mut watcher = Watcher::new(stand.clone(), None, None);
        stand.show(events(0..3), 0);
        let Some(Some(seen)) = watcher.ready() else { panic!("there is a batch") };
        let text = String::from_utf8(seen.batch.text().to_vec()).unwrap();
        let id = text.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
        assert_eq!(text.matches("data: {").count(), 3);
        assert_eq!(id.parse(), Ok(Place { stand: stand.id, upto: 3 }));
        drop(watcher);
        stand.show(events(3..5), 0);
        let mut back = Watcher::new(stand.clone(), id.parse().ok(), None);
        assert_eq!((back.has_lost_track(), all(&mut back)), (false, (0, vec![3, 4])));
        for number in 5..5 + KEPT as u64 {
            stand.show(events(number..number + 1), 0);
        }
        let mut late = Watcher::new(stand.clone(), id.parse().ok(), None);
        assert_eq!((late.has_lost_track(), all(&mut late).0), (false, 2));
        // A place of another life, or one that there is not yet.
        for unknown in [format!("{:016x}.1", stand.id ^ 1), format!("{:016x}.999", stand.id)] {
            let mut lost = Watcher::new(stand.clone(), unknown.parse().ok(), None);
            assert_eq!((lost.has_lost_track(), all(&mut lost)), (true, (0, vec![])));
        }
        for wrong in ["", "x", ".", "1.-1", "1.1.1", "99999999999999999999.1"] {
            assert_eq!(wrong.parse::<Place>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn of_too_many_requests_a_part_is_shown_from_beginning_to_end() {
        let begun = Instant::now();
        let mut thinning = Thinning::new(begun);
        let mut shown = [0; 2];
        let most = AT_ONCE as u64;
        for second in 0..3 {
            let now = begun + Duration::from_secs(second);
            let numbers = second * 2000..(second + 1) * 2000;
            let passed: Vec<bool> = numbers.clone().map(|n| thinning.passes(&event(n, State::Pending), now)).collect();
            // Their later steps share their fate, whatever room there is by then.
            for state in [State::Attempt, State::Streaming, State::Success] {
                let later = now + Duration::from_millis(900);
                let again = numbers.clone().map(|n| thinning.passes(&event(n, state), later));
                assert_eq!(again.collect::<Vec<_>>(), passed);
            }
            shown[usize::from(second > 0)] += passed.iter().filter(|passed| **passed).count() as u64;
        }
        assert_eq!(shown, [most, 2 * REQUESTS_A_SECOND as u64]);
        assert!(thinning.young.is_empty() && thinning.old.is_empty(), "what has ended is forgotten");
    }

    #[test]
    fn what_is_remembered_of_requests_that_never_end_has_a_bound() {
        let now = Instant::now();
        let mut thinning = Thinning::new(now);
        for number in 0..5 * REMEMBERED as u64 {
            thinning.passes(&event(number, State::Pending), now);
        }
        assert!(thinning.young.len() + thinning.old.len() <= 2 * REMEMBERED);
    }
}
