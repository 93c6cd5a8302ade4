//! Request bodies, however they are framed, and connections, however they are used.

use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use crate::raw::{Connection, H2, chat_head, chat_request};
use orbyt::sim::client::{Answer, BodyEnd};
use orbyt::sim::{Sim, SimDialect, SimFault};
use serde_json::json;

async fn gateway() -> (Gateway, Sim) {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    (Gateway::builder().provider("openai", &sim).start().await, sim)
}

/// A body with everything that a careless gateway would change: odd spaces, key order, escapes, big numbers, unknown keys. `size`
/// is about how large it is.
fn peculiar(model: &str, size: usize) -> String {
    let filler = "one two ".repeat(size / 8);
    format!(
        "{{ \"zeta\" : 1.0,\n\t\"model\":\"{model}\" , \"messages\":[ {{\"content\":\"\\u006fne two\\/three é 😀\",\"role\":\"user\"}} ],\
         \"alpha\": [1e3, 12345678901234567890, 0.10], \"metadata\":{{\"b\":\"2\",\"a\":\"{filler}\"}},\"stream\" : false }}"
    )
}

/// Checks that the provider's last call carries the body as it was but for the model.
fn arrived(sim: &Sim, sent: &str, answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    let calls = sim.calls();
    let call = calls.last().unwrap();
    let expected = sent.replacen("openai/sim-ok", "sim-ok", 1);
    let same = call.body == expected.as_bytes();
    let differs = call.body.iter().zip(expected.as_bytes()).position(|(a, b)| a != b);
    assert!(same, "{} bytes instead of {}; the first difference is at {differs:?}", call.body.len(), expected.len());
    assert_eq!(call.header("content-length"), Some(call.body.len().to_string().as_str()));
    assert_eq!(call.header("transfer-encoding"), None);
}

#[tokio::test]
async fn a_body_arrives_byte_by_byte_as_it_was_sent_but_for_the_model() {
    let (gateway, sim) = gateway().await;
    for size in [0, 3_000_000, 20_000_000] {
        let body = peculiar("openai/sim-ok", size);
        let mut connection = Connection::to(&gateway).await;
        connection.write(chat_request(&body)).await;
        arrived(&sim, &body, &connection.answer().await);
        // The same in chunks, on the same connection.
        connection.write(chat_head("transfer-encoding: chunked")).await;
        for piece in body.as_bytes().chunks(100_000) {
            connection.write(format!("{:x}\r\n", piece.len())).await;
            connection.write(piece).await;
            connection.write("\r\n").await;
        }
        connection.write("0\r\n\r\n").await;
        arrived(&sim, &body, &connection.answer().await);
    }
}

#[tokio::test]
async fn a_body_that_comes_in_single_bytes_is_a_body() {
    let (gateway, sim) = gateway().await;
    let body = peculiar("openai/sim-ok", 0);
    let mut connection = Connection::to(&gateway).await;
    for byte in chat_request(&body).as_bytes() {
        connection.write([*byte]).await;
    }
    arrived(&sim, &body, &connection.answer().await);
    connection.write(chat_head("transfer-encoding: chunked")).await;
    for byte in body.as_bytes() {
        connection.write([b"1\r\n", &[*byte][..], b"\r\n"].concat()).await;
    }
    connection.write("0\r\n\r\n").await;
    arrived(&sim, &body, &connection.answer().await);
}

