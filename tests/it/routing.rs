//! Which target serves, in which order they are tried, and what is said about it.

use crate::gateway::{Gateway, PATIENCE, saying};
use orbyt::sim::client::Answer;
use orbyt::sim::{Act, Sim, SimDialect, SimFault, Step};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// No breaker, quick retries: each test turns on what it is about.
const CONFIG: &str = "[breaker]\nenabled = false\n[retry]\nmax = 0\nbase = \"1ms\"\ncap = \"5ms\"\n";

fn sim() -> Sim {
    Sim::start(SimDialect::OpenAi).unwrap()
}

fn with_extra(model: &str, extra: Value) -> Value {
    let mut request = saying(model, "one two", false);
    request["extra"] = extra;
    request
}

/// Checks that an answer came from this provider and model.
fn served(answer: &Answer, provider: &str, model: &str) {
    let seen = format!("{} {:?} {}", answer.status, answer.headers, answer.body_text());
    assert_eq!((answer.status, answer.text().as_str()), (200, "one two"), "{seen}");
    assert_eq!((answer.header("x-provider"), answer.header("x-model")), (provider, model), "{seen}");
}

#[tokio::test]
async fn a_fallback_may_be_a_model_or_a_provider_for_the_same_model() {
    let (first, second) = (sim(), sim());
    first.always(SimFault::ServerError);
    let gateway = Gateway::builder().config(CONFIG).provider("one", &first).provider("two", &second).start().await;
    for (fallback, model) in [("two/another", "another"), ("two", "some-model")] {
        let answer = gateway.chat(&with_extra("one/some-model", json!({"fallback_models": [fallback]}))).await;
        served(&answer, "two", model);
        assert_eq!((answer.header("x-orbyt-attempts"), answer.header("x-orbyt-fallback")), ("2", "true"));
        let call = second.calls().pop().unwrap().json();
        assert_eq!((&call["model"], call.get("extra")), (&json!(model), None), "the extensions went to the provider");
    }
    gateway.printed("failover from=one/some-model to=two/another").await;
}

#[tokio::test]
async fn fallbacks_are_tried_in_their_order_until_one_serves() {
    let sims = [sim(), sim(), sim(), sim()];
    let mut builder = Gateway::builder().config(CONFIG);
    for (sim, id) in sims.iter().zip(["a", "b", "c", "d"]) {
        builder = builder.provider(id, sim);
    }
    let gateway = builder.start().await;
    sims[0].always(SimFault::Unavailable);
    sims[1].refuse();
    sims[2].always(SimFault::ErrorFirst);
    let answer = gateway.chat(&with_extra("a/m1", json!({"fallback_models": ["b/m2", "c/m3", "d/m4"]}))).await;
    served(&answer, "d", "m4");
    assert_eq!(answer.header("x-orbyt-attempts"), "4");
    let line = gateway.log_line(&answer).await;
    assert_eq!(
        (&line["provider"], &line["model"], &line["fallback"]),
        (&json!("d"), &json!("m4"), &json!(true)),
        "{line}"
    );
    let tried: Vec<_> = line["tried"].as_array().unwrap().iter().map(|one| one["provider"].clone()).collect();
    assert_eq!(&tried[..3], [json!("a"), json!("b"), json!("c")], "{line}");
    assert_eq!(sims.each_ref().map(Sim::generations), [1, 0, 1, 1]);
}

#[tokio::test]
async fn that_a_stand_in_lacks_the_model_does_not_hide_that_the_one_asked_for_is_down() {
    let (first, second) = (sim(), sim());
    first.always(SimFault::Unavailable);
    second.always(SimFault::NotFound);
    let gateway = Gateway::builder().config(CONFIG).provider("one", &first).provider("two", &second).start().await;
    let answer = gateway.chat(&with_extra("one/m1", json!({"fallback_models": ["two/m2"]}))).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &json!("all_targets_down")));
    let reasons: Vec<_> = answer.json()["error"]["metadata"]["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["reason"].clone())
        .collect();
    assert_eq!(reasons, [json!("server_error"), json!("model_not_found")]);
}

