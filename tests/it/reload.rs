//! Where the configuration comes from, how it changes while requests run, and what is said about mistakes in it.

use crate::gateway::{Gateway, KEY, PATIENCE, binary, saying};
use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Sim, SimDialect, Step};
use serde_json::json;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

fn sim() -> Sim {
    Sim::start(SimDialect::OpenAi).unwrap()
}

/// A file with one provider, called `one`.
fn file(sim: &Sim, more: &str) -> String {
    let base_url = sim.base_url();
    format!(
        "{more}\n[[provider]]\nid = \"one\"\ndialect = \"openai_chat\"\nbase_url = \"{base_url}\"\n[[provider.key]]\nsecret = \"key-in-clear\"\n"
    )
}

async fn provider_of(gateway: &Gateway) -> Answer {
    gateway.chat(&saying("one/sim-ok", "one two", false)).await
}

/// Waits until the gateway's requests arrive at this provider.
async fn arrives_at(gateway: &Gateway, sim: &Sim) {
    let (started, before) = (Instant::now(), sim.generations());
    while sim.generations() == before {
        assert!(started.elapsed() < PATIENCE, "the new configuration is not in force\n{}", gateway.output());
        assert_eq!(provider_of(gateway).await.status, 200, "a request failed during the reload");
    }
}

