//! A request of any client's format for providers of other dialects: parsed, and rendered for each of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orbyt::dialect::client::Client;
use orbyt::dialect::table::Dialect;
use orbyt::provider::Catalog;
use std::sync::LazyLock;

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::builtin().expect("the catalog is tested"));

fuzz_target!(|data: &[u8]| {
    let Some((&first, body)) = data.split_first() else { return };
    let client = Client::ALL[usize::from(first) % Client::ALL.len()];
    let Ok(request) = client.parse(body) else { return };
    for (dialect, provider) in [
        (Dialect::OpenAiChat, "openai"),
        (Dialect::AnthropicMessages, "anthropic"),
        (Dialect::Gemini, "google"),
        (Dialect::Cohere, "cohere"),
        (Dialect::Ollama, "ollama"),
        (Dialect::BedrockConverse, "bedrock"),
    ] {
        for strict in [false, true] {
            let traits = CATALOG.unknown_model_at(provider, "model").traits(strict);
            // A refusal is fine; a panic is not, nor a body that is not JSON.
            if let Ok(rendered) = dialect.render(&request, &traits) {
                let text = std::str::from_utf8(&rendered.body).expect("a body is text");
                assert!(text.starts_with('{') && text.ends_with('}'));
            }
        }
    }
});
