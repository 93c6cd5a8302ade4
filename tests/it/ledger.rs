//! The ledger of a running gateway: what a client has seen to its end is in it once, whatever is killed, cut off, full or damaged.

use crate::api_keys::{orbyt, said};
use crate::cable::{Cable, Condition};
use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use crate::postgres;
use orbyt::sim::client::{self, Answer, BodyEnd};
use orbyt::sim::{Sim, SimDialect};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

async fn start(sim: &Sim, url: Option<&str>, data_dir: &Path) -> Gateway {
    builder(sim, url, data_dir).start().await
}

fn builder(sim: &Sim, url: Option<&str>, data_dir: &Path) -> crate::gateway::Builder {
    let builder = Gateway::builder().provider("openai", sim).variable("ORBYT_DATA_DIR", data_dir.to_str().unwrap());
    builder.variable("DATABASE_URL", url.unwrap_or_default())
}

/// The rows of the ledger by their ids.
fn rows(data_dir: &Path, url: Option<&str>) -> HashMap<String, Value> {
    let all = said(data_dir, url, &["requests", "list", "--json", "--limit", "1000000"], "");
    let rows: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let by_id: HashMap<_, _> = rows.iter().map(|row| (row["id"].as_str().unwrap().to_owned(), row.clone())).collect();
    assert_eq!(by_id.len(), rows.len(), "a request is listed twice");
    by_id
}

