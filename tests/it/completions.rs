//! `POST /v1/completions` (legacy): passed to providers that have the route, and asked as a chat of all others.

use crate::gateway::{Gateway, KEY};
use orbyt::sim::client::{Answer, BodyEnd};
use orbyt::sim::{Act, Sim, SimDialect, SimFault, Step};
use serde_json::{Value, json};

/// The providers: three that have the route, each in its own way, and one of each format that has not.
const UPSTREAMS: [(&str, SimDialect); 10] = [
    ("openai", SimDialect::OpenAi),
    ("together", SimDialect::OpenAi),
    ("deepseek", SimDialect::OpenAi),
    ("mistral", SimDialect::OpenAi),
    ("compatible", SimDialect::OpenAi),
    ("anthropic", SimDialect::Anthropic),
    ("google", SimDialect::Gemini),
    ("cohere", SimDialect::Cohere),
    ("ollama", SimDialect::Ollama),
    ("bedrock", SimDialect::Bedrock),
];

/// The path by which each is asked, if it is one of text completions.
fn own_path(id: &str) -> Option<&'static str> {
    match id {
        "openai" | "together" => Some("/v1/completions"),
        "deepseek" => Some("/beta/completions"),
        "mistral" => Some("/v1/fim/completions"),
        _ => None,
    }
}

struct Bench {
    gateway: Gateway,
    sims: Vec<(&'static str, Sim)>,
}

async fn bench(config: &str) -> Bench {
    let sims: Vec<_> = UPSTREAMS.iter().map(|(id, dialect)| (*id, Sim::start(*dialect).unwrap())).collect();
    let builder = Gateway::builder().config("[retry]\nmax = 0\n[breaker]\nenabled = false\n").config(config);
    let gateway = sims.iter().fold(builder, |builder, (id, sim)| builder.provider(id, sim)).start().await;
    Bench { gateway, sims }
}

impl Bench {
    fn sim(&self, id: &str) -> &Sim {
        &self.sims.iter().find(|(name, _)| *name == id).unwrap().1
    }

    async fn ask(&self, body: &Value) -> Answer {
        complete(&self.gateway, body).await
    }

    /// What the last call to a provider said, and where.
    fn told(&self, id: &str) -> (String, Value) {
        let call = self.sim(id).calls().pop().unwrap();
        (call.path.clone(), call.json())
    }

