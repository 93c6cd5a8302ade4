//! The fault matrix for Anthropic's clients: every fault × every provider's dialect × streamed and not.
//!
//! As for OpenAI's clients: before the commit the fallback's answer and nothing else, afterwards an `error` event and never a clean end.

use crate::gateway::Gateway;
use crate::messages::{Message, asking};
use orbyt::sim::{Sim, SimDialect, SimFault};
use serde_json::json;

const WORDS: &str = "one two three four five six";

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

/// A provider of each format that fails, and two that stand in: for one client a translation, for the other a pass-through.
struct Stage {
    gateway: Gateway,
    failing: [Sim; SimDialect::ALL.len()],
    spares: [Sim; 2],
}

impl Stage {
    async fn set() -> Self {
        let failing = SimDialect::ALL.map(|dialect| Sim::start(dialect).unwrap());
        let spares = [SimDialect::OpenAi, SimDialect::Anthropic].map(|dialect| Sim::start(dialect).unwrap());
        let mut builder = Gateway::builder().config(CONFIG);
        for (sim, id) in spares.iter().zip(["spare-openai", "spare-anthropic"]) {
            builder = builder.provider(id, sim);
        }
        for sim in &failing {
            builder = builder.provider(sim.dialect().provider_id(), sim);
        }
        Self { gateway: builder.start().await, failing, spares }
    }
}

/// What has to come of a fault.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    Fallback,
    Served,
    Broken,
}

use Expected::{Broken, Fallback, Served};

const MATRIX: [(SimFault, Expected, Expected); 24] = [
    (SimFault::RateLimited, Fallback, Fallback),
    (SimFault::Quota, Fallback, Fallback),
    (SimFault::BadKey, Fallback, Fallback),
    (SimFault::NotFound, Fallback, Fallback),
    (SimFault::ContextLength, Fallback, Fallback),
    (SimFault::ServerError, Fallback, Fallback),
    (SimFault::Overloaded, Fallback, Fallback),
    (SimFault::ResetBeforeHead, Fallback, Fallback),
    (SimFault::ResetAfterHead, Fallback, Fallback),
    (SimFault::Timeout, Fallback, Fallback),
    (SimFault::Stall, Fallback, Fallback),
    (SimFault::StallAfterTokens, Broken, Fallback),
    (SimFault::Empty, Fallback, Fallback),
    (SimFault::Html, Fallback, Fallback),
    (SimFault::CutJson, Fallback, Fallback),
    (SimFault::ErrorFirst, Fallback, Fallback),
    (SimFault::ErrorAfterPrelude, Fallback, Fallback),
    (SimFault::ErrorAfterTokens, Broken, Fallback),
    (SimFault::RoleOnly, Fallback, Fallback),
    (SimFault::CutAfterTokens, Broken, Fallback),
    (SimFault::FinAfterTokens, Broken, Fallback),
    (SimFault::MalformedEvent, Broken, Fallback),
    (SimFault::NoTerminator, Served, Served),
    (SimFault::Crlf, Served, Served),
];

async fn play(stream: bool) {
    for (fault, streamed, whole) in MATRIX {
        // A fault may put a key out of use.
        let stage = Stage::set().await;
        let expected = if stream { streamed } else { whole };
        for sim in &stage.failing {
            for (spare, id) in stage.spares.iter().zip(["spare-openai", "spare-anthropic"]) {
                spare.forget_calls();
                let own = sim.dialect().provider_id();
                let mut body = asking(&format!("{own}/sim-{}", fault.name()), WORDS, stream);
                body["extra"] = json!({ "fallback_models": [format!("{id}/sim-ok")] });
                let answer = stage.gateway.messages("/v1/messages", &body).await;
                let message = Message::of(&answer);
                let seen = format!(
                    "{fault:?} at {own}, {id} stands in, stream={stream}: {:?}\n{}",
                    answer.headers,
                    answer.body_text()
                );
                assert_eq!(answer.status, 200, "{seen}");
                assert_eq!(spare.generations(), usize::from(expected == Fallback), "{seen}");
                if expected == Broken {
                    assert!(!message.complete && message.error.is_some(), "it looks complete: {seen}");
                    assert!(WORDS.starts_with(message.text().trim_end()) && !message.text().is_empty(), "{seen}");
                    assert!(message.value["stop_reason"].is_null(), "an invented stop reason: {seen}");
                } else {
                    assert!(message.complete && message.text() == WORDS, "{seen}");
                    assert_eq!(message.value["stop_reason"], "end_turn", "{seen}");
                    assert_eq!(answer.header("x-provider"), if expected == Fallback { id } else { own }, "{seen}");
                }
            }
        }
    }
}

#[tokio::test]
async fn streamed() {
    play(true).await;
}

#[tokio::test]
async fn whole() {
    play(false).await;
}

#[tokio::test]
async fn with_nobody_to_stand_in_the_client_gets_an_error_of_its_own_form() {
    let stage = Stage::set().await;
    for fault in [SimFault::ServerError, SimFault::Empty, SimFault::Html, SimFault::ErrorFirst, SimFault::RoleOnly] {
        for sim in &stage.failing {
            for stream in [true, false] {
                let body = asking(&format!("{}/sim-{}", sim.dialect().provider_id(), fault.name()), WORDS, stream);
                let answer = stage.gateway.messages("/v1/messages", &body).await;
                let seen = format!("{fault:?} {:?} {stream}: {} {}", sim.dialect(), answer.status, answer.body_text());
                assert!((429..=504).contains(&answer.status), "{seen}");
                let body = answer.json();
                assert_eq!(body["type"], "error", "{seen}");
                assert!(body["error"]["metadata"]["attempts"].is_array(), "{seen}");
            }
        }
    }
}
