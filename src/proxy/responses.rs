//! Responses that are kept: a request goes on from one, and `GET` and `DELETE /v1/responses/{id}` look one up.
//!
//! ```text
//!   previous_response_id ── kept here ────> its conversation is put in front of the input, for whichever provider
//!                      └── not ───────────> passes to a provider that has `/responses` itself; elsewhere it is a 400
//!
//!   GET, DELETE … {id}  ── kept here ────> told, or forgotten
//!                      └── kept elsewhere > its provider is asked ([`super::owned`])
//! ```
//!
//! Answers that the gateway translated are kept here. A provider with `/responses` of its own keeps its own; of those it is noted who has them,
//! so that a client can look up what it was answered and nobody else's.

use super::accept::OfResponse;
use super::core::{ClientCtx, Core, Stop};
use super::debt::{Debt, Owing};
use super::error::{ApiError, Reason};
use super::lane::Lane;
use super::names::Target;
use super::respond::{self, Framing};
use super::walk::Walk;
use super::{body, owned};
use crate::config::snapshot::Snapshot;
use crate::dialect::openai_chat::envelope::Envelope;
use crate::dialect::openai_responses::request::not_found as unknown_previous;
use crate::dialect::openai_responses::{envelope as form, kept as told};
use crate::domain::secret::KeyHash;
use crate::domain::{Ended, KeyId};
use crate::store::ports::responses::{self as ports, Bounds, Kept, Known, Owner};
use bytes::Bytes;
use http::Method;
use pingora::protocols::http::ServerSession as Session;
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

/// The longest id that is noted; OpenAI's have 53 characters.
const LONGEST_ID: usize = 200;

/// The request with the conversation that it goes on from, where that is known here.
///
/// # Errors
/// 413 when the whole would be larger than a body may be, 400 for a response of another key.
pub(super) async fn go_on(core: &Core, client: &mut ClientCtx, mut envelope: Envelope) -> Result<Envelope, Stop> {
    let Some(id) = &envelope.previous else { return Ok(envelope) };
    let (tenant, now) = (tenant(client), Instant::now());
    let kept = match core.responses.get(&tenant, id, now).await {
        // Their providers know no gateway keys, and would go on from it for anybody.
        None if core.responses.is_anothers(&tenant, id, now).await => {
            return Err(ApiError::from(unknown_previous(id)).into());
        }
        None => return Ok(envelope),
        Some(Known::There(owner)) => {
            // Nobody else has the conversation, so it is asked first, with the key of the account that the response is in.
            Arc::make_mut(&mut envelope.extensions).preferences.order.insert(0, owner.provider.to_string());
            client.owner = Some(Box::new(owner));
            return Ok(envelope);
        }
        Some(Known::Here(kept)) => kept,
    };
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
    let kept = Known::Here(Kept { response: response.into(), items: items.into() });
    core.responses.put(&tenant(client), &id, kept, bounds, Instant::now()).await;
}

/// Notes who keeps a response, once its provider has given it an id; false while it has not. What a client's own key has brought about is in
/// the client's own account, which is not asked without that key.
pub(super) async fn note_owner(core: &Core, client: &mut ClientCtx, lane: &Lane<'_>) -> bool {
    let Some(id) = lane.translator.foreign_response() else { return false };
    let is_plain =
        id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if let Some(bounds) = bounds(&client.snapshot).filter(|_| is_plain && !lane.asked.own_key) {
        let (provider, model) = (lane.target.provider.id.clone(), lane.target.model.upstream.clone());
        let debt = Debt::of(core, lane);
        client.owing = debt.clone().map(|debt| Box::new(Owing { debt, goes_on: false }));
        let debt = debt.map(|debt| ports::Debt(debt));
        let owner = Known::There(Owner { provider, model, key: lane.asked.key, debt });
        core.responses.put(&tenant(client), id, owner, bounds, Instant::now()).await;
    }
    true
}

