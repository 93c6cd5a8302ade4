//! The limits of a request's key, user and model (`[[limits.rule]]`): reserved before the plan is walked, settled when the request is over,
//! whichever way that comes about.

use super::core::{ClientCtx, Core};
use super::error::{ApiError, Reason};
use super::head::{Head, name};
use super::plan::Plan;
use crate::config::snapshot::Limits;
use crate::dialect::openai_chat::envelope::Envelope;
use crate::domain::{Ended, Limit, RequestRecord, Scope};
use crate::store::ports::limits::{Denied, Lease, LimitStore, Refusal, Standings, Subject, Wait};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer names of users and models are known by their hash, so that a bucket's size is bounded.
const LONGEST_NAME: usize = 128;
/// For the estimate of an output that nobody counted.
pub(super) const BYTES_A_TOKEN: u64 = 4;

/// What a request has reserved. Dropped without having been settled (a panic), it gives everything back.
pub(super) struct Quota {
    store: Arc<dyn LimitStore>,
    lease: Option<Lease>,
    /// The part of the reservation that is for the input.
    input_tokens: u64,
}

impl Quota {
    /// Whether there is any limit that the request could be held to.
    pub(super) fn is_wanted(client: &ClientCtx) -> bool {
        !client.snapshot.limits.rules.is_empty() || own_limits(client).is_some()
    }

    /// Reserves one request and its estimated tokens, and notes in `client` where its limits stand; `None` when no rule applies.
    ///
    /// # Errors
    /// 429 that names the limit; 503 when limits cannot be checked and `limits.on_outage` is `deny`.
    pub(super) async fn reserve(
        core: &Core,
        client: &mut ClientCtx,
        envelope: &Envelope,
        plan: &Plan,
    ) -> Result<Option<Self>, ApiError> {
        let snapshot = client.snapshot.clone();
        let key = client.record.key_name.clone().unwrap_or_default();
        // A key of the database has a bucket of its own, though one of the configuration, or one that was revoked, has its name.
        let stored = client.holder.as_ref().and_then(|holder| holder.principal.key.as_ref());
        let names = KeyNames { name: &key, bucket: stored.map_or(&key, |stored| &stored.id) };
        let subjects = subjects(&snapshot.limits, own_limits(client), names, envelope.user.as_deref(), &plan.asked);
        if subjects.is_empty() {
            return Ok(None);
        }
        let input_tokens = envelope.estimated_input_tokens;
        let tokens = input_tokens.saturating_add(output_bound(&snapshot.limits, envelope, plan));
        let (granted, standings) = core.limits.acquire(subjects, tokens, Instant::now()).await;
        client.standings = Some(Box::new(standings));
        match granted {
            Ok(lease) => Ok(Some(Self { store: core.limits.clone(), lease: Some(lease), input_tokens })),
            Err(Denied::Reached(refusal)) => {
                core.telemetry.metrics.limited(refusal.name());
                Err(told(&refusal))
            }
            Err(Denied::Outage) => {
                core.telemetry.metrics.limited("outage");
                let message = "the limits of this request cannot be checked right now: the gateway's shared store does not answer";
                Err(ApiError::new(Reason::LimitsUnavailable, message))
            }
        }
    }

    /// Settles with what the request has used in the end.
    pub(super) fn settle(mut self, record: &RequestRecord, output_bytes: u64, now: Instant) {
        if let Some(lease) = self.lease.take() {
            self.store.settle(lease, used(record, self.input_tokens, output_bytes), now);
        }
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.store.settle(lease, 0, Instant::now());
        }
    }
}

/// The limits of the key itself, which its row in the database has.
fn own_limits(client: &ClientCtx) -> Option<&Arc<[Limit]>> {
    let key = client.holder.as_ref()?.principal.key.as_ref()?;
    Some(&key.limits).filter(|limits| !limits.is_empty())
}

/// What a key is called.
#[derive(Clone, Copy)]
struct KeyNames<'a> {
    /// By which rules match.
    name: &'a Arc<str>,
    /// By which its use is counted.
    bucket: &'a Arc<str>,
}

