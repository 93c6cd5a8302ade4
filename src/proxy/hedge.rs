//! Hedging (`[hedging]`): when the first output of an attempt is late, the next target is asked too; whose output comes first serves.
//!
//! ```text
//!   one lane ──┬── output, a fault ─────────────────────────────────────────> as without hedging
//!              │
//!              └── late, and affordable ──> two lanes ─┬─ the first has output ──> the second is cancelled
//!                                                      ├─ the second has output ─> the first is cancelled; Outcome::Handed
//!                                                      ├─ one of them fails ─────> the other goes on alone
//!                                                      └─ both fail ─────────────> the first is judged, and the walk goes on from it
//! ```
//!
//! Both are in the record and in the books of their keys. Nothing is written to the client before it is decided, so this is not for gates
//! that commit before there is output.

use super::attempt::{self, Outgoing};
use super::bill::likely;
use super::core::{Phase, breaker_policy};
use super::exchange::{Broken, Piece, RESENDS, exchange};
use super::lane::{Lane, Taken};
use super::lease::{Lease, Wanted};
use super::message::Message;
use super::names::Target;
use super::queue::Slot;
use super::relay::{Outcome, ended_by_shutdown};
use super::taping;
use super::walk::{Attempted, Walk, unused};
use crate::config::snapshot::Timeouts;
use crate::dialect::work::Work;
use crate::domain::{AttemptRecord, Clock, Ended, FaultKind, Money, Usage, Verdict};
use crate::routing::breaker::Gate;
use crate::store::ports::live::KeyOutcome;
use async_stream::try_stream;
use futures::future::FutureExt;
use futures::stream::{Stream, StreamExt};
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};
use tokio::time::sleep_until;

/// [`AttemptRecord::verdict`] of an attempt that was cancelled because another target's output came first.
const OVERTAKEN: &str = "overtaken";

pub(super) type Pieces<'a> = Pin<Box<dyn Stream<Item = Result<Piece, Broken>> + Send + 'a>>;

/// The target that is asked beside the first.
struct Second {
    at: usize,
    target: Target,
    lease: Lease,
    slot: Option<Slot>,
    message: Message,
    timeouts: Timeouts,
}

/// An attempt that was taken over by the target asked beside it.
pub(super) struct Handed {
    pub(super) target: Target,
    pub(super) lease: Lease,
    pub(super) begun: Instant,
    pub(super) attempted: Attempted,
}

/// What a race led to.
enum Raced {
    First(Taken),
    Second(Taken),
    /// The time until which there was to be a result.
    Late,
    Gone,
    Shutdown,
}

impl Taken {
    /// Whether there is something for the client.
    fn is_output(&self) -> bool {
        matches!(self, Self::Flow | Self::Complete)
    }

    /// The outcome of an attempt that came to nothing.
    fn into_outcome(self) -> Outcome {
        match self {
            Self::Refused(refusal) => Outcome::Refused(refusal),
            Self::Fault(fault) => Outcome::Failed(fault),
            Self::More | Self::Flow | Self::Complete => Outcome::Gone,
        }
    }
}

