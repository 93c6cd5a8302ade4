//! TLS on both sides: the gateway's own HTTPS listener, and providers behind certificates of their own authority.

use crate::gateway::{Gateway, saying};
use crate::raw::{Connection, H2, chat_request};
use orbyt::sim::client::Answer;
use orbyt::sim::{Sim, SimDialect};
use rcgen::{CertificateParams, CertifiedKey, KeyPair, generate_simple_self_signed};
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const PATIENCE: Duration = Duration::from_secs(20);

pub fn certificate() -> CertifiedKey {
    generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap()
}

pub fn write(folder: &Path, certified: &CertifiedKey) {
    // The key first: the gateway sees each change, and only both together are good.
    std::fs::write(folder.join("key.pem"), certified.key_pair.serialize_pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), certified.cert.pem()).unwrap();
}

/// A TLS connection that trusts this certificate only; the protocol that was agreed on is in it.
async fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// The section of an HTTPS listener with what is in this folder.
pub fn listens(folder: &Path) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    format!(
        "[server.tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        path("cert.pem"),
        path("key.pem")
    )
}

/// A gateway with an HTTPS listener, and where that is.
async fn https(folder: &Path, sim: &Sim) -> (Gateway, SocketAddr) {
    let gateway = Gateway::builder().config(&listens(folder)).provider("one", sim).start().await;
    let output = gateway.output();
    let url = output.split_whitespace().find_map(|word| word.strip_prefix("https://")).unwrap();
    let address = url.trim_end_matches("/v1").parse().unwrap();
    (gateway, address)
}

fn served(answer: &Answer) {
    assert!(answer.looks_complete() && answer.text() == "one two", "{} {}", answer.status, answer.body_text());
}

