//! What follows from an attempt: the decisions are `routing::triage`'s, this file asks for them and carries them out.

use super::core::{Stop, breaker_policy};
use super::error::{ApiError, Reason, UNCHANGED};
use super::hedge::Handed;
use super::lane::Refusal;
use super::lease::Lease;
use super::names::Target;
use super::relay::Outcome;
use super::walk::{Attempted, Next, Walk, shutting_down};
use crate::domain::{AttemptRecord, Clock, Ended, Fault, FaultKind, Verdict};
use crate::provider::classify::classify;
use crate::routing::backoff;
use crate::routing::breaker::Gate;
use crate::routing::triage::{Progress, RouteLeft, triage};
use crate::store::ports::live::KeyOutcome;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

impl Walk<'_> {
    /// Keeps the books of an attempt that is over and says what follows.
    pub(super) fn settle(
        &mut self,
        target: &Target,
        lease: &mut Lease,
        begun: Instant,
        attempted: Attempted,
    ) -> Result<Next, Stop> {
        match attempted.outcome {
            Outcome::Served => {
                let ended = attempted.ended;
                self.healthy(target, lease, true, attempted.first_output, ended);
                self.note_key(target, lease, KeyOutcome::Good, ended);
                let record = self.record_of(target, lease.key_name(), begun, ended);
                self.push(AttemptRecord { status: attempted.status, ..record });
                self.client.record.ended = Ended::Complete;
                Ok(Next::Served)
            }
            Outcome::Gone => {
                self.abandon(target);
                let record = self.record_of(target, lease.key_name(), begun, attempted.ended);
                // A client that was too slow for a gateway that ends is not gone.
                let is_shutdown = self.client.record.ended == Ended::Shutdown;
                let ended = if is_shutdown { Ended::Shutdown } else { Ended::ClientGone };
                let verdict = ended.name();
                self.push(AttemptRecord { status: attempted.status, reason: Some(verdict), verdict, ..record });
                self.client.record.ended = ended;
                Err(Stop::Gone)
            }
            Outcome::Broken(fault) => {
                self.after_commit(target, lease, begun, attempted.status, &fault);
                // The client was told in-band, and its connection may end cleanly.
                Ok(Next::Served)
            }
            Outcome::Cut(fault) => {
                self.after_commit(target, lease, begun, attempted.status, &fault);
                Err(Stop::Cut)
            }
            Outcome::Handed(handed) => {
                let Handed { target, mut lease, begun, attempted, .. } = *handed;
                lease.heard(self.tokens_used(&attempted), attempted.limits);
                self.settle(&target, &mut lease, begun, attempted)
            }
            Outcome::Refused(refusal) => {
                let fault = self.classify(target, &refusal);
                self.judge(target, lease, begun, fault, attempted.status)
            }
            Outcome::Failed(fault) if self.client.record.ended == Ended::Shutdown => {
                self.abandon(target);
                let record = self.record_of(target, lease.key_name(), begun, attempted.ended);
                let verdict = Ended::Shutdown.name();
                self.push(AttemptRecord { verdict, ..self.with_fault(record, &fault, attempted.status) });
                Err(shutting_down().into())
            }
            Outcome::Failed(fault) => self.judge(target, lease, begun, fault, attempted.status),
        }
    }

    pub(super) fn classify(&self, target: &Target, refusal: &Refusal) -> Fault {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let header = |name: &str| refusal.headers.get(name).and_then(|value| value.to_str().ok());
        let unix_ms = u64::try_from(now).unwrap_or(u64::MAX);
        classify(target.dialect(), refusal.status, header, &refusal.body, unix_ms)
    }

    pub(super) fn after_commit(
        &mut self,
        target: &Target,
        lease: &mut Lease,
        begun: Instant,
        status: Option<u16>,
        fault: &Fault,
    ) {
        self.last_fault = Some(self.redacted(fault.clone()));
        if self.client.record.ended == Ended::Shutdown {
            self.abandon(target);
        } else {
            self.note_health(target, lease, fault, status, begun);
            self.client.record.ended = Ended::Broken;
        }
        let now = Instant::now();
        self.note_key(target, lease, KeyOutcome::of(fault.kind, fault.retry_after), now);
        self.client.record.error_code = Some(fault.kind.name().to_owned());
        let record = self.record_of(target, lease.key_name(), begun, now);
        self.push(AttemptRecord { verdict: "broken", ..self.with_fault(record, fault, status) });
    }

    /// An attempt failed before anything was sent: notes it everywhere and carries out the verdict.
    pub(super) fn judge(
        &mut self,
        target: &Target,
        lease: &mut Lease,
        begun: Instant,
        fault: Fault,
        status: Option<u16>,
    ) -> Result<Next, Stop> {
        let fault = self.book(target, lease, begun, fault, status);
        if fault.kind == FaultKind::ModelNotFound && self.at + 1 == self.plan.targets.len() {
            self.plan.add_successors();
        }
        let verdict = self.verdict(target, lease, &fault);
        let record = self.record_of(target, lease.key_name(), begun, Instant::now());
        self.push(AttemptRecord { verdict: verdict.name(), ..self.with_fault(record, &fault, status) });
        let byok = lease.is_byok() && fault.kind == FaultKind::BadCredentials;
        match verdict {
            Verdict::RetrySame { after } => {
                self.retries += 1;
                self.tried_keys.clear();
                Ok(Next::Stay { after })
            }
            Verdict::NextKey => Ok(Next::Stay { after: Duration::ZERO }),
            Verdict::NextProvider => Ok(Next::Go(self.at + 1)),
            Verdict::NextModel => Ok(Next::Go(self.plan.next_model(self.at).unwrap_or(self.plan.targets.len()))),
            Verdict::Reject if byok => Err(self.own_key_refused(target, &lease.key_name(), &fault).into()),
            Verdict::Reject => Err(self.final_error(self.worth_telling(&fault)).into()),
            Verdict::Alert => {
                log::error!("{} at {}: {}", fault.kind.name(), target.provider.id, fault.message);
                Err(ApiError::from_last_fault(&fault).into())
            }
        }
    }

    /// Notes a fault wherever it says something: at the target, at the key, and among what the client may be told. Returns it as it may be
    /// shown.
    pub(super) fn book(
        &mut self,
        target: &Target,
        lease: &mut Lease,
        begun: Instant,
        fault: Fault,
        status: Option<u16>,
    ) -> Fault {
        let fault = self.redacted(fault);
        self.last_fault = Some(fault.clone());
        if fault.kind.is_passing() {
            self.passing_fault = Some((self.at, fault.clone()));
        } else if self.passing_fault.as_ref().is_some_and(|(at, _)| *at == self.at) {
            // Of one target the last word counts.
            self.passing_fault = None;
        }
        self.note_health(target, lease, &fault, status, begun);
        self.note_key(target, lease, KeyOutcome::of(fault.kind, fault.retry_after), Instant::now());
        self.tried_keys.extend(lease.key().map(|key| key.id));
        fault
    }

    pub(super) fn verdict(&self, target: &Target, lease: &Lease, fault: &Fault) -> Verdict {
        let now = Instant::now();
        let retry = &self.snapshot.retry;
        let (provider, policy) = (&target.provider, breaker_policy(&self.snapshot));
        let open = |gate| matches!(gate, Gate::Refuse { .. });
        // A target whose breaker has just opened is not asked again.
        let well = !open(self.core.targets.peek(&provider.id, &target.model.upstream, policy, now));
        let left = RouteLeft {
            retry_max: if well { self.plan.retry_max } else { 0 },
            key: self.core.pool.any_ready(&self.ask(target, &self.tried_keys), now),
            provider: self.plan.has_next_provider(self.at),
            model: self.plan.next_model(self.at).is_some() || self.busy.passed.is_some(),
        };
        let mut backoff = backoff::delay(retry.base, retry.cap, self.retries, fastrand::f64());
        if fault.kind == FaultKind::RateLimited && !lease.is_byok() {
            // Before a key is ready again a retry would find none.
            let ready_in = self.core.pool.ready_in(&self.ask(target, &[]), now).unwrap_or_default();
            backoff = if ready_in > backoff { ready_in + backoff.min(ready_in / 4) } else { backoff };
        }
        let mut progress = Progress {
            retries: self.retries,
            retry_affordable: true,
            time_left: self.deadline.saturating_duration_since(now),
            backoff,
            backoff_cap: retry.cap,
            byok: lease.is_byok(),
        };
        let verdict = triage(fault, &progress, &left);
        if matches!(verdict, Verdict::RetrySame { .. }) && !self.core.retry_budget.lock().withdraw() {
            progress.retry_affordable = false;
            self.core.telemetry.metrics.retry_refused();
            return triage(fault, &progress, &left);
        }
        verdict
    }

    /// What the client is told when the last target of the plan was passed over.
    pub(super) fn exhausted(&self) -> ApiError {
        if let Some(shed) = self.shed_error() {
            return shed;
        }
        match &self.last_fault {
            Some(fault) => self.final_error(self.worth_telling(fault)),
            None => {
                let reasons = || self.client.record.attempts.iter().filter_map(|attempt| attempt.reason);
                let limited =
                    reasons().all(|reason| matches!(reason, "no_key_ready" | "busy")) && self.ready_in.is_some();
                let (reason, message) = if limited {
                    (Reason::RateLimited, "every key of every target is rate limited or out of quota")
                } else {
                    (
                        Reason::AllTargetsDown,
                        "no target can be asked now: their breakers are open or their keys are not usable",
                    )
                };
                ApiError::new(reason, message).retry_after(self.ready_in.unwrap_or(UNCHANGED))
            }
        }
    }

    /// Of all that went wrong, what the client is told. That the last stand-in has no such model says less than that the model which was
    /// asked for is down for now.
    fn worth_telling<'f>(&'f self, last: &'f Fault) -> &'f Fault {
        let of_a_stand_in = matches!(last.kind, FaultKind::ModelNotFound | FaultKind::Unsupported);
        match &self.passing_fault {
            Some((_, passing)) if of_a_stand_in => passing,
            _ => last,
        }
    }

    pub(super) fn final_error(&self, fault: &Fault) -> ApiError {
        let error = ApiError::from_last_fault(fault);
        let now = Instant::now();
        let open = self.plan.targets.get(self.at).and_then(|(_, target)| {
            let (provider, model) = (&target.provider.id, &target.model.upstream);
            match self.core.targets.peek(provider, model, breaker_policy(&self.snapshot), now) {
                // This very fault may have opened the breaker: sooner than that nobody gets through.
                Gate::Refuse { retry_after } => Some(retry_after),
                Gate::Pass | Gate::Probe => None,
            }
        });
        let ready_in = self.ready_in.or(open);
        match (error.retry_after, ready_in) {
            (Some(wait), Some(ready_in)) if fault.retry_after.is_none() => error.retry_after(wait.max(ready_in)),
            _ => error,
        }
    }

    pub(super) fn out_of_time(&self) -> ApiError {
        let message = format!("no target answered within {:.1} s", self.plan.total.as_secs_f64());
        ApiError::from_last_fault(&Fault::new(FaultKind::Timeout(Clock::Total), message))
    }
}
