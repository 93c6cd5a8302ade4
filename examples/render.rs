//! What the gateway would send: renders requests for one model of each kind of every format, without a server and without a provider.
//!
//! Reads lines of JSON and answers each with one, so that a test from outside can hold the bodies against the providers' own types:
//!
//! ```text
//! {"client":"openai_chat","body":{…}}
//! {"openai/gpt-4o":{"dialect":"openai_chat","body":{…},"dropped":["seed"]},"cohere/…":{"refused":"…","param":"messages[0]"},…}
//! ```
//!
//! Where the client's own format is spoken nothing is rendered and nothing said. `"only"` names the targets, all by default. Media that
//! are given by address are replaced as `[media] fetch_remote` does it, by a tiny file.

use orbyt::dialect::chat::{Media, PartKind, Request};
use orbyt::dialect::client::Client;
use orbyt::dialect::openai_chat::quirks::Quirks;
use orbyt::dialect::table::Dialect;
use orbyt::provider::Catalog;
use serde_json::{Map, Value, json};
use std::io::{self, BufRead, Write};

/// A model for each way in which a renderer asks for thinking and structured answers.
const TARGETS: [(Dialect, &str, &str); 13] = [
    (Dialect::OpenAiChat, "openai", "gpt-4o"),
    (Dialect::OpenAiChat, "openai", "o4-mini"),
    (Dialect::AnthropicMessages, "anthropic", "claude-sonnet-4-5"),
    (Dialect::AnthropicMessages, "anthropic", "claude-sonnet-4-20250514"),
    (Dialect::AnthropicMessages, "anthropic", "claude-opus-4-8"),
    (Dialect::Gemini, "google", "gemini-2.5-flash"),
    (Dialect::Gemini, "google", "gemini-3-pro-preview"),
    (Dialect::Cohere, "cohere", "command-a-03-2025"),
    (Dialect::Cohere, "cohere", "command-a-plus-05-2026"),
    (Dialect::Ollama, "ollama", "qwen3"),
    (Dialect::BedrockConverse, "bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    (Dialect::BedrockConverse, "bedrock", "us.amazon.nova-lite-v1:0"),
    (Dialect::BedrockConverse, "bedrock", "openai.gpt-oss-120b-1:0"),
];

fn main() -> io::Result<()> {
    let catalog = Catalog::builtin().map_err(io::Error::other)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        serde_json::to_writer(&mut out, &answer(&catalog, &asked))?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

fn answer(catalog: &Catalog, asked: &Value) -> Value {
    let Some(client) = Client::ALL.into_iter().find(|client| asked["client"] == client.name()) else {
        return json!({ "refused": "no such client" });
    };
    let body = asked["body"].to_string();
    let request = match client.scan(body.clone().into()).and_then(|_| client.parse(body.as_bytes())) {
        Ok(request) => request,
        Err(fault) => return json!({ "refused": fault.message, "param": fault.param }),
    };
    let is_asked = |name: &str| asked["only"].as_array().is_none_or(|only| only.iter().any(|one| one == name));
    let mut answers = Map::new();
    for (dialect, provider, model) in TARGETS {
        let name = format!("{provider}/{model}");
        if is_asked(&name) && !client.is_spoken_by(dialect, Quirks::NONE) {
            answers.insert(name, render(catalog, &request, dialect, provider, model));
        }
    }
    Value::Object(answers)
}

fn render(catalog: &Catalog, request: &Request, dialect: Dialect, provider: &str, model: &str) -> Value {
    let known = catalog.model_at(provider, model).map(|row| row.as_ref().clone());
    let mut traits = known.unwrap_or_else(|| catalog.unknown_model_at(provider, model)).traits(false);
    traits.media_urls &= dialect.takes_media_urls();
    traits.quirks = catalog.provider(provider).map_or(Quirks::NONE, |row| row.quirks);
    let mut request = request.clone();
    if !traits.media_urls {
        fetch(&mut request);
    }
    match dialect.render(&request, &traits) {
        Ok(rendered) => {
            let body: Value = serde_json::from_slice(&rendered.body).unwrap_or_default();
            json!({ "dialect": dialect.name(), "body": body, "dropped": rendered.dropped })
        }
        Err(fault) => json!({ "dialect": dialect.name(), "refused": fault.message, "param": fault.param }),
    }
}

fn fetch(request: &mut Request) {
    for part in request.messages.iter_mut().flat_map(|message| &mut message.parts) {
        let (source, media_type) = match &mut part.kind {
            PartKind::Image { source, .. } => (source, "image/png"),
            PartKind::File { source, .. } => (source, "application/pdf"),
            PartKind::Audio { source } => (source, "audio/mp3"),
            PartKind::Video { source } => (source, "video/mp4"),
            PartKind::Text(_) | PartKind::Refusal(_) => continue,
        };
        if let Media::Url(_) = source {
            *source = Media::Inline { media_type: media_type.to_owned(), data: "dGlueQ==".to_owned() };
        }
    }
}
