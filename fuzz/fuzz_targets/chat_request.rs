//! A chat request for providers of other dialects: parsed, and rendered for each of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orbyt::dialect::openai_chat::request::parse;
use orbyt::dialect::table::Dialect;
use orbyt::provider::Catalog;
use std::sync::LazyLock;

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::builtin().expect("the catalog is tested"));

fuzz_target!(|data: &[u8]| {
    let Ok(request) = parse(data) else { return };
    for (dialect, provider) in [
        (Dialect::AnthropicMessages, "anthropic"),
        (Dialect::Gemini, "google"),
        (Dialect::Cohere, "cohere"),
        (Dialect::Ollama, "ollama"),
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
