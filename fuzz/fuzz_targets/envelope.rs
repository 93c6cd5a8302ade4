//! The envelope of a chat request: what is passed on is JSON again, names the other model and has lost the extensions.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use orbyt::dialect::client::Client;
use orbyt::dialect::gemini::client::call::{Call, Method};
use orbyt::dialect::openai_chat::passthrough::Quirks;

fuzz_target!(|data: &[u8]| {
    let Some((&first, body)) = data.split_first() else { return };
    let client = Client::ALL[usize::from(first) % Client::ALL.len()];
    let Ok(envelope) = client.scan(Bytes::copy_from_slice(body)) else { return };
    let passed = envelope.passthrough_body("another", Quirks::default());
    // Google's body names neither the model nor the framing: these are in the path.
    let passed = match client {
        Client::Gemini => {
            let method = if envelope.stream { Method::Stream } else { Method::Generate };
            let query = (!envelope.array).then_some("alt=sse");
            Call { model: "another".to_owned(), method }.complete(passed.into(), query)
        }
        _ => passed.into(),
    };
    let again = client.scan(passed).expect("a request that was taken is one when it is passed on");
    assert_eq!(again.model, "another");
    assert_eq!((again.stream, again.array), (envelope.stream, envelope.array));
    assert!(again.extensions.byok.is_none() && again.extensions.fallback_models.is_empty());
});
