//! What the simulated providers answer, and what they refuse, in each dialect.

use super::super::{Sim, SimDialect};
use super::{Seen, ask, error_in, finish_in, http, request, saying, text_in};
use serde_json::{Value, json};

async fn post(sim: &Sim, stream: bool, body: Value) -> Seen {
    ask(sim, &request(sim.dialect(), "k", "some-model", stream, body)).await
}

async fn refused(sim: &Sim, body: Value) -> String {
    let seen = post(sim, false, body.clone()).await;
    assert_eq!(seen.status(), 400, "{body} {}", seen.text());
    error_in(sim.dialect(), &seen.json())
}

/// A question with a tool, then the same with the call and its result.
fn tool_turns(dialect: SimDialect) -> [Value; 2] {
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    let mut first = saying(dialect, "weather please");
    let mut second = saying(dialect, "weather please");
    let (tools, turns) = match dialect {
        SimDialect::Ollama => (
            json!([{ "type": "function", "function": { "name": "weather", "parameters": schema } }]),
            vec![
                json!({ "role": "assistant", "content": "", "tool_calls": [{ "function": { "name": "weather", "arguments": {} } }] }),
                json!({ "role": "tool", "tool_name": "weather", "content": "sunny" }),
            ],
        ),
        SimDialect::OpenAi | SimDialect::Cohere => (
            json!([{ "type": "function", "function": { "name": "weather", "parameters": schema } }]),
            vec![
                json!({ "role": "assistant", "content": null, "tool_calls": [
                    { "id": "c1", "type": "function", "function": { "name": "weather", "arguments": "{}" } }] }),
                json!({ "role": "tool", "tool_call_id": "c1", "content": "sunny" }),
            ],
        ),
        SimDialect::Anthropic => (
            json!([{ "name": "weather", "input_schema": schema }]),
            vec![
                json!({ "role": "assistant", "content": [{ "type": "tool_use", "id": "c1", "name": "weather", "input": {} }] }),
                json!({ "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "c1", "content": "sunny" }] }),
            ],
        ),
        SimDialect::Gemini => (
            json!([{ "functionDeclarations": [{ "name": "weather", "parameters": schema }] }]),
            vec![
                json!({ "role": "model", "parts": [{ "functionCall": { "name": "weather", "args": {} } }] }),
                json!({ "role": "user", "parts": [{ "functionResponse": { "name": "weather", "response": { "result": "sunny" } } }] }),
            ],
        ),
        SimDialect::Bedrock => unreachable!("its streams are no text"),
    };
    let list = if dialect == SimDialect::Gemini { "contents" } else { "messages" };
    second[list].as_array_mut().unwrap().extend(turns);
    first["tools"] = tools.clone();
    second["tools"] = tools;
    [first, second]
}

/// Name and arguments of the calls in an answer.
fn calls_in(dialect: SimDialect, answer: &Value) -> Vec<(String, Value)> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match dialect {
        SimDialect::Ollama => list(&answer["message"]["tool_calls"])
            .iter()
            .map(|call| (name(&call["function"]["name"]), call["function"]["arguments"].clone()))
            .collect(),
        SimDialect::OpenAi | SimDialect::Cohere => list(match dialect {
            SimDialect::Cohere => &answer["message"]["tool_calls"],
            _ => &answer["choices"][0]["message"]["tool_calls"],
        })
        .iter()
        .map(|call| {
            let arguments = call["function"]["arguments"].as_str().unwrap();
            (name(&call["function"]["name"]), serde_json::from_str(arguments).unwrap())
        })
        .collect(),
        SimDialect::Anthropic => list(&answer["content"])
            .iter()
            .filter(|block| block["type"] == "tool_use")
            .map(|block| (name(&block["name"]), block["input"].clone()))
            .collect(),
        SimDialect::Gemini => list(&answer["candidates"][0]["content"]["parts"])
            .iter()
            .map(|part| (name(&part["functionCall"]["name"]), part["functionCall"]["args"].clone()))
            .collect(),
        SimDialect::Bedrock => unreachable!("its streams are no text"),
    }
}

#[tokio::test]
async fn calls_a_tool_and_says_what_it_answered() {
    for dialect in SimDialect::TEXTUAL {
        let sim = Sim::start(dialect).unwrap();
        let [first, second] = tool_turns(dialect);
        let answer = post(&sim, false, first.clone()).await.json();
        assert_eq!(calls_in(dialect, &answer), [("weather".to_owned(), json!({ "city": "city" }))], "{answer}");
        let stream = post(&sim, true, first).await;
        assert!(stream.body().1 && stream.text().contains("weather"));
        let expected = ["tool_calls", "tool_use", "STOP", "TOOL_CALL", "stop"];
        assert!(finish_in(dialect, &stream.events()).is_some_and(|finish| expected.contains(&finish.as_str())));
        let answer = [post(&sim, false, second).await.json()];
        assert_eq!(text_in(dialect, &answer), "weather said: sunny");
    }
}

#[tokio::test]
async fn streams_a_call_piece_by_piece() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let [first, _] = tool_turns(SimDialect::OpenAi);
    let events = post(&sim, true, first).await.events();
    let deltas: Vec<_> = events
        .iter()
        .map(|event| &event["choices"][0]["delta"]["tool_calls"][0])
        .filter(|call| call.is_object())
        .collect();
    let arguments: String = deltas.iter().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!((deltas.len(), arguments.as_str()), (3, r#"{"city":"city"}"#));
    assert!(deltas[0]["id"].is_string() && deltas[1]["id"].is_null());

    let sim = Sim::start(SimDialect::Anthropic).unwrap();
    let [first, _] = tool_turns(SimDialect::Anthropic);
    let events = post(&sim, true, first).await.events();
    let arguments: String = events.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(arguments, r#"{"city":"city"}"#);
}

#[tokio::test]
async fn fills_in_a_schema_thinks_and_says_what_it_saw() {
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer", "minimum": 4 } } });
    let image = "iVBORw0KGgo=";
    let bodies = [
        json!({ "messages": [{ "role": "user", "content": [{ "type": "text", "text": "look" },
            { "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{image}") } }] }], "reasoning_effort": "low" }),
        json!({ "max_tokens": 2048, "thinking": { "type": "enabled", "budget_tokens": 1024 }, "messages": [{ "role": "user", "content": [
            { "type": "text", "text": "look" },
            { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": image } }] }] }),
        json!({ "generationConfig": { "thinkingConfig": { "includeThoughts": true } }, "contents": [{ "role": "user", "parts": [
            { "text": "look" }, { "inlineData": { "mimeType": "image/png", "data": image } }] }] }),
        json!({ "thinking": { "type": "enabled" }, "messages": [{ "role": "user", "content": [{ "type": "text", "text": "look" },
            { "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{image}") } }] }] }),
        json!({ "think": true, "messages": [{ "role": "user", "content": "look", "images": [image] }] }),
    ];
    for (dialect, body) in SimDialect::TEXTUAL.into_iter().zip(bodies) {
        let sim = Sim::start(dialect).unwrap();
        let answer = post(&sim, false, body.clone()).await.json();
        assert_eq!(text_in(dialect, std::slice::from_ref(&answer)), "look\nI see image/png, 8 bytes.");
        assert!(answer.to_string().contains("The user says 1 words."), "{answer}");
        let signs = matches!(dialect, SimDialect::Anthropic | SimDialect::Gemini);
        assert!(!signs || answer.to_string().to_lowercase().contains("signature\":\""));
        let stream = post(&sim, true, body).await;
        assert_eq!(text_in(dialect, &stream.events()), "look\nI see image/png, 8 bytes.");

        let mut body = saying(dialect, "fill in");
        match dialect {
            SimDialect::OpenAi => {
                body["response_format"] =
                    json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } })
            }
            SimDialect::Anthropic => {
                body["output_config"] = json!({ "format": { "type": "json_schema", "schema": schema } })
            }
            SimDialect::Gemini => {
                body["generationConfig"] =
                    json!({ "responseMimeType": "application/json", "responseJsonSchema": schema });
            }
            SimDialect::Cohere => {
                body["response_format"] = json!({ "type": "json_object", "json_schema": schema });
            }
            SimDialect::Ollama => body["format"] = schema.clone(),
            SimDialect::Bedrock => unreachable!("its streams are no text"),
        }
        assert_eq!(text_in(dialect, &[post(&sim, false, body).await.json()]), r#"{"n":4}"#);
    }
}

#[tokio::test]
async fn counts_tokens_the_way_each_provider_does() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let mut body = saying(SimDialect::OpenAi, "a b c");
    let usage = post(&sim, false, body.clone()).await.json()["usage"].clone();
    assert_eq!(usage["completion_tokens"], 3);
    assert!(!post(&sim, true, body.clone()).await.text().contains("usage"));
    body["stream_options"] = json!({ "include_usage": true });
    let events = post(&sim, true, body).await.events();
    let with_usage: Vec<_> = events.iter().filter(|event| event["usage"].is_object()).collect();
    assert!(
        with_usage.len() == 1
            && with_usage[0]["choices"] == json!([])
            && with_usage[0]["usage"]["completion_tokens"] == 3
    );

    let sim = Sim::start(SimDialect::Anthropic).unwrap();
    let mut body = saying(SimDialect::Anthropic, "a b c");
    body["system"] = json!([{ "type": "text", "text": "s", "cache_control": { "type": "ephemeral" } }]);
    let usage = post(&sim, false, body).await.json()["usage"].clone();
    assert_eq!((&usage["output_tokens"], &usage["cache_read_input_tokens"]), (&json!(3), &json!(5)));

    let sim = Sim::start(SimDialect::Gemini).unwrap();
    let events = post(&sim, true, saying(SimDialect::Gemini, "a b c")).await.events();
    let counts: Vec<_> =
        events.iter().map(|event| event["usageMetadata"]["candidatesTokenCount"].as_u64().unwrap()).collect();
    assert_eq!(counts, [0, 1, 2, 3, 3]);

    let sim = Sim::start(SimDialect::Cohere).unwrap();
    let usage = post(&sim, false, saying(SimDialect::Cohere, "a b c")).await.json()["usage"].clone();
    let [billed, processed] = [&usage["billed_units"], &usage["tokens"]].map(|counts| counts["input_tokens"].as_u64());
    assert_eq!((usage["tokens"]["output_tokens"].as_u64(), billed.map(|tokens| tokens + 8)), (Some(3), processed));

    let sim = Sim::start(SimDialect::Ollama).unwrap();
    let events = post(&sim, true, saying(SimDialect::Ollama, "a b c")).await.events();
    let counted: Vec<_> = events.iter().filter_map(|event| event["eval_count"].as_u64()).collect();
    assert_eq!(counted, [3]);
}

#[tokio::test]
async fn openai_refuses_what_openai_refuses() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    assert!(refused(&sim, json!({ "messages": [] })).await.contains("messages"));
    assert!(refused(&sim, json!({ "messages": [{ "role": "robot", "content": "x" }] })).await.contains("robot"));
    let mut with_extension = saying(SimDialect::OpenAi, "x");
    with_extension["extra"] = json!({});
    assert!(refused(&sim, with_extension).await.contains("extra"));
    let [_, mut turns] = tool_turns(SimDialect::OpenAi);
    turns["messages"][2]["tool_call_id"] = json!("other");
    assert!(refused(&sim, turns.clone()).await.contains("preceeding message"));
    turns["messages"].as_array_mut().unwrap().truncate(2);
    assert!(refused(&sim, turns).await.contains("not answered"));
}

#[tokio::test]
async fn anthropic_refuses_what_anthropic_refuses() {
    let sim = Sim::start(SimDialect::Anthropic).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = saying(SimDialect::Anthropic, "x");
        change(&mut body);
        body
    };
    for (body, words) in [
        (with(&|body| body["max_tokens"] = Value::Null), "max_tokens: Field required"),
        (with(&|body| body["extra"] = json!({})), "extra: Extra inputs"),
        (with(&|body| body["messages"][0]["role"] = json!("system")), "Unexpected role"),
        (with(&|body| body["messages"] = json!([body["messages"][0], body["messages"][0]])), "must alternate"),
        (with(&|body| body["messages"][0]["content"] = json!("")), "non-empty content"),
        (with(&|body| body["temperature"] = json!(1.5)), "temperature: range"),
        (with(&|body| body["thinking"] = json!({ "type": "enabled", "budget_tokens": 2000 })), "greater than"),
        (with(&|body| body["tools"] = json!([{ "name": "t", "input_schema": {} }])), "input_schema.type"),
    ] {
        let message = refused(&sim, body).await;
        assert!(message.contains(words), "{message} / {words}");
    }
    let [_, mut turns] = tool_turns(SimDialect::Anthropic);
    turns["messages"][2]["content"][0]["tool_use_id"] = json!("other");
    assert!(refused(&sim, turns.clone()).await.contains("unexpected `tool_use_id`"));
    turns["messages"][2]["content"] = json!("never mind");
    assert!(refused(&sim, turns).await.contains("without `tool_result`"));
    let forged = json!({ "type": "thinking", "thinking": "hm", "signature": "forged" });
    let messages = json!([{ "role": "user", "content": "x" }, { "role": "assistant", "content": [forged] }, { "role": "user", "content": "y" }]);
    assert!(refused(&sim, with(&|body| body["messages"] = messages.clone())).await.contains("Invalid `signature`"));
    let no_version = http("POST", "/v1/messages", "x-api-key: k\r\n", &saying(SimDialect::Anthropic, "x").to_string());
    assert!(ask(&sim, &no_version).await.text().contains("anthropic-version"));
}

