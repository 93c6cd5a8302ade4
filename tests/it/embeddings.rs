//! `POST /v1/embeddings`: every form of provider behind the one of OpenAI's, and all that holds for conversations too.

use crate::gateway::{Gateway, KEY};
use base64::Engine;
use orbyt::sim::client::Answer;
use orbyt::sim::embedding::{DIMENSIONS, embed};
use orbyt::sim::{Sim, SimDialect, SimFault};
use serde_json::{Value, json};

const NO_RETRY: &str = "[retry]\nmax = 0\n";
/// Those that make embeddings; Anthropic does not.
const FORMS: [SimDialect; 5] =
    [SimDialect::OpenAi, SimDialect::Gemini, SimDialect::Cohere, SimDialect::Ollama, SimDialect::Bedrock];

async fn embeddings(gateway: &Gateway, body: &Value) -> Answer {
    let key = format!("Bearer {KEY}");
    gateway.ask("/v1/embeddings", &[("authorization", &key), ("content-type", "application/json")], body).await
}

/// The vectors of an answer, as numbers, in the order of their inputs.
fn vectors(answer: &Answer) -> Vec<Vec<f32>> {
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    let body = answer.json();
    assert_eq!(body["object"], "list");
    let data = body["data"].as_array().unwrap();
    let numbers = |(place, item): (usize, &Value)| {
        assert_eq!((&item["index"], &item["object"]), (&json!(place), &json!("embedding")));
        match &item["embedding"] {
            Value::String(packed) => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(packed).unwrap();
                bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
            }
            list => serde_json::from_value(list.clone()).unwrap(),
        }
    };
    data.iter().enumerate().map(numbers).collect()
}

