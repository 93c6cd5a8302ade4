//! Embeddings: what is passed on is a request again, what is rendered is JSON, and no answer depends on how it was split.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use orbyt::dialect::embeddings::answer::{Expected, Vectors};
use orbyt::dialect::embeddings::openai::{self, Packed};
use orbyt::dialect::embeddings::{Encoding, Form, passed};
use orbyt::dialect::event::{End, Observed};
use orbyt::dialect::openai_chat::quirks::Quirks;

const FORMS: [Form; 9] = [
    Form::OpenAi,
    Form::Cohere,
    Form::CohereOnBedrock,
    Form::Ollama,
    Form::Gemini,
    Form::GeminiContent,
    Form::VertexPredict,
    Form::Titan,
    Form::Nova,
];

fuzz_target!(|data: &[u8]| {
    let Some((&first, body)) = data.split_first() else { return };
    let form = FORMS[usize::from(first) % FORMS.len()];
    request(form, body);
    let encoding = if first < 128 { Encoding::Float } else { Encoding::Base64 };
    assert_eq!(answer(form, encoding, body, body.len().max(1)), answer(form, encoding, body, 1));
});

fn request(form: Form, body: &[u8]) {
    if let Ok(envelope) = passed::scan(Bytes::copy_from_slice(body)) {
        let sent = passed::body(&envelope, "another", Quirks::OUTPUT_DIMENSION);
        let again = passed::scan(Bytes::from(sent)).expect("a request that was taken is one when it is passed on");
        assert_eq!(again.model, "another");
        let sheets = passed::sheets(&envelope, "another", Quirks::NONE, Some(2));
        assert_eq!(sheets.inputs.iter().flatten().sum::<usize>(), passed::inputs(&envelope).unwrap_or_default());
        for sheet in sheets.bodies {
            passed::scan(Bytes::from(sheet)).expect("a part of a request is one");
        }
    }
    let Ok(request) = openai::parse(body) else { return };
    let Ok(sheets) = form.render(&request, "m", Some(2), false) else { return };
    assert_eq!(sheets.inputs.iter().flatten().sum::<usize>(), request.inputs.len());
    for sheet in sheets.bodies {
        assert!(serde_json::from_slice::<serde_json::Value>(&sheet).is_ok());
    }
}

/// What the client gets of an answer in pieces of this size; `None` when it is none.
fn answer(form: Form, encoding: Encoding, body: &[u8], size: usize) -> Option<Vec<u8>> {
    let expected =
        Expected { client: Form::OpenAi, form, inputs: vec![None], encoding: Some(encoding), packed: Packed::Floats, model: "m".into() };
    let (mut vectors, mut observed, mut out) = (Vectors::new(expected), Observed::default(), Vec::new());
    body.chunks(size).for_each(|piece| vectors.push(piece, &mut out));
    vectors.finish(End::Clean, &mut observed, &mut out).ok()?;
    assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
    Some(out)
}
