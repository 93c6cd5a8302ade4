//! What presets, models and sections of settings have in common here: they stand in the database, the configuration file goes before them, and a
//! form changes the version that it was made with.
//!
//! ```text
//! list ──edit──> editor ──saved──> list, which says whether it holds
//!                  │  ▲
//!                  │  └── refused: as it was typed, with the mistake beside the field
//!                  └──removed────> list
//! ```

use super::ask::{Version, ask, ask_of, list, segment, text};
use super::form::{Fields, Outcome, good_news, removal, typed};
use super::layout::{self, badge, csrf, heading};
use super::visit::{Failure, Visit};
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// What the API is told of one, by the keys of the configuration file; or what is wrong with a field.
pub(super) type Body = Result<Map<String, Value>, Problem>;

/// A kind of what is stored.
pub(super) struct Kind {
    /// Its page; the editor is at `edit` below it.
    pub path: &'static str,
    /// Its place in the API.
    pub api: &'static str,
    /// What one is called.
    pub what: &'static str,
    /// The field of the form that has its name.
    pub name_field: &'static str,
    /// Whether there are those of a few names, and no others can be made.
    pub has_fixed_names: bool,
    /// What it is, for the head of the editor.
    pub about: &'static str,
    /// The fields of its form, from what the API says of it.
    pub fields: fn(name: &str, value: &Value) -> Fields,
    /// What the API is to be told, from the fields.
    pub body: fn(name: &str, fields: &Fields) -> Body,
    /// The form's fields.
    pub form: fn(&Shared, name: &str, form: super::form::Form<'_>) -> Markup,
}

/// Which one a page is about, and what was just done.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    pub name: String,
    pub saved: String,
    pub removed: String,
}

/// All of a kind, as the API lists them.
pub(super) async fn all(shared: &Arc<Shared>, visit: &Visit, kind: &Kind) -> Result<Vec<Value>, Failure> {
    list(shared, visit, kind.api).await
}

/// What was just done, told at the head of the list.
pub(super) fn news(kind: &Kind, asked: &Asked, all: &[Value]) -> Markup {
    if !asked.removed.is_empty() {
        return good_news(&format!("The {} {} is removed.", kind.what, asked.removed));
    }
    let saved = all.iter().find(|it| text(it, "name") == asked.saved && it["source"] == "stored");
    let Some(saved) = saved else { return html! {} };
    match saved["note"].as_str() {
        None => good_news(&format!("The {} {} is saved, and in force.", kind.what, asked.saved)),
        Some(note) => {
            html! { div.banner role="status" { p { "The " (kind.what) " " (asked.saved) " is saved, but " (note) "." } } }
        }
    }
}

/// Where it comes from, and whether it holds.
pub(super) fn origin(setting: &Value) -> Markup {
    let is_stored = setting["source"] == "stored";
    html! {
        @if !is_stored { "file" }
        @else if setting["in_force"] == true { (badge("good", "made here")) }
        @else { (badge("warn", "not in force")) }
        @if let Some(note) = setting["note"].as_str() { br; small.muted { (note) } }
    }
}

/// The way to the editor, for what can be changed here.
pub(super) fn edit_link(visit: &Visit, kind: &Kind, setting: &Value) -> Markup {
    html! {
        @if setting["source"] == "stored" && may_edit(visit) {
            a href=(editor(visit, kind, text(setting, "name"))) { "Edit" span.visually-hidden { " " (text(setting, "name")) } }
        }
    }
}

/// The button that begins a new one.
pub(super) fn new_link(visit: &Visit, kind: &Kind) -> Markup {
    html! { @if may_edit(visit) { a.button.primary href=(visit.link(&format!("{}/edit", kind.path))) { "New " (kind.what) } } }
}

/// Whether this visitor may change what is stored.
pub(super) fn may_edit(visit: &Visit) -> bool {
    visit.viewer.may(Operation::ManageModels, None).is_ok()
}

/// The editor's address.
pub(super) fn editor(visit: &Visit, kind: &Kind, name: &str) -> String {
    visit.link(&format!("{}/edit?name={}", kind.path, segment(name)))
}

/// What the editor shows at first: what is stored, with its version; of what is not, what the file says, or nothing.
async fn first(shared: &Arc<Shared>, visit: &Visit, kind: &Kind, name: &str) -> Result<Fields, Failure> {
    if name.is_empty() {
        return Ok((kind.fields)(name, &Value::Null));
    }
    let path = format!("{}/{}", kind.api, segment(name));
    let stored = format!("{path}?source=stored");
    match ask_of(shared, visit, (Method::GET, &stored), None, Version::Any).await {
        Ok((setting, tag)) => {
            let mut fields = (kind.fields)(name, &setting["value"]);
            fields.insert("version".to_owned(), tag.unwrap_or_default());
            Ok(fields)
        }
        Err(problem) if problem.status() == StatusCode::NOT_FOUND => {
            let of_file = ask(shared, visit, Method::GET, &path, None).await.unwrap_or_default();
            Ok((kind.fields)(name, &of_file["value"]))
        }
        Err(problem) => Err(problem.into()),
    }
}

