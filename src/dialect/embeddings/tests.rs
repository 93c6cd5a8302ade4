//! Requests, answers and everything that is wrong with them.

use super::answer::{Expected, Vectors};
use super::openai::Packed;
use super::{Answer, Encoding, Form, Input, Request, cohere, ollama, openai, passed};
use crate::dialect::event::{End, Observed};
use crate::dialect::openai_chat::quirks::Quirks;
use crate::domain::{Fault, FaultKind};
use base64::Engine;
use serde_json::{Value, json};

fn parse(body: Value) -> Result<Request, Fault> {
    openai::parse(body.to_string().as_bytes())
}

fn written(answer: &Answer, encoding: Encoding) -> Value {
    let mut out = Vec::new();
    openai::write(answer, encoding, "asked-for", Packed::Floats, &mut out).unwrap();
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
    let answer = Form::Cohere.decode(body.as_bytes(), Some(2)).unwrap();
    let mut out = Vec::new();
    openai::write(&answer, Encoding::Float, "asked-for", Packed::Floats, &mut out).unwrap();
    let expected = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.10000000149, -2e-3]},{"object":"embedding","index":1,"embedding":[1, 0]}],"model":"asked-for","usage":{"prompt_tokens":3,"total_tokens":3}}"#;
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let packed = written(&answer, Encoding::Base64);
    let bytes = base64::engine::general_purpose::STANDARD.decode(packed["data"][0]["embedding"].as_str().unwrap());
    let floats: Vec<f32> = bytes.unwrap().chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!(floats, [0.1, -0.002]);
}

