//! Forms: fields that keep what was typed into them, with what is wrong beside the field that is, and what came of sending one.
//!
//! ```text
//!              asked for                     sent
//!   (page) ──────────────> Blank form ──────────────> the API ──> Done: the page again, with the news
//!                              ▲                          └─────> Refused: the form again, as it was typed
//!                              └───────── sent again ─────────────────┘
//! ```

use super::layout::csrf;
use super::visit::Visit;
use crate::console::problem::Problem;
use axum::http::StatusCode;
use maud::{Markup, html};
use std::collections::HashMap;

/// What a form says, by the names of its fields.
pub(super) type Fields = HashMap<String, String>;

/// What a field says, without white space around it; empty where there is none.
pub(super) fn typed<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).map(|text| text.trim()).unwrap_or_default()
}

/// The items of a list that was typed with commas or line ends between them.
pub(super) fn listed(fields: &Fields, name: &str) -> Vec<String> {
    let items = typed(fields, name).split([',', '\n']).map(str::trim).filter(|item| !item.is_empty());
    items.map(str::to_owned).collect()
}

/// What came of a form.
#[derive(Debug, Default)]
pub(super) enum Outcome {
    /// None was sent.
    #[default]
    None,
    /// It was done; what there is to say about that.
    Done(Markup),
    /// It was not, and why.
    Refused(Refused),
}

/// A form that was refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// Which one of the page's it is.
    form: &'static str,
    problem: Problem,
    fields: Fields,
}

impl Outcome {
    /// What came of a form: the news, or the form as it was typed.
    pub fn of(form: &'static str, fields: Fields, done: Result<&str, Problem>) -> Self {
        match done {
            Ok(news) => Self::Done(good_news(news)),
            Err(problem) => Self::Refused(Refused { form, problem, fields }),
        }
    }

    /// What came of a button: there is no field that could be wrong.
    pub fn of_button(done: Result<&str, Problem>) -> Self {
        Self::of("", Fields::new(), done)
    }

    /// The status of a page that tells of it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::None | Self::Done(_) => StatusCode::OK,
            Self::Refused(refused) => refused.problem.status(),
        }
    }

    /// What is said of it at the head of the page.
    pub fn banner(&self) -> Markup {
        match self {
            Self::None => html! {},
            Self::Done(news) => news.clone(),
            Self::Refused(refused) => bad_news(refused.problem.detail()),
        }
    }

    /// The page's form of this name: as it was typed where it is the one that was refused, else with what it says at first.
    pub fn form<'a>(&'a self, name: &'static str, first: &'a Fields) -> Form<'a> {
        match self {
            Self::Refused(refused) if refused.form == name => {
                Form { name, fields: &refused.fields, refused: Some(&refused.problem) }
            }
            _ => Form { name, fields: first, refused: None },
        }
    }
}

/// That something was done.
pub(super) fn good_news(text: &str) -> Markup {
    html! { div.banner.good role="status" { p { (text) } } }
}

/// That something was not done, and why.
pub(super) fn bad_news(text: &str) -> Markup {
    html! { div.banner.bad role="alert" { p { (text) } } }
}

/// A form that is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form<'a> {
    /// What the ids of its fields begin with.
    name: &'static str,
    fields: &'a Fields,
    refused: Option<&'a Problem>,
}

/// How a field is to be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Field<'a> {
    /// Its name in what is sent, and in what is wrong.
    pub name: &'a str,
    /// What it is called.
    pub label: &'a str,
    /// What stands in it while nothing does.
    pub placeholder: &'a str,
    /// A sentence below it.
    pub hint: &'a str,
    /// It cannot be left empty.
    pub is_required: bool,
    /// It takes the whole width.
    pub is_wide: bool,
    /// What kind of text it takes: a `type` or an `inputmode` of HTML; any by default.
    pub kind: Kind,
}

/// What kind of text a field takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any.
    #[default]
    Text,
    /// A number.
    Number,
    /// A secret, which is not shown and never sent back.
    Secret,
    /// A day.
    Date,
    /// Names of models and the like.
    Code,
    /// A text of several lines, so many to begin with.
    Lines(u8),
}

