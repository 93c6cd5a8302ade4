//! What the limits cost a request when nodes share them: microseconds to take them over a Redis on this machine, one request after the other
//! and many at once. The results are a table on stdout. Needs `redis-server`.

use orbyt::domain::{Limit, Measure, Period, Scope, Secret};
use orbyt::store::ports::limits::{LimitStore, Subject};
use orbyt::store::redis::{Redis, Settings};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() -> Result<(), String> {
    let server = Server::start().ok_or("redis-server does not start: is it installed?")?;
    let (alone, many) = over_redis(&server)?;
    println!("| limits of a key, a user and a model over Redis | µs |\n|---|--:|");
    println!("| what a request waits, alone | {:.0} |", alone / 1e3);
    println!("| time a request, {AT_ONCE} at a time | {:.1} |", many / 1e3);
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
