//! The walk through the plan: lease, attempt, and, when that fails, the verdict and what follows from it.
//!
//! ```text
//!   target 0 ──RetrySame──> target 0 ──NextKey──> target 0, key 2 ──NextProvider──> target 1 ──NextModel──> target 3 … Reject
//! ```
//!
//! The decisions are `routing::triage`'s; this file carries them out and keeps the books: key states, breakers, the record.

use super::attempt::{self, Outgoing, Report};
use super::core::{ClientCtx, Core, Phase, Stop, breaker_policy};
use super::error::{ApiError, Reason};
use super::lease::Lease;
use super::media;
use super::names::Target;
use super::plan::Plan;
use super::relay::{Outcome, Refusal, Relay, Rules};
use crate::config::snapshot::{Snapshot, Timeouts};
use crate::dialect::chat;
use crate::dialect::extensions::Byok;
use crate::dialect::openai_chat::{self, envelope::Envelope};
use crate::dialect::table::{Dialect, Setup, Translator};
use crate::domain::record::SKIPPED;
use crate::domain::{AttemptRecord, Clock, Ended, Fault, FaultKind, ProviderKey, Verdict};
use crate::provider::classify::classify;
use crate::routing::breaker::{Change, Gate};
use crate::routing::triage::{Progress, RouteLeft, triage};
use crate::routing::backoff;
use crate::store::ports::live::{KeyOutcome, KeyState};
use crate::telemetry::StateChange;
use bytes::Bytes;
use pingora::proxy::Session;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A request on its way through its plan.
pub(super) struct Walk<'a> {
    core: &'a Arc<Core>,
    session: &'a mut Session,
    client: &'a mut ClientCtx,
    snapshot: Arc<Snapshot>,
    envelope: &'a Envelope,
    plan: Plan,
    /// The hub's form of the request, parsed when the first target needs it.
    request: Option<chat::Request>,
    at: usize,
    retries: u32,
    tried_keys: Vec<Arc<str>>,
    deadline: Instant,
    last_fault: Option<Fault>,
    /// The shortest wait after which a target that was passed over may serve again.
    ready_in: Option<Duration>,
}

/// The rendered request of a target.
struct Message {
    body: Bytes,
    headers: Vec<(&'static str, String)>,
    dropped: Vec<String>,
    answer_tool: Option<String>,
}

/// An attempt that is over.
struct Attempted {
    outcome: Outcome,
    status: Option<u16>,
    first_output: Option<Duration>,
    resend: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        core: &'a Arc<Core>,
        session: &'a mut Session,
        client: &'a mut ClientCtx,
        envelope: &'a Envelope,
        plan: Plan,
    ) -> Self {
        let deadline = client.started + plan.total;
        let snapshot = client.snapshot.clone();
        core.retry_budget.lock().deposit(snapshot.retry.budget);
        client.record.strategy = plan.strategy.name();
        Self {
            core,
            session,
            client,
            snapshot,
            envelope,
            plan,
            request: None,
            at: 0,
            retries: 0,
            tried_keys: Vec::new(),
            deadline,
            last_fault: None,
            ready_in: None,
        }
    }

    /// Tries targets until one has served.
    ///
    /// # Errors
    /// What the client is told when none has, or that it is gone, or that its answer is cut.
    pub(super) async fn run(mut self) -> Result<(), Stop> {
        loop {
            let Some((leg, target)) = self.plan.targets.get(self.at).cloned() else {
                return Err(self.exhausted().into());
            };
            self.client.record.provider = Some(target.provider.id.clone());
            self.client.record.model = Some(target.model.upstream.clone());
            self.client.record.fallback = self.at > 0 || leg > 0;
            let now = Instant::now();
            if now >= self.deadline {
                return Err(self.out_of_time().into());
            }
            let Some(lease) = self.lease(&target, now) else {
                self.at += 1;
                self.start_target();
                continue;
            };
            match self.attempt(&target, lease).await? {
                Next::Served => return Ok(()),
                Next::Stay { after } => self.pause(after).await?,
                Next::Go(at) => {
                    self.failover(&target, at);
                    self.at = at;
                    self.start_target();
                }
            }
        }
    }

    fn start_target(&mut self) {
        self.retries = 0;
        self.tried_keys.clear();
    }

