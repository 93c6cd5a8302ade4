//! Provider keys: several of them, those that rest, those that are refused, and those that clients bring themselves.

use crate::gateway::{ADMIN_TOKEN, Gateway, PATIENCE, saying};
use orbyt::sim::client::{self, Exchange};
use orbyt::sim::{Call, Sim, SimDialect, SimFault, Step};
use serde_json::{Value, json};
use std::time::Duration;

/// Retries quickly, so that a test that waits waits for something else.
const CONFIG: &str = "[retry]\nbase = \"1ms\"\ncap = \"20ms\"\n[breaker]\nenabled = false\n";

/// The keys that arrived, in order.
fn keys(sim: &Sim) -> Vec<String> {
    let key = |call: &Call| {
        let bearer = call.header("authorization").map(|value| value.trim_start_matches("Bearer "));
        bearer.or(call.header("x-api-key")).or(call.header("x-goog-api-key")).unwrap_or_default().to_owned()
    };
    sim.calls().iter().map(key).collect()
}

async fn has_metric(gateway: &Gateway, line: &str) {
    let metrics = gateway.metrics().await;
    assert!(metrics.lines().any(|one| one == line), "{line} is not in\n{metrics}");
}

#[tokio::test]
async fn keys_take_turns() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().provider_with_keys("one", &sim, &["key-a", "key-b", "key-c"]).start().await;
    for _ in 0..60 {
        assert_eq!(gateway.chat(&saying("one/sim-ok", "x", false)).await.status, 200);
    }
    for key in ["key-a", "key-b", "key-c"] {
        let uses = keys(&sim).iter().filter(|one| *one == key).count();
        assert!((10..=30).contains(&uses), "{key} was used {uses} times of 60");
    }
}

#[tokio::test]
async fn a_rate_limited_key_rests_as_long_as_its_provider_asks_and_comes_back() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().config(CONFIG).provider_with_keys("one", &sim, &["key-a", "key-b"]).start().await;
    sim.script([SimFault::RateLimitedRetryAfter]);
    let answer = gateway.chat(&saying("one/sim-ok", "x", false)).await;
    assert_eq!(
        (answer.status, answer.header("x-orbyt-attempts"), answer.header("x-orbyt-fallback")),
        (200, "2", "false")
    );
    gateway.printed("cooldown").await;
    has_metric(&gateway, r#"orbyt_keys{provider="one",state="cooldown"} 1"#).await;
    let rested = async || {
        gateway.chat(&saying("one/sim-ok", "x", false)).await;
        keys(&sim).iter().filter(|key| *key == "key-a").count() > 1
    };
    let started = sim.calls()[0].at;
    while !rested().await {
        assert!(started.elapsed() < PATIENCE, "it never came back");
    }
    assert!(sim.calls().last().unwrap().at - started > Duration::from_millis(950), "it came back before its time");
}

