//! Requests in the hub's meaning, and what Google must get.

use crate::dialect::chat::*;
use crate::dialect::gemini::request::{path, render};
use serde_json::{Map, Value, json};

fn message(role: Role, text: &str) -> Message {
    Message::new(role, if text.is_empty() { vec![] } else { vec![part(PartKind::Text(text.to_owned()))] })
}

fn part(kind: PartKind) -> Part {
    Part { kind, cache_control: None }
}

fn picture() -> Media {
    Media::Inline { media_type: "image/png".into(), data: "aVZC".into() }
}

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
}

fn result(id: &str, text: &str) -> Message {
    Message { tool_call_id: Some(id.into()), ..message(Role::Tool, text) }
}

fn encrypted(data: &str, id: Option<&str>) -> ReasoningDetail {
    let kind = ReasoningKind::Encrypted(data.into());
    ReasoningDetail { kind, id: id.map(Into::into), format: Some(FORMAT_GEMINI.into()), index: 0 }
}

fn tool(name: &str) -> Tool {
    let parameters = Some(json!({"type": "object", "properties": {"city": {"type": "string"}}}));
    Tool { name: name.into(), description: Some("Says it.".into()), parameters, strict: None, cache_control: None }
}

fn ask(messages: Vec<Message>) -> Request {
    Request { messages, ..Request::default() }
}

fn with_tools(names: &[&str], tool_choice: Option<ToolChoice>) -> Request {
    let tools = names.iter().map(|name| tool(name)).collect();
    Request { tools, tool_choice, ..ask(vec![message(Role::User, "Go.")]) }
}

/// A model of the second generation.
fn flash() -> ModelTraits {
    ModelTraits {
        thinking: Thinking::Budget { min: 0, max: 24_576, can_disable: true },
        structured_output: StructuredOutput::Native,
        ..ModelTraits::default()
    }
}

/// A model of the third generation.
fn three() -> ModelTraits {
    ModelTraits { thinking: Thinking::Level, ..flash() }
}

fn body(request: &Request, traits: &ModelTraits) -> (Value, Vec<String>) {
    let rendered = render(request, traits).unwrap();
    assert_eq!(rendered.headers, []);
    (serde_json::from_slice(&rendered.body).unwrap(), rendered.dropped)
}

#[test]
fn paths_name_a_model_and_nothing_else() {
    assert_eq!(path("some-model", false), "/v1beta/models/some-model:generateContent");
    assert_eq!(path("models/some-model", true), "/v1beta/models/some-model:streamGenerateContent?alt=sse");
    assert_eq!(path("tunedModels/mine-1", false), "/v1beta/tunedModels/mine-1:generateContent");
    assert_eq!(path("a@001", false), "/v1beta/models/a@001:generateContent");
    assert_eq!(path("../x?y#z:é", false), "/v1beta/models/..%2Fx%3Fy%23z%3A%C3%A9:generateContent");
}

#[test]
fn instructions_gather_and_neighbours_of_one_role_merge() {
    let request = ask(vec![
        message(Role::System, "Be brief."),
        message(Role::User, "Hello"),
        message(Role::User, "there"),
        message(Role::Assistant, "Hi."),
        message(Role::Developer, "Be kind."),
        message(Role::Assistant, ""),
        message(Role::Assistant, "Well?"),
        message(Role::User, "Bye."),
    ]);
    let expected = json!({
        "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Hello"}, {"text": "there"}]},
            {"role": "model", "parts": [{"text": "Hi."}, {"text": "Well?"}]},
            {"role": "user", "parts": [{"text": "Bye."}]},
        ],
    });
    assert_eq!(body(&request, &flash()), (expected, vec![]));
    let alone = body(&ask(vec![message(Role::System, "Speak.")]), &flash()).0;
    assert_eq!(alone, json!({"contents": [{"role": "user", "parts": [{"text": "Speak."}]}]}));
}

