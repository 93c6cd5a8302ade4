//! Requests: golden bodies, what is left out, and what is refused.

use crate::dialect::chat::{ModelTraits, Rendered, StructuredOutput, Thinking};
use crate::dialect::cohere::request::render;
use crate::dialect::openai_chat::request::parse;
use crate::domain::Fault;
use serde_json::{Value, json};

fn target() -> ModelTraits {
    ModelTraits {
        model: "a-model".into(),
        max_output: Some(4000),
        structured_output: StructuredOutput::Native,
        thinking: Thinking::Level,
        ..ModelTraits::default()
    }
}

fn rendered(request: Value, target: &ModelTraits) -> Result<Rendered, Fault> {
    render(&parse(request.to_string().as_bytes()).unwrap(), target)
}

/// The body and what was dropped.
fn body(request: Value) -> (Value, Vec<String>) {
    let rendered = rendered(request, &target()).unwrap();
    (serde_json::from_slice(&rendered.body).unwrap(), rendered.dropped)
}

fn refused(request: Value) -> String {
    rendered(request, &target()).unwrap_err().param.unwrap()
}

/// A request with these members and one question.
fn asking(members: Value) -> Value {
    let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    for (name, value) in members.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

fn tool(name: &str, strict: bool) -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!({"type": "function", "function": {"name": name, "description": "d", "parameters": schema, "strict": strict}})
}

#[test]
fn parameters_go_under_their_own_names() {
    let (body, dropped) = body(asking(json!({
        "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 9000, "temperature": 0.5, "top_p": 1,
        "top_k": 900, "seed": -1, "frequency_penalty": 0.25, "presence_penalty": 0, "stop": ["END"], "logprobs": true,
        "reasoning_effort": "low", "documents": [{"id": "d", "data": {"text": "t"}}], "safety_mode": "STRICT",
        "citation_options": {"mode": "FAST"}, "priority": 1, "n": 1, "service_tier": "auto", "store": false,
    })));
    let expected = json!({
        "model": "a-model", "stream": true, "max_tokens": 4000, "thinking": {"type": "enabled", "token_budget": 800},
        "temperature": 0.5, "p": 0.99, "k": 500, "seed": i64::MAX, "frequency_penalty": 0.25, "stop_sequences": ["END"],
        "logprobs": true, "documents": [{"id": "d", "data": {"text": "t"}}], "safety_mode": "STRICT",
        "citation_options": {"mode": "FAST"}, "priority": 1, "messages": [{"role": "user", "content": "Hi"}],
    });
    assert_eq!((body, dropped), (expected, vec![]));
}

#[test]
fn a_conversation_with_calls_results_and_reasoning() {
    let (body, dropped) = body(json!({"model": "m", "tools": [tool("weather", false)], "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look: "},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aVZC", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]},
        {"role": "assistant", "content": null, "reasoning_details": [
            {"type": "reasoning.text", "text": "Hm.", "format": "cohere-command-v2", "index": 0},
            {"type": "reasoning.summary", "summary": "I will ", "format": "cohere-command-v2", "index": 1},
            {"type": "reasoning.summary", "summary": "look.", "format": "cohere-command-v2", "index": 1},
            {"type": "reasoning.text", "text": "Foreign", "signature": "s", "format": "anthropic-claude-v1", "index": 2}],
         "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Bern\"}"}},
                        {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": "Sunny.", "reasoning_content": "plain thoughts"},
        {"role": "user", "content": ""},
    ]}));
    let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "weather", "arguments": arguments}});
    let expected = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look: "},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aVZC", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}], "tool_plan": "I will look.",
         "tool_calls": [call("c1", "{\"city\":\"Bern\"}"), call("c2", "{}")]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "Sunny."},
        {"role": "user", "content": ""},
    ]);
    assert_eq!((&body["messages"], dropped), (&expected, vec![]));
}

#[test]
fn a_longer_conversation_begins_with_the_same_bytes() {
    let turns = |count: usize| {
        let messages: Vec<_> =
            (0..count).map(|at| json!({"role": (["user", "assistant"][at % 2]), "content": "x"})).collect();
        let request = asking(json!({"messages": messages, "tools": [tool("weather", true)], "max_tokens": 50}));
        rendered(request, &target()).unwrap().body
    };
    let (short, long) = (turns(3), turns(5));
    assert!(long.starts_with(&short[..short.len() - 2]), "{}", String::from_utf8_lossy(&long));
}

