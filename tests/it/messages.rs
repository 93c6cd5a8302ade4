//! `POST /v1/messages`: Anthropic's clients in front of every provider.

use crate::gateway::{Gateway, KEY};
use orbyt::sim::client::{Answer, BodyEnd};
use orbyt::sim::{Call, Sim, SimDialect, SimFault, Step};
use serde_json::{Value, json};

pub fn asking(model: &str, text: &str, stream: bool) -> Value {
    json!({ "model": model, "max_tokens": 4000, "stream": stream, "messages": [{ "role": "user", "content": text }] })
}

/// What came of an answer, put together by Anthropic's documents alone.
#[derive(Debug)]
pub struct Message {
    pub value: Value,
    /// `message_stop`, or a whole body.
    pub complete: bool,
    pub error: Option<Value>,
}

impl Message {
    pub fn of(answer: &Answer) -> Self {
        if !answer.is_stream() {
            let value = answer.json();
            let error = (value["type"] == "error").then(|| value["error"].clone());
            return Self { complete: answer.end == BodyEnd::Clean && error.is_none(), value, error };
        }
        let (mut value, mut json) = (Value::Null, String::new());
        let (mut stopped, mut error) = (false, None);
        for event in answer.events() {
            let at = event["index"].as_u64().unwrap_or(u64::MAX) as usize;
            match event["type"].as_str().unwrap_or_default() {
                "message_start" => value = event["message"].clone(),
                "content_block_start" => {
                    assert_eq!(value["content"].as_array().map(Vec::len), Some(at), "{event}");
                    value["content"].as_array_mut().unwrap().push(event["content_block"].clone());
                    json.clear();
                }
                "content_block_delta" => {
                    let delta = &event["delta"];
                    for name in ["text", "thinking", "signature"] {
                        if let Some(piece) = delta[name].as_str() {
                            let block = &mut value["content"][at][name];
                            *block = format!("{}{piece}", block.as_str().unwrap_or_default()).into();
                        }
                    }
                    json += delta["partial_json"].as_str().unwrap_or_default();
                }
                "content_block_stop" if !json.is_empty() => {
                    value["content"][at]["input"] = serde_json::from_str(&json).unwrap();
                    json.clear();
                }
                "content_block_stop" | "ping" => {}
                "message_delta" => {
                    value["stop_reason"] = event["delta"]["stop_reason"].clone();
                    let counts = event["usage"].as_object().cloned().unwrap_or_default();
                    value["usage"].as_object_mut().unwrap().extend(counts);
                }
                "message_stop" => stopped = true,
                "error" => error = Some(event["error"].clone()),
                other => panic!("an event that Anthropic does not have: {other}"),
            }
        }
        Self { value, complete: stopped && answer.end == BodyEnd::Clean && error.is_none(), error }
    }

    pub fn text(&self) -> String {
        let blocks = self.value["content"].as_array().cloned().unwrap_or_default();
        blocks.iter().filter_map(|block| block["text"].as_str()).collect()
    }

    pub fn calls(&self) -> Vec<Value> {
        let blocks = self.value["content"].as_array().cloned().unwrap_or_default();
        blocks.into_iter().filter(|block| block["type"] == "tool_use").collect()
    }
}

#[tokio::test]
async fn every_provider_answers_streamed_or_not() {
    let (gateway, sims) = Gateway::in_front_of_all().await;
    for sim in &sims {
        let model = format!("{}/sim-ok", sim.dialect().provider_id());
        let mut seen = Vec::new();
        for stream in [false, true] {
            let answer = gateway.messages("/v1/messages", &asking(&model, "five words are said here", stream)).await;
            let what = format!("{model} {stream} {} {}", answer.status, answer.body_text());
            assert_eq!((answer.status, answer.is_stream()), (200, stream), "{what}");
            if stream {
                // Agents that reckon what a request costs look here.
                let first = &answer.events()[0];
                let told = first["message"]["usage"]["input_tokens"].as_u64();
                assert!(first["type"] == "message_start" && told > Some(0), "{what}");
            }
            let message = Message::of(&answer);
            assert!(message.complete, "{what}");
            assert_eq!(message.text(), "five words are said here", "{what}");
            assert_eq!((&message.value["type"], &message.value["role"]), (&json!("message"), &json!("assistant")));
            assert_eq!(message.value["stop_reason"], "end_turn", "{what}");
            let usage = &message.value["usage"];
            assert!(usage["input_tokens"].as_u64() > Some(0) && usage["output_tokens"].as_u64() > Some(0), "{what}");
            assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
            assert_eq!(answer.header("x-provider"), sim.dialect().provider_id());
            let line = gateway.log_line(&answer).await;
            assert_eq!(line["prompt_tokens"], usage["input_tokens"], "{line} {what}");
            assert_eq!(line["completion_tokens"], usage["output_tokens"], "{line} {what}");
            seen.push((message.value["content"].clone(), message.value["usage"]["output_tokens"].clone()));
        }
        assert_eq!(seen[0], seen[1], "streamed and not: {model}");
    }
}

