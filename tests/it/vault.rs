//! Keys of providers in the vault: used as those of the file are, in clear nowhere, and what is wrong with one is told by its name.

use crate::api_keys::{orbyt, said};
use crate::gateway::{Gateway, saying};
use orbyt::sim::{Sim, SimDialect, SimFault, client};
use orbyt::vault::MasterKey;
use rusqlite::Connection;
use std::path::Path;
use std::process::Output;
use std::time::Instant;

const SECRET: &str = "sk-canary-of-the-vault-0123456789";

fn add(data_dir: &Path, provider: &str, name: &str, secret: &str) {
    said(data_dir, None, &with_file(data_dir, &["vault", "add", provider, "--name", name]), secret);
}

/// The arguments with a file that knows the provider `lab`, as the gateway's own does.
fn with_file(data_dir: &Path, arguments: &[&str]) -> Vec<String> {
    let file = data_dir.join("lab.toml");
    std::fs::create_dir_all(data_dir).unwrap();
    std::fs::write(&file, "[[provider]]\nid = \"lab\"\nbase_url = \"http://127.0.0.1:9\"\n").unwrap();
    let file = ["-c".to_owned(), file.to_str().unwrap().to_owned()];
    arguments.iter().map(|argument| (*argument).to_owned()).chain(file).collect()
}

/// A gateway whose provider `lab` wants a key and has none but what the vault has.
async fn gateway(sim: &Sim, data_dir: &Path, master_key: &str) -> Gateway {
    let provider =
        format!("[[provider]]\nid = \"lab\"\nauth = \"bearer\"\nbase_url = \"{}\"\n[retry]\nmax = 0\n", sim.base_url());
    let builder = Gateway::builder().config(&provider).variable("ORBYT_DATA_DIR", data_dir.to_str().unwrap());
    builder.variable("ORBYT_MASTER_KEY", master_key).start().await
}

async fn used_key(gateway: &Gateway, sim: &Sim) -> Option<String> {
    let answer = gateway.chat(&saying("lab/sim-ok", "x", false)).await;
    let call = sim.calls().pop().filter(|_| answer.status == 200)?;
    call.header("authorization").map(|header| header.trim_start_matches("Bearer ").to_owned())
}

async fn until_used(gateway: &Gateway, sim: &Sim, key: Option<&str>) {
    let started = Instant::now();
    while used_key(gateway, sim).await.as_deref() != key {
        assert!(started.elapsed() < crate::gateway::PATIENCE, "{key:?} is not used\n{}", gateway.output());
    }
}

fn open(data_dir: &Path) -> Connection {
    Connection::open(data_dir.join("orbyt.db")).unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_key_in_the_vault_serves_from_the_moment_it_is_there_and_is_in_clear_nowhere() {
    let (sim, state) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    let gateway = gateway(&sim, state.path(), "").await;
    assert_eq!(used_key(&gateway, &sim).await, None);
    add(state.path(), "lab", "one", SECRET);
    until_used(&gateway, &sim, Some(SECRET)).await;
    let health = gateway.get_console("/api/v1/health").await.unwrap().json();
    assert_eq!(health["providers"][0]["keys"][0]["name"], "one", "{health}");
    let sealed_alike = Connection::open(state.path().join("orbyt.db")).unwrap();
    let envelope: String = sealed_alike.query_row("SELECT envelope FROM provider_keys", [], |row| row.get(0)).unwrap();
    assert!(envelope.starts_with("v1.") && !envelope.contains(SECRET), "{envelope}");
    let list = said(state.path(), None, &["vault", "list"], "");
    assert!(list.contains("lab") && list.contains("one") && list.contains("sk-•••789"), "{list}");
    said(state.path(), None, &["vault", "remove", "one"], "");
    until_used(&gateway, &sim, None).await;
    assert!(!gateway.output().contains(SECRET) && !list.contains(SECRET));
    for entry in std::fs::read_dir(state.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(SECRET), "{} holds the key", path.display());
    }
}

#[tokio::test]
async fn the_master_key_is_changed_while_requests_run() {
    let (sim, state) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    add(state.path(), "lab", "one", SECRET);
    let file = state.path().join("master.key");
    let before = std::fs::read_to_string(&file).unwrap();
    let gateway = gateway(&sim, state.path(), "").await;
    let rotate = {
        let data_dir = state.path().to_owned();
        tokio::task::spawn_blocking(move || orbyt(&data_dir, None, &["vault", "rotate"], ""))
    };
    while !rotate.is_finished() {
        assert_eq!(used_key(&gateway, &sim).await.as_deref(), Some(SECRET), "a request failed\n{}", gateway.output());
    }
    let output = rotate.await.unwrap();
    assert!(output.status.success() && told(&output).contains("1 keys were sealed anew"), "{}", told(&output));
    let after = std::fs::read_to_string(&file).unwrap();
    assert!(after != before && after.lines().count() == 1, "the old key is gone");
    assert_eq!(used_key(&gateway, &sim).await.as_deref(), Some(SECRET));
    drop(gateway);
    let again = self::gateway(&sim, state.path(), "").await;
    assert_eq!(used_key(&again, &sim).await.as_deref(), Some(SECRET));
    // What was sealed before does not open with the new key: a copy of the old database is of no use with it.
    std::fs::write(&file, before).unwrap();
    let lost = self::gateway(&sim, state.path(), "").await;
    lost.printed("was sealed with the master key").await;
}