#[tokio::test]
async fn a_refused_key_is_out_until_a_reload() {
    for dialect in SimDialect::ALL {
        let sim = Sim::start(dialect).unwrap();
        sim.on_key("key-a", SimFault::BadKey);
        let gateway =
            Gateway::builder().config(CONFIG).provider_with_keys("one", &sim, &["key-a", "key-b"]).start().await;
        for _ in 0..4 {
            let answer = gateway.chat(&saying("one/sim-ok", "x", false)).await;
            assert_eq!((answer.status, answer.header("x-orbyt-fallback")), (200, "false"), "{}", answer.body_text());
        }
        assert_eq!(keys(&sim).iter().filter(|key| *key == "key-a").count(), 1, "a refused key was used again");
        has_metric(&gateway, r#"orbyt_keys{provider="one",state="disabled"} 1"#).await;
        gateway.printed("\"state\":\"disabled\"").await;
        let change = gateway.log().into_iter().find(|line| line["state"] == "disabled");
        let change = change.expect("no log line says that a key was disabled");
        assert_eq!((&change["provider"], &change["level"]), (&json!("one"), &json!("error")), "{change}");
        // Its owner has put it right.
        sim.reset().forget_calls();
        gateway.signal(libc::SIGHUP);
        gateway.printed("reloaded").await;
        for _ in 0..2 {
            assert_eq!(gateway.chat(&saying("one/sim-ok", "x", false)).await.status, 200);
        }
        assert!(keys(&sim).contains(&"key-a".to_owned()), "the reload has not brought it back");
    }
}

#[tokio::test]
async fn a_key_without_quota_rests_and_the_others_serve() {
    for dialect in SimDialect::ALL {
        let sim = Sim::start(dialect).unwrap();
        sim.on_key("key-a", SimFault::Quota);
        let gateway =
            Gateway::builder().config(CONFIG).provider_with_keys("one", &sim, &["key-a", "key-b"]).start().await;
        for _ in 0..4 {
            let answer = gateway.chat(&saying("one/sim-ok", "x", true)).await;
            assert_eq!(answer.status, 200, "{}", answer.body_text());
        }
        assert_eq!(keys(&sim).iter().filter(|key| *key == "key-a").count(), 1, "{dialect:?}");
        has_metric(&gateway, r#"orbyt_keys{provider="one",state="exhausted"} 1"#).await;
    }
}

#[tokio::test]
async fn when_every_key_rests_the_client_is_told_for_how_long() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    sim.always(Step::Reply {
        status: 429,
        headers: vec![("retry-after", "40".to_owned())],
        body: json!({"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}).to_string(),
    });
    let gateway = Gateway::builder()
        .config(CONFIG)
        .config("[timeouts]\ntotal = \"10s\"")
        .provider_with_keys("one", &sim, &["key-a", "key-b"])
        .start()
        .await;
    for calls in [2, 2] {
        let answer = gateway.chat(&saying("one/sim-ok", "x", false)).await;
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert_eq!(answer.status, 429, "{}", answer.body_text());
        assert!((35..=40).contains(&wait), "Retry-After is {wait}");
        assert_eq!(sim.generations(), calls, "a resting key was used");
    }
}

#[tokio::test]
async fn a_single_key_that_is_limited_for_a_moment_is_waited_for() {
    let silent = Step::Reply { status: 429, headers: Vec::new(), body: "{}".to_owned() };
    for step in [SimFault::RateLimited.into(), SimFault::RateLimitedRetryAfter.into(), silent] {
        let sim = Sim::start(SimDialect::OpenAi).unwrap();
        let gateway = Gateway::builder().provider("one", &sim).start().await;
        sim.script([step.clone()]);
        let answer = gateway.chat(&saying("one/sim-ok", "one two", false)).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "one two"), "{step:?} {}", answer.body_text());
        let asked_to_wait = step == SimFault::RateLimitedRetryAfter.into();
        assert!(!asked_to_wait || answer.took > Duration::from_millis(950), "the provider's wish was ignored");
        assert_eq!((answer.header("x-orbyt-attempts"), sim.generations()), ("2", 2));
    }
}

/// Everything that `/api/v1/live` says from now on.
async fn live(gateway: &Gateway) -> Exchange {
    let token = format!("Bearer {ADMIN_TOKEN}");
    client::open("GET", &format!("{}/api/v1/live", gateway.console_url), &[("authorization", &token)], b"")
        .await
        .unwrap()
}

/// What it has said until the request is over that carries this id.
async fn until_over(live: &mut Exchange, id: &str) -> String {
    let mut text = String::new();
    while !text.lines().any(|line| line.contains(id) && (line.contains("\"success\"") || line.contains("\"error\""))) {
        let piece = tokio::time::timeout(PATIENCE, live.piece()).await.expect("the live events are silent");
        text += &String::from_utf8(piece.expect("the live events ended")).unwrap();
    }
    text
}

const OWN: &str = "canary-own-key-of-the-client-7f3a";

fn with_own_key(model: &str, byok: Value) -> Value {
    let mut request = saying(model, "one two", false);
    request["extra"] = json!({ "byok": byok });
    request
}

#[tokio::test]
async fn the_clients_own_key_is_used_instead_of_the_gateways() {
    for dialect in SimDialect::ALL {
        let sim = Sim::start(dialect).unwrap();
        let gateway = Gateway::builder().config(CONFIG).provider("one", &sim).start().await;
        for byok in [json!(OWN), json!({"one": OWN}), json!({"one": OWN, "two": "other"})] {
            sim.forget_calls();
            let answer = gateway.chat(&with_own_key("one/sim-ok", byok)).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "one two"), "{}", answer.body_text());
            assert_eq!(keys(&sim), [OWN]);
            assert!(!String::from_utf8_lossy(&sim.calls()[0].body).contains(OWN), "the key is in the provider's body");
        }
        gateway.chat(&with_own_key("one/sim-ok", json!({"two": OWN}))).await;
        assert_eq!(keys(&sim).last().unwrap(), "key-of-one");
    }
}

