//! What requests carried, as the console shows it and the database keeps it: all four sides of it, and no secret on any.

use crate::api_keys::{orbyt, said};
use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use crate::postgres;
use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Sim, SimDialect, SimFault, Step};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const OWN: &str = "canary-own-key-6e2f8841";
const NO_RETRY: &str = "[retry]\nmax = 0\n[breaker]\nenabled = false\n";

/// What was carried by the request of an answer, once it is over.
async fn payloads(gateway: &Gateway, answer: &Answer) -> Value {
    gateway.log_line(answer).await;
    let shown = gateway.get_console(&path(answer)).await.unwrap();
    assert_eq!(shown.status, 200, "{}", shown.body_text());
    shown.json()
}

fn path(answer: &Answer) -> String {
    format!("/api/v1/requests/{}/payloads", answer.header("x-request-id"))
}

fn text(body: &Value) -> &str {
    assert_eq!(body["content"]["kind"], "text", "{body}");
    body["content"]["data"].as_str().unwrap()
}

fn header<'a>(message: &'a Value, name: &str) -> &'a Value {
    let headers = message["headers"].as_array().unwrap();
    headers.iter().find(|header| header["name"] == name).map_or(&Value::Null, |header| &header["value"])
}

async fn post(gateway: &Gateway, path: &str, content_type: &str, body: &[u8]) -> Answer {
    let bearer = format!("Bearer {KEY}");
    let headers = [("authorization", bearer.as_str()), ("content-type", content_type)];
    client::send("POST", &format!("{}{path}", gateway.url), &headers, body).await.unwrap()
}

#[tokio::test]
async fn all_four_sides_of_a_request_are_seen_with_every_attempt() {
    let (broken, other) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::Anthropic).unwrap());
    let config = format!("{NO_RETRY}[[model]]\nname = \"any\"\ntargets = [\"one/m1\", \"two/m2\"]\n");
    let gateway = Gateway::builder().config(&config).provider("one", &broken).provider("two", &other).start().await;
    broken.always(SimFault::ServerError);
    let request = saying("any", "one two three", true);
    let answer = gateway.chat(&request).await;
    assert_eq!(answer.text(), "one two three", "{}", answer.body_text());
    let seen = payloads(&gateway, &answer).await;
    assert_eq!((&seen["org"], &seen["complete"]), (&json!("org_default"), &json!(true)));
    // As the client sent it, down to the byte.
    assert_eq!(text(&seen["request"]["body"]), request.to_string());
    assert_eq!(seen["request"]["url"], "/v1/chat/completions");
    assert_eq!(header(&seen["request"], "authorization"), "Bearer [redacted]");
    assert_eq!(header(&seen["request"], "content-type"), "application/json");
    // As the providers got it and answered.
    let [failed, served] = &seen["attempts"].as_array().unwrap()[..] else { panic!("{seen}") };
    assert_eq!(
        (&failed["number"], &failed["provider"], &failed["response"]["status"]),
        (&json!(1), &json!("one"), &json!(500))
    );
    assert!(text(&failed["request"]["body"]).contains("\"m1\""), "{failed}");
    assert!(!text(&failed["response"]["body"]).is_empty());
    assert_eq!((&served["number"], &served["key_name"]), (&json!(2), &json!("two_01")));
    assert_eq!(served["request"]["url"], format!("{}/v1/messages", other.base_url()));
    assert_eq!(header(&served["request"], "x-api-key"), "[redacted]");
    assert!(header(&served["request"], "anthropic-version").is_string());
    assert_eq!(text(&served["request"]["body"]), String::from_utf8_lossy(&other.calls().last().unwrap().body));
    assert!(text(&served["response"]["body"]).contains("event: message_start"), "in the provider's own format");
    // As the client received it, piece by piece.
    let received = &seen["response"];
    assert_eq!(text(&received["body"]), answer.body_text());
    assert_eq!(header(received, "x-provider"), "two");
    let chunks = received["body"]["chunks"].as_array().unwrap();
    assert_eq!(chunks.last().unwrap()["end"], answer.body.len());
    let times: Vec<u64> = chunks.iter().map(|chunk| chunk["at_us"].as_u64().unwrap()).collect();
    assert!(times.is_sorted() && times[0] >= received["at_us"].as_u64().unwrap(), "{times:?}");
    assert!(!seen.to_string().contains("key-of-two") && !seen.to_string().contains(KEY), "{seen}");
}

