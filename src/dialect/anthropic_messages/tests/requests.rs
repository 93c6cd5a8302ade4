//! Requests: the conversation, media, tools and the plain parameters.

use super::{body, message, part, question, refused, render, target};
use crate::dialect::chat::{Media, Message, ModelTraits, PartKind, Request, Role, Tool, ToolCall, ToolChoice};
use serde_json::{Value, json};

fn tool(name: &str) -> Tool {
    Tool { name: name.into(), description: None, parameters: None, strict: None, cache_control: None }
}

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
}

fn result(id: &str, text: &str) -> Message {
    Message { tool_call_id: Some(id.into()), ..message(Role::Tool, text) }
}

fn calls(calls: Vec<ToolCall>) -> Message {
    Message { tool_calls: calls, ..message(Role::Assistant, "") }
}

fn conversation(messages: Vec<Message>) -> Value {
    body(&Request { messages, ..Request::default() }, &target())
}

fn picture() -> Media {
    Media::Inline { media_type: "image/png".into(), data: "aW1n".into() }
}

fn said(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

#[test]
fn the_smallest_request() {
    let text = String::from_utf8(render(&question(), &target()).body).unwrap();
    assert_eq!(
        text,
        "{\"model\":\"claude-test\",\"max_tokens\":8192,\
         \"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hello\"}]}]}"
    );
}

#[test]
fn instructions_stand_in_front_in_their_order() {
    let body = conversation(vec![
        message(Role::System, "one"),
        message(Role::Developer, "two"),
        message(Role::User, "hello"),
        message(Role::System, "three"),
        message(Role::User, "again"),
    ]);
    assert_eq!(body["system"], json!([said("one"), said("two"), said("three")]));
    assert_eq!(body["messages"], json!([{"role": "user", "content": [said("hello"), said("again")]}]));
}

#[test]
fn instructions_alone_are_what_the_user_says() {
    let body = conversation(vec![message(Role::System, "one"), message(Role::System, "two")]);
    assert_eq!(body["system"], json!([said("one")]));
    assert_eq!(body["messages"], json!([{"role": "user", "content": [said("two")]}]));
    let nothing = Request { messages: vec![message(Role::User, " \n")], ..Request::default() };
    assert_eq!(refused(&nothing, &target()), "messages");
}

#[test]
fn consecutive_roles_are_merged_and_empty_messages_left_out() {
    let body = conversation(vec![
        message(Role::Assistant, "Welcome."),
        message(Role::Assistant, "Ask me."),
        message(Role::User, "hello"),
        message(Role::Assistant, ""),
        message(Role::User, "  "),
        message(Role::User, "are you there?"),
        message(Role::Assistant, "I am "),
    ]);
    assert_eq!(
        body["messages"],
        json!([
            {"role": "assistant", "content": [said("Welcome."), said("Ask me.")]},
            {"role": "user", "content": [said("hello"), said("are you there?")]},
            {"role": "assistant", "content": [said("I am")]},
        ])
    );
}

#[test]
fn parallel_calls_and_their_results() {
    let mut results = result("call_b", "");
    results.parts =
        vec![part(PartKind::Text("a map".into())), part(PartKind::Image { source: picture(), detail: None })];
    let body = conversation(vec![
        message(Role::User, "look"),
        Message {
            tool_calls: vec![call("call_a", "look", "{\"b\": 1, \"a\": 1.50}"), call("call_b", "look", "")],
            ..message(Role::Assistant, "Looking.")
        },
        result("call_a", "nothing"),
        results,
        message(Role::User, "and now?"),
    ]);
    assert_eq!(
        body["messages"][1],
        json!({"role": "assistant", "content": [
            said("Looking."),
            {"type": "tool_use", "id": "call_a", "name": "look", "input": {"b": 1, "a": 1.5}},
            {"type": "tool_use", "id": "call_b", "name": "look", "input": {}},
        ]})
    );
    assert_eq!(
        body["messages"][2],
        json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "call_a", "content": [said("nothing")]},
            {"type": "tool_result", "tool_use_id": "call_b", "content": [
                said("a map"),
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aW1n"}},
            ]},
            said("and now?"),
        ]})
    );
}