    /// A key for the target, unless its breaker is open or no key is ready; then it is passed over.
    fn lease(&mut self, target: &Target, now: Instant) -> Option<Lease> {
        let (provider, model) = (&target.provider.id, &target.model.upstream);
        let policy = breaker_policy(&self.snapshot);
        if let Gate::Refuse { retry_after } = self.core.targets.enter(provider, model, policy, now) {
            self.skip(target, "breaker_open", Some(retry_after));
            return None;
        }
        match Lease::take(self.core, target, self.byok(target), &self.tried_keys, now) {
            Ok(lease) => Some(lease),
            Err(none) => {
                self.core.targets.abandon(provider, model, now);
                self.skip(target, "no_key_ready", none.ready_in);
                None
            }
        }
    }

    /// The client's own key for the target: a single one is meant for the provider of the model asked for.
    fn byok(&self, target: &Target) -> Option<Arc<ProviderKey>> {
        let primary = &self.plan.targets.first()?.1.provider;
        let byok = self.envelope.extensions.byok.as_ref()?;
        let names = std::iter::once(&*target.provider.id).chain(target.provider.aliases.iter().map(String::as_str));
        if matches!(byok, Byok::Any(_)) && primary.id != target.provider.id {
            return None;
        }
        let secret = byok.for_provider(names)?;
        Some(Arc::new(ProviderKey { name: "byok".into(), secret: secret.clone() }))
    }

    fn skip(&mut self, target: &Target, reason: &'static str, ready_in: Option<Duration>) {
        self.ready_in = match (self.ready_in, ready_in) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let record = self.record_of(target, "none".into(), Instant::now());
        self.push(AttemptRecord { reason: Some(reason), verdict: SKIPPED, ..record });
    }

    async fn attempt(&mut self, target: &Target, mut lease: Lease) -> Result<Next, Stop> {
        let begun = Instant::now();
        let number = self.attempt_number();
        self.core.telemetry.attempt_begins(self.client.record.id, number, &target.provider.id, &target.model.upstream);
        let message = match self.render(target).await {
            Ok(message) => message,
            Err(fault) => {
                let (provider, model) = (&target.provider.id, &target.model.upstream);
                self.core.targets.abandon(provider, model, begun);
                return self.judge(target, &mut lease, begun, fault, None);
            }
        };
        let ignored = self.envelope.extensions.ignored.iter().map(|name| (*name).to_owned());
        self.client.record.dropped = ignored.chain(message.dropped.iter().cloned()).collect();
        let attempted = self.send(target, &lease, &message).await;
        self.client.waited += begun.elapsed();
        self.settle(target, &mut lease, begun, attempted)
    }

    /// Sends the request to the target's addresses in turn until one takes it. A connection that was reused and had gone stale, and an
    /// address that nobody listens at while there is another, are no faults of the attempt.
    async fn send(&mut self, target: &Target, lease: &Lease, message: &Message) -> Attempted {
        let timeouts = target.provider.timeouts.unwrap_or(self.snapshot.timeouts);
        let failed = |fault| Attempted { outcome: Outcome::Failed(fault), status: None, first_output: None, resend: false };
        let addresses = match attempt::addresses(&self.core.dns, &target.provider, timeouts.connect).await {
            Ok(addresses) => addresses,
            Err(fault) => return failed(fault),
        };
        let (mut at, mut resent) = (0, false);
        loop {
            let attempted = self.try_address(target, lease, message, addresses[at], timeouts).await;
            match &attempted.outcome {
                Outcome::Failed(_) if attempted.resend && !resent => resent = true,
                Outcome::Failed(fault) if fault.kind == FaultKind::Connect && at + 1 < addresses.len() => at += 1,
                _ => return attempted,
            }
        }
    }

    async fn try_address(
        &mut self,
        target: &Target,
        lease: &Lease,
        message: &Message,
        address: SocketAddr,
        timeouts: Timeouts,
    ) -> Attempted {
        let outgoing = Outgoing {
            target,
            key: lease.key(),
            stream: self.envelope.stream,
            body_len: message.body.len(),
            headers: &message.headers,
            address,
            timeouts,
        };
        let (prepared, handle, report) = match attempt::prepare(self.session, &outgoing) {
            Ok(prepared) => prepared,
            Err(fault) => {
                return Attempted { outcome: Outcome::Failed(fault), status: None, first_output: None, resend: false };
            }
        };
        let translator = Translator::new(self.setup(target, message));
        let rules = Rules {
            gate: &self.snapshot.gate,
            timeouts,
            deadline: self.deadline,
            last: self.at + 1 == self.plan.targets.len(),
            stream: self.envelope.stream,
        };
        let client = &mut *self.client;
        let mut relay = Relay::new(self.session, client, self.core, target, translator, rules);
        let outcome = relay.run(prepared, handle, message.body.clone(), &report).await;
        let (status, first_output) = (relay.status(), relay.first_output());
        let observed = relay.translator().observed();
        let usage = observed.usage;
        if matches!(outcome, Outcome::Served | Outcome::Broken(_) | Outcome::Cut(_) | Outcome::Gone) {
            self.client.record.usage = usage;
            self.client.record.cost = usage.and_then(|usage| target.model.prices.cost(&usage));
        }
        Attempted { outcome, status, first_output, resend: is_stale(&report, status) }
    }