#[tokio::test]
async fn gemini_refuses_what_gemini_refuses() {
    let sim = Sim::start(SimDialect::Gemini).unwrap();
    assert!(refused(&sim, json!({ "contents": [] })).await.contains("contents is not specified"));
    let mut body = saying(SimDialect::Gemini, "x");
    body["generationConfig"] = json!({ "max_tokens": 1 });
    assert!(refused(&sim, body).await.contains("Unknown name \"max_tokens\""));
    let [_, mut turns] = tool_turns(SimDialect::Gemini);
    turns["contents"][2]["parts"] = json!([{ "text": "never mind" }]);
    assert!(refused(&sim, turns).await.contains("number of function response parts"));
    let [_, turns] = tool_turns(SimDialect::Gemini);
    let unsigned = ask(&sim, &request(SimDialect::Gemini, "k", "gemini-3-pro", false, turns)).await;
    assert!(unsigned.status() == 400 && unsigned.text().contains("thought_signature"));
    let in_url = http("POST", "/v1beta/models/m:generateContent?key=k", "x-goog-api-key: k\r\n", "{}");
    assert_eq!(ask(&sim, &in_url).await.status(), 400);
}

#[tokio::test]
async fn cohere_refuses_what_cohere_refuses() {
    let sim = Sim::start(SimDialect::Cohere).unwrap();
    let with = |name: &str, value: Value| {
        let mut body = saying(SimDialect::Cohere, "x");
        body[name] = value;
        body
    };
    let [with_tools, mut turns] = tool_turns(SimDialect::Cohere);
    let mut formed = with_tools;
    formed["response_format"] = json!({ "type": "json_object" });
    for (body, words) in [
        (with("top_p", json!(0.5)), "'top_p' is not a valid field"),
        (with("p", json!(1.0)), "p must be between"),
        (with("frequency_penalty", json!(-1.0)), "frequency_penalty must be between"),
        (with("tool_choice", json!("REQUIRED")), "needs tools"),
        (with("messages", json!([])), "messages is required"),
        (with("messages", json!([{ "role": "developer", "content": "x" }])), "not a valid role"),
        (with("messages", json!([{ "role": "assistant", "content": "" }])), "content or tool calls"),
        (formed, "not supported with documents or tools"),
    ] {
        let message = refused(&sim, body).await;
        assert!(message.contains(words), "{message} / {words}");
    }
    turns["messages"][2]["tool_call_id"] = json!("other");
    assert!(refused(&sim, turns.clone()).await.contains("not in previous messages"));
    turns["messages"].as_array_mut().unwrap().truncate(2);
    assert!(refused(&sim, turns).await.contains("have no result"));
}