#[tokio::test]
async fn openrouters_models_are_fallbacks_too() {
    let (first, second) = (sim(), sim());
    first.always(SimFault::RateLimited);
    let gateway = Gateway::builder().config(CONFIG).provider("one", &first).provider("two", &second).start().await;
    let mut request = saying("one/m1", "one two", false);
    request["models"] = json!(["two/m2"]);
    let answer = gateway.chat(&request).await;
    served(&answer, "two", "m2");
    assert_eq!(second.calls()[0].json().get("models"), None);
}

#[tokio::test]
async fn with_the_providers_named_the_catalogs_equivalents_stand_in() {
    let (openai, anthropic) = (sim(), Sim::start(SimDialect::Anthropic).unwrap());
    openai.always(SimFault::ServerError);
    let start = |providers: &str| {
        let builder = Gateway::builder().config(CONFIG).provider("openai", &openai).provider("anthropic", &anthropic);
        builder.variable("GATEWAY_PROVIDERS", providers).start()
    };
    let gateway = start("openai,anthropic").await;
    for stream in [false, true] {
        let answer = gateway.chat(&saying("openai/gpt-4o", "one two", stream)).await;
        assert_eq!((answer.status, answer.header("x-provider")), (200, "anthropic"), "{}", answer.body_text());
        assert!(answer.header("x-model").starts_with("claude-"), "{}", answer.header("x-model"));
        assert!(answer.text() == "one two" && answer.looks_complete());
    }
    drop(gateway);
    // Without them named nothing that was not asked for stands in.
    let gateway = start("").await;
    assert_eq!(gateway.chat(&saying("openai/gpt-4o", "one two", false)).await.status, 503);
}

#[tokio::test]
async fn a_name_of_the_operators_stands_for_its_targets_and_fallbacks() {
    let (first, second, third) = (sim(), sim(), sim());
    let model = "[[model]]\nname = \"smart\"\ntargets = [\"one/m1\", \"two/m2\"]\nfallbacks = [\"three/m3\"]\n";
    let gateway = Gateway::builder()
        .config(CONFIG)
        .config(model)
        .provider("one", &first)
        .provider("two", &second)
        .provider("three", &third)
        .start()
        .await;
    served(&gateway.chat(&saying("smart", "one two", false)).await, "one", "m1");
    first.always(SimFault::ServerError);
    served(&gateway.chat(&saying("smart", "one two", false)).await, "two", "m2");
    second.always(SimFault::ServerError);
    served(&gateway.chat(&saying("smart", "one two", false)).await, "three", "m3");
    // What the request names replaces what is configured.
    third.forget_calls();
    let answer = gateway.chat(&with_extra("smart", json!({"fallback_models": ["one/m9"]}))).await;
    assert_eq!((answer.status, third.generations()), (503, 0), "{}", answer.body_text());
}

#[tokio::test]
async fn a_request_that_is_locked_to_a_provider_stays_there_with_its_fallbacks() {
    let (first, second) = (sim(), sim());
    let gateway = Gateway::builder().config(CONFIG).provider("one", &first).provider("two", &second).start().await;
    let answer = gateway.chat(&with_extra("one/m1", json!({"provider": "two"}))).await;
    served(&answer, "two", "m1");
    second.script([SimFault::ServerError]);
    let answer = gateway.chat(&with_extra("two/m1", json!({"provider": "two", "fallback_models": ["one/m2"]}))).await;
    served(&answer, "two", "m2");
    assert_eq!(first.generations(), 0);
}

#[tokio::test]
async fn retries_are_counted_for_each_target() {
    let (first, second) = (sim(), sim());
    first.always(SimFault::ServerError);
    let gateway = Gateway::builder().config(CONFIG).provider("one", &first).provider("two", &second).start().await;
    for retry in [0, 1, 2, 4] {
        first.forget_calls();
        let answer = gateway.chat(&with_extra("one/m1", json!({"retry": retry, "fallback_models": ["two/m2"]}))).await;
        served(&answer, "two", "m2");
        assert_eq!(first.generations(), retry + 1);
        assert_eq!(answer.header("x-orbyt-attempts"), (retry + 2).to_string());
    }
    // The environment sets what a request does not.
    let gateway =
        Gateway::builder().config(CONFIG).provider("one", &first).variable("GATEWAY_RETRY_MAX", "3").start().await;
    first.forget_calls();
    assert_eq!(gateway.chat(&saying("one/m1", "x", false)).await.status, 503);
    assert_eq!(first.generations(), 4);
}

