//! The walk through the plan: lease a key, make an attempt, and do what triage says when that fails.
//!
//! ```text
//!   target 0 ──RetrySame──> target 0 ──NextKey──> target 0, key 2 ──NextProvider──> target 1 ──NextModel──> target 3 … Reject
//! ```
//!
//! What follows from an attempt is in [`super::triage`], what is written down about it in [`super::books`].

use super::attempt::{self, Outgoing};
use super::bill::{note_usage, rate};
use super::budget::Funds;
use super::core::{ClientCtx, Core, Phase, Stop, breaker_policy};
use super::error::{ApiError, Reason};
use super::exchange::{RESENDS, exchange, exchanges};
use super::lane::{Lane, Taken};
use super::lease::{Lease, Wanted};
use super::media;
use super::message::{Message, passed_headers, passed_query};
use super::names::Target;
use super::plan::Plan;
use super::queue::{Busy, Place, Slot};
use super::quota::{BYTES_A_TOKEN, Quota};
use super::relay::{Outcome, Relay, Rules};
use super::taping;
use super::work::batches;
use crate::config::snapshot::{CacheBackend, Snapshot, Timeouts};
use crate::dialect::chat;
use crate::dialect::openai_chat::envelope::Envelope;
use crate::dialect::openai_responses::asked::Asked as ResponseAsked;
use crate::dialect::openai_responses::envelope::is_noted;
use crate::dialect::own_names::own_names;
use crate::dialect::relay::rerank;
use crate::dialect::table::{Setup, Translator};
use crate::dialect::work::Work;
use crate::domain::record::SKIPPED;
use crate::domain::{AttemptRecord, Ended, Fault, FaultKind, KeyId, RateLimits, Secret};
use crate::routing::breaker::Gate;
use crate::store::ports::live::Ask;
use pingora::protocols::http::ServerSession as Session;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request on its way through its plan.
pub(super) struct Walk<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) session: &'a mut Session,
    pub(super) client: &'a mut ClientCtx,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) envelope: &'a Envelope,
    pub(super) plan: Plan,
    /// The hub's form of the request, parsed when the first target needs it.
    pub(super) request: Option<chat::Request>,
    /// What the answer has to know of it besides.
    pub(super) asked: Option<Arc<ResponseAsked>>,
    pub(super) at: usize,
    pub(super) retries: u32,
    pub(super) tried_keys: Vec<KeyId>,
    pub(super) deadline: Instant,
    pub(super) last_fault: Option<Fault>,
    /// The last fault that may be gone the next time, and the place in the plan where it happened.
    pub(super) passing_fault: Option<(usize, Fault)>,
    /// The attempt is the one that a half-open breaker lets through.
    pub(super) is_probe: bool,
    /// The place at the provider that is being asked, where it has only so many.
    pub(super) slot: Option<Slot>,
    /// A second target was asked, or would have been but for the budget: once is enough.
    pub(super) hedged: bool,
    /// The shortest wait after which a target that was passed over may serve again.
    pub(super) ready_in: Option<Duration>,
    /// What it knows about targets that take no more requests at once.
    pub(super) busy: Busy,
}

/// An attempt that is over.
pub(super) struct Attempted {
    pub(super) outcome: Outcome,
    pub(super) status: Option<u16>,
    pub(super) first_output: Option<Duration>,
    /// What the provider told of the key's limits.
    pub(super) limits: RateLimits,
    pub(super) resend: bool,
    /// When it was over.
    pub(super) ended: Instant,
}

impl Attempted {
    /// An attempt that came to nothing before any answer.
    fn failed(fault: Fault) -> Self {
        let (status, first_output, limits) = (None, None, RateLimits::default());
        let ended = Instant::now();
        Self { outcome: Outcome::Failed(fault), status, first_output, limits, resend: false, ended }
    }
}

