//! What all requests share, and what one request carries along.

use super::budget::Funds;
use super::cache::CacheNote;
use super::debt::Owing;
use super::dns::Dns;
use super::error::ApiError;
use super::exchange::Connections;
use super::flights::Flights;
use super::ledger::Entry;
use super::limit::{Limiter, Seat};
use super::oauth::Tokens;
use super::queue::Queues;
use super::quota::Quota;
use super::recorder::Recorder;
use crate::config::keys::Holder;
use crate::config::scopes::KeyScopes;
use crate::config::snapshot::Snapshot;
use crate::dialect::client::Client;
use crate::domain::secret::KeyHash;
use crate::domain::{RequestId, RequestRecord};
use crate::routing::breaker::{Policy, State, max_open};
use crate::routing::retry_budget::RetryBudget;
use crate::store::ports::Stores;
use crate::store::ports::accounts::Accounts;
use crate::store::ports::answers::Answers;
use crate::store::ports::ledger::Spool;
use crate::store::ports::limits::{LimitStore, Standings};
use crate::store::ports::live::{KeyPool, Targets};
use crate::store::ports::responses::{Owner, ResponseStore};
use crate::store::ports::vectors::Vectors;
use crate::telemetry::payloads::Tape;
use crate::telemetry::{InFlight, Telemetry};
use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Serving.
    Serving,
    /// A successor has the listeners: requests in flight finish, and a connection that is open may carry one request more.
    HandedOver,
    /// No new connections; requests in flight finish.
    Draining,
    /// The grace period is over: streams end with an error.
    Ending,
}

/// Models that were discovered at providers which list their own: `(provider id, model names)`.
pub type Discovered = Vec<(Arc<str>, Vec<String>)>;

/// What all requests share.
pub struct Core {
    /// The configuration; a request keeps the one it began with.
    pub snapshot: ArcSwap<Snapshot>,
    /// The models of providers that list their own.
    pub discovered: ArcSwap<Discovered>,
    /// The pool of provider keys.
    pub pool: Arc<dyn KeyPool>,
    /// Breakers and health.
    pub targets: Arc<dyn Targets>,
    /// The buckets of `[[limits.rule]]`.
    pub limits: Arc<dyn LimitStore>,
    /// What was spent of budgets.
    pub accounts: Arc<dyn Accounts>,
    /// The answers of `POST /v1/responses` that are kept.
    pub responses: Arc<dyn ResponseStore>,
    /// The cache of answers.
    pub answers: Arc<dyn Answers>,
    /// The questions that they answer, by what they mean.
    pub vectors: Arc<dyn Vectors>,
    /// Log, metrics and live events.
    pub telemetry: Arc<Telemetry>,
    /// Where the process is in its life.
    pub phase: watch::Sender<Phase>,
    /// How many connections of clients are open.
    pub open_connections: AtomicUsize,
    /// Why the database cannot be reached, while it cannot. Requests go on with what was last seen of it.
    pub degraded: ArcSwapOption<String>,
    /// What budgets go on from while the ledger cannot be asked what was spent of them before this process began.
    pub spending_of: Mutex<Option<Spending>>,
    /// Where finished requests are taken down; empty where no ledger is kept.
    pub ledger: OnceLock<Arc<dyn Spool>>,
    pub(super) connections: Connections,
    pub(super) limiter: Limiter,
    pub(super) queues: Arc<Queues>,
    pub(super) flights: Flights,
    pub(super) dns: Dns,
    pub(super) tokens: Tokens,
    pub(super) retry_budget: Mutex<RetryBudget>,
    pub(super) hedge_budget: Mutex<RetryBudget>,
    /// Whether the embeddings of the semantic cache are worth the wait.
    pub(super) embedding_breaker: Mutex<State>,
}

/// What is known of the spending of before, without the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spending {
    /// What was spent when the ledger was last seen, and what stands in the spool.
    LastSeen,
    /// What stands in the spool alone.
    Unknown,
}

impl Spending {
    /// Its name, as readiness says it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LastSeen => "last_seen",
            Self::Unknown => "unknown",
        }
    }
}

/// How many hedges may come at once beyond the share of the traffic: a quiet gateway can hedge, and a burst stays small.
const HEDGE_RESERVE: u32 = 10;

