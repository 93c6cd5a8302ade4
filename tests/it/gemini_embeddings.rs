//! Google's `:embedContent` and `:batchEmbedContents` in front of every provider that makes vectors.

use crate::gateway::{Gateway, KEY};
use orbyt::sim::client::Answer;
use orbyt::sim::embedding::embed;
use orbyt::sim::{Sim, SimDialect, SimFault};
use serde_json::{Value, json};

const NO_RETRY: &str = "[retry]\nmax = 0\n";
const FORMS: [SimDialect; 5] =
    [SimDialect::OpenAi, SimDialect::Gemini, SimDialect::Cohere, SimDialect::Ollama, SimDialect::Bedrock];

async fn ask(gateway: &Gateway, model: &str, method: &str, body: &Value) -> Answer {
    gateway.ask(&format!("/v1beta/models/{model}:{method}"), &[("x-goog-api-key", KEY)], body).await
}

fn content(text: &str) -> Value {
    json!({ "parts": [{ "text": text }] })
}

fn requests(texts: &[&str], more: &Value) -> Value {
    let one = |text: &&str| {
        let mut one = json!({ "model": "models/x", "content": content(text) });
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        one
    };
    json!({ "requests": texts.iter().map(one).collect::<Vec<Value>>() })
}

fn numbers(embedding: &Value) -> Vec<f32> {
    serde_json::from_value(embedding["values"].clone()).unwrap()
}

fn all(answer: &Answer) -> Vec<Vec<f32>> {
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    answer.json()["embeddings"].as_array().unwrap().iter().map(numbers).collect()
}

#[tokio::test]
async fn every_provider_makes_vectors_for_googles_clients() {
    for dialect in FORMS {
        let sim = Sim::start(dialect).unwrap();
        let gateway = Gateway::builder().config(NO_RETRY).provider("p", &sim).start().await;
        let body = requests(&["one two", "three"], &json!({}));
        let answer = ask(&gateway, "p/some-embed", "batchEmbedContents", &body).await;
        assert_eq!(all(&answer), [embed("one two"), embed("three")], "{dialect:?}");
        assert_eq!((answer.header("x-provider"), answer.header("x-model")), ("p", "some-embed"));
        assert_eq!(answer.json()["usageMetadata"]["promptTokenCount"], 4, "{dialect:?}");
        let line = gateway.log_line(&answer).await;
        let route = json!("POST /v1beta/models/{model}:batchEmbedContents");
        assert_eq!((&line["route"], &line["prompt_tokens"]), (&route, &json!(4)), "{line}");

        let body = json!({ "content": content("one two"), "outputDimensionality": 16 });
        let answer = ask(&gateway, "p/some-embed", "embedContent", &body).await;
        assert_eq!(answer.status, 200, "{dialect:?}: {}", answer.body_text());
        assert_eq!(numbers(&answer.json()["embedding"]), embed("one two")[..16], "{dialect:?}");
        assert_eq!(gateway.log_line(&answer).await["route"], "POST /v1beta/models/{model}:embedContent");
        let metrics = gateway.metrics().await;
        assert!(metrics.contains("gen_ai_operation_name=\"embeddings\""), "{metrics}");
    }
}

#[tokio::test]
async fn google_gets_the_bytes_as_they_are() {
    let sim = Sim::start(SimDialect::Gemini).unwrap();
    let gateway = Gateway::builder().config(NO_RETRY).provider("g", &sim).start().await;
    let sent = async |method: &str, body: &str| {
        let url = format!("{}/v1beta/models/g/m:{method}", gateway.url);
        let headers = [("x-goog-api-key", KEY)];
        let answer = orbyt::sim::client::send("POST", &url, &headers, body.as_bytes()).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        assert!(answer.body_text().contains('\n'), "the provider's own white space is lost");
        let call = sim.calls().pop().unwrap();
        (call.path.clone(), String::from_utf8(call.body).unwrap())
    };
    let batch = r#"{ "extra":{"retry":0}, "requests" : [{"model":"models/g/m", "content":{"parts":[{"text":"a\u00e9"}]}, "title":"A", "own":1.0},{"content":{"parts":[{"text":"b"}]}} ] }"#;
    let expected = r#"{  "requests" : [{"model":"models/m", "content":{"parts":[{"text":"a\u00e9"}]}, "title":"A", "own":1.0},{"model":"models/m","content":{"parts":[{"text":"b"}]}} ]}"#;
    assert_eq!(
        sent("batchEmbedContents", batch).await,
        ("/v1beta/models/m:batchEmbedContents".into(), expected.into())
    );
    let one = r#"{"model":"models/g/m","content":{"parts":[{"text":"a"},{"inlineData":{}}]},  "own":1.0}"#;
    let expected = r#"{"content":{"parts":[{"text":"a"},{"inlineData":{}}]},  "own":1.0}"#;
    assert_eq!(sent("embedContent", one).await, ("/v1beta/models/m:embedContent".into(), expected.into()));
}