    fn setup(&self, target: &Target, message: &Message) -> Setup {
        Setup {
            provider: target.provider.dialect,
            stream: self.envelope.stream,
            include_usage: self.envelope.include_usage,
            exclude_reasoning: self.envelope.exclude_reasoning,
            id: format!("chatcmpl-{}", self.client.record.id.hex()),
            created: self.client.created(),
            model: target.model.upstream.to_string(),
            answer_tool: message.answer_tool.clone(),
            quirks: target.provider.quirks,
        }
    }

    async fn render(&mut self, target: &Target) -> Result<Message, Fault> {
        let provider = &target.provider;
        if provider.dialect == Dialect::OpenAiChat {
            let body = self.envelope.passthrough_body(&target.model.upstream, provider.quirks);
            return Ok(Message { body: body.into(), headers: Vec::new(), dropped: Vec::new(), answer_tool: None });
        }
        if self.request.is_none() {
            self.request = Some(openai_chat::request::parse(self.envelope.body())?);
        }
        let traits = target.model.traits(self.plan.require_parameters);
        let fetches = !traits.media_urls && self.snapshot.media.fetch_remote;
        let Some(request) = &mut self.request else { return Err(Fault::new(FaultKind::Internal, "no request")) };
        if fetches && media::has_remote(request) {
            media::fetch_all(request, &self.snapshot.media).await?;
        }
        let rendered = provider.dialect.render(request, &traits)?;
        Ok(Message {
            body: rendered.body.into(),
            headers: rendered.headers,
            dropped: rendered.dropped,
            answer_tool: rendered.answer_tool,
        })
    }

    /// Keeps the books of an attempt that is over and says what follows.
    fn settle(&mut self, target: &Target, lease: &mut Lease, begun: Instant, attempted: Attempted) -> Result<Next, Stop> {
        match attempted.outcome {
            Outcome::Served => {
                self.healthy(target, lease, true, attempted.first_output);
                self.note_key(target, lease, KeyOutcome::Good);
                let record = self.record_of(target, lease.key_name(), begun);
                self.push(AttemptRecord { status: attempted.status, ..record });
                self.client.record.ended = Ended::Complete;
                Ok(Next::Served)
            }
            Outcome::Gone => {
                self.core.targets.abandon(&target.provider.id, &target.model.upstream, Instant::now());
                let record = self.record_of(target, lease.key_name(), begun);
                let verdict = Ended::ClientGone.name();
                self.push(AttemptRecord { status: attempted.status, reason: Some(verdict), verdict, ..record });
                self.client.record.ended = Ended::ClientGone;
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
            Outcome::Refused(refusal) => {
                let fault = self.classify(target, &refusal);
                self.judge(target, lease, begun, fault, attempted.status)
            }
            Outcome::Failed(fault) if self.client.record.ended == Ended::Shutdown => {
                let record = self.record_of(target, lease.key_name(), begun);
                let verdict = Ended::Shutdown.name();
                self.push(AttemptRecord { verdict, ..self.with_fault(record, &fault, attempted.status) });
                Err(shutting_down().into())
            }
            Outcome::Failed(fault) => self.judge(target, lease, begun, fault, attempted.status),
        }
    }

    fn classify(&self, target: &Target, refusal: &Refusal) -> Fault {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let header = |name: &str| refusal.headers.get(name).and_then(|value| value.to_str().ok());
        let unix_ms = u64::try_from(now).unwrap_or(u64::MAX);
        classify(target.provider.dialect, refusal.status, header, &refusal.body, unix_ms)
    }

    fn after_commit(&mut self, target: &Target, lease: &mut Lease, begun: Instant, status: Option<u16>, fault: &Fault) {
        if self.client.record.ended != Ended::Shutdown {
            self.healthy(target, lease, false, None);
            self.client.record.ended = Ended::Broken;
        }
        self.note_key(target, lease, KeyOutcome::of(fault.kind, fault.retry_after));
        self.client.record.error_code = Some(fault.kind.name().to_owned());
        let record = self.record_of(target, lease.key_name(), begun);
        self.push(AttemptRecord { verdict: "broken", ..self.with_fault(record, fault, status) });
    }

    /// An attempt failed before anything was sent: notes it everywhere and carries out the verdict.
    fn judge(
        &mut self,
        target: &Target,
        lease: &mut Lease,
        begun: Instant,
        fault: Fault,
        status: Option<u16>,
    ) -> Result<Next, Stop> {
        let fault = self.redacted(fault);
        self.last_fault = Some(fault.clone());
        if fault.kind.counts_against_health() {
            self.healthy(target, lease, false, None);
        } else if status.is_some() {
            // The target answered, if only to refuse: it is well.
            self.healthy(target, lease, true, None);
        }
        self.note_key(target, lease, KeyOutcome::of(fault.kind, fault.retry_after));
        self.tried_keys.push(lease.key_name());
        if fault.kind == FaultKind::ModelNotFound && self.at + 1 == self.plan.targets.len() {
            self.plan.add_successors();
        }
        let verdict = self.verdict(target, lease, &fault);
        let record = self.record_of(target, lease.key_name(), begun);
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
            Verdict::NextModel => Ok(Next::Go(self.plan.next_leg(self.at).unwrap_or(self.plan.targets.len()))),
            Verdict::Reject if byok => Err(ApiError::of_byok(&fault).into()),
            Verdict::Reject => Err(self.final_error(&fault).into()),
            Verdict::Alert => {
                log::error!("{} at {}: {}", fault.kind.name(), target.provider.id, fault.message);
                Err(ApiError::from_last_fault(&fault).into())
            }
        }
    }

