//! The cache of answers in Redis: what one gateway has been answered, the others give.

use crate::gateway::{Gateway, KEY, PATIENCE, binary, saying};
use crate::redis_server::RedisServer;
use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Sim, SimDialect};
use serde_json::Value;
use std::time::Instant;

const OTHER_KEY: &str = "other-key-of-the-tests";

async fn node(sim: &Sim, redis: &RedisServer, more: &str) -> Gateway {
    let config = format!("[cache]\nbackend = 'redis'\n{more}\n[store]\nredis_timeout = '10s'\n");
    let keys = format!("{KEY},{OTHER_KEY}");
    let builder = Gateway::builder().provider("one", sim).config(&config);
    builder.variable("REDIS_URL", &redis.url()).variable("ORBYT_API_KEYS", &keys).start().await
}

fn question(text: &str, stream: bool) -> Value {
    saying("one/m", text, stream)
}

async fn ask(gateway: &Gateway, key: &str, body: &Value) -> Answer {
    let url = format!("{}/v1/chat/completions", gateway.url);
    let answer = client::send("POST", &url, &[("x-api-key", key)], body.to_string().as_bytes()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    answer
}

#[tokio::test]
async fn an_answer_is_given_by_every_node_and_to_its_tenant_alone() {
    let (sim, redis) = (Sim::start(SimDialect::OpenAi).unwrap(), RedisServer::start().await);
    let (a, b) = tokio::join!(node(&sim, &redis, ""), node(&sim, &redis, ""));
    for stream in [false, true] {
        let first = ask(&a, KEY, &question("one two three", stream)).await;
        let second = ask(&b, KEY, &question("one two three", stream)).await;
        assert_eq!((first.header("x-cache"), second.header("x-cache")), ("MISS", "HIT"));
        assert_eq!(first.body_text(), second.body_text());
        assert_eq!((second.header("x-provider"), second.header("x-model")), ("one", "m"));
        let ttl: u64 = second.header("x-cache-ttl").parse().unwrap();
        assert!((200..=300).contains(&ttl), "{ttl}");
        let other = ask(&b, OTHER_KEY, &question("one two three", stream)).await;
        assert_eq!(other.header("x-cache"), "MISS");
    }
    assert_eq!(sim.generations(), 4);
}

#[tokio::test]
async fn who_wants_answers_kept_for_long_pushes_out_nobody_by_that() {
    let (sim, redis) = (Sim::start(SimDialect::OpenAi).unwrap(), RedisServer::start().await);
    let gateway = node(&sim, &redis, "max_size = 3").await;
    for number in 0..3 {
        let mut body = question(&format!("question {number}"), false);
        body["extra"] = serde_json::json!({"cache": {"ttl": "1d"}});
        ask(&gateway, OTHER_KEY, &body).await;
    }
    let body = question("one two", false);
    assert_eq!(ask(&gateway, KEY, &body).await.header("x-cache"), "MISS");
    assert_eq!(ask(&gateway, KEY, &body).await.header("x-cache"), "HIT");
    assert_eq!(redis.ask("ZCARD {orbyt}:answers:order").await, ":3");
}

#[tokio::test]
async fn there_are_never_more_answers_than_may_be() {
    let (sim, redis) = (Sim::start(SimDialect::OpenAi).unwrap(), RedisServer::start().await);
    let gateway = node(&sim, &redis, "max_size = 3").await;
    for number in 0..7 {
        ask(&gateway, KEY, &question(&format!("question {number}"), false)).await;
    }
    assert_eq!(redis.ask("ZCARD {orbyt}:answers").await, ":3");
    assert_eq!(redis.ask("EVAL \"return #redis.call('KEYS','{orbyt}:answer:*')\" 0").await, ":3");
    assert_eq!(ask(&gateway, KEY, &question("question 6", false)).await.header("x-cache"), "HIT");
    assert!(gateway.metrics().await.contains("\norbyt_cache_entries 3\n"));
}

#[tokio::test]
async fn answers_are_never_larger_together_than_they_may_be() {
    let (sim, redis) = (Sim::start(SimDialect::OpenAi).unwrap(), RedisServer::start().await);
    let gateway = node(&sim, &redis, "max_bytes = '4KiB'").await;
    for number in 0..12 {
        ask(&gateway, KEY, &question(&format!("question {number}"), false)).await;
    }
    let number = async |question: &str| redis.ask(question).await[1..].parse::<u64>().unwrap();
    let sum = "local n = 0 for _,k in ipairs(redis.call('KEYS','{orbyt}:answer:*')) do \
               n = n + #k + redis.call('STRLEN',k) end return n";
    let held = number(&format!("EVAL \"{sum}\" 0")).await;
    assert!((1024..=4096).contains(&held), "{held}");
    assert_eq!(redis.ask("HGET {orbyt}:answers:sizes \"\"").await.lines().last(), Some(held.to_string().as_str()));
    let kept = number("ZCARD {orbyt}:answers").await;
    assert!((1..12).contains(&kept), "{kept}");
    assert_eq!(ask(&gateway, KEY, &question("question 11", false)).await.header("x-cache"), "HIT");
    assert_eq!(ask(&gateway, KEY, &question("question 0", false)).await.header("x-cache"), "MISS");
    for index in ["{orbyt}:answers", "{orbyt}:answers:sizes"] {
        assert!(number(&format!("PTTL {index}")).await > 0);
    }
}

#[tokio::test]
async fn without_redis_nothing_is_kept_and_everything_is_answered() {
    let (sim, mut redis) = (Sim::start(SimDialect::OpenAi).unwrap(), RedisServer::start().await);
    let gateway = node(&sim, &redis, "").await;
    ask(&gateway, KEY, &question("one", false)).await;
    redis.kill();
    gateway.printed("\"status\":\"unhealthy\"").await;
    for _ in 0..3 {
        assert_eq!(ask(&gateway, KEY, &question("one", false)).await.header("x-cache"), "MISS");
    }
    redis.start_again().await;
    gateway.printed("\"status\":\"recovered\"").await;
    let asked = || async { ask(&gateway, KEY, &question("one", false)).await.header("x-cache").to_owned() };
    let mut seen = vec![asked().await, asked().await, asked().await];
    seen.dedup();
    assert_eq!(seen.last().map(String::as_str), Some("HIT"), "{seen:?}");
}

#[tokio::test]
async fn what_stands_in_redis_and_is_no_answer_is_not_served() {
    let (sim, redis) = (Sim::start(SimDialect::OpenAi).unwrap(), RedisServer::start().await);
    let gateway = node(&sim, &redis, "").await;
    ask(&gateway, KEY, &question("one", false)).await;
    let spoil = "for _,k in ipairs(redis.call('KEYS','{orbyt}:answer:*')) do redis.call('SET',k,'spoilt') end return 1";
    assert_eq!(redis.ask(&format!("EVAL \"{spoil}\" 0")).await, ":1");
    assert_eq!(ask(&gateway, KEY, &question("one", false)).await.header("x-cache"), "MISS");
    assert_eq!(ask(&gateway, KEY, &question("one", false)).await.header("x-cache"), "HIT");
}

#[tokio::test]
async fn the_connection_for_answers_is_made_again_when_it_is_closed() {
    let (sim, redis) = (Sim::start(SimDialect::OpenAi).unwrap(), RedisServer::start().await);
    let gateway = node(&sim, &redis, "").await;
    ask(&gateway, KEY, &question("one", false)).await;
    let started = Instant::now();
    // It is the one that has asked for an answer last.
    let id = loop {
        assert_eq!(ask(&gateway, KEY, &question("one", false)).await.header("x-cache"), "HIT");
        let list = redis.ask("CLIENT LIST").await;
        let line = list.lines().find(|line| line.contains(" cmd=get "));
        if let Some(id) = line.and_then(|line| line.strip_prefix("id=")?.split(' ').next().map(str::to_owned)) {
            break id;
        }
        assert!(started.elapsed() < PATIENCE, "{list}");
    };
    assert_eq!(redis.ask(&format!("CLIENT KILL ID {id}")).await, ":1");
    while ask(&gateway, KEY, &question("one", false)).await.header("x-cache") != "HIT" {
        assert!(started.elapsed() < PATIENCE, "the cache stays away\n{}", gateway.output());
    }
    assert!(!gateway.output().contains("unhealthy"), "{}", gateway.output());
}

#[tokio::test]
async fn a_cache_in_redis_needs_a_redis() {
    let output = std::process::Command::new(binary())
        .arg("check")
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("GATEWAY_CACHE_BACKEND", "redis")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        !output.status.success() && text.contains("GATEWAY_CACHE_BACKEND: needs store.redis_url (REDIS_URL)"),
        "{text}"
    );
}