#[tokio::test]
async fn what_a_text_is_for_reaches_whoever_knows_it_and_is_named_elsewhere() {
    let (cohere, openai) = (Sim::start(SimDialect::Cohere).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let gateway = Gateway::builder().config(NO_RETRY).provider("c", &cohere).provider("o", &openai).start().await;
    let body = requests(&["one", "two"], &json!({ "task_type": "RETRIEVAL_QUERY" }));
    let answer = ask(&gateway, "c/m", "batchEmbedContents", &body).await;
    assert_eq!((all(&answer).len(), answer.header("x-orbyt-dropped")), (2, ""));
    assert_eq!(cohere.calls().pop().unwrap().json()["input_type"], "search_query");
    let answer = ask(&gateway, "o/m", "batchEmbedContents", &body).await;
    assert_eq!((all(&answer).len(), answer.header("x-orbyt-dropped")), (2, "taskType"));
    let sent = openai.calls().pop().unwrap().json();
    assert_eq!(sent, json!({ "model": "m", "input": ["one", "two"], "encoding_format": "float" }));

    let mut titles = body.clone();
    titles["requests"][1]["title"] = json!("only here");
    let answer = ask(&gateway, "c/m", "batchEmbedContents", &titles).await;
    assert_eq!((all(&answer).len(), answer.header("x-orbyt-dropped")), (2, "title"));
    titles["provider"] = json!({ "require_parameters": true });
    let answer = ask(&gateway, "c/m", "batchEmbedContents", &titles).await;
    assert_eq!(answer.status, 400, "{}", answer.body_text());
}

#[tokio::test]
async fn what_cannot_be_asked_is_an_error_in_googles_form() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().config(NO_RETRY).provider("o", &sim).start().await;
    let mut lengths = requests(&["one", "two"], &json!({ "outputDimensionality": 8 }));
    lengths["requests"][1]["outputDimensionality"] = json!(16);
    let picture = json!({ "content": { "parts": [{ "inlineData": { "mimeType": "image/png", "data": "AA==" } }] } });
    for (method, body, named) in [
        ("embedContent", json!({}), "content"),
        ("embedContent", json!({ "content": [] }), "content"),
        ("embedContent", requests(&["one"], &json!({})), "requests"),
        ("embedContent", picture, "every part must be a text"),
        ("embedContent", json!({ "content": content("a"), "outputDimensionality": "x" }), "outputDimensionality"),
        ("batchEmbedContents", json!({ "content": content("a") }), "requests"),
        ("batchEmbedContents", json!({ "requests": [] }), "must not be empty"),
        ("batchEmbedContents", json!({ "requests": [1] }), "objects"),
        ("batchEmbedContents", lengths, "the same in all requests"),
    ] {
        let answer = ask(&gateway, "o/m", method, &body).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["status"]), (400, &json!("INVALID_ARGUMENT")), "{body}: {error}");
        assert!(error["message"].as_str().unwrap().contains(named), "{body}: {error}");
    }
    assert!(sim.calls().is_empty());
}

#[tokio::test]
async fn another_provider_takes_over_and_presets_and_the_cache_hold() {
    let (one, two) = (Sim::start(SimDialect::Gemini).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let alias = "[[model]]\nname = \"vectors\"\ntargets = [\"one/m\", \"two/m\"]\n";
    let preset = "[[preset]]\nslug = \"v\"\nmodel = \"vectors\"\nsystem = \"for conversations\"\nparameters = { temperature = 0.5 }\n";
    let config = format!("{NO_RETRY}[cache]\nbackend = \"memory\"\n{alias}{preset}");
    let gateway = Gateway::builder().config(&config).provider("one", &one).provider("two", &two).start().await;
    one.always(SimFault::ServerError);
    let body = json!({ "content": content("one two") });
    let answer = ask(&gateway, "vectors", "embedContent", &body).await;
    assert_eq!(numbers(&answer.json()["embedding"]), embed("one two"));
    assert_eq!((answer.header("x-provider"), answer.header("x-orbyt-fallback")), ("two", "true"));
    let calls = two.calls().len();
    let again = ask(&gateway, "vectors", "embedContent", &body).await;
    assert_eq!((again.body_text(), two.calls().len()), (answer.body_text(), calls));
    // The same text by the other method is another answer.
    let batch = ask(&gateway, "@preset/v", "batchEmbedContents", &requests(&["one two"], &json!({}))).await;
    assert_eq!(all(&batch), [embed("one two")]);
}

#[tokio::test]
async fn more_than_a_provider_takes_at_once_is_sent_in_batches() {
    let texts: Vec<String> = (0..520).map(|number| format!("text number {number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for (dialect, id, calls) in [
        (SimDialect::Gemini, "google", vec![100, 100, 100, 100, 100, 20]),
        (SimDialect::OpenAi, "mistral", vec![512, 8]),
        (SimDialect::OpenAi, "p", vec![520]),
        (SimDialect::Cohere, "p", vec![96, 96, 96, 96, 96, 40]),
    ] {
        let sim = Sim::start(dialect).unwrap();
        let gateway = Gateway::builder().config(NO_RETRY).provider(id, &sim).start().await;
        let body = requests(&texts, &json!({}));
        let answer = ask(&gateway, &format!("{id}/some-embed"), "batchEmbedContents", &body).await;
        let expected: Vec<Vec<f32>> = texts.iter().map(|text| embed(text)).collect();
        assert!(all(&answer) == expected, "{dialect:?}");
        let tokens: usize = texts.iter().map(|text| text.len().div_ceil(4)).sum();
        assert_eq!(answer.json()["usageMetadata"]["promptTokenCount"], json!(tokens), "{dialect:?}");
        let count =
            |sent: Value| ["requests", "input", "texts"].iter().find_map(|name| Some(sent[name].as_array()?.len()));
        let sent: Vec<usize> = sim.calls().iter().filter_map(|call| count(call.json())).collect();
        assert_eq!(sent, calls, "{dialect:?}");
    }
}
