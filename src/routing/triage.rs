//! What to do about a fault: the decision engine, as a table.

use crate::domain::{Clock, Fault, FaultKind, Verdict};
use std::time::Duration;

/// How far the request has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Retries of this target so far.
    pub retries: u32,
    /// Whether the retry budget would pay for one more.
    pub retry_affordable: bool,
    /// Time until the request's deadline.
    pub time_left: Duration,
    /// The wait that backoff asks for before the next retry.
    pub backoff: Duration,
    /// The longest wait that backoff may ask for (`[retry] cap`).
    pub backoff_cap: Duration,
    /// Whether the client brought the key for this target.
    pub byok: bool,
}

/// What is left to try.
#[derive(Clone, Copy, Debug)]
pub struct RouteLeft {
    /// Retries allowed per target.
    pub retry_max: u32,
    /// Another key of this provider is ready.
    pub key: bool,
    /// Another provider offers this model.
    pub provider: bool,
    /// Another model is in the plan.
    pub model: bool,
}

/// The verdict on a fault that happened before anything was sent to the client.
pub fn triage(fault: &Fault, progress: &Progress, left: &RouteLeft) -> Verdict {
    match fault.kind {
        FaultKind::Timeout(Clock::Total) => Verdict::Reject,
        FaultKind::Connect
        | FaultKind::Reset
        | FaultKind::Timeout(Clock::Connect)
        | FaultKind::ServerError
        | FaultKind::Overloaded
        | FaultKind::Malformed
        | FaultKind::Truncated
        | FaultKind::Empty => retry_same(fault, progress, left).unwrap_or_else(|| onwards(left)),
        // Who was silent for a minute will be silent for another: asking the same target again costs the client its deadline.
        FaultKind::Timeout(Clock::FirstOutput | Clock::Idle | Clock::Throughput) => onwards(left),
        FaultKind::RateLimited => match onwards_with_keys(progress, left) {
            // Nobody else can serve: waiting is all that is left.
            Verdict::Reject => retry_same(fault, progress, left).unwrap_or(Verdict::Reject),
            verdict => verdict,
        },
        FaultKind::QuotaExhausted => onwards_with_keys(progress, left),
        FaultKind::BadCredentials if progress.byok => Verdict::Reject,
        FaultKind::BadCredentials => onwards_with_keys(progress, left),
        FaultKind::ModelNotFound | FaultKind::Unsupported => onwards(left),
        FaultKind::ContextLength | FaultKind::ContentFilter if left.model => Verdict::NextModel,
        FaultKind::ContextLength | FaultKind::ContentFilter | FaultKind::BadRequest => Verdict::Reject,
        FaultKind::Configuration | FaultKind::Internal => Verdict::Alert,
    }
}

/// The same target again, if its retries last, the budget pays and the wait is worth it.
fn retry_same(fault: &Fault, progress: &Progress, left: &RouteLeft) -> Option<Verdict> {
    if progress.retries >= left.retry_max || !progress.retry_affordable {
        return None;
    }
    let asked = fault.retry_after.unwrap_or_default();
    // The backoff has chance in it: who was told the same wait does not come back at the same instant.
    let after = if asked > progress.backoff { asked + progress.backoff.min(asked / 4) } else { progress.backoff };
    let elsewhere = left.provider || left.model;
    let worth_it = after < progress.time_left && (after <= progress.backoff_cap || !elsewhere);
    worth_it.then_some(Verdict::RetrySame { after })
}

fn onwards_with_keys(progress: &Progress, left: &RouteLeft) -> Verdict {
    if left.key && !progress.byok { Verdict::NextKey } else { onwards(left) }
}

