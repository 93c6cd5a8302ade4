//! One answer on its way from a provider, as far as the client has no part in it: what is held back, what was observed, and its clocks.
//!
//! ```text
//!             head < 400          Flow: there is output, or `gate.max_bytes`; the relay commits
//!   Waiting ────────────> Held ─────────────────────────────────────────────────────────────> Committed
//!      │ head ≥ 400         │                                                                     │
//!      ▼                    └──────────────────────────────┬──────────────────────────────────────┘
//!   Refused ──> Refused                                    └──> Complete, or Fault
//! ```
//!
//! [`super::relay`] gives what comes out of a lane to the client; [`super::hedge`] runs two of them side by side.

use super::bill::Asked;
use super::exchange::{Broken, Piece};
use super::names::Target;
use super::quota::BYTES_A_TOKEN;
use crate::config::snapshot::{Gate, Timeouts};
use crate::dialect::embeddings::bedrock;
use crate::dialect::event::End;
use crate::dialect::table::Translator;
use crate::domain::{Clock, Fault, FaultKind, RateLimits};
use futures::future::FutureExt;
use futures::stream::{Stream, StreamExt};
use http::HeaderValue;
use std::pin::Pin;
use std::time::{Duration, Instant};

/// Pieces that are there already are taken together, but no more than about this many bytes.
const BATCH: usize = 256 * 1024;
/// An error body is read up to here: its message stands at the beginning.
const MAX_ERROR_BODY: usize = 256 * 1024;
/// A translated answer that is not streamed is held whole, whatever `gate.max_bytes` says; this bounds it.
const MAX_WHOLE_ANSWER: usize = 64 * 1024 * 1024;

/// A provider's answer with an error status.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum State {
    Waiting,
    Refused(Refusal),
    Held,
    Committed,
}

/// What pieces of an answer lead to.
#[derive(Debug)]
pub(super) enum Taken {
    /// Nothing for the client yet.
    More,
    /// What is in [`Lane::out`] is for the client now, the head before it if that is not committed.
    Flow,
    /// The answer is whole; what is left of it is in [`Lane::out`].
    Complete,
    /// The provider refused.
    Refused(Refusal),
    /// The answer will not be whole.
    Fault(Fault),
}

/// How fast a stream has to be while another target is left (`gate.min_throughput`).
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// So many bytes of output show it.
    bytes: u64,
    /// Within this time after the first output.
    window: Duration,
}

/// An answer on its way.
pub(super) struct Lane<'a> {
    pub(super) target: &'a Target,
    max_bytes: usize,
    timeouts: Timeouts,
    stream: bool,
    /// Nothing else is left to try: the first output may take the rest of the time.
    last: bool,
    /// What its output has to show before it is the client's.
    pace: Option<Pace>,
    pub(super) translator: Translator,
    pub(super) state: State,
    /// What the client has not got yet.
    pub(super) out: Vec<u8>,
    /// HTTP says that the provider's answer is complete.
    pub(super) ended: bool,
    pub(super) begun: Instant,
    pub(super) last_piece: Instant,
    /// From the start of the attempt to the first output.
    pub(super) first_output: Option<Duration>,
    /// The provider's status, once its head is there.
    pub(super) status: Option<u16>,
    /// What the provider calls the body of its answer.
    pub(super) content_type: Option<HeaderValue>,
    /// What its head told of the key's limits.
    pub(super) limits: RateLimits,
    /// The exchange broke off in a way that allows for sending the request once more.
    pub(super) resend: bool,
    pub(super) asked: Asked,
}

impl<'a> Lane<'a> {
    pub(super) fn new(
        target: &'a Target,
        translator: Translator,
        gate: &Gate,
        timeouts: Timeouts,
        now: Instant,
    ) -> Self {
        let pace = |tokens: u32| {
            let bytes = f64::from(tokens) * gate.throughput_window.as_secs_f64() * BYTES_A_TOKEN as f64;
            Pace { bytes: bytes as u64, window: gate.throughput_window }
        };
        Self {
            target,
            max_bytes: gate.max_bytes,
            timeouts,
            stream: true,
            last: false,
            pace: gate.min_throughput.map(pace),
            translator,
            state: State::Waiting,
            out: Vec::new(),
            ended: false,
            begun: now,
            last_piece: now,
            first_output: None,
            status: None,
            content_type: None,
            limits: RateLimits::default(),
            resend: false,
            asked: Asked::default(),
        }
    }

    /// What its bill has to know.
    pub(super) fn asked(self, asked: Asked) -> Self {
        Self { asked, ..self }
    }

    /// Whether the answer is a stream.
    pub(super) fn streamed(self, stream: bool) -> Self {
        Self { stream, ..self }
    }

    /// Whether nothing else is left to try.
    pub(super) fn last(self, last: bool) -> Self {
        Self { last, ..self }
    }

    /// What its output has yet to show.
    fn awaited_pace(&self) -> Option<Pace> {
        // What shows nothing of itself, as when a model thinks, has no pace yet.
        let shown = self.translator.observed().output_bytes;
        self.pace.filter(|pace| self.stream && !self.last && (1..pace.bytes).contains(&shown))
    }

    /// Whether the provider has begun what it ends whether or not anybody listens: asking another one would be a second answer.
    pub(super) fn goes_on_alone(&self) -> bool {
        self.asked.most.is_some() && self.translator.foreign_response().is_some()
    }

