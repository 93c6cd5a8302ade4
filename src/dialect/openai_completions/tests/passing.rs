//! Answers of providers that have the route themselves: what passes, what is repaired, and what is refused.

use super::{chunks, run, setup, taken_apart, together};
use crate::dialect::event::End;
use crate::dialect::openai_chat::quirks::Quirks;
use crate::dialect::table::{Dialect, Setup, Translator};
use crate::domain::FaultKind;
use serde_json::{Value, json};

fn own(stream: bool, quirks: Quirks) -> Setup {
    setup(Dialect::OpenAiChat, stream, Quirks::COMPLETIONS.with(quirks))
}

/// A chunk with one choice, as OpenAI writes it.
fn chunk(text: &str, finish: Option<&str>) -> String {
    let choice = json!({"text": text, "index": 0, "logprobs": null, "finish_reason": finish});
    let chunk = json!({"id": "cmpl-1", "object": "text_completion", "created": 5, "choices": [choice], "model": "m1"});
    format!("data: {chunk}\n\n")
}

const DONE: &str = "data: [DONE]\n\n";
const USAGE: &str = "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}\n\n";

#[test]
fn the_bytes_pass() {
    // The last text comes with the finish reason, which may be repeated in a chunk of its own.
    let sent = [&chunk("a", None), &chunk("b", Some("length")), &chunk("", Some("length")), USAGE, DONE].concat();
    for size in [1, 7, 10_000] {
        let (out, outcome) = run(&own(true, Quirks::NONE), sent.as_bytes().chunks(size));
        assert_eq!((outcome, out.as_str()), (Ok(()), sent.as_str()));
    }
    let whole = "{\n  \"object\": \"text_completion\", \"choices\": [{\"text\": \"\\u00e9\", \"index\": 0, \"logprobs\": {\"tokens\": []}, \"finish_reason\": \"stop\"}], \"x\": 1.0}\n";
    let (out, outcome) = run(&own(false, Quirks::NONE), [whole.as_bytes()]);
    assert_eq!((outcome, out.as_str()), (Ok(()), whole.trim()));
}

#[test]
fn usage_that_only_the_gateway_asked_for_stays_here() {
    let sent = [&chunk("a", Some("stop")), USAGE, DONE].concat();
    let mut setup = own(true, Quirks::NONE);
    setup.include_usage = false;
    let (mut translator, mut out) = (Translator::new(setup), Vec::new());
    translator.push(sent.as_bytes(), &mut out).unwrap();
    translator.finish(End::Clean, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), [&chunk("a", Some("stop")), DONE].concat());
    assert_eq!(translator.observed().usage.unwrap().total_tokens, 3);
    assert_eq!(translator.observed().output_bytes, 1);
}

#[test]
fn words_and_usage_of_others_are_repaired() {
    // As Together sends them: a delta beside the text, its own word at the end, and usage with it.
    let choice = |text: &str, finish: Value| json!({"index": 0, "text": text, "delta": {"content": text}, "finish_reason": finish});
    let sent = [
        format!(
            "data: {}\n\n",
            json!({"id": "t", "object": "completion.chunk", "choices": [choice("a", Value::Null)], "usage": null})
        ),
        format!(
            "data: {}\n\n",
            json!({"id": "t", "object": "completion.chunk", "choices": [choice("", json!("eos"))],
                                       "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
        ),
        DONE.to_owned(),
    ]
    .concat();
    let quirks = Quirks::FINISH_WORDS | Quirks::USAGE_IN_CHUNKS | Quirks::CHUNK_FIELDS;
    let (out, outcome) = run(&own(true, quirks), [sent.as_bytes()]);
    assert_eq!(outcome, Ok(()));
    let usage = json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3});
    assert_eq!(together(&out), (vec![("a".to_owned(), json!("stop"))], usage));
    let last = chunks(&out).pop().unwrap();
    assert_eq!((&last["choices"], &last["id"]), (&json!([]), &json!("t")));
}