#[tokio::test]
async fn a_wrong_master_key_is_told_by_the_row_and_the_rest_goes_on() {
    let (sim, state) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    add(state.path(), "lab", "one", SECRET);
    let other = MasterKey::random().unwrap().to_base64();
    let gateway = gateway(&sim, state.path(), &other).await;
    gateway.printed("key one of lab: provider_keys/pk_").await;
    gateway.printed("which is not given (ORBYT_MASTER_KEY)").await;
    assert_eq!(used_key(&gateway, &sim).await, None);
    drop(gateway);
    // Both together: the new one seals, the old one still opens. Then everything is moved to the new one.
    let old = std::fs::read_to_string(state.path().join("master.key")).unwrap();
    let both = format!("{},{}", *other, old.trim());
    let with_both = self::gateway(&sim, state.path(), &both).await;
    assert_eq!(used_key(&with_both, &sim).await.as_deref(), Some(SECRET));
    for bad in ["canary!", "YWJj"] {
        let mut refused = Gateway::builder().variable("ORBYT_MASTER_KEY", bad).spawn();
        assert!(!refused.ended(crate::gateway::PATIENCE).await.unwrap().success());
        assert!(refused.output().contains("ORBYT_MASTER_KEY: ") && !refused.output().contains("canary"));
    }
}

#[tokio::test]
async fn a_row_that_was_tampered_with_is_named_and_the_others_serve() {
    let (sim, state) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    add(state.path(), "lab", "good", SECRET);
    add(state.path(), "lab", "victim", "sk-victim-key-0123456789");
    add(state.path(), "lab", "broken", "sk-broken-key-0123456789");
    let database = open(state.path());
    let swap = "UPDATE provider_keys SET envelope = (SELECT envelope FROM provider_keys WHERE name = 'good') WHERE name = 'victim'";
    database.execute(swap, []).unwrap();
    database.execute("UPDATE provider_keys SET envelope = 'v1.x' WHERE name = 'broken'", []).unwrap();
    drop(database);
    let gateway = gateway(&sim, state.path(), "").await;
    gateway.printed("key victim of lab: provider_keys/pk_").await;
    gateway.printed("does not open: it was changed, or taken from another row").await;
    gateway.printed("holds no envelope").await;
    assert_eq!(used_key(&gateway, &sim).await.as_deref(), Some(SECRET));
    let output = orbyt(state.path(), None, &["vault", "rotate"], "");
    assert!(!output.status.success() && told(&output).contains("of lab: provider_keys/pk_"), "{}", told(&output));
    // What could be sealed anew was, what could not is still there, and both master keys are kept.
    assert_eq!(std::fs::read_to_string(state.path().join("master.key")).unwrap().lines().count(), 2);
    assert_eq!(used_key(&gateway, &sim).await.as_deref(), Some(SECRET));
}

