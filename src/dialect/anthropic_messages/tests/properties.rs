//! Properties: no bytes make the decoder panic, and a stream put together again equals the whole answer.

use super::{Assembled, read_body, read_stream};
use crate::dialect::anthropic_messages::piece::{self, PieceKind};
use crate::dialect::anthropic_messages::stream::Decoder;
use crate::dialect::event::End;
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
enum Block {
    Text(String, bool),
    Thinking(String, String),
    Redacted(String),
    Call(String, Value),
    Server(Value),
}

fn block() -> impl Strategy<Value = Block> {
    let input = prop_oneof![
        Just(json!({})),
        ("\\PC{0,8}", any::<i32>(), any::<f64>())
            .prop_map(|(text, int, float)| json!({"t": text, "i": int, "f": [float]})),
    ];
    prop_oneof![
        ("\\PC{0,12}", any::<bool>()).prop_map(|(text, cited)| Block::Text(text, cited)),
        ("\\PC{0,12}", "[A-Za-z0-9+/]{0,8}").prop_map(|(text, signature)| Block::Thinking(text, signature)),
        "[A-Za-z0-9+/]{1,8}".prop_map(Block::Redacted),
        ("[a-z]{1,6}", input.clone()).prop_map(|(name, input)| Block::Call(name, input)),
        input.prop_map(Block::Server),
    ]
}

fn whole(at: usize, block: &Block) -> Value {
    match block {
        Block::Text(text, cited) => {
            json!({"type": "text", "text": text, "citations": cited.then(|| json!([citation()]))})
        }
        Block::Thinking(text, signature) => json!({"type": "thinking", "thinking": text, "signature": signature}),
        Block::Redacted(data) => json!({"type": "redacted_thinking", "data": data}),
        Block::Call(name, input) => {
            json!({"type": "tool_use", "id": format!("toolu_{at}"), "name": name, "input": input})
        }
        Block::Server(input) => {
            json!({"type": "server_tool_use", "id": format!("srvtoolu_{at}"), "name": "s", "input": input})
        }
    }
}

fn citation() -> Value {
    json!({"type": "web_search_result_location", "url": "https://example.org", "title": null, "cited_text": "c"})
}

/// The events of one block, its content in pieces of so many characters.
fn events(at: usize, block: &Block, size: usize) -> Vec<Value> {
    let (head, name, field, text) = match block {
        Block::Text(text, _) => (json!({"type": "text", "text": ""}), "text_delta", "text", text.clone()),
        Block::Thinking(text, _) => {
            (json!({"type": "thinking", "thinking": "", "signature": ""}), "thinking_delta", "thinking", text.clone())
        }
        Block::Redacted(_) => (whole(at, block), "", "", String::new()),
        Block::Call(_, input) | Block::Server(input) => {
            let mut head = whole(at, block);
            head["input"] = json!({});
            let text = if input.as_object().is_some_and(serde_json::Map::is_empty) {
                String::new()
            } else {
                input.to_string()
            };
            (head, "input_json_delta", "partial_json", text)
        }
    };
    let mut out = vec![json!({"type": "content_block_start", "index": at, "content_block": head})];
    let mut add = |delta: Value| out.push(json!({"type": "content_block_delta", "index": at, "delta": delta}));
    if matches!(block, Block::Text(_, true)) {
        add(json!({"type": "citations_delta", "citation": citation()}));
    }
    let characters: Vec<char> = text.chars().collect();
    for piece in characters.chunks(size) {
        add(json!({"type": name, field: piece.iter().collect::<String>()}));
    }
    if let Block::Thinking(_, signature) = block {
        add(json!({"type": "signature_delta", "signature": signature}));
    }
    out.push(json!({"type": "content_block_stop", "index": at}));
    out
}

fn frames(events: &[Value]) -> String {
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
}

/// One piece of text in the usual writing, with this JSON string.
fn usual(string: &str) -> String {
    format!("{{\"type\":\"content_block_delta\",\"index\":7,\"delta\":{{\"type\":\"text_delta\",\"text\":{string}}}}}")
}

/// What the quick reader makes of it, and what a full parse does.
fn both_readings(data: &str) -> (Option<String>, Option<String>) {
    let mut scratch = "left over".to_owned();
    let quick = piece::read(data.as_bytes(), &mut scratch).map(|piece| {
        assert_eq!((piece.index, piece.kind), (7, PieceKind::Text));
        piece.text.to_owned()
    });
    let full =
        serde_json::from_str::<Value>(data).ok().and_then(|value| Some(value["delta"]["text"].as_str()?.to_owned()));
    (quick, full)
}

