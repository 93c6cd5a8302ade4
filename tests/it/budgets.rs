//! Budgets, credits and `extra.max_cost`: never over, whoever asks how much at once, and 402 before any provider is touched.

use crate::api_keys::{orbyt, said};
use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use crate::postgres;
use crate::redis_server::RedisServer;
use futures::stream::{self, StreamExt};
use orbyt::domain::Money;
use orbyt::sim::client::{self, Answer, BodyEnd};
use orbyt::sim::{Sim, SimDialect, SimFault};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A tenth of a cent for each token.
pub const PRICES: &str = "[[provider.model]]\nid = 'sim-ok'\ninput = '1000'\noutput = '1000'\nmax_output = 100\n";

pub fn config(sim: &Sim, prices: &str) -> String {
    let base_url = sim.base_url();
    let key = "[[provider.key]]\nsecret = 'key-in-clear'\n";
    format!("[[provider]]\nid = 'one'\ndialect = 'openai_chat'\nbase_url = '{base_url}'\n{key}{prices}\n")
}

async fn gateway(more: &str) -> (Sim, Gateway) {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().config(&format!("{more}\n{}", config(&sim, PRICES))).start().await;
    (sim, gateway)
}

pub fn run(gateway: &Gateway, arguments: &[&str]) -> String {
    said(&gateway.data_dir(), None, arguments, "")
}

async fn ask(gateway: &Gateway, key: &str, body: &Value) -> Answer {
    let url = format!("{}/v1/chat/completions", gateway.url);
    client::send("POST", &url, &[("x-api-key", key)], body.to_string().as_bytes()).await.unwrap()
}

pub fn bounded(text: &str) -> Value {
    let mut body = saying("one/sim-ok", text, false);
    body["max_tokens"] = json!(20);
    body
}

pub fn error(answer: &Answer) -> (u16, String, String) {
    let error = &answer.json()["error"];
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    (answer.status, text("code"), text("message"))
}

