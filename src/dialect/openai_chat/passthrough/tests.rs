//! What passes, what is repaired, and what is refused.

use super::*;
use crate::dialect::client::Client;
use crate::dialect::table::Dialect;
use crate::domain::Usage;
use serde_json::Value;

fn setup(stream: bool, include_usage: bool, quirks: Quirks) -> Setup {
    Setup {
        client: Client::OpenAiChat,
        provider: Dialect::OpenAiChat,
        stream,
        array: false,
        choices: 1,
        include_usage,
        exclude_reasoning: false,
        input_tokens: 0,
        id: "chatcmpl-0a1b".into(),
        created: 7,
        model: "asked-for".into(),
        answer_tool: None,
        quirks,
        asked: None,
    }
}

struct Outcome {
    result: Result<(), Fault>,
    out: String,
    observed: Observed,
}

/// Runs a whole answer through the machine as the translator does, in the given pieces.
fn run_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, end: End, setup: &Setup) -> Outcome {
    let (mut machine, mut observed, mut out) = (Passthrough::new(setup), Observed::default(), Vec::new());
    let mut result = pieces.into_iter().try_for_each(|piece| {
        machine.push(piece, &mut observed, &mut out)?;
        observed.error.clone().map_or(Ok(()), Err)
    });
    if result.is_ok() {
        result = machine.finish(end, &mut observed, &mut out);
    }
    result = result.and_then(|()| observed.error.clone().map_or(Ok(()), Err));
    if result.is_ok() && !observed.is_finished() {
        result = Err(truncated());
    }
    if result.is_ok() {
        machine.close(&mut out);
    }
    Outcome { result, out: String::from_utf8(out).unwrap(), observed }
}

fn run(body: &str, setup: &Setup) -> Outcome {
    run_pieces([body.as_bytes()], End::Clean, setup)
}

/// A chunk with these choices, as a frame.
fn chunk(choices: &str) -> String {
    format!(
        "data: {{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":5,\"model\":\"m1\",\"choices\":{choices}}}\n\n"
    )
}

fn delta(delta: &str) -> String {
    chunk(&format!("[{{\"index\":0,\"delta\":{delta},\"finish_reason\":null}}]"))
}

fn finish(word: &str) -> String {
    chunk(&format!("[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{word}\"}}]"))
}

const USAGE: &str = "{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}";
const DONE: &str = "data: [DONE]\n\n";

fn usage_chunk() -> String {
    chunk("[]").replace("\"choices\":[]", &format!("\"choices\":[],\"usage\":{USAGE}"))
}

fn plain_stream() -> String {
    [delta("{\"role\":\"assistant\",\"content\":\"\"}"), delta("{\"content\":\"Hé\"}"), finish("stop")].concat()
}

#[test]
fn a_plain_stream_passes_byte_for_byte() {
    let stream = [plain_stream(), usage_chunk(), DONE.into()].concat();
    for quirks in [Quirks::NONE, Quirks::ALL_TOLERANT] {
        let outcome = run(&stream, &setup(true, true, quirks));
        assert_eq!(outcome.result, Ok(()));
        assert_eq!(outcome.out, stream);
        let usage = Usage { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5, ..Usage::default() };
        assert_eq!(outcome.observed.usage, Some(usage));
        assert_eq!((outcome.observed.choices_begun, outcome.observed.choices_finished), (1, 1));
    }
}

#[test]
fn usage_that_only_the_gateway_asked_for_is_taken_out() {
    let stream = [plain_stream(), usage_chunk(), DONE.into()].concat();
    let outcome = run(&stream, &setup(true, false, Quirks::NONE));
    assert_eq!(outcome.out, [plain_stream(), DONE.into()].concat());
    assert!(outcome.observed.usage.is_some());
}

#[test]
fn the_end_is_written_once_whether_or_not_the_provider_did() {
    for end in ["", DONE, "data: [DONE]", "data: [DONE]\n\ndata: [DONE]\n\n", "\n\n\n"] {
        let outcome = run(&[&plain_stream(), end].concat(), &setup(true, false, Quirks::NONE));
        assert_eq!(outcome.out, [&plain_stream(), DONE].concat(), "{end:?}");
    }
}

