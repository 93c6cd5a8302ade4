//! Requests of all nodes, live at each of them: over Redis where nodes share one, else over the Postgres that they share.
//!
//! ```text
//!   console of A: somebody watches ──"watching", every BEAT──> B: tells what happens, until nothing was heard for HOLDS
//!                 shows them, with B's name <───events, in batches──┘
//! ```
//!
//! While nobody watches anywhere, nothing is told. What is told passes the same thinning as what is shown, so it has a bound whatever the
//! load; what is lost between nodes is counted, and told as missed to those who watch.

use super::state::State;
use crate::config::Snapshot;
use crate::store::ports::nodes::{Heard, Nodes, Topic};
use crate::store::redis::Redis;
use crate::telemetry::Telemetry;
use crate::telemetry::live::{Audience, LiveEvent, Node, Seen};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often it is told that somebody watches, and for how long that holds.
const BEAT: Duration = Duration::from_secs(2);
const HOLDS: Duration = Duration::from_secs(7);
/// So many watching nodes are told apart; beyond that they are not remembered, and one of them is enough.
const MOST_NODES: usize = 1024;
/// No node of any version sends more at once.
const LONGEST: usize = 256 << 10;
/// The longest name that is shown of another node.
const MOST_OF_A_NAME: usize = 64;

/// The way to the other nodes; `None` where there can be none.
pub(super) fn other_nodes(redis: Option<&Redis>, state: Option<&State>) -> Option<Arc<dyn Nodes>> {
    match redis {
        Some(redis) => Some(Arc::new(redis.nodes())),
        None => state.and_then(|state| state.database.nodes()),
    }
}

/// Tells and hears from now on, where there is a way to other nodes.
pub(super) fn begin(control: &Runtime, telemetry: &Arc<Telemetry>, nodes: Option<Arc<dyn Nodes>>, snapshot: &Snapshot) {
    if let Some(nodes) = nodes {
        let own = Node { name: node_name(snapshot), console: console_of(&snapshot.console.listen) };
        control.spawn(keep_up(telemetry.clone(), nodes, own));
    }
}

/// Where people of other machines find the console, if they do; else where those of this one do.
fn console_of(listen: &[SocketAddr]) -> Option<SocketAddr> {
    listen.iter().find(|address| !address.ip().is_loopback()).or(listen.first()).copied()
}

/// What this node is called.
fn node_name(snapshot: &Snapshot) -> Arc<str> {
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned().into();
    snapshot.store.node_name.clone().unwrap_or_else(host)
}

/// Says that somebody watches, or no longer does.
#[derive(Debug, Serialize, Deserialize)]
struct Watching<'a> {
    /// Which process; names of nodes may be the same.
    #[serde(borrow)]
    process: Cow<'a, str>,
    watching: bool,
}

/// Events of a node.
#[derive(Debug, Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    process: Cow<'a, str>,
    #[serde(borrow)]
    node: Cow<'a, str>,
    /// Where its console listens; nodes of earlier versions do not say so.
    #[serde(borrow, default)]
    console: Option<Cow<'a, str>>,
    #[serde(default)]
    lost: u64,
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

/// Tells and hears, for as long as the gateway runs.
async fn keep_up(telemetry: Arc<Telemetry>, nodes: Arc<dyn Nodes>, own: Node) {
    telemetry.live.is_called(own.name.clone());
    let process: Arc<str> = format!("{:016x}", fastrand::u64(..)).into();
    let watched = watch::Sender::new(None);
    let until = watched.subscribe();
    let tells = Teller { telemetry: telemetry.clone(), nodes: nodes.clone(), process: process.clone(), own, until };
    let hears = Hearer { telemetry, nodes, process, watching: HashMap::new(), watched };
    tokio::join!(tells.keep_telling(), hears.keep_hearing());
}

/// Hears of the others, and tells them when somebody watches here.
struct Hearer {
    telemetry: Arc<Telemetry>,
    nodes: Arc<dyn Nodes>,
    process: Arc<str>,
    /// The processes at which somebody watches, and until when that holds.
    watching: HashMap<String, Instant>,
    /// Until when somebody watches anywhere else.
    watched: watch::Sender<Option<Instant>>,
}

