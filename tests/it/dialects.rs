//! What is particular to single formats of providers, through the binary: what a client of OpenAI's format gets from them and gives back.

use crate::gateway::{Gateway, saying};
use orbyt::sim::client::Answer;
use orbyt::sim::{Call, Sim, SimDialect};
use serde_json::{Value, json};

/// The message of a whole answer.
fn message(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    answer.json()["choices"][0]["message"].clone()
}

fn weather_tool() -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!([{"type": "function", "function": {"name": "weather", "parameters": schema}}])
}

/// A tool loop of one round; returns the answer with the call and the last one.
async fn tool_loop(gateway: &Gateway, model: &str) -> (Value, Answer) {
    let mut request = saying(model, "weather please", false);
    request["tools"] = weather_tool();
    request["reasoning_effort"] = json!("high");
    let called = message(&gateway.chat(&request).await);
    let call = called["tool_calls"][0].clone();
    let function = json!({"name": "weather", "arguments": "{\"city\":\"city\"}"});
    assert_eq!((&call["type"], &call["function"]), (&json!("function"), &function), "{called}");
    let result = json!({"role": "tool", "tool_call_id": call["id"], "content": "sunny"});
    request["messages"].as_array_mut().unwrap().extend([called.clone(), result]);
    (called, gateway.chat(&request).await)
}

#[tokio::test]
async fn coheres_thoughts_and_plans_come_as_reasoning_and_go_back_where_they_came_from() {
    let sim = Sim::start(SimDialect::Cohere).unwrap();
    let gateway = Gateway::builder().provider("cohere", &sim).start().await;
    let (called, last) = tool_loop(&gateway, "cohere/command-a-plus").await;
    assert_eq!(called["content"], Value::Null);
    let reasoning = called["reasoning_content"].as_str().unwrap();
    assert!(reasoning.contains("The user says") && reasoning.contains("I will call weather."), "{reasoning}");
    assert_eq!(last.text(), "weather said: sunny");
    let sent = sim.calls()[1].json();
    let assistant = &sent["messages"][1];
    assert_eq!(assistant["tool_plan"], "I will call weather.", "{assistant}");
    assert!(assistant["content"][0]["thinking"].as_str().unwrap().contains("The user says"), "{assistant}");
    assert_eq!((&sent["model"], &sent["thinking"]), (&json!("command-a-plus-05-2026"), &json!({"type": "enabled"})));
}

#[tokio::test]
async fn what_cohere_bills_is_the_cost_and_what_it_processed_is_the_usage() {
    let sim = Sim::start(SimDialect::Cohere).unwrap();
    let gateway = Gateway::builder().provider("cohere", &sim).start().await;
    for stream in [false, true] {
        let mut request = saying("cohere/command-a", "one two three", stream);
        if stream {
            request["stream_options"] = json!({"include_usage": true});
        }
        let answer = gateway.chat(&request).await;
        assert_eq!(answer.text(), "one two three");
        let usage = answer.events().iter().rev().find_map(|event| event.get("usage").cloned()).unwrap();
        let tokens = |name: &str| usage[name].as_u64().unwrap();
        assert_eq!(tokens("completion_tokens"), 3, "{usage}");
        let line = gateway.log_line(&answer).await;
        assert_eq!(line["prompt_tokens"], usage["prompt_tokens"]);
        // 2.5 and 10 dollars a million; eight tokens of the prompt are Cohere's own.
        let picos = (tokens("prompt_tokens") - 8) * 2_500_000 + 3 * 10_000_000;
        let cost: f64 = line["cost_usd"].to_string().trim_matches('"').parse().unwrap();
        assert!((cost * 1e12 - picos as f64).abs() < 1.0, "{line}");
    }
}

