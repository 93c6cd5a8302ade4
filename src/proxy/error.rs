//! What a client is told when it gets no answer: one table of statuses, types and codes.

use crate::dialect::client::{Client, ErrorAnswer};
use crate::domain::{AttemptRecord, Clock, Fault, FaultKind};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::ops::Deref;
use std::time::Duration;

/// The reasons of our own for an error answer. What a provider says about the request itself (400, 413, 422 …) keeps the provider's
/// status, type and code instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The request cannot be understood.
    InvalidRequest,
    /// The gateway key is missing or wrong.
    InvalidApiKey,
    /// The provider does not accept the client's own key.
    ByokRefused,
    /// A budget or a credit does not suffice.
    BudgetExceeded,
    /// The gateway key may not be used for that.
    NotAllowed,
    /// No configured provider has the model.
    ModelNotFound,
    /// There is no response of that id.
    ResponseNotFound,
    /// There is no such route.
    UnknownUrl,
    /// Traces, metrics and logs of others are not taken.
    NoIngest,
    /// The route exists, the method does not.
    MethodNotAllowed,
    /// The request did not arrive in time.
    RequestTimeout,
    /// The body is larger than `server.max_body_bytes`.
    RequestTooLarge,
    /// The gateway or every key that could serve is rate limited.
    RateLimited,
    /// The last provider tried gave an answer that cannot be used.
    BadProviderAnswer,
    /// Every target failed.
    AllTargetsDown,
    /// No provider is configured at all.
    NoProvider,
    /// Whoever keeps the limits or budgets does not answer, and nobody else may decide.
    LimitsUnavailable,
    /// The gateway is shutting down.
    ShuttingDown,
    /// No target answered in time.
    DeadlineExceeded,
    /// A mistake of the gateway or of its configuration.
    Internal,
}

impl Reason {
    /// All of them, for the table in docs/errors.md.
    pub const ALL: [Self; 20] = [
        Self::InvalidRequest,
        Self::InvalidApiKey,
        Self::ByokRefused,
        Self::BudgetExceeded,
        Self::NotAllowed,
        Self::ModelNotFound,
        Self::ResponseNotFound,
        Self::UnknownUrl,
        Self::NoIngest,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::RequestTooLarge,
        Self::RateLimited,
        Self::BadProviderAnswer,
        Self::AllTargetsDown,
        Self::NoProvider,
        Self::LimitsUnavailable,
        Self::ShuttingDown,
        Self::DeadlineExceeded,
        Self::Internal,
    ];

    /// HTTP status, OpenAI's `error.type`, `error.code` and what it means.
    pub const fn row(self) -> (u16, &'static str, &'static str, &'static str) {
        match self {
            Self::InvalidRequest => (
                400,
                "invalid_request_error",
                "invalid_request",
                "The request is not valid JSON, lacks something or has a wrong type; `param` names it",
            ),
            Self::InvalidApiKey => {
                (401, "authentication_error", "invalid_api_key", "The gateway key is missing or wrong")
            }
            Self::ByokRefused => (
                401,
                "authentication_error",
                "byok_refused",
                "The provider does not accept the client's own key, sent in `extra.byok` or saved; the status is the provider's",
            ),
            Self::BudgetExceeded => (
                402,
                "insufficient_quota",
                "budget_exceeded",
                "The request may cost more than a budget, a credit or `extra.max_cost` allows; no provider was asked",
            ),
            Self::NotAllowed => {
                (403, "permission_error", "not_allowed", "The key is not for this model, provider, route or address")
            }
            Self::ModelNotFound => (
                404,
                "invalid_request_error",
                "model_not_found",
                "No configured provider has the model, or every provider says so",
            ),
            Self::ResponseNotFound => (
                404,
                "invalid_request_error",
                "response_not_found",
                "The gateway knows of no response of that id for this key, or its provider has it no longer",
            ),
            Self::UnknownUrl => (404, "invalid_request_error", "unknown_url", "There is no such route"),
            Self::NoIngest => (410, "invalid_request_error", "no_ingest", "Traces are not taken: see the ledger"),
            Self::MethodNotAllowed => {
                (405, "invalid_request_error", "method_not_allowed", "The route takes another method; see `Allow`")
            }
            Self::RequestTimeout => {
                (408, "invalid_request_error", "request_timeout", "The request body did not arrive in time")
            }
            Self::RequestTooLarge => {
                (413, "invalid_request_error", "request_too_large", "The body is larger than `server.max_body_bytes`")
            }
            Self::RateLimited => (
                429,
                "rate_limit_error",
                "rate_limit_exceeded",
                "A limit of the gateway, or every target is rate limited; see `Retry-After`",
            ),
            _ => self.row_of_5xx(),
        }
    }

