//! Limits of keys, users and models, and the queue in front of providers that take only so many requests at once.

use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use futures::future::join_all;
use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Sim, SimDialect, SimFault, Step};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const OTHER_KEY: &str = "other-key-of-the-tests";

fn sim() -> Sim {
    Sim::start(SimDialect::OpenAi).unwrap()
}

/// A provider behind a simulated one, with more settings of its own.
fn provider(id: &str, sim: &Sim, more: &str) -> String {
    let base_url = sim.base_url();
    let key = "[[provider.key]]\nsecret = 'key-in-clear'\n";
    format!("[[provider]]\nid = '{id}'\ndialect = 'openai_chat'\nbase_url = '{base_url}'\n{more}\n{key}")
}

async fn gateway(config: &str) -> Gateway {
    let keys = format!("{KEY},{OTHER_KEY}");
    Gateway::builder().config(config).variable("ORBYT_API_KEYS", &keys).start().await
}

async fn ask(gateway: &Gateway, key: &str, body: &Value) -> Answer {
    let url = format!("{}/v1/chat/completions", gateway.url);
    client::send("POST", &url, &[("x-api-key", key)], body.to_string().as_bytes()).await.unwrap()
}

fn with(mut body: Value, more: Value) -> Value {
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    body
}

fn hello() -> Value {
    saying("one/sim-ok", "hello", false)
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn message(answer: &Answer) -> String {
    answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
}

/// Waits until `/metrics` has this line.
async fn shown(gateway: &Gateway, line: &str) {
    let started = Instant::now();
    loop {
        let metrics = gateway.metrics().await;
        if metrics.lines().any(|shown| shown == line) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{line:?} is not in\n{metrics}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_key_has_so_many_requests_and_every_answer_says_how_many_are_left() {
    let sim = sim();
    let rule = "[[limits.rule]]\nscope = 'key'\nrequests_per_minute = 2\n";
    let gateway = gateway(&format!("{rule}{}", provider("one", &sim, ""))).await;
    for (left, reset) in [("1", "30s"), ("0", "1m0s")] {
        let answer = ask(&gateway, KEY, &hello()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(header(&answer, "x-ratelimit-limit-requests"), Some("2"));
        assert_eq!(header(&answer, "x-ratelimit-remaining-requests"), Some(left));
        // Some of it has flowed in again since the first request.
        let shown = header(&answer, "x-ratelimit-reset-requests").unwrap();
        assert!(shown == reset || shown.starts_with("59.") || shown.starts_with("58."), "{shown}");
        assert_eq!(header(&answer, "x-ratelimit-limit-tokens"), None);
    }
    let refused = ask(&gateway, KEY, &saying("one/sim-ok", "hello", true)).await;
    assert_eq!((refused.status, sim.generations()), (429, 2));
    let error = refused.json()["error"].clone();
    assert_eq!((&error["type"], &error["code"]), (&json!("rate_limit_error"), &json!("rate_limit_exceeded")));
    let text = message(&refused);
    assert!(text.contains("this key") && text.contains("requests per minute: limit 2"), "{text}");
    let wait: u64 = header(&refused, "retry-after").unwrap().parse().unwrap();
    assert!((25..=30).contains(&wait), "{wait}");
    assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), Some("0"));
    // Another key has a bucket of its own.
    assert_eq!(ask(&gateway, OTHER_KEY, &hello()).await.status, 200);
    shown(&gateway, r#"orbyt_limited_total{limit="key_requests"} 1"#).await;
}

#[tokio::test]
async fn concurrent_clients_never_get_more_than_the_limit() {
    let sim = sim();
    let rule = "[[limits.rule]]\nscope = 'key'\nrequests_per_day = 10\n";
    let gateway = gateway(&format!("{rule}{}", provider("one", &sim, ""))).await;
    let body = hello();
    let answers = join_all((0..60).map(|_| ask(&gateway, KEY, &body))).await;
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((passed, sim.generations()), (10, 10));
    assert!(answers.iter().all(|answer| answer.status == 200 || answer.status == 429));
}

/// The tokens that are left of a key's bucket, asked with a request that takes one request and few tokens.
async fn tokens_left(gateway: &Gateway) -> u64 {
    let answer = ask(gateway, KEY, &with(hello(), json!({"max_tokens": 1}))).await;
    header(&answer, "x-ratelimit-remaining-tokens").unwrap().parse().unwrap()
}

#[tokio::test]
async fn tokens_are_reserved_by_estimate_and_settled_by_usage() {
    let sim = sim();
    let rule = "[[limits.rule]]\nscope = 'key'\ntokens_per_day = 10000\n";
    let gateway = gateway(&format!("{rule}{}", provider("one", &sim, "max_concurrent = 50"))).await;
    let answer = ask(&gateway, KEY, &with(hello(), json!({"max_tokens": 6000}))).await;
    assert_eq!((answer.status, header(&answer, "x-ratelimit-limit-tokens")), (200, Some("10000")));
    let reserved = 10_000 - header(&answer, "x-ratelimit-remaining-tokens").unwrap().parse::<u64>().unwrap();
    assert!((6001..6100).contains(&reserved), "{reserved}");
    let used = answer.json()["usage"]["total_tokens"].as_u64().unwrap();
    // What was not used is there again for the next one, as soon as the first one's books are closed.
    let started = Instant::now();
    while tokens_left(&gateway).await < 9000 {
        assert!(started.elapsed() < PATIENCE, "{used} were used of {reserved} reserved, and nothing came back");
    }
    // Without a word about the output the default is reserved; each choice counts.
    let answer = ask(&gateway, OTHER_KEY, &with(hello(), json!({"n": 3}))).await;
    let left: u64 = header(&answer, "x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
    assert!((6900..7000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_client_that_hangs_up_pays_for_what_it_got_and_the_rest_comes_back() {
    let sim = sim();
    let rule = "[[limits.rule]]\nscope = 'key'\ntokens_per_day = 10000\n";
    let gateway = gateway(&format!("{rule}{}", provider("one", &sim, ""))).await;
    sim.script([Step::Paced(Duration::from_secs(1))]);
    let url = format!("{}/v1/chat/completions", gateway.url);
    let text = "one two three four ".repeat(100);
    let body = with(saying("one/sim-ok", &text, true), json!({"max_tokens": 9000}));
    let mut held = client::open("POST", &url, &[("x-api-key", KEY)], body.to_string().as_bytes()).await.unwrap();
    assert!(held.piece().await.is_some());
    assert!(tokens_left(&gateway).await < 1000);
    drop(held);
    let started = Instant::now();
    let mut left = 0;
    while left < 2000 {
        assert!(started.elapsed() < PATIENCE, "the reservation did not come back");
        left = tokens_left(&gateway).await;
    }
    // The input alone is 1,900 bytes long.
    assert!(left > 8000 && left < 10_000 - 1900 / 4, "{left}");
}

#[tokio::test]
async fn what_no_provider_answered_costs_no_tokens() {
    let sim = sim();
    let rule = "[[limits.rule]]\nscope = 'key'\ntokens_per_day = 10000\n[retry]\nmax = 0\n";
    let gateway = gateway(&format!("{rule}{}", provider("one", &sim, ""))).await;
    sim.script([SimFault::ServerError; 1]);
    let failed = ask(&gateway, KEY, &with(hello(), json!({"max_tokens": 9000}))).await;
    assert_eq!(failed.status, 503);
    assert!(header(&failed, "x-ratelimit-remaining-tokens").unwrap().parse::<u64>().unwrap() < 1000);
    let started = Instant::now();
    while tokens_left(&gateway).await < 9000 {
        assert!(started.elapsed() < PATIENCE, "the reservation did not come back");
    }
}

#[tokio::test]
async fn a_request_that_can_never_fit_is_told_so() {
    let sim = sim();
    let rule = "[[limits.rule]]\nscope = 'model'\nmatch = 'sim-*'\ntokens_per_minute = 2000\n";
    let gateway = gateway(&format!("{rule}{}", provider("one", &sim, ""))).await;
    let refused = ask(&gateway, KEY, &with(hello(), json!({"max_tokens": 5000}))).await;
    assert_eq!((refused.status, sim.generations()), (429, 0));
    let text = message(&refused);
    assert!(text.contains("request too large for this model on tokens per minute: limit 2000"), "{text}");
    assert_eq!((header(&refused, "retry-after"), header(&refused, "x-should-retry")), (None, Some("false")));
    assert_eq!(header(&refused, "x-ratelimit-remaining-tokens"), Some("2000"));
    assert_eq!(ask(&gateway, KEY, &with(hello(), json!({"max_tokens": 500}))).await.status, 200);
}

#[tokio::test]
async fn users_have_limits_apart_from_each_other_and_from_those_of_other_keys() {
    let sim = sim();
    let rule = "[[limits.rule]]\nscope = 'user'\nrequests_per_day = 1\n";
    let gateway = gateway(&format!("{rule}{}", provider("one", &sim, ""))).await;
    let of = |user: &str| with(hello(), json!({"user": user}));
    assert_eq!(ask(&gateway, KEY, &of("ann")).await.status, 200);
    let refused = ask(&gateway, KEY, &of("ann")).await;
    assert_eq!(refused.status, 429);
    assert!(message(&refused).contains("this user on requests per day: limit 1"), "{}", message(&refused));
    assert_eq!(ask(&gateway, KEY, &of("bob")).await.status, 200);
    assert_eq!(ask(&gateway, OTHER_KEY, &of("ann")).await.status, 200);
    assert_eq!(ask(&gateway, KEY, &hello()).await.status, 200);
    let wrong = ask(&gateway, KEY, &with(hello(), json!({"user": 7}))).await;
    assert_eq!((wrong.status, &wrong.json()["error"]["param"]), (400, &json!("user")));
}

#[tokio::test]
async fn a_model_is_the_same_by_any_of_its_names_and_the_first_rule_holds() {
    let sim = sim();
    let rules = "[[limits.rule]]\nscope = 'model'\nmatch = 'openai/gpt-4o'\nrequests_per_day = 1\n\
                 [[limits.rule]]\nscope = 'model'\nrequests_per_day = 2\n";
    let gateway = gateway(&format!("{rules}{}", provider("openai", &sim, ""))).await;
    let status = async |model: &str| gateway.chat(&saying(model, "hello", false)).await.status;
    assert_eq!((status("gpt-4o").await, status("openai/gpt-4o").await, status("gpt-4o").await), (200, 429, 429));
    assert_eq!((status("gpt-4o-mini").await, status("openai/gpt-4o-mini").await), (200, 200));
    assert_eq!(status("gpt-4o-mini").await, 429);
}

#[tokio::test]
async fn an_exception_stands_before_the_rule_and_a_refusal_costs_the_other_buckets_nothing() {
    let sim = sim();
    let rules = "[[limits.rule]]\nscope = 'key'\nmatch = 'oth*'\nrequests_per_day = 1\n\
                 [[limits.rule]]\nscope = 'key'\nrequests_per_day = 3\n\
                 [[limits.rule]]\nscope = 'user'\nrequests_per_day = 1\n";
    let gateway = gateway(&format!("{rules}{}", provider("one", &sim, ""))).await;
    let ann = with(hello(), json!({"user": "ann"}));
    assert_eq!(
        (ask(&gateway, OTHER_KEY, &hello()).await.status, ask(&gateway, OTHER_KEY, &hello()).await.status),
        (200, 429)
    );
    assert_eq!(ask(&gateway, KEY, &ann).await.status, 200);
    for _ in 0..5 {
        assert_eq!(ask(&gateway, KEY, &ann).await.status, 429);
    }
    let second = ask(&gateway, KEY, &hello()).await;
    assert_eq!((second.status, header(&second, "x-ratelimit-remaining-requests")), (200, Some("1")));
    assert_eq!((ask(&gateway, KEY, &hello()).await.status, ask(&gateway, KEY, &hello()).await.status), (200, 429));
    shown(&gateway, r#"orbyt_limited_total{limit="user_requests"} 5"#).await;
    shown(&gateway, r#"orbyt_limited_total{limit="key_requests"} 2"#).await;
}

#[tokio::test]
async fn a_stream_that_breaks_gives_its_reservation_and_its_place_back() {
    let sim = sim();
    let rule = "[[limits.rule]]\nscope = 'key'\ntokens_per_day = 10000\nconcurrency = 1\n";
    let gateway = gateway(&format!("{rule}{}", provider("one", &sim, "max_concurrent = 1"))).await;
    for _ in 0..3 {
        sim.script([SimFault::CutAfterTokens]);
        let body = with(saying("one/sim-ok", "one two three four", true), json!({"max_tokens": 8000}));
        let started = Instant::now();
        let broken = loop {
            // The books of the one before may not be closed yet.
            let answer = ask(&gateway, KEY, &body).await;
            if answer.status == 200 {
                break answer;
            }
            assert!(answer.status == 429 && started.elapsed() < PATIENCE, "{}", answer.body_text());
        };
        assert!(!broken.looks_complete());
    }
    let started = Instant::now();
    while ask(&gateway, KEY, &with(hello(), json!({"max_tokens": 9000}))).await.status != 200 {
        assert!(started.elapsed() < PATIENCE, "the reservations did not come back");
    }
}

#[tokio::test]
async fn a_place_comes_back_from_a_client_that_hangs_up() {
    let sim = sim();
    let rule = "[[limits.rule]]\nscope = 'key'\nconcurrency = 1\n";
    let gateway = gateway(&format!("{rule}{}", provider("one", &sim, ""))).await;
    sim.script([Step::Paced(Duration::from_secs(1))]);
    let url = format!("{}/v1/chat/completions", gateway.url);
    let body = saying("one/sim-ok", "one two three four five six seven eight", true).to_string();
    let mut held = client::open("POST", &url, &[("x-api-key", KEY)], body.as_bytes()).await.unwrap();
    assert!(held.piece().await.is_some());
    let refused = ask(&gateway, KEY, &hello()).await;
    assert_eq!(refused.status, 429);
    assert!(message(&refused).contains("this key on concurrent requests: limit 1"), "{}", message(&refused));
    assert!(header(&refused, "retry-after").is_some());
    assert_eq!(ask(&gateway, OTHER_KEY, &hello()).await.status, 200);
    drop(held);
    let started = Instant::now();
    while ask(&gateway, KEY, &hello()).await.status != 200 {
        assert!(started.elapsed() < PATIENCE, "the place did not come back\n{}", gateway.output());
    }
}

/// Which requests arrived at a provider, by what the user said.
fn arrived(sim: &Sim) -> Vec<String> {
    let said = |call: &orbyt::sim::Call| call.json()["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
    sim.calls().iter().map(said).collect()
}

#[tokio::test]
async fn keys_take_turns_at_a_provider_that_is_busy() {
    let sim = sim();
    let gateway = gateway(&provider("one", &sim, "max_concurrent = 1")).await;
    sim.always(Step::Paced(Duration::from_millis(100)));
    let saying = |text: &str| saying("one/sim-ok", text, false);
    let (a1, a2, a3, b1) = (saying("a1"), saying("a2"), saying("a3"), saying("b1"));
    let depth = |n: usize| format!("orbyt_queue_depth{{provider=\"one\"}} {n}");
    // The first one keeps its place until all the others stand in the queue.
    sim.script([Step::Paced(Duration::from_millis(700))]);
    let (first, second, third, other) = tokio::join!(
        ask(&gateway, KEY, &a1),
        async {
            assert!(sim.until(PATIENCE, |calls| calls.len() == 1).await);
            ask(&gateway, KEY, &a2).await
        },
        async {
            shown(&gateway, &depth(1)).await;
            ask(&gateway, KEY, &a3).await
        },
        async {
            shown(&gateway, &depth(2)).await;
            ask(&gateway, OTHER_KEY, &b1).await
        },
    );
    for answer in [&first, &second, &third, &other] {
        assert_eq!(answer.status, 200, "{}", answer.body_text());
    }
    assert_eq!(arrived(&sim), ["a1", "a2", "b1", "a3"]);
    assert_eq!(gateway.log_line(&first).await["queue_ms"], Value::Null);
    let line = gateway.log_line(&third).await;
    let (queued, overhead) = (line["queue_ms"].as_f64().unwrap(), line["overhead_ms"].as_f64().unwrap());
    assert!(queued > 100.0 && overhead < queued, "{line}");
    shown(&gateway, "orbyt_queue_wait_seconds_count 3").await;
    shown(&gateway, &depth(0)).await;
}

#[tokio::test]
async fn never_more_than_the_cap_reach_a_model_at_once() {
    let sim = sim();
    let caps = "max_concurrent = 5\n[[provider.model]]\nid = 'sim-ok'\nmax_concurrent = 2";
    let gateway = gateway(&provider("one", &sim, caps)).await;
    sim.always(Step::Paced(Duration::from_millis(20)));
    let body = hello();
    let answers = join_all((0..12).map(|_| ask(&gateway, KEY, &body))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    // So many were being answered when one arrived, itself included.
    let calls = sim.calls();
    let open =
        |at: Instant| calls.iter().filter(move |call| call.at <= at && call.played_at.is_none_or(|end| end > at));
    let most = calls.iter().map(|call| open(call.at).count()).max();
    assert_eq!(most, Some(2));
}

fn pair(one: &Sim, two: &Sim, limits: &str) -> String {
    let alias = "[[model]]\nname = 'both'\ntargets = ['one/sim-ok', 'two/sim-ok']\n";
    format!(
        "[retry]\nmax = 0\n{limits}\n{alias}{}{}",
        provider("one", one, "max_concurrent = 1"),
        provider("two", two, "max_concurrent = 1")
    )
}

#[tokio::test]
async fn a_busy_target_is_passed_over_while_another_one_is_ready() {
    let (one, two) = (sim(), sim());
    let gateway = gateway(&pair(&one, &two, "")).await;
    one.script([Step::Paced(Duration::from_millis(300))]);
    let body = saying("both", "hello", false);
    let (first, second) = tokio::join!(ask(&gateway, KEY, &body), async {
        assert!(one.until(PATIENCE, |calls| calls.len() == 1).await);
        ask(&gateway, KEY, &body).await
    });
    assert_eq!((first.status, header(&first, "x-provider")), (200, Some("one")));
    assert_eq!((second.status, header(&second, "x-provider")), (200, Some("two")));
    assert_eq!(header(&second, "x-orbyt-fallback"), Some("true"));
    let line = gateway.log_line(&second).await;
    assert_eq!((&line["tried"][0]["reason"], &line["queue_ms"]), (&json!("busy"), &Value::Null), "{line}");
}

#[tokio::test]
async fn a_request_comes_back_to_the_busy_target_when_the_others_fail() {
    let (one, two) = (sim(), sim());
    let gateway = gateway(&pair(&one, &two, "")).await;
    one.script([Step::Paced(Duration::from_millis(300))]);
    two.always(SimFault::ServerError);
    let body = saying("both", "hello", false);
    let (first, second) = tokio::join!(ask(&gateway, KEY, &body), async {
        assert!(one.until(PATIENCE, |calls| calls.len() == 1).await);
        ask(&gateway, KEY, &body).await
    });
    assert_eq!((first.status, second.status), (200, 200), "{}", second.body_text());
    assert_eq!((header(&second, "x-provider"), two.generations()), (Some("one"), 1));
    assert!(gateway.log_line(&second).await["queue_ms"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn a_full_queue_and_a_wait_that_is_too_long_are_429s() {
    for (limits, metric) in [("queue_size = 0", "queue_full"), ("queue_wait = '50ms'", "queue_wait")] {
        let sim = sim();
        let config = format!("[limits]\n{limits}\n{}", provider("one", &sim, "max_concurrent = 1"));
        let gateway = gateway(&config).await;
        sim.script([Step::Paced(Duration::from_millis(500))]);
        let body = hello();
        let (first, second) = tokio::join!(ask(&gateway, KEY, &body), async {
            assert!(sim.until(PATIENCE, |calls| calls.len() == 1).await);
            ask(&gateway, KEY, &body).await
        });
        assert_eq!((first.status, second.status), (200, 429), "{limits}");
        assert!(message(&second).contains("every target that could serve is busy"), "{}", message(&second));
        assert!(header(&second, "retry-after").is_some_and(|wait| wait != "0"));
        assert_eq!(second.json()["error"]["metadata"]["attempts"][0]["reason"], metric);
        shown(&gateway, &format!("orbyt_limited_total{{limit=\"{metric}\"}} 1")).await;
        assert_eq!(sim.generations(), 1);
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_the_queue() {
    let sim = sim();
    let gateway = gateway(&provider("one", &sim, "max_concurrent = 1")).await;
    sim.script([Step::Paced(Duration::from_millis(500))]);
    let body = hello();
    let depth = |n: usize| format!("orbyt_queue_depth{{provider=\"one\"}} {n}");
    let (first, ()) = tokio::join!(ask(&gateway, KEY, &body), async {
        assert!(sim.until(PATIENCE, |calls| calls.len() == 1).await);
        {
            let (gone, waits) = (ask(&gateway, KEY, &body), depth(1));
            tokio::select! {
                _ = gone => panic!("it was served"),
                () = shown(&gateway, &waits) => {}
            }
        }
        shown(&gateway, &depth(0)).await;
        assert_eq!(sim.calls().len(), 1);
    });
    assert_eq!(first.status, 200);
    shown(&gateway, r#"orbyt_requests_ended_total{ended="client_gone"} 1"#).await;
    assert_eq!(ask(&gateway, KEY, &body).await.status, 200);
    assert_eq!(sim.generations(), 2);
}

#[tokio::test]
async fn a_limit_that_is_taken_away_is_gone_from_the_next_request_on() {
    let sim = sim();
    let rule = "[[limits.rule]]\nscope = 'key'\nrequests_per_day = 1\n";
    let gateway = gateway(&format!("{rule}{}", provider("one", &sim, ""))).await;
    assert_eq!(ask(&gateway, KEY, &hello()).await.status, 200);
    assert_eq!(ask(&gateway, KEY, &hello()).await.status, 429);
    std::fs::write(gateway.config_file(), provider("one", &sim, "")).unwrap();
    let started = Instant::now();
    while ask(&gateway, KEY, &hello()).await.status != 200 {
        assert!(started.elapsed() < PATIENCE, "{}", gateway.output());
    }
}

#[tokio::test]
async fn a_request_need_not_bound_its_output_whether_there_is_a_limit_of_tokens_or_not() {
    // One that demands a bound itself, and one that does not.
    let (strict, sim) = (Sim::start(SimDialect::Anthropic).unwrap(), sim());
    for rule in ["", "[[limits.rule]]\nscope = 'key'\ntokens_per_day = 100000\n"] {
        let builder = Gateway::builder().config(rule).provider("anthropic", &strict).provider("openai", &sim);
        let gateway = builder.start().await;
        for model in ["anthropic/sim-ok", "openai/sim-ok"] {
            let chat = gateway.chat(&saying(model, "hello", false)).await;
            assert_eq!((chat.status, &*chat.text()), (200, "hello"), "{model} {rule}");
            let key = format!("Bearer {KEY}");
            let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
            let response = gateway.ask("/v1/responses", &headers, &json!({"model": model, "input": "hello"})).await;
            assert_eq!(response.status, 200, "{model} {rule} {}", response.body_text());
        }
    }
    assert!(strict.calls().iter().all(|call| call.json()["max_tokens"].is_u64()));
}
