//! The scenes of the demo: what is asked, how the providers fail, and how it has to end.

use super::live::Live;
use super::screen::{Ink, Screen};
use super::{DemoGateway, Sims};
use crate::sim::client::{self, Answer};
use crate::sim::{SimDialect, SimFault};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::Duration;

/// What every scene asks for. The simulated models repeat it.
const WORDS: &str = "One endpoint in front of every provider, and the client never notices.";

/// How a scene has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// With a whole answer from this provider.
    Whole(SimDialect),
    /// With the beginning of an answer from this provider, and an error in-band.
    Broken(SimDialect),
}

struct Scene {
    title: &'static str,
    story: &'static str,
    stream: bool,
    asked: SimDialect,
    fault: SimFault,
    /// Who stands in.
    fallback: Option<SimDialect>,
    attempts: usize,
    ending: Ending,
}

const SCENES: [Scene; 7] = [
    Scene {
        title: "A plain request",
        story: "It passes through byte for byte.",
        stream: false,
        asked: SimDialect::OpenAi,
        fault: SimFault::Ok,
        fallback: None,
        attempts: 1,
        ending: Ending::Whole(SimDialect::OpenAi),
    },
    Scene {
        title: "A stream from Anthropic",
        story: "The client speaks OpenAI's format, the provider its own.",
        stream: true,
        asked: SimDialect::Anthropic,
        fault: SimFault::Ok,
        fallback: None,
        attempts: 1,
        ending: Ending::Whole(SimDialect::Anthropic),
    },
    Scene {
        title: "A stream from Google",
        story: "The same client, a third format.",
        stream: true,
        asked: SimDialect::Gemini,
        fault: SimFault::Ok,
        fallback: None,
        attempts: 1,
        ending: Ending::Whole(SimDialect::Gemini),
    },
    Scene {
        title: "A 429",
        story: "Google says that it is enough for now; OpenAI stands in.",
        stream: false,
        asked: SimDialect::Gemini,
        fault: SimFault::RateLimitedRetryAfter,
        fallback: Some(SimDialect::OpenAi),
        attempts: 2,
        ending: Ending::Whole(SimDialect::OpenAi),
    },
    Scene {
        title: "A dead provider",
        story: "Nobody listens where Anthropic should be; OpenAI stands in.",
        stream: true,
        asked: SimDialect::Anthropic,
        fault: SimFault::Refused,
        fallback: Some(SimDialect::OpenAi),
        attempts: 2,
        ending: Ending::Whole(SimDialect::OpenAi),
    },
    Scene {
        title: "A 200 that turns into an error",
        story: "Anthropic begins a stream and fails before it has said anything; the client sees OpenAI's answer only.",
        stream: true,
        asked: SimDialect::Anthropic,
        fault: SimFault::ErrorAfterPrelude,
        fallback: Some(SimDialect::OpenAi),
        attempts: 2,
        ending: Ending::Whole(SimDialect::OpenAi),
    },
    Scene {
        title: "A stream that is cut in the middle",
        story: "The client has half an answer: no other provider can take that back, so it is told, and there is no [DONE].",
        stream: true,
        asked: SimDialect::OpenAi,
        fault: SimFault::CutAfterTokens,
        fallback: Some(SimDialect::Anthropic),
        attempts: 1,
        ending: Ending::Broken(SimDialect::OpenAi),
    },
];

/// Plays all scenes. Says whether each ended as told.
pub(super) async fn play<W: Write>(
    gateway: &DemoGateway,
    sims: &Sims,
    live: &mut Live,
    screen: &mut Screen<W>,
) -> io::Result<bool> {
    let mut as_told = 0;
    for (number, scene) in SCENES.iter().enumerate() {
        screen.line(Ink::Strong, &format!("{}. {}", number + 1, scene.title))?;
        screen.line(Ink::Plain, &format!("     {}", scene.story))?;
        let deviations = match perform(scene, gateway, sims).await {
            Ok(answer) => {
                for event in live.until_end_of(answer.header("x-request-id"), Duration::from_secs(2)).await {
                    screen.event(&event, false)?;
                }
                screen.line(Ink::Plain, &format!("     {}", headers(&answer)))?;
                screen.line(Ink::Plain, &format!("     {}", ending(&answer)))?;
                deviations(scene, &answer)
            }
            Err(error) => vec![format!("no answer: {error}")],
        };
        if deviations.is_empty() {
            as_told += 1;
            screen.line(Ink::Good, "     ✓ as told")?;
        }
        for deviation in deviations {
            screen.line(Ink::Bad, &format!("     ✗ {deviation}"))?;
        }
        screen.blank()?;
    }
    let ink = if as_told == SCENES.len() { Ink::Good } else { Ink::Bad };
    screen.line(ink, &format!("{as_told} of {} scenes ended as told.", SCENES.len()))?;
    screen.blank()?;
    Ok(as_told == SCENES.len())
}