    /// Those whose status begins with a 5.
    const fn row_of_5xx(self) -> (u16, &'static str, &'static str, &'static str) {
        match self {
            Self::BadProviderAnswer => {
                (502, "provider_error", "bad_provider_answer", "The last provider's answer was broken, cut or empty")
            }
            Self::AllTargetsDown => (
                503,
                "provider_error",
                "all_targets_down",
                "Every target failed; `metadata.attempts` says how; see `Retry-After`",
            ),
            Self::NoProvider => {
                (503, "configuration_error", "no_provider", "No provider is configured; the message says what to set")
            }
            Self::LimitsUnavailable => (
                503,
                "server_error",
                "limits_unavailable",
                "Redis, which keeps limits and budgets, does not answer, and `limits.on_outage` is `deny`; or, during an upgrade, the process that keeps the budgets does not; try again",
            ),
            Self::ShuttingDown => (503, "server_error", "shutting_down", "The gateway is going down; try again"),
            Self::DeadlineExceeded => (
                504,
                "timeout_error",
                "deadline_exceeded",
                "No target answered within `timeouts.total` (or `extra.timeout_ms`)",
            ),
            _ => (500, "server_error", "internal_error", "A mistake of the gateway; the operator's log has the reason"),
        }
    }
}

/// An error answer to the client; boxed, because every stage returns one or nothing.
#[derive(Clone, Debug)]
pub struct ApiError(Box<Told>);

/// What an [`ApiError`] says.
#[derive(Clone, Debug)]
pub struct Told {
    /// HTTP status.
    pub status: u16,
    /// `error.type`.
    pub error_type: Cow<'static, str>,
    /// `error.code`.
    pub code: Option<Cow<'static, str>>,
    /// `error.message`, for people.
    pub message: Cow<'static, str>,
    /// `error.param`.
    pub param: Option<String>,
    /// `Retry-After`, rounded up to seconds.
    pub retry_after: Option<Duration>,
    /// `Allow`, for a 405.
    pub allow: Option<&'static str>,
    /// Neither waiting nor another try helps, whatever the status says (`x-should-retry: false`, which the official SDKs heed).
    pub hopeless: bool,
}

impl Deref for ApiError {
    type Target = Told;

    fn deref(&self) -> &Told {
        &self.0
    }
}

/// The wait that a client is told when nothing changes by itself: until an operator does something, or an active probe.
pub(super) const UNCHANGED: Duration = Duration::from_secs(60);

