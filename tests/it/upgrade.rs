//! `orbyt upgrade`: another process takes over, and no client notices; where it cannot, nothing has happened.

use crate::api_keys::{orbyt, said};
use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use crate::raw::{Connection, H2, chat_request};
use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Sim, SimDialect, Step};
use serde_json::Value;
use std::collections::HashMap;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// The processes that took over from the one that a test has started; killed with the test.
#[derive(Default)]
pub struct Successors(Vec<i32>);

impl Successors {
    /// Upgrades to this very program, which has to go well.
    pub fn upgrade(&mut self, gateway: &Gateway) {
        let output = orbyt(&gateway.data_dir(), None, &["upgrade"], "");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}\n{}", gateway.output());
        self.0.push(serves(&text).unwrap_or_else(|| panic!("no process serves: {text}")));
    }
}

impl Drop for Successors {
    fn drop(&mut self) {
        for pid in self.0.iter().filter_map(|pid| rustix::process::Pid::from_raw(*pid)) {
            // Most have ended by themselves.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// The process that serves, as the command says.
fn serves(text: &str) -> Option<i32> {
    text.lines().find_map(|line| line.strip_prefix("process ")?.split_once(" serves; ")?.0.parse().ok())
}

fn is_alive(pid: i32) -> bool {
    // A child of the test that has ended and was not waited for has no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn sim() -> Sim {
    Sim::start(SimDialect::OpenAi).unwrap()
}

/// A request on a connection of its own.
async fn ask(url: &str, model: &str, text: &str, stream: bool) -> std::io::Result<Answer> {
    let body = saying(model, text, stream).to_string();
    client::send("POST", &format!("{url}/v1/chat/completions"), &[("x-api-key", KEY)], body.as_bytes()).await
}

/// What a failed upgrade says.
fn fails(gateway: &Gateway, arguments: &[&str]) -> String {
    let output = orbyt(&gateway.data_dir(), None, &[&["upgrade"], arguments].concat(), "");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("not upgraded, everything is as before: "), "{text}");
    text
}

/// Asks five times a second, on connections of their own or on one for as long as it is kept, until it is told to stop.
fn asks_on(url: &str, address: &str, is_kept: bool, stop: &Arc<AtomicBool>) -> JoinHandle<Vec<Asked>> {
    let (url, address, stop) = (url.to_owned(), address.to_owned(), stop.clone());
    tokio::spawn(async move {
        let mut all = Vec::new();
        let mut kept = None;
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        while !stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            let begun = Instant::now();
            let answer = if is_kept {
                let mut connection = match kept.take() {
                    Some(connection) => connection,
                    None => Connection::over(TcpStream::connect(&address).await.expect("refused")),
                };
                connection.write(chat_request(&saying("one/quick", "one", false).to_string())).await;
                let answer = connection.answer().await;
                if answer.header("connection") != "close" {
                    kept = Some(connection);
                }
                answer
            } else {
                ask(&url, "one/quick", "one", false).await.expect("refused")
            };
            assert!(answer.looks_complete(), "{}: {}", answer.status, answer.body_text());
            all.push(Asked { id: answer.header("x-request-id").to_owned(), at: Instant::now(), took: begun.elapsed() });
        }
        all
    })
}

/// A request that was answered whole.
struct Asked {
    id: String,
    at: Instant,
    took: Duration,
}

/// How many there were in a second, on the whole and in the second with the fewest, and how long the slowest took.
fn rate(asked: &[Asked], begun: Instant) -> String {
    let seconds = asked.iter().map(|one| one.at.duration_since(begun)).max().unwrap_or_default();
    let mut each = vec![0_u32; usize::try_from(seconds.as_secs()).unwrap()];
    for one in asked {
        let second = usize::try_from(one.at.duration_since(begun).as_secs()).unwrap();
        // The last one is not whole.
        each.get_mut(second).into_iter().for_each(|count| *count += 1);
    }
    let slowest = asked.iter().map(|one| one.took).max().unwrap_or_default();
    let per_second = asked.len() as f64 / seconds.as_secs_f64();
    let fewest = each.iter().min().copied().unwrap_or_default();
    format!(
        "{} requests, {per_second:.0} a second, {fewest} in the second with the fewest, the slowest in {slowest:?}",
        asked.len()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_upgrades_under_load_refuse_nothing_cut_nothing_and_lose_no_record() {
    const STREAMS: usize = 500;
    let sim = sim();
    sim.on_model("long", Step::Paced(Duration::from_millis(400)));
    let mut gateway = Gateway::builder().provider("one", &sim).start().await;
    let mut successors = Successors::default();
    let words = (0..30).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let asking: Vec<_> =
        (0..40).map(|number| asks_on(&gateway.url, gateway.address(), number % 2 == 0, &stop)).collect();
    let mut streams = Vec::new();
    for round in 0..3 {
        // A third of the streams begins before each upgrade, and outlasts the ones that follow.
        for _ in 0..STREAMS / 3 + 1 {
            let (url, words) = (gateway.url.clone(), words.clone());
            streams.push(tokio::spawn(async move { ask(&url, "one/long", &words, true).await.expect("refused") }));
        }
        let begun = streams.len();
        let is_long = |call: &orbyt::sim::Call| memchr::memmem::find(&call.body, b"\"long\"").is_some();
        assert!(sim.until(PATIENCE, |calls| calls.iter().filter(|call| is_long(call)).count() == begun).await);
        successors.upgrade(&gateway);
        assert_eq!(successors.0.len(), round + 1);
    }
    assert!(streams.iter().any(|stream| !stream.is_finished()), "no stream has seen an upgrade");
    let mut ids = Vec::new();
    for stream in streams {
        let answer = stream.await.unwrap();
        assert!(answer.looks_complete() && answer.text() == words, "{}: {}", answer.status, answer.body_text());
        ids.push(answer.header("x-request-id").to_owned());
    }
    stop.store(true, Ordering::Relaxed);
    let mut asked = Vec::new();
    for one in asking {
        asked.extend(one.await.unwrap());
    }
    println!("{} streams, and beside them {}", ids.len(), rate(&asked, begun));
    ids.extend(asked.into_iter().map(|one| one.id));
    assert!(ids.len() > 2 * STREAMS, "only {} requests: nothing was asked beside the streams", ids.len());
    let is_last = |pid: &i32| *pid == *successors.0.last().unwrap();
    gateway
        .until("the end of the processes before", || successors.0.iter().all(|pid| is_last(pid) || !is_alive(*pid)))
        .await;
    gateway.until_process_ended(PATIENCE).await;
    // Each process has written its own; what one left behind is taken over by the last.
    let started = Instant::now();
    let missing = loop {
        let rows = rows(&gateway);
        let missing = ids.iter().filter(|id| rows.get(*id).is_none_or(|row| row["ended"] != "complete")).count();
        if missing == 0 || started.elapsed() > PATIENCE * 3 {
            break missing;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(missing, 0, "of {} requests\n{}", ids.len(), gateway.output());
}

/// The rows of the ledger by their ids, each of which is there once.
fn rows(gateway: &Gateway) -> HashMap<String, Value> {
    let all = said(&gateway.data_dir(), None, &["requests", "list", "--json", "--limit", "1000000"], "");
    let rows: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let by_id: HashMap<_, _> = rows.iter().map(|row| (row["id"].as_str().unwrap().to_owned(), row.clone())).collect();
    assert_eq!(by_id.len(), rows.len(), "a request is listed twice");
    by_id
}

#[tokio::test]
async fn connections_that_are_open_carry_one_request_more_and_are_closed_then() {
    let sim = sim();
    let gateway = Gateway::builder().provider("one", &sim).start().await;
    let mut successors = Successors::default();
    let mut kept = Connection::to(&gateway).await;
    let mut silent = Connection::to(&gateway).await;
    let mut h2 = H2::to(&gateway).await;
    let request = chat_request(&saying("one/sim-ok", "one", false).to_string());
    kept.write(&request).await;
    let first = kept.answer().await;
    assert!(first.looks_complete() && first.header("connection") != "close");
    assert!(h2.chat(saying("one/sim-ok", "one", false).to_string().into()).await.looks_complete());
    successors.upgrade(&gateway);
    for connection in [&mut kept, &mut silent] {
        connection.write(&request).await;
        let answer = connection.answer().await;
        assert!(answer.looks_complete(), "{}", answer.body_text());
        assert_eq!(answer.header("connection"), "close");
    }
    assert!(gateway.chat(&saying("one/sim-ok", "one", false)).await.looks_complete());
}

#[tokio::test]
async fn the_successor_has_all_that_the_process_before_had() {
    let sim = sim();
    let mut gateway = Gateway::builder().provider("one", &sim).start().await;
    let mut successors = Successors::default();
    successors.upgrade(&gateway);
    assert!(gateway.until_process_ended(PATIENCE).await.success());
    // The console.
    assert_eq!(gateway.get_console("/readyz").await.unwrap().status, 200);
    // The bell: what has changed is in force when the command returns, and that it is says nothing more.
    let made = orbyt(&gateway.data_dir(), None, &["keys", "create", "--name", "late"], "");
    let note = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success() && !note.contains("no gateway runs"), "{note}");
    let key = String::from_utf8(made.stdout).unwrap();
    let body = saying("one/sim-ok", "one", false);
    let answer = gateway.ask("/v1/chat/completions", &[("x-api-key", key.trim())], &body).await;
    assert!(answer.looks_complete(), "{}", answer.body_text());
    // The order to be replaced, and the end.
    successors.upgrade(&gateway);
    gateway.until("the end of the first successor", || !is_alive(successors.0[0])).await;
    let last = rustix::process::Pid::from_raw(successors.0[1]).unwrap();
    rustix::process::kill_process(last, rustix::process::Signal::TERM).unwrap();
    gateway.until("the end of the second", || !is_alive(successors.0[1])).await;
    // Its sockets are closed a moment after its memory.
    gateway.until("nobody to listen", || std::net::TcpStream::connect(gateway.address()).is_err()).await;
    let text = orbyt(&gateway.data_dir(), None, &["upgrade"], "");
    let text = String::from_utf8_lossy(&text.stderr).into_owned();
    assert!(text.contains("no gateway that can be upgraded runs in"), "{text}");
}

#[tokio::test]
async fn an_upgrade_that_fails_says_why_and_changes_nothing() {
    let sim = sim();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = "[server]\nlisten = [\"127.0.0.1:0\"]\n";
    let gateway = Gateway::builder().variable("ORBYT_LISTEN", "").config(listen).provider("one", &sim).start().await;
    let mut successors = Successors::default();
    sim.on_model("long", Step::Paced(Duration::from_millis(100)));
    let (url, words) = (gateway.url.clone(), vec!["word"; 30].join(" "));
    let running = tokio::spawn(async move { ask(&url, "one/long", &words, true).await.unwrap() });
    assert!(sim.until(PATIENCE, |calls| calls.len() == 1).await);

    let text = fails(&gateway, &["--binary", "/no/such/orbyt"]);
    assert!(text.contains("cannot start /no/such/orbyt: "), "{text}");
    let text = fails(&gateway, &["--binary", "/bin/false"]);
    assert!(text.contains("ended before it served: exit status: 1"), "{text}");
    let good = std::fs::read_to_string(gateway.config_file()).unwrap();
    std::fs::write(gateway.config_file(), format!("[serve]\n{good}")).unwrap();
    let text = fails(&gateway, &[]);
    assert!(text.contains("cannot serve: error: ") && text.contains("orbyt.toml:1:2: serve: unknown key"), "{text}");
    let port = taken.local_addr().unwrap();
    let other = good.replace("[\"127.0.0.1:0\"]", &format!("[\"127.0.0.1:0\", \"{port}\"]"));
    assert_ne!(other, good);
    std::fs::write(gateway.config_file(), &other).unwrap();
    let text = fails(&gateway, &[]);
    assert!(text.contains(&format!("cannot serve: cannot listen on {port}: the port is in use")), "{text}");

    assert!(gateway.chat(&saying("one/sim-ok", "one", false)).await.looks_complete());
    assert!(running.await.unwrap().looks_complete());
    assert!(!gateway.output().contains("accepts no more connections"), "{}", gateway.output());
    // The same file, once the port is free: an upgrade also takes what a reload cannot.
    drop(taken);
    successors.upgrade(&gateway);
    let asked = ask(&format!("http://{port}"), "one/sim-ok", "one", false).await.unwrap();
    assert!(asked.looks_complete(), "{}", asked.body_text());
    assert!(gateway.chat(&saying("one/sim-ok", "one", false)).await.looks_complete());
}

#[tokio::test]
async fn the_service_manager_is_told_which_process_is_the_main_one_and_hears_no_other() {
    let sim = sim();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let builder = Gateway::builder().variable("NOTIFY_SOCKET", socket.to_str().unwrap());
    let mut gateway = builder.provider("one", &sim).start().await;
    let mut successors = Successors::default();
    successors.upgrade(&gateway);
    let hear = || {
        let mut text = [0; 256];
        let length = manager.recv(&mut text).expect("it is not told");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    // systemd hears the main process alone: the successor has to wait until it is that.
    assert!(hear().starts_with("READY=1\n"));
    assert_eq!(hear(), format!("MAINPID={}\n", successors.0[0]));
    assert!(hear().starts_with("READY=1\nSTATUS=serving\n"));
    assert!(gateway.until_process_ended(PATIENCE).await.success());
    assert!(is_alive(successors.0[0]));
    manager.set_nonblocking(true).unwrap();
    assert!(manager.recv(&mut [0; 256]).is_err(), "the process that was replaced has spoken of its end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_upgrades_at_once_neither_waits_for_the_end_of_a_process() {
    let sim = sim();
    sim.on_model("long", Step::Paced(Duration::from_millis(500)));
    let gateway = Gateway::builder().provider("one", &sim).start().await;
    let (url, words) = (gateway.url.clone(), vec!["word"; 60].join(" "));
    let running = tokio::spawn(async move { ask(&url, "one/long", &words, true).await });
    assert!(sim.until(PATIENCE, |calls| calls.len() == 1).await);
    let order = || {
        let data_dir = gateway.data_dir();
        tokio::task::spawn_blocking(move || orbyt(&data_dir, None, &["upgrade"], ""))
    };
    let (one, other) = (order(), order());
    let mut serving = 0;
    let mut successors = Successors::default();
    for output in [one.await.unwrap(), other.await.unwrap()] {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        match serves(&text) {
            Some(pid) => {
                successors.0.push(pid);
                serving += 1;
            }
            None => assert!(text.contains("has been replaced, or has ended, in this moment"), "{text}"),
        }
    }
    assert!(serving > 0 && !running.is_finished());
    assert!(gateway.chat(&saying("one/sim-ok", "one", false)).await.looks_complete());
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_whose_new_process_fails_is_not_kept_down_by_the_streams_of_the_old_one() {
    let sim = sim();
    sim.on_model("long", Step::Paced(Duration::from_millis(300)));
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let _manager = UnixDatagram::bind(&socket).unwrap();
    let builder = Gateway::builder().variable("NOTIFY_SOCKET", socket.to_str().unwrap());
    let mut gateway = builder.config("[server]\ngrace = \"1s\"\n").provider("one", &sim).start().await;
    let (url, words) = (gateway.url.clone(), vec!["word"; 200].join(" "));
    let running = tokio::spawn(async move { ask(&url, "one/long", &words, true).await.unwrap() });
    assert!(sim.until(PATIENCE, |calls| calls.len() == 1).await);
    let mut successors = Successors::default();
    successors.upgrade(&gateway);
    drop(successors);
    // systemd, which sees nobody left, starts it anew.
    assert!(gateway.until_process_ended(PATIENCE).await.success());
    gateway.printed("which has taken over, has ended: signal: 9").await;
    let answer = running.await.unwrap();
    assert!(answer.status == 200 && !answer.looks_complete(), "{}", answer.body_text());
}
