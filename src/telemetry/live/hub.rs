//! From those who tell to those who watch. Requests put their events into an intake; a thread, which runs while anybody watches, takes them out
//! every [`TICK`] and shows each audience what is for it.

use super::stand::{Place, Stand, Thinning, Watcher};
use super::{Audience, LiveEvent, Relaxed};
use crate::domain::RequestId;
use crate::store::ports::database::Access;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long an event may wait before it is shown.
const TICK: Duration = Duration::from_millis(100);
/// So many events may wait; what comes then is lost, and told as such.
const MOST_WAITING: usize = 8192;
/// How far the thread stands back behind others.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;
/// How long it goes on for an audience that has left: who comes back within this time has missed nothing.
const LINGERS: Duration = Duration::from_secs(8);
/// Of so many requests of other nodes it is known where they are, twice.
const MOST_ELSEWHERE: usize = 8192;

/// Another node, as it calls itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Where its console listens, as seen from there.
    pub console: Option<SocketAddr>,
}

/// Where a request is that is not on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The node.
    pub node: Arc<Node>,
    /// The request's organisation.
    pub org: Option<Arc<str>>,
    /// Whether it is over.
    pub has_ended: bool,
}

/// Events that wait for the thread.
#[derive(Default)]
pub(super) struct Intake(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    events: Vec<LiveEvent>,
    lost: u64,
}

impl Intake {
    pub(super) fn put(&self, event: LiveEvent) {
        let mut waiting = self.0.lock();
        if waiting.events.len() < MOST_WAITING {
            waiting.events.push(event);
        } else {
            waiting.lost += 1;
            // What falls out is freed after the lock.
            drop(waiting);
            drop(event);
        }
    }

    /// Takes everything out, and leaves the room that an earlier turn has emptied.
    fn take(&self, room: Vec<LiveEvent>) -> (Vec<LiveEvent>, u64) {
        let mut waiting = self.0.lock();
        (std::mem::replace(&mut waiting.events, room), std::mem::take(&mut waiting.lost))
    }
}

/// What all share.
#[derive(Default)]
pub(super) struct Hub {
    /// Whether events are to be built at all.
    pub(super) is_wanted: AtomicBool,
    pub(super) own: Intake,
    others: Intake,
    /// How many watch at the console.
    pub(super) viewers: Arc<AtomicUsize>,
    pub(super) is_viewed: watch::Sender<bool>,
    pub(super) node: OnceLock<Arc<str>>,
    stands: Mutex<Stands>,
    elsewhere: Mutex<[HashMap<RequestId, Elsewhere>; 2]>,
}

#[derive(Default)]
struct Stands {
    of: HashMap<Audience, Kept>,
    has_thread: bool,
    /// Emptied vectors, with the room that they have grown.
    rooms: [Vec<LiveEvent>; 2],
}

struct Kept {
    stand: Arc<Stand>,
    thinning: Thinning,
    /// Since when nobody stands there.
    left: Option<Instant>,
}

impl Hub {
    pub(super) fn watch(hub: &Arc<Self>, audience: Audience, after: Option<Place>, now: Instant) -> Watcher {
        let mut stands = hub.stands.lock();
        let is_viewer = matches!(audience, Audience::Viewers(_));
        let new = || Kept { stand: Arc::new(Stand::new()), thinning: Thinning::new(now), left: None };
        let kept = stands.of.entry(audience).or_insert_with(new);
        let watcher = Watcher::new(kept.stand.clone(), after, is_viewer.then(|| hub.viewers.clone()));
        hub.is_wanted.store(true, Relaxed);
        if is_viewer {
            hub.is_viewed.send_if_modified(|viewed| !std::mem::replace(viewed, true));
        }
        if !stands.has_thread {
            // What came in the moment in which the last of those before left is nothing to these.
            drop((hub.own.take(Vec::new()), hub.others.take(Vec::new())));
            let weak = Arc::downgrade(hub);
            let begun = std::thread::Builder::new().name("orbyt-live".to_owned()).spawn(move || keep_showing(&weak));
            stands.has_thread = begun.inspect_err(|error| log::error!("nothing live can be shown: {error}")).is_ok();
        }
        watcher
    }

