//! One try at one target: whom to connect to and the head of the provider's request.
//!
//! The head is built from nothing: no header of the client's survives unless it is named here. [`super::exchange`] sends it.

use super::dns::Dns;
use super::names::Target;
use super::sigv4::{self, Signable};
use crate::config::snapshot::{Provider, Timeouts};
use crate::domain::{Fault, FaultKind, ProviderKey, Secret};
use crate::provider::credential::AwsKeys;
use crate::provider::{AuthScheme, Cloud};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, USER_AGENT,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use parking_lot::Mutex;
use pingora::http::RequestHeader;
use pingora::protocols::ALPN;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{WrappedX509, parse_x509};
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

/// Most requests have no more headers than this.
const USUAL_HEADERS: usize = 12;
const AGENT: &str = concat!("orbyt/", env!("CARGO_PKG_VERSION"));
/// How long an idle connection to a provider is kept for the next request.
const KEEP_IDLE: Duration = Duration::from_secs(90);
/// How often an HTTP/2 connection to a provider is asked whether it still lives.
const PING: Duration = Duration::from_secs(20);
/// How many requests share one HTTP/2 connection to a provider.
const STREAMS_PER_CONNECTION: usize = 64;

/// Everything that one attempt sends.
pub(super) struct Outgoing<'a> {
    pub(super) target: &'a Target,
    pub(super) key: Option<&'a ProviderKey>,
    pub(super) stream: bool,
    pub(super) body: &'a [u8],
    /// The access token that the key has bought.
    pub(super) token: Option<&'a Secret>,
    /// The path below the provider's base URL, query included.
    pub(super) path: &'a str,
    /// Headers that the renderer asks for, or that the client sent for a provider of its own format.
    pub(super) headers: &'a [(&'static str, String)],
    pub(super) address: SocketAddr,
    pub(super) timeouts: Timeouts,
}

