//! Keys of providers: those of the configuration, and those in the vault, which can be added and removed here.

use super::ask::{ask, list, segment, text};
use super::form::{Field, Fields, Form, Kind, Outcome, removal, typed};
use super::layout::{self, badge, copyable, csrf, empty, heading, scrolling};
use super::visit::{Failure, Visit};
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use axum::Form as Body;
use axum::extract::{Path, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn page(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    render(&shared, &visit, Outcome::None).await
}

async fn render(shared: &Arc<Shared>, visit: &Visit, outcome: Outcome) -> Result<Response, Failure> {
    let keys = list(shared, visit, "/api/v1/provider-keys").await?;
    let snapshot = (shared.deps.snapshot)();
    let is_administrator = visit.viewer.is_administrator();
    let may_add = visit.home(Operation::ManageProviderKeys).is_ok();
    let configured = snapshot.providers.iter().filter(|_| is_administrator).flat_map(|provider| {
        let own = provider.keys.iter().filter(|key| !keys.iter().any(|it| text(it, "name") == &*key.name));
        own.map(|key| (provider.id.clone(), key.clone())).collect::<Vec<_>>()
    });
    let configured: Vec<_> = configured.collect();
    let providers: Vec<String> = snapshot.catalog.providers().iter().map(|row| row.id.to_string()).collect();
    let body = html! {
        (heading("Provider keys", "What the gateway presents to providers. Those in the vault are encrypted with AES-256-GCM.", html! {
            @if is_administrator { a.button href="/pool" { "Key pool" } }
        }))
        (outcome.banner())
        @if may_add { (new_form(visit, &providers, outcome.form("p", &Fields::new()))) }
        section.panel {
            header { h2 { "In the vault" } }
            @if keys.is_empty() {
                (empty("The vault is empty", "Add a key above, or on the command line:", copyable("first", "orbyt vault add openai")))
            } @else {
                (scrolling("Keys in the vault", html! {
                    table {
                        thead { tr { th scope="col" { "Name" } th scope="col" { "Provider" } th scope="col" { "Key" } th scope="col" { "Serves" } th scope="col" { "Added" } th scope="col" { span.visually-hidden { "Actions" } } } }
                        tbody { @for key in &keys { (line(visit, key, may_add)) } }
                    }
                }))
            }
        }
        @if !configured.is_empty() {
            section.panel {
                header { h2 { "From the configuration" } span.muted.small { "changed in the file or the environment" } }
                (scrolling("Keys of the configuration", html! {
                    table {
                        thead { tr { th scope="col" { "Name" } th scope="col" { "Provider" } th scope="col" { "Key" } } }
                        tbody { @for (provider, key) in &configured { tr { th scope="row" { (key.name) } td { (provider) } td.mono { (key.secret.masked()) } } } }
                    }
                }))
            }
        }
    };
    Ok((outcome.status(), layout::page(shared, visit, "Provider keys", body).await).into_response())
}

fn new_form(visit: &Visit, providers: &[String], form: Form<'_>) -> Markup {
    let mut owners = vec![("org", "this organisation alone")];
    if visit.viewer.is_administrator() && visit.org.is_none() {
        owners.insert(0, ("", "everybody"));
    }
    html! {
        details.panel open[form.is_refused()] {
            summary.pad { strong { "Add a key" } }
            div.body {
                form.form method="post" action=(visit.link("/provider-keys")) autocomplete="off" {
                    (csrf(visit))
                    (form.field(Field { name: "provider", label: "Provider", is_required: true, ..Field::default() }, providers))
                    (form.field(Field { name: "key", label: "Key", is_required: true, kind: Kind::Secret, ..Field::default() }, &[]))
                    (form.field(Field { name: "name", label: "Name", placeholder: "as the provider", ..Field::default() }, &[]))
                    (form.choice(Field { name: "owner", label: "Serves", ..Field::default() }, &owners))
                    div { button.primary type="submit" { "Add key" } }
                }
            }
        }
    }
}

fn line(visit: &Visit, key: &Value, may_remove: bool) -> Markup {
    let action = format!("/provider-keys/{}/remove", segment(text(key, "id")));
    html! {
        tr {
            th scope="row" { (text(key, "name")) }
            td { (text(key, "provider")) }
            td.mono.nowrap { (text(key, "label")) }
            td { @if let Some(org) = key["org"].as_str() { (org) " " (text(key, "project")) } @else { (badge("good", "everybody")) } }
            td.nowrap { (text(key, "created_at").get(..10).unwrap_or_default()) }
            td { @if may_remove { (removal(visit, &action, text(key, "name"), &[])) } }
        }
    }
}

pub(super) async fn add(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Body(fields): Body<Fields>,
) -> Result<Response, Failure> {
    let mut body = json!({"provider": typed(&fields, "provider"), "key": typed(&fields, "key")});
    if !typed(&fields, "name").is_empty() {
        body["name"] = typed(&fields, "name").into();
    }
    if typed(&fields, "owner") == "org" {
        body["org"] = (&*visit.chosen(&shared, Operation::ManageProviderKeys).await?).into();
    }
    let done = ask(&shared, &visit, Method::POST, "/api/v1/provider-keys", Some(&body)).await;
    let done = done.map(|_| "The key is in the vault, and in the pool of every node.");
    render(&shared, &visit, Outcome::of("p", fields, done)).await
}

pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let done = ask(&shared, &visit, Method::DELETE, &format!("/api/v1/provider-keys/{}", segment(&id)), None).await;
    render(&shared, &visit, Outcome::of_button(done.map(|_| "The key is removed."))).await
}
