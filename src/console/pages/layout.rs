//! What all pages have in common: the head, the links, banners, and the small pieces that they are put together from.

use super::assets::VERSION;
use super::visit::Visit;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::telemetry::alerts::{Alert, Kind};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

/// The pages, as the column of links has them: groups of paths and names.
const LINKS: [(&str, &[(&str, &str)]); 4] = [
    (
        "Watch",
        &[
            ("/overview", "Overview"),
            ("/devtools", "DevTools"),
            ("/requests", "Requests"),
            ("/sessions", "Sessions"),
            ("/usage", "Usage"),
        ],
    ),
    (
        "Routing",
        &[
            ("/pool", "Key pool"),
            ("/models", "Models"),
            ("/presets", "Presets"),
            ("/routing", "Routing"),
            ("/playground", "Playground"),
        ],
    ),
    ("Access", &[("/keys", "API keys"), ("/provider-keys", "Provider keys"), ("/budgets", "Budgets")]),
    ("Gateway", &[("/audit", "Audit log"), ("/settings", "Settings"), ("/docs", "Documentation")]),
];

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " \u{b7} Orbyt" }
            link rel="icon" type="image/svg+xml" href={ "/assets/icon.svg?v=" (*VERSION) };
            link rel="stylesheet" href={ "/assets/style.css?v=" (*VERSION) };
            script defer src={ "/assets/console.js?v=" (*VERSION) } {}
        }
    }
}

fn brand() -> Markup {
    html! {
        a.brand href="/overview" {
            svg viewBox="0 0 24 24" aria-hidden="true" {
                ellipse.ring cx="12" cy="12" rx="10.5" ry="5.5" transform="rotate(-28 12 12)" {}
                circle.dot cx="12" cy="12" r="4" {}
            }
            "Orbyt"
        }
    }
}

/// A page for whoever is not logged in, or of an error.
pub(super) fn bare(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" { (head(title)) body { main.centre { (brand()) (body) } } }
    }
}

/// A page for anybody, as wide as the others.
pub(super) fn alone(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" { (head(title)) body { main.alone { header { (brand()) a href="/login" { "Log in" } } (body) } } }
    }
}

/// A page.
pub(super) async fn page(shared: &Shared, visit: &Visit, title: &str, body: Markup) -> Response {
    let orgs = visit.orgs(shared).await;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body {
                a.skip href="#main" { "To the page" }
                div.shell {
                    div.side {
                        (brand())
                        (links(visit))
                        (foot(shared, visit, &orgs))
                    }
                    main id="main" { (banners(shared, visit)) (body) }
                }
            }
        }
    };
    Html(page.into_string()).into_response()
}

fn links(visit: &Visit) -> Markup {
    html! {
        nav aria-label="Pages" {
            @for (group, links) in LINKS {
                div {
                    h2 { (group) }
                    ul {
                        @for (path, name) in links.iter().filter(|(path, _)| may_open(visit, path)) {
                            @let is_here = visit.path.starts_with(path);
                            li { a href=(visit.link(path)) aria-current=[is_here.then_some("page")] { (name) } }
                        }
                    }
                }
            }
        }
    }
}

/// Whether a page is for this visitor.
fn may_open(visit: &Visit, path: &str) -> bool {
    match path {
        "/pool" | "/settings" => visit.viewer.may(Operation::SeeHealth, None).is_ok(),
        "/playground" => visit.home(Operation::MakeOwnKeys).is_ok(),
        "/audit" => visit.home(Operation::SeeAudit).is_ok(),
        _ => true,
    }
}

fn foot(shared: &Shared, visit: &Visit, orgs: &[crate::domain::tenancy::Organisation]) -> Markup {
    html! {
        div.foot {
            @if orgs.len() > 1 {
                form method="get" action=(visit.path) {
                    label for="org" { "Organisation" }
                    div.actions {
                        select id="org" name="org" {
                            @if visit.viewer.is_administrator() { option value="" { "All" } }
                            @for org in orgs {
                                option value=(org.id) selected[visit.org.as_deref() == Some(&*org.id)] { (org.name) }
                            }
                        }
                        button type="submit" { "Show" }
                    }
                }
            }
            span.who { (visit.viewer.name()) }
            @if visit.viewer.session.is_some() {
                form method="post" action="/logout" { (csrf(visit)) button type="submit" { "Log out" } }
            }
            span { "Orbyt " (shared.deps.version) }
        }
    }
}

