//! What goes back to the client: heads, whole answers, errors.

use super::core::{ClientCtx, Core, Phase, Stop};
use super::error::ApiError;
use super::head::{Head, name};
use super::ledger;
use super::names::Target;
use super::quota;
use super::taping;
use crate::dialect::client::Client;
use crate::domain::Ended;
use bytes::Bytes;
use http::StatusCode;
use http::header;
use pingora::protocols::http::ServerSession as Session;
use std::time::Duration;

/// How long a client may take to accept a piece of its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// And how long it may when the gateway ends: it waits a little longer for the records of what is cut.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Why a client has not accepted a piece of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwritten {
    /// It is gone, or takes nothing.
    Gone,
    /// It is too slow for a gateway that ends.
    Shutdown,
}

impl Unwritten {
    /// The end of its request, with the reason in the record.
    pub(super) fn ends(self, client: &mut ClientCtx) -> Stop {
        if self == Self::Shutdown {
            client.record.ended = Ended::Shutdown;
        }
        Stop::Gone
    }
}

/// Waits for a client to accept a piece. What is accepted at once costs no clock.
///
/// # Errors
/// That it has not; the record says so where the gateway's end is the reason.
pub(super) async fn accepted<E>(core: &Core, write: impl Future<Output = Result<(), E>>) -> Result<(), Unwritten> {
    let too_late = async {
        let mut phase = core.phase.subscribe();
        let ends = async {
            // The sender is the core's own.
            let _ = phase.wait_for(|phase| *phase == Phase::Ending).await;
            tokio::time::sleep(LAST_WRITE).await;
        };
        tokio::select! {
            () = ends => Unwritten::Shutdown,
            () = tokio::time::sleep(WRITE_TIMEOUT) => Unwritten::Gone,
        }
    };
    tokio::select! {
        biased;
        written = write => written.map_err(|_| Unwritten::Gone),
        why = too_late => Err(why),
    }
}

/// The body of an answer: whole with its length, or a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(usize),
    /// Until it ends.
    Stream,
}

