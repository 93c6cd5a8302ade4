//! Puts the parts together: the only place that names concrete stores, and that starts and stops everything.

pub mod ask;
mod audit;
mod backstage;
mod discovery;
mod ledger;
mod probes;
mod reload;
pub mod shared;
pub mod state;
mod tls;

use crate::cli::summary::Listening;
use crate::config::snapshot::Provider;
use crate::config::{LogFormat, Snapshot, Source};
use crate::console::{Console, Deps, Sharing};
use crate::domain::ProviderKey;
use crate::domain::budget::Account;
use crate::proxy::core::Phase;
use crate::proxy::{Core, Door, Gateway};
use crate::store::memory::MemoryLogins;
use crate::store::ports::accounts::Balance;
use crate::store::ports::ledger::Ledger;
use crate::store::ports::live::{KeyState, KeyStatus};
use crate::store::ports::logins::Logins;
use crate::store::redis::Redis;
use crate::telemetry::{BreakerState, Format, LedgerState, Log, Metrics, PoolState, Redactor, Telemetry};
use async_trait::async_trait;
use audit::Trail;
use backstage::BehindConsole;
use parking_lot::Mutex;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use pingora::services::listening::Service;
use reload::Watch;
use state::{Followed, Follower, State};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tls::Certificates;
use tokio::sync::watch;

/// How long streams get to hear of their end once the grace period is over.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A gateway that is up.
pub struct Running {
    /// Where it listens; ports that were 0 are known.
    pub listening: Listening,
    core: Arc<Core>,
    control: tokio::runtime::Runtime,
    redis: Option<Redis>,
    trail: Option<Trail>,
    books: Option<ledger::Books>,
    _console: Console,
    stop: watch::Sender<bool>,
    grace: Duration,
}

/// What a gateway is made of.
pub struct Parts {
    /// The configuration, without what the database holds.
    pub snapshot: Snapshot,
    /// The database and what it holds; `None` for a gateway that keeps nothing.
    pub state: Option<(Arc<State>, Followed)>,
    /// Where it came from, for reloads; `None` for a gateway that is never reloaded.
    pub source: Option<(Source, Vec<PathBuf>)>,
    /// Where the log goes.
    pub log_sink: Box<dyn Write + Send>,
    /// Whether the sink is a terminal.
    pub log_to_terminal: bool,
}

/// Starts everything; returns when all listeners are up.
///
/// # Errors
/// A text for the operator: a port in use, a certificate that cannot be read.
pub fn start(parts: Parts) -> Result<Running, String> {
    let Parts { mut snapshot, state, source, log_sink, log_to_terminal } = parts;
    choose_ports(&mut snapshot)?;
    let telemetry = Arc::new(telemetry(&snapshot, log_sink, log_to_terminal)?);
    let (stores, redis) = shared::stores(&snapshot, &telemetry)?;
    let core = Core::new(snapshot.clone(), stores, telemetry.clone());
    core.pool.configure(&provider_keys(&snapshot), Instant::now());
    let (observed, answers, vectors) = (core.clone(), core.answers.clone(), core.vectors.clone());
    telemetry.metrics.set_cache_source(move || answers.held());
    telemetry.metrics.set_question_source(move || vectors.held());
    telemetry.metrics.set_pool_source(move || pool_state(&observed));
    let (state, followed) = state.map_or_else(Default::default, |(state, followed)| (Some(state), followed));
    let shown = Arc::new(Mutex::new(LedgerState::default()));
    let books = state.as_ref().map(|state| keep_books(&core, &snapshot, state, shown.clone())).transpose()?.flatten();
    let behind = Arc::new(BehindConsole {
        core: core.clone(),
        state: state.clone(),
        source: source.as_ref().map(|(source, _)| source.clone()),
        follower: OnceLock::new(),
    });
    let console = start_console(&behind, &snapshot, shown)?;
    snapshot.console.listen = console.addresses().to_vec();
    let trail = state.clone().map(|state| {
        let (trail, writing) = Trail::begin(state);
        let heard = trail.clone();
        telemetry.set_audience(move |change| heard.hear(change));
        (trail, writing)
    });
    let follower = Follower::new(core.clone(), state, snapshot.clone(), followed);
    let _ = behind.follower.set(follower.clone());
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("orbyt-control")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the control runtime: {error}"))?;
    let books = books.map(|(books, writing)| {
        control.spawn(writing);
        books
    });
    if !core.snapshot.load().budgets.is_empty() {
        // What an earlier life of this process has taken down is spent too.
        let written = async {
            tokio::time::timeout(LAST_WORDS, async {
                if let Some(books) = &books {
                    books.settle().await
                }
            })
            .await
        };
        let _ = control.block_on(written);
        control.block_on(follower.know_what_was_spent());
    }
    let certificates = snapshot.server.tls.as_ref().map(Certificates::load).transpose()?;
    let (stop, stopped) = watch::channel(false);
    serve(&core, &snapshot, certificates.as_ref(), stopped)?;
    if let Some((source, files)) = source {
        let _runtime = control.enter();
        control.spawn(Watch::begin(core.clone(), follower.clone(), source, files, certificates)?.run());
    }
    control.spawn(follower.clone().keep_books());
    control.spawn(follower.follow());
    let trail = trail.map(|(trail, writing)| {
        control.spawn(writing);
        trail
    });
    let asker = Arc::new(ask::Asker::default());
    control.spawn(discovery::keep_up(core.clone(), asker.clone()));
    control.spawn(probes::keep_up(core.clone(), asker));
    let listening = Listening { devtools: console.devtools_addresses().to_vec(), ..Listening::configured(&snapshot) };
    wait_until_up(&listening)?;
    Ok(Running { listening, core, control, redis, trail, books, _console: console, stop, grace: snapshot.server.grace })
}