#[tokio::test]
async fn tools_pictures_and_results_reach_every_provider() {
    let (gateway, sims) = Gateway::in_front_of_all().await;
    let tools = json!([
        {"name": "alpha", "description": "A.", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}},
        {"name": "beta", "input_schema": {"type": "object", "properties": {}}},
    ]);
    for sim in &sims {
        let model = format!("{}/sim-ok", sim.dialect().provider_id());
        for stream in [false, true] {
            let mut body = asking(&model, "alpha and beta", stream);
            body["tools"] = tools.clone();
            let answer = gateway.messages("/v1/messages", &body).await;
            let message = Message::of(&answer);
            let calls = message.calls();
            let names: Vec<&Value> = calls.iter().map(|call| &call["name"]).collect();
            assert_eq!(names, ["alpha", "beta"], "{model} {stream}: {}", answer.body_text());
            assert!(calls[0]["input"]["at"].is_string() && calls[1]["input"] == json!({}), "{calls:?}");
            assert_eq!(message.value["stop_reason"], "tool_use");
            let results: Vec<Value> = calls
                .iter()
                .map(|call| {
                    let text = json!({"type": "text", "text": format!("{} done", call["name"].as_str().unwrap())});
                    let source = json!({"type": "base64", "media_type": "image/png", "data": "aVZCT1J3MEtHZ28="});
                    let mut content = vec![text, json!({"type": "image", "source": source})];
                    // For these pictures follow in a user's message, which the simulated ones would answer instead.
                    let apart = matches!(sim.dialect(), SimDialect::OpenAi | SimDialect::Cohere);
                    content.truncate(if apart { 1 } else { 2 });
                    json!({"type": "tool_result", "tool_use_id": call["id"], "content": content})
                })
                .collect();
            let turns = body["messages"].as_array_mut().unwrap();
            turns.push(json!({"role": "assistant", "content": message.value["content"]}));
            turns.push(json!({"role": "user", "content": results}));
            let answer = gateway.messages("/v1/messages", &body).await;
            let said = Message::of(&answer).text();
            let seen = format!("{model} {stream}: {}", answer.body_text());
            assert!(said.contains("alpha done") && said.contains("beta done"), "{seen}");
        }
    }
}

#[tokio::test]
async fn the_same_format_on_both_sides_passes_byte_by_byte() {
    let (gateway, [_, anthropic, ..]) = Gateway::in_front_of_all().await;
    let answer_body = r#"{"id":"msg_1","type":"message","role":"assistant","model":"x","content":[{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"b":1,"a":2}},{"type":"text","text":"\u00e9"}],"stop_reason":"pause_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":4},"container":null}"#;
    anthropic.always(Step::Reply { status: 200, headers: Vec::new(), body: answer_body.to_owned() });
    let body: Value = serde_json::from_str(
        r#"{"tools":[{"type":"web_search_20250305","name":"web_search","max_uses":5}],"model":"anthropic/some-model","max_tokens":100,
            "mcp_servers":[],"zeta":{"y":[1.50,2]},"extra":{"retry":0},
            "messages":[{"role":"user","content":[{"cache_control":{"type":"ephemeral"},"type":"text","text":"q"}]}]}"#,
    )
    .unwrap();
    let headers = [
        ("authorization", &*format!("Bearer {KEY}")),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "context-management-2025-06-27,files-api-2025-04-14"),
        ("x-stainless-lang", "js"),
    ];
    let answer = gateway.ask("/anthropic/v1/messages?beta=true", &headers, &body).await;
    assert_eq!((answer.status, &*answer.body_text()), (200, answer_body));
    let call = anthropic.calls().pop().unwrap();
    let mut expected = body.clone();
    expected.as_object_mut().unwrap().remove("extra");
    expected["model"] = "some-model".into();
    assert_eq!(String::from_utf8(call.body.clone()).unwrap(), expected.to_string());
    assert_eq!((&*call.path, &*call.query), ("/v1/messages", "beta=true"));
    assert_eq!(call.header("anthropic-beta"), Some("context-management-2025-06-27,files-api-2025-04-14"));
    assert_eq!((call.header("x-api-key"), call.header("x-stainless-lang")), (Some("key-of-anthropic"), None));
    assert!(call.header("authorization").is_none());
}

