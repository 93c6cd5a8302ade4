//! Scripted providers with named faults, for `orbyt demo` and the tests.
//!
//! A [`Sim`] is a real HTTP/1.1 server on loopback that speaks one provider's dialect and answers by repeating what it was
//! told (`answer.rs` says how), so that a test can tell whether everything arrived. It is as strict as the provider
//! about what it takes, and misbehaves on demand: by script ([`Sim::script`], [`Sim::always`], …) or by the name of the model
//! (`sim-<fault>`, [`SimFault`]). It keeps every call, and notices when a client hangs up.
//!
//! ```text
//! http.rs  bytes → request        answer.rs  question → answer        act.rs   answer + fault → acts
//! wire.rs  request → question     one folder or file a dialect        server.rs  acts → bytes, pauses, resets
//! ```

mod act;
mod answer;
mod anthropic;
mod bedrock;
pub mod client;
mod cloud;
mod cohere;
mod completions;
pub mod embedding;
mod fault;
mod gemini;
mod http;
mod ollama;
mod openai;
mod responses;
mod schema;
mod script;
mod server;
#[cfg(test)]
mod tests;
mod vectors;
mod wire;
mod works;

pub use act::Act;
pub use cloud::TOKEN;
pub use fault::SimFault;
pub use script::Step;
pub use wire::SimDialect;

use parking_lot::Condvar;
use server::{Shared, State};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// A request that a simulated provider got, and what became of it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Counts the calls of this provider from 0.
    pub number: u64,
    /// `POST`, mostly.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Without the question mark; empty when there is none.
    pub query: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// As it came, put together if it was chunked.
    pub body: Vec<u8>,
    /// When the whole request had been read.
    pub at: Instant,
    /// The number of the connection that it came on, from 1.
    pub connection: usize,
    /// How many requests came on that connection before it.
    pub on_connection: usize,
    /// What was done with it.
    pub step: Step,
    /// When the answer had been played to its end, good or bad.
    pub played_at: Option<Instant>,
    /// When the client hung up before that.
    pub client_gone: Option<Instant>,
}

impl Call {
    /// The first value of a header, whose name is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether it asked the token endpoint of a cloud (`/token`) for an access token.
    pub fn is_token_request(&self) -> bool {
        self.path == "/token"
    }

    /// Whether it asked for an answer (and not for an embedding or a list of models).
    pub fn is_generation(&self) -> bool {
        let is_cancelling = self.path.ends_with("/cancel");
        self.method == "POST" && !self.is_embedding() && !self.is_token_request() && !is_cancelling
    }

    /// Whether it asked for embeddings.
    pub fn is_embedding(&self) -> bool {
        SimDialect::ALL.into_iter().any(|dialect| vectors::is_asked(dialect, &self.path))
            || ["/embeddings", ":predict", ":embedContent"].iter().any(|end| self.path.ends_with(end))
    }
}

