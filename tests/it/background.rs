//! Responses in the background: booked at the most that they can cost, and then at what they did cost, once, whoever hears first how they ended.

use crate::api_keys::said;
use crate::budgets::{agreed, cost, error, run, spent};
use crate::gateway::{Gateway, KEY, PATIENCE};
use orbyt::domain::Money;
use orbyt::sim::client::{self, Answer, BodyEnd, Exchange};
use orbyt::sim::{Act, Sim, SimDialect, Step};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A tenth of a cent for each token. Of the last model nobody knows how long its answers may become.
const MODELS: &str = "[[provider.model]]\nid = 'sim-ok'\ninput = '1000'\noutput = '1000'\nmax_output = 100\n\
    [[provider.model]]\nid = 'sim-cut-after-tokens'\ninput = '1000'\noutput = '1000'\nmax_output = 100\n\
    [[provider.model]]\nid = 'sim-stall'\ninput = '1000'\noutput = '1000'\nmax_output = 100\n\
    [[provider.model]]\nid = 'sim-slow'\ninput = '1000'\noutput = '1000'\n";

struct Bench {
    sim: Sim,
    gateway: Gateway,
}

impl Bench {
    /// With a budget of so many dollars, for all together.
    async fn start(budget: &str, more: &str) -> Self {
        let sim = Sim::start(SimDialect::OpenAi).unwrap();
        let config = format!(
            "[retry]\nmax = 0\n{more}\n[[provider]]\nid = 'one'\ndialect = 'openai_chat'\nbase_url = '{}'\n\
             quirks = ['responses']\n[[provider.key]]\nsecret = 'key-in-clear'\n{MODELS}",
            sim.base_url()
        );
        let gateway = Gateway::builder().config(&config).start().await;
        run(&gateway, &["budgets", "set", budget, "--org", "default"]);
        Self { sim, gateway }
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let key = format!("Bearer {KEY}");
        let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let url = format!("{}/v1/responses{path}", self.gateway.url);
        let sent = tokio::time::timeout(PATIENCE, client::send(method, &url, &headers, &body)).await;
        sent.expect("an answer in time").unwrap_or_else(|error| panic!("{error}\n{}", self.gateway.output()))
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &Value::Null).await
    }

    /// Asks for a response in the background; its id.
    async fn begin(&self) -> String {
        let begun = self.send("POST", "", &asking("sim-ok", false)).await;
        assert_eq!((begun.status, &begun.json()["status"]), (200, &json!("queued")), "{}", begun.body_text());
        begun.json()["id"].as_str().unwrap().to_owned()
    }

    /// Asks for a stream, up to its first event, which has its id.
    async fn stream(&self, asking: &Value) -> (Exchange, String) {
        let key = format!("Bearer {KEY}");
        let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
        let (url, body) = (format!("{}/v1/responses", self.gateway.url), asking.to_string());
        let mut stream = client::open("POST", &url, &headers, body.as_bytes()).await.unwrap();
        let mut text = String::new();
        while !text.contains("response.created") {
            let piece = tokio::time::timeout(PATIENCE, stream.piece()).await.unwrap().expect("more of the stream");
            text.push_str(&String::from_utf8(piece).unwrap());
        }
        let id = text.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap();
        (stream, id.to_owned())
    }

    async fn spent(&self) -> Money {
        spent(&self.gateway, "org", "total").await
    }

    /// What accounts and ledger agree on.
    async fn agreed(&self) -> Money {
        agreed(&self.gateway, &self.gateway.data_dir(), None).await
    }

    /// The rows of the ledger that ask for answers, the oldest first, once they are as expected.
    async fn rows(&self, expected: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let started = Instant::now();
        loop {
            let all = said(&self.gateway.data_dir(), None, &["requests", "list", "--json", "--limit", "1000"], "");
            let rows = all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let mut rows: Vec<Value> = rows.filter(|row| row["route"] == "POST /v1/responses").collect();
            rows.reverse();
            if expected(&rows) {
                return rows;
            }
            assert!(started.elapsed() < PATIENCE, "{rows:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn asking(model: &str, stream: bool) -> Value {
    json!({"model": format!("one/{model}"), "input": "one two three four five six", "max_output_tokens": 50,
           "background": true, "stream": stream})
}

fn dollars(text: &str) -> Money {
    Money::from_dollars(text).unwrap()
}

#[tokio::test]
async fn an_answer_in_the_background_costs_the_most_that_it_can_until_its_end_is_seen() {
    let bench = Bench::start("5", "").await;
    let id = bench.begin().await;
    let bound = bench.agreed().await;
    assert!(bound > dollars("0.05"), "its input and fifty tokens: {bound}");
    let rows = bench.rows(|rows| rows.len() == 1).await;
    assert_eq!((&rows[0]["estimated"], &rows[0]["usage"]["completion_tokens"]), (&json!(true), &json!(50)));
    assert_eq!(bench.get(&format!("/{id}")).await.json()["status"], "queued");
    assert_eq!(bench.agreed().await, bound, "nothing is known yet");
    bench.sim.end_responses("completed");
    let path = format!("/{id}");
    let both = futures::future::join(bench.get(&path), bench.get(&path)).await;
    let usage = both.0.json()["usage"].clone();
    assert_eq!((both.0.status, &both.1.json()["usage"]), (200, &usage));
    let paid = cost(&usage);
    assert!(paid > Money::ZERO && paid < bound, "{paid}");
    assert_eq!(bench.spent().await, paid, "at once");
    assert_eq!(bench.agreed().await, paid);
    assert_eq!(bench.get(&path).await.status, 200);
    assert_eq!(bench.agreed().await, paid, "once");
    // It is the request's own row that knows it now.
    let rows = bench.rows(|rows| rows[0]["estimated"] != json!(true)).await;
    assert_eq!((rows.len(), &rows[0]["usage"]["total_tokens"]), (1, &usage["total_tokens"]));
    assert_eq!(rows[0]["cost_picos"], json!(i64::try_from(paid.picos()).unwrap()));
}

#[tokio::test]
async fn a_budget_is_kept_whatever_becomes_of_answers_in_the_background() {
    let bench = Bench::start("0.5", "").await;
    let mut ids = Vec::new();
    let refused = loop {
        let begun = bench.send("POST", "", &asking("sim-ok", false)).await;
        if begun.status != 200 {
            break begun;
        }
        ids.push(begun.json()["id"].as_str().unwrap().to_owned());
        assert!(bench.spent().await <= dollars("0.5"));
    };
    assert_eq!((error(&refused).0, error(&refused).1.as_str()), (402, "budget_exceeded"));
    assert!(ids.len() >= 2, "{ids:?}");
    bench.sim.end_responses("completed");
    let mut paid = Money::ZERO;
    for id in &ids {
        paid += cost(&bench.get(&format!("/{id}")).await.json()["usage"]);
    }
    assert_eq!(bench.agreed().await, paid);
    assert!(paid < dollars("0.5"));
    bench.begin().await;
}

#[tokio::test]
async fn what_was_cancelled_costs_what_was_seen_of_it_and_what_failed_costs_nothing() {
    let bench = Bench::start("5", "").await;
    let id = bench.begin().await;
    let bound = bench.agreed().await;
    bench.sim.end_responses("failed");
    let failed = bench.get(&format!("/{id}")).await.json();
    assert_eq!((&failed["status"], &failed["usage"]), (&json!("failed"), &Value::Null));
    assert_eq!(bench.agreed().await, Money::ZERO);
    let id = bench.begin().await;
    assert_eq!(bench.agreed().await, bound);
    let cancelled = bench.send("POST", &format!("/{id}/cancel"), &Value::Null).await.json();
    assert_eq!((&cancelled["status"], &cancelled["usage"]), (&json!("cancelled"), &Value::Null));
    let paid = bench.agreed().await;
    assert!(paid > Money::ZERO && paid < dollars("0.02"), "its input, estimated at four bytes a token: {paid}");
    assert_eq!(bench.get(&format!("/{id}")).await.json()["status"], "cancelled");
    assert_eq!(bench.agreed().await, paid);
    let rows = bench.rows(|rows| rows.len() == 2 && rows[1]["usage"]["completion_tokens"] == 0).await;
    assert_eq!((&rows[0]["usage"], &rows[1]["estimated"]), (&Value::Null, &json!(true)));
}

#[tokio::test]
async fn a_stream_that_is_taken_up_again_tells_what_it_used() {
    let bench = Bench::start("5", "").await;
    let cut = bench.send("POST", "", &asking("sim-cut-after-tokens", true)).await;
    assert!(cut.body_text().contains("response.failed"), "{}", cut.body_text());
    let id = cut.events()[0]["response"]["id"].as_str().unwrap().to_owned();
    let bound = bench.agreed().await;
    assert!(bound > dollars("0.05"), "it goes on at its provider: {bound}");
    let rest = bench.get(&format!("/{id}?stream=true&starting_after=5")).await;
    assert_eq!((rest.status, rest.end), (200, BodyEnd::Clean));
    let last = rest.events().last().unwrap().clone();
    assert_eq!(last["type"], "response.completed");
    let paid = cost(&last["response"]["usage"]);
    assert_eq!(bench.spent().await, paid);
    assert_eq!(bench.agreed().await, paid);
    // One that comes to its end at once has its bill at once, and is corrected by nobody.
    let whole = bench.send("POST", "", &asking("sim-ok", true)).await;
    let usage = whole.events().last().unwrap()["response"]["usage"].clone();
    assert_eq!(bench.agreed().await, paid + cost(&usage));
    let id = whole.events()[0]["response"]["id"].as_str().unwrap().to_owned();
    bench.sim.end_responses("failed");
    assert_eq!(bench.get(&format!("/{id}")).await.status, 200);
    assert_eq!(bench.agreed().await, paid + cost(&usage));
}

#[tokio::test]
async fn without_a_bound_a_budget_lets_none_go_on_in_the_background() {
    let bench = Bench::start("5", "").await;
    let mut body = asking("sim-slow", false);
    body.as_object_mut().unwrap().remove("max_output_tokens");
    let refused = bench.send("POST", "", &body).await;
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("max_output_tokens")));
    assert_eq!(bench.sim.generations(), 0);
    assert_eq!(bench.send("POST", "", &asking("sim-slow", false)).await.status, 200);
    body["background"] = json!(false);
    assert_eq!(bench.send("POST", "", &body).await.status, 200, "one that is waited for is as ever");
    body["background"] = json!("yes");
    assert_eq!(bench.send("POST", "", &body).await.json()["error"]["param"], "background");
}