#[tokio::test]
async fn what_only_anthropic_can_do_is_a_clear_400_elsewhere() {
    let (gateway, _sims) = Gateway::in_front_of_all().await;
    for provider in ["openai", "google", "cohere", "ollama", "bedrock"] {
        let mut body = asking(&format!("{provider}/sim-ok"), "x", false);
        body["tools"] = json!([{"type": "web_search_20250305", "name": "web_search"}]);
        let answer = gateway.messages("/v1/messages", &body).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["type"]), (400, &json!("invalid_request_error")), "{}", answer.body_text());
        assert_eq!(error["param"], "tools[0].type");
        assert!(error["message"].as_str().unwrap().contains("web_search_20250305"), "{error}");
        // Anthropic stands in where it may.
        body["extra"] = json!({"fallback_models": ["anthropic/sim-ok"]});
        let answer = gateway.messages("/v1/messages", &body).await;
        assert_eq!(answer.header("x-provider"), "anthropic", "{}", answer.body_text());
    }
}

#[tokio::test]
async fn errors_are_anthropics() {
    let (gateway, _sims) = Gateway::in_front_of_all().await;
    let good = asking("anthropic/sim-ok", "x", false);
    let headers = [("x-api-key", "nobodys"), ("content-type", "application/json")];
    let cases = [
        (gateway.ask("/v1/messages", &headers, &good).await, 401, "authentication_error"),
        (gateway.messages("/v1/messages/batches", &good).await, 404, "not_found_error"),
        (gateway.messages("/anthropic/v2", &good).await, 404, "not_found_error"),
        (gateway.messages("/v1/messages", &json!({"model": "m"})).await, 400, "invalid_request_error"),
        (gateway.messages("/v1/messages", &asking("nobody/x", "x", false)).await, 404, "not_found_error"),
        (gateway.messages("/v1/messages", &asking("anthropic/sim-400", "x", true)).await, 400, "invalid_request_error"),
        (gateway.messages("/v1/messages", &asking("openai/sim-400", "x", true)).await, 400, "invalid_request_error"),
        (gateway.messages("/v1/messages", &asking("google/sim-429", "x", false)).await, 429, "rate_limit_error"),
        (gateway.messages("/v1/messages", &asking("openai/sim-500", "x", true)).await, 503, "api_error"),
    ];
    for (answer, status, error_type) in cases {
        let body = answer.json();
        let what = answer.body_text();
        assert_eq!((answer.status, &body["type"]), (status, &json!("error")), "{what}");
        assert_eq!(body["error"]["type"], error_type, "{what}");
        assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{what}");
        assert_eq!(body["request_id"], answer.header("x-request-id"), "{what}");
    }
    // OpenAI's clients still get OpenAI's.
    assert!(gateway.chat(&json!({})).await.json().get("type").is_none());
}

