//! Answers that are there already: who gets one, who does not, and what it costs.

use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use crate::raw::H2;
use orbyt::sim::client::{self, Answer, Exchange};
use orbyt::sim::{Sim, SimDialect, SimFault, Step};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The cache is on; one try a target, no breaker.
const CONFIG: &str = "[cache]\nbackend = \"memory\"\n[breaker]\nenabled = false\n[retry]\nmax = 0\n";
const SLOW: Step = Step::Paced(Duration::from_millis(40));

fn sim() -> Sim {
    Sim::start(SimDialect::OpenAi).unwrap()
}

async fn gateway(sim: &Sim) -> Gateway {
    Gateway::builder().config(CONFIG).provider("one", sim).start().await
}

fn question(text: &str, stream: bool) -> Value {
    saying("one/m1", text, stream)
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

async fn open(gateway: &Gateway, body: &Value, key: &str, headers: &[(&str, &str)]) -> Exchange {
    let key = format!("Bearer {key}");
    let all = [&[("authorization", key.as_str())], headers].concat();
    let url = format!("{}/v1/chat/completions", gateway.url);
    client::open("POST", &url, &all, body.to_string().as_bytes()).await.unwrap()
}

async fn chat_with(gateway: &Gateway, body: &Value, headers: &[(&str, &str)]) -> Answer {
    open(gateway, body, KEY, headers).await.finish().await
}

/// An answer and the pieces in which it came.
async fn pieces(gateway: &Gateway, body: &Value) -> (Vec<String>, Answer) {
    let mut exchange = open(gateway, body, KEY, &[]).await;
    let mut pieces = Vec::new();
    while let Some(piece) = exchange.piece().await {
        pieces.push(String::from_utf8(piece).unwrap());
    }
    (pieces, exchange.finish().await)
}

/// What the cache did for a request.
async fn cached(gateway: &Gateway, body: &Value) -> String {
    let answer = gateway.chat(body).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    answer.header("x-cache").to_owned()
}

/// The value of a metric.
async fn metric(gateway: &Gateway, series: &str) -> u64 {
    let page = gateway.metrics().await;
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {series} in {page}")).parse().unwrap()
}

async fn until_metric(gateway: &Gateway, series: &str, holds: impl Fn(u64) -> bool, within: Duration) {
    let started = Instant::now();
    while !holds(metric(gateway, series).await) {
        assert!(started.elapsed() < within, "{series} did not change in {within:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_second_time_the_answer_costs_nothing_and_asks_nobody() {
    let sim = sim();
    let gateway = gateway(&sim).await;
    let first = gateway.chat(&question("one two", false)).await;
    let second = gateway.chat(&question("one two", false)).await;
    let seen = |answer: &Answer| {
        let header = |name| answer.header(name).to_owned();
        (answer.status, header("x-cache"), header("x-orbyt-attempts"), header("x-provider"), header("x-model"))
    };
    assert_eq!(seen(&first), (200, "MISS".into(), "1".into(), "one".into(), "m1".into()));
    assert_eq!(seen(&second), (200, "HIT".into(), "0".into(), "one".into(), "m1".into()));
    assert_eq!((first.header("x-cache-ttl"), first.header("age")), ("300", ""));
    assert!((290..=300).contains(&second.header("x-cache-ttl").parse::<u64>().unwrap()));
    assert!(second.header("age").parse::<u64>().unwrap() < 10);
    assert_eq!(second.body, first.body);
    assert_ne!(second.header("x-request-id"), first.header("x-request-id"));
    assert_eq!(sim.generations(), 1);
    let line = gateway.log_line(&first).await;
    assert_eq!((&line["cache"], &line["attempts"]), (&json!("miss"), &json!(1)), "{line}");
    let line = gateway.log_line(&second).await;
    assert_eq!((&line["cache"], &line["attempts"], &line["ended"]), (&json!("hit"), &json!(0), &json!("complete")));
    assert_eq!((line["cost_usd"].as_f64(), &line["provider"]), (Some(0.0), &json!("one")), "{line}");
    assert_eq!(metric(&gateway, "orbyt_cache_requests_total{result=\"hit\"}").await, 1);
    assert_eq!(metric(&gateway, "orbyt_cache_requests_total{result=\"miss\"}").await, 1);
    assert_eq!(metric(&gateway, "orbyt_cache_entries").await, 1);
    assert!(metric(&gateway, "orbyt_cache_bytes").await > first.body.len() as u64);
    assert_eq!(metric(&gateway, "orbyt_cache_shared_total").await, 0);
}

#[tokio::test]
async fn a_cache_that_is_off_says_nothing_and_keeps_nothing() {
    let sim = sim();
    let gateway = Gateway::builder().provider("one", &sim).start().await;
    let wish = with(question("x", false), "extra", json!({"cache": true}));
    for _ in 0..2 {
        let answer = gateway.chat(&wish).await;
        assert_eq!((answer.header("x-cache"), answer.header("x-orbyt-dropped")), ("", "extra.cache"));
        assert_eq!(gateway.log_line(&answer).await["cache"], "bypass");
    }
    assert_eq!(sim.generations(), 2);
}

#[tokio::test]
async fn the_environment_turns_it_on() {
    let sim = sim();
    let builder = Gateway::builder().provider("one", &sim).variable("GATEWAY_CACHE_BACKEND", "memory");
    let gateway = builder.variable("GATEWAY_CACHE_TTL", "77").start().await;
    let answer = gateway.chat(&with(question("x", false), "extra", json!({"cache": true}))).await;
    assert_eq!((answer.header("x-cache-ttl"), answer.header("x-orbyt-dropped")), ("77", ""));
    assert_eq!(cached(&gateway, &question("x", false)).await, "HIT");
}

#[tokio::test]
async fn a_stream_comes_back_piece_by_piece_as_it_was() {
    let (openai, anthropic) = (sim(), Sim::start(SimDialect::Anthropic).unwrap());
    openai.always(SLOW);
    anthropic.always(SLOW);
    let gateway = Gateway::builder()
        .config(CONFIG)
        .config("[gate]\nkeepalive = \"15ms\"")
        .provider("one", &openai)
        .provider("two", &anthropic)
        .start()
        .await;
    for model in ["one/m1", "two/m2"] {
        let text = "one two three four five";
        let options = json!({"include_usage": true});
        let body = with(saying(model, text, true), "stream_options", options);
        let (first, told) = pieces(&gateway, &body).await;
        let (second, again) = pieces(&gateway, &body).await;
        assert_eq!((told.header("x-cache"), again.header("x-cache")), ("MISS", "HIT"), "{model}");
        // Comments only keep a silent stream alive; nobody waits for this one.
        let silence = ": keepalive\n\n";
        assert!(first.iter().any(|piece| piece == silence), "{first:?}");
        let first: Vec<String> = first.into_iter().filter(|piece| piece != silence).collect();
        assert!(second.len() > 4 && second == first, "{model}: {second:?} {first:?}");
        let all = second.concat();
        assert!(all.contains("\"usage\":{") && all.ends_with("data: [DONE]\n\n"), "{all}");
        assert_eq!(again.end, client::BodyEnd::Clean);
        // A whole answer is another thing than a stream, and a stream without usage than one with it.
        assert_eq!(cached(&gateway, &saying(model, text, false)).await, "MISS");
        assert_eq!(cached(&gateway, &saying(model, text, true)).await, "MISS");
    }
    assert_eq!((openai.generations(), anthropic.generations()), (3, 3));
}

#[tokio::test]
async fn a_stream_comes_back_over_http2_too() {
    let sim = sim();
    let gateway = gateway(&sim).await;
    // One that fits into a stream's window, one that has to wait for it again and again, one that is not streamed.
    let bodies = [
        question("one two three", true),
        question(&format!("{} ", "word".repeat(50)).repeat(400), true),
        question(&"word ".repeat(9000), false),
    ];
    for body in &bodies {
        let first = gateway.chat(body).await;
        let h2 = H2::to(&gateway).await;
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (mut h2, body) = (h2.again(), body.to_string());
            running.spawn(async move { h2.chat(body.into()).await });
        }
        for hit in running.join_all().await {
            assert_eq!((hit.status, hit.header("x-cache"), hit.end), (200, "HIT", client::BodyEnd::Clean));
            assert_eq!(hit.header("content-type"), first.header("content-type"));
            assert!(hit.looks_complete() && hit.body == first.body);
        }
    }
    let size = gateway.chat(&bodies[1]).await.body.len();
    assert!(size > 2 * 65_535, "larger than a stream's window: {size}");
    assert_eq!(sim.generations(), bodies.len());
    // What was first asked over HTTP/2 is found over HTTP/1 as well.
    let body = question("four five", true);
    let first = H2::to(&gateway).await.chat(body.to_string().into()).await;
    let second = gateway.chat(&body).await;
    assert_eq!((first.header("x-cache"), second.header("x-cache")), ("MISS", "HIT"));
    assert_eq!(first.body, second.body);
}

#[tokio::test]
async fn only_the_same_question_to_the_same_model_is_the_same() {
    let sim = sim();
    let alias = "[[model]]\nname = \"smart\"\ntargets = [\"one/m1\"]";
    let gateway = Gateway::builder().config(CONFIG).config(alias).provider("one", &sim).start().await;
    let base = question("x", false);
    assert_eq!(cached(&gateway, &base).await, "MISS");
    for same in [
        with(base.clone(), "model", json!("smart")),
        with(base.clone(), "model", json!("m1")),
        with(base.clone(), "extra", json!({"retry": 1, "session_id": "s", "provider": "cheap"})),
        with(base.clone(), "models", json!(["one/m2"])),
        with(base.clone(), "user", json!("somebody")),
    ] {
        assert_eq!(cached(&gateway, &same).await, "HIT", "{same}");
    }
    for other in [
        question("y", false),
        with(base.clone(), "model", json!("one/m2")),
        with(base.clone(), "temperature", json!(0)),
        with(base.clone(), "max_tokens", json!(100)),
        with(base.clone(), "seed", json!(1)),
        with(base.clone(), "provider", json!({"require_parameters": true})),
    ] {
        assert_eq!(cached(&gateway, &other).await, "MISS", "{other}");
        assert_eq!(cached(&gateway, &other).await, "HIT", "{other}");
    }
}

#[tokio::test]
async fn a_hundred_at_once_are_one_call() {
    let sim = sim();
    sim.always(SLOW);
    let gateway = Arc::new(gateway(&sim).await);
    for (round, stream) in [(1, true), (2, false)] {
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let gateway = gateway.clone();
            running.spawn(async move { gateway.chat(&question("one two three", stream)).await });
        }
        let answers = running.join_all().await;
        assert_eq!(sim.generations(), round);
        assert!(answers.iter().all(|answer| answer.looks_complete() && answer.text() == "one two three"));
        assert!(answers.iter().all(|answer| answer.body == answers[0].body));
        assert_eq!(answers.iter().filter(|answer| answer.header("x-cache") == "MISS").count(), 1);
    }
    // Who came late found the answer in the cache.
    assert!(metric(&gateway, "orbyt_cache_shared_total").await > 0);
    assert_eq!(metric(&gateway, "orbyt_cache_requests_total{result=\"hit\"}").await, 198);
}

/// Ten requests that wait for a leader, each on a task of its own.
async fn followers(gateway: &Arc<Gateway>, body: &Value) -> tokio::task::JoinSet<Answer> {
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (gateway, body) = (gateway.clone(), body.clone());
        running.spawn(async move { gateway.chat(&body).await });
    }
    until_metric(gateway, "orbyt_requests_in_flight", |count| count == 11, PATIENCE).await;
    running
}

