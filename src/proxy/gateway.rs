//! The walk of a client's request through the stages.

use super::accept::{self, Route};
use super::authenticate::authenticate;
use super::core::{ClientCtx, Core, Phase, Stop};
use super::error::{ApiError, Reason};
use super::limit::Limited;
use super::models::Listing;
use super::plan::Plan;
use super::{body, byok, cache, count, listing, preset, respond, responses, scope, taping, walk, work};
use crate::config::net::client_address;
use crate::config::snapshot::CacheBackend;
use crate::dialect::client::Client;
use crate::dialect::embeddings::gemini_client;
use crate::dialect::gemini::client::call::{Call, Method};
use crate::dialect::openai_chat::envelope::Envelope;
use crate::dialect::work::Work;
use bytes::Bytes;
use pingora::protocols::http::ServerSession as Session;
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;

/// How long a client's connection may wait for its next request.
pub(super) const KEEPALIVE_SECONDS: u64 = 75;

/// The gateway behind its [`super::Door`].
pub struct Gateway {
    core: Arc<Core>,
}

impl Gateway {
    /// The gateway over its shared state.
    pub fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Answers a request, be it with an error.
    ///
    /// # Errors
    /// When the client did not get a whole answer: the connection must not end as if it had.
    pub(super) async fn request(&self, session: &mut Session, client: &mut ClientCtx) -> Result<(), Stop> {
        match self.answer(session, client).await {
            Err(Stop::Refuse(error)) => {
                let error = self.redacted(client, error);
                respond::error(session, client, &error).await
            }
            answered => answered,
        }
    }

    /// Walks the stages of a client's request.
    async fn answer(&self, session: &mut Session, client: &mut ClientCtx) -> Result<(), Stop> {
        let head = session.req_header();
        let address = client_address(&client.snapshot.server.trusted_proxies, peer_address(session), &head.headers);
        client.cors_origin = cors_origin(&client.snapshot.server.cors.allow_origins, session);
        client.dialect = accept::dialect(head.uri.path());
        let route = accept::route(&head.method, head.uri.path())?;
        if matches!(route, Route::Models | Route::Model(_)) {
            client.dialect = listing::wanted(client.dialect, &head.headers);
        }
        if matches!(route, Route::Live | Route::Ready | Route::Root) {
            return self.plain(session, client, &route).await;
        }
        let count = |limited: &Limited| self.core.telemetry.metrics.limited(limited.limit);
        self.core.limiter.admit(&client.snapshot.limits, address).inspect_err(count)?;
        if route == Route::Preflight {
            return respond::preflight(session, client).await;
        }
        if route.needs_key() {
            let now = client.record.arrived_unix_ms;
            let head = session.req_header();
            // Of Google's clients some have their key in the query.
            let query = head.uri.query().filter(|_| client.dialect == Client::Gemini);
            let holder = authenticate(&client.snapshot, &head.headers, query, now)
                .inspect_err(|_| self.core.limiter.bad_key(address))?;
            client.record.key_name = Some(holder.principal.key_name.clone());
            client.record.org = Some(holder.principal.org());
            client.tenant = Some(holder.principal.key_hash);
            client.holder = Some(holder);
            scope::admit(client.holder.as_ref(), address, head.uri.path())?;
        }
        client.seat = Some(self.core.limiter.enter(&client.snapshot.limits).inspect_err(count)?);
        match route {
            Route::Chat | Route::Messages | Route::Responses | Route::Completions => {
                self.chat(session, client, false, None).await
            }
            Route::Gemini(call) if call.method.embedding_route().is_some() => {
                self.work(session, client, Work::Embed, Some(call)).await
            }
            Route::Gemini(call) => self.chat(session, client, call.method == Method::Count, Some(call)).await,
            Route::Embeddings => self.work(session, client, Work::Embed, None).await,
            Route::Relay(endpoint) => self.work(session, client, Work::Relay(endpoint), None).await,
            Route::Response(id, of) => Box::pin(responses::look_up(&self.core, session, client, &id, of)).await,
            Route::CountTokens => self.chat(session, client, true, None).await,
            Route::Model(id) => self.model(session, client, &id).await,
            _ => {
                let snapshot = client.snapshot.clone();
                let own = Listing::new(&self.core, &snapshot, client.scopes()).list();
                let list = listing::list(client.dialect, session.req_header().uri.query(), own)?.to_string();
                respond::whole(session, client, 200, "application/json", list.into()).await
            }
        }
    }

    /// An answer of a model, or (`counts`) what asking for it would cost in tokens; `call` is what the path says of it, where it does.
    async fn chat(
        &self,
        session: &mut Session,
        client: &mut ClientCtx,
        counts: bool,
        call: Option<Call>,
    ) -> Result<(), Stop> {
        if *self.core.phase.borrow() == Phase::Ending {
            return Err(ApiError::new(Reason::ShuttingDown, "the gateway is shutting down").into());
        }
        client.record.route =
            if counts { client.dialect.counting_route().into() } else { client.dialect.route().into() };
        let body = body::read(session, client.snapshot.server.max_body_bytes).await?;
        taping::begin(session, client, &body);
        let body = match call {
            Some(call) => call.complete(body, session.req_header().uri.query()),
            None => body,
        };
        let mut envelope = client.dialect.scan(body)?;
        if envelope.previous.is_some() {
            envelope = Box::pin(responses::go_on(&self.core, client, envelope)).await?;
        }
        (envelope.counts_tokens, envelope.stream) = (counts, envelope.stream && !counts);
        self.serve(session, client, envelope).await
    }

