//! Responses that their providers keep: what is asked of one goes to whom it came from, with the key that it was made with.
//!
//! ```text
//!   owner ──its key ready?──> request ──> head < 300 ── a stream ──> passes piece by piece
//!     │           └── no: 429     │            └─────── whole ────> passes when it is complete
//!     └── gone: 404               └─────── head ≥ 300, or nothing ──> an error in OpenAI's form
//! ```
//!
//! This asks nothing of a model: it takes nothing from limits and budgets, is not retried elsewhere, and says nothing about the health of a
//! target. But of a response that went on after its request it may tell the end, and then that one's bill is known ([`super::debt`]).

use super::accept::OfResponse;
use super::attempt::{self, Outgoing};
use super::core::{ClientCtx, Core, Phase, Stop};
use super::error::{ApiError, Reason, UNCHANGED};
use super::exchange::{Broken, Piece, RESENDS, exchange};
use super::lane::is_encoded;
use super::lease::{Lease, Wanted};
use super::names::{Names, Target};
use super::respond::{self, Framing};
use super::responses::not_found;
use crate::config::snapshot::Timeouts;
use crate::dialect::client::Client;
use crate::dialect::openai_responses::end::{self, Watch};
use crate::domain::{Clock, Ended, Fault, FaultKind, KeyId, Secret};
use crate::provider::classify::classify;
use crate::store::ports::responses::{Owed, Owner};
use bytes::Bytes;
use futures::stream::{Stream, StreamExt};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use pingora::protocols::http::ServerSession as Session;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::time::{timeout, timeout_at};

/// The largest response that passes whole.
const LONGEST: usize = 64 * 1024 * 1024;

type Pieces<'a> = Pin<&'a mut (dyn Stream<Item = Result<Piece, Broken>> + Send)>;

/// What is asked of an owner.
struct Question<'a> {
    target: Target,
    method: Method,
    path: String,
    timeouts: Timeouts,
    lease: &'a Lease,
    token: Option<Secret>,
    until: Instant,
    /// What is to be booked of the response once its end is heard.
    debt: Option<&'a dyn Owed>,
}

/// Asks the provider of a response what the client asks of it, and passes the answer on. True when the provider has it no longer.
///
/// # Errors
/// 404 when there is no such provider any more or it has no such response, what else the provider says, 403 when the key may not use it.
pub(super) async fn ask(
    core: &Arc<Core>,
    session: &mut Session,
    client: &mut ClientCtx,
    owner: &Owner,
    id: &str,
    of: OfResponse,
) -> Result<bool, Stop> {
    session.set_pipelining_enabled(true);
    let snapshot = client.snapshot.clone();
    let provider = snapshot.provider(&owner.provider).ok_or_else(|| not_found(id))?;
    if client.scopes().is_some_and(|scopes| !scopes.allows_provider(provider)) {
        let message = format!("The key may not use the provider {}, which keeps this response", provider.id);
        return Err(ApiError::new(Reason::NotAllowed, message).hopeless().into());
    }
    let target = Names { snapshot: &snapshot, discovered: &core.discovered.load() }.at(provider, &owner.model);
    let head = session.req_header();
    let path = provider.path_of(Client::OpenAiResponses, &target.model).ok_or_else(|| not_found(id))?;
    let path = below(&path, id, of, head.uri.query());
    let (method, deletes) = (head.method.clone(), head.method == Method::DELETE);
    let method = if method == Method::HEAD { Method::GET } else { method };
    client.record.provider = Some(provider.id.clone());
    client.record.model = Some(owner.model.clone());
    let until = client.started + snapshot.timeouts.total;
    let is_known = |key: KeyId| provider.keys.iter().any(|own| own.id == key);
    if owner.key.map_or(!provider.keys.is_empty(), |key| !is_known(key)) {
        return Err(not_found(id).into());
    }
    let others: Vec<KeyId> = provider.keys.iter().map(|key| key.id).filter(|key| Some(*key) != owner.key).collect();
    let wanted = Wanted { target: &target, byok: None, tried: &others, tokens: 0, deadline: until };
    let lease = Lease::take(core, wanted, Instant::now()).map_err(|none| {
        let message = "the key that this response was made with cannot be used now";
        ApiError::new(Reason::RateLimited, message).retry_after(none.ready_in.unwrap_or(UNCHANGED))
    })?;
    let timeouts = provider.timeouts.unwrap_or(snapshot.timeouts);
    let token = core.tokens.of_key(provider, lease.key(), timeouts.first_output).await.map_err(|fault| told(&fault))?;
    let debt = owner.debt.as_ref().map(|debt| &*debt.0);
    let question = Question { target, method, path, timeouts, lease: &lease, token, until, debt };
    // What comes of it says nothing about the key: it is given back as it was.
    let answered = question.put(core, session, client).await;
    if answered.is_ok() {
        client.record.ended = Ended::Complete;
    }
    match answered {
        Err(Stop::Refuse(error)) if error.status == 404 => Err(not_found(id).into()),
        other => other.map(|()| deletes),
    }
}

