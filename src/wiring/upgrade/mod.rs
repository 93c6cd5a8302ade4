//! Replacing the process without a pause: a successor takes the listening sockets, the process before finishes what it has begun.
//!
//! ```text
//! orbyt upgrade        the process that serves              its successor
//!      │ ── Order ──────────> │                                   │
//!      │                      │ ── starts ──────────────────────> │
//!      │                      │ ── Offer, with the sockets ─────> │  reads its configuration, opens its state, starts everything;
//!      │                      │ <── Outcome::Serving ──────────── │  both accept connections
//!      │                      │ stops accepting                   │
//!      │                      │ ── Yours ───────────────────────> │  answers at orbyt.sock and upgrade.sock from now on
//!      │ <── Told … ───────── │                                   │
//!      │             finishes its requests, ends
//! ```
//!
//! The successor is started by the process before, so that it has its user, environment, sandbox and control group. Whatever goes wrong
//! before `Serving` ends the successor alone: nothing has changed for the process before.
//!
//! Pingora's own way of handing over (`--upgrade` and SIGQUIT) has the successor listen at a path that everybody may write to, and the process
//! before leave after five seconds, whatever has become of the successor. So only Pingora's table of sockets is used.

mod message;
mod offer;
mod refusal;
mod successor;

pub use message::{Order, Told, ask};
pub use offer::{Sockets, Upgrades};
pub use successor::Predecessor;

use std::path::{Path, PathBuf};

/// Where orders are taken, in the data directory.
fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("upgrade.sock")
}
