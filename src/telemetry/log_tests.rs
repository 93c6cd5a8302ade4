//! Tests of what the log writes.

use super::super::tests::{Page, record};
use super::*;
use crate::domain::{RequestId, Secret};

fn log(level: LevelFilter, format: Format) -> (Log, Page) {
    let page = Page::default();
    (Log::start(level, format, Box::new(page.clone()), Arc::default()).unwrap(), page)
}

fn written(log: &Log, page: &Page) -> String {
    assert!(log.flush());
    page.text()
}

const HUMAN: Format = Format::Human { colour: false };

#[test]
fn a_request_is_one_json_line_with_the_fields_that_users_rely_on() {
    let (log, page) = log(LevelFilter::Info, Format::Json);
    log.request(&record());
    let line = written(&log, &page);
    let start = concat!(
        r#"{"time":"2026-11-02T09:30:00.125Z","level":"info","event":"request","request_id":"req_000000010000000000000002","#,
        r#""model":"beta-1","provider":"beta","status":200,"latency_ms":125.250,"ttft_ms":20.500,"prompt_tokens":12,"#,
        r#""completion_tokens":34,"cost_usd":0.00000015,"cache":"bypass","attempts":2,"fallback":true,"ended":"complete","#,
        r#""key_name":"team","route":"POST /v1/chat/completions","stream":true,"requested_model":"alpha-large","#,
        r#""overhead_ms":0.042,"dropped":["seed"],"tried":[{"provider":"alpha","#,
    );
    assert!(line.starts_with(start), "{line}");
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["tried"][0]["reason"], "rate_limited");
    assert_eq!(value["tried"][1]["verdict"], "ok");
}

#[test]
fn a_request_that_got_nowhere_has_the_same_fields_with_nulls() {
    let (log, page) = log(LevelFilter::Info, Format::Json);
    let refused = RequestRecord {
        key_name: None,
        requested_model: None,
        provider: None,
        model: None,
        status: 401,
        attempts: vec![],
        fallback: false,
        dropped: vec![],
        usage: None,
        cost: None,
        ttft: None,
        ended: Ended::Error,
        error_code: Some("invalid_api_key".into()),
        ..record()
    };
    log.request(&refused);
    let value: serde_json::Value = serde_json::from_str(&written(&log, &page)).unwrap();
    for absent in ["model", "provider", "ttft_ms", "prompt_tokens", "completion_tokens", "cost_usd", "key_name"] {
        assert_eq!(value.get(absent), Some(&serde_json::Value::Null), "{absent}");
    }
    assert_eq!(value["error_code"], "invalid_api_key");
    assert!(value.get("tried").is_none());
}

#[test]
fn people_read_the_same_fields_without_the_absent_ones() {
    let (log, page) = log(LevelFilter::Info, HUMAN);
    log.request(&RequestRecord { ttft: None, ..record() });
    let line = written(&log, &page);
    let start = "09:30:00.125 INFO  request request_id=req_000000010000000000000002 model=beta-1 provider=beta status=200 \
                 latency_ms=125.250 prompt_tokens=12";
    assert!(line.starts_with(start), "{line}");
    assert!(line.contains("route=\"POST /v1/chat/completions\""), "{line}");
}