#[test]
fn tool_choices_by_what_is_offered() {
    let ask = |choice: Value| {
        let (body, dropped) =
            body(asking(json!({"tools": [tool("a", false), tool("b", false)], "tool_choice": choice})));
        assert!(dropped.is_empty());
        let names: Vec<_> = body["tools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tool| tool["function"]["name"].as_str().unwrap().to_owned())
            .collect();
        (names.join(","), body["tool_choice"].as_str().unwrap_or_default().to_owned())
    };
    let allowed = |mode: &str, name: &str| json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [{"type": "function", "function": {"name": name}}]}});
    for (choice, names, word) in [
        (json!("auto"), "a,b", ""),
        (json!("none"), "a,b", "NONE"),
        (json!("required"), "a,b", "REQUIRED"),
        (json!({"type": "function", "function": {"name": "b"}}), "b", "REQUIRED"),
        (allowed("auto", "b"), "b", ""),
        (allowed("required", "b"), "b", "REQUIRED"),
        (allowed("auto", "c"), "a,b", "NONE"),
    ] {
        assert_eq!(ask(choice.clone()), (names.to_owned(), word.to_owned()), "{choice}");
    }
    let missing = json!({"type": "function", "function": {"name": "c"}});
    assert_eq!(refused(asking(json!({"tools": [tool("a", false)], "tool_choice": missing}))), "tool_choice");
    assert_eq!(refused(asking(json!({"tool_choice": "required"}))), "tool_choice");
}

#[test]
fn strictness_is_for_all_tools_or_none() {
    let bare = json!({"type": "function", "function": {"name": "bare", "strict": true}});
    for (tools, strict, dropped) in [
        (json!([tool("a", true), tool("b", true)]), json!(true), vec![]),
        (json!([tool("a", true), tool("b", false)]), Value::Null, vec!["tools.strict".to_owned()]),
        (json!([bare]), Value::Null, vec!["tools.strict".to_owned()]),
        (json!([tool("a", false)]), Value::Null, vec![]),
    ] {
        let (body, lost) = body(asking(json!({"tools": tools})));
        assert_eq!((&body["strict_tools"], lost), (&strict, dropped), "{tools}");
    }
    let (body, _) = body(asking(json!({"tools": [bare]})));
    assert_eq!(body["tools"][0]["function"]["parameters"], json!({"type": "object", "properties": {}}));
}

#[test]
fn the_form_of_the_answer_alone_and_beside_tools() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let form =
        json!({"type": "json_schema", "json_schema": {"name": "x", "description": "The number.", "schema": schema}});
    let (alone, _) = body(asking(json!({"response_format": form})));
    let mut described = schema.clone();
    described["description"] = "The number.".into();
    assert_eq!(alone["response_format"], json!({"type": "json_object", "json_schema": described}));
    let (any, _) = body(asking(json!({"response_format": {"type": "json_object"}})));
    assert_eq!(any["response_format"], json!({"type": "json_object"}));

    let with_tools = asking(json!({"response_format": form, "tools": [tool("final_answer", false)]}));
    let beside = rendered(with_tools, &target()).unwrap();
    let sent: Value = serde_json::from_slice(&beside.body).unwrap();
    assert_eq!((&sent["response_format"], &sent["tool_choice"]), (&Value::Null, &json!("REQUIRED")));
    assert_eq!(
        sent["tools"][1]["function"],
        json!({"name": "final_answer_", "description": "The number.", "parameters": schema})
    );
    assert_eq!((beside.answer_tool.as_deref(), beside.dropped.len()), (Some("final_answer_"), 0));

    let (forbidden, _) =
        body(asking(json!({"response_format": form, "tools": [tool("a", false)], "tool_choice": "none"})));
    assert_eq!((&forbidden["tools"], &forbidden["response_format"]["type"]), (&Value::Null, &json!("json_object")));
    let (demanded, _) =
        body(asking(json!({"response_format": form, "tools": [tool("a", false)], "tool_choice": "required"})));
    assert_eq!((&demanded["response_format"], demanded["tools"].as_array().unwrap().len()), (&Value::Null, 1));
    let (_, dropped) = body(asking(json!({"response_format": {"type": "json_object"}, "tools": [tool("a", false)]})));
    assert_eq!(dropped, ["response_format"]);
    let list = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}});
    let param = refused(asking(json!({"response_format": list, "tools": [tool("a", false)]})));
    assert_eq!(param, "response_format.json_schema.schema");
}