/// Answers what is asked of a response by its id.
///
/// # Errors
/// 404 for an id that this client has no response of, 400 for what cannot be done with it.
pub(super) async fn look_up(
    core: &Arc<Core>,
    session: &mut Session,
    client: &mut ClientCtx,
    id: &str,
    of: OfResponse,
) -> Result<(), Stop> {
    let deletes = session.req_header().method == Method::DELETE;
    client.record.route = match of {
        OfResponse::Itself if deletes => "DELETE /v1/responses/{id}".into(),
        OfResponse::Itself => "GET /v1/responses/{id}".into(),
        OfResponse::InputItems => "GET /v1/responses/{id}/input_items".into(),
        OfResponse::Cancel => "POST /v1/responses/{id}/cancel".into(),
    };
    // It says nothing, but has to be read before the next request on this connection.
    body::read(session, client.snapshot.server.max_body_bytes).await?;
    let kept = match core.responses.get(&tenant(client), id, Instant::now()).await {
        None => return Err(not_found(id).into()),
        Some(Known::There(owner)) => {
            let gone = owned::ask(core, session, client, &owner, id, of).await?;
            if gone {
                core.responses.delete(&tenant(client), id, Instant::now()).await;
            }
            return Ok(());
        }
        Some(Known::Here(kept)) => kept,
    };
    let query = session.req_header().uri.query().unwrap_or_default().to_owned();
    let body: Bytes = match of {
        OfResponse::Itself if deletes => {
            core.responses.delete(&tenant(client), id, Instant::now()).await;
            json!({"id": id, "object": "response", "deleted": true}).to_string().into()
        }
        OfResponse::Itself if wants_stream(&query)? => {
            let events = told::stream(&kept.response, number(&query, "starting_after")?)?;
            return stream(session, client, events.into()).await;
        }
        OfResponse::Itself => kept.response,
        OfResponse::InputItems => told::input_items(&kept.response, &kept.items, &page(&query)?)?.into(),
        OfResponse::Cancel => {
            let message =
                "Only responses that were asked for with background=true can be cancelled: this one is complete";
            return Err(ApiError::new(Reason::InvalidRequest, message).into());
        }
    };
    respond::whole(session, client, 200, "application/json", body).await
}

impl Walk<'_> {
    /// The keys of the target's provider beside the one that the response was made with which the request goes on from.
    pub(super) fn keys_beside_owners(&self, target: &Target) -> Option<Vec<KeyId>> {
        let owner = self.client.owner.as_ref().filter(|owner| owner.provider == target.provider.id)?;
        let first = self.tried_keys.is_empty() && owner.key.is_some();
        first.then(|| target.provider.keys.iter().map(|key| key.id).filter(|key| Some(*key) != owner.key).collect())
    }
}

/// What a client is told of an id that it has no response of.
pub(super) fn not_found(id: &str) -> ApiError {
    let shown: String = id.chars().take(100).collect();
    let message = format!(
        "Response with id '{shown}' not found. The gateway keeps the responses that it translated itself, and knows whom it had the others \
         from, for a while"
    );
    ApiError::new(Reason::ResponseNotFound, message)
}

/// Answers with events that are there already.
async fn stream(session: &mut Session, client: &mut ClientCtx, events: Bytes) -> Result<(), Stop> {
    let head = respond::head(session, client, 200, "text/event-stream", Framing::Stream);
    respond::send(session, client, head, events).await?;
    client.record.ended = Ended::Complete;
    Ok(())
}

/// Whether the query asks for a stream.
pub(super) fn wants_stream(query: &str) -> Result<bool, ApiError> {
    match value(query, "stream") {
        None | Some("" | "false" | "False" | "0") => Ok(false),
        Some("true" | "True" | "1") => Ok(true),
        Some(_) => Err(wrong("stream", "true or false")),
    }
}

fn page(query: &str) -> Result<told::Page, ApiError> {
    let ascending = match value(query, "order") {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(wrong("order", "asc or desc")),
    };
    let after = value(query, "after").map(|after| super::accept::percent_decode(after).into_owned());
    Ok(told::Page { limit: number(query, "limit")?, after, ascending })
}

fn number(query: &str, name: &'static str) -> Result<Option<u64>, ApiError> {
    let Some(text) = value(query, name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| wrong(name, "a whole number"))
}

fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn wrong(name: &'static str, what: &str) -> ApiError {
    ApiError::new(Reason::InvalidRequest, format!("{name} must be {what}")).param(name)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_what_is_wrong_with_it_named() {
        assert!(wants_stream("a=b&stream=true").unwrap() && !wants_stream("stream=false&x").unwrap());
        assert_eq!(wants_stream("stream=maybe").unwrap_err().param.as_deref(), Some("stream"));
        assert_eq!(number("starting_after=7", "starting_after").unwrap(), Some(7));
        for text in ["starting_after=-1", "starting_after=", "starting_after=99999999999999999999"] {
            assert_eq!(number(text, "starting_after").unwrap_err().param.as_deref(), Some("starting_after"), "{text}");
        }
        let asked = page("limit=5&after=msg%5F1&order=asc").unwrap();
        assert_eq!(asked, told::Page { limit: Some(5), after: Some("msg_1".into()), ascending: true });
        assert_eq!(page("order=up").unwrap_err().param.as_deref(), Some("order"));
    }
}
