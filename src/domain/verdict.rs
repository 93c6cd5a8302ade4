//! What the gateway does about a fault.

use std::time::Duration;

/// The outcome of triage, from the smallest step to the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same target again after a pause.
    RetrySame {
        /// How long to wait first.
        after: Duration,
    },
    /// The same target with another key.
    NextKey,
    /// The same model at another provider.
    NextProvider,
    /// Another model.
    NextModel,
    /// The client has to be told.
    Reject,
    /// The client gets a safe 5xx, the operator gets the reason.
    Alert,
}

impl Verdict {
    /// A stable lower-case name for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::RetrySame { .. } => "retry_same",
            Self::NextKey => "next_key",
            Self::NextProvider => "next_provider",
            Self::NextModel => "next_model",
            Self::Reject => "reject",
            Self::Alert => "alert",
        }
    }
}
