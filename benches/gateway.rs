//! Measures Orbyt against a bare Pingora pass-through proxy before the same mock provider; the results are a table on stdout.
//!
//! ```text
//!   load (core 1) ──> bare Pingora (core 0) ──┐
//!        └──────────> Orbyt        (core 0) ──┴──> mock provider (core 2, else core 1)
//! ```
//!
//! The rounds are interleaved, so that a machine that slows down does so for both. CPU a request comes first: on two cores rates
//! are noisy, and the load generator may be what is slow. `--quick` makes the rounds short, `--soak` sends a million requests more,
//! `--latency` measures latency alone, at several rates, `--pairs` a stream of every client's format from every provider's, `--console` what
//! people who watch in DevTools do to the latency of requests.

#[path = "gateway/bare.rs"]
mod bare;
#[path = "gateway/console.rs"]
mod console;
#[path = "gateway/load.rs"]
mod load;
#[path = "gateway/mock.rs"]
mod mock;
#[path = "gateway/pairs.rs"]
mod pairs;
#[path = "gateway/process.rs"]
mod process;
#[path = "gateway/streams.rs"]
mod streams;

use load::{Client, Load};
use process::Process;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const KEY: &str = "sk-or-v1-bench";
/// No part of a model's name: that would be redacted in every line of the log.
const PROVIDER_KEY: &str = "sk-0123456789abcdef0123456789";
const CONNECTIONS: usize = 64;
const STREAMS: usize = 3_000;
/// Authentication, limits and the log are on, as in service; the limits are too high to be met. What is kept on disk stands behind it.
const COMMON: &str = r#"
[server]
workers = 1
[limits]
global_per_second = 10000000
address_per_second = 10000000
[telemetry]
log_level = "info"
log_format = "json"
"#;

/// Behind [`COMMON`]: nothing is kept of a request, in no database and in no ring.
const IN_MEMORY: &str = r#"ledger = false
ring_bytes = "off"
"#;

/// Behind [`COMMON`]: the ledger, and no ring of payloads.
const NO_RING: &str = "ring_bytes = \"off\"\n";

/// What the model costs: without a price a budget lets nothing pass.
const PRICED: &str = r#"
[[provider]]
id = "openai"
[[provider.model]]
id = "bench"
input = "0.15"
output = "0.60"
"#;

/// Everything is on that a request can pass, in memory: a strategy over two targets, limits by key and model, a cap with its queue,
/// limits of provider keys, the cache, hedging, explanations.
const EVERYTHING: &str = r#"
[routing]
strategy = "fast"
[[provider]]
id = "openai"
max_concurrent = 1000
[[provider.key]]
secret = "sk-a123456789abcdef0123456789"
rpm = 100000000
tpm = 1000000000000
[[provider.key]]
secret = "sk-b123456789abcdef0123456789"
rpm = 100000000
tpm = 1000000000000
[[provider.model]]
id = "bench"
input = "0.15"
output = "0.60"
[[provider]]
id = "spare"
[[provider.model]]
id = "bench"
input = "0.20"
output = "0.80"
[[model]]
name = "everything"
targets = ["openai/bench", "spare/bench"]
[[limits.rule]]
scope = "key"
requests_per_minute = 1000000000
tokens_per_minute = 1000000000000
concurrency = 10000
[[limits.rule]]
scope = "model"
requests_per_minute = 1000000000
tokens_per_minute = 1000000000000
[cache]
backend = "memory"
[hedging]
enabled = true
min_delay = "5s"
"#;

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["mock", port] => mock_provider(port),
        ["viewers", console, folder] => runtime()?.block_on(console::watch(console, Path::new(folder))),
        ["bare", listen, upstream] => bare::serve(listen, upstream.parse().map_err(|_| "not an address")?),
        _ => {
            let quick = arguments.iter().any(|argument| argument == "--quick");
            let soak = arguments.iter().any(|argument| argument == "--soak");
            let latency = arguments.iter().any(|argument| argument == "--latency");
            if cfg!(debug_assertions) {
                return Err("build it with optimisation: cargo bench --bench gateway".to_owned());
            }
            process::pin_myself(1);
            if arguments.iter().any(|argument| argument == "--pairs") {
                return runtime()?.block_on(pairs::measure(quick));
            }
            if arguments.iter().any(|argument| argument == "--console") {
                return runtime()?.block_on(console::measure(quick));
            }
            if latency {
                return runtime()?.block_on(only_latency());
            }
            runtime()?.block_on(measure(quick, soak))
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())
}