#[tokio::test]
async fn a_key_of_the_clients_own_pays_for_what_goes_on() {
    let bench = Bench::start("5", "").await;
    let mut body = asking("sim-ok", false);
    body["extra"] = json!({"byok": "sk-own"});
    let begun = bench.send("POST", "", &body).await;
    assert_eq!((begun.status, &begun.json()["status"]), (200, &json!("queued")), "{}", begun.body_text());
    let rows = bench.rows(|rows| rows.len() == 1).await;
    assert_eq!((&rows[0]["cost_picos"], &rows[0]["byok"]), (&json!(0), &json!(true)));
    assert_eq!(bench.agreed().await, Money::ZERO);
}

#[tokio::test]
async fn who_keeps_an_answer_is_known_before_its_client_has_the_id() {
    let bench = Bench::start("5", "").await;
    let (stream, id) = bench.stream(&asking("sim-stall", true)).await;
    let cancelled = bench.send("POST", &format!("/{id}/cancel"), &Value::Null).await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")), "{id}");
    // Its end is known before the request is over: then that is what it costs.
    drop(stream);
    let rows = bench.rows(|rows| rows.len() == 1 && rows[0]["revision"] == 2).await;
    assert_eq!(rows[0]["ended"], "client_gone");
    let paid = bench.agreed().await;
    assert!(paid > Money::ZERO && paid < dollars("0.02"), "{paid}");
}