/// A simulated provider. It runs on a thread of its own and stops when it is dropped.
pub struct Sim {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sim {
    /// Starts one on a free port of the loopback interface.
    ///
    /// # Errors
    /// When no socket or no thread can be had.
    pub fn start(dialect: SimDialect) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = {
            let _context = runtime.enter();
            server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?
        };
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared {
            dialect,
            state: State::default().into(),
            listening: watch::Sender::new(true),
            is_open: false.into(),
            turned: Condvar::new(),
        });
        let (stop, stopped) = oneshot::channel();
        let server = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(format!("sim-{}", dialect.provider_id())).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    _ = server::serve(&server, socket, address) => {}
                    _ = stopped => {}
                }
            });
        })?;
        let sim = Self { address, shared, stop: Some(stop), thread: Some(thread) };
        sim.listen(true);
        Ok(sim)
    }

    /// The dialect that it speaks.
    pub fn dialect(&self) -> SimDialect {
        self.shared.dialect
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL as the provider's own SDK takes it: with `/v1` for OpenAI, without for the others.
    pub fn base_url(&self) -> String {
        format!("http://{}{}", self.address, self.shared.dialect.base_path())
    }

    /// Plays these steps for the next calls, one each, before anything that stays.
    pub fn script(&self, steps: impl IntoIterator<Item = impl Into<Step>>) -> &Self {
        self.shared.state.lock().script.queue.extend(steps.into_iter().map(Into::into));
        self
    }

    /// Plays a step for every call whose model contains this text. The last one that fits counts.
    pub fn on_model(&self, part: &str, step: impl Into<Step>) -> &Self {
        self.shared.state.lock().script.by_model.push((part.to_owned(), step.into()));
        self
    }

    /// Plays a step for every call with this key.
    pub fn on_key(&self, key: &str, step: impl Into<Step>) -> &Self {
        self.shared.state.lock().script.by_key.push((key.to_owned(), step.into()));
        self
    }

    /// Plays a step for every call for which nothing else is scripted. With [`SimFault::Refused`] it stops to listen at once.
    pub fn always(&self, step: impl Into<Step>) -> &Self {
        let step = step.into();
        if step == Step::Fault(SimFault::Refused) {
            self.refuse();
        }
        self.shared.state.lock().script.always = Some(step);
        self
    }

    /// Forgets every step and listens again.
    pub fn reset(&self) -> &Self {
        self.shared.state.lock().script = script::Script::default();
        self.resume()
    }

    /// Takes only these keys; any other, or none, is refused the way the provider does it. Without this every key is taken
    /// that does not contain `wrong`.
    pub fn only_keys(&self, keys: &[&str]) -> &Self {
        self.shared.state.lock().keys = Some(keys.iter().map(|&key| key.to_owned()).collect());
        self
    }

    /// Knows only these models, and lists them. Without this every model is known but those that contain `unknown` or
    /// `does-not-exist`.
    pub fn only_models(&self, models: &[&str]) -> &Self {
        self.shared.state.lock().models = Some(models.iter().map(|&model| model.to_owned()).collect());
        self
    }

    /// Ends the responses that are made in the background: `completed`, `incomplete` or `failed`. Until then they are queued.
    pub fn end_responses(&self, status: &'static str) -> &Self {
        self.shared.state.lock().kept.values_mut().for_each(|kept| kept.end(status));
        self
    }

    /// Closes the listener and the connections that wait for a request: new ones are refused, the port stays taken.
    pub fn refuse(&self) -> &Self {
        self.listen(false)
    }

    /// Listens again.
    pub fn resume(&self) -> &Self {
        self.listen(true)
    }

    fn listen(&self, wanted: bool) -> &Self {
        self.shared.listening.send_replace(wanted);
        let mut is_open = self.shared.is_open.lock();
        let deadline = Instant::now() + Duration::from_secs(2);
        while *is_open != wanted && !self.shared.turned.wait_until(&mut is_open, deadline).timed_out() {}
        drop(is_open);
        self
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state.lock().calls.clone()
    }

    /// How many of them asked for an answer.
    pub fn generations(&self) -> usize {
        self.shared.state.lock().calls.iter().filter(|call| call.is_generation()).count()
    }

    /// How many connections it accepted.
    pub fn connections(&self) -> usize {
        self.shared.state.lock().connections
    }

    /// How many requests came on each connection, in the order in which the connections were made; those without a request
    /// are left out.
    pub fn requests_per_connection(&self) -> Vec<usize> {
        let mut counts = std::collections::BTreeMap::new();
        for call in &self.shared.state.lock().calls {
            *counts.entry(call.connection).or_default() += 1;
        }
        counts.into_values().collect()
    }

    /// Forgets the calls, so that the next phase of a test counts from nothing.
    pub fn forget_calls(&self) -> &Self {
        self.shared.state.lock().calls.clear();
        self
    }

    /// Waits until the calls are as wanted; false when that took longer than `patience`.
    pub async fn until(&self, patience: Duration, wanted: impl Fn(&[Call]) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        while !wanted(&self.shared.state.lock().calls) {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It fails only if the thread is gone already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