#[tokio::test]
async fn ollama_refuses_what_ollama_refuses() {
    let sim = Sim::start(SimDialect::Ollama).unwrap();
    let with = |name: &str, value: Value| {
        let mut body = saying(SimDialect::Ollama, "x");
        body[name] = value;
        body
    };
    let call = json!({ "function": { "name": "f", "arguments": "{}" } });
    for (body, words) in [
        (with("max_tokens", json!(5)), "would be passed over"),
        (with("think", json!("much")), "is not supported for this model"),
        (with("format", json!(5)), "invalid format"),
        (with("options", json!({ "stop": "x" })), "must be of type array"),
        (with("messages", json!([{ "role": "robot", "content": "x" }])), "invalid role"),
        (with("messages", json!([{ "role": "user", "content": [] }])), "messages.content"),
        (with("messages", json!([{ "role": "user", "content": "", "images": ["http://h/"] }])), "illegal base64"),
        (with("messages", json!([{ "role": "assistant", "content": "", "tool_calls": [call] }])), "of type map"),
    ] {
        let message = refused(&sim, body).await;
        assert!(message.contains(words), "{message} / {words}");
    }
}

#[tokio::test]
async fn a_signed_answer_can_be_sent_back() {
    let sim = Sim::start(SimDialect::Anthropic).unwrap();
    let mut body = saying(SimDialect::Anthropic, "think");
    body["max_tokens"] = json!(4096);
    body["thinking"] = json!({ "type": "enabled", "budget_tokens": 1024 });
    let answer = post(&sim, false, body.clone()).await.json();
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({ "role": "assistant", "content": answer["content"] }));
    messages.push(json!({ "role": "user", "content": "again" }));
    assert_eq!(post(&sim, false, body).await.status(), 200);
}