#[tokio::test]
async fn the_whole_body_is_there_again_for_the_fallback() {
    let sims = [Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap()];
    let gateway = Gateway::builder().provider("one", &sims[0]).provider("two", &sims[1]).start().await;
    sims[0].always(SimFault::RateLimited);
    let mut body = peculiar("one/sim-ok", 3_000_000);
    body.insert_str(1, r#""extra": {"fallback_models": ["two/sim-ok"]},"#);
    let mut connection = Connection::to(&gateway).await;
    connection.write(chat_request(&body)).await;
    let answer = connection.answer().await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "two"), "{}", answer.body_text());
    let expected = peculiar("sim-ok", 3_000_000);
    for sim in &sims {
        // The place of the extension that was cut out is the only other difference.
        let got = String::from_utf8(sim.calls()[0].body.clone()).unwrap();
        let bare = |text: &str| text.trim_start_matches(['{', ' ', ',']).to_owned();
        assert!(bare(&got) == bare(&expected), "{} bytes instead of {}", got.len(), expected.len());
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_a_413_whether_its_length_is_told_or_not() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let config = "[server]\nmax_body_bytes = 1000";
    let gateway = Gateway::builder().provider("openai", &sim).config(config).start().await;
    let is_refused = |answer: &Answer| {
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (413, &json!("request_too_large")), "{answer:?}");
        assert!(answer.body_text().contains("server.max_body_bytes"));
    };
    // The answer comes before the body, which a client that asks first (Expect) then never sends.
    let mut connection = Connection::to(&gateway).await;
    connection.write(chat_head("content-length: 100000000\r\nexpect: 100-continue")).await;
    is_refused(&connection.answer().await);
    let mut connection = Connection::to(&gateway).await;
    connection.write(chat_head("transfer-encoding: chunked")).await;
    for _ in 0..3 {
        connection.write(format!("190\r\n{}\r\n", "x".repeat(400))).await;
    }
    is_refused(&connection.answer().await);
    let mut body = peculiar("openai/sim-ok", 0);
    body += &" ".repeat(1000 - body.len());
    let mut connection = Connection::to(&gateway).await;
    connection.write(chat_request(&body)).await;
    assert_eq!(connection.answer().await.status, 200, "exactly as large as allowed");
    assert_eq!(sim.generations(), 1);
}

#[tokio::test]
async fn a_client_that_asks_whether_to_send_is_told_to() {
    let (gateway, sim) = gateway().await;
    let body = peculiar("openai/sim-ok", 3_000_000);
    let mut connection = Connection::to(&gateway).await;
    connection.write(chat_head(&format!("content-length: {}\r\nexpect: 100-continue", body.len()))).await;
    assert_eq!(connection.head().await[0], "HTTP/1.1 100 Continue");
    connection.write(&body).await;
    arrived(&sim, &body, &connection.answer().await);
    assert_eq!(sim.calls()[0].header("expect"), None, "it is not the provider's to answer");
}

#[tokio::test]
async fn an_http_1_0_client_gets_no_chunks() {
    let (gateway, _sim) = gateway().await;
    for stream in [false, true] {
        let request = chat_request(&saying("openai/sim-ok", "one two three", stream).to_string());
        let mut connection = Connection::to(&gateway).await;
        connection.write(request.replacen("HTTP/1.1", "HTTP/1.0", 1)).await;
        let answer = connection.answer().await;
        assert_eq!((answer.status, answer.header("transfer-encoding")), (200, ""));
        assert_eq!(answer.text(), "one two three", "{}", answer.body_text());
        assert_eq!(answer.is_done(), stream);
    }
}

#[tokio::test]
async fn http_2_without_tls_is_spoken_too() {
    let (gateway, sim) = gateway().await;
    let mut client = H2::to(&gateway).await;
    for size in [0, 3_000_000] {
        let body = peculiar("openai/sim-ok", size);
        let answer = client.chat(body.clone().into()).await;
        assert_eq!(answer.end, BodyEnd::Clean);
        arrived(&sim, &body, &answer);
        assert_eq!(answer.header("x-provider"), "openai");
    }
    let answer = client.chat(saying("openai/sim-ok", "one two three", true).to_string().into()).await;
    assert!(answer.looks_complete() && answer.is_stream(), "{}", answer.body_text());
    assert_eq!((answer.text().as_str(), answer.header("transfer-encoding")), ("one two three", ""));
}

#[tokio::test]
async fn a_fallback_goes_unnoticed_over_http_2() {
    let sims = [Sim::start(SimDialect::Anthropic).unwrap(), Sim::start(SimDialect::OpenAi).unwrap()];
    let gateway = Gateway::builder().provider("one", &sims[0]).provider("two", &sims[1]).start().await;
    let mut client = H2::to(&gateway).await;
    for fault in [SimFault::ServerError, SimFault::ErrorFirst, SimFault::ResetAfterHead] {
        for stream in [false, true] {
            let mut request = saying(&format!("one/sim-{}", fault.name()), "one two three", stream);
            request["extra"] = json!({"fallback_models": ["two/sim-ok"], "retry": 0});
            let answer = client.chat(request.to_string().into()).await;
            assert!(answer.looks_complete(), "{fault:?} {stream}: {} {}", answer.status, answer.body_text());
            assert_eq!(
                (answer.text().as_str(), answer.header("x-provider")),
                ("one two three", "two"),
                "{fault:?} {stream}"
            );
        }
    }
    // After the commit the client is told.
    let answer = client.chat(saying("one/sim-cut-after-tokens", "one two three four", true).to_string().into()).await;
    let told = answer.status == 200 && answer.error().is_some();
    assert!(told && !answer.looks_complete(), "{}: {}", answer.status, answer.body_text());
}

