//! `POST /v1/responses` over every provider, as the Codex CLI and OpenAI's SDKs use it.

use crate::gateway::{Gateway, KEY, PATIENCE};
use orbyt::sim::client::{self, Answer, BodyEnd};
use orbyt::sim::{Sim, SimDialect, SimFault};
use serde_json::{Value, json};

/// The providers: one that has `/responses` itself, and one of each format to which it is translated.
const UPSTREAMS: [(&str, SimDialect); 7] = [
    ("openai", SimDialect::OpenAi),
    ("compatible", SimDialect::OpenAi),
    ("anthropic", SimDialect::Anthropic),
    ("google", SimDialect::Gemini),
    ("cohere", SimDialect::Cohere),
    ("ollama", SimDialect::Ollama),
    ("bedrock", SimDialect::Bedrock),
];

struct Bench {
    gateway: Gateway,
    sims: Vec<(&'static str, Sim)>,
}

async fn bench() -> Bench {
    let sims: Vec<_> = UPSTREAMS.iter().map(|(id, dialect)| (*id, Sim::start(*dialect).unwrap())).collect();
    let keys = format!("{KEY},{OTHER_KEY}");
    let builder = Gateway::builder().variable("ORBYT_API_KEYS", &keys).config(&models());
    let gateway = sims.iter().fold(builder, |builder, (id, sim)| builder.provider(id, sim)).start().await;
    Bench { gateway, sims }
}

/// A key of another client.
const OTHER_KEY: &str = "another-key-of-the-tests";

/// Models that think are known as such by the catalog; these stand for them at every provider.
fn models() -> String {
    "[retry]\nmax = 0\n[breaker]\nenabled = false\n".to_owned()
}

impl Bench {
    fn sim(&self, id: &str) -> &Sim {
        &self.sims.iter().find(|(name, _)| *name == id).unwrap().1
    }

    async fn ask(&self, body: &Value) -> Answer {
        self.send("POST", "/v1/responses", KEY, body).await
    }

    async fn send(&self, method: &str, path: &str, key: &str, body: &Value) -> Answer {
        let key = format!("Bearer {key}");
        let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let url = format!("{}{path}", self.gateway.url);
        let sent = tokio::time::timeout(PATIENCE, client::send(method, &url, &headers, &body)).await;
        sent.expect("an answer in time").unwrap_or_else(|error| panic!("{error}\n{}", self.gateway.output()))
    }
}

/// The response of an answer: the body, or what the last event of its stream says. Checks the stream's numbers and its end on the way.
pub(crate) fn response(answer: &Answer) -> Value {
    assert_eq!((answer.status, answer.end), (200, BodyEnd::Clean), "{}", answer.body_text());
    if !answer.is_stream() {
        return answer.json();
    }
    let events = answer.events();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number as u64, "{event}");
    }
    let last = events.last().unwrap();
    assert!(["response.completed", "response.incomplete"].contains(&last["type"].as_str().unwrap()), "{last}");
    let done: Vec<&Value> = events.iter().filter(|event| event["type"] == "response.output_item.done").collect();
    let items: Vec<&Value> = last["response"]["output"].as_array().unwrap().iter().collect();
    assert_eq!(done.iter().map(|event| &event["item"]).collect::<Vec<_>>(), items);
    last["response"].clone()
}

pub(crate) fn text(response: &Value) -> String {
    let items = response["output"].as_array().unwrap().iter();
    let parts = items.filter(|item| item["type"] == "message").flat_map(|item| item["content"].as_array().unwrap());
    parts.filter_map(|part| part["text"].as_str()).collect()
}

fn tools() -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
                        "additionalProperties": false});
    json!([{"type": "function", "name": "weather", "description": "Tells the weather.", "parameters": schema, "strict": true},
           {"type": "function", "name": "time", "parameters": schema}])
}

