//! What a key may not use stays closed to it on every way there: each format of a request, counting, hedges and comparing questions.

use crate::api_keys::said;
use crate::gateway::{Gateway, saying};
use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Act, Sim, SimDialect, Step};
use serde_json::{Value, json};
use std::time::Duration;

fn sim() -> Sim {
    Sim::start(SimDialect::OpenAi).unwrap()
}

fn create(gateway: &Gateway, arguments: &[&str]) -> String {
    said(&gateway.data_dir(), None, &[&["keys", "create"], arguments].concat(), "").trim().to_owned()
}

async fn ask(gateway: &Gateway, key: &str, path: &str, body: &Value) -> Answer {
    gateway.ask(path, &[("x-api-key", key), ("anthropic-version", "2023-06-01")], body).await
}

#[tokio::test]
async fn every_format_and_the_count_of_tokens_are_held_to_them() {
    let (mine, other) = (sim(), sim());
    let claude = Sim::start(SimDialect::Anthropic).unwrap();
    let builder = Gateway::builder().provider("mine", &mine).provider("other", &other).provider("claude", &claude);
    let gateway = builder.config("[cache]\nbackend = \"memory\"\n").start().await;
    let key = create(&gateway, &["--name", "narrow", "--providers", "mine"]);
    let chat = |model: &str| saying(model, "x", false);
    let messages =
        |model: &str| json!({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
    let responses = |model: &str| json!({"model": model, "input": "x"});
    for path in ["/v1/embeddings", "/v1/audio/speech", "/v1/moderations"] {
        let answer = ask(&gateway, &key, path, &responses("other/sim-ok")).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.body_text());
        let answer = ask(&gateway, &key, path, &responses("mine/sim-ok")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body_text());
    }
    for model in ["other/sim-ok", "claude/sim-ok"] {
        for (path, body) in [
            ("/v1/chat/completions", chat(model)),
            ("/v1/messages", messages(model)),
            ("/v1/messages/count_tokens", messages(model)),
            ("/v1/responses", responses(model)),
        ] {
            let answer = ask(&gateway, &key, path, &body).await;
            let text = answer.body_text();
            assert_eq!(answer.status, 403, "{path}: {text}");
            assert!(text.contains(&format!("may not use the model \\\"{model}\\\" at")), "{path}: {text}");
        }
    }
    assert_eq!(other.calls().len() + claude.calls().len(), 0, "nobody was asked");
    for (path, body) in [
        ("/v1/chat/completions", chat("mine/sim-ok")),
        ("/v1/messages", messages("mine/sim-ok")),
        ("/v1/messages/count_tokens", messages("mine/sim-ok")),
        ("/v1/responses", responses("mine/sim-ok")),
    ] {
        let answer = ask(&gateway, &key, path, &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body_text());
    }
    // What another key was answered is not this one's to have, whatever is kept.
    let narrower = create(&gateway, &["--name", "narrower", "--models", "nothing"]);
    assert_eq!(ask(&gateway, &narrower, "/v1/chat/completions", &chat("mine/sim-ok")).await.status, 403);
    let routes = create(&gateway, &["--name", "routes", "--routes", "/v1/messages"]);
    for (path, body, status) in [
        ("/v1/messages", messages("mine/sim-ok"), 200),
        ("/v1/messages/count_tokens", messages("mine/sim-ok"), 403),
        ("/v1/responses", responses("mine/sim-ok"), 403),
        ("/v1/embeddings", responses("mine/sim-ok"), 403),
        ("/v1/audio/speech", responses("mine/sim-ok"), 403),
    ] {
        assert_eq!(ask(&gateway, &routes, path, &body).await.status, status, "{path}");
    }
    let lists = create(&gateway, &["--name", "lists", "--routes", "/v1/models", "--routes", "/v1/models/*"]);
    let google = create(&gateway, &["--name", "google", "--routes", "/v1beta/models*"]);
    for (key, path, status) in [
        (&lists, "/v1/models", 200),
        (&lists, "/v1beta/models", 200),
        (&lists, "/v1beta/models/mine/sim-ok", 200),
        (&google, "/v1beta/models", 200),
        (&google, "/v1/models", 403),
    ] {
        let got = client::send("GET", &format!("{}{path}", gateway.url), &[("x-api-key", key)], b"").await.unwrap();
        assert_eq!(got.status, status, "{path}: {}", got.body_text());
    }
    let generate = json!({"contents": [{"parts": [{"text": "x"}]}]});
    let answer = ask(&gateway, &lists, "/v1beta/models/mine/sim-ok:generateContent", &generate).await;
    assert_eq!(answer.status, 403, "leave to read the list is no leave to ask: {}", answer.body_text());
    let url = format!("{}/v1/responses/resp_x", gateway.url);
    let kept = client::send("GET", &url, &[("x-api-key", &routes)], b"").await.unwrap();
    assert_eq!(kept.status, 403, "{}", kept.body_text());
}

#[tokio::test]
async fn a_hedge_asks_nobody_else() {
    let (one, two) = (sim(), sim());
    let config = "[retry]\nmax = 0\n[breaker]\nenabled = false\n[hedging]\nenabled = true\nquantile = 0.5\nmin_delay = \"50ms\"\n\
                  budget = 1\n[[model]]\nname = \"smart\"\ntargets = [\"one/sim-ok\"]\nfallbacks = [\"two/sim-ok\"]\n";
    let gateway = Gateway::builder().config(config).provider("one", &one).provider("two", &two).start().await;
    let key = create(&gateway, &["--name", "narrow", "--providers", "one"]);
    let body = saying("smart", "one two three", false);
    for _ in 0..20 {
        assert_eq!(ask(&gateway, &key, "/v1/chat/completions", &body).await.header("x-provider"), "one");
    }
    let answer = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "late"}, "finish_reason": "stop"}]})
    .to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
    let late = vec![Act::Pause(Duration::from_millis(800)), Act::Write(format!("{head}{answer}").into_bytes())];
    one.script([Step::Acts(late)]);
    let answer = ask(&gateway, &key, "/v1/chat/completions", &body).await;
    assert_eq!((answer.status, answer.header("x-provider"), two.calls().len()), (200, "one", 0));
    one.script([Step::Acts(vec![Act::Silence])]);
    let answer = gateway.chat(&body).await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "two"), "who may is hedged");
}

#[tokio::test]
async fn a_question_is_not_shown_to_a_provider_that_the_key_may_not_use() {
    let (answers, vectors) = (sim(), sim());
    let config = "[cache]\nbackend = \"memory\"\n[cache.semantic]\nmodel = \"vectors/embed-1\"\nenabled = true\n";
    let builder = Gateway::builder().config(config).provider("one", &answers).provider("vectors", &vectors);
    let gateway = builder.start().await;
    let body = saying("one/sim-ok", "How do I boil an egg?", false);
    let shown = async |arguments: &[&str]| {
        let key = create(&gateway, arguments);
        let before = vectors.calls().len();
        assert_eq!(ask(&gateway, &key, "/v1/chat/completions", &body).await.status, 200);
        vectors.calls().len() - before
    };
    assert_eq!(shown(&["--name", "narrow", "--providers", "one"]).await, 0);
    assert_eq!(shown(&["--name", "by-model", "--models", "sim-ok"]).await, 1, "the embedding is the gateway's own");
}