#[test]
fn what_failed_a_client_is_a_warning() {
    let (log, page) = log(LevelFilter::Warn, Format::Json);
    log.request(&record());
    log.request(&RequestRecord { status: 404, ended: Ended::Error, ..record() });
    log.request(&RequestRecord { status: 503, ended: Ended::Error, ..record() });
    log.request(&RequestRecord { ended: Ended::Broken, ..record() });
    let lines = written(&log, &page);
    assert_eq!(lines.lines().count(), 2);
    assert!(lines.lines().all(|line| line.contains(r#""level":"warn""#)), "{lines}");
}

#[test]
fn state_changes_read_as_documented() {
    let (log, page) = log(LevelFilter::Info, HUMAN);
    let rest = Duration::from_secs(30);
    let request = RequestId::of(0, 7);
    for change in [
        StateChange::ProviderUnhealthy { provider: "openai", model: "m", why: "5 failures" },
        StateChange::ProviderRecovered { provider: "openai", model: "m" },
        StateChange::Failover {
            request,
            from: "openai",
            to: "anthropic",
            reason: "rate_limited",
            after: Duration::from_millis(12),
        },
        StateChange::KeyCooldown { provider: "openai", key: "openai_01", rest, why: "rate_limited" },
        StateChange::KeyExhausted { provider: "openai", key: "openai_01", rest: rest * 4, why: "no credit" },
        StateChange::KeyDisabled { provider: "openai", key: "openai_01", why: "wrong key" },
        StateChange::KeyIdle { provider: "openai", key: "openai_01" },
        StateChange::ConfigReloaded,
    ] {
        log.state_change(&change);
    }
    let lines: Vec<String> = written(&log, &page).lines().map(|line| line[13..].to_owned()).collect();
    assert_eq!(
        lines,
        [
            "WARN  provider=openai status=unhealthy model=m why=\"5 failures\"",
            "INFO  provider=openai status=recovered model=m",
            "INFO  failover from=openai to=anthropic reason=rate_limited latency=12ms request_id=req_000000000000000000000007",
            "INFO  provider=openai key=openai_01 state=cooldown for=30s why=rate_limited",
            "WARN  provider=openai key=openai_01 state=exhausted for=120s why=\"no credit\"",
            "ERROR provider=openai key=openai_01 state=disabled why=\"wrong key\"",
            "INFO  provider=openai key=openai_01 state=idle",
            "INFO  config=reloaded",
        ]
    );
}

#[test]
fn a_state_change_in_json_has_fields_and_words() {
    let (log, page) = log(LevelFilter::Info, Format::Json);
    log.state_change(&StateChange::ProviderUnhealthy { provider: "openai", model: "m", why: "a \"quoted\" reason" });
    let value: serde_json::Value = serde_json::from_str(&written(&log, &page)).unwrap();
    assert_eq!(value["event"], "provider");
    assert_eq!(value["status"], "unhealthy");
    assert_eq!(value["message"], r#"provider=openai status=unhealthy model=m why="a \"quoted\" reason""#);
}

fn logged(log: &Log, level: Level, target: &str, message: fmt::Arguments<'_>) {
    let record = log::Record::builder().level(level).target(target).args(message).build();
    log::Log::log(log, &record);
}

#[test]
fn records_of_other_crates_pass_redaction_and_lose_their_chatter() {
    let (log, page) = log(LevelFilter::Info, HUMAN);
    log.shared.redactor.register(&[Secret::new("canary-canary")]);
    logged(&log, Level::Error, "pingora_proxy", format_args!("Fail to proxy: Downstream ReadError context: x"));
    logged(&log, Level::Error, "pingora_proxy", format_args!("Fail to proxy: Upstream ConnectRefused, status: 502"));
    logged(&log, Level::Info, "pingora_core::server", format_args!("Bootstrap starting"));
    logged(&log, Level::Debug, "orbyt::proxy", format_args!("too fine"));
    logged(&log, Level::Warn, "pingora_core::server", format_args!("odd: {}\nsecond", "canary-canary"));
    logged(&log, Level::Info, "orbyt::wiring", format_args!("listening"));
    logged(&log, Level::Info, "orbyter", format_args!("not ours"));
    let lines: Vec<String> = written(&log, &page).lines().map(|line| line[13..].to_owned()).collect();
    assert_eq!(lines, ["WARN  target=pingora_core::server odd: [redacted] | second", "INFO  listening"]);
}

#[test]
fn debugging_shows_the_noise_but_never_what_other_crates_trace() {
    let (log, page) = log(LevelFilter::Info, HUMAN);
    log.set_level(LevelFilter::Trace);
    assert_eq!(log.level(), LevelFilter::Trace);
    logged(&log, Level::Error, "pingora_proxy", format_args!("Fail to proxy: Downstream ReadError"));
    logged(&log, Level::Debug, "h2::codec", format_args!("a frame with a body"));
    logged(&log, Level::Trace, "orbyt::proxy", format_args!("fine"));
    let lines = written(&log, &page);
    assert_eq!(lines.lines().count(), 2);
    assert!(lines.contains("DEBUG target=pingora_proxy Fail to proxy") && lines.contains("TRACE fine"), "{lines}");
}

#[test]
fn an_endless_message_is_cut_at_a_character() {
    let (log, page) = log(LevelFilter::Info, Format::Json);
    logged(&log, Level::Info, "orbyt", format_args!("{}", "é".repeat(100_000)));
    let value: serde_json::Value = serde_json::from_str(&written(&log, &page)).unwrap();
    assert_eq!(value["message"].as_str().map(str::len), Some(LONGEST_MESSAGE));
}

#[test]
fn what_logs_while_it_is_being_logged_spoils_no_line() {
    struct Chatty<'a>(&'a Log);
    impl fmt::Display for Chatty<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            logged(self.0, Level::Info, "orbyt", format_args!("inner"));
            f.write_str("outer")
        }
    }
    let (log, page) = log(LevelFilter::Info, HUMAN);
    logged(&log, Level::Info, "orbyt", format_args!("{}", Chatty(&log)));
    let lines: Vec<String> = written(&log, &page).lines().map(|line| line[13..].to_owned()).collect();
    assert_eq!(lines, ["INFO  inner", "INFO  outer"]);
}
