//! Requests, answers and everything that is wrong with them.

use super::{Answer, Encoding, Input, Request, cohere, ollama, openai};
use crate::domain::{Fault, FaultKind};
use base64::Engine;
use serde_json::{Value, json};

fn parse(body: Value) -> Result<Request, Fault> {
    openai::parse(body.to_string().as_bytes())
}

fn written(answer: &Answer, encoding: Encoding) -> Value {
    let mut out = Vec::new();
    openai::write(answer, encoding, "asked-for", &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn text(text: &str) -> Input {
    Input::Text(text.to_owned())
}

#[test]
fn inputs_in_all_their_forms() {
    for (input, expected) in [
        (json!("a"), vec![text("a")]),
        (json!(["a", ""]), vec![text("a"), text("")]),
        (json!([1, 2]), vec![Input::Tokens(vec![1, 2])]),
        (json!([[1], [2, 3]]), vec![Input::Tokens(vec![1]), Input::Tokens(vec![2, 3])]),
    ] {
        assert_eq!(parse(json!({"model": "m", "input": input})).unwrap().inputs, expected);
    }
    for (body, member) in [
        (json!({"model": "m"}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": [[]]}), "input"),
        (json!({"input": [1, "a"]}), "input"),
        (json!({"input": {"text": "a"}}), "input"),
        (json!({"input": vec!["a"; 2049]}), "input"),
        (json!({"input": "a", "encoding_format": "int8"}), "encoding_format"),
        (json!({"input": "a", "dimensions": 0}), "dimensions"),
        (json!({"input": "a", "user": 5}), "user"),
        (json!([]), "body"),
    ] {
        assert_eq!(parse(body).unwrap_err().param.as_deref(), Some(member));
    }
}

#[test]
fn cohere_is_asked_in_its_own_words() {
    let request = parse(json!({"model": "m", "input": ["a", "b"], "dimensions": 256, "input_type": "search_query",
        "truncate": "END", "user": "u", "made_up": 1, "encoding_format": "base64"}))
    .unwrap();
    let rendered = cohere::render(&request, "embed-x", false).unwrap();
    let body: Value = serde_json::from_slice(&rendered.body).unwrap();
    let expected = json!({"model": "embed-x", "input_type": "search_query", "embedding_types": ["float"],
        "texts": ["a", "b"], "output_dimension": 256, "truncate": "END"});
    assert_eq!((body, rendered.dropped), (expected, vec!["made_up".to_owned(), "user".to_owned()]));
    assert_eq!(cohere::render(&request, "embed-x", true).unwrap_err().param.as_deref(), Some("made_up"));
    let tokens = parse(json!({"input": [1, 2]})).unwrap();
    assert_eq!(cohere::render(&tokens, "embed-x", false).unwrap_err().param.as_deref(), Some("input"));
}

#[test]
fn ollama_is_asked_in_its_own_words() {
    let request = parse(json!({"input": "a", "dimensions": 64, "keep_alive": "1h", "options": {"num_ctx": 512},
        "truncate": false, "input_type": "x"}))
    .unwrap();
    let rendered = ollama::render(&request, "m:latest", false).unwrap();
    let body: Value = serde_json::from_slice(&rendered.body).unwrap();
    let expected = json!({"model": "m:latest", "input": ["a"], "dimensions": 64, "keep_alive": "1h",
        "options": {"num_ctx": 512}, "truncate": false});
    assert_eq!((body, rendered.dropped), (expected, vec!["input_type".to_owned()]));
}

#[test]
fn vectors_keep_their_digits_and_become_base64_where_it_is_asked_for() {
    let body = r#"{"id": "1", "texts": ["a", "b"], "embeddings": {"float": [[0.10000000149, -2e-3], [1, 0]]},
        "meta": {"billed_units": {"input_tokens": 3.0}}, "response_type": "embeddings_by_type"}"#;
    let answer = cohere::decode(body.as_bytes(), 2).unwrap();
    let mut out = Vec::new();
    openai::write(&answer, Encoding::Float, "asked-for", &mut out).unwrap();
    let expected = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.10000000149, -2e-3]},{"object":"embedding","index":1,"embedding":[1, 0]}],"model":"asked-for","usage":{"prompt_tokens":3,"total_tokens":3}}"#;
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let packed = written(&answer, Encoding::Base64);
    let bytes = base64::engine::general_purpose::STANDARD.decode(packed["data"][0]["embedding"].as_str().unwrap());
    let floats: Vec<f32> = bytes.unwrap().chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!(floats, [0.1, -0.002]);
}

#[test]
fn older_and_other_forms_are_read() {
    let plain = cohere::decode(br#"{"embeddings": [[1, 2]]}"#, 1).unwrap();
    assert_eq!((plain.vectors[0].get(), plain.usage), ("[1, 2]", None));
    let own = ollama::decode(br#"{"model": "m:latest", "embeddings": [[1, 2]], "prompt_eval_count": 4}"#, 1).unwrap();
    let own = written(&own, Encoding::Float);
    assert_eq!((&own["model"], &own["usage"]["prompt_tokens"]), (&json!("m:latest"), &json!(4)));
}

#[test]
fn batches_are_put_together() {
    let batch = |body: &str| cohere::decode(body.as_bytes(), 1).unwrap();
    let mut all = batch(r#"{"embeddings": {"float": [[1]]}, "meta": {"billed_units": {"input_tokens": 3}}}"#);
    all.append(batch(r#"{"embeddings": {"float": [[2]]}, "meta": {"billed_units": {"input_tokens": 4}}}"#));
    let all = written(&all, Encoding::Float);
    assert_eq!(
        (&all["data"][1], &all["usage"]["total_tokens"]),
        (&json!({"object": "embedding", "index": 1, "embedding": [2]}), &json!(7))
    );
}

#[test]
fn what_is_no_answer_is_refused() {
    let kind = |outcome: Result<Answer, Fault>| outcome.unwrap_err().kind;
    for body in ["{}", "[]", "<html>", "{\"embeddings\": {\"int8\": [[1]]}}", "{\"embeddings\": []}"] {
        assert_eq!(kind(cohere::decode(body.as_bytes(), 1)), FaultKind::Malformed, "{body}");
        assert_eq!(kind(ollama::decode(body.as_bytes(), 1)), FaultKind::Malformed, "{body}");
    }
    assert_eq!(kind(cohere::decode(b"", 1)), FaultKind::Empty);
    assert_eq!(kind(ollama::decode(b" ", 1)), FaultKind::Empty);
    let odd = ollama::decode(br#"{"embeddings": ["text"]}"#, 1).unwrap();
    assert!(openai::write(&odd, Encoding::Float, "m", &mut Vec::new()).is_err());
}