    fn verdict(&self, target: &Target, lease: &Lease, fault: &Fault) -> Verdict {
        let now = Instant::now();
        let retry = &self.snapshot.retry;
        let (provider, policy) = (&target.provider, breaker_policy(&self.snapshot));
        let open = |gate| matches!(gate, Gate::Refuse { .. });
        // A target whose breaker has just opened is not asked again.
        let well = !open(self.core.targets.peek(&provider.id, &target.model.upstream, policy, now));
        let left = RouteLeft {
            retry_max: if well { self.plan.retry_max } else { 0 },
            key: self.core.pool.any_ready(&provider.id, &provider.keys, &self.tried_keys, now),
            provider: self.plan.has_next_provider(self.at),
            model: self.plan.next_leg(self.at).is_some(),
        };
        let mut progress = Progress {
            retries: self.retries,
            retry_affordable: true,
            time_left: self.deadline.saturating_duration_since(now),
            backoff: backoff::delay(retry.base, retry.cap, self.retries, fastrand::f64()),
            backoff_cap: retry.cap,
            byok: lease.is_byok(),
        };
        let verdict = triage(fault, &progress, &left);
        if matches!(verdict, Verdict::RetrySame { .. }) && !self.core.retry_budget.lock().withdraw() {
            progress.retry_affordable = false;
            return triage(fault, &progress, &left);
        }
        verdict
    }

    fn healthy(&self, target: &Target, lease: &Lease, well: bool, first_output: Option<Duration>) {
        let (provider, model) = (&target.provider.id, &target.model.upstream);
        let now = Instant::now();
        // What happens with a client's own key says little about ours; only a probe's place must be given back.
        if lease.is_byok() {
            return self.core.targets.abandon(provider, model, now);
        }
        let policy = breaker_policy(&self.snapshot);
        match self.core.targets.report(provider, model, well, first_output, policy, now) {
            Some(Change::Opened) => {
                let why = self.last_reason();
                self.core.telemetry.state_change(StateChange::ProviderUnhealthy { provider, model, why });
            }
            Some(Change::Closed) => {
                self.core.telemetry.state_change(StateChange::ProviderRecovered { provider, model });
            }
            None => {}
        }
    }

