//! Requests, from the hub's form to Converse's body.

use super::*;
use crate::dialect::chat::{
    Media, Reasoning, ReasoningDetail, ReasoningKind, ResponseFormat, Thinking, Tool, ToolCall, ToolChoice,
};
use serde_json::json;

fn tool(name: &str) -> Tool {
    Tool {
        name: name.into(),
        description: Some("does".into()),
        parameters: Some(json!({"type": "object", "properties": {"c": {"type": "string"}}, "required": ["c"]})),
        strict: None,
        cache_control: None,
    }
}

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
}

/// A conversation with a call and its result.
fn tool_loop() -> Request {
    let mut calls = message(Role::Assistant, "");
    calls.tool_calls = vec![call("c1", "w", "{\"c\": \"Bern\"}"), call("an id with spaces", "w", "")];
    let result = |id: &str, text: &str| Message { tool_call_id: Some(id.into()), ..message(Role::Tool, text) };
    Request {
        messages: vec![
            message(Role::System, "Be brief."),
            message(Role::User, "hello"),
            calls,
            result("c1", "sun"),
            result("an id with spaces", ""),
        ],
        tools: vec![tool("w")],
        ..Request::default()
    }
}

#[test]
fn a_plain_question_is_nothing_but_messages() {
    let rendered = render(&question(), &target());
    assert_eq!(
        String::from_utf8(rendered.body).unwrap(),
        r#"{"messages":[{"role":"user","content":[{"text":"hello"}]}]}"#
    );
    assert!(rendered.dropped.is_empty() && rendered.headers.is_empty());
}

#[test]
fn a_tool_loop_keeps_calls_and_results_together() {
    let body = body(&tool_loop(), &target());
    assert_eq!(body["system"], json!([{"text": "Be brief."}]));
    let mapped = body["messages"][1]["content"][1]["toolUse"]["toolUseId"].clone();
    assert!(mapped.as_str().unwrap().starts_with("call_anidwithspaces_"));
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": [{"text": "hello"}]},
            {"role": "assistant", "content": [
                {"toolUse": {"toolUseId": "c1", "name": "w", "input": {"c": "Bern"}}},
                {"toolUse": {"toolUseId": mapped, "name": "w", "input": {}}},
            ]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "c1", "content": [{"text": "sun"}]}},
                {"toolResult": {"toolUseId": mapped, "content": [{"text": "(no output)"}]}},
            ]},
        ])
    );
    assert_eq!(body["toolConfig"]["tools"][0]["toolSpec"]["name"], "w");
    assert_eq!(body["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]["type"], "object");
}

#[test]
fn calls_of_tools_that_are_not_listed_any_more_list_them() {
    let body = body(&Request { tools: Vec::new(), ..tool_loop() }, &target());
    assert_eq!(
        body["toolConfig"],
        json!({"tools": [{"toolSpec": {"name": "w", "inputSchema": {"json": {"type": "object", "properties": {}}}}}]})
    );
}

#[test]
fn tool_choices() {
    let with = |choice| Request { tools: vec![tool("w"), tool("x")], tool_choice: Some(choice), ..question() };
    let choice = |choice| body(&with(choice), &target())["toolConfig"]["toolChoice"].clone();
    assert_eq!(choice(ToolChoice::Auto), json!({"auto": {}}));
    assert_eq!(choice(ToolChoice::Required), json!({"any": {}}));
    assert_eq!(choice(ToolChoice::Function("x".into())), json!({"tool": {"name": "x"}}));
    assert_eq!(body(&with(ToolChoice::None), &target())["toolConfig"], Value::Null, "no tools are none to call");
    assert_eq!(refused(&with(ToolChoice::Function("y".into())), &target()), "tool_choice");
    let allowed = with(ToolChoice::Allowed { names: vec!["x".into()], required: true });
    let config = body(&allowed, &target())["toolConfig"].clone();
    assert_eq!((config["tools"].as_array().unwrap().len(), &config["toolChoice"]), (1, &json!({"any": {}})));
    let after_a_call = Request { tool_choice: Some(ToolChoice::None), ..tool_loop() };
    let rendered = render(&after_a_call, &target());
    assert_eq!(rendered.dropped, ["tool_choice"]);
    assert!(String::from_utf8(rendered.body).unwrap().contains("toolConfig"));
}

#[test]
fn structured_output_is_native_or_a_tool() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false});
    let format = ResponseFormat::JsonSchema {
        name: "place".into(),
        description: None,
        schema: Some(schema.clone()),
        strict: Some(true),
    };
    let request = Request { response_format: Some(format), ..question() };
    let native = body(&request, &target());
    let said = &native["outputConfig"]["textFormat"];
    assert_eq!((&said["type"], &said["structure"]["jsonSchema"]["name"]), (&json!("json_schema"), &json!("place")));
    let text = said["structure"]["jsonSchema"]["schema"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), schema);
    let by_tool = ModelTraits { structured_output: StructuredOutput::ForcedTool, ..target() };
    let rendered = render(&request, &by_tool);
    assert_eq!(rendered.answer_tool.as_deref(), Some("place"));
    let body: Value = serde_json::from_slice(&rendered.body).unwrap();
    assert_eq!(body["toolConfig"]["toolChoice"], json!({"tool": {"name": "place"}}));
    let json_mode = Request { response_format: Some(ResponseFormat::JsonObject), ..question() };
    assert!(render(&json_mode, &target()).answer_tool.is_some());
}

