//! One exchange with a provider, over a connection of Pingora's pool: connect, send the request, read the answer piece by piece.
//!
//! ```text
//!   connect ──> send head and body ──> Head ──> Body* ──> Body(.., last) and the connection goes back to the pool
//!      │                 │              │         │
//!      └─ Connect        └──────────────┴─────────┴─ Reset, Malformed; `resend` when the provider cannot have seen the request
//! ```
//!
//! An exchange is a stream of [`Piece`]s that is polled in the relay's `select!`. Dropping it closes the connection (HTTP/1) or resets
//! the stream (HTTP/2): that is how a provider learns that nobody waits any more.

use super::taping;
use crate::dialect::embeddings::bedrock;
use crate::dialect::table::Dialect;
use crate::domain::{Fault, FaultKind, RateLimits};
use crate::provider::rate_limits;
use crate::telemetry::payloads::AttemptTape;
use async_stream::try_stream;
use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use http::HeaderMap;
use http::header::HeaderName;
use pingora::connectors::http::Connector;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v1::client::{HttpSession as Http1, http_req_header_to_wire};
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorType};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::AsyncWriteExt;

/// How many idle connections to providers are kept, with and without TLS.
const IDLE_CONNECTIONS: usize = 4096;
/// How often a request may be sent once more because the connection out of the pool had died: where one has, others have too.
pub(super) const RESENDS: u32 = 16;
/// A body up to here is copied behind its head, so that both are sent in one write.
const TOGETHER: usize = 16 * 1024;

/// What comes from a provider.
#[derive(Debug)]
pub(super) enum Piece {
    /// The head of its answer, without those headers of a success that nobody asks for.
    Head {
        /// The HTTP status.
        status: u16,
        /// Whether more follows.
        last: bool,
        headers: HeaderMap,
        /// What it tells of the key's limits.
        limits: RateLimits,
    },
    /// A piece of the body.
    Body {
        bytes: Bytes,
        /// Whether HTTP says that the answer is complete.
        last: bool,
    },
}

impl Piece {
    /// How many bytes of the body it holds.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Head { .. } => 0,
            Self::Body { bytes, .. } => bytes.len(),
        }
    }
}

/// Why an exchange broke off.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) fault: Fault,
    /// The connection had gone stale, or the provider refused to look at the request: sending it again costs nobody anything.
    pub(super) resend: bool,
}

/// The connections to providers.
pub(super) struct Connections {
    /// Without TLS: always HTTP/1.
    plain: TransportConnector,
    /// With TLS: HTTP/2 where the provider has it.
    tls: Connector,
}

impl Default for Connections {
    fn default() -> Self {
        let options = || Some(ConnectorOptions::new(IDLE_CONNECTIONS));
        Self { plain: TransportConnector::new(options()), tls: Connector::new(options()) }
    }
}

/// A connection to a provider for the time of an exchange, or a stream of it.
///
/// An HTTP/2 connection is given back whichever way the exchange ends, also by being dropped: others use it too. One of HTTP/1 only by
/// [`Link::release`]; otherwise it is closed, because what the provider still has to say would be taken for the next answer.
struct Link<'a> {
    /// Boxed, because a future keeps a place for a value in every state that it is moved through. Empty once it is given back.
    session: Option<Box<HttpSession>>,
    connections: &'a Connections,
    peer: &'a HttpPeer,
    reused: bool,
}

impl<'a> Link<'a> {
    fn new(connections: &'a Connections, peer: &'a HttpPeer, session: HttpSession, reused: bool) -> Self {
        Self { session: Some(Box::new(session)), connections, peer, reused }
    }

    fn session(&mut self) -> Result<&mut HttpSession, Box<Error>> {
        self.session
            .as_deref_mut()
            .ok_or_else(|| Error::explain(ErrorType::InternalError, "the connection is given back"))
    }

    /// Gives the connection back, if it can serve again.
    async fn release(&mut self) {
        match self.session.take().map(|session| *session) {
            Some(HttpSession::H1(mut h1)) if !self.peer.is_tls() => {
                h1.respect_keepalive();
                if let Some(stream) = h1.reuse().await {
                    let idle = self.peer.options.idle_timeout;
                    self.connections.plain.release_stream(stream, self.peer.reuse_hash(), idle);
                }
            }
            // Boxed, because it is large, and most are released without.
            Some(other) => Box::pin(self.connections.release_tls(other, self.peer)).await,
            None => {}
        }
    }
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        if matches!(self.session.as_deref(), Some(HttpSession::H2(_))) {
            // For HTTP/2 nothing in it waits.
            let _ = self.release().now_or_never();
        }
    }
}

impl Connections {
    async fn release_tls(&self, session: HttpSession, peer: &HttpPeer) {
        self.tls.release_http_session(session, peer, peer.options.idle_timeout).await;
    }
}

