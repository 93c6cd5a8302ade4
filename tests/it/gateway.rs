//! `orbyt serve`, started for one test: free ports, an empty data directory, nothing inherited from the environment.

use orbyt::sim::client::{self, Answer};
use orbyt::sim::{Sim, SimDialect};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take that a gateway does within milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The gateway key of every test gateway.
pub const KEY: &str = "gateway-key-of-the-tests";
/// Its administrator's token.
pub const ADMIN_TOKEN: &str = "admin-token-of-the-tests";

/// The program that is tested: this build's, or another one that `ORBYT_TEST_BINARY` names, such as a release build.
pub fn binary() -> PathBuf {
    std::env::var_os("ORBYT_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_orbyt").into(), PathBuf::from)
}

/// What a gateway is started with.
pub struct Builder {
    sections: String,
    providers: String,
    variables: Vec<(String, String)>,
    largest_file: Option<u32>,
}

impl Builder {
    /// A provider of this id behind a simulated one, with one key.
    pub fn provider(self, id: &str, sim: &Sim) -> Self {
        self.provider_with_keys(id, sim, &[&format!("key-of-{id}")])
    }

    /// The same with these keys.
    pub fn provider_with_keys(self, id: &str, sim: &Sim, keys: &[&str]) -> Self {
        self.add_provider(id, sim, keys, "")
    }

    /// The same with one key, and more lines of its section.
    pub fn provider_that(self, id: &str, sim: &Sim, more: &str) -> Self {
        self.add_provider(id, sim, &[&format!("key-of-{id}")], more)
    }

    fn add_provider(mut self, id: &str, sim: &Sim, keys: &[&str], more: &str) -> Self {
        let dialect = match sim.dialect() {
            SimDialect::OpenAi => "openai_chat",
            SimDialect::Anthropic => "anthropic_messages",
            SimDialect::Gemini => "gemini",
            SimDialect::Cohere => "cohere",
            SimDialect::Ollama => "ollama",
            SimDialect::Bedrock => "bedrock_converse",
        };
        let base_url = sim.base_url();
        self.providers +=
            &format!("[[provider]]\nid = \"{id}\"\ndialect = \"{dialect}\"\nbase_url = \"{base_url}\"\n{more}");
        for key in keys {
            // By way of the environment, because secrets in the file itself are warned about.
            let name = format!("TEST_PROVIDER_KEY_{}", self.variables.len());
            self.providers += &format!("[[provider.key]]\nsecret = {{ env = \"{name}\" }}\n");
            self.variables.push((name, (*key).to_owned()));
        }
        self
    }

    /// More of the configuration file: whole sections.
    pub fn config(mut self, sections: &str) -> Self {
        self.sections += sections;
        self.sections += "\n";
        self
    }

    /// An environment variable; it comes after those that every test gateway has, and an empty one counts as unset.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// No file of its may be larger than so many blocks of 512 bytes, as on a disk that is full.
    pub fn largest_file(mut self, blocks: u32) -> Self {
        self.largest_file = Some(blocks);
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> Gateway {
        let mut gateway = self.spawn();
        gateway.url = gateway.printed_url("gateway").await;
        gateway.console_url = gateway.printed_url("console").await;
        gateway.wait_until_ready().await;
        gateway
    }

    /// Starts it and waits for nothing. Without any configuration there is no file either.
    pub fn spawn(self) -> Gateway {
        let folder = Folder::create();
        let config = folder.0.join("orbyt.toml");
        let mut command = match self.largest_file {
            None => Command::new(binary()),
            Some(blocks) => {
                // The signal would end the process; without it a write fails, as it does on a full disk.
                let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &script]).arg(binary());
                shell
            }
        };
        command.arg("serve");
        if !self.sections.is_empty() || !self.providers.is_empty() {
            std::fs::write(&config, format!("{}\n{}", self.sections, self.providers)).unwrap();
            command.arg("-c").arg(&config);
        }
        let mut child = command
            .current_dir(&folder.0)
            .env_clear()
            .env("HOME", &folder.0)
            .env("ORBYT_LISTEN", "127.0.0.1:0")
            .env("ORBYT_CONSOLE_LISTEN", "127.0.0.1:0")
            .env("ORBYT_DEVTOOLS_LISTEN", "off")
            .env("ORBYT_DATA_DIR", folder.0.join("data"))
            .env("ORBYT_API_KEYS", KEY)
            .env("ORBYT_ADMIN_TOKEN", ADMIN_TOKEN)
            .envs(self.variables)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Output::default();
        output.follow(child.stdout.take());
        output.follow(child.stderr.take());
        Gateway { child, output, url: String::new(), console_url: String::new(), folder }
    }
}

/// A gateway that runs. It is killed when it is dropped.
pub struct Gateway {
    child: Child,
    output: Output,
    /// Without `/v1`.
    pub url: String,
    pub console_url: String,
    folder: Folder,
}

impl Gateway {
    /// One in front of a provider of each format.
    pub async fn in_front_of_all() -> (Self, [Sim; SimDialect::ALL.len()]) {
        let sims = SimDialect::ALL.map(|dialect| Sim::start(dialect).unwrap());
        let builder = sims.iter().fold(Self::builder(), |it, sim| it.provider(sim.dialect().provider_id(), sim));
        (builder.start().await, sims)
    }

    pub fn builder() -> Builder {
        Builder { sections: String::new(), providers: String::new(), variables: Vec::new(), largest_file: None }
    }