    fn calls(&self) -> usize {
        self.sims.iter().map(|(_, sim)| sim.generations()).sum()
    }
}

pub(crate) async fn complete(gateway: &Gateway, body: &Value) -> Answer {
    let key = format!("Bearer {KEY}");
    let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
    gateway.ask("/v1/completions", &headers, body).await
}

/// The choices of an answer, put together where they came in pieces: their texts and finish reasons.
fn choices(answer: &Answer) -> Vec<(String, Vec<String>)> {
    assert_eq!((answer.status, answer.end), (200, BodyEnd::Clean), "{}", answer.body_text());
    assert!(!answer.is_stream() || answer.is_done(), "{}", answer.body_text());
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for event in answer.events() {
        assert_eq!(event["object"], "text_completion", "{event}");
        for choice in event["choices"].as_array().unwrap() {
            let at = choice["index"].as_u64().unwrap() as usize;
            found.resize(found.len().max(at + 1), Default::default());
            found[at].0.push_str(choice["text"].as_str().unwrap());
            found[at].1.extend(choice["finish_reason"].as_str().map(str::to_owned));
        }
    }
    found
}

fn one(text: &str, finish: &str) -> Vec<(String, Vec<String>)> {
    vec![(text.to_owned(), vec![finish.to_owned()])]
}

/// The counts of an answer, wherever they stand.
fn usage(answer: &Answer) -> Vec<Value> {
    answer
        .events()
        .into_iter()
        .filter_map(|event| event.get("usage").filter(|counts| !counts.is_null()).cloned())
        .collect()
}

#[tokio::test]
async fn every_provider_completes_a_text() {
    let bench = bench("").await;
    for (id, _) in UPSTREAMS {
        for stream in [false, true] {
            let mut body =
                json!({"model": format!("{id}/sim-ok"), "prompt": "one two three", "stream": stream, "max_tokens": 50});
            if stream {
                body["stream_options"] = json!({"include_usage": true});
            }
            let answer = bench.ask(&body).await;
            assert_eq!(choices(&answer), one("one two three", "stop"), "{id} {stream}: {}", answer.body_text());
            let counts = usage(&answer);
            assert_eq!((counts.len(), &counts[0]["completion_tokens"]), (1, &json!(3)), "{id} {stream}: {counts:?}");
            let line = bench.gateway.log_line(&answer).await;
            assert_eq!((&line["route"], &line["provider"]), (&json!("POST /v1/completions"), &json!(id)));
            assert_eq!(line["completion_tokens"], 3, "{line}");
            let (path, sent) = bench.told(id);
            match own_path(id) {
                Some(own) => assert_eq!((path.as_str(), &sent["prompt"]), (own, &json!("one two three")), "{id}"),
                None => assert!(!path.ends_with("completions") || path.ends_with("/chat/completions"), "{id}: {path}"),
            }
        }
        let short = json!({"model": format!("{id}/sim-ok"), "prompt": ["one two three"], "max_tokens": 2});
        let answer = bench.ask(&short).await;
        assert_eq!(choices(&answer)[0].1, ["length"], "{id}");
        // Usage that nobody asked for is counted, and not told.
        let quiet = json!({"model": format!("{id}/sim-ok"), "prompt": "one two", "stream": true});
        let answer = bench.ask(&quiet).await;
        assert_eq!((choices(&answer), usage(&answer)), (one("one two", "stop"), vec![]), "{id}");
        assert_eq!(bench.gateway.log_line(&answer).await["completion_tokens"], 2, "{id}");
    }
}

#[tokio::test]
async fn the_bytes_pass_to_a_provider_that_has_the_route() {
    let bench = bench("").await;
    for id in ["openai", "together"] {
        for (prompt, count, text) in [
            (json!(["a b", "c"]), 2, "a b a b"),
            (json!([1, 2, 3]), 1, "1 2 3 1 2 3"),
            (json!([[4, 5], [6]]), 2, "4 5 4 5"),
        ] {
            for stream in [false, true] {
                let body = json!({"model": format!("{id}/sim-ok"), "prompt": prompt, "suffix": "z", "echo": true, "n": 2,
                    "best_of": 3, "logprobs": 2, "stream": stream, "logit_bias": {"50256": -100}, "unknown": [1.5],
                    "extra": {"retry": 1}});
                let answer = bench.ask(&body).await;
                let found = choices(&answer);
                assert_eq!(
                    (found.len(), found[0].0.as_str()),
                    (2 * count, text),
                    "{id} {prompt}: {}",
                    answer.body_text()
                );
                let mut sent = body.clone();
                sent["model"] = json!("sim-ok");
                sent.as_object_mut().unwrap().remove("extra");
                if stream {
                    sent["stream_options"] = json!({"include_usage": true});
                }
                assert_eq!(bench.told(id).1, sent, "{id}");
            }
        }
    }
}

#[tokio::test]
async fn a_route_that_lacks_something_is_not_asked_for_it() {
    let bench = bench("").await;
    for (id, lacks) in
        [("mistral", &["prompt", "echo", "best_of", "logprobs"][..]), ("deepseek", &["prompt", "best_of"])]
    {
        for (member, value) in [
            ("prompt", json!(["a", "b"])),
            ("prompt", json!([1, 2])),
            ("suffix", json!("x")),
            ("echo", json!(true)),
            ("best_of", json!(2)),
            ("logprobs", json!(1)),
        ] {
            let mut body = json!({"model": format!("{id}/sim-ok"), "prompt": "one two"});
            body[member] = value;
            let answer = bench.ask(&body).await;
            if lacks.contains(&member) {
                assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(member)), "{id} {member}");
            } else {
                assert_eq!((answer.status, &bench.told(id).1[member]), (200, &body[member]), "{id} {member}");
            }
        }
        // A list of one text is one text.
        let answer = bench.ask(&json!({"model": format!("{id}/sim-ok"), "prompt": ["one two"]})).await;
        assert_eq!(
            (choices(&answer), &bench.told(id).1["prompt"]),
            (one("one two", "stop"), &json!("one two")),
            "{id}"
        );
    }
    let body = json!({"model": "mistral/codestral-latest", "prompt": ["a", "b"],
        "extra": {"fallback_models": ["deepseek/deepseek-chat", "together/sim-ok"]}});
    assert_eq!(bench.ask(&body).await.header("x-provider"), "together");
}

