//! The connection to Redis and its health.
//!
//! ```text
//!               ┌──────────────── answers ────────────────┐
//!               ▼                                         │
//!   Down ──> Connected ── late or failed answer ──> Suspended ── silent or broken ──> Down ──(250 ms)──> again
//!  (local)                                            (local)
//! ```
//!
//! A request that waits in vain suspends the connection, so that those after it do not wait too. The task that keeps the connection then
//! asks by itself: an answer resumes it, silence means that Redis is down, which is told, and a new connection is tried.
//!
//! Each connection has a name of its own among the nodes. What was reserved under the name of a lost connection comes back when the last of
//! its requests has ended, because nobody knows which of the last words arrived.

use super::names::Names;
use super::{Settings, keys, limits};
use crate::store::ports::live::KeyState;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, RedisError, RedisResult, Script, ScriptInvocation};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::timeout;

/// The set of nodes that live. All keys have the same hash tag, so that a cluster keeps them together.
pub(super) const NODES: &str = "{orbyt}:nodes";

/// Between two tries to connect.
pub(super) const RETRY: Duration = Duration::from_millis(250);
/// How often what can wait looks whether Redis is back.
const LOOK: Duration = Duration::from_millis(50);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// An answer that comes later than this is not waited for by anybody.
const LATEST: Duration = Duration::from_secs(5);
/// So many signs of life a node gives in the time after which it would count as gone.
const BEATS: u32 = 4;
/// So many kinds of errors are told; Redis has fewer.
const MOST_KINDS: usize = 64;

static BEAT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/beat.lua")));

/// What there is to say about the connection.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Redis cannot be asked.
    Unhealthy {
        /// Why.
        why: &'a str,
    },
    /// It can be asked again.
    Recovered,
    /// Another node has learnt something about a provider's key, and its state has changed here too.
    Key {
        /// The provider's id.
        provider: &'a str,
        /// The key's name here.
        key: &'a str,
        /// Its state.
        state: KeyState,
    },
}

/// How the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether Redis is asked.
    pub up: bool,
    /// How many nodes live, as far as is known; at least this one.
    pub nodes: u32,
    /// Questions of requests that were answered in time.
    pub answered: u64,
    /// Those that were not.
    pub late: u64,
    /// Those that were answered with an error, or broke off.
    pub failed: u64,
    /// What other nodes are said to have kept, and could not be read.
    pub unread: u64,
}

/// A connection, and the name of this node on it.
#[derive(Clone)]
pub(super) struct Lane {
    pub(super) connection: MultiplexedConnection,
    /// For what is large, so that it delays nobody else.
    pub(super) bulk: MultiplexedConnection,
    pub(super) node: Arc<str>,
}

