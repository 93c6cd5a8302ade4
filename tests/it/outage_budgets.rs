//! Budgets at a start without the database: what was spent is known from the copy on disk and from the spool, and where there is no copy it
//! says so. The cable is cut, nothing is mocked.

use crate::api_keys::said;
use crate::budgets::{PRICES, accounts, agreed, bounded, config, cost, spent, until_spent};
use crate::cable::{Cable, Condition};
use crate::gateway::{Gateway, PATIENCE};
use crate::postgres::Database;
use orbyt::domain::Money;
use orbyt::sim::{Sim, SimDialect};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

async fn start(sim: &Sim, url: &str, data_dir: &Path) -> Gateway {
    let builder = Gateway::builder().config(&config(sim, PRICES)).variable("DATABASE_URL", url);
    builder.variable("ORBYT_DATA_DIR", data_dir.to_str().unwrap()).start().await
}

/// Waits until readiness says this of what budgets go on from.
async fn until_spending_is(gateway: &Gateway, expected: Option<&str>) {
    let started = Instant::now();
    loop {
        let told = gateway.get_console("/readyz").await.unwrap();
        assert_eq!(told.status, 200);
        let told = told.json();
        let is_expected_state = (told["status"] == "degraded") == expected.is_some();
        if told["spending"].as_str() == expected && is_expected_state {
            return;
        }
        assert!(started.elapsed() < PATIENCE * 2, "{told}, not {expected:?}\n{}", gateway.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn pays(gateway: &Gateway, times: usize) -> Money {
    let mut paid = Money::ZERO;
    for _ in 0..times {
        let answer = gateway.chat(&bounded("hello there")).await;
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        paid += cost(&answer.json()["usage"]);
    }
    paid
}

/// Waits until a copy on disk that was made after this moment has so much of the only account.
async fn until_kept(gateway: &Gateway, data_dir: &Path, expected: Money) {
    let (started, since) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis());
    loop {
        let text = std::fs::read_to_string(data_dir.join("balances.json")).unwrap_or_default();
        let kept: Value = serde_json::from_str(&text).unwrap_or_default();
        let is_new = kept["at"].as_u64().is_some_and(|at| u128::from(at) > since + 50);
        if is_new && kept["spent"][0][1].as_i64().map(i128::from) == Some(expected.picos()) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{kept} has no {expected}\n{}", gateway.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_the_database_goes_on_from_what_was_spent() {
    let (sim, database, state) =
        (Sim::start(SimDialect::OpenAi).unwrap(), Database::create().await, tempfile::tempdir().unwrap());
    let cable = Cable::to(database.address(), Condition::Whole).await;
    let url = database.url_by(&cable.address());
    let first = start(&sim, &url, state.path()).await;
    said(state.path(), Some(&database.url()), &["budgets", "set", "1.50", "--org", "default"], "");
    let mut paid = pays(&first, 3).await;
    until_spent(&first, "org", "total", paid).await;
    until_kept(&first, state.path(), paid).await;
    // What is not in the database is in the spool alone.
    cable.set(Condition::Cut);
    paid += pays(&first, 3).await;
    until_spent(&first, "org", "total", paid).await;
    first.signal(libc::SIGKILL);
    drop(first);

    let second = start(&sim, &url, state.path()).await;
    assert_eq!(spent(&second, "org", "total").await, paid, "from the first moment on\n{}", second.output());
    until_spending_is(&second, Some("last_seen")).await;
    second.printed("budgets go on from what was spent when it was last seen").await;
    loop {
        let answer = second.chat(&bounded("hello there")).await;
        if answer.status == 402 {
            break;
        }
        paid += cost(&answer.json()["usage"]);
    }
    assert!(paid <= Money::from_dollars("1.5").unwrap(), "{paid}");
    cable.set(Condition::Whole);
    until_spending_is(&second, None).await;
    assert_eq!(agreed(&second, state.path(), Some(&database.url())).await, paid, "to the pico-dollar");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_copy_budgets_count_from_zero_until_the_database_is_back_and_it_says_so() {
    let (sim, database, state) =
        (Sim::start(SimDialect::OpenAi).unwrap(), Database::create().await, tempfile::tempdir().unwrap());
    let cable = Cable::to(database.address(), Condition::Whole).await;
    let url = database.url_by(&cable.address());
    let first = start(&sim, &url, state.path()).await;
    said(state.path(), Some(&database.url()), &["budgets", "set", "100", "--org", "default"], "");
    let paid = pays(&first, 2).await;
    until_spent(&first, "org", "total", paid).await;
    until_kept(&first, state.path(), paid).await;
    assert_eq!(agreed(&first, state.path(), Some(&database.url())).await, paid);
    first.signal(libc::SIGKILL);
    drop(first);
    std::fs::remove_file(state.path().join("balances.json")).unwrap();
    // What it has left in the spool is in the database already.
    std::fs::remove_dir_all(state.path().join("spool")).unwrap();
    cable.set(Condition::Silent);
    let second = start(&sim, &url, state.path()).await;
    assert!(accounts(&second).await.is_empty());
    until_spending_is(&second, Some("unknown")).await;
    second.printed("budgets count from zero until it is back").await;
    cable.set(Condition::Whole);
    until_spending_is(&second, None).await;
    assert_eq!(spent(&second, "org", "total").await, paid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_set_while_the_ledger_does_not_answer_counts_what_was_spent_once_it_does() {
    let (sim, database, state) =
        (Sim::start(SimDialect::OpenAi).unwrap(), Database::create().await, tempfile::tempdir().unwrap());
    let gateway = start(&sim, &database.url(), state.path()).await;
    let (paid, holds) = (pays(&gateway, 2).await, database.superuser().await);
    let started = Instant::now();
    let written = async || -> String {
        holds.query_one("SELECT coalesce(sum(cost), 0)::text FROM spend", &[]).await.unwrap().get(0)
    };
    while written().await != paid.picos().to_string() {
        assert!(started.elapsed() < PATIENCE, "the ledger does not get it\n{}", gateway.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The rest of the database answers.
    holds.batch_execute("BEGIN; LOCK TABLE spend IN ACCESS EXCLUSIVE MODE").await.unwrap();
    said(state.path(), Some(&database.url()), &["budgets", "set", "100", "--org", "default"], "");
    until_spending_is(&gateway, Some("unknown")).await;
    gateway.printed("they count from zero until it can").await;
    holds.batch_execute("ROLLBACK").await.unwrap();
    until_spending_is(&gateway, None).await;
    assert_eq!(spent(&gateway, "org", "total").await, paid);
}
