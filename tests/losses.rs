//! `expected_losses.toml` against the renderers: what one of them drops is accepted there with a reason, and what stands there is
//! dropped by one.

// One `json!` holds every parameter.
#![recursion_limit = "256"]

use orbyt::dialect::chat::{ModelTraits, StructuredOutput, Thinking};
use orbyt::dialect::client::Client;
use orbyt::dialect::openai_chat::request::parse;
use orbyt::dialect::table::Dialect;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Fields that no document of OpenAI names: losing them is accepted as `*`.
const UNDOCUMENTED: [&str; 2] = ["made_up_parameter", "image_config"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    loss: Vec<Loss>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Loss {
    dialect: String,
    parameter: String,
    /// The client's format, where the parameter is not OpenAI's.
    client: Option<String>,
    #[serde(default)]
    kind: Kind,
    /// Where in a request: for `tests/corpus`, which looks at recorded ones.
    at: Option<String>,
    reason: String,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[default]
    Noted,
    ByRule,
    Answer,
}

fn accepted() -> Vec<Loss> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/expected_losses.toml");
    let file: File = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file.loss
}

/// The dialects that a request is translated into: OpenAI's for clients of other formats.
fn translating() -> impl Iterator<Item = Dialect> {
    Dialect::ALL.into_iter()
}

/// A request with every parameter of OpenAI's reference of chat completions (2026-11), the deprecated ones included, and each with a
/// value that asks for something.
fn everything() -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
                        "additionalProperties": false});
    json!({
        "model": "a-model",
        "messages": [
            {"role": "developer", "content": "Be brief.", "name": "house"},
            {"role": "user", "name": "anna", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aVZC", "detail": "high"}},
            ]},
        ],
        "audio": {"voice": "alloy", "format": "wav"},
        "frequency_penalty": 0.5,
        "function_call": "auto",
        "functions": [{"name": "time", "parameters": schema}],
        "logit_bias": {"50256": -100},
        "logprobs": true,
        "max_completion_tokens": 500,
        "max_tokens": 500,
        "metadata": {"team": "a"},
        "modalities": ["text", "audio"],
        "moderation": {"model": "a-moderator"},
        "n": 2,
        "parallel_tool_calls": false,
        "prediction": {"type": "content", "content": "It is"},
        "presence_penalty": 0.5,
        "prompt_cache_key": "k",
        "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
        "prompt_cache_retention": "24h",
        "reasoning_effort": "high",
        "response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": true}},
        "safety_identifier": "user-1",
        "seed": 7,
        "service_tier": "flex",
        "stop": ["END", "\n"],
        "store": true,
        "stream": true,
        "stream_options": {"include_usage": true},
        "temperature": 1.5,
        "tool_choice": "auto",
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": schema, "strict": true}}],
        "top_logprobs": 3,
        "top_p": 0.5,
        "user": "user-1",
        "verbosity": "low",
        "web_search_options": {
            "search_context_size": "low",
            "user_location": {"type": "approximate", "approximate": {"city": "Bern"}},
        },
    })
}

/// The same request with some members put in the place of its own; null takes one out.
fn but(members: Value) -> Value {
    let mut request = everything();
    for (name, value) in members.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

/// Requests that together ask for everything that can be lost: some losses hide others, and some names are not OpenAI's.
fn requests() -> Vec<Value> {
    vec![
        everything(),
        but(json!({"response_format": {"type": "json_object"}})),
        but(json!({"tools": null, "functions": null, "tool_choice": null, "function_call": null})),
        but(json!({"reasoning_effort": null, "reasoning": {"max_tokens": 3000}})),
        but(json!({"top_k": 5, "cache_control": null, "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}}]},
        ]})),
        but(json!({"tool_choice": "required", "frequency_penalty": -0.5, "presence_penalty": 1.5,
                   "stop": ["a", "b", "c", "d", "e", "f"]})),
        but(json!({"tool_choice": "none", "messages": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "sunny"},
        ]})),
        but(json!({"made_up_parameter": 1, "image_config": {"aspect_ratio": "1:1", "made_up_option": 1}})),
    ]
}