#[tokio::test]
async fn only_models_that_complete_texts_are_asked_to() {
    let bench = bench("").await;
    for (model, path) in [
        ("openai/gpt-4o", "/v1/chat/completions"),
        ("openai/ft:davinci-002:team::1", "/v1/completions"),
        ("mistral/codestral-latest", "/v1/fim/completions"),
        ("mistral/mistral-large-latest", "/v1/chat/completions"),
        ("deepseek/deepseek-chat", "/beta/completions"),
        ("deepseek/deepseek-reasoner", "/v1/chat/completions"),
    ] {
        for stream in [false, true] {
            let answer = bench.ask(&json!({"model": model, "prompt": "one two", "stream": stream})).await;
            assert_eq!(choices(&answer), one("one two", "stop"), "{model}");
            let (seen, _) = bench.told(model.split('/').next().unwrap());
            assert_eq!(seen, path, "{model}");
        }
    }
    // What fills in the middle there fills in the middle here.
    let body = json!({"model": "mistral/codestral-latest", "prompt": "one two", "suffix": "three"});
    assert_eq!(choices(&bench.ask(&body).await), one("one two", "stop"));
    assert_eq!(bench.told("mistral").1, json!({"model": "codestral-latest", "prompt": "one two", "suffix": "three"}));
}

#[tokio::test]
async fn a_provider_of_ones_own_has_the_route_where_it_is_said_to() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let base_url = sim.base_url();
    let lab = format!(
        "[[provider]]\nid = 'lab'\nbase_url = '{base_url}'\nquirks = ['all_tolerant', 'completions']\n[[provider.key]]\nsecret = 'k'\n"
    );
    let gateway = Gateway::builder().config(&lab).start().await;
    let answer = complete(&gateway, &json!({"model": "lab/m", "prompt": ["a", "b"], "stream": true})).await;
    assert_eq!(choices(&answer).len(), 2, "{}", answer.body_text());
    assert_eq!(sim.calls().pop().unwrap().path, "/v1/completions");
}

#[tokio::test]
async fn what_a_chat_has_no_word_for_is_named_and_nobody_is_asked() {
    let bench = bench("").await;
    for id in ["compatible", "anthropic", "google", "cohere", "ollama", "bedrock"] {
        for (members, param) in [
            (json!({"prompt": ["a", "b"]}), "prompt"),
            (json!({"prompt": [1, 2]}), "prompt"),
            (json!({"suffix": "x"}), "suffix"),
            (json!({"echo": true}), "echo"),
            (json!({"best_of": 2}), "best_of"),
            (json!({"logprobs": 1}), "logprobs"),
        ] {
            let mut body = json!({"model": format!("{id}/sim-ok"), "prompt": "x"});
            body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            let answer = bench.ask(&body).await;
            let error = &answer.json()["error"];
            assert_eq!((answer.status, &error["param"]), (400, &json!(param)), "{id} {members}: {error}");
            assert!(error["message"].as_str().unwrap().contains(id), "{error}");
        }
        for prompt in [json!({}), json!({"prompt": null})] {
            let mut body = json!({"model": format!("{id}/sim-ok"), "max_tokens": 5});
            body.as_object_mut().unwrap().extend(prompt.as_object().unwrap().clone());
            let answer = bench.ask(&body).await;
            let error = &answer.json()["error"];
            assert_eq!((answer.status, &error["param"]), (400, &json!("prompt")), "{id} {prompt}: {error}");
            assert!(error["message"].as_str().unwrap().starts_with("you must provide a prompt"), "{error}");
        }
        let body = json!({"model": format!("{id}/sim-ok"), "prompt": "x", "messages": []});
        let answer = bench.ask(&body).await;
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("messages")), "{id}");
    }
    for (body, param) in [
        (json!({"model": "openai/sim-ok", "prompt": 1}), "prompt"),
        (json!({"prompt": "x"}), "model"),
        (json!({"model": "openai/sim-ok", "prompt": []}), "prompt"),
    ] {
        let answer = bench.ask(&body).await;
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(param)), "{body}");
    }
    assert_eq!(bench.calls(), 0);
}

#[tokio::test]
async fn of_several_targets_those_that_can_are_tried() {
    let bench = bench("").await;
    let body = json!({"model": "anthropic/sim-ok", "prompt": ["a", "b"], "echo": true,
        "extra": {"fallback_models": ["google/sim-ok", "openai/gpt-4o", "openai/sim-ok"]}});
    let answer = bench.ask(&body).await;
    assert_eq!((choices(&answer).len(), answer.header("x-provider")), (2, "openai"), "{}", answer.body_text());
    assert_eq!((answer.header("x-model"), bench.calls()), ("sim-ok", 1));
    // One that says less goes to whoever comes first.
    let body = json!({"model": "anthropic/sim-ok", "prompt": "a", "extra": {"fallback_models": ["openai/sim-ok"]}});
    assert_eq!(bench.ask(&body).await.header("x-provider"), "anthropic");
}