#[test]
fn no_clean_end_without_a_finish() {
    for (sent, choices, kind) in [
        ([&chunk("a", None), DONE].concat(), 1, FaultKind::Truncated),
        (chunk("a", None), 1, FaultKind::Truncated),
        // Without `[DONE]` the second choice is missing.
        (chunk("a", Some("stop")), 2, FaultKind::Truncated),
        (DONE.to_owned(), 1, FaultKind::Empty),
        (String::new(), 1, FaultKind::Empty),
        ([&chunk("a", None), "data: {\"error\":{\"message\":\"no\"}}\n\n"].concat(), 1, FaultKind::ServerError),
        ([&chunk("a", None), "data: {\n\n"].concat(), 1, FaultKind::Malformed),
    ] {
        let setup = Setup { choices, ..own(true, Quirks::NONE) };
        let (mut translator, mut out) = (Translator::new(setup), Vec::new());
        let outcome = translator.push(sent.as_bytes(), &mut out).and_then(|()| translator.finish(End::Clean, &mut out));
        let fault = outcome.unwrap_err();
        assert_eq!(fault.kind, kind, "{sent}");
        translator.break_off(&fault, &mut out);
        let out = String::from_utf8(out).unwrap();
        assert!(!out.contains("[DONE]"), "{out}");
        let last: Value = serde_json::from_str(out.trim_end().rsplit("data: ").next().unwrap()).unwrap();
        assert_eq!(last["choices"][0]["finish_reason"], "error", "{out}");
        assert_eq!((&last["object"], &last["choices"][0]["text"]), (&json!("text_completion"), &json!("")));
    }
    let (_, outcome) = run(&own(true, Quirks::NONE), [chunk("a", Some("stop")).as_bytes()]);
    assert_eq!(outcome, Ok(()), "a stream may end without [DONE]");
}

#[test]
fn a_whole_answer_must_be_whole() {
    for (sent, kind) in [
        ("{\"choices\":[{\"text\":\"a\",\"index\":0,\"finish_reason\":null}]}", FaultKind::Truncated),
        ("{\"choices\":[{\"text\":\"a\"", FaultKind::Truncated),
        ("{\"choices\":[]}", FaultKind::Malformed),
        ("{\"error\":{\"message\":\"no\"}}", FaultKind::ServerError),
        ("<html>", FaultKind::Malformed),
        ("", FaultKind::Empty),
    ] {
        for stream in [false, true] {
            let (out, outcome) = run(&own(stream, Quirks::NONE), [sent.as_bytes()]);
            let fault = outcome.unwrap_err();
            let is_known =
                fault.kind == kind || (stream && matches!(fault.kind, FaultKind::Empty | FaultKind::Truncated));
            assert!(is_known && !out.contains("[DONE]"), "{sent} {stream}: {fault:?} {out}");
        }
    }
}

#[test]
fn a_whole_answer_to_a_request_for_a_stream_becomes_one() {
    let usage = json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3});
    let whole = json!({"id": "w", "object": "text_completion", "model": "m", "choices": [
        {"text": "a\nb", "index": 0, "logprobs": {"tokens": ["a"]}, "finish_reason": "stop"},
        {"text": "c", "index": 1, "logprobs": null, "finish_reason": "length"}], "usage": usage});
    let sent = format!("{whole:#}");
    let setup = Setup { choices: 2, ..own(true, Quirks::NONE) };
    let (out, outcome) = run(&setup, sent.as_bytes().chunks(5));
    assert_eq!(outcome, Ok(()));
    assert_eq!(together(&out), taken_apart(&sent));
    assert_eq!(chunks(&out)[0]["choices"], whole["choices"], "log probabilities are kept");
    let without = Setup { include_usage: false, ..setup };
    assert!(!run(&without, [sent.as_bytes()]).0.contains("usage"));
}

#[test]
fn many_prompts_have_many_choices() {
    let choice = |index: u32| json!({"text": "x", "index": index, "logprobs": null, "finish_reason": "stop"});
    let sent = json!({"choices": (0..300).map(choice).collect::<Vec<_>>()}).to_string();
    let (out, outcome) = run(&Setup { choices: 300, ..own(false, Quirks::NONE) }, [sent.as_bytes()]);
    assert_eq!((outcome, out), (Ok(()), sent));
    let hostile = json!({"choices": [choice(4_000_000_000)]}).to_string();
    assert!(run(&own(false, Quirks::NONE), [hostile.as_bytes()]).1.is_err());
}
