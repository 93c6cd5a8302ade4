//! Names of one's own for models: what each stands for, made here or in the configuration file.

use super::ask::text;
use super::form::{Field, Fields, Form, Kind as Text, listed, typed};
use super::layout::scrolling;
use super::presets::strategies;
use super::stored::{self, Asked, Kind, edit_link, new_link, origin, shown};
use super::visit::{Failure, Visit};
use crate::console::problem::Problem;
use crate::console::routes::Shared;
use axum::Form as Body;
use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Map, Value};
use std::sync::Arc;

const ALIASES: Kind = Kind {
    path: "/models",
    api: "/api/v1/models",
    what: "model",
    name_field: "name",
    has_fixed_names: false,
    about: "A name of your own for one or several models, that clients ask for.",
    fields,
    body,
    form,
};

fn fields(name: &str, value: &Value) -> Fields {
    let lists = ["targets", "fallbacks"].map(|key| (key, shown(&value[key], "\n")));
    let texts = [("name", name.to_owned()), ("strategy", shown(&value["strategy"], ""))];
    lists.into_iter().chain(texts).map(|(key, text)| (key.to_owned(), text)).collect()
}

fn body(_name: &str, fields: &Fields) -> Result<Map<String, Value>, Problem> {
    let targets = listed(fields, "targets");
    if targets.is_empty() {
        return Err(Problem::invalid(
            "/targets",
            "What does the name stand for? One model a line, such as PROVIDER/MODEL.",
        ));
    }
    let mut body = Map::from_iter([("targets".to_owned(), targets.into())]);
    let fallbacks = listed(fields, "fallbacks");
    if !fallbacks.is_empty() {
        body.insert("fallbacks".to_owned(), fallbacks.into());
    }
    if !typed(fields, "strategy").is_empty() {
        body.insert("strategy".to_owned(), typed(fields, "strategy").into());
    }
    Ok(body)
}

fn form(shared: &Shared, name: &str, form: Form<'_>) -> Markup {
    let example = (shared.deps.snapshot)().example_model().unwrap_or_default();
    html! {
        @if name.is_empty() {
            (form.field(Field { name: "name", label: "Name", placeholder: "smart", is_required: true, kind: Text::Code, ..Field::default() }, &[]))
        } @else { input type="hidden" name="name" value=(name); }
        (form.choice(Field { name: "strategy", label: "Strategy", ..Field::default() }, &strategies()))
        (form.field(Field { name: "targets", label: "Stands for", placeholder: &example, hint: "PROVIDER/MODEL, one a line, in order of preference.", is_required: true, is_wide: true, kind: Text::Lines(4) }, &[]))
        (form.field(Field { name: "fallbacks", label: "Fallbacks", hint: "Models that stand in when none of these can, one a line.", is_wide: true, kind: Text::Lines(2), ..Field::default() }, &[]))
    }
}

/// The list, as a part of the page of models: the news, and the names.
pub(super) async fn section(shared: &Arc<Shared>, visit: &Visit, asked: &Asked) -> Result<(Markup, Markup), Failure> {
    let all = stored::all(shared, visit, &ALIASES).await?;
    let names = html! {
        section.panel {
            header { h2 { "Names of your own" } (new_link(visit, &ALIASES)) }
            @if all.is_empty() { p.empty { "None yet: a name of your own stands for one or several models, which can change without a change in any client." } }
            @else {
                (scrolling("Names", html! {
                    table {
                        thead { tr { th scope="col" { "Name" } th scope="col" { "Stands for" } th scope="col" { "Fallbacks" } th scope="col" { "Strategy" } th scope="col" { "From" } th scope="col" { span.visually-hidden { "Actions" } } } }
                        tbody {
                            @for alias in &all {
                                @let value = &alias["value"];
                                tr { th scope="row" { (text(alias, "name")) } td { (shown(&value["targets"], ", ")) } td { (shown(&value["fallbacks"], ", ")) } td { (text(value, "strategy")) } td { (origin(alias)) } td { (edit_link(visit, &ALIASES, alias)) } }
                            }
                        }
                    }
                }))
            }
        }
    };
    Ok((stored::news(&ALIASES, asked, &all), names))
}

pub(super) async fn edit(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    stored::edit(&shared, &visit, &ALIASES, &asked.name).await
}

pub(super) async fn save(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Body(fields): Body<Fields>,
) -> Result<Response, Failure> {
    stored::save(&shared, &visit, &ALIASES, fields).await
}

pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Body(fields): Body<Fields>,
) -> Result<Response, Failure> {
    stored::remove(&shared, &visit, &ALIASES, fields).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_stored_comes_back_from_the_form_as_it_was() {
        let value = json!({"targets": ["a/b", "c/d"], "fallbacks": ["e"], "strategy": "fast"});
        assert_eq!(Value::Object(body("x", &fields("x", &value)).unwrap()), value);
        assert_eq!(body("x", &Fields::new()).unwrap_err().at(), Some("/targets"));
    }
}
