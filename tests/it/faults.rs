//! The fault matrix: every fault × every dialect × streamed and not.
//!
//! Before the commit the client gets the fallback's answer and nothing else; after it an error, never a clean end. The calls
//! that arrive at each provider are counted, because a retry too many costs money and one too few an answer.

use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use orbyt::sim::client::{self, Answer, BodyEnd};
use orbyt::sim::{Sim, SimDialect, SimFault};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const WORDS: &str = "one two three four five six";

/// Short clocks, one retry, no breaker: each cell of the matrix stands for itself.
const CONFIG: &str = r#"
[timeouts]
connect = "2s"
first_output = "500ms"
idle = "500ms"
total = "20s"

[retry]
max = 1
base = "1ms"
cap = "5ms"
budget = 1.0

[breaker]
enabled = false
"#;

/// What has to come of a cell.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// The fallback's answer; so many calls arrive at the provider that fails.
    Fallback { calls: usize },
    /// The answer of the provider itself, whole.
    Served,
    /// The beginning of the provider's answer, then an error; no other call is made.
    Broken,
}

use Expected::{Broken, Fallback, Served};

/// A provider of each dialect, which fail, and one more that stands in.
struct Stage {
    gateway: Gateway,
    failing: [Sim; SimDialect::ALL.len()],
    spare: Sim,
}

impl Stage {
    async fn set() -> Self {
        let failing = SimDialect::ALL.map(|dialect| Sim::start(dialect).unwrap());
        let spare = Sim::start(SimDialect::OpenAi).unwrap();
        let mut builder = Gateway::builder().config(CONFIG).provider("spare", &spare);
        for sim in &failing {
            builder = builder.provider(sim.dialect().provider_id(), sim);
        }
        Self { gateway: builder.start().await, failing, spare }
    }

    fn request(sim: &Sim, fault: SimFault, stream: bool) -> Value {
        saying(&format!("{}/sim-{}", sim.dialect().provider_id(), fault.name()), WORDS, stream)
    }
}

/// Plays a fault in all dialects and checks what comes of it.
async fn play(fault: SimFault, stream: bool, expected: Expected) {
    let stage = Stage::set().await;
    for sim in &stage.failing {
        if fault == SimFault::Refused {
            sim.refuse();
        }
        stage.spare.forget_calls();
        let mut request = Stage::request(sim, fault, stream);
        request["extra"] = json!({ "fallback_models": ["spare/sim-ok"] });
        let answer = stage.gateway.chat(&request).await;
        let cell = format!("{} × {:?} × {}", fault.name(), sim.dialect(), if stream { "stream" } else { "unary" });
        check(&cell, sim, fault, &answer, expected, stage.spare.generations());
    }
}

fn check(cell: &str, sim: &Sim, fault: SimFault, answer: &Answer, expected: Expected, spare_calls: usize) {
    let seen = format!("{cell}\n{answer:?}\n{}", answer.body_text());
    let own = sim.dialect().provider_id();
    let (provider, attempts, calls, spared) = match expected {
        Fallback { calls } => ("spare", calls.max(1) + usize::from(fault == SimFault::Refused) + 1, calls, 1),
        Served | Broken => (own, 1, 1, 0),
    };
    assert_eq!(answer.status, 200, "{seen}");
    assert_eq!((sim.generations(), spare_calls), (calls, spared), "calls at {own} and at the spare: {seen}");
    assert_eq!(answer.header("x-provider"), provider, "{seen}");
    assert_eq!(answer.header("x-orbyt-attempts"), attempts.to_string(), "{seen}");
    assert_eq!(answer.header("x-orbyt-fallback"), (provider == "spare").to_string(), "{seen}");
    assert!(answer.header("x-request-id").starts_with("req_"), "{seen}");
    if matches!(expected, Broken) {
        assert_eq!(answer.text(), "one two three ", "{seen}");
        assert!(answer.error().is_some_and(|error| error["message"].is_string()), "no error: {seen}");
        assert!(!answer.is_done() && !answer.looks_complete(), "it looks complete: {seen}");
        assert!(!answer.finish_reasons().iter().any(|reason| reason != "error"), "an invented finish reason: {seen}");
        return;
    }
    assert_eq!((answer.text().as_str(), answer.end), (WORDS, BodyEnd::Clean), "{seen}");
    assert!(answer.looks_complete(), "{seen}");
    assert_eq!(answer.finish_reasons(), ["stop"], "{seen}");
    if let Fallback { .. } = expected {
        assert!(
            !answer.body_text().contains(&format!("sim-{}", fault.name())),
            "something of the failed answer: {seen}"
        );
    }
    let ids: Vec<Value> = answer.events().iter().map(|event| event["id"].clone()).collect();
    assert!(ids.iter().all(|id| id.is_string() && *id == ids[0]), "not one id: {seen}");
}

/// One test a row, streamed and not.
macro_rules! matrix {
    ($($name:ident: $fault:ident, stream: $stream:expr, unary: $unary:expr;)*) => {
        $(mod $name {
            use super::*;

            #[tokio::test]
            async fn streamed() {
                play(SimFault::$fault, true, $stream).await;
            }

            #[tokio::test]
            async fn unary() {
                play(SimFault::$fault, false, $unary).await;
            }
        })*
    };
}

