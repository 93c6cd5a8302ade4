//! Requests as clients write them, in the hub's words.

use super::*;
use crate::dialect::chat::{Media, Part, PartKind, ReasoningKind, Role};
use proptest::prelude::*;
use serde_json::json;

fn read(mut body: Value) -> Result<Request, Fault> {
    let object = body.as_object_mut().unwrap();
    object.entry("model").or_insert(json!("m"));
    object.entry("messages").or_insert(json!([{"role": "user", "content": "hi"}]));
    parse(body.to_string().as_bytes())
}

fn parts(content: Value) -> Result<Vec<Part>, Fault> {
    read(json!({"messages": [{"role": "user", "content": content}]})).map(|request| request.messages[0].parts.clone())
}

fn text(text: &str) -> Part {
    Part { kind: PartKind::Text(text.into()), cache_control: None }
}

#[test]
fn reads_every_parameter() {
    let request = read(json!({
        "temperature": 1, "top_p": 0.5, "top_k": 3, "frequency_penalty": -1, "presence_penalty": 2, "seed": -4, "stop": "x",
        "max_tokens": 5, "max_completion_tokens": 6, "n": 2, "logprobs": true, "top_logprobs": 3, "user": "u", "stream": true,
        "stream_options": {"include_usage": true}, "modalities": ["text"], "parallel_tool_calls": false, "logit_bias": {"1": 2},
        "service_tier": "flex", "extra": {"retry": 1}, "models": [], "provider": {}, "fallbacks": [], "route": "fallback",
        "usage": {"include": true}, "store": null,
    }))
    .unwrap();
    assert_eq!(
        (request.temperature, request.top_p, request.top_k, request.seed),
        (Some(1.0), Some(0.5), Some(3), Some(-4))
    );
    assert_eq!((request.frequency_penalty, request.presence_penalty), (Some(-1.0), Some(2.0)));
    assert_eq!(
        (request.max_tokens, request.n, request.logprobs, request.top_logprobs),
        (Some(6), Some(2), Some(true), Some(3))
    );
    assert_eq!(
        (request.stop, request.user, request.modalities),
        (vec!["x".to_owned()], Some("u".to_owned()), vec!["text".to_owned()])
    );
    assert!(request.stream && request.include_usage);
    assert_eq!(request.parallel_tool_calls, Some(false));
    assert_eq!(Value::Object(request.rest), json!({"logit_bias": {"1": 2}, "service_tier": "flex"}));
}

#[test]
fn null_is_absent() {
    let names = [
        "temperature",
        "stop",
        "max_tokens",
        "n",
        "tools",
        "tool_choice",
        "response_format",
        "reasoning",
        "user",
        "stream",
    ];
    let body: Value = names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect::<Map<_, _>>().into();
    assert_eq!(read(body).unwrap(), read(json!({})).unwrap());
}

#[test]
fn reads_all_roles_and_contents() {
    let request = read(json!({"messages": [
        {"role": "system", "content": "s", "name": "n", "cache_control": {"type": "ephemeral"}},
        {"role": "developer", "content": [{"type": "text", "text": "d"}, "e"]},
        {"role": "assistant", "content": null, "refusal": "no", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
            {"id": "c2", "function": {"name": "g", "arguments": ""}},
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "r", "cache_control": {"type": "x"}}]},
        {"role": "assistant", "function_call": {"name": "h", "arguments": "{}"}},
        {"role": "function", "name": "h", "content": "r2"},
    ]}))
    .unwrap();
    let messages = request.messages;
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::Developer, Role::Assistant, Role::Tool, Role::Assistant, Role::Tool]);
    assert_eq!(messages[0].cache_control, Some(json!({"type": "ephemeral"})));
    assert_eq!(messages[1].parts, [text("d"), text("e")]);
    assert_eq!(messages[2].parts[0].kind, PartKind::Refusal("no".into()));
    let calls: Vec<_> = messages[2].tool_calls.iter().map(|call| (&*call.id, &*call.name, &*call.arguments)).collect();
    assert_eq!(calls, [("c1", "f", "{\"a\":1}"), ("c2", "g", "{}")]);
    assert_eq!(messages[3].parts[0].cache_control, Some(json!({"type": "x"})));
    assert_eq!(messages[3].tool_call_id.as_deref(), Some("c1"));
    assert_eq!(messages[5].tool_call_id.as_ref(), Some(&messages[4].tool_calls[0].id));
}

