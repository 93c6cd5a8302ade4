//! The fault matrix for clients of text completions: every fault × every way in which a provider is asked × streamed and not.
//!
//! As for clients of chats: before the commit the fallback's answer and nothing else, afterwards an error and never a clean end.

use crate::completions::complete;
use crate::fault_matrix::CONFIG;
use crate::gateway::Gateway;
use orbyt::sim::{Sim, SimDialect, SimFault};
use serde_json::{Value, json};

const WORDS: &str = "one two three four five six";

/// Those that fail: with the route, with Mistral's, and without in each format.
const FAILING: [(&str, SimDialect); 8] = [
    ("together", SimDialect::OpenAi),
    ("mistral", SimDialect::OpenAi),
    ("compatible", SimDialect::OpenAi),
    ("anthropic", SimDialect::Anthropic),
    ("google", SimDialect::Gemini),
    ("cohere", SimDialect::Cohere),
    ("ollama", SimDialect::Ollama),
    ("bedrock", SimDialect::Bedrock),
];

/// Those that stand in: for a pass-through, and for a translation.
const SPARES: [(&str, SimDialect); 2] = [("openai", SimDialect::OpenAi), ("spare", SimDialect::Anthropic)];

struct Stage {
    gateway: Gateway,
    failing: Vec<(&'static str, Sim)>,
    spares: Vec<(&'static str, Sim)>,
}

impl Stage {
    async fn set() -> Self {
        let start = |list: &[(&'static str, SimDialect)]| -> Vec<_> {
            list.iter().map(|(id, dialect)| (*id, Sim::start(*dialect).unwrap())).collect()
        };
        let (failing, spares) = (start(&FAILING), start(&SPARES));
        let builder = Gateway::builder().config(CONFIG);
        let builder = failing.iter().chain(&spares).fold(builder, |builder, (id, sim)| builder.provider(id, sim));
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

const MATRIX: [(SimFault, Expected, Expected); 25] = [
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
    (SimFault::Bytewise, Served, Served),
];

async fn play(stream: bool) {
    for (fault, streamed, whole) in MATRIX {
        // A fault may put a key out of use.
        let stage = Stage::set().await;
        let expected = if stream { streamed } else { whole };
        for (own, _) in &stage.failing {
            for (id, spare) in &stage.spares {
                spare.forget_calls();
                let body = json!({"model": format!("{own}/sim-{}", fault.name()), "prompt": WORDS, "stream": stream,
                    "extra": {"fallback_models": [format!("{id}/sim-ok")]}});
                let answer = complete(&stage.gateway, &body).await;
                let seen = format!(
                    "{fault:?} at {own}, {id} stands in, stream={stream}: {:?}\n{}",
                    answer.headers,
                    answer.body_text()
                );
                assert_eq!(answer.status, 200, "{seen}");
                assert_eq!(spare.generations(), usize::from(expected == Fallback), "{seen}");
                let objects: Vec<Value> = answer.events().iter().map(|event| event["object"].clone()).collect();
                assert!(objects.iter().all(|object| object == "text_completion"), "{seen}");
                if expected == Broken {
                    assert!(answer.error().is_some_and(|error| error["message"].is_string()), "no error: {seen}");
                    assert!(!answer.is_done() && !answer.looks_complete(), "it looks complete: {seen}");
                    assert!(WORDS.starts_with(answer.text().trim_end()) && !answer.text().is_empty(), "{seen}");
                    assert_eq!(answer.finish_reasons(), ["error"], "an invented finish reason: {seen}");
                } else {
                    assert!(answer.looks_complete() && answer.text() == WORDS, "{seen}");
                    assert_eq!(answer.finish_reasons(), ["stop"], "{seen}");
                    assert_eq!(answer.header("x-provider"), if expected == Fallback { *id } else { *own }, "{seen}");
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
async fn with_nobody_to_stand_in_the_client_gets_an_error() {
    let stage = Stage::set().await;
    for fault in [SimFault::ServerError, SimFault::Empty, SimFault::Html, SimFault::ErrorFirst, SimFault::RoleOnly] {
        for (id, _) in &stage.failing {
            for stream in [true, false] {
                let body = json!({"model": format!("{id}/sim-{}", fault.name()), "prompt": WORDS, "stream": stream});
                let answer = complete(&stage.gateway, &body).await;
                let error = &answer.json()["error"];
                assert!((500..=599).contains(&answer.status), "{fault:?} at {id}: {}", answer.body_text());
                assert!(
                    error["message"].is_string() && error["metadata"]["attempts"].is_array(),
                    "{fault:?} {id}: {error}"
                );
            }
        }
    }
}
