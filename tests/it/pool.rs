//! The key pool and the health of providers: limits of keys, groups, rotation, probes, breakers, and keys that clients bring.

use crate::gateway::{Gateway, PATIENCE, saying};
use orbyt::sim::{Act, Call, Sim, SimDialect, SimFault, Step};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// No retries and no breaker: each test turns on what it is about.
const QUICK: &str = "[retry]\nmax = 0\n[breaker]\nenabled = false\n";

fn sim() -> Sim {
    Sim::start(SimDialect::OpenAi).unwrap()
}

/// A provider behind a simulated one, with keys of which more is said.
fn provider(id: &str, sim: &Sim, more: &str, keys: &[(&str, &str)]) -> String {
    let dialect = if sim.dialect() == SimDialect::Anthropic { "anthropic_messages" } else { "openai_chat" };
    let mut text =
        format!("[[provider]]\nid = \"{id}\"\ndialect = \"{dialect}\"\nbase_url = \"{}\"\n{more}\n", sim.base_url());
    for (key, more) in keys {
        text += &format!("[[provider.key]]\nname = \"{key}\"\nsecret = \"secret-of-{key}\"\n{more}\n");
    }
    text
}

/// The generations that were asked for with this key.
fn uses(sim: &Sim, key: &str) -> usize {
    let bearer = format!("Bearer secret-of-{key}");
    let is_it = |call: &&Call| call.is_generation() && call.header("authorization") == Some(&bearer);
    sim.calls().iter().filter(is_it).count()
}

fn with_extra(model: &str, extra: Value) -> Value {
    let mut request = saying(model, "one two", false);
    request["extra"] = extra;
    request
}

