//! The ledger in both databases: every row once, sums that follow from the rows alone, and nothing of another organisation's in sight.

use crate::postgres;
use orbyt::config::Store;
use orbyt::domain::ledger::day_of;
use orbyt::domain::payloads::{Body, Content, Request};
use orbyt::domain::{CacheUse, Decision, Ended, LedgerAttempt, LedgerRow, Money, Payloads, RequestId, Secret, Usage};
use orbyt::store::ports::database::{Access, Database, StoreError};
use orbyt::store::ports::ledger::{Filter, Kept, Subject};
use orbyt::wiring::state::State;
use std::borrow::Cow;
use std::sync::Arc;
use tempfile::TempDir;

const DAY: u64 = 86_400_000;
/// Noon of a day.
pub const NOON: u64 = 20_000 * DAY + DAY / 2;

async fn open(folder: &TempDir, url: Option<String>) -> Arc<dyn Database> {
    let store =
        Store { database_url: url.map(Secret::new), connections: 4, master_key: None, redis: None, node_name: None };
    State::open(folder.path(), &store).await.unwrap().database
}

/// Both databases, new and empty, with what keeps them alive.
pub async fn both() -> [(&'static str, Arc<dyn Database>, TempDir); 2] {
    let postgres = postgres::Database::create().await;
    let mut made = Vec::new();
    for (name, url) in [("sqlite", None), ("postgres", Some(postgres.url()))] {
        let folder = tempfile::tempdir().unwrap();
        made.push((name, open(&folder, url).await, folder));
    }
    made.try_into().ok().unwrap()
}

pub fn id(number: u64) -> RequestId {
    RequestId::of(1, number)
}

/// What a row says that its answer costs, answers that nobody has taken, and the comparing of its question; and what is booked for all.
const COST: i64 = 1_000_000_007;
const HEDGE: i64 = 300_000_011;
const EMBEDDING: i64 = 13;
const BESIDE: i128 = HEDGE as i128 + EMBEDDING as i128;
pub const CHARGE: i128 = COST as i128 + BESIDE;

/// A row with something in every place.
pub fn row(number: u64, org: &'static str) -> LedgerRow<'static> {
    let attempt = LedgerAttempt {
        provider: "p".into(),
        model: "m".into(),
        key_name: "p_01".into(),
        started_us: 1,
        took_us: 2,
        status: Some(429),
        reason: Some("rate_limited".into()),
        message: Some("slow \"down\"\0".into()),
        verdict: "next_key".into(),
    };
    LedgerRow {
        id: id(number),
        revision: 0,
        arrived_unix_ms: NOON + number,
        org: org.into(),
        project: format!("prj_{org}").into(),
        key_id: format!("key_{org}").into(),
        key_name: "app".into(),
        owner: Some("kim@example.com".into()),
        workflow: Some("support".into()),
        user: (number % 2 == 1).then(|| "odd".into()),
        trace_id: Some(format!("trace-{}", number / 3).into()),
        session_id: Some("sess".into()),
        dialect: "openai_chat".into(),
        route: "POST /v1/chat/completions".into(),
        requested_model: Some("asked".into()),
        provider: Some("p".into()),
        model: Some(format!("m-{}", number % 2).into()),
        strategy: "order".into(),
        stream: true,
        status: 200,
        ended: Ended::Complete,
        error_code: None,
        attempts: vec![attempt],
        fallback: true,
        dropped: vec!["seed".to_owned()].into(),
        usage: Some(Usage { prompt_tokens: 10, completion_tokens: 2, total_tokens: 12, ..Usage::default() }),
        cost_picos: Some(COST),
        hedge_cost_picos: Some(HEDGE),
        embedding_cost_picos: Some(EMBEDDING),
        estimated: false,
        byok: false,
        cache: CacheUse::Miss,
        similarity_ppm: Some(-1),
        ttft_us: Some(5),
        latency_us: 6,
        overhead_us: 7,
        queued_us: Some(8),
        bytes_in: 9,
        bytes_out: 10,
        decision: Some(Cow::Owned(Decision { input_tokens: 3, ..Decision::default() })),
    }
}

/// What a row is like when it comes back: no database keeps a NUL.
fn read(row: LedgerRow<'static>) -> LedgerRow<'static> {
    let attempts = row.attempts.iter().cloned();
    let attempts = attempts
        .map(|it| LedgerAttempt { message: it.message.map(|text| text.replace('\0', "\u{fffd}").into()), ..it });
    LedgerRow { attempts: attempts.collect(), ..row }
}

async fn spent(database: &dyn Database, subject: &Subject, days: (u32, u32)) -> i128 {
    database.spent(subject, days.0, days.1).await.unwrap().picos()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_taken_over_once_and_comes_back_as_it_was() {
    for (name, database, _folder) in both().await {
        let batch: Vec<_> = (0..50).map(|number| row(number, "a")).collect();
        let kept = database.write(&batch.clone().into()).await.unwrap();
        assert_eq!(kept, Kept { inserted: 50, ..Kept::default() }, "{name}");
        let again = [&batch[40..], &[row(50, "a"), row(50, "a")]].concat();
        assert_eq!(
            database.write(&again.clone().into()).await.unwrap(),
            Kept { inserted: 1, amended: 0, known: 10 },
            "{name}"
        );
        assert_eq!(database.find(&Access::System, id(7)).await.unwrap(), Some(read(row(7, "a"))), "{name}");
        assert_eq!(database.find(&Access::System, id(99)).await.unwrap(), None, "{name}");
        let today = (day_of(NOON), day_of(NOON));
        let org = Subject::Org("a".into());
        assert_eq!(spent(&*database, &org, today).await, 51 * CHARGE, "{name}");
        assert_eq!(database.write(&Arc::default()).await.unwrap(), Kept::default(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_revision_takes_the_place_of_an_earlier_one_and_the_sums_follow() {
    for (name, database, _folder) in both().await {
        let (org, today) = (Subject::Org("a".into()), (day_of(NOON), day_of(NOON)));
        let broken = LedgerRow { revision: 1, ended: Ended::ClientGone, cost_picos: Some(5), ..row(1, "a") };
        database.write(&[row(1, "a"), row(2, "a")].into()).await.unwrap();
        let kept = database.write(&[broken.clone(), row(2, "a")].into()).await.unwrap();
        assert_eq!(kept, Kept { inserted: 0, amended: 1, known: 1 }, "{name}");
        assert_eq!(spent(&*database, &org, today).await, CHARGE + 5 + BESIDE, "{name}");
        // What comes late and is older changes nothing.
        assert_eq!(
            database.write(&[row(1, "a")].into()).await.unwrap(),
            Kept { known: 1, ..Kept::default() },
            "{name}"
        );
        assert_eq!(database.find(&Access::System, id(1)).await.unwrap(), Some(read(broken)), "{name}");
        // Both in one batch are one row.
        let unknown = LedgerRow { revision: 1, cost_picos: None, ..row(3, "a") };
        assert_eq!(
            database.write(&[row(3, "a"), unknown].into()).await.unwrap(),
            Kept { inserted: 1, ..Kept::default() },
            "{name}"
        );
        assert_eq!(
            spent(&*database, &org, today).await,
            CHARGE + 5 + 2 * BESIDE,
            "{name}: what is not known counts nothing"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_user_has_spent_is_known_and_sums_that_are_too_large_do_not_stop_the_ledger() {
    for (name, database, _folder) in both().await {
        let of = |number, user: &str, picos| LedgerRow {
            user: Some(user.to_owned().into()),
            cost_picos: Some(picos),
            hedge_cost_picos: None,
            embedding_cost_picos: None,
            ..row(number, "a")
        };
        let (million, day) = (1_000_000, day_of(NOON));
        database.write(&[of(1, "ada", 5), of(2, "bob", 7 * million), of(3, "ada", million)].into()).await.unwrap();
        let users = async |org: &str, days: (u32, u32), most| {
            let users = database.spent_by_users(org, days.0, days.1, most).await.unwrap();
            users.into_iter().map(|(user, spent)| (user, spent.picos())).collect::<Vec<_>>()
        };
        let [ada, bob] = [("ada".to_owned(), 1_000_005), ("bob".to_owned(), 7_000_000)];
        assert_eq!(users("a", (day, day), 10).await, [bob.clone(), ada], "{name}");
        assert_eq!(users("a", (0, u32::MAX), 1).await, [bob], "{name}");
        assert_eq!(users("b", (day, day), 10).await, [], "{name}");
        assert_eq!(users("a", (day + 1, day + 1), 10).await, [], "{name}");
        // What a provider has counted wildly.
        let absurd = [of(4, "eve", i64::MAX), of(5, "eve", i64::MAX)];
        assert_eq!(database.write(&absurd.clone().into()).await.unwrap().inserted, 2, "{name}");
        assert_eq!(database.write(&[of(6, "eve", i64::MAX)].into()).await.unwrap().inserted, 1, "{name}");
        assert!(users("a", (day, day), 1).await[0].1 >= i128::from(i64::MAX), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spending_is_known_by_subject_and_day_to_the_pico_dollar() {
    for (name, database, _folder) in both().await {
        let large = LedgerRow { cost_picos: Some(i64::MAX / 2), ..row(1, "a") };
        let on = |number: u64, days: u64| LedgerRow { arrived_unix_ms: NOON + days * DAY, ..row(number, "a") };
        let batch = [large, on(2, 1), on(3, 2), row(4, "b"), LedgerRow { cost_picos: None, ..row(5, "b") }];
        database.write(&batch.clone().into()).await.unwrap();
        // More than SQLite has in one number.
        database.write(&[LedgerRow { cost_picos: Some(i64::MAX / 2), ..on(6, 3) }].into()).await.unwrap();
        let day = day_of(NOON);
        let sum = async |subject: Subject, days| spent(&*database, &subject, days).await;
        let (most, one) = (i128::from(i64::MAX / 2) + BESIDE, CHARGE);
        assert_eq!(sum(Subject::Org("a".into()), (day, day + 3)).await, 2 * most + 2 * one, "{name}");
        assert_eq!(sum(Subject::Org("a".into()), (day + 1, day + 2)).await, 2 * one, "{name}");
        assert_eq!(sum(Subject::Project("prj_a".into()), (day, day)).await, most, "{name}");
        assert_eq!(sum(Subject::Key("key_b".into()), (0, u32::MAX)).await, one + BESIDE, "{name}");
        let odd = |org: &str| Subject::User { org: org.into(), user: "odd".into() };
        assert_eq!(sum(odd("a"), (day + 2, day + 2)).await, one, "{name}");
        assert_eq!(sum(odd("b"), (day, day)).await, BESIDE, "{name}");
        assert_eq!(sum(Subject::Org("c".into()), (0, u32::MAX)).await, 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_newest_first_in_pages_and_filtered() {
    for (name, database, _folder) in both().await {
        // Two of each moment: their ids decide.
        let batch: Vec<_> =
            (0..20).map(|number| LedgerRow { arrived_unix_ms: NOON + number / 2, ..row(number, "a") }).collect();
        database.write(&batch.clone().into()).await.unwrap();
        let list = async |filter: Filter, behind, most| {
            let page = database.list(&Access::System, &filter, behind, most).await.unwrap();
            (page.rows.iter().map(|row| row.id).collect::<Vec<_>>(), page.next)
        };
        let (mut seen, mut behind) = (Vec::new(), None);
        loop {
            let (ids, next) = list(Filter::default(), behind, 7).await;
            seen.extend(ids);
            behind = next;
            if behind.is_none() {
                break;
            }
        }
        assert_eq!(seen, (0..20).rev().map(id).collect::<Vec<_>>(), "{name}");
        let text = |text: &str| Some(text.to_owned());
        let only = Filter::default;
        for (filter, expected) in [
            (Filter { trace_id: text("trace-0"), ..only() }, vec![2, 1, 0]),
            (Filter { user: text("odd"), from_unix_ms: Some(NOON + 8), ..only() }, vec![19, 17]),
            (Filter { model: text("m-0"), until_unix_ms: Some(NOON + 2), ..only() }, vec![2, 0]),
            (Filter { model: text("asked"), until_unix_ms: Some(NOON + 1), ..only() }, vec![1, 0]),
            (Filter { key: text("app"), provider: text("p"), until_unix_ms: Some(NOON + 1), ..only() }, vec![1, 0]),
            (Filter { key: text("key_b"), ..only() }, vec![]),
            (Filter { session_id: text("sess'; --"), ..only() }, vec![]),
            (Filter { project: text("prj_a\0"), ..only() }, vec![]),
            (Filter { ended: Some(Ended::Broken), ..only() }, vec![]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(id).collect();
            assert_eq!(list(filter.clone(), None, 50).await, (expected, None), "{name} {filter:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_sees_its_own_requests_alone() {
    for (name, database, _folder) in both().await {
        database.write(&[row(1, "a"), row(2, "b")].into()).await.unwrap();
        let access = Access::Org("a".into());
        let page = database.list(&access, &Filter::default(), None, 10).await.unwrap();
        assert_eq!(page.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [id(1)], "{name}");
        assert!(database.find(&access, id(1)).await.unwrap().is_some(), "{name}");
        assert_eq!(database.find(&access, id(2)).await.unwrap(), None, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_forgotten_by_days_and_what_was_spent_is_not() {
    for (name, database, _folder) in both().await {
        let on = |number: u64, days: u64| LedgerRow { arrived_unix_ms: NOON + days * DAY, ..row(number, "a") };
        database.write(&(0..5).map(|number| on(number, number)).collect::<Vec<_>>().into()).await.unwrap();
        assert_eq!(database.forget_before(day_of(NOON) + 3).await, Ok(3), "{name}");
        assert_eq!(database.forget_before(day_of(NOON) + 3).await, Ok(0), "{name}");
        let left = database.list(&Access::System, &Filter::default(), None, 10).await.unwrap().rows;
        assert_eq!(left.iter().map(|row| row.id).collect::<Vec<_>>(), [id(4), id(3)], "{name}");
        let all = database.spent(&Subject::Org("a".into()), 0, u32::MAX).await;
        assert_eq!(all, Ok(Money::from_picos(5 * CHARGE)), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_cannot_be_dropped_keeps_no_other() {
    let postgres = postgres::Database::create().await;
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder, Some(postgres.url())).await;
    let on = |number: u64| LedgerRow { arrived_unix_ms: NOON + number * DAY, ..row(number, "a") };
    database.write(&(0..3).map(on).collect::<Vec<_>>().into()).await.unwrap();
    let somebody = postgres.superuser().await;
    // Not even to be looked at, as a count would.
    let lock = format!("BEGIN; LOCK TABLE requests_{} IN ACCESS EXCLUSIVE MODE", day_of(NOON) + 1);
    somebody.batch_execute(&lock).await.unwrap();
    assert!(database.forget_before(day_of(NOON) + 2).await.is_err());
    somebody.batch_execute("ROLLBACK").await.unwrap();
    let left = database.list(&Access::System, &Filter::default(), None, 10).await.unwrap().rows;
    assert_eq!(left.iter().map(|row| row.id).collect::<Vec<_>>(), [id(2), id(1)]);
    assert_eq!(database.forget_before(day_of(NOON) + 2).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_gateways_add_to_the_same_sums() {
    let postgres = postgres::Database::create().await;
    let folder = tempfile::tempdir().unwrap();
    let databases = [open(&folder, Some(postgres.url())).await, open(&folder, Some(postgres.url())).await];
    // All of them write all rows, in pieces that begin elsewhere.
    let writers = (0..6u64).map(|writer| {
        let database = databases[writer as usize % 2].clone();
        tokio::spawn(async move {
            for piece in 0..10 {
                let first = (piece + writer) % 10 * 20;
                let batch: Vec<_> = (first..first + 20).map(|number| row(number, "a")).collect();
                loop {
                    match database.write(&batch.clone().into()).await {
                        Ok(_) => break,
                        Err(StoreError::Unavailable(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let sum = spent(&*databases[0], &Subject::Key("key_a".into()), (0, u32::MAX)).await;
    assert_eq!(sum, 200 * CHARGE);
    let counted = postgres
        .superuser()
        .await
        .query_one("SELECT (SELECT count(*) FROM requests), sum(requests)::bigint FROM spend", &[])
        .await;
    let counted = counted.unwrap();
    assert_eq!((counted.get::<_, i64>(0), counted.get::<_, i64>(1)), (200, 200));
}

#[tokio::test]
async fn what_requests_carried_is_kept_for_its_organisation_and_its_time() {
    for (name, database, _folder) in both().await {
        let carried = |number: u64, org: &str| {
            let body = Body { content: Content::Text("\0 {\"a\": \"\u{e9}\"}".to_owned()), ..Body::default() };
            let request = Request { body, ..Request::default() };
            Payloads { org: org.to_owned(), arrived_unix_ms: NOON + number, request, ..Payloads::empty(id(number)) }
        };
        let batch = [carried(1, "org_a"), carried(2, "org_b")];
        database.keep_payloads(&batch).await.unwrap();
        // Once more, as after a crash.
        database.keep_payloads(&batch).await.unwrap();
        let of = |access, number| {
            let database = database.clone();
            async move { database.payloads(&access, id(number)).await.unwrap() }
        };
        assert_eq!(of(Access::System, 1).await, Some(carried(1, "org_a")), "{name}");
        assert_eq!(of(Access::Org("org_a".into()), 1).await, Some(carried(1, "org_a")), "{name}");
        assert_eq!(of(Access::Org("org_a".into()), 2).await, None, "{name}");
        assert_eq!(of(Access::System, 3).await, None, "{name}");
        assert_eq!(database.forget_payloads(NOON + 2).await.unwrap(), 1, "{name}");
        assert_eq!(
            (of(Access::System, 1).await, of(Access::System, 2).await),
            (None, Some(carried(2, "org_b"))),
            "{name}"
        );
    }
}
