//! Several gateways over one Redis: limits that hold together, and what becomes of them when a gateway, Redis or the cable between them
//! breaks.

use crate::gateway::{Builder, Gateway, KEY, PATIENCE, binary, saying};
use crate::redis_server::{Cable, RedisServer};
use futures::future::join_all;
use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Sim, SimDialect, SimFault};
use serde_json::Value;
use std::time::{Duration, Instant};

fn sim() -> Sim {
    Sim::start(SimDialect::OpenAi).unwrap()
}

/// Patient with Redis, because many tests run at once.
const PATIENT: &str = "redis_timeout = '10s'";

fn node(sim: &Sim, redis: &str, store: &str, rule: &str) -> Builder {
    let config = format!("[store]\n{store}\n{rule}");
    Gateway::builder().provider("one", sim).config(&config).variable("REDIS_URL", redis)
}

fn rule(limits: &str) -> String {
    format!("[[limits.rule]]\nscope = 'key'\n{limits}\n")
}

async fn ask(gateway: &Gateway) -> Answer {
    gateway.chat(&saying("one/sim-ok", "hello", false)).await
}

/// How many of so many requests pass that are sent at once, in turn to each of the gateways.
async fn passed(gateways: &[&Gateway], requests: usize) -> usize {
    let answers = join_all((0..requests).map(|n| ask(gateways[n % gateways.len()]))).await;
    for answer in &answers {
        assert!(matches!(answer.status, 200 | 429), "{}", answer.body_text());
    }
    answers.iter().filter(|answer| answer.status == 200).count()
}

/// The value of a line of `/metrics`.
async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let metrics = gateway.metrics().await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} is not in\n{metrics}")).parse().unwrap()
}