/// The way to Redis.
pub(super) struct Link {
    client: Client,
    settings: Settings,
    names: Names,
    runtime: Handle,
    /// What requests use; `None` while they shall not.
    lane: ArcSwapOption<Lane>,
    /// The last known number of nodes.
    nodes: AtomicU32,
    /// Something was late, or has failed.
    trouble: Notify,
    /// How many signs of life Redis has taken.
    beats: watch::Sender<u64>,
    /// The kinds of errors that have been told.
    told: Mutex<HashSet<String>>,
    observer: Box<dyn Fn(Event<'_>) + Send + Sync>,
    /// Things that wait to be told.
    pub(super) untold: AtomicUsize,
    answered: AtomicU64,
    late: AtomicU64,
    failed: AtomicU64,
    /// Records that could not be read.
    pub(super) unread: AtomicU64,
}

impl Link {
    pub(super) fn new(
        settings: Settings,
        runtime: Handle,
        observer: Box<dyn Fn(Event<'_>) + Send + Sync>,
    ) -> Result<Self, String> {
        Ok(Self {
            client: client(&settings)?,
            settings,
            names: Names::new(),
            runtime,
            lane: ArcSwapOption::empty(),
            nodes: AtomicU32::new(1),
            trouble: Notify::new(),
            beats: watch::Sender::new(0),
            told: Mutex::default(),
            observer,
            untold: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            late: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            unread: AtomicU64::new(0),
        })
    }

    /// The connection, while it can be used.
    pub(super) fn lane(&self) -> Option<Arc<Lane>> {
        self.lane.load_full()
    }

    /// The connection, as soon as it can be used.
    pub(super) async fn back(&self) -> Arc<Lane> {
        loop {
            match self.lane() {
                Some(lane) => return lane,
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// The last known number of nodes, at least 1.
    pub(super) fn nodes(&self) -> u32 {
        self.nodes.load(Ordering::Relaxed)
    }

    /// Where what need not be waited for is done.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// A connection for somebody who waits on it.
    pub(super) async fn connection(&self) -> Result<MultiplexedConnection, String> {
        connect(&self.client, &self.settings).await
    }

    /// What this process is called in messages, whatever its connection.
    pub(super) fn process(&self) -> &str {
        self.names.process()
    }

    pub(super) const fn names(&self) -> &Names {
        &self.names
    }

    /// Changes with each sign of life that Redis has taken.
    pub(super) fn beats(&self) -> watch::Receiver<u64> {
        self.beats.subscribe()
    }

    pub(super) fn tell_observer(&self, event: Event<'_>) {
        (self.observer)(event);
    }

    /// How often a node gives a sign of life.
    pub(super) fn beat_every(&self) -> Duration {
        self.settings.node_ttl / BEATS
    }

    pub(super) fn status(&self) -> Status {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Status {
            up: self.lane.load().is_some(),
            nodes: self.nodes(),
            answered: read(&self.answered),
            late: read(&self.late),
            failed: read(&self.failed),
            unread: read(&self.unread),
        }
    }

    /// Runs a script and waits for its answer as long as the configuration allows. What is made of the answer is made even when nobody
    /// waits any more, and then dropped: whatever was given is so given back.
    pub(super) async fn ask<T, R>(
        self: &Arc<Self>,
        lane: Arc<Lane>,
        call: ScriptInvocation<'static>,
        made: impl FnOnce(T) -> R + Send + 'static,
    ) -> Option<R>
    where
        T: FromRedisValue + Send + 'static,
        R: Send + 'static,
    {
        let (tell, mut told) = oneshot::channel();
        let (link, asked) = (self.clone(), lane.clone());
        self.runtime.spawn(async move {
            match call.invoke_async(&mut asked.connection.clone()).await {
                // Dropped, if nobody waits for it.
                Ok(answer) => drop(tell.send(made(answer))),
                Err(error) => link.failed(&asked, &error),
            }
        });
        match timeout(self.settings.timeout, &mut told).await {
            Ok(Ok(answer)) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                Some(answer)
            }
            Ok(Err(_)) => None,
            Err(_) => {
                told.close();
                self.late.fetch_add(1, Ordering::Relaxed);
                self.suspend(&lane);
                None
            }
        }
    }

    /// Asks something large, and waits as long. That it fails says little about Redis, so others go on asking until the keeper knows.
    pub(super) async fn ask_bulk<T>(&self, question: impl Future<Output = RedisResult<T>> + Send + 'static) -> Option<T>
    where
        T: Send + 'static,
    {
        match timeout(self.settings.timeout, self.runtime.spawn(question)).await {
            Ok(Ok(Ok(answer))) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                Some(answer)
            }
            Ok(Ok(Err(error))) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                self.note(&error);
                if !is_answer(&error) {
                    self.trouble.notify_one();
                }
                None
            }
            // The runtime is gone.
            Ok(Err(_)) => None,
            Err(_) => {
                self.late.fetch_add(1, Ordering::Relaxed);
                self.trouble.notify_one();
                None
            }
        }
    }

    /// Takes note of a question that was not answered as it should be.
    pub(super) fn failed(&self, lane: &Arc<Lane>, error: &RedisError) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.note(error);
        // Who answers with an error is there.
        if !is_answer(error) {
            self.suspend(lane);
        }
    }

    /// The first error of each kind that Redis answers with is a warning: somebody has to change something there.
    fn note(&self, error: &RedisError) {
        let mut told = self.told.lock();
        let is_new = |code: &str| told.len() < MOST_KINDS && told.insert(code.to_owned());
        let level = if error.code().is_some_and(is_new) { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, "redis: {error}");
    }

    /// Nobody asks until the keeper has had an answer.
    fn suspend(&self, lane: &Arc<Lane>) {
        let current = self.lane.load();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, lane)) {
            self.lane.store(None);
        }
        self.trouble.notify_one();
    }

