//! What remains of a request: one record, from which every decision can be explained.

use super::{Decision, Money, RequestId, Usage};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The client has the whole answer.
    Complete,
    /// The client was answered with an error status.
    Error,
    /// The answer broke after the commit and the client was told so in-band.
    Broken,
    /// The client went away.
    ClientGone,
    /// The gateway shut down and the grace period ran out.
    Shutdown,
}

impl Ended {
    /// A stable lower-case name for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Error => "error",
            Self::Broken => "broken",
            Self::ClientGone => "client_gone",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What the cache of answers did for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheUse {
    /// It was not asked: it is off, or the request is not for it.
    #[default]
    Bypass,
    /// It had no answer.
    Miss,
    /// The answer came out of it; no provider was asked.
    Hit,
}

impl CacheUse {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bypass, Self::Miss, Self::Hit];

    /// A stable lower-case name for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Miss => "miss",
            Self::Hit => "hit",
        }
    }
}

/// The search for an answer to a question that means the same: what it took, and how near the nearest question was.
#[derive(Clone, Debug)]
pub struct SemanticRecord {
    /// The provider of the embedding.
    pub provider: Arc<str>,
    /// The model of the embedding.
    pub model: Arc<str>,
    /// How long the embedding took.
    pub took: Duration,
    /// What it used, when the provider says so. Not part of [`RequestRecord::usage`].
    pub usage: Option<Usage>,
    /// What that costs by the catalog's prices. Not part of [`RequestRecord::cost`].
    pub cost: Option<Money>,
    /// The cosine between this question and the nearest one, whether that was near enough or not; `None` when there was none.
    pub similarity: Option<f32>,
    /// Why there is no embedding.
    pub failed: Option<&'static str>,
}

/// One try at one target with one key.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    /// The provider's id.
    pub provider: Arc<str>,
    /// The model as the provider knows it.
    pub model: Arc<str>,
    /// The name (never the text) of the key that was leased.
    pub key_name: Arc<str>,
    /// From the client's request to the start of this attempt.
    pub started: Duration,
    /// How long it took.
    pub took: Duration,
    /// The provider's HTTP status, when a head arrived.
    pub status: Option<u16>,
    /// The fault's name, `None` for the attempt that served.
    pub reason: Option<&'static str>,
    /// The fault's message, already redacted.
    pub message: Option<String>,
    /// What triage made of it: a verdict's name, or `ok`.
    pub verdict: &'static str,
}

/// Everything that is kept about one request. Bodies and keys are not.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// Its id.
    pub id: RequestId,
    /// When it arrived, in milliseconds since the Unix epoch.
    pub arrived_unix_ms: u64,
    /// The name of the gateway key, when authentication got that far.
    pub key_name: Option<Arc<str>>,
    /// The organisation of that key.
    pub org: Option<Arc<str>>,
    /// HTTP method and path; borrowed where the path is the gateway's own, so that nothing a client wrote is in it.
    pub route: Cow<'static, str>,
    /// The model that the client asked for.
    pub requested_model: Option<Arc<str>>,
    /// The provider that served, or was tried last.
    pub provider: Option<Arc<str>>,
    /// The model that served, or was tried last.
    pub model: Option<Arc<str>>,
    /// The strategy that ordered the plan.
    pub strategy: &'static str,
    /// How the plan came about, when there was one; a plan that was refused says why each target was.
    pub decision: Option<Box<Decision>>,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// The status that the client saw; 0 when it left before any.
    pub status: u16,
    /// All attempts in order.
    pub attempts: Vec<AttemptRecord>,
    /// Whether another target than the first one served.
    pub fallback: bool,
    /// Parameters that the serving provider could not honour.
    pub dropped: Vec<String>,
    /// What the provider counted.
    pub usage: Option<Usage>,
    /// What that costs by the catalog's prices; `None` when a price or the usage is unknown.
    pub cost: Option<Money>,
    /// Whether the usage, or a part of it, is an estimate: the client hung up or the answer broke before the provider had counted it, or it
    /// never does.
    pub estimated: bool,
    /// The catalog's row whose prices the cost was reckoned with, where they are not the model's own.
    pub priced_as: Option<Arc<str>>,
    /// Whether a key of the client's own has paid for it; then it costs nothing here.
    pub byok: bool,
    /// What the providers are likely to charge for answers that were asked for and not taken (hedging), by estimate.
    pub hedge_cost: Option<Money>,
    /// What the cache of answers did.
    pub cache: CacheUse,
    /// The search for an answer to a question that means the same, when there was one.
    pub semantic: Option<SemanticRecord>,
    /// From the request to the first output at the client.
    pub ttft: Option<Duration>,
    /// From the request to the last byte.
    pub latency: Duration,
    /// The part of the latency in which neither a provider nor the next try was being waited for.
    pub overhead: Duration,
    /// How long it waited for a place at providers that take only so many requests at once; `None` when it did not have to.
    pub queued: Option<Duration>,
    /// How it ended.
    pub ended: Ended,
    /// The error's code when it ended in one.
    pub error_code: Option<String>,
}

impl RequestRecord {
    /// The record of a request that has just arrived, at so many milliseconds since the Unix epoch; as long as nothing else happens, it
    /// ends with the client being gone.
    pub fn new(id: RequestId, arrived_unix_ms: u64) -> Self {
        Self {
            id,
            arrived_unix_ms,
            key_name: None,
            org: None,
            route: Cow::Borrowed(""),
            requested_model: None,
            provider: None,
            model: None,
            strategy: "",
            decision: None,
            stream: false,
            status: 0,
            attempts: Vec::new(),
            fallback: false,
            dropped: Vec::new(),
            usage: None,
            cost: None,
            estimated: false,
            priced_as: None,
            byok: false,
            hedge_cost: None,
            cache: CacheUse::Bypass,
            semantic: None,
            ttft: None,
            latency: Duration::ZERO,
            overhead: Duration::ZERO,
            queued: None,
            ended: Ended::ClientGone,
            error_code: None,
        }
    }

    /// What is booked for it: its answer, answers that were asked for and not taken, and the comparing of questions.
    pub fn charge(&self) -> Money {
        let semantic = self.semantic.as_ref().and_then(|semantic| semantic.cost);
        [self.cost, self.hedge_cost, semantic].into_iter().flatten().sum()
    }

    /// How many attempts were made; a target that was passed over without asking it is none.
    pub fn attempt_count(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.verdict != SKIPPED).count()
    }
}

/// [`AttemptRecord::verdict`] of a target that was passed over without asking it: its breaker is open or no key is ready.
pub const SKIPPED: &str = "skipped";
