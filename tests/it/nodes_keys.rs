//! What one gateway learns about a provider's key, the others know.

use crate::gateway::{Gateway, PATIENCE, saying};
use crate::redis_server::RedisServer;
use orbyt::sim::{Call, Sim, SimDialect, SimFault, Step};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CONFIG: &str = "[retry]\nmax = 0\n[breaker]\nenabled = false\n[store]\nredis_timeout = '10s'\nnode_ttl = '1s'\n";

fn sim() -> Sim {
    Sim::start(SimDialect::OpenAi).unwrap()
}

async fn node(sim: &Sim, redis: &RedisServer, keys: &[(&str, &str)]) -> Gateway {
    let mut config =
        format!("{CONFIG}[[provider]]\nid = 'one'\ndialect = 'openai_chat'\nbase_url = '{}'\n", sim.base_url());
    for (key, more) in keys {
        config += &format!("[[provider.key]]\nname = '{key}'\nsecret = 'secret-of-{key}'\n{more}\n");
    }
    Gateway::builder().config(&config).variable("REDIS_URL", &redis.url()).start().await
}

const TWO: [(&str, &str); 2] = [("a", ""), ("b", "")];

fn uses(sim: &Sim, key: &str) -> usize {
    let bearer = format!("Bearer secret-of-{key}");
    let is_it = |call: &&Call| call.is_generation() && call.header("authorization") == Some(&bearer);
    sim.calls().iter().filter(is_it).count()
}

fn hello() -> Value {
    saying("one/m", "hello", false)
}

async fn ok(gateway: &Gateway) {
    let answer = gateway.chat(&hello()).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.body_text(), gateway.output());
}

async fn key_report(gateway: &Gateway, name: &str) -> Value {
    let report = gateway.get_console("/api/v1/health").await.unwrap().json();
    let keys = report["providers"][0]["keys"].as_array().unwrap();
    keys.iter().find(|key| key["name"] == name).unwrap().clone()
}

async fn until_key(gateway: &Gateway, name: &str, state: &str) {
    let started = Instant::now();
    loop {
        let report = key_report(gateway, name).await;
        if report["state"] == state {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{name} is not {state} but {report}\n{}", gateway.output());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn busy() -> Step {
    Step::Reply {
        status: 429,
        headers: vec![("retry-after", "60".to_owned())],
        body: json!({"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}).to_string(),
    }
}

/// Asks until the key has been used.
async fn use_key(gateway: &Gateway, sim: &Sim, key: &str) {
    while uses(sim, key) == 0 {
        ok(gateway).await;
    }
}

#[tokio::test]
async fn a_cooldown_is_honoured_at_the_other_node_and_by_one_that_starts_later() {
    let (sim, mut redis) = (sim(), RedisServer::start().await);
    sim.on_key("secret-of-a", busy());
    let (a, b) = tokio::join!(node(&sim, &redis, &TWO), node(&sim, &redis, &TWO));
    use_key(&a, &sim, "a").await;
    until_key(&b, "a", "cooldown").await;
    b.printed("\"key\":\"a\",\"state\":\"cooldown\"").await;
    let left = key_report(&b, "a").await["ready_in_seconds"].as_f64().unwrap();
    assert!((30.0..=60.0).contains(&left), "{left}");
    let later = node(&sim, &redis, &TWO).await;
    until_key(&later, "a", "cooldown").await;
    for gateway in [&a, &b, &later] {
        for _ in 0..8 {
            ok(gateway).await;
        }
    }
    assert_eq!(uses(&sim, "a"), 1);
    // A new Redis knows of nothing: those that do tell it.
    redis.kill();
    b.printed("\"status\":\"unhealthy\"").await;
    redis.start_again().await;
    let last = node(&sim, &redis, &TWO).await;
    until_key(&last, "a", "cooldown").await;
}

#[tokio::test]
async fn a_key_that_is_used_up_rests_at_all_nodes() {
    let (sim, redis) = (sim(), RedisServer::start().await);
    sim.on_key("secret-of-a", SimFault::Quota);
    let (a, b) = tokio::join!(node(&sim, &redis, &TWO), node(&sim, &redis, &TWO));
    use_key(&a, &sim, "a").await;
    until_key(&b, "a", "exhausted").await;
    for _ in 0..8 {
        ok(&b).await;
    }
    assert_eq!(uses(&sim, "a"), 1);
}

#[tokio::test]
async fn a_refused_key_is_out_everywhere_until_a_reload_anywhere() {
    let (sim, redis) = (sim(), RedisServer::start().await);
    sim.on_key("secret-of-a", SimFault::BadKey);
    let (a, b) = tokio::join!(node(&sim, &redis, &TWO), node(&sim, &redis, &TWO));
    use_key(&a, &sim, "a").await;
    until_key(&b, "a", "disabled").await;
    let later = node(&sim, &redis, &TWO).await;
    until_key(&later, "a", "disabled").await;
    sim.reset();
    b.signal(libc::SIGHUP);
    for gateway in [&b, &a, &later] {
        until_key(gateway, "a", "idle").await;
    }
}

#[tokio::test]
async fn the_requests_a_minute_of_a_key_are_those_of_all_nodes() {
    let (sim, redis) = (sim(), RedisServer::start().await);
    let keys = [("a", "rpm = 6")];
    let (a, b) = tokio::join!(node(&sim, &redis, &keys), node(&sim, &redis, &keys));
    for _ in 0..6 {
        ok(&a).await;
    }
    until_key(&b, "a", "cooldown").await;
    assert_eq!(key_report(&b, "a").await["why"], "own_limit");
    assert_eq!(b.chat(&hello()).await.status, 429);
    // So does one that comes later.
    let later = node(&sim, &redis, &keys).await;
    until_key(&later, "a", "cooldown").await;
    assert_eq!(uses(&sim, "a"), 6);
}