#[tokio::test]
async fn every_provider_answers_in_the_form_of_responses() {
    let bench = bench().await;
    for (id, _) in UPSTREAMS {
        for stream in [false, true] {
            let body = json!({"model": format!("{id}/sim-ok"), "stream": stream, "instructions": "Repeat.",
                              "input": "one two three"});
            let answer = bench.ask(&body).await;
            let response = response(&answer);
            assert_eq!(text(&response), "one two three", "{id} {stream}");
            assert_eq!((&response["object"], &response["status"]), (&json!("response"), &json!("completed")), "{id}");
            let usage = &response["usage"];
            assert!(usage["input_tokens"].as_u64() > Some(0), "{id}: {usage}");
            assert_eq!(usage["output_tokens"], 3, "{id}: {usage}");
            let line = bench.gateway.log_line(&answer).await;
            assert_eq!((&line["route"], &line["provider"]), (&json!("POST /v1/responses"), &json!(id)));
            assert_eq!(line["output_tokens"].as_u64().or(line["completion_tokens"].as_u64()), Some(3), "{line}");
            let last = bench.sim(id).calls().pop().unwrap();
            assert_eq!(last.path.ends_with("/responses"), id == "openai", "{id}: {}", last.path);
        }
        let short = json!({"model": format!("{id}/sim-ok"), "input": "one two three", "max_output_tokens": 2});
        let response = response(&bench.ask(&short).await);
        assert_eq!(response["status"], "incomplete", "{id}");
        assert_eq!(response["incomplete_details"]["reason"], "max_output_tokens", "{id}");
    }
}

#[tokio::test]
async fn structured_answers_and_media_arrive() {
    let bench = bench().await;
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
                        "additionalProperties": false});
    for (id, _) in UPSTREAMS {
        let format = json!({"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": true}});
        let body = json!({"model": format!("{id}/sim-ok"), "input": "where", "text": format});
        let told = text(&response(&bench.ask(&body).await));
        assert!(serde_json::from_str::<Value>(&told).unwrap()["city"].is_string(), "{id}: {told}");
        let picture = json!([{"role": "user", "content": [
            {"type": "input_text", "text": "what is this"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]}]);
        let body = json!({"model": format!("{id}/sim-ok"), "input": picture, "stream": true});
        let told = text(&response(&bench.ask(&body).await));
        assert!(told.contains("image/png, 3 bytes"), "{id}: {told}");
    }
}

