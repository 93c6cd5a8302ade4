//! What all pages have in common: the head, the links, banners, and the small pieces that they are put together from.

use super::assets::VERSION;
use super::visit::Visit;
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::store::ports::live::KeyState;
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
        &[("/pool", "Key pool"), ("/models", "Models"), ("/presets", "Presets"), ("/playground", "Playground")],
    ),
    ("Access", &[("/keys", "API keys"), ("/provider-keys", "Provider keys"), ("/budgets", "Budgets")]),
    ("Gateway", &[("/audit", "Audit log"), ("/settings", "Settings")]),
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
        "/pool" | "/settings" => visit.viewer.is_administrator(),
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

/// What needs somebody's attention, for those who look after the gateway.
fn banners(shared: &Shared, visit: &Visit) -> Markup {
    if !visit.viewer.is_administrator() {
        return html! {};
    }
    let keys = shared.deps.backstage.pool();
    let disabled: Vec<_> = keys.iter().filter(|key| key.state == KeyState::Disabled).map(|key| &*key.key).collect();
    let targets = shared.deps.backstage.targets();
    let open: Vec<_> =
        targets.iter().filter(|it| it.breaker == "open").map(|it| format!("{}/{}", it.provider, it.model)).collect();
    html! {
        @if let Some(why) = (shared.deps.degraded)() {
            div.banner.bad role="alert" {
                p { strong { "The database is away. " } "Requests are served with what is known; " (why) "." }
                @match (shared.deps.spending)() {
                    Some("last_seen") => p { "Budgets go on from what was spent when it was last seen." }
                    Some(_) => p { "What was spent of budgets before this start is not known: they count from zero." }
                    None => {}
                }
            }
        }
        @if !disabled.is_empty() {
            div.banner.bad role="alert" {
                p { strong { "Disabled keys: " } (disabled.join(", ")) ". Their providers do not accept them. " a href="/pool" { "Key pool" } }
            }
        }
        @if !open.is_empty() {
            div.banner role="status" { p { strong { "Left alone for now: " } (open.join(", ")) ". Their last attempts failed." } }
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

/// A first request, as it can be pasted into a shell.
pub(super) fn first_request(shared: &Shared) -> String {
    let url = shared.deps.gateway_urls.first().map_or("http://127.0.0.1:3001", |url| url.trim_end_matches('/'));
    format!(
        "curl {url}/v1/chat/completions \\\n  -H \"Authorization: Bearer $ORBYT_API_KEY\" \\\n  \
         -d '{{\"model\": \"auto\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'"
    )
}
