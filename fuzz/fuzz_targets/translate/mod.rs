//! What the stream targets share: the same bytes in two splits, through the whole translator.

use orbyt::dialect::client::Client;
use orbyt::dialect::event::End;
use orbyt::dialect::openai_chat::passthrough::Quirks;
use orbyt::dialect::table::{Dialect, Setup, Translator};

/// Translates an answer whole and in pieces; the first byte chooses the options. Neither may panic, and what comes out may not depend
/// on where the stream was split.
#[allow(dead_code, reason = "each fuzz target is a program of its own, and asks for one of the two")]
pub fn answer(provider: Dialect, data: &[u8]) {
    let client = |options: u8| match options >> 4 & 3 {
        0 => Client::OpenAiChat,
        1 => Client::AnthropicMessages,
        _ => Client::Gemini,
    };
    in_any_split(data, |options| (client(options), provider, Quirks::default()));
}

/// The same for a provider that has the route of text completions.
#[allow(dead_code, reason = "see `answer`")]
pub fn completion(data: &[u8]) {
    let tolerant = |options| if options & 16 != 0 { Quirks::ALL_TOLERANT } else { Quirks::NONE };
    let quirks = |options| Quirks::COMPLETIONS.with(tolerant(options));
    in_any_split(data, |options| (Client::OpenAiCompletions, Dialect::OpenAiChat, quirks(options)));
}

fn in_any_split(data: &[u8], pair: impl Fn(u8) -> (Client, Dialect, Quirks)) {
    let Some((&options, bytes)) = data.split_first() else { return };
    let whole = run(pair(options), options, std::iter::once(bytes));
    let size = 1 + usize::from(options >> 4);
    let pieces = run(pair(options), options, bytes.chunks(size));
    assert_eq!(whole.1, pieces.1, "one is a fault and the other is not");
    if whole.1 {
        assert_eq!(whole.0, pieces.0, "the split shows in the answer");
    }
}

/// What the client gets, and whether the answer is complete.
fn run<'a>(
    (client, provider, quirks): (Client, Dialect, Quirks),
    options: u8,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, bool) {
    let mut translator = Translator::new(Setup {
        client,
        provider,
        stream: options & 1 != 0,
        array: options & 16 != 0,
        choices: 1,
        include_usage: options & 2 != 0,
        exclude_reasoning: options & 4 != 0,
        input_tokens: 0,
        id: "chatcmpl-fuzz".into(),
        created: 1,
        model: "model".into(),
        answer_tool: (options & 8 != 0).then(|| "answer".to_owned()),
        quirks,
        asked: None,
    });
    let mut out = Vec::new();
    let mut sound = true;
    for piece in pieces {
        sound = sound && translator.push(piece, &mut out).is_ok();
    }
    let complete = sound && translator.finish(End::Clean, &mut out).is_ok();
    (out, complete)
}