impl Core {
    /// The shared state of a gateway that starts with this configuration.
    pub fn new(snapshot: Snapshot, stores: Stores, telemetry: Arc<Telemetry>) -> Arc<Self> {
        let Stores { pool, targets, limits, accounts, answers, vectors, responses } = stores;
        Arc::new(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            discovered: ArcSwap::default(),
            pool,
            targets,
            limits,
            accounts,
            responses,
            answers,
            vectors,
            telemetry,
            phase: watch::Sender::new(Phase::Serving),
            open_connections: AtomicUsize::new(0),
            degraded: ArcSwapOption::empty(),
            spending_of: Mutex::new(None),
            ledger: OnceLock::new(),
            connections: Connections::default(),
            limiter: Limiter::default(),
            queues: Arc::default(),
            flights: Flights::default(),
            dns: Dns::default(),
            tokens: Tokens::default(),
            retry_budget: Mutex::default(),
            hedge_budget: Mutex::new(RetryBudget::new(HEDGE_RESERVE)),
            embedding_breaker: Mutex::default(),
        })
    }
}

impl Core {
    /// How many requests wait at each provider that takes only so many at once.
    pub fn queue_depths(&self) -> Vec<(Arc<str>, usize)> {
        self.queues.depths()
    }
}

/// The breaker's policy in a snapshot.
pub fn breaker_policy(snapshot: &Snapshot) -> Policy {
    let breaker = &snapshot.breaker;
    let max_open = max_open(breaker.max_open_share, snapshot.providers.len());
    Policy { enabled: breaker.enabled, failures: breaker.failures, open_for: breaker.open_for, max_open }
}

/// Why a stage ends the walk.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client gets this error.
    Refuse(ApiError),
    /// The client is gone; there is nobody to answer.
    Gone,
    /// The answer had begun and cannot be completed; the connection must not end cleanly.
    Cut,
}

impl<E: Into<ApiError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Refuse(error.into())
    }
}

/// A client's request on its way.
pub(super) struct ClientCtx {
    /// What it shares with all others.
    pub(super) core: Arc<Core>,
    /// The configuration that it began with.
    pub(super) snapshot: Arc<Snapshot>,
    /// The format that its route speaks.
    pub(super) dialect: Client,
    /// What will remain of it.
    pub(super) record: RequestRecord,
    /// Who is asking, once that is known.
    pub(super) holder: Option<Holder>,
    /// When it arrived.
    pub(super) started: Instant,
    /// Time spent waiting for providers.
    pub(super) waited: Duration,
    /// Its place among the requests in flight (`limits.concurrent`).
    pub(super) seat: Option<Seat>,
    /// What it has reserved of the limits of its key, user and model.
    pub(super) quota: Option<Quota>,
    /// What it has reserved of budgets.
    pub(super) funds: Option<Funds>,
    /// Bytes of text that the answer had, for an estimate of its tokens where the provider did not come to count them.
    pub(super) output_bytes: u64,
    /// Where those limits stood then.
    pub(super) standings: Option<Box<Standings>>,
    /// Whose key it came with.
    pub(super) tenant: Option<KeyHash>,
    /// Who keeps the response that it goes on from.
    pub(super) owner: Option<Box<Owner>>,
    /// What its answer may still cost when it is over.
    pub(super) owing: Option<Box<Owing>>,
    /// What its answer's head says of the cache; `None` when that is off.
    pub(super) cache: Option<CacheNote>,
    /// Takes down what it is answered, for the cache.
    pub(super) recorder: Option<Recorder>,
    /// Its row in the ledger.
    pub(super) entry: Entry,
    /// What it carries, where that is kept.
    pub(super) tape: Option<Arc<Tape>>,
    /// `access-control-allow-origin` of its answer.
    pub(super) cors_origin: Option<String>,
    /// Dropping it counts the request out, whichever way it ends: a shutdown waits for that.
    _in_flight: InFlight,
}

impl ClientCtx {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = RequestId::at(now, fastrand::u64(..));
        let record = RequestRecord::new(id, u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        Self {
            core: core.clone(),
            snapshot: core.snapshot.load_full(),
            dialect: Client::default(),
            record,
            holder: None,
            started: Instant::now(),
            waited: Duration::ZERO,
            seat: None,
            quota: None,
            funds: None,
            output_bytes: 0,
            standings: None,
            tenant: None,
            owner: None,
            owing: None,
            cache: None,
            recorder: None,
            entry: Entry::default(),
            tape: None,
            cors_origin: None,
            _in_flight: core.telemetry.arrived(),
        }
    }

    /// What the key may be used for; `None` for everything.
    pub(super) fn scopes(&self) -> Option<Arc<KeyScopes>> {
        self.holder.as_ref()?.scopes.clone()
    }

    /// Unix seconds of its arrival: the `created` of a translated answer.
    pub(super) fn created(&self) -> u64 {
        self.record.arrived_unix_ms / 1000
    }
}
