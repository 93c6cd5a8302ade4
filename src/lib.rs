//! Orbyt, a self-hosted LLM gateway on Cloudflare's Pingora: one OpenAI-compatible endpoint in front of every provider.
//!
//! A guided tour, in the order of a request:
//!
//! 1. [`config`] has compiled file and environment into a [`config::Snapshot`]; a request keeps the one it began with.
//! 2. [`proxy`] is the data plane. Its stages, one file each, accept the request, limit and authenticate it, plan its targets, lease a
//!    key, make attempts, relay the answer through the commit gate, and record what happened.
//! 3. [`routing`] is what the stages ask for decisions: plan, triage, backoff, breaker. Pure: time and chance are arguments.
//! 4. [`provider`] knows the providers and models, and what their errors mean. Pure, and mostly data.
//! 5. [`dialect`] speaks the wire formats: requests out, answers back, byte by byte. Pure.
//! 6. [`store`] keeps live state (keys, breakers, limits) in memory, and what outlives the process in SQLite or Postgres, behind ports.
//!    [`vault`] seals secrets at rest.
//! 7. [`telemetry`] is what can be seen of it: log, metrics, live events, all redacted.
//! 8. [`console`] is the control plane on its own listener and runtime.
//!
//! [`domain`] holds the words that all of them use, [`sim`] plays providers for `orbyt demo` and the tests, [`wiring`] puts the parts
//! together and [`cli`] is the command line. Who may use whom is a table in `tests/architecture.rs`.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod console;
pub mod dialect;
pub mod domain;
pub mod provider;
pub mod proxy;
pub mod routing;
pub mod sim;
pub mod store;
pub mod telemetry;
pub mod vault;
pub mod wiring;