impl Running {
    /// Waits for SIGTERM or SIGINT, then ends in order: no new connections, requests in flight finish, at the end of the grace period
    /// streams end with an error, everything is recorded. A second signal ends at once.
    pub fn until_signal(self) {
        self.control.block_on(signal());
        log::info!("shutting down: {} requests in flight", self.core.telemetry.metrics.in_flight());
        let _ = self.core.phase.send(Phase::Draining);
        let _ = self.stop.send(true);
        self.control.block_on(async {
            tokio::select! {
                () = self.idle_within(self.grace) => {}
                () = signal() => {}
            }
            if self.core.telemetry.metrics.in_flight() > 0 {
                let _ = self.core.phase.send(Phase::Ending);
                self.idle_within(LAST_WORDS).await;
            }
        });
        if let Some(trail) = &self.trail {
            let _ = self.control.block_on(async { tokio::time::timeout(LAST_WORDS, trail.settle()).await });
        }
        if let Some(books) = &self.books {
            // What is not written by then stays in the spool.
            let _ = self.control.block_on(async { tokio::time::timeout(LAST_WORDS, books.settle()).await });
        }
        if let Some(redis) = &self.redis {
            redis.leave();
        }
        self.core.telemetry.log.flush();
    }

    /// Ends at once.
    pub fn stop(self) {
        let _ = self.stop.send(true);
        self.core.telemetry.log.flush();
    }

    async fn idle_within(&self, limit: Duration) {
        let end = Instant::now() + limit;
        while self.core.telemetry.metrics.in_flight() > 0 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        }
        _ => std::future::pending().await,
    }
}

/// The ledger and the task that keeps it; `None` where none is wanted.
fn keep_books(
    core: &Arc<Core>,
    snapshot: &Snapshot,
    state: &Arc<State>,
    shown: Arc<Mutex<LedgerState>>,
) -> Result<Option<(ledger::Books, impl Future<Output = ()> + Send + use<>)>, String> {
    let wanted = &snapshot.telemetry;
    if !wanted.ledger {
        return Ok(None);
    }
    let data_dir = snapshot.server.data_dir.clone();
    let spool = ledger::open_spool(&data_dir, wanted.spool_max_bytes, state::now_ms())?;
    let _ = core.ledger.set(spool.clone());
    let (seen, configured) = (shown.clone(), core.clone());
    core.telemetry.metrics.set_ledger_source(move || seen.lock().clone());
    let retention = Box::new(move || configured.snapshot.load().telemetry.ledger_retention);
    Ok(Some(ledger::begin(ledger::Setup { state: state.clone(), spool, data_dir, retention, shown })))
}

fn telemetry(snapshot: &Snapshot, sink: Box<dyn Write + Send>, terminal: bool) -> Result<Telemetry, String> {
    let redactor = Arc::new(Redactor::default());
    redactor.register(snapshot.secrets());
    let format = match snapshot.telemetry.log_format {
        LogFormat::Human => Format::Human { colour: terminal },
        LogFormat::Auto if terminal => Format::Human { colour: true },
        LogFormat::Json | LogFormat::Auto => Format::Json,
    };
    let log = Log::start(snapshot.telemetry.log_level, format, sink, redactor.clone())
        .map_err(|error| format!("cannot start the log: {error}"))?;
    // Only one log can take the records of the `log` crate; in a test process that is the first one.
    let _ = log.install();
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION")).map_err(|error| format!("metrics: {error}"))?;
    introduce(&metrics, snapshot);
    let telemetry = Telemetry::new(log, Arc::new(metrics), redactor);
    telemetry.payloads.configure(snapshot.telemetry.payloads.clone());
    Ok(telemetry)
}