// Two calls: the provider is asked once more. One: asking again would not help (its key is used up for now) or would cost the
// client its patience (it was silent). None: it could not be reached.
matrix! {
    status_429: RateLimited, stream: Fallback { calls: 1 }, unary: Fallback { calls: 1 };
    status_429_with_retry_after: RateLimitedRetryAfter, stream: Fallback { calls: 1 }, unary: Fallback { calls: 1 };
    quota: Quota, stream: Fallback { calls: 1 }, unary: Fallback { calls: 1 };
    status_402: PaymentRequired, stream: Fallback { calls: 1 }, unary: Fallback { calls: 1 };
    bad_key: BadKey, stream: Fallback { calls: 1 }, unary: Fallback { calls: 1 };
    status_403: Forbidden, stream: Fallback { calls: 1 }, unary: Fallback { calls: 1 };
    model_not_found: NotFound, stream: Fallback { calls: 1 }, unary: Fallback { calls: 1 };
    context_length: ContextLength, stream: Fallback { calls: 1 }, unary: Fallback { calls: 1 };
    status_500: ServerError, stream: Fallback { calls: 2 }, unary: Fallback { calls: 2 };
    status_502: BadGateway, stream: Fallback { calls: 2 }, unary: Fallback { calls: 2 };
    status_503: Unavailable, stream: Fallback { calls: 2 }, unary: Fallback { calls: 2 };
    status_529: Overloaded, stream: Fallback { calls: 2 }, unary: Fallback { calls: 2 };
    refused: Refused, stream: Fallback { calls: 0 }, unary: Fallback { calls: 0 };
    reset_before_head: ResetBeforeHead, stream: Fallback { calls: 2 }, unary: Fallback { calls: 2 };
    reset_after_head: ResetAfterHead, stream: Fallback { calls: 2 }, unary: Fallback { calls: 2 };
    timeout: Timeout, stream: Fallback { calls: 1 }, unary: Fallback { calls: 1 };
    stall: Stall, stream: Fallback { calls: 1 }, unary: Fallback { calls: 1 };
    stall_after_tokens: StallAfterTokens, stream: Broken, unary: Fallback { calls: 1 };
    empty_200: Empty, stream: Fallback { calls: 2 }, unary: Fallback { calls: 2 };
    html_200: Html, stream: Fallback { calls: 2 }, unary: Fallback { calls: 2 };
    cut_json: CutJson, stream: Fallback { calls: 2 }, unary: Fallback { calls: 2 };
    error_first: ErrorFirst, stream: Fallback { calls: 2 }, unary: Fallback { calls: 2 };
    error_after_prelude: ErrorAfterPrelude, stream: Fallback { calls: 2 }, unary: Fallback { calls: 2 };
    error_after_tokens: ErrorAfterTokens, stream: Broken, unary: Fallback { calls: 2 };
    role_only: RoleOnly, stream: Fallback { calls: 2 }, unary: Fallback { calls: 2 };
    cut_after_tokens: CutAfterTokens, stream: Broken, unary: Fallback { calls: 2 };
    close_after_tokens: CloseAfterTokens, stream: Broken, unary: Fallback { calls: 2 };
    fin_after_tokens: FinAfterTokens, stream: Broken, unary: Fallback { calls: 2 };
    malformed_first: MalformedFirst, stream: Fallback { calls: 2 }, unary: Fallback { calls: 2 };
    malformed_event: MalformedEvent, stream: Broken, unary: Fallback { calls: 2 };
    no_terminator: NoTerminator, stream: Served, unary: Served;
    slow: Slow, stream: Served, unary: Served;
    bytewise: Bytewise, stream: Served, unary: Served;
    crlf: Crlf, stream: Served, unary: Served;
    huge_head: HugeHead, stream: Fallback { calls: 2 }, unary: Fallback { calls: 2 };
}

#[tokio::test]
async fn a_wrong_request_is_not_tried_elsewhere() {
    let stage = Stage::set().await;
    for sim in &stage.failing {
        let mut request = Stage::request(sim, SimFault::BadRequest, false);
        request["extra"] = json!({ "fallback_models": ["spare/sim-ok"] });
        let answer = stage.gateway.chat(&request).await;
        assert_eq!(
            (answer.status, sim.generations(), stage.spare.generations()),
            (400, 1, 0),
            "{}",
            answer.body_text()
        );
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains("not what this model takes"), "not the provider's message: {message}");
    }
}

