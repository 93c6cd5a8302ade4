//! The index of the semantic cache over Redis: what one gateway has been answered, the others give to the same question in other words.

use crate::admin_api::Client;
use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use crate::redis_server::{Cable, RedisServer};
use bytes::Bytes;
use orbyt::domain::Secret;
use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Sim, SimDialect};
use orbyt::store::ports::answers::{Answers, StoredAnswer};
use orbyt::store::ports::vectors::{Place, Vector, Vectors};
use orbyt::store::redis::{Redis, Settings};
use std::sync::Arc;
use std::time::{Duration, Instant};

const OTHER_KEY: &str = "other-key-of-the-tests";

const EGG: &str = "How do I boil an egg?";
const EGG_TOO: &str = "how can I boil an egg";
const EGG_AGAIN: &str = "How could I boil an egg";
const PAINTER: &str = "Who painted the Mona Lisa?";
const PAINTER_TOO: &str = "who painted the Mona Lisa then";

const HELD: &str = "orbyt_cache_semantic_entries";
const UP: &str = "orbyt_store_up{store=\"redis\"}";
const UNREAD: &str = "orbyt_store_unread_total{store=\"redis\"}";

/// Providers of answers and of embeddings, and a Redis.
struct World {
    answers: Sim,
    vectors: Sim,
    redis: RedisServer,
}

impl World {
    async fn new() -> Self {
        let sim = || Sim::start(SimDialect::OpenAi).unwrap();
        Self { answers: sim(), vectors: sim(), redis: RedisServer::start().await }
    }

    /// A gateway that compares every question, with a threshold that suits the toy embedding.
    async fn node(&self, more: &str) -> Gateway {
        let store = "redis_timeout = '10s'";
        self.node_at(&self.redis.url(), store, more).await
    }

    async fn node_at(&self, url: &str, store: &str, more: &str) -> Gateway {
        let config = format!(
            "[cache]\nbackend = 'redis'\n[cache.semantic]\nmodel = 'vectors/embed-1'\nenabled = true\nthreshold = 0.7\n\
             timeout = '10s'\n{more}\n[store]\n{store}\n"
        );
        let builder = Gateway::builder().provider("one", &self.answers).provider("vectors", &self.vectors);
        let keys = format!("{KEY},{OTHER_KEY}");
        builder.config(&config).variable("REDIS_URL", url).variable("ORBYT_API_KEYS", &keys).start().await
    }
}

