//! Requests: the form of the answer.

use super::{body, question, refused, render, target};
use crate::dialect::chat::{ModelTraits, Request, ResponseFormat, StructuredOutput, Thinking, Tool, ToolChoice};
use serde_json::{Value, json};

fn native() -> ModelTraits {
    ModelTraits { structured_output: StructuredOutput::Native, ..target() }
}

fn city() -> Value {
    json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": false})
}

/// The schema as it is sent: what the form describes has no other place.
fn described(mut schema: Value) -> Value {
    schema["description"] = "A city.".into();
    schema
}

fn asked(schema: Option<Value>) -> Request {
    let format = ResponseFormat::JsonSchema {
        name: "city".into(),
        description: Some("A city.".into()),
        schema,
        strict: Some(true),
    };
    Request { response_format: Some(format), ..question() }
}

fn with_tool(request: Request, choice: Option<ToolChoice>) -> Request {
    let tool = Tool {
        name: "look".into(),
        description: None,
        parameters: Some(city()),
        strict: Some(true),
        cache_control: None,
    };
    Request { tools: vec![tool], tool_choice: choice, ..request }
}

fn names(body: &Value) -> Vec<&str> {
    body["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[test]
fn a_schema_goes_into_its_field_where_there_is_one() {
    let rendered = render(&asked(Some(city())), &native());
    let body: Value = serde_json::from_slice(&rendered.body).unwrap();
    assert_eq!(body["output_config"]["format"], json!({"type": "json_schema", "schema": described(city())}));
    assert_eq!((rendered.answer_tool, &body["tools"]), (None, &Value::Null));
    assert!(rendered.dropped.is_empty());
}

#[test]
fn otherwise_it_is_the_input_of_a_tool_that_must_be_called() {
    for (request, target, schema) in [
        (asked(Some(city())), target(), city()),
        (asked(None), native(), json!({"type": "object", "additionalProperties": true})),
        // Free keys, which constrained decoding does not take.
        (asked(Some(json!({"type": "object"}))), native(), json!({"type": "object"})),
        (asked(Some(json!({"properties": {}}))), native(), json!({"type": "object", "properties": {}})),
    ] {
        let rendered = render(&request, &target);
        assert_eq!(rendered.answer_tool.as_deref(), Some("city"));
        assert!(rendered.dropped.is_empty());
        let body: Value = serde_json::from_slice(&rendered.body).unwrap();
        assert_eq!(body["tool_choice"], json!({"type": "any", "disable_parallel_tool_use": true}));
        assert_eq!(names(&body), ["city"]);
        assert_eq!(body["tools"][0]["input_schema"], schema);
        assert!(body["tools"][0]["description"].as_str().unwrap().ends_with("A city."));
    }
    let plain = Request { response_format: Some(ResponseFormat::JsonObject), ..question() };
    for target in [target(), native()] {
        assert_eq!(render(&plain, &target).answer_tool.as_deref(), Some("json_answer"));
    }
    let text = Request { response_format: Some(ResponseFormat::Text), ..question() };
    assert_eq!(render(&text, &target()).answer_tool, None);
}

#[test]
fn the_clients_tools_stay_callable() {
    let sent = |choice: Option<ToolChoice>| {
        let rendered = render(&with_tool(asked(Some(city())), choice), &ModelTraits { ..target() });
        let body: Value = serde_json::from_slice(&rendered.body).unwrap();
        (rendered.answer_tool, body["tool_choice"].clone(), body["tools"].as_array().unwrap().len())
    };
    let answer = Some("city".to_owned());
    assert_eq!(sent(None), (answer.clone(), json!({"type": "any"}), 2));
    assert_eq!(sent(Some(ToolChoice::Auto)), (answer.clone(), json!({"type": "any"}), 2));
    let only = json!({"type": "tool", "name": "city", "disable_parallel_tool_use": true});
    assert_eq!(sent(Some(ToolChoice::None)), (answer, only, 2));
    // A call that the client demands is the answer, so there is no other one to give form to.
    assert_eq!(sent(Some(ToolChoice::Required)), (None, json!({"type": "any"}), 1));
    let both = body(&with_tool(asked(Some(city())), Some(ToolChoice::Required)), &native());
    assert_eq!(both["output_config"]["format"]["schema"], described(city()));
    let named = Some(ToolChoice::Function("look".into()));
    assert_eq!(sent(named), (None, json!({"type": "tool", "name": "look"}), 1));
}

#[test]
fn the_answer_tool_has_a_name_of_its_own() {
    let named = |name: &str| {
        let format =
            ResponseFormat::JsonSchema { name: name.into(), description: None, schema: Some(city()), strict: None };
        let request = with_tool(Request { response_format: Some(format), ..question() }, None);
        render(&request, &target()).answer_tool.unwrap()
    };
    assert_eq!(named("town"), "town");
    assert_eq!(named("look"), "json_answer");
    assert_eq!(named("not a name"), "json_answer");
    assert_eq!(named(&"x".repeat(65)), "json_answer");
}

#[test]
fn thinking_gives_way_to_the_answer_tool_where_it_must() {
    let thinking = Thinking::Budget { min: 1024, max: 4096, can_disable: true };
    let reasoning = crate::dialect::chat::Reasoning { effort: Some("low".into()), ..Default::default() };
    let request = Request { reasoning: Some(reasoning), ..asked(Some(city())) };
    assert_eq!(render(&request, &ModelTraits { thinking, ..target() }).dropped, ["reasoning_effort"]);
    assert!(render(&request, &ModelTraits { thinking, ..native() }).dropped.is_empty());
    assert!(render(&request, &ModelTraits { thinking: Thinking::Level, ..target() }).dropped.is_empty());
}

#[test]
fn an_answer_that_is_no_object_is_refused_where_it_must_be_one() {
    let list = json!({"type": "array", "items": {"type": "string"}});
    assert_eq!(refused(&asked(Some(list.clone())), &target()), "response_format.json_schema.schema");
    assert_eq!(body(&asked(Some(list.clone())), &native())["output_config"]["format"]["schema"], described(list));
}

#[test]
fn a_schema_is_closed_and_its_constraints_are_told() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "title": "City",
        "properties": {
            "name": {"type": "string", "default": "Rom", "minLength": 1, "description": "Its name.", "format": "uuid"},
            "people": {"type": ["integer", "null"], "minimum": 0},
            "kind": {"enum": ["town", "village"]},
            "tags": {"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "null"}]}, "minItems": 1},
            "at": {"$ref": "#/$defs/point"},
        },
        "required": ["name", "people", "kind", "tags", "at"],
        "$defs": {"point": {"type": "object", "properties": {"x": {"type": "number"}}}},
    });
    let sent = body(&asked(Some(schema)), &native())["output_config"]["format"]["schema"].clone();
    assert_eq!(
        sent,
        json!({
            "description": "A city.",
            "type": "object",
            "title": "City",
            "properties": {
                "name": {"type": "string", "default": "Rom", "description": "Its name.\n\nminLength: 1", "format": "uuid"},
                "people": {"type": ["integer", "null"], "description": "minimum: 0"},
                "kind": {"enum": ["town", "village"]},
                "tags": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "minItems": 1},
                "at": {"$ref": "#/$defs/point"},
            },
            "required": ["name", "people", "kind", "tags", "at"],
            "additionalProperties": false,
            "$defs": {"point": {"type": "object", "properties": {"x": {"type": "number"}}, "additionalProperties": false}},
        })
    );
}