/// A head with the headers that every answer has.
pub(super) fn head(
    session: &Session,
    client: &ClientCtx,
    status: u16,
    content_type: &'static str,
    framing: Framing,
) -> Head {
    let mut head = Head::new(status);
    head.put_static(&header::CONTENT_TYPE, content_type);
    match framing {
        Framing::Length(length) => head.put_number(&header::CONTENT_LENGTH, length as u64),
        Framing::Stream => {
            head.put_static(&header::CACHE_CONTROL, "no-cache");
            if session.req_header().version == http::Version::HTTP_11 && !session.is_http2() {
                head.put_static(&header::TRANSFER_ENCODING, "chunked");
            }
        }
    }
    let id = client.record.id.to_string();
    head.put(&name::X_REQUEST_ID, &id);
    if client.dialect == Client::AnthropicMessages {
        head.put(&name::REQUEST_ID, &id);
    }
    if let Some(standings) = &client.standings {
        quota::put_standings(&mut head, standings);
    }
    if let Some(origin) = &client.cors_origin {
        head.put(&header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        head.put_static(&header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        head.put_static(&header::VARY, "origin");
    }
    head
}

/// The headers that a browser may show to a page.
const EXPOSED: &str = "x-request-id, request-id, x-orbyt-token-count, x-provider, x-model, x-orbyt-attempts, x-orbyt-fallback, x-orbyt-dropped, retry-after, \
     x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, \
     x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, x-cache, x-cache-ttl, x-cache-similarity, age";

/// Puts the headers on a head that say who served and how.
pub(super) fn put_routing(head: &mut Head, client: &ClientCtx, target: Option<&Target>) {
    let (provider, model) = match target {
        Some(target) => (Some(&*target.provider.id), Some(&*target.model.upstream)),
        // An error answer names whom it asked last.
        None => (client.record.provider.as_deref(), client.record.model.as_deref()),
    };
    for (name, value) in [(&name::PROVIDER, provider), (&name::MODEL, model)] {
        if let Some(value) = value {
            head.put(name, value);
        }
    }
    // The attempt that serves is not in the record before it is over.
    let attempts = client.record.attempt_count() + usize::from(target.is_some());
    head.put_number(&name::ATTEMPTS, attempts as u64);
    head.put_static(&name::FALLBACK, if client.record.fallback { "true" } else { "false" });
    if let Some(note) = &client.cache {
        note.put(client.record.cache, target.is_some(), head);
    }
    if !client.record.dropped.is_empty() {
        head.put(&name::DROPPED, &client.record.dropped.join(", "));
    }
}

/// Answers with a whole body.
///
/// # Errors
/// `Gone` when the client does not take it.
pub(super) async fn whole(
    session: &mut Session,
    client: &mut ClientCtx,
    status: u16,
    content_type: &'static str,
    body: Bytes,
) -> Result<(), Stop> {
    let head = head(session, client, status, content_type, Framing::Length(body.len()));
    send(session, client, head, body).await?;
    client.record.ended = Ended::Complete;
    Ok(())
}

/// Answers with an error in the client's form.
///
/// # Errors
/// `Gone` when the client does not take it.
pub(super) async fn error(session: &mut Session, client: &mut ClientCtx, error: &ApiError) -> Result<(), Stop> {
    let body = Bytes::from(error.body(client.dialect, &client.record.id.to_string(), &client.record.attempts));
    let mut head = head(session, client, error.status, "application/json", Framing::Length(body.len()));
    if let Some(wait) = error.retry_after {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        head.put_number(&header::RETRY_AFTER, seconds.max(1));
    }
    if error.hopeless {
        head.put_static(&name::SHOULD_RETRY, "false");
    }
    if let Some(allow) = error.allow {
        head.put_static(&header::ALLOW, allow);
    }
    if client.record.requested_model.is_some() {
        put_routing(&mut head, client, None);
    }
    if client.record.ended != Ended::Shutdown {
        client.record.ended = Ended::Error;
    }
    client.record.error_code = error.code.as_deref().map(str::to_owned);
    // What is left of the body is not read: the connection ends with this answer.
    let unread = !session.is_body_done();
    if unread {
        session.set_keepalive(None);
    }
    send(session, client, head, body).await?;
    if unread {
        drain(session).await;
    }
    Ok(())
}

/// Reads on for a moment, so that a client that is still sending gets to see its answer: closing on unread bytes resets the connection.
async fn drain(session: &mut Session) {
    const MOST: usize = 4 * 1024 * 1024;
    let headers = &session.req_header().headers;
    if headers.contains_key(http::header::EXPECT) {
        return;
    }
    let read_on = async {
        let mut read = 0;
        while let Ok(Some(piece)) = session.read_request_body().await {
            read += piece.len();
            if read > MOST {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), read_on).await;
}

/// Writes a head and a whole body.
///
/// # Errors
/// `Gone` when the client does not take it.
pub(super) async fn send(session: &mut Session, client: &mut ClientCtx, head: Head, body: Bytes) -> Result<(), Stop> {
    client.record.status = head.status.as_u16();
    let bodiless = session.req_header().method == http::Method::HEAD || head.status == StatusCode::NO_CONTENT;
    // What was answered without an error is complete in a moment.
    let ended = if client.record.ended == Ended::ClientGone { Ended::Complete } else { client.record.ended };
    ledger::seal(session, client, ended, None, if bodiless { 0 } else { body.len() });
    taping::answered(client, &head);
    taping::answer(client, &body);
    let write = async {
        session.write_response_header(head.into()).await?;
        if bodiless { Ok(()) } else { session.write_response_body(body, true).await }
    };
    accepted(&client.core, write).await.map_err(|why| why.ends(client))
}

/// Answers a browser's question before it sends.
///
/// # Errors
/// `Gone` when the client does not take it.
pub(super) async fn preflight(session: &mut Session, client: &mut ClientCtx) -> Result<(), Stop> {
    let mut head = head(session, client, 204, "text/plain", Framing::Length(0));
    head.remove(&header::CONTENT_TYPE);
    head.remove(&header::CONTENT_LENGTH);
    if client.cors_origin.is_some() {
        let asked = session.req_header().headers.get("access-control-request-headers");
        let allowed = asked.and_then(|value| value.to_str().ok()).unwrap_or("authorization, content-type").to_owned();
        head.put(&header::ACCESS_CONTROL_ALLOW_HEADERS, &allowed);
        head.put_static(&header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE, OPTIONS");
        head.put_static(&header::ACCESS_CONTROL_MAX_AGE, "86400");
    }
    send(session, client, head, Bytes::new()).await?;
    client.record.ended = Ended::Complete;
    Ok(())
}
