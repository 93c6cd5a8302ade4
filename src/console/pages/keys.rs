//! The gateway's API keys: making one, which is shown once; rotating, switching off and revoking.

use super::ask::{ask, list, part, segment, text};
use super::form::{Field, Fields, Form, Kind, Outcome, button, listed, typed};
use super::layout::{self, badge, copyable, csrf, empty, heading, scrolling};
use super::snippets::{With, first_requests};
use super::visit::{Failure, Visit};
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use axum::Form as Body;
use axum::extract::{Path, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// What a key of the console's own carries, so that it is not listed among people's.
pub(super) const PURPOSE: &str = crate::console::api::PURPOSE;
/// Such a key lasts no longer. What says that it is one and goes on is shown like any other.
const LONGEST_OWN: Duration = Duration::minutes(10);

pub(super) async fn page(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    render(&shared, &visit, Outcome::None).await
}

async fn render(shared: &Arc<Shared>, visit: &Visit, outcome: Outcome) -> Result<Response, Failure> {
    let (keys, more) = newest(shared, visit).await?;
    let projects = list(shared, visit, "/api/v1/projects").await.unwrap_or_default();
    let may_make = visit.home(Operation::MakeOwnKeys).is_ok();
    let body = html! {
        (heading("API keys", "What your applications present to the gateway. Only a key's ends are kept to be shown.", html! {}))
        (outcome.banner())
        @if may_make { (new_form(visit, &projects, outcome.form("k", &Fields::new()))) }
        section.panel {
            @if keys.is_empty() {
                (empty("No key yet", "Make one above. The keys of the configuration are not listed here. Then:", first_requests(shared, visit, "first", With::default())))
            } @else {
                (scrolling("Keys", html! {
                    table {
                        thead { tr { th scope="col" { "Name" } th scope="col" { "Key" } th scope="col" { "Scope" } th scope="col" { "Limits" } th scope="col" { "Status" } th scope="col" { "Made" } th scope="col" { "Expires" } th scope="col" { span.visually-hidden { "Actions" } } } }
                        tbody { @for key in &keys { (line(visit, key, &projects, may_make)) } }
                    }
                }))
            }
            (more)
        }
    };
    Ok((outcome.status(), layout::page(shared, visit, "API keys", body).await).into_response())
}

/// The newest keys, or those from a place in the list on, and the way to the others.
async fn newest(shared: &Arc<Shared>, visit: &Visit) -> Result<(Vec<Value>, Markup), Failure> {
    let asked: HashMap<_, _> = form_urlencoded::parse(visit.query.as_bytes()).collect();
    let (cursor, is_active) = (asked.get("cursor"), asked.get("status").is_some_and(|status| status == "active"));
    let path = if is_active { "/api/v1/keys?order=newest&status=active" } else { "/api/v1/keys?order=newest" };
    let (mut keys, next) = part(shared, visit, path, cursor.map(|it| &**it)).await?;
    keys.retain(|key| !is_consoles_own(key));
    let page = if is_active { "/keys?status=active" } else { "/keys" };
    let older = next.map(|next| {
        let sign = if is_active { '&' } else { '?' };
        visit.link(&format!("{page}{sign}cursor={}", segment(&next)))
    });
    let more = html! {
        footer {
            @if is_active { a href=(visit.link("/keys")) { "All keys" } } @else { a href=(visit.link("/keys?status=active")) { "Active keys alone" } }
            @if cursor.is_some() { a href=(visit.link(page)) { "The newest" } }
            @if let Some(older) = older { a href=(older) { "Older" } }
        }
    };
    Ok((keys, more))
}

/// Whether a key is one that the console has made for a request of its own.
fn is_consoles_own(key: &Value) -> bool {
    let time = |name| OffsetDateTime::parse(text(key, name), &Rfc3339).ok();
    let (Some(made), Some(ends)) = (time("created_at"), time("expires_at")) else { return false };
    key["metadata"]["purpose"] == PURPOSE && ends - made <= LONGEST_OWN
}

fn new_form(visit: &Visit, projects: &[Value], form: Form<'_>) -> Markup {
    let field = |name, label, placeholder| form.field(Field { name, label, placeholder, ..Field::default() }, &[]);
    let number = |name, label| {
        form.field(Field { name, label, placeholder: "no limit", kind: Kind::Number, ..Field::default() }, &[])
    };
    let projects: Vec<(&str, &str)> = projects.iter().map(|it| (text(it, "id"), text(it, "name"))).collect();
    html! {
        details.panel open[form.is_refused()] {
            summary.pad { strong { "New key" } }
            div.body {
                form.form method="post" action=(visit.link("/keys")) {
                    (csrf(visit))
                    (form.field(Field { name: "name", label: "Name", is_required: true, ..Field::default() }, &[]))
                    @if projects.len() > 1 { (form.choice(Field { name: "project", label: "Project", ..Field::default() }, &projects)) }
                    (field("models", "Models", "all; or gpt-*, openai/*"))
                    (field("providers", "Providers", "all"))
                    (field("addresses", "Addresses", "all; or 192.0.2.0/24"))
                    (number("requests_per_minute", "Requests a minute"))
                    (number("tokens_per_minute", "Tokens a minute"))
                    (form.field(Field { name: "expires_at", label: "Expires", kind: Kind::Date, ..Field::default() }, &[]))
                    div { button.primary type="submit" { "Create key" } }
                }
            }
        }
    }
}

fn line(visit: &Visit, key: &Value, projects: &[Value], may_make: bool) -> Markup {
    let (id, status) = (segment(text(key, "id")), text(key, "status"));
    let tone = match status {
        "active" => "good",
        "disabled" => "warn",
        _ => "bad",
    };
    let names = |name: &str| -> String {
        let list = key["scopes"][name].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let scopes: Vec<String> =
        ["models", "providers", "routes", "addresses"].into_iter().map(names).filter(|it| !it.is_empty()).collect();
    let limits: Vec<String> = key["limits"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, amount)| format!("{} {amount}", name.replace('_', " ")))
        .collect();
    let project = projects.iter().find(|project| project["id"] == key["project"]).map(|project| text(project, "name"));
    let post = |action: &str| format!("/keys/{id}/{action}");
    let is_over = matches!(status, "revoked" | "expired");
    html! {
        tr {
            th scope="row" { (text(key, "name")) @if let Some(project) = project { br; small.muted { (project) } } }
            td.mono.nowrap { (text(key, "label")) }
            td { @if scopes.is_empty() { "all models" } @else { (scopes.join(" \u{b7} ")) } }
            td { @if limits.is_empty() { span.muted { "none" } } @else { (limits.join(", ")) } }
            td { (badge(tone, status)) }
            td.nowrap { (text(key, "created_at").get(..10).unwrap_or_default()) }
            td.nowrap { (text(key, "expires_at").get(..10).unwrap_or("never")) }
            td {
                @if may_make && !is_over {
                    details.quiet {
                        summary { "Change" span.visually-hidden { " " (text(key, "name")) } }
                        div.actions {
                            (button(visit, &post("rotate"), "Rotate", "", &[]))
                            @if status == "disabled" { (button(visit, &post("enable"), "Enable", "", &[])) } @else { (button(visit, &post("disable"), "Disable", "", &[])) }
                            (button(visit, &post("revoke"), "Revoke", "danger", &[]))
                        }
                    }
                }
            }
        }
    }
}

/// A key that was just made, shown this once.
fn shown_once(shared: &Shared, visit: &Visit, answer: &Value) -> Outcome {
    let key = text(answer, "key");
    let with = With { key: Some(key), ..With::default() };
    Outcome::Done(html! {
        section.panel role="status" {
            header { h2 { "The key " (text(&answer["data"], "name")) } (badge("warn", "shown only now")) }
            div.body {
                (copyable("new-key", key))
                br;
                details.quiet { summary { "A first request with it" } (first_requests(shared, visit, "new", with)) }
            }
        }
    })
}

fn limits(fields: &Fields) -> Result<Map<String, Value>, Problem> {
    let mut limits = Map::new();
    for name in ["requests_per_minute", "tokens_per_minute"] {
        let text = typed(fields, name);
        if !text.is_empty() {
            let amount: u64 = text.parse().map_err(|_| Problem::invalid(name, "A limit is a whole number."))?;
            limits.insert(name.to_owned(), amount.into());
        }
    }
    Ok(limits)
}

pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Body(fields): Body<Fields>,
) -> Result<Response, Failure> {
    let wanted = async {
        let mut body = json!({
            "name": typed(&fields, "name"),
            "scopes": {
                "models": listed(&fields, "models"),
                "providers": listed(&fields, "providers"),
                "addresses": listed(&fields, "addresses"),
            },
            "limits": limits(&fields)?,
        });
        match typed(&fields, "project") {
            "" => body["org"] = (&*visit.home(Operation::MakeOwnKeys)?).into(),
            project => body["project"] = project.into(),
        }
        let date = typed(&fields, "expires_at");
        if !date.is_empty() {
            body["expires_at"] = format!("{date}T00:00:00Z").into();
        }
        ask(&shared, &visit, Method::POST, "/api/v1/keys", Some(&body)).await
    };
    let outcome = match wanted.await {
        Ok(answer) => shown_once(&shared, &visit, &answer),
        Err(problem) => Outcome::of("k", fields, Err(problem)),
    };
    render(&shared, &visit, outcome).await
}

pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path((id, action)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let path = format!("/api/v1/keys/{}", segment(&id));
    let done = match action.as_str() {
        "rotate" => ask(&shared, &visit, Method::POST, &format!("{path}/rotate"), Some(&json!({}))).await,
        "revoke" => ask(&shared, &visit, Method::POST, &format!("{path}/revoke"), None).await,
        "disable" => ask(&shared, &visit, Method::PATCH, &path, Some(&json!({"disabled": true}))).await,
        "enable" => ask(&shared, &visit, Method::PATCH, &path, Some(&json!({"disabled": false}))).await,
        _ => Err(Problem::not_found("action")),
    };
    let outcome = match (done, action.as_str()) {
        (Ok(answer), "rotate") => shown_once(&shared, &visit, &answer),
        (Ok(_), "revoke") => Outcome::of_button(Ok("The key is void now, on every node.")),
        (Ok(_), "disable") => Outcome::of_button(Ok("The key is not accepted until it is enabled again.")),
        (Ok(_), _) => Outcome::of_button(Ok("The key is accepted again.")),
        (Err(problem), _) => Outcome::of_button(Err(problem)),
    };
    render(&shared, &visit, outcome).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_key_that_ends_at_once_is_taken_for_the_consoles_own() {
        let key = |ends: Value, purpose: &str| json!({"created_at": "2026-01-31T12:00:00.5Z", "expires_at": ends, "metadata": {"purpose": purpose}});
        assert!(is_consoles_own(&key("2026-01-31T12:02:00Z".into(), "console")));
        assert!(!is_consoles_own(&key("2026-01-31T12:02:00Z".into(), "batch")));
        assert!(!is_consoles_own(&key("2026-01-31T12:20:00Z".into(), "console")));
        assert!(!is_consoles_own(&key(Value::Null, "console")));
    }
}