    /// Keeps the connection for ever. Tells `looked` when it knows for the first time whether Redis is there.
    pub(super) async fn keep(self: Arc<Self>, looked: std::sync::mpsc::Sender<()>) {
        let mut looked = Some(looked);
        let (mut is_down, mut name) = (false, self.names.next());
        loop {
            let why = match self.connect(&name).await {
                Ok(lane) => {
                    if std::mem::take(&mut is_down) {
                        (self.observer)(Event::Recovered);
                    }
                    let mut lane = Arc::new(lane);
                    let why = self.watch(&mut lane, looked.take()).await;
                    self.names.retire(&lane.node);
                    name = self.names.next();
                    why
                }
                Err(why) => why,
            };
            self.lane.store(None);
            if !std::mem::replace(&mut is_down, true) {
                (self.observer)(Event::Unhealthy { why: &why });
            }
            looked.take();
            // Not all nodes at once.
            tokio::time::sleep(RETRY.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        }
    }

    /// Connects under this name.
    async fn connect(&self, name: &Arc<str>) -> Result<Lane, String> {
        let mut connection = connect(&self.client, &self.settings).await?;
        let bulk = connect(&self.client, &self.settings).await?;
        let scripts = [&*BEAT, super::answers::script(), super::vectors::script()].into_iter();
        for script in
            scripts.chain(super::limits::scripts()).chain(super::accounts::scripts()).chain(super::keys::scripts())
        {
            within(CONNECT, script.load_async(&mut connection)).await?;
        }
        let mut lane = Lane { connection, bulk, node: name.clone() };
        let (_, count) = within(self.settings.timeout, self.beat(&mut lane)).await?;
        // Others come back a little later: what is known of them from before holds until the next look.
        self.nodes.fetch_max(count, Ordering::Relaxed);
        Ok(lane)
    }

    /// Gives signs of life until there is no answer. Returns why there is none.
    async fn watch(&self, lane: &mut Arc<Lane>, looked: Option<std::sync::mpsc::Sender<()>>) -> String {
        let (begun, mut silent) = (Instant::now(), 0);
        self.lane.store(Some(lane.clone()));
        if let Some(looked) = looked {
            let _ = looked.send(());
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.beat_every()) => {}
                () = self.trouble.notified() => {}
            }
            let mut own = Lane::clone(lane);
            // Once may be chance.
            let first = within(self.settings.timeout, self.beat(&mut own)).await;
            let answer = match first {
                Ok(answer) => Ok(answer),
                Err(_) => {
                    self.lane.store(None);
                    within(self.settings.timeout, self.beat(&mut own)).await
                }
            };
            match answer {
                Ok((1, count)) => {
                    if begun.elapsed() > self.settings.node_ttl {
                        self.nodes.store(count.max(1), Ordering::Relaxed);
                    } else {
                        self.nodes.fetch_max(count, Ordering::Relaxed);
                    }
                    if self.lane.load().is_none() {
                        self.lane.store(Some(lane.clone()));
                    }
                }
                // The others have taken it for gone, and perhaps its leases with it: new ones would be mixed up with those.
                Ok(_) => {
                    self.names.retire(&own.node);
                    own.node = self.names.next();
                    if let Err(why) = within(self.settings.timeout, self.beat(&mut own)).await {
                        return why;
                    }
                    *lane = Arc::new(own);
                    self.lane.store(Some(lane.clone()));
                }
                Err(why) => return why,
            }
            if let Some(bulk) = self.renewed(&lane.bulk, &mut silent).await {
                *lane = Arc::new(Lane { bulk, ..Lane::clone(lane) });
                self.lane.store(Some(lane.clone()));
            }
        }
    }

    /// Another connection in the place of one that is broken, or has been silent for long: it may be busy with something large.
    async fn renewed(&self, bulk: &MultiplexedConnection, silent: &mut u32) -> Option<MultiplexedConnection> {
        let ping = redis::cmd("PING");
        match timeout(self.settings.timeout, ping.query_async::<()>(&mut bulk.clone())).await {
            Ok(Err(error)) if !is_answer(&error) => {}
            Ok(_) => {
                *silent = 0;
                return None;
            }
            Err(_) => {
                *silent += 1;
                if *silent < BEATS {
                    return None;
                }
            }
        }
        // No longer than until the next sign of life.
        let connected = timeout(self.beat_every(), connect(&self.client, &self.settings)).await;
        *silent = 0;
        connected.ok()?.inspect_err(|why| log::debug!("redis: {why}")).ok()
    }

    /// One sign of life: whether the node was known, and how many there are.
    async fn beat(&self, lane: &mut Lane) -> RedisResult<(u8, u32)> {
        let ttl = u64::try_from(self.settings.node_ttl.as_micros()).unwrap_or(u64::MAX);
        let (kept, gone) = self.names.former(&lane.node);
        let mut call = BEAT.prepare_invoke();
        call.key(NODES).arg(&*lane.node).arg(ttl).arg(kept.len());
        for name in kept.iter().chain(&gone) {
            call.arg(&**name);
        }
        let answer = call.invoke_async(&mut lane.connection).await?;
        self.names.forget(&gone);
        self.beats.send_modify(|beats| *beats = beats.wrapping_add(1));
        Ok(answer)
    }

    /// Whether something waits to be told that could be.
    pub(super) fn is_busy(&self) -> bool {
        self.untold.load(Ordering::Relaxed) > 0 && self.lane.load().is_some()
    }

    /// Tells the others that this node is gone.
    pub(super) async fn leave(&self) {
        if let Some(lane) = self.lane.swap(None) {
            let (kept, gone) = self.names.former(&lane.node);
            let names: Vec<&str> = kept.iter().chain(&gone).chain([&lane.node]).map(|name| &**name).collect();
            let gone = redis::cmd("ZREM").arg(NODES).arg(names).to_owned();
            if let Err(error) = gone.query_async::<()>(&mut lane.connection.clone()).await {
                log::debug!("redis: {error}");
            }
        }
    }
}

