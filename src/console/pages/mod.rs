//! The dashboard and DevTools: pages made on the server, with one stylesheet and one small script.
//!
//! ```text
//! request ──> auth.rs: who? ──> visit.rs: of which organisation? ──> a page's file ──> layout.rs
//!              else /login                                          asks the ports     HTML
//! ```
//!
//! maud escapes whatever is put into a page; nothing here is ever marked as safe but charts, which are made of numbers, and the documents, which
//! are in the binary.

mod aliases;
mod answer;
mod ask;
mod assets;
mod budgets;
mod chart;
mod devtools;
mod docs;
mod form;
mod format;
mod gateway;
mod keys;
mod layout;
mod login;
mod loops;
mod models;
mod overview;
mod payload;
mod pool;
mod presets;
mod request;
mod requests;
mod routing;
mod said;
mod send;
mod sessions;
mod snippets;
mod stored;
mod stream;
mod usage;
mod vault;
mod visit;

use super::routes::Shared;
use axum::Router;
use axum::routing::{get, post};
use std::sync::Arc;

/// What anybody may ask for.
pub(super) fn open() -> Router<Arc<Shared>> {
    Router::new()
        .route("/assets/style.css", get(assets::style))
        .route("/assets/console.js", get(assets::script))
        .route("/assets/icon.svg", get(assets::icon))
        .route("/docs", get(docs::index))
        .route("/docs/{name}", get(docs::page))
        .route("/login", get(login::page).post(login::log_in))
}

/// The pages behind [`require_viewer_of_page`](super::auth::require_viewer_of_page).
pub(super) fn guarded() -> Router<Arc<Shared>> {
    Router::new()
        .route("/logout", post(login::log_out))
        .route("/overview", get(overview::page))
        .route("/overview/feed", get(stream::feed))
        .route("/devtools", get(devtools::page))
        .route("/devtools/events", get(stream::requests))
        .route("/requests", get(requests::page))
        .route("/requests/{id}", get(request::page))
        .route("/requests/{id}/replay", post(send::replay))
        .route("/requests/{id}/replay/stream", post(send::replay_stream))
        .route("/sessions", get(sessions::page))
        .route("/sessions/{id}", get(sessions::one))
        .route("/usage", get(usage::page))
        .route("/usage.csv", get(usage::csv))
        .route("/pool", get(pool::page))
        .route("/pool/enable", post(pool::enable))
        .route("/models", get(models::page))
        .route("/models/edit", get(aliases::edit).post(aliases::save))
        .route("/models/remove", post(aliases::remove))
        .route("/presets", get(presets::page))
        .route("/presets/edit", get(presets::edit).post(presets::save))
        .route("/presets/remove", post(presets::remove))
        .route("/routing", get(routing::page))
        .route("/routing/edit", get(routing::edit).post(routing::save))
        .route("/routing/remove", post(routing::remove))
        .route("/playground", get(send::playground).post(send::play))
        .route("/playground/stream", post(send::play_stream))
        .route("/keys", get(keys::page).post(keys::create))
        .route("/keys/{id}/{action}", post(keys::change))
        .route("/provider-keys", get(vault::page).post(vault::add))
        .route("/provider-keys/{id}/remove", post(vault::remove))
        .route("/budgets", get(budgets::page).post(budgets::set))
        .route("/budgets/{id}/remove", post(budgets::remove))
        .route("/credits", post(budgets::credit))
        .route("/audit", get(gateway::audit))
        .route("/settings", get(gateway::settings))
        .route("/settings/empty-cache", post(gateway::empty_cache))
}