    /// What is no conversation; `call` is what the path says of it, where it does.
    async fn work(
        &self,
        session: &mut Session,
        client: &mut ClientCtx,
        work: Work,
        call: Option<Call>,
    ) -> Result<(), Stop> {
        if *self.core.phase.borrow() == Phase::Ending {
            return Err(ApiError::new(Reason::ShuttingDown, "the gateway is shutting down").into());
        }
        let route = call.as_ref().map_or(work.route(), |call| call.method.embedding_route());
        client.record.route = route.unwrap_or_default().into();
        let body = body::read(session, client.snapshot.server.max_body_bytes).await?;
        taping::begin(session, client, &body);
        let envelope = match call {
            Some(call) => gemini_client::scan(call.complete(body, None), call.method)?,
            None => Box::pin(work::read(session, client, work, body)).await?,
        };
        self.serve(session, client, envelope).await
    }

    /// Serves a request that is read and known.
    async fn serve(&self, session: &mut Session, client: &mut ClientCtx, mut envelope: Envelope) -> Result<(), Stop> {
        if self.core.ledger.get().is_some() || self.core.telemetry.traces.is_on() {
            client.entry.user.clone_from(&envelope.user);
            client.entry.extensions = Some(envelope.extensions.clone());
        }
        let model: Arc<str> = envelope.model.as_str().into();
        self.core.telemetry.pending(&client.record, Some(&model));
        client.record.requested_model = Some(model);
        client.record.stream = envelope.stream;
        let snapshot = client.snapshot.clone();
        let wishes = &envelope.extensions;
        let names_fallbacks = !wishes.fallback_models.is_empty() || !wishes.models.is_empty();
        preset::complete(&snapshot, &mut envelope)?;
        let mut plan = match Plan::new(&self.core, &snapshot, &envelope, client.scopes().as_deref(), fastrand::u64(..))
        {
            Ok(plan) => plan,
            Err(none) => {
                client.record.decision = none.decision;
                return Err(none.error.into());
            }
        };
        client.record.decision = plan.decision.take();
        plan.keep_to(client, &snapshot, names_fallbacks)?;
        byok::keep_to_open(envelope.extensions.byok.as_ref(), client.holder.as_ref(), &mut plan)?;
        if let Some(byok) = &envelope.extensions.byok {
            byok::check(&snapshot, byok, client.holder.as_ref(), &plan)?;
            plan.unusable.extend(byok::unused(&snapshot, byok, &plan));
        }
        if envelope.counts_tokens {
            return Box::pin(count::answer(&self.core, session, client, &envelope, plan)).await;
        }
        // On a kept-alive connection a pipelined next request must not look like a client that misbehaves.
        session.set_pipelining_enabled(true);
        // A response has an id of its own, from which its client may go on.
        let is_cached = envelope.work.is_repeatable() && envelope.client != Client::OpenAiResponses;
        if snapshot.cache.backend != CacheBackend::Off && is_cached {
            return Box::pin(cache::answer(&self.core, session, client, &envelope, plan)).await;
        }
        walk::serve(&self.core, session, client, &envelope, plan).await
    }

    async fn model(&self, session: &mut Session, client: &mut ClientCtx, id: &str) -> Result<(), Stop> {
        let snapshot = client.snapshot.clone();
        let Some(item) = Listing::new(&self.core, &snapshot, client.scopes()).named(id) else {
            let shown: String = id.chars().take(200).collect();
            let message = format!("The model {shown:?} is not available: see GET /v1/models");
            return Err(ApiError::new(Reason::ModelNotFound, message).param("model").into());
        };
        let item = listing::one(client.dialect, item).to_string();
        respond::whole(session, client, 200, "application/json", item.into()).await
    }

    /// An error as it may be shown: a client may have put a key where a name belongs, and names are repeated.
    fn redacted(&self, client: &mut ClientCtx, error: ApiError) -> ApiError {
        let redactor = &self.core.telemetry.redactor;
        if let Some(model) = &client.record.model {
            client.record.model = Some(redactor.redact(model).into());
        }
        let shown = redactor.redact(&error.message).into_owned();
        error.message(shown)
    }

    /// What load balancers and the curious ask, without a key.
    async fn plain(&self, session: &mut Session, client: &mut ClientCtx, route: &Route) -> Result<(), Stop> {
        let draining = *self.core.phase.borrow() != Phase::Serving;
        let (status, body) = match route {
            Route::Ready if draining => (503, json!({"status": "draining"})),
            Route::Ready if self.core.degraded.load().is_some() => (200, json!({"status": "degraded"})),
            Route::Live | Route::Ready => (200, json!({"status": "ok"})),
            _ => {
                let console = client.snapshot.console.listen.first().map(|address| format!("http://{address}"));
                let version = env!("CARGO_PKG_VERSION");
                (200, json!({"name": "orbyt", "version": version, "api": "/v1/chat/completions", "console": console}))
            }
        };
        respond::whole(session, client, status, "application/json", Bytes::from(body.to_string())).await
    }
}

fn peer_address(session: &Session) -> Option<IpAddr> {
    session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip())
}

/// The origin that a browser may be told about, when `server.cors` allows the one that asks.
fn cors_origin(allowed: &[String], session: &Session) -> Option<String> {
    if allowed.is_empty() {
        return None;
    }
    let origin = session.req_header().headers.get("origin")?.to_str().ok()?;
    allowed.iter().any(|one| one == "*" || one == origin).then(|| origin.to_owned())
}
