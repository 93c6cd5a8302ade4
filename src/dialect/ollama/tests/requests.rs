//! Requests: golden bodies, what is left out, and what is refused.

use crate::dialect::chat::{ModelTraits, Thinking};
use crate::dialect::ollama::request::render;
use crate::dialect::openai_chat::request::parse;
use serde_json::{Value, json};

fn target(thinking: Thinking) -> ModelTraits {
    ModelTraits { model: "m:latest".into(), max_output: Some(4000), thinking, ..ModelTraits::default() }
}

/// The body and what was dropped.
fn body_for(request: Value, target: &ModelTraits) -> (Value, Vec<String>) {
    let rendered = render(&parse(request.to_string().as_bytes()).unwrap(), target).unwrap();
    (serde_json::from_slice(&rendered.body).unwrap(), rendered.dropped)
}

fn body(request: Value) -> (Value, Vec<String>) {
    body_for(request, &target(Thinking::Level))
}

fn refused(request: Value) -> String {
    render(&parse(request.to_string().as_bytes()).unwrap(), &target(Thinking::Level)).unwrap_err().param.unwrap()
}

/// A request with these members and one question.
fn asking(members: Value) -> Value {
    let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    for (name, value) in members.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}})
}

#[test]
fn parameters_are_options() {
    let (sent, dropped) = body(asking(json!({
        "stream": true, "stream_options": {"include_usage": true}, "max_completion_tokens": 9000, "temperature": 0.5,
        "top_p": 0.5, "top_k": 5, "seed": -1, "frequency_penalty": 0.25, "presence_penalty": -1, "stop": "END",
        "logprobs": true, "top_logprobs": 2, "keep_alive": "10m", "min_p": 0.1, "repetition_penalty": 1.5,
        "options": {"num_ctx": 8192, "temperature": 0.9},
    })));
    let options = json!({"num_predict": 4000, "temperature": 0.5, "top_p": 0.5, "top_k": 5, "seed": -1,
        "frequency_penalty": 0.25, "presence_penalty": -1.0, "stop": ["END"], "min_p": 0.1, "repeat_penalty": 1.5,
        "num_ctx": 8192});
    let expected = json!({"model": "m:latest", "stream": true, "keep_alive": "10m", "logprobs": true, "top_logprobs": 2,
        "options": options, "messages": [{"role": "user", "content": "Hi"}]});
    assert_eq!((sent, dropped), (expected, vec![]));
    let plain = json!({"model": "m:latest", "stream": false, "messages": [{"role": "user", "content": "Hi"}]});
    assert_eq!(body(asking(json!({}))).0, plain, "it would stream if it were not told");
}

#[test]
fn a_conversation_with_pictures_calls_and_results() {
    let (sent, dropped) = body(json!({"model": "m", "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look: "},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aVZC"}}, {"type": "text", "text": "there."},
            {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,SGVsbG8="}}]},
        {"role": "assistant", "content": null, "reasoning_content": "Hm.", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"b\": 1, \"a\": 2.0}"}},
            {"id": "c2", "type": "function", "function": {"name": "now", "arguments": ""}},
            {"id": "c3", "type": "function", "function": {"name": "odd", "arguments": "not json"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "unknown", "name": "later", "content": "noon"},
        {"role": "assistant", "content": "Sunny.", "reasoning_details": [
            {"type": "reasoning.text", "text": "Foreign", "signature": "s", "format": "anthropic-claude-v1"}]},
    ]}));
    let call =
        |id: &str, name: &str, arguments: Value| json!({"id": id, "function": {"name": name, "arguments": arguments}});
    let expected = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look: there.a.txt:\n\nHello\n", "images": ["aVZC"]},
        {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [
            call("c1", "weather", json!({"b": 1, "a": 2.0})), call("c2", "now", json!({})),
            call("c3", "odd", json!({"arguments": "not json"}))]},
        {"role": "tool", "content": "sunny", "tool_name": "weather", "tool_call_id": "c1"},
        {"role": "tool", "content": "noon", "tool_name": "later", "tool_call_id": "unknown"},
        {"role": "assistant", "content": "Sunny."},
    ]);
    assert_eq!((&sent["messages"], dropped), (&expected, vec![]));
}

#[test]
fn thinking_is_a_word_or_a_switch() {
    let budget = Thinking::Budget { min: 1, max: 100, can_disable: true };
    for (thinking, asked, think, dropped) in [
        (Thinking::Level, json!({"reasoning_effort": "minimal"}), json!("low"), ""),
        (Thinking::Level, json!({"reasoning_effort": "xhigh"}), json!("high"), ""),
        (Thinking::Level, json!({"reasoning_effort": "none"}), json!(false), ""),
        (Thinking::Level, json!({"reasoning": {"enabled": true}}), json!(true), ""),
        (Thinking::Level, json!({"reasoning_effort": "huge"}), Value::Null, "reasoning_effort"),
        (budget, json!({"reasoning_effort": "medium"}), json!(true), ""),
        (budget, json!({"reasoning": {"max_tokens": 50}}), json!(true), "reasoning.max_tokens"),
        (budget, json!({"reasoning_effort": "none"}), json!(false), ""),
        (Thinking::None, json!({"reasoning_effort": "medium"}), Value::Null, "reasoning_effort"),
        (Thinking::None, json!({"reasoning_effort": "none"}), Value::Null, ""),
        (Thinking::Level, json!({}), Value::Null, ""),
    ] {
        let (sent, lost) = body_for(asking(asked.clone()), &target(thinking));
        assert_eq!((&sent["think"], lost.join(",").as_str()), (&think, dropped), "{thinking:?} {asked}");
    }
}

#[test]
fn tool_choices_by_what_is_offered() {
    for (choice, names, dropped) in [
        (json!("auto"), json!(["a", "b"]), vec![]),
        (json!("none"), json!([]), vec![]),
        (json!("required"), json!(["a", "b"]), vec!["tool_choice"]),
        (json!({"type": "function", "function": {"name": "b"}}), json!(["b"]), vec!["tool_choice"]),
    ] {
        let (sent, lost) = body(asking(json!({"tools": [tool("a"), tool("b")], "tool_choice": choice})));
        let offered: Vec<_> =
            sent["tools"].as_array().into_iter().flatten().map(|tool| tool["function"]["name"].clone()).collect();
        assert_eq!(
            (json!(offered), lost),
            (names, dropped.iter().map(|name| (*name).to_owned()).collect()),
            "{choice}"
        );
    }
    assert_eq!(refused(asking(json!({"tool_choice": "required"}))), "tool_choice");
}

#[test]
fn the_form_of_the_answer_alone_and_beside_tools() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    let form = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    assert_eq!(body(asking(json!({"response_format": form}))).0["format"], schema);
    assert_eq!(body(asking(json!({"response_format": {"type": "json_object"}}))).0["format"], "json");
    let (beside, dropped) = body(asking(json!({"response_format": form, "tools": [tool("a")]})));
    assert_eq!((&beside["format"], dropped), (&Value::Null, vec!["response_format".to_owned()]));
    let (forbidden, dropped) =
        body(asking(json!({"response_format": form, "tools": [tool("a")], "tool_choice": "none"})));
    assert_eq!((&forbidden["format"], dropped.len()), (&schema, 0), "a tool that must not be called is not there");
}

#[test]
fn what_cannot_be_said_is_refused_by_its_place() {
    for part in [
        json!({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}),
        json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}}),
        json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
    ] {
        let messages = json!([{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]);
        assert_eq!(refused(asking(json!({"messages": messages}))), "messages[0].content[1]", "{part}");
    }
}
