//! Requests that the console sends itself, for the playground and to replay one: through the gateway like anybody's, with a key that is made for
//! it, lasts two minutes and is revoked at the end. Keys that clients brought are never used.

use super::answer;
use super::ask::{ask, text};
use super::form::bad_news;
use super::keys::PURPOSE;
use super::layout::{self, csrf, heading};
use super::models;
use super::payload;
use super::request::{Known, find};
use super::visit::{Failure, Visit};
use crate::console::now_ms;
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use axum::Form;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(100);
/// An answer is read up to here.
const MOST_BYTES: usize = 2 << 20;
/// Where a request may be sent again to: what has its model in a JSON body.
const ROUTES: [&str; 5] =
    ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"];

static CLIENT: LazyLock<reqwest::Result<reqwest::Client>> = LazyLock::new(|| {
    // No proxy: it goes to this very process.
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build()
});

/// What came of a request.
struct Sent {
    status: u16,
    /// The request's id.
    id: Option<String>,
    body: String,
}

/// A request that is to be sent.
pub(super) struct Asking {
    /// For this organisation.
    pub org: Arc<str>,
    /// To this path of the gateway.
    pub route: String,
    /// With this body.
    pub body: Value,
}

/// A key that was made for one request.
pub(super) struct OwnKey {
    id: String,
    /// The key.
    pub secret: String,
}

/// Makes a key for a request of an organisation. It ends by itself in two minutes.
pub(super) async fn new_key(shared: &Arc<Shared>, visit: &Visit, org: &str) -> Result<OwnKey, Problem> {
    let until = OffsetDateTime::from_unix_timestamp((now_ms() / 1000 + 120).try_into().unwrap_or(i64::MAX));
    let until = until.ok().and_then(|until| until.format(&Rfc3339).ok()).unwrap_or_default();
    let name = format!("console {:08x}", fastrand::u32(..));
    let wanted = json!({"name": name, "org": org, "expires_at": until, "metadata": {"purpose": PURPOSE}});
    let made = ask(shared, visit, Method::POST, "/api/v1/keys", Some(&wanted)).await?;
    Ok(OwnKey { id: text(&made["data"], "id").to_owned(), secret: text(&made, "key").to_owned() })
}

/// Ends it.
pub(super) async fn revoke(shared: &Arc<Shared>, visit: &Visit, key: &OwnKey) {
    let revoke = format!("/api/v1/keys/{}/revoke", key.id);
    if let Err(problem) = ask(shared, visit, Method::POST, &revoke, None).await {
        log::warn!("a key of the console's stays until it expires: {}", problem.detail());
    }
}

/// That the gateway could not be asked.
pub(super) fn failed(why: &str) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, format!("The gateway cannot be asked: {why}"))
}

/// A request to the gateway.
pub(super) fn request(
    shared: &Shared,
    route: &str,
    key: &str,
    body: &Value,
) -> Result<reqwest::RequestBuilder, Problem> {
    let base = shared.deps.gateway_urls.first().ok_or_else(|| failed("it listens nowhere"))?;
    let base = base.trim_end_matches('/').replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:");
    let client = CLIENT.as_ref().map_err(|error| failed(&error.to_string()))?;
    Ok(client.post(format!("{base}{route}")).bearer_auth(key).json(body))
}

/// Sends a request, and waits for all of its answer.
async fn send(shared: &Arc<Shared>, visit: &Visit, asking: &Asking) -> Result<Sent, Problem> {
    let key = new_key(shared, visit, &asking.org).await?;
    let sent = through_the_gateway(shared, asking, &key).await;
    revoke(shared, visit, &key).await;
    sent
}

async fn through_the_gateway(shared: &Shared, asking: &Asking, key: &OwnKey) -> Result<Sent, Problem> {
    let request = request(shared, &asking.route, &key.secret, &asking.body)?;
    let mut answer = request.send().await.map_err(|error| failed(&error.without_url().to_string()))?;
    let id = answer.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let (status, mut bytes) = (answer.status().as_u16(), Vec::new());
    while let Ok(Some(piece)) = answer.chunk().await {
        bytes.extend_from_slice(&piece);
        if bytes.len() > MOST_BYTES {
            break;
        }
    }
    Ok(Sent { status, id, body: String::from_utf8_lossy(&bytes).into_owned() })
}

