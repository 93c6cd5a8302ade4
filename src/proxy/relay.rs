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
//! The timer is set anew when it goes off too early or a clock that runs out earlier has begun to run: a piece that only moves the
//! deadlines away does not touch it. Nothing is written to the client inside the `select!`, so that no arm starves while a slow client reads.

use super::books::redacted;
use super::core::{ClientCtx, Core, Phase};
use super::exchange::{Broken, Piece};
use super::names::Target;
use super::respond::{self, Framing, WRITE_TIMEOUT};
use super::responses;
use crate::config::snapshot::{Gate, Timeouts};
use crate::dialect::event::End;
use crate::dialect::extensions::Byok;
use crate::dialect::openai_chat::envelope::Envelope;
use crate::dialect::table::Translator;
use crate::domain::{Clock, Ended, Fault, FaultKind};
use bytes::Bytes;
use futures::future::FutureExt;
use futures::stream::{Stream, StreamExt};
use pingora::proxy::Session;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};
use tokio::time::{sleep_until, timeout};

/// Pieces that are there already are written together, but no more than about this many bytes.
const BATCH: usize = 256 * 1024;
/// An error body is read up to here: its message stands at the beginning.
const MAX_ERROR_BODY: usize = 256 * 1024;
/// A translated answer that is not streamed is held whole, whatever `gate.max_bytes` says; this bounds it.
const MAX_WHOLE_ANSWER: usize = 64 * 1024 * 1024;

/// How an attempt ended.
#[derive(Debug)]
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
}

/// A provider's answer with an error status.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Waiting,
    Refused(Refusal),
    Held,
    Committed,
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
    pub(super) timeouts: Timeouts,
    /// When the client's whole request is over.
    pub(super) deadline: Instant,
    /// Nothing else is left to try: the first output may take the rest of the time.
    pub(super) last: bool,
    pub(super) stream: bool,
    /// The request whose answer is kept.
    pub(super) keeps: Option<&'a Envelope>,
    /// The client's own keys, which no text may repeat.
    pub(super) byok: Option<&'a Byok>,
}