impl Walk<'_> {
    /// When an attempt at the target is late; `None` when no other is to be asked then.
    pub(super) fn late_after(&self, target: &Target) -> Option<Duration> {
        let (hedging, gate) = (self.snapshot.hedging?, &self.snapshot.gate);
        // A picture that is asked for twice is paid for twice, and late by itself. What goes on in the background is cancelled by nobody.
        if matches!(self.envelope.work, Work::Relay(_)) || self.envelope.background {
            return None;
        }
        let early = self.envelope.stream && (gate.max_wait.is_some() || gate.keepalive_before_commit);
        if self.hedged || early || self.is_probe || self.has_own_keys() {
            return None;
        }
        let (provider, model) = (&target.provider.id, &target.model.upstream);
        let usual = self.core.targets.usual_wait(provider, model, self.envelope.stream, hedging.quantile)?;
        Some(usual.max(hedging.min_delay))
    }

    /// Runs an attempt, and another one beside it once it is late. The exchange can be taken out of its place, so that it ends when another
    /// serves.
    pub(super) async fn run_hedged(
        &mut self,
        target: &Target,
        lease: &mut Lease,
        lane: &mut Lane<'_>,
        mut exchange: Pin<&mut Option<impl Stream<Item = Result<Piece, Broken>> + Send>>,
        late: Duration,
    ) -> Outcome {
        let until = lane.begun + late;
        let Some(mut running) = exchange.as_mut().as_pin_mut() else { return Outcome::Gone };
        match self.race(lane, running.as_mut(), None, until).await {
            Raced::First(taken) => self.relay(lane).run(taken, running).await,
            // Few are late, so what that takes is kept out of the future of every request.
            Raced::Late | Raced::Second(_) => Box::pin(self.run_beside(target, lease, lane, exchange)).await,
            over => self.over(over),
        }
    }

    /// Goes on with an attempt that is late, and another one beside it.
    async fn run_beside(
        &mut self,
        target: &Target,
        lease: &mut Lease,
        lane: &mut Lane<'_>,
        mut exchange: Pin<&mut Option<impl Stream<Item = Result<Piece, Broken>> + Send>>,
    ) -> Outcome {
        let Some(mut running) = exchange.as_mut().as_pin_mut() else { return Outcome::Gone };
        let Some(mut second) = self.second() else {
            return self.relay(lane).run(Taken::More, running).await;
        };
        let number = self.attempt_number() + 1;
        let (provider, model) = (&second.target.provider.id, &second.target.model.upstream);
        let key = second.lease.key_name();
        self.core.telemetry.attempt_begins(&self.client.record, number, provider, model, &key);
        let beside = second.target.clone();
        let translator = self.translator(&beside, &second.message);
        let now = Instant::now();
        let last = self.is_last(second.at, now);
        let mut other = Lane::new(&beside, translator, &self.snapshot.gate, second.timeouts, now)
            .streamed(self.envelope.stream)
            .last(last)
            .asked(self.asked_with(&beside, &second.lease));
        let mut pieces = self.pieces_of(&second);
        let raced = self.race(lane, running.as_mut(), Some((&mut other, &mut pieces)), self.deadline).await;
        match raced {
            Raced::First(taken) if taken.is_output() => {
                self.core.telemetry.metrics.hedged("lost");
                self.overtaken(&mut second.lease, &other);
                drop((pieces, second));
                self.relay(lane).run(taken, running).await
            }
            Raced::Second(taken) if taken.is_output() => {
                self.core.telemetry.metrics.hedged("won");
                exchange.set(None);
                self.overtaken(lease, lane);
                let (provider, model) = (&target.provider.id, &target.model.upstream);
                self.core.targets.note_wait(provider, model, self.envelope.stream, lane.begun.elapsed());
                self.hand_over(second, &mut other, pieces, taken).await
            }
            Raced::First(failed) => {
                exchange.set(None);
                match self.race(&mut other, pieces.as_mut(), None, self.deadline).await {
                    Raced::First(taken) if taken.is_output() => {
                        self.core.telemetry.metrics.hedged("won");
                        self.failed_beside(lease, lane, failed);
                        self.hand_over(second, &mut other, pieces, taken).await
                    }
                    Raced::First(taken) | Raced::Second(taken) => {
                        self.core.telemetry.metrics.hedged("failed");
                        self.failed_beside(&mut second.lease, &other, taken);
                        // The walk goes on as if nobody had been asked beside: with another key, or wherever the verdict leads.
                        failed.into_outcome()
                    }
                    over => self.over_beside(over, &mut second.lease, &other),
                }
            }
            Raced::Second(taken) => {
                self.core.telemetry.metrics.hedged("failed");
                self.failed_beside(&mut second.lease, &other, taken);
                drop((pieces, second));
                self.relay(lane).run(Taken::More, running).await
            }
            over => self.over_beside(over, &mut second.lease, &other),
        }
    }

    /// The next target of the plan that can be asked at once, with all that asking it takes.
    fn second(&mut self) -> Option<Second> {
        let now = Instant::now();
        let free = |at: &usize| {
            let (_, target) = &self.plan.targets[*at];
            let (provider, model) = (&target.provider.id, &target.model.upstream);
            let policy = breaker_policy(&self.snapshot);
            self.is_ready(*at, now)
                && matches!(self.core.targets.peek(provider, model, policy, now), Gate::Pass)
                && self.has_place(target)
        };
        let at = (self.at + 1..self.plan.targets.len()).find(free)?;
        self.hedged = true;
        if !self.core.hedge_budget.lock().withdraw() {
            self.core.telemetry.metrics.hedged("refused");
            return None;
        }
        let target = self.plan.targets[at].1.clone();
        let slot = self.place_now(&target)?;
        // What has to be fetched first comes too late to help.
        let message = self.render(&target).now_or_never()?.ok().filter(|message| message.more.is_empty())?;
        // Counts it among the targets that are known.
        self.core.targets.enter(&target.provider.id, &target.model.upstream, breaker_policy(&self.snapshot), now);
        let wanted = Wanted {
            target: &target,
            byok: None,
            tried: &[],
            tokens: target.tokens_wanted(self.envelope),
            deadline: self.deadline,
        };
        let lease = Lease::take(self.core, wanted, now).ok()?;
        let timeouts = target.provider.timeouts.unwrap_or(self.snapshot.timeouts);
        Some(Second { at, target, lease, slot, message, timeouts })
    }

    /// The exchange with the second target. It is boxed: there are few.
    fn pieces_of(&self, second: &Second) -> Pieces<'static> {
        let core = self.core.clone();
        let (target, timeouts, stream) = (second.target.clone(), second.timeouts, self.envelope.stream);
        let (path, body) = (second.message.path.clone(), second.message.body.clone());
        let headers = second.message.headers.clone();
        let key = second.lease.shared_key();
        let tape = taping::attempt(self.client, self.attempt_number() + 1, &second.target, &second.lease);
        Box::pin(try_stream! {
            let failed = |fault| Broken { fault, resend: false };
            let addresses = attempt::addresses(&core.dns, &target.provider, timeouts.connect).await.map_err(failed)?;
            let token = core.tokens.of_key(&target.provider, key.as_deref(), timeouts.first_output).await.map_err(failed)?;
            let (mut at, mut resent) = (0, 0);
            // As in `Walk::send`: a stale connection and an address that nobody listens at are no faults.
            'addresses: loop {
                let outgoing = Outgoing {
                    target: &target,
                    key: key.as_deref(),
                    stream,
                    path: &path,
                    body: &body,
                    token: token.as_ref(),
                    headers: &headers,
                    address: addresses[at],
                    timeouts,
                };
                let head = attempt::head(&outgoing).map_err(failed)?;
                let peer = attempt::peer(&outgoing);
                let mut pieces = pin!(exchange(&core.connections, &peer, target.dialect(), head, body.clone(), tape.clone()));
                while let Some(piece) = pieces.next().await {
                    match piece {
                        Err(broken) if broken.resend && resent < RESENDS => {
                            resent += 1;
                            continue 'addresses;
                        }
                        Err(broken) if broken.fault.kind == FaultKind::Connect && at + 1 < addresses.len() => {
                            at += 1;
                            continue 'addresses;
                        }
                        piece => yield piece?,
                    }
                }
                break;
            }
        })
    }

    /// Takes pieces from both until one of them leads to anything.
    async fn race(
        &mut self,
        first: &mut Lane<'_>,
        mut exchange: Pin<&mut (impl Stream<Item = Result<Piece, Broken>> + ?Sized)>,
        mut second: Option<(&mut Lane<'_>, &mut Pieces<'_>)>,
        until: Instant,
    ) -> Raced {
        let mut phase = self.core.phase.subscribe();
        let mut ending = pin!(async move { phase.wait_for(|phase| *phase == Phase::Ending).await.is_ok() });
        let mut timer = pin!(sleep_until(until.into()));
        loop {
            let clock_of = |lane: &Lane<'_>| lane.fault_at().map_or(self.deadline, |(at, _)| at.min(self.deadline));
            let wake = [Some(&*first), second.as_ref().map(|(lane, _)| &**lane)].into_iter().flatten().map(clock_of);
            let wake = wake.fold(until, Instant::min).into();
            if timer.is_elapsed() || wake < timer.deadline() {
                timer.as_mut().reset(wake);
            }
            let from_second = async {
                match &mut second {
                    Some((_, pieces)) => pieces.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                piece = exchange.next() => match first.pieces(piece, exchange.as_mut()) {
                    Taken::More => {}
                    taken => return Raced::First(taken),
                },
                piece = from_second => if let Some((lane, pieces)) = &mut second {
                    match lane.pieces(piece, pieces.as_mut()) {
                        Taken::More => {}
                        taken => return Raced::Second(taken),
                    }
                },
                _ = self.session.read_body_or_idle(true) => return Raced::Gone,
                () = &mut timer => {
                    let (now, total) = (Instant::now(), self.client.started.elapsed());
                    if now >= self.deadline {
                        return Raced::First(first.expire(Clock::Total, total));
                    }
                    if let Some((_, clock)) = first.fault_at().filter(|(at, _)| now >= *at) {
                        return Raced::First(first.expire(clock, total));
                    }
                    if let Some((lane, _)) = &mut second
                        && let Some((_, clock)) = lane.fault_at().filter(|(at, _)| now >= *at)
                    {
                        return Raced::Second(lane.expire(clock, total));
                    }
                    if now >= until {
                        return Raced::Late;
                    }
                }
                true = &mut ending => return Raced::Shutdown,
            }
        }
    }

    /// The second target's attempt goes on alone, and the walk with it.
    async fn hand_over(
        &mut self,
        second: Second,
        lane: &mut Lane<'_>,
        mut pieces: Pieces<'_>,
        taken: Taken,
    ) -> Outcome {
        let Second { at, target, lease, slot, message, .. } = second;
        self.at = at;
        self.slot = slot;
        if let Some(recorder) = &mut self.client.recorder {
            recorder.is_fallback = self.plan.targets[at].0 > 0;
        }
        self.is_probe = false;
        self.start_target();
        let record = &mut self.client.record;
        record.provider = Some(target.provider.id.clone());
        record.model = Some(target.model.upstream.clone());
        record.fallback = true;
        record.dropped = unused(&self.snapshot, self.envelope, &self.plan);
        record.dropped.extend(message.dropped);
        self.client.entry.trying = Some((lane.begun, lease.key_name()));
        let outcome = self.relay(lane).run(taken, pieces.as_mut()).await;
        let attempted = self.take_stock(&target, &lease, lane, outcome);
        Outcome::Handed(Box::new(Handed { target, lease, begun: lane.begun, attempted }))
    }

    /// Neither has anything to say any more.
    fn over(&mut self, raced: Raced) -> Outcome {
        match raced {
            Raced::Shutdown => {
                self.client.record.ended = Ended::Shutdown;
                Outcome::Failed(ended_by_shutdown())
            }
            _ => Outcome::Gone,
        }
    }

    fn over_beside(&mut self, raced: Raced, lease: &mut Lease, lane: &Lane<'_>) -> Outcome {
        self.overtaken(lease, lane);
        self.over(raced)
    }

    /// The books of an attempt that was cancelled: what it is likely to cost, and that it was.
    fn overtaken(&mut self, lease: &mut Lease, lane: &Lane<'_>) {
        let target = lane.target;
        let usage = lane.translator.observed().usage.filter(Usage::is_plausible);
        let tokens = usage.map_or(self.envelope.estimated_input_tokens, |usage| usage.total_tokens);
        lease.heard(Some(tokens), lane.limits);
        self.book_untaken(lease, lane);
        let now = Instant::now();
        self.note_key(target, lease, KeyOutcome::Unknown, now);
        let record = self.record_of(target, lease.key_name(), lane.begun, now);
        self.push(AttemptRecord { status: lane.status, verdict: OVERTAKEN, ..record });
    }

    /// Books what an answer is likely to cost that had begun and that nobody takes.
    fn book_untaken(&mut self, lease: &Lease, lane: &Lane<'_>) {
        let usage = lane.translator.observed().usage.filter(Usage::is_plausible);
        let input = self.envelope.estimated_input_tokens;
        let cost = likely(&self.snapshot, &lane.target.model, self.envelope.work, usage, input);
        // A key of the client's own pays for itself.
        if let Some(cost) = cost.filter(|_| !lease.is_byok()) {
            *self.client.record.hedge_cost.get_or_insert(Money::ZERO) += cost;
        }
    }

    /// Books what an attempt is likely to cost that was given up because its output came too slowly.
    pub(super) fn book_too_slow(&mut self, lease: &Lease, lane: &Lane<'_>, outcome: &Outcome) {
        if matches!(outcome, Outcome::Failed(fault) if fault.kind == FaultKind::Timeout(Clock::Throughput)) {
            self.book_untaken(lease, lane);
        }
    }

    /// The books of an attempt that failed beside another: nothing follows from it.
    fn failed_beside(&mut self, lease: &mut Lease, lane: &Lane<'_>, taken: Taken) {
        let target = lane.target;
        let fault = match taken {
            Taken::Refused(refusal) => self.classify(target, &refusal),
            Taken::Fault(fault) => fault,
            Taken::More | Taken::Flow | Taken::Complete => return,
        };
        lease.heard(Some(0), lane.limits);
        // What the walk knows of its own place is about another target.
        let (tried_keys, passing_fault) = (self.tried_keys.clone(), self.passing_fault.clone());
        let fault = self.book(target, lease, lane.begun, fault, lane.status);
        (self.tried_keys, self.passing_fault) = (tried_keys, passing_fault);
        let record = self.record_of(target, lease.key_name(), lane.begun, Instant::now());
        let verdict = Verdict::NextProvider.name();
        self.push(AttemptRecord { verdict, ..self.with_fault(record, &fault, lane.status) });
    }
}
