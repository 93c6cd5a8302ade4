//! Budgets on every route: what has no price or no room is a 402 in the client's own form before any provider is asked, and what was spent is
//! the sum of the ledger to the pico-dollar, with what hedging and the comparing of questions cost.

use crate::budgets::{accounts, agreed, run, until_reserved_nothing, until_spent};
use crate::gateway::{Gateway, KEY, saying};
use orbyt::domain::Money;
use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Act, Sim, SimDialect, Step};
use serde_json::{Value, json};
use std::time::Duration;

/// The one provider, and prices for each kind of work: a tenth of a cent for a token, or so much for each piece.
const PRICES: &str = "
[[provider.model]]
id = 'sim-ok'
input = '1000'
output = '1000'
max_output = 100
[[provider.model]]
id = 'some-embed'
input = '1000'
[[provider.model]]
id = 'pictures'
image = '1.5'
[[provider.model]]
id = 'speech'
request = '0.25'
[[provider.model]]
id = 'voice'
character = '1000'
[[provider.model]]
id = 'ears'
second = '0.5'
[[provider.model]]
id = 'painter'
image = '9'
[[provider.model.picture]]
size = '1024x1024'
quality = 'hd'
price = '0.08'
[[provider.model]]
id = 'transcripts'
input = '1000'
output = '1000'
max_output = 100
context = 1000
[[provider.model]]
id = 'moderation'
input = '1000'
[[provider.model]]
id = 'ranking'
request = '0.002'
";

fn provider(id: &str, sim: &Sim, models: &str) -> String {
    let base_url = sim.base_url();
    let key = "[[provider.key]]\nsecret = 'key-in-clear'\n";
    format!("[[provider]]\nid = '{id}'\ndialect = 'openai_chat'\nbase_url = '{base_url}'\n{key}{models}\n")
}

fn dollars(text: &str) -> Money {
    Money::from_dollars(text).unwrap()
}

/// What a line of the log says of an amount; nothing where it says nothing.
fn logged(line: &Value, name: &str) -> Money {
    if line[name].is_null() { Money::ZERO } else { dollars(&line[name].to_string()) }
}

/// How a client is told of errors.
#[derive(Clone, Copy, Debug)]
enum Told {
    OpenAi,
    Anthropic,
    Google,
}

/// A request of each family, the form of its errors, and what it costs; `None` where its usage says that.
fn families() -> Vec<(&'static str, Told, Value, Option<&'static str>)> {
    let text = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}],
        "generationConfig": {"maxOutputTokens": 20}});
    let content = json!({"parts": [{"text": "one two"}]});
    let turns = json!([{"role": "user", "content": "hello"}]);
    let documents = json!(["a bear", "the panda eats", "rain"]);
    vec![
        (
            "/v1/chat/completions",
            Told::OpenAi,
            json!({"model": "one/sim-ok", "max_tokens": 20, "messages": turns}),
            None,
        ),
        ("/v1/completions", Told::OpenAi, json!({"model": "one/sim-ok", "max_tokens": 20, "prompt": "hello"}), None),
        (
            "/v1/responses",
            Told::OpenAi,
            json!({"model": "one/sim-ok", "max_output_tokens": 20, "input": "hello"}),
            None,
        ),
        ("/v1/messages", Told::Anthropic, json!({"model": "one/sim-ok", "max_tokens": 20, "messages": turns}), None),
        ("/v1beta/models/one/sim-ok:generateContent", Told::Google, text.clone(), None),
        ("/v1beta/models/one/sim-ok:streamGenerateContent?alt=sse", Told::Google, text, None),
        ("/v1beta/models/one/some-embed:embedContent", Told::Google, json!({"content": content}), Some("0.002")),
        (
            "/v1beta/models/one/some-embed:batchEmbedContents",
            Told::Google,
            json!({"requests": [{"model": "models/x", "content": content}, {"model": "models/x", "content": content}]}),
            Some("0.004"),
        ),
        (
            "/v1/embeddings",
            Told::OpenAi,
            json!({"model": "one/some-embed", "input": ["one two", "three"]}),
            Some("0.004"),
        ),
        (
            "/v1/images/generations",
            Told::OpenAi,
            json!({"model": "one/pictures", "prompt": "a circle", "n": 2}),
            Some("3"),
        ),
        (
            "/v1/audio/speech",
            Told::OpenAi,
            json!({"model": "one/speech", "input": "hello", "voice": "v"}),
            Some("0.25"),
        ),
        (
            "/v1/audio/speech",
            Told::OpenAi,
            json!({"model": "one/voice", "input": "h\u{e4}llo", "voice": "v"}),
            Some("0.005"),
        ),
        (
            "/v1/images/generations",
            Told::OpenAi,
            json!({"model": "one/painter", "prompt": "a circle", "size": "1024x1024", "quality": "hd"}),
            Some("0.08"),
        ),
        ("/v1/moderations", Told::OpenAi, json!({"model": "one/moderation", "input": "good"}), None),
        (
            "/v1/rerank",
            Told::OpenAi,
            json!({"model": "one/ranking", "query": "what eats", "documents": documents}),
            Some("0.002"),
        ),
    ]
}

