//! The routes whose requests and answers pass as they are: pictures, speech, transcripts, moderation, reranking.

use crate::gateway::{Gateway, KEY, PATIENCE};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use orbyt::sim::client::{self, Answer, BodyEnd};
use orbyt::sim::{Act, Sim, SimDialect, SimFault, Step};
use serde_json::{Value, json};
use std::time::Duration;

const NO_RETRY: &str = "[retry]\nmax = 0\n";
const TWO: &str = "[[model]]\nname = \"both\"\ntargets = [\"one/m\", \"two/m\"]\n[breaker]\nenabled = false\n";

async fn post(gateway: &Gateway, path: &str, content_type: &str, body: &[u8]) -> Answer {
    let (key, url) = (format!("Bearer {KEY}"), format!("{}{path}", gateway.url));
    let headers = [("authorization", key.as_str()), ("content-type", content_type)];
    tokio::time::timeout(PATIENCE, client::send("POST", &url, &headers, body)).await.unwrap().unwrap()
}

async fn ask(gateway: &Gateway, path: &str, body: &Value) -> Answer {
    post(gateway, path, "application/json", body.to_string().as_bytes()).await
}

/// A form with these texts and a file.
fn form(texts: &[(&str, &str)], file: (&str, &str, &[u8])) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, text) in texts {
        body.extend(format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n").bytes());
    }
    let (name, file_name, bytes) = file;
    let head = format!(
        "--edge\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"\r\nContent-Type: audio/wav\r\n\r\n"
    );
    body.extend(head.bytes());
    body.extend_from_slice(bytes);
    body.extend_from_slice(b"\r\n--edge--\r\n");
    body
}

const FORM: &str = "multipart/form-data; boundary=edge";
/// Bytes that are no text and look like the edge of a part.
const SOUND: &[u8] = b"RIFF\0\xff\xfe\r\n--edg\r\n\r\n";

async fn gateway() -> (Gateway, Sim, Sim) {
    let (one, two) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let config = format!("{NO_RETRY}{TWO}[timeouts]\nfirst_output = \"300ms\"\nidle = \"300ms\"\n");
    let gateway = Gateway::builder().config(&config).provider("one", &one).provider("two", &two).start().await;
    (gateway, one, two)
}

#[tokio::test]
async fn every_route_reaches_the_provider_of_the_model_and_its_answer_comes_back_as_it_is() {
    let (gateway, one, _two) = gateway().await;
    let answer =
        ask(&gateway, "/v1/images/generations", &json!({"model": "one/m", "prompt": "a red circle", "n": 2})).await;
    assert_eq!((answer.status, answer.header("x-provider"), answer.header("x-model")), (200, "one", "m"));
    let pictures = answer.json()["data"].as_array().unwrap().clone();
    assert_eq!((pictures.len(), &pictures[0]["b64_json"]), (2, &json!(STANDARD.encode("a red circle"))));
    assert!(answer.body_text().contains("\n  "), "the provider's own white space is lost");
    let line = gateway.log_line(&answer).await;
    assert_eq!(
        (&line["route"], &line["prompt_tokens"], &line["completion_tokens"]),
        (&json!("POST /v1/images/generations"), &json!(3), &json!(272)),
        "{line}"
    );

    let answer = ask(&gateway, "/v1/audio/speech", &json!({"model": "one/m", "input": "hello", "voice": "v"})).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "audio/mpeg"));
    assert_eq!(answer.body, b"\xff\xf3hello");

    let answer = ask(&gateway, "/v1/moderations", &json!({"model": "one/m", "input": ["good", "bad"]})).await;
    let flagged: Vec<bool> =
        answer.json()["results"].as_array().unwrap().iter().map(|one| one["flagged"] == true).collect();
    assert_eq!(flagged, [false, true]);

    let documents = ["a bear", "the panda eats", "rain"];
    let ranked = json!({"model": "one/m", "query": "what eats the panda", "documents": documents, "top_n": 1});
    let answer = ask(&gateway, "/v1/rerank", &ranked).await;
    assert_eq!(answer.json()["results"][0]["index"], 1, "{}", answer.body_text());
    assert_eq!(one.calls().pop().unwrap().header("authorization"), Some("Bearer key-of-one"));
}

