//! Where a connection comes in, and a request on it: its head is read, the gateway answers, the record is closed.
//!
//! HTTP/2 without TLS is told from HTTP/1 by three bytes, and has as long for the rest of its preface as a connection may be silent.
//! Pingora's own detection waits for all 24 bytes of the preface and has no clock: a health check as short as `OPTIONS / HTTP/1.0` would hang, and a connection that says nothing would be held for ever.

use super::core::{ClientCtx, Core, Phase};
use super::error::{ApiError, Reason};
use super::gateway::{Gateway, KEEPALIVE_SECONDS};
use super::record;
use crate::dialect::client::Client;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use pingora::{Error, ErrorType};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a new connection may say nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// With what a connection of HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a connection waits for its next request until the client says otherwise, in seconds: Pingora's own default.
const KEEPALIVE: u64 = 60;

/// The door in front of the gateway.
pub struct Door {
    house: Arc<House>,
}

/// What is behind the door; Pingora serves HTTP/2 to it.
struct House {
    gateway: Gateway,
    options: HttpServerOptions,
}

impl Door {
    /// A door to the gateway.
    pub fn new(gateway: Gateway) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        options.h2_idle_timeout = Some(Duration::from_secs(KEEPALIVE_SECONDS));
        Self { house: Arc::new(House { gateway, options }) }
    }

    /// One request after the other, as Pingora does it for HTTP/1.
    async fn http1(&self, stream: Stream, shutdown: &ShutdownWatch) {
        let mut session = Box::new(ServerSession::new_http1(stream));
        session.set_keepalive(Some(KEEPALIVE));
        while let Some((stream, settings)) = self.house.serve(session, shutdown).await.map(ReusedHttpStream::consume) {
            session = Box::new(ServerSession::new_http1(stream));
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
        }
    }
}

#[async_trait]
impl ServerApp for Door {
    async fn process_new(self: &Arc<Self>, mut stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let _open = Open::count(self.house.gateway.core());
        // With TLS the two have agreed on the version already.
        if stream.get_ssl_digest().is_some() {
            return self.house.process_new(stream, shutdown).await;
        }
        match is_http2(&mut stream, SILENCE).await {
            Some(true) => return self.house.process_new(stream, shutdown).await,
            Some(false) => self.http1(stream, shutdown).await,
            None => {}
        }
        None
    }
}

/// Whether a new connection begins as HTTP/2 does; `None` for one that ends, or says too little for too long. Nothing is taken from it.
async fn is_http2(stream: &mut Stream, silence: Duration) -> Option<bool> {
    let begun = Instant::now();
    let mut start = [0; 3];
    let peeked = tokio::time::timeout(silence, stream.try_peek(&mut start)).await.ok()?.ok()?;
    if !peeked || start != *b"PRI" {
        return Some(false);
    }
    // Pingora waits for the rest of it, and has no clock.
    let mut preface = [0; PREFACE.len()];
    let left = silence.saturating_sub(begun.elapsed());
    tokio::time::timeout(left, stream.try_peek(&mut preface)).await.ok()?.ok()?;
    Some(preface == *PREFACE)
}

#[async_trait]
impl HttpServerApp for House {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.serve(Box::new(session), shutdown).await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

/// A connection, counted for as long as it is open: a process that was replaced stays for the last one.
struct Open(Arc<Core>);

impl Open {
    fn count(core: &Arc<Core>) -> Self {
        core.open_connections.fetch_add(1, Ordering::Relaxed);
        Self(core.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl House {
    /// Returns when a connection on which no request has come is to be closed: when the process stops, but not because a successor takes the
    /// new ones. A client that sends a request in that moment would see it refused; so it may send it, and is told then to come
    /// back by another connection.
    async fn is_unwanted(&self, stopping: &mut ShutdownWatch) {
        let mut phase = self.gateway.core().phase.subscribe();
        // Neither sender goes before the connection does.
        let _ = stopping.wait_for(|stopping| *stopping).await;
        let _ = phase.wait_for(|phase| !matches!(phase, Phase::Serving | Phase::HandedOver)).await;
    }

    /// Reads a request and answers it. The connection comes back when it may carry another one.
    async fn serve(&self, mut session: Box<ServerSession>, shutdown: &ShutdownWatch) -> Option<ReusedHttpStream> {
        let mut stopping = shutdown.clone();
        let read = tokio::select! {
            // A request that is there already is served.
            biased;
            read = session.read_request() => read,
            // Nobody waits for anything on this connection.
            () = self.is_unwanted(&mut stopping) => return None,
        };
        match read {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                refuse(&mut session, &error).await;
                return None;
            }
        }
        // The phase is known before Pingora has told all connections.
        let is_last = *stopping.borrow() || *self.gateway.core().phase.borrow() != Phase::Serving;
        if is_last || session.req_header().method == Method::CONNECT {
            session.set_keepalive(None);
        } else if session.get_keepalive() == Some(0) {
            // Pingora takes `keep-alive` for leave to stay for ever.
            session.set_keepalive(Some(KEEPALIVE_SECONDS));
        }
        let mut client = Box::new(ClientCtx::new(self.gateway.core()));
        let answered = self.gateway.request(&mut session, &mut client).await;
        record::close(self.gateway.core(), &session, &mut client);
        // An answer that was cut must not end like one that is whole: the connection is dropped.
        answered.ok()?;
        let settings = HttpPersistentSettings::for_session(&session);
        let reusable = session.finish().await.ok().flatten()?;
        Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
    }
}

/// Answers what is not a request of HTTP, if anybody is there to read it.
async fn refuse(session: &mut ServerSession, error: &Error) {
    log::debug!("no request: {error}");
    if *error.etype() == ErrorType::InvalidHTTPHeader {
        let refusal = ApiError::new(Reason::InvalidRequest, "this is not a request of HTTP/1.1 or HTTP/2");
        let body = Bytes::from(refusal.body(Client::default(), "", &[]));
        let mut head = ServerSession::generate_error(400);
        let put =
            [("content-type", HeaderValue::from_static("application/json")), ("content-length", body.len().into())];
        for (name, value) in put {
            // Both names are valid.
            let _ = head.insert_header(name, value);
        }
        // Who sends no request may not read an answer either.
        let _ = session.write_error_response(head, body).await;
    }
    session.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    async fn connection(begins: &[u8]) -> (TcpStream, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(begins).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (client, Box::new(pingora::protocols::l4::stream::Stream::from(server)))
    }

    #[tokio::test]
    async fn the_preface_is_told_from_a_request_and_nothing_is_taken() {
        for (begins, expected) in
            [(&PREFACE[..], true), (b"GET / HTTP/1.1\r\n\r\n", false), (b"PRINT / HTTP/1.1\r\nhost: x\r\n\r\n", false)]
        {
            let (_client, mut stream) = connection(begins).await;
            assert_eq!(is_http2(&mut stream, SILENCE).await, Some(expected));
            let mut read = vec![0; begins.len()];
            stream.read_exact(&mut read).await.unwrap();
            assert_eq!(read, begins);
        }
    }

    #[tokio::test]
    async fn who_begins_and_says_no_more_is_not_waited_for_for_ever() {
        for begins in [&b""[..], b"PR", b"PRI", b"PRI * HTTP/2.0\r\n\r\nSM\r\n"] {
            let (_client, mut stream) = connection(begins).await;
            assert_eq!(is_http2(&mut stream, Duration::from_millis(50)).await, None, "{begins:?}");
        }
    }
}
