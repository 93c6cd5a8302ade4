//! Tests of the parts together, and the records that the other tests here are made of.

use super::live::Seen;
use super::*;
use crate::domain::{FaultKind, Money, RequestId, Secret, Usage, Verdict};
use std::io::Write;

/// A sink whose content can be read.
#[derive(Clone, Default)]
pub(super) struct Page(Arc<parking_lot::Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Page {
    /// What has been written so far.
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

/// An attempt that served, or failed for this reason.
pub(super) fn attempt(provider: &str, model: &str, failed: Option<(FaultKind, Verdict)>) -> AttemptRecord {
    AttemptRecord {
        provider: provider.into(),
        model: model.into(),
        key_name: format!("{provider}_01").into(),
        started: Duration::ZERO,
        took: Duration::from_millis(12),
        status: Some(if failed.is_some() { 429 } else { 200 }),
        reason: failed.map(|(kind, _)| kind.name()),
        message: failed.map(|_| "slow down".to_owned()),
        verdict: failed.map_or("ok", |(_, verdict)| verdict.name()),
    }
}

/// A request that the second provider served after the first one's rate limit.
pub(super) fn record() -> RequestRecord {
    RequestRecord {
        key_name: Some("team".into()),
        route: "POST /v1/chat/completions".into(),
        requested_model: Some("alpha-large".into()),
        provider: Some("beta".into()),
        model: Some("beta-1".into()),
        strategy: "order",
        decision: None,
        stream: true,
        status: 200,
        attempts: vec![
            attempt("alpha", "alpha-large", Some((FaultKind::RateLimited, Verdict::NextProvider))),
            attempt("beta", "beta-1", None),
        ],
        fallback: true,
        dropped: vec!["seed".to_owned()],
        usage: Some(Usage { prompt_tokens: 12, completion_tokens: 34, total_tokens: 46, ..Usage::default() }),
        cost: Some(Money::from_picos(150_000)),
        ttft: Some(Duration::from_micros(20_500)),
        latency: Duration::from_micros(125_250),
        overhead: Duration::from_micros(42),
        ended: Ended::Complete,
        ..RequestRecord::new(RequestId::of(1, 2), 1_793_611_800_000)
    }
}

fn telemetry(secrets: &[&str]) -> (Telemetry, Page) {
    let redactor = Arc::new(Redactor::default());
    redactor.register(&secrets.iter().map(|&text| Secret::new(text)).collect::<Vec<_>>());
    let page = Page::default();
    let log = Log::start(::log::LevelFilter::Info, Format::Json, Box::new(page.clone()), redactor.clone()).unwrap();
    (Telemetry::new(log, Arc::new(Metrics::new("1.2.3").unwrap()), redactor), page)
}

#[tokio::test]
async fn a_request_is_seen_from_its_arrival_to_its_end() {
    let (telemetry, page) = telemetry(&[]);
    let mut watcher = telemetry.live.watch();
    let record = record();
    let in_flight = telemetry.arrived();
    assert_eq!(telemetry.metrics.in_flight(), 1);
    telemetry.pending(&record, record.requested_model.as_ref());
    let failed = &record.attempts[0];
    telemetry.attempt_begins(&record, 1, &failed.provider, &failed.model, &failed.key_name);
    telemetry.attempt_failed(&record, 1, failed);
    let served = &record.attempts[1];
    telemetry.attempt_begins(&record, 2, &served.provider, &served.model, &served.key_name);
    telemetry.streaming(&record, 2, &served.provider, &served.model, Duration::from_millis(20));
    telemetry.finished(&record);
    drop(in_flight);
    assert_eq!(telemetry.metrics.in_flight(), 0);

    let mut seen = Vec::new();
    for _ in 0..6 {
        let Some(Seen::Event(event)) = watcher.next().await else { panic!("an event is missing after {seen:?}") };
        let json = serde_json::to_value(&*event).unwrap();
        assert_eq!(json["id"], "req_000000010000000000000002");
        seen.push(format!("{} {} {} {}", json["state"], json["provider"], json["attempt"], json["verdict"]));
    }
    assert_eq!(
        seen,
        [
            r#""pending" null null null"#,
            r#""attempt" "alpha" 1 null"#,
            r#""attempt" "alpha" 1 "next_provider""#,
            r#""attempt" "beta" 2 null"#,
            r#""streaming" "beta" 2 null"#,
            r#""success" "beta" 2 null"#,
        ]
    );
    assert!(telemetry.log.flush());
    assert_eq!(page.text().lines().count(), 1);
    assert!(telemetry.metrics.render().contains(r#"orbyt_fallbacks_total{from="alpha",to="beta"} 1"#));
}

#[tokio::test]
async fn however_a_request_fails_it_ends_in_an_error_event_that_says_why() {
    let (telemetry, _page) = telemetry(&[]);
    let mut watcher = telemetry.live.watch();
    let failed =
        RequestRecord { status: 503, ended: Ended::Error, error_code: Some("all_targets_failed".into()), ..record() };
    let broken = RequestRecord { ended: Ended::Broken, ..record() };
    let gone = RequestRecord { status: 0, ended: Ended::ClientGone, usage: None, cost: None, ttft: None, ..record() };
    for (record, state, reason, status) in [
        (failed, "error", "all_targets_failed", Some(503)),
        (broken, "error", "broken", Some(200)),
        (gone, "error", "client_gone", None),
    ] {
        telemetry.finished(&record);
        let Some(Seen::Event(event)) = watcher.next().await else { panic!("no event") };
        let json = serde_json::to_value(&*event).unwrap();
        assert_eq!((json["state"].as_str(), json["reason"].as_str()), (Some(state), Some(reason)));
        assert_eq!(json.get("status").and_then(serde_json::Value::as_u64), status);
    }
}

#[tokio::test]
async fn a_canary_in_any_text_of_others_is_never_shown() {
    const CANARY: &str = "canary-4f1c-canary";
    let (telemetry, page) = telemetry(&[CANARY]);
    let mut watcher = telemetry.live.watch();
    let planted = RequestRecord {
        requested_model: Some(format!("model-{CANARY}").into()),
        model: Some(CANARY.into()),
        route: format!("GET /v1/{CANARY}").into(),
        error_code: Some(CANARY.to_owned()),
        status: 401,
        ended: Ended::Error,
        dropped: vec![CANARY.to_owned()],
        attempts: vec![attempt("beta", CANARY, Some((FaultKind::BadCredentials, Verdict::NextKey)))],
        ..record()
    };
    telemetry.pending(&planted, planted.requested_model.as_ref());
    let first = &planted.attempts[0];
    telemetry.attempt_begins(&planted, 1, &first.provider, &first.model, &first.key_name);
    telemetry.attempt_failed(&planted, 1, &planted.attempts[0]);
    telemetry.finished(&planted);
    let why = format!("Incorrect API key provided: {CANARY}");
    telemetry.state_change(StateChange::KeyDisabled { provider: "beta", key: "beta_01", why: &why });
    telemetry.state_change(StateChange::ConfigRefused { errors: std::slice::from_ref(&why) });
    assert!(telemetry.log.flush());

    for _ in 0..4 {
        let Some(Seen::Event(event)) = watcher.next().await else { panic!("an event is missing") };
        let json = serde_json::to_string(&*event).unwrap();
        assert!(!json.contains(CANARY), "{json}");
    }
    let log = page.text();
    assert_eq!(log.lines().count(), 3);
    assert!(!log.contains(CANARY), "{log}");
    let metrics = telemetry.metrics.render();
    assert!(
        !metrics.contains(CANARY) && metrics.contains(r#"model="other",provider="beta",status="401"} 1"#),
        "{metrics}"
    );
}

#[test]
fn reloads_are_counted_and_dropped_lines_shown() {
    let (telemetry, page) = telemetry(&[]);
    telemetry.state_change(StateChange::ConfigReloaded);
    telemetry
        .state_change(StateChange::ConfigRefused { errors: &["orbyt.toml:3: retry.max: not a number".to_owned()] });
    assert!(telemetry.log.flush());
    let metrics = telemetry.metrics.render();
    for line in [
        r#"orbyt_config_reloads_total{result="ok"} 1"#,
        r#"orbyt_config_reloads_total{result="refused"} 1"#,
        "orbyt_log_lines_dropped_total 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(page.text().contains("orbyt.toml:3: retry.max: not a number"));
}