async fn until_metric(gateway: &Gateway, name: &str, value: u64) {
    let started = Instant::now();
    while metric(gateway, name).await != value {
        assert!(started.elapsed() < PATIENCE, "{name} is not {value}\n{}", gateway.output());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const UP: &str = "orbyt_store_up{store=\"redis\"}";
const NODES: &str = "orbyt_store_nodes{store=\"redis\"}";
const ANSWERED: &str = "orbyt_store_calls_total{result=\"answered\",store=\"redis\"}";

#[tokio::test]
async fn a_limit_holds_over_all_nodes_together() {
    let (sim, redis) = (sim(), RedisServer::start().await);
    let rule = rule("requests_per_day = 150");
    let start = || node(&sim, &redis.url(), PATIENT, &rule).start();
    let (a, b) = tokio::join!(start(), start());
    assert_eq!(passed(&[&a, &b], 400).await, 150);
    assert_eq!(sim.generations(), 150);
    // One question for each request, whether it passed or not.
    assert_eq!(metric(&a, ANSWERED).await + metric(&b, ANSWERED).await, 400);
}

#[tokio::test]
async fn tokens_are_reserved_and_settled_over_all_nodes() {
    let (sim, redis) = (sim(), RedisServer::start().await);
    let rule = rule("tokens_per_day = 100000\nconcurrency = 1");
    let start = || node(&sim, &redis.url(), PATIENT, &rule).start();
    let (a, b) = tokio::join!(start(), start());
    let first = ask(&a).await;
    assert_eq!(first.status, 200, "{}", first.body_text());
    let used = first.json()["usage"]["total_tokens"].as_u64().unwrap();
    // It is settled behind the answer's back, and until then holds its place.
    let started = Instant::now();
    let second = loop {
        let answer = ask(&b).await;
        if answer.status == 200 {
            break answer;
        }
        assert!(started.elapsed() < PATIENCE, "{}", answer.body_text());
    };
    let left = |answer: &Answer| answer.header("x-ratelimit-remaining-tokens").parse::<u64>().unwrap();
    // Some flow in again, but far fewer than are reserved for an answer.
    let expected = left(&first) + (100_000 - left(&first)) - used - (100_000 - left(&first));
    assert!(left(&second).abs_diff(expected) <= 20, "{} after {}, used {used}", left(&second), left(&first));
}

#[tokio::test]
async fn a_gateway_that_is_killed_gives_back_what_it_had_reserved() {
    let (sim, redis) = (sim(), RedisServer::start().await);
    let rule = rule("tokens_per_day = 100000\nconcurrency = 1");
    let start = || node(&sim, &redis.url(), "redis_timeout = '10s'\nnode_ttl = '3s'", &rule).start();
    let (a, b) = tokio::join!(start(), start());
    sim.script([SimFault::Stall]);
    let url = format!("{}/v1/chat/completions", a.url);
    let hanging = tokio::spawn(async move {
        let body = saying("one/sim-ok", "hello", false).to_string();
        let key = format!("Bearer {KEY}");
        client::send("POST", &url, &[("authorization", &key)], body.as_bytes()).await.is_err()
    });
    a.until("the request at the provider", || sim.generations() > 0).await;
    let refused = ask(&b).await;
    assert_eq!(refused.status, 429, "{}", refused.body_text());
    a.signal(libc::SIGKILL);
    assert!(hanging.await.unwrap(), "the request was answered by a gateway that is dead");
    let started = Instant::now();
    let answer = loop {
        let answer = ask(&b).await;
        if answer.status == 200 {
            break answer;
        }
        assert!(started.elapsed() < PATIENCE, "its place is still taken: {}", answer.body_text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // Its tokens have come back too: what is missing is what this request has reserved.
    let missing = 100_000 - answer.header("x-ratelimit-remaining-tokens").parse::<u64>().unwrap();
    assert!((1000..1200).contains(&missing), "{missing}");
    until_metric(&b, NODES, 1).await;
}

#[tokio::test]
async fn a_gateway_that_ends_leaves_its_share_at_once() {
    let (sim, redis) = (sim(), RedisServer::start().await);
    let rule = rule("requests_per_day = 10");
    let start = || node(&sim, &redis.url(), "redis_timeout = '10s'\nnode_ttl = '60s'", &rule).start();
    let (mut a, b) = tokio::join!(start(), start());
    let nodes = async || redis.ask("ZCARD {orbyt}:nodes").await;
    assert_eq!(nodes().await, ":2");
    assert_eq!(ask(&b).await.status, 200);
    a.signal(libc::SIGTERM);
    assert!(a.ended(PATIENCE).await.is_some());
    assert_eq!(nodes().await, ":1");
}

#[tokio::test]
async fn without_redis_each_node_goes_on_with_its_share_until_it_is_back() {
    let (sim, mut redis) = (sim(), RedisServer::start().await);
    let rule = rule("requests_per_day = 20");
    let start = || node(&sim, &redis.url(), "redis_timeout = '5s'\nnode_ttl = '4s'", &rule).start();
    let (a, b) = tokio::join!(start(), start());
    for gateway in [&a, &b] {
        until_metric(gateway, NODES, 2).await;
    }
    // These count for the share of the node that served them.
    assert_eq!(passed(&[&a], 4).await, 4);
    redis.kill();
    for gateway in [&a, &b] {
        gateway.printed("\"store\":\"redis\",\"status\":\"unhealthy\"").await;
        assert_eq!(metric(gateway, UP).await, 0);
    }
    assert_eq!(passed(&[&a], 30).await, 10 - 4);
    assert_eq!(passed(&[&b], 30).await, 10);
    let refused = ask(&b).await;
    assert_eq!(refused.header("x-ratelimit-limit-requests"), "10", "its share");
    redis.start_again().await;
    for gateway in [&a, &b] {
        gateway.printed("\"store\":\"redis\",\"status\":\"recovered\"").await;
        until_metric(gateway, UP, 1).await;
    }
    // The new Redis knows of nothing.
    assert_eq!(passed(&[&a, &b], 60).await, 20);
    assert_eq!(a.output().matches("\"status\":\"unhealthy\"").count(), 1, "{}", a.output());
}

#[tokio::test]
async fn a_gateway_may_refuse_what_it_cannot_count() {
    let (sim, mut redis) = (sim(), RedisServer::start().await);
    let limited = rule("requests_per_day = 20\nmatch = 'gat*'");
    let config = format!("[limits]\non_outage = 'deny'\n{limited}");
    let keys = format!("{KEY},another-key-without-limits");
    let gateway =
        node(&sim, &redis.url(), "redis_timeout = '5s'", &config).variable("ORBYT_API_KEYS", &keys).start().await;
    assert_eq!(ask(&gateway).await.status, 200);
    redis.kill();
    gateway.printed("\"status\":\"unhealthy\"").await;
    let refused = ask(&gateway).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["error"]["code"], "limits_unavailable");
    assert_eq!(refused.header("retry-after"), "1");
    // Who has no limits is not concerned.
    let url = format!("{}/v1/chat/completions", gateway.url);
    let body = saying("one/sim-ok", "hello", false).to_string();
    let other = client::send("POST", &url, &[("x-api-key", "another-key-without-limits")], body.as_bytes()).await;
    assert_eq!(other.unwrap().status, 200);
    redis.start_again().await;
    until_metric(&gateway, UP, 1).await;
    assert_eq!(ask(&gateway).await.status, 200);
}

#[tokio::test]
async fn a_redis_that_is_silent_delays_one_moment_and_not_every_request() {
    const WAIT: Duration = Duration::from_secs(1);
    let (sim, redis) = (sim(), RedisServer::start().await);
    let cable = Cable::to(redis.port).await;
    let url = format!("redis://{}", cable.address);
    let gateway =
        node(&sim, &url, "redis_timeout = '1s'\nnode_ttl = '60s'", &rule("requests_per_day = 1000")).start().await;
    assert_eq!(ask(&gateway).await.status, 200);
    cable.cut();
    let begun = Instant::now();
    let answers = join_all((0..20).map(|_| ask(&gateway))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    // All waited at the same time, and none for longer.
    assert!(begun.elapsed() >= WAIT && begun.elapsed() < 3 * WAIT, "{:?}", begun.elapsed());
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(ask(&gateway).await.status, 200);
    }
    assert!(begun.elapsed() < 3 * WAIT, "each waits again: {:?}", begun.elapsed());
    gateway.printed("\"status\":\"unhealthy\"").await;
    cable.mend();
    gateway.printed("\"status\":\"recovered\"").await;
    let before = metric(&gateway, ANSWERED).await;
    assert_eq!(ask(&gateway).await.status, 200);
    assert_eq!(metric(&gateway, ANSWERED).await, before + 1);
}

#[tokio::test]
async fn a_gateway_starts_without_redis_and_finds_it_later() {
    let (sim, mut redis) = (sim(), RedisServer::start().await);
    redis.kill();
    let gateway = node(&sim, &redis.url(), PATIENT, &rule("requests_per_day = 3")).start().await;
    gateway.printed("\"status\":\"unhealthy\"").await;
    assert_eq!(passed(&[&gateway], 5).await, 3);
    redis.start_again().await;
    gateway.printed("\"status\":\"recovered\"").await;
    until_metric(&gateway, UP, 1).await;
    assert_eq!(passed(&[&gateway], 5).await, 3);
}

#[tokio::test]
async fn redis_is_not_asked_where_nothing_is_shared() {
    let (sim, redis) = (sim(), RedisServer::start().await);
    let rule = "[[limits.rule]]\nscope = 'key'\nmatch = 'nobody'\nconcurrency = 1\n";
    let gateway = node(&sim, &redis.url(), PATIENT, rule).start().await;
    for _ in 0..5 {
        assert_eq!(ask(&gateway).await.status, 200);
    }
    assert_eq!(metric(&gateway, ANSWERED).await, 0);
}

#[tokio::test]
async fn scripts_that_redis_has_forgotten_are_told_it_again() {
    let (sim, redis) = (sim(), RedisServer::start().await);
    let gateway = node(&sim, &redis.url(), PATIENT, &rule("requests_per_day = 5")).start().await;
    assert_eq!(passed(&[&gateway], 2).await, 2);
    assert_eq!(redis.ask("SCRIPT FLUSH").await, "+OK");
    assert_eq!(passed(&[&gateway], 9).await, 3);
    assert_eq!(metric(&gateway, UP).await, 1);
}

#[tokio::test]
async fn passwords_and_certificates_are_used_and_not_shown() {
    const PASSWORD: &str = "canary-password-of-redis";
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let server = RedisServer::with(|folder, port| {
        let (certificate, key) = (folder.join("redis.pem"), folder.join("redis.key"));
        std::fs::write(&certificate, certified.cert.pem()).unwrap();
        std::fs::write(&key, certified.key_pair.serialize_pem()).unwrap();
        let path = |path: &std::path::Path| path.display().to_string();
        ["--port", "0", "--tls-port", &port.to_string(), "--tls-auth-clients", "no", "--requirepass", PASSWORD]
            .map(str::to_owned)
            .into_iter()
            .chain(["--tls-cert-file".into(), path(&certificate), "--tls-key-file".into(), path(&key)])
            .chain(["--tls-ca-cert-file".into(), path(&certificate)])
            .collect()
    })
    .await;
    let sim = sim();
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), certified.cert.pem()).unwrap();
    let store = format!("{PATIENT}\nredis_ca_file = '{}'", ca.path().display());
    let url = |password: &str| format!("rediss://:{password}@127.0.0.1:{}", server.port);
    let rule = rule("requests_per_day = 2");
    let gateway = node(&sim, &url(PASSWORD), &store, &rule).start().await;
    assert_eq!(metric(&gateway, UP).await, 1, "{}", gateway.output());
    assert_eq!(passed(&[&gateway], 5).await, 2);
    assert!(!gateway.output().contains(PASSWORD));
    // With a wrong password, and without the certificate.
    for (password, store) in [("another-canary-password", store.as_str()), (PASSWORD, PATIENT)] {
        let gateway = node(&sim, &url(password), store, &rule).start().await;
        gateway.printed("\"status\":\"unhealthy\"").await;
        assert_eq!(metric(&gateway, UP).await, 0);
        assert!(!gateway.output().contains("canary"), "{}", gateway.output());
    }
}

#[tokio::test]
async fn check_says_whether_redis_answers() {
    let mut redis = RedisServer::start().await;
    let check = |url: String| {
        let mut command = std::process::Command::new(binary());
        command.args(["check", "--live"]).env_clear().env("HOME", "/nonexistent").env("REDIS_URL", url);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (well, text) = check(redis.url());
    assert!(well && text.contains("live: redis: ok"), "{text}");
    assert_eq!(redis.ask("ACL SETUSER default -publish").await, "+OK");
    let (well, text) = check(redis.url());
    assert!(!well && text.contains("live: redis: NoPerm"), "{text}");
    redis.kill();
    let (well, text) = check(redis.url());
    assert!(!well && text.contains("live: redis: ") && !text.contains("redis: ok"), "{text}");
    let (well, text) = check("http://:canary@h".to_owned());
    assert!(!well && text.contains("REDIS_URL: must begin with redis:// or rediss://"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}

/// The log lines of changes are of one form.
#[tokio::test]
async fn an_outage_is_told_in_the_log_with_its_reason() {
    let (sim, mut redis) = (sim(), RedisServer::start().await);
    let gateway = node(&sim, &redis.url(), PATIENT, "").start().await;
    redis.kill();
    gateway.printed("unhealthy").await;
    let line: Value = gateway.log().into_iter().find(|line| line["status"] == "unhealthy").unwrap();
    assert_eq!((&line["event"], &line["store"], &line["level"]), (&"store".into(), &"redis".into(), &"warn".into()));
    assert!(!line["why"].as_str().unwrap().is_empty());
}

/// That the others cannot be told is no reason not to count.
#[tokio::test]
async fn an_error_that_redis_answers_with_is_told_once_and_stops_nothing() {
    let (sim, redis) = (sim(), RedisServer::start().await);
    assert_eq!(redis.ask("ACL SETUSER default -publish").await, "+OK");
    let provider = format!(
        "[[provider]]\nid = 'two'\ndialect = 'openai_chat'\nbase_url = '{}'\n\
         [[provider.key]]\nname = 'a'\nsecret = 's'\nrpm = 1000\n",
        sim.base_url()
    );
    let config = format!("{}{provider}", rule("requests_per_day = 20"));
    let gateway = node(&sim, &redis.url(), PATIENT, &config).start().await;
    let mut passed = 0;
    for _ in 0..30 {
        passed += usize::from(gateway.chat(&saying("two/sim-ok", "hello", false)).await.status == 200);
    }
    assert_eq!(passed, 20);
    assert_eq!(metric(&gateway, ANSWERED).await, 30, "{}", gateway.output());
    gateway.printed("can't run this command").await;
    assert_eq!(gateway.output().matches("can't run this command").count(), 1, "{}", gateway.output());
}
