//! Hedging: a target that is late gets company, and whoever has output first serves.

use crate::gateway::{Gateway, saying};
use orbyt::sim::{Act, Sim, SimDialect, SimFault, Step};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const CONFIG: &str = "[retry]\nmax = 0\n[breaker]\nenabled = false\n[hedging]\nenabled = true\nquantile = 0.5\nmin_delay = \"100ms\"\nbudget = 1\n";
/// As many answers as it takes to know what is usual.
const USUAL: usize = 20;

struct Stage {
    gateway: Gateway,
    one: Sim,
    two: Sim,
}

impl Stage {
    async fn set(config: &str) -> Self {
        Self::of(config, SimDialect::OpenAi).await
    }

    /// Two providers, of which the first is known to answer at once.
    async fn of(config: &str, second: SimDialect) -> Self {
        let (one, two) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(second).unwrap());
        let builder = Gateway::builder().config(CONFIG).config(config);
        let gateway = builder.provider("one", &one).provider("two", &two).start().await;
        let stage = Self { gateway, one, two };
        for stream in [true, false] {
            assert!(make_usual(&stage.gateway, stream).await.iter().all(|served| served == "one"));
        }
        stage.one.forget_calls();
        assert_eq!(stage.two.generations(), 0);
        stage
    }

    /// The next request to a provider is never answered.
    fn silence(sim: &Sim) {
        sim.script([Step::Acts(vec![Act::Silence])]);
    }
}

/// Asks until it is known how long the first target usually takes; returns who served. The last one is noted a moment after its client has
/// it, but before its line in the log.
async fn make_usual(gateway: &Gateway, stream: bool) -> Vec<String> {
    let mut served = Vec::new();
    for _ in 0..USUAL {
        let answer = gateway.chat(&request(stream)).await;
        served.push(answer.header("x-provider").to_owned());
        if served.len() == USUAL {
            gateway.log_line(&answer).await;
        }
    }
    served
}

/// An answer that comes only after a while.
fn late(text: &str, after_ms: u64) -> Step {
    let body = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]});
    let body = body.to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    Step::Acts(vec![Act::Pause(Duration::from_millis(after_ms)), Act::Write(format!("{head}{body}").into_bytes())])
}

fn request(stream: bool) -> Value {
    let mut request = saying("one/sim-ok", "one two three four five six seven eight nine", stream);
    request["extra"] = json!({"fallback_models": ["two/sim-ok"], "cache": false});
    request
}

#[tokio::test]
async fn the_next_target_serves_when_the_first_is_late_and_the_first_is_let_go() {
    for dialect in [SimDialect::OpenAi, SimDialect::Anthropic] {
        let stage = Stage::of("", dialect).await;
        for stream in [true, false] {
            Stage::silence(&stage.one);
            let answer = stage.gateway.chat(&request(stream)).await;
            assert_eq!((answer.status, answer.header("x-provider")), (200, "two"), "{}", answer.body_text());
            assert_eq!((answer.header("x-orbyt-attempts"), answer.header("x-orbyt-fallback")), ("2", "true"));
            assert!(answer.body_text().contains("nine"));
            let line = stage.gateway.log_line(&answer).await;
            let tried =
                |place: usize| (line["tried"][place]["provider"].clone(), line["tried"][place]["verdict"].clone());
            assert_eq!(tried(0), (json!("one"), json!("overtaken")), "{line}");
            assert_eq!(tried(1), (json!("two"), json!("ok")), "{line}");
        }
        stage.gateway.shows(r#"orbyt_hedges_total{result="won"} 2"#).await;
        // Nothing is in flight at the first any more: its keys are free and its connections closed.
        stage.gateway.shows(r#"orbyt_keys{provider="one",state="idle"} 1"#).await;
    }
}

#[tokio::test]
async fn the_first_serves_when_its_output_comes_before_the_seconds() {
    let stage = Stage::set("").await;
    Stage::silence(&stage.two);
    stage.one.script([late("late", 600)]);
    let answer = stage.gateway.chat(&request(false)).await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "one"));
    assert_eq!((answer.header("x-orbyt-attempts"), answer.header("x-orbyt-fallback")), ("2", "false"));
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "late");
    assert_eq!((stage.one.generations(), stage.two.generations()), (1, 1));
    stage.gateway.shows(r#"orbyt_hedges_total{result="lost"} 1"#).await;
}

