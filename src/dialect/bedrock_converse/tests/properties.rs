//! Properties: no bytes make the decoder panic, and a stream put together again equals the whole answer.

use super::*;
use proptest::prelude::*;
use serde_json::json;

#[derive(Clone, Debug)]
enum Block {
    Text(String),
    Cited(String),
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
        "\\PC{0,12}".prop_map(Block::Text),
        "\\PC{1,12}".prop_map(Block::Cited),
        ("\\PC{0,12}", "[A-Za-z0-9+/]{0,8}").prop_map(|(text, signature)| Block::Thinking(text, signature)),
        "[A-Za-z0-9+/]{1,8}".prop_map(Block::Redacted),
        ("[a-z]{1,6}", input.clone()).prop_map(|(name, input)| Block::Call(name, input)),
        input.prop_map(Block::Server),
    ]
}

fn citation() -> Value {
    json!({"location": {"web": {"url": "https://example.org", "domain": "example.org"}}})
}

fn whole(at: usize, block: &Block) -> Value {
    match block {
        Block::Text(text) => json!({ "text": text }),
        Block::Cited(text) => json!({"citationsContent": {"content": [{"text": text}], "citations": [citation()]}}),
        Block::Thinking(text, signature) => {
            json!({"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}})
        }
        Block::Redacted(data) => json!({"reasoningContent": {"redactedContent": data}}),
        Block::Call(name, input) => json!({"toolUse": {"toolUseId": format!("t{at}"), "name": name, "input": input}}),
        Block::Server(input) => {
            json!({"toolUse": {"toolUseId": format!("s{at}"), "name": "s", "input": input, "type": "server_tool_use"}})
        }
    }
}

/// The events of one block, its content in pieces of so many characters.
fn events(at: usize, block: &Block, size: usize) -> Vec<(&'static str, Value)> {
    let mut out = Vec::new();
    if let Block::Call(..) | Block::Server(_) = block {
        let mut head = whole(at, block);
        head["toolUse"].as_object_mut().unwrap().remove("input");
        out.push(("contentBlockStart", json!({"contentBlockIndex": at, "start": head})));
    }
    let mut add =
        |delta: Value| out.push(("contentBlockDelta", json!({"contentBlockIndex": at, "delta": delta, "p": "ab"})));
    let (text, wrap): (String, fn(String) -> Value) = match block {
        Block::Text(text) | Block::Cited(text) => (text.clone(), |piece| json!({ "text": piece })),
        Block::Thinking(text, _) => (text.clone(), |piece| json!({"reasoningContent": {"text": piece}})),
        Block::Redacted(_) => (String::new(), |piece| json!({ "text": piece })),
        Block::Call(_, input) | Block::Server(input) => {
            let none = input.as_object().is_some_and(serde_json::Map::is_empty);
            (if none { String::new() } else { input.to_string() }, |piece| json!({"toolUse": {"input": piece}}))
        }
    };
    let characters: Vec<char> = text.chars().collect();
    for piece in characters.chunks(size) {
        add(wrap(piece.iter().collect()));
    }
    match block {
        Block::Cited(_) => add(json!({ "citation": citation() })),
        Block::Thinking(_, signature) => add(json!({"reasoningContent": {"signature": signature}})),
        Block::Redacted(data) => add(json!({"reasoningContent": {"redactedContent": data}})),
        _ => {}
    }
    out.push(("contentBlockStop", json!({"contentBlockIndex": at})));
    out
}

proptest! {
    #[test]
    fn a_stream_put_together_again_equals_the_whole_answer(
        blocks in prop::collection::vec(block(), 0..6),
        size in 1usize..6,
        chunk in 1usize..200,
        answer_tool in prop::option::of("[a-z]{1}"),
        reason in prop::sample::select(vec!["end_turn", "tool_use", "max_tokens", "guardrail_intervened"]),
    ) {
        let usage = json!({"inputTokens": 3, "outputTokens": 4, "totalTokens": 7});
        let mut stream = vec![("messageStart", json!({"role": "assistant"}))];
        for (at, block) in blocks.iter().enumerate() {
            stream.extend(events(at, block, size));
        }
        stream.push(("messageStop", json!({"stopReason": reason})));
        stream.push(("metadata", json!({"usage": usage})));
        let content: Vec<Value> = blocks.iter().enumerate().map(|(at, block)| whole(at, block)).collect();
        let body = json!({"output": {"message": {"content": content, "role": "assistant"}}, "stopReason": reason, "usage": usage});
        let streamed = read_stream(&stream_of(&stream), chunk, answer_tool.as_deref()).unwrap();
        let unary = read_body(&body, answer_tool.as_deref()).unwrap();
        prop_assert_eq!(streamed, unary);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), chunk in 1usize..50) {
        let _ = read_stream(&bytes, chunk, None);
        let _ = crate::dialect::bedrock_converse::response::decode(&bytes, None, &mut Assembled::default());
        let _ = crate::dialect::bedrock_converse::error::parse(&bytes);
    }

    #[test]
    fn no_order_of_events_makes_it_panic(
        blocks in prop::collection::vec(block(), 1..4),
        swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..6),
        payload in "[{}\\[\\]\":,a-z0-9]{0,20}",
    ) {
        let mut all: Vec<_> = blocks.iter().enumerate().flat_map(|(at, block)| events(at, block, 3)).collect();
        all.push(("messageStop", json!({"stopReason": "end_turn"})));
        all.push(("metadata", json!({"usage": {}})));
        for (a, b) in swaps {
            let length = all.len();
            all.swap(a.index(length), b.index(length));
        }
        let mut bytes = stream_of(&all);
        bytes.extend(framed("event", "contentBlockDelta", &payload));
        let _ = read_stream(&bytes, 64, None);
    }
}

#[test]
fn blocks_that_are_never_closed_are_bounded() {
    let events: Vec<_> = (0..10_000)
        .map(|index| ("contentBlockDelta", json!({"contentBlockIndex": index, "delta": {"text": "x"}})))
        .collect();
    assert!(read_stream(&stream_of(&events), 4096, None).is_err());
}