    pub(super) fn hear(&self, node: &Arc<Node>, events: impl IntoIterator<Item = LiveEvent>, lost: u64) {
        let mut known = self.elsewhere.lock();
        for mut event in events {
            event.node = Some(node.name.clone());
            if known[0].len() >= MOST_ELSEWHERE {
                known[1] = std::mem::take(&mut known[0]);
            }
            let has_ended = event.state.is_end();
            let place = || Elsewhere { node: node.clone(), org: event.org.clone(), has_ended };
            known[0].entry(event.id).or_insert_with(place).has_ended |= has_ended;
            self.others.put(event);
        }
        drop(known);
        self.others.0.lock().lost += lost;
    }

    pub(super) fn elsewhere(&self, id: &RequestId) -> Option<Elsewhere> {
        let known = self.elsewhere.lock();
        known.iter().find_map(|generation| generation.get(id)).cloned()
    }

    /// Shows everybody what has come in. Says whether anybody is there.
    fn round(&self, now: Instant) -> bool {
        let mut stands = self.stands.lock();
        let [own_room, others_room] = std::mem::take(&mut stands.rooms);
        let (mut own, own_lost) = self.own.take(own_room);
        let (mut others, others_lost) = self.others.take(others_room);
        stands.of.retain(|_, kept| {
            kept.left = (kept.stand.watchers.load(Relaxed) == 0).then(|| kept.left.unwrap_or(now));
            kept.left.is_none_or(|left| now.saturating_duration_since(left) < LINGERS)
        });
        let own_events = own.drain(..).map(Arc::new).collect::<Vec<_>>();
        let others_events = others.drain(..).map(Arc::new).collect::<Vec<_>>();
        stands.rooms = [own, others];
        for (audience, kept) in &mut stands.of {
            let (access, from_others) = match audience {
                Audience::Viewers(access) => (Some(access), &*others_events),
                Audience::Nodes => (None, &[][..]),
            };
            let sees = |event: &&Arc<LiveEvent>| access.is_none_or(|access| access.reaches(event.org.as_deref()));
            let (mut events, mut missed) = (Vec::new(), 0);
            for event in own_events.iter().chain(from_others).filter(sees) {
                if kept.thinning.passes(event, now) {
                    events.push(event.clone());
                } else {
                    missed += 1;
                }
            }
            missed += match access {
                None => own_lost,
                Some(Access::System) => own_lost + others_lost,
                // Whose they were is not known, and how many others have is not theirs to know.
                Some(Access::Org(_)) => (own_lost + others_lost).min(1),
            };
            kept.stand.show(events, missed);
        }
        let is_viewed = stands.of.keys().any(|audience| matches!(audience, Audience::Viewers(_)));
        self.is_viewed.send_if_modified(|viewed| std::mem::replace(viewed, is_viewed) != is_viewed);
        if stands.of.is_empty() {
            self.is_wanted.store(false, Relaxed);
            (stands.has_thread, stands.rooms) = (false, Default::default());
        }
        stands.has_thread
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        for kept in self.stands.get_mut().of.values() {
            kept.stand.close();
        }
    }
}

