//! Usage in sums, in both databases: the same rows give the same sums, and nothing of another organisation's is in them.

use crate::ledger_store::{CHARGE, NOON, both, id, row};
use orbyt::domain::{CacheUse, Ended, LedgerRow, Money, Usage};
use orbyt::store::ports::database::Access;
use orbyt::store::ports::ledger::Filter;
use orbyt::store::ports::reports::{Dimension, Percentiles, SessionCursor, Totals, UsageQuery};

/// A hundred requests of one organisation, one of another's.
fn rows() -> Vec<LedgerRow<'static>> {
    let usage = Usage {
        prompt_tokens: 10,
        completion_tokens: 4,
        cached_tokens: Some(3),
        reasoning_tokens: Some(1),
        ..Usage::default()
    };
    let of_a = (0..100).map(|number| LedgerRow {
        arrived_unix_ms: NOON + number * 1000,
        latency_us: number + 1,
        ttft_us: (number % 2 == 0).then_some(50),
        usage: Some(usage),
        status: if number % 10 == 9 { 503 } else { 200 },
        ended: if number % 10 == 9 { Ended::Error } else { Ended::Complete },
        error_code: (number == 9).then(|| "100%_odd".into()),
        cache: if number % 4 == 0 { CacheUse::Hit } else { CacheUse::Miss },
        session_id: (number % 2 == 1).then(|| format!("sess-{}", number % 20 / 2).into()),
        trace_id: (number % 2 == 0 && number % 3 == 0).then(|| "trace".into()),
        ..row(number, "a")
    });
    of_a.chain([row(500, "b")]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_summed_exactly_and_told_apart_by_whatever_is_asked_for() {
    for (name, database, _folder) in both().await {
        database.write(&rows().into()).await.unwrap();
        let access = Access::Org("a".into());
        let usage = async |query: UsageQuery| database.usage(&access, &UsageQuery { most: 50, ..query }).await.unwrap();
        let all = usage(UsageQuery::default()).await;
        let expected = Totals {
            requests: 100,
            errors: 10,
            cache_hits: 25,
            prompt_tokens: 1000,
            cached_tokens: 300,
            cache_write_tokens: 0,
            completion_tokens: 400,
            reasoning_tokens: 100,
            cost: Money::from_picos(100 * CHARGE),
            unpriced: 0,
            latency: Percentiles { p50_us: 50, p95_us: 95, p99_us: 99 },
            ttft_us: Some(50),
        };
        assert_eq!((all.len(), &all[0].totals), (1, &expected), "{name}");
        let models = usage(UsageQuery { by: Some(Dimension::Model), ..UsageQuery::default() }).await;
        let seen: Vec<_> = models.iter().map(|row| (row.id.as_deref().unwrap(), row.totals.requests)).collect();
        assert_eq!(seen, [("m-0", 50), ("m-1", 50)], "{name}");
        assert_eq!(models[0].totals.latency, Percentiles { p50_us: 49, p95_us: 95, p99_us: 99 }, "{name}");
        let spans =
            usage(UsageQuery { span_ms: Some(40_000), by: Some(Dimension::Key), ..UsageQuery::default() }).await;
        let seen: Vec<_> = spans.iter().map(|row| (row.span_unix_ms.unwrap(), row.totals.requests)).collect();
        assert_eq!(seen, [(NOON, 40), (NOON + 40_000, 40), (NOON + 80_000, 20)], "{name}");
        assert!(
            spans.iter().all(|row| (row.id.as_deref(), row.name.as_deref()) == (Some("key_a"), Some("app"))),
            "{name}"
        );
        // Of one id alone, and the others together, however many they are.
        let only = Some(vec!["m-1".to_owned(), "' OR 1=1".to_owned(), "\0".to_owned()]);
        let apart = UsageQuery { span_ms: Some(50_000), by: Some(Dimension::Model), only, ..UsageQuery::default() };
        let apart = usage(apart).await;
        let mut seen: Vec<_> =
            apart.iter().map(|row| (row.span_unix_ms.unwrap(), row.id.as_deref(), row.totals.requests)).collect();
        seen.sort();
        let second = NOON + 50_000;
        assert_eq!(
            seen,
            [(NOON, None, 25), (NOON, Some("m-1"), 25), (second, None, 25), (second, Some("m-1"), 25)],
            "{name}"
        );
        let some = Filter { failed: Some(true), from_unix_ms: Some(NOON + 50_000), ..Filter::default() };
        for by in Dimension::ALL {
            let rows = usage(UsageQuery { by: Some(by), filter: some.clone(), ..UsageQuery::default() }).await;
            assert_eq!(rows.iter().map(|row| row.totals.errors).sum::<u64>(), 5, "{name} {by:?}");
        }
        let nothing = Filter { from_unix_ms: Some(u64::MAX), ..Filter::default() };
        let none = usage(UsageQuery { filter: nothing, by: Some(Dimension::Org), ..UsageQuery::default() }).await;
        assert_eq!(none, [], "{name}");
        let everybody = UsageQuery { by: Some(Dimension::Org), most: 50, ..UsageQuery::default() };
        let orgs = database.usage(&Access::System, &everybody).await.unwrap();
        let seen: Vec<_> = orgs.iter().map(|row| (row.id.as_deref().unwrap(), row.totals.requests)).collect();
        assert_eq!(seen, [("a", 100), ("b", 1)], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_from_the_latest_on_and_page_by_page() {
    for (name, database, _folder) in both().await {
        database.write(&rows().into()).await.unwrap();
        let (mut seen, mut behind) = (Vec::new(), None);
        loop {
            let page =
                database.sessions(&Access::Org("a".into()), &Filter::default(), behind.as_ref(), 4).await.unwrap();
            let Some(last) = page.last() else { break };
            behind = Some(SessionCursor { last_unix_ms: last.last_unix_ms, id: last.id.clone() });
            seen.extend(page);
        }
        let ids: Vec<_> = seen.iter().map(|it| it.id.as_str()).collect();
        let expected = [
            "sess-9", "sess-8", "trace", "sess-7", "sess-6", "sess-5", "sess-4", "sess-3", "sess-2", "sess-1", "sess-0",
        ];
        assert_eq!(ids, expected, "{name}");
        let first = &seen[0];
        assert_eq!((first.first_unix_ms, first.last_unix_ms), (NOON + 19_000, NOON + 99_000), "{name}");
        assert_eq!((first.totals.requests, first.totals.errors, first.models), (5, 5, 1), "{name}");
        assert_eq!(first.totals.latency, Percentiles { p50_us: 60, p95_us: 100, p99_us: 100 }, "{name}");
        let all = database.sessions(&Access::System, &Filter::default(), None, 50).await.unwrap();
        assert_eq!((all.len(), all.last().map(|it| it.org.as_str())), (12, Some("b")), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_found_by_status_and_by_a_part_of_their_names() {
    for (name, database, _folder) in both().await {
        database.write(&rows().into()).await.unwrap();
        let found = async |filter: Filter| {
            let page = database.list(&Access::Org("a".into()), &filter, None, 100).await.unwrap();
            page.rows.iter().map(|row| row.id).collect::<Vec<_>>()
        };
        let text = |text: &str| Filter { text: Some(text.to_owned()), ..Filter::default() };
        assert_eq!(found(text("100%_ODD")).await, [id(9)], "{name}: as it stands, in any case");
        assert_eq!(found(text("1000_odd")).await, [], "{name}: no wildcards");
        assert_eq!(found(text("%")).await, [id(9)], "{name}");
        assert_eq!(found(text(&id(42).to_string()[4..])).await, [id(42)], "{name}");
        assert_eq!(found(text("' OR 1=1 --\0")).await, [], "{name}");
        assert_eq!(found(text("ASKED")).await.len(), 100, "{name}");
        let status = |low, high| Filter { status: Some((low, high)), ..Filter::default() };
        assert_eq!((found(status(500, 599)).await.len(), found(status(200, 200)).await.len()), (10, 90), "{name}");
        let fine = Filter { failed: Some(false), status: Some((500, 599)), ..Filter::default() };
        assert_eq!(found(fine).await, [], "{name}");
    }
}