#[test]
fn prelude_is_no_output_and_comments_pass() {
    let (mut machine, mut observed, mut out) =
        (Passthrough::new(&setup(true, false, Quirks::NONE)), Observed::default(), Vec::new());
    let prelude = [": WORKING\n\n", &delta("{\"role\":\"assistant\",\"content\":\"\"}"), &chunk("[]")].concat();
    machine.push(prelude.as_bytes(), &mut observed, &mut out).unwrap();
    assert!(!observed.output);
    assert_eq!(out, prelude.as_bytes());
    machine.push(delta("{\"content\":\"x\"}").as_bytes(), &mut observed, &mut out).unwrap();
    assert!(observed.output);
    assert_eq!(observed.output_bytes, 1);
}

#[test]
fn every_kind_of_output_opens_the_gate() {
    for body in [
        "{\"content\":\"x\"}",
        "{\"refusal\":\"x\"}",
        "{\"reasoning\":\"x\"}",
        "{\"reasoning_content\":\"x\"}",
        "{\"reasoning_details\":[{\"type\":\"reasoning.encrypted\",\"data\":\"x\"}]}",
        "{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}",
        "{\"function_call\":{\"name\":\"f\"}}",
        "{\"audio\":{\"id\":\"a\"}}",
        "{\"images\":[{}]}",
        "{\"content\":[{\"type\":\"text\",\"text\":\"x\"}]}",
    ] {
        assert!(run(&delta(body), &setup(true, false, Quirks::ALL_TOLERANT)).observed.output, "{body}");
    }
    for body in
        ["{}", "{\"content\":null}", "{\"content\":\"\",\"reasoning\":\"\",\"refusal\":null}", "{\"annotations\":[ ]}"]
    {
        assert!(!run(&delta(body), &setup(true, false, Quirks::ALL_TOLERANT)).observed.output, "{body}");
    }
}

#[test]
fn an_error_in_a_stream_ends_the_attempt_with_its_kind() {
    let error = "{\"error\":{\"message\":\"slow down\",\"type\":\"rate_limit_error\",\"code\":429}}";
    for frame in [
        format!("data: {error}\n\n"),
        format!("event: error\ndata: {error}\n\n"),
        format!("{error}\n\n"),
        "data: {\"id\":\"c\",\"error\":{\"code\":429,\"message\":\"slow down\"},\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\
         \"finish_reason\":\"error\"}]}\n\n"
            .to_owned(),
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"error\",\"error\":{\"code\":429,\"message\":\"slow down\"}}]}\n\n"
            .to_owned(),
        "event: error\ndata: {\"message\":\"slow down\",\"status_code\":429}\n\n".to_owned(),
        "data: {\"object\":\"error\",\"message\":\"slow down\",\"code\":429}\n\n".to_owned(),
        "data: {\"error\":\"slow down\",\"error_type\":\"rate_limit\"}\n\n".to_owned(),
    ] {
        for before in [String::new(), delta("{\"content\":\"x\"}")] {
            let outcome = run(&[&before, frame.as_str()].concat(), &setup(true, true, Quirks::NONE));
            let fault = outcome.result.unwrap_err();
            assert_eq!((fault.kind, &*fault.message), (FaultKind::RateLimited, "slow down"), "{frame}");
            assert_eq!(outcome.out, before, "the error itself is not forwarded: {frame}");
        }
    }
    let outcome = run(&finish("insufficient_system_resource"), &setup(true, true, Quirks::NONE));
    assert_eq!(outcome.result.unwrap_err().kind, FaultKind::ServerError);
}