#[test]
fn every_kind_of_part() {
    let detail = Some("high".to_owned());
    let mut request = ask(vec![message(Role::User, "Look:")]);
    request.messages[0].parts.extend([
        part(PartKind::Image { source: picture(), detail }),
        part(PartKind::File { source: Media::Url("https://a.example/b.pdf".into()), filename: None }),
        part(PartKind::Audio { source: Media::Inline { media_type: "audio/wav".into(), data: "UklG".into() } }),
        part(PartKind::Video { source: Media::Url("https://youtu.be/x".into()) }),
    ]);
    request.messages[0].parts[0].cache_control = Some(json!({"type": "ephemeral"}));
    let (body, dropped) = body(&request, &flash());
    let expected = json!([
        {"text": "Look:"},
        {"inlineData": {"mimeType": "image/png", "data": "aVZC"}},
        {"fileData": {"mimeType": "application/pdf", "fileUri": "https://a.example/b.pdf"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "UklG"}},
        {"fileData": {"mimeType": "video/mp4", "fileUri": "https://youtu.be/x"}},
    ]);
    assert_eq!(body["contents"][0]["parts"], expected);
    assert_eq!(dropped, ["cache_control", "image_url.detail"]);
}

#[test]
fn calls_and_results() {
    let mut calls = message(Role::Assistant, "");
    calls.tool_calls =
        vec![call("a", "weather", r#"{"z": 1.0, "a": 2}"#), call("b", "now", ""), call("c", "now", "oops")];
    let mut seen = result("b", "");
    seen.parts.push(part(PartKind::Image { source: picture(), detail: None }));
    let request = ask(vec![
        message(Role::User, "Go."),
        calls,
        result("a", "sunny"),
        seen,
        result("c", "[1, 2]"),
        message(Role::User, "And?"),
    ]);
    let model = json!({"role": "model", "parts": [
        {"functionCall": {"id": "a", "name": "weather", "args": {"z": 1.0, "a": 2}}},
        {"functionCall": {"id": "b", "name": "now", "args": {}}},
        {"functionCall": {"id": "c", "name": "now", "args": {"arguments": "oops"}}},
    ]});
    let media = json!({"inlineData": {"mimeType": "image/png", "data": "aVZC"}});
    let response = |id: &str, name: &str, response: Value| json!({"functionResponse": {"id": id, "name": name, "response": response}});
    let user = json!({"role": "user", "parts": [
        response("a", "weather", json!({"result": "sunny"})),
        response("b", "now", json!({})),
        response("c", "now", json!({"result": [1, 2]})),
        media,
        {"text": "And?"},
    ]});
    let (older, _) = body(&request, &flash());
    assert_eq!(older["contents"], json!([{"role": "user", "parts": [{"text": "Go."}]}, model, user]));
    let (newer, _) = body(&request, &three());
    assert_eq!(newer["contents"][2]["parts"][1]["functionResponse"]["parts"], json!([media]));
    assert_eq!(newer["contents"][2]["parts"].as_array().unwrap().len(), 4);
}

#[test]
fn results_keep_their_digits_and_find_their_function() {
    let mut first = message(Role::Assistant, "");
    first.tool_calls = vec![call("a", "one", "{}")];
    let mut second = message(Role::Assistant, "");
    second.tool_calls = vec![call("a", "two", "{}")];
    let mut legacy = message(Role::Tool, "old");
    legacy.name = Some("three".into());
    let big = r#"{"id":12345678901234567890123,"x":1.50}"#;
    let request = ask(vec![first, result("a", big), second, result("a", "7"), legacy, result("lost", "x")]);
    let rendered = render(&request, &flash()).unwrap();
    assert!(String::from_utf8(rendered.body.clone()).unwrap().contains(big));
    let body: Value = serde_json::from_slice(&rendered.body).unwrap();
    let responses = body["contents"][3]["parts"].as_array().unwrap();
    let told: Vec<_> = responses.iter().map(|part| &part["functionResponse"]).collect();
    assert_eq!(body["contents"][1]["parts"][0]["functionResponse"]["name"], "one");
    assert_eq!(told[0], &json!({"id": "a", "name": "two", "response": {"result": "7"}}));
    assert_eq!(told[1], &json!({"name": "three", "response": {"result": "old"}}));
    assert_eq!(told[2], &json!({"id": "lost", "name": "lost", "response": {"result": "x"}}));
    assert_eq!(render(&ask(vec![message(Role::Tool, "x")]), &flash()).unwrap_err().param.as_deref(), Some("messages"));
}

#[test]
fn signatures_go_back_where_they_came_from() {
    let mut answer = message(Role::Assistant, "Two.");
    answer.tool_calls = vec![call("a", "f", "{}"), call("b", "f", "{}")];
    let text = |text: &str, signature: Option<&str>, format: &'static str| ReasoningDetail {
        kind: ReasoningKind::Text { text: text.into(), signature: signature.map(Into::into) },
        id: None,
        format: Some(format.into()),
        index: 0,
    };
    answer.reasoning = vec![
        text("Hm.", Some("dGg="), FORMAT_GEMINI),
        text("Foreign.", Some("Zm8="), FORMAT_ANTHROPIC),
        encrypted("c2Vydg==", Some("server_tool")),
        encrypted("dDE=", None),
        encrypted("dDI=", None),
        encrypted("Yjo+/w==", Some("b")),
    ];
    let (body, _) = body(&ask(vec![message(Role::User, "Go."), answer]), &three());
    let expected = json!([
        {"text": "Hm.", "thought": true, "thoughtSignature": "dGg="},
        {"text": "", "thoughtSignature": "dDE="},
        {"text": "Two.", "thoughtSignature": "dDI="},
        {"functionCall": {"id": "a", "name": "f", "args": {}}},
        {"functionCall": {"id": "b", "name": "f", "args": {}}, "thoughtSignature": "Yjo+/w=="},
    ]);
    assert_eq!(body["contents"][1]["parts"], expected);
}

#[test]
fn calls_of_other_providers_are_marked_where_signatures_are_demanded() {
    let mut answer = message(Role::Assistant, "");
    answer.tool_calls = vec![call("a", "f", "{}"), call("b", "f", "{}")];
    let request = ask(vec![message(Role::User, "Go."), answer]);
    let signatures = |traits: &ModelTraits| {
        let parts = body(&request, traits).0["contents"][1]["parts"].take();
        [parts[0]["thoughtSignature"].clone(), parts[1]["thoughtSignature"].clone()]
    };
    assert_eq!(signatures(&flash()), [Value::Null, Value::Null]);
    assert_eq!(signatures(&three()), [json!("c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="), Value::Null]);
}

#[test]
fn tool_choice_in_all_forms() {
    let names = |required| ToolChoice::Allowed { names: vec!["g".into()], required };
    let cases = [
        (None, Value::Null),
        (Some(ToolChoice::Auto), json!({"mode": "AUTO"})),
        (Some(ToolChoice::None), json!({"mode": "NONE"})),
        (Some(ToolChoice::Required), json!({"mode": "ANY"})),
        (Some(ToolChoice::Function("f".into())), json!({"mode": "ANY", "allowedFunctionNames": ["f"]})),
        (Some(names(true)), json!({"mode": "ANY", "allowedFunctionNames": ["g"]})),
        (Some(names(false)), json!({"mode": "AUTO"})),
    ];
    for (choice, expected) in cases {
        let (body, dropped) = body(&with_tools(&["f", "g"], choice.clone()), &flash());
        assert_eq!(body["toolConfig"]["functionCallingConfig"], expected, "{choice:?}");
        assert_eq!(dropped, Vec::<String>::new());
        let declared = body["tools"][0]["functionDeclarations"].as_array().unwrap();
        assert_eq!(declared.len(), if choice == Some(names(false)) { 1 } else { 2 }, "{choice:?}");
        assert_eq!(declared.last().unwrap()["parametersJsonSchema"], tool("g").parameters.unwrap());
    }
    let without_tools = Request { tool_choice: Some(ToolChoice::Auto), ..with_tools(&[], None) };
    assert_eq!(body(&without_tools, &flash()).0.get("toolConfig"), None);
}

#[test]
fn functions_without_parameters() {
    let mut request = with_tools(&["f", "g"], None);
    request.tools[0].parameters = None;
    request.tools[1].parameters = Some(json!({}));
    let (body, _) = body(&request, &flash());
    let declared = &body["tools"][0]["functionDeclarations"];
    assert_eq!(declared[0], json!({"name": "f", "description": "Says it."}));
    assert_eq!(declared[1]["parametersJsonSchema"], json!({"type": "object", "properties": {}}));
}

fn by_schema(mut request: Request) -> Request {
    let schema = Some(
        json!({"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}),
    );
    request.response_format =
        Some(ResponseFormat::JsonSchema { name: "s".into(), description: None, schema, strict: Some(true) });
    request
}

#[test]
fn structured_output_natively() {
    let (plain, dropped) = body(&by_schema(with_tools(&[], None)), &flash());
    assert_eq!(plain["generationConfig"]["responseMimeType"], "application/json");
    assert_eq!(plain["generationConfig"]["responseJsonSchema"]["$defs"]["n"]["type"], "integer");
    assert_eq!(dropped, Vec::<String>::new());
    let (beside_tools, _) = body(&by_schema(with_tools(&["f"], None)), &three());
    assert_eq!(beside_tools["generationConfig"]["responseMimeType"], "application/json");
    assert_eq!(beside_tools["tools"][0]["functionDeclarations"].as_array().unwrap().len(), 1);
    let json_object = Request { response_format: Some(ResponseFormat::JsonObject), ..with_tools(&[], None) };
    let (body, _) = body(&json_object, &ModelTraits::default());
    assert_eq!(body["generationConfig"], json!({"responseMimeType": "application/json"}));
}

#[test]
fn structured_output_by_the_answer_tool() {
    let declared = |request: &Request, traits: &ModelTraits| {
        let rendered = render(request, traits).unwrap();
        let body: Value = serde_json::from_slice(&rendered.body).unwrap();
        assert_eq!(body.pointer("/generationConfig/responseMimeType"), None);
        let names: Vec<String> = body["tools"][0]["functionDeclarations"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect();
        (names, body["toolConfig"]["functionCallingConfig"]["mode"].clone(), rendered.answer_tool)
    };
    let answer = || Some("final_answer".to_owned());
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let forced = ModelTraits::default();
    let none = by_schema(with_tools(&[], None));
    assert_eq!(declared(&none, &forced), (names(&["final_answer"]), json!("ANY"), answer()));
    let beside = by_schema(with_tools(&["f"], None));
    assert_eq!(declared(&beside, &flash()), (names(&["f", "final_answer"]), json!("ANY"), answer()));
    let no_calls = by_schema(with_tools(&["f"], Some(ToolChoice::None)));
    assert_eq!(declared(&no_calls, &forced), (names(&["final_answer"]), json!("ANY"), answer()));
    let a_call = by_schema(with_tools(&["f"], Some(ToolChoice::Required)));
    assert_eq!(declared(&a_call, &flash()), (names(&["f"]), json!("ANY"), None));
    let taken = by_schema(with_tools(&["final_answer"], None));
    assert_eq!(declared(&taken, &forced).2.as_deref(), Some("final_answer_"));
    let json_object = Request { response_format: Some(ResponseFormat::JsonObject), ..with_tools(&["f"], None) };
    assert_eq!(body(&json_object, &flash()).1, ["response_format"]);
}

#[test]
fn parameters_by_their_names() {
    let request = Request {
        temperature: Some(0.25),
        top_p: Some(0.5),
        top_k: Some(40),
        frequency_penalty: Some(0.5),
        presence_penalty: Some(0.0),
        seed: Some(1 << 40),
        stop: vec!["END".into(), "\n".into()],
        max_tokens: Some(100_000),
        n: Some(2),
        logprobs: Some(true),
        top_logprobs: Some(3),
        reasoning: Some(Reasoning { effort: Some("low".into()), ..Reasoning::default() }),
        modalities: vec!["text".into(), "image".into()],
        ..with_tools(&[], None)
    };
    let traits = ModelTraits { max_output: Some(65_536), ..flash() };
    let (sent, dropped) = body(&request, &traits);
    let expected = json!({
        "maxOutputTokens": 65_536, "candidateCount": 2, "stopSequences": ["END", "\n"], "seed": 256,
        "frequencyPenalty": 0.5, "temperature": 0.25, "topP": 0.5, "topK": 40, "responseLogprobs": true, "logprobs": 3,
        "responseModalities": ["TEXT", "IMAGE"], "thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": true},
    });
    assert_eq!((&sent["generationConfig"], dropped), (&expected, vec![]));
    let fixed = ModelTraits { sampling: false, ..flash() };
    let (sent, dropped) = body(&request, &fixed);
    assert_eq!(sent["generationConfig"].get("temperature"), None);
    assert_eq!(dropped, ["temperature", "top_p", "top_k"]);
    let by_default = Request { temperature: Some(1.0), top_p: Some(1.0), ..with_tools(&[], None) };
    assert_eq!(body(&by_default, &fixed).1, Vec::<String>::new());
}

#[test]
fn losses_are_named_or_refused() {
    let rest = json!({"logit_bias": {"7": 1}, "metadata": {"a": "b"}, "service_tier": "flex", "store": true, "prediction": null,
        "verbosity": "low", "functions": [], "safety_settings": [{"category": "C", "threshold": "BLOCK_NONE"}],
        "cached_content": "cachedContents/x", "image_config": {"aspect_ratio": "16:9", "seed": 1}});
    let mut request = Request {
        parallel_tool_calls: Some(false),
        user: Some("u".into()),
        modalities: vec!["text".into(), "audio".into()],
        rest: rest.as_object().cloned().unwrap_or_default(),
        ..with_tools(&["f"], None)
    };
    request.tools[0].strict = Some(true);
    request.messages[0].name = Some("Ann".into());
    let (sent, dropped) = body(&request, &flash());
    assert_eq!(sent["safetySettings"][0]["threshold"], "BLOCK_NONE");
    assert_eq!(sent["cachedContent"], "cachedContents/x");
    assert_eq!(sent["generationConfig"], json!({"imageConfig": {"aspectRatio": "16:9"}}));
    let expected = [
        "messages.name",
        "parallel_tool_calls",
        "tools.strict",
        "modalities",
        "user",
        "logit_bias",
        "metadata",
        "service_tier",
        "store",
        "verbosity",
        "image_config.seed",
    ];
    assert_eq!(dropped, expected);
    let strict = ModelTraits { require_parameters: true, ..flash() };
    for rest in [json!({"logit_bias": {"7": 1}}), json!({"service_tier": "flex"})] {
        let rest: Map<String, Value> = rest.as_object().cloned().unwrap_or_default();
        let name = rest.keys().next().cloned();
        let request = Request { rest, ..with_tools(&[], None) };
        assert_eq!(render(&request, &strict).unwrap_err().param, name);
    }
    let harmless = json!({"service_tier": "auto", "store": false, "logit_bias": {}, "stream_options": {"x": 1}});
    let request = Request { rest: harmless.as_object().cloned().unwrap_or_default(), ..with_tools(&[], None) };
    assert!(render(&request, &strict).is_ok());
}

#[test]
fn web_search_is_googles() {
    let rest = json!({"web_search_options": {"search_context_size": "low"}});
    let rest = rest.as_object().cloned().unwrap_or_default();
    let (sent, dropped) = body(&Request { rest: rest.clone(), ..with_tools(&[], None) }, &flash());
    assert_eq!(
        (&sent["tools"], dropped.as_slice()),
        (&json!([{"googleSearch": {}}]), &["web_search_options.search_context_size".to_owned()][..])
    );
    let (sent, dropped) = body(&Request { rest, ..with_tools(&["f"], None) }, &flash());
    assert_eq!((sent["tools"].as_array().unwrap().len(), dropped), (1, vec!["web_search_options".to_owned()]));
}
