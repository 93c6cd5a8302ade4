//! The embedding of a text, by one of the gateway's own providers over the same connections as every answer.
//!
//! What is an extra must not harm what it is an extra to. So it has a deadline and is not retried; its failures count against its own
//! target alone (the model of the embeddings at its provider), whose breaker then spares everybody the wait; and a key that is limited or
//! refused here keeps its standing in the pool: if it is bad, the next answer shows it.

use super::attempt::{self, Outgoing};
use super::core::{Core, breaker_policy};
use super::exchange::{Broken, Piece, RESENDS, exchange};
use super::lease::{Lease, Wanted};
use super::names::Target;
use crate::config::snapshot::Snapshot;
use crate::dialect::embeddings::{self, Embedding, passed};
use crate::domain::{Clock, Fault, FaultKind, ProviderKey};
use crate::provider::classify::classify;
use crate::routing::breaker::{Change, Gate};
use crate::telemetry::StateChange;
use bytes::Bytes;
use futures::stream::{Stream, StreamExt};
use http::HeaderMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Far more than the longest vector takes in the most wasteful notation.
const LONGEST_ANSWER: usize = 1 << 20;
/// For the estimate of what a text takes of a key's own limits.
const BYTES_A_TOKEN: usize = 4;

/// The embedding of a text.
///
/// # Errors
/// The name of what went wrong, for the log.
pub(super) async fn embed(
    core: &Arc<Core>,
    snapshot: &Snapshot,
    target: &Target,
    text: &str,
    limit: Duration,
) -> Result<Embedding, &'static str> {
    let (provider, model) = (&target.provider.id, &target.model.upstream);
    let policy = breaker_policy(snapshot).with_jitter(fastrand::f64());
    // A breaker of its own: among those of the targets it would keep another one, whom answers depend on, from opening.
    let breaker = &core.embedding_breaker;
    let gate = breaker.lock().enter(policy, Instant::now());
    if matches!(gate, Gate::Refuse { .. }) {
        return Err("breaker_open");
    }
    let now = Instant::now();
    let tokens = text.len().div_ceil(BYTES_A_TOKEN) as u64;
    let wanted = Wanted { target, byok: None, tried: &[], tokens, deadline: now + limit };
    // Dropped, the lease goes back with nothing said about the key.
    let Ok(lease) = Lease::take(core, wanted, now) else {
        if gate == Gate::Probe {
            breaker.lock().abandon(Instant::now());
        }
        return Err("no_key_ready");
    };
    let late = || Fault::new(FaultKind::Timeout(Clock::Total), "the embedding took too long");
    let asked = tokio::time::timeout(limit, ask(core, snapshot, target, lease.key(), text)).await;
    let asked = asked.unwrap_or_else(|_| Err(late()));
    let change = breaker.lock().report(asked.is_ok(), policy, true, Instant::now());
    match change {
        Some(Change::Opened) => {
            let why = asked.as_ref().err().map_or("", |fault| fault.kind.name());
            core.telemetry.state_change(StateChange::ProviderUnhealthy { provider, model, why });
        }
        Some(Change::Closed) => core.telemetry.state_change(StateChange::ProviderRecovered { provider, model }),
        None => {}
    }
    asked.map_err(|fault| fault.kind.name())
}

async fn ask(
    core: &Core,
    snapshot: &Snapshot,
    target: &Target,
    key: Option<&ProviderKey>,
    text: &str,
) -> Result<Embedding, Fault> {
    let provider = &target.provider;
    let none = || Fault::new(FaultKind::Unsupported, "this provider makes no embeddings");
    let form = provider.embedding_form(&target.model).ok_or_else(none)?;
    let body = Bytes::from(embeddings::request(form, &target.model.upstream, text, provider.quirks)?);
    let timeouts = target.provider.timeouts.unwrap_or(snapshot.timeouts);
    let addresses = attempt::addresses(&core.dns, &target.provider, timeouts.connect).await?;
    let token = core.tokens.of_key(provider, key, timeouts.first_output).await?;
    let path = provider.embedding_path(&target.model, form);
    let (mut at, mut resent) = (0, 0);
    loop {
        let outgoing = Outgoing {
            target,
            key,
            stream: false,
            path: &path,
            body: &body,
            token: token.as_ref(),
            headers: &[],
            address: addresses[at],
            timeouts,
        };
        let head = attempt::head(&outgoing)?;
        let peer = attempt::peer(&outgoing);
        let exchange = pin!(exchange(&core.connections, &peer, target.dialect(), head, body.clone(), None));
        match whole(exchange).await {
            Ok(answer) if answer.status == 200 => {
                return embeddings::parse(form, &answer.body, passed::packed(provider.quirks));
            }
            Ok(answer) => return Err(refusal(target, &answer)),
            Err(broken) if broken.resend && resent < RESENDS => resent += 1,
            Err(broken) if broken.fault.kind == FaultKind::Connect && at + 1 < addresses.len() => at += 1,
            Err(broken) => return Err(broken.fault),
        }
    }
}

#[derive(Default)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// Reads to the end, so that the connection can serve again.
async fn whole(mut exchange: Pin<&mut impl Stream<Item = Result<Piece, Broken>>>) -> Result<Answer, Broken> {
    let mut answer = Answer::default();
    while let Some(piece) = exchange.next().await {
        match piece? {
            Piece::Head { status, headers, .. } => (answer.status, answer.headers) = (status, headers),
            Piece::Body { bytes, .. } if answer.body.len() + bytes.len() > LONGEST_ANSWER => {
                return Err(Broken {
                    fault: Fault::malformed("the answer is too long for an embedding"),
                    resend: false,
                });
            }
            Piece::Body { bytes, .. } => answer.body.extend_from_slice(&bytes),
        }
    }
    Ok(answer)
}

fn refusal(target: &Target, answer: &Answer) -> Fault {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
    let unix_ms = u64::try_from(now).unwrap_or(u64::MAX);
    classify(target.dialect(), answer.status, header, &answer.body, unix_ms)
}