#[test]
fn what_is_no_stream_is_malformed() {
    for body in [
        "<html><title>502</title></html>\n\n",
        "\n <!doctype html>\n\n",
        "Internal Server Error\n\n",
        "data: {\"id\":\n\n",
        "data: x\n\n",
    ] {
        for before in [String::new(), delta("{\"content\":\"x\"}")] {
            let outcome = run(&[before.as_str(), body].concat(), &setup(true, false, Quirks::ALL_TOLERANT));
            assert_eq!(outcome.result.unwrap_err().kind, FaultKind::Malformed, "{before}{body}");
        }
    }
    let outcome = run_pieces([&b"data: {\"a\":\"\xff\"}\n\n"[..]], End::Clean, &setup(true, false, Quirks::NONE));
    assert_eq!(outcome.result.unwrap_err().kind, FaultKind::Malformed);
}

#[test]
fn a_stream_without_finish_reason_is_truncated_even_with_its_end() {
    let cut = delta("{\"content\":\"x\"}");
    for body in [
        cut.clone(),
        [&cut, DONE].concat(),
        [&cut, &usage_chunk(), DONE].concat(),
        [cut.as_str(), "data: {\"cho"].concat(),
    ] {
        let outcome = run(&body, &setup(true, false, Quirks::ALL_TOLERANT));
        assert_eq!(outcome.result.unwrap_err().kind, FaultKind::Truncated, "{body}");
        assert!(!outcome.out.contains("[DONE]"));
    }
    let second = chunk("[{\"index\":1,\"delta\":{\"content\":\"y\"}}]");
    let outcome = run(&[&second, &plain_stream(), DONE].concat(), &setup(true, false, Quirks::NONE));
    assert_eq!(outcome.result.unwrap_err().kind, FaultKind::Truncated, "the second choice never finished");
}

#[test]
fn chunks_that_share_a_frame_are_told_apart() {
    let joined = plain_stream().replace("\n\n", "\n");
    let outcome = run(&[&joined, "data: [DONE]\n\n"].concat(), &setup(true, false, Quirks::NONE));
    assert_eq!(outcome.result, Ok(()));
    assert_eq!(outcome.out, [&plain_stream(), DONE].concat());
}

#[test]
fn a_reasoning_field_gets_its_other_name_beside_it() {
    let stream = [
        delta("{\"role\":\"assistant\",\"reasoning\":\"a\\n\",\"reasoning_details\":[{\"type\":\"reasoning.text\"}]}"),
        delta("{\"reasoning\":\"b\",\"reasoning_content\":null}"),
        delta("{\"reasoning_content\":\"c\",\"reasoning\":\"c\"}"),
        delta("{\"reasoning\":null,\"content\":\"x\"}"),
        finish("stop"),
    ]
    .concat();
    let outcome = run(&stream, &setup(true, false, Quirks::REASONING));
    let expected = stream
        .replace("\"reasoning\":\"a\\n\",", "\"reasoning\":\"a\\n\",\"reasoning_content\":\"a\\n\",")
        .replace("\"reasoning_content\":null", "\"reasoning_content\":\"b\"");
    assert_eq!(outcome.out, expected + DONE);
    assert_eq!(outcome.observed.output_bytes, 3 + 1 + 1 + 1);
    assert_eq!(run(&stream, &setup(true, false, Quirks::NONE)).out, stream + DONE);
}

#[test]
fn excluded_reasoning_is_cut() {
    let stream = [
        delta("{\"reasoning\":\"a\",\"reasoning_details\":[{}],\"role\":\"assistant\",\"reasoning_content\":\"a\"}"),
        delta("{\"content\":\"x\",\"reasoning\":null}"),
        finish("stop"),
    ]
    .concat();
    let outcome = run(&stream, &Setup { exclude_reasoning: true, ..setup(true, false, Quirks::ALL_TOLERANT) });
    assert_eq!(
        outcome.out,
        [delta("{\"role\":\"assistant\"}"), delta("{\"content\":\"x\"}"), finish("stop"), DONE.into()].concat()
    );
}

