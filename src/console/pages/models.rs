//! Models: what can be asked for, with context, price, what they can do, what stands in for them, and how they are.

use super::format;
use super::layout::{self, badge, copyable, empty, heading, scrolling};
use super::visit::{Failure, Visit};
use crate::config::Snapshot;
use crate::console::query::{Asked, given};
use crate::console::roles::Operation;
use crate::console::routes::Shared;
use crate::domain::Money;
use crate::provider::{Capabilities, ModelRow, Status};
use crate::store::ports::live::TargetStatus;
use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use std::sync::Arc;

/// So many are shown.
const MOST: usize = 400;

pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(asked): Query<Asked>,
    Query(done): Query<super::stored::Asked>,
) -> Result<Response, Failure> {
    visit.viewer.may(Operation::SeeModels, None)?;
    let (news, names) = super::aliases::section(&shared, &visit, &done).await?;
    let snapshot = (shared.deps.snapshot)();
    let targets = shared.deps.backstage.targets();
    let text = given(&asked.q).unwrap_or_default().to_lowercase();
    let mut rows: Vec<(&str, &Arc<ModelRow>)> = Vec::new();
    for provider in &snapshot.providers {
        let listed =
            snapshot.catalog.models().iter().filter(|row| row.provider == provider.row.id && row.snapshot_of.is_none());
        let fits = |row: &&Arc<ModelRow>| {
            format!("{}/{} {}", provider.id, row.upstream, row.name).to_lowercase().contains(&text)
        };
        rows.extend(provider.models.iter().chain(listed).filter(fits).map(|row| (&*provider.id, row)));
    }
    let all = rows.len();
    rows.truncate(MOST);
    let body = html! {
        (heading("Models", "What the configured providers can be asked for.", html! {}))
        (news)
        form.filters method="get" action="/models" role="search" {
            div.field.wide { label for="f-q" { "Search" } input id="f-q" name="q" value=(given(&asked.q).unwrap_or_default()); }
            button.primary type="submit" { "Show" }
        }
        @if text.is_empty() { (names) }
        section.panel {
            @if rows.is_empty() && text.is_empty() {
                (empty("No provider yet", "Set a key, and its models are here:", copyable("first", "OPENAI_API_KEY=sk-\u{2026} orbyt serve")))
            } @else if rows.is_empty() { p.empty { "No model is called that." } }
            @else {
                (scrolling("Models", html! {
                    table {
                        thead { tr { th scope="col" { "Model" } th scope="col" { "Status" } th.num scope="col" { "Context" } th.num scope="col" { "Input /M" } th.num scope="col" { "Output /M" } th scope="col" { "Can" } th scope="col" { "Fallbacks" } } }
                        tbody { @for (provider, row) in &rows { (line(provider, row, &targets)) } }
                    }
                }))
                footer { span.muted { (rows.len()) " of " (all) " shown" } }
            }
        }
    };
    Ok(layout::page(&shared, &visit, "Models", body).await)
}

/// The models of the configured providers, as `provider/model`, to choose from.
pub(super) fn names(snapshot: &Snapshot) -> Vec<String> {
    let aliases = snapshot.aliases.iter().map(|alias| alias.name.to_string());
    aliases
        .chain(chat_models(snapshot).map(|(provider, row)| format!("{provider}/{}", row.upstream)))
        .take(500)
        .collect()
}

/// What can be talked to, provider by provider: those that the operator has listed first.
fn chat_models(snapshot: &Snapshot) -> impl Iterator<Item = (&str, &ModelRow)> {
    snapshot
        .providers
        .iter()
        .flat_map(|provider| {
            let all = snapshot.catalog.models().iter();
            let listed = all.filter(|row| row.provider == provider.row.id && row.snapshot_of.is_none());
            provider.models.iter().chain(listed).map(|row| (&*provider.id, &**row))
        })
        .filter(|(_, row)| row.class.converses())
}

fn line(provider: &str, row: &ModelRow, targets: &[TargetStatus]) -> Markup {
    let is_down =
        targets.iter().any(|it| *it.provider == *provider && it.model == row.upstream && it.breaker == "open");
    let (tone, status) = match (is_down, row.status) {
        (true, _) => ("bad", "down"),
        (false, Status::Live) => ("good", "live"),
        (false, status) => ("warn", status.name()),
    };
    let price = |price: Option<Money>| {
        price.map_or("\u{2013}".to_owned(), |price| format::money(Money::from_picos(price.picos() * 1_000_000)))
    };
    html! {
        tr {
            th scope="row" { (provider) "/" (row.upstream) br; small.muted { (row.name) } }
            td { (badge(tone, status)) }
            td.num { (row.context.map_or("\u{2013}".to_owned(), |tokens| format::short(tokens as f64))) }
            td.num { (price(row.prices.input)) }
            td.num { (price(row.prices.output)) }
            td { (abilities(row.capabilities)) }
            td { @if !row.fallbacks.is_empty() { (row.fallbacks.join(", ")) } }
        }
    }
}

fn abilities(can: Capabilities) -> Markup {
    let all = [
        (can.tools, "tools"),
        (can.vision, "vision"),
        (can.pdf, "pdf"),
        (can.audio_input, "audio"),
        (can.video_input, "video"),
        (can.reasoning, "reasoning"),
    ];
    html! { div.tags { @for (_, name) in all.iter().filter(|(has, _)| *has) { span.tag { (name) } } } }
}