/// The exchange of one request, taken down where there is a tape. Nothing happens before it is polled.
pub(super) fn exchange<'a>(
    connections: &'a Connections,
    peer: &'a HttpPeer,
    dialect: Dialect,
    head: Box<RequestHeader>,
    body: Bytes,
    tape: Option<AttemptTape>,
) -> impl Stream<Item = Result<Piece, Broken>> + 'a {
    // Who takes anything has to be told what it is.
    let any = head.headers.get(http::header::ACCEPT).is_some_and(|accepted| accepted == "*/*");
    try_stream! {
        if let Some(tape) = &tape {
            taping::sent(tape, peer.is_tls(), &head, &body);
        }
        // What is boxed is as large as a TLS handshake, and gone when the answer comes.
        let (mut link, sent) = if peer.is_tls() {
            let connected = Box::pin(connections.tls.get_http_session(peer)).await;
            let (session, reused) = connected.map_err(|error| no_connection(&error))?;
            let mut link = Link::new(connections, peer, session, reused);
            let sent = send(link.session().map_err(|error| after_head(&error))?, head, body).await;
            (link, sent)
        } else {
            let idle = connections.plain.reused_stream(peer).await;
            let reused = idle.is_some();
            let mut stream = match idle {
                Some(stream) => stream,
                None => Box::pin(connections.plain.new_stream(peer)).await.map_err(|error| no_connection(&error))?,
            };
            let sent = send_plain(&mut stream, &head, &body).await;
            let session = HttpSession::H1(Http1::new_with_options(stream, peer));
            (Link::new(connections, peer, session, reused), sent)
        };
        headed(&mut link, sent).await?;
        let provider = link.session().map_err(|error| after_head(&error))?;
        let mut last = ended(provider).map_err(|error| after_head(&error))?;
        let answer = provider.response_header().map(|head| {
            (head.status.as_u16(), kept(dialect, any, head.status, &head.headers), limits(dialect, &head.headers))
        });
        if let (Some(tape), Some(head)) = (&tape, provider.response_header()) {
            tape.headed(head.status.as_u16(), &head.headers);
        }
        let (status, headers, limits) = answer.unwrap_or_default();
        yield Piece::Head { status, headers, limits, last };
        while !last {
            let piece = provider.read_response_body().await.map_err(|error| after_head(&error))?;
            last = piece.is_none() || ended(provider).map_err(|error| after_head(&error))?;
            if let (Some(tape), Some(bytes)) = (&tape, &piece) {
                tape.piece(bytes);
            }
            yield Piece::Body { bytes: piece.unwrap_or_default(), last };
        }
        link.release().await;
    }
}

/// What came of sending a request.
enum Sent {
    Whole,
    /// The head, and not all of the body.
    Broken(Box<Error>),
    Nothing(Box<Error>),
}

async fn send(provider: &mut HttpSession, head: Box<RequestHeader>, body: Bytes) -> Sent {
    if let Err(error) = provider.write_request_header(head).await {
        return Sent::Nothing(error);
    }
    let sent = match provider.write_request_body(body, true).await {
        Ok(()) => provider.finish_request_body().await,
        failed => failed,
    };
    sent.map_or_else(Sent::Broken, |()| Sent::Whole)
}

/// Pingora writes head and body apart. A system call is a tenth of what a small request costs, so this writes them together.
async fn send_plain(stream: &mut pingora::protocols::Stream, head: &RequestHeader, body: &[u8]) -> Sent {
    let Some(mut wire) = http_req_header_to_wire(head) else {
        return Sent::Nothing(Error::explain(ErrorType::InvalidHTTPHeader, "the path is not valid"));
    };
    let together = body.len() <= TOGETHER;
    if together {
        wire.extend_from_slice(body);
    }
    let write = async {
        stream.write_all(&wire).await?;
        if !together {
            stream.write_all(body).await?;
        }
        stream.flush().await
    };
    match write.await {
        Ok(()) => Sent::Whole,
        Err(error) => Sent::Broken(Error::because(ErrorType::WriteError, "while writing the request", error)),
    }
}

/// Reads the head of the answer, if there can be one.
async fn headed(link: &mut Link<'_>, sent: Sent) -> Result<(), Broken> {
    let (reused, connections, peer) = (link.reused, link.connections, link.peer);
    let provider = link.session().map_err(|error| after_head(&error))?;
    let write = match sent {
        Sent::Nothing(error) if matches!(error.etype(), ErrorType::InvalidHTTPHeader) => {
            let fault = Fault::new(FaultKind::Configuration, "the provider's path or host is not valid in HTTP");
            return Err(Broken { fault, resend: false });
        }
        // Without its head a request is none.
        Sent::Nothing(error) => return Err(Broken { fault: fault(&error), resend: reused }),
        Sent::Broken(error) => Some(error),
        Sent::Whole => None,
    };
    // A provider that refuses a large body may answer, and close, before it has read it: its answer counts, not the failed write.
    let Err(mut read) = read_head(provider).await else { return Ok(()) };
    let resend = match provider {
        HttpSession::H2(h2) => {
            if matches!(read.etype(), ErrorType::H2Downgrade | ErrorType::InvalidH2) {
                connections.tls.prefer_h1(peer);
                h2.conn.mark_shutdown();
            }
            // Pingora says yes where HTTP/2 says that the request was not looked at, or the connection had died before. It says so too
            // where the answer was not HTTP/2.
            read.retry.decide_reuse(reused);
            read.retry() && !matches!(read.etype(), ErrorType::InvalidH2)
        }
        other => reused && other.response_header().is_none() && said_nothing(&read),
    };
    let fault = fault(write.as_deref().filter(|_| resend).unwrap_or(&read));
    Err(Broken { fault, resend })
}

