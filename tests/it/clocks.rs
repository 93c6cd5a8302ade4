//! The clocks of a request, the signs of life that a client gets, and clients that leave or dawdle.

use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use crate::raw::{Connection, chat_request};
use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Act, Sim, SimDialect, Step};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const BASE: &str = "[retry]\nmax = 0\n[breaker]\nenabled = false\n";

fn sim() -> Sim {
    Sim::start(SimDialect::OpenAi).unwrap()
}

async fn gateway(config: &str, sims: &[&Sim]) -> Gateway {
    let mut builder = Gateway::builder().config(BASE).config(config);
    for (sim, id) in sims.iter().zip(["one", "two"]) {
        builder = builder.provider(id, sim);
    }
    builder.start().await
}

fn with_fallback(model: &str, stream: bool) -> Value {
    let mut request = saying(model, "one two three four", stream);
    request["extra"] = json!({"fallback_models": ["two/sim-ok"]});
    request
}

/// Checks that an answer took about this long: no less, and not so much more that another clock must have ended it.
fn took(answer: &Answer, from: Duration, to: Duration) {
    assert!(answer.took >= from && answer.took < to, "{:?}: {} {}", answer.took, answer.status, answer.body_text());
}

const MS: Duration = Duration::from_millis(1);

#[tokio::test]
async fn a_whole_answer_too_large_to_be_held_passes_as_it_comes_and_is_never_taken_for_complete_when_it_is_cut() {
    let (first, spare) = (sim(), sim());
    let gateway = gateway("[gate]\nmax_bytes = 10000", &[&first, &spare]).await;
    let words = "word ".repeat(10_000);
    let body = format!(
        "{{\"id\":\"c\",\"object\":\"chat.completion\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{words}\"}},\"finish_reason\":\"stop\"}}]}}"
    );
    // Without a length, so that only the text itself tells whether it is complete.
    let reply = |sent: &str| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
        // What is there at once is not committed before its end is seen.
        Step::Acts(vec![Act::Write(format!("{head}{sent}").into_bytes()), Act::Pause(300 * MS), Act::Close])
    };
    first.script([reply(&body)]);
    let answer = gateway.chat(&with_fallback("one/m", false)).await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "one"));
    assert_eq!(answer.body_text(), body);
    assert_eq!(gateway.log_line(&answer).await["ended"], "complete");

    first.script([reply(&body[..40_000])]);
    let mut connection = Connection::to(&gateway).await;
    connection.write(chat_request(&with_fallback("one/m", false).to_string())).await;
    let cut = connection.answer().await;
    assert!(cut.status == 200 && cut.end == client::BodyEnd::Cut, "{} bytes", cut.body.len());
    assert_eq!(gateway.log_line(&cut).await["ended"], "broken");

    first.script([reply(&body[..5_000])]);
    let answer = gateway.chat(&with_fallback("one/m", false)).await;
    assert_eq!(
        (answer.status, answer.header("x-provider")),
        (200, "two"),
        "what was still held could be tried elsewhere"
    );
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_in_time_is_left_for_the_next() {
    // A listener whose queue is full answers no more SYNs.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let fill = || std::net::TcpStream::connect_timeout(&address, 200 * MS);
    let _queue: Vec<_> = std::iter::repeat_with(fill).take(8).map_while(Result::ok).collect();
    assert!(fill().is_err(), "the queue takes any number of connections on this system");
    let spare = sim();
    let provider = format!(
        "[[provider]]\nid = \"deaf\"\ndialect = \"openai_chat\"\nauth = \"none\"\nbase_url = \"http://{address}/v1\"\n"
    );
    let gateway = Gateway::builder()
        .config(BASE)
        .config("[timeouts]\nconnect = \"300ms\"")
        .config(&provider)
        .provider("two", &spare)
        .start()
        .await;
    let answer = gateway.chat(&with_fallback("deaf/m", false)).await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "two"), "{}", answer.body_text());
    took(&answer, 290 * MS, 4000 * MS);
    let line = gateway.log_line(&answer).await;
    assert_eq!(line["tried"][0]["provider"], "deaf", "{line}");
}

