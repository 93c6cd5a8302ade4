//! The console as its clients see it, over real sockets.

mod reach;

use super::*;
use crate::config::Source;
use crate::domain::audit::AuditEvent;
use crate::domain::stored_setting::StoredSetting;
use crate::domain::tenancy::SealedKey;
use crate::domain::{RequestId, Secret};
use crate::provider::Catalog;
use crate::store::memory::MemoryLogins;
use crate::store::ports::answers::AnswersHeld;
use crate::store::ports::database::StoreError;
use crate::store::ports::live::{KeyStatus, TargetStatus};
use crate::telemetry::LiveEvent;
use crate::telemetry::alerts::Board;
use crate::telemetry::live::{Node, State};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A configuration in which nothing is configured.
fn snapshot() -> Arc<dyn Fn() -> Arc<Snapshot> + Send + Sync> {
    let catalog = Arc::new(Catalog::builtin().unwrap());
    let process = vec![("HOME".into(), "/nowhere".into()), ("ORBYT_DEVTOOLS_LISTEN".into(), "off".into())];
    let source = Source { file: None, process, dotenv: None, catalog };
    let snapshot = Arc::new(crate::config::load(&source).unwrap().snapshot);
    Arc::new(move || snapshot.clone())
}

/// Behind a console that stands alone.
struct Nothing;

#[async_trait::async_trait]
impl Backstage for Nothing {
    async fn take_over(&self) -> bool {
        true
    }

    async fn add_provider_key(&self, _: SealedKey, _: Secret, _: AuditEvent) -> Result<(), StoreError> {
        Err(StoreError::Refused("there is no vault".to_owned()))
    }

    async fn try_setting(&self, _: StoredSetting) -> Result<(), Unfit> {
        Err(Unfit::general("there is no configuration"))
    }

    fn pool(&self) -> Vec<KeyStatus> {
        Vec::new()
    }

    fn enable_key(&self, _: &str, _: &str) -> bool {
        false
    }

    fn targets(&self) -> Vec<TargetStatus> {
        Vec::new()
    }

    fn cached(&self) -> (AnswersHeld, u64) {
        (AnswersHeld::default(), 0)
    }

    async fn empty_cache(&self) -> bool {
        true
    }
}

const TOKEN: &str = "admin-token-for-tests";

mod live;

struct Fixture {
    console: Console,
    live: Live,
    logins: Arc<MemoryLogins>,
    ready: Arc<AtomicBool>,
    token: Arc<parking_lot::Mutex<Option<KeyHash>>>,
    alerts: Board,
}

fn start() -> Fixture {
    let metrics = Arc::new(Metrics::new("1.2.3").unwrap());
    metrics.limited("global");
    let (live, ready) = (Live::default(), Arc::new(AtomicBool::new(true)));
    let token = Arc::new(parking_lot::Mutex::new(Some(Secret::new(TOKEN).hash())));
    let logins = Arc::new(MemoryLogins::default());
    let (is_ready, expected) = (Arc::clone(&ready), Arc::clone(&token));
    let alerts = Board::default();
    let of_board = alerts.clone();
    let deps = Deps {
        metrics,
        live: live.clone(),
        admin_token: Arc::new(move || *expected.lock()),
        accounts: Arc::new(|| serde_json::Value::Null),
        health: Arc::new(|| serde_json::json!({"providers": {"openai": {"keys": {"openai_01": "idle"}}}})),
        payloads: PayloadStore::new(Arc::default()),
        archive: None,
        operations: Operations::default(),
        ledger: None,
        database: None,
        alerts: Arc::new(move || of_board.active()),
        backstage: Arc::new(Nothing),
        logins: logins.clone(),
        snapshot: snapshot(),
        explain: Arc::new(|id| (id == RequestId::of(1, 2)).then(|| serde_json::json!({"status": 200}))),
        ready: Arc::new(move || is_ready.load(SeqCst)),
        degraded: Arc::new(|| None),
        spending: Arc::new(|| None),
        gateway_urls: vec!["http://127.0.0.1:3001".to_owned()],
        version: "1.2.3",
    };
    let console = Console::start(&[([127, 0, 0, 1], 0).into()], Sharing::Exclusive, deps).unwrap();
    Fixture { console, live, logins, ready, token, alerts }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    #[track_caller]
    fn assert_problem(&self, status: u16) {
        assert_eq!(self.status, status, "{}", self.head);
        assert!(self.head.contains("content-type: application/problem+json\r\n"), "{}", self.head);
        assert_eq!(self.json()["status"], status);
        assert!(self.json()["title"].is_string() && self.json()["detail"].is_string());
    }
}