    fn last_reason(&self) -> &'static str {
        self.last_fault.as_ref().map_or("", |fault| fault.kind.name())
    }

    fn note_key(&self, target: &Target, lease: &mut Lease, outcome: KeyOutcome) {
        let Some(state) = lease.give_back(outcome) else { return };
        let (provider, key, why) = (&*target.provider.id, &*lease.key_name(), self.last_reason());
        self.core.telemetry.state_change(match state {
            KeyState::Cooldown { left } => StateChange::KeyCooldown { provider, key, rest: left, why },
            KeyState::Exhausted { left } => StateChange::KeyExhausted { provider, key, rest: left, why },
            KeyState::Disabled => StateChange::KeyDisabled { provider, key, why },
            KeyState::Ready { .. } => StateChange::KeyIdle { provider, key },
        });
    }

    fn failover(&self, from: &Target, to: usize) {
        if let Some((_, to)) = self.plan.targets.get(to) {
            self.core.telemetry.state_change(StateChange::Failover {
                request: self.client.record.id,
                from: &from.model.id,
                to: &to.model.id,
                reason: self.last_reason(),
                after: self.client.started.elapsed(),
            });
        }
    }

    fn record_of(&self, target: &Target, key_name: Arc<str>, begun: Instant) -> AttemptRecord {
        AttemptRecord {
            provider: target.provider.id.clone(),
            model: target.model.upstream.clone(),
            key_name,
            started: begun.duration_since(self.client.started),
            took: begun.elapsed(),
            status: None,
            reason: None,
            message: None,
            verdict: "ok",
        }
    }

    fn with_fault(&self, record: AttemptRecord, fault: &Fault, status: Option<u16>) -> AttemptRecord {
        let message = self.redacted(fault.clone()).message.into_owned();
        AttemptRecord { status: status.or(fault.status), reason: Some(fault.kind.name()), message: Some(message), ..record }
    }

    /// A fault as it may be shown: a provider may repeat any key in any of its texts, the client's own too.
    fn redacted(&self, fault: Fault) -> Fault {
        let own = self.envelope.extensions.byok.as_ref().map(Byok::secrets).unwrap_or_default();
        let clean = |text: &str| self.core.telemetry.redactor.redact_with(text, &own).into_owned();
        Fault {
            message: clean(&fault.message).into(),
            error_type: fault.error_type.as_deref().map(clean),
            code: fault.code.as_deref().map(clean),
            param: fault.param.as_deref().map(clean),
            ..fault
        }
    }

    fn push(&mut self, mut attempt: AttemptRecord) {
        if attempt.reason.is_some() {
            // It is shown to the client, who may have put a key where the model's name belongs.
            if let Cow::Owned(shown) = self.core.telemetry.redactor.redact(&attempt.model) {
                attempt.model = shown.into();
            }
            self.core.telemetry.attempt_failed(self.client.record.id, self.attempt_number(), &attempt);
        }
        self.client.record.attempts.push(attempt);
    }

    /// The number of the attempt that is being made, from 1.
    fn attempt_number(&self) -> u32 {
        u32::try_from(self.client.record.attempt_count() + 1).unwrap_or(u32::MAX)
    }

    /// Waits before the next try, and notices a client that hangs up and a gateway that ends meanwhile.
    async fn pause(&mut self, after: Duration) -> Result<(), Stop> {
        if after.is_zero() {
            return Ok(());
        }
        let mut phase = self.core.phase.subscribe();
        let ending = async move { phase.wait_for(|phase| *phase == Phase::Ending).await.is_ok() };
        tokio::select! {
            () = tokio::time::sleep(after) => Ok(()),
            _ = self.session.downstream_session.read_body_or_idle(true) => {
                self.client.record.ended = Ended::ClientGone;
                Err(Stop::Gone)
            }
            true = ending => {
                self.client.record.ended = Ended::Shutdown;
                Err(shutting_down().into())
            }
        }
    }

    /// What the client is told when the last target of the plan was passed over.
    fn exhausted(&self) -> ApiError {
        match &self.last_fault {
            Some(fault) => self.final_error(fault),
            None => {
                let reasons = || self.client.record.attempts.iter().filter_map(|attempt| attempt.reason);
                let limited = reasons().all(|reason| reason == "no_key_ready") && self.ready_in.is_some();
                let (reason, message) = if limited {
                    (Reason::RateLimited, "every key of every target is rate limited or out of quota")
                } else {
                    (Reason::AllTargetsDown, "no target can be asked now: their breakers are open or their keys are not usable")
                };
                ApiError::new(reason, message).retry_after(self.ready_in.unwrap_or_default())
            }
        }
    }

    fn final_error(&self, fault: &Fault) -> ApiError {
        let error = ApiError::from_last_fault(fault);
        match (error.retry_after, self.ready_in) {
            (Some(wait), Some(ready_in)) if fault.retry_after.is_none() => error.retry_after(wait.max(ready_in)),
            _ => error,
        }
    }

    fn out_of_time(&self) -> ApiError {
        let message = format!("no target answered within {:.1} s", self.plan.total.as_secs_f64());
        ApiError::from_last_fault(&Fault::new(FaultKind::Timeout(Clock::Total), message))
    }
}

fn shutting_down() -> ApiError {
    ApiError::new(Reason::ShuttingDown, "the gateway is shutting down")
}

/// What follows from an attempt.
enum Next {
    /// The request is over.
    Served,
    /// The same target again.
    Stay { after: Duration },
    /// The target at this place of the plan.
    Go(usize),
}

/// A reused connection that broke before a single byte of an answer had gone stale in the pool.
fn is_stale(report: &Report, status: Option<u16>) -> bool {
    report.reused() && status.is_none()
}