async fn ask(gateway: &Gateway, key: &str, text: &str) -> Answer {
    let (url, body) = (format!("{}/v1/chat/completions", gateway.url), saying("one/m", text, false).to_string());
    let answer = client::send("POST", &url, &[("x-api-key", key)], body.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    answer
}

/// What the cache did, and whether by other words.
async fn cached(gateway: &Gateway, key: &str, text: &str) -> (String, bool) {
    let answer = ask(gateway, key, text).await;
    (answer.header("x-cache").to_owned(), !answer.header("x-cache-similarity").is_empty())
}

fn miss() -> (String, bool) {
    ("MISS".to_owned(), false)
}

fn near() -> (String, bool) {
    ("HIT".to_owned(), true)
}

async fn metric(gateway: &Gateway, name: &str) -> Option<u64> {
    let metrics = gateway.metrics().await;
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

async fn until_metric(gateway: &Gateway, name: &str, value: u64) {
    let started = Instant::now();
    while metric(gateway, name).await != Some(value) {
        assert!(started.elapsed() < PATIENCE, "{name} is not {value}\n{}", gateway.metrics().await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn other_words_get_the_answer_at_every_node_and_at_those_that_start_later() {
    let world = World::new().await;
    let (a, b) = tokio::join!(world.node(""), world.node(""));
    let first = ask(&a, KEY, EGG).await;
    assert_eq!(first.header("x-cache"), "MISS");
    until_metric(&b, HELD, 1).await;
    let second = ask(&b, KEY, EGG_TOO).await;
    assert_eq!((second.header("x-cache"), second.body_text()), ("HIT", first.body_text()));
    let similarity: f32 = second.header("x-cache-similarity").parse().unwrap();
    assert!((0.7..0.9999).contains(&similarity), "{similarity}");

    let c = world.node("").await;
    until_metric(&c, HELD, 1).await;
    assert_eq!(ask(&c, KEY, EGG_AGAIN).await.body_text(), first.body_text());
    assert_eq!(world.answers.generations(), 1);
}

#[tokio::test]
async fn tenants_do_not_get_each_others_answers() {
    let world = World::new().await;
    let (a, b) = tokio::join!(world.node(""), world.node(""));
    ask(&a, KEY, EGG).await;
    until_metric(&b, HELD, 1).await;
    assert_eq!(cached(&b, OTHER_KEY, EGG_TOO).await, miss());
    until_metric(&a, HELD, 2).await;
    assert_eq!(cached(&a, OTHER_KEY, EGG_AGAIN).await, near());
    assert_eq!(cached(&b, KEY, EGG_AGAIN).await, near());
    assert_eq!(world.answers.generations(), 2);
}

#[tokio::test]
async fn there_are_never_more_questions_than_may_be_and_none_outlives_its_answer() {
    let world = World::new().await;
    let (a, b) = tokio::join!(world.node("max_entries = 2"), world.node("max_entries = 2"));
    let newest = "EVAL \"local l = redis.call('XREVRANGE', '{orbyt}:questions', '+', '-')[1] return l and l[1]\" 0";
    for text in [EGG, PAINTER, "Where is Peru?", "When did Rome fall?"] {
        let (before, started) = (world.redis.ask(newest).await, Instant::now());
        assert_eq!(cached(&a, KEY, text).await, miss());
        while world.redis.ask(newest).await == before {
            assert!(started.elapsed() < PATIENCE, "{text} is not told");
        }
    }
    let c = world.node("max_entries = 2").await;
    until_metric(&c, HELD, 2).await;
    assert_eq!(cached(&c, KEY, "when did Rome fall then").await, near());
    assert_eq!(cached(&c, KEY, "where is Peru then").await, near());
    assert_eq!(world.redis.ask("XLEN {orbyt}:questions").await, ":2");
    for gateway in [&a, &b] {
        until_metric(gateway, HELD, 2).await;
    }
    let left: i64 = world.redis.ask("PTTL {orbyt}:questions").await.trim_start_matches(':').parse().unwrap();
    assert!((1..=300_000).contains(&left), "{left}");
}

#[tokio::test]
async fn the_index_resumes_when_redis_was_killed_and_is_back() {
    let mut world = World::new().await;
    let (a, b) = tokio::join!(world.node(""), world.node(""));
    ask(&a, KEY, EGG).await;
    until_metric(&b, HELD, 1).await;
    world.redis.kill();
    for gateway in [&a, &b] {
        gateway.printed("\"status\":\"unhealthy\"").await;
        assert_eq!(cached(gateway, KEY, EGG_TOO).await, miss());
        assert_eq!(cached(gateway, KEY, PAINTER).await, miss());
    }
    world.redis.start_again().await;
    for gateway in [&a, &b] {
        gateway.printed("\"status\":\"recovered\"").await;
        until_metric(gateway, UP, 1).await;
    }
    // Nothing is left in Redis, and what the nodes still know of has no answer.
    assert_eq!(cached(&b, KEY, EGG_TOO).await, miss());
    until_metric(&b, HELD, 1).await;
    ask(&a, KEY, PAINTER).await;
    until_metric(&b, HELD, 2).await;
    assert_eq!(cached(&b, KEY, PAINTER_TOO).await, near());
    // Both of now, and the one from before, which leads nowhere.
    until_metric(&a, HELD, 3).await;
    assert_eq!(cached(&a, KEY, EGG_AGAIN).await, near());
}

#[tokio::test]
async fn a_node_that_was_cut_off_catches_up() {
    let world = World::new().await;
    let cable = Cable::to(world.redis.port).await;
    let url = format!("redis://{}", cable.address);
    let (a, b) = tokio::join!(world.node(""), world.node_at(&url, "redis_timeout = '1s'\nnode_ttl = '2s'", ""));
    ask(&a, KEY, EGG).await;
    until_metric(&b, HELD, 1).await;
    cable.cut();
    b.printed("\"status\":\"unhealthy\"").await;
    assert_eq!(cached(&b, KEY, EGG_TOO).await, miss());
    ask(&a, KEY, PAINTER).await;
    cable.mend();
    b.printed("\"status\":\"recovered\"").await;
    until_metric(&b, UP, 1).await;
    until_metric(&b, HELD, 2).await;
    assert_eq!(cached(&b, KEY, PAINTER_TOO).await, near());
    assert_eq!(cached(&b, KEY, EGG_TOO).await, near());
}

#[tokio::test]
async fn what_stands_in_the_stream_and_is_no_question_is_skipped_and_counted() {
    let world = World::new().await;
    let a = world.node("").await;
    for entry in ["q spoilt", "q \"\\x01\\xff\\xff\"", "other text", "q one q two", "\"\\xff\" \"\""] {
        assert!(world.redis.ask(&format!("XADD {{orbyt}}:questions * {entry}")).await.contains('-'), "{entry}");
    }
    ask(&a, KEY, EGG).await;
    let b = world.node("").await;
    for gateway in [&a, &b] {
        until_metric(gateway, HELD, 1).await;
        until_metric(gateway, UNREAD, 5).await;
    }
    assert_eq!(cached(&b, KEY, EGG_TOO).await, near());
    // Whoever lost the connection reads all of it again, which changes nothing else.
    world.redis.ask("CLIENT KILL TYPE normal").await;
    for gateway in [&a, &b] {
        until_metric(gateway, UNREAD, 10).await;
        gateway.printed("\"status\":\"recovered\"").await;
        until_metric(gateway, UP, 1).await;
        until_metric(gateway, HELD, 1).await;
    }
    assert_eq!(cached(&b, KEY, EGG_AGAIN).await, near());
    // No stream at all: each node has what it had, and goes on by itself until there is one again.
    assert_eq!(world.redis.ask("SET {orbyt}:questions spoilt").await, "+OK");
    assert_eq!(cached(&a, KEY, PAINTER).await, miss());
    assert_eq!(cached(&a, KEY, PAINTER_TOO).await, near());
    assert_eq!(world.redis.ask("DEL {orbyt}:questions").await, ":1");
    ask(&a, KEY, "Where is Peru?").await;
    until_metric(&b, HELD, 2).await;
    assert_eq!(cached(&b, KEY, "where is Peru then").await, near());
}

#[tokio::test]
async fn who_empties_the_cache_at_one_node_empties_it_at_all() {
    let world = World::new().await;
    let (here, there) = (world.node("").await, world.node("").await);
    assert_eq!(cached(&here, KEY, EGG).await, miss());
    assert_eq!(cached(&here, KEY, PAINTER).await, miss());
    until_metric(&there, HELD, 2).await;
    assert_eq!(Client::administrator(&there).delete("/cache").await.status, 204);
    until_metric(&there, HELD, 0).await;
    until_metric(&here, HELD, 0).await;
    // What is kept from then on is heard of everywhere, and by who comes later.
    assert_eq!(cached(&here, KEY, EGG).await, miss());
    until_metric(&there, HELD, 1).await;
    assert_eq!(cached(&there, KEY, EGG_TOO).await, near());
    let later = world.node("").await;
    until_metric(&later, HELD, 1).await;
    assert_eq!(metric(&here, UNREAD).await, Some(0));
}

#[tokio::test]
async fn a_question_is_forgotten_when_its_answer_is_gone_and_not_when_it_was_late() {
    let server = RedisServer::start().await;
    let (timeout, node_ttl) = (Duration::from_secs(10), Duration::from_secs(60));
    let settings = Settings { url: Secret::new(server.url()), ca: None, timeout, node_ttl };
    let redis = Redis::start(settings, |event| panic!("{event:?}")).unwrap();
    let (answers, index) = (redis.answers(10, 1 << 20), redis.vectors(10));
    let (place, [gone, kept]) = (Place { owner: [1; 32], scope: [1; 32] }, [[1; 32], [2; 32]]);
    let direction = |values: [f32; 2]| Vector::of(values.to_vec()).unwrap();
    let answer = StoredAnswer {
        provider: "p".into(),
        model: "m".into(),
        dropped: Vec::new(),
        body: Bytes::from_static(b"a"),
        cuts: Vec::new(),
        stored_unix_ms: 0,
        ttl: Duration::from_secs(300),
    };
    answers.put(kept, Arc::new(answer)).await;
    index.put(place, direction([1.0, 0.0]), gone, u64::MAX, 0).await;
    index.put(place, direction([0.0, 1.0]), kept, u64::MAX, 0).await;
    // As the cache does when it gets no answer, whatever the reason.
    index.forget(&place, &gone).await;
    index.forget(&place, &kept).await;
    let started = Instant::now();
    while index.held() == 0 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // They are looked at one after the other, so the first is gone for good.
    assert_eq!(index.held(), 1);
    assert_eq!(index.nearest(&place, &direction([0.0, 1.0]), 0).await.unwrap().key, kept);

    // One that is asked for the first time, because a reload has turned comparing on, begins to read.
    let (late, started) = (redis.vectors(10), Instant::now());
    while late.nearest(&place, &direction([0.0, 1.0]), 0).await.map(|near| near.key) != Some(kept) {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