fn mock_provider(port: &str) -> Result<(), String> {
    let serve = async {
        let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
        mock::serve(listener).await
    };
    runtime()?.block_on(serve).map_err(|error| error.to_string())
}

/// A gateway under measurement.
struct Gateway {
    process: Process,
    listen: SocketAddr,
    console: SocketAddr,
    /// What opens it.
    key: String,
}

/// The processes under measurement.
struct Bench {
    folder: PathBuf,
    mock: SocketAddr,
    bare: (Process, SocketAddr),
    orbyt: Gateway,
    installed: Gateway,
    booked: Gateway,
    everything: Gateway,
    trusted: Gateway,
    shown: Gateway,
    _mock: Process,
}

impl Bench {
    async fn start() -> Result<Self, String> {
        let (mock_process, mock) = start_mock()?;
        let bare = start_bare(mock)?;
        let folder = std::env::temp_dir().join(format!("orbyt-bench-{}", std::process::id()));
        let start = |name: &str, config: &[&str], key| start_orbyt(&folder.join(name), mock, &config.concat(), key);
        let orbyt = start("plain", &[COMMON, IN_MEMORY], Key::Configured)?;
        let installed = start("installed", &[COMMON], Key::Configured)?;
        let booked = start("booked", &[COMMON, NO_RING, PRICED], Key::Stored)?;
        let everything = start("everything", &[COMMON, IN_MEMORY, EVERYTHING], Key::Configured)?;
        let trusted = start("trusted", &[COMMON, NO_RING, EVERYTHING], Key::Stored)?;
        let shown = start("shown", &[COMMON, EVERYTHING], Key::Stored)?;
        let bench =
            Self { folder, mock, bare, orbyt, installed, booked, everything, trusted, shown, _mock: mock_process };
        for address in [bench.mock, bench.bare.1] {
            first_answer(address, KEY, Instant::now()).await?;
        }
        let Self { orbyt, installed, booked, everything, trusted, shown, .. } = &bench;
        for gateway in [orbyt, installed, booked, everything, trusted, shown] {
            first_answer(gateway.listen, &gateway.key, Instant::now()).await?;
        }
        Ok(bench)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // What is left in the folder for temporary files harms nobody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_address() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map_err(|error| error.to_string())
}

/// The core of whatever is neither measured nor sends the load: one of its own, where there are three.
fn spare_core() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores > 2 { 2 } else { cores - 1 }
}

fn start_mock() -> Result<(Process, SocketAddr), String> {
    let me = std::env::current_exe().map_err(|error| error.to_string())?;
    let listen = free_address()?;
    Ok((Process::start(spare_core(), &me, &["mock", &listen.port().to_string()], &[])?, listen))
}

fn start_bare(mock: SocketAddr) -> Result<(Process, SocketAddr), String> {
    let me = std::env::current_exe().map_err(|error| error.to_string())?;
    let listen = free_address()?;
    Ok((Process::start(0, &me, &["bare", &listen.to_string(), &mock.to_string()], &[])?, listen))
}

/// Where a gateway knows its client's key from.
enum Key {
    /// From its configuration.
    Configured,
    /// From its database, with a budget that is never reached.
    Stored,
}