#[tokio::test]
async fn forms_keep_every_byte_but_for_the_model_and_what_is_the_gateways() {
    let (gateway, one, _two) = gateway().await;
    let texts = [("model", "one/m"), ("extra", "{\"retry\":0}"), ("prompt", "names: \u{e9}")];
    for (path, said) in [("/v1/audio/transcriptions", "Text of"), ("/v1/audio/translations", "English of")] {
        let answer = post(&gateway, path, FORM, &form(&texts, ("file", "a.wav", SOUND))).await;
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        assert_eq!(answer.json()["text"], format!("{said} a.wav ({} bytes)", SOUND.len()));
        let call = one.calls().pop().unwrap();
        assert_eq!(call.header("content-type"), Some(FORM));
        let sent = form(&[("model", "m"), ("prompt", "names: \u{e9}")], ("file", "a.wav", SOUND));
        // Names of headers have no case.
        let plain = |body: &[u8]| {
            String::from_utf8_lossy(body)
                .replace("Content-", "content-")
                .replace("-Disp", "-disp")
                .replace("-Type", "-type")
        };
        assert_eq!(plain(&call.body), plain(&sent));
        let line = gateway.log_line(&answer).await;
        assert_eq!((&line["prompt_tokens"], &line["route"]), (&json!(20), &json!(format!("POST {path}"))), "{line}");
    }
    let texts = [("model", "one/m"), ("prompt", "make it green")];
    let answer = post(&gateway, "/v1/images/edits", FORM, &form(&texts, ("image", "p.png", SOUND))).await;
    let shown = format!("make it green of p.png ({} bytes)", SOUND.len());
    assert_eq!(answer.json()["data"][0]["b64_json"], STANDARD.encode(shown), "{}", answer.body_text());
    let text = [("model", "one/m"), ("response_format", "text")];
    let answer = post(&gateway, "/v1/audio/transcriptions", FORM, &form(&text, ("file", "a.wav", SOUND))).await;
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    assert!(answer.body_text().starts_with("Text of a.wav"));
}

#[tokio::test]
async fn streams_flow_with_the_usage_of_their_last_event() {
    let (gateway, _one, _two) = gateway().await;
    let stream = [("model", "one/m"), ("stream", "true")];
    let transcript = form(&stream, ("file", "a.wav", SOUND));
    let speech = json!({"model": "one/m", "input": "hello", "stream_format": "sse"}).to_string();
    let picture = json!({"model": "one/m", "prompt": "circle", "stream": true}).to_string();
    for (path, content_type, body, last, tokens) in [
        ("/v1/audio/transcriptions", FORM, transcript, "transcript.text.done", 20),
        ("/v1/audio/speech", "application/json", speech.into_bytes(), "speech.audio.done", 2),
        ("/v1/images/generations", "application/json", picture.into_bytes(), "image_generation.completed", 2),
    ] {
        let answer = post(&gateway, path, content_type, &body).await;
        assert_eq!(answer.header("content-type"), "text/event-stream; charset=utf-8", "{}", answer.body_text());
        let text = answer.body_text();
        assert!(text.ends_with("\n\n") && text.contains(&format!("event: {last}\n")), "{text}");
        let line = gateway.log_line(&answer).await;
        assert_eq!((&line["stream"], &line["prompt_tokens"]), (&json!(true), &json!(tokens)), "{line}");
    }
}

#[tokio::test]
async fn what_fails_before_its_first_byte_is_another_providers() {
    let (gateway, one, _two) = gateway().await;
    let speech = |model: &str| json!({"model": model, "input": "hello"});
    for fault in [
        SimFault::ServerError,
        SimFault::BadGateway,
        SimFault::Html,
        SimFault::Empty,
        SimFault::ErrorFirst,
        SimFault::ResetBeforeHead,
        SimFault::ResetAfterHead,
        SimFault::Timeout,
        SimFault::Stall,
        SimFault::RateLimited,
    ] {
        one.reset().always(fault);
        let answer = ask(&gateway, "/v1/audio/speech", &speech("both")).await;
        assert_eq!((answer.status, answer.header("x-provider")), (200, "two"), "{fault:?}: {}", answer.body_text());
        assert_eq!(answer.body, b"\xff\xf3hello");
        assert_eq!(answer.header("x-orbyt-fallback"), "true");
    }
}