impl Hearer {
    async fn keep_hearing(mut self) {
        let mut viewed = self.telemetry.live.is_viewed();
        let mut heard = self.nodes.hear(viewed.clone());
        let mut beat = Instant::now();
        loop {
            let is_viewed = *viewed.borrow_and_update();
            tokio::select! {
                word = heard.recv() => match word {
                    None => return,
                    // Those who hear of it now tell only what happens from now on, so there is no moment to lose.
                    Some(Heard::Listening) => beat = Instant::now(),
                    Some(Heard::Word(Topic::Watching, text)) => self.watching(&text),
                    Some(Heard::Word(Topic::Live, text)) => self.told(&text),
                },
                changed = viewed.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if is_viewed && !*viewed.borrow() {
                        self.say(false).await;
                    }
                }
                () = tokio::time::sleep_until(beat), if is_viewed => {
                    self.say(true).await;
                    beat = Instant::now() + BEAT;
                }
            }
        }
    }

    async fn say(&self, watching: bool) {
        let word = Watching { process: Cow::Borrowed(&self.process), watching };
        let Ok(text) = serde_json::to_string(&word) else { return };
        // It is said again before it is missed.
        if let Err(why) = self.nodes.tell(Topic::Watching, vec![text]).await {
            log::debug!("other nodes were not told that somebody watches: {why}");
        }
    }

    /// What makes no sense is another version's.
    fn watching(&mut self, text: &str) {
        let Ok(Watching { process, watching }) = serde_json::from_str(text) else { return };
        if *process == *self.process {
            return;
        }
        let now = Instant::now();
        self.watching.retain(|_, until| *until > now);
        if !watching {
            self.watching.remove(&*process);
        } else if self.watching.len() < MOST_NODES {
            self.watching.insert(process.into_owned(), now + HOLDS);
        }
        self.watched.send_replace(self.watching.values().max().copied());
    }

    fn told(&self, text: &str) {
        let Telemetry { live, metrics, .. } = &*self.telemetry;
        let Some((node, events, lost)) = read(text, &self.process) else { return };
        metrics.live_events("heard", events.len() as u64);
        metrics.live_events("lost", lost);
        live.hear(&node, events, lost);
    }
}

/// What a message says, unless it is this process's own: the node, its events, and how many there were that are lost.
fn read(text: &str, own: &str) -> Option<(Arc<Node>, Vec<LiveEvent>, u64)> {
    if text.len() > LONGEST {
        return None;
    }
    let Told { process, node, console, lost, events } = serde_json::from_str(text).ok()?;
    if process == own {
        return None;
    }
    let count = events.len();
    let events: Vec<LiveEvent> = events.iter().filter_map(|event| serde_json::from_str(event.get()).ok()).collect();
    let lost = lost.saturating_add((count - events.len()) as u64);
    let name: String = node.chars().filter(|it| !it.is_control()).take(MOST_OF_A_NAME).collect();
    // An address and nothing else: it is shown to people.
    let console = console.and_then(|console| console.parse().ok());
    Some((Arc::new(Node { name: name.into(), console }), events, lost))
}

/// Tells the others what happens here, while somebody watches there.
struct Teller {
    telemetry: Arc<Telemetry>,
    nodes: Arc<dyn Nodes>,
    process: Arc<str>,
    own: Node,
    until: watch::Receiver<Option<Instant>>,
}

impl Teller {
    async fn keep_telling(mut self) {
        let is_watched = |until: &Option<Instant>| until.is_some_and(|until| until > Instant::now());
        // Who has waited here hears of nothing that was before, so nothing is kept for nobody.
        while self.until.wait_for(is_watched).await.is_ok() {
            if !self.tell().await {
                return;
            }
        }
    }

    /// Tells until nobody watches. Says whether there is more to come.
    async fn tell(&mut self) -> bool {
        let mut watcher = self.telemetry.live.watch(Audience::Nodes, None);
        let mut lost = 0;
        loop {
            let Some(until) = *self.until.borrow_and_update() else { return true };
            let seen = tokio::select! {
                seen = watcher.next() => seen,
                changed = self.until.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return false,
                },
                () = tokio::time::sleep_until(until) => return true,
            };
            let Some(Seen { missed, batch }) = seen else { return false };
            lost += missed;
            let (messages, told, too_long) = pack(&self.process, &self.own, lost, batch.events(), self.nodes.longest());
            let metrics = &self.telemetry.metrics;
            metrics.live_events("lost", missed + too_long);
            match self.nodes.tell(Topic::Live, messages).await {
                Ok(()) => {
                    metrics.live_events("told", told);
                    lost = 0;
                }
                Err(why) => {
                    log::debug!("other nodes were not told what happens: {why}");
                    metrics.live_events("lost", told);
                    lost += told + too_long;
                }
            }
        }
    }
}

