//! The load: raw HTTP/1.1 over connections that stay open, on the thread of the caller.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What went through a proxy in a while.
pub struct Load {
    /// Complete answers.
    pub answers: u64,
    /// How long it took.
    pub took: Duration,
    /// The time of each, sorted; empty unless it was asked for.
    pub latencies: Vec<Duration>,
}

impl Load {
    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.answers as f64 / self.took.as_secs_f64()
    }

    /// The time that this share of the answers took at most.
    pub fn percentile(&self, share: f64) -> Duration {
        let at = ((self.latencies.len() as f64 * share) as usize).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

/// Eight digits behind it are another number in each request that [`run`] sends.
const NUMBER: &[u8] = b"number ";

/// A request to a proxy, ready to send.
pub fn request(address: SocketAddr, key: &str, model: &str, stream: bool) -> Vec<u8> {
    let question = "What does a request cost on its way through a gateway? ".repeat(12);
    let body = format!(
        r#"{{"model":"{model}","messages":[{{"role":"system","content":"Answer in one paragraph."}},{{"role":"user","content":"{question}number 00000000"}}],"temperature":0.7,"max_tokens":400,"stream":{stream}}}"#
    );
    post(address, key, "/v1/chat/completions", &body)
}

/// A request of any format, ready to send.
pub fn post(address: SocketAddr, key: &str, path: &str, body: &str) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n");
    format!("{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The same, and one request in [`REPEATS`] has the number of another.
const AGAIN: &[u8] = b"Number ";
const REPEATS: u64 = 3;

/// Marks a request: one in three that [`run`] sends is one that was sent before.
pub fn sometimes_again(request: &mut [u8]) {
    if let Some(at) = memchr::memmem::find(request, NUMBER) {
        request[at..at + NUMBER.len()].copy_from_slice(AGAIN);
    }
}

/// Takes the number out of a request: all that [`run`] sends are the same then.
pub fn always_the_same(request: &mut [u8]) {
    if let Some(at) = memchr::memmem::find(request, NUMBER) {
        request[at..at + NUMBER.len()].fill(b'-');
    }
}

/// Sends a request again and again over so many connections for so long, as fast as the answers come, or `per_second` at most.
///
/// # Errors
/// When a connection fails or an answer is not a 200: then the figures would mean nothing.
pub async fn run(
    address: SocketAddr,
    request: Vec<u8>,
    connections: usize,
    duration: Duration,
    per_second: Option<f64>,
) -> Result<Load, String> {
    let request = Arc::new(request);
    let over = Arc::new(AtomicBool::new(false));
    let permits = per_second.map(|rate| paced(rate, Arc::clone(&over)));
    let answers = Arc::new(AtomicU64::new(0));
    // No number comes twice while a gateway remembers answers.
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let numbers = &NUMBERS;
    let begin = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let (request, over, answers, permits) =
            (Arc::clone(&request), Arc::clone(&over), Arc::clone(&answers), permits.clone());
        clients.spawn(async move {
            let mut client = Client::connect(address).await?;
            let mut latencies = Vec::new();
            let mut request = request.to_vec();
            let digits = |mark: &[u8]| memchr::memmem::find(&request, mark).map(|at| at + mark.len());
            let (anew, again) = (digits(NUMBER), digits(AGAIN));
            while !over.load(Ordering::Relaxed) {
                if let Some(permits) = &permits {
                    match permits.acquire().await {
                        Ok(permit) => permit.forget(),
                        Err(_) => break,
                    }
                }
                if let Some(at) = anew.or(again) {
                    let number = numbers.fetch_add(1, Ordering::Relaxed);
                    let number = if again.is_some() && number.is_multiple_of(REPEATS) { 0 } else { number };
                    request[at..at + 8].copy_from_slice(format!("{:08}", number % 100_000_000).as_bytes());
                }
                let sent = Instant::now();
                client.ask(&request).await?;
                answers.fetch_add(1, Ordering::Relaxed);
                if permits.is_some() {
                    latencies.push(sent.elapsed());
                }
            }
            Ok::<_, String>(latencies)
        });
    }
    tokio::time::sleep(duration).await;
    let (counted, took) = (answers.load(Ordering::Relaxed), begin.elapsed());
    over.store(true, Ordering::Relaxed);
    if let Some(permits) = &permits {
        permits.close();
    }
    let mut latencies = Vec::new();
    while let Some(client) = clients.join_next().await {
        latencies.extend(client.map_err(|error| error.to_string())??);
    }
    latencies.sort_unstable();
    Ok(Load { answers: counted, took, latencies })
}

/// Permits that come evenly, from a thread that sleeps more finely than the runtime's timer.
fn paced(rate: f64, over: Arc<AtomicBool>) -> Arc<Semaphore> {
    let permits = Arc::new(Semaphore::new(0));
    let given = Arc::clone(&permits);
    std::thread::spawn(move || {
        let begin = Instant::now();
        let mut so_far = 0;
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_micros(100));
            let due = (begin.elapsed().as_secs_f64() * rate) as usize;
            given.add_permits(due - so_far);
            so_far = due;
        }
    });
    permits
}

/// A connection to a proxy.
pub struct Client {
    connection: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// The connection's own.
    pub async fn connect(address: SocketAddr) -> Result<Self, String> {
        let connection = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
        connection.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { connection, buffer: Vec::with_capacity(32 * 1024) })
    }

    /// Sends a request and reads the whole answer: head and body as they came.
    ///
    /// # Errors
    /// When the connection ends or the answer is not a 200.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Cow<'_, str>, String> {
        self.send(request).await?;
        while !is_complete(&self.buffer)? {
            self.receive().await?;
        }
        Ok(String::from_utf8_lossy(&self.buffer))
    }

    /// Sends a request and reads until something of the answer's body is there.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn begin(&mut self, request: &[u8]) -> Result<(), String> {
        self.send(request).await?;
        while memchr::memmem::find(&self.buffer, b"\r\n\r\n").is_none_or(|head| head + 4 == self.buffer.len()) {
            self.receive().await?;
        }
        is_complete(&self.buffer).map(drop)
    }

    async fn send(&mut self, request: &[u8]) -> Result<(), String> {
        self.buffer.clear();
        self.connection.write_all(request).await.map_err(|error| error.to_string())
    }

    async fn receive(&mut self) -> Result<(), String> {
        match self.connection.read_buf(&mut self.buffer).await {
            Ok(0) => Err(format!("the connection ended after {:?}", String::from_utf8_lossy(&self.buffer))),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Whether an answer is all there.
fn is_complete(buffer: &[u8]) -> Result<bool, String> {
    if buffer.len() >= 12 && &buffer[9..12] != b"200" {
        return Err(format!("not a 200: {}", String::from_utf8_lossy(buffer)));
    }
    let Some(head) = memchr::memmem::find(buffer, b"\r\n\r\n") else { return Ok(false) };
    let text = std::str::from_utf8(&buffer[..head]).map_err(|error| error.to_string())?;
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            let length: usize = value.trim().parse().map_err(|_| format!("content-length {value:?}"))?;
            return Ok(buffer.len() >= head + 4 + length);
        }
    }
    Ok(buffer.ends_with(b"\r\n0\r\n\r\n"))
}