#[tokio::test]
async fn keys_models_and_paths_are_checked_as_the_provider_does() {
    for (dialect, bad_key, no_key) in SimDialect::TEXTUAL
        .map(|dialect| if dialect == SimDialect::Gemini { (dialect, 400, 403) } else { (dialect, 401, 401) })
    {
        let sim = Sim::start(dialect).unwrap();
        let send = async |key: &str, model: &str| {
            ask(&sim, &request(dialect, key, model, false, saying(dialect, "x"))).await.status()
        };
        assert_eq!([send("", "m").await, send("a-wrong-key", "m").await, send("k", "m").await], [no_key, bad_key, 200]);
        assert_eq!(send("k", "does-not-exist").await, 404);
        sim.only_keys(&["good"]).only_models(&["known"]);
        assert_eq!(
            [send("k", "known").await, send("good", "known").await, send("good", "m").await],
            [bad_key, 200, 404]
        );

        let (list, header) = match dialect {
            SimDialect::OpenAi => ("/v1/models", "authorization: Bearer good\r\n"),
            SimDialect::Anthropic => ("/v1/models", "x-api-key: good\r\n"),
            SimDialect::Gemini => ("/v1beta/models", "x-goog-api-key: good\r\n"),
            SimDialect::Cohere => ("/v1/models", "authorization: Bearer good\r\n"),
            SimDialect::Ollama => ("/api/tags", "authorization: Bearer good\r\n"),
            SimDialect::Bedrock => unreachable!("its streams are no text"),
        };
        assert!(ask(&sim, &http("GET", list, header, "")).await.json().to_string().contains("known"));
        assert_eq!(ask(&sim, &http("GET", &format!("{list}/known"), header, "")).await.status(), 200);
        assert_eq!(ask(&sim, &http("GET", "/nowhere", header, "")).await.status(), 404);
        assert_eq!(sim.calls().iter().filter(|call| !call.is_generation()).count(), 3);
    }
}
