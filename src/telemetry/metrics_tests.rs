//! Tests of what `/metrics` shows.

use super::super::tests::{attempt, record};
use super::*;
use crate::domain::{FaultKind, Usage, Verdict};
use crate::telemetry::BreakerState;

fn metrics() -> Metrics {
    Metrics::new("1.2.3").unwrap()
}

#[track_caller]
fn assert_shows(metrics: &Metrics, lines: &[&str]) {
    let page = metrics.render();
    for line in lines {
        assert!(page.lines().any(|shown| shown == *line), "{line:?} is not in\n{page}");
    }
}

#[test]
fn a_request_is_counted_with_its_attempts_tokens_and_times() {
    let metrics = metrics();
    let usage = Usage { prompt_tokens: 12, completion_tokens: 34, cached_tokens: Some(5), ..Usage::default() };
    for _ in 0..2 {
        metrics.observe(&RequestRecord { usage: Some(usage), ..record() });
    }
    assert_shows(
        &metrics,
        &[
            r#"orbyt_requests_total{model="beta-1",provider="beta",status="200"} 2"#,
            r#"orbyt_requests_ended_total{ended="complete"} 2"#,
            r#"orbyt_requests_ended_total{ended="broken"} 0"#,
            r#"orbyt_attempts_total{provider="alpha",reason="rate_limited",verdict="next_provider"} 2"#,
            r#"orbyt_attempts_total{provider="beta",reason="none",verdict="ok"} 2"#,
            r#"orbyt_fallbacks_total{from="alpha",to="beta"} 2"#,
            r#"orbyt_tokens_total{kind="prompt",model="beta-1",provider="beta"} 24"#,
            r#"orbyt_tokens_total{kind="cached",model="beta-1",provider="beta"} 10"#,
            r#"orbyt_cost_usd_total{model="beta-1",provider="beta"} 0.0000003"#,
            r#"orbyt_request_duration_seconds_bucket{model="beta-1",provider="beta",le="0.08"} 0"#,
            r#"orbyt_request_duration_seconds_bucket{model="beta-1",provider="beta",le="0.16"} 2"#,
            r#"orbyt_time_to_first_token_seconds_count{model="beta-1",provider="beta"} 2"#,
            r#"orbyt_overhead_seconds_bucket{le="0.00002"} 0"#,
            r#"orbyt_overhead_seconds_bucket{le="0.00005"} 2"#,
            r#"orbyt_build_info{version="1.2.3"} 1"#,
        ],
    );
}

#[test]
fn names_that_clients_make_up_share_one_label() {
    let metrics = metrics();
    metrics.know_models(["listed".into()]);
    let unknown =
        |model: &str| RequestRecord { model: Some(model.into()), status: 404, ended: Ended::Error, ..record() };
    for number in 0..1_000 {
        metrics.observe(&unknown(&format!("made-up-{number}")));
    }
    metrics.observe(&unknown("listed"));
    metrics.observe(&RequestRecord { model: Some("served".into()), ..record() });
    metrics.observe(&unknown("served"));
    assert_shows(
        &metrics,
        &[
            r#"orbyt_requests_total{model="other",provider="beta",status="404"} 1000"#,
            r#"orbyt_requests_total{model="listed",provider="beta",status="404"} 1"#,
            r#"orbyt_requests_total{model="served",provider="beta",status="200"} 1"#,
            r#"orbyt_requests_total{model="served",provider="beta",status="404"} 1"#,
        ],
    );
}