#[tokio::test]
async fn json_that_breaks_off_is_another_providers_and_sound_that_breaks_off_ends_no_answer() {
    let (gateway, one, _two) = gateway().await;
    for fault in [SimFault::CutJson, SimFault::MalformedFirst, SimFault::CutAfterTokens, SimFault::CloseAfterTokens] {
        one.reset().always(fault);
        let answer = ask(&gateway, "/v1/images/generations", &json!({"model": "both", "prompt": "circle"})).await;
        assert_eq!((answer.status, answer.header("x-provider")), (200, "two"), "{fault:?}");
    }
    one.reset().always(SimFault::CutAfterTokens);
    let answer = ask(&gateway, "/v1/audio/speech", &json!({"model": "both", "input": "hello hello hello"})).await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "one"));
    assert!(answer.end != BodyEnd::Clean, "an answer that broke off looks whole");
    assert_eq!(gateway.log_line(&answer).await["ended"], "broken");
    // In a stream of events there is a place for the error.
    let event = "data: {\"type\":\"a.delta\"}\n\n";
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let begun = format!("{head}{:x}\r\n{event}\r\n", event.len()).into_bytes();
    one.reset().always(Step::Acts(vec![Act::Write(begun), Act::Pause(Duration::from_millis(100)), Act::Reset]));
    let answer =
        ask(&gateway, "/v1/images/generations", &json!({"model": "one/m", "prompt": "x", "stream": true})).await;
    let text = answer.body_text();
    assert!(text.starts_with(event) && text.contains("event: error\ndata: {\"error\":"), "{text}");
}

#[tokio::test]
async fn a_slow_answer_flows_piece_by_piece() {
    let (gateway, one, _two) = gateway().await;
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: audio/pcm\r\ncontent-length: 6\r\n\r\nabc";
    one.always(Step::Acts(vec![
        Act::Write(head.to_vec()),
        Act::Pause(Duration::from_millis(100)),
        Act::Write(b"def".to_vec()),
    ]));
    let (key, url) = (format!("Bearer {KEY}"), format!("{}/v1/audio/speech", gateway.url));
    let body = json!({"model": "one/m", "input": "x", "response_format": "pcm"}).to_string();
    let mut open = client::open("POST", &url, &[("authorization", &key)], body.as_bytes()).await.unwrap();
    assert_eq!(open.piece().await.unwrap(), b"abc");
    let answer = open.finish().await;
    assert_eq!((answer.header("content-type"), &answer.body[..]), ("audio/pcm", &b"def"[..]));
}

#[tokio::test]
async fn what_is_wrong_is_told_in_openais_form() {
    let (openai, gemini) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::Gemini).unwrap());
    let gateway = Gateway::builder()
        .config(NO_RETRY)
        .variable("OPENAI_API_KEY", "k")
        .variable("OPENAI_BASE_URL", &openai.base_url())
        .provider("gem", &gemini)
        .start()
        .await;
    let json = "application/json";
    let no_form = b"--edge\r\nnothing".as_slice();
    for (path, content_type, body, status, param, words) in [
        ("/v1/images/generations", json, br#"{"prompt":"x"}"#.as_slice(), 400, "model", "provide a model"),
        (
            "/v1/images/generations",
            json,
            br#"{"model":"gpt-4o","prompt":"x"}"#,
            400,
            "model",
            "nothing behind this route",
        ),
        (
            "/v1/images/generations",
            json,
            br#"{"model":"gem/imagen","prompt":"x"}"#,
            400,
            "model",
            "nothing behind this route",
        ),
        ("/v1/audio/speech", json, br#"{"model":"whisper-1","input":"x"}"#, 400, "model", "nothing behind this route"),
        ("/v1/audio/speech", json, br#"{"model":"no-such-voice","input":"x"}"#, 404, "model", "not available"),
        ("/v1/audio/speech", json, br#"{"model":"tts-1"}"#, 400, "input", "Missing required parameter"),
        ("/v1/audio/transcriptions", FORM, no_form, 400, "body", "not a form"),
        ("/v1/audio/transcriptions", "multipart/form-data", no_form, 400, "body", "not a form"),
        ("/v1/rerank", json, b"{", 400, "", "not JSON"),
    ] {
        let answer = post(&gateway, path, content_type, body).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, error["param"].as_str().unwrap_or_default()), (status, param), "{path}: {error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{path}: {error}");
    }
    assert!(gemini.calls().is_empty());
    // A request for moderation need not name a model.
    let answer = ask(&gateway, "/v1/moderations", &json!({"input": "bad"})).await;
    assert_eq!((answer.status, answer.header("x-model")), (200, "omni-moderation-latest"), "{}", answer.body_text());
    assert_eq!(answer.json()["results"][0]["flagged"], true);
    let url = format!("{}/v1/rerank", gateway.url);
    let answer = client::send("POST", &url, &[], b"{}").await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &json!("invalid_api_key")));
}

