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

use crate::domain::{Fault, FaultKind};
use async_stream::try_stream;
use bytes::Bytes;
use futures::Stream;
use http::HeaderMap;
use pingora::connectors::http::Connector;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v1::client::{HttpSession as Http1, http_req_header_to_wire};
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorType};
use tokio::io::AsyncWriteExt;

/// How many idle connections to providers are kept, with and without TLS.
const IDLE_CONNECTIONS: usize = 4096;
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

impl Connections {
    /// Puts a connection back, if it can serve again.
    async fn release(&self, provider: HttpSession, peer: &HttpPeer) {
        match provider {
            HttpSession::H1(mut h1) if !peer.is_tls() => {
                h1.respect_keepalive();
                if let Some(stream) = h1.reuse().await {
                    self.plain.release_stream(stream, peer.reuse_hash(), peer.options.idle_timeout);
                }
            }
            other => self.tls.release_http_session(other, peer, peer.options.idle_timeout).await,
        }
    }
}

/// The exchange of one request. Nothing happens before it is polled.
pub(super) fn exchange<'a>(
    connections: &'a Connections,
    peer: &'a HttpPeer,
    head: Box<RequestHeader>,
    body: Bytes,
) -> impl Stream<Item = Result<Piece, Broken>> + 'a {
    try_stream! {
        let (mut provider, sent, reused) = if peer.is_tls() {
            // Boxed, because it is as large as a TLS handshake, and gone when the answer comes.
            let connected = Box::pin(connections.tls.get_http_session(peer)).await;
            let (mut provider, reused) = connected.map_err(|error| no_connection(&error))?;
            let sent = send(&mut provider, head, body).await;
            (provider, sent, reused)
        } else {
            let connected = Box::pin(connections.plain.get_stream(peer)).await;
            let (mut stream, reused) = connected.map_err(|error| no_connection(&error))?;
            let sent = send_plain(&mut stream, &head, &body).await;
            (HttpSession::H1(Http1::new_with_options(stream, peer)), sent, reused)
        };
        if let Err(error) = headed(&mut provider, sent).await {
            if matches!(error.etype(), ErrorType::H2Downgrade | ErrorType::InvalidH2) {
                connections.tls.prefer_h1(peer);
            }
            Err(before_head(error, reused))?;
        }
        let last = ended(&mut provider).map_err(|error| after_head(&error))?;
        let answer = provider.response_header().map(|head| (head.status.as_u16(), kept(head.status, &head.headers)));
        let (status, headers) = answer.unwrap_or_default();
        yield Piece::Head { status, headers, last };
        let mut last = last;
        while !last {
            let piece = provider.read_response_body().await.map_err(|error| after_head(&error))?;
            last = piece.is_none() || ended(&mut provider).map_err(|error| after_head(&error))?;
            yield Piece::Body { bytes: piece.unwrap_or_default(), last };
        }
        connections.release(provider, peer).await;
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
async fn headed(provider: &mut HttpSession, sent: Sent) -> Result<(), Box<Error>> {
    let write = match sent {
        Sent::Nothing(error) => return Err(error),
        Sent::Broken(error) => Some(error),
        Sent::Whole => None,
    };
    // A provider that refuses a large body may answer, and close, before it has read it: its answer counts, not the failed write.
    read_head(provider).await.map_err(|read| write.unwrap_or(read))
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

/// The headers that triage asks for. Of a success that is next to nothing, and a map of all would be copied for every answer.
fn kept(status: http::StatusCode, headers: &HeaderMap) -> HeaderMap {
    if status.as_u16() >= 300 {
        return headers.clone();
    }
    let encoding = headers.get(http::header::CONTENT_ENCODING);
    encoding.map(|value| (http::header::CONTENT_ENCODING, value.clone())).into_iter().collect()
}

fn no_connection(error: &Error) -> Broken {
    let context = error.context.as_ref().map(|context| context.as_str()).unwrap_or_default();
    let why = if context.is_empty() { error.etype().as_str() } else { context };
    Broken { fault: Fault::new(FaultKind::Connect, format!("no connection to the provider: {why}")), resend: false }
}

/// What a break before any answer means: on a connection that had served before it had gone stale. Pingora knows of other cases in which
/// the provider cannot have begun, such as HTTP/2's refused stream.
fn before_head(mut error: Box<Error>, reused: bool) -> Broken {
    error.retry.decide_reuse(reused);
    let fault = fault(&error);
    Broken { resend: error.retry() || reused && fault.kind == FaultKind::Reset, fault }
}

fn after_head(error: &Error) -> Broken {
    Broken { fault: fault(error), resend: false }
}

fn fault(error: &Error) -> Fault {
    match error.etype() {
        ErrorType::InvalidHTTPHeader | ErrorType::H1Error | ErrorType::InvalidH2 => {
            Fault::malformed("the provider's answer is not HTTP")
        }
        _ => Fault::new(FaultKind::Reset, "the provider closed the connection before its answer was complete"),
    }
}
