//! The fault matrix for Google's clients: every fault × every provider's dialect × each way to ask.
//!
//! As for OpenAI's clients: before the commit the fallback's answer and nothing else, afterwards an error as the last answer and never a
//! finish reason.

use crate::fault_matrix::CONFIG;
use crate::gateway::{Gateway, KEY, PATIENCE};
use crate::gemini::{Generated, How, ask, asking};
use orbyt::sim::client;
use orbyt::sim::{Sim, SimDialect, SimFault};
use serde_json::json;
use std::time::{Duration, Instant};

const WORDS: &str = "one two three four five six";

/// A provider of each format that fails, and two that stand in: for one client a translation, for the other a pass-through.
struct Stage {
    gateway: Gateway,
    failing: [Sim; SimDialect::ALL.len()],
    spares: [Sim; 2],
}

impl Stage {
    async fn set() -> Self {
        let failing = SimDialect::ALL.map(|dialect| Sim::start(dialect).unwrap());
        let spares = [SimDialect::OpenAi, SimDialect::Gemini].map(|dialect| Sim::start(dialect).unwrap());
        let mut builder = Gateway::builder().config(CONFIG);
        for (sim, id) in spares.iter().zip(["spare-openai", "spare-google"]) {
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

async fn play(how: How) {
    for (fault, streamed, whole) in MATRIX {
        // A fault may put a key out of use.
        let stage = Stage::set().await;
        let expected = if how == How::Whole { whole } else { streamed };
        for sim in &stage.failing {
            for (spare, id) in stage.spares.iter().zip(["spare-openai", "spare-google"]) {
                spare.forget_calls();
                let own = sim.dialect().provider_id();
                let mut body = asking(WORDS);
                body["extra"] = json!({ "fallback_models": [format!("{id}/sim-ok")] });
                let answer = ask(&stage.gateway, how, &format!("{own}/sim-{}", fault.name()), &body).await;
                let generated = Generated::of(&answer);
                let seen = format!(
                    "{fault:?} at {own}, {id} stands in, {how:?}: {:?}\n{}",
                    answer.headers,
                    answer.body_text()
                );
                assert_eq!(answer.status, 200, "{seen}");
                assert_eq!(spare.generations(), usize::from(expected == Fallback), "{seen}");
                if expected == Broken {
                    assert!(!generated.complete && generated.error.is_some(), "it looks complete: {seen}");
                    assert!(WORDS.starts_with(generated.text().trim_end()) && !generated.text().is_empty(), "{seen}");
                    assert!(generated.finish.is_null(), "an invented finish reason: {seen}");
                } else {
                    assert!(generated.complete && generated.text() == WORDS, "{seen}");
                    assert_eq!(generated.finish, "STOP", "{seen}");
                    assert_eq!(answer.header("x-provider"), if expected == Fallback { id } else { own }, "{seen}");
                }
            }
        }
    }
}

#[tokio::test]
async fn events() {
    play(How::Events).await;
}

#[tokio::test]
async fn array() {
    play(How::Array).await;
}

#[tokio::test]
async fn whole() {
    play(How::Whole).await;
}

#[tokio::test]
async fn with_nobody_to_stand_in_the_client_gets_an_error_of_its_own_form() {
    let stage = Stage::set().await;
    for fault in [SimFault::ServerError, SimFault::Empty, SimFault::Html, SimFault::ErrorFirst, SimFault::RoleOnly] {
        for sim in &stage.failing {
            for how in crate::gemini::ALL {
                let model = format!("{}/sim-{}", sim.dialect().provider_id(), fault.name());
                let answer = ask(&stage.gateway, how, &model, &asking(WORDS)).await;
                let seen = format!("{fault:?} {:?} {how:?}: {} {}", sim.dialect(), answer.status, answer.body_text());
                assert!((429..=504).contains(&answer.status), "{seen}");
                let error = &answer.json()["error"];
                assert_eq!(error["code"], answer.status, "{seen}");
                let attempts = error["details"][0]["metadata"]["attempts"].as_str();
                assert!(attempts.is_some_and(|attempts| attempts.starts_with("[{\"provider\":")), "{seen}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_the_call_to_the_provider() {
    let stage = Stage::set().await;
    for sim in &stage.failing {
        for (fault, how) in [
            (SimFault::Timeout, How::Whole),
            (SimFault::StallAfterTokens, How::Events),
            (SimFault::StallAfterTokens, How::Array),
        ] {
            sim.forget_calls();
            let model = format!("{}/sim-{}", sim.dialect().provider_id(), fault.name());
            let url = format!("{}{}", stage.gateway.url, how.path(&model));
            let (headers, request) = ([("x-goog-api-key", KEY)], asking(WORDS).to_string());
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
            assert!(noticed.await, "{fault:?} {how:?} {:?} after {:?}", sim.dialect(), left.elapsed());
            assert_eq!(sim.calls().len(), 1, "{fault:?} {how:?} {:?}", sim.dialect());
        }
    }
}
