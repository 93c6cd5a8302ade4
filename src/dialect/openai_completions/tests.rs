//! Text completions: what is read of a request, what becomes of an answer, and that both forms of it say the same.

use super::envelope::{generated, scan, with_plain_prompt};
use super::request::parse;
use crate::dialect::chat::{PartKind, Request, Role};
use crate::dialect::client::Client;
use crate::dialect::event::End;
use crate::dialect::openai_chat::envelope::Envelope;
use crate::dialect::openai_chat::quirks::Quirks;
use crate::dialect::table::{Dialect, Setup, Translator};
use crate::domain::decision::Parameter;
use crate::domain::{Fault, FaultKind};
use serde_json::{Value, json};

mod passing;
mod properties;

fn setup(provider: Dialect, stream: bool, quirks: Quirks) -> Setup {
    Setup {
        client: Client::OpenAiCompletions,
        provider,
        stream,
        array: false,
        choices: 1,
        include_usage: true,
        exclude_reasoning: false,
        input_tokens: 0,
        id: "cmpl-0a1b".into(),
        created: 7,
        model: "asked-for".into(),
        answer_tool: None,
        quirks,
        asked: None,
    }
}

/// What the client gets of a provider's bytes, and how it ends.
fn run<'a>(setup: &Setup, pieces: impl IntoIterator<Item = &'a [u8]>) -> (String, Result<(), Fault>) {
    let (mut translator, mut out) = (Translator::new(setup.clone()), Vec::new());
    let pushed = pieces.into_iter().try_for_each(|piece| translator.push(piece, &mut out));
    let outcome = pushed.and_then(|()| translator.finish(End::Clean, &mut out));
    (String::from_utf8(out).unwrap(), outcome)
}