    /// The URL that the start-up summary names for a listener.
    async fn printed_url(&mut self, listener: &str) -> String {
        let started = Instant::now();
        loop {
            let lines = self.output.lines();
            let words = lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let url = words
                .filter(|words| words.first() == Some(&listener))
                .find_map(|words| words.get(1).map(|url| (*url).to_owned()));
            if let Some(url) = url.filter(|url| url.starts_with("http://")) {
                return url.trim_end_matches("/v1").to_owned();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && started.elapsed() < PATIENCE,
                "the gateway did not start: {ended:?}\n{}",
                lines.join("\n")
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn wait_until_ready(&self) {
        let started = Instant::now();
        while self.get_console("/readyz").await.is_none_or(|answer| answer.status != 200) {
            assert!(started.elapsed() < PATIENCE, "the gateway is not ready\n{}", self.output());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What the console says at a path; `None` when it does not answer.
    pub async fn get_console(&self, path: &str) -> Option<Answer> {
        let token = format!("Bearer {ADMIN_TOKEN}");
        client::send("GET", &format!("{}{path}", self.console_url), &[("authorization", &token)], b"").await.ok()
    }

    /// Sends a chat request with the gateway's key.
    pub async fn chat(&self, body: &Value) -> Answer {
        let key = format!("Bearer {KEY}");
        let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
        self.ask("/v1/chat/completions", &headers, body).await
    }

    /// A request of Anthropic's messages, or of a path below them, with the headers that Anthropic's SDKs send.
    pub async fn messages(&self, path: &str, body: &Value) -> Answer {
        let headers = [("x-api-key", KEY), ("anthropic-version", "2023-06-01"), ("content-type", "application/json")];
        self.ask(path, &headers, body).await
    }

    /// Any request with a body.
    pub async fn ask(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let url = format!("{}{path}", self.url);
        let sent =
            tokio::time::timeout(PATIENCE, client::send("POST", &url, headers, body.to_string().as_bytes())).await;
        match sent {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => panic!("no answer to {body}: {error}\n{}", self.output()),
            Err(_) => panic!("no answer to {body} in {PATIENCE:?}\n{}", self.output()),
        }
    }

    /// Where its configuration file is, if it has one.
    pub fn config_file(&self) -> PathBuf {
        self.folder.0.join("orbyt.toml")
    }

    /// Where it keeps its state, unless `ORBYT_DATA_DIR` says otherwise.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.0.join("data")
    }

    /// The host and port of its plain listener.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Sends it a signal (`libc::SIGTERM`, …). After `SIGKILL` it is gone, with its locks: on a busy machine that takes a moment.
    pub fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.child.id()).unwrap();
        // SAFETY: `kill` only sends; the process is a child that has not been waited for, so its id is not another's.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "the signal was not sent");
        if signal == libc::SIGKILL {
            // SAFETY: all bytes zero are a value of this plain structure.
            let mut told = unsafe { std::mem::zeroed::<libc::siginfo_t>() };
            // SAFETY: it only waits for the same child, which stays to be waited for, and writes what it is told into `told`.
            let waited =
                unsafe { libc::waitid(libc::P_PID, pid.cast_unsigned(), &raw mut told, libc::WEXITED | libc::WNOWAIT) };
            assert_eq!(waited, 0, "it was not waited for");
        }
    }

    /// Waits until it has ended; `None` when that takes longer than `patience`.
    pub async fn ended(&mut self, patience: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        loop {
            match self.child.try_wait().unwrap() {
                // Its last words may still be in the pipe: each reader holds the lines until it has read all.
                Some(status) if Arc::strong_count(&self.output.0) == 1 => return Some(status),
                _ if started.elapsed() > patience => return None,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Waits until the process that was started has ended, whoever has taken over from it.
    pub async fn until_process_ended(&mut self, patience: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < patience, "it did not end\n{}", self.output());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until something that it printed contains this text.
    pub async fn printed(&self, text: &str) {
        self.until(&format!("{text:?} in the output"), || self.output().contains(text)).await;
    }

    /// Waits until this holds.
    pub async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < PATIENCE, "waited in vain for {what}\n{}", self.output());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What `/metrics` shows.
    pub async fn metrics(&self) -> String {
        self.get_console("/metrics").await.unwrap().body_text()
    }

    /// Waits until `/metrics` shows this.
    pub async fn shows(&self, line: &str) {
        let started = Instant::now();
        loop {
            let page = self.metrics().await;
            if page.contains(line) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{line} is not in\n{page}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Everything that it printed so far, log and all.
    pub fn output(&self) -> String {
        self.output.lines().join("\n")
    }

    /// The lines of its log that are JSON.
    pub fn log(&self) -> Vec<Value> {
        self.output.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
    }

    /// The log line of an answer. The log is written behind the answer's back, so this waits for it.
    pub async fn log_line(&self, answer: &Answer) -> Value {
        let id = answer.header("x-request-id").to_owned();
        let started = Instant::now();
        loop {
            let is_it = |line: &Value| line["request_id"] == id.as_str() && line.get("status").is_some();
            if let Some(line) = self.log().into_iter().find(is_it) {
                return line;
            }
            assert!(started.elapsed() < PATIENCE, "no log line for {id}\n{}", self.output());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A chat request in which the user says this.
pub fn saying(model: &str, text: &str, stream: bool) -> Value {
    json!({ "model": model, "stream": stream, "messages": [{ "role": "user", "content": text }] })
}

/// What a process printed, line by line.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<String>>>);

impl Output {
    fn follow(&self, pipe: Option<impl Read + Send + 'static>) {
        let (lines, pipe) = (Arc::clone(&self.0), pipe.unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                lines.lock().push(line);
            }
        });
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

/// A directory that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("orbyt-it-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning of its temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
