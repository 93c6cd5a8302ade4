//! What a scan reads, and what of a body reaches a provider.

use super::*;
use crate::dialect::extensions::ProviderChoice;
use proptest::prelude::*;
use serde_json::{Value, json};

const MESSAGES: &str = r#""messages":[{"role":"user","content":"hi"}]"#;

fn scan(body: &str) -> Result<Envelope, Fault> {
    Envelope::scan(Bytes::copy_from_slice(body.as_bytes()))
}

/// The body for a provider, made of these members and the messages.
fn passed(members: &str, quirks: Quirks) -> String {
    let envelope = scan(&format!("{{{members},{MESSAGES}}}")).unwrap();
    let body = String::from_utf8(envelope.passthrough_body("new", quirks)).unwrap();
    assert!(serde_json::from_str::<Value>(&body).is_ok(), "{body}");
    body.replace(&format!(",{MESSAGES}}}"), "").replacen('{', "", 1)
}

#[test]
fn reads_what_the_gateway_acts_on() {
    let envelope = scan(&format!(
        r#"{{"model":"a\/b\u00e9","stream":true,"stream_options":{{"include_usage":true}},"max_tokens":5,"max_completion_tokens":7,
            "n":2,"tools":[{{"type":"function"}}],"response_format":{{"type":"json_object"}},"reasoning":{{"exclude":true}},
            "extra":{{"provider":"fast"}},"models":["x"],{MESSAGES}}}"#
    ))
    .unwrap();
    assert_eq!((envelope.model.as_str(), envelope.stream, envelope.include_usage), ("a/bé", true, true));
    assert_eq!((envelope.max_tokens, envelope.n, envelope.exclude_reasoning), (Some(7), Some(2), true));
    assert_eq!(envelope.needs, Needs { tools: true, structured_output: true, ..Needs::default() });
    assert_eq!(envelope.extensions.provider, Some(ProviderChoice::By(crate::domain::Strategy::Fast)));
    assert_eq!(envelope.extensions.models, ["x"]);
}

