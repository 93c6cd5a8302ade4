//! Puts the parts together: the only place that names concrete stores, and that starts and stops everything.

mod alerts;
pub mod ask;
mod audit;
mod backstage;
mod console_deps;
mod discovery;
mod heirs;
mod ledger;
pub mod listeners;
mod live;
mod payloads;
mod probes;
mod reload;
mod service_manager;
pub mod shared;
pub mod state;
mod tls;
pub mod upgrade;

use crate::cli::summary::Listening;
use crate::config::snapshot::{Otlp, Provider};
use crate::config::{LogFormat, Snapshot, Source};
use crate::console::{self, Console};
use crate::domain::ProviderKey;
use crate::proxy::core::Phase;
use crate::proxy::{Core, Door, Gateway};
use crate::store::redis::Redis;
use crate::store::succession::{Succession, Taken};
use crate::telemetry::traces::Collector;
use crate::telemetry::{BreakerState, Format, LedgerState, Log, Metrics, PoolState, Redactor, Telemetry};
use async_trait::async_trait;
use audit::Trail;
use backstage::BehindConsole;
use console_deps::start_console;
use listeners::{Listener, Listeners};
use parking_lot::Mutex;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::configuration::ServerConf;
use pingora::server::{ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services;
use pingora::services::listening::Service;
use reload::Watch;
use state::{Followed, Follower, State};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tls::Certificates;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use upgrade::{Sockets, Upgrades};

/// How long streams get to hear of their end once the grace period is over.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How long a process that was replaced stays at least.
const LINGER: Duration = Duration::from_secs(1);
/// Head and body of most answers go out together. Pingora's own 1,460 bytes would cost them a second write each, which is as dear as all that
/// is decided about a request; events of a stream are sent at once whatever the room.
const WRITE_BUFFER: usize = 16 * 1024;
/// Pingora ends what is in flight after so long, and sleeps until then: when this process ends is decided here.
const NOT_BY_PINGORA: Duration = Duration::from_secs(30 * 24 * 3600);

/// A gateway that is up.
pub struct Running {
    /// Where it listens; ports that were 0 are known.
    pub listening: Listening,
    core: Arc<Core>,
    listeners: Arc<Mutex<Listeners>>,
    sockets: watch::Sender<Sockets>,
    /// What a process that was replaced leaves to its successor.
    asking: Vec<tokio::task::JoinHandle<()>>,
    follower: Arc<Follower>,
    control: Runtime,
    redis: Option<Redis>,
    trail: Option<Trail>,
    books: Option<ledger::Books>,
    /// What is spent and reserved, where nodes do not share it.
    heirloom: Option<Succession>,
    /// It was a process before's, until this one serves.
    taken: Mutex<Option<Taken>>,
    console: Option<Console>,
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
    /// The sockets of the process that this one takes over from; `None` for one that takes over from nobody.
    pub inherited: Option<Vec<Listener>>,
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
    let Parts { mut snapshot, state, source, inherited, log_sink, log_to_terminal } = parts;
    let takes_over = inherited.is_some();
    let listeners = open_listeners(&mut snapshot, inherited)?;
    let telemetry = Arc::new(telemetry(&snapshot, log_sink, log_to_terminal)?);
    let (mut stores, redis) = shared::stores(&snapshot, &telemetry)?;
    let is_alone = state.is_some() && redis.is_none();
    let heirloom = is_alone.then(|| heirs::install(&mut stores, &snapshot.server.data_dir));
    let core = Core::new(snapshot.clone(), stores, telemetry.clone());
    core.pool.configure(&provider_keys(&snapshot), Instant::now());
    show_in_metrics(&core);
    let (state, followed) = state.map_or_else(Default::default, |(state, followed)| (Some(state), followed));
    let shown = Arc::new(Mutex::new(LedgerState::default()));
    let books = ledger::keep(&core, &snapshot, state.as_ref(), heirloom.clone(), shown.clone())?;
    let behind = Arc::new(BehindConsole {
        core: core.clone(),
        state: state.clone(),
        source: source.as_ref().map(|(source, _)| source.clone()),
        follower: OnceLock::new(),
    });
    let console = start_console(&behind, &snapshot, shown, &listeners)?;
    let trail = state.clone().map(Trail::begin);
    let alarmed = tell_changes(&telemetry, trail.as_ref().map(|(trail, _)| trail.clone()));
    let data_dir = state.is_some().then(|| snapshot.server.data_dir.clone());
    trace(&core, &snapshot)?;
    let follower = Follower::new(core.clone(), state, snapshot.clone(), followed);
    let _ = behind.follower.set(follower.clone());
    let control = control_runtime()?;
    let books = books.map(|(books, writing)| {
        control.spawn(writing);
        books
    });
    know_what_was_spent(&core, &control, &follower, books.as_ref());
    let certificates = snapshot.server.tls.as_ref().map(Certificates::load).transpose()?;
    let (stop, stopped) = watch::channel(false);
    if let Some((source, files)) = source {
        let _runtime = control.enter();
        control.spawn(Watch::begin(core.clone(), follower.clone(), source, files, certificates.clone())?.run());
    }
    // Beside the process before, if there is one: what may go wrong has to have gone right by now.
    let taken = heirloom.as_ref().and_then(|books| heirs::begin(books, takes_over));
    serve(&core, &snapshot, certificates.as_ref(), &listeners, stopped)?;
    if !takes_over {
        let _runtime = control.enter();
        follower.open_door(false);
    }
    live::begin(&control, &telemetry, live::other_nodes(redis.as_ref(), behind.state.as_deref()), &snapshot);
    control.spawn(follower.clone().keep_books());
    if let Some(heirloom) = heirloom.clone() {
        control.spawn(heirs::keep_up(heirloom, follower.clone(), books.clone()));
    }
    control.spawn(follower.clone().follow());
    let trail = trail.map(|(trail, writing)| {
        control.spawn(writing);
        trail
    });
    let asking = ask_around(&control, &core, alarmed, data_dir);
    let listening = Listening { devtools: console.devtools_addresses().to_vec(), ..Listening::configured(&snapshot) };
    wait_until_up(&listening)?;
    Ok(Running {
        listening,
        core,
        listeners: Arc::new(Mutex::new(listeners)),
        sockets: watch::Sender::new(Sockets::Ours),
        asking,
        follower,
        control,
        redis,
        trail,
        books,
        heirloom,
        taken: Mutex::new(taken),
        console: Some(console),
        stop,
        grace: snapshot.server.grace,
    })
}

/// Shows in the metrics what is held in memory.
fn show_in_metrics(core: &Arc<Core>) {
    let metrics = &core.telemetry.metrics;
    let observed = core.clone();
    metrics.set_pool_source(move || pool_state(&observed));
    let (answers, vectors) = (core.answers.clone(), core.vectors.clone());
    metrics.set_cache_source(move || answers.held());
    metrics.set_question_source(move || vectors.held());
}

/// What one process of a data directory does, and leaves to its successor.
fn ask_around(
    control: &Runtime,
    core: &Arc<Core>,
    alarmed: alerts::Heard,
    data_dir: Option<PathBuf>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let asker = Arc::new(ask::Asker::default());
    vec![
        control.spawn(discovery::keep_up(core.clone(), asker.clone())),
        control.spawn(probes::keep_up(core.clone(), asker)),
        control.spawn(alerts::keep_up(core.clone(), alarmed, data_dir)),
    ]
}

/// What runs beside the data plane, on one thread.
fn control_runtime() -> Result<Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("orbyt-control")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the control runtime: {error}"))
}

