//! `POST /v1/messages/count_tokens` and Google's `:countTokens`: counted by the provider that would serve the request where it can count, otherwise estimated, and
//! then marked so in `x-orbyt-token-count`.
//!
//! ```text
//!   plan ── its first targets count? ──yes──> walk through those ──served──> the provider's number
//!                │                                   └── down, or busy ──┐
//!                └──no────────────────────────────────────────────────────┴──> an estimate
//! ```
//!
//! A refusal of the request itself is told, because the request that is to follow would meet it too.

use super::core::{ClientCtx, Core, Stop};
use super::head::name;
use super::plan::Plan;
use super::respond::{self, Framing};
use super::walk::Walk;
use crate::dialect::openai_chat::envelope::Envelope;
use crate::domain::Ended;
use bytes::Bytes;
use pingora::protocols::http::ServerSession as Session;
use std::sync::Arc;

/// Answers with the tokens of the request's input.
///
/// # Errors
/// What a provider has against the request itself, or that the client is gone.
pub(super) async fn answer(
    core: &Arc<Core>,
    session: &mut Session,
    client: &mut ClientCtx,
    envelope: &Envelope,
    mut plan: Plan,
) -> Result<(), Stop> {
    let counting = plan.targets.iter().take_while(|(_, target)| target.provider.counts_tokens(&target.model)).count();
    plan.targets.truncate(counting);
    plan.successors.clear();
    if counting > 0 {
        session.set_pipelining_enabled(true);
        match Box::pin(Walk::new(core, session, client, envelope, plan).run()).await {
            Err(Stop::Refuse(error))
                if matches!(error.status, 429 | 500..) && client.record.ended != Ended::Shutdown => {}
            outcome => return outcome,
        }
    }
    let (member, tokens) = (envelope.client.counting_member(), envelope.estimated_input_tokens.max(1));
    let body = Bytes::from(format!("{{\"{member}\":{tokens}}}"));
    let mut head = respond::head(session, client, 200, "application/json", Framing::Length(body.len()));
    head.put_static(&name::TOKEN_COUNT, "estimated");
    respond::send(session, client, head, body).await?;
    client.record.ended = Ended::Complete;
    Ok(())
}
