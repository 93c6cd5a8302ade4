//! The simulated Bedrock: what it takes, what it says, and the bytes of its streams.

use super::*;
use crate::sim::client;

/// The events of a stream, with their names, cut by lengths alone.
fn events(body: &[u8]) -> Vec<(String, Value)> {
    let (mut rest, mut events) = (body, Vec::new());
    while rest.len() >= 16 {
        let number = |at: usize| u32::from_be_bytes(rest[at..at + 4].try_into().unwrap()) as usize;
        let (total, headers) = (number(0), number(4));
        assert_eq!(crc32fast::hash(&rest[..8]) as usize, number(8));
        assert_eq!(crc32fast::hash(&rest[..total - 4]) as usize, number(total - 4));
        // The first header is the name of the event: its length, its type and the length of the value stand before that.
        let head = &rest[12..12 + headers];
        let value = 1 + usize::from(head[0]) + 3;
        let length = usize::from(head[value - 1]);
        let name = String::from_utf8(head[value..value + length].to_vec()).unwrap();
        events.push((name, serde_json::from_slice(&rest[12 + headers..total - 4]).unwrap()));
        rest = &rest[total..];
    }
    assert!(rest.is_empty());
    events
}

#[tokio::test]
async fn a_stream_says_what_the_whole_answer_says() {
    let sim = Sim::start(SimDialect::Bedrock).unwrap();
    let body = saying(SimDialect::Bedrock, "a b c");
    let whole = ask(&sim, &request(SimDialect::Bedrock, "k", "us.maker.m-v1%3A0", false, body.clone())).await.json();
    assert_eq!(text_in(SimDialect::Bedrock, std::slice::from_ref(&whole)), "a b c");
    assert_eq!(whole["stopReason"], "end_turn");
    let url = format!("{}/model/us.maker.m-v1%3A0/converse-stream", sim.base_url());
    let headers = [("authorization", "Bearer k"), ("content-type", "application/json")];
    let streamed = client::send("POST", &url, &headers, body.to_string().as_bytes()).await.unwrap();
    let events = events(&streamed.body);
    let text: String = events.iter().filter_map(|(_, event)| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, "a b c");
    assert_eq!(events.iter().find(|(name, _)| name == "metadata").unwrap().1["usage"], whole["usage"]);
    assert_eq!(sim.calls()[0].path, "/model/us.maker.m-v1%3A0/converse");
}

#[tokio::test]
async fn it_refuses_what_converse_refuses() {
    let sim = Sim::start(SimDialect::Bedrock).unwrap();
    for (body, why) in [
        (json!({ "messages": [] }), "start with a user message"),
        (json!({ "model": "m", "messages": [] }), "extraneous key [model]"),
        (json!({ "messages": [{ "role": "user", "content": [{ "text": " " }] }] }), "blank"),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "text": "x" }] }, { "role": "assistant", "content": [
                { "toolUse": { "toolUseId": "t", "name": "n", "input": {} } }] }] }),
            "toolConfig field must be defined",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "text": "x" }] }], "toolConfig": { "tools": [] } }),
            "at least one tool",
        ),
    ] {
        let answer = ask(&sim, &request(SimDialect::Bedrock, "k", "m", false, body)).await;
        let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status() == 400 && message.contains(why), "{message}");
    }
    for (key, status) in [("", 403), ("a-wrong-key", 403), ("k", 404)] {
        let body = saying(SimDialect::Bedrock, "x");
        assert_eq!(ask(&sim, &request(SimDialect::Bedrock, key, "does-not-exist", false, body)).await.status(), status);
    }
}
