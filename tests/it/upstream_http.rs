//! What providers, and the proxies in front of them, do with HTTP itself: interim answers, trailers, wrong lengths, compression, redirects, and
//! streams with odd line ends. What can be read is an answer; what cannot is the next target's, and poisons no later request.

use crate::gateway::{Gateway, saying};
use crate::messages::{Message, asking};
use orbyt::sim::client::BodyEnd;
use orbyt::sim::{Act, Sim, SimDialect, Step};
use serde_json::{Value, json};

const JSON: &str = "content-type: application/json\r\n";
const SSE: &str = "content-type: text/event-stream\r\n";

struct Bench {
    gateway: Gateway,
    first: Sim,
}

async fn bench() -> Bench {
    let (first, second) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let config = "[retry]\nmax = 0\n[breaker]\nenabled = false\n";
    let builder = Gateway::builder().config(config).provider("first", &first).provider("second", &second);
    let bench = Bench { gateway: builder.start().await, first };
    // It lives as long as the test does.
    std::mem::forget(second);
    bench
}

impl Bench {
    /// The provider's next answer, byte by byte as it is.
    fn says(&self, raw: impl Into<Vec<u8>>, closes: bool) {
        let acts = std::iter::once(Act::Write(raw.into())).chain(closes.then_some(Act::Close)).collect();
        self.first.script([Step::Acts(acts)]);
    }

    /// Asks by chat completions, with the second provider to fall back on; who served, and the text.
    async fn ask(&self, stream: bool) -> (String, String) {
        let mut body = saying("first/sim-ok", "one two", stream);
        body["extra"] = json!({"fallback_models": ["second/sim-ok"]});
        let answer = self.gateway.chat(&body).await;
        assert_eq!((answer.status, answer.end), (200, BodyEnd::Clean), "{}", answer.body_text());
        assert!(answer.looks_complete(), "{}", answer.body_text());
        (answer.header("x-provider").to_owned(), answer.text())
    }

    async fn served_by(&self, stream: bool, raw: impl Into<Vec<u8>>, closes: bool, what: &str) -> String {
        self.says(raw, closes);
        let (provider, text) = self.ask(stream).await;
        assert_eq!(text, if provider == "first" { "from afar" } else { "one two" }, "{what}");
        // Nothing of it is left for the next one.
        assert_eq!(self.ask(stream).await, ("first".to_owned(), "one two".to_owned()), "after {what}");
        provider
    }
}

fn whole() -> String {
    json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "from afar"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
    .to_string()
}

fn chunks() -> Vec<String> {
    let chunk = |delta: Value, finish: Value| {
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
               "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        .to_string()
    };
    vec![
        chunk(json!({"role": "assistant", "content": "from "}), Value::Null),
        chunk(json!({"content": "afar"}), Value::Null),
        chunk(json!({}), json!("stop")),
        "[DONE]".to_owned(),
    ]
}

/// The stream with these ends of lines.
fn events(line_end: &str) -> String {
    chunks().iter().map(|data| format!("data: {data}{line_end}{line_end}")).collect()
}

fn sized(head: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{head}content-length: {}\r\n\r\n{body}", body.len())
}

fn chunked(head: &str, body: &str, end: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n{end}", body.len())
}

