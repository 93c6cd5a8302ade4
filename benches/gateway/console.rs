//! What people who watch do to requests: the latency of the gateway at a fixed rate, with and without viewers in DevTools.
//!
//! ```text
//!   load (core 1), 2,000 requests/s ──────> Orbyt (core 0) ──> mock provider
//!   viewers (a process of its own) <─events──┘ console
//! ```
//!
//! Each round measures without viewers, with them, and without them once more: what differs between the two without is noise. Where
//! there are two cores, the viewers run on that of the load, and take their time from it and not from the gateway.

use super::load::{self, Load};
use super::process::{self, Process};
use super::{COMMON, CONNECTIONS, KEY, Key, first_answer, median, spare_core, start_mock, start_orbyt};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The administrator's token of the gateways that are measured.
pub const TOKEN: &str = "admin-token-of-the-bench";
const VIEWERS: usize = 50;
const RATE: f64 = 2_000.0;
/// Where the process of the viewers writes down what they have seen.
const SEEN: &str = "seen";

/// One measurement.
struct Sample {
    load: Load,
    /// Microseconds of CPU an answer, of the whole gateway.
    cpu: f64,
}

/// Measures, and prints a table.
///
/// # Errors
/// When a process does not start, a request fails, or the viewers see nothing: then the figures would mean nothing.
pub async fn measure(quick: bool) -> Result<(), String> {
    let begun = Instant::now();
    let (rounds, window) = if quick { (2, Duration::from_secs(2)) } else { (7, Duration::from_secs(5)) };
    let (_mock, mock) = start_mock()?;
    let folder = Folder(std::env::temp_dir().join(format!("orbyt-bench-console-{}", std::process::id())));
    let gateway = start_orbyt(&folder.0, mock, COMMON, Key::Configured)?;
    first_answer(gateway.listen, KEY, begun).await?;
    println!("# Orbyt with {VIEWERS} viewers in DevTools, at {RATE:.0} requests/s\n");
    println!(
        "{CONNECTIONS} connections, {rounds} rounds of {window:?} each, {}.\n",
        if process::can_pin() { "one core each" } else { "cores NOT pinned (taskset is not there)" }
    );
    let mut samples: [Vec<Sample>; 3] = Default::default();
    let mut seen = Vec::new();
    for round in 0..=rounds {
        let before = sample(&gateway.process, gateway.listen, window).await?;
        let viewers = Viewers::start(gateway.console, &folder.0).await?;
        let from = viewers.seen()?;
        let with = sample(&gateway.process, gateway.listen, window).await?;
        let (events, bytes) = viewers.seen()?;
        drop(viewers);
        // What lingers for those who come back has gone.
        tokio::time::sleep(Duration::from_secs(9)).await;
        let after = sample(&gateway.process, gateway.listen, window).await?;
        // The first round only warms up.
        if round > 0 {
            for (samples, sample) in samples.iter_mut().zip([before, with, after]) {
                samples.push(sample);
            }
            let seconds = window.as_secs_f64() * VIEWERS as f64;
            seen.push(((events - from.0) as f64 / seconds, (bytes - from.1) as f64 / seconds));
        }
    }
    print(&samples);
    let events = median(seen.iter().map(|(events, _)| *events).collect());
    let bytes = median(seen.iter().map(|(_, bytes)| *bytes).collect());
    println!("\nEach viewer was shown {events:.0} events/s, {:.0} KB/s.", bytes / 1024.0);
    if events < 100.0 {
        return Err("the viewers see next to nothing".to_owned());
    }
    println!("\nTook {:.0} s.", begun.elapsed().as_secs_f64());
    Ok(())
}

async fn sample(gateway: &Process, address: SocketAddr, window: Duration) -> Result<Sample, String> {
    let request = load::request(address, KEY, "openai/bench", false);
    let before = gateway.cpu();
    let load = load::run(address, request, CONNECTIONS, window, Some(RATE)).await?;
    let cpu = (gateway.cpu() - before).as_secs_f64() * 1e6 / load.answers.max(1) as f64;
    if load.rate() < RATE * 0.9 {
        return Err(format!("only {:.0} requests/s of {RATE:.0} were sent", load.rate()));
    }
    Ok(Sample { load, cpu })
}

