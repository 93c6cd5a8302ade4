//! `[telemetry]`.

use super::super::raw::{RawOtlp, RawTelemetry};
use super::super::snapshot::{LogFormat, Otlp, Telemetry};
use super::{Compiler, all, or};
use crate::domain::Secret;
use crate::domain::payloads::{self, Policy};
use http::{HeaderName, HeaderValue, Uri};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The path of traces below the address of a collector. Source: the OTLP specification.
const TRACES: &str = "/v1/traces";

impl Compiler<'_> {
    pub(super) fn telemetry(&mut self, raw: RawTelemetry) -> Telemetry {
        let ledger = or(&raw.ledger, true);
        if let Some(at) = raw.payloads.as_ref().filter(|at| at.value != Policy::None && !ledger) {
            self.report.error(at.problem("needs the ledger: set telemetry.ledger = true"));
        }
        if let Some(at) = raw.ledger_retention.as_ref().filter(|at| at.value.is_some_and(|kept| kept < DAY)) {
            self.report.error(at.problem("must be at least \"1d\", or \"off\""));
        }
        let otlp = self.otlp(raw.otlp);
        Telemetry {
            log_level: or(&raw.log_level, log::LevelFilter::Info),
            log_format: or(&raw.log_format, LogFormat::Auto),
            ledger,
            ledger_retention: or(&raw.ledger_retention, Some(90 * DAY)),
            spool_max_bytes: or(&raw.spool_max_bytes, 1 << 30),
            payloads: payloads::Settings {
                ring_bytes: size(or(&raw.ring_bytes, Some(32 << 20)).unwrap_or(0)),
                ring_entries: or(&raw.ring_entries, 1000) as usize,
                body_bytes: size(or(&raw.body_bytes, 256 << 10)),
                policy: or(&raw.payloads, Policy::None),
                retention: or(&raw.payloads_retention, Some(7 * DAY)),
                redact: all(raw.redact),
            },
            otlp,
        }
    }

    fn otlp(&mut self, raw: RawOtlp) -> Option<Otlp> {
        let endpoint = raw.endpoint?;
        let text = endpoint.value.trim().trim_end_matches('/');
        let scheme = text.parse::<Uri>().ok().filter(|uri| uri.query().is_none());
        let scheme = scheme.and_then(|uri| uri.authority().and(uri.scheme_str()).map(str::to_owned));
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            self.report.error(endpoint.problem("must be a URL such as http://127.0.0.1:4318"));
            return None;
        }
        let mut headers = Vec::new();
        for (name, value) in raw.headers {
            if name.value.parse::<HeaderName>().is_err() || value.parse::<HeaderValue>().is_err() {
                self.report.error(name.problem("is not valid as a header"));
                continue;
            }
            headers.push((name.value.to_lowercase(), Secret::new(value)));
        }
        if let Some(at) = raw.authorization
            && let Some(secret) = self.secret(&at)
        {
            if secret.reveal().parse::<HeaderValue>().is_err() {
                self.report.error(at.problem("holds characters that no header takes"));
            }
            headers.push(("authorization".to_owned(), secret));
        }
        Some(Otlp {
            url: if text.ends_with(TRACES) { text.to_owned() } else { format!("{text}{TRACES}") },
            headers,
            timeout: or(&raw.timeout, Duration::from_secs(10)),
            service: raw.service.map_or_else(|| "orbyt".to_owned(), |at| at.value),
        })
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
