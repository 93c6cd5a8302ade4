//! The named ways in which a simulated provider misbehaves.

/// What a simulated provider does with a call. The name of each ([`SimFault::name`]) is also a model: a request for
/// `sim-429` is answered with a 429, whatever else is scripted.
///
/// "Streamed" and "unary" say what differs between an answer that is streamed and one that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SimFault {
    /// No fault.
    Ok,
    /// 429, no word about when to come back.
    RateLimited,
    /// 429 that says to come back after a second, the way this provider says it.
    RateLimitedRetryAfter,
    /// The key's credit is used up, with the status that this provider uses for it.
    Quota,
    /// 402.
    PaymentRequired,
    /// 401 (Gemini: 400): the key is not known.
    BadKey,
    /// The same, and the message repeats the whole key.
    EchoKey,
    /// 403.
    Forbidden,
    /// 404: no such model.
    NotFound,
    /// 400: the request is wrong.
    BadRequest,
    /// 400 (413 has another meaning): the prompt is longer than the context.
    ContextLength,
    /// 500.
    ServerError,
    /// 502 with an HTML body, as a proxy in front of the provider sends it.
    BadGateway,
    /// 503.
    Unavailable,
    /// 529, or this provider's words for it under that status.
    Overloaded,
    /// Nobody listens: the listener is closed until `Sim::resume`. The call that brings it about is reset.
    Refused,
    /// The connection is reset when the request has been read.
    ResetBeforeHead,
    /// The head of a success, then a reset.
    ResetAfterHead,
    /// Never answers, keeps the connection open.
    Timeout,
    /// The head and, streamed, all that comes before the first output; then silence.
    Stall,
    /// Half the output (unary: half the body), then silence.
    StallAfterTokens,
    /// 200 without a body.
    Empty,
    /// 200 with a page of HTML.
    Html,
    /// Streamed: the first output event is cut in its middle, then a clean end. Unary: half of the JSON, cleanly ended.
    CutJson,
    /// 200, then an error of this provider as the first event (unary: as the body).
    ErrorFirst,
    /// Streamed: what comes before the first output, then an error. Unary: like [`SimFault::ErrorFirst`].
    ErrorAfterPrelude,
    /// Streamed: half the output, then an error. Unary: like [`SimFault::ErrorFirst`].
    ErrorAfterTokens,
    /// Streamed: what comes before the first output, then a clean end. Unary: an answer with neither content nor finish.
    RoleOnly,
    /// Half the output (unary: half the body), then a reset.
    CutAfterTokens,
    /// Streamed: half the output, then a clean end without a finish. Unary: half the promised body, then the
    /// connection is closed.
    CloseAfterTokens,
    /// Half the output (unary: half the promised body), then the connection is closed without the end that HTTP asks for.
    FinAfterTokens,
    /// Streamed: the first output event is not JSON, the rest is well. Unary: the body is not JSON.
    MalformedFirst,
    /// Streamed: after half the output an event that is not JSON, the rest is well. Unary: the body is not JSON.
    MalformedEvent,
    /// A complete answer: streamed, the event that marks the end (`[DONE]`, `message_stop`) is missing; unary, the end
    /// of the connection ends the body.
    NoTerminator,
    /// A complete answer with a pause before each piece.
    Slow,
    /// A complete answer below a head of 2 MiB.
    HugeHead,
    /// A complete answer, one byte a write (streamed: and an HTTP chunk).
    Bytewise,
    /// A complete answer with CR LF line ends.
    Crlf,
    /// The first request on a connection is answered; the connection is reset when the next one arrives on it.
    Stale,
}

impl SimFault {
    /// All of them, in the order of the description above.
    pub const ALL: [Self; 39] = [
        Self::Ok,
        Self::RateLimited,
        Self::RateLimitedRetryAfter,
        Self::Quota,
        Self::PaymentRequired,
        Self::BadKey,
        Self::EchoKey,
        Self::Forbidden,
        Self::NotFound,
        Self::BadRequest,
        Self::ContextLength,
        Self::ServerError,
        Self::BadGateway,
        Self::Unavailable,
        Self::Overloaded,
        Self::Refused,
        Self::ResetBeforeHead,
        Self::ResetAfterHead,
        Self::Timeout,
        Self::Stall,
        Self::StallAfterTokens,
        Self::Empty,
        Self::Html,
        Self::CutJson,
        Self::ErrorFirst,
        Self::ErrorAfterPrelude,
        Self::ErrorAfterTokens,
        Self::RoleOnly,
        Self::CutAfterTokens,
        Self::CloseAfterTokens,
        Self::FinAfterTokens,
        Self::MalformedFirst,
        Self::MalformedEvent,
        Self::NoTerminator,
        Self::Slow,
        Self::HugeHead,
        Self::Bytewise,
        Self::Crlf,
        Self::Stale,
    ];

    /// Its name, as in the model `sim-<name>`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::RateLimited => "429",
            Self::RateLimitedRetryAfter => "429-retry-after",
            Self::Quota => "quota",
            Self::PaymentRequired => "402",
            Self::BadKey => "401",
            Self::EchoKey => "echo-key",
            Self::Forbidden => "403",
            Self::NotFound => "404",
            Self::BadRequest => "400",
            Self::ContextLength => "context-length",
            Self::ServerError => "500",
            Self::BadGateway => "502",
            Self::Unavailable => "503",
            Self::Overloaded => "529",
            Self::Refused => "refused",
            Self::ResetBeforeHead => "reset-before-head",
            Self::ResetAfterHead => "reset-after-head",
            Self::Timeout => "timeout",
            Self::Stall => "stall",
            Self::StallAfterTokens => "stall-after-tokens",
            Self::Empty => "empty",
            Self::Html => "html",
            Self::CutJson => "cut-json",
            Self::ErrorFirst => "error-first",
            Self::ErrorAfterPrelude => "error-after-prelude",
            Self::ErrorAfterTokens => "error-after-tokens",
            Self::RoleOnly => "role-only",
            Self::CutAfterTokens => "cut-after-tokens",
            Self::CloseAfterTokens => "close-after-tokens",
            Self::FinAfterTokens => "fin-after-tokens",
            Self::MalformedFirst => "malformed-first",
            Self::MalformedEvent => "malformed-event",
            Self::NoTerminator => "no-terminator",
            Self::Slow => "slow",
            Self::HugeHead => "huge-head",
            Self::Bytewise => "bytewise",
            Self::Crlf => "crlf",
            Self::Stale => "stale",
        }
    }

    /// The fault of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// Whether half the output of a stream comes before it.
    pub fn comes_after_tokens(self) -> bool {
        matches!(
            self,
            Self::StallAfterTokens
                | Self::ErrorAfterTokens
                | Self::CutAfterTokens
                | Self::CloseAfterTokens
                | Self::FinAfterTokens
                | Self::MalformedEvent
        )
    }

    /// Whether it concerns calls after it as well: a key that is refused is not used again, a provider that is gone stays away.
    pub fn outlasts_its_call(self) -> bool {
        matches!(
            self,
            Self::BadKey | Self::EchoKey | Self::Quota | Self::PaymentRequired | Self::Forbidden | Self::Refused
        )
    }

    /// Whether a client that reads patiently gets a whole answer in spite of it.
    pub fn is_complete_answer(self) -> bool {
        matches!(self, Self::Ok | Self::NoTerminator | Self::Slow | Self::Bytewise | Self::Crlf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_fault() {
        for fault in SimFault::ALL {
            assert_eq!(SimFault::from_name(fault.name()), Some(fault));
        }
        assert_eq!(SimFault::from_name("no-such-fault"), None);
    }
}