/// Whether a connection of HTTP/1 ended before a single byte of an answer.
fn said_nothing(error: &Error) -> bool {
    let ended = matches!(error.etype(), ErrorType::ConnectionClosed | ErrorType::ReadError);
    ended && error.context.as_ref().is_some_and(|context| context.as_str().ends_with("already read: 0"))
}

/// Reads the head; informational ones are passed over.
async fn read_head(provider: &mut HttpSession) -> Result<(), Box<Error>> {
    loop {
        provider.read_response_header().await?;
        match provider.response_header().map(|head| head.status.as_u16()) {
            Some(101) => return Err(Error::explain(ErrorType::InvalidHTTPHeader, "an upgrade that nobody asked for")),
            Some(100..=199) => {}
            _ => return Ok(()),
        }
    }
}

/// Whether the answer is complete. An HTTP/2 stream that broke also ends: it is asked why.
fn ended(provider: &mut HttpSession) -> Result<bool, Box<Error>> {
    match provider {
        HttpSession::H2(h2) => h2.check_response_end_or_error(),
        other => Ok(other.response_done()),
    }
}

/// What the head tells of the key's limits.
fn limits(dialect: Dialect, headers: &HeaderMap) -> RateLimits {
    // Most say nothing, and looking for each of the names costs more than this.
    if !headers.keys().any(|name| name.as_str().contains("ratelimit")) {
        return RateLimits::default();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    rate_limits(dialect, header, u64::try_from(now).unwrap_or(u64::MAX))
}

/// The headers that triage asks for. Of a success that is next to nothing, and a map of all would be copied for every answer.
fn kept(dialect: Dialect, any: bool, status: http::StatusCode, headers: &HeaderMap) -> HeaderMap {
    if status.as_u16() >= 300 {
        return headers.clone();
    }
    let counts = (dialect == Dialect::BedrockConverse).then_some(bedrock::TOKENS);
    let media = any.then_some(http::header::CONTENT_TYPE.as_str());
    let names = [Some(http::header::CONTENT_ENCODING.as_str()), counts, media];
    let found = |name| Some((HeaderName::from_static(name), headers.get(name)?.clone()));
    names.into_iter().flatten().filter_map(found).collect()
}

/// Several exchanges, one after the other, as one: the bodies of their answers follow each other, and the first that is refused ends it.
pub(super) fn exchanges<'a>(
    connections: &'a Connections,
    peer: &'a HttpPeer,
    dialect: Dialect,
    requests: Vec<(Box<RequestHeader>, Bytes)>,
    tape: Option<AttemptTape>,
) -> impl Stream<Item = Result<Piece, Broken>> + 'a {
    try_stream! {
        let mut left = requests.len();
        for (head, body) in requests {
            left -= 1;
            let mut is_over = left == 0;
            let mut pieces = Box::pin(exchange(connections, peer, dialect, head, body, tape.clone()));
            while let Some(mut piece) = pieces.next().await.transpose()? {
                if let Piece::Head { status, .. } = &piece {
                    is_over |= *status >= 300;
                }
                match &mut piece {
                    Piece::Head { last, .. } | Piece::Body { last, .. } => *last &= is_over,
                }
                yield piece;
            }
            if is_over {
                break;
            }
        }
    }
}

/// The context of Pingora's error names addresses, which are not the client's to know.
fn no_connection(error: &Error) -> Broken {
    log::debug!("no connection to a provider: {error}");
    let message = format!("no connection to the provider: {}", error.etype().as_str());
    // A stream that could not be opened on a connection that stood in the pool: it had died.
    let resend = matches!(error.etype(), ErrorType::H2Error);
    Broken { fault: Fault::new(FaultKind::Connect, message), resend }
}

fn after_head(error: &Error) -> Broken {
    Broken { fault: fault(error), resend: false }
}

fn fault(error: &Error) -> Fault {
    // Pingora's name for a broken chunk; the constant itself is private.
    let broken_chunk = error.etype().as_str() == "InvalidChunk";
    let not_http = matches!(error.etype(), ErrorType::InvalidHTTPHeader | ErrorType::H1Error | ErrorType::InvalidH2);
    if not_http || broken_chunk {
        return Fault::malformed("the provider's answer is not HTTP");
    }
    Fault::new(FaultKind::Reset, "the provider closed the connection before its answer was complete")
}