#[test]
fn content_in_parts_becomes_text_and_reasoning() {
    let stream = [
        delta("{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":\"hm\\\"\"}]}]}"),
        delta("{\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}"),
        delta("{\"content\":[{\"type\":\"reference\",\"reference_ids\":[1]}]}"),
        finish("stop"),
    ]
    .concat();
    let outcome = run(&stream, &setup(true, false, Quirks::CONTENT_PARTS));
    let expected = [
        delta("{\"content\":\"\",\"reasoning_content\":\"hm\\\"\"}"),
        delta("{\"content\":\"ab\"}"),
        delta("{\"content\":\"\",\"content_parts\":[{\"type\":\"reference\",\"reference_ids\":[1]}]}"),
        finish("stop"),
        DONE.into(),
    ];
    assert_eq!(outcome.out, expected.concat());
}

/// Puts the calls of a stream together as a client does, by index.
fn calls_of(out: &str) -> Vec<(String, String, String)> {
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for line in out.lines().filter_map(|line| line.strip_prefix("data: {")) {
        let chunk: Value = serde_json::from_str(&format!("{{{line}")).unwrap();
        for call in chunk["choices"][0]["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().expect("every delta has an index") as usize;
            if index == calls.len() {
                assert_eq!(call["type"], "function");
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                calls.push((text(&call["id"]), text(&call["function"]["name"]), String::new()));
            }
            calls[index].2.push_str(call["function"]["arguments"].as_str().unwrap_or_default());
        }
    }
    calls
}

fn expect_calls(deltas: &[&str], expected: &[(&str, &str, &str)]) {
    let stream: String = deltas.iter().map(|calls| delta(&format!("{{\"tool_calls\":{calls}}}"))).collect();
    let outcome = run(&[&stream, &finish("stop"), DONE].concat(), &setup(true, false, Quirks::ALL_TOLERANT));
    assert_eq!(outcome.result, Ok(()));
    let calls = calls_of(&outcome.out);
    let calls: Vec<_> = calls.iter().map(|(id, name, arguments)| (&**id, &**name, &**arguments)).collect();
    assert_eq!(calls, expected, "{stream}");
    assert!(outcome.out.contains("\"finish_reason\":\"tool_calls\""), "stop beside calls means tool_calls");
}

#[test]
fn calls_without_index_id_type_or_arguments_are_repaired() {
    let whole = "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}";
    // Mistral: no index, no type, several at once or one after the other.
    expect_calls(
        &[&format!("[{{\"id\":\"a\",{whole}}},{{\"id\":\"b\",{whole}}}]"), &format!("[{{\"id\":\"c\",{whole}}}]")],
        &[("a", "f", "{}"), ("b", "f", "{}"), ("c", "f", "{}")],
    );
    // Google: blank ids, no index; two calls alike are two calls.
    expect_calls(
        &[&format!("[{{\"id\":\"\",\"type\":\"function\",{whole}}},{{\"id\":\"\",\"type\":\"function\",{whole}}}]")],
        &[("call_0a1b_0_0", "f", "{}"), ("call_0a1b_0_1", "f", "{}")],
    );
    // Ollama: index 0 for all of them.
    expect_calls(
        &[
            &format!("[{{\"index\":0,\"id\":\"a\",\"type\":\"function\",{whole}}}]"),
            &format!("[{{\"index\":0,\"id\":\"b\",\"type\":\"function\",{whole}}}]"),
        ],
        &[("a", "f", "{}"), ("b", "f", "{}")],
    );
    // In pieces without index; an index from 1; no arguments; arguments as an object.
    expect_calls(
        &[
            "[{\"function\":{\"name\":\"f\"}}]",
            "[{\"function\":{\"arguments\":\"{\\\"a\\\"\"}}]",
            "[{\"function\":{\"arguments\":\":1}\"}}]",
        ],
        &[("call_0a1b_0_0", "f", "{\"a\":1}")],
    );
    expect_calls(
        &[
            "[{\"index\":1,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]",
            "[{\"index\":1,\"id\":null,\"function\":{\"arguments\":\"{}\"}}]",
        ],
        &[("a", "f", "{}")],
    );
    expect_calls(
        &["[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]"],
        &[("a", "f", "{}")],
    );
    expect_calls(
        &["[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":null}}]"],
        &[("a", "f", "{}")],
    );
    expect_calls(
        &["[{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":{\"b\":\"\\n\"}}}]"],
        &[("a", "f", "{\"b\":\"\\n\"}")],
    );
}