    /// Takes a piece and whatever else is there already, so that pieces which came together are written together.
    pub(super) fn pieces(
        &mut self,
        first: Option<Result<Piece, Broken>>,
        mut exchange: Pin<&mut (impl Stream<Item = Result<Piece, Broken>> + ?Sized)>,
    ) -> Taken {
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
                // The words of a refusal that broke off are lost, its status is not.
                return self.refused().unwrap_or(Taken::Fault(fault));
            }
            if self.ended {
                break;
            }
            if room == 0 {
                return self.progress();
            }
            match exchange.as_mut().next().now_or_never() {
                Some(piece) => next = piece,
                None => return self.progress(),
            }
        }
        self.finished()
    }

    fn refused(&mut self) -> Option<Taken> {
        match &mut self.state {
            State::Refused(refusal) => Some(Taken::Refused(std::mem::take(refusal))),
            _ => None,
        }
    }

    /// The provider's answer is over.
    fn finished(&mut self) -> Taken {
        if let Some(refused) = self.refused() {
            return refused;
        }
        match self.translator.finish(End::Clean, &mut self.out) {
            Ok(()) => {
                self.first_output.get_or_insert(self.last_piece.saturating_duration_since(self.begun));
                Taken::Complete
            }
            Err(fault) => Taken::Fault(fault),
        }
    }

    fn piece(&mut self, piece: Piece) -> Result<(), Fault> {
        match piece {
            Piece::Head { status, headers, limits, last } => {
                self.status = Some(status);
                self.limits = limits;
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
                    let content_type = headers.get(http::header::CONTENT_TYPE).cloned();
                    self.stream |= self.translator.headed(content_type.as_ref().map(HeaderValue::as_bytes));
                    self.content_type = content_type;
                    let counted = headers.get(bedrock::TOKENS).and_then(|count| count.to_str().ok()?.parse().ok());
                    counted.into_iter().for_each(|tokens| self.translator.count_input(tokens));
                }
                Ok(())
            }
            Piece::Body { bytes, last } => {
                self.ended = last;
                match &mut self.state {
                    // What is compressed nobody can read; the status says enough.
                    State::Refused(refusal) if is_encoded(&refusal.headers) => {
                        self.ended = true;
                        Ok(())
                    }
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

    /// Whether what is there is for the client.
    fn progress(&mut self) -> Taken {
        if self.first_output.is_none() && self.translator.observed().output {
            self.first_output = Some(self.last_piece.saturating_duration_since(self.begun));
        }
        match self.state {
            State::Held => {
                let held = self.translator.held_bytes();
                if held > self.max_bytes && self.translator.let_flow(&mut self.out) {
                    return Taken::Flow;
                }
                if held > MAX_WHOLE_ANSWER {
                    return Taken::Fault(Fault::malformed("the provider's answer is larger than 64 MiB"));
                }
                let output = self.translator.observed().output && self.awaited_pace().is_none();
                if self.stream && (output || self.goes_on_alone()) || self.out.len() > self.max_bytes {
                    Taken::Flow
                } else {
                    Taken::More
                }
            }
            State::Committed if !self.out.is_empty() => Taken::Flow,
            _ => Taken::More,
        }
    }

    /// A clock has run out.
    pub(super) fn expire(&mut self, clock: Clock, total: Duration) -> Taken {
        let (limit, what) = match clock {
            Clock::Connect => (self.timeouts.connect, "no connection"),
            Clock::FirstOutput => (self.timeouts.first_output, "no output from the provider"),
            Clock::Idle => (self.timeouts.idle, "nothing more from the provider"),
            Clock::Throughput => {
                (self.pace.map(|pace| pace.window).unwrap_or_default(), "too little output from the provider")
            }
            Clock::Total => (total, "no complete answer"),
        };
        if clock == Clock::Idle
            && let Some(refused) = self.refused()
        {
            // Its status says more than that its words did not come.
            return refused;
        }
        let message = format!("{what} within {:.1} s ({})", limit.as_secs_f64(), clock.name());
        Taken::Fault(Fault::new(FaultKind::Timeout(clock), message))
    }

    /// When the clock that ends the attempt runs out, and which one it is.
    pub(super) fn fault_at(&self) -> Option<(Instant, Clock)> {
        let idle = (self.last_piece + self.timeouts.idle, Clock::Idle);
        let first_output = (self.begun + self.timeouts.first_output, Clock::FirstOutput);
        let first_output = (!self.last).then_some(first_output);
        match self.state {
            // Keepalives may have given the status away long before there is output.
            State::Committed if self.first_output.is_none() && self.stream => first_output,
            State::Committed | State::Refused(_) => Some(idle),
            // An answer that is not streamed comes in one go once it comes.
            State::Held if !self.stream && self.translator.held_bytes() > 0 => Some(idle),
            State::Held if let (Some(first), Some(pace)) = (self.first_output, self.awaited_pace()) => {
                Some((self.begun + first + pace.window, Clock::Throughput))
            }
            State::Waiting | State::Held => first_output,
        }
    }

    pub(super) fn is_committed(&self) -> bool {
        matches!(self.state, State::Committed)
    }
}

/// Whether a body is compressed, although that was not asked for.
pub(super) fn is_encoded(headers: &http::HeaderMap) -> bool {
    headers.get(http::header::CONTENT_ENCODING).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}
