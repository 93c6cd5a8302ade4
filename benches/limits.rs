//! What the limits cost a request: nanoseconds to take and settle a request with its tokens, alone and with all cores at it, and to take
//! and leave a place in a queue. The results are a table on stdout.

use orbyt::config::Source;
use orbyt::domain::{Limit, Measure, Period, Scope};
use orbyt::provider::Catalog;
use orbyt::proxy::Core;
use orbyt::proxy::measure::Decisions;
use orbyt::routing::fair_queue::{Caps, Entered, FairQueue, Wish};
use orbyt::store::memory::{self, MemoryLimits};
use orbyt::store::ports::limits::{LimitStore, Subject};
use orbyt::telemetry::{Format, Log, Metrics, Redactor, Telemetry};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const REQUESTS: u32 = 300_000;
const ROUNDS: usize = 5;
/// Users that take turns.
const USERS: usize = 10_000;

fn main() -> Result<(), String> {
    println!("| a request | ns |\n|---|--:|");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for (name, threads, scopes) in [
        ("limits of its key", 1, 1),
        ("limits of its key, user and model", 1, 3),
        ("the same, all cores at once", threads, 3),
    ] {
        println!("| {name} | {:.0} |", best(|| limits(threads, scopes))?);
    }
    println!("| a place at a provider with a cap | {:.0} |", best(place)?);
    for (name, model) in [("one target", "one"), ("four targets by speed", "four")] {
        println!("| plan, limits and key of a request: {name} | {:.0} |", best(|| decisions(model))?);
    }
    Ok(())
}

fn best(measure: impl Fn() -> Result<f64, String>) -> Result<f64, String> {
    (0..ROUNDS).map(|_| measure()).try_fold(f64::MAX, |best, nanos| Ok(best.min(nanos?)))
}

/// Takes and settles requests; nanoseconds each.
fn limits(threads: usize, scopes: usize) -> Result<f64, String> {
    let store = MemoryLimits::default();
    let most = |measure| Limit { measure, amount: 1_000_000_000 };
    let wanted: Arc<[Limit]> =
        [Measure::Requests(Period::Minute), Measure::Tokens(Period::Minute), Measure::Concurrency].map(most).into();
    let users: Vec<Arc<str>> = (0..USERS).map(|n| format!("key-{n}").into()).collect();
    let model: Arc<str> = "model".into();
    let begun = Instant::now();
    let work = || {
        (0..REQUESTS as usize).all(|n| {
            let names = [&users[n % 16], &users[n % USERS], &model];
            let of = |(scope, name): (Scope, &Arc<str>)| Subject { scope, name: name.clone(), limits: wanted.clone() };
            let subjects: Vec<Subject> = Scope::ALL.into_iter().zip(names).take(scopes).map(of).collect();
            let (granted, standings) = store.take(subjects, 500, Instant::now());
            black_box(standings);
            granted.map(|lease| store.settle(lease, 300, Instant::now())).is_ok()
        })
    };
    let passed = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().all(|thread| thread.join().is_ok_and(|passed| passed))
    });
    let nanos = begun.elapsed().as_nanos() as f64 / (f64::from(REQUESTS) * threads as f64);
    if passed { Ok(nanos) } else { Err("a request was refused".to_owned()) }
}

/// Four providers with two keys each, a model at one of them and one at all, and limits on keys and models.
fn config() -> String {
    let provider = |id| {
        let key = |n| format!("[[provider.key]]\nsecret = \"{id}-{n}\"\nrpm = 1000000000\ntpm = 1000000000000\n");
        format!(
            "[[provider]]\nid = \"{id}\"\ndialect = \"openai_chat\"\nbase_url = \"http://127.0.0.1:1/v1\"\n{}{}",
            key(1),
            key(2)
        )
    };
    let limits = |scope| {
        format!(
            "[[limits.rule]]\nscope = \"{scope}\"\nrequests_per_minute = 1000000000\ntokens_per_minute = 1000000000000\n"
        )
    };
    let models = "[[model]]\nname = \"one\"\ntargets = [\"a/m\"]\n\
        [[model]]\nname = \"four\"\ntargets = [\"a/m\", \"b/m\", \"c/m\", \"d/m\"]\nstrategy = \"fast\"\n";
    ["a", "b", "c", "d"].map(provider).concat() + models + &limits("key") + &limits("model")
}

/// Decides about a request again and again; nanoseconds each.
fn decisions(model: &str) -> Result<f64, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("orbyt.toml");
    std::fs::write(&file, config()).map_err(|error| error.to_string())?;
    let catalog = Arc::new(Catalog::builtin().map_err(|error| error.to_string())?);
    let source = Source { file: Some(file), process: Vec::new(), dotenv: None, catalog };
    let loaded = orbyt::config::load(&source).map_err(|refused| format!("{:?}", refused.errors))?;
    let redactor = Arc::new(Redactor::default());
    let log = Log::start(log::LevelFilter::Off, Format::Json, Box::new(std::io::sink()), redactor.clone())
        .map_err(|error| error.to_string())?;
    let metrics = Arc::new(Metrics::new("bench").map_err(|error| error.to_string())?);
    let telemetry = Arc::new(Telemetry::new(log, metrics, redactor));
    let core = Core::new(loaded.snapshot, memory::stores(1, 1, 1), telemetry);
    let question = "What does a request cost on its way through a gateway? ".repeat(12);
    let body =
        format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{question}"}}],"max_tokens":400}}"#);
    let decisions = Decisions::new(core, body.into())?;
    let rounds = REQUESTS / 10;
    let begun = Instant::now();
    futures::executor::block_on(async {
        for _ in 0..rounds {
            decisions.decide().await?;
        }
        Ok::<_, String>(())
    })?;
    Ok(begun.elapsed().as_nanos() as f64 / f64::from(rounds))
}

/// Takes and leaves places; nanoseconds each.
fn place() -> Result<f64, String> {
    let mut queue = FairQueue::default();
    let (tenant, model): (Arc<str>, Arc<str>) = ("key".into(), "model".into());
    let caps = Caps { provider: Some(64), model: Some(32) };
    let begun = Instant::now();
    for ticket in 0..u64::from(REQUESTS) {
        let now = Instant::now();
        let deadline = now + Duration::from_secs(30);
        let wish = Wish { ticket, tenant: tenant.clone(), model: model.clone(), deadline };
        if queue.enter(wish, caps, 100, now) != Entered::Held {
            return Err("no place was free".to_owned());
        }
        black_box(queue.end(ticket, now));
    }
    Ok(begun.elapsed().as_nanos() as f64 / f64::from(REQUESTS))
}
