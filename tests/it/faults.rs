//! Faults that are more than one request: connections that went stale, keys that rest or are echoed, clients that hang up. The matrix of
//! single requests is in `fault_matrix`.

use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use orbyt::sim::client;
use orbyt::sim::{Sim, SimDialect, SimFault};
use serde_json::Value;
use std::time::{Duration, Instant};

const WORDS: &str = "one two three four five six";

/// One retry, no breaker.
const CONFIG: &str = r#"
[retry]
max = 1
base = "1ms"
cap = "5ms"
budget = 1.0

[breaker]
enabled = false
"#;

/// A provider of each dialect, which fail.
struct Stage {
    gateway: Gateway,
    failing: [Sim; SimDialect::ALL.len()],
}

impl Stage {
    async fn set() -> Self {
        let failing = SimDialect::ALL.map(|dialect| Sim::start(dialect).unwrap());
        let mut builder = Gateway::builder().config(CONFIG);
        for sim in &failing {
            builder = builder.provider(sim.dialect().provider_id(), sim);
        }
        Self { gateway: builder.start().await, failing }
    }

    fn request(sim: &Sim, fault: SimFault, stream: bool) -> Value {
        saying(&format!("{}/sim-{}", sim.dialect().provider_id(), fault.name()), WORDS, stream)
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
            let left = hangs_up(sim, &url, ("authorization", &key), request.as_bytes()).await;
            let calls = sim.calls();
            assert_eq!(calls.len(), 1, "{fault:?} {stream} {:?}", sim.dialect());
            let after = calls[0].client_gone.unwrap().saturating_duration_since(left);
            assert!(after < Duration::from_secs(1), "{after:?}");
        }
    }
}

/// Sends a request, and hangs up once it has arrived at the provider, which falls silent then. Returns when that was, after the provider has noticed.
pub async fn hangs_up(sim: &Sim, url: &str, header: (&str, &str), request: &[u8]) -> Instant {
    let reading = async {
        let mut exchange = client::open("POST", url, &[header], request).await?;
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
    assert!(noticed.await, "{:?} after {:?}: {}", sim.dialect(), left.elapsed(), String::from_utf8_lossy(request));
    left
}