/// The editor: empty for a new one.
pub(super) async fn edit(shared: &Arc<Shared>, visit: &Visit, kind: &Kind, name: &str) -> Result<Response, Failure> {
    visit.viewer.may(Operation::ManageModels, None)?;
    let fields = first(shared, visit, kind, name).await?;
    render(shared, visit, kind, (name, &fields), &Outcome::None).await
}

/// Saves what the editor says.
pub(super) async fn save(
    shared: &Arc<Shared>,
    visit: &Visit,
    kind: &Kind,
    fields: Fields,
) -> Result<Response, Failure> {
    visit.viewer.may(Operation::ManageModels, None)?;
    let name = typed(&fields, kind.name_field).to_owned();
    let done = async {
        if name.is_empty() {
            return Err(Problem::invalid("name", "It needs a name."));
        }
        let body = Value::Object((kind.body)(&name, &fields)?);
        let path = format!("{}/{}", kind.api, segment(&name));
        let version = Version::of_form(typed(&fields, "version"));
        ask_of(shared, visit, (Method::PUT, &path), Some(&body), version).await
    };
    match done.await {
        Ok(_) => Ok(Redirect::to(&visit.link(&format!("{}?saved={}", kind.path, segment(&name)))).into_response()),
        Err(problem) => {
            // `name` is the name of the whole; what has a slash before it is a member.
            let problem = if problem.at() == Some("name") { problem.about(kind.name_field) } else { problem };
            let is_new = typed(&fields, "version").is_empty() && !kind.has_fixed_names;
            let known = if is_new { String::new() } else { name };
            let outcome = Outcome::of("edit", fields, Err(problem));
            render(shared, visit, kind, (&known, &Fields::new()), &outcome).await
        }
    }
}

/// Removes the one that the editor shows.
pub(super) async fn remove(
    shared: &Arc<Shared>,
    visit: &Visit,
    kind: &Kind,
    fields: Fields,
) -> Result<Response, Failure> {
    visit.viewer.may(Operation::ManageModels, None)?;
    let name = typed(&fields, "name").to_owned();
    let path = format!("{}/{}", kind.api, segment(&name));
    let version = Version::Seen(typed(&fields, "version"));
    match ask_of(shared, visit, (Method::DELETE, &path), None, version).await {
        Ok(_) => Ok(Redirect::to(&visit.link(&format!("{}?removed={}", kind.path, segment(&name)))).into_response()),
        Err(problem) => {
            let outcome = Outcome::of_button(Err(problem));
            let fields = first(shared, visit, kind, &name).await?;
            render(shared, visit, kind, (&name, &fields), &outcome).await
        }
    }
}

async fn render(
    shared: &Arc<Shared>,
    visit: &Visit,
    kind: &Kind,
    (name, first): (&str, &Fields),
    outcome: &Outcome,
) -> Result<Response, Failure> {
    let all = all(shared, visit, kind).await?;
    let of_file = all.iter().any(|it| text(it, "name") == name && it["source"] == "file");
    let stored = all.iter().find(|it| text(it, "name") == name && it["source"] == "stored");
    let form = outcome.form("edit", first);
    let version = form.value("version");
    let title = if name.is_empty() { format!("New {}", kind.what) } else { format!("The {} {name}", kind.what) };
    let actions = html! { a.button href=(visit.link(kind.path)) { "All of them" } };
    let body = html! {
        (heading(&title, kind.about, actions))
        (outcome.banner())
        @if outcome.status() == StatusCode::PRECONDITION_FAILED && !name.is_empty() {
            p { a.button href=(editor(visit, kind, name)) { "Show it as it is now" } }
        }
        @if of_file && !name.is_empty() {
            div.banner role="note" { p { strong { "The configuration file goes first. " } "It has one of this name; what is saved here holds once that is taken out of the file." } }
        } @else if let Some(note) = stored.and_then(|it| it["note"].as_str()) {
            div.banner role="note" { p { strong { "Not all of it holds: " } (note) "." } }
        }
        section.panel {
            div.body {
                form.form.hinted method="post" action=(visit.link(&format!("{}/edit", kind.path))) {
                    (csrf(visit))
                    input type="hidden" name="version" value=(version);
                    ((kind.form)(shared, name, form))
                    div.full.actions {
                        button.primary type="submit" { "Save" }
                        span.muted.small { "In force at once here, and within a second on other nodes." }
                    }
                }
            }
            @if stored.is_some() {
                footer { (removal(visit, &format!("{}/remove", kind.path), name, &[("name", name), ("version", version)])) }
            }
        }
    };
    Ok((outcome.status(), layout::page(shared, visit, &title, body).await).into_response())
}

/// A text of a value as it stands in a field: lists with commas, or in lines.
pub(super) fn shown(value: &Value, between: &str) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(|item| shown(item, between)).collect::<Vec<_>>().join(between),
        other => other.to_string(),
    }
}