#[tokio::test]
async fn cohere_ranks_at_its_own_place_and_azure_at_the_deployments() {
    let (cohere, azure) = (Sim::start(SimDialect::Cohere).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let cloud = format!(
        "{NO_RETRY}[[provider]]\nid = \"azure\"\nbase_url = \"http://{}\"\napi_version = \"2024-10-21\"\n[[provider.key]]\nsecret = \"k\"\n",
        azure.address()
    );
    let gateway = Gateway::builder().config(&cloud).provider("co", &cohere).start().await;
    let ranked = json!({"model": "co/rank", "query": "panda", "documents": ["rain", "a panda"]});
    let answer = ask(&gateway, "/v1/rerank", &ranked).await;
    assert_eq!((answer.status, &answer.json()["results"][0]["index"]), (200, &json!(1)), "{}", answer.body_text());
    assert_eq!(cohere.calls().pop().unwrap().path, "/v2/rerank");
    let texts = [("model", "azure/my-ears")];
    let answer = post(&gateway, "/v1/audio/transcriptions", FORM, &form(&texts, ("file", "a.wav", SOUND))).await;
    assert_eq!(azure.calls().pop().unwrap().path, "/openai/deployments/my-ears/audio/transcriptions");
    assert_eq!(answer.status, 200, "{}", answer.body_text());
}

#[tokio::test]
async fn limits_and_bounds_hold() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let config = format!(
        "{NO_RETRY}[server]\nmax_body_bytes = 4096\n[[limits.rule]]\nscope = \"key\"\nrequests_per_minute = 2\n"
    );
    let gateway = Gateway::builder().config(&config).provider("p", &sim).start().await;
    let body = form(&[("model", "p/m")], ("file", "a.wav", &[0; 5000]));
    let answer = post(&gateway, "/v1/audio/transcriptions", FORM, &body).await;
    assert_eq!(answer.status, 413, "{}", answer.body_text());
    let speech = json!({"model": "p/m", "input": "x"});
    for status in [200, 200, 429] {
        assert_eq!(ask(&gateway, "/v1/audio/speech", &speech).await.status, status);
    }
    gateway.shows(r#"gen_ai_operation_name="speech""#).await;
}

/// Cohere's, Jina's and Voyage's clients each get their own form, whoever ranks.
#[tokio::test]
async fn rankings_are_told_in_the_words_of_the_client() {
    let (jina, voyage) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let cohere = Sim::start(SimDialect::Cohere).unwrap();
    let builder = Gateway::builder().config(NO_RETRY).provider("jina", &jina).provider("voyage", &voyage);
    let gateway = builder.provider("cohere", &cohere).start().await;
    let documents = ["a bear", "the panda eats", "rain"];
    let asked = |model: &str, more: Value| {
        let mut body =
            json!({"model": model, "query": "what eats the panda", "documents": documents, "return_documents": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (model, sim) in [("jina/r", &jina), ("voyage/r", &voyage), ("cohere/r", &cohere)] {
        for (more, ranks, document) in [
            (json!({"top_n": 1}), "results", json!({"text": "the panda eats"})),
            (json!({"top_k": 1, "truncation": true}), "data", json!("the panda eats")),
        ] {
            let answer = ask(&gateway, "/v1/rerank", &asked(model, more.clone())).await;
            assert_eq!(answer.status, 200, "{model}: {}", answer.body_text());
            let body = answer.json();
            assert_eq!(body[ranks].as_array().unwrap().len(), 1, "{model} {more}: {body}");
            assert_eq!((&body[ranks][0]["index"], &body[ranks][0]["document"]), (&json!(1), &document), "{model}");
            assert!(body["usage"]["total_tokens"].as_u64() > Some(0), "{body}");
            let sent = sim.calls().pop().unwrap().json();
            let own = if model == "voyage/r" { "top_k" } else { "top_n" };
            assert_eq!((&sent[own], sent["model"].as_str()), (&json!(1), Some("r")), "{model}: {sent}");
            let lost = model != "voyage/r" && more.get("truncation").is_some();
            assert_eq!(answer.header("x-orbyt-dropped"), if lost { "truncation" } else { "" }, "{model}");
            assert_eq!(gateway.log_line(&answer).await["status"], 200);
        }
    }
    let mut strict = asked("jina/r", json!({"top_k": 1, "truncation": true}));
    strict["provider"] = json!({"require_parameters": true});
    let answer = ask(&gateway, "/v1/rerank", &strict).await;
    assert_eq!(answer.status, 400, "{}", answer.body_text());
}