#[test]
fn thinking_is_asked_for_in_the_makers_words() {
    let asks = |effort: &str| Request {
        reasoning: Some(Reasoning { effort: Some(effort.into()), ..Reasoning::default() }),
        max_tokens: Some(4000),
        ..question()
    };
    let of = |maker: &str, thinking| ModelTraits { maker: Some(maker.into()), thinking, ..target() };
    let budget = Thinking::Budget { min: 1024, max: 32_000, can_disable: true };
    let claude = body(&asks("medium"), &of("anthropic", budget));
    assert_eq!(claude["additionalModelRequestFields"], json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}));
    assert_eq!(claude["inferenceConfig"]["maxTokens"], 4000);
    let adaptive = body(&asks("high"), &of("anthropic", Thinking::Level));
    assert_eq!(
        adaptive["additionalModelRequestFields"],
        json!({"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}})
    );
    let nova = body(&asks("low"), &of("amazon", Thinking::Level));
    assert_eq!(
        nova["additionalModelRequestFields"],
        json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}})
    );
    let at_most = render(&asks("xhigh"), &of("amazon", Thinking::Level));
    assert_eq!(at_most.dropped, ["max_tokens"], "its highest effort takes no bound");
    let open = body(&asks("minimal"), &of("openai", Thinking::Level));
    assert_eq!(open["additionalModelRequestFields"], json!({"reasoning_effort": "low"}));
    assert_eq!(render(&asks("low"), &of("qwen", Thinking::Level)).dropped, ["reasoning_effort"]);
    assert_eq!(render(&asks("none"), &of("qwen", Thinking::Level)).dropped, [""; 0]);
}

#[test]
fn signed_thoughts_are_sent_back_byte_by_byte_and_others_are_not() {
    let detail =
        |kind, index, format: &'static str| ReasoningDetail { kind, id: None, format: Some(format.into()), index };
    let text = |text: &str, signature: Option<&str>| ReasoningKind::Text {
        text: text.into(),
        signature: signature.map(str::to_owned),
    };
    let mut answer = message(Role::Assistant, "yes");
    answer.reasoning = vec![
        detail(text("in two ", None), 0, "anthropic-claude-v1"),
        detail(text("pieces", Some("sig")), 0, "anthropic-claude-v1"),
        detail(ReasoningKind::Encrypted("ZW5j".into()), 1, "anthropic-claude-v1"),
        detail(text("another's", Some("x")), 2, "google-gemini-v1"),
        detail(text("unsigned", None), 3, "anthropic-claude-v1"),
    ];
    let request = Request {
        messages: vec![message(Role::User, "hello"), answer, message(Role::User, "go on")],
        ..Request::default()
    };
    let thinks = ModelTraits { thinking: Thinking::Level, ..target() };
    assert_eq!(
        body(&request, &thinks)["messages"][1]["content"],
        json!([
            {"reasoningContent": {"reasoningText": {"text": "in two pieces", "signature": "sig"}}},
            {"reasoningContent": {"redactedContent": "ZW5j"}},
            {"text": "yes"},
        ])
    );
    assert_eq!(body(&request, &target())["messages"][1]["content"], json!([{"text": "yes"}]));
}

