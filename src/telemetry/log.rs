//! The log: one line a request, state changes, and the records of the `log` crate, all through one writer.
//!
//! Never a body, never a key. Text that somebody else chose (a model's name, a provider's message, another crate's
//! record) passes the [`Redactor`]; what the gateway itself puts in need not. A request's line costs its thread about a
//! microsecond: it is formatted into a buffer that the thread keeps and copied into the queue of the writer thread.

use super::line::{Format, Line, as_words};
use super::queue::Queue;
use super::redact::Redactor;
use super::state_change::StateChange;
use crate::domain::{AttemptRecord, Ended, RequestRecord, SemanticRecord};
use log::{Level, LevelFilter};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A message longer than this is cut: no record of another crate may fill the log.
const LONGEST_MESSAGE: usize = 8 << 10;
/// How long [`Log::flush`] waits for a slow sink.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// The handle to the log. Clones share it; when the last one goes, the rest is written and the writer ends.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    level: AtomicUsize,
    format: Format,
    redactor: Arc<Redactor>,
    queue: Arc<Queue>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({}, {:?})", self.level(), self.shared.format)
    }
}

thread_local! {
    /// The line that a thread is writing; kept for its capacity.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Log {
    /// Starts the log on a thread of its own that alone writes to `sink`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        level: LevelFilter,
        format: Format,
        sink: Box<dyn Write + Send>,
        redactor: Arc<Redactor>,
    ) -> std::io::Result<Self> {
        let queue = Queue::start(sink, move |to, count| {
            let mut line = Line::begin(to, format, now_unix_ms(), Level::Warn, "log");
            line.number("dropped", count);
            line.message("log lines were dropped because the log could not be written fast enough");
            line.end();
        })?;
        Ok(Self { shared: Arc::new(Shared { level: AtomicUsize::new(level as usize), format, redactor, queue }) })
    }

    /// Makes this the receiver of the `log` crate's records, ours and Pingora's.
    ///
    /// # Errors
    /// When the process has one already.
    pub fn install(&self) -> Result<(), log::SetLoggerError> {
        log::set_boxed_logger(Box::new(self.clone()))?;
        log::set_max_level(self.level());
        Ok(())
    }

    /// What is logged at present.
    pub fn level(&self) -> LevelFilter {
        let level = self.shared.level.load(Relaxed);
        LevelFilter::iter().find(|filter| *filter as usize == level).unwrap_or(LevelFilter::Info)
    }

    /// Changes what is logged, as a reload may.
    pub fn set_level(&self, level: LevelFilter) {
        self.shared.level.store(level as usize, Relaxed);
        log::set_max_level(level);
    }

    /// Writes the line of a finished request: `info`, or `warn` when the gateway or its providers failed the client.
    pub fn request(&self, record: &RequestRecord) {
        let level = if record.status >= 500 || record.ended == Ended::Broken { Level::Warn } else { Level::Info };
        if !self.writes(level) {
            return;
        }
        let latency_ms = u64::try_from(record.latency.as_millis()).unwrap_or(u64::MAX);
        let now = record.arrived_unix_ms.saturating_add(latency_ms);
        self.write(now, level, "request", |line| request_fields(line, record, &self.shared.redactor));
    }

    /// Writes that something has changed its state.
    pub fn state_change(&self, change: &StateChange<'_>) {
        let level = change.level();
        if !self.writes(level) {
            return;
        }
        let (words, mut fields) = change.words_and_fields();
        for (_, value) in &mut fields {
            *value = self.shared.redactor.redact(value).into_owned().into();
        }
        let message = as_words(words, &fields);
        self.write(now_unix_ms(), level, self.event(change.event()), |line| {
            if self.shared.format == Format::Json {
                for (name, value) in &fields {
                    line.text(name, value);
                }
            }
            line.message(&message);
        });
    }

    /// How many lines could not be written so far.
    pub fn dropped(&self) -> u64 {
        self.shared.queue.dropped()
    }

    /// Waits until what was logged so far is written, two seconds at most. Whether it was.
    pub fn flush(&self) -> bool {
        self.shared.queue.flush(FLUSH_WITHIN)
    }

    fn writes(&self, level: Level) -> bool {
        level as usize <= self.shared.level.load(Relaxed)
    }

    /// The `event` of a line that has a message, which says it all to people.
    fn event(&self, event: &'static str) -> &'static str {
        if self.shared.format == Format::Json { event } else { "" }
    }

    fn write(&self, unix_ms: u64, level: Level, event: &str, fields: impl FnOnce(&mut Line<'_>)) {
        // Taken out rather than borrowed: what is formatted may log itself. A thread that is ending has no buffer left.
        let mut buffer = BUFFER.try_with(RefCell::take).unwrap_or_default();
        buffer.clear();
        let mut line = Line::begin(&mut buffer, self.shared.format, unix_ms, level, event);
        fields(&mut line);
        line.end();
        self.shared.queue.push(&buffer);
        let _ = BUFFER.try_with(|kept| kept.replace(buffer));
    }
}

/// The fields of a request's line. Names and order are fixed (docs/observability.md); the first block is what people look for.
fn request_fields(line: &mut Line<'_>, record: &RequestRecord, redactor: &Redactor) {
    line.id("request_id", record.id);
    let requested = record.requested_model.as_deref().map(|model| redactor.redact(model));
    let model = record.model.as_deref().map(|model| match &requested {
        // A part of what was found to be clean is clean.
        Some(Cow::Borrowed(clean)) if is_last_part(clean, model) => Cow::Borrowed(model),
        _ => redactor.redact(model),
    });
    line.text_or_null("model", model.as_deref());
    line.text_or_null("provider", record.provider.as_deref());
    line.number("status", record.status.into());
    line.millis("latency_ms", Some(record.latency));
    line.millis("ttft_ms", record.ttft);
    line.number_or_null("prompt_tokens", record.usage.map(|usage| usage.prompt_tokens));
    line.number_or_null("completion_tokens", record.usage.map(|usage| usage.completion_tokens));
    line.money("cost_usd", record.cost);
    line.text("cache", record.cache.name());
    line.number("attempts", record.attempt_count() as u64);
    line.flag("fallback", record.fallback);
    line.text("ended", record.ended.name());

    if record.estimated {
        line.flag("usage_estimated", true);
    }
    if record.byok {
        line.flag("byok", true);
    }
    if let Some(row) = &record.priced_as {
        line.text("priced_as", row);
    }
    line.text_or_null("key_name", record.key_name.as_deref());
    match &record.route {
        Cow::Borrowed(own) => line.text("route", own),
        Cow::Owned(route) => line.text("route", &redactor.redact(route)),
    }
    line.flag("stream", record.stream);
    if let Some(requested) = requested.filter(|_| record.requested_model != record.model) {
        line.text("requested_model", &requested);
    }
    line.millis("overhead_ms", Some(record.overhead));
    if let Some(semantic) = &record.semantic {
        semantic_fields(line, semantic);
    }
    if record.hedge_cost.is_some() {
        line.money("hedge_cost_usd", record.hedge_cost);
    }
    if record.queued.is_some() {
        line.millis("queue_ms", record.queued);
    }
    if let Some(code) = &record.error_code {
        line.text("error_code", &redactor.redact(code));
    }
    if !record.dropped.is_empty() {
        line.list("dropped", record.dropped.iter().map(|parameter| redactor.redact(parameter)));
    }
    let smooth = record.attempts.len() < 2 && record.attempts.iter().all(|attempt| attempt.reason.is_none());
    if !smooth && let Some(tried) = tried(&record.attempts, redactor) {
        line.json("tried", &tried);
    }
}

/// What the search for an answer to a question that means the same took and found.
fn semantic_fields(line: &mut Line<'_>, semantic: &SemanticRecord) {
    line.text("embedding_model", &semantic.model);
    line.text("embedding_provider", &semantic.provider);
    line.millis("embedding_ms", Some(semantic.took));
    line.number_or_null("embedding_tokens", semantic.usage.map(|usage| usage.prompt_tokens));
    line.money("embedding_cost_usd", semantic.cost);
    match semantic.failed {
        Some(why) => line.text("embedding_failed", why),
        None => line.ratio("similarity", semantic.similarity),
    }
}

/// Whether `part` is `whole`, or all of it behind a slash.
fn is_last_part(whole: &str, part: &str) -> bool {
    whole.strip_suffix(part).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

/// The attempts of a request that did not go smoothly, as JSON.
fn tried(attempts: &[AttemptRecord], redactor: &Redactor) -> Option<Box<RawValue>> {
    let attempts: Vec<_> = attempts
        .iter()
        .map(|attempt| {
            serde_json::json!({
                "provider": &*attempt.provider,
                "model": redactor.redact(&attempt.model),
                "key_name": &*attempt.key_name,
                "status": attempt.status,
                "reason": attempt.reason,
                "verdict": attempt.verdict,
                "ms": attempt.took.as_millis() as u64,
            })
        })
        .collect();
    serde_json::value::to_raw_value(&attempts).ok()
}

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // Below `info` other crates print heads and bodies.
        self.writes(metadata.level()) && (is_ours(metadata.target()) || metadata.level() <= Level::Info)
    }

    fn log(&self, record: &log::Record<'_>) {
        if !log::Log::enabled(self, record.metadata()) {
            return;
        }
        let text = match record.args().as_str() {
            Some(text) => std::borrow::Cow::Borrowed(text),
            None => record.args().to_string().into(),
        };
        let level = if is_ours(record.target()) { record.level() } else { level_of_foreign(record, &text) };
        if !self.writes(level) {
            return;
        }
        let clean = self.shared.redactor.redact(&text);
        self.write(now_unix_ms(), level, self.event("log"), |line| {
            if !is_ours(record.target()) || level <= Level::Warn {
                line.text("target", record.target());
            }
            line.message(&clean[..clean.floor_char_boundary(LONGEST_MESSAGE)]);
        });
    }

    fn flush(&self) {
        Log::flush(self);
    }
}

fn is_ours(target: &str) -> bool {
    target.strip_prefix("orbyt").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// How much another crate's record matters to our users: its chatter is for debugging, and so is what Pingora calls an
/// error when a client has gone away or an attempt has failed, for which the request's own line accounts.
fn level_of_foreign(record: &log::Record<'_>, text: &str) -> Level {
    const ACCOUNTED_FOR: [&str; 6] = [
        "Fail to proxy: Downstream",
        "Fail to proxy: Upstream",
        "Downstream handshake",
        "failed to send error response to downstream",
        "Error finish sending body to downstream",
        "Respond header is already sent",
    ];
    let noise = record.target().starts_with("pingora") && ACCOUNTED_FOR.iter().any(|start| text.starts_with(start));
    let chatter = record.level() == Level::Info;
    if noise || chatter { Level::Debug } else { record.level() }
}

/// The wall clock in milliseconds since the Unix epoch.
pub(super) fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