#[test]
fn text_files_are_documents_but_for_answers_with_a_form() {
    let file =
        json!({"type": "file", "file": {"filename": "notes.txt", "file_data": "data:text/plain;base64,SGVsbG8="}});
    let messages = json!([{"role": "user", "content": [file, {"type": "text", "text": "What does it say?"}]}]);
    let (apart, _) = body(asking(json!({"messages": messages})));
    assert_eq!(apart["documents"], json!([{"id": "file-0", "data": {"title": "notes.txt", "text": "Hello"}}]));
    assert_eq!(apart["messages"][0]["content"], "What does it say?");
    let (inline, _) = body(asking(json!({"messages": messages, "response_format": {"type": "json_object"}})));
    assert_eq!(inline["documents"], Value::Null);
    let pieces =
        json!([{"type": "text", "text": "notes.txt:\n\nHello\n"}, {"type": "text", "text": "What does it say?"}]);
    assert_eq!(inline["messages"][0]["content"], pieces);
}

#[test]
fn pictures_in_the_results_of_tools_follow_in_a_users_message() {
    let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,aVZC"}});
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "look", "arguments": "{}"}});
    let result = |id: &str, content: Value| json!({"role": "tool", "tool_call_id": id, "content": content});
    let mut messages = vec![
        json!({"role": "user", "content": "Look."}),
        json!({"role": "assistant", "tool_calls": [call("a"), call("b")]}),
        result("a", json!([{"type": "text", "text": "seen"}, picture])),
        result("b", json!("nothing")),
    ];
    let (last, _) = body(asking(json!({"messages": messages})));
    assert_eq!(last["messages"][2]["content"], "seen");
    assert_eq!(last["messages"][4], json!({"role": "user", "content": [picture]}));
    messages.push(json!({"role": "user", "content": "And?"}));
    let (between, _) = body(asking(json!({"messages": messages})));
    let pieces = json!([picture, {"type": "text", "text": "And?"}]);
    assert_eq!(between["messages"][4], json!({"role": "user", "content": pieces}));
}

#[test]
fn what_cannot_be_said_is_refused_by_its_place() {
    let pdf = json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}});
    let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,aVZC"}});
    let sound = json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}});
    let said = |role: &str, part: &Value| {
        asking(json!({"messages": [{"role": role, "content": [{"type": "text", "text": "x"}, part]}]}))
    };
    assert_eq!(refused(said("user", &pdf)), "messages[0].content[1]");
    assert_eq!(refused(said("user", &sound)), "messages[0].content[1]");
    assert_eq!(refused(said("system", &picture)), "messages[0].content[1]");
    let nothing = asking(json!({"messages": [{"role": "assistant", "content": ""}]}));
    assert_eq!(refused(nothing), "messages");
    let no_addresses = ModelTraits { media_urls: false, ..target() };
    let remote = json!({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}});
    let fault = rendered(said("user", &remote), &no_addresses).unwrap_err();
    assert_eq!(fault.param.as_deref(), Some("messages[0].content[1]"));
}

#[test]
fn bounds_are_kept_and_noted() {
    let (body, dropped) = body(asking(json!({
        "frequency_penalty": -0.5, "presence_penalty": 1.5, "stop": ["a", "b", "c", "d", "e", "f"], "top_p": 0,
    })));
    assert_eq!((&body["frequency_penalty"], &body["presence_penalty"]), (&Value::Null, &json!(1.0)));
    assert_eq!((body["stop_sequences"].as_array().unwrap().len(), &body["p"]), (5, &json!(0.01)));
    assert_eq!(dropped, ["frequency_penalty", "presence_penalty", "stop"]);
}