fn onwards(left: &RouteLeft) -> Verdict {
    match (left.provider, left.model) {
        (true, _) => Verdict::NextProvider,
        (false, true) => Verdict::NextModel,
        (false, false) => Verdict::Reject,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FaultKind as K;

    const PROGRESS: Progress = Progress {
        retries: 0,
        retry_affordable: true,
        time_left: Duration::from_secs(60),
        backoff: Duration::from_millis(250),
        backoff_cap: Duration::from_secs(5),
        byok: false,
    };
    const SPENT: Progress = Progress { retries: 2, ..PROGRESS };
    const ALL: RouteLeft = RouteLeft { retry_max: 2, key: true, provider: true, model: true };
    const NO_KEY: RouteLeft = RouteLeft { key: false, ..ALL };
    const MODEL_ONLY: RouteLeft = RouteLeft { key: false, provider: false, ..ALL };
    const NOTHING: RouteLeft = RouteLeft { key: false, provider: false, model: false, ..ALL };
    const RETRY: Verdict = Verdict::RetrySame { after: Duration::from_millis(250) };

    #[test]
    fn the_table() {
        let transient = [
            K::Connect,
            K::Reset,
            K::Timeout(Clock::Connect),
            K::ServerError,
            K::Overloaded,
            K::Malformed,
            K::Truncated,
            K::Empty,
        ];
        for kind in transient {
            for (progress, left, verdict) in [
                (&PROGRESS, &ALL, RETRY),
                (&SPENT, &ALL, Verdict::NextProvider),
                (&SPENT, &MODEL_ONLY, Verdict::NextModel),
                (&SPENT, &NOTHING, Verdict::Reject),
                (&Progress { retry_affordable: false, ..PROGRESS }, &ALL, Verdict::NextProvider),
                (&Progress { time_left: Duration::from_millis(100), ..PROGRESS }, &ALL, Verdict::NextProvider),
            ] {
                assert_eq!(triage(&Fault::new(kind, ""), progress, left), verdict, "{kind:?} {progress:?} {left:?}");
            }
        }
        for (kind, progress, left, verdict) in [
            (K::RateLimited, PROGRESS, ALL, Verdict::NextKey),
            (K::RateLimited, PROGRESS, NO_KEY, Verdict::NextProvider),
            (K::RateLimited, PROGRESS, MODEL_ONLY, Verdict::NextModel),
            (K::RateLimited, PROGRESS, NOTHING, RETRY),
            (K::RateLimited, SPENT, NOTHING, Verdict::Reject),
            (K::RateLimited, Progress { byok: true, ..PROGRESS }, ALL, Verdict::NextProvider),
            (K::QuotaExhausted, PROGRESS, ALL, Verdict::NextKey),
            (K::QuotaExhausted, PROGRESS, NO_KEY, Verdict::NextProvider),
            (K::QuotaExhausted, PROGRESS, NOTHING, Verdict::Reject),
            (K::BadCredentials, PROGRESS, ALL, Verdict::NextKey),
            (K::BadCredentials, PROGRESS, MODEL_ONLY, Verdict::NextModel),
            (K::BadCredentials, Progress { byok: true, ..PROGRESS }, ALL, Verdict::Reject),
            (K::ModelNotFound, PROGRESS, ALL, Verdict::NextProvider),
            (K::ModelNotFound, PROGRESS, MODEL_ONLY, Verdict::NextModel),
            (K::ModelNotFound, PROGRESS, NOTHING, Verdict::Reject),
            (K::ContextLength, PROGRESS, ALL, Verdict::NextModel),
            (K::ContextLength, PROGRESS, NOTHING, Verdict::Reject),
            (K::ContentFilter, PROGRESS, ALL, Verdict::NextModel),
            (K::Unsupported, PROGRESS, ALL, Verdict::NextProvider),
            (K::Unsupported, PROGRESS, NOTHING, Verdict::Reject),
            (K::BadRequest, PROGRESS, ALL, Verdict::Reject),
            (K::Timeout(Clock::FirstOutput), PROGRESS, ALL, Verdict::NextProvider),
            (K::Timeout(Clock::Idle), PROGRESS, MODEL_ONLY, Verdict::NextModel),
            (K::Timeout(Clock::Throughput), PROGRESS, ALL, Verdict::NextProvider),
            (K::Timeout(Clock::FirstOutput), PROGRESS, NOTHING, Verdict::Reject),
            (K::Timeout(Clock::Total), PROGRESS, ALL, Verdict::Reject),
            (K::Internal, PROGRESS, ALL, Verdict::Alert),
            (K::Configuration, PROGRESS, ALL, Verdict::Alert),
        ] {
            assert_eq!(triage(&Fault::new(kind, ""), &progress, &left), verdict, "{kind:?} {progress:?} {left:?}");
        }
    }

    #[test]
    fn a_longer_retry_after_wins_but_not_past_the_deadline() {
        let fault =
            |seconds| Fault { retry_after: Some(Duration::from_secs(seconds)), ..Fault::new(K::ServerError, "") };
        // With the backoff behind it, which differs from request to request.
        let after = |seconds| Verdict::RetrySame { after: Duration::from_secs(seconds) + PROGRESS.backoff };
        assert_eq!(triage(&fault(3), &PROGRESS, &ALL), after(3));
        assert_eq!(triage(&fault(10), &PROGRESS, &ALL), Verdict::NextProvider, "another target need not wait");
        assert_eq!(triage(&fault(10), &PROGRESS, &NOTHING), after(10));
        assert_eq!(triage(&fault(90), &PROGRESS, &NOTHING), Verdict::Reject);
    }
}
