//! Routing settings: what decides where requests go, section by section, with what is in force and what was set here.

use super::form::{Field, Fields, Form, Kind as Text, typed};
use super::layout::{self, badge, heading, scrolling};
use super::presets::strategies;
use super::stored::{self, Asked, Kind, editor, may_edit, shown};
use super::visit::{Failure, Visit};
use crate::config::settings::{SETTINGS, Setting};
use crate::config::snapshot::Sticky;
use crate::config::stored::Laid;
use crate::console::api::config::rules;
use crate::console::problem::Problem;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::domain::stored_setting::{SECTIONS, SettingKind};
use axum::Form as Body;
use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Map, Value};
use std::sync::Arc;

const ROUTING: Kind = Kind {
    path: "/routing",
    api: "/api/v1/routing",
    what: "section",
    name_field: "section",
    has_fixed_names: true,
    about: "What is left empty is as the configuration file has it, or by default.",
    fields,
    body,
    form,
};

/// What each section is about.
fn about(section: &str) -> &'static str {
    match section {
        "routing" => "The order of the targets, and what stands in for them",
        "retry" => "How often the same target is tried again",
        "breaker" => "When a target that fails is left alone",
        "health" => "Asking providers before requests do",
        "hedging" => "Asking a second target when the first is late",
        "timeouts" => "How long a request waits for what",
        _ => "",
    }
}

fn settings(section: &str) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.section == section)
}

fn fields(name: &str, value: &Value) -> Fields {
    let known = settings(name).map(|setting| (setting.key.to_owned(), shown(&value[setting.key], ", ")));
    known.chain([("section".to_owned(), name.to_owned())]).collect()
}

fn body(name: &str, fields: &Fields) -> Result<Map<String, Value>, Problem> {
    let set = settings(name).filter(|setting| !typed(fields, setting.key).is_empty());
    Ok(set.map(|setting| (setting.key.to_owned(), value_of(setting, typed(fields, setting.key)))).collect())
}

/// What was typed, as the kind of value that the key takes; a text where it is none, for the configuration's reader to say what it should be.
fn value_of(setting: &Setting, text: &str) -> Value {
    let example = toml::from_str::<toml::Table>(&format!("x = {}", setting.example)).ok();
    like(example.as_ref().and_then(|table| table.get("x")), text)
}

fn like(example: Option<&toml::Value>, text: &str) -> Value {
    let as_text = || Value::String(text.to_owned());
    match example {
        Some(toml::Value::Boolean(_)) => text.parse().map_or_else(|_| as_text(), Value::Bool),
        Some(toml::Value::Integer(_)) => text.parse::<i64>().map_or_else(|_| as_text(), Value::from),
        Some(toml::Value::Float(_)) => text.parse::<f64>().map_or_else(|_| as_text(), Value::from),
        Some(toml::Value::Array(items)) => {
            let parts = text.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
            let first = items.first().cloned().unwrap_or(toml::Value::String(String::new()));
            Value::Array(parts.map(|part| like(Some(&first), part)).collect())
        }
        _ => as_text(),
    }
}

/// The values of a key that has but a few.
fn choices(setting: &Setting) -> Option<Vec<(&'static str, &'static str)>> {
    const UNSET: (&str, &str) = ("", "not set here");
    match (setting.section, setting.key, setting.default) {
        ("routing", "strategy", _) => Some([UNSET].into_iter().chain(strategies().into_iter().skip(1)).collect()),
        ("routing", "sticky", _) => Some([UNSET].into_iter().chain(Sticky::NAMES.map(|name| (name, name))).collect()),
        ("routing", "byok_fallback", _) => Some(vec![UNSET, ("pool", "pool"), ("deny", "deny")]),
        (_, _, "true" | "false") => Some(vec![UNSET, ("true", "true"), ("false", "false")]),
        _ => None,
    }
}

/// Without the marks that are for documents.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

fn form(_shared: &Shared, name: &str, form: Form<'_>) -> Markup {
    html! {
        input type="hidden" name="section" value=(name);
        @for setting in settings(name) {
            @let hint = match setting.env { "" => plain(setting.meaning), env => format!("{} {env} in the environment goes first.", plain(setting.meaning)) };
            @let placeholder = shown_default(setting);
            @let kind = if setting.default.parse::<f64>().is_ok() { Text::Number } else { Text::Code };
            @let field = Field { name: setting.key, label: setting.key, placeholder: &placeholder, hint: &hint, kind, ..Field::default() };
            @match choices(setting) {
                Some(choices) => { (form.choice(field, &choices)) }
                None => { (form.field(field, &[])) }
            }
        }
    }
}