/// Reserves what a request takes of its limits and budgets, unless that is done.
///
/// # Errors
/// 429 when a limit does not allow it, 402 when a budget does not.
pub(super) async fn reserve(
    core: &Core,
    client: &mut ClientCtx,
    envelope: &Envelope,
    plan: &Plan,
) -> Result<(), ApiError> {
    if client.quota.is_none() && Quota::is_wanted(client) {
        client.quota = Quota::reserve(core, client, envelope, plan).await?;
    }
    if client.funds.is_none() && Funds::is_wanted(client, envelope) {
        // Rare and large, so it is kept out of the future of every request.
        client.funds = Box::pin(Funds::reserve(core, client, envelope, plan)).await?;
    }
    Ok(())
}

/// Serves a request by a provider: what it takes of its limits is reserved, and its plan is walked.
///
/// # Errors
/// 429 when a limit does not allow it, or what the walk ends in.
pub(super) async fn serve(
    core: &Arc<Core>,
    session: &mut Session,
    client: &mut ClientCtx,
    envelope: &Envelope,
    plan: Plan,
) -> Result<(), Stop> {
    reserve(core, client, envelope, &plan).await?;
    // Boxed, because a future is as large as the largest of its states, and is moved when it begins: every request would pay for
    // this one.
    Box::pin(Walk::new(core, session, client, envelope, plan).run()).await
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
        if let Some(hedging) = snapshot.hedging {
            core.hedge_budget.lock().deposit(hedging.budget);
        }
        client.record.strategy = plan.strategy.name();
        Self {
            core,
            session,
            client,
            snapshot,
            envelope,
            plan,
            request: None,
            asked: None,
            at: 0,
            retries: 0,
            tried_keys: Vec::new(),
            deadline,
            last_fault: None,
            passing_fault: None,
            is_probe: false,
            slot: None,
            hedged: false,
            ready_in: None,
            busy: Busy::default(),
        }
    }

    /// Tries targets until one has served.
    ///
    /// # Errors
    /// What the client is told when none has, or that it is gone, or that its answer is cut.
    pub(super) async fn run(&mut self) -> Result<(), Stop> {
        loop {
            let Some((leg, target)) = self.plan.targets.get(self.at).cloned() else {
                if let Some(at) = self.last_resort() {
                    self.at = at;
                    self.start_target();
                    continue;
                }
                return Err(self.exhausted().into());
            };
            self.client.record.provider = Some(target.provider.id.clone());
            self.client.record.model = Some(target.model.upstream.clone());
            self.client.record.fallback = self.at > 0 || leg > 0;
            if let Some(recorder) = &mut self.client.recorder {
                recorder.is_fallback = leg > 0;
            }
            let now = Instant::now();
            if now >= self.deadline {
                return Err(self.out_of_time().into());
            }
            // The place at the last target is free before the next one is asked for.
            self.slot = None;
            let Place::Held { slot, since } = self.place(&target, now).await? else {
                self.pass_over();
                continue;
            };
            self.slot = slot;
            let Some(lease) = self.lease(&target, since) else {
                self.pass_over();
                continue;
            };
            match self.attempt(&target, lease, since).await? {
                Next::Served => return Ok(()),
                Next::Stay { after } => {
                    self.slot = None;
                    self.pause(after).await?;
                }
                Next::Go(at) => {
                    // All others have been tried before it waited for this one.
                    let at = if self.busy.insists { self.plan.targets.len() } else { at };
                    self.failover(&target, at);
                    self.at = at;
                    self.start_target();
                }
            }
        }
    }

    fn pass_over(&mut self) {
        self.at = if self.busy.insists { self.plan.targets.len() } else { self.at + 1 };
        self.start_target();
    }

    pub(super) fn start_target(&mut self) {
        self.retries = 0;
        self.tried_keys.clear();
    }

    /// A key for the target, unless its breaker is open or no key is ready; then it is passed over.
    fn lease(&mut self, target: &Target, now: Instant) -> Option<Lease> {
        if self.is_denied(self.at) {
            self.skip(target, "byok_only", None);
            return None;
        }
        let (provider, model) = (&target.provider.id, &target.model.upstream);
        let policy = breaker_policy(&self.snapshot);
        let gate = self.core.targets.enter(provider, model, policy, now);
        if let Gate::Refuse { retry_after } = gate {
            self.skip(target, "breaker_open", Some(retry_after));
            return None;
        }
        self.is_probe = gate == Gate::Probe;
        let others = self.keys_beside_owners(target);
        let wanted = |tried| Wanted {
            target,
            byok: self.own_key(target),
            tried,
            tokens: target.tokens_wanted(self.envelope),
            deadline: self.deadline,
        };
        let mut leased = Lease::take(self.core, wanted(others.as_deref().unwrap_or(&self.tried_keys)), now);
        if leased.is_err() && others.is_some() {
            leased = Lease::take(self.core, wanted(&self.tried_keys), now);
        }
        match leased {
            Ok(lease) => {
                self.note_revival(target, &lease);
                Some(lease)
            }
            Err(none) => {
                self.abandon(target);
                self.skip(target, "no_key_ready", none.ready_in);
                None
            }
        }
    }

    /// How many tokens an attempt took, where that is known.
    pub(super) fn tokens_used(&self, attempted: &Attempted) -> Option<u64> {
        match attempted.outcome {
            Outcome::Refused(_) | Outcome::Failed(_) => Some(0),
            _ => {
                // Where it was not counted: its input, and what came of its output.
                let written = self.client.output_bytes.div_ceil(BYTES_A_TOKEN);
                let estimate = self.envelope.estimated_input_tokens.saturating_add(written);
                Some(self.client.record.usage.map_or(estimate, |usage| usage.total_tokens))
            }
        }
    }

    /// Whether no target after this place can be asked now: then the first output of the one there may take the rest of the time.
    pub(super) fn is_last(&self, at: usize, now: Instant) -> bool {
        self.busy.passed.is_none() && !(at + 1..self.plan.targets.len()).any(|at| self.is_ready(at, now))
    }

    /// Whether nothing but a place at its provider keeps the target from being asked.
    pub(super) fn is_ready(&self, at: usize, now: Instant) -> bool {
        let Some((_, target)) = self.plan.targets.get(at) else { return false };
        let provider = &target.provider;
        let gate = self.core.targets.peek(&provider.id, &target.model.upstream, breaker_policy(&self.snapshot), now);
        !matches!(gate, Gate::Refuse { .. })
            && !self.is_denied(at)
            && (provider.keys.is_empty()
                || self.own_key(target).is_some()
                || self.core.pool.any_ready(&self.ask(target, &[]), now))
    }

    /// What the pool is asked for a target.
    pub(super) fn ask<'t>(&self, target: &'t Target, tried: &'t [KeyId]) -> Ask<'t> {
        Ask {
            provider: &target.provider.id,
            keys: &target.provider.keys,
            tried,
            tokens: target.tokens_wanted(self.envelope),
        }
    }

    pub(super) fn skip(&mut self, target: &Target, reason: &'static str, ready_in: Option<Duration>) {
        self.ready_in = match (self.ready_in, ready_in) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let now = Instant::now();
        let record = self.record_of(target, "none".into(), now, now);
        self.push(AttemptRecord { reason: Some(reason), verdict: SKIPPED, ..record });
    }

    async fn attempt(&mut self, target: &Target, mut lease: Lease, begun: Instant) -> Result<Next, Stop> {
        let (number, key) = (self.attempt_number(), lease.key_name());
        let (provider, model) = (&target.provider.id, &target.model.upstream);
        self.core.telemetry.attempt_begins(&self.client.record, number, provider, model, &key);
        self.client.entry.trying = Some((begun, key));
        let message = match self.render(target).await {
            Ok(message) => message,
            Err(fault) => {
                // What this target's format cannot say, another's may.
                let kind = if fault.kind == FaultKind::BadRequest { FaultKind::Unsupported } else { fault.kind };
                return self.judge(target, &mut lease, begun, Fault { kind, ..fault }, None);
            }
        };
        self.client.record.dropped = unused(&self.snapshot, self.envelope, &self.plan);
        self.client.record.dropped.extend(message.dropped.iter().cloned());
        let attempted = self.send(target, &mut lease, &message).await;
        self.client.waited += attempted.ended.saturating_duration_since(begun);
        lease.heard(self.tokens_used(&attempted), attempted.limits);
        self.settle(target, &mut lease, begun, attempted)
    }

    /// Sends the request to the target's addresses in turn until one takes it. A connection that was reused and had gone stale, and an
    /// address that nobody listens at while there is another, are no faults of the attempt.
    async fn send(&mut self, target: &Target, lease: &mut Lease, message: &Message) -> Attempted {
        let timeouts = target.provider.timeouts.unwrap_or(self.snapshot.timeouts);
        let addresses = match attempt::addresses(&self.core.dns, &target.provider, timeouts.connect).await {
            Ok(addresses) => addresses,
            Err(fault) => return Attempted::failed(fault),
        };
        let limit = timeouts.first_output.min(self.deadline.saturating_duration_since(Instant::now()));
        let token = match self.core.tokens.of_key(&target.provider, lease.key(), limit).await {
            Ok(token) => token,
            Err(fault) => return Attempted::failed(fault),
        };
        let (mut at, mut resent) = (0, 0);
        loop {
            let attempted = self.try_address(target, lease, message, addresses[at], timeouts, token.as_ref()).await;
            if attempted.status == Some(401)
                && let (Some(_), Some(key)) = (&token, lease.key())
            {
                self.core.tokens.forget(&key.secret);
            }
            match &attempted.outcome {
                Outcome::Failed(_) if attempted.resend && resent < RESENDS => resent += 1,
                Outcome::Failed(fault) if fault.kind == FaultKind::Connect && at + 1 < addresses.len() => at += 1,
                _ => return attempted,
            }
        }
    }

    async fn try_address(
        &mut self,
        target: &Target,
        lease: &mut Lease,
        message: &Message,
        address: SocketAddr,
        timeouts: Timeouts,
        token: Option<&Secret>,
    ) -> Attempted {
        let outgoing = Outgoing {
            target,
            key: lease.key(),
            stream: self.envelope.stream,
            path: &message.path,
            body: &message.body,
            token,
            headers: &message.headers,
            address,
            timeouts,
        };
        let head = match attempt::head(&outgoing) {
            Ok(head) => head,
            Err(fault) => return Attempted::failed(fault),
        };
        let peer = attempt::peer(&outgoing);
        let translator = self.translator(target, message);
        let now = Instant::now();
        let last = self.is_last(self.at, now);
        let mut lane = Lane::new(target, translator, &self.snapshot.gate, timeouts, now)
            .streamed(self.envelope.streams_at_once())
            .last(last)
            .asked(self.asked_with(target, lease));
        let (core, dialect, body) = (self.core, target.dialect(), message.body.clone());
        let late = self.late_after(target).filter(|_| message.more.is_empty());
        let tape = taping::attempt(self.client, self.attempt_number(), target, lease);
        let outcome = match late {
            None if !message.more.is_empty() => {
                let requests = match batches(&outgoing, head, message) {
                    Ok(requests) => requests,
                    Err(fault) => return Attempted::failed(fault),
                };
                let mut exchange = Box::pin(exchanges(&core.connections, &peer, dialect, requests, tape));
                Box::pin(self.relay(&mut lane).run(Taken::More, exchange.as_mut())).await
            }
            None => {
                // Pinned here: as an argument it would be copied.
                let exchange = pin!(exchange(&core.connections, &peer, dialect, head, body, tape));
                self.relay(&mut lane).run(Taken::More, exchange).await
            }
            Some(late) => {
                let exchange = pin!(Some(exchange(&core.connections, &peer, dialect, head, body, tape)));
                self.run_hedged(target, lease, &mut lane, exchange, late).await
            }
        };
        self.take_stock(target, lease, &lane, outcome)
    }

    /// The client's side of an attempt.
    pub(super) fn relay<'s, 'l>(&'s mut self, lane: &'s mut Lane<'l>) -> Relay<'s, 'l> {
        let rules = Rules {
            gate: &self.snapshot.gate,
            deadline: self.deadline,
            stream: self.envelope.stream,
            content_type: self.envelope.content_type(),
            relays: matches!(self.envelope.work, Work::Relay(_)),
            keeps: self.envelope.keep.then_some(self.envelope),
            notes_owner: is_noted(self.envelope),
            probe: (self.is_probe && !self.has_own_keys()).then(|| breaker_policy(&self.snapshot)),
            byok: self.envelope.extensions.byok.as_ref(),
        };
        Relay::new(self.session, self.client, self.core, rules, lane)
    }

    /// What an attempt came to, and what it says about the request and the target.
    pub(super) fn take_stock(
        &mut self,
        target: &Target,
        lease: &Lease,
        lane: &Lane<'_>,
        outcome: Outcome,
    ) -> Attempted {
        let (status, limits, stream, ended) = (lane.status, lane.limits, self.envelope.stream, Instant::now());
        let took = ended.saturating_duration_since(lane.begun);
        let observed = lane.translator.observed();
        if matches!(outcome, Outcome::Served | Outcome::Broken(_) | Outcome::Cut(_) | Outcome::Gone) {
            note_usage(self.client, lane, matches!(outcome, Outcome::Served));
        }
        self.book_too_slow(lease, lane, &outcome);
        let rate = observed.usage.and_then(|usage| rate(stream, usage.completion_tokens, took, lane.first_output));
        if matches!(outcome, Outcome::Served) && !lease.is_byok() {
            let (provider, model) = (&target.provider.id, &target.model.upstream);
            if let Some(rate) = rate {
                self.core.targets.note_rate(provider, model, rate);
            }
            if let (Some(wait), true) = (lane.first_output, self.snapshot.hedging.is_some()) {
                self.core.targets.note_wait(provider, model, stream, wait);
            }
        }
        // Of a whole answer the rate says all; the time of its first output would be that of its length.
        let first_output = lane.first_output.filter(|_| stream || rate.is_none());
        let resend = lane.resend && self.client.record.ended != Ended::Shutdown;
        Attempted { outcome, status, first_output, limits, resend, ended }
    }

    /// What makes an answer of the target's the client's.
    pub(super) fn translator(&self, target: &Target, message: &Message) -> Translator {
        match &message.vectors {
            Some(expected) => Translator::embedding(expected.as_ref().clone()),
            None if matches!(self.envelope.work, Work::Relay(_)) => {
                Translator::relaying(rerank::wanted(self.envelope, target.provider.quirks))
            }
            None if self.envelope.counts_tokens => Translator::counting(self.envelope.client),
            None => Translator::new(self.setup(target, message)),
        }
    }

    fn setup(&self, target: &Target, message: &Message) -> Setup {
        Setup {
            client: self.envelope.client,
            provider: target.dialect(),
            stream: self.envelope.stream,
            array: self.envelope.array,
            choices: self.envelope.n.map_or(1, |n| u32::try_from(n).unwrap_or(u32::MAX)),
            include_usage: self.envelope.include_usage,
            exclude_reasoning: self.envelope.exclude_reasoning,
            input_tokens: self.envelope.estimated_input_tokens,
            id: self.envelope.client.answer_id(&self.client.record.id.hex()).into(),
            created: self.client.created(),
            model: target.model.upstream.clone(),
            answer_tool: message.answer_tool.clone(),
            quirks: target.quirks(self.envelope.client, &self.snapshot.catalog),
            asked: self.asked.clone(),
        }
    }

    pub(super) async fn render(&mut self, target: &Target) -> Result<Message, Fault> {
        if self.envelope.work != Work::Converse {
            return self.render_work(target);
        }
        let (provider, dialect) = (&target.provider, target.dialect());
        let (model, counts) = (&target.model.upstream, self.envelope.counts_tokens);
        let path =
            if counts { dialect.counting_path(model) } else { provider.path(&target.model, self.envelope.stream) };
        if target.speaks(self.envelope.client, &self.snapshot.catalog) {
            let path = provider.path_of(self.envelope.client, &target.model).unwrap_or(path);
            let body = target.passed_body(self.envelope);
            let body = if counts { dialect.counting_body(model, body) } else { body };
            let head = self.session.req_header();
            let headers = passed_headers(self.envelope.client, &head.headers);
            // A cloud's own paths have their own queries.
            let query = passed_query(self.envelope.client, head.uri.query());
            let (path, body) = match &provider.cloud {
                Some(cloud) => (path, cloud.body(dialect, body)),
                None => (path + query, body),
            };
            return Ok(Message { headers, ..Message::new(path, body) });
        }
        if self.request.is_none() {
            let (request, asked) = self.envelope.client.read(self.envelope)?;
            (self.request, self.asked) = (Some(request), asked);
        }
        let mut traits = target.model.traits(self.plan.require_parameters);
        traits.media_urls &= dialect.takes_media_urls();
        traits.quirks = provider.quirks;
        let fetches = !traits.media_urls && self.snapshot.media.fetch_remote;
        let Some(request) = &mut self.request else { return Err(Fault::new(FaultKind::Internal, "no request")) };
        if fetches && media::has_remote(request) {
            // Rare and large, so it is kept out of the future of every request.
            Box::pin(media::fetch_all(request, &self.snapshot.media)).await?;
        }
        let rendered = dialect.render(request, &traits)?;
        let body = match &provider.cloud {
            Some(cloud) => cloud.body(dialect, rendered.body),
            None => rendered.body,
        };
        let body = if counts { dialect.counting_body(model, body) } else { body };
        let (headers, answer_tool) = (rendered.headers, rendered.answer_tool);
        let dropped = own_names(self.envelope.client, rendered.dropped);
        Ok(Message { headers, dropped, answer_tool, ..Message::new(path, body) })
    }

    /// Waits before the next try, and notices a client that hangs up and a gateway that ends meanwhile.
    async fn pause(&mut self, after: Duration) -> Result<(), Stop> {
        if after.is_zero() {
            return Ok(());
        }
        let mut phase = self.core.phase.subscribe();
        let ending = async move { phase.wait_for(|phase| *phase == Phase::Ending).await.is_ok() };
        self.client.waited += after;
        tokio::select! {
            () = tokio::time::sleep(after) => Ok(()),
            _ = self.session.read_body_or_idle(true) => {
                self.client.record.ended = Ended::ClientGone;
                Err(Stop::Gone)
            }
            true = ending => {
                self.client.record.ended = Ended::Shutdown;
                Err(shutting_down().into())
            }
        }
    }
}

/// What a request names and nobody acts on, whoever serves it.
pub(super) fn unused(snapshot: &Snapshot, envelope: &Envelope, plan: &Plan) -> Vec<String> {
    let caches = snapshot.cache.backend != CacheBackend::Off;
    let compares = snapshot.cache.semantic.is_some();
    let ignored = envelope.extensions.without_effect(caches, compares).map(str::to_owned);
    ignored.chain(plan.unusable.iter().cloned()).collect()
}

pub(super) fn shutting_down() -> ApiError {
    ApiError::new(Reason::ShuttingDown, "the gateway is shutting down")
}

/// What follows from an attempt.
pub(super) enum Next {
    /// The request is over.
    Served,
    /// The same target again.
    Stay { after: Duration },
    /// The target at this place of the plan.
    Go(usize),
}