/// So many alerts of a kind are shown one by one.
const MOST_ALERTS: usize = 5;

/// What needs somebody's attention: the administrator's, or where it concerns an organisation that of its people.
fn banners(shared: &Shared, visit: &Visit) -> Markup {
    let is_administrator = visit.viewer.is_administrator();
    let concerns = |alert: &Alert| match &alert.org {
        _ if is_administrator => true,
        Some(org) => visit.viewer.can(Operation::SeeBudgets, org),
        None => false,
    };
    let mut alerts = (shared.deps.alerts)();
    alerts.retain(concerns);
    let degraded = (shared.deps.degraded)().filter(|_| is_administrator);
    html! {
        @if let Some(why) = degraded {
            div.banner.bad role="alert" {
                p { strong { "The database is away. " } "Requests are served with what is known; " (why) "." }
            }
        }
        @if let Some(spending) = (shared.deps.spending)().filter(|_| is_administrator) {
            div.banner.bad role="alert" {
                @if spending == "last_seen" {
                    p { "Budgets go on from what was spent when the database was last seen." }
                } @else {
                    p { "What was spent of budgets before this start is not known: they count from zero." }
                }
            }
        }
        @for (kind, tone, title, path) in ALERTS {
            @let of_kind: Vec<&Alert> = alerts.iter().filter(|alert| alert.kind == kind).collect();
            @if !of_kind.is_empty() { (banner(visit, (tone, title, path), &of_kind)) }
        }
    }
}

/// The kinds of alerts: how bad, what they are called, and where there is more. That the database is away is known at once, from itself.
const ALERTS: [(Kind, &str, &str, &str); 5] = [
    (Kind::Config, "bad", "Refused configuration", "/settings"),
    (Kind::KeyDisabled, "bad", "Disabled keys", "/pool"),
    (Kind::KeyExhausted, "bad", "Exhausted keys", "/pool"),
    (Kind::BreakerOpen, "", "Left alone for now", "/pool"),
    (Kind::Budget, "", "Budgets", "/budgets"),
];

fn banner(visit: &Visit, (tone, title, path): (&str, &str, &str), alerts: &[&Alert]) -> Markup {
    html! {
        div class={ "banner " (tone) } role=(if tone == "bad" { "alert" } else { "status" }) {
            p { strong { (title) } " " a href=(visit.link(path)) { "More" span.visually-hidden { " on: " (title) } } }
            ul {
                @for alert in alerts.iter().take(MOST_ALERTS) { li { strong { (alert.subject) } ": " (alert.message) } }
                @if alerts.len() > MOST_ALERTS { li { (alerts.len() - MOST_ALERTS) " more" } }
            }
        }
    }
}

/// The title of a page, what it is about, and what can be done.
pub(super) fn heading(title: &str, about: &str, actions: Markup) -> Markup {
    html! {
        div.head {
            div { h1 { (title) } @if !about.is_empty() { p.muted { (about) } } }
            div.actions { (actions) }
        }
    }
}

/// A number that matters.
pub(super) fn tile(name: &str, value: &str, below: &str, tone: &str) -> Markup {
    html! { div class={ "tile " (tone) } { dt { (name) } dd { (value) } @if !below.is_empty() { dd.sub { (below) } } } }
}

/// A state in a word.
pub(super) fn badge(tone: &str, text: &str) -> Markup {
    html! { span class={ "badge " (tone) } { (text) } }
}

/// A text that can be copied. `id` is unique on the page.
pub(super) fn copyable(id: &str, text: &str) -> Markup {
    html! {
        div.copyable {
            pre tabindex="0" role="region" aria-label="Text to copy" { code id=(id) { (text) } }
            button type="button" data-copy=(id) { "Copy" }
        }
    }
}

/// The hidden field that every form carries.
pub(super) fn csrf(visit: &Visit) -> Markup {
    html! { input type="hidden" name="csrf" value=(visit.csrf()); }
}

/// A table that scrolls by itself when the page is narrow.
pub(super) fn scrolling(name: &str, table: Markup) -> Markup {
    html! { div.scroll tabindex="0" role="region" aria-label=(name) { (table) } }
}

/// Where there is nothing yet: what that means, and how to change it.
pub(super) fn empty(title: &str, what: &str, more: Markup) -> Markup {
    html! { div.empty { h2 { (title) } p { (what) } (more) } }
}