#[test]
fn arguments_keep_their_bytes() {
    let request = Request {
        messages: vec![
            message(Role::User, "x"),
            calls(vec![call("c", "f", " {\"z\": 1.0, \"a\": 12345678901234567890123} ")]),
        ],
        ..Request::default()
    };
    let text = String::from_utf8(render(&request, &target()).body).unwrap();
    assert!(text.contains("\"input\":{\"z\": 1.0, \"a\": 12345678901234567890123}"), "{text}");
}

#[test]
fn arguments_that_are_no_object_are_wrapped_and_not_lost() {
    for broken in ["{\"city\": \"Par", "[1]", "7", "\"x\""] {
        let body = conversation(vec![message(Role::User, "x"), calls(vec![call("c", "f", broken)])]);
        assert_eq!(body["messages"][1]["content"][0]["input"], json!({"INVALID_JSON": broken}));
    }
}

#[test]
fn ids_in_another_alphabet_are_mapped_and_still_meet() {
    let body = conversation(vec![
        message(Role::User, "x"),
        calls(vec![call("a.b", "f", ""), call("a:b", "f", ""), call("fine-1_Z", "f", "")]),
        result("a.b", "1"),
        result("a:b", "2"),
        result("fine-1_Z", "3"),
    ]);
    let of = |turn: usize, field: &str| -> Vec<String> {
        let blocks = body["messages"][turn]["content"].as_array().unwrap().clone();
        blocks.iter().map(|block| block[field].as_str().unwrap().to_owned()).collect()
    };
    let ids = of(1, "id");
    assert_eq!(ids, of(2, "tool_use_id"));
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[2], "fine-1_Z");
    assert!(ids.iter().flat_map(|id| id.bytes()).all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)));
}

#[test]
fn pictures_and_documents() {
    let file =
        |source: Media, filename: Option<&str>| part(PartKind::File { source, filename: filename.map(str::to_owned) });
    let inline = |media_type: &str, data: &str| Media::Inline { media_type: media_type.into(), data: data.into() };
    let user = Message {
        parts: vec![
            part(PartKind::Image { source: inline("image/jpg", "anBn"), detail: Some("auto".into()) }),
            part(PartKind::Image { source: Media::Url("https://example.org/a.png".into()), detail: None }),
            file(inline("application/pdf", "JVBERi0x"), Some("a.pdf")),
            file(inline("application/octet-stream", "JVBERi0x"), None),
            file(inline("text/csv; charset=utf-8", "YSxi\nw6k"), Some("t.csv")),
            file(Media::Url("https://example.org/b.pdf".into()), None),
            file(Media::FileId("file_1".into()), None),
        ],
        ..message(Role::User, "")
    };
    let rendered = render(&Request { messages: vec![user], ..Request::default() }, &target());
    assert_eq!(rendered.headers, [("anthropic-beta", "files-api-2025-04-14".to_owned())]);
    let body: Value = serde_json::from_slice(&rendered.body).unwrap();
    assert_eq!(
        body["messages"][0]["content"],
        json!([
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "anBn"}},
            {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"}, "title": "a.pdf"},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a,bé"}, "title": "t.csv"},
            {"type": "document", "source": {"type": "url", "url": "https://example.org/b.pdf"}},
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        ])
    );
}

#[test]
fn what_the_model_cannot_see_or_hear_is_refused_by_place() {
    let inline = || Media::Inline { media_type: "application/zip".into(), data: "UEs".into() };
    let url = || Media::Url("https://example.org/a".into());
    let no_urls = ModelTraits { media_urls: false, ..target() };
    for (kind, role, target) in [
        (PartKind::Audio { source: inline() }, Role::User, target()),
        (PartKind::Video { source: url() }, Role::User, target()),
        (PartKind::File { source: inline(), filename: None }, Role::User, target()),
        (PartKind::Image { source: url(), detail: None }, Role::Assistant, target()),
        (PartKind::Image { source: url(), detail: None }, Role::System, target()),
        (PartKind::Image { source: url(), detail: None }, Role::User, no_urls.clone()),
        (PartKind::File { source: url(), filename: None }, Role::User, no_urls),
    ] {
        let spoken = Message { parts: vec![part(PartKind::Text("see".into())), part(kind)], ..message(role, "") };
        let request = Request { messages: vec![message(Role::User, "x"), spoken], ..Request::default() };
        assert_eq!(refused(&request, &target), "messages[1].content[1]");
    }
}

