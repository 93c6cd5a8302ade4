//! Requests read into the hub, and what the envelope sees of them.

use super::*;
use crate::dialect::chat::{
    FORMAT_ANTHROPIC, Media, PartKind, Reasoning, ReasoningKind, Request, ResponseFormat, Role, ToolChoice,
};
use bytes::Bytes;

fn parse(body: &Value) -> Request {
    Client::AnthropicMessages.parse(body.to_string().as_bytes()).unwrap()
}

/// The parameter that a request is refused for.
fn refused(body: &Value) -> String {
    Client::AnthropicMessages.parse(body.to_string().as_bytes()).unwrap_err().param.unwrap_or_default()
}

/// What a coding agent sends in the middle of its loop.
fn loop_step() -> Value {
    json!({
        "model": "m", "max_tokens": 32000, "stream": true, "temperature": 1, "top_k": 5, "stop_sequences": ["END"],
        "metadata": {"user_id": "user_1"},
        "system": [
            {"type": "text", "text": "You are an agent."},
            {"type": "text", "text": "Rules.", "cache_control": {"type": "ephemeral"}},
        ],
        "thinking": {"type": "enabled", "budget_tokens": 10000},
        "tools": [{"name": "read", "description": "Reads.", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Do it.", "cache_control": {"type": "ephemeral"}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"},
                {"type": "text", "text": "Reading."},
                {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"path": "a", "deep": {"b": [1]}}},
                {"type": "tool_use", "id": "toolu_2", "name": "read", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [
                    {"type": "text", "text": "seen"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aVZC"}},
                ]},
                {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": true, "content": "no such file"},
                {"type": "text", "text": "Go on."},
            ]},
        ],
    })
}

#[test]
fn a_step_of_an_agents_loop() {
    let request = parse(&loop_step());
    let roles: Vec<Role> = request.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::Tool, Role::User]);
    let [system, user, assistant, seen, failed, last] = &request.messages[..] else { panic!() };
    assert_eq!(system.parts.len(), 2);
    assert!(system.parts[1].cache_control.is_some() && user.parts[0].cache_control.is_some());
    let thought = &assistant.reasoning[0];
    assert_eq!(thought.kind, ReasoningKind::Text { text: "Hm.".into(), signature: Some("EqQB".into()) });
    assert_eq!(thought.format.as_deref(), Some(FORMAT_ANTHROPIC));
    assert_eq!(assistant.tool_calls[0].arguments, r#"{"path":"a","deep":{"b":[1]}}"#);
    assert_eq!((seen.tool_call_id.as_deref(), seen.parts.len()), (Some("toolu_1"), 2));
    assert_eq!(failed.parts[0].kind, PartKind::Text("Error: no such file".into()));
    assert_eq!(last.parts[0].kind, PartKind::Text("Go on.".into()));
    assert_eq!(
        request.reasoning,
        Some(Reasoning { max_tokens: Some(10000), enabled: Some(true), ..Reasoning::default() })
    );
    assert_eq!((request.tool_choice, request.parallel_tool_calls), (Some(ToolChoice::Auto), Some(false)));
    assert_eq!((request.user.as_deref(), request.top_k, request.max_tokens), (Some("user_1"), Some(5), Some(32000)));
    assert_eq!((request.stop, request.stream, request.include_usage), (vec!["END".to_owned()], true, true));
    assert!(request.rest.is_empty(), "{:?}", request.rest);
}

#[test]
fn the_envelope_sees_what_the_gateway_acts_on() {
    let mut body = loop_step();
    body["extra"] = json!({"retry": 1, "fallback_models": ["a/b"]});
    let envelope = Client::AnthropicMessages.scan(Bytes::from(body.to_string())).unwrap();
    assert_eq!((envelope.client, &*envelope.model, envelope.stream), (Client::AnthropicMessages, "m", true));
    assert_eq!((envelope.max_tokens, envelope.user.as_deref()), (Some(32000), Some("user_1")));
    assert_eq!(envelope.extensions.fallback_models, ["a/b"]);
    assert!(
        envelope.needs.tools && envelope.needs.images && !envelope.needs.files && !envelope.needs.structured_output
    );
    assert!(envelope.estimated_input_tokens > 100, "{}", envelope.estimated_input_tokens);
    for (wrong, param) in [
        (json!({"messages": [{}]}), "model"),
        (json!({"model": "m"}), "messages"),
        (json!({"model": "m", "messages": []}), "messages"),
        (json!({"model": "m", "messages": [{}], "stream": "yes"}), "stream"),
        (json!({"model": "m", "messages": [{}], "max_tokens": -1}), "max_tokens"),
        (json!({"model": "m", "messages": [{}], "metadata": 5}), "metadata"),
        (json!({"model": "m", "messages": [{}], "extra": {"retries": 1}}), "extra.retries"),
    ] {
        let fault = Client::AnthropicMessages.scan(Bytes::from(wrong.to_string())).unwrap_err();
        assert_eq!(fault.param.as_deref(), Some(param), "{wrong}");
    }
}

