//! The real binary between simulated providers and plain clients: tests named as behaviours.
//!
//! [`gateway::Gateway`] starts `orbyt serve` with a configuration of its own; `orbyt::sim` plays the providers;
//! `orbyt::sim::client` looks at every answer down to how its connection ended, [`raw`] sends bytes that no client would.

mod auth;
mod bodies;
mod cache;
mod clocks;
mod clouds;
mod demo;
mod dialects;
mod explain;
mod faults;
mod gateway;
mod gemini;
mod gemini_faults;
mod hedging;
mod keys;
mod limit_stores;
mod limits;
mod messages;
mod messages_faults;
mod nodelay;
mod nodes;
mod nodes_cache;
mod nodes_keys;
mod nodes_semantic;
mod pool;
mod presets;
mod raw;
mod redis_server;
mod reload;
mod responses;
mod routes;
mod routing;
mod secrets;
mod semantic;
mod shutdown;
mod tls;
