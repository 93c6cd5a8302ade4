//! Where two rarer things meet: clients of other formats than OpenAI's chat in front of clouds, and providers that answer a request for a
//! stream with a whole answer, which each client gets as the stream that it asked for.

use crate::clouds::{key, provider, vertex};
use crate::completions::complete;
use crate::gateway::{Gateway, KEY, saying};
use crate::messages::{Message, asking};
use crate::responses::{response, text};
use orbyt::sim::client::Answer;
use orbyt::sim::{Sim, SimDialect, SimFault, Step};
use serde_json::{Value, json};

async fn respond(gateway: &Gateway, body: &Value) -> Answer {
    let key = format!("Bearer {KEY}");
    let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
    gateway.ask("/v1/responses", &headers, body).await
}

// ------------------------------------------------------------------------------------------------------------- clouds

#[tokio::test]
async fn anthropics_clients_reach_claude_on_vertex_byte_by_byte() {
    let sim = Sim::start(SimDialect::Anthropic).unwrap();
    let (gateway, _folder) = vertex(&sim, &format!("http://{}/token", sim.address()), "").await;
    for (stream, method) in [(false, "rawPredict"), (true, "streamRawPredict")] {
        let mut body = asking("vertex/claude-sonnet-4-5@20250929", "one two", stream);
        body["metadata"] = json!({"user_id": "u"});
        let answer = gateway.messages("/v1/messages", &body).await;
        let message = Message::of(&answer);
        assert!(message.complete && message.text() == "one two", "{}", answer.body_text());
        assert_eq!(message.value["stop_reason"], "end_turn");
        let call = sim.calls().pop().unwrap();
        let path = format!(
            "/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-sonnet-4-5@20250929:{method}"
        );
        assert_eq!(call.path.replace("%40", "@"), path);
        let mut sent = body.clone();
        sent.as_object_mut().unwrap().remove("model");
        sent["anthropic_version"] = json!("vertex-2023-10-16");
        assert_eq!(call.json(), sent, "nothing else changes");
    }
}

