//! The last stage: closes the record and tells the world, once for each request, whichever way it ended.

use super::budget::Funds;
use super::core::{ClientCtx, Core};
use super::{debt, ledger};
use crate::domain::Ended;
use crate::telemetry::traces::{self, Finished};
use pingora::protocols::http::ServerSession as Session;
use std::time::Instant;

/// Closes a request's record.
pub(super) fn close(core: &Core, session: &Session, client: &mut ClientCtx) {
    let record = &mut client.record;
    let now = Instant::now();
    record.latency = now.saturating_duration_since(client.started);
    record.overhead = record.latency.saturating_sub(client.waited);
    if record.route.is_empty() {
        let head = session.req_header();
        record.route = format!("{} {}", head.method, head.uri.path()).into();
    }
    if record.status == 0 {
        record.ended = if record.ended == Ended::Shutdown { Ended::Shutdown } else { Ended::ClientGone };
    }
    if let Some(quota) = client.quota.take() {
        quota.settle(record, client.output_bytes, now);
    }
    client.seat = None;
    ledger::close(core, session, client);
    // After the ledger has it, which so knows of everything that is booked.
    let funds = client.funds.take();
    let accounts = funds.as_ref().filter(|_| client.owing.is_some()).map(Funds::accounts);
    if let Some(funds) = funds {
        funds.settle(client.record.charge());
    }
    debt::close(core, session, client, accounts.unwrap_or_default());
    if let Some(tape) = client.tape.take() {
        tape.finish(&client.record);
    }
    core.telemetry.finished(&client.record);
    if core.telemetry.traces.is_on() {
        trace(core, session, client);
    }
    core.telemetry.recent.keep(&client.record);
}

/// Tells the OpenTelemetry collector of a request, unless that came without a valid key: strangers are not told of.
fn trace(core: &Core, session: &Session, client: &mut ClientCtx) {
    if client.holder.is_none() {
        return;
    }
    let header = session.req_header().headers.get("traceparent");
    let parent = header.and_then(|value| traces::parent(value.to_str().ok()?));
    let session = client.entry.extensions.as_ref().and_then(|it| it.session_id.clone());
    // Large, and not told.
    let decision = client.record.decision.take();
    let record = client.record.clone();
    client.record.decision = decision;
    core.telemetry.traces.finished(&core.telemetry.metrics, Finished { record, parent, session });
}
