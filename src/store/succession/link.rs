//! The way from a process that keeps the books no more to the one that does: a thread that says one thing after the other, and again until it
//! is answered.
//!
//! ```text
//! Away ──connect──> says what it has open ──answered──> Joined ──broken, or somebody else keeps them──> Away
//! ```

use super::wire::{Answer, Ask, Open, hear};
use crate::domain::budget::{Account, Draw};
use crate::domain::{Money, Scope};
use crate::store::file::say;
use crate::store::memory::OpenReservation;
use crate::store::ports::limits::Subject;
use std::collections::HashMap;
use std::io::{self, BufReader, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long a request waits for a word of whoever keeps the books.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long until it is tried again, at first.
const AGAIN: Duration = Duration::from_millis(10);
/// How often it is looked whether the other side is still there, and still keeps the books.
const LOOK: Duration = Duration::from_millis(500);
/// How long a word is waited for before the connection is given up.
const SILENCE: Duration = Duration::from_secs(5);

/// What came of asking.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// What was asked for was answered.
    Answer(Answer),
    /// Nobody has answered in time.
    Nobody,
    /// The books are this process's again.
    Again,
}

struct Order {
    ask: Ask,
    /// Who waits for it, and until when.
    waits: Option<(oneshot::Sender<Told>, Instant)>,
    /// As [`Link::written`] was.
    written: u64,
}

/// This end of it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    orders: Sender<Order>,
    stop: Arc<AtomicBool>,
    /// Orders that are not carried out yet.
    waiting: Arc<AtomicU64>,
    /// How often the ledger was written before all that was said was answered.
    written: Arc<AtomicU64>,
}

impl Link {
    /// Leads to whoever listens at a path, for a process that has this open.
    pub(super) fn begin(path: PathBuf, open: Open) -> io::Result<Self> {
        let (orders, carried) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (waiting, written) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let Open { holder, reservations, places, .. } = open;
        let carrier = Carrier {
            path,
            holder,
            reservations: reservations.into_iter().map(|it| (it.number, it)).collect(),
            places: places.into_iter().map(|(scope, name, count)| ((scope, name), count)).collect(),
            connection: None,
            pause: AGAIN,
            settled: 0,
            stop: stop.clone(),
            waiting: waiting.clone(),
            written: written.clone(),
        };
        std::thread::Builder::new().name("orbyt-books".to_owned()).spawn(move || carrier.run(&carried))?;
        Ok(Self { orders, stop, waiting, written })
    }

    /// Asks for a reservation.
    pub(super) async fn reserve(&self, number: u64, draws: &[Draw], amount: Money, until: u64) -> Told {
        let (tell, told) = oneshot::channel();
        let ask = Ask::Reserve { number, draws: draws.to_vec(), amount, until };
        self.send(ask, Some((tell, Instant::now() + PATIENCE)));
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(told) => told.unwrap_or(Told::Again),
            Err(_) => Told::Nobody,
        }
    }

    /// Tells that a reservation is over.
    pub(super) fn settle(&self, number: u64, accounts: Vec<Account>, amount: Money, spent: Money) {
        self.send(Ask::Settle { said: 0, number, accounts, amount, spent, in_ledger: false }, None);
    }

    /// Tells that a request has passed the limits.
    pub(super) fn began(&self, subjects: Vec<Subject>, tokens: u64) {
        self.send(Ask::Began { subjects, tokens }, None);
    }

    /// Tells that it is over.
    pub(super) fn ended(&self, subjects: Vec<Subject>, tokens: u64, used: u64) {
        self.send(Ask::Ended { subjects, tokens, used }, None);
    }

    /// Whether all that was said was answered.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// What was said and not answered may stand in the ledger from now on.
    pub(super) fn goes_into_ledger(&self) {
        self.written.fetch_add(1, Ordering::AcqRel);
    }

    /// Says no more: the books are this process's again.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    fn send(&self, ask: Ask, waits: Option<(oneshot::Sender<Told>, Instant)>) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if self.orders.send(Order { ask, waits, written: self.written.load(Ordering::Acquire) }).is_err() {
            // It was stopped.
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The thread.
struct Carrier {
    path: PathBuf,
    holder: String,
    /// What the other side has to know of this one: what is reserved and not settled there, ...
    reservations: HashMap<u64, OpenReservation>,
    /// ... and the requests in flight.
    places: HashMap<(Scope, Arc<str>), u64>,
    connection: Option<BufReader<UnixStream>>,
    /// How long until it is tried again.
    pause: Duration,
    /// How many settlements were said.
    settled: u64,
    stop: Arc<AtomicBool>,
    waiting: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
}

