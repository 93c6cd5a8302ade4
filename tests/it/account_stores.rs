//! The accounts that nodes share over a real Redis: what is spent without it counts once, whoever tells of it first and however often.

use crate::redis_server::{Cable, RedisServer};
use orbyt::domain::budget::{Account, Draw, Payer, Span};
use orbyt::domain::{Money, Secret};
use orbyt::store::ports::accounts::{Accounts, Balance, Reservation};
use orbyt::store::redis::{Redis, RedisAccounts, Settings};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const TTL: Duration = Duration::from_secs(600);

fn node(address: &str) -> (Redis, RedisAccounts) {
    let url = Secret::new(format!("redis://{address}"));
    let settings = Settings { url, ca: None, timeout: Duration::from_secs(3), node_ttl: Duration::from_secs(60) };
    let redis = Redis::start(settings, |_| {}).unwrap();
    let accounts = redis.accounts();
    (redis, accounts)
}

fn account() -> Account {
    Account { payer: Payer::Org, subject: "o".into(), span: Span::Total, from_day: 0 }
}

fn picos(picos: i128) -> Money {
    Money::from_picos(picos)
}

async fn reserve(accounts: &RedisAccounts, amount: i128) -> Reservation {
    let draws = [Draw { account: account(), limit: picos(1000) }];
    accounts.reserve(&draws, picos(amount), TTL, 0).await.unwrap()
}

/// Spends so much; whether Redis was asked.
async fn spend(accounts: &RedisAccounts, amount: i128) -> bool {
    let reservation = reserve(accounts, amount).await;
    let is_shared = reservation.node.is_some();
    accounts.settle(reservation, picos(amount), 0);
    is_shared
}

/// What Redis says is spent.
async fn spent(accounts: &RedisAccounts) -> i128 {
    let reservation = reserve(accounts, 0).await;
    assert!(reservation.node.is_some(), "Redis was not asked");
    accounts.settle(reservation, Money::ZERO, 0);
    accounts.settled().await;
    let known = accounts.balances().into_iter().find(|(known, _)| *known == account());
    known.map_or(Balance::default(), |(_, balance)| balance).spent.picos()
}

async fn until_up(redis: &Redis, up: bool) {
    let started = Instant::now();
    while redis.status().up != up {
        assert!(started.elapsed() < PATIENCE, "Redis is not {up}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_has_spent_alone_counts_once_whoever_tells_of_it_first() {
    let server = RedisServer::start().await;
    let cable = Cable::to(server.port).await;
    let (one, near) = node(&format!("127.0.0.1:{}", server.port));
    let (other, far) = node(&cable.address.to_string());
    until_up(&one, true).await;
    until_up(&other, true).await;
    assert!(spend(&near, 100).await && spend(&far, 10).await);
    near.settled().await;
    far.settled().await;
    cable.cut();
    // The first one finds out; the second one spends alone.
    let mut all = 111;
    while spend(&far, 1).await {
        all += 1;
    }
    assert!(!spend(&far, 50).await);
    all += 50;
    // All of it is in the ledger, which the other node reads.
    near.observe(&account(), picos(all));
    near.settled().await;
    assert_eq!(spent(&near).await, all);
    cable.mend();
    until_up(&other, true).await;
    far.settled().await;
    assert_eq!(spent(&near).await, all, "said by the ledger, and then by the node itself");
    // What is spent from now on counts, though the ledger was ahead once.
    assert!(spend(&far, 7).await);
    far.settled().await;
    assert_eq!(spent(&near).await, all + 7);
    // And the other way round: first the node, then the ledger.
    near.observe(&account(), picos(all + 7));
    near.settled().await;
    assert_eq!(spent(&far).await, all + 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_redis_is_told_what_was_spent_and_counts_it_once() {
    let mut server = RedisServer::start().await;
    let (redis, accounts) = node(&format!("127.0.0.1:{}", server.port));
    until_up(&redis, true).await;
    assert!(spend(&accounts, 100).await);
    accounts.settled().await;
    server.kill();
    until_up(&redis, false).await;
    assert!(!spend(&accounts, 50).await);
    server.start_again().await;
    // Said while Redis is away, or just when it is back.
    accounts.observe(&account(), picos(150));
    until_up(&redis, true).await;
    accounts.settled().await;
    assert_eq!(spent(&accounts).await, 150);
    // Nothing of the outage is left over for the next one.
    server.kill();
    until_up(&redis, false).await;
    let draws = [Draw { account: account(), limit: picos(1000) }];
    assert!(accounts.reserve(&draws, picos(851), TTL, 0).await.is_err());
    accounts.reserve(&draws, picos(850), TTL, 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn which_settlements_were_booked_is_remembered_for_days_and_takes_no_room() {
    let server = RedisServer::start().await;
    let (redis, accounts) = node(&format!("127.0.0.1:{}", server.port));
    until_up(&redis, true).await;
    for _ in 0..10 {
        for reservation in futures::future::join_all((0..100).map(|_| reserve(&accounts, 1))).await {
            accounts.settle(reservation, picos(1), 0);
        }
        accounts.settled().await;
    }
    assert_eq!(spent(&accounts).await, 1000);
    let ask = async |script: &str| {
        let answer = server.ask(&format!("EVAL \"{script}\" 0")).await;
        answer.trim_start_matches(':').parse::<u64>().unwrap()
    };
    assert_eq!(ask("return #redis.call('KEYS', '{orbyt}:settled:*')").await, 1);
    let of_set =
        |command: &str| format!("return redis.call('{command}', redis.call('KEYS', '{{orbyt}}:settled:*')[1])");
    assert!(ask(&of_set("PTTL")).await > 86_400_000);
    assert!(ask(&of_set("ZCARD")).await <= 300, "those that are never said again are forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_stays_so_though_the_ledger_says_it_later() {
    let server = RedisServer::start().await;
    let (redis, accounts) = node(&format!("127.0.0.1:{}", server.port));
    until_up(&redis, true).await;
    assert!(spend(&accounts, 100).await && spend(&accounts, 5).await);
    accounts.settled().await;
    let give_back = |amount: i128| {
        let none = Reservation { accounts: vec![account()], amount: Money::ZERO, number: u64::MAX, node: None };
        accounts.settle(none, picos(-amount), 0);
    };
    accounts.observe(&account(), picos(105));
    accounts.settled().await;
    give_back(70);
    accounts.settled().await;
    accounts.observe(&account(), picos(105));
    accounts.settled().await;
    accounts.observe(&account(), picos(35));
    assert_eq!(spent(&accounts).await, 35, "the ledger said so before it knew");
    // What others have spent without Redis counts beside it.
    accounts.observe(&account(), picos(150));
    accounts.settled().await;
    assert!(spent(&accounts).await >= 80);
    give_back(1000);
    assert_eq!(spent(&accounts).await, 0, "never less than nothing");
}
