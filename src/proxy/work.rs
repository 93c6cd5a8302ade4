//! What is asked of a target when it is not to converse: vectors, or whatever a route is for whose requests and answers pass as they are.
//! The plan, the walk, its attempts and its relay are those of every request.

use super::attempt::{self, Outgoing};
use super::core::ClientCtx;
use super::error::ApiError;
use super::form;
use super::message::Message;
use super::names::Target;
use super::walk::Walk;
use crate::config::snapshot::Snapshot;
use crate::dialect::client::Client;
use crate::dialect::embeddings::answer::Expected;
use crate::dialect::embeddings::gemini_client::{self, To};
use crate::dialect::embeddings::{Encoding, Form, Sheets, openai, passed};
use crate::dialect::openai_chat::envelope::Envelope;
use crate::dialect::relay::{self, rerank};
use crate::dialect::work::{Endpoint, Work};
use crate::domain::{Fault, FaultKind};
use crate::provider::Status;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession as Session;

/// Reads a request.
///
/// # Errors
/// 400 that names what is wrong with it.
pub(super) async fn read(session: &Session, client: &ClientCtx, work: Work, body: Bytes) -> Result<Envelope, ApiError> {
    let Work::Relay(endpoint) = work else { return Ok(passed::scan(body)?) };
    let content_type = session.req_header().headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut envelope = match form::boundary(content_type)? {
        Some(boundary) => relay::scan_form(endpoint, form::read(body, boundary).await?)?,
        None => relay::scan_json(endpoint, body)?,
    };
    if envelope.model.trim().is_empty() {
        let preset = envelope.extensions.preset.as_ref().map(|preset| format!("@preset/{preset}"));
        let usual = preset.or_else(|| usual_model(&client.snapshot, work));
        envelope.model = usual.ok_or_else(|| Fault::bad_request("model", "you must provide a model"))?;
    }
    Ok(envelope)
}

/// What serves a request that names no model, as those for moderations need not: the first model for it of the providers in use.
fn usual_model(snapshot: &Snapshot, work: Work) -> Option<String> {
    if work != Work::Relay(Endpoint::Moderations) {
        return None;
    }
    let fits = |provider: &str| {
        let mut models = snapshot.catalog.models().iter();
        models.find(|row| *row.provider == *provider && row.status == Status::Live && row.class.does(work))
    };
    snapshot.providers.iter().find_map(|provider| fits(&provider.id)).map(|row| row.id.to_string())
}

impl Walk<'_> {
    /// The request for a target.
    ///
    /// # Errors
    /// `BadRequest` when it cannot be said in the target's form.
    pub(super) fn render_work(&self, target: &Target) -> Result<Message, Fault> {
        let (provider, model) = (&target.provider, &target.model);
        if let Work::Relay(endpoint) = self.envelope.work {
            return relayed(self.envelope, target, endpoint, self.plan.require_parameters);
        }
        let none = || Fault::new(FaultKind::Unsupported, "this provider makes no embeddings");
        let form = provider.embedding_form(model).ok_or_else(none)?;
        if self.envelope.client == Client::Gemini {
            return self.render_google(target, form);
        }
        let path = provider.embedding_path(model, form);
        let expected = |inputs, encoding| Expected {
            client: Form::OpenAi,
            form,
            inputs,
            encoding,
            packed: passed::packed(provider.quirks),
            model: model.upstream.clone(),
        };
        let most = provider.embedding_inputs(model);
        if form == Form::OpenAi {
            let sheets = passed::sheets(self.envelope, &model.upstream, provider.quirks, most);
            let encoding = passed::encoding(self.envelope);
            return Ok(message(path, sheets, |inputs| expected(inputs, encoding)));
        }
        let request = openai::parse(&passed::own(self.envelope))?;
        let sheets = form.render(&request, &model.upstream, most, self.plan.require_parameters)?;
        Ok(message(path, sheets, |inputs| expected(inputs, Some(request.encoding))))
    }

    /// The same for a client that asks in Google's form.
    fn render_google(&self, target: &Target, form: Form) -> Result<Message, Fault> {
        let (provider, model) = (&target.provider, &target.model);
        let client = gemini_client::form(self.envelope);
        let expected = |form, inputs| Expected {
            client,
            form,
            inputs,
            encoding: Some(Encoding::Float),
            packed: passed::packed(provider.quirks),
            model: model.upstream.clone(),
        };
        if let Some(own) = gemini_client::passes(self.envelope, form) {
            let sheets = gemini_client::sheets(self.envelope, &model.upstream);
            return Ok(message(provider.embedding_path(model, own), sheets, |inputs| expected(own, inputs)));
        }
        let to = To {
            model: &model.upstream,
            most: provider.embedding_inputs(model),
            strict: self.plan.require_parameters,
            quirks: provider.quirks,
        };
        let sheets = gemini_client::render(self.envelope, form, &to)?;
        Ok(message(provider.embedding_path(model, form), sheets, |inputs| expected(form, inputs)))
    }
}

/// The message that asks for vectors, in as many bodies as there are.
fn message(path: String, sheets: Sheets, expected: impl FnOnce(Vec<Option<usize>>) -> Expected) -> Message {
    let mut bodies = sheets.bodies.into_iter().map(Bytes::from);
    let first = bodies.next().unwrap_or_default();
    Message {
        dropped: sheets.dropped,
        more: bodies.collect(),
        vectors: Some(expected(sheets.inputs).into()),
        ..Message::new(path, first)
    }
}

/// The request of a route whose bytes pass.
fn relayed(
    envelope: &Envelope,
    target: &Target,
    endpoint: Endpoint,
    require_parameters: bool,
) -> Result<Message, Fault> {
    let none = || Fault::new(FaultKind::Unsupported, "this provider has nothing behind this route");
    let path = endpoint.path_at(target.dialect()).ok_or_else(none)?;
    let ranking = rerank::wanted(envelope, target.provider.quirks);
    let (body, content_type) = relay::body(envelope, &target.model.upstream, ranking);
    let dropped = ranking.map(|wanted| rerank::lost(envelope, wanted)).unwrap_or_default();
    if require_parameters && let Some(name) = dropped.first() {
        return Err(Fault::bad_request(
            "provider.require_parameters",
            format!("this provider has nothing like {name}"),
        ));
    }
    let mut headers = vec![("accept", "*/*".to_owned())];
    headers.extend(content_type.map(|content_type| ("content-type", content_type)));
    Ok(Message { headers, dropped, ..Message::new(target.provider.path_beside_chat(&target.model, path), body) })
}

/// The requests of a message of several bodies; `head` is that of the first.
///
/// # Errors
/// As [`attempt::head`].
pub(super) fn batches(
    outgoing: &Outgoing<'_>,
    head: Box<RequestHeader>,
    message: &Message,
) -> Result<Vec<(Box<RequestHeader>, Bytes)>, Fault> {
    let further = |body: &Bytes| Ok((attempt::head(&Outgoing { body, ..*outgoing })?, body.clone()));
    let first = Ok((head, message.body.clone()));
    std::iter::once(first).chain(message.more.iter().map(further)).collect()
}