/// The head of the provider's request.
///
/// # Errors
/// `Configuration` when a configured header or path cannot be said in HTTP, `BadCredentials` when the key cannot.
pub(super) fn head(outgoing: &Outgoing<'_>) -> Result<Box<RequestHeader>, Fault> {
    let provider = &outgoing.target.provider;
    let path = provider.base.path_to(outgoing.path);
    let accept = provider.dialect_of(&outgoing.target.model).accepts(outgoing.stream);
    let authority = provider.base.authority();
    let wrong = |what: &str| Fault::new(FaultKind::Configuration, format!("provider {}: {what}", provider.id));
    let mut headers = HeaderMap::with_capacity(USUAL_HEADERS);
    let mut put = |name: HeaderName, value: HeaderValue| headers.insert(name, value);
    put(HOST, text(authority).ok_or_else(|| wrong("its host is not valid"))?);
    put(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    put(CONTENT_LENGTH, HeaderValue::from(outgoing.body.len()));
    put(ACCEPT, HeaderValue::from_static(accept));
    put(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    put(USER_AGENT, HeaderValue::from_static(AGENT));
    for (name, value) in &provider.headers {
        let name = name.parse::<HeaderName>().map_err(|_| wrong("a header's name is not valid"))?;
        put(name, text(value).ok_or_else(|| wrong("a header's value is not valid"))?);
    }
    for (name, value) in outgoing.headers {
        put(HeaderName::from_static(name), text(value).ok_or_else(|| wrong("a header's value is not valid"))?);
    }
    for (name, value) in proof(outgoing, authority, &path)? {
        let bad_key =
            || Fault::new(FaultKind::BadCredentials, "the provider's key holds characters that no header takes");
        let mut value = text(&value).ok_or_else(bad_key)?;
        value.set_sensitive(true);
        put(name, value);
    }
    let path = PathAndQuery::from_maybe_shared(path).map_err(|_| wrong("its path is not valid"))?;
    // Not by Pingora's setters, which look at each name anew.
    let (mut parts, ()) = http::Request::new(()).into_parts();
    (parts.method, parts.uri, parts.headers) = (Method::POST, path.into(), headers);
    Ok(Box::new(RequestHeader::from(parts)))
}

/// The headers that prove who asks.
fn proof(outgoing: &Outgoing<'_>, authority: &str, path: &str) -> Result<Vec<(HeaderName, String)>, Fault> {
    let Some(key) = outgoing.key else { return Ok(Vec::new()) };
    let provider = &outgoing.target.provider;
    let secret = outgoing.token.unwrap_or(&key.secret).reveal();
    let bearer = || vec![(AUTHORIZATION, format!("Bearer {secret}"))];
    Ok(match (provider.auth, &provider.cloud) {
        (AuthScheme::Header(name), _) => vec![(HeaderName::from_static(name), secret.to_owned())],
        (AuthScheme::Azure, _) if !is_jwt(secret) => vec![(HeaderName::from_static("api-key"), secret.to_owned())],
        (AuthScheme::Aws, Some(Cloud::Bedrock { region })) => match AwsKeys::parse(secret) {
            Some(keys) => {
                let request = Signable { authority, path, content_type: "application/json", body: outgoing.body };
                let headers = sigv4::headers(&keys, region, &request, SystemTime::now())?;
                headers.into_iter().map(|(name, value)| (HeaderName::from_static(name), value)).collect()
            }
            None => bearer(),
        },
        (AuthScheme::Bearer | AuthScheme::None | AuthScheme::Azure | AuthScheme::Aws | AuthScheme::Google, _) => {
            bearer()
        }
    })
}

/// Whether a key is a token in the form of a JWT, as Entra gives them out.
fn is_jwt(key: &str) -> bool {
    key.starts_with("eyJ") && key.matches('.').count() == 2
}

fn text(value: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(value).ok()
}

/// Where the request goes and how the connection is made.
pub(super) fn peer(outgoing: &Outgoing<'_>) -> HttpPeer {
    let provider = &outgoing.target.provider;
    let mut peer = HttpPeer::new(outgoing.address, provider.base.tls, provider.base.host.clone());
    // Two providers at one address do not share connections: their trust may differ, also before and after a reload.
    peer.group_key = BuildHasherDefault::<DefaultHasher>::default().hash_one((&provider.id, &provider.ca));
    let options = &mut peer.options;
    options.connection_timeout = Some(outgoing.timeouts.connect);
    options.total_connection_timeout = Some(outgoing.timeouts.connect);
    options.idle_timeout = Some(KEEP_IDLE);
    options.alpn = if provider.base.tls { ALPN::H2H1 } else { ALPN::H1 };
    options.max_h2_streams = STREAMS_PER_CONNECTION;
    // A connection that died without a word (a NAT forgot it) must not keep taking requests.
    options.h2_ping_interval = Some(PING);
    if !provider.ca.is_empty() {
        options.ca = Some(TRUSTED.lock().entry(peer.group_key).or_insert_with(|| trusted(&provider.ca)).clone());
    }
    peer
}

/// The lists of [`trusted`], by the peer's group: reading hundreds of certificates for every request would be felt.
static TRUSTED: LazyLock<Mutex<HashMap<u64, Arc<CaType>>>> = LazyLock::new(Mutex::default);

/// The system's roots and the provider's own: Pingora takes a peer's list instead of the system's, not besides it.
fn trusted(extra: &[Vec<u8>]) -> Arc<CaType> {
    static SYSTEM: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        rustls_native_certs::load_native_certs().certs.into_iter().map(|certificate| certificate.to_vec()).collect()
    });
    // What does not parse was refused with the configuration; the system's list may hold odd ones.
    let parses = |der: &&Vec<u8>| x509_parser::parse_x509_certificate(der).is_ok();
    let all = SYSTEM.iter().chain(extra).filter(parses);
    all.map(|der| WrappedX509::new(der.clone(), parse_x509)).collect::<Vec<_>>().into()
}

/// The addresses of a provider.
///
/// # Errors
/// `Connect` when its name is not found.
pub(super) async fn addresses(dns: &Dns, provider: &Provider, limit: Duration) -> Result<Arc<[SocketAddr]>, Fault> {
    let (host, port, now) = (&provider.base.host, provider.base.port, Instant::now());
    if let Some(known) = dns.known(host, port, now) {
        return Ok(known);
    }
    // Rare and large, so it is kept out of the future of every request.
    match Box::pin(tokio::time::timeout(limit, dns.look_up(host, port, now))).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(message)) => Err(Fault::new(FaultKind::Connect, message)),
        Err(_) => dns
            .stale(host, port, now)
            .ok_or_else(|| Fault::new(FaultKind::Connect, "looking up the provider's name took too long")),
    }
}