fn start_orbyt(folder: &Path, mock: SocketAddr, config_text: &str, key: Key) -> Result<Gateway, String> {
    let (listen, console) = (free_address()?, free_address()?);
    // Not beside what is written while it runs: the configuration's folder is watched.
    let data = folder.join("data");
    std::fs::create_dir_all(&data).map_err(|error| error.to_string())?;
    let config = folder.join("orbyt.toml");
    std::fs::write(&config, config_text).map_err(|error| error.to_string())?;
    let environment = [
        ("HOME", folder.display().to_string()),
        ("ORBYT_LISTEN", listen.to_string()),
        ("ORBYT_CONSOLE_LISTEN", console.to_string()),
        ("ORBYT_DEVTOOLS_LISTEN", "off".to_owned()),
        ("ORBYT_ADMIN_TOKEN", console::TOKEN.to_owned()),
        ("ORBYT_DATA_DIR", data.display().to_string()),
        ("ORBYT_API_KEYS", KEY.to_owned()),
        ("OPENAI_API_KEY", PROVIDER_KEY.to_owned()),
        ("OPENAI_BASE_URL", format!("http://{mock}/v1")),
        ("SPARE_API_KEY", PROVIDER_KEY.to_owned()),
        ("SPARE_BASE_URL", format!("http://{mock}/v1")),
        ("ANTHROPIC_API_KEY", PROVIDER_KEY.to_owned()),
        ("ANTHROPIC_BASE_URL", format!("http://{mock}")),
    ];
    let program = Path::new(env!("CARGO_BIN_EXE_orbyt"));
    let key = match key {
        Key::Configured => KEY.to_owned(),
        Key::Stored => {
            let arguments = ["keys", "create", "--name", "bench", "--budget", "1000000/month"];
            process::output_of(program, &arguments, &environment)?
        }
    };
    let process = Process::start(0, program, &["serve", "-c", &config.display().to_string()], &environment)?;
    Ok(Gateway { process, listen, console, key })
}