impl Fixture {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.console.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// One request on a connection of its own; `headers` are whole lines.
    fn send(&self, request_line: &str, headers: &str) -> Answer {
        let mut stream = self.connect();
        write!(stream, "{request_line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: format!("{head}\r\n"), body: body.to_owned() }
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        let headers =
            format!("content-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len());
        self.send(&format!("POST {path}"), &headers)
    }

    fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), "")
    }

    fn get_with(&self, path: &str, token: &str) -> Answer {
        self.send(&format!("GET {path}"), &format!("authorization: Bearer {token}\r\n"))
    }

    /// Begins to watch and reads as far as the first, empty line after the greeting.
    fn watch(&self) -> BufReader<TcpStream> {
        let mut stream = self.connect();
        write!(stream, "GET /api/v1/live HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n").unwrap();
        let mut lines = BufReader::new(stream);
        let head = read_until(&mut lines, |line| line.is_empty());
        assert!(head.iter().any(|line| line == "content-type: text/event-stream"), "{head:?}");
        read_until(&mut lines, |line| line == "retry: 2000");
        lines
    }
}

/// The lines up to one that satisfies `last`, without their ends.
fn read_until(lines: &mut impl BufRead, last: impl Fn(&str) -> bool) -> Vec<String> {
    let mut read = Vec::new();
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the connection has ended after {read:?}");
        let line = line.trim_end().to_owned();
        let found = last(&line);
        read.push(line);
        if found {
            return read;
        }
    }
}

fn event(number: u64) -> LiveEvent {
    LiveEvent::new(RequestId::of(0, number), number, State::Pending)
}

#[test]
fn what_is_open_needs_no_token() {
    let fixture = start();
    let metrics = fixture.get("/metrics");
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    assert!(metrics.body.contains("orbyt_limited_total{limit=\"global\"} 1"), "{}", metrics.body);
    assert_eq!(fixture.get("/livez").json()["status"], "alive");
    assert_eq!(fixture.get("/readyz").status, 200);
    fixture.ready.store(false, SeqCst);
    assert_eq!(fixture.get("/readyz").status, 503);
    assert_eq!(fixture.send("HEAD /metrics", "").body, "");
}

#[test]
fn the_front_page_says_what_this_is_and_where_the_gateway_is() {
    let fixture = start();
    let front = fixture.get("/");
    assert!(front.status == 303 && front.head.contains("location: /overview\r\n"), "{}", front.head);
    let overview = fixture.get("/overview?range=1h");
    assert!(overview.head.contains("location: /login?next=%2Foverview%3Frange%3D1h\r\n"), "{}", overview.head);
    let page = fixture.get("/login");
    assert!(page.body.contains("Orbyt 1.2.3") && page.body.contains("http://127.0.0.1:3001/v1"), "{}", page.body);
    let json = fixture.send("GET /", "accept: application/json\r\n").json();
    assert_eq!((&json["version"], &json["gateway"][0]), (&"1.2.3".into(), &"http://127.0.0.1:3001".into()));
}

