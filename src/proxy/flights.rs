//! Requests that ask the same at the same time: one flies ahead, the others wait for what it brings.
//!
//! ```text
//!   join ──> Leader ──land──> Landed(answer)       the others take it
//!     │        ├─────fail──> Failed                its targets failed: another one tries, but not one after the other for ever
//!     │        ├─alone()───> Unshared              complete, but not to be shared: the others go on by themselves
//!     │        └─(dropped)─> Abandoned             its client is gone: another one takes over at once
//!     └─────> Follower: waits for one of these
//! ```

use super::semantic::Found;
use crate::store::ports::answers::AnswerKey;
use ahash::HashMap;
use parking_lot::Mutex;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use tokio::sync::watch;

/// Where a flight is.
#[derive(Clone, Debug)]
pub(super) enum Flight {
    Aloft,
    Landed(Found),
    Unshared,
    Failed,
    Abandoned,
}

/// All flights, by what they are after, each with the news for those who wait: there are none until somebody does, which is rare.
#[derive(Clone, Debug, Default)]
pub(super) struct Flights(Arc<Mutex<HashMap<AnswerKey, Option<watch::Sender<Flight>>>>>);

/// A request's part in a flight.
pub(super) enum Part {
    Leader(Leader),
    Follower(Follower),
}

impl Flights {
    /// Takes part in the flight for a key; who finds none leads a new one.
    pub(super) fn join(&self, key: AnswerKey) -> Part {
        match self.0.lock().entry(key) {
            Entry::Occupied(mut flight) => {
                let news = flight.get_mut().get_or_insert_with(|| watch::Sender::new(Flight::Aloft));
                Part::Follower(Follower(news.subscribe()))
            }
            Entry::Vacant(flight) => {
                flight.insert(None);
                Part::Leader(Leader { flights: self.clone(), key, end: Flight::Abandoned })
            }
        }
    }
}

/// Who flies ahead. Dropped, it ends the flight.
pub(super) struct Leader {
    flights: Flights,
    key: AnswerKey,
    end: Flight,
}

impl Leader {
    /// The flight has brought an answer. What is to be found in the cache must be there by now.
    pub(super) fn land(mut self, found: Found) {
        self.end = Flight::Landed(found);
    }

    /// The flight has brought an answer that is only for its leader.
    pub(super) fn alone(mut self) {
        self.end = Flight::Unshared;
    }

    /// The flight has failed.
    pub(super) fn fail(mut self) {
        self.end = Flight::Failed;
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        // Removed first, so that whoever hears of the end and joins again finds no flight that is over.
        let news = self.flights.0.lock().remove(&self.key);
        if let Some(news) = news.flatten() {
            news.send_replace(std::mem::replace(&mut self.end, Flight::Abandoned));
        }
    }
}

/// Who waits.
pub(super) struct Follower(watch::Receiver<Flight>);

impl Follower {
    /// Waits for the end of the flight. Safe to cancel.
    pub(super) async fn end(&mut self) -> Flight {
        let over = self.0.wait_for(|flight| !matches!(flight, Flight::Aloft)).await;
        over.map_or(Flight::Abandoned, |flight| flight.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ports::answers::StoredAnswer;
    use futures::FutureExt;
    use std::time::Duration;

    fn found() -> Found {
        let answer = Arc::new(StoredAnswer {
            provider: "p".into(),
            model: "m".into(),
            dropped: Vec::new(),
            body: "x".into(),
            cuts: Vec::new(),
            stored_unix_ms: 0,
            ttl: Duration::from_secs(1),
        });
        Found { answer, similarity: None }
    }

    fn leader(flights: &Flights, key: AnswerKey) -> Leader {
        match flights.join(key) {
            Part::Leader(leader) => leader,
            Part::Follower(_) => panic!("there is a flight"),
        }
    }

    fn follower(flights: &Flights, key: AnswerKey) -> Follower {
        match flights.join(key) {
            Part::Follower(follower) => follower,
            Part::Leader(_) => panic!("there is no flight"),
        }
    }

    #[test]
    fn followers_wait_and_get_what_the_leader_brings() {
        let flights = Flights::default();
        let leads = leader(&flights, [1; 32]);
        let mut followers = [follower(&flights, [1; 32]), follower(&flights, [1; 32])];
        drop(leader(&flights, [2; 32]));
        assert!(followers[0].end().now_or_never().is_none());
        leads.land(found());
        for follower in &mut followers {
            assert!(matches!(follower.end().now_or_never(), Some(Flight::Landed(_))));
        }
        drop(leader(&flights, [1; 32]));
    }

    #[test]
    fn every_end_is_told_and_the_next_one_leads() {
        let flights = Flights::default();
        type End = fn(Leader);
        let ends: [(End, &str); 3] = [(drop, "Abandoned"), (Leader::fail, "Failed"), (Leader::alone, "Unshared")];
        for (end, expected) in ends {
            let leads = leader(&flights, [1; 32]);
            let mut waits = follower(&flights, [1; 32]);
            end(leads);
            assert_eq!(format!("{:?}", waits.end().now_or_never().unwrap()), expected);
            assert!(flights.0.lock().is_empty());
        }
    }
}