#[tokio::test]
async fn errors_have_openais_form() {
    let bench = bench("").await;
    for (id, _) in UPSTREAMS {
        for (fault, status) in [("400", 400), ("context-length", 400), ("500", 503), ("unknown", 404), ("429", 429)] {
            for stream in [false, true].into_iter().filter(|stream| fault != "429" || *stream) {
                let body = json!({"model": format!("{id}/sim-{fault}"), "prompt": "x", "stream": stream});
                let answer = bench.ask(&body).await;
                let error = &answer.json()["error"];
                assert_eq!(answer.status, status, "{id} {fault}: {error}");
                assert!(error["message"].is_string() && error["type"].is_string(), "{id} {fault}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn a_preset_completes_the_request_or_says_what_it_cannot() {
    let presets = "[[preset]]\nslug = 'cool'\nmodel = 'openai/sim-ok'\nparameters = { temperature = 0.25, max_tokens = 2 }\n\
        [[preset]]\nslug = 'talks'\nmodel = 'openai/sim-ok'\nsystem = 'Be brief.'\n";
    let bench = bench(presets).await;
    let answer = bench.ask(&json!({"model": "@preset/cool", "prompt": "one two three"})).await;
    assert_eq!(choices(&answer)[0].1, ["length"]);
    assert_eq!(bench.told("openai").1["temperature"], json!(0.25));
    let answer = bench.ask(&json!({"model": "@preset/talks", "prompt": "x"})).await;
    let error = &answer.json()["error"];
    assert_eq!((answer.status, &error["param"]), (400, &json!("extra.preset")), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_there_already_costs_nothing() {
    let bench = bench("[cache]\nbackend = 'memory'\n").await;
    for id in ["openai", "mistral", "anthropic"] {
        for stream in [false, true] {
            let body = json!({"model": format!("{id}/m1"), "prompt": "one two", "stream": stream});
            let (first, second) = (bench.ask(&body).await, bench.ask(&body).await);
            let seen = |answer: &Answer| answer.header("x-cache").to_owned();
            assert_eq!((seen(&first), seen(&second)), ("MISS".to_owned(), "HIT".to_owned()), "{id} {stream}");
            assert_eq!((choices(&second), first.body == second.body), (one("one two", "stop"), true), "{id}");
        }
        // A chat that says the same is another question.
        let chat = json!({"model": format!("{id}/m1"), "messages": [{"role": "user", "content": "one two"}]});
        assert_eq!(bench.gateway.chat(&chat).await.header("x-cache"), "MISS", "{id}");
    }
}

#[tokio::test]
async fn limits_hold() {
    let limits = "[[limits.rule]]\nscope = 'key'\nrequests_per_minute = 2\n";
    let bench = bench(limits).await;
    for expected in [200, 200, 429] {
        let answer = bench.ask(&json!({"model": "openai/sim-ok", "prompt": "x"})).await;
        assert_eq!(answer.status, expected, "{}", answer.body_text());
    }
}

#[tokio::test]
async fn a_wrong_method_and_a_missing_key_are_told() {
    let bench = bench("").await;
    let answer =
        bench.gateway.ask("/v1/completions", &[("x-api-key", "wrong")], &json!({"model": "m", "prompt": "x"})).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &json!("invalid_api_key")));
    let url = format!("{}/v1/completions", bench.gateway.url);
    let wrong = orbyt::sim::client::send("GET", &url, &[("x-api-key", KEY)], b"").await.unwrap();
    assert_eq!((wrong.status, wrong.header("allow")), (405, "POST"));
    bench.sim("openai").script([SimFault::Crlf]);
    let answer = bench.ask(&json!({"model": "openai/sim-ok", "prompt": "one two", "stream": true})).await;
    assert_eq!(choices(&answer), one("one two", "stop"), "frames may be cut by CRLF");
}

#[tokio::test]
async fn a_slow_provider_gets_company() {
    let hedging = "[retry]\nmax = 0\n[breaker]\nenabled = false\n\
        [hedging]\nenabled = true\nquantile = 0.5\nmin_delay = \"100ms\"\nbudget = 1\n";
    let (one, two) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::Anthropic).unwrap());
    let builder = Gateway::builder().config(hedging).provider("together", &one).provider("two", &two);
    let gateway = builder.start().await;
    let body = json!({"model": "together/sim-ok", "prompt": "one two", "stream": true,
        "extra": {"fallback_models": ["two/sim-ok"]}});
    // As many answers as it takes to know what is usual; each is noted before its line is in the log.
    for _ in 0..20 {
        let answer = complete(&gateway, &body).await;
        assert_eq!(answer.header("x-provider"), "together");
        gateway.log_line(&answer).await;
    }
    one.script([Step::Acts(vec![Act::Silence])]);
    let answer = complete(&gateway, &body).await;
    assert_eq!((answer.header("x-provider"), choices(&answer)), ("two", self::one("one two", "stop")));
}