#[test]
fn pages_are_for_those_who_are_logged_in_and_load_nothing_from_elsewhere() {
    let fixture = start();
    for path in ["/overview", "/devtools", "/requests", "/pool", "/keys", "/devtools/events", "/overview/feed"] {
        assert_eq!(fixture.get(path).status, 303, "{path}");
    }
    for (path, kind) in [("style.css", "text/css"), ("console.js", "text/javascript"), ("icon.svg", "image/svg+xml")] {
        let file = fixture.get(&format!("/assets/{path}"));
        assert!(file.status == 200 && file.head.contains(&format!("content-type: {kind}")), "{}", file.head);
        let tag = file.head.split("etag: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap().to_owned();
        let again = fixture.send(&format!("GET /assets/{path}"), &format!("if-none-match: {tag}\r\n"));
        assert_eq!((again.status, again.body.as_str()), (304, ""));
    }
    // The administrator's token is as good as a session; what needs the database says so.
    for (path, status) in [("/overview", 200), ("/devtools", 200), ("/pool", 200), ("/models", 200), ("/requests", 404)]
    {
        let page = fixture.get_with(path, TOKEN);
        assert_eq!(page.status, status, "{path}");
        assert!(!page.body.contains("://fonts") && !page.body.contains("style=\"") && !page.body.contains("onclick"));
    }
}

#[test]
fn the_api_is_for_the_holder_of_the_admin_token() {
    let fixture = start();
    for path in ["/api/v1/health", "/api/v1/live"] {
        let refused = fixture.get(path);
        refused.assert_problem(401);
        assert!(refused.head.contains("www-authenticate: Bearer"), "{}", refused.head);
        fixture.get_with(path, "wrong").assert_problem(401);
    }
    let health = fixture.get_with("/api/v1/health", TOKEN);
    assert_eq!(health.json()["providers"]["openai"]["keys"]["openai_01"], "idle");
}

#[test]
fn a_request_is_explained_to_the_administrator() {
    let fixture = start();
    let id = RequestId::of(1, 2);
    let known = format!("/api/v1/requests/{id}/explain");
    fixture.get(&known).assert_problem(401);
    let answer = fixture.get_with(&known, TOKEN);
    assert_eq!((answer.status, &answer.json()["status"]), (200, &serde_json::json!(200)));
    let other = format!("/api/v1/requests/{}/explain", RequestId::of(3, 4));
    fixture.get_with(&other, TOKEN).assert_problem(404);
    fixture.get_with("/api/v1/requests/x/explain", TOKEN).assert_problem(400);
}

#[test]
fn it_is_said_which_node_has_what_a_request_carried() {
    let fixture = start();
    fixture.live.is_called("here".into());
    let _watching = fixture.watch();
    let told = |number: u64, name: &str, console: Option<&str>| {
        let console = console.map(|address| address.parse().unwrap());
        fixture.live.hear(&Arc::new(Node { name: name.into(), console }), [event(number)], 0);
        let id = RequestId::of(0, number);
        let page = fixture.get_with(&format!("/requests/{id}"), TOKEN).body;
        let answer = fixture.get_with(&format!("/api/v1/requests/{id}/payloads"), TOKEN);
        answer.assert_problem(404);
        (page, answer.body, format!("/requests/{id}</code>"))
    };
    let (page, answer, path) = told(1, "there", Some("10.0.0.5:4000"));
    assert!(page.contains("Node <strong>there</strong> alone has"), "{page}");
    assert!(page.contains(&format!("<code>http://10.0.0.5:4000{path}.")), "{page}");
    assert!(answer.contains("node there alone") && answer.contains("10.0.0.5:4000"), "{answer}");
    let (page, _, path) = told(2, "there", Some("127.0.0.1:4000"));
    assert!(page.contains(&format!("<code>http://127.0.0.1:4000{path} (from its own machine")), "{page}");
    let (page, _, path) = told(3, "there", Some("0.0.0.0:4000"));
    assert!(page.contains(&format!("&gt;:4000{path}")) && !page.contains("0.0.0.0"), "{page}");
    let (page, answer, _) = told(4, "there", None);
    assert!(page.contains("Open this page at the console of that node.") && answer.contains("node there"), "{page}");
    // A process before this one, whose console this is now.
    let (page, answer, path) = told(5, "here", Some("127.0.0.1:4000"));
    assert!(page.contains("an upgrade has replaced") && !page.contains(&path), "{page}");
    assert!(answer.contains("an upgrade has replaced"), "{answer}");
}

#[test]
fn a_reload_changes_the_token_and_without_one_nobody_gets_in() {
    let fixture = start();
    *fixture.token.lock() = Some(Secret::new("another").hash());
    fixture.get_with("/api/v1/health", TOKEN).assert_problem(401);
    assert_eq!(fixture.get_with("/api/v1/health", "another").status, 200);
    *fixture.token.lock() = None;
    fixture.get_with("/api/v1/health", "another").assert_problem(401);
    fixture.get_with("/api/v1/health", "").assert_problem(401);
}

#[test]
fn whoever_keeps_guessing_is_told_nothing_more_and_keeps_nobody_out() {
    let fixture = start();
    for _ in 0..10 {
        fixture.get_with("/api/v1/health", "guess").assert_problem(401);
    }
    let closed = fixture.get_with("/api/v1/health", "guess");
    closed.assert_problem(429);
    let wait = closed.head.split("retry-after: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    assert!(wait.is_some_and(|seconds: u64| (1..=60).contains(&seconds)), "{}", closed.head);
    assert_eq!(fixture.get("/metrics").status, 200, "what is open stays open");
    assert_eq!(fixture.get_with("/api/v1/health", TOKEN).status, 200, "the right token passes");
    fixture.get_with("/api/v1/health", "guess").assert_problem(429);
}

#[test]
fn requests_without_a_token_are_not_guesses() {
    let fixture = start();
    for _ in 0..20 {
        fixture.get("/api/v1/health").assert_problem(401);
    }
    assert_eq!(fixture.get_with("/api/v1/health", TOKEN).status, 200);
}

#[test]
fn every_answer_carries_the_security_headers() {
    let fixture = start();
    for path in ["/", "/metrics", "/livez", "/nothing", "/api/v1/health"] {
        let head = fixture.get(path).head;
        for line in [
            "content-security-policy: default-src 'none'; ",
            "x-content-type-options: nosniff\r\n",
            "cache-control: no-store\r\n",
            "x-frame-options: DENY\r\n",
        ] {
            assert_eq!(head.matches(line).count(), 1, "{line} in {head}");
        }
    }
}

#[test]
fn what_is_not_there_and_what_cannot_be_done_are_problems() {
    let fixture = start();
    for path in ["/nothing", "/api/v1/nothing", "/api", "/v1/chat/completions", "/metrics/"] {
        fixture.get(path).assert_problem(404);
    }
    for path in ["/", "/metrics", "/readyz"] {
        let refused = fixture.send(&format!("DELETE {path}"), "");
        refused.assert_problem(405);
        assert!(refused.head.contains("allow: GET,HEAD\r\n"), "{}", refused.head);
    }
    fixture.send("POST /metrics", "content-length: 1000000000\r\n").assert_problem(413);
}

#[test]
fn live_events_arrive_as_they_happen() {
    let fixture = start();
    let mut lines = fixture.watch();
    for number in [1, 2] {
        fixture.live.send(|| event(number));
        let data = read_until(&mut lines, |line| line.starts_with("data: ")).pop().unwrap();
        let json: serde_json::Value = serde_json::from_str(&data["data: ".len()..]).unwrap();
        assert_eq!((&json["at_ms"], &json["state"]), (&number.into(), &"pending".into()));
    }
}

#[test]
fn a_watcher_that_does_not_read_is_told_what_it_missed_and_holds_up_nobody() {
    let fixture = start();
    let mut lines = fixture.watch();
    let began = Instant::now();
    // More than the sockets' buffers and the backlog together can hold.
    for number in 0..20_000 {
        fixture.live.send(|| LiveEvent { model: Some("m".repeat(4_000).into()), ..event(number) });
    }
    assert!(began.elapsed() < Duration::from_secs(10), "sending took {:?}", began.elapsed());
    assert_eq!(fixture.get("/livez").status, 200);
    let missed = read_until(&mut lines, |line| line == "event: missed");
    assert!(missed.len() > 1);
    let count = read_until(&mut lines, |line| line.starts_with("data: ")).pop().unwrap();
    assert!(count.starts_with("data: {\"missed\":"), "{count}");
}

#[test]
fn a_watcher_that_leaves_is_forgotten() {
    let fixture = start();
    let lines = fixture.watch();
    assert_eq!(fixture.live.watchers(), 1);
    drop(lines);
    let deadline = Instant::now() + Duration::from_secs(10);
    while fixture.live.watchers() > 0 {
        assert!(Instant::now() < deadline, "the watcher is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn watchers_are_limited_so_that_the_rest_stays_reachable() {
    let fixture = start();
    let watchers: Vec<_> = (0..64).map(|_| fixture.watch()).collect();
    fixture.get_with("/api/v1/live", TOKEN).assert_problem(503);
    assert_eq!(fixture.get("/metrics").status, 200);
    assert_eq!(watchers.len(), 64);
}

#[test]
fn stopping_ends_the_live_streams_cleanly_and_frees_the_port() {
    let fixture = start();
    let address = fixture.console.addresses()[0];
    let mut lines = fixture.watch();
    let began = Instant::now();
    fixture.console.stop();
    assert!(began.elapsed() < Duration::from_secs(2), "stopping took {:?}", began.elapsed());
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "the chunked body ends properly: {rest:?}");
    assert!(listen::bind(address).is_ok());
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let fixture = start();
    let address = fixture.console.addresses()[0];
    let deps = Deps {
        metrics: Arc::new(Metrics::new("1").unwrap()),
        live: Live::default(),
        admin_token: Arc::new(|| None),
        accounts: Arc::new(|| serde_json::Value::Null),
        health: Arc::new(|| serde_json::Value::Null),
        payloads: PayloadStore::new(Arc::default()),
        archive: None,
        operations: Operations::default(),
        alerts: Arc::new(Vec::new),
        ledger: None,
        database: None,
        backstage: Arc::new(Nothing),
        logins: Arc::new(MemoryLogins::default()),
        snapshot: snapshot(),
        explain: Arc::new(|_| None),
        ready: Arc::new(|| true),
        degraded: Arc::new(|| None),
        spending: Arc::new(|| None),
        gateway_urls: vec![],
        version: "1",
    };
    let error = Console::start(&[address], Sharing::Exclusive, deps).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("in use"), "{error}");
}

/// Logs in with the token and gives the cookie and the token against forged requests.
fn logged_in(fixture: &Fixture) -> (String, String) {
    let begun = fixture.post("/api/v1/session", "", &serde_json::json!({"admin_token": TOKEN}).to_string());
    assert_eq!(begun.status, 201, "{}", begun.body);
    let line = begun.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(line.contains("; HttpOnly; SameSite=Strict; Path=/; Max-Age="), "{line}");
    assert!(!line.contains("Secure"), "{line}");
    let cookie = line.split(';').next().unwrap().to_owned();
    (cookie, begun.json()["csrf_token"].as_str().unwrap().to_owned())
}

#[test]
fn the_token_buys_a_session_which_ends_by_hand_and_with_the_token() {
    let fixture = start();
    let (cookie, csrf) = logged_in(&fixture);
    let inside = format!("cookie: {cookie}\r\n");
    let seen = fixture.send("GET /api/v1/session", &inside).json();
    assert_eq!((&seen["administrator"], &seen["csrf_token"]), (&true.into(), &csrf.as_str().into()));
    assert_eq!(fixture.send("GET /api/v1/health", &inside).status, 200);
    let left = fixture.send("DELETE /api/v1/session", &format!("{inside}x-csrf-token: {csrf}\r\n"));
    assert_eq!(left.status, 204);
    fixture.send("GET /api/v1/health", &inside).assert_problem(401);

    let (cookie, _) = logged_in(&fixture);
    *fixture.token.lock() = Some(Secret::new("another").hash());
    fixture.send("GET /api/v1/health", &format!("cookie: {cookie}\r\n")).assert_problem(401);
}

#[test]
fn a_session_changes_nothing_without_its_token() {
    let fixture = start();
    let (cookie, csrf) = logged_in(&fixture);
    let (_, of_another) = logged_in(&fixture);
    let send = |headers: &str| fixture.send("DELETE /api/v1/session", &format!("cookie: {cookie}\r\n{headers}"));
    send("").assert_problem(403);
    send("x-csrf-token: \r\n").assert_problem(403);
    send(&format!("x-csrf-token: {of_another}\r\n")).assert_problem(403);
    send(&format!("x-csrf-token: {csrf}\r\nsec-fetch-site: cross-site\r\n")).assert_problem(403);
    send(&format!("x-csrf-token: {csrf}\r\norigin: http://evil.example\r\n")).assert_problem(403);
    assert_eq!(send(&format!("x-csrf-token: {csrf}\r\norigin: http://x\r\n")).status, 204);
}

#[test]
fn a_login_is_not_taken_from_another_sites_page_nor_guessed() {
    let fixture = start();
    let body = serde_json::json!({"admin_token": TOKEN}).to_string();
    fixture.post("/api/v1/session", "sec-fetch-site: cross-site\r\n", &body).assert_problem(403);
    let guess = serde_json::json!({"email": "ada@example.com", "password": "a wrong password"}).to_string();
    for _ in 0..10 {
        fixture.post("/api/v1/session", "", &guess).assert_problem(401);
    }
    fixture.post("/api/v1/session", "", &guess).assert_problem(429);
    // Whoever guesses at Ada keeps neither the administrator out nor Kim.
    assert_eq!(fixture.post("/api/v1/session", "", &body).status, 201);
    fixture.post("/api/v1/session", "", &guess.replace("ada", "kim")).assert_problem(401);
}

#[test]
fn what_is_described_is_there_and_nothing_else_is_at_these_paths() {
    let fixture = start();
    let description = fixture.get("/api/openapi.json").json();
    assert_eq!(description["openapi"], "3.1.0");
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() > 30);
    for (path, item) in paths {
        let path = path.replace(['{', '}'], "");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let status = fixture.send(&format!("{method} {path}"), "content-length: 0\r\n").status;
            let is_described = item.get(method.to_ascii_lowercase()).is_some();
            // Who is not logged in hears so wherever there is something; logging in itself wants a body.
            let expected: &[u16] = if is_described { &[401, 415] } else { &[405] };
            assert!(expected.contains(&status), "{method} {path}: {status}");
        }
    }
    let page = fixture.get("/api/docs").body;
    assert!(page.contains("/api/v1/keys/{id}/rotate") && page.contains("Revoke a key, for good"), "{page}");
    assert!(!page.contains("src=") && !page.contains("http://"), "{page}");
}
