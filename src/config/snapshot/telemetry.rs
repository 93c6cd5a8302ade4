//! `[telemetry]`: the log, the ledger, payloads and traces.

use crate::domain::Secret;
use crate::domain::payloads;
use std::time::Duration;

/// `[telemetry]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// The least severe level that is logged.
    pub log_level: log::LevelFilter,
    /// The form of a log line.
    pub log_format: LogFormat,
    /// Whether finished requests are kept.
    pub ledger: bool,
    /// For how long; `None` for ever.
    pub ledger_retention: Option<Duration>,
    /// Bytes on disk that may wait for the database.
    pub spool_max_bytes: u64,
    /// What is kept of what requests carry.
    pub payloads: payloads::Settings,
    /// The collector of traces; `None` where there is none.
    pub otlp: Option<Otlp>,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Human,
}

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
