//! The control plane: `/metrics`, health and live events over HTTP, on a listener, a thread and a runtime of its own, so that
//! nothing that happens here can slow down a request in the data plane.
//!
//! ```text
//! listen.rs ──> serve.rs ──> routes.rs ──> auth.rs ──────────────> handler ────────> problem.rs, when it went wrong
//! bind once     a task a      security      admin token or session,  roles.rs: may the
//!               connection    headers       viewer.rs: who is it     viewer do this?
//! ```
//!
//! It knows nothing of the data plane: what it shows it is handed as [`Deps`].

mod api;
mod auth;
mod backstage;
mod hosts;
mod listen;
mod live;
mod pages;
mod password;
mod patience;
mod problem;
mod query;
mod roles;
mod routes;
mod serve;
mod session;
mod viewer;

pub use backstage::{Backstage, Unfit};
pub use listen::{ListenError, Sharing, bind};
pub use password::{LONGEST, NoHash, SHORTEST, hash as hash_password};

use crate::config::Snapshot;
use crate::domain::secret::KeyHash;
use crate::domain::{RequestId, Secret};
use crate::store::ports::database::Database;
use crate::store::ports::ledger::Ledger;
use crate::store::ports::logins::Logins;
use crate::store::ports::payloads::PayloadArchive;
use crate::telemetry::alerts::Alert;
use crate::telemetry::{Live, Metrics, Operations, PayloadStore};
use rand::TryRngCore;
use rand::rngs::OsRng;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// What the console shows and whom it lets in, as handed over by the wiring. The closures are asked at each request,
/// so that reloads need no ceremony; they must not block.
#[derive(Clone)]
pub struct Deps {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/api/v1/live`.
    pub live: Live,
    /// The hash of the admin token in force. With `None` nobody gets in.
    pub admin_token: Arc<dyn Fn() -> Option<KeyHash> + Send + Sync>,
    /// For `/api/v1/health`: providers, states of keys by name, breakers.
    pub health: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// For `/api/v1/accounts`: what is spent and reserved of budgets, as far as this node knows.
    pub accounts: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// For `/api/v1/requests/{id}/explain`: what is kept of a request; `None` when nothing is.
    pub explain: Arc<dyn Fn(RequestId) -> Option<serde_json::Value> + Send + Sync>,
    /// For `/api/v1/requests/{id}/payloads` and DevTools.
    pub payloads: PayloadStore,
    /// For payloads that memory does not hold any more; `None` where none are kept.
    pub archive: Option<Arc<dyn PayloadArchive>>,
    /// For the feed of operations.
    pub operations: Operations,
    /// For requests that `explain` does not know any more; `None` where no ledger is kept.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// What outlives the process; `None` for a gateway that keeps nothing.
    pub database: Option<Arc<dyn Database>>,
    /// What an operator has to know of now, for the banners.
    pub alerts: Arc<dyn Fn() -> Vec<Alert> + Send + Sync>,
    /// What the console can have done to the gateway.
    pub backstage: Arc<dyn Backstage>,
    /// Who may log in and who has; the database, where there is one.
    pub logins: Arc<dyn Logins>,
    /// What the gateway runs on.
    pub snapshot: Arc<dyn Fn() -> Arc<Snapshot> + Send + Sync>,
    /// For `/readyz`: whether the gateway takes requests.
    pub ready: Arc<dyn Fn() -> bool + Send + Sync>,
    /// For `/readyz`: why the database cannot be reached, while it cannot.
    pub degraded: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// What budgets go on from, while the ledger cannot be asked what was spent of them.
    pub spending: Arc<dyn Fn() -> Option<&'static str> + Send + Sync>,
    /// Where the gateway listens, as URLs, for the front page.
    pub gateway_urls: Vec<String>,
    /// The gateway's version.
    pub version: &'static str,
}

/// How far the console's thread stands back behind others.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// Unix milliseconds.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// `<kind>_` and 24 hex digits.
fn new_id(kind: &str) -> String {
    format!("{kind}_{:08x}{:016x}", fastrand::u32(..), fastrand::u64(..))
}

/// What gateway keys begin with.
pub const KEY_PREFIX: &str = "sk-or-v1-";

/// A new gateway key: [`KEY_PREFIX`] and 64 hex digits.
///
/// # Errors
/// When the system gives no random bytes.
pub fn new_key_secret() -> Result<Secret, String> {
    random_secret(KEY_PREFIX)
}

/// A new secret: a prefix and 64 hex digits.
///
/// # Errors
/// When the system gives no random bytes.
pub fn random_secret(prefix: &str) -> Result<Secret, String> {
    let mut bytes = [0; 32];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| format!("the system gives no random bytes: {error}"))?;
    Ok(Secret::new(format!("{prefix}{}", hex::encode(bytes))))
}

/// Why the console did not start.
#[derive(Debug)]
pub enum StartError {
    /// An address could not be listened on; says which.
    Listen(ListenError),
    /// No thread or no runtime could be had.
    Runtime(std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(error) => error.fmt(f),
            Self::Runtime(error) => write!(f, "the console's thread cannot be started: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// The running console.
#[derive(Debug)]
pub struct Console {
    addresses: Vec<SocketAddr>,
    devtools: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Console {
    /// Listens on all these addresses, or on none.
    ///
    /// # Errors
    /// When an address is in use or cannot be listened on, which the error names, or when no thread can be had.
    pub fn start(listen: &[SocketAddr], mut sharing: Sharing, deps: Deps) -> Result<Self, StartError> {
        let listeners: Vec<_> =
            listen.iter().map(|&at| sharing.socket(at)).collect::<Result<_, _>>().map_err(StartError::Listen)?;
        let place = |listener: &std::net::TcpListener| listener.local_addr().ok();
        let addresses = listeners.iter().filter_map(place).collect();
        let wanted = (deps.snapshot)();
        let second: Vec<_> =
            wanted.console.devtools_listen.iter().filter_map(|&at| sharing.socket_if_free(at)).collect();
        let devtools = second.iter().filter_map(place).collect();
        let listeners = listeners.into_iter().map(|listener| (listener, serve::Front::Console));
        let listeners =
            listeners.chain(second.into_iter().map(|listener| (listener, serve::Front::DevTools))).collect();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)?;
        let (stop, stopping) = watch::channel(false);
        let stopping = serve::Stopping(stopping);
        let router = routes::router(deps, stopping.clone());
        let thread = std::thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || {
                // Where there are too few cores for both, requests go first. Elsewhere than on Linux it would concern the whole process.
                #[cfg(target_os = "linux")]
                let _ = rustix::process::setpriority_process(None, NICE);
                runtime.block_on(serve::all(listeners, router, stopping));
            })
            .map_err(StartError::Runtime)?;
        Ok(Self { addresses, devtools, stop, thread: Some(thread) })
    }

    /// Where it opens with DevTools: those of the wanted addresses that could be had.
    pub fn devtools_addresses(&self) -> &[SocketAddr] {
        &self.devtools
    }

    /// Where it listens, with the ports that the kernel chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops listening, ends live streams and waits until what is being answered is answered, two seconds at most.
    pub fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the console has panicked");
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

#[cfg(test)]
mod tests;