#[test]
fn a_call_that_comes_with_the_finish_still_gets_arguments() {
    let stream = chunk(
        "[{\"index\":0,\"delta\":{\"tool_calls\":[{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]},\"finish_reason\":\"tool_calls\"}]",
    );
    let outcome = run(&stream, &setup(true, false, Quirks::TOOL_CALLS));
    assert_eq!(calls_of(&outcome.out), [("a".to_owned(), "f".to_owned(), "{}".to_owned())]);
}

#[test]
fn well_formed_calls_pass_untouched() {
    let stream = [
        delta("{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}"),
        delta("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{}\"}}]}"),
        delta("{\"tool_calls\":[{\"index\":1,\"id\":\"b\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}"),
        finish("tool_calls"),
        DONE.into(),
    ]
    .concat();
    assert_eq!(run(&stream, &setup(true, false, Quirks::ALL_TOLERANT)).out, stream);
}

#[test]
fn foreign_finish_words_are_translated_and_a_second_one_is_dropped() {
    for (word, ours) in [
        ("eos", "stop"),
        ("model_length", "length"),
        ("end_turn", "stop"),
        ("SAFETY", "content_filter"),
        ("odd", "odd"),
    ] {
        let outcome = run(&finish(word), &setup(true, false, Quirks::FINISH_WORDS));
        assert_eq!(outcome.out, finish(ours) + DONE);
        assert_eq!(run(&finish(word), &setup(true, false, Quirks::NONE)).out, finish(word) + DONE);
    }
    let outcome = run(&[finish("stop"), finish("stop")].concat(), &setup(true, false, Quirks::FINISH_WORDS));
    assert_eq!(outcome.out, [finish("stop"), delta("{}"), DONE.into()].concat());
    assert_eq!(outcome.observed.choices_finished, 1);
}

#[test]
fn usage_on_other_chunks_becomes_one_chunk_of_its_own() {
    let with = |text: String, counts: &str| text.replace("}\n\n", &format!(",\"usage\":{counts}}}\n\n"));
    let early = USAGE.replace('5', "4");
    let stream = [with(delta("{\"content\":\"x\"}"), &early), with(finish("stop"), USAGE)].concat();
    let (bare, own) = ([delta("{\"content\":\"x\"}"), finish("stop")].concat(), usage_chunk());
    for tail in ["", usage_chunk().as_str()] {
        let stream = [&stream, tail, DONE].concat();
        let outcome = run(&stream, &setup(true, true, Quirks::USAGE_IN_CHUNKS));
        assert_eq!(outcome.out, [&bare, &own, DONE].concat());
        let outcome = run(&stream, &setup(true, false, Quirks::USAGE_IN_CHUNKS));
        assert_eq!(outcome.out, [&bare, DONE].concat());
        assert_eq!(outcome.observed.usage.map(|usage| usage.total_tokens), Some(5));
    }
}

#[test]
fn a_stream_keeps_one_id_and_openais_word_for_a_chunk() {
    let stream = [
        "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"index\":0}],\"model\":\"m1\"}\n\n".to_owned(),
        delta("{\"content\":\"y\"}"),
        finish("stop").replace("c1", "c2").replace("completion.chunk", "completion.done"),
    ]
    .concat();
    let outcome = run(&stream, &setup(true, false, Quirks::CHUNK_FIELDS));
    let expected = [
        "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"delta\":{\"content\":\"x\"},\"index\":0}],\"model\":\"m1\"}\n\n".to_owned(),
        delta("{\"content\":\"y\"}"),
        finish("stop"),
        DONE.into(),
    ];
    assert_eq!(outcome.out, expected.concat());
}

