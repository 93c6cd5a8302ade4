//! Accepts connections and serves HTTP/1.1 on them, within bounds of number and time.

use super::patience::{Patient, Place, Places};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// How many connections are served at a time; more wait in the kernel.
const MOST_CONNECTIONS: usize = 256;
/// How many of them one address may have, so that others always get through.
const MOST_OF_ONE: usize = 128;
/// How long a connection may take to send a request's head, and so also how long it may be idle.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// How long a client may take nothing of an answer.
const TAKES_WITHIN: Duration = Duration::from_secs(30);
/// How long what was sent may stay without acknowledgement, in milliseconds.
#[cfg(target_os = "linux")]
const SILENT: u32 = 60_000;
/// How long requests may still take when the console stops.
const GRACE: Duration = Duration::from_secs(2);

/// The address at the other end of the connection of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub SocketAddr);

/// The address at this end of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local(pub IpAddr);

/// What a listener shows first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    /// The overview.
    Console,
    /// DevTools.
    DevTools,
}

/// Learns that the console stops.
#[derive(Clone, Debug)]
pub(super) struct Stopping(pub watch::Receiver<bool>);

impl Stopping {
    /// Returns once the console stops; that its handle is gone means the same.
    pub async fn told(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// Serves the router on all these listeners until told to stop.
pub(super) async fn all(listeners: Vec<(std::net::TcpListener, Front)>, router: Router, mut stopping: Stopping) {
    let (permits, places) = (Arc::new(Semaphore::new(MOST_CONNECTIONS)), Places::default());
    let mut accepting = JoinSet::new();
    for (listener, front) in listeners {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                let router = router.clone().layer(Extension(front));
                accepting.spawn(accept(listener, router, (Arc::clone(&permits), places.clone()), stopping.clone()));
            }
            Err(error) => log::error!("a listener of the console cannot be used: {error}"),
        }
    }
    stopping.told().await;
    let _ = tokio::time::timeout(GRACE, all_of(&mut accepting)).await;
}

async fn accept(
    listener: TcpListener,
    router: Router,
    (permits, places): (Arc<Semaphore>, Places),
    mut stopping: Stopping,
) {
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        tokio::select! {
            () = stopping.told() => break,
            Some(_) = connections.join_next() => {}
            accepted = next => match accepted {
                (Ok(permit), Ok((stream, peer))) => match places.take(peer.ip().to_canonical(), MOST_OF_ONE) {
                    Some(place) => {
                        let held = (permit, place);
                        connections.spawn(connection(stream, peer, router.clone(), stopping.clone(), held));
                    }
                    None => log::debug!("{peer} has too many connections to the console"),
                },
                (_, Err(error)) => {
                    log::warn!("the console cannot accept a connection: {error}");
                    // Out of descriptors, most likely: trying again at once would only spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                (Err(_), Ok(_)) => break,
            }
        }
    }
    drop(listener);
    all_of(&mut connections).await;
}

/// Waits for the end of all tasks, also of those that panic.
async fn all_of(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    mut stopping: Stopping,
    _held: (OwnedSemaphorePermit, Place),
) {
    // Without it events wait for the acknowledgement of the one before; failing that they are merely late.
    let _ = stream.set_nodelay(true);
    // A machine that has gone to sleep says nothing: without this, whoever watched from there would keep the place for a quarter of an hour. Where
    // the system cannot do it, that is how long it takes.
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, SILENT);
    let Ok(local) = stream.local_addr() else { return };
    let router = router.layer(Extension(Peer(peer))).layer(Extension(Local(local.ip())));
    let service = TowerToHyperService::new(router);
    let stream = Patient::new(stream, TAKES_WITHIN);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // How a connection ends is of no consequence here: its requests have been answered or have lost their client.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.told() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        log::debug!("a connection to the console from {peer} has broken: {error}");
    }
}
