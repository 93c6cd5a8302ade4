//! The documents, out of the binary: those of this very version, without the internet. Anybody may read them, as in the repository.

use super::layout;
use super::visit::{Failure, Visit};
use crate::console::auth::Origin;
use crate::console::problem::Problem;
use crate::console::routes::Shared;
use crate::console::session;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{Html, IntoResponse, Response};
use maud::{Markup, PreEscaped, html};
use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use std::collections::HashMap;
use std::sync::Arc;

/// The list of all.
const INDEX: &str = include_str!("../../../docs/README.md");
/// The others, by name.
const PAGES: &[(&str, &str)] = &[
    ("admin-api", include_str!("../../../docs/admin-api.md")),
    ("alerts", include_str!("../../../docs/alerts.md")),
    ("audit", include_str!("../../../docs/audit.md")),
    ("backup", include_str!("../../../docs/backup.md")),
    ("budgets", include_str!("../../../docs/budgets.md")),
    ("byok", include_str!("../../../docs/byok.md")),
    ("caching", include_str!("../../../docs/caching.md")),
    ("clouds", include_str!("../../../docs/clouds.md")),
    ("completions", include_str!("../../../docs/completions.md")),
    ("configuration", include_str!("../../../docs/configuration.md")),
    ("console", include_str!("../../../docs/console.md")),
    ("drill", include_str!("../../../docs/drill.md")),
    ("embeddings", include_str!("../../../docs/embeddings.md")),
    ("errors", include_str!("../../../docs/errors.md")),
    ("explain", include_str!("../../../docs/explain.md")),
    ("extra", include_str!("../../../docs/extra.md")),
    ("fallback", include_str!("../../../docs/fallback.md")),
    ("frameworks", include_str!("../../../docs/frameworks.md")),
    ("gemini", include_str!("../../../docs/gemini.md")),
    ("headers", include_str!("../../../docs/headers.md")),
    ("hedging", include_str!("../../../docs/hedging.md")),
    ("keys", include_str!("../../../docs/keys.md")),
    ("ledger", include_str!("../../../docs/ledger.md")),
    ("limits", include_str!("../../../docs/limits.md")),
    ("messages", include_str!("../../../docs/messages.md")),
    ("models", include_str!("../../../docs/models.md")),
    ("observability", include_str!("../../../docs/observability.md")),
    ("opentelemetry", include_str!("../../../docs/opentelemetry.md")),
    ("payloads", include_str!("../../../docs/payloads.md")),
    ("presets", include_str!("../../../docs/presets.md")),
    ("provider-keys", include_str!("../../../docs/provider-keys.md")),
    ("providers", include_str!("../../../docs/providers.md")),
    ("relays", include_str!("../../../docs/relays.md")),
    ("responses", include_str!("../../../docs/responses.md")),
    ("routes", include_str!("../../../docs/routes.md")),
    ("sdks", include_str!("../../../docs/sdks.md")),
    ("semantic-cache", include_str!("../../../docs/semantic-cache.md")),
    ("service", include_str!("../../../docs/service.md")),
    ("several-nodes", include_str!("../../../docs/several-nodes.md")),
    ("storage", include_str!("../../../docs/storage.md")),
    ("strategies", include_str!("../../../docs/strategies.md")),
    ("translation", include_str!("../../../docs/translation.md")),
    ("upgrades", include_str!("../../../docs/upgrades.md")),
    ("vault", include_str!("../../../docs/vault.md")),
];

/// The list of all documents.
pub(super) async fn index(
    State(shared): State<Arc<Shared>>,
    from: Origin,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    show(&shared, &from, (&uri, &headers), INDEX).await
}

/// One of them.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    from: Origin,
    uri: Uri,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let found = PAGES.iter().find(|(known, _)| *known == name);
    let (_, text) = found.ok_or_else(|| Problem::not_found("document"))?;
    show(&shared, &from, (&uri, &headers), text).await
}

async fn show(
    shared: &Arc<Shared>,
    from: &Origin,
    (uri, headers): (&Uri, &HeaderMap),
    text: &str,
) -> Result<Response, Failure> {
    let title = text.lines().next().unwrap_or_default().trim_start_matches(['#', ' ']);
    let body = html! { section.panel { div.body.document { (rendered(text)) } } };
    // The documents are the same for all; who is logged in keeps the links to the pages. Without the database nobody is.
    let viewer = session::viewer(shared, from, headers).await.unwrap_or_default();
    match viewer {
        Some(viewer) => Ok(layout::page(shared, &Visit::of(viewer, uri, headers), title, body).await),
        None => Ok(Html(layout::alone(title, &body).into_string()).into_response()),
    }
}