#[test]
fn documents_of_every_source() {
    let request = parse(&json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [
        {"type": "document", "title": "a.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
        {"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "inner"}]}, "context": "about"},
        {"type": "search_result", "source": "https://s", "title": "T", "content": [{"type": "text", "text": "found"}]},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
    ]}]}));
    let kinds: Vec<PartKind> = request.messages[0].parts.iter().map(|part| part.kind.clone()).collect();
    let inline = |media_type: &str, data: &str| Media::Inline { media_type: media_type.into(), data: data.into() };
    assert_eq!(
        kinds,
        [
            PartKind::File { source: inline("application/pdf", "JVBERi0"), filename: Some("a.pdf".into()) },
            PartKind::File { source: inline("text/plain", "cGxhaW4="), filename: None },
            PartKind::File { source: Media::Url("https://x/y.pdf".into()), filename: None },
            PartKind::Text("about".into()),
            PartKind::Text("inner".into()),
            PartKind::Text("T\nhttps://s\nfound".into()),
            PartKind::Image { source: Media::FileId("file_1".into()), detail: None },
        ]
    );
}

#[test]
fn thinking_effort_and_form() {
    let with = |members: Value| {
        let mut body = json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        parse(&body)
    };
    let effort = |request: Request| request.reasoning.and_then(|reasoning| reasoning.effort);
    assert_eq!(effort(with(json!({"output_config": {"effort": "max"}}))).as_deref(), Some("max"));
    let adaptive = json!({"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "low"}});
    let expected = Reasoning { effort: Some("low".into()), max_tokens: None, enabled: Some(true), exclude: true };
    assert_eq!(with(adaptive).reasoning, Some(expected));
    assert_eq!(effort(with(json!({"thinking": {"type": "disabled"}}))).as_deref(), Some("none"));
    let schema = json!({"type": "object"});
    for form in [
        json!({"output_format": {"type": "json_schema", "schema": schema}}),
        json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}}),
    ] {
        let format = with(form).response_format;
        assert!(matches!(format, Some(ResponseFormat::JsonSchema { schema: Some(_), strict: Some(true), .. })));
    }
    let lost = with(json!({"context_management": {"edits": []}, "container": "c"})).rest;
    assert_eq!(lost.keys().collect::<Vec<_>>(), ["context_management", "container"]);
}

#[test]
fn what_only_anthropic_can_do_is_refused_or_noted() {
    let user = json!([{"role": "user", "content": "x"}]);
    for (body, param) in [
        (json!({"messages": user, "tools": [{"type": "web_search_20250305", "name": "web_search"}]}), "tools[0].type"),
        (json!({"messages": user, "tools": [{"name": "a", "input_schema": 5}]}), "tools[0].input_schema"),
        (json!({"messages": user, "mcp_servers": [{"url": "u"}]}), "mcp_servers"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user", "content": [{"type": "new"}]}]}), "messages[0].content[0].type"),
        (json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]}), "messages[0].content[0].source"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}]}),
            "messages[0].content[0].tool_use_id",
        ),
        (json!({"messages": user, "tool_choice": {"type": "some"}}), "tool_choice.type"),
        (json!({"messages": user, "thinking": {"type": "much"}}), "thinking.type"),
        (json!({"messages": user, "output_format": {"type": "xml"}}), "output_format.type"),
        (json!({"messages": user, "system": 5}), "system"),
    ] {
        assert_eq!(refused(&body), param, "{body}");
    }
    let searched = parse(&json!({"messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
            {"type": "text", "text": "found", "citations": []},
        ]},
        {"role": "user", "content": "y"},
    ], "tools": [{"name": "a", "defer_loading": true}]}));
    let noted: Vec<_> = searched.rest.keys().map(String::as_str).collect();
    assert_eq!(
        noted,
        ["messages.content.server_tool_use", "messages.content.web_search_tool_result", "tools.defer_loading"]
    );
    assert_eq!(searched.messages[1].parts.len(), 1);
}