#[test]
fn a_schema_that_cannot_be_enforced_is_not_pretended_to_be() {
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let many: Value =
        (0..30).map(|at| (format!("p{at}"), json!({"type": "string"}))).collect::<serde_json::Map<_, _>>().into();
    for schema in [
        object(json!({"any": {}})),
        object(json!({"any": true})),
        object(json!({"map": {"type": "object", "additionalProperties": {"type": "string"}}})),
        object(json!({"list": {"type": "array"}})),
        object(json!({"value": {"const": {"a": 1}}})),
        object(json!({"value": {"enum": [[1]]}})),
        object(json!({"self": {"$ref": "#"}})),
        object(json!({"gone": {"$ref": "#/$defs/gone"}})),
        object(json!({"far": {"$ref": "https://example.org/schema"}})),
        object(many),
        json!({"type": "object", "properties": {"node": {"$ref": "#/$defs/node"}},
            "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}}),
    ] {
        let rendered = render(&asked(Some(schema.clone())), &native());
        assert_eq!(rendered.answer_tool.as_deref(), Some("city"), "{schema}");
        let tool = Tool {
            name: "f".into(),
            description: None,
            parameters: Some(schema.clone()),
            strict: Some(true),
            cache_control: None,
        };
        let rendered = render(&Request { tools: vec![tool], ..question() }, &native());
        assert_eq!(rendered.dropped, ["tools.strict"], "{schema}");
        let sent: Value = serde_json::from_slice(&rendered.body).unwrap();
        assert_eq!(sent["tools"][0]["input_schema"], schema);
    }
}

#[test]
fn strict_tools_are_strict_as_long_as_the_limits_last() {
    let tool = |at: usize| Tool {
        name: format!("f{at}"),
        description: None,
        parameters: Some(city()),
        strict: Some(true),
        cache_control: None,
    };
    let rendered = render(&Request { tools: (0..21).map(tool).collect(), ..question() }, &native());
    let body: Value = serde_json::from_slice(&rendered.body).unwrap();
    assert_eq!(body["tools"][19]["strict"], true);
    assert_eq!(body["tools"][20].get("strict"), None);
    assert_eq!(rendered.dropped, ["tools.strict"]);
    let bare = Tool { parameters: None, ..tool(0) };
    let rendered = render(&Request { tools: vec![bare], ..question() }, &native());
    let body: Value = serde_json::from_slice(&rendered.body).unwrap();
    assert_eq!(body["tools"][0]["strict"], true);
    assert_eq!(
        body["tools"][0]["input_schema"],
        json!({"type": "object", "properties": {}, "additionalProperties": false})
    );
    assert!(rendered.dropped.is_empty());
}