#[tokio::test]
async fn every_provider_makes_vectors_in_both_encodings_and_of_any_length() {
    for dialect in FORMS {
        let sim = Sim::start(dialect).unwrap();
        let gateway = Gateway::builder().config(NO_RETRY).provider("p", &sim).start().await;
        let ask = |more: Value| {
            let mut body = json!({"model": "p/some-embed", "input": ["one two", "three"]});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let answer = embeddings(&gateway, &ask(json!({}))).await;
        assert_eq!(vectors(&answer), [embed("one two"), embed("three")], "{dialect:?}");
        assert_eq!((answer.header("x-provider"), answer.header("x-model")), ("p", "some-embed"));
        assert_eq!(answer.header("content-type"), "application/json");
        let usage = &answer.json()["usage"];
        assert_eq!((&usage["prompt_tokens"], &usage["total_tokens"]), (&json!(4), &json!(4)), "{dialect:?}");
        let packed = embeddings(&gateway, &ask(json!({"encoding_format": "base64"}))).await;
        assert!(packed.json()["data"][0]["embedding"].is_string());
        assert_eq!(vectors(&packed), [embed("one two"), embed("three")], "{dialect:?}");
        let short = embeddings(&gateway, &ask(json!({"dimensions": 16, "input": "one two"}))).await;
        assert_eq!(vectors(&short), [embed("one two")[..16].to_vec()], "{dialect:?}");
        let line = gateway.log_line(&answer).await;
        assert_eq!((&line["route"], &line["prompt_tokens"]), (&json!("POST /v1/embeddings"), &json!(4)), "{line}");
        assert_eq!((&line["status"], &line["attempts"]), (&json!(200), &json!(1)), "{line}");
    }
}

#[tokio::test]
async fn more_inputs_than_a_provider_takes_at_once_are_sent_in_batches() {
    let texts: Vec<String> = (0..205).map(|number| format!("text number {number}")).collect();
    for (dialect, calls) in
        [(SimDialect::OpenAi, 1), (SimDialect::Gemini, 3), (SimDialect::Cohere, 3), (SimDialect::Bedrock, 205)]
    {
        let sim = Sim::start(dialect).unwrap();
        let gateway = Gateway::builder().config(NO_RETRY).provider("p", &sim).start().await;
        let answer = embeddings(&gateway, &json!({"model": "p/some-embed", "input": texts})).await;
        let expected: Vec<Vec<f32>> = texts.iter().map(|text| embed(text)).collect();
        assert!(vectors(&answer) == expected, "{dialect:?}");
        assert_eq!(sim.calls().len(), calls, "{dialect:?}");
        let tokens: usize = texts.iter().map(|text| text.len().div_ceil(4)).sum();
        assert_eq!(answer.json()["usage"]["prompt_tokens"], json!(tokens), "{dialect:?}");
        assert_eq!(gateway.log_line(&answer).await["attempts"], 1);
    }
}

/// Providers of OpenAI's own form that say how many inputs they take at once: the bytes are the client's but for the list.
#[tokio::test]
async fn a_provider_of_the_same_form_gets_no_more_than_it_takes_at_once() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().config(NO_RETRY).provider("mistral", &sim).provider("jina", &sim).start().await;
    let texts: Vec<String> = (0..1030).map(|number| format!("text number {number}, \u{e9}")).collect();
    for (model, calls) in [
        ("mistral/mistral-embed", vec![512, 512, 6]),
        ("jina/jina-embeddings-v4", vec![512, 512, 6]),
        ("jina/jina-embeddings-v3", vec![1030]),
    ] {
        for encoding in ["float", "base64"] {
            sim.forget_calls();
            let body = json!({"model": model, "input": texts, "encoding_format": encoding, "user": "u"});
            let answer = embeddings(&gateway, &body).await;
            let expected: Vec<Vec<f32>> = texts.iter().map(|text| embed(text)).collect();
            assert!(vectors(&answer) == expected, "{model} {encoding}");
            let tokens: usize = texts.iter().map(|text| text.len().div_ceil(4)).sum();
            assert_eq!(answer.json()["usage"]["prompt_tokens"], json!(tokens), "{model}");
            assert_eq!(gateway.log_line(&answer).await["attempts"], 1);
            let sent: Vec<Value> = sim.calls().iter().map(|call| call.json()).collect();
            let counts: Vec<usize> = sent.iter().map(|sent| sent["input"].as_array().unwrap().len()).collect();
            assert_eq!(counts, calls, "{model} {encoding}");
            let all: Vec<Value> = sent.iter().flat_map(|sent| sent["input"].as_array().unwrap().clone()).collect();
            assert_eq!((json!(all), &sent[0]["user"]), (body["input"].clone(), &json!("u")));
        }
    }
    // One that fails fails all, and nothing of the others is told.
    sim.forget_calls();
    sim.script([SimFault::Ok, SimFault::ServerError]);
    let answer = embeddings(&gateway, &json!({"model": "mistral/mistral-embed", "input": texts})).await;
    assert_eq!((answer.status, sim.calls().len()), (503, 2), "{}", answer.body_text());
    assert_eq!(answer.json()["error"]["metadata"]["attempts"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_batch_that_is_refused_fails_the_attempt_and_another_provider_of_the_model_takes_over() {
    let (cohere, other) = (Sim::start(SimDialect::Cohere).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let alias = "[[model]]\nname = \"vectors\"\ntargets = [\"one/m\", \"two/m\"]\n";
    let config = format!("{NO_RETRY}{alias}");
    let gateway = Gateway::builder().config(&config).provider("one", &cohere).provider("two", &other).start().await;
    cohere.script([SimFault::Ok, SimFault::ServerError]);
    let texts: Vec<String> = (0..100).map(|number| format!("text {number}")).collect();
    let answer = embeddings(&gateway, &json!({"model": "vectors", "input": texts})).await;
    assert_eq!(vectors(&answer).len(), 100);
    assert_eq!((answer.header("x-provider"), answer.header("x-orbyt-fallback")), ("two", "true"));
    assert_eq!((cohere.calls().len(), other.calls().len()), (2, 1));
}

#[tokio::test]
async fn tokens_go_where_the_model_has_them_and_are_a_clear_refusal_elsewhere() {
    let (openai, cohere) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::Cohere).unwrap());
    let gateway = Gateway::builder().config(NO_RETRY).provider("one", &openai).provider("two", &cohere).start().await;
    for input in [json!([1, 2, 3]), json!([[1, 2], [3]])] {
        let count = if input[0].is_array() { 2 } else { 1 };
        let answer = embeddings(&gateway, &json!({"model": "one/m", "input": input, "user": "u"})).await;
        assert_eq!(vectors(&answer).len(), count);
        let sent = openai.calls().pop().unwrap().json();
        assert_eq!((&sent["input"], &sent["user"], &sent["model"]), (&input, &json!("u"), &json!("m")));
        let answer = embeddings(&gateway, &json!({"model": "two/m", "input": input})).await;
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("input")), "{}", answer.body_text());
    }
    assert!(cohere.calls().is_empty());
}

