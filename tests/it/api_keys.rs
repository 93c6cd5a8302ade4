//! `orbyt keys` beside a running gateway: what is made works, what is revoked does not, and what a key may not do is refused by name.

use crate::gateway::{ADMIN_TOKEN, Gateway, binary, saying};
use crate::postgres;
use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Sim, SimDialect};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Runs a command on the state in this directory, or in this database.
pub fn orbyt(data_dir: &Path, url: Option<&str>, arguments: &[impl AsRef<OsStr>], input: &str) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).env_clear().env("ORBYT_DATA_DIR", data_dir).envs(url.map(|url| ("DATABASE_URL", url)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What a command that has to succeed prints on standard output.
pub fn said(data_dir: &Path, url: Option<&str>, arguments: &[impl AsRef<OsStr>], input: &str) -> String {
    let output = orbyt(data_dir, url, arguments, input);
    let error = String::from_utf8_lossy(&output.stderr);
    let arguments: Vec<_> = arguments.iter().map(AsRef::as_ref).collect();
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn create(gateway: &Gateway, arguments: &[&str]) -> String {
    let all = [&["keys", "create"], arguments].concat();
    said(&gateway.data_dir(), None, &all, "").trim().to_owned()
}

fn run(gateway: &Gateway, arguments: &[&str]) -> String {
    said(&gateway.data_dir(), None, arguments, "")
}

async fn ask_with(gateway: &Gateway, headers: &[(&str, &str)], body: &Value) -> Answer {
    let url = format!("{}/v1/chat/completions", gateway.url);
    client::send("POST", &url, headers, body.to_string().as_bytes()).await.unwrap()
}

async fn ask(gateway: &Gateway, key: &str, model: &str) -> Answer {
    ask_with(gateway, &[("x-api-key", key)], &saying(model, "one two", false)).await
}

async fn status(gateway: &Gateway, key: &str) -> u16 {
    ask(gateway, key, "openai/sim-ok").await.status
}

fn error(answer: &Answer) -> (u16, String, String) {
    let error = &answer.json()["error"];
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    (answer.status, text("code"), text("message"))
}

async fn gateway() -> (Sim, Gateway) {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().provider("openai", &sim).start().await;
    (sim, gateway)
}

#[tokio::test]
async fn a_key_works_when_it_is_printed_and_not_when_it_is_revoked() {
    let (_sim, gateway) = gateway().await;
    let key = create(&gateway, &["--name", "team-a", "--owner", "ada", "--workflow", "nightly"]);
    assert!(key.strip_prefix("sk-or-v1-").is_some_and(|hex| hex.len() == 64), "alone on standard output: {key:?}");
    let answer = ask(&gateway, &key, "openai/sim-ok").await;
    assert_eq!(answer.status, 200, "the command had returned");
    assert_eq!(gateway.log_line(&answer).await["key_name"], "team-a");
    let list = run(&gateway, &["keys", "list"]);
    let shown = format!("sk-or-v1-{}•••{}", &key[9..12], &key[key.len() - 3..]);
    assert!(list.contains("team-a") && list.contains(&shown) && list.contains("active"), "{list}");
    run(&gateway, &["keys", "disable", "team-a"]);
    let (code, _, message) = error(&ask(&gateway, &key, "openai/sim-ok").await);
    assert_eq!((code, message.contains("\"team-a\" is disabled")), (401, true), "{message}");
    run(&gateway, &["keys", "enable", "team-a"]);
    assert_eq!(status(&gateway, &key).await, 200);
    run(&gateway, &["keys", "revoke", "team-a"]);
    let (code, _, message) = error(&ask(&gateway, &key, "openai/sim-ok").await);
    assert_eq!((code, message.contains("\"team-a\" was revoked")), (401, true), "{message}");
    assert!(!run(&gateway, &["keys", "list"]).contains("team-a"));
    assert!(run(&gateway, &["keys", "list", "--all"]).contains("revoked"));
    for entry in std::fs::read_dir(gateway.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(&key), "{} holds the key", path.display());
    }
}

#[tokio::test]
async fn keys_are_made_without_a_gateway_and_known_to_the_next_one() {
    let state = tempfile::tempdir().unwrap();
    let key = said(state.path(), None, &["keys", "create", "--name", "early"], "").trim().to_owned();
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let builder = Gateway::builder().provider("openai", &sim).variable("ORBYT_API_KEYS", "");
    let gateway = builder.variable("ORBYT_DATA_DIR", state.path().to_str().unwrap()).start().await;
    assert_eq!(status(&gateway, &key).await, 200);
    assert!(!state.path().join("first-start-credentials.txt").exists(), "there was a key already");
}

#[tokio::test]
async fn a_rotated_key_has_two_secrets_for_a_while() {
    let (_sim, gateway) = gateway().await;
    let old = create(&gateway, &["--name", "team"]);
    let new = run(&gateway, &["keys", "rotate", "team", "--overlap", "1h"]).trim().to_owned();
    assert_eq!((status(&gateway, &old).await, status(&gateway, &new).await), (200, 200));
    let newest = run(&gateway, &["keys", "rotate", "team", "--overlap", "0"]).trim().to_owned();
    assert_eq!(status(&gateway, &newest).await, 200);
    for over in [&old, &new] {
        let (code, _, message) = error(&ask(&gateway, over, "openai/sim-ok").await);
        assert_eq!((code, message.contains("has expired")), (401, true), "{message}");
    }
}

#[tokio::test]
async fn a_key_ends_by_itself() {
    let (_sim, gateway) = gateway().await;
    let key = create(&gateway, &["--name", "short", "--expires", "1500ms"]);
    assert_eq!(status(&gateway, &key).await, 200);
    let started = Instant::now();
    while status(&gateway, &key).await == 200 {
        assert!(started.elapsed() < Duration::from_secs(10), "it never ends");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(run(&gateway, &["keys", "list"]).contains("expired"));
}

#[tokio::test]
async fn mistakes_name_the_argument() {
    let (_sim, gateway) = gateway().await;
    create(&gateway, &["--name", "taken"]);
    for (arguments, says) in [
        (&["keys", "create", "--name", "taken"][..], "--name taken: there is a key of that name"),
        (&["keys", "create", "--name", " "], "--name must have 1 to 100 characters"),
        (&["keys", "create", "--name", "org/a"], "--name org/a: must not have a slash"),
        (&["keys", "create", "--name", "a", "--expires", "soon"], "--expires soon: must be a duration"),
        (&["keys", "create", "--name", "a", "--addresses", "home"], "\"home\" is neither an address nor a network"),
        (&["keys", "create", "--name", "a", "--project", "x"], "--project x: there is no such project"),
        (&["keys", "create", "--name", "a", "--metadata", "x"], "--metadata x: must be NAME=VALUE"),
        (&["keys", "revoke", "nobody"], "there is no key \"nobody\""),
        (&["keys", "rotate", "taken", "--overlap", "long"], "--overlap long: must be a duration"),
    ] {
        let output = orbyt(&gateway.data_dir(), None, arguments, "");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(says), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn what_a_key_may_not_use_is_refused_by_name_and_not_listed() {
    let (one, two) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let alias = "[[model]]\nname = \"smart\"\ntargets = [\"openai/sim-ok\", \"lab/sim-ok\"]\nfallbacks = [\"lab/sim-ok\"]\n\
                 [[model]]\nname = \"other\"\ntargets = [\"openai/sim-ok\"]\n";
    let gateway = Gateway::builder().provider("openai", &one).provider("lab", &two).config(alias).start().await;
    let by_model = create(&gateway, &["--name", "by-model", "--models", "sim-ok,lab/sim-http-*"]);
    assert_eq!(ask(&gateway, &by_model, "openai/sim-ok").await.status, 200, "a bare name means it at any provider");
    assert_eq!(ask(&gateway, &by_model, "lab/sim-ok").await.status, 200);
    let (code, name, message) = error(&ask(&gateway, &by_model, "openai/gpt-4o").await);
    assert_eq!((code, name.as_str()), (403, "not_allowed"));
    assert!(message.contains("\"by-model\" may not use the model \"openai/gpt-4o\": it may use sim-ok"), "{message}");
    let by_provider = create(&gateway, &["--name", "by-provider", "--providers", "lab"]);
    assert_eq!(ask(&gateway, &by_provider, "lab/anything").await.header("x-provider"), "lab");
    let (code, _, message) = error(&ask(&gateway, &by_provider, "openai/sim-ok").await);
    assert_eq!((code, message.contains("openai/sim-ok")), (403, true), "{message}");
    let answer = ask(&gateway, &by_provider, "smart").await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "lab"), "what is left of the name serves");
    let by_name = create(&gateway, &["--name", "by-name", "--models", "smart"]);
    let through = [ask(&gateway, &by_name, "smart").await.status, ask(&gateway, &by_name, "other").await.status];
    assert_eq!(through, [200, 403]);
    let mut body = saying("lab/sim-ok", "x", false);
    body["extra"] = serde_json::json!({ "fallback_models": ["openai/gpt-4o"] });
    let (code, _, message) = error(&ask_with(&gateway, &[("x-api-key", &by_model)], &body).await);
    assert_eq!((code, message.contains("openai/gpt-4o")), (403, true), "a fallback that was named: {message}");
    let models = async |key: &str, path: &str| {
        client::send("GET", &format!("{}{path}", gateway.url), &[("x-api-key", key)], b"").await.unwrap()
    };
    let listed = models(&by_provider, "/v1/models").await.json();
    let ids: Vec<&str> = listed["data"].as_array().unwrap().iter().filter_map(|model| model["id"].as_str()).collect();
    assert_eq!(ids, ["smart"], "of the catalog's models none is at the only provider allowed");
    assert_eq!(models(&by_provider, "/v1/models/openai/gpt-4o").await.status, 404);
    assert_eq!(one.generations() + two.generations(), 5);
}

#[tokio::test]
async fn a_key_is_held_to_its_addresses_and_routes() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let proxies = "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let gateway = Gateway::builder().provider("openai", &sim).config(proxies).start().await;
    let key = create(&gateway, &["--name", "office", "--addresses", "192.0.2.0/24", "--routes", "/v1/chat/*"]);
    let from = async |address: &str| {
        let headers = [("x-api-key", key.as_str()), ("x-forwarded-for", address)];
        ask_with(&gateway, &headers, &saying("openai/sim-ok", "x", false)).await
    };
    assert_eq!(from("192.0.2.9").await.status, 200);
    let (code, _, message) = error(&from("198.51.100.1").await);
    assert_eq!(code, 403);
    assert!(message.contains("\"office\" may not be used from 198.51.100.1"), "{message}");
    let headers = [("x-api-key", key.as_str()), ("x-forwarded-for", "192.0.2.9")];
    let list = client::send("GET", &format!("{}/v1/models", gateway.url), &headers, b"").await.unwrap();
    let (code, _, message) = error(&list);
    assert_eq!((code, message.contains("may not be used for /v1/models")), (403, true), "{message}");
}

#[tokio::test]
async fn revocation_holds_at_once_here_and_within_a_second_there_under_load() {
    let database = postgres::Database::create().await;
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let start =
        async || Gateway::builder().provider("openai", &sim).variable("DATABASE_URL", &database.url()).start().await;
    let (here, there) = (Arc::new(start().await), Arc::new(start().await));
    let url = database.url();
    let data_dir = here.data_dir();
    let key = said(&data_dir, Some(&url), &["keys", "create", "--name", "load"], "").trim().to_owned();
    there.until_status(&key, 200).await;
    let revoked = Arc::new(AtomicBool::new(false));
    let (late_here, after_a_second) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let late_there = Arc::new(AtomicUsize::new(0));
    let mut load = tokio::task::JoinSet::new();
    for number in 0..200 {
        let (gateway, late, since) = if number % 2 == 0 {
            (here.clone(), late_here.clone(), revoked.clone())
        } else {
            (there.clone(), late_there.clone(), after_a_second.clone())
        };
        let key = key.clone();
        load.spawn(async move {
            let body = saying("openai/sim-ok", "x", true);
            loop {
                let too_late = since.load(Ordering::SeqCst);
                match ask_with(&gateway, &[("x-api-key", &key)], &body).await.status {
                    200 if too_late => {
                        late.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    200 => {}
                    _ => return,
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let revoke = tokio::task::spawn_blocking({
        let url = url.clone();
        move || said(&data_dir, Some(&url), &["keys", "revoke", "load"], "")
    });
    revoke.await.unwrap();
    revoked.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(1)).await;
    after_a_second.store(true, Ordering::SeqCst);
    let all = async { while load.join_next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("requests are accepted for ever");
    let late = (late_here.load(Ordering::SeqCst), late_there.load(Ordering::SeqCst));
    assert_eq!(late, (0, 0), "requests that began after the revocation, here and there");
}

impl Gateway {
    /// Waits until this key is answered so.
    async fn until_status(&self, key: &str, expected: u16) {
        let started = Instant::now();
        while status(self, key).await != expected {
            assert!(started.elapsed() < crate::gateway::PATIENCE, "never {expected}\n{}", self.output());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_new_admin_token_is_in_force_without_a_reload() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().provider("openai", &sim).variable("ORBYT_ADMIN_TOKEN", "").start().await;
    let token = run(&gateway, &["admin", "reset-token"]);
    let health = async |token: &str| {
        let header = format!("Bearer {}", token.trim());
        let url = format!("{}/api/v1/health", gateway.console_url);
        client::send("GET", &url, &[("authorization", &header)], b"").await.unwrap().status
    };
    assert_eq!((health(&token).await, health(ADMIN_TOKEN).await), (200, 401));
    let next = run(&gateway, &["admin", "reset-token"]);
    assert_eq!((health(&next).await, health(&token).await), (200, 401));
}

#[tokio::test]
async fn a_keys_own_limits_hold_in_the_place_of_a_rule() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let rule = "[[limits.rule]]\nscope = \"key\"\nrequests_per_day = 1\n";
    let gateway = Gateway::builder().provider("openai", &sim).config(rule).start().await;
    let plain = create(&gateway, &["--name", "plain"]);
    assert_eq!((status(&gateway, &plain).await, status(&gateway, &plain).await), (200, 429));
    let own = create(&gateway, &["--name", "own", "--rpd", "2", "--tpm", "100000"]);
    let answer = ask(&gateway, &own, "openai/sim-ok").await;
    assert_eq!(answer.header("x-ratelimit-limit-requests"), "2");
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), "100000");
    assert_eq!((status(&gateway, &own).await, status(&gateway, &own).await), (200, 429));
    let list = run(&gateway, &["keys", "list"]);
    assert!(list.contains("requests_per_day=2 tokens_per_minute=100000"), "{list}");
    let small = create(&gateway, &["--name", "small", "--tpm", "3"]);
    let (code, _, message) = error(&ask(&gateway, &small, "openai/sim-ok").await);
    assert_eq!((code, message.contains("tokens per minute: limit 3")), (429, true), "{message}");
    let output = orbyt(&gateway.data_dir(), None, &["keys", "create", "--name", "none", "--rpm", "0"], "");
    assert!(!output.status.success(), "0 is no limit but a mistake");
}

#[tokio::test]
async fn a_keys_own_limits_hold_where_there_is_no_rule_at_all() {
    let (_sim, gateway) = gateway().await;
    let own = create(&gateway, &["--name", "own", "--rpd", "1"]);
    assert_eq!((status(&gateway, &own).await, status(&gateway, &own).await), (200, 429));
    let free = create(&gateway, &["--name", "free"]);
    assert_eq!((status(&gateway, &free).await, status(&gateway, &free).await), (200, 200));
}
