//! Answers to questions in other words: who gets one, who does not, and what it costs.

#[path = "../paraphrases/mod.rs"]
mod paraphrases;

use crate::admin_api::Client;
use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use crate::raw::H2;
use orbyt::sim::client::{self, Answer, BodyEnd};
use orbyt::sim::embedding::embed;
use orbyt::sim::{Sim, SimDialect, SimFault, Step};
use paraphrases::{Outcome, groups, measure};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const EGG: &str = "How do I boil an egg?";
const EGG_TOO: &str = "how can I boil an egg";
const OTHER: &str = "Who painted the Mona Lisa?";

/// One try a target; a threshold that suits the toy embedding of the simulated provider.
const CONFIG: &str = "[cache]\nbackend = \"memory\"\n[retry]\nmax = 0\n";

fn semantic(more: &str) -> String {
    format!("[cache.semantic]\nmodel = \"vectors/embed-1\"\nthreshold = 0.7\n{more}")
}

fn sim() -> Sim {
    Sim::start(SimDialect::OpenAi).unwrap()
}

/// A gateway that compares every question, with one provider for answers and one for embeddings.
async fn gateway(answers: &Sim, vectors: &Sim) -> Gateway {
    let builder = Gateway::builder().config(CONFIG).config(&semantic("enabled = true"));
    builder.provider("one", answers).provider("vectors", vectors).start().await
}