/// The path of what is asked, made of that of the route and the client's own query.
fn below(route: &str, id: &str, of: OfResponse, query: Option<&str>) -> String {
    let (path, own) = route.split_once('?').map_or((route, None), |(path, own)| (path, Some(own)));
    let tail = match of {
        OfResponse::Itself => "",
        OfResponse::InputItems => "/input_items",
        OfResponse::Cancel => "/cancel",
    };
    let queries: Vec<&str> = own.into_iter().chain(query).filter(|query| !query.is_empty()).collect();
    let mark = if queries.is_empty() { "" } else { "?" };
    format!("{path}/{id}{tail}{mark}{}", queries.join("&"))
}

impl Question<'_> {
    /// Puts it to the provider's addresses in turn until one takes it, and passes the answer on.
    async fn put(&self, core: &Core, session: &mut Session, client: &mut ClientCtx) -> Result<(), Stop> {
        let addresses = attempt::addresses(&core.dns, &self.target.provider, self.timeouts.connect).await;
        let addresses = addresses.map_err(|fault| told(&fault))?;
        let (mut at, mut resent) = (0, 0);
        loop {
            let outgoing = Outgoing {
                target: &self.target,
                key: self.lease.key(),
                stream: false,
                path: &self.path,
                body: b"",
                token: self.token.as_ref(),
                headers: &[],
                address: addresses[at],
                timeouts: self.timeouts,
            };
            let mut head = attempt::head(&outgoing).map_err(|fault| told(&fault))?;
            head.set_method(self.method.clone());
            // Whatever comes is passed on, so it has to be told what it is.
            let _ = head.insert_header(ACCEPT, "*/*");
            head.remove_header(&CONTENT_TYPE);
            if self.method != Method::POST {
                head.remove_header(&CONTENT_LENGTH);
            }
            let peer = attempt::peer(&outgoing);
            let dialect = self.target.dialect();
            let mut pieces = pin!(exchange(&core.connections, &peer, dialect, head, Bytes::new(), None));
            let first = (self.timeouts.connect + self.timeouts.first_output)
                .min(self.until.saturating_duration_since(Instant::now()));
            let late =
                || Fault::new(FaultKind::Timeout(Clock::FirstOutput), "the provider of the response does not answer");
            match timeout(first, pieces.next()).await {
                Err(_) => return Err(told(&late()).into()),
                Ok(Some(Ok(Piece::Head { status, headers, last, .. }))) => {
                    return self.pass(core, session, client, Head { status, headers, last }, pieces.as_mut()).await;
                }
                Ok(Some(Err(broken))) if broken.resend && resent < RESENDS => resent += 1,
                Ok(Some(Err(broken))) if broken.fault.kind == FaultKind::Connect && at + 1 < addresses.len() => at += 1,
                Ok(Some(Err(broken))) => return Err(told(&broken.fault).into()),
                Ok(_) => {
                    return Err(told(&Fault::malformed("the provider of the response does not answer in HTTP")).into());
                }
            }
        }
    }

    /// Passes an answer on.
    async fn pass(
        &self,
        core: &Core,
        session: &mut Session,
        client: &mut ClientCtx,
        head: Head,
        mut pieces: Pieces<'_>,
    ) -> Result<(), Stop> {
        let content_type = head.headers.get(CONTENT_TYPE).cloned();
        let is_stream = content_type.as_ref().is_some_and(|own| own.as_bytes().starts_with(b"text/event-stream"));
        if head.status < 300 && is_encoded(&head.headers) {
            return Err(
                told(&Fault::malformed("the provider compressed its answer although it was asked not to")).into()
            );
        }
        if head.status < 300 && is_stream && !head.last {
            return self.flow(core, session, client, pieces).await;
        }
        let mut body = Vec::new();
        let mut last = head.last;
        while !last {
            let piece = self.next(&mut pieces).await.map_err(|fault| told(&fault))?;
            last = piece.1;
            if body.len() + piece.0.len() > LONGEST {
                return Err(told(&Fault::malformed("the provider's answer is larger than 64 MiB")).into());
            }
            body.extend_from_slice(&piece.0);
        }
        // Polled once more, the exchange gives its connection back.
        let _ = pieces.next().await;
        if head.status >= 300 {
            return Err(refusal(&self.target, &head, &body).into());
        }
        if let Some(debt) = self.debt {
            debt.delivered(end::output_bytes(&body));
            end::of(&body).into_iter().for_each(|end| debt.ended(&end));
        }
        let framing = Framing::Length(body.len());
        let mut answer = respond::head(session, client, head.status, "application/json", framing);
        put_own(&mut answer, content_type, client, &self.target);
        respond::send(session, client, answer, body.into()).await
    }

    /// Passes a stream on as it comes. What breaks it off breaks the client's connection too.
    async fn flow(
        &self,
        core: &Core,
        session: &mut Session,
        client: &mut ClientCtx,
        mut pieces: Pieces<'_>,
    ) -> Result<(), Stop> {
        let mut head = respond::head(session, client, 200, "text/event-stream", Framing::Stream);
        respond::put_routing(&mut head, client, Some(&self.target));
        client.record.status = 200;
        client.record.stream = true;
        let mut phase = core.phase.subscribe();
        let mut ending = pin!(async move { phase.wait_for(|phase| *phase == Phase::Ending).await.is_ok() });
        let written = respond::accepted(core, session.write_response_header(head.into())).await;
        written.map_err(|why| why.ends(client))?;
        let mut watched = self.debt.map(Watched::new);
        loop {
            let (bytes, last) = tokio::select! {
                piece = self.next(&mut pieces) => match piece {
                    Ok(piece) => piece,
                    Err(fault) => {
                        client.record.ended = Ended::Broken;
                        client.record.error_code = Some(fault.kind.name().to_owned());
                        return Err(Stop::Cut);
                    }
                },
                _ = session.read_body_or_idle(true) => {
                    client.record.ended = Ended::ClientGone;
                    return Err(Stop::Gone);
                }
                true = &mut ending => {
                    client.record.ended = Ended::Shutdown;
                    return Err(Stop::Cut);
                }
            };
            if let Some(watched) = &mut watched {
                watched.push(&bytes);
            }
            let written = respond::accepted(core, session.write_response_body(bytes, last)).await;
            written.map_err(|why| why.ends(client))?;
            if last {
                let _ = pieces.next().await;
                return Ok(());
            }
        }
    }

    /// The next piece of a body, and whether it is the last.
    async fn next(&self, pieces: &mut Pieces<'_>) -> Result<(Bytes, bool), Fault> {
        let until = self.until.min(Instant::now() + self.timeouts.idle);
        match timeout_at(until.into(), pieces.next()).await {
            Ok(Some(Ok(Piece::Body { bytes, last }))) => Ok((bytes, last)),
            Ok(Some(Err(broken))) => Err(broken.fault),
            Ok(_) => Err(Fault::new(FaultKind::Truncated, "the provider's answer broke off before it was complete")),
            Err(_) => {
                Err(Fault::new(FaultKind::Timeout(Clock::Idle), "nothing more from the provider of the response"))
            }
        }
    }
}