#[test]
fn chunks_over_several_lines_are_repaired_into_one() {
    let stream = "data: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"reasoning\":\"a\"},\ndata: \"finish_reason\":\"stop\"}]}\n\n";
    let outcome = run(stream, &setup(true, false, Quirks::REASONING));
    assert_eq!(
        outcome.out,
        "data: {\"choices\":[{\"index\":0, \"delta\":{\"reasoning\":\"a\",\"reasoning_content\":\"a\"}, \"finish_reason\":\"stop\"}]}\n\n\
         data: [DONE]\n\n"
    );
}

const WHOLE: &str = "{\"id\":\"c1\",\"object\":\"chat.completion\",\"created\":5,\"model\":\"m1\",\"choices\":[{\"index\":0,\"message\":\
    {\"role\":\"assistant\",\"content\":\"Hé\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\
    \"total_tokens\":5}, \"x\": 1.50 }";

#[test]
fn a_whole_answer_passes_but_for_its_padding() {
    for quirks in [Quirks::NONE, Quirks::ALL_TOLERANT] {
        let outcome = run(&format!("\n\n   \n{WHOLE}\n"), &setup(false, false, quirks));
        assert_eq!((outcome.result, outcome.out.as_str()), (Ok(()), WHOLE));
        assert_eq!(outcome.observed.usage.map(|usage| usage.total_tokens), Some(5));
        assert!(outcome.observed.output && outcome.observed.is_finished());
    }
}

#[test]
fn a_whole_answer_is_refused_for_what_it_is() {
    for (body, kind) in [
        ("", FaultKind::Empty),
        ("  \n", FaultKind::Empty),
        ("<html>", FaultKind::Malformed),
        (&WHOLE[..WHOLE.len() - 9], FaultKind::Truncated),
        ("{\"choices\":[]}", FaultKind::Malformed),
        ("{\"id\":\"x\"}", FaultKind::Malformed),
        ("[]", FaultKind::Malformed),
        ("data: {\"choices\":[]}\n\n", FaultKind::Malformed),
        ("{\"choices\":[{\"index\":0,\"message\":{\"content\":\"x\"},\"finish_reason\":null}]}", FaultKind::Truncated),
        ("{\"choices\":[{\"index\":900,\"message\":{}}]}", FaultKind::Malformed),
        ("{\"error\":{\"message\":\"m\",\"code\":429}}", FaultKind::RateLimited),
        ("{\"object\":\"error\",\"message\":\"m\",\"code\":429}", FaultKind::RateLimited),
        (
            "{\"choices\":[{\"error\":{\"message\":\"m\",\"code\":429},\"finish_reason\":\"error\"}]}",
            FaultKind::RateLimited,
        ),
    ] {
        let outcome = run(body, &setup(false, false, Quirks::ALL_TOLERANT));
        assert_eq!(outcome.result.unwrap_err().kind, kind, "{body}");
        assert_eq!(outcome.out, "", "{body}");
    }
    let cut = run_pieces([WHOLE.as_bytes()], End::Cut, &setup(false, false, Quirks::NONE));
    assert_eq!(cut.result.unwrap_err().kind, FaultKind::Truncated);
}

#[test]
fn a_whole_answer_is_repaired() {
    let body = WHOLE.replace(
        "\"content\":\"Hé\"",
        "\"content\":[{\"type\":\"thinking\",\"thinking\":\"t\"},{\"type\":\"text\",\"text\":\"x\"}],\
         \"tool_calls\":[{\"id\":\"\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]",
    );
    let outcome = run(&body, &setup(false, false, Quirks::ALL_TOLERANT));
    let expected = WHOLE
        .replace(
            "\"content\":\"Hé\"",
            "\"content\":\"x\",\"reasoning_content\":\"t\",\
             \"tool_calls\":[{\"type\":\"function\",\"id\":\"call_0a1b_0_0\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]",
        )
        .replace("\"stop\"", "\"tool_calls\"");
    assert_eq!(outcome.out, expected);
}

