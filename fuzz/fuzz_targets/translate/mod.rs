//! What the stream targets share: the same bytes in two splits, through the whole translator.

use orbyt::dialect::client::Client;
use orbyt::dialect::event::End;
use orbyt::dialect::openai_chat::passthrough::Quirks;
use orbyt::dialect::table::{Dialect, Setup, Translator};

/// Translates an answer whole and in pieces; the first byte chooses the options. Neither may panic, and what comes out may not depend
/// on where the stream was split.
pub fn answer(provider: Dialect, data: &[u8]) {
    let Some((&options, bytes)) = data.split_first() else { return };
    let whole = run(provider, options, std::iter::once(bytes));
    let size = 1 + usize::from(options >> 4);
    let pieces = run(provider, options, bytes.chunks(size));
    assert_eq!(whole.1, pieces.1, "one is a fault and the other is not");
    if whole.1 {
        assert_eq!(whole.0, pieces.0, "the split shows in the answer");
    }
}

/// What the client gets, and whether the answer is complete.
fn run<'a>(provider: Dialect, options: u8, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
    let clients = [Client::OpenAiChat, Client::AnthropicMessages, Client::Gemini, Client::Gemini];
    let which = usize::from(options >> 4) % clients.len();
    let mut translator = Translator::new(Setup {
        client: clients[which],
        provider,
        stream: options & 1 != 0,
        array: which == 3,
        choices: 1,
        include_usage: options & 2 != 0,
        exclude_reasoning: options & 4 != 0,
        id: "chatcmpl-fuzz".into(),
        created: 1,
        model: "model".into(),
        answer_tool: (options & 8 != 0).then(|| "answer".to_owned()),
        quirks: Quirks::default(),
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
