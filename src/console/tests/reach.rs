//! Who reaches the console, and what stands on its pages for whom.

use super::*;
use crate::telemetry::alerts::{Condition, Kind, Severity};

#[test]
fn a_public_name_that_points_here_gets_nothing() {
    let fixture = start();
    let status = |path: &str, host: &str| {
        let mut stream = fixture.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    for path in ["/metrics", "/login", "/api/openapi.json", "/livez"] {
        assert_eq!(status(path, "evil.example:4000"), 421, "{path}");
        assert_eq!((status(path, "localhost:4000"), status(path, "127.0.0.1")), (200, 200), "{path}");
    }
}

#[test]
fn bodies_that_do_not_come_and_too_many_connections_keep_nobody_out() {
    let fixture = start();
    let begun = Instant::now();
    let hold = || {
        let mut stream = fixture.connect();
        write!(stream, "POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 60000\r\n\r\nt")
            .unwrap();
        stream
    };
    // More than one address may have. Some of them are refused at once.
    let mut held: Vec<TcpStream> = (0..150).map(|_| hold()).collect();
    let mut first = String::new();
    held[0].read_to_string(&mut first).unwrap();
    assert!(first.starts_with("HTTP/1.1 408 ") && begun.elapsed() >= Duration::from_secs(2), "{first}");
    let mut last = Vec::new();
    // What is refused is reset, or ends without an answer.
    let _ = held.last_mut().unwrap().read_to_end(&mut last);
    assert!(last.is_empty(), "{}", String::from_utf8_lossy(&last));
    let deadline = Instant::now() + Duration::from_secs(10);
    let answers = || {
        let mut stream = fixture.connect();
        write!(stream, "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).is_ok() && text.starts_with(b"HTTP/1.1 200 ")
    };
    while !answers() {
        assert!(Instant::now() < deadline, "the console does not come back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_an_operator_has_to_know_of_stands_on_every_page() {
    let fixture = start();
    let condition = |kind, subject: &str, message: &str| Condition {
        severity: Severity::Warning,
        org: None,
        kind,
        subject: subject.to_owned(),
        message: message.to_owned(),
    };
    let seen = vec![
        condition(Kind::Config, "configuration", "a configuration was refused: <b>orbyt.toml</b>:3"),
        condition(Kind::KeyExhausted, "openai/openai_01", "this key has no quota"),
        condition(Kind::Budget, "key/nightly/day", "the budget of $5 is used up"),
    ];
    fixture.alerts.see(1, Duration::ZERO, seen);
    let page = fixture.get_with("/overview", TOKEN).body;
    for text in ["&lt;b&gt;orbyt.toml&lt;/b&gt;:3", "openai/openai_01", "key/nightly/day", "is used up"] {
        assert!(page.contains(text), "{text} in {page}");
    }
    fixture.alerts.see(2, Duration::ZERO, Vec::new());
    assert!(!fixture.get_with("/overview", TOKEN).body.contains("nightly"));
}

#[test]
fn the_documents_are_there_for_everybody_and_link_to_each_other() {
    let fixture = start();
    let index = fixture.get("/docs");
    assert_eq!(index.status, 200, "{}", index.head);
    assert!(index.head.contains("content-type: text/html"), "{}", index.head);
    let mut checked = 0;
    let mut pages = vec!["/docs".to_owned()];
    let links = |body: &str| -> Vec<String> {
        body.split("href=\"").skip(1).filter_map(|rest| Some(rest.split('"').next()?.to_owned())).collect()
    };
    pages.extend(links(&index.body).into_iter().filter(|link| link.starts_with("/docs/")));
    assert!(pages.len() > 35, "{pages:?}");
    for page in &pages {
        let body = fixture.get(page).body;
        assert_eq!(body.matches("<h1").count(), 1, "{page}");
        assert!(!body.contains(" style=") && !body.contains("<script>") && !body.contains(" onclick="), "{page}");
        for link in links(&body).into_iter().filter(|link| link.starts_with("/docs")) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let linked = fixture.get(path);
            assert_eq!(linked.status, 200, "{link} on {page}");
            assert!(anchor.is_empty() || linked.body.contains(&format!("id=\"{anchor}\"")), "{link} on {page}");
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
    assert_eq!(fixture.get("/docs/nothing").status, 404);
    assert!(fixture.get_with("/overview", TOKEN).body.contains("href=\"/docs\""));
    let (cookie, _) = logged_in(&fixture);
    let inside = fixture.send("GET /docs/budgets", &format!("cookie: {cookie}\r\n")).body;
    assert!(inside.contains("Log out") && inside.contains("href=\"/overview\""), "{inside}");
    assert!(!fixture.get("/docs/budgets").body.contains("Log out"));
}