#[tokio::test]
async fn tokens_are_counted_where_they_can_be_and_estimated_elsewhere() {
    let (gateway, sims) = Gateway::in_front_of_all().await;
    for sim in &sims {
        let id = sim.dialect().provider_id();
        let mut body = asking(&format!("{id}/sim-ok"), &"word ".repeat(100), false);
        body.as_object_mut().unwrap().remove("stream");
        let answer = gateway.messages("/anthropic/v1/messages/count_tokens?beta=true", &body).await;
        let (tokens, what) = (answer.json()["input_tokens"].as_u64(), answer.body_text());
        assert!(answer.status == 200 && tokens > Some(100) && tokens < Some(300), "{id}: {what}");
        let estimated = !matches!(sim.dialect(), SimDialect::Anthropic | SimDialect::Gemini);
        assert_eq!(answer.header("x-orbyt-token-count"), if estimated { "estimated" } else { "" }, "{id}");
        // Without those for its list of models, which come in their own time.
        let calls: Vec<Call> = sim.calls().into_iter().filter(|call| call.method == "POST").collect();
        assert_eq!(calls.len(), usize::from(!estimated));
        if sim.dialect() == SimDialect::Anthropic {
            assert_eq!((&*calls[0].path, &*calls[0].query), ("/v1/messages/count_tokens", "beta=true"));
        }
        if sim.dialect() == SimDialect::Gemini {
            assert!(calls[0].path.ends_with(":countTokens"), "{}", calls[0].path);
            assert!(calls[0].json()["generateContentRequest"]["contents"].is_array());
        }
    }
    // Who is down does not count: then it is an estimate.
    let body = asking("anthropic/sim-503", "some words", false);
    let answer = gateway.messages("/v1/messages/count_tokens", &body).await;
    assert_eq!((answer.status, answer.header("x-orbyt-token-count")), (200, "estimated"), "{}", answer.body_text());
    let answer = gateway.messages("/v1/messages/count_tokens", &asking("anthropic/sim-400", "x", false)).await;
    assert_eq!((answer.status, &answer.json()["type"]), (400, &json!("error")));
}

/// A provider that fails in the middle of a conversation: another of another format goes on, and then the first again.
#[tokio::test]
async fn a_conversation_moves_from_anthropic_to_openai_and_back() {
    let (gateway, [openai, anthropic, ..]) = Gateway::in_front_of_all().await;
    let mut body = json!({
        "model": "anthropic/claude-sonnet-4-20250514", "max_tokens": 8000, "stream": true,
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "extra": {"fallback_models": ["openai/o4-mini"], "retry": 0},
        "tools": [{"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}],
        "messages": [{"role": "user", "content": "look at it"}],
    });
    for (step, expected) in ["anthropic", "openai", "anthropic", "openai", "anthropic"].into_iter().enumerate() {
        if expected == "openai" {
            anthropic.script([SimFault::ErrorAfterPrelude]);
        }
        let answer = gateway.messages("/v1/messages", &body).await;
        let message = Message::of(&answer);
        let what = format!("step {step}: {} {}", answer.status, answer.body_text());
        assert!(message.complete, "{what}");
        assert_eq!(answer.header("x-provider"), expected, "{what}");
        let turns = body["messages"].as_array_mut().unwrap();
        turns.push(json!({"role": "assistant", "content": message.value["content"]}));
        turns.push(match message.calls().first() {
            Some(call) => json!({"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": call["id"], "content": "seen"}]}),
            None => json!({"role": "user", "content": "look again"}),
        });
    }
    assert_eq!((anthropic.generations(), openai.generations()), (5, 2));
}

#[tokio::test]
async fn limits_by_user_count_what_passes_through() {
    let sim = Sim::start(SimDialect::Anthropic).unwrap();
    let rules = "[[limits.rule]]\nscope = \"user\"\ntokens_per_minute = 1000\n";
    let gateway = Gateway::builder().config(rules).provider("anthropic", &sim).start().await;
    let mut body = asking("anthropic/sim-ok", "some words", true);
    (body["metadata"], body["max_tokens"]) = (json!({"user_id": "u1"}), json!(600));
    let first = gateway.messages("/v1/messages", &body).await;
    assert_eq!(first.status, 200, "{}", first.body_text());
    // What was reserved and not used is given back: the usage of the stream was seen.
    let second = gateway.messages("/v1/messages", &body).await;
    assert_eq!(second.status, 200, "{}", second.body_text());
    body["max_tokens"] = json!(999);
    let third = gateway.messages("/v1/messages", &body).await;
    assert_eq!(
        (third.status, &third.json()["error"]["type"]),
        (429, &json!("rate_limit_error")),
        "{}",
        third.body_text()
    );
}
