//! How connections come up, and the thread that they live on: the callers' runtimes come and go.

use super::{CONNECT, failed};
use crate::domain::Secret;
use crate::store::ports::database::StoreError;
use deadpool_postgres::Connect;
use rustls::{ClientConfig, RootCertStore};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{CancelToken, Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The runtime of all connections.
pub(super) struct Keeper(Option<Runtime>);

impl Keeper {
    pub(super) fn start() -> Result<Self, StoreError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("orbyt-postgres").enable_all().build();
        runtime
            .map(|runtime| Self(Some(runtime)))
            .map_err(|error| StoreError::Unavailable(format!("cannot start the thread of the database: {error}")))
    }

    pub(super) fn handle(&self) -> Handle {
        // It is there until this is dropped.
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for Keeper {
    /// A runtime must not be waited for where another one runs.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Reads a URL such as `postgres://user:password@host:5432/name?sslmode=require`.
///
/// # Errors
/// When it is not one. The message repeats nothing of it, since it holds a password.
pub(super) fn config(url: &Secret) -> Result<Config, StoreError> {
    let mut config: Config = url.reveal().parse().map_err(|error: Error| {
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        StoreError::Refused(format!("DATABASE_URL is not a URL such as postgres://user:password@host/name: {why}"))
    })?;
    if config.get_hosts().is_empty() {
        return Err(StoreError::Refused("DATABASE_URL names no host".to_owned()));
    }
    config
        .connect_timeout(CONNECT)
        .tcp_user_timeout(Duration::from_secs(5))
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(3);
    if config.get_application_name().is_none() {
        config.application_name("orbyt");
    }
    Ok(config)
}

/// What a connection needs to run: its client, and the future that moves its bytes.
pub(super) type Raw = (
    Client,
    tokio_postgres::Connection<
        tokio_postgres::Socket,
        <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket>>::Stream,
    >,
);

/// Makes connections.
#[derive(Clone)]
pub(super) struct Connector {
    handle: Handle,
    config: Config,
    tls: MakeRustlsConnect,
}

impl Connector {
    pub(super) fn new(handle: Handle, config: Config) -> Self {
        Self { handle, tls: tls(config.get_ssl_mode()), config }
    }

    /// A connection whose bytes the caller moves.
    pub(super) async fn raw(&self, place: &str) -> Result<Raw, StoreError> {
        match tokio::time::timeout(CONNECT, self.config.connect(self.tls.clone())).await {
            Ok(outcome) => outcome.map_err(|error| failed(place, &error)),
            Err(_) => Err(StoreError::Unavailable(format!("cannot reach {place}: no answer within {CONNECT:?}"))),
        }
    }
}

impl Connector {
    /// Asks the server to give up what a connection is at, which is not waited for.
    pub(super) fn cancel(&self, token: CancelToken) {
        let tls = self.tls.clone();
        self.handle.spawn(async move {
            // One that cannot be reached will notice by itself that the connection is gone.
            let _ = tokio::time::timeout(CONNECT, token.cancel_query(tls)).await;
        });
    }
}

impl Connect for Connector {
    /// Whoever asks: the connection is made, and lives, on the keeper's thread.
    fn connect(
        &self,
        config: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        let (config, tls, handle) = (config.clone(), self.tls.clone(), self.handle.clone());
        let mut work = Box::pin(async move {
            let (client, connection) = config.connect(tls).await?;
            // Its end is noticed where the client is used.
            let moved = tokio::spawn(async move { connection.await.unwrap_or_default() });
            Ok((client, moved))
        });
        Box::pin(std::future::poll_fn(move |context| {
            let _entered = handle.enter();
            work.as_mut().poll(context)
        }))
    }
}

/// TLS as the server wants it, against the system's certificates.
fn tls(mode: SslMode) -> MakeRustlsConnect {
    let mut roots = RootCertStore::empty();
    if mode != SslMode::Disable {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.map(|builder| builder.with_root_certificates(roots).with_no_client_auth());
    MakeRustlsConnect::new(config.unwrap_or_else(|_| {
        // The provider above brings the default versions, so this is never reached.
        ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()
    }))
}
