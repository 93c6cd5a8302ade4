//! A stream put together again equals the answer that is not streamed: a property over generated conversations, for every client's format ×
//! every provider's, with the stream cut at random.
//!
//! The simulated providers answer the same question both ways; what the translators make of it is put together here, by the formats'
//! documents alone.

mod answers;

use answers::{put_together, read};
use orbyt::dialect::chat::Request;
use orbyt::dialect::client::Client;
use orbyt::dialect::event::End;
use orbyt::dialect::openai_chat::quirks::Quirks;
use orbyt::dialect::table::{Dialect, Setup, Translator};
use orbyt::dialect::{openai_chat, openai_responses};
use orbyt::provider::Catalog;
use orbyt::sim::{Sim, SimDialect, client};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use serde_json::{Value, json};
use std::sync::Arc;

/// A provider of each format, by a model that thinks where there is one.
const PROVIDERS: [(Dialect, SimDialect, &str); 6] = [
    (Dialect::OpenAiChat, SimDialect::OpenAi, "o4-mini"),
    (Dialect::AnthropicMessages, SimDialect::Anthropic, "claude-sonnet-4-5"),
    (Dialect::Gemini, SimDialect::Gemini, "gemini-2.5-flash"),
    (Dialect::Cohere, SimDialect::Cohere, "command-a-plus-05-2026"),
    (Dialect::Ollama, SimDialect::Ollama, "qwen3"),
    (Dialect::BedrockConverse, SimDialect::Bedrock, "us.anthropic.claude-sonnet-4-20250514-v1:0"),
];
/// Text completions have no conversations.
const CLIENTS: [Client; 4] = [Client::OpenAiChat, Client::AnthropicMessages, Client::OpenAiResponses, Client::Gemini];
const TOOLS: [&str; 3] = ["look", "read_file", "run"];

/// A conversation as a client of chat completions would write it, and the size of the pieces in which the answer comes.
fn conversation() -> impl Strategy<Value = (Value, usize)> {
    let text = "[a-c\u{e9}\"\\\\\n{}\u{1f600}]{1,6}( [a-z]{1,5}){0,6}";
    let turns = prop::collection::vec((text, prop::option::of(text)), 0..3);
    let asked = (text, prop::sample::subsequence(TOOLS.to_vec(), 0..=3), any::<bool>(), any::<bool>());
    let options = (any::<bool>(), any::<bool>(), prop::option::of(1u64..6), 1usize..60);
    (turns, asked, options).prop_map(|(turns, (last, called, twice, answered), (thinks, form, limit, size))| {
        let mut messages = vec![json!({"role": "system", "content": "Repeat."})];
        for (question, answer) in turns {
            messages.push(json!({"role": "user", "content": question}));
            messages.push(json!({"role": "assistant", "content": answer.unwrap_or_else(|| "yes".to_owned())}));
        }
        let words = format!("{last} {}{}", called.join(" "), if twice { " twice" } else { "" });
        messages.push(json!({"role": "user", "content": words}));
        let mut body = json!({"model": "m", "max_tokens": 8000});
        let schema = json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"],
                            "additionalProperties": false});
        if !called.is_empty() {
            let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": schema}});
            body["tools"] = TOOLS.map(tool).into_iter().collect();
            // A thinking model would want its thoughts of the calls.
            if answered && !thinks {
                let call = |name: &&str| json!({"id": format!("call_{name}"), "type": "function", "function": {"name": name, "arguments": "{\"path\":\"p\"}"}});
                messages.push(json!({"role": "assistant", "tool_calls": called.iter().map(call).collect::<Vec<_>>()}));
                messages.extend(called.iter().map(|name| json!({"role": "tool", "tool_call_id": format!("call_{name}"), "content": last})));
            }
        } else if form {
            body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        } else if let Some(limit) = limit.filter(|_| !thinks) {
            body["max_tokens"] = limit.into();
        }
        if thinks {
            body["reasoning_effort"] = "high".into();
        }
        body["messages"] = messages.into();
        (body, size)
    })
}

/// The provider's answer, as it was sent.
async fn answer(sim: &Sim, dialect: Dialect, model: &str, body: &[u8], stream: bool) -> Vec<u8> {
    let url = format!("{}{}", sim.base_url(), dialect.path(model, stream));
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer k"),
        ("x-api-key", "k"),
        ("anthropic-version", "2023-06-01"),
        ("x-goog-api-key", "k"),
    ];
    let answer = client::send("POST", &url, &headers, body).await.unwrap();
    assert_eq!(answer.status, 200, "{dialect:?}: {}\n{}", answer.body_text(), String::from_utf8_lossy(body));
    answer.body
}

fn translated(setup: Setup, body: &[u8], size: usize) -> Vec<u8> {
    let (mut translator, mut out) = (Translator::new(setup), Vec::new());
    for piece in body.chunks(size) {
        translator.push(piece, &mut out).unwrap();
    }
    translator.finish(End::Clean, &mut out).unwrap();
    out
}

#[test]
fn a_stream_put_together_again_equals_the_whole_answer_for_every_pair() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let catalog = Catalog::builtin().unwrap();
    // One for whole answers and one for streams: they number what they give ids to, each by itself.
    let sims = PROVIDERS.map(|(_, dialect, _)| [false, true].map(|stream| (stream, Sim::start(dialect).unwrap())));
    let asked = openai_responses::request::parse(br#"{"model":"m","input":"x"}"#, None).unwrap().asked;
    let asked = Arc::new(asked);
    let config = Config { cases: 96, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..Config::default() };
    proptest!(config, |((body, size) in conversation())| {
        let request = openai_chat::request::parse(body.to_string().as_bytes()).unwrap();
        for ((provider, dialect, model), both) in PROVIDERS.iter().zip(&sims) {
            let id = dialect.provider_id();
            let known = catalog.model_at(id, model).map(|row| row.as_ref().clone());
            let traits = known.unwrap_or_else(|| catalog.unknown_model_at(id, model)).traits(false);
            let [whole, streamed] = both.each_ref().map(|(stream, sim)| {
                let stream = *stream;
                let request = Request { stream, include_usage: stream, ..request.clone() };
                let rendered = provider.render(&request, &traits).unwrap();
                (runtime.block_on(answer(sim, *provider, &traits.model, &rendered.body, stream)), rendered.answer_tool)
            });
            for client in CLIENTS {
                let setup = |stream, answer_tool: &Option<String>| Setup {
                    array: false,
                    client, provider: *provider, stream, choices: 1, include_usage: stream, exclude_reasoning: false, input_tokens: 9,
                    id: "answer-1".into(), created: 7, model: "m".into(), answer_tool: answer_tool.clone(),
                    quirks: Quirks::NONE, asked: Some(Arc::clone(&asked)),
                };
                let one = read(&translated(setup(false, &whole.1), &whole.0, usize::MAX));
                let other = read(&translated(setup(true, &streamed.1), &streamed.0, size));
                prop_assert!(one.len() == 1 && other.len() > 1, "{client:?} × {provider:?}: not one whole and one stream");
                let (one, other) = (put_together(client, &one), put_together(client, &other));
                prop_assert_eq!(other, one, "{:?} × {:?}: {}", client, provider, body);
            }
        }
    });
}
