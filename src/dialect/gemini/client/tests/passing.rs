//! Google's answers, passed on byte by byte, and in the other framing where the client wants that.

use super::*;
use crate::dialect::event::End;
use crate::dialect::table::Translator;
use crate::domain::{Fault, FaultKind};

const PIECES: [&str; 4] = [
    r#"{"candidates": [{"content": {"role": "model"},"index": 0}],"usageMetadata": {"promptTokenCount": 5},"new": 1.50}"#,
    r#"{"candidates": [{"content": {"parts": [{"text": "h\u00e9", "thoughtSignature": "AQ=="}],"role": "model"},"index": 0}]}"#,
    r#"{"candidates": [{"content": {"parts": [{"executableCode": {"code": "}]"}}],"role": "model"},"index": 0}]}"#,
    r#"{"candidates": [{"content": {"parts": [{"text": ""}],"role": "model"},"finishReason": "STOP","index": 0}],"usageMetadata": {"promptTokenCount": 5,"candidatesTokenCount": 4,"thoughtsTokenCount": 3,"totalTokenCount": 12}}"#,
];

fn events() -> String {
    PIECES.map(|piece| format!("data: {piece}\r\n\r\n")).concat()
}

fn array() -> String {
    format!("[{}]", PIECES.join(",\r\n"))
}

/// An array as Google prints it.
fn pretty() -> String {
    let pieces = PIECES.map(|piece| serde_json::from_str::<Value>(piece).unwrap());
    serde_json::to_string_pretty(&pieces.to_vec()).unwrap()
}

fn pass(pieces: &[&[u8]], stream: bool, array: bool, end: End) -> (Translator, Vec<u8>, Result<(), Fault>) {
    let mut translator = Translator::new(setup(Dialect::Gemini, stream, array));
    let mut out = Vec::new();
    let pushed = pieces.iter().try_for_each(|piece| translator.push(piece, &mut out));
    let outcome = pushed.and_then(|()| translator.finish(end, &mut out));
    (translator, out, outcome)
}

#[test]
fn events_pass_as_they_came_wherever_they_are_split() {
    let stream = events();
    for at in 0..=stream.len() {
        let (head, tail) = stream.as_bytes().split_at(at);
        let (translator, out, outcome) = pass(&[head, tail], true, false, End::Clean);
        outcome.unwrap();
        assert_eq!(std::str::from_utf8(&out).unwrap(), stream, "split at {at}");
        let usage = translator.observed().usage.unwrap();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens), (5, 7, Some(3)));
    }
}

#[test]
fn an_array_passes_and_either_framing_becomes_the_other() {
    let values: Vec<Value> = PIECES.iter().map(|piece| serde_json::from_str(piece).unwrap()).collect();
    for upstream in [events(), events().replace("\r\n", "\n"), array(), pretty(), pretty().replace('\n', "\r\n")] {
        for wants_array in [false, true] {
            for at in 0..=upstream.len() {
                let (head, tail) = upstream.as_bytes().split_at(at);
                let (_, out, outcome) = pass(&[head, tail], true, wants_array, End::Clean);
                outcome.unwrap();
                let lines = String::from_utf8(out).unwrap().replace("}\n\n", "}\r\n\r\n");
                assert_eq!(answers(lines.as_bytes(), wants_array), values, "split at {at}: {upstream}");
            }
        }
    }
    let (_, out, _) = pass(&[array().as_bytes()], true, true, End::Clean);
    assert_eq!(String::from_utf8(out).unwrap(), array());
}

#[test]
fn a_stream_that_is_cut_anywhere_never_looks_complete() {
    for (stream, wants_array) in [(events(), false), (events(), true), (array(), false), (array(), true)] {
        for at in 0..stream.len() {
            let (mut translator, mut out, outcome) = pass(&[&stream.as_bytes()[..at]], true, wants_array, End::Cut);
            let fault = outcome.unwrap_err();
            assert_eq!(fault.kind, FaultKind::Truncated, "cut at {at}");
            translator.break_off(&fault, &mut out);
            let answers = answers(&out, wants_array);
            assert!(answers.last().unwrap()["error"]["status"].is_string(), "cut at {at}");
            assert!(!answers.iter().any(|answer| answer["candidates"][0]["finishReason"].is_string()), "cut at {at}");
            // A clean end too early is a cut as well, but for the blank line of the last event.
            let (.., outcome) = pass(&[&stream.as_bytes()[..at]], true, wants_array, End::Clean);
            assert!(outcome.is_err() || (stream.starts_with('d') && at >= stream.len() - 4), "ended at {at}");
        }
    }
}