/// Whom the rules are for: of the rules of a scope the first that matches. A key's own limits hold in the place of a rule.
fn subjects(
    limits: &Limits,
    own: Option<&Arc<[Limit]>>,
    key: KeyNames<'_>,
    user: Option<&str>,
    model: &Arc<str>,
) -> Vec<Subject> {
    if limits.rules.is_empty() && own.is_none() {
        return Vec::new();
    }
    let mut subjects = Vec::with_capacity(Scope::ALL.len());
    let rule = |scope: Scope, name: &str| limits.rules.iter().find(|rule| rule.scope == scope && rule.matches(name));
    let limits_of = |scope, name: &str| rule(scope, name).map(|rule| &rule.limits);
    let mut add = |scope, limits: Option<&Arc<[Limit]>>, name: &dyn Fn() -> Arc<str>| {
        subjects.extend(limits.map(|limits| Subject { scope, name: name(), limits: limits.clone() }));
    };
    add(Scope::Key, own.or_else(|| limits_of(Scope::Key, key.name)), &|| key.bucket.clone());
    if let Some(user) = user {
        // Two customers may each have a user of this name.
        add(Scope::User, limits_of(Scope::User, user), &|| bounded(format!("{}\u{1f}{user}", key.bucket)));
    }
    add(Scope::Model, limits_of(Scope::Model, model), &|| {
        if model.len() > LONGEST_NAME { bounded(model.to_string()) } else { model.clone() }
    });
    subjects
}

fn bounded(name: String) -> Arc<str> {
    if name.len() <= LONGEST_NAME { name.into() } else { hex::encode(Sha256::digest(name)).into() }
}

/// The tokens that the answer is reserved with: `max_tokens`, else `limits.assumed_output_tokens`, for each choice; never more than the
/// model can give.
fn output_bound(limits: &Limits, envelope: &Envelope, plan: &Plan) -> u64 {
    let most = plan.targets.first().and_then(|(_, target)| target.model.max_output).unwrap_or(u64::MAX);
    let one = envelope.max_tokens.unwrap_or(limits.assumed_output_tokens).min(most);
    one.saturating_mul(envelope.n.unwrap_or(1).max(1))
}

/// The tokens that a request has used. Where the provider did not come to count them, the estimate holds: of the input for a client that
/// left before anything was sent, and of what was written for an answer that was interrupted.
fn used(record: &RequestRecord, input_tokens: u64, output_bytes: u64) -> u64 {
    let written = output_bytes.div_ceil(BYTES_A_TOKEN);
    match record.usage {
        Some(usage) if record.ended == Ended::Complete => usage.prompt_tokens.saturating_add(usage.completion_tokens),
        // Some say at the beginning how large the input is, and at the end what they wrote.
        Some(usage) => usage.prompt_tokens.saturating_add(usage.completion_tokens.max(written)),
        None if record.status == 200 => input_tokens.saturating_add(written),
        None if record.ended == Ended::ClientGone && record.attempt_count() > 0 => input_tokens,
        None => 0,
    }
}

fn told(refusal: &Refusal) -> ApiError {
    let Refusal { scope, limit, remaining, requested, wait } = *refusal;
    let (scope, measure, amount) = (scope.name(), limit.measure, limit.amount);
    let reached = format!("rate limit reached for this {scope} on {measure}: limit {amount}");
    match wait {
        Wait::Place => {
            ApiError::new(Reason::RateLimited, format!("{reached}, all of them taken. Please try again soon"))
        }
        Wait::For(wait) => {
            let again = shown(wait);
            let message =
                format!("{reached}, remaining {remaining}, requested {requested}. Please try again in {again}");
            ApiError::new(Reason::RateLimited, message).retry_after(wait)
        }
        Wait::Never => {
            let message = format!(
                "request too large for this {scope} on {measure}: limit {amount}, requested {requested}. \
                 Make the input or max_tokens smaller: waiting does not help"
            );
            ApiError::new(Reason::RateLimited, message).hopeless()
        }
    }
}

/// Puts `x-ratelimit-*` on a head, in OpenAI's form.
pub(super) fn put_standings(head: &mut Head, standings: &Standings) {
    if let Some(requests) = standings.requests {
        head.put_number(&name::LIMIT_REQUESTS, requests.limit);
        head.put_number(&name::REMAINING_REQUESTS, requests.remaining);
        head.put(&name::RESET_REQUESTS, &shown(requests.reset));
    }
    if let Some(tokens) = standings.tokens {
        head.put_number(&name::LIMIT_TOKENS, tokens.limit);
        head.put_number(&name::REMAINING_TOKENS, tokens.remaining);
        head.put(&name::RESET_TOKENS, &shown(tokens.reset));
    }
}

