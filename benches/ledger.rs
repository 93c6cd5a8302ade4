//! What the ledger costs a request in the data plane: microseconds to take its row down in the spool, alone and with all cores at it, and
//! what the row's parts are: putting it into bytes, and handing these to the system. The results are a table on stdout.

use orbyt::domain::decision::{Candidate, Facts};
use orbyt::domain::{CacheUse, Decision, Ended, LedgerAttempt, LedgerRow, RequestId, Usage};
use orbyt::store::file::spool::FileSpool;
use orbyt::store::ports::ledger::Spool;
use std::borrow::Cow;
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

const ROWS: u64 = 100_000;
const ROUNDS: usize = 5;

fn main() -> Result<(), String> {
    println!("| a request | µs |\n|---|--:|");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for (name, threads, targets) in [
        ("taken down: one target", 1, 1),
        ("taken down: a plan of eight targets", 1, 8),
        ("one target, all cores at once", threads, 1),
    ] {
        println!("| {name} | {:.2} |", best(|| append(threads, targets))?);
    }
    println!("| the bare write of 300 bytes to a file | {:.2} |", best(bare_write)?);
    Ok(())
}

fn best(measure: impl Fn() -> Result<Duration, String>) -> Result<f64, String> {
    let micros = |took: Duration| took.as_secs_f64() * 1e6 / ROWS as f64;
    (0..ROUNDS).map(|_| measure()).try_fold(f64::MAX, |best, took| Ok(best.min(micros(took?))))
}

/// The time that `ROWS` rows take, in all threads together.
fn append(threads: usize, targets: u64) -> Result<Duration, String> {
    let folder = std::env::temp_dir().join(format!("orbyt-bench-ledger-{}", std::process::id()));
    let spool = FileSpool::open(&folder, "bench", 1 << 40).map_err(|error| error.to_string())?;
    let decision = decision(targets);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads as u64 {
            let (spool, decision) = (&spool, &decision);
            scope.spawn(move || {
                (0..ROWS / threads as u64).for_each(|number| spool.append(&row(thread, number, decision)))
            });
        }
    });
    let took = begun.elapsed();
    let state = spool.state();
    std::fs::remove_dir_all(&folder).map_err(|error| error.to_string())?;
    if state.waiting > 0 || state.lost > 0 { Err("the disk is full".to_owned()) } else { Ok(took) }
}

fn bare_write() -> Result<Duration, String> {
    let told = |error: std::io::Error| error.to_string();
    let path = std::env::temp_dir().join(format!("orbyt-bench-write-{}", std::process::id()));
    let mut file = File::create(&path).map_err(told)?;
    let begun = Instant::now();
    for _ in 0..ROWS {
        file.write_all(&[7; 300]).map_err(told)?;
    }
    let took = begun.elapsed();
    std::fs::remove_file(&path).map_err(told)?;
    Ok(took)
}

fn decision(targets: u64) -> Decision {
    let candidate = |number: u64| Candidate {
        provider: format!("provider-{number}").into(),
        model: "a-model-of-a-usual-name".into(),
        leg: 0,
        refusal: None,
        facts: Facts {
            price_picos: Some(123_456_789),
            first_output_us: Some(250_000),
            rate_milli: Some(80_000),
            ..Facts::UNKNOWN
        },
    };
    Decision {
        candidates: (0..targets).map(candidate).collect(),
        order: (0..targets as u16).collect(),
        ..Decision::default()
    }
}

fn row(thread: u64, number: u64, decision: &Decision) -> LedgerRow<'_> {
    let attempt = LedgerAttempt {
        provider: "provider-0".into(),
        model: "a-model-of-a-usual-name".into(),
        key_name: "provider-0_01".into(),
        started_us: 30,
        took_us: 800_000,
        status: Some(200),
        reason: None,
        message: None,
        verdict: "ok".into(),
    };
    LedgerRow {
        id: RequestId::of(thread as u32, number),
        revision: 0,
        arrived_unix_ms: 1_700_000_000_000 + number,
        org: "org_default".into(),
        project: "prj_default".into(),
        key_id: "key_0123456789abcdef01234567".into(),
        key_name: "application".into(),
        owner: Some("somebody@example.com".into()),
        workflow: Some("support".into()),
        user: Some("user-4711".into()),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
        session_id: None,
        dialect: "openai_chat".into(),
        route: "POST /v1/chat/completions".into(),
        requested_model: Some("provider-0/a-model-of-a-usual-name".into()),
        provider: Some("provider-0".into()),
        model: Some("a-model-of-a-usual-name".into()),
        strategy: "order".into(),
        stream: true,
        status: 200,
        ended: Ended::Complete,
        error_code: None,
        attempts: vec![attempt],
        fallback: false,
        dropped: Cow::Borrowed(&[]),
        usage: Some(Usage { prompt_tokens: 1200, completion_tokens: 300, total_tokens: 1500, ..Usage::default() }),
        cost_picos: Some(1_234_567_890),
        hedge_cost_picos: None,
        embedding_cost_picos: None,
        estimated: false,
        byok: false,
        cache: CacheUse::Bypass,
        similarity_ppm: None,
        ttft_us: Some(250_000),
        latency_us: 800_100,
        overhead_us: 100,
        queued_us: None,
        bytes_in: 5000,
        bytes_out: 20_000,
        decision: Some(Cow::Borrowed(decision)),
    }
}