#[test]
fn an_error_in_the_stream_ends_the_attempt_and_is_not_passed_on() {
    let error = r#"{"error": {"code": 503, "message": "Overloaded.", "status": "UNAVAILABLE"}}"#;
    for stream in [format!("data: {error}\r\n\r\n"), error.to_owned(), format!("[{error}]")] {
        let (translator, out, outcome) = pass(&[stream.as_bytes()], true, false, End::Clean);
        assert_eq!(outcome.unwrap_err().kind, FaultKind::Overloaded, "{stream}");
        assert!(out.is_empty() && !translator.observed().output);
        let (_, out, outcome) = pass(
            &[&events().as_bytes()[..events().len() / 2], b"\r\n\r\n", stream.as_bytes()],
            true,
            false,
            End::Clean,
        );
        assert!(outcome.is_err() && !String::from_utf8(out).unwrap().contains("Overloaded"));
    }
}

#[test]
fn what_a_tool_of_googles_does_is_output() {
    let mut translator = Translator::new(setup(Dialect::Gemini, true, false));
    let mut out = Vec::new();
    translator.push(format!("data: {}\r\n\r\n", PIECES[0]).as_bytes(), &mut out).unwrap();
    assert!(!translator.observed().output);
    translator.push(format!("data: {}\r\n\r\n", PIECES[2]).as_bytes(), &mut out).unwrap();
    assert!(translator.observed().output);
}

/// A finish reason may come in the middle; the last answer alone waits.
#[test]
fn text_behind_a_finish_reason_is_not_held_back() {
    let [begin, text, _, last] = PIECES;
    let stream = [begin, last, text, last].map(|piece| format!("data: {piece}\r\n\r\n"));
    let mut translator = Translator::new(setup(Dialect::Gemini, true, false));
    let mut out = Vec::new();
    let mut so_far = Vec::new();
    for event in &stream {
        translator.push(event.as_bytes(), &mut out).unwrap();
        so_far.push(out.len());
    }
    let lengths: Vec<usize> = stream.iter().map(String::len).collect();
    assert_eq!(so_far, [lengths[0], lengths[0], lengths[0] + lengths[1], lengths[0] + lengths[1] + lengths[2]]);
    translator.finish(End::Clean, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), stream.concat());
}

#[test]
fn a_whole_answer_passes_and_becomes_a_stream_where_one_was_asked_for() {
    let body =
        format!(" {} \n", serde_json::to_string_pretty(&serde_json::from_str::<Value>(PIECES[3]).unwrap()).unwrap());
    let (translator, out, outcome) = pass(&[body.as_bytes()], false, false, End::Clean);
    outcome.unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), body.trim());
    assert_eq!(translator.observed().usage.unwrap().total_tokens, 12);
    for wants_array in [false, true] {
        let (_, out, outcome) = pass(&[body.as_bytes()], true, wants_array, End::Clean);
        outcome.unwrap();
        assert_eq!(answers(&out, wants_array), [serde_json::from_str::<Value>(PIECES[3]).unwrap()]);
    }
}

#[test]
fn a_blocked_prompt_is_an_answer() {
    let body =
        r#"{"promptFeedback": {"blockReason": "OTHER"},"usageMetadata": {"promptTokenCount": 4,"totalTokenCount": 4}}"#;
    for stream in [false, true] {
        let (translator, out, outcome) = pass(&[body.as_bytes()], stream, true, End::Clean);
        outcome.unwrap();
        assert!(String::from_utf8(out).unwrap().contains(body));
        let seen = translator.observed();
        assert!(seen.filtered && seen.usage.unwrap().prompt_tokens == 4);
    }
}

#[test]
fn what_is_no_answer_is_a_fault() {
    for (body, kind) in [
        ("", FaultKind::Empty),
        ("{}", FaultKind::Empty),
        ("{\"candidates\": [", FaultKind::Malformed),
        ("<html>", FaultKind::Malformed),
        (PIECES[0], FaultKind::Empty),
        (PIECES[1], FaultKind::Truncated),
    ] {
        let (.., outcome) = pass(&[body.as_bytes()], false, false, End::Clean);
        assert_eq!(outcome.unwrap_err().kind, kind, "{body}");
    }
}

#[test]
fn a_large_answer_flows() {
    let body = PIECES[3];
    let mut translator = Translator::new(setup(Dialect::Gemini, false, false));
    let mut out = Vec::new();
    translator.push(&body.as_bytes()[..50], &mut out).unwrap();
    assert!(out.is_empty() && translator.let_flow(&mut out));
    translator.push(&body.as_bytes()[50..], &mut out).unwrap();
    translator.finish(End::Clean, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), body);
}

#[test]
fn tokens_are_counted_in_googles_words() {
    for (body, expected) in [
        (r#"{"totalTokens": 7, "promptTokensDetails": [1]}"#, r#"{"totalTokens": 7, "promptTokensDetails": [1]}"#),
        (r#"{"input_tokens": 9}"#, r#"{"totalTokens":9}"#),
    ] {
        let mut translator = Translator::counting(Client::Gemini);
        let mut out = Vec::new();
        translator.push(body.as_bytes(), &mut out).unwrap();
        translator.finish(End::Clean, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