#[test]
fn cache_markers_are_passed_on() {
    let marker = json!({"type": "ephemeral", "ttl": "1h"});
    let marked = |message: Message| Message { cache_control: Some(marker.clone()), ..message };
    let mut parts = message(Role::System, "rules");
    parts.parts[0].cache_control = Some(marker.clone());
    let mut blank = message(Role::User, "hello");
    blank.parts.push(part(PartKind::Text(String::new())));
    blank.parts[1].cache_control = Some(marker.clone());
    let body = body(
        &Request {
            messages: vec![
                parts,
                marked(message(Role::User, "x")),
                marked(calls(vec![call("c", "f", "")])),
                marked(result("c", "done")),
                message(Role::Assistant, "ok"),
                blank,
            ],
            tools: vec![Tool { cache_control: Some(marker.clone()), ..tool("f") }],
            rest: json!({"cache_control": marker}).as_object().unwrap().clone(),
            ..Request::default()
        },
        &target(),
    );
    for place in [
        "/system/0",
        "/messages/0/content/0",
        "/messages/1/content/0",
        "/messages/2/content/0",
        "/messages/4/content/0",
        "/tools/0",
        "",
    ] {
        assert_eq!(body.pointer(place).unwrap()["cache_control"], marker, "{place}");
    }
    assert_eq!(body["messages"][2]["content"][0]["content"], json!([said("done")]));
}

#[test]
fn a_longer_conversation_begins_with_the_same_bytes() {
    let mut request = Request {
        messages: vec![
            message(Role::System, "rules"),
            message(Role::User, "x"),
            calls(vec![call("a.b", "f", "{\"b\":1}")]),
            result("a.b", "y"),
        ],
        tools: vec![tool("f")],
        stream: true,
        temperature: Some(0.5),
        ..Request::default()
    };
    let before = render(&request, &target()).body;
    assert_eq!(before, render(&request, &target()).body);
    request.messages.extend([message(Role::Assistant, "done"), message(Role::User, "more")]);
    let after = render(&request, &target()).body;
    let common = before.strip_suffix(b"]}").unwrap();
    assert!(after.starts_with(common));
}