fn asking(text: &str) -> Value {
    saying("one/m1", text, false)
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

fn choosing(text: &str, cache: Value) -> Value {
    with(asking(text), "extra", json!({ "cache": cache }))
}

/// What the cache did for a request, and whether by other words.
async fn cached(gateway: &Gateway, body: &Value) -> (String, bool) {
    let answer = gateway.chat(body).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    (answer.header("x-cache").to_owned(), !answer.header("x-cache-similarity").is_empty())
}

fn miss() -> (String, bool) {
    ("MISS".to_owned(), false)
}

fn exact() -> (String, bool) {
    ("HIT".to_owned(), false)
}

fn near() -> (String, bool) {
    ("HIT".to_owned(), true)
}

fn embeddings(sim: &Sim) -> usize {
    sim.calls().iter().filter(|call| call.is_embedding()).count()
}

/// The value of a metric.
async fn metric(gateway: &Gateway, series: &str) -> f64 {
    let page = gateway.metrics().await;
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {series} in {page}")).parse().unwrap()
}

async fn asked(gateway: &Gateway, body: &Value, key: &str, headers: &[(&str, &str)]) -> Answer {
    let key = format!("Bearer {key}");
    let all = [&[("authorization", key.as_str())], headers].concat();
    let url = format!("{}/v1/chat/completions", gateway.url);
    client::send("POST", &url, &all, body.to_string().as_bytes()).await.unwrap()
}

#[tokio::test]
async fn who_empties_the_cache_empties_its_questions_too() {
    let (answers, vectors) = (sim(), sim());
    let gateway = gateway(&answers, &vectors).await;
    let admin = Client::administrator(&gateway);
    assert_eq!(cached(&gateway, &asking(EGG)).await, miss());
    assert_eq!(cached(&gateway, &asking(EGG_TOO)).await, near());
    assert_eq!(admin.get("/cache").await.json()["questions"], 1);
    assert_eq!(admin.delete("/cache").await.status, 204);
    assert_eq!(admin.get("/cache").await.json()["questions"], 0);
    assert_eq!(metric(&gateway, "orbyt_cache_semantic_entries").await, 0.0);
    assert_eq!(cached(&gateway, &asking(EGG_TOO)).await, miss());
    assert_eq!(cached(&gateway, &asking(EGG)).await, near(), "and what comes then is kept");
}

#[tokio::test]
async fn other_words_get_the_same_answer_and_the_log_says_what_it_took() {
    let (answers, vectors) = (sim(), sim());
    let priced = format!(
        "[[provider]]\nid = \"vectors\"\nbase_url = \"{}\"\n[[provider.key]]\nsecret = {{ env = \"VECTORS\" }}\n\
         [[provider.model]]\nid = \"embed-1\"\ninput = \"0.02\"",
        vectors.base_url()
    );
    let builder = Gateway::builder().config(CONFIG).config(&semantic("enabled = true")).config(&priced);
    let gateway = builder.variable("VECTORS", "key-of-vectors").provider("one", &answers).start().await;
    let first = gateway.chat(&asking(EGG)).await;
    let second = gateway.chat(&asking(EGG_TOO)).await;
    let third = gateway.chat(&asking(EGG)).await;
    let fourth = gateway.chat(&asking(OTHER)).await;
    let seen = |answer: &Answer| (answer.header("x-cache").to_owned(), answer.header("x-orbyt-attempts").to_owned());
    let told = |cache: &str, attempts: &str| (cache.to_owned(), attempts.to_owned());
    assert_eq!(seen(&first), told("MISS", "1"));
    assert_eq!(seen(&second), told("HIT", "0"));
    assert_eq!(seen(&third), told("HIT", "0"));
    assert_eq!(seen(&fourth), told("MISS", "1"));
    assert_eq!((second.body.clone(), third.body.clone()), (first.body.clone(), first.body.clone()));
    assert_eq!((first.header("x-cache-similarity"), third.header("x-cache-similarity")), ("", ""));
    let expected: f32 = embed(EGG).iter().zip(embed(EGG_TOO)).map(|(a, b)| a * b).sum();
    let similarity: f32 = second.header("x-cache-similarity").parse().unwrap();
    assert!((similarity - expected).abs() < 2e-4 && similarity < 0.9999, "{similarity} {expected}");
    assert!(second.header("age").parse::<u64>().unwrap() < 10 && second.header("x-cache-ttl").starts_with("29"));
    assert_eq!((answers.generations(), embeddings(&vectors)), (2, 3));
    let asked = &vectors.calls()[0];
    assert_eq!((asked.path.as_str(), asked.header("authorization")), ("/v1/embeddings", Some("Bearer key-of-vectors")));
    assert_eq!(asked.json(), json!({"model": "embed-1", "input": EGG, "encoding_format": "float"}));
    assert_eq!(vectors.connections(), 1, "connections are used again");

    let line = gateway.log_line(&second).await;
    assert_eq!((&line["cache"], &line["embedding_model"]), (&json!("hit"), &json!("embed-1")), "{line}");
    assert_eq!((&line["embedding_provider"], &line["embedding_tokens"]), (&json!("vectors"), &json!(6)), "{line}");
    assert_eq!((line["cost_usd"].as_f64(), line["embedding_cost_usd"].as_f64()), (Some(0.0), Some(0.000_000_12)));
    assert!((line["similarity"].as_f64().unwrap() - f64::from(similarity)).abs() < 1e-4, "{line}");
    let overhead = line["latency_ms"].as_f64().unwrap() - line["embedding_ms"].as_f64().unwrap();
    assert!(line["overhead_ms"].as_f64().unwrap() <= overhead + 0.01, "waiting is not overhead: {line}");
    assert_eq!(gateway.log_line(&first).await["similarity"], Value::Null);
    assert!(gateway.log_line(&third).await.get("embedding_model").is_none());
    let far = gateway.log_line(&fourth).await["similarity"].as_f64();
    assert!(far.is_none_or(|far| far < 0.7), "{far:?}");
    for (series, value) in [
        ("orbyt_cache_semantic_total{result=\"hit\"}", 1.0),
        ("orbyt_cache_semantic_total{result=\"miss\"}", 2.0),
        ("orbyt_cache_semantic_total{result=\"failed\"}", 0.0),
        ("orbyt_cache_semantic_entries", 2.0),
        ("orbyt_cache_requests_total{result=\"hit\"}", 2.0),
        ("orbyt_tokens_total{kind=\"prompt\",model=\"embed-1\",provider=\"vectors\"}", 19.0),
    ] {
        assert_eq!(metric(&gateway, series).await, value, "{series}");
    }
    assert!(metric(&gateway, "orbyt_cost_usd_total{model=\"embed-1\",provider=\"vectors\"}").await > 0.0);
}

#[tokio::test]
async fn a_stream_comes_back_as_a_stream() {
    let (answers, vectors) = (sim(), sim());
    answers.always(Step::Paced(Duration::from_millis(20)));
    let gateway = gateway(&answers, &vectors).await;
    let streamed = |text: &str| with(saying("one/m1", text, true), "stream_options", json!({"include_usage": true}));
    let first = gateway.chat(&streamed(EGG)).await;
    let second = gateway.chat(&streamed(EGG_TOO)).await;
    assert_eq!((second.header("x-cache"), second.header("content-type")), ("HIT", "text/event-stream"));
    assert!(!second.header("x-cache-similarity").is_empty());
    assert_eq!((second.end, &second.body), (BodyEnd::Clean, &first.body));
    assert!(second.looks_complete() && second.body_text().contains("\"usage\":{"));
    let third = H2::to(&gateway).await.chat(streamed("How could I boil an egg").to_string().into()).await;
    assert_eq!((third.header("x-cache"), third.end, &third.body), ("HIT", BodyEnd::Clean, &first.body));
    assert!(!third.header("x-cache-similarity").is_empty());
    // A whole answer is another thing than a stream.
    assert_eq!(cached(&gateway, &asking(EGG_TOO)).await, miss());
    assert_eq!(answers.generations(), 2);
}

#[tokio::test]
async fn only_the_last_text_may_differ() {
    let (answers, vectors) = (sim(), sim());
    let gateway = gateway(&answers, &vectors).await;
    let said = |role: &str, text: &str| json!({"role": role, "content": text});
    let talk = |messages: Value| with(asking(""), "messages", messages);
    let numbered = "What are 5 kilometres in miles?";
    assert_eq!(cached(&gateway, &asking(EGG)).await, miss());
    assert_eq!(cached(&gateway, &asking(numbered)).await, miss());
    assert_eq!(cached(&gateway, &asking(EGG_TOO)).await, near());
    assert_eq!(cached(&gateway, &asking("What are 5 kilometres, in miles")).await, near());
    let others = [
        asking("What are 6 kilometres in miles?"),
        with(asking(EGG_TOO), "model", json!("one/m2")),
        with(asking(EGG_TOO), "temperature", json!(0)),
        with(asking(EGG_TOO), "max_tokens", json!(50)),
        with(asking(EGG_TOO), "response_format", json!({"type": "json_object"})),
        talk(json!([said("system", "Be brief."), said("user", EGG_TOO)])),
        talk(json!([said("user", "hi"), said("assistant", "hello"), said("user", EGG_TOO)])),
    ];
    for other in &others {
        assert_eq!(cached(&gateway, other).await, miss(), "{other}");
    }
    let asked = embeddings(&vectors);
    let tool = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    for text in [EGG, EGG_TOO] {
        assert_eq!(cached(&gateway, &with(asking(text), "tools", tool.clone())).await, miss());
    }
    // Neither is what a client wants kept from the provider of the embeddings.
    for choice in [json!({"only": ["one"]}), json!({"ignore": ["vectors"]})] {
        let text = format!("{EGG_TOO} {choice}");
        assert_eq!(cached(&gateway, &with(asking(&text), "provider", choice)).await, miss());
    }
    let long = format!("{EGG} {}", "really ".repeat(1000));
    assert_eq!(cached(&gateway, &asking(&long)).await, miss());
    assert_eq!(embeddings(&vectors), asked, "what cannot be compared is not embedded");
    // Within each of them other words will do again.
    let briefly = talk(json!([said("system", "Be brief."), said("user", "How could I boil an egg?")]));
    assert_eq!(cached(&gateway, &briefly).await, near());
}

#[tokio::test]
async fn a_request_says_whether_other_words_will_do() {
    let (answers, vectors) = (sim(), sim());
    for (enabled, plainly) in [(true, near()), (false, miss())] {
        let builder = Gateway::builder().config(CONFIG).config(&semantic(&format!("enabled = {enabled}")));
        let gateway = builder.provider("one", &answers).provider("vectors", &vectors).start().await;
        assert_eq!(cached(&gateway, &choosing(EGG, json!({"semantic": true}))).await, miss());
        assert_eq!(cached(&gateway, &choosing("How might I boil an egg?", json!({"semantic": true}))).await, near());
        assert_eq!(cached(&gateway, &choosing("how may i boil an egg", json!({"semantic": false}))).await, miss());
        assert_eq!(
            cached(&gateway, &choosing("how may i boil an egg ?", json!({"semantic": true, "ttl": 9}))).await,
            near()
        );
        assert_eq!(cached(&gateway, &asking("And how can I boil an egg?")).await, plainly);
        // What was found by other words was not kept under them.
        assert_eq!(cached(&gateway, &choosing("How might I boil an egg?", json!({"semantic": false}))).await, miss());
        let refused = gateway.chat(&choosing(EGG, json!({"semantic": 1}))).await;
        assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("extra.cache.semantic")));
    }
    let gateway = Gateway::builder().config(CONFIG).provider("one", &answers).start().await;
    let answer = gateway.chat(&choosing(EGG, json!({"semantic": true}))).await;
    assert_eq!((answer.header("x-cache"), answer.header("x-orbyt-dropped")), ("MISS", "extra.cache.semantic"));
}