#[test]
fn pictures_documents_films_and_sounds() {
    let inline = |media_type: &str, data: &str| Media::Inline { media_type: media_type.into(), data: data.into() };
    let file = |source, name: &str| part(PartKind::File { source, filename: Some(name.into()) });
    let mut user = message(Role::User, "look");
    user.parts.extend([
        part(PartKind::Image { source: inline("image/jpg", "aVZC"), detail: None }),
        file(inline("application/pdf", "JVBERi0x"), "q3_report (final).pdf"),
        file(inline("application/octet-stream", "UEsD"), "a/b.docx"),
        file(inline("text/csv", "YQ=="), "a/b.csv"),
        part(PartKind::Video { source: inline("video/mp4", "AAAA") }),
        part(PartKind::Audio { source: inline("audio/mpeg", "AAAA") }),
        file(Media::Url("s3://bucket/some/paper.pdf".into()), "paper.pdf"),
    ]);
    let ask = |user| Request { messages: vec![user], ..Request::default() };
    assert_eq!(
        body(&ask(user.clone()), &target())["messages"][0]["content"],
        json!([
            {"text": "look"},
            {"image": {"format": "jpeg", "source": {"bytes": "aVZC"}}},
            {"document": {"format": "pdf", "name": "q3 report (final)", "source": {"bytes": "JVBERi0x"}}},
            {"document": {"format": "docx", "name": "a b", "source": {"bytes": "UEsD"}}},
            {"document": {"format": "csv", "name": "a b 2", "source": {"bytes": "YQ=="}}},
            {"video": {"format": "mp4", "source": {"bytes": "AAAA"}}},
            {"audio": {"format": "mp3", "source": {"bytes": "AAAA"}}},
            {"document": {"format": "pdf", "name": "paper", "source": {"s3Location": {"uri": "s3://bucket/some/paper.pdf"}}}},
        ])
    );
    for source in [Media::Url("https://example.org/x.png".into()), Media::FileId("f".into()), inline("image/tiff", "x")]
    {
        let mut user = message(Role::User, "look");
        user.parts.push(part(PartKind::Image { source, detail: None }));
        assert_eq!(refused(&ask(user), &target()), "messages[0].content[1]");
    }
    let mut detailed = message(Role::User, "look");
    detailed.parts.push(part(PartKind::Image { source: inline("image/png", "x"), detail: Some("high".into()) }));
    assert_eq!(render(&ask(detailed), &target()).dropped, ["image_url.detail"]);
}

#[test]
fn cache_markers_are_blocks_behind_what_they_mark() {
    let marker = |ttl: Option<&str>| {
        Some(match ttl {
            Some(ttl) => json!({"type": "ephemeral", "ttl": ttl}),
            None => json!({"type": "ephemeral"}),
        })
    };
    let mut system = message(Role::System, "long");
    system.parts[0].cache_control = marker(Some("1h"));
    let mut user = message(Role::User, "hello");
    user.cache_control = marker(None);
    user.parts[0].cache_control = marker(None);
    let mut request = Request { messages: vec![system, user], tools: vec![tool("w")], ..Request::default() };
    request.tools[0].cache_control = marker(None);
    let body = body(&request, &target());
    assert_eq!(body["system"], json!([{"text": "long"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]));
    assert_eq!(body["messages"][0]["content"], json!([{"text": "hello"}, {"cachePoint": {"type": "default"}}]));
    assert_eq!(body["toolConfig"]["tools"][1], json!({"cachePoint": {"type": "default"}}));
}

#[test]
fn parameters_go_where_they_belong() {
    let mut request = Request {
        temperature: Some(1.5),
        top_p: Some(0.9),
        top_k: Some(5),
        max_tokens: Some(90_000),
        stop: vec!["END".into(), "\n".into()],
        ..question()
    };
    request.rest = json!({
        "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"},
        "metadata": {"team": "a"},
        "service_tier": "flex",
        "additionalModelRequestFields": {"own": 1},
        "store": false,
    })
    .as_object()
    .unwrap()
    .clone();
    let nova = ModelTraits { maker: Some("amazon".into()), ..target() };
    let rendered = render(&request, &nova);
    assert_eq!(rendered.dropped, ["temperature"]);
    let body: Value = serde_json::from_slice(&rendered.body).unwrap();
    assert_eq!(
        body["inferenceConfig"],
        json!({"maxTokens": 8192, "temperature": 1.0, "topP": 0.9, "stopSequences": ["END", "\n"]})
    );
    assert_eq!(body["additionalModelRequestFields"], json!({"inferenceConfig": {"topK": 5}, "own": 1}));
    assert_eq!(body["guardrailConfig"]["guardrailIdentifier"], "g");
    assert_eq!((&body["requestMetadata"], &body["serviceTier"]), (&json!({"team": "a"}), &json!({"type": "flex"})));
    let claude = render(&request, &target());
    assert_eq!(claude.dropped, ["top_p", "temperature", "stop"]);
    let strict = ModelTraits { require_parameters: true, ..nova };
    assert_eq!(refused(&request, &strict), "temperature");
}

#[test]
fn a_longer_conversation_begins_with_the_same_bytes() {
    let short = render(&tool_loop(), &target()).body;
    let mut longer = tool_loop();
    longer.messages.push(message(Role::Assistant, "sun"));
    longer.messages.push(message(Role::User, "and now?"));
    let longer = render(&longer, &target()).body;
    let same = short.len() - "]}".len();
    assert_eq!(longer[..same], short[..same]);
}

#[test]
fn a_models_name_in_the_path_can_name_nothing_else() {
    let path = super::super::request::path;
    assert_eq!(path("us.maker.name-v1:0", false), "/model/us.maker.name-v1%3A0/converse");
    assert_eq!(
        path("arn:aws:bedrock:us-east-1:1:inference-profile/p", true),
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fp/converse-stream"
    );
    assert_eq!(path("a?b#c", false), "/model/a%3Fb%23c/converse");
}
