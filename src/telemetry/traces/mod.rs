//! Traces for OpenTelemetry collectors (OTLP over HTTP, protobuf): a span for each request and one for each of its attempts.
//!
//! ```text
//! finished ──> bounded queue ──> a thread: records become spans, batch after batch ──> the collector
//!                 │ full: counted, and dropped                                            └ does not take them: counted, and dropped
//! ```
//!
//! A request pays for a copy of its record and for a place in the queue, whatever the collector does. Nothing is kept for one that is away: the
//! ledger is where everything is.

mod spans;

use super::Redactor;
use super::metrics::Metrics;
use crate::domain::{RequestRecord, Secret};
use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use spans::Spans;
pub use spans::{Parent, parent};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;

/// How many requests may wait.
const WAITING: usize = 2048;
/// How many requests are sent at once, at most.
const AT_ONCE: usize = 256;
/// How long more are waited for before some are sent.
const GATHER: Duration = Duration::from_millis(200);
/// How often it is looked whether all are sent.
const LOOK: Duration = Duration::from_millis(5);

/// Where traces go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// The whole URL, path included: `http://127.0.0.1:4318/v1/traces`.
    pub url: String,
    /// Headers of every request to it.
    pub headers: Vec<(String, Secret)>,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// What the gateway calls itself: `service.name`.
    pub service: String,
}

/// A finished request, as it is told.
#[derive(Debug)]
pub struct Finished {
    /// Its record, without its decision.
    pub record: RequestRecord,
    /// The span that it belongs below, as its client has said.
    pub parent: Option<Parent>,
    /// The client's session.
    pub session: Option<String>,
}

/// The way to the collector; clones share it. Off until [`Traces::begin`].
#[derive(Clone, Default)]
pub struct Traces(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: OnceLock<mpsc::Sender<Box<Finished>>>,
    taken: AtomicU64,
    done: AtomicU64,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Traces(on)" } else { "Traces(off)" })
    }
}

impl Traces {
    /// Whether anybody wants to hear of requests.
    pub fn is_on(&self) -> bool {
        self.0.queue.get().is_some()
    }

    /// Tells of a request, or counts that there was no room. Never waits.
    pub fn finished(&self, metrics: &Metrics, finished: Finished) {
        let Some(queue) = self.0.queue.get() else { return };
        match queue.try_send(Box::new(finished)) {
            Ok(()) => {
                self.0.taken.fetch_add(1, SeqCst);
            }
            Err(_) => metrics.traced("dropped", 1),
        }
    }

    /// Begins to send. `name_of` gives the value of `gen_ai.provider.name` for a provider's id.
    ///
    /// # Errors
    /// A text for the operator, when the URL or a header cannot be used, or there is no thread to be had.
    pub fn begin(
        &self,
        collector: Collector,
        metrics: Arc<Metrics>,
        redactor: Arc<Redactor>,
        name_of: impl Fn(&str) -> Option<String> + Send + 'static,
    ) -> Result<(), String> {
        let (give, take) = mpsc::channel(WAITING);
        let url = collector.url.clone();
        let mut exporter = exporter(&collector).map_err(|why| format!("telemetry.otlp: {url}: {why}"))?;
        exporter.set_resource(&resource(&collector));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot start the runtime of traces: {error}"))?;
        let spans = Spans::new(redactor, Box::new(name_of));
        let sending = Sending { exporter, spans, metrics, shared: self.0.clone(), url, is_down: false };
        std::thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || runtime.block_on(sending.run(take)))
            .map_err(|error| format!("cannot start the thread of traces: {error}"))?;
        let _ = self.0.queue.set(give);
        Ok(())
    }

    /// Waits until everything is sent that was told before, or given up.
    pub async fn settle(&self) {
        let taken = self.0.taken.load(SeqCst);
        while self.0.done.load(SeqCst) < taken {
            tokio::time::sleep(LOOK).await;
        }
    }
}

struct Sending {
    exporter: SpanExporter,
    spans: Spans,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    url: String,
    is_down: bool,
}

impl Sending {
    async fn run(mut self, mut queue: mpsc::Receiver<Box<Finished>>) {
        let mut batch = Vec::with_capacity(AT_ONCE);
        while queue.recv_many(&mut batch, AT_ONCE).await > 0 {
            if batch.len() < AT_ONCE {
                tokio::time::sleep(GATHER).await;
                while batch.len() < AT_ONCE
                    && let Ok(more) = queue.try_recv()
                {
                    batch.push(more);
                }
            }
            let count = batch.len() as u64;
            let spans = batch.drain(..).flat_map(|finished| self.spans.of(*finished)).collect();
            match self.exporter.export(spans).await {
                Ok(()) => {
                    self.metrics.traced("sent", count);
                    if std::mem::take(&mut self.is_down) {
                        log::info!("traces reach {} again", self.url);
                    }
                }
                Err(error) => {
                    self.metrics.traced("failed", count);
                    if !std::mem::replace(&mut self.is_down, true) {
                        log::warn!("traces do not reach {}, and are not kept: {error}", self.url);
                    }
                }
            }
            self.shared.done.fetch_add(count, SeqCst);
        }
    }
}

fn exporter(collector: &Collector) -> Result<SpanExporter, String> {
    // The SDK leaves out what is no header without a word.
    for (name, value) in &collector.headers {
        let is_header = name.parse::<http::HeaderName>().is_ok() && value.reveal().parse::<http::HeaderValue>().is_ok();
        if !is_header {
            return Err(format!("{name:?} cannot be sent as a header"));
        }
    }
    let http = reqwest::Client::builder().timeout(collector.timeout).redirect(reqwest::redirect::Policy::none());
    let http = http.build().map_err(|error| error.without_url().to_string())?;
    let headers: HashMap<_, _> =
        collector.headers.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect();
    SpanExporter::builder()
        .with_http()
        .with_http_client(Http(http))
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(&collector.url)
        .with_timeout(collector.timeout)
        .with_headers(headers)
        .build()
        .map_err(|error| error.to_string())
}

fn resource(collector: &Collector) -> Resource {
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    Resource::builder_empty().with_service_name(collector.service.clone()).with_attribute(version).build()
}

/// The gateway's own client of HTTP, for the exporter.
#[derive(Debug)]
struct Http(reqwest::Client);

#[async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        const MOST: usize = 64 << 10;
        let mut answer = self.0.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            response = response.header(name, value);
        }
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
            if body.len() + piece.len() > MOST {
                return Err("its answer is larger than any answer to traces".into());
            }
            body.extend_from_slice(&piece);
        }
        Ok(response.body(body.into())?)
    }
}