#[tokio::test]
async fn with_nobody_to_stand_in_the_client_gets_an_error_and_never_a_200() {
    let stage = Stage::set().await;
    for fault in [
        SimFault::ServerError,
        SimFault::Overloaded,
        SimFault::ResetBeforeHead,
        SimFault::ResetAfterHead,
        SimFault::Empty,
        SimFault::Html,
        SimFault::CutJson,
        SimFault::ErrorFirst,
        SimFault::RoleOnly,
        SimFault::MalformedFirst,
        SimFault::RateLimited,
    ] {
        for sim in &stage.failing {
            for stream in [true, false] {
                let answer = stage.gateway.chat(&Stage::request(sim, fault, stream)).await;
                let cell = format!("{fault:?} {:?} {stream}: {} {}", sim.dialect(), answer.status, answer.body_text());
                assert!((429..=504).contains(&answer.status), "{cell}");
                let error = &answer.json()["error"];
                assert!(
                    error["message"].is_string() && error["type"].is_string() && error["code"].is_string(),
                    "{cell}"
                );
                let attempts = error["metadata"]["attempts"].as_array().cloned().unwrap_or_default();
                assert!(attempts.iter().any(|attempt| attempt["provider"] == sim.dialect().provider_id()), "{cell}");
                if answer.status == 429 || answer.status == 503 {
                    assert!(!answer.header("retry-after").is_empty(), "no Retry-After: {cell}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_stale_connection_is_no_fault_of_the_provider() {
    let stage = Stage::set().await;
    for sim in &stage.failing {
        for _ in 0..3 {
            let answer = stage.gateway.chat(&Stage::request(sim, SimFault::Stale, false)).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, WORDS), "{}", answer.body_text());
            assert_eq!(answer.header("x-orbyt-attempts"), "1");
        }
        // The second and third request found the kept connection stale and went out again on a new one.
        assert!(sim.generations() > 3, "no connection was used again: {:?}", sim.requests_per_connection());
    }
}

#[tokio::test]
async fn a_rate_limited_key_makes_room_for_the_next_one() {
    for dialect in SimDialect::ALL {
        let sim = Sim::start(dialect).unwrap();
        sim.on_key("key-one", SimFault::RateLimited);
        let id = dialect.provider_id();
        let gateway =
            Gateway::builder().config(CONFIG).provider_with_keys(id, &sim, &["key-one", "key-two"]).start().await;
        for stream in [true, false] {
            let answer = gateway.chat(&saying(&format!("{id}/sim-ok"), WORDS, stream)).await;
            assert_eq!((answer.text().as_str(), answer.header("x-orbyt-fallback")), (WORDS, "false"), "{answer:?}");
        }
        let limited = sim.calls().iter().filter(|call| call.step == SimFault::RateLimited.into()).count();
        assert!(limited <= 1 && sim.generations() == 2 + limited, "the key that is cooling down was used again");
    }
}

#[tokio::test]
async fn an_echoed_key_is_never_shown() {
    let sims = SimDialect::ALL.map(|dialect| Sim::start(dialect).unwrap());
    let secret = |sim: &Sim| format!("canary-{}-0123456789abcdef", sim.dialect().provider_id());
    let mut builder = Gateway::builder().config(CONFIG).config("[telemetry]\nlog_level = \"debug\"");
    for sim in &sims {
        builder = builder.provider_with_keys(sim.dialect().provider_id(), sim, &[&secret(sim)]);
    }
    let gateway = builder.start().await;
    for sim in &sims {
        let answer = gateway.chat(&Stage::request(sim, SimFault::EchoKey, false)).await;
        gateway.log_line(&answer).await;
        assert!(
            answer.status >= 400 && answer.status != 401,
            "a provider's 401 is not the client's: {}",
            answer.status
        );
        let metrics = gateway.get_console("/metrics").await.unwrap().body_text();
        for (place, text) in [("answer", answer.body_text()), ("output", gateway.output()), ("metrics", metrics)] {
            assert!(!text.contains(&secret(sim)), "the key stands in the {place}: {text}");
        }
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_the_call_to_the_provider() {
    let stage = Stage::set().await;
    for sim in &stage.failing {
        for (fault, stream) in
            [(SimFault::Timeout, false), (SimFault::Timeout, true), (SimFault::StallAfterTokens, true)]
        {
            sim.forget_calls();
            let request = Stage::request(sim, fault, stream).to_string();
            let key = format!("Bearer {}", KEY);
            let url = format!("{}/v1/chat/completions", stage.gateway.url);
            let headers = [("authorization", key.as_str())];
            let reading = async {
                let mut exchange = client::open("POST", &url, &headers, request.as_bytes()).await?;
                while exchange.piece().await.is_some() {}
                Ok::<(), std::io::Error>(())
            };
            // The request has arrived, and with it what the provider has to say before it falls silent.
            let arrived = async {
                assert!(sim.until(PATIENCE, |calls| calls.len() == 1).await);
                tokio::time::sleep(Duration::from_millis(100)).await;
            };
            tokio::select! {
                ended = reading => panic!("it ended by itself: {ended:?}"),
                () = arrived => {}
            }
            let left = Instant::now();
            let noticed = sim.until(PATIENCE, |calls| calls.iter().all(|call| call.client_gone.is_some()));
            assert!(noticed.await, "{fault:?} {stream} {:?}", sim.dialect());
            let calls = sim.calls();
            assert_eq!(calls.len(), 1, "{fault:?} {stream} {:?}", sim.dialect());
            let after = calls[0].client_gone.unwrap().saturating_duration_since(left);
            assert!(after < Duration::from_secs(1), "{after:?}");
        }
    }
}