#[tokio::test]
async fn a_leader_that_hangs_up_takes_nobody_with_it() {
    let sim = sim();
    let gateway = Arc::new(gateway(&sim).await);
    // Waiting for the head, and in the middle of the stream.
    for (step, reads) in [(Step::Fault(SimFault::Timeout), false), (Step::Fault(SimFault::StallAfterTokens), true)] {
        sim.forget_calls().script([step]);
        let body = question(&format!("one two three four {reads}"), true);
        let request = body.to_string();
        let key = format!("Bearer {KEY}");
        let url = format!("{}/v1/chat/completions", gateway.url);
        let leader = tokio::spawn(async move {
            let headers = [("authorization", key.as_str())];
            let mut exchange = client::open("POST", &url, &headers, request.as_bytes()).await.unwrap();
            exchange.piece().await.unwrap();
            // Held open until this task is ended.
            std::future::pending::<()>().await;
        });
        assert!(sim.until(PATIENCE, |calls| calls.len() == 1).await);
        let running = followers(&gateway, &body).await;
        leader.abort();
        let answers = running.join_all().await;
        assert!(answers.iter().all(Answer::looks_complete), "{}", answers[0].body_text());
        assert_eq!(sim.generations(), 2);
        assert_eq!(answers.iter().filter(|answer| answer.header("x-cache") == "MISS").count(), 1);
    }
}