#[tokio::test]
async fn who_keeps_an_answer_is_known_also_when_a_clock_gives_its_id_away() {
    let bench = Bench::start("5", "[gate]\nmax_wait = '50ms'\n").await;
    let mut asking = asking("sim-stall", true);
    asking["background"] = json!(false);
    let (_stream, id) = bench.stream(&asking).await;
    // The simulated provider keeps no answer of this kind: that it is asked is what counts.
    bench.get(&format!("/{id}")).await;
    assert!(bench.sim.calls().iter().any(|call| call.path.ends_with(&id)), "{id}");
}

#[tokio::test]
async fn who_leaves_before_there_is_any_output_owes_what_goes_on() {
    let bench = Bench::start("5", "").await;
    let (stream, id) = bench.stream(&asking("sim-stall", true)).await;
    drop(stream);
    let rows = bench.rows(|rows| rows.len() == 1).await;
    assert_eq!((&rows[0]["ended"], &rows[0]["usage"]["completion_tokens"]), (&json!("client_gone"), &json!(50)));
    assert!(bench.agreed().await > dollars("0.05"));
    bench.sim.end_responses("completed");
    let told = bench.get(&format!("/{id}")).await;
    assert_eq!(bench.agreed().await, cost(&told.json()["usage"]));
}

#[tokio::test]
async fn a_bound_that_no_answer_comes_to_spoils_no_sum() {
    let bench = Bench::start("5", "[money]\nunknown_price = 'allow'\n").await;
    for (number, most) in [u64::MAX, 1 << 63, 50].into_iter().enumerate() {
        let mut body = asking("free", false);
        body["max_output_tokens"] = json!(most);
        assert_eq!(bench.send("POST", "", &body).await.json()["status"], "queued");
        let rows = bench.rows(|rows| rows.len() == number + 1).await;
        assert_eq!(rows[number]["usage"]["completion_tokens"], json!(most.min(1 << 32)));
    }
    assert!(bench.gateway.metrics().await.contains("orbyt_ledger_refused_total 0"));
}

