//! Every fault in every dialect, streamed and not; and what the simulator sees of its clients.

use super::super::{Act, Sim, SimDialect, SimFault, Step};
use super::{End, PATIENCE, SILENCE, Seen, Wire, ask, ask_for, error_in, finish_in, request, saying, text_in};
use std::time::{Duration, Instant};

const WORDS: &str = "one two three four five six";

async fn see(sim: &Sim, fault: SimFault, stream: bool) -> Seen {
    let dialect = sim.dialect();
    let model = format!("sim-{}", fault.name());
    let falls_silent = matches!(fault, SimFault::Timeout | SimFault::Stall | SimFault::StallAfterTokens);
    let patience = if falls_silent { SILENCE } else { PATIENCE };
    ask_for(sim, &request(dialect, "sk-key-1234567890", &model, stream, saying(dialect, WORDS)), patience).await
}

/// The statuses of the faults that are told by one, for OpenAI, Anthropic, Gemini, Cohere and Ollama.
const STATUSES: [(SimFault, [u16; SimDialect::TEXTUAL.len()]); 14] = [
    (SimFault::RateLimited, [429; 5]),
    (SimFault::RateLimitedRetryAfter, [429; 5]),
    (SimFault::Quota, [429, 400, 429, 429, 429]),
    (SimFault::PaymentRequired, [402; 5]),
    (SimFault::BadKey, [401, 401, 400, 401, 401]),
    (SimFault::EchoKey, [401, 401, 400, 401, 401]),
    (SimFault::Forbidden, [403; 5]),
    (SimFault::NotFound, [404; 5]),
    (SimFault::BadRequest, [400; 5]),
    (SimFault::ContextLength, [400; 5]),
    (SimFault::ServerError, [500; 5]),
    (SimFault::BadGateway, [502; 5]),
    (SimFault::Unavailable, [503; 5]),
    (SimFault::Overloaded, [529; 5]),
];

#[tokio::test]
async fn errors_come_with_their_status_and_their_words() {
    for (position, dialect) in SimDialect::TEXTUAL.into_iter().enumerate() {
        let sim = Sim::start(dialect).unwrap();
        for (fault, statuses) in STATUSES {
            let seen = see(&sim, fault, position == 0).await;
            assert_eq!((seen.status(), seen.end), (statuses[position], End::Open), "{dialect:?} {fault:?}");
            if fault == SimFault::BadGateway {
                assert!(seen.body().0.contains("<html>"));
            } else {
                assert!(!error_in(dialect, &seen.json()).is_empty(), "{dialect:?} {fault:?}");
            }
            assert_eq!(seen.text().contains("sk-key-1234567890"), fault == SimFault::EchoKey, "{dialect:?} {fault:?}");
            let tells_when =
                seen.head().contains("\r\nretry-after: 1\r\n") || seen.text().contains("\"retryDelay\": \"1s\"");
            assert_eq!(tells_when, fault == SimFault::RateLimitedRetryAfter, "{dialect:?} {fault:?}");
        }
    }
}

#[tokio::test]
async fn whole_answers_are_whole_in_every_form() {
    for dialect in SimDialect::TEXTUAL {
        let sim = Sim::start(dialect).unwrap();
        for fault in SimFault::ALL.into_iter().filter(|fault| fault.is_complete_answer()).chain([SimFault::HugeHead]) {
            let seen = see(&sim, fault, true).await;
            assert!(seen.body().1, "{dialect:?} {fault:?}");
            let text = text_in(dialect, &seen.events());
            assert_eq!(
                (text.as_str(), finish_in(dialect, &seen.events()).is_some()),
                (WORDS, true),
                "{dialect:?} {fault:?}"
            );
            let terminated = match dialect {
                SimDialect::OpenAi | SimDialect::Cohere => seen.text().contains("data: [DONE]"),
                SimDialect::Anthropic => seen.text().contains("event: message_stop"),
                SimDialect::Gemini | SimDialect::Ollama => fault != SimFault::NoTerminator,
                SimDialect::Bedrock => unreachable!("its streams are no text"),
            };
            assert_eq!(
                terminated || fault == SimFault::Bytewise,
                fault != SimFault::NoTerminator,
                "{dialect:?} {fault:?}"
            );

            let seen = see(&sim, fault, false).await;
            let answer = [seen.json()];
            assert_eq!(text_in(dialect, &answer), WORDS, "{dialect:?} {fault:?}");
            assert!(finish_in(dialect, &answer).is_some());
            assert_eq!(seen.head().len() > 2_000_000, fault == SimFault::HugeHead);
        }
        let line_end = if dialect == SimDialect::Ollama { "}\r\n{" } else { "}\r\n\r\n" };
        assert!(see(&sim, SimFault::Crlf, true).await.body().0.contains(line_end));
        let bytewise = see(&sim, SimFault::Bytewise, true).await;
        assert!(bytewise.text().matches("\r\n1\r\n").count() > 100, "{dialect:?}");
    }
}

