//! Keys of providers: those of the configuration, and those in the vault, which can be added and removed here.

use super::ask::{ask, list, segment, text};
use super::layout::{self, badge, copyable, csrf, empty, heading, scrolling};
use super::visit::{Failure, Visit};
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use axum::Form;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// What the form says.
#[derive(Deserialize)]
pub(super) struct Added {
    provider: String,
    key: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    owner: String,
}

pub(super) async fn page(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    render(&shared, &visit, Ok(None)).await
}

async fn render(
    shared: &Arc<Shared>,
    visit: &Visit,
    outcome: Result<Option<&str>, Problem>,
) -> Result<Response, Failure> {
    let keys = list(shared, visit, "/api/v1/provider-keys").await?;
    let snapshot = (shared.deps.snapshot)();
    let is_administrator = visit.viewer.is_administrator();
    let may_add = visit.home(Operation::ManageProviderKeys).is_ok();
    let configured = snapshot.providers.iter().filter(|_| is_administrator).flat_map(|provider| {
        let own = provider.keys.iter().filter(|key| !keys.iter().any(|it| text(it, "name") == &*key.name));
        own.map(|key| (provider.id.clone(), key.clone())).collect::<Vec<_>>()
    });
    let configured: Vec<_> = configured.collect();
    let status = outcome.as_ref().err().map_or(StatusCode::OK, Problem::status);
    let body = html! {
        (heading("Provider keys", "What the gateway presents to providers. Those in the vault are encrypted with AES-256-GCM.", html! {
            @if is_administrator { a.button href="/pool" { "Key pool" } }
        }))
        @match &outcome {
            Err(problem) => { div.banner.bad role="alert" { p { (problem.detail()) } } }
            Ok(Some(news)) => { div.banner.good role="status" { p { (news) } } }
            Ok(None) => {}
        }
        @if may_add { (form(visit, &snapshot.catalog.providers().iter().map(|row| &*row.id).collect::<Vec<_>>())) }
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
    Ok((status, layout::page(shared, visit, "Provider keys", body).await).into_response())
}

fn form(visit: &Visit, providers: &[&str]) -> Markup {
    let can_serve_all = visit.viewer.is_administrator() && visit.org.is_none();
    html! {
        details.panel {
            summary.pad { strong { "Add a key" } }
            div.body {
                form.form method="post" action=(visit.link("/provider-keys")) autocomplete="off" {
                    (csrf(visit))
                    div.field {
                        label for="p-provider" { "Provider" }
                        input id="p-provider" name="provider" list="p-providers" required;
                        datalist id="p-providers" { @for id in providers { option value=(id) {} } }
                    }
                    div.field { label for="p-key" { "Key" } input id="p-key" name="key" type="password" required autocomplete="off"; }
                    div.field { label for="p-name" { "Name" } input id="p-name" name="name" placeholder="as the provider"; }
                    div.field {
                        label for="p-owner" { "Serves" }
                        select id="p-owner" name="owner" {
                            @if can_serve_all { option value="" { "everybody" } }
                            option value="org" { "this organisation alone" }
                        }
                    }
                    div { button.primary type="submit" { "Add key" } }
                }
            }
        }
    }
}

fn line(visit: &Visit, key: &Value, may_remove: bool) -> Markup {
    let action = visit.link(&format!("/provider-keys/{}/remove", segment(text(key, "id"))));
    html! {
        tr {
            th scope="row" { (text(key, "name")) }
            td { (text(key, "provider")) }
            td.mono.nowrap { (text(key, "label")) }
            td { @if let Some(org) = key["org"].as_str() { (org) " " (text(key, "project")) } @else { (badge("good", "everybody")) } }
            td.nowrap { (text(key, "created_at").get(..10).unwrap_or_default()) }
            td {
                @if may_remove {
                    details.quiet {
                        summary { "Remove" span.visually-hidden { " " (text(key, "name")) } }
                        form method="post" action=(action) { (csrf(visit)) button.danger type="submit" { "Remove for good" } }
                    }
                }
            }
        }
    }
}

pub(super) async fn add(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(wanted): Form<Added>,
) -> Result<Response, Failure> {
    let mut body = json!({"provider": wanted.provider.trim(), "key": wanted.key.trim()});
    if !wanted.name.trim().is_empty() {
        body["name"] = wanted.name.trim().into();
    }
    if wanted.owner == "org" {
        body["org"] = (&*visit.chosen(&shared, Operation::ManageProviderKeys).await?).into();
    }
    let done = ask(&shared, &visit, Method::POST, "/api/v1/provider-keys", Some(&body)).await;
    render(&shared, &visit, done.map(|_| Some("The key is in the vault, and in the pool of every node."))).await
}

pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let done = ask(&shared, &visit, Method::DELETE, &format!("/api/v1/provider-keys/{}", segment(&id)), None).await;
    render(&shared, &visit, done.map(|_| Some("The key is removed."))).await
}