/// Tells the metrics which providers and models there are.
fn introduce(metrics: &Metrics, snapshot: &Snapshot) {
    metrics.know_models(known_models(snapshot));
    let name = |provider: &Arc<Provider>| (provider.id.clone(), provider.row.otel_name.as_str().into());
    metrics.know_providers(snapshot.providers.iter().map(name));
}

/// The keys of a configuration, by provider.
fn provider_keys(snapshot: &Snapshot) -> Vec<(Arc<str>, &[Arc<ProviderKey>])> {
    snapshot.providers.iter().map(|provider| (provider.id.clone(), provider.keys.as_slice())).collect()
}

/// The models that may have labels of their own in the metrics.
fn known_models(snapshot: &Snapshot) -> Vec<Arc<str>> {
    let local = snapshot.providers.iter().flat_map(|provider| &provider.models);
    snapshot.catalog.models().iter().chain(local).map(|row| row.upstream.clone()).collect()
}

fn start_console(
    behind: &Arc<BehindConsole>,
    snapshot: &Snapshot,
    shown: Arc<Mutex<LedgerState>>,
) -> Result<Console, String> {
    let (core, state) = (&behind.core, behind.state.as_ref());
    let (token, health, ready, degraded) = (core.clone(), core.clone(), core.clone(), core.clone());
    let current = core.clone();
    let accounts = core.clone();
    let (recent, redactor) = (core.telemetry.recent.clone(), core.telemetry.redactor.clone());
    let deps = Deps {
        metrics: core.telemetry.metrics.clone(),
        live: core.telemetry.live.clone(),
        payloads: core.telemetry.payloads.clone(),
        operations: core.telemetry.operations.clone(),
        admin_token: Arc::new(move || token.snapshot.load().console.admin_token),
        health: Arc::new(move || health_report(&health, &shown.lock())),
        accounts: Arc::new(move || account_report(&accounts)),
        ledger: state.map(|state| -> Arc<dyn Ledger> { state.database.clone() }),
        database: state.map(|state| state.database.clone()),
        backstage: behind.clone(),
        logins: state
            .map_or_else(|| -> Arc<dyn Logins> { Arc::new(MemoryLogins::default()) }, |it| it.database.clone()),
        snapshot: Arc::new(move || current.snapshot.load_full()),
        explain: Arc::new(move |id| serde_json::to_value(recent.explain(id, &redactor)?).ok()),
        ready: Arc::new(move || *ready.phase.borrow() == Phase::Serving),
        degraded: Arc::new(move || degraded.degraded.load().as_deref().cloned()),
        gateway_urls: snapshot.server.listen.iter().map(|address| format!("http://{address}")).collect(),
        version: env!("CARGO_PKG_VERSION"),
    };
    Console::start(&snapshot.console.listen, Sharing::Exclusive, deps).map_err(|error| error.to_string())
}

fn pool_state(core: &Core) -> PoolState {
    let keys = core.pool.statuses(Instant::now()).into_iter().map(|status| (status.provider, status.state.name()));
    let breakers = core.targets.statuses().into_iter().map(|target| {
        let state = match target.breaker {
            "open" => BreakerState::Open,
            "half_open" => BreakerState::HalfOpen,
            _ => BreakerState::Closed,
        };
        // The name is the client's: it may have put a key there by mistake.
        let model = core.telemetry.redactor.redact(&target.model).into_owned();
        (target.provider, model.into(), state)
    });
    PoolState { keys: keys.collect(), breakers: breakers.collect(), queues: core.queue_depths() }
}

fn key_report(key: &ProviderKey, known: Option<&KeyStatus>) -> serde_json::Value {
    let state = known.map_or(KeyState::Ready { leases: 0 }, |status| status.state);
    // A key that cannot be used has no room, whatever is left of its limits.
    let room = if state == KeyState::Disabled { 0.0 } else { known.map_or(1.0, |status| status.room) };
    let mut report = serde_json::json!({"name": &*key.name, "state": state.name(), "room": room});
    if let Some(left) = state.left() {
        report["ready_in_seconds"] = left.as_secs_f64().into();
    }
    let why = match state {
        KeyState::Cooldown { why, .. } => Some(why),
        KeyState::Exhausted { .. } => Some("quota"),
        KeyState::Disabled => Some("the provider does not accept it"),
        KeyState::Ready { .. } => None,
    };
    if let Some(why) = why {
        report["why"] = why.into();
    }
    if let Some(group) = &key.group {
        report["group"] = (&**group).into();
    }
    report
}

