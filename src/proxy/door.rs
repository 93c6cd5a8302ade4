//! Where a connection comes in: HTTP/2 without TLS is told from HTTP/1 by three bytes.
//!
//! Pingora's own detection waits for all 24 bytes of the HTTP/2 preface and has no clock: a health check as short as
//! `OPTIONS / HTTP/1.0` would hang, and a connection that says nothing would be held for ever.

use super::proxy::Gateway;
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use std::sync::Arc;
use std::time::Duration;

/// How long a new connection may say nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a connection waits for its next request until the client says otherwise, in seconds: Pingora's own default.
const KEEPALIVE: u64 = 60;

/// The door in front of the gateway.
pub struct Door {
    gateway: Arc<HttpProxy<Gateway>>,
}

impl Door {
    /// A door; the gateway behind it must have its `h2c` option on.
    pub fn new(gateway: HttpProxy<Gateway>) -> Self {
        Self { gateway: Arc::new(gateway) }
    }

    /// One request after the other, as Pingora does it for HTTP/1.
    async fn http1(&self, stream: Stream, shutdown: &ShutdownWatch) {
        let mut session = ServerSession::new_http1(stream);
        session.set_keepalive(if *shutdown.borrow() { None } else { Some(KEEPALIVE) });
        let mut served = self.gateway.process_new_http(session, shutdown).await;
        while let Some((stream, settings)) = served.map(|reused| reused.consume()) {
            let mut session = ServerSession::new_http1(stream);
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
            served = self.gateway.process_new_http(session, shutdown).await;
        }
    }
}

#[async_trait]
impl ServerApp for Door {
    async fn process_new(self: &Arc<Self>, mut stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        // With TLS the two have agreed on the version already.
        if stream.get_ssl_digest().is_some() {
            return self.gateway.process_new(stream, shutdown).await;
        }
        let mut start = [0; 3];
        match tokio::time::timeout(SILENCE, stream.try_peek(&mut start)).await {
            Ok(Ok(true)) if start == *b"PRI" => return self.gateway.process_new(stream, shutdown).await,
            Ok(Ok(_)) => self.http1(stream, shutdown).await,
            Ok(Err(_)) | Err(_) => {}
        }
        None
    }

    async fn cleanup(&self) {
        self.gateway.http_cleanup().await;
    }
}
