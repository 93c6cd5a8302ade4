//! What one request carries, taken down while it runs.
//!
//! ```text
//! new ──> (attempt ──> sent ──> headed ──> piece*)* ──> answered ──> answer* ──> finish
//! ```
//!
//! The data plane writes and the console reads, so it stands behind a lock that is held for a copy.

use super::raw::{Eyes, RawBody, RawHead};
use super::{PayloadStore, Redactor};
use crate::domain::payloads::{Attempt, Pattern, Request, Response};
use crate::domain::tenancy::{DEFAULT_ORG, DEFAULT_PROJECT};
use crate::domain::{Ended, Payloads, Principal, RequestId, RequestRecord, Secret};
use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// Room is asked for in steps of so many bytes, so that not every piece asks.
const STEP: usize = 16 << 10;
/// What a request takes besides heads and bodies.
const OVERHEAD: usize = 1024;

/// What a request begins with.
#[derive(Debug)]
pub struct Begin<'a> {
    /// The request.
    pub id: RequestId,
    /// When it arrived, in milliseconds since the Unix epoch.
    pub arrived_unix_ms: u64,
    /// The same moment.
    pub started: Instant,
    /// Who asks.
    pub principal: &'a Principal,
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub url: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body as it came.
    pub body: &'a Bytes,
    /// Where in it the client's own keys stand.
    pub secrets: Vec<Range<usize>>,
    /// Nothing of the body may be kept.
    pub withheld: bool,
    /// Those keys, which no provider's answer may show either.
    pub own: Vec<Secret>,
}

/// A request that is taken down.
pub struct Tape {
    id: RequestId,
    arrived_unix_ms: u64,
    started: Instant,
    principal: Principal,
    store: PayloadStore,
    /// The most bytes of one body.
    most: usize,
    /// It is for the database as well, if it ends as the policy has it.
    drawn: bool,
    /// The client brought keys, or may have.
    is_guarded: bool,
    /// Bytes that it counts for in the ring, once it is complete.
    held: AtomicUsize,
    has_left: AtomicBool,
    taken: Mutex<Taken>,
}

/// What was taken down so far.
#[derive(Clone, Default)]
struct Taken {
    method: String,
    url: String,
    head: RawHead,
    body: RawBody,
    answer: Option<RawAnswer>,
    attempts: Vec<RawAttempt>,
    /// The client's own keys, which a provider may repeat; gone when that is settled.
    own: Vec<Secret>,
    complete: bool,
    room: usize,
    granted: usize,
}

#[derive(Clone, Default)]
struct RawAnswer {
    status: u16,
    at_us: u64,
    head: RawHead,
    body: RawBody,
}

#[derive(Clone)]
struct RawAttempt {
    number: u32,
    provider: Arc<str>,
    model: Arc<str>,
    key_name: Arc<str>,
    at_us: u64,
    method: String,
    url: String,
    head: RawHead,
    body: RawBody,
    answer: Option<RawAnswer>,
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tape({})", self.id)
    }
}

impl Tape {
    pub(super) fn new(store: PayloadStore, begin: Begin<'_>, most: usize, drawn: bool, in_ring: bool) -> Self {
        let body = RawBody::of(begin.body, most, begin.secrets, begin.withheld);
        // Some clients have their key in the query.
        let url = store.redactor().redact(begin.url).into_owned();
        let (method, head) = (begin.method.to_owned(), RawHead::of(begin.headers));
        let is_guarded = !begin.own.is_empty() || begin.withheld;
        let taken = Taken { method, url, head, body, own: begin.own, ..Taken::default() };
        Self {
            id: begin.id,
            arrived_unix_ms: begin.arrived_unix_ms,
            started: begin.started,
            principal: begin.principal.clone(),
            store,
            most,
            drawn,
            is_guarded,
            held: AtomicUsize::new(0),
            has_left: AtomicBool::new(!in_ring),
            taken: Mutex::new(taken),
        }
    }