/// Amounts are texts, because they do not fit into the numbers of most readers.
fn account_report(core: &Core) -> serde_json::Value {
    let report = |(account, balance): (Account, Balance)| {
        let Account { payer, subject, span, from_day } = account;
        serde_json::json!({
            "payer": payer.name(), "subject": &*subject, "span": span.name(), "from_day": from_day,
            "spent_usd": balance.spent.to_dollars(), "reserved_usd": balance.reserved.to_dollars(),
        })
    };
    let accounts = core.accounts.balances().into_iter().map(report).collect::<Vec<_>>();
    serde_json::json!({ "accounts": accounts })
}

fn health_report(core: &Core, ledger: &LedgerState) -> serde_json::Value {
    let snapshot = core.snapshot.load();
    let statuses = core.pool.statuses(Instant::now());
    let providers: Vec<serde_json::Value> = snapshot
        .providers
        .iter()
        .map(|provider| {
            let keys = provider.keys.iter().map(|key| {
                let known = statuses.iter().find(|status| status.provider == provider.id && status.id == key.id);
                key_report(key, known)
            });
            serde_json::json!({"id": &*provider.id, "dialect": provider.dialect.name(), "keys": keys.collect::<Vec<_>>()})
        })
        .collect();
    let targets: Vec<serde_json::Value> = core
        .targets
        .statuses()
        .into_iter()
        .map(|target| {
            serde_json::json!({
                "provider": &*target.provider,
                "model": &*target.model,
                "breaker": target.breaker,
                "success_rate": target.health.at(Instant::now()).success_rate(),
                "first_output_ms": target.health.first_output_ms(),
                "tokens_per_second": target.health.tokens_per_second(),
            })
        })
        .collect();
    let ledger = serde_json::json!({
        "spool_bytes": ledger.spool_bytes,
        "waiting_bytes": ledger.waiting_bytes,
        "lost": ledger.lost,
        "stuck": ledger.stuck,
    });
    serde_json::json!({"providers": providers, "targets": targets, "ledger": ledger})
}

/// Fixes ports that were left to the system, and finds out before anything starts whether every port is free.
fn choose_ports(snapshot: &mut Snapshot) -> Result<(), String> {
    let tls = snapshot.server.tls.iter_mut().flat_map(|tls| tls.listen.iter_mut());
    for address in snapshot.server.listen.iter_mut().chain(tls) {
        let listener = TcpListener::bind(*address).map_err(|error| unusable(*address, &error))?;
        *address = listener.local_addr().map_err(|error| unusable(*address, &error))?;
    }
    Ok(())
}

fn unusable(address: SocketAddr, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "cannot listen on {address}: the port is in use. Stop the program that has it, or set server.listen (ORBYT_LISTEN)"
        ),
        _ => format!("cannot listen on {address}: {error}"),
    }
}

/// Starts Pingora on a thread of its own: its `run` sleeps through the whole grace period, whether there is anything to wait for or not.
fn serve(
    core: &Arc<Core>,
    snapshot: &Snapshot,
    certificates: Option<&Arc<Certificates>>,
    stopped: watch::Receiver<bool>,
) -> Result<(), String> {
    let conf = ServerConf {
        threads: snapshot.server.workers,
        grace_period_seconds: Some(snapshot.server.grace.as_secs() + LAST_WORDS.as_secs() + 1),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    let mut service = Service::new("orbyt".to_owned(), Door::new(Gateway::new(core.clone())));
    for address in &snapshot.server.listen {
        service.add_tcp(&address.to_string());
    }
    if let (Some(tls), Some(certificates)) = (&snapshot.server.tls, certificates) {
        for address in &tls.listen {
            service.add_tls_with_settings(&address.to_string(), None, certificates.settings()?);
        }
    }
    server.add_service(service);
    server.bootstrap();
    let run = move || server.run(RunArgs { shutdown_signal: Box::new(Stopped(stopped)) });
    std::thread::Builder::new()
        .name("pingora".to_owned())
        .spawn(run)
        .map(|_| ())
        .map_err(|error| format!("cannot start the server: {error}"))
}

struct Stopped(watch::Receiver<bool>);

#[async_trait]
impl ShutdownSignalWatch for Stopped {
    async fn recv(&self) -> ShutdownSignal {
        let _ = self.0.clone().wait_for(|stopped| *stopped).await;
        ShutdownSignal::GracefulTerminate
    }
}

/// Waits until every listener of the gateway accepts.
fn wait_until_up(listening: &Listening) -> Result<(), String> {
    for address in listening.gateway.iter().chain(&listening.tls) {
        let reachable = match address.ip() {
            ip if ip.is_unspecified() && ip.is_ipv4() => SocketAddr::from(([127, 0, 0, 1], address.port())),
            ip if ip.is_unspecified() => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port())),
            _ => *address,
        };
        let end = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect_timeout(&reachable, Duration::from_secs(1)).is_err() {
            if Instant::now() > end {
                return Err(format!("the listener on {address} did not come up"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}
