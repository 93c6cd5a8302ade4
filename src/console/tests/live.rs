//! Streams of live events: what is seen after a gap, and who may go on watching.

use super::*;
use crate::store::ports::logins::{Holder, Session};

/// A key was taken for an attempt of a request.
fn lease(number: u64) -> LiveEvent {
    let text = |text: &str| Some(Arc::from(text));
    LiveEvent { state: State::Attempt, provider: text("p"), model: text("m"), key: text("p_01"), ..event(number) }
}

/// Opens a stream and reads its head.
fn open(fixture: &Fixture, path: &str, headers: &str) -> BufReader<TcpStream> {
    let mut stream = fixture.connect();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n").unwrap();
    let mut lines = BufReader::new(stream);
    let head = read_until(&mut lines, |line| line.is_empty());
    assert!(
        head[0].ends_with("200 OK") && head.iter().any(|line| line == "content-type: text/event-stream"),
        "{head:?}"
    );
    read_until(&mut lines, |line| line == "retry: 2000");
    lines
}

/// What a stream says until it has ended.
fn to_the_end(lines: &mut BufReader<TcpStream>) -> String {
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "the chunked body ends properly: {rest:?}");
    rest
}

fn session_of(fixture: &Fixture) -> (String, String) {
    let (cookie, csrf) = logged_in(fixture);
    (format!("cookie: {cookie}\r\n"), format!("x-csrf-token: {csrf}\r\n"))
}

#[test]
fn who_comes_back_goes_on_where_it_was_and_hears_of_a_gap_that_nobody_knows() {
    let fixture = start();
    let authorization = format!("authorization: Bearer {TOKEN}\r\n");
    let mut lines = open(&fixture, "/api/v1/live", &authorization);
    fixture.live.send(|| event(1));
    let id = read_until(&mut lines, |line| line.starts_with("id: ")).pop().unwrap().replace("id: ", "");
    read_until(&mut lines, |line| line.contains("\"at_ms\":1"));
    drop(lines);
    fixture.live.send(|| event(2));
    // As a browser does it that connects again, and as the page's script does it with a new stream.
    for (path, headers) in [
        ("/api/v1/live".to_owned(), format!("{authorization}last-event-id: {id}\r\n")),
        (format!("/devtools/events?after={id}"), authorization.clone()),
    ] {
        let mut again = open(&fixture, &path, &headers);
        let seen = read_until(&mut again, |line| line.starts_with("data: ")).join("\n");
        assert!(seen.contains("\"at_ms\":2") && !seen.contains("gap"), "{seen}");
    }
    for unknown in ["0000000000000000.1", "nonsense"] {
        let mut lost = open(&fixture, "/api/v1/live", &format!("{authorization}last-event-id: {unknown}\r\n"));
        read_until(&mut lost, |line| line == "event: gap");
        fixture.live.send(|| event(3));
        read_until(&mut lost, |line| line.contains("\"at_ms\":3"));
    }
}

#[test]
fn who_logs_out_sees_nothing_more() {
    let fixture = start();
    let (cookie, csrf) = session_of(&fixture);
    let (other, _) = session_of(&fixture);
    let mut streams: Vec<_> =
        ["/api/v1/live", "/devtools/events", "/overview/feed"].map(|path| open(&fixture, path, &cookie)).into();
    let mut stays = open(&fixture, "/devtools/events", &other);
    assert_eq!(fixture.send("DELETE /api/v1/session", &format!("{cookie}{csrf}")).status, 204);
    for stream in &mut streams {
        assert!(to_the_end(stream).contains("event: over\ndata: {}\n\n"));
    }
    fixture.live.send(|| event(1));
    read_until(&mut stays, |line| line.contains("\"at_ms\":1"));
}

#[test]
fn another_administrators_token_ends_what_the_one_before_has_opened() {
    let fixture = start();
    let (cookie, _) = session_of(&fixture);
    let by_token = format!("authorization: Bearer {TOKEN}\r\n");
    let mut streams = [open(&fixture, "/api/v1/live", &cookie), open(&fixture, "/api/v1/live", &by_token)];
    *fixture.token.lock() = Some(Secret::new("another").hash());
    // Nobody tells the console: it looks by itself.
    for stream in &mut streams {
        assert!(to_the_end(stream).contains("event: over\n"));
    }
}

#[test]
fn a_session_that_is_over_ends_its_streams() {
    let fixture = start();
    let secret = Secret::new("a cookie");
    let holder = Holder::Administrator(Secret::new(TOKEN).hash());
    let expires_at = now_ms() + 1_500;
    let session = Session { hash: secret.hash(), holder, address: "::1".to_owned(), created_at: now_ms(), expires_at };
    futures::executor::block_on(fixture.logins.begin_session(&session)).unwrap();
    let mut stream = open(&fixture, "/devtools/events", "cookie: orbyt_session=a cookie\r\n");
    assert!(to_the_end(&mut stream).contains("event: over\n"));
    assert!(now_ms() >= expires_at);
}

#[test]
fn leases_are_lines_of_the_feed_and_its_watchers_are_limited_too() {
    let fixture = start();
    let authorization = format!("authorization: Bearer {TOKEN}\r\n");
    let mut feeds: Vec<_> = (0..64).map(|_| open(&fixture, "/overview/feed", &authorization)).collect();
    assert_eq!(fixture.get_with("/overview/feed", TOKEN).status, 503);
    assert_eq!(fixture.get_with("/devtools/events", TOKEN).status, 503);
    assert_eq!(fixture.get("/metrics").status, 200);
    fixture.live.send(|| lease(1));
    fixture.live.send(|| LiveEvent { verdict: Some("next_key".into()), ..lease(2) });
    fixture.live.send(|| LiveEvent { node: Some("b".into()), ..lease(3) });
    let feed = &mut feeds[0];
    let lines = [feed_line(feed), feed_line(feed)];
    assert_eq!(lines, ["p_01 leased \u{2192} p/m", "p_01 leased \u{2192} p/m at b"]);
}

fn feed_line(feed: &mut BufReader<TcpStream>) -> String {
    let data = read_until(feed, |line| line.starts_with("data: ")).pop().unwrap();
    let line: serde_json::Value = serde_json::from_str(&data["data: ".len()..]).unwrap();
    line["text"].as_str().unwrap().to_owned()
}