#[tokio::test]
async fn nobody_gets_the_answers_to_somebody_else() {
    let (answers, vectors) = (sim(), sim());
    let keys = ["team-a-0123456789-key", "team-b-0123456789-key"];
    let builder = Gateway::builder().config(CONFIG).config(&semantic("enabled = true"));
    let gateway = builder
        .provider("one", &answers)
        .provider("vectors", &vectors)
        .variable("ORBYT_API_KEYS", &keys.join(","))
        .start()
        .await;
    for (text, expected) in [(EGG, "MISS"), (EGG_TOO, "HIT")] {
        for key in keys {
            assert_eq!(asked(&gateway, &asking(text), key, &[]).await.header("x-cache"), expected, "{key} {text}");
        }
    }
    assert_eq!(answers.generations(), 2);
}

#[tokio::test]
async fn a_clients_own_key_neither_gives_nor_takes() {
    let (answers, vectors) = (sim(), sim());
    let gateway = gateway(&answers, &vectors).await;
    let own =
        |text: &str| with(asking(text), "extra", json!({"byok": "own-key-0123456789", "cache": {"semantic": true}}));
    for body in [own(EGG), own(EGG_TOO)] {
        assert_eq!(cached(&gateway, &body).await, ("BYPASS".to_owned(), false));
    }
    assert_eq!(cached(&gateway, &asking(EGG)).await, miss());
    assert_eq!(cached(&gateway, &own(EGG_TOO)).await, ("BYPASS".to_owned(), false));
    assert_eq!((answers.generations(), embeddings(&vectors)), (4, 1));
}

