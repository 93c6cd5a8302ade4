//! Answers as Google sends them, in our own words, and what they must mean.

use super::{Choice, Whole, decode, events, read, read_every_way};
use crate::dialect::chat::ReasoningKind;
use crate::dialect::event::{End, FinishReason};
use crate::domain::{Fault, FaultKind, Usage};
use serde_json::{Value, json};

fn part(part: Value) -> Value {
    json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": [part]}}], "responseId": "r1", "modelVersion": "g"})
}

fn last(parts: Value, reason: &str) -> Value {
    json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": reason}],
        "responseId": "r1", "modelVersion": "g"})
}

fn one(whole: Whole) -> Choice {
    assert_eq!(whole.start, Some(("r1".to_owned(), "g".to_owned())));
    assert_eq!(whole.error, None);
    let [choice] = <[Choice; 1]>::try_from(whole.choices).unwrap();
    choice
}

fn finish(reason: FinishReason, native: &str) -> Option<(FinishReason, String)> {
    Some((reason, native.to_owned()))
}

fn call(id: &str, name: &str, arguments: &str) -> (String, String, String) {
    (id.to_owned(), name.to_owned(), arguments.to_owned())
}

fn encrypted(data: &str, id: Option<&str>) -> (ReasoningKind, Option<String>) {
    (ReasoningKind::Encrypted(data.to_owned()), id.map(str::to_owned))
}

fn thought(text: &str, signature: Option<&str>) -> (ReasoningKind, Option<String>) {
    (ReasoningKind::Text { text: text.to_owned(), signature: signature.map(str::to_owned) }, None)
}

#[test]
fn text_with_escapes_and_usage_that_grows() {
    let mut first = part(json!({"text": "Grüße,\n"}));
    first["usageMetadata"] = json!({"promptTokenCount": 9, "totalTokenCount": 9});
    let mut second = last(json!([{"text": "\"Welt\" 🌍"}]), "STOP");
    second["usageMetadata"] = json!({"promptTokenCount": 9, "toolUsePromptTokenCount": 4, "candidatesTokenCount": 6,
        "thoughtsTokenCount": 20, "cachedContentTokenCount": 3, "totalTokenCount": 39,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 2}, {"modality": "AUDIO", "tokenCount": 7}],
        "trafficType": "ON_DEMAND", "serviceTier": "standard"});
    let whole = read_every_way(&events(&[first, second]), None);
    let usage = Usage {
        prompt_tokens: 13,
        completion_tokens: 26,
        total_tokens: 39,
        cached_tokens: Some(3),
        reasoning_tokens: Some(20),
        audio_prompt_tokens: Some(7),
        ..Usage::default()
    };
    assert_eq!(whole.usage, Some(usage));
    let choice = one(whole);
    assert_eq!(choice.text, "Grüße,\n\"Welt\" 🌍");
    assert_eq!(choice.finish, finish(FinishReason::Stop, "STOP"));
}

#[test]
fn counts_of_several_pieces_are_taken_together() {
    let piece = |usage: Value| json!({"candidates": [], "usageMetadata": usage});
    let stream = events(&[
        piece(json!({"promptTokenCount": 5, "thoughtsTokenCount": 2})),
        piece(json!({"candidatesTokenCount": 3})),
        piece(json!({"trafficType": "ON_DEMAND"})),
    ]);
    let usage = read([stream.as_bytes()], End::Clean, None).0.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (5, 5, 10));
}

