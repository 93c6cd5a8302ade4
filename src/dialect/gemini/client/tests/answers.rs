//! The hub's events as Google's answers.

use super::*;
use crate::dialect::chat::{FORMAT_ANTHROPIC, FORMAT_GEMINI};
use crate::dialect::client::ErrorAnswer;
use crate::dialect::event::{Event, FinishReason, ReasoningDelta, ReasoningPiece};
use crate::dialect::gemini::client::response::UnaryEncoder;
use crate::dialect::gemini::client::stream::StreamEncoder;
use crate::dialect::gemini::client::thoughts::Sealed;
use crate::dialect::generated::{STOP, call, finish, generated, input, text, thought};
use crate::domain::{Fault, FaultKind, Usage};
use proptest::prelude::*;

fn streamed(events: &[Event<'_>], array: bool, hides: bool) -> Vec<Value> {
    let setup = Setup { exclude_reasoning: hides, ..setup(Dialect::OpenAiChat, true, array) };
    let mut encoder = StreamEncoder::new(&setup);
    let mut out = Vec::new();
    for event in events {
        encoder.write(event, &mut out);
    }
    encoder.close(&mut out);
    answers(&out, array)
}

fn whole(events: &[Event<'_>], hides: bool) -> Value {
    let setup = Setup { exclude_reasoning: hides, ..setup(Dialect::OpenAiChat, false, false) };
    let mut encoder = UnaryEncoder::new(&setup);
    let mut out = Vec::new();
    for event in events {
        encoder.add(event);
    }
    encoder.close(&mut out);
    serde_json::from_slice(&out).unwrap()
}

/// All framings of an answer, which must be the same answer.
#[track_caller]
fn answer_of(events: &[Event<'_>], hides: bool) -> Value {
    let answer = whole(events, hides);
    for array in [false, true] {
        assert_eq!(assemble(&streamed(events, array, hides)), answer, "array={array}");
    }
    answer
}

#[track_caller]
fn answer(events: &[Event<'_>]) -> Value {
    answer_of(events, false)
}

#[track_caller]
fn parts(events: &[Event<'_>]) -> Value {
    answer(events)["candidates"][0]["content"]["parts"].clone()
}

fn proof<'a>(id: &'a str, format: &'static str, data: &'a str) -> Event<'a> {
    let piece = ReasoningPiece::Encrypted(data);
    Event::Reasoning { choice: 0, delta: ReasoningDelta { index: 7, id: Some(id), format, piece } }
}

#[test]
fn a_text_with_its_counts() {
    let usage = Usage {
        prompt_tokens: 100,
        completion_tokens: 7,
        total_tokens: 107,
        cached_tokens: Some(60),
        reasoning_tokens: Some(3),
        audio_prompt_tokens: Some(40),
        ..Usage::default()
    };
    let events = [Event::Start { id: "x-1", model: "m" }, text("Hel"), text("lo"), STOP, Event::Usage(usage)];
    let expected = json!({
        "candidates": [{"content": {"parts": [{"text": "Hello"}], "role": "model"}, "index": 0, "finishReason": "STOP"}],
        "usageMetadata": {
            "promptTokenCount": 100, "candidatesTokenCount": 4, "totalTokenCount": 107, "thoughtsTokenCount": 3,
            "cachedContentTokenCount": 60,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 60}, {"modality": "AUDIO", "tokenCount": 40}],
        },
        "modelVersion": "m", "responseId": "x-1",
    });
    assert_eq!(answer(&events), expected);
}

#[test]
fn a_provider_without_id_and_model_gets_ours() {
    let answer = answer(&[Event::Start { id: "", model: "" }, text("x"), STOP]);
    assert_eq!((&answer["responseId"], &answer["modelVersion"]), (&json!("made"), &json!("a-model")));
}

#[test]
fn an_empty_answer_is_an_answer_with_a_part() {
    assert_eq!(parts(&[Event::Start { id: "i", model: "m" }, STOP]), json!([{"text": ""}]));
}

#[test]
fn thoughts_keep_whose_they_are() {
    let events = [
        thought(0, "", ReasoningPiece::Text("nobody's ")),
        thought(1, FORMAT_ANTHROPIC, ReasoningPiece::Text("a")),
        thought(1, FORMAT_ANTHROPIC, ReasoningPiece::Text("b")),
        thought(1, FORMAT_ANTHROPIC, ReasoningPiece::Signature("EqQB")),
        thought(2, FORMAT_ANTHROPIC, ReasoningPiece::Encrypted("EvAF")),
        text("c"),
        thought(3, FORMAT_GEMINI, ReasoningPiece::Text("d")),
        thought(3, FORMAT_GEMINI, ReasoningPiece::Signature("AQ==")),
        text("e"),
        thought(4, FORMAT_GEMINI, ReasoningPiece::Encrypted("Ag==")),
        STOP,
    ];
    let signed = Sealed::Signature { format: FORMAT_ANTHROPIC.into(), length: 2, data: "EqQB".into() };
    let hidden = Sealed::Encrypted { format: FORMAT_ANTHROPIC.into(), id: None, data: "EvAF".into() };
    let expected = json!([
        {"text": "nobody's ab", "thought": true, "thoughtSignature": signed.seal()},
        {"text": "", "thought": true, "thoughtSignature": hidden.seal()},
        {"text": "c"},
        {"text": "d", "thought": true, "thoughtSignature": "AQ=="},
        {"text": "e", "thoughtSignature": "Ag=="},
    ]);
    assert_eq!(parts(&events), expected);
    // Sent back, each is what it was.
    let body = json!({"model": "m", "contents": [
        {"role": "user", "parts": [{"text": "x"}]}, {"role": "model", "parts": expected}, {"parts": [{"text": "y"}]}]});
    let request = Client::Gemini.parse(body.to_string().as_bytes()).unwrap();
    let formats: Vec<_> = request.messages[1].reasoning.iter().map(|detail| detail.format.as_deref()).collect();
    let (anthropic, google) = (Some(FORMAT_ANTHROPIC), Some(FORMAT_GEMINI));
    assert_eq!(formats, [None, anthropic, anthropic, google, google]);
}

#[test]
fn thoughts_that_are_not_shown_leave_their_proofs() {
    let events = [
        thought(0, "", ReasoningPiece::Text("nobody's")),
        thought(1, FORMAT_ANTHROPIC, ReasoningPiece::Text("a")),
        thought(1, FORMAT_ANTHROPIC, ReasoningPiece::Signature("EqQB")),
        thought(2, FORMAT_GEMINI, ReasoningPiece::Text("g")),
        thought(2, FORMAT_GEMINI, ReasoningPiece::Signature("AQ==")),
        text("c"),
        STOP,
    ];
    let answer = answer_of(&events, true);
    let sealed = Sealed::Hidden { format: FORMAT_ANTHROPIC.into(), text: "a".into(), data: "EqQB".into() };
    let expected = json!([{"text": "", "thought": true, "thoughtSignature": sealed.seal()}, {"text": "c"}]);
    assert_eq!(answer["candidates"][0]["content"]["parts"], expected);
}

#[test]
fn calls_are_whole_and_in_their_order() {
    let events = [
        call(0, "a"),
        call(1, "b"),
        input(0, "{\"x\":"),
        input(1, "{\"y\":\"}\"}"),
        input(0, "1}"),
        call(2, "c"),
        finish(FinishReason::ToolCalls, "tool_calls"),
    ];
    let answer = answer(&events);
    // Google's newest models are told that the first was not theirs.
    let expected = json!([
        {"functionCall": {"id": "a", "name": "look", "args": {"x": 1}}, "thoughtSignature": Sealed::Call.seal()},
        {"functionCall": {"id": "b", "name": "look", "args": {"y": "}"}}},
        {"functionCall": {"id": "c", "name": "look", "args": {}}},
    ]);
    assert_eq!(answer["candidates"][0]["content"]["parts"], expected);
    assert_eq!(answer["candidates"][0]["finishReason"], "STOP");
    // The first two are not held back until the end.
    assert_eq!(streamed(&events[..5], false, false).len(), 3);
}

#[test]
fn googles_signatures_stand_on_their_calls() {
    let events = [
        proof("b", FORMAT_GEMINI, "AQ=="),
        call(0, "a"),
        input(0, "{}"),
        call(1, "b"),
        input(1, "{}"),
        finish(FinishReason::ToolCalls, "STOP"),
    ];
    let expected = json!([
        {"functionCall": {"id": "a", "name": "look", "args": {}}},
        {"functionCall": {"id": "b", "name": "look", "args": {}}, "thoughtSignature": "AQ=="},
    ]);
    assert_eq!(parts(&events), expected);
}

#[test]
fn a_call_that_was_cut_is_an_object_all_the_same() {
    let events = [call(0, "a"), input(0, "{\"x\": [1,"), finish(FinishReason::Length, "length")];
    let answer = answer(&events);
    let args = &answer["candidates"][0]["content"]["parts"][0]["functionCall"]["args"];
    assert_eq!(args, &json!({"INVALID_JSON": "{\"x\": [1,"}));
    assert_eq!(answer["candidates"][0]["finishReason"], "MAX_TOKENS");
}

#[test]
fn finish_reasons() {
    use FinishReason::{ContentFilter, Length, Stop, ToolCalls};
    for (reason, native, expected) in [
        (Stop, "stop", "STOP"),
        (Stop, "end_turn", "STOP"),
        (Stop, "MALFORMED_FUNCTION_CALL", "MALFORMED_FUNCTION_CALL"),
        (Stop, "COMPLETE", "STOP"),
        (Stop, "MAX_TOKENS", "STOP"),
        (Length, "MAX_TOKENS", "MAX_TOKENS"),
        (Length, "length", "MAX_TOKENS"),
        (ToolCalls, "TOOL_CALL", "STOP"),
        (ContentFilter, "content_filter", "SAFETY"),
        (ContentFilter, "RECITATION", "RECITATION"),
    ] {
        assert_eq!(answer(&[text("x"), finish(reason, native)])["candidates"][0]["finishReason"], expected, "{native}");
    }
    let refused = answer(&[Event::Refusal { choice: 0, text: "No." }, STOP]);
    let candidate = &refused["candidates"][0];
    assert_eq!(
        (&candidate["content"]["parts"][0]["text"], &candidate["finishReason"]),
        (&json!("No."), &json!("SAFETY"))
    );
}

#[test]
fn pictures_pages_probabilities_and_choices() {
    let cited = json!({"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A", "start_index": 0, "end_index": 5}});
    let named =
        json!({"type": "url_citation", "url_citation": {"url": "https://b.example", "start_index": 0, "end_index": 0}});
    let token = |token: &str| json!({"token": token, "logprob": -0.5, "bytes": [1], "top_logprobs": [{"token": token, "logprob": -0.5}]});
    let (one, two) = ([token("Ü")], [token("b")]);
    let events = [
        text("Über"),
        Event::Logprobs { choice: 0, content: &one },
        text(" x"),
        Event::Logprobs { choice: 0, content: &two },
        Event::Image { choice: 0, media_type: "image/png", data: "aVZC" },
        Event::Annotation { choice: 0, value: &cited },
        Event::Annotation { choice: 0, value: &cited },
        Event::Annotation { choice: 0, value: &named },
        Event::Text { choice: 1, text: "other" },
        STOP,
        Event::Finish { choice: 1, reason: FinishReason::Length, native: "length" },
    ];
    let answer = answer(&events);
    let [first, second] = answer["candidates"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    let picture = json!({"inlineData": {"mimeType": "image/png", "data": "aVZC"}});
    assert_eq!(first["content"]["parts"], json!([{"text": "Über x"}, picture]));
    let segment = json!({"segment": {"startIndex": 0, "endIndex": 6}, "groundingChunkIndices": [0]});
    let pages = json!([
        {"web": {"uri": "https://a.example", "title": "A"}},
        {"web": {"uri": "https://b.example", "title": "https://b.example"}},
    ]);
    assert_eq!(first["groundingMetadata"], json!({"groundingChunks": pages, "groundingSupports": [segment, segment]}));
    let item = |token: &str| json!({"token": token, "logProbability": -0.5});
    let result = json!({
        "topCandidates": [{"candidates": [item("Ü")]}, {"candidates": [item("b")]}],
        "chosenCandidates": [item("Ü"), item("b")],
    });
    assert_eq!(first["logprobsResult"], result);
    assert_eq!((&second["index"], &second["finishReason"]), (&json!(1), &json!("MAX_TOKENS")));
}

#[test]
fn a_stream_that_breaks_off_ends_with_an_error() {
    for array in [false, true] {
        for begun in [false, true] {
            let mut encoder = StreamEncoder::new(&setup(Dialect::OpenAiChat, true, array));
            let mut out = Vec::new();
            if begun {
                encoder.write(&text("x"), &mut out);
            }
            encoder.break_off(&Fault::new(FaultKind::Reset, "it broke"), &mut out);
            let answers = answers(&out, array);
            assert_eq!(answers.len(), 1 + usize::from(begun));
            let last = answers.last().unwrap();
            let details =
                json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "reset", "domain": "orbyt"}]);
            assert_eq!(
                last,
                &json!({"error": {"code": 503, "message": "it broke", "status": "UNAVAILABLE", "details": details}})
            );
            // The client for Python knows an error by its first bytes.
            assert!(last.to_string().starts_with("{\"error\":"));
            assert!(answers.iter().all(|answer| answer["candidates"][0].get("finishReason").is_none()));
        }
    }
}