#[tokio::test]
async fn what_is_not_kept_is_not_found_by_other_words() {
    let (answers, vectors) = (sim(), sim());
    let gateway = gateway(&answers, &vectors).await;
    answers.script([SimFault::ServerError, SimFault::CutAfterTokens]);
    assert_eq!(gateway.chat(&asking(EGG)).await.status, 503);
    let streamed = |text: &str| saying("one/m1", text, true);
    assert!(!gateway.chat(&streamed(EGG)).await.looks_complete());
    assert_eq!(cached(&gateway, &asking(EGG_TOO)).await, miss());
    assert_eq!(cached(&gateway, &streamed(EGG_TOO)).await, miss());
    // Who asks anew gets a new answer, whatever is near.
    let anew = asked(&gateway, &asking("how could I boil an egg"), KEY, &[("cache-control", "no-cache")]).await;
    assert_eq!(anew.header("x-cache"), "MISS");
}

#[tokio::test]
async fn without_an_embedding_in_time_it_is_a_plain_miss() {
    let (answers, vectors) = (sim(), sim());
    let builder = Gateway::builder().config(CONFIG).config(&semantic("enabled = true\ntimeout = \"200ms\""));
    let builder = builder.config("[breaker]\nfailures = 4\nopen_for = \"600s\"");
    let gateway = builder.provider("one", &answers).provider("vectors", &vectors).start().await;
    let reply = |body: &str| Step::Reply { status: 200, headers: Vec::new(), body: body.to_owned() };
    let zeros = format!("{{\"data\":[{{\"embedding\":[{}0]}}]}}", "0,".repeat(10));
    let huge = format!("{{\"data\":[{{\"embedding\":[{}0]}}]}}", "0.123456,".repeat(300_000));
    let cases = [
        (Step::Fault(SimFault::RateLimited), "rate_limited"),
        (Step::Fault(SimFault::Timeout), "timeout_total"),
        (Step::Fault(SimFault::ResetBeforeHead), "reset"),
        (Step::OK, ""),
        (reply("<html>"), "malformed"),
        (reply(&zeros), "malformed"),
        (reply(&huge), "malformed"),
        (Step::Fault(SimFault::BadKey), "bad_credentials"),
        (Step::Fault(SimFault::ServerError), "server_error"),
        (Step::Fault(SimFault::BadGateway), "server_error"),
        (Step::OK, "breaker_open"),
    ];
    let mut failed = 0.0;
    for (number, (step, why)) in cases.into_iter().enumerate() {
        vectors.script([step]);
        let answer = gateway.chat(&asking(&format!("{} {number}", "word ".repeat(number)))).await;
        assert_eq!((answer.header("x-cache"), answer.looks_complete()), ("MISS", true), "{why}");
        let line = gateway.log_line(&answer).await;
        failed += if why.is_empty() { 0.0 } else { 1.0 };
        assert_eq!(line["embedding_failed"].as_str().unwrap_or_default(), why, "{line}");
        assert_eq!(metric(&gateway, "orbyt_cache_semantic_total{result=\"failed\"}").await, failed);
    }
    assert_eq!(embeddings(&vectors), 10, "the breaker is open: nobody waits any more");
    gateway.printed("\"status\":\"unhealthy\"").await;
    // The key is none the worse for it: the provider still answers with it.
    vectors.reset();
    let answer = gateway.chat(&saying("vectors/m1", "x", false)).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
}