/// Which model a request is replayed against.
#[derive(Deserialize)]
pub(super) struct Replay {
    model: String,
}

/// What is to be sent again, to another model.
async fn asked_again(shared: &Arc<Shared>, visit: &Visit, id: &str, wanted: &Replay) -> Result<Asking, Failure> {
    let Known { payloads, .. } = find(shared, visit, id).await?;
    let payloads = payloads.ok_or_else(|| Problem::not_found("payload"))?;
    visit.viewer.may(Operation::SeePayloads, Some(&payloads.org))?;
    let path = payloads.request.url.split('?').next().unwrap_or_default();
    let (Some(body), true) = (payload::whole(&payloads), ROUTES.contains(&path)) else {
        let detail = "Only a request whose whole body was kept as JSON can be sent again.";
        return Err(Problem::new(StatusCode::CONFLICT, detail).into());
    };
    let body = as_replay(body, wanted.model.trim());
    Ok(Asking { org: payloads.org.as_str().into(), route: path.to_owned(), body })
}

/// Sends a request again, to another model, and shows the page of what came of it.
pub(super) async fn replay(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<String>,
    Form(wanted): Form<Replay>,
) -> Result<Response, Failure> {
    let asking = asked_again(&shared, &visit, &id, &wanted).await?;
    let sent = send(&shared, &visit, &asking).await?;
    match sent.id {
        Some(id) => Ok(Redirect::to(&format!("/requests/{id}")).into_response()),
        None => Err(Problem::new(StatusCode::BAD_GATEWAY, format!("The gateway answered {}.", sent.status)).into()),
    }
}

/// The same, as it comes.
pub(super) async fn replay_stream(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<String>,
    Form(wanted): Form<Replay>,
) -> Result<Response, Problem> {
    let mut asking = asked_again(&shared, &visit, &id, &wanted).await.map_err(|failure| failure.0)?;
    if asking.route != "/v1/embeddings" {
        asking.body["stream"] = true.into();
    }
    answer::begin(&shared, visit, asking)
}

/// The body for another model: without anybody's own keys, and without models that would stand in for it.
fn as_replay(mut body: Map<String, Value>, model: &str) -> Value {
    for name in ["byok", "models", "fallback_models"] {
        body.remove(name);
    }
    if let Some(Value::Object(extra)) = body.get_mut("extra") {
        for name in ["byok", "models", "fallback_models"] {
            extra.remove(name);
        }
    }
    body.insert("model".to_owned(), model.into());
    Value::Object(body)
}

/// What the playground's form says.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Played {
    model: String,
    system: String,
    prompt: String,
    temperature: String,
    max_tokens: String,
}

/// The playground.
pub(super) async fn playground(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    visit.home(Operation::MakeOwnKeys)?;
    Ok(layout::page(&shared, &visit, "Playground", played(&shared, &visit, &Played::default(), html! {})).await)
}

impl Played {
    fn asking(&self, org: Arc<str>) -> Asking {
        let mut messages = Vec::new();
        if !self.system.trim().is_empty() {
            messages.push(json!({"role": "system", "content": self.system}));
        }
        messages.push(json!({"role": "user", "content": self.prompt}));
        let mut body = json!({"model": self.model.trim(), "messages": messages});
        for (name, text) in [("temperature", &self.temperature), ("max_tokens", &self.max_tokens)] {
            if !text.trim().is_empty() {
                body[name] = serde_json::from_str(text.trim()).unwrap_or_else(|_| text.trim().into());
            }
        }
        Asking { org, route: "/v1/chat/completions".to_owned(), body }
    }
}

/// Asks what was typed into the playground, and shows the answer once it is there.
pub(super) async fn play(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(wanted): Form<Played>,
) -> Result<Response, Failure> {
    let org = visit.home(Operation::MakeOwnKeys)?;
    let answer = match send(&shared, &visit, &wanted.asking(org)).await {
        Ok(sent) => answered(&sent),
        Err(problem) => bad_news(problem.detail()),
    };
    Ok(layout::page(&shared, &visit, "Playground", played(&shared, &visit, &wanted, answer)).await)
}