#[tokio::test]
async fn a_provider_of_the_same_form_gets_the_bytes_as_they_are() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().config(NO_RETRY).provider("one", &sim).start().await;
    let body = r#"{ "extra": {"retry": 0}, "input" : ["a\u00e9"],  "made_up":1.0, "model":"one/m" ,"encoding_format":"float"}"#;
    let (key, url) = (format!("Bearer {KEY}"), format!("{}/v1/embeddings", gateway.url));
    let answer = orbyt::sim::client::send("POST", &url, &[("authorization", &key)], body.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    let sent = String::from_utf8(sim.calls().pop().unwrap().body).unwrap();
    assert_eq!(sent, r#"{  "input" : ["a\u00e9"],  "made_up":1.0, "model":"m" ,"encoding_format":"float"}"#);
    assert!(answer.body_text().contains("\n"), "the provider's own white space is lost");
}

#[tokio::test]
async fn faults_lead_to_the_next_provider_and_the_last_one_is_told() {
    let (one, two) = (Sim::start(SimDialect::Gemini).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let alias = "[[model]]\nname = \"vectors\"\ntargets = [\"one/m\", \"two/m\"]\n[breaker]\nenabled = false\n";
    let config = format!("{NO_RETRY}{alias}[timeouts]\nfirst_output = \"300ms\"\nidle = \"300ms\"\n");
    let gateway = Gateway::builder().config(&config).provider("one", &one).provider("two", &two).start().await;
    for fault in [
        SimFault::ServerError,
        SimFault::Overloaded,
        SimFault::Html,
        SimFault::Empty,
        SimFault::CutJson,
        SimFault::MalformedFirst,
        SimFault::ErrorFirst,
        SimFault::ResetBeforeHead,
        SimFault::ResetAfterHead,
        SimFault::CutAfterTokens,
        SimFault::CloseAfterTokens,
        SimFault::Timeout,
        SimFault::Stall,
        SimFault::StallAfterTokens,
        // Then its key rests.
        SimFault::RateLimited,
    ] {
        one.reset().always(fault);
        let answer = embeddings(&gateway, &json!({"model": "vectors", "input": "one two"})).await;
        assert_eq!(vectors(&answer), [embed("one two")], "{fault:?}");
        assert_eq!(answer.header("x-provider"), "two", "{fault:?}");
    }
    two.always(SimFault::BadRequest);
    let answer = embeddings(&gateway, &json!({"model": "two/m", "input": "one two"})).await;
    let error = &answer.json()["error"];
    assert_eq!((answer.status, &error["type"]), (400, &json!("invalid_request_error")), "{error}");
    assert_eq!(error["metadata"]["attempts"][0]["provider"], "two");
}

#[tokio::test]
async fn no_other_model_stands_in_unless_it_is_named() {
    let (one, two) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::Cohere).unwrap());
    let routing = "[routing]\nfallbacks = [\"two/other\"]\n";
    let config = format!("{NO_RETRY}{routing}");
    let gateway = Gateway::builder().config(&config).provider("one", &one).provider("two", &two).start().await;
    one.always(SimFault::ServerError);
    let body = json!({"model": "one/m", "input": "one two"});
    let answer = embeddings(&gateway, &body).await;
    assert_eq!((answer.status, two.calls().len()), (503, 0), "{}", answer.body_text());
    let mut named = body.clone();
    named["extra"] = json!({"fallback_models": ["two/other"]});
    let answer = embeddings(&gateway, &named).await;
    assert_eq!((answer.header("x-provider"), answer.header("x-model")), ("two", "other"));
    assert_eq!(vectors(&answer), [embed("one two")]);
}

#[tokio::test]
async fn what_a_model_is_for_is_known() {
    let (openai, anthropic) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::Anthropic).unwrap());
    let gateway = Gateway::builder()
        .config(NO_RETRY)
        .variable("OPENAI_API_KEY", "k")
        .variable("OPENAI_BASE_URL", &openai.base_url())
        .variable("ANTHROPIC_API_KEY", "k")
        .variable("ANTHROPIC_BASE_URL", &anthropic.base_url())
        .start()
        .await;
    let answer = embeddings(&gateway, &json!({"model": "text-embedding-3-small", "input": "one two"})).await;
    assert_eq!((answer.header("x-provider"), answer.header("x-model")), ("openai", "text-embedding-3-small"));
    let line = gateway.log_line(&answer).await;
    assert_eq!(line["cost_usd"], 4e-8, "{line}");
    for (model, status, message) in [
        ("gpt-4o", 400, "makes no embeddings"),
        ("claude-sonnet-4-5", 400, "makes no embeddings"),
        ("auto", 400, "name the model"),
        ("no-such-embedding", 404, "not available"),
        ("cohere/embed-v4.0", 404, "COHERE_API_KEY"),
    ] {
        let answer = embeddings(&gateway, &json!({"model": model, "input": "x"})).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["param"]), (status, &json!("model")), "{model}: {error}");
        assert!(error["message"].as_str().unwrap().contains(message), "{model}: {error}");
    }
    let answer = gateway.chat(&crate::gateway::saying("text-embedding-3-small", "x", false)).await;
    assert!(
        answer.status == 400 && answer.body_text().contains("no model for conversations"),
        "{}",
        answer.body_text()
    );
    assert_eq!(openai.calls().len(), 1);
    assert!(anthropic.calls().is_empty());
}