#[tokio::test]
async fn many_at_once_share_one_embedding_and_one_call() {
    let (answers, vectors) = (sim(), sim());
    answers.always(Step::Paced(Duration::from_millis(150)));
    vectors.always(Step::Paced(Duration::from_millis(150)));
    let gateway = Arc::new(gateway(&answers, &vectors).await);
    for (text, calls, near) in [(EGG, 1, 0), (EGG_TOO, 1, 20)] {
        vectors.forget_calls();
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let gateway = gateway.clone();
            running.spawn(async move { gateway.chat(&asking(text)).await });
        }
        let told = running.join_all().await;
        assert!(told.iter().all(|answer| answer.looks_complete() && answer.body == told[0].body));
        assert_eq!(answers.generations(), calls);
        // Some may come after the first flight has landed; by other words each of those is compared by itself.
        assert_eq!(told.iter().filter(|answer| !answer.header("x-cache-similarity").is_empty()).count(), near);
        assert!(embeddings(&vectors) < 20, "{}", embeddings(&vectors));
    }
}

#[tokio::test]
async fn who_wants_the_very_answer_does_not_take_over_a_near_one() {
    let (answers, vectors) = (sim(), sim());
    let gateway = Arc::new(gateway(&answers, &vectors).await);
    assert_eq!(cached(&gateway, &asking(EGG)).await, miss());
    vectors.always(Step::Paced(Duration::from_millis(600)));
    let leader = tokio::spawn({
        let gateway = gateway.clone();
        async move { cached(&gateway, &asking(EGG_TOO)).await }
    });
    assert!(vectors.until(PATIENCE, |calls| calls.len() == 2).await);
    let strict = cached(&gateway, &choosing(EGG_TOO, json!({"semantic": false}))).await;
    assert_eq!((leader.await.unwrap(), strict), (near(), miss()));
    assert_eq!(cached(&gateway, &asking(EGG_TOO)).await, exact());
}