/// The default as it would be typed.
fn shown_default(setting: &Setting) -> String {
    let table = toml::from_str::<toml::Table>(&format!("x = {}", setting.default)).ok();
    let value = table.and_then(|table| serde_json::to_value(table.get("x")?).ok());
    value.map(|value| shown(&value, ", ")).unwrap_or_default()
}

/// The sections.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    visit.viewer.may(Operation::SeeModels, None)?;
    let all = stored::all(&shared, &visit, &ROUTING).await?;
    let snapshot = (shared.deps.snapshot)();
    let in_force = rules(&snapshot);
    let body = html! {
        (heading("Routing", "What decides where requests go. The configuration file and the environment go before what is set here.", html! {}))
        (stored::news(&ROUTING, &asked, &all))
        @for section in SECTIONS {
            @let set_here = all.iter().find(|it| it["name"] == section);
            @let laid = snapshot.stored.iter().find(|it| it.kind == SettingKind::Section && &*it.name == section).map(|it| &it.laid);
            section.panel {
                header {
                    h2 { (section) }
                    span.muted.small { (about(section)) }
                    @if may_edit(&visit) { a.button href=(editor(&visit, &ROUTING, section)) { "Edit" span.visually-hidden { " " (section) } } }
                }
                @if let Some(Laid::LeftOut(why)) = laid { div.body { p { (badge("bad", "not in force")) " " (why) } } }
                (scrolling(section, html! {
                    table.rules {
                        thead { tr { th scope="col" { "Setting" } th scope="col" { "In force" } th scope="col" { "Set here" } th scope="col" { "Meaning" } } }
                        tbody { @for setting in settings(section) { (line(setting, &in_force[section], set_here.map(|it| &it["value"]), laid)) } }
                    }
                }))
            }
        }
    };
    Ok(layout::page(&shared, &visit, "Routing", body).await)
}

fn line(setting: &Setting, in_force: &Value, set_here: Option<&Value>, laid: Option<&Laid>) -> Markup {
    // A section that is off has no values.
    let value = match (&in_force[setting.key], setting.key) {
        (Value::Null, "enabled") => "false".to_owned(),
        (Value::Null, _) if !in_force.is_null() && setting.default == "\"off\"" => "off".to_owned(),
        (Value::Array(items), _) if items.is_empty() => "none".to_owned(),
        (value, _) => shown(value, ", "),
    };
    let here = set_here.map(|value| shown(&value[setting.key], ", ")).filter(|text| !text.is_empty());
    let is_overridden = matches!(laid, Some(Laid::Overridden(keys)) if keys.iter().any(|key| key == setting.key));
    html! {
        tr {
            th.mono.nowrap scope="row" { (setting.key) }
            td.mono { @if value.is_empty() { span.muted { "\u{2013}" } } @else { (value) } }
            td.mono { @if let Some(here) = &here { (here) @if is_overridden { " " (badge("warn", "the file goes first")) } } }
            td.small.muted { (plain(setting.meaning)) }
        }
    }
}

pub(super) async fn edit(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    known(&asked.name)?;
    stored::edit(&shared, &visit, &ROUTING, &asked.name).await
}

fn known(section: &str) -> Result<(), Problem> {
    if SECTIONS.contains(&section) { Ok(()) } else { Err(Problem::not_found("section that can be set here")) }
}

pub(super) async fn save(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Body(fields): Body<Fields>,
) -> Result<Response, Failure> {
    known(typed(&fields, "section"))?;
    stored::save(&shared, &visit, &ROUTING, fields).await
}

pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Body(fields): Body<Fields>,
) -> Result<Response, Failure> {
    known(typed(&fields, "name"))?;
    stored::remove(&shared, &visit, &ROUTING, fields).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_stored_comes_back_from_the_form_as_it_was() {
        for (section, value) in [
            ("retry", json!({"max": 3, "base": "250ms", "budget": 0.25})),
            ("hedging", json!({"enabled": true, "min_delay": "1s"})),
            ("routing", json!({"strategy": "cheap", "providers": ["a", "b"], "weights": [70, 30], "auto": ["a/x"]})),
        ] {
            let read = body(section, &fields(section, &value)).unwrap();
            assert_eq!(json!(read), value, "{section}");
        }
        assert!(body("retry", &fields("retry", &Value::Null)).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_such_value_is_left_to_the_reader_of_the_configuration() {
        let max = settings("retry").find(|setting| setting.key == "max").unwrap();
        assert_eq!(value_of(max, "many"), json!("many"));
    }

    #[test]
    fn every_section_that_can_be_stored_has_its_fields() {
        for section in SECTIONS {
            assert!(settings(section).count() > 0 && !about(section).is_empty(), "{section}");
        }
    }
}