#[test]
fn null_is_absent_and_the_last_of_two_counts() {
    let envelope = scan(&format!(
        r#"{{"model":"old","mod\u0065l":"new","stream":null,"n":null,"max_tokens":null,"tools":null,"response_format":null,"extra":null,{MESSAGES}}}"#
    ))
    .unwrap();
    assert_eq!((envelope.model.as_str(), envelope.stream, envelope.n, envelope.max_tokens), ("new", false, None, None));
    assert_eq!(envelope.needs, Needs::default());
    let body = String::from_utf8(envelope.passthrough_body("m", Quirks::NONE)).unwrap();
    assert!(body.starts_with(r#"{"model":"m","mod\u0065l":"m","stream":null"#), "{body}");
    assert!(
        !scan(&format!(r#"{{"model":"m","stream_options":{{"include_usage":true}},{MESSAGES}}}"#))
            .unwrap()
            .include_usage
    );
}

#[test]
fn finds_media_and_leaves_their_bytes_out_of_the_estimate() {
    let text = scan(&format!(r#"{{"model":"m",{MESSAGES}}}"#)).unwrap().estimated_input_tokens;
    let data = "A".repeat(40_000);
    for (part, needs) in [
        (
            format!(r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}"#),
            Needs { images: true, ..Needs::default() },
        ),
        (
            format!(r#"{{"type":"file","file":{{"file_data":"data:application/pdf;base64,{data}"}}}}"#),
            Needs { files: true, ..Needs::default() },
        ),
        (
            format!(r#"{{"type":"input_audio","input_audio":{{"data": "{data}","format":"wav"}}}}"#),
            Needs { audio: true, ..Needs::default() },
        ),
        (
            format!(r#"{{"type":"video_url","video_url":{{"url":"data:video/mp4;base64,{data}"}}}}"#),
            Needs { video: true, ..Needs::default() },
        ),
        (r#"{"type":"text","text":"say \"image_url\""}"#.to_owned(), Needs::default()),
    ] {
        let envelope = scan(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{part}]}}]}}"#)).unwrap();
        assert_eq!(envelope.needs, needs, "{}", &part[..30]);
        assert!(envelope.estimated_input_tokens < text + 40, "{}", envelope.estimated_input_tokens);
    }
    let long = scan(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{data}"}}]}}"#)).unwrap();
    assert!(long.estimated_input_tokens >= 10_000);
}

#[test]
fn says_what_is_wrong_and_where() {
    for (body, param, message) in [
        ("", None, "the body is empty"),
        ("[]", None, "must be a JSON object"),
        ("7", None, "must be a JSON object"),
        ("\u{feff}{}", None, "byte order mark"),
        ("{\"model\":\"m\",\n  \"messages\": [1,]}", None, "at line 2, column 18"),
        ("{\"model\":\"m\"", None, "ends too early"),
        ("{\"model\":\"m\"} x", None, "something follows"),
        ("nonsense", None, "is not JSON"),
        ("{}", Some("model"), "provide a model"),
        ("{\"model\":null}", Some("model"), "provide a model"),
        ("{\"model\":\" \"}", Some("model"), "provide a model"),
        ("{\"model\":5}", Some("model"), "must be a string"),
        ("{\"model\":\"m\"}", Some("messages"), "provide messages"),
        ("{\"model\":\"m\",\"messages\":\"hi\"}", Some("messages"), "must be a list"),
        ("{\"model\":\"m\",\"messages\":[ ]}", Some("messages"), "must not be empty"),
        ("{\"model\":\"m\",\"messages\":[1],\"stream\":\"yes\"}", Some("stream"), "true or false"),
        ("{\"model\":\"m\",\"messages\":[1],\"stream_options\":1}", Some("stream_options"), "an object"),
        ("{\"model\":\"m\",\"messages\":[1],\"n\":-1}", Some("n"), "whole number"),
        ("{\"model\":\"m\",\"messages\":[1],\"max_tokens\":1.5}", Some("max_tokens"), "whole number"),
        ("{\"model\":\"m\",\"messages\":[1],\"extra\":{\"x\":1}}", Some("extra.x"), "is not known"),
    ] {
        let fault = scan(body).unwrap_err();
        assert_eq!((fault.kind, fault.param.as_deref()), (FaultKind::BadRequest, param), "{body}");
        assert!(fault.message.contains(message), "{body}: {}", fault.message);
    }
    assert!(Envelope::scan(Bytes::from_static(b"{\"model\":\"\xff\"}")).unwrap_err().message.contains("UTF-8"));
    let deep = format!("{{\"model\":\"m\",\"messages\":{}", "[".repeat(1_000_000));
    assert!(scan(&deep).unwrap_err().message.contains("too deep"));
}

#[test]
fn a_providers_body_is_the_clients_but_for_the_model() {
    let body = format!(
        "{{ \"temperature\" : 1.0e0 ,\r\n\t\"model\": \"old\", \"unknown\":{{\"b\":1,\"a\":[ ]}}, {MESSAGES} }}\n"
    );
    let sent = scan(&body).unwrap().passthrough_body("quo\"ted", Quirks::NONE);
    assert_eq!(String::from_utf8(sent).unwrap(), body.replace("\"old\"", "\"quo\\\"ted\""));
}

#[test]
fn the_gateways_members_are_cut_out() {
    for (members, left) in [
        (r#""extra":{},"model":"m""#, r#""model":"new""#),
        (r#""model":"m","extra":{"retry":1}"#, r#""model":"new""#),
        (r#""model":"m", "models":["a"], "provider":{"order":[]},"x":1"#, r#""model":"new","x":1"#),
        (
            r#""models":[],"extra":{},"provider":"groq","fallbacks":["a"],"route":"fallback","model":"m""#,
            r#""model":"new""#,
        ),
        (r#""model":"m","extra":{},"y":2,"extra":{}"#, r#""model":"new","y":2"#),
        (r#""model":"m","usage":{"include":true}"#, r#""model":"new""#),
        (r#""model":"m","usage":{"other":true}"#, r#""model":"new","usage":{"other":true}"#),
    ] {
        assert_eq!(passed(members, Quirks::NONE), left, "{members}");
    }
    let native = passed(r#""model":"m","usage":{"include":true},"models":["a"]"#, Quirks::OPENROUTER_NATIVE);
    assert_eq!(native, r#""model":"new","usage":{"include":true}"#);
    let last =
        scan(&format!("{{{MESSAGES},\"model\":\"m\",\"extra\":{{}}}}")).unwrap().passthrough_body("new", Quirks::NONE);
    assert_eq!(String::from_utf8(last).unwrap(), format!("{{{MESSAGES},\"model\":\"new\"}}"));
}

#[test]
fn usage_is_asked_for_in_streams_only() {
    let added = r#""model":"new","stream_options":{"include_usage":true},"stream":true"#;
    assert_eq!(passed(r#""model":"m","stream":true"#, Quirks::NONE), added);
    assert_eq!(passed(r#""model":"m","stream":false"#, Quirks::NONE), r#""model":"new","stream":false"#);
    assert_eq!(passed(r#""model":"m","stream":true"#, Quirks::NO_STREAM_OPTIONS), r#""model":"new","stream":true"#);
    for (options, sent) in [
        ("{}", r#"{"include_usage":true}"#),
        ("{ }", r#"{"include_usage":true }"#),
        (r#"{"include_obfuscation":false}"#, r#"{"include_usage":true,"include_obfuscation":false}"#),
        (r#"{"a":1,"include_usage": false}"#, r#"{"a":1,"include_usage": true}"#),
        (r#"{"include_usage":null}"#, r#"{"include_usage":true}"#),
        (r#"{"include_usage":true,"a":1}"#, r#"{"include_usage":true,"a":1}"#),
    ] {
        let members =
            |options: &str, model: &str| format!(r#""model":"{model}","stream":true,"stream_options":{options}"#);
        assert_eq!(passed(&members(options, "m"), Quirks::NONE), members(sent, "new"));
        assert_eq!(passed(&members(options, "m"), Quirks::NO_STREAM_OPTIONS), r#""model":"new","stream":true"#);
    }
    let null = passed(r#""stream_options":null,"model":"m","stream":true"#, Quirks::NONE);
    let null: Value = serde_json::from_str(&format!("{{{null}}}")).unwrap();
    assert_eq!(null["stream_options"], json!({"include_usage": true}));
}

#[test]
fn members_are_renamed_for_providers_that_know_one_name_only() {
    for (quirks, members, left) in [
        (Quirks::MAX_TOKENS, r#""model":"m","max_completion_tokens": 5"#, r#""model":"new","max_tokens": 5"#),
        (
            Quirks::MAX_TOKENS,
            r#""model":"m","max_completion_tokens":5,"max_tokens":6"#,
            r#""model":"new","max_tokens":6"#,
        ),
        (Quirks::MAX_COMPLETION_TOKENS, r#""model":"m","max_tokens":6"#, r#""model":"new","max_completion_tokens":6"#),
        (
            Quirks::REASONING_EFFORT,
            r#""model":"m","reasoning":{"effort":"low","exclude":true}"#,
            r#""model":"new","reasoning_effort":"low""#,
        ),
        (
            Quirks::REASONING_EFFORT,
            r#""model":"m","reasoning":{"enabled":false}"#,
            r#""model":"new","reasoning_effort":"none""#,
        ),
        (Quirks::REASONING_EFFORT, r#""model":"m","reasoning":{"exclude":true}"#, r#""model":"new""#),
        (
            Quirks::REASONING_EFFORT,
            r#""model":"m","reasoning":{"effort":"low"},"reasoning_effort":"high""#,
            r#""model":"new","reasoning_effort":"high""#,
        ),
        (
            Quirks::REASONING_EFFORT,
            r#""model":"m","reasoning":{"max_tokens":9}"#,
            r#""model":"new","reasoning":{"max_tokens":9}"#,
        ),
    ] {
        assert_eq!(passed(members, quirks), left);
        let kept = members.replace("\"m\"", "\"new\"");
        assert_eq!(passed(members, Quirks::ALL_TOLERANT), kept, "only by quirk");
    }
}

proptest! {
    #[test]
    fn no_body_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Envelope::scan(Bytes::from(bytes));
    }

    #[test]
    fn a_providers_body_means_what_the_client_wrote(
        order in Just((0..8usize).collect::<Vec<_>>()).prop_shuffle(), count in 2usize..8, space in "[ \n]{0,2}", stream: bool,
    ) {
        let all = [
            ("model", "\"m\"".to_owned()),
            ("messages", "[{\"role\":\"user\",\"content\":\"x\"}]".to_owned()),
            ("stream", stream.to_string()),
            ("extra", "{\"retry\":1}".to_owned()),
            ("provider", "\"groq\"".to_owned()),
            ("usage", "{\"include\":true}".to_owned()),
            ("stop", "[\"a,b\",\"}\"]".to_owned()),
            ("stream_options", "{\"x\":1}".to_owned()),
        ];
        let mut chosen: Vec<usize> = order.into_iter().filter(|place| *place < count.max(3)).collect();
        chosen.dedup();
        let members: Vec<String> = chosen.iter().map(|place| format!("{space}\"{}\"{space}:{space}{}{space}", all[*place].0, all[*place].1)).collect();
        let body = format!("{{{}}}", members.join(","));
        let sent = scan(&body).unwrap().passthrough_body("new", Quirks::NONE);
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        let mut expected: Value = serde_json::from_str(&body).unwrap();
        expected["model"] = json!("new");
        for name in ["extra", "provider", "usage"] {
            expected.as_object_mut().unwrap().shift_remove(name);
        }
        if stream {
            expected["stream_options"]["include_usage"] = json!(true);
        }
        prop_assert_eq!(sent, expected);
    }
}

/// The body with these defaults beside it.
fn with(body: &str, system: Option<&str>, members: &[(&str, &str)]) -> String {
    let members: Vec<_> = members.iter().map(|(name, json)| ((*name).to_owned(), (*json).to_owned())).collect();
    let defaults = Defaults { model: Some("m2"), system, members: &members };
    let envelope = Envelope::scan(body.to_owned().into()).unwrap().with_defaults(&defaults).unwrap();
    assert_eq!(envelope.model, "m2");
    String::from_utf8(envelope.body().to_vec()).unwrap()
}

#[test]
fn defaults_stand_beside_the_clients_bytes() {
    let body =
        r#"{ "model" : "m",  "messages":[ {"role":"user","content":"\u0041"} ], "top_p":1.50, "odd":{"b":1,"a":2} }"#;
    assert_eq!(
        with(body, Some("say \"hi\""), &[("temperature", "0.2"), ("top_p", "0.9"), ("odd", "1")]),
        r#"{ "model" : "m2",  "messages":[{"role":"system","content":"say \"hi\""}, {"role":"user","content":"\u0041"} ], "top_p":1.50, "odd":{"b":1,"a":2},"temperature":0.2 }"#
    );
}

#[test]
fn what_the_client_says_in_other_words_wins_too() {
    let body = r#"{"messages":[{"content":"be","role":"developer"},{"role":"user","content":"x"}],"max_completion_tokens":5,"temperature":null,"extra":{"preset":"p"}}"#;
    let members = [("max_tokens", "9"), ("temperature", "1"), ("stop", "[\"a\"]")];
    assert_eq!(
        with(body, Some("s"), &members),
        r#"{"messages":[{"content":"be","role":"developer"},{"role":"user","content":"x"}],"max_completion_tokens":5,"temperature":null,"extra":{"preset":"p"},"model":"m2","stop":["a"]}"#
    );
}

#[test]
fn a_model_may_come_from_a_preset_alone() {
    let named = |fields: &str| {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"x"}}]{fields}}}"#);
        Envelope::scan(body.into()).map(|envelope| envelope.model)
    };
    assert_eq!(named(r#","extra":{"preset":"p"}"#).unwrap(), "@preset/p");
    assert_eq!(named(r#","preset":"p","model":" ""#).unwrap(), "@preset/p");
    assert_eq!(named("").unwrap_err().param.as_deref(), Some("model"));
}

#[test]
fn a_closer_look_tells_media_from_words() {
    let needs = |content: &str| {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":{content}}}]}}"#);
        let envelope = Envelope::scan(body.into()).unwrap();
        (envelope.needs, envelope.confirmed_needs())
    };
    let (seems, is) = needs(r#"["type", "file", "image_url"]"#);
    assert_eq!(seems, is, "what cannot be read is taken for what it seems");
    let (seems, is) = needs(r#"[{"type":"text","text":"a \"file\""}]"#);
    assert!(!seems.files && !is.files, "a quote in a text is escaped");
    let (seems, is) = needs(r#"[{"type":"text","text":"file"},{"type":"text","text":"file","file":"file"}]"#);
    assert!(seems.files && !is.files);
    assert!(!needs(r#""file""#).0.files, "a text has no parts");
    let (_, is) =
        needs(r#"[{"type":"text","text":"x"},{"type":"file","file":{"file_data":"data:application/pdf;base64,AA"}}]"#);
    assert!(is.files && !is.images);
    let (_, is) = needs(r#"[{"type":"input_audio","input_audio":{"data":"AA","format":"wav"}}]"#);
    assert!(is.audio);
}

#[test]
fn the_beginning_of_a_conversation_is_the_same_in_all_its_turns() {
    let beginning = |messages: &str| {
        let body = format!(r#"{{"model":"m","messages":{messages}}}"#);
        String::from_utf8(Envelope::scan(body.into()).unwrap().beginning().to_vec()).unwrap()
    };
    let first = r#"{"role":"system","content":"s"},{"role":"user","content":"a"}"#;
    assert_eq!(beginning(&format!("[{first}]")), first);
    assert_eq!(beginning(&format!(r#"[{first},{{"role":"assistant","content":"b"}}]"#)), first);
    let long = format!(r#"{{"role":"system","content":"{}"}}"#, "s".repeat(5000));
    assert_eq!(beginning(&format!(r#"[{long},{{"role":"user","content":"a"}}]"#)), long);
}
