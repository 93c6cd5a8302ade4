//! The side of the process that serves: takes orders at `upgrade.sock`, starts a successor, hands over, and tells how it goes.

use super::super::listeners::Listeners;
use super::super::service_manager;
use super::message::{LONGEST, MOST_SOCKETS, Offer, Order, Outcome, PROTOCOL, Told, Yours, send_offer};
use super::{refusal, socket_path};
use crate::proxy::Core;
use crate::proxy::core::Phase;
use crate::store::file::{hear, is_trusted, listen_instead, say};
use parking_lot::Mutex;
use std::io::{self, BufReader, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long whoever connects may take to say what it wants.
const ORDER_WITHIN: Duration = Duration::from_secs(5);
/// How long a successor may take until it serves.
const SERVING_WITHIN: Duration = Duration::from_secs(60);
/// How often one who waits is told how many requests are still in flight.
const NEWS: Duration = Duration::from_secs(2);

/// What an upgrade needs of the process that serves.
pub struct Upgrades {
    /// What requests share.
    pub core: Arc<Core>,
    /// The sockets.
    pub listeners: Arc<Mutex<Listeners>>,
    /// The data directory.
    pub data_dir: PathBuf,
    /// The configuration file that was named on the command line.
    pub config: Option<PathBuf>,
    /// Learns whose the sockets are.
    pub sockets: watch::Sender<Sockets>,
}

/// Whose the listening sockets are.
///
/// ```text
///  Ours ── upgrade ── Successors ── it ends by a failure ── Nobodys
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// This process accepts connections.
    Ours,
    /// Another process does.
    Successors,
    /// The process that took over is gone, and nobody listens.
    Nobodys,
}

impl Upgrades {
    /// Takes orders from now on, on a thread of its own, in the place of a process before.
    ///
    /// # Errors
    /// The system's, when nobody can be listened to.
    pub fn begin(self, takes_over: bool) -> io::Result<()> {
        let path = socket_path(&self.data_dir);
        if !takes_over && UnixStream::connect(&path).is_ok() {
            return Err(io::Error::new(
                ErrorKind::AddrInUse,
                format!("another gateway uses {}", self.data_dir.display()),
            ));
        }
        let listener = listen_instead(&path)?;
        std::thread::Builder::new()
            .name("orbyt-upgrade".to_owned())
            .spawn(move || self.take_orders(listener))
            .map(|_| ())
    }

