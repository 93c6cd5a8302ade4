//! The data plane: the only module that knows Pingora.
//!
//! On the client's side Pingora listens and speaks HTTP; a [`door::Door`] takes its connections and [`gateway::Gateway`] walks each request
//! through the stages. The provider's side is an [`exchange`] over Pingora's connection pool, one an attempt. Pingora's own proxy between
//! the two is not used: it commits a response head as soon as it is there and replays only 64 KiB of a request body.
//!
//! The stages, in the order of a request, one file each:
//!
//! ```text
//!   accept -> limit -> authenticate -> (body) -> plan -> cache -> lease -> attempt -> relay -> triage -> respond -> record
//!                                                                 ▲                             │
//!                                                                 └─────────────────────────────┘
//! ```

mod accept;
mod attempt;
mod authenticate;
mod bill;
mod body;
mod books;
mod budget;
mod byok;
mod cache;
pub mod core;
mod count;
mod debt;
mod dns;
mod door;
mod embed;
pub mod error;
mod exchange;
mod fit;
mod flights;
mod form;
pub mod gateway;
mod head;
mod hedge;
mod lane;
mod lease;
mod ledger;
mod limit;
mod listing;
#[doc(hidden)]
pub mod measure;
mod media;
mod message;
mod models;
mod names;
pub mod oauth;
mod owned;
mod plan;
mod preset;
mod queue;
mod quota;
mod record;
mod recorder;
mod relay;
mod respond;
mod responses;
mod scope;
mod semantic;
mod sigv4;
mod taping;
mod triage;
mod walk;
mod work;

pub use core::Core;
pub use door::Door;
pub use gateway::Gateway;