#[test]
fn older_and_other_forms_are_read() {
    let plain = Form::Cohere.decode(br#"{"embeddings": [[1, 2]]}"#, Some(1)).unwrap();
    assert_eq!((plain.vectors[0].get(), plain.usage), ("[1, 2]", None));
    let own = Form::Ollama
        .decode(br#"{"model": "m:latest", "embeddings": [[1, 2]], "prompt_eval_count": 4}"#, Some(1))
        .unwrap();
    let own = written(&own, Encoding::Float);
    assert_eq!((&own["model"], &own["usage"]["prompt_tokens"]), (&json!("m:latest"), &json!(4)));
}

#[test]
fn batches_are_put_together() {
    let batch = |body: &str| Form::Cohere.decode(body.as_bytes(), Some(1)).unwrap();
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
    for body in ["{}", "[]", "<html>", "{\"embeddings\": {\"odd\": [[1]]}}", "{\"embeddings\": []}"] {
        assert_eq!(kind(Form::Cohere.decode(body.as_bytes(), Some(1))), FaultKind::Malformed, "{body}");
        assert_eq!(kind(Form::Ollama.decode(body.as_bytes(), Some(1))), FaultKind::Malformed, "{body}");
    }
    assert_eq!(kind(Form::Cohere.decode(b"", Some(1))), FaultKind::Empty);
    assert_eq!(kind(Form::Ollama.decode(b" ", Some(1))), FaultKind::Empty);
    let odd = Form::Ollama.decode(br#"{"embeddings": ["text"]}"#, Some(1)).unwrap();
    assert!(openai::write(&odd, Encoding::Float, "m", Packed::Floats, &mut Vec::new()).is_err());
}

/// The bodies that a request becomes, and what is dropped of it.
fn sheets(form: Form, request: Value) -> (Vec<Value>, Vec<String>) {
    let sheets = form.render(&parse(request).unwrap(), "m", None, false).unwrap();
    (sheets.bodies.iter().map(|body| serde_json::from_slice(body).unwrap()).collect(), sheets.dropped)
}

#[test]
fn google_is_asked_in_three_ways() {
    let request =
        json!({"input": ["a", "b"], "dimensions": 64, "input_type": "query", "title": "t", "truncate": "END"});
    let (bodies, dropped) = sheets(Form::Gemini, request.clone());
    let one = |text: &str| {
        json!({"model": "models/m", "content": {"parts": [{"text": text}]}, "outputDimensionality": 64,
            "taskType": "RETRIEVAL_QUERY", "title": "t"})
    };
    assert_eq!((bodies, dropped), (vec![json!({"requests": [one("a"), one("b")]})], vec!["truncate".to_owned()]));
    let (bodies, _) = sheets(Form::GeminiContent, request.clone());
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[1]["content"], json!({"parts": [{"text": "b"}]}));
    let (bodies, _) = sheets(Form::VertexPredict, request);
    let instance = json!({"content": "b", "task_type": "RETRIEVAL_QUERY", "title": "t"});
    assert_eq!(bodies[1], json!({"instances": [instance], "parameters": {"outputDimensionality": 64}}));
    let counted = Form::Gemini
        .decode(br#"{"embeddings": [{"values": [1.50]}], "usageMetadata": {"promptTokenCount": 4}}"#, Some(1));
    let counted = counted.unwrap();
    assert_eq!((counted.vectors[0].get(), counted.usage.unwrap().prompt_tokens), ("[1.50]", 4));
    let single = Form::GeminiContent.decode(br#"{"embedding": {"values": [2]}}"#, Some(1)).unwrap();
    assert_eq!((single.vectors[0].get(), single.usage), ("[2]", None));
    let predicted = br#"{"predictions": [{"embeddings": {"values": [1], "statistics": {"token_count": 3.0}}},
        {"embeddings": {"values": [2], "statistics": {"token_count": 4}}}]}"#;
    let predicted = Form::VertexPredict.decode(predicted, Some(2)).unwrap();
    assert_eq!((predicted.vectors[1].get(), predicted.usage.unwrap().total_tokens), ("[2]", 7));
}

#[test]
fn bedrock_has_three_forms_of_its_own() {
    let request = json!({"input": ["a", "b"], "dimensions": 256, "input_type": "search_query", "normalize": true});
    let (bodies, dropped) = sheets(Form::Titan, request.clone());
    assert_eq!(
        bodies,
        [
            json!({"inputText": "a", "dimensions": 256, "normalize": true}),
            json!({"inputText": "b", "dimensions": 256, "normalize": true})
        ]
    );
    assert_eq!(dropped, ["input_type"]);
    let (bodies, _) = sheets(Form::Nova, request.clone());
    let single = json!({"embeddingPurpose": "GENERIC_RETRIEVAL", "embeddingDimension": 256,
        "text": {"truncationMode": "END", "value": "a"}});
    assert_eq!(bodies[0], json!({"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": single}));
    let (bodies, _) = sheets(Form::CohereOnBedrock, request);
    assert_eq!(bodies, [json!({"input_type": "search_query", "texts": ["a", "b"], "output_dimension": 256})]);
    let titan = Form::Titan.decode(br#"{"embedding": [1E-4], "inputTextTokenCount": 3}"#, Some(1)).unwrap();
    assert_eq!((titan.vectors[0].get(), titan.usage.unwrap().prompt_tokens), ("[1E-4]", 3));
    let nova = Form::Nova.decode(br#"{"embeddings": [{"embedding": [1], "embeddingType": "TEXT"}]}"#, Some(1)).unwrap();
    assert_eq!((nova.vectors[0].get(), nova.usage), ("[1]", None));
}

#[test]
fn a_provider_of_openais_form_gets_the_bytes_with_its_own_words() {
    let body = r#"{"model":"p/m", "dimensions":8,"input":["a","b"] ,"encoding_format":"float","extra":{}}"#;
    let envelope = passed::scan(body.as_bytes().to_vec().into()).unwrap();
    assert_eq!((envelope.model.as_str(), envelope.max_tokens, passed::inputs(&envelope)), ("p/m", Some(0), Some(2)));
    let sent = |quirks| String::from_utf8(passed::body(&envelope, "m", quirks)).unwrap();
    assert_eq!(sent(Quirks::NONE), r#"{"model":"m", "dimensions":8,"input":["a","b"] ,"encoding_format":"float"}"#);
    let voyage = Quirks::BARE_FLOATS | Quirks::OUTPUT_DIMENSION;
    assert_eq!(sent(voyage), r#"{"model":"m", "output_dimension":8,"input":["a","b"] }"#);
    for (input, count) in [("\"a\"", 1), ("[1,2,3]", 1), ("[[1,2],[3]]", 2), ("[\"a\"]", 1)] {
        let body = format!("{{\"model\":\"m\",\"input\":{input}}}");
        let envelope = passed::scan(body.into_bytes().into()).unwrap();
        assert_eq!(passed::inputs(&envelope), Some(count), "{input}");
    }
}

/// What the client gets of bodies that follow each other.
fn answered(form: Form, inputs: &[Option<usize>], encoding: Option<Encoding>, bodies: &str) -> (String, Option<u64>) {
    let expected = Expected {
        client: Form::OpenAi,
        form,
        inputs: inputs.to_vec(),
        encoding,
        packed: Packed::Floats,
        model: "asked-for".into(),
    };
    let (mut machine, mut observed, mut out) = (Vectors::new(expected), Observed::default(), Vec::new());
    for piece in bodies.as_bytes().chunks(3) {
        machine.push(piece, &mut out);
    }
    assert!(out.is_empty());
    machine.finish(End::Clean, &mut observed, &mut out).unwrap();
    (String::from_utf8(out).unwrap(), observed.usage.map(|usage| usage.prompt_tokens))
}

#[test]
fn an_answer_passes_unless_it_is_written_in_the_other_encoding() {
    let plain = r#"{ "data": [{"embedding": [0.10, 1], "index": 0}], "usage": {"total_tokens": 3}, "own": 1 }"#;
    let packed = r#"{"data":[{"index":0,"embedding":"AACAPw=="}],"model":"theirs"}"#;
    for (encoding, body) in [(Encoding::Float, plain), (Encoding::Base64, packed)] {
        assert_eq!(answered(Form::OpenAi, &[Some(1)], Some(encoding), body).0, body);
        assert_eq!(answered(Form::OpenAi, &[None], None, body).0, body);
    }
    let (turned, tokens) = answered(Form::OpenAi, &[Some(1)], Some(Encoding::Base64), plain);
    assert!(turned.contains(r#""embedding":"zczMPQAAgD8=""#) && turned.contains(r#""model":"asked-for""#), "{turned}");
    assert_eq!(tokens, Some(3));
    let (turned, _) = answered(Form::OpenAi, &[Some(1)], Some(Encoding::Float), packed);
    assert!(turned.contains(r#""embedding":[1.0]"#) && turned.contains(r#""model":"theirs""#), "{turned}");
    let (two, tokens) = answered(
        Form::Titan,
        &[Some(1), Some(1)],
        Some(Encoding::Float),
        "{\"embedding\":[1],\"inputTextTokenCount\":2}\n{\"embedding\":[2],\"inputTextTokenCount\":3}",
    );
    assert!(two.contains(r#""index":1,"embedding":[2]"#), "{two}");
    assert_eq!(tokens, Some(5));
}

#[test]
fn a_large_answer_flows_when_nothing_is_to_be_written_anew() {
    let numbers = vec!["0.5"; 20_000].join(",");
    let body = format!(
        "{{\"data\":[{{\"embedding\":[{numbers}],\"index\":0}}],\"usage\":{{\"prompt_tokens\":7,\"total_tokens\":7}}}}"
    );
    let machine = |encoding| {
        let expected = Expected {
            client: Form::OpenAi,
            form: Form::OpenAi,
            inputs: vec![Some(1)],
            encoding: Some(encoding),
            packed: Packed::Floats,
            model: "m".into(),
        };
        Vectors::new(expected)
    };
    let (mut flowing, mut observed, mut out) = (machine(Encoding::Float), Observed::default(), Vec::new());
    let (first, rest) = body.as_bytes().split_at(50_000);
    flowing.push(first, &mut out);
    assert!(flowing.let_flow(&mut out) && out == first);
    rest.chunks(999).for_each(|piece| flowing.push(piece, &mut out));
    flowing.finish(End::Clean, &mut observed, &mut out).unwrap();
    assert!(out == body.as_bytes());
    assert_eq!(observed.usage.unwrap().prompt_tokens, 7);
    let mut held = machine(Encoding::Base64);
    held.push(first, &mut out);
    assert!(!held.let_flow(&mut out));
    assert_eq!(held.finish(End::Cut, &mut observed, &mut out).unwrap_err().kind, FaultKind::Truncated);
}

#[test]
fn signed_bytes_become_numbers_and_an_error_in_the_place_of_an_answer_is_one() {
    let answer = Form::OpenAi.decode(br#"{"data":[{"embedding":"Af+A","index":0}]}"#, Some(1)).unwrap();
    let mut out = Vec::new();
    openai::write(&answer, Encoding::Float, "m", Packed::Bytes, &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("[1.0,-1.0,-128.0]"));
    assert!(
        openai::write(&answer, Encoding::Float, "m", Packed::Floats, &mut Vec::new()).is_err(),
        "three bytes are no float"
    );
    let fault = Form::OpenAi.decode(br#"{"error":{"message":"failed","type":"server_error"}}"#, None).unwrap_err();
    assert_eq!((fault.kind, &*fault.message), (FaultKind::ServerError, "failed"));
    assert_eq!(Form::OpenAi.decode(br#"{"data":[]}"#, None).unwrap_err().kind, FaultKind::Malformed);
    let unordered =
        Form::OpenAi.decode(br#"{"data":[{"embedding":[2],"index":1},{"embedding":[1],"index":0}]}"#, Some(2));
    assert_eq!(unordered.unwrap().vectors[0].get(), "[1]");
}