/// The row of an answer, once it is in the database.
async fn row(gateway: &Gateway, data_dir: &Path, url: Option<&str>, answer: &Answer) -> Value {
    let id = answer.header("x-request-id").to_owned();
    let started = Instant::now();
    loop {
        let shown = orbyt(data_dir, url, &["requests", "show", &id], "");
        if shown.status.success() {
            return serde_json::from_slice(&shown.stdout).unwrap();
        }
        assert!(started.elapsed() < PATIENCE, "{id} is not in the ledger\n{}", gateway.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until nothing is left in the spool.
async fn until_drained(gateway: &Gateway) {
    let started = Instant::now();
    let drained =
        |page: &str| page.contains("orbyt_ledger_spool_bytes 0\n") && page.contains("orbyt_ledger_waiting_bytes 0\n");
    // Twice: what a dead process has left is looked for at the start.
    let mut calm = 0;
    while calm < 2 {
        calm = if drained(&gateway.metrics().await) { calm + 1 } else { 0 };
        assert!(started.elapsed() < PATIENCE * 3, "never drained\n{}", gateway.output());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Clients that ask until they are told to stop or nobody answers: the ids of all answers that they have seen to their end.
async fn load(gateway: &Gateway, clients: usize, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<HashSet<String>> {
    let url = format!("{}/v1/chat/completions", gateway.url);
    tokio::spawn(async move {
        let clients = (0..clients).map(|number| {
            let (url, stop) = (url.clone(), stop.clone());
            tokio::spawn(async move {
                let mut seen = Vec::new();
                let body = saying("openai/sim-ok", "one two", number % 2 == 1).to_string();
                while !stop.load(Ordering::Relaxed) {
                    match client::send("POST", &url, &[("x-api-key", KEY)], body.as_bytes()).await {
                        Ok(answer) if answer.end == BodyEnd::Clean => {
                            assert_eq!(answer.status, 200, "{}", answer.body_text());
                            seen.push(answer.header("x-request-id").to_owned());
                        }
                        Ok(_) => {}
                        Err(_) => break,
                    }
                }
                seen
            })
        });
        let mut all = HashSet::new();
        for client in clients.collect::<Vec<_>>() {
            all.extend(client.await.unwrap());
        }
        all
    })
}

/// Ten gateways, one after the other, each killed under load; what clients have seen is in the ledger, and the sums are those of its rows.
async fn killed_ten_times(url: Option<&str>) {
    let (sim, state) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    let mut seen = HashSet::new();
    for round in 0..10 {
        let gateway = start(&sim, url, state.path()).await;
        let before = sim.calls().len();
        let asking = load(&gateway, 8, Arc::default()).await;
        // Who of the eight asks again has seen an answer.
        assert!(sim.until(PATIENCE, |calls| calls.len() > before + 8).await, "{}", gateway.output());
        // At another moment of the writer's each time.
        tokio::time::sleep(Duration::from_millis(150 + 37 * round)).await;
        gateway.signal(libc::SIGKILL);
        let of_round = asking.await.unwrap();
        assert!(!of_round.is_empty());
        seen.extend(of_round);
    }
    let gateway = start(&sim, url, state.path()).await;
    until_drained(&gateway).await;
    let rows = rows(state.path(), url);
    let missing: Vec<_> = seen.iter().filter(|id| !rows.contains_key(*id)).collect();
    assert!(missing.is_empty(), "{} of {} are missing\n{}", missing.len(), seen.len(), gateway.output());
    assert!(seen.iter().all(|id| rows[id]["ended"] == "complete" && rows[id]["usage"]["completion_tokens"] != 0));
    assert_eq!(summed(url, state.path()).await, rows.len() as i64, "what is spent is not what is in the rows");
    assert!(!gateway.metrics().await.contains("orbyt_ledger_damaged_bytes_total 1"));
}

/// How many requests the sums of spending are made of.
async fn summed(url: Option<&str>, data_dir: &Path) -> i64 {
    let query = "SELECT CAST(sum(requests) AS bigint) FROM spend";
    match url {
        None => rusqlite::Connection::open(data_dir.join("orbyt.db"))
            .unwrap()
            .query_row(query, [], |row| row.get(0))
            .unwrap(),
        Some(url) => {
            let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute("SET ROLE orbyt_system").await.unwrap();
            client.query_one(query, &[]).await.unwrap().get(0)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_ten_times_under_load_sqlite_has_every_answer_once() {
    killed_ten_times(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_ten_times_under_load_postgres_has_every_answer_once() {
    let database = postgres::Database::create().await;
    killed_ten_times(Some(&database.url())).await;
}

/// The files of the spool.
fn spooled(data_dir: &Path) -> usize {
    let folders = std::fs::read_dir(data_dir.join("spool")).unwrap().flatten().map(|entry| entry.path());
    let files = folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    files.filter(|file| file.path().extension().is_some_and(|it| it == "spool")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_begins_with_a_budget_takes_its_requests_down_on_the_disk() {
    let (sim, database, state) =
        (Sim::start(SimDialect::OpenAi).unwrap(), postgres::Database::create().await, tempfile::tempdir().unwrap());
    let cable = Cable::to(database.address(), Condition::Whole).await;
    let url = database.url_by(&cable.address());
    said(state.path(), Some(&url), &["budgets", "set", "15", "--org", "default"], "");
    let builder = builder(&sim, Some(&url), state.path()).config("[money]\nunknown_price = \"estimate\"\n");
    let gateway = builder.start().await;
    cable.set(Condition::Cut);
    let answer = gateway.chat(&saying("openai/sim-ok", "one two", false)).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    assert_eq!(spooled(state.path()), 1, "{}", gateway.output());
    gateway.signal(libc::SIGKILL);
    cable.set(Condition::Whole);
    let next = start(&sim, Some(&url), state.path()).await;
    assert_eq!(row(&next, state.path(), Some(&url), &answer).await["ended"], "complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_for_the_whole_run_gets_everything_when_it_is_back() {
    let (sim, database, state) =
        (Sim::start(SimDialect::OpenAi).unwrap(), postgres::Database::create().await, tempfile::tempdir().unwrap());
    let cable = Cable::to(database.address(), Condition::Whole).await;
    let url = database.url_by(&cable.address());
    drop(start(&sim, Some(&url), state.path()).await);
    let mut seen = HashSet::new();
    for condition in [Condition::Cut, Condition::Silent] {
        cable.set(condition);
        let gateway = start(&sim, Some(&url), state.path()).await;
        let stop = Arc::new(AtomicBool::new(false));
        let asking = load(&gateway, 4, stop.clone()).await;
        gateway.printed("the ledger waits in the spool").await;
        stop.store(true, Ordering::Relaxed);
        seen.extend(asking.await.unwrap());
        let page = gateway.metrics().await;
        assert!(page.contains("orbyt_ledger_stuck 1\n") && !page.contains("orbyt_ledger_spool_bytes 0\n"), "{page}");
        // The first is killed, so that the second finds what it has left; that one sees the database come back.
        if condition == Condition::Silent {
            cable.set(Condition::Whole);
            until_drained(&gateway).await;
            gateway.shows("orbyt_ledger_stuck 0\n").await;
        }
    }
    let rows = rows(state.path(), Some(&database.url()));
    assert!(!seen.is_empty() && seen.iter().all(|id| rows.contains_key(id)));
    assert_eq!(summed(Some(&database.url()), state.path()).await, rows.len() as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_counted_and_requests_go_on() {
    let (sim, state) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    // The database has to be made before, and to be whole in its own file.
    let mut first = start(&sim, None, state.path()).await;
    first.signal(libc::SIGTERM);
    assert!(first.ended(PATIENCE).await.is_some());
    let database = std::fs::metadata(state.path().join("orbyt.db")).unwrap().len();
    let blocks = u32::try_from(database / 512).unwrap() + 800;
    let gateway = builder(&sim, None, state.path()).largest_file(blocks).start().await;
    let (stop, started) = (Arc::new(AtomicBool::new(false)), Instant::now());
    let asking = load(&gateway, 4, stop.clone()).await;
    while gateway.metrics().await.contains("orbyt_ledger_waiting_bytes 0\n") {
        assert!(started.elapsed() < PATIENCE * 3, "the disk is never full\n{}", gateway.output());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let seen = asking.await.unwrap();
    let answer = gateway.chat(&saying("openai/sim-ok", "x", false)).await;
    assert_eq!(answer.status, 200);
    gateway.printed("records wait in memory").await;
    let page = gateway.metrics().await;
    assert!(page.contains("orbyt_ledger_lost_total 0\n") && page.contains("orbyt_ledger_stuck 1\n"), "{page}");
    gateway.signal(libc::SIGKILL);
    drop(gateway);
    // With room again, what was on disk is taken over; what was in memory has died with the process.
    let gateway = start(&sim, None, state.path()).await;
    until_drained(&gateway).await;
    // What another process has left comes batch by batch: until the last one there are more sums than rows that were listed before.
    let started = Instant::now();
    let listed = loop {
        let listed = rows(state.path(), None);
        if summed(None, state.path()).await == listed.len() as i64 {
            break listed;
        }
        assert!(started.elapsed() < PATIENCE, "{} rows, and another sum", listed.len());
    };
    assert!(seen.iter().any(|id| listed.contains_key(id)));
    assert!(!gateway.output().contains("panicked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_was_cut_off_or_damaged_gives_what_is_whole_and_says_the_rest() {
    let (sim, database, state) =
        (Sim::start(SimDialect::OpenAi).unwrap(), postgres::Database::create().await, tempfile::tempdir().unwrap());
    let cable = Cable::to(database.address(), Condition::Whole).await;
    let url = database.url_by(&cable.address());
    drop(start(&sim, Some(&url), state.path()).await);
    cable.set(Condition::Cut);
    let gateway = start(&sim, Some(&url), state.path()).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let answer = gateway.chat(&saying("openai/sim-ok", "x", false)).await;
        ids.push(answer.header("x-request-id").to_owned());
    }
    gateway.signal(libc::SIGKILL);
    drop(gateway);
    let mut folders: Vec<_> =
        std::fs::read_dir(state.path().join("spool")).unwrap().map(|it| it.unwrap().path()).collect();
    folders.retain(|folder| folder.join("0000000001.spool").exists());
    assert_eq!(folders.len(), 1, "{folders:?}");
    let path = folders[0].join("0000000001.spool");
    // A batch that is half written behind the five, and a damaged byte in the first.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    let half = bytes[8..100].to_vec();
    std::fs::write(&path, bytes).unwrap();
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&half).unwrap();
    cable.set(Condition::Whole);
    let gateway = start(&sim, Some(&url), state.path()).await;
    until_drained(&gateway).await;
    gateway.printed("are damaged; the file is set aside").await;
    let rows = rows(state.path(), Some(&database.url()));
    let found: Vec<_> = ids.iter().map(|id| rows.contains_key(id)).collect();
    assert_eq!(found, [false, true, true, true, true]);
    let aside =
        |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().to_str().unwrap().ends_with(".damaged");
    assert_eq!(
        std::fs::read_dir(state.path().join("spool")).unwrap().filter(|_| true).map(aside).filter(|it| *it).count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_told_and_nothing_is_lost() {
    let (sim, state) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    drop(start(&sim, None, state.path()).await);
    let path = state.path().join("orbyt.db");
    // The table of requests alone: its root page is overwritten.
    let connection = rusqlite::Connection::open(&path).unwrap();
    let _: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    let page: usize = connection
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'requests'", [], |row| row.get(0))
        .unwrap();
    let size: usize = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    drop(connection);
    let whole = std::fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    bytes[(page - 1) * size..page * size].fill(0xee);
    std::fs::write(&path, bytes).unwrap();
    let gateway = start(&sim, None, state.path()).await;
    let answer = gateway.chat(&saying("openai/sim-ok", "x", false)).await;
    assert_eq!(answer.status, 200, "requests go on");
    gateway.printed("the ledger waits in the spool").await;
    assert!(gateway.output().contains("orbyt.db is damaged") && !gateway.output().contains("panicked"));
    gateway.signal(libc::SIGKILL);
    drop(gateway);
    for name in ["orbyt.db-wal", "orbyt.db-shm"] {
        let _ = std::fs::remove_file(state.path().join(name));
    }
    std::fs::write(&path, whole).unwrap();
    let gateway = start(&sim, None, state.path()).await;
    assert_eq!(row(&gateway, state.path(), None, &answer).await["status"], 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_says_who_asked_for_what_and_how_it_went() {
    let (sim, state) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    let gateway = start(&sim, None, state.path()).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut body = saying("openai/sim-ok", "one two", true);
    body["user"] = json!("kim");
    body["extra"] = json!({"session_id": "s-1", "fallback_models": ["openai/sim-other"]});
    let traced = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [("x-api-key", KEY), ("traceparent", traced.as_str())];
    let answer = gateway.ask("/v1/chat/completions", &headers, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    let row = row(&gateway, state.path(), None, &answer).await;
    let expected = json!({
        "revision": 0, "org": "org_default", "project": "prj_default", "user": "kim", "trace_id": trace, "session_id": "s-1",
        "dialect": "openai_chat", "route": "POST /v1/chat/completions", "requested_model": "openai/sim-ok", "provider": "openai",
        "model": "sim-ok", "strategy": "order", "stream": true, "status": 200, "ended": "complete", "cache": "bypass",
        "fallback": false,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&row[name], value, "{name} of {row:#}");
    }
    assert!(row["key_id"].as_str().unwrap().starts_with("cfg_"));
    assert_eq!(row["bytes_in"], body.to_string().len());
    assert_eq!(row["bytes_out"], answer.body.len(), "{row:#}");
    let attempt = &row["attempts"][0];
    assert_eq!(
        (&attempt["status"], &attempt["verdict"], &attempt["reason"]),
        (&json!(200), &json!("ok"), &Value::Null)
    );
    assert!(row["usage"]["completion_tokens"].as_u64().unwrap() > 0 && row["ttft_us"].as_u64().unwrap() > 0);
    assert!(row["latency_us"].as_u64().unwrap() >= row["overhead_us"].as_u64().unwrap());
    let line = said(state.path(), None, &["requests", "list", "--trace", trace, "--since", "1h"], "");
    assert!(line.contains("openai/sim-ok") && line.contains("200 complete") && line.lines().count() == 1, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_and_cut_off_requests_have_rows_too_and_strangers_have_none() {
    let (sim, state) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    let gateway = start(&sim, None, state.path()).await;
    let refused = gateway.chat(&json!({"model": "openai/sim-ok", "messages": "none"})).await;
    let failed = gateway.chat(&saying("openai/sim-500", "x", false)).await;
    let broken = gateway.chat(&saying("openai/sim-cut-after-tokens", "one two three four five six", true)).await;
    let of = async |answer: &Answer| row(&gateway, state.path(), None, answer).await;
    let (refused, failed_row, broken) = (of(&refused).await, of(&failed).await, of(&broken).await);
    assert_eq!((&refused["status"], &refused["ended"]), (&json!(400), &json!("error")), "{refused:#}");
    assert_eq!(
        (&failed_row["ended"], &failed_row["status"]),
        (&json!("error"), &json!(failed.status)),
        "{failed_row:#}"
    );
    assert!(failed_row["attempts"].as_array().unwrap().len() > 1, "{failed_row:#}");
    assert_eq!(
        (&broken["ended"], &broken["attempts"][0]["verdict"]),
        (&json!("broken"), &json!("broken")),
        "{broken:#}"
    );
    let stranger = gateway.ask("/v1/chat/completions", &[("x-api-key", "wrong")], &saying("m", "x", false)).await;
    assert_eq!(stranger.status, 401);
    assert_eq!(rows(state.path(), None).len(), 3);
    let ingest = gateway.ask("/v1/traces", &[], &json!({})).await;
    assert_eq!((ingest.status, &ingest.json()["error"]["code"]), (410, &json!("no_ingest")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_memory_has_forgotten_is_explained_from_the_ledger() {
    let (sim, state) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    let first = start(&sim, None, state.path()).await;
    let answer = first.chat(&saying("openai/sim-ok", "x", false)).await;
    let path = format!("/api/v1/requests/{}/explain", answer.header("x-request-id"));
    let started = Instant::now();
    let before = loop {
        let shown = first.get_console(&path).await.unwrap();
        if shown.status == 200 {
            break shown.json();
        }
        assert!(started.elapsed() < PATIENCE, "{}", shown.body_text());
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    first.signal(libc::SIGKILL);
    drop(first);
    let second = start(&sim, None, state.path()).await;
    row(&second, state.path(), None, &answer).await;
    let after = second.get_console(&path).await.unwrap();
    assert_eq!(after.status, 200);
    assert_eq!((&after.json()["decision"], &after.json()["request_id"]), (&before["decision"], &before["request_id"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_in_any_row_or_spool() {
    let (sim, state) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    let gateway = start(&sim, None, state.path()).await;
    let mut body = saying("openai/sim-ok", "x", false);
    body["extra"] = json!({"byok": "canary-own-key-0123456789", "session_id": "canary-own-key-0123456789", "trace_id": "key-of-openai"});
    body["user"] = json!("canary-own-key-0123456789");
    let answer = gateway.chat(&body).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    let row = row(&gateway, state.path(), None, &answer).await.to_string();
    assert!(!row.contains("canary") && !row.contains("key-of-openai"), "{row}");
    drop(gateway);
    for folder in [state.path().to_owned(), state.path().join("spool")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap_or_default();
            assert!(!bytes.windows(6).any(|window| window == b"canary"), "{}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_ends_in_order_leaves_nothing_in_the_spool() {
    let (sim, state) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    let mut gateway = start(&sim, None, state.path()).await;
    let answer = gateway.chat(&saying("openai/sim-ok", "x", false)).await;
    gateway.signal(libc::SIGTERM);
    assert!(gateway.ended(PATIENCE).await.is_some());
    assert_eq!(std::fs::read_dir(state.path().join("spool")).unwrap().count(), 0);
    assert!(rows(state.path(), None).contains_key(answer.header("x-request-id")));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_ledger_nothing_is_written() {
    let (sim, state) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    let gateway = builder(&sim, None, state.path()).config("[telemetry]\nledger = false").start().await;
    assert_eq!(gateway.chat(&saying("openai/sim-ok", "x", false)).await.status, 200);
    assert!(!state.path().join("spool").exists() && rows(state.path(), None).is_empty());
}

#[tokio::test]
async fn a_key_in_the_place_of_a_name_is_in_no_row() {
    let (sim, state) = (Sim::start(SimDialect::OpenAi).unwrap(), tempfile::tempdir().unwrap());
    let gateway = start(&sim, None, state.path()).await;
    let secret = &format!("sk-ant-api03-{}", "a1B2c3D4".repeat(6));
    let url = format!("{}/v1/models/{secret}", gateway.url);
    let pasted = client::send("GET", &url, &[("x-api-key", KEY)], b"").await.unwrap();
    let asked = row(&gateway, state.path(), None, &pasted).await;
    assert!(asked["route"].as_str().unwrap().contains("[redacted]") && !asked.to_string().contains(secret), "{asked}");
    let mut body = saying("openai/sim-ok", "one two", false);
    body["user"] = json!(secret);
    let answer = gateway.chat(&body).await;
    let first = row(&gateway, state.path(), None, &answer).await["user"].clone();
    assert!(first.as_str().unwrap().starts_with("[redacted]#"), "{first}");
    body["user"] = json!(format!("{secret}Z"));
    let answer = gateway.chat(&body).await;
    assert_ne!(row(&gateway, state.path(), None, &answer).await["user"], first, "two users stay two");
}
