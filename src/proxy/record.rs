//! The last stage: closes the record and tells the world, once for each request, whichever way it ended.

use super::core::{ClientCtx, Core};
use super::ledger;
use crate::domain::Ended;
use pingora::protocols::http::ServerSession as Session;

/// Closes a request's record.
pub(super) fn close(core: &Core, session: &Session, client: &mut ClientCtx) {
    let record = &mut client.record;
    record.latency = client.started.elapsed();
    record.overhead = record.latency.saturating_sub(client.waited);
    if record.route.is_empty() {
        let head = session.req_header();
        record.route = format!("{} {}", head.method, head.uri.path()).into();
    }
    if record.status == 0 {
        record.ended = if record.ended == Ended::Shutdown { Ended::Shutdown } else { Ended::ClientGone };
    }
    if let Some(quota) = client.quota.take() {
        quota.settle(record, client.output_bytes);
    }
    client.seat = None;
    ledger::close(core, session, client);
    // After the ledger has it, which so knows of everything that is booked.
    if let Some(funds) = client.funds.take() {
        funds.settle(client.record.charge());
    }
    if let Some(tape) = client.tape.take() {
        tape.finish(&client.record);
    }
    core.telemetry.finished(&client.record);
    core.telemetry.recent.keep(&mut client.record);
}