/// A time as OpenAI writes it: `17ms`, `8.64s`, `6m0s`, `1h2m3s`; rounded up to milliseconds.
fn shown(time: Duration) -> String {
    let millis = u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    if millis < 1000 {
        return if millis == 0 { "0s".to_owned() } else { [itoa::Buffer::new().format(millis), "ms"].concat() };
    }
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if millis == 0 { String::new() } else { format!(".{millis:03}") };
    let fraction = fraction.trim_end_matches('0');
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, minutes) => format!("{minutes}m{seconds}{fraction}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AttemptRecord, Measure, Period, RequestId, Usage};
    use crate::store::memory::MemoryLimits;

    #[test]
    fn times_are_written_as_openai_writes_them() {
        for (millis, text) in [
            (0, "0s"),
            (17, "17ms"),
            (1000, "1s"),
            (8640, "8.64s"),
            (90_951, "1m30.951s"),
            (360_000, "6m0s"),
            (3_723_000, "1h2m3s"),
            (86_400_000, "24h0m0s"),
        ] {
            assert_eq!(shown(Duration::from_millis(millis)), text);
        }
        assert_eq!(shown(Duration::from_nanos(1)), "1ms");
    }

    #[test]
    fn a_reservation_that_is_dropped_comes_back_whole() {
        let store = Arc::new(MemoryLimits::default());
        let limits = [Measure::Tokens(Period::Day), Measure::Concurrency].map(|measure| Limit { measure, amount: 1 });
        let subject = || vec![Subject { scope: Scope::Key, name: "k".into(), limits: limits.into() }];
        let now = Instant::now();
        let lease = store.take(subject(), 1, now).0.unwrap();
        assert!(store.take(subject(), 1, now).0.is_err());
        let quota = Quota { store: store.clone(), lease: Some(lease), input_tokens: 1 };
        let panicked = std::thread::spawn(move || {
            let _quota = quota;
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        assert!(store.take(subject(), 1, now).0.is_ok());
    }

    fn record(status: u16, ended: Ended, usage: Option<(u64, u64)>, asked: bool) -> RequestRecord {
        let attempt = AttemptRecord {
            provider: "p".into(),
            model: "m".into(),
            key_name: "k".into(),
            started: Duration::ZERO,
            took: Duration::ZERO,
            status: None,
            reason: None,
            message: None,
            verdict: "ok",
        };
        RequestRecord {
            stream: true,
            status,
            attempts: if asked { vec![attempt] } else { Vec::new() },
            usage: usage.map(|(prompt_tokens, completion_tokens)| Usage {
                prompt_tokens,
                completion_tokens,
                ..Usage::default()
            }),
            ended,
            ..RequestRecord::new(RequestId::of(1, 2), 0)
        }
    }

    #[test]
    fn what_was_used_is_counted_by_the_provider_or_else_estimated() {
        // Estimated at 100 tokens of input, with 41 bytes of output.
        for (status, ended, usage, asked, expected) in [
            (200, Ended::Complete, Some((90, 30)), true, 120),
            (200, Ended::Complete, None, true, 111),
            (200, Ended::ClientGone, Some((90, 1)), true, 101),
            (200, Ended::Broken, None, true, 111),
            (0, Ended::ClientGone, None, true, 100),
            (0, Ended::ClientGone, None, false, 0),
            (503, Ended::Error, None, true, 0),
            (503, Ended::Shutdown, None, true, 0),
        ] {
            assert_eq!(used(&record(status, ended, usage, asked), 100, 41), expected, "{status} {ended:?} {usage:?}");
        }
    }

    #[test]
    fn long_names_are_known_by_their_hash() {
        let (a, b) = ("a".repeat(1000), "b".repeat(1000));
        assert_eq!(bounded(a.clone()).len(), 64);
        assert_ne!(bounded(a), bounded(b));
        assert_eq!(&*bounded("short".to_owned()), "short");
    }
}