/// Every kind of model that a renderer tells apart.
fn models() -> Vec<ModelTraits> {
    let budget = |can_disable| Thinking::Budget { min: 1024, max: 32_000, can_disable };
    let mut models = Vec::new();
    for thinking in [Thinking::None, budget(true), budget(false), Thinking::Level] {
        for structured_output in [StructuredOutput::Native, StructuredOutput::ForcedTool] {
            for sampling in [true, false] {
                // Where other makers' models are hosted, some words are the makers' own.
                for maker in [None, Some("anthropic"), Some("amazon"), Some("openai")] {
                    let (model, maker) = ("a-model".to_owned(), maker.map(Into::into));
                    let (reasons, rest) = (thinking != Thinking::None, ModelTraits::default());
                    models.push(ModelTraits { model, maker, thinking, structured_output, sampling, reasons, ..rest });
                }
            }
        }
    }
    models
}

/// Every parameter that rendering for a dialect drops, with a request that lost it.
fn dropped(dialect: Dialect) -> BTreeMap<String, Value> {
    let mut dropped = BTreeMap::new();
    for body in requests() {
        let request = parse(body.to_string().as_bytes()).unwrap();
        for model in models() {
            for name in dialect.render(&request, &model).unwrap().dropped {
                dropped.entry(name).or_insert_with(|| body.clone());
            }
        }
    }
    dropped
}

/// The name under which the loss of a parameter is accepted.
fn entry_of(parameter: &str) -> String {
    match parameter.split_once('.') {
        None if UNDOCUMENTED.contains(&parameter) => "*".to_owned(),
        Some((parent, _)) if UNDOCUMENTED.contains(&parent) => format!("{parent}.*"),
        _ => parameter.to_owned(),
    }
}

#[test]
fn every_parameter_that_is_dropped_is_accepted_and_the_other_way_round() {
    let accepted = accepted();
    for dialect in translating() {
        let dropped: BTreeSet<String> = dropped(dialect).keys().map(|name| entry_of(name)).collect();
        let noted = accepted.iter().filter(|loss| loss.dialect == dialect.name() && loss.kind == Kind::Noted);
        let noted: BTreeSet<String> = noted.map(|loss| loss.parameter.clone()).collect();
        let (missing, stale): (Vec<_>, Vec<_>) =
            (dropped.difference(&noted).collect(), noted.difference(&dropped).collect());
        assert!(missing.is_empty(), "{}: dropped, but not in expected_losses.toml: {missing:?}", dialect.name());
        assert!(stale.is_empty(), "{}: in expected_losses.toml, but never dropped: {stale:?}", dialect.name());
    }
}

/// A request with what Google's reference of `generateContent` (2026-11) has beyond what other formats know.
fn everything_of_google() -> Value {
    json!({
        "model": "a-model",
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "labels": {"team": "a"},
        "serviceTier": "FLEX",
        "toolConfig": {
            "functionCallingConfig": {"mode": "VALIDATED", "streamFunctionCallArguments": true},
            "retrievalConfig": {"languageCode": "de"},
        },
        "tools": [{"functionDeclarations": [{
            "name": "f", "behavior": "NON_BLOCKING", "response": {"type": "STRING"}, "responseJsonSchema": {"type": "string"},
        }]}],
        "generationConfig": {
            "mediaResolution": "MEDIA_RESOLUTION_LOW", "audioTimestamp": true, "imageConfig": {"aspectRatio": "1:1"},
            "enableEnhancedCivicAnswers": true, "routingConfig": {"autoMode": {}},
        },
        "contents": [
            {"role": "user", "parts": [
                {"text": "x", "videoMetadata": {"fps": 1}},
                {"inlineData": {"mimeType": "image/png", "data": "aVZC"}, "videoMetadata": {"fps": 1}, "mediaResolution": {"level": "LOW"}},
            ]},
            {"role": "model", "parts": [
                {"executableCode": {"code": "1"}}, {"codeExecutionResult": {"output": "1"}}, {"toolCall": {"id": "t"}},
                {"toolResponse": {"id": "t"}}, {"text": "1"},
            ]},
            {"role": "user", "parts": [{"text": "y"}]},
        ],
    })
}