impl Running {
    /// Takes orders of `orbyt upgrade` from now on. One that `takes_over` does so in the place of the process before, which has handed over.
    /// `config` is the configuration file as the command line names it.
    pub fn offer_upgrades(&self, data_dir: PathBuf, config: Option<PathBuf>, takes_over: bool) {
        if takes_over {
            let _runtime = self.control.enter();
            self.follower.open_door(true);
        }
        if let Some(taken) = self.taken.lock().take() {
            taken.serves();
        }
        let (core, listeners) = (self.core.clone(), self.listeners.clone());
        let upgrades = Upgrades { core, listeners, data_dir, config, sockets: self.sockets.clone() };
        if let Err(error) = upgrades.begin(takes_over) {
            log::warn!("`orbyt upgrade` will not reach this process: upgrade.sock: {error}");
        }
    }

    /// Tells systemd, where it is there, that the gateway serves, and from now on that it is alive. A process that takes over does so once it is
    /// the service's main one: only that one is heard.
    pub fn tell_service_manager(&self) {
        self.control.spawn(service_manager::keep_alive(self.listening.clone(), self.core.phase.subscribe()));
        service_manager::ready();
    }

    /// Waits for SIGTERM or SIGINT, then ends in order: no new connections, requests in flight finish, at the end of the grace period
    /// streams end with an error, everything is recorded. A second signal ends at once. Ends as well once a successor has taken over and
    /// everything that was begun has finished.
    pub fn until_signal(mut self) {
        let is_replaced = self.control.block_on(async {
            let mut sockets = self.sockets.subscribe();
            tokio::select! {
                () = signal() => false,
                // The sender is this process's own.
                _ = sockets.wait_for(|sockets| *sockets != Sockets::Ours) => true,
            }
        });
        if is_replaced {
            self.finish_what_is_begun();
        }
        log::info!("shutting down: {} requests in flight", self.core.telemetry.metrics.in_flight());
        if !is_replaced {
            // The service goes on: its main process is the successor.
            service_manager::stopping(self.grace);
        }
        let _ = self.core.phase.send(Phase::Draining);
        // With copies left, connections would be taken that nobody serves.
        self.listeners.lock().close();
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
        if let Some(heirloom) = &self.heirloom {
            // What is not told by then is in the ledger.
            let _ = self.control.block_on(async { tokio::time::timeout(LAST_WORDS, heirloom.settled()).await });
        }
        if let Some(trail) = &self.trail {
            let _ = self.control.block_on(async { tokio::time::timeout(LAST_WORDS, trail.settle()).await });
        }
        if let Some(books) = &self.books {
            // What is not written by then stays in the spool.
            let _ = self.control.block_on(async { tokio::time::timeout(LAST_WORDS, books.leave()).await });
        }
        if self.core.telemetry.traces.is_on() {
            let traces = &self.core.telemetry.traces;
            let _ = self.control.block_on(async { tokio::time::timeout(LAST_WORDS, traces.settle()).await });
        }
        if let Some(redis) = &self.redis {
            redis.leave();
        }
        self.core.telemetry.log.flush();
    }

