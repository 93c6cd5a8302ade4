//! Responses that are kept: a request goes on from one, and `GET` and `DELETE /v1/responses/{id}` look one up.
//!
//! ```text
//!   previous_response_id ── known here ──> its conversation is put in front of the input, for whichever provider
//!                      └── unknown ──────> passes to a provider that has `/responses` itself; elsewhere it is a 400
//! ```
//!
//! Only answers that the gateway translated are kept; a provider with `/responses` of its own keeps its own.

use super::core::{ClientCtx, Core, Stop};
use super::error::{ApiError, Reason};
use super::respond;
use crate::config::snapshot::Snapshot;
use crate::dialect::openai_chat::envelope::Envelope;
use crate::dialect::openai_responses::envelope as form;
use crate::domain::secret::KeyHash;
use crate::store::ports::responses::{Bounds, Kept};
use http::Method;
use pingora::protocols::http::ServerSession as Session;
use serde_json::json;
use std::time::Instant;

/// The request with the conversation that it goes on from, where that is known here.
///
/// # Errors
/// 413 when the whole would be larger than a body may be.
pub(super) async fn go_on(core: &Core, client: &ClientCtx, envelope: Envelope) -> Result<Envelope, Stop> {
    let Some(id) = &envelope.previous else { return Ok(envelope) };
    let Some(kept) = core.responses.get(&tenant(client), id, Instant::now()).await else { return Ok(envelope) };
    let max = client.snapshot.server.max_body_bytes;
    if (kept.items.len() + envelope.body().len()) as u64 > max {
        let message = format!("the request with its earlier turns is larger than {max} bytes (server.max_body_bytes)");
        return Err(ApiError::new(Reason::RequestTooLarge, message).param("previous_response_id").into());
    }
    Ok(form::continued(&envelope, &kept.items)?)
}

/// Keeps a response with the conversation up to it, before the client hears of it: the next request may come at once.
pub(super) async fn keep(core: &Core, client: &ClientCtx, envelope: &Envelope, response: Vec<u8>) {
    let Some(bounds) = bounds(&client.snapshot).filter(|_| envelope.keep) else { return };
    let id = envelope.client.answer_id(&client.record.id.hex());
    let items = form::joined(&form::input_items(envelope), &form::output_items(&response));
    let kept = Kept { response: response.into(), items: items.into() };
    core.responses.put(&tenant(client), &id, kept, bounds, Instant::now()).await;
}

/// Answers `GET` or `DELETE /v1/responses/{id}`.
///
/// # Errors
/// 404 for an id that this client has no response of.
pub(super) async fn look_up(core: &Core, session: &mut Session, client: &mut ClientCtx, id: &str) -> Result<(), Stop> {
    let now = Instant::now();
    let body = if session.req_header().method == Method::DELETE {
        client.record.route = "DELETE /v1/responses/{id}".into();
        let deleted = core.responses.delete(&tenant(client), id, now).await;
        deleted.then(|| json!({"id": id, "object": "response", "deleted": true}).to_string().into())
    } else {
        client.record.route = "GET /v1/responses/{id}".into();
        core.responses.get(&tenant(client), id, now).await.map(|kept| kept.response)
    };
    let Some(body) = body else {
        let shown: String = id.chars().take(100).collect();
        let message = format!(
            "Response with id '{shown}' not found. The gateway keeps the responses that it translated itself, for a while"
        );
        return Err(ApiError::new(Reason::ResponseNotFound, message).into());
    };
    respond::whole(session, client, 200, "application/json", body).await
}

/// Whose responses are whose: the gateway key's, by its hash, because names of keys may be alike.
fn tenant(client: &ClientCtx) -> String {
    client.tenant.as_ref().map(KeyHash::to_hex).unwrap_or_default()
}

fn bounds(snapshot: &Snapshot) -> Option<Bounds> {
    let rules = &snapshot.responses;
    let bounds = Bounds { ttl: rules.keep, max_entries: rules.max_entries, max_bytes: rules.max_bytes };
    (!rules.keep.is_zero()).then_some(bounds)
}
