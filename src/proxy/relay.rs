//! The relay of one attempt: it holds the answer back until there is real output, runs the clocks, and notices a client that hangs up.
//!
//! ```text
//!              head < 400               output, or gate.max_bytes / max_wait                    complete
//!   Waiting ─────────────> Held ──────────────────────────────────────────> Committed ───────────────────────> Served
//!      │                    │                                                   │
//!      │ head ≥ 400         │ any fault: nothing was sent                       │ any fault: told in-band, or cut
//!      ▼                    ▼                                                   ▼
//!   Refused ────────────> Failed                                            Broken / Cut
//! ```
//!
//! What comes from the provider goes through a [`Lane`]; this file is about the client. The timer is set anew when it goes off too early or
//! a clock that runs out earlier has begun to run: a piece that only moves the deadlines away does not touch it. Nothing is written to the
//! client inside the `select!`, so that no arm starves while a slow client reads.

use super::bill::note_usage;
use super::books::redacted;
use super::cache::now_unix_ms;
use super::core::{ClientCtx, Core, Phase};
use super::exchange::{Broken, Piece};
use super::hedge::Handed;
use super::lane::{Lane, Refusal, State, Taken};
use super::ledger;
use super::respond::{self, Framing, Unwritten};
use super::responses;
use super::taping;
use crate::config::snapshot::Gate;
use crate::dialect::extensions::Byok;
use crate::dialect::openai_chat::envelope::Envelope;
use crate::domain::{Clock, Ended, Fault, FaultKind};
use crate::routing::breaker::{Change, Policy};
use crate::telemetry::StateChange;
use bytes::Bytes;
use futures::future::FutureExt;
use futures::stream::{Stream, StreamExt};
use pingora::protocols::http::ServerSession as Session;
use std::pin::{Pin, pin};
use std::time::Instant;
use tokio::time::sleep_until;

/// How an attempt ended.
pub(super) enum Outcome {
    /// The client has the whole answer.
    Served,
    /// Nothing was sent to the client.
    Failed(Fault),
    /// The provider refused with this head and body; nothing was sent to the client.
    Refused(Refusal),
    /// The answer had begun; the client was told in-band.
    Broken(Fault),
    /// The answer had begun and the client could not be told.
    Cut(Fault),
    /// The client hung up.
    Gone,
    /// Another target's attempt has taken over.
    Handed(Box<Handed>),
}

/// What one turn of the loop brought.
enum Turn {
    Piece(Option<Result<Piece, Broken>>),
    ClientGone,
    Timer,
    Shutdown,
}

/// What follows from it.
enum Step {
    GoOn,
    End(Outcome),
}

/// The rules of an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) gate: &'a Gate,
    /// When the client's whole request is over.
    pub(super) deadline: Instant,
    pub(super) stream: bool,
    /// The media type of the answer.
    pub(super) content_type: &'static str,
    /// What the answer is, its provider says: it passes as it is.
    pub(super) relays: bool,
    /// The request whose answer is kept.
    pub(super) keeps: Option<&'a Envelope>,
    /// Who keeps the answer is noted, where its provider does.
    pub(super) notes_owner: bool,
    /// The attempt is the one that a half-open breaker lets through: its first output is enough to let others through.
    pub(super) probe: Option<Policy>,
    /// The client's own keys, which no text may repeat.
    pub(super) byok: Option<&'a Byok>,
}

/// The relay of one attempt.
pub(super) struct Relay<'a, 'l> {
    pub(super) session: &'a mut Session,
    pub(super) client: &'a mut ClientCtx,
    pub(super) core: &'a Core,
    pub(super) rules: Rules<'a>,
    pub(super) lane: &'a mut Lane<'l>,
    last_write: Instant,
    /// It is noted, or need not be, who keeps the answer.
    is_owned: bool,
}

impl<'a, 'l> Relay<'a, 'l> {
    pub(super) fn new(
        session: &'a mut Session,
        client: &'a mut ClientCtx,
        core: &'a Core,
        rules: Rules<'a>,
        lane: &'a mut Lane<'l>,
    ) -> Self {
        let is_owned = !rules.notes_owner;
        let last_write = lane.last_piece;
        Self { session, client, core, rules, lane, last_write, is_owned }
    }