    /// One after the other, until one is carried out.
    fn take_orders(&self, listener: UnixListener) {
        let replaced = loop {
            let Ok((stream, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            if !is_trusted(&stream) {
                log::warn!("another user has asked for an upgrade, and is not heard");
                continue;
            }
            match self.carry_out(stream) {
                Ok(Some(replaced)) => break replaced,
                Ok(None) => {}
                Err(error) => log::warn!("an upgrade was asked for and nobody waited for it: {error}"),
            }
        };
        // Whoever has come meanwhile is not kept until this process ends.
        drop(listener);
        self.see_out(replaced);
    }

    /// Gives the successor once it has taken over; `None` when all is as it was.
    fn carry_out(&self, mut stream: UnixStream) -> io::Result<Option<Replaced>> {
        stream.set_read_timeout(Some(ORDER_WITHIN))?;
        let Some(order) = hear::<Order>(&mut BufReader::new(&stream), LONGEST)? else { return Ok(None) };
        let own = std::process::id();
        let started = self.start(&order.binary, |step| {
            log::info!("upgrade: {step}");
            // Whoever asked may have gone: it is done all the same.
            let _ = say(&mut stream, &Told::Step(step));
        });
        let mut successor = match started {
            Ok(successor) => successor,
            Err(why) => {
                log::error!("upgrade: {why}; process {own} goes on as before");
                say(&mut stream, &Told::Failed(why))?;
                return Ok(None);
            }
        };
        let serves = successor.process.id();
        self.leave(&mut successor);
        log::info!("upgrade: process {own} accepts no more connections, process {serves} does");
        let is_heard = say(&mut stream, &Told::Done { leaves: own, serves }).is_ok();
        Ok(Some(Replaced { successor, waits: (is_heard && order.wait).then_some(stream) }))
    }

    /// Tells whoever waits for the end of this process how far that is, and what becomes of the successor: it is this process's child, and
    /// nobody else would ask after it.
    fn see_out(&self, replaced: Replaced) {
        let Replaced { mut successor, mut waits } = replaced;
        let ended = loop {
            let Some(stream) = &mut waits else { break successor.process.wait() };
            if let Some(status) = successor.process.try_wait().transpose() {
                break status;
            }
            if self.tell_news(stream).is_err() {
                waits = None;
            } else {
                std::thread::sleep(NEWS);
            }
        };
        if let Ok(status) = ended
            && !status.success()
        {
            log::error!("process {}, which has taken over, has ended: {status}", successor.process.id());
            self.sockets.send_replace(Sockets::Nobodys);
        }
    }

    /// Starts a successor and waits until it serves beside this process.
    fn start(&self, binary: &Path, mut step: impl FnMut(String)) -> Result<Successor, String> {
        if let Some(why) = refusal::why() {
            return Err(format!("process {} cannot be replaced: {why}", std::process::id()));
        }
        if *self.core.phase.borrow() != Phase::Serving {
            return Err(format!("process {} is shutting down", std::process::id()));
        }
        let (stream, its) = UnixStream::pair().map_err(|error| format!("no connection to a successor: {error}"))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--successor");
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command.stdin(Stdio::from(OwnedFd::from(its)));
        let process = command.spawn().map_err(|error| format!("cannot start {}: {error}", binary.display()))?;
        // It has the other end of the connection in its own; this one has to go, for its end to be seen.
        drop(command);
        let mut successor = Successor { process, stream };
        let own = env!("CARGO_PKG_VERSION");
        step(format!(
            "process {} (orbyt {own}) has started {} as process {}",
            std::process::id(),
            binary.display(),
            successor.process.id()
        ));
        let serving = self.offer(&mut successor);
        match serving {
            Ok((version, listens)) => {
                let (pid, at) = (successor.process.id(), listens.join(", "));
                step(format!(
                    "process {pid} (orbyt {version}) has read its configuration, has the sockets and serves: {at}"
                ));
                Ok(successor)
            }
            Err(why) => {
                // It may have ended already.
                let _ = successor.process.kill();
                let _ = successor.process.wait();
                Err(why)
            }
        }
    }

    /// Offers the sockets; gives the successor's version and where it listens.
    fn offer(&self, successor: &mut Successor) -> Result<(String, Vec<String>), String> {
        let pid = successor.process.id();
        let lost = |error: io::Error| format!("process {pid} cannot be spoken to: {error}");
        {
            let listeners = self.listeners.lock();
            let all = listeners.all();
            if all.len() > MOST_SOCKETS {
                return Err(format!("{} sockets are more than can be handed over", all.len()));
            }
            let offer = Offer {
                protocol: PROTOCOL,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                listeners: all.iter().map(|one| (one.configured, one.actual)).collect(),
            };
            successor.stream.set_write_timeout(Some(ORDER_WITHIN)).map_err(lost)?;
            // One that ended at once has said why in its own log.
            send_offer(&mut successor.stream, &offer, all)
                .map_err(|error| successor.ended().unwrap_or_else(|| lost(error)))?;
        }
        successor.stream.set_read_timeout(Some(SERVING_WITHIN)).map_err(lost)?;
        match hear::<Outcome>(&mut BufReader::new(&successor.stream), LONGEST) {
            Ok(Some(Outcome::Serving { version, listens })) => Ok((version, listens)),
            Ok(Some(Outcome::Failed(why))) => Err(format!("process {pid} cannot serve: {why}")),
            Ok(None) => {
                Err(successor.ended().unwrap_or_else(|| format!("process {pid} did not say whether it serves")))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(format!("process {pid} did not serve within {} s", SERVING_WITHIN.as_secs()))
            }
            Err(error) => Err(successor.ended().unwrap_or_else(|| lost(error))),
        }
    }

    /// Leaves the sockets to the successor.
    fn leave(&self, successor: &mut Successor) {
        let _ = self.core.phase.send(Phase::HandedOver);
        self.listeners.lock().close();
        self.sockets.send_replace(Sockets::Successors);
        service_manager::main_process_is(successor.process.id());
        // If it does not hear this, it sees that the connection has ended, and goes on as well.
        let _ = say(&mut successor.stream, &Yours { yours: true });
    }

    /// Tells how many requests are still in flight.
    fn tell_news(&self, stream: &mut UnixStream) -> io::Result<()> {
        let (requests, connections) =
            (self.core.telemetry.metrics.in_flight(), self.core.open_connections.load(Ordering::Relaxed));
        let own = std::process::id();
        say(
            stream,
            &Told::Step(format!("process {own}: {requests} requests in flight, {connections} connections open")),
        )
    }
}

/// What is left to do for a process that another one has replaced.
struct Replaced {
    successor: Successor,
    /// Who waits for the end of this process.
    waits: Option<UnixStream>,
}

/// The process that takes over.
struct Successor {
    process: Child,
    stream: UnixStream,
}

impl Successor {
    /// How it ended, for one that said nothing before; `None` while it runs.
    fn ended(&mut self) -> Option<String> {
        let begun = Instant::now();
        // Its end of the connection is closed a moment before it has ended.
        while begun.elapsed() < ORDER_WITHIN {
            if let Ok(Some(status)) = self.process.try_wait() {
                let pid = self.process.id();
                return Some(format!(
                    "process {pid} ended before it served: {status}; what it said stands in the gateway's log"
                ));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}