#[test]
fn reads_media_in_all_forms() {
    let inline = |media_type: &str| Media::Inline { media_type: media_type.into(), data: "QUJD".into() };
    let url = || Media::Url("https://h/x".into());
    let file = |source, filename: Option<&str>| PartKind::File { source, filename: filename.map(Into::into) };
    for (part, kind) in [
        (
            json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}}),
            PartKind::Image { source: inline("image/png"), detail: Some("low".into()) },
        ),
        (json!({"type": "image_url", "image_url": "https://h/x"}), PartKind::Image { source: url(), detail: None }),
        (
            json!({"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}),
            PartKind::Audio { source: inline("audio/wav") },
        ),
        (json!({"type": "input_audio", "input_audio": "https://h/x"}), PartKind::Audio { source: url() }),
        (json!({"type": "video_url", "video_url": {"url": "https://h/x"}}), PartKind::Video { source: url() }),
        (
            json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,QUJD", "filename": "a.pdf"}}),
            file(inline("application/pdf"), Some("a.pdf")),
        ),
        (
            json!({"type": "file", "file": {"file_data": "QUJD", "filename": "a.TXT"}}),
            file(inline("text/plain"), Some("a.TXT")),
        ),
        (json!({"type": "file", "file": {"file_id": "file-1"}}), file(Media::FileId("file-1".into()), None)),
        (json!({"type": "file", "file": {"file_data": "https://h/x"}}), file(url(), None)),
        (json!({"type": "document_url", "document_url": "https://h/x", "document_name": "n"}), file(url(), Some("n"))),
    ] {
        assert_eq!(parts(json!([part.clone()])).unwrap()[0].kind, kind, "{part}");
    }
}

#[test]
fn reads_reasoning_that_comes_back() {
    let request = read(json!({"messages": [
        {"role": "assistant", "content": "x", "reasoning_content": "ignored", "reasoning_details": [
            {"type": "reasoning.text", "text": "t", "signature": "s", "format": "f", "id": null, "index": 4},
            {"type": "reasoning.summary", "summary": "u"},
            {"type": "reasoning.encrypted", "data": "d", "id": "c1"},
        ]},
        {"role": "assistant", "content": "x", "reasoning": "plain"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "m"}]}, {"type": "text", "text": "y"}]},
    ]}))
    .unwrap();
    let details = &request.messages[0].reasoning;
    assert_eq!(details[0].kind, ReasoningKind::Text { text: "t".into(), signature: Some("s".into()) });
    assert_eq!((details[0].index, details[0].format.as_deref(), &details[0].id), (4, Some("f"), &None));
    assert_eq!(details[1].kind, ReasoningKind::Summary("u".into()));
    assert_eq!((&details[2].kind, details[2].id.as_deref()), (&ReasoningKind::Encrypted("d".into()), Some("c1")));
    let plain = |text: &str| ReasoningKind::Text { text: text.into(), signature: None };
    assert_eq!(request.messages[1].reasoning[0].kind, plain("plain"));
    assert_eq!(request.messages[2].reasoning[0].kind, plain("m"));
    assert_eq!(request.messages[2].parts, [text("y")]);
}

#[test]
fn reads_tools_and_choices() {
    let request = read(json!({
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true},
             "cache_control": {"type": "ephemeral"}},
            {"type": "function", "name": "flat"},
        ],
        "functions": [{"name": "old"}],
    }))
    .unwrap();
    let names: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["f", "flat", "old"]);
    assert_eq!(request.tools[0].strict, Some(true));
    assert!(request.tools[0].cache_control.is_some());
    for (choice, expected) in [
        (json!("auto"), ToolChoice::Auto),
        (json!("none"), ToolChoice::None),
        (json!("any"), ToolChoice::Required),
        (json!({"type": "function", "function": {"name": "f"}}), ToolChoice::Function("f".into())),
        (json!({"type": "tool", "name": "f"}), ToolChoice::Function("f".into())),
        (
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}}),
            ToolChoice::Allowed { names: vec!["f".into()], required: true },
        ),
    ] {
        assert_eq!(read(json!({"tool_choice": choice})).unwrap().tool_choice, Some(expected));
    }
    assert_eq!(
        read(json!({"function_call": {"name": "f"}})).unwrap().tool_choice,
        Some(ToolChoice::Function("f".into()))
    );
}

