//! The audit log: what is done is in it, and what is done to it shows.

use crate::api_keys::{orbyt, said};
use crate::gateway::{Gateway, saying};
use orbyt::sim::{Sim, SimDialect, SimFault};
use rusqlite::Connection;
use serde_json::Value;
use std::path::Path;

fn entries(data_dir: &Path) -> Vec<Value> {
    let text = said(data_dir, None, &["audit", "list", "--json"], "");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn actions(data_dir: &Path) -> Vec<String> {
    entries(data_dir).iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
}

fn verify(data_dir: &Path, more: &[&str]) -> Result<String, String> {
    let output = orbyt(data_dir, None, &[&["audit", "verify"], more].concat(), "");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn hash(said: &str) -> String {
    said.rsplit(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn every_command_that_changes_something_is_in_it() {
    let state = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], input: &str| said(state.path(), None, arguments, input);
    let key = run(&["keys", "create", "--name", "team", "--models", "a*"], "");
    for command in ["disable", "enable", "rotate", "revoke"] {
        run(&["keys", command, "team"], "");
    }
    run(&["vault", "add", "openai", "--name", "one"], "sk-canary-of-the-audit-log");
    run(&["vault", "rotate"], "");
    run(&["vault", "remove", "one"], "");
    run(&["admin", "reset-token"], "");
    run(&["keys", "create", "--name", "twice"], "");
    assert!(!orbyt(state.path(), None, &["keys", "create", "--name", "twice"], "").status.success());
    let expected = [
        "key.create",
        "key.disable",
        "key.enable",
        "key.rotate",
        "key.revoke",
        "vault.add",
        "vault.rotate",
        "vault.remove",
        "admin.reset_token",
        "key.create",
        "key.create",
        "key.create.failed",
    ];
    assert_eq!(actions(state.path()), expected);
    let all = entries(state.path());
    assert_eq!((&all[0]["details"]["name"], &all[0]["details"]["restrictions"]), (&"team".into(), &"models=a*".into()));
    assert_eq!((&all[0]["org"], &all[0]["seq"]), (&"org_default".into(), &1.into()));
    assert!(all[0]["actor"].as_str().unwrap().contains("uid"), "{}", all[0]);
    let list = run(&["audit", "list", "--limit", "1"], "");
    assert!(list.contains("key.create.failed") && list.lines().count() == 1, "{list}");
    let text = format!("{all:?}{list}");
    assert!(!text.contains("canary") && !text.contains(key.trim()), "a secret is in the log");
    assert!(verify(state.path(), &[]).unwrap().starts_with("12 entries"));
}

#[tokio::test]
async fn what_happens_to_the_gateway_is_in_it() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let keys = ["key-of-openai", "another-key-of-openai"];
    let gateway = Gateway::builder().provider_with_keys("openai", &sim, &keys).start().await;
    sim.on_key("key-of-openai", SimFault::BadKey);
    // One of the two goes first, by chance.
    for _ in 0..20 {
        gateway.chat(&saying("openai/sim-ok", "x", false)).await;
    }
    let written = async |action: &str| {
        let started = std::time::Instant::now();
        while !actions(&gateway.data_dir()).iter().any(|written| written == action) {
            assert!(started.elapsed() < crate::gateway::PATIENCE, "{action} is not in the log");
            tokio::task::yield_now().await;
        }
    };
    written("provider_key.disabled").await;
    let all = entries(&gateway.data_dir());
    let disabled = all.iter().find(|entry| entry["action"] == "provider_key.disabled").unwrap();
    assert!(disabled["target"].as_str().unwrap().starts_with("openai/"), "{disabled}");
    assert_eq!(disabled["actor"], "gateway");
    sim.on_key("another-key-of-openai", SimFault::RateLimitedRetryAfter);
    gateway.chat(&saying("openai/sim-ok", "x", false)).await;
    written("provider_key.cooldown").await;
    gateway.signal(libc::SIGHUP);
    written("config.reload").await;
    assert!(verify(&gateway.data_dir(), &[]).is_ok());
}

#[tokio::test]
async fn what_is_done_to_it_shows() {
    type Harm = (&'static str, &'static str);
    let harms: [Harm; 4] = [
        ("UPDATE audit SET actor = 'nobody' WHERE seq = 2", "entry 2, or the one before it, is not what was written"),
        ("DELETE FROM audit WHERE seq = 2", "entry 2 is missing"),
        ("DELETE FROM audit WHERE seq = 1", "entry 1 is missing"),
        ("DELETE FROM audit WHERE seq = 3", "its end was cut off"),
    ];
    for (harm, message) in harms {
        let state = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            said(state.path(), None, &["keys", "create", "--name", name], "");
        }
        let head = hash(&verify(state.path(), &[]).unwrap());
        assert!(verify(state.path(), &["--head", &head]).is_ok());
        let file = Connection::open(state.path().join("orbyt.db")).unwrap();
        file.execute_batch("DROP TRIGGER audit_not_updated; DROP TRIGGER audit_not_deleted").unwrap();
        file.execute_batch(harm).unwrap();
        drop(file);
        let error = verify(state.path(), &["--head", &head]).unwrap_err();
        assert!(error.contains("tampered with") && error.contains(message), "{harm}: {error}");
    }
}
