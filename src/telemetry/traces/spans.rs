//! The spans of a request, by OpenTelemetry's semantic conventions for generative AI: one of kind server for the request, one of kind client
//! for each attempt.
//!
//! Source: OpenTelemetry's semantic conventions, `gen-ai-spans`; W3C Trace Context for `traceparent`.

use super::super::Redactor;
use super::super::gen_ai::operation;
use super::Finished;
use crate::domain::record::SKIPPED;
use crate::domain::{AttemptRecord, Ended, RequestRecord, Usage};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, StringValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The span that a request belongs below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    trace: TraceId,
    span: SpanId,
    /// Whether that trace is recorded.
    sampled: bool,
}

/// The parent in a `traceparent`: `version-traceid-parentid-flags`, in hexadecimal; `None` when it is none.
pub fn parent(traceparent: &str) -> Option<Parent> {
    let mut parts = traceparent.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length| text.len() == length && text.bytes().all(|it| it.is_ascii_hexdigit());
    let known =
        is_hex(version, 2) && !version.eq_ignore_ascii_case("ff") && (version != "00" || parts.next().is_none());
    if !known || !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    (trace != TraceId::INVALID && span != SpanId::INVALID).then_some(Parent { trace, span, sampled })
}

/// Makes spans of records.
pub(super) struct Spans {
    redactor: Arc<Redactor>,
    /// The value of `gen_ai.provider.name` for a provider's id.
    name_of: NameOf,
    scope: InstrumentationScope,
}

type NameOf = Box<dyn Fn(&str) -> Option<String> + Send>;

impl Spans {
    pub(super) fn new(redactor: Arc<Redactor>, name_of: NameOf) -> Self {
        let scope = InstrumentationScope::builder("orbyt").with_version(env!("CARGO_PKG_VERSION")).build();
        Self { redactor, name_of, scope }
    }

    /// The spans of a request, its own first; none when its client does not have its trace recorded.
    pub(super) fn of(&self, finished: Finished) -> Vec<SpanData> {
        let Finished { record, parent, session } = finished;
        if parent.is_some_and(|parent| !parent.sampled) {
            return Vec::new();
        }
        let trace = parent.map_or_else(|| own_trace(&record), |parent| parent.trace);
        let begun = UNIX_EPOCH + Duration::from_millis(record.arrived_unix_ms);
        let root = self.span(trace, 0, &record);
        let mut spans = vec![SpanData {
            parent_span_id: parent.map_or(SpanId::INVALID, |parent| parent.span),
            parent_span_is_remote: parent.is_some(),
            span_kind: SpanKind::Server,
            name: self.name(&record, record.model.as_ref().or(record.requested_model.as_ref())).into(),
            start_time: begun,
            end_time: begun + record.latency,
            attributes: self.of_request(&record, session),
            status: status_of(&record),
            ..root
        }];
        let root = spans[0].span_context.span_id();
        let attempts = record.attempts.iter().filter(|attempt| attempt.verdict != SKIPPED);
        let last = record.attempts.len().checked_sub(1);
        spans.extend(attempts.zip(1..).map(|(attempt, number)| {
            let serves =
                attempt.reason.is_none() && last.is_some_and(|last| std::ptr::eq(attempt, &record.attempts[last]));
            SpanData {
                parent_span_id: root,
                span_kind: SpanKind::Client,
                name: self.name(&record, Some(&attempt.model)).into(),
                start_time: begun + attempt.started,
                end_time: begun + attempt.started + attempt.took,
                attributes: self.of_attempt(&record, attempt, serves.then_some(record.usage).flatten()),
                status: attempt.reason.map_or(Status::Unset, Status::error),
                ..self.span(trace, number, &record)
            }
        }));
        spans
    }