const FORM: &str = "multipart/form-data; boundary=edge";

/// The same of those that are asked with a form.
fn forms() -> Vec<(&'static str, Vec<u8>, Option<&'static str>)> {
    let form = |model: &str, name: &str, more: &str| {
        let part = |name: &str, text: &str| {
            format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
        };
        let file = format!(
            "--edge\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFFRIFF\r\n--edge--\r\n"
        );
        (part("model", model) + &part("prompt", "names") + more + &file).into_bytes()
    };
    let two = "--edge\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n2\r\n";
    let verbose = "--edge\r\nContent-Disposition: form-data; name=\"response_format\"\r\n\r\nverbose_json\r\n";
    vec![
        ("/v1/audio/transcriptions", form("one/transcripts", "file", ""), None),
        ("/v1/audio/translations", form("one/transcripts", "file", ""), None),
        ("/v1/audio/transcriptions", form("one/ears", "file", verbose), Some("4.235")),
        ("/v1/images/edits", form("one/pictures", "image", two), Some("3")),
    ]
}

async fn post(gateway: &Gateway, path: &str, content_type: &str, body: &[u8]) -> Answer {
    let url = format!("{}{path}", gateway.url);
    let key = format!("Bearer {KEY}");
    let headers = [("authorization", key.as_str()), ("content-type", content_type)];
    client::send("POST", &url, &headers, body).await.unwrap()
}

fn assert_told(path: &str, told: Told, answer: &Answer) {
    let body = answer.json();
    let (kind, expected) = match told {
        Told::OpenAi => (&body["error"]["code"], "budget_exceeded"),
        Told::Anthropic => (&body["error"]["type"], "billing_error"),
        Told::Google => (&body["error"]["status"], "FAILED_PRECONDITION"),
    };
    assert_eq!((answer.status, kind.as_str()), (402, Some(expected)), "{path}: {body}");
    assert!(body["error"]["message"].as_str().is_some_and(|text| text.contains("budget")), "{path}: {body}");
}

/// What a provider was asked for, besides its list of models.
fn asked(sim: &Sim) -> usize {
    sim.calls().iter().filter(|call| call.method == "POST").count()
}

#[tokio::test]
async fn no_route_reaches_a_provider_without_a_budget_and_each_is_charged_by_its_price() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().config(&provider("one", &sim, PRICES)).start().await;
    run(&gateway, &["budgets", "set", "0.0001", "--org", "default"]);
    for (path, told, body, _) in families() {
        assert_told(path, told, &post(&gateway, path, "application/json", body.to_string().as_bytes()).await);
    }
    for (path, body, _) in forms() {
        assert_told(path, Told::OpenAi, &post(&gateway, path, FORM, &body).await);
    }
    assert_eq!(asked(&sim), 0);
    run(&gateway, &["budgets", "set", "1000", "--org", "default"]);
    let mut paid = Money::ZERO;
    let requests =
        families().into_iter().map(|(path, _, body, cost)| (path, "application/json", body.to_string(), cost));
    let forms = forms().into_iter().map(|(path, body, cost)| (path, FORM, String::from_utf8(body).unwrap(), cost));
    for (path, content_type, body, cost) in requests.chain(forms) {
        let answer = post(&gateway, path, content_type, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body_text());
        let line = gateway.log_line(&answer).await;
        let (tokens, logged) = (&line["prompt_tokens"], logged(&line, "cost_usd"));
        let counted = || (tokens.as_i64().unwrap() + line["completion_tokens"].as_i64().unwrap()).into();
        let expected = cost.map_or_else(|| Money::from_picos(counted()) * 1_000_000_000, dollars);
        assert!(expected > Money::ZERO && logged == expected, "{path}: {expected} in {line}");
        paid += logged;
        until_spent(&gateway, "org", "total", paid).await;
    }
    until_reserved_nothing(&gateway).await;
    assert_eq!(agreed(&gateway, &gateway.data_dir(), None).await, paid, "the ledger too");
}