#[test]
fn what_only_googles_clients_say_is_accepted_by_name_in_every_format() {
    let accepted: Vec<Loss> = accepted().into_iter().filter(|loss| loss.client.as_deref() == Some("gemini")).collect();
    let accepted: BTreeSet<String> = accepted.into_iter().map(|loss| loss.parameter).collect();
    let request = Client::Gemini.parse(everything_of_google().to_string().as_bytes()).unwrap();
    let lost: BTreeSet<String> = request.rest.keys().cloned().collect();
    assert_eq!(lost, accepted, "what is read and has no word in the hub, and what stands in expected_losses.toml");
    for dialect in translating().filter(|dialect| *dialect != Dialect::Gemini) {
        let rendered = dialect.render(&request, &ModelTraits::default()).unwrap();
        let dropped: BTreeSet<String> = rendered.dropped.into_iter().collect();
        assert!(accepted.is_subset(&dropped), "{}: {:?}", dialect.name(), accepted.difference(&dropped));
    }
}

#[test]
fn items_of_openais_own_tools_are_accepted_losses_in_every_format() {
    let accepted: BTreeSet<String> = accepted()
        .into_iter()
        .filter(|loss| loss.client.as_deref() == Some("openai_responses"))
        .map(|loss| loss.parameter)
        .collect();
    assert!(accepted.len() > 10);
    let items = accepted.iter().map(|name| json!({"type": name.strip_prefix("input.").unwrap(), "id": "x"}));
    let input: Vec<Value> = std::iter::once(json!({"role": "user", "content": "x"})).chain(items).collect();
    let body = json!({"model": "a-model", "input": input});
    let request = Client::OpenAiResponses.parse(body.to_string().as_bytes()).unwrap();
    for dialect in translating() {
        let rendered = dialect.render(&request, &ModelTraits::default()).unwrap();
        assert_eq!(rendered.dropped.into_iter().collect::<BTreeSet<_>>(), accepted, "{}", dialect.name());
        let strict = ModelTraits { require_parameters: true, ..ModelTraits::default() };
        let refused = dialect.render(&request, &strict).unwrap_err().param.unwrap();
        assert!(accepted.contains(&refused), "{}: {refused}", dialect.name());
    }
}

#[test]
fn each_loss_stands_there_once_with_a_reason_for_a_dialect_that_there_is() {
    let mut seen = BTreeSet::new();
    for Loss { dialect, parameter, client, reason, kind, at } in accepted() {
        let of_client = client.is_some_and(|client| Client::ALL.iter().any(|known| known.name() == client));
        let any = (dialect == "*" && of_client) || (dialect == "any" && at.is_some());
        assert!(
            any || translating().any(|known| known.name() == dialect),
            "there is no translating dialect {dialect:?}"
        );
        assert!(at.is_none() || kind == Kind::ByRule, "{dialect} {parameter}: a place in a request goes with a rule");
        assert!(
            reason.len() > 10 && reason.ends_with('.'),
            "{dialect} {parameter}: a reason is a sentence: {reason:?}"
        );
        assert!(seen.insert((dialect.clone(), parameter.clone())), "{dialect} {parameter}: twice");
    }
}

#[test]
fn where_nothing_may_be_lost_the_first_loss_is_refused_by_name() {
    for dialect in translating() {
        for body in requests() {
            let request = parse(body.to_string().as_bytes()).unwrap();
            for model in models() {
                let dropped = dialect.render(&request, &model).unwrap().dropped;
                let strict = ModelTraits { require_parameters: true, ..model };
                let refused = dialect.render(&request, &strict).err().and_then(|fault| fault.param);
                assert_eq!(refused.as_ref(), dropped.first(), "{} {strict:?} {body}", dialect.name());
            }
        }
    }
}