    /// Runs the attempt to its end; `begin` is what the lane has led to already.
    pub(super) async fn run(
        &mut self,
        begin: Taken,
        mut exchange: Pin<&mut (impl Stream<Item = Result<Piece, Broken>> + ?Sized)>,
    ) -> Outcome {
        let mut phase = self.core.phase.subscribe();
        let mut ending = pin!(async move { phase.wait_for(|phase| *phase == Phase::Ending).await.is_ok() });
        let mut timer = pin!(sleep_until(self.wake_at().into()));
        let mut step = self.follow(begin).await;
        loop {
            if let Step::End(outcome) = step {
                if self.lane.ended {
                    // Nothing more is to come; polled once more, the exchange gives its connection back.
                    let _ = exchange.next().now_or_never();
                }
                return outcome;
            }
            // A new state may have an earlier clock, such as `gate.max_wait` once the head is there.
            let wake_at = self.wake_at().into();
            if timer.is_elapsed() || wake_at < timer.deadline() {
                timer.as_mut().reset(wake_at);
            }
            // Not biased: a provider that always has something ready must not keep the clocks and the client from being looked at.
            let turn = tokio::select! {
                piece = exchange.next() => Turn::Piece(piece),
                _ = self.session.read_body_or_idle(true) => Turn::ClientGone,
                () = &mut timer => Turn::Timer,
                true = &mut ending => Turn::Shutdown,
            };
            step = match turn {
                Turn::Piece(piece) => {
                    let taken = self.lane.pieces(piece, exchange.as_mut());
                    self.follow(taken).await
                }
                Turn::ClientGone => Step::End(Outcome::Gone),
                Turn::Timer => self.timer().await,
                Turn::Shutdown => {
                    self.client.record.ended = Ended::Shutdown;
                    Step::End(self.fail(ended_by_shutdown()).await)
                }
            };
        }
    }

    /// Gives the client what came of pieces.
    async fn follow(&mut self, taken: Taken) -> Step {
        if matches!(taken, Taken::Flow | Taken::Complete) {
            self.note_owner().await;
        }
        match taken {
            Taken::More => Step::GoOn,
            Taken::Flow if self.lane.is_committed() => self.write(false).await,
            Taken::Flow => self.commit().await,
            Taken::Complete => {
                if let Some(envelope) = self.rules.keeps
                    && let Some(response) = self.lane.translator.response()
                {
                    responses::keep(self.core, self.client, envelope, response).await;
                }
                Step::End(self.complete().await)
            }
            Taken::Refused(refusal) => Step::End(Outcome::Refused(refusal)),
            Taken::Fault(fault) => Step::End(self.fail(fault).await),
        }
    }

    /// Notes who keeps the answer, before the client hears its id.
    async fn note_owner(&mut self) {
        if !self.is_owned {
            self.is_owned = responses::note_owner(self.core, self.client, self.lane).await;
        }
    }

    /// Sends the head and everything that was held back.
    async fn commit(&mut self) -> Step {
        // A timer may commit what nothing has followed yet.
        self.note_owner().await;
        if let Err(step) = self.write_head(Framing::Stream).await {
            return step;
        }
        self.lane.state = State::Committed;
        self.recovered();
        if self.lane.out.is_empty() { Step::GoOn } else { self.write(false).await }
    }

    /// A probe has succeeded when there is output: nobody else has to wait for the end of what may be a long answer.
    fn recovered(&self) {
        let Some(policy) = self.rules.probe else { return };
        let (provider, model) = (&self.lane.target.provider.id, &self.lane.target.model.upstream);
        let first_output = self.lane.first_output;
        let change = self.core.targets.report(provider, model, true, first_output, policy, Instant::now());
        if change == Some(Change::Closed) {
            self.core.telemetry.state_change(StateChange::ProviderRecovered { provider, model });
        }
    }

    async fn write_head(&mut self, framing: Framing) -> Result<(), Step> {
        let content_type =
            if self.rules.stream && !self.is_stream() { "application/json" } else { self.rules.content_type };
        let mut head = respond::head(self.session, self.client, 200, content_type, framing);
        if let Some(own) = self.lane.content_type.as_ref().filter(|_| self.rules.relays) {
            head.put_value(&http::header::CONTENT_TYPE, own.clone());
        }
        respond::put_routing(&mut head, self.client, Some(self.lane.target));
        self.client.record.status = 200;
        self.client.record.ttft = Some(self.client.started.elapsed());
        if self.rules.stream {
            let record = &self.client.record;
            let number = u32::try_from(record.attempt_count() + 1).unwrap_or(u32::MAX);
            let (provider, model) = (&self.lane.target.provider.id, &self.lane.target.model.upstream);
            self.core.telemetry.streaming(record, number, provider, model, record.ttft.unwrap_or_default());
        }
        taping::answered(self.client, &head);
        let written = respond::accepted(self.core, self.session.write_response_header(head.into())).await;
        written.map_err(|why| Step::End(self.unwritten(why)))
    }

    /// Takes what is there for the client. Small pieces are copied into one allocation of their own size, so that the buffer is used again.
    fn take_out(&mut self) -> Bytes {
        const SMALL: usize = 16 * 1024;
        if self.lane.out.len() > SMALL {
            return Bytes::from(std::mem::take(&mut self.lane.out));
        }
        let bytes = Bytes::copy_from_slice(&self.lane.out);
        self.lane.out.clear();
        bytes
    }

    /// Writes what is there.
    async fn write(&mut self, end: bool) -> Step {
        let bytes = self.take_out();
        if let Some(recorder) = &mut self.client.recorder {
            recorder.tape.take_down(&bytes);
        }
        self.send(bytes, end).await
    }