/// Whether Redis has answered, if only with an error.
pub(super) fn is_answer(error: &RedisError) -> bool {
    error.code().is_some()
}

fn client(settings: &Settings) -> Result<Client, String> {
    let url = settings.url.reveal();
    let client = match &settings.ca {
        Some(ca) => {
            let certificates = redis::TlsCertificates { client_tls: None, root_cert: Some(ca.clone()) };
            Client::build_with_tls(url, certificates)
        }
        None => Client::open(url),
    };
    client.map_err(|error| format!("store.redis_url cannot be used: {error}"))
}

async fn connect(client: &Client, settings: &Settings) -> Result<MultiplexedConnection, String> {
    let latest = LATEST.max(settings.timeout);
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(latest));
    within(CONNECT, client.get_multiplexed_async_connection_with_config(&config)).await
}

async fn within<T>(limit: Duration, answer: impl Future<Output = RedisResult<T>>) -> Result<T, String> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

pub(super) async fn ask_once(settings: &Settings) -> Result<Duration, String> {
    let client = client(settings)?;
    let mut connection = connect(&client, settings).await?;
    let begun = Instant::now();
    // Whether it may do what the gateway does: run scripts that write, and tell the others.
    let mut call = BEAT.prepare_invoke();
    call.key("{orbyt}:check").arg("check").arg(1).arg(0);
    within::<(u8, u32)>(CONNECT, call.invoke_async(&mut connection)).await?;
    let took = begun.elapsed();
    let [acquire, settle] = limits::check_calls();
    within::<redis::Value>(CONNECT, acquire.invoke_async(&mut connection)).await?;
    within::<()>(CONNECT, settle.invoke_async(&mut connection)).await?;
    // Not a word of the language that nodes speak, so none listens to it.
    let publish = redis::cmd("PUBLISH").arg(keys::news(&client)).arg("check").to_owned();
    within::<()>(CONNECT, publish.query_async(&mut connection)).await?;
    Ok(took)
}