#[test]
fn errors_in_googles_form() {
    let told = |status, code, param| {
        let metadata = json!({"attempts": [1], "plain": "text"});
        let (error_type, message, request_id) = ("t", "m", "req_1");
        let error = ErrorAnswer { status, error_type, code, param, message, metadata: Some(&metadata), request_id };
        serde_json::from_slice::<Value>(&Client::Gemini.error(&error)).unwrap()["error"].clone()
    };
    for (status, word) in [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (402, "FAILED_PRECONDITION"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (405, "UNIMPLEMENTED"),
        (413, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (502, "UNAVAILABLE"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
    ] {
        let error = told(status, None, None);
        assert_eq!((&error["code"], &error["status"], &error["message"]), (&json!(status), &json!(word), &json!("m")));
    }
    let details = told(400, Some("c"), Some("contents[0]"))["details"].clone();
    let kind = |name: &str| format!("type.googleapis.com/google.rpc.{name}");
    let expected = json!([
        {"@type": kind("ErrorInfo"), "reason": "c", "domain": "orbyt", "metadata": {"attempts": "[1]", "plain": "text"}},
        {"@type": kind("BadRequest"), "fieldViolations": [{"field": "contents[0]", "description": "m"}]},
        {"@type": kind("RequestInfo"), "requestId": "req_1"},
    ]);
    assert_eq!(details, expected);
}

proptest! {
    /// Whatever comes in whatever order: all framings are one answer, no text is lost, no call is mixed up with another.
    #[test]
    fn a_stream_put_together_equals_the_whole_answer(generated in generated(), hides: bool) {
        let answer = answer_of(&generated.events(), hides);
        let parts = answer["candidates"][0]["content"]["parts"].as_array().unwrap();
        let said: String = parts
            .iter()
            .filter(|part| part["thought"] != true)
            .filter_map(|part| part["text"].as_str())
            .collect();
        prop_assert_eq!(said, generated.text());
        let made: Vec<(String, Value)> = parts
            .iter()
            .filter_map(|part| part.get("functionCall"))
            .map(|call| (call["id"].as_str().unwrap().to_owned(), call["args"].clone()))
            .collect();
        prop_assert_eq!(made, generated.calls);
    }
}