impl Form<'_> {
    /// Whether it was refused, and so has to be open.
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// What is wrong with a field. A problem with a part of what it says (`/limits/rpm`, `/parameters/x`) is one with the field.
    fn wrong(&self, name: &str) -> Option<&str> {
        let problem = self.refused?;
        let mut parts = problem.at()?.split('/');
        parts.any(|part| part == name).then(|| problem.detail())
    }

    /// What stands in a field.
    pub fn value(&self, name: &str) -> &str {
        typed(self.fields, name)
    }

    fn about(&self, id: &str, field: &Field<'_>) -> Option<String> {
        let parts = [(!field.hint.is_empty(), "hint"), (self.wrong(field.name).is_some(), "wrong")];
        let ids: Vec<String> = parts.iter().filter(|(is, _)| *is).map(|(_, part)| format!("{id}-{part}")).collect();
        (!ids.is_empty()).then(|| ids.join(" "))
    }

    fn around(&self, field: &Field<'_>, input: Markup) -> Markup {
        let id = self.id(field.name);
        html! {
            div class=(if field.is_wide { "field full" } else { "field" }) {
                label for=(id) { (field.label) @if field.is_required { span.muted aria-hidden="true" { " *" } } }
                (input)
                @if let Some(wrong) = self.wrong(field.name) { p.wrong id={ (id) "-wrong" } { (wrong) } }
                @if !field.hint.is_empty() { p.hint id={ (id) "-hint" } { (field.hint) } }
            }
        }
    }

    fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// A field to type into; `choices` are proposed.
    pub fn field(&self, field: Field<'_>, choices: &[String]) -> Markup {
        let (id, value) = (self.id(field.name), self.fields.get(field.name).map(String::as_str).unwrap_or_default());
        let (about, is_wrong) = (self.about(&id, &field), self.wrong(field.name).is_some().then_some("true"));
        let (kind, mode) = match field.kind {
            Kind::Secret => ("password", None),
            Kind::Date => ("date", None),
            Kind::Number => ("text", Some("decimal")),
            Kind::Text | Kind::Code | Kind::Lines(_) => ("text", None),
        };
        let class = (field.kind == Kind::Code).then_some("mono");
        let list = (!choices.is_empty()).then(|| format!("{id}-choices"));
        let placeholder = Some(field.placeholder).filter(|it| !it.is_empty());
        let input = html! {
            @if let Kind::Lines(rows) = field.kind {
                textarea id=(id) name=(field.name) rows=(rows) placeholder=[placeholder] required[field.is_required] aria-describedby=[about] aria-invalid=[is_wrong] { "\n" (value) }
            } @else {
                input id=(id) name=(field.name) class=[class] type=(kind) inputmode=[mode] value=[Some(value).filter(|_| field.kind != Kind::Secret)] placeholder=[placeholder] list=[list.as_ref()] required[field.is_required] autocomplete="off" aria-describedby=[about] aria-invalid=[is_wrong];
            }
            @if let Some(list) = &list { datalist id=(list) { @for choice in choices { option value=(choice) {} } } }
        };
        self.around(&field, input)
    }

    /// A field with a few values, each with what it is called.
    pub fn choice(&self, field: Field<'_>, choices: &[(&str, &str)]) -> Markup {
        let (id, value) = (self.id(field.name), typed(self.fields, field.name));
        let (about, is_wrong) = (self.about(&id, &field), self.wrong(field.name).is_some().then_some("true"));
        let is_known = choices.iter().any(|(choice, _)| *choice == value);
        let input = html! {
            select id=(id) name=(field.name) aria-describedby=[about] aria-invalid=[is_wrong] {
                @for (choice, label) in choices { option value=(choice) selected[*choice == value] { (label) } }
                @if !is_known && !value.is_empty() { option value=(value) selected { (value) } }
            }
        };
        self.around(&field, input)
    }
}

/// A button that does one thing at once, in a form of its own.
pub(super) fn button(visit: &Visit, action: &str, label: &str, class: &str, hidden: &[(&str, &str)]) -> Markup {
    html! {
        form method="post" action=(visit.link(action)) {
            (csrf(visit))
            @for (name, value) in hidden { input type="hidden" name=(name) value=(value); }
            button type="submit" class=[Some(class).filter(|class| !class.is_empty())] { (label) }
        }
    }
}

/// What asks once more before it is done for good; `what` is for those who do not see where it stands.
pub(super) fn removal(visit: &Visit, action: &str, what: &str, hidden: &[(&str, &str)]) -> Markup {
    html! {
        details.quiet {
            summary { "Remove" span.visually-hidden { " " (what) } }
            (button(visit, action, "Remove for good", "danger", hidden))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(all: &[(&str, &str)]) -> Fields {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_was_typed_stays_and_what_is_wrong_stands_beside_it() {
        let problem = Problem::invalid("/parameters", "must be <an object>");
        let typed = fields(&[("model", "a\"b"), ("parameters", "{"), ("key", "sk-secret")]);
        let (outcome, blank) = (Outcome::of("p", typed, Err(problem)), Fields::new());
        let form = outcome.form("p", &blank);
        let html = form.field(Field { name: "model", label: "Model", ..Field::default() }, &[]).into_string();
        assert!(html.contains("value=\"a&quot;b\"") && !html.contains("aria-invalid"), "{html}");
        let lines = Field { name: "parameters", label: "Parameters", kind: Kind::Lines(4), ..Field::default() };
        let html = form.field(lines, &[]).into_string();
        assert!(html.contains("aria-invalid=\"true\" ") || html.contains("aria-invalid=\"true\">"), "{html}");
        assert!(
            html.contains("aria-describedby=\"p-parameters-wrong\"") && html.contains("&lt;an object&gt;"),
            "{html}"
        );
        let secret = Field { name: "key", kind: Kind::Secret, ..Field::default() };
        assert!(!form.field(secret, &[]).into_string().contains("sk-secret"), "a secret does not come back");
        assert!(!outcome.form("other", &blank).is_refused() && outcome.status() == 422);
    }

    #[test]
    fn lists_are_typed_with_commas_or_in_lines() {
        assert_eq!(listed(&fields(&[("x", " a, b\r\n\r\nc ,,")]), "x"), ["a", "b", "c"]);
        assert!(listed(&Fields::new(), "x").is_empty());
    }
}
