//! What moves on the pages, as server-sent events: the operations feed, and every request in DevTools.
//! Who sees one organisation alone gets the events of its requests.

use super::visit::{Failure, Visit};
use crate::console::live::{self, After, Next, Watch, answer, named};
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::store::ports::database::Access;
use crate::telemetry::live::{LiveEvent, State as Stage};
use crate::telemetry::operations;
use crate::telemetry::operations::Kind;
use axum::extract::State;
use axum::response::Response;
use serde_json::json;
use std::sync::Arc;

/// So many leases are told at once: of more nobody could read a part.
const MOST_LEASES: usize = 20;

/// Every request as it goes on.
pub(super) async fn requests(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    after: After,
) -> Result<Response, Failure> {
    let access = visit.access(Operation::SeeRequests)?;
    Ok(live::requests(&shared, &visit.viewer, Operation::SeeRequests, access, after)?)
}

/// The operations feed: changes of states, and which key each attempt has leased.
pub(super) async fn feed(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    visit.viewer.may(Operation::SeeGateway, None)?;
    let mut watch = Watch::begin(&shared, &visit.viewer, Operation::SeeGateway, &Access::System)?;
    let (mut changes, mut requests) = (shared.deps.operations.watch(), live::of_all(&shared));
    Ok(answer(
        None,
        async_stream::stream! {
            loop {
                let next = async {
                    tokio::select! {
                        // What is lost on the way is in the log.
                        change = changes.next() => change.map(|change| change.iter().map(|it| line_of(it)).collect()),
                        seen = requests.next() => seen.map(|seen| leases(seen.batch.events())),
                    }
                };
                match watch.next(next).await {
                    Next::Seen(lines) => {
                        let lines: Vec<serde_json::Value> = lines;
                        for line in lines {
                            yield named("line", &line);
                        }
                    }
                    Next::Quiet => yield live::ALIVE,
                    Next::Over => {
                        yield named("over", &json!({}));
                        break;
                    }
                    Next::End => break,
                }
            }
        },
    ))
}

fn line_of(operation: &operations::Operation) -> serde_json::Value {
    let (level, text) = told(operation);
    json!({"at_ms": operation.at_ms, "level": level, "text": text})
}

/// The lines of attempts that begin: `openai_01 leased → openai/MODEL`.
fn leases(events: &[Arc<LiveEvent>]) -> Vec<serde_json::Value> {
    let line = |event: &Arc<LiveEvent>| {
        let (Stage::Attempt, None) = (event.state, &event.verdict) else { return None };
        let (key, provider, model) = (event.key.as_ref()?, event.provider.as_ref()?, event.model.as_ref()?);
        let at = event.node.as_ref().map_or_else(String::new, |node| format!(" at {node}"));
        let text = format!("{key} leased \u{2192} {provider}/{model}{at}");
        Some(json!({"at_ms": event.at_ms, "level": "info", "text": text}))
    };
    events.iter().filter_map(line).take(MOST_LEASES).collect()
}

/// An operation as people say it, and how much it matters.
pub(super) fn told(operation: &operations::Operation) -> (&'static str, String) {
    let text = |part: &Option<Arc<str>>| part.as_deref().unwrap_or("?").to_owned();
    let words = |part: &Option<Arc<str>>| text(part).replace('_', " ");
    let (key, provider, model) = (text(&operation.key), text(&operation.provider), text(&operation.model));
    let why = words(&operation.why);
    let rest = operation.for_ms.map_or(0, |millis| millis.div_ceil(1000));
    match operation.kind {
        Kind::KeyCooldown => ("info", format!("{key} cooldown {rest}s: {why}")),
        Kind::KeyExhausted => ("warn", format!("{key} exhausted \u{2014} cooldown {rest}s: {why}")),
        Kind::KeyDisabled => ("error", format!("{key} disabled: {provider} says {why}")),
        Kind::KeyIdle => ("info", format!("{key} ready again")),
        Kind::BreakerOpened => ("warn", format!("{provider}/{model} unhealthy: {why}")),
        Kind::BreakerClosed => ("info", format!("{provider}/{model} recovered")),
        // From the one that failed to the one that is asked next.
        Kind::Failover => ("info", format!("failover {model} \u{2192} {provider}: {why}")),
        Kind::StoreDown => ("warn", format!("{} cannot be asked: {why}", text(&operation.store))),
        Kind::StoreUp => ("info", format!("{} can be asked again", text(&operation.store))),
        Kind::ConfigReloaded => ("info", "a new configuration is in force".to_owned()),
        Kind::ConfigRefused => ("error", format!("a new configuration was refused: {why}")),
    }
}
