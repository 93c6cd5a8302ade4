//! Who is told what an operator has to know of.

use crate::domain::Secret;
use std::time::Duration;

/// `[alerts]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alerts {
    /// How long a state has to be over until its alert is.
    pub hold: Duration,
    /// How long one that is not taken is sent again.
    pub keep: Duration,
    /// Who is told, if anybody is.
    pub webhook: Option<Webhook>,
}

/// `[alerts.webhook]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where alerts are posted to; it may hold a token.
    pub url: Secret,
    /// What they are signed with.
    pub secret: Option<Secret>,
}
