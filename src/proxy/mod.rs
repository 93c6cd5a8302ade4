//! The data plane: the only module that knows Pingora.
//!
//! One [`proxy::Gateway`] implements Pingora's `ProxyHttp` in two roles. The client's session walks the stages; each attempt at a
//! provider is a *subrequest* that runs the same hooks in the second role, because Pingora's own retry loop cannot take back a
//! response head and replays only 64 KiB of a request body. Pingora marks the subrequest API as alpha: the crate is pinned, and
//! every use of it is in [`attempt`] and [`relay`].
//!
//! The stages, in the order of a request, one file each:
//!
//! ```text
//!   accept -> limit -> authenticate -> (body) -> plan -> lease -> attempt -> relay -> triage -> respond -> record
//!                                                        ▲                             │
//!                                                        └─────────────────────────────┘
//! ```

mod accept;
mod attempt;
mod authenticate;
mod body;
mod books;
pub mod core;
mod dns;
mod door;
pub mod error;
mod lease;
mod limit;
mod media;
mod models;
mod names;
mod plan;
#[expect(clippy::module_inception, reason = "it is the proxy of the proxy: Pingora's hooks")]
pub mod proxy;
mod record;
mod relay;
mod respond;
mod triage;
mod walk;

pub use core::Core;
pub use door::Door;
pub use proxy::Gateway;