#[tokio::test]
async fn a_database_with_a_broken_page_is_told_and_left_alone() {
    let state = tempfile::tempdir().unwrap();
    for number in 0..40 {
        let metadata = format!("filler={}", "x".repeat(400));
        said(state.path(), None, &["keys", "create", "--name", &format!("key {number}"), "--metadata", &metadata], "");
    }
    open(state.path()).execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let file = state.path().join("orbyt.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let pages = bytes.len() / 4096;
    assert!(pages > 8, "{pages}");
    for page in 2..pages {
        bytes[page * 4096..page * 4096 + 2048].fill(0xA5);
    }
    std::fs::write(&file, &bytes).unwrap();
    for command in [&["keys", "list"][..], &["check"], &["serve"]] {
        let output = orbyt(state.path(), None, command, "");
        let text = told(&output) + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && text.contains("orbyt.db is damaged"), "{command:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[tokio::test]
async fn a_lost_master_key_is_not_replaced_behind_the_operators_back() {
    let state = tempfile::tempdir().unwrap();
    add(state.path(), "lab", "one", SECRET);
    let file = state.path().join("master.key");
    let kept = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    for arguments in [&["vault", "add", "lab", "--name", "two"][..], &["vault", "rotate"]] {
        let output = orbyt(state.path(), None, &with_file(state.path(), arguments), "sk-another-key-0123456789");
        assert!(!output.status.success() && told(&output).contains("there is no master key"), "{}", told(&output));
        assert!(!file.exists(), "another one was made");
    }
    std::fs::write(&file, kept).unwrap();
    add(state.path(), "lab", "two", "sk-another-key-0123456789");
}

#[tokio::test]
async fn a_key_that_a_project_has_saved_serves_its_own_requests_and_nobody_elses() {
    const OWN: &str = "sk-canary-of-the-project-0123456789";
    let (sim, state) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    add(state.path(), "lab", "everybodys", SECRET);
    let gateway = gateway(&sim, state.path(), "").await;
    let created = said(state.path(), None, &["keys", "create", "--name", "team"], "");
    let used_by = async |key: &str, model: &str| {
        let body = saying(model, "x", false).to_string();
        let url = format!("{}/v1/chat/completions", gateway.url);
        let answer = client::send("POST", &url, &[("x-api-key", key)], body.as_bytes()).await.unwrap();
        let call = sim.calls().pop().and_then(|call| call.header("authorization").map(str::to_owned));
        (answer, call.unwrap_or_default().trim_start_matches("Bearer ").to_owned())
    };
    let key = created.trim();
    assert_eq!(used_by(key, "lab/sim-ok").await.1, SECRET);
    said(
        state.path(),
        None,
        &with_file(state.path(), &["vault", "add", "lab", "--name", "org", "--org", "default"]),
        "sk-of-the-organisation",
    );
    assert_eq!(used_by(key, "lab/sim-ok").await.1, "sk-of-the-organisation");
    said(
        state.path(),
        None,
        &with_file(state.path(), &["vault", "add", "lab", "--name", "own", "--project", "default"]),
        OWN,
    );
    let (answer, used) = used_by(key, "lab/sim-ok").await;
    assert_eq!((answer.status, used.as_str()), (200, OWN), "the project's goes before the organisation's");
    assert_eq!(used_key(&gateway, &sim).await.as_deref(), Some(SECRET), "a key of the configuration has no project");
    let health = gateway.get_console("/api/v1/health").await.unwrap().json();
    assert_eq!(health["providers"][0]["keys"].as_array().unwrap().len(), 1, "not in the pool: {health}");
    let list = said(state.path(), None, &["vault", "list"], "");
    assert!(list.contains("prj_default") && list.contains("org_default") && list.contains("everybody"), "{list}");
    // A refusal is the client's to hear of; no other key pays for it, and a provider that repeats it gives it to nobody.
    sim.on_key(OWN, SimFault::EchoKey);
    let (answer, used) = used_by(key, "lab/sim-ok").await;
    assert_eq!((answer.status, used.as_str()), (401, OWN), "{}", answer.body_text());
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "byok_refused");
    assert!(error["message"].as_str().unwrap().contains("the key \"own\" that your organisation has saved"), "{error}");
    said(state.path(), None, &["vault", "remove", "own"], "");
    assert_eq!(used_by(key, "lab/sim-ok").await.1, "sk-of-the-organisation");
    assert!(!gateway.output().contains(OWN) && !answer.body_text().contains(OWN));
    let error =
        orbyt(state.path(), None, &with_file(state.path(), &["vault", "add", "lab", "--project", "nowhere"]), OWN);
    assert!(told(&error).contains("--project nowhere: there is no such project"), "{}", told(&error));
}

#[tokio::test]
async fn who_brings_keys_for_others_is_served_with_the_one_that_is_saved() {
    const OWN: &str = "sk-of-the-organisation-0123456789";
    let (lab, spare) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let config = "[routing]\nbyok_fallback = \"deny\"\n";
    let gateway = Gateway::builder().config(config).provider("lab", &lab).provider("spare", &spare).start().await;
    let state = gateway.data_dir();
    let created = said(&state, None, &["keys", "create", "--name", "team"], "");
    let mut body = saying("lab/sim-ok", "x", false);
    body["extra"] = serde_json::json!({"byok": {"spare": "sk-brought-along-0123456789"}});
    let ask = async || gateway.ask("/v1/chat/completions", &[("x-api-key", created.trim())], &body).await;
    let answer = ask().await;
    assert_eq!((answer.status, lab.generations()), (400, 0), "{}", answer.body_text());
    said(&state, None, &with_file(&state, &["vault", "add", "lab", "--name", "own", "--org", "default"]), OWN);
    let answer = ask().await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    let used = lab.calls().pop().and_then(|call| call.header("authorization").map(str::to_owned));
    assert_eq!(used.as_deref(), Some(format!("Bearer {OWN}").as_str()));
}

#[test]
fn a_master_key_that_only_the_service_has_keeps_nobody_from_what_needs_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orbyt.toml");
    std::fs::write(&file, "[store]\nmaster_key = { credential = \"orbyt_master_key\" }\n").unwrap();
    let run = |arguments: &[&str]| {
        orbyt(folder.path(), None, &[arguments, &["--config", file.to_str().unwrap()]].concat(), "")
    };
    for arguments in
        [&["keys", "create", "--name", "team"][..], &["keys", "list"], &["users", "list"], &["audit", "list"]]
    {
        let output = run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let output = run(&["vault", "add", "openai"]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("CREDENTIALS_DIRECTORY"));
}
