//! The row of a request in the ledger: taken down before the client has the last byte of a complete answer, and once more at the end where
//! something has come out otherwise.
//!
//! ```text
//!            seal, before the last byte                  close, same outcome
//! Open ─────────────────────────────────────> Sealed ─────────────────────────> nothing more is written
//!   │                                            │
//!   │ close                                      │ close, another outcome (the last byte did not arrive)
//!   ▼                                            ▼
//! row of revision 0                            row of revision 1, which takes the place of the first
//! ```
//!
//! A request that showed no valid key has no row: strangers must not be able to fill the disk. It is in the metrics and in the log.

use super::core::{ClientCtx, Core};
use super::lane::Lane;
use crate::config::keys::Holder;
use crate::dialect::extensions::{Byok, Extensions};
use crate::domain::budget::{LONGEST_USER, kept_user};
use crate::domain::ledger::{micros, picos};
use crate::domain::tenancy::{DEFAULT_ORG, DEFAULT_PROJECT};
use crate::domain::{AttemptRecord, Decision, Ended, LedgerAttempt, LedgerRow, Money, RequestRecord, Secret, Usage};
use crate::telemetry::Redactor;
use pingora::protocols::http::ServerSession as Session;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most of a name that a client made up.
const LONGEST_NAME: usize = LONGEST_USER;
/// The most of what a provider said about a fault.
const LONGEST_MESSAGE: usize = 2000;

/// What is to become of a request's row.
#[derive(Default)]
pub(super) struct Entry {
    /// The end user, as the client names them.
    pub(super) user: Option<String>,
    /// What the client told the gateway.
    pub(super) extensions: Option<Arc<Extensions>>,
    /// The attempt that is being made: its start, and the name of its key.
    pub(super) trying: Option<(Instant, Arc<str>)>,
    sealed: Option<Outcome>,
}

/// What a row must not be wrong about.
#[derive(Clone, Copy, PartialEq)]
struct Outcome {
    status: u16,
    ended: Ended,
    attempts: usize,
    usage: Option<Usage>,
    cost: Option<Money>,
    hedge_cost: Option<Money>,
}

impl Outcome {
    fn of(record: &RequestRecord) -> Self {
        Self {
            status: record.status,
            ended: record.ended,
            attempts: record.attempts.len(),
            usage: record.usage,
            cost: record.cost,
            hedge_cost: record.hedge_cost,
        }
    }
}

/// Takes down a request whose complete answer is about to be written to its end, by its attempt.
pub(super) fn seal_served(session: &Session, client: &mut ClientCtx, lane: &Lane<'_>, more_bytes: usize) {
    let Some((begun, key_name)) = client.entry.trying.clone() else { return };
    let served = AttemptRecord {
        provider: lane.target.provider.id.clone(),
        model: lane.target.model.upstream.clone(),
        key_name,
        started: begun.saturating_duration_since(client.started),
        took: begun.elapsed(),
        status: lane.status,
        reason: None,
        message: None,
        verdict: "ok",
    };
    seal(session, client, Ended::Complete, Some(&served), more_bytes);
}

/// Takes down a request whose answer is about to be written to its end, with so many more bytes.
pub(super) fn seal(
    session: &Session,
    client: &mut ClientCtx,
    ended: Ended,
    served: Option<&AttemptRecord>,
    more_bytes: usize,
) {
    let core = client.core.clone();
    let (Some(spool), Some(holder)) = (core.ledger.get(), &client.holder) else { return };
    let latency = client.started.elapsed();
    // The time of the attempt that serves is not among what was waited for before it is over.
    let waited = client.waited + served.map_or(Duration::ZERO, |served| served.took);
    let mut row = row(&core, session, client, holder, ended);
    row.latency_us = micros(latency);
    row.overhead_us = micros(latency.saturating_sub(waited));
    row.bytes_out += more_bytes as u64;
    row.attempts.extend(served.map(|served| attempt(served, &core.telemetry.redactor)));
    let attempts = row.attempts.len();
    spool.append(&row);
    if let Some(funds) = &mut client.funds {
        // At once: the client may take its time for the last byte, and what the ledger says meanwhile must not count beside it.
        funds.book(client.record.charge());
    }
    client.entry.sealed = Some(Outcome { ended, attempts, ..Outcome::of(&client.record) });
}