#[tokio::test]
async fn what_a_single_request_may_cost_holds_on_every_route() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().config(&provider("one", &sim, PRICES)).start().await;
    for (path, told, mut body, _) in families() {
        // Google's clients have no member for what is the gateway's.
        if matches!(told, Told::Google) {
            continue;
        }
        body["extra"] = json!({"max_cost": 0.0001});
        let answer = post(&gateway, path, "application/json", body.to_string().as_bytes()).await;
        assert_eq!(answer.status, 402, "{path}: {}", answer.body_text());
        body["extra"] = json!({"max_cost": 100});
        let answer = post(&gateway, path, "application/json", body.to_string().as_bytes()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body_text());
    }
    assert_eq!(asked(&sim), families().iter().filter(|(_, told, ..)| !matches!(told, Told::Google)).count());
}

#[tokio::test]
async fn a_route_without_a_price_is_what_the_operator_says() {
    for (choice, expected) in [("deny", 402), ("allow", 200)] {
        let sim = Sim::start(SimDialect::OpenAi).unwrap();
        let config = format!("[money]\nunknown_price = '{choice}'\n{}", provider("one", &sim, ""));
        let gateway = Gateway::builder().config(&config).start().await;
        run(&gateway, &["budgets", "set", "100", "--org", "default"]);
        for (path, told, body, _) in families() {
            let answer = post(&gateway, path, "application/json", body.to_string().as_bytes()).await;
            assert_eq!(answer.status, expected, "{choice} {path}: {}", answer.body_text());
            if choice == "deny" {
                assert_told(path, told, &answer);
            } else {
                assert_eq!(logged(&gateway.log_line(&answer).await, "cost_usd"), Money::ZERO, "{path}");
            }
        }
        assert_eq!(asked(&sim) == 0, choice == "deny");
        assert!(accounts(&gateway).await.iter().all(|(.., spent, _)| *spent == Money::ZERO));
    }
}

/// What all lines of the log together say was spent.
fn all_logged(gateway: &Gateway) -> Money {
    let names = ["cost_usd", "hedge_cost_usd", "embedding_cost_usd"];
    gateway.log().iter().flat_map(|line| names.map(|name| logged(line, name))).sum()
}

#[tokio::test]
async fn an_answer_that_came_too_slowly_is_charged_beside_the_one_that_serves() {
    let slow =
        "[retry]\nmax = 0\n[breaker]\nenabled = false\n[gate]\nmin_throughput = 50\nthroughput_window = '500ms'\n";
    let (one, two) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let model = "[[provider.model]]\nid = 'sim-ok'\ninput = '1000'\noutput = '1000'\nmax_output = 100\n";
    let config = format!("{slow}{}{}", provider("one", &one, model), provider("two", &two, model));
    let gateway = Gateway::builder().config(&config).start().await;
    run(&gateway, &["budgets", "set", "1000", "--org", "default"]);
    one.on_model("sim-ok", Step::Paced(Duration::from_millis(100)));
    let mut body = saying("one/sim-ok", &"one two three four five ".repeat(8), true);
    body["extra"] = json!({"fallback_models": ["two/sim-ok"]});
    let answer = gateway.chat(&body).await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "two"), "{}", answer.body_text());
    let line = gateway.log_line(&answer).await;
    assert!(logged(&line, "hedge_cost_usd") > Money::ZERO && logged(&line, "cost_usd") > Money::ZERO, "{line}");
    until_reserved_nothing(&gateway).await;
    assert_eq!(agreed(&gateway, &gateway.data_dir(), None).await, all_logged(&gateway), "to the pico-dollar");
}