#[test]
fn tool_choice_in_every_form() {
    let choose = |choice: Option<ToolChoice>, parallel: Option<bool>| {
        let request = Request {
            tools: vec![tool("f"), tool("g")],
            tool_choice: choice,
            parallel_tool_calls: parallel,
            ..question()
        };
        let body = body(&request, &target());
        let names: Vec<_> = body["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()).collect();
        (body["tool_choice"].clone(), names)
    };
    let allowed = |names: &[&str], required| {
        Some(ToolChoice::Allowed { names: names.iter().map(|name| (*name).to_owned()).collect(), required })
    };
    let both = vec![json!("f"), json!("g")];
    for (choice, parallel, expected, names) in [
        (None, None, Value::Null, &both),
        (None, Some(true), Value::Null, &both),
        (None, Some(false), json!({"type": "auto", "disable_parallel_tool_use": true}), &both),
        (Some(ToolChoice::Auto), None, json!({"type": "auto"}), &both),
        (Some(ToolChoice::None), Some(false), json!({"type": "none"}), &both),
        (Some(ToolChoice::Required), None, json!({"type": "any"}), &both),
        (Some(ToolChoice::Required), Some(false), json!({"type": "any", "disable_parallel_tool_use": true}), &both),
        (Some(ToolChoice::Function("g".into())), None, json!({"type": "tool", "name": "g"}), &both),
        (allowed(&["g"], false), None, json!({"type": "auto"}), &vec![json!("g")]),
        (allowed(&["g"], true), None, json!({"type": "any"}), &vec![json!("g")]),
        (allowed(&["h"], false), None, json!({"type": "none"}), &both),
    ] {
        assert_eq!(choose(choice.clone(), parallel), (expected, names.clone()), "{choice:?}");
    }
    for choice in [allowed(&["h"], true), Some(ToolChoice::Function("h".into()))] {
        let request = Request { tools: vec![tool("f")], tool_choice: choice, ..question() };
        assert_eq!(refused(&request, &target()), "tool_choice");
    }
    let alone = Request { tool_choice: Some(ToolChoice::Required), ..question() };
    assert_eq!(refused(&alone, &target()), "tool_choice");
    let alone = Request { tool_choice: Some(ToolChoice::None), parallel_tool_calls: Some(false), ..question() };
    assert_eq!(body(&alone, &target())["tool_choice"], Value::Null);
}

#[test]
fn tool_definitions() {
    let schema = json!({"properties": {"z": {"type": "string"}, "a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "integer"}}});
    let described = Tool { description: Some("does f".into()), parameters: Some(schema), ..tool("f") };
    let body = body(&Request { tools: vec![described, tool("g")], ..question() }, &target());
    assert_eq!(
        body["tools"].to_string(),
        "[{\"name\":\"f\",\"description\":\"does f\",\"input_schema\":{\"type\":\"object\",\
         \"properties\":{\"z\":{\"type\":\"string\"},\"a\":{\"$ref\":\"#/$defs/a\"}},\"$defs\":{\"a\":{\"type\":\"integer\"}}}},\
         {\"name\":\"g\",\"input_schema\":{\"type\":\"object\",\"properties\":{}}}]"
    );
}

#[test]
fn plain_parameters() {
    let body = body(
        &Request {
            stream: true,
            temperature: Some(0.3),
            top_k: Some(5),
            max_tokens: Some(100),
            stop: vec!["END".into(), "\n\n".into()],
            user: Some("user-7".into()),
            rest: json!({"service_tier": "default"}).as_object().unwrap().clone(),
            ..question()
        },
        &target(),
    );
    assert_eq!(body["stream"], true);
    assert_eq!(body["temperature"], 0.3);
    assert_eq!(body["top_k"], 5);
    assert_eq!(body["max_tokens"], 100);
    assert_eq!(body["stop_sequences"], json!(["END"]));
    assert_eq!(body["metadata"], json!({"user_id": "user-7"}));
    assert_eq!(body["service_tier"], "standard_only");
}

#[test]
fn an_id_that_names_a_person_becomes_a_hash() {
    for user in ["ada@example.org", "+43 660 1234567", "4366012345", &"x".repeat(300)] {
        let body = body(&Request { user: Some(user.to_owned()), ..question() }, &target());
        let id = body["metadata"]["user_id"].as_str().unwrap();
        assert_eq!(id.len(), 64, "{user}");
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}

#[test]
fn the_bound_of_the_output() {
    for (asked, most, sent) in [
        (None, Some(8192), 8192),
        (None, None, 4096),
        (Some(50), Some(8192), 50),
        (Some(100_000), Some(8192), 8192),
        (Some(100_000), None, 100_000),
    ] {
        let target = ModelTraits { max_output: most, ..target() };
        assert_eq!(body(&Request { max_tokens: asked, ..question() }, &target)["max_tokens"], sent);
    }
}

#[test]
fn sampling_stays_inside_what_is_taken() {
    let sampled = |temperature: Option<f64>, top_p: Option<f64>, sampling: bool| {
        let request = Request { temperature, top_p, top_k: Some(3), ..question() };
        let rendered = render(&request, &ModelTraits { sampling, ..target() });
        let body: Value = serde_json::from_slice(&rendered.body).unwrap();
        (body["temperature"].as_f64(), body["top_p"].as_f64(), rendered.dropped)
    };
    let dropped = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(sampled(Some(0.0), None, true), (Some(0.0), None, dropped(&[])));
    assert_eq!(sampled(Some(1.5), None, true), (Some(1.0), None, dropped(&["temperature"])));
    assert_eq!(sampled(Some(0.2), Some(1.0), true), (Some(0.2), None, dropped(&[])));
    assert_eq!(sampled(Some(1.0), Some(0.9), true), (None, Some(0.9), dropped(&[])));
    assert_eq!(sampled(Some(0.2), Some(0.9), true), (Some(0.2), None, dropped(&["top_p"])));
    assert_eq!(sampled(Some(1.0), Some(1.0), false), (None, None, dropped(&["top_k"])));
    assert_eq!(sampled(Some(0.2), Some(0.9), false), (None, None, dropped(&["temperature", "top_p", "top_k"])));
}

/// Everything that Anthropic has no word for, with the name under which it is noted.
fn losses() -> Vec<(&'static str, Request)> {
    let rest = |value: Value| Request { rest: value.as_object().unwrap().clone(), ..question() };
    let named = Message { name: Some("Ada".into()), ..message(Role::User, "hello") };
    let detailed = Message {
        parts: vec![part(PartKind::Image { source: picture(), detail: Some("low".into()) })],
        ..message(Role::User, "")
    };
    vec![
        ("n", Request { n: Some(2), ..question() }),
        ("seed", Request { seed: Some(1), ..question() }),
        ("frequency_penalty", Request { frequency_penalty: Some(0.5), ..question() }),
        ("presence_penalty", Request { presence_penalty: Some(-0.5), ..question() }),
        ("logprobs", Request { logprobs: Some(true), ..question() }),
        ("top_logprobs", Request { top_logprobs: Some(3), ..question() }),
        ("modalities", Request { modalities: vec!["text".into(), "audio".into()], ..question() }),
        ("stop", Request { stop: vec!["\n".into()], ..question() }),
        ("temperature", Request { temperature: Some(1.2), ..question() }),
        ("top_p", Request { temperature: Some(0.2), top_p: Some(0.2), ..question() }),
        ("messages.name", Request { messages: vec![named], ..Request::default() }),
        ("image_url.detail", Request { messages: vec![detailed], ..Request::default() }),
        ("tools.strict", Request { tools: vec![Tool { strict: Some(true), ..tool("f") }], ..question() }),
        ("logit_bias", rest(json!({"logit_bias": {"50256": -100}}))),
        ("metadata", rest(json!({"metadata": {"team": "a"}}))),
        ("service_tier", rest(json!({"service_tier": "flex"}))),
        ("store", rest(json!({"store": true}))),
        ("prediction", rest(json!({"prediction": {"type": "content", "content": "x"}}))),
        ("web_search_options", rest(json!({"web_search_options": {"search_context_size": "low"}}))),
        ("verbosity", rest(json!({"verbosity": "low"}))),
    ]
}

#[test]
fn what_is_lost_is_named() {
    for (name, request) in losses() {
        assert_eq!(render(&request, &target()).dropped, [name]);
    }
}

#[test]
fn nothing_is_lost_where_parameters_are_required() {
    let strict = ModelTraits { require_parameters: true, ..target() };
    for (name, request) in losses() {
        assert_eq!(refused(&request, &strict), name);
    }
}

#[test]
fn what_asks_for_nothing_is_no_loss() {
    let request = Request {
        n: Some(1),
        frequency_penalty: Some(0.0),
        presence_penalty: Some(0.0),
        logprobs: Some(false),
        top_logprobs: Some(0),
        modalities: vec!["text".into()],
        rest: json!({"store": false, "logit_bias": {}, "metadata": {}, "prediction": null, "service_tier": "auto"})
            .as_object()
            .unwrap()
            .clone(),
        ..question()
    };
    let strict = ModelTraits { require_parameters: true, ..target() };
    assert!(render(&request, &strict).dropped.is_empty());
}
