//! What an upgrade hands over: budgets that are never over while two and three processes serve, limits that do not begin anew, and reservations
//! that go with the process that had them.

use crate::budgets::{PRICES, agreed, bounded, config, cost, run, spent, until_reserved_nothing};
use crate::gateway::{Gateway, KEY, PATIENCE, saying};
use crate::upgrade::Successors;
use orbyt::domain::Money;
use orbyt::sim::client;
use orbyt::sim::{Sim, SimDialect, Step};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn dollars(text: &str) -> Money {
    Money::from_dollars(text).unwrap()
}

/// The accounts as whichever process has the console says; `None` while that changes hands.
async fn standing(gateway: &Gateway) -> Option<Vec<(Money, Money)>> {
    let report = gateway.get_console("/api/v1/accounts").await.filter(|answer| answer.status == 200)?.json();
    let money = |value: &Value| dollars(value.as_str().unwrap());
    let accounts = report["accounts"].as_array()?;
    Some(accounts.iter().map(|it| (money(&it["spent_usd"]), money(&it["reserved_usd"]))).collect())
}

/// Waits until the only account is as it should be, and returns what is spent and reserved of it.
async fn until(gateway: &Gateway, holds: impl Fn(Money, Money) -> bool) -> (Money, Money) {
    let begun = Instant::now();
    loop {
        let seen = standing(gateway).await.unwrap_or_default();
        match seen.first() {
            Some((spent, reserved)) if holds(*spent, *reserved) => return (*spent, *reserved),
            _ => assert!(begun.elapsed() < PATIENCE, "{seen:?}\n{}", gateway.output()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asks one request after the other until it is told to stop and the budget is spent; returns how many were answered and what they have cost.
async fn asks(gateway: Arc<Gateway>, stop: Arc<AtomicBool>) -> (usize, Money) {
    let (mut answered, mut paid) = (0, Money::ZERO);
    let url = format!("{}/v1/chat/completions", gateway.url);
    let body = bounded("one two three four").to_string();
    loop {
        let answer = client::send("POST", &url, &[("x-api-key", KEY)], body.as_bytes()).await.expect("refused");
        match answer.status {
            200 => {
                assert!(answer.looks_complete(), "{}", answer.body_text());
                (answered, paid) = (answered + 1, paid + cost(&answer.json()["usage"]));
            }
            402 if stop.load(Ordering::Relaxed) && !answer.body_text().contains("in flight") => {
                return (answered, paid);
            }
            402 => tokio::time::sleep(Duration::from_millis(20)).await,
            status => panic!("{status}: {}", answer.body_text()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_never_over_across_two_upgrades() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    sim.on_model("sim-ok", Step::Paced(Duration::from_millis(20)));
    let gateway = Arc::new(Gateway::builder().config(&config(&sim, PRICES)).start().await);
    let mut successors = Successors::default();
    run(&gateway, &["budgets", "set", "15", "--org", "default"]);
    let limit = dollars("15");
    let stop = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> = (0..24).map(|_| tokio::spawn(asks(gateway.clone(), stop.clone()))).collect();
    let over = Arc::new(AtomicBool::new(false));
    let (seen, is_over) = (gateway.clone(), over.clone());
    let watching = tokio::spawn(async move {
        let mut samples = 0;
        while !is_over.load(Ordering::Relaxed) {
            for (spent, reserved) in standing(&seen).await.unwrap_or_default() {
                assert!(spent + reserved <= limit, "{spent} + {reserved}");
                samples += 1;
            }
        }
        samples
    });
    for share in ["2", "5"] {
        let begun = Instant::now();
        while standing(&gateway).await.unwrap_or_default().iter().all(|(spent, _)| *spent < dollars(share)) {
            assert!(begun.elapsed() < PATIENCE, "{share} is never spent\n{}", gateway.output());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::task::block_in_place(|| successors.upgrade(&gateway));
    }
    stop.store(true, Ordering::Relaxed);
    let (mut answered, mut paid) = (0, Money::ZERO);
    for asked in asking {
        let (more, cost) = asked.await.unwrap();
        (answered, paid) = (answered + more, paid + cost);
    }
    until_reserved_nothing(&gateway).await;
    over.store(true, Ordering::Relaxed);
    let samples = watching.await.unwrap();
    assert!(samples > 10 && answered > 100, "{samples} samples, {answered} were answered");
    assert_eq!(agreed(&gateway, &gateway.data_dir(), None).await, paid, "to the pico-dollar\n{}", gateway.output());
    assert!(paid <= limit && paid + dollars("1") > limit, "{paid}");
    assert!(!gateway.output().contains("is not known here"), "{}", gateway.output());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_had_reserved_is_kept_while_it_finishes_and_free_when_it_is_killed() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let prices =
        format!("{PRICES}[[provider.model]]\nid = 'long'\ninput = '1000'\noutput = '1000'\nmax_output = 100\n");
    let gateway = Arc::new(Gateway::builder().config(&config(&sim, &prices)).start().await);
    let mut successors = Successors::default();
    sim.on_model("long", Step::Paced(Duration::from_millis(200)));
    run(&gateway, &["budgets", "set", "5", "--org", "default"]);
    let long = |text: &str| {
        let mut body = saying("one/long", text, true);
        body["max_tokens"] = json!(100);
        body
    };
    // One that ends after the upgrade, and one that never does.
    let ask = |body: Value| {
        let url = format!("{}/v1/chat/completions", gateway.url);
        tokio::spawn(
            async move { client::send("POST", &url, &[("x-api-key", KEY)], body.to_string().as_bytes()).await },
        )
    };
    let (short, endless) = (ask(long(&"word ".repeat(60))), ask(long(&"word ".repeat(400))));
    let is_long = |call: &orbyt::sim::Call| memchr::memmem::find(&call.body, b"\"long\"").is_some();
    assert!(sim.until(PATIENCE, |calls| calls.iter().filter(|call| is_long(call)).count() == 2).await);
    tokio::task::block_in_place(|| successors.upgrade(&gateway));
    // Known to the successor from the beginning.
    let (_, reserved) = until(&gateway, |_, reserved| reserved > dollars("0.2")).await;
    assert!(short.await.unwrap().unwrap().looks_complete());
    // What it did cost is told, and what the other has reserved stays.
    let (_, left) = until(&gateway, |spent, _| spent > Money::ZERO).await;
    assert!(left > Money::ZERO && left <= reserved, "{left} of {reserved}");
    gateway.signal(libc::SIGKILL);
    until_reserved_nothing(&gateway).await;
    assert!(endless.await.unwrap().map_or(true, |answer| !answer.looks_complete()), "it was cut");
    agreed(&gateway, &gateway.data_dir(), None).await;
    assert_eq!(gateway.chat(&bounded("hello")).await.status, 200);
}

#[tokio::test]
async fn an_upgrade_that_fails_leaves_budgets_where_they_were() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Gateway::builder().config(&config(&sim, PRICES)).start().await;
    run(&gateway, &["budgets", "set", "0.30", "--org", "default"]);
    assert_eq!(gateway.chat(&bounded("hello")).await.status, 200);
    let before = spent(&gateway, "org", "total").await;
    let good = std::fs::read_to_string(gateway.config_file()).unwrap();
    let tls = format!(
        "[server.tls]\nlisten = [\"{}\"]\ncert = \"none.pem\"\nkey = \"none.pem\"\n",
        taken.local_addr().unwrap()
    );
    std::fs::write(gateway.config_file(), format!("{tls}{good}")).unwrap();
    let output = crate::api_keys::orbyt(&gateway.data_dir(), None, &["upgrade"], "");
    assert!(!output.status.success());
    let mut last = 200;
    while last == 200 {
        last = gateway.chat(&bounded("hello")).await.status;
    }
    assert_eq!(last, 402, "neither refused for another reason nor served for ever");
    let after = spent(&gateway, "org", "total").await;
    assert!(after > before && after <= dollars("0.30"), "{after}");
}

#[tokio::test]
async fn a_limit_does_not_begin_anew() {
    let sim = Sim::start(SimDialect::OpenAi).unwrap();
    let limits = "[[limits.rule]]\nscope = 'key'\nrequests_per_day = 3\n";
    let gateway = Gateway::builder().config(&format!("{limits}{}", config(&sim, PRICES))).start().await;
    let mut successors = Successors::default();
    for _ in 0..2 {
        assert_eq!(gateway.chat(&bounded("hello")).await.status, 200);
    }
    successors.upgrade(&gateway);
    assert_eq!(gateway.chat(&bounded("hello")).await.status, 200);
    successors.upgrade(&gateway);
    let refused = gateway.chat(&bounded("hello")).await;
    assert_eq!(refused.status, 429, "{}", refused.body_text());
}