#[tokio::test]
async fn anthropics_clients_reach_gemini_on_vertex() {
    let sim = Sim::start(SimDialect::Gemini).unwrap();
    let (gateway, _folder) = vertex(&sim, &format!("http://{}/token", sim.address()), "").await;
    let tool =
        json!({"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}});
    for (stream, method) in [(false, "generateContent"), (true, "streamGenerateContent")] {
        let mut body = asking("vertex/gemini-2.5-flash", "weather please", stream);
        body["tools"] = json!([tool]);
        let answer = gateway.messages("/v1/messages", &body).await;
        let message = Message::of(&answer);
        let calls: Vec<&Value> =
            message.value["content"].as_array().unwrap().iter().filter(|block| block["type"] == "tool_use").collect();
        assert_eq!((calls.len(), &calls[0]["name"]), (1, &json!("weather")), "{}", answer.body_text());
        assert_eq!((message.complete, &message.value["stop_reason"]), (true, &json!("tool_use")));
        assert!(sim.calls().pop().unwrap().path.ends_with(&format!("gemini-2.5-flash:{method}")));
        let result = json!({"type": "tool_result", "tool_use_id": calls[0]["id"], "content": "sunny"});
        let turns = body["messages"].as_array_mut().unwrap();
        turns.push(json!({"role": "assistant", "content": message.value["content"]}));
        turns.push(json!({"role": "user", "content": [result]}));
        let last = Message::of(&gateway.messages("/v1/messages", &body).await);
        assert_eq!((last.complete, last.text().as_str()), (true, "weather said: sunny"), "{last:?}");
    }
}

#[tokio::test]
async fn a_break_on_vertex_is_an_error_of_anthropics_form() {
    for (dialect, model) in
        [(SimDialect::Anthropic, "claude-sonnet-4-5@20250929"), (SimDialect::Gemini, "gemini-2.5-flash")]
    {
        let sim = Sim::start(dialect).unwrap();
        let (gateway, _folder) = vertex(&sim, &format!("http://{}/token", sim.address()), "").await;
        sim.script([SimFault::CutAfterTokens, SimFault::ServerError]);
        let body = asking(&format!("vertex/{model}"), "one two three four five six", true);
        let broken = Message::of(&gateway.messages("/v1/messages", &body).await);
        assert!(!broken.complete && broken.error.is_some() && !broken.text().is_empty(), "{broken:?}");
        let refused = gateway.messages("/v1/messages", &body).await;
        assert_eq!((refused.status, &refused.json()["type"]), (503, &json!("error")), "{}", refused.body_text());
    }
}

#[tokio::test]
async fn clients_of_responses_reach_azure() {
    for (more, path, query) in [
        ("", "/openai/v1/chat/completions", ""),
        (
            "api_version = '2025-03-01-preview'",
            "/openai/deployments/d/chat/completions",
            "api-version=2025-03-01-preview",
        ),
        ("quirks = ['responses']", "/openai/v1/responses", ""),
        ("quirks = ['responses']\napi_version = 'preview'", "/openai/v1/responses", "api-version=preview"),
        (
            "quirks = ['responses']\napi_version = '2025-03-01-preview'",
            "/openai/responses",
            "api-version=2025-03-01-preview",
        ),
    ] {
        let sim = Sim::start(SimDialect::OpenAi).unwrap();
        let config = provider("azure", &sim, &format!("{more}\n{}", key("key-of-azure")));
        let gateway = Gateway::builder().config(&config).start().await;
        for stream in [false, true] {
            let answer = respond(&gateway, &json!({"model": "azure/d", "input": "one two", "stream": stream})).await;
            assert_eq!(text(&response(&answer)), "one two", "{more}");
            let call = sim.calls().pop().unwrap();
            assert_eq!((call.path.as_str(), call.query.as_str()), (path, query), "{more}");
            assert_eq!(call.header("api-key"), Some("key-of-azure"));
            assert!(path.contains("deployments") || call.json()["model"] == "d", "{more}");
        }
        sim.script([SimFault::CutAfterTokens]);
        let broken =
            respond(&gateway, &json!({"model": "azure/d", "input": "one two three four", "stream": true})).await;
        let last = broken.events().pop().unwrap();
        assert_eq!(last["type"], "response.failed", "{more}: {}", broken.body_text());
    }
}

#[tokio::test]
async fn clients_of_text_completions_reach_azure() {
    for (more, path) in [
        ("", "/openai/v1/chat/completions"),
        ("quirks = ['completions']", "/openai/v1/completions"),
        ("quirks = ['completions']\napi_version = '2024-10-21'", "/openai/deployments/d/completions"),
    ] {
        let sim = Sim::start(SimDialect::OpenAi).unwrap();
        let config = provider("azure", &sim, &format!("{more}\n{}", key("key-of-azure")));
        let gateway = Gateway::builder().config(&config).start().await;
        for stream in [false, true] {
            let answer = complete(&gateway, &json!({"model": "azure/d", "prompt": "one two", "stream": stream})).await;
            assert!(answer.looks_complete() && answer.text() == "one two", "{more}: {}", answer.body_text());
            assert_eq!(sim.calls().pop().unwrap().path, path, "{more}");
        }
    }
}

// ------------------------------------------------------------------------------- whole answers where streams were asked for

const SAID: &str = "one \"two\"\nthree";

/// The providers, what their models are asked by, and a whole answer of each. The first two have routes of their own for two clients.
fn whole_answers() -> Vec<(&'static str, SimDialect, Value)> {
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7});
    let chat = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": usage, "choices": [
        {"index": 0, "message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}]});
    vec![
        ("openai", SimDialect::OpenAi, chat.clone()),
        ("compatible", SimDialect::OpenAi, chat),
        (
            "anthropic",
            SimDialect::Anthropic,
            json!({"id": "m", "type": "message", "role": "assistant", "model": "m",
            "content": [{"type": "text", "text": SAID}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 3, "output_tokens": 4}}),
        ),
        (
            "google",
            SimDialect::Gemini,
            json!({"candidates": [{"content": {"role": "model", "parts": [{"text": SAID}]},
            "finishReason": "STOP", "index": 0}], "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}}),
        ),
        (
            "cohere",
            SimDialect::Cohere,
            json!({"id": "c", "message": {"role": "assistant", "content": [{"type": "text", "text": SAID}]},
            "finish_reason": "COMPLETE", "usage": {"tokens": {"input_tokens": 3, "output_tokens": 4}}}),
        ),
        (
            "ollama",
            SimDialect::Ollama,
            json!({"model": "m", "message": {"role": "assistant", "content": SAID}, "done": true,
            "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 4}),
        ),
    ]
}

/// The whole answers of OpenAI's other routes.
fn of_route(route: &str) -> Value {
    match route {
        "responses" => {
            json!({"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "m",
            "error": null, "incomplete_details": null, "output": [{"id": "msg_1", "type": "message", "status": "completed",
                "role": "assistant", "content": [{"type": "output_text", "text": SAID, "annotations": []}]}],
            "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}})
        }
        _ => json!({"id": "c", "object": "text_completion", "created": 1, "model": "m",
            "choices": [{"text": SAID, "index": 0, "logprobs": null, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}),
    }
}

#[tokio::test]
async fn a_whole_answer_where_a_stream_was_asked_for_is_streamed_to_every_client() {
    let answers = whole_answers();
    let sims: Vec<Sim> = answers.iter().map(|(_, dialect, _)| Sim::start(*dialect).unwrap()).collect();
    let builder = Gateway::builder().config("[retry]\nmax = 0\n[breaker]\nenabled = false\n");
    let builder = answers.iter().zip(&sims).fold(builder, |builder, ((id, ..), sim)| builder.provider(id, sim));
    let gateway = builder.start().await;
    for ((id, _, chat), sim) in answers.iter().zip(&sims) {
        for client in ["chat", "messages", "responses", "completions"] {
            let has_route = *id == "openai" && matches!(client, "responses" | "completions");
            let whole = if has_route { of_route(client) } else { chat.clone() };
            // Over several lines, as some write it; Ollama's stream is one of lines.
            let body = if *id == "ollama" { whole.to_string() } else { format!("{whole:#}") };
            sim.script([Step::Reply { status: 200, headers: Vec::new(), body }]);
            let model = format!("{id}/sim-ok");
            let (said, answer) = match client {
                "chat" => {
                    let answer = gateway.chat(&saying(&model, "x", true)).await;
                    assert!(answer.looks_complete(), "{id} {client}: {}", answer.body_text());
                    (answer.text(), answer)
                }
                "messages" => {
                    let answer = gateway.messages("/v1/messages", &asking(&model, "x", true)).await;
                    let message = Message::of(&answer);
                    assert!(
                        message.complete && message.value["stop_reason"] == "end_turn",
                        "{id}: {}",
                        answer.body_text()
                    );
                    (message.text(), answer)
                }
                "responses" => {
                    let answer = respond(&gateway, &json!({"model": model, "input": "x", "stream": true})).await;
                    (text(&response(&answer)), answer)
                }
                _ => {
                    let answer = complete(&gateway, &json!({"model": model, "prompt": "x", "stream": true})).await;
                    assert!(answer.looks_complete(), "{id} {client}: {}", answer.body_text());
                    (answer.text(), answer)
                }
            };
            assert!(answer.is_stream(), "{id} {client}: {:?}", answer.headers);
            assert_eq!(said, SAID, "{id} {client}: {}", answer.body_text());
            assert_eq!(gateway.log_line(&answer).await["completion_tokens"], 4, "{id} {client}");
        }
    }
}