#[test]
fn reads_forms_of_answers_and_of_thinking() {
    let schema = |name: &str| ResponseFormat::JsonSchema {
        name: name.into(),
        description: None,
        schema: Some(json!({})),
        strict: None,
    };
    for (format, expected) in [
        (json!({"type": "text"}), ResponseFormat::Text),
        (json!({"type": "json_object"}), ResponseFormat::JsonObject),
        (json!({"type": "json_object", "schema": {}}), schema("response")),
        (json!({"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}), schema("s")),
    ] {
        assert_eq!(read(json!({"response_format": format})).unwrap().response_format, Some(expected));
    }
    let low = || Reasoning { effort: Some("low".into()), ..Reasoning::default() };
    for (body, expected) in [
        (json!({"reasoning_effort": "low"}), low()),
        (json!({"reasoning": {"effort": "low"}, "reasoning_effort": "high"}), low()),
        (
            json!({"reasoning": {"max_tokens": 9, "exclude": true}}),
            Reasoning { max_tokens: Some(9), exclude: true, ..Reasoning::default() },
        ),
        (json!({"reasoning_effort": "low", "include_reasoning": false}), Reasoning { exclude: true, ..low() }),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 9}}),
            Reasoning { max_tokens: Some(9), enabled: Some(true), ..Reasoning::default() },
        ),
    ] {
        assert_eq!(read(body).unwrap().reasoning, Some(expected));
    }
    let foreign = read(json!({"thinking": {"clear_thinking": false}})).unwrap();
    assert!(foreign.reasoning.is_none() && foreign.rest.contains_key("thinking"));
}

#[test]
fn names_what_is_wrong() {
    for (body, param) in [
        (json!({"messages": []}), "messages"),
        (json!({"messages": null}), "messages"),
        (json!({"messages": "hi"}), "messages"),
        (json!({"messages": [1]}), "messages[0]"),
        (json!({"messages": [{"content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (json!({"messages": [{"role": "user", "content": 5}]}), "messages[0].content"),
        (json!({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}), "messages[0].content[0].type"),
        (json!({"messages": [{"role": "user", "content": [{"text": "x"}]}]}), "messages[0].content[0].type"),
        (json!({"messages": [{"role": "user", "content": [{"type": "text"}]}]}), "messages[0].content[0].text"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}),
            "messages[0].content[0].image_url.url",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:x"}]}]}),
            "messages[0].content[0].image_url",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}),
            "messages[0].content[0].file",
        ),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].tool_call_id"),
        (json!({"messages": [{"role": "function", "name": "f", "content": "x"}]}), "messages[0]"),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {}}]}]}),
            "messages[0].tool_calls[0].function.name",
        ),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]}),
            "messages[0].tool_calls[0].id",
        ),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "function", "function": {"name": 1}}]}), "tools[0].function.name"),
        (json!({"tool_choice": "maybe"}), "tool_choice"),
        (json!({"tool_choice": {"type": "custom"}}), "tool_choice.type"),
        (json!({"response_format": {"type": "xml"}}), "response_format.type"),
        (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"n": 0}), "n"),
        (json!({"stop": 5}), "stop"),
        (json!({"stop": ["a", 5]}), "stop[1]"),
        (json!({"stream": "yes"}), "stream"),
        (json!({"stream_options": {"include_usage": 1}}), "stream_options.include_usage"),
        (json!({"reasoning": "much"}), "reasoning"),
    ] {
        let fault = read(body.clone()).unwrap_err();
        assert_eq!((fault.kind, fault.param.as_deref()), (FaultKind::BadRequest, Some(param)), "{body}");
    }
    assert!(parse(b"[]").unwrap_err().message.contains("object"));
    assert!(parse(b"{").unwrap_err().message.contains("line 1"));
}

proptest! {
    #[test]
    fn no_body_makes_it_panic(at in 0usize..400, byte in any::<u8>(), length in 0usize..3) {
        let mut body = json!({"messages": [
            {"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "data:a/b;base64,QQ=="}}], "tool_calls":
                [{"id": "a", "function": {"name": "f", "arguments": "{}"}}], "reasoning_details": [{"type": "reasoning.text"}]},
        ], "tool_choice": {"type": "function", "function": {"name": "f"}}, "stop": ["a"]}).to_string().into_bytes();
        let at = at % body.len();
        let end = (at + length).min(body.len());
        body.splice(at..end, [byte]);
        let _ = parse(&body);
    }
}

#[test]
fn openais_mark_for_the_prompt_cache_is_anthropics() {
    let mark = |part: serde_json::Value| {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": [part]}]});
        parse(body.to_string().as_bytes()).unwrap().messages[0].parts[0].cache_control.clone()
    };
    let point = |point: serde_json::Value| mark(json!({"type": "text", "text": "x", "prompt_cache_breakpoint": point}));
    assert_eq!(point(json!({"mode": "explicit"})), Some(json!({"type": "ephemeral"})));
    assert_eq!(point(json!({"mode": "explicit", "ttl": "30m"})), Some(json!({"type": "ephemeral", "ttl": "1h"})));
    assert_eq!(mark(json!({"type": "text", "text": "x"})), None);
}