#[tokio::test]
async fn breaks_before_and_around_the_head() {
    for dialect in SimDialect::TEXTUAL {
        let sim = Sim::start(dialect).unwrap();
        for stream in [false, true] {
            let seen = see(&sim, SimFault::ResetBeforeHead, stream).await;
            assert_eq!((seen.bytes.len(), seen.end), (0, End::Reset));
            let seen = see(&sim, SimFault::ResetAfterHead, stream).await;
            assert_eq!((seen.status(), seen.body().0.as_str(), seen.end), (200, "", End::Reset));
            let seen = see(&sim, SimFault::Timeout, stream).await;
            assert_eq!((seen.bytes.len(), seen.end), (0, End::Open));
            let seen = see(&sim, SimFault::Empty, stream).await;
            assert_eq!((seen.status(), seen.body(), seen.end), (200, (String::new(), true), End::Open));
            let seen = see(&sim, SimFault::Html, stream).await;
            assert!(seen.head().contains("content-type: text/html") && seen.body().1 && seen.status() == 200);
        }
    }
}

/// What is left of a streamed answer: how many words, whether HTTP ended cleanly, and how the connection goes on.
const STREAMS: [(SimFault, &str, bool, End); 9] = [
    (SimFault::Stall, "none", false, End::Open),
    (SimFault::StallAfterTokens, "half", false, End::Open),
    (SimFault::CutJson, "none", true, End::Open),
    (SimFault::RoleOnly, "none", true, End::Open),
    (SimFault::CutAfterTokens, "half", false, End::Reset),
    (SimFault::CloseAfterTokens, "half", true, End::Open),
    (SimFault::FinAfterTokens, "half", false, End::Fin),
    (SimFault::ErrorAfterPrelude, "none", true, End::Open),
    (SimFault::ErrorAfterTokens, "half", true, End::Open),
];

#[tokio::test]
async fn streams_break_where_they_are_meant_to() {
    for dialect in SimDialect::TEXTUAL {
        let sim = Sim::start(dialect).unwrap();
        for (fault, words, clean, end) in STREAMS {
            let seen = see(&sim, fault, true).await;
            assert_eq!((seen.body().1, seen.end), (clean, end), "{dialect:?} {fault:?}");
            assert_eq!(finish_in(dialect, &seen.events()), None, "{dialect:?} {fault:?}");
            let text = text_in(dialect, &seen.events());
            assert_eq!(text, if words == "half" { "one two three " } else { "" }, "{dialect:?} {fault:?}");
            let in_band = seen.events().iter().any(|event| !error_in(dialect, event).is_empty());
            assert_eq!(
                in_band,
                matches!(fault, SimFault::ErrorAfterPrelude | SimFault::ErrorAfterTokens),
                "{dialect:?} {fault:?}"
            );
            assert!(seen.events().len() > usize::from(words == "half"), "{dialect:?} {fault:?}: no prelude");
        }
        let first = see(&sim, SimFault::ErrorFirst, true).await.events();
        assert!(first.len() == 1 && !error_in(dialect, &first[0]).is_empty(), "{dialect:?}");
        for (fault, text) in [(SimFault::MalformedFirst, "two three four five six"), (SimFault::MalformedEvent, WORDS)]
        {
            let seen = see(&sim, fault, true).await;
            assert!(seen.body().0.contains("<<not json>>") && seen.body().1);
            assert_eq!(text_in(dialect, &seen.events()), text, "{dialect:?} {fault:?}");
        }
    }
}

#[tokio::test]
async fn answers_that_are_not_streamed_break_as_well() {
    for dialect in SimDialect::TEXTUAL {
        let sim = Sim::start(dialect).unwrap();
        for (fault, whole, end) in [
            (SimFault::Stall, false, End::Open),
            (SimFault::StallAfterTokens, false, End::Open),
            (SimFault::CutAfterTokens, false, End::Reset),
            (SimFault::CloseAfterTokens, false, End::Fin),
            (SimFault::FinAfterTokens, false, End::Fin),
            (SimFault::CutJson, true, End::Open),
            (SimFault::MalformedFirst, true, End::Open),
            (SimFault::MalformedEvent, true, End::Open),
        ] {
            let seen = see(&sim, fault, false).await;
            assert_eq!((seen.status(), seen.body().1, seen.end), (200, whole, end), "{dialect:?} {fault:?}");
            let (body, _) = seen.body();
            assert!(serde_json::from_str::<serde_json::Value>(&body).is_err(), "{dialect:?} {fault:?}: {body}");
            assert_eq!(body.is_empty(), fault == SimFault::Stall);
        }
        let hollow = [see(&sim, SimFault::RoleOnly, false).await.json()];
        assert_eq!((text_in(dialect, &hollow).as_str(), finish_in(dialect, &hollow)), ("", None));
        let error = see(&sim, SimFault::ErrorFirst, false).await;
        assert!(error.status() == 200 && !error_in(dialect, &error.json()).is_empty());
    }
}

