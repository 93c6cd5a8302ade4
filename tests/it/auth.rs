//! Who may use the gateway, and what is left behind of the keys.

use crate::gateway::{Gateway, KEY, saying};
use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Sim, SimDialect};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

async fn ask(gateway: &Gateway, headers: &[(&str, &str)]) -> Answer {
    let body = saying("openai/sim-ok", "one two", false).to_string();
    client::send("POST", &format!("{}/v1/chat/completions", gateway.url), headers, body.as_bytes()).await.unwrap()
}

async fn with_key(gateway: &Gateway, key: &str) -> u16 {
    ask(gateway, &[("authorization", &format!("Bearer {key}"))]).await.status
}

#[tokio::test]
async fn a_key_is_taken_from_either_header() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().provider("openai", &sim).start().await;
    for (name, value) in [
        ("authorization", format!("Bearer {KEY}")),
        ("authorization", format!("bearer {KEY}")),
        ("Authorization", format!("BEARER   {KEY} ")),
        ("x-api-key", KEY.to_owned()),
        ("X-API-Key", KEY.to_owned()),
    ] {
        let answer = ask(&gateway, &[(name, &value)]).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "one two"), "{name}");
    }
    let keys: Vec<_> = sim.calls().iter().map(|call| call.header("authorization").map(str::to_owned)).collect();
    assert!(keys.iter().all(|key| key.as_deref() == Some("Bearer key-of-openai")), "the provider got {keys:?}");
    assert!(
        sim.calls().iter().all(|call| call.header("x-api-key").is_none()),
        "the gateway's key went to the provider"
    );
}

#[tokio::test]
async fn no_key_or_a_wrong_one_is_a_401_that_costs_no_call() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().provider("openai", &sim).start().await;
    let almost = format!("Bearer {}", &KEY[..KEY.len() - 1]);
    let more = format!("Bearer {KEY}x");
    let basic = format!("Basic {KEY}");
    for headers in [
        &[][..],
        &[("authorization", "")],
        &[("authorization", "Bearer")],
        &[("authorization", "Bearer ")],
        &[("authorization", &basic)],
        &[("authorization", &almost)],
        &[("authorization", &more)],
        &[("x-api-key", "key-of-openai")],
    ] {
        let answer = ask(&gateway, headers).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["code"]), (401, &"invalid_api_key".into()), "{headers:?}");
        assert_eq!(error["type"], "authentication_error");
        assert!(!answer.body_text().contains(&KEY[..8]), "an error repeats a key");
    }
    for path in ["/v1/models", "/v1/models/openai/gpt-4o"] {
        let answer = client::send("GET", &format!("{}{path}", gateway.url), &[], b"").await.unwrap();
        assert_eq!(answer.status, 401, "{path}");
    }
    assert_eq!(sim.generations(), 0);
}

#[tokio::test]
async fn several_keys_of_the_environment_all_work() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder()
        .provider("openai", &sim)
        .variable("ORBYT_API_KEYS", "first-key, second-key ,3")
        .start()
        .await;
    for (key, status) in [("first-key", 200), ("second-key", 200), ("3", 200), (KEY, 401), ("first-key,", 401)] {
        assert_eq!(with_key(&gateway, key).await, status, "{key}");
    }
}

#[tokio::test]
async fn a_flood_of_wrong_keys_is_limited_before_it_is_looked_at() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().provider("openai", &sim).config("[limits]\nbad_key_per_minute = 5").start().await;
    let mut refused = Vec::new();
    for _ in 0..8 {
        refused.push(with_key(&gateway, "wrong").await);
    }
    assert_eq!(refused, [401, 401, 401, 401, 401, 429, 429, 429]);
    // Even the right key has to wait, else the flood could go on guessing.
    let answer = ask(&gateway, &[("x-api-key", KEY)]).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "60"));
    assert_eq!(answer.json()["error"]["type"], "rate_limit_error");
    let metrics = gateway.metrics().await;
    assert!(metrics.contains(r#"orbyt_limited_total{limit="bad_key"} 4"#), "{metrics}");
    let live = client::send("GET", &format!("{}/livez", gateway.url), &[], b"").await.unwrap();
    assert_eq!(live.status, 200, "load balancers are not shut out");
}

#[tokio::test]
async fn a_trusted_proxy_says_whose_flood_it_is() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let config = "[limits]\nbad_key_per_minute = 3\n[server]\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let gateway = Gateway::builder().provider("openai", &sim).config(config).start().await;
    for _ in 0..4 {
        ask(&gateway, &[("x-api-key", "wrong"), ("x-forwarded-for", "203.0.113.7")]).await;
    }
    let shut_out = ask(&gateway, &[("x-api-key", KEY), ("x-forwarded-for", "198.51.100.1, 203.0.113.7")]).await;
    let other = ask(&gateway, &[("x-api-key", KEY), ("x-forwarded-for", "203.0.113.7, 198.51.100.1")]).await;
    assert_eq!((shut_out.status, other.status), (429, 200), "the last address that is no proxy counts");
}