#[tokio::test]
async fn a_retry_waits_as_long_as_the_provider_asks_unless_somebody_else_can_serve() {
    let (first, second) = (sim(), sim());
    let busy = |wait: &str| Step::Reply {
        status: 503,
        headers: vec![("retry-after", wait.to_owned())],
        body: json!({"error": {"message": "busy"}}).to_string(),
    };
    let gateway = Gateway::builder()
        .config("[breaker]\nenabled = false\n[retry]\nmax = 1\nbase = \"1ms\"\ncap = \"2s\"\n")
        .provider("one", &first)
        .provider("two", &second)
        .start()
        .await;
    first.script([busy("1")]);
    let answer = gateway.chat(&saying("one/m1", "one two", false)).await;
    served(&answer, "one", "m1");
    let calls = first.calls();
    assert!(calls[1].at - calls[0].at >= Duration::from_millis(990), "{:?}", calls[1].at - calls[0].at);
    // Longer than the cap, and another target is ready: nobody waits.
    first.script([busy("30")]);
    let answer = gateway.chat(&with_extra("one/m1", json!({"fallback_models": ["two/m2"]}))).await;
    served(&answer, "two", "m2");
    assert!(answer.took < Duration::from_secs(10), "it waited {:?}", answer.took);
}

#[tokio::test]
async fn a_target_that_keeps_failing_is_left_alone_and_found_again() {
    let (first, second) = (sim(), sim());
    let gateway = Gateway::builder()
        .config("[breaker]\nfailures = 3\nopen_for = \"400ms\"\n[retry]\nmax = 0\n")
        .provider("one", &first)
        .provider("two", &second)
        .start()
        .await;
    first.always(SimFault::ServerError);
    let request = with_extra("one/m1", json!({"fallback_models": ["two/m2"]}));
    for expected in [1, 2, 3, 3, 3] {
        let answer = gateway.chat(&request).await;
        served(&answer, "two", "m2");
        assert_eq!(first.generations(), expected, "calls at the target that fails");
    }
    gateway.printed("provider=one status=unhealthy").await;
    let metrics = gateway.metrics().await;
    assert!(metrics.contains(r#"orbyt_breaker_state{model="m1",provider="one"} 2"#), "{metrics}");
    // Alone it is not asked either: the client is told when to come back.
    let alone = gateway.chat(&saying("one/m1", "x", false)).await;
    assert_eq!(
        (alone.status, alone.header("retry-after"), first.generations()),
        (503, "1", 3),
        "{}",
        alone.body_text()
    );
    assert_eq!(alone.json()["error"]["metadata"]["attempts"][0]["reason"], "breaker_open");
    // It is well again, and the probe finds out.
    first.reset();
    let started = Instant::now();
    while gateway.chat(&request).await.header("x-provider") != "one" {
        assert!(started.elapsed() < PATIENCE, "never probed\n{}", gateway.output());
    }
    gateway.printed("provider=one status=recovered").await;
    let other = gateway.chat(&with_extra("one/other-model", json!({}))).await;
    served(&other, "one", "other-model");
}

#[tokio::test]
async fn another_model_of_the_same_provider_has_a_breaker_of_its_own() {
    let first = sim();
    first.on_model("bad", SimFault::ServerError);
    let gateway = Gateway::builder()
        .config("[breaker]\nfailures = 2\nopen_for = \"60s\"\n[retry]\nmax = 0\n")
        .provider("one", &first)
        .start()
        .await;
    for _ in 0..4 {
        assert_eq!(gateway.chat(&saying("one/bad", "x", false)).await.status, 503);
    }
    assert_eq!(first.generations(), 2);
    served(&gateway.chat(&saying("one/good", "one two", false)).await, "one", "good");
}

#[tokio::test]
async fn what_went_wrong_everywhere_stands_in_the_error_the_headers_and_the_log() {
    let (first, second) = (sim(), sim());
    first.always(SimFault::ServerError);
    second.always(SimFault::Html);
    let gateway = Gateway::builder().config(CONFIG).provider("one", &first).provider("two", &second).start().await;
    let answer = gateway.chat(&with_extra("one/m1", json!({"fallback_models": ["two/m2"]}))).await;
    let error = answer.json()["error"].clone();
    assert_eq!((answer.status, &error["code"]), (502, &json!("bad_provider_answer")), "{error}");
    let attempts = &error["metadata"]["attempts"];
    assert_eq!(attempts[0]["provider"], "one");
    assert_eq!((&attempts[0]["status"], &attempts[0]["reason"]), (&json!(500), &json!("server_error")), "{error}");
    assert_eq!((&attempts[1]["provider"], &attempts[1]["reason"]), (&json!("two"), &json!("malformed")), "{error}");
    assert_eq!((answer.header("x-orbyt-attempts"), answer.header("x-orbyt-fallback")), ("2", "true"));
    let line = gateway.log_line(&answer).await;
    assert_eq!(
        (&line["status"], &line["attempts"], &line["ended"]),
        (&json!(502), &json!(2), &json!("error")),
        "{line}"
    );
}

#[tokio::test]
async fn a_stale_connection_costs_neither_an_attempt_nor_a_retry() {
    let first = sim();
    let gateway =
        Gateway::builder().config(CONFIG).config("[server]\nworkers = 1").provider("one", &first).start().await;
    served(&gateway.chat(&saying("one/m1", "one two", false)).await, "one", "m1");
    first.script([Step::Acts(vec![Act::Reset])]);
    let answer = gateway.chat(&saying("one/m1", "one two", false)).await;
    served(&answer, "one", "m1");
    assert_eq!((answer.header("x-orbyt-attempts"), first.generations()), ("1", 3));
    // A reset on a fresh connection is a fault, though.
    let other = sim();
    other.script([Step::Acts(vec![Act::Reset])]);
    let gateway = Gateway::builder().config(CONFIG).provider("one", &other).start().await;
    assert_eq!(gateway.chat(&saying("one/m1", "x", false)).await.status, 503);
    assert_eq!(other.generations(), 1);
}

#[tokio::test]
async fn two_hundred_at_once_over_a_failing_provider_all_get_an_answer() {
    let (first, second) = (sim(), sim());
    first.always(SimFault::ServerError);
    let gateway = std::sync::Arc::new(
        Gateway::builder().config("[retry]\nmax = 0").provider("one", &first).provider("two", &second).start().await,
    );
    let mut running = tokio::task::JoinSet::new();
    for number in 0..200 {
        let gateway = gateway.clone();
        running.spawn(async move {
            let mut request = saying("one/m1", &format!("number {number}"), number % 2 == 0);
            request["extra"] = json!({"fallback_models": ["two/m2"]});
            (number, gateway.chat(&request).await)
        });
    }
    while let Some(done) = running.join_next().await {
        let (number, answer) = done.unwrap();
        assert!(answer.looks_complete(), "{number}: {} {}", answer.status, answer.body_text());
        assert_eq!(answer.text(), format!("number {number}"));
    }
    assert_eq!(second.generations(), 200);
}

#[tokio::test]
async fn a_short_deadline_of_one_client_does_not_shut_a_target_for_the_others() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder()
        .config("[breaker]\nfailures = 2\n[retry]\nmax = 0\n[timeouts]\nfirst_output = '20s'\n")
        .provider("one", &sim)
        .start()
        .await;
    for _ in 0..3 {
        let mut body = saying("one/sim-timeout", "x", false);
        body["extra"] = json!({"timeout_ms": 100});
        assert_eq!(gateway.chat(&body).await.status, 504);
    }
    assert!(!gateway.metrics().await.contains("orbyt_breaker_state{provider=\"one\",model=\"sim-timeout\"} 2"));
}

#[tokio::test]
async fn fast_tries_each_once_and_then_keeps_to_the_quicker_one() {
    let (slow, quick) = (sim(), sim());
    slow.always(SimFault::Slow);
    let config = format!("{CONFIG}[[model]]\nname = \"any\"\ntargets = [\"one/m\", \"two/m\"]\nstrategy = \"fast\"\n");
    let gateway = Gateway::builder().config(&config).provider("one", &slow).provider("two", &quick).start().await;
    let words = "one two three four five six seven eight nine ten";
    for provider in ["one", "two"] {
        let answer = gateway.chat(&saying("any", words, true)).await;
        assert_eq!((answer.status, answer.header("x-provider")), (200, provider), "the untried is tried first");
        gateway.log_line(&answer).await;
    }
    let mut to_quick = 0;
    for _ in 0..20 {
        let answer = gateway.chat(&saying("any", words, true)).await;
        to_quick += u32::from(answer.header("x-provider") == "two");
    }
    // One in fifty explores; that more than five of twenty do happens once in some hundred million runs.
    assert!(to_quick >= 15, "{to_quick} of 20 went to the quicker one");
    let health: Value =
        serde_json::from_str(&gateway.get_console("/api/v1/health").await.unwrap().body_text()).unwrap();
    let of = |provider: &str| {
        let targets = health["targets"].as_array().unwrap();
        let target = targets.iter().find(|target| target["provider"] == provider).unwrap();
        target["first_output_ms"].as_f64().unwrap()
    };
    assert!(of("one") > of("two"), "{health}");
}

#[tokio::test]
async fn a_picture_goes_to_no_model_that_cannot_see() {
    let provider = sim();
    let gateway = Gateway::builder().provider("openai", &provider).start().await;
    let mut request = saying("openai/gpt-3.5-turbo", "x", false);
    request["messages"][0]["content"] =
        json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]);
    let answer = gateway.chat(&request).await;
    let error: Value = serde_json::from_str(&answer.body_text()).unwrap();
    assert_eq!((answer.status, &error["error"]["param"]), (400, &json!("messages")), "{error}");
    assert!(
        error["error"]["message"].as_str().unwrap().contains("openai/gpt-3.5-turbo does not take pictures"),
        "{error}"
    );
    request["models"] = json!(["openai/gpt-4o"]);
    let answer = gateway.chat(&request).await;
    assert_eq!((answer.status, answer.header("x-model")), (200, "gpt-4o"), "{}", answer.body_text());
    assert_eq!(provider.generations(), 1, "only the one that can see was asked");
}