/// Takes down a request that is over, unless that was done and is right.
pub(super) fn close(core: &Core, session: &Session, client: &ClientCtx) {
    let (Some(spool), Some(holder)) = (core.ledger.get(), &client.holder) else { return };
    let outcome = Outcome::of(&client.record);
    let revision = match client.entry.sealed {
        Some(sealed) if sealed == outcome => return,
        sealed => u8::from(sealed.is_some()),
    };
    let row = row(core, session, client, holder, client.record.ended);
    spool.append(&LedgerRow { revision, ..row });
}

/// The row of a request that is over, as JSON; `None` where none is taken down.
pub(super) fn copy(core: &Core, session: &Session, client: &ClientCtx) -> Option<Vec<u8>> {
    let holder = client.holder.as_ref().filter(|_| core.ledger.get().is_some())?;
    serde_json::to_vec(&row(core, session, client, holder, client.record.ended)).ok()
}

fn row<'a>(
    core: &Core,
    session: &'a Session,
    client: &'a ClientCtx,
    holder: &'a Holder,
    ended: Ended,
) -> LedgerRow<'a> {
    let (record, entry, redactor) = (&client.record, &client.entry, &*core.telemetry.redactor);
    let own = entry.extensions.as_ref().and_then(|it| it.byok.as_ref()).map(Byok::secrets).unwrap_or_default();
    let shown = |text: &'a str| redactor.redact_with(clip(text, LONGEST_NAME), &own);
    let named = |text: &'a Option<Arc<str>>| text.as_deref().map(shown);
    let key = holder.principal.key.as_deref();
    let extensions = entry.extensions.as_deref();
    LedgerRow {
        id: record.id,
        revision: 0,
        arrived_unix_ms: record.arrived_unix_ms,
        org: key.map_or(DEFAULT_ORG, |key| &key.org).into(),
        project: key.map_or(DEFAULT_PROJECT, |key| &key.project).into(),
        key_id: holder.principal.key_id(),
        key_name: Cow::Borrowed(&holder.principal.key_name),
        owner: key.and_then(|key| key.owner.as_deref()).map(Cow::Borrowed),
        workflow: key.and_then(|key| key.workflow.as_deref()).map(Cow::Borrowed),
        user: entry.user.as_deref().map(|user| kept_name(core, extensions, user)),
        trace_id: trace_id(session, extensions).map(shown),
        session_id: extensions.and_then(|it| it.session_id.as_deref()).map(shown),
        dialect: client.dialect.name().into(),
        route: route(session, record, shown),
        requested_model: named(&record.requested_model),
        provider: record.provider.as_deref().map(Cow::Borrowed),
        model: named(&record.model),
        strategy: record.strategy.into(),
        stream: record.stream,
        status: record.status,
        ended,
        error_code: record.error_code.as_deref().map(shown),
        attempts: record.attempts.iter().map(|it| attempt(it, redactor)).collect(),
        fallback: record.fallback,
        dropped: dropped(&record.dropped, shown),
        usage: record.usage,
        cost_picos: record.cost.map(picos),
        hedge_cost_picos: record.hedge_cost.map(picos),
        embedding_cost_picos: record.semantic.as_ref().and_then(|it| it.cost).map(picos),
        estimated: record.estimated,
        byok: record.byok,
        cache: record.cache,
        similarity_ppm: record.semantic.as_ref().and_then(|it| it.similarity).map(|it| (it * 1e6) as i32),
        ttft_us: record.ttft.map(micros),
        latency_us: micros(record.latency),
        overhead_us: micros(record.overhead),
        queued_us: record.queued.map(micros),
        bytes_in: session.body_bytes_read() as u64,
        bytes_out: session.body_bytes_sent() as u64,
        decision: record.decision.as_deref().map(|it| decision(it, redactor, &own)),
    }
}

