//! What systemd is told (`sd_notify(3)`): that the gateway is up, that it reloads, that it ends, and that it is alive.
//!
//! ```text
//!                   ┌── RELOADING=1 ──┐           ┌ STOPPING=1 ── end
//!  start ── READY=1 ┤                 ├ READY=1 ──┤
//!                   └─────────────────┘           └ MAINPID=… ── finishes what it has begun, tells nothing ── end
//! ```
//!
//! A process that takes over begins to tell when it is the main one: systemd hears no other.
//! Without `NOTIFY_SOCKET` in the environment nothing is sent. What cannot be sent is told in the log: the gateway runs as well without it.

use crate::cli::summary::Listening;
use crate::proxy::core::Phase;
use sd_notify::NotifyState;
use std::time::Duration;
use tokio::sync::watch;

/// What settling the books may take beyond the grace, and some more.
const SLACK: Duration = Duration::from_secs(15);

/// Whether there is one.
pub(super) fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// All listeners are up.
pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// The configuration is read again. Until [`reloaded`] says how it went, `systemctl reload` waits (`Type=notify-reload`).
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        // Without the time systemd would end the gateway.
        Err(error) => log::warn!("the service manager is not told of the reload: {error}"),
    }
}

/// The configuration was read again.
pub(super) fn reloaded(is_in_force: bool) {
    let status = if is_in_force { "serving" } else { "serving; the last reload was refused: see the log" };
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// No new connections from now on. However long the grace is, systemd waits for it.
pub(super) fn stopping(grace: Duration) {
    let patience = u32::try_from(grace.saturating_add(SLACK).as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(patience),
        NotifyState::Status("requests in flight end"),
    ]);
}

/// Another process is the service's main one from now on (`MAINPID=`). Otherwise the end of this one would be taken for the service's.
pub(super) fn main_process_is(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// How long a watchdog of the unit waits, in microseconds (`sd_watchdog_enabled(3)`).
const WATCHDOG: &str = "WATCHDOG_USEC";

/// With `WatchdogSec=` in the unit: tells systemd twice in that time that the gateway answers on its own listener, and tells nothing when
/// it does not, upon which systemd starts it anew. While it ends, its listeners are closed, and it counts as alive; once it is replaced, it
/// is its successor that is asked after.
pub(super) async fn keep_alive(listening: Listening, phase: watch::Receiver<Phase>) {
    // WATCHDOG_PID is not compared: a process that takes the service over has inherited that of the one before it.
    let limit = std::env::var(WATCHDOG).ok().and_then(|limit| limit.parse().ok()).map(Duration::from_micros);
    let Some(half) = limit.map(|limit| limit / 2).filter(|half| !half.is_zero()) else { return };
    let Some(url) = own_url(&listening) else { return };
    // It is itself that it asks, by an address that its certificate need not name.
    let client = reqwest::Client::builder().danger_accept_invalid_certs(true);
    let Ok(client) = client.timeout(half).no_proxy().pool_max_idle_per_host(0).build() else {
        return log::error!("the watchdog has no client: systemd will start the gateway anew");
    };
    let mut turn = tokio::time::interval(half);
    loop {
        turn.tick().await;
        let now = *phase.borrow();
        match now {
            Phase::HandedOver => return,
            Phase::Draining | Phase::Ending => tell(&[NotifyState::Watchdog]),
            Phase::Serving => match client.get(&url).send().await {
                Ok(answer) if answer.status().is_success() => tell(&[NotifyState::Watchdog]),
                Ok(answer) => log::error!("the gateway answers {} to its own watchdog", answer.status()),
                Err(error) => log::error!("the gateway does not answer its own watchdog: {error}"),
            },
        }
    }
}

/// Where it asks itself whether it is alive.
fn own_url(listening: &Listening) -> Option<String> {
    let plain = listening.gateway.first().map(|address| format!("http://{address}/livez"));
    plain.or_else(|| listening.tls.first().map(|address| format!("https://{address}/livez")))
}

fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("the service manager cannot be told: {error}");
    }
}