#[tokio::test]
async fn a_wrong_request_names_the_member() {
    let sim = Sim::start(SimDialect::Cohere).unwrap();
    let gateway = Gateway::builder().config(NO_RETRY).provider("p", &sim).start().await;
    for (body, param) in [
        (json!({"input": "x"}), "model"),
        (json!({"model": "p/m"}), "input"),
        (json!({"model": "p/m", "input": {"text": "x"}}), "input"),
        (json!({"model": "p/m", "input": []}), "input"),
        (json!({"model": "p/m", "input": "x", "dimensions": 0}), "dimensions"),
        (json!({"model": "p/m", "input": "x", "encoding_format": "int8"}), "encoding_format"),
        (json!({"model": "p/m", "input": "x", "user": 5}), "user"),
        (json!({"model": "p/m", "input": "x", "extra": {"typo": 1}}), "extra.typo"),
    ] {
        let answer = embeddings(&gateway, &body).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["param"]), (400, &json!(param)), "{body}: {error}");
    }
    let body = json!({"model": "p/m", "input": "x", "user": "u", "made_up": 1});
    assert_eq!(embeddings(&gateway, &body).await.header("x-orbyt-dropped"), "made_up, user");
    let mut strict = body;
    strict["provider"] = json!({"require_parameters": true});
    assert_eq!(embeddings(&gateway, &strict).await.status, 400);
    let url = format!("{}/v1/embeddings", gateway.url);
    let answer = orbyt::sim::client::send("POST", &url, &[], b"{}").await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &json!("invalid_api_key")));
    let answer = orbyt::sim::client::send("GET", &url, &[], b"").await.unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn the_same_question_is_answered_out_of_the_cache() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let config = format!("{NO_RETRY}[cache]\nbackend = \"memory\"\n");
    let gateway = Gateway::builder().config(&config).provider("p", &sim).start().await;
    let body = json!({"model": "p/m", "input": ["one", "two"]});
    let first = embeddings(&gateway, &body).await;
    let second = embeddings(&gateway, &json!({"input": ["one", "two"], "user": "u", "model": "p/m"})).await;
    assert_eq!((first.header("x-cache"), second.header("x-cache")), ("MISS", "HIT"));
    assert_eq!(first.body_text(), second.body_text());
    assert_eq!(sim.calls().len(), 1);
    for other in
        [json!({"model": "p/m", "input": ["one", "two"], "dimensions": 8}), json!({"model": "p/m", "input": "one"})]
    {
        assert_eq!(embeddings(&gateway, &other).await.header("x-cache"), "MISS");
    }
    assert_eq!(gateway.log_line(&second).await["cost_usd"], 0);
}

#[tokio::test]
async fn limits_keys_and_metrics_hold_as_for_conversations() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let rule = "[[limits.rule]]\nscope = \"key\"\ntokens_per_minute = 40\n";
    let gateway = Gateway::builder()
        .config(&format!("{NO_RETRY}{rule}"))
        .provider_with_keys("p", &sim, &["wrong-key", "good-key"])
        .start()
        .await;
    let body = json!({"model": "p/m", "input": "eight letters and some more"});
    let answer = embeddings(&gateway, &body).await;
    assert_eq!((answer.status, answer.header("x-orbyt-attempts")), (200, "2"), "{}", answer.body_text());
    let remaining: u64 = answer.header("x-ratelimit-remaining-tokens").parse().unwrap();
    assert!((20..40).contains(&remaining), "only the input is reserved, not {remaining}");
    let mut last = embeddings(&gateway, &body).await;
    for _ in 0..8 {
        last = embeddings(&gateway, &body).await;
    }
    assert_eq!((last.status, &last.json()["error"]["code"]), (429, &json!("rate_limit_exceeded")));
    let labels = r#"gen_ai_operation_name="embeddings",gen_ai_provider_name="p",gen_ai_request_model="m""#;
    gateway.shows(&format!("gen_ai_client_token_usage_count{{{labels},gen_ai_token_type=\"input\"}}")).await;
}