#[tokio::test]
async fn an_answer_that_nobody_has_taken_is_charged_and_in_the_ledger() {
    let hedging = "[retry]\nmax = 0\n[breaker]\nenabled = false\n[hedging]\nenabled = true\nquantile = 0.5\nmin_delay = '100ms'\nbudget = 1\n";
    let (one, two) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let model = "[[provider.model]]\nid = 'sim-ok'\ninput = '1000.000003'\noutput = '1000.000007'\nmax_output = 100\n";
    let config = format!("{hedging}{}{}", provider("one", &one, model), provider("two", &two, model));
    let gateway = Gateway::builder().config(&config).start().await;
    run(&gateway, &["budgets", "set", "1000", "--org", "default"]);
    let mut body = saying("one/sim-ok", "one two three four five six seven eight nine", false);
    body["extra"] = json!({"fallback_models": ["two/sim-ok"]});
    // As many as it takes to know what is usual.
    for _ in 0..20 {
        let answer = gateway.chat(&body).await;
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        gateway.log_line(&answer).await;
    }
    // One that is never answered.
    one.script([Step::Acts(vec![Act::Silence])]);
    let answer = gateway.chat(&body).await;
    assert_eq!((answer.status, answer.header("x-provider")), (200, "two"), "{}", answer.body_text());
    let line = gateway.log_line(&answer).await;
    assert!(logged(&line, "hedge_cost_usd") > Money::ZERO && logged(&line, "cost_usd") > Money::ZERO, "{line}");
    let paid = all_logged(&gateway);
    until_spent(&gateway, "org", "total", paid).await;
    until_reserved_nothing(&gateway).await;
    assert_eq!(agreed(&gateway, &gateway.data_dir(), None).await, paid, "to the pico-dollar");
}

#[tokio::test]
async fn the_comparing_of_questions_is_charged_and_in_the_ledger() {
    let (answers, vectors) = (Sim::start(SimDialect::OpenAi).unwrap(), Sim::start(SimDialect::OpenAi).unwrap());
    let cache =
        "[cache]\nbackend = 'memory'\n[cache.semantic]\nmodel = 'vectors/embed-1'\nthreshold = 0.7\nenabled = true\n";
    let model = "[[provider.model]]\nid = 'm1'\ninput = '1000'\noutput = '1000'\nmax_output = 100\n";
    let embeds = "[[provider.model]]\nid = 'embed-1'\ninput = '0.000001'\noutput = '0'\n";
    let config = format!("{cache}{}{}", provider("one", &answers, model), provider("vectors", &vectors, embeds));
    let gateway = Gateway::builder().config(&config).start().await;
    run(&gateway, &["budgets", "set", "1000", "--org", "default"]);
    let first = gateway.chat(&saying("one/m1", "How do I boil an egg?", false)).await;
    assert_eq!((first.status, first.header("x-cache")), (200, "MISS"), "{}", first.body_text());
    let line = gateway.log_line(&first).await;
    assert!(logged(&line, "cost_usd") > Money::ZERO && logged(&line, "embedding_cost_usd") > Money::ZERO, "{line}");
    let near = gateway.chat(&saying("one/m1", "how can I boil an egg", false)).await;
    assert_eq!((near.status, near.header("x-cache")), (200, "HIT"), "{}", near.body_text());
    let line = gateway.log_line(&near).await;
    assert_eq!(logged(&line, "cost_usd"), Money::ZERO, "{line}");
    assert!(logged(&line, "embedding_cost_usd") > Money::ZERO, "{line}");
    let paid = all_logged(&gateway);
    until_spent(&gateway, "org", "total", paid).await;
    until_reserved_nothing(&gateway).await;
    assert_eq!(agreed(&gateway, &gateway.data_dir(), None).await, paid, "to the pico-dollar");
    run(&gateway, &["budgets", "set", "0.000001", "--org", "default"]);
    let asked_before = asked(&vectors);
    assert_eq!(gateway.chat(&saying("one/m1", "Who painted the Mona Lisa?", false)).await.status, 402);
    assert_eq!(asked(&vectors), asked_before, "not even to compare");
}
