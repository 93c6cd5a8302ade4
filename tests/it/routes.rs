//! What the gateway answers where: its routes, and errors in OpenAI's shape everywhere else.

use crate::gateway::{Gateway, KEY, saying};
use crate::raw::{Connection, chat_head};
use orbyt::sim::client::{self, Answer, BodyEnd};
use orbyt::sim::{Sim, SimDialect};
use serde_json::{Value, json};

/// A gateway with one provider, called like one of the catalog.
async fn gateway() -> (Gateway, Sim) {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    (Gateway::builder().provider("openai", &sim).start().await, sim)
}

async fn ask(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let key = format!("Bearer {KEY}");
    let headers: Vec<_> = [("authorization", key.as_str())].into_iter().chain(headers.iter().copied()).collect();
    client::send(method, &format!("{}{path}", gateway.url), &headers, body).await.unwrap()
}

async fn get(gateway: &Gateway, path: &str) -> Answer {
    ask(gateway, "GET", path, &[], b"").await
}

async fn post(gateway: &Gateway, body: &str) -> Answer {
    ask(gateway, "POST", "/v1/chat/completions", &[("content-type", "application/json")], body.as_bytes()).await
}

/// Checks that an answer is an error of OpenAI's shape, with real nulls, and returns it.
fn error(answer: &Answer, status: u16, code: &str) -> Value {
    let error = answer.json()["error"].clone();
    let seen = format!("{} {}", answer.status, answer.body_text());
    assert_eq!((answer.status, &error["code"]), (status, &json!(code)), "{seen}");
    assert!(
        error["message"].as_str().is_some_and(|message| !message.is_empty()) && error["type"].is_string(),
        "{seen}"
    );
    assert!(error.get("param").is_some_and(|param| param.is_null() || param.is_string()), "{seen}");
    assert_eq!(answer.header("content-type"), "application/json", "{seen}");
    assert_eq!(answer.end, BodyEnd::Clean, "{seen}");
    is_named(answer);
    error
}

/// Checks that an answer has an id of its own.
fn is_named(answer: &Answer) {
    let id = answer.header("x-request-id");
    assert!(id.strip_prefix("req_").is_some_and(|hex| hex.len() > 8), "no x-request-id: {answer:?}");
}

#[tokio::test]
async fn the_list_of_models_is_openais_with_openrouters_additions() {
    let (gateway, sim) = gateway().await;
    let answer = get(&gateway, "/v1/models").await;
    is_named(&answer);
    let list = answer.json();
    assert_eq!((answer.status, &list["object"]), (200, &json!("list")));
    let models = list["data"].as_array().unwrap();
    for model in models {
        assert!(model["id"].as_str().is_some_and(|id| id.starts_with("openai/")), "{model}");
        assert_eq!((&model["object"], &model["owned_by"]), (&json!("model"), &json!("openai")), "{model}");
        assert!(model["created"].is_u64() && model["architecture"]["input_modalities"].is_array(), "{model}");
        assert!(model["supported_parameters"].is_array() && model["pricing"].is_object(), "{model}");
    }
    let model = models.iter().find(|model| model["id"] == "openai/gpt-4o").expect("a well-known model");
    assert_eq!(model["context_length"], 128_000);
    assert_eq!(model["pricing"]["prompt"], "0.0000025", "dollars a token, as a decimal string");
    assert!(model["supported_parameters"].as_array().unwrap().contains(&json!("tools")), "{model}");
    assert_eq!(sim.generations(), 0);
}

#[tokio::test]
async fn a_model_is_found_by_any_name_that_a_request_could_use() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().provider("openai", &sim).provider("mistral", &sim).start().await;
    for (path, id) in [
        ("/v1/models/openai/gpt-4o", "openai/gpt-4o"),
        ("/v1/models/openai%2Fgpt-4o", "openai/gpt-4o"),
        ("/v1/models/openai%2fgpt-4o", "openai/gpt-4o"),
        ("/v1/models/gpt-4o", "gpt-4o"),
        ("/v1/models/openai/a-model-of-tomorrow", "openai/a-model-of-tomorrow"),
    ] {
        let answer = get(&gateway, path).await;
        let model = answer.json();
        assert_eq!((answer.status, &model["object"], &model["id"]), (200, &json!("model"), &json!(id)), "{path}");
    }
    let unknown = get(&gateway, "/v1/models/anthropic/claude-x").await;
    assert_eq!(error(&unknown, 404, "model_not_found")["param"], "model");
}