#[test]
fn the_quick_reader_resolves_every_escape() {
    for string in [
        "\"\"",
        "\"plain\"",
        r#""\"\\\/\b\f\n\r\t""#,
        r#""a\u00e9b\uD83C\uDF0Dc""#,
        r#""ends in a backslash \\""#,
        "\"Gr\u{fc}\u{df}e \u{1F30D}\"",
    ] {
        let (quick, full) = both_readings(&usual(string));
        assert!(full.is_some(), "{string}");
        assert_eq!(quick, full, "{string}");
        assert_eq!(both_readings(&format!("{}   ", usual(string))).0, full, "with padding");
    }
}

#[test]
fn the_quick_reader_leaves_what_is_broken_or_unusual() {
    for string in
        [r#""\x""#, r#""\u12""#, r#""\uD83C""#, r#""\uD83Cx""#, r#""\uD83C\n""#, "\"a\nb\"", "\"open", r#""open\"#, "5"]
    {
        assert_eq!(both_readings(&usual(string)).0, None, "{string}");
    }
    assert_eq!(both_readings(&usual("\"a\",\"more\":\"b\"")).0, None);
    assert_eq!(both_readings(&usual("\"a\"").replace(":7", ":-7")).0, None);
}

proptest! {
    #[test]
    fn the_quick_reader_means_what_a_full_parse_means(raw in "([a-zé\u{1F30D}\"\\\\/bfnrtu0-9D-F{}]|\\PC){0,24}", text in any::<String>()) {
        let (quick, full) = both_readings(&usual(&format!("\"{raw}\"")));
        prop_assert!(quick.is_none() || quick == full, "{:?} {:?}", quick, full);
        let (quick, full) = both_readings(&usual(&Value::String(text).to_string()));
        prop_assert!(full.is_some());
        prop_assert_eq!(quick, full);
    }

    #[test]
    fn a_stream_put_together_again_equals_the_whole_answer(
        blocks in prop::collection::vec(block(), 0..6),
        size in 1usize..6,
        chunk in 1usize..200,
        answer_tool in prop::option::of("[a-z]{1}"),
        reason in prop::sample::select(vec!["end_turn", "tool_use", "max_tokens", "refusal"]),
    ) {
        let usage = json!({"input_tokens": 3, "output_tokens": 4});
        let mut stream = vec![json!({"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": usage}})];
        for (at, block) in blocks.iter().enumerate() {
            stream.extend(events(at, block, size));
        }
        stream.push(json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 4}}));
        let content: Vec<Value> = blocks.iter().enumerate().map(|(at, block)| whole(at, block)).collect();
        let body = json!({"id": "msg_1", "type": "message", "model": "m", "content": content, "stop_reason": reason, "usage": usage});
        let streamed = read_stream(&frames(&stream), chunk, answer_tool.as_deref()).unwrap();
        let unary = read_body(&body.to_string(), answer_tool.as_deref()).unwrap();
        prop_assert_eq!(streamed, unary);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), chunk in 1usize..50) {
        let mut decoder = Decoder::new(None);
        let mut out = Assembled::default();
        let mut fine = true;
        for piece in bytes.chunks(chunk) {
            fine = fine && decoder.push(piece, &mut out).is_ok();
        }
        if fine {
            let _ = decoder.finish(End::Clean, &mut out);
        }
        let _ = crate::dialect::anthropic_messages::response::decode(&bytes, None, &mut Assembled::default());
        let _ = crate::dialect::anthropic_messages::error::parse(&bytes);
    }

    #[test]
    fn no_damage_to_a_stream_makes_it_panic(
        blocks in prop::collection::vec(block(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        order in any::<prop::sample::Index>(),
    ) {
        let mut events: Vec<Value> = blocks.iter().enumerate().flat_map(|(at, block)| events(at, block, 3)).collect();
        let length = events.len();
        events.swap(order.index(length), length - 1);
        events.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}}));
        let mut bytes = frames(&events).into_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut decoder = Decoder::new(None);
        let mut out = Assembled::default();
        if decoder.push(&bytes, &mut out).is_ok() {
            let _ = decoder.finish(End::Clean, &mut out);
        }
    }
}

#[test]
fn blocks_that_are_never_closed_are_bounded() {
    let mut decoder = Decoder::new(None);
    let mut out = Assembled::default();
    let outcome = (0..10_000).try_for_each(|index| {
        let event =
            json!({"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}});
        decoder.push(frames(&[event]).as_bytes(), &mut out)
    });
    assert!(outcome.is_err());
}