#[tokio::test]
async fn a_provider_with_one_place_is_waited_for() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let provider = format!(
        "{NO_RETRY}[limits]\nqueue_wait = \"10s\"\n[[provider]]\nid = \"narrow\"\nbase_url = \"{}\"\nmax_concurrent = 1\n[[provider.key]]\nsecret = \"k\"\n",
        sim.base_url()
    );
    let gateway = Gateway::builder().config(&provider).start().await;
    sim.always(orbyt::sim::Step::Paced(std::time::Duration::from_millis(100)));
    let body = json!({"model": "narrow/m", "input": "one two"});
    let answers = futures::future::join_all((0..4).map(|_| embeddings(&gateway, &body))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let calls = sim.calls();
    let overlaps =
        calls.iter().zip(calls.iter().skip(1)).any(|(one, next)| one.played_at.is_none_or(|end| end > next.at));
    assert!(calls.len() == 4 && !overlaps, "two were asked at once");
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_providers_work() {
    let sim = Sim::start(SimDialect::Cohere).unwrap();
    let gateway = Gateway::builder().config(NO_RETRY).provider("p", &sim).start().await;
    sim.always(SimFault::Timeout);
    let (key, url) = (format!("Bearer {KEY}"), format!("{}/v1/embeddings", gateway.url));
    let body = json!({"model": "p/m", "input": "x"}).to_string();
    let asking = tokio::spawn(async move {
        orbyt::sim::client::send("POST", &url, &[("authorization", &key)], body.as_bytes()).await.map(drop)
    });
    assert!(sim.until(crate::gateway::PATIENCE, |calls| calls.len() == 1).await);
    asking.abort();
    assert!(sim.until(crate::gateway::PATIENCE, |calls| calls[0].client_gone.is_some()).await);
    gateway.printed("client_gone").await;
}

#[tokio::test]
async fn the_clouds_are_asked_at_their_own_places() {
    let sims = [SimDialect::OpenAi, SimDialect::Gemini, SimDialect::Bedrock].map(|one| Sim::start(one).unwrap());
    let [azure, vertex, bedrock] = &sims;
    let config = format!(
        "{NO_RETRY}[[provider]]\nid = \"azure\"\nbase_url = \"http://{}\"\napi_version = \"2024-10-21\"\n[[provider.key]]\nsecret = \"k\"\n\
         [[provider]]\nid = \"vertex\"\nbase_url = \"http://{}\"\nproject = \"pr\"\nlocation = \"global\"\n[[provider.key]]\nsecret = \"ya29.k\"\n\
         [[provider]]\nid = \"bedrock\"\nbase_url = \"http://{}\"\nregion = \"eu-west-3\"\n[[provider.key]]\nsecret = \"AKIDX:secret\"\n",
        azure.address(),
        vertex.address(),
        bedrock.address()
    );
    let gateway = Gateway::builder().config(&config).start().await;
    let place = "/v1/projects/pr/locations/global/publishers/google/models";
    for (model, sim, path) in [
        ("azure/my-vectors", azure, "/openai/deployments/my-vectors/embeddings".to_owned()),
        ("vertex/gemini-embedding-001", vertex, format!("{place}/gemini-embedding-001:predict")),
        ("vertex/gemini-embedding-2", vertex, format!("{place}/gemini-embedding-2:embedContent")),
        ("bedrock/amazon.titan-embed-text-v2:0", bedrock, "/model/amazon.titan-embed-text-v2%3A0/invoke".to_owned()),
        ("bedrock/us.cohere.embed-v4:0", bedrock, "/model/us.cohere.embed-v4%3A0/invoke".to_owned()),
        (
            "bedrock/amazon.nova-2-multimodal-embeddings-v1:0",
            bedrock,
            "/model/amazon.nova-2-multimodal-embeddings-v1%3A0/invoke".to_owned(),
        ),
    ] {
        let answer = embeddings(&gateway, &json!({"model": model, "input": ["one two", "three"]})).await;
        assert_eq!(vectors(&answer), [embed("one two"), embed("three")], "{model}");
        assert_eq!(vectors(&answer)[0].len(), DIMENSIONS);
        assert_eq!(sim.calls().pop().unwrap().path, path, "{model}");
        assert_eq!(answer.json()["usage"]["prompt_tokens"], 4, "{model}");
    }
}
