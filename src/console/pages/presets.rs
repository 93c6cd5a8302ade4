//! Presets: what holds where a request that names one says nothing. Those of the file, and those that are made here.

use super::ask::text;
use super::form::{Field, Fields, Form, Kind as Text, listed, typed};
use super::layout::{self, copyable, empty, heading, scrolling};
use super::models;
use super::stored::{self, Asked, Kind, edit_link, new_link, origin, shown};
use super::visit::{Failure, Visit};
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::domain::Strategy;
use axum::Form as Body;
use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Map, Value};
use std::sync::Arc;

const EXAMPLE: &str = "[[preset]]\nslug = \"support\"\nmodel = \"auto\"\nsystem = \"You answer briefly and kindly.\"\n\n[preset.parameters]\ntemperature = 0.2";

const PRESETS: Kind = Kind {
    path: "/presets",
    api: "/api/v1/presets",
    what: "preset",
    name_field: "slug",
    has_fixed_names: false,
    about: "What holds where a request that names it says nothing: as the model @preset/NAME.",
    fields,
    body,
    form,
};

fn fields(name: &str, value: &Value) -> Fields {
    let parameters = match &value["parameters"] {
        Value::Null => String::new(),
        parameters => serde_json::to_string_pretty(parameters).unwrap_or_default(),
    };
    let texts = ["name", "model", "strategy", "system"].map(|key| (key, shown(&value[key], "")));
    let texts = texts.into_iter().chain([
        ("slug", name.to_owned()),
        ("fallbacks", shown(&value["fallbacks"], "\n")),
        ("parameters", parameters),
    ]);
    texts.map(|(key, text)| (key.to_owned(), text)).collect()
}

fn body(_name: &str, fields: &Fields) -> Result<Map<String, Value>, Problem> {
    let mut body = Map::new();
    for key in ["name", "model", "strategy"] {
        let text = typed(fields, key);
        if !text.is_empty() {
            body.insert(key.to_owned(), text.into());
        }
    }
    // White space within it may matter; a browser ends lines in two characters.
    let system = fields.get("system").map(|text| text.replace("\r\n", "\n")).unwrap_or_default();
    if !system.trim().is_empty() {
        body.insert("system".to_owned(), system.into());
    }
    let fallbacks = listed(fields, "fallbacks");
    if !fallbacks.is_empty() {
        body.insert("fallbacks".to_owned(), fallbacks.into());
    }
    let parameters = typed(fields, "parameters");
    if !parameters.is_empty() {
        let read: Result<Map<String, Value>, _> = serde_json::from_str(parameters);
        let read = read.map_err(|error| {
            let detail = format!("This is a JSON object such as {{\"temperature\": 0.2}}: {error}.");
            Problem::invalid("/parameters", detail)
        })?;
        body.insert("parameters".to_owned(), Value::Object(read));
    }
    Ok(body)
}

fn form(shared: &Shared, name: &str, form: Form<'_>) -> Markup {
    let names = models::names(&(shared.deps.snapshot)());
    html! {
        @if name.is_empty() {
            (form.field(Field { name: "slug", label: "Name in requests", placeholder: "support", is_required: true, kind: Text::Code, ..Field::default() }, &[]))
        } @else { input type="hidden" name="slug" value=(name); }
        (form.field(Field { name: "name", label: "Name for people", placeholder: "Customer support", ..Field::default() }, &[]))
        (form.field(Field { name: "model", label: "Model", placeholder: "the request's own", kind: Text::Code, ..Field::default() }, &names))
        (form.choice(Field { name: "strategy", label: "Strategy", ..Field::default() }, &strategies()))
        (form.field(Field { name: "fallbacks", label: "Fallbacks", hint: "Models that stand in, one a line.", is_wide: true, kind: Text::Lines(2), ..Field::default() }, &[]))
        (form.field(Field { name: "system", label: "System prompt", hint: "Of conversations that begin without one.", is_wide: true, kind: Text::Lines(4), ..Field::default() }, &[]))
        (form.field(Field { name: "parameters", label: "Parameters", placeholder: "{\"temperature\": 0.2}", hint: "A JSON object: what holds where the request does not name it.", is_wide: true, kind: Text::Lines(4), ..Field::default() }, &[]))
    }
}