impl Carrier {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            match orders.recv_timeout(if self.connection.is_some() { LOOK } else { self.pause }) {
                Ok(order) => {
                    self.carry_out(order);
                    self.waiting.fetch_sub(1, Ordering::AcqRel);
                }
                Err(RecvTimeoutError::Timeout) => {
                    // Whoever keeps the books has to know soon that this process is there.
                    let _ = self.exchange(&Ask::Ping);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.stop.load(Ordering::Acquire) {
                return;
            }
        }
    }

    fn carry_out(&mut self, Order { mut ask, mut waits, written }: Order) {
        if let Ask::Settle { said, .. } = &mut ask {
            self.settled += 1;
            *said = self.settled;
        }
        loop {
            if self.stop.load(Ordering::Acquire) {
                return tell(waits.take(), Told::Again);
            }
            if let Some((tell, until)) = &waits {
                if tell.is_closed() {
                    return;
                }
                if Instant::now() >= *until {
                    return self::tell(waits.take(), Told::Nobody);
                }
            }
            if let Ask::Settle { in_ledger, .. } = &mut ask {
                *in_ledger = self.written.load(Ordering::Acquire) > written;
            }
            match self.exchange(&ask) {
                Ok(answer) => {
                    self.note(&ask, &answer);
                    return tell(waits.take(), Told::Answer(answer));
                }
                Err(error) => {
                    log::debug!("the process that keeps the books: {error}");
                    std::thread::sleep(self.pause);
                }
            }
        }
    }

    /// Says something and hears what is answered.
    fn exchange(&mut self, ask: &Ask) -> io::Result<Answer> {
        // Longer and longer, until it succeeds.
        self.pause = (self.pause * 2).min(LOOK);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let answer = said(&mut connection, ask)?;
        (self.connection, self.pause) = (Some(connection), AGAIN);
        Ok(answer)
    }

    fn connect(&self) -> io::Result<BufReader<UnixStream>> {
        let stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let mut connection = BufReader::new(stream);
        let places = self.places.iter().map(|((scope, name), count)| (*scope, name.clone(), *count));
        let (holder, reservations) = (self.holder.clone(), self.reservations.values().cloned().collect());
        said(&mut connection, &Ask::Hello(Open { holder, reservations, places: places.collect(), settled: 0 }))?;
        Ok(connection)
    }

    /// Takes note of what the other side knows now.
    fn note(&mut self, ask: &Ask, answer: &Answer) {
        match ask {
            Ask::Reserve { number, draws, amount, until } if *answer == Answer::Done => {
                let accounts = draws.iter().map(|draw| draw.account.clone()).collect();
                let open = OpenReservation { number: *number, accounts, amount: *amount, until: *until };
                self.reservations.insert(*number, open);
            }
            Ask::Settle { number, .. } => drop(self.reservations.remove(number)),
            Ask::Began { subjects, .. } => {
                for subject in subjects {
                    *self.places.entry((subject.scope, subject.name.clone())).or_default() += 1;
                }
            }
            Ask::Ended { subjects, .. } => {
                for subject in subjects {
                    let place = (subject.scope, subject.name.clone());
                    if let Some(count) = self.places.get_mut(&place) {
                        *count = count.saturating_sub(1);
                        if *count == 0 {
                            self.places.remove(&place);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

fn tell(waits: Option<(oneshot::Sender<Told>, Instant)>, what: Told) {
    if let Some((tell, _)) = waits {
        // Whoever has gone says that it is over.
        let _ = tell.send(what);
    }
}

fn said(connection: &mut BufReader<UnixStream>, ask: &Ask) -> io::Result<Answer> {
    say(connection.get_mut(), ask)?;
    match hear(connection)? {
        Some(Answer::NotHere) => Err(io::Error::other("keeps them no more")),
        Some(answer) => Ok(answer),
        None => Err(ErrorKind::UnexpectedEof.into()),
    }
}