#[tokio::test]
async fn requests_run_side_by_side_on_one_http_2_connection() {
    let (gateway, sim) = gateway().await;
    let client = H2::to(&gateway).await;
    let request = |number: usize| saying("openai/sim-slow", &format!("request {number}"), true).to_string();
    let mut running = tokio::task::JoinSet::new();
    for number in 0..20 {
        let (mut client, body) = (client.again(), request(number));
        running.spawn(async move { (number, client.chat(body.into()).await) });
    }
    while let Some(done) = running.join_next().await {
        let (number, answer) = done.unwrap();
        assert!(answer.looks_complete() && answer.text() == format!("request {number}"), "{}", answer.body_text());
    }
    assert_eq!(sim.generations(), 20);
}

#[tokio::test]
async fn a_request_that_is_sent_ahead_waits_its_turn_and_breaks_nothing() {
    let (gateway, sim) = gateway().await;
    for stream in [false, true] {
        sim.forget_calls();
        let request = |words: &str| chat_request(&saying("openai/sim-slow", words, stream).to_string());
        let mut connection = Connection::to(&gateway).await;
        connection.write(request("the first one") + &request("the second one") + &request("the third one")).await;
        for words in ["the first one", "the second one", "the third one"] {
            let answer = connection.answer().await;
            assert!(answer.looks_complete(), "{stream} {words}: {answer:?} {}", answer.body_text());
            assert_eq!(answer.text(), words);
        }
        assert_eq!(sim.generations(), 3);
        assert!(sim.calls().iter().all(|call| call.client_gone.is_none()), "a request was aborted");
    }
}

#[tokio::test]
async fn a_request_sent_ahead_while_the_first_is_running_breaks_nothing() {
    let (gateway, sim) = gateway().await;
    let request = |words: &str| chat_request(&saying("openai/sim-slow", words, true).to_string());
    let mut connection = Connection::to(&gateway).await;
    connection.write(request("the first of two")).await;
    assert!(sim.until(PATIENCE, |calls| calls.len() == 1).await);
    connection.write(request("and then the second")).await;
    for words in ["the first of two", "and then the second"] {
        let answer = connection.answer().await;
        assert!(answer.looks_complete() && answer.text() == words, "{answer:?} {}", answer.body_text());
    }
}

#[tokio::test]
async fn connections_are_used_again_on_both_sides() {
    for dialect in SimDialect::ALL {
        let sim = Sim::start(dialect).unwrap();
        let gateway = Gateway::builder().provider("one", &sim).config("[server]\nworkers = 1").start().await;
        let mut connection = Connection::to(&gateway).await;
        for stream in [false, true, false, true, true] {
            connection.write(chat_request(&saying("one/sim-ok", "one two", stream).to_string())).await;
            let answer = connection.answer().await;
            assert!(answer.looks_complete(), "{answer:?}");
        }
        assert_eq!(sim.requests_per_connection(), [5], "{dialect:?}: new connections to the provider");
    }
}

#[tokio::test]
async fn a_connection_is_good_after_an_error_whose_request_was_read() {
    let (gateway, _sim) = gateway().await;
    let mut connection = Connection::to(&gateway).await;
    for _ in 0..3 {
        connection.write(chat_request("{")).await;
        assert_eq!(connection.answer().await.status, 400);
        connection.write(format!("GET /v1/nothing HTTP/1.1\r\nhost: gateway\r\nx-api-key: {KEY}\r\n\r\n")).await;
        assert_eq!(connection.answer().await.status, 404);
        connection.write(chat_request(&saying("openai/sim-ok", "one two", true).to_string())).await;
        assert_eq!(connection.answer().await.text(), "one two");
    }
}