/// Asks until there is an answer; returns how long that took from `since`.
async fn first_answer(address: SocketAddr, key: &str, since: Instant) -> Result<Duration, String> {
    let request = load::request(address, key, "openai/bench", false);
    while since.elapsed() < Duration::from_secs(20) {
        if let Ok(mut client) = Client::connect(address).await {
            client.ask(&request).await?;
            return Ok(since.elapsed());
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    Err(format!("no answer from {address}"))
}

/// What a case goes through.
enum Through {
    Bare,
    /// Nothing kept of a request.
    Orbyt,
    /// The ledger in SQLite and the ring of payloads, as after `orbyt serve` in an empty folder.
    Installed,
    /// A key and its budget from the database, and the ledger: all that is kept in a database.
    Booked,
    /// With [`EVERYTHING`] on, in memory.
    Everything,
    /// The same, and one request in three asks what was asked before.
    Repeats,
    /// The same, and every request asks the same: the cache answers.
    Cache,
    /// [`EVERYTHING`] and [`Through::Booked`].
    Trusted,
    /// The same with the ring of payloads.
    Shown,
}

/// One thing to measure.
struct Case {
    name: &'static str,
    /// Its measure: the case whose figures are 1.
    against: usize,
    through: Through,
    model: &'static str,
    stream: bool,
}

const CASES: [Case; 17] = {
    use Through::{Bare, Booked, Cache, Everything, Installed, Orbyt, Repeats, Shown, Trusted};
    const fn case(name: &'static str, against: usize, through: Through, model: &'static str, stream: bool) -> Case {
        Case { name, against, through, model, stream }
    }
    [
        case("bare Pingora, JSON", 0, Bare, "bench", false),
        case("Orbyt, JSON passed through", 0, Orbyt, "openai/bench", false),
        case("Orbyt, JSON from Anthropic", 0, Orbyt, "anthropic/bench", false),
        case("Orbyt with everything on, JSON", 0, Everything, "everything", false),
        case("Orbyt with everything on, JSON, one in three again", 0, Repeats, "everything", false),
        case("Orbyt, JSON from the cache", 0, Cache, "everything", false),
        case("Orbyt as installed, with ledger and ring, JSON", 0, Installed, "openai/bench", false),
        case("Orbyt, key in the database, budget, ledger, JSON", 0, Booked, "openai/bench", false),
        case("Orbyt with everything on and that, JSON", 0, Trusted, "everything", false),
        case("the same with the ring of payloads, JSON", 0, Shown, "everything", false),
        case("bare Pingora, stream", 10, Bare, "bench", true),
        case("Orbyt, stream passed through", 10, Orbyt, "openai/bench", true),
        case("Orbyt, stream from Anthropic", 10, Orbyt, "anthropic/bench", true),
        case("Orbyt with everything on, stream", 10, Everything, "everything", true),
        case("Orbyt as installed, with ledger and ring, stream", 10, Installed, "openai/bench", true),
        case("Orbyt, key in the database, budget, ledger, stream", 10, Booked, "openai/bench", true),
        case("Orbyt with everything on and that, stream", 10, Trusted, "everything", true),
    ]
};

/// What a case cost in one round.
#[derive(Clone, Copy)]
struct Cost {
    /// Microseconds of CPU an answer.
    cpu: f64,
    /// Answers a second.
    rate: f64,
}

async fn measure(quick: bool, soak: bool) -> Result<(), String> {
    let begun = Instant::now();
    let bench = Bench::start().await?;
    let (rounds, window) = if quick { (2, Duration::from_millis(700)) } else { (5, Duration::from_millis(2_500)) };
    println!("# Orbyt against bare Pingora\n");
    println!(
        "{CONNECTIONS} connections, {rounds} interleaved rounds of {window:?} a case, {} events a stream; {}.\n",
        streams::EVENTS,
        if process::can_pin() { "one core each" } else { "cores NOT pinned (taskset is not there)" }
    );
    let mut costs: Vec<Vec<Cost>> = CASES.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        for (case, costs) in CASES.iter().zip(&mut costs) {
            let cost = one_case(&bench, case, window).await?;
            // The first round only warms up.
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    print_costs(&costs);
    let direct = bench_rate(bench.mock, "bench", window).await?;
    println!("\nThe mock provider alone, with the same load: {direct:.0} requests/s.");
    let half = median(costs[1].iter().map(|cost| cost.rate).collect()) / 2.0;
    latency(&bench, half, window).await?;
    memory(bench.mock).await?;
    cold_start(bench.mock).await?;
    if soak {
        growth(&bench).await?;
    }
    println!("\nTook {:.0} s.", begun.elapsed().as_secs_f64());
    Ok(())
}

/// The latency at fixed rates, for a closer look.
async fn only_latency() -> Result<(), String> {
    let bench = Bench::start().await?;
    for rate in [2_000.0, 5_000.0, 10_000.0] {
        latency(&bench, rate, Duration::from_millis(2_500)).await?;
    }
    Ok(())
}

async fn bench_rate(address: SocketAddr, model: &str, window: Duration) -> Result<f64, String> {
    let request = load::request(address, KEY, model, false);
    Ok(load::run(address, request, CONNECTIONS, window, None).await?.rate())
}

async fn one_case(bench: &Bench, case: &Case, window: Duration) -> Result<Cost, String> {
    let gateway = match case.through {
        Through::Bare => {
            let (process, address) = &bench.bare;
            let request = load::request(*address, KEY, case.model, case.stream);
            return cost(process, None, *address, request, window).await;
        }
        Through::Orbyt => &bench.orbyt,
        Through::Installed => &bench.installed,
        Through::Booked => &bench.booked,
        Through::Everything | Through::Repeats | Through::Cache => &bench.everything,
        Through::Trusted => &bench.trusted,
        Through::Shown => &bench.shown,
    };
    let mut request = load::request(gateway.listen, &gateway.key, case.model, case.stream);
    match case.through {
        Through::Repeats => load::sometimes_again(&mut request),
        Through::Cache => load::always_the_same(&mut request),
        _ => {}
    }
    cost(&gateway.process, Some(gateway.console), gateway.listen, request, window).await
}

/// What answers to a request cost a process, with what it still writes down after them.
async fn cost(
    process: &Process,
    console: Option<SocketAddr>,
    address: SocketAddr,
    request: Vec<u8>,
    window: Duration,
) -> Result<Cost, String> {
    let before = process.cpu();
    let load = load::run(address, request, CONNECTIONS, window, None).await?;
    if let Some(console) = console {
        written(console).await?;
    }
    let cpu = process.cpu() - before;
    // Those in flight when the clock stopped have cost too: half of each, on average.
    let answers = load.answers as f64 + CONNECTIONS as f64 / 2.0;
    Ok(Cost { cpu: cpu.as_secs_f64() * 1e6 / answers, rate: load.rate() })
}

/// Waits until the ledger has everything; without a ledger at once.
async fn written(console: SocketAddr) -> Result<(), String> {
    let since = Instant::now();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {console}\r\n\r\n");
    while since.elapsed() < Duration::from_secs(60) {
        let mut client = Client::connect(console).await?;
        let metrics = client.ask(request.as_bytes()).await?;
        let waits = |name: &str| {
            metrics.lines().filter_map(|line| line.strip_prefix(name)).any(|value| value.trim().parse() != Ok(0.0))
        };
        if !waits("orbyt_ledger_spool_bytes ") && !waits("orbyt_ledger_waiting_bytes ") {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err("the ledger is not written within a minute".to_owned())
}

fn print_costs(costs: &[Vec<Cost>]) {
    println!("| | CPU of bare | CPU an answer | range | rate of bare | answers/s |\n|---|--:|--:|--:|--:|--:|");
    let cpu_of = |index: usize| median(costs[index].iter().map(|cost| cost.cpu).collect());
    let rate_of = |index: usize| median(costs[index].iter().map(|cost| cost.rate).collect());
    for (index, case) in CASES.iter().enumerate() {
        // Ratios of neighbours in time, then their median.
        let pairs = || costs[index].iter().zip(&costs[case.against]);
        let cpu = median(pairs().map(|(cost, bare)| cost.cpu / bare.cpu).collect());
        let rate = median(pairs().map(|(cost, bare)| cost.rate / bare.rate).collect());
        let range = pairs().map(|(cost, bare)| cost.cpu / bare.cpu);
        let (least, most) = range.fold((f64::MAX, 0.0_f64), |(least, most), ratio| (least.min(ratio), most.max(ratio)));
        println!(
            "| {} | **{cpu:.2}** | {:.1} us | {least:.2} to {most:.2} | {rate:.2} | {:.0} |",
            case.name,
            cpu_of(index),
            rate_of(index)
        );
    }
    println!("\nStreams are paced by the provider: their rate says nothing, their CPU does.");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Latency at a rate, half of what Orbyt can carry for instance: through nothing, through bare Pingora, through Orbyt.
async fn latency(bench: &Bench, rate: f64, window: Duration) -> Result<(), String> {
    let routes = [
        ("no proxy", bench.mock, "bench"),
        ("bare Pingora", bench.bare.1, "bench"),
        ("Orbyt", bench.orbyt.listen, "openai/bench"),
    ];
    let mut seen: Vec<Vec<Load>> = routes.iter().map(|_| Vec::new()).collect();
    for _ in 0..3 {
        for ((_, address, model), seen) in routes.iter().zip(&mut seen) {
            let request = load::request(*address, KEY, model, false);
            seen.push(load::run(*address, request, CONNECTIONS, window, Some(rate)).await?);
        }
    }
    println!("\n| at {rate:.0} requests/s | p50 | p99 | p99 added |\n|---|--:|--:|--:|");
    let millis =
        |loads: &[Load], share| median(loads.iter().map(|load| load.percentile(share).as_secs_f64() * 1e3).collect());
    let base = millis(&seen[0], 0.99);
    for ((name, ..), loads) in routes.iter().zip(&seen) {
        let (p50, p99) = (millis(loads, 0.5), millis(loads, 0.99));
        println!("| {name} | {p50:.2} ms | {p99:.2} ms | {:.2} ms |", p99 - base);
    }
    Ok(())
}

/// Memory that a stream takes while many stand open, each time in a process that has done nothing else.
async fn memory(mock: SocketAddr) -> Result<(), String> {
    println!("\n| {STREAMS} streams at once | memory before | with them | a stream |\n|---|--:|--:|--:|");
    let routes = [
        ("bare Pingora", "slow"),
        ("Orbyt, passed through", "openai/slow"),
        ("Orbyt, from Anthropic", "anthropic/slow"),
    ];
    for (name, model) in routes {
        let folder = std::env::temp_dir().join(format!("orbyt-memory-{}", std::process::id()));
        let (process, address) = if model == "slow" {
            start_bare(mock)?
        } else {
            let gateway = start_orbyt(&folder, mock, COMMON, Key::Configured)?;
            (gateway.process, gateway.listen)
        };
        first_answer(address, KEY, Instant::now()).await?;
        let request = load::request(address, KEY, model, true);
        let before = process.memory();
        let open = open_streams(address, &request).await?;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let with = process.memory();
        let each = with.saturating_sub(before) as f64 / open.len() as f64 / 1024.0;
        println!("| {name} | {:.1} MB | {:.1} MB | {each:.1} KB |", megabytes(before), megabytes(with));
        drop(open);
        // What is left in the folder for temporary files harms nobody.
        let _ = std::fs::remove_dir_all(&folder);
    }
    Ok(())
}

/// Many streams that have begun, opened some at a time.
async fn open_streams(address: SocketAddr, request: &[u8]) -> Result<Vec<Client>, String> {
    let mut open = Vec::with_capacity(STREAMS);
    while open.len() < STREAMS {
        let begun = (0..CONNECTIONS).map(|_| async {
            let mut client = Client::connect(address).await?;
            client.begin(request).await?;
            Ok::<_, String>(client)
        });
        open.extend(futures::future::try_join_all(begun).await?);
    }
    Ok(open)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

/// From the start of the process to the first answer.
async fn cold_start(mock: SocketAddr) -> Result<(), String> {
    let mut times = Vec::new();
    for run in 0..7 {
        let folder = std::env::temp_dir().join(format!("orbyt-cold-{}-{run}", std::process::id()));
        let since = Instant::now();
        let gateway = start_orbyt(&folder, mock, COMMON, Key::Configured)?;
        times.push(first_answer(gateway.listen, KEY, since).await?.as_secs_f64() * 1e3);
        drop(gateway);
        let _ = std::fs::remove_dir_all(&folder);
    }
    times.sort_unstable_by(f64::total_cmp);
    println!("\nCold start to first answer: median {:.0} ms ({:.0} to {:.0} ms).", times[3], times[0], times[6]);
    Ok(())
}

/// Whether memory grows over a million requests.
async fn growth(bench: &Bench) -> Result<(), String> {
    println!("\n| requests | memory of Orbyt |\n|--:|--:|");
    let mut sent = 0;
    let mut next = 0;
    while sent < 1_000_000 {
        if sent >= next {
            println!("| {sent} | {:.1} MB |", megabytes(bench.orbyt.process.memory()));
            next += 200_000;
        }
        let request = load::request(bench.orbyt.listen, KEY, "openai/bench", false);
        sent += load::run(bench.orbyt.listen, request, CONNECTIONS, Duration::from_secs(2), None).await?.answers;
    }
    println!("| {sent} | {:.1} MB |", megabytes(bench.orbyt.process.memory()));
    Ok(())
}