#[tokio::test]
async fn limits_of_the_whole_gateway_and_of_an_address_say_when_to_come_back() {
    for (limit, name) in [("global_per_second", "global"), ("address_per_second", "address")] {
        let sim = Sim::start(SimDialect::OpenAi).unwrap();
        let gateway =
            Gateway::builder().provider("openai", &sim).config(&format!("[limits]\n{limit} = 3")).start().await;
        let mut limited = None;
        for _ in 0..40 {
            let answer = ask(&gateway, &[("x-api-key", KEY)]).await;
            if answer.status == 429 {
                limited = Some(answer);
                break;
            }
        }
        let answer = limited.expect("forty requests were never too many");
        assert_eq!(
            (answer.header("retry-after"), &answer.json()["error"]["code"]),
            ("1", &"rate_limit_exceeded".into())
        );
        let metrics = gateway.metrics().await;
        assert!(metrics.contains(&format!(r#"orbyt_limited_total{{limit="{name}"}} "#)), "{metrics}");
    }
}

#[tokio::test]
async fn too_many_at_once_are_told_so_and_places_come_back() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().provider("openai", &sim).config("[limits]\nconcurrent = 1").start().await;
    let body = saying("openai/sim-timeout", "x", false).to_string();
    let url = format!("{}/v1/chat/completions", gateway.url);
    let headers = [("x-api-key", KEY)];
    tokio::select! {
        _ = client::send("POST", &url, &headers, body.as_bytes()) => panic!("a provider that is silent has answered"),
        arrived = sim.until(crate::gateway::PATIENCE, |calls| calls.len() == 1) => assert!(arrived),
    }
    // The first one has hung up; its place is free as soon as the gateway has noticed.
    let mut seen = with_key(&gateway, KEY).await;
    for _ in 0..400 {
        if seen == 200 {
            break;
        }
        assert_eq!(seen, 429);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        seen = with_key(&gateway, KEY).await;
    }
    assert_eq!(seen, 200);
}

/// Everything that lies in a directory.
fn files(folder: &Path) -> Vec<(std::path::PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() && !path.is_file() {
            // A socket has nothing to read, but may be open to others too.
            found.push((path, String::new()));
        } else if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned()));
        }
    }
    found
}

#[tokio::test]
async fn the_first_start_makes_a_key_that_lasts_and_leaves_only_its_hash() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let state = tempfile::tempdir().unwrap();
    let start = || {
        let builder = Gateway::builder().provider("openai", &sim).variable("ORBYT_API_KEYS", "");
        builder.variable("ORBYT_ADMIN_TOKEN", "").variable("ORBYT_DATA_DIR", state.path().to_str().unwrap()).start()
    };
    let gateway = start().await;
    let shown = state.path().join("first-start-credentials.txt");
    assert_eq!(std::fs::metadata(&shown).unwrap().permissions().mode() & 0o777, 0o600);
    gateway.printed(shown.to_str().unwrap()).await;
    let text = std::fs::read_to_string(&shown).unwrap();
    let line = |label: &str| text.lines().find_map(|line| line.strip_prefix(label)).unwrap().to_owned();
    let (key, token) = (line("API key: "), line("admin token: "));
    assert!(key.strip_prefix("sk-or-v1-").is_some_and(|hex| hex.len() == 64), "the key's form");
    assert_eq!((with_key(&gateway, &key).await, with_key(&gateway, KEY).await), (200, 401));
    let bearer = format!("Bearer {token}");
    let live = format!("{}/api/v1/live", gateway.console_url);
    assert_eq!(client::open("GET", &live, &[("authorization", &bearer)], b"").await.unwrap().status, 200);
    assert_eq!(client::send("GET", &live, &[], b"").await.unwrap().status, 401);
    for secret in [&key, &token] {
        assert!(!gateway.output().contains(secret.as_str()), "it was printed although nobody looks at a terminal");
    }
    drop(gateway);
    std::fs::remove_file(&shown).unwrap();
    for (path, text) in files(state.path()) {
        assert!(!text.contains(&key) && !text.contains(&token), "{} holds a secret", path.display());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{} is open", path.display());
    }
    let again = start().await;
    assert_eq!(with_key(&again, &key).await, 200, "the key has not survived the restart");
    assert!(!shown.exists(), "keys were made again");
}