/// The relay of one attempt.
pub(super) struct Relay<'a> {
    session: &'a mut Session,
    client: &'a mut ClientCtx,
    target: &'a Target,
    core: &'a Core,
    rules: Rules<'a>,
    translator: Translator,
    state: State,
    /// What the client has not got yet.
    out: Vec<u8>,
    /// HTTP says that the provider's answer is complete.
    ended: bool,
    begun: Instant,
    last_piece: Instant,
    last_write: Instant,
    /// From the start of the attempt to the first output.
    first_output: Option<Duration>,
    /// The provider's status, once its head is there.
    status: Option<u16>,
    /// The exchange broke off in a way that allows for sending the request once more.
    resend: bool,
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        session: &'a mut Session,
        client: &'a mut ClientCtx,
        core: &'a Core,
        target: &'a Target,
        translator: Translator,
        rules: Rules<'a>,
    ) -> Self {
        let now = Instant::now();
        Self {
            session,
            client,
            target,
            core,
            rules,
            translator,
            state: State::Waiting,
            out: Vec::new(),
            ended: false,
            begun: now,
            last_piece: now,
            last_write: now,
            first_output: None,
            status: None,
            resend: false,
        }
    }

    /// From the start of the attempt to the first output.
    pub(super) fn first_output(&self) -> Option<Duration> {
        self.first_output
    }

    /// The provider's status, once its head was there.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether the request may be sent once more, because the provider cannot have begun to answer it.
    pub(super) fn resend(&self) -> bool {
        self.resend
    }

    /// The translator with all that it observed.
    pub(super) fn translator(&self) -> &Translator {
        &self.translator
    }

    /// Runs the attempt to its end.
    pub(super) async fn run(&mut self, mut exchange: Pin<&mut impl Stream<Item = Result<Piece, Broken>>>) -> Outcome {
        let mut phase = self.core.phase.subscribe();
        let mut ending = pin!(async move { phase.wait_for(|phase| *phase == Phase::Ending).await.is_ok() });
        let mut timer = pin!(sleep_until(self.wake_at().into()));
        loop {
            // Not biased: a provider that always has something ready must not keep the clocks and the client from being looked at.
            let turn = tokio::select! {
                piece = exchange.next() => Turn::Piece(piece),
                _ = self.session.downstream_session.read_body_or_idle(true) => Turn::ClientGone,
                () = &mut timer => Turn::Timer,
                true = &mut ending => Turn::Shutdown,
            };
            let step = match turn {
                Turn::Piece(piece) => self.pieces(piece, exchange.as_mut()).await,
                Turn::ClientGone => Step::End(Outcome::Gone),
                Turn::Timer => self.timer().await,
                Turn::Shutdown => {
                    let code = Some("shutting_down".to_owned());
                    let fault = Fault { code, ..Fault::new(FaultKind::Reset, "the gateway is shutting down") };
                    self.client.record.ended = Ended::Shutdown;
                    Step::End(self.fail(fault).await)
                }
            };
            match step {
                Step::End(outcome) => return outcome,
                Step::GoOn => {
                    // A new state may have an earlier clock, such as `gate.max_wait` once the head is there.
                    let wake_at = self.wake_at().into();
                    if timer.is_elapsed() || wake_at < timer.deadline() {
                        timer.as_mut().reset(wake_at);
                    }
                }
            }
        }
    }

    /// Takes a piece and whatever else is there already, so that pieces which came together are written together.
    async fn pieces(
        &mut self,
        first: Option<Result<Piece, Broken>>,
        mut exchange: Pin<&mut impl Stream<Item = Result<Piece, Broken>>>,
    ) -> Step {
        self.last_piece = Instant::now();
        let (mut next, mut room) = (first, BATCH);
        while let Some(piece) = next {
            room = room.saturating_sub(piece.as_ref().map_or(0, Piece::len));
            let taken = match piece {
                Ok(piece) => self.piece(piece),
                Err(broken) => {
                    self.resend = broken.resend;
                    Err(broken.fault)
                }
            };
            if let Err(fault) = taken {
                return self.broken_off(fault).await;
            }
            if self.ended {
                let step = self.finished().await;
                // Nothing more is to come; polled once more, the exchange gives its connection back.
                let _ = exchange.next().now_or_never();
                return step;
            }
            if room == 0 {
                return self.progress().await;
            }
            match exchange.next().now_or_never() {
                Some(piece) => next = piece,
                None => return self.progress().await,
            }
        }
        self.finished().await
    }

    /// The provider's answer is over.
    async fn finished(&mut self) -> Step {
        if let State::Refused(refusal) = &mut self.state {
            return Step::End(Outcome::Refused(std::mem::take(refusal)));
        }
        match self.translator.finish(End::Clean, &mut self.out) {
            Ok(()) => {
                if let Some(envelope) = self.rules.keeps
                    && let Some(response) = self.translator.response()
                {
                    responses::keep(self.core, self.client, envelope, response).await;
                }
                Step::End(self.complete().await)
            }
            Err(fault) => Step::End(self.fail(fault).await),
        }
    }

    /// The exchange broke off, or brought what is no answer.
    async fn broken_off(&mut self, fault: Fault) -> Step {
        // The words of a refusal that broke off are lost, its status is not.
        if let State::Refused(refusal) = &mut self.state {
            return Step::End(Outcome::Refused(std::mem::take(refusal)));
        }
        Step::End(self.fail(fault).await)
    }

    fn piece(&mut self, piece: Piece) -> Result<(), Fault> {
        match piece {
            Piece::Head { status, headers, last } => {
                self.status = Some(status);
                self.ended = last;
                if matches!(self.state, State::Committed) {
                    // Keepalives have given the 200 away already.
                    let refused =
                        || Fault::new(FaultKind::ServerError, format!("the provider answered with status {status}"));
                    return if status >= 300 { Err(refused()) } else { Ok(()) };
                }
                if status >= 300 {
                    self.state = State::Refused(Refusal { status, headers, body: Vec::new() });
                } else if is_encoded(&headers) {
                    return Err(Fault::malformed("the provider compressed its answer although it was asked not to"));
                } else {
                    self.state = State::Held;
                }
                Ok(())
            }
            Piece::Body { bytes, last } => {
                self.ended = last;
                match &mut self.state {
                    State::Refused(refusal) => {
                        let room = MAX_ERROR_BODY.saturating_sub(refusal.body.len());
                        refusal.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
                        self.ended |= bytes.len() >= room;
                        Ok(())
                    }
                    _ => self.translator.push(&bytes, &mut self.out),
                }
            }
        }
    }

    /// Opens the gate when there is output, and passes on what is there.
    async fn progress(&mut self) -> Step {
        if self.first_output.is_none() && self.translator.observed().output {
            self.first_output = Some(self.begun.elapsed());
        }
        if matches!(self.state, State::Held) {
            let held = self.translator.held_bytes();
            if held > self.rules.gate.max_bytes && self.translator.let_flow(&mut self.out) {
                return self.commit().await;
            }
            if held > MAX_WHOLE_ANSWER {
                return Step::End(Outcome::Failed(Fault::malformed("the provider's answer is larger than 64 MiB")));
            }
            let output = self.rules.stream && self.translator.observed().output;
            if output || self.out.len() > self.rules.gate.max_bytes {
                return self.commit().await;
            }
            return Step::GoOn;
        }
        if self.out.is_empty() || !matches!(self.state, State::Committed) {
            return Step::GoOn;
        }
        self.write(false).await
    }

    /// Sends the head and everything that was held back.
    async fn commit(&mut self) -> Step {
        if let Err(step) = self.write_head(Framing::Stream).await {
            return step;
        }
        self.state = State::Committed;
        if self.out.is_empty() { Step::GoOn } else { self.write(false).await }
    }

    async fn write_head(&mut self, framing: Framing) -> Result<(), Step> {
        let content_type = if self.rules.stream { "text/event-stream" } else { "application/json" };
        let mut head = respond::head(self.session, self.client, 200, content_type, framing);
        respond::put_routing(&mut head, self.client, Some(self.target));
        self.client.record.status = 200;
        self.client.record.ttft = Some(self.client.started.elapsed());
        if self.rules.stream {
            let record = &self.client.record;
            let number = u32::try_from(record.attempt_count() + 1).unwrap_or(u32::MAX);
            let (provider, model) = (&self.target.provider.id, &self.target.model.upstream);
            self.core.telemetry.streaming(record.id, number, provider, model, record.ttft.unwrap_or_default());
        }
        match timeout(WRITE_TIMEOUT, self.session.write_response_header(head, false)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Step::End(Outcome::Gone)),
        }
    }

    /// Writes what is there. Small pieces are copied into one allocation of their own size, so that the buffer is used again.
    async fn write(&mut self, end: bool) -> Step {
        const SMALL: usize = 16 * 1024;
        let bytes = if self.out.len() <= SMALL {
            let bytes = Bytes::copy_from_slice(&self.out);
            self.out.clear();
            bytes
        } else {
            Bytes::from(std::mem::take(&mut self.out))
        };
        match timeout(WRITE_TIMEOUT, self.session.write_response_body(Some(bytes), end)).await {
            Ok(Ok(())) => {
                self.last_write = Instant::now();
                // While the client was slow nobody looked at the provider.
                self.last_piece = self.last_write;
                Step::GoOn
            }
            Ok(Err(_)) | Err(_) => Step::End(Outcome::Gone),
        }
    }

    /// The answer is complete: sends what is left and ends the client's response.
    async fn complete(&mut self) -> Outcome {
        if self.first_output.is_none() {
            self.first_output = Some(self.begun.elapsed());
        }
        if !matches!(self.state, State::Committed) {
            let framing = if self.rules.stream { Framing::Stream } else { Framing::Length(self.out.len()) };
            if let Err(Step::End(outcome)) = self.write_head(framing).await {
                return outcome;
            }
        }
        match self.write(true).await {
            Step::End(outcome) => outcome,
            Step::GoOn => Outcome::Served,
        }
    }

    /// The answer is not to be completed. Before the commit that is a matter between the gateway and its targets; afterwards the client has
    /// to be told: in-band in a stream, by a broken connection where there is no such way.
    async fn fail(&mut self, fault: Fault) -> Outcome {
        if !matches!(self.state, State::Committed) {
            return Outcome::Failed(fault);
        }
        if !self.rules.stream {
            return Outcome::Cut(fault);
        }
        let shown = redacted(self.core, self.rules.byok, fault.clone());
        self.translator.break_off(&shown, &mut self.out);
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
        if self.fault_at().is_some_and(|(at, _)| now >= at) {
            let clock = self.fault_at().map_or(Clock::Idle, |(_, clock)| clock);
            return self.expire(clock).await;
        }
        if self.commit_at().is_some_and(|at| now >= at) {
            return self.commit().await;
        }
        if self.keepalive_at().is_some_and(|at| now >= at) {
            if let Step::End(outcome) =
                if matches!(self.state, State::Committed) { Step::GoOn } else { self.commit().await }
            {
                return Step::End(outcome);
            }
            self.out.extend_from_slice(self.client.dialect.keepalive());
            return self.write(false).await;
        }
        Step::GoOn
    }

    async fn expire(&mut self, clock: Clock) -> Step {
        let limit = match clock {
            Clock::Connect => self.rules.timeouts.connect,
            Clock::FirstOutput => self.rules.timeouts.first_output,
            Clock::Idle => self.rules.timeouts.idle,
            Clock::Total => self.client.started.elapsed(),
        };
        let what = match clock {
            Clock::Connect => "no connection",
            Clock::FirstOutput => "no output from the provider",
            Clock::Idle => "nothing more from the provider",
            Clock::Total => "no complete answer",
        };
        if let (Clock::Idle, State::Refused(refusal)) = (clock, &mut self.state) {
            // Its status says more than that its words did not come.
            return Step::End(Outcome::Refused(std::mem::take(refusal)));
        }
        let message = format!("{what} within {:.1} s ({})", limit.as_secs_f64(), clock.name());
        Step::End(self.fail(Fault::new(FaultKind::Timeout(clock), message)).await)
    }

    /// When the clock that ends the attempt runs out, and which one it is.
    fn fault_at(&self) -> Option<(Instant, Clock)> {
        let idle = (self.last_piece + self.rules.timeouts.idle, Clock::Idle);
        let first_output = (self.begun + self.rules.timeouts.first_output, Clock::FirstOutput);
        let first_output = (!self.rules.last).then_some(first_output);
        match self.state {
            // Keepalives may have given the status away long before there is output.
            State::Committed if self.first_output.is_none() && self.rules.stream => first_output,
            State::Committed | State::Refused(_) => Some(idle),
            // An answer that is not streamed comes in one go once it comes.
            State::Held if !self.rules.stream && self.translator.held_bytes() > 0 => Some(idle),
            State::Waiting | State::Held => first_output,
        }
    }

    fn commit_at(&self) -> Option<Instant> {
        let holds = matches!(self.state, State::Held) && self.rules.stream;
        self.rules.gate.max_wait.filter(|_| holds).map(|wait| self.begun + wait)
    }

    fn keepalive_at(&self) -> Option<Instant> {
        let gate = self.rules.gate;
        let allowed = matches!(self.state, State::Committed) || gate.keepalive_before_commit;
        (self.rules.stream && allowed && !gate.keepalive.is_zero()).then(|| self.last_write + gate.keepalive)
    }

    fn wake_at(&self) -> Instant {
        let fault = self.fault_at().map(|(at, _)| at);
        let others = [fault, self.commit_at(), self.keepalive_at()].into_iter().flatten();
        others.fold(self.rules.deadline, Instant::min)
    }
}

fn is_encoded(headers: &http::HeaderMap) -> bool {
    headers.get(http::header::CONTENT_ENCODING).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}