/// A document as HTML. HTML in it is text: the documents are ours, and have none.
fn rendered(text: &str) -> Markup {
    let parser = Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH);
    let (mut anchors, mut events, mut links) = (Anchors::default(), Vec::new(), Vec::new());
    for event in parser {
        match event {
            // Which say where generated tables stand.
            Event::Html(text) if text.starts_with("<!--") => {}
            Event::Html(text) | Event::InlineHtml(text) => events.push(Event::Text(text)),
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
                let address = address(&dest_url);
                links.push(address.is_some());
                // What is in the repository alone is named, and leads nowhere.
                let Some(address) = address else { continue };
                events.push(Event::Start(Tag::Link { link_type, dest_url: address, title, id }));
            }
            Event::End(TagEnd::Link) if !links.pop().unwrap_or(true) => {}
            // Whoever has no mouse can scroll these, too.
            Event::Start(Tag::Table(columns)) => {
                events.push(ours("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Table\">"));
                events.push(Event::Start(Tag::Table(columns)));
            }
            Event::End(TagEnd::Table) => events.extend([Event::End(TagEnd::Table), ours("</div>")]),
            Event::Start(Tag::CodeBlock(_)) => {
                events.push(ours("<pre tabindex=\"0\" role=\"region\" aria-label=\"Example\"><code>"));
            }
            Event::End(TagEnd::CodeBlock) => events.push(ours("</code></pre>")),
            event => events.push(event),
        }
    }
    anchors.name(&mut events);
    let mut html = String::new();
    pulldown_cmark::html::push_html(&mut html, events.into_iter());
    PreEscaped(html)
}

fn ours(html: &'static str) -> Event<'static> {
    Event::Html(CowStr::Borrowed(html))
}

/// Where a link of a document leads to in the console; `None` for a file of the repository.
fn address(link: &str) -> Option<CowStr<'static>> {
    if link.starts_with('#') || link.starts_with("http://") || link.starts_with("https://") {
        return Some(link.to_owned().into());
    }
    let (file, anchor) = link.split_once('#').map_or((link, String::new()), |(file, to)| (file, format!("#{to}")));
    let name = file.strip_suffix(".md")?;
    let is_known = PAGES.iter().any(|(known, _)| *known == name);
    match name {
        "README" => Some(format!("/docs{anchor}").into()),
        _ => is_known.then(|| format!("/docs/{name}{anchor}").into()),
    }
}

/// The anchors of a document's headings, as they are where repositories are read in the browser.
#[derive(Default)]
struct Anchors {
    used: HashMap<String, usize>,
}

impl Anchors {
    /// Gives each heading its anchor.
    fn name(&mut self, events: &mut [Event<'_>]) {
        let mut at = 0;
        while at < events.len() {
            if matches!(events[at], Event::Start(Tag::Heading { .. })) {
                let rest = events[at..].iter().take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))));
                let text: String = rest.filter_map(said).collect();
                let anchor = self.anchor(&text);
                if let Event::Start(Tag::Heading { level, id, .. }) = &mut events[at] {
                    // The page has one heading of the first level.
                    *id = (*level != HeadingLevel::H1).then(|| anchor.into());
                }
            }
            at += 1;
        }
    }

    fn anchor(&mut self, heading: &str) -> String {
        let plain = heading.to_lowercase().replace(' ', "-");
        let plain: String = plain.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
        let before = self.used.entry(plain.clone()).or_insert(0);
        *before += 1;
        if *before == 1 { plain } else { format!("{plain}-{}", *before - 1) }
    }
}

fn said<'a>(event: &'a Event<'_>) -> Option<&'a str> {
    match event {
        Event::Text(text) | Event::Code(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_is_served_and_in_the_list() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(".md")?.to_owned())).collect();
        files.retain(|name| name != "README");
        files.sort();
        assert_eq!(files, PAGES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (name, _) in PAGES {
            assert!(INDEX.contains(&format!("({name}.md)")), "{name} is not in docs/README.md");
        }
    }

    #[test]
    fn markdown_becomes_html_and_html_stays_text() {
        let page = rendered(
            "# T\n\n## A `b` & c\n\n[x](budgets.md#y) [r](../README.md) <https://e.example>\n\n<script>alert(1)</script>\n\n\
             a <b>b</b>\n\n| h |\n|---|\n| c |\n\n```toml\nx = \"<y>\"\n```\n\n## A `b` & c\n",
        )
        .into_string();
        assert!(!page.contains("<script") && !page.contains("<b>") && page.contains("&lt;script&gt;"), "{page}");
        assert!(page.contains("<h2 id=\"a-b--c\">") && page.contains("<h2 id=\"a-b--c-1\">"), "{page}");
        assert!(page.contains("<a href=\"/docs/budgets#y\">x</a> r <a href=\"https://e.example\">"), "{page}");
        assert!(page.contains("<code>x = \"&lt;y&gt;\"\n</code></pre>"), "{page}");
        assert!(page.contains("role=\"region\" aria-label=\"Table\"><table>"), "{page}");
    }
}