/// The chunks of a stream that ends as it should.
fn chunks(stream: &str) -> Vec<Value> {
    let rest = stream.strip_suffix("data: [DONE]\n\n").expect(stream);
    let data = rest.split_terminator("\n\n").filter_map(|frame| frame.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// A stream put together as clients do: the text and the reason of each choice, and the counts.
fn together(stream: &str) -> (Vec<(String, Value)>, Value) {
    let (mut choices, mut usage): (Vec<(String, Value)>, Value) = (Vec::new(), Value::Null);
    for chunk in chunks(stream) {
        assert_eq!(chunk["object"], "text_completion", "{chunk}");
        for choice in chunk["choices"].as_array().unwrap() {
            let at = choice["index"].as_u64().unwrap() as usize;
            if choices.len() <= at {
                choices.resize(at + 1, (String::new(), Value::Null));
            }
            choices[at].0.push_str(choice["text"].as_str().unwrap());
            if !choice["finish_reason"].is_null() {
                choices[at].1 = choice["finish_reason"].clone();
            }
        }
        if !chunk["usage"].is_null() {
            usage = chunk["usage"].clone();
        }
    }
    (choices, usage)
}

/// The same of a whole answer.
fn taken_apart(body: &str) -> (Vec<(String, Value)>, Value) {
    let answer: Value = serde_json::from_str(body).unwrap();
    assert_eq!(answer["object"], "text_completion", "{answer}");
    let choice = |choice: &Value| (choice["text"].as_str().unwrap().to_owned(), choice["finish_reason"].clone());
    (answer["choices"].as_array().unwrap().iter().map(choice).collect(), answer["usage"].clone())
}

fn envelope(body: &Value) -> Envelope {
    scan(body.to_string().into()).unwrap()
}

#[test]
fn reads_what_the_gateway_acts_on() {
    let seen = envelope(&json!({"model": "m", "prompt": "abcdefgh", "stream": true, "max_tokens": 9, "user": "u",
        "stream_options": {"include_usage": true}, "n": 2, "extra": {"retry": 2}}));
    assert_eq!((seen.model.as_str(), seen.stream, seen.include_usage, seen.max_tokens), ("m", true, true, Some(9)));
    assert_eq!((seen.n, seen.user.as_deref(), seen.extensions.retry), (Some(2), Some("u"), Some(2)));
    assert_eq!((seen.beyond_chat.len(), seen.estimated_input_tokens), (0, 2));
    for (prompt, choices, tokens) in
        [(json!(["abcd", "abcdefgh"]), Some(2), 3), (json!([1, 2, 3]), None, 3), (json!([[1, 2], [3]]), Some(2), 3)]
    {
        let seen = envelope(&json!({"model": "m", "prompt": prompt}));
        assert_eq!((seen.n, seen.estimated_input_tokens), (choices, tokens), "{prompt}");
    }
    let seen = envelope(&json!({"model": "m", "prompt": ["a", "b"], "n": 3}));
    assert_eq!(seen.n, Some(6));
    assert_eq!(generated(&seen), 6);
    let best = envelope(&json!({"model": "m", "prompt": ["a", "b"], "n": 3, "best_of": 5}));
    assert_eq!((best.n, generated(&best)), (Some(6), 10), "what is thrown away is paid for too");
}

#[test]
fn knows_what_has_no_word_in_a_chat() {
    let of = |members: Value| {
        let mut body = json!({"model": "m", "prompt": "x"});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        envelope(&body).beyond_chat
    };
    for (members, parameter) in [
        (json!({"prompt": ["a", "b"]}), Parameter::Prompt),
        (json!({"prompt": [1, 2]}), Parameter::Prompt),
        (json!({"prompt": [[1, 2]]}), Parameter::Prompt),
        (json!({"prompt": null}), Parameter::Prompt),
        (json!({"suffix": "x"}), Parameter::Suffix),
        (json!({"echo": true}), Parameter::Echo),
        (json!({"best_of": 2}), Parameter::BestOf),
        (json!({"logprobs": 0}), Parameter::Logprobs),
    ] {
        assert_eq!(of(members.clone()), [parameter], "{members}");
        let mut body = json!({"model": "m", "prompt": "x"});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let fault = parse(body.to_string().as_bytes()).unwrap_err();
        assert_eq!(fault.param.as_deref(), Some(parameter.name()), "{members}");
    }
    for members in [
        json!({"prompt": ["a"]}),
        json!({"suffix": null, "echo": false, "best_of": 1, "logprobs": null}),
        json!({"suffix": "", "best_of": 2, "n": 2, "logprobs": false}),
    ] {
        assert_eq!(of(members.clone()), [], "{members}");
    }
    let all = json!({"prompt": [1], "suffix": "x", "echo": true, "best_of": 2, "logprobs": 1});
    let named: Vec<&str> = of(all).into_iter().map(Parameter::name).collect();
    assert_eq!(named, ["prompt", "suffix", "echo", "best_of", "logprobs"]);
}

#[test]
fn one_text_is_taken_out_of_its_list() {
    for (body, plain) in [
        (r#"{"prompt" : [ "a\"]" ], "x":1}"#, r#"{"prompt" : "a\"]", "x":1}"#),
        (r#"{"prompt":"a"}"#, r#"{"prompt":"a"}"#),
        (r#"{"prompt":["a","b"]}"#, r#"{"prompt":["a","b"]}"#),
        (r#"{"prompt":[]}"#, r#"{"prompt":[]}"#),
        (r#"{"x":["a"]}"#, r#"{"x":["a"]}"#),
    ] {
        assert_eq!(String::from_utf8(with_plain_prompt(body.into())).unwrap(), plain);
    }
}

#[test]
fn a_wrong_request_names_its_member() {
    for (body, param) in [
        (json!({"prompt": "x"}), "model"),
        (json!({"model": "m", "prompt": 3}), "prompt"),
        (json!({"model": "m", "prompt": {}}), "prompt"),
        (json!({"model": "m", "prompt": []}), "prompt"),
        (json!({"model": "m", "prompt": ["a", 1]}), "prompt"),
        (json!({"model": "m", "prompt": [1.5]}), "prompt"),
        (json!({"model": "m", "prompt": [null]}), "prompt"),
        (json!({"model": "m", "prompt": "x", "n": "two"}), "n"),
        (json!({"model": "m", "prompt": "x", "best_of": -1}), "best_of"),
        (json!({"model": "m", "prompt": "x", "stream": 1}), "stream"),
        (json!({"model": "m", "prompt": "x", "max_tokens": "9"}), "max_tokens"),
    ] {
        assert_eq!(scan(body.to_string().into()).unwrap_err().param.as_deref(), Some(param), "{body}");
    }
    for name in ["messages", "tools", "functions", "tool_choice"] {
        let body = json!({"model": "m", "prompt": "x", name: []});
        assert_eq!(parse(body.to_string().as_bytes()).unwrap_err().param.as_deref(), Some(name));
    }
}

#[test]
fn a_prompt_is_what_a_user_says() {
    for prompt in [json!("say it"), json!(["say it"])] {
        let body = json!({"model": "m", "prompt": prompt, "max_tokens": 9, "temperature": 0.5, "stop": ["x"], "n": 2,
            "seed": 3, "suffix": null, "echo": false, "best_of": 1, "logprobs": null, "presence_penalty": 1,
            "logit_bias": {"1": 2}, "stream": true, "stream_options": {"include_usage": true}, "user": "u"});
        let request = parse(body.to_string().as_bytes()).unwrap();
        let [message] = request.messages.as_slice() else { panic!("{request:?}") };
        let PartKind::Text(text) = &message.parts[0].kind else { panic!("{message:?}") };
        assert_eq!((message.role, message.parts.len(), text.as_str()), (Role::User, 1, "say it"));
        assert_eq!(request.rest.keys().collect::<Vec<_>>(), ["logit_bias"]);
        let expected = Request {
            messages: request.messages.clone(),
            rest: request.rest.clone(),
            max_tokens: Some(9),
            temperature: Some(0.5),
            stop: vec!["x".to_owned()],
            n: Some(2),
            seed: Some(3),
            presence_penalty: Some(1.0),
            stream: true,
            include_usage: true,
            user: Some("u".to_owned()),
            ..Request::default()
        };
        assert_eq!(request, expected);
    }
}

#[test]
fn only_the_model_the_usage_and_the_gateways_own_members_change() {
    let body = r#"{ "model" : "a/b",  "extra":{"retry":1}, "prompt":[[1, 2]], "unknown": [1.0e5], "max_tokens": 3 }"#;
    let seen = scan(body.into()).unwrap();
    for quirks in [Quirks::NONE, Quirks::MAX_COMPLETION_TOKENS, Quirks::MAX_TOKENS] {
        let passed = String::from_utf8(seen.passthrough_body("b", quirks)).unwrap();
        assert_eq!(passed, r#"{ "model" : "b", "prompt":[[1, 2]], "unknown": [1.0e5], "max_tokens": 3 }"#);
    }
    let seen = envelope(&json!({"model": "m", "prompt": "x", "stream": true}));
    let passed: Value = serde_json::from_slice(&seen.passthrough_body("m", Quirks::NONE)).unwrap();
    assert_eq!(passed["stream_options"], json!({"include_usage": true}));
    let passed: Value = serde_json::from_slice(&seen.passthrough_body("m", Quirks::NO_STREAM_OPTIONS)).unwrap();
    assert_eq!(passed.get("stream_options"), None);
}

#[test]
fn a_preset_speaks_in_the_words_of_the_format() {
    use crate::dialect::openai_chat::envelope::Defaults;
    let members = [("max_completion_tokens".to_owned(), "9".to_owned()), ("temperature".to_owned(), "0.5".to_owned())];
    let defaults = Defaults { model: Some("n"), system: None, members: &members };
    let seen = envelope(&json!({"model": "m", "prompt": "x"}));
    let told: Value = serde_json::from_slice(seen.with_defaults(&defaults).unwrap().body()).unwrap();
    assert_eq!(told, json!({"model": "n", "prompt": "x", "max_tokens": 9, "temperature": 0.5}));
    let tools = [("tools".to_owned(), "[]".to_owned())];
    let refused = seen.with_defaults(&Defaults { members: &tools, ..defaults }).unwrap_err();
    assert!(refused.message.contains("tools"), "{}", refused.message);
    let refused = seen.with_defaults(&Defaults { system: Some("be brief"), ..defaults }).unwrap_err();
    assert!(refused.message.contains("system prompt"), "{}", refused.message);
}

#[test]
fn a_chats_answer_becomes_a_text() {
    let chat = json!({"id": "chatcmpl-1", "model": "m1", "created": 5, "object": "chat.completion", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "one \"two\"", "reasoning_content": "hm"},
         "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": null, "refusal": "no"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}});
    let (body, outcome) = run(&setup(Dialect::OpenAiChat, false, Quirks::NONE), [chat.to_string().as_bytes()]);
    assert_eq!(outcome, Ok(()));
    let answer: Value = serde_json::from_str(&body).unwrap();
    let choice = |index: u32, text: &str, reason: &str| json!({"text": text, "index": index, "logprobs": null, "finish_reason": reason});
    assert_eq!(
        answer,
        json!({"id": "chatcmpl-1", "object": "text_completion", "created": 7, "model": "m1",
               "choices": [choice(0, "one \"two\"", "stop"), choice(1, "no", "length")],
               "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
    );
}

#[test]
fn a_chats_stream_becomes_one_of_texts() {
    let chunk = |choices: Value| format!("data: {}\n\n", json!({"id": "c1", "model": "m1", "choices": choices}));
    let delta = |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
    let sent = [
        chunk(delta(json!({"role": "assistant", "content": ""}), Value::Null)),
        chunk(delta(json!({"reasoning_content": "hm"}), Value::Null)),
        chunk(delta(json!({"content": "one "}), Value::Null)),
        chunk(delta(json!({"content": "two"}), Value::Null)),
        chunk(delta(json!({}), json!("stop"))),
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}\n\n"
            .to_owned(),
        "data: [DONE]\n\n".to_owned(),
    ]
    .concat();
    let mut setup = setup(Dialect::OpenAiChat, true, Quirks::COMPLETIONS.with(Quirks::COMPLETIONS_AS_CHAT));
    let (out, outcome) = run(&setup, sent.as_bytes().chunks(7));
    assert_eq!(outcome, Ok(()));
    let seen = chunks(&out);
    let piece =
        |text: &str, finish: Value| json!([{"text": text, "index": 0, "logprobs": null, "finish_reason": finish}]);
    let choices: Vec<&Value> = seen.iter().map(|chunk| &chunk["choices"]).collect();
    let expected = [piece("one ", Value::Null), piece("two", Value::Null), piece("", json!("stop")), json!([])];
    assert_eq!(choices, expected.iter().collect::<Vec<_>>());
    assert!(
        seen.iter()
            .all(|chunk| (&chunk["id"], &chunk["model"], &chunk["created"]) == (&json!("c1"), &json!("m1"), &json!(7)))
    );
    assert_eq!(seen[3]["usage"], json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}));
    setup.include_usage = false;
    assert!(!run(&setup, [sent.as_bytes()]).0.contains("usage"));
}

#[test]
fn a_translated_stream_that_breaks_has_no_clean_end() {
    let sent = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":null}]}\n\n";
    let setup = setup(Dialect::OpenAiChat, true, Quirks::NONE);
    let (mut translator, mut out) = (Translator::new(setup), Vec::new());
    translator.push(sent.as_bytes(), &mut out).unwrap();
    let fault = translator.finish(End::Clean, &mut out).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Truncated);
    translator.break_off(&fault, &mut out);
    let out = String::from_utf8(out).unwrap();
    assert!(!out.contains("[DONE]"), "{out}");
    let last: Value = serde_json::from_str(out.trim_end().rsplit("data: ").next().unwrap()).unwrap();
    assert_eq!(
        (&last["error"]["metadata"]["reason"], &last["object"]),
        (&json!("truncated"), &json!("text_completion"))
    );
    assert_eq!(last["choices"][0], json!({"text": "", "index": 0, "logprobs": null, "finish_reason": "error"}));
}
