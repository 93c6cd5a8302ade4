//! What the limits cost a request: nanoseconds to take and settle a request with its tokens, alone and with all cores at it, and to take
//! and leave a place in a queue. The results are a table on stdout.

use orbyt::domain::{Limit, Measure, Period, Scope};
use orbyt::routing::fair_queue::{Caps, Entered, FairQueue, Wish};
use orbyt::store::memory::MemoryLimits;
use orbyt::store::ports::limits::{LimitStore, Subject};
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