/// What the accounts of a node are at: spent and reserved by payer and span.
pub async fn accounts(gateway: &Gateway) -> Vec<(String, String, Money, Money)> {
    let report = gateway.get_console("/api/v1/accounts").await.unwrap().json();
    let money = |value: &Value| Money::from_dollars(value.as_str().unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let account =
        |it: &Value| (text(&it["payer"]), text(&it["span"]), money(&it["spent_usd"]), money(&it["reserved_usd"]));
    report["accounts"].as_array().unwrap().iter().map(account).collect()
}

pub async fn spent(gateway: &Gateway, payer: &str, span: &str) -> Money {
    let all = accounts(gateway).await;
    all.iter().filter(|(known, of, ..)| known == payer && of == span).map(|(_, _, spent, _)| *spent).sum()
}

/// Waits until so much is spent: what a request did cost is booked when its client has the last byte already.
pub async fn until_spent(gateway: &Gateway, payer: &str, span: &str, expected: Money) {
    let started = Instant::now();
    loop {
        let spent = spent(gateway, payer, span).await;
        if spent == expected {
            return;
        }
        assert!(spent < expected && started.elapsed() < PATIENCE, "{spent} of {expected} to the pico-dollar");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until nothing is reserved any more.
pub async fn until_reserved_nothing(gateway: &Gateway) {
    let started = Instant::now();
    while accounts(gateway).await.iter().any(|(.., reserved)| *reserved != Money::ZERO) {
        assert!(started.elapsed() < PATIENCE, "something stays reserved");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What the ledger says was spent of the only budget.
fn ledger(data_dir: &Path, url: Option<&str>) -> Money {
    let list = said(data_dir, url, &["budgets", "list"], "");
    let spent = list.lines().nth(1).and_then(|line| line.split_whitespace().last()?.strip_prefix('$')).unwrap();
    Money::from_dollars(spent).unwrap()
}

/// Waits until accounts and ledger say the same, which they do to the pico-dollar; returns what.
pub async fn agreed(gateway: &Gateway, data_dir: &Path, url: Option<&str>) -> Money {
    let started = Instant::now();
    loop {
        let (accounts, ledger) = (spent(gateway, "org", "total").await, ledger(data_dir, url));
        if accounts == ledger {
            return ledger;
        }
        assert!(started.elapsed() < PATIENCE, "accounts {accounts}, ledger {ledger}\n{}", gateway.output());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub fn cost(usage: &Value) -> Money {
    let tokens = usage["total_tokens"].as_i64().unwrap();
    Money::from_picos(i128::from(tokens) * 1_000_000_000)
}

#[tokio::test]
async fn a_key_spends_its_budget_and_no_more() {
    let (sim, gateway) = gateway("").await;
    let key = said(&gateway.data_dir(), None, &["keys", "create", "--name", "team", "--budget", "0.40/day"], "");
    let key = key.trim();
    let mut paid = Money::ZERO;
    let refused = loop {
        let answer = ask(&gateway, key, &bounded("one two three four")).await;
        if answer.status != 200 {
            break answer;
        }
        paid += cost(&answer.json()["usage"]);
        until_spent(&gateway, "key", "day", paid).await;
    };
    let (status, code, message) = error(&refused);
    assert_eq!((status, code.as_str()), (402, "budget_exceeded"));
    assert!(message.contains("this key's budget has $0."), "{message}");
    assert!(paid > Money::ZERO && paid <= Money::from_dollars("0.4").unwrap(), "{paid}");
    let asked = sim.generations();
    assert_eq!(error(&ask(&gateway, key, &bounded("one two three four")).await).0, 402);
    assert_eq!(sim.generations(), asked, "no provider was touched");
    assert_eq!(ask(&gateway, KEY, &bounded("hello")).await.status, 200, "the others go on");
    let again = orbyt(
        &gateway.data_dir(),
        None,
        &["keys", "create", "--name", "team", "--budget", "5/day", "--budget", "9/week"],
        "",
    );
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("there is a key of that name"));
    let list = run(&gateway, &["budgets", "list"]);
    assert_eq!(list.lines().count(), 2, "a key that was not made leaves no budget: {list}");
    let id = list.split_whitespace().find(|word| word.starts_with("bud_")).unwrap();
    run(&gateway, &["budgets", "remove", id]);
    assert_eq!(ask(&gateway, key, &bounded("one two three four")).await.status, 200, "at once");
}

#[tokio::test]
async fn every_client_is_told_in_its_own_format() {
    let (sim, gateway) = gateway("").await;
    run(&gateway, &["budgets", "set", "0.001/month", "--org", "default"]);
    let (status, code, message) = error(&gateway.chat(&bounded("hello")).await);
    assert_eq!((status, code.as_str()), (402, "budget_exceeded"));
    assert!(message.contains("this organisation's budget has $0.001 left"), "{message}");
    let stream = gateway.chat(&saying("one/sim-ok", "hello", true)).await;
    assert_eq!((stream.status, stream.json()["error"]["type"].as_str()), (402, Some("insufficient_quota")));
    let body = json!({"model": "one/sim-ok", "max_tokens": 20, "messages": [{"role": "user", "content": "hello"}]});
    let answer = gateway.messages("/v1/messages", &body).await;
    let told = answer.json();
    assert_eq!(
        (answer.status, told["type"].as_str(), told["error"]["type"].as_str()),
        (402, Some("error"), Some("billing_error"))
    );
    let headers = [("authorization", &*format!("Bearer {KEY}")), ("content-type", "application/json")];
    let answer = gateway.ask("/v1/responses", &headers, &json!({"model": "one/sim-ok", "input": "hello"})).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (402, Some("budget_exceeded")));
    assert_eq!(sim.generations(), 0);
    let counted = gateway.messages("/v1/messages/count_tokens", &body).await;
    assert_eq!(counted.status, 200, "to count tokens costs nothing");
}

#[tokio::test]
async fn a_request_may_name_what_it_may_cost() {
    let (sim, gateway) = gateway("").await;
    let with = |most: f64| {
        let mut body = bounded("hello");
        body["extra"] = json!({"max_cost": most});
        body
    };
    let refused = gateway.chat(&with(0.01)).await;
    assert_eq!((error(&refused).0, refused.json()["error"]["param"].as_str()), (402, Some("extra.max_cost")));
    assert_eq!(sim.generations(), 0);
    assert_eq!(gateway.chat(&with(1.0)).await.status, 200);
}

#[tokio::test]
async fn what_was_paid_in_advance_is_what_may_be_spent() {
    let (_sim, gateway) = gateway("").await;
    run(&gateway, &["credits", "add", "0.30", "--note", "invoice 1"]);
    assert_eq!(gateway.chat(&bounded("hello")).await.status, 200);
    let mut last = 200;
    for _ in 0..30 {
        last = gateway.chat(&bounded("hello there")).await.status;
        if last != 200 {
            break;
        }
    }
    assert_eq!(last, 402);
    assert!(spent(&gateway, "org", "prepaid").await <= Money::from_dollars("0.3").unwrap());
    run(&gateway, &["credits", "add", "1", "--note", "invoice 2"]);
    assert_eq!(gateway.chat(&bounded("hello")).await.status, 200, "at once");
    assert!(run(&gateway, &["credits", "show"]).contains("$1.3"));
    let log = run(&gateway, &["audit", "list"]);
    assert_eq!(log.matches("credit.add").count(), 2, "{log}");
}

#[tokio::test]
async fn each_user_of_an_organisation_has_a_budget_of_their_own() {
    let (_sim, gateway) = gateway("").await;
    run(&gateway, &["budgets", "set", "0.25/week", "--user", "*"]);
    let says = |user: &str| {
        let mut body = bounded("hello");
        body["user"] = json!(user);
        body
    };
    let mut ada = 200;
    for _ in 0..30 {
        ada = gateway.chat(&says("ada")).await.status;
        if ada != 200 {
            break;
        }
    }
    assert_eq!(ada, 402);
    assert_eq!(gateway.chat(&says("bob")).await.status, 200);
    assert_eq!(gateway.chat(&bounded("hello")).await.status, 200, "who names no user has none");
}

#[tokio::test]
async fn who_is_called_like_a_secret_has_no_budget_of_their_own() {
    let (_sim, gateway) = gateway("").await;
    let user = "sk-canary0123456789abcdef";
    let output = orbyt(&gateway.data_dir(), None, &["budgets", "set", "5", "--user", user], "");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("--user: this looks like a secret"), "{told}");
    let wanted = json!({"org": "org_default", "payer": "user", "subject": user, "span": "day", "amount_usd": "5"});
    let refused = crate::admin_api::Client::administrator(&gateway).post("/budgets", &wanted).await;
    let text = refused.body_text();
    assert!(refused.status == 422 && text.contains("subject looks like a secret") && !told.contains(user), "{text}");
    assert_eq!(run(&gateway, &["budgets", "list"]).lines().count(), 1, "the heading");
}

#[tokio::test]
async fn a_model_without_a_price_is_what_the_operator_says() {
    for (choice, expected) in [("deny", 402), ("allow", 200), ("estimate", 200)] {
        let sim = Sim::start(SimDialect::OpenAi).unwrap();
        let config = format!("[money]\nunknown_price = '{choice}'\n{}", config(&sim, ""));
        let gateway = Gateway::builder().config(&config).start().await;
        assert_eq!(gateway.chat(&bounded("hello")).await.status, 200, "without a budget it does not matter");
        run(&gateway, &["budgets", "set", "100", "--org", "default"]);
        let answer = gateway.chat(&bounded("hello")).await;
        assert_eq!(answer.status, expected, "{choice}: {}", answer.body_text());
        let line = gateway.log_line(&answer).await;
        match choice {
            "deny" => assert!(error(&answer).2.contains("the price of one/sim-ok is not known"), "{line}"),
            "allow" => assert_eq!(spent(&gateway, "org", "total").await, Money::ZERO),
            _ => {
                assert!(line["cost_usd"].as_f64().unwrap() > 0.0 && line["priced_as"].is_string(), "{line}");
                assert!(spent(&gateway, "org", "total").await > Money::ZERO);
            }
        }
    }
}

#[tokio::test]
async fn nothing_delivered_nothing_charged() {
    let (sim, gateway) = gateway("[retry]\nmax = 1\nbase = '1ms'\n").await;
    run(&gateway, &["budgets", "set", "100", "--org", "default"]);
    sim.always(SimFault::ServerError);
    assert!(gateway.chat(&bounded("hello")).await.status >= 500);
    sim.reset();
    let answer = gateway.chat(&bounded("hello")).await;
    until_spent(&gateway, "org", "total", cost(&answer.json()["usage"])).await;
    let mut own = bounded("hello");
    own["extra"] = json!({"byok": "sk-own"});
    let answer = gateway.chat(&own).await;
    let line = gateway.log_line(&answer).await;
    assert_eq!((line["cost_usd"].as_f64(), &line["byok"]), (Some(0.0), &json!(true)), "{line}");
    assert!(line["prompt_tokens"].as_u64().unwrap() > 0, "its usage is known all the same");
    until_reserved_nothing(&gateway).await;
}

#[tokio::test]
async fn a_price_list_goes_before_the_catalog_and_after_the_configuration() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let prices = "[[provider.model]]\nid = 'mine'\ninput = '5'\noutput = '5'\n";
    let gateway = Gateway::builder().config(&config(&sim, prices)).start().await;
    let price = async |model: &str| {
        let answer = gateway.chat(&saying(&format!("one/{model}"), "hello", false)).await;
        let line = gateway.log_line(&answer).await;
        let tokens = line["prompt_tokens"].as_f64().unwrap() + line["completion_tokens"].as_f64().unwrap();
        line["cost_usd"].as_f64().map(|cost| (cost / tokens * 1e6).round())
    };
    assert_eq!((price("theirs").await, price("mine").await), (None, Some(5.0)));
    let list = json!({"one": {"id": "one", "models": {
        "theirs": {"cost": {"input": 7, "output": 7}}, "mine": {"cost": {"input": 9, "output": 9}},
    }}});
    let file = gateway.data_dir().join("api.json");
    std::fs::write(&file, list.to_string()).unwrap();
    run(&gateway, &["catalog", "import", file.to_str().unwrap()]);
    let started = Instant::now();
    while price("theirs").await != Some(7.0) {
        assert!(started.elapsed() < PATIENCE, "the prices are not in force\n{}", gateway.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(price("mine").await, Some(5.0), "the configuration wins");
    assert!(run(&gateway, &["audit", "list"]).contains("catalog.import"));
}

/// So many requests, so many at once; how many of them were answered, and what they have cost.
async fn flood(gateways: &[&Gateway], count: usize, at_once: usize) -> (usize, Money) {
    let outcomes = stream::iter(0..count).map(|n| {
        let gateway = gateways[n % gateways.len()];
        async move {
            let body = bounded(&"word ".repeat(n % 7 + 1));
            let url = format!("{}/v1/chat/completions", gateway.url);
            let sent = client::send("POST", &url, &[("x-api-key", KEY)], body.to_string().as_bytes()).await;
            match sent {
                Ok(answer) if answer.status == 200 && answer.end == BodyEnd::Clean => cost(&answer.json()["usage"]),
                // A gateway that is killed answers nobody.
                Ok(answer) if answer.status != 402 && answer.end == BodyEnd::Clean => panic!("{}", answer.body_text()),
                Ok(_) | Err(_) => Money::ZERO,
            }
        }
    });
    let paid: Vec<Money> = outcomes.buffer_unordered(at_once).collect().await;
    (paid.iter().filter(|paid| **paid > Money::ZERO).count(), paid.into_iter().sum())
}

/// No account of these gateways may be over the limit.
async fn assert_within(gateways: &[&Gateway], limit: Money) -> usize {
    let mut samples = 0;
    for gateway in gateways {
        for (.., spent, reserved) in accounts(gateway).await {
            assert!(spent + reserved <= limit, "{spent} + {reserved}");
            samples += 1;
        }
    }
    samples
}

/// A flood, during which no account may be over the limit whenever it is looked at.
async fn watched_flood(gateways: &[&Gateway], count: usize, limit: Money) -> (usize, Money) {
    let done = AtomicBool::new(false);
    let watch = async {
        let mut samples = 0;
        while !done.load(Ordering::Relaxed) {
            samples += assert_within(gateways, limit).await;
        }
        samples
    };
    let all = async {
        let outcome = flood(gateways, count, 64).await;
        done.store(true, Ordering::Relaxed);
        outcome
    };
    let (outcome, samples) = tokio::join!(all, watch);
    assert!(samples > 10, "{samples} samples");
    outcome
}

#[tokio::test]
async fn two_thousand_requests_never_go_over() {
    let (_sim, gateway) = gateway("").await;
    run(&gateway, &["budgets", "set", "15", "--org", "default"]);
    let limit = Money::from_dollars("15").unwrap();
    let (answered, paid) = watched_flood(&[&gateway], 2000, limit).await;
    assert!(answered > 200 && answered < 2000, "{answered} were answered");
    until_spent(&gateway, "org", "total", paid).await;
    assert_eq!(agreed(&gateway, &gateway.data_dir(), None).await, paid, "the ledger too");
    assert!(paid <= limit && paid + Money::from_dollars("1").unwrap() > limit, "{paid}");
}

#[tokio::test]
async fn a_budget_outlives_a_gateway_that_is_killed() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let start =
        async || Gateway::builder().config(&config(&sim, PRICES)).variable("ORBYT_DATA_DIR", data_dir).start().await;
    let (first, limit) = (start().await, Money::from_dollars("15").unwrap());
    said(folder.path(), None, &["budgets", "set", "15", "--org", "default"], "");
    let kill = async {
        while spent(&first, "org", "total").await < Money::from_dollars("4").unwrap() {
            assert_within(&[&first], limit).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        first.signal(libc::SIGKILL);
    };
    let all = [&first];
    let ((_, seen), ()) = tokio::join!(flood(&all, 400, 64), kill);
    let second = start().await;
    let after_restart = spent(&second, "org", "total").await;
    assert!(after_restart >= seen, "{after_restart} is known from the first moment on, {seen} was seen by clients");
    assert!(
        accounts(&second).await.iter().all(|(.., reserved)| *reserved == Money::ZERO),
        "reservations die with the process"
    );
    let (_, paid) = watched_flood(&[&second], 1600, limit).await;
    let spent = agreed(&second, folder.path(), None).await;
    assert!(
        spent == after_restart + paid && spent <= limit && spent + Money::from_dollars("1").unwrap() > limit,
        "{spent}"
    );
}

#[tokio::test]
async fn what_a_user_has_spent_outlives_a_restart_whatever_they_are_called() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let start =
        async || Gateway::builder().config(&config(&sim, PRICES)).variable("ORBYT_DATA_DIR", data_dir).start().await;
    said(folder.path(), None, &["budgets", "set", "0.25/week", "--user", "*"], "");
    let first = start().await;
    let users = ["ada".to_owned(), "x".repeat(300), "sk-ant-REDACTED".to_owned()];
    let ask = async |gateway: &Gateway, user: &str| {
        let mut body = bounded("hello");
        body["user"] = json!(user);
        gateway.chat(&body).await.status
    };
    for user in &users {
        let mut last = 200;
        for _ in 0..30 {
            last = ask(&first, user).await;
            if last != 200 {
                break;
            }
        }
        assert_eq!(last, 402);
    }
    first.signal(libc::SIGKILL);
    let asked = sim.generations();
    let second = start().await;
    for user in &users {
        assert_eq!(ask(&second, user).await, 402, "{user}");
    }
    assert_eq!(sim.generations(), asked, "no provider was touched");
    assert_eq!(ask(&second, "bob").await, 200);
}

#[tokio::test]
async fn a_gateway_that_begins_with_budgets_takes_requests_down_and_knows_what_each_user_has_spent() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let start =
        async || Gateway::builder().config(&config(&sim, PRICES)).variable("ORBYT_DATA_DIR", data_dir).start().await;
    let says = |user: &str| {
        let mut body = bounded("hello");
        body["user"] = json!(user);
        body
    };
    let first = start().await;
    said(folder.path(), None, &["budgets", "set", "0.25/month", "--user", "*"], "");
    let mut paid = Money::ZERO;
    let refused = loop {
        let answer = first.chat(&says("ada")).await;
        if answer.status != 200 {
            break answer.status;
        }
        paid += cost(&answer.json()["usage"]);
    };
    assert_eq!(refused, 402);
    first.signal(libc::SIGKILL);
    drop(first);
    let second = start().await;
    assert_eq!(second.chat(&says("ada")).await.status, 402, "from the first request on");
    assert_eq!(spent(&second, "user", "month").await, paid);
    assert_eq!(second.chat(&says("bob")).await.status, 200);
    assert!(!second.output().contains("cannot be written"), "{}", second.output());
    let spools = std::fs::read_dir(folder.path().join("spool")).unwrap();
    let spools: Vec<_> = spools.map(|entry| entry.unwrap().path()).filter(|path| path.join("lock").exists()).collect();
    assert!(!spools.is_empty(), "where requests are taken down is gone");
}

#[tokio::test]
async fn two_gateways_share_a_budget_and_one_of_them_is_killed() {
    let (sim, redis, database) =
        (Sim::start(SimDialect::OpenAi).unwrap(), RedisServer::start().await, postgres::Database::create().await);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let store = "[store]\nredis_timeout = '10s'\nnode_ttl = '1s'\n";
    let start = async |node: usize| {
        Gateway::builder()
            .config(&format!("{store}{}", config(&sim, PRICES)))
            .variable("REDIS_URL", &redis.url())
            .variable("DATABASE_URL", &database.url())
            .variable("ORBYT_DATA_DIR", folders[node].path().to_str().unwrap())
            .start()
            .await
    };
    let (first, second) = (start(0).await, start(1).await);
    let url = database.url();
    let set = |node: usize| said(folders[node].path(), Some(&url), &["budgets", "set", "15", "--org", "default"], "");
    set(0);
    // Rings at the other's door.
    set(1);
    let limit = Money::from_dollars("15").unwrap();
    let kill = async {
        loop {
            assert_within(&[&first, &second], limit).await;
            if spent(&first, "org", "total").await > Money::from_dollars("4").unwrap() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        first.signal(libc::SIGKILL);
    };
    let both = [&first, &second];
    let ((_, seen), ()) = tokio::join!(flood(&both, 600, 64), kill);
    let third = start(0).await;
    let (_, paid) = watched_flood(&[&second, &third], 1400, limit).await;
    let spent = agreed(&second, folders[1].path(), Some(&url)).await;
    assert!(spent >= seen + paid && spent <= limit && spent + Money::from_dollars("1.5").unwrap() > limit, "{spent}");
}

#[tokio::test]
async fn without_redis_a_node_spends_its_share_of_what_was_left_or_nothing() {
    for (on_outage, expected) in [("local", 402), ("deny", 503)] {
        let (sim, mut redis) = (Sim::start(SimDialect::OpenAi).unwrap(), RedisServer::start().await);
        let store = format!("[store]\nredis_timeout = '10s'\n[limits]\non_outage = '{on_outage}'\n");
        let gateway = Gateway::builder()
            .config(&format!("{store}{}", config(&sim, PRICES)))
            .variable("REDIS_URL", &redis.url())
            .start()
            .await;
        run(&gateway, &["budgets", "set", "0.50", "--org", "default"]);
        let first = gateway.chat(&bounded("hello")).await;
        assert_eq!(first.status, 200, "{}", first.body_text());
        // Until it is booked.
        until_reserved_nothing(&gateway).await;
        redis.kill();
        gateway.shows("orbyt_store_up{store=\"redis\"} 0").await;
        let mut paid = cost(&first.json()["usage"]);
        let refused = loop {
            let answer = gateway.chat(&bounded("hello")).await;
            if answer.status != 200 {
                break answer;
            }
            paid += cost(&answer.json()["usage"]);
        };
        assert_eq!(refused.status, expected, "{}", refused.body_text());
        assert!(paid <= Money::from_dollars("0.5").unwrap(), "{paid}");
        redis.start_again().await;
        gateway.shows("orbyt_store_up{store=\"redis\"} 1").await;
        // Redis has lost everything: the ledger brings it back.
        assert_eq!(agreed(&gateway, &gateway.data_dir(), None).await, paid, "what was spent meanwhile is booked");
    }
}

#[tokio::test]
async fn what_a_broken_stream_has_delivered_is_estimated_and_charged() {
    let mut body = saying("one/sim-cut-after-tokens", "one two three four five six", true);
    body["max_tokens"] = json!(50);
    let prices = "[[provider.model]]\nid = 'sim-cut-after-tokens'\ninput = '1000'\noutput = '1000'\nmax_output = 100\n";
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let gateway = Gateway::builder().config(&config(&sim, prices)).start().await;
    run(&gateway, &["budgets", "set", "100", "--org", "default"]);
    let answer = gateway.chat(&body).await;
    let line = gateway.log_line(&answer).await;
    assert_eq!((&line["ended"], &line["usage_estimated"]), (&json!("broken"), &json!(true)), "{line}");
    assert!(line["completion_tokens"].as_u64().unwrap() > 0 && line["cost_usd"].as_f64().unwrap() > 0.0, "{line}");
    let booked = agreed(&gateway, &gateway.data_dir(), None).await;
    assert_eq!(booked.to_dollars(), line["cost_usd"].to_string());
}