async fn perform(scene: &Scene, gateway: &DemoGateway, sims: &Sims) -> io::Result<Answer> {
    let sim = sims.of(scene.asked);
    match scene.fault {
        SimFault::Ok => {}
        SimFault::Refused => {
            sim.refuse();
        }
        fault => {
            sim.script([fault]);
        }
    }
    let url = format!("{}/v1/chat/completions", gateway.url);
    let key = format!("Bearer {}", gateway.key);
    let body = request(scene).to_string();
    let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
    let answer = client::send("POST", &url, &headers, body.as_bytes()).await;
    sim.reset();
    answer
}

fn request(scene: &Scene) -> Value {
    let model = |dialect: SimDialect| format!("{}/{}", dialect.provider_id(), dialect.example_model());
    let mut request = json!({
        "model": model(scene.asked),
        "stream": scene.stream,
        "messages": [{ "role": "user", "content": WORDS }]
    });
    if let Some(fallback) = scene.fallback {
        // Without retries, so that each scene shows one thing.
        request["extra"] = json!({ "fallback_models": [model(fallback)], "retry": 0 });
    }
    request
}

fn headers(answer: &Answer) -> String {
    let header = |name: &str| format!("{name}: {}", answer.header(name));
    format!("{}   {}", answer.status, ["x-provider", "x-orbyt-attempts", "x-orbyt-fallback"].map(header).join("   "))
}

/// How an answer ended, for people.
fn ending(answer: &Answer) -> String {
    let text = format!("“{}”", answer.text().trim_end());
    match answer.error() {
        Some(error) => {
            format!("{text} and then an error: {}", error["message"].as_str().unwrap_or("without a message"))
        }
        None if answer.looks_complete() => format!("{text}, finish reason {}", answer.finish_reasons().join(", ")),
        None => format!("{text} and then nothing"),
    }
}

/// Where an answer is not what the scene has to end with.
fn deviations(scene: &Scene, answer: &Answer) -> Vec<String> {
    let mut deviations = Vec::new();
    let mut expect = |what: &str, expected: String, seen: String| {
        if seen != expected {
            deviations.push(format!("{what} is {seen:?} and should be {expected:?}"));
        }
    };
    let (provider, whole) = match scene.ending {
        Ending::Whole(provider) => (provider, true),
        Ending::Broken(provider) => (provider, false),
    };
    let fallback = provider != scene.asked;
    expect("the status", "200".to_owned(), answer.status.to_string());
    expect("x-provider", provider.provider_id().to_owned(), answer.header("x-provider").to_owned());
    expect("x-orbyt-attempts", scene.attempts.to_string(), answer.header("x-orbyt-attempts").to_owned());
    expect("x-orbyt-fallback", fallback.to_string(), answer.header("x-orbyt-fallback").to_owned());
    if whole {
        expect("the text", WORDS.to_owned(), answer.text());
        expect("a complete look", "true".to_owned(), answer.looks_complete().to_string());
    } else {
        let text = answer.text();
        let is_beginning = !text.is_empty() && text.len() < WORDS.len() && WORDS.starts_with(&text);
        expect("the text a beginning", "true".to_owned(), is_beginning.to_string());
        expect("an error in-band", "true".to_owned(), answer.error().is_some().to_string());
        expect("[DONE]", "false".to_owned(), answer.is_done().to_string());
    }
    deviations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::client::BodyEnd;

    fn answer(body: &str, stream: bool) -> Answer {
        let headers = [
            ("content-type", if stream { "text/event-stream" } else { "application/json" }),
            ("x-provider", "openai"),
            ("x-orbyt-attempts", "1"),
            ("x-orbyt-fallback", "false"),
        ];
        Answer {
            status: 200,
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            body: body.as_bytes().to_vec(),
            end: BodyEnd::Clean,
            head_after: Duration::ZERO,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn a_scene_that_ends_otherwise_is_noticed() {
        let good = json!({ "choices": [{ "message": { "content": WORDS }, "finish_reason": "stop" }] }).to_string();
        assert_eq!(deviations(&SCENES[0], &answer(&good, false)), Vec::<String>::new());
        let other = good.replace("never", "always");
        assert_eq!(deviations(&SCENES[0], &answer(&other, false)).len(), 1);
        assert!(!deviations(&SCENES[0], &answer("{}", false)).is_empty());
        // The same answer is no fallback's.
        assert_eq!(deviations(&SCENES[3], &answer(&good, false)).len(), 2);
    }

    #[test]
    fn a_cut_stream_that_looks_complete_is_noticed() {
        let cut = &SCENES[6];
        let half = format!("data: {}\n\n", json!({ "choices": [{ "delta": { "content": "One endpoint " } }] }));
        let told = format!("{half}data: {}\n\n", json!({ "error": { "message": "cut" } }));
        assert_eq!(deviations(cut, &answer(&told, true)), Vec::<String>::new());
        assert_eq!(deviations(cut, &answer(&half, true)).len(), 1);
        assert_eq!(deviations(cut, &answer(&format!("{told}data: [DONE]\n\n"), true)).len(), 1);
    }
}
