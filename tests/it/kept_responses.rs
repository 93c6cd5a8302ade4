//! `/v1/responses/{id}` and what is below it: responses that the gateway keeps, and those that their providers keep.

use crate::gateway::{Gateway, KEY, PATIENCE};
use crate::responses::{response, text};
use orbyt::sim::client::{self, Answer, BodyEnd};
use orbyt::sim::{Sim, SimDialect};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const OTHER_KEY: &str = "another-key-of-the-tests";

async fn send(gateway: &Gateway, method: &str, path: &str, key: &str, body: &Value) -> Answer {
    let key = format!("Bearer {key}");
    let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let url = format!("{}{path}", gateway.url);
    let sent = tokio::time::timeout(PATIENCE, client::send(method, &url, &headers, &body)).await;
    sent.expect("an answer in time").unwrap_or_else(|error| panic!("{error}\n{}", gateway.output()))
}

async fn get(gateway: &Gateway, path: &str) -> Answer {
    send(gateway, "GET", path, KEY, &Value::Null).await
}

fn param(answer: &Answer) -> (u16, Value) {
    (answer.status, answer.json()["error"]["param"].clone())
}

#[tokio::test]
async fn a_kept_response_is_told_as_events_and_in_the_items_it_was_made_of() {
    let sim = Sim::start(SimDialect::Anthropic).unwrap();
    let gateway = Gateway::builder().provider("anthropic", &sim).start().await;
    for stream in [false, true] {
        let body = json!({"model": "anthropic/sim-ok", "input": "one two three", "stream": stream});
        let kept = response(&send(&gateway, "POST", "/v1/responses", KEY, &body).await);
        let path = format!("/v1/responses/{}", kept["id"].as_str().unwrap());
        let again = get(&gateway, &format!("{path}?stream=true")).await;
        assert_eq!(again.header("content-type"), "text/event-stream");
        assert_eq!(response(&again), kept, "its numbers, its items and its end");
        let events = again.events();
        let rest = get(&gateway, &format!("{path}?stream=true&starting_after=2&include_obfuscation=false")).await;
        assert_eq!(rest.events(), events[3..]);
        let last = get(&gateway, &format!("{path}?stream=true&starting_after=4000")).await.events();
        assert_eq!((last.len(), &last[0]["type"], &last[0]["response"]), (1, &json!("response.completed"), &kept));
        assert_eq!(get(&gateway, &format!("{path}?stream=false")).await.json(), kept);
        // It can be gone on from, and then its items are those of the whole conversation.
        let more = json!({"model": "anthropic/sim-ok", "previous_response_id": kept["id"],
                          "input": [{"role": "user", "content": [{"type": "input_text", "text": "four"}]}]});
        let more = response(&send(&gateway, "POST", "/v1/responses", KEY, &more).await);
        let items = format!("/v1/responses/{}/input_items", more["id"].as_str().unwrap());
        let list = get(&gateway, &format!("{items}?order=asc")).await.json();
        let told: Vec<&Value> =
            list["data"].as_array().unwrap().iter().map(|item| &item["content"][0]["text"]).collect();
        assert_eq!(told, [&json!("one two three"), &json!(text(&kept)), &json!("four")], "{list}");
        assert_eq!((&list["object"], &list["has_more"]), (&json!("list"), &json!(false)));
        let page = get(&gateway, &format!("{items}?limit=1")).await.json();
        assert_eq!((&page["data"][0]["content"][0]["text"], &page["has_more"]), (&json!("four"), &json!(true)));
        for (path, name) in [
            (format!("{path}?stream=perhaps"), "stream"),
            (format!("{path}?stream=true&starting_after=x"), "starting_after"),
            (format!("{items}?limit=1000"), "limit"),
            (format!("{items}?after=none"), "after"),
            (format!("{items}?order=sideways"), "order"),
        ] {
            assert_eq!(param(&get(&gateway, &path).await), (400, json!(name)), "{path}");
        }
        let cancelled = send(&gateway, "POST", &format!("{path}/cancel"), KEY, &Value::Null).await;
        assert_eq!(cancelled.status, 400);
        assert!(cancelled.body_text().contains("background"), "{}", cancelled.body_text());
    }
    for (method, path) in [
        ("GET", "/v1/responses/resp_none"),
        ("GET", "/v1/responses/resp_none?stream=true"),
        ("GET", "/v1/responses/resp_none/input_items"),
        ("POST", "/v1/responses/resp_none/cancel"),
    ] {
        let answer = send(&gateway, method, path, KEY, &Value::Null).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("response_not_found")), "{path}");
    }
    let answer = get(&gateway, "/v1/chat/completions/chatcmpl-1").await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("unknown_url")));
    assert!(answer.body_text().contains("keeps no chat completions"), "{}", answer.body_text());
}

/// A provider that keeps its responses, one connection a request, and what it was asked: the request line and the key.
struct Keeper {
    address: String,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

const EVENTS: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0}\n\n";

impl Keeper {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let told = Arc::clone(&told);
                tokio::spawn(async move {
                    let request = read(&mut stream).await;
                    let line = request.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
                    let key = request
                        .lines()
                        .find_map(|line| line.strip_prefix("authorization: Bearer "))
                        .unwrap_or_default();
                    told.lock().push((line.clone(), key.to_owned()));
                    // Whoever waits for nothing more has gone.
                    let _ = stream.write_all(answer(&line).as_bytes()).await;
                });
            }
        });
        Self { address, asked }
    }

    fn last(&self) -> (String, String) {
        self.asked.lock().last().cloned().unwrap_or_default()
    }
}

async fn read(stream: &mut tokio::net::TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.trim().parse().unwrap()) {
                return String::from_utf8_lossy(&bytes).into_owned();
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or_default() == 0 {
            return String::new();
        }
    }
}

