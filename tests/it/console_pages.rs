//! The console's pages without a browser: that the configuration file goes first is said where it matters, and an answer is given up when nobody
//! reads it any more.

use crate::admin_api::Client;
use crate::gateway::{ADMIN_TOKEN, Gateway, saying};
use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Sim, SimDialect, SimFault};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

/// Sends a form as the administrator.
async fn post(gateway: &Gateway, path: &str, form: &str) -> Answer {
    let token = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", token.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    client::send("POST", &format!("{}{path}", gateway.console_url), &headers, form.as_bytes()).await.unwrap()
}

async fn page(gateway: &Gateway, path: &str) -> String {
    let answer = gateway.get_console(path).await.unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.body_text());
    answer.body_text()
}

#[tokio::test]
async fn what_the_file_says_goes_first_and_the_pages_say_so() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let file = "[retry]\nmax = 0\n[[preset]]\nslug = \"house\"\nmodel = \"one/sim-ok\"\n";
    let gateway = Gateway::builder().provider("one", &sim).config(file).start().await;
    let editor = page(&gateway, "/presets/edit?name=house").await;
    assert!(
        editor.contains("The configuration file goes first") && editor.contains("value=\"one/sim-ok\""),
        "{editor}"
    );

    let saved = post(&gateway, "/presets/edit", "slug=house&model=one%2Fother&version=").await;
    assert_eq!((saved.status, saved.header("location")), (303, "/presets?saved=house"), "{}", saved.body_text());
    let list = page(&gateway, "/presets?saved=house").await;
    assert!(list.contains("is saved, but the configuration file has one of this name"), "{list}");
    assert!(list.contains("not in force"), "{list}");

    assert_eq!(post(&gateway, "/routing/edit", "section=retry&max=3&cap=9s&version=").await.status, 303);
    let list = page(&gateway, "/routing?saved=retry").await;
    assert!(list.contains("is saved, but the configuration file, or the environment, goes first for max"), "{list}");
    assert!(list.contains("the file goes first"), "{list}");
    assert_eq!(post(&gateway, "/routing/edit", "section=server&listen=1").await.status, 404);
}

#[tokio::test]
async fn of_two_who_change_the_same_the_second_is_told() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().provider("one", &sim).start().await;
    assert_eq!(post(&gateway, "/models/edit", "name=fast&targets=one%2Fsim-ok&version=").await.status, 303);
    let editor = page(&gateway, "/models/edit?name=fast").await;
    let version = editor.split("name=\"version\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let version: String = version.replace("&quot;", "%22");
    let form = |targets: &str| format!("name=fast&targets={targets}&version={version}");
    assert_eq!(post(&gateway, "/models/edit", &form("one%2Fa")).await.status, 303);
    let late = post(&gateway, "/models/edit", &form("one%2Fb")).await;
    assert_eq!(late.status, 412, "{}", late.body_text());
    assert!(late.body_text().contains("one/b") && late.body_text().contains("Show it as it is now"));
    let twice = post(&gateway, "/models/edit", "name=fast&targets=one%2Fb&version=").await;
    assert_eq!(twice.status, 412, "one that is to be new is not there yet");
    assert!(twice.body_text().contains("edit-name-wrong"), "{}", twice.body_text());
    let removal = format!("name=fast&version={version}");
    assert_eq!(post(&gateway, "/models/remove", &removal).await.status, 412);
    assert_eq!(
        Client::administrator(&gateway).get("/models/fast").await.json()["value"],
        json!({"targets": ["one/a"]})
    );
}

#[tokio::test]
async fn the_cache_is_emptied_and_a_refused_key_enabled_by_a_button() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let builder = Gateway::builder().config("[retry]\nmax = 0\n[cache]\nbackend = \"memory\"\n");
    let gateway = builder.provider("one", &sim).start().await;
    let asking = saying("one/sim-ok", "again", false);
    assert_eq!(gateway.chat(&asking).await.header("x-cache"), "MISS");
    assert!(page(&gateway, "/settings").await.contains("Empty the cache"));
    assert_eq!(post(&gateway, "/settings/empty-cache", "").await.header("location"), "/settings?emptied=1");
    assert!(page(&gateway, "/settings?emptied=1").await.contains("The cache is empty."));
    sim.script([SimFault::BadKey]);
    assert_ne!(gateway.chat(&asking).await.status, 200, "it was not in the cache any more");
    assert!(page(&gateway, "/pool").await.contains("Enable"));
    assert_eq!(post(&gateway, "/pool/enable", "provider=one&name=one_01").await.status, 303);
    assert_eq!(gateway.chat(&asking).await.status, 200);
}

#[tokio::test]
async fn an_answer_comes_as_it_is_made_and_is_given_up_with_its_reader() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().provider("one", &sim).start().await;
    let whole = post(&gateway, "/playground/stream", "model=one%2Fsim-ok&prompt=one+two+three").await;
    let text = whole.body_text();
    assert_eq!(whole.header("content-type"), "text/event-stream");
    let of = |event: &str| text.lines().filter(|line| *line == format!("event: {event}")).count();
    assert!(of("head") == 1 && of("said") >= 3 && of("end") == 1 && of("failed") == 0, "{text}");
    let end = text.split("event: end\ndata: ").nth(1).unwrap().lines().next().unwrap();
    let end: serde_json::Value = serde_json::from_str(end).unwrap();
    assert_eq!((&end["ok"], &end["target"]), (&json!(true), &json!("one/sim-ok")), "{end}");
    assert!(end["tokens"]["completion"].as_u64() > Some(0) && end["took_ms"].is_u64(), "{end}");
    // An error is said as one.
    let refused = post(&gateway, "/playground/stream", "model=one%2Fsim-400&prompt=x").await.body_text();
    assert!(refused.contains("\"kind\":\"error\"") && refused.contains("\"ok\":false"), "{refused}");

    // Somebody who leaves in the middle.
    sim.script([SimFault::StallAfterTokens]);
    let form = "model=one%2Fsim-ok&prompt=one+two+three";
    let mut stream = TcpStream::connect(gateway.console_url.trim_start_matches("http://")).unwrap();
    write!(
        stream,
        "POST /playground/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_TOKEN}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    )
    .unwrap();
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while !line.contains("\"kind\":\"text\"") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the stream has ended");
    }
    drop(lines);
    gateway.shows("orbyt_requests_in_flight 0\n").await;
    let admin = Client::administrator(&gateway);
    let active = async || {
        let keys = admin.get("/keys").await.json();
        keys["data"].as_array().unwrap().iter().filter(|key| key["status"] == "active").count()
    };
    let started = std::time::Instant::now();
    while active().await > 0 {
        assert!(started.elapsed() < crate::gateway::PATIENCE, "its key is not revoked");
    }
    assert_eq!(gateway.chat(&saying("one/sim-ok", "x", false)).await.status, 200);
}