#[tokio::test]
async fn errors_have_openais_form() {
    let bench = bench().await;
    for (id, _) in UPSTREAMS {
        for (fault, status) in [("400", 400), ("context-length", 400), ("500", 503), ("unknown", 404), ("429", 429)] {
            // A key that is rate limited rests, so that is asked for once.
            for stream in [false, true].into_iter().filter(|stream| fault != "429" || *stream) {
                let body = json!({"model": format!("{id}/sim-{fault}"), "input": "x", "stream": stream});
                let answer = bench.ask(&body).await;
                let error = &answer.json()["error"];
                assert_eq!(answer.status, status, "{id} {fault}: {error}");
                assert!(error["message"].is_string() && error["type"].is_string(), "{id} {fault}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_said_to_a_provider_is_named() {
    let bench = bench().await;
    for (body, param) in [
        (json!({"model": "anthropic/sim-ok"}), "input"),
        (json!({"model": "anthropic/sim-ok", "input": "x", "tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"model": "google/sim-ok", "input": "x", "tools": [{"type": "file_search"}]}), "tools[0].type"),
        (json!({"model": "compatible/sim-ok", "input": "x", "background": true}), "background"),
        (json!({"model": "anthropic/sim-ok", "input": [{"type": "compaction"}]}), "input[0].type"),
        (json!({"model": "anthropic/sim-ok", "input": [{"type": "web_search_call"}]}), "input"),
        (json!({"input": "x"}), "model"),
    ] {
        let answer = bench.ask(&body).await;
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(param)), "{body}");
    }
    // What OpenAI runs itself passes to OpenAI.
    let search =
        json!({"model": "openai/sim-ok", "input": "x", "tools": [{"type": "web_search"}], "tool_choice": "none"});
    assert_eq!(text(&response(&bench.ask(&search).await)), "x");
    assert_eq!(bench.sim("openai").calls().pop().unwrap().json()["tools"], search["tools"]);
}

#[tokio::test]
async fn a_conversation_that_openais_own_tools_took_part_in_goes_on_elsewhere() {
    let bench = bench().await;
    let input = json!([
        {"role": "user", "content": "Who won?"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "who won"}},
        {"type": "web_search_call", "id": "ws_2", "status": "completed", "action": {"type": "open_page", "url": "https://example.com"}},
        {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": []},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
         "content": [{"type": "output_text", "text": "Nobody did.", "annotations": []}]},
        {"role": "user", "content": "one two"},
    ]);
    for (id, _) in UPSTREAMS.into_iter().skip(1) {
        // From the provider that has them, by fallback.
        bench.sim("openai").script([SimFault::ServerError]);
        let body =
            json!({"model": "openai/sim-ok", "input": input, "extra": {"fallback_models": [format!("{id}/sim-ok")]}});
        let answer = bench.ask(&body).await;
        assert_eq!(text(&response(&answer)), "one two", "{id}");
        assert_eq!(answer.header("x-provider"), id);
        assert_eq!(answer.header("x-orbyt-dropped"), "input.web_search_call, input.mcp_list_tools", "{id}");
        let sent = String::from_utf8(bench.sim(id).calls().pop().unwrap().body).unwrap();
        assert!(sent.contains("Nobody did.") && !sent.contains("open_page"), "{id}: {sent}");
        // Who wants all or nothing gets nothing.
        let strict = json!({"model": format!("{id}/sim-ok"), "input": input, "provider": {"require_parameters": true}});
        let answer = bench.ask(&strict).await;
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("input.web_search_call")), "{id}");
    }
}

#[tokio::test]
async fn what_breaks_before_the_first_output_is_the_next_ones() {
    let bench = bench().await;
    for (first, _) in UPSTREAMS {
        for (second, _) in UPSTREAMS.into_iter().filter(|(id, _)| *id != first) {
            for fault in [SimFault::ServerError, SimFault::ErrorAfterPrelude, SimFault::RoleOnly, SimFault::Html] {
                bench.sim(first).script([fault]);
                let body = json!({"model": format!("{first}/sim-ok"), "input": "one two", "stream": true,
                                  "extra": {"fallback_models": [format!("{second}/sim-ok")]}});
                let answer = bench.ask(&body).await;
                assert_eq!(text(&response(&answer)), "one two", "{first} {second} {fault:?}");
                assert_eq!(answer.header("x-provider"), second, "{first} {fault:?}");
            }
        }
    }
}

#[tokio::test]
async fn signatures_come_back_to_their_provider_and_to_no_other() {
    let bench = bench().await;
    let body = |model: &str, input: &Value| {
        json!({"model": model, "input": input, "store": false, "tools": tools(), "max_output_tokens": 20_000,
               "reasoning": {"effort": "high"}})
    };
    let first = json!([{"role": "user", "content": "weather"}]);
    let claude = "anthropic/claude-sonnet-4-5";
    let told = response(&bench.ask(&body(claude, &first)).await);
    let call = told["output"].as_array().unwrap().iter().find(|item| item["type"] == "function_call").unwrap();
    let mut input = first.as_array().unwrap().clone();
    input.extend(told["output"].as_array().unwrap().clone());
    input.push(json!({"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}));
    let second = json!(input);
    assert!(text(&response(&bench.ask(&body(claude, &second)).await)).contains("rain"));
    let sent = bench.sim("anthropic").calls().pop().unwrap().json();
    let blocks = sent["messages"][1]["content"].as_array().unwrap();
    assert_eq!(blocks[0]["type"], "thinking");
    assert!(blocks[0]["signature"].as_str().is_some_and(|signature| signature.starts_with("c2lt")), "{sent}");
    // OpenAI would refuse what it did not encrypt, Gemini what it did not sign.
    for other in ["openai/sim-ok", "google/gemini-2.5-flash", "compatible/sim-ok"] {
        assert!(text(&response(&bench.ask(&body(other, &second)).await)).contains("rain"), "{other}");
    }
    let sent = bench.sim("openai").calls().pop().unwrap().json();
    assert!(sent["input"].as_array().unwrap().iter().all(|item| item["type"] != "reasoning"), "{sent}");
}

#[tokio::test]
async fn a_custom_tool_is_called_with_free_text() {
    let bench = bench().await;
    for (id, _) in UPSTREAMS.into_iter().skip(1) {
        for stream in [false, true] {
            let tool = json!({"type": "custom", "name": "apply_patch", "description": "Edits files."});
            let first = json!([{"role": "user", "content": "apply_patch"}]);
            let mut body = json!({"model": format!("{id}/sim-ok"), "input": first, "tools": [tool], "stream": stream});
            let told = response(&bench.ask(&body).await);
            let call = told["output"].as_array().unwrap().last().unwrap().clone();
            assert_eq!((&call["type"], &call["name"]), (&json!("custom_tool_call"), &json!("apply_patch")), "{told}");
            assert!(call["input"].is_string() && call.get("arguments").is_none(), "{call}");
            let result = json!({"type": "custom_tool_call_output", "call_id": call["call_id"], "output": "done"});
            body["input"] = json!([first[0], call, result]);
            assert!(text(&response(&bench.ask(&body).await)).contains("done"), "{id}");
        }
    }
}

#[tokio::test]
async fn a_client_goes_on_from_a_response_that_is_kept() {
    let bench = bench().await;
    for (id, _) in UPSTREAMS.into_iter().skip(1) {
        for stream in [false, true] {
            let model = format!("{id}/sim-ok");
            let ask = |input: Value, previous: Value| json!({"model": model, "input": input, "tools": tools(), "stream": stream, "previous_response_id": previous});
            let first = response(&bench.ask(&ask(json!("weather, please"), Value::Null)).await);
            let call = first["output"].as_array().unwrap().last().unwrap();
            let result = json!([{"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}]);
            let second = response(&bench.ask(&ask(result, first["id"].clone())).await);
            assert!(text(&second).contains("rain"), "{id}: {second}");
            assert_eq!(second["previous_response_id"], first["id"]);
            assert_ne!(second["id"], first["id"]);
            let told = bench.sim(id).calls().pop().unwrap();
            assert!(String::from_utf8_lossy(&told.body).contains("weather, please"));
            // The conversation can also go on elsewhere.
            let third = json!({"model": "openai/sim-ok", "input": "and now?", "previous_response_id": second["id"]});
            assert_eq!(text(&response(&bench.ask(&third).await)), "and now?");
            let sent = bench.sim("openai").calls().pop().unwrap().json();
            assert_eq!(sent["input"][0]["content"], "weather, please");
            assert!(sent.get("previous_response_id").is_none());
        }
    }
}

#[tokio::test]
async fn kept_responses_are_looked_up_and_deleted_by_their_owner_alone() {
    let bench = bench().await;
    let kept = response(&bench.ask(&json!({"model": "anthropic/sim-ok", "input": "one two"})).await);
    let path = format!("/v1/responses/{}", kept["id"].as_str().unwrap());
    let go_on = json!({"model": "anthropic/sim-ok", "input": "x", "previous_response_id": kept["id"]});
    assert_eq!(response(&bench.send("GET", &path, KEY, &Value::Null).await), kept);
    for method in ["GET", "DELETE"] {
        let foreign = bench.send(method, &path, OTHER_KEY, &Value::Null).await;
        assert_eq!((foreign.status, &foreign.json()["error"]["code"]), (404, &json!("response_not_found")));
    }
    let foreign = bench.send("POST", "/v1/responses", OTHER_KEY, &go_on).await;
    assert_eq!((foreign.status, &foreign.json()["error"]["code"]), (400, &json!("previous_response_not_found")));
    assert_eq!(bench.send("GET", &path, "wrong", &Value::Null).await.status, 401);
    let deleted = bench.send("DELETE", &path, KEY, &Value::Null).await;
    assert_eq!((deleted.status, &deleted.json()["deleted"]), (200, &json!(true)));
    assert_eq!(bench.send("GET", &path, KEY, &Value::Null).await.status, 404);
    assert_eq!(bench.ask(&go_on).await.json()["error"]["param"], "previous_response_id");
    // What is not to be stored is not, and what the provider stores is the provider's.
    for body in [
        json!({"model": "anthropic/sim-ok", "input": "one two", "store": false}),
        json!({"model": "openai/sim-ok", "input": "one two"}),
    ] {
        let told = response(&bench.ask(&body).await);
        let path = format!("/v1/responses/{}", told["id"].as_str().unwrap());
        assert_eq!(bench.send("GET", &path, KEY, &Value::Null).await.status, 404, "{body}");
    }
    let wrong = bench.send("PUT", "/v1/responses/resp_1", KEY, &Value::Null).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, "GET, DELETE"));
}

#[tokio::test]
async fn nothing_is_kept_where_that_is_turned_off() {
    let sim = Sim::start(SimDialect::Anthropic).unwrap();
    let config = "[responses]\nkeep = \"off\"";
    let gateway = Gateway::builder().provider("anthropic", &sim).config(config).start().await;
    let bench = Bench { gateway, sims: Vec::new() };
    let told = response(&bench.ask(&json!({"model": "anthropic/sim-ok", "input": "one two"})).await);
    let path = format!("/v1/responses/{}", told["id"].as_str().unwrap());
    assert_eq!(bench.send("GET", &path, KEY, &Value::Null).await.status, 404);
}
