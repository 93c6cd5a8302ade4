//! Requests that pass, answers that are watched.

use super::answer::Relayed;
use super::form::{Form, Part};
use super::{body, pictures, reranked, scan_form, scan_json, size};
use crate::dialect::event::{End, Observed};
use crate::dialect::work::{Endpoint, Work};
use crate::domain::{Fault, FaultKind, Usage};
use bytes::Bytes;

fn sent(endpoint: Endpoint, json: &'static str) -> String {
    let envelope = scan_json(endpoint, Bytes::from_static(json.as_bytes())).unwrap();
    assert_eq!(envelope.work, Work::Relay(endpoint));
    String::from_utf8(body(&envelope, "there", None).0).unwrap()
}

#[test]
fn json_keeps_its_bytes_but_for_the_model_and_what_is_the_gateways() {
    for (json, expected) in [
        (
            r#"{ "model" : "p/m", "prompt":"\u00e9",  "n":1.0 }"#,
            r#"{ "model" : "there", "prompt":"\u00e9",  "n":1.0 }"#,
        ),
        (r#"{"model":"p/m","extra":{"retry":0},"input":"x"}"#, r#"{"model":"there","input":"x"}"#),
        (r#"{"stream":true,"model":"p/m"}"#, r#"{"stream":true,"model":"there"}"#),
        (r#"{"input":"x"}"#, r#"{"model":"there","input":"x"}"#),
        ("{}", r#"{"model":"there"}"#),
    ] {
        assert_eq!(sent(Endpoint::ImageGenerations, json), expected);
    }
    let envelope =
        scan_json(Endpoint::Speech, Bytes::from_static(br#"{"model":"m","input":"12345678","stream_format":"sse"}"#));
    let envelope = envelope.unwrap();
    assert_eq!((envelope.stream, envelope.estimated_input_tokens, envelope.max_tokens), (true, 3, Some(0)));
    for (json, param) in
        [("{\"model\":5}", "model"), ("{\"model\":\"m\",\"stream\":1}", "stream"), ("{\"user\":1}", "user")]
    {
        let fault = scan_json(Endpoint::Speech, Bytes::from(json.to_owned())).unwrap_err();
        assert_eq!(fault.param.as_deref(), Some(param));
    }
}

fn part(name: &str, file: Option<&str>, body: &'static [u8]) -> Part {
    let file_name = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
    let disposition = format!("form-data; name=\"{name}\"{file_name}").into_bytes();
    Part {
        name: name.to_owned(),
        is_file: file.is_some(),
        headers: vec![("content-disposition".to_owned(), disposition)],
        body: Bytes::from_static(body),
    }
}

#[test]
fn a_form_keeps_its_parts_but_for_the_model_and_what_is_the_gateways() {
    let parts = vec![
        part("file", Some("a.wav"), b"RIFF\r\n--b\0"),
        part("model", None, b"p/m"),
        part("extra", None, b"{\"retry\":0}"),
        part("prompt", None, b"12345678"),
    ];
    let form = Form { boundary: "b1 2".to_owned(), parts };
    assert_eq!(form.content_type(), "multipart/form-data; boundary=\"b1 2\"");
    let envelope = scan_form(Endpoint::Transcriptions, form).unwrap();
    assert_eq!((envelope.model.as_str(), envelope.extensions.retry), ("p/m", Some(0)));
    assert!(envelope.estimated_input_tokens < 10, "the sound is no text");
    let (bytes, _) = body(&envelope, "there", None);
    let expected = "--b1 2\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--b\0\r\n\
        --b1 2\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nthere\r\n\
        --b1 2\r\ncontent-disposition: form-data; name=\"prompt\"\r\n\r\n12345678\r\n--b1 2--\r\n";
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    let bad = Form { boundary: "b".to_owned(), parts: vec![part("stream", None, b"perhaps")] };
    assert_eq!(scan_form(Endpoint::Transcriptions, bad).unwrap_err().param.as_deref(), Some("stream"));
    let bad = Form { boundary: "b".to_owned(), parts: vec![part("extra", None, b"{\"typo\":1}")] };
    assert_eq!(scan_form(Endpoint::Transcriptions, bad).unwrap_err().param.as_deref(), Some("extra.typo"));
}

/// An answer in pieces of one byte: what comes out, and what was seen.
fn relayed(content_type: &str, body: &str) -> (Result<(), Fault>, String, Observed) {
    let (mut machine, mut observed, mut out) = (Relayed::default(), Observed::default(), Vec::new());
    machine.headed(Some(content_type.as_bytes()));
    let mut pushed = Ok(());
    for byte in body.as_bytes() {
        pushed = pushed.and_then(|()| machine.push(&[*byte], &mut observed, &mut out));
    }
    let ended = pushed.and_then(|()| machine.finish(End::Clean, &mut observed, &mut out));
    (ended, String::from_utf8(out).unwrap(), observed)
}

fn usage(prompt_tokens: u64, completion_tokens: u64) -> Usage {
    Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens, ..Usage::default() }
}

#[test]
fn usage_is_found_wherever_it_stands() {
    let audio = Usage { audio_prompt_tokens: Some(30), ..usage(37, 12) };
    for (body, expected) in [
        (r#"{"data":[],"usage":{"input_tokens":14,"output_tokens":272,"total_tokens":286}}"#, Some(usage(14, 272))),
        (r#"{"data":[],"usage":{"total_tokens":57}}"#, Some(usage(57, 0))),
        (r#"{"results":[],"meta":{"billed_units":{"input_tokens":3.0}}}"#, Some(usage(3, 0))),
        (r#"{"results":[],"meta":{"billed_units":{"search_units":1}}}"#, None),
        (r#"{"text":"x","usage":{"type":"duration","seconds":6}}"#, None),
        (r#"{"text":"x","usage":{"prompt_tokens":5,"total_tokens":391,"completion_tokens":11}}"#, Some(usage(380, 11))),
        (
            r#"{"usage":{"input_tokens":37,"output_tokens":12,"input_token_details":{"audio_tokens":30,"text_tokens":7}}}"#,
            Some(audio),
        ),
        (r#"{"text":"x"}"#, None),
        (r#"{"usage":null,"error":null}"#, None),
    ] {
        let (ended, out, observed) = relayed("application/json; charset=utf-8", body);
        assert_eq!((ended.is_ok(), out.as_str(), observed.usage), (true, body, expected));
    }
    let events = "data: {\"type\":\"transcript.text.delta\",\"delta\":\"a\"}\n\nevent: x\ndata: {\"type\":\"done\",\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}\n\ndata: [DONE]\n\n";
    let (ended, out, observed) = relayed("text/event-stream", events);
    assert_eq!((ended.is_ok(), out.as_str(), observed.usage), (true, events, Some(usage(1, 2))));
}

#[test]
fn what_is_no_answer_is_refused_before_anything_is_seen() {
    for (content_type, body, kind) in [
        ("application/json", "", FaultKind::Empty),
        ("application/json", "{\"a\":", FaultKind::Malformed),
        ("text/html; charset=utf-8", "<html>", FaultKind::Malformed),
        ("audio/mpeg", "", FaultKind::Empty),
        ("text/event-stream", ": nothing\n\n", FaultKind::Empty),
        ("application/json", r#"{"error":{"message":"failed","type":"server_error"}}"#, FaultKind::ServerError),
    ] {
        let (ended, _, observed) = relayed(content_type, body);
        assert_eq!(ended.unwrap_err().kind, kind, "{content_type} {body}");
        assert!(!observed.output);
    }
    let (ended, _, observed) =
        relayed("text/event-stream", "data: {\"error\":{\"message\":\"The server had an error\"}}\n\n");
    assert!(ended.is_err() && !observed.output);
}

#[test]
fn a_large_answer_flows_and_its_end_is_still_read() {
    let (mut machine, mut observed, mut out) = (Relayed::default(), Observed::default(), Vec::new());
    assert!(!machine.headed(None));
    let picture = "A".repeat(100_000);
    let whole =
        format!("{{\"data\":[{{\"b64_json\":\"{picture}\"}}],\"usage\":{{\"input_tokens\":1,\"output_tokens\":2}}}}");
    let (first, rest) = whole.as_bytes().split_at(50_000);
    machine.push(first, &mut observed, &mut out).unwrap();
    assert_eq!((machine.held_bytes(), out.len()), (50_000, 0));
    assert!(machine.let_flow(&mut out));
    for piece in rest.chunks(1000) {
        machine.push(piece, &mut observed, &mut out).unwrap();
    }
    machine.finish(End::Clean, &mut observed, &mut out).unwrap();
    assert!(out == whole.as_bytes());
    assert_eq!(observed.usage, Some(usage(1, 2)));
    assert_eq!(machine.finish(End::Cut, &mut observed, &mut out).unwrap_err().kind, FaultKind::Truncated);
}

#[test]
fn a_ranking_is_told_in_the_words_of_its_client() {
    use super::rerank::{Form, lost, wanted};
    use crate::dialect::openai_chat::quirks::Quirks;
    let read = |json: &'static str| scan_json(Endpoint::Rerank, Bytes::from_static(json.as_bytes())).unwrap();
    let voyage = Quirks::RERANK_DATA;
    for (json, quirks, form, sent, gone) in [
        (
            r#"{"model":"m","query":"q","documents":["a"], "top_n":1,"priority":3}"#,
            voyage,
            Form::Results,
            r#"{"model":"there","query":"q","documents":["a"], "top_k":1}"#,
            vec!["priority"],
        ),
        (r#"{"model":"m","query":"q"}"#, voyage, Form::Results, r#"{"model":"there","query":"q"}"#, vec![]),
        (
            r#"{"top_k":1,"model":"m","truncation":true}"#,
            Quirks::NONE,
            Form::Data,
            r#"{"top_n":1,"model":"there"}"#,
            vec!["truncation"],
        ),
    ] {
        let envelope = read(json);
        assert_eq!(wanted(&envelope, quirks), Some(form), "{json}");
        assert_eq!(String::from_utf8(body(&envelope, "there", Some(form)).0).unwrap(), sent);
        assert_eq!(lost(&envelope, form), gone);
    }
    for (json, quirks) in [(r#"{"model":"m","top_k":1}"#, voyage), (r#"{"model":"m","top_n":1}"#, Quirks::NONE)] {
        assert_eq!(wanted(&read(json), quirks), None, "{json}");
    }
    assert_eq!(wanted(&scan_json(Endpoint::Speech, Bytes::from_static(b"{\"top_k\":1}")).unwrap(), Quirks::NONE), None);
}

#[test]
fn a_rankings_answer_is_told_in_the_words_of_its_client() {
    use super::rerank::Form;
    let told = |form, body: &str| {
        let (mut answer, mut observed, mut out) = (Relayed::new(Some(form)), Observed::default(), Vec::new());
        assert!(!answer.headed(Some(b"application/json")));
        for byte in body.as_bytes() {
            answer.push(&[*byte], &mut observed, &mut out)?;
            assert!(!answer.let_flow(&mut out) && out.is_empty(), "it passed before it was told");
        }
        answer.finish(End::Clean, &mut observed, &mut out)?;
        Ok::<_, Fault>((serde_json::from_slice::<serde_json::Value>(&out).unwrap(), observed.usage))
    };
    let voyage = r#"{"object":"list","data":[{"relevance_score":0.4375,"index":1,"document":"b"}],"model":"r","usage":{"total_tokens":26}}"#;
    let jina = r#"{"model":"r","results":[{"relevance_score":0.4375,"index":1,"document":{"text":"b"}}],"usage":{"total_tokens":26}}"#;
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    for (form, from, to) in [(Form::Results, voyage, jina), (Form::Data, jina, voyage)] {
        let (answer, usage) = told(form, from).unwrap();
        assert_eq!((answer, usage.unwrap().prompt_tokens), (value(to), 26));
        assert_eq!(told(form, to).unwrap().0, value(to), "it is in that form already");
    }
    let cohere = r#"{"id":"1","results":[{"index":0,"relevance_score":1}],"meta":{"billed_units":{"search_units":1}}}"#;
    let (answer, _) = told(Form::Data, cohere).unwrap();
    assert_eq!(answer["usage"]["total_tokens"], 0);
    assert_eq!(answer["data"][0], serde_json::json!({"index": 0, "relevance_score": 1}));
    for broken in ["{}", "[]", r#"{"data":{}}"#, "{", ""] {
        assert!(told(Form::Results, broken).is_err(), "{broken}");
    }
    assert!(told(Form::Results, r#"{"error":{"message":"no"}}"#).is_err());
}

#[test]
fn what_a_request_can_cost_shows_in_its_pictures_documents_and_bytes() {
    let of = |endpoint, json: &'static str| scan_json(endpoint, Bytes::from_static(json.as_bytes())).unwrap();
    for (json, expected) in
        [("{}", 1), (r#"{"n":3}"#, 3), (r#"{"n":2.0}"#, 2), (r#"{"n":"4"}"#, 4), (r#"{"n":0}"#, 1), (r#"{"n":[]}"#, 1)]
    {
        assert_eq!(pictures(&of(Endpoint::ImageGenerations, json)), expected, "{json}");
        assert_eq!(pictures(&of(Endpoint::Speech, json)), 0, "{json}");
    }
    let json = r#"{"query":"12345","documents":["a",{"text":"b"},"c"]}"#;
    assert_eq!(reranked(&of(Endpoint::Rerank, json)), (json.len() + 3 * 7) as u64, "the question beside each document");
    let part = |name: &str, is_file, body: &'static [u8]| Part {
        name: name.to_owned(),
        is_file,
        headers: Vec::new(),
        body: Bytes::from_static(body),
    };
    let parts = vec![part("model", false, b"m"), part("n", false, b"2"), part("image", true, b"12345678")];
    let form = scan_form(Endpoint::ImageEdits, Form { boundary: "edge".to_owned(), parts }).unwrap();
    assert_eq!((pictures(&form), size(&form)), (2, 10), "files too");
}
