//! Whatever comes: a stream says what the unary answer says, and no bytes make the decoders panic.

use super::{Whole, decode, events, read};
use crate::dialect::event::{End, Event};
use crate::dialect::gemini::{error, response, stream};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A part of an answer, whole.
fn part() -> impl Strategy<Value = Value> {
    let text = "[ -~äß日🌍\n]{0,12}";
    let signature = proptest::option::of("[a-zA-Z0-9+/]{4}");
    let args = proptest::collection::vec(("[a-z]{1,3}", text), 0..3);
    let signed = |mut part: Value, signature: Option<String>| {
        if let Some(signature) = signature {
            part["thoughtSignature"] = signature.into();
        }
        part
    };
    prop_oneof![
        4 => text.prop_map(|text| json!({ "text": text })),
        1 => (text, signature.clone()).prop_map(move |(text, signature)| signed(json!({ "text": text }), signature)),
        2 => (text, signature.clone())
            .prop_map(move |(text, signature)| signed(json!({ "text": text, "thought": true }), signature)),
        2 => ("[a-z]{1,5}", args, signature).prop_map(move |(name, args, signature)| {
            let args: serde_json::Map<String, Value> = args.into_iter().map(|(key, text)| (key, text.into())).collect();
            signed(json!({ "functionCall": { "name": name, "args": args } }), signature)
        }),
        1 => Just(json!({ "inlineData": { "mimeType": "image/png", "data": "AAAA" } })),
        1 => Just(json!({ "executableCode": { "code": "1" } })),
    ]
}

/// The part as pieces of a stream: a text without a signature is cut behind every `every` characters.
fn pieces(part: &Value, every: usize) -> Vec<Value> {
    match part["text"].as_str() {
        Some(text) if part.get("thoughtSignature").is_none() && !text.is_empty() => {
            let characters: Vec<char> = text.chars().collect();
            let cut = |piece: &[char]| {
                let mut part = part.clone();
                part["text"] = piece.iter().collect::<String>().into();
                part
            };
            characters.chunks(every).map(cut).collect()
        }
        _ => vec![part.clone()],
    }
}

fn answer(parts: &[Value], extra: Value) -> Value {
    let mut candidate = json!({ "content": { "role": "model", "parts": parts }, "index": 0 });
    if let (Some(candidate), Value::Object(extra)) = (candidate.as_object_mut(), extra) {
        candidate.extend(extra);
    }
    json!({ "candidates": [candidate], "responseId": "r", "modelVersion": "m", "usageMetadata": { "promptTokenCount": 1 } })
}

fn mutated(mut bytes: Vec<u8>, at: usize, byte: u8, cut: usize) -> Vec<u8> {
    if !bytes.is_empty() {
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(bytes.len() - cut % bytes.len() / 4);
    }
    bytes
}

fn ignore(_: Event<'_>) {}

proptest! {
    #[test]
    fn a_stream_says_what_the_unary_answer_says(
        parts in proptest::collection::vec(part(), 0..8),
        every in 1..5_usize,
        pretty in any::<bool>(),
        size in 1..40_usize,
    ) {
        let end = json!({ "finishReason": "STOP", "groundingMetadata": { "groundingChunks": [{ "web": { "uri": "u" } }],
            "groundingSupports": [{ "segment": { "startIndex": 2, "endIndex": 5 }, "groundingChunkIndices": [0] }] } });
        let whole = answer(&parts, end.clone());
        let body = if pretty { serde_json::to_string_pretty(&whole) } else { serde_json::to_string(&whole) }.unwrap();
        let mut stream: Vec<Value> =
            parts.iter().flat_map(|part| pieces(part, every)).map(|piece| answer(&[piece], json!({}))).collect();
        stream.push(answer(&[], end));
        let stream = events(&stream);
        let (expected, outcome) = decode(body.as_bytes(), None);
        prop_assert_eq!(outcome, Ok(()));
        let (got, outcome) = read(stream.as_bytes().chunks(size), End::Clean, None);
        prop_assert_eq!(outcome, Ok(()));
        prop_assert_eq!(&got, &expected);
        let cut = &stream.as_bytes()[..stream.len() - 3];
        let (got, _): (Whole, _) = read([cut], End::Cut, None);
        prop_assert!(got.choices.iter().all(|choice| choice.finish.is_none()));
    }

    #[test]
    fn no_bytes_make_it_panic(
        parts in proptest::collection::vec(part(), 0..4),
        random in proptest::collection::vec(any::<u8>(), 0..200),
        at in any::<usize>(),
        byte in any::<u8>(),
        cut in any::<usize>(),
        size in 1..40_usize,
    ) {
        let whole = answer(&parts, json!({ "finishReason": "STOP", "logprobsResult": { "chosenCandidates": [{}] } }));
        let framed = mutated(events(&[whole.clone(), whole.clone()]).into_bytes(), at, byte, cut);
        let array = mutated(serde_json::to_vec_pretty(&[&whole, &whole]).unwrap(), at, byte, cut);
        for bytes in [framed, array, random.clone(), [b"data: ".as_slice(), &random].concat()] {
            let mut decoder = stream::Decoder::new(Some("f".to_owned()));
            let pushed = bytes.chunks(size).try_for_each(|piece| decoder.push(piece, &mut ignore));
            let _ = pushed.and_then(|()| decoder.finish(End::Clean, &mut ignore));
            let _ = response::decode(&bytes, Some("f"), &mut ignore);
            let _ = error::parse(&bytes);
        }
    }
}

#[test]
fn an_endless_object_is_refused() {
    let mut decoder = stream::Decoder::new(None);
    let chunk = vec![b'1'; 1024 * 1024];
    let pushed = decoder
        .push(b"[{\"text\": \"", &mut ignore)
        .and_then(|()| (0..64).try_for_each(|_| decoder.push(&chunk, &mut ignore)));
    assert!(pushed.is_err());
}

#[test]
fn endless_pieces_of_arguments_are_refused() {
    let piece = |parts: Value| events(&[answer(&[parts], json!({}))]);
    let mut decoder = stream::Decoder::new(None);
    let text = "x".repeat(1024 * 1024);
    let more = piece(
        json!({"functionCall": {"partialArgs": [{"jsonPath": "$.a", "stringValue": text}], "willContinue": true}}),
    );
    decoder.push(piece(json!({"functionCall": {"name": "f", "willContinue": true}})).as_bytes(), &mut ignore).unwrap();
    assert!((0..64).try_for_each(|_| decoder.push(more.as_bytes(), &mut ignore)).is_err());
}