#[tokio::test]
async fn https_is_served_over_http_1_and_2() {
    let (sim, folder) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    let certified = certificate();
    write(folder.path(), &certified);
    let (_gateway, address) = https(folder.path(), &sim).await;
    let trusted = certified.cert.der();
    for offered in [&[][..], &[b"http/1.1".as_slice()]] {
        let stream = connect(address, trusted, offered).await.unwrap();
        assert_ne!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let mut connection = Connection::over(stream);
        for stream in [false, true] {
            connection.write(chat_request(&saying("one/sim-ok", "one two", stream).to_string())).await;
            served(&connection.answer().await);
        }
    }
    let stream = connect(address, trusted, &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let mut client = H2::over(stream).await;
    for stream in [false, true] {
        served(&client.chat(saying("one/sim-ok", "one two", stream).to_string().into()).await);
    }
}

#[tokio::test]
async fn a_new_certificate_is_in_use_after_a_reload_and_a_bad_one_never() {
    let (sim, folder) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (certificate(), certificate());
    write(folder.path(), &old);
    let (gateway, address) = https(folder.path(), &sim).await;
    let mut kept = Connection::over(connect(address, old.cert.der(), &[]).await.unwrap());
    assert!(connect(address, new.cert.der(), &[]).await.is_err(), "it presents another certificate");
    write(folder.path(), &new);
    let started = Instant::now();
    while connect(address, new.cert.der(), &[]).await.is_err() {
        assert!(started.elapsed() < PATIENCE, "the old one is still presented\n{}", gateway.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    kept.write(chat_request(&saying("one/sim-ok", "one two", true).to_string())).await;
    served(&kept.answer().await);
    std::fs::write(folder.path().join("cert.pem"), "nonsense").unwrap();
    gateway.printed("server.tls.certificate: holds no certificate").await;
    assert!(connect(address, new.cert.der(), &[]).await.is_ok(), "the last good one is gone");
}

/// A TLS front for a simulated provider, with what it agrees on. Counts the connections that it accepted.
struct Front {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Front {
    fn acceptor(certified: &CertifiedKey, alpn: &[&[u8]]) -> TlsAcceptor {
        let key = PrivateKeyDer::try_from(certified.key_pair.serialize_der()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config =
            config.with_no_client_auth().with_single_cert(vec![certified.cert.der().clone()], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    async fn start(certified: &CertifiedKey, behind: &Sim, alpn: &[&[u8]]) -> Self {
        let acceptor = Self::acceptor(certified, alpn);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, behind) = (listener.local_addr().unwrap(), behind.address());
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not trust the certificate ends the handshake.
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        answer_over_h2(stream).await;
                    } else if let Ok(mut inner) = TcpStream::connect(behind).await {
                        let _ = copy_bidirectional(&mut stream, &mut inner).await;
                    }
                });
            }
        });
        Self { address, accepted, task }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How many requests said "fail".
static FAILED: AtomicUsize = AtomicUsize::new(0);

/// A provider that speaks HTTP/2: it repeats what the user said, streamed in two pieces or not. The first request on a connection that says
/// "refuse" is refused before it is looked at, whatever says "cut" breaks off after the first piece,
/// and whatever says "fail" before it.
async fn answer_over_h2(stream: tokio_rustls::server::TlsStream<TcpStream>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut requests = 0;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        requests += 1;
        let first = requests == 1;
        tokio::spawn(async move {
            let mut incoming = request.into_body();
            let mut body = Vec::new();
            while let Some(Ok(piece)) = incoming.data().await {
                incoming.flow_control().release_capacity(piece.len()).unwrap();
                body.extend_from_slice(&piece);
            }
            let question: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let text = question["messages"][0]["content"].clone();
            if first && text == "refuse" {
                return respond.send_reset(h2::Reason::REFUSED_STREAM);
            }
            if text == "fail" {
                FAILED.fetch_add(1, Ordering::Relaxed);
                return respond.send_reset(h2::Reason::INTERNAL_ERROR);
            }
            let cut = text == "cut";
            let streamed = question["stream"] == true;
            let chunk = |choice: serde_json::Value| json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]});
            let answer = if streamed {
                let output =
                    chunk(json!({"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": null}));
                let finish = chunk(json!({"index": 0, "delta": {}, "finish_reason": "stop"}));
                format!("data: {output}\n\ndata: {finish}\n\ndata: [DONE]\n\n")
            } else {
                let choice =
                    json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"});
                json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
                    .to_string()
            };
            let content_type = if streamed { "text/event-stream" } else { "application/json" };
            let head = http::Response::builder().header("content-type", content_type).body(()).unwrap();
            let mut out = respond.send_response(head, false).unwrap();
            let (first, second) = answer.split_at(answer.len() / 2);
            out.send_data(first.to_owned().into(), false).unwrap();
            if cut {
                // The first piece is to arrive before the reset overtakes it.
                tokio::time::sleep(Duration::from_millis(200)).await;
                return out.send_reset(h2::Reason::INTERNAL_ERROR);
            }
            out.send_data(second.to_owned().into(), true).unwrap();
        });
    }
}

/// A gateway whose provider is behind TLS, with or without its authority.
async fn behind_tls(front: &Front, ca_file: Option<&Path>) -> Gateway {
    let ca_file = ca_file.map(|path| format!("ca_file = \"{}\"\n", path.display())).unwrap_or_default();
    let provider = format!(
        "[server]\nworkers = 1\n[retry]\nmax = 0\n[[provider]]\nid = \"one\"\ndialect = \"openai_chat\"\nbase_url = \"https://localhost:{}/v1\"\n{ca_file}[[provider.key]]\nsecret = {{ env = \"K\" }}\n",
        front.address.port()
    );
    Gateway::builder().config(&provider).variable("K", "key-of-one").start().await
}

#[tokio::test]
async fn a_provider_with_a_certificate_of_its_own_authority_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let certified = certificate();
    write(folder.path(), &certified);
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    for alpn in [&[][..], &[b"http/1.1".as_slice()], &[b"h2".as_slice(), b"http/1.1"]] {
        let front = Front::start(&certified, &sim, alpn).await;
        let gateway = behind_tls(&front, Some(&folder.path().join("cert.pem"))).await;
        for stream in [false, true, false] {
            served(&gateway.chat(&saying("one/m", "one two", stream)).await);
        }
        let large = "one two ".repeat(300_000);
        let answer = gateway.chat(&saying("one/m", &large, false)).await;
        assert!(answer.looks_complete() && answer.text() == large, "{} bytes of text", answer.text().len());
        assert_eq!(front.accepted.load(Ordering::Relaxed), 1, "the connection was not used again: {alpn:?}");
    }
}

