//! Requests read into the hub, and what the envelope sees of them.

use super::*;
use crate::dialect::chat::{
    FORMAT_ANTHROPIC, FORMAT_GEMINI, Media, ModelTraits, PartKind, Reasoning, ReasoningKind, Request, ResponseFormat,
    Role, Thinking, ToolChoice,
};
use crate::dialect::gemini::client::thoughts::Sealed;
use crate::dialect::openai_chat::envelope::{Defaults, Envelope};
use bytes::Bytes;
use proptest::prelude::*;

fn parse(body: &Value) -> Request {
    Client::Gemini.parse(body.to_string().as_bytes()).unwrap()
}

/// The parameter that a request is refused for.
fn refused(body: &Value) -> String {
    Client::Gemini.parse(body.to_string().as_bytes()).unwrap_err().param.unwrap_or_default()
}

fn scan(body: &Value) -> Envelope {
    Client::Gemini.scan(Bytes::from(body.to_string())).unwrap()
}

fn saying(more: Value) -> Value {
    let mut body = json!({"model": "m", "contents": [{"role": "user", "parts": [{"text": "x"}]}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// What a coding agent sends in the middle of its loop.
fn loop_step() -> Value {
    json!({
        "model": "m", "stream": true,
        "systemInstruction": {"role": "user", "parts": [{"text": "You are an agent."}, {"text": "Rules."}]},
        "generationConfig": {
            "maxOutputTokens": 32000, "temperature": 1, "topP": 0.95, "topK": 64.0, "stopSequences": ["END"], "seed": 7,
            "candidateCount": 1, "presencePenalty": 0.5, "frequencyPenalty": -0.5, "responseLogprobs": true, "logprobs": 3,
            "thinkingConfig": {"includeThoughts": true, "thinkingBudget": 10000}, "responseModalities": ["TEXT"],
        },
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "tools": [{"functionDeclarations": [
            {"name": "read", "description": "Reads.", "parameters": {"type": "OBJECT", "properties": {"path": {"type": "STRING"}}}},
            {"name": "list", "parametersJsonSchema": {"type": "object", "additionalProperties": false}},
        ]}],
        "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
        "contents": [
            {"role": "user", "parts": [{"text": "Do it."}, {"inlineData": {"mimeType": "image/png", "data": "aV-_"}}]},
            {"role": "model", "parts": [
                {"text": "Hm", "thought": true}, {"text": ".", "thought": true, "thoughtSignature": "AQ=="},
                {"text": "Rea"}, {"text": "ding."},
                {"functionCall": {"name": "read", "args": {"path": "a", "deep": {"b": [1]}}}, "thoughtSignature": "Ag=="},
                {"functionCall": {"id": "own", "name": "read"}},
                {"functionCall": {"name": "list", "args": {}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "list", "response": {"output": ["a"]}}},
                {"functionResponse": {"id": "own", "name": "read", "response": {"error": "no such file"}}},
                {"functionResponse": {"name": "read", "response": {"result": "seen"}, "parts": [
                    {"inlineData": {"mimeType": "image/png", "data": "aVZC"}}]}},
                {"text": "Go on."},
            ]},
        ],
    })
}

#[test]
fn a_step_of_an_agents_loop() {
    let request = parse(&loop_step());
    let roles: Vec<Role> = request.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::Tool, Role::Tool, Role::User]);
    let [system, user, assistant, listed, failed, seen, last] = &request.messages[..] else { panic!() };
    assert_eq!(system.parts.len(), 2);
    let picture = Media::Inline { media_type: "image/png".into(), data: "aV+/".into() };
    assert_eq!(user.parts[1].kind, PartKind::Image { source: picture, detail: None });
    let thoughts: Vec<_> = assistant.reasoning.iter().map(|one| (one.kind.clone(), one.id.as_deref())).collect();
    let signed = ReasoningKind::Text { text: "Hm.".into(), signature: Some("AQ==".into()) };
    assert_eq!(thoughts, [(signed, None), (ReasoningKind::Encrypted("Ag==".into()), Some("call_1"))]);
    assert!(assistant.reasoning.iter().all(|one| one.format.as_deref() == Some(FORMAT_GEMINI)));
    assert_eq!(assistant.parts.len(), 1);
    assert_eq!(assistant.parts[0].kind, PartKind::Text("Reading.".into()));
    let calls: Vec<_> = assistant.tool_calls.iter().map(|call| (&*call.id, &*call.name, &*call.arguments)).collect();
    assert_eq!(
        calls,
        [("call_1", "read", r#"{"path":"a","deep":{"b":[1]}}"#), ("own", "read", "{}"), ("call_2", "list", "{}")]
    );
    let said = |message: &crate::dialect::chat::Message| match &message.parts[0].kind {
        PartKind::Text(text) => (message.tool_call_id.clone().unwrap(), text.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(said(listed), ("call_2".to_owned(), r#"{"output":["a"]}"#.to_owned()));
    assert_eq!(said(failed), ("own".to_owned(), r#"{"error":"no such file"}"#.to_owned()));
    assert_eq!((said(seen), seen.parts.len()), (("call_1".to_owned(), "seen".to_owned()), 2));
    assert_eq!(last.parts[0].kind, PartKind::Text("Go on.".into()));
    assert_eq!(
        request.tools[0].parameters,
        Some(json!({"type": "object", "properties": {"path": {"type": "string"}}}))
    );
    assert_eq!(request.tools[1].parameters, Some(json!({"type": "object", "additionalProperties": false})));
    assert_eq!(request.tool_choice, Some(ToolChoice::Auto));
    assert_eq!(request.reasoning, Some(Reasoning { max_tokens: Some(10000), ..Reasoning::default() }));
    assert_eq!((request.temperature, request.top_p, request.top_k), (Some(1.0), Some(0.95), Some(64)));
    assert_eq!((request.max_tokens, request.n, request.seed), (Some(32000), Some(1), Some(7)));
    assert_eq!((request.presence_penalty, request.frequency_penalty), (Some(0.5), Some(-0.5)));
    assert_eq!((request.logprobs, request.top_logprobs, request.modalities.len()), (Some(true), Some(3), 0));
    assert_eq!((request.stop, request.stream, request.include_usage), (vec!["END".to_owned()], true, true));
    assert_eq!(request.rest.keys().collect::<Vec<_>>(), ["safetySettings"]);
}

/// The same names in the other spelling, as Google's older clients and its documents have them.
#[test]
fn both_spellings_are_one() {
    fn snake(value: &Value, free: bool) -> Value {
        match value {
            Value::Object(members) => {
                let name = |name: &String| match free {
                    true => name.clone(),
                    false => name
                        .chars()
                        .flat_map(|c| if c.is_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] })
                        .collect(),
                };
                let is_free =
                    |name: &str| free || matches!(name, "args" | "response" | "parameters" | "parametersJsonSchema");
                members.iter().map(|(key, value)| (name(key), snake(value, is_free(key)))).collect()
            }
            Value::Array(items) => items.iter().map(|item| snake(item, free)).collect(),
            other => other.clone(),
        }
    }
    let (camel, snake) = (loop_step(), snake(&loop_step(), false));
    assert!(snake.to_string().contains("function_declarations"));
    assert_eq!(parse(&snake), parse(&camel));
    let (one, other) = (scan(&snake), scan(&camel));
    assert_eq!(
        (one.needs, one.max_tokens, one.exclude_reasoning),
        (other.needs, other.max_tokens, other.exclude_reasoning)
    );
    // One object stands for a list of itself.
    let short = json!({"model": "m", "system_instruction": {"parts": {"text": "s"}}, "contents": {"parts": {"text": "x"}},
                       "tools": {"function_declarations": {"name": "f"}}});
    let request = parse(&short);
    assert_eq!((request.messages.len(), &*request.tools[0].name), (2, "f"));
}

#[test]
fn the_envelope_sees_what_the_gateway_acts_on() {
    let mut body = loop_step();
    body["extra"] = json!({"retry": 1, "fallback_models": ["a/b"]});
    let envelope = scan(&body);
    assert_eq!(
        (envelope.client, &*envelope.model, envelope.stream, envelope.array),
        (Client::Gemini, "m", true, false)
    );
    assert_eq!((envelope.max_tokens, envelope.n, envelope.exclude_reasoning), (Some(32000), Some(1), false));
    assert_eq!(
        (envelope.nested_temperature(), envelope.has("reasoning"), envelope.has("top_p")),
        (Some(1.0), true, true)
    );
    assert_eq!(envelope.extensions.fallback_models, ["a/b"]);
    assert!(envelope.needs.tools && envelope.needs.images);
    assert!(!envelope.needs.files && !envelope.needs.structured_output && !envelope.needs.audio);
    assert!(envelope.estimated_input_tokens > 100, "{}", envelope.estimated_input_tokens);
    assert!(envelope.beginning().starts_with(b"{\"role\":\"user\",\"parts\":[{\"text\":\"You are"));
    let array = scan(&saying(json!({"stream": true, "alt": "json"})));
    assert_eq!((array.array, array.content_type(), array.exclude_reasoning), (true, "application/json", true));
    let needs = |parts: Value| scan(&json!({"model": "m", "contents": [{"parts": parts}]})).needs;
    assert!(needs(json!([{"fileData": {"mimeType": "application/pdf", "fileUri": "https://x"}}])).files);
    assert!(needs(json!([{"file_data": {"file_uri": "https://x"}}])).files);
    assert!(needs(json!([{"inlineData": {"mimeType": "audio/wav", "data": ""}}])).audio);
    assert!(!needs(json!([{"text": "\"mimeType\": \"image/png\""}])).images);
    let schema = saying(json!({"generationConfig": {"responseSchema": {"type": "STRING"}}}));
    assert!(scan(&schema).needs.json_schema);
    for (wrong, param) in [
        (json!({"contents": [{}]}), "model"),
        (json!({"model": "m"}), "contents"),
        (json!({"model": "m", "contents": []}), "contents"),
        (json!({"model": "m", "contents": "x"}), "contents"),
        (saying(json!({"generationConfig": 1})), "generationConfig"),
        (saying(json!({"generationConfig": {"maxOutputTokens": -1}})), "generationConfig.maxOutputTokens"),
        (saying(json!({"extra": {"retries": 1}})), "extra.retries"),
    ] {
        let fault = Client::Gemini.scan(Bytes::from(wrong.to_string())).unwrap_err();
        assert_eq!(fault.param.as_deref(), Some(param), "{wrong}");
    }
}

#[test]
fn the_form_of_an_answer() {
    let format = |config: Value| parse(&saying(json!({ "generationConfig": config }))).response_format;
    let by = |schema: Value| {
        let (name, description) = ("response".to_owned(), None);
        Some(ResponseFormat::JsonSchema { name, description, schema: Some(schema), strict: None })
    };
    assert_eq!(format(json!({"responseMimeType": "text/plain"})), None);
    assert_eq!(format(json!({"responseMimeType": "application/json"})), Some(ResponseFormat::JsonObject));
    let schema = json!({"responseMimeType": "application/json", "responseSchema": {"type": "ARRAY", "items": {"type": "STRING"}}});
    assert_eq!(format(schema), by(json!({"type": "array", "items": {"type": "string"}})));
    let plain = json!({"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}});
    assert_eq!(format(plain), by(json!({"type": "object"})));
    assert_eq!(format(json!({"_responseJsonSchema": {"type": "object"}})), by(json!({"type": "object"})));
}

#[test]
fn how_much_to_think() {
    let wish = |config: Value| parse(&saying(json!({"generationConfig": {"thinkingConfig": config}}))).reasoning;
    let on = Reasoning { enabled: Some(true), exclude: true, ..Reasoning::default() };
    assert_eq!(wish(json!({"thinkingBudget": -1})), Some(on.clone()));
    assert_eq!(wish(json!({"thinkingBudget": -1, "includeThoughts": true})), Some(Reasoning { exclude: false, ..on }));
    let off = Reasoning { effort: Some("none".into()), enabled: Some(false), ..Reasoning::default() };
    assert_eq!(wish(json!({"thinkingBudget": 0})), Some(off));
    let high = Reasoning { effort: Some("high".into()), ..Reasoning::default() };
    assert_eq!(wish(json!({"thinkingLevel": "HIGH", "includeThoughts": true})), Some(high));
    assert_eq!(wish(json!({"includeThoughts": false})), None);
}

#[test]
fn which_function_must_be_called() {
    let choice = |config: Value| {
        let tools = json!([{"functionDeclarations": [{"name": "a"}, {"name": "b"}]}]);
        parse(&saying(json!({"tools": tools, "toolConfig": {"functionCallingConfig": config}}))).tool_choice
    };
    let names = || vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(choice(json!({"mode": "ANY"})), Some(ToolChoice::Required));
    assert_eq!(choice(json!({"mode": "any", "allowedFunctionNames": ["b"]})), Some(ToolChoice::Function("b".into())));
    let both = json!({"mode": "ANY", "allowed_function_names": ["a", "b"]});
    assert_eq!(choice(both), Some(ToolChoice::Allowed { names: names(), required: true }));
    assert_eq!(choice(json!({"mode": "NONE"})), Some(ToolChoice::None));
    assert_eq!(choice(json!({})), None);
    // Without functions there is nothing to choose among.
    let alone = saying(json!({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}));
    assert_eq!(parse(&alone).tool_choice, None);
}

#[test]
fn what_cannot_be_honoured_is_named() {
    let body = saying(json!({
        "labels": {"team": "a"}, "toolConfig": {"retrievalConfig": {"languageCode": "de"}},
        "generationConfig": {"mediaResolution": "MEDIA_RESOLUTION_LOW", "audioTimestamp": false},
        "tools": [{"functionDeclarations": [{"name": "f", "behavior": "NON_BLOCKING", "response": {"type": "STRING"}}]}],
        "contents": [{"parts": [{"text": "x"}]}, {"role": "model", "parts": [{"executableCode": {"code": "1"}}, {"text": "1"}]}],
    }));
    let lost: Vec<String> = parse(&body).rest.keys().cloned().collect();
    let expected = [
        "labels",
        "contents.parts.executableCode",
        "toolConfig.retrievalConfig",
        "tools.functionDeclarations.behavior",
        "tools.functionDeclarations.response",
        "generationConfig.mediaResolution",
    ];
    assert_eq!(lost, expected);
    for dialect in Dialect::ALL {
        let rendered = dialect.render(&parse(&body), &ModelTraits::default()).unwrap();
        for name in expected {
            assert!(rendered.dropped.iter().any(|dropped| dropped == name), "{}: {name}", dialect.name());
        }
        let strict = ModelTraits { require_parameters: true, ..ModelTraits::default() };
        assert!(dialect.render(&parse(&body), &strict).is_err(), "{}", dialect.name());
    }
    for (body, param) in [
        (saying(json!({"tools": [{"googleSearch": {}}]})), "tools[0].googleSearch"),
        (saying(json!({"cached_content": "cachedContents/1"})), "cachedContent"),
        (saying(json!({"generationConfig": {"responseMimeType": "text/x.enum"}})), "generationConfig.responseMimeType"),
        (saying(json!({"generationConfig": {"topK": 1.5}})), "generationConfig.topK"),
        (saying(json!({"generationConfig": {"speechConfig": {}}})), "generationConfig.speechConfig"),
        (
            saying(json!({"generationConfig": {"thinkingConfig": {"thinkingBudget": -2}}})),
            "generationConfig.thinkingConfig.thinkingBudget",
        ),
        (
            saying(json!({"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}})),
            "toolConfig.functionCallingConfig.mode",
        ),
        (saying(json!({"contents": [{"role": "system", "parts": []}]})), "contents[0].role"),
        (
            saying(json!({"contents": [{"parts": [{"functionCall": {"name": "f", "args": []}}]}]})),
            "contents[0].parts[0].functionCall.args",
        ),
        (saying(json!({"contents": [{"parts": [{"inlineData": {}}]}]})), "contents[0].parts[0].inlineData.data"),
        (
            saying(json!({"contents": [{"parts": [{"fileData": {"fileUri": "gs://b/x"}}]}]})),
            "contents[0].parts[0].fileData.fileUri",
        ),
        (saying(json!({"contents": [{"parts": []}]})), "contents"),
    ] {
        assert_eq!(refused(&body), param, "{body}");
    }
}

#[test]
fn thoughts_of_others_come_back_to_them() {
    let signed = Sealed::Signature { format: FORMAT_ANTHROPIC.into(), length: 3, data: "EqQB".into() }.seal();
    let hidden = Sealed::Hidden { format: FORMAT_ANTHROPIC.into(), text: "hid".into(), data: "Er".into() }.seal();
    let call = Sealed::Call.seal();
    // In pieces, each a turn of its own, as the client for Node keeps a stream.
    let body = saying(json!({"contents": [
        {"role": "user", "parts": [{"text": "x"}]},
        {"role": "model", "parts": [{"text": "H", "thought": true}]},
        {"role": "model", "parts": [{"text": "m.", "thought": true}]},
        {"role": "model", "parts": [{"text": "", "thought": true, "thoughtSignature": signed}]},
        {"role": "model", "parts": [{"thought": true, "thought_signature": hidden}]},
        {"role": "model", "parts": [{"functionCall": {"id": "c", "name": "f", "args": {}}, "thoughtSignature": call}]},
        {"role": "user", "parts": [{"functionResponse": {"id": "c", "name": "f", "response": {}}}]},
    ]}));
    let request = parse(&body);
    let seen: Vec<_> = request.messages[1].reasoning.iter().map(|one| one.kind.clone()).collect();
    let text = |text: &str, proof: &str| ReasoningKind::Text { text: text.into(), signature: Some(proof.into()) };
    assert_eq!(seen, [text("Hm.", "EqQB"), text("hid", "Er")]);
    assert!(request.messages[1].reasoning.iter().all(|one| one.format.as_deref() == Some(FORMAT_ANTHROPIC)));
    // Google gets its body without them, and learns of the call that another model made it.
    let mut expected = body.clone();
    expected.as_object_mut().unwrap().remove("model");
    let turns = expected["contents"].as_array_mut().unwrap();
    turns.drain(3..5);
    turns[3]["parts"][0]["thoughtSignature"] = crate::dialect::gemini::contents::UNSIGNED.into();
    let passed = scan(&body).passthrough_body("x", Quirks::NONE);
    assert_eq!(serde_json::from_slice::<Value>(&passed).unwrap(), expected);
}

#[test]
fn googles_body_is_the_clients_byte_by_byte() {
    let body = " {\"extra\":{\"retry\":1}, \"contents\" : [ {\"parts\":[{\"text\":\"\\u00e9\"}]} ],\n \"zeta\": 1.50,\"models\":[\"a/b\"]";
    let completed = format!("{body},\"model\":\"m\",\"stream\":true,\"alt\":\"json\"}}");
    let envelope = Client::Gemini.scan(Bytes::from(completed)).unwrap();
    let passed = String::from_utf8(envelope.passthrough_body("x", Quirks::NONE)).unwrap();
    assert_eq!(passed, " { \"contents\" : [ {\"parts\":[{\"text\":\"\\u00e9\"}]} ],\n \"zeta\": 1.50}");
}

#[test]
fn a_preset_adds_what_the_client_does_not_say() {
    let members = [("temperature", "0.1"), ("max_tokens", "5"), ("stop", "\"END\""), ("top_p", "0.5")];
    let members: Vec<_> = members.map(|(name, json)| (name.to_owned(), json.to_owned())).to_vec();
    let defaults = Defaults { model: Some("other"), system: Some("Be \"brief\"."), members: &members };
    let completed = |body: Value| {
        let envelope = scan(&body).with_defaults(&defaults).unwrap();
        (envelope.model.clone(), serde_json::from_slice::<Value>(envelope.body()).unwrap())
    };
    let all = json!({"temperature": 0.1, "maxOutputTokens": 5, "stopSequences": ["END"], "topP": 0.5});
    let system = json!({"parts": [{"text": "Be \"brief\"."}]});
    for given in [json!({}), json!({"generationConfig": {}}), json!({"generationConfig": null})] {
        let (model, body) = completed(saying(given));
        assert_eq!((&*model, &body["generationConfig"], &body["systemInstruction"]), ("other", &all, &system));
    }
    let (_, body) =
        completed(saying(json!({"generation_config": {"top_p": 1, "maxOutputTokens": 9}, "system_instruction": "s"})));
    let expected = json!({"top_p": 1, "maxOutputTokens": 9, "temperature": 0.1, "stopSequences": ["END"]});
    assert_eq!((&body["generation_config"], body.get("systemInstruction")), (&expected, None));
    let odd = [("tools".to_owned(), "[]".to_owned())];
    let refused = scan(&saying(json!({}))).with_defaults(&Defaults { members: &odd, ..Defaults::default() });
    assert_eq!(refused.unwrap_err().param.as_deref(), Some("extra.preset"));
}

proptest! {
    /// Through the hub and back to Google a conversation is what it was.
    #[test]
    fn a_conversation_survives_the_hub(
        turns in prop::collection::vec(("[a-zé ]{1,4}", prop::option::of("[a-z]{1,3}"), prop::option::of("[A-Za-z]{4}")), 1..6),
        budget in prop::option::of(1u64..4000),
    ) {
        let mut contents = Vec::new();
        for (at, (text, function, signature)) in turns.iter().enumerate() {
            contents.push(json!({"role": "user", "parts": [{"text": text}]}));
            let Some(name) = function else {
                contents.push(json!({"role": "model", "parts": [{"text": text}]}));
                continue;
            };
            let mut call = json!({"functionCall": {"id": format!("id{at}"), "name": name, "args": {"a": [at, text]}}});
            if let Some(signature) = signature {
                call["thoughtSignature"] = signature.clone().into();
            }
            contents.push(json!({"role": "model", "parts": [call]}));
            let result = json!({"id": format!("id{at}"), "name": name, "response": {"result": text, "more": at}});
            contents.push(json!({"role": "user", "parts": [{"functionResponse": result}]}));
            contents.push(json!({"role": "model", "parts": [{"text": "so"}]}));
        }
        let mut body = json!({"model": "m", "contents": contents});
        if let Some(budget) = budget {
            body["generationConfig"] = json!({"thinkingConfig": {"thinkingBudget": budget, "includeThoughts": true}});
        }
        let thinking = Thinking::Budget { min: 0, max: 100_000, can_disable: true };
        let rendered = Dialect::Gemini.render(&parse(&body), &ModelTraits { thinking, ..ModelTraits::default() }).unwrap();
        let got: Value = serde_json::from_slice(&rendered.body).unwrap();
        prop_assert_eq!(&got["contents"], &body["contents"]);
        prop_assert_eq!(got.get("generationConfig"), body.get("generationConfig"));
        prop_assert!(rendered.dropped.is_empty());
    }

    /// Whatever a client sends is read or refused, and what is read is passed on as JSON.
    #[test]
    fn odd_requests_do_no_harm(parts in "[\\[\\]{}:,\"a-z0-9_T ]{0,60}", place in 0usize..6) {
        let text = match place {
            0 => format!("{{\"model\":\"m\",\"contents\":[{parts}]}}"),
            1 => format!("{{\"model\":\"m\",\"contents\":[{{\"parts\":[{parts}]}}]}}"),
            2 => format!("{{\"model\":\"m\",\"contents\":[{{}}],\"generationConfig\":{{{parts}}}}}"),
            3 => format!("{{\"model\":\"m\",\"contents\":[{{}}],\"tools\":[{parts}]}}"),
            4 => format!("{{\"model\":\"m\",\"contents\":[{{\"parts\":[{{\"thoughtSignature\":\"b3JieXQ6djE6{parts}\"}}]}}]}}"),
            _ => parts,
        };
        let _ = Client::Gemini.parse(text.as_bytes());
        if let Ok(envelope) = Client::Gemini.scan(Bytes::from(text)) {
            let passed = envelope.passthrough_body("x", Quirks::NONE);
            prop_assert!(serde_json::from_slice::<Value>(&passed).is_ok());
        }
    }
}
