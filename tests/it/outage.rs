//! The database away: at the start, and later; closed at once, and silent as when the plug is pulled. The cable is cut, nothing is mocked.

use crate::api_keys::said;
use crate::cable::{Cable, Condition};
use crate::gateway::{Gateway, saying};
use crate::postgres::Database;
use orbyt::sim::client;
use orbyt::sim::{Sim, SimDialect};
use std::path::Path;
use std::time::{Duration, Instant};

async fn start(sim: &Sim, url: &str, data_dir: &Path) -> Gateway {
    let builder = Gateway::builder().provider("openai", sim).variable("DATABASE_URL", url);
    builder.variable("ORBYT_DATA_DIR", data_dir.to_str().unwrap()).variable("ORBYT_API_KEYS", "").start().await
}

async fn status(gateway: &Gateway, key: &str) -> u16 {
    let url = format!("{}/v1/chat/completions", gateway.url);
    let body = saying("openai/sim-ok", "x", false).to_string();
    client::send("POST", &url, &[("x-api-key", key)], body.as_bytes()).await.unwrap().status
}

/// Waits until both listeners say so, with a 200.
async fn until_ready_says(gateway: &Gateway, console: &str, plain: &str) {
    let started = Instant::now();
    loop {
        let of_console = gateway.get_console("/readyz").await.unwrap();
        let of_gateway = client::send("GET", &format!("{}/readyz", gateway.url), &[], b"").await.unwrap();
        assert_eq!((of_console.status, of_gateway.status), (200, 200), "it stays in the load balancer");
        if of_console.json()["status"] == console && of_gateway.json()["status"] == plain {
            return;
        }
        assert!(started.elapsed() < crate::gateway::PATIENCE, "never {console}\n{}", gateway.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until_status(gateway: &Gateway, key: &str, expected: u16) {
    let started = Instant::now();
    while status(gateway, key).await != expected {
        assert!(started.elapsed() < crate::gateway::PATIENCE, "never {expected}\n{}", gateway.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn create(url: &str, name: &str) -> String {
    let elsewhere = tempfile::tempdir().unwrap();
    said(elsewhere.path(), Some(url), &["keys", "create", "--name", name], "").trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_the_database_serves_the_keys_that_were_known_and_recovers() {
    let (sim, database, state) =
        (Sim::start(SimDialect::OpenAi).unwrap(), Database::create().await, tempfile::tempdir().unwrap());
    let cable = Cable::to(database.address(), Condition::Whole).await;
    let url = database.url_by(&cable.address());
    let key = create(&database.url(), "early");
    let gateway = start(&sim, &url, state.path()).await;
    assert_eq!(status(&gateway, &key).await, 200);
    let copy = std::fs::read_to_string(state.path().join("last-known.json")).unwrap();
    assert!(!copy.contains(&key) && !copy.contains("canary"), "the copy on disk holds a secret");
    drop(gateway);
    for condition in [Condition::Cut, Condition::Silent] {
        cable.set(condition);
        let gateway = start(&sim, &url, state.path()).await;
        assert_eq!(status(&gateway, &key).await, 200, "{condition:?}\n{}", gateway.output());
        until_ready_says(&gateway, "degraded", "degraded").await;
        let late = create(&database.url(), &format!("late {condition:?}"));
        cable.set(Condition::Whole);
        until_ready_says(&gateway, "ready", "ok").await;
        until_status(&gateway, &late, 200).await;
        assert!(!gateway.output().contains("canary"), "the password is shown");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_on_while_the_database_is_away_and_what_changed_meanwhile_holds_afterwards() {
    let (sim, database, state) =
        (Sim::start(SimDialect::OpenAi).unwrap(), Database::create().await, tempfile::tempdir().unwrap());
    let cable = Cable::to(database.address(), Condition::Whole).await;
    let key = create(&database.url(), "steady");
    let gateway = start(&sim, &database.url_by(&cable.address()), state.path()).await;
    for (round, condition) in [Condition::Cut, Condition::Silent].into_iter().enumerate() {
        let gone = create(&database.url(), &format!("gone {round}"));
        until_status(&gateway, &gone, 200).await;
        cable.set(condition);
        let cut_at = Instant::now();
        let mut slowest = Duration::ZERO;
        // Until it is noticed and for a while longer: no request waits for the database.
        while cut_at.elapsed() < Duration::from_secs(4) {
            let begun = Instant::now();
            assert_eq!(status(&gateway, &key).await, 200, "{condition:?}");
            slowest = slowest.max(begun.elapsed());
        }
        assert!(slowest < Duration::from_secs(2), "{condition:?}: a request took {slowest:?}");
        until_ready_says(&gateway, "degraded", "degraded").await;
        let elsewhere = tempfile::tempdir().unwrap();
        said(elsewhere.path(), Some(&database.url()), &["keys", "revoke", &format!("gone {round}")], "");
        cable.set(Condition::Whole);
        until_status(&gateway, &gone, 401).await;
        until_ready_says(&gateway, "ready", "ok").await;
    }
    let used = database.superuser().await;
    let count =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'orbyt' AND datname = current_database()";
    let connections: i64 = used.query_one(count, &[]).await.unwrap().get(0);
    assert!(connections <= 2 * 9 + 2, "{connections} connections");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_is_made_up_for_when_the_database_comes() {
    let (sim, database, state) =
        (Sim::start(SimDialect::OpenAi).unwrap(), Database::create().await, tempfile::tempdir().unwrap());
    let cable = Cable::to(database.address(), Condition::Cut).await;
    let gateway = start(&sim, &database.url_by(&cable.address()), state.path()).await;
    until_ready_says(&gateway, "degraded", "degraded").await;
    let shown = state.path().join("first-start-credentials.txt");
    assert!(!shown.exists());
    cable.set(Condition::Whole);
    gateway.until("the first credentials", || shown.exists()).await;
    let text = std::fs::read_to_string(&shown).unwrap();
    let key = text.lines().find_map(|line| line.strip_prefix("API key: ")).unwrap();
    until_status(&gateway, key, 200).await;
}

#[tokio::test]
async fn a_database_that_refuses_the_user_is_told_at_the_start_without_the_password() {
    let database = Database::create().await;
    let wrong = database.url().replace("gate:", "nobody_known:");
    let mut gateway = Gateway::builder().variable("DATABASE_URL", &wrong).spawn();
    assert!(!gateway.ended(crate::gateway::PATIENCE).await.unwrap().success());
    let output = gateway.output();
    assert!(output.contains("refuses") && output.contains("nobody_known") && !output.contains("canary"), "{output}");
    let mut other = Gateway::builder().variable("DATABASE_URL", "mysql://canary@h/x").spawn();
    assert!(!other.ended(crate::gateway::PATIENCE).await.unwrap().success());
    let output = other.output();
    assert!(output.contains("DATABASE_URL: must begin with postgres://") && !output.contains("canary"), "{output}");
}