#[tokio::test]
async fn a_model_that_cannot_take_a_prompt_leaves_it_to_the_next_model_of_the_same_name() {
    let (one, two) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let config = "[[model]]\nname = \"both\"\ntargets = [\"one/small\", \"two/large\"]\n[routing]\nauto = [\"one/small\", \"two/large\"]\n";
    let gateway = Gateway::builder().config(config).provider("one", &one).provider("two", &two).start().await;
    for model in ["both", "auto"] {
        one.script([SimFault::ContextLength]);
        let answer = gateway.chat(&saying(model, "x", false)).await;
        assert_eq!((answer.status, answer.header("x-provider")), (200, "two"), "{model}: {}", answer.body_text());
    }
}

#[tokio::test]
async fn a_name_may_stand_for_another_name() {
    let (one, two) = (sim(), sim());
    let config = "[[model]]\nname = \"fast\"\ntargets = [\"small\"]\n[[model]]\nname = \"small\"\ntargets = [\"one/m1\", \"two/m2\"]\n\
                  [routing]\nauto = [\"fast\"]\n";
    let gateway = Gateway::builder().config(config).provider("one", &one).provider("two", &two).start().await;
    for model in ["fast", "auto"] {
        let answer = gateway.chat(&saying(model, "one two", false)).await;
        assert_eq!((answer.status, answer.header("x-model")), (200, "m1"), "{}", answer.body_text());
    }
}