#[tokio::test]
async fn what_no_provider_has_begun_is_owed_by_nobody_though_the_client_was_answered() {
    let bench = Bench::start("5", "[gate]\nkeepalive_before_commit = true\nkeepalive = '20ms'\n").await;
    let refusal = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_vec();
    bench.sim.on_model("sim-ok", Step::Acts(vec![Act::Pause(Duration::from_millis(300)), Act::Write(refusal)]));
    let answer = bench.send("POST", "", &asking("sim-ok", true)).await;
    assert!(answer.status == 200 && answer.body_text().contains("response.failed"), "{}", answer.body_text());
    assert_eq!(bench.agreed().await, Money::ZERO, "{}", answer.body_text());
}

#[tokio::test]
async fn an_answer_that_is_too_large_to_be_held_can_be_looked_up() {
    let bench = Bench::start("5", "[gate]\nmax_bytes = '64B'\n").await;
    // Its second half comes later, so the first one is on its way by then.
    let begun = bench.send("POST", "", &asking("sim-slow", false)).await;
    assert_eq!((begun.status, begun.end), (200, BodyEnd::Clean), "{}", begun.body_text());
    let id = begun.json()["id"].as_str().unwrap().to_owned();
    let bound = bench.agreed().await;
    assert!(bound > dollars("0.05"), "nobody has read what became of it: {bound}");
    bench.sim.end_responses("completed");
    let told = bench.get(&format!("/{id}")).await;
    assert_eq!((told.status, &told.json()["status"]), (200, &json!("completed")));
    assert_eq!(bench.agreed().await, cost(&told.json()["usage"]));
}

#[tokio::test]
async fn limits_of_tokens_count_what_it_can_become() {
    let bench = Bench::start("100", "[[limits.rule]]\nscope = 'key'\ntokens_per_day = 10000\n").await;
    let mut body = asking("sim-slow", false);
    body["max_output_tokens"] = json!(5000);
    assert_eq!(bench.send("POST", "", &body).await.status, 200);
    bench.gateway.shows("orbyt_requests_in_flight 0\n").await;
    let next = bench.send("POST", "", &asking("sim-ok", false)).await;
    let left: u64 = next.header("x-ratelimit-remaining-tokens").parse().unwrap();
    assert!((4000..5000).contains(&left), "{left}");
}
