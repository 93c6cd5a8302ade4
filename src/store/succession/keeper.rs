//! The side of the process that keeps the books: takes them from the one before, and answers those that keep them no more.

use super::link::Link;
use super::wire::{Answer, Ask, Estate, Open, PROTOCOL, hear};
use super::{Guest, Inner, Role, Succession, now_ms};
use crate::domain::{Money, Scope};
use crate::store::file::{is_trusted, listen_instead, say};
use crate::store::memory::OpenReservation;
use crate::store::ports::accounts::{Accounts, Refused, Reservation};
use crate::store::ports::limits::{Keeper, Lease, LimitStore, Subject};
use parking_lot::RwLockReadGuard;
use rustix::net::Shutdown;
use std::collections::HashMap;
use std::io::{self, BufReader, ErrorKind};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the process before may take to give the books away.
const GIVEN_WITHIN: Duration = Duration::from_secs(10);

/// The connection over which the books were taken. Ends it before [`Taken::serves`], they are the process before's again, which then also answers
/// the next one who asks for them.
#[derive(Debug)]
pub struct Taken {
    before: UnixStream,
    has_books: bool,
}

impl Taken {
    /// Whether the process before has given its books away: one of another version may know another way of doing so. They are then as they were.
    pub fn has_books(&self) -> bool {
        self.has_books
    }

    /// This process serves, and keeps the books from now on.
    pub fn serves(mut self) {
        // A process before that has ended wants nothing back.
        let _ = say(&mut self.before, &Ask::Serves);
    }
}

/// Who is at the other end of a connection: a guest, and the how manieth connection of its that is.
#[derive(Debug)]
struct Visitor {
    name: String,
    met: u64,
}

impl Succession {
    /// Takes the books of the process before, and keeps them from now on. Nobody may have been served here yet.
    ///
    /// # Errors
    /// The system's; or the process before keeps none. The books are then as they were.
    pub fn take_over(&self) -> io::Result<Taken> {
        let before = match UnixStream::connect(&self.0.path) {
            Ok(before) => before,
            Err(error) => {
                self.begin()?;
                return Err(error);
            }
        };
        // In its place before it asks who is there.
        let listener = listen_instead(&self.0.path)?;
        let taken = self.take_from(before);
        self.answer(listener)?;
        taken
    }

    /// Keeps the books from now on, unless another process of this data directory does.
    ///
    /// # Errors
    /// The system's.
    pub fn begin(&self) -> io::Result<()> {
        if UnixStream::connect(&self.0.path).is_ok() {
            return Err(ErrorKind::AddrInUse.into());
        }
        self.answer(listen_instead(&self.0.path)?)
    }

    fn take_from(&self, mut before: UnixStream) -> io::Result<Taken> {
        before.set_read_timeout(Some(GIVEN_WITHIN))?;
        before.set_write_timeout(Some(GIVEN_WITHIN))?;
        say(&mut before, &Ask::Take { protocol: PROTOCOL })?;
        let has_books = match hear(&mut BufReader::new(&before))? {
            Some(Answer::Books(estate)) => {
                self.0.inherit(*estate);
                true
            }
            Some(Answer::NotHere) => false,
            _ => return Err(io::Error::other("the process before does not give its books away")),
        };
        Ok(Taken { before, has_books })
    }

    /// Answers whoever connects, each on a thread of its own: there are hardly ever two. Ends when another listener takes this one's place.
    fn answer(&self, listener: UnixListener) -> io::Result<()> {
        let (books, listener) = (self.clone(), Arc::new(listener));
        self.0.listens_at(Some(listener.clone()));
        let accept = move || {
            loop {
                let stream = match listener.accept() {
                    Ok((stream, _)) => stream,
                    Err(_) if !books.0.is_listener(&listener) => return,
                    Err(_) => {
                        std::thread::sleep(Duration::from_millis(100));
                        continue;
                    }
                };
                let books = books.clone();
                let attend = move || {
                    if let Err(error) = books.attend(stream) {
                        log::debug!("a process that kept the books before: {error}");
                    }
                };
                if let Err(error) = std::thread::Builder::new().name("orbyt-books".to_owned()).spawn(attend) {
                    log::warn!("books.sock: {error}");
                }
            }
        };
        std::thread::Builder::new().name("orbyt-books".to_owned()).spawn(accept).map(|_| ())
    }

