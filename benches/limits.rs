//! What the limits cost a request: nanoseconds to take and settle a request with its tokens, alone and with all cores at it, and to take
//! and leave a place in a queue. The results are a table on stdout.

use orbyt::domain::{Limit, Measure, Period, Scope, Secret};
use orbyt::routing::fair_queue::{Caps, Entered, FairQueue, Wish};
use orbyt::store::memory::MemoryLimits;
use orbyt::store::ports::limits::{LimitStore, Subject};
use orbyt::store::redis::{Redis, Settings};
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
    match Server::start() {
        Some(server) => {
            let (alone, many) = over_redis(&server)?;
            println!(
                "| limits of its key, user and model over Redis on this machine: wait of a request, alone | {alone:.0} |"
            );
            println!("| the same, {AT_ONCE} at a time: time a request | {many:.0} |");
        }
        None => println!("| over Redis: redis-server is not installed | |"),
    }
    Ok(())
}

/// Requests that ask Redis at the same time.
const AT_ONCE: usize = 64;

/// `redis-server` on a port of its own; it ends with the bench.
struct Server {
    child: std::process::Child,
    port: u16,
}

impl Server {
    fn start() -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let arguments = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"];
        let mut command = std::process::Command::new("redis-server");
        let child = command.args(arguments).arg(port.to_string()).stdout(std::process::Stdio::null()).spawn().ok()?;
        let server = Self { child, port };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begun.elapsed() > Duration::from_secs(10) {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes and settles requests over Redis; nanoseconds each, one after the other and many at once.
fn over_redis(server: &Server) -> Result<(f64, f64), String> {
    const REQUESTS: usize = 20_000;
    let url = Secret::new(format!("redis://127.0.0.1:{}", server.port));
    let (timeout, node_ttl) = (Duration::from_secs(1), Duration::from_secs(10));
    let redis = Redis::start(Settings { url, ca: None, timeout, node_ttl }, |event| println!("{event:?}"))?;
    let store = Arc::new(redis.limits());
    let most = |measure| Limit { measure, amount: 1_000_000_000 };
    let wanted: Arc<[Limit]> =
        [Measure::Requests(Period::Minute), Measure::Tokens(Period::Minute), Measure::Concurrency].map(most).into();
    let subjects = move |n: usize| -> Vec<Subject> {
        let subject = |scope: Scope| Subject { scope, name: format!("{}", n % 16).into(), limits: wanted.clone() };
        Scope::ALL.map(subject).into()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let run = |tasks: usize| {
        let begun = Instant::now();
        let work = (0..tasks).map(|task| {
            let (store, subjects) = (store.clone(), subjects.clone());
            async move {
                let mut passed = 0;
                for n in (task..REQUESTS).step_by(tasks) {
                    if let (Ok(lease), _) = store.acquire(subjects(n), 500, Instant::now()).await {
                        store.settle(lease, 300, Instant::now());
                        passed += 1;
                    }
                }
                passed
            }
        });
        let work: Vec<_> = work.map(|task| runtime.spawn(task)).collect();
        let passed: usize = runtime.block_on(futures::future::join_all(work)).into_iter().flatten().sum();
        (passed, begun.elapsed().as_nanos() as f64 / REQUESTS as f64)
    };
    let ((alone, alone_nanos), (many, many_nanos)) = (run(1), run(AT_ONCE));
    let status = redis.status();
    if alone + many == 2 * REQUESTS && status.late + status.failed == 0 {
        Ok((alone_nanos, many_nanos))
    } else {
        Err(format!("{alone} and {many} of {REQUESTS} requests passed: {status:?}"))
    }
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