    /// The request.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Begins an attempt, unless one of this number has begun at this provider; the number counts from 1.
    pub fn attempt(
        self: &Arc<Self>,
        number: u32,
        provider: &Arc<str>,
        model: &Arc<str>,
        key_name: &Arc<str>,
    ) -> AttemptTape {
        let mut taken = self.taken.lock();
        let is_it = |it: &RawAttempt| it.number == number && it.provider == *provider;
        if let Some(at) = taken.attempts.iter().position(is_it) {
            return AttemptTape { tape: self.clone(), at };
        }
        taken.attempts.push(RawAttempt {
            number,
            provider: provider.clone(),
            model: model.clone(),
            key_name: key_name.clone(),
            at_us: self.now_us(),
            method: String::new(),
            url: String::new(),
            head: RawHead::default(),
            body: RawBody::default(),
            answer: None,
        });
        AttemptTape { tape: self.clone(), at: taken.attempts.len() - 1 }
    }

    /// The head of the answer goes to the client.
    pub fn answered(&self, status: u16, headers: &HeaderMap) {
        let answer = RawAnswer { status, at_us: self.now_us(), head: RawHead::of(headers), ..RawAnswer::default() };
        self.taken.lock().answer = Some(answer);
    }

    /// A piece of the answer goes to the client.
    pub fn answer(&self, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        let (at_us, mut taken) = (self.now_us(), self.taken.lock());
        let wanted = taken.answer.as_ref().map_or(0, |answer| answer.body.wants(piece.len(), self.most));
        let keep = self.room_for(&mut taken, wanted);
        if let Some(answer) = &mut taken.answer {
            answer.body.push(piece, keep, at_us);
        }
    }

    /// The request is over. Where a key may have been repeated, it is looked for here, so that it is not kept.
    pub fn finish(self: &Arc<Self>, record: &RequestRecord) {
        let mut guard = self.taken.lock();
        let taken = &mut *guard;
        taken.complete = true;
        let refused = taken.attempts.iter().filter_map(|it| it.answer.as_ref()).any(|answer| answer.status >= 300);
        if refused || !taken.own.is_empty() {
            let own = std::mem::take(&mut taken.own);
            taken.scrub(&Eyes { redactor: self.store.redactor(), own: own.iter().collect(), patterns: &[] });
        }
        taken.shrink();
        self.store.give_back(std::mem::take(&mut taken.granted));
        taken.room = 0;
        let bytes = OVERHEAD + taken.len();
        drop(guard);
        let went_well = record.ended == Ended::Complete && record.status < 400 && record.attempt_count() <= 1;
        let for_disk = self.drawn && !(went_well && self.store.keeps_only_errors());
        self.store.finished(self, bytes, for_disk);
    }

    /// Counts in the ring from now on; no when it is not there, or has left it.
    pub(super) fn count_in(&self, bytes: usize) -> bool {
        let stays = !self.has_left.load(Relaxed);
        if stays {
            self.held.store(bytes, Relaxed);
        }
        stays
    }

    /// Leaves the ring; the bytes that it counted for.
    pub(super) fn count_out(&self) -> usize {
        self.has_left.store(true, Relaxed);
        self.held.swap(0, Relaxed)
    }