#[tokio::test]
async fn load_balancers_and_the_curious_need_no_key() {
    let (gateway, _sim) = gateway().await;
    for path in ["/livez", "/readyz", "/"] {
        let url = format!("{}{path}", gateway.url);
        let answer = client::send("GET", &url, &[], b"").await.unwrap();
        is_named(&answer);
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{path}");
        let head = client::send("HEAD", &url, &[], b"").await.unwrap();
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-length"), answer.body.len().to_string(), "HEAD says what GET has: {path}");
        if path == "/" {
            let what = answer.json();
            assert_eq!((&what["name"], &what["console"]), (&json!("orbyt"), &json!(gateway.console_url)));
        }
    }
}

#[tokio::test]
async fn what_does_not_exist_is_a_404_and_a_wrong_method_a_405() {
    let (gateway, _sim) = gateway().await;
    for path in
        ["/v1/engines", "/v2/chat/completions", "/v1", "/v1/chat/completions/x", "/metrics", "/%00", "/v1/../etc"]
    {
        error(&get(&gateway, path).await, 404, "unknown_url");
    }
    for (method, path, allow) in [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("PUT", "/v1/models/openai/gpt-4o", "GET"),
        ("POST", "/livez", "GET"),
        ("PATCH", "/", "GET"),
    ] {
        let answer = ask(&gateway, method, path, &[], b"").await;
        error(&answer, 405, "method_not_allowed");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
    }
}

#[tokio::test]
async fn a_base_url_that_is_a_little_off_is_forgiven() {
    let (gateway, _sim) = gateway().await;
    let body = saying("openai/sim-ok", "one two", false).to_string();
    for path in
        ["/v1/chat/completions/", "/v1/v1/chat/completions", "/chat/completions", "/v1/chat/completions?beta=true"]
    {
        let answer = ask(&gateway, "POST", path, &[], body.as_bytes()).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "one two"), "{path}: {}", answer.body_text());
    }
}

#[tokio::test]
async fn a_content_type_is_not_asked_for() {
    let (gateway, _sim) = gateway().await;
    let body = saying("openai/sim-ok", "one two", false).to_string();
    for content_type in ["", "application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8"] {
        let headers: &[_] = if content_type.is_empty() { &[] } else { &[("content-type", content_type)] };
        let answer = ask(&gateway, "POST", "/v1/chat/completions", headers, body.as_bytes()).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "one two"), "{content_type}");
        is_named(&answer);
    }
}