fn print(samples: &[Vec<Sample>; 3]) {
    println!("| | p50 | p99 | p99 of without | range | CPU an answer |\n|---|--:|--:|--:|--:|--:|");
    let names = ["without viewers", "with viewers", "without viewers again"];
    let p99 = |sample: &Sample| sample.load.percentile(0.99).as_secs_f64() * 1e3;
    for (name, these) in names.iter().zip(samples) {
        let ratios: Vec<f64> = these.iter().zip(&samples[0]).map(|(it, without)| p99(it) / p99(without)).collect();
        let (least, most) =
            ratios.iter().fold((f64::MAX, 0.0_f64), |(least, most), it| (least.min(*it), most.max(*it)));
        let p50 = median(these.iter().map(|it| it.load.percentile(0.5).as_secs_f64() * 1e3).collect());
        let cpu = median(these.iter().map(|it| it.cpu).collect());
        println!(
            "| {name} | {p50:.2} ms | {:.2} ms | **{:.2}** | {least:.2} to {most:.2} | {cpu:.1} us |",
            median(these.iter().map(p99).collect()),
            median(ratios),
        );
    }
}

/// The process of the viewers.
struct Viewers {
    _process: Process,
    file: PathBuf,
}

impl Viewers {
    /// Starts them and waits until all of them watch.
    async fn start(console: SocketAddr, folder: &Path) -> Result<Self, String> {
        let file = folder.join(SEEN);
        // It may be the first time.
        let _ = fs::remove_file(&file);
        let me = std::env::current_exe().map_err(|error| error.to_string())?;
        let arguments = ["viewers", &console.to_string(), &folder.display().to_string()];
        let viewers = Self { _process: Process::start(spare_core(), &me, &arguments, &[])?, file };
        let begun = Instant::now();
        while viewers.seen().is_err() {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err("the viewers do not get to watch".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(viewers)
    }

    /// How many events and bytes all of them have got.
    fn seen(&self) -> Result<(u64, u64), String> {
        let text = fs::read_to_string(&self.file).map_err(|error| error.to_string())?;
        let numbers =
            text.split_once(' ').and_then(|(events, bytes)| Some((events.parse().ok()?, bytes.parse().ok()?)));
        numbers.ok_or_else(|| format!("{text:?} is no pair of numbers"))
    }
}

/// Watches with all viewers until the process is killed, and writes down ten times a second what they have seen.
///
/// # Errors
/// When one of them cannot watch.
pub async fn watch(console: &str, folder: &Path) -> Result<(), String> {
    let seen = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    for _ in 0..VIEWERS {
        let mut stream = TcpStream::connect(console).await.map_err(|error| error.to_string())?;
        let head = format!("GET /devtools/events HTTP/1.1\r\nhost: {console}\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut piece = vec![0; 64 << 10];
        let length = stream.read(&mut piece).await.map_err(|error| error.to_string())?;
        if !piece[..length].starts_with(b"HTTP/1.1 200") {
            return Err(String::from_utf8_lossy(&piece[..length]).into_owned());
        }
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok(length @ 1..) = stream.read(&mut piece).await {
                let events = memchr::memmem::find_iter(&piece[..length], b"data: {\"id\"").count();
                seen.0.fetch_add(events as u64, Relaxed);
                seen.1.fetch_add(length as u64, Relaxed);
            }
        });
    }
    let (file, next) = (folder.join(SEEN), folder.join("seen.next"));
    loop {
        let text = format!("{} {}", seen.0.load(Relaxed), seen.1.load(Relaxed));
        // In one step, so that nobody reads half of it.
        fs::write(&next, text).and_then(|()| fs::rename(&next, &file)).map_err(|error| error.to_string())?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A folder that goes with the bench.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the folder for temporary files harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