#[tokio::test]
async fn a_leader_that_fails_or_breaks_takes_nobody_with_it() {
    let sim = sim();
    let gateway = Arc::new(gateway(&sim).await);
    for (fault, status) in [(SimFault::Timeout, 504), (SimFault::StallAfterTokens, 200)] {
        sim.forget_calls().script([fault]);
        let body = question(&format!("one two three four {status}"), true);
        // Its deadline is its own, and no part of the question.
        let hasty = with(body.clone(), "extra", json!({"timeout_ms": 1000}));
        let leader = {
            let gateway = gateway.clone();
            tokio::spawn(async move { gateway.chat(&hasty).await })
        };
        assert!(sim.until(PATIENCE, |calls| calls.len() == 1).await);
        let answers = followers(&gateway, &body).await.join_all().await;
        let failed = leader.await.unwrap();
        assert!(failed.status == status && !failed.looks_complete(), "{} {}", failed.status, failed.body_text());
        assert!(answers.iter().all(Answer::looks_complete), "{}", answers[0].body_text());
        assert_eq!(sim.generations(), 2);
    }
}

#[tokio::test]
async fn who_waits_may_run_out_of_time_or_patience() {
    let sim = sim();
    sim.always(SimFault::Timeout);
    let gateway = gateway(&sim).await;
    let body = question("x", false);
    let key = format!("Bearer {KEY}");
    let url = format!("{}/v1/chat/completions", gateway.url);
    let request = body.to_string();
    let ask = move || {
        let (key, url, request) = (key.clone(), url.clone(), request.clone());
        tokio::spawn(async move {
            let _ = client::send("POST", &url, &[("authorization", &key)], request.as_bytes()).await;
        })
    };
    let leader = ask();
    assert!(sim.until(PATIENCE, |calls| calls.len() == 1).await);
    let late = gateway.chat(&with(body, "extra", json!({"timeout_ms": 150}))).await;
    assert_eq!(
        (late.status, late.json()["error"]["code"].as_str()),
        (504, Some("deadline_exceeded")),
        "{}",
        late.body_text()
    );
    assert!(late.took < Duration::from_secs(5));
    let follower = ask();
    until_metric(&gateway, "orbyt_requests_in_flight", |count| count == 2, PATIENCE).await;
    follower.abort();
    until_metric(&gateway, "orbyt_requests_in_flight", |count| count == 1, Duration::from_secs(1)).await;
    leader.abort();
    until_metric(&gateway, "orbyt_requests_in_flight", |count| count == 0, PATIENCE).await;
    assert_eq!(sim.generations(), 1);
}

