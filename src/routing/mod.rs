//! Where a request goes, and where it goes next when that fails. All of it is pure: time and randomness are arguments.
//!
//! [`plan`] orders the targets by strategy, [`triage`] turns a fault into a verdict, [`backoff`] says how long to wait and
//! [`retry_budget`] whether a retry is affordable at all; [`breaker`] and [`health`] remember how each target has fared, [`quota`] what
//! is left of a key's limits, [`doubt`] that it ran into one. [`token_bucket`] meters requests and tokens, [`fair_queue`] says who waits
//! for a provider that is busy, and who is served next. [`seed`] is chance that can be repeated, [`waits`] says when an
//! answer is late.

pub mod backoff;
pub mod breaker;
pub mod doubt;
pub mod fair_queue;
pub mod health;
pub mod plan;
pub mod quota;
pub mod retry_budget;
pub mod seed;
pub mod token_bucket;
pub mod triage;
pub mod waits;