#[tokio::test]
async fn nobody_listens_while_it_refuses_and_the_port_stays_the_same() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let refused = || async { tokio::net::TcpStream::connect(sim.address()).await.map_err(|error| error.kind()).err() };
    assert_eq!(see(&sim, SimFault::Ok, false).await.status(), 200);
    let mut kept = Wire::connect(&sim).await;
    kept.send(&request(SimDialect::OpenAi, "k", "m", false, saying(SimDialect::OpenAi, WORDS))).await;
    assert_eq!(kept.read(PATIENCE).await.status(), 200);
    sim.refuse();
    assert_eq!(refused().await, Some(std::io::ErrorKind::ConnectionRefused));
    assert_eq!(kept.read(PATIENCE).await.end, End::Fin);
    sim.resume();
    assert_eq!(see(&sim, SimFault::Ok, false).await.status(), 200);
    assert_eq!(see(&sim, SimFault::Refused, false).await.end, End::Reset);
    assert_eq!(refused().await, Some(std::io::ErrorKind::ConnectionRefused));
    sim.reset().always(SimFault::Refused);
    assert_eq!(refused().await, Some(std::io::ErrorKind::ConnectionRefused));
    sim.reset();
    assert_eq!((see(&sim, SimFault::Ok, true).await.status(), sim.generations()), (200, 5));
}

#[tokio::test]
async fn connections_are_kept_counted_and_go_stale() {
    let dialect = SimDialect::Anthropic;
    let sim = Sim::start(dialect).unwrap();
    let good = request(dialect, "k", "m", true, saying(dialect, "hi there"));
    let mut wire = Wire::connect(&sim).await;
    for _ in 0..3 {
        wire.send(&good).await;
        assert!(wire.read(PATIENCE).await.body().1);
    }
    assert_eq!((sim.connections(), sim.requests_per_connection()), (1, vec![3]));

    sim.always(SimFault::Stale);
    let mut wire = Wire::connect(&sim).await;
    wire.send(&good).await;
    assert!(wire.read(PATIENCE).await.body().1);
    wire.send(&good).await;
    assert_eq!(wire.read(PATIENCE).await.end, End::Reset);
    assert_eq!((sim.connections(), sim.requests_per_connection()), (2, vec![3, 2]));
    assert_eq!(sim.calls()[4].on_connection, 1);
}

#[tokio::test]
async fn notices_when_a_client_hangs_up_in_the_middle() {
    for (fault, stream) in [(SimFault::Timeout, false), (SimFault::StallAfterTokens, true), (SimFault::Slow, true)] {
        let sim = Sim::start(SimDialect::Gemini).unwrap();
        let body = saying(SimDialect::Gemini, &"word ".repeat(300));
        let mut wire = Wire::connect(&sim).await;
        wire.send(&request(SimDialect::Gemini, "k", &format!("sim-{}", fault.name()), stream, body)).await;
        wire.read(Duration::from_millis(40)).await;
        assert!(sim.until(Duration::from_secs(1), |calls| calls.len() == 1).await);
        assert_eq!((sim.calls()[0].client_gone, sim.calls()[0].played_at), (None, None));
        let left = Instant::now();
        drop(wire);
        assert!(sim.until(Duration::from_secs(1), |calls| calls[0].client_gone.is_some()).await, "{fault:?}");
        assert!(sim.calls()[0].client_gone.unwrap() >= left && sim.calls()[0].played_at.is_none());
    }
}

#[tokio::test]
async fn plays_steps_in_order_and_literal_ones_as_they_are() {
    let dialect = SimDialect::OpenAi;
    let sim = Sim::start(dialect).unwrap();
    let good = request(dialect, "k", "gpt-4o", false, saying(dialect, "hi"));
    sim.script([SimFault::ServerError, SimFault::Ok]);
    sim.script([
        Step::Reply { status: 418, headers: vec![("x-a", "b".to_owned())], body: "{\"short\":true}".to_owned() },
        Step::Acts(vec![Act::Write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".to_vec()), Act::Close]),
        Step::Paced(Duration::from_millis(20)),
    ]);
    let statuses = [ask(&sim, &good).await.status(), ask(&sim, &good).await.status()];
    assert_eq!(statuses, [500, 200]);
    let seen = ask(&sim, &good).await;
    assert_eq!((seen.status(), seen.json()["short"] == true, seen.head().contains("x-a: b")), (418, true, true));
    let seen = ask(&sim, &good).await;
    assert_eq!((seen.text().as_str(), seen.end), ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", End::Open));
    assert_eq!(ask(&sim, &good).await.status(), 200);
    assert_eq!(sim.calls()[2].header("authorization"), Some("Bearer k"));
    assert_eq!(sim.calls()[2].json()["messages"][0]["content"], "hi");
    sim.forget_calls();
    assert_eq!(sim.generations(), 0);
}

#[tokio::test]
async fn fifty_at_once_are_no_trouble() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let ask_one = |index: usize| {
        let text = format!("number {index} of many");
        let bytes = request(SimDialect::OpenAi, "k", "m", true, saying(SimDialect::OpenAi, &text));
        let sim = &sim;
        async move { text_in(SimDialect::OpenAi, &ask(sim, &bytes).await.events()) == text }
    };
    let whole = futures::future::join_all((0..50).map(ask_one)).await;
    assert!(whole.iter().all(|whole| *whole));
    assert_eq!((sim.generations(), sim.connections()), (50, 50));
}
