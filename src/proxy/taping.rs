//! Takes down what a request carries, for whoever looks at it afterwards: where the stages meet [`crate::telemetry::payloads`]. Without a tape
//! each call looks at an `Option`, and that is all.

use super::core::ClientCtx;
use super::form;
use super::head::Head;
use super::lease::Lease;
use super::names::Target;
use crate::dialect::withheld::{self, Withheld};
use crate::domain::Secret;
use crate::telemetry::payloads::{AttemptTape, Begin};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HOST};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession as Session;
use serde_json::Value;

/// Begins with a request whose body is there, unless nothing is kept, or the client or its key does not want it to be.
pub(super) fn begin(session: &Session, client: &mut ClientCtx, body: &Bytes) {
    let payloads = &client.core.telemetry.payloads;
    let Some(holder) = client.holder.as_ref().filter(|_| payloads.is_on()) else { return };
    let head = session.req_header();
    let found = look(&head.headers, body);
    if found.forbidden {
        return;
    }
    let own = found.secrets.iter().flat_map(|place| secrets_in(&body[place.clone()])).collect::<Vec<_>>();
    let begin = Begin {
        id: client.record.id,
        arrived_unix_ms: client.record.arrived_unix_ms,
        started: client.started,
        principal: &holder.principal,
        method: head.method.as_str(),
        url: head.uri.path_and_query().map_or("", |it| it.as_str()),
        headers: &head.headers,
        body,
        secrets: found.secrets,
        withheld: found.unreadable,
        own,
    };
    client.tape = payloads.begin(begin, || fastrand::u32(..1_000_000));
}

/// Begins an attempt. An address that is tried after another belongs to the same one.
pub(super) fn attempt(client: &ClientCtx, number: u32, target: &Target, lease: &Lease) -> Option<AttemptTape> {
    let tape = client.tape.as_ref()?;
    Some(tape.attempt(number, &target.provider.id, &target.model.upstream, &lease.key_name()))
}

/// A provider is sent this. A client's keys are cut out of what is for the gateway; where it has put them elsewhere, they are hidden here.
pub(super) fn sent(tape: &AttemptTape, tls: bool, head: &RequestHeader, body: &Bytes) {
    let found = if tape.is_guarded() { look(&head.headers, body) } else { Withheld::default() };
    tape.sent(head.method.as_str(), url(tls, head), &head.headers, body, found.secrets, found.unreadable);
}

/// The client is sent this head.
pub(super) fn answered(client: &ClientCtx, head: &Head) {
    if let Some(tape) = &client.tape {
        tape.answered(head.status.as_u16(), head.headers());
    }
}

/// The client is sent this piece of the body.
pub(super) fn answer(client: &ClientCtx, piece: &[u8]) {
    if let Some(tape) = &client.tape {
        tape.answer(piece);
    }
}

fn url(tls: bool, head: &RequestHeader) -> String {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let path = head.uri.path_and_query().map_or("", |it| it.as_str());
    format!("{}://{host}{path}", if tls { "https" } else { "http" })
}

fn look(headers: &HeaderMap, body: &[u8]) -> Withheld {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = form::boundary(content_type).ok().flatten();
    withheld::look(body, boundary.as_deref())
}

/// The keys in what was cut out.
fn secrets_in(value: &[u8]) -> Vec<Secret> {
    fn collect(value: Value, into: &mut Vec<Secret>) {
        match value {
            Value::String(text) => into.push(Secret::new(text)),
            Value::Array(items) => items.into_iter().for_each(|item| collect(item, into)),
            Value::Object(members) => members.into_iter().for_each(|(_, member)| collect(member, into)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_slice(value) {
        collect(value, &mut found);
    }
    found
}