#[tokio::test]
async fn a_body_that_is_no_request_is_refused_with_the_place_of_the_mistake() {
    let (gateway, sim) = gateway().await;
    let at =
        error(&post(&gateway, "{\"model\": \"openai/gpt-4o\",\n  \"messages\": [}\n").await, 400, "invalid_request");
    let message = at["message"].as_str().unwrap();
    assert!(message.contains("line 2") && message.contains("column"), "where is it? {message}");
    for (body, param) in [
        ("", Value::Null),
        ("[]", Value::Null),
        ("\"text\"", Value::Null),
        (r#"{"messages": []}"#, json!("model")),
        (r#"{"model": 7, "messages": [{"role": "user", "content": "x"}]}"#, json!("model")),
        (r#"{"model": "", "messages": [{"role": "user", "content": "x"}]}"#, json!("model")),
        (r#"{"model": "openai/gpt-4o"}"#, json!("messages")),
        (r#"{"model": "openai/gpt-4o", "messages": "hello"}"#, json!("messages")),
        (r#"{"model": "openai/gpt-4o", "messages": []}"#, json!("messages")),
        (
            r#"{"model": "openai/gpt-4o", "stream": "yes", "messages": [{"role": "user", "content": "x"}]}"#,
            json!("stream"),
        ),
    ] {
        let answer = post(&gateway, body).await;
        assert_eq!(error(&answer, 400, "invalid_request")["param"], param, "{body}: {}", answer.body_text());
    }
    assert_eq!(sim.generations(), 0, "no provider is asked what the gateway knows to be wrong");
}

#[tokio::test]
async fn the_extensions_name_what_they_do_not_take() {
    let (gateway, sim) = gateway().await;
    for (extra, param) in [
        (json!({"fallback_model": ["x"]}), "extra.fallback_model"),
        (json!({"fallback_models": "x"}), "extra.fallback_models"),
        (json!({"retry": 11}), "extra.retry"),
        (json!({"retry": "2"}), "extra.retry"),
        (json!({"timeout_ms": -1}), "extra.timeout_ms"),
        (json!({"provider": 1}), "extra.provider"),
        (json!({"provider": "nobody"}), "extra.provider"),
        (json!({"byok": 1}), "extra.byok"),
        (json!({"preset": 1}), "extra.preset"),
        (json!({"max_cost": "a lot"}), "extra.max_cost"),
        (json!("cheap"), "extra"),
    ] {
        let mut request = saying("openai/gpt-4o", "x", false);
        request["extra"] = extra.clone();
        let answer = gateway.chat(&request).await;
        let error = error(&answer, 400, "invalid_request");
        assert_eq!(error["param"], param, "{extra}: {error}");
        assert!(error["message"].as_str().unwrap().contains(param), "the message names it too: {error}");
    }
    assert_eq!(sim.generations(), 0);
}

#[tokio::test]
async fn a_model_of_no_configured_provider_is_a_404_with_advice() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    // A single provider would be asked for any name: it may be a router that has other providers' models.
    let gateway = Gateway::builder().provider("openai", &sim).provider("mistral", &sim).start().await;
    for (model, advice) in [("anthropic/claude-sonnet-4", "ANTHROPIC_API_KEY"), ("@preset/mine", "preset")] {
        let answer = gateway.chat(&saying(model, "x", false)).await;
        let error = error(&answer, 404, "model_not_found");
        assert!(error["message"].as_str().unwrap().contains(advice), "{model}: {error}");
    }
}

#[tokio::test]
async fn without_cors_a_page_is_told_nothing() {
    let (gateway, _sim) = gateway().await;
    let origin = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
    let preflight =
        client::send("OPTIONS", &format!("{}/v1/chat/completions", gateway.url), &origin, b"").await.unwrap();
    let answer = ask(&gateway, "GET", "/v1/models", &origin, b"").await;
    for answer in [preflight, answer] {
        is_named(&answer);
        assert!(!answer.headers.iter().any(|(name, _)| name.starts_with("access-control-")), "{:?}", answer.headers);
    }
}

#[tokio::test]
async fn with_cors_an_allowed_page_may_call_and_another_may_not() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let cors = "[server.cors]\nallow_origins = [\"https://app.example\"]";
    let gateway = Gateway::builder().provider("openai", &sim).config(cors).start().await;
    let url = format!("{}/v1/chat/completions", gateway.url);
    let asks = |origin| [("origin", origin), ("access-control-request-headers", "authorization, x-stainless-os")];
    // A browser sends no key with its question.
    let preflight = client::send("OPTIONS", &url, &asks("https://app.example"), b"").await.unwrap();
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), "https://app.example");
    assert_eq!(preflight.header("access-control-allow-headers"), "authorization, x-stainless-os");
    assert!(preflight.header("access-control-allow-methods").contains("POST"));
    assert_eq!(preflight.header("vary").to_ascii_lowercase(), "origin");
    let body = saying("openai/sim-ok", "one two", true).to_string();
    for (body, status) in [(body.as_str(), 200), ("{", 400)] {
        let answer = ask(&gateway, "POST", "/v1/chat/completions", &asks("https://app.example"), body.as_bytes()).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), "https://app.example", "errors too: {answer:?}");
        assert!(answer.header("access-control-expose-headers").contains("x-request-id"));
    }
    let foreign = client::send("OPTIONS", &url, &asks("https://evil.example"), b"").await.unwrap();
    assert_eq!(foreign.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn a_head_as_large_as_agents_send_is_taken_and_a_huge_one_does_no_harm() {
    let (gateway, _sim) = gateway().await;
    let body = saying("openai/sim-ok", "one two", false).to_string();
    let large = "x".repeat(24 * 1024);
    let answer = ask(&gateway, "POST", "/v1/chat/completions", &[("x-trace", &large)], body.as_bytes()).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "one two"));
    let mut connection = Connection::to(&gateway).await;
    let head = chat_head(&format!("content-length: 0\r\nx-huge: {}", "x".repeat(4 * 1024 * 1024)));
    // It may be refused before all of it is written.
    let _ = tokio::io::AsyncWriteExt::write_all(&mut connection.stream, head.as_bytes()).await;
    drop(connection);
    assert_eq!(get(&gateway, "/livez").await.status, 200);
}

#[tokio::test]
async fn every_answer_has_an_id_of_its_own() {
    let (gateway, _sim) = gateway().await;
    let mut ids = Vec::new();
    for body in
        [saying("openai/sim-ok", "x", false), saying("openai/sim-ok", "x", true), saying("openai/sim-400", "x", false)]
    {
        for _ in 0..3 {
            let answer = gateway.chat(&body).await;
            is_named(&answer);
            ids.push(answer.header("x-request-id").to_owned());
        }
    }
    let mut distinct = ids.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), ids.len());
}

#[tokio::test]
async fn the_shortest_health_check_is_answered_at_once() {
    let (gateway, _sim) = gateway().await;
    for (request, status) in [("GET /livez HTTP/1.0\r\n\r\n", 200), ("OPTIONS / HTTP/1.0\r\n\r\n", 204)] {
        let mut connection = Connection::to(&gateway).await;
        connection.write(request).await;
        let head = tokio::time::timeout(std::time::Duration::from_secs(5), connection.head()).await;
        let head = head.expect("no answer to a request shorter than the preface of HTTP/2");
        assert!(head[0].contains(&format!(" {status} ")), "{head:?}");
    }
}
