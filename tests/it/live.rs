//! Live events of several nodes at each of them: over Redis, over Postgres alone, through outages of either, and for nobody who may not see them.

use crate::admin_api::Client;
use crate::cable::{Cable, Condition};
use crate::gateway::{ADMIN_TOKEN, Builder, Gateway, KEY, PATIENCE, saying};
use crate::postgres::Database;
use crate::redis_server::RedisServer;
use orbyt::sim::client::{self, Answer, Exchange};
use orbyt::sim::{Sim, SimDialect, SimFault};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn sim() -> Sim {
    Sim::start(SimDialect::OpenAi).unwrap()
}

fn node(sim: &Sim, name: &str) -> Builder {
    Gateway::builder().provider("one", sim).variable("ORBYT_NODE_NAME", name)
}

/// Somebody who watches.
struct Watching {
    exchange: Exchange,
    text: String,
}

impl Watching {
    async fn at(gateway: &Gateway, path: &str, header: (&str, &str)) -> Self {
        let url = format!("{}{path}", gateway.console_url);
        let exchange = client::open("GET", &url, &[header], b"").await.unwrap();
        assert_eq!(exchange.status, 200);
        let mut watching = Self { exchange, text: String::new() };
        watching.until("the greeting", |text| text.contains("retry: ")).await;
        watching
    }

    async fn all(gateway: &Gateway) -> Self {
        Self::at(gateway, "/api/v1/live", ("authorization", &format!("Bearer {ADMIN_TOKEN}"))).await
    }

    /// Reads until this holds of all that was said.
    async fn until(&mut self, what: &str, holds: impl Fn(&str) -> bool) {
        let started = Instant::now();
        while !holds(&self.text) {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let piece = tokio::time::timeout(left, self.exchange.piece()).await;
            let piece = piece.unwrap_or_else(|_| panic!("waited in vain for {what}:\n{}", self.text));
            let piece = piece.unwrap_or_else(|| panic!("the stream has ended before {what}:\n{}", self.text));
            self.text += &String::from_utf8(piece).unwrap();
        }
    }

