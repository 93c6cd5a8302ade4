//! State that several nodes share over one Redis.
//!
//! [`link`] is the way there: one connection that all requests share, kept alive by a task of its own, which also tells Redis that this
//! node lives. Every answer is waited for no longer than the configuration says; while Redis is silent it is not asked, and each port
//! does what can be done without it. The runtime is one thread of its own, so that neither side's work makes the other late.

mod accounts;
mod answers;
mod keys;
mod known;
mod limits;
mod link;
mod names;
mod nodes;
mod question;
mod vectors;

pub use accounts::RedisAccounts;
pub use answers::RedisAnswers;
pub use keys::RedisKeyPool;
pub use limits::RedisLimits;
pub use link::{Event, Status};
pub use nodes::RedisNodes;
pub use vectors::RedisVectors;

use crate::domain::Secret;
use link::Link;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long `start` waits to find out whether Redis is there.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How long a node that ends waits until what it has to tell is told.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Where Redis is, and how it is asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `redis://` or `rediss://`, with user, password and database where they are needed.
    pub url: Secret,
    /// Certificates in PEM form that are trusted instead of the system's.
    pub ca: Option<Vec<u8>>,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// After so long without a sign of life a node counts as gone, and what it had reserved comes back.
    pub node_ttl: Duration,
}

/// The connection to Redis, from which the ports are made.
pub struct Redis {
    link: Arc<Link>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Redis {
    /// Connects, and goes on doing so whenever the connection breaks. When Redis is not there now that is no error: `observer` hears of it.
    ///
    /// # Errors
    /// A text for the operator when the address cannot be used at all.
    pub fn start(settings: Settings, observer: impl Fn(Event<'_>) + Send + Sync + 'static) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("orbyt-redis")
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start the runtime for Redis: {error}"))?;
        let link = Arc::new(Link::new(settings, runtime.handle().clone(), Box::new(observer))?);
        let (looked, first_look) = std::sync::mpsc::channel();
        runtime.spawn(link.clone().keep(looked));
        // Requests would only be counted by this node before it is connected.
        let _ = first_look.recv_timeout(FIRST_LOOK);
        Ok(Self { link, runtime: Some(runtime) })
    }

    /// The limits that the nodes share.
    pub fn limits(&self) -> RedisLimits {
        RedisLimits::new(self.link.clone())
    }

    /// The accounts that the nodes share.
    pub fn accounts(&self) -> RedisAccounts {
        RedisAccounts::new(self.link.clone())
    }

    /// A pool of provider keys that tells other nodes what it learns.
    pub fn key_pool(&self) -> RedisKeyPool {
        RedisKeyPool::new(self.link.clone())
    }

    /// The way to the other nodes.
    pub fn nodes(&self) -> RedisNodes {
        RedisNodes::new(self.link.clone())
    }

    /// The cache of answers that the nodes share, with room for so many, and so many bytes.
    pub fn answers(&self, most: u32, most_bytes: u64) -> RedisAnswers {
        RedisAnswers::new(self.link.clone(), most, most_bytes)
    }

    /// The index of questions that the nodes share, with room for so many.
    pub fn vectors(&self, most: u32) -> RedisVectors {
        RedisVectors::new(self.link.clone(), most)
    }

    /// How it is.
    pub fn status(&self) -> Status {
        self.link.status()
    }

    /// What [`Redis::status`] tells, for whoever asks later.
    pub fn observe(&self) -> impl Fn() -> Status + Send + Sync + 'static {
        let link = self.link.clone();
        move || link.status()
    }

    /// Tells what is still to be told, and that this node is gone: its share is the others' at once.
    pub fn leave(&self) {
        let Some(runtime) = &self.runtime else { return };
        let end = Instant::now() + LAST_WORDS;
        while self.link.is_busy() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (link, (left, leaving)) = (self.link.clone(), std::sync::mpsc::channel());
        runtime.spawn(async move {
            link.leave().await;
            let _ = left.send(());
        });
        let _ = leaving.recv_timeout(LAST_WORDS);
    }

    /// Asks Redis once, for `orbyt check --live`. Returns how long an answer takes.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn ask_once(settings: Settings) -> Result<Duration, String> {
        link::ask_once(&settings).await
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