#[tokio::test]
async fn a_changed_file_is_in_force_without_a_signal_and_without_a_failed_request() {
    let (old, new) = (sim(), sim());
    let gateway = Gateway::builder().config(&file(&old, "")).start().await;
    arrives_at(&gateway, &old).await;
    std::fs::write(gateway.config_file(), file(&new, "")).unwrap();
    arrives_at(&gateway, &new).await;
    // Editors replace files instead of writing into them.
    let beside = gateway.config_file().with_extension("new");
    std::fs::write(&beside, file(&old, "")).unwrap();
    std::fs::rename(&beside, gateway.config_file()).unwrap();
    arrives_at(&gateway, &old).await;
    let metrics = gateway.metrics().await;
    assert!(metrics.contains(r#"orbyt_config_reloads_total{result="refused"} 0"#), "{metrics}");
}

#[tokio::test]
async fn a_signal_reloads_too() {
    let sim = sim();
    let gateway = Gateway::builder().config(&file(&sim, "")).start().await;
    assert_eq!(gateway.output().matches("config=reloaded").count(), 0);
    gateway.signal(libc::SIGHUP);
    gateway.printed("config=reloaded").await;
    assert_eq!(provider_of(&gateway).await.status, 200);
}

#[tokio::test]
async fn a_request_in_flight_finishes_as_it_began() {
    let (old, new) = (sim(), sim());
    let gateway = Gateway::builder().config(&file(&old, "")).start().await;
    old.script([Step::Paced(Duration::from_millis(100))]);
    let request = saying("one/sim-ok", "one two three four", true);
    let (answer, ()) = tokio::join!(gateway.chat(&request), async {
        assert!(old.until(PATIENCE, |calls| calls.len() == 1).await);
        std::fs::write(gateway.config_file(), file(&new, "[limits]\nconcurrent = 5")).unwrap();
        arrives_at(&gateway, &new).await;
        assert!(old.calls()[0].played_at.is_none(), "it was over before the reload: the test shows nothing");
    });
    assert!(answer.looks_complete() && answer.text() == "one two three four", "{}", answer.body_text());
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_is_told() {
    let (good, other) = (sim(), sim());
    let gateway = Gateway::builder().config(&file(&good, "")).start().await;
    std::fs::write(gateway.config_file(), file(&other, "[retry]\nmx = 1\n[timeouts]\nidle = 5")).unwrap();
    gateway.printed("config=refused").await;
    let line = gateway.log().into_iter().find(|line| line["event"] == "config").unwrap();
    let errors = line["errors"].as_str().unwrap();
    assert!(errors.contains("orbyt.toml:2:1: retry.mx") && errors.contains("orbyt.toml:4:8: timeouts.idle"), "{line}");
    let metrics = gateway.metrics().await;
    assert!(metrics.contains(r#"orbyt_config_reloads_total{result="refused"} 1"#), "{metrics}");
    assert_eq!((provider_of(&gateway).await.status, good.generations(), other.generations()), (200, 1, 0));
    std::fs::write(gateway.config_file(), file(&other, "")).unwrap();
    arrives_at(&gateway, &other).await;
}

#[tokio::test]
async fn gateway_keys_and_limits_change_with_the_file() {
    let sim = sim();
    let keys = |list: &str| file(&sim, &format!("[server]\napi_keys = {list}\n"));
    let gateway = Gateway::builder().variable("ORBYT_API_KEYS", "").config(&keys("[\"first-key\"]")).start().await;
    let status = async |key: &str| {
        let url = format!("{}/v1/models", gateway.url);
        client::send("GET", &url, &[("x-api-key", key)], b"").await.unwrap().status
    };
    assert_eq!((status("first-key").await, status("second-key").await), (200, 401));
    std::fs::write(gateway.config_file(), keys("[\"second-key\"]")).unwrap();
    let started = Instant::now();
    while status("second-key").await != 200 {
        assert!(started.elapsed() < PATIENCE, "{}", gateway.output());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(status("first-key").await, 401, "a key that was taken out still works");
}

#[tokio::test]
async fn what_takes_a_restart_is_said() {
    let sim = sim();
    let gateway = Gateway::builder().config(&file(&sim, "")).start().await;
    std::fs::write(gateway.config_file(), file(&sim, "[server]\nworkers = 7")).unwrap();
    gateway.printed("server.workers has changed: it takes effect after a restart").await;
    assert!(!gateway.output().contains("server.listen has changed"), "{}", gateway.output());
    let root = client::send("GET", &gateway.url, &[], b"").await.unwrap().json();
    assert_eq!(root["console"], gateway.console_url.as_str(), "it no longer knows where it listens");
}

#[test]
fn check_names_file_line_and_key_of_every_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("my.toml");
    std::fs::write(
        &config,
        "[server]\nlisten = \"nonsense\"\n[retry]\nmx = 1\n[[provider]]\nid = \"openai\"\n[[provider.key]]\nsecret = { env = \"NOT_SET\" }\n",
    )
    .unwrap();
    let check = |config: &std::path::Path| {
        let mut command = Command::new(binary());
        let command = command.args(["check", "-c"]).arg(config).env_clear().env("HOME", folder.path());
        command.current_dir(folder.path()).output().unwrap()
    };
    let bad = check(&config);
    let text = String::from_utf8(bad.stdout).unwrap() + &String::from_utf8(bad.stderr).unwrap();
    assert!(!bad.status.success());
    for expected in
        ["my.toml:2:10: server.listen", "my.toml:4:1: retry.mx", "my.toml:8:", "NOT_SET", "2 errors, 2 warnings"]
    {
        assert!(text.contains(expected), "{expected} is missing in\n{text}");
    }
    std::fs::write(&config, "[[provider]]\nid = \"ollama\"\n").unwrap();
    let good = check(&config);
    assert!(good.status.success() && String::from_utf8_lossy(&good.stdout).contains("ok: 1 provider"));
    let absent = check(&folder.path().join("absent.toml"));
    assert!(!absent.status.success());
}

/// Starts a gateway that must not start, and returns what it says.
async fn refusal(builder: crate::gateway::Builder) -> String {
    let mut gateway = builder.spawn();
    let status = gateway.ended(PATIENCE).await.expect("it runs");
    assert!(!status.success());
    gateway.output()
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for variable in ["ORBYT_LISTEN", "ORBYT_CONSOLE_LISTEN"] {
        let said = refusal(Gateway::builder().variable(variable, &address)).await;
        assert!(said.contains(&address) && said.contains("in use") && said.contains(variable), "{said}");
    }
}

#[tokio::test]
async fn a_file_with_mistakes_keeps_it_from_starting() {
    let said = refusal(Gateway::builder().config("[nonsense]\nx = 1")).await;
    assert!(said.contains("orbyt.toml:1:") && said.contains("nonsense"), "{said}");
}

#[tokio::test]
async fn without_any_provider_it_starts_and_says_what_to_set() {
    let gateway = Gateway::builder().start().await;
    assert!(gateway.output().contains("OPENAI_API_KEY"), "{}", gateway.output());
    let answer = gateway.chat(&saying("gpt-4o", "x", false)).await;
    let error = &answer.json()["error"];
    assert_eq!((answer.status, &error["code"]), (503, &json!("no_provider")), "{error}");
    assert!(error["message"].as_str().unwrap().contains("OPENAI_API_KEY"), "{error}");
    assert!(!answer.header("retry-after").is_empty());
    let models = client::send("GET", &format!("{}/v1/models", gateway.url), &[("x-api-key", KEY)], b"").await.unwrap();
    assert_eq!((models.status, models.json()["data"].clone()), (200, json!([])));
}

#[tokio::test]
async fn one_key_in_the_environment_is_enough() {
    let (openai, anthropic) = (sim(), Sim::start(SimDialect::Anthropic).unwrap());
    openai.only_keys(&["key-a", "key-b"]);
    let gateway = Gateway::builder()
        .variable("OPENAI_API_KEY", "key-a,key-b")
        .variable("OPENAI_BASE_URL", &openai.base_url())
        .variable("ANTHROPIC_API_KEY", "key-c")
        .variable("ANTHROPIC_BASE_URL", &anthropic.base_url())
        .variable("MINE_API_KEY", "key-a")
        .variable("MINE_BASE_URL", &openai.base_url())
        .start()
        .await;
    for (model, provider) in [
        ("gpt-4o", "openai"),
        ("openai/gpt-4o", "openai"),
        ("claude-sonnet-4-5", "anthropic"),
        ("mine/anything", "mine"),
    ] {
        let answer = gateway.chat(&saying(model, "one two", true)).await;
        assert_eq!((answer.status, answer.header("x-provider")), (200, provider), "{model}: {}", answer.body_text());
        assert_eq!(answer.text(), "one two");
    }
    assert!(gateway.output().contains("openai (2 keys"), "{}", gateway.output());
}

#[tokio::test]
async fn local_models_are_found_by_asking() {
    let sim = sim();
    sim.only_models(&["llama-of-mine", "qwen-of-mine"]);
    let gateway =
        Gateway::builder().variable("VLLM_BASE_URL", &sim.base_url()).variable("VLLM_API_KEY", "k").start().await;
    let url = format!("{}/v1/models", gateway.url);
    let started = Instant::now();
    loop {
        let list = client::send("GET", &url, &[("x-api-key", KEY)], b"").await.unwrap().json();
        if list["data"].as_array().unwrap().iter().any(|model| model["id"] == "vllm/qwen-of-mine") {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "not found: {list}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for model in ["qwen-of-mine", "vllm/llama-of-mine"] {
        let answer = gateway.chat(&saying(model, "one two", false)).await;
        assert_eq!((answer.status, answer.header("x-provider")), (200, "vllm"), "{}", answer.body_text());
    }
}