/// The same, as it comes.
pub(super) async fn play_stream(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(wanted): Form<Played>,
) -> Result<Response, Problem> {
    let mut asking = wanted.asking(visit.home(Operation::MakeOwnKeys)?);
    asking.body["stream"] = true.into();
    answer::begin(&shared, visit, asking)
}

/// Where the script shows an answer as it comes; nothing without it.
pub(super) fn stage() -> Markup {
    html! {
        section.panel id="answer" hidden aria-labelledby="answer-title" {
            header {
                h2 id="answer-title" { "Answer" }
                span.badge.live id="answer-state" role="status" { "asking" }
                span.actions {
                    a id="answer-link" href="/requests" hidden { "Why it went there" }
                    button type="button" id="answer-stop" { "Stop" }
                }
            }
            div.body {
                details.quiet id="answer-thoughts" hidden { summary { "Reasoning" } pre.wrap id="answer-reasoning" tabindex="0" role="region" aria-label="Reasoning" {} }
                pre.wrap id="answer-text" tabindex="0" role="region" aria-label="Answer" {}
                p.small.muted id="answer-facts" {}
            }
        }
    }
}

fn answered(sent: &Sent) -> Markup {
    let value: Value = serde_json::from_str(&sent.body).unwrap_or_default();
    let message = value["choices"][0]["message"]["content"].as_str().or(value["error"]["message"].as_str());
    let usage = &value["usage"];
    html! {
        section.panel role="status" {
            header {
                h2 { "Answer" }
                (layout::badge(if sent.status < 400 { "good" } else { "bad" }, &sent.status.to_string()))
                @if let Some(id) = &sent.id { a href={ "/requests/" (id) } { "Why it went there" } }
            }
            div.body {
                pre.wrap { (message.unwrap_or(&sent.body)) }
                @if usage.is_object() {
                    p.small.muted { (value["model"].as_str().unwrap_or_default()) " \u{b7} " (usage["prompt_tokens"]) " tokens in, " (usage["completion_tokens"]) " out" }
                }
            }
        }
    }
}

fn played(shared: &Shared, visit: &Visit, typed: &Played, answer: Markup) -> Markup {
    let snapshot = (shared.deps.snapshot)();
    let example = snapshot.example_model().unwrap_or_else(|| "auto".to_owned());
    let model = if typed.model.is_empty() { &example } else { &typed.model };
    let names = models::names(&snapshot);
    html! {
        (heading("Playground", "Ask a model through the gateway. It counts and costs like any other request.", html! {}))
        section.panel {
            div.body {
                form.form method="post" action=(visit.link("/playground")) data-stream=(visit.link("/playground/stream")) {
                    (csrf(visit))
                    div.field { label for="m" { "Model" } input.mono id="m" name="model" value=(model) list="models" required autocomplete="off"; datalist id="models" { @for name in &names { option value=(name) {} } } }
                    div.field { label for="t" { "Temperature" } input id="t" name="temperature" value=(typed.temperature) inputmode="decimal"; }
                    div.field { label for="n" { "Most tokens" } input id="n" name="max_tokens" value=(typed.max_tokens) inputmode="numeric"; }
                    div.field.full { label for="s" { "System prompt" } textarea id="s" name="system" rows="2" { (typed.system) } }
                    div.field.full { label for="p" { "Prompt" } textarea id="p" name="prompt" rows="6" required { (typed.prompt) } }
                    div { button.primary type="submit" { "Ask" } }
                }
            }
        }
        (stage())
        div id="answered" { (answer) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_goes_to_the_model_that_was_chosen_and_with_nobodys_key() {
        let body = json!({"model": "a", "byok": "sk-x", "models": ["b"], "extra": {"byok": {"openai": "sk-y"}, "fallback_models": ["c"], "session_id": "s"}});
        let Value::Object(body) = body else { unreachable!() };
        let replay = as_replay(body, "d");
        assert_eq!(replay, json!({"model": "d", "extra": {"session_id": "s"}}));
    }
}