    /// Reads what comes within this time; says whether the stream goes on.
    async fn for_a_while(&mut self, time: Duration) -> bool {
        let end = tokio::time::Instant::now() + time;
        loop {
            match tokio::time::timeout_at(end, self.exchange.piece()).await {
                Ok(Some(piece)) => self.text += &String::from_utf8(piece).unwrap(),
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }

    /// The events of a request so far.
    fn events(&self, id: &str) -> Vec<Value> {
        let data = self.text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter_map(|data| serde_json::from_str::<Value>(data).ok()).filter(|event| event["id"] == id).collect()
    }

    /// The states of a request, as soon as it has ended here.
    async fn whole(&mut self, id: &str) -> Vec<Value> {
        let ends = |text: &str| {
            let of_it = text.lines().filter(|line| line.contains(id));
            of_it.into_iter().any(|line| line.contains(r#""state":"success""#) || line.contains(r#""state":"error""#))
        };
        self.until(&format!("the end of {id}"), ends).await;
        self.events(id)
    }

    /// Has requests sent until one of them is seen here, and returns its id. Somebody who has just begun to watch, or whose store has just come
    /// back, sees what happens elsewhere a moment later.
    async fn sees_one_of(&mut self, other: &Gateway) -> String {
        let started = Instant::now();
        loop {
            let answer = ask(other, "one/sim-ok").await;
            let id = answer.header("x-request-id").to_owned();
            self.for_a_while(Duration::from_millis(300)).await;
            if !self.events(&id).is_empty() {
                return id;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "nothing of the other node is seen\n{}\n{}",
                self.text,
                other.output()
            );
        }
    }
}

async fn ask(gateway: &Gateway, model: &str) -> Answer {
    gateway.chat(&saying(model, "hello", true)).await
}

fn states(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["state"].as_str().unwrap()).collect()
}

/// A page of the console, as the administrator sees it.
async fn page(gateway: &Gateway, path: &str) -> Answer {
    gateway.get_console(path).await.unwrap()
}

/// Where a request's page is at the console of a node, as a page of another one shows it.
fn there(gateway: &Gateway, id: &str) -> String {
    format!("<code>{}/requests/{id}</code>", gateway.console_url)
}

/// The value of a line of `/metrics`; 0 where there is none.
async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let metrics = gateway.metrics().await;
    metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .map_or(0, |value| value.parse().unwrap())
}

const TOLD: &str = "orbyt_live_events_total{result=\"told\"}";

/// What holds over either store: each node shows the other's requests, from their beginning to their end and with their node's name.
async fn each_shows_the_others(a: &Gateway, b: &Gateway) {
    assert_eq!(ask(b, "one/sim-ok").await.status, 200);
    assert_eq!(metric(b, TOLD).await, 0, "nobody watches, so nothing is told");
    let (mut at_a, mut at_b) = (Watching::all(a).await, Watching::all(b).await);
    at_a.sees_one_of(b).await;
    at_b.sees_one_of(a).await;

    let answer = ask(b, "one/sim-503").await;
    let id = answer.header("x-request-id");
    let seen = at_a.whole(id).await;
    assert_eq!((states(&seen)[0], *states(&seen).last().unwrap()), ("pending", "error"));
    assert!(states(&seen).contains(&"attempt") && seen.iter().all(|event| event["node"] == "node-b"), "{seen:?}");
    let own = at_b.whole(id).await;
    assert_eq!(states(&own), states(&seen));
    assert!(own.iter().all(|event| event.get("node").is_none()), "on its own node it is marked with none: {own:?}");
    // Nobody hears his own words from the others.
    at_b.for_a_while(Duration::from_millis(300)).await;
    assert_eq!(at_b.events(id).len(), own.len());
    assert!(metric(b, TOLD).await >= seen.len() as u64);
    assert!(metric(a, "orbyt_live_events_total{result=\"heard\"}").await >= seen.len() as u64);
}

#[tokio::test]
async fn over_redis_each_node_shows_the_requests_of_the_others() {
    let (sim, redis) = (sim(), RedisServer::start().await);
    let start = |name| node(&sim, name).variable("REDIS_URL", &redis.url()).start();
    let (a, b) = tokio::join!(start("node-a"), start("node-b"));
    each_shows_the_others(&a, &b).await;

    // A request that still runs: its page says where it is. The databases are the nodes' own, so the rest stays there.
    let mut at_a = Watching::all(&a).await;
    sim.script([SimFault::Stall]);
    let url = format!("{}/v1/chat/completions", b.url);
    let hangs = tokio::spawn(async move {
        let body = saying("one/gpt-4o-mini", "hello", true).to_string();
        let _ = client::send("POST", &url, &[("x-api-key", KEY)], body.as_bytes()).await;
    });
    let is_attempt = |line: &&str| line.contains(r#""state":"attempt""#) && line.contains("gpt-4o-mini");
    at_a.until("the attempt", |text| text.lines().any(|line| is_attempt(&line))).await;
    let line = at_a.text.lines().rfind(is_attempt).unwrap();
    let id = serde_json::from_str::<Value>(&line["data: ".len()..]).unwrap()["id"].as_str().unwrap().to_owned();
    let shown = page(&a, &format!("/requests/{id}")).await;
    let text = shown.body_text();
    assert!(shown.status == 200 && text.contains("under way") && text.contains("<strong>node-b</strong>"), "{text}");
    hangs.abort();
    at_a.whole(&id).await;
    let text = page(&a, &format!("/requests/{id}")).await.body_text();
    assert!(text.contains("It was on node <strong>node-b</strong>") && text.contains(&there(&b, &id)), "{text}");
    assert!(page(&a, "/devtools").await.body_text().contains("data-node=\"node-a\""));
}

#[tokio::test]
async fn live_events_come_again_when_redis_does() {
    let (sim, mut redis) = (sim(), RedisServer::start().await);
    let start = |name| node(&sim, name).variable("REDIS_URL", &redis.url()).start();
    let (a, b) = tokio::join!(start("node-a"), start("node-b"));
    let mut at_a = Watching::all(&a).await;
    at_a.sees_one_of(&b).await;
    redis.kill();
    for gateway in [&a, &b] {
        gateway.printed("\"store\":\"redis\",\"status\":\"unhealthy\"").await;
    }
    // Both go on, and what happens here is shown all the same.
    let lost = ask(&b, "one/sim-ok").await;
    assert_eq!(lost.status, 200);
    let own = ask(&a, "one/sim-ok").await;
    at_a.whole(own.header("x-request-id")).await;
    redis.start_again().await;
    at_a.sees_one_of(&b).await;
    assert!(at_a.events(lost.header("x-request-id")).is_empty());
}

#[tokio::test]
async fn over_postgres_alone_each_node_shows_the_requests_of_the_others_and_the_ledger_has_the_rest() {
    let (sim, database) = (sim(), Database::create().await);
    let cable = Cable::to(database.address(), Condition::Whole).await;
    let start = |name, url: String| node(&sim, name).variable("DATABASE_URL", &url).start();
    let a = start("node-a", database.url()).await;
    let b = start("node-b", database.url_by(&cable.address())).await;
    each_shows_the_others(&a, &b).await;

    let mut at_a = Watching::all(&a).await;
    let id = at_a.sees_one_of(&b).await;
    let started = Instant::now();
    let text = loop {
        let text = page(&a, &format!("/requests/{id}")).await.body_text();
        if text.contains("Timeline") {
            break text;
        }
        assert!(started.elapsed() < PATIENCE, "the ledger does not get it\n{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(text.contains("<dt>Node</dt><dd>node-b</dd>"), "{text}");
    // What it carried is in the memory of the other node, and the page says how to get there.
    assert!(text.contains("Node <strong>node-b</strong> alone has what this request carried"), "{text}");
    assert!(text.contains(&there(&b, &id)) && !text.contains("From the client"), "{text}");
    assert!(page(&b, &format!("/requests/{id}")).await.body_text().contains("From the client"));
    let told = page(&a, &format!("/api/v1/requests/{id}/payloads")).await;
    let address = b.console_url.trim_start_matches("http://");
    assert!(told.status == 404 && told.body_text().contains("node node-b alone has it"), "{}", told.body_text());
    assert!(told.body_text().contains(address), "{}", told.body_text());
    assert_eq!(page(&b, &format!("/api/v1/requests/{id}/payloads")).await.status, 200);

    cable.set(Condition::Cut);
    b.printed("\"store\":\"database\",\"status\":\"unhealthy\"").await;
    cable.set(Condition::Whole);
    b.printed("\"store\":\"database\",\"status\":\"recovered\"").await;
    at_a.sees_one_of(&b).await;
}

#[tokio::test]
async fn what_requests_of_another_node_carried_comes_from_the_database() {
    let (sim, database) = (sim(), Database::create().await);
    let keeps = "[telemetry]\npayloads = 'all'\n";
    let start = |name| node(&sim, name).config(keeps).variable("DATABASE_URL", &database.url()).start();
    let (a, b) = tokio::join!(start("node-a"), start("node-b"));
    let asked = b.chat(&saying("one/sim-ok", "a question of its own", false)).await;
    let path = format!("/requests/{}", asked.header("x-request-id"));
    let started = Instant::now();
    loop {
        let shown = page(&a, &path).await;
        if shown.status == 200 && shown.body_text().contains("a question of its own") {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{}", shown.body_text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_member_sees_their_organisations_requests_of_all_nodes_for_as_long_as_they_are_one() {
    let (sim, redis, database) = (sim(), RedisServer::start().await, Database::create().await);
    let start = |name| {
        let both = node(&sim, name).variable("REDIS_URL", &redis.url());
        both.variable("DATABASE_URL", &database.url()).start()
    };
    let a = start("node-a").await;
    let b = start("node-b").await;
    let admin = Client::administrator(&a);
    let made = admin.post("/orgs", &json!({"name": "acme"})).await.json();
    let org = made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let joined =
        admin.post(&format!("/orgs/{org}/members"), &json!({"email": "kim@example.com", "role": "viewer"})).await;
    let joined = joined.json();
    let password = joined["password"].as_str().unwrap_or_else(|| panic!("{joined}"));
    let key = admin.post("/keys", &json!({"name": "theirs", "org": org})).await.json();
    let key = format!("Bearer {}", key["key"].as_str().unwrap_or_else(|| panic!("{key}")));

    let login = json!({"email": "kim@example.com", "password": password}).to_string();
    let url = format!("{}/api/v1/session", a.console_url);
    let begun = client::send("POST", &url, &[("content-type", "application/json")], login.as_bytes()).await.unwrap();
    assert_eq!(begun.status, 201, "{}", begun.body_text());
    let cookie = begun.header("set-cookie").split(';').next().unwrap().to_owned();
    let mut kim = Watching::at(&a, "/devtools/events", ("cookie", &cookie)).await;
    let mut all = Watching::all(&a).await;
    all.sees_one_of(&b).await;

    let started = Instant::now();
    let own = loop {
        let body = saying("one/sim-ok", "hello", false);
        let answer = b.ask("/v1/chat/completions", &[("authorization", &key)], &body).await;
        if answer.status == 200 {
            break answer.header("x-request-id").to_owned();
        }
        assert!(started.elapsed() < PATIENCE, "{}", answer.body_text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let foreign = ask(&b, "one/sim-ok").await.header("x-request-id").to_owned();
    let seen = kim.whole(&own).await;
    assert!(seen.iter().all(|event| event["node"] == "node-b" && event["org"] == org.as_str()), "{seen:?}");
    all.whole(&foreign).await;
    kim.for_a_while(Duration::from_millis(300)).await;
    assert!(kim.events(&foreign).is_empty() && !kim.text.contains("org_default"), "{}", kim.text);
    let by_kim = async |id: &str| {
        let url = format!("{}/requests/{id}", a.console_url);
        client::send("GET", &url, &[("cookie", &cookie)], b"").await.unwrap().status
    };
    assert_eq!((by_kim(&own).await, by_kim(&foreign).await), (200, 404));

    // Removed by way of the other node: noticed by itself, within seconds.
    let members = admin.get(&format!("/orgs/{org}/members")).await.json();
    let person = members["data"][0]["id"].as_str().or(members["data"][0]["person"].as_str());
    let person = person.unwrap_or_else(|| panic!("{members}"));
    let gone = Client::administrator(&b).delete(&format!("/orgs/{org}/members/{person}")).await;
    assert!(gone.status < 300, "{}", gone.body_text());
    kim.until("the end", |text| text.contains("event: over")).await;
    assert!(!kim.for_a_while(PATIENCE).await, "the stream ends");
    assert!(all.for_a_while(Duration::from_millis(10)).await, "others watch on");
}