#[tokio::test]
async fn a_request_that_runs_is_seen_as_far_as_it_has_come() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().provider("one", &sim).start().await;
    sim.always(SimFault::StallAfterTokens);
    let bearer = format!("Bearer {KEY}");
    let body = saying("one/m", "one two three four", true).to_string();
    let url = format!("{}/v1/chat/completions", gateway.url);
    let mut running = client::open("POST", &url, &[("authorization", &bearer)], body.as_bytes()).await.unwrap();
    let first = running.piece().await.unwrap();
    let id = running.headers.iter().find(|(name, _)| name == "x-request-id").unwrap().1.clone();
    let started = Instant::now();
    loop {
        let seen = gateway.get_console(&format!("/api/v1/requests/{id}/payloads")).await.unwrap().json();
        let received = seen["response"]["body"]["content"]["data"].as_str().unwrap_or_default();
        if !first.is_empty() && received.contains("one") {
            assert_eq!(seen["complete"], false);
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{seen}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_keys_of_a_client_are_nowhere_however_they_come() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let config = format!("{NO_RETRY}[telemetry]\npayloads = \"all\"\nlog_level = \"trace\"\n");
    let gateway = Gateway::builder().config(&config).provider("one", &sim).start().await;
    let chat = r#""model":"one/m","messages":[{"role":"user","content":"hi"}]"#;
    let form = |extra: &str| {
        format!(
            "--edge\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\none/m\r\n--edge\r\n\
             content-disposition: form-data; name=\"extra\"\r\n\r\n{extra}\r\n--edge\r\n\
             content-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--edge--\r\n"
        )
    };
    let (json, multipart) = ("application/json", "multipart/form-data; boundary=edge");
    let cases = [
        ("/v1/chat/completions", json, format!(r#"{{{chat},"extra":{{"byok":"{OWN}"}}}}"#)),
        ("/v1/chat/completions", json, format!(r#"{{{chat},"extra":{{"byok":{{"one":"{OWN}"}}}}}}"#)),
        ("/v1/chat/completions", json, format!(r#"{{{chat},"\u0065xtra":{{"b\u0079ok":"{OWN}"}}}}"#)),
        ("/v1/chat/completions", json, format!(r#"{{"extra":{{"byok":"{OWN}"}},{chat},"extra":{{}}}}"#)),
        ("/v1/chat/completions", json, format!(r#"{{{chat},"extra":{{"BYOK":"{OWN}"}}}}"#)),
        ("/v1/chat/completions", json, format!(r#"{{{chat},"extra_body":{{"extra":{{"byok":"{OWN}"}}}}}}"#)),
        ("/v1/chat/completions", json, format!(r#"{{{chat},"extra":{{"byok":"{OWN}"}}"#)),
        ("/v1/chat/completions", "text/plain", format!("extra[byok]={OWN}")),
        ("/v1/messages", json, format!(r#"{{{chat},"max_tokens":9,"extra":{{"byok":"{OWN}"}}}}"#)),
        ("/v1/responses", json, format!(r#"{{"model":"one/m","input":"hi","extra":{{"byok":"{OWN}"}}}}"#)),
        ("/v1/embeddings", json, format!(r#"{{"model":"one/m","input":"hi","extra":{{"byok":"{OWN}"}}}}"#)),
        ("/v1/audio/transcriptions", multipart, form(&format!(r#"{{"byok":"{OWN}"}}"#))),
        ("/v1/audio/transcriptions", multipart, form(&format!(r#"{{"byok":"{OWN}""#))),
        ("/v1/audio/transcriptions", "multipart/form-data; boundary=other", form(&format!(r#"{{"byok":"{OWN}"}}"#))),
    ];
    let mut answers = Vec::new();
    for (path, content_type, body) in &cases {
        // Providers repeat what they got, keys too.
        let echo =
            json!({"id": "x", "object": "list", "choices": [], "echo": format!("your key is {OWN}")}).to_string();
        sim.script([Step::Reply { status: 200, headers: vec![("x-echo", OWN.to_owned())], body: echo }]);
        let answer = post(&gateway, path, content_type, body.as_bytes()).await;
        let seen = payloads(&gateway, &answer).await;
        assert!(!seen.to_string().contains("canary"), "{body} is shown as {seen}");
        sim.reset();
        answers.push(answer);
    }
    for answer in &answers {
        let kept = kept(&gateway, None, answer).await;
        assert!(!kept.contains("canary"), "{kept}");
    }
    for file in ["orbyt.db", "orbyt.db-wal"] {
        let bytes = std::fs::read(gateway.data_dir().join(file)).unwrap_or_default();
        assert!(memchr_canary(&bytes).is_none(), "{file} holds a key");
    }
    assert!(!gateway.output().contains(OWN), "the log holds a key");
}

fn memchr_canary(bytes: &[u8]) -> Option<usize> {
    bytes.windows(OWN.len()).position(|window| window == OWN.as_bytes())
}

/// What the database keeps of a request.
async fn kept(gateway: &Gateway, url: Option<&str>, answer: &Answer) -> String {
    let started = Instant::now();
    loop {
        let shown = show(&gateway.data_dir(), url, answer);
        if shown.status.success() {
            return String::from_utf8(shown.stdout).unwrap();
        }
        assert!(started.elapsed() < PATIENCE, "{}\n{}", String::from_utf8_lossy(&shown.stderr), gateway.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn show(data_dir: &Path, url: Option<&str>, answer: &Answer) -> std::process::Output {
    orbyt(data_dir, url, &["requests", "show", answer.header("x-request-id"), "--payloads"], "")
}

#[tokio::test]
async fn who_does_not_want_anything_kept_has_nothing_kept() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let config = "[telemetry]\npayloads = \"all\"\n[server]\napi_keys = [{ name = \"usual\", env = \"USUAL\" }, \
                  { name = \"private\", env = \"PRIVATE\", store = false }]\n";
    let gateway = Gateway::builder()
        .config(config)
        .variable("ORBYT_API_KEYS", "")
        .variable("USUAL", KEY)
        .variable("PRIVATE", "private-key")
        .provider("one", &sim)
        .start()
        .await;
    let data_dir = gateway.data_dir();
    let made = said(&data_dir, None, &["keys", "create", "--name", "quiet", "--no-store"], "");
    let asked = saying("one/m", "nobody sees this", false);
    let with = |member: &str, value: Value| {
        let mut request = asked.clone();
        request[member] = value;
        request
    };
    let mut answers = Vec::new();
    for (key, request) in [
        ("private-key", asked.clone()),
        (made.trim(), asked.clone()),
        (KEY, with("store", json!(false))),
        (KEY, with("extra", json!({"store": false}))),
    ] {
        let bearer = format!("Bearer {key}");
        let answer = gateway.ask("/v1/chat/completions", &[("authorization", &bearer)], &request).await;
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        answers.push(answer);
    }
    // Providers are told what is theirs, and not what is the gateway's.
    let stored: Vec<Value> =
        sim.calls().iter().filter(|call| call.is_generation()).map(|call| call.json()["store"].clone()).collect();
    assert_eq!(stored, [Value::Null, Value::Null, json!(false), Value::Null]);
    // Behind this one in the spool.
    let seen = gateway.chat(&with("store", json!(true))).await;
    assert!(kept(&gateway, None, &seen).await.contains("nobody sees this"));
    for answer in &answers {
        assert_eq!(gateway.get_console(&path(answer)).await.unwrap().status, 404);
        let shown = show(&data_dir, None, answer);
        assert!(!shown.status.success(), "{}", String::from_utf8_lossy(&shown.stdout));
    }
    let wrong = gateway.chat(&with("extra", json!({"store": "no"}))).await;
    assert_eq!((wrong.status, &wrong.json()["error"]["param"]), (400, &json!("extra.store")));
}

#[tokio::test]
async fn what_is_off_keeps_nothing_and_a_reload_changes_that() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().config("[telemetry]\nring_bytes = \"off\"\n").provider("one", &sim).start().await;
    let answer = gateway.chat(&saying("one/m", "x", false)).await;
    gateway.log_line(&answer).await;
    assert_eq!(gateway.get_console(&path(&answer)).await.unwrap().status, 404);
    let config = std::fs::read_to_string(gateway.config_file()).unwrap();
    std::fs::write(gateway.config_file(), config.replace("\"off\"", "\"1MiB\"\nredact = ['(?i)secret plan']")).unwrap();
    gateway.printed("reloaded").await;
    let answer = gateway.chat(&saying("one/m", "a Secret Plan", false)).await;
    let seen = payloads(&gateway, &answer).await;
    assert!(text(&seen["request"]["body"]).contains("a [redacted]"), "{seen}");
}

#[tokio::test]
async fn the_policy_keeps_errors_in_both_databases() {
    let server = postgres::Database::create().await;
    for url in [None, Some(server.url())] {
        let (sim, url) = (Sim::start(SimDialect::OpenAi).unwrap(), url.as_deref());
        let config = format!("{NO_RETRY}[telemetry]\nring_bytes = \"off\"\npayloads = \"errors\"\nbody_bytes = 200\n");
        let gateway = Gateway::builder()
            .config(&config)
            .provider("one", &sim)
            .variable("DATABASE_URL", url.unwrap_or_default())
            .start()
            .await;
        let well = gateway.chat(&saying("one/m", "fine", false)).await;
        assert_eq!(well.status, 200, "{}", well.body_text());
        let badly = gateway.chat(&saying("one/sim-400", &"x".repeat(1000), false)).await;
        assert_eq!(badly.status, 400, "{}", badly.body_text());
        let shown: Value = serde_json::from_str(&kept(&gateway, url, &badly).await).unwrap();
        let body = &shown["request"]["body"];
        assert_eq!((text(body).len(), &body["cut"]), (200, &json!(true)));
        assert!(body["bytes"].as_u64().unwrap() > 1000);
        assert_eq!(shown["attempts"][0]["response"]["status"], 400);
        assert!(!show(&gateway.data_dir(), url, &well).status.success(), "what went well is not kept");
        // The console finds what memory does not hold.
        assert_eq!(gateway.get_console(&path(&badly)).await.unwrap().json(), shown);
        let page = format!("/requests/{}", badly.header("x-request-id"));
        let page = gateway.get_console(&page).await.unwrap().body_text();
        assert!(page.contains("Send it again") && page.contains("xxxxxxxx"), "{page}");
    }
}

#[tokio::test]
async fn what_cannot_work_is_said_at_the_start() {
    for (config, says) in [
        ("payloads = \"some\"", "telemetry.payloads: must be \"none\", \"errors\""),
        ("payloads = \"all\"\nledger = false", "telemetry.payloads: needs the ledger"),
        ("redact = ['[']", "telemetry.redact"),
        ("ring_bytes = 0", "telemetry.ring_bytes"),
        ("[telemetry.otlp]\nendpoint = \"collector:4318\"", "telemetry.otlp.endpoint: must be a URL"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orbyt.toml");
        std::fs::write(&file, format!("[telemetry]\n{config}\n")).unwrap();
        let file = file.to_str().unwrap();
        let checked = orbyt(folder.path(), None, &["check", "--config", file], "");
        let said = String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
        assert!(!checked.status.success() && said.contains(says), "{config}: {said}");
    }
}