fn answer(line: &str) -> String {
    let whole = |status: &str, body: Value| {
        let body = body.to_string();
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let kept = json!({"id": "resp_theirs", "object": "response", "status": "completed", "model": "m", "output": [
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
         "content": [{"type": "output_text", "text": "kept there", "annotations": []}]}],
        "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}});
    match line {
        "POST /v1/responses" => whole("200 OK", kept),
        "GET /v1/responses/resp_theirs?stream=true&starting_after=3" => {
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{EVENTS}\r\n0\r\n\r\n",
                EVENTS.len()
            )
        }
        "GET /v1/responses/resp_theirs?stream=true" => {
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{EVENTS}\r\n",
                EVENTS.len()
            )
        }
        "GET /v1/responses/resp_theirs?include=broken" => whole(
            "400 Bad Request",
            json!({"error": {"message": "Invalid include.", "type": "invalid_request_error", "param": "include", "code": "invalid_value"}}),
        ),
        "GET /v1/responses/resp_theirs?include=down" => {
            whole("500 Internal Server Error", json!({"error": {"message": "oops"}}))
        }
        line if line.contains("resp_theirs") => whole("200 OK", json!({"asked": line})),
        _ => whole("404 Not Found", json!({"error": {"message": "no such thing"}})),
    }
}

#[tokio::test]
async fn what_a_provider_keeps_is_asked_of_it_with_the_key_it_was_made_with() {
    let keeper = Keeper::start().await;
    let config = format!(
        "[retry]\nmax = 0\n[[provider]]\nid = \"theirs\"\ndialect = \"openai_chat\"\nbase_url = \"http://{}/v1\"\n\
         quirks = [\"responses\"]\n[[provider.key]]\nsecret = {{ env = \"FIRST_KEY\" }}\n\
         [[provider.key]]\nsecret = {{ env = \"SECOND_KEY\" }}\n",
        keeper.address
    );
    let keys = format!("{KEY},{OTHER_KEY}");
    let builder = Gateway::builder().variable("ORBYT_API_KEYS", &keys).variable("FIRST_KEY", "first-key");
    let gateway = builder.variable("SECOND_KEY", "second-key").config(&config).start().await;
    let ask = json!({"model": "theirs/m", "input": "x"});
    let unknown = get(&gateway, "/v1/responses/resp_theirs").await;
    assert_eq!((unknown.status, keeper.asked.lock().len()), (404, 0), "it asks for nothing that it does not know of");
    let made = send(&gateway, "POST", "/v1/responses", KEY, &ask).await;
    assert_eq!(response(&made)["id"], "resp_theirs");
    let key = keeper.last().1;
    for (method, path, line) in [
        ("GET", "/v1/responses/resp_theirs", "GET /v1/responses/resp_theirs"),
        ("GET", "/responses/resp_theirs/input_items?limit=2", "GET /v1/responses/resp_theirs/input_items?limit=2"),
        ("POST", "/v1/responses/resp_theirs/cancel", "POST /v1/responses/resp_theirs/cancel"),
    ] {
        for _ in 0..3 {
            let answer = send(&gateway, method, path, KEY, &Value::Null).await;
            assert_eq!((answer.status, answer.json()), (200, json!({"asked": line})), "{path}");
            assert_eq!((answer.header("x-provider"), keeper.last()), ("theirs", (line.to_owned(), key.clone())));
        }
    }
    let line = gateway.log_line(&get(&gateway, "/v1/responses/resp_theirs").await).await;
    assert_eq!((&line["route"], &line["status"]), (&json!("GET /v1/responses/{id}"), &json!(200)), "{line}");
    // A request that goes on from it is for the same account, whichever key's turn it is.
    let more = json!({"model": "theirs/m", "input": "y", "previous_response_id": "resp_theirs"});
    for _ in 0..4 {
        let answer = send(&gateway, "POST", "/v1/responses", KEY, &more).await;
        assert_eq!((answer.status, keeper.last().1), (200, key.clone()));
    }
    let stream = get(&gateway, "/v1/responses/resp_theirs?stream=true&starting_after=3").await;
    assert_eq!((stream.status, stream.end, stream.body_text()), (200, BodyEnd::Clean, EVENTS.to_owned()));
    let cut = get(&gateway, "/v1/responses/resp_theirs?stream=true").await;
    assert_ne!(cut.end, BodyEnd::Clean, "a stream that broke off is not told as a whole one");
    let wrong = get(&gateway, "/v1/responses/resp_theirs?include=broken").await;
    assert_eq!(param(&wrong), (400, json!("include")), "{}", wrong.body_text());
    assert_eq!(get(&gateway, "/v1/responses/resp_theirs?include=down").await.status, 503);
    // Another client has no such response, whatever its provider has.
    let asked = keeper.asked.lock().len();
    for (method, path) in [("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")] {
        let path = format!("/v1/responses/resp_theirs{path}");
        assert_eq!(send(&gateway, method, &path, OTHER_KEY, &Value::Null).await.status, 404, "{path}");
    }
    assert_eq!(keeper.asked.lock().len(), asked);
    let deleted = send(&gateway, "DELETE", "/v1/responses/resp_theirs", KEY, &Value::Null).await;
    assert_eq!((deleted.status, deleted.json()), (200, json!({"asked": "DELETE /v1/responses/resp_theirs"})));
    assert_eq!(get(&gateway, "/v1/responses/resp_theirs").await.status, 404);
    // What is not to be stored is noted nowhere.
    let secret = json!({"model": "theirs/m", "input": "x", "store": false});
    assert_eq!(send(&gateway, "POST", "/v1/responses", KEY, &secret).await.status, 200);
    assert_eq!(get(&gateway, "/v1/responses/resp_theirs").await.status, 404);
}