/// A stream that passes and may tell how the response ends. However it is broken off, what was seen of it is noted.
struct Watched<'a> {
    watch: Watch,
    debt: &'a dyn Owed,
}

impl<'a> Watched<'a> {
    fn new(debt: &'a dyn Owed) -> Self {
        Self { watch: Watch::default(), debt }
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.watch.push(bytes)
            && let Some(end) = self.watch.end()
        {
            self.debt.delivered(self.watch.output_bytes());
            self.debt.ended(end);
        }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.debt.delivered(self.watch.output_bytes());
    }
}

/// The head of a provider's answer.
struct Head {
    status: u16,
    headers: HeaderMap,
    last: bool,
}

fn put_own(head: &mut super::head::Head, content_type: Option<HeaderValue>, client: &ClientCtx, target: &Target) {
    if let Some(own) = content_type {
        head.put_value(&CONTENT_TYPE, own);
    }
    respond::put_routing(head, client, Some(target));
}

/// What a client is told of a provider's refusal: the provider's own word on what was asked, and otherwise as of any failure.
fn refusal(target: &Target, head: &Head, body: &[u8]) -> ApiError {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let unix_ms = u64::try_from(now).unwrap_or(u64::MAX);
    let body = if is_encoded(&head.headers) { &b""[..] } else { body };
    let fault = classify(target.dialect(), head.status, header, body, unix_ms);
    match head.status {
        404 => ApiError::new(Reason::ResponseNotFound, fault.message),
        400 | 409 | 422 => ApiError::from(fault),
        _ => told(&fault),
    }
}

fn told(fault: &Fault) -> ApiError {
    ApiError::from_last_fault(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_that_of_the_route_with_both_queries() {
        let path = |route: &str, of, query| below(route, "resp_1", of, query);
        assert_eq!(path("/responses", OfResponse::Itself, None), "/responses/resp_1");
        assert_eq!(path("/responses", OfResponse::Itself, Some("")), "/responses/resp_1");
        assert_eq!(
            path("/responses", OfResponse::InputItems, Some("limit=5")),
            "/responses/resp_1/input_items?limit=5"
        );
        assert_eq!(
            path("/openai/responses?api-version=1", OfResponse::Cancel, Some("a=b")),
            "/openai/responses/resp_1/cancel?api-version=1&a=b"
        );
    }
}
