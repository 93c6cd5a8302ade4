//! Requests with all that they can say.

use super::*;
use crate::dialect::chat::{Role, ToolChoice};
use serde_json::json;

fn read(body: Value) -> Parsed {
    parse(body.to_string().as_bytes(), None).unwrap()
}

fn wrong(body: Value) -> Fault {
    parse(body.to_string().as_bytes(), None).unwrap_err()
}

#[test]
fn reads_what_a_request_can_say() {
    let Parsed { request, asked } = read(json!({
        "model": "m", "input": "hi", "instructions": "be brief", "stream": true, "store": false,
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true}],
        "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": false,
        "text": {"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}, "strict": true},
                 "verbosity": "low"},
        "reasoning": {"effort": "high", "summary": "auto"}, "max_output_tokens": 100, "temperature": 0.5, "top_p": 0.9,
        "metadata": {"a": "b"}, "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "top_logprobs": 2, "user": "u", "prompt_cache_key": "k", "truncation": "disabled", "background": false,
        "service_tier": "flex", "max_tool_calls": 3, "client_metadata": {"x": "y"},
    }));
    assert_eq!(request.messages.len(), 2);
    assert_eq!((request.messages[0].role, request.messages[1].role), (Role::System, Role::User));
    assert_eq!((request.tools.len(), request.tools[0].strict), (1, Some(true)));
    assert_eq!(
        (request.tool_choice, request.parallel_tool_calls),
        (Some(ToolChoice::Function("f".into())), Some(false))
    );
    let schema = Some(json!({"type": "object"}));
    assert_eq!(
        request.response_format,
        Some(ResponseFormat::JsonSchema { name: "s".into(), description: None, schema, strict: Some(true) })
    );
    assert_eq!(request.reasoning.and_then(|reasoning| reasoning.effort).as_deref(), Some("high"));
    assert_eq!((request.max_tokens, request.temperature, request.top_p), (Some(100), Some(0.5), Some(0.9)));
    assert_eq!((request.logprobs, request.top_logprobs, request.user.as_deref()), (Some(true), Some(2), Some("u")));
    assert!(request.stream);
    let rest: Vec<&str> = request.rest.keys().map(String::as_str).collect();
    assert_eq!(rest, ["prompt_cache_key", "service_tier", "max_tool_calls", "verbosity"]);
    let echo: Value = serde_json::from_slice(&[b"{", &asked.echo[..], b"}"].concat()).unwrap();
    assert_eq!((&echo["metadata"]["a"], &echo["tools"][0]["name"]), (&json!("b"), &json!("f")));
}

#[test]
fn an_effort_that_is_not_given_is_none() {
    for reasoning in [json!(null), json!({}), json!({"effort": null, "summary": "auto"})] {
        assert_eq!(read(json!({"model": "m", "input": "x", "reasoning": reasoning})).request.reasoning, None);
    }
}

#[test]
fn names_what_is_wrong_and_what_only_openai_can_do() {
    let with = |name: &str, value: Value| {
        let mut body = json!({"model": "m", "input": "x"});
        body[name] = value;
        wrong(body)
    };
    for (name, value, param) in [
        ("conversation", json!("conv_1"), "conversation"),
        ("prompt", json!({"id": "p"}), "prompt"),
        ("background", json!(true), "background"),
        ("tools", json!([{"type": "web_search"}]), "tools[0].type"),
        ("tools", json!({}), "tools"),
        ("tool_choice", json!("sometimes"), "tool_choice"),
        ("text", json!({"format": {"type": "xml"}}), "text.format.type"),
        ("text", json!("json"), "text"),
        ("max_output_tokens", json!(0), "max_output_tokens"),
        ("temperature", json!("hot"), "temperature"),
        ("reasoning", json!({"effort": 3}), "reasoning.effort"),
        ("instructions", json!(["x"]), "instructions"),
        ("input", json!(null), "input"),
    ] {
        assert_eq!(with(name, value.clone()).param.as_deref(), Some(param), "{name}: {value}");
    }
    let lost = with("previous_response_id", json!("resp_1"));
    assert_eq!(lost.code.as_deref(), Some("previous_response_not_found"));
    assert!(lost.message.contains("resp_1"));
    assert!(parse(b"[]", None).is_err() && parse(b"{", None).is_err());
}

#[test]
fn the_prefix_of_a_conversation_stays_the_same_when_it_grows() {
    let mut items = vec![json!({"role": "user", "content": "start"})];
    let mut before: Vec<crate::dialect::chat::Message> = Vec::new();
    for step in 0..20 {
        let id = format!("call_{step}");
        items.push(json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": id}]}));
        items.push(json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"}));
        items.push(json!({"type": "function_call_output", "call_id": id, "output": "ok"}));
        let now = read(json!({"model": "m", "input": items})).request.messages;
        assert_eq!(now[..before.len()], before[..]);
        assert_eq!(now.len(), 3 + 2 * step);
        before = now;
    }
}