/// The thread: shows what comes in for as long as anybody is there.
fn keep_showing(hub: &Weak<Hub>) {
    // Where there are too few cores for both, requests go first. Elsewhere than on Linux it would concern the whole process.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICE);
    loop {
        std::thread::sleep(TICK);
        let goes_on = hub.upgrade().is_some_and(|hub| hub.round(Instant::now()));
        if !goes_on {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Live, State};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const ALL: Audience = Audience::Viewers(Access::System);

    fn event(number: u64) -> LiveEvent {
        LiveEvent::new(RequestId::of(0, number), number, State::Pending)
    }

    fn other() -> Arc<Node> {
        Arc::new(Node { name: "other".into(), console: None })
    }

    fn of(org: &str, number: u64) -> LiveEvent {
        LiveEvent { org: Some(org.into()), ..event(number) }
    }

    /// The next so many events, and how many were missed until then.
    async fn seen(watcher: &mut Watcher, most: usize) -> (Vec<Arc<LiveEvent>>, u64) {
        let (mut events, mut missed) = (Vec::new(), 0);
        while events.len() < most {
            let next = tokio::time::timeout(PATIENCE, watcher.next()).await.expect("it comes in time").unwrap();
            events.extend_from_slice(next.batch.events());
            missed += next.missed;
        }
        (events, missed)
    }

    #[tokio::test]
    async fn nothing_is_built_unless_somebody_watches_or_may_come_back() {
        let live = Live::default();
        live.send(|| panic!("nobody watches"));
        let mut watcher = live.watch(ALL, None);
        assert_eq!((live.watchers(), *live.is_viewed().borrow()), (1, true));
        live.send(|| event(1));
        let (events, _) = seen(&mut watcher, 1).await;
        assert_eq!(events[0].at_ms, 1);
        drop(watcher);
        assert_eq!(live.watchers(), 0);
        // What the thread does in its next turns.
        let now = Instant::now();
        live.0.round(now);
        assert!(live.0.is_wanted.load(Relaxed), "who comes back at once has missed nothing");
        live.0.round(now + LINGERS + TICK);
        assert!(!*live.is_viewed().borrow());
        live.send(|| panic!("nobody watches any more"));
    }

    #[tokio::test]
    async fn each_audience_sees_what_is_for_it() {
        let live = Live::default();
        let of_a = Audience::Viewers(Access::Org("org_a".into()));
        let (mut all, mut a, mut nodes) =
            (live.watch(ALL, None), live.watch(of_a, None), live.watch(Audience::Nodes, None));
        live.hear(&other(), [of("org_a", 1), of("org_b", 2), event(3)], 7);
        for told in [of("org_b", 4), event(5), of("org_a", 6)] {
            live.send(|| told.clone());
        }
        let numbers = |events: &[Arc<LiveEvent>]| {
            let mut numbers: Vec<_> = events.iter().map(|event| (event.at_ms, event.node.is_some())).collect();
            numbers.sort_unstable();
            numbers
        };
        let (events, missed) = seen(&mut all, 6).await;
        assert_eq!(numbers(&events), [(1, true), (2, true), (3, true), (4, false), (5, false), (6, false)]);
        assert_eq!(missed, 7);
        let (events, missed) = seen(&mut a, 2).await;
        assert_eq!((numbers(&events), missed), (vec![(1, true), (6, false)], 1));
        // What others have told is not told again.
        assert_eq!(numbers(&seen(&mut nodes, 3).await.0), [(4, false), (5, false), (6, false)]);
        assert_eq!(live.watchers(), 2);
        let elsewhere = live.elsewhere(&RequestId::of(0, 1)).unwrap();
        assert_eq!((&*elsewhere.node.name, elsewhere.org.as_deref()), ("other", Some("org_a")));
        assert_eq!(live.elsewhere(&RequestId::of(0, 4)), None);
    }

    #[test]
    fn what_does_not_fit_is_lost_and_counted() {
        let intake = Intake::default();
        for number in 0..MOST_WAITING as u64 + 3 {
            intake.put(event(number));
        }
        let (events, lost) = intake.take(Vec::new());
        assert_eq!((events.len(), lost), (MOST_WAITING, 3));
        assert_eq!(intake.take(Vec::new()).1, 0);
    }

    #[tokio::test]
    async fn the_end_of_the_gateway_is_the_end_of_the_events() {
        let live = Live::default();
        let mut watcher = live.watch(ALL, None);
        drop(live);
        assert!(tokio::time::timeout(PATIENCE, watcher.next()).await.expect("it ends").is_none());
    }

    #[test]
    fn where_requests_are_is_known_of_so_many() {
        let hub = Hub::default();
        hub.hear(&other(), (0..5 * MOST_ELSEWHERE as u64).map(event), 0);
        let known = hub.elsewhere.lock();
        assert!(known.iter().map(HashMap::len).sum::<usize>() <= 2 * MOST_ELSEWHERE);
        assert!(known[0].contains_key(&RequestId::of(0, 5 * MOST_ELSEWHERE as u64 - 1)));
    }
}