#[tokio::test]
async fn a_refused_key_of_the_clients_is_the_clients_affair_and_shown_nowhere() {
    for dialect in SimDialect::ALL {
        let (sim, spare) = (Sim::start(dialect).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
        sim.on_key(OWN, SimFault::EchoKey);
        let gateway = Gateway::builder()
            .config(CONFIG)
            .config("[telemetry]\nlog_level = \"trace\"")
            .provider("one", &sim)
            .provider("spare", &spare)
            .start()
            .await;
        let mut live = live(&gateway).await;
        let mut request = with_own_key("one/sim-ok", json!(OWN));
        request["extra"]["fallback_models"] = json!(["spare/sim-ok"]);
        let answer = gateway.chat(&request).await;
        assert!((400..=403).contains(&answer.status), "{} {}", answer.status, answer.body_text());
        assert_eq!(answer.json()["error"]["param"], "extra.byok", "{}", answer.body_text());
        assert_eq!((sim.generations(), spare.generations()), (1, 0), "it was tried elsewhere");
        gateway.log_line(&answer).await;
        let live = until_over(&mut live, answer.header("x-request-id")).await;
        let headers = format!("{:?}", answer.headers);
        let (output, metrics) = (gateway.output(), gateway.metrics().await);
        let places = [
            ("answer", answer.body_text()),
            ("headers", headers),
            ("output", output),
            ("metrics", metrics),
            ("live", live),
        ];
        for (place, text) in places {
            assert!(!text.contains(OWN), "{dialect:?}: the client's key stands in the {place}: {text}");
        }
        // The gateway's own key is none the worse for it.
        assert_eq!(gateway.chat(&saying("one/sim-ok", "x", false)).await.status, 200);
        assert_eq!(keys(&sim).last().unwrap(), "key-of-one");
    }
}

#[tokio::test]
async fn a_rate_limit_of_the_clients_key_rests_no_key_of_the_gateways() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    sim.on_key(OWN, SimFault::RateLimited);
    let gateway = Gateway::builder().config(CONFIG).provider("one", &sim).start().await;
    let answer = gateway.chat(&with_own_key("one/sim-ok", json!(OWN))).await;
    assert_eq!(answer.status, 429, "{}", answer.body_text());
    assert!(keys(&sim).iter().all(|key| key == OWN), "the gateway paid for what the client brought its own key for");
    assert_eq!(gateway.chat(&saying("one/sim-ok", "x", false)).await.status, 200);
}

#[tokio::test]
async fn a_single_key_of_the_clients_goes_to_no_other_provider() {
    let (first, second) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::Anthropic).unwrap());
    let gateway = Gateway::builder().config(CONFIG).provider("one", &first).provider("two", &second).start().await;
    let mut request = with_own_key("one/sim-500", json!(OWN));
    request["extra"]["fallback_models"] = json!(["two/sim-ok"]);
    let answer = gateway.chat(&request).await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "two"), "{}", answer.body_text());
    assert!(keys(&first).iter().all(|key| key == OWN));
    assert_eq!(keys(&second), ["key-of-two"]);
    second.forget_calls();
    request["extra"]["byok"] = json!({"one": OWN, "two": "own-key-for-two"});
    assert_eq!(gateway.chat(&request).await.status, 200);
    assert_eq!(keys(&second), ["own-key-for-two"], "the key that is meant for it is used");
}