#[tokio::test]
async fn a_form_of_the_answer_beside_tools_is_made_a_tool_of_its_own_for_cohere() {
    let sim = Sim::start(SimDialect::Cohere).unwrap();
    let gateway = Gateway::builder().provider("cohere", &sim).start().await;
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 4}}, "required": ["n"]});
    for stream in [false, true] {
        let mut request = saying("cohere/command-a", "final_answer", stream);
        request["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        request["tools"] = weather_tool();
        let answer = gateway.chat(&request).await;
        assert_eq!((answer.text().as_str(), answer.finish_reasons()), (r#"{"n":4}"#, vec!["stop".to_owned()]));
    }
}

#[tokio::test]
async fn coheres_compatible_side_is_spoken_to_where_the_base_url_says_so() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let url = format!("http://{}/compatibility/v1", sim.address());
    let gateway = Gateway::builder().variable("COHERE_API_KEY", "k").variable("COHERE_BASE_URL", &url).start().await;
    let answer = gateway.chat(&saying("cohere/command-a", "x", false)).await;
    // The simulated provider does not know the path; that it was asked for is what counts.
    assert_eq!(sim.calls()[0].path, "/compatibility/v1/chat/completions", "{}", answer.body_text());
}

#[tokio::test]
async fn ollamas_options_reach_it_and_what_it_cannot_do_is_told() {
    let sim = Sim::start(SimDialect::Ollama).unwrap();
    let gateway = Gateway::builder().provider("ollama", &sim).start().await;
    let mut request = saying("ollama/llama3.2", "one two three", false);
    request["keep_alive"] = json!("30m");
    request["options"] = json!({"num_ctx": 16384});
    request["max_tokens"] = json!(2);
    request["tool_choice"] = json!("required");
    request["tools"] = weather_tool();
    request["user"] = json!("u");
    let answer = gateway.chat(&request).await;
    assert_eq!(message(&answer)["tool_calls"][0]["function"]["name"], "weather");
    assert_eq!(answer.finish_reasons(), ["tool_calls"], "it says stop");
    assert_eq!(answer.header("x-orbyt-dropped"), "tool_choice, user");
    // It is also asked for its list of models, in its own time.
    let sent = sim.calls().into_iter().find(Call::is_generation).unwrap().json();
    assert_eq!((&sent["keep_alive"], &sent["stream"]), (&json!("30m"), &json!(false)));
    assert_eq!(sent["options"], json!({"num_ctx": 16384, "num_predict": 2}));
}

#[tokio::test]
async fn a_tool_loop_with_ollama_keeps_thoughts_and_names_the_tool() {
    let sim = Sim::start(SimDialect::Ollama).unwrap();
    let gateway = Gateway::builder().provider("ollama", &sim).start().await;
    let (called, last) = tool_loop(&gateway, "ollama/qwen3").await;
    assert!(called["reasoning_content"].as_str().unwrap().contains("The user says"), "{called}");
    assert_eq!(last.text(), "weather said: sunny");
    // It is asked for its models, too.
    let sent = sim.calls().iter().filter(|call| call.is_generation()).nth(1).unwrap().json();
    assert_eq!(sent["think"], true, "this model's thinking is a switch");
    assert_eq!(sent["messages"][1]["thinking"], called["reasoning_content"]);
    assert_eq!(sent["messages"][2]["tool_name"], "weather");
}

#[tokio::test]
async fn ollamas_own_list_of_models_is_found_by_its_base_url_alone() {
    let sim = Sim::start(SimDialect::Ollama).unwrap();
    sim.only_models(&["my-model:7b"]);
    let url = format!("http://{}/api", sim.address());
    let gateway = Gateway::builder().variable("OLLAMA_BASE_URL", &url).variable("OLLAMA_API_KEY", "k").start().await;
    assert!(sim.until(crate::gateway::PATIENCE, |calls| calls.iter().any(|call| call.path == "/api/tags")).await);
    let started = std::time::Instant::now();
    loop {
        let answer = gateway.chat(&saying("my-model:7b", "one two", true)).await;
        if answer.status == 200 {
            assert_eq!((answer.text().as_str(), answer.header("x-provider")), ("one two", "ollama"));
            break;
        }
        assert!(started.elapsed() < crate::gateway::PATIENCE, "{}", answer.body_text());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
