//! The real binary between simulated providers and plain clients: tests named as behaviours.
//!
//! [`gateway::Gateway`] starts `orbyt serve` with a configuration of its own; `orbyt::sim` plays the providers;
//! `orbyt::sim::client` looks at every answer down to how its connection ended, [`raw`] sends bytes that no client would.

mod api_keys;
mod auth;
mod bodies;
mod cable;
mod cache;
mod clocks;
mod demo;
mod explain;
mod faults;
mod gateway;
mod hedging;
mod keys;
mod limits;
mod nodelay;
mod outage;
mod pool;
mod postgres;
mod presets;
mod raw;
mod reload;
mod routes;
mod routing;
mod secrets;
mod semantic;
mod shutdown;
mod store;
mod tls;
mod vault;