#[test]
fn even_served_models_have_only_so_many_labels() {
    let metrics = metrics();
    for number in 0..2_000 {
        metrics.observe(&RequestRecord { model: Some(format!("served-{number}").into()), ..record() });
    }
    let page = metrics.render();
    let labelled = page.lines().filter(|line| line.starts_with("orbyt_requests_total{")).count();
    assert!(labelled <= 301, "{labelled} models");
    assert!(page.contains(r#"orbyt_requests_total{model="other",provider="beta",status="200"} 17"#), "{page}");
}

#[test]
fn a_request_that_no_provider_saw_is_counted_too() {
    let metrics = metrics();
    let gone = RequestRecord {
        provider: None,
        model: None,
        status: 0,
        ended: Ended::ClientGone,
        attempts: vec![],
        ..record()
    };
    metrics.observe(&RequestRecord { usage: None, cost: None, ..gone });
    assert_shows(
        &metrics,
        &[
            r#"orbyt_requests_total{model="none",provider="none",status="none"} 1"#,
            r#"orbyt_requests_ended_total{ended="client_gone"} 1"#,
        ],
    );
}

#[test]
fn trying_the_same_target_again_is_no_fallback_and_another_model_is() {
    let metrics = metrics();
    let retry = Some((FaultKind::ServerError, Verdict::RetrySame { after: std::time::Duration::ZERO }));
    let next = Some((FaultKind::ContextLength, Verdict::NextModel));
    let attempts = vec![attempt("a", "m", retry), attempt("a", "m", next), attempt("a", "n", None)];
    metrics.observe(&RequestRecord { attempts, ..record() });
    assert_shows(&metrics, &[r#"orbyt_fallbacks_total{from="a",to="a"} 1"#]);
}

#[test]
fn states_are_those_of_the_moment() {
    let metrics = metrics();
    metrics.know_models(["m".into()]);
    let state = Arc::new(parking_lot::Mutex::new(PoolState {
        keys: vec![("a".into(), "idle"), ("a".into(), "idle"), ("b".into(), "cooldown")],
        breakers: vec![
            ("a".into(), "m".into(), BreakerState::Open),
            ("a".into(), "made up, and fails".into(), BreakerState::Open),
            ("a".into(), "made up".into(), BreakerState::Closed),
        ],
        queues: vec![("a".into(), 3)],
    }));
    let source = Arc::clone(&state);
    metrics.set_pool_source(move || source.lock().clone());
    assert_shows(
        &metrics,
        &[
            r#"orbyt_keys{provider="a",state="idle"} 2"#,
            r#"orbyt_keys{provider="b",state="cooldown"} 1"#,
            r#"orbyt_breaker_state{model="m",provider="a"} 2"#,
            r#"orbyt_queue_depth{provider="a"} 3"#,
            r#"orbyt_breaker_state{model="made up, and fails",provider="a"} 2"#,
            r#"orbyt_breaker_state{model="other",provider="a"} 0"#,
        ],
    );
    *state.lock() = PoolState { keys: vec![("a".into(), "disabled")], ..PoolState::default() };
    let page = metrics.render();
    assert!(page.contains(r#"orbyt_keys{provider="a",state="disabled"} 1"#), "{page}");
    assert!(!page.contains("cooldown") && !page.contains("orbyt_breaker_state{"), "{page}");
}

#[test]
fn gauges_and_counters_follow_what_they_are_told() {
    let metrics = metrics();
    let dropped = Arc::new(std::sync::atomic::AtomicU64::new(3));
    let source = Arc::clone(&dropped);
    metrics.set_log_source(move || source.load(std::sync::atomic::Ordering::Relaxed));
    let (one, _two) = (metrics.arrived(), metrics.arrived());
    metrics.limited("global");
    assert_shows(
        &metrics,
        &["orbyt_requests_in_flight 2", r#"orbyt_limited_total{limit="global"} 1"#, "orbyt_log_lines_dropped_total 3"],
    );
    drop(one);
    dropped.store(5, std::sync::atomic::Ordering::Relaxed);
    assert_shows(&metrics, &["orbyt_requests_in_flight 1", "orbyt_log_lines_dropped_total 5"]);
}

#[test]
fn many_threads_lose_no_count() {
    let metrics = metrics();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|_| metrics.observe(&record())));
        }
    });
    assert_shows(
        &metrics,
        &[
            r#"orbyt_requests_total{model="beta-1",provider="beta",status="200"} 4000"#,
            r#"orbyt_attempts_total{provider="beta",reason="none",verdict="ok"} 4000"#,
        ],
    );
}

#[test]
fn the_names_and_buckets_are_opentelemetrys() {
    let metrics = metrics();
    metrics.know_providers([("beta".into(), "beta_ai".into())]);
    metrics.observe(&record());
    metrics.observe(&RequestRecord { stream: false, status: 503, ended: Ended::Error, usage: None, ..record() });
    metrics.observe(&RequestRecord { ended: Ended::Broken, usage: None, ..record() });
    let labels = r#"gen_ai_operation_name="chat",gen_ai_provider_name="beta_ai",gen_ai_request_model="beta-1""#;
    let duration = "gen_ai_server_request_duration_seconds";
    let per_token = "gen_ai_server_time_per_output_token_seconds";
    let lines = [
        format!(r#"gen_ai_client_token_usage_bucket{{{labels},gen_ai_token_type="input",le="4"}} 0"#),
        format!(r#"gen_ai_client_token_usage_bucket{{{labels},gen_ai_token_type="input",le="16"}} 1"#),
        format!(r#"gen_ai_client_token_usage_bucket{{{labels},gen_ai_token_type="output",le="67108864"}} 1"#),
        format!(r#"gen_ai_client_token_usage_sum{{{labels},gen_ai_token_type="output"}} 34"#),
        format!(r#"{duration}_bucket{{error_type="",{labels},le="0.08"}} 0"#),
        format!(r#"{duration}_bucket{{error_type="",{labels},le="0.16"}} 1"#),
        format!(r#"{duration}_bucket{{error_type="",{labels},le="81.92"}} 1"#),
        format!(r#"{duration}_count{{error_type="503",{labels}}} 1"#),
        format!(r#"{duration}_count{{error_type="broken",{labels}}} 1"#),
        // Only what was streamed and whole has a first token and a pace: (125.25 - 20.5) ms / 33.
        format!(r#"gen_ai_server_time_to_first_token_seconds_bucket{{{labels},le="0.04"}} 1"#),
        format!(r#"gen_ai_server_time_to_first_token_seconds_count{{{labels}}} 1"#),
        format!(r#"{per_token}_bucket{{{labels},le="0.01"}} 1"#),
        format!(r#"{per_token}_count{{{labels}}} 1"#),
    ];
    assert_shows(&metrics, &lines.each_ref().map(String::as_str));
}

#[test]
fn even_breakers_that_are_open_have_only_so_many_labels() {
    let metrics = metrics();
    let breakers = (0..1_000).map(|number| ("a".into(), format!("m{number}").into(), BreakerState::Open)).collect();
    let state = PoolState { breakers, ..PoolState::default() };
    metrics.set_pool_source(move || state.clone());
    let page = metrics.render();
    let labelled = page.lines().filter(|line| line.starts_with("orbyt_breaker_state{")).count();
    assert_eq!(labelled, 301);
    assert!(page.contains(r#"orbyt_breaker_state{model="other",provider="a"} 2"#), "{page}");
}

#[test]
fn what_routing_does_is_counted() {
    let metrics = metrics();
    metrics.retry_refused();
    metrics.breaker_changed("a", "open");
    metrics.probed("a", true);
    metrics.probed("a", false);
    assert_shows(
        &metrics,
        &[
            "orbyt_retries_refused_total 1",
            r#"orbyt_breaker_changes_total{provider="a",to="open"} 1"#,
            r#"orbyt_probes_total{provider="a",result="up"} 1"#,
            r#"orbyt_probes_total{provider="a",result="down"} 1"#,
        ],
    );
}