    fn attend(&self, mut stream: UnixStream) -> io::Result<()> {
        if !is_trusted(&stream) {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let mut lines = BufReader::new(stream.try_clone()?);
        let mut visitor = None;
        let ended = loop {
            let ask = match hear(&mut lines) {
                Ok(Some(ask)) => ask,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            if let Ask::Take { protocol } = ask {
                break self.give(&mut stream, lines, protocol);
            }
            let answer = self.0.hear(&mut visitor, ask);
            if let Err(error) = say(&mut stream, &answer) {
                break Err(error);
            }
        };
        if let Some(visitor) = visitor {
            self.0.leaves(&visitor.name);
        }
        ended
    }

    /// Gives the books away, and takes them back if whoever has them ends before it serves.
    fn give(&self, stream: &mut UnixStream, mut lines: BufReader<UnixStream>, protocol: u32) -> io::Result<()> {
        let estate = if protocol == PROTOCOL { self.0.give_away()? } else { None };
        let is_given = estate.is_some();
        let answer = estate.map_or(Answer::NotHere, |estate| Answer::Books(Box::new(estate)));
        let heard = say(stream, &answer).and_then(|()| hear::<Ask>(&mut lines));
        if matches!(heard, Ok(Some(Ask::Serves))) {
            self.0.listens_at(None);
        } else if is_given {
            self.take_back();
        } else if protocol > 1 && matches!(*self.0.role.read(), Role::Keeping) {
            // Version 1 hangs up at this answer, and serves: its place is not to be taken from it.
            self.listen_again();
        }
        heard.map(|_| ())
    }

    fn take_back(&self) {
        {
            let mut role = self.0.role.write();
            if let Role::Given(link) = &*role {
                link.stop();
            }
            *role = Role::Keeping;
        }
        // It may have served somebody.
        self.recount();
        self.listen_again();
    }

    /// Listens in the place of whoever came to take the books.
    fn listen_again(&self) {
        if let Err(error) = listen_instead(&self.0.path).and_then(|listener| self.answer(listener)) {
            log::warn!("the next upgrade will not hand over what is reserved: books.sock: {error}");
        }
    }
}

impl Inner {
    /// Others are answered at this listener from now on, and no more at the one before.
    fn listens_at(&self, listener: Option<Arc<UnixListener>>) {
        let before = std::mem::replace(&mut *self.listener.lock(), listener);
        if let Some(before) = before {
            // Wakes whoever accepts there (on Linux).
            let _ = rustix::net::shutdown(&*before, Shutdown::Both);
        }
    }

    fn is_listener(&self, listener: &Arc<UnixListener>) -> bool {
        self.listener.lock().as_ref().is_some_and(|current| Arc::ptr_eq(current, listener))
    }

    /// `None` when they are not here.
    fn give_away(&self) -> io::Result<Option<Estate>> {
        let mut role = self.role.write();
        if matches!(*role, Role::Given(_)) {
            return Ok(None);
        }
        let (spent, reservations) = self.accounts.copy();
        let limits = self.limits.copy(Instant::now());
        let in_flight: Vec<(Scope, Arc<str>, u64)> =
            limits.iter().map(|kept| (kept.scope, kept.name.clone(), kept.in_flight)).collect();
        let ends: HashMap<u64, u64> = reservations.iter().map(|it| (it.number, it.until)).collect();
        let mut open: Vec<Open> = self.guests.lock().iter().map(|(name, guest)| guest.open(name, &ends)).collect();
        let own = self.own_open(reservations, &in_flight);
        open.push(own.clone());
        *role = Role::Given(Link::begin(self.path.clone(), own)?);
        Ok(Some(Estate { spent, open, limits }))
    }

    fn inherit(&self, estate: Estate) {
        let Estate { spent, open, limits } = estate;
        for (account, spent) in spent {
            self.accounts.observe(&account, spent);
        }
        self.limits.inherit(limits, Instant::now());
        let mut guests = self.guests.lock();
        for Open { holder, reservations, places, settled } in open {
            let mut guest = Guest { settled, ..Guest::expected() };
            for it in reservations {
                guest.reservations.insert(it.number, self.accounts.note(it.accounts, it.amount, it.until));
            }
            guest.places = places.into_iter().map(|(scope, name, count)| ((scope, name), count)).collect();
            guests.insert(holder, guest);
        }
    }

    /// Does what it is told, if the books are here.
    fn hear(&self, visitor: &mut Option<Visitor>, ask: Ask) -> Answer {
        // Not to be given away meanwhile.
        let role: RwLockReadGuard<'_, Role> = self.role.read();
        if matches!(*role, Role::Given(_)) {
            return Answer::NotHere;
        }
        match (ask, visitor.as_ref()) {
            (Ask::Ping, _) => Answer::Done,
            (Ask::Hello(open), None) => {
                *visitor = Some(self.welcome(open));
                Answer::Done
            }
            (ask, Some(visitor)) => {
                let mut guests = self.guests.lock();
                // What stands in a connection that was given up is said again in the next one.
                let guest = guests.get_mut(&visitor.name).filter(|guest| guest.met == visitor.met);
                guest.map_or(Answer::NotHere, |guest| self.hear_guest(guest, ask))
            }
            // Nobody says that.
            (_, None) => Answer::NotHere,
        }
    }

    fn hear_guest(&self, guest: &mut Guest, ask: Ask) -> Answer {
        match ask {
            Ask::Reserve { number, draws, amount, until } => {
                let now = now_ms();
                let ttl = Duration::from_millis(until.saturating_sub(now));
                match self.accounts.take(&draws, amount, ttl, now) {
                    Ok(reservation) => {
                        guest.reservations.insert(number, reservation);
                        Answer::Done
                    }
                    Err(Refused::Short { at, balance }) => Answer::short(at, balance),
                    Err(Refused::Outage) => Answer::NotHere,
                }
            }
            Ask::Settle { said, number, accounts, amount, spent, in_ledger } => {
                let is_booked = said <= guest.settled;
                guest.settled = guest.settled.max(said);
                // What is not known here was given up, and is booked all the same.
                let given_up = || Reservation { accounts, amount, number: u64::MAX, node: None };
                let reservation = guest.reservations.remove(&number).unwrap_or_else(given_up);
                let spent = if is_booked || in_ledger { Money::ZERO } else { spent };
                self.accounts.settle(reservation, spent, now_ms());
                if in_ledger && !is_booked {
                    self.recount();
                }
                Answer::Done
            }
            Ask::Began { subjects, tokens } => {
                self.limits.charge(&subjects, tokens, Instant::now());
                subjects.iter().for_each(|subject| guest.enters(subject));
                Answer::Done
            }
            Ask::Ended { subjects, tokens, used } => {
                subjects.iter().for_each(|subject| guest.leaves(subject));
                let lease = Lease { subjects, tokens, keeper: Keeper::Local };
                self.limits.settle(lease, used, Instant::now());
                Answer::Done
            }
            // Nobody says that.
            Ask::Take { .. } | Ask::Serves | Ask::Hello(_) | Ask::Ping => Answer::NotHere,
        }
    }

    /// A process is there, and has this open.
    fn welcome(&self, open: Open) -> Visitor {
        let mut guests = self.guests.lock();
        let guest = guests.entry(open.holder.clone()).or_insert_with(Guest::expected);
        (guest.connections, guest.met, guest.since) = (guest.connections + 1, guest.met + 1, Instant::now());
        let visitor = Visitor { name: open.holder, met: guest.met };
        let gone: Vec<u64> = {
            let is_open = |number: &u64| open.reservations.iter().any(|it| it.number == *number);
            guest.reservations.keys().copied().filter(|number| !is_open(number)).collect()
        };
        for number in gone {
            if let Some(reservation) = guest.reservations.remove(&number) {
                self.accounts.settle(reservation, Money::ZERO, now_ms());
            }
        }
        for it in open.reservations {
            let note = || self.accounts.note(it.accounts, it.amount, it.until);
            guest.reservations.entry(it.number).or_insert_with(note);
        }
        let before = std::mem::take(&mut guest.places);
        for (scope, name, count) in open.places {
            let known = before.get(&(scope, name.clone())).copied().unwrap_or(0);
            // Their limits are not known here, so that only the places are taken.
            let place = Subject { scope, name: name.clone(), limits: [].into() };
            (known..count).for_each(|_| self.limits.charge(std::slice::from_ref(&place), 0, Instant::now()));
            self.limits.give_up(scope, &name, known.saturating_sub(count));
            guest.places.insert((scope, name), count);
        }
        for ((scope, name), count) in before {
            if !guest.places.contains_key(&(scope, name.clone())) {
                self.limits.give_up(scope, &name, count);
            }
        }
        visitor
    }

    /// The connection of a process has ended.
    fn leaves(&self, name: &str) {
        let is_here = matches!(*self.role.read(), Role::Keeping);
        if let Some(guest) = self.guests.lock().get_mut(name) {
            (guest.connections, guest.since) = (guest.connections.saturating_sub(1), Instant::now());
        }
        if is_here {
            self.left.notify_one();
        }
    }
}

impl Guest {
    fn expected() -> Self {
        Self {
            reservations: Default::default(),
            places: Default::default(),
            settled: 0,
            connections: 0,
            met: 0,
            since: Instant::now(),
        }
    }

    /// What it has open, as it names it; `ends` are those of reservations, as they are named here.
    fn open(&self, name: &str, ends: &HashMap<u64, u64>) -> Open {
        let open = |(number, it): (&u64, &Reservation)| {
            // One whose time is over is open no more.
            let until = *ends.get(&it.number)?;
            Some(OpenReservation { number: *number, accounts: it.accounts.clone(), amount: it.amount, until })
        };
        let reservations = self.reservations.iter().filter_map(open).collect();
        let places = self.places.iter().map(|((scope, name), count)| (*scope, name.clone(), *count));
        Open { holder: name.to_owned(), reservations, places: places.collect(), settled: self.settled }
    }

    fn enters(&mut self, subject: &Subject) {
        *self.places.entry((subject.scope, subject.name.clone())).or_default() += 1;
    }

    fn leaves(&mut self, subject: &Subject) {
        let place = (subject.scope, subject.name.clone());
        if let Some(count) = self.places.get_mut(&place) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.places.remove(&place);
            }
        }
    }
}