#[test]
fn thoughts_signatures_and_parallel_calls() {
    let stream = events(&[
        part(json!({"text": "Two cities. ", "thought": true})),
        part(json!({"text": "", "thought": true})),
        part(json!({"text": "Two calls.", "thought": true})),
        part(
            json!({"functionCall": {"name": "weather", "args": {"city": "Bern", "days": 1.0}}, "thoughtSignature": "c2lnMQ=="}),
        ),
        last(
            json!([{"functionCall": {"id": "own", "name": "weather", "args": {"city": "Bern", "days": 1.0}}},
            {"functionCall": {"name": "now"}}]),
            "STOP",
        ),
    ]);
    let choice = one(read_every_way(&stream, None));
    assert_eq!(choice.reasoning, [thought("Two cities. Two calls.", None), encrypted("c2lnMQ==", Some("call_r1_0"))]);
    let calls = [
        call("call_r1_0", "weather", r#"{"city":"Bern","days":1.0}"#),
        call("own", "weather", r#"{"city":"Bern","days":1.0}"#),
        call("call_r1_2", "now", "{}"),
    ];
    assert_eq!(choice.calls, calls);
    assert_eq!(choice.finish, finish(FinishReason::ToolCalls, "STOP"));
}

#[test]
fn signatures_on_text_on_empty_text_and_on_thoughts() {
    let stream = events(&[
        part(json!({"text": "Hm.", "thought": true, "thoughtSignature": "YQ=="})),
        part(json!({"text": "Again.", "thought": true})),
        part(json!({"text": "Yes", "thoughtSignature": "Yg=="})),
        part(json!({"text": ""})),
        last(json!([{"text": "", "thoughtSignature": "Yw=="}]), "STOP"),
    ]);
    let choice = one(read_every_way(&stream, None));
    assert_eq!(choice.text, "Yes");
    let expected =
        [thought("Hm.", Some("YQ==")), thought("Again.", None), encrypted("Yg==", None), encrypted("Yw==", None)];
    assert_eq!(choice.reasoning, expected);
}

#[test]
fn tools_of_the_server_are_neither_calls_nor_text_and_stop_may_come_early() {
    let stream = events(&[
        last(
            json!([{"executableCode": {"language": "PYTHON", "code": "print(1)", "id": "x"}, "thoughtSignature": "cw=="}]),
            "STOP",
        ),
        part(json!({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}})),
        part(json!({"toolCall": {"toolType": "GOOGLE_SEARCH_WEB"}, "thoughtSignature": "dA=="})),
        last(json!([{"text": "It is 1."}]), "STOP"),
    ]);
    let choice = one(read_every_way(&stream, None));
    assert_eq!((choice.text.as_str(), choice.calls.len()), ("It is 1.", 0));
    assert_eq!(choice.reasoning, [encrypted("cw==", Some("x")), encrypted("dA==", Some("server_tool"))]);
    assert_eq!(choice.finish, finish(FinishReason::Stop, "STOP"));
}

#[test]
fn arguments_in_pieces_become_whole() {
    let stream = events(&[
        part(json!({"functionCall": {"name": "book", "willContinue": true}, "thoughtSignature": "cw=="})),
        part(json!({"functionCall": {"partialArgs": [{"jsonPath": "$.to", "stringValue": "Zü", "willContinue": true}],
            "willContinue": true}})),
        part(json!({"functionCall": {"partialArgs": [{"jsonPath": "$.to", "stringValue": "rich"},
            {"jsonPath": "$.seats[0]", "numberValue": 7}], "willContinue": true}})),
        part(json!({"functionCall": {}})),
        part(json!({"functionCall": {"name": "pay", "willContinue": true}})),
        last(json!([{"functionCall": {}}]), "STOP"),
    ]);
    let choice = one(read_every_way(&stream, None));
    let expected = [call("call_r1_0", "book", r#"{"to":"Zürich","seats":[7]}"#), call("call_r1_1", "pay", "{}")];
    assert_eq!(choice.calls, expected);
    assert_eq!(choice.finish, finish(FinishReason::ToolCalls, "STOP"));
}

#[test]
fn the_answer_tool_speaks_as_text() {
    let stream = events(&[last(
        json!([{"functionCall": {"name": "final_answer", "args": {"ok": true}}, "thoughtSignature": "cw=="}]),
        "STOP",
    )]);
    let choice = one(read_every_way(&stream, Some("final_answer")));
    assert_eq!((choice.text.as_str(), choice.calls.len()), (r#"{"ok":true}"#, 0));
    assert_eq!(choice.reasoning, [encrypted("cw==", None)]);
    assert_eq!(choice.finish, finish(FinishReason::Stop, "STOP"));
    let in_pieces = events(&[
        part(json!({"functionCall": {"name": "final_answer", "willContinue": true}})),
        last(json!([{"functionCall": {"partialArgs": [{"jsonPath": "$.ok", "boolValue": true}]}}]), "STOP"),
    ]);
    assert_eq!(one(read_every_way(&in_pieces, Some("final_answer"))).text, r#"{"ok":true}"#);
}

#[test]
fn finish_reasons() {
    let cases = [
        ("STOP", FinishReason::Stop, FinishReason::ToolCalls),
        ("MAX_TOKENS", FinishReason::Length, FinishReason::Length),
        ("SAFETY", FinishReason::ContentFilter, FinishReason::ContentFilter),
        ("RECITATION", FinishReason::ContentFilter, FinishReason::ContentFilter),
        ("IMAGE_SAFETY", FinishReason::ContentFilter, FinishReason::ContentFilter),
        ("MODEL_ARMOR", FinishReason::ContentFilter, FinishReason::ContentFilter),
        ("MALFORMED_FUNCTION_CALL", FinishReason::Stop, FinishReason::ToolCalls),
        ("UNEXPECTED_TOOL_CALL", FinishReason::Stop, FinishReason::ToolCalls),
        ("OTHER", FinishReason::Stop, FinishReason::ToolCalls),
        ("A_REASON_OF_TOMORROW", FinishReason::Stop, FinishReason::ToolCalls),
    ];
    for (native, plain, beside_calls) in cases {
        let body = json!({"candidates": [{"finishReason": native}]}).to_string();
        assert_eq!(
            decode(body.as_bytes(), None).0.choices,
            [Choice { finish: finish(plain, native), ..Choice::default() }]
        );
        let body = last(json!([{"functionCall": {"name": "f"}}]), native).to_string();
        assert_eq!(decode(body.as_bytes(), None).0.choices[0].finish, finish(beside_calls, native));
    }
    for (number, native) in [(1, "STOP"), (2, "MAX_TOKENS"), (99, "99")] {
        let body = json!({"candidates": [{"content": {"role": "model"}, "finishReason": number}]}).to_string();
        assert_eq!(decode(body.as_bytes(), None).0.choices[0].finish.as_ref().unwrap().1, native);
    }
}

#[test]
fn a_finish_is_never_invented() {
    let stream =
        events(&[part(json!({"text": "half"})), last(json!([{"text": " whole"}]), "FINISH_REASON_UNSPECIFIED")]);
    let whole = read_every_way(&stream, None);
    assert_eq!(whole.choices[0].finish, None);
    let finished = events(&[last(json!([{"text": "whole"}]), "STOP")]);
    let (whole, outcome) = read([finished.as_bytes()], End::Cut, None);
    assert_eq!((whole.choices[0].finish.clone(), outcome), (None, Ok(())));
    let halves = json!({"candidates": [{"index": 0, "finishReason": "STOP"}, {"index": 1, "content": {"parts": [{"text": "x"}]}}]});
    let (whole, outcome) = decode(halves.to_string().as_bytes(), None);
    assert_eq!(whole.choices.iter().filter(|choice| choice.finish.is_some()).count(), 0);
    assert_eq!(outcome.unwrap_err().kind, FaultKind::Truncated);
}

#[test]
fn several_choices_keep_apart() {
    let stream = events(&[
        json!({"candidates": [{"content": {"parts": [{"text": "a"}]}}, {"content": {"parts": [{"text": "x"}]}, "index": 1}]}),
        json!({"candidates": [{"content": {"parts": [{"text": "y"}]}, "index": 1, "finishReason": "MAX_TOKENS"}]}),
        json!({"candidates": [{"content": {"parts": [{"text": "b"}]}, "finishReason": "STOP"}]}),
    ]);
    let whole = read_every_way(&stream, None);
    let told: Vec<_> =
        whole.choices.iter().map(|choice| (choice.text.as_str(), choice.finish.clone().unwrap().0)).collect();
    assert_eq!(told, [("ab", FinishReason::Stop), ("xy", FinishReason::Length)]);
}

#[test]
fn pictures_log_probabilities_and_sources() {
    let body = json!({"responseId": "r1", "modelVersion": "g", "candidates": [{
        "content": {"parts": [{"text": "Hé!"}, {"inlineData": {"mimeType": "image/png", "data": "aVZC"}}]},
        "finishReason": "STOP",
        "logprobsResult": {"chosenCandidates": [{"token": "Hé", "tokenId": 7, "logProbability": -0.5}, {"token": "!"}],
            "topCandidates": [{"candidates": [{"token": "Hé", "logProbability": -0.5}, {"token": "Ha", "logProbability": -2}]}]},
        "groundingMetadata": {"groundingChunks": [{"web": {"uri": "https://a.example/", "title": "A"}}],
            "groundingSupports": [{"segment": {"startIndex": 0, "endIndex": 4}, "groundingChunkIndices": [0]}]}}]});
    let choice = one(decode(body.to_string().as_bytes(), None).0);
    assert_eq!(choice.images, [("image/png".to_owned(), "aVZC".to_owned())]);
    assert_eq!(
        choice.logprobs,
        [
            json!({"token": "Hé", "logprob": -0.5, "bytes": [72, 195, 169], "top_logprobs": [
                {"token": "Hé", "logprob": -0.5, "bytes": [72, 195, 169]}, {"token": "Ha", "logprob": -2.0, "bytes": [72, 97]}]}),
            json!({"token": "!", "logprob": 0.0, "bytes": [33], "top_logprobs": []}),
        ]
    );
    let place = json!({"url": "https://a.example/", "title": "A", "start_index": 0, "end_index": 3});
    assert_eq!(choice.annotations, [json!({"type": "url_citation", "url_citation": place})]);
}

#[test]
fn a_blocked_prompt_is_a_fault_that_another_model_may_mend() {
    let body =
        json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 4}});
    for whole in [decode(body.to_string().as_bytes(), None).0, read_every_way(&events(&[body]), None)] {
        let fault = whole.error.unwrap();
        assert_eq!((fault.kind, fault.code.as_deref()), (FaultKind::ContentFilter, Some("PROHIBITED_CONTENT")));
        assert_eq!(whole.usage.unwrap().prompt_tokens, 4);
    }
    let harmless = json!({"promptFeedback": {"safetyRatings": []}});
    assert_eq!(decode(harmless.to_string().as_bytes(), None).0.error, None);
}

#[test]
fn errors_in_the_stream_with_and_without_framing() {
    let text = events(&[part(json!({"text": "one"}))]);
    let error = json!({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}});
    let bare = serde_json::to_string_pretty(&error).unwrap();
    let check = |whole: Whole| {
        let fault = whole.error.unwrap();
        assert_eq!((fault.status, fault.message.as_ref()), (Some(503), "The model is overloaded."));
    };
    for stream in [format!("{text}data: {error}\n\n{text}"), format!("{text}{bare}\n"), format!("data: {error}")] {
        check(read_every_way(&stream, None));
    }
    check(read_every_way(&bare, None));
    check(decode(bare.as_bytes(), None).0);
    check(decode(format!("[{bare}]").as_bytes(), None).0);
}

#[test]
fn other_framings_say_the_same() {
    let pieces = [part(json!({"text": "a [b] {c} \\ \""})), last(json!([{"text": "d"}]), "STOP")];
    let expected = read_every_way(&events(&pieces), None);
    let pretty: Vec<String> = pieces.iter().map(|piece| serde_json::to_string_pretty(piece).unwrap()).collect();
    let array = format!("[{}\n]\n", pretty.join("\n,\n"));
    assert_eq!(read_every_way(&array, None), expected);
    assert_eq!(decode(array.as_bytes(), None).0, expected);
    assert_eq!(decode(events(&pieces).as_bytes(), None).0, expected);
    let without_blank_lines: String = pieces.iter().map(|piece| format!("data: {piece}\n")).collect();
    assert_eq!(read_every_way(&without_blank_lines, None), expected);
    let with_end_mark = format!(": hello\n\n{}data: [DONE]\n\n", events(&pieces));
    assert_eq!(read_every_way(&with_end_mark, None), expected);
}

#[test]
fn broken_answers_are_faults() {
    let kind = |(_, outcome): (Whole, Result<(), Fault>)| outcome.unwrap_err().kind;
    let stream = |bytes: &str| kind(read([bytes.as_bytes()], End::Clean, None));
    assert_eq!(kind(decode(b"  ", None)), FaultKind::Empty);
    assert_eq!(kind(decode(b"<!DOCTYPE html>", None)), FaultKind::Malformed);
    assert_eq!(kind(decode(b"{\"candidates\": [{", None)), FaultKind::Malformed);
    assert_eq!(kind(decode(b"{} x", None)), FaultKind::Malformed);
    assert_eq!(stream("<html>"), FaultKind::Malformed);
    assert_eq!(stream("data: {\"candidates\"\n\n"), FaultKind::Malformed);
    assert_eq!(stream("data: {\"candidates\": [{\"index\": 5000}]}\n\n"), FaultKind::Malformed);
    assert_eq!(stream("[{}, 3]"), FaultKind::Malformed);
    assert_eq!(stream("[{\"candidates\": []}"), FaultKind::Truncated);
    assert_eq!(stream("{\"candidates\": [{\"finish"), FaultKind::Truncated);
    let nameless = part(json!({"functionCall": {"args": {}}}));
    assert_eq!(stream(&events(&[nameless])), FaultKind::Malformed);
    assert_eq!(read([&b""[..]], End::Clean, None), (Whole::default(), Ok(())));
}