#[tokio::test]
async fn nobody_sees_the_answers_to_somebody_else() {
    let sim = sim();
    let keys = ["team-a-0123456789-key", "team-b-0123456789-key"];
    let gateway = Gateway::builder()
        .config(CONFIG)
        .provider("one", &sim)
        .variable("ORBYT_API_KEYS", &keys.join(","))
        .start()
        .await;
    let body = question("x", false);
    for expected in ["MISS", "HIT"] {
        for key in keys {
            let answer = open(&gateway, &body, key, &[]).await.finish().await;
            assert_eq!(answer.header("x-cache"), expected);
        }
    }
    assert_eq!(sim.generations(), 2);
}

#[tokio::test]
async fn what_failed_or_broke_off_is_never_kept() {
    let sim = sim();
    let gateway = gateway(&sim).await;
    let cases = [
        (SimFault::ServerError, false),
        (SimFault::BadRequest, false),
        (SimFault::CutAfterTokens, false),
        (SimFault::CutAfterTokens, true),
        (SimFault::CloseAfterTokens, true),
        (SimFault::ErrorAfterTokens, true),
        (SimFault::MalformedEvent, true),
        (SimFault::Empty, false),
    ];
    for (number, (fault, stream)) in cases.into_iter().enumerate() {
        let body = question(&format!("one two three four {number}"), stream);
        sim.script([fault]);
        let bad = gateway.chat(&body).await;
        assert!(!bad.looks_complete(), "{fault:?} {}", bad.body_text());
        assert!(bad.status == 200 || bad.header("x-cache-ttl").is_empty(), "{fault:?}: an error is not kept");
        let good = gateway.chat(&body).await;
        assert_eq!((good.header("x-cache"), good.looks_complete()), ("MISS", true), "{fault:?}");
        assert_eq!(cached(&gateway, &body).await, "HIT");
    }
    assert_eq!(metric(&gateway, "orbyt_cache_entries").await, cases.len() as u64);
}

