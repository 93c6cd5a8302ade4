//! Logging in and out.

use super::layout::bare;
use super::visit::{Failure, Visit};
use crate::console::auth::Origin;
use crate::console::routes::Shared;
use crate::console::session::{self, Begun, Credentials};
use crate::domain::Secret;
use axum::Form;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

/// What the form says.
#[derive(Deserialize)]
pub(super) struct LogIn {
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    token: String,
    next: Option<String>,
}

/// Where to go from here: a page of ours, and nowhere else.
fn target(next: Option<&str>) -> &str {
    // Browsers take a backslash for a slash, and leave out tabs and ends of lines (the URL standard).
    let is_strange = |c: char| c == '\\' || c.is_control();
    let is_ours = |path: &&str| path.starts_with('/') && !path.starts_with("//") && !path.contains(is_strange);
    next.filter(is_ours).unwrap_or("/overview")
}

pub(super) async fn page(State(shared): State<Arc<Shared>>, Query(Next { next }): Query<Next>) -> Response {
    Html(form(&shared, next.as_deref(), None).into_string()).into_response()
}

fn form(shared: &Shared, next: Option<&str>, refused: Option<&str>) -> Markup {
    let gateway = shared.deps.gateway_urls.first().map(|url| format!("{}/v1", url.trim_end_matches('/')));
    let next = html! { input type="hidden" name="next" value=(target(next)); };
    bare(
        "Log in",
        &html! {
            section.panel {
                header { h1 { "Log in" } }
                div.body {
                    @if let Some(why) = refused { div.banner.bad role="alert" { p { (why) } } }
                    form.form method="post" action="/login" {
                        (next)
                        div.field { label for="token" { "Administrator's token" } input id="token" name="token" type="password" autocomplete="current-password" required autofocus; }
                        p.hint { "It was shown at the first start; " code { "orbyt admin reset-token" } " makes a new one." }
                        button.primary type="submit" { "Log in" }
                    }
                }
            }
            section.panel {
                header { h2 { "As a member of an organisation" } }
                div.body {
                    form.form method="post" action="/login" {
                        (next)
                        div.field { label for="email" { "E-mail" } input id="email" name="email" type="email" autocomplete="username" required; }
                        div.field { label for="password" { "Password" } input id="password" name="password" type="password" autocomplete="current-password" required; }
                        button type="submit" { "Log in" }
                    }
                }
            }
            p.muted.small { "Orbyt " (shared.deps.version) @if let Some(gateway) = gateway { " \u{b7} gateway at " code { (gateway) } } }
        },
    )
}

pub(super) async fn log_in(State(shared): State<Arc<Shared>>, from: Origin, Form(with): Form<LogIn>) -> Response {
    let credentials = if with.token.is_empty() {
        Credentials::Password { email: with.email, password: with.password }
    } else {
        Credentials::AdminToken(Secret::new(with.token.trim()))
    };
    match session::log_in(&shared, &from, credentials).await {
        Ok(Begun { cookie, .. }) => {
            ([(header::SET_COOKIE, cookie)], Redirect::to(target(with.next.as_deref()))).into_response()
        }
        Err(problem) => {
            let status = match problem.status() {
                StatusCode::UNAUTHORIZED => StatusCode::UNPROCESSABLE_ENTITY,
                status => status,
            };
            (status, Html(form(&shared, with.next.as_deref(), Some(problem.detail())).into_string())).into_response()
        }
    }
}

pub(super) async fn log_out(
    State(shared): State<Arc<Shared>>,
    from: Origin,
    visit: Visit,
) -> Result<Response, Failure> {
    let forget = session::log_out(&shared, &from, &visit.viewer).await?;
    Ok(([(header::SET_COOKIE, forget)], Redirect::to("/login")).into_response())
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn nobody_is_sent_to_another_site() {
        for foreign in ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", ""] {
            assert_eq!(target(Some(foreign)), "/overview", "{foreign}");
        }
        for foreign in ["/\t/evil.example", "\t//evil.example", "/\n/evil.example", "/\u{1}", "/a\u{7f}", "/a\u{85}"] {
            assert_eq!(target(Some(foreign)), "/overview", "{foreign:?}");
        }
        assert_eq!(target(Some("/requests?model=a")), "/requests?model=a");
    }
}
