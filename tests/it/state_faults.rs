//! What went wrong with state once, between processes: several that begin at once, rows that cannot be read, locks that somebody holds,
//! master keys that are elsewhere, a configuration that is broken in that moment.

use crate::api_keys::{orbyt, said};
use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use crate::postgres::Database;
use orbyt::config::Store;
use orbyt::domain::Secret;
use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Sim, SimDialect};
use orbyt::vault::MasterKey;
use orbyt::wiring::state::State;
use rusqlite::Connection;
use std::path::Path;
use std::time::{Duration, Instant};

const SECRET: &str = "sk-of-the-vault-0123456789";

async fn ask(gateway: &Gateway, key: &str, model: &str) -> Answer {
    gateway.ask("/v1/chat/completions", &[("x-api-key", key)], &saying(model, "x", false)).await
}

async fn until_status(gateway: &Gateway, key: &str, model: &str, expected: u16) {
    let started = Instant::now();
    loop {
        let answer = ask(gateway, key, model).await;
        if answer.status == expected {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{}: {}\n{}", answer.status, answer.body_text(), gateway.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn told(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Adds a key of `openai` to the vault.
fn add(data_dir: &Path, url: Option<&str>, more: &[&str]) {
    said(data_dir, url, &[&["vault", "add", "openai"], more].concat(), SECRET);
}

/// A provider `openai` that has no key but what the vault has.
fn openai(sim: &Sim) -> String {
    format!("[[provider]]\nid = \"openai\"\nbase_url = \"{}\"\n[retry]\nmax = 0\n", sim.base_url())
}

fn used(sim: &Sim) -> String {
    let header = sim.calls().pop().and_then(|call| call.header("authorization").map(str::to_owned));
    header.unwrap_or_default().trim_start_matches("Bearer ").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_gateways_begin_at_once_on_an_empty_postgres() {
    for _ in 0..3 {
        let database = Database::create().await;
        let start = || Gateway::builder().variable("DATABASE_URL", &database.url()).start();
        let (one, two, three, four) = tokio::join!(start(), start(), start(), start());
        for gateway in [one, two, three, four] {
            assert_eq!(gateway.get_console("/readyz").await.unwrap().json()["status"], "ready", "{}", gateway.output());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_somebody_has_locked_is_a_database_that_is_away() {
    let database = Database::create().await;
    let locked = database.superuser().await;
    locked.batch_execute(&format!("SELECT pg_advisory_lock({})", 0x6f_72_62_79_74_i64)).await.unwrap();
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().provider("openai", &sim).variable("DATABASE_URL", &database.url()).start().await;
    assert_eq!(gateway.get_console("/readyz").await.unwrap().json()["status"], "degraded");
    assert_eq!(ask(&gateway, KEY, "openai/sim-ok").await.status, 200);
    locked.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    let key = said(&gateway.data_dir(), Some(&database.url()), &["keys", "create", "--name", "late"], "");
    until_status(&gateway, key.trim(), "openai/sim-ok", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_stay_bounded_while_somebody_holds_a_lock() {
    const POOL: usize = 2;
    let (database, folder) = (Database::create().await, tempfile::tempdir().unwrap());
    let url = Some(Secret::new(database.url()));
    let store = Store { database_url: url, connections: POOL, master_key: None, redis: None, node_name: None };
    let state = State::open(folder.path(), &store).await.unwrap();
    let locked = database.superuser().await;
    locked.batch_execute("BEGIN; LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE").await.unwrap();
    for _ in 0..3 {
        let (one, two) = tokio::join!(state.database.contents(), state.database.contents());
        assert!(one.is_err() && two.is_err(), "{one:?} {two:?}");
    }
    let count =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'orbyt' AND datname = current_database()";
    let connections: i64 = locked.query_one(count, &[]).await.unwrap().get(0);
    assert!(connections <= 1 + POOL as i64, "{connections} connections");
    locked.batch_execute("ROLLBACK").await.unwrap();
    state.database.contents().await.unwrap();
}

#[tokio::test]
async fn a_key_of_the_vault_for_no_provider_is_left_out_by_name() {
    let (sim, state) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    let output = orbyt(state.path(), None, &["vault", "add", "opnai"], SECRET);
    assert!(!output.status.success() && told(&output).contains("there is no provider \"opnai\""), "{}", told(&output));
    let output = orbyt(state.path(), None, &["vault", "add", "openai"], "sk-ant-api03-0123456789");
    assert!(!output.status.success() && told(&output).contains("begins like one of Anthropic"), "{}", told(&output));
    add(state.path(), None, &["--name", "good"]);
    // A provider that the configuration had when its key was added, and has no more.
    let gone = state.path().join("gone.toml");
    std::fs::write(&gone, "[[provider]]\nid = \"gone\"\nbase_url = \"http://127.0.0.1:9\"\n").unwrap();
    said(state.path(), None, &["vault", "add", "gone", "--name", "lost", "-c", gone.to_str().unwrap()], SECRET);
    let data_dir = state.path().to_str().unwrap();
    let builder = Gateway::builder().config(&openai(&sim)).variable("ORBYT_DATA_DIR", data_dir);
    let gateway = builder.start().await;
    gateway.printed("vault key gone/lost: is left out").await;
    assert_eq!(ask(&gateway, KEY, "openai/sim-ok").await.status, 200, "{}", gateway.output());
    assert_eq!(used(&sim), SECRET);
    let output = orbyt(state.path(), None, &["check"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("warning: vault key gone/lost: is left out"), "{text}");
}

#[tokio::test]
async fn what_is_taken_out_of_the_vault_goes_while_the_configuration_is_broken() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().config(&openai(&sim)).start().await;
    add(&gateway.data_dir(), None, &["--name", "one"]);
    said(&gateway.data_dir(), None, &["vault", "add", "openai", "--name", "two"], "sk-another-one-0123456789");
    assert_eq!(ask(&gateway, KEY, "openai/sim-ok").await.status, 200, "the command had returned");
    std::fs::write(gateway.config_file(), "[[provider").unwrap();
    gateway.printed("\"config\":\"refused\"").await;
    let key_names = async || {
        let health = gateway.get_console("/api/v1/health").await.unwrap().json();
        health["providers"][0]["keys"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(key_names().await, 2);
    said(&gateway.data_dir(), None, &["vault", "remove", "one"], "");
    assert_eq!(key_names().await, 1, "{}", gateway.output());
    said(&gateway.data_dir(), None, &["vault", "remove", "two"], "");
    let before = sim.generations();
    assert_ne!(ask(&gateway, KEY, "openai/sim-ok").await.status, 200);
    assert_eq!(sim.generations(), before, "nothing is asked without a key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_is_a_void_key_and_the_others_go_on() {
    let database = Database::create().await;
    for url in [None, Some(database.url())] {
        let (sim, url) = (Sim::start(SimDialect::OpenAi).unwrap(), url.as_deref());
        let builder = Gateway::builder().provider("openai", &sim);
        let gateway = builder.variable("DATABASE_URL", url.unwrap_or_default()).start().await;
        let run = |arguments: &[&str]| said(&gateway.data_dir(), url, arguments, "").trim().to_owned();
        let broken = run(&["keys", "create", "--name", "broken"]);
        let (kept, revoked) = (run(&["keys", "create", "--name", "kept"]), run(&["keys", "create", "--name", "gone"]));
        let harm = "UPDATE api_keys SET scopes = '{\"weekdays\": [\"mon\"]}' WHERE name = 'broken'";
        match url {
            None => {
                let file = Connection::open(gateway.data_dir().join("orbyt.db")).unwrap();
                assert_eq!(file.execute(harm, []).unwrap(), 1);
            }
            Some(_) => assert_eq!(database.superuser().await.execute(harm, &[]).await.unwrap(), 1),
        }
        gateway.printed("cannot be read (api_keys: scopes): it is void").await;
        run(&["keys", "revoke", "gone"]);
        for (key, expected) in [(&kept, 200), (&revoked, 401), (&broken, 401)] {
            until_status(&gateway, key, "openai/sim-ok", expected).await;
        }
        assert!(run(&["keys", "list"]).contains("disabled"));
        run(&["keys", "enable", "broken"]);
        assert_eq!(ask(&gateway, &broken, "openai/sim-ok").await.status, 401, "it is the row that makes it void");
    }
}

#[tokio::test]
async fn two_that_begin_a_vault_at_once_seal_with_one_master_key() {
    for _ in 0..5 {
        let state = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let state = state.path();
            for name in ["a", "b", "c", "d"] {
                scope.spawn(move || add(state, None, &["--name", name]));
            }
        });
        let list = said(state.path(), None, &["vault", "list"], "");
        let mut ids: Vec<&str> = list.lines().skip(1).filter_map(|line| line.split_whitespace().last()).collect();
        ids.dedup();
        let key = std::fs::read_to_string(state.path().join("master.key")).unwrap();
        let id = orbyt::vault::MasterKeys::parse(&key).unwrap().current().map(MasterKey::id);
        assert_eq!((ids.len(), ids.first().map(|id| (*id).to_owned())), (1, id), "{list}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_of_one_postgres_keep_to_one_master_key() {
    let database = Database::create().await;
    let url = database.url();
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    add(here.path(), Some(&url), &["--name", "one"]);
    let other = MasterKey::random().unwrap().to_base64();
    std::fs::write(there.path().join("master.key"), other.as_bytes()).unwrap();
    let output = orbyt(there.path(), Some(&url), &["vault", "add", "openai", "--name", "two"], SECRET);
    assert!(!output.status.success() && told(&output).contains("are sealed with the master key"), "{}", told(&output));
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let start = async |data_dir: &Path| {
        let builder = Gateway::builder().config(&openai(&sim)).variable("DATABASE_URL", &url);
        builder.variable("ORBYT_DATA_DIR", data_dir.to_str().unwrap()).start().await
    };
    // A gateway with another one cannot open the row, until it has the file: nobody has to touch the database for that.
    let elsewhere = start(there.path()).await;
    elsewhere.printed("was sealed with the master key").await;
    std::fs::copy(here.path().join("master.key"), there.path().join("master.key")).unwrap();
    until_status(&elsewhere, KEY, "openai/sim-ok", 200).await;
    // Changed at one gateway alone, the others could open nothing: it is done in two steps.
    let rotate = || orbyt(here.path(), Some(&url), &["vault", "rotate"], "");
    let output = rotate();
    assert!(!output.status.success() && told(&output).contains("nothing was changed"), "{}", told(&output));
    let old = std::fs::read_to_string(here.path().join("master.key")).unwrap();
    let both = format!("{}\n{old}", *MasterKey::random().unwrap().to_base64());
    for data_dir in [here.path(), there.path()] {
        std::fs::write(data_dir.join("master.key"), &both).unwrap();
    }
    add(here.path(), Some(&url), &["--name", "three"]);
    let list = said(here.path(), Some(&url), &["vault", "list"], "");
    let ids: Vec<&str> = list.lines().skip(1).filter_map(|line| line.split_whitespace().last()).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "until the change, the old one seals: {list}");
    let output = rotate();
    assert!(output.status.success() && told(&output).contains("2 keys were sealed anew"), "{}", told(&output));
    assert_eq!(ask(&elsewhere, KEY, "openai/sim-ok").await.status, 200);
    // A gateway that was forgotten goes on with what it has opened.
    std::fs::write(there.path().join("master.key"), &old).unwrap();
    said(here.path(), Some(&url), &["keys", "create", "--name", "a change"], "");
    elsewhere.printed("it serves as it last did").await;
    assert_eq!(ask(&elsewhere, KEY, "openai/sim-ok").await.status, 200);
}

#[tokio::test]
async fn nobody_pays_for_a_key_that_was_saved_and_does_not_open() {
    let (sim, spare) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let state = tempfile::tempdir().unwrap();
    add(state.path(), None, &["--name", "own", "--org", "default"]);
    let key = said(state.path(), None, &["keys", "create", "--name", "team"], "").trim().to_owned();
    let file = Connection::open(state.path().join("orbyt.db")).unwrap();
    file.execute("UPDATE provider_keys SET envelope = 'v1.x'", []).unwrap();
    drop(file);
    let builder = Gateway::builder().provider("openai", &sim).provider("spare", &spare).config("[retry]\nmax = 0\n");
    let gateway = builder.variable("ORBYT_DATA_DIR", state.path().to_str().unwrap()).start().await;
    let answer = ask(&gateway, &key, "openai/sim-ok").await;
    let text = answer.body_text();
    assert!(answer.status == 500 && text.contains("the key \\\"own\\\" that your organisation has saved"), "{text}");
    assert_eq!(sim.generations(), 0, "the gateway's own key paid");
    let mut body = saying("spare/sim-http-500", "x", false);
    body["extra"] = serde_json::json!({"fallback_models": ["openai/sim-ok"]});
    let answer = gateway.ask("/v1/chat/completions", &[("x-api-key", &key)], &body).await;
    assert_ne!(answer.status, 200, "nor as a fallback");
    assert_eq!(sim.generations(), 0);
    assert_eq!(ask(&gateway, KEY, "openai/sim-ok").await.status, 200, "it is nobody else's matter");
}

#[tokio::test]
async fn auto_chooses_among_what_the_key_may_use() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let models: String = (1..=8)
        .map(|number| {
            format!(
                "[[provider.model]]\nid = \"model-{number}\"\ncontext = 100000\nmax_output = 1000\n\
                 input = \"{number}\"\noutput = \"{number}\"\n"
            )
        })
        .collect();
    let names: Vec<String> = (1..=8).map(|number| format!("\"lab/model-{number}\"")).collect();
    let provider = format!(
        "[routing]\nauto = [{}]\n[[provider]]\nid = \"lab\"\nbase_url = \"{}\"\n[[provider.key]]\nsecret = \"s\"\n{models}",
        names.join(", "),
        sim.base_url()
    );
    let gateway = Gateway::builder().config(&provider).start().await;
    let create = ["keys", "create", "--name", "last", "--models", "lab/model-8"];
    let key = said(&gateway.data_dir(), None, &create, "").trim().to_owned();
    let answer = ask(&gateway, &key, "auto").await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.body_text(), gateway.output());
    let asked: Vec<String> = sim.calls().iter().map(|call| call.json()["model"].to_string()).collect();
    assert!(!asked.is_empty() && asked.iter().all(|model| model == "\"model-8\""), "{asked:?}");
}

#[tokio::test]
async fn a_key_of_the_database_shares_no_limit_with_one_of_its_name() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let rule = "[[limits.rule]]\nscope = \"key\"\nmatch = \"team\"\nrequests_per_day = 1\n\
                [server]\napi_keys = [{ name = \"team\", env = \"TEAM_KEY\" }]\n";
    let builder = Gateway::builder().provider("openai", &sim).config(rule).variable("ORBYT_API_KEYS", "");
    let gateway = builder.variable("TEAM_KEY", "of-the-configuration-0123456789").start().await;
    let stored = said(&gateway.data_dir(), None, &["keys", "create", "--name", "team"], "").trim().to_owned();
    for key in ["of-the-configuration-0123456789", &stored] {
        let answers = [ask(&gateway, key, "openai/sim-ok").await, ask(&gateway, key, "openai/sim-ok").await];
        assert_eq!(answers.map(|answer| answer.status), [200, 429], "{key}");
    }
}

#[tokio::test]
async fn an_address_behind_a_hop_that_cannot_be_read_is_not_known() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let proxies = "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let gateway = Gateway::builder().provider("openai", &sim).config(proxies).start().await;
    let create = ["keys", "create", "--name", "office", "--addresses", "192.0.2.0/24"];
    let key = said(&gateway.data_dir(), None, &create, "").trim().to_owned();
    let from = async |hops: &str| {
        let headers = [("x-api-key", key.as_str()), ("x-forwarded-for", hops)];
        let body = saying("openai/sim-ok", "x", false).to_string();
        let url = format!("{}/v1/chat/completions", gateway.url);
        client::send("POST", &url, &headers, body.as_bytes()).await.unwrap().status
    };
    assert_eq!((from("192.0.2.9").await, from("192.0.2.9, 127.0.0.2").await), (200, 200));
    for hops in ["192.0.2.9, unknown", "192.0.2.9, 198.51.100.1.7", "192.0.2.9, [2001:db8::1]"] {
        assert_eq!(from(hops).await, 403, "{hops}");
    }
}

#[tokio::test]
async fn a_change_that_no_gateway_has_heard_of_says_so() {
    let (sim, nobody) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    let gateway = Gateway::builder().provider("openai", &sim).start().await;
    let note = |data_dir: &Path, command: &str| told(&orbyt(data_dir, None, &["keys", command, "team"], ""));
    for data_dir in [gateway.data_dir(), nobody.path().to_owned()] {
        said(&data_dir, None, &["keys", "create", "--name", "team"], "");
    }
    let heard = note(&gateway.data_dir(), "revoke");
    assert!(heard.contains("is void") && !heard.contains("note:"), "{heard}");
    let unheard = note(nobody.path(), "revoke");
    assert!(unheard.contains("note: no gateway runs in") && unheard.contains("orbyt.db"), "{unheard}");
    // A gateway that is there and cannot answer.
    let deaf = std::os::unix::net::UnixListener::bind(nobody.path().join("orbyt.sock")).unwrap();
    said(nobody.path(), None, &["keys", "create", "--name", "team"], "");
    let unheard = note(nobody.path(), "disable");
    assert!(unheard.contains("has not taken it over yet"), "{unheard}");
    drop(deaf);
}
