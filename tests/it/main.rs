//! The real binary between simulated providers and plain clients: tests named as behaviours.
//!
//! [`gateway::Gateway`] starts `orbyt serve` with a configuration of its own; `orbyt::sim` plays the providers;
//! `orbyt::sim::client` looks at every answer down to how its connection ended, [`raw`] sends bytes that no client would.

mod api_keys;
mod audit;
mod auth;
mod bodies;
mod cable;
mod cache;
mod clocks;
mod clouds;
mod demo;
mod dialects;
mod embeddings;
mod explain;
mod faults;
mod gateway;
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
mod outage;
mod pool;
mod postgres;
mod presets;
mod raw;
mod redis_server;
mod relays;
mod reload;
mod responses;
mod routes;
mod routing;
mod scopes;
mod secrets;
mod semantic;
mod shutdown;
mod store;
mod tls;
mod vault;