#[test]
fn a_whole_answer_to_a_streams_request_becomes_a_stream() {
    let outcome = run(WHOLE, &setup(true, true, Quirks::NONE));
    assert_eq!(outcome.result, Ok(()));
    let deltas: Vec<&str> = outcome.out.split_terminator("\n\n").collect();
    assert_eq!(deltas.len(), 5, "{}", outcome.out);
    assert!(deltas[1].contains("\"content\":\"Hé\"") && deltas[2].contains("\"finish_reason\":\"stop\""));
    assert!(deltas[3].contains("\"choices\":[],\"usage\":{\"prompt_tokens\":3") && deltas[4] == "data: [DONE]");
    assert!(deltas[..4].iter().all(|frame| frame.contains("\"id\":\"c1\"") && frame.contains("\"model\":\"m1\"")));
    let outcome = run("{\"error\":{\"message\":\"m\",\"code\":429}}", &setup(true, true, Quirks::NONE));
    assert_eq!((outcome.result.unwrap_err().kind, outcome.out.as_str()), (FaultKind::RateLimited, ""));
    let outcome = run(&WHOLE.replace("\"stop\"", "null"), &setup(true, true, Quirks::NONE));
    assert_eq!(outcome.result.unwrap_err().kind, FaultKind::Truncated);
    assert!(!outcome.out.contains("[DONE]"));
}

#[test]
fn a_broken_stream_says_so_and_does_not_end() {
    let mut machine = Passthrough::new(&setup(true, false, Quirks::NONE));
    let (mut observed, mut out) = (Observed::default(), Vec::new());
    machine.push(delta("{\"content\":\"x\"}").as_bytes(), &mut observed, &mut out).unwrap();
    out.clear();
    machine.break_off(&Fault::new(FaultKind::Reset, "the \"line\" broke"), &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":5,\"model\":\"m1\",\"error\":{\"code\":\"reset\",\
         \"message\":\"the \\\"line\\\" broke\",\"metadata\":{\"reason\":\"reset\"}},\"choices\":[{\"index\":0,\"delta\":{},\
         \"finish_reason\":\"error\"}]}\n\n"
    );
}

mod robustness;

#[test]
fn a_stream_without_its_end_mark_needs_a_finish_reason_for_every_choice_that_was_asked_for() {
    let two = Setup { choices: 2, ..setup(true, false, Quirks::default()) };
    let choice = |index: u32| {
        chunk(&format!("[{{\"index\":{index},\"delta\":{{\"content\":\"a\"}},\"finish_reason\":\"stop\"}}]"))
    };
    let one = choice(0);
    assert!(run(&one, &two).result.is_err(), "the second choice is missing");
    assert!(run(&format!("{one}{}", choice(1)), &two).result.is_ok());
    // Some providers give one choice whatever was asked for, and say that this is all.
    assert!(run(&format!("{one}data: [DONE]\n\n"), &two).result.is_ok());
}

#[test]
fn an_answer_that_is_too_large_to_be_held_passes_as_it_comes() {
    let setup = setup(false, false, Quirks::default());
    let (first, rest) = (r#"{"choices":[{"message":{"content":"}\"{"#, r#"]"},"finish_reason":"stop"}]}"#);
    let whole = |rest: &str| {
        let (mut machine, mut observed, mut out) = (Passthrough::new(&setup), Observed::default(), Vec::new());
        machine.push(first.as_bytes(), &mut observed, &mut out).unwrap();
        assert!(out.is_empty());
        assert!(machine.let_flow(&mut observed, &mut out));
        assert_eq!(out, first.as_bytes());
        machine.push(rest.as_bytes(), &mut observed, &mut out).unwrap();
        (machine.finish(End::Clean, &mut observed, &mut out).is_ok(), observed.is_finished(), out)
    };
    assert_eq!(whole(rest), (true, true, format!("{first}{rest}").into_bytes()));
    let (complete, finished, _) = whole(&rest[..rest.len() - 1]);
    assert!(!complete && !finished, "it broke off before it was closed");
}
