//! Where traces go.

use crate::domain::Secret;
use std::time::Duration;

/// `[telemetry.otlp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// The collector's URL, path included.
    pub url: String,
    /// Headers of every request to it, in lower case.
    pub headers: Vec<(String, Secret)>,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// What the gateway calls itself.
    pub service: String,
}