#[tokio::test]
async fn what_was_cut_for_its_content_is_not_kept() {
    let sim = sim();
    let gateway = gateway(&sim).await;
    let answer = |reason: &str| Step::Reply {
        status: 200,
        headers: Vec::new(),
        body: json!({"id": "i", "object": "chat.completion", "created": 1, "model": "m1", "choices": [
            {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": "on"}}]})
        .to_string(),
    };
    for (reason, second) in [("content_filter", "MISS"), ("length", "HIT")] {
        sim.always(answer(reason));
        let body = question(reason, false);
        assert_eq!(cached(&gateway, &body).await, "MISS");
        assert_eq!(cached(&gateway, &body).await, second, "{reason}");
    }
}

#[tokio::test]
async fn a_fallback_to_another_model_is_not_kept() {
    let (first, second) = (sim(), sim());
    let gateway = Gateway::builder().config(CONFIG).provider("one", &first).provider("two", &second).start().await;
    let body = with(question("x", false), "models", json!(["two/m2"]));
    first.script([SimFault::ServerError]);
    let answer = gateway.chat(&body).await;
    assert_eq!((answer.header("x-cache"), answer.header("x-provider")), ("MISS", "two"));
    let answer = gateway.chat(&body).await;
    assert_eq!((answer.header("x-cache"), answer.header("x-provider")), ("MISS", "one"));
    assert_eq!(cached(&gateway, &body).await, "HIT");
}

#[tokio::test]
async fn who_waits_takes_no_model_that_it_did_not_ask_for() {
    let (first, second) = (sim(), sim());
    let gateway =
        Arc::new(Gateway::builder().config(CONFIG).provider("one", &first).provider("two", &second).start().await);
    first.script([SimFault::ServerError]);
    second.always(Step::Paced(Duration::from_millis(300)));
    let body = question("one two", true);
    let leader = {
        let (gateway, body) = (gateway.clone(), with(body.clone(), "models", json!(["two/m2"])));
        tokio::spawn(async move { gateway.chat(&body).await })
    };
    assert!(second.until(PATIENCE, |calls| calls.len() == 1).await);
    let same = {
        let (gateway, body) = (gateway.clone(), with(body.clone(), "models", json!(["two/m2"])));
        tokio::spawn(async move { gateway.chat(&body).await })
    };
    let strict = gateway.chat(&body).await;
    assert_eq!((strict.header("x-provider"), strict.header("x-cache")), ("one", "MISS"));
    assert_eq!(leader.await.unwrap().header("x-provider"), "two");
    let same = same.await.unwrap();
    assert!(same.looks_complete());
    assert_eq!((same.header("x-provider"), same.header("x-cache")), ("two", "HIT"));
    assert_eq!((first.generations(), second.generations()), (2, 1));
}

#[tokio::test]
async fn own_keys_hot_requests_and_whoever_says_so_go_past_it() {
    let sim = sim();
    let config = "[cache]\nbackend = \"memory\"\nmax_temperature = 0.5\n";
    let gateway = Gateway::builder().config(config).provider("one", &sim).start().await;
    let base = question("x", false);
    assert_eq!(cached(&gateway, &base).await, "MISS");
    for (past, headers) in [
        (with(base.clone(), "extra", json!({"byok": "key-of-the-client"})), &[][..]),
        (with(base.clone(), "extra", json!({"cache": false})), &[]),
        (with(base.clone(), "temperature", json!(0.6)), &[]),
        (base.clone(), &[("cache-control", "no-store")]),
    ] {
        for _ in 0..2 {
            let answer = chat_with(&gateway, &past, headers).await;
            assert_eq!((answer.status, answer.header("x-cache"), answer.header("x-cache-ttl")), (200, "BYPASS", ""));
            assert_eq!(answer.header("x-orbyt-attempts"), "1");
        }
    }
    assert_eq!(sim.generations(), 9);
    assert_eq!(metric(&gateway, "orbyt_cache_requests_total{result=\"bypass\"}").await, 8);
    assert_eq!(metric(&gateway, "orbyt_cache_entries").await, 1);
    assert_eq!(cached(&gateway, &with(base, "temperature", json!(0.5))).await, "MISS");
}

#[tokio::test]
async fn no_cache_asks_again_and_keeps_the_new_answer() {
    let sim = sim();
    let gateway = gateway(&sim).await;
    let body = question("x", false);
    let mut kept = gateway.chat(&body).await.body;
    for control in ["no-cache", "max-age=0"] {
        let again = chat_with(&gateway, &body, &[("cache-control", control)]).await;
        assert_eq!(again.header("x-cache"), "MISS");
        assert_ne!(again.body, kept, "each answer of the provider has an id of its own");
        kept = again.body;
        let hit = chat_with(&gateway, &body, &[("cache-control", "max-age=100")]).await;
        assert_eq!((hit.header("x-cache"), &hit.body), ("HIT", &kept));
    }
    assert_eq!(sim.generations(), 3);
}

#[tokio::test]
async fn a_request_says_how_long_its_answer_is_kept() {
    let sim = sim();
    let gateway = gateway(&sim).await;
    let body = with(question("x", false), "extra", json!({"cache": {"ttl": "1h"}}));
    assert_eq!(gateway.chat(&body).await.header("x-cache-ttl"), "3600");
    let body = with(question("y", false), "extra", json!({"cache": {"ttl": 0.3}}));
    let started = Instant::now();
    assert_eq!(cached(&gateway, &body).await, "MISS");
    assert_eq!(cached(&gateway, &body).await, "HIT");
    while cached(&gateway, &body).await == "HIT" {
        assert!(started.elapsed() < PATIENCE, "it is kept for ever");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(started.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn it_holds_no_more_than_it_may() {
    let sim = sim();
    let config = "[cache]\nbackend = \"memory\"\nmax_size = 2\nmax_bytes = \"64KiB\"\n";
    let gateway = Gateway::builder().config(config).provider("one", &sim).start().await;
    for text in ["a", "b", "c"] {
        assert_eq!(cached(&gateway, &question(text, false)).await, "MISS");
        assert!(metric(&gateway, "orbyt_cache_entries").await <= 2);
    }
    assert_eq!(cached(&gateway, &question("a", false)).await, "MISS");
    assert_eq!(cached(&gateway, &question("c", false)).await, "HIT");
    // Larger than its share of everything: passed on, and not kept.
    let large = question(&"word ".repeat(5_000), false);
    for _ in 0..2 {
        assert_eq!(cached(&gateway, &large).await, "MISS");
    }
    let config = "[cache]\nbackend = \"memory\"\nmax_bytes = \"64KiB\"\n";
    let gateway = Gateway::builder().config(config).provider("one", &sim).start().await;
    for number in 0..20 {
        let text = format!("{number} {}", "word ".repeat(2_000));
        assert_eq!(cached(&gateway, &question(&text, false)).await, "MISS");
        assert!(metric(&gateway, "orbyt_cache_bytes").await <= 64 << 10);
    }
    assert!((3..7).contains(&metric(&gateway, "orbyt_cache_entries").await));
}

#[tokio::test]
async fn a_reload_turns_it_on_and_off_and_may_move_a_provider() {
    let (here, there) = (sim(), sim());
    let gateway = gateway(&here).await;
    let body = question("x", false);
    assert_eq!(cached(&gateway, &body).await, "MISS");
    let file = gateway.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    for (backend, expected) in [("off", ""), ("memory", "HIT")] {
        std::fs::write(&file, text.replace("\"memory\"", &format!("\"{backend}\""))).unwrap();
        until_cached(&gateway, &body, expected).await;
    }
    here.forget_calls();
    std::fs::write(&file, text.replace(&here.base_url(), &there.base_url())).unwrap();
    until_cached(&gateway, &body, "MISS").await;
    assert_eq!((here.generations(), there.generations()), (0, 1));
}

/// Asks until the cache does as expected: a reload takes a moment.
async fn until_cached(gateway: &Gateway, body: &Value, expected: &str) {
    let started = Instant::now();
    while cached(gateway, body).await != expected {
        assert!(started.elapsed() < PATIENCE, "it was never {expected:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn answers_to_openrouters_own_presets_are_kept_apart() {
    let sim = sim();
    let gateway = Gateway::builder().config(CONFIG).provider("openrouter", &sim).start().await;
    let ask = async |preset: &str| {
        let body = with(saying("openrouter/a/model", "one two", false), "preset", json!(preset));
        chat_with(&gateway, &body, &[]).await.header("x-cache").to_owned()
    };
    assert_eq!(
        (ask("pirate").await, ask("lawyer").await, ask("pirate").await),
        ("MISS".into(), "MISS".into(), "HIT".into())
    );
}

#[tokio::test]
async fn nobody_keeps_an_answer_for_longer_than_the_operator_wants() {
    let sim = sim();
    let config = CONFIG.replace("[breaker]", "max_ttl = \"1h\"\n[breaker]");
    let gateway = Gateway::builder().config(&config).provider("one", &sim).start().await;
    let body = with(question("one two", false), "extra", json!({"cache": {"ttl": "3650d"}}));
    assert_eq!(chat_with(&gateway, &body, &[]).await.header("x-cache-ttl"), "3600");
}