    /// Another process accepts now. Stays for what this one has begun, until the time for it is over or a signal comes. Where there is a service
    /// manager, it is also over when the other process fails: systemd, whose child that is not yet, starts the service anew when nobody is left.
    fn finish_what_is_begun(&mut self) {
        let _ = self.stop.send(true);
        for task in self.asking.drain(..) {
            task.abort();
        }
        // Whoever watches there comes again, and meets the successor.
        if let Some(console) = self.console.take() {
            console.stop();
        }
        let metrics = &self.core.telemetry.metrics;
        let grace = self.core.snapshot.load().server.upgrade_grace;
        log::info!("replaced: {} requests in flight have {} s to finish", metrics.in_flight(), grace.as_secs());
        let begun = Instant::now();
        let is_done = || metrics.in_flight() == 0 && self.core.open_connections.load(Ordering::Relaxed) == 0;
        self.control.block_on(async {
            let finished = async {
                // A connection that was accepted in the last moment may not be counted yet.
                while begun.elapsed() < grace && (begun.elapsed() < LINGER || !is_done()) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let mut sockets = self.sockets.subscribe();
            let is_lost = |sockets: &Sockets| *sockets == Sockets::Nobodys && service_manager::is_there();
            tokio::select! { () = finished => {}, () = signal() => {}, _ = sockets.wait_for(is_lost) => {} }
        });
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

/// Where there are budgets: what an earlier life of this process has taken down is spent too.
fn know_what_was_spent(core: &Core, control: &Runtime, follower: &Arc<Follower>, books: Option<&ledger::Books>) {
    if core.snapshot.load().budgets.is_empty() {
        return;
    }
    let written = async {
        let settled = async {
            if let Some(books) = books {
                books.settle().await;
            }
        };
        tokio::time::timeout(LAST_WORDS, settled).await
    };
    let _ = control.block_on(written);
    control.block_on(follower.know_what_was_spent());
}

/// Has changes of states told to the audit log, where there is one, and to the alerts.
fn tell_changes(telemetry: &Telemetry, trail: Option<Trail>) -> alerts::Heard {
    let alarmed = alerts::Heard::default();
    let heard = alarmed.clone();
    telemetry.set_audience(move |change| {
        heard.hear(change);
        if let Some(trail) = &trail {
            trail.hear(change);
        }
    });
    alarmed
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

/// Begins to tell the OpenTelemetry collector, where there is one.
fn trace(core: &Arc<Core>, snapshot: &Snapshot) -> Result<(), String> {
    let Some(Otlp { url, headers, timeout, service }) = snapshot.telemetry.otlp.clone() else { return Ok(()) };
    let telemetry = &core.telemetry;
    let configured = core.clone();
    let name_of = move |id: &str| Some(configured.snapshot.load().provider(id)?.row.otel_name.clone());
    let collector = Collector { url, headers, timeout, service };
    telemetry.traces.begin(collector, telemetry.metrics.clone(), telemetry.redactor.clone(), name_of)
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

/// Opens every socket before anything starts, with those of the process before; fixes ports that were left to the system.
fn open_listeners(snapshot: &mut Snapshot, inherited: Option<Vec<Listener>>) -> Result<Listeners, String> {
    let mut listeners = Listeners::inherited(inherited.unwrap_or_default());
    let tls = snapshot.server.tls.iter_mut().flat_map(|tls| tls.listen.iter_mut());
    for address in snapshot.server.listen.iter_mut().chain(tls) {
        *address = listeners.open(*address, |at| TcpListener::bind(at).map_err(|error| unusable(at, &error)))?;
    }
    for address in &mut snapshot.console.listen {
        *address = listeners.open(*address, |at| console::bind(at).map_err(|error| error.to_string()))?;
    }
    // DevTools has pages on the console too: without an address of its own it goes on there.
    snapshot.console.devtools_listen.retain_mut(|address| {
        let opened = listeners.open(*address, |at| console::bind(at).map_err(|error| error.source.to_string()));
        opened
            .map(|actual| *address = actual)
            .inspect_err(|error| log::warn!("DevTools has no address of its own ({address}): {error}"))
            .is_ok()
    });
    listeners.close_rest();
    Ok(listeners)
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
    listeners: &Listeners,
    stopped: watch::Receiver<bool>,
) -> Result<(), String> {
    let conf = ServerConf {
        threads: snapshot.server.workers,
        grace_period_seconds: Some(NOT_BY_PINGORA.as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    let mut service = Service::new("orbyt".to_owned(), Door::new(Gateway::new(core.clone())));
    let mut addresses = snapshot.server.listen.clone();
    let buffers = L4BufferSettings::default().write(WRITE_BUFFER);
    let listener = |address: &SocketAddr| ListenerConfig::tcp(address.to_string()).l4_buffer(buffers);
    snapshot.server.listen.iter().for_each(|address| service.add_listener(listener(address)));
    if let (Some(tls), Some(certificates)) = (&snapshot.server.tls, certificates) {
        for address in &tls.listen {
            service.add_listener(listener(address).tls(certificates.settings()?));
        }
        addresses.extend(&tls.listen);
    }
    let sockets = listeners.for_pingora(&addresses).map_err(|error| format!("the gateway's sockets: {error}"))?;
    server.add_service(OnSockets { service, sockets });
    server.bootstrap();
    let run = move || server.run(RunArgs { shutdown_signal: Box::new(Stopped(stopped)) });
    std::thread::Builder::new()
        .name("pingora".to_owned())
        .spawn(run)
        .map(|_| ())
        .map_err(|error| format!("cannot start the server: {error}"))
}

/// A service of Pingora's on sockets that are there already.
struct OnSockets<S> {
    service: S,
    sockets: ListenFds,
}

#[async_trait]
impl<S: services::Service> services::Service for OnSockets<S> {
    async fn start_service(&mut self, _: Option<ListenFds>, shutdown: ShutdownWatch, listeners_per_fd: usize) {
        let sockets = self.sockets.clone();
        services::Service::start_service(&mut self.service, Some(sockets), shutdown, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        services::Service::name(&self.service)
    }

    fn threads(&self) -> Option<usize> {
        services::Service::threads(&self.service)
    }
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
