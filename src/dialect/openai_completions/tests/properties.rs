//! Whatever comes: a stream says what the whole answer says, however it was split, and no bytes make the readers panic.

use super::{run, setup, taken_apart, together};
use crate::dialect::openai_chat::quirks::Quirks;
use crate::dialect::table::{Dialect, Setup};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The same answer of a provider as a stream and whole, in the form of texts or of chats.
fn both(texts: &[(String, &str)], of_chat: bool, every: usize) -> (String, String) {
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7});
    let choice = |index: usize, name: &str, text: &str, finish: Value| match of_chat {
        true => json!({"index": index, name: {"content": text}, "finish_reason": finish}),
        false => json!({"index": index, "text": text, "logprobs": null, "finish_reason": finish}),
    };
    let frame = |choices: Value, usage: Value| {
        format!(
            "data: {}\n\n",
            json!({"id": "i", "object": "text_completion", "model": "m", "choices": choices, "usage": usage})
        )
    };
    let mut sent = String::new();
    for (index, (text, finish)) in texts.iter().enumerate() {
        for piece in text.chars().collect::<Vec<_>>().chunks(every) {
            let piece: String = piece.iter().collect();
            sent.push_str(&frame(json!([choice(index, "delta", &piece, Value::Null)]), Value::Null));
        }
        sent.push_str(&frame(json!([choice(index, "delta", "", json!(finish))]), Value::Null));
    }
    sent.push_str(&frame(json!([]), usage.clone()));
    sent.push_str("data: [DONE]\n\n");
    let choices: Vec<Value> =
        texts.iter().enumerate().map(|(index, (text, finish))| choice(index, "message", text, json!(finish))).collect();
    let body = json!({"id": "i", "object": "text_completion", "model": "m", "choices": choices, "usage": usage});
    (sent, body.to_string())
}

fn reason() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["stop", "length", "content_filter"])
}

proptest! {
    #[test]
    fn a_stream_says_what_the_whole_answer_says(
        texts in proptest::collection::vec(("\\PC{0,12}", reason()), 1..4),
        of_chat in any::<bool>(),
        every in 1..5_usize,
        size in 1..60_usize,
    ) {
        let (stream, body) = both(&texts, of_chat, every);
        let quirks = if of_chat { Quirks::NONE } else { Quirks::COMPLETIONS };
        let of = |stream| Setup { choices: texts.len() as u32, ..setup(Dialect::OpenAiChat, stream, quirks) };
        let (whole, outcome) = run(&of(false), [body.as_bytes()]);
        prop_assert_eq!(outcome, Ok(()));
        let (streamed, outcome) = run(&of(true), stream.as_bytes().chunks(size));
        prop_assert_eq!(outcome, Ok(()));
        prop_assert_eq!(together(&streamed), taken_apart(&whole));
        let wanted: Vec<(String, Value)> = texts.iter().map(|(text, finish)| (text.clone(), json!(finish))).collect();
        prop_assert_eq!(together(&streamed).0, wanted);
    }

    #[test]
    fn no_bytes_make_it_panic(
        random in proptest::collection::vec(any::<u8>(), 0..200),
        at in any::<usize>(),
        byte in any::<u8>(),
        size in 1..40_usize,
        stream in any::<bool>(),
    ) {
        let (sent, body) = both(&[("text".to_owned(), "stop")], false, 2);
        let mut spoiled = if stream { sent } else { body }.into_bytes();
        let length = spoiled.len();
        spoiled[at % length] = byte;
        for bytes in [random, spoiled] {
            let setup = setup(Dialect::OpenAiChat, stream, Quirks::COMPLETIONS | Quirks::ALL_TOLERANT);
            let _ = super::super::envelope::scan(bytes.clone().into());
            let _ = super::super::request::parse(&bytes);
            let mut translator = crate::dialect::table::Translator::new(setup);
            let mut out = Vec::new();
            let sound = bytes.chunks(size).all(|piece| translator.push(piece, &mut out).is_ok());
            if sound {
                let _ = translator.finish(crate::dialect::event::End::Clean, &mut out);
            }
        }
    }
}
