//! What systemd is told (`sd_notify(3)`): that the gateway is up, that it reloads, that it ends, and that it is alive.
//!
//! ```text
//!                   ┌── RELOADING=1 ──┐
//!  start ── READY=1 ┤                 ├ READY=1 ── STOPPING=1 ── end
//!                   └─────────────────┘
//! ```
//!
//! Without `NOTIFY_SOCKET` in the environment nothing is sent. What cannot be sent is told in the log: the gateway runs as well without it.

use sd_notify::NotifyState;
use std::net::SocketAddr;
use std::time::Duration;

/// What settling the books may take beyond the grace, and some more.
const SLACK: Duration = Duration::from_secs(15);

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

/// How long a watchdog of the unit waits, in microseconds (`sd_watchdog_enabled(3)`).
const WATCHDOG: &str = "WATCHDOG_USEC";

/// With `WatchdogSec=` in the unit: tells systemd twice in that time that the gateway answers on its own listener, and tells nothing when
/// it does not, upon which systemd starts it anew. While it ends, its listeners are closed, and it counts as alive.
pub(super) async fn keep_alive(address: SocketAddr, is_serving: impl Fn() -> bool) {
    // WATCHDOG_PID is not compared: a process that takes the service over has inherited that of the one before it.
    let limit = std::env::var(WATCHDOG).ok().and_then(|limit| limit.parse().ok()).map(Duration::from_micros);
    let Some(half) = limit.map(|limit| limit / 2).filter(|half| !half.is_zero()) else { return };
    let Ok(client) = reqwest::Client::builder().timeout(half).no_proxy().pool_max_idle_per_host(0).build() else {
        return log::error!("the watchdog has no client: systemd will start the gateway anew");
    };
    let url = format!("http://{address}/livez");
    let mut turn = tokio::time::interval(half);
    loop {
        turn.tick().await;
        if !is_serving() {
            tell(&[NotifyState::Watchdog]);
            continue;
        }
        match client.get(&url).send().await {
            Ok(answer) if answer.status().is_success() => tell(&[NotifyState::Watchdog]),
            Ok(answer) => log::error!("the gateway answers {} to its own watchdog", answer.status()),
            Err(error) => log::error!("the gateway does not answer its own watchdog: {error}"),
        }
    }
}

fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("the service manager cannot be told: {error}");
    }
}