#[tokio::test]
async fn a_stream_that_begins_at_once_and_then_trickles_is_left_for_the_next() {
    let (slow, spare) = (sim(), sim());
    let config = "[gate]\nmin_throughput = 50\nthroughput_window = \"500ms\"";
    let gateway = gateway(config, &[&slow, &spare]).await;
    let text = "one two three four five six seven eight nine ten ".repeat(4);
    let request = |model: &str, spare: &[&str]| {
        let mut request = saying(model, text.trim(), true);
        request["extra"] = json!({"fallback_models": spare});
        request
    };
    slow.always(Step::Paced(100 * MS));
    let answer = gateway.chat(&request("one/sim-ok", &["two/sim-ok"])).await;
    assert_eq!((answer.status, answer.header("x-provider"), &*answer.text()), (200, "two", text.trim()));
    let line = gateway.log_line(&answer).await;
    assert_eq!(line["tried"][0]["reason"], "timeout_throughput", "{line}");
    // What is fast enough is not held to its end, and with nobody else to ask slow is better than nothing.
    slow.reset();
    let answer = gateway.chat(&request("one/sim-ok", &["two/sim-ok"])).await;
    assert_eq!((answer.status, answer.header("x-provider"), &*answer.text()), (200, "one", text.trim()));
    slow.always(Step::Paced(30 * MS));
    let answer = gateway.chat(&request("one/sim-ok", &[])).await;
    assert_eq!((answer.status, &*answer.text()), (200, text.trim()));
    assert!(answer.looks_complete());
}

#[tokio::test]
async fn a_provider_that_is_silent_is_left_for_the_next() {
    let (silent, spare) = (sim(), sim());
    let gateway = gateway("[timeouts]\nfirst_output = \"300ms\"", &[&silent, &spare]).await;
    for (model, stream) in
        [("one/sim-timeout", false), ("one/sim-timeout", true), ("one/sim-stall", true), ("one/sim-stall", false)]
    {
        let answer = gateway.chat(&with_fallback(model, stream)).await;
        assert!(answer.looks_complete() && answer.header("x-provider") == "two", "{model} {}", answer.body_text());
        took(&answer, 290 * MS, 4000 * MS);
    }
}

#[tokio::test]
async fn the_last_target_gets_the_rest_of_the_time() {
    let slow = sim();
    let gateway = gateway("[timeouts]\nfirst_output = \"200ms\"", &[&slow]).await;
    for stream in [false, true] {
        slow.script([Step::Paced(500 * MS)]);
        let answer = gateway.chat(&saying("one/m", "one", stream)).await;
        assert!(answer.looks_complete(), "{} {}", answer.status, answer.body_text());
        took(&answer, 490 * MS, 15_000 * MS);
    }
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_ends_with_an_error() {
    let sims = SimDialect::ALL.map(|dialect| Sim::start(dialect).unwrap());
    for sim in &sims {
        let gateway = gateway("[timeouts]\nidle = \"300ms\"", &[sim]).await;
        let answer = gateway.chat(&saying("one/sim-stall-after-tokens", "one two three four", true)).await;
        assert!(answer.status == 200 && !answer.looks_complete(), "{}", answer.body_text());
        assert!(answer.error().is_some() && answer.text().starts_with("one two"), "{}", answer.body_text());
        took(&answer, 290 * MS, 4000 * MS);
        let line = gateway.log_line(&answer).await;
        assert_eq!((&line["ended"], &line["error_code"]), (&json!("broken"), &json!("timeout_idle")), "{line}");
        let unary = gateway.chat(&saying("one/sim-stall-after-tokens", "one two three four", false)).await;
        assert_eq!(unary.status, 504, "{}", unary.body_text());
    }
}

#[tokio::test]
async fn the_deadline_of_a_request_is_kept_whatever_happens() {
    let silent = sim();
    let gateway = gateway("", &[&silent]).await;
    for stream in [false, true] {
        let mut request = saying("one/sim-timeout", "x", stream);
        request["extra"] = json!({"timeout_ms": 400, "fallback_models": ["one/sim-stall", "one/sim-timeout"]});
        let answer = gateway.chat(&request).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["code"]), (504, &json!("deadline_exceeded")), "{}", answer.body_text());
        assert_eq!(error["type"], "timeout_error");
        took(&answer, 390 * MS, 2000 * MS);
    }
    // Also in the middle of an answer, which then does not look complete.
    let mut request = saying("one/sim-stall-after-tokens", "one two three four", true);
    request["extra"] = json!({"timeout_ms": 600});
    let answer = gateway.chat(&request).await;
    assert!(answer.status == 200 && !answer.looks_complete() && answer.error().is_some(), "{}", answer.body_text());
    took(&answer, 590 * MS, 3000 * MS);
}

#[tokio::test]
async fn retries_do_not_go_on_beyond_the_deadline() {
    let failing = sim();
    let gateway = Gateway::builder()
        .config("[breaker]\nenabled = false\n[retry]\nmax = 10\nbase = \"100ms\"\ncap = \"200ms\"\n[timeouts]\ntotal = \"500ms\"")
        .provider("one", &failing)
        .start()
        .await;
    let answer = gateway.chat(&saying("one/sim-500", "x", false)).await;
    assert!(matches!(answer.status, 503 | 504), "{}", answer.body_text());
    assert!(answer.took < 1500 * MS, "{:?}", answer.took);
}