/// The strategies to choose from, and none.
pub(super) fn strategies() -> Vec<(&'static str, &'static str)> {
    let all = Strategy::ALL.map(|strategy| (strategy.name(), strategy.name()));
    [("", "as everywhere")].into_iter().chain(all).collect()
}

/// The list.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    visit.viewer.may(Operation::SeeModels, None)?;
    let all = stored::all(&shared, &visit, &PRESETS).await?;
    let body = html! {
        (heading("Presets", "What holds where a request that names one says nothing.", new_link(&visit, &PRESETS)))
        (stored::news(&PRESETS, &asked, &all))
        section.panel {
            @if all.is_empty() {
                (empty("No preset yet", "Make one here, or write one into the configuration file, and name it as @preset/support in a request:", copyable("first", EXAMPLE)))
            } @else {
                (scrolling("Presets", html! {
                    table {
                        thead { tr { th scope="col" { "Preset" } th scope="col" { "Model" } th scope="col" { "Fallbacks" } th scope="col" { "Strategy" } th scope="col" { "System prompt" } th scope="col" { "Parameters" } th scope="col" { "From" } th scope="col" { span.visually-hidden { "Actions" } } } }
                        tbody { @for preset in &all { (line(&visit, preset)) } }
                    }
                }))
            }
        }
    };
    Ok(layout::page(&shared, &visit, "Presets", body).await)
}

fn line(visit: &Visit, preset: &Value) -> Markup {
    let value = &preset["value"];
    html! {
        tr {
            th scope="row" { "@preset/" (text(preset, "name")) @if let Some(name) = value["name"].as_str() { br; small.muted { (name) } } }
            td { (value["model"].as_str().unwrap_or("\u{2013}")) }
            td { (shown(&value["fallbacks"], ", ")) }
            td { (text(value, "strategy")) }
            td.clip title=[value["system"].as_str()] { (text(value, "system")) }
            td { div.tags { @for (name, value) in value["parameters"].as_object().into_iter().flatten() { span.tag { (name) " " (value) } } } }
            td { (origin(preset)) }
            td { (edit_link(visit, &PRESETS, preset)) }
        }
    }
}

pub(super) async fn edit(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    stored::edit(&shared, &visit, &PRESETS, &asked.name).await
}

pub(super) async fn save(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Body(fields): Body<Fields>,
) -> Result<Response, Failure> {
    stored::save(&shared, &visit, &PRESETS, fields).await
}

pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Body(fields): Body<Fields>,
) -> Result<Response, Failure> {
    stored::remove(&shared, &visit, &PRESETS, fields).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_stored_comes_back_from_the_form_as_it_was() {
        let value = json!({
            "name": "Support", "model": "a/b", "strategy": "cheap", "system": "One.\n Two.", "fallbacks": ["c/d", "e/f"],
            "parameters": {"temperature": 0.2, "stop": ["x"]},
        });
        let mut fields = fields("s", &value);
        let system = fields.get_mut("system").unwrap();
        *system = system.replace('\n', "\r\n");
        assert_eq!(Value::Object(body("s", &fields).unwrap()), value);
        assert!(body("s", &super::fields("s", &Value::Null)).unwrap().is_empty());
    }

    #[test]
    fn parameters_that_are_no_object_are_told_beside_their_field() {
        for wrong in ["{", "[1]", "{\"a\": 1} x"] {
            let fields = Fields::from([("parameters".to_owned(), wrong.to_owned())]);
            assert_eq!(body("s", &fields).unwrap_err().at(), Some("/parameters"), "{wrong}");
        }
    }
}