#[tokio::test]
async fn when_one_of_both_fails_the_other_goes_on() {
    let stage = Stage::set("").await;
    // The second refuses while the first is still silent, which then answers.
    stage.two.script([SimFault::ServerError]);
    stage.one.script([late("first", 900)]);
    let first = stage.gateway.chat(&request(false)).await;
    assert_eq!((first.status, first.header("x-provider")), (200, "one"), "{}", first.body_text());
    let line = stage.gateway.log_line(&first).await;
    assert_eq!((&line["tried"][0]["provider"], &line["tried"][0]["status"]), (&json!("two"), &json!(500)), "{line}");
    stage.gateway.shows(r#"orbyt_hedges_total{result="failed"} 1"#).await;
    // The first breaks off while the second is being asked, and the second serves.
    stage.one.script([Step::Acts(vec![Act::Pause(Duration::from_millis(500)), Act::Reset])]);
    stage.two.script([late("second", 900)]);
    let second = stage.gateway.chat(&request(false)).await;
    assert_eq!((second.status, second.header("x-provider")), (200, "two"), "{}", second.body_text());
    let line = stage.gateway.log_line(&second).await;
    assert_eq!(
        (&line["tried"][0]["verdict"], &line["tried"][0]["reason"]),
        (&json!("next_provider"), &json!("reset")),
        "{line}"
    );
}

#[tokio::test]
async fn without_a_budget_nobody_is_asked_twice() {
    let config = "[retry]\nmax = 0\n[hedging]\nenabled = true\nbudget = 0\n[timeouts]\nfirst_output = \"1s\"\n";
    let (one, two) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let gateway = Gateway::builder().config(config).provider("one", &one).provider("two", &two).start().await;
    make_usual(&gateway, true).await;
    Stage::silence(&one);
    let answer = gateway.chat(&request(true)).await;
    // The clock of the attempt ran out, and the walk went on as it does without hedging.
    assert_eq!((answer.status, answer.header("x-provider")), (200, "two"));
    assert_eq!(gateway.log_line(&answer).await["tried"][0]["reason"], "timeout_first_output");
    gateway.shows(r#"orbyt_hedges_total{result="refused"} 1"#).await;
}

#[tokio::test]
async fn own_keys_are_not_spent_twice_and_a_client_that_leaves_ends_both() {
    let stage = Stage::set("[timeouts]\nfirst_output = \"1s\"").await;
    let mut own = request(true);
    own["extra"]["byok"] = json!("sk-own");
    Stage::silence(&stage.one);
    let answer = stage.gateway.chat(&own).await;
    assert_eq!(answer.header("x-provider"), "two");
    assert_eq!(stage.gateway.log_line(&answer).await["tried"][0]["reason"], "timeout_first_output");

    stage.two.forget_calls();
    Stage::silence(&stage.one);
    Stage::silence(&stage.two);
    let stage = Arc::new(stage);
    let leaving = stage.clone();
    let client = tokio::spawn(async move { leaving.gateway.chat(&request(true)).await });
    stage.gateway.until("the second target is asked", || stage.two.generations() == 1).await;
    client.abort();
    stage.gateway.shows("orbyt_requests_in_flight 0").await;
    stage.gateway.shows(r#"orbyt_requests_ended_total{ended="client_gone"} 1"#).await;
}

#[tokio::test]
async fn what_a_fallback_model_answers_is_not_kept_as_the_answer_of_the_model_that_was_asked_for() {
    let stage = Stage::set("[cache]\nbackend = \"memory\"").await;
    let mut asked = request(false);
    asked["extra"]["cache"] = json!(true);
    Stage::silence(&stage.one);
    let hedged = stage.gateway.chat(&asked).await;
    assert_eq!((hedged.header("x-cache"), hedged.header("x-provider")), ("MISS", "two"));
    let again = stage.gateway.chat(&asked).await;
    assert_eq!((again.header("x-cache"), again.header("x-provider")), ("MISS", "one"));
}

#[tokio::test]
async fn the_place_of_the_one_that_was_overtaken_is_free_while_the_other_streams() {
    let (one, two) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let provider = |id: &str, sim: &Sim, more: &str| {
        format!(
            "[[provider]]\nid = \"{id}\"\ndialect = \"openai_chat\"\nbase_url = \"{}\"\n{more}\n[[provider.key]]\nsecret = \"s\"\n",
            sim.base_url()
        )
    };
    let config = CONFIG.to_owned() + &provider("one", &one, "max_concurrent = 1") + &provider("two", &two, "");
    let gateway = Arc::new(Gateway::builder().config(&config).start().await);
    // A place is free a moment after the client has the last byte: one that comes before goes to the other.
    let mut served = 0;
    while served < USUAL {
        let answer = gateway.chat(&request(true)).await;
        served += usize::from(answer.header("x-provider") == "one");
        gateway.log_line(&answer).await;
        assert!(two.generations() < USUAL, "the first hardly serves");
    }
    one.script([Step::Acts(vec![Act::Silence])]);
    // Sixty words, fifty milliseconds each.
    two.script([SimFault::Slow]);
    let (slow, mut long) = (gateway.clone(), request(true));
    long["messages"][0]["content"] = json!("word ".repeat(60));
    let streaming = tokio::spawn(async move { slow.chat(&long).await });
    gateway.shows(r#"orbyt_hedges_total{result="won"} 1"#).await;
    let other = gateway.chat(&request(true)).await;
    assert_eq!((other.status, other.header("x-provider")), (200, "one"));
    assert!(!streaming.is_finished(), "the other still streams");
    assert_eq!(streaming.await.unwrap().header("x-provider"), "two");
}

#[tokio::test]
async fn when_both_fail_the_walk_goes_on_from_the_first() {
    let (one, two) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let builder = Gateway::builder().config(CONFIG).provider_with_keys("one", &one, &["first-key", "second-key"]);
    let gateway = builder.provider("two", &two).start().await;
    make_usual(&gateway, false).await;
    // Late, and then a rate limit; and the second has no such thing.
    let refusal = r#"{"error":{"message":"slow down","type":"rate_limit_error","code":"rate_limit_exceeded"}}"#;
    let head = format!("HTTP/1.1 429 Too Many Requests\r\ncontent-length: {}\r\n\r\n{refusal}", refusal.len());
    one.script([Step::Acts(vec![Act::Pause(Duration::from_millis(600)), Act::Write(head.into_bytes())])]);
    two.script([SimFault::BadRequest]);
    let answer = gateway.chat(&request(false)).await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "one"), "{}", answer.body_text());
    let line = gateway.log_line(&answer).await;
    let verdicts: Vec<_> = line["tried"].as_array().unwrap().iter().map(|one| one["verdict"].clone()).collect();
    assert_eq!(verdicts, ["next_provider", "next_key", "ok"], "{line}");
}
