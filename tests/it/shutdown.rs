//! How the gateway ends: at once when idle, after what is in flight, and never without telling.

use crate::api_keys::said;
use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use crate::raw::{Connection, chat_request};
use orbyt::sim::client;
use orbyt::sim::{Act, Sim, SimDialect, Step};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

fn sim() -> Sim {
    Sim::start(SimDialect::OpenAi).unwrap()
}

/// Sends a streamed request that nobody but this future waits for.
async fn stream(url: &str, model: &str) -> client::Answer {
    let body = saying(model, "one two three four", true).to_string();
    client::send("POST", &format!("{url}/v1/chat/completions"), &[("x-api-key", KEY)], body.as_bytes()).await.unwrap()
}

#[tokio::test]
async fn an_idle_gateway_ends_at_once() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let sim = sim();
        let mut gateway = Gateway::builder().provider("one", &sim).start().await;
        // Kept connections, on which nothing is going on, on both sides.
        let mut connection = Connection::to(&gateway).await;
        connection.write(chat_request(&saying("one/sim-ok", "one", false).to_string())).await;
        assert_eq!(connection.answer().await.status, 200);
        let asked = Instant::now();
        gateway.signal(signal);
        let status = gateway.ended(PATIENCE).await.expect("it did not end");
        assert!(asked.elapsed() < Duration::from_secs(1), "it took {:?}", asked.elapsed());
        assert!(status.success(), "{status}");
    }
}

#[tokio::test]
async fn what_is_in_flight_finishes_and_nothing_new_begins() {
    let sim = sim();
    let mut gateway = Gateway::builder().provider("one", &sim).start().await;
    sim.script([Step::Paced(Duration::from_millis(200))]);
    let url = gateway.url.clone();
    let running = tokio::spawn(async move { stream(&url, "one/sim-ok").await });
    assert!(sim.until(PATIENCE, |calls| calls.len() == 1).await);
    gateway.signal(libc::SIGTERM);
    gateway.printed("shutting down").await;
    let started = Instant::now();
    while TcpStream::connect(gateway.address()).await.is_ok() {
        assert!(started.elapsed() < PATIENCE && !running.is_finished(), "new connections are still taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = running.await.unwrap();
    assert!(answer.looks_complete() && answer.text() == "one two three four", "{}", answer.body_text());
    let over = Instant::now();
    let status = gateway.ended(PATIENCE).await.expect("it did not end");
    assert!(status.success() && over.elapsed() < Duration::from_secs(2), "{status} after {:?}", over.elapsed());
    let line = gateway.log_line(&answer).await;
    assert_eq!(line["ended"], "complete", "{line}");
}

#[tokio::test]
async fn when_the_grace_is_over_streams_end_with_an_error_and_are_recorded() {
    let sim = sim();
    let mut gateway = Gateway::builder().config("[server]\ngrace = \"300ms\"").provider("one", &sim).start().await;
    let models = ["one/sim-stall-after-tokens", "one/sim-timeout"];
    let running = models.map(|model| {
        let url = gateway.url.clone();
        tokio::spawn(async move { stream(&url, model).await })
    });
    assert!(sim.until(PATIENCE, |calls| calls.len() == 2).await);
    // The first one has its first words before the end begins.
    let text = || gateway.output();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = Instant::now();
    gateway.signal(libc::SIGTERM);
    let [broken, refused] = running;
    let (broken, refused) = (broken.await.unwrap(), refused.await.unwrap());
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}\n{}", asked.elapsed(), text());
    assert!(broken.status == 200 && broken.text().starts_with("one two"), "{}", broken.body_text());
    assert!(!broken.looks_complete() && broken.error().is_some(), "{}", broken.body_text());
    assert!(broken.body_text().contains("\"code\":\"shutting_down\""), "{}", broken.body_text());
    assert_eq!(refused.status, 503, "{}", refused.body_text());
    assert_eq!(refused.json()["error"]["code"], "shutting_down", "{}", refused.body_text());
    let status = gateway.ended(PATIENCE).await.expect("it did not end");
    assert!(status.success(), "{status}");
    for answer in [&broken, &refused] {
        let line = gateway.log_line(answer).await;
        assert_eq!(line["ended"], json!("shutdown"), "{line}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_recorded_and_billed_too() {
    let sim = sim();
    let folder = tempfile::tempdir().unwrap();
    let builder = Gateway::builder().config("[server]\ngrace = \"300ms\"").provider("one", &sim);
    let mut gateway = builder.variable("ORBYT_DATA_DIR", folder.path().to_str().unwrap()).start().await;
    let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": {"content": "x".repeat(1_000_000)}, "finish_reason": null}]});
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let mut acts = vec![Act::Write(head.as_bytes().to_vec())];
    acts.extend((0..60).map(|_| Act::Write(format!("data: {chunk}\n\n").into_bytes())));
    acts.push(Act::Silence);
    sim.script([Step::Acts(acts)]);
    let url = format!("{}/v1/chat/completions", gateway.url);
    let body = saying("one/m", "x", true).to_string();
    let mut exchange = client::open("POST", &url, &[("x-api-key", KEY)], body.as_bytes()).await.unwrap();
    assert!(exchange.piece().await.is_some());
    // What fits into the buffers of the sockets settles, then the gateway waits for the client.
    tokio::time::sleep(Duration::from_millis(500)).await;
    gateway.signal(libc::SIGTERM);
    let status = gateway.ended(PATIENCE).await.expect("it did not end");
    assert!(status.success(), "{status}");
    let is_its = |line: &serde_json::Value| line["ended"] == "shutdown" && line["completion_tokens"].as_u64() > Some(0);
    assert!(gateway.log().iter().any(is_its), "{}", gateway.output());
    let rows = said(folder.path(), None, &["requests", "list", "--json"], "");
    assert!(rows.contains("\"ended\":\"shutdown\""), "{rows}");
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_the_grace() {
    let sim = sim();
    let mut gateway = Gateway::builder().provider("one", &sim).start().await;
    let url = gateway.url.clone();
    let running = tokio::spawn(async move { stream(&url, "one/sim-timeout").await });
    assert!(sim.until(PATIENCE, |calls| calls.len() == 1).await);
    gateway.signal(libc::SIGTERM);
    gateway.printed("shutting down").await;
    let asked = Instant::now();
    gateway.signal(libc::SIGINT);
    gateway.ended(PATIENCE).await.expect("it did not end");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(running.await.unwrap().status, 503);
}

#[tokio::test]
async fn while_it_drains_it_is_not_ready() {
    let sim = sim();
    let mut gateway = Gateway::builder().provider("one", &sim).start().await;
    let mut kept = Connection::to(&gateway).await;
    kept.write("GET /readyz HTTP/1.1\r\nhost: gateway\r\n\r\n").await;
    assert_eq!(kept.answer().await.status, 200);
    sim.script([Step::Paced(Duration::from_millis(150))]);
    let url = gateway.url.clone();
    let running = tokio::spawn(async move { stream(&url, "one/sim-ok").await });
    assert!(sim.until(PATIENCE, |calls| calls.len() == 1).await);
    gateway.signal(libc::SIGTERM);
    gateway.printed("shutting down").await;
    let console = gateway.get_console("/readyz").await.expect("the console is gone before the requests are");
    assert_eq!(console.status, 503);
    assert!(running.await.unwrap().looks_complete());
    gateway.ended(PATIENCE).await.expect("it did not end");
}