    async fn send(&mut self, bytes: Bytes, end: bool) -> Step {
        taping::answer(self.client, &bytes);
        match respond::accepted(self.core, self.session.write_response_body(bytes, end)).await {
            Ok(()) => {
                self.last_write = Instant::now();
                // While the client was slow nobody looked at the provider.
                self.lane.last_piece = self.last_write;
                Step::GoOn
            }
            Err(why) => Step::End(self.unwritten(why)),
        }
    }

    fn unwritten(&mut self, why: Unwritten) -> Outcome {
        if why == Unwritten::Shutdown {
            self.client.record.ended = Ended::Shutdown;
        }
        Outcome::Gone
    }

    /// The answer is complete: sends what is left and ends the client's response.
    async fn complete(&mut self) -> Outcome {
        if self.client.recorder.is_some() {
            // What is kept is kept without the room that it grew into.
            self.lane.out.shrink_to_fit();
        }
        let last = self.take_out();
        if let Some(recorder) = self.client.recorder.take() {
            let filtered = self.lane.translator.observed().filtered;
            recorder.complete(&last, filtered, &self.client.record, now_unix_ms()).await;
        }
        if !self.lane.is_committed() {
            let framing = if self.rules.stream { Framing::Stream } else { Framing::Length(last.len()) };
            if let Err(Step::End(outcome)) = self.write_head(framing).await {
                return outcome;
            }
        }
        note_usage(self.client, self.lane, true);
        ledger::seal_served(self.session, self.client, self.lane, last.len());
        match self.send(last, true).await {
            Step::End(outcome) => outcome,
            Step::GoOn => Outcome::Served,
        }
    }

    /// The answer is not to be completed. Before the commit that is a matter between the gateway and its targets; afterwards the client has
    /// to be told: in-band in a stream, by a broken connection where there is no such way.
    async fn fail(&mut self, fault: Fault) -> Outcome {
        if !self.lane.is_committed() {
            return Outcome::Failed(fault);
        }
        if !self.is_stream() {
            return Outcome::Cut(fault);
        }
        let shown = redacted(self.core, self.rules.byok, fault.clone());
        self.lane.translator.break_off(&shown, &mut self.lane.out);
        match self.write(true).await {
            Step::End(outcome) => outcome,
            Step::GoOn => Outcome::Broken(fault),
        }
    }

    /// A timer went off: whichever clock has run out says what follows.
    async fn timer(&mut self) -> Step {
        let now = Instant::now();
        if now >= self.rules.deadline {
            return self.expire(Clock::Total).await;
        }
        if self.lane.fault_at().is_some_and(|(at, _)| now >= at) {
            let clock = self.lane.fault_at().map_or(Clock::Idle, |(_, clock)| clock);
            return self.expire(clock).await;
        }
        if self.commit_at().is_some_and(|at| now >= at) {
            return self.commit().await;
        }
        if self.keepalive_at().is_some_and(|at| now >= at) {
            if let Step::End(outcome) = if self.lane.is_committed() { Step::GoOn } else { self.commit().await } {
                return Step::End(outcome);
            }
            self.lane.out.extend_from_slice(self.client.dialect.keepalive());
            // No part of the answer.
            let recorder = self.client.recorder.take();
            let step = self.write(false).await;
            self.client.recorder = recorder;
            return step;
        }
        Step::GoOn
    }

    async fn expire(&mut self, clock: Clock) -> Step {
        let taken = self.lane.expire(clock, self.client.started.elapsed());
        self.follow(taken).await
    }

    /// Whether the client gets events, among which there is a place for comments and for what goes wrong.
    fn is_stream(&self) -> bool {
        if !self.rules.relays {
            return self.rules.stream;
        }
        self.lane.content_type.as_ref().is_some_and(|own| own.as_bytes().starts_with(b"text/event-stream"))
    }

    fn commit_at(&self) -> Option<Instant> {
        let holds = matches!(self.lane.state, State::Held) && self.rules.stream;
        self.rules.gate.max_wait.filter(|_| holds).map(|wait| self.lane.begun + wait)
    }

    fn keepalive_at(&self) -> Option<Instant> {
        let gate = self.rules.gate;
        let allowed = self.lane.is_committed() || (gate.keepalive_before_commit && !self.rules.relays);
        (self.is_stream() && allowed && !gate.keepalive.is_zero()).then(|| self.last_write + gate.keepalive)
    }

    fn wake_at(&self) -> Instant {
        let fault = self.lane.fault_at().map(|(at, _)| at);
        let others = [fault, self.commit_at(), self.keepalive_at()].into_iter().flatten();
        others.fold(self.rules.deadline, Instant::min)
    }
}

/// The fault of an attempt that the gateway's own end has cut short.
pub(super) fn ended_by_shutdown() -> Fault {
    let code = Some("shutting_down".to_owned());
    Fault { code, ..Fault::new(FaultKind::Reset, "the gateway is shutting down") }
}