/// A good answer with these headers.
fn telling(headers: &[(&'static str, &str)]) -> Step {
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"});
    Step::Reply {
        status: 200,
        headers: headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        body: json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
            .to_string(),
    }
}

async fn ok(gateway: &Gateway, body: &Value) -> String {
    let answer = gateway.chat(body).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.body_text(), gateway.output());
    answer.header("x-provider").to_owned()
}

/// The state of a key as `/api/v1/health` tells it.
async fn key_report(gateway: &Gateway, name: &str) -> Value {
    let report = gateway.get_console("/api/v1/health").await.unwrap().json();
    let providers = report["providers"].as_array().unwrap().iter();
    let found = providers.flat_map(|one| one["keys"].as_array().unwrap()).find(|key| key["name"] == name).cloned();
    found.unwrap_or_else(|| panic!("{name} is not in {report}"))
}

#[tokio::test]
async fn a_key_makes_no_more_requests_than_its_operator_allows() {
    let sim = sim();
    let keys = [("small", "rpm = 2"), ("large", "rpm = 100")];
    let gateway = Gateway::builder().config(QUICK).config(&provider("one", &sim, "", &keys)).start().await;
    for _ in 0..12 {
        ok(&gateway, &saying("one/m", "x", false)).await;
    }
    assert!(uses(&sim, "small") <= 2 && uses(&sim, "large") >= 10, "{} {}", uses(&sim, "small"), uses(&sim, "large"));
    drop(gateway);
    let alone = Gateway::builder().config(QUICK).config(&provider("one", &sim, "", &keys[..1])).start().await;
    let statuses = [alone.chat(&saying("one/m", "x", false)).await, alone.chat(&saying("one/m", "x", false)).await];
    assert!(statuses.iter().all(|answer| answer.status == 200));
    let refused = alone.chat(&saying("one/m", "x", false)).await;
    assert_eq!(refused.status, 429, "{}", refused.body_text());
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((25..=30).contains(&wait), "half a minute brings the next one, not {wait} s");
    let report = key_report(&alone, "small").await;
    assert_eq!((&report["state"], &report["why"]), (&json!("cooldown"), &json!("own_limit")), "{report}");
}

#[tokio::test]
async fn keys_of_one_group_rest_together_at_every_provider() {
    let (one, two, three) = (sim(), sim(), sim());
    let gateway = Gateway::builder()
        .config(QUICK)
        .config(&provider("one", &one, "group = \"acme\"", &[("a", ""), ("b", "")]))
        .config(&provider("two", &two, "", &[("c", "group = \"acme\"")]))
        .config(&provider("three", &three, "", &[("d", "")]))
        .start()
        .await;
    let busy = Step::Reply {
        status: 429,
        headers: vec![("retry-after", "60".to_owned())],
        body: json!({"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}).to_string(),
    };
    one.always(busy);
    let request = with_extra("one/m", json!({"fallback_models": ["two/m", "three/m"]}));
    for _ in 0..3 {
        assert_eq!(ok(&gateway, &request).await, "three");
    }
    assert_eq!((one.generations(), two.generations()), (1, 0), "one 429 says it for the whole group");
    for (key, why) in [("a", json!(null)), ("c", json!("group")), ("d", json!(null))] {
        let report = key_report(&gateway, key).await;
        assert!(why.is_null() || report["why"] == why, "{report}");
        assert_eq!(report["state"] == "cooldown", key != "d", "{report}");
    }
}

#[tokio::test]
async fn what_providers_tell_of_their_limits_ranks_the_keys() {
    for (dialect, headers) in [
        (
            SimDialect::OpenAi,
            [
                ("x-ratelimit-limit-requests", "100"),
                ("x-ratelimit-remaining-requests", "3"),
                ("x-ratelimit-reset-requests", "1h"),
            ],
        ),
        (
            SimDialect::OpenAi,
            [
                ("x-ratelimit-limit-tokens", "1000"),
                ("x-ratelimit-remaining-tokens", "10"),
                ("x-ratelimit-reset-tokens", "6m0s"),
            ],
        ),
    ] {
        let sim = Sim::start(dialect).unwrap();
        let gateway =
            Gateway::builder().config(QUICK).config(&provider("one", &sim, "", &[("a", ""), ("b", "")])).start().await;
        sim.script([telling(&headers)]);
        ok(&gateway, &saying("one/m", "x", false)).await;
        let poor = if uses(&sim, "a") == 1 { "a" } else { "b" };
        for _ in 0..5 {
            ok(&gateway, &saying("one/m", "x", false)).await;
        }
        assert_eq!(uses(&sim, poor), 1, "the key with little left was used before the one with all of it");
        let report = key_report(&gateway, poor).await;
        assert!(report["room"].as_f64().unwrap() < 0.1 && report["state"] == "idle", "{report}");
    }
}

#[tokio::test]
async fn a_late_401_of_a_replaced_key_does_not_disable_the_new_one() {
    let sim = sim();
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("key.txt");
    std::fs::write(&secret, "old-secret").unwrap();
    let config = format!(
        "{QUICK}[[provider]]\nid = \"one\"\ndialect = \"openai_chat\"\nbase_url = \"{}\"\n[[provider.key]]\nname = \"k\"\nsecret = {{ file = \"{}\" }}\n",
        sim.base_url(),
        secret.display()
    );
    let gateway = Gateway::builder().config(&config).start().await;
    let refusal = r#"{"error":{"message":"no","type":"invalid_request_error","code":"invalid_api_key"}}"#;
    let head = format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n{refusal}", refusal.len());
    sim.on_key("old-secret", Step::Acts(vec![Act::Pause(Duration::from_millis(1500)), Act::Write(head.into_bytes())]));
    let request = saying("one/m", "x", false);
    let late = gateway.chat(&request);
    let rotate = async {
        assert!(sim.until(PATIENCE, |calls| calls.len() == 1).await);
        std::fs::write(&secret, "new-secret").unwrap();
        gateway.printed("config=reloaded").await;
        // The old request is still out: its answer comes only now.
        ok(&gateway, &request).await;
    };
    let (late, ()) = tokio::join!(late, rotate);
    assert_eq!(late.status, 503, "{}", late.body_text());
    ok(&gateway, &request).await;
    // The answer is there before the key is back.
    let begun = Instant::now();
    while key_report(&gateway, "k").await["state"] != "idle" {
        assert!(begun.elapsed() < PATIENCE, "{}", key_report(&gateway, "k").await);
    }
    assert!(!gateway.output().contains("new-secret") && !gateway.output().contains("old-secret"));
}

#[tokio::test]
async fn probes_see_that_a_provider_is_gone_and_back_and_are_no_traffic() {
    let sim = sim();
    let gateway = Gateway::builder()
        .config("[retry]\nmax = 0\n[breaker]\nfailures = 2\nopen_for = \"10m\"\n[health]\nprobe = \"50ms\"\n")
        .provider("one", &sim)
        .start()
        .await;
    ok(&gateway, &saying("one/m", "x", false)).await;
    assert!(sim.until(PATIENCE, |calls| calls.iter().filter(|call| !call.is_generation()).count() > 2).await);
    sim.refuse();
    gateway.printed("provider=one status=unhealthy").await;
    assert_eq!(gateway.chat(&saying("one/m", "x", false)).await.status, 503);
    sim.resume();
    let started = Instant::now();
    while gateway.chat(&saying("one/m", "x", false)).await.status != 200 {
        assert!(started.elapsed() < PATIENCE, "nobody noticed that it is back\n{}", gateway.output());
    }
    gateway.printed("provider=one status=recovered").await;
    let metrics = gateway.metrics().await;
    for line in [
        r#"orbyt_breaker_changes_total{provider="one",to="open"} 1"#,
        r#"orbyt_breaker_changes_total{provider="one",to="closed"} 1"#,
        r#"orbyt_requests_total{model="m",provider="one",status="200"} 2"#,
        r#"orbyt_breaker_state{model="m",provider="one"} 0"#,
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line} is not in\n{metrics}");
    }
    assert!(metrics.contains(r#"orbyt_probes_total{provider="one",result="down"}"#), "{metrics}");
    assert!(sim.calls().iter().filter(|call| !call.is_generation()).all(|call| call.path.ends_with("/models")));
}

#[tokio::test]
async fn a_refused_key_gets_no_traffic_but_probes_until_one_succeeds() {
    let sim = sim();
    sim.only_keys(&["secret-of-good"]);
    let gateway = Gateway::builder()
        .config(QUICK)
        .config("[health]\nprobe = \"50ms\"")
        .config(&provider("one", &sim, "", &[("good", ""), ("dead", "")]))
        .start()
        .await;
    let request = saying("one/m", "x", false);
    let started = Instant::now();
    while uses(&sim, "dead") == 0 {
        assert!(started.elapsed() < PATIENCE, "it never had its turn");
        ok(&gateway, &request).await;
    }
    gateway.printed("key=dead state=disabled").await;
    let probes = |calls: &[Call]| {
        let is_it =
            |call: &&Call| !call.is_generation() && call.header("authorization") == Some("Bearer secret-of-dead");
        calls.iter().filter(is_it).count()
    };
    for _ in 0..20 {
        ok(&gateway, &request).await;
    }
    assert!(sim.until(PATIENCE, |calls| probes(calls) >= 2).await, "it is not probed");
    assert_eq!(uses(&sim, "dead"), 1, "a refused key was used");
    sim.only_keys(&["secret-of-good", "secret-of-dead"]);
    gateway.printed("key=dead state=idle").await;
    while uses(&sim, "dead") < 2 {
        assert!(started.elapsed() < PATIENCE, "it has not come back");
        ok(&gateway, &request).await;
    }
}

#[tokio::test]
async fn in_an_outage_of_everything_somebody_is_still_asked() {
    let (one, two) = (sim(), sim());
    let gateway = Gateway::builder()
        .config("[retry]\nmax = 0\n[breaker]\nfailures = 2\nopen_for = \"10m\"\n")
        .provider("one", &one)
        .provider("two", &two)
        .start()
        .await;
    one.always(SimFault::ServerError);
    two.always(SimFault::ServerError);
    let request = with_extra("one/m", json!({"fallback_models": ["two/m"]}));
    for _ in 0..8 {
        assert!(gateway.chat(&request).await.status >= 500);
    }
    assert_eq!((one.generations(), two.generations()), (2, 8), "one may be left alone, not both");
    two.reset();
    assert_eq!(ok(&gateway, &request).await, "two", "the end of the outage is seen at once");
    assert!(gateway.output().matches("status=unhealthy").count() == 1, "{}", gateway.output());
}

#[tokio::test]
async fn the_last_target_that_can_be_asked_gets_the_rest_of_the_time() {
    let (slow, sick) = (sim(), sim());
    let gateway = Gateway::builder()
        .config("[retry]\nmax = 0\n[breaker]\nfailures = 1\nopen_for = \"10m\"\n[timeouts]\nfirst_output = \"300ms\"\ntotal = \"15s\"\n")
        .provider("slow", &slow)
        .provider("sick", &sick)
        .start()
        .await;
    sick.always(SimFault::ServerError);
    assert_eq!(gateway.chat(&saying("sick/m", "x", false)).await.status, 503);
    slow.always(Step::Paced(Duration::from_millis(900)));
    let request = with_extra("slow/m", json!({"fallback_models": ["sick/m"]}));
    assert_eq!(ok(&gateway, &request).await, "slow");
    assert_eq!((slow.generations(), sick.generations()), (1, 1));
}

#[tokio::test]
async fn a_key_that_is_evidently_another_providers_is_refused_before_anything_is_sent() {
    let (openai, groq) = (sim(), sim());
    let gateway = Gateway::builder()
        .config(QUICK)
        .config(&provider("openai", &openai, "", &[("a", "")]))
        .config(&provider("groq", &groq, "", &[("b", "")]))
        .start()
        .await;
    for (byok, param, makers) in [
        (json!("sk-ant-api03-canary"), "extra.byok", "Anthropic"),
        (json!({"openai": "sk-or-v1-canary"}), "extra.byok.openai", "OpenRouter"),
        (json!({"openai": "sk-proj-fine", "groq": "sk-proj-canary"}), "extra.byok.groq", "OpenAI"),
    ] {
        let answer = gateway.chat(&with_extra("openai/m", json!({ "byok": byok }))).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, &error["param"]), (400, &json!(param)), "{error}");
        assert!(error["message"].as_str().unwrap().contains(makers), "{error}");
        assert!(!answer.body_text().contains("canary"), "{error}");
    }
    assert_eq!((openai.calls().len(), groq.calls().len()), (0, 0), "something was sent");
    ok(&gateway, &with_extra("openai/m", json!({"byok": "sk-proj-fine"}))).await;
    ok(&gateway, &with_extra("openai/m", json!({"byok": "of-a-shape-that-nobody-knows"}))).await;
}

#[tokio::test]
async fn what_happens_with_a_clients_own_key_opens_no_breaker_and_rests_no_key() {
    let sim = sim();
    for fault in [SimFault::ServerError, SimFault::BadKey, SimFault::RateLimited, SimFault::Quota] {
        sim.reset().on_key("own-key", fault);
        let gateway = Gateway::builder()
            .config("[retry]\nmax = 0\n[breaker]\nfailures = 1\nopen_for = \"10m\"\n")
            .provider("one", &sim)
            .start()
            .await;
        for _ in 0..3 {
            assert!(gateway.chat(&with_extra("one/m", json!({"byok": "own-key"}))).await.status >= 400);
        }
        assert_eq!(ok(&gateway, &saying("one/m", "x", false)).await, "one", "{fault:?}");
    }
}

#[tokio::test]
async fn fallbacks_without_a_given_key_use_the_pool_unless_that_is_denied() {
    let (one, two) = (sim(), sim());
    for (config, status, spent) in [("", 200, 1), ("[routing]\nbyok_fallback = \"deny\"", 503, 0)] {
        one.reset().forget_calls();
        two.forget_calls();
        one.on_key("own-key", SimFault::ServerError);
        let gateway =
            Gateway::builder().config(QUICK).config(config).provider("one", &one).provider("two", &two).start().await;
        let mut extra = json!({"byok": "own-key", "fallback_models": ["two/m"]});
        let answer = gateway.chat(&with_extra("one/m", extra.clone())).await;
        assert_eq!((answer.status, two.generations()), (status, spent), "{}", answer.body_text());
        if status != 200 {
            let attempts = &answer.json()["error"]["metadata"]["attempts"];
            assert_eq!(attempts[1]["reason"], "byok_only", "{attempts}");
        }
        // With a key for it, a fallback is none of the gateway's expense.
        extra["byok"] = json!({"one": "own-key", "two": "own-key-for-two"});
        assert_eq!(ok(&gateway, &with_extra("one/m", extra)).await, "two");
        // Who brings no key at all is not concerned.
        assert_eq!(ok(&gateway, &saying("two/m", "x", false)).await, "two");
    }
}

#[tokio::test]
async fn metrics_have_opentelemetrys_names() {
    let sim = sim();
    let gateway = Gateway::builder().config(QUICK).config(&provider("groq", &sim, "", &[("a", "")])).start().await;
    ok(&gateway, &saying("groq/sim-ok", "one two three", true)).await;
    ok(&gateway, &saying("groq/sim-ok", "one two three", false)).await;
    let labels = r#"gen_ai_operation_name="chat",gen_ai_provider_name="groq",gen_ai_request_model="sim-ok""#;
    let wanted = [
        format!(r#"gen_ai_server_request_duration_seconds_count{{error_type="",{labels}}} 2"#),
        format!("gen_ai_server_time_to_first_token_seconds_count{{{labels}}} 1"),
        format!(r#"gen_ai_client_token_usage_count{{{labels},gen_ai_token_type="input"}}"#),
        r#"orbyt_keys{provider="groq",state="idle"} 1"#.to_owned(),
        "orbyt_retries_refused_total 0".to_owned(),
    ];
    // Counted when the request is closed, which is after its last byte.
    let started = Instant::now();
    loop {
        let metrics = gateway.metrics().await;
        if wanted.iter().all(|line| metrics.contains(line)) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{wanted:?} are not all in\n{metrics}");
    }
}

#[tokio::test]
async fn keys_of_one_group_with_different_limits_are_a_mistake() {
    let sim = sim();
    let keys = [("a", "group = \"g\"\nrpm = 5"), ("b", "group = \"g\"\nrpm = 6")];
    let mut gateway = Gateway::builder().config(&provider("one", &sim, "", &keys)).spawn();
    let ended = gateway.ended(PATIENCE).await.expect("it started all the same");
    assert!(!ended.success());
    let output = gateway.output();
    assert!(output.contains("the group \"g\" share one quota"), "{output}");
}