    /// What may be shown of it.
    pub(super) fn shown(&self, redactor: &Redactor, patterns: &[Pattern]) -> Payloads {
        let mut taken = self.taken.lock().clone();
        let own = std::mem::take(&mut taken.own);
        taken.scrub(&Eyes { redactor, own: own.iter().collect(), patterns });
        let key = self.principal.key.as_deref();
        Payloads {
            id: self.id,
            arrived_unix_ms: self.arrived_unix_ms,
            org: key.map_or(DEFAULT_ORG, |key| &key.org).to_owned(),
            project: key.map_or(DEFAULT_PROJECT, |key| &key.project).to_owned(),
            key_id: self.principal.key_id().into_owned(),
            key_name: self.principal.key_name.to_string(),
            complete: taken.complete,
            request: request(taken.method, taken.url, &taken.head, &taken.body),
            response: taken.answer.as_ref().map(response),
            attempts: taken.attempts.into_iter().map(RawAttempt::shown).collect(),
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// How much of what is wanted there is room for: all of it or nothing.
    fn room_for(&self, taken: &mut Taken, wanted: usize) -> usize {
        if wanted > taken.room {
            let more = (wanted - taken.room).next_multiple_of(STEP);
            if !self.store.grant(more) {
                return 0;
            }
            taken.room += more;
            taken.granted += more;
        }
        taken.room -= wanted;
        wanted
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.store.give_back(self.taken.get_mut().granted);
    }
}

impl Taken {
    fn scrub(&mut self, eyes: &Eyes<'_>) {
        let heads = self.attempts.iter_mut().flat_map(|it| {
            let answer = it.answer.as_mut().map(|answer| (&mut answer.head, &mut answer.body));
            [Some((&mut it.head, &mut it.body)), answer]
        });
        let answer = self.answer.as_mut().map(|answer| (&mut answer.head, &mut answer.body));
        let own = [Some((&mut self.head, &mut self.body)), answer];
        for (head, body) in heads.chain(own).flatten() {
            head.scrub(eyes);
            body.scrub(eyes);
        }
        for url in self.attempts.iter_mut().map(|it| &mut it.url).chain([&mut self.url]) {
            *url = eyes.clean_url(url);
        }
        for it in &mut self.attempts {
            if let std::borrow::Cow::Owned(clean) = eyes.redactor.redact_with(&it.model, &eyes.own) {
                it.model = clean.into();
            }
        }
    }

    fn shrink(&mut self) {
        let answers = self.attempts.iter_mut().filter_map(|it| it.answer.as_mut()).chain(&mut self.answer);
        answers.for_each(|answer| answer.body.shrink());
    }

    fn len(&self) -> usize {
        let answers = self.attempts.iter().filter_map(|it| it.answer.as_ref()).chain(&self.answer);
        let answers: usize = answers.map(|answer| answer.head.len() + answer.body.len()).sum();
        let attempts: usize =
            self.attempts.iter().map(|it| size_of::<RawAttempt>() + it.head.len() + it.body.len()).sum();
        self.head.len() + self.body.len() + answers + attempts
    }
}

impl RawAttempt {
    fn shown(self) -> Attempt {
        Attempt {
            number: self.number,
            provider: self.provider.to_string(),
            model: self.model.to_string(),
            key_name: self.key_name.to_string(),
            at_us: self.at_us,
            response: self.answer.as_ref().map(response),
            request: request(self.method, self.url, &self.head, &self.body),
        }
    }
}

fn request(method: String, url: String, head: &RawHead, body: &RawBody) -> Request {
    Request { method, url, headers: head.shown(), body: body.shown() }
}

fn response(answer: &RawAnswer) -> Response {
    Response { status: answer.status, at_us: answer.at_us, headers: answer.head.shown(), body: answer.body.shown() }
}

/// The part of one attempt.
#[derive(Clone, Debug)]
pub struct AttemptTape {
    tape: Arc<Tape>,
    at: usize,
}

impl AttemptTape {
    /// Whether the client brought keys, so that what is sent has to be looked at.
    pub fn is_guarded(&self) -> bool {
        self.tape.is_guarded
    }

    /// The request goes to the provider. Sent once more, on another connection, it takes the place of the first. Of the body is kept what
    /// does not stand in `secrets`; nothing when it is withheld.
    pub fn sent(
        &self,
        method: &str,
        url: String,
        headers: &HeaderMap,
        body: &Bytes,
        secrets: Vec<Range<usize>>,
        withheld: bool,
    ) {
        let (head, body) = (RawHead::of(headers), RawBody::of(body, self.tape.most, secrets, withheld));
        let mut taken = self.tape.taken.lock();
        if let Some(attempt) = taken.attempts.get_mut(self.at) {
            attempt.method.clear();
            attempt.method.push_str(method);
            (attempt.url, attempt.head, attempt.body) = (url, head, body);
        }
    }

    /// The head of the provider's answer is there. Of several answers in a row, the bodies follow each other.
    pub fn headed(&self, status: u16, headers: &HeaderMap) {
        let (at_us, head) = (self.tape.now_us(), RawHead::of(headers));
        let mut taken = self.tape.taken.lock();
        if let Some(attempt) = taken.attempts.get_mut(self.at) {
            let answer = attempt.answer.get_or_insert_default();
            (answer.status, answer.head) = (status, head);
            if answer.at_us == 0 {
                answer.at_us = at_us;
            }
        }
    }

    /// A piece of the provider's answer.
    pub fn piece(&self, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        let (at_us, mut taken) = (self.tape.now_us(), self.tape.taken.lock());
        let answer = taken.attempts.get(self.at).and_then(|attempt| attempt.answer.as_ref());
        let wanted = answer.map_or(0, |answer| answer.body.wants(piece.len(), self.tape.most));
        let keep = self.tape.room_for(&mut taken, wanted);
        if let Some(answer) = taken.attempts.get_mut(self.at).and_then(|attempt| attempt.answer.as_mut()) {
            answer.body.push(piece, keep, at_us);
        }
    }
}