#[tokio::test]
async fn what_is_odd_but_can_be_read_is_an_answer() {
    let bench = bench().await;
    let (body, stream) = (whole(), events("\n"));
    let until_close = |head: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{head}connection: close\r\n\r\n{body}");
    for (what, streams, raw, closes) in [
        (
            "interim answers",
            false,
            format!(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n{}",
                sized(JSON, &body)
            ),
            false,
        ),
        ("trailers", false, chunked(JSON, &body, "0\r\nx-checksum: abc\r\nx-more: 1\r\n\r\n"), false),
        ("trailers of a stream", true, chunked(SSE, &stream, "0\r\nx-checksum: abc\r\n\r\n"), false),
        ("an extension of a chunk", false, chunked(JSON, &body, "0;last=1\r\n\r\n"), false),
        ("identity", false, sized(&format!("{JSON}content-encoding: identity\r\n"), &body), false),
        ("an end by closing", false, until_close(JSON, &body), true),
        ("a stream that ends by closing", true, until_close(SSE, &stream), true),
        ("HTTP/1.0", false, format!("HTTP/1.0 200 OK\r\n{JSON}\r\n{body}"), true),
        ("no reason phrase", false, sized(JSON, &body).replace("200 OK", "200"), false),
        ("201", false, sized(JSON, &body).replace("200 OK", "201 Created"), false),
        ("another media type", true, sized("content-type: text/plain\r\n", &stream), false),
        ("CRLF", true, sized(SSE, &events("\r\n")), false),
        ("a byte order mark", true, sized(SSE, &format!("\u{feff}{stream}")), false),
        ("a byte order mark before JSON", false, sized(JSON, &format!("\u{feff}{body}")), false),
        ("fields that mean nothing here", true, sized(SSE, &format!("retry: 5\n\nid: 7\n{stream}")), false),
        ("data without a space", true, sized(SSE, &stream.replace("data: ", "data:")), false),
        ("no last empty line", true, sized(SSE, stream.trim_end()), false),
        ("a whole answer for a stream", true, sized(JSON, &body), false),
    ] {
        assert_eq!(bench.served_by(streams, raw, closes, what).await, "first", "{what}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_the_next_targets() {
    let bench = bench().await;
    let (body, stream) = (whole(), events("\n"));
    let half = &body[..body.len() / 2];
    for (what, streams, raw, closes) in [
        ("no content", false, "HTTP/1.1 204 No Content\r\n\r\n".to_owned(), false),
        ("no content for a stream", true, "HTTP/1.1 204 No Content\r\n\r\n".to_owned(), false),
        ("an empty body", false, sized(JSON, ""), false),
        (
            "a redirect",
            false,
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_owned(),
            false,
        ),
        ("not modified", false, "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(), false),
        ("an upgrade", false, "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n".to_owned(), true),
        ("no last chunk", false, chunked(JSON, &body, ""), true),
        ("half a last chunk", false, chunked(JSON, &body, "0\r\n"), true),
        (
            "a chunk that is cut",
            false,
            format!("HTTP/1.1 200 OK\r\n{JSON}transfer-encoding: chunked\r\n\r\nfff\r\n{half}"),
            true,
        ),
        ("a length that is no number", false, chunked(JSON, &body, "zz\r\n\r\n"), true),
        ("a body that is too short", false, sized(JSON, &body).replace("content-length: ", "content-length: 1"), true),
        ("a body that is half there", false, sized(JSON, half), false),
        ("a negative length", false, format!("HTTP/1.1 200 OK\r\n{JSON}content-length: -5\r\n\r\n{body}"), true),
        ("gzip", false, sized(&format!("{JSON}content-encoding: gzip\r\n"), "\u{1f}\u{8b}binary"), false),
        ("br", true, sized(&format!("{SSE}content-encoding: br\r\n"), &stream), false),
        ("no HTTP", false, "SSH-2.0-OpenSSH_9.9\r\n".to_owned(), true),
        ("a head without an end", false, "HTTP/1.1 200 OK\r\ncontent-type: appl".to_owned(), true),
    ] {
        assert_eq!(bench.served_by(streams, raw, closes, what).await, "second", "{what}");
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_are_not_the_next_one() {
    let bench = bench().await;
    let body = whole();
    let foreign = sized(JSON, &body.replace("from afar", "somebody else's"));
    for (what, raw) in [
        ("a second answer", format!("{}{foreign}", sized(JSON, &body))),
        ("a longer body", format!("{}garbage", sized(JSON, &body))),
        ("an answer behind the last chunk", format!("{}{foreign}", chunked(JSON, &body, "0\r\n\r\n"))),
        (
            "two framings",
            format!(
                "HTTP/1.1 200 OK\r\n{JSON}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            ),
        ),
    ] {
        // Either can be told; what must not happen is that the next request gets what is left.
        bench.served_by(false, raw, false, what).await;
    }
}

#[tokio::test]
async fn what_a_compressed_refusal_says_is_not_repeated() {
    let bench = bench().await;
    let words = "\u{1f}\u{8b}\u{8}not to be shown";
    for (status, expected) in [("400 Bad Request", 400), ("500 Oops", 503), ("429 Too Many Requests", 429)] {
        let raw = format!(
            "HTTP/1.1 {status}\r\n{JSON}content-encoding: gzip\r\nretry-after: 0\r\ncontent-length: {}\r\n\r\n{words}",
            words.len()
        );
        bench.says(raw, false);
        let answer = bench.gateway.chat(&saying("first/sim-ok", "x", false)).await;
        assert_eq!(answer.status, expected, "{}", answer.body_text());
        let error = &answer.json()["error"];
        assert!(!error["message"].as_str().unwrap().contains("not to be shown"), "{error}");
        assert!(!answer.headers.iter().any(|(name, _)| name == "content-encoding"), "{:?}", answer.headers);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_in_http_is_an_error_in_each_clients_words() {
    let bench = bench().await;
    let begun = format!("data: {}\n\ndata: {}\n\n", chunks()[0], chunks()[1]);
    for (what, raw) in [
        ("no last chunk", chunked(SSE, &begun, "")),
        ("a chunk that is cut", chunked(SSE, &begun, "fff\r\ndata: {")),
        ("no chunk at all", chunked(SSE, &begun, "zz\r\n")),
        ("fewer bytes than were told", sized(SSE, &begun).replace("content-length: ", "content-length: 1")),
    ] {
        bench.says(raw.clone(), true);
        let answer = bench.gateway.chat(&saying("first/sim-ok", "x", true)).await;
        assert!(answer.error().is_some() && !answer.is_done(), "{what}: {}", answer.body_text());
        // What comes together with bytes that are no HTTP, or with a reset, may be lost with them.
        let told = |text: &str| text == "from afar" || text.is_empty();
        assert!(told(&answer.text()), "{what}: {}", answer.body_text());
        bench.says(raw, true);
        let message = Message::of(&bench.gateway.messages("/v1/messages", &asking("first/sim-ok", "x", true)).await);
        assert!(!message.complete && message.error.is_some(), "{what}: {message:?}");
        assert!(told(&message.text()), "{what}: {message:?}");
    }
}
