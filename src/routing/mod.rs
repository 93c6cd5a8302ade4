//! Where a request goes, and where it goes next when that fails. All of it is pure: time and randomness are arguments.
//!
//! [`plan`] orders the targets by strategy, [`triage`] turns a fault into a verdict, [`backoff`] says how long to wait and
//! [`retry_budget`] whether a retry is affordable at all; [`breaker`] and [`health`] remember how each target has fared; [`seed`] is chance
//! that can be repeated.

pub mod backoff;
pub mod breaker;
pub mod health;
pub mod plan;
pub mod retry_budget;
pub mod seed;
pub mod triage;
