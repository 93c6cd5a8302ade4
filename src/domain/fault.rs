//! What went wrong in an attempt, who is to blame, and what a client may be told about it.

use std::borrow::Cow;
use std::time::Duration;

/// The clocks of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// From the start of an attempt to an established connection.
    Connect,
    /// From the sent request to the first output.
    FirstOutput,
    /// Between two pieces of an answer.
    Idle,
    /// From the first output to as much of it as `gate.min_throughput` asks for.
    Throughput,
    /// From the client's request to the end of the answer.
    Total,
}

impl Clock {
    /// The name of its setting under `[timeouts]`; of the throughput, under `[gate]`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::FirstOutput => "first_output",
            Self::Idle => "idle",
            Self::Throughput => "min_throughput",
            Self::Total => "total",
        }
    }
}

/// Who has to act for the fault to go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The client sent something that no provider would take.
    Client,
    /// The provider or the way to it.
    Provider,
    /// The gateway's operator: a bad key, a bad configuration.
    Operator,
    /// A bug of ours.
    Gateway,
}

/// The kinds of fault that triage tells apart. `routing::triage` holds the table of what follows from each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// No connection: refused, unreachable, name not found, TLS failed.
    Connect,
    /// The connection broke before the answer was complete.
    Reset,
    /// A clock ran out.
    Timeout(Clock),
    /// 408, 500, 502, 503, 504 and other 5xx.
    ServerError,
    /// 529, or the provider says that it is overloaded.
    Overloaded,
    /// An answer that cannot be understood: HTML, broken JSON, a broken event.
    Malformed,
    /// An answer that stopped before it was complete.
    Truncated,
    /// A success without anything in it.
    Empty,
    /// 429: too many requests or tokens for now.
    RateLimited,
    /// The key's quota or credit is used up.
    QuotaExhausted,
    /// The provider does not accept the key.
    BadCredentials,
    /// The provider does not know the model, or not for this key.
    ModelNotFound,
    /// The prompt is longer than the model takes.
    ContextLength,
    /// The provider refuses the prompt or cut the answer for its content.
    ContentFilter,
    /// The target cannot take this request, though another might: its format has no word for a part of it.
    Unsupported,
    /// Any other 4xx: the request itself is wrong.
    BadRequest,
    /// The gateway's configuration is at fault.
    Configuration,
    /// A bug of ours.
    Internal,
}

impl FaultKind {
    /// A stable lower-case name for logs, metrics and `metadata.attempts[].reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout(Clock::Connect) => "timeout_connect",
            Self::Timeout(Clock::FirstOutput) => "timeout_first_output",
            Self::Timeout(Clock::Idle) => "timeout_idle",
            Self::Timeout(Clock::Throughput) => "timeout_throughput",
            Self::Timeout(Clock::Total) => "timeout_total",
            Self::ServerError => "server_error",
            Self::Overloaded => "overloaded",
            Self::Malformed => "malformed",
            Self::Truncated => "truncated",
            Self::Empty => "empty",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::BadCredentials => "bad_credentials",
            Self::ModelNotFound => "model_not_found",
            Self::ContextLength => "context_length",
            Self::ContentFilter => "content_filter",
            Self::Unsupported => "unsupported",
            Self::BadRequest => "bad_request",
            Self::Configuration => "configuration",
            Self::Internal => "internal",
        }
    }

    /// Who has to act.
    pub fn blame(self) -> Blame {
        match self {
            Self::ContextLength | Self::ContentFilter | Self::Unsupported | Self::BadRequest => Blame::Client,
            Self::BadCredentials | Self::QuotaExhausted | Self::Configuration => Blame::Operator,
            Self::Internal => Blame::Gateway,
            _ => Blame::Provider,
        }
    }

    /// Whether the same request may succeed at the same target later.
    pub fn is_passing(self) -> bool {
        self.counts_against_health() || matches!(self, Self::RateLimited | Self::QuotaExhausted)
    }

    /// Whether it says that the target itself is unwell, which is what opens its breaker. A rate limit or a bad key
    /// concerns a key, a refused prompt concerns the client.
    pub fn counts_against_health(self) -> bool {
        matches!(
            self,
            Self::Connect
                | Self::Reset
                | Self::Timeout(Clock::Connect | Clock::FirstOutput | Clock::Idle | Clock::Throughput)
                | Self::ServerError
                | Self::Overloaded
                | Self::Malformed
                | Self::Truncated
                | Self::Empty
        )
    }
}

/// A failed attempt: the kind, and what the provider said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What triage looks at.
    pub kind: FaultKind,
    /// The provider's HTTP status, when a head arrived.
    pub status: Option<u16>,
    /// A text for the client: the provider's own message, or ours. Redacted before it is shown (`telemetry::redact`).
    pub message: Cow<'static, str>,
    /// The provider's error code (`context_length_exceeded`), when it gave one.
    pub code: Option<String>,
    /// The provider's error type (`invalid_request_error`), when it gave one.
    pub error_type: Option<String>,
    /// The parameter that the provider complained about.
    pub param: Option<String>,
    /// How long the provider asked to wait.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// A fault that has only a kind and a message.
    pub fn new(kind: FaultKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            status: None,
            message: message.into(),
            code: None,
            error_type: None,
            param: None,
            retry_after: None,
        }
    }

    /// A request that this target cannot serve, with the parameter to blame.
    pub fn bad_request(param: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { param: Some(param.into()), ..Self::new(FaultKind::BadRequest, message) }
    }

    /// An answer that cannot be understood.
    pub fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FaultKind::Malformed, message)
    }
}