fn attempt<'a>(it: &'a AttemptRecord, redactor: &Redactor) -> LedgerAttempt<'a> {
    LedgerAttempt {
        model: redactor.redact(clip(&it.model, LONGEST_NAME)),
        message: it.message.as_deref().map(|text| clip(text, LONGEST_MESSAGE).into()),
        ..it.into()
    }
}

/// A client may have put a key in the place of a model, so the names of candidates are looked at too.
fn decision<'a>(it: &'a Decision, redactor: &Redactor, own: &[&Secret]) -> Cow<'a, Decision> {
    let redacted = |name: &str| match redactor.redact_with(clip(name, LONGEST_NAME), own) {
        Cow::Borrowed(same) if same.len() == name.len() => None,
        other => Some(Arc::<str>::from(&*other)),
    };
    if it.candidates.iter().all(|candidate| redacted(&candidate.model).is_none()) {
        return Cow::Borrowed(it);
    }
    let mut clean = it.clone();
    for candidate in &mut clean.candidates {
        if let Some(model) = redacted(&candidate.model) {
            candidate.model = model;
        }
    }
    Cow::Owned(clean)
}

/// What the ledger and accounts call a user: secrets are no part of it.
pub(super) fn kept_name<'a>(core: &Core, extensions: Option<&Extensions>, user: &'a str) -> Cow<'a, str> {
    let own = extensions.and_then(|it| it.byok.as_ref()).map(Byok::secrets).unwrap_or_default();
    kept_user(user, &core.telemetry.redactor.redact_with(user, &own))
}

/// Members are named by the client, who may have put a key there.
fn dropped<'a>(names: &'a [String], shown: impl Fn(&'a str) -> Cow<'a, str>) -> Cow<'a, [String]> {
    let all: Vec<Cow<'a, str>> = names.iter().map(|name| shown(name)).collect();
    if all.iter().zip(names).all(|(shown, name)| shown == name) {
        return Cow::Borrowed(names);
    }
    Cow::Owned(all.into_iter().map(Cow::into_owned).collect())
}

/// The route; the path where it is none, in which a client may have put a key.
fn route<'a>(session: &'a Session, record: &'a RequestRecord, shown: impl Fn(&'a str) -> Cow<'a, str>) -> Cow<'a, str> {
    if !record.route.is_empty() {
        return shown(&record.route);
    }
    let head = session.req_header();
    format!("{} {}", head.method, shown(head.uri.path())).into()
}

/// What the client says of it: `extra.trace_id`, else `x-trace-id`, else the trace of `traceparent` (W3C Trace Context).
fn trace_id<'a>(session: &'a Session, extensions: Option<&'a Extensions>) -> Option<&'a str> {
    let header = |name| session.req_header().headers.get(name).and_then(|value| value.to_str().ok());
    extensions
        .and_then(|it| it.trace_id.as_deref())
        .or_else(|| header("x-trace-id"))
        .or_else(|| header("traceparent").and_then(trace_of))
        .filter(|id| !id.is_empty())
}

/// The trace's id in a `traceparent`: `version-traceid-parentid-flags`, in hexadecimal.
fn trace_of(traceparent: &str) -> Option<&str> {
    let id = traceparent.trim().split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && id.bytes().any(|byte| byte != b'0'))
        .then_some(id)
}

/// The beginning of a text, at most so many bytes.
fn clip(text: &str, most: usize) -> &str {
    if text.len() <= most { text } else { &text[..text.floor_char_boundary(most)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_is_found_in_what_tracers_send() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_of(&format!("00-{id}-00f067aa0ba902b7-01")), Some(id));
        for bad in
            ["", "00", "00-xyz-1-01", &format!("00-{}-1-01", "0".repeat(32)), &format!("00-{}-1-01", "g".repeat(32))]
        {
            assert_eq!(trace_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!((clip("aä", 3), clip("aä", 2), clip("", 0)), ("aä", "a", ""));
    }
}