#[tokio::test]
async fn an_answer_that_went_for_room_is_not_found() {
    let (answers, vectors) = (sim(), sim());
    let small = "[cache]\nbackend = \"memory\"\nmax_size = 2\n";
    let builder = Gateway::builder().config(small).config(&semantic("enabled = true\nmax_entries = 3"));
    let gateway = builder.provider("one", &answers).provider("vectors", &vectors).start().await;
    for text in [EGG, OTHER, "Where is my order?", "Is the shop open on Sundays?", "Explain photosynthesis"] {
        assert_eq!(cached(&gateway, &asking(text)).await, miss());
    }
    assert_eq!(metric(&gateway, "orbyt_cache_semantic_entries").await, 3.0);
    assert_eq!(cached(&gateway, &asking("Where's my order?")).await, miss());
    assert_eq!(cached(&gateway, &asking("Explain the photosynthesis")).await, near());
}

#[tokio::test]
async fn the_gateway_finds_and_errs_as_the_index_alone_does() {
    let (answers, vectors) = (sim(), sim());
    let threshold = 0.8;
    let config = semantic("enabled = false").replace("0.7", &threshold.to_string());
    let builder = Gateway::builder().config(CONFIG).config(&config);
    let gateway = builder.provider("one", &answers).provider("vectors", &vectors).start().await;
    let groups = groups();
    let mut number_of = HashMap::new();
    for (number, group) in groups.iter().enumerate() {
        let answer = gateway.chat(&choosing(&group.question, json!({"semantic": true}))).await;
        // A question that is near another group's gets its answer; then the very question is asked.
        let first = gateway.chat(&choosing(&group.question, json!({"semantic": false}))).await;
        assert!(answer.header("x-cache-similarity").is_empty(), "{}", group.question);
        number_of.insert(first.body, number);
    }
    // Looked up, and asked anew by nobody: what misses must not be kept for the next question to find.
    let found = async |text: &str| {
        answers.always(SimFault::ServerError);
        let answer = gateway.chat(&choosing(text, json!({"semantic": true}))).await;
        (answer.status == 200).then(|| number_of[&answer.body])
    };
    let mut outcome = Outcome::default();
    for (number, group) in groups.iter().enumerate() {
        for text in &group.same {
            match found(text).await {
                Some(of) if of == number => outcome.right += 1,
                Some(_) => outcome.astray += 1,
                None => {}
            }
        }
        for text in &group.other {
            outcome.wrong += usize::from(found(text).await.is_some());
        }
    }
    assert_eq!(outcome, measure(&groups, threshold).await);
    assert!(outcome.right > 10, "{outcome:?}");
}

#[tokio::test]
async fn who_is_over_a_limit_has_no_texts_compared() {
    let (answers, vectors) = (sim(), sim());
    let rule = "[[limits.rule]]\nscope = \"key\"\nrequests_per_minute = 1\n";
    let builder = Gateway::builder().config(CONFIG).config(&semantic("enabled = true")).config(rule);
    let gateway = builder.provider("one", &answers).provider("vectors", &vectors).start().await;
    assert_eq!(gateway.chat(&asking("what is the capital of France?")).await.status, 200);
    for text in ["how high is the Eiffel tower?", "who wrote Faust?"] {
        assert_eq!(gateway.chat(&asking(text)).await.status, 429);
    }
    assert_eq!(embeddings(&vectors), 1);
}