/// A stream that is silent for a while, before or after its first output.
fn pausing(before: bool) -> Step {
    let event = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        let chunk =
            json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]});
        format!("data: {chunk}\n\n")
    };
    let write = |text: String| Act::Write(text.into_bytes());
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_owned();
    let start = event(json!({"role": "assistant", "content": ""}), Value::Null);
    let end = event(json!({}), json!("stop")) + "data: [DONE]\n\n";
    let text = event(json!({"content": "one"}), Value::Null);
    let pause = Act::Pause(700 * MS);
    let acts = match before {
        true => vec![write(head), write(start), pause, write(text), write(end), Act::Close],
        false => vec![write(head), write(start), write(text), pause, write(end), Act::Close],
    };
    Step::Acts(acts)
}

fn keepalives(answer: &Answer) -> usize {
    answer.body_text().lines().filter(|line| line.starts_with(": keepalive")).count()
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive_by_comments_once_it_has_begun() {
    let slow = sim();
    let gateway = gateway("[gate]\nkeepalive = \"100ms\"", &[&slow]).await;
    slow.script([pausing(false), pausing(true)]);
    let after = gateway.chat(&saying("one/m", "x", true)).await;
    assert!(after.looks_complete() && after.text() == "one", "{}", after.body_text());
    assert!((4..=7).contains(&keepalives(&after)), "{}", after.body_text());
    let before = gateway.chat(&saying("one/m", "x", true)).await;
    assert!(before.looks_complete() && keepalives(&before) == 0, "it gave the status away: {}", before.body_text());
}

#[tokio::test]
async fn comments_may_come_before_the_first_output_at_the_price_of_the_fallback() {
    let (slow, spare) = (sim(), sim());
    let gateway = gateway("[gate]\nkeepalive = \"100ms\"\nkeepalive_before_commit = true", &[&slow, &spare]).await;
    slow.script([pausing(true)]);
    let answer = gateway.chat(&saying("one/m", "x", true)).await;
    assert!(answer.looks_complete() && answer.text() == "one", "{}", answer.body_text());
    assert!((4..=7).contains(&keepalives(&answer)), "{}", answer.body_text());
    assert!(answer.head_after < 500 * MS, "the head came after {:?}", answer.head_after);
    // A provider that answers with an error at once is still replaced.
    let answer = gateway.chat(&with_fallback("one/sim-500", true)).await;
    assert!(answer.looks_complete() && answer.header("x-provider") == "two", "{}", answer.body_text());
}

#[tokio::test]
async fn the_gate_opens_after_its_longest_wait() {
    let slow = sim();
    let gateway = gateway("[gate]\nmax_wait = \"200ms\"", &[&slow]).await;
    slow.script([pausing(true)]);
    let answer = gateway.chat(&saying("one/m", "x", true)).await;
    assert!(answer.looks_complete() && answer.text() == "one", "{}", answer.body_text());
    assert!(answer.head_after >= 190 * MS && answer.head_after < 600 * MS, "{:?}", answer.head_after);
}

#[tokio::test]
async fn a_client_that_leaves_while_its_request_waits_for_a_retry_ends_it() {
    let failing = sim();
    let gateway = Gateway::builder()
        .config("[retry]\nmax = 5\nbase = \"1ms\"\ncap = \"30s\"\n[breaker]\nenabled = false")
        .provider("one", &failing)
        .start()
        .await;
    failing.always(Step::Reply { status: 503, headers: vec![("retry-after", "2".to_owned())], body: "{}".to_owned() });
    let mut connection = Connection::to(&gateway).await;
    connection.write(chat_request(&saying("one/m", "x", false).to_string())).await;
    assert!(failing.until(PATIENCE, |calls| calls.len() == 1).await);
    drop(connection);
    let ended = || gateway.log().into_iter().any(|line| line["ended"] == "client_gone");
    let left = Instant::now();
    gateway.until("the end of the request", ended).await;
    assert!(left.elapsed() < Duration::from_secs(1), "noticed after {:?}", left.elapsed());
    assert_eq!(failing.generations(), 1);
}

/// The resident memory of the gateway in bytes, as it says itself.
async fn memory(gateway: &Gateway) -> f64 {
    metric(gateway, "process_resident_memory_bytes").await
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_not_read_ahead_for() {
    const MEGABYTES: usize = 60;
    let fast = sim();
    // The client dawdles for longer than the provider may: that is not the provider's silence.
    let gateway = gateway("[timeouts]\nidle = \"300ms\"", &[&fast]).await;
    let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": {"content": "x".repeat(1_000_000)}, "finish_reason": null}]});
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let mut acts = vec![Act::Write(head.as_bytes().to_vec())];
    acts.extend((0..MEGABYTES).map(|_| Act::Write(format!("data: {chunk}\n\n").into_bytes())));
    let finish = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    acts.extend([Act::Write(format!("data: {finish}\n\ndata: [DONE]\n\n").into_bytes()), Act::Close]);
    fast.script([Step::Acts(acts)]);
    let before = memory(&gateway).await;
    let key = format!("Bearer {KEY}");
    let url = format!("{}/v1/chat/completions", gateway.url);
    let body = saying("one/m", "x", true).to_string();
    let mut exchange = client::open("POST", &url, &[("authorization", &key)], body.as_bytes()).await.unwrap();
    // The client has its head and reads nothing more; what fits into the buffers of the sockets settles, then everything waits.
    assert!(exchange.piece().await.is_some());
    let mut most = 0.0_f64;
    for _ in 0..30 {
        most = most.max(memory(&gateway).await - before);
        tokio::time::sleep(20 * MS).await;
    }
    assert!(fast.calls()[0].played_at.is_none(), "the provider could send everything: the test is too small");
    assert!(most < 25e6, "it holds {most} bytes for a client that does not read");
    let mut received = 0;
    while let Some(piece) = exchange.piece().await {
        received += piece.len();
    }
    assert!(received > (MEGABYTES - 1) * 1_000_000, "{received} bytes arrived");
    assert!(exchange.finish().await.end == client::BodyEnd::Clean, "the end");
}

#[tokio::test]
async fn a_provider_that_sends_nothing_but_comments_does_not_outlast_the_deadline() {
    let alive = sim();
    let gateway = gateway("[timeouts]\nidle = \"300ms\"", &[&alive]).await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let mut acts = vec![Act::Write(head.as_bytes().to_vec())];
    for _ in 0..100 {
        acts.extend([Act::Write(b": PROCESSING\n\n".to_vec()), Act::Pause(50 * MS)]);
    }
    alive.always(Step::Acts(acts));
    let mut request = saying("one/m", "x", true);
    request["extra"] = json!({"timeout_ms": 900});
    let answer = gateway.chat(&request).await;
    assert_eq!(answer.status, 504, "{}", answer.body_text());
    took(&answer, 890 * MS, 3000 * MS);
}

/// A number of the gateway's own metrics.
async fn metric(gateway: &Gateway, name: &str) -> f64 {
    let metrics = gateway.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap();
    line.parse().unwrap()
}

#[tokio::test]
async fn clients_that_leave_leave_nothing_behind() {
    const AT_ONCE: usize = 40;
    let first = sim();
    let gateway = gateway("", &[&first]).await;
    let round = async || {
        for (model, stream) in [
            ("one/sim-timeout", false),
            ("one/sim-timeout", true),
            ("one/sim-stall", true),
            ("one/sim-stall-after-tokens", true),
        ] {
            first.forget_calls();
            let mut leaving = Vec::new();
            for number in 0..AT_ONCE {
                let mut connection = Connection::to(&gateway).await;
                let mut request = saying(model, "one two three four", stream);
                request["user"] = json!(format!("user-{number}"));
                connection.write(chat_request(&request.to_string())).await;
                leaving.push(connection);
            }
            assert!(first.until(PATIENCE, |calls| calls.len() == AT_ONCE).await);
            drop(leaving);
            let gone = first.until(PATIENCE, |calls| calls.iter().all(|call| call.client_gone.is_some())).await;
            assert!(gone, "{model} {stream}: calls to the provider go on for nobody");
        }
        gateway.shows("orbyt_requests_in_flight 0\n").await;
    };
    round().await;
    let (memory, files) = (memory(&gateway).await, metric(&gateway, "process_open_fds").await);
    for _ in 0..3 {
        round().await;
    }
    // What a request takes while it is held, let alone a body, would be many times this after some five hundred of them.
    let grown = self::memory(&gateway).await - memory;
    assert!(grown < 24e6, "{grown} bytes more after {} requests", 3 * 4 * AT_ONCE);
    let started = Instant::now();
    while metric(&gateway, "process_open_fds").await >= files + 10.0 {
        assert!(started.elapsed() < PATIENCE, "connections stay open");
        tokio::time::sleep(10 * MS).await;
    }
    assert_eq!(gateway.chat(&saying("one/sim-ok", "hello", false)).await.status, 200);
}