impl ApiError {
    /// An error of our own.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        let (status, error_type, code, _) = reason.row();
        let retry_after = matches!(status, 429 | 503).then_some(Duration::from_secs(1));
        Self(Box::new(Told {
            status,
            error_type: error_type.into(),
            code: Some(code.into()),
            message: message.into(),
            param: None,
            retry_after,
            allow: None,
            hopeless: false,
        }))
    }

    /// The same error with another wait.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait.max(Duration::from_secs(1)));
        self
    }

    /// The same error, against which no wait helps.
    pub fn hopeless(mut self) -> Self {
        self.0.retry_after = None;
        self.0.hopeless = true;
        self
    }

    /// The same error with the parameter to blame.
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.0.param = Some(param.into());
        self
    }

    /// The same error with another message.
    pub fn message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = message.into();
        self
    }

    /// The same error with the methods that the route takes.
    pub fn allow(mut self, methods: &'static str) -> Self {
        self.0.allow = Some(methods);
        self
    }

    /// What a client is told when this fault was the last one and nothing is left to try.
    pub fn from_last_fault(fault: &Fault) -> Self {
        let ours = |reason, message: String| Self::new(reason, message);
        let said = &fault.message;
        match fault.kind {
            FaultKind::BadRequest | FaultKind::Unsupported | FaultKind::ContextLength | FaultKind::ContentFilter => {
                Self::of_provider(fault)
            }
            FaultKind::ModelNotFound => ours(Reason::ModelNotFound, said.clone().into_owned()),
            FaultKind::RateLimited => {
                let error =
                    ours(Reason::RateLimited, format!("every target is rate limited; the last one said: {said}"));
                fault.retry_after.map_or(error.clone(), |wait| error.retry_after(wait))
            }
            FaultKind::Malformed | FaultKind::Truncated | FaultKind::Empty => {
                ours(Reason::BadProviderAnswer, format!("the provider's answer cannot be used: {said}"))
            }
            FaultKind::Timeout(Clock::Total) => ours(Reason::DeadlineExceeded, said.clone().into_owned()),
            FaultKind::Timeout(_) => {
                ours(Reason::DeadlineExceeded, format!("no target answered in time; the last one: {said}"))
            }
            FaultKind::Configuration | FaultKind::Internal => {
                ours(Reason::Internal, "the gateway failed; its operator has been told".to_owned())
            }
            FaultKind::BadCredentials => ours(
                Reason::AllTargetsDown,
                "every target failed; the last provider does not accept the gateway's key for it".to_owned(),
            )
            .retry_after(UNCHANGED),
            _ => {
                let error = ours(Reason::AllTargetsDown, format!("every target failed; the last one said: {said}"));
                fault.retry_after.map_or(error.clone(), |wait| error.retry_after(wait))
            }
        }
    }

    /// The provider's own word on a request that it will not take.
    fn of_provider(fault: &Fault) -> Self {
        let (_, error_type, code, _) = Reason::InvalidRequest.row();
        let default_code = match fault.kind {
            FaultKind::ContextLength => "context_length_exceeded",
            FaultKind::ContentFilter => "content_filter",
            _ => code,
        };
        Self(Box::new(Told {
            status: fault.status.filter(|status| (400..500).contains(status)).unwrap_or(400),
            error_type: fault.error_type.clone().map_or(error_type.into(), Cow::Owned),
            code: Some(fault.code.clone().map_or(default_code.into(), Cow::Owned)),
            message: fault.message.clone(),
            param: fault.param.clone(),
            retry_after: fault.retry_after,
            allow: None,
            hopeless: false,
        }))
    }

    /// The provider's rejection of a key that the client brought itself.
    pub fn of_byok(fault: &Fault) -> Self {
        let message = format!("the provider does not accept the key in extra.byok: {}", fault.message);
        let mut error = Self::new(Reason::ByokRefused, message).param("extra.byok");
        error.0.status = fault.status.unwrap_or(401);
        error
    }

    /// The provider's rejection of a key that the client's project or organisation has saved.
    pub fn of_saved_key(fault: &Fault, key: &str) -> Self {
        let message =
            format!("the provider does not accept the key {key:?} that your organisation has saved: {}", fault.message);
        let mut error = Self::new(Reason::ByokRefused, message);
        error.0.status = fault.status.unwrap_or(401);
        error
    }

    /// The body in the client's form; `attempts` go into `metadata`.
    pub fn body(&self, client: Client, request_id: &str, attempts: &[AttemptRecord]) -> Vec<u8> {
        let metadata =
            (!attempts.is_empty()).then(|| json!({"attempts": attempts.iter().map(attempt).collect::<Vec<_>>()}));
        client.error(&ErrorAnswer {
            status: self.status,
            error_type: &self.error_type,
            code: self.code.as_deref(),
            param: self.param.as_deref(),
            message: &self.message,
            metadata: metadata.as_ref(),
            request_id,
        })
    }
}

impl From<Fault> for ApiError {
    /// A fault of the request itself, found before any provider was asked.
    fn from(fault: Fault) -> Self {
        Self::of_provider(&fault)
    }
}

fn attempt(record: &AttemptRecord) -> Value {
    json!({
        "provider": &*record.provider,
        "model": &*record.model,
        "status": record.status,
        "reason": record.reason,
        "message": record.message,
    })
}