#[tokio::test]
async fn over_http_2_a_refused_stream_costs_nothing_and_a_cut_one_is_never_complete() {
    let folder = tempfile::tempdir().unwrap();
    let certified = certificate();
    write(folder.path(), &certified);
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let front = Front::start(&certified, &sim, &[b"h2"]).await;
    let gateway = behind_tls(&front, Some(&folder.path().join("cert.pem"))).await;
    let answer = gateway.chat(&saying("one/m", "refuse", false)).await;
    assert!(answer.looks_complete() && answer.text() == "refuse", "{} {}", answer.status, answer.body_text());
    assert_eq!(answer.header("x-orbyt-attempts"), "1", "what was refused unseen is no attempt");
    for stream in [false, true] {
        let answer = gateway.chat(&saying("one/m", "cut", stream)).await;
        assert!(!answer.looks_complete(), "{} {}", answer.status, answer.body_text());
        assert!(answer.error().is_some(), "{} {}", answer.status, answer.body_text());
    }
    // The provider has seen this one, and may have charged for it: it is not sent again behind everybody's back.
    let answer = gateway.chat(&saying("one/m", "fail", false)).await;
    assert_eq!((answer.status, FAILED.load(Ordering::Relaxed)), (503, 1), "{}", answer.body_text());
    served(&gateway.chat(&saying("one/m", "one two", true)).await);
    assert_eq!(front.accepted.load(Ordering::Relaxed), 1, "a broken stream cost the others their connection");
}

#[tokio::test]
async fn an_unknown_authority_is_a_failed_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (certified, other) = (certificate(), certificate());
    write(folder.path(), &other);
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let front = Front::start(&certified, &sim, &[]).await;
    for ca_file in [None, Some(folder.path().join("cert.pem"))] {
        let gateway = behind_tls(&front, ca_file.as_deref()).await;
        let answer = gateway.chat(&saying("one/m", "x", false)).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, sim.generations()), (503, 0), "{error}");
        assert_eq!(error["metadata"]["attempts"][0]["reason"], "connect", "{error}");
    }
    assert!(front.accepted.load(Ordering::Relaxed) >= 2, "it was never asked");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let key_pair = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(["other.example".to_owned()]).unwrap().self_signed(&key_pair).unwrap();
    let certified = CertifiedKey { cert, key_pair };
    write(folder.path(), &certified);
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let front = Front::start(&certified, &sim, &[]).await;
    let gateway = behind_tls(&front, Some(&folder.path().join("cert.pem"))).await;
    let answer = gateway.chat(&saying("one/m", "x", false)).await;
    assert_eq!((answer.status, sim.generations()), (503, 0), "{}", answer.body_text());
}

#[tokio::test]
async fn models_are_discovered_behind_a_certificate_of_its_own_authority() {
    let folder = tempfile::tempdir().unwrap();
    let certified = certificate();
    write(folder.path(), &certified);
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    sim.only_models(&["found-by-asking"]);
    let front = Front::start(&certified, &sim, &[]).await;
    let provider = format!(
        "[[provider]]\nid = \"one\"\nbase_url = \"https://localhost:{}/v1\"\ndiscover = true\nca_file = \"{}\"\n[[provider.key]]\nsecret = {{ env = \"K\" }}\n",
        front.address.port(),
        folder.path().join("cert.pem").display()
    );
    let gateway = Gateway::builder().config(&provider).variable("K", "key-of-one").start().await;
    let started = Instant::now();
    // A bare name that nobody knows leads to the one provider that lists it.
    while gateway.chat(&saying("found-by-asking", "one two", false)).await.status != 200 {
        assert!(started.elapsed() < PATIENCE, "its models were not found\n{}", gateway.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