/// Messages no longer than `longest`, of which the first says how many events were `lost` before them. With how many events are in them, and how
/// many were too long for any; those are told as lost, too.
fn pack(process: &str, own: &Node, lost: u64, events: &[Arc<LiveEvent>], longest: usize) -> (Vec<String>, u64, u64) {
    // A name is text of the configuration; as JSON it has its quotes.
    let name = serde_json::to_string(&*own.name).unwrap_or_else(|_| "\"\"".to_owned());
    let console = own.console.map(|console| format!(r#""console":"{console}","#)).unwrap_or_default();
    let head = |lost: u64| format!(r#"{{"process":"{process}","node":{name},{console}"lost":{lost},"events":["#);
    let room = longest.saturating_sub(head(u64::MAX).len() + "]}".len());
    let texts = events.iter().filter_map(|event| serde_json::to_string(&**event).ok());
    let (texts, too_long): (Vec<String>, Vec<String>) = texts.partition(|text| text.len() <= room);
    let too_long = too_long.len() as u64;
    let (mut messages, mut message, mut is_first) = (Vec::new(), head(lost + too_long), true);
    let mut left = room;
    for text in &texts {
        if !is_first && text.len() + 1 > left {
            messages.push(std::mem::replace(&mut message, head(0)) + "]}");
            (is_first, left) = (true, room);
        }
        if !std::mem::take(&mut is_first) {
            message.push(',');
        }
        message.push_str(text);
        left = left.saturating_sub(text.len() + 1);
    }
    messages.push(message + "]}");
    (messages, texts.len() as u64, too_long)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RequestId;
    use crate::telemetry::live::State;

    fn event(number: u64, model: &str) -> Arc<LiveEvent> {
        let event = LiveEvent::new(RequestId::of(0, number), number, State::Streaming);
        Arc::new(LiveEvent { model: Some(model.into()), ..event })
    }

    #[test]
    fn what_is_told_fits_and_is_read_again() {
        let long = "m".repeat(900);
        let mut events: Vec<_> = (0..40).map(|number| event(number, &long[..number as usize * 10])).collect();
        events.push(event(40, &"n".repeat(5000)));
        let own = Node { name: "a \"name\"".into(), console: Some(([127, 0, 0, 1], 4000).into()) };
        let (messages, told, too_long) = pack("p1", &own, 7, &events, 2000);
        assert_eq!((told, too_long), (40, 1));
        assert!(messages.len() > 5 && messages.iter().all(|message| message.len() <= 2000));
        let read: Vec<_> = messages.iter().map(|message| read(message, "p2").unwrap()).collect();
        assert!(read.iter().all(|(node, events, _)| **node == own && !events.is_empty()));
        assert_eq!(read.iter().map(|(_, _, lost)| lost).sum::<u64>(), 8);
        let numbers: Vec<u64> = read.iter().flat_map(|(_, events, _)| events).map(|event| event.at_ms).collect();
        assert_eq!(numbers, (0..40).collect::<Vec<_>>());
        assert!(messages.iter().all(|message| super::read(message, "p1").is_none()), "its own are nothing new");
    }

    #[test]
    fn losses_are_told_though_nothing_else_is() {
        let own = Node { name: "a".into(), console: None };
        let (messages, ..) = pack("p1", &own, 3, &[], 2000);
        let (node, events, lost) = read(&messages[0], "p2").unwrap();
        assert_eq!((messages.len(), &*node, events.len(), lost), (1, &own, 0, 3));
    }

    #[test]
    fn a_console_is_told_by_the_address_that_others_may_reach() {
        let [near, far] = ["127.0.0.1:4000", "10.0.0.5:4000"].map(|text| text.parse::<SocketAddr>().unwrap());
        assert_eq!(console_of(&[near, far]), Some(far));
        assert_eq!((console_of(&[near]), console_of(&[])), (Some(near), None));
    }

    #[test]
    fn what_cannot_be_read_is_lost_and_does_no_harm() {
        let id = RequestId::of(0, 1);
        let events = format!(
            r#"[{{"id":"{id}","at_ms":1,"state":"success"}},{{"id":"{id}","at_ms":1,"state":"paused"}},7,"x"]"#
        );
        let (node, events, lost) = read(
            &format!(r#"{{"process":"p","node":"a\u0007b","console":"evil.example/","new":{{}},"events":{events}}}"#),
            "p2",
        )
        .unwrap();
        assert_eq!((&*node.name, node.console, events.len(), lost), ("ab", None, 1, 3));
        for wrong in
            ["", "null", "{}", r#"{"process":"p","node":"a","events":{}}"#, r#"{"process":"p","node":"a","events":["#]
        {
            assert!(read(wrong, "p2").is_none(), "{wrong}");
        }
        assert!(read(&format!(r#"{{"process":"p","node":"a","events":[]{}}}"#, " ".repeat(LONGEST)), "p2").is_none());
    }
}