    /// A span that says nothing yet; its id is made of the request's and its number.
    fn span(&self, trace: TraceId, number: u16, record: &RequestRecord) -> SpanData {
        let mut id = [0; 8];
        // The last bytes of the request's id are chance.
        id.copy_from_slice(&record.id.as_bytes()[4..]);
        let id = u64::from_be_bytes(id).wrapping_add(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1);
        let id = SpanId::from_bytes(id.to_be_bytes());
        SpanData {
            span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "".into(),
            start_time: SystemTime::UNIX_EPOCH,
            end_time: SystemTime::UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }

    fn name(&self, record: &RequestRecord, model: Option<&Arc<str>>) -> String {
        let operation = operation(&record.route);
        model.map_or_else(|| operation.to_owned(), |model| format!("{operation} {}", self.redactor.redact(model)))
    }

    fn text(&self, name: &'static str, value: &str) -> KeyValue {
        KeyValue::new(name, StringValue::from(self.redactor.redact(value).into_owned()))
    }

    /// What both kinds of spans say.
    fn common(&self, record: &RequestRecord, provider: Option<&str>, usage: Option<Usage>) -> Vec<KeyValue> {
        let mut all = vec![KeyValue::new("gen_ai.operation.name", operation(&record.route))];
        if let Some(provider) = provider {
            let name = (self.name_of)(provider).unwrap_or_else(|| provider.to_owned());
            all.push(KeyValue::new("gen_ai.provider.name", name));
            all.push(self.text("orbyt.provider", provider));
        }
        if let Some(usage) = usage {
            let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
            all.push(KeyValue::new("gen_ai.usage.input_tokens", count(usage.prompt_tokens)));
            all.push(KeyValue::new("gen_ai.usage.output_tokens", count(usage.completion_tokens)));
        }
        all
    }

    fn of_request(&self, record: &RequestRecord, session: Option<String>) -> Vec<KeyValue> {
        let mut all = self.common(record, record.provider.as_deref(), record.usage);
        let texts = [
            ("gen_ai.request.model", record.requested_model.as_deref()),
            ("gen_ai.response.model", record.model.as_deref().filter(|_| record.status < 400)),
            ("gen_ai.conversation.id", session.as_deref()),
            ("orbyt.key", record.key_name.as_deref()),
            ("orbyt.org", record.org.as_deref()),
        ];
        all.extend(texts.into_iter().filter_map(|(name, value)| Some(self.text(name, value?))));
        let (method, path) = record.route.split_once(' ').unwrap_or(("", &record.route));
        all.extend([
            KeyValue::new("http.request.method", method.to_owned()),
            self.text("http.route", path),
            KeyValue::new("gen_ai.request.stream", record.stream),
            KeyValue::new("orbyt.request.id", record.id.to_string()),
            KeyValue::new("orbyt.ended", record.ended.name()),
            KeyValue::new("orbyt.cache", record.cache.name()),
            KeyValue::new("orbyt.attempts", i64::try_from(record.attempt_count()).unwrap_or(i64::MAX)),
            KeyValue::new("orbyt.fallback", record.fallback),
            KeyValue::new("orbyt.overhead", record.overhead.as_secs_f64()),
        ]);
        if record.status > 0 {
            all.push(KeyValue::new("http.response.status_code", i64::from(record.status)));
        }
        if let Some(error) = error_type(record) {
            all.push(self.text("error.type", &error));
        }
        if let Some(ttft) = record.ttft.filter(|_| record.stream) {
            all.push(KeyValue::new("gen_ai.response.time_to_first_chunk", ttft.as_secs_f64()));
        }
        if let Some(cost) = record.cost {
            // Text, because no number of OTLP's is exact.
            all.push(KeyValue::new("orbyt.cost_usd", cost.to_dollars()));
        }
        all
    }

    fn of_attempt(&self, record: &RequestRecord, attempt: &AttemptRecord, usage: Option<Usage>) -> Vec<KeyValue> {
        let mut all = self.common(record, Some(&attempt.provider), usage);
        all.extend([
            self.text("gen_ai.request.model", &attempt.model),
            self.text("orbyt.provider_key", &attempt.key_name),
            KeyValue::new("orbyt.verdict", attempt.verdict),
        ]);
        if let Some(status) = attempt.status {
            all.push(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        if let Some(reason) = attempt.reason {
            all.push(KeyValue::new("error.type", reason));
        }
        all
    }
}

/// The trace of a request whose client began none: its second and its id, so that one is found by the other.
fn own_trace(record: &RequestRecord) -> TraceId {
    let mut id = [0; 16];
    let second = u32::try_from(record.arrived_unix_ms / 1000).unwrap_or(u32::MAX);
    id[..4].copy_from_slice(&second.to_be_bytes());
    id[4..].copy_from_slice(record.id.as_bytes());
    TraceId::from_bytes(id)
}

/// Of a server's span only its own faults are errors: what the client did wrong is not.
fn status_of(record: &RequestRecord) -> Status {
    match record.ended {
        Ended::Complete | Ended::ClientGone if record.status < 500 => Status::Unset,
        Ended::Error if record.status < 500 => Status::Unset,
        ended => Status::error(record.error_code.clone().unwrap_or_else(|| ended.name().to_owned())),
    }
}

fn error_type(record: &RequestRecord) -> Option<String> {
    match record.ended {
        Ended::Complete if record.status < 400 => None,
        Ended::Complete | Ended::Error => Some(record.error_code.clone().unwrap_or_else(|| record.status.to_string())),
        ended => Some(ended.name().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::record;
    use super::*;
    use crate::domain::Secret;

    const CLIENTS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn spans(finished: Finished) -> Vec<SpanData> {
        let redactor = Arc::new(Redactor::default());
        redactor.register([&Secret::new("canary-canary")]);
        Spans::new(redactor, Box::new(|id| (id == "beta").then(|| "beta_ai".to_owned()))).of(finished)
    }

    fn attribute(span: &SpanData, name: &str) -> Option<String> {
        span.attributes.iter().find(|it| it.key.as_str() == name).map(|it| it.value.as_str().into_owned())
    }

    #[test]
    fn a_request_and_its_attempts_are_one_trace() {
        let spans = spans(Finished { record: record(), parent: None, session: Some("canary-canary".to_owned()) });
        let [request, failed, served] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((&*request.name, &request.span_kind), ("chat beta-1", &SpanKind::Server));
        assert_eq!((&*failed.name, &*served.name), ("chat alpha-large", "chat beta-1"));
        let of = |span: &SpanData| (span.span_context.trace_id(), span.parent_span_id);
        let root = request.span_context.span_id();
        assert_eq!((of(failed), of(served)), ((of(request).0, root), (of(request).0, root)));
        assert!(failed.span_context.span_id() != served.span_context.span_id());
        assert_eq!(request.parent_span_id, SpanId::INVALID);
        assert!(of(request).0.to_string().ends_with(&record().id.hex()), "the trace is found by the request");
        for (name, value) in [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "beta_ai"),
            ("gen_ai.request.model", "alpha-large"),
            ("gen_ai.response.model", "beta-1"),
            ("gen_ai.usage.input_tokens", "12"),
            ("gen_ai.usage.output_tokens", "34"),
            ("gen_ai.conversation.id", "[redacted]"),
            ("http.route", "/v1/chat/completions"),
            ("orbyt.cost_usd", "0.00000015"),
        ] {
            assert_eq!(attribute(request, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(attribute(failed, "error.type").as_deref(), Some("rate_limited"));
        assert_eq!(attribute(failed, "gen_ai.usage.input_tokens"), None);
        assert_eq!(attribute(served, "gen_ai.usage.input_tokens").as_deref(), Some("12"));
        assert!(request.end_time > served.end_time);
    }

    #[test]
    fn a_client_that_traces_gets_its_own_trace() {
        let spans = spans(Finished { record: record(), parent: parent(CLIENTS), session: None });
        assert_eq!(spans[0].span_context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(spans[0].parent_span_id.to_string(), "00f067aa0ba902b7");
        assert!(spans[0].parent_span_is_remote && !spans[1].parent_span_is_remote);
        let not_sampled = parent(&CLIENTS.replace("-01", "-00"));
        assert!(self::spans(Finished { record: record(), parent: not_sampled, session: None }).is_empty());
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        assert!(parent("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later").is_some());
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parent(wrong), None, "{wrong}");
        }
    }
}
